//! Credentials: what they are made of, and what may be done with those that are lent. Knows no cipher: what is kept of a
//! value, and how, is the storage's business.

mod kinds;

use chrono::{DateTime, Datelike as _, Utc};
use secrecy::{ExposeSecret, SecretString};

pub use kinds::{CredentialKind, FieldForm, FieldSpec};

use crate::{
    access::policy::words,
    codes,
    members::LAST_YEAR,
    refusal::{FieldFault, Refusal, RefusalCode},
};

codes! {
    /// Why a credential was not made.
    CreateCredentialCode { AlreadyExists, WorkspaceArchived }
}
codes! {
    /// Why a credential was not changed.
    UpdateCredentialCode { NotFound, SharedReadOnly, WorkspaceArchived }
}
codes! {
    /// Why a credential was not deleted.
    DeleteCredentialCode { NotFound, SharedReadOnly, InUse, WorkspaceArchived }
}
codes! {
    /// Why the values of a credential were not shown.
    RevealCredentialCode { NotFound, SharedReadOnly, WorkspaceArchived }
}
codes! {
    /// Why a credential was not tried.
    TestCredentialCode { NotFound, NotTestable, ShareSuspended, RateLimited, WorkspaceArchived }
}
codes! {
    /// Why a credential was not lent.
    ShareCredentialCode { NotFound, SharedReadOnly, AlreadyShared, WorkspaceArchived }
}
codes! {
    /// Why a credential was not taken back.
    UnshareCredentialCode { NotFound, ShareEnded, WorkspaceArchived }
}
codes! {
    /// Why an offered credential was not accepted.
    AcceptCredentialShareCode { NotFound, ShareNotPending, ShareExpired, WorkspaceArchived }
}
codes! {
    /// Why an offered or lent credential was not declined.
    DeclineCredentialShareCode { NotFound, ShareEnded, WorkspaceArchived }
}
codes! {
    /// Why a credential was not used.
    UseCredentialCode { NotFound, AmbiguousSlug, ShareNotAccepted, ShareExpired, ShareSuspended, WorkspaceArchived }
}

words! {
    /// Where a loan stands.
    ShareStatus {
        /// Waits for an admin of the borrowing workspace.
        Pending = "PENDING",
        /// Can be used there.
        Active = "ACTIVE",
        /// An admin of the borrowing workspace did not want it, or gave it back.
        Declined = "DECLINED",
        /// The lender took it back.
        Revoked = "REVOKED",
        /// Its time is over. Derived from its end, and stored only when the credential is lent there anew.
        Expired = "EXPIRED",
    }
}

impl ShareStatus {
    /// The status that a stored one is read as at `now`.
    pub fn at(self, expires_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Self {
        match self {
            Self::Pending | Self::Active if expires_at.is_some_and(|end| end <= now) => Self::Expired,
            status => status,
        }
    }
}

words! {
    /// How a use of a credential ended.
    UseOutcome {
        /// The values were handed out for a workload.
        Used = "USED",
        /// The secret values were shown to a person.
        Revealed = "REVEALED",
        /// The connection was tried with the values.
        Tested = "TESTED",
        /// Refused: the user may not use credentials there.
        Forbidden = "FORBIDDEN",
        /// Refused: the workspace, or the one that lends, is archived.
        Suspended = "SUSPENDED",
        /// Refused: what was lent was taken back, given back or is not accepted yet.
        NotShared = "NOT_SHARED",
        /// Refused: the loan has ended.
        Expired = "EXPIRED",
    }
}

/// The most fields that a credential has.
pub const MAX_FIELDS: usize = 50;
/// The longest value of a field, in bytes.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;
/// The longest code of a field, in characters.
const MAX_CODE: usize = 63;

/// A field as somebody gave it.
#[derive(Debug)]
pub struct GivenField {
    /// Its code.
    pub code: String,
    /// The value; `None` keeps the one that is stored.
    pub value: Option<SecretString>,
    /// Whether the value is write-only; `None`: as the kind says, else yes.
    pub is_secret: Option<bool>,
}

/// What is known of a stored field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredField {
    /// Its code.
    pub code: String,
    /// Whether the value is write-only.
    pub is_secret: bool,
}

/// A field as it is to be stored.
#[derive(Debug)]
pub struct PlannedField {
    /// Its code.
    pub code: String,
    /// Whether the value is write-only.
    pub is_secret: bool,
    /// The new value; `None`: the stored one stays.
    pub value: Option<SecretString>,
}

/// What the fields of a credential become: all of `given`, and nothing else. Every fault is told, at its place in the
/// input.
pub fn plan_fields<C: RefusalCode>(
    kind: CredentialKind,
    given: Vec<GivenField>,
    stored: &[StoredField],
) -> Result<Vec<PlannedField>, Vec<Refusal<C>>> {
    let mut faults = Vec::new();
    if given.len() > MAX_FIELDS {
        let message = format!("`fields` has {} entries: give at most {MAX_FIELDS}.", given.len());
        return Err(vec![Refusal::new(C::INVALID_INPUT, message).at("fields")]);
    }
    let mut planned: Vec<PlannedField> = Vec::with_capacity(given.len());
    for (place, field) in given.into_iter().enumerate() {
        let known = planned.iter().any(|other| other.code == field.code);
        match plan_field(kind, field, known, stored) {
            Ok(field) => planned.push(field),
            Err((name, FieldFault(message))) => faults.push(
                Refusal::new(C::INVALID_INPUT, format!("`fields.{place}.{name}` {message}"))
                    .at("fields")
                    .at(place.to_string())
                    .at(name),
            ),
        }
    }
    // What is missing is told beside what is wrong only where it is missing for sure.
    if faults.is_empty() {
        for spec in kind.fields().iter().filter(|spec| spec.is_required) {
            if !planned.iter().any(|field| field.code == spec.code) {
                let message = format!("`fields` lacks `{}`: {}", spec.code, spec.documentation);
                faults.push(Refusal::new(C::INVALID_INPUT, message).at("fields"));
            }
        }
        if planned.is_empty() && kind.fields().is_empty() {
            let message = "`fields` is empty: give at least one field.";
            faults.push(Refusal::new(C::INVALID_INPUT, message).at("fields"));
        }
    }
    if faults.is_empty() { Ok(planned) } else { Err(faults) }
}

fn plan_field(
    kind: CredentialKind,
    field: GivenField,
    is_repeated: bool,
    stored: &[StoredField],
) -> Result<PlannedField, (&'static str, FieldFault)> {
    let fault = |name, message: String| Err((name, FieldFault(message)));
    let GivenField { code, value, is_secret } = field;
    parse_code(&code).map_err(|fault| ("code", fault))?;
    if is_repeated {
        return fault("code", format!("repeats `{code}`: give each field once"));
    }
    let spec = kind.field(&code);
    let is_secret = match spec {
        Some(spec) if is_secret.is_some_and(|asked| asked != spec.is_secret) => {
            let rule = if spec.is_secret { "always secret" } else { "never secret" };
            return fault("isSecret", format!("cannot be chosen: `{code}` of {} is {rule}", kind.word()));
        }
        Some(spec) => spec.is_secret,
        None if kind == CredentialKind::Custom => {
            let stored = stored.iter().find(|field| field.code == code);
            is_secret.unwrap_or_else(|| stored.is_none_or(|field| field.is_secret))
        }
        None => {
            let codes: Vec<_> = kind.fields().iter().map(|field| field.code).collect();
            return fault(
                "code",
                format!("is no field of {}: use {}, or the kind CUSTOM", kind.word(), codes.join(", ")),
            );
        }
    };
    match &value {
        Some(value) => {
            parse_value(value.expose_secret(), spec.map_or(FieldForm::Text, |spec| spec.form), kind)
                .map_err(|fault| ("value", fault))?
        }
        None => match stored.iter().find(|field| field.code == code) {
            None => return fault("value", format!("is null, but no value of `{code}` is stored to keep")),
            // Else a write-only value could be read by declaring it public.
            Some(stored) if stored.is_secret != is_secret => {
                return fault(
                    "value",
                    "is null: give the value again to change whether the field is secret".to_owned(),
                );
            }
            Some(_) => {}
        },
    }
    Ok(PlannedField { code, is_secret, value })
}

/// Reads the code of a field: it becomes part of the names of environment variables.
pub fn parse_code(code: &str) -> Result<(), FieldFault> {
    let form = code.starts_with(|c: char| c.is_ascii_lowercase())
        && code.len() <= MAX_CODE
        && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if form {
        return Ok(());
    }
    Err(FieldFault(format!(
        "is no code of a field: use 1 to {MAX_CODE} lower-case letters a–z, digits and underscores, beginning with a letter"
    )))
}

/// Checks a value. No message repeats any of it.
fn parse_value(value: &str, form: FieldForm, kind: CredentialKind) -> Result<(), FieldFault> {
    let fault = |message: &str| Err(FieldFault(message.to_owned()));
    if value.len() > MAX_VALUE_BYTES {
        return Err(FieldFault(format!("is too long: {} bytes, at most {MAX_VALUE_BYTES}", value.len())));
    }
    if value.is_empty() {
        return fault("is empty: leave the field out, or give null to keep the stored value");
    }
    if value.contains('\0') {
        return fault("contains a NUL character, which no environment variable can hold: remove it");
    }
    match form {
        // A custom field may hold a certificate.
        FieldForm::Text if kind != CredentialKind::Custom && value.contains(['\n', '\r']) => {
            fault("contains a line break: remove it")
        }
        FieldForm::Text => Ok(()),
        FieldForm::Port => match value.parse::<u16>() {
            Ok(1..) if value.bytes().all(|byte| byte.is_ascii_digit()) => Ok(()),
            _ => fault("is no port: give a number from 1 to 65535"),
        },
        FieldForm::Json => match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(value) {
            Ok(_) => Ok(()),
            Err(_) => fault("is no JSON object: give the file as it was downloaded"),
        },
        FieldForm::Url => match url::Url::parse(value) {
            Ok(url) if !matches!(url.scheme(), "http" | "https") || !url.has_host() => {
                fault("is no address of a web service: it begins with https:// or http://")
            }
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                fault("holds a user name or password: give them in fields of their own")
            }
            Ok(_) => Ok(()),
            Err(_) => fault("is no address of a web service, such as https://example.org"),
        },
    }
}

/// Reads when a loan ends.
pub fn end_of_share(end: DateTime<Utc>, now: DateTime<Utc>) -> Result<DateTime<Utc>, FieldFault> {
    if end.year() > LAST_YEAR {
        return Err(FieldFault(format!("lies beyond the year {LAST_YEAR}: give null to lend for good")));
    }
    if end <= now {
        return Err(FieldFault("has passed already: give a later time, or null to lend for good".to_owned()));
    }
    Ok(end)
}

/// What is known of a credential that a workload asks for by its slug.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The workspace's own.
    Own,
    /// Another workspace's, with where the loan stands and whether the lender is in use.
    Lent {
        /// As [`ShareStatus::at`] reads it.
        status: ShareStatus,
        /// Whether the lending workspace is archived.
        is_suspended: bool,
    },
}

/// Whether a credential can be used; how the refused use is recorded and told otherwise.
pub fn judge_use(found: &Found) -> Result<(), (UseOutcome, Refusal<UseCredentialCode>)> {
    use UseCredentialCode as Code;
    let Found::Lent { status, is_suspended } = found else { return Ok(()) };
    let (outcome, code, message) = match status {
        ShareStatus::Active if !is_suspended => return Ok(()),
        ShareStatus::Active => (
            UseOutcome::Suspended,
            Code::ShareSuspended,
            "The workspace that lends this credential is archived. It can be used again once that is restored.",
        ),
        ShareStatus::Expired => (
            UseOutcome::Expired,
            Code::ShareExpired,
            "The loan of this credential has ended. Ask the workspace that owns it to lend it again.",
        ),
        ShareStatus::Pending => (
            UseOutcome::NotShared,
            Code::ShareNotAccepted,
            "This credential is offered and not accepted yet. An admin of this workspace can accept it.",
        ),
        ShareStatus::Declined | ShareStatus::Revoked => {
            (UseOutcome::NotShared, Code::NotFound, "There is no credential of that slug here.")
        }
    };
    Err((outcome, Refusal::new(code, message).at("slug")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(code: &str, value: Option<&str>) -> GivenField {
        GivenField { code: code.to_owned(), value: value.map(Into::into), is_secret: None }
    }

    fn plan(
        kind: CredentialKind,
        fields: Vec<GivenField>,
        stored: &[StoredField],
    ) -> Result<Vec<PlannedField>, Vec<String>> {
        plan_fields::<UpdateCredentialCode>(kind, fields, stored)
            .map_err(|faults| faults.into_iter().map(|fault| fault.message).collect())
    }

    const KEY: &str = "secret_access_key";

    fn bucket(extra: Vec<GivenField>) -> Vec<GivenField> {
        let mut fields = vec![given("bucket_name", Some("data")), given("access_key_id", Some("AKIA"))];
        fields.extend(extra);
        fields
    }

    #[test]
    fn every_kind_can_be_drawn_and_stored() {
        for kind in CredentialKind::ALL {
            assert_eq!(CredentialKind::from_word(kind.word()), Some(*kind));
            assert_eq!(kind.fields().is_empty(), *kind == CredentialKind::Custom);
            for field in kind.fields() {
                parse_code(field.code).unwrap();
                assert!(field.documentation.ends_with('.'), "{}", field.code);
                assert!(!field.is_secret || field.example.is_empty(), "{}", field.code);
            }
        }
    }

    #[test]
    fn a_field_that_is_missing_unknown_or_given_twice_is_told_by_name() {
        let faults = plan(CredentialKind::S3, bucket(vec![]), &[]).unwrap_err();
        assert_eq!(faults, ["`fields` lacks `secret_access_key`: The secret of that access key."]);
        let faults = plan(CredentialKind::S3, bucket(vec![given("passwort", Some("x"))]), &[]).unwrap_err();
        assert!(faults[0].starts_with("`fields.2.code` is no field of S3: use bucket_name"), "{faults:?}");
        let faults =
            plan(CredentialKind::S3, bucket(vec![given("bucket_name", Some("x"))]), &[]).unwrap_err();
        assert_eq!(faults, ["`fields.2.code` repeats `bucket_name`: give each field once"]);
        assert_eq!(
            plan(CredentialKind::Custom, vec![], &[]).unwrap_err(),
            ["`fields` is empty: give at least one field."]
        );
    }

    #[test]
    fn null_keeps_what_is_stored_and_nothing_else() {
        let stored = [StoredField { code: KEY.to_owned(), is_secret: true }];
        let fields = plan(CredentialKind::S3, bucket(vec![given(KEY, None)]), &stored).unwrap();
        assert!(fields[2].value.is_none() && fields[2].is_secret);
        let faults = plan(CredentialKind::S3, bucket(vec![given(KEY, None)]), &[]).unwrap_err();
        assert_eq!(
            faults,
            ["`fields.2.value` is null, but no value of `secret_access_key` is stored to keep"]
        );
    }

    #[test]
    fn a_secret_does_not_become_public_by_being_kept() {
        let stored = [StoredField { code: "token".to_owned(), is_secret: true }];
        let public = |value| GivenField { code: "token".to_owned(), value, is_secret: Some(false) };
        let faults = plan(CredentialKind::Custom, vec![public(None)], &stored).unwrap_err();
        assert_eq!(
            faults,
            ["`fields.0.value` is null: give the value again to change whether the field is secret"]
        );
        assert!(plan(CredentialKind::Custom, vec![public(Some("new".into()))], &stored).is_ok());
        let fields = plan(CredentialKind::Custom, vec![given("token", Some("x"))], &[]).unwrap();
        assert!(fields[0].is_secret, "a custom field is secret unless said otherwise");
        let stored = [StoredField { code: "token".to_owned(), is_secret: false }];
        let fields = plan(CredentialKind::Custom, vec![given("token", None)], &stored).unwrap();
        assert!(!fields[0].is_secret, "and what is kept stays what it was");
        let asked = GivenField { is_secret: Some(false), ..given(KEY, Some("x")) };
        assert!(plan(CredentialKind::S3, bucket(vec![asked]), &[]).unwrap_err()[0].contains("always secret"));
    }

    #[test]
    fn values_have_the_form_of_their_field_and_no_message_repeats_one() {
        let secret = "hunter2-planted";
        for (kind, code, value) in [
            (CredentialKind::Postgresql, "port", secret),
            (CredentialKind::Postgresql, "port", "0"),
            (CredentialKind::Postgresql, "port", "+80"),
            (CredentialKind::Postgresql, "port", "65536"),
            (CredentialKind::Postgresql, "host", "a\nhunter2-planted"),
            (CredentialKind::Dhis2, "api_url", "hunter2-planted"),
            (CredentialKind::Dhis2, "api_url", "ftp://hunter2-planted"),
            (CredentialKind::Dhis2, "api_url", "https://user:hunter2-planted@example.org"),
            (CredentialKind::Gcs, "service_account_key", "\"hunter2-planted\""),
            (CredentialKind::Custom, "x", ""),
            (CredentialKind::Custom, "x", "hunter2-planted\0"),
            (CredentialKind::Custom, "x", &format!("{secret}{}", "a".repeat(MAX_VALUE_BYTES))),
        ] {
            let faults = plan(kind, vec![given(code, Some(value))], &[]).unwrap_err();
            assert!(faults[0].starts_with("`fields.0.value` "), "{faults:?}");
            assert!(!faults.join(" ").contains(secret), "{faults:?}");
        }
        assert!(plan(CredentialKind::Custom, vec![given("pem", Some("-----BEGIN\nAAAA"))], &[]).is_ok());
    }

    #[test]
    fn a_loan_ends_later_than_now_and_in_a_year_of_four_digits() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let now = at("2026-01-01T00:00:00Z");
        for (end, is_good) in [
            ("2026-01-01T00:00:00Z", false),
            ("2026-01-01T00:00:01Z", true),
            ("9999-12-31T23:59:59Z", true),
            ("+10000-01-01T00:00:00Z", false),
            ("-0001-01-01T00:00:00Z", false),
        ] {
            assert_eq!(end_of_share(at(end), now).is_ok(), is_good, "{end}");
        }
    }

    #[test]
    fn debug_shows_no_value() {
        let secret = "hunter2-planted";
        let shown = format!("{:?}", given(KEY, Some(secret)));
        assert!(shown.contains(KEY) && !shown.contains(secret), "{shown}");
        let planned = plan_fields::<UpdateCredentialCode>(
            CredentialKind::S3,
            bucket(vec![given(KEY, Some(secret))]),
            &[],
        );
        let shown = format!("{:?}", planned.unwrap());
        assert!(shown.contains(KEY) && !shown.contains(secret), "{shown}");
    }

    #[test]
    fn what_is_lent_can_be_used_while_it_is_active_and_its_lender_in_use() {
        let lent = |status, is_suspended| judge_use(&Found::Lent { status, is_suspended });
        assert!(judge_use(&Found::Own).is_ok());
        assert!(lent(ShareStatus::Active, false).is_ok());
        let outcome = |status, is_suspended| lent(status, is_suspended).unwrap_err().0;
        assert_eq!(outcome(ShareStatus::Active, true), UseOutcome::Suspended);
        assert_eq!(outcome(ShareStatus::Expired, false), UseOutcome::Expired);
        for status in [ShareStatus::Pending, ShareStatus::Declined, ShareStatus::Revoked] {
            assert_eq!(outcome(status, false), UseOutcome::NotShared);
        }
    }
}
