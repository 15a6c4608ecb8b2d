//! What people of the systems that this one takes after do with machines and sign-ins, from the first step to the last:
//! Ask-A-Question's workspace key, Blaxel's service accounts, Flowise's login activity. The rules behind each step have tests
//! of their own (`machines`, `activity`).

use chrono::{DateTime, TimeDelta, Utc};
use guildhall_domain::access::SystemRole;
use guildhall_tests::{Actor, App, actor::PASSWORD, both_databases};
use serde_json::json;

use crate::machines::{access_token, account};

both_databases!(
    App::start,
    ask_a_question_s_key_of_a_workspace_is_rotated_by_its_admin,
    blaxel_s_service_account_works_with_tokens_and_keys_until_it_is_deleted,
    flowise_s_login_activity_tells_an_admin_who_came_and_who_was_turned_away,
);

async fn ask_a_question_s_key_of_a_workspace_is_rotated_by_its_admin(app: App) {
    let ada = app.set_up().await;
    let clinic = ada.workspace("Clinic").await;
    let admin = app.member(&clinic, SystemRole::Admin, "Adam").await;
    let reader = app.member(&clinic, SystemRole::Viewer, "Vera").await;
    let key = "{ defaultApiKey { prefix createdAt rotatedAt createdBy { email } } }";
    let seen = format!("query($name: String!) {{ workspace(name: $name) {key} }}");
    let name = json!({ "name": clinic.name });
    assert!(admin.query(&seen, name.clone()).await.ok().data("/workspace/defaultApiKey").is_null());

    // Only an admin makes it; it is shown once, and from then on its first characters and when it was made.
    let input = json!({ "workspaceId": clinic.id });
    reader.mutate("rotateDefaultApiKey", input.clone(), "").await.denied("FORBIDDEN");
    let made = admin.mutate("rotateDefaultApiKey", input.clone(), "secret").await.ok();
    let first = made.text("/rotateDefaultApiKey/secret").to_owned();
    let told = admin.query(&seen, name.clone()).await.ok();
    assert!(first.starts_with(told.text("/workspace/defaultApiKey/prefix")));
    assert_eq!(told.data("/workspace/defaultApiKey/createdBy/email"), &json!(admin.email));
    assert!(told.text("/workspace/defaultApiKey/createdAt").parse::<DateTime<Utc>>().is_ok());
    reader.query(&seen, name.clone()).await.denied("FORBIDDEN");

    // The application that answers questions uses it, until another one takes its place.
    let ask = "query($name: String!) { workspace(name: $name) { displayName } }";
    let application = Actor::machine(&app.url, &first);
    assert_eq!(application.query(ask, name.clone()).await.ok().data("/workspace/displayName"), "Clinic");
    let made = admin.mutate("rotateDefaultApiKey", input, "secret").await.ok();
    let second = made.text("/rotateDefaultApiKey/secret").to_owned();
    assert_ne!(second, first);
    application.query(ask, name.clone()).await.denied("UNAUTHENTICATED");
    Actor::machine(&app.url, &second).query(ask, name.clone()).await.ok();
    // It outlives the admin who made it.
    let input = json!({ "organizationId": ada.organization().await, "userId": admin.id });
    ada.mutate("removeOrganizationMember", input, "").await.ok();
    Actor::machine(&app.url, &second).query(ask, name).await.ok();
}

async fn blaxel_s_service_account_works_with_tokens_and_keys_until_it_is_deleted(app: App) {
    let ada = app.set_up().await;
    let agents = ada.workspace("Agents").await;
    let (id, secret) = account(&ada, &agents, "Deployer", "EDITOR").await;
    assert!(id.starts_with("sva_"), "its client id is its own id: {id}");
    let token = Actor::machine(&app.url, &access_token(&app, &id, &secret).await);
    let describe = json!({ "workspaceId": agents.id, "description": "# Agents" });
    token.mutate("describeWorkspace", describe.clone(), "").await.ok();
    let invite = json!({ "workspaceId": agents.id, "email": "x@example.org", "role": "VIEWER" });
    token.mutate("inviteMember", invite, "").await.denied("FORBIDDEN");

    // A key of its own, with an end, for less than it may do itself.
    let end = (app.db().now() + TimeDelta::days(30)).to_rfc3339();
    let input = json!({ "workspaceId": agents.id, "serviceAccountId": id, "name": "CI",
                        "permissions": ["CONFIG_VIEW"], "expiresAt": end });
    let made = ada.mutate("createApiKey", input, "apiKey { id } secret").await.ok();
    let key = Actor::machine(&app.url, made.text("/createApiKey/secret"));
    let look = "query($name: String!) { workspace(name: $name) { viewerPermissions } }";
    let name = json!({ "name": agents.name });
    let held = key.query(look, name.clone()).await.ok();
    assert_eq!(held.data("/workspace/viewerPermissions"), &json!(["WORKSPACE_VIEW", "CONFIG_VIEW"]));
    key.mutate("describeWorkspace", describe, "").await.denied("FORBIDDEN");
    let list = "query($name: String!) { workspace(name: $name) { serviceAccounts { nodes {
        name role { key } apiKeys { nodes { name prefix permissions expiresAt createdBy { email } } } } } } }";
    let listed = ada.query(list, name.clone()).await.ok();
    let keys = "/workspace/serviceAccounts/nodes/0/apiKeys/nodes";
    assert_eq!((listed.len(keys), listed.data(&format!("{keys}/0/name"))), (1, &json!("CI")));

    // Another role holds at the next request, for its tokens and keys alike.
    let input =
        json!({ "workspaceId": agents.id, "serviceAccountId": id, "role": "VIEWER", "name": "Watcher" });
    ada.mutate("updateServiceAccount", input, "").await.ok();
    let describe = json!({ "workspaceId": agents.id, "description": "# Mine" });
    token.mutate("describeWorkspace", describe, "").await.denied("FORBIDDEN");
    // Deleted, it takes everything along within one request.
    let input = json!({ "workspaceId": agents.id, "serviceAccountId": id });
    ada.mutate("deleteServiceAccount", input, "").await.ok();
    for machine in [&token, &key] {
        machine.query(look, name.clone()).await.denied("UNAUTHENTICATED");
    }
}

async fn flowise_s_login_activity_tells_an_admin_who_came_and_who_was_turned_away(app: App) {
    let ada = app.set_up().await;
    let studio = ada.workspace("Studio").await;
    let eve = app.member(&studio, SystemRole::Editor, "Eve").await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    let began = app.db().now();
    let try_with = async |email: &str, password: &str| {
        app.anonymous().mutate("signIn", json!({ "email": email, "password": password }), "").await
    };
    try_with("nobody@example.org", PASSWORD).await.refused("INVALID_CREDENTIALS");
    try_with(&eve.email, "granite otter violin 8 lantern").await.refused("INVALID_CREDENTIALS");
    let device = eve.again().await;
    device.mutate("signOut", json!(null), "").await.ok();
    let on_eve = json!({ "organizationId": ada.organization().await, "userId": eve.id });
    ada.mutate("disableUser", on_eve.clone(), "").await.ok();
    try_with(&eve.email, PASSWORD).await.refused("USER_DISABLED");
    ada.mutate("enableUser", on_eve, "").await.ok();

    let activity = async |by: &Actor, organization: &str, filter: serde_json::Value| {
        let document = "query($id: ID!, $filter: LoginActivityFilter) { node(id: $id) { ... on Organization {
            loginActivity(first: 50, filter: $filter) { totalCount nodes { code user { email } } } } } }";
        by.query(document, json!({ "id": organization, "filter": filter })).await
    };
    let organization = ada.organization().await;
    let of = async |filter: serde_json::Value| {
        let told = activity(&ada, &organization, filter).await.ok();
        let nodes = told.data("/node/loginActivity/nodes").as_array().unwrap().clone();
        nodes.iter().map(|node| node["code"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // The newest first, of its own people alone: an address that nobody has is nobody's.
    let since = json!({ "from": began.to_rfc3339(), "userId": eve.id });
    assert_eq!(of(since).await, ["DISABLED", "LOGOUT", "LOGIN", "WRONG_PASSWORD"]);
    assert_eq!(of(json!({ "codes": ["WRONG_PASSWORD", "DISABLED"] })).await, ["DISABLED", "WRONG_PASSWORD"]);
    let later = (app.db().now() + TimeDelta::days(1)).to_rfc3339();
    assert!(of(json!({ "from": later })).await.is_empty());
    // Members do not read it, and another organization has another one.
    activity(&eve.again().await, &organization, json!({})).await.denied("FORBIDDEN");
    let theirs =
        activity(&olga, &olga.organization().await, json!({ "codes": ["WRONG_PASSWORD"] })).await.ok();
    assert_eq!(theirs.data("/node/loginActivity/totalCount"), 0);
}
