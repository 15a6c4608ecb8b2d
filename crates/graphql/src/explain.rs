//! Explanations of rights in the schema: the verdict of the guards, and why it is what it is.

use async_graphql::{Context, Description, Enum, ID, Object, Result};
use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{SystemRole, explain as domain, perm, role},
    ids::UserId,
};
use guildhall_persistence::explain;

use crate::{
    access::{AccessSource, Permission, Role, permissions},
    authz::{authorize, authorize_in, db, grant},
    error,
    organizations::OrganizationRole,
    schema::mirror,
};

mirror! {
    /// Which rule decided whether somebody may do something.
    enum AccessRule = domain::AccessRule {
        /// Allowed: the role of the membership holds the permission.
        RoleHolds,
        /// Allowed: an admin or owner of the organization is an Admin of every workspace in it.
        OrganizationAdmin,
        /// Allowed: the role in the organization holds the permission.
        OrganizationRoleHolds,
        /// Allowed, and only as the organization's policy is set: `policySwitch` says which switch.
        PolicyAllows,
        /// Not allowed: the role of the membership does not hold the permission.
        RoleLacks,
        /// Not allowed: the role of the membership does not hold `WORKSPACE_VIEW`, without which the rest opens nothing.
        RoleLacksView,
        /// Not allowed: the role in the organization does not hold the permission.
        OrganizationRoleLacks,
        /// Not allowed as the organization's policy is set: `policySwitch` says which switch.
        PolicyForbids,
        /// Not allowed: there is no membership of the workspace.
        NotAMember,
        /// Not allowed: the membership of the workspace has expired.
        MembershipExpired,
        /// Not allowed: the membership of the organization is disabled.
        MembershipDisabled,
        /// Not allowed: the account is disabled.
        AccountDisabled,
        /// Not allowed: the workspace is archived, and so read-only. It would be allowed in the workspace in use.
        WorkspaceArchived,
        /// Not allowed: the organization demands a second factor, and the account has none. It would be allowed with one.
        SecondFactorMissing,
    }
}

mirror! {
    /// A switch of an organization's policy that decides about a permission.
    enum PolicySwitch = domain::PolicySwitch {
        /// Who may create workspaces: `ORGANIZATION_ADMINS`, `WORKSPACE_ADMINS` or `ANY_MEMBER`.
        WorkspaceCreation,
        /// Who may delete a workspace: `ORGANIZATION_ADMINS` or `WORKSPACE_ADMINS`.
        WorkspaceDeletion,
        /// Who sees a workspace's members: `ADMINS` or `MEMBERS`.
        MemberListVisibility,
        /// Whether secret values may be read: `false` or `true`.
        AllowReveal,
    }
}

/// What was given to a person, and gives them rights in a workspace.
#[derive(Description)]
pub struct AccessGrant(domain::Grant);

#[Object(use_type_description)]
impl AccessGrant {
    /// Whether it is a membership of the workspace or a role in the organization.
    async fn source(&self) -> AccessSource {
        match self.0 {
            domain::Grant::Membership { .. } => AccessSource::Membership,
            domain::Grant::Organization(_) => AccessSource::Organization,
        }
    }
    /// The role that it gives in the workspace: Admin for an admin or owner of the organization, null for somebody who
    /// merely belongs to it.
    async fn role(&self) -> Option<Role> {
        match &self.0 {
            domain::Grant::Membership { role, .. } => Some(Role(role.clone())),
            domain::Grant::Organization(role) => (*role >= guildhall_domain::access::OrganizationRole::Admin)
                .then(|| Role(SystemRole::Admin.into())),
        }
    }
    /// The role in the organization; null for a membership of the workspace.
    async fn organization_role(&self) -> Option<OrganizationRole> {
        match self.0 {
            domain::Grant::Membership { .. } => None,
            domain::Grant::Organization(role) => Some(role.into()),
        }
    }
    /// When it ends, or ended, by itself; null: never.
    async fn expires_at(&self) -> Option<DateTime<Utc>> {
        match self.0 {
            domain::Grant::Membership { expires_at, .. } => expires_at,
            domain::Grant::Organization(_) => None,
        }
    }
}

/// What a step of a change does.
#[derive(Enum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessStepKind {
    /// Enable the account.
    EnableAccount,
    /// Enable the membership of the organization.
    EnableInOrganization,
    /// Disable the membership of the organization.
    DisableInOrganization,
    /// Give `organizationRole` in the organization.
    SetOrganizationRole,
    /// Invite to the workspace with `role`.
    Invite,
    /// Give the member `role`.
    GiveRole,
    /// Put `permissions` into `role`, which the member has.
    AddToRole,
    /// Take `permissions` out of `role`, which the member has.
    TakeFromRole,
    /// Renew the membership, which has run out, by inviting the person again.
    RenewMembership,
    /// Remove the member from the workspace.
    EndMembership,
    /// Set `policySwitch` of the organization's policy to `policyValue`.
    SetPolicy,
    /// Restore the workspace, which is archived.
    RestoreWorkspace,
    /// Set a second factor up, which only the person can do.
    SetUpSecondFactor,
}

/// One thing to do that is part of a change.
#[derive(Description)]
pub struct AccessStep(domain::Step);

impl AccessStep {
    fn named_role(&self) -> Option<&role::Role> {
        use domain::Step;
        match &self.0 {
            Step::Invite(role)
            | Step::GiveRole(role)
            | Step::AddToRole(role, _)
            | Step::TakeFromRole(role, _) => Some(role),
            _ => None,
        }
    }

    fn setting(&self) -> Option<domain::Setting> {
        match self.0 {
            domain::Step::SetPolicy(setting) => Some(setting),
            _ => None,
        }
    }
}

#[Object(use_type_description)]
impl AccessStep {
    /// What it does.
    async fn kind(&self) -> AccessStepKind {
        use domain::Step;
        match self.0 {
            Step::EnableAccount => AccessStepKind::EnableAccount,
            Step::EnableInOrganization => AccessStepKind::EnableInOrganization,
            Step::DisableInOrganization => AccessStepKind::DisableInOrganization,
            Step::SetOrganizationRole(_) => AccessStepKind::SetOrganizationRole,
            Step::Invite(_) => AccessStepKind::Invite,
            Step::GiveRole(_) => AccessStepKind::GiveRole,
            Step::AddToRole(..) => AccessStepKind::AddToRole,
            Step::TakeFromRole(..) => AccessStepKind::TakeFromRole,
            Step::RenewMembership => AccessStepKind::RenewMembership,
            Step::EndMembership => AccessStepKind::EndMembership,
            Step::SetPolicy(_) => AccessStepKind::SetPolicy,
            Step::RestoreWorkspace => AccessStepKind::RestoreWorkspace,
            Step::SetUpSecondFactor => AccessStepKind::SetUpSecondFactor,
        }
    }
    /// What to do, as an English sentence.
    async fn message(&self) -> String {
        self.0.message()
    }
    /// The role in the workspace that it is about.
    async fn role(&self) -> Option<Role> {
        self.named_role().cloned().map(Role)
    }
    /// The permissions put into the role or taken out of it; empty for other steps.
    async fn permissions(&self) -> Vec<Permission> {
        match self.0 {
            domain::Step::AddToRole(_, set) | domain::Step::TakeFromRole(_, set) => permissions(set),
            _ => Vec::new(),
        }
    }
    /// The role in the organization that it gives.
    async fn organization_role(&self) -> Option<OrganizationRole> {
        match self.0 {
            domain::Step::SetOrganizationRole(role) => Some(role.into()),
            _ => None,
        }
    }
    /// The switch of the organization's policy that it sets.
    async fn policy_switch(&self) -> Option<PolicySwitch> {
        self.setting().map(|setting| setting.switch().into())
    }
    /// What it sets the switch to.
    async fn policy_value(&self) -> Option<&str> {
        self.setting().map(domain::Setting::value)
    }
}

/// Steps that together turn a verdict round; none of them could be left out. Whether you may take them, and whether
/// another rule refuses them, the operation itself says.
#[derive(Description)]
pub struct AccessChange(domain::Change);

#[Object(use_type_description)]
impl AccessChange {
    /// The steps, at least one.
    async fn steps(&self) -> Vec<AccessStep> {
        self.0.steps.iter().cloned().map(AccessStep).collect()
    }
}

/// Whether somebody may do something, and why.
#[derive(Description)]
pub struct AccessExplanation(domain::Explanation);

#[Object(use_type_description)]
impl AccessExplanation {
    /// What was asked for.
    async fn permission(&self) -> Permission {
        Permission(self.0.permission)
    }
    /// Whether they may: what `can` of the workspace, or `viewerPermissions` of the organization, tells themselves.
    async fn is_allowed(&self) -> bool {
        self.0.is_allowed
    }
    /// Which rule decided.
    async fn rule(&self) -> AccessRule {
        self.0.rule.into()
    }
    /// The switch of the organization's policy, where that decided.
    async fn policy_switch(&self) -> Option<PolicySwitch> {
        self.0.setting.map(|setting| setting.switch().into())
    }
    /// How that switch is set.
    async fn policy_value(&self) -> Option<&str> {
        self.0.setting.map(domain::Setting::value)
    }
    /// Why, as an English sentence.
    async fn message(&self) -> &str {
        &self.0.message
    }
    /// The grant that gives the permission, or the one that falls short; null where there is none that could act.
    async fn grant(&self) -> Option<AccessGrant> {
        self.0.grant.clone().map(AccessGrant)
    }
    /// What would turn the verdict round: each of these by itself, those of the fewest steps first.
    async fn changes(&self) -> Vec<AccessChange> {
        self.0.changes.iter().cloned().map(AccessChange).collect()
    }
}

/// The part of the query root that explains rights.
#[derive(Default)]
pub struct ExplainQuery;

#[Object]
impl ExplainQuery {
    /// Whether somebody may do something in a workspace or, for a permission of that scope, in its organization: by the
    /// same rules that guard every operation, with the one that decided. About somebody else it needs `MEMBERS_VIEW`,
    /// and `ORGANIZATION_MANAGE` for permissions of the organization. `NOT_FOUND` for whoever is no member of the
    /// workspace, unless you manage the organization and they belong to it. Those who manage members may also ask about
    /// memberships that have expired, and hear who lacks a second factor that the organization demands: to all others it is
    /// explained as if everybody else had one.
    #[graphql(directive = authorize::apply("WORKSPACE_VIEW".to_owned()))]
    async fn explain_access(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The workspace.")] workspace_id: ID,
        #[graphql(desc = "Who; when absent, you.")] user_id: Option<ID>,
        #[graphql(desc = "What they would like to do.")] permission: Permission,
    ) -> Result<AccessExplanation> {
        let view = authorize_in::<perm::WorkspaceView>(ctx, &workspace_id).await?;
        let own = view.access().actor().person();
        // A text that is no id names nobody.
        let user = user_id.as_ref().map(|id| id.parse::<UserId>().ok());
        let explained = if user.is_none_or(|user| user.is_some() && user == own) {
            explain::own(db(ctx), &view, permission.0).await
        } else {
            let members = grant::<perm::MembersView>(view.access())?;
            match user.flatten() {
                Some(user) => explain::of(db(ctx), &members, user, permission.0).await,
                None => Ok(None),
            }
        };
        let explained = explained.map_err(|fault| error::read(ctx, fault))?;
        explained.map(AccessExplanation).ok_or_else(error::not_found)
    }
}
