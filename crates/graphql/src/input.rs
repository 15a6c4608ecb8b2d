//! Reading inputs: ids and roles from their texts.

use async_graphql::ID;
use guildhall_domain::{access::SystemRole, ids::RoleId, refusal::FieldFault};

/// An id of the wanted kind.
pub(crate) fn id<T: std::str::FromStr<Err = guildhall_domain::ids::NotAnId>>(
    id: &ID,
) -> Result<T, guildhall_domain::ids::NotAnId> {
    id.as_str().parse()
}

/// The values of a list, each once: a list of any length would make a statement of any length.
pub(crate) fn distinct<T: Into<U>, U: Ord>(
    list: impl IntoIterator<Item = impl IntoIterator<Item = T>>,
) -> Vec<U> {
    let mut values: Vec<U> = list.into_iter().flatten().map(Into::into).collect();
    values.sort_unstable();
    values.dedup();
    values
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
