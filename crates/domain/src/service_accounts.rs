//! Service accounts: machines with a role in one workspace. Knows who may give them which; what they may do then stands in
//! `access/machine.rs`.

use chrono::{DateTime, Utc};

use crate::{
    access::{PermissionSet, machine::of_role, role::Role},
    codes,
    refusal::Refusal,
};

codes! {
    /// Why a service account was not made.
    CreateServiceAccountCode { AlreadyExists, PrivilegeEscalation, LimitReached, WorkspaceArchived }
}
codes! {
    /// Why a service account was not changed.
    UpdateServiceAccountCode { NotFound, AlreadyExists, PrivilegeEscalation, WorkspaceArchived }
}
codes! {
    /// Why a service account got no new secret.
    RotateServiceAccountSecretCode { NotFound, PrivilegeEscalation, WorkspaceArchived }
}
codes! {
    /// Why a service account was not deleted.
    DeleteServiceAccountCode { NotFound, WorkspaceArchived }
}

/// How many service accounts a workspace can have.
pub const MAX_SERVICE_ACCOUNTS: u64 = 200;

/// Judges who hands out the rights of a service account with that role, by giving it the role or by taking a secret of it:
/// nobody hands out what they lack.
pub fn judge_grant<C>(
    held: PermissionSet,
    role: &Role,
    escalation: C,
    field: &'static str,
) -> Result<(), Refusal<C>> {
    if held.covers(of_role(role).grantable()) {
        return Ok(());
    }
    let message = format!("The role {} holds permissions that you do not have yourself.", role.name);
    Err(Refusal::new(escalation, message).at(field))
}

/// Refuses the secret of something that does not end to a key that does: it would outlive itself.
pub fn judge_end<C>(end_of_actor: Option<DateTime<Utc>>, escalation: C) -> Result<(), Refusal<C>> {
    match end_of_actor {
        None => Ok(()),
        Some(_) => Err(Refusal::new(
            escalation,
            "The key that asks for this ends by itself, and a service account does not. Ask a person, or make an API key.",
        )),
    }
}

/// Refuses one more than a workspace can have.
pub fn judge_room<C>(present: u64, limit_reached: C) -> Result<(), Refusal<C>> {
    if present < MAX_SERVICE_ACCOUNTS {
        return Ok(());
    }
    let message =
        format!("The workspace has {present} service accounts, as many as it can have. Delete one first.");
    Err(Refusal::new(limit_reached, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::SystemRole;

    #[test]
    fn nobody_hands_out_what_they_lack() {
        let admin = Role::from(SystemRole::Admin);
        assert!(judge_grant(SystemRole::Admin.permissions(), &admin, (), "role").is_ok());
        let refused = judge_grant(SystemRole::Editor.permissions(), &admin, (), "role").unwrap_err();
        assert_eq!(refused.field, ["role"]);
        // A machine that is an Admin lacks people, and so does the machine that it makes.
        assert!(judge_grant(of_role(&admin), &admin, (), "role").is_ok());
    }

    #[test]
    fn there_is_room_for_so_many() {
        assert!(judge_room(MAX_SERVICE_ACCOUNTS - 1, ()).is_ok());
        assert!(judge_room(MAX_SERVICE_ACCOUNTS, ()).is_err());
    }
}
