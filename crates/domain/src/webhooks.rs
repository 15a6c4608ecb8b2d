//! Webhooks: addresses at which a workspace's events are told to other services. Knows which events there are and what is
//! told of each, which addresses may be given, when a delivery is tried again and when a webhook is given up; refuses to know
//! how anything is sent. Form and schedule are those of <https://www.standardwebhooks.com>.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};
use url::Url;

use crate::{
    access::{Permission, PermissionSet, policy::words},
    codes,
    events::{CredentialChange, EventKind, Recorded},
    ids::{AuditEventId, BorrowedCredentialId, CredentialId, InvitationId, WebhookId, WorkspaceId},
    refusal::{FieldFault, Refusal},
};

codes! {
    /// Why a webhook was not made.
    CreateWebhookCode { DestinationRefused, PrivilegeEscalation, LimitReached, WorkspaceArchived }
}
codes! {
    /// Why a webhook was not changed.
    UpdateWebhookCode { NotFound, DestinationRefused, PrivilegeEscalation, WorkspaceArchived }
}
codes! {
    /// Why a webhook got no new secret.
    RotateWebhookSecretCode { NotFound, PrivilegeEscalation, WorkspaceArchived }
}
codes! {
    /// Why a webhook was not deleted.
    DeleteWebhookCode { NotFound, WorkspaceArchived }
}
codes! {
    /// Why a delivery was not sent again.
    ReplayWebhookDeliveryCode { NotFound, PrivilegeEscalation, WebhookNotActive, LimitReached, WorkspaceArchived }
}
codes! {
    /// Why a webhook was not tried.
    SendTestWebhookCode { NotFound, WebhookNotActive, LimitReached, WorkspaceArchived }
}

/// How many webhooks a workspace can have.
pub const MAX_WEBHOOKS: u64 = 20;
/// How many deliveries of a webhook wait at the most. Beyond that the event log keeps what is to come.
pub const MAX_WAITING: u64 = 1000;
/// How long after a new secret was made what is sent is signed with the one before as well.
pub const OVERLAP: TimeDelta = TimeDelta::hours(24);
/// How long a webhook may do nothing but fail before it is given up.
pub const GIVEN_UP_AFTER: TimeDelta = TimeDelta::days(5);
/// The longest address, in bytes.
const LONGEST_URL: usize = 2000;

words! {
    /// What a webhook can be told: what the subscription of nearly the same name tells. The word is the `type` of what is
    /// sent.
    WebhookEvent {
        /// An invitation of the workspace was made, delivered, answered, revoked or sent again.
        InvitationStatusChanged = "invitation.status_changed",
        /// A credential that the workspace owns or borrows changed.
        CredentialChanged = "credential.changed",
        /// The workspace changed: its settings, home page or configuration, or it was archived or restored.
        WorkspaceChanged = "workspace.changed",
        /// An entry was added to the audit log of the workspace.
        AuditLogChanged = "audit_log.changed",
        /// Nine tenths of a quota of the workspace or its organization are used.
        QuotaWarning = "quota.warning",
    }
}

/// The `type` of what a test sends.
pub const PING: &str = "ping";

impl WebhookEvent {
    /// What one must hold to watch such events; nobody has them sent anywhere who may not.
    pub const fn needs(self) -> Permission {
        match self {
            Self::InvitationStatusChanged => Permission::InvitationsView,
            Self::CredentialChanged => Permission::CredentialList,
            Self::WorkspaceChanged => Permission::WorkspaceView,
            Self::AuditLogChanged => Permission::AuditView,
            Self::QuotaWarning => Permission::QuotaView,
        }
    }
}

words! {
    /// Whether a webhook is told anything.
    WebhookStatus {
        /// It is.
        Active = "ACTIVE",
        /// Somebody stopped it: what happens meanwhile is not told, what waits is sent when it goes on.
        Paused = "PAUSED",
        /// The service stopped it.
        Disabled = "DISABLED",
    }
}

words! {
    /// Why the service stopped a webhook.
    WebhookDisabledReason {
        /// The receiver answered `410 Gone`.
        Gone = "GONE",
        /// Nothing that was sent for days was accepted.
        Failing = "FAILING",
    }
}

words! {
    /// Where a delivery stands.
    WebhookDeliveryState {
        /// It waits for its first try or for the next one.
        Pending = "PENDING",
        /// The receiver accepted it.
        Delivered = "DELIVERED",
        /// It was tried as often as the schedule has it, or the receiver is gone.
        Failed = "FAILED",
    }
}

/// An address that a webhook can have: `https`, or `http`, which only destinations that the operator named may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookUrl(Url);

impl WebhookUrl {
    /// Reads an address.
    pub fn parse(text: &str) -> Result<Self, FieldFault> {
        let fault = |what: &str| Err(FieldFault(what.to_owned()));
        if text.len() > LONGEST_URL {
            return Err(FieldFault(format!("is longer than {LONGEST_URL} bytes")));
        }
        if text.chars().any(|character| character.is_control() || character.is_whitespace()) {
            return fault("holds a space or a control character: write it as %20 and the like");
        }
        match Url::parse(text) {
            Ok(url) if !matches!(url.scheme(), "https" | "http") || !url.has_host() => {
                fault("is no address of a web service: it begins with https://")
            }
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                fault("holds a user name or password: verify the signature instead")
            }
            Ok(url) if url.fragment().is_some() => fault("holds a fragment (`#…`), which is never sent"),
            Ok(url) if url.as_str().len() > LONGEST_URL => {
                Err(FieldFault(format!("is longer than {LONGEST_URL} bytes once it is encoded")))
            }
            Ok(url) => Ok(Self(url)),
            Err(_) => fault("is no address of a web service, such as https://example.org/hooks"),
        }
    }

    /// The address as it is asked for.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Scheme, host and port: the part that is no secret, whatever somebody has put into the rest.
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    /// The parsed address.
    pub fn url(&self) -> &Url {
        &self.0
    }
}

/// Reads which events a webhook takes: at least one, each once, in the order of the enum.
pub fn read_events(mut events: Vec<WebhookEvent>) -> Result<Vec<WebhookEvent>, FieldFault> {
    events.sort();
    events.dedup();
    match events.is_empty() {
        true => Err(FieldFault("is empty: name at least one kind of event".to_owned())),
        false => Ok(events),
    }
}

/// Judges who has such events sent somewhere: nobody has anything sent that they may not watch.
pub fn judge_sight<C>(held: PermissionSet, events: &[WebhookEvent], escalation: C) -> Result<(), Refusal<C>> {
    match events.iter().find(|event| !held.holds(event.needs())) {
        None => Ok(()),
        Some(event) => {
            let message = format!(
                "The webhook takes `{}`, for which one needs `{}`, which you do not have yourself.",
                event.word(),
                event.needs().name()
            );
            Err(Refusal::new(escalation, message).at("events"))
        }
    }
}

/// Refuses what would outlive the key that asks for it: a webhook does not end by itself.
pub fn judge_end<C>(end_of_actor: Option<DateTime<Utc>>, escalation: C) -> Result<(), Refusal<C>> {
    match end_of_actor {
        None => Ok(()),
        Some(_) => Err(Refusal::new(
            escalation,
            "The key that asks for this ends by itself, and a webhook does not. Ask a person, or use a key without end.",
        )),
    }
}

/// Refuses one more than a workspace can have.
pub fn judge_room<C>(present: u64, limit_reached: C) -> Result<(), Refusal<C>> {
    if present < MAX_WEBHOOKS {
        return Ok(());
    }
    let message = format!("The workspace has {present} webhooks, as many as it can have. Delete one first.");
    Err(Refusal::new(limit_reached, message))
}

/// Judges whether something can be queued by hand.
pub fn judge_queueing<C>(
    status: WebhookStatus,
    waiting: u64,
    not_active: C,
    limit_reached: C,
) -> Result<(), Refusal<C>> {
    if status != WebhookStatus::Active {
        let message = "The webhook is not active, so nothing is sent. Give it `isEnabled: true` first.";
        return Err(Refusal::new(not_active, message));
    }
    if waiting >= MAX_WAITING {
        let message = format!("{waiting} deliveries of the webhook are waiting already.");
        return Err(Refusal::new(limit_reached, message));
    }
    Ok(())
}

/// What is told of an event of the workspace: its kind, and the `data`. `None` where no webhook is told.
pub fn data_of(event: &Recorded) -> Option<(WebhookEvent, Value)> {
    let workspace = event.workspace?;
    let state = event.state.as_deref();
    let told = |what: WebhookEvent, mut data: Value| {
        data["workspaceId"] = json!(workspace.to_string());
        Some((what, data))
    };
    match event.kind {
        EventKind::Invitation => {
            let data =
                json!({ "invitationId": InvitationId::from(event.subject?).to_string(), "status": state? });
            told(WebhookEvent::InvitationStatusChanged, data)
        }
        EventKind::Credential => {
            let (subject, change) = (event.subject?, CredentialChange::from_word(state?)?);
            let id = match change.is_of_borrower() {
                true => BorrowedCredentialId::from(subject).to_string(),
                false => CredentialId::from(subject).to_string(),
            };
            told(WebhookEvent::CredentialChanged, json!({ "credentialId": id, "change": change.word() }))
        }
        EventKind::Workspace => told(WebhookEvent::WorkspaceChanged, json!({ "change": state? })),
        EventKind::Quota => {
            let (metric, scope) = event.quota()?;
            told(WebhookEvent::QuotaWarning, json!({ "metric": metric.word(), "scope": scope.word() }))
        }
        EventKind::Access | EventKind::Session | EventKind::Webhook | EventKind::Audit => None,
    }
}

/// An entry of the audit log, as far as it is told: neither names nor what was before and after, which are to be fetched.
#[derive(Clone, Debug)]
pub struct AuditNews {
    /// The entry.
    pub id: AuditEventId,
    /// The workspace it was done in.
    pub workspace: WorkspaceId,
    /// What was done.
    pub action: String,
    /// What kind of actor did it.
    pub actor_kind: String,
    /// The actor's id.
    pub actor_id: Option<String>,
    /// To what kind of thing.
    pub object_kind: String,
    /// The thing's id or key.
    pub object_id: String,
    /// Its place in the chain.
    pub place: i64,
}

impl AuditNews {
    /// The `data` that is told.
    pub fn data(&self) -> Value {
        json!({
            "workspaceId": self.workspace.to_string(),
            "auditEventId": self.id.to_string(),
            "place": self.place,
            "action": self.action,
            "actor": { "kind": self.actor_kind, "id": self.actor_id },
            "object": { "kind": self.object_kind, "id": self.object_id },
        })
    }
}

/// The `data` of a test.
pub fn ping(workspace: WorkspaceId, webhook: WebhookId) -> Value {
    json!({ "workspaceId": workspace.to_string(), "webhookId": webhook.to_string() })
}

/// What is sent, the same at each try.
pub fn payload(kind: &str, at: DateTime<Utc>, data: Value) -> String {
    let at = at.to_rfc3339_opts(SecondsFormat::Micros, true);
    json!({ "type": kind, "timestamp": at, "data": data }).to_string()
}

/// How long to wait after that many tries failed; `None` once it was tried often enough. The schedule is the one that
/// Standard Webhooks recommends: ten tries within about three days.
pub fn wait_after(tries: u32) -> Option<TimeDelta> {
    Some(match tries {
        0 => TimeDelta::zero(),
        1 => TimeDelta::seconds(5),
        2 => TimeDelta::minutes(5),
        3 => TimeDelta::minutes(30),
        4 => TimeDelta::hours(2),
        5 => TimeDelta::hours(5),
        6 => TimeDelta::hours(10),
        7 => TimeDelta::hours(14),
        8 => TimeDelta::hours(20),
        9 => TimeDelta::hours(24),
        _ => return None,
    })
}

/// What a try comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is delivered.
    Delivered,
    /// It is tried again after that time.
    Later(TimeDelta),
    /// It is given up.
    GivenUp,
}

/// Judges a try, the `tries`th since the delivery was queued or replayed, that was answered with `status` or not at all.
pub fn judge_try(status: Option<u16>, tries: u32) -> Verdict {
    match status {
        Some(200..=299) => Verdict::Delivered,
        Some(GONE) => Verdict::GivenUp,
        _ => wait_after(tries).map_or(Verdict::GivenUp, Verdict::Later),
    }
}

const GONE: u16 = 410;

/// Whether a webhook is stopped after a try that failed; `failing_since` is when the first of those failed that no success
/// came after.
pub fn judge_webhook(
    status: Option<u16>,
    failing_since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Option<WebhookDisabledReason> {
    match status {
        Some(GONE) => Some(WebhookDisabledReason::Gone),
        _ if now - failing_since >= GIVEN_UP_AFTER => Some(WebhookDisabledReason::Failing),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::access::SystemRole;

    #[test]
    fn addresses_are_of_web_services_and_hold_no_password() {
        for good in
            ["https://example.org", "https://example.org:8443/a?b=c", "http://10.0.0.1/", "https://[::1]/"]
        {
            assert!(WebhookUrl::parse(good).is_ok(), "{good}");
        }
        let long = format!("https://example.org/{}", "a".repeat(LONGEST_URL));
        let grows = format!("https://example.org/{}", "ä".repeat(LONGEST_URL / 3));
        for bad in [
            "",
            "example.org",
            "ftp://example.org",
            "https://",
            "https://ada@example.org",
            "https://:secret@example.org",
            "https://example.org/#top",
            "https://example.org/a b",
            "https://example.org/\n",
            "https://example.org/\0",
            "file:///etc/passwd",
            "javascript:alert(1)",
            &long,
            &grows,
        ] {
            assert!(WebhookUrl::parse(bad).is_err(), "{bad}");
        }
        let url = WebhookUrl::parse("https://Example.org/hooks/s3cret?key=s3cret").unwrap();
        assert_eq!(url.origin(), "https://example.org");
    }

    #[test]
    fn nobody_has_sent_what_they_may_not_watch() {
        let all = WebhookEvent::ALL;
        assert!(judge_sight(SystemRole::Admin.permissions(), all, ()).is_ok());
        let refused = judge_sight(SystemRole::Editor.permissions(), all, ()).unwrap_err();
        assert_eq!(refused.field, ["events"]);
        let own = [WebhookEvent::CredentialChanged, WebhookEvent::WorkspaceChanged];
        assert!(judge_sight(SystemRole::Editor.permissions(), &own, ()).is_ok());
        assert!(judge_sight(SystemRole::Viewer.permissions(), &own, ()).is_err());
    }

    #[test]
    fn events_are_named_once_and_never_none() {
        use WebhookEvent::*;
        let read = read_events(vec![WorkspaceChanged, InvitationStatusChanged, WorkspaceChanged]).unwrap();
        assert_eq!(read, [InvitationStatusChanged, WorkspaceChanged]);
        assert!(read_events(Vec::new()).is_err());
    }

    #[test]
    fn ten_tries_and_no_more() {
        let waits: Vec<_> = (0..).map_while(wait_after).collect();
        assert_eq!(waits.len(), 10);
        assert!(waits.is_sorted());
        assert_eq!(judge_try(Some(204), 1), Verdict::Delivered);
        assert_eq!(judge_try(Some(302), 1), Verdict::Later(TimeDelta::seconds(5)));
        assert_eq!(judge_try(None, 9), Verdict::Later(TimeDelta::hours(24)));
        assert_eq!(judge_try(Some(500), 10), Verdict::GivenUp);
        assert_eq!(judge_try(Some(410), 1), Verdict::GivenUp);
    }

    #[test]
    fn who_is_gone_or_fails_for_days_is_given_up() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(100);
        assert_eq!(judge_webhook(Some(410), now, now), Some(WebhookDisabledReason::Gone));
        assert_eq!(judge_webhook(Some(500), now - GIVEN_UP_AFTER + TimeDelta::seconds(1), now), None);
        assert_eq!(judge_webhook(None, now - GIVEN_UP_AFTER, now), Some(WebhookDisabledReason::Failing));
    }

    #[test]
    fn what_is_told_are_ids_kinds_and_states() {
        let recorded = |kind, subject: Option<u128>, state: &str| Recorded {
            seq: 1,
            kind,
            workspace: Some(Uuid::from_u128(1).into()),
            user: None,
            email: Some("eve@example.org".to_owned()),
            subject: subject.map(Uuid::from_u128),
            state: Some(state.to_owned()),
            at: DateTime::UNIX_EPOCH,
        };
        let (what, data) = data_of(&recorded(EventKind::Invitation, Some(2), "PENDING")).unwrap();
        assert_eq!(what, WebhookEvent::InvitationStatusChanged);
        assert_eq!(
            payload(what.word(), DateTime::UNIX_EPOCH, data),
            r#"{"data":{"invitationId":"inv_00000000000000000000000000000002","status":"PENDING","workspaceId":"wks_00000000000000000000000000000001"},"timestamp":"1970-01-01T00:00:00.000000Z","type":"invitation.status_changed"}"#
        );
        for (change, prefix) in [("SHARED", "crd_"), ("BORROWED", "bor_")] {
            let (_, data) = data_of(&recorded(EventKind::Credential, Some(3), change)).unwrap();
            assert!(data["credentialId"].as_str().unwrap().starts_with(prefix));
        }
        assert!(data_of(&recorded(EventKind::Credential, Some(3), "OF_A_NEWER_VERSION")).is_none());
        for kind in [EventKind::Access, EventKind::Session, EventKind::Webhook, EventKind::Audit] {
            assert!(data_of(&recorded(kind, Some(3), "X")).is_none());
        }
    }
}
