//! The settings of a workspace: who changes which, what is refused, edits of the home page that cross, and how changes are
//! told.

use std::time::Duration;

use futures_util::future::join_all;
use guildhall_domain::access::SystemRole;
use guildhall_tests::{
    Actor, Answer, App, Subscription, Workspace, both_databases, databases::Engine, subscription::End,
};
use serde_json::{Value, json};

use crate::{
    members::{membership, set_role},
    races::tally,
    workspaces::create,
};

both_databases!(
    App::start,
    each_role_reads_every_setting_and_changes_its_own,
    strangers_and_the_signed_out_see_and_change_nothing,
    every_setting_is_given_kept_and_cleared,
    a_workspace_is_made_with_its_settings,
    every_field_that_cannot_be_read_is_named,
    an_image_is_the_default_until_one_is_named,
    every_country_is_offered_for_a_form,
    a_home_page_has_a_version_a_date_and_an_author,
    a_stale_edit_is_refused_with_what_is_there_now,
    clearing_a_home_page_does_not_restart_its_versions,
    of_edits_at_once_from_one_version_one_is_written,
    the_author_is_told_to_those_who_may_know_of_them,
    changes_are_told_within_a_second_and_once,
    what_changes_nothing_is_not_told,
    a_change_shows_each_watcher_their_own_place,
    after_a_break_come_the_missed_changes,
    a_watcher_who_loses_the_workspace_is_told_no_more,
);

both_databases!(with_an_image, the_default_image_is_the_instance_s,);

async fn with_an_image(engine: Engine) -> App {
    App::start_with(engine, |env| {
        env.set("GUILDHALL_WORKSPACES_DEFAULT_IMAGE", "ghcr.io/acme/base:2");
    })
    .await
}

const SETTINGS: &str =
    "displayName countries { code } dockerImage effectiveDockerImage region labels { key value }";
const PAGE: &str = "text version updatedAt updatedBy { email }";

async fn settings(actor: &Actor, lab: &Workspace) -> Answer {
    let document = format!("query($name: String!) {{ workspace(name: $name) {{ {SETTINGS} updatedAt }} }}");
    actor.query(&document, json!({ "name": lab.name })).await
}

async fn update(actor: &Actor, lab: &Workspace, mut input: Value) -> Answer {
    input["workspaceId"] = json!(lab.id);
    actor.mutate("updateWorkspace", input, &format!("workspace {{ {SETTINGS} updatedAt }}")).await
}

async fn page(actor: &Actor, lab: &Workspace) -> Value {
    let document =
        format!("query($name: String!) {{ workspace(name: $name) {{ description homePage {{ {PAGE} }} }} }}");
    let seen = actor.query(&document, json!({ "name": lab.name })).await.ok();
    assert_eq!(seen.data("/workspace/description"), seen.data("/workspace/homePage/text"));
    seen.data("/workspace/homePage").clone()
}

async fn describe(actor: &Actor, lab: &Workspace, text: Value, version: Option<i64>) -> Answer {
    let mut input = json!({ "workspaceId": lab.id, "description": text });
    if let Some(version) = version {
        input["version"] = json!(version);
    }
    let selection = format!("workspace {{ description }} current {{ {PAGE} }}");
    actor.mutate("describeWorkspace", input, &selection).await
}

async fn cast(app: &App) -> (Workspace, Actor, Actor, Actor) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let vera = app.member(&lab, SystemRole::Viewer, "Vera").await;
    let edda = app.member(&lab, SystemRole::Editor, "Edda").await;
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    (lab, vera, edda, adam)
}

async fn each_role_reads_every_setting_and_changes_its_own(app: App) {
    let (lab, vera, edda, adam) = cast(&app).await;
    for (field, value) in [
        ("displayName", json!("Mine")),
        ("countries", json!(["KE"])),
        ("dockerImage", json!("ghcr.io/acme/tools:1")),
        ("region", json!("eu-west-1")),
        ("labels", json!([{ "key": "team", "value": "a" }])),
    ] {
        for actor in [&vera, &edda] {
            let before = settings(actor, &lab).await.ok();
            update(actor, &lab, json!({ field: value })).await.denied("FORBIDDEN");
            assert_eq!(settings(actor, &lab).await.ok().body, before.body, "{field}");
        }
        let changed = update(&adam, &lab, json!({ field: value })).await.ok();
        for actor in [&vera, &edda, &adam] {
            let seen = settings(actor, &lab).await.ok();
            assert_eq!(seen.data("/workspace"), changed.data("/updateWorkspace/workspace"), "{field}");
        }
    }
    describe(&vera, &lab, json!("# Mine"), None).await.denied("FORBIDDEN");
    assert_eq!(page(&vera, &lab).await["version"], 0);
    for (actor, version) in [(&edda, 1), (&adam, 2)] {
        describe(actor, &lab, json!(format!("# {}", actor.name)), Some(version - 1)).await.ok();
        for reader in [&vera, &edda, &adam] {
            let seen = page(reader, &lab).await;
            assert_eq!(
                (&seen["version"], &seen["updatedBy"]["email"]),
                (&json!(version), &json!(actor.email))
            );
        }
    }
}

async fn strangers_and_the_signed_out_see_and_change_nothing(app: App) {
    let (lab, ..) = cast(&app).await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    for (actor, code) in [(&olga, "NOT_FOUND"), (&app.anonymous(), "UNAUTHENTICATED")] {
        update(actor, &lab, json!({ "region": "eu" })).await.denied(code);
        let stale = describe(actor, &lab, json!("# Mine"), Some(9)).await;
        stale.denied(code);
        let mut changes = actor.subscribe(CHANGES, json!({ "id": lab.id })).await;
        changes.next().await.denied(code);
    }
    assert_eq!(settings(&olga, &lab).await.ok().data("/workspace"), &Value::Null);
}

async fn every_setting_is_given_kept_and_cleared(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let given = json!({
        "displayName": "Laboratory", "countries": ["ke", "FR"], "dockerImage": " ghcr.io/acme/tools:1.2 ", "region": "eu-west-1",
        "labels": [{ "key": "team", "value": "red" }, { "key": "example.org/cost-center", "value": "" }],
    });
    update(&ada, &lab, given).await.ok();
    let expected = json!({
        "displayName": "Laboratory", "countries": [{ "code": "KE" }, { "code": "FR" }],
        "dockerImage": "ghcr.io/acme/tools:1.2", "effectiveDockerImage": "ghcr.io/acme/tools:1.2", "region": "eu-west-1",
        "labels": [{ "key": "example.org/cost-center", "value": "" }, { "key": "team", "value": "red" }],
    });
    let seen = async || {
        let mut seen = settings(&ada, &lab).await.ok().data("/workspace").clone();
        let at = seen.as_object_mut().unwrap().remove("updatedAt").unwrap();
        (seen, at)
    };
    let (before, at) = seen().await;
    assert_eq!(before, expected);

    // What is absent stays, and what is the same already is no change.
    app.advance(chrono::TimeDelta::seconds(5));
    update(&ada, &lab, json!({})).await.ok();
    update(&ada, &lab, json!({ "region": "eu-west-1", "countries": ["KE", "fr"] })).await.ok();
    assert_eq!(seen().await, (expected.clone(), at.clone()));

    // Labels are replaced as a whole; null, and blank where a text is, clears.
    update(&ada, &lab, json!({ "labels": [{ "key": "team", "value": "blue" }] })).await.ok();
    let (changed, later) = seen().await;
    assert_eq!(changed["labels"], json!([{ "key": "team", "value": "blue" }]));
    assert!(later.as_str() > at.as_str(), "{later} is not after {at}");
    for (field, nothing, cleared) in [
        ("dockerImage", json!(null), json!(null)),
        ("dockerImage", json!(" "), json!(null)),
        ("region", json!(null), json!(null)),
        ("region", json!(""), json!(null)),
        ("labels", json!(null), json!([])),
        ("labels", json!([]), json!([])),
        ("countries", json!(null), json!([])),
    ] {
        let back =
            json!({ "dockerImage": "python:3", "region": "eu", "labels": [{ "key": "a", "value": "b" }] });
        update(&ada, &lab, back).await.ok();
        let answer = update(&ada, &lab, json!({ field: nothing })).await.ok();
        assert_eq!(answer.data("/updateWorkspace/workspace")[field], cleared, "{field} by {nothing}");
        let (seen, _) = seen().await;
        assert_eq!(seen[field], cleared);
        assert_eq!(seen["displayName"], "Laboratory");
    }
}

async fn a_workspace_is_made_with_its_settings(app: App) {
    let ada = app.set_up().await;
    let input = json!({
        "displayName": "Lab", "countries": ["KE"], "dockerImage": "python:3.13-slim", "region": "eu", "description": "# Hi",
        "labels": [{ "key": "team", "value": "red" }],
    });
    create(&ada, input).await.ok();
    let lab = Workspace { id: String::new(), name: "lab".to_owned(), admin: ada.clone() };
    let seen = settings(&ada, &lab).await.ok();
    let workspace = seen.data("/workspace");
    assert_eq!((&workspace["dockerImage"], &workspace["region"]), (&json!("python:3.13-slim"), &json!("eu")));
    assert_eq!(workspace["labels"], json!([{ "key": "team", "value": "red" }]));
    let page = page(&ada, &lab).await;
    assert_eq!((&page["text"], &page["version"]), (&json!("# Hi"), &json!(1)));
    assert_eq!(page["updatedBy"]["email"], ada.email);
    for (field, value) in [
        ("dockerImage", json!("Upper")),
        ("region", json!("a b")),
        ("labels", json!([{ "key": "", "value": "" }])),
    ] {
        let refused =
            create(&ada, json!({ "displayName": "Den", field: value })).await.refused("INVALID_INPUT");
        assert_eq!(refused.user_errors()[0]["field"][0], field);
    }
    assert_eq!(app.number("SELECT count(*) FROM workspaces").await, 2);
}

async fn every_field_that_cannot_be_read_is_named(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let label = |key: &str, value: &str| json!({ "key": key, "value": value });
    let many: Vec<_> = (0..65).map(|n| label(&format!("k{n}"), "")).collect();
    for (input, path, says) in [
        (json!({ "countries": ["KE", "XX"] }), json!(["countries"]), "position 1"),
        (json!({ "countries": [""] }), json!(["countries"]), "position 0"),
        (json!({ "dockerImage": "https://ghcr.io/acme" }), json!(["dockerImage"]), "`dockerImage`"),
        (json!({ "dockerImage": "a:b:c" }), json!(["dockerImage"]), "tag"),
        (json!({ "dockerImage": "a@sha256:12" }), json!(["dockerImage"]), "digest"),
        (json!({ "dockerImage": "a\u{0}" }), json!(["dockerImage"]), "`dockerImage`"),
        (json!({ "region": "Nairobi!" }), json!(["region"]), "`region`"),
        (json!({ "region": "x".repeat(64) }), json!(["region"]), "at most 63"),
        (
            json!({ "labels": [label("a", "1"), label("-", "1")] }),
            json!(["labels", "1", "key"]),
            "`labels.1.key`",
        ),
        (json!({ "labels": [label("a", "b c")] }), json!(["labels", "0", "value"]), "`labels.0.value`"),
        (json!({ "labels": [label("a", "1"), label("a", "2")] }), json!(["labels", "1", "key"]), "twice: a"),
        (json!({ "labels": many }), json!(["labels"]), "at most 64"),
    ] {
        let before = settings(&ada, &lab).await.ok();
        let mut with_more = input.clone();
        with_more["displayName"] = json!("Changed");
        let refused = update(&ada, &lab, with_more).await.refused("INVALID_INPUT");
        let error = refused.user_errors()[0];
        assert_eq!(error["field"], path, "{input}");
        assert!(error["message"].as_str().unwrap().contains(says), "{input}: {error}");
        assert_eq!(settings(&ada, &lab).await.ok().body, before.body, "{input}");
    }
    // All of them at once.
    let input = json!({
        "countries": ["XX"], "dockerImage": "-", "region": "-", "labels": [label("-", "-"), label("b", "")],
    });
    let refused = update(&ada, &lab, input).await.refused("INVALID_INPUT");
    let fields: Vec<_> = refused.user_errors().iter().map(|error| error["field"].clone()).collect();
    let expected =
        json!([["countries"], ["dockerImage"], ["region"], ["labels", "0", "key"], ["labels", "0", "value"]]);
    assert_eq!(json!(fields), expected);
}

async fn an_image_is_the_default_until_one_is_named(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let images = async || {
        let seen = settings(&ada, &lab).await.ok();
        (seen.data("/workspace/dockerImage").clone(), seen.text("/workspace/effectiveDockerImage").to_owned())
    };
    assert_eq!(images().await, (Value::Null, "docker.io/library/python:3".to_owned()));
    let digest = format!("ghcr.io:443/acme/tools:1.2@sha256:{}", "0a".repeat(32));
    for image in ["python", "localhost/tools", digest.as_str()] {
        update(&ada, &lab, json!({ "dockerImage": image })).await.ok();
        assert_eq!(images().await, (json!(image), image.to_owned()));
    }
}

async fn the_default_image_is_the_instance_s(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let seen = settings(&ada, &lab).await.ok();
    assert_eq!(seen.data("/workspace/dockerImage"), &Value::Null);
    assert_eq!(seen.data("/workspace/effectiveDockerImage"), "ghcr.io/acme/base:2");
}

async fn every_country_is_offered_for_a_form(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let answer = app.anonymous().query("{ countries { code name flag } }", json!({})).await.ok();
    let countries = answer.data("/countries").as_array().unwrap().clone();
    assert_eq!(countries.len(), 249);
    assert!(countries.contains(&json!({ "code": "KE", "name": "Kenya", "flag": "🇰🇪" })));
    let codes: Vec<_> = countries.iter().map(|country| country["code"].clone()).collect();
    update(&ada, &lab, json!({ "countries": codes })).await.ok();
}

async fn a_home_page_has_a_version_a_date_and_an_author(app: App) {
    let (lab, vera, edda, _) = cast(&app).await;
    let nothing = json!({ "text": null, "version": 0, "updatedAt": null, "updatedBy": null });
    assert_eq!(page(&vera, &lab).await, nothing);
    let written = describe(&edda, &lab, json!("# Home"), Some(0)).await.ok();
    let current = written.data("/describeWorkspace/current");
    assert_eq!(current["text"], "# Home");
    assert_eq!((&current["version"], &current["updatedBy"]["email"]), (&json!(1), &json!(edda.email)));
    assert!(current["updatedAt"].is_string());
    assert_eq!(&page(&vera, &lab).await, current);
    // Without a version the text replaces what is there; it counts all the same.
    let replaced = describe(&edda, &lab, json!("# Other"), None).await.ok();
    assert_eq!(replaced.data("/describeWorkspace/current/version"), 2);
    // The same text is no edit: whoever wrote it stays its author.
    app.advance(chrono::TimeDelta::seconds(5));
    let same = describe(&lab.admin, &lab, json!("# Other"), Some(2)).await.ok();
    assert_eq!(same.data("/describeWorkspace/current"), replaced.data("/describeWorkspace/current"));
}

async fn a_stale_edit_is_refused_with_what_is_there_now(app: App) {
    let (lab, vera, edda, adam) = cast(&app).await;
    describe(&edda, &lab, json!("one"), Some(0)).await.ok();
    describe(&adam, &lab, json!("two"), Some(1)).await.ok();
    for stale in [0, 1, 3, -1] {
        let refused = describe(&edda, &lab, json!("mine"), Some(stale)).await.refused("STALE");
        assert_eq!(refused.user_errors()[0]["field"], json!(["version"]));
        assert_eq!(refused.data("/describeWorkspace/workspace"), &Value::Null);
        let current = refused.data("/describeWorkspace/current");
        assert_eq!((&current["text"], &current["version"]), (&json!("two"), &json!(2)));
        assert_eq!(current["updatedBy"]["email"], adam.email);
    }
    // Also the same text, and clearing.
    describe(&edda, &lab, json!("two"), Some(1)).await.refused("STALE");
    describe(&edda, &lab, Value::Null, Some(1)).await.refused("STALE");
    assert_eq!(page(&vera, &lab).await["text"], "two");
    let merged = describe(&edda, &lab, json!("two, and mine"), Some(2)).await.ok();
    assert_eq!(merged.data("/describeWorkspace/current/version"), 3);
    // Other refusals tell nothing of the page, and whoever may not edit it is told nothing at all.
    let refused = describe(&edda, &lab, json!("nul\u{0}"), Some(1)).await.refused("INVALID_INPUT");
    assert_eq!(refused.data("/describeWorkspace/current"), &Value::Null);
    describe(&vera, &lab, json!("mine"), Some(1)).await.denied("FORBIDDEN");
}

async fn clearing_a_home_page_does_not_restart_its_versions(app: App) {
    let (lab, vera, edda, _) = cast(&app).await;
    // There is nothing to clear yet.
    let cleared = describe(&edda, &lab, Value::Null, Some(0)).await.ok();
    assert_eq!(cleared.data("/describeWorkspace/current/version"), 0);
    describe(&edda, &lab, json!("one"), Some(0)).await.ok();
    let cleared = describe(&edda, &lab, json!(" \n"), Some(1)).await.ok();
    assert_eq!(cleared.data("/describeWorkspace/workspace/description"), &Value::Null);
    let seen = page(&vera, &lab).await;
    assert_eq!((&seen["text"], &seen["version"]), (&Value::Null, &json!(2)));
    assert_eq!(seen["updatedBy"]["email"], edda.email);
    // Whoever still has the first text open is stale, and so is who believes that there never was one.
    describe(&edda, &lab, json!("mine"), Some(1)).await.refused("STALE");
    describe(&edda, &lab, json!("mine"), Some(0)).await.refused("STALE");
    let written = describe(&edda, &lab, json!("two"), Some(2)).await.ok();
    assert_eq!(written.data("/describeWorkspace/current/version"), 3);
}

async fn of_edits_at_once_from_one_version_one_is_written(app: App) {
    let (lab, _, edda, adam) = cast(&app).await;
    for round in 0..3 {
        let edits = (0..8).map(|n| {
            let actor = if n % 2 == 0 { &edda } else { &adam };
            describe(actor, &lab, json!(format!("round {round}, edit {n}")), Some(round))
        });
        let answers = join_all(edits).await;
        assert_eq!(json!(tally(&answers)), json!({ "OK": 1, "STALE": 7 }));
        let won = answers.iter().find(|answer| answer.user_errors().is_empty()).unwrap();
        let seen = page(&adam, &lab).await;
        assert_eq!(&seen, won.data("/describeWorkspace/current"));
        assert_eq!(seen["version"], round + 1);
        for answer in &answers {
            assert_eq!(answer.data("/describeWorkspace/current/text"), &seen["text"]);
        }
    }
}

async fn the_author_is_told_to_those_who_may_know_of_them(app: App) {
    let (lab, vera, edda, adam) = cast(&app).await;
    describe(&edda, &lab, json!("# Home"), None).await.ok();
    let author = async |actor: &Actor| page(actor, &lab).await["updatedBy"]["email"].clone();
    for actor in [&vera, &edda, &adam] {
        assert_eq!(author(actor).await, edda.email, "{}", actor.name);
    }
    // The policy hides the others; oneself one knows, and admins know everybody.
    app.sql("UPDATE organizations SET member_list_visibility = 'ADMINS'").await;
    for (actor, seen) in [(&vera, json!(null)), (&edda, json!(edda.email)), (&adam, json!(edda.email))] {
        assert_eq!(author(actor).await, seen, "{}", actor.name);
    }
    app.sql("UPDATE organizations SET member_list_visibility = 'MEMBERS'").await;
    // A role of the organization's own, without the list of members.
    let organization = lab.admin.organization().await;
    let role = crate::roles::made(&lab.admin, &organization, "Reader", &["CONFIG_VIEW"]).await;
    set_role(&lab.admin, &lab, &membership(&lab, &vera).await, &role).await.ok();
    assert_eq!(author(&vera).await, Value::Null);
    set_role(&lab.admin, &lab, &membership(&lab, &vera).await, "VIEWER").await.ok();
    assert_eq!(author(&vera).await, edda.email);
    // Who has left is told to the admins only; so is an admin of the organization who is no member.
    let left = json!({ "workspaceId": lab.id });
    edda.mutate("leaveWorkspace", left, "").await.ok();
    assert_eq!(author(&vera).await, Value::Null);
    assert_eq!(author(&adam).await, edda.email);
    let mine = app.literal(&lab.admin.id);
    app.sql(&format!("DELETE FROM memberships WHERE user_id = {mine}")).await;
    describe(&lab.admin, &lab, json!("# By an owner"), None).await.ok();
    assert_eq!(author(&vera).await, Value::Null);
    assert_eq!(author(&adam).await, lab.admin.email);
    assert_eq!(author(&lab.admin).await, lab.admin.email);
}

const CHANGES: &str = "subscription($id: ID!, $after: String) { workspaceChanged(workspaceId: $id, after: $after) {
    cursor change resyncRequired
    workspace { displayName region viewerRole { key } viewerMembership { id workspace { name } }
                homePage { text version updatedBy { email } } configProperties { nodes { key value updatedBy { email } } } }
} }";

async fn next(changes: &mut Subscription) -> Value {
    let told = changes.within(Duration::from_secs(2)).await.ok();
    told.data("/workspaceChanged").clone()
}

async fn changes_are_told_within_a_second_and_once(app: App) {
    let (lab, vera, edda, adam) = cast(&app).await;
    let mut changes = vera.subscribe(CHANGES, json!({ "id": lab.id })).await;
    update(&adam, &lab, json!({ "displayName": "Laboratory", "region": "eu" })).await.ok();
    let told = next(&mut changes).await;
    assert_eq!((&told["change"], &told["resyncRequired"]), (&json!("SETTINGS"), &json!(false)));
    assert_eq!(told["workspace"]["displayName"], "Laboratory");
    assert_eq!(told["workspace"]["region"], "eu");
    describe(&edda, &lab, json!("# Home"), None).await.ok();
    let told = next(&mut changes).await;
    assert_eq!(told["change"], "HOME_PAGE");
    let page = json!({ "text": "# Home", "version": 1, "updatedBy": { "email": edda.email } });
    assert_eq!(told["workspace"]["homePage"], page);
    let properties = ["A", "B"].map(|key| json!({ "key": key, "value": { "boolean": true } }));
    let input = json!({ "workspaceId": lab.id, "properties": properties });
    adam.mutate("setConfigProperties", input, "").await.ok();
    let told = next(&mut changes).await;
    assert_eq!(told["change"], "CONFIG", "one change, for both properties");
    let by = json!({ "email": adam.email });
    let properties = ["A", "B"].map(|key| json!({ "key": key, "value": true, "updatedBy": by }));
    assert_eq!(told["workspace"]["configProperties"]["nodes"], json!(properties));
    let input = json!({ "workspaceId": lab.id, "key": "A" });
    adam.mutate("deleteConfigProperty", input, "").await.ok();
    assert_eq!(next(&mut changes).await["change"], "CONFIG");
    // Of another workspace nothing is told here, nor of its members and invitations.
    let den = lab.admin.workspace("Den").await;
    update(&lab.admin, &den, json!({ "region": "us" })).await.ok();
    lab.admin.invite(&lab, "zoe@example.org", "VIEWER").await.ok();
    changes.no_event_for(300).await;
    update(&adam, &lab, json!({ "region": "af" })).await.ok();
    assert_eq!(next(&mut changes).await["workspace"]["region"], "af", "the very next");
}

async fn what_changes_nothing_is_not_told(app: App) {
    let (lab, vera, edda, adam) = cast(&app).await;
    update(&adam, &lab, json!({ "region": "eu" })).await.ok();
    describe(&edda, &lab, json!("# Home"), None).await.ok();
    let year = json!({ "workspaceId": lab.id, "key": "YEAR", "value": { "number": 2026 } });
    adam.mutate("setConfigProperty", year.clone(), "").await.ok();
    let mut changes = vera.subscribe(CHANGES, json!({ "id": lab.id })).await;
    changes.no_event_for(100).await;
    update(&adam, &lab, json!({ "region": "eu" })).await.ok();
    update(&adam, &lab, json!({ "region": "e u" })).await.refused("INVALID_INPUT");
    describe(&edda, &lab, json!("# Home"), None).await.ok();
    describe(&edda, &lab, json!("# Stale"), Some(7)).await.refused("STALE");
    adam.mutate("setConfigProperty", year, "").await.ok();
    let none = json!({ "workspaceId": lab.id, "key": "NONE" });
    adam.mutate("deleteConfigProperty", none, "").await.refused("NOT_FOUND");
    changes.no_event_for(300).await;
    update(&adam, &lab, json!({ "region": "af" })).await.ok();
    assert_eq!(next(&mut changes).await["workspace"]["region"], "af", "the very next");
}

async fn a_change_shows_each_watcher_their_own_place(app: App) {
    let (lab, vera, _, adam) = cast(&app).await;
    let vita = app.member(&lab, SystemRole::Viewer, "Vita").await;
    // Vera and Vita have the same rights and the same document, and are two all the same; so with an owner of the organization.
    let people = [&vera, &vita, &adam, &lab.admin];
    let mut watching = Vec::new();
    for actor in people {
        watching.push(actor.subscribe(CHANGES, json!({ "id": lab.id })).await);
        watching.last_mut().unwrap().no_event_for(50).await;
    }
    update(&adam, &lab, json!({ "region": "eu" })).await.ok();
    for (actor, changes) in people.into_iter().zip(&mut watching) {
        let told = next(changes).await;
        let own = json!({ "id": membership(&lab, actor).await, "workspace": { "name": lab.name } });
        assert_eq!(told["workspace"]["viewerMembership"], own, "{}", actor.name);
    }
    // Oneself one is told, whatever the policy hides from the others.
    app.sql("UPDATE organizations SET member_list_visibility = 'ADMINS'").await;
    let organization = lab.admin.organization().await;
    let role =
        crate::roles::made(&lab.admin, &organization, "Writer", &["CONFIG_VIEW", "WORKSPACE_DESCRIBE"]).await;
    for actor in [&vera, &vita] {
        set_role(&lab.admin, &lab, &membership(&lab, actor).await, &role).await.ok();
    }
    describe(&vera, &lab, json!("# By Vera"), None).await.ok();
    let mut authors = Vec::new();
    for changes in &mut watching {
        authors.push(next(changes).await["workspace"]["homePage"]["updatedBy"]["email"].clone());
    }
    assert_eq!(json!(authors), json!([vera.email, null, vera.email, vera.email]));
}

async fn after_a_break_come_the_missed_changes(app: App) {
    let (lab, vera, edda, adam) = cast(&app).await;
    let mut changes = vera.subscribe(CHANGES, json!({ "id": lab.id })).await;
    update(&adam, &lab, json!({ "region": "eu" })).await.ok();
    let cursor = next(&mut changes).await["cursor"].clone();
    drop(changes);
    describe(&edda, &lab, json!("# Home"), None).await.ok();
    lab.admin.invite(&lab, "zoe@example.org", "VIEWER").await.ok();
    update(&adam, &lab, json!({ "region": "us" })).await.ok();
    let mut changes = vera.subscribe(CHANGES, json!({ "id": lab.id, "after": cursor })).await;
    let (first, second) = (next(&mut changes).await, next(&mut changes).await);
    assert_eq!((&first["change"], &second["change"]), (&json!("HOME_PAGE"), &json!("SETTINGS")));
    assert_eq!(first["workspace"]["region"], "us", "as it is now");
    update(&adam, &lab, json!({ "region": "af" })).await.ok();
    let third = next(&mut changes).await;
    assert_eq!(third["workspace"]["region"], "af");
    changes.no_event_for(200).await;
    // A cursor that the log does not reach asks to read anew.
    let mut lost = vera.subscribe(CHANGES, json!({ "id": lab.id, "after": "effffff" })).await;
    let told = next(&mut lost).await;
    assert_eq!((&told["resyncRequired"], &told["workspace"]), (&json!(true), &Value::Null));
    let mut wrong = vera.subscribe(CHANGES, json!({ "id": lab.id, "after": "x" })).await;
    wrong.next().await.denied("BAD_USER_INPUT");
}

async fn a_watcher_who_loses_the_workspace_is_told_no_more(app: App) {
    let (lab, vera, _, adam) = cast(&app).await;
    let mut changes = vera.subscribe(CHANGES, json!({ "id": lab.id })).await;
    changes.no_event_for(50).await;
    let input = json!({ "workspaceId": lab.id, "memberId": membership(&lab, &vera).await });
    adam.mutate("removeMember", input, "member { id }").await.ok();
    let End::Errors(errors) = changes.ended().await else {
        panic!("the subscription did not end with an error")
    };
    assert_eq!(errors[0]["extensions"]["code"], "NOT_FOUND");
}
