//! What a person may do in a workspace, for whom it exists, and in which one they land.

use chrono::TimeDelta;
use guildhall_domain::access::{Permission, SystemRole};
use guildhall_tests::{Answer, App, both_databases};
use serde_json::{Value, json};

use crate::workspaces::{SEEN, member_id};

both_databases!(
    App::start,
    what_may_be_done_is_what_the_role_says,
    the_catalogue_tells_what_each_role_holds,
    the_organization_administers_every_workspace_and_says_so,
    a_workspace_does_not_exist_for_those_outside,
    each_chooses_where_they_land,
    losing_the_default_promotes_the_earliest_other,
);

const LANDS: &str = "{ viewer { defaultWorkspace { name } lastWorkspace { name } } }";

async fn the_catalogue_tells_what_each_role_holds(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let document = "{ permissionCatalogue { permission name description scope leastRole { key } } }";
    let answer = app.anonymous().query(document, json!({})).await.ok();
    let catalogue = answer.data("/permissionCatalogue").as_array().unwrap();
    assert_eq!(catalogue.len(), Permission::ALL.len());
    for entry in catalogue {
        let name = entry["name"].as_str().unwrap();
        assert_eq!(entry["permission"], name.replace('.', "_").to_uppercase());
        assert!(entry["description"].as_str().unwrap().ends_with('.'), "{entry}");
        let in_organization = name.starts_with("organization.") || name == "workspace.create";
        assert_eq!(entry["scope"], if in_organization { "ORGANIZATION" } else { "WORKSPACE" });
    }
    let rank = |role: &Value| ["VIEWER", "EDITOR", "ADMIN"].iter().position(|key| role == key);
    for role in SystemRole::ALL {
        let actor = app.member(&lab, role, role.title()).await;
        let document =
            "query($name: String!) { workspace(name: $name) { viewerRole { key } viewerPermissions } }";
        let answer = actor.query(document, json!({ "name": lab.name })).await.ok();
        let own = rank(answer.data("/workspace/viewerRole/key")).expect("a system role");
        let held = answer.data("/workspace/viewerPermissions").as_array().unwrap();
        for entry in catalogue {
            // By default the policy lets nobody read a secret again.
            let withheld = entry["permission"] == "CREDENTIAL_REVEAL";
            let least = rank(&entry["leastRole"]["key"]).filter(|_| !withheld);
            assert_eq!(
                held.contains(&entry["permission"]),
                least.is_some_and(|least| own >= least),
                "{role:?} {entry}"
            );
        }
    }
}

async fn what_may_be_done_is_what_the_role_says(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    for role in SystemRole::ALL {
        let actor = app.member(&lab, role, role.title()).await;
        // The policy's defaults: deleting is the organization's, and secrets are revealed to nobody.
        let held =
            role.permissions().without(Permission::WorkspaceDelete).without(Permission::CredentialReveal);
        let wire = |permission: Permission| permission.name().replace('.', "_").to_uppercase();
        let asked: String = Permission::ALL
            .iter()
            .map(|permission| format!("{0}: can(permission: {0}) ", wire(*permission)))
            .collect();
        let document = format!(
            "query($name: String!) {{ workspace(name: $name) {{
                viewerRole {{ key name permissions }} viewerAccess {{ source }} viewerPermissions {asked}
            }} }}"
        );
        let seen = actor.query(&document, json!({ "name": lab.name })).await.ok();
        let workspace = seen.data("/workspace");
        assert_eq!(workspace["viewerRole"]["key"], role.key());
        assert_eq!(workspace["viewerAccess"]["source"], "MEMBERSHIP");
        let expected: Vec<String> = held.iter().map(wire).collect();
        assert_eq!(workspace["viewerPermissions"], json!(expected), "{role:?}");
        for permission in Permission::ALL {
            assert_eq!(workspace[wire(*permission)], held.holds(*permission), "{role:?} {permission:?}");
        }

        // And the operations agree.
        let can = |permission: Permission| workspace[wire(permission)] == true;
        let allowed = |answer: Answer| answer.errors().is_empty();
        let id = json!({ "workspaceId": lab.id });
        let described = actor.mutate("describeWorkspace", id.clone(), "workspace { id }").await;
        assert_eq!(allowed(described), can(Permission::WorkspaceDescribe), "{role:?}");
        let updated = actor.mutate("updateWorkspace", id.clone(), "workspace { id }").await;
        assert_eq!(allowed(updated), can(Permission::WorkspaceUpdate), "{role:?}");
        let email = format!("guest.of.{}@example.org", role.key().to_lowercase());
        let invited = actor.invite(&lab, &email, "VIEWER").await;
        assert_eq!(allowed(invited), can(Permission::MembersInvite), "{role:?}");
        let input = json!({ "workspaceId": lab.id, "memberId": "mem_0193a1b2c3d47e8f9012345678901234" });
        let removed = actor.mutate("removeMember", input, "member { id }").await;
        assert_eq!(allowed(removed), can(Permission::MembersManage), "{role:?}");
        let document = "query($name: String!) { workspace(name: $name) { invitations { totalCount } } }";
        let seen = actor.query(document, json!({ "name": lab.name })).await;
        assert_eq!(allowed(seen), can(Permission::InvitationsView), "{role:?}");
    }
}

async fn the_organization_administers_every_workspace_and_says_so(app: App) {
    let ada = app.set_up().await;
    let alma = app.member(app.default_workspace(), SystemRole::Admin, "Alma").await;
    let den = alma.workspace("Den").await;
    let document = "query($name: String!) { workspace(name: $name) {
        viewerRole { key } viewerAccess { source role { key } } members { totalCount nodes { principal { ... on User { email } } } }
    } }";
    let seen = ada.query(document, json!({ "name": den.name })).await.ok();
    assert_eq!(seen.data("/workspace/viewerRole/key"), "ADMIN");
    assert_eq!(
        seen.data("/workspace/viewerAccess"),
        &json!({ "source": "ORGANIZATION", "role": { "key": "ADMIN" } })
    );
    assert_eq!(seen.data("/workspace/members/totalCount"), 1, "an implicit Admin is no member");
    ada.invite(&den, "zoe@example.org", "ADMIN").await.ok();
    let input = json!({ "workspaceId": den.id });
    ada.mutate("setDefaultWorkspace", input.clone(), "workspace { id }").await.refused("NOT_FOUND");
    ada.mutate("leaveWorkspace", input, "member { id }").await.refused("NOT_FOUND");
}

async fn a_workspace_does_not_exist_for_those_outside(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let vera = app.person("vera@example.org", "Vera").await;
    let sam = app.stranger("sam@example.net", "Sam").await;
    for outsider in [&vera, &sam] {
        for name in [lab.name.as_str(), "no-such-workspace", "", "NOT A NAME"] {
            let seen = outsider.query(SEEN, json!({ "name": name })).await.ok();
            assert_eq!(seen.data("/workspace"), &Value::Null, "{name:?}");
        }
        let id = json!({ "workspaceId": lab.id });
        for mutation in ["switchWorkspace", "setDefaultWorkspace", "updateWorkspace", "describeWorkspace"] {
            outsider.mutate(mutation, id.clone(), "workspace { id }").await.denied("NOT_FOUND");
        }
        outsider.mutate("leaveWorkspace", id, "member { id }").await.denied("NOT_FOUND");
        outsider.invite(&lab, "zoe@example.org", "VIEWER").await.denied("NOT_FOUND");
        let found = outsider.query("query($id: ID!) { node(id: $id) { id } }", json!({ "id": lab.id })).await;
        assert_eq!(found.ok().data("/node"), &Value::Null);
    }
    app.anonymous().query(SEEN, json!({ "name": lab.name })).await.denied("UNAUTHENTICATED");
    let wrong = json!({ "workspaceId": "usr_0193a1b2c3d47e8f9012345678901234" });
    ada.mutate("switchWorkspace", wrong, "workspace { id }").await.denied("NOT_FOUND");
}

async fn each_chooses_where_they_land(app: App) {
    let ada = app.set_up().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    let seen = ada.query(LANDS, json!({})).await.ok();
    assert_eq!(seen.data("/viewer/defaultWorkspace/name"), &json!(app.default_workspace().name));

    let input = json!({ "workspaceId": lab.id });
    let selection = "viewer { defaultWorkspace { name } lastWorkspace { name } }";
    let set = ada.mutate("setDefaultWorkspace", input, selection).await.ok();
    assert_eq!(set.data("/setDefaultWorkspace/viewer/defaultWorkspace/name"), "lab");
    let input = json!({ "workspaceId": den.id });
    let switched = ada.mutate("switchWorkspace", input, selection).await.ok();
    assert_eq!(
        switched.data("/switchWorkspace/viewer"),
        &json!({ "defaultWorkspace": { "name": "lab" }, "lastWorkspace": { "name": "den" } })
    );
    // It is remembered for the person, not for the session.
    app.advance(TimeDelta::days(1));
    let seen = ada.again().await.query(LANDS, json!({})).await.ok();
    assert_eq!(
        seen.data("/viewer"),
        &json!({ "defaultWorkspace": { "name": "lab" }, "lastWorkspace": { "name": "den" } })
    );
}

async fn losing_the_default_promotes_the_earliest_other(app: App) {
    let ada = app.set_up().await;
    let (first, second) = (ada.workspace("First").await, ada.workspace("Second").await);
    let third = ada.workspace("Third").await;
    let eve = app.member(&third, SystemRole::Viewer, "Eve").await;
    for workspace in [&second, &first] {
        ada.invite(workspace, "eve@example.org", "VIEWER").await.ok();
        let link = app.mail_to("eve@example.org").await.link();
        let token = guildhall_tests::actor::token_of(&link);
        eve.mutate("acceptInvitation", json!({ "token": token }), "invitation { id }").await.ok();
    }
    let lands = async || {
        let seen = eve.query(LANDS, json!({})).await.ok();
        let name = |which: &str| seen.data(&format!("/viewer/{which}"))["name"].as_str().map(str::to_owned);
        (name("defaultWorkspace"), name("lastWorkspace"))
    };
    let both = |name: &str| (Some(name.to_owned()), Some(name.to_owned()));
    assert_eq!(lands().await, both("third"));

    eve.mutate("leaveWorkspace", json!({ "workspaceId": third.id }), "viewer { user { id } }").await.ok();
    assert_eq!(lands().await, both("second"), "she joined it before the first");
    let id = member_id(&ada, "first", "eve@example.org").await;
    ada.mutate("removeMember", json!({ "workspaceId": first.id, "memberId": id }), "member { id }")
        .await
        .ok();
    assert_eq!(lands().await, both("second"), "another loss changes nothing");
    let id = member_id(&ada, "second", "eve@example.org").await;
    ada.mutate("removeMember", json!({ "workspaceId": second.id, "memberId": id }), "member { id }")
        .await
        .ok();
    assert_eq!(lands().await, (None, None));

    // Losing all of them keeps the account.
    let eve = eve.again().await;
    let seen = eve.query("{ viewer { user { status } workspaces { totalCount } } }", json!({})).await.ok();
    assert_eq!(
        seen.data("/viewer"),
        &json!({ "user": { "status": "ACTIVE" }, "workspaces": { "totalCount": 0 } })
    );
}
