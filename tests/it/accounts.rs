//! Accounts through the API: setting up, signing in, the profile, the password.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use guildhall_tests::{
    Actor, Answer, App, actor::PASSWORD, both_databases, databases::Engine, subscription::End,
};
use http::{Request, StatusCode, header};
use serde_json::{Value, json};

both_databases!(
    App::start,
    setting_up_needs_the_secret_of_the_link_and_happens_once,
    weak_password_is_told_every_rule_it_breaks,
    faults_of_all_fields_are_told_at_once,
    of_many_who_set_up_at_once_one_does,
    unknown_address_and_wrong_password_answer_alike,
    unknown_address_takes_the_time_of_a_wrong_password,
    an_address_signs_in_in_any_case,
    disabled_person_is_told_so_only_with_the_right_password,
    profile_is_changed_whole_or_not_at_all,
    new_password_ends_the_other_sessions_and_keeps_this_one,
    refused_password_change_changes_nothing,
    whoever_is_not_signed_in_has_no_view,
);
both_databases!(three_tries, too_many_tries_of_a_password_have_to_wait);

const CHANGES: &str = "subscription($id: ID!) { invitationStatusChanged(workspaceId: $id) { status } }";
const VIEWER: &str = "{ viewer { user { email displayName status } } }";
const SIGN_IN: &str = "mutation($input: SignInInput!) {
    signIn(input: $input) { user { id } session { accessToken } userErrors { code message field } }
}";

async fn three_tries(engine: Engine) -> App {
    App::start_with(engine, |environment| {
        environment.set("GUILDHALL_LIMITS_SIGN_IN_PER_MINUTE", 3);
    })
    .await
}

fn set_up_input(token: &str, password: &str) -> Value {
    json!({ "token": token, "email": "ada@example.org", "displayName": "Ada", "password": password,
            "organizationName": "Engines" })
}

/// Everything that setting up writes.
async fn rows(app: &App) -> i64 {
    app.number(
        "SELECT (SELECT count(*) FROM users) + (SELECT count(*) FROM organizations)
              + (SELECT count(*) FROM organization_members) + (SELECT count(*) FROM workspaces)
              + (SELECT count(*) FROM memberships) + (SELECT count(*) FROM sessions)
              + (SELECT count(*) FROM instance WHERE key = 'set_up_at')",
    )
    .await
}

async fn sign_in(actor: &Actor, email: &str, password: &str) -> Answer {
    actor.query(SIGN_IN, json!({ "input": { "email": email, "password": password } })).await
}

async fn setting_up_needs_the_secret_of_the_link_and_happens_once(app: App) {
    let nobody = app.anonymous();
    let almost = &app.setup_token[1..];
    for wrong in ["", "guessed", almost, "0\u{0}", "é"] {
        let refused = nobody.mutate("setUp", set_up_input(wrong, PASSWORD), "user { id }").await;
        let refused = refused.refused("LINK_INVALID");
        assert_eq!(refused.data("/setUp/userErrors/0/field"), &json!(["token"]));
        assert_eq!(refused.data("/setUp/user"), &Value::Null);
    }
    assert_eq!(rows(&app).await, 0);

    let selection =
        "user { email displayName status } workspace { displayName isDefault viewerRole { key } }";
    let made = nobody.mutate("setUp", set_up_input(&app.setup_token, PASSWORD), selection).await.ok();
    assert_eq!(
        made.data("/setUp/user"),
        &json!({ "email": "ada@example.org", "displayName": "Ada", "status": "ACTIVE" })
    );
    assert_eq!(
        made.data("/setUp/workspace"),
        &json!({ "displayName": "Engines", "isDefault": true, "viewerRole": { "key": "ADMIN" } })
    );
    let written = rows(&app).await;
    // Too late is what both learn: the second learns nothing about the secret either.
    for token in [app.setup_token.as_str(), "guessed"] {
        nobody.mutate("setUp", set_up_input(token, PASSWORD), "user { id }").await.refused("SETUP_DONE");
    }
    assert_eq!(rows(&app).await, written);
}

async fn weak_password_is_told_every_rule_it_breaks(app: App) {
    let nobody = app.anonymous();
    let document = "mutation($input: SetUpInput!) { setUp(input: $input) {
        user { id } userErrors { code field message unmet { rule message } }
    } }";
    let too_long = "vT9#qLm2xZ,w".repeat(11);
    for (password, unmet) in [
        ("abc\n", &["TOO_SHORT", "CONTROL_CHARACTERS", "GUESSABLE"][..]),
        ("", &["TOO_SHORT", "GUESSABLE"]),
        ("ada@example.org", &["GUESSABLE"]),
        (&too_long, &["TOO_LONG"]),
        ("vT9#qLm2xZ\u{0}", &["CONTROL_CHARACTERS"]),
    ] {
        let input = json!({ "input": set_up_input(&app.setup_token, password) });
        let refused = nobody.query(document, input).await.refused("WEAK_PASSWORD");
        assert_eq!(refused.user_errors().len(), 1);
        let error = refused.data("/setUp/userErrors/0");
        assert_eq!(error["field"], json!(["password"]));
        let rules: Vec<_> = error["unmet"].as_array().unwrap().iter().map(|rule| &rule["rule"]).collect();
        assert_eq!(rules, unmet, "{password:?}");
        for rule in error["unmet"].as_array().unwrap() {
            assert!(rule["message"].as_str().unwrap().ends_with('.'), "{rule} is no sentence");
        }
        assert!(password.is_empty() || !refused.body.to_string().contains(password), "{refused}");
    }
    assert_eq!(rows(&app).await, 0, "a refusal leaves nothing behind");
    app.set_up().await;
}

async fn faults_of_all_fields_are_told_at_once(app: App) {
    let input = json!({ "token": app.setup_token, "email": "ada at example.org", "displayName": " ",
                        "password": "swordfish", "organizationName": "x".repeat(81) });
    let refused = app.anonymous().mutate("setUp", input, "user { id }").await.refused("INVALID_INPUT");
    let mut faults: Vec<_> = refused
        .user_errors()
        .iter()
        .map(|error| format!("{} {}", error["field"][0], error["code"]))
        .collect();
    faults.sort();
    let expected = [
        r#""displayName" "INVALID_INPUT""#,
        r#""email" "INVALID_INPUT""#,
        r#""organizationName" "INVALID_INPUT""#,
        r#""password" "WEAK_PASSWORD""#,
    ];
    assert_eq!(faults, expected, "{refused}");
    assert_eq!(rows(&app).await, 0);
}

async fn of_many_who_set_up_at_once_one_does(app: App) {
    let nobody = app.anonymous();
    let tries = (0..6).map(|number| {
        let input = json!({ "token": app.setup_token, "email": format!("ada{number}@example.org"),
            "displayName": "Ada", "password": PASSWORD, "organizationName": format!("Engines {number}") });
        nobody.mutate("setUp", input, "user { id }")
    });
    let answers = join_all(tries).await;
    let (made, late): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.user_errors().is_empty());
    assert_eq!(made.len(), 1, "{made:?}");
    for answer in late {
        answer.refused("SETUP_DONE");
    }
    assert_eq!(app.number("SELECT count(*) FROM users").await, 1);
    assert_eq!(app.number("SELECT count(*) FROM workspaces").await, 1);
}

/// The whole answer to a sign-in but for what differs between any two requests.
async fn bare_sign_in(actor: &Actor, email: &str, password: &str) -> (StatusCode, String, Vec<String>) {
    let input = json!({ "email": email, "password": password });
    let body = json!({ "query": SIGN_IN, "variables": { "input": input } }).to_string();
    let request = Request::post(format!("{}/graphql", actor.url))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Bytes::from(body))
        .unwrap();
    let page = actor.http(request).await;
    let headers = page
        .headers
        .iter()
        .filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()))
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
    (page.status, page.text().to_owned(), headers.collect())
}

async fn unknown_address_and_wrong_password_answer_alike(app: App) {
    let ada = app.set_up().await;
    let bob = app.person("bob@example.org", "Bob").await;
    app.sql(&format!("UPDATE users SET status = 'DISABLED' WHERE id = {}", app.literal(&bob.id))).await;
    let nobody = app.anonymous();
    let wrong = bare_sign_in(&nobody, &ada.email, "granite otter violin 8 lantern").await;
    assert!(wrong.1.contains("INVALID_CREDENTIALS"), "{}", wrong.1);
    for (email, password) in [
        ("nobody@example.org", PASSWORD),
        ("bob@example.org", "not the password of Bob"),
        ("not an address", PASSWORD),
        ("", ""),
        ("ada@example.org", ""),
        ("ada@example.org", &"x".repeat(100_000)),
        ("ada@example.org\0", PASSWORD),
    ] {
        assert_eq!(bare_sign_in(&nobody, email, password).await, wrong, "{email:?}");
    }
    // What is asked of the database does not depend on it either.
    let statements = app.count(async || _ = sign_in(&nobody, &ada.email, "wrong").await).await;
    let unknown = app.count(async || _ = sign_in(&nobody, "nobody@example.org", "wrong").await).await;
    assert_eq!(statements, unknown);
}

async fn unknown_address_takes_the_time_of_a_wrong_password(app: App) {
    let ada = app.set_up().await;
    let nobody = app.anonymous();
    let timed = async |email: &str| {
        let started = Instant::now();
        sign_in(&nobody, email, "granite otter violin 8 lantern").await.refused("INVALID_CREDENTIALS");
        started.elapsed()
    };
    let (mut known, mut unknown, mut malformed) = (Duration::MAX, Duration::MAX, Duration::MAX);
    // The fastest of several in turns: other work on the machine only ever adds.
    for _ in 0..7 {
        known = known.min(timed(&ada.email).await);
        unknown = unknown.min(timed("nobody@example.org").await);
        malformed = malformed.min(timed("nobody").await);
    }
    // Without the hash it would be a twentieth.
    for other in [unknown, malformed] {
        assert!(other > known / 3 && other < known * 3, "{known:?}, {unknown:?}, {malformed:?}");
    }
}

async fn an_address_signs_in_in_any_case(app: App) {
    let ada = app.set_up().await;
    for email in ["ADA@EXAMPLE.ORG", " Ada@Example.org ", "ada@example.ORG"] {
        let answer = sign_in(&app.anonymous(), email, PASSWORD).await.ok();
        assert_eq!(answer.text("/signIn/user/id"), ada.id);
    }
    // A password is not an address: case and spaces count.
    sign_in(&app.anonymous(), &ada.email, &PASSWORD.to_uppercase()).await.refused("INVALID_CREDENTIALS");
    sign_in(&app.anonymous(), &ada.email, &format!(" {PASSWORD}")).await.refused("INVALID_CREDENTIALS");
}

async fn disabled_person_is_told_so_only_with_the_right_password(app: App) {
    app.set_up().await;
    let eve = app.person("eve@example.org", "Eve").await;
    app.sql(&format!("UPDATE users SET status = 'DISABLED' WHERE id = {}", app.literal(&eve.id))).await;
    let nobody = app.anonymous();
    sign_in(&nobody, &eve.email, "not the password of Eve").await.refused("INVALID_CREDENTIALS");
    let sessions = app.number("SELECT count(*) FROM sessions").await;
    let refused = sign_in(&nobody, &eve.email, PASSWORD).await.refused("USER_DISABLED");
    assert_eq!(refused.data("/signIn/session"), &Value::Null);
    assert_eq!(app.number("SELECT count(*) FROM sessions").await, sessions);
    // What was open before is closed as well.
    assert_eq!(eve.query(VIEWER, json!({})).await.ok().data("/viewer"), &Value::Null);
    eve.mutate("updateProfile", json!({ "displayName": "E" }), "user { id }").await.denied("UNAUTHENTICATED");
    let input = json!({ "refreshToken": eve.refresh_token });
    nobody.mutate("refreshSession", input, "session { accessToken }").await.refused("SESSION_INVALID");
}

async fn too_many_tries_of_a_password_have_to_wait(app: App) {
    let ada = app.set_up().await;
    let nobody = app.anonymous();
    for _ in 0..3 {
        sign_in(&nobody, &ada.email, "wrong").await.refused("INVALID_CREDENTIALS");
    }
    // The right one has to wait as well: otherwise the limit would tell which it is.
    let refused = sign_in(&nobody, &ada.email.to_uppercase(), PASSWORD).await.refused("RATE_LIMITED");
    let message = refused.text("/signIn/userErrors/0/message");
    let seconds: u64 = message.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
    assert!((1..=60).contains(&seconds), "{message}");
    assert_eq!(refused.data("/signIn/user"), &Value::Null);
    // Nobody else has to.
    sign_in(&nobody, "nobody@example.org", "wrong").await.refused("INVALID_CREDENTIALS");

    // The current password is a password too.
    let input = json!({ "currentPassword": "wrong", "newPassword": "violet kayak summit 9 ember" });
    for _ in 0..3 {
        ada.mutate("changePassword", input.clone(), "").await.refused("INVALID_CREDENTIALS");
    }
    ada.mutate("changePassword", input, "").await.refused("RATE_LIMITED");
}

async fn profile_is_changed_whole_or_not_at_all(app: App) {
    let ada = app.set_up().await;
    let change = async |actor: &Actor, name: &str| {
        actor.mutate("updateProfile", json!({ "displayName": name }), "user { displayName email }").await
    };
    // Composed and with single spaces, however it was typed.
    let answer = change(&ada, "  Ada   Lovee\u{301}lace ").await.ok();
    assert_eq!(
        answer.data("/updateProfile/user"),
        &json!({ "displayName": "Ada Loveélace", "email": "ada@example.org" })
    );
    for bad in ["", " ", "A\r\nBcc: x@y.z", "A\u{202E}B", "A\u{0}", "=?utf-8?Q?Ada?=", &"x".repeat(81)] {
        let refused = change(&ada, bad).await.refused("INVALID_INPUT");
        assert_eq!(refused.data("/updateProfile/userErrors/0/field"), &json!(["displayName"]), "{bad:?}");
        assert_eq!(refused.data("/updateProfile/user"), &Value::Null);
    }
    let seen = ada.query(VIEWER, json!({})).await.ok();
    assert_eq!(seen.text("/viewer/user/displayName"), "Ada Loveélace");
    // Who searches finds the new name, in any case.
    let search = "query($id: ID!, $q: String!) { searchUsers(workspaceId: $id, query: $q) { displayName } }";
    let lab = app.default_workspace();
    let found = ada.query(search, json!({ "id": lab.id, "q": "LOVEÉ" })).await.ok();
    assert_eq!(found.len("/searchUsers"), 1, "{found}");
    change(&app.anonymous(), "Nobody").await.denied("UNAUTHENTICATED");
}

async fn new_password_ends_the_other_sessions_and_keeps_this_one(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let phone = ada.again().await;
    let mut here = ada.subscribe(CHANGES, json!({ "id": lab.id })).await;
    let mut there = phone.subscribe(CHANGES, json!({ "id": lab.id })).await;

    let fresh = "violet kayak summit 9 ember";
    let input = json!({ "currentPassword": PASSWORD, "newPassword": fresh });
    let selection = "viewer { user { email } sessions { totalCount nodes { isCurrent } } }";
    let changed = ada.mutate("changePassword", input, selection).await.ok();
    assert_eq!(
        changed.data("/changePassword/viewer/sessions"),
        &json!({ "totalCount": 1, "nodes": [{ "isCurrent": true }] })
    );

    assert_eq!(phone.query(VIEWER, json!({})).await.ok().data("/viewer"), &Value::Null);
    phone.invite(&lab, "eve@example.org", "VIEWER").await.denied("UNAUTHENTICATED");
    let input = json!({ "refreshToken": phone.refresh_token });
    app.anonymous().mutate("refreshSession", input, "").await.refused("SESSION_INVALID");
    match there.ended().await {
        End::Errors(errors) => assert_eq!(errors[0]["extensions"]["code"], "UNAUTHENTICATED", "{errors:?}"),
        other => panic!("{other:?}"),
    }

    ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    assert_eq!(here.next().await.ok().data("/invitationStatusChanged/status"), "PENDING");
    let input = json!({ "refreshToken": ada.refresh_token });
    app.anonymous().mutate("refreshSession", input, "session { accessToken }").await.ok();

    sign_in(&app.anonymous(), &ada.email, PASSWORD).await.refused("INVALID_CREDENTIALS");
    sign_in(&app.anonymous(), &ada.email, fresh).await.ok();
}

async fn refused_password_change_changes_nothing(app: App) {
    let input = json!({ "token": app.setup_token, "email": "gwendolyn.fitzwilliam@example.org",
                        "displayName": "Bo Vrtochorkvany", "password": PASSWORD, "organizationName": "Engines" });
    app.anonymous().mutate("setUp", input, "").await.ok();
    let bo = Actor::sign_in(&app.url, "gwendolyn.fitzwilliam@example.org", PASSWORD).await;
    let phone = bo.again().await;
    let change = async |current: &str, new: &str| {
        let input = json!({ "currentPassword": current, "newPassword": new });
        bo.mutate("changePassword", input, "viewer { user { id } }").await
    };
    let refused = change("wrong", "violet kayak summit 9 ember").await.refused("INVALID_CREDENTIALS");
    assert_eq!(refused.data("/changePassword/userErrors/0/field"), &json!(["currentPassword"]));
    // Good for anybody else.
    for weak in ["Vrtochorkvany", "gwendolyn.fitzwilliam@example.org", "Gwendolyn.Fitzwilliam", "short", ""] {
        let refused = change(PASSWORD, weak).await.refused("WEAK_PASSWORD");
        assert_eq!(refused.data("/changePassword/userErrors/0/field"), &json!(["newPassword"]), "{weak}");
    }
    assert!(!phone.query(VIEWER, json!({})).await.ok().data("/viewer").is_null());
    bo.again().await;
    app.anonymous()
        .mutate("changePassword", json!({ "currentPassword": "a", "newPassword": "b" }), "")
        .await
        .denied("UNAUTHENTICATED");
}

async fn whoever_is_not_signed_in_has_no_view(app: App) {
    let ada = app.set_up().await;
    assert_eq!(app.anonymous().query(VIEWER, json!({})).await.ok().data("/viewer"), &Value::Null);
    // A token that was never good is told from none.
    let token = ada.access_token.clone().unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let reversed: String = signature.chars().rev().collect();
    for bad in ["x".to_owned(), format!("{signed}.{reversed}"), format!("{signed}."), format!("{token}x")] {
        let mut forged = ada.clone();
        forged.access_token = Some(bad);
        let refused = forged.query(VIEWER, json!({})).await.denied("UNAUTHENTICATED");
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{refused}");
    }
    ada.mutate("signOut", Value::Null, "signedOut").await.ok();
    assert_eq!(ada.query(VIEWER, json!({})).await.ok().data("/viewer"), &Value::Null);
    ada.mutate("updateProfile", json!({ "displayName": "A" }), "user { id }").await.denied("UNAUTHENTICATED");
}
