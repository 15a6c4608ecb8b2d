//! Members of a workspace: changing a role, removing, leaving. Knows who counts as the last admin.

use chrono::{DateTime, Datelike as _, Utc};

use crate::{
    access::{OrganizationRole, PermissionSet, policy::words, role::Role},
    codes,
    ids::UserId,
    refusal::{FieldFault, Refusal},
};

words! {
    /// How a membership came about.
    MembershipSource {
        /// Made the workspace.
        Creator = "CREATOR",
        /// Accepted an invitation.
        Invitation = "INVITATION",
        /// Was added by an operator.
        Direct = "DIRECT",
        /// Set the instance up.
        Setup = "SETUP",
    }
}

codes! {
    /// Why a member's role was not changed.
    UpdateMemberRoleCode { NotFound, LastAdmin, PrivilegeEscalation, OwnerProtected, WorkspaceArchived }
}
codes! {
    /// Why a member was not removed.
    RemoveMemberCode { NotFound, LastAdmin, OwnerProtected, WorkspaceArchived }
}
codes! {
    /// Why a person did not leave a workspace.
    LeaveWorkspaceCode { NotFound, LastAdmin, WorkspaceArchived }
}

/// The codes of an operation that can take an admin away.
pub trait KeepsAnAdmin: Copy {
    /// The code that keeps the last one.
    const LAST_ADMIN: Self;
}
impl KeepsAnAdmin for UpdateMemberRoleCode {
    const LAST_ADMIN: Self = Self::LastAdmin;
}
impl KeepsAnAdmin for RemoveMemberCode {
    const LAST_ADMIN: Self = Self::LastAdmin;
}
impl KeepsAnAdmin for LeaveWorkspaceCode {
    const LAST_ADMIN: Self = Self::LastAdmin;
}

/// What is known of a member, read while the workspace is locked.
#[derive(Clone, Debug)]
pub struct MemberFacts {
    /// The member.
    pub user: UserId,
    /// The role held now.
    pub role: Role,
    /// The role in the organization.
    pub organization_role: Option<OrganizationRole>,
    /// When the membership ends by itself.
    pub ends_at: Option<DateTime<Utc>>,
    /// Whether the member made the workspace.
    pub is_creator: bool,
    /// How many members besides this one are effective admins: an administering role that does not expire, an account in
    /// use, an active place in the organization.
    pub other_admins: u64,
}

/// Refuses what would leave workspaces without an effective admin. `orphaned` are the display names of those.
pub fn keep_admins<C: KeepsAnAdmin>(orphaned: &[String]) -> Result<(), Refusal<C>> {
    /// As many names as a message shows.
    const NAMED: usize = 5;
    let (mut names, which) = match orphaned {
        [] => return Ok(()),
        [name] => (format!("“{name}”"), "it"),
        several => {
            let named: Vec<String> = several.iter().take(NAMED).map(|name| format!("“{name}”")).collect();
            (named.join(", "), "each")
        }
    };
    if let Some(more) = orphaned.len().checked_sub(NAMED).filter(|more| *more > 0) {
        names.push_str(&format!(" and {more} more"));
    }
    Err(Refusal::new(
        C::LAST_ADMIN,
        format!("No admin would be left in {names}. Give another member of {which} the Admin role first."),
    ))
}

/// Refuses what would leave the workspace without an effective admin.
fn keep_an_admin<C: KeepsAnAdmin>(member: &MemberFacts) -> Result<(), Refusal<C>> {
    if member.role.administers() && member.other_admins == 0 {
        return Err(Refusal::new(
            C::LAST_ADMIN,
            "This is the workspace's last admin. Give another member the Admin role first.",
        ));
    }
    Ok(())
}

/// An owner keeps the workspaces they made, unless another owner or they themselves decide otherwise.
fn owner_protected(member: &MemberFacts, by: Option<UserId>, by_role: Option<OrganizationRole>) -> bool {
    member.is_creator
        && member.organization_role == Some(OrganizationRole::Owner)
        && Some(member.user) != by
        && by_role != Some(OrganizationRole::Owner)
}

/// Whether a role may be granted by somebody who holds `held`.
pub fn may_grant(held: PermissionSet, role: &Role) -> bool {
    held.covers(role.permissions.grantable())
}

/// Later years have five digits, and sort as texts before the others.
pub(crate) const LAST_YEAR: i32 = 9999;

/// When a membership is to end by itself: later than now.
pub fn end_of_membership(at: DateTime<Utc>, now: DateTime<Utc>) -> Result<DateTime<Utc>, FieldFault> {
    if at.year() > LAST_YEAR {
        return Err(FieldFault(format!("lies beyond the year {LAST_YEAR}: leave it out for no end")));
    }
    if at > now {
        Ok(at)
    } else {
        Err(FieldFault("lies in the past: give a later time, or remove the member".to_owned()))
    }
}

/// Judges a change to `role`, until `expires_at` if that is given, by `by`, who holds `held` in the workspace.
pub fn judge_role_change(
    member: &MemberFacts,
    role: &Role,
    expires_at: Option<DateTime<Utc>>,
    by: Option<UserId>,
    by_role: Option<OrganizationRole>,
    held: PermissionSet,
) -> Result<(), Refusal<UpdateMemberRoleCode>> {
    if !may_grant(held, role) {
        return Err(Refusal::new(
            UpdateMemberRoleCode::PrivilegeEscalation,
            format!("The role {} holds permissions that you do not have yourself.", role.name),
        )
        .at("role"));
    }
    let is_own =
        by.is_none_or(|by| by == member.user) && by_role.is_none_or(|role| role == OrganizationRole::Member);
    let is_longer = member.ends_at.is_some_and(|end| expires_at.is_none_or(|at| at > end));
    if is_own && is_longer {
        return Err(Refusal::new(
            UpdateMemberRoleCode::PrivilegeEscalation,
            "Your own membership ends by itself. Ask another admin whether it may last longer.",
        )
        .at("expiresAt"));
    }
    // An admin whose membership ends by itself is none that a workspace can rely on.
    let stays_admin = role.administers() && expires_at.is_none();
    if owner_protected(member, by, by_role) && !stays_admin {
        return Err(Refusal::new(
            UpdateMemberRoleCode::OwnerProtected,
            "An owner of the organization stays Admin of a workspace they created. Ask an owner.",
        ));
    }
    if stays_admin { Ok(()) } else { keep_an_admin(member) }
}

/// Judges a removal by `by`.
pub fn judge_removal(
    member: &MemberFacts,
    by: Option<UserId>,
    by_role: Option<OrganizationRole>,
) -> Result<(), Refusal<RemoveMemberCode>> {
    if owner_protected(member, by, by_role) {
        return Err(Refusal::new(
            RemoveMemberCode::OwnerProtected,
            "An owner of the organization stays in a workspace they created. Ask an owner.",
        ));
    }
    keep_an_admin(member)
}

/// Judges leaving.
pub fn judge_leaving(member: &MemberFacts) -> Result<(), Refusal<LeaveWorkspaceCode>> {
    keep_an_admin(member)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::access::SystemRole;

    fn member(role: SystemRole, other_admins: u64) -> MemberFacts {
        MemberFacts {
            user: Uuid::from_u128(1).into(),
            role: role.into(),
            organization_role: None,
            ends_at: None,
            is_creator: false,
            other_admins,
        }
    }
    fn by() -> Option<UserId> {
        Some(Uuid::from_u128(2).into())
    }

    #[test]
    fn the_last_admin_is_neither_demoted_nor_removed_nor_lets_go() {
        let last = member(SystemRole::Admin, 0);
        let held = SystemRole::Admin.permissions();
        let demoted =
            judge_role_change(&last, &SystemRole::Editor.into(), None, by(), None, held).unwrap_err();
        assert_eq!(demoted.code, UpdateMemberRoleCode::LastAdmin);
        assert_eq!(judge_removal(&last, by(), None).unwrap_err().code, RemoveMemberCode::LastAdmin);
        assert_eq!(judge_leaving(&last).unwrap_err().code, LeaveWorkspaceCode::LastAdmin);
        let admin = SystemRole::Admin.into();
        assert!(judge_role_change(&last, &admin, None, by(), None, held).is_ok());
        let limited = judge_role_change(&last, &admin, Some(DateTime::UNIX_EPOCH), by(), None, held);
        assert_eq!(limited.unwrap_err().code, UpdateMemberRoleCode::LastAdmin);
        assert!(judge_leaving(&member(SystemRole::Admin, 1)).is_ok());
        assert!(judge_leaving(&member(SystemRole::Viewer, 1)).is_ok());
    }

    #[test]
    fn nobody_prolongs_their_own_membership() {
        let end = DateTime::UNIX_EPOCH;
        let limited = MemberFacts { ends_at: Some(end), user: by().unwrap(), ..member(SystemRole::Admin, 1) };
        let (admin, held) = (SystemRole::Admin.into(), SystemRole::Admin.permissions());
        let by_role = Some(OrganizationRole::Member);
        for longer in [None, Some(end + chrono::TimeDelta::seconds(1))] {
            let refused = judge_role_change(&limited, &admin, longer, by(), by_role, held).unwrap_err();
            assert_eq!(refused.code, UpdateMemberRoleCode::PrivilegeEscalation);
            let of_organization = Some(OrganizationRole::Admin);
            assert!(judge_role_change(&limited, &admin, longer, by(), of_organization, held).is_ok());
            let other = MemberFacts { user: Uuid::from_u128(3).into(), ..limited.clone() };
            assert!(judge_role_change(&other, &admin, longer, by(), by_role, held).is_ok());
        }
        assert!(judge_role_change(&limited, &admin, Some(end), by(), by_role, held).is_ok());
    }

    #[test]
    fn nobody_grants_what_they_lack() {
        let editor = SystemRole::Editor.permissions();
        let refused = judge_role_change(
            &member(SystemRole::Viewer, 1),
            &SystemRole::Admin.into(),
            None,
            by(),
            None,
            editor,
        );
        assert_eq!(refused.unwrap_err().code, UpdateMemberRoleCode::PrivilegeEscalation);
    }

    #[test]
    fn an_owner_keeps_the_workspace_they_made_unless_an_owner_says_otherwise() {
        let creator = MemberFacts {
            organization_role: Some(OrganizationRole::Owner),
            is_creator: true,
            ..member(SystemRole::Admin, 3)
        };
        let admin = Some(OrganizationRole::Admin);
        assert_eq!(judge_removal(&creator, by(), admin).unwrap_err().code, RemoveMemberCode::OwnerProtected);
        assert!(judge_removal(&creator, by(), Some(OrganizationRole::Owner)).is_ok());
        assert!(judge_removal(&creator, Some(creator.user), Some(OrganizationRole::Owner)).is_ok());
    }
}
