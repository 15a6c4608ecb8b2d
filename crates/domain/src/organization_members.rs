//! Members of an organization: their roles, removing, leaving, disabling. Knows who counts as the last owner; refuses to
//! know what a role allows.

use crate::{
    access::{OrganizationRole, policy::words},
    codes,
    ids::UserId,
    members::{KeepsAnAdmin, keep_admins},
    refusal::{Refusal, RefusalCode},
    sessions::EndMemberSessionsCode,
};

words! {
    /// Whether a person's place in an organization is in use.
    OrganizationMemberStatus {
        /// In use.
        Active = "ACTIVE",
        /// Closed by an admin: they see nothing of the organization. Nothing is lost, and it can be opened again.
        Disabled = "DISABLED",
    }
}

codes! {
    /// Why a member's role in the organization was not changed.
    UpdateOrganizationMemberCode { NotFound, LastOwner, OwnerProtected }
}
codes! {
    /// Why a person was not removed from the organization.
    RemoveOrganizationMemberCode { NotFound, LastAdmin, LastOwner, OwnerProtected }
}
codes! {
    /// Why a person did not leave the organization.
    LeaveOrganizationCode { LastAdmin, LastOwner }
}
codes! {
    /// Why a person was not disabled.
    DisableUserCode { NotFound, LastAdmin, LastOwner, OwnerProtected }
}
codes! {
    /// Why a person was not enabled.
    EnableUserCode { NotFound, OwnerProtected }
}

/// The codes of an operation that can take an owner away.
pub trait KeepsAnOwner: Copy {
    /// The code that keeps the last one.
    const LAST_OWNER: Self;
}

/// The codes of an operation that only owners may carry out on an owner.
pub trait ProtectsOwners: Copy {
    /// The code that turns others away.
    const OWNER_PROTECTED: Self;
}

macro_rules! implement {
    ($($of:ident::$constant:ident = $variant:ident for $($code:ident),*;)*) => {
        $($(impl $of for $code {
            const $constant: Self = Self::$variant;
        })*)*
    };
}
implement! {
    KeepsAnOwner::LAST_OWNER = LastOwner
        for UpdateOrganizationMemberCode, RemoveOrganizationMemberCode, LeaveOrganizationCode, DisableUserCode;
    ProtectsOwners::OWNER_PROTECTED = OwnerProtected
        for UpdateOrganizationMemberCode, RemoveOrganizationMemberCode, DisableUserCode, EnableUserCode,
            EndMemberSessionsCode;
    KeepsAnAdmin::LAST_ADMIN = LastAdmin
        for RemoveOrganizationMemberCode, LeaveOrganizationCode, DisableUserCode;
}

/// What is known of a member, read while the organization is locked.
#[derive(Clone, Debug)]
pub struct OrganizationMemberFacts {
    /// The member.
    pub user: UserId,
    /// The role held now.
    pub role: OrganizationRole,
    /// Whether the member can act: active in the organization, the account in use.
    pub is_effective: bool,
    /// How many owners besides this member can act.
    pub other_owners: u64,
}

/// Who changes a member: an admin or owner of the organization.
#[derive(Clone, Copy, Debug)]
pub struct Changer {
    /// The person.
    pub user: UserId,
    /// Their own role.
    pub role: Option<OrganizationRole>,
}

/// Only an owner touches an owner.
fn protect_owners<C: ProtectsOwners>(
    member: &OrganizationMemberFacts,
    by: Changer,
) -> Result<(), Refusal<C>> {
    if member.role == OrganizationRole::Owner && by.role != Some(OrganizationRole::Owner) {
        return Err(Refusal::new(
            C::OWNER_PROTECTED,
            "This is an owner of the organization. Only an owner can do that.",
        )
        .at("userId"));
    }
    Ok(())
}

/// Refuses what would leave the organization without an owner who can act.
fn keep_an_owner<C: KeepsAnOwner>(member: &OrganizationMemberFacts) -> Result<(), Refusal<C>> {
    if member.role == OrganizationRole::Owner && member.is_effective && member.other_owners == 0 {
        return Err(Refusal::new(
            C::LAST_OWNER,
            "This is the organization's last owner. Transfer the ownership first.",
        ));
    }
    Ok(())
}

/// Judges another role for a member.
pub fn judge_organization_role(
    member: &OrganizationMemberFacts,
    role: OrganizationRole,
    by: Changer,
) -> Result<(), Refusal<UpdateOrganizationMemberCode>> {
    if role == OrganizationRole::Owner {
        return Err(Refusal::new(
            UpdateOrganizationMemberCode::INVALID_INPUT,
            "`role` cannot be OWNER: nobody is made an owner without accepting it. Use `transferOwnership`.",
        )
        .at("role"));
    }
    protect_owners(member, by)?;
    keep_an_owner(member)
}

/// Judges removing a member. `orphaned` are the workspaces that would have no effective admin left.
pub fn judge_organization_removal(
    member: &OrganizationMemberFacts,
    orphaned: &[String],
    by: Changer,
) -> Result<(), Refusal<RemoveOrganizationMemberCode>> {
    protect_owners(member, by)?;
    keep_an_owner(member)?;
    keep_admins(orphaned)
}

/// Judges leaving. `orphaned` are the workspaces that would have no effective admin left.
pub fn judge_organization_leaving(
    member: &OrganizationMemberFacts,
    orphaned: &[String],
) -> Result<(), Refusal<LeaveOrganizationCode>> {
    keep_an_owner(member)?;
    keep_admins(orphaned)
}

/// Judges disabling a member. `orphaned` are the workspaces that would have no effective admin left.
pub fn judge_disabling(
    member: &OrganizationMemberFacts,
    orphaned: &[String],
    by: Changer,
) -> Result<(), Refusal<DisableUserCode>> {
    if member.user == by.user {
        return Err(Refusal::new(
            DisableUserCode::INVALID_INPUT,
            "`userId` is you: nobody disables themselves. Leave the organization instead.",
        )
        .at("userId"));
    }
    protect_owners(member, by)?;
    keep_an_owner(member)?;
    keep_admins(orphaned)
}

/// Judges enabling a member.
pub fn judge_enabling(member: &OrganizationMemberFacts, by: Changer) -> Result<(), Refusal<EnableUserCode>> {
    protect_owners(member, by)
}

/// Judges signing a member out everywhere.
pub fn judge_ending_sessions(
    member: &OrganizationMemberFacts,
    by: Changer,
) -> Result<(), Refusal<EndMemberSessionsCode>> {
    protect_owners(member, by)
}

/// Whether somebody with these places in organizations is shut out: they have some, and each of them is disabled. Who has
/// none at all keeps the account, and can be invited.
pub fn is_shut_out(places: &[OrganizationMemberStatus]) -> bool {
    !places.is_empty() && places.iter().all(|status| *status == OrganizationMemberStatus::Disabled)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn member(role: OrganizationRole, is_effective: bool, other_owners: u64) -> OrganizationMemberFacts {
        OrganizationMemberFacts { user: Uuid::from_u128(1).into(), role, is_effective, other_owners }
    }
    fn by(role: OrganizationRole) -> Changer {
        Changer { user: Uuid::from_u128(2).into(), role: Some(role) }
    }

    #[test]
    fn the_last_owner_who_can_act_stays() {
        use OrganizationRole::{Admin, Member, Owner};
        let last = member(Owner, true, 0);
        let code = judge_organization_role(&last, Member, by(Owner)).unwrap_err().code;
        assert_eq!(code, UpdateOrganizationMemberCode::LastOwner);
        let code = judge_organization_removal(&last, &[], by(Owner)).unwrap_err().code;
        assert_eq!(code, RemoveOrganizationMemberCode::LastOwner);
        let code = judge_organization_leaving(&last, &[]).unwrap_err().code;
        assert_eq!(code, LeaveOrganizationCode::LastOwner);
        assert_eq!(judge_disabling(&last, &[], by(Owner)).unwrap_err().code, DisableUserCode::LastOwner);
        for other in [member(Owner, true, 1), member(Owner, false, 0), member(Admin, true, 0)] {
            assert_eq!(judge_organization_removal(&other, &[], by(Owner)), Ok(()));
        }
    }

    #[test]
    fn only_an_owner_touches_an_owner_and_nobody_makes_one() {
        use OrganizationRole::{Admin, Member, Owner};
        let owner = member(Owner, true, 3);
        let code = judge_organization_role(&owner, Member, by(Admin)).unwrap_err().code;
        assert_eq!(code, UpdateOrganizationMemberCode::OwnerProtected);
        let code = judge_organization_removal(&owner, &[], by(Admin)).unwrap_err().code;
        assert_eq!(code, RemoveOrganizationMemberCode::OwnerProtected);
        assert_eq!(
            judge_disabling(&owner, &[], by(Admin)).unwrap_err().code,
            DisableUserCode::OwnerProtected
        );
        assert_eq!(judge_enabling(&owner, by(Admin)).unwrap_err().code, EnableUserCode::OwnerProtected);
        let code = judge_ending_sessions(&owner, by(Admin)).unwrap_err().code;
        assert_eq!(code, EndMemberSessionsCode::OwnerProtected);
        assert_eq!(judge_ending_sessions(&owner, by(Owner)), Ok(()));
        assert_eq!(judge_ending_sessions(&member(Admin, true, 0), by(Admin)), Ok(()));
        for role in [Admin, Member, Owner] {
            let refused = judge_organization_role(&member(role, true, 3), Owner, by(Owner)).unwrap_err();
            assert_eq!(refused.code, UpdateOrganizationMemberCode::InvalidInput);
            assert_eq!(refused.field, ["role"]);
        }
    }

    #[test]
    fn nobody_disables_themselves() {
        let own = Changer { user: Uuid::from_u128(1).into(), role: Some(OrganizationRole::Admin) };
        let refused = judge_disabling(&member(OrganizationRole::Admin, true, 1), &[], own).unwrap_err();
        assert_eq!((refused.code, refused.field), (DisableUserCode::InvalidInput, vec!["userId".into()]));
    }

    #[test]
    fn workspaces_without_an_admin_are_named_up_to_five() {
        let names = |count: usize| (1..=count).map(|n| format!("W{n}")).collect::<Vec<_>>();
        let message = |count| {
            let member = member(OrganizationRole::Member, true, 1);
            judge_organization_leaving(&member, &names(count)).map_err(|refusal| refusal.message)
        };
        assert_eq!(message(0), Ok(()));
        assert!(message(1).unwrap_err().contains("left in “W1”. Give another member of it"));
        assert!(message(5).unwrap_err().contains("“W4”, “W5”. Give another member of each"));
        assert!(message(7).unwrap_err().contains("“W4”, “W5” and 2 more. Give another member of each"));
    }

    #[test]
    fn only_somebody_whose_every_place_is_disabled_is_shut_out() {
        use OrganizationMemberStatus::{Active, Disabled};
        assert!(is_shut_out(&[Disabled]) && is_shut_out(&[Disabled, Disabled]));
        assert!(!is_shut_out(&[]) && !is_shut_out(&[Active]) && !is_shut_out(&[Active, Disabled]));
    }
}
