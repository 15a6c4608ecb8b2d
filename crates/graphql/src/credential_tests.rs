//! What trying a credential comes to, and the seam to whoever does it. Knows no network: the process that serves the
//! schema brings the tester.

use std::{collections::BTreeMap, time::Duration};

use async_graphql::{Enum, SimpleObject};
use futures_util::future::BoxFuture;
use guildhall_domain::credentials::CredentialKind;
use secrecy::SecretString;

/// Tries the values of a credential against the service that they are for. Part of the schema's data, as
/// `Arc<dyn CredentialTester>`.
pub trait CredentialTester: Send + Sync {
    /// Signs in with the values of the fields, by their codes, and looks whether what they name is there. Takes a
    /// bounded time. A kind that cannot be tried fails with [`CredentialTestFailure::InvalidSettings`].
    fn test(&self, kind: CredentialKind, fields: BTreeMap<String, SecretString>) -> BoxFuture<'_, Outcome>;
}

/// What a try came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What worked, or what did not.
    pub verdict: Result<&'static str, Failure>,
    /// How long it took, the wait for a free place included.
    pub took: Duration,
}

/// What did not work. Its text is part of the program, so it holds no value of a field and nothing that the service
/// answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For programs.
    pub reason: CredentialTestFailure,
    /// For whoever mends the credential.
    pub message: &'static str,
}

impl Failure {
    /// That, because of this.
    pub const fn new(reason: CredentialTestFailure, message: &'static str) -> Self {
        Self { reason, message }
    }
}

/// Why a test of a credential failed.
#[derive(Enum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialTestFailure {
    /// The host is in a network that this instance does not connect to for its users: its own machine, a private
    /// network, or one set aside for something else.
    DestinationRefused,
    /// There is no host of that name, or nothing accepts connections there.
    Unreachable,
    /// There was no complete answer in time.
    TimedOut,
    /// No secure connection could be made: no TLS, or a certificate that is not accepted.
    Tls,
    /// The service does not know the user or key, or the secret is wrong.
    AuthenticationFailed,
    /// The service answered, but there is no such bucket, database or API.
    NotFound,
    /// The sign-in worked, but the user or key may not use the bucket or database.
    PermissionDenied,
    /// The service answered with a redirect, which is not followed.
    Redirected,
    /// What answered does not answer as such a service does, or reports a trouble of its own.
    UnexpectedAnswer,
    /// The fields cannot be used as they are, before or after asking the service.
    InvalidSettings,
    /// Too many tests are running. Try again in a moment.
    Busy,
}

/// What a test of a credential came to. Holds no value of a field and nothing of the service's answer.
#[derive(SimpleObject, Clone, Debug)]
pub struct CredentialTestReport {
    /// Whether the service accepted the credential.
    passed: bool,
    /// Why it failed; null when it passed.
    reason: Option<CredentialTestFailure>,
    /// What worked, or what did not and what may help, in a sentence.
    message: String,
    /// How long the test took, in milliseconds.
    duration_milliseconds: i32,
}

impl From<Outcome> for CredentialTestReport {
    fn from(outcome: Outcome) -> Self {
        let (reason, message) = match outcome.verdict {
            Ok(message) => (None, message),
            Err(Failure { reason, message }) => (Some(reason), message),
        };
        Self {
            passed: reason.is_none(),
            reason,
            message: message.to_owned(),
            duration_milliseconds: i32::try_from(outcome.took.as_millis()).unwrap_or(i32::MAX),
        }
    }
}
