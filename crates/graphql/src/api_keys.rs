//! API keys in the schema.

use std::{collections::HashMap, sync::Arc};

use async_graphql::{Context, Description, ID, InputObject, Object, Result, dataloader::Loader};
use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Granted, PermissionSet, perm},
    api_keys::{
        ApiKeyStatus as DomainStatus, CreateApiKeyCode, RevokeApiKeyCode, RotateApiKeyCode,
        RotateDefaultApiKeyCode, overlap, permissions_of_key,
    },
    page::{Page, PageArgs},
    refusal::{FieldFault, InputReader},
    text::DisplayName,
};
use guildhall_persistence::{
    ReadError,
    api_keys::{self, ApiKey as Row, Keys, NewKey},
};
use secrecy::ExposeSecret;
use uuid::Uuid;

use crate::{
    access::Permission,
    accounts::User,
    authors::author,
    authz::{authorize, authorize_in, caller, db, grant},
    connection::{Window, connection},
    input,
    loaders::{self, Batches, Scoped},
    payload::{answer, payload},
    rehearsal::only_now,
    schema::mirror,
    service_accounts::{AccountKey, ServiceAccount},
    workspaces::Workspace,
};

mirror! {
    /// Whether an API key is good.
    enum ApiKeyStatus = DomainStatus {
        /// It is, as long as its workspace is in use.
        Active,
        /// It came to the end that it was given.
        Expired,
        /// Somebody ended it.
        Revoked,
    }
}

/// A key with which a machine asks this service, as `Authorization: Bearer ghk_…` over HTTP and in `connection_init` of a
/// socket. It is good in one workspace, for what it is limited to, and does not end with the person who made it. Seen with
/// `APIKEYS_MANAGE`.
#[derive(Description)]
pub struct ApiKey {
    proof: Granted<perm::ApiKeysManage>,
    row: Row,
}

impl ApiKey {
    pub(crate) fn new(proof: Granted<perm::ApiKeysManage>, row: Row) -> Self {
        Self { proof, row }
    }
}

#[Object(use_type_description)]
impl ApiKey {
    /// The key's global id. It is no secret.
    pub(crate) async fn id(&self) -> ID {
        self.row.id.into()
    }
    /// The name people read.
    async fn name(&self) -> &str {
        &self.row.name
    }
    /// How the secret begins: the first 12 characters.
    async fn prefix(&self) -> &str {
        &self.row.prefix
    }
    /// Whether it is good.
    async fn status(&self) -> ApiKeyStatus {
        self.row.status.into()
    }
    /// What it is limited to. The key of a service account gives of that only what the account's role holds.
    async fn permissions(&self) -> Vec<Permission> {
        self.row.permissions.iter().map(Permission).collect()
    }
    /// Whether it is the workspace's default key.
    async fn is_default(&self) -> bool {
        self.row.is_default
    }
    /// The workspace it is good in; null when you do not see that any more.
    async fn workspace(&self, ctx: &Context<'_>) -> Option<Result<Workspace>> {
        let found = loaders::load(ctx, (caller(ctx).actor?, self.row.workspace)).await;
        found.transpose().map(|standing| Workspace::new(standing?))
    }
    /// The service account it is of; null for a key of the workspace itself. Needs `SERVICEACCOUNTS_MANAGE`; null with a
    /// `FORBIDDEN` error without it.
    async fn service_account(&self, ctx: &Context<'_>) -> Option<Result<ServiceAccount>> {
        let account = self.row.account?;
        let load = async {
            let proof: Granted<perm::ServiceAccountsManage> = grant(self.proof.access())?;
            let key: AccountKey = Scoped { proof: proof.clone(), what: account };
            Ok(loaders::load(ctx, key).await?.map(|row| ServiceAccount::new(proof, row)))
        };
        load.await.transpose()
    }
    /// Who made it; null when a machine did, somebody who has left the organization, or somebody whom you may not see.
    async fn created_by(&self, ctx: &Context<'_>) -> Option<Result<User>> {
        author(ctx, self.proof.access(), self.row.created_by).await
    }
    /// When it was made.
    async fn created_at(&self) -> DateTime<Utc> {
        self.row.created_at
    }
    /// When it got its present secret; null while it has its first.
    async fn rotated_at(&self) -> Option<DateTime<Utc>> {
        self.row.rotated_at
    }
    /// How long the secret before the present one is good beside it; null: it is good no longer.
    async fn previous_valid_until(&self) -> Option<DateTime<Utc>> {
        self.row.previous_until
    }
    /// When it ends by itself; null: never.
    async fn expires_at(&self) -> Option<DateTime<Utc>> {
        self.row.expires_at
    }
    /// When somebody ended it; null: nobody did.
    async fn revoked_at(&self) -> Option<DateTime<Utc>> {
        self.row.revoked_at
    }
    /// When it was used last, to within a minute; null: never.
    async fn last_used_at(&self) -> Option<DateTime<Utc>> {
        self.row.last_used_at
    }
}

pub(crate) struct KeysList {
    keys: Keys,
    args: PageArgs<Uuid>,
}

impl KeysList {
    /// The list, as the arguments of the field ask for it.
    pub(crate) fn connection(keys: Keys, window: &Window) -> Result<ApiKeyConnection> {
        let args = window.read(ApiKeyConnection::LIST)?;
        Ok(ApiKeyConnection::new(Self { keys, args }))
    }

    async fn page(&self, ctx: &Context<'_>) -> Result<Page<ApiKey>> {
        let page = loaders::load(ctx, (self.keys.clone(), self.args.clone())).await?;
        let page = page.unwrap_or_else(|| Page::cut(&self.args, Vec::new()));
        Ok(page.map(|row| ApiKey::new(self.keys.proof.clone(), row)))
    }

    async fn total(&self, ctx: &Context<'_>) -> Result<u64> {
        Ok(loaders::load(ctx, self.keys.clone()).await?.unwrap_or(0))
    }
}

connection! {
    /// A list of API keys.
    ApiKeyConnection, ApiKeyEdge, ApiKey, KeysList, "API key", |key| key.row.id.uuid()
}

type PageKey = (Keys, PageArgs<Uuid>);

impl Loader<PageKey> for Batches {
    type Value = Page<Row>;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[PageKey]) -> Result<HashMap<PageKey, Page<Row>>, Self::Error> {
        Ok(keys.iter().cloned().zip(api_keys::pages(&self.0, keys).await?).collect())
    }
}

impl Loader<Keys> for Batches {
    type Value = u64;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[Keys]) -> Result<HashMap<Keys, u64>, Self::Error> {
        Ok(keys.iter().cloned().zip(api_keys::numbers(&self.0, keys).await?).collect())
    }
}

/// The default key of a workspace.
type DefaultKey = Scoped<perm::ApiKeysManage, ()>;

impl Loader<DefaultKey> for Batches {
    type Value = Row;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[DefaultKey]) -> Result<HashMap<DefaultKey, Row>, Self::Error> {
        let proofs: Vec<_> = keys.iter().map(|key| key.proof.clone()).collect();
        let rows = api_keys::defaults(&self.0, &proofs).await?;
        let mut rows: HashMap<_, _> = rows.into_iter().map(|row| (row.workspace, row)).collect();
        Ok(keys.iter().filter_map(|key| Some((key.clone(), rows.remove(&key.place())?))).collect())
    }
}

/// The workspace's default key.
pub(crate) async fn default_key(
    ctx: &Context<'_>,
    proof: Granted<perm::ApiKeysManage>,
) -> Result<Option<ApiKey>> {
    let key: DefaultKey = Scoped { proof: proof.clone(), what: () };
    Ok(loaders::load(ctx, key).await?.map(|row| ApiKey::new(proof, row)))
}

/// An API key to make.
#[derive(InputObject)]
pub struct CreateApiKeyInput {
    /// The workspace in which it is good.
    workspace_id: ID,
    /// The service account it is to be of; when absent, it is the workspace's own.
    service_account_id: Option<ID>,
    /// The name people read; 1 to 80 characters.
    name: String,
    /// What it is limited to: workspace permissions, of which you need to hold each yourself, and never
    /// `MEMBERS_INVITE`, `WORKSPACE_DELETE` or `CREDENTIAL_REVEAL`.
    /// `WORKSPACE_VIEW` is part of every key.
    permissions: Vec<Permission>,
    /// When it ends by itself. When absent, it lasts as long as the organization's policy lets keys last.
    expires_at: Option<DateTime<Utc>>,
}

payload! {
    /// The API key that was made.
    CreateApiKeyPayload, CreateApiKeyError = CreateApiKeyCode {
        /// The key.
        api_key: ApiKey,
        /// Its secret, shown this once. Only a hash of it is kept.
        secret: String,
    }
}

/// Which API key to give a new secret.
#[derive(InputObject)]
pub struct RotateApiKeyInput {
    /// The workspace.
    workspace_id: ID,
    /// The key.
    api_key_id: ID,
    /// How many minutes the secret that it has now stays good beside the new one; 0 to 10080, which is a week. When absent,
    /// it dies at once.
    overlap_minutes: Option<i32>,
}

payload! {
    /// The API key that has a new secret.
    RotateApiKeyPayload, RotateApiKeyError = RotateApiKeyCode {
        /// The key.
        api_key: ApiKey,
        /// Its new secret, shown this once.
        secret: String,
    }
}

/// Of which workspace to make the default API key anew.
#[derive(InputObject)]
pub struct RotateDefaultApiKeyInput {
    /// The workspace.
    workspace_id: ID,
}

payload! {
    /// The default API key that has a new secret.
    RotateDefaultApiKeyPayload, RotateDefaultApiKeyError = RotateDefaultApiKeyCode {
        /// The key.
        api_key: ApiKey,
        /// Its new secret, shown this once.
        secret: String,
    }
}

/// Which API key to end.
#[derive(InputObject)]
pub struct RevokeApiKeyInput {
    /// The workspace.
    workspace_id: ID,
    /// The key.
    api_key_id: ID,
}

payload! {
    /// The API key that was ended.
    RevokeApiKeyPayload, RevokeApiKeyError = RevokeApiKeyCode {
        /// The key.
        api_key: ApiKey,
    }
}

fn permissions(asked: &[Permission]) -> Result<PermissionSet, FieldFault> {
    permissions_of_key(&asked.iter().map(|permission| permission.0).collect::<Vec<_>>())
}

/// The API key part of the mutation root.
#[derive(Default)]
pub struct ApiKeyMutation;

#[Object]
impl ApiKeyMutation {
    /// Makes an API key of a workspace, or of one of its service accounts. Its secret is shown this once.
    #[graphql(directive = authorize::apply("APIKEYS_MANAGE".to_owned()))]
    async fn create_api_key(
        &self,
        ctx: &Context<'_>,
        input: CreateApiKeyInput,
    ) -> Result<CreateApiKeyPayload> {
        let proof = authorize_in(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let account = input.service_account_id.as_ref().map(input::id);
            let account = reader.optional("serviceAccountId", account);
            let name = reader.field("name", DisplayName::parse(&input.name));
            let permissions = reader.field("permissions", permissions(&input.permissions));
            let new = (|| {
                let (account, name, permissions) = (account?, name?, permissions?);
                Some(NewKey { account, name, permissions, expires_at: input.expires_at })
            })();
            api_keys::create(db(ctx), &proof, reader.all(new)?).await
        }
        .await;
        answer(ctx, outcome, |made| CreateApiKeyPayload {
            secret: only_now(ctx, made.secret.expose_secret().to_owned()),
            api_key: Some(ApiKey::new(proof, made.key)),
            user_errors: Vec::new(),
        })
    }

    /// Gives an API key a new secret, shown this once. The present one dies at once, or after the overlap; one before it, which
    /// an earlier overlap kept, dies at once.
    #[graphql(directive = authorize::apply("APIKEYS_MANAGE".to_owned()))]
    async fn rotate_api_key(
        &self,
        ctx: &Context<'_>,
        input: RotateApiKeyInput,
    ) -> Result<RotateApiKeyPayload> {
        let proof = authorize_in(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let id = reader.field("apiKeyId", input::id(&input.api_key_id));
            let overlap = reader.field("overlapMinutes", overlap(input.overlap_minutes));
            let (id, overlap) = reader.all(id.zip(overlap))?;
            api_keys::rotate(db(ctx), &proof, id, overlap).await
        }
        .await;
        answer(ctx, outcome, |made| RotateApiKeyPayload {
            secret: only_now(ctx, made.secret.expose_secret().to_owned()),
            api_key: Some(ApiKey::new(proof, made.key)),
            user_errors: Vec::new(),
        })
    }

    /// Gives the workspace's default API key a new secret, shown this once, and makes that key where there is none, for what a
    /// Viewer may do. The old secret dies at once.
    #[graphql(directive = authorize::apply("APIKEYS_MANAGE".to_owned()))]
    async fn rotate_default_api_key(
        &self,
        ctx: &Context<'_>,
        input: RotateDefaultApiKeyInput,
    ) -> Result<RotateDefaultApiKeyPayload> {
        let proof = authorize_in(ctx, &input.workspace_id).await?;
        let outcome = api_keys::rotate_default(db(ctx), &proof).await;
        answer(ctx, outcome, |made| RotateDefaultApiKeyPayload {
            secret: only_now(ctx, made.secret.expose_secret().to_owned()),
            api_key: Some(ApiKey::new(proof, made.key)),
            user_errors: Vec::new(),
        })
    }

    /// Ends an API key: from its next request on it is good for nothing, and subscriptions that it holds end. One that has
    /// ended before stays as it is.
    #[graphql(directive = authorize::apply("APIKEYS_MANAGE".to_owned()))]
    async fn revoke_api_key(
        &self,
        ctx: &Context<'_>,
        input: RevokeApiKeyInput,
    ) -> Result<RevokeApiKeyPayload> {
        let proof = authorize_in(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let id = reader.field("apiKeyId", input::id(&input.api_key_id));
            api_keys::revoke(db(ctx), &proof, reader.all(id)?).await
        }
        .await;
        answer(ctx, outcome, |key| RevokeApiKeyPayload {
            api_key: Some(ApiKey::new(proof, key)),
            user_errors: Vec::new(),
        })
    }
}
