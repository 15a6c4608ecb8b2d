//! Service accounts in the schema.

use std::{collections::HashMap, sync::Arc};

use async_graphql::{
    Context, Description, ID, InputObject, MaybeUndefined, Object, Result, dataloader::Loader,
};
use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Granted, perm},
    ids::ServiceAccountId,
    page::{Page, PageArgs},
    refusal::InputReader,
    service_accounts::{
        CreateServiceAccountCode, DeleteServiceAccountCode, RotateServiceAccountSecretCode,
        UpdateServiceAccountCode,
    },
    text::{DisplayName, Message},
};
use guildhall_persistence::{
    ReadError,
    api_keys::Keys,
    service_accounts::{self, Change, ServiceAccount as Row},
};
use secrecy::ExposeSecret;
use uuid::Uuid;

use crate::{
    access::Role,
    accounts::User,
    api_keys::{ApiKeyConnection, KeysList},
    authors::author,
    authz::{authorize, authorize_in, caller, db, grant},
    connection::{Window, connection},
    input,
    loaders::{self, Batches, Scoped},
    payload::{answer, payload},
    rehearsal::only_now,
    workspaces::Workspace,
};

/// A machine with a role in one workspace: a pipeline, a deployment, another service. It proves itself with its client id and
/// secret at `/oauth/token` (OAuth 2.0 client credentials), or with an API key of its own. Seen with `SERVICEACCOUNTS_MANAGE`.
#[derive(Description)]
pub struct ServiceAccount {
    proof: Granted<perm::ServiceAccountsManage>,
    row: Row,
}

impl ServiceAccount {
    pub(crate) fn new(proof: Granted<perm::ServiceAccountsManage>, row: Row) -> Self {
        Self { proof, row }
    }
}

#[Object(use_type_description)]
impl ServiceAccount {
    /// The service account's global id.
    pub(crate) async fn id(&self) -> ID {
        self.row.id.into()
    }
    /// The `client_id` of OAuth 2.0: the same as the id.
    async fn client_id(&self) -> String {
        self.row.id.to_string()
    }
    /// The name people read; no two of a workspace are the same.
    async fn name(&self) -> &str {
        &self.row.name
    }
    /// What it is for; empty when nobody said.
    async fn description(&self) -> &str {
        &self.row.description
    }
    /// Its role. Of a system role it has everything but what concerns members and API keys: those a machine has only by a
    /// custom role that names them. It never invites people, deletes the
    /// workspace or is shown secrets; it uses them.
    async fn role(&self) -> Role {
        Role(self.row.role.clone())
    }
    /// The workspace it works in; null when you do not see that any more.
    async fn workspace(&self, ctx: &Context<'_>) -> Option<Result<Workspace>> {
        let found = loaders::load(ctx, (caller(ctx).actor?, self.row.workspace)).await;
        found.transpose().map(|standing| Workspace::new(standing?))
    }
    /// How its secret begins: the first 12 characters.
    async fn secret_prefix(&self) -> &str {
        &self.row.secret_hint
    }
    /// When its secret was made.
    async fn secret_created_at(&self) -> DateTime<Utc> {
        self.row.secret_made_at
    }
    /// Who made it; null when a machine did, somebody who has left the organization, or somebody whom you may not see.
    async fn created_by(&self, ctx: &Context<'_>) -> Option<Result<User>> {
        author(ctx, self.proof.access(), self.row.created_by).await
    }
    /// When it was made.
    async fn created_at(&self) -> DateTime<Utc> {
        self.row.created_at
    }
    /// When its name, description or role changed last.
    async fn updated_at(&self) -> DateTime<Utc> {
        self.row.updated_at
    }
    /// When it was here last with an access token, to within a minute; null: never. Its API keys have times of their own.
    async fn last_used_at(&self) -> Option<DateTime<Utc>> {
        self.row.last_used_at
    }

    /// Its API keys, by age. Needs `APIKEYS_MANAGE`; null with a `FORBIDDEN` error without it.
    #[graphql(complexity = "crate::connection::cost(first, last, child_complexity)")]
    async fn api_keys(
        &self,
        #[graphql(desc = "Whether keys that were revoked or have expired are listed as well.", default)]
        include_ended: bool,
        #[graphql(
            desc = "How many items from the start, 1 to 100; 25 when neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many items from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Option<Result<ApiKeyConnection>> {
        let window = Window { first, after, last, before };
        Some(grant(self.proof.access()).and_then(|proof| {
            KeysList::connection(Keys { proof, account: Some(self.row.id), include_ended }, &window)
        }))
    }
}

pub(crate) struct ServiceAccounts {
    pub(crate) proof: Granted<perm::ServiceAccountsManage>,
    pub(crate) args: PageArgs<Uuid>,
}

impl ServiceAccounts {
    /// The list, as the arguments of the field ask for it.
    pub(crate) fn connection(
        proof: Granted<perm::ServiceAccountsManage>,
        window: &Window,
    ) -> Result<ServiceAccountConnection> {
        let args = window.read(ServiceAccountConnection::LIST)?;
        Ok(ServiceAccountConnection::new(Self { proof, args }))
    }

    async fn page(&self, ctx: &Context<'_>) -> Result<Page<ServiceAccount>> {
        let key = Scoped { proof: self.proof.clone(), what: self.args.clone() };
        let page = loaders::load(ctx, key).await?.unwrap_or_else(|| Page::cut(&self.args, Vec::new()));
        Ok(page.map(|row| ServiceAccount::new(self.proof.clone(), row)))
    }

    async fn total(&self, ctx: &Context<'_>) -> Result<u64> {
        let key = Scoped { proof: self.proof.clone(), what: () };
        Ok(loaders::load(ctx, key).await?.unwrap_or(0))
    }
}

connection! {
    /// A list of a workspace's service accounts.
    ServiceAccountConnection, ServiceAccountEdge, ServiceAccount, ServiceAccounts, "service account", |account| account.row.id.uuid()
}

type PageKey = Scoped<perm::ServiceAccountsManage, PageArgs<Uuid>>;

impl Loader<PageKey> for Batches {
    type Value = Page<Row>;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[PageKey]) -> Result<HashMap<PageKey, Page<Row>>, Self::Error> {
        let wanted: Vec<_> = keys.iter().map(|key| (key.proof.clone(), key.what.clone())).collect();
        Ok(keys.iter().cloned().zip(service_accounts::pages(&self.0, &wanted).await?).collect())
    }
}

type TotalKey = Scoped<perm::ServiceAccountsManage, ()>;

impl Loader<TotalKey> for Batches {
    type Value = u64;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[TotalKey]) -> Result<HashMap<TotalKey, u64>, Self::Error> {
        let wanted: Vec<_> = keys.iter().map(|key| key.proof.clone()).collect();
        Ok(keys.iter().cloned().zip(service_accounts::numbers(&self.0, &wanted).await?).collect())
    }
}

/// One of a workspace's service accounts.
pub(crate) type AccountKey = Scoped<perm::ServiceAccountsManage, ServiceAccountId>;

impl Loader<AccountKey> for Batches {
    type Value = Row;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[AccountKey]) -> Result<HashMap<AccountKey, Row>, Self::Error> {
        let wanted: Vec<_> = keys.iter().map(|key| (key.proof.clone(), key.what)).collect();
        let rows = service_accounts::by_ids(&self.0, &wanted).await?;
        let rows: HashMap<_, _> = rows.into_iter().map(|row| ((row.workspace, row.id), row)).collect();
        let found = |key: &AccountKey| rows.get(&(key.place(), key.what)).cloned();
        Ok(keys.iter().filter_map(|key| Some((key.clone(), found(key)?))).collect())
    }
}

/// A service account to make.
#[derive(InputObject)]
pub struct CreateServiceAccountInput {
    /// The workspace it works in.
    workspace_id: ID,
    /// The name people read; 1 to 80 characters, and no two of a workspace the same.
    name: String,
    /// What it is for; at most 500 characters.
    description: Option<String>,
    /// Its role: a role's id, or VIEWER, EDITOR or ADMIN. You need to hold what it gives yourself.
    role: ID,
}

payload! {
    /// The service account that was made.
    CreateServiceAccountPayload, CreateServiceAccountError = CreateServiceAccountCode {
        /// The service account.
        service_account: ServiceAccount,
        /// Its secret, shown this once: the `client_secret` of OAuth 2.0. Only a hash of it is kept.
        client_secret: String,
    }
}

/// What to change of a service account. Fields that are absent stay as they are.
#[derive(InputObject)]
pub struct UpdateServiceAccountInput {
    /// The workspace.
    workspace_id: ID,
    /// The service account.
    service_account_id: ID,
    /// The name people read; 1 to 80 characters.
    name: MaybeUndefined<String>,
    /// What it is for, at most 500 characters; null clears it.
    description: MaybeUndefined<String>,
    /// Its role: a role's id, or VIEWER, EDITOR or ADMIN.
    role: MaybeUndefined<ID>,
}

payload! {
    /// The service account that was changed.
    UpdateServiceAccountPayload, UpdateServiceAccountError = UpdateServiceAccountCode {
        /// The service account.
        service_account: ServiceAccount,
    }
}

/// Whose secret to make anew.
#[derive(InputObject)]
pub struct RotateServiceAccountSecretInput {
    /// The workspace.
    workspace_id: ID,
    /// The service account.
    service_account_id: ID,
}

payload! {
    /// The service account that has a new secret.
    RotateServiceAccountSecretPayload, RotateServiceAccountSecretError = RotateServiceAccountSecretCode {
        /// The service account.
        service_account: ServiceAccount,
        /// Its new secret, shown this once.
        client_secret: String,
    }
}

/// Which service account to delete.
#[derive(InputObject)]
pub struct DeleteServiceAccountInput {
    /// The workspace.
    workspace_id: ID,
    /// The service account.
    service_account_id: ID,
}

payload! {
    /// The service account that was deleted.
    DeleteServiceAccountPayload, DeleteServiceAccountError = DeleteServiceAccountCode {
        /// The id it had.
        deleted_service_account_id: ID,
    }
}

/// The service account part of the mutation root.
#[derive(Default)]
pub struct ServiceAccountMutation;

#[Object]
impl ServiceAccountMutation {
    /// Makes a service account with a role in the workspace, and a secret that is shown this once.
    #[graphql(directive = authorize::apply("SERVICEACCOUNTS_MANAGE".to_owned()))]
    async fn create_service_account(
        &self,
        ctx: &Context<'_>,
        input: CreateServiceAccountInput,
    ) -> Result<CreateServiceAccountPayload> {
        let proof = authorize_in(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let name = reader.field("name", DisplayName::parse(&input.name));
            let description = input.description.as_deref().map(Message::parse_optional);
            let description = reader.optional("description", description);
            let role = reader.field("role", input::role(&input.role));
            let new = (|| Some((name?, description?.flatten(), role?)))();
            let (name, description, role) = reader.all(new)?;
            service_accounts::create(db(ctx), &proof, name, description, role).await
        }
        .await;
        answer(ctx, outcome, |made| CreateServiceAccountPayload {
            client_secret: only_now(ctx, made.secret.expose_secret().to_owned()),
            service_account: Some(ServiceAccount::new(proof, made.account)),
            user_errors: Vec::new(),
        })
    }

    /// Changes a service account. Another role holds from its next request on, also for its API keys.
    #[graphql(directive = authorize::apply("SERVICEACCOUNTS_MANAGE".to_owned()))]
    async fn update_service_account(
        &self,
        ctx: &Context<'_>,
        input: UpdateServiceAccountInput,
    ) -> Result<UpdateServiceAccountPayload> {
        let proof = authorize_in(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let id = reader.field("serviceAccountId", input::id(&input.service_account_id));
            let name = input.name.as_opt_ref().map(|name| name.map(|name| DisplayName::parse(name)));
            let name = reader.kept("name", name);
            let description = match &input.description {
                MaybeUndefined::Undefined => None,
                MaybeUndefined::Null => Some(None),
                MaybeUndefined::Value(text) => reader.field("description", Message::parse_optional(text)),
            };
            let role = reader.kept("role", input.role.as_opt_ref().map(|role| role.map(input::role)));
            let id = reader.all(id)?;
            service_accounts::update(db(ctx), &proof, id, Change { name, description, role }).await
        }
        .await;
        answer(ctx, outcome, |account| UpdateServiceAccountPayload {
            service_account: Some(ServiceAccount::new(proof, account)),
            user_errors: Vec::new(),
        })
    }

    /// Makes a new secret for a service account, shown this once. The old one and the access tokens that were got with it are
    /// good no longer; API keys of the account are.
    #[graphql(directive = authorize::apply("SERVICEACCOUNTS_MANAGE".to_owned()))]
    async fn rotate_service_account_secret(
        &self,
        ctx: &Context<'_>,
        input: RotateServiceAccountSecretInput,
    ) -> Result<RotateServiceAccountSecretPayload> {
        let proof = authorize_in(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let id = reader.field("serviceAccountId", input::id(&input.service_account_id));
            service_accounts::rotate_secret(db(ctx), &proof, reader.all(id)?).await
        }
        .await;
        answer(ctx, outcome, |made| RotateServiceAccountSecretPayload {
            client_secret: only_now(ctx, made.secret.expose_secret().to_owned()),
            service_account: Some(ServiceAccount::new(proof, made.account)),
            user_errors: Vec::new(),
        })
    }

    /// Deletes a service account together with its API keys: from the next request on none of them is good for anything, and
    /// subscriptions that they hold end.
    #[graphql(directive = authorize::apply("SERVICEACCOUNTS_MANAGE".to_owned()))]
    async fn delete_service_account(
        &self,
        ctx: &Context<'_>,
        input: DeleteServiceAccountInput,
    ) -> Result<DeleteServiceAccountPayload> {
        let proof = authorize_in(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let id = reader.field("serviceAccountId", input::id(&input.service_account_id));
            service_accounts::delete(db(ctx), &proof, reader.all(id)?).await
        }
        .await;
        answer(ctx, outcome, |account| DeleteServiceAccountPayload {
            deleted_service_account_id: Some(account.id.into()),
            user_errors: Vec::new(),
        })
    }
}
