//! What machines may do: service accounts and API keys. Whatever a machine has, it has in one workspace, and nothing of it
//! hangs on the person who made it.

use super::{
    catalog::{Permission, Scope},
    role::{PermissionSet, Role, SystemRole},
};

/// Where a machine's rights come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineRights {
    /// The role of the service account; `None` for a key of the workspace itself.
    pub role: Option<Role>,
    /// What the key is limited to; `None` for a service account itself.
    pub limit: Option<PermissionSet>,
}

impl MachineRights {
    /// What the machine may do before the organization's policy has its say: of what its key allows, that which its
    /// service account's role holds today.
    pub fn held(&self) -> PermissionSet {
        let role = self.role.as_ref().map(of_role);
        match (role, self.limit) {
            (Some(role), Some(limit)) => role.intersection(limit),
            (Some(held), None) | (None, Some(held)) => held,
            (None, None) => PermissionSet::EMPTY,
        }
    }
}

/// What a role gives to a service account. A system role means people and keys only when people have it: a machine manages
/// them by a custom role that names it.
pub fn of_role(role: &Role) -> PermissionSet {
    let is_system = SystemRole::from_id(role.id).is_some();
    let given =
        |permission: &Permission| is_for_machines(*permission) && !(is_system && must_be_named(*permission));
    role.permissions.iter().filter(given).collect()
}

/// Whether a machine can have it at all. An invitation is a person's: who is invited sees who asks, and it lasts as long as
/// that person may invite. It takes a person to delete everything, the machine itself included, and secrets are shown to
/// people: a machine uses them.
pub fn is_for_machines(permission: Permission) -> bool {
    permission.scope() == Scope::Workspace
        && !matches!(
            permission,
            Permission::MembersInvite | Permission::WorkspaceDelete | Permission::CredentialReveal
        )
}

/// Whether a machine has it only when it was given it by name.
pub fn must_be_named(permission: Permission) -> bool {
    matches!(
        permission,
        Permission::MembersView
            | Permission::MembersManage
            | Permission::MembersInvite
            | Permission::ApiKeysManage
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::RoleId;

    fn custom(permissions: PermissionSet) -> Role {
        Role { id: RoleId::fixed(uuid::Uuid::from_u128(9)), permissions, ..SystemRole::Viewer.into() }
    }

    #[test]
    fn a_system_role_gives_a_machine_no_people() {
        let admin = MachineRights { role: Some(SystemRole::Admin.into()), limit: None }.held();
        assert!(admin.holds(Permission::CredentialUse) && admin.holds(Permission::WorkspaceUpdate));
        for permission in Permission::ALL.iter().copied().filter(|permission| must_be_named(*permission)) {
            assert!(!admin.holds(permission), "{permission:?}");
            let named =
                MachineRights { role: Some(custom(PermissionSet::EMPTY.with(permission))), limit: None };
            assert_eq!(named.held().holds(permission), is_for_machines(permission), "{permission:?}");
        }
    }

    #[test]
    fn a_key_gives_no_more_than_its_account_has() {
        let limit = Some(SystemRole::Editor.permissions());
        let viewer = MachineRights { role: Some(SystemRole::Viewer.into()), limit };
        assert!(!viewer.held().holds(Permission::CredentialUse));
        assert!(viewer.held().holds(Permission::FileRead));
        let own = MachineRights { role: None, limit };
        assert!(own.held().holds(Permission::CredentialUse));
        assert_eq!(MachineRights { role: None, limit: None }.held(), PermissionSet::EMPTY);
    }
}
