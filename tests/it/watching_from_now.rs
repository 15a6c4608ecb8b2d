//! A screen that reads a list and then watches it misses nothing in between, since it watches first, from `now` on.

use guildhall_domain::access::SystemRole;
use guildhall_tests::{App, both_databases};
use serde_json::{Value, json};

both_databases!(
    App::start,
    from_now_on_the_first_change_says_where_to_begin,
    who_breaks_off_before_the_first_change_misses_nothing,
    an_audit_log_is_watched_from_now_on
);

const CHANGES: &str = "subscription($id: ID!, $after: String) {
    invitationStatusChanged(workspaceId: $id, after: $after) { cursor resyncRequired status invitation { email } }
}";
const CHANGE: &str = "/invitationStatusChanged";

async fn from_now_on_the_first_change_says_where_to_begin(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    app.mail_to("eve@example.org").await;
    let mut changes = ada.subscribe(CHANGES, json!({ "id": lab.id, "after": "now" })).await;
    let first = changes.next().await.ok();
    assert_eq!(first.data("/invitationStatusChanged/resyncRequired"), true);
    assert_eq!(first.data("/invitationStatusChanged/status"), &Value::Null);
    // What was told before it began is not told again; what comes is.
    ada.invite(&lab, "zoe@example.org", "VIEWER").await.ok();
    let until_zoe = async {
        loop {
            let change = changes.next().await.ok();
            assert_eq!(change.data("/invitationStatusChanged/resyncRequired"), false);
            if change.data("/invitationStatusChanged/invitation/email") == "zoe@example.org" {
                break change;
            }
        }
    };
    assert_eq!(until_zoe.await.data("/invitationStatusChanged/status"), "PENDING");

    // The same holds of what one is told oneself, and of the workspace.
    let grace = app.member(&lab, SystemRole::Viewer, "Grace").await;
    let received = "subscription { viewerInvitationChanged(after: \"now\") { cursor resyncRequired } }";
    let mut received = grace.subscribe(received, json!({})).await;
    assert_eq!(received.next().await.ok().data("/viewerInvitationChanged/resyncRequired"), true);
    let workspace = "subscription($id: ID!) { workspaceChanged(workspaceId: $id, after: \"now\") { cursor resyncRequired } }";
    let mut workspace = grace.subscribe(workspace, json!({ "id": lab.id })).await;
    assert_eq!(workspace.next().await.ok().data("/workspaceChanged/resyncRequired"), true);
    let words = ada.subscribe(CHANGES, json!({ "id": lab.id, "after": "tomorrow" })).await.next().await;
    words.denied("BAD_USER_INPUT");
}

async fn who_breaks_off_before_the_first_change_misses_nothing(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let mut changes = ada.subscribe(CHANGES, json!({ "id": lab.id, "after": "now" })).await;
    let cursor = changes.next().await.ok().text(&format!("{CHANGE}/cursor")).to_owned();
    drop(changes);
    ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    let mut changes = ada.subscribe(CHANGES, json!({ "id": lab.id, "after": cursor })).await;
    let missed = changes.next().await.ok();
    assert_eq!(missed.data("/invitationStatusChanged/resyncRequired"), false);
    assert_eq!(missed.data("/invitationStatusChanged/invitation/email"), "eve@example.org");
}

async fn an_audit_log_is_watched_from_now_on(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let log =
        "subscription($id: ID!) { auditLogChanged(workspaceId: $id, after: \"now\") { event { action } } }";
    let mut log = ada.subscribe(log, json!({ "id": lab.id })).await;
    ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    // An entry gets its place in the log within a second, so the one of the workspace may come first.
    log.until(|entry| entry.data("/auditLogChanged/event/action") == "inviteMember").await;
}
