//! An organization's own roles: what they may hold and how they are called. Knows no workspace: who holds a role, and
//! whom a change leaves without an admin, the caller reads.

use crate::{
    access::{Permission, PermissionSet, SystemRole, catalog::Scope, role::Role},
    codes,
    members::KeepsAnAdmin,
    refusal::{FieldFault, Refusal, RefusalCode},
    text::{DisplayName, ascii_words},
};

codes! {
    /// Why a role was not made.
    CreateRoleCode { AlreadyExists }
}
codes! {
    /// Why a role was not changed.
    UpdateRoleCode { NotFound, LastAdmin }
}
codes! {
    /// Why a role was not given up.
    DeleteRoleCode { NotFound, RoleInUse, LastAdmin }
}

/// The longest key of a role, in characters.
const MAX_KEY: usize = 40;

/// The key of a role that was given only a name: “Data steward” → `DATA_STEWARD`.
pub fn derived_key(name: &DisplayName) -> String {
    let mut key = ascii_words(name.as_str()).replace('-', "_").to_uppercase();
    // A key begins with a letter, so that it can stand wherever an identifier can.
    if !key.starts_with(|c: char| c.is_ascii_uppercase()) {
        key.insert_str(0, "ROLE_");
    }
    key.truncate(MAX_KEY);
    key.trim_end_matches('_').to_owned()
}

/// A key as somebody chose it.
pub fn parse_key(raw: &str) -> Result<String, FieldFault> {
    let form = raw.starts_with(|c: char| c.is_ascii_uppercase())
        && raw.len() <= MAX_KEY
        && raw.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    if form {
        Ok(raw.to_owned())
    } else {
        Err(FieldFault(format!(
            "is no key of a role: use 1 to {MAX_KEY} upper-case letters A–Z, digits and underscores, beginning with a letter"
        )))
    }
}

/// What a custom role holds of the permissions that were asked for. Seeing the workspace is part of every role:
/// without it the others could not be used.
pub fn permissions_of_role(asked: &[Permission]) -> Result<PermissionSet, FieldFault> {
    let of_organization: Vec<&str> = asked
        .iter()
        .filter(|permission| permission.scope() == Scope::Organization)
        .map(|permission| permission.name())
        .collect();
    if of_organization.is_empty() {
        return Ok(asked.iter().copied().collect::<PermissionSet>().with(Permission::WorkspaceView));
    }
    Err(FieldFault(format!(
        "holds {}, which only a role in the organization gives: leave it out",
        of_organization.join(", ")
    )))
}

/// Refuses to touch what every organization has.
pub fn refuse_system_role<C: RefusalCode>(role: &Role) -> Result<(), Refusal<C>> {
    if SystemRole::from_id(role.id).is_none() {
        return Ok(());
    }
    Err(Refusal::new(
        C::INVALID_INPUT,
        format!(
            "{} is a role of the system, the same everywhere. Make a role of your own instead.",
            role.name
        ),
    )
    .at("roleId"))
}

impl KeepsAnAdmin for UpdateRoleCode {
    const LAST_ADMIN: Self = Self::LastAdmin;
}
impl KeepsAnAdmin for DeleteRoleCode {
    const LAST_ADMIN: Self = Self::LastAdmin;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> DisplayName {
        DisplayName::parse(text).unwrap()
    }

    #[test]
    fn a_key_is_made_of_the_name() {
        assert_eq!(derived_key(&name("Data steward")), "DATA_STEWARD");
        assert_eq!(derived_key(&name("2nd line")), "ROLE_2ND_LINE");
        assert_eq!(derived_key(&name("Viewer")), "VIEWER");
        assert_eq!(derived_key(&name("Аналитик")), "ANALITIK");
        assert_eq!(derived_key(&name("7")), "ROLE_7");
        assert!(parse_key(&derived_key(&name(&"Reviewer of reviewers ".repeat(3)))).is_ok());
        for bad in ["", "viewer", "A-B", "1A", "Ä", &"A".repeat(41)] {
            assert!(parse_key(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_role_sees_the_workspace_and_holds_nothing_of_the_organization() {
        let held = permissions_of_role(&[Permission::ItemRun]).unwrap();
        assert!(held.holds(Permission::WorkspaceView) && held.holds(Permission::ItemRun));
        let fault = permissions_of_role(&[Permission::ItemRun, Permission::OrganizationGovern]).unwrap_err();
        assert!(fault.0.contains("organization.govern") && !fault.0.contains("item.run"));
    }
}
