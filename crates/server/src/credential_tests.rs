//! Tries credentials against the services that they are for. Knows what each kind of service is asked, and how its
//! answers are told to whoever mends the credential. Says nothing of a value or an answer, logs neither, and connects
//! only through [`Outbound`].

mod database;
mod google;
mod s3;
mod services;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use guildhall_domain::{credentials::CredentialKind, seams::Clock};
use guildhall_graphql::credential_tests::{
    CredentialTestFailure as Reason, CredentialTester, Failure, Outcome,
};
use hyper::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use url::{Host, Url};

use crate::outbound::{
    self, Fault, Outbound,
    web::{Answer, WebFault},
};

/// How long a test may take: the wait for its turn, connecting, and all that is asked.
const LIMIT: Duration = Duration::from_secs(10);

/// How many tests run at the same time.
const PLACES: usize = 8;

/// What worked, or what did not.
type Verdict = Result<&'static str, Failure>;

/// Tries credentials.
pub struct Tester {
    outbound: Outbound,
    clock: Arc<dyn Clock>,
    places: Semaphore,
    limit: Duration,
    google: Url,
}

impl Tester {
    /// A tester that goes out that way, and signs with the time of that clock.
    pub fn new(outbound: Outbound, clock: Arc<dyn Clock>) -> Self {
        Self { outbound, clock, places: Semaphore::new(PLACES), limit: LIMIT, google: google::storage() }
    }

    /// With another limit of time.
    pub fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// With another address of Google's storage API.
    pub fn asking_google_at(self, google: Url) -> Self {
        Self { google, ..self }
    }

    async fn try_out(&self, kind: CredentialKind, fields: &Fields) -> Verdict {
        let Self { outbound, clock, google, .. } = self;
        match kind {
            CredentialKind::S3 => s3::list(outbound, clock.now(), fields).await,
            CredentialKind::Gcs => google::list(outbound, google, clock.now(), fields).await,
            CredentialKind::Postgresql => database::sign_in(outbound, fields).await,
            CredentialKind::Dhis2 => services::dhis2(outbound, fields).await,
            CredentialKind::Iaso => services::iaso(outbound, fields).await,
            CredentialKind::Custom => {
                Err(invalid("A custom credential cannot be tested: nothing is known of what it opens."))
            }
        }
    }
}

impl CredentialTester for Tester {
    fn test(&self, kind: CredentialKind, fields: BTreeMap<String, SecretString>) -> BoxFuture<'_, Outcome> {
        Box::pin(async move {
            let began = Instant::now();
            // Whoever waits longer for a place would have too little left to tell slowness from crowding.
            let verdict = match timeout_at(began + self.limit / 2, self.places.acquire()).await {
                Ok(_place) => timeout_at(began + self.limit, self.try_out(kind, &Fields(fields)))
                    .await
                    .unwrap_or(Err(TIMED_OUT)),
                Err(_) => {
                    Err(Failure::new(Reason::Busy, "Too many tests are running. Try again in a moment."))
                }
            };
            let took = began.elapsed();
            let reason = verdict.err().map(|failure| failure.reason);
            tracing::debug!(kind = kind.word(), ?reason, ?took, "a credential was tested");
            Outcome { verdict, took }
        })
    }
}

/// The values of a credential by the codes of their fields.
struct Fields(BTreeMap<String, SecretString>);

impl Fields {
    fn get(&self, code: &str) -> Option<&str> {
        self.0.get(code).map(|value| value.expose_secret()).filter(|value| !value.is_empty())
    }

    fn required(&self, code: &str) -> Result<&str, Failure> {
        self.get(code).ok_or(invalid("A field that such a credential needs has no value."))
    }

    /// An address, followed by these segments of a path.
    fn url(&self, code: &str, then: &[&str]) -> Result<Url, Failure> {
        const WRONG: Failure =
            invalid("The address is none of a web service: it begins with https:// or http://.");
        let mut url = Url::parse(self.required(code)?).map_err(|_| WRONG)?;
        url.set_query(None);
        url.set_fragment(None);
        match url.path_segments_mut() {
            Ok(mut path) => path.pop_if_empty().extend(then),
            Err(()) => return Err(WRONG),
        };
        Ok(url)
    }

    fn host(&self, code: &str) -> Result<Host, Failure> {
        const WRONG: Failure = invalid(
            "The host is neither the name nor the address of one: give it without scheme, port or path.",
        );
        outbound::host(self.required(code)?).ok_or(WRONG)
    }
}

const fn invalid(message: &'static str) -> Failure {
    Failure::new(Reason::InvalidSettings, message)
}

const TIMED_OUT: Failure = Failure::new(
    Reason::TimedOut,
    "The service did not answer in time. Check host and port, and whether a firewall keeps this server out.",
);

const NOT_AS_EXPECTED: Failure = Failure::new(
    Reason::UnexpectedAnswer,
    "Something else than the expected service answered. Check address and port.",
);

fn told(fault: Fault) -> Failure {
    match fault {
        Fault::Refused => Failure::new(
            Reason::DestinationRefused,
            "The host is in a network that this server does not connect to. If it should, ask the operator of \
             the server to allow it (`credentials.test_destinations`).",
        ),
        Fault::UnknownHost => Failure::new(
            Reason::Unreachable,
            "There is no host of that name, as far as this server can find out. Check the spelling.",
        ),
        Fault::Unreachable => Failure::new(
            Reason::Unreachable,
            "The host does not accept connections at that port. Check host and port, and whether a firewall \
             keeps this server out.",
        ),
        Fault::TimedOut => TIMED_OUT,
        Fault::Tls => Failure::new(
            Reason::Tls,
            "No secure connection could be made: the service does not speak TLS there, or its certificate has \
             expired, is for another host or by an authority that this server does not trust.",
        ),
    }
}

fn told_of_web(fault: WebFault) -> Failure {
    match fault {
        WebFault::Connection(fault) => told(fault),
        WebFault::Broken => Failure::new(
            Reason::UnexpectedAnswer,
            "What answered is no web service, or it broke off. Check address and port, and whether the address \
             begins with https:// or http://.",
        ),
        WebFault::TooLong => {
            Failure::new(Reason::UnexpectedAnswer, "The answer was longer than such a service's is.")
        }
        WebFault::Unspeakable => invalid("The address or a value cannot be sent as it is."),
    }
}

/// What an answer means in which the service did not get to the question.
fn trouble(answer: &Answer) -> Failure {
    match answer.status {
        status if status.is_redirection() => Failure::new(
            Reason::Redirected,
            "The service redirects to another address, which is not followed. Give the address where it is, \
             often the one with https://.",
        ),
        StatusCode::TOO_MANY_REQUESTS => Failure::new(
            Reason::UnexpectedAnswer,
            "The service takes no more requests for now. Try again later.",
        ),
        status if status.is_server_error() => Failure::new(
            Reason::UnexpectedAnswer,
            "The service reports an error of its own. Try again later, or ask whoever runs it.",
        ),
        _ => NOT_AS_EXPECTED,
    }
}
