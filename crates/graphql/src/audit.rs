//! The audit log in the schema: pages of it for those who may read it, and what is added to it as it is.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_graphql::{
    Context, Description, ID, InputObject, Object, Result, SimpleObject, Subscription, dataloader::Loader,
};
use async_stream::stream;
use chrono::{DateTime, Utc};
use futures_util::Stream;
use guildhall_domain::{
    access::{Actor, OrganizationAccess, WorkspaceAccess, perm},
    audit::{Action, ActorKind as DomainActorKind, ObjectKind},
    ids::{AuditEventId, OrganizationId, WorkspaceId},
    page::{Page, PageArgs},
};
use guildhall_persistence::{
    Db, ReadError, Which,
    audit::{self, AuditFilter, Log, Scope},
    events::Topic,
};
use uuid::Uuid;

use crate::{
    authz::{authorize, authorize_in, authorize_in_organization, db},
    config::Json,
    connection::{Window, connection},
    error, input,
    live::{NOW, cursor, read_cursor},
    loaders::{self, Batches},
    schema::mirror,
};

mirror! {
    /// What kind of actor did something.
    enum AuditActorKind = DomainActorKind {
        /// A person.
        Person,
        /// A service account of a workspace.
        ServiceAccount,
        /// An API key.
        ApiKey,
        /// Whoever runs the instance, on its command line.
        Operator,
        /// The service itself.
        System,
    }
}

mirror! {
    /// What kind of thing something was done to.
    enum AuditObjectKind = ObjectKind {
        /// An organization.
        Organization,
        /// Somebody's place in the organization; the id is the person's.
        OrganizationMember,
        /// A transfer of the organization's ownership.
        OwnershipTransfer,
        /// A role.
        Role,
        /// A workspace.
        Workspace,
        /// A workspace's home page; the id is the workspace's.
        HomePage,
        /// One configuration property; the id is its key.
        ConfigProperty,
        /// Several configuration properties; the id is the workspace's.
        ConfigProperties,
        /// Somebody's membership of a workspace.
        Membership,
        /// An invitation.
        Invitation,
        /// A credential.
        Credential,
        /// The loan of a credential.
        CredentialShare,
        /// A service account.
        ServiceAccount,
        /// An API key.
        ApiKey,
        /// A webhook.
        Webhook,
        /// A person's account.
        User,
        /// An organization's identity provider; the id is the organization's.
        IdentityProvider,
        /// A domain of an organization; the id is the domain.
        Domain,
    }
}

/// Who did something, by the name they had then.
#[derive(SimpleObject)]
pub struct AuditActor {
    /// What kind of actor; null for a kind that only a newer version of the service knows.
    kind: Option<AuditActorKind>,
    /// The actor's global id; null where there is none: for an operator, the service itself, and somebody without an account,
    /// who is named by the e-mail address that an invitation went to.
    id: Option<ID>,
    /// The name at the time.
    name: String,
}

/// What something was done to, by the name it had then. It may be gone.
#[derive(SimpleObject)]
pub struct AuditObject {
    /// What kind of thing; null for a kind that only a newer version of the service knows.
    kind: Option<AuditObjectKind>,
    /// Its global id, or its key where it has no id.
    id: ID,
    /// The name at the time.
    name: String,
}

/// An entry of the audit log: something that was done. Entries are written with the change, never change, and outlive what they
/// are about. Seen with `ORGANIZATION_MANAGE` in the organization, and with `AUDIT_VIEW` in the workspace that it was done in.
#[derive(Description, Clone)]
pub struct AuditEvent(audit::AuditEvent);

#[Object(use_type_description)]
impl AuditEvent {
    /// The entry's id.
    async fn id(&self) -> ID {
        AuditEventId::from(self.0.id).into()
    }
    /// When it was done.
    async fn at(&self) -> DateTime<Utc> {
        self.0.created_at
    }
    /// Who did it.
    async fn actor(&self) -> AuditActor {
        AuditActor {
            kind: DomainActorKind::from_word(&self.0.actor_kind).map(Into::into),
            id: self.0.actor_id.clone().map(Into::into),
            name: self.0.actor_name.clone(),
        }
    }
    /// What was done: the name of the mutation, or an operator's command such as `admin reset-password`, or `disableWebhook`,
    /// which the service does itself.
    async fn action(&self) -> &str {
        &self.0.action
    }
    /// To what.
    async fn object(&self) -> AuditObject {
        AuditObject {
            kind: ObjectKind::from_word(&self.0.object_kind).map(Into::into),
            id: self.0.object_id.as_str().into(),
            name: self.0.object_name.clone(),
        }
    }
    /// What of it was there before, as an object of those fields that changed; null where there was nothing. A secret is told by a
    /// fingerprint, and a long text by its length in bytes and its SHA-256.
    async fn before(&self) -> Option<Json> {
        json(self.0.before_json.as_deref())
    }
    /// The same of what is there after it.
    async fn after(&self) -> Option<Json> {
        json(self.0.after_json.as_deref())
    }
    /// The id of the request, which its answer had in the header `x-request-id`; null where there was none.
    async fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }
    /// The address that the request came from; null where there was none.
    async fn ip(&self) -> Option<&str> {
        self.0.ip.as_deref()
    }
    /// The workspace it was done in, which may be gone; null for what concerns the organization.
    async fn workspace_id(&self) -> Option<ID> {
        self.0.workspace_id.map(|id| WorkspaceId::from(id).into())
    }
    /// Its place in the organization's chain: 1, 2, 3 and so on; null for the moment until it has one.
    async fn place(&self) -> Option<i64> {
        self.0.chain_place
    }
    /// The SHA-256 of the entry and of the hash before it, in hexadecimal; null until it has a place.
    async fn hash(&self) -> Option<&str> {
        self.0.hash.as_deref()
    }
}

fn json(text: Option<&str>) -> Option<Json> {
    text.and_then(|text| serde_json::from_str(text).ok()).map(Json::of)
}

/// Which entries to list: those for which everything holds that is given.
#[derive(InputObject, Default)]
pub struct AuditLogFilter {
    /// Only what this actor did, by its global id.
    actor: Option<ID>,
    /// Only these actions, as `action` has them; at most 100.
    action: Option<Vec<String>>,
    /// Only what was done to things of these kinds.
    object_kind: Option<Vec<AuditObjectKind>>,
    /// Only what was done to the thing with this id or key.
    object: Option<ID>,
    /// Only what was done in this workspace.
    workspace: Option<ID>,
    /// Only from this moment on.
    from: Option<DateTime<Utc>>,
    /// Only before this moment.
    to: Option<DateTime<Utc>>,
}

/// Longer than any id or key.
const LONGEST_ID: usize = 256;
const MOST_ACTIONS: usize = 100;

impl AuditLogFilter {
    fn read(self) -> Result<AuditFilter> {
        let text = |name: &str, id: Option<ID>| match id {
            // PostgreSQL takes no NUL, not even to compare.
            Some(id) if id.len() > LONGEST_ID || id.chars().any(char::is_control) => {
                Err(error::bad_input(format!("`filter.{name}` is no id.")))
            }
            id => Ok(id.map(|id| id.0)),
        };
        let actions = self.action.unwrap_or_default();
        if actions.len() > MOST_ACTIONS {
            return Err(error::bad_input(format!("`filter.action` has more than {MOST_ACTIONS} items.")));
        }
        let actions: Option<Vec<Action>> = actions.iter().map(|word| Action::from_word(word)).collect();
        let actions =
            actions.ok_or_else(|| error::bad_input("`filter.action` has one that is no action."))?;
        let kinds: Vec<ObjectKind> = input::distinct(self.object_kind);
        let workspace = self.workspace.map(|id| id.parse::<WorkspaceId>()).transpose();
        Ok(AuditFilter {
            actor: text("actor", self.actor)?,
            actions: (!actions.is_empty()).then_some(actions),
            object_kinds: (!kinds.is_empty()).then_some(kinds),
            object: text("object", self.object)?,
            workspace: workspace
                .map_err(|_| error::bad_input("`filter.workspace` is no id of a workspace."))?,
            from: self.from,
            to: self.to,
        })
    }
}

pub(crate) struct Entries {
    log: Log,
    args: PageArgs<Uuid>,
}

impl Entries {
    /// The log of an organization, as the arguments of the field ask for it.
    pub(crate) fn of_organization(
        access: &Arc<OrganizationAccess>,
        filter: Option<AuditLogFilter>,
        window: &Window,
    ) -> Result<AuditEventConnection> {
        let proof = access.grant().map_err(error::denied)?;
        Self::connection(Scope::Organization(proof), filter, window)
    }

    /// The log of a workspace, as the arguments of the field ask for it.
    pub(crate) fn of_workspace(
        access: &Arc<WorkspaceAccess>,
        filter: Option<AuditLogFilter>,
        window: &Window,
    ) -> Result<AuditEventConnection> {
        let proof = access.grant().map_err(error::denied)?;
        Self::connection(Scope::Workspace(proof), filter, window)
    }

    fn connection(
        scope: Scope,
        filter: Option<AuditLogFilter>,
        window: &Window,
    ) -> Result<AuditEventConnection> {
        let args = window.read(AuditEventConnection::LIST)?;
        let filter = filter.unwrap_or_default().read()?;
        Ok(AuditEventConnection::new(Self { log: Log { scope, filter }, args }))
    }

    async fn page(&self, ctx: &Context<'_>) -> Result<Page<AuditEvent>> {
        let page = loaders::load(ctx, (self.log.clone(), self.args.clone())).await?;
        Ok(page.unwrap_or_else(|| Page::cut(&self.args, Vec::new())).map(AuditEvent))
    }

    async fn total(&self, ctx: &Context<'_>) -> Result<u64> {
        Ok(loaders::load(ctx, self.log.clone()).await?.unwrap_or(0))
    }
}

connection! {
    /// A list of entries of the audit log, the newest first.
    AuditEventConnection, AuditEventEdge, AuditEvent, Entries, "audit", |event| event.0.id
}

type PageKey = (Log, PageArgs<Uuid>);

impl Loader<PageKey> for Batches {
    type Value = Page<audit::AuditEvent>;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[PageKey]) -> Result<HashMap<PageKey, Self::Value>, Self::Error> {
        Ok(keys.iter().cloned().zip(audit::pages(&self.0, keys).await?).collect())
    }
}

impl Loader<Log> for Batches {
    type Value = u64;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[Log]) -> Result<HashMap<Log, u64>, Self::Error> {
        Ok(keys.iter().cloned().zip(audit::numbers(&self.0, keys).await?).collect())
    }
}

/// An entry that was added to the audit log.
#[derive(SimpleObject)]
pub struct AuditLogChange {
    /// Where this entry stands; give it as `after` to go on from here after a break.
    cursor: String,
    /// The entry.
    event: AuditEvent,
}

/// Whose log is watched.
#[derive(Clone, Copy)]
enum Watched {
    Organization(OrganizationId),
    Workspace(WorkspaceId),
}

impl Watched {
    /// The right to read it now.
    async fn scope(self, db: &Db, actor: Actor) -> Result<Scope, ReadError> {
        Ok(match self {
            Self::Organization(id) => {
                let standing = db.organization_standing(actor, Which::Id(id)).await?;
                Scope::Organization(standing.access.grant()?)
            }
            Self::Workspace(id) => Scope::Workspace(db.standing(actor, id).await?.access.grant()?),
        })
    }
}

/// How many entries are read at once.
const BATCH: u32 = 100;
/// The shortest time from one reading to the next: one has the entries of many changes.
const PACE: Duration = Duration::from_millis(50);

/// What is added to the log, from `after` on: each entry once and in its order. The entries are their own memory, so that
/// nothing is ever missing, however long the subscriber was away.
async fn follow(
    ctx: &Context<'_>,
    actor: Actor,
    organization: OrganizationId,
    watched: Watched,
    after: Option<String>,
) -> Result<impl Stream<Item = Result<AuditLogChange>> + Send + 'static> {
    let db = Db::clone(db(ctx));
    let request = ctx.data_opt::<crate::RequestId>().cloned();
    let mut topics = vec![Topic::Audit(organization)];
    topics.extend(actor.person().map(Topic::User));
    if let Watched::Workspace(workspace) = watched {
        topics.push(Topic::Workspace(workspace));
    }
    // Listening begins before reading, so that nothing falls between the two.
    let mut feed = db.bus().subscribe(&topics);
    let scope = watched.scope(&db, actor).await.map_err(|fault| error::read(ctx, fault))?;
    let mut last = match after.as_deref().map(read_cursor).transpose()? {
        Some(place) if place != NOW => u64::try_from(place).unwrap_or(0),
        _ => audit::head(&db, &scope).await.map_err(|fault| error::internal(ctx, &fault))?,
    };
    Ok(stream! {
        let ended = |fault: ReadError| match fault {
            ReadError::Denied(denied) => error::denied(denied),
            ReadError::Fault(fault) => {
                tracing::error!(request_id = ?request, %fault, "a subscription failed");
                error::coded("INTERNAL", "Something went wrong here. Subscribe again from your last cursor.")
            }
        };
        loop {
            let scope = match watched.scope(&db, actor).await {
                Ok(scope) => scope,
                Err(fault) => {
                    yield Err(ended(fault));
                    return;
                }
            };
            let new = match audit::newer(&db, &scope, last, BATCH).await {
                Ok(new) => new,
                Err(fault) => {
                    yield Err(ended(fault.into()));
                    return;
                }
            };
            let more = new.len() == BATCH as usize;
            for event in new {
                let place = event.chain_place.unwrap_or_default();
                last = place.unsigned_abs();
                yield Ok(AuditLogChange { cursor: cursor(place), event: AuditEvent(event) });
            }
            if more {
                continue;
            }
            // Whatever concerns the log or this subscriber's rights to it.
            loop {
                match feed.next().await {
                    Ok(event)
                        if event.audited().is_some()
                            || event.concerns(actor)
                            || event.ends_a_workspace() =>
                    {
                        break;
                    }
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
            tokio::time::sleep(PACE).await;
        }
    })
}

/// The audit part of the subscription root.
#[derive(Default)]
pub struct AuditSubscription;

#[Subscription]
impl AuditSubscription {
    /// Every entry that is added to the audit log of the workspace, within a second and in the order of the chain. It ends with
    /// an error once you may not read it any more, or there is no such workspace.
    #[graphql(directive = authorize::apply("AUDIT_VIEW".to_owned()))]
    async fn audit_log_changed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The workspace.")] workspace_id: ID,
        #[graphql(desc = "The cursor of the last entry you know: those that were added since come first.")]
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<AuditLogChange>>> {
        let proof = authorize_in::<perm::AuditView>(ctx, &workspace_id).await?;
        let access = proof.access();
        let watched = Watched::Workspace(access.workspace());
        follow(ctx, access.actor(), access.organization(), watched, after).await
    }

    /// Every entry that is added to the audit log of the organization, within a second and in the order of the chain. It ends
    /// with an error once you may not read it any more.
    #[graphql(directive = authorize::apply("ORGANIZATION_MANAGE".to_owned()))]
    async fn organization_audit_log_changed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The organization; the earliest you belong to when left out.")]
        organization_id: Option<ID>,
        #[graphql(desc = "The cursor of the last entry you know: those that were added since come first.")]
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<AuditLogChange>>> {
        let proof =
            authorize_in_organization::<perm::OrganizationManage>(ctx, organization_id.as_ref()).await?;
        let access = proof.access();
        let watched = Watched::Organization(access.organization());
        follow(ctx, access.actor(), access.organization(), watched, after).await
    }
}
