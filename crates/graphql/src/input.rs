//! Reading inputs: ids and roles from their texts.

use async_graphql::ID;
use guildhall_domain::{access::SystemRole, ids::RoleId, refusal::FieldFault};

/// An id of the wanted kind.
pub(crate) fn id<T: std::str::FromStr<Err = guildhall_domain::ids::NotAnId>>(
    id: &ID,
) -> Result<T, guildhall_domain::ids::NotAnId> {
    id.as_str().parse()
}

/// A role by its id, or a system role by its key.
pub(crate) fn role(role: &ID) -> Result<RoleId, FieldFault> {
    if let Some(system) = SystemRole::ALL.into_iter().find(|system| system.key() == role.as_str()) {
        return Ok(system.id());
    }
    role.as_str().parse().map_err(|_| {
        FieldFault(
            "is no role: give VIEWER, EDITOR, ADMIN or a role's id, which begins with `rol_`".to_owned(),
        )
    })
}
