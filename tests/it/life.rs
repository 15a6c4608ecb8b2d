//! The life of a workspace: archived it is read and not changed, hidden and still found, and restored it is what it was.

use std::collections::BTreeMap;

use futures_util::future::join;
use guildhall_domain::access::SystemRole;
use guildhall_tests::{
    Actor, Answer, App, Workspace,
    actor::{PASSWORD, token_of},
    both_databases,
};
use http::StatusCode;
use serde_json::{Value, json};

use crate::{members::membership, races::tally};

both_databases!(
    App::start,
    restoring_brings_back_exactly_what_was,
    who_archives_is_a_matter_of_the_role,
    the_default_workspace_is_not_archived,
    archiving_twice_and_restoring_twice_are_no_errors,
    an_archived_workspace_is_out_of_lists_unless_asked_for,
    whoever_lands_in_it_lands_elsewhere_meanwhile,
    invitations_into_it_wait_for_its_restoring,
    an_invitation_that_opens_others_too_waits_as_a_whole,
    the_organization_does_not_invite_into_it,
    people_leave_the_organization_and_roles_are_replaced_all_the_same,
    what_can_be_done_in_it_is_what_is_told,
    those_who_watch_it_are_told_and_go_on_watching,
    archiving_while_people_are_invited_and_join_leaves_no_half,
);

/// Every row of every table, and so everything that there is.
pub(crate) async fn everything(app: &App) -> BTreeMap<String, Vec<String>> {
    app.mailed().await;
    app.chained().await;
    let mut all = BTreeMap::new();
    for table in app.tables().await {
        // What time alone writes: how far the audit log is signed.
        if ["audit_chains", "audit_checkpoints", "signing_keys"].contains(&table.as_str()) {
            continue;
        }
        let mut rows = app.rows(&table).await;
        if table == "events" {
            rows.retain(|row| !row.contains("AUDIT"));
        }
        all.insert(table.clone(), rows);
    }
    all
}

pub(crate) async fn archive(by: &Actor, workspace: &Workspace) -> Answer {
    let selection = "workspace { id status archivedAt archivedBy { email } viewerPermissions }";
    by.mutate("archiveWorkspace", json!({ "workspaceId": workspace.id }), selection).await
}

pub(crate) async fn restore(by: &Actor, workspace: &Workspace) -> Answer {
    let selection = "workspace { id status archivedAt archivedBy { email } viewerPermissions }";
    by.mutate("restoreWorkspace", json!({ "workspaceId": workspace.id }), selection).await
}

async fn restoring_brings_back_exactly_what_was(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    eve.mutate("setDefaultWorkspace", json!({ "workspaceId": lab.id }), "").await.ok();
    ada.invite(&lab, "zoe@example.org", "EDITOR").await.ok();
    ada.mutate("describeWorkspace", json!({ "workspaceId": lab.id, "description": "# Lab" }), "").await.ok();
    let before = everything(&app).await;
    let archived = archive(&adam, &lab).await.ok();
    let told = archived.data("/archiveWorkspace/workspace");
    assert_eq!((&told["status"], &told["archivedBy"]["email"]), (&json!("ARCHIVED"), &json!(adam.email)));
    assert!(told["archivedAt"].is_string());
    assert_ne!(everything(&app).await["workspaces"], before["workspaces"]);
    // Nothing else is touched, and restoring takes that back.
    let mut meanwhile = everything(&app).await;
    for table in ["workspaces", "events", "audit_events"] {
        meanwhile.insert(table.to_owned(), before[table].clone());
    }
    assert_eq!(meanwhile, before);
    let restored = restore(&ada, &lab).await.ok();
    let told = restored.data("/restoreWorkspace/workspace");
    assert_eq!((&told["status"], &told["archivedAt"]), (&json!("ACTIVE"), &Value::Null));
    assert_eq!(told["archivedBy"], Value::Null);
    let mut after = everything(&app).await;
    assert_eq!(after["events"].len(), before["events"].len() + 2);
    after.insert("events".to_owned(), before["events"].clone());
    assert_eq!(after["audit_events"].len(), before["audit_events"].len() + 2);
    after.insert("audit_events".to_owned(), before["audit_events"].clone());
    assert_eq!(after, before);
    ada.mutate("describeWorkspace", json!({ "workspaceId": lab.id, "description": "# Den" }), "").await.ok();
}

async fn who_archives_is_a_matter_of_the_role(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    let edda = app.member(&lab, SystemRole::Editor, "Edda").await;
    let vera = app.member(&lab, SystemRole::Viewer, "Vera").await;
    let keeper = crate::roles::made(&ada, &organization, "Keeper", &["WORKSPACE_ARCHIVE"]).await;
    let kim = app.member(&lab, SystemRole::Viewer, "Kim").await;
    crate::members::set_role(&ada, &lab, &membership(&lab, &kim).await, &keeper).await.ok();
    let olga = app.stranger("olga@example.org", "Olga").await;
    for actor in [&edda, &vera] {
        archive(actor, &lab).await.denied("FORBIDDEN");
        restore(actor, &lab).await.denied("FORBIDDEN");
    }
    archive(&olga, &lab).await.denied("NOT_FOUND");
    // Nothing else is needed for it.
    archive(&kim, &lab).await.ok();
    restore(&kim, &lab).await.ok();
    for (by, other) in [(&adam, &ada), (&ada, &adam)] {
        archive(by, &lab).await.ok();
        archive(&vera, &lab).await.denied("FORBIDDEN");
        restore(&olga, &lab).await.denied("NOT_FOUND");
        restore(other, &lab).await.ok();
    }
    // Who may not see the members is not told who of them it was.
    app.sql("UPDATE organizations SET member_list_visibility = 'ADMINS'").await;
    archive(&adam, &lab).await.ok();
    let document = "query($name: String!) { workspace(name: $name) { archivedAt archivedBy { email } } }";
    let seen = vera.query(document, json!({ "name": lab.name })).await.ok();
    assert!(seen.data("/workspace/archivedAt").is_string());
    assert_eq!(seen.data("/workspace/archivedBy"), &Value::Null);
}

async fn the_default_workspace_is_not_archived(app: App) {
    let ada = app.set_up().await;
    let refused = archive(&ada, app.default_workspace()).await.refused("DEFAULT_PROTECTED");
    assert_eq!(refused.data("/archiveWorkspace/workspace"), &Value::Null);
    assert_eq!(app.number("SELECT count(*) FROM workspaces WHERE status = 'ARCHIVED'").await, 0);
}

async fn archiving_twice_and_restoring_twice_are_no_errors(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    let told = "SELECT count(*) FROM events WHERE kind = 'WORKSPACE'";
    restore(&ada, &lab).await.ok();
    assert_eq!(app.number(told).await, 0);
    let first = archive(&adam, &lab).await.ok();
    let second = archive(&ada, &lab).await.ok();
    // The first stands.
    for field in ["archivedAt", "archivedBy"] {
        let field = format!("/archiveWorkspace/workspace/{field}");
        assert_eq!(first.data(&field), second.data(&field));
    }
    assert_eq!(app.number(told).await, 1);
    restore(&ada, &lab).await.ok();
    restore(&adam, &lab).await.ok();
    assert_eq!(app.number(told).await, 2);
}

async fn an_archived_workspace_is_out_of_lists_unless_asked_for(app: App) {
    let ada = app.set_up().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    archive(&ada, &lab).await.ok();
    let home = app.default_workspace();
    let list = async |actor: &Actor, argument: &str| {
        let document = format!(
            "{{ viewer {{ workspaces{argument} {{ totalCount nodes {{ name }} pageInfo {{ hasNextPage }} }} }} }}"
        );
        let answer = actor.query(&document, json!({})).await.ok();
        let nodes = answer.data("/viewer/workspaces/nodes").as_array().unwrap().clone();
        let names: Vec<String> = nodes.iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect();
        assert_eq!(answer.data("/viewer/workspaces/totalCount"), names.len());
        names
    };
    for argument in ["", "(status: [])", "(status: null)", "(status: [ACTIVE])"] {
        assert_eq!(list(&ada, argument).await, [home.name.as_str(), &den.name], "{argument}");
        assert_eq!(list(&eve, argument).await, Vec::<String>::new(), "{argument}");
    }
    assert_eq!(list(&ada, "(status: [ARCHIVED])").await, [lab.name.as_str()]);
    assert_eq!(list(&eve, "(status: [ARCHIVED])").await, [lab.name.as_str()]);
    assert_eq!(list(&ada, "(status: [ARCHIVED, ACTIVE])").await, [home.name.as_str(), &lab.name, &den.name]);
    // Whoever knows it finds it.
    for actor in [&ada, &eve] {
        let document = "query($name: String!, $id: ID!) { workspace(name: $name) { status displayName }
            node(id: $id) { ... on Workspace { name } } }";
        let answer = actor.query(document, json!({ "name": lab.name, "id": lab.id })).await.ok();
        assert_eq!(answer.data("/workspace/status"), "ARCHIVED");
        assert_eq!(answer.data("/node/name"), &json!(lab.name));
    }
}

const LANDS: &str = "{ viewer { defaultWorkspace { name } lastWorkspace { name } } }";

async fn lands(actor: &Actor) -> (Value, Value) {
    let answer = actor.query(LANDS, json!({})).await.ok();
    let viewer = answer.data("/viewer");
    (viewer["defaultWorkspace"]["name"].clone(), viewer["lastWorkspace"]["name"].clone())
}

async fn whoever_lands_in_it_lands_elsewhere_meanwhile(app: App) {
    let ada = app.set_up().await;
    let (lab, den, hut) =
        (ada.workspace("Lab").await, ada.workspace("Den").await, ada.workspace("Hut").await);
    // She joins the younger one first.
    let eve = app.member(&den, SystemRole::Viewer, "Eve").await;
    for workspace in [&hut, &lab] {
        let invited = ada.invite(workspace, &eve.email, "VIEWER").await.ok();
        let input = json!({ "invitationId": invited.data("/inviteMember/invitation/id") });
        eve.mutate("acceptInvitation", input, "").await.ok();
    }
    eve.mutate("setDefaultWorkspace", json!({ "workspaceId": lab.id }), "").await.ok();
    eve.mutate("switchWorkspace", json!({ "workspaceId": hut.id }), "").await.ok();
    let chosen = (json!(lab.name), json!(hut.name));
    assert_eq!(lands(&eve).await, chosen);
    let before = everything(&app).await["users"].clone();
    archive(&ada, &lab).await.ok();
    assert_eq!(lands(&eve).await, (json!(den.name), json!(hut.name)));
    archive(&ada, &hut).await.ok();
    assert_eq!(lands(&eve).await, (json!(den.name), json!(den.name)));
    archive(&ada, &den).await.ok();
    assert_eq!(lands(&eve).await, (Value::Null, Value::Null));
    // The owner lands in what she is a member of.
    ada.mutate("setDefaultWorkspace", json!({ "workspaceId": app.default_workspace().id }), "").await.ok();
    assert_eq!(lands(&ada).await.0, json!(app.default_workspace().name));
    assert_eq!(everything(&app).await["users"], before, "only passed over");
    for workspace in [&lab, &den, &hut] {
        restore(&ada, workspace).await.ok();
    }
    assert_eq!(lands(&eve).await, chosen);
    eve.mutate("switchWorkspace", json!({ "workspaceId": lab.id }), "").await.ok();
    // Losing another workspace while one is archived: rather one in use than the one joined first.
    archive(&ada, &den).await.ok();
    eve.mutate("leaveWorkspace", json!({ "workspaceId": lab.id }), "").await.ok();
    restore(&ada, &den).await.ok();
    assert_eq!(lands(&eve).await, (json!(hut.name), json!(hut.name)));
}

async fn invitations_into_it_wait_for_its_restoring(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let eve = app.person("eve@example.org", "Eve").await;
    let invited = ada.invite(&lab, &eve.email, "EDITOR").await.ok();
    let by_id = json!({ "invitationId": invited.data("/inviteMember/invitation/id") });
    let by_token = json!({ "token": token_of(&app.mail_to(&eve.email).await.link()) });
    ada.invite(&lab, "zoe@example.org", "VIEWER").await.ok();
    let zoes = app.mail_to("zoe@example.org").await.link();
    ada.invite(&lab, "max@example.org", "VIEWER").await.ok();
    let maxs = app.mail_to("max@example.org").await.link();
    archive(&ada, &lab).await.ok();
    let before = everything(&app).await;
    for input in [&by_id, &by_token] {
        let refused = eve.mutate("acceptInvitation", input.clone(), "").await.refused("WORKSPACE_ARCHIVED");
        assert!(
            refused.data("/acceptInvitation/userErrors/0/message").as_str().unwrap().contains("archived")
        );
    }
    let input = json!({ "token": token_of(&zoes), "displayName": "Zoe", "password": PASSWORD });
    app.anonymous().mutate("register", input.clone(), "").await.refused("WORKSPACE_ARCHIVED");
    // The same on the server's own page, which stays as it is and says why.
    let fields = [("intent", "register"), ("display_name", "Zoe"), ("password", PASSWORD)];
    let page = app.anonymous().post_form(&zoes, &fields).await;
    assert_eq!(page.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(page.text().contains("archived"), "{}", page.text());
    let mut after = everything(&app).await;
    // Whoever signs in on the page has a session that ended with it.
    after.insert("sessions".to_owned(), before["sessions"].clone());
    assert_eq!(after, before, "nothing was written");
    // To decline, nobody has to wait.
    let decline = json!({ "token": token_of(&maxs) });
    app.anonymous().mutate("declineInvitation", decline, "").await.ok();
    restore(&ada, &lab).await.ok();
    eve.mutate("acceptInvitation", by_id, "").await.ok();
    app.anonymous().mutate("register", input, "").await.ok();
    let document = "query($name: String!) { workspace(name: $name) { members { totalCount } } }";
    let seen = eve.query(document, json!({ "name": lab.name })).await.ok();
    assert_eq!(seen.data("/workspace/members/totalCount"), 3);
}

async fn an_invitation_that_opens_others_too_waits_as_a_whole(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    let input = json!({ "organizationId": organization, "email": "eve@example.org", "workspaces": [
        { "workspaceId": lab.id, "role": "VIEWER" }, { "workspaceId": den.id, "role": "EDITOR" },
    ] });
    let invited = ada.mutate("inviteOrganizationMember", input, "invitation { id }").await.ok();
    let id = invited.data("/inviteOrganizationMember/invitation/id");
    let link = app.mail_to("eve@example.org").await.link();
    archive(&ada, &lab).await.ok();
    let before = everything(&app).await;
    let input = json!({ "token": token_of(&link), "displayName": "Eve", "password": PASSWORD });
    app.anonymous().mutate("register", input.clone(), "").await.refused("WORKSPACE_ARCHIVED");
    // Nor is it sent again: it could not be accepted.
    let of_organization = json!({ "organizationId": organization, "invitationId": id });
    ada.mutate("resendOrganizationInvitation", of_organization.clone(), "")
        .await
        .refused("WORKSPACE_ARCHIVED");
    assert_eq!(everything(&app).await, before);
    restore(&ada, &lab).await.ok();
    app.anonymous().mutate("register", input, "").await.ok();
    assert_eq!(app.number("SELECT count(*) FROM memberships").await, 5);
    // Taken back it can be at any time.
    let input = json!({ "organizationId": organization, "email": "zoe@example.org",
        "workspaces": [{ "workspaceId": lab.id, "role": "VIEWER" }] });
    let invited = ada.mutate("inviteOrganizationMember", input, "invitation { id }").await.ok();
    archive(&ada, &lab).await.ok();
    let id = invited.data("/inviteOrganizationMember/invitation/id");
    let input = json!({ "organizationId": organization, "invitationId": id });
    ada.mutate("revokeOrganizationInvitation", input, "").await.ok();
}

async fn the_organization_does_not_invite_into_it(app: App) {
    let ada = app.set_up().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    archive(&ada, &lab).await.ok();
    let before = everything(&app).await;
    let input = json!({ "organizationId": ada.organization().await, "email": "eve@example.org", "workspaces": [
        { "workspaceId": den.id, "role": "VIEWER" }, { "workspaceId": lab.id, "role": "EDITOR" },
    ] });
    let refused = ada
        .mutate("inviteOrganizationMember", input, "invitation { id }")
        .await
        .refused("WORKSPACE_ARCHIVED");
    let field = refused.data("/inviteOrganizationMember/userErrors/0/field");
    assert_eq!(field, &json!(["workspaces", "1", "workspaceId"]));
    assert_eq!(everything(&app).await, before);
}

async fn people_leave_the_organization_and_roles_are_replaced_all_the_same(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    let zoe = app.member(&lab, SystemRole::Viewer, "Zoe").await;
    let role = crate::roles::made(&ada, &organization, "Reader", &["WORKSPACE_VIEW", "FILE_READ"]).await;
    crate::members::set_role(&ada, &lab, &membership(&lab, &zoe).await, &role).await.ok();
    archive(&ada, &lab).await.ok();
    let input = json!({ "organizationId": organization, "userId": eve.id });
    ada.mutate("removeOrganizationMember", input, "").await.ok();
    let seen = "query($name: String!) { workspace(name: $name) { viewerRole { key } viewerPermissions } }";
    let answer = eve.query(seen, json!({ "name": lab.name })).await.ok();
    assert_eq!(answer.data("/workspace"), &Value::Null);
    let input = json!({ "organizationId": organization, "roleId": role, "replacement": "VIEWER" });
    ada.mutate("deleteRole", input, "").await.ok();
    let answer = zoe.query(seen, json!({ "name": lab.name })).await.ok();
    assert_eq!(answer.data("/workspace/viewerRole/key"), "VIEWER");
}

async fn what_can_be_done_in_it_is_what_is_told(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    let edda = app.member(&lab, SystemRole::Editor, "Edda").await;
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    archive(&ada, &lab).await.ok();
    let document = "query($name: String!, $id: ID!, $of: Permission!) {
        workspace(name: $name) { viewerPermissions can(permission: $of) }
        explainAccess(workspaceId: $id, permission: $of) {
            isAllowed rule message changes { steps { kind message } }
    } }";
    let catalogue = ada.query("{ permissionCatalogue { permission scope } }", json!({})).await.ok();
    for actor in [&ada, &adam, &edda, &eve] {
        for entry in catalogue.data("/permissionCatalogue").as_array().unwrap() {
            if entry["scope"] != "WORKSPACE" {
                continue;
            }
            let variables = json!({ "name": lab.name, "id": lab.id, "of": entry["permission"] });
            let answer = actor.query(document, variables).await.ok();
            let listed = answer.data("/workspace/viewerPermissions").as_array().unwrap();
            let can = answer.data("/workspace/can");
            assert_eq!(&json!(listed.contains(&entry["permission"])), can, "{answer}");
            assert_eq!(answer.data("/explainAccess/isAllowed"), can, "{} {entry}: {answer}", actor.name);
        }
    }
    // The verdict is that of the call, with its reason.
    let describe = json!({ "workspaceId": lab.id, "description": "# Lab" });
    let explained = async |actor: &Actor| {
        let variables = json!({ "name": lab.name, "id": lab.id, "of": "WORKSPACE_DESCRIBE" });
        actor.query(document, variables).await.ok().data("/explainAccess").clone()
    };
    for actor in [&ada, &adam, &edda] {
        actor.mutate("describeWorkspace", describe.clone(), "").await.refused("WORKSPACE_ARCHIVED");
        let told = explained(actor).await;
        assert_eq!(told["rule"], "WORKSPACE_ARCHIVED");
        assert_eq!(
            told["changes"],
            json!([{ "steps": [
            { "kind": "RESTORE_WORKSPACE", "message": "Restore this workspace, which is archived." }
        ] }])
        );
    }
    eve.mutate("describeWorkspace", describe.clone(), "").await.denied("FORBIDDEN");
    assert_eq!(explained(&eve).await["rule"], "ROLE_LACKS");
    // What a change would do is told as the change itself.
    let preview = "query($id: ID!, $member: ID!) {
        simulateRoleChange(workspaceId: $id, memberId: $member, role: \"EDITOR\") { gained refusals { code } }
        removalImpact(workspaceId: $id, memberId: $member) { refusals { code } } }";
    let variables = json!({ "id": lab.id, "member": membership(&lab, &eve).await });
    let told = adam.query(preview, variables).await.ok();
    for field in ["simulateRoleChange", "removalImpact"] {
        assert_eq!(told.data(&format!("/{field}/refusals")), &json!([{ "code": "WORKSPACE_ARCHIVED" }]));
    }
    restore(&adam, &lab).await.ok();
    for actor in [&ada, &adam, &edda] {
        assert_eq!(explained(actor).await["isAllowed"], true);
        actor.mutate("describeWorkspace", describe.clone(), "").await.ok();
    }
}

async fn those_who_watch_it_are_told_and_go_on_watching(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let changes = "subscription($id: ID!) { invitationStatusChanged(workspaceId: $id) { status } }";
    let mut watching = ada.subscribe(changes, json!({ "id": lab.id })).await;
    archive(&ada, &lab).await.ok();
    watching.no_event_for(300).await;
    // Also who begins to watch it now.
    let mut late = ada.subscribe(changes, json!({ "id": lab.id })).await;
    late.no_event_for(100).await;
    restore(&ada, &lab).await.ok();
    ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    for watching in [&mut watching, &mut late] {
        assert_eq!(watching.next().await.data("/invitationStatusChanged/status"), "PENDING");
    }
    let told = app
        .texts(&format!(
            "SELECT state FROM events WHERE kind = 'WORKSPACE' AND workspace_id = {} ORDER BY seq",
            app.literal(&lab.id)
        ))
        .await;
    assert_eq!(told, ["ARCHIVED", "RESTORED"]);
}

async fn archiving_while_people_are_invited_and_join_leaves_no_half(app: App) {
    let ada = app.set_up().await;
    let eve = app.person("eve@example.org", "Eve").await;
    let mut seen = BTreeMap::new();
    for round in 0..8 {
        let lab = ada.workspace(&format!("Lab {round}")).await;
        let invited = ada.invite(&lab, &eve.email, "VIEWER").await.ok();
        let input = json!({ "invitationId": invited.data("/inviteMember/invitation/id") });
        let email = format!("guest{round}@example.org");
        let (archived, (accepted, invited)) = join(
            archive(&ada, &lab),
            join(eve.mutate("acceptInvitation", input, ""), ada.invite(&lab, &email, "VIEWER")),
        )
        .await;
        archived.ok();
        for (what, answer) in [("accept", &accepted), ("invite", &invited)] {
            let (outcome, _) = tally([answer]).pop_first().unwrap();
            assert!(["OK", "WORKSPACE_ARCHIVED"].contains(&outcome.as_str()), "{what}: {answer}");
            // What was answered is what is there.
            let is_there = app
                .number(&match what {
                    "accept" => format!(
                        "SELECT count(*) FROM memberships WHERE workspace_id = {} AND user_id = {}",
                        app.literal(&lab.id),
                        app.literal(&eve.id)
                    ),
                    _ => format!("SELECT count(*) FROM invitations WHERE email = '{email}'"),
                })
                .await;
            assert_eq!(is_there == 1, outcome == "OK", "{what}: {answer}");
            *seen.entry(outcome).or_insert(0) += 1;
        }
    }
    assert_eq!(seen.values().sum::<i32>(), 16);
}
