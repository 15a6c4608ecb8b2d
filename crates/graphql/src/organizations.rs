//! Organizations in the schema. An `Organization` can be made only of a standing that grants `organization.view`, and
//! keeps it.

use async_graphql::{Context, Description, ID, InputObject, MaybeUndefined, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{
        Actor, Granted, OrganizationAccess, OrganizationPolicy as DomainPolicy,
        OrganizationRole as DomainRole, demands::grace, perm, policy,
    },
    activity::kept_days,
    organizations::{
        CreateOrganizationCode, UpdateOrganizationCode, UpdateOrganizationPolicyCode, api_key_lifetime,
        invitation_lifetime,
    },
    page::{Page, PageArgs},
    refusal::{FieldFault, InputReader, Refusal, RefusalCode},
    text::{DisplayName, SearchTerm},
};
use guildhall_persistence::{
    self as persistence, OpError, OrganizationStanding, Which,
    organization_members::OrganizationMemberFilter, organizations,
};
use uuid::Uuid;

use crate::{
    access::{Permission, permissions},
    accounts::throttle,
    activity::{LoginActivityConnection, LoginActivityFilter},
    audit::{AuditEventConnection, AuditLogFilter, Entries},
    authz::{
        self, authorize, authorize_in_organization, db, organization_by_slug, signed_in, signed_in_directive,
    },
    connection::{Order, Window, connection},
    error, input,
    invitations::InvitationStatus,
    loaders,
    organization_invitations::{OrganizationInvitationConnection, OrganizationInvitations},
    organization_members::{OrganizationMemberConnection, OrganizationMemberStatus, OrganizationMembers},
    ownership::{OwnershipTransfer, PendingKey},
    payload::{answer, payload},
    quotas::{self, Date, Metric, Quota, UsageDay},
    roles::{RoleConnection, Roles},
    schema::mirror,
    single_sign_on::{self, OrganizationDomain, SingleSignOn},
    workspaces::Workspace,
};

mirror! {
    /// What somebody is in an organization.
    enum OrganizationRole = DomainRole {
        /// May everything in it. There is always one.
        Owner,
        /// Manages its members and administers every workspace.
        Admin,
        /// Belongs to it.
        Member,
    }
}

mirror! {
    /// Who may create workspaces in the organization.
    enum WorkspaceCreation = policy::WorkspaceCreation {
        /// Admins of any workspace in it, and its admins.
        WorkspaceAdmins,
        /// Only its admins.
        OrganizationAdmins,
        /// Everybody who belongs to it.
        AnyMember,
    }
}

mirror! {
    /// Who may delete a workspace of the organization.
    enum WorkspaceDeletion = policy::WorkspaceDeletion {
        /// Only the organization's admins.
        OrganizationAdmins,
        /// The workspace's admins too.
        WorkspaceAdmins,
    }
}

mirror! {
    /// Who sees the members of a workspace.
    enum MemberListVisibility = policy::MemberListVisibility {
        /// All its members, as far as their role lets them.
        Members,
        /// Those who manage them.
        Admins,
    }
}

mirror! {
    /// Whether a credential lent to a workspace waits for its admin.
    enum ShareAcceptance = policy::ShareAcceptance {
        /// It can be used at once.
        NotRequired,
        /// An admin of the receiving workspace accepts it first.
        Required,
    }
}

/// What an organization decides for all its workspaces. Seen by everybody who belongs to it.
#[derive(SimpleObject)]
pub struct OrganizationPolicy {
    /// Who may create workspaces.
    workspace_creation: WorkspaceCreation,
    /// Who may delete a workspace.
    workspace_deletion: WorkspaceDeletion,
    /// Who sees the members of a workspace.
    member_list_visibility: MemberListVisibility,
    /// Whether a credential lent to a workspace waits for its admin.
    share_acceptance: ShareAcceptance,
    /// Whether secret values of credentials may be read by those who hold `CREDENTIAL_REVEAL`.
    allow_reveal: bool,
    /// How long an invitation can be answered, in hours; null: as long as the instance says.
    invitation_lifetime_hours: Option<i32>,
    /// The longest life of an API key, in days; null: keys need not expire.
    api_key_max_lifetime_days: Option<i32>,
    /// How long login activity is kept, in days.
    login_activity_days: i32,
    /// Whether everybody who belongs to the organization needs a second factor to get into it.
    require_two_factor: bool,
    /// How long people have to set one up, in hours, from when it was demanded or they joined, whichever is later.
    two_factor_grace_hours: i32,
}

impl From<DomainPolicy> for OrganizationPolicy {
    fn from(policy: DomainPolicy) -> Self {
        Self {
            workspace_creation: policy.workspace_creation.into(),
            workspace_deletion: policy.workspace_deletion.into(),
            member_list_visibility: policy.member_list_visibility.into(),
            share_acceptance: policy.share_acceptance.into(),
            allow_reveal: policy.allow_reveal,
            invitation_lifetime_hours: policy.invitation_lifetime_hours.map(Into::into),
            api_key_max_lifetime_days: policy.api_key_max_lifetime_days.map(Into::into),
            login_activity_days: policy.login_activity_days.into(),
            require_two_factor: policy.two_factor_required_since.is_some(),
            two_factor_grace_hours: policy.two_factor_grace_hours.into(),
        }
    }
}

/// An organization: it holds workspaces, and people belong to it. To whoever does not, it does not exist.
#[derive(Description)]
pub struct Organization {
    view: Granted<perm::OrganizationView>,
    row: persistence::Organization,
}

impl Organization {
    pub(crate) fn new(standing: OrganizationStanding) -> Result<Self> {
        Ok(Self { view: standing.access.grant().map_err(error::denied)?, row: standing.organization })
    }
}

#[Object(use_type_description)]
impl Organization {
    /// The organization's global id: what `createWorkspace` takes.
    pub(crate) async fn id(&self) -> ID {
        self.row.id.into()
    }
    /// The name in addresses: unique in the instance, never changed; lower-case letters, digits and single dashes.
    async fn slug(&self) -> &str {
        &self.row.slug
    }
    /// The name people read.
    async fn name(&self) -> &str {
        &self.row.name
    }
    /// When it was made.
    async fn created_at(&self) -> DateTime<Utc> {
        self.row.created_at
    }
    /// Your role in it.
    async fn viewer_role(&self) -> Result<OrganizationRole> {
        self.view.access().role().map(Into::into).ok_or_else(error::not_found)
    }
    /// When you need a second factor to get into it, where you have none; null where you have one, or it demands none. From
    /// then on you see of the organization only that it is there, its policy and its roles: everything else in it, and every
    /// workspace, answers `SECOND_FACTOR_REQUIRED` until you have set one up.
    async fn viewer_second_factor_due_at(&self) -> Option<DateTime<Utc>> {
        let access = self.view.access();
        let arrival = access.arrival().filter(|arrival| !arrival.has_second_factor)?;
        access.policy().second_factor_due(arrival.joined_at)
    }
    /// What it decides for all its workspaces.
    async fn policy(&self) -> OrganizationPolicy {
        (*self.view.access().policy()).into()
    }
    /// The roles that its workspaces can give: the system's first, then its own by age.
    #[graphql(complexity = "crate::connection::cost(first, last, child_complexity)")]
    async fn roles(
        &self,
        #[graphql(
            desc = "How many items from the start, 1 to 100; 25 when neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many items from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Result<RoleConnection> {
        let args = Window { first, after, last, before }.read(RoleConnection::LIST)?;
        Ok(RoleConnection::new(Roles { view: self.view.clone(), args }))
    }
    /// The invitations to the organization itself, the newest last. Needs `ORGANIZATION_MANAGE`; null with a `FORBIDDEN`
    /// error without it.
    #[graphql(complexity = "crate::connection::cost(first, last, child_complexity)")]
    async fn invitations(
        &self,
        #[graphql(desc = "Only invitations in one of these statuses.")] status: Option<Vec<InvitationStatus>>,
        #[graphql(
            desc = "How many items from the start, 1 to 100; 25 when neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many items from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Option<Result<OrganizationInvitationConnection>> {
        let window = Window { first, after, last, before };
        Some(self.invitations_of(status.unwrap_or_default(), &window))
    }
    /// Who signed in, signed out or was turned away, the newest first: of the people who belonged to it at the time. Kept as
    /// long as the policy says. Needs `ORGANIZATION_MANAGE`; null with a `FORBIDDEN` error without it.
    #[graphql(complexity = "crate::connection::cost(first, last, child_complexity)")]
    async fn login_activity(
        &self,
        #[graphql(desc = "Which of it; all of it by default.")] filter: Option<LoginActivityFilter>,
        #[graphql(
            desc = "How many items from the start, 1 to 100; 25 when neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many items from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Option<Result<LoginActivityConnection>> {
        let window = Window { first, after, last, before };
        let proof = self.view.access().grant().map_err(error::denied);
        Some(proof.and_then(|proof| LoginActivityConnection::of(proof, filter.unwrap_or_default(), &window)))
    }
    /// Everything you may do in the organization itself, as long as it demands nothing of you first. What you may do in a
    /// workspace of it, the workspace says.
    async fn viewer_permissions(&self) -> Vec<Permission> {
        permissions(self.view.access().permissions())
    }

    /// The pending transfer of its ownership; null when there is none, or you are neither an owner nor the one who is asked.
    async fn ownership_transfer(&self, ctx: &Context<'_>) -> Option<Result<OwnershipTransfer>> {
        let found = loaders::load(ctx, PendingKey(self.view.clone())).await;
        found.map(|found| found.map(OwnershipTransfer)).transpose()
    }

    /// Who did what in the organization and its workspaces, the newest first: every mutation that changed something, and what an
    /// operator did. What a person changes of their own account, and their sessions, are not in it. Needs `ORGANIZATION_MANAGE`;
    /// null with a `FORBIDDEN` error without it.
    #[graphql(complexity = "crate::connection::cost(first, last, child_complexity)")]
    async fn audit_log(
        &self,
        #[graphql(desc = "Only such entries.")] filter: Option<AuditLogFilter>,
        #[graphql(
            desc = "How many items from the start, 1 to 100; 25 when neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many items from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Option<Result<AuditEventConnection>> {
        let window = Window { first, after, last, before };
        Some(Entries::of_organization(self.view.access(), filter, &window))
    }

    /// How much of everything there may be in the whole organization, and how much there is. Needs `ORGANIZATION_MANAGE`; null
    /// with a `FORBIDDEN` error without it.
    #[graphql(complexity = "10 + 6 * child_complexity")]
    async fn quotas(&self, ctx: &Context<'_>) -> Option<Result<Vec<Quota>>> {
        let quotas = async {
            let proof = self.view.access().grant().map_err(error::denied)?;
            let quotas = persistence::quotas::of_organization(db(ctx), &proof).await;
            Ok(quotas.map_err(|fault| error::read(ctx, fault))?.into_iter().map(Into::into).collect())
        };
        Some(quotas.await)
    }

    /// What the organization used on each day of a time, or had at its end, as `Query.usage` tells of a workspace. Needs
    /// `ORGANIZATION_MANAGE`; null with a `FORBIDDEN` error without it.
    #[graphql(complexity = "10 + 20 * child_complexity")]
    async fn usage(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Of what.")] metric: Metric,
        #[graphql(desc = "The first day.")] from: Date,
        #[graphql(desc = "The last day: not before `from`, and at most 365 days after it.")] to: Date,
    ) -> Option<Result<Vec<UsageDay>>> {
        let usage = async {
            let proof = self.view.access().grant().map_err(error::denied)?;
            let metric = metric.into();
            let days = quotas::days(metric, &from, &to, db(ctx).now(), false)?;
            let used = persistence::quotas::organization_usage(db(ctx), &proof, metric, &days).await;
            Ok(quotas::charted(days, used.map_err(|fault| error::read(ctx, fault))?))
        };
        Some(usage.await)
    }

    /// The identity provider by which people sign in to it; null when there is none. Needs `ORGANIZATION_MANAGE`; null with a
    /// `FORBIDDEN` error without it.
    async fn single_sign_on(&self, ctx: &Context<'_>) -> Option<Result<SingleSignOn>> {
        match self.view.access().grant() {
            Ok(proof) => single_sign_on::of(ctx, proof).await.transpose(),
            Err(denied) => Some(Err(error::denied(denied))),
        }
    }

    /// The domains of mail addresses that are its own, or are to be verified as such, by name; at most 20. Needs
    /// `ORGANIZATION_MANAGE`; null with a `FORBIDDEN` error without it.
    #[graphql(complexity = "5 * child_complexity")]
    async fn domains(&self, ctx: &Context<'_>) -> Option<Result<Vec<OrganizationDomain>>> {
        match self.view.access().grant() {
            Ok(proof) => Some(single_sign_on::domains(ctx, proof).await),
            Err(denied) => Some(Err(error::denied(denied))),
        }
    }

    /// The people who belong to it, by the age of their accounts. Needs `ORGANIZATION_MANAGE`; null with a `FORBIDDEN` error
    /// without it.
    #[graphql(complexity = "crate::connection::cost(first, last, child_complexity)")]
    #[expect(clippy::too_many_arguments, reason = "the arguments of a GraphQL field")]
    async fn members(
        &self,
        #[graphql(desc = "Part of a name or e-mail address, in any case; at most 100 characters.")]
        search: Option<String>,
        #[graphql(desc = "Only members with this role.")] role: Option<OrganizationRole>,
        #[graphql(desc = "Only members with this status.")] status: Option<OrganizationMemberStatus>,
        #[graphql(desc = "How they are sorted; when absent, by the age of their accounts.")] order_by: Option<
            Order,
        >,
        #[graphql(
            desc = "How many items from the start, 1 to 100; 25 when neither `first` nor `last` is given."
        )]
        first: Option<i32>,
        #[graphql(desc = "Only items after this cursor.")] after: Option<String>,
        #[graphql(desc = "How many items from the end, 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only items before this cursor.")] before: Option<String>,
    ) -> Option<Result<OrganizationMemberConnection>> {
        let window = Window { first, after, last, before };
        Some(self.members_of(search.as_deref(), role, status, order_by, &window))
    }
}

impl Organization {
    fn members_of(
        &self,
        search: Option<&str>,
        role: Option<OrganizationRole>,
        status: Option<OrganizationMemberStatus>,
        order: Option<Order>,
        window: &Window,
    ) -> Result<OrganizationMemberConnection> {
        let proof = self.view.access().grant().map_err(error::denied)?;
        let search = search
            .map(SearchTerm::parse_optional)
            .transpose()
            .map_err(|fault| error::bad_input(format!("`search` {}.", fault.message())))?
            .flatten();
        let filter = OrganizationMemberFilter {
            search,
            role: role.map(Into::into),
            status: status.map(Into::into),
            order: Order::read(order),
        };
        let args = window.read(OrganizationMemberConnection::LIST)?;
        Ok(OrganizationMemberConnection::new(OrganizationMembers { proof, filter, args }))
    }

    fn invitations_of(
        &self,
        status: Vec<InvitationStatus>,
        window: &Window,
    ) -> Result<OrganizationInvitationConnection> {
        let proof = self.view.access().grant().map_err(error::denied)?;
        let args = window.read(OrganizationInvitationConnection::LIST)?;
        let statuses = input::distinct([status]);
        Ok(OrganizationInvitationConnection::new(OrganizationInvitations { proof, statuses, args }))
    }
}

pub(crate) struct Organizations {
    pub(crate) actor: Actor,
    pub(crate) args: PageArgs<Uuid>,
}

impl Organizations {
    async fn page(&self, ctx: &Context<'_>) -> Result<Page<Organization>> {
        let page = db(ctx).organization_standings(self.actor, &self.args).await;
        let page = page.map_err(|fault| error::read(ctx, fault))?;
        let (has_previous, has_next) = (page.has_previous, page.has_next);
        let items = page.items.into_iter().map(Organization::new).collect::<Result<_>>()?;
        Ok(Page { items, has_previous, has_next })
    }

    async fn total(&self, ctx: &Context<'_>) -> Result<u64> {
        db(ctx).count_organization_standings(self.actor).await.map_err(|fault| error::read(ctx, fault))
    }
}

connection! {
    /// A list of organizations.
    OrganizationConnection, OrganizationEdge, Organization, Organizations, "organization",
    |organization| organization.row.id.uuid()
}

/// The organization part of the query root.
#[derive(Default)]
pub struct OrganizationQuery;

#[Object]
impl OrganizationQuery {
    /// The organization of that slug; null when there is none or you do not belong to it.
    #[graphql(directive = authorize::apply("ORGANIZATION_VIEW".to_owned()))]
    async fn organization(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The name in addresses.")] slug: String,
    ) -> Option<Result<Organization>> {
        match organization_by_slug(ctx, &slug).await {
            Ok(standing) => Some(Organization::new(standing)),
            Err(fault) if error::is_not_found(&fault) => None,
            Err(fault) => Some(Err(fault)),
        }
    }
}

/// An organization to make.
#[derive(InputObject)]
pub struct CreateOrganizationInput {
    /// The name people read; 1 to 80 characters. Its slug is made of it.
    name: String,
}

payload! {
    /// The organization that was made.
    CreateOrganizationPayload, CreateOrganizationError = CreateOrganizationCode {
        /// The organization; you are its owner.
        organization: Organization,
        /// Its default workspace; you are its Admin.
        workspace: Workspace,
    }
}

/// What to change of an organization. Fields that are absent stay as they are.
#[derive(InputObject)]
pub struct UpdateOrganizationInput {
    /// The organization.
    organization_id: ID,
    /// The name people read; 1 to 80 characters.
    name: MaybeUndefined<String>,
}

payload! {
    /// The organization that was changed.
    UpdateOrganizationPayload, UpdateOrganizationError = UpdateOrganizationCode {
        /// The organization.
        organization: Organization,
    }
}

/// Which switches to set. Those that are absent stay as they are.
#[derive(InputObject)]
pub struct UpdateOrganizationPolicyInput {
    /// The organization.
    organization_id: ID,
    /// Who may create workspaces.
    workspace_creation: Option<WorkspaceCreation>,
    /// Who may delete a workspace.
    workspace_deletion: Option<WorkspaceDeletion>,
    /// Who sees the members of a workspace.
    member_list_visibility: Option<MemberListVisibility>,
    /// Whether a credential lent to a workspace waits for its admin.
    share_acceptance: Option<ShareAcceptance>,
    /// Whether secret values of credentials may be read by those who hold `CREDENTIAL_REVEAL`.
    allow_reveal: Option<bool>,
    /// How long an invitation can be answered, in hours: 1 to 2160; null: as long as the instance says. Invitations sent
    /// before keep their time.
    invitation_lifetime_hours: MaybeUndefined<i32>,
    /// The longest life of an API key, in days: 1 to 3650; null: keys need not expire.
    api_key_max_lifetime_days: MaybeUndefined<i32>,
    /// How long login activity is kept, in days: 1 to 3650. What is older is gone for good soon after.
    login_activity_days: Option<i32>,
    /// Whether everybody who belongs to the organization needs a second factor to get into it. You need one yourself to switch
    /// it on.
    require_two_factor: Option<bool>,
    /// How long people have to set one up, in hours: 0 to 720. It counts from when it is demanded, or from when they join.
    two_factor_grace_hours: Option<i32>,
}

payload! {
    /// The organization whose policy was changed.
    UpdateOrganizationPolicyPayload, UpdateOrganizationPolicyError = UpdateOrganizationPolicyCode {
        /// The organization, with its policy as it is from now on.
        organization: Organization,
    }
}

/// The organization part of the mutation root.
#[derive(Default)]
pub struct OrganizationMutation;

#[Object]
impl OrganizationMutation {
    /// Makes an organization that you own, with a default workspace. Whether everybody may is the instance's
    /// configuration; where only its operators do, `OPERATOR_ONLY` is the answer.
    #[graphql(directive = signed_in_directive::apply())]
    async fn create_organization(
        &self,
        ctx: &Context<'_>,
        input: CreateOrganizationInput,
    ) -> Result<CreateOrganizationPayload> {
        let proof = signed_in(ctx).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let name = reader.field("name", DisplayName::parse(&input.name));
            let name = reader.all(name)?;
            throttle(ctx)
                .organization(&proof.user().to_string())
                .map_err(|wait| Refusal::new(CreateOrganizationCode::RateLimited, wait))?;
            organizations::create(db(ctx), &proof, &name).await
        }
        .await;
        let made = match outcome {
            Ok(made) => made,
            Err(error) => return answer(ctx, Err::<CreateOrganizationPayload, _>(error), |payload| payload),
        };
        let standing = db(ctx).organization_standing(proof.actor(), Which::Id(made.id)).await;
        let standing = standing.map_err(|fault| error::read(ctx, fault))?;
        Ok(CreateOrganizationPayload {
            organization: Some(Organization::new(standing)?),
            workspace: Some(Workspace::new(authz::standing(ctx, made.workspace.id).await?)?),
            user_errors: Vec::new(),
        })
    }

    /// Gives an organization another name. Its slug stays.
    #[graphql(directive = authorize::apply("ORGANIZATION_MANAGE".to_owned()))]
    async fn update_organization(
        &self,
        ctx: &Context<'_>,
        input: UpdateOrganizationInput,
    ) -> Result<UpdateOrganizationPayload> {
        let proof = authorize_in_organization(ctx, Some(&input.organization_id)).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let name = input.name.as_opt_ref().map(|name| name.map(|name| DisplayName::parse(name)));
            let name = reader.kept("name", name);
            reader.finish()?;
            organizations::update(db(ctx), &proof, name).await
        }
        .await;
        let organization = changed(ctx, proof.access(), &outcome).await?;
        answer(ctx, outcome, |()| UpdateOrganizationPayload { organization, user_errors: Vec::new() })
    }

    /// Sets switches of an organization's policy. They decide from the next request of everybody on; nothing that was
    /// made before is undone. `SECOND_FACTOR_REQUIRED` where you would demand a second factor and have none.
    #[graphql(directive = authorize::apply("ORGANIZATION_GOVERN".to_owned()))]
    async fn update_organization_policy(
        &self,
        ctx: &Context<'_>,
        input: UpdateOrganizationPolicyInput,
    ) -> Result<UpdateOrganizationPolicyPayload> {
        let proof = authorize_in_organization(ctx, Some(&input.organization_id)).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let hours = clearable(
                &mut reader,
                "invitationLifetimeHours",
                input.invitation_lifetime_hours,
                invitation_lifetime,
            );
            let days = clearable(
                &mut reader,
                "apiKeyMaxLifetimeDays",
                input.api_key_max_lifetime_days,
                api_key_lifetime,
            );
            let kept = input.login_activity_days.map(kept_days);
            let kept = reader.optional("loginActivityDays", kept).flatten();
            let grace_hours = reader.optional("twoFactorGraceHours", input.two_factor_grace_hours.map(grace));
            reader.finish()?;
            organizations::update_policy(db(ctx), &proof, input.require_two_factor, |policy| {
                set(&mut policy.workspace_creation, input.workspace_creation.map(Into::into));
                set(&mut policy.workspace_deletion, input.workspace_deletion.map(Into::into));
                set(&mut policy.member_list_visibility, input.member_list_visibility.map(Into::into));
                set(&mut policy.share_acceptance, input.share_acceptance.map(Into::into));
                set(&mut policy.allow_reveal, input.allow_reveal);
                set(&mut policy.invitation_lifetime_hours, hours);
                set(&mut policy.api_key_max_lifetime_days, days);
                set(&mut policy.login_activity_days, kept);
                set(&mut policy.two_factor_grace_hours, grace_hours.flatten());
            })
            .await
        }
        .await;
        let organization = changed(ctx, proof.access(), &outcome).await?;
        answer(ctx, outcome, |()| UpdateOrganizationPolicyPayload { organization, user_errors: Vec::new() })
    }
}

fn set<T>(switch: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *switch = value;
    }
}

/// A number that null clears; `None` where it is absent or was refused.
fn clearable<C: RefusalCode>(
    reader: &mut InputReader<C>,
    field: &'static str,
    value: MaybeUndefined<i32>,
    parse: fn(i32) -> Result<u16, FieldFault>,
) -> Option<Option<u16>> {
    match value {
        MaybeUndefined::Undefined => None,
        MaybeUndefined::Null => Some(None),
        MaybeUndefined::Value(number) => reader.field(field, parse(number)).map(Some),
    }
}

/// The organization after a change, with the caller's rights as they are then.
async fn changed<T, C>(
    ctx: &Context<'_>,
    access: &OrganizationAccess,
    outcome: &Result<T, OpError<C>>,
) -> Result<Option<Organization>> {
    if outcome.is_err() {
        return Ok(None);
    }
    let standing = db(ctx).organization_standing(access.actor(), Which::Id(access.organization())).await;
    Ok(Some(Organization::new(standing.map_err(|fault| error::read(ctx, fault))?)?))
}
