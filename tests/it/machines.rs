//! Service accounts and API keys at work: what they may do, how their secrets are handed out and renewed, and that nothing
//! of them is left once they end.

use std::collections::BTreeSet;

use bytes::Bytes;
use chrono::{SecondsFormat, TimeDelta};
use futures_util::future::join_all;
use guildhall_domain::access::{System, SystemRole};
use guildhall_tests::{
    Actor, Answer, App, Workspace,
    actor::Page,
    both_databases,
    databases::{Engine, run},
    subscription::{End, Subscription},
};
use http::{Request, StatusCode, header};
use serde_json::{Value, json};

use crate::members::membership;

both_databases!(
    App::start,
    a_service_account_works_with_a_token_for_its_secret,
    a_new_secret_ends_the_tokens_got_with_the_old_one,
    another_role_holds_at_the_next_request,
    the_default_key_is_rotated_and_the_old_one_is_dead_at_once,
    a_key_gives_what_it_names_and_its_account_holds,
    nobody_hands_out_what_they_lack,
    an_overlap_keeps_the_old_secret_for_its_time,
    a_key_ends_by_itself_and_by_the_policy,
    what_a_key_makes_ends_no_later_than_itself,
    a_stricter_policy_holds_from_the_next_secret_on,
    keys_outlive_who_made_them_and_die_with_their_workspace,
    an_archived_workspace_refuses_keys,
    subscriptions_of_a_machine_end_with_it,
    a_machine_has_nothing_that_people_have,
    made_up_and_damaged_keys_are_refused_without_a_statement,
    a_use_of_a_credential_names_the_machine,
    when_a_machine_was_here_last_is_told,
    a_role_of_a_service_account_is_given_up_for_another,
    of_many_rotations_at_once_the_last_one_is_good,
    names_of_service_accounts_differ,
    lists_show_what_is_good_and_what_has_ended,
    only_hashes_of_secrets_are_kept,
    a_token_endpoint_speaks_oauth,
);

const ACCOUNT: &str = "serviceAccount { id clientId name description role { key } secretPrefix createdBy { email } } clientSecret";
const KEY: &str =
    "apiKey { id name prefix status permissions isDefault serviceAccount { id } createdBy { email } createdAt
    rotatedAt previousValidUntil expiresAt revokedAt lastUsedAt } secret";

/// Whoever shows that secret or token.
fn machine(app: &App, secret: &str) -> Actor {
    Actor::machine(&app.url, secret)
}

/// A service account: its id and its secret.
pub(crate) async fn account(by: &Actor, workspace: &Workspace, name: &str, role: &str) -> (String, String) {
    let input = json!({ "workspaceId": workspace.id, "name": name, "role": role });
    let made = by.mutate("createServiceAccount", input, ACCOUNT).await.ok();
    let text = |pointer: &str| made.text(&format!("/createServiceAccount/{pointer}")).to_owned();
    (text("serviceAccount/id"), text("clientSecret"))
}

async fn create_key(by: &Actor, workspace: &Workspace, permissions: &[&str], rest: Value) -> Answer {
    let mut input = json!({ "workspaceId": workspace.id, "name": "CI", "permissions": permissions });
    for (name, value) in rest.as_object().into_iter().flatten() {
        input[name] = value.clone();
    }
    by.mutate("createApiKey", input, KEY).await
}

/// A key: its id and its secret.
pub(crate) async fn key(by: &Actor, workspace: &Workspace, permissions: &[&str]) -> (String, String) {
    let made = create_key(by, workspace, permissions, Value::Null).await.ok();
    (made.text("/createApiKey/apiKey/id").to_owned(), made.text("/createApiKey/secret").to_owned())
}

async fn ask_token(app: &App, form: &str, authorization: Option<&str>) -> Page {
    let mut request = Request::post(format!("{}/oauth/token", app.url))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    if let Some(authorization) = authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    app.anonymous().http(request.body(Bytes::from(form.to_owned())).unwrap()).await
}

async fn token_for(app: &App, id: &str, secret: &str) -> Page {
    let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
    ask_token(app, &form, None).await
}

/// An access token of the service account.
pub(crate) async fn access_token(app: &App, id: &str, secret: &str) -> String {
    let page = token_for(app, id, secret).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text());
    let body: Value = serde_json::from_slice(&page.body).unwrap();
    body["access_token"].as_str().unwrap().to_owned()
}

/// The service account with an access token.
async fn signed_in(app: &App, (id, secret): &(String, String)) -> Actor {
    machine(app, &access_token(app, id, secret).await)
}

async fn describe(by: &Actor, workspace: &Workspace) -> Answer {
    by.mutate("describeWorkspace", json!({ "workspaceId": workspace.id, "description": "# Lab" }), "").await
}

async fn look(by: &Actor, workspace: &Workspace) -> Answer {
    let document = "query($name: String!) { workspace(name: $name) { id viewerPermissions } }";
    by.query(document, json!({ "name": workspace.name })).await
}

/// What it may do there; `None` where it sees nothing.
async fn held(by: &Actor, workspace: &Workspace) -> Option<BTreeSet<String>> {
    let seen = look(by, workspace).await.ok();
    let listed = seen.body.pointer("/data/workspace/viewerPermissions")?.as_array()?;
    Some(listed.iter().map(|one| one.as_str().unwrap().to_owned()).collect())
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

async fn dead(by: &Actor, workspace: &Workspace) {
    look(by, workspace).await.denied("UNAUTHENTICATED");
    describe(by, workspace).await.denied("UNAUTHENTICATED");
}

async fn a_service_account_works_with_a_token_for_its_secret(app: App) {
    let ada = app.set_up().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    let made = account(&ada, &lab, "Nightly", "EDITOR").await;
    assert!(made.0.starts_with("sva_") && made.1.starts_with("ghs_"), "{made:?}");
    let nightly = signed_in(&app, &made).await;
    describe(&nightly, &lab).await.ok();
    let page = "query($name: String!) { workspace(name: $name) { updatedAt homePage { updatedBy { id } } } }";
    let page = ada.query(page, json!({ "name": lab.name })).await.ok();
    assert_eq!(page.data("/workspace/homePage/updatedBy"), &Value::Null, "no person wrote it");
    // Neither people nor keys, though a person who is an Editor would see the members.
    let members = "query($name: String!) { workspace(name: $name) { members { totalCount } } }";
    nightly.query(members, json!({ "name": lab.name })).await.denied("FORBIDDEN");
    create_key(&nightly, &lab, &[], Value::Null).await.denied("FORBIDDEN");
    // Nothing outside its workspace.
    assert_eq!(held(&nightly, &den).await, None);
    describe(&nightly, &den).await.denied("NOT_FOUND");
    // It speaks on sockets too.
    let watch = "subscription($id: ID!) { workspaceChanged(workspaceId: $id) { change } }";
    let mut watching = nightly.subscribe(watch, json!({ "id": lab.id })).await;
    ada.mutate("updateWorkspace", json!({ "workspaceId": lab.id, "displayName": "Laboratory" }), "")
        .await
        .ok();
    assert_eq!(watching.next().await.ok().data("/workspaceChanged/change"), "SETTINGS");

    let input = json!({ "workspaceId": lab.id, "serviceAccountId": made.0 });
    let deleted = ada.mutate("deleteServiceAccount", input.clone(), "deletedServiceAccountId").await.ok();
    assert_eq!(deleted.data("/deleteServiceAccount/deletedServiceAccountId"), &json!(made.0));
    dead(&nightly, &lab).await;
    assert_eq!(token_for(&app, &made.0, &made.1).await.status, StatusCode::UNAUTHORIZED);
    ada.mutate("deleteServiceAccount", input, "").await.refused("NOT_FOUND");
    // Two hours, to the second.
    let other = account(&ada, &lab, "Weekly", "VIEWER").await;
    let weekly = signed_in(&app, &other).await;
    app.advance(TimeDelta::minutes(119));
    assert!(held(&weekly, &lab).await.is_some());
    app.advance(TimeDelta::minutes(2));
    dead(&weekly, &lab).await;
    assert!(held(&signed_in(&app, &other).await, &lab).await.is_some());
}

async fn a_new_secret_ends_the_tokens_got_with_the_old_one(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let made = account(&ada, &lab, "Nightly", "EDITOR").await;
    let (old, (_, key)) = (signed_in(&app, &made).await, {
        let of_account = json!({ "serviceAccountId": made.0 });
        let key = create_key(&ada, &lab, &["FILE_READ"], of_account).await.ok();
        ((), key.text("/createApiKey/secret").to_owned())
    });
    let input = json!({ "workspaceId": lab.id, "serviceAccountId": made.0 });
    let renewed = ada.mutate("rotateServiceAccountSecret", input, ACCOUNT).await.ok();
    let secret = renewed.text("/rotateServiceAccountSecret/clientSecret").to_owned();
    let prefix = renewed.text("/rotateServiceAccountSecret/serviceAccount/secretPrefix");
    assert!(secret.starts_with(prefix) && !made.1.starts_with(prefix), "{prefix}");
    dead(&old, &lab).await;
    assert_eq!(token_for(&app, &made.0, &made.1).await.status, StatusCode::UNAUTHORIZED);
    describe(&signed_in(&app, &(made.0, secret)).await, &lab).await.ok();
    assert!(held(&machine(&app, &key), &lab).await.is_some(), "keys of the account stay");
}

async fn another_role_holds_at_the_next_request(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let made = account(&ada, &lab, "Nightly", "EDITOR").await;
    let nightly = signed_in(&app, &made).await;
    let of_account = json!({ "serviceAccountId": made.0 });
    let key = create_key(&ada, &lab, &["WORKSPACE_DESCRIBE"], of_account).await.ok();
    let key = machine(&app, key.text("/createApiKey/secret"));
    for actor in [&nightly, &key] {
        describe(actor, &lab).await.ok();
    }
    let input = json!({ "workspaceId": lab.id, "serviceAccountId": made.0, "role": "VIEWER", "description": "Reads" });
    let changed = ada
        .mutate("updateServiceAccount", input, "serviceAccount { role { key } description name }")
        .await
        .ok();
    assert_eq!(
        changed.data("/updateServiceAccount/serviceAccount"),
        &json!({ "role": { "key": "VIEWER" }, "description": "Reads", "name": "Nightly" })
    );
    for actor in [&nightly, &key] {
        describe(actor, &lab).await.denied("FORBIDDEN");
    }
    // Of a system role a machine has no people and no keys; what a custom role names, it has.
    let organization = ada.organization().await;
    let keeper = crate::roles::made(&ada, &organization, "Keeper", &["MEMBERS_VIEW", "MEMBERS_MANAGE"]).await;
    let input = json!({ "workspaceId": lab.id, "serviceAccountId": made.0, "role": keeper });
    ada.mutate("updateServiceAccount", input, "").await.ok();
    let expected = names(&["WORKSPACE_VIEW", "MEMBERS_VIEW", "MEMBERS_MANAGE"]);
    assert_eq!(held(&nightly, &lab).await, Some(expected));
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    let input = json!({ "workspaceId": lab.id, "memberId": membership(&lab, &eve).await });
    nightly.mutate("removeMember", input, "").await.ok();
    // Editing that role holds at once as well.
    let input = json!({ "organizationId": organization, "roleId": keeper, "permissions": ["FILE_READ"] });
    ada.mutate("updateRole", input, "").await.ok();
    assert_eq!(held(&nightly, &lab).await, Some(names(&["WORKSPACE_VIEW", "FILE_READ"])));
}

async fn the_default_key_is_rotated_and_the_old_one_is_dead_at_once(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let eve = app.member(&lab, SystemRole::Editor, "Eve").await;
    let shown = async |by: &Actor| {
        let document = "query($name: String!) { workspace(name: $name) { defaultApiKey { id prefix isDefault createdAt rotatedAt
            createdBy { email } permissions } } }";
        by.query(document, json!({ "name": lab.name })).await
    };
    assert_eq!(shown(&ada).await.ok().data("/workspace/defaultApiKey"), &Value::Null);
    let rotate =
        async |by: &Actor| by.mutate("rotateDefaultApiKey", json!({ "workspaceId": lab.id }), KEY).await;
    rotate(&eve).await.denied("FORBIDDEN");
    shown(&eve).await.denied("FORBIDDEN");
    let first = rotate(&ada).await.ok();
    let secret = first.text("/rotateDefaultApiKey/secret").to_owned();
    let seen = shown(&ada).await.ok();
    assert!(secret.starts_with(seen.text("/workspace/defaultApiKey/prefix")));
    assert_eq!(seen.text("/workspace/defaultApiKey/prefix").len(), 12);
    assert_eq!(seen.data("/workspace/defaultApiKey/createdBy/email"), "ada@example.org");
    assert_eq!(seen.data("/workspace/defaultApiKey/rotatedAt"), &Value::Null);
    let old = machine(&app, &secret);
    let permissions = held(&old, &lab).await.unwrap();
    assert!(
        permissions.contains("ITEM_RUN") && !permissions.contains("WORKSPACE_DESCRIBE"),
        "{permissions:?}"
    );
    let second = rotate(&ada).await.ok();
    assert_eq!(
        first.data("/rotateDefaultApiKey/apiKey/id"),
        second.data("/rotateDefaultApiKey/apiKey/id"),
        "it is the same key"
    );
    assert!(!second.data("/rotateDefaultApiKey/apiKey/rotatedAt").is_null());
    dead(&old, &lab).await;
    assert!(held(&machine(&app, second.text("/rotateDefaultApiKey/secret")), &lab).await.is_some());
    // One that was revoked is made anew.
    let id = second.text("/rotateDefaultApiKey/apiKey/id");
    ada.mutate("revokeApiKey", json!({ "workspaceId": lab.id, "apiKeyId": id }), "").await.ok();
    assert_eq!(shown(&ada).await.ok().data("/workspace/defaultApiKey"), &Value::Null);
    let third = rotate(&ada).await.ok();
    assert_ne!(third.text("/rotateDefaultApiKey/apiKey/id"), id);
}

async fn a_key_gives_what_it_names_and_its_account_holds(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let (_, secret) = key(&ada, &lab, &["FILE_READ", "FILE_WRITE"]).await;
    let own = machine(&app, &secret);
    assert_eq!(held(&own, &lab).await, Some(names(&["WORKSPACE_VIEW", "FILE_READ", "FILE_WRITE"])));
    describe(&own, &lab).await.denied("FORBIDDEN");
    let made = account(&ada, &lab, "Nightly", "VIEWER").await;
    let of_account = json!({ "serviceAccountId": made.0 });
    let both = create_key(&ada, &lab, &["FILE_READ", "FILE_WRITE"], of_account).await.ok();
    assert_eq!(both.data("/createApiKey/apiKey/serviceAccount/id"), &json!(made.0));
    let both = machine(&app, both.text("/createApiKey/secret"));
    assert_eq!(held(&both, &lab).await, Some(names(&["WORKSPACE_VIEW", "FILE_READ"])));
    let input = json!({ "workspaceId": lab.id, "serviceAccountId": made.0 });
    ada.mutate("deleteServiceAccount", input, "").await.ok();
    dead(&both, &lab).await;
    // What a key was named for it has, even over members; it never invites, and knows of no organization.
    let (_, secret) = key(&ada, &lab, &["MEMBERS_VIEW", "MEMBERS_MANAGE"]).await;
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    let input = json!({ "workspaceId": lab.id, "memberId": membership(&lab, &eve).await, "role": "EDITOR" });
    let refused =
        machine(&app, &secret).mutate("updateMemberRole", input, "").await.refused("PRIVILEGE_ESCALATION");
    assert_eq!(refused.user_errors()[0]["field"], json!(["role"]));
    for wrong in
        ["MEMBERS_INVITE", "WORKSPACE_DELETE", "CREDENTIAL_REVEAL", "ORGANIZATION_MANAGE", "WORKSPACE_CREATE"]
    {
        let refused =
            create_key(&ada, &lab, &["FILE_READ", wrong], Value::Null).await.refused("INVALID_INPUT");
        assert_eq!(refused.user_errors()[0]["field"], json!(["permissions"]));
    }
    let unknown = json!({ "serviceAccountId": made.0 });
    create_key(&ada, &lab, &["FILE_READ"], unknown).await.refused("NOT_FOUND");
}

async fn nobody_hands_out_what_they_lack(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let organization = ada.organization().await;
    let holds = ["APIKEYS_MANAGE", "SERVICEACCOUNTS_MANAGE", "FILE_READ"];
    let clerk = crate::roles::made(&ada, &organization, "Clerk", &holds).await;
    let bob = app.member(&lab, SystemRole::Viewer, "Bob").await;
    crate::members::set_role(&ada, &lab, &membership(&lab, &bob).await, &clerk).await.ok();
    let (strong, _) = key(&ada, &lab, &["FILE_READ", "CREDENTIAL_USE"]).await;
    let (account_id, _) = account(&ada, &lab, "Nightly", "EDITOR").await;

    let refused = create_key(&bob, &lab, &["FILE_READ", "FILE_WRITE"], Value::Null).await;
    let refused = refused.refused("PRIVILEGE_ESCALATION");
    assert!(refused.to_string().contains("file.write"), "{refused}");
    create_key(&bob, &lab, &["FILE_READ"], Value::Null).await.ok();
    // A new secret of a stronger one would do as well.
    let input = json!({ "workspaceId": lab.id, "apiKeyId": strong });
    bob.mutate("rotateApiKey", input.clone(), "").await.refused("PRIVILEGE_ESCALATION");
    bob.mutate("rotateDefaultApiKey", json!({ "workspaceId": lab.id }), "")
        .await
        .refused("PRIVILEGE_ESCALATION");
    let input_of = |role: &str| json!({ "workspaceId": lab.id, "name": format!("Of {role}"), "role": role });
    for role in ["VIEWER", "EDITOR", "ADMIN"] {
        let refused = bob.mutate("createServiceAccount", input_of(role), "").await;
        assert_eq!(refused.refused("PRIVILEGE_ESCALATION").user_errors()[0]["field"], json!(["role"]));
    }
    bob.mutate("createServiceAccount", input_of(&clerk), "").await.ok();
    let of_account = json!({ "workspaceId": lab.id, "serviceAccountId": account_id });
    bob.mutate("rotateServiceAccountSecret", of_account.clone(), "").await.refused("PRIVILEGE_ESCALATION");
    let mut promoted = of_account.clone();
    promoted["role"] = json!("ADMIN");
    bob.mutate("updateServiceAccount", promoted, "").await.refused("PRIVILEGE_ESCALATION");
    // The key of a stronger account gives only what it names.
    let weak = json!({ "serviceAccountId": account_id });
    create_key(&bob, &lab, &["FILE_READ"], weak.clone()).await.ok();
    create_key(&bob, &lab, &["CREDENTIAL_USE"], weak).await.refused("PRIVILEGE_ESCALATION");
    // Ending what is stronger hands out nothing.
    bob.mutate("revokeApiKey", input, "apiKey { status }").await.ok();
    bob.mutate("deleteServiceAccount", of_account, "").await.ok();
}

async fn an_overlap_keeps_the_old_secret_for_its_time(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    app.stop_the_clock();
    let (id, first) = key(&ada, &lab, &["FILE_READ"]).await;
    let rotate = async |minutes: Value| {
        let input = json!({ "workspaceId": lab.id, "apiKeyId": id, "overlapMinutes": minutes });
        ada.mutate("rotateApiKey", input, KEY).await
    };
    let renewed = rotate(json!(10)).await.ok();
    let second = machine(&app, renewed.text("/rotateApiKey/secret"));
    let first = machine(&app, &first);
    assert!(!renewed.data("/rotateApiKey/apiKey/previousValidUntil").is_null());
    app.advance(TimeDelta::minutes(9));
    for actor in [&first, &second] {
        assert!(held(actor, &lab).await.is_some());
    }
    app.advance(TimeDelta::seconds(61));
    dead(&first, &lab).await;
    assert!(held(&second, &lab).await.is_some());
    // The one before the one before dies with the next rotation, whatever it was promised.
    let third = rotate(json!(10)).await.ok();
    let fourth = rotate(json!(10)).await.ok();
    let (third, fourth) = (
        machine(&app, third.text("/rotateApiKey/secret")),
        machine(&app, fourth.text("/rotateApiKey/secret")),
    );
    dead(&second, &lab).await;
    assert!(held(&third, &lab).await.is_some() && held(&fourth, &lab).await.is_some());
    // Without an overlap there is none, and a revocation ends both.
    let fifth = rotate(Value::Null).await.ok();
    let fifth = machine(&app, fifth.text("/rotateApiKey/secret"));
    for actor in [&third, &fourth] {
        dead(actor, &lab).await;
    }
    let sixth = machine(&app, rotate(json!(10080)).await.ok().text("/rotateApiKey/secret"));
    let input = json!({ "workspaceId": lab.id, "apiKeyId": id });
    let revoked =
        ada.mutate("revokeApiKey", input, "apiKey { status previousValidUntil revokedAt }").await.ok();
    assert_eq!(revoked.data("/revokeApiKey/apiKey/status"), "REVOKED");
    for actor in [&fifth, &sixth] {
        dead(actor, &lab).await;
    }
    rotate(Value::Null).await.refused("KEY_ENDED");
    for wrong in [-1, 10081, i32::MAX] {
        let refused = rotate(json!(wrong)).await.refused("INVALID_INPUT");
        assert_eq!(refused.user_errors()[0]["field"], json!(["overlapMinutes"]));
    }
}

async fn a_key_ends_by_itself_and_by_the_policy(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    app.stop_the_clock();
    let after = |span: TimeDelta| {
        let at = app.db().now() + span;
        json!({ "expiresAt": at.to_rfc3339_opts(SecondsFormat::Millis, true) })
    };
    let made = create_key(&ada, &lab, &["FILE_READ"], after(TimeDelta::seconds(60))).await.ok();
    let actor = machine(&app, made.text("/createApiKey/secret"));
    app.advance(TimeDelta::seconds(59));
    assert!(held(&actor, &lab).await.is_some());
    app.advance(TimeDelta::seconds(2));
    dead(&actor, &lab).await;
    let input = json!({ "workspaceId": lab.id, "apiKeyId": made.data("/createApiKey/apiKey/id") });
    ada.mutate("rotateApiKey", input, "").await.refused("KEY_ENDED");
    let refused = create_key(&ada, &lab, &[], after(TimeDelta::seconds(-1))).await.refused("INVALID_INPUT");
    assert_eq!(refused.user_errors()[0]["field"], json!(["expiresAt"]));

    let input = json!({ "organizationId": ada.organization().await, "apiKeyMaxLifetimeDays": 30 });
    ada.mutate("updateOrganizationPolicy", input, "").await.ok();
    create_key(&ada, &lab, &[], after(TimeDelta::days(31))).await.refused("INVALID_INPUT");
    create_key(&ada, &lab, &[], after(TimeDelta::days(29))).await.ok();
    let longest = create_key(&ada, &lab, &["FILE_READ"], Value::Null).await.ok();
    assert!(!longest.data("/createApiKey/apiKey/expiresAt").is_null());
    let actor = machine(&app, longest.text("/createApiKey/secret"));
    app.advance(TimeDelta::days(30));
    dead(&actor, &lab).await;
}

async fn what_a_key_makes_ends_no_later_than_itself(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    app.stop_the_clock();
    let end = (app.db().now() + TimeDelta::hours(1)).to_rfc3339_opts(SecondsFormat::Millis, true);
    let holds = ["APIKEYS_MANAGE", "SERVICEACCOUNTS_MANAGE", "FILE_READ"];
    let first = create_key(&ada, &lab, &holds, json!({ "expiresAt": end })).await.ok();
    let first = machine(&app, first.text("/createApiKey/secret"));
    let made = create_key(&first, &lab, &["FILE_READ"], Value::Null).await.ok();
    assert_eq!(made.data("/createApiKey/apiKey/createdBy"), &Value::Null);
    let second = machine(&app, made.text("/createApiKey/secret"));
    let input = json!({ "workspaceId": lab.id, "name": "For good", "role":
        crate::roles::made(&ada, &ada.organization().await, "Reader", &["FILE_READ"]).await });
    first.mutate("createServiceAccount", input, "").await.refused("PRIVILEGE_ESCALATION");
    let endless = key(&ada, &lab, &["FILE_READ"]).await;
    let input = json!({ "workspaceId": lab.id, "apiKeyId": endless.0 });
    let renewed = first.mutate("rotateApiKey", input, "secret").await.ok();
    let third = machine(&app, renewed.text("/rotateApiKey/secret"));
    for actor in [&first, &second, &third] {
        assert!(held(actor, &lab).await.is_some());
    }
    app.advance(TimeDelta::minutes(61));
    for actor in [&first, &second, &third] {
        dead(actor, &lab).await;
    }
}

async fn a_stricter_policy_holds_from_the_next_secret_on(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let (id, _) = key(&ada, &lab, &["FILE_READ"]).await;
    let input = json!({ "organizationId": ada.organization().await, "apiKeyMaxLifetimeDays": 30 });
    ada.mutate("updateOrganizationPolicy", input, "").await.ok();
    let input = json!({ "workspaceId": lab.id, "apiKeyId": id });
    let renewed = ada.mutate("rotateApiKey", input, "apiKey { expiresAt }").await.ok();
    assert!(!renewed.data("/rotateApiKey/apiKey/expiresAt").is_null());
}

async fn keys_outlive_who_made_them_and_die_with_their_workspace(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let bob = app.member(&lab, SystemRole::Admin, "Bob").await;
    let (_, secret) = key(&bob, &lab, &["FILE_READ"]).await;
    let nightly = account(&bob, &lab, "Nightly", "EDITOR").await;
    let (by_key, by_token) = (machine(&app, &secret), signed_in(&app, &nightly).await);
    let member = membership(&lab, &bob).await;
    let document = "query($w: ID!, $m: ID!) { removalImpact(workspaceId: $w, memberId: $m) {
        impact { apiKeyCount serviceAccountCount } } }";
    let impact = ada.query(document, json!({ "w": lab.id, "m": member })).await.ok();
    let expected = json!({ "apiKeyCount": 1, "serviceAccountCount": 1 });
    assert_eq!(impact.data("/removalImpact/impact"), &expected);
    let input = json!({ "workspaceId": lab.id, "memberId": member });
    let removed = ada.mutate("removeMember", input, "ended { apiKeyCount serviceAccountCount }").await.ok();
    assert_eq!(removed.data("/removeMember/ended"), &expected);
    // Not even when the account is closed.
    let input = json!({ "organizationId": ada.organization().await, "userId": bob.id });
    ada.mutate("disableUser", input, "").await.ok();
    for actor in [&by_key, &by_token] {
        assert!(held(actor, &lab).await.is_some());
    }
    let input = json!({ "workspaceId": lab.id, "confirmName": lab.name });
    ada.mutate("deleteWorkspace", input, "").await.ok();
    for actor in [&by_key, &by_token] {
        look(actor, &lab).await.denied("UNAUTHENTICATED");
    }
    assert_eq!(token_for(&app, &nightly.0, &nightly.1).await.status, StatusCode::UNAUTHORIZED);
}

async fn an_archived_workspace_refuses_keys(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let (_, secret) = key(&ada, &lab, &["FILE_READ"]).await;
    let nightly = account(&ada, &lab, "Nightly", "EDITOR").await;
    let actors = [machine(&app, &secret), signed_in(&app, &nightly).await];
    let set = async |mutation: &str| {
        ada.mutate(mutation, json!({ "workspaceId": lab.id }), "").await.ok();
    };
    set("archiveWorkspace").await;
    for actor in &actors {
        dead(actor, &lab).await;
        actor.mutate("signOut", Value::Null, "").await.denied("UNAUTHENTICATED");
    }
    assert_eq!(token_for(&app, &nightly.0, &nightly.1).await.status, StatusCode::UNAUTHORIZED);
    set("restoreWorkspace").await;
    for actor in &actors {
        assert!(held(actor, &lab).await.is_some());
    }
    assert_eq!(token_for(&app, &nightly.0, &nightly.1).await.status, StatusCode::OK);
}

async fn watching(actor: &Actor, workspace: &Workspace) -> Subscription {
    let watch = "subscription($id: ID!) { workspaceChanged(workspaceId: $id) { change } }";
    let mut subscription = actor.subscribe(watch, json!({ "id": workspace.id })).await;
    subscription.no_event_for(100).await;
    subscription
}

async fn ends(mut subscription: Subscription, why: &str) {
    let ended = tokio::time::timeout(std::time::Duration::from_secs(5), subscription.ended()).await;
    let End::Errors(errors) = ended.expect(why) else { panic!("{why}: it ends with an error") };
    assert_eq!(errors[0]["extensions"]["code"], "UNAUTHENTICATED", "{why}");
}

async fn subscriptions_of_a_machine_end_with_it(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let (id, secret) = key(&ada, &lab, &[]).await;
    let of_key = json!({ "workspaceId": lab.id, "apiKeyId": id });
    let first = watching(&machine(&app, &secret), &lab).await;
    let renewed = ada.mutate("rotateApiKey", of_key.clone(), "secret").await.ok();
    ends(first, "a rotation").await;
    let second = watching(&machine(&app, renewed.text("/rotateApiKey/secret")), &lab).await;
    ada.mutate("revokeApiKey", of_key, "").await.ok();
    ends(second, "a revocation").await;
    let nightly = account(&ada, &lab, "Nightly", "VIEWER").await;
    let of_account = json!({ "workspaceId": lab.id, "serviceAccountId": nightly.0 });
    let third = watching(&signed_in(&app, &nightly).await, &lab).await;
    ada.mutate("rotateServiceAccountSecret", of_account.clone(), "").await.ok();
    ends(third, "a new secret").await;
    let (_, secret) = key(&ada, &lab, &[]).await;
    let fourth = watching(&machine(&app, &secret), &lab).await;
    ada.mutate("archiveWorkspace", json!({ "workspaceId": lab.id }), "").await.ok();
    ends(fourth, "an archived workspace").await;
}

async fn a_machine_has_nothing_that_people_have(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let nightly = signed_in(&app, &account(&ada, &lab, "Nightly", "ADMIN").await).await;
    let mine = nightly.query("{ viewer { user { id } } }", json!({})).await.ok();
    assert_eq!(mine.data("/viewer"), &Value::Null);
    for mutation in ["leaveWorkspace", "switchWorkspace", "setDefaultWorkspace"] {
        nightly.mutate(mutation, json!({ "workspaceId": lab.id }), "").await.denied("FORBIDDEN");
    }
    let input = json!({ "organizationId": ada.organization().await, "displayName": "Den" });
    nightly.mutate("createWorkspace", input, "").await.denied("NOT_FOUND");
    nightly.invite(&lab, "eve@example.org", "VIEWER").await.denied("FORBIDDEN");
    // Not even by a role that names it: whoever is invited is asked by a person.
    let inviter =
        crate::roles::made(&ada, &ada.organization().await, "Inviter", &["MEMBERS_INVITE", "FILE_READ"])
            .await;
    let inviter = signed_in(&app, &account(&ada, &lab, "Greeter", &inviter).await).await;
    assert_eq!(held(&inviter, &lab).await, Some(names(&["WORKSPACE_VIEW", "FILE_READ"])));
    inviter.invite(&lab, "eve@example.org", "VIEWER").await.denied("FORBIDDEN");
    // A service account that is an Admin makes others, though none that can more than itself.
    account(&nightly, &lab, "Helper", "ADMIN").await;
    let input = json!({ "workspaceId": lab.id, "name": "Keeper", "role":
        crate::roles::made(&ada, &ada.organization().await, "Keeper", &["MEMBERS_MANAGE"]).await });
    nightly.mutate("createServiceAccount", input, "").await.refused("PRIVILEGE_ESCALATION");
}

async fn made_up_and_damaged_keys_are_refused_without_a_statement(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let (_, secret) = key(&ada, &lab, &["FILE_READ"]).await;
    assert!(secret.starts_with("ghk_") && secret.len() == 86, "{secret}");
    let damaged = |place: usize| {
        let mut text = secret.clone().into_bytes();
        text[place] = if text[place] == b'A' { b'B' } else { b'A' };
        String::from_utf8(text).unwrap()
    };
    let other = App::start(app.engine()).await;
    let stranger = other.set_up().await;
    let (_, foreign) = key(&stranger, &stranger.workspace("Den").await, &["FILE_READ"]).await;
    for wrong in [damaged(10), damaged(70), damaged(85), "ghk_".to_owned(), format!("{secret}0")] {
        let actor = machine(&app, &wrong);
        let statements = app.count(async || drop(look(&actor, &lab).await.denied("UNAUTHENTICATED"))).await;
        assert_eq!(statements, 0, "{wrong}");
    }
    // Both instances of this test have the same secrets; the key is known to one of them only.
    look(&machine(&app, &foreign), &lab).await.denied("UNAUTHENTICATED");
    // The secret of a service account is no key, and a key no such secret.
    let (id, client) = account(&ada, &lab, "Nightly", "VIEWER").await;
    look(&machine(&app, &client), &lab).await.denied("UNAUTHENTICATED");
    assert_eq!(token_for(&app, &id, &secret).await.status, StatusCode::UNAUTHORIZED);
    // A key costs what a session costs.
    let (by_key, by_session) = (machine(&app, &secret), ada.clone());
    let cost = async |actor: &Actor| app.count(async || drop(look(actor, &lab).await.ok())).await;
    assert_eq!((cost(&by_key).await, cost(&by_session).await), (1, 1));
}

async fn a_use_of_a_credential_names_the_machine(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let store = crate::credential_nets::custom(&ada, &lab, "Store").await;
    let (id, secret) = key(&ada, &lab, &["CREDENTIAL_USE"]).await;
    let nightly = account(&ada, &lab, "Nightly", "EDITOR").await;
    let weak = machine(&app, &key(&ada, &lab, &["FILE_READ"]).await.1);
    let take = async |by: &Actor| {
        let input = json!({ "workspaceId": lab.id, "slug": "store", "purpose": "nightly import" });
        by.mutate("useCredential", input, "values { code value }").await
    };
    take(&machine(&app, &secret)).await.ok();
    take(&signed_in(&app, &nightly).await).await.ok();
    take(&weak).await.denied("FORBIDDEN");
    let input = json!({ "workspaceId": lab.id, "serviceAccountId": nightly.0 });
    ada.mutate("deleteServiceAccount", input, "").await.ok();
    let document = "query($w: ID!) { credential(workspaceId: $w, slug: \"store\") { id usages { nodes {
        outcome user { id } machine { kind id name } } } } }";
    let told = ada.query(document, json!({ "w": lab.id })).await.ok();
    assert_eq!(told.data("/credential/id"), &json!(store));
    let uses = told.data("/credential/usages/nodes");
    let of = |kind: &str, id: &Value, name: &str| json!({ "kind": kind, "id": id, "name": name });
    assert_eq!(
        uses[0],
        json!({ "outcome": "USED", "user": null, "machine": of("API_KEY", &json!(id), "CI") })
    );
    let gone = of("SERVICE_ACCOUNT", &json!(nightly.0), "Nightly");
    assert_eq!(
        uses[1],
        json!({ "outcome": "USED", "user": null, "machine": gone }),
        "it is told after its end"
    );
    assert_eq!(uses[2]["outcome"], "FORBIDDEN");
    assert_eq!(uses[2]["machine"]["kind"], "API_KEY");
}

async fn when_a_machine_was_here_last_is_told(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let (id, secret) = key(&ada, &lab, &["FILE_READ"]).await;
    let nightly = account(&ada, &lab, "Nightly", "EDITOR").await;
    let seen = async || {
        let document = "query($k: ID!, $a: ID!) { key: node(id: $k) { ... on ApiKey { lastUsedAt } }
            account: node(id: $a) { ... on ServiceAccount { lastUsedAt } } }";
        let seen = ada.query(document, json!({ "k": id, "a": nightly.0 })).await.ok();
        [seen.data("/key/lastUsedAt").clone(), seen.data("/account/lastUsedAt").clone()]
    };
    assert_eq!(seen().await, [Value::Null, Value::Null]);
    look(&machine(&app, &secret), &lab).await.ok();
    look(&signed_in(&app, &nightly).await, &lab).await.ok();
    #[expect(clippy::disallowed_methods, reason = "what the worker does every ten seconds")]
    let proof = System::named("a test");
    guildhall_persistence::machines::write_seen(app.db(), &proof).await.unwrap();
    assert!(seen().await.iter().all(|at| !at.is_null()));
}

async fn a_role_of_a_service_account_is_given_up_for_another(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let organization = ada.organization().await;
    let reader = crate::roles::made(&ada, &organization, "Reader", &["FILE_READ"]).await;
    let nightly = signed_in(&app, &account(&ada, &lab, "Nightly", &reader).await).await;
    let mut input = json!({ "organizationId": organization, "roleId": reader });
    ada.mutate("deleteRole", input.clone(), "").await.refused("ROLE_IN_USE");
    input["replacement"] = json!("EDITOR");
    let deleted = ada.mutate("deleteRole", input, "serviceAccountsMoved membersMoved").await.ok();
    assert_eq!(deleted.data("/deleteRole/serviceAccountsMoved"), 1);
    assert_eq!(deleted.data("/deleteRole/membersMoved"), 0);
    describe(&nightly, &lab).await.ok();
}

async fn of_many_rotations_at_once_the_last_one_is_good(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let (id, first) = key(&ada, &lab, &["FILE_READ"]).await;
    let rotations = (0..20).map(|_| {
        let input = json!({ "workspaceId": lab.id, "apiKeyId": id });
        ada.mutate("rotateApiKey", input, "secret")
    });
    let renewed = join_all(rotations).await;
    let mut secrets: Vec<String> =
        renewed.into_iter().map(|answer| answer.ok().text("/rotateApiKey/secret").to_owned()).collect();
    secrets.push(first);
    assert_eq!(secrets.iter().collect::<BTreeSet<_>>().len(), 21);
    let mut good = 0;
    for secret in &secrets {
        let answer = look(&machine(&app, secret), &lab).await;
        good += usize::from(answer.errors().is_empty());
    }
    assert_eq!(good, 1);
    // Of default keys made at once there is one.
    let made =
        (0..20).map(|_| ada.mutate("rotateDefaultApiKey", json!({ "workspaceId": lab.id }), "apiKey { id }"));
    let ids: BTreeSet<String> = join_all(made)
        .await
        .into_iter()
        .map(|answer| answer.ok().text("/rotateDefaultApiKey/apiKey/id").to_owned())
        .collect();
    assert_eq!(ids.len(), 1);
}

async fn names_of_service_accounts_differ(app: App) {
    let ada = app.set_up().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    let (first, _) = account(&ada, &lab, "Nächtlich", "VIEWER").await;
    let input = json!({ "workspaceId": lab.id, "name": "NÄCHTLICH", "role": "VIEWER" });
    let refused = ada.mutate("createServiceAccount", input, "").await.refused("ALREADY_EXISTS");
    assert_eq!(refused.user_errors()[0]["field"], json!(["name"]));
    account(&ada, &den, "Nächtlich", "VIEWER").await;
    let (second, _) = account(&ada, &lab, "Weekly", "VIEWER").await;
    let rename = async |id: &str, name: &str| {
        let input = json!({ "workspaceId": lab.id, "serviceAccountId": id, "name": name });
        ada.mutate("updateServiceAccount", input, "").await
    };
    rename(&second, "nächtlich").await.refused("ALREADY_EXISTS");
    rename(&first, "nächtlich").await.ok();
    let at_once = join_all((0..10).map(|_| {
        let input = json!({ "workspaceId": lab.id, "name": "Twin", "role": "VIEWER" });
        ada.mutate("createServiceAccount", input, "")
    }));
    let tally = crate::races::tally(&at_once.await);
    assert_eq!((tally["OK"], tally["ALREADY_EXISTS"]), (1, 9), "{tally:?}");
}

async fn lists_show_what_is_good_and_what_has_ended(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let (nightly, _) = account(&ada, &lab, "Nightly", "EDITOR").await;
    let mut ids = Vec::new();
    for place in 0..5 {
        let rest = if place % 2 == 0 { json!({ "serviceAccountId": nightly }) } else { Value::Null };
        let made = create_key(&ada, &lab, &["FILE_READ"], rest).await.ok();
        ids.push(made.text("/createApiKey/apiKey/id").to_owned());
    }
    let input = json!({ "workspaceId": lab.id, "apiKeyId": ids[0] });
    ada.mutate("revokeApiKey", input, "").await.ok();
    let document = "query($name: String!, $account: ID!) { workspace(name: $name) {
        good: apiKeys(first: 3) { totalCount pageInfo { hasNextPage } nodes { id status } }
        all: apiKeys(includeEnded: true) { totalCount nodes { id status } }
        serviceAccounts { totalCount nodes { name apiKeys { totalCount nodes { id } } } }
        serviceAccount(id: $account) { name } none: serviceAccount(id: \"nonsense\") { name } } }";
    let seen = ada.query(document, json!({ "name": lab.name, "account": nightly })).await.ok();
    assert_eq!(seen.data("/workspace/good/totalCount"), 4);
    assert_eq!(seen.data("/workspace/good/pageInfo/hasNextPage"), true);
    assert_eq!(seen.data("/workspace/good/nodes/0"), &json!({ "id": ids[1], "status": "ACTIVE" }));
    assert_eq!(seen.data("/workspace/all/totalCount"), 5);
    assert_eq!(seen.data("/workspace/all/nodes/0"), &json!({ "id": ids[0], "status": "REVOKED" }));
    assert_eq!(seen.data("/workspace/serviceAccounts/totalCount"), 1);
    assert_eq!(
        seen.data("/workspace/serviceAccounts/nodes/0/apiKeys"),
        &json!({ "totalCount": 2, "nodes": [{ "id": ids[2] }, { "id": ids[4] }] })
    );
    assert_eq!(seen.data("/workspace/serviceAccount/name"), "Nightly");
    assert_eq!(seen.data("/workspace/none"), &Value::Null);
    let eve = app.member(&lab, SystemRole::Editor, "Eve").await;
    for list in
        ["apiKeys { totalCount }", "serviceAccounts { totalCount }", "serviceAccount(id: \"x\") { id }"]
    {
        let document = format!(r#"{{ workspace(name: "{}") {{ {list} }} }}"#, lab.name);
        eve.query(&document, json!({})).await.denied("FORBIDDEN");
    }
}

async fn only_hashes_of_secrets_are_kept(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let (_, secret) = key(&ada, &lab, &["FILE_READ"]).await;
    let (_, client) = account(&ada, &lab, "Nightly", "VIEWER").await;
    for (table, hint, secret) in
        [("api_keys", "prefix", &secret), ("service_accounts", "secret_hint", &client)]
    {
        let shown = format!("SELECT count(*) FROM {table} WHERE {hint} = '{}'", &secret[..12]);
        assert_eq!(app.number(&shown).await, 1);
        let length = format!("SELECT count(*) FROM {table} WHERE length(secret_hash) = 32");
        assert_eq!(app.number(&length).await, 1);
    }
    // No answer has one again.
    let document = "query($name: String!) { workspace(name: $name) {
        apiKeys { nodes { prefix name } } serviceAccounts { nodes { secretPrefix clientId } } } }";
    let told = ada.query(document, json!({ "name": lab.name })).await.ok().to_string();
    assert!(!told.contains(&secret[..20]) && !told.contains(&client[..20]), "{told}");
}

async fn a_token_endpoint_speaks_oauth(app: App) {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let (id, secret) = account(&ada, &lab, "Nightly", "VIEWER").await;
    let page = token_for(&app, &id, &secret).await;
    assert_eq!(page.headers[header::CACHE_CONTROL], "no-store");
    let body: Value = serde_json::from_slice(&page.body).unwrap();
    assert_eq!((&body["token_type"], body.as_object().unwrap().len()), (&json!("Bearer"), 3));
    let left = body["expires_in"].as_i64().unwrap();
    assert!((7195..=7200).contains(&left), "{left}");
    let basic = |id: &str, secret: &str| format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
    let grant = "grant_type=client_credentials";
    let good = basic(&id, &secret);
    assert_eq!(ask_token(&app, grant, Some(&good)).await.status, StatusCode::OK);
    let with_scope = format!("{grant}&scope=anything&client_id={id}");
    assert_eq!(ask_token(&app, &with_scope, Some(&good)).await.status, StatusCode::OK);
    let both = format!("{grant}&client_id={id}&client_secret={secret}");
    let twice = format!("{both}&{grant}");
    let unknown = "sva_0193a1b2c3d47e8f9012345678901234";
    for (form, authorization, status, error) in [
        (both.as_str(), Some(good.clone()), 400, "invalid_request"),
        (twice.as_str(), None, 400, "invalid_request"),
        ("", Some(good.clone()), 400, "invalid_request"),
        ("grant_type=password", Some(good.clone()), 400, "unsupported_grant_type"),
        (&format!("{grant}&client_id={unknown}"), Some(good.clone()), 400, "invalid_request"),
        (grant, None, 401, "invalid_client"),
        (grant, Some(basic(&id, "ghs_wrong")), 401, "invalid_client"),
        (grant, Some(basic(unknown, &secret)), 401, "invalid_client"),
        (grant, Some("Bearer x".to_owned()), 401, "invalid_client"),
        (grant, Some("Basic !!".to_owned()), 401, "invalid_client"),
    ] {
        let page = ask_token(&app, form, authorization.as_deref()).await;
        let body: Value = serde_json::from_slice(&page.body).unwrap();
        assert_eq!(
            (page.status.as_u16(), &body["error"]),
            (status, &json!(error)),
            "{form}: {}",
            page.text()
        );
        assert_eq!(page.headers.contains_key(header::WWW_AUTHENTICATE), status == 401);
    }
    let json_body =
        Request::post(format!("{}/oauth/token", app.url)).header(header::CONTENT_TYPE, "application/json");
    let page = app.anonymous().http(json_body.body(Bytes::from("{}")).unwrap()).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST);
    let page = app.anonymous().get("/oauth/token").await;
    assert_eq!(
        (page.status, &page.headers[header::ALLOW]),
        (StatusCode::METHOD_NOT_ALLOWED, &"POST".parse().unwrap())
    );
    assert!(page.text().contains("invalid_request"), "{}", page.text());
    let page = ask_token(&app, &"a".repeat(20_000), None).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST);
}

/// What ends a machine on one process ends it on the other at its next request.
#[test]
fn a_second_process_sees_a_revocation_at_once() {
    run(Engine::Postgres, App::start, async |app: App| {
        let ada = app.set_up().await;
        let lab = ada.workspace("Lab").await;
        let (id, secret) = key(&ada, &lab, &["FILE_READ"]).await;
        let other = app.second_process().await;
        let there = machine(&app, &secret).at(&other.url);
        assert!(held(&there, &lab).await.is_some());
        ada.mutate("revokeApiKey", json!({ "workspaceId": lab.id, "apiKeyId": id }), "").await.ok();
        dead(&there, &lab).await;
    });
}
