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

codes! {
    /// Why no recovery codes were made.
    GenerateRecoveryCodesCode { InvalidCredentials, SecondFactorRequired, SecondFactorInvalid, RateLimited }
}
codes! {
    /// Why a password was not reset by a recovery code.
    ResetPasswordWithRecoveryCodeCode { InvalidCredentials, WeakPassword, RateLimited }
}

impl TakesPassword for ResetPasswordWithRecoveryCodeCode {
    const WEAK_PASSWORD: Self = Self::WeakPassword;
}

/// How many recovery codes somebody has at first.
pub const RECOVERY_CODES: usize = 5;

/// What recovery codes are written with: nothing that looks like something else.
const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// A recovery code of 80 random bits, as it is shown: `ABCD-EFGH-JKLM-NPQR`.
pub fn recovery_code(random: &[u8; 16]) -> String {
    let mut code = String::with_capacity(19);
    for (place, byte) in random.iter().enumerate() {
        if place > 0 && place % 4 == 0 {
            code.push('-');
        }
        // 32 letters, so each is as likely as any other.
        code.push(char::from(ALPHABET[usize::from(byte % 32)]));
    }
    code
}

/// The code as it is compared, however it was typed.
pub fn typed_code(typed: &str) -> String {
    typed
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(64)
        .map(|letter| letter.to_ascii_uppercase())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_can_be_typed_in_any_case_and_grouping() {
        let code = recovery_code(&std::array::from_fn(|place| place as u8 * 17));
        assert_eq!(code.len(), 19);
        let plain = typed_code(&code);
        assert_eq!(plain.len(), 16);
        assert!(plain.bytes().all(|letter| ALPHABET.contains(&letter)));
        for typed in [code.to_lowercase(), code.replace('-', ""), code.replace('-', " "), format!(" {code} ")]
        {
            assert_eq!(typed_code(&typed), plain);
        }
        assert_eq!(typed_code(&"A".repeat(10_000)).len(), 64);
    }
}
