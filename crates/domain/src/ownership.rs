//! Transfers of an organization's ownership: an owner asks a member, who takes over or does not. Knows who may be asked and
//! what can still be accepted.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    access::{OrganizationRole, policy::words},
    codes,
    ids::UserId,
    organization_members::OrganizationMemberFacts,
    refusal::{Refusal, RefusalCode},
};

words! {
    /// Where a transfer of ownership stands. `PENDING` is the only state that can change.
    OwnershipTransferStatus {
        /// Waits for the receiver's answer.
        Pending = "PENDING",
        /// The receiver took over.
        Accepted = "ACCEPTED",
        /// The receiver declined.
        Declined = "DECLINED",
        /// Taken back by an owner.
        Cancelled = "CANCELLED",
        /// Nobody answered in time. Derived from the expiry; nothing has to run for it.
        Expired = "EXPIRED",
        /// An owner asked again, this person or another.
        Superseded = "SUPERSEDED",
        /// The giver was no owner any more, or the receiver no active member.
        Void = "VOID",
    }
}

codes! {
    /// Why nobody was asked to take over.
    TransferOwnershipCode { NotFound }
}
codes! {
    /// Why a transfer was not accepted.
    AcceptOwnershipTransferCode { NotFound, TransferNotPending, TransferExpired, TransferVoid }
}
codes! {
    /// Why a transfer was not declined.
    DeclineOwnershipTransferCode { NotFound, TransferNotPending, TransferExpired }
}
codes! {
    /// Why a transfer was not taken back.
    CancelOwnershipTransferCode { NotFound, TransferNotPending, TransferExpired }
}

/// When a transfer that is asked for now expires.
pub fn expiry(now: DateTime<Utc>) -> DateTime<Utc> {
    now + TimeDelta::days(7)
}

/// The status people see: a pending transfer past its expiry is `EXPIRED`.
pub fn effective_status(
    stored: OwnershipTransferStatus,
    expires_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> OwnershipTransferStatus {
    use OwnershipTransferStatus::{Expired, Pending};
    if stored == Pending && now >= expires_at { Expired } else { stored }
}

/// Judges asking a member to take over.
pub fn judge_asking(
    receiver: &OrganizationMemberFacts,
    by: UserId,
) -> Result<(), Refusal<TransferOwnershipCode>> {
    let message = if receiver.user == by {
        "`userId` is you: you own the organization already."
    } else if receiver.role == OrganizationRole::Owner {
        "`userId` is an owner of the organization already."
    } else if !receiver.is_effective {
        "`userId` is a disabled member. Enable them first."
    } else {
        return Ok(());
    };
    Err(Refusal::new(TransferOwnershipCode::INVALID_INPUT, message).at("userId"))
}

/// The codes of an operation that ends a pending transfer.
pub trait EndsTransfer: Copy {
    /// The code of one that was ended before.
    const NOT_PENDING: Self;
    /// The code of one that nobody answered in time.
    const EXPIRED: Self;
}
macro_rules! ends {
    ($($code:ident),*) => {
        $(impl EndsTransfer for $code {
            const NOT_PENDING: Self = Self::TransferNotPending;
            const EXPIRED: Self = Self::TransferExpired;
        })*
    };
}
ends!(AcceptOwnershipTransferCode, DeclineOwnershipTransferCode, CancelOwnershipTransferCode);

/// Judges ending a transfer that stands there as people see it: only a pending one can be.
pub fn judge_pending<C: EndsTransfer>(status: OwnershipTransferStatus) -> Result<(), Refusal<C>> {
    use OwnershipTransferStatus as Status;
    let (code, message) = match status {
        Status::Pending => return Ok(()),
        Status::Expired => (C::EXPIRED, "Nobody answered this transfer in time. An owner can ask again."),
        Status::Accepted => (C::NOT_PENDING, "This transfer was accepted before."),
        Status::Declined => (C::NOT_PENDING, "This transfer was declined before."),
        Status::Cancelled => (C::NOT_PENDING, "This transfer was taken back."),
        Status::Superseded => (C::NOT_PENDING, "A newer transfer took the place of this one."),
        Status::Void => (C::NOT_PENDING, "This transfer is void. An owner can ask again."),
    };
    Err(Refusal::new(code, message).at("transferId"))
}

/// Judges whether a pending transfer can still be carried out. One that cannot is to be marked `VOID`. `giver` and `receiver`
/// are `None` where they do not belong to the organization any more.
pub fn judge_taking_over(
    giver: Option<&OrganizationMemberFacts>,
    receiver: Option<&OrganizationMemberFacts>,
) -> Result<(), Refusal<AcceptOwnershipTransferCode>> {
    let owner = |member: &&OrganizationMemberFacts| member.role == OrganizationRole::Owner;
    let void =
        |message| Err(Refusal::new(AcceptOwnershipTransferCode::TransferVoid, message).at("transferId"));
    if giver.filter(owner).is_none_or(|giver| !giver.is_effective) {
        return void("Whoever asked you is no owner any more. Ask an owner for a new transfer.");
    }
    match receiver {
        Some(receiver) if receiver.is_effective && !owner(&receiver) => Ok(()),
        Some(receiver) if receiver.is_effective => void("You own the organization already."),
        _ => void("You are no active member of the organization. Ask an admin of it to enable you."),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn member(user: u128, role: OrganizationRole, is_effective: bool) -> OrganizationMemberFacts {
        let user = Uuid::from_u128(user).into();
        OrganizationMemberFacts { user, role, is_effective, other_owners: 0 }
    }

    #[test]
    fn active_members_who_are_no_owners_are_asked() {
        use OrganizationRole::{Admin, Member, Owner};
        let by = Uuid::from_u128(1).into();
        for role in [Admin, Member] {
            assert_eq!(judge_asking(&member(2, role, true), by), Ok(()));
            let refused = judge_asking(&member(2, role, false), by).unwrap_err();
            assert_eq!(
                (refused.code, refused.field),
                (TransferOwnershipCode::InvalidInput, vec!["userId".into()])
            );
        }
        for other in [member(2, Owner, true), member(1, Owner, true)] {
            assert_eq!(judge_asking(&other, by).unwrap_err().code, TransferOwnershipCode::InvalidInput);
        }
    }

    #[test]
    fn only_an_owner_gives_and_only_an_active_member_takes() {
        use OrganizationRole::{Admin, Member, Owner};
        let (giver, receiver) = (member(1, Owner, true), member(2, Member, true));
        assert_eq!(judge_taking_over(Some(&giver), Some(&receiver)), Ok(()));
        let (gone, demoted, disabled) = (None, member(1, Admin, true), member(1, Owner, false));
        for giver in [gone, Some(&demoted), Some(&disabled)] {
            let refused = judge_taking_over(giver, Some(&receiver)).unwrap_err();
            assert_eq!(refused.code, AcceptOwnershipTransferCode::TransferVoid);
        }
        let (gone, disabled, owner) = (None, member(2, Member, false), member(2, Owner, true));
        for receiver in [gone, Some(&disabled), Some(&owner)] {
            let refused = judge_taking_over(Some(&giver), receiver).unwrap_err();
            assert_eq!(refused.code, AcceptOwnershipTransferCode::TransferVoid);
        }
    }

    #[test]
    fn a_transfer_that_nobody_answered_expires_by_itself() {
        let now = DateTime::UNIX_EPOCH;
        let at = |at| effective_status(OwnershipTransferStatus::Pending, expiry(now), at);
        assert_eq!(at(now + TimeDelta::days(7) - TimeDelta::seconds(1)), OwnershipTransferStatus::Pending);
        assert_eq!(at(now + TimeDelta::days(7)), OwnershipTransferStatus::Expired);
        for status in OwnershipTransferStatus::ALL {
            let judged = judge_pending::<AcceptOwnershipTransferCode>(*status);
            assert_eq!(judged.is_ok(), *status == OwnershipTransferStatus::Pending, "{status:?}");
        }
    }
}
