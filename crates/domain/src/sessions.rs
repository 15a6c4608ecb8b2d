//! Signed-in devices and the rotation of their refresh tokens. Knows the rules of rotation; refuses to know
//! how a token is made or stored.
//!
//! A session is one family of refresh tokens, numbered by generation. Each refresh moves the session to the
//! next generation; the token before it still answers for a short grace, with the *same* next token, so
//! that tabs which refresh at once all go on. Anything older is a replay, and ends the family
//! (RFC 9700, section 4.14.2).

use chrono::{DateTime, TimeDelta, Utc};

use crate::codes;

codes! {
    /// Why a session was not refreshed.
    RefreshSessionCode { SessionInvalid }
}
codes! {
    /// Why a session was not ended.
    RevokeSessionCode { NotFound }
}
codes! {
    /// Why a member's sessions were not ended.
    EndMemberSessionsCode { NotFound, OwnerProtected }
}
codes! {
    /// Why a person was not signed out. Signing out has no refusal of its own.
    SignOutCode {}
}

/// A session as it is stored.
#[derive(Clone, Copy, Debug)]
pub struct SessionFacts {
    /// The generation that is valid now.
    pub generation: u32,
    /// When it became so.
    pub rotated_at: DateTime<Utc>,
    /// When the session ends by itself.
    pub expires_at: DateTime<Utc>,
    /// Whether it was ended: signed out, revoked, replayed, password changed.
    pub ended: bool,
    /// Whether the account is disabled.
    pub user_disabled: bool,
}

/// What to do with a refresh token whose signature is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshVerdict {
    /// The newest token: move on to the next generation.
    Rotate,
    /// The one before it, within the grace: answer with the newest again.
    Repeat,
    /// An older one: somebody has a copy. End the family.
    Replayed,
    /// The session is over.
    Over,
}

/// Judges a refresh token of that generation.
pub fn judge_refresh(
    facts: &SessionFacts,
    generation: u32,
    grace: TimeDelta,
    now: DateTime<Utc>,
) -> RefreshVerdict {
    if facts.ended || facts.user_disabled || now >= facts.expires_at {
        RefreshVerdict::Over
    } else if generation == facts.generation {
        RefreshVerdict::Rotate
    } else if generation.checked_add(1) == Some(facts.generation) && now <= facts.rotated_at + grace {
        RefreshVerdict::Repeat
    } else {
        RefreshVerdict::Replayed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_before_the_newest_is_repeated_and_only_within_the_grace() {
        let start = DateTime::<Utc>::UNIX_EPOCH;
        let facts = SessionFacts {
            generation: 5,
            rotated_at: start,
            expires_at: start + TimeDelta::days(1),
            ended: false,
            user_disabled: false,
        };
        let grace = TimeDelta::seconds(30);
        let judge = |facts: &SessionFacts, generation, seconds| {
            judge_refresh(facts, generation, grace, start + TimeDelta::seconds(seconds))
        };
        assert_eq!(judge(&facts, 5, 3600), RefreshVerdict::Rotate);
        assert_eq!(judge(&facts, 4, 30), RefreshVerdict::Repeat);
        assert_eq!(judge(&facts, 4, 31), RefreshVerdict::Replayed);
        assert_eq!(judge(&facts, 3, 1), RefreshVerdict::Replayed);
        assert_eq!(judge(&facts, 6, 1), RefreshVerdict::Replayed);
        assert_eq!(judge(&facts, 5, 86_400), RefreshVerdict::Over);
        assert_eq!(judge(&SessionFacts { ended: true, ..facts }, 5, 1), RefreshVerdict::Over);
        assert_eq!(judge(&SessionFacts { user_disabled: true, ..facts }, 5, 1), RefreshVerdict::Over);
    }
}
