//! Members of an organization in the schema: the view that its admins have of them, and what they do to them.

use std::{collections::HashMap, sync::Arc};

use async_graphql::{Context, Description, ID, InputObject, Object, Result, dataloader::Loader};
use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Granted, perm},
    ids::UserId,
    organization_members::{
        DisableUserCode, EnableUserCode, LeaveOrganizationCode, OrganizationMemberStatus as DomainStatus,
        RemoveOrganizationMemberCode, UpdateOrganizationMemberCode,
    },
    page::{Page, PageArgs, Position},
    refusal::{InputReader, RefusalCode, Refusals},
    sessions::EndMemberSessionsCode,
};
use guildhall_persistence::{
    ReadError, members,
    organization_members::{self, OrganizationMemberFilter},
};
use uuid::Uuid;

use crate::{
    accounts::{User, Viewer},
    authz::{authorize, authorize_in_organization, caller, db, signed_in},
    connection::{Window, connection},
    input,
    loaders::{self, Batches, Scoped, grouped},
    members::Member,
    organizations::OrganizationRole,
    payload::{answer, payload},
    schema::mirror,
    workspaces::Workspace,
};

mirror! {
    /// Whether a person's place in an organization is in use.
    enum OrganizationMemberStatus = DomainStatus {
        /// In use.
        Active,
        /// Closed by an admin: the person sees nothing of the organization. Nothing is lost, and `enableUser` opens it again.
        Disabled,
    }
}

/// A person's place in an organization, as its admins see it. Needs `ORGANIZATION_MANAGE`.
#[derive(Description)]
pub struct OrganizationMember {
    proof: Granted<perm::OrganizationManage>,
    row: organization_members::OrganizationMember,
}

#[Object(use_type_description)]
impl OrganizationMember {
    /// The person.
    async fn user(&self) -> User {
        User(self.row.user.clone())
    }
    /// The role held in the organization.
    async fn role(&self) -> OrganizationRole {
        self.row.role.into()
    }
    /// Whether the place is in use. `User.status` is that of the account, which no organization changes.
    async fn status(&self) -> OrganizationMemberStatus {
        self.row.status.into()
    }
    /// Since when.
    async fn joined_at(&self) -> DateTime<Utc> {
        self.row.joined_at
    }
    /// When the person signed in last, anywhere.
    async fn last_sign_in_at(&self) -> Option<DateTime<Utc>> {
        self.row.last_sign_in_at
    }
    /// Whether the person's account has a second factor, which every sign-in needs then. Only they can set one up.
    async fn has_second_factor(&self) -> bool {
        self.row.has_second_factor
    }
    /// The workspace the person was in last, as `switchWorkspace` remembered it; null when that is none of this organization.
    async fn active_workspace(&self, ctx: &Context<'_>) -> Option<Result<Workspace>> {
        let (id, actor) = (self.row.active_workspace?, caller(ctx).actor?);
        let found = loaders::load(ctx, (actor, id)).await;
        found.transpose().map(|standing| Workspace::new(standing?))
    }
    /// The person's memberships in this organization's workspaces, by when they joined. Where an admin of the
    /// organization is no member, they are an Admin all the same, and it is not listed.
    #[graphql(complexity = "crate::connection::cost(first, last, child_complexity)")]
    async fn memberships(
        &self,
        #[graphql(
            desc = "How many items from the start, 1 to 100; 25 when neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many items from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Result<MembershipConnection> {
        let args = Window { first, after, last, before }.read(MembershipConnection::LIST)?;
        let (proof, user) = (self.proof.clone(), self.row.user.id);
        Ok(MembershipConnection::new(Memberships { proof, user, args }))
    }
}

/// A page of an organization's members.
type MembersKey = Scoped<perm::OrganizationManage, (OrganizationMemberFilter, PageArgs<Position>)>;
/// How many members an organization has.
type NumberKey = Scoped<perm::OrganizationManage, OrganizationMemberFilter>;
/// A page of somebody's memberships.
type MembershipsKey = Scoped<perm::OrganizationManage, (UserId, PageArgs<Uuid>)>;
/// How many memberships somebody has.
type MembershipNumberKey = Scoped<perm::OrganizationManage, MembershipsOf>;

/// Whose memberships are counted; the person alone is the key of their account.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct MembershipsOf(UserId);

impl Loader<MembersKey> for Batches {
    type Value = Page<organization_members::OrganizationMember>;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[MembersKey]) -> Result<HashMap<MembersKey, Self::Value>, Self::Error> {
        let mut pages = HashMap::with_capacity(keys.len());
        for ((filter, args), group) in grouped(keys, |key| key.what.clone()) {
            // A cursor is of one organization, so only first pages come in numbers.
            if group.len() == 1 || args.after.is_some() || args.before.is_some() {
                for key in group {
                    let page = organization_members::page(&self.0, &key.proof, &filter, &args).await?;
                    pages.insert(key.clone(), page);
                }
                continue;
            }
            let proofs: Vec<_> = group.iter().map(|key| key.proof.clone()).collect();
            let mut firsts = organization_members::first_of_each(&self.0, &proofs, &filter, &args).await?;
            for key in group {
                let page = firsts.remove(&key.place());
                pages.insert(key.clone(), page.unwrap_or_else(|| Page::cut(&args, Vec::new())));
            }
        }
        Ok(pages)
    }
}

impl Loader<NumberKey> for Batches {
    type Value = u64;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[NumberKey]) -> Result<HashMap<NumberKey, u64>, Self::Error> {
        let mut numbers = HashMap::with_capacity(keys.len());
        for (filter, group) in grouped(keys, |key| key.what.clone()) {
            let proofs: Vec<_> = group.iter().map(|key| key.proof.clone()).collect();
            let found = organization_members::number(&self.0, &proofs, &filter).await?;
            let found: HashMap<_, _> = found.into_iter().collect();
            let of = |key: &NumberKey| found.get(&key.place()).copied().unwrap_or(0);
            numbers.extend(group.into_iter().map(|key| (key.clone(), of(key))));
        }
        Ok(numbers)
    }
}

impl Loader<MembershipsKey> for Batches {
    type Value = Page<members::Member>;
    type Error = Arc<ReadError>;

    async fn load(
        &self,
        keys: &[MembershipsKey],
    ) -> Result<HashMap<MembershipsKey, Self::Value>, Self::Error> {
        let mut pages = HashMap::with_capacity(keys.len());
        for ((_, args), group) in grouped(keys, |key| (key.place(), key.what.1.clone())) {
            let Some(first) = group.first() else { continue };
            let users: Vec<_> = group.iter().map(|key| key.what.0).collect();
            let mut rows: HashMap<UserId, Vec<_>> = HashMap::new();
            let found = organization_members::memberships_of_each(&self.0, &first.proof, &users, &args);
            for row in found.await? {
                rows.entry(row.user.id).or_default().push(row);
            }
            for key in group {
                let rows = rows.remove(&key.what.0).unwrap_or_default();
                pages.insert(key.clone(), Page::cut(&args, rows));
            }
        }
        Ok(pages)
    }
}

impl Loader<MembershipNumberKey> for Batches {
    type Value = u64;
    type Error = Arc<ReadError>;

    async fn load(
        &self,
        keys: &[MembershipNumberKey],
    ) -> Result<HashMap<MembershipNumberKey, u64>, Self::Error> {
        let mut numbers = HashMap::with_capacity(keys.len());
        for group in grouped(keys, Scoped::place).into_values() {
            let Some(first) = group.first() else { continue };
            let users: Vec<_> = group.iter().map(|key| key.what.0).collect();
            let found = organization_members::number_of_memberships(&self.0, &first.proof, &users).await?;
            let found: HashMap<_, _> = found.into_iter().collect();
            let of = |key: &MembershipNumberKey| found.get(&key.what.0).copied().unwrap_or(0);
            numbers.extend(group.into_iter().map(|key| (key.clone(), of(key))));
        }
        Ok(numbers)
    }
}

pub(crate) struct OrganizationMembers {
    pub(crate) proof: Granted<perm::OrganizationManage>,
    pub(crate) filter: OrganizationMemberFilter,
    pub(crate) args: PageArgs<Position>,
}

impl OrganizationMembers {
    async fn page(&self, ctx: &Context<'_>) -> Result<Page<OrganizationMember>> {
        let what = (self.filter.clone(), self.args.clone());
        let page = loaders::load(ctx, Scoped { proof: self.proof.clone(), what }).await?;
        let page = page.unwrap_or_else(|| Page::cut(&self.args, Vec::new()));
        Ok(page.map(|row| OrganizationMember { proof: self.proof.clone(), row }))
    }

    async fn total(&self, ctx: &Context<'_>) -> Result<u64> {
        let key = Scoped { proof: self.proof.clone(), what: self.filter.clone() };
        Ok(loaders::load(ctx, key).await?.unwrap_or(0))
    }
}

connection! {
    /// A list of an organization's members.
    OrganizationMemberConnection, OrganizationMemberEdge, OrganizationMember, OrganizationMembers,
    "organizationMember", |member| Position::of(&member.row.user.display_name, member.row.user.id.uuid())
}

pub(crate) struct Memberships {
    proof: Granted<perm::OrganizationManage>,
    user: UserId,
    args: PageArgs<Uuid>,
}

impl Memberships {
    async fn page(&self, ctx: &Context<'_>) -> Result<Page<Member>> {
        let what = (self.user, self.args.clone());
        let page = loaders::load(ctx, Scoped { proof: self.proof.clone(), what }).await?;
        Ok(page.map_or_else(|| Page::cut(&self.args, Vec::new()), |page| page.map(Member)))
    }

    async fn total(&self, ctx: &Context<'_>) -> Result<u64> {
        let key = Scoped { proof: self.proof.clone(), what: MembershipsOf(self.user) };
        Ok(loaders::load(ctx, key).await?.unwrap_or(0))
    }
}

connection! {
    /// A list of somebody's memberships in an organization's workspaces.
    MembershipConnection, MembershipEdge, Member, Memberships, "membership", |member| member.0.id.uuid()
}

/// A member's new role in the organization.
#[derive(InputObject)]
pub struct UpdateOrganizationMemberInput {
    /// The organization.
    organization_id: ID,
    /// The person.
    user_id: ID,
    /// The new role: ADMIN or MEMBER. For OWNER there is `transferOwnership`.
    role: OrganizationRole,
}

payload! {
    /// Who was changed.
    UpdateOrganizationMemberPayload, UpdateOrganizationMemberError = UpdateOrganizationMemberCode {
        /// The member.
        member: OrganizationMember,
    }
}

/// Whom to remove from the organization.
#[derive(InputObject)]
pub struct RemoveOrganizationMemberInput {
    /// The organization.
    organization_id: ID,
    /// The person.
    user_id: ID,
}

payload! {
    /// Who was removed, and what they were in.
    RemoveOrganizationMemberPayload, RemoveOrganizationMemberError = RemoveOrganizationMemberCode {
        /// The place in the organization that has ended, as it was.
        member: OrganizationMember,
        /// The memberships of its workspaces that have ended, as they were: the oldest 100.
        ended_memberships: Vec<Member>,
        /// How many have ended in all.
        ended_membership_count: i32,
    }
}

/// Which organization to leave.
#[derive(InputObject)]
pub struct LeaveOrganizationInput {
    /// The organization.
    organization_id: ID,
}

payload! {
    /// What you left.
    LeaveOrganizationPayload, LeaveOrganizationError = LeaveOrganizationCode {
        /// Your memberships of its workspaces that have ended, as they were: the oldest 100.
        ended_memberships: Vec<Member>,
        /// How many have ended in all.
        ended_membership_count: i32,
        /// Your own view.
        viewer: Viewer,
    }
}

/// Whom to disable.
#[derive(InputObject)]
pub struct DisableUserInput {
    /// The organization.
    organization_id: ID,
    /// The person.
    user_id: ID,
}

payload! {
    /// Who was disabled.
    DisableUserPayload, DisableUserError = DisableUserCode {
        /// The member, disabled.
        member: OrganizationMember,
    }
}

/// Whom to enable.
#[derive(InputObject)]
pub struct EnableUserInput {
    /// The organization.
    organization_id: ID,
    /// The person.
    user_id: ID,
}

payload! {
    /// Who was enabled.
    EnableUserPayload, EnableUserError = EnableUserCode {
        /// The member, active again.
        member: OrganizationMember,
    }
}

/// Whom to sign out.
#[derive(InputObject)]
pub struct EndMemberSessionsInput {
    /// The organization.
    organization_id: ID,
    /// The person.
    user_id: ID,
}

payload! {
    /// Who was signed out.
    EndMemberSessionsPayload, EndMemberSessionsError = EndMemberSessionsCode {
        /// The member; none of their devices is signed in.
        member: OrganizationMember,
    }
}

fn read_user<C: RefusalCode>(id: &ID) -> Result<UserId, Refusals<C>> {
    let mut reader = InputReader::default();
    let user = reader.field("userId", input::id(id));
    reader.all(user)
}

fn member(
    proof: &Granted<perm::OrganizationManage>,
    row: organization_members::OrganizationMember,
) -> Option<OrganizationMember> {
    Some(OrganizationMember { proof: proof.clone(), row })
}

/// The part of the mutation root about an organization's members.
#[derive(Default)]
pub struct OrganizationMemberMutation;

#[Object]
impl OrganizationMemberMutation {
    /// Makes a member an admin of the organization, or an admin or owner a member, from the next request on. Only an owner
    /// changes an owner, and the last one stays.
    #[graphql(directive = authorize::apply("ORGANIZATION_MANAGE".to_owned()))]
    async fn update_organization_member(
        &self,
        ctx: &Context<'_>,
        input: UpdateOrganizationMemberInput,
    ) -> Result<UpdateOrganizationMemberPayload> {
        let proof = authorize_in_organization(ctx, Some(&input.organization_id)).await?;
        let outcome = async {
            let user = read_user(&input.user_id)?;
            organization_members::update_role(db(ctx), &proof, user, input.role.into()).await
        }
        .await;
        answer(ctx, outcome, |row| UpdateOrganizationMemberPayload {
            member: member(&proof, row),
            user_errors: Vec::new(),
        })
    }

    /// Ends somebody's membership of the organization and of every workspace in it. From the next request on they see
    /// nothing of it; their open subscriptions in it end, and so do the pending invitations that they sent or received in it.
    /// Their account stays. One may remove oneself.
    #[graphql(directive = authorize::apply("ORGANIZATION_MANAGE".to_owned()))]
    async fn remove_organization_member(
        &self,
        ctx: &Context<'_>,
        input: RemoveOrganizationMemberInput,
    ) -> Result<RemoveOrganizationMemberPayload> {
        let proof = authorize_in_organization(ctx, Some(&input.organization_id)).await?;
        let outcome =
            async { organization_members::remove(db(ctx), &proof, read_user(&input.user_id)?).await }.await;
        answer(ctx, outcome, |departed| RemoveOrganizationMemberPayload {
            member: member(&proof, departed.member),
            ended_membership_count: Some(i32::try_from(departed.memberships.len()).unwrap_or(i32::MAX)),
            ended_memberships: Some(departed.memberships.into_iter().take(100).map(Member).collect()),
            user_errors: Vec::new(),
        })
    }

    /// Ends your own membership of the organization and of every workspace in it.
    #[graphql(directive = authorize::apply("ORGANIZATION_VIEW".to_owned()))]
    async fn leave_organization(
        &self,
        ctx: &Context<'_>,
        input: LeaveOrganizationInput,
    ) -> Result<LeaveOrganizationPayload> {
        let proof = authorize_in_organization(ctx, Some(&input.organization_id)).await?;
        let outcome = organization_members::leave(db(ctx), &proof).await;
        let viewer = Viewer::new(signed_in(ctx).await?);
        answer(ctx, outcome, |departed| LeaveOrganizationPayload {
            ended_membership_count: Some(i32::try_from(departed.memberships.len()).unwrap_or(i32::MAX)),
            ended_memberships: Some(departed.memberships.into_iter().take(100).map(Member).collect()),
            viewer: Some(viewer),
            user_errors: Vec::new(),
        })
    }

    /// Takes every access in the organization from a member, at once, and signs them out everywhere. Nothing they have in it
    /// is lost. Other organizations of theirs are not touched: where they are active in one, they can sign in to that one.
    #[graphql(directive = authorize::apply("ORGANIZATION_MANAGE".to_owned()))]
    async fn disable_user(&self, ctx: &Context<'_>, input: DisableUserInput) -> Result<DisableUserPayload> {
        let proof = authorize_in_organization(ctx, Some(&input.organization_id)).await?;
        let outcome =
            async { organization_members::disable(db(ctx), &proof, read_user(&input.user_id)?).await }.await;
        answer(ctx, outcome, |row| DisableUserPayload {
            member: member(&proof, row),
            user_errors: Vec::new(),
        })
    }

    /// Signs a member out on every device, from the next request on; their open subscriptions end. They sign in again with
    /// their password, which nobody but they can read or set. Only an owner signs an owner out.
    #[graphql(directive = authorize::apply("ORGANIZATION_MANAGE".to_owned()))]
    async fn end_member_sessions(
        &self,
        ctx: &Context<'_>,
        input: EndMemberSessionsInput,
    ) -> Result<EndMemberSessionsPayload> {
        let proof = authorize_in_organization(ctx, Some(&input.organization_id)).await?;
        let outcome =
            async { organization_members::end_sessions(db(ctx), &proof, read_user(&input.user_id)?).await }
                .await;
        answer(ctx, outcome, |row| EndMemberSessionsPayload {
            member: member(&proof, row),
            user_errors: Vec::new(),
        })
    }

    /// Gives a disabled member everything in the organization back as it was.
    #[graphql(directive = authorize::apply("ORGANIZATION_MANAGE".to_owned()))]
    async fn enable_user(&self, ctx: &Context<'_>, input: EnableUserInput) -> Result<EnableUserPayload> {
        let proof = authorize_in_organization(ctx, Some(&input.organization_id)).await?;
        let outcome =
            async { organization_members::enable(db(ctx), &proof, read_user(&input.user_id)?).await }.await;
        answer(ctx, outcome, |row| EnableUserPayload { member: member(&proof, row), user_errors: Vec::new() })
    }
}
