//! Why somebody may or may not do something: the verdict of the guards, the rule that decided, and what would change it.

use std::collections::BTreeSet;

use guildhall_domain::access::{Permission, SystemRole, catalog::Scope};
use guildhall_tests::{Actor, Answer, App, Workspace, both_databases};
use serde_json::{Value, json};

use crate::members::{membership, set_role};

both_databases!(
    App::start,
    every_explanation_is_the_verdict_of_the_guards,
    a_change_that_is_named_does_change_the_verdict,
    the_policy_is_named_where_it_decides,
    whoever_lost_their_place_is_told_apart,
    an_explanation_says_nothing_of_people_whom_the_asker_cannot_see,
    who_is_disabled_is_nobody_to_those_who_do_not_manage_members,
);

fn wire(permission: Permission) -> String {
    permission.name().replace('.', "_").to_uppercase()
}

const EXPLANATION: &str = "permission isAllowed rule policySwitch policyValue message
    grant { source role { key } organizationRole expiresAt }
    changes { steps { kind message role { key } permissions organizationRole policySwitch policyValue } }";

/// Asks about one permission, of oneself or of somebody else.
async fn explain(asker: &Actor, workspace: &Workspace, who: Option<&str>, permission: &str) -> Answer {
    let document = format!(
        "query($workspace: ID!, $user: ID, $permission: Permission!) {{
             explainAccess(workspaceId: $workspace, userId: $user, permission: $permission) {{ {EXPLANATION} }}
         }}"
    );
    let variables = json!({ "workspace": workspace.id, "user": who, "permission": permission });
    asker.query(&document, variables).await
}

/// The kinds of the steps of each change.
fn kinds(answer: &Answer) -> Vec<Vec<&str>> {
    let changes = answer.data("/explainAccess/changes").as_array().unwrap();
    let steps = changes.iter().map(|change| change["steps"].as_array().unwrap().iter());
    steps.map(|steps| steps.map(|step| step["kind"].as_str().unwrap()).collect()).collect()
}

/// What of those permissions the explanations allow.
async fn allowed(
    asker: &Actor,
    workspace: &Workspace,
    who: Option<&Actor>,
    permissions: impl Iterator<Item = Permission>,
) -> BTreeSet<String> {
    let fields: String = permissions
        .map(wire)
        .map(|name| {
            format!("{name}: explainAccess(workspaceId: $workspace, userId: $user, permission: {name}) {{ isAllowed message changes {{ steps {{ kind }} }} }} ")
        })
        .collect();
    let document = format!("query($workspace: ID!, $user: ID) {{ {fields} }}");
    let variables = json!({ "workspace": workspace.id, "user": who.map(|who| &who.id) });
    let answer = asker.query(&document, variables).await.ok();
    let mut allowed = BTreeSet::new();
    for (name, explained) in answer.data("").as_object().unwrap() {
        assert!(explained["message"].as_str().unwrap().ends_with('.'), "{name}: {explained}");
        assert!(!explained["changes"].as_array().unwrap().is_empty(), "{name}: {explained}");
        if explained["isAllowed"] == true {
            allowed.insert(name.clone());
        }
    }
    allowed
}

fn of(scope: Scope) -> impl Iterator<Item = Permission> {
    Permission::ALL.iter().copied().filter(move |permission| permission.scope() == scope)
}

/// What the guards let somebody do in the workspace and in its organization.
async fn held(actor: &Actor, workspace: &Workspace) -> (BTreeSet<String>, BTreeSet<String>) {
    let can: String =
        of(Scope::Workspace).map(wire).map(|name| format!("{name}: can(permission: {name}) ")).collect();
    let document = format!(
        "query($name: String!) {{ workspace(name: $name) {{ organization {{ viewerPermissions }} {can} }} }}"
    );
    let answer = actor.query(&document, json!({ "name": workspace.name })).await.ok();
    let mut can = answer.data("/workspace").as_object().unwrap().clone();
    let organization = can.remove("organization").unwrap();
    let organization = organization["viewerPermissions"].as_array().unwrap().iter();
    let organization = organization.map(|name| name.as_str().unwrap().to_owned()).collect();
    (can.into_iter().filter(|(_, can)| can == true).map(|(name, _)| name).collect(), organization)
}

/// Makes somebody an admin of the organization who is a member of none of its workspaces.
async fn promote(app: &App, actor: &Actor) {
    let who = format!("WHERE user_id = {}", app.literal(&actor.id));
    app.sql(&format!("UPDATE organization_members SET role = 'ADMIN' {who}")).await;
    app.sql(&format!("DELETE FROM memberships {who}")).await;
}

async fn every_explanation_is_the_verdict_of_the_guards(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let vera = app.member(&lab, SystemRole::Viewer, "Vera").await;
    let edda = app.member(&lab, SystemRole::Editor, "Edda").await;
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    let rita = app.member(&lab, SystemRole::Viewer, "Rita").await;
    let orla = app.member(&lab, SystemRole::Viewer, "Orla").await;
    promote(&app, &orla).await;
    // Custom: may manage people but not invite, read secrets but not use them.
    let role = "rol_0193a1b2c3d47e8f9012345678901234";
    app.sql(&format!(
        "INSERT INTO roles (id, organization_id, key, name, description, permissions, created_at, updated_at)
         SELECT {}, id, 'ODD', 'Odd', '',
             '[\"workspace.view\",\"workspace.delete\",\"members.manage\",\"credential.reveal\"]', created_at, updated_at
         FROM organizations ORDER BY created_at LIMIT 1",
        app.literal(role)
    ))
    .await;
    set_role(&ada, &lab, &membership(&lab, &rita).await, role).await.ok();

    let lax =
        "workspace_creation = 'ANY_MEMBER', workspace_deletion = 'WORKSPACE_ADMINS', allow_reveal = TRUE";
    let strict =
        "workspace_creation = 'ORGANIZATION_ADMINS', member_list_visibility = 'ADMINS', allow_reveal = FALSE";
    let usual = "workspace_creation = 'WORKSPACE_ADMINS'";
    for policy in [usual, lax, strict] {
        app.sql(&format!("UPDATE organizations SET {policy}")).await;
        for person in [&vera, &edda, &adam, &rita, &orla, &ada] {
            let (in_workspace, in_organization) = held(person, &lab).await;
            let name = &person.name;
            // Of themselves, and by those who manage the organization.
            for (asker, who) in [(person, None), (&ada, Some(person)), (&orla, Some(person))] {
                let said = allowed(asker, &lab, who, of(Scope::Workspace)).await;
                assert_eq!(said, in_workspace, "{name}, asked by {} under {policy}", asker.name);
                let said = allowed(asker, &lab, who, of(Scope::Organization)).await;
                assert_eq!(said, in_organization, "{name}, asked by {} under {policy}", asker.name);
            }
            // By an admin of the workspace.
            if person.id != orla.id {
                let said = allowed(&adam, &lab, Some(person), of(Scope::Workspace)).await;
                assert_eq!(said, in_workspace, "{name}, asked by Adam under {policy}");
            }
        }
    }
}

async fn a_change_that_is_named_does_change_the_verdict(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let vera = app.member(&lab, SystemRole::Viewer, "Vera").await;
    let explained = explain(&vera, &lab, None, "FILE_WRITE").await.ok();
    let told = explained.data("/explainAccess");
    assert_eq!(told["rule"], "ROLE_LACKS");
    assert_eq!(told["message"], "The role Viewer in this workspace does not hold file.write.");
    let viewer = json!({ "source": "MEMBERSHIP", "role": { "key": "VIEWER" }, "organizationRole": null, "expiresAt": null });
    assert_eq!(told["grant"], viewer);
    assert_eq!(kinds(&explained), [["GIVE_ROLE"], ["SET_ORGANIZATION_ROLE"]]);
    assert_eq!(
        told["changes"][0]["steps"][0],
        json!({
            "kind": "GIVE_ROLE", "message": "Give the role Editor in this workspace.", "role": { "key": "EDITOR" },
            "permissions": [], "organizationRole": null, "policySwitch": null, "policyValue": null
        })
    );
    assert_eq!(told["changes"][1]["steps"][0]["organizationRole"], "ADMIN");

    let hers = membership(&lab, &vera).await;
    set_role(&ada, &lab, &hers, "EDITOR").await.ok();
    let explained = explain(&ada, &lab, Some(&vera.id), "FILE_WRITE").await.ok();
    assert_eq!(explained.data("/explainAccess/rule"), "ROLE_HOLDS");
    assert_eq!(kinds(&explained), [["GIVE_ROLE"], ["END_MEMBERSHIP"], ["DISABLE_IN_ORGANIZATION"]]);
    assert_eq!(explained.data("/explainAccess/changes/0/steps/0/role/key"), "VIEWER");
    set_role(&ada, &lab, &hers, "VIEWER").await.ok();
    promote(&app, &vera).await;
    let explained = explain(&vera, &lab, None, "FILE_WRITE").await.ok();
    assert_eq!(explained.data("/explainAccess/rule"), "ORGANIZATION_ADMIN");
    let implicit = json!({ "source": "ORGANIZATION", "role": { "key": "ADMIN" }, "organizationRole": "ADMIN", "expiresAt": null });
    assert_eq!(explained.data("/explainAccess/grant"), &implicit);

    // Custom roles can be edited as well.
    let role = "rol_0193a1b2c3d47e8f9012345678901234";
    let edda = app.member(&lab, SystemRole::Viewer, "Edda").await;
    let permissions = |names: &str| format!("permissions = '[{names}]' WHERE id = {}", app.literal(role));
    app.sql(&format!(
        "INSERT INTO roles (id, organization_id, key, name, description, permissions, created_at, updated_at)
         SELECT {}, id, 'GUEST', 'Guest', '', '[]', created_at, updated_at
         FROM organizations ORDER BY created_at LIMIT 1",
        app.literal(role)
    ))
    .await;
    set_role(&ada, &lab, &membership(&lab, &edda).await, role).await.ok();
    app.sql(&format!("UPDATE roles SET {}", permissions("\"file.write\""))).await;
    let explained = explain(&ada, &lab, Some(&edda.id), "FILE_WRITE").await.ok();
    assert_eq!(explained.data("/explainAccess/rule"), "ROLE_LACKS_VIEW");
    assert_eq!(kinds(&explained), [["GIVE_ROLE"], ["ADD_TO_ROLE"], ["SET_ORGANIZATION_ROLE"]]);
    let step = explained.data("/explainAccess/changes/1/steps/0");
    assert_eq!((&step["role"]["key"], &step["permissions"]), (&json!("GUEST"), &json!(["WORKSPACE_VIEW"])));
    app.sql(&format!("UPDATE roles SET {}", permissions("\"file.write\",\"workspace.view\""))).await;
    let explained = explain(&edda, &lab, None, "FILE_WRITE").await.ok();
    assert_eq!(explained.data("/explainAccess/isAllowed"), true);
    assert_eq!(kinds(&explained)[1], ["TAKE_FROM_ROLE"]);
}

async fn the_policy_is_named_where_it_decides(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    let vera = app.member(&lab, SystemRole::Viewer, "Vera").await;
    for (who, permission, switch, column, forbids, allows) in [
        (
            &adam,
            "WORKSPACE_DELETE",
            "WORKSPACE_DELETION",
            "workspace_deletion",
            "ORGANIZATION_ADMINS",
            "WORKSPACE_ADMINS",
        ),
        (&vera, "MEMBERS_VIEW", "MEMBER_LIST_VISIBILITY", "member_list_visibility", "ADMINS", "MEMBERS"),
        (&adam, "CREDENTIAL_REVEAL", "ALLOW_REVEAL", "allow_reveal", "false", "true"),
        (
            &vera,
            "WORKSPACE_CREATE",
            "WORKSPACE_CREATION",
            "workspace_creation",
            "ORGANIZATION_ADMINS",
            "ANY_MEMBER",
        ),
        (
            &adam,
            "WORKSPACE_CREATE",
            "WORKSPACE_CREATION",
            "workspace_creation",
            "ORGANIZATION_ADMINS",
            "WORKSPACE_ADMINS",
        ),
    ] {
        for (value, is_allowed, other) in [(forbids, false, allows), (allows, true, forbids)] {
            let quoted = if column == "allow_reveal" { value.to_owned() } else { format!("'{value}'") };
            app.sql(&format!("UPDATE organizations SET {column} = {quoted}")).await;
            let explained = explain(who, &lab, None, permission).await.ok();
            let told = explained.data("/explainAccess");
            assert_eq!(told["isAllowed"], is_allowed, "{explained}");
            assert_eq!(told["rule"], if is_allowed { "POLICY_ALLOWS" } else { "POLICY_FORBIDS" });
            assert_eq!((&told["policySwitch"], &told["policyValue"]), (&json!(switch), &json!(value)));
            let changes = told["changes"].as_array().unwrap();
            let sets = changes.iter().find(|change| change["steps"][0]["kind"] == "SET_POLICY").unwrap();
            assert_eq!(sets["steps"].as_array().unwrap().len(), 1, "{explained}");
            assert_eq!(sets["steps"][0]["policySwitch"], switch);
            // Of several values the one nearest to the present one is named.
            if !(permission == "WORKSPACE_CREATE" && who.id == vera.id && is_allowed) {
                assert_eq!(sets["steps"][0]["policyValue"], other, "{explained}");
            }
        }
    }
}

async fn whoever_lost_their_place_is_told_apart(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    let edda = app.member(&lab, SystemRole::Editor, "Edda").await;
    let vera = app.member(&lab, SystemRole::Viewer, "Vera").await;
    let veras = format!("user_id = {}", app.literal(&vera.id));
    let account = format!("id = {}", app.literal(&vera.id));
    let about = async |asker: &Actor| explain(asker, &lab, Some(&vera.id), "FILE_READ").await;
    let told = async |rule: &str, change: &str| {
        for asker in [&ada, &adam] {
            let explained = about(asker).await.ok();
            assert_eq!(explained.data("/explainAccess/rule"), rule);
            assert_eq!(explained.data("/explainAccess/isAllowed"), false);
            assert_eq!(kinds(&explained)[0], [change], "{explained}");
        }
    };
    app.sql(&format!("UPDATE users SET status = 'DISABLED' WHERE {account}")).await;
    told("ACCOUNT_DISABLED", "ENABLE_ACCOUNT").await;
    app.sql(&format!("UPDATE users SET status = 'ACTIVE' WHERE {account}")).await;
    app.sql(&format!("UPDATE organization_members SET status = 'DISABLED' WHERE {veras}")).await;
    told("MEMBERSHIP_DISABLED", "ENABLE_IN_ORGANIZATION").await;
    app.sql(&format!("UPDATE organization_members SET status = 'ACTIVE' WHERE {veras}")).await;
    about(&edda).await.ok();
    app.sql(&format!("UPDATE memberships SET expires_at = '2020-01-01 00:00:00+00:00' WHERE {veras}")).await;
    told("MEMBERSHIP_EXPIRED", "RENEW_MEMBERSHIP").await;
    let explained = about(&adam).await.ok();
    assert!(explained.text("/explainAccess/grant/expiresAt").starts_with("2020-01-01T00:00:00"));
    // Whoever sees the members only sees those who are.
    about(&edda).await.denied("NOT_FOUND");
    explain(&vera, &lab, None, "FILE_READ").await.denied("NOT_FOUND");
    app.sql(&format!("DELETE FROM memberships WHERE {veras}")).await;
    about(&adam).await.denied("NOT_FOUND");
    let explained = about(&ada).await.ok();
    assert_eq!(explained.data("/explainAccess/rule"), "NOT_A_MEMBER");
    assert_eq!(explained.data("/explainAccess/grant"), &Value::Null);
    assert_eq!(kinds(&explained), [["INVITE"], ["SET_ORGANIZATION_ROLE"]]);
}

async fn an_explanation_says_nothing_of_people_whom_the_asker_cannot_see(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    let vera = app.member(&lab, SystemRole::Viewer, "Vera").await;
    let den = ada.workspace("Den").await;
    let milo = app.member(&den, SystemRole::Admin, "Milo").await;
    let orla = app.member(&lab, SystemRole::Viewer, "Orla").await;
    promote(&app, &orla).await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    let nobody = "usr_0193a1b2c3d47e8f9012345678901234";

    let masked = |answer: Answer| {
        let mut body = answer.denied("NOT_FOUND").body;
        body["errors"][0]["extensions"]["requestId"] = Value::Null;
        body
    };
    let unknown = masked(explain(&adam, &lab, Some(nobody), "FILE_READ").await);
    for asker in [&adam, &vera] {
        for hidden in [&milo, &orla, &olga] {
            let answer = explain(asker, &lab, Some(&hidden.id), "FILE_READ").await;
            assert_eq!(masked(answer), unknown, "{} about {}", asker.name, hidden.name);
        }
        assert_eq!(masked(explain(asker, &lab, Some("nonsense"), "FILE_READ").await), unknown);
        // What is of the organization tells of workspaces that they know nothing of.
        for who in [&adam, &vera, &milo, &olga].into_iter().filter(|who| who.id != asker.id) {
            let denied = explain(asker, &lab, Some(&who.id), "WORKSPACE_CREATE").await.denied("FORBIDDEN");
            assert_eq!(denied.errors()[0]["extensions"]["permission"], "ORGANIZATION_MANAGE");
        }
        explain(asker, &lab, None, "WORKSPACE_CREATE").await.ok();
        explain(asker, &lab, Some(&asker.id), "WORKSPACE_CREATE").await.ok();
    }
    // Those who manage the organization see who belongs to it, and nobody else.
    for asker in [&ada, &orla] {
        assert_eq!(masked(explain(asker, &lab, Some(&olga.id), "FILE_READ").await), unknown);
        let explained = explain(asker, &lab, Some(&milo.id), "WORKSPACE_CREATE").await.ok();
        assert_eq!(explained.data("/explainAccess/isAllowed"), true);
        assert_eq!(
            explain(asker, &lab, Some(&milo.id), "FILE_READ").await.ok().data("/explainAccess/rule"),
            "NOT_A_MEMBER"
        );
    }
    // Nor is there anything to ask in a workspace that one does not see.
    for (asker, who) in [(&olga, None), (&milo, None), (&milo, Some(vera.id.as_str()))] {
        assert_eq!(masked(explain(asker, &lab, who, "FILE_READ").await), unknown);
    }
    // Where the list of members is for admins, so is asking about them.
    app.sql("UPDATE organizations SET member_list_visibility = 'ADMINS'").await;
    for who in [adam.id.as_str(), milo.id.as_str(), nobody, "nonsense"] {
        explain(&vera, &lab, Some(who), "FILE_READ").await.denied("FORBIDDEN");
    }
    explain(&vera, &lab, None, "FILE_READ").await.ok();
    explain(&adam, &lab, Some(&vera.id), "FILE_READ").await.ok();
}

async fn who_is_disabled_is_nobody_to_those_who_do_not_manage_members(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let vera = app.member(&lab, SystemRole::Viewer, "Vera").await;
    let bob = app.member(&lab, SystemRole::Editor, "Bob").await;
    explain(&vera, &lab, Some(&bob.id), "FILE_WRITE").await.ok();
    let disable = json!({ "organizationId": organization, "userId": bob.id });
    ada.mutate("disableUser", disable, "").await.ok();
    explain(&vera, &lab, Some(&bob.id), "FILE_WRITE").await.denied("NOT_FOUND");
    let told = explain(&ada, &lab, Some(&bob.id), "FILE_WRITE").await.ok();
    assert_eq!(told.data("/explainAccess/rule"), "MEMBERSHIP_DISABLED");
}
