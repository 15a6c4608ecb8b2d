//! Signed-in devices through the API: the rotation of refresh tokens, and how sessions end.

use bytes::Bytes;
use chrono::TimeDelta;
use futures_util::future::join_all;
use guildhall_tests::{Actor, Answer, App, both_databases, subscription::End};
use http::{Request, StatusCode, header};
use serde_json::{Value, json};

both_databases!(
    App::start,
    each_refresh_gives_the_next_tokens,
    ten_tabs_that_refresh_at_once_all_go_on,
    replay_after_the_grace_ends_the_family,
    replay_of_an_older_token_ends_the_family_at_once,
    forged_token_ends_nothing,
    unused_session_expires,
    signing_out_ends_this_session_alone,
    own_session_is_revoked_and_no_other,
    sessions_are_listed_as_they_are,
    access_token_carries_no_rights,
    open_subscriptions_end_with_their_session,
);

const CHANGES: &str = "subscription($id: ID!) { invitationStatusChanged(workspaceId: $id) { status } }";
const SESSIONS: &str =
    "{ viewer { sessions { totalCount nodes { id isCurrent device ip createdAt expiresAt } } } }";

async fn refresh(app: &App, token: &str) -> Answer {
    let selection = "session { accessToken refreshToken expiresAt refreshExpiresAt }";
    app.anonymous().mutate("refreshSession", json!({ "refreshToken": token }), selection).await
}

async fn refreshed(app: &App, actor: &Actor) -> Actor {
    let answer = refresh(app, actor.refresh_token.as_deref().unwrap()).await.ok();
    let mut next = actor.clone();
    next.access_token = Some(answer.text("/refreshSession/session/accessToken").to_owned());
    next.refresh_token = Some(answer.text("/refreshSession/session/refreshToken").to_owned());
    next
}

async fn is_signed_in(actor: &Actor) -> bool {
    !actor.query("{ viewer { user { id } } }", json!({})).await.ok().data("/viewer").is_null()
}

/// Nothing that the session ever gave out is good for anything.
async fn assert_dead(app: &App, tokens: &[&Actor]) {
    for actor in tokens {
        assert!(!is_signed_in(actor).await);
        refresh(app, actor.refresh_token.as_deref().unwrap()).await.refused("SESSION_INVALID");
        actor.mutate("signOut", Value::Null, "signedOut").await.denied("UNAUTHENTICATED");
    }
}

async fn each_refresh_gives_the_next_tokens(app: App) {
    let first = app.set_up().await;
    // Tokens that are made within one second are the same text.
    app.advance(TimeDelta::seconds(2));
    let second = refreshed(&app, &first).await;
    app.advance(TimeDelta::seconds(2));
    let third = refreshed(&app, &second).await;
    for (one, next) in [(&first, &second), (&second, &third)] {
        assert_ne!(one.access_token, next.access_token);
        assert_ne!(one.refresh_token, next.refresh_token);
    }
    // Of one session: nothing was opened anew, and access tokens last their time.
    for actor in [&first, &second, &third] {
        let seen = actor.query(SESSIONS, json!({})).await.ok();
        assert_eq!(seen.data("/viewer/sessions/totalCount"), 1);
        assert_eq!(seen.data("/viewer/sessions/nodes/0/isCurrent"), true);
    }
    let before = third.query(SESSIONS, json!({})).await.ok();
    app.advance(TimeDelta::minutes(14));
    let fourth = refreshed(&app, &third).await;
    let after = fourth.query(SESSIONS, json!({})).await.ok();
    let expires = |answer: &Answer| answer.text("/viewer/sessions/nodes/0/expiresAt").to_owned();
    assert!(expires(&after) > expires(&before), "a session that is used goes on");
}

async fn ten_tabs_that_refresh_at_once_all_go_on(app: App) {
    let ada = app.set_up().await;
    let token = ada.refresh_token.clone().unwrap();
    let answers = join_all((0..10).map(|_| refresh(&app, &token))).await;
    let next: Vec<_> = answers
        .into_iter()
        .map(|answer| answer.ok().text("/refreshSession/session/refreshToken").to_owned())
        .collect();
    assert!(next.iter().all(|token| *token == next[0]), "{next:?}");
    assert_ne!(next[0], token);
    let mut on = ada;
    on.refresh_token = Some(next[0].clone());
    assert!(is_signed_in(&refreshed(&app, &on).await).await);
}

async fn replay_after_the_grace_ends_the_family(app: App) {
    app.stop_the_clock();
    let first = app.set_up().await;
    let other = first.again().await;
    let second = refreshed(&app, &first).await;
    app.advance(TimeDelta::seconds(29));
    let again = refreshed(&app, &first).await;
    assert_eq!(again.refresh_token, second.refresh_token, "within the grace the answer is the same");
    assert!(is_signed_in(&second).await);

    app.advance(TimeDelta::seconds(2));
    refresh(&app, first.refresh_token.as_deref().unwrap()).await.refused("SESSION_INVALID");
    assert_dead(&app, &[&first, &second, &again]).await;
    assert!(is_signed_in(&other).await, "another device is another family");
}

async fn replay_of_an_older_token_ends_the_family_at_once(app: App) {
    let first = app.set_up().await;
    let lab = first.workspace("Lab").await;
    let second = refreshed(&app, &first).await;
    let third = refreshed(&app, &second).await;
    let mut changes = third.subscribe(CHANGES, json!({ "id": lab.id })).await;
    refresh(&app, first.refresh_token.as_deref().unwrap()).await.refused("SESSION_INVALID");
    assert_dead(&app, &[&third, &second, &first]).await;
    assert_signed_out(&changes.ended().await);
}

async fn forged_token_ends_nothing(app: App) {
    let ada = app.set_up().await;
    let token = ada.refresh_token.clone().unwrap();
    let flipped = |place: usize| {
        let mut bytes = token.clone().into_bytes();
        bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).unwrap()
    };
    // The session's id comes first, then the generation, then the signature.
    for forged in [
        flipped(token.len() - 5),
        flipped(token.len() / 2),
        flipped(26),
        flipped(8),
        String::new(),
        "ghr_".to_owned(),
        token.trim_start_matches("ghr_").to_owned(),
        format!("{token}="),
        format!("{token}A"),
        format!(" {token}"),
        token[..token.len() - 1].to_owned(),
        "x".repeat(100_000),
        ada.access_token.clone().unwrap(),
    ] {
        let refused = refresh(&app, &forged).await.refused("SESSION_INVALID");
        assert_eq!(refused.data("/refreshSession/session"), &Value::Null);
    }
    assert!(is_signed_in(&ada).await);
    refreshed(&app, &ada).await;
}

async fn unused_session_expires(app: App) {
    app.stop_the_clock();
    let ada = app.set_up().await;
    app.advance(TimeDelta::minutes(15) - TimeDelta::seconds(2));
    assert!(is_signed_in(&ada).await);
    app.advance(TimeDelta::seconds(3));
    let expired = ada.query("{ viewer { user { id } } }", json!({})).await.denied("UNAUTHENTICATED");
    assert_eq!(expired.status, StatusCode::UNAUTHORIZED);
    assert!(expired.errors()[0]["message"].as_str().unwrap().contains("expired"), "{expired}");

    // Use goes on where it left off, up to the session's own end, which each use moves.
    app.advance(TimeDelta::days(29));
    let later = refreshed(&app, &ada).await;
    app.advance(TimeDelta::days(29));
    let last = refreshed(&app, &later).await;
    app.advance(TimeDelta::days(30));
    refresh(&app, last.refresh_token.as_deref().unwrap()).await.refused("SESSION_INVALID");
    let seen = ada.again().await.query(SESSIONS, json!({})).await.ok();
    assert_eq!(seen.data("/viewer/sessions/totalCount"), 1, "an expired session is not listed: {seen}");
}

async fn signing_out_ends_this_session_alone(app: App) {
    let ada = app.set_up().await;
    let phone = ada.again().await;
    let answer = ada.mutate("signOut", Value::Null, "signedOut").await.ok();
    assert_eq!(answer.data("/signOut/signedOut"), true);
    assert_dead(&app, &[&ada]).await;
    assert!(is_signed_in(&phone).await);
    refreshed(&app, &phone).await;
    app.anonymous().mutate("signOut", Value::Null, "signedOut").await.denied("UNAUTHENTICATED");
}

fn current(answer: &Answer) -> String {
    let nodes = answer.data("/viewer/sessions/nodes").as_array().unwrap();
    let mut current = nodes.iter().filter(|session| session["isCurrent"] == true);
    let id = current.next().unwrap()["id"].as_str().unwrap().to_owned();
    assert!(current.next().is_none(), "{answer}");
    id
}

async fn own_session_is_revoked_and_no_other(app: App) {
    let ada = app.set_up().await;
    let eve = app.person("eve@example.org", "Eve").await;
    let (phone, tablet) = (ada.again().await, ada.again().await);
    let foreign = current(&eve.query(SESSIONS, json!({})).await.ok());
    let phones = current(&phone.query(SESSIONS, json!({})).await.ok());
    let tablets = current(&tablet.query(SESSIONS, json!({})).await.ok());

    let input = json!({ "sessionId": phones });
    let selection = "sessionId viewer { sessions { totalCount nodes { id } } }";
    let revoked = ada.mutate("revokeSession", input, selection).await.ok();
    assert_eq!(revoked.text("/revokeSession/sessionId"), phones);
    assert_eq!(revoked.data("/revokeSession/viewer/sessions/totalCount"), 2);
    assert_dead(&app, &[&phone]).await;
    assert!(is_signed_in(&tablet).await);

    // Another person's, one that never was and one that has ended: nobody learns which.
    let bare = async |id: &str| {
        let document = "mutation($input: RevokeSessionInput!) {
            revokeSession(input: $input) { sessionId userErrors { code message field } }
        }";
        let body = json!({ "query": document, "variables": { "input": { "sessionId": id } } });
        let request = Request::post(format!("{}/graphql", app.url))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {}", ada.access_token.as_deref().unwrap()))
            .body(Bytes::from(body.to_string()));
        ada.http(request.unwrap()).await.text().to_owned()
    };
    let unknown = bare("ses_0190b7e2d3c47a8e9f00112233445566").await;
    assert!(unknown.contains("NOT_FOUND"), "{unknown}");
    assert_eq!(bare(&foreign).await, unknown);
    assert_eq!(bare(&phones).await, unknown);
    assert!(is_signed_in(&eve).await);
    for bad in ["", "ses_", "usr_0190b7e2d3c47a8e9f00112233445566", &ada.id, "ses_\u{0}"] {
        let refused = ada.mutate("revokeSession", json!({ "sessionId": bad }), "").await;
        let refused = refused.refused("INVALID_INPUT");
        assert_eq!(refused.data("/revokeSession/userErrors/0/field"), &json!(["sessionId"]));
    }

    // The one that asks can end itself.
    tablet.mutate("revokeSession", json!({ "sessionId": tablets }), "sessionId").await.ok();
    assert_dead(&app, &[&tablet]).await;
    assert!(is_signed_in(&ada).await);
}

async fn sessions_are_listed_as_they_are(app: App) {
    let ada = app.set_up().await;
    let eve = app.person("eve@example.org", "Eve").await;
    let phone = ada.again().await;
    let (here, there) =
        (ada.query(SESSIONS, json!({})).await.ok(), phone.query(SESSIONS, json!({})).await.ok());
    assert_eq!(here.data("/viewer/sessions/totalCount"), 2);
    assert_ne!(current(&here), current(&there));
    let ids = |answer: &Answer| -> Vec<Value> {
        answer
            .data("/viewer/sessions/nodes")
            .as_array()
            .unwrap()
            .iter()
            .map(|node| node["id"].clone())
            .collect()
    };
    assert_eq!(ids(&here), ids(&there), "the oldest first, for whoever asks");
    assert_eq!(here.data("/viewer/sessions/nodes/0/ip"), "127.0.0.1");
    assert_eq!(eve.query(SESSIONS, json!({})).await.ok().data("/viewer/sessions/totalCount"), 1);

    // As a node, each is its owner's alone.
    let node = "query($id: ID!) { node(id: $id) { ... on Session { isCurrent } } }";
    let id = json!({ "id": ids(&here)[1] });
    assert_eq!(ada.query(node, id.clone()).await.ok().data("/node/isCurrent"), false);
    assert_eq!(eve.query(node, id).await.body["data"]["node"], Value::Null);

    // The device is what it says of itself, cut to a length that can be shown.
    let body = json!({ "query": "mutation($input: SignInInput!) { signIn(input: $input) { session { accessToken } } }",
                       "variables": { "input": { "email": ada.email, "password": ada.password } } });
    let request = Request::post(format!("{}/graphql", app.url))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, "Teapot/1 ".repeat(100))
        .body(Bytes::from(body.to_string()));
    ada.http(request.unwrap()).await;
    let seen = ada.query(SESSIONS, json!({})).await.ok();
    let device = seen.text("/viewer/sessions/nodes/2/device");
    assert!(device.starts_with("Teapot/1 ") && device.len() <= 200, "{device}");
}

/// The JSON of one part of a token.
fn decoded(part: &str) -> Value {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for letter in part.bytes() {
        let value = ALPHABET.iter().position(|known| *known == letter).expect("base64url");
        bits = bits << 6 | u32::try_from(value).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap());
        }
    }
    serde_json::from_slice(&bytes).unwrap()
}

async fn access_token_carries_no_rights(app: App) {
    let ada = app.set_up().await;
    let token = ada.access_token.as_deref().unwrap();
    let parts: Vec<_> = token.split('.').collect();
    let (header, payload) = (decoded(parts[0]), decoded(parts[1]));
    let keys = |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(keys(&payload), ["aud", "exp", "iat", "iss", "sid", "sub"], "{payload}");
    assert_eq!((&payload["iss"], &payload["aud"]), (&json!("guildhall"), &json!("guildhall")));
    assert_eq!(payload["sub"].as_str().unwrap().replace('-', ""), ada.id.trim_start_matches("usr_"));
    assert_eq!(payload["exp"].as_i64().unwrap() - payload["iat"].as_i64().unwrap(), 15 * 60);
    assert_eq!(header["alg"], "HS256");
    assert!(header["kid"].is_string(), "{header}");

    // What the token says of the algorithm is not believed.
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    for token in [format!("{none}.{}.", parts[1]), format!("{none}.{}.{}", parts[1], parts[2])] {
        let mut forged = ada.clone();
        forged.access_token = Some(token);
        forged.query("{ viewer { user { id } } }", json!({})).await.denied("UNAUTHENTICATED");
    }
}

#[track_caller]
fn assert_signed_out(end: &End) {
    match end {
        End::Errors(errors) => assert_eq!(errors[0]["extensions"]["code"], "UNAUTHENTICATED", "{errors:?}"),
        other => panic!("expected the end of a session, but: {other:?}"),
    }
}

async fn open_subscriptions_end_with_their_session(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let (phone, tablet) = (ada.again().await, ada.again().await);
    let mine = "subscription { viewerInvitationChanged { status } }";
    let mut on_phone = phone.subscribe(CHANGES, json!({ "id": lab.id })).await;
    let mut own_on_phone = phone.subscribe(mine, json!({})).await;
    let mut on_tablet = tablet.subscribe(CHANGES, json!({ "id": lab.id })).await;
    let mut here = ada.subscribe(CHANGES, json!({ "id": lab.id })).await;

    let phones = current(&phone.query(SESSIONS, json!({})).await.ok());
    ada.mutate("revokeSession", json!({ "sessionId": phones }), "").await.ok();
    assert_signed_out(&on_phone.ended().await);
    tablet.mutate("signOut", Value::Null, "signedOut").await.ok();
    assert_signed_out(&on_tablet.ended().await);
    own_on_phone.next().await.denied("UNAUTHENTICATED");
    assert_eq!(own_on_phone.ended().await, End::Complete);
    ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    assert_eq!(here.next().await.ok().data("/invitationStatusChanged/status"), "PENDING");

    // Nobody starts one with the token of an ended session.
    let mut late = phone.subscribe(CHANGES, json!({ "id": lab.id })).await;
    late.next().await.denied("UNAUTHENTICATED");
}
