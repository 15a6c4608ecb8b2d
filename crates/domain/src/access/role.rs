//! Roles as sets of permissions. Knows the three system roles and how a custom one is read; refuses to
//! know who holds which.

use uuid::Uuid;

use super::catalog::{Permission, Scope};
use crate::ids::RoleId;

/// A set of permissions.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct PermissionSet(u64);

const _: () = assert!(Permission::ALL.len() <= 64, "PermissionSet holds 64 permissions: widen it");

impl PermissionSet {
    /// No permission at all.
    pub const EMPTY: Self = Self(0);

    /// Whether `permission` is in the set.
    pub const fn holds(self, permission: Permission) -> bool {
        self.0 & (1 << permission as u8) != 0
    }

    /// The set with `permission` in it.
    pub const fn with(self, permission: Permission) -> Self {
        Self(self.0 | 1 << permission as u8)
    }

    /// The set without `permission`.
    pub const fn without(self, permission: Permission) -> Self {
        Self(self.0 & !(1 << permission as u8))
    }

    /// What is in either.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether everything in `other` is in this set too.
    pub const fn covers(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// The part that a granter must hold too. What the organization's policy switches off for everyone is
    /// held by nobody, and would otherwise make the Admin role impossible to grant.
    pub const fn grantable(self) -> Self {
        self.without(Permission::WorkspaceDelete).without(Permission::CredentialReveal)
    }

    /// What of it can be used in an archived workspace.
    pub fn in_archive(self) -> Self {
        self.iter().filter(|permission| permission.usable_in_archive()).collect()
    }

    /// The permissions in the order of the catalogue.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.iter().copied().filter(move |permission| self.holds(*permission))
    }
}

impl FromIterator<Permission> for PermissionSet {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        permissions.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl std::fmt::Debug for PermissionSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter().map(Permission::name)).finish()
    }
}

/// The roles every organization has; each holds what the one before it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SystemRole {
    /// Sees the workspace and runs what is in it.
    Viewer,
    /// Works on the content of the workspace.
    Editor,
    /// Runs the workspace: settings, people, credentials.
    Admin,
}

impl SystemRole {
    /// All three, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Editor, Self::Admin];

    /// The key it is stored and shown under.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Viewer => "VIEWER",
            Self::Editor => "EDITOR",
            Self::Admin => "ADMIN",
        }
    }

    /// The name people read.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Viewer => "Viewer",
            Self::Editor => "Editor",
            Self::Admin => "Admin",
        }
    }

    /// What the role is for, as a sentence.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Viewer => "Sees the workspace and runs what is in it.",
            Self::Editor => "Works on the content of the workspace.",
            Self::Admin => "Runs the workspace: settings, people, credentials.",
        }
    }

    /// The same id in every instance, so that clients and migrations may know it.
    pub const fn id(self) -> RoleId {
        RoleId::fixed(match self {
            Self::Viewer => Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0001),
            Self::Editor => Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0002),
            Self::Admin => Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0003),
        })
    }

    /// The system role of that id.
    pub fn from_id(id: RoleId) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.id() == id)
    }

    /// Everything the role holds before the organization's policy has its say: what the policy decides
    /// about workspaces is an Admin's where the policy allows it at all.
    pub fn permissions(self) -> PermissionSet {
        Permission::ALL
            .iter()
            .copied()
            .filter(|permission| {
                permission.scope() == Scope::Workspace
                    && permission.least_role().unwrap_or(Self::Admin) <= self
            })
            .collect()
    }
}

/// A role as it is granted: of the system, or an organization's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Which role it is.
    pub id: RoleId,
    /// Short upper-case word, unique in its organization: `VIEWER`, `EDITOR`, `ADMIN` or a custom one.
    pub key: String,
    /// The name people read.
    pub name: String,
    /// What the role is for; may be empty.
    pub description: String,
    /// What it allows, before the organization's policy has its say.
    pub permissions: PermissionSet,
}

impl From<SystemRole> for Role {
    fn from(role: SystemRole) -> Self {
        Self {
            id: role.id(),
            key: role.key().to_owned(),
            name: role.title().to_owned(),
            description: role.description().to_owned(),
            permissions: role.permissions(),
        }
    }
}

impl Role {
    /// Whether a member with this role counts as an admin of the workspace: it can manage the members, and
    /// so put right whatever else is wrong.
    pub fn administers(&self) -> bool {
        self.permissions.holds(Permission::MembersManage) && self.permissions.holds(Permission::MembersInvite)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_system_role_holds_what_the_one_before_it_holds() {
        let [viewer, editor, admin] = SystemRole::ALL.map(SystemRole::permissions);
        assert!(editor.covers(viewer) && admin.covers(editor));
        assert!(!viewer.covers(editor) && !editor.covers(admin));
    }

    #[test]
    fn no_workspace_role_holds_a_permission_of_the_organization() {
        for role in SystemRole::ALL {
            assert!(role.permissions().iter().all(|permission| permission.scope() == Scope::Workspace));
        }
    }

    #[test]
    fn a_set_forgets_what_is_taken_out() {
        let set = SystemRole::Admin.permissions().without(Permission::MembersInvite);
        assert!(!set.holds(Permission::MembersInvite) && set.holds(Permission::MembersManage));
    }
}
