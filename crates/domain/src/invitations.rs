//! Invitations: the state machine, who may invite whom to what, who may answer. Knows neither mail nor
//! tokens; a secret link has been recognised before these rules are asked.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    access::{PermissionSet, policy::words, role::Role},
    accounts::RegisterCode,
    codes,
    members::may_grant,
    quotas::Exceeded,
    refusal::Refusal,
    text::Email,
};

words! {
    /// Where an invitation stands. `PENDING` is the only state that can change.
    InvitationStatus {
        /// Waits for an answer.
        Pending = "PENDING",
        /// The invitee accepted and is a member.
        Accepted = "ACCEPTED",
        /// The invitee declined.
        Declined = "DECLINED",
        /// Taken back by an admin, or void since the inviter lost the right to invite.
        Revoked = "REVOKED",
        /// Nobody answered in time. Derived from the expiry; nothing has to run for it.
        Expired = "EXPIRED",
        /// A newer invitation to the same address took its place.
        Superseded = "SUPERSEDED",
    }
}

words! {
    /// Where the mail of an invitation stands.
    DeliveryState {
        /// Waits to be sent.
        Queued = "QUEUED",
        /// The mail server took it.
        Sent = "SENT",
        /// The mail server refused it for good, or every try failed.
        Failed = "FAILED",
        /// The invitation was answered or taken back before it was sent.
        Cancelled = "CANCELLED",
    }
}

codes! {
    /// Why a person was not invited.
    InviteMemberCode { AlreadyMember, AlreadyInvited, PrivilegeEscalation, QuotaExceeded, WorkspaceArchived, RateLimited }
}
codes! {
    /// Why an invitation was not sent again.
    ResendInvitationCode { NotFound, InvitationNotPending, OrganizationInvitation, PrivilegeEscalation, QuotaExceeded, WorkspaceArchived, RateLimited }
}
codes! {
    /// Why an invitation was not taken back.
    RevokeInvitationCode { NotFound, InvitationNotPending, OrganizationInvitation, WorkspaceArchived }
}
codes! {
    /// Why an invitation was not accepted.
    AcceptInvitationCode {
        NotFound, LinkInvalid, EmailMismatch, EmailUnverified, InvitationNotPending, InvitationExpired,
        InviterLostPermission, QuotaExceeded, WorkspaceArchived, UserDisabled
    }
}
codes! {
    /// Why an invitation was not declined.
    DeclineInvitationCode { NotFound, LinkInvalid, EmailMismatch, InvitationNotPending, InvitationExpired }
}

/// The most invitees of one `inviteMembers`.
pub const MAX_INVITEES: usize = 100;

/// The status people see: a pending invitation past its expiry is `EXPIRED`.
pub fn effective_status(
    stored: InvitationStatus,
    expires_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> InvitationStatus {
    if stored == InvitationStatus::Pending && now >= expires_at { InvitationStatus::Expired } else { stored }
}

/// When an invitation sent now expires.
pub fn expiry(now: DateTime<Utc>, organization_hours: Option<u16>, default_hours: u16) -> DateTime<Utc> {
    now + TimeDelta::hours(organization_hours.unwrap_or(default_hours).into())
}

/// What is known of the invitee, read while the workspace is locked.
#[derive(Clone, Copy, Debug, Default)]
pub struct InviteeFacts {
    /// Whether an account with the address is a member of the workspace.
    pub is_member: bool,
    /// Whether an invitation to the address is pending and not expired.
    pub is_invited: bool,
}

/// Judges an invitation by somebody who holds `held`. `given` is the field that named the invitee.
pub fn judge_invite(
    invitee: InviteeFacts,
    email: &Email,
    given: &'static str,
    role: &Role,
    held: PermissionSet,
) -> Result<(), Refusal<InviteMemberCode>> {
    if !may_grant(held, role) {
        return Err(Refusal::new(
            InviteMemberCode::PrivilegeEscalation,
            format!("The role {} holds permissions that you do not have yourself.", role.name),
        )
        .at("role"));
    }
    if invitee.is_member {
        return Err(Refusal::new(
            InviteMemberCode::AlreadyMember,
            format!("{email} is a member of this workspace already. Change the member's role instead."),
        )
        .at(given));
    }
    if invitee.is_invited {
        return Err(Refusal::new(
            InviteMemberCode::AlreadyInvited,
            format!("{email} has a pending invitation to this workspace. Resend or revoke that one."),
        )
        .at(given));
    }
    Ok(())
}

/// An invitation that somebody answers.
#[derive(Clone, Copy, Debug)]
pub struct AnswerFacts {
    /// The status as stored.
    pub status: InvitationStatus,
    /// When it expires.
    pub expires_at: DateTime<Utc>,
    /// Whether the inviter may still grant the role in every workspace that the invitation opens.
    pub inviter_may_invite: bool,
    /// Whether a workspace that the invitation opens is archived.
    pub opens_an_archive: bool,
}

/// Why an answer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerFault {
    /// Answered, revoked or replaced before.
    NotPending(InvitationStatus),
    /// Too late.
    Expired,
    /// A workspace that it opens is archived. An invitation is accepted as a whole, so it waits for all of them.
    Archived,
    /// The inviter may no longer invite: the invitation is to be marked `REVOKED`.
    InviterLostPermission,
    /// A quota was lowered since, and leaves no room for one more member. It stays pending.
    QuotaExceeded(Exceeded),
}

/// Judges accepting.
pub fn judge_accept(facts: &AnswerFacts, now: DateTime<Utc>) -> Result<(), AnswerFault> {
    judge_decline(facts, now)?;
    // Before the inviter is asked for: while the workspace is archived, nothing of it is written, not even that.
    if facts.opens_an_archive {
        return Err(AnswerFault::Archived);
    }
    if facts.inviter_may_invite { Ok(()) } else { Err(AnswerFault::InviterLostPermission) }
}

/// Judges declining: anyone may say no to a pending invitation, whoever sent it.
pub fn judge_decline(facts: &AnswerFacts, now: DateTime<Utc>) -> Result<(), AnswerFault> {
    match effective_status(facts.status, facts.expires_at, now) {
        InvitationStatus::Pending => Ok(()),
        InvitationStatus::Expired => Err(AnswerFault::Expired),
        other => Err(AnswerFault::NotPending(other)),
    }
}

/// The codes of an operation that answers an invitation.
pub trait AnswersInvitation: Copy {
    /// The code of each fault.
    fn of(fault: AnswerFault) -> Self;
}
macro_rules! answers {
    ($code:ident, $lost:ident, $archived:ident, $exceeded:ident) => {
        impl AnswersInvitation for $code {
            fn of(fault: AnswerFault) -> Self {
                match fault {
                    AnswerFault::NotPending(_) => Self::InvitationNotPending,
                    AnswerFault::Expired => Self::InvitationExpired,
                    AnswerFault::InviterLostPermission => Self::$lost,
                    AnswerFault::Archived => Self::$archived,
                    AnswerFault::QuotaExceeded(_) => Self::$exceeded,
                }
            }
        }
    };
}
answers!(AcceptInvitationCode, InviterLostPermission, WorkspaceArchived, QuotaExceeded);
answers!(RegisterCode, InviterLostPermission, WorkspaceArchived, QuotaExceeded);
// Declining asks nothing of the inviter or the workspace; these arms are never taken.
answers!(DeclineInvitationCode, InvitationNotPending, InvitationNotPending, InvitationNotPending);

impl AnswerFault {
    /// The refusal for the reader.
    pub fn refusal<C: AnswersInvitation>(self) -> Refusal<C> {
        let message = match self {
            Self::QuotaExceeded(exceeded) => return exceeded.refusal(C::of(self)),
            Self::NotPending(InvitationStatus::Accepted) => "This invitation was accepted before.",
            Self::NotPending(InvitationStatus::Declined) => {
                "This invitation was declined. Ask the inviter for a new one."
            }
            Self::NotPending(_) => "This invitation was taken back. Ask the inviter for a new one.",
            Self::Expired => "This invitation has expired. Ask the inviter to send it again.",
            Self::Archived => {
                "A workspace of this invitation is archived, so it cannot be accepted now. Ask the inviter to restore the \
                 workspace, or for an invitation without it."
            }
            Self::InviterLostPermission => {
                "The inviter may no longer invite to this workspace. Ask an admin of it for a new invitation."
            }
        };
        Refusal::new(C::of(self), message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::SystemRole;

    fn pending(expires_in_seconds: i64, inviter_may_invite: bool) -> AnswerFacts {
        AnswerFacts {
            status: InvitationStatus::Pending,
            expires_at: DateTime::UNIX_EPOCH + TimeDelta::seconds(expires_in_seconds),
            inviter_may_invite,
            opens_an_archive: false,
        }
    }

    #[test]
    fn only_a_pending_invitation_is_answered() {
        let now = DateTime::UNIX_EPOCH;
        assert_eq!(judge_accept(&pending(1, true), now), Ok(()));
        assert_eq!(judge_accept(&pending(0, true), now), Err(AnswerFault::Expired));
        assert_eq!(judge_accept(&pending(1, false), now), Err(AnswerFault::InviterLostPermission));
        assert_eq!(judge_decline(&pending(1, false), now), Ok(()));
        let archived = AnswerFacts { opens_an_archive: true, ..pending(1, false) };
        assert_eq!(judge_accept(&archived, now), Err(AnswerFault::Archived));
        assert_eq!(judge_decline(&archived, now), Ok(()));
        for status in InvitationStatus::ALL.iter().copied().filter(|s| *s != InvitationStatus::Pending) {
            let facts = AnswerFacts { status, ..pending(1, true) };
            assert!(judge_accept(&facts, now).is_err(), "{status:?}");
            assert!(judge_decline(&facts, now).is_err(), "{status:?}");
        }
    }

    #[test]
    fn an_expired_invitation_says_so_without_a_job_having_run() {
        let at = DateTime::UNIX_EPOCH;
        assert_eq!(effective_status(InvitationStatus::Pending, at, at), InvitationStatus::Expired);
        assert_eq!(effective_status(InvitationStatus::Accepted, at, at), InvitationStatus::Accepted);
    }

    #[test]
    fn nobody_invites_to_a_role_beyond_their_own() -> Result<(), crate::text::TextFault> {
        let email = Email::parse("a@example.org")?;
        let refused = judge_invite(
            InviteeFacts::default(),
            &email,
            "email",
            &SystemRole::Admin.into(),
            SystemRole::Editor.permissions(),
        );
        assert_eq!(refused.unwrap_err().code, InviteMemberCode::PrivilegeEscalation);
        Ok(())
    }
}
