//! The life of a workspace in the schema: archiving, restoring, deleting, and what a deletion would take along.

use std::sync::Arc;

use async_graphql::{Context, Description, ID, InputObject, Object, Result, SimpleObject};
use guildhall_domain::{
    access::{Granted, WorkspaceAccess, perm},
    ids::UserId,
    life::{ArchiveWorkspaceCode, DeleteWorkspaceCode, RestoreWorkspaceCode},
    refusal::Refusals,
};
use guildhall_persistence::{
    life::{self, Lending},
    members::MemberFilter,
};

use crate::{
    accounts::{User, Viewer},
    authz::{self, authorize, authorize_in, db, grant, signed_in},
    connection::Window,
    error,
    loaders::{self, Scoped},
    members::{MemberConnection, Members},
    payload::{DeleteWorkspaceError, answer, payload},
    workspaces::Workspace,
};

/// Who archived a workspace; null for whoever may not see its members, or when they have left the organization.
pub(crate) async fn archiver(
    ctx: &Context<'_>,
    access: &Arc<WorkspaceAccess>,
    by: Option<UserId>,
) -> Option<Result<User>> {
    let (Ok(proof), Some(what)) = (access.grant::<perm::MembersView>(), by) else { return None };
    loaders::load(ctx, Scoped { proof, what }).await.map(|found| found.map(User)).transpose()
}

/// Which workspace to archive.
#[derive(InputObject)]
pub struct ArchiveWorkspaceInput {
    /// The workspace.
    workspace_id: ID,
}

payload! {
    /// What was archived.
    ArchiveWorkspacePayload, ArchiveWorkspaceError = ArchiveWorkspaceCode {
        /// The workspace, archived.
        workspace: Workspace,
    }
}

/// Which workspace to restore.
#[derive(InputObject)]
pub struct RestoreWorkspaceInput {
    /// The workspace.
    workspace_id: ID,
}

payload! {
    /// What was restored.
    RestoreWorkspacePayload, RestoreWorkspaceError = RestoreWorkspaceCode {
        /// The workspace, in use.
        workspace: Workspace,
    }
}

/// Which workspace to delete.
#[derive(InputObject)]
pub struct DeleteWorkspaceInput {
    /// The workspace.
    workspace_id: ID,
    /// The workspace's `name`, typed once more: the deletion cannot be undone.
    confirm_name: String,
    /// Whether members who do not own the organization may lose the workspace, you included. Without it they stand
    /// against the deletion.
    #[graphql(default = false)]
    remove_members: bool,
}

/// How much goes with a workspace.
#[derive(SimpleObject)]
pub struct DeletionCounts {
    /// How many members it has, who lose it.
    members: u64,
    /// How many of them do not own the organization: they stand against the deletion, unless `removeMembers` is given.
    members_besides_owners: u64,
    /// How many people land in it after signing in: they land in another workspace then.
    landings: u64,
    /// How many pending invitations there are to it. Those to nothing else end; those to several workspaces lose this one.
    invitations: u64,
    /// How many credentials it owns.
    credentials: u64,
    /// How many configuration properties it has.
    config_properties: u64,
    /// How many service accounts it has: what works with their tokens stops.
    service_accounts: u64,
    /// How many API keys are good there, of the workspace and of its service accounts: what works with them stops.
    api_keys: u64,
    /// How many webhooks it has: nothing more is sent to them, not even that it was deleted.
    webhooks: u64,
    /// How many shares there are of its credentials, pending ones included: they end.
    shares_out: u64,
    /// How many workspaces those are lent to.
    borrowers: u64,
    /// How many shares of other workspaces' credentials it borrows, pending ones included: they end.
    shares_in: u64,
    /// How many workspaces those are lent by.
    lenders: u64,
}

impl From<life::DeletionCounts> for DeletionCounts {
    fn from(counts: life::DeletionCounts) -> Self {
        let life::DeletionCounts {
            members,
            members_besides_owners,
            landings,
            invitations,
            credentials,
            config_properties,
            service_accounts,
            api_keys,
            webhooks,
            shares_out,
            borrowers,
            shares_in,
            lenders,
        } = counts;
        Self {
            members,
            members_besides_owners,
            landings,
            invitations,
            credentials,
            config_properties,
            service_accounts,
            api_keys,
            webhooks,
            shares_out,
            borrowers,
            shares_in,
            lenders,
        }
    }
}

payload! {
    /// What was deleted.
    DeleteWorkspacePayload, DeleteWorkspaceError = DeleteWorkspaceCode {
        /// The id that the workspace had.
        workspace_id: ID,
        /// How much went with it, as `deletionImpact` tells it before.
        deleted: DeletionCounts,
        /// Your own view: where you land now.
        viewer: Viewer,
    }
}

/// How many items the lists of an impact show.
const SHOWN: u32 = 100;

/// A credential that goes with its workspace.
#[derive(Description)]
pub struct DoomedCredential(life::DoomedCredential);

#[Object(use_type_description)]
impl DoomedCredential {
    /// The credential's global id.
    async fn id(&self) -> ID {
        self.0.id.into()
    }
    /// Its name in addresses.
    async fn slug(&self) -> &str {
        &self.0.slug
    }
    /// The name people read.
    async fn name(&self) -> &str {
        &self.0.name
    }
    /// How many workspaces borrow it, or are offered it.
    async fn borrower_count(&self) -> u64 {
        self.0.borrowers
    }
}

/// What `deleteWorkspace` would do.
#[derive(Description)]
pub struct DeletionImpact {
    proof: Granted<perm::WorkspaceDelete>,
    workspace: Workspace,
    deletion: life::Deletion,
}

#[Object(use_type_description)]
impl DeletionImpact {
    /// The workspace, as it is.
    async fn workspace(&self) -> &Workspace {
        &self.workspace
    }
    /// How much would go.
    async fn counts(&self) -> DeletionCounts {
        self.deletion.counts.into()
    }
    /// The `userErrors` that `deleteWorkspace` would answer to the right `confirmName`; empty when it would delete the
    /// workspace.
    async fn refusals(&self) -> Vec<DeleteWorkspaceError> {
        let refusals = self.deletion.refusals.iter().flat_map(|Refusals(refusals)| refusals);
        refusals.cloned().map(Into::into).collect()
    }
    /// The members, who would lose it, by when they joined. Needs `MEMBERS_VIEW`; null with a `FORBIDDEN` error without it.
    #[graphql(complexity = "crate::connection::cost(first, last, child_complexity)")]
    async fn members(
        &self,
        #[graphql(
            desc = "How many items from the start, 1 to 100; 25 when neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many items from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Option<Result<MemberConnection>> {
        Some(self.members_of(&Window { first, after, last, before }))
    }
    /// The credentials that would go, by age, the first 100. Needs `CREDENTIAL_LIST`; null with a `FORBIDDEN` error without
    /// it.
    #[graphql(complexity = "1 + child_complexity * 10")]
    async fn credentials(&self, ctx: &Context<'_>) -> Option<Result<Vec<DoomedCredential>>> {
        Some(self.credentials_of(ctx).await)
    }
    /// The workspaces that borrow from it and would lose what they borrow: those of them that you see, by age, the first 100.
    /// `counts` has all.
    #[graphql(complexity = "1 + child_complexity * 10")]
    async fn borrowers(&self, ctx: &Context<'_>) -> Result<Vec<Workspace>> {
        self.sharing(ctx, Lending::Borrowers).await
    }
    /// The workspaces that it borrows from: those of them that you see, by age, the first 100. `counts` has all.
    #[graphql(complexity = "1 + child_complexity * 10")]
    async fn lenders(&self, ctx: &Context<'_>) -> Result<Vec<Workspace>> {
        self.sharing(ctx, Lending::Lenders).await
    }
}

impl DeletionImpact {
    fn members_of(&self, window: &Window) -> Result<MemberConnection> {
        let proof = grant(self.proof.access())?;
        let args = window.read(MemberConnection::LIST)?;
        Ok(MemberConnection::new(Members { proof, filter: MemberFilter::default(), args }))
    }

    async fn credentials_of(&self, ctx: &Context<'_>) -> Result<Vec<DoomedCredential>> {
        let proof = grant(self.proof.access())?;
        let found = life::doomed_credentials(db(ctx), &proof, SHOWN).await;
        Ok(found.map_err(|fault| error::read(ctx, fault))?.into_iter().map(DoomedCredential).collect())
    }

    async fn sharing(&self, ctx: &Context<'_>, lending: Lending) -> Result<Vec<Workspace>> {
        let ids = life::sharing_with(db(ctx), &self.proof, lending, SHOWN).await;
        let ids = ids.map_err(|fault| error::read(ctx, fault))?;
        let actor = self.proof.access().actor();
        let keys: Vec<_> = ids.into_iter().map(|id| (actor, id)).collect();
        let mut found = loaders::load_many(ctx, keys.clone()).await?;
        keys.iter().filter_map(|key| found.remove(key)).map(Workspace::new).collect()
    }
}

/// The part of the query root about the life of a workspace.
#[derive(Default)]
pub struct LifeQuery;

#[Object]
impl LifeQuery {
    /// What deleting a workspace would take along, and whether it would be refused. It changes nothing; the payload of
    /// `deleteWorkspace` tells the same counts when it has been done.
    #[graphql(directive = authorize::apply("WORKSPACE_DELETE".to_owned()))]
    async fn deletion_impact(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The workspace.")] workspace_id: ID,
        #[graphql(
            default = false,
            desc = "Whether the deletion would be asked for with `removeMembers: true`; decides about `refusals`."
        )]
        remove_members: bool,
    ) -> Result<DeletionImpact> {
        let proof = authorize_in::<perm::WorkspaceDelete>(ctx, &workspace_id).await?;
        let deletion = life::deletion(db(ctx), &proof, remove_members).await;
        let deletion = deletion.map_err(|fault| error::read(ctx, fault))?;
        let workspace = Workspace::new(authz::standing(ctx, proof.access().workspace()).await?)?;
        Ok(DeletionImpact { proof, workspace, deletion })
    }
}

/// The part of the mutation root about the life of a workspace.
#[derive(Default)]
pub struct LifeMutation;

#[Object]
impl LifeMutation {
    /// Archives a workspace: everything in it stays and can be read, nothing in it changes until it is restored, and lists of
    /// workspaces leave it out unless asked for it. Whoever lands in it lands elsewhere meanwhile; nobody joins it; what it
    /// lends cannot be used. One that is archived already stays as it is, and that is no error.
    #[graphql(directive = authorize::apply("WORKSPACE_ARCHIVE".to_owned()))]
    async fn archive_workspace(
        &self,
        ctx: &Context<'_>,
        input: ArchiveWorkspaceInput,
    ) -> Result<ArchiveWorkspacePayload> {
        let proof = authorize_in::<perm::WorkspaceArchive>(ctx, &input.workspace_id).await?;
        let outcome = life::archive(db(ctx), &proof).await;
        let workspace = Workspace::new(authz::standing(ctx, proof.access().workspace()).await?)?;
        answer(ctx, outcome, |()| ArchiveWorkspacePayload {
            workspace: Some(workspace),
            user_errors: Vec::new(),
        })
    }

    /// Brings an archived workspace back exactly as it was. One that is in use stays as it is, and that is no error.
    #[graphql(directive = authorize::apply("WORKSPACE_ARCHIVE".to_owned()))]
    async fn restore_workspace(
        &self,
        ctx: &Context<'_>,
        input: RestoreWorkspaceInput,
    ) -> Result<RestoreWorkspacePayload> {
        let proof = authorize_in::<perm::WorkspaceArchive>(ctx, &input.workspace_id).await?;
        let outcome = life::restore(db(ctx), &proof).await;
        let workspace = Workspace::new(authz::standing(ctx, proof.access().workspace()).await?)?;
        answer(ctx, outcome, |()| RestoreWorkspacePayload {
            workspace: Some(workspace),
            user_errors: Vec::new(),
        })
    }

    /// Deletes a workspace with everything in it, for good: memberships, invitations, credentials, settings, and what it lends
    /// and borrows. Who may is the organization's policy. `deletionImpact` tells before what goes. Whoever landed in it lands
    /// in the workspace they joined first from then on.
    #[graphql(directive = authorize::apply("WORKSPACE_DELETE".to_owned()))]
    async fn delete_workspace(
        &self,
        ctx: &Context<'_>,
        input: DeleteWorkspaceInput,
    ) -> Result<DeleteWorkspacePayload> {
        let proof = authorize_in::<perm::WorkspaceDelete>(ctx, &input.workspace_id).await?;
        let outcome = life::delete(db(ctx), &proof, &input.confirm_name, input.remove_members).await;
        let viewer = Viewer::new(signed_in(ctx).await?);
        answer(ctx, outcome, |counts| DeleteWorkspacePayload {
            workspace_id: Some(input.workspace_id),
            deleted: Some(counts.into()),
            viewer: Some(viewer),
            user_errors: Vec::new(),
        })
    }
}
