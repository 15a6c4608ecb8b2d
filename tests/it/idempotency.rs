//! `Idempotency-Key`: what is sent again is carried out once, and answered alike for a day.

use std::{collections::HashSet, sync::Arc, time::Duration};

use chrono::TimeDelta;
use futures_util::future::join_all;
use guildhall_domain::{access::SystemRole, text::DisplayName};
use guildhall_persistence::{
    Fault, OpError, accounts, housekeeping,
    idempotency::{Known, Once, claim, finish},
};
use guildhall_tests::{
    Actor, Answer, App, Workspace, both_databases,
    databases::{Engine, run},
};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};

both_databases!(
    App::start,
    fifty_at_once_change_one_thing_and_are_answered_alike,
    an_answer_is_given_again_for_a_day,
    a_key_belongs_to_one_request_of_one_person,
    what_was_refused_is_refused_again_unless_that_passes,
    whoever_was_not_allowed_may_send_it_again,
    a_client_that_went_away_finds_its_answer,
    an_attempt_that_went_away_is_taken_over_or_told,
    an_attempt_that_was_overtaken_changes_nothing,
    a_secret_that_is_shown_again_is_not_kept_in_plain_text,
    a_session_that_ended_is_shown_nothing_again,
    what_opens_something_at_once_is_given_again_for_a_minute,
    a_key_does_not_tell_which_credentials_there_are,
    keys_are_for_mutations_and_have_a_form,
    a_trial_has_a_key_of_its_own,
);

const CREATE: &str = "mutation($input: CreateWorkspaceInput!) { createWorkspace(input: $input) { workspace { id displayName } userErrors { code message } } }";

async fn create(by: &Actor, key: &str, name: &str) -> Answer {
    by.query_with(&[("idempotency-key", key)], CREATE, json!({ "input": { "displayName": name } })).await
}

async fn invite(by: &Actor, key: &str, workspace: &Workspace, email: &str) -> Answer {
    let document = "mutation($input: InviteMemberInput!) { inviteMember(input: $input) { invitation { id } userErrors { code } } }";
    let input = json!({ "workspaceId": workspace.id, "email": email, "role": "VIEWER" });
    by.query_with(&[("idempotency-key", key)], document, json!({ "input": input })).await
}

fn is_replayed(answer: &Answer) -> bool {
    answer.headers.get("idempotency-replayed").is_some()
}

async fn workspaces(app: &App) -> i64 {
    app.number("SELECT count(*) FROM workspaces").await
}

async fn fifty_at_once_change_one_thing_and_are_answered_alike(app: App) {
    let ada = app.set_up().await;
    let before = workspaces(&app).await;
    let answers =
        join_all((0..50).map(|_| create(&ada, "\"8e03978e-40d5-43dd-bc93-6894a57f9324\"", "Lab"))).await;
    assert_eq!(workspaces(&app).await, before + 1);
    let bodies: HashSet<String> = answers.iter().map(|answer| answer.clone().ok().body.to_string()).collect();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert_eq!(answers.iter().filter(|answer| !is_replayed(answer)).count(), 1);
    // The quotes are those of the header, and no part of the key.
    assert!(is_replayed(&create(&ada, "8e03978e-40d5-43dd-bc93-6894a57f9324", "Lab").await));
    assert_eq!(app.number("SELECT count(*) FROM audit_events WHERE action = 'createWorkspace'").await, 1);
}

async fn an_answer_is_given_again_for_a_day(app: App) {
    let ada = app.set_up().await;
    let first = create(&ada, "one", "Lab").await.ok();
    app.advance(TimeDelta::hours(23));
    let ada = ada.again().await;
    let again = create(&ada, "one", "Lab").await.ok();
    assert!(is_replayed(&again));
    assert_eq!(first.body, again.body);
    app.advance(TimeDelta::hours(2));
    let ada = ada.again().await;
    let anew = create(&ada, "one", "Lab").await.ok();
    assert!(!is_replayed(&anew));
    assert_ne!(first.body, anew.body);
    app.advance(TimeDelta::hours(25));
    assert_eq!(housekeeping::sweep(app.db()).await.unwrap().answers, 1);
    assert_eq!(app.number("SELECT count(*) FROM idempotency_keys").await, 0);
}

async fn a_key_belongs_to_one_request_of_one_person(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    let first = invite(&ada, "one", &lab, "ivan@example.org").await.ok();
    let other = invite(&ada, "one", &lab, "iris@example.org").await.denied("IDEMPOTENCY_KEY_REUSED");
    assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(app.number("SELECT count(*) FROM invitations WHERE email = 'iris@example.org'").await, 0);
    // What Adam sends with the same key is another request.
    let adams = invite(&adam, "one", &lab, "iris@example.org").await.ok();
    assert_ne!(first.body, adams.body);
    let again = invite(&ada, "one", &lab, "ivan@example.org").await.ok();
    assert_eq!(first.body, again.body);
}

async fn what_was_refused_is_refused_again_unless_that_passes(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let sent = invite(&ada, "first", &lab, "ivan@example.org").await.ok();
    invite(&ada, "second", &lab, "ivan@example.org").await.refused("ALREADY_INVITED");
    let input = json!({ "workspaceId": lab.id, "invitationId": sent.data("/inviteMember/invitation/id") });
    ada.mutate("revokeInvitation", input, "").await.ok();
    let again = invite(&ada, "second", &lab, "ivan@example.org").await.refused("ALREADY_INVITED");
    assert!(is_replayed(&again));
    invite(&ada, "third", &lab, "ivan@example.org").await.ok();
}

async fn whoever_was_not_allowed_may_send_it_again(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    invite(&eve, "one", &lab, "ivan@example.org").await.denied("FORBIDDEN");
    let member = crate::members::membership(&lab, &eve).await;
    crate::members::set_role(&ada, &lab, &member, "ADMIN").await.ok();
    let sent = invite(&eve, "one", &lab, "ivan@example.org").await.ok();
    assert!(!is_replayed(&sent));
    // And what was given is given again after the right is lost: it was hers.
    crate::members::set_role(&ada, &lab, &member, "VIEWER").await.ok();
    let again = invite(&eve, "one", &lab, "ivan@example.org").await.ok();
    assert_eq!(again.body, sent.body);
}

async fn a_client_that_went_away_finds_its_answer(app: App) {
    let ada = app.set_up().await;
    let before = workspaces(&app).await;
    let body = json!({ "query": CREATE, "variables": { "input": { "displayName": "Lab" } } }).to_string();
    let host = app.url.trim_start_matches("http://");
    for pause in [0, 1, 3, 10, 30] {
        let mut socket = TcpStream::connect(host).await.unwrap();
        let request = format!(
            "POST /graphql HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\nauthorization: Bearer {}\r\nidempotency-key: key{pause}\r\ncontent-length: {}\r\n\r\n{body}",
            ada.access_token.as_deref().unwrap(),
            body.len(),
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(pause)).await;
        drop(socket);
    }
    let answers = join_all([0, 1, 3, 10, 30].map(|pause| {
        let ada = &ada;
        async move { create(ada, &format!("key{pause}"), "Lab").await.ok() }
    }))
    .await;
    let made: HashSet<_> =
        answers.iter().map(|answer| answer.text("/createWorkspace/workspace/id")).collect();
    assert_eq!(made.len(), 5);
    assert_eq!(workspaces(&app).await, before + 5);
}

async fn an_attempt_that_went_away_is_taken_over_or_told(app: App) {
    let ada = app.set_up().await;
    let before = workspaces(&app).await;
    // As a process leaves it that was killed after the commit, and before it kept the answer.
    create(&ada, "done", "Lab").await.ok();
    app.sql("UPDATE idempotency_keys SET is_done = FALSE, sealed = NULL, leased_until = '2000-01-01 00:00:00+00:00'").await;
    let told = create(&ada, "done", "Lab").await.denied("IDEMPOTENCY_ANSWER_LOST");
    assert_eq!(told.status, StatusCode::CONFLICT);
    assert_eq!(workspaces(&app).await, before + 1);
    // And before the commit.
    create(&ada, "begun", "Den").await.ok();
    app.sql("DELETE FROM idempotency_keys WHERE is_done = FALSE").await;
    app.sql("UPDATE idempotency_keys SET is_done = FALSE, sealed = NULL, performed = 0, leased_until = '2000-01-01 00:00:00+00:00'").await;
    let answer = create(&ada, "begun", "Den").await.ok();
    assert!(!is_replayed(&answer));
    assert_eq!(workspaces(&app).await, before + 3);
}

async fn an_attempt_that_was_overtaken_changes_nothing(app: App) {
    let ada = app.set_up().await;
    let once = Once::new(app.db(), None, "slow", &[b"body"]);
    let Known::Mine(slow) = claim(app.db(), &once).await.unwrap() else { panic!("nobody has it") };
    assert!(matches!(claim(app.db(), &once).await.unwrap(), Known::Underway));
    app.advance(TimeDelta::seconds(61));
    let Known::Mine(quick) = claim(app.db(), &once).await.unwrap() else { panic!("the lease is over") };

    let slow = Arc::new(slow);
    let (actor, _) = app.db().keys().identify(ada.access_token.as_deref().unwrap(), app.db().now()).unwrap();
    let own = app.db().own_session(actor).await.unwrap();
    let name = DisplayName::parse("Slow").unwrap();
    let late = accounts::update_profile(&app.db().claiming(Arc::clone(&slow)), &own, &name).await;
    assert!(matches!(late, Err(OpError::Fault(Fault::Overtaken))), "{late:?}");
    assert_eq!(app.number("SELECT count(*) FROM users WHERE display_name = 'Slow'").await, 0);

    finish(app.db(), &slow, Some(b"slow")).await.unwrap();
    finish(app.db(), &quick, Some(b"quick")).await.unwrap();
    let Known::Answered(answer) = claim(app.db(), &once).await.unwrap() else { panic!("it was answered") };
    assert_eq!(answer.as_slice(), b"quick");
}

async fn a_secret_that_is_shown_again_is_not_kept_in_plain_text(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let document =
        "mutation($input: CreateApiKeyInput!) { createApiKey(input: $input) { secret userErrors { code } } }";
    let input =
        json!({ "input": { "workspaceId": lab.id, "name": "Key", "permissions": ["WORKSPACE_VIEW"] } });
    let send = async || ada.query_with(&[("idempotency-key", "one")], document, input.clone()).await.ok();
    let (first, again) = (send().await, send().await);
    assert!(is_replayed(&again));
    assert_eq!(first.body, again.body);
    let secret = first.text("/createApiKey/secret");
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    for row in app.everything().await {
        let row = row.to_lowercase();
        assert!(!row.contains(&secret.to_lowercase()) && !row.contains(&hex), "{row}");
    }
    assert_eq!(app.number("SELECT count(*) FROM api_keys").await, 1);
}

async fn a_session_that_ended_is_shown_nothing_again(app: App) {
    let ada = app.set_up().await;
    let other = ada.again().await;
    let first = create(&ada, "one", "Lab").await.ok();
    ada.mutate("signOut", Value::Null, "signedOut").await.ok();
    create(&ada, "one", "Lab").await.denied("UNAUTHENTICATED");
    assert_eq!(create(&other, "one", "Lab").await.ok().body, first.body);
}

async fn what_opens_something_at_once_is_given_again_for_a_minute(app: App) {
    let ada = app.set_up().await;
    let document = "mutation($input: SignInInput!) { signIn(input: $input) { session { accessToken } userErrors { code } } }";
    let input = json!({ "input": { "email": ada.email, "password": ada.password } });
    let stranger = Actor::anonymous(&app.url);
    let send = async || stranger.query_with(&[("idempotency-key", "one")], document, input.clone()).await;
    let first = send().await.ok();
    assert_eq!(send().await.ok().body, first.body);
    app.advance(TimeDelta::seconds(61));
    send().await.denied("IDEMPOTENCY_ANSWER_LOST");
}

async fn a_key_does_not_tell_which_credentials_there_are(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    let input = json!({ "workspaceId": lab.id, "type": "CUSTOM", "name": "Store", "slug": "store", "fields": [{ "code": "a", "value": "b" }] });
    ada.mutate("createCredential", input, "").await.ok();
    let document =
        "mutation($input: UseCredentialInput!) { useCredential(input: $input) { userErrors { code } } }";
    for slug in ["store", "no-such"] {
        for _ in 0..2 {
            let input = json!({ "workspaceId": lab.id, "slug": slug, "purpose": "to know" });
            let answer =
                eve.query_with(&[("idempotency-key", slug)], document, json!({ "input": input })).await;
            assert!(!is_replayed(&answer), "{slug}");
            answer.denied("FORBIDDEN");
        }
    }
    assert_eq!(app.number("SELECT count(*) FROM credential_uses").await, 2);
}

async fn keys_are_for_mutations_and_have_a_form(app: App) {
    let ada = app.set_up().await;
    for key in ["", "\"\"", "with space", "a\"b", &"x".repeat(256)] {
        let answer = create(&ada, key, "Lab").await.denied("BAD_USER_INPUT");
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{key}");
        assert!(answer.body.to_string().contains("Idempotency-Key"), "{answer}");
    }
    let twice = [("idempotency-key", "a"), ("idempotency-key", "b")];
    ada.query_with(&twice, "{ __typename }", json!({})).await.denied("BAD_USER_INPUT");
    for _ in 0..2 {
        let answer =
            ada.query_with(&[("idempotency-key", "a")], "{ viewer { user { id } } }", json!({})).await.ok();
        assert!(!is_replayed(&answer));
    }
    assert_eq!(app.number("SELECT count(*) FROM idempotency_keys").await, 0);
    // What is no document of the schema is nobody's key either.
    let header = [("idempotency-key", "a")];
    ada.query_with(&header, "mutation { noSuch }", json!({})).await.denied("GRAPHQL_VALIDATION_FAILED");
    create(&ada, "a", "Lab").await.ok();
}

async fn a_trial_has_a_key_of_its_own(app: App) {
    let ada = app.set_up().await;
    let trial = "mutation { createWorkspace(dryRun: true, input: { displayName: \"Lab\" }) { workspace { id } userErrors { code } } }";
    let before = workspaces(&app).await;
    let header = [("idempotency-key", "one")];
    let first = ada.query_with(&header, trial, json!({})).await.ok();
    let again = ada.query_with(&header, trial, json!({})).await.ok();
    assert_eq!(first.body, again.body, "ids are made up once");
    create(&ada, "one", "Lab").await.denied("IDEMPOTENCY_KEY_REUSED");
    assert_eq!(workspaces(&app).await, before);
}

#[test]
fn two_processes_carry_it_out_once() {
    run(Engine::Postgres, App::start, async |app: App| {
        let ada = app.set_up().await;
        let second = app.second_process().await;
        let mut there = ada.clone();
        there.url.clone_from(&second.url);
        let before = workspaces(&app).await;
        let calls = (0..50).map(|number| create(if number % 2 == 0 { &ada } else { &there }, "one", "Lab"));
        let bodies: HashSet<String> =
            join_all(calls).await.into_iter().map(|answer| answer.ok().body.to_string()).collect();
        assert_eq!(bodies.len(), 1, "{bodies:?}");
        assert_eq!(workspaces(&app).await, before + 1);
    });
}
