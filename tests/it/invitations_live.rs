//! Invitations as they are watched: every change once and in order, also after a break; and what becomes of
//! their mails.

use std::time::Duration;

use chrono::TimeDelta;
use guildhall_domain::access::SystemRole;
use guildhall_tests::{Actor, Answer, App, Subscription, both_databases, mailbox::Fault, subscription::End};
use serde_json::{Value, json};

use crate::invitations::{change, invited, token};

both_databases!(
    App::start,
    every_change_is_told_within_a_second,
    an_expired_invitation_that_is_replaced_is_told,
    delivery_goes_from_queued_to_sent,
    a_mail_refused_for_good_is_told_with_its_reason,
    after_a_break_come_exactly_the_missed_ones,
    what_was_missed_is_told_as_it_is_now,
    a_cursor_that_is_none_is_refused,
    a_cursor_beyond_the_log_asks_to_read_anew,
    only_those_who_may_see_invitations_watch,
    the_invitee_is_told_of_their_own,
    the_invitee_goes_on_after_a_break,
);

const CHANGES: &str = "subscription($id: ID!, $after: String) {
    invitationStatusChanged(workspaceId: $id, after: $after) {
        cursor status resyncRequired
        invitation { id email status delivery deliveryError sentAt role { key } }
    }
}";
const MINE: &str = "subscription($after: String) { viewerInvitationChanged(after: $after) {
    cursor status resyncRequired invitation { id status inviterName workspaces { name role { key } } }
} }";

/// The next change, within a second.
async fn next(changes: &mut Subscription) -> Value {
    let told = changes.within(Duration::from_secs(1)).await.ok();
    let data = told.data("").as_object().unwrap();
    data.values().next().unwrap().clone()
}

/// The next change that is no mere news of the mail.
async fn next_status(changes: &mut Subscription, status: &str) -> Value {
    loop {
        let told = next(changes).await;
        if told["status"] == status {
            return told;
        }
        assert_eq!(told["status"], "PENDING", "waiting for {status}: {told}");
    }
}

async fn answer(actor: &Actor, mutation: &str, id: &Value) -> Answer {
    actor.mutate(mutation, json!({ "invitationId": id }), "invitation { status }").await
}

async fn every_change_is_told_within_a_second(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let eve = app.person("eve@example.org", "Eve").await;
    let mut changes = ada.subscribe(CHANGES, json!({ "id": lab.id })).await;
    for (mutation, status) in
        [("revokeInvitation", "REVOKED"), ("declineInvitation", "DECLINED"), ("acceptInvitation", "ACCEPTED")]
    {
        let id = invited(&ada, &lab, &eve.email, "EDITOR").await;
        let told = next(&mut changes).await;
        assert_eq!((&told["status"], &told["invitation"]["id"]), (&json!("PENDING"), &id));
        assert_eq!(told["invitation"]["role"]["key"], "EDITOR");
        match mutation {
            "revokeInvitation" => change(&ada, mutation, &lab, &id).await.ok(),
            _ => answer(&eve, mutation, &id).await.ok(),
        };
        let told = next_status(&mut changes, status).await;
        assert_eq!((&told["invitation"]["id"], &told["invitation"]["status"]), (&id, &json!(status)));
        assert_eq!(told["resyncRequired"], false);
    }
    // What happens in another workspace is not told here.
    let den = ada.workspace("Den").await;
    invited(&ada, &den, "zoe@example.org", "VIEWER").await;
    token(&app, "zoe@example.org").await;
    changes.no_event_for(300).await;
}

async fn an_expired_invitation_that_is_replaced_is_told(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let old = invited(&ada, &lab, "eve@example.org", "VIEWER").await;
    token(&app, "eve@example.org").await;
    app.advance(TimeDelta::hours(168));
    let ada = ada.again().await;
    let mut changes = ada.subscribe(CHANGES, json!({ "id": lab.id })).await;
    let new = invited(&ada, &lab, "eve@example.org", "VIEWER").await;
    let told = next(&mut changes).await;
    assert_eq!((&told["status"], &told["invitation"]["id"]), (&json!("SUPERSEDED"), &old));
    let told = next(&mut changes).await;
    assert_eq!((&told["status"], &told["invitation"]["id"]), (&json!("PENDING"), &new));
}

async fn delivery_goes_from_queued_to_sent(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    app.mail.fault(Fault::Silence).await;
    let mut changes = ada.subscribe(CHANGES, json!({ "id": lab.id })).await;
    let answer = ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    assert_eq!(answer.data("/inviteMember/invitation/delivery"), "QUEUED");
    let told = next(&mut changes).await;
    assert_eq!(told["invitation"]["delivery"], "QUEUED");
    assert_eq!(told["invitation"]["sentAt"], Value::Null);
    app.mail.fault(Fault::None).await;

    let den = ada.workspace("Den").await;
    let mut changes = ada.subscribe(CHANGES, json!({ "id": den.id })).await;
    let id = invited(&ada, &den, "max@example.org", "VIEWER").await;
    let sent = |event: &Answer| event.data("/invitationStatusChanged/invitation/delivery") == "SENT";
    let told = changes.until(sent).await;
    assert_eq!(told.data("/invitationStatusChanged/invitation/id"), &id);
    assert_eq!(told.data("/invitationStatusChanged/status"), "PENDING");
    assert!(told.data("/invitationStatusChanged/invitation/sentAt").is_string());
    assert_eq!(told.data("/invitationStatusChanged/invitation/deliveryError"), &Value::Null);
}

async fn a_mail_refused_for_good_is_told_with_its_reason(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let mut changes = ada.subscribe(CHANGES, json!({ "id": lab.id })).await;
    app.mail.fault(Fault::Recipient(550, "no such mailbox".to_owned())).await;
    let id = invited(&ada, &lab, "nobody@example.org", "VIEWER").await;
    let failed = |event: &Answer| event.data("/invitationStatusChanged/invitation/delivery") == "FAILED";
    let told = changes.until(failed).await;
    let invitation = told.data("/invitationStatusChanged/invitation");
    assert_eq!(invitation["status"], "PENDING", "the link could still come another way");
    assert!(invitation["deliveryError"].as_str().unwrap().contains("no such mailbox"), "{invitation}");

    // When the cause is gone it is sent again.
    app.mail.fault(Fault::None).await;
    let resent = change(&ada, "resendInvitation", &lab, &id).await.ok();
    assert_eq!(resent.data("/resendInvitation/invitation/delivery"), "QUEUED");
    let sent = |event: &Answer| event.data("/invitationStatusChanged/invitation/delivery") == "SENT";
    let told = changes.until(sent).await;
    assert_eq!(told.data("/invitationStatusChanged/invitation/deliveryError"), &Value::Null);
    token(&app, "nobody@example.org").await;
}

async fn after_a_break_come_exactly_the_missed_ones(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    // Mails stay queued, so that every event is one of a status.
    app.mail.fault(Fault::Recipient(451, "later".to_owned())).await;
    let mut whole = ada.subscribe(CHANGES, json!({ "id": lab.id })).await;
    let mut changes = ada.subscribe(CHANGES, json!({ "id": lab.id })).await;
    invited(&ada, &lab, "p0@example.org", "VIEWER").await;
    let cursor = next(&mut changes).await["cursor"].clone();
    drop(changes);

    let mut ids = Vec::new();
    for n in 1..6 {
        ids.push(invited(&ada, &lab, &format!("p{n}@example.org"), "VIEWER").await);
    }
    for id in &ids[..3] {
        change(&ada, "revokeInvitation", &lab, id).await.ok();
    }
    // More happens while the missed ones are told.
    let mut changes = ada.subscribe(CHANGES, json!({ "id": lab.id, "after": cursor })).await;
    for id in &ids[3..] {
        change(&ada, "revokeInvitation", &lab, id).await.ok();
    }
    let expected: Vec<(Value, &str)> = ids
        .iter()
        .map(|id| (id.clone(), "PENDING"))
        .chain(ids.iter().map(|id| (id.clone(), "REVOKED")))
        .collect();
    let mut cursors = Vec::new();
    for (id, status) in &expected {
        let told = next(&mut changes).await;
        assert_eq!((&told["invitation"]["id"], &told["status"]), (id, &json!(status)));
        assert_eq!(told["resyncRequired"], false);
        cursors.push(told["cursor"].clone());
    }
    changes.no_event_for(200).await;
    // Whoever never left has heard the same.
    next(&mut whole).await;
    for cursor in &cursors {
        assert_eq!(&next(&mut whole).await["cursor"], cursor);
    }
    // From the last one on there is nothing.
    let last = cursors.last().unwrap();
    ada.subscribe(CHANGES, json!({ "id": lab.id, "after": last })).await.no_event_for(200).await;
}

async fn what_was_missed_is_told_as_it_is_now(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    app.mail.fault(Fault::Recipient(451, "later".to_owned())).await;
    // Somebody who holds the same subscription was told of each as it was then.
    let mut whole = ada.subscribe(CHANGES, json!({ "id": lab.id })).await;
    invited(&ada, &lab, "max@example.org", "VIEWER").await;
    let cursor = next(&mut whole).await["cursor"].clone();
    let id = invited(&ada, &lab, "eve@example.org", "VIEWER").await;
    assert_eq!(next(&mut whole).await["invitation"]["status"], "PENDING");
    change(&ada, "revokeInvitation", &lab, &id).await.ok();
    next_status(&mut whole, "REVOKED").await;

    let mut late = ada.subscribe(CHANGES, json!({ "id": lab.id, "after": cursor })).await;
    let told = next(&mut late).await;
    assert_eq!((&told["status"], &told["invitation"]["id"]), (&json!("PENDING"), &id), "what happened then");
    assert_eq!(told["invitation"]["status"], "REVOKED", "and what it is about, now");
}

/// The code that a subscription is refused with: before it starts, or as its only event.
async fn refusal(actor: &Actor, document: &str, variables: Value) -> String {
    let event = actor.subscribe(document, variables).await.next().await;
    event.code().to_owned()
}

async fn a_cursor_that_is_none_is_refused(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    for garbage in ["", "e", "x1", "e-1", "e+1", "garbage", "e1 ", "effffffffffffffff", "Ω"] {
        let variables = json!({ "id": lab.id, "after": garbage });
        assert_eq!(refusal(&ada, CHANGES, variables).await, "BAD_USER_INPUT", "{garbage:?}");
        assert_eq!(refusal(&ada, MINE, json!({ "after": garbage })).await, "BAD_USER_INPUT", "{garbage:?}");
    }
}

async fn a_cursor_beyond_the_log_asks_to_read_anew(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    invited(&ada, &lab, "eve@example.org", "VIEWER").await;
    token(&app, "eve@example.org").await;
    // As after a backup was restored.
    let ahead = json!({ "id": lab.id, "after": "effffff" });
    let mut changes = ada.subscribe(CHANGES, ahead).await;
    let told = next(&mut changes).await;
    assert_eq!(told["resyncRequired"], true);
    assert_eq!((&told["status"], &told["invitation"]), (&Value::Null, &Value::Null));
    // From the cursor it was given it goes on as usual.
    let id = invited(&ada, &lab, "max@example.org", "VIEWER").await;
    let told_id = async |changes: &mut Subscription| loop {
        let told = next(changes).await;
        assert_eq!(told["resyncRequired"], false);
        if told["invitation"]["id"] == id {
            return told;
        }
    };
    told_id(&mut changes).await;
    let variables = json!({ "id": lab.id, "after": told["cursor"] });
    told_id(&mut ada.subscribe(CHANGES, variables).await).await;
    assert_eq!(
        next(&mut ada.subscribe(MINE, json!({ "after": "effffff" })).await).await["resyncRequired"],
        true
    );
}

async fn only_those_who_may_see_invitations_watch(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let eddie = app.member(&lab, SystemRole::Editor, "Eddie").await;
    let sam = app.stranger("sam@example.net", "Sam").await;
    let variables = json!({ "id": lab.id });
    assert_eq!(refusal(&eddie, CHANGES, variables.clone()).await, "FORBIDDEN");
    assert_eq!(refusal(&sam, CHANGES, variables.clone()).await, "NOT_FOUND");
    assert_eq!(refusal(&app.anonymous(), CHANGES, variables).await, "UNAUTHENTICATED");
    assert_eq!(refusal(&app.anonymous(), MINE, json!({})).await, "UNAUTHENTICATED");
}

async fn the_invitee_is_told_of_their_own(app: App) {
    let ada = app.set_up().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    let eve = app.person("eve@example.org", "Eve").await;
    let bob = app.person("bob@example.org", "Bob").await;
    let mut hers = eve.subscribe(MINE, json!({})).await;
    let mut his = bob.subscribe(MINE, json!({})).await;
    let id = invited(&ada, &lab, "EVE@example.org", "EDITOR").await;
    let told = next(&mut hers).await;
    assert_eq!(told["status"], "PENDING");
    assert_eq!(
        told["invitation"],
        json!({ "id": id, "status": "PENDING", "inviterName": "Ada",
                "workspaces": [{ "name": "lab", "role": { "key": "EDITOR" } }] })
    );
    change(&ada, "revokeInvitation", &lab, &id).await.ok();
    assert_eq!(next_status(&mut hers, "REVOKED").await["invitation"]["id"], id);
    // From whichever workspace it comes.
    let id = invited(&ada, &den, &eve.email, "VIEWER").await;
    assert_eq!(next_status(&mut hers, "PENDING").await["invitation"]["id"], id);
    answer(&eve, "acceptInvitation", &id).await.ok();
    next_status(&mut hers, "ACCEPTED").await;
    his.no_event_for(200).await;

    // It ends with the session.
    eve.mutate("signOut", Value::Null, "signedOut").await.ok();
    hers.within(Duration::from_secs(1)).await.denied("UNAUTHENTICATED");
    assert_eq!(hers.ended().await, End::Complete);
}

async fn the_invitee_goes_on_after_a_break(app: App) {
    let ada = app.set_up().await;
    let eve = app.person("eve@example.org", "Eve").await;
    app.mail.fault(Fault::Recipient(451, "later".to_owned())).await;
    let mut hers = eve.subscribe(MINE, json!({})).await;
    let lab = ada.workspace("Lab").await;
    let first = invited(&ada, &lab, &eve.email, "VIEWER").await;
    let cursor = next(&mut hers).await["cursor"].clone();
    drop(hers);
    let den = ada.workspace("Den").await;
    let second = invited(&ada, &den, &eve.email, "VIEWER").await;
    change(&ada, "revokeInvitation", &lab, &first).await.ok();
    let mut hers = eve.subscribe(MINE, json!({ "after": cursor })).await;
    answer(&eve, "declineInvitation", &second).await.ok();
    for (id, status) in [(&second, "PENDING"), (&first, "REVOKED"), (&second, "DECLINED")] {
        let told = next(&mut hers).await;
        assert_eq!((&told["invitation"]["id"], &told["status"]), (id, &json!(status)));
    }
    hers.no_event_for(200).await;
}
