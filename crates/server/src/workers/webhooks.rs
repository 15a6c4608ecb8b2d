//! Tells webhooks what happened: has what they take gathered from the event log, sends what is due, and has written down what
//! came of it. Knows when, where to and for how long; refuses to know SQL and secrets. No database connection is held
//! meanwhile.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use guildhall_domain::{
    events::{EventKind, Recorded},
    ids::{OrganizationId, WorkspaceId},
    webhooks::WebhookUrl,
};
use guildhall_graphql::webhooks::WebhookDestinations;
use guildhall_persistence::{
    Db,
    events::{Lagged, Topic},
    in_background,
    webhooks::{self, Claim, News, Outcome, Outgoing},
};
use hyper::{
    Method,
    header::{self, HeaderName, HeaderValue},
};
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::outbound::{
    Fault, Outbound, host,
    web::{Ask, WebFault},
};

/// How many deliveries are on their way at once, each to another webhook, and how many are taken at a time.
const AT_ONCE: usize = 64;
const TAKEN: usize = 16;
/// How many of those are kept for webhooks whose receiver answers.
const FOR_GOOD: usize = 24;
/// How often what is due is looked for without being told to.
const POLL: Duration = Duration::from_secs(1);
/// The shortest time from one gathering to the next: under load one serves many events.
const PACE: Duration = Duration::from_millis(50);
/// How often is gathered everywhere: for what happened while nobody listened, or found no room before.
const ROUND: Duration = Duration::from_secs(60);
/// How long a receiver has for its answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long what is on its way has when the process stops. What has not come to an end by then is sent again.
const GRACE: Duration = Duration::from_secs(10);
/// How much of an answer's body is read, and how many characters of that are kept.
const MOST_READ: usize = 4 * 1024;
const MOST_KEPT: usize = 300;
/// The waits between attempts to write down what came of a try.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

impl WebhookDestinations for Outbound {
    fn refusal(&self, url: &WebhookUrl) -> Option<&'static str> {
        refusal(self, url.url())
    }
}

/// Why nothing is sent there, as far as the address tells by itself.
fn refusal(outbound: &Outbound, url: &Url) -> Option<&'static str> {
    let Some(host) = url.host_str().and_then(host) else { return Some("names no host") };
    if outbound.is_refused(&host) {
        return Some(
            "leads into a network that this server sends nothing to. If it should, ask its operator to allow it \
             (`webhooks.destinations`)",
        );
    }
    if url.scheme() != "https" && !outbound.is_named(&host) {
        return Some(
            "begins with http://, so that anybody on the way could read along: give an https address",
        );
    }
    None
}

/// Tells webhooks until told to stop. Then it takes nothing more, and finishes what is on its way.
pub(super) async fn run(db: Db, outbound: Arc<Outbound>, stop: CancellationToken) {
    let sender = Sender::default();
    let grace_is_over = async {
        stop.cancelled().await;
        sleep(GRACE).await;
    };
    let work = async { tokio::join!(gather(&db, &sender, &stop), send(&db, &outbound, &sender, &stop)) };
    tokio::select! {
        _ = work => {}
        () = grace_is_over => tracing::warn!("stopped with messages to webhooks on their way: they are sent again"),
    }
}

/// What whoever gathers says to whoever sends.
#[derive(Default)]
struct Sender {
    /// Whether there is any webhook: without one nothing is looked for.
    is_needed: AtomicBool,
    queued: Notify,
}

impl Sender {
    fn need(&self, is_needed: bool) {
        if self.is_needed.swap(is_needed, Ordering::Relaxed) != is_needed {
            self.queued.notify_one();
        }
    }
}

/// What is known of webhooks, and of what happened since that was gathered last.
#[derive(Default)]
struct Heard {
    /// Where there are webhooks, and perhaps where there were.
    watched: HashSet<WorkspaceId>,
    watched_organizations: HashSet<OrganizationId>,
    /// Whether to look everywhere.
    everything: bool,
    workspaces: HashSet<WorkspaceId>,
    organizations: HashSet<OrganizationId>,
}

impl Heard {
    fn watch(&mut self, workspace: WorkspaceId, organization: OrganizationId) {
        self.watched.insert(workspace);
        self.watched_organizations.insert(organization);
    }

    fn note(&mut self, event: Result<Arc<Recorded>, Lagged>) {
        let Ok(event) = event else {
            self.everything = true;
            return;
        };
        match event.kind {
            EventKind::Invitation | EventKind::Workspace | EventKind::Credential | EventKind::Quota => {
                self.workspaces.extend(event.workspace.filter(|id| self.watched.contains(id)));
            }
            EventKind::Audit => {
                let organization = event.audited().filter(|id| self.watched_organizations.contains(id));
                self.organizations.extend(organization);
            }
            EventKind::Webhook => {
                if let Some((workspace, organization)) = event.webhook() {
                    self.watch(workspace, organization);
                }
            }
            EventKind::Access | EventKind::Session => {}
        }
    }

    fn is_empty(&self) -> bool {
        !self.everything && self.workspaces.is_empty() && self.organizations.is_empty()
    }

    /// Gathers where something happened; how much was queued.
    async fn gather(&mut self, db: &Db) -> Result<u64, guildhall_persistence::Fault> {
        let queued = if self.everything {
            let watched = webhooks::watched(db).await?;
            self.watched.clear();
            self.watched_organizations.clear();
            watched.into_iter().for_each(|(workspace, organization)| self.watch(workspace, organization));
            match self.watched.is_empty() {
                true => 0,
                false => webhooks::gather(db, News::Everything).await?,
            }
        } else {
            let workspaces: Vec<_> = self.workspaces.iter().copied().collect();
            let organizations: Vec<_> = self.organizations.iter().copied().collect();
            webhooks::gather(db, News::Of(&workspaces, &organizations)).await?
        };
        self.everything = false;
        self.workspaces.clear();
        self.organizations.clear();
        Ok(queued)
    }
}

async fn gather(db: &Db, sender: &Sender, stop: &CancellationToken) {
    // Listening begins before reading, so that nothing falls between the two.
    let mut feed = db.bus().subscribe(&[Topic::Everything]);
    let mut heard = Heard { everything: true, ..Heard::default() };
    let mut round = Instant::now() + ROUND;
    let mut failing = false;
    while !stop.is_cancelled() {
        let mut next = Instant::now() + PACE;
        if !heard.is_empty() {
            match heard.gather(db).await {
                Ok(queued) => {
                    failing = false;
                    if queued > 0 {
                        sender.queued.notify_one();
                    }
                }
                Err(error) => {
                    next = Instant::now() + POLL;
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "events cannot be gathered for webhooks; trying again each second");
                    }
                }
            }
        }
        sender.need(!heard.watched.is_empty());
        if heard.is_empty() {
            tokio::select! {
                event = feed.next() => heard.note(event),
                () = sleep_until(round) => {
                    heard.everything = true;
                    round = Instant::now() + ROUND;
                }
                () = stop.cancelled() => return,
            }
        }
        stop.run_until_cancelled(sleep_until(next)).await;
        while let Some(event) = feed.try_next() {
            heard.note(event);
        }
    }
}

async fn send(db: &Db, outbound: &Arc<Outbound>, sender: &Sender, stop: &CancellationToken) {
    let mut under_way = JoinSet::new();
    let mut failing = false;
    loop {
        let stopping = stop.is_cancelled();
        let free = AT_ONCE - under_way.len();
        let only_good = free <= FOR_GOOD;
        let limit = if only_good { free } else { free - FOR_GOOD }.min(TAKEN);
        let is_needed = sender.is_needed.load(Ordering::Relaxed);
        if free > 0 && is_needed && !stopping {
            match webhooks::claim(db, limit, only_good).await {
                Ok(claimed) => {
                    failing = false;
                    let is_full = claimed.len() == limit;
                    for outgoing in claimed {
                        let (db, outbound) = (db.clone(), Arc::clone(outbound));
                        under_way
                            .spawn(in_background(async move { deliver(&db, &outbound, outgoing).await }));
                    }
                    if is_full {
                        continue;
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "what is due to webhooks cannot be read; trying again each second");
                    }
                }
            }
        }
        if stopping && under_way.is_empty() {
            return;
        }
        let has_room = under_way.len() < AT_ONCE && !stopping;
        tokio::select! {
            Some(done) = under_way.join_next() => {
                // Whoever broke down has a lease that ends.
                if let Err(error) = done {
                    tracing::error!(%error, "sending to a webhook broke down");
                }
                while under_way.try_join_next().is_some() {}
            }
            () = sender.queued.notified(), if has_room => {}
            () = sleep(POLL), if has_room && is_needed => {}
            () = stop.cancelled(), if !stopping => {}
        }
    }
}

async fn deliver(db: &Db, outbound: &Outbound, outgoing: Outgoing) {
    let claim = outgoing.claim;
    let outcome = attempt(outbound, outgoing).await;
    let Claim { delivery, webhook, attempt, .. } = claim;
    let (status, fault) = (outcome.status, outcome.fault);
    tracing::debug!(%webhook, %delivery, attempt, status, fault, "sent to a webhook");
    let started = Instant::now();
    let mut wait = FIRST_WAIT;
    while let Err(error) = webhooks::settle(db, &claim, &outcome).await {
        tracing::warn!(%error, %delivery, "cannot write down what came of a message to a webhook; trying again");
        if started.elapsed() > webhooks::LEASE.to_std().unwrap_or_default() {
            // Somebody else has it by now.
            return;
        }
        sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Sends a message and hears what is answered.
async fn attempt(outbound: &Outbound, outgoing: Outgoing) -> Outcome {
    let unanswered = |fault| Outcome { status: None, body: None, fault: Some(fault) };
    let Ok(url) = Url::parse(&outgoing.url) else { return unanswered(told(WebFault::Unspeakable)) };
    // The operator may have changed since what is allowed.
    if refusal(outbound, &url).is_some() {
        return unanswered(told(WebFault::Connection(Fault::Refused)));
    }
    let headers = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (HeaderName::from_static("webhook-id"), outgoing.claim.delivery.to_string()),
        (HeaderName::from_static("webhook-timestamp"), outgoing.timestamp.to_string()),
        (HeaderName::from_static("webhook-signature"), outgoing.signature),
    ];
    let headers = headers.into_iter().map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?)));
    let Some(headers) = headers.collect() else { return unanswered(told(WebFault::Unspeakable)) };
    let ask = Ask { method: Method::POST, url: &url, headers, body: Bytes::from(outgoing.body) };
    match timeout(PATIENCE, outbound.ask_briefly(ask, MOST_READ)).await {
        Ok(Ok(answer)) => {
            Outcome { status: Some(answer.status.as_u16()), body: Some(beginning(&answer.body)), fault: None }
        }
        Ok(Err(fault)) => unanswered(told(fault)),
        Err(_) => unanswered(told(WebFault::Connection(Fault::TimedOut))),
    }
}

/// How a body begins, as far as it is text.
fn beginning(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.chars().take(MOST_KEPT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Why there is no answer, for whoever manages the webhook.
fn told(fault: WebFault) -> &'static str {
    match fault {
        WebFault::Connection(Fault::Refused) => {
            "The host is in a network that this server sends nothing to, or the address begins with http://."
        }
        WebFault::Connection(Fault::UnknownHost) => {
            "There is no host of that name, as far as this server can find out."
        }
        WebFault::Connection(Fault::Unreachable) => "The host does not accept connections at that port.",
        WebFault::Connection(Fault::TimedOut) => "The receiver did not answer within 15 seconds.",
        WebFault::Connection(Fault::Tls) => {
            "No secure connection could be made: the receiver does not speak TLS there, or its certificate has expired, is \
             for another host or by an authority that this server does not trust."
        }
        WebFault::Broken | WebFault::TooLong => "What answered is no web service, or it broke off.",
        WebFault::Unspeakable => "The message cannot be sent to that address as it is.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::Destination;

    fn outbound(allowed: &[&str]) -> Outbound {
        let allowed = allowed.iter().map(|text| Destination::parse(text).unwrap()).collect();
        Outbound::new(allowed, None).unwrap()
    }

    #[test]
    fn private_destinations_and_plain_http_are_for_those_that_the_operator_named() {
        let (none, some) = (outbound(&[]), outbound(&["10.0.0.0/8", "127.0.0.1", "hooks.internal"]));
        let says = |outbound: &Outbound, url: &str| refusal(outbound, &Url::parse(url).unwrap()).is_none();
        for (url, anywhere, named) in [
            ("https://example.org/", true, true),
            ("https://8.8.8.8/", true, true),
            ("http://example.org/", false, false),
            ("http://8.8.8.8/", false, false),
            ("https://10.1.2.3/", false, true),
            ("http://10.1.2.3/", false, true),
            ("https://127.1/", false, true),
            ("https://0x7f000001/", false, true),
            ("https://[::ffff:10.1.2.3]/", false, true),
            ("https://localhost/", false, true),
            ("http://a.localhost:8080/", false, true),
            ("https://192.168.0.1/", false, false),
            ("https://169.254.169.254/latest", false, false),
            ("https://[::1]/", false, false),
            // What a name stands for is looked up when something is sent.
            ("https://hooks.internal/", true, true),
            ("http://hooks.internal/", false, true),
        ] {
            assert_eq!(says(&none, url), anywhere, "{url}");
            assert_eq!(says(&some, url), named, "{url}");
        }
    }

    #[test]
    fn of_an_answer_the_beginning_is_kept_as_text() {
        assert_eq!(beginning(b"a\0b\nc\xff"), "a b c\u{fffd}");
        assert_eq!(beginning("ä".repeat(MOST_READ).as_bytes()).chars().count(), MOST_KEPT);
    }
}
