//! Members in the schema.

use async_graphql::{Context, Description, ID, InputObject, MaybeUndefined, Object, Result};
use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Granted, perm},
    members::{
        LeaveWorkspaceCode, MembershipSource as DomainSource, RemoveMemberCode, UpdateMemberRoleCode,
        end_of_membership,
    },
    page::{Page, PageArgs, Position},
    refusal::InputReader,
    text::SearchTerm,
};
use guildhall_persistence::{
    counts::Count,
    members::{self, MemberFilter},
};

use crate::{
    access::Role,
    accounts::{Principal, User, Viewer},
    authz::{authorize, authorize_in, caller, db, signed_in},
    connection::connection,
    error, input,
    loaders::{self, Answered, Asked, Scoped},
    payload::{answer, payload},
    previews::RemovalImpact,
    schema::mirror,
    workspaces::Workspace,
};

mirror! {
    /// How a membership came about.
    enum MembershipSource = DomainSource {
        /// Made the workspace.
        Creator,
        /// Accepted an invitation.
        Invitation,
        /// Was added by an operator.
        Direct,
        /// Set the instance up.
        Setup,
    }
}

/// A membership of a workspace. Seen with `MEMBERS_VIEW` in the workspace.
#[derive(Description)]
pub struct Member(pub(crate) members::Member);

#[Object(use_type_description)]
impl Member {
    /// The membership's global id.
    pub(crate) async fn id(&self) -> ID {
        self.0.id.into()
    }
    /// The workspace it is of; null when you do not see that any more.
    async fn workspace(&self, ctx: &Context<'_>) -> Option<Result<Workspace>> {
        let found = loaders::load(ctx, (caller(ctx).actor?, self.0.workspace)).await;
        found.transpose().map(|standing| Workspace::new(standing?))
    }
    /// Who the member is.
    async fn principal(&self) -> Principal {
        Principal::User(User(self.0.user.clone()))
    }
    /// The role held in the workspace.
    async fn role(&self) -> Role {
        Role(self.0.role.clone())
    }
    /// How the membership came about.
    async fn source(&self) -> MembershipSource {
        self.0.source.into()
    }
    /// Since when.
    async fn joined_at(&self) -> DateTime<Utc> {
        self.0.joined_at
    }
    /// When it ends by itself; null: never.
    async fn expires_at(&self) -> Option<DateTime<Utc>> {
        self.0.expires_at
    }
}

pub(crate) struct Members {
    pub(crate) proof: Granted<perm::MembersView>,
    pub(crate) filter: MemberFilter,
    pub(crate) args: PageArgs<Position>,
}

impl Members {
    async fn page(&self, ctx: &Context<'_>) -> Result<Page<Member>> {
        let key = Scoped { proof: self.proof.clone(), what: (self.filter.clone(), self.args.clone()) };
        match loaders::load(ctx, Asked::Members(key)).await? {
            Some(Answered::Members(page)) => Ok(page.map(Member)),
            Some(Answered::Number(_)) | None => Ok(Page::cut(&self.args, Vec::new())),
        }
    }

    async fn total(&self, ctx: &Context<'_>) -> Result<u64> {
        let count = Count::Members(self.proof.clone(), self.filter.clone());
        loaders::number(ctx, count).await
    }
}

connection! {
    /// A list of a workspace's members.
    MemberConnection, MemberEdge, Member, Members, "member",
    |member| Position::of(&member.0.user.display_name, member.0.id.uuid())
}

/// The people part of the query root.
#[derive(Default)]
pub struct MemberQuery;

#[Object]
impl MemberQuery {
    /// People to invite: those with whom you share the workspace's organization and whose name or e-mail
    /// address contains the text. At most 20, the best match first.
    #[graphql(directive = authorize::apply("MEMBERS_INVITE".to_owned()))]
    async fn search_users(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The workspace you would invite to.")] workspace_id: ID,
        #[graphql(desc = "Part of a name or e-mail address; 1 to 100 characters.")] query: String,
    ) -> Result<Vec<User>> {
        let proof = authorize_in(ctx, &workspace_id).await?;
        let term = SearchTerm::parse(&query)
            .map_err(|fault| error::bad_input(format!("`query` {}.", fault.message())))?;
        let found = members::search_users(db(ctx), &proof, &term).await;
        Ok(found.map_err(|fault| error::read(ctx, fault))?.into_iter().map(User).collect())
    }
}

/// A member's new role.
#[derive(InputObject)]
pub struct UpdateMemberRoleInput {
    /// The workspace.
    workspace_id: ID,
    /// The membership, as `Member.id` gives it.
    member_id: ID,
    /// The new role: its id, or VIEWER, EDITOR or ADMIN.
    role: ID,
    /// When the membership ends by itself; null: never; absent: as it is. Refused for the last admin.
    expires_at: MaybeUndefined<DateTime<Utc>>,
}

payload! {
    /// Who was changed.
    UpdateMemberRolePayload, UpdateMemberRoleError = UpdateMemberRoleCode {
        /// The member.
        member: Member,
    }
}

/// Which member to remove.
#[derive(InputObject)]
pub struct RemoveMemberInput {
    /// The workspace.
    workspace_id: ID,
    /// The membership, as `Member.id` gives it.
    member_id: ID,
}

payload! {
    /// Who was removed.
    RemoveMemberPayload, RemoveMemberError = RemoveMemberCode {
        /// The membership that has ended, as it was.
        member: Member,
        /// What ended with it, as `removalImpact` tells it before.
        ended: RemovalImpact,
    }
}

/// Which workspace to leave.
#[derive(InputObject)]
pub struct LeaveWorkspaceInput {
    /// The workspace.
    workspace_id: ID,
}

payload! {
    /// What you left.
    LeaveWorkspacePayload, LeaveWorkspaceError = LeaveWorkspaceCode {
        /// The membership that has ended, as it was.
        member: Member,
        /// Your own view.
        viewer: Viewer,
    }
}

/// The member part of the mutation root.
#[derive(Default)]
pub struct MemberMutation;

#[Object]
impl MemberMutation {
    /// Gives a member another role, from the next request on, and an end of the membership if one is given: a second
    /// after it the member has no access any more.
    #[graphql(directive = authorize::apply("MEMBERS_MANAGE".to_owned()))]
    async fn update_member_role(
        &self,
        ctx: &Context<'_>,
        input: UpdateMemberRoleInput,
    ) -> Result<UpdateMemberRolePayload> {
        let proof = authorize_in(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let member = reader.field("memberId", input::id(&input.member_id));
            let role = reader.field("role", input::role(&input.role));
            let expires_at = match input.expires_at {
                MaybeUndefined::Undefined => None,
                MaybeUndefined::Null => Some(None),
                MaybeUndefined::Value(at) => {
                    reader.field("expiresAt", end_of_membership(at, db(ctx).now())).map(Some)
                }
            };
            let (member, role) = reader.all(member.zip(role))?;
            members::update_role(db(ctx), &proof, member, role, expires_at).await
        }
        .await;
        answer(ctx, outcome, |member| UpdateMemberRolePayload {
            member: Some(Member(member)),
            user_errors: Vec::new(),
        })
    }

    /// Ends somebody's membership. From the next request on they see nothing of the workspace; their open
    /// subscriptions in it end, and so do the pending invitations to it that they sent.
    #[graphql(directive = authorize::apply("MEMBERS_MANAGE".to_owned()))]
    async fn remove_member(
        &self,
        ctx: &Context<'_>,
        input: RemoveMemberInput,
    ) -> Result<RemoveMemberPayload> {
        let proof = authorize_in(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let member = reader.field("memberId", input::id(&input.member_id));
            members::remove(db(ctx), &proof, reader.all(member)?).await
        }
        .await;
        answer(ctx, outcome, |(member, ended)| RemoveMemberPayload {
            member: Some(Member(member)),
            ended: Some(RemovalImpact::new(proof, ended)),
            user_errors: Vec::new(),
        })
    }

    /// Ends your own membership.
    #[graphql(directive = authorize::apply("WORKSPACE_VIEW".to_owned()))]
    async fn leave_workspace(
        &self,
        ctx: &Context<'_>,
        input: LeaveWorkspaceInput,
    ) -> Result<LeaveWorkspacePayload> {
        let proof = authorize_in(ctx, &input.workspace_id).await?;
        let outcome = members::leave(db(ctx), &proof).await;
        let viewer = Viewer::new(signed_in(ctx).await?);
        answer(ctx, outcome, |member| LeaveWorkspacePayload {
            member: Some(Member(member)),
            viewer: Some(viewer),
            user_errors: Vec::new(),
        })
    }
}
