//! `dryRun`: what is only tried is judged and answered like the change, and leaves nothing behind. Each change that
//! `audit.rs` makes is tried first there, by [`tried`]; here is what the audit log does not know, and what is special.

use guildhall_domain::access::SystemRole;
use guildhall_tests::{Actor, Answer, App, actor::PASSWORD, both_databases, databases::Engine};
use serde_json::{Value, json};

use crate::guards_enforced::{Cast, root_fields};

both_databases!(
    App::start,
    every_mutation_can_be_tried_by_everybody,
    a_person_s_own_changes_can_be_tried,
    an_invitation_that_is_tried_reaches_nobody,
    the_answer_reads_what_the_change_would_have_left,
    secrets_of_what_is_tried_are_shown_to_nobody,
    a_webhook_that_is_tried_has_no_secret_to_show,
    what_opens_something_is_not_tried_without_a_trace,
    a_credential_that_is_tried_is_neither_shown_nor_used_nor_tested,
    what_is_tried_and_what_is_done_stand_in_one_document,
    many_who_try_at_once_are_in_nobody_s_way,
);

both_databases!(cautious, passwords_are_not_guessed_for_nothing);

/// After three passwords that were wrong the next sign-in waits.
async fn cautious(engine: Engine) -> App {
    App::start_with(engine, |environment| {
        environment.set("GUILDHALL_SIGN_IN_FREE_FAILURES", 3);
    })
    .await
}

/// The same members at every depth, where both have any.
fn alike(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, value)| other.get(name).is_some_and(|other| alike(value, other)))
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| alike(one, other))
        }
        (one, other) => {
            one.is_null() || other.is_null() || std::mem::discriminant(one) == std::mem::discriminant(other)
        }
    }
}

async fn only_try(by: &Actor, mutation: &str, input: &Value, selection: &str) -> Answer {
    by.mutate_with("dryRun: true", mutation, input.clone(), selection).await
}

/// Tries a mutation, which changes nothing, and then does it. Both answers are alike.
pub(crate) async fn tried(
    app: &App,
    by: &Actor,
    mutation: &str,
    input: Value,
    selection: &str,
) -> (Answer, Answer) {
    let mut turns = 0;
    let trial = loop {
        app.chained().await;
        let before = app.everything().await;
        let trial = only_try(by, mutation, &input, selection).await;
        let after = app.everything().await;
        // What a worker writes meanwhile it does not write each time.
        turns += 1;
        if before == after {
            break trial;
        }
        let changed: Vec<_> = after.iter().filter(|row| !before.contains(row)).collect();
        assert!(turns < 5, "a trial of {mutation} changed {changed:#?}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    let done = by.mutate(mutation, input, selection).await;
    let codes = |answer: &Answer| {
        let codes = answer.errors().iter().map(|error| error["extensions"]["code"].clone());
        let refusals = answer.user_errors().into_iter().map(|error| json!([error["code"], error["field"]]));
        codes.chain(refusals).collect::<Vec<_>>()
    };
    assert_eq!(codes(&trial), codes(&done), "{mutation}: {trial} {done}");
    assert!(alike(&trial.body, &done.body), "{mutation}: {trial} {done}");
    (trial, done)
}

async fn every_mutation_can_be_tried_by_everybody(app: App) {
    let cast = Cast::assemble(&app).await;
    let mutations: Vec<_> = root_fields().into_iter().filter(|field| field.operation == "mutation").collect();
    // Tries are counted, what guards a door notes who came, and the service works on for itself meanwhile.
    let told_apart = [
        "sign_in_tries",
        "login_activity",
        "api_keys",
        "service_accounts",
        "audit_",
        "mails",
        "sessions",
        "credential_uses",
        // With the first checkpoint of the audit log, a minute after the start.
        "signing_keys",
    ];
    let rows = async || {
        let mut rows = app.everything().await;
        // That a machine asked is counted, whatever for.
        rows.retain(|row| {
            !told_apart.iter().any(|table| row.starts_with(table)) && !row.contains("API_CALLS")
        });
        for table in ["api_keys", "service_accounts", "audit_events", "mails", "sessions"] {
            rows.push(format!("{table}: {}", app.number(&format!("SELECT count(*) FROM {table}")).await));
        }
        rows
    };
    // What housekeeping notes of a day a minute after the start is there already.
    guildhall_persistence::housekeeping::sweep(app.db()).await.unwrap();
    app.mailed().await;
    app.chained().await;
    let before = rows().await;
    for (turn, person) in cast.people.iter().enumerate() {
        let mut document = String::new();
        for (name, rest) in cast.documents(&format!("trial{turn}")) {
            if mutations.iter().any(|field| field.name() == name) {
                let rest = match rest.strip_prefix('(') {
                    Some(rest) => format!("(dryRun: true, {rest}"),
                    None => format!("(dryRun: true){rest}"),
                };
                document = format!("mutation {{ {name}{rest} }}");
                let answer = person.actor.query(&document, json!({})).await;
                let codes: Vec<_> =
                    answer.errors().iter().map(|error| &error["extensions"]["code"]).collect();
                assert!(
                    codes.iter().all(|code| ["UNAUTHENTICATED", "NOT_FOUND", "FORBIDDEN"]
                        .contains(&code.as_str().unwrap())),
                    "{}: {document}: {answer}",
                    person.what
                );
            }
        }
        assert!(!document.is_empty());
    }
    let after = rows().await;
    let changed: Vec<_> = after.iter().filter(|row| !before.contains(row)).collect();
    assert!(before == after, "{changed:#?}");
}

async fn a_person_s_own_changes_can_be_tried(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let eve = app.member(&lab, SystemRole::Editor, "Eve").await;
    let of_lab = json!({ "workspaceId": lab.id });
    for (mutation, input, selection) in [
        ("updateProfile", json!({ "displayName": "Evelyn" }), "user { displayName }"),
        ("switchWorkspace", of_lab.clone(), "workspace { id }"),
        ("requestPasswordReset", json!({ "email": eve.email }), "requested"),
        ("requestEmailChange", json!({ "password": PASSWORD, "newEmail": "new@example.org" }), "requested"),
        (
            "changePassword",
            json!({ "currentPassword": PASSWORD, "newPassword": "granite otter 9 violin" }),
            "viewer { user { id } }",
        ),
    ] {
        let (trial, done) = tried(&app, &eve, mutation, input, selection).await;
        trial.ok();
        done.ok();
    }
    let (trial, _) = tried(&app, &eve, "leaveWorkspace", of_lab, "").await;
    trial.ok();
}

async fn an_invitation_that_is_tried_reaches_nobody(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let mails = app.number("SELECT count(*) FROM mails").await;
    let mut watched = ada
        .subscribe(
            "subscription($id: ID!) { invitationStatusChanged(workspaceId: $id) { invitation { id } } }",
            json!({ "id": lab.id }),
        )
        .await;
    let input = json!({ "workspaceId": lab.id, "email": "ivan@example.org", "role": "VIEWER" });
    let selection = "invitation { id status email inviter { displayName } }";
    let trial = only_try(&ada, "inviteMember", &input, selection).await.ok();
    let invitation = trial.data("/inviteMember/invitation");
    assert_eq!(
        (&invitation["status"], &invitation["email"]),
        (&json!("PENDING"), &json!("ivan@example.org"))
    );
    assert_eq!(invitation["inviter"]["displayName"], json!(ada.name));
    assert_eq!(app.number("SELECT count(*) FROM mails").await, mails);
    let answer =
        ada.query("query($id: ID!) { node(id: $id) { id } }", json!({ "id": invitation["id"] })).await.ok();
    assert_eq!(answer.data("/node"), &Value::Null);
    // What is told first is the invitation that was really sent.
    let sent = ada.mutate("inviteMember", input.clone(), "invitation { id }").await.ok();
    let told = watched.next().await;
    assert_eq!(told.data("/invitationStatusChanged/invitation/id"), sent.data("/inviteMember/invitation/id"));
    only_try(&ada, "inviteMember", &input, selection).await.refused("ALREADY_INVITED");
}

async fn the_answer_reads_what_the_change_would_have_left(app: App) {
    let ada = app.set_up().await;
    let selection = "workspace { id displayName members { totalCount nodes { role { name } principal { ... on User { displayName } } } } viewerPermissions }";
    let trial = only_try(&ada, "createWorkspace", &json!({ "displayName": "Lab" }), selection).await.ok();
    let workspace = trial.data("/createWorkspace/workspace");
    assert_eq!(workspace["members"]["totalCount"], 1);
    assert_eq!(workspace["members"]["nodes"][0]["principal"]["displayName"], json!(ada.name));
    let answer =
        ada.query("query($id: ID!) { node(id: $id) { id } }", json!({ "id": workspace["id"] })).await.ok();
    assert_eq!(answer.data("/node"), &Value::Null);

    let lab = ada.workspace("Lab").await;
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    let member = crate::members::membership(&lab, &eve).await;
    let input = json!({ "workspaceId": lab.id, "memberId": member });
    only_try(&ada, "removeMember", &input, "").await.ok();
    let members = "query($name: String!) { workspace(name: $name) { members { totalCount } } }";
    let answer = ada.query(members, json!({ "name": lab.name })).await.ok();
    assert_eq!(answer.data("/workspace/members/totalCount"), 2);
}

async fn secrets_of_what_is_tried_are_shown_to_nobody(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let on_lab = json!({ "workspaceId": lab.id });
    let key = json!({ "workspaceId": lab.id, "name": "Key", "permissions": ["WORKSPACE_VIEW"] });
    let account = json!({ "workspaceId": lab.id, "name": "Robot", "role": "VIEWER" });
    let tokens = "session { accessToken refreshToken }";
    for (mutation, input, selection, secret) in [
        ("refreshSession", json!({ "refreshToken": ada.refresh_token }), tokens, "session"),
        ("createApiKey", key, "secret apiKey { id prefix }", "secret"),
        ("rotateDefaultApiKey", on_lab.clone(), "secret apiKey { id }", "secret"),
        ("createServiceAccount", account, "clientSecret serviceAccount { clientId }", "clientSecret"),
        ("issueWorkspaceToken", on_lab, "token", "token"),
        ("generateRecoveryCodes", json!({ "password": PASSWORD }), "codes", "codes"),
        ("enrollSecondFactor", json!({ "password": PASSWORD }), "secret uri qrSvg", "secret"),
    ] {
        let (trial, done) = tried(&app, &ada, mutation, input, selection).await;
        assert_eq!(trial.ok().data(&format!("/{mutation}/{secret}")), &Value::Null, "{mutation}");
        assert!(!done.ok().data(&format!("/{mutation}/{secret}")).is_null(), "{mutation}");
    }
}

async fn a_webhook_that_is_tried_has_no_secret_to_show(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let input = json!({
        "workspaceId": lab.id, "name": "CI", "url": "https://hooks.invalid/", "events": ["WORKSPACE_CHANGED"], "isEnabled": false
    });
    let (trial, made) = tried(&app, &ada, "createWebhook", input, "secret webhook { id name }").await;
    assert_eq!(trial.ok().data("/createWebhook/secret"), &Value::Null);
    let id = made.ok().data("/createWebhook/webhook/id").clone();
    let input = json!({ "workspaceId": lab.id, "webhookId": id });
    let (trial, made) = tried(&app, &ada, "rotateWebhookSecret", input, "secret webhook { id }").await;
    assert_eq!(trial.ok().data("/rotateWebhookSecret/secret"), &Value::Null);
    assert!(made.ok().text("/rotateWebhookSecret/secret").starts_with("whsec_"));
}

async fn what_opens_something_is_not_tried_without_a_trace(app: App) {
    let ada = app.set_up().await;
    let stranger = Actor::anonymous(&app.url);
    let signed_in = "SELECT count(*) FROM login_activity WHERE code = 'LOGIN'";
    let before = app.number(signed_in).await;
    let right = json!({ "email": ada.email, "password": PASSWORD });
    only_try(&stranger, "signIn", &right, "session { accessToken }").await.ok();
    assert_eq!(app.number(signed_in).await, before + 1);
    // A refresh token that comes back ends its session.
    let stale = json!({ "refreshToken": ada.refresh_token });
    ada.mutate("refreshSession", stale.clone(), "").await.ok();
    app.advance(chrono::TimeDelta::minutes(5));
    only_try(&stranger, "refreshSession", &stale, "session { accessToken }").await.refused("SESSION_INVALID");
    let viewer = ada.query("{ viewer { user { id } } }", json!({})).await.ok();
    assert_eq!(viewer.data("/viewer"), &Value::Null, "nobody is signed in");
}

async fn a_credential_that_is_tried_is_neither_shown_nor_used_nor_tested(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let allowed = json!({ "organizationId": organization, "allowReveal": true });
    ada.mutate("updateOrganizationPolicy", allowed, "").await.ok();
    let fields = json!([
        { "code": "host", "value": "127.0.0.1" }, { "code": "port", "value": "1" }, { "code": "database", "value": "a" },
        { "code": "username", "value": "a" }, { "code": "password", "value": "planted", "isSecret": true },
    ]);
    let input = json!({ "workspaceId": lab.id, "type": "POSTGRESQL", "name": "Store", "fields": fields });
    let made = ada.mutate("createCredential", input, "credential { id slug }").await.ok();
    let id = made.data("/createCredential/credential/id");
    let on_it = json!({ "workspaceId": lab.id, "credentialId": id });
    let used = json!({ "workspaceId": lab.id, "slug": made.data("/createCredential/credential/slug"), "purpose": "report" });
    for (mutation, input, selection, secret) in [
        ("revealCredential", on_it.clone(), "values { code value } credential { id }", "values"),
        ("useCredential", used, "values { code value } credential { id }", "values"),
        ("testCredential", on_it, "report { __typename }", "report"),
    ] {
        let (trial, done) = tried(&app, &ada, mutation, input, selection).await;
        assert_eq!(trial.ok().data(&format!("/{mutation}/{secret}")), &Value::Null);
        assert!(!done.ok().data(&format!("/{mutation}/{secret}")).is_null());
    }
}

async fn what_is_tried_and_what_is_done_stand_in_one_document(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let document = "mutation($id: ID!, $dry: Boolean!) {
        first: updateWorkspace(dryRun: $dry, input: { workspaceId: $id, displayName: \"One\" }) { workspace { displayName region } }
        second: updateWorkspace(dryRun: false, input: { workspaceId: $id, region: \"eu\" }) { workspace { displayName region } }
        third: updateWorkspace(input: { workspaceId: $id, displayName: \"Three\" }, dryRun: $dry) { workspace { displayName region } }
    }";
    let answer = ada.query(document, json!({ "id": lab.id, "dry": true })).await.ok();
    let shown = |name: &str| answer.data(&format!("/{name}/workspace")).clone();
    assert_eq!(shown("first")["displayName"], "One");
    assert_eq!((&shown("second")["displayName"], &shown("second")["region"]), (&json!("Lab"), &json!("eu")));
    assert_eq!((&shown("third")["displayName"], &shown("third")["region"]), (&json!("Three"), &json!("eu")));
    let names = app.texts("SELECT display_name FROM workspaces").await;
    assert!(names.contains(&"Lab".to_owned()) && !names.contains(&"One".to_owned()), "{names:?}");
}

async fn passwords_are_not_guessed_for_nothing(app: App) {
    let ada = app.set_up().await;
    let wrong = json!({ "email": ada.email, "password": "not the password" });
    let stranger = Actor::anonymous(&app.url);
    for _ in 0..3 {
        only_try(&stranger, "signIn", &wrong, "").await.refused("INVALID_CREDENTIALS");
    }
    only_try(&stranger, "signIn", &wrong, "").await.refused("SIGN_IN_LOCKED");
    stranger.mutate("signIn", wrong, "").await.refused("SIGN_IN_LOCKED");
    assert!(app.number("SELECT count(*) FROM login_activity").await > 0, "nobody would know of it");
}

async fn many_who_try_at_once_are_in_nobody_s_way(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let calls = (0..40).map(|number| {
        let (ada, lab) = (ada.clone(), lab.clone());
        async move {
            let input = json!({ "workspaceId": lab.id, "displayName": format!("Name {number}") });
            let selection = "workspace { displayName members { totalCount } }";
            let answer = if number % 4 == 0 {
                ada.mutate("updateWorkspace", input, selection).await
            } else {
                only_try(&ada, "updateWorkspace", &input, selection).await
            };
            let answer = answer.ok();
            assert_eq!(answer.text("/updateWorkspace/workspace/displayName"), format!("Name {number}"));
        }
    });
    futures_util::future::join_all(calls).await;
    let name =
        app.texts(&format!("SELECT display_name FROM workspaces WHERE id = {}", app.literal(&lab.id))).await;
    let number: usize = name[0].trim_start_matches("Name ").parse().unwrap();
    assert_eq!(number % 4, 0, "only what was done stays");
}
