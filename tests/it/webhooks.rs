//! Webhooks, sent to receivers on loopback that check what they are sent: what happened reaches them, signed and each event
//! at least once, whatever becomes of them and of the process.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use aws_lc_rs::hmac;
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, TimeDelta};
use futures_util::{future::join_all, stream};
use guildhall_domain::{access::SystemRole, webhooks::wait_after};
use guildhall_tests::{
    Actor, Answer, App, Process, Workspace,
    app::fresh_database,
    both_databases,
    databases::{self, Engine, TestDatabase},
    mailbox::MailServer,
};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _};
use tokio::{sync::Notify, time::sleep};

use crate::credential_tests::serve;

both_databases!(
    app,
    an_event_is_told_signed_and_thin,
    each_subscription_has_its_event,
    what_is_not_accepted_is_tried_again_under_the_same_id,
    what_is_tried_ten_times_has_failed_and_can_be_replayed,
    what_cannot_be_signed_is_no_try,
    who_answers_nothing_good_for_days_is_disabled,
    a_replay_of_what_waits_begins_its_tries_anew,
    who_is_gone_is_disabled_at_once,
    a_new_address_is_not_judged_by_what_the_old_one_answers,
    a_slow_receiver_holds_up_itself_alone,
    a_redirect_and_an_endless_answer_are_what_their_status_says,
    a_paused_webhook_misses_what_happens_and_keeps_what_waits,
    a_new_secret_signs_beside_the_old_one_for_a_day,
    the_secret_is_told_once_and_kept_sealed,
    an_archived_workspace_is_silent,
    a_webhook_goes_with_its_workspace,
    nobody_has_sent_what_they_may_not_watch,
    strangers_and_viewers_have_no_part_in_it,
    there_are_so_many_and_no_more,
    what_finds_no_room_waits_in_the_log,
    deliveries_are_forgotten_after_a_month,
);
both_databases!(App::start, private_destinations_are_refused_where_nobody_allowed_them);
both_databases!(fresh_database, what_was_on_its_way_when_a_process_was_killed_is_sent_by_the_next);

/// A server that may send to this machine.
async fn app(engine: Engine) -> App {
    App::start_with(engine, |env| {
        env.set("GUILDHALL_WEBHOOKS_DESTINATIONS", "127.0.0.0/8");
    })
    .await
}

/// What a receiver does.
#[derive(Clone, Debug)]
enum Reply {
    Says(u16, &'static str),
    Redirects(String),
    /// A body that never ends.
    Endless(u16),
    /// That status, once it is told to answer.
    Held(u16, Arc<Notify>),
    Silent,
}

/// What a receiver got.
#[derive(Clone, Debug)]
struct Message {
    path: String,
    id: String,
    timestamp: i64,
    signature: String,
    headers: HeaderMap,
    body: String,
}

impl Message {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("a payload is JSON")
    }

    /// How many of its signatures are by that secret.
    fn signed_by(&self, secret: &str) -> usize {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").expect("a secret")).expect("base64");
        assert!(key.len() >= 24);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let signed = format!("{}.{}.{}", self.id, self.timestamp, self.body);
        let good =
            self.signature.split(' ').map(|signature| signature.strip_prefix("v1,").expect("a version"));
        good.filter(|tag| {
            hmac::verify(&key, signed.as_bytes(), &STANDARD.decode(tag).expect("base64")).is_ok()
        })
        .count()
    }

    fn change(&self) -> String {
        self.json()["data"]["change"].as_str().unwrap_or_default().to_owned()
    }
}

/// An HTTP server on loopback that keeps what it gets.
#[derive(Clone, Default)]
struct Receiver {
    port: u16,
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    heard: Mutex<Vec<Message>>,
    /// What it does first, and then for good.
    first: Mutex<VecDeque<Reply>>,
    then: Mutex<Option<Reply>>,
}

impl Receiver {
    async fn start() -> Self {
        let inner = Arc::<Inner>::default();
        let router = Router::new().fallback(hear).with_state(Arc::clone(&inner));
        Self { port: serve(router).await, inner }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn first(&self, replies: impl IntoIterator<Item = Reply>) {
        self.inner.first.lock().unwrap().extend(replies);
    }

    fn then(&self, reply: Reply) {
        *self.inner.then.lock().unwrap() = Some(reply);
    }

    fn messages(&self) -> Vec<Message> {
        self.inner.heard.lock().unwrap().clone()
    }

    /// What it got, once that is so many messages.
    #[track_caller]
    fn heard(&self, number: usize) -> impl Future<Output = Vec<Message>> {
        let here = std::panic::Location::caller();
        async move {
            let start = Instant::now();
            loop {
                let messages = self.messages();
                if messages.len() >= number {
                    assert_eq!(messages.len(), number, "{here}: {messages:#?}");
                    return messages;
                }
                let heard: Vec<_> = messages.iter().map(|message| &message.body).collect();
                assert!(start.elapsed() < Duration::from_secs(20), "{here}: {number} expected: {heard:#?}");
                sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// That it gets no more than it has for so long.
    async fn hears_nothing_for(&self, millis: u64) {
        let before = self.messages().len();
        sleep(Duration::from_millis(millis)).await;
        let after = self.messages();
        assert_eq!(after.len(), before, "{:#?}", after.last());
    }
}

async fn hear(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let header = |name: &str| parts.headers[name].to_str().unwrap().to_owned();
    assert_eq!((parts.method.as_str(), header("content-type").as_str()), ("POST", "application/json"));
    let message = Message {
        path: parts.uri.path().to_owned(),
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp").parse().unwrap(),
        signature: header("webhook-signature"),
        body: String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap(),
        headers: parts.headers,
    };
    inner.heard.lock().unwrap().push(message);
    let reply = inner.first.lock().unwrap().pop_front();
    match reply.or_else(|| inner.then.lock().unwrap().clone()) {
        None => StatusCode::NO_CONTENT.into_response(),
        Some(Reply::Says(status, body)) => (StatusCode::from_u16(status).unwrap(), body).into_response(),
        Some(Reply::Redirects(to)) => {
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)], "elsewhere").into_response()
        }
        Some(Reply::Endless(status)) => {
            let piece = || Some((Ok::<_, std::io::Error>(vec![b'x'; 1024]), ()));
            let body = stream::unfold((), move |()| async move {
                sleep(Duration::from_millis(1)).await;
                piece()
            });
            (StatusCode::from_u16(status).unwrap(), Body::from_stream(body)).into_response()
        }
        Some(Reply::Held(status, told)) => {
            told.notified().await;
            StatusCode::from_u16(status).unwrap().into_response()
        }
        Some(Reply::Silent) => std::future::pending().await,
    }
}

const WEBHOOK: &str =
    "id name url events status disabledReason disabledAt failingSince previousSecretExpiresAt";
const DELIVERY: &str = "id eventType state attempts payload nextAttemptAt lastAttemptAt deliveredAt responseStatus responseBody error";

/// A webhook and its secret.
#[derive(Clone, Debug)]
struct Hook {
    id: String,
    secret: String,
}

async fn create(by: &Actor, workspace: &Workspace, url: &str, events: &[&str]) -> Answer {
    let input = json!({ "workspaceId": workspace.id, "name": "CI", "url": url, "events": events });
    by.mutate("createWebhook", input, &format!("webhook {{ {WEBHOOK} }} secret")).await
}

async fn hook(by: &Actor, workspace: &Workspace, url: &str, events: &[&str]) -> Hook {
    let made = create(by, workspace, url, events).await.ok();
    Hook {
        id: made.text("/createWebhook/webhook/id").to_owned(),
        secret: made.text("/createWebhook/secret").to_owned(),
    }
}

async fn change(by: &Actor, workspace: &Workspace, hook: &Hook, mut input: Value) -> Answer {
    input["workspaceId"] = json!(workspace.id);
    input["webhookId"] = json!(hook.id);
    by.mutate("updateWebhook", input, &format!("webhook {{ {WEBHOOK} }}")).await
}

async fn ping(by: &Actor, workspace: &Workspace, hook: &Hook) -> Answer {
    let input = json!({ "workspaceId": workspace.id, "webhookId": hook.id });
    by.mutate("sendTestWebhook", input, &format!("delivery {{ {DELIVERY} }}")).await
}

async fn replay(by: &Actor, workspace: &Workspace, delivery: &str) -> Answer {
    let input = json!({ "workspaceId": workspace.id, "deliveryId": delivery });
    by.mutate("replayWebhookDelivery", input, &format!("delivery {{ {DELIVERY} }}")).await
}

/// The ids of a webhook that goes nowhere, and of a delivery to it.
pub(crate) async fn furnished(by: &Actor, workspace: &Workspace) -> (String, String) {
    let made = hook(by, workspace, "https://hooks.invalid/", &["CREDENTIAL_CHANGED"]).await;
    let sent = ping(by, workspace, &made).await.ok();
    (made.id, sent.text("/sendTestWebhook/delivery/id").to_owned())
}

/// Something that happens: one event of the workspace, of the change `SETTINGS`.
async fn rename(by: &Actor, workspace: &Workspace, name: &str) {
    let input = json!({ "workspaceId": workspace.id, "displayName": name });
    by.mutate("updateWorkspace", input, "").await.ok();
}

async fn webhook(by: &Actor, hook: &Hook) -> Value {
    let document = format!("query($id: ID!) {{ node(id: $id) {{ ... on Webhook {{ {WEBHOOK} }} }} }}");
    by.query(&document, json!({ "id": hook.id })).await.ok().data("/node").clone()
}

async fn deliveries(by: &Actor, hook: &Hook, states: Value) -> Vec<Value> {
    let document = format!(
        "query($id: ID!, $state: [WebhookDeliveryState!]) {{ node(id: $id) {{ ... on Webhook {{
            deliveries(first: 100, state: $state) {{ totalCount nodes {{ {DELIVERY} }} }} }} }} }}"
    );
    let answer = by.query(&document, json!({ "id": hook.id, "state": states })).await.ok();
    let nodes = answer.data("/node/deliveries/nodes").as_array().unwrap().clone();
    assert_eq!(answer.data("/node/deliveries/totalCount"), nodes.len());
    nodes
}

/// The newest delivery, once `is_so`.
async fn newest(by: &Actor, hook: &Hook, is_so: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let newest = deliveries(by, hook, Value::Null).await.into_iter().next().unwrap_or_default();
        if is_so(&newest) {
            return newest;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{newest:#}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn settled(by: &Actor, hook: &Hook, state: &str, attempts: u32) -> Value {
    let at = |moment: &Value| DateTime::parse_from_rfc3339(moment.as_str().unwrap()).unwrap();
    newest(by, hook, |delivery| {
        delivery["state"] == state
            && delivery["attempts"] == attempts
            // While it is being tried, the time at which it was due stands there yet.
            && (state != "PENDING" || at(&delivery["nextAttemptAt"]) > at(&delivery["lastAttemptAt"]))
    })
    .await
}

async fn an_event_is_told_signed_and_thin(app: App) {
    let ada = app.set_up().await;
    let (lab, receiver) = (ada.workspace("Lab").await, Receiver::start().await);
    // What happened before is not told.
    rename(&ada, &lab, "Before").await;
    let made = hook(&ada, &lab, &receiver.url("/hooks?of=lab"), &["INVITATION_STATUS_CHANGED"]).await;
    rename(&ada, &lab, "After").await;
    let invited = ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    let invitation = invited.text("/inviteMember/invitation/id");
    // It was made, and its mail was delivered.
    let messages = receiver.heard(2).await;
    for message in &messages {
        assert_eq!(message.path, "/hooks");
        let told = message.json();
        assert_eq!(told["type"], "invitation.status_changed");
        let data = json!({ "workspaceId": lab.id, "invitationId": invitation, "status": "PENDING" });
        assert_eq!(told["data"], data, "ids and states, and no address");
        assert!(told["timestamp"].as_str().unwrap().ends_with('Z'), "{told}");
        assert_eq!(told.as_object().unwrap().len(), 3);
        // By the library of those who wrote the specification, and by hand.
        let library = standardwebhooks::Webhook::new(&made.secret).unwrap();
        library.verify(message.body.as_bytes(), &message.headers).unwrap();
        assert_eq!(message.signed_by(&made.secret), 1);
        let mut forged = message.clone();
        forged.body = forged.body.replace("PENDING", "ACCEPTED");
        assert_eq!(forged.signed_by(&made.secret), 0);
        forged.body.clone_from(&message.body);
        forged.timestamp += 1;
        assert_eq!(forged.signed_by(&made.secret), 0);
    }
    assert_ne!(messages[0].id, messages[1].id);

    let delivery = settled(&ada, &made, "DELIVERED", 1).await;
    assert_eq!(delivery["id"], json!(messages[1].id), "the newest first");
    assert_eq!(delivery["eventType"], "invitation.status_changed");
    assert_eq!(delivery["payload"], messages[1].json());
    assert_eq!((&delivery["responseStatus"], &delivery["responseBody"]), (&json!(204), &json!("")));
    assert!(delivery["deliveredAt"].is_string() && delivery["nextAttemptAt"].is_null(), "{delivery}");
    assert_eq!(deliveries(&ada, &made, json!(["PENDING", "FAILED"])).await.len(), 0);
    assert_eq!(deliveries(&ada, &made, json!(["DELIVERED", "DELIVERED"])).await.len(), 2);
    assert!(webhook(&ada, &made).await["failingSince"].is_null());
    receiver.hears_nothing_for(1500).await;
}

async fn each_subscription_has_its_event(app: App) {
    let ada = app.set_up().await;
    let (lab, receiver) = (ada.workspace("Lab").await, Receiver::start().await);
    let den = app.default_workspace().clone();
    app.chained().await;
    hook(&ada, &lab, &receiver.url("/c"), &["CREDENTIAL_CHANGED"]).await;
    hook(&ada, &lab, &receiver.url("/w"), &["WORKSPACE_CHANGED"]).await;
    hook(&ada, &lab, &receiver.url("/q"), &["QUOTA_WARNING"]).await;
    let organization = ada.organization().await;
    let input = json!({ "organizationId": organization, "metric": "CREDITS", "limit": 10 });
    ada.mutate("setQuota", input, "").await.ok();
    let input = json!({ "workspaceId": lab.id, "amount": 9, "purpose": "Forecast" });
    ada.mutate("spendCredits", input, "").await.ok();
    app.chained().await;
    let audited = hook(&ada, &lab, &receiver.url("/a"), &["AUDIT_LOG_CHANGED"]).await;
    let own = crate::credential_nets::custom(&ada, &lab, "Store").await;
    let foreign = crate::credential_nets::custom(&ada, &den, "Depot").await;
    let share = crate::credential_nets::lend(&ada, &den, &foreign, &lab.id).await;
    let input = json!({ "workspaceId": lab.id, "key": "YEAR", "value": { "number": 2026 } });
    ada.mutate("setConfigProperty", input, "").await.ok();
    rename(&ada, &lab, "Laboratory").await;
    // Two of credentials, two of the workspace, one of a quota; and of the log the webhook itself, a credential, a property, a name. That a
    // credential was lent stands in the log of its owner.
    let mut told: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for message in receiver.heard(9).await {
        told.entry(message.path.clone()).or_default().push(message.json());
    }
    let data = |path: &str| told[path].iter().map(|told| told["data"].clone()).collect::<Vec<_>>();
    assert_eq!(
        data("/c"),
        [
            json!({ "workspaceId": lab.id, "credentialId": own, "change": "CREATED" }),
            json!({ "workspaceId": lab.id, "credentialId": share.replace("shr_", "bor_"), "change": "BORROWED" }),
        ]
    );
    assert_eq!(
        data("/w"),
        ["CONFIG", "SETTINGS"].map(|change| json!({ "workspaceId": lab.id, "change": change }))
    );
    let warned = json!({ "workspaceId": lab.id, "metric": "CREDITS", "scope": "ORGANIZATION" });
    assert_eq!(data("/q"), [warned]);
    let log = data("/a");
    let actions: Vec<_> = log.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["createWebhook", "createCredential", "setConfigProperty", "updateWorkspace"]);
    assert_eq!(log[0]["object"], json!({ "kind": "WEBHOOK", "id": audited.id }));
    assert_eq!(log[1]["actor"], json!({ "kind": "PERSON", "id": ada.id }));
    let places: Vec<_> = log.iter().map(|entry| entry["place"].as_i64().unwrap()).collect();
    assert!(places.is_sorted(), "{places:?}");
    let known = ada
        .query(
            "query($n: String!) { workspace(name: $n) { auditLog { nodes { id place } } } }",
            json!({ "n": lab.name }),
        )
        .await
        .ok();
    let newest = json!({ "id": log[3]["auditEventId"], "place": places[3] });
    assert_eq!(known.data("/workspace/auditLog/nodes/0"), &newest);
    let types = ["/a", "/c", "/q", "/w"].map(|path| told[path][0]["type"].as_str().unwrap());
    assert_eq!(types, ["audit_log.changed", "credential.changed", "quota.warning", "workspace.changed"]);
}

async fn what_is_not_accepted_is_tried_again_under_the_same_id(app: App) {
    let ada = app.set_up().await;
    app.stop_the_clock();
    let (lab, receiver) = (ada.workspace("Lab").await, Receiver::start().await);
    let made = hook(&ada, &lab, &receiver.url("/"), &["WORKSPACE_CHANGED"]).await;
    receiver.first([Reply::Says(500, "out of\0 order")]);
    let sent = ping(&ada, &lab, &made).await.ok();
    assert_eq!(sent.data("/sendTestWebhook/delivery/state"), "PENDING");
    let waiting = settled(&ada, &made, "PENDING", 1).await;
    assert_eq!(waiting["id"], *sent.data("/sendTestWebhook/delivery/id"));
    assert_eq!(
        (&waiting["responseStatus"], &waiting["responseBody"]),
        (&json!(500), &json!("out of  order"))
    );
    assert!(waiting["nextAttemptAt"].is_string() && waiting["deliveredAt"].is_null());
    assert!(webhook(&ada, &made).await["failingSince"].is_string());
    // What comes later does not wait for it.
    app.advance(TimeDelta::seconds(1));
    rename(&ada, &lab, "Later").await;
    assert_eq!(receiver.heard(2).await[1].change(), "SETTINGS");
    app.advance(TimeDelta::seconds(7));
    let retried = receiver.heard(3).await.remove(2);
    let first = receiver.messages().remove(0);
    assert_eq!((&first.id, &first.body), (&retried.id, &retried.body));
    assert!(retried.timestamp > first.timestamp, "signed anew");
    assert_eq!(retried.signed_by(&made.secret), 1);
    assert_eq!(retried.json()["type"], "ping");
    assert_eq!(retried.json()["data"], json!({ "workspaceId": lab.id, "webhookId": made.id }));
}

async fn what_cannot_be_signed_is_no_try(app: App) {
    let ada = app.set_up().await;
    app.stop_the_clock();
    let (lab, receiver) = (ada.workspace("Lab").await, Receiver::start().await);
    let made = hook(&ada, &lab, &receiver.url("/"), &["WORKSPACE_CHANGED"]).await;
    // As in a process that was not given the key which others seal with by now.
    app.sql("UPDATE workspace_keys SET master_key_id = 'other-' || master_key_id").await;
    rename(&ada, &lab, "Later").await;
    for _ in 0..12 {
        let leased = "SELECT count(*) FROM webhooks WHERE leased_until IS NOT NULL AND due_at IS NOT NULL";
        while app.number(leased).await == 0 {
            sleep(Duration::from_millis(20)).await;
        }
        app.sql("UPDATE webhooks SET leased_until = NULL").await;
    }
    app.sql("UPDATE workspace_keys SET master_key_id = substr(master_key_id, 7)").await;
    app.sql("UPDATE webhooks SET leased_until = NULL").await;
    receiver.heard(1).await;
    settled(&ada, &made, "DELIVERED", 1).await;
}

async fn what_is_tried_ten_times_has_failed_and_can_be_replayed(app: App) {
    let ada = app.set_up().await;
    app.stop_the_clock();
    let (lab, receiver) = (ada.workspace("Lab").await, Receiver::start().await);
    let made = hook(&ada, &lab, &receiver.url("/"), &["WORKSPACE_CHANGED"]).await;
    receiver.first((0..10).map(|_| Reply::Says(503, "busy")));
    ping(&ada, &lab, &made).await.ok();
    for tries in 1..10 {
        receiver.heard(tries).await;
        let ada = ada.again().await;
        settled(&ada, &made, "PENDING", u32::try_from(tries).unwrap()).await;
        app.advance(wait_after(u32::try_from(tries).unwrap()).unwrap() * 5 / 4);
    }
    let messages = receiver.heard(10).await;
    let ids: BTreeSet<_> = messages.iter().map(|message| (&message.id, &message.body)).collect();
    assert_eq!(ids.len(), 1);
    let ada = ada.again().await;
    let failed = settled(&ada, &made, "FAILED", 10).await;
    assert!(failed["nextAttemptAt"].is_null());
    assert_eq!(webhook(&ada, &made).await["status"], "ACTIVE");
    app.advance(TimeDelta::days(2));
    let ada = ada.again().await;
    receiver.hears_nothing_for(1500).await;

    let again = replay(&ada, &lab, failed["id"].as_str().unwrap()).await.ok();
    assert_eq!(again.data("/replayWebhookDelivery/delivery/state"), "PENDING");
    assert_eq!(receiver.heard(11).await[10].id, messages[0].id);
    let delivered = settled(&ada, &made, "DELIVERED", 11).await;
    // What was delivered is sent again as well, and the same.
    replay(&ada, &lab, delivered["id"].as_str().unwrap()).await.ok();
    let messages = receiver.heard(12).await;
    assert_eq!((&messages[11].id, &messages[11].body), (&messages[0].id, &messages[0].body));
    settled(&ada, &made, "DELIVERED", 12).await;
}

async fn a_replay_of_what_waits_begins_its_tries_anew(app: App) {
    let ada = app.set_up().await;
    let (lab, receiver) = (ada.workspace("Lab").await, Receiver::start().await);
    app.stop_the_clock();
    let made = hook(&ada, &lab, &receiver.url("/"), &["WORKSPACE_CHANGED"]).await;
    receiver.first([Reply::Says(503, "busy"), Reply::Says(503, "busy")]);
    let sent = ping(&ada, &lab, &made).await.ok();
    let delivery = sent.text("/sendTestWebhook/delivery/id");
    settled(&ada, &made, "PENDING", 1).await;
    // As if it had failed nine times: of ten tries one would be left.
    app.sql("UPDATE webhook_deliveries SET tries = 9").await;
    replay(&ada, &lab, delivery).await.ok();
    settled(&ada, &made, "PENDING", 2).await;
    // The tenth is under way when it is replayed, and is not the last for that.
    let told = Arc::new(Notify::new());
    receiver.first([Reply::Held(503, Arc::clone(&told))]);
    app.advance(TimeDelta::seconds(7));
    receiver.heard(3).await;
    app.sql("UPDATE webhook_deliveries SET tries = 10").await;
    replay(&ada, &lab, delivery).await.ok();
    told.notify_one();
    receiver.heard(4).await;
    settled(&ada, &made, "DELIVERED", 4).await;
}

async fn who_answers_nothing_good_for_days_is_disabled(app: App) {
    app.stop_the_clock();
    let ada = app.set_up().await;
    let (lab, receiver) = (ada.workspace("Lab").await, Receiver::start().await);
    let made = hook(&ada, &lab, &receiver.url("/"), &["WORKSPACE_CHANGED"]).await;
    receiver.first((0..3).map(|_| Reply::Says(500, "")));
    ping(&ada, &lab, &made).await.ok();
    settled(&ada, &made, "PENDING", 1).await;
    app.advance(TimeDelta::days(4));
    let ada = ada.again().await;
    settled(&ada, &made, "PENDING", 2).await;
    assert_eq!(webhook(&ada, &made).await["status"], "ACTIVE");
    app.advance(TimeDelta::days(1));
    let ada = ada.again().await;
    settled(&ada, &made, "PENDING", 3).await;
    let disabled = webhook(&ada, &made).await;
    assert_eq!((&disabled["status"], &disabled["disabledReason"]), (&json!("DISABLED"), &json!("FAILING")));
    assert!(disabled["disabledAt"].is_string());
    rename(&ada, &lab, "Unheard").await;
    app.advance(TimeDelta::days(1));
    let ada = ada.again().await;
    receiver.hears_nothing_for(1500).await;

    // Enabled again, it is sent what waits and told what happens from now on.
    let changed = change(&ada, &lab, &made, json!({ "isEnabled": true })).await.ok();
    let enabled = changed.data("/updateWebhook/webhook");
    assert_eq!(enabled["status"], "ACTIVE");
    for field in ["disabledReason", "disabledAt", "failingSince"] {
        assert!(enabled[field].is_null(), "{enabled}");
    }
    assert_eq!(receiver.heard(4).await[3].json()["type"], "ping");
    rename(&ada, &lab, "Heard").await;
    assert_eq!(receiver.heard(5).await[4].change(), "SETTINGS");
    assert_eq!(webhook(&ada, &made).await["failingSince"], Value::Null);
}

async fn who_is_gone_is_disabled_at_once(app: App) {
    let ada = app.set_up().await;
    let (lab, receiver) = (ada.workspace("Lab").await, Receiver::start().await);
    let made = hook(&ada, &lab, &receiver.url("/"), &["WORKSPACE_CHANGED"]).await;
    receiver.first([Reply::Says(410, "moved away")]);
    let sent = ping(&ada, &lab, &made).await.ok();
    settled(&ada, &made, "FAILED", 1).await;
    let disabled = webhook(&ada, &made).await;
    assert_eq!((&disabled["status"], &disabled["disabledReason"]), (&json!("DISABLED"), &json!("GONE")));
    let log = "query($n: String!) { workspace(name: $n) { auditLog(first: 1, filter: { action: [\"disableWebhook\"] }) {
        nodes { actor { kind id } object { kind id name } before after } } } }";
    let told = ada.query(log, json!({ "n": lab.name })).await.ok();
    let expected = json!({
        "actor": { "kind": "SYSTEM", "id": null }, "object": { "kind": "WEBHOOK", "id": made.id, "name": "CI" },
        "before": { "status": "ACTIVE" }, "after": { "status": "DISABLED", "reason": "GONE" },
    });
    assert_eq!(told.data("/workspace/auditLog/nodes/0"), &expected);
    ping(&ada, &lab, &made).await.refused("WEBHOOK_NOT_ACTIVE");
    let delivery = sent.text("/sendTestWebhook/delivery/id");
    replay(&ada, &lab, delivery).await.refused("WEBHOOK_NOT_ACTIVE");
    // To pause what is disabled changes nothing, and leaves no entry.
    let entries = app.number("SELECT count(*) FROM audit_events").await;
    let changed = change(&ada, &lab, &made, json!({ "isEnabled": false })).await.ok();
    assert_eq!(changed.data("/updateWebhook/webhook/disabledReason"), "GONE");
    assert_eq!(app.number("SELECT count(*) FROM audit_events").await, entries);
    change(&ada, &lab, &made, json!({ "isEnabled": true, "url": receiver.url("/new") })).await.ok();
    replay(&ada, &lab, delivery).await.ok();
    assert_eq!(receiver.heard(2).await[1].path, "/new");
}

async fn a_new_address_is_not_judged_by_what_the_old_one_answers(app: App) {
    let ada = app.set_up().await;
    let (lab, receiver) = (ada.workspace("Lab").await, Receiver::start().await);
    for (number, status) in [410, 500].into_iter().enumerate() {
        let made = hook(&ada, &lab, &receiver.url("/old"), &["WORKSPACE_CHANGED"]).await;
        let (old, new) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        receiver.first([Reply::Held(status, Arc::clone(&old)), Reply::Held(204, Arc::clone(&new))]);
        ping(&ada, &lab, &made).await.ok();
        receiver.heard(2 * number + 1).await;
        change(&ada, &lab, &made, json!({ "url": receiver.url("/new") })).await.ok();
        old.notify_one();
        // What was refused there is sent here, and nothing is held against it.
        let messages = receiver.heard(2 * number + 2).await;
        let (before, after) = (&messages[2 * number], &messages[2 * number + 1]);
        assert_eq!((before.path.as_str(), after.path.as_str()), ("/old", "/new"));
        assert_eq!(before.id, after.id);
        let seen = webhook(&ada, &made).await;
        assert_eq!((&seen["status"], &seen["failingSince"]), (&json!("ACTIVE"), &Value::Null), "{status}");
        new.notify_one();
        settled(&ada, &made, "DELIVERED", 2).await;
    }
}

async fn a_slow_receiver_holds_up_itself_alone(app: App) {
    let ada = app.set_up().await;
    let (lab, slow, quick) = (ada.workspace("Lab").await, Receiver::start().await, Receiver::start().await);
    slow.then(Reply::Silent);
    let stuck = hook(&ada, &lab, &slow.url("/"), &["WORKSPACE_CHANGED"]).await;
    hook(&ada, &lab, &quick.url("/"), &["WORKSPACE_CHANGED"]).await;
    for number in 0..3 {
        rename(&ada, &lab, &format!("Lab {number}")).await;
        slow.heard(1).await;
        let start = Instant::now();
        quick.heard(number + 1).await;
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
    // After 15 seconds it is told why, and the next is tried.
    slow.heard(2).await;
    let document = format!(
        "query($id: ID!) {{ node(id: $id) {{ ... on Webhook {{ deliveries(last: 1) {{ nodes {{ {DELIVERY} }} }} }} }} }}"
    );
    let told = ada.query(&document, json!({ "id": stuck.id })).await.ok();
    let oldest = told.data("/node/deliveries/nodes/0");
    assert!(oldest["error"].as_str().unwrap().contains("15 seconds"), "{oldest}");
    assert_eq!((&oldest["state"], &oldest["responseStatus"]), (&json!("PENDING"), &Value::Null));
}

async fn a_redirect_and_an_endless_answer_are_what_their_status_says(app: App) {
    let ada = app.set_up().await;
    app.stop_the_clock();
    let (lab, receiver, other) =
        (ada.workspace("Lab").await, Receiver::start().await, Receiver::start().await);
    let made = hook(&ada, &lab, &receiver.url("/"), &["WORKSPACE_CHANGED"]).await;
    receiver.first([Reply::Redirects(other.url("/")), Reply::Endless(200)]);
    ping(&ada, &lab, &made).await.ok();
    let waiting = settled(&ada, &made, "PENDING", 1).await;
    assert_eq!((&waiting["responseStatus"], &waiting["responseBody"]), (&json!(307), &json!("elsewhere")));
    ping(&ada, &lab, &made).await.ok();
    let delivered = settled(&ada, &made, "DELIVERED", 1).await;
    assert_eq!(delivered["responseBody"].as_str().unwrap(), "x".repeat(300));
    assert!(other.messages().is_empty(), "nobody follows a redirect");
}

async fn a_paused_webhook_misses_what_happens_and_keeps_what_waits(app: App) {
    let ada = app.set_up().await;
    app.stop_the_clock();
    let (lab, receiver) = (ada.workspace("Lab").await, Receiver::start().await);
    app.chained().await;
    let made = hook(&ada, &lab, &receiver.url("/"), &["WORKSPACE_CHANGED", "AUDIT_LOG_CHANGED"]).await;
    receiver.heard(1).await;
    change(&ada, &lab, &made, json!({ "events": ["WORKSPACE_CHANGED"] })).await.ok();
    receiver.first([Reply::Says(500, "")]);
    ping(&ada, &lab, &made).await.ok();
    settled(&ada, &made, "PENDING", 1).await;
    let paused = change(&ada, &lab, &made, json!({ "isEnabled": false })).await.ok();
    assert_eq!(paused.data("/updateWebhook/webhook/status"), "PAUSED");
    rename(&ada, &lab, "Unheard").await;
    ping(&ada, &lab, &made).await.refused("WEBHOOK_NOT_ACTIVE");
    app.advance(TimeDelta::minutes(2));
    receiver.hears_nothing_for(2500).await;
    let again = change(&ada, &lab, &made, json!({ "isEnabled": true, "name": "Again" })).await.ok();
    assert_eq!(again.data("/updateWebhook/webhook/name"), "Again");
    assert_eq!(receiver.heard(3).await[2].json()["type"], "ping");
    rename(&ada, &lab, "Heard").await;
    assert_eq!(receiver.heard(4).await[3].change(), "SETTINGS");
    receiver.hears_nothing_for(1500).await;
}

async fn a_new_secret_signs_beside_the_old_one_for_a_day(app: App) {
    let ada = app.set_up().await;
    let (lab, receiver) = (ada.workspace("Lab").await, Receiver::start().await);
    let made = hook(&ada, &lab, &receiver.url("/"), &["WORKSPACE_CHANGED"]).await;
    let rotate = async |by: &Actor| {
        let input = json!({ "workspaceId": lab.id, "webhookId": made.id });
        let answer =
            by.mutate("rotateWebhookSecret", input, &format!("webhook {{ {WEBHOOK} }} secret")).await.ok();
        assert!(answer.data("/rotateWebhookSecret/webhook/previousSecretExpiresAt").is_string());
        answer.text("/rotateWebhookSecret/secret").to_owned()
    };
    let told = async |by: &Actor, number: usize| {
        ping(by, &lab, &made).await.ok();
        receiver.heard(number).await.remove(number - 1)
    };
    let second = rotate(&ada).await;
    let message = told(&ada, 1).await;
    assert_eq!(message.signature.split(' ').count(), 2);
    assert_eq!([&made.secret, &second].map(|secret| message.signed_by(secret)), [1, 1]);
    let third = rotate(&ada).await;
    let message = told(&ada, 2).await;
    assert_eq!([&made.secret, &second, &third].map(|secret| message.signed_by(secret)), [0, 1, 1]);
    app.advance(TimeDelta::hours(24) + TimeDelta::minutes(1));
    let message = told(&ada.again().await, 3).await;
    assert_eq!(message.signature.split(' ').count(), 1);
    assert_eq!([&made.secret, &second, &third].map(|secret| message.signed_by(secret)), [0, 0, 1]);
}

async fn the_secret_is_told_once_and_kept_sealed(app: App) {
    let ada = app.set_up().await;
    let (lab, receiver) = (ada.workspace("Lab").await, Receiver::start().await);
    app.chained().await;
    let made = hook(&ada, &lab, &receiver.url("/of/pl4nted?key=pl4nted"), &["AUDIT_LOG_CHANGED"]).await;
    let input = json!({ "workspaceId": lab.id, "webhookId": made.id });
    let rotated = ada.mutate("rotateWebhookSecret", input, "secret").await.ok();
    let secrets = [made.secret.clone(), rotated.text("/rotateWebhookSecret/secret").to_owned()];
    assert_ne!(secrets[0], secrets[1]);
    receiver.heard(2).await;
    let mut looked_at = 0;
    for table in app.tables().await {
        for row in app.rows(&table).await {
            looked_at += 1;
            for secret in &secrets {
                let text = secret.strip_prefix("whsec_").unwrap();
                let hex = hex::encode(STANDARD.decode(text).unwrap());
                assert!(!row.contains(text) && !row.to_lowercase().contains(&hex), "{table}: {row}");
            }
            // Somebody may have put a secret into the address.
            assert!(!row.contains("pl4nted") || table == "webhooks", "{table}: {row}");
        }
    }
    assert!(looked_at > 10);
    if app.engine() == Engine::Sqlite {
        for name in ["guildhall.db", "guildhall.db-wal"] {
            let Ok(file) = std::fs::read(app.data_dir().join(name)) else { continue };
            for secret in &secrets {
                let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
                assert!(!file.windows(key.len()).any(|piece| piece == key), "{name}");
            }
        }
    }
    for message in receiver.messages() {
        assert!(!message.body.contains("pl4nted") && !message.body.contains(&secrets[0][10..]));
    }
}

async fn an_archived_workspace_is_silent(app: App) {
    let ada = app.set_up().await;
    let (lab, receiver) = (ada.workspace("Lab").await, Receiver::start().await);
    let invited = ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    app.mail_to("eve@example.org").await;
    app.chained().await;
    let invitation = invited.text("/inviteMember/invitation/id");
    // That its mail was taken is news of an invitation too.
    app.mailed().await;
    let events = ["WORKSPACE_CHANGED", "INVITATION_STATUS_CHANGED"];
    hook(&ada, &lab, &receiver.url("/"), &events).await;
    ada.mutate("archiveWorkspace", json!({ "workspaceId": lab.id }), "").await.ok();
    assert_eq!(receiver.heard(1).await[0].change(), "ARCHIVED");
    // What still happens to it, such as an invitee who declines, is not told.
    app.sql(&format!(
        "INSERT INTO events (kind, workspace_id, subject_id, state, created_at) \
         VALUES ('INVITATION', {}, {}, 'DECLINED', '2999-01-01 00:00:00+00:00')",
        app.literal(&lab.id),
        app.literal(invitation)
    ))
    .await;
    receiver.hears_nothing_for(2000).await;
    ada.mutate("restoreWorkspace", json!({ "workspaceId": lab.id }), "").await.ok();
    assert_eq!(receiver.heard(2).await[1].change(), "RESTORED");
    rename(&ada, &lab, "Again").await;
    assert_eq!(receiver.heard(3).await[2].change(), "SETTINGS");
}

async fn a_webhook_goes_with_its_workspace(app: App) {
    let ada = app.set_up().await;
    let (lab, receiver) = (ada.workspace("Lab").await, Receiver::start().await);
    let made = hook(&ada, &lab, &receiver.url("/"), &["WORKSPACE_CHANGED"]).await;
    let gone = hook(&ada, &lab, &receiver.url("/"), &["WORKSPACE_CHANGED"]).await;
    let input = json!({ "workspaceId": lab.id, "webhookId": gone.id });
    let deleted = ada.mutate("deleteWebhook", input.clone(), "deletedWebhookId").await.ok();
    assert_eq!(deleted.data("/deleteWebhook/deletedWebhookId"), &json!(gone.id));
    ada.mutate("deleteWebhook", input, "").await.refused("NOT_FOUND");
    ping(&ada, &lab, &made).await.ok();
    receiver.heard(1).await;
    let told = ada.query(
        "query($id: ID!) { deletionImpact(workspaceId: $id) { counts { webhooks } } }",
        json!({ "id": lab.id }),
    );
    assert_eq!(told.await.ok().data("/deletionImpact/counts/webhooks"), 1);
    crate::deletion::delete(&ada, &lab, true).await.ok();
    assert!(webhook(&ada, &made).await.is_null());
    for table in ["webhooks", "webhook_deliveries"] {
        assert_eq!(app.number(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
    receiver.hears_nothing_for(1500).await;
}

async fn private_destinations_are_refused_where_nobody_allowed_them(app: App) {
    let ada = app.set_up().await;
    let (lab, receiver) = (ada.workspace("Lab").await, Receiver::start().await);
    let events = ["WORKSPACE_CHANGED"];
    for url in [
        receiver.url("/"),
        receiver.url("/").replace("http://", "https://"),
        "https://localhost/".to_owned(),
        "https://10.1.2.3/".to_owned(),
        "https://[::1]/".to_owned(),
        "https://0x7f.1/".to_owned(),
        "https://169.254.169.254/latest/meta-data".to_owned(),
        "http://example.org/".to_owned(),
    ] {
        let refused = create(&ada, &lab, &url, &events).await;
        refused.refused("DESTINATION_REFUSED");
    }
    let made = hook(&ada, &lab, "https://hooks.example.org/", &events).await;
    let url = receiver.url("/");
    change(&ada, &lab, &made, json!({ "url": url })).await.refused("DESTINATION_REFUSED");
    // What was allowed before, or a name that leads there now, is refused when something is sent.
    for url in [url.clone(), url.replace("http://", "https://")] {
        app.sql(&format!("UPDATE webhooks SET url = '{url}'")).await;
        ping(&ada, &lab, &made).await.ok();
        let refused = settled(&ada, &made, "PENDING", 1).await;
        assert!(refused["error"].as_str().unwrap().contains("sends nothing to"), "{refused}");
        assert!(refused["responseStatus"].is_null());
    }
    assert!(receiver.messages().is_empty());
}

async fn nobody_has_sent_what_they_may_not_watch(app: App) {
    let ada = app.set_up().await;
    let (lab, receiver) = (ada.workspace("Lab").await, Receiver::start().await);
    let organization = ada.organization().await;
    let role =
        crate::roles::made(&ada, &organization, "Integrator", &["INTEGRATION_MANAGE", "WORKSPACE_VIEW"])
            .await;
    let ivy = app.member(&lab, SystemRole::Viewer, "Ivy").await;
    let member = crate::members::membership(&lab, &ivy).await;
    let input = json!({ "workspaceId": lab.id, "memberId": member, "role": role });
    ada.mutate("updateMemberRole", input, "").await.ok();
    for event in ["INVITATION_STATUS_CHANGED", "CREDENTIAL_CHANGED", "AUDIT_LOG_CHANGED"] {
        let refused = create(&ivy, &lab, &receiver.url("/"), &["WORKSPACE_CHANGED", event]).await;
        assert_eq!(refused.refused("PRIVILEGE_ESCALATION").user_errors()[0]["field"], json!(["events"]));
    }
    let hers = hook(&ivy, &lab, &receiver.url("/ivy"), &["WORKSPACE_CHANGED"]).await;
    change(&ivy, &lab, &hers, json!({ "events": ["AUDIT_LOG_CHANGED"] }))
        .await
        .refused("PRIVILEGE_ESCALATION");
    // Neither does she turn to herself what somebody else has told.
    let adas = hook(&ada, &lab, &receiver.url("/ada"), &["INVITATION_STATUS_CHANGED"]).await;
    for change_of in [
        json!({ "url": receiver.url("/ivy") }),
        json!({ "events": ["WORKSPACE_CHANGED", "INVITATION_STATUS_CHANGED"] }),
    ] {
        change(&ivy, &lab, &adas, change_of).await.refused("PRIVILEGE_ESCALATION");
    }
    change(&ivy, &lab, &adas, json!({ "isEnabled": false, "name": "Stopped" })).await.ok();
    change(&ivy, &lab, &adas, json!({ "isEnabled": true })).await.refused("PRIVILEGE_ESCALATION");
    change(&ada, &lab, &adas, json!({ "isEnabled": true })).await.ok();
    ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    let message = &receiver.heard(2).await[0];
    assert_eq!(message.path, "/ada");
    let seen = newest(&ivy, &adas, |delivery| delivery["id"].is_string()).await;
    assert_eq!((&seen["eventType"], &seen["payload"]), (&json!("invitation.status_changed"), &Value::Null));
    replay(&ivy, &lab, seen["id"].as_str().unwrap()).await.refused("PRIVILEGE_ESCALATION");
    let both = json!({ "events": ["WORKSPACE_CHANGED"], "url": receiver.url("/ivy") });
    change(&ivy, &lab, &adas, both).await.refused("PRIVILEGE_ESCALATION");
    // Nor one step after the other, while something of it waits.
    let waits = hook(&ada, &lab, "http://127.0.0.1:1/", &["INVITATION_STATUS_CHANGED"]).await;
    ada.invite(&lab, "ivan@example.org", "VIEWER").await.ok();
    newest(&ada, &waits, |delivery| delivery["state"] == "PENDING").await;
    change(&ivy, &lab, &waits, json!({ "events": ["WORKSPACE_CHANGED"] })).await.ok();
    change(&ivy, &lab, &waits, json!({ "url": receiver.url("/ivy") })).await.refused("PRIVILEGE_ESCALATION");
    // What ends makes nothing that does not.
    let (_, key) = crate::machines::key(&ada, &lab, &["INTEGRATION_MANAGE"]).await;
    let bot = Actor::machine(&app.url, &key);
    hook(&bot, &lab, &receiver.url("/bot"), &["WORKSPACE_CHANGED"]).await;
    app.sql("UPDATE api_keys SET expires_at = '2999-01-01 00:00:00+00:00'").await;
    create(&bot, &lab, &receiver.url("/bot"), &["WORKSPACE_CHANGED"]).await.refused("PRIVILEGE_ESCALATION");
    let input = json!({ "workspaceId": lab.id, "webhookId": adas.id });
    bot.mutate("rotateWebhookSecret", input, "").await.refused("PRIVILEGE_ESCALATION");
}

async fn strangers_and_viewers_have_no_part_in_it(app: App) {
    let ada = app.set_up().await;
    let (lab, receiver) = (ada.workspace("Lab").await, Receiver::start().await);
    let made = hook(&ada, &lab, &receiver.url("/"), &["WORKSPACE_CHANGED"]).await;
    let sent = ping(&ada, &lab, &made).await.ok();
    let delivery = sent.text("/sendTestWebhook/delivery/id").to_owned();
    receiver.heard(1).await;
    settled(&ada, &made, "DELIVERED", 1).await;
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    let ed = app.member(&lab, SystemRole::Editor, "Ed").await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    let tower = olga.workspace("Tower").await;
    let nodes = "query($ids: [ID!]!) { nodes(ids: $ids) { id } }";
    for (who, code) in [(&eve, "FORBIDDEN"), (&ed, "FORBIDDEN"), (&olga, "NOT_FOUND")] {
        let told = who.query(nodes, json!({ "ids": [made.id, delivery] })).await.ok();
        assert_eq!(told.data("/nodes"), &json!([null, null]), "{}", who.name);
        create(who, &lab, &receiver.url("/"), &["WORKSPACE_CHANGED"]).await.denied(code);
        change(who, &lab, &made, json!({ "isEnabled": false })).await.denied(code);
        ping(who, &lab, &made).await.denied(code);
        replay(who, &lab, &delivery).await.denied(code);
        for mutation in ["rotateWebhookSecret", "deleteWebhook"] {
            let input = json!({ "workspaceId": lab.id, "webhookId": made.id });
            who.mutate(mutation, input, "").await.denied(code);
        }
    }
    let list = "query($n: String!) { workspace(name: $n) { webhooks { nodes { id } } } }";
    eve.query(list, json!({ "n": lab.name })).await.denied("FORBIDDEN");
    // By way of a workspace of one's own neither.
    replay(&olga, &tower, &delivery).await.refused("NOT_FOUND");
    ping(&olga, &tower, &made).await.refused("NOT_FOUND");
    change(&olga, &tower, &made, json!({ "isEnabled": false })).await.refused("NOT_FOUND");
    // What happens in one workspace is not told of to another's.
    app.chained().await;
    hook(
        &olga,
        &tower,
        &receiver.url("/tower"),
        &["WORKSPACE_CHANGED", "AUDIT_LOG_CHANGED", "INVITATION_STATUS_CHANGED"],
    )
    .await;
    rename(&ada, &lab, "Secret").await;
    let messages = receiver.heard(3).await;
    for message in &messages[1..] {
        let own = if message.path == "/tower" { &tower.id } else { &lab.id };
        assert_eq!(&message.json()["data"]["workspaceId"], own, "{message:?}");
    }
    receiver.hears_nothing_for(1500).await;
}

async fn there_are_so_many_and_no_more(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let url = "https://hooks.example.org/";
    let made: Vec<Hook> = join_all((0..20).map(|_| hook(&ada, &lab, url, &["WORKSPACE_CHANGED"]))).await;
    create(&ada, &lab, url, &["WORKSPACE_CHANGED"]).await.refused("LIMIT_REACHED");
    let list = "query($n: String!, $after: String) { workspace(name: $n) { webhooks(first: 15, after: $after) {
        totalCount pageInfo { hasNextPage endCursor } nodes { id createdBy { email } workspace { name } } } } }";
    let first = ada.query(list, json!({ "n": lab.name })).await.ok();
    assert_eq!(first.data("/workspace/webhooks/totalCount"), 20);
    assert_eq!(first.data("/workspace/webhooks/nodes/0/createdBy/email"), &json!(ada.email));
    let after = first.data("/workspace/webhooks/pageInfo/endCursor");
    let second = ada.query(list, json!({ "n": lab.name, "after": after })).await.ok();
    assert_eq!((first.len("/workspace/webhooks/nodes"), second.len("/workspace/webhooks/nodes")), (15, 5));
    let input = json!({ "workspaceId": lab.id, "webhookId": made[0].id });
    ada.mutate("deleteWebhook", input, "").await.ok();
    hook(&ada, &lab, url, &["WORKSPACE_CHANGED"]).await;
    for (field, bad) in [
        ("name", json!("")),
        ("url", json!("ftp://example.org")),
        ("url", json!("https://ada:secret@example.org")),
        ("url", json!("https://example.org/#a")),
        ("events", json!([])),
    ] {
        let mut input =
            json!({ "workspaceId": lab.id, "name": "CI", "url": url, "events": ["WORKSPACE_CHANGED"] });
        input[field] = bad;
        let refused = ada.mutate("createWebhook", input, "").await;
        assert_eq!(refused.refused("INVALID_INPUT").user_errors()[0]["field"], json!([field]));
    }
    for field in ["name", "url", "events", "isEnabled"] {
        change(&ada, &lab, &made[1], json!({ field: null })).await.refused("INVALID_INPUT");
    }
}

async fn what_finds_no_room_waits_in_the_log(app: App) {
    let ada = app.set_up().await;
    app.stop_the_clock();
    let (lab, receiver) = (ada.workspace("Lab").await, Receiver::start().await);
    let made = hook(&ada, &lab, &receiver.url("/"), &["WORKSPACE_CHANGED"]).await;
    receiver.first([Reply::Says(500, "")]);
    ping(&ada, &lab, &made).await.ok();
    settled(&ada, &made, "PENDING", 1).await;
    // Copies of what waits, due in a long time.
    let numbered = match app.engine() {
        Engine::Sqlite => {
            "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 999) \
             INSERT INTO webhook_deliveries SELECT randomblob(16), webhook_id, kind, payload, state, attempts, tries, \
             '2999-01-01 00:00:00+00:00', tried_at, delivered_at, response_status, response_body, fault, created_at, \
             updated_at FROM webhook_deliveries, n"
        }
        Engine::Postgres => {
            "INSERT INTO webhook_deliveries SELECT gen_random_uuid(), webhook_id, kind, payload, state, attempts, tries, \
             '2999-01-01 00:00:00+00:00', tried_at, delivered_at, response_status, response_body, fault, created_at, \
             updated_at FROM webhook_deliveries, generate_series(1, 999)"
        }
    };
    assert_eq!(app.sql(numbered).await, 999);
    rename(&ada, &lab, "Waits").await;
    ping(&ada, &lab, &made).await.refused("LIMIT_REACHED");
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(app.number("SELECT count(*) FROM webhook_deliveries").await, 1000);
    // There is room again, and the next event finds both.
    app.sql("DELETE FROM webhook_deliveries WHERE due_at > '2900-01-01 00:00:00+00:00'").await;
    rename(&ada, &lab, "Goes on").await;
    let messages = receiver.heard(3).await;
    assert_eq!((messages[1].change().as_str(), messages[2].change().as_str()), ("SETTINGS", "SETTINGS"));
}

async fn deliveries_are_forgotten_after_a_month(app: App) {
    let ada = app.set_up().await;
    app.stop_the_clock();
    let (lab, receiver) = (ada.workspace("Lab").await, Receiver::start().await);
    let made = hook(&ada, &lab, &receiver.url("/"), &["WORKSPACE_CHANGED"]).await;
    receiver.first([Reply::Says(204, ""), Reply::Says(500, "")]);
    ping(&ada, &lab, &made).await.ok();
    settled(&ada, &made, "DELIVERED", 1).await;
    ping(&ada, &lab, &made).await.ok();
    settled(&ada, &made, "PENDING", 1).await;
    change(&ada, &lab, &made, json!({ "isEnabled": false })).await.ok();
    app.advance(TimeDelta::days(29));
    guildhall_persistence::housekeeping::sweep(app.db()).await.unwrap();
    assert_eq!(app.number("SELECT count(*) FROM webhook_deliveries").await, 2);
    app.advance(TimeDelta::days(2));
    let swept = guildhall_persistence::housekeeping::sweep(app.db()).await.unwrap();
    assert_eq!(swept.deliveries, 2);
    // Nothing is due any more, and the webhook works on.
    let ada = ada.again().await;
    change(&ada, &lab, &made, json!({ "isEnabled": true })).await.ok();
    receiver.hears_nothing_for(1500).await;
    rename(&ada, &lab, "Heard").await;
    assert_eq!(receiver.heard(3).await[2].change(), "SETTINGS");
}

async fn run(database: &TestDatabase, statement: &str) {
    let statement = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()));
    match database.engine() {
        Engine::Sqlite => {
            let mut connection = sqlx::SqliteConnection::connect(&database.url).await.unwrap();
            statement.execute(&mut connection).await.map(drop)
        }
        Engine::Postgres => {
            let mut connection = sqlx::PgConnection::connect(&database.url).await.unwrap();
            statement.execute(&mut connection).await.map(drop)
        }
    }
    .unwrap();
}

async fn process(database: &TestDatabase, mail: &MailServer) -> Process {
    Process::spawn_with(database, mail, |env| {
        env.set("GUILDHALL_WEBHOOKS_DESTINATIONS", "127.0.0.0/8");
    })
    .await
}

async fn what_was_on_its_way_when_a_process_was_killed_is_sent_by_the_next(database: TestDatabase) {
    let (mail, receiver) = (MailServer::start().await, Receiver::start().await);
    let mut first = process(&database, &mail).await;
    let (ada, _) = Actor::set_up(&first.url, &first.setup_token(), "ada@example.org", "Ada").await;
    let lab = ada.workspace("Lab").await;
    receiver.then(Reply::Silent);
    hook(&ada, &lab, &receiver.url("/"), &["WORKSPACE_CHANGED"]).await;
    rename(&ada, &lab, "On its way").await;
    receiver.heard(1).await;
    for number in 0..5 {
        rename(&ada, &lab, &format!("Acknowledged {number}")).await;
    }
    first.kill();
    receiver.then(Reply::Says(204, ""));
    let mut second = process(&database, &mail).await;
    // Whoever was at it has a lease of a minute: it is over.
    run(&database, "UPDATE webhooks SET leased_until = NULL").await;
    let messages = receiver.heard(7).await;
    assert_eq!((&messages[0].id, &messages[0].body), (&messages[1].id, &messages[1].body), "the same again");
    let ids: BTreeSet<_> = messages.iter().map(|message| &message.id).collect();
    assert_eq!(ids.len(), 6, "and each of the others");
    let times: Vec<_> = messages.iter().map(|message| message.json()["timestamp"].to_string()).collect();
    assert!(times.is_sorted(), "one after the other: {times:?}");
    receiver.hears_nothing_for(1500).await;
    assert!(second.runs(), "{}", second.output());
}

#[test]
fn two_processes_send_each_once() {
    databases::run(Engine::Postgres, fresh_database, async |database: TestDatabase| {
        let (mail, receiver) = (MailServer::start().await, Receiver::start().await);
        let first = process(&database, &mail).await;
        let (ada, _) = Actor::set_up(&first.url, &first.setup_token(), "ada@example.org", "Ada").await;
        let second = process(&database, &mail).await;
        let lab = ada.workspace("Lab").await;
        let (here, there) = (ada.clone(), ada.at(&second.url));
        for number in 0..4 {
            hook(&ada, &lab, &receiver.url(&format!("/{number}")), &["WORKSPACE_CHANGED"]).await;
        }
        // Half of the changes at each, several at once.
        join_all((0..20).map(|number| {
            let by = if number % 2 == 0 { &here } else { &there };
            let (lab, name) = (&lab, format!("Lab {number}"));
            async move { rename(by, lab, &name).await }
        }))
        .await;
        let messages = receiver.heard(80).await;
        let ids: BTreeSet<_> = messages.iter().map(|message| &message.id).collect();
        assert_eq!(ids.len(), 80, "no delivery is sent twice");
        for number in 0..4 {
            let path = format!("/{number}");
            assert_eq!(messages.iter().filter(|message| message.path == path).count(), 20);
        }
        receiver.hears_nothing_for(2000).await;
    });
}
