//! An organization's roles and policy switches, and what they add to or take from a workspace role.

use chrono::{DateTime, Utc};

use super::{
    catalog::Permission,
    demands::DEFAULT_GRACE_HOURS,
    role::{PermissionSet, SystemRole},
};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word it is stored under.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The value stored under that word.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)* _ => None }
            }
        }
    };
}
pub(crate) use words;

words! {
    /// A person's role in an organization; each stands above the one before it.
    OrganizationRole {
        /// Belongs to the organization.
        Member = "MEMBER",
        /// Manages the organization and, as an implicit Admin, every workspace in it.
        Admin = "ADMIN",
        /// An admin who also governs: policy, ownership, deletion.
        Owner = "OWNER",
    }
}

impl OrganizationRole {
    /// The name people read.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Member => "Member",
            Self::Admin => "Admin",
            Self::Owner => "Owner",
        }
    }
}

words! {
    /// Who may create workspaces.
    WorkspaceCreation {
        /// Admins of any workspace in the organization, and the organization's admins.
        WorkspaceAdmins = "WORKSPACE_ADMINS",
        /// Only the organization's admins.
        OrganizationAdmins = "ORGANIZATION_ADMINS",
        /// Every member of the organization.
        AnyMember = "ANY_MEMBER",
    }
}

words! {
    /// Who may delete a workspace.
    WorkspaceDeletion {
        /// Only the organization's admins.
        OrganizationAdmins = "ORGANIZATION_ADMINS",
        /// The workspace's admins too.
        WorkspaceAdmins = "WORKSPACE_ADMINS",
    }
}

words! {
    /// Who sees a workspace's members.
    MemberListVisibility {
        /// Every member.
        Members = "MEMBERS",
        /// Those who manage them.
        Admins = "ADMINS",
    }
}

words! {
    /// Whether a credential lent to a workspace waits for its admin.
    ShareAcceptance {
        /// It can be used at once.
        NotRequired = "NOT_REQUIRED",
        /// An admin of the receiving workspace accepts it first.
        Required = "REQUIRED",
    }
}

/// An organization's switches. The defaults are those of the domain's policy table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrganizationPolicy {
    /// Who may create workspaces.
    pub workspace_creation: WorkspaceCreation,
    /// Who may delete a workspace.
    pub workspace_deletion: WorkspaceDeletion,
    /// Who sees a workspace's members.
    pub member_list_visibility: MemberListVisibility,
    /// Whether a lent credential waits for acceptance.
    pub share_acceptance: ShareAcceptance,
    /// Whether secret values may be read by those with `credential.reveal`.
    pub allow_reveal: bool,
    /// How long an invitation can be answered, in hours; 1 to 2160. `None`: the instance's default.
    pub invitation_lifetime_hours: Option<u16>,
    /// The longest life of an API key, in days; 1 to 3650. `None`: keys need not expire.
    pub api_key_max_lifetime_days: Option<u16>,
    /// How long login activity is kept, in days; 1 to 3650.
    pub login_activity_days: u16,
    /// Whether people are let in who did not come by the organization's identity provider. See [`super::demands`].
    pub password_sign_in: bool,
    /// Since when people need a second factor; `None`: they do not. See [`super::demands`].
    pub two_factor_required_since: Option<DateTime<Utc>>,
    /// How long they have to set one up, in hours; 0 to 720.
    pub two_factor_grace_hours: u16,
}

impl Default for OrganizationPolicy {
    fn default() -> Self {
        Self {
            workspace_creation: WorkspaceCreation::WorkspaceAdmins,
            workspace_deletion: WorkspaceDeletion::OrganizationAdmins,
            member_list_visibility: MemberListVisibility::Members,
            share_acceptance: ShareAcceptance::NotRequired,
            allow_reveal: false,
            invitation_lifetime_hours: None,
            api_key_max_lifetime_days: None,
            login_activity_days: crate::activity::DEFAULT_DAYS,
            password_sign_in: true,
            two_factor_required_since: None,
            two_factor_grace_hours: DEFAULT_GRACE_HOURS,
        }
    }
}

impl OrganizationPolicy {
    /// What a principal may do in a workspace: the membership's role, the implicit Admin of the
    /// organization's admins, and what the policy takes from either.
    pub fn in_workspace(
        &self,
        role: Option<PermissionSet>,
        organization_role: Option<OrganizationRole>,
    ) -> PermissionSet {
        let over_all = organization_role.is_some_and(|role| role >= OrganizationRole::Admin);
        let mut held = role.unwrap_or_default();
        if over_all {
            held = held.union(SystemRole::Admin.permissions());
        }
        if !over_all && self.workspace_deletion == WorkspaceDeletion::OrganizationAdmins {
            held = held.without(Permission::WorkspaceDelete);
        }
        if self.member_list_visibility == MemberListVisibility::Admins
            && !held.holds(Permission::MembersManage)
        {
            held = held.without(Permission::MembersView);
        }
        if !self.allow_reveal {
            held = held.without(Permission::CredentialReveal);
        }
        held
    }

    /// What a person may do in the organization.
    pub fn in_organization(
        &self,
        role: Option<OrganizationRole>,
        administers_a_workspace: bool,
    ) -> PermissionSet {
        let Some(role) = role else { return PermissionSet::EMPTY };
        let creates = match self.workspace_creation {
            WorkspaceCreation::AnyMember => true,
            WorkspaceCreation::WorkspaceAdmins => administers_a_workspace || role >= OrganizationRole::Admin,
            WorkspaceCreation::OrganizationAdmins => role >= OrganizationRole::Admin,
        };
        [
            (true, Permission::OrganizationView),
            (creates, Permission::WorkspaceCreate),
            (role >= OrganizationRole::Admin, Permission::OrganizationManage),
            (role >= OrganizationRole::Owner, Permission::OrganizationGovern),
        ]
        .into_iter()
        .filter_map(|(held, permission)| held.then_some(permission))
        .collect()
    }
}
