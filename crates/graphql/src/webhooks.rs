//! Webhooks in the schema, and the seam to whoever knows where this instance may send something.

use std::{collections::HashMap, sync::Arc};

use async_graphql::{
    Context, Description, ID, InputObject, MaybeUndefined, Object, Result, dataloader::Loader,
};
use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Granted, Permission, perm},
    ids::WebhookId,
    page::{Page, PageArgs},
    refusal::{FieldFault, InputReader, Refusal},
    text::DisplayName,
    webhooks::{
        CreateWebhookCode, DeleteWebhookCode, ReplayWebhookDeliveryCode, RotateWebhookSecretCode,
        SendTestWebhookCode, UpdateWebhookCode, WebhookDeliveryState as DomainState,
        WebhookDisabledReason as DomainReason, WebhookEvent as DomainEvent, WebhookStatus as DomainStatus,
        WebhookUrl, read_events,
    },
};
use guildhall_persistence::{
    ReadError,
    webhooks::{self, Change, Deliveries, Delivery as DeliveryRow, NewWebhook, Webhook as Row},
};
use secrecy::ExposeSecret;
use uuid::Uuid;

use crate::{
    accounts::User,
    authors::author,
    authz::{authorize, authorize_in, caller, db},
    config::Json,
    connection::{Window, connection},
    input,
    loaders::{self, Batches, Scoped},
    payload::{answer, payload},
    rehearsal::only_now,
    schema::mirror,
    workspaces::Workspace,
};

/// Knows where this instance may send something on a user's word. Part of the schema's data, as
/// `Arc<dyn WebhookDestinations>`.
pub trait WebhookDestinations: Send + Sync {
    /// Says why nothing is sent there, phrased to follow the field's name, as far as the address itself tells. A name is
    /// looked up when something is sent.
    fn refusal(&self, url: &WebhookUrl) -> Option<&'static str>;
}

mirror! {
    /// What a webhook is told: the same as the subscription of nearly the same name tells. One may be chosen by whoever holds
    /// what that subscription needs.
    enum WebhookEvent = DomainEvent {
        /// `invitation.status_changed`: an invitation of the workspace was made, delivered, answered, revoked or sent again.
        /// `data` has `workspaceId`, `invitationId` and `status`. Needs `INVITATIONS_VIEW`.
        InvitationStatusChanged,
        /// `credential.changed`: a credential that the workspace owns or borrows changed. `data` has `workspaceId`,
        /// `credentialId` and `change`. Needs `CREDENTIAL_LIST`.
        CredentialChanged,
        /// `workspace.changed`: settings, home page or configuration changed, or the workspace was archived or restored.
        /// `data` has `workspaceId` and `change`.
        WorkspaceChanged,
        /// `audit_log.changed`: an entry was added to the audit log of the workspace. `data` has `workspaceId`,
        /// `auditEventId`, `place`, `action`, `actor` and `object`, both with `kind` and `id`. Needs `AUDIT_VIEW`.
        AuditLogChanged,
        /// `quota.warning`: nine tenths of a quota of the workspace or its organization are used. `data` has `workspaceId`,
        /// `metric` and `scope`. Needs `QUOTA_VIEW`.
        QuotaWarning,
    }
}

mirror! {
    /// Whether a webhook is told anything.
    enum WebhookStatus = DomainStatus {
        /// It is.
        Active,
        /// Somebody paused it. What happens meanwhile is never told; what was waiting is sent when it is enabled again.
        Paused,
        /// The service stopped it, for the reason in `disabledReason`. Otherwise like `PAUSED`.
        Disabled,
    }
}

mirror! {
    /// Why the service stopped a webhook.
    enum WebhookDisabledReason = DomainReason {
        /// The receiver answered `410 Gone`.
        Gone,
        /// For five days nothing that was sent was answered with a 2xx status.
        Failing,
    }
}

mirror! {
    /// Where a delivery stands.
    enum WebhookDeliveryState = DomainState {
        /// It waits for its first try or for the next one.
        Pending,
        /// The receiver answered with a 2xx status.
        Delivered,
        /// It was tried ten times within about three days, or the receiver is gone. It can be replayed.
        Failed,
    }
}

/// An address at which events of a workspace are told to another service, by signed requests as
/// [Standard Webhooks](https://www.standardwebhooks.com) describes them. Seen with `INTEGRATION_MANAGE`.
#[derive(Description)]
pub struct Webhook {
    proof: Granted<perm::IntegrationManage>,
    row: Row,
}

impl Webhook {
    pub(crate) fn new(proof: Granted<perm::IntegrationManage>, row: Row) -> Self {
        Self { proof, row }
    }
}

#[Object(use_type_description)]
impl Webhook {
    /// The webhook's global id.
    pub(crate) async fn id(&self) -> ID {
        self.row.id.into()
    }
    /// The name people read.
    async fn name(&self) -> &str {
        &self.row.name
    }
    /// Where requests go: `POST`, with the payload as JSON.
    async fn url(&self) -> &str {
        &self.row.url
    }
    /// What it is told.
    async fn events(&self) -> Vec<WebhookEvent> {
        self.row.events.iter().map(|event| (*event).into()).collect()
    }
    /// Whether it is told anything.
    async fn status(&self) -> WebhookStatus {
        self.row.status.into()
    }
    /// Why the service stopped it; null when it did not.
    async fn disabled_reason(&self) -> Option<WebhookDisabledReason> {
        self.row.disabled_reason.map(Into::into)
    }
    /// When the service stopped it; null when it did not.
    async fn disabled_at(&self) -> Option<DateTime<Utc>> {
        self.row.disabled_at
    }
    /// When the first try failed that none succeeded after; null while the last one succeeded. After five days the webhook is
    /// disabled.
    async fn failing_since(&self) -> Option<DateTime<Utc>> {
        self.row.failing_since
    }
    /// When its secret was made. The secret itself is shown only then.
    async fn secret_created_at(&self) -> DateTime<Utc> {
        self.row.secret_made_at
    }
    /// Until when requests are also signed with the secret before that one; null when it was never rotated.
    async fn previous_secret_expires_at(&self) -> Option<DateTime<Utc>> {
        self.row.previous_until
    }
    /// The workspace whose events it is told; null when you do not see that any more.
    async fn workspace(&self, ctx: &Context<'_>) -> Option<Result<Workspace>> {
        let found = loaders::load(ctx, (caller(ctx).actor?, self.row.workspace)).await;
        found.transpose().map(|standing| Workspace::new(standing?))
    }
    /// Who made it; null when a machine did, somebody who has left the organization, or somebody whom you may not see.
    async fn created_by(&self, ctx: &Context<'_>) -> Option<Result<User>> {
        author(ctx, self.proof.access(), self.row.created_by).await
    }
    /// When it was made.
    async fn created_at(&self) -> DateTime<Utc> {
        self.row.created_at
    }
    /// When its name, address, events or status changed last by somebody's hand.
    async fn updated_at(&self) -> DateTime<Utc> {
        self.row.updated_at
    }

    /// What was sent and what waits, the newest first. Kept for 30 days.
    #[graphql(complexity = "crate::connection::cost(first, last, child_complexity)")]
    async fn deliveries(
        &self,
        #[graphql(desc = "Only those in one of these states.")] state: Option<Vec<WebhookDeliveryState>>,
        #[graphql(
            desc = "How many items from the start, 1 to 100; 25 when neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many items from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Result<WebhookDeliveryConnection> {
        let args = Window { first, after, last, before }.read(WebhookDeliveryConnection::LIST)?;
        // Each once: a list of any length would make a statement of any length.
        let mut states: Vec<DomainState> = state.unwrap_or_default().into_iter().map(Into::into).collect();
        states.sort();
        states.dedup();
        let list = Deliveries {
            proof: self.proof.clone(),
            webhook: self.row.id,
            states: (!states.is_empty()).then_some(states),
        };
        Ok(WebhookDeliveryConnection::new(DeliveriesList { list, args }))
    }
}

/// A message to a webhook: the same, under the same id, at every try and when it is replayed. Seen with `INTEGRATION_MANAGE`.
#[derive(Description)]
pub struct WebhookDelivery {
    proof: Granted<perm::IntegrationManage>,
    row: DeliveryRow,
}

impl WebhookDelivery {
    pub(crate) fn new(proof: Granted<perm::IntegrationManage>, row: DeliveryRow) -> Self {
        Self { proof, row }
    }
}

#[Object(use_type_description)]
impl WebhookDelivery {
    /// The delivery's global id, which the receiver gets as the header `webhook-id`.
    pub(crate) async fn id(&self) -> ID {
        self.row.id.into()
    }
    /// The `type` of the payload, such as `invitation.status_changed`; `ping` for a test.
    async fn event_type(&self) -> &str {
        &self.row.kind
    }
    /// What is sent. Null for whoever lacks what watching such an event needs.
    async fn payload(&self) -> Option<Json> {
        let needs =
            DomainEvent::from_word(&self.row.kind).map_or(Permission::WorkspaceView, DomainEvent::needs);
        let payload = serde_json::from_str(&self.row.payload).ok().map(Json::of);
        payload.filter(|_| self.proof.access().permissions().holds(needs))
    }
    /// Where it stands.
    async fn state(&self) -> WebhookDeliveryState {
        self.row.state.into()
    }
    /// How often it was tried.
    async fn attempts(&self) -> u32 {
        self.row.attempts
    }
    /// When it is tried next, if the webhook is active then; null once it is delivered or has failed.
    async fn next_attempt_at(&self) -> Option<DateTime<Utc>> {
        self.row.due_at
    }
    /// When it was tried last; null: never.
    async fn last_attempt_at(&self) -> Option<DateTime<Utc>> {
        self.row.tried_at
    }
    /// When it was accepted; null while it is not.
    async fn delivered_at(&self) -> Option<DateTime<Utc>> {
        self.row.delivered_at
    }
    /// The HTTP status of the last answer; null when the last try got none.
    async fn response_status(&self) -> Option<u16> {
        self.row.response_status
    }
    /// The first 300 characters of the last answer's body; null when the last try got none.
    async fn response_body(&self) -> Option<&str> {
        self.row.response_body.as_deref()
    }
    /// Why the last try got no answer, in a sentence; null when it got one.
    async fn error(&self) -> Option<&str> {
        self.row.fault.as_deref()
    }
    /// When it was queued.
    async fn created_at(&self) -> DateTime<Utc> {
        self.row.created_at
    }
    /// The webhook; null when it is gone.
    async fn webhook(&self, ctx: &Context<'_>) -> Option<Result<Webhook>> {
        let key: WebhookKey = Scoped { proof: self.proof.clone(), what: self.row.webhook };
        let found = loaders::load(ctx, key).await.transpose()?;
        Some(found.map(|row| Webhook::new(self.proof.clone(), row)))
    }
}

pub(crate) struct Webhooks {
    pub(crate) proof: Granted<perm::IntegrationManage>,
    pub(crate) args: PageArgs<Uuid>,
}

impl Webhooks {
    /// The list, as the arguments of the field ask for it.
    pub(crate) fn connection(
        proof: Granted<perm::IntegrationManage>,
        window: &Window,
    ) -> Result<WebhookConnection> {
        let args = window.read(WebhookConnection::LIST)?;
        Ok(WebhookConnection::new(Self { proof, args }))
    }

    async fn page(&self, ctx: &Context<'_>) -> Result<Page<Webhook>> {
        let key = Scoped { proof: self.proof.clone(), what: self.args.clone() };
        let page = loaders::load(ctx, key).await?.unwrap_or_else(|| Page::cut(&self.args, Vec::new()));
        Ok(page.map(|row| Webhook::new(self.proof.clone(), row)))
    }

    async fn total(&self, ctx: &Context<'_>) -> Result<u64> {
        let key = Scoped { proof: self.proof.clone(), what: () };
        Ok(loaders::load(ctx, key).await?.unwrap_or(0))
    }
}

connection! {
    /// A list of a workspace's webhooks, by age.
    WebhookConnection, WebhookEdge, Webhook, Webhooks, "webhook", |webhook| webhook.row.id.uuid()
}

pub(crate) struct DeliveriesList {
    list: Deliveries,
    args: PageArgs<Uuid>,
}

impl DeliveriesList {
    async fn page(&self, ctx: &Context<'_>) -> Result<Page<WebhookDelivery>> {
        let page = loaders::load(ctx, (self.list.clone(), self.args.clone())).await?;
        let page = page.unwrap_or_else(|| Page::cut(&self.args, Vec::new()));
        Ok(page.map(|row| WebhookDelivery::new(self.list.proof.clone(), row)))
    }

    async fn total(&self, ctx: &Context<'_>) -> Result<u64> {
        Ok(loaders::load(ctx, self.list.clone()).await?.unwrap_or(0))
    }
}

connection! {
    /// A list of a webhook's deliveries, the newest first.
    WebhookDeliveryConnection, WebhookDeliveryEdge, WebhookDelivery, DeliveriesList, "webhook delivery", |delivery| delivery.row.id.uuid()
}

type PageKey = Scoped<perm::IntegrationManage, PageArgs<Uuid>>;

impl Loader<PageKey> for Batches {
    type Value = Page<Row>;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[PageKey]) -> Result<HashMap<PageKey, Page<Row>>, Self::Error> {
        let wanted: Vec<_> = keys.iter().map(|key| (key.proof.clone(), key.what.clone())).collect();
        Ok(keys.iter().cloned().zip(webhooks::pages(&self.0, &wanted).await?).collect())
    }
}

type TotalKey = Scoped<perm::IntegrationManage, ()>;

impl Loader<TotalKey> for Batches {
    type Value = u64;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[TotalKey]) -> Result<HashMap<TotalKey, u64>, Self::Error> {
        let wanted: Vec<_> = keys.iter().map(|key| key.proof.clone()).collect();
        Ok(keys.iter().cloned().zip(webhooks::numbers(&self.0, &wanted).await?).collect())
    }
}

/// One of a workspace's webhooks.
pub(crate) type WebhookKey = Scoped<perm::IntegrationManage, WebhookId>;

impl Loader<WebhookKey> for Batches {
    type Value = Row;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[WebhookKey]) -> Result<HashMap<WebhookKey, Row>, Self::Error> {
        let wanted: Vec<_> = keys.iter().map(|key| (key.proof.clone(), key.what)).collect();
        let rows = webhooks::by_ids(&self.0, &wanted).await?;
        let rows: HashMap<_, _> = rows.into_iter().map(|row| ((row.workspace, row.id), row)).collect();
        let found = |key: &WebhookKey| rows.get(&(key.place(), key.what)).cloned();
        Ok(keys.iter().filter_map(|key| Some((key.clone(), found(key)?))).collect())
    }
}

type DeliveriesKey = (Deliveries, PageArgs<Uuid>);

impl Loader<DeliveriesKey> for Batches {
    type Value = Page<DeliveryRow>;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[DeliveriesKey]) -> Result<HashMap<DeliveriesKey, Self::Value>, Self::Error> {
        Ok(keys.iter().cloned().zip(webhooks::delivery_pages(&self.0, keys).await?).collect())
    }
}

impl Loader<Deliveries> for Batches {
    type Value = u64;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[Deliveries]) -> Result<HashMap<Deliveries, u64>, Self::Error> {
        Ok(keys.iter().cloned().zip(webhooks::delivery_numbers(&self.0, keys).await?).collect())
    }
}

/// A webhook to make.
#[derive(InputObject)]
pub struct CreateWebhookInput {
    /// The workspace whose events it is told.
    workspace_id: ID,
    /// The name people read; 1 to 80 characters.
    name: String,
    /// Where requests go: an `https` address of at most 2000 bytes, without a user name, password or fragment. `http` and
    /// private networks are for destinations that the operator allows.
    url: String,
    /// What it is told; at least one.
    events: Vec<WebhookEvent>,
    /// Whether it is told anything from now on.
    #[graphql(default = true)]
    is_enabled: bool,
}

payload! {
    /// The webhook that was made.
    CreateWebhookPayload, CreateWebhookError = CreateWebhookCode {
        /// The webhook.
        webhook: Webhook,
        /// The secret that its requests are signed with, shown this once: `whsec_` and 32 bytes in base64.
        secret: String,
    }
}

/// What to change of a webhook. Fields that are absent stay as they are.
#[derive(InputObject)]
pub struct UpdateWebhookInput {
    /// The workspace.
    workspace_id: ID,
    /// The webhook.
    webhook_id: ID,
    /// The name people read; 1 to 80 characters.
    name: MaybeUndefined<String>,
    /// Where requests go. What waits goes there as well.
    url: MaybeUndefined<String>,
    /// What it is told; at least one.
    events: MaybeUndefined<Vec<WebhookEvent>>,
    /// False pauses it, true lets it go on, also after the service stopped it.
    is_enabled: MaybeUndefined<bool>,
}

payload! {
    /// The webhook that was changed.
    UpdateWebhookPayload, UpdateWebhookError = UpdateWebhookCode {
        /// The webhook.
        webhook: Webhook,
    }
}

/// Whose secret to make anew.
#[derive(InputObject)]
pub struct RotateWebhookSecretInput {
    /// The workspace.
    workspace_id: ID,
    /// The webhook.
    webhook_id: ID,
}

payload! {
    /// The webhook that has a new secret.
    RotateWebhookSecretPayload, RotateWebhookSecretError = RotateWebhookSecretCode {
        /// The webhook.
        webhook: Webhook,
        /// Its new secret, shown this once.
        secret: String,
    }
}

/// Which webhook to delete.
#[derive(InputObject)]
pub struct DeleteWebhookInput {
    /// The workspace.
    workspace_id: ID,
    /// The webhook.
    webhook_id: ID,
}

payload! {
    /// The webhook that was deleted.
    DeleteWebhookPayload, DeleteWebhookError = DeleteWebhookCode {
        /// The id it had.
        deleted_webhook_id: ID,
    }
}

/// Which delivery to send again.
#[derive(InputObject)]
pub struct ReplayWebhookDeliveryInput {
    /// The workspace.
    workspace_id: ID,
    /// The delivery.
    delivery_id: ID,
}

payload! {
    /// The delivery that is sent again.
    ReplayWebhookDeliveryPayload, ReplayWebhookDeliveryError = ReplayWebhookDeliveryCode {
        /// The delivery, waiting.
        delivery: WebhookDelivery,
    }
}

/// Which webhook to try.
#[derive(InputObject)]
pub struct SendTestWebhookInput {
    /// The workspace.
    workspace_id: ID,
    /// The webhook.
    webhook_id: ID,
}

payload! {
    /// The test that is sent.
    SendTestWebhookPayload, SendTestWebhookError = SendTestWebhookCode {
        /// The delivery, waiting: ask for it by its id to see what came of it.
        delivery: WebhookDelivery,
    }
}

fn judge_destination<C>(ctx: &Context<'_>, url: &WebhookUrl, code: C) -> Result<(), Refusal<C>> {
    match ctx.data_unchecked::<Arc<dyn WebhookDestinations>>().refusal(url) {
        None => Ok(()),
        Some(why) => Err(Refusal::new(code, format!("`url` {why}")).at("url")),
    }
}

fn events(events: &[WebhookEvent]) -> Result<Vec<DomainEvent>, FieldFault> {
    read_events(events.iter().map(|event| (*event).into()).collect())
}

/// The webhook part of the mutation root.
#[derive(Default)]
pub struct WebhookMutation;

#[Object]
impl WebhookMutation {
    /// Makes a webhook, with a secret that is shown this once. It is told what happens from now on, each event at least once:
    /// a receiver knows one that it has by its `webhook-id`.
    #[graphql(directive = authorize::apply("INTEGRATION_MANAGE".to_owned()))]
    async fn create_webhook(
        &self,
        ctx: &Context<'_>,
        input: CreateWebhookInput,
    ) -> Result<CreateWebhookPayload> {
        let proof = authorize_in(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let name = reader.field("name", DisplayName::parse(&input.name));
            let url = reader.field("url", WebhookUrl::parse(&input.url));
            let events = reader.field("events", events(&input.events));
            let new = (|| {
                Some(NewWebhook { name: name?, url: url?, events: events?, is_enabled: input.is_enabled })
            })();
            let new = reader.all(new)?;
            judge_destination(ctx, &new.url, CreateWebhookCode::DestinationRefused)?;
            webhooks::create(db(ctx), &proof, new).await
        }
        .await;
        answer(ctx, outcome, |made| CreateWebhookPayload {
            secret: only_now(ctx, made.secret.expose_secret().to_owned()),
            webhook: Some(Webhook::new(proof, made.webhook)),
            user_errors: Vec::new(),
        })
    }

    /// Changes a webhook, pauses it or lets it go on. When it goes on it is told what happens from then on, and what was
    /// waiting is sent.
    #[graphql(directive = authorize::apply("INTEGRATION_MANAGE".to_owned()))]
    async fn update_webhook(
        &self,
        ctx: &Context<'_>,
        input: UpdateWebhookInput,
    ) -> Result<UpdateWebhookPayload> {
        let proof = authorize_in(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let id = reader.field("webhookId", input::id(&input.webhook_id));
            let name = input.name.as_opt_ref().map(|name| name.map(|name| DisplayName::parse(name)));
            let name = reader.kept("name", name);
            let url =
                reader.kept("url", input.url.as_opt_ref().map(|url| url.map(|url| WebhookUrl::parse(url))));
            let events = input.events.as_opt_ref().map(|given| given.map(|given| events(given)));
            let events = reader.kept("events", events);
            let is_enabled =
                input.is_enabled.as_opt_ref().map(|given| given.map(|given| Ok::<_, FieldFault>(*given)));
            let is_enabled = reader.kept("isEnabled", is_enabled);
            let id = reader.all(id)?;
            if let Some(url) = &url {
                judge_destination(ctx, url, UpdateWebhookCode::DestinationRefused)?;
            }
            webhooks::update(db(ctx), &proof, id, Change { name, url, events, is_enabled }).await
        }
        .await;
        answer(ctx, outcome, |webhook| UpdateWebhookPayload {
            webhook: Some(Webhook::new(proof, webhook)),
            user_errors: Vec::new(),
        })
    }

    /// Makes a new secret for a webhook, shown this once. For 24 hours each request has a signature by the old one as well.
    #[graphql(directive = authorize::apply("INTEGRATION_MANAGE".to_owned()))]
    async fn rotate_webhook_secret(
        &self,
        ctx: &Context<'_>,
        input: RotateWebhookSecretInput,
    ) -> Result<RotateWebhookSecretPayload> {
        let proof = authorize_in(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let id = reader.field("webhookId", input::id(&input.webhook_id));
            webhooks::rotate_secret(db(ctx), &proof, reader.all(id)?).await
        }
        .await;
        answer(ctx, outcome, |made| RotateWebhookSecretPayload {
            secret: only_now(ctx, made.secret.expose_secret().to_owned()),
            webhook: Some(Webhook::new(proof, made.webhook)),
            user_errors: Vec::new(),
        })
    }

    /// Deletes a webhook together with its deliveries: what waits is not sent any more.
    #[graphql(directive = authorize::apply("INTEGRATION_MANAGE".to_owned()))]
    async fn delete_webhook(
        &self,
        ctx: &Context<'_>,
        input: DeleteWebhookInput,
    ) -> Result<DeleteWebhookPayload> {
        let proof = authorize_in(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let id = reader.field("webhookId", input::id(&input.webhook_id));
            webhooks::delete(db(ctx), &proof, reader.all(id)?).await
        }
        .await;
        answer(ctx, outcome, |webhook| DeleteWebhookPayload {
            deleted_webhook_id: Some(webhook.id.into()),
            user_errors: Vec::new(),
        })
    }

    /// Sends a delivery again, with the same payload under the same id, whatever became of it: its ten tries begin anew. One
    /// that is waiting is tried at once.
    #[graphql(directive = authorize::apply("INTEGRATION_MANAGE".to_owned()))]
    async fn replay_webhook_delivery(
        &self,
        ctx: &Context<'_>,
        input: ReplayWebhookDeliveryInput,
    ) -> Result<ReplayWebhookDeliveryPayload> {
        let proof = authorize_in(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let id = reader.field("deliveryId", input::id(&input.delivery_id));
            webhooks::replay(db(ctx), &proof, reader.all(id)?).await
        }
        .await;
        answer(ctx, outcome, |delivery| ReplayWebhookDeliveryPayload {
            delivery: Some(WebhookDelivery::new(proof, delivery)),
            user_errors: Vec::new(),
        })
    }

    /// Tries a webhook: sends a message of the type `ping`, whose `data` has `workspaceId` and `webhookId`.
    #[graphql(directive = authorize::apply("INTEGRATION_MANAGE".to_owned()))]
    async fn send_test_webhook(
        &self,
        ctx: &Context<'_>,
        input: SendTestWebhookInput,
    ) -> Result<SendTestWebhookPayload> {
        let proof = authorize_in(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let id = reader.field("webhookId", input::id(&input.webhook_id));
            webhooks::send_test(db(ctx), &proof, reader.all(id)?).await
        }
        .await;
        answer(ctx, outcome, |delivery| SendTestWebhookPayload {
            delivery: Some(WebhookDelivery::new(proof, delivery)),
            user_errors: Vec::new(),
        })
    }
}
