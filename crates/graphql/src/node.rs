//! Objects by their global ids. What does not exist and what may not be seen are both null.

use std::collections::HashMap;

use async_graphql::{Context, Error, ID, Interface, Object, Result};
use guildhall_domain::{
    access::{Actor, Granted, OwnSession},
    ids::{AnyId, OrganizationId, WorkspaceId},
    machines::MachineKind,
};
use guildhall_persistence::{
    OrganizationStanding, Standing, Which, api_keys,
    credentials::{self, CredentialRef},
    invitations, machines, members, ownership, roles, service_accounts, webhooks,
};

use crate::{
    access::Role,
    accounts::User,
    api_keys::ApiKey,
    authz::{caller, db, grant, signed_in, signed_in_directive},
    credentials::Credential,
    error,
    invitations::Invitation,
    loaders::{self, Scoped},
    members::Member,
    organizations::Organization,
    ownership::OwnershipTransfer,
    service_accounts::ServiceAccount,
    sessions::Session,
    webhooks::{Webhook, WebhookDelivery},
    workspaces::Workspace,
};

/// Anything with a global id.
#[derive(Interface)]
#[graphql(field(name = "id", ty = "ID", desc = "The global id: opaque, and unique among all objects."))]
pub enum Node {
    /// An organization.
    Organization(Organization),
    /// A workspace.
    Workspace(Workspace),
    /// A person.
    User(User),
    /// A role.
    Role(Role),
    /// A membership.
    Member(Member),
    /// An invitation, as the workspace's admins see it.
    Invitation(Invitation),
    /// A transfer of an organization's ownership, as its owners and the receiver see it.
    OwnershipTransfer(OwnershipTransfer),
    /// A credential of a workspace, its own or a borrowed one.
    Credential(Credential),
    /// A service account of a workspace.
    ServiceAccount(ServiceAccount),
    /// An API key of a workspace.
    ApiKey(ApiKey),
    /// A webhook of a workspace.
    Webhook(Webhook),
    /// A delivery to a webhook of a workspace.
    WebhookDelivery(WebhookDelivery),
    /// A signed-in device of your own.
    Session(Session),
}

/// How many ids `nodes` takes.
const MAX_IDS: usize = 100;

/// The node part of the query root.
#[derive(Default)]
pub struct NodeQuery;

#[Object]
impl NodeQuery {
    /// The object of that id; null when there is none or you may not see it.
    #[graphql(directive = signed_in_directive::apply())]
    async fn node(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "A global id, as any object gives it.")] id: ID,
    ) -> Option<Result<Node>> {
        match signed_in(ctx).await {
            Ok(own) => find(ctx, own, &id).await.transpose(),
            Err(fault) => Some(Err(fault)),
        }
    }

    /// The objects of those ids, in the same order; null for each that does not exist or that you may not
    /// see, and for those of an organization that demands something of you first.
    #[graphql(
        directive = signed_in_directive::apply(),
        // Most are found by several statements of their own.
        complexity = "1 + (3 + child_complexity) * ids.len().min(100)"
    )]
    async fn nodes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Global ids, at most 100.")] ids: Vec<ID>,
    ) -> Result<Vec<Option<Node>>> {
        if ids.len() > MAX_IDS {
            return Err(error::bad_input(format!(
                "`ids` has {} entries: give at most {MAX_IDS}.",
                ids.len()
            )));
        }
        let own = signed_in(ctx).await?;
        let places = Places::of(ctx, own, &ids).await?;
        let mut found = Vec::with_capacity(ids.len());
        for id in &ids {
            found.push(match id.parse() {
                Ok(AnyId::OrganizationId(id)) => places.organization(id)?,
                Ok(AnyId::WorkspaceId(id)) => places.workspace(id)?,
                _ => match find(ctx, own, id).await {
                    // The other objects are none of that organization's business.
                    Err(fault) if error::is_demanded(&fault) => None,
                    found => found?,
                },
            });
        }
        Ok(found)
    }
}

/// The organizations and workspaces among several ids, as far as the caller sees them: asked for together.
struct Places {
    organizations: HashMap<(Actor, OrganizationId), OrganizationStanding>,
    workspaces: HashMap<(Actor, WorkspaceId), Standing>,
    actor: Actor,
}

impl Places {
    async fn of(ctx: &Context<'_>, own: OwnSession, ids: &[ID]) -> Result<Self> {
        let actor = own.actor();
        let (mut organizations, mut workspaces) = (Vec::new(), Vec::new());
        for id in ids {
            match id.parse() {
                Ok(AnyId::OrganizationId(id)) => organizations.push((actor, id)),
                Ok(AnyId::WorkspaceId(id)) => workspaces.push((actor, id)),
                _ => {}
            }
        }
        Ok(Self {
            organizations: loaders::load_many(ctx, organizations).await?,
            workspaces: loaders::load_many(ctx, workspaces).await?,
            actor,
        })
    }

    fn organization(&self, id: OrganizationId) -> Result<Option<Node>> {
        let standing = self.organizations.get(&(self.actor, id)).cloned();
        standing.map(|standing| Ok(Node::Organization(Organization::new(standing)?))).transpose()
    }

    fn workspace(&self, id: WorkspaceId) -> Result<Option<Node>> {
        let standing = self.workspaces.get(&(self.actor, id)).cloned();
        standing.map(|standing| Ok(Node::Workspace(Workspace::new(standing)?))).transpose()
    }
}

/// What a guard answers for what may not be seen is null here.
fn if_seen<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(fault) if error::is_not_found(&fault) || error::is_forbidden(&fault) => Ok(None),
        Err(fault) => Err(fault),
    }
}

async fn find(ctx: &Context<'_>, own: OwnSession, id: &ID) -> Result<Option<Node>> {
    let read = |fault| -> Error { error::read(ctx, fault) };
    let standing = async |workspace| {
        let actor = caller(ctx).actor.ok_or_else(error::unauthenticated)?;
        if_seen(db(ctx).standing(actor, workspace).await.map_err(read))
    };
    Ok(match id.parse() {
        Ok(AnyId::OrganizationId(id)) => {
            let found = db(ctx).organization_standing(own.actor(), Which::Id(id)).await;
            match if_seen(found.map_err(read))? {
                Some(standing) => Some(Node::Organization(Organization::new(standing)?)),
                None => None,
            }
        }
        Ok(AnyId::WorkspaceId(id)) => match standing(id).await? {
            Some(standing) => Some(Node::Workspace(Workspace::new(standing)?)),
            None => None,
        },
        Ok(AnyId::UserId(id)) => {
            members::visible_user(db(ctx), &own, id).await.map_err(read)?.map(|user| Node::User(User(user)))
        }
        Ok(AnyId::RoleId(id)) => match guildhall_domain::access::SystemRole::from_id(id) {
            Some(system) => Some(Node::Role(Role(system.into()))),
            None => roles::by_id(db(ctx), &own, id).await.map_err(read)?.map(|role| Node::Role(Role(role))),
        },
        Ok(AnyId::MembershipId(id)) => {
            let Some(workspace) = members::workspace_of(db(ctx), &own, id).await.map_err(read)? else {
                return Ok(None);
            };
            let Some(standing) = standing(workspace).await? else { return Ok(None) };
            let Some(proof) = if_seen(grant(&standing.access))? else { return Ok(None) };
            members::by_id(db(ctx), &proof, id).await.map_err(read)?.map(|row| Node::Member(Member(row)))
        }
        Ok(AnyId::InvitationId(id)) => {
            for workspace in invitations::workspaces_of(db(ctx), &own, id).await.map_err(read)? {
                let Some(standing) = standing(workspace).await? else { continue };
                let Some(proof) = if_seen(grant(&standing.access))? else { continue };
                if let Some(row) = invitations::by_id(db(ctx), &proof, id).await.map_err(read)? {
                    return Ok(Some(Node::Invitation(Invitation::new(proof, row))));
                }
            }
            None
        }
        Ok(AnyId::OwnershipTransferId(id)) => {
            let row = ownership::visible(db(ctx), &own, id).await.map_err(read)?;
            row.map(|row| Node::OwnershipTransfer(OwnershipTransfer(row)))
        }
        Ok(AnyId::SessionId(id)) => guildhall_persistence::sessions::by_id(db(ctx), &own, id)
            .await
            .map_err(read)?
            .map(|row| Node::Session(Session::new(row, &own))),
        Ok(AnyId::CredentialId(id)) => {
            credential(ctx, &own, CredentialRef::Own(id)).await?.map(Node::Credential)
        }
        Ok(AnyId::BorrowedCredentialId(id)) => {
            credential(ctx, &own, CredentialRef::Borrowed(id)).await?.map(Node::Credential)
        }
        Ok(AnyId::ServiceAccountId(id)) => {
            let place = machines::place_of(db(ctx), &own, MachineKind::ServiceAccount, id.into()).await;
            let Some(workspace) = place.map_err(read)? else { return Ok(None) };
            let Some(standing) = standing(workspace).await? else { return Ok(None) };
            let Some(proof) = if_seen(grant(&standing.access))? else { return Ok(None) };
            let found = service_accounts::by_id(db(ctx), &proof, id).await.map_err(read)?;
            found.map(|row| Node::ServiceAccount(ServiceAccount::new(proof, row)))
        }
        Ok(AnyId::ApiKeyId(id)) => {
            let place = machines::place_of(db(ctx), &own, MachineKind::ApiKey, id.into()).await;
            let Some(workspace) = place.map_err(read)? else { return Ok(None) };
            let Some(standing) = standing(workspace).await? else { return Ok(None) };
            let Some(proof) = if_seen(grant(&standing.access))? else { return Ok(None) };
            let found = api_keys::by_id(db(ctx), &proof, id).await.map_err(read)?;
            found.map(|row| Node::ApiKey(ApiKey::new(proof, row)))
        }
        Ok(AnyId::WebhookId(id)) => {
            let Some(workspace) = webhooks::place_of(db(ctx), &own, id).await.map_err(read)? else {
                return Ok(None);
            };
            let Some(standing) = standing(workspace).await? else { return Ok(None) };
            let Some(proof) = if_seen(grant(&standing.access))? else { return Ok(None) };
            let found = webhooks::by_ids(db(ctx), &[(Granted::clone(&proof), id)]).await.map_err(read)?;
            found.into_iter().next().map(|row| Node::Webhook(Webhook::new(proof, row)))
        }
        Ok(AnyId::WebhookDeliveryId(id)) => {
            let Some(workspace) = webhooks::delivery_place(db(ctx), &own, id).await.map_err(read)? else {
                return Ok(None);
            };
            let Some(standing) = standing(workspace).await? else { return Ok(None) };
            let Some(proof) = if_seen(grant(&standing.access))? else { return Ok(None) };
            let found = webhooks::delivery(db(ctx), &proof, id).await.map_err(read)?;
            found.map(|row| Node::WebhookDelivery(WebhookDelivery::new(proof, row)))
        }
        Ok(
            AnyId::CredentialShareId(_)
            | AnyId::CredentialUseId(_)
            | AnyId::LoginActivityId(_)
            | AnyId::MailId(_)
            | AnyId::AuditEventId(_),
        )
        | Err(_) => None,
    })
}

/// The credential, if the caller may list those of the workspace that has it.
async fn credential(ctx: &Context<'_>, own: &OwnSession, at: CredentialRef) -> Result<Option<Credential>> {
    let place = credentials::place_of(db(ctx), own, at).await.map_err(|fault| error::read(ctx, fault))?;
    let Some(workspace) = place else { return Ok(None) };
    let standing = db(ctx).standing(own.actor(), workspace).await.map_err(|fault| error::read(ctx, fault));
    let Some(standing) = if_seen(standing)? else { return Ok(None) };
    let Some(proof) = if_seen(grant(&standing.access))? else { return Ok(None) };
    let found = loaders::load(ctx, Scoped { proof: Granted::clone(&proof), what: at.uuid() }).await?;
    Ok(found.map(|row| Credential::new(proof, row)))
}
