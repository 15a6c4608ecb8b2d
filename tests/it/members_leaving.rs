//! What ends with a membership or a role, and who cannot be taken away.

use std::{pin::pin, time::Duration};

use async_graphql::{Request, Variables};
use futures_util::StreamExt as _;
use guildhall_domain::access::{self, SystemRole};
use guildhall_graphql::{Caller, Handoff};
use guildhall_persistence::sessions::Device;
use guildhall_tests::{Actor, Answer, App, Subscription, actor::token_of, both_databases, subscription::End};
use serde_json::{Value, json};

use crate::members::{leave, list, membership, names, remove, set_role};

both_databases!(
    App::start,
    a_demoted_admin_hears_nothing_more,
    a_removed_member_is_out_at_once,
    who_is_removed_before_their_subscription_listens_is_told_at_once,
    a_member_who_goes_takes_their_invitations_along,
    the_last_admin_stays,
    who_cannot_act_is_no_admin_to_rely_on,
    an_owner_stays_in_what_they_made,
);

const CHANGES: &str = "subscription($id: ID!) { invitationStatusChanged(workspaceId: $id) {
    status invitation { email }
} }";

/// That the subscription ends within a second, with this code and without another event.
async fn ends(subscription: &mut Subscription, code: &str) {
    let ended = tokio::time::timeout(Duration::from_secs(1), subscription.ended()).await;
    let End::Errors(errors) = ended.expect("the subscription ends within a second") else {
        panic!("the subscription ends without saying why");
    };
    assert_eq!(errors[0]["extensions"]["code"], code, "{errors:?}");
}

async fn a_demoted_admin_hears_nothing_more(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let bob = app.member(&lab, SystemRole::Admin, "Bob").await;
    let cleo = app.member(&lab, SystemRole::Admin, "Cleo").await;
    let mut his = bob.subscribe(CHANGES, json!({ "id": lab.id })).await;
    let mut hers = cleo.subscribe(CHANGES, json!({ "id": lab.id })).await;
    set_role(&ada, &lab, &membership(&lab, &bob).await, "EDITOR").await.ok();
    ends(&mut his, "FORBIDDEN").await;
    bob.subscribe(CHANGES, json!({ "id": lab.id })).await.next().await.denied("FORBIDDEN");
    // The other one goes on.
    ada.invite(&lab, "zoe@example.org", "VIEWER").await.ok();
    let told = hers.next().await.ok();
    assert_eq!(told.data("/invitationStatusChanged/invitation/email"), "zoe@example.org");
}

async fn a_removed_member_is_out_at_once(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let bob = app.member(&lab, SystemRole::Admin, "Bob").await;
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    let id = membership(&lab, &bob).await;
    remove(&eve, &lab, &id).await.denied("FORBIDDEN");
    let mut watching = bob.subscribe(CHANGES, json!({ "id": lab.id })).await;
    let removed = remove(&ada, &lab, &id).await.ok();
    assert_eq!(removed.data("/removeMember/member"), &json!({ "id": id, "role": { "key": "ADMIN" } }));
    ends(&mut watching, "NOT_FOUND").await;
    assert_eq!(list(&bob, &lab, json!({})).await.ok().data("/workspace"), &Value::Null);
    bob.invite(&lab, "zoe@example.org", "VIEWER").await.denied("NOT_FOUND");
    remove(&ada, &lab, &id).await.refused("NOT_FOUND");

    // The account stays, and the person can come back.
    ada.invite(&lab, &bob.email, "VIEWER").await.ok();
    let input = json!({ "token": token_of(&app.mail_to(&bob.email).await.link()) });
    bob.mutate("acceptInvitation", input, "invitation { id }").await.ok();
    assert_eq!(names(&list(&bob, &lab, json!({})).await.ok()), ["Ada", "Eve", "Bob"]);
}

/// The moment between the guard of a subscription and its first look at the log, held open: what happens in it wakes nobody.
async fn who_is_removed_before_their_subscription_listens_is_told_at_once(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let bob = app.member(&lab, SystemRole::Admin, "Bob").await;
    let sessions = bob.query("{ viewer { sessions { nodes { id } } } }", json!({})).await.ok();
    let session = sessions.text("/viewer/sessions/nodes/0/id").parse().unwrap();
    let actor = Some(access::Actor::User { user: bob.id.parse().unwrap(), session });
    let handoff = Handoff::default();
    let request = Request::new(CHANGES)
        .variables(Variables::from_json(json!({ "id": lab.id })))
        .data(Caller { actor, device: Device::default() })
        .data(handoff.clone());
    assert!(app.schema().execute_stream(request).next().await.is_none(), "it is left to the transport");
    let watch = handoff.take().expect("the guard lets him in");
    remove(&ada, &lab, &membership(&lab, &bob).await).await.ok();
    let mut turns = pin!(watch.turns());
    let first = tokio::time::timeout(Duration::from_secs(30), turns.next()).await.expect("it ends by itself");
    assert!(first.is_some_and(|turn| turn.is_err()));
    assert!(turns.next().await.is_none());
}

async fn a_member_who_goes_takes_their_invitations_along(app: App) {
    let ada = app.set_up().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    let bob = app.member(&lab, SystemRole::Admin, "Bob").await;
    let cleo = app.member(&lab, SystemRole::Admin, "Cleo").await;
    ada.invite(&den, &bob.email, "ADMIN").await.ok();
    let input = json!({ "token": token_of(&app.mail_to(&bob.email).await.link()) });
    bob.mutate("acceptInvitation", input, "invitation { id }").await.ok();
    for (by, workspace, email) in [
        (&bob, &lab, "one@example.org"),
        (&cleo, &lab, "two@example.org"),
        (&ada, &lab, "three@example.org"),
        (&bob, &den, "four@example.org"),
    ] {
        by.invite(workspace, email, "VIEWER").await.ok();
        app.mail_to(email).await;
    }
    let mut changes = ada.subscribe(CHANGES, json!({ "id": lab.id })).await;
    let revoked = |email: &'static str| {
        move |event: &Answer| {
            event.data("/invitationStatusChanged/status") == "REVOKED"
                && event.data("/invitationStatusChanged/invitation/email") == email
        }
    };
    remove(&ada, &lab, &membership(&lab, &bob).await).await.ok();
    changes.until(revoked("one@example.org")).await;
    leave(&cleo, &lab).await.ok();
    changes.until(revoked("two@example.org")).await;
    let statuses =
        "query($name: String!) { workspace(name: $name) { invitations(status: [PENDING, REVOKED]) {
        nodes { email status respondedAt }
    } } }";
    for (workspace, expected) in [
        (
            &lab,
            &[
                ("one@example.org", "REVOKED"),
                ("two@example.org", "REVOKED"),
                ("three@example.org", "PENDING"),
            ][..],
        ),
        (&den, &[("four@example.org", "PENDING")]),
    ] {
        let answer = ada.query(statuses, json!({ "name": workspace.name })).await.ok();
        let nodes = answer.data("/workspace/invitations/nodes").as_array().unwrap();
        let found: Vec<_> =
            nodes.iter().map(|n| (n["email"].as_str().unwrap(), n["status"].as_str().unwrap())).collect();
        assert_eq!(found, expected);
        assert!(nodes.iter().all(|node| node["respondedAt"].is_null() == (node["status"] == "PENDING")));
    }
}

async fn the_last_admin_stays(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let bob = app.member(&lab, SystemRole::Editor, "Bob").await;
    let (adas, bobs) = (membership(&lab, &ada).await, membership(&lab, &bob).await);
    leave(&ada, &lab).await.refused("LAST_ADMIN");
    remove(&ada, &lab, &adas).await.refused("LAST_ADMIN");
    set_role(&ada, &lab, &adas, "EDITOR").await.refused("LAST_ADMIN");
    set_role(&ada, &lab, &adas, "ADMIN").await.ok();
    assert_eq!(names(&list(&ada, &lab, json!({ "role": "ADMIN" })).await.ok()), ["Ada"]);

    set_role(&ada, &lab, &bobs, "ADMIN").await.ok();
    leave(&ada, &lab).await.ok();
    leave(&bob, &lab).await.refused("LAST_ADMIN");
    // Nor does the organization's owner, who administers it without being a member, take the last one away.
    remove(&ada, &lab, &bobs).await.refused("LAST_ADMIN");
    set_role(&ada, &lab, &bobs, "VIEWER").await.refused("LAST_ADMIN");
    set_role(&bob, &lab, &bobs, "VIEWER").await.refused("LAST_ADMIN");
    assert_eq!(names(&list(&bob, &lab, json!({})).await.ok()), ["Bob"]);
}

async fn who_cannot_act_is_no_admin_to_rely_on(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let bob = app.member(&lab, SystemRole::Admin, "Bob").await;
    let (his, user) = (app.literal(&membership(&lab, &bob).await), app.literal(&bob.id));
    for (spoil, mend) in [
        (
            format!("UPDATE users SET status = 'DISABLED' WHERE id = {user}"),
            format!("UPDATE users SET status = 'ACTIVE' WHERE id = {user}"),
        ),
        (
            format!("UPDATE organization_members SET status = 'DISABLED' WHERE user_id = {user}"),
            format!("UPDATE organization_members SET status = 'ACTIVE' WHERE user_id = {user}"),
        ),
        (
            format!("UPDATE memberships SET expires_at = '2999-01-01 00:00:00+00:00' WHERE id = {his}"),
            format!("UPDATE memberships SET expires_at = NULL WHERE id = {his}"),
        ),
    ] {
        app.sql(&spoil).await;
        leave(&ada, &lab).await.refused("LAST_ADMIN");
        app.sql(&mend).await;
    }
    // A membership that has expired is none.
    app.sql(&format!("UPDATE memberships SET expires_at = '2020-01-01 00:00:00+00:00' WHERE id = {his}"))
        .await;
    leave(&ada, &lab).await.refused("LAST_ADMIN");
    assert_eq!(names(&list(&ada, &lab, json!({})).await.ok()), ["Ada"]);
    bob.invite(&lab, "zoe@example.org", "VIEWER").await.denied("NOT_FOUND");
    app.sql(&format!("UPDATE memberships SET expires_at = NULL WHERE id = {his}")).await;
    leave(&ada, &lab).await.ok();
}

async fn an_owner_stays_in_what_they_made(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let bob = app.member(&lab, SystemRole::Admin, "Bob").await;
    let cleo = app.member(&lab, SystemRole::Admin, "Cleo").await;
    let adas = membership(&lab, &ada).await;
    let organization_role = async |who: &Actor, role: &str| {
        let user = app.literal(&who.id);
        app.sql(&format!("UPDATE organization_members SET role = '{role}' WHERE user_id = {user}")).await;
    };
    organization_role(&cleo, "ADMIN").await;
    for by in [&bob, &cleo] {
        remove(by, &lab, &adas).await.refused("OWNER_PROTECTED");
        set_role(by, &lab, &adas, "VIEWER").await.refused("OWNER_PROTECTED");
        set_role(by, &lab, &adas, "ADMIN").await.ok();
    }
    // What the owner did not make is not theirs to keep.
    let den = bob.workspace("Den").await;
    bob.invite(&den, &ada.email, "ADMIN").await.ok();
    let input = json!({ "token": token_of(&app.mail_to(&ada.email).await.link()) });
    ada.mutate("acceptInvitation", input, "invitation { id }").await.ok();
    remove(&cleo, &den, &membership(&den, &ada).await).await.ok();
    // Another owner may, and so may they themselves.
    organization_role(&cleo, "OWNER").await;
    set_role(&cleo, &lab, &adas, "EDITOR").await.ok();
    leave(&ada, &lab).await.ok();
}
