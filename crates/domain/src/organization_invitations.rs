//! Invitations to an organization: to a place in it, and to any number of its workspaces at once. How an invitation
//! lives and is answered, `invitations` knows.

use chrono::{DateTime, Utc};

use crate::{
    access::{OrganizationRole, role::Role},
    codes,
    refusal::{Refusal, RefusalCode, Refusals},
    text::Email,
};

codes! {
    /// Why somebody was not invited to an organization.
    InviteOrganizationMemberCode { AlreadyMember, AlreadyInvited, QuotaExceeded, WorkspaceArchived, RateLimited }
}
codes! {
    /// Why an invitation to an organization was not sent again.
    ResendOrganizationInvitationCode {
        NotFound, InvitationNotPending, AlreadyInvited, QuotaExceeded, WorkspaceArchived, RateLimited
    }
}
codes! {
    /// Why an invitation to an organization was not revoked.
    RevokeOrganizationInvitationCode { NotFound, InvitationNotPending }
}

/// The most workspaces that one invitation opens.
pub const MAX_WORKSPACES: usize = 100;

/// What is known of the invitee, read while the organization and its workspaces are locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InviteeFacts {
    /// Whether they belong to the organization, and then whether their place is active.
    pub place: Option<bool>,
    /// Whether an invitation to the organization is pending.
    pub is_invited: bool,
}

/// One of the workspaces to invite to, as it was found.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The workspace's name that people read, if the organization has it.
    pub workspace: Option<String>,
    /// Whether it is archived.
    pub is_archived: bool,
    /// The role, if it can be granted there.
    pub role: Option<Role>,
    /// Whether the same workspace stands further up in the list.
    pub is_repeated: bool,
    /// Whether an invitation of the address to this workspace is pending.
    pub is_invited: bool,
}

/// The role in the organization that an invitation may give.
pub fn judge_role<C: RefusalCode>(role: OrganizationRole) -> Result<OrganizationRole, Refusal<C>> {
    match role {
        OrganizationRole::Member | OrganizationRole::Admin => Ok(role),
        OrganizationRole::Owner => Err(Refusal::new(
            C::INVALID_INPUT,
            "`role` cannot be OWNER: invite the person, and hand the organization over with `transferOwnership`.",
        )
        .at("role")),
    }
}

/// Judges an invitation as a whole: one bad entry refuses all of it, and each is named.
pub fn judge_invitation(
    invitee: InviteeFacts,
    email: &Email,
    openings: &[Opening],
) -> Result<(), Refusals<InviteOrganizationMemberCode>> {
    use InviteOrganizationMemberCode as Code;
    let mut refusals = Vec::new();
    match invitee.place {
        Some(true) => refusals.push(
            Refusal::new(
                Code::AlreadyMember,
                format!(
                    "{email} belongs to the organization already. Invite them to its workspaces instead."
                ),
            )
            .at("email"),
        ),
        Some(false) => refusals.push(
            Refusal::new(
                Code::AlreadyMember,
                format!("{email} belongs to the organization and is disabled in it. Enable them instead."),
            )
            .at("email"),
        ),
        None if invitee.is_invited => refusals.push(
            Refusal::new(
                Code::AlreadyInvited,
                format!("{email} has a pending invitation to the organization. Resend or revoke that one."),
            )
            .at("email"),
        ),
        None => {}
    }
    for (index, opening) in openings.iter().enumerate() {
        let mut refuse = |code, message: String, field| {
            refusals.push(Refusal::new(code, message).at("workspaces").at(index.to_string()).at(field));
        };
        match &opening.workspace {
            None => refuse(
                Code::InvalidInput,
                "`workspaceId` names no workspace of this organization.".to_owned(),
                "workspaceId",
            ),
            Some(_) if opening.is_repeated => refuse(
                Code::InvalidInput,
                "`workspaceId` stands in the list before: name each workspace once.".to_owned(),
                "workspaceId",
            ),
            Some(name) if opening.is_archived => refuse(
                Code::WorkspaceArchived,
                format!("“{name}” is archived. Restore it first, or invite to the others."),
                "workspaceId",
            ),
            Some(name) if opening.is_invited => refuse(
                Code::AlreadyInvited,
                format!("{email} has a pending invitation to “{name}”. Resend or revoke that one."),
                "workspaceId",
            ),
            Some(_) => {}
        }
        if opening.role.is_none() {
            refuse(Code::InvalidInput, "`role` is no role of this organization.".to_owned(), "role");
        }
    }
    if refusals.is_empty() { Ok(()) } else { Err(Refusals(refusals)) }
}

/// Until when it can be answered: not longer than the shortest membership that it gives.
pub fn answerable_until(
    expires_at: DateTime<Utc>,
    ends: impl IntoIterator<Item = Option<DateTime<Utc>>>,
) -> DateTime<Utc> {
    ends.into_iter().flatten().fold(expires_at, Ord::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::SystemRole;

    fn opening() -> Opening {
        Opening {
            workspace: Some("Lab".to_owned()),
            is_archived: false,
            role: Some(SystemRole::Viewer.into()),
            is_repeated: false,
            is_invited: false,
        }
    }

    #[test]
    fn each_bad_entry_is_named() {
        let email = Email::parse("eve@example.org").unwrap();
        let new = InviteeFacts { place: None, is_invited: false };
        let openings = [
            opening(),
            Opening { workspace: None, role: None, ..opening() },
            Opening { is_invited: true, ..opening() },
            Opening { is_repeated: true, ..opening() },
            Opening { is_archived: true, ..opening() },
        ];
        let Refusals(refusals) = judge_invitation(new, &email, &openings).unwrap_err();
        let fields: Vec<_> = refusals.iter().map(|refusal| refusal.field.join(".")).collect();
        assert_eq!(
            fields,
            [
                "workspaces.1.workspaceId",
                "workspaces.1.role",
                "workspaces.2.workspaceId",
                "workspaces.3.workspaceId",
                "workspaces.4.workspaceId"
            ]
        );
        assert!(judge_invitation(new, &email, &openings[..1]).is_ok());
        assert!(judge_invitation(new, &email, &[]).is_ok());
    }

    #[test]
    fn who_belongs_to_it_is_not_invited() {
        let email = Email::parse("eve@example.org").unwrap();
        for (place, is_invited, code) in [
            (Some(true), false, InviteOrganizationMemberCode::AlreadyMember),
            (Some(false), false, InviteOrganizationMemberCode::AlreadyMember),
            (None, true, InviteOrganizationMemberCode::AlreadyInvited),
        ] {
            let facts = InviteeFacts { place, is_invited };
            assert_eq!(judge_invitation(facts, &email, &[]).unwrap_err().0[0].code, code);
        }
        assert!(judge_role::<InviteOrganizationMemberCode>(OrganizationRole::Owner).is_err());
    }
}
