//! An organization's own roles: making, listing, changing, giving up, and what those who have them may do.

use std::collections::BTreeSet;

use guildhall_domain::access::SystemRole;
use guildhall_tests::{Actor, Answer, App, Workspace, both_databases, subscription::End};
use serde_json::{Value, json};

use crate::members::{membership, set_role};

both_databases!(
    App::start,
    a_role_is_made_listed_and_found,
    what_a_role_cannot_be_is_refused_by_name,
    the_roles_that_others_have_can_be_made_here,
    an_edited_role_holds_from_the_next_request_on,
    a_subscription_ends_when_the_role_is_cut,
    no_edit_leaves_a_workspace_without_an_admin,
    a_role_in_use_goes_only_with_a_replacement,
    a_role_that_was_given_up_stays_in_the_history,
    nobody_grants_a_role_with_a_permission_they_lack,
    an_invitation_gives_a_role_as_it_is_when_accepted,
    a_role_of_another_organization_does_not_exist,
);

const ROLE: &str = "role { id key name description isSystem permissions }";

pub(crate) async fn create(by: &Actor, organization: &str, name: &str, permissions: &[&str]) -> Answer {
    let input = json!({ "organizationId": organization, "name": name, "permissions": permissions });
    by.mutate("createRole", input, ROLE).await
}

/// The id of a role that was made.
pub(crate) async fn made(by: &Actor, organization: &str, name: &str, permissions: &[&str]) -> String {
    create(by, organization, name, permissions).await.ok().text("/createRole/role/id").to_owned()
}

pub(crate) async fn edit(by: &Actor, organization: &str, role: &str, permissions: &[&str]) -> Answer {
    let input = json!({ "organizationId": organization, "roleId": role, "permissions": permissions });
    by.mutate("updateRole", input, ROLE).await
}

async fn delete(by: &Actor, organization: &str, role: &str, replacement: Value) -> Answer {
    let input = json!({ "organizationId": organization, "roleId": role, "replacement": replacement });
    by.mutate("deleteRole", input, "role { key } membersMoved invitationsMoved").await
}

/// Makes somebody a member with that role.
async fn member(app: &App, workspace: &Workspace, name: &str, role: &str) -> Actor {
    let actor = app.member(workspace, SystemRole::Viewer, name).await;
    let id = membership(workspace, &actor).await;
    set_role(&workspace.admin, workspace, &id, role).await.ok();
    actor
}

async fn held(actor: &Actor, workspace: &Workspace) -> BTreeSet<String> {
    let document = "query($name: String!) { workspace(name: $name) { viewerPermissions } }";
    let answer = actor.query(document, json!({ "name": workspace.name })).await.ok();
    let permissions = answer.data("/workspace/viewerPermissions").as_array().unwrap();
    permissions.iter().map(|permission| permission.as_str().unwrap().to_owned()).collect()
}

fn set(permissions: &[&str]) -> BTreeSet<String> {
    permissions.iter().map(|permission| (*permission).to_owned()).collect()
}

async fn listed(actor: &Actor, arguments: &str) -> Answer {
    let document = format!(
        "{{ organization(slug: \"example\") {{ roles{arguments} {{
            totalCount pageInfo {{ hasNextPage endCursor }} nodes {{ id key isSystem }}
        }} }} }}"
    );
    actor.query(&document, json!({})).await
}

fn keys(answer: &Answer) -> Vec<&str> {
    let nodes = answer.data("/organization/roles/nodes").as_array().unwrap();
    nodes.iter().map(|node| node["key"].as_str().unwrap()).collect()
}

async fn a_role_is_made_listed_and_found(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let input = json!({
        "organizationId": organization, "name": "Data steward", "description": "  Looks after datasets.\n",
        "permissions": ["DATASET_WRITE", "DATASET_READ"],
    });
    let answer = ada.mutate("createRole", input, ROLE).await.ok();
    let role = answer.data("/createRole/role");
    assert_eq!(
        (&role["key"], &role["name"], &role["description"], &role["isSystem"]),
        (&json!("DATA_STEWARD"), &json!("Data steward"), &json!("Looks after datasets."), &json!(false))
    );
    // Seeing the workspace is part of every role.
    assert_eq!(role["permissions"], json!(["WORKSPACE_VIEW", "DATASET_READ", "DATASET_WRITE"]));
    let input =
        json!({ "organizationId": organization, "name": "Wächter", "key": "GUARD_2", "permissions": [] });
    let answer = ada.mutate("createRole", input, ROLE).await.ok();
    assert_eq!(answer.data("/createRole/role/key"), "GUARD_2");
    assert_eq!(answer.data("/createRole/role/description"), &Value::Null);

    // Everybody in the organization sees them, the system's first.
    let bob = app.person("bob@example.org", "Bob").await;
    let all = listed(&bob, "").await.ok();
    assert_eq!(keys(&all), ["VIEWER", "EDITOR", "ADMIN", "DATA_STEWARD", "GUARD_2"]);
    assert_eq!(all.data("/organization/roles/totalCount"), 5);
    assert_eq!(all.data("/organization/roles/nodes/2/isSystem"), true);
    let page = listed(&bob, "(first: 4)").await.ok();
    assert_eq!(page.data("/organization/roles/pageInfo/hasNextPage"), true);
    let after = format!("(first: 4, after: {})", page.data("/organization/roles/pageInfo/endCursor"));
    assert_eq!(keys(&listed(&bob, &after).await.ok()), ["GUARD_2"]);
    let node = "query($id: ID!) { node(id: $id) { ... on Role { key } } }";
    assert_eq!(bob.query(node, json!({ "id": role["id"] })).await.ok().data("/node/key"), "DATA_STEWARD");

    // A name and what it is for can change; the key stays.
    let input = json!({ "organizationId": organization, "roleId": role["id"], "name": "Curator", "description": null });
    let answer = ada.mutate("updateRole", input, ROLE).await.ok();
    let changed = answer.data("/updateRole/role");
    assert_eq!(
        (&changed["key"], &changed["name"], &changed["description"]),
        (&json!("DATA_STEWARD"), &json!("Curator"), &Value::Null)
    );
    assert_eq!(changed["permissions"], role["permissions"]);
}

async fn what_a_role_cannot_be_is_refused_by_name(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let own = made(&ada, &organization, "Curator", &[]).await;
    // A permission that nobody knows does not pass as an input, and is named.
    let unknown = create(&ada, &organization, "Boss", &["ITEM_READ", "EVERYTHING"]).await;
    assert!(unknown.errors()[0]["message"].as_str().unwrap().contains("EVERYTHING"), "{unknown}");
    let of_organization = create(&ada, &organization, "Boss", &["ITEM_READ", "ORGANIZATION_GOVERN"]).await;
    let refused = of_organization.refused("INVALID_INPUT");
    let fault = refused.user_errors()[0].clone();
    assert_eq!(fault["field"], json!(["permissions"]));
    assert!(fault["message"].as_str().unwrap().contains("organization.govern"), "{fault}");

    for (name, key, code, field) in [
        ("Curator", None, "ALREADY_EXISTS", "name"),
        ("Other", Some("CURATOR"), "ALREADY_EXISTS", "key"),
        ("Other", Some("ADMIN"), "ALREADY_EXISTS", "key"),
        ("Viewer", None, "ALREADY_EXISTS", "name"),
        ("Other", Some("lower"), "INVALID_INPUT", "key"),
        ("Other", Some(""), "INVALID_INPUT", "key"),
        (" ", None, "INVALID_INPUT", "name"),
        ("A\u{202E}B", None, "INVALID_INPUT", "name"),
    ] {
        let input = json!({ "organizationId": organization, "name": name, "key": key, "permissions": [] });
        let refused = ada.mutate("createRole", input, ROLE).await.refused(code);
        assert_eq!(refused.user_errors()[0]["field"], json!([field]), "{name:?} {key:?}");
    }
    let system = SystemRole::Editor.id().to_string();
    edit(&ada, &organization, &system, &["ITEM_READ"]).await.refused("INVALID_INPUT");
    delete(&ada, &organization, &system, json!("VIEWER")).await.refused("INVALID_INPUT");
    edit(&ada, &organization, "rol_0193a1b2c3d47e8f9012345678901234", &[]).await.refused("NOT_FOUND");
    delete(&ada, &organization, &own, json!(own)).await.refused("INVALID_INPUT");
    delete(&ada, &organization, &own, json!("rol_0193a1b2c3d47e8f9012345678901234"))
        .await
        .refused("INVALID_INPUT");
    let cleared = json!({ "organizationId": organization, "roleId": own, "permissions": null });
    ada.mutate("updateRole", cleared, ROLE).await.refused("INVALID_INPUT");
    assert_eq!(keys(&listed(&ada, "").await.ok()), ["VIEWER", "EDITOR", "ADMIN", "CURATOR"]);
}

/// What the member's role of Blaxel may, the read-only one of Ask-A-Question, and the two of Flowise.
async fn the_roles_that_others_have_can_be_made_here(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let reads = [
        "WORKSPACE_VIEW",
        "CONFIG_VIEW",
        "QUOTA_VIEW",
        "POLICY_VIEW",
        "FILE_READ",
        "DATABASE_READ",
        "DATASET_READ",
        "ITEM_READ",
    ];
    let blaxel = [
        "WORKSPACE_VIEW",
        "CONFIG_VIEW",
        "POLICY_VIEW",
        "CREDENTIAL_LIST",
        "CREDENTIAL_USE",
        "ITEM_READ",
        "ITEM_WRITE",
    ];
    let view_only = ["WORKSPACE_VIEW", "ITEM_READ"];
    let editor =
        ["WORKSPACE_VIEW", "CREDENTIAL_LIST", "CREDENTIAL_USE", "ITEM_READ", "ITEM_WRITE", "ITEM_RUN"];
    let invite = json!({ "workspaceId": lab.id, "email": "new@example.org", "role": "VIEWER" });
    for (name, permissions) in [
        ("Blaxel member", &blaxel[..]),
        ("Read only", &reads),
        ("View only", &view_only),
        ("Flow editor", &editor),
    ] {
        let role = made(&ada, &organization, name, permissions).await;
        let actor = member(&app, &lab, name.split(' ').next().unwrap(), &role).await;
        assert_eq!(held(&actor, &lab).await, set(permissions), "{name}");
        // None of them sees the others: only themselves.
        let document = "query($name: String!) { workspace(name: $name) {
            members { totalCount } viewerMembership { role { name } principal { ... on User { email } } }
        } }";
        let seen = actor.query(document, json!({ "name": lab.name })).await.denied("FORBIDDEN");
        assert_eq!(seen.data("/workspace/members"), &Value::Null);
        assert_eq!(seen.data("/workspace/viewerMembership/role/name"), name);
        assert_eq!(seen.data("/workspace/viewerMembership/principal/email"), &json!(actor.email));
        actor.mutate("inviteMember", invite.clone(), "").await.denied("FORBIDDEN");
        let describe = json!({ "workspaceId": lab.id, "description": "# Mine" });
        actor.mutate("describeWorkspace", describe, "").await.denied("FORBIDDEN");
    }
    // The read-only one makes workspaces where the policy says so, and not before.
    let read_only = Actor::sign_in(&app.url, "read@example.org", guildhall_tests::actor::PASSWORD).await;
    let den = json!({ "organizationId": organization, "displayName": "Den" });
    read_only.mutate("createWorkspace", den.clone(), "").await.denied("FORBIDDEN");
    let policy = json!({ "organizationId": organization, "workspaceCreation": "ANY_MEMBER" });
    ada.mutate("updateOrganizationPolicy", policy, "").await.ok();
    read_only.mutate("createWorkspace", den, "").await.ok();
}

async fn an_edited_role_holds_from_the_next_request_on(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let role = made(&ada, &organization, "Helper", &["WORKSPACE_DESCRIBE"]).await;
    let eve = member(&app, &lab, "Eve", &role).await;
    let describe = json!({ "workspaceId": lab.id, "description": "# Lab" });
    eve.mutate("describeWorkspace", describe.clone(), "").await.ok();
    edit(&ada, &organization, &role, &["MEMBERS_VIEW", "MEMBERS_INVITE"]).await.ok();
    eve.mutate("describeWorkspace", describe, "").await.denied("FORBIDDEN");
    let invite = json!({ "workspaceId": lab.id, "email": "new@example.org", "role": role });
    eve.mutate("inviteMember", invite, "").await.ok();
}

async fn a_subscription_ends_when_the_role_is_cut(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let role = made(&ada, &organization, "Watcher", &["INVITATIONS_VIEW"]).await;
    let eve = member(&app, &lab, "Eve", &role).await;
    let watch = "subscription($id: ID!) { invitationStatusChanged(workspaceId: $id) { status } }";
    let mut subscription = eve.subscribe(watch, json!({ "id": lab.id })).await;
    ada.invite(&lab, "new@example.org", "VIEWER").await.ok();
    // That it was made and that its mail was sent: nothing is left to tell.
    for _ in 0..2 {
        subscription.next().await.ok();
    }
    edit(&ada, &organization, &role, &["ITEM_READ"]).await.ok();
    let End::Errors(errors) = subscription.ended().await else { panic!("it ends with an error") };
    assert_eq!(errors[0]["extensions"]["code"], "FORBIDDEN");
}

async fn no_edit_leaves_a_workspace_without_an_admin(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    let role =
        made(&ada, &organization, "Steward", &["MEMBERS_MANAGE", "MEMBERS_INVITE", "MEMBERS_VIEW"]).await;
    member(&app, &lab, "Eve", &role).await;
    let bob = member(&app, &den, "Bob", &role).await;
    // Somebody with a role that manages people is an admin, so the other may go.
    ada.mutate("leaveWorkspace", json!({ "workspaceId": lab.id }), "").await.ok();
    let refused = edit(&ada, &organization, &role, &["ITEM_READ"]).await.refused("LAST_ADMIN");
    let message = refused.user_errors()[0]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("“Lab”") && !message.contains("Den"), "{message}");
    assert!(held(&bob, &den).await.contains("MEMBERS_MANAGE"));
    delete(&ada, &organization, &role, json!("EDITOR")).await.refused("LAST_ADMIN");
    // Where another admin remains, both are possible.
    let id = membership(&den, &ada).await;
    assert!(!id.is_empty());
    let eve = Actor::sign_in(&app.url, "eve@example.org", guildhall_tests::actor::PASSWORD).await;
    eve.mutate(
        "inviteMember",
        json!({ "workspaceId": lab.id, "email": "bob@example.org", "role": role }),
        "",
    )
    .await
    .ok();
    let deleted = delete(&ada, &organization, &role, json!("ADMIN")).await.ok();
    assert_eq!(deleted.data("/deleteRole/membersMoved"), 2);
    assert_eq!(deleted.data("/deleteRole/invitationsMoved"), 1);
    assert!(held(&eve, &lab).await.contains("WORKSPACE_UPDATE"));
}

async fn a_role_in_use_goes_only_with_a_replacement(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let role = made(&ada, &organization, "Helper", &["ITEM_READ"]).await;
    delete(&ada, &organization, &role, Value::Null).await.ok();
    // Its key is free again, and it is gone for good.
    edit(&ada, &organization, &role, &[]).await.refused("NOT_FOUND");
    let role = made(&ada, &organization, "Helper", &["ITEM_READ"]).await;
    let eve = member(&app, &lab, "Eve", &role).await;
    ada.invite(&lab, "new@example.org", &role).await.ok();
    let refused = delete(&ada, &organization, &role, Value::Null).await.refused("ROLE_IN_USE");
    let message = refused.user_errors()[0]["message"].as_str().unwrap();
    assert!(message.contains("1 member") && message.contains("1 pending invitation"), "{message}");
    let other = made(&ada, &organization, "Other", &["FILE_READ"]).await;
    let deleted = delete(&ada, &organization, &role, json!(other)).await.ok();
    assert_eq!(deleted.data("/deleteRole/role/key"), "HELPER");
    assert_eq!(deleted.data("/deleteRole/membersMoved"), 1);
    assert_eq!(deleted.data("/deleteRole/invitationsMoved"), 1);
    assert_eq!(held(&eve, &lab).await, set(&["WORKSPACE_VIEW", "FILE_READ"]));
    let link = app.mail_to("new@example.org").await.link();
    let new = Actor::register(&app.url, guildhall_tests::actor::token_of(&link), "New").await;
    assert_eq!(held(&new, &lab).await, set(&["WORKSPACE_VIEW", "FILE_READ"]));
    let id = membership(&lab, &eve).await;
    set_role(&ada, &lab, &id, &role).await.refused("INVALID_INPUT");
    ada.invite(&lab, "other@example.org", &role).await.refused("INVALID_INPUT");
    let node = "query($id: ID!) { node(id: $id) { id } }";
    assert_eq!(ada.query(node, json!({ "id": role })).await.ok().data("/node"), &Value::Null);
}

async fn a_role_that_was_given_up_stays_in_the_history(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let role = made(&ada, &organization, "Helper", &["ITEM_READ"]).await;
    let invited = ada.invite(&lab, "new@example.org", &role).await.ok();
    let input = json!({ "workspaceId": lab.id, "invitationId": invited.data("/inviteMember/invitation/id") });
    ada.mutate("revokeInvitation", input, "").await.ok();
    delete(&ada, &organization, &role, Value::Null).await.ok();
    let document =
        "query($name: String!) { workspace(name: $name) { invitations { nodes { status role { key } } } } }";
    let answer = ada.query(document, json!({ "name": lab.name })).await.ok();
    assert_eq!(
        answer.data("/workspace/invitations/nodes"),
        &json!([{ "status": "REVOKED", "role": { "key": "HELPER" } }])
    );
}

async fn nobody_grants_a_role_with_a_permission_they_lack(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let people = ["MEMBERS_VIEW", "MEMBERS_MANAGE", "MEMBERS_INVITE"];
    let role = made(&ada, &organization, "People", &people).await;
    let more = made(&ada, &organization, "More", &[&people[..], &["FILE_READ"]].concat()).await;
    let less = made(&ada, &organization, "Less", &["MEMBERS_VIEW"]).await;
    let eve = member(&app, &lab, "Eve", &role).await;
    let bob = app.member(&lab, SystemRole::Viewer, "Bob").await;
    let id = membership(&lab, &bob).await;
    for forbidden in [more.as_str(), "VIEWER", "ADMIN"] {
        set_role(&eve, &lab, &id, forbidden).await.refused("PRIVILEGE_ESCALATION");
        eve.invite(&lab, "new@example.org", forbidden).await.refused("PRIVILEGE_ESCALATION");
    }
    set_role(&eve, &lab, &id, &less).await.ok();
    eve.invite(&lab, "new@example.org", &role).await.ok();
    // Whoever makes roles may everything that a role can hold; others make none.
    create(&eve, &organization, "Mine", &["ITEM_READ"]).await.denied("FORBIDDEN");
    edit(&eve, &organization, &role, &["ITEM_READ"]).await.denied("FORBIDDEN");
}

async fn an_invitation_gives_a_role_as_it_is_when_accepted(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let people = ["MEMBERS_VIEW", "MEMBERS_INVITE", "ITEM_READ"];
    let role = made(&ada, &organization, "People", &people).await;
    let given = made(&ada, &organization, "Given", &["ITEM_READ"]).await;
    let eve = member(&app, &lab, "Eve", &role).await;
    eve.invite(&lab, "one@example.org", &given).await.ok();
    eve.invite(&lab, "two@example.org", &given).await.ok();
    edit(&ada, &organization, &given, &["MEMBERS_VIEW"]).await.ok();
    let link = app.mail_to("one@example.org").await.link();
    let one = Actor::register(&app.url, guildhall_tests::actor::token_of(&link), "One").await;
    assert_eq!(held(&one, &lab).await, set(&["WORKSPACE_VIEW", "MEMBERS_VIEW"]));
    // Beyond what the inviter holds, it gives nothing at all.
    edit(&ada, &organization, &given, &["FILE_WRITE"]).await.ok();
    let link = app.mail_to("two@example.org").await.link();
    let input = json!({
        "token": guildhall_tests::actor::token_of(&link), "displayName": "Two",
        "password": guildhall_tests::actor::PASSWORD,
    });
    app.anonymous().mutate("register", input, "").await.refused("INVITER_LOST_PERMISSION");
}

async fn a_role_of_another_organization_does_not_exist(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    let hers = made(&olga, &olga.organization().await, "Hers", &["ITEM_READ"]).await;
    let bob = app.member(&lab, SystemRole::Viewer, "Bob").await;
    let id = membership(&lab, &bob).await;
    set_role(&ada, &lab, &id, &hers).await.refused("INVALID_INPUT");
    ada.invite(&lab, "new@example.org", &hers).await.refused("INVALID_INPUT");
    edit(&ada, &organization, &hers, &[]).await.refused("NOT_FOUND");
    edit(&ada, &olga.organization().await, &hers, &[]).await.denied("NOT_FOUND");
    let own = made(&ada, &organization, "Own", &[]).await;
    delete(&ada, &organization, &own, json!(hers)).await.refused("INVALID_INPUT");
    let node = "query($id: ID!) { node(id: $id) { id } }";
    assert_eq!(ada.query(node, json!({ "id": hers })).await.ok().data("/node"), &Value::Null);
}
