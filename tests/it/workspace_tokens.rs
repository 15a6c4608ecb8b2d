//! Tokens with which people and machines show other services who they are in a workspace, as such a service sees them: with
//! the published keys, or by asking.

use chrono::TimeDelta;
use guildhall_domain::access::SystemRole;
use guildhall_tests::{Actor, Answer, App, Workspace, both_databases};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};
use serde_json::{Value, json};

use crate::members::{membership, set_role};

both_databases!(
    App::start,
    a_service_reads_a_token_with_the_published_keys,
    a_new_signing_key_interrupts_nobody,
    a_service_asks_what_holds_now,
    machines_have_tokens_that_end_with_their_secret,
    there_is_none_for_an_archived_workspace,
);

async fn issue(by: &Actor, workspace: &Workspace, audience: Value) -> Answer {
    let input = json!({ "workspaceId": workspace.id, "audience": audience });
    by.mutate("issueWorkspaceToken", input, "token expiresAt").await
}

async fn token(by: &Actor, workspace: &Workspace) -> String {
    issue(by, workspace, Value::Null).await.ok().text("/issueWorkspaceToken/token").to_owned()
}

async fn published(app: &App) -> JwkSet {
    let page = app.anonymous().get("/.well-known/jwks.json").await;
    assert_eq!(page.headers["cache-control"], "no-cache");
    serde_json::from_slice(&page.body).unwrap()
}

/// What another service reads in a token, with nothing but the published keys.
async fn read(app: &App, token: &str, audience: &str) -> Option<Value> {
    let header = jsonwebtoken::decode_header(token).unwrap();
    assert_eq!((header.alg, header.typ.as_deref()), (Algorithm::EdDSA, Some("workspace+jwt")));
    let keys = published(app).await;
    let key = DecodingKey::from_jwk(keys.find(&header.kid.unwrap())?).unwrap();
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_audience(&[audience]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    jsonwebtoken::decode::<Value>(token, &key, &validation).ok().map(|decoded| decoded.claims)
}

/// What a service is told that holds neither account nor key.
async fn check(app: &App, token: &str, permissions: &[&str]) -> Value {
    let document = "query($token: String!, $permissions: [Permission!]!) {
        checkAccess(token: $token, permissions: $permissions) { isActive principalId workspaceId granted isAllowed } }";
    let variables = json!({ "token": token, "permissions": permissions });
    app.anonymous().query(document, variables).await.ok().data("/checkAccess").clone()
}

fn good_for_nothing() -> Value {
    json!({ "isActive": false, "principalId": null, "workspaceId": null, "granted": [], "isAllowed": false })
}

async fn a_service_reads_a_token_with_the_published_keys(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let eve = app.member(&lab, SystemRole::Editor, "Eve").await;
    let pipelines = "https://pipelines.example.org";
    let issued = issue(&eve, &lab, json!(pipelines)).await.ok();
    let text = issued.text("/issueWorkspaceToken/token");
    let claims = read(&app, text, pipelines).await.unwrap();
    assert_eq!(
        [&claims["sub"], &claims["workspace"], &claims["workspace_name"], &claims["role"], &claims["aud"]],
        [&json!(eve.id), &json!(lab.id), &json!(lab.name), &json!("EDITOR"), &json!(pipelines)]
    );
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3600);
    assert!(read(&app, text, "https://elsewhere.example.org").await.is_none());
    let damaged = format!("{}AAAA", &text[..text.len() - 4]);
    assert!(read(&app, &damaged, pipelines).await.is_none());
    // Whoever administers the organization is an Admin of it, member or not.
    let orla = app.person("orla@example.org", "Orla").await;
    let input = json!({ "organizationId": ada.organization().await, "userId": orla.id, "role": "ADMIN" });
    ada.mutate("updateOrganizationMember", input, "").await.ok();
    let audience = read(&app, &token(&orla, &lab).await, "guildhall").await.unwrap();
    assert_eq!(audience["role"], "ADMIN");
    // A service that names itself is not shown what was made for another one.
    let document = "query($token: String!, $audience: String) {
        checkAccess(token: $token, permissions: [], audience: $audience) { isActive audience } }";
    for (asks, told) in [
        (json!(pipelines), json!({ "isActive": true, "audience": pipelines })),
        (json!(null), json!({ "isActive": true, "audience": pipelines })),
        (json!("https://elsewhere.example.org"), json!({ "isActive": false, "audience": null })),
    ] {
        let answer = app.anonymous().query(document, json!({ "token": text, "audience": asks })).await.ok();
        assert_eq!(answer.data("/checkAccess"), &told);
    }
    // It opens nothing here.
    let document = "query($name: String!) { workspace(name: $name) { id } }";
    let as_bearer = Actor::machine(&app.url, text);
    as_bearer.query(document, json!({ "name": lab.name })).await.denied("UNAUTHENTICATED");
    app.stranger("olga@example.org", "Olga")
        .await
        .mutate("issueWorkspaceToken", json!({ "workspaceId": lab.id }), "")
        .await
        .denied("NOT_FOUND");
    for wrong in ["", "two words", "ümlaut"] {
        let refused = issue(&eve, &lab, json!(wrong)).await.refused("INVALID_INPUT");
        assert_eq!(refused.user_errors()[0]["field"], json!(["audience"]));
    }
}

async fn a_new_signing_key_interrupts_nobody(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let old = token(&ada, &lab).await;
    let kid = |token: &str| jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    let renewed = guildhall_persistence::workspace_tokens::rotate_key(app.db()).await.unwrap();
    let new = token(&ada, &lab).await;
    assert_eq!(kid(&new), renewed);
    assert_ne!(kid(&old), kid(&new));
    for token in [&old, &new] {
        assert!(read(&app, token, "guildhall").await.is_some());
        assert_eq!(check(&app, token, &[]).await["isActive"], true);
    }
    // When the last token of the old key has ended, nobody needs it.
    app.advance(TimeDelta::minutes(66));
    let ids: Vec<_> = published(&app).await.keys.into_iter().filter_map(|key| key.common.key_id).collect();
    assert_eq!(ids, [renewed]);
}

async fn a_service_asks_what_holds_now(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    app.stop_the_clock();
    let eve = app.member(&lab, SystemRole::Editor, "Eve").await;
    let text = token(&eve, &lab).await;
    let asked = ["FILE_READ", "CREDENTIAL_USE", "MEMBERS_MANAGE"];
    assert_eq!(
        check(&app, &text, &asked).await,
        json!({ "isActive": true, "principalId": eve.id, "workspaceId": lab.id,
                "granted": ["FILE_READ", "CREDENTIAL_USE"], "isAllowed": false })
    );
    assert_eq!(check(&app, &text, &["FILE_READ"]).await["isAllowed"], true);
    set_role(&ada, &lab, &membership(&lab, &eve).await, "VIEWER").await.ok();
    assert_eq!(check(&app, &text, &asked).await["granted"], json!(["FILE_READ"]));
    // After an hour, without the session, without the membership: nothing, and no word why.
    let later = token(&eve, &lab).await;
    app.advance(TimeDelta::minutes(59));
    assert_eq!(check(&app, &later, &[]).await["isActive"], true);
    app.advance(TimeDelta::minutes(1));
    assert_eq!(check(&app, &later, &asked).await, good_for_nothing());
    let (eve, ada) = (eve.again().await, ada.again().await);
    let other = eve.again().await;
    let (of_session, of_member) = (token(&other, &lab).await, token(&eve, &lab).await);
    other.mutate("signOut", Value::Null, "").await.ok();
    assert_eq!(check(&app, &of_session, &asked).await, good_for_nothing());
    assert_eq!(check(&app, &of_member, &[]).await["isActive"], true);
    let lab = Workspace { admin: ada.clone(), ..lab };
    let input = json!({ "workspaceId": lab.id, "memberId": membership(&lab, &eve).await });
    ada.mutate("removeMember", input, "").await.ok();
    assert_eq!(check(&app, &of_member, &asked).await, good_for_nothing());
    // Tokens of other kinds, and none at all.
    let access = eve.access_token.clone().unwrap();
    for wrong in [access.as_str(), "", "a.b.c", "ghk_wrong"] {
        assert_eq!(check(&app, wrong, &asked).await, good_for_nothing());
    }
}

async fn machines_have_tokens_that_end_with_their_secret(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let (id, secret) = crate::machines::account(&ada, &lab, "Nightly", "EDITOR").await;
    let nightly = Actor::machine(&app.url, &crate::machines::access_token(&app, &id, &secret).await);
    let of_account = token(&nightly, &lab).await;
    let claims = read(&app, &of_account, "guildhall").await.unwrap();
    assert_eq!((&claims["sub"], &claims["role"]), (&json!(id), &json!("EDITOR")));
    let (key, text) = crate::machines::key(&ada, &lab, &["FILE_READ"]).await;
    let of_key = token(&Actor::machine(&app.url, &text), &lab).await;
    let claims = read(&app, &of_key, "guildhall").await.unwrap();
    assert_eq!((&claims["sub"], claims.get("role")), (&json!(key), None));
    // A key of an account that could do anything is limited all the same, and says so to others.
    let input =
        json!({ "workspaceId": lab.id, "serviceAccountId": id, "name": "CI", "permissions": ["FILE_READ"] });
    let limited = ada.mutate("createApiKey", input, "secret").await.ok();
    let limited = token(&Actor::machine(&app.url, limited.text("/createApiKey/secret")), &lab).await;
    assert_eq!(read(&app, &limited, "guildhall").await.unwrap().get("role"), None);
    let asked = ["FILE_READ", "FILE_WRITE"];
    assert_eq!(check(&app, &of_account, &asked).await["granted"], json!(asked));
    for shown in [&of_key, &text] {
        let told = check(&app, shown, &asked).await;
        assert_eq!((&told["principalId"], &told["granted"]), (&json!(key), &json!(["FILE_READ"])));
    }
    let input = json!({ "workspaceId": lab.id, "apiKeyId": key, "overlapMinutes": 5 });
    ada.mutate("rotateApiKey", input, "").await.ok();
    assert_eq!(
        check(&app, &of_key, &asked).await["isActive"],
        true,
        "the old secret is good for five minutes"
    );
    ada.mutate("rotateApiKey", json!({ "workspaceId": lab.id, "apiKeyId": key }), "").await.ok();
    for shown in [&of_key, &text] {
        assert_eq!(check(&app, shown, &asked).await, good_for_nothing());
    }
    let input = json!({ "workspaceId": lab.id, "serviceAccountId": id });
    ada.mutate("rotateServiceAccountSecret", input, "").await.ok();
    assert_eq!(check(&app, &of_account, &asked).await, good_for_nothing());
}

async fn there_is_none_for_an_archived_workspace(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let before = token(&ada, &lab).await;
    ada.mutate("archiveWorkspace", json!({ "workspaceId": lab.id }), "").await.ok();
    issue(&ada, &lab, Value::Null).await.refused("WORKSPACE_ARCHIVED");
    assert_eq!(check(&app, &before, &["FILE_READ"]).await, good_for_nothing());
    ada.mutate("restoreWorkspace", json!({ "workspaceId": lab.id }), "").await.ok();
    assert_eq!(check(&app, &before, &["FILE_READ"]).await["isAllowed"], true);
}
