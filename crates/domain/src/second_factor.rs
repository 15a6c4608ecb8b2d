//! A second factor: codes of an authenticator app beside the password (TOTP, RFC 6238). Knows when a code is right and how
//! guessing is slowed down; refuses to know how secrets are kept and what has been used.

use chrono::{DateTime, TimeDelta, Utc};
use totp_rs::{Algorithm, Builder, Secret, Totp, TotpError};

use crate::{codes, lockout::Failures, refusal::FieldFault};

codes! {
    /// Why no second factor was begun.
    EnrollSecondFactorCode { InvalidCredentials, SecondFactorRequired, SecondFactorInvalid, RateLimited }
}
codes! {
    /// Why a second factor was not put in force.
    ConfirmSecondFactorCode { EnrollmentMissing, SecondFactorInvalid, RateLimited }
}
codes! {
    /// Why a second factor was not switched off.
    DisableSecondFactorCode { NotFound, InvalidCredentials, SecondFactorInvalid, RateLimited }
}

/// As many random bits as RFC 4226 asks for.
pub const SECRET_BYTES: usize = 20;
/// How long a second factor can be confirmed after it was begun.
pub const ENROLLMENT_LASTS: TimeDelta = TimeDelta::hours(1);
const DIGITS: u8 = 6;
const STEP: u64 = 30;
/// How many steps a clock may be off, either way.
const SKEW: u16 = 1;

fn totp(secret: &[u8]) -> Builder {
    Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_digits(DIGITS)
        .with_skew(SKEW)
        .with_step_duration(STEP)
        .with_secret(Secret::from(secret))
}

/// The step whose code that is, at most one before or after the present one, so that a clock may be off a little. Each step's
/// code is good once, and none before it: one that is not newer than `last_step` is no right one.
pub fn matching_step(secret: &[u8], code: &str, now: DateTime<Utc>, last_step: Option<i64>) -> Option<i64> {
    let now = u64::try_from(now.timestamp()).ok()?;
    let step = totp(secret).build_noncompliant().check(code, now)?;
    i64::try_from(step).ok().filter(|step| last_step.is_none_or(|last| last < *step))
}

/// What an authenticator app is given.
pub struct Enrollment {
    /// The secret in Base32, to be typed in.
    pub secret: String,
    /// The same with everything else, to be scanned.
    pub uri: String,
}

/// What the app of the person with that address is given, under the name of this service.
pub fn enrollment(secret: &[u8], service: &str, email: &str) -> Result<Enrollment, TotpError> {
    // The form of the address knows no colons.
    let named = |text: &str| text.replace(':', " ");
    let totp: Totp =
        totp(secret).with_issuer(Some(named(service))).with_account_name(named(email)).build()?;
    Ok(Enrollment { secret: totp.secret().to_base32(), uri: totp.to_url()? })
}

/// What somebody typed as the second factor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// Nothing.
    Nothing,
    /// A code of an authenticator app.
    Code(String),
    /// It can only be a recovery code.
    RecoveryCode(String),
}

/// The longest that can be typed: a recovery code has 19 signs.
const MAX_TYPED: usize = 64;

impl Typed {
    /// Reads what was typed, in any grouping.
    pub fn parse(text: &str) -> Result<Self, FieldFault> {
        const WHAT: &str = "give the 6 digits that the app shows, or a recovery code";
        let text = text.trim();
        if text.is_empty() {
            return Err(FieldFault(format!("is blank: {WHAT}")));
        }
        let is_fit = |letter: char| letter.is_ascii_alphanumeric() || letter == ' ' || letter == '-';
        if text.len() > MAX_TYPED || !text.chars().all(is_fit) {
            return Err(FieldFault(format!("is no code: {WHAT}")));
        }
        let bare: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
        Ok(match bare.len() <= usize::from(DIGITS) || bare.bytes().all(|byte| byte.is_ascii_digit()) {
            true => Self::Code(bare),
            false => Self::RecoveryCode(bare),
        })
    }
}

/// How long after the last wrong code all are forgotten.
pub const WRONG_CODES_LAST: TimeDelta = TimeDelta::days(30);
/// How many wrong codes are free.
const FREE: u32 = 10;
const FIRST_WAIT: TimeDelta = TimeDelta::seconds(30);
const LONGEST_WAIT: TimeDelta = TimeDelta::days(1);

/// Until when codes of an account are not looked at. Whoever gets here knows the password, so nobody is kept out by strangers;
/// the wait holds for every network and grows to a day. A try is right with three in a million: whoever guesses on and on has a chance
/// of one in a thousand in a year, and of some in a hundred where the owner signs in each day, since a right code forgives the wrong
/// ones. Recovery codes, which nobody guesses, are taken meanwhile.
pub fn codes_wait(wrong: Failures, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let beyond = wrong.number.checked_sub(FREE)?;
    let until = wrong.last + (FIRST_WAIT * 2_i32.pow(beyond.min(16))).min(LONGEST_WAIT);
    (now < until).then_some(until)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The secret of RFC 6238, appendix B.
    const SECRET: &[u8] = b"12345678901234567890";

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn codes_are_those_of_the_rfc() {
        // The last six of its eight digits.
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(matching_step(SECRET, code, at(seconds), None), Some(seconds / 30), "{seconds}");
        }
    }

    #[test]
    fn a_clock_may_be_off_by_one_step() {
        // 59 lies in the step 1, which lasts from 30 to 59.
        for (now, is_right) in
            [(0, true), (29, true), (30, true), (59, true), (60, true), (89, true), (90, false)]
        {
            assert_eq!(matching_step(SECRET, "287082", at(now), None).is_some(), is_right, "{now}");
        }
        assert_eq!(matching_step(SECRET, "050471", at(1_111_111_111 - 61), None), None);
    }

    #[test]
    fn no_code_is_good_twice_nor_one_before_it() {
        for (last, is_right) in [(None, true), (Some(0), true), (Some(1), false), (Some(2), false)] {
            assert_eq!(matching_step(SECRET, "287082", at(59), last).is_some(), is_right, "{last:?}");
        }
    }

    #[test]
    fn what_is_no_code_is_not_right() {
        for code in
            ["", "28708", "2870822", "94287082", "28708x", "-87082", "+87082", "２８７０８２", "287 082"]
        {
            assert_eq!(matching_step(SECRET, code, at(59), None), None, "{code}");
        }
        assert_eq!(matching_step(SECRET, "287082", at(-1), None), None);
    }

    #[test]
    fn what_is_typed_is_read_in_any_grouping() {
        for none in ["", "  ", "\n", "2870\u{0}82", "287082\n1", "２８７０８２", "a@b", &"9".repeat(65)]
        {
            assert!(Typed::parse(none).is_err(), "{none}");
        }
        for code in ["287082", "287 082", " 287-082\n", "2 8 7 0 8 2"] {
            assert_eq!(Typed::parse(code), Ok(Typed::Code("287082".to_owned())), "{code}");
        }
        for code in ["ABCD-EFGH-JKLM-NPQR", "abcd efgh jklm npqr"] {
            assert!(matches!(Typed::parse(code), Ok(Typed::RecoveryCode(_))), "{code}");
        }
    }

    #[test]
    fn an_app_is_given_the_secret_and_whose_it_is() {
        let given = enrollment(SECRET, "Guild: hall & Söhne", "ada+x@example.org").unwrap();
        assert_eq!(given.secret, "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        let uri = url::Url::parse(&given.uri).unwrap();
        assert_eq!((uri.scheme(), uri.host_str()), ("otpauth", Some("totp")));
        assert!(uri.query_pairs().any(|pair| pair == ("secret".into(), given.secret.as_str().into())));
        assert!(uri.query_pairs().any(|pair| pair == ("issuer".into(), "Guild  hall & Söhne".into())));
        assert!(!given.uri.contains(' '), "{}", given.uri);
        assert!(enrollment(&SECRET[..10], "Guildhall", "ada@example.org").is_err(), "too few bits");
    }

    #[test]
    fn whoever_guesses_codes_waits_up_to_a_day() {
        let wait = |number| {
            codes_wait(Failures { number, last: at(0) }, at(0)).map(|until| (until - at(0)).num_seconds())
        };
        for (number, seconds) in
            [(0, None), (9, None), (10, Some(30)), (11, Some(60)), (21, Some(61_440)), (22, Some(86_400))]
        {
            assert_eq!(wait(number), seconds, "{number}");
        }
        assert_eq!(wait(u32::MAX), Some(86_400));
        assert_eq!(codes_wait(Failures { number: 10, last: at(0) }, at(30)), None);
    }
}
