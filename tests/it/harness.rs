//! What the other tests take for granted of the people and the clock they are given.

use chrono::TimeDelta;
use guildhall_domain::access::SystemRole;
use guildhall_tests::{App, both_databases, subscription::End};
use serde_json::json;

both_databases!(App::start, people_are_who_they_are_said_to_be, clock_and_shutdown_obey);

const ROLE: &str =
    "query($name: String!) { workspace(name: $name) { viewerRole { key } } viewer { user { email } } }";

async fn people_are_who_they_are_said_to_be(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let eve = app.member(&lab, SystemRole::Editor, "Eve").await;
    let seen = eve.query(ROLE, json!({ "name": lab.name })).await.ok();
    assert_eq!(
        seen.data(""),
        &json!({ "workspace": { "viewerRole": { "key": "EDITOR" } },
                                       "viewer": { "user": { "email": "eve@example.org" } } })
    );
    let sam = app.stranger("sam@example.com", "Sam").await;
    for name in [&lab.name, &app.default_workspace().name] {
        assert_eq!(sam.query(ROLE, json!({ "name": name })).await.ok().data("/workspace"), &json!(null));
    }
    let shed = sam.workspace("Shed").await;
    assert_eq!(ada.query(ROLE, json!({ "name": shed.name })).await.ok().data("/workspace"), &json!(null));
    let tom = app.member(&shed, SystemRole::Viewer, "Tom").await;
    tom.query(ROLE, json!({ "name": shed.name })).await.ok().text("/workspace/viewerRole/key");
    let statements = app.count(async || drop(ada.query(ROLE, json!({ "name": lab.name })).await.ok())).await;
    assert!((1..=4).contains(&statements), "{statements} statements");
    assert_eq!(app.number("SELECT count(*) FROM organizations").await, 2);
}

async fn clock_and_shutdown_obey(mut app: App) {
    let ada = app.set_up().await;
    app.advance(TimeDelta::days(1));
    ada.query("{ viewer { user { id } } }", json!({})).await.denied("UNAUTHENTICATED");
    let ada = ada.again().await;
    let changes = "subscription($id: ID!) { invitationStatusChanged(workspaceId: $id) { status } }";
    let mut changes = ada.subscribe(changes, json!({ "id": app.default_workspace().id })).await;
    changes.no_event_for(100).await;
    app.begin_to_stop();
    assert_eq!(changes.ended().await, End::Closed(Some(1001)));
    app.stop().await;
}
