//! Credentials of a workspace: making, changing, deleting, listing, showing, and who may do which.

use chrono::TimeDelta;
use guildhall_domain::access::SystemRole;
use guildhall_tests::{Actor, Answer, App, Workspace, both_databases, databases::Engine};
use serde_json::{Value, json};

use crate::{credential_sharing, credential_tests};

both_databases!(
    App::start,
    a_credential_is_made_listed_and_found,
    its_secrets_are_told_by_a_fingerprint_only,
    who_may_do_what_with_credentials,
    an_update_replaces_all_fields_and_null_keeps_a_value,
    wrong_fields_are_told_at_their_place_and_nothing_is_written,
    a_slug_is_taken_once_in_a_workspace_and_made_of_the_name,
    the_list_is_searched_filtered_and_paged,
    a_name_is_found_in_any_case_of_any_alphabet,
    values_are_shown_only_where_the_policy_allows,
    every_type_can_be_drawn_as_a_form,
    a_deleted_credential_is_gone_and_its_uses_stay,
    changes_are_told_live_and_never_a_value,
);

both_databases!(loopback_allowed, a_credential_is_tried_where_it_is_owned_and_where_it_is_borrowed);

/// What a credential opens stands on this machine.
async fn loopback_allowed(engine: Engine) -> App {
    App::start_with(engine, |env| {
        env.set("GUILDHALL_CREDENTIALS_TEST_DESTINATIONS", "127.0.0.0/8");
    })
    .await
}

pub(crate) const CREDENTIAL: &str = "credential { id slug name description type isShared updatedAt
    sharedFrom { workspace { name displayName workspace { id } } expiresAt isSuspended }
    fields { code environmentVariable isSecret isSet value fingerprint } }";

/// The fields of a database.
pub(crate) fn database_fields(password: &str) -> Value {
    json!([
        { "code": "host", "value": "db.example.org" },
        { "code": "port", "value": "5432" },
        { "code": "database", "value": "analytics" },
        { "code": "username", "value": "reader" },
        { "code": "password", "value": password },
    ])
}

pub(crate) async fn create(by: &Actor, workspace: &Workspace, name: &str, password: &str) -> Answer {
    let input = json!({
        "workspaceId": workspace.id, "type": "POSTGRESQL", "name": name, "fields": database_fields(password),
    });
    by.mutate("createCredential", input, CREDENTIAL).await
}

/// The id of a credential that was made.
pub(crate) async fn made(by: &Actor, workspace: &Workspace, name: &str, password: &str) -> String {
    create(by, workspace, name, password).await.ok().text("/createCredential/credential/id").to_owned()
}

pub(crate) async fn update(by: &Actor, workspace: &Workspace, id: &str, change: Value) -> Answer {
    let mut input = json!({ "workspaceId": workspace.id, "credentialId": id });
    input.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    by.mutate("updateCredential", input, CREDENTIAL).await
}

pub(crate) async fn delete(by: &Actor, workspace: &Workspace, id: &str, force: bool) -> Answer {
    let input = json!({ "workspaceId": workspace.id, "credentialId": id, "force": force });
    by.mutate("deleteCredential", input, "deletedCredentialId").await
}

pub(crate) async fn used(by: &Actor, workspace: &Workspace, slug: &str) -> Answer {
    let input = json!({ "workspaceId": workspace.id, "slug": slug, "purpose": "pipeline nightly, run 7" });
    by.mutate(
        "useCredential",
        input,
        "credential { id slug } values { code environmentVariable isSecret value }",
    )
    .await
}

/// The value of a field that a use gave.
pub(crate) fn value<'a>(answer: &'a Answer, code: &str) -> &'a str {
    let values = answer.data("/useCredential/values").as_array().unwrap();
    values.iter().find(|value| value["code"] == code).unwrap()["value"].as_str().unwrap()
}

async fn reveal(by: &Actor, workspace: &Workspace, id: &str) -> Answer {
    let input = json!({ "workspaceId": workspace.id, "credentialId": id });
    by.mutate("revealCredential", input, "credential { slug } values { code value }").await
}

pub(crate) async fn listed(by: &Actor, workspace: &Workspace, arguments: &str) -> Answer {
    let document = format!(
        "query($name: String!) {{ workspace(name: $name) {{ credentials{arguments} {{
            totalCount pageInfo {{ hasNextPage endCursor }} nodes {{ id slug name type isShared }} }} }} }}"
    );
    by.query(&document, json!({ "name": workspace.name })).await
}

pub(crate) fn slugs(answer: &Answer) -> Vec<&str> {
    let nodes = answer.data("/workspace/credentials/nodes").as_array().unwrap();
    nodes.iter().map(|node| node["slug"].as_str().unwrap()).collect()
}

async fn a_credential_is_made_listed_and_found(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let answer = create(&ada, &lab, "Analytics Store", "hunter2").await.ok();
    let made = answer.data("/createCredential/credential").clone();
    assert_eq!(made["slug"], "analytics-store");
    assert_eq!(made["type"], "POSTGRESQL");
    assert_eq!((&made["isShared"], &made["sharedFrom"]), (&json!(false), &Value::Null));
    assert_eq!(made["fields"].as_array().unwrap().len(), 5);
    assert_eq!(made["fields"][0]["environmentVariable"], "ANALYTICS_STORE_HOST");

    let list = listed(&ada, &lab, "").await.ok();
    assert_eq!(
        (slugs(&list), list.data("/workspace/credentials/totalCount")),
        (vec!["analytics-store"], &json!(1))
    );
    let document = "query($w: ID!, $s: String!, $id: ID!) {
        credential(workspaceId: $w, slug: $s) { id workspace { name } }
        node(id: $id) { id ... on Credential { slug } } }";
    let found =
        ada.query(document, json!({ "w": lab.id, "s": "analytics-store", "id": made["id"] })).await.ok();
    assert_eq!(found.data("/credential/id"), &made["id"]);
    assert_eq!(found.data("/credential/workspace/name"), lab.name.as_str());
    assert_eq!(found.data("/node/slug"), "analytics-store");
    for unknown in ["nothing", "analytics_store", "", "a/b/c", "nul\0"] {
        let answer = ada.query(document, json!({ "w": lab.id, "s": unknown, "id": made["id"] })).await.ok();
        assert_eq!(answer.data("/credential"), &Value::Null, "{unknown:?}");
    }
}

async fn its_secrets_are_told_by_a_fingerprint_only(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let answer = create(&ada, &lab, "Store", "hunter2-planted").await.ok();
    assert!(!answer.body.to_string().contains("hunter2-planted"), "{}", answer.body);
    let password = &answer.data("/createCredential/credential/fields/4").clone();
    assert_eq!((&password["value"], &password["isSet"]), (&Value::Null, &json!(true)));
    let fingerprint = password["fingerprint"].as_str().unwrap().to_owned();
    assert_eq!(fingerprint.len(), 8);
    let host = answer.data("/createCredential/credential/fields/0");
    assert_eq!((&host["value"], &host["fingerprint"]), (&json!("db.example.org"), &Value::Null));

    // The same value elsewhere has another fingerprint; a new value changes it; the same value again does not.
    let other = create(&ada, &lab, "Other", "hunter2-planted").await.ok();
    assert_ne!(other.data("/createCredential/credential/fields/4/fingerprint"), fingerprint.as_str());
    let id = answer.text("/createCredential/credential/id").to_owned();
    let same = update(&ada, &lab, &id, json!({ "fields": database_fields("hunter2-planted") })).await.ok();
    assert_eq!(same.data("/updateCredential/credential/fields/4/fingerprint"), fingerprint.as_str());
    let new = update(&ada, &lab, &id, json!({ "fields": database_fields("hunter3-planted") })).await.ok();
    assert_ne!(new.data("/updateCredential/credential/fields/4/fingerprint"), fingerprint.as_str());
    assert_eq!(value(&used(&ada, &lab, "store").await.ok(), "password"), "hunter3-planted");
}

async fn who_may_do_what_with_credentials(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let id = made(&ada, &lab, "Store", "hunter2").await;
    let viewer = app.member(&lab, SystemRole::Viewer, "Vic").await;
    let editor = app.member(&lab, SystemRole::Editor, "Eve").await;
    let admin = app.member(&lab, SystemRole::Admin, "Amy").await;

    // OpenHEXA's rows: a viewer sees nothing of connections, an editor uses them, an admin manages them.
    listed(&viewer, &lab, "").await.denied("FORBIDDEN");
    used(&viewer, &lab, "store").await.denied("FORBIDDEN");
    assert_eq!(slugs(&listed(&editor, &lab, "").await.ok()), ["store"]);
    assert_eq!(value(&used(&editor, &lab, "store").await.ok(), "password"), "hunter2");
    for actor in [&viewer, &editor] {
        create(actor, &lab, "Mine", "x").await.denied("FORBIDDEN");
        update(actor, &lab, &id, json!({ "name": "Mine" })).await.denied("FORBIDDEN");
        delete(actor, &lab, &id, true).await.denied("FORBIDDEN");
        reveal(actor, &lab, &id).await.denied("FORBIDDEN");
    }
    let document = "query($w: ID!) { credential(workspaceId: $w, slug: \"store\") { usages { totalCount } shares { totalCount } } }";
    editor.query(document, json!({ "w": lab.id })).await.denied("FORBIDDEN");
    made(&admin, &lab, "Hers", "x").await;
    update(&admin, &lab, &id, json!({ "name": "Renamed" })).await.ok();
    delete(&admin, &lab, &id, false).await.ok();

    // To a stranger the credential is like one that does not exist.
    let stranger = app.stranger("sam@elsewhere.org", "Sam").await;
    used(&stranger, &lab, "hers").await.denied("NOT_FOUND");
    let theirs = stranger.workspace("Theirs").await;
    let foreign = made(&stranger, &theirs, "Foreign", "x").await;
    let unknown = foreign.replace(char::is_numeric, "1");
    for id in [&foreign, &unknown] {
        let answers =
            [update(&ada, &lab, id, json!({ "name": "Mine" })).await, delete(&ada, &lab, id, true).await];
        for answer in answers {
            answer.refused("NOT_FOUND");
        }
    }
}

async fn an_update_replaces_all_fields_and_null_keeps_a_value(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let input = json!({
        "workspaceId": lab.id, "type": "CUSTOM", "name": "Things", "fields": [
            { "code": "token", "value": "t-1" },
            { "code": "note", "value": "public", "isSecret": false },
            { "code": "gone", "value": "soon" },
        ],
    });
    let answer = ada.mutate("createCredential", input, CREDENTIAL).await.ok();
    let id = answer.text("/createCredential/credential/id").to_owned();
    let change = json!({ "fields": [
        { "code": "note", "value": null },
        { "code": "extra", "value": "e" },
        { "code": "token", "value": null },
    ] });
    let answer = update(&ada, &lab, &id, change).await.ok();
    let fields = answer.data("/updateCredential/credential/fields").as_array().unwrap();
    let codes: Vec<_> = fields.iter().map(|field| field["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["note", "extra", "token"]);
    assert_eq!((&fields[0]["value"], &fields[0]["isSecret"]), (&json!("public"), &json!(false)));
    let values = used(&ada, &lab, "things").await.ok();
    assert_eq!((value(&values, "token"), value(&values, "extra")), ("t-1", "e"));

    // Keeping a value does not show it; and what is absent from the input stays as it is.
    let shown = json!({ "fields": [{ "code": "token", "value": null, "isSecret": false }] });
    update(&ada, &lab, &id, shown).await.refused("INVALID_INPUT");
    let answer =
        update(&ada, &lab, &id, json!({ "name": "Renamed", "description": "For the lab." })).await.ok();
    let renamed = answer.data("/updateCredential/credential");
    assert_eq!(
        (&renamed["name"], &renamed["description"], &renamed["slug"]),
        (&json!("Renamed"), &json!("For the lab."), &json!("things"))
    );
    assert_eq!(renamed["fields"].as_array().unwrap().len(), 3);
    let answer = update(&ada, &lab, &id, json!({ "description": null })).await.ok();
    assert_eq!(answer.data("/updateCredential/credential/description"), "");
    for cleared in ["name", "fields"] {
        let answer = update(&ada, &lab, &id, json!({ cleared: null })).await;
        assert_eq!(answer.refused("INVALID_INPUT").user_errors()[0]["field"], json!([cleared]));
    }
    assert_eq!(value(&used(&ada, &lab, "things").await.ok(), "token"), "t-1");
}

async fn wrong_fields_are_told_at_their_place_and_nothing_is_written(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let with = |kind: &str, fields: Value| json!({ "workspaceId": lab.id, "type": kind, "name": "Store", "fields": fields });
    for (input, field) in [
        (with("S3", json!([])), json!(["fields"])),
        (with("CUSTOM", json!([])), json!(["fields"])),
        (with("CUSTOM", json!([{ "code": "A", "value": "x" }])), json!(["fields", "0", "code"])),
        (with("CUSTOM", json!([{ "code": "a", "value": "" }])), json!(["fields", "0", "value"])),
        (with("CUSTOM", json!([{ "code": "a", "value": null }])), json!(["fields", "0", "value"])),
        (with("DHIS2", json!([{ "code": "api_url", "value": "nowhere" }])), json!(["fields", "0", "value"])),
        (with("IASO", json!([{ "code": "port", "value": "1" }])), json!(["fields", "0", "code"])),
        (
            with("POSTGRESQL", json!([{ "code": "password", "value": "x", "isSecret": false }])),
            json!(["fields", "0", "isSecret"]),
        ),
    ] {
        let answer = ada.mutate("createCredential", input, CREDENTIAL).await;
        assert_eq!(answer.refused("INVALID_INPUT").user_errors()[0]["field"], field);
    }
    let many: Vec<_> = (0..51).map(|n| json!({ "code": format!("f{n}"), "value": "x" })).collect();
    ada.mutate("createCredential", with("CUSTOM", json!(many)), CREDENTIAL).await.refused("INVALID_INPUT");
    assert!(slugs(&listed(&ada, &lab, "").await.ok()).is_empty());
    assert_eq!(app.number("SELECT count(*) FROM credentials").await, 0);

    // A refused change changes nothing, neither a name nor a field.
    let id = made(&ada, &lab, "Store", "hunter2").await;
    let change = json!({ "name": "Other", "fields": [{ "code": "host", "value": "elsewhere" }] });
    update(&ada, &lab, &id, change).await.refused("INVALID_INPUT");
    let values = used(&ada, &lab, "store").await.ok();
    assert_eq!((value(&values, "host"), value(&values, "password")), ("db.example.org", "hunter2"));
}

async fn a_slug_is_taken_once_in_a_workspace_and_made_of_the_name(app: App) {
    let ada = app.set_up().await;
    let (lab, field) = (ada.workspace("Lab").await, ada.workspace("Field").await);
    made(&ada, &lab, "Données d'été", "x").await;
    made(&ada, &lab, "Données d'été", "x").await;
    assert_eq!(slugs(&listed(&ada, &lab, "").await.ok()), ["donnees-dete", "donnees-dete-2"]);
    let input = |workspace: &Workspace, slug: &str| json!({ "workspaceId": workspace.id, "type": "POSTGRESQL", "name": "X", "slug": slug, "fields": database_fields("x") });
    let answer = ada.mutate("createCredential", input(&lab, "donnees-dete"), CREDENTIAL).await;
    assert_eq!(answer.refused("ALREADY_EXISTS").user_errors()[0]["field"], json!(["slug"]));
    // Another workspace has names of its own; a word that no workspace may have is fine.
    ada.mutate("createCredential", input(&field, "donnees-dete"), CREDENTIAL).await.ok();
    ada.mutate("createCredential", input(&lab, "admin"), CREDENTIAL).await.ok();
    ada.mutate("createCredential", input(&lab, "No Slug"), CREDENTIAL).await.refused("INVALID_INPUT");

    // Of ten at once with one slug, one is made.
    let attempts = (0..10).map(|_| ada.mutate("createCredential", input(&lab, "race"), CREDENTIAL));
    let answers = futures_util::future::join_all(attempts).await;
    let won = answers.iter().filter(|answer| answer.user_errors().is_empty()).count();
    assert_eq!(won, 1);
    for answer in answers.into_iter().filter(|answer| !answer.user_errors().is_empty()) {
        answer.refused("ALREADY_EXISTS");
    }
}

async fn the_list_is_searched_filtered_and_paged(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    for name in ["Alpha", "Beta", "Gamma"] {
        made(&ada, &lab, name, "x").await;
    }
    let input = json!({ "workspaceId": lab.id, "type": "CUSTOM", "name": "Alphabet", "fields": [{ "code": "a", "value": "x" }] });
    ada.mutate("createCredential", input, CREDENTIAL).await.ok();
    let list = async |arguments: &str| {
        let answer = listed(&ada, &lab, arguments).await.ok();
        let slugs: Vec<_> = slugs(&answer).into_iter().map(str::to_owned).collect();
        (slugs, answer)
    };
    assert_eq!(list("(search: \"ALPHA\")").await.0, ["alpha", "alphabet"]);
    assert_eq!(list("(search: \"alpha\", type: CUSTOM)").await.0, ["alphabet"]);
    assert_eq!(list("(isShared: true)").await.0, Vec::<String>::new());
    assert_eq!(list("(isShared: false)").await.0.len(), 4);
    let (first, answer) = list("(first: 3)").await;
    assert_eq!(
        (first.as_slice(), answer.data("/workspace/credentials/totalCount")),
        (["alpha".to_owned(), "beta".into(), "gamma".into()].as_slice(), &json!(4))
    );
    let after = answer.text("/workspace/credentials/pageInfo/endCursor").to_owned();
    assert_eq!(list(&format!("(first: 3, after: \"{after}\")")).await.0, ["alphabet"]);
    assert_eq!(list("(last: 2)").await.0, ["gamma", "alphabet"]);
    assert_eq!(list(&format!("(last: 1, before: \"{after}\")")).await.0, ["beta"]);
}

async fn a_name_is_found_in_any_case_of_any_alphabet(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let id = made(&ada, &lab, "Übersicht", "x").await;
    made(&ada, &lab, "Beta", "x").await;
    let found = async |search: &str| {
        let answer = listed(&ada, &lab, &format!("(search: \"{search}\")")).await.ok();
        assert_eq!(
            answer.data("/workspace/credentials/totalCount"),
            answer.len("/workspace/credentials/nodes"),
            "{search}"
        );
        let nodes = answer.data("/workspace/credentials/nodes").as_array().unwrap();
        nodes.iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for search in ["übersicht", "ÜBERSICHT", "Über"] {
        assert_eq!(found(search).await, ["Übersicht"], "{search}");
    }
    update(&ada, &lab, &id, json!({ "name": "Ölpreis, ДАТА" })).await.ok();
    for search in ["ölPREIS", "дата"] {
        assert_eq!(found(search).await, ["Ölpreis, ДАТА"], "{search}");
    }
    assert_eq!(found("übersicht").await, Vec::<String>::new());
}

async fn values_are_shown_only_where_the_policy_allows(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let id = made(&ada, &lab, "Store", "hunter2").await;
    let amy = app.member(&lab, SystemRole::Admin, "Amy").await;
    let editor = app.member(&lab, SystemRole::Editor, "Eve").await;
    // `allowReveal: false` is the default: not even the owner reads a value.
    reveal(&ada, &lab, &id).await.denied("FORBIDDEN");
    reveal(&amy, &lab, &id).await.denied("FORBIDDEN");
    let policy = async |allow: bool| {
        let input = json!({ "organizationId": ada.organization().await, "allowReveal": allow });
        ada.mutate("updateOrganizationPolicy", input, "organization { slug }").await.ok();
    };
    policy(true).await;
    let shown = reveal(&amy, &lab, &id).await.ok();
    let values = shown.data("/revealCredential/values").as_array().unwrap();
    assert!(values.contains(&json!({ "code": "password", "value": "hunter2" })), "{values:?}");
    reveal(&editor, &lab, &id).await.denied("FORBIDDEN");
    let document = "query($w: ID!) { credential(workspaceId: $w, slug: \"store\") {
        usages { nodes { outcome purpose user { displayName } workspace { name } } } } }";
    let uses = ada.query(document, json!({ "w": lab.id })).await.ok();
    assert_eq!(
        uses.data("/credential/usages/nodes"),
        &json!([
            { "outcome": "REVEALED", "purpose": "", "user": { "displayName": "Amy" }, "workspace": { "name": lab.name } },
        ])
    );
    policy(false).await;
    reveal(&amy, &lab, &id).await.denied("FORBIDDEN");
}

async fn every_type_can_be_drawn_as_a_form(app: App) {
    app.set_up().await;
    let document = "{ credentialTypes { type name documentation isTestable
        fields { code label documentation isRequired isSecret form example } } }";
    let answer = app.anonymous().query(document, json!({})).await.ok();
    let types = answer.data("/credentialTypes").as_array().unwrap();
    let names: Vec<_> = types.iter().map(|kind| kind["type"].as_str().unwrap()).collect();
    assert_eq!(names, ["S3", "GCS", "POSTGRESQL", "DHIS2", "IASO", "CUSTOM"]);
    // What the catalogue says is what a credential takes: the examples, and anything for a secret.
    let ada = app.owner();
    let lab = ada.workspace("Lab").await;
    for kind in types {
        let fields: Vec<_> = kind["fields"]
            .as_array()
            .unwrap()
            .iter()
            .map(|field| {
                let value = match (&field["example"], field["form"].as_str().unwrap()) {
                    (Value::String(example), _) => example.clone(),
                    (_, "JSON") => "{}".to_owned(),
                    _ => "secret".to_owned(),
                };
                json!({ "code": field["code"], "value": value })
            })
            .collect();
        let fields =
            if fields.is_empty() { json!([{ "code": "any_thing", "value": "x" }]) } else { json!(fields) };
        let input =
            json!({ "workspaceId": lab.id, "type": kind["type"], "name": kind["name"], "fields": fields });
        ada.mutate("createCredential", input, CREDENTIAL).await.ok();
    }
}

async fn a_deleted_credential_is_gone_and_its_uses_stay(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let id = made(&ada, &lab, "Store", "hunter2").await;
    used(&ada, &lab, "store").await.ok();
    let answer = delete(&ada, &lab, &id, false).await.ok();
    assert_eq!(answer.data("/deleteCredential/deletedCredentialId"), id.as_str());
    delete(&ada, &lab, &id, false).await.refused("NOT_FOUND");
    used(&ada, &lab, "store").await.refused("NOT_FOUND");
    assert_eq!(app.number("SELECT count(*) FROM credential_fields").await, 0);
    let document = "query($name: String!) { workspace(name: $name) { credentialUsages {
        totalCount nodes { slug outcome purpose user { displayName } } } } }";
    let uses = ada.query(document, json!({ "name": lab.name })).await.ok();
    assert_eq!(
        uses.data("/workspace/credentialUsages/nodes"),
        &json!([
            { "slug": "store", "outcome": "USED", "purpose": "pipeline nightly, run 7", "user": { "displayName": "Ada" } },
        ])
    );
    // The slug is free again.
    made(&ada, &lab, "Store", "hunter2").await;
    assert_eq!(slugs(&listed(&ada, &lab, "").await.ok()), ["store"]);
    app.advance(TimeDelta::seconds(1));
}

async fn changes_are_told_live_and_never_a_value(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let editor = app.member(&lab, SystemRole::Editor, "Eve").await;
    let document = "subscription($w: ID!) { credentialChanged(workspaceId: $w) {
        cursor change credentialId credential { slug fields { code value fingerprint } } resyncRequired } }";
    let mut watch = editor.subscribe(document, json!({ "w": lab.id })).await;
    let id = made(&ada, &lab, "Store", "hunter2-planted").await;
    let event = watch.next().await.ok();
    assert_eq!(event.data("/credentialChanged/change"), "CREATED");
    assert_eq!(event.data("/credentialChanged/credentialId"), id.as_str());
    assert_eq!(event.data("/credentialChanged/credential/slug"), "store");
    assert!(!event.body.to_string().contains("planted"), "{}", event.body);
    update(&ada, &lab, &id, json!({ "fields": database_fields("hunter3-planted") })).await.ok();
    let event = watch.next().await.ok();
    assert_eq!(event.data("/credentialChanged/change"), "UPDATED");
    assert!(!event.body.to_string().contains("planted"), "{}", event.body);
    delete(&ada, &lab, &id, false).await.ok();
    let event = watch.next().await.ok();
    assert_eq!(event.data("/credentialChanged/change"), "DELETED");
    assert_eq!(event.data("/credentialChanged/credential"), &Value::Null);
    assert_eq!(event.data("/credentialChanged/credentialId"), id.as_str());
}

async fn try_out(by: &Actor, workspace: &Workspace, id: &str) -> Answer {
    let input = json!({ "workspaceId": workspace.id, "credentialId": id });
    by.mutate("testCredential", input, "report { passed reason message }").await
}

async fn a_credential_is_tried_where_it_is_owned_and_where_it_is_borrowed(app: App) {
    let ada = app.set_up().await;
    let (lab, field) = (ada.workspace("Lab").await, ada.workspace("Field").await);
    let eve = app.member(&field, SystemRole::Editor, "Eve").await;
    let vic = app.member(&field, SystemRole::Viewer, "Vic").await;
    let port = credential_tests::serve(credential_tests::dhis2()).await;
    let fields = |password: &str| {
        json!([
            { "code": "api_url", "value": format!("http://127.0.0.1:{port}/demo") },
            { "code": "username", "value": "admin" },
            { "code": "password", "value": password },
        ])
    };
    let input = json!({ "workspaceId": lab.id, "type": "DHIS2", "name": "Play", "fields": fields("wrong") });
    let answer = ada.mutate("createCredential", input, CREDENTIAL).await.ok();
    let id = answer.text("/createCredential/credential/id").to_owned();
    let report = try_out(&ada, &lab, &id).await.ok();
    assert_eq!(report.data("/testCredential/report/reason"), "AUTHENTICATION_FAILED");
    update(&ada, &lab, &id, json!({ "fields": fields(credential_tests::PASSWORD) })).await.ok();
    let report = try_out(&ada, &lab, &id).await.ok();
    assert_eq!(report.data("/testCredential/report/passed"), true, "{report}");

    // Who borrows it tries it as well, by the id they know; nobody else does.
    credential_sharing::lent(&ada, &lab, &id, &field).await;
    let document = "query($w: ID!) { credential(workspaceId: $w, slug: \"play\") { id } }";
    let borrowed = eve.query(document, json!({ "w": field.id })).await.ok();
    let borrowed = borrowed.text("/credential/id");
    let report = try_out(&eve, &field, borrowed).await.ok();
    assert_eq!(report.data("/testCredential/report/passed"), true);
    try_out(&eve, &field, &id).await.refused("NOT_FOUND");
    try_out(&vic, &field, borrowed).await.denied("FORBIDDEN");
    let stranger = app.stranger("sam@elsewhere.org", "Sam").await;
    try_out(&stranger, &stranger.workspace("Theirs").await, borrowed).await.refused("NOT_FOUND");
    let outcomes = app.number("SELECT count(*) FROM credential_uses WHERE outcome = 'TESTED'").await;
    assert_eq!(outcomes, 3);

    let input = json!({ "workspaceId": lab.id, "type": "CUSTOM", "name": "Any", "fields": [{ "code": "a", "value": "x" }] });
    let answer = ada.mutate("createCredential", input, CREDENTIAL).await.ok();
    try_out(&ada, &lab, answer.text("/createCredential/credential/id")).await.refused("NOT_TESTABLE");
    for _ in 0..10 {
        try_out(&eve, &field, borrowed).await;
    }
    try_out(&eve, &field, borrowed).await.refused("RATE_LIMITED");
}
