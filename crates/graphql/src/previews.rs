//! Previews in the schema: what a change would do, told without doing it.

use async_graphql::{Context, Description, ID, Object, Result};
use guildhall_domain::{
    access::{Granted, PermissionSet, perm},
    members::{RemoveMemberCode, UpdateMemberRoleCode},
    refusal::{InputReader, Refusals},
};
use guildhall_persistence::{members as rows, previews};

use crate::{
    access::{Permission, permissions},
    authz::{authorize, authorize_in, db, grant},
    input,
    invitations::Invitation,
    loaders::{self, Scoped},
    members::Member,
    payload::{Refusable, RemoveMemberError, UpdateMemberRoleError, answer},
};

/// What `updateMemberRole` would change for a member.
#[derive(Description)]
pub struct RoleChangePreview {
    member: Option<rows::Member>,
    gained: PermissionSet,
    lost: PermissionSet,
    refusals: Option<Refusals<UpdateMemberRoleCode>>,
}

impl Refusable for RoleChangePreview {
    type Code = UpdateMemberRoleCode;

    fn refused(refusals: Refusals<Self::Code>) -> Self {
        Self {
            member: None,
            gained: PermissionSet::EMPTY,
            lost: PermissionSet::EMPTY,
            refusals: Some(refusals),
        }
    }
}

#[Object(use_type_description)]
impl RoleChangePreview {
    /// The member, as they are; null when member or role do not exist.
    async fn member(&self) -> Option<Member> {
        self.member.clone().map(Member)
    }
    /// What they could do in the workspace from then on, and cannot yet.
    async fn gained(&self) -> Vec<Permission> {
        permissions(self.gained)
    }
    /// What they can do in the workspace, and could not any more.
    async fn lost(&self) -> Vec<Permission> {
        permissions(self.lost)
    }
    /// The `userErrors` that `updateMemberRole` would answer; empty when it would make the change.
    async fn refusals(&self) -> Vec<UpdateMemberRoleError> {
        errors(&self.refusals)
    }
}

fn errors<C: Clone, E: From<guildhall_domain::refusal::Refusal<C>>>(
    refusals: &Option<Refusals<C>>,
) -> Vec<E> {
    refusals.iter().flat_map(|Refusals(refusals)| refusals).cloned().map(Into::into).collect()
}

/// What ends with a membership, beside the person's access to the workspace.
#[derive(Description)]
pub struct RemovalImpact {
    proof: Granted<perm::MembersManage>,
    impact: previews::RemovalImpact,
}

impl RemovalImpact {
    pub(crate) fn new(proof: Granted<perm::MembersManage>, impact: previews::RemovalImpact) -> Self {
        Self { proof, impact }
    }
}

/// How many invitations an impact shows.
const MAX_INVITATIONS: usize = 100;

#[Object(use_type_description)]
impl RemovalImpact {
    /// How many invitations to the workspace the member has sent that nobody has answered, expired ones included: they
    /// are revoked.
    async fn invitation_count(&self) -> usize {
        self.impact.invitations.len()
    }
    /// Those invitations by age, the first 100. Needs `INVITATIONS_VIEW`; null with a `FORBIDDEN` error without it.
    #[graphql(complexity = "1 + child_complexity * 100")]
    async fn invitations(&self, ctx: &Context<'_>) -> Option<Result<Vec<Invitation>>> {
        Some(self.sent(ctx).await)
    }
    /// Whether the workspace is the one that the member lands in after signing in: they land in another one then.
    async fn is_default_workspace(&self) -> bool {
        self.impact.is_default_workspace
    }
    /// How many of the member's devices are signed in while the workspace is the last one they were in: they stay signed
    /// in, outside it.
    async fn session_count(&self) -> u64 {
        self.impact.sessions
    }
    /// How many credentials the member has lent to other workspaces from this one. They are the workspace's and stay:
    /// `unshareCredential` takes one back.
    async fn share_count(&self) -> u64 {
        self.impact.shares
    }
    /// How many good API keys of the workspace the member made. They are the workspace's and stay: `revokeApiKey` ends one.
    async fn api_key_count(&self) -> u64 {
        self.impact.api_keys
    }
    /// How many of the workspace's service accounts the member made. They stay as well.
    async fn service_account_count(&self) -> u64 {
        self.impact.service_accounts
    }
    /// How many of the workspace's webhooks the member made, in use or not. They stay, and go on telling the addresses that the
    /// member gave: `deleteWebhook` ends one.
    async fn webhook_count(&self) -> u64 {
        self.impact.webhooks
    }
}

impl RemovalImpact {
    async fn sent(&self, ctx: &Context<'_>) -> Result<Vec<Invitation>> {
        let proof = grant::<perm::InvitationsView>(self.proof.access())?;
        let ids = self.impact.invitations.iter().take(MAX_INVITATIONS);
        let keys: Vec<_> = ids.map(|id| Scoped { proof: proof.clone(), what: *id }).collect();
        let mut found = loaders::load_many(ctx, keys.clone()).await?;
        let rows = keys.iter().filter_map(|key| found.remove(key));
        Ok(rows.map(|row| Invitation::new(proof.clone(), row)).collect())
    }
}

/// What `removeMember` would do.
#[derive(Description)]
pub struct RemovalPreview {
    found: Option<(Granted<perm::MembersManage>, rows::Member, previews::RemovalImpact)>,
    refusals: Option<Refusals<RemoveMemberCode>>,
}

impl Refusable for RemovalPreview {
    type Code = RemoveMemberCode;

    fn refused(refusals: Refusals<Self::Code>) -> Self {
        Self { found: None, refusals: Some(refusals) }
    }
}

#[Object(use_type_description)]
impl RemovalPreview {
    /// The member, as they are; null when there is no such member.
    async fn member(&self) -> Option<Member> {
        self.found.as_ref().map(|(_, member, _)| Member(member.clone()))
    }
    /// What would end with the membership, also where the removal would be refused; null when there is no such member.
    async fn impact(&self) -> Option<RemovalImpact> {
        let (proof, _, impact) = self.found.as_ref()?;
        Some(RemovalImpact::new(proof.clone(), impact.clone()))
    }
    /// The `userErrors` that `removeMember` would answer; empty when it would remove the member.
    async fn refusals(&self) -> Vec<RemoveMemberError> {
        errors(&self.refusals)
    }
}

/// The part of the query root that tells what a change would do.
#[derive(Default)]
pub struct PreviewQuery;

#[Object]
impl PreviewQuery {
    /// What giving a member another role would change for them in the workspace, and whether it would be refused. It
    /// changes nothing.
    #[graphql(directive = authorize::apply("MEMBERS_MANAGE".to_owned()))]
    async fn simulate_role_change(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The workspace.")] workspace_id: ID,
        #[graphql(desc = "The membership, as `Member.id` gives it.")] member_id: ID,
        #[graphql(desc = "The other role: its id, or VIEWER, EDITOR or ADMIN.")] role: ID,
    ) -> Result<RoleChangePreview> {
        let proof = authorize_in(ctx, &workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let member = reader.field("memberId", input::id(&member_id));
            let role = reader.field("role", input::role(&role));
            let (member, role) = reader.all(member.zip(role))?;
            previews::role_change(db(ctx), &proof, member, role).await
        }
        .await;
        answer(ctx, outcome, |change| RoleChangePreview {
            member: Some(change.member),
            gained: change.gained,
            lost: change.lost,
            refusals: change.refusals,
        })
    }

    /// What removing a member would end beside their access, and whether it would be refused. It changes nothing; the
    /// payload of `removeMember` tells the same when it has been done.
    #[graphql(directive = authorize::apply("MEMBERS_MANAGE".to_owned()))]
    async fn removal_impact(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The workspace.")] workspace_id: ID,
        #[graphql(desc = "The membership, as `Member.id` gives it.")] member_id: ID,
    ) -> Result<RemovalPreview> {
        let proof = authorize_in(ctx, &workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let member = reader.field("memberId", input::id(&member_id));
            previews::removal(db(ctx), &proof, reader.all(member)?).await
        }
        .await;
        answer(ctx, outcome, |removal| RemovalPreview {
            found: Some((proof, removal.member, removal.impact)),
            refusals: removal.refusals,
        })
    }
}
