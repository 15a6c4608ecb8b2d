//! Login activity: what is written down of signing in and out. Knows the codes and how long they are kept; refuses to
//! know who reads them.

use chrono::TimeDelta;

use crate::{access::policy::words, accounts::UserStatus, refusal::FieldFault};

words! {
    /// What happened at the door.
    LoginCode {
        /// A person signed in.
        Login = "LOGIN",
        /// A person signed a device out.
        Logout = "LOGOUT",
        /// Somebody tried an address that nobody has.
        UnknownUser = "UNKNOWN_USER",
        /// Somebody tried a password that is not the account's.
        WrongPassword = "WRONG_PASSWORD",
        /// Somebody with the right password was asked for the second factor.
        SecondFactorAsked = "SECOND_FACTOR_ASKED",
        /// Somebody with the right password gave a second factor that was not right.
        WrongSecondFactor = "WRONG_SECOND_FACTOR",
        /// Somebody with the right password was turned away, since the account is disabled.
        Disabled = "DISABLED",
        /// A person signed in whose address is not proven yet.
        Unverified = "UNVERIFIED",
        /// A person signed in for whom there is no workspace in the organization.
        NoWorkspace = "NO_WORKSPACE",
        /// A try was turned away unread, after too many that failed.
        Locked = "LOCKED",
        /// A refresh token came back that was used long before, and its session was ended.
        RefreshReused = "REFRESH_REUSED",
    }
}

impl LoginCode {
    /// The code of a sign-in, as the organization sees it. `has_workspace`: in that organization.
    pub fn of_sign_in(status: UserStatus, has_workspace: bool) -> Self {
        match status {
            UserStatus::Unverified => Self::Unverified,
            _ if !has_workspace => Self::NoWorkspace,
            _ => Self::Login,
        }
    }

    /// Whether strangers can cause it as often as they like.
    pub fn is_of_strangers(self) -> bool {
        matches!(
            self,
            Self::UnknownUser
                | Self::WrongPassword
                | Self::SecondFactorAsked
                | Self::WrongSecondFactor
                | Self::Disabled
                | Self::Locked
        )
    }
}

/// How often something that strangers cause is written down within an hour, of one account; of all the addresses that
/// nobody has together it is [`UNKNOWN_PER_HOUR`]. The first ones tell the story, and nobody fills the disk with the rest.
pub const STRANGERS_PER_HOUR: u64 = 60;

/// See [`STRANGERS_PER_HOUR`].
pub const UNKNOWN_PER_HOUR: u64 = 200;

/// How long what belongs to no organization is kept: tries of addresses that nobody has, and people without a place.
pub const NOBODYS_LAST: TimeDelta = TimeDelta::days(30);

/// How many days an organization keeps its login activity unless it says.
pub const DEFAULT_DAYS: u16 = 90;
/// The most that it may say.
const MAX_DAYS: u16 = 3650;

/// How many days login activity is kept.
pub fn kept_days(days: i32) -> Result<u16, FieldFault> {
    u16::try_from(days)
        .ok()
        .filter(|days| (1..=MAX_DAYS).contains(days))
        .ok_or_else(|| FieldFault(format!("is out of range: give 1 to {MAX_DAYS} days")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_in_is_one_thing_in_each_organization() {
        for (status, has_workspace, code) in [
            (UserStatus::Active, true, LoginCode::Login),
            (UserStatus::Active, false, LoginCode::NoWorkspace),
            (UserStatus::Unverified, true, LoginCode::Unverified),
            (UserStatus::Unverified, false, LoginCode::Unverified),
        ] {
            assert_eq!(LoginCode::of_sign_in(status, has_workspace), code);
        }
    }

    #[test]
    fn activity_is_kept_for_a_day_to_ten_years() {
        for days in [1, 90, 3650] {
            assert_eq!(kept_days(days).map(i32::from), Ok(days));
        }
        for days in [0, -1, 3651, i32::MAX, i32::MIN] {
            assert!(kept_days(days).is_err(), "{days}");
        }
    }
}
