//! The audit log: who did what stands in it once, those who may read it do, and a file of it that was tampered with is found
//! out by the built binary.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use async_graphql::parser::{
    parse_schema,
    types::{TypeKind, TypeSystemDefinition},
};
use bytes::Bytes;
use futures_util::future::join_all;
use guildhall_domain::{access::SystemRole, audit::Action};
use guildhall_tests::{
    Actor, Answer, App, Process, Workspace,
    actor::{PASSWORD, token_of},
    app::fresh_database,
    both_databases,
    databases::{Engine, run},
    mailbox::MailServer,
    process::binary,
    subscription::End,
};
use http::{Request, header};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{credential_nets::custom, dry_run::tried, members, members::membership, roles};

both_databases!(
    App::start,
    each_change_leaves_one_entry_of_who_did_what,
    what_happens_to_invitations_stands_in_each_workspace_they_open,
    what_is_refused_or_changes_nothing_leaves_no_entry,
    an_entry_tells_request_and_address,
    each_reads_what_concerns_them,
    lists_are_filtered_and_paged,
    what_was_done_outlives_what_it_was_done_to,
    what_is_added_is_watched,
    a_watcher_who_loses_the_right_is_told_and_hears_no_more,
    a_whole_log_is_verified_without_the_service,
    tampering_with_a_file_is_found_out,
    tampering_with_the_database_is_found_out,
    what_an_operator_does_stands_in_the_log,
    a_new_master_key_signs_on,
);

const ENTRY: &str = "id at actor { kind id name } action object { kind id name } before after requestId ip workspaceId place hash";

/// The newest entries of the owner's organization.
async fn newest(app: &App, number: i64) -> Vec<Value> {
    log(app.owner(), &app.owner().organization().await, json!({ "first": number })).await
}

/// Entries of an organization's log.
async fn log(actor: &Actor, organization: &str, variables: Value) -> Vec<Value> {
    let document = format!(
        "query($id: ID!, $first: Int, $filter: AuditLogFilter) {{ node(id: $id) {{ ... on Organization {{
            auditLog(first: $first, filter: $filter) {{ totalCount nodes {{ {ENTRY} }} }} }} }} }}"
    );
    let mut variables = variables;
    variables["id"] = json!(organization);
    let answer = actor.query(&document, variables).await.ok();
    answer.data("/node/auditLog/nodes").as_array().unwrap().clone()
}

/// Entries of a workspace's log.
async fn log_of(actor: &Actor, workspace: &Workspace, filter: Value) -> Answer {
    let document = format!(
        "query($name: String!, $filter: AuditLogFilter) {{ workspace(name: $name) {{
            auditLog(first: 100, filter: $filter) {{ totalCount nodes {{ {ENTRY} }} }} }} }}"
    );
    actor.query(&document, json!({ "name": workspace.name, "filter": filter })).await
}

async fn entries(app: &App) -> i64 {
    app.number("SELECT count(*) FROM audit_events").await
}

/// Carries out a mutation that leaves exactly one entry, and gives both.
pub(crate) async fn did(
    app: &App,
    by: &Actor,
    mutation: &str,
    input: Value,
    selection: &str,
) -> (Answer, Value) {
    let before = entries(app).await;
    let (_, answer) = tried(app, by, mutation, input, selection).await;
    let answer = answer.ok();
    assert_eq!(entries(app).await, before + 1, "{mutation}");
    let entry = newest(app, 1).await.remove(0);
    assert_eq!(entry["action"], mutation);
    assert_eq!(entry["actor"]["kind"], "PERSON");
    assert_eq!(
        (&entry["actor"]["id"], &entry["actor"]["name"]),
        (&json!(by.id), &json!(by.name)),
        "{mutation}"
    );
    assert!(entry["requestId"].is_string() && entry["ip"].is_string(), "{entry}");
    (answer, entry)
}

async fn each_change_leaves_one_entry_of_who_did_what(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let first = newest(&app, 10).await;
    assert_eq!(first.len(), 1);
    assert_eq!((&first[0]["action"], &first[0]["object"]["id"]), (&json!("setUp"), &json!(organization)));
    assert_eq!(first[0]["actor"]["id"], json!(ada.id));

    let input = json!({ "displayName": "Lab", "region": "eu" });
    let (made, entry) = did(&app, &ada, "createWorkspace", input, "workspace { id name }").await;
    let id = made.text("/createWorkspace/workspace/id").to_owned();
    let name = made.text("/createWorkspace/workspace/name").to_owned();
    let lab = Workspace { id: id.clone(), name, admin: ada.clone() };
    assert_eq!(entry["object"], json!({ "kind": "WORKSPACE", "id": id, "name": "Lab" }));
    assert_eq!((&entry["before"], &entry["after"]["region"]), (&Value::Null, &json!("eu")));
    assert_eq!(entry["workspaceId"], json!(id));

    let input = json!({ "workspaceId": id, "displayName": "Den" });
    let (_, entry) = did(&app, &ada, "updateWorkspace", input, "").await;
    assert_eq!(
        (&entry["before"], &entry["after"]),
        (&json!({ "displayName": "Lab" }), &json!({ "displayName": "Den" }))
    );
    let long = format!("# Den\n\n{}", "x".repeat(3_000));
    let input = json!({ "workspaceId": id, "description": long });
    let (_, entry) = did(&app, &ada, "describeWorkspace", input, "").await;
    assert_eq!(
        entry["after"]["text"]["bytes"],
        json!(long.len()),
        "a long text is told by its length and hash"
    );
    assert!(entry["after"]["text"]["sha256"].is_string());

    let input = json!({ "workspaceId": id, "key": "YEAR", "value": { "number": 2026 } });
    let (_, entry) = did(&app, &ada, "setConfigProperty", input, "").await;
    assert_eq!((&entry["object"]["id"], &entry["after"]), (&json!("YEAR"), &json!({ "YEAR": 2026 })));
    let both = json!([{ "key": "YEAR", "value": { "number": 2027 } }, { "key": "PLACE", "value": { "string": "Lyon" } }]);
    let input = json!({ "workspaceId": id, "properties": both });
    let (_, entry) = did(&app, &ada, "setConfigProperties", input, "").await;
    assert_eq!(
        (&entry["before"], &entry["after"]),
        (&json!({ "YEAR": 2026 }), &json!({ "YEAR": 2027, "PLACE": "Lyon" }))
    );
    let input = json!({ "workspaceId": id, "key": "YEAR" });
    let (_, entry) = did(&app, &ada, "deleteConfigProperty", input, "").await;
    assert_eq!((&entry["before"], &entry["after"]), (&json!({ "YEAR": 2027 }), &Value::Null));

    let input = json!({ "workspaceId": id, "email": "ivan@example.org", "role": "VIEWER" });
    let (made, entry) = did(&app, &ada, "inviteMember", input, "invitation { id }").await;
    let invitation = made.data("/inviteMember/invitation/id").clone();
    assert_eq!(
        entry["object"],
        json!({ "kind": "INVITATION", "id": invitation, "name": "ivan@example.org" })
    );
    assert_eq!(entry["after"]["role"], "VIEWER");
    let input = json!({ "workspaceId": id, "invitationId": invitation, "role": "EDITOR" });
    let (_, entry) = did(&app, &ada, "resendInvitation", input.clone(), "").await;
    assert_eq!((&entry["before"]["role"], &entry["after"]["role"]), (&json!("VIEWER"), &json!("EDITOR")));
    let input = json!({ "workspaceId": id, "invitationId": invitation });
    let (_, entry) = did(&app, &ada, "revokeInvitation", input, "").await;
    assert_eq!(
        (&entry["before"], &entry["after"]),
        (&json!({ "status": "PENDING" }), &json!({ "status": "REVOKED" }))
    );

    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    let of_eve = membership(&lab, &eve).await;
    let input = json!({ "workspaceId": id, "memberId": of_eve, "role": "EDITOR" });
    let (_, entry) = did(&app, &ada, "updateMemberRole", input, "").await;
    assert_eq!(entry["object"], json!({ "kind": "MEMBERSHIP", "id": of_eve, "name": "Eve" }));
    assert_eq!(
        (&entry["before"], &entry["after"]),
        (&json!({ "role": "VIEWER" }), &json!({ "role": "EDITOR" }))
    );
    let (_, entry) = did(&app, &eve, "leaveWorkspace", json!({ "workspaceId": id }), "").await;
    assert_eq!(entry["before"]["email"], json!(eve.email));
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    let input = json!({ "workspaceId": id, "memberId": membership(&lab, &adam).await });
    did(&app, &ada, "removeMember", input, "").await;

    let input = json!({ "organizationId": organization, "name": "Auditor", "permissions": ["WORKSPACE_VIEW", "AUDIT_VIEW"] });
    let (made, entry) = did(&app, &ada, "createRole", input, "role { id }").await;
    let role = made.data("/createRole/role/id").clone();
    assert_eq!(entry["after"]["permissions"], json!(["workspace.view", "audit.view"]));
    assert_eq!(entry["workspaceId"], Value::Null);
    let input = json!({ "organizationId": organization, "roleId": role, "name": "Reviser" });
    let (_, entry) = did(&app, &ada, "updateRole", input, "").await;
    assert_eq!(
        (&entry["before"], &entry["after"]),
        (&json!({ "name": "Auditor" }), &json!({ "name": "Reviser" }))
    );
    did(&app, &ada, "deleteRole", json!({ "organizationId": organization, "roleId": role }), "").await;

    let on_eve = json!({ "organizationId": organization, "userId": eve.id });
    let input = json!({ "organizationId": organization, "userId": eve.id, "role": "ADMIN" });
    let (_, entry) = did(&app, &ada, "updateOrganizationMember", input, "").await;
    assert_eq!(
        (&entry["before"], &entry["after"]),
        (&json!({ "role": "MEMBER" }), &json!({ "role": "ADMIN" }))
    );
    did(&app, &ada, "disableUser", on_eve.clone(), "").await;
    did(&app, &ada, "enableUser", on_eve.clone(), "").await;
    did(&app, &ada, "endMemberSessions", on_eve.clone(), "").await;
    let (made, _) = did(&app, &ada, "transferOwnership", on_eve.clone(), "transfer { id }").await;
    let transfer = made.data("/transferOwnership/transfer/id").clone();
    let input = json!({ "organizationId": organization, "transferId": transfer });
    let (_, entry) = did(&app, &ada, "cancelOwnershipTransfer", input, "").await;
    assert_eq!(entry["after"], json!({ "status": "CANCELLED" }));
    let eve = eve.again().await;
    for answer in ["declineOwnershipTransfer", "acceptOwnershipTransfer"] {
        let made = ada.mutate("transferOwnership", on_eve.clone(), "transfer { id }").await.ok();
        let transfer = json!({ "transferId": made.data("/transferOwnership/transfer/id") });
        did(&app, &eve, answer, transfer, "").await;
    }
    // Eve owns the organization now, and Ada is an admin of it: whoever may reads.
    let input = json!({ "organizationId": organization, "name": "Sample" });
    let (_, entry) = did(&app, &eve, "updateOrganization", input, "").await;
    assert_eq!(
        (&entry["before"], &entry["after"]),
        (&json!({ "name": "Example" }), &json!({ "name": "Sample" }))
    );
    let input = json!({ "organizationId": organization, "allowReveal": true });
    let (_, entry) = did(&app, &eve, "updateOrganizationPolicy", input, "").await;
    assert_eq!(
        (&entry["before"], &entry["after"]),
        (&json!({ "allowReveal": false }), &json!({ "allowReveal": true }))
    );

    let field =
        |code: &str, value: &str, secret: bool| json!({ "code": code, "value": value, "isSecret": secret });
    let fields = json!([field("token", "otter", true), field("host", "a.example", false)]);
    let input = json!({ "workspaceId": id, "type": "CUSTOM", "name": "Store", "fields": fields });
    let (made, entry) = did(&app, &ada, "createCredential", input, "credential { id }").await;
    let credential = made.data("/createCredential/credential/id").clone();
    assert!(entry["after"]["fields.token"]["fingerprint"].is_string(), "{entry}");
    assert_eq!(entry["after"]["fields.host"], "a.example");
    let fields =
        json!([field("token", "violin", true), { "code": "host", "value": null, "isSecret": false }]);
    let input = json!({ "workspaceId": id, "credentialId": credential, "fields": fields });
    let (_, changed) = did(&app, &ada, "updateCredential", input, "").await;
    assert_eq!(changed["before"]["fields.token"], entry["after"]["fields.token"]);
    assert_ne!(changed["after"]["fields.token"], entry["after"]["fields.token"]);
    assert_eq!(changed["after"].as_object().unwrap().len(), 1, "{changed}");
    let on_credential = json!({ "workspaceId": id, "credentialId": credential });
    let (_, entry) = did(&app, &ada, "revealCredential", on_credential.clone(), "").await;
    assert_eq!((&entry["before"], &entry["after"]), (&Value::Null, &Value::Null));
    let target = app.default_workspace().id.clone();
    let input = json!({ "workspaceId": id, "credentialId": credential, "targetWorkspaceId": target });
    let (made, _) = did(&app, &ada, "shareCredential", input.clone(), "share { id }").await;
    let share = json!({ "workspaceId": id, "shareId": made.data("/shareCredential/share/id") });
    let (_, entry) = did(&app, &ada, "unshareCredential", share, "").await;
    assert_eq!(entry["after"], json!({ "status": "REVOKED" }));
    app.sql("UPDATE organizations SET share_acceptance = 'REQUIRED'").await;
    for answer in ["acceptCredentialShare", "declineCredentialShare"] {
        let made = ada.mutate("shareCredential", input.clone(), "share { id }").await.ok();
        let share = json!({ "workspaceId": target, "shareId": made.data("/shareCredential/share/id") });
        let (_, entry) = did(&app, &ada, answer, share.clone(), "").await;
        assert_eq!(entry["workspaceId"], json!(target), "in the workspace that answers");
        ada.mutate("declineCredentialShare", share, "").await;
    }
    did(&app, &ada, "deleteCredential", on_credential, "").await;

    let input = json!({ "workspaceId": id, "name": "Robot", "role": "VIEWER" });
    let (made, _) = did(&app, &ada, "createServiceAccount", input, "serviceAccount { id }").await;
    let account = made.data("/createServiceAccount/serviceAccount/id").clone();
    let on_account = json!({ "workspaceId": id, "serviceAccountId": account });
    did(&app, &ada, "rotateServiceAccountSecret", on_account.clone(), "").await;
    did(&app, &ada, "deleteServiceAccount", on_account, "").await;
    did(&app, &ada, "rotateDefaultApiKey", json!({ "workspaceId": id }), "").await;

    let input = json!({ "workspaceId": id, "name": "CI", "url": "https://hooks.example.org/s3cret?a=b", "events": ["WORKSPACE_CHANGED"] });
    let (made, entry) = did(&app, &ada, "createWebhook", input, "webhook { id }").await;
    assert_eq!(entry["after"]["destination"], "https://hooks.example.org");
    assert!(!entry.to_string().contains("s3cret"), "{entry}");
    let on_webhook = json!({ "workspaceId": id, "webhookId": made.data("/createWebhook/webhook/id") });
    let (tried, _) = did(&app, &ada, "sendTestWebhook", on_webhook.clone(), "delivery { id }").await;
    let on_delivery = json!({ "workspaceId": id, "deliveryId": tried.data("/sendTestWebhook/delivery/id") });
    did(&app, &ada, "replayWebhookDelivery", on_delivery, "").await;
    let mut input = on_webhook.clone();
    input["url"] = json!("https://hooks.example.org/other");
    let (_, entry) = did(&app, &ada, "updateWebhook", input, "").await;
    assert_eq!(entry["before"].as_object().unwrap().keys().collect::<Vec<_>>(), ["urlFingerprint"]);
    did(&app, &ada, "rotateWebhookSecret", on_webhook.clone(), "").await;
    did(&app, &ada, "deleteWebhook", on_webhook, "").await;

    let input =
        json!({ "organizationId": organization, "workspaceId": id, "metric": "CREDITS", "limit": 50 });
    let (_, entry) = did(&app, &ada, "setQuota", input, "").await;
    assert_eq!(entry["object"], json!({ "kind": "WORKSPACE", "id": id, "name": "Den" }));
    assert_eq!(
        (&entry["before"], &entry["after"]),
        (&json!({ "metric": "CREDITS", "limit": null }), &json!({ "metric": "CREDITS", "limit": 50 }))
    );
    let input = json!({ "workspaceId": id, "amount": 7, "purpose": "Nightly forecast" });
    let (_, entry) = did(&app, &ada, "spendCredits", input, "").await;
    assert_eq!(
        (&entry["object"]["name"], &entry["after"]),
        (&json!("Nightly forecast"), &json!({ "credits": 7 }))
    );

    let input = json!({ "workspaceId": id, "metric": "ITEMS", "by": 3 });
    let (_, entry) = did(&app, &ada, "adjustUsage", input, "").await;
    assert_eq!(entry["after"], json!({ "metric": "ITEMS", "by": 3 }));

    did(&app, &ada, "archiveWorkspace", json!({ "workspaceId": id }), "").await;
    let (_, entry) = did(&app, &ada, "restoreWorkspace", json!({ "workspaceId": id }), "").await;
    assert_eq!(
        (&entry["before"], &entry["after"]),
        (&json!({ "status": "ARCHIVED" }), &json!({ "status": "ACTIVE" }))
    );
    let input = json!({ "workspaceId": id, "confirmName": lab.name, "removeMembers": true });
    let (_, entry) = did(&app, &ada, "deleteWorkspace", input, "").await;
    assert_eq!((&entry["before"]["displayName"], &entry["after"]), (&json!("Den"), &Value::Null));
    let on_adam = json!({ "organizationId": organization, "userId": adam.id });
    did(&app, &ada, "removeOrganizationMember", on_adam, "").await;
    app.chained().await;
    assert_eq!(app.number("SELECT max(place) FROM audit_events").await, entries(&app).await);
}

#[test]
fn every_mutation_stands_in_the_log_or_is_said_not_to() {
    // What is a person's own, and what has a record of its own.
    let apart = [
        "cancelEmailChange",
        "changePassword",
        "issueWorkspaceToken",
        "confirmEmailChange",
        "confirmSecondFactor",
        "disableSecondFactor",
        "enrollSecondFactor",
        "generateRecoveryCodes",
        "refreshSession",
        "requestEmailChange",
        "requestPasswordReset",
        "resetPassword",
        "resetPasswordWithRecoveryCode",
        "revokeSession",
        "setDefaultWorkspace",
        "signIn",
        "signOut",
        "startSingleSignOn",
        "switchWorkspace",
        "testCredential",
        "updateProfile",
        "useCredential",
    ];
    let schema = parse_schema(guildhall_graphql::sdl()).unwrap();
    let mutations: BTreeSet<String> = schema
        .definitions
        .into_iter()
        .filter_map(|definition| match definition {
            TypeSystemDefinition::Type(of) if of.node.name.node == "Mutation" => match of.node.kind {
                TypeKind::Object(object) => Some(object.fields),
                _ => None,
            },
            _ => None,
        })
        .flatten()
        .map(|field| field.node.name.node.to_string())
        .collect();
    let actions: BTreeSet<String> = Action::ALL.iter().map(|action| action.word().to_owned()).collect();
    let missing: Vec<_> =
        mutations.iter().filter(|name| !actions.contains(*name) && !apart.contains(&name.as_str())).collect();
    assert!(missing.is_empty(), "no action of the audit log: {missing:?}");
    let unknown: Vec<_> = actions
        .iter()
        .filter(|word| !mutations.contains(*word) && !word.starts_with("admin "))
        // An operator's, and what the service does by itself.
        .filter(|word| !["import", "disableWebhook"].contains(&word.as_str()))
        .collect();
    assert!(unknown.is_empty(), "no mutation and no command: {unknown:?}");
}

async fn what_happens_to_invitations_stands_in_each_workspace_they_open(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let (lab, attic) = (ada.workspace("Lab").await, ada.workspace("Attic").await);
    let several = |email: &str| {
        json!({ "organizationId": organization, "email": email, "workspaces": [
            { "workspaceId": lab.id, "role": "VIEWER" }, { "workspaceId": attic.id, "role": "EDITOR" }] })
    };
    let before = entries(&app).await;
    ada.mutate("inviteOrganizationMember", several("eve@example.org"), "").await.ok();
    assert_eq!(entries(&app).await, before + 1);
    let link = app.mail_to("eve@example.org").await.link();
    let input = json!({ "token": token_of(&link), "displayName": "Eve", "password": PASSWORD });
    app.anonymous().mutate("register", input, "").await.ok();
    let written = newest(&app, 2).await;
    let places: BTreeSet<_> = written.iter().map(|entry| entry["workspaceId"].as_str().unwrap()).collect();
    assert_eq!(places, BTreeSet::from([lab.id.as_str(), attic.id.as_str()]));
    assert!(written.iter().all(|entry| entry["action"] == "register" && entry["actor"]["name"] == "Eve"));
    assert_eq!(entries(&app).await, before + 3);

    // Whoever declines by the link alone is named by the address it went to.
    ada.mutate("inviteOrganizationMember", several("zoe@example.org"), "").await.ok();
    let link = app.mail_to("zoe@example.org").await.link();
    app.anonymous().mutate("declineInvitation", json!({ "token": token_of(&link) }), "").await.ok();
    let declined = newest(&app, 1).await.remove(0);
    assert_eq!(declined["actor"], json!({ "kind": "PERSON", "id": null, "name": "zoe@example.org" }));
    // Bulk: one entry for each who is invited, none for those who are not.
    let before = entries(&app).await;
    let invitee = |email: &str| json!({ "email": email, "role": "VIEWER" });
    let input = json!({ "workspaceId": lab.id,
        "invitees": [invitee("a@example.org"), invitee("nonsense"), invitee("eve@example.org"), invitee("b@example.org")] });
    ada.mutate("inviteMembers", input, "results { invitation { id } }").await;
    assert_eq!(entries(&app).await, before + 2);
    // On the server's own pages it is the same.
    ada.invite(&lab, "max@example.org", "VIEWER").await.ok();
    let link = app.mail_to("max@example.org").await.link();
    let fields = [("intent", "register"), ("display_name", "Max"), ("password", PASSWORD)];
    app.anonymous().post_form(&link, &fields).await;
    let entry = newest(&app, 1).await.remove(0);
    assert_eq!((&entry["action"], &entry["actor"]["name"]), (&json!("register"), &json!("Max")));
    assert!(entry["requestId"].is_string() && entry["ip"].is_string(), "{entry}");
}

async fn what_is_refused_or_changes_nothing_leaves_no_entry(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    let of_ada = membership(&lab, &ada).await;
    let before = entries(&app).await;
    ada.mutate("leaveWorkspace", json!({ "workspaceId": lab.id }), "").await.refused("LAST_ADMIN");
    members::set_role(&ada, &lab, &of_ada, "VIEWER").await.refused("LAST_ADMIN");
    let input = json!({ "workspaceId": lab.id, "displayName": "Mine" });
    eve.mutate("updateWorkspace", input.clone(), "").await.denied("FORBIDDEN");
    olga.mutate("updateWorkspace", input, "").await.denied("NOT_FOUND");
    // The same again.
    let input = json!({ "workspaceId": lab.id, "displayName": "Lab" });
    ada.mutate("updateWorkspace", input, "").await.ok();
    ada.mutate("restoreWorkspace", json!({ "workspaceId": lab.id }), "").await.ok();
    let input = json!({ "organizationId": organization, "name": "Example" });
    ada.mutate("updateOrganization", input, "").await.ok();
    // What is a person's own.
    eve.mutate("updateProfile", json!({ "displayName": "Eva" }), "").await.ok();
    eve.mutate("setDefaultWorkspace", json!({ "workspaceId": lab.id }), "").await.ok();
    eve.mutate("signOut", Value::Null, "").await.ok();
    assert_eq!(entries(&app).await, before);
}

async fn an_entry_tells_request_and_address(app: App) {
    let ada = app.set_up().await;
    let body = json!({ "query": "mutation { createWorkspace(input: { displayName: \"Lab\" }) { workspace { id } } }" });
    let request = Request::post(format!("{}/graphql", app.url))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, format!("Bearer {}", ada.access_token.as_deref().unwrap()))
        .header("x-request-id", "ticket-4711")
        .body(Bytes::from(body.to_string()))
        .unwrap();
    ada.http(request).await;
    let entry = newest(&app, 1).await.remove(0);
    assert_eq!((&entry["requestId"], &entry["ip"]), (&json!("ticket-4711"), &json!("127.0.0.1")));
}

async fn each_reads_what_concerns_them(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let (lab, attic) = (ada.workspace("Lab").await, ada.workspace("Attic").await);
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    let eve = app.member(&lab, SystemRole::Editor, "Eve").await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    roles::made(&ada, &organization, "Auditor", &["WORKSPACE_VIEW", "AUDIT_VIEW"]).await;
    ada.invite(&attic, "ivan@example.org", "VIEWER").await.ok();
    let seen = log_of(&adam, &lab, Value::Null).await.ok();
    let nodes = seen.data("/workspace/auditLog/nodes").as_array().unwrap();
    assert_eq!(seen.data("/workspace/auditLog/totalCount"), nodes.len());
    assert!(nodes.len() >= 5 && nodes.iter().all(|entry| entry["workspaceId"] == json!(lab.id)), "{seen}");
    // Nor does the filter lead elsewhere.
    let elsewhere = log_of(&adam, &lab, json!({ "workspace": attic.id })).await.ok();
    assert_eq!(elsewhere.data("/workspace/auditLog/totalCount"), 0);
    let refused = log_of(&eve, &lab, Value::Null).await;
    assert!(refused.data("/workspace/auditLog").is_null());
    refused.denied("FORBIDDEN");
    let unknown = log_of(&olga, &lab, Value::Null).await;
    assert!(unknown.data("/workspace").is_null(), "{unknown}");
    let document = "query($id: ID!) { node(id: $id) { ... on Organization { auditLog { totalCount } } } }";
    let refused = adam.query(document, json!({ "id": organization })).await;
    refused.denied("FORBIDDEN");
    let unknown = olga.query(document, json!({ "id": organization })).await;
    assert!(unknown.data("/node").is_null(), "{unknown}");
    let all = ada.query(document, json!({ "id": organization })).await.ok();
    assert_eq!(
        all.data("/node/auditLog/totalCount"),
        app.number(&format!(
            "SELECT count(*) FROM audit_events WHERE organization_id = {}",
            app.literal(&organization)
        ))
        .await
    );
}

async fn lists_are_filtered_and_paged(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    for number in 0..5 {
        let input =
            json!({ "workspaceId": lab.id, "key": format!("KEY_{number}"), "value": { "number": number } });
        adam.mutate("setConfigProperty", input, "").await.ok();
    }
    let found =
        async |filter: Value| log(&ada, &organization, json!({ "first": 100, "filter": filter })).await;
    assert_eq!(found(json!({ "actor": adam.id, "action": ["setConfigProperty"] })).await.len(), 5);
    assert_eq!(found(json!({ "object": "KEY_3" })).await.len(), 1);
    assert_eq!(found(json!({ "objectKind": ["CONFIG_PROPERTY"] })).await.len(), 5);
    assert_eq!(
        found(json!({ "workspace": lab.id, "action": ["createWorkspace", "register"] })).await.len(),
        2
    );
    assert!(found(json!({ "to": "2020-01-01T00:00:00Z" })).await.is_empty());
    assert!(!found(json!({ "from": "2020-01-01T00:00:00Z" })).await.is_empty());
    // The newest first, page by page, forward and backward.
    let all: Vec<_> = found(json!({})).await.into_iter().map(|entry| entry["id"].clone()).collect();
    for (size, cursor, info, back) in
        [("first", "after", "endCursor", false), ("last", "before", "startCursor", true)]
    {
        let document = format!(
            "query($id: ID!, $cursor: String) {{ node(id: $id) {{ ... on Organization {{
                auditLog({size}: 3, {cursor}: $cursor) {{ nodes {{ id }} pageInfo {{ {info} }} }} }} }} }}"
        );
        let (mut paged, mut at) = (Vec::new(), Value::Null);
        loop {
            let page = ada.query(&document, json!({ "id": organization, "cursor": at })).await.ok();
            let ids: Vec<_> = page
                .data("/node/auditLog/nodes")
                .as_array()
                .unwrap()
                .iter()
                .map(|node| node["id"].clone())
                .collect();
            if ids.is_empty() {
                break;
            }
            at = page.data(&format!("/node/auditLog/pageInfo/{info}")).clone();
            if back {
                paged.splice(0..0, ids);
            } else {
                paged.extend(ids);
            }
        }
        assert_eq!(paged, all, "{size}");
    }
    for filter in
        [json!({ "action": ["dropTables"] }), json!({ "workspace": "mine" }), json!({ "actor": "a\u{0}b" })]
    {
        let document = "query($id: ID!, $filter: AuditLogFilter) { node(id: $id) { ... on Organization {
            auditLog(filter: $filter) { totalCount } } } }";
        ada.query(document, json!({ "id": organization, "filter": filter })).await.denied("BAD_USER_INPUT");
    }
}

async fn what_was_done_outlives_what_it_was_done_to(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    ada.mutate("updateProfile", json!({ "displayName": "Countess" }), "").await.ok();
    let input = json!({ "workspaceId": lab.id, "confirmName": lab.name, "removeMembers": true });
    ada.mutate("deleteWorkspace", input, "").await.ok();
    let on_adam = json!({ "organizationId": organization, "userId": adam.id });
    ada.mutate("removeOrganizationMember", on_adam, "").await.ok();
    let told = log(&ada, &organization, json!({ "first": 100, "filter": { "workspace": lab.id } })).await;
    let actions: Vec<_> = told.iter().rev().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["createWorkspace", "inviteMember", "register", "deleteWorkspace"]);
    assert_eq!(told[3]["actor"]["name"], json!(ada.name), "the name at the time");
    assert_eq!(told[0]["actor"]["name"], "Countess");
}

const WATCH: &str =
    "subscription($id: ID!, $after: String) { auditLogChanged(workspaceId: $id, after: $after) {
    cursor event { action place hash actor { name } } } }";

async fn what_is_added_is_watched(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let (lab, attic) = (ada.workspace("Lab").await, ada.workspace("Attic").await);
    app.chained().await;
    let mut watch = ada.subscribe(WATCH, json!({ "id": lab.id })).await;
    let everywhere = "subscription($id: ID!) { organizationAuditLogChanged(organizationId: $id) {
        event { action workspaceId } } }";
    let mut all = ada.subscribe(everywhere, json!({ "id": organization })).await;
    ada.invite(&attic, "ivan@example.org", "VIEWER").await.ok();
    let input = json!({ "workspaceId": lab.id, "displayName": "Den" });
    ada.mutate("updateWorkspace", input, "").await.ok();
    let told = watch.next().await;
    let event = told.data("/auditLogChanged/event");
    assert_eq!((&event["action"], &event["actor"]["name"]), (&json!("updateWorkspace"), &json!(ada.name)));
    assert!(event["place"].is_i64() && event["hash"].is_string());
    for action in ["inviteMember", "updateWorkspace"] {
        assert_eq!(all.next().await.data("/organizationAuditLogChanged/event/action"), action);
    }
    // Whoever was away gets what they missed, however long that was.
    let cursor = told.text("/auditLogChanged/cursor").to_owned();
    drop(watch);
    for number in 0..3 {
        let input = json!({ "workspaceId": lab.id, "displayName": format!("Den {number}") });
        ada.mutate("updateWorkspace", input, "").await.ok();
    }
    app.sql("DELETE FROM events").await;
    let mut watch = ada.subscribe(WATCH, json!({ "id": lab.id, "after": cursor })).await;
    let place = |told: &Answer| told.data("/auditLogChanged/event/place").as_i64().unwrap();
    let first = place(&watch.next().await);
    for expected in [first + 1, first + 2] {
        assert_eq!(place(&watch.next().await), expected);
    }
    // Nothing twice: what comes next is what happens next.
    watch.no_event_for(300).await;
    let input = json!({ "workspaceId": lab.id, "displayName": "Den 3" });
    ada.mutate("updateWorkspace", input, "").await.ok();
    assert_eq!(place(&watch.next().await), first + 3);
}

async fn a_watcher_who_loses_the_right_is_told_and_hears_no_more(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    let of_adam = membership(&lab, &adam).await;
    app.chained().await;
    let mut watch = adam.subscribe(WATCH, json!({ "id": lab.id })).await;
    let input = json!({ "workspaceId": lab.id, "displayName": "Den" });
    ada.mutate("updateWorkspace", input, "").await.ok();
    watch.next().await;
    members::set_role(&ada, &lab, &of_adam, "EDITOR").await.ok();
    watch.next().await.denied("FORBIDDEN");
    assert!(matches!(watch.ended().await, End::Complete));
    adam.subscribe(WATCH, json!({ "id": lab.id })).await.next().await.denied("FORBIDDEN");
}

/// Runs a command of the binary beside the server, with the same database and secrets.
pub(crate) fn guildhall(app: &App, directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.current_dir(directory).env_clear().envs(app.environment()).args(arguments).stdin(Stdio::null());
    command.output().unwrap()
}

/// Verifies a file with nothing but the binary: no configuration, no database.
fn verify(file: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let elsewhere = TempDir::new().unwrap();
    let mut command = Command::new(binary());
    command.current_dir(elsewhere.path()).env_clear().args(["audit", "verify", file.to_str().unwrap()]);
    let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(told).unwrap())
}

/// Exports the owner's organization.
fn export(app: &App, directory: &Path, arguments: &[&str]) -> std::path::PathBuf {
    let given = [&["audit", "export", "--organization", "example", "log.jsonl"], arguments].concat();
    let output = guildhall(app, directory, &given);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    directory.join("log.jsonl")
}

/// An organization with some entries, the first `signed` of them under a checkpoint.
async fn busy(app: &App) -> Workspace {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    for number in 0..10 {
        let input = json!({ "workspaceId": lab.id, "displayName": format!("Lab {number}") });
        ada.mutate("updateWorkspace", input, "").await.ok();
    }
    app.chained().await;
    lab
}

async fn a_whole_log_is_verified_without_the_service(app: App) {
    busy(&app).await;
    let directory = TempDir::new().unwrap();
    let file = export(&app, directory.path(), &[]);
    let (code, told) = verify(&file, &[]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("is whole: 12 entries of example, from 1 to 12"), "{told}");
    let text = fs::read_to_string(&file).unwrap();
    let header: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let key = header["keys"][0]["public_key"].as_str().unwrap();
    assert_eq!(verify(&file, &["--public-key", key]).0, Some(0));
    assert_eq!(verify(&file, &["--public-key", &"00".repeat(32)]).0, Some(1));
    assert!(text.lines().nth(1).unwrap().contains(r#""action":"setUp""#), "{text}");
    // A part of it: what was done before a moment.
    let part =
        export(&app, directory.path(), &["--to", "2999-01-01T00:00:00Z", "--from", "2020-01-01T00:00:00Z"]);
    assert_eq!(verify(&part, &[]).0, Some(0));
    let nothing = export(&app, directory.path(), &["--to", "2020-01-01T00:00:00Z"]);
    let (code, told) = verify(&nothing, &[]);
    assert!(code == Some(0) && told.contains("0 entries"), "{told}");
    let unknown = guildhall(&app, directory.path(), &["audit", "export", "--organization", "nobody", "x"]);
    assert_eq!(unknown.status.code(), Some(1));
    // It goes on from where it was signed.
    let ada = app.owner();
    ada.workspace("Attic").await;
    let later = export(&app, directory.path(), &[]);
    assert!(verify(&later, &[]).1.contains("13 entries"));
    assert_eq!(app.number("SELECT count(*) FROM audit_checkpoints").await, 2);
}

async fn tampering_with_a_file_is_found_out(app: App) {
    busy(&app).await;
    let directory = TempDir::new().unwrap();
    let file = export(&app, directory.path(), &[]);
    let whole = fs::read_to_string(&file).unwrap();
    let lines: Vec<String> = whole.lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 13);
    type Tamper = fn(&mut Vec<String>);
    let tampering: [(&str, Tamper); 9] = [
        ("record 5, on line 6, was changed", |lines| {
            lines[5] = lines[5].replace("updateWorkspace", "deleteWorkspace")
        }),
        ("record 5, which belongs on line 6, was removed", |lines| drop(lines.remove(5))),
        ("line 9, which claims to be record 3, was inserted", |lines| lines.insert(8, lines[3].clone())),
        ("record 4 belongs on line 5 and stands on line 8", |lines| lines.swap(4, 7)),
        ("cut off after record 9: record 12 was signed", |lines| lines.truncate(10)),
        ("line 4 is no record", |lines| lines.insert(3, "not a record".to_owned())),
        ("the header was not signed", |lines| lines[0] = lines[0].replace(r#""last":12"#, r#""last":11"#)),
        ("the header was not signed", |lines| {
            lines[0] = lines[0].replace(r#""organization":"org_"#, r#""organization":"org_0"#)
        }),
        ("this is no exported audit log", |lines| drop(lines.remove(0))),
    ];
    for (expected, tamper) in tampering {
        let mut lines = lines.clone();
        tamper(&mut lines);
        fs::write(&file, lines.join("\n")).unwrap();
        let (code, told) = verify(&file, &[]);
        assert_eq!(code, Some(1), "{expected}: {told}");
        assert!(told.contains(expected), "{expected}: {told}");
    }
    fs::write(&file, whole).unwrap();
    assert_eq!(verify(&file, &[]).0, Some(0));
}

async fn tampering_with_the_database_is_found_out(app: App) {
    busy(&app).await;
    let directory = TempDir::new().unwrap();
    let export = || export(&app, directory.path(), &[]);
    // Signs the end.
    export();
    let tampering = [
        ("UPDATE audit_events SET actor_name = 'Eve' WHERE place = 5", "record 5, on line 6, was changed"),
        (
            "UPDATE audit_events SET created_at = '2020-01-01 00:00:00+00:00' WHERE place = 12",
            "record 12, on line 13, was changed",
        ),
        ("DELETE FROM audit_events WHERE place = 7", "record 7, which belongs on line 8, was removed"),
        ("DELETE FROM audit_events WHERE place > 9", "cut off after record 9: record 12 was signed"),
        // Also where the end of the chain is set back.
        (
            "DELETE FROM audit_events WHERE place > 9;
             UPDATE audit_chains SET signed_place = 9, place = 9,
                 hash = (SELECT hash FROM audit_events WHERE place = 9)",
            "cut off after record 9: record 12 was signed",
        ),
        (
            "UPDATE audit_checkpoints SET hash = previous_hash FROM audit_events WHERE audit_events.place = 12",
            "the checkpoint at record 12 was not signed",
        ),
    ];
    for (statements, expected) in tampering {
        let tables = ["audit_events", "audit_chains", "audit_checkpoints"];
        for table in tables {
            app.sql(&format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}")).await;
        }
        for statement in statements.split(';') {
            app.sql(statement).await;
        }
        let (code, told) = verify(&export(), &[]);
        assert_eq!(code, Some(1), "{statements}: {told}");
        assert!(told.contains(expected), "{statements}: {told}");
        for table in tables {
            app.sql(&format!("DELETE FROM {table}")).await;
            app.sql(&format!("INSERT INTO {table} SELECT * FROM kept_{table}")).await;
            app.sql(&format!("DROP TABLE kept_{table}")).await;
        }
        let (code, told) = verify(&export(), &[]);
        assert_eq!(code, Some(0), "{told}");
    }
}

async fn what_an_operator_does_stands_in_the_log(app: App) {
    let ada = app.set_up().await;
    let directory = TempDir::new().unwrap();
    let done = guildhall(&app, directory.path(), &["admin", "reset-password", &ada.email]);
    assert!(done.status.success());
    let password = String::from_utf8(done.stdout).unwrap();
    let password = password.trim().lines().last().unwrap();
    let ada = Actor::sign_in(&app.url, &ada.email, password).await;
    let organization = ada.organization().await;
    let entry = log(&ada, &organization, json!({ "first": 1 })).await.remove(0);
    assert_eq!(entry["actor"], json!({ "kind": "OPERATOR", "id": null, "name": "operator" }));
    assert_eq!((&entry["action"], &entry["object"]["id"]), (&json!("admin reset-password"), &json!(ada.id)));
    assert_eq!((&entry["before"], &entry["after"], &entry["ip"]), (&Value::Null, &Value::Null, &Value::Null));
    app.chained().await;
    assert_eq!(app.number("SELECT count(*) FROM audit_events WHERE place IS NULL").await, 0);
}

async fn a_new_master_key_signs_on(app: App) {
    busy(&app).await;
    let directory = TempDir::new().unwrap();
    export(&app, directory.path(), &[]);
    let old = app.environment().find(|(name, _)| *name == "MASTER_KEY").unwrap().1.to_owned();
    let other = "YW5vdGhlciBtYXN0ZXIga2V5IG9mIHRoZSB0ZXN0cyE=";
    let run = |keys: &[(&str, &str)], arguments: &[&str]| {
        let mut command = Command::new(binary());
        command.current_dir(directory.path()).env_clear().envs(app.environment());
        command.envs(keys.iter().copied()).args(arguments).stdin(Stdio::null());
        let output = command.output().unwrap();
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let both = [("MASTER_KEY", other), ("MASTER_KEY_PREVIOUS", old.as_str())];
    let (_, status) = run(&both, &["keys", "status"]);
    assert!(status.contains("1 signing key"), "{status}");
    let (done, told) = run(&both, &["keys", "rotate"]);
    assert!(done && told.contains("1 signing key"), "{told}");
    // The old one is needed for nothing any more.
    let arguments = ["audit", "export", "--organization", "example", "log.jsonl"];
    let (done, told) = run(&[("MASTER_KEY", other)], &arguments);
    assert!(done, "{told}");
    assert_eq!(verify(&directory.path().join("log.jsonl"), &[]).0, Some(0));
    assert_eq!(app.number("SELECT count(*) FROM signing_keys").await, 1);
}

#[test]
fn two_processes_chain_what_many_write_at_once() {
    run(Engine::Postgres, App::start, async |app: App| {
        let ada = app.set_up().await;
        let other = app.second_process().await;
        let also = ada.at(&other.url);
        let workspaces = join_all((0..8).map(|number| {
            let name = format!("Lab {number}");
            let ada = ada.clone();
            async move { ada.workspace(&name).await }
        }))
        .await;
        let changes = (0..120).map(|number: usize| {
            let by = if number.is_multiple_of(2) { &ada } else { &also };
            let input =
                json!({ "workspaceId": workspaces[number % 8].id, "displayName": format!("Den {number}") });
            async move { by.mutate("updateWorkspace", input, "").await.ok() }
        });
        join_all(changes).await;
        app.chained().await;
        let all = entries(&app).await;
        assert_eq!(all, 1 + 8 + 120);
        assert_eq!(app.number("SELECT count(DISTINCT place) FROM audit_events").await, all);
        assert!(
            app.number("SELECT count(*) FROM audit_checkpoints").await >= 1,
            "a hundred entries are signed"
        );
        let directory = TempDir::new().unwrap();
        let (code, told) = verify(&export(&app, directory.path(), &[]), &[]);
        assert!(code == Some(0) && told.contains(&format!("{all} entries")), "{told}");
        assert_eq!(app.number("SELECT count(*) FROM signing_keys").await, 1);
    });
}

/// A killed server has lost nothing that it acknowledged, and another one chains what it left.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let database = fresh_database(engine).await;
        let mail = MailServer::start().await;
        let mut process = Process::spawn(&database, &mail).await;
        let (ada, _) = Actor::set_up(&process.url, &process.setup_token(), "ada@example.org", "Ada").await;
        let mut acknowledged = 1;
        let kill_after = tokio::time::Instant::now() + Duration::from_millis(300);
        while tokio::time::Instant::now() < kill_after {
            ada.workspace(&format!("Lab {acknowledged}")).await;
            acknowledged += 1;
        }
        process.kill();
        let process = Process::spawn(&database, &mail).await;
        let ada = Actor::sign_in(&process.url, "ada@example.org", PASSWORD).await;
        let organization = ada.organization().await;
        let document = "query($id: ID!) { node(id: $id) { ... on Organization { auditLog(first: 100) {
            totalCount nodes { place } } } } }";
        let mut patience = 100;
        let told = loop {
            let told = ada.query(document, json!({ "id": organization })).await.ok();
            let nodes = told.data("/node/auditLog/nodes").as_array().unwrap();
            if nodes.iter().all(|node| !node["place"].is_null()) {
                break told;
            }
            patience -= 1;
            assert!(patience > 0, "never chained: {told}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(told.data("/node/auditLog/totalCount"), acknowledged, "{engine:?}");
    }
}

#[test]
fn secrets_of_credentials_are_no_part_of_what_is_told() {
    run(Engine::Sqlite, App::start, async |app: App| {
        let ada = app.set_up().await;
        let lab = ada.workspace("Lab").await;
        custom(&ada, &lab, "Store").await;
        let told = json!(newest(&app, 5).await).to_string();
        assert!(told.contains("host of Store") && !told.contains("secret of Store"), "{told}");
    });
}
