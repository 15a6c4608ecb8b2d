//! Getting back in: a password reset by mail, and another e-mail address. Knows what can be refused and how long links
//! last; refuses to know how they are made.

use chrono::TimeDelta;

use crate::{accounts::TakesPassword, codes};

codes! {
    /// Why no password reset was asked for.
    RequestPasswordResetCode { RateLimited }
}
codes! {
    /// Why a password was not reset.
    ResetPasswordCode { LinkInvalid, WeakPassword }
}
codes! {
    /// Why no other e-mail address was asked for.
    RequestEmailChangeCode { InvalidCredentials, RateLimited }
}
codes! {
    /// Why an e-mail address was not confirmed.
    ConfirmEmailChangeCode { LinkInvalid }
}
codes! {
    /// Why a change of the e-mail address was not stopped.
    CancelEmailChangeCode { LinkInvalid }
}

impl TakesPassword for ResetPasswordCode {
    const WEAK_PASSWORD: Self = Self::WeakPassword;
}

/// How long a change of the e-mail address can be confirmed.
pub const EMAIL_CHANGE_LASTS: TimeDelta = TimeDelta::days(1);
