//! Why a person may or may not do something, and what would change that. Says nothing of its own: it names which of the
//! rules in `policy.rs` decided, and tries every change on the facts before it names one.

use std::cmp::Reverse;

use chrono::{DateTime, Utc};

use super::{
    catalog::{Permission, Scope},
    demands::Arrival,
    policy::{
        MemberListVisibility, OrganizationPolicy, OrganizationRole, WorkspaceCreation, WorkspaceDeletion,
    },
    proof::{Denied, WorkspaceAccess},
    role::{PermissionSet, Role, SystemRole},
};

/// What is known of the place in a workspace of somebody who belongs to its organization, whether or not they may use it.
#[derive(Clone, Debug)]
pub struct PersonFacts {
    /// The organization's policy.
    pub policy: OrganizationPolicy,
    /// Whether the account is in use, rather than disabled.
    pub has_active_account: bool,
    /// The role in the organization.
    pub organization_role: OrganizationRole,
    /// Whether the membership of the organization is active, rather than disabled.
    pub is_active_in_organization: bool,
    /// The membership of the workspace, even after it has expired.
    pub membership: Option<MembershipFacts>,
    /// Whether they are an admin of any workspace in the organization.
    pub administers_a_workspace: bool,
    /// Whether the workspace is archived.
    pub is_archived: bool,
    /// How they come into the organization: where it is by its provider alone, by that.
    pub arrival: Arrival,
    /// The moment that is asked about.
    pub at: DateTime<Utc>,
}

/// What is known of a membership.
#[derive(Clone, Debug)]
pub struct MembershipFacts {
    /// The role.
    pub role: Role,
    /// When it ends by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// Whether that was before now.
    pub has_expired: bool,
}

impl PersonFacts {
    fn is_active(&self) -> bool {
        self.has_active_account && self.is_active_in_organization
    }

    fn acting_organization_role(&self) -> Option<OrganizationRole> {
        self.is_active().then_some(self.organization_role)
    }

    fn acting_role(&self) -> Option<&Role> {
        let membership = self.membership.as_ref()?;
        (self.is_active() && !membership.has_expired).then_some(&membership.role)
    }

    /// Whether they have done what the organization demands of whoever comes in.
    fn meets_demands(&self) -> bool {
        self.policy.unmet(Some(self.arrival), self.at).is_none()
    }

    /// Everything they can do in the workspace: nothing where it does not exist for them or something else is demanded first,
    /// and nothing that changes it while it is archived.
    pub fn in_workspace(&self) -> PermissionSet {
        if !self.meets_demands() {
            return PermissionSet::EMPTY;
        }
        let role = self.acting_role().map(|role| role.permissions);
        let held = self.policy.in_workspace(role, self.acting_organization_role());
        match held.holds(Permission::WorkspaceView) {
            false => PermissionSet::EMPTY,
            true if self.is_archived => held.in_archive(),
            true => held,
        }
    }

    /// Everything they may do in the organization.
    pub fn in_organization(&self) -> PermissionSet {
        let administers = self.administers_a_workspace || self.acting_role().is_some_and(Role::administers);
        let held = self.policy.in_organization(self.acting_organization_role(), administers);
        match self.meets_demands() {
            true => held,
            false => held.intersection(PermissionSet::EMPTY.with(Permission::OrganizationView)),
        }
    }

    fn may(&self, permission: Permission) -> bool {
        match permission.scope() {
            Scope::Workspace => self.in_workspace().holds(permission),
            Scope::Organization => self.in_organization().holds(permission),
        }
    }

    /// The same person with another role in the workspace.
    pub fn with_role(&self, role: Role) -> Self {
        self.after(&[Step::GiveRole(role)])
    }

    /// The same person after those steps.
    pub fn after(&self, steps: &[Step]) -> Self {
        let mut facts = self.clone();
        for step in steps {
            step.apply(&mut facts);
        }
        facts
    }
}

/// Whether somebody who sees the workspace's members may ask about that permission of another: what concerns the
/// organization tells of workspaces that the asker may know nothing of, and is for those who manage it.
pub fn may_ask(asker: &WorkspaceAccess, permission: Permission) -> Result<(), Denied> {
    match permission.scope() {
        Scope::Organization if !manages(asker) => Err(Denied::Forbidden(Permission::OrganizationManage)),
        _ => Ok(()),
    }
}

/// What somebody who sees the workspace's members may hear about another person; `None`: nothing. They hear of a member, and
/// those who manage the organization of anybody in it. One whose membership has expired, or who is disabled, is seen by
/// those who manage members. So is that somebody has no second factor: others hear of them as if they had one, since they
/// see them among the members, and hearing nothing would tell it as well.
pub fn heard_by(asker: &WorkspaceAccess, person: PersonFacts) -> Option<PersonFacts> {
    if manages(asker) {
        return Some(person);
    }
    let membership = person.membership.as_ref()?;
    if asker.permissions().holds(Permission::MembersManage) {
        return Some(person);
    }
    let is_here = !membership.has_expired && person.has_active_account && person.is_active_in_organization;
    is_here.then(|| person.after(&[Step::SetUpSecondFactor]))
}

fn manages(asker: &WorkspaceAccess) -> bool {
    asker.organization_role().is_some_and(|role| role >= OrganizationRole::Admin)
}

/// Which rule decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccessRule {
    /// The role of the membership holds the permission.
    RoleHolds,
    /// An admin of the organization is an Admin of every workspace in it.
    OrganizationAdmin,
    /// The role in the organization holds the permission.
    OrganizationRoleHolds,
    /// A switch of the organization's policy allows it.
    PolicyAllows,
    /// The role of the membership does not hold the permission.
    RoleLacks,
    /// The role of the membership does not even let see the workspace.
    RoleLacksView,
    /// The role in the organization does not hold the permission.
    OrganizationRoleLacks,
    /// A switch of the organization's policy does not allow it.
    PolicyForbids,
    /// There is no membership of the workspace.
    NotAMember,
    /// The membership of the workspace has expired.
    MembershipExpired,
    /// The membership of the organization is disabled.
    MembershipDisabled,
    /// The account is disabled.
    AccountDisabled,
    /// The workspace is archived, and would allow it otherwise.
    WorkspaceArchived,
    /// The organization demands a second factor, which the account has not; it would be allowed otherwise.
    SecondFactorMissing,
}

/// A switch of an organization's policy that decides about a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PolicySwitch {
    /// Who may create workspaces.
    WorkspaceCreation,
    /// Who may delete a workspace.
    WorkspaceDeletion,
    /// Who sees a workspace's members.
    MemberListVisibility,
    /// Whether secret values may be read.
    AllowReveal,
}

impl PolicySwitch {
    /// The switch that has a say about that permission.
    fn about(permission: Permission) -> Option<Self> {
        match permission {
            Permission::WorkspaceCreate => Some(Self::WorkspaceCreation),
            Permission::WorkspaceDelete => Some(Self::WorkspaceDeletion),
            Permission::MembersView => Some(Self::MemberListVisibility),
            Permission::CredentialReveal => Some(Self::AllowReveal),
            _ => None,
        }
    }

    /// Its settings, the one that allows least first.
    fn settings(self) -> Vec<Setting> {
        match self {
            Self::WorkspaceCreation => vec![
                Setting::WorkspaceCreation(WorkspaceCreation::OrganizationAdmins),
                Setting::WorkspaceCreation(WorkspaceCreation::WorkspaceAdmins),
                Setting::WorkspaceCreation(WorkspaceCreation::AnyMember),
            ],
            Self::WorkspaceDeletion => vec![
                Setting::WorkspaceDeletion(WorkspaceDeletion::OrganizationAdmins),
                Setting::WorkspaceDeletion(WorkspaceDeletion::WorkspaceAdmins),
            ],
            Self::MemberListVisibility => vec![
                Setting::MemberListVisibility(MemberListVisibility::Admins),
                Setting::MemberListVisibility(MemberListVisibility::Members),
            ],
            Self::AllowReveal => vec![Setting::AllowReveal(false), Setting::AllowReveal(true)],
        }
    }

    /// How it is set.
    fn of(self, policy: &OrganizationPolicy) -> Setting {
        match self {
            Self::WorkspaceCreation => Setting::WorkspaceCreation(policy.workspace_creation),
            Self::WorkspaceDeletion => Setting::WorkspaceDeletion(policy.workspace_deletion),
            Self::MemberListVisibility => Setting::MemberListVisibility(policy.member_list_visibility),
            Self::AllowReveal => Setting::AllowReveal(policy.allow_reveal),
        }
    }
}

/// How a switch is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Who may create workspaces.
    WorkspaceCreation(WorkspaceCreation),
    /// Who may delete a workspace.
    WorkspaceDeletion(WorkspaceDeletion),
    /// Who sees a workspace's members.
    MemberListVisibility(MemberListVisibility),
    /// Whether secret values may be read.
    AllowReveal(bool),
}

impl Setting {
    /// Which switch it is of.
    pub fn switch(self) -> PolicySwitch {
        match self {
            Self::WorkspaceCreation(_) => PolicySwitch::WorkspaceCreation,
            Self::WorkspaceDeletion(_) => PolicySwitch::WorkspaceDeletion,
            Self::MemberListVisibility(_) => PolicySwitch::MemberListVisibility,
            Self::AllowReveal(_) => PolicySwitch::AllowReveal,
        }
    }

    /// The value as the policy shows it.
    pub fn value(self) -> &'static str {
        match self {
            Self::WorkspaceCreation(value) => value.word(),
            Self::WorkspaceDeletion(value) => value.word(),
            Self::MemberListVisibility(value) => value.word(),
            Self::AllowReveal(true) => "true",
            Self::AllowReveal(false) => "false",
        }
    }

    /// The name of the switch as the policy shows it.
    fn name(self) -> &'static str {
        match self {
            Self::WorkspaceCreation(_) => "workspaceCreation",
            Self::WorkspaceDeletion(_) => "workspaceDeletion",
            Self::MemberListVisibility(_) => "memberListVisibility",
            Self::AllowReveal(_) => "allowReveal",
        }
    }

    fn apply(self, policy: &mut OrganizationPolicy) {
        match self {
            Self::WorkspaceCreation(value) => policy.workspace_creation = value,
            Self::WorkspaceDeletion(value) => policy.workspace_deletion = value,
            Self::MemberListVisibility(value) => policy.member_list_visibility = value,
            Self::AllowReveal(value) => policy.allow_reveal = value,
        }
    }
}

/// What was given to a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// A membership of the workspace.
    Membership {
        /// Its role.
        role: Role,
        /// When it ends by itself.
        expires_at: Option<DateTime<Utc>>,
    },
    /// A role in the organization.
    Organization(OrganizationRole),
}

/// One thing to do that is part of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Enable the account.
    EnableAccount,
    /// Enable the membership of the organization.
    EnableInOrganization,
    /// Disable the membership of the organization.
    DisableInOrganization,
    /// Give a role in the organization.
    SetOrganizationRole(OrganizationRole),
    /// Invite to the workspace with that role.
    Invite(Role),
    /// Give the member that role.
    GiveRole(Role),
    /// Put permissions into the role that the member has.
    AddToRole(Role, PermissionSet),
    /// Take permissions out of the role that the member has.
    TakeFromRole(Role, PermissionSet),
    /// Renew the membership, which has run out, by inviting the person again.
    RenewMembership,
    /// Remove the member.
    EndMembership,
    /// Set a switch of the organization's policy.
    SetPolicy(Setting),
    /// Restore the workspace, which is archived.
    RestoreWorkspace,
    /// Set a second factor up, as the person.
    SetUpSecondFactor,
}

impl Step {
    fn apply(&self, facts: &mut PersonFacts) {
        match self {
            Self::EnableAccount => facts.has_active_account = true,
            Self::EnableInOrganization => facts.is_active_in_organization = true,
            Self::DisableInOrganization => facts.is_active_in_organization = false,
            Self::SetOrganizationRole(role) => facts.organization_role = *role,
            Self::Invite(role) => {
                let role = role.clone();
                facts.membership = Some(MembershipFacts { role, expires_at: None, has_expired: false });
            }
            Self::EndMembership => facts.membership = None,
            Self::SetPolicy(setting) => setting.apply(&mut facts.policy),
            Self::RestoreWorkspace => facts.is_archived = false,
            Self::SetUpSecondFactor => facts.arrival.has_second_factor = true,
            Self::GiveRole(_) | Self::AddToRole(..) | Self::TakeFromRole(..) | Self::RenewMembership => {
                if let Some(membership) = &mut facts.membership {
                    self.change(membership);
                }
            }
        }
    }

    fn change(&self, membership: &mut MembershipFacts) {
        let held = &mut membership.role.permissions;
        match self {
            Self::GiveRole(role) => membership.role = role.clone(),
            Self::AddToRole(role, added) if role.id == membership.role.id => *held = held.union(*added),
            Self::TakeFromRole(role, taken) if role.id == membership.role.id => {
                *held = taken.iter().fold(*held, PermissionSet::without);
            }
            Self::RenewMembership => membership.has_expired = false,
            _ => {}
        }
    }

    /// What to do, as a sentence.
    pub fn message(&self) -> String {
        let names = |set: &PermissionSet| set.iter().map(Permission::name).collect::<Vec<_>>().join(" and ");
        match self {
            Self::EnableAccount => "Enable the account.".to_owned(),
            Self::EnableInOrganization => "Enable the membership of the organization.".to_owned(),
            Self::DisableInOrganization => "Disable the membership of the organization.".to_owned(),
            Self::SetOrganizationRole(role) => format!("Give the role {} in the organization.", role.word()),
            Self::Invite(role) => format!("Invite to this workspace with the role {}.", role.name),
            Self::GiveRole(role) => format!("Give the role {} in this workspace.", role.name),
            Self::AddToRole(role, added) => format!("Add {} to the role {}.", names(added), role.name),
            Self::TakeFromRole(role, taken) => format!("Take {} from the role {}.", names(taken), role.name),
            Self::RenewMembership => {
                "The membership of this workspace has run out: invite the person again.".to_owned()
            }
            Self::EndMembership => "End the membership of this workspace.".to_owned(),
            Self::SetPolicy(setting) => {
                format!("Set {} of the organization's policy to {}.", setting.name(), setting.value())
            }
            Self::RestoreWorkspace => "Restore this workspace, which is archived.".to_owned(),
            Self::SetUpSecondFactor => "Set up a second factor, which only the person can do.".to_owned(),
        }
    }
}

/// Steps that together turn a verdict round, none of which could be left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The steps.
    pub steps: Vec<Step>,
}

/// A verdict and why it is what it is.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// What was asked for.
    pub permission: Permission,
    /// The verdict.
    pub is_allowed: bool,
    /// Which rule decided.
    pub rule: AccessRule,
    /// How the policy's switch is set, where that decided.
    pub setting: Option<Setting>,
    /// The grant that gives the permission, or the one that falls short.
    pub grant: Option<Grant>,
    /// Why, as a sentence.
    pub message: String,
    /// What would turn the verdict round: the smallest changes, each by itself.
    pub changes: Vec<Change>,
}

/// Explains the verdict on a permission in a workspace, or in the organization of it.
pub fn explain(facts: &PersonFacts, permission: Permission) -> Explanation {
    let is_allowed = facts.may(permission);
    let (rule, grant) = if is_allowed { why(facts, permission) } else { why_not(facts, permission) };
    let setting = matches!(rule, AccessRule::PolicyAllows | AccessRule::PolicyForbids)
        .then(|| PolicySwitch::about(permission).map(|switch| switch.of(&facts.policy)))
        .flatten();
    let message = message(facts, permission, rule, setting);
    let changes = changes(facts, permission, is_allowed);
    Explanation { permission, is_allowed, rule, setting, grant, message, changes }
}

fn membership_grant(facts: &PersonFacts) -> Option<Grant> {
    let MembershipFacts { role, expires_at, .. } = facts.membership.clone()?;
    Some(Grant::Membership { role, expires_at })
}

/// Why they may.
fn why(facts: &PersonFacts, permission: Permission) -> (AccessRule, Option<Grant>) {
    let strictest = PolicySwitch::about(permission).and_then(|switch| switch.settings().first().copied());
    let by_policy =
        strictest.is_some_and(|strictest| !facts.after(&[Step::SetPolicy(strictest)]).may(permission));
    let in_organization = Some(Grant::Organization(facts.organization_role));
    if permission.scope() == Scope::Organization {
        let rule = if by_policy { AccessRule::PolicyAllows } else { AccessRule::OrganizationRoleHolds };
        return (rule, in_organization);
    }
    // Where either grant gives it, it is the membership's: that one is closer.
    let as_member = facts.after(&[Step::SetOrganizationRole(OrganizationRole::Member)]).may(permission);
    let rule = match as_member {
        _ if by_policy => AccessRule::PolicyAllows,
        true => AccessRule::RoleHolds,
        false => AccessRule::OrganizationAdmin,
    };
    (rule, if as_member { membership_grant(facts) } else { in_organization })
}

/// Why they may not: the first rule on the way that stops them.
fn why_not(facts: &PersonFacts, permission: Permission) -> (AccessRule, Option<Grant>) {
    if !facts.has_active_account {
        return (AccessRule::AccountDisabled, None);
    }
    if !facts.is_active_in_organization {
        return (AccessRule::MembershipDisabled, None);
    }
    if !facts.meets_demands() {
        let met = facts.after(&[Step::SetUpSecondFactor]);
        // Whatever else stands in the way comes first, as with an archived workspace.
        return match met.may(permission) {
            true => (AccessRule::SecondFactorMissing, why(&met, permission).1),
            false => why_not(&met, permission),
        };
    }
    let in_organization = Some(Grant::Organization(facts.organization_role));
    if permission.scope() == Scope::Organization {
        return match PolicySwitch::about(permission) {
            Some(_) => (AccessRule::PolicyForbids, in_organization),
            None => (AccessRule::OrganizationRoleLacks, in_organization),
        };
    }
    // Whatever else stands in the way comes first: restoring alone would not help then.
    let restored = facts.after(&[Step::RestoreWorkspace]);
    if restored.may(permission) {
        return (AccessRule::WorkspaceArchived, why(&restored, permission).1);
    }
    // What an Admin lacks, the policy has taken from everybody.
    if facts.organization_role >= OrganizationRole::Admin {
        return (AccessRule::PolicyForbids, in_organization);
    }
    let Some(membership) = &facts.membership else { return (AccessRule::NotAMember, None) };
    let held = membership.role.permissions;
    let rule = if membership.has_expired {
        AccessRule::MembershipExpired
    } else if !held.holds(permission) {
        AccessRule::RoleLacks
    } else if !held.holds(Permission::WorkspaceView) {
        AccessRule::RoleLacksView
    } else {
        AccessRule::PolicyForbids
    };
    (rule, membership_grant(facts))
}

fn message(
    facts: &PersonFacts,
    permission: Permission,
    rule: AccessRule,
    setting: Option<Setting>,
) -> String {
    let permission = permission.name();
    let role = facts.membership.as_ref().map_or("", |membership| &membership.role.name);
    let in_organization = facts.organization_role.word();
    let setting =
        setting.map_or(String::new(), |setting| format!("{} is {}", setting.name(), setting.value()));
    match rule {
        AccessRule::RoleHolds => format!("The role {role} in this workspace holds {permission}."),
        AccessRule::OrganizationAdmin => {
            format!("Whoever is {in_organization} of the organization is an Admin of every workspace in it.")
        }
        AccessRule::OrganizationRoleHolds => {
            format!("The role {in_organization} in the organization holds {permission}.")
        }
        AccessRule::PolicyAllows => format!("The organization's policy allows {permission}: {setting}."),
        AccessRule::RoleLacks => format!("The role {role} in this workspace does not hold {permission}."),
        AccessRule::RoleLacksView => format!(
            "The role {role} does not hold workspace.view, without which nothing of the workspace can be seen."
        ),
        AccessRule::OrganizationRoleLacks => {
            format!("The role {in_organization} in the organization does not hold {permission}.")
        }
        AccessRule::PolicyForbids => {
            format!("The organization's policy does not allow {permission}: {setting}.")
        }
        AccessRule::NotAMember => "There is no membership of this workspace.".to_owned(),
        AccessRule::MembershipExpired => "The membership of this workspace has expired.".to_owned(),
        AccessRule::MembershipDisabled => "The membership of the organization is disabled.".to_owned(),
        AccessRule::AccountDisabled => "The account is disabled.".to_owned(),
        AccessRule::WorkspaceArchived => {
            format!(
                "The workspace is archived, and so read-only: {permission} can be used once it is restored."
            )
        }
        AccessRule::SecondFactorMissing => {
            "The organization demands a second factor of its people, and the account has none.".to_owned()
        }
    }
}

/// What could be changed: lists of steps of which one can be taken each, the smaller first.
fn possible_steps(facts: &PersonFacts, permission: Permission, is_allowed: bool) -> Vec<Vec<Step>> {
    let is_set = |wanted: bool, step: Step| if wanted { vec![step] } else { Vec::new() };
    let other_settings = |from_strictest: bool| {
        let Some(switch) = PolicySwitch::about(permission) else { return Vec::new() };
        let (mut settings, current) = (switch.settings(), switch.of(&facts.policy));
        if !from_strictest {
            settings.reverse();
        }
        let beyond = settings.into_iter().skip_while(|setting| *setting != current).skip(1);
        beyond.map(Step::SetPolicy).collect()
    };
    let role = facts.membership.as_ref().map(|membership| &membership.role);
    let custom = role.filter(|role| SystemRole::from_id(role.id).is_none());
    let in_workspace = permission.scope() == Scope::Workspace;
    let edited = |step: fn(Role, PermissionSet) -> Step, permissions: PermissionSet| {
        let role = custom.filter(|_| in_workspace);
        role.map(|role| step(role.clone(), permissions)).into_iter().collect::<Vec<_>>()
    };
    let organization_roles = OrganizationRole::ALL.iter().copied();
    if is_allowed {
        let given = |roles: [SystemRole; 3]| roles.map(|role| Step::GiveRole(role.into())).to_vec();
        let [viewer, editor, admin] = SystemRole::ALL;
        vec![
            if role.is_some() { given([admin, editor, viewer]) } else { Vec::new() },
            edited(Step::TakeFromRole, PermissionSet::EMPTY.with(permission)),
            is_set(role.is_some(), Step::EndMembership),
            organization_roles
                .rev()
                .filter(|role| *role < facts.organization_role)
                .map(Step::SetOrganizationRole)
                .collect(),
            other_settings(false),
            vec![Step::DisableInOrganization],
        ]
    } else {
        let give: fn(Role) -> Step = if role.is_some() { Step::GiveRole } else { Step::Invite };
        let missing = [Permission::WorkspaceView, permission].into_iter();
        let missing =
            missing.filter(|permission| !role.is_some_and(|role| role.permissions.holds(*permission)));
        let has_expired = facts.membership.as_ref().is_some_and(|membership| membership.has_expired);
        vec![
            is_set(!facts.has_active_account, Step::EnableAccount),
            is_set(!facts.is_active_in_organization, Step::EnableInOrganization),
            is_set(has_expired, Step::RenewMembership),
            is_set(facts.is_archived && in_workspace, Step::RestoreWorkspace),
            is_set(!facts.meets_demands(), Step::SetUpSecondFactor),
            SystemRole::ALL.map(|role| give(role.into())).to_vec(),
            edited(Step::AddToRole, missing.collect()),
            other_settings(true),
            organization_roles
                .filter(|role| *role > facts.organization_role)
                .map(Step::SetOrganizationRole)
                .collect(),
        ]
    }
}

/// The smallest changes that turn the verdict round, found by trying them on the facts.
fn changes(facts: &PersonFacts, permission: Permission, is_allowed: bool) -> Vec<Change> {
    let possible = possible_steps(facts, permission, is_allowed);
    // Of each list no step or one: the number says which.
    let mut choices: Vec<Vec<usize>> = vec![Vec::new()];
    for steps in &possible {
        choices = choices
            .iter()
            .flat_map(|choice| (0..=steps.len()).map(|step| [choice.as_slice(), &[step]].concat()))
            .collect();
    }
    // The fewest steps first, then those that stand first above, then the least of each: a choice comes after all that do
    // with less.
    choices.sort_by_cached_key(|choice| {
        let taken: Vec<bool> = choice.iter().map(|step| *step > 0).collect();
        let number = taken.iter().filter(|taken| **taken).count();
        (number, Reverse(taken), choice.iter().sum::<usize>())
    });
    let (mut changes, mut smallest) = (Vec::new(), Vec::<Vec<usize>>::new());
    for choice in choices {
        // Whoever can do with less need not do more.
        if smallest.iter().any(|known| known.iter().zip(&choice).all(|(known, step)| known <= step)) {
            continue;
        }
        let steps: Vec<Step> = possible
            .iter()
            .zip(&choice)
            .filter_map(|(steps, step)| steps.get(step.checked_sub(1)?).cloned())
            .collect();
        if facts.after(&steps).may(permission) != is_allowed {
            smallest.push(choice);
            changes.push(Change { steps });
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        access::{
            Actor, OrganizationAccess,
            proof::{OrganizationFacts, Place, WorkspaceFacts},
        },
        ids::RoleId,
        workspaces::WorkspaceStatus,
    };

    const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;

    fn custom(number: u128, permissions: impl IntoIterator<Item = Permission>) -> Role {
        Role {
            id: RoleId::fixed(Uuid::from_u128(number)),
            key: format!("CUSTOM{number}"),
            name: format!("Custom {number}"),
            description: String::new(),
            permissions: permissions.into_iter().collect(),
        }
    }

    fn roles() -> Vec<Role> {
        use Permission::*;
        let everything = SystemRole::Admin.permissions();
        let mut roles: Vec<Role> = SystemRole::ALL.map(Role::from).into();
        roles.extend([
            custom(11, []),
            custom(12, [WorkspaceView, FileRead]),
            custom(13, [WorkspaceView, MembersView, WorkspaceDelete, CredentialReveal]),
            custom(14, [WorkspaceView, MembersManage, MembersInvite]),
            custom(15, everything.without(WorkspaceView).iter()),
        ]);
        roles
    }

    fn policies() -> Vec<OrganizationPolicy> {
        let mut policies = Vec::new();
        for creation in WorkspaceCreation::ALL {
            for deletion in WorkspaceDeletion::ALL {
                for visibility in MemberListVisibility::ALL {
                    for reveal in [false, true] {
                        policies.push(OrganizationPolicy {
                            workspace_creation: *creation,
                            workspace_deletion: *deletion,
                            member_list_visibility: *visibility,
                            allow_reveal: reveal,
                            ..OrganizationPolicy::default()
                        });
                    }
                }
            }
        }
        policies
    }

    fn facts() -> PersonFacts {
        PersonFacts {
            policy: OrganizationPolicy::default(),
            has_active_account: true,
            organization_role: OrganizationRole::Member,
            is_active_in_organization: true,
            membership: None,
            administers_a_workspace: false,
            is_archived: false,
            arrival: Arrival {
                joined_at: DateTime::UNIX_EPOCH,
                has_second_factor: false,
                by: crate::access::Entrance::Password,
                is_owner: false,
            },
            at: NOW,
        }
    }

    /// The same person, of whom a second factor is demanded that they have not.
    fn demanded(person: &PersonFacts) -> PersonFacts {
        let mut person = person.clone();
        person.policy.two_factor_required_since = Some(DateTime::UNIX_EPOCH);
        person.policy.two_factor_grace_hours = 0;
        person
    }

    fn member(role: impl Into<Role>) -> PersonFacts {
        let membership = Some(MembershipFacts { role: role.into(), expires_at: None, has_expired: false });
        PersonFacts { membership, ..facts() }
    }

    /// Every place that somebody can have.
    fn everybody() -> Vec<PersonFacts> {
        let of = |role: &Role, has_expired: bool| MembershipFacts {
            role: role.clone(),
            expires_at: has_expired.then_some(DateTime::UNIX_EPOCH),
            has_expired,
        };
        let mut memberships = vec![None];
        memberships.extend(roles().iter().flat_map(|role| [Some(of(role, false)), Some(of(role, true))]));
        let mut people = Vec::new();
        for policy in policies() {
            for organization_role in OrganizationRole::ALL {
                for (account, place) in [(true, true), (true, false), (false, true), (false, false)] {
                    for membership in &memberships {
                        for (administers_a_workspace, is_archived) in
                            [(false, false), (true, false), (false, true), (true, true)]
                        {
                            people.push(PersonFacts {
                                policy,
                                has_active_account: account,
                                organization_role: *organization_role,
                                is_active_in_organization: place,
                                membership: membership.clone(),
                                administers_a_workspace,
                                is_archived,
                                ..facts()
                            });
                        }
                    }
                }
            }
        }
        // No switch of the policy changes what is demanded, so it is tried with two of them.
        let of = |policy: &OrganizationPolicy| {
            policy.workspace_creation == WorkspaceCreation::WorkspaceAdmins
                && policy.workspace_deletion == WorkspaceDeletion::OrganizationAdmins
                && policy.member_list_visibility == MemberListVisibility::Members
        };
        let without: Vec<_> = people.iter().filter(|person| of(&person.policy)).map(demanded).collect();
        people.extend(without);
        people
    }

    /// What the guards say, given what the statements in `persistence/access.rs` give them.
    fn verdict(facts: &PersonFacts) -> PermissionSet {
        let (user, session) = (Uuid::nil().into(), Uuid::nil().into());
        let actor = Actor::User { user, session };
        if !facts.has_active_account {
            return PermissionSet::EMPTY;
        }
        let organization_role = facts.is_active_in_organization.then_some(facts.organization_role);
        let membership = facts
            .membership
            .clone()
            .filter(|membership| facts.is_active_in_organization && !membership.has_expired);
        let administers = membership.as_ref().is_some_and(|membership| membership.role.administers());
        let in_organization = OrganizationAccess::assess(
            actor,
            OrganizationFacts {
                organization: Uuid::nil().into(),
                policy: facts.policy,
                role: organization_role,
                administers_a_workspace: facts.administers_a_workspace || administers,
                arrival: Some(facts.arrival),
            },
            facts.at,
        );
        let in_workspace = WorkspaceAccess::assess(
            actor,
            WorkspaceFacts {
                workspace: Uuid::nil().into(),
                organization: Uuid::nil().into(),
                status: if facts.is_archived { WorkspaceStatus::Archived } else { WorkspaceStatus::Active },
                policy: facts.policy,
                place: Place::Person {
                    organization_role,
                    membership: membership.map(|membership| (Uuid::nil().into(), membership.role)),
                    arrival: Some(facts.arrival),
                },
            },
            facts.at,
        );
        let none = PermissionSet::EMPTY;
        let in_organization = in_organization.map_or(none, |access| access.permissions());
        in_workspace.map_or(none, |access| access.usable()).union(in_organization)
    }

    #[test]
    fn the_explanation_is_of_the_guards_verdict() {
        let mut seen = std::collections::HashSet::new();
        for facts in everybody() {
            let held = verdict(&facts);
            assert_eq!(facts.in_workspace().union(facts.in_organization()), held, "{facts:?}");
            for permission in Permission::ALL {
                let is_allowed = facts.may(*permission);
                assert_eq!(is_allowed, held.holds(*permission), "{permission:?} of {facts:?}");
                let (rule, grant) =
                    if is_allowed { why(&facts, *permission) } else { why_not(&facts, *permission) };
                use AccessRule::*;
                let allows =
                    matches!(rule, RoleHolds | OrganizationAdmin | OrganizationRoleHolds | PolicyAllows);
                assert_eq!(allows, is_allowed, "{rule:?} of {facts:?}");
                let has_grant = !matches!(rule, NotAMember | MembershipDisabled | AccountDisabled);
                assert_eq!(grant.is_some(), has_grant, "{rule:?} of {facts:?}");
                if matches!(rule, PolicyAllows | PolicyForbids) {
                    assert!(PolicySwitch::about(*permission).is_some(), "{permission:?} hangs on no switch");
                }
                seen.insert(rule);
            }
        }
        assert_eq!(seen.len(), 14, "each rule decides somewhere: {seen:?}");
    }

    #[test]
    fn every_change_turns_the_verdict_round_and_none_is_larger_than_it_has_to_be() {
        // Of the many places those that differ in something that a change is about.
        let people = everybody().into_iter().step_by(31);
        for facts in people {
            for permission in Permission::ALL {
                let explained = explain(&facts, *permission);
                assert!(!explained.changes.is_empty(), "{permission:?} of {facts:?}");
                for Change { steps } in &explained.changes {
                    let after = |steps: &[Step]| verdict(&facts.after(steps)).holds(*permission);
                    assert_ne!(
                        after(steps),
                        explained.is_allowed,
                        "{permission:?} after {steps:?} of {facts:?}"
                    );
                    for left_out in 0..steps.len() {
                        let mut fewer = steps.clone();
                        fewer.remove(left_out);
                        assert_eq!(after(&fewer), explained.is_allowed, "{steps:?} of {facts:?}");
                    }
                }
            }
        }
    }

    fn changes_of(facts: &PersonFacts, permission: Permission) -> Vec<Vec<Step>> {
        explain(facts, permission).changes.into_iter().map(|change| change.steps).collect()
    }

    #[test]
    fn an_editor_learns_what_it_takes_to_read_a_secret() {
        let editor = member(SystemRole::Editor);
        let explained = explain(&editor, Permission::CredentialReveal);
        assert_eq!((explained.is_allowed, explained.rule), (false, AccessRule::RoleLacks));
        assert_eq!(explained.message, "The role Editor in this workspace does not hold credential.reveal.");
        let allow = Step::SetPolicy(Setting::AllowReveal(true));
        assert_eq!(
            changes_of(&editor, Permission::CredentialReveal),
            [
                vec![Step::GiveRole(SystemRole::Admin.into()), allow.clone()],
                vec![allow.clone(), Step::SetOrganizationRole(OrganizationRole::Admin)],
            ]
        );
        let admin = member(SystemRole::Admin);
        let explained = explain(&admin, Permission::CredentialReveal);
        assert_eq!(explained.rule, AccessRule::PolicyForbids);
        assert_eq!(explained.setting, Some(Setting::AllowReveal(false)));
        assert_eq!(changes_of(&admin, Permission::CredentialReveal), [vec![allow]]);
    }

    #[test]
    fn the_least_role_that_does_is_named() {
        let viewer = member(SystemRole::Viewer);
        let give = |role: SystemRole| vec![Step::GiveRole(role.into())];
        let promote = vec![Step::SetOrganizationRole(OrganizationRole::Admin)];
        assert_eq!(changes_of(&viewer, Permission::FileWrite), [give(SystemRole::Editor), promote.clone()]);
        assert_eq!(
            changes_of(&viewer, Permission::MembersInvite),
            [give(SystemRole::Admin), promote.clone()]
        );
        let outside = changes_of(&facts(), Permission::FileRead);
        assert_eq!(outside, [vec![Step::Invite(SystemRole::Viewer.into())], promote.clone()]);
        // An own role can be edited, too.
        let reader = custom(12, [Permission::WorkspaceView]);
        let added = PermissionSet::EMPTY.with(Permission::FileWrite);
        assert_eq!(
            changes_of(&member(reader.clone()), Permission::FileWrite),
            [give(SystemRole::Editor), vec![Step::AddToRole(reader, added)], promote]
        );
    }

    #[test]
    fn what_takes_a_right_away_is_named() {
        let editor = member(SystemRole::Editor);
        let explained = explain(&editor, Permission::FileWrite);
        assert_eq!((explained.is_allowed, explained.rule), (true, AccessRule::RoleHolds));
        assert_eq!(
            changes_of(&editor, Permission::FileWrite),
            [
                vec![Step::GiveRole(SystemRole::Viewer.into())],
                vec![Step::EndMembership],
                vec![Step::DisableInOrganization],
            ]
        );
        // Of two grants both have to go.
        let owner = PersonFacts { organization_role: OrganizationRole::Owner, ..editor };
        assert_eq!(
            changes_of(&owner, Permission::FileRead),
            [
                vec![Step::DisableInOrganization],
                vec![Step::EndMembership, Step::SetOrganizationRole(OrganizationRole::Member)],
            ]
        );
    }

    #[test]
    fn an_expired_membership_is_renewed() {
        let mut expired = member(SystemRole::Viewer);
        if let Some(membership) = &mut expired.membership {
            membership.expires_at = Some(DateTime::UNIX_EPOCH);
            membership.has_expired = true;
        }
        let explained = explain(&expired, Permission::FileRead);
        assert_eq!(explained.rule, AccessRule::MembershipExpired);
        assert!(matches!(explained.grant, Some(Grant::Membership { expires_at: Some(_), .. })));
        let promote = vec![Step::SetOrganizationRole(OrganizationRole::Admin)];
        assert_eq!(
            changes_of(&expired, Permission::FileRead),
            [vec![Step::RenewMembership], promote.clone()]
        );
        let more = vec![Step::RenewMembership, Step::GiveRole(SystemRole::Editor.into())];
        assert_eq!(changes_of(&expired, Permission::FileWrite), [promote, more]);
    }

    #[test]
    fn an_archived_workspace_is_read_and_what_changes_it_waits_for_its_restoring() {
        let admin = PersonFacts { is_archived: true, ..member(SystemRole::Admin) };
        for permission in Permission::ALL.iter().filter(|permission| permission.scope() == Scope::Workspace) {
            let explained = explain(&admin, *permission);
            let held = explain(&member(SystemRole::Admin), *permission).is_allowed;
            assert_eq!(explained.is_allowed, held && permission.usable_in_archive(), "{permission:?}");
        }
        assert!(explain(&admin, Permission::WorkspaceArchive).is_allowed, "whoever archives restores");
        let explained = explain(&admin, Permission::FileWrite);
        assert_eq!(explained.rule, AccessRule::WorkspaceArchived);
        assert!(matches!(explained.grant, Some(Grant::Membership { .. })));
        assert_eq!(changes_of(&admin, Permission::FileWrite), [vec![Step::RestoreWorkspace]]);
        // Who would lack it anyway is told that first, and both steps.
        let viewer = PersonFacts { is_archived: true, ..member(SystemRole::Viewer) };
        let explained = explain(&viewer, Permission::FileWrite);
        assert_eq!(explained.rule, AccessRule::RoleLacks);
        assert_eq!(
            changes_of(&viewer, Permission::FileWrite)[0],
            [Step::RestoreWorkspace, Step::GiveRole(SystemRole::Editor.into())]
        );
    }

    #[test]
    fn a_demand_stands_before_everything_and_takes_nothing_away() {
        let editor = demanded(&member(SystemRole::Editor));
        let explained = explain(&editor, Permission::FileWrite);
        assert_eq!((explained.is_allowed, explained.rule), (false, AccessRule::SecondFactorMissing));
        assert!(matches!(explained.grant, Some(Grant::Membership { .. })));
        assert_eq!(changes_of(&editor, Permission::FileWrite), [vec![Step::SetUpSecondFactor]]);
        let met = editor.after(&[Step::SetUpSecondFactor]);
        assert_eq!(met.in_workspace(), member(SystemRole::Editor).in_workspace());
        // Of the organization they see that it is there, and what it demands.
        assert_eq!(editor.in_organization(), PermissionSet::EMPTY.with(Permission::OrganizationView));
        // Who would lack it anyway is told that.
        let explained = explain(&editor, Permission::MembersManage);
        assert_eq!(explained.rule, AccessRule::RoleLacks);
        // An owner is asked for it like anybody else.
        let owner = PersonFacts { organization_role: OrganizationRole::Owner, ..demanded(&facts()) };
        assert_eq!(explain(&owner, Permission::OrganizationManage).rule, AccessRule::SecondFactorMissing);
        // There is time first.
        let mut early = editor;
        early.policy.two_factor_grace_hours = 1;
        assert!(explain(&early, Permission::FileWrite).is_allowed);
    }

    #[test]
    fn who_may_hear_of_whom() {
        let asker = |role: SystemRole, organization_role| {
            let (user, session) = (Uuid::nil().into(), Uuid::nil().into());
            let facts = WorkspaceFacts {
                workspace: Uuid::nil().into(),
                organization: Uuid::nil().into(),
                status: WorkspaceStatus::Active,
                policy: OrganizationPolicy::default(),
                place: Place::Person {
                    organization_role: Some(organization_role),
                    membership: Some((Uuid::nil().into(), role.into())),
                    arrival: None,
                },
            };
            WorkspaceAccess::assess(Actor::User { user, session }, facts, NOW).unwrap()
        };
        let viewer = asker(SystemRole::Viewer, OrganizationRole::Member);
        let admin = asker(SystemRole::Admin, OrganizationRole::Member);
        let manager = asker(SystemRole::Viewer, OrganizationRole::Admin);
        let askers: [&WorkspaceAccess; 3] = [&viewer, &admin, &manager];
        let present = member(SystemRole::Editor);
        let mut expired = present.clone();
        expired.membership.as_mut().unwrap().has_expired = true;
        for (person, heard_of) in
            [(present, [true, true, true]), (expired, [false, true, true]), (facts(), [false, false, true])]
        {
            let heard = |asker| heard_by(asker, person.clone()).is_some();
            assert_eq!(askers.map(heard), heard_of);
        }
        // Who lacks a second factor is heard of by all, and that they lack it by those who manage members.
        let unmet = demanded(&member(SystemRole::Editor));
        let rules = askers.map(|asker| {
            let heard = heard_by(asker, unmet.clone()).unwrap();
            explain(&heard, Permission::FileWrite).rule
        });
        let missing = AccessRule::SecondFactorMissing;
        assert_eq!(rules, [AccessRule::RoleHolds, missing, missing]);
        assert_eq!(
            askers.map(|asker| may_ask(asker, Permission::WorkspaceCreate).is_ok()),
            [false, false, true]
        );
        assert!(may_ask(&viewer, Permission::FileRead).is_ok());
    }
}
