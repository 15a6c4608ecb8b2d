//! What an organization demands of people who come in: nothing in it opens before, wherever they ask, and nothing elsewhere
//! changes. Second factors are put into the database here; `second_factor.rs` sets them up as people do.

use chrono::TimeDelta;
use guildhall_domain::access::SystemRole;
use guildhall_tests::{Actor, Answer, App, Workspace, both_databases, subscription::End};
use serde_json::{Value, json};

use crate::members::membership;

both_databases!(
    App::start,
    a_second_factor_is_demanded_when_the_grace_is_over,
    the_grace_counts_from_joining_for_whoever_joins_later,
    nothing_in_the_organization_opens,
    lists_leave_out_what_is_demanded_first,
    other_organizations_are_not_touched,
    an_open_subscription_ends_at_the_next_event,
    machines_are_not_asked,
    a_workspace_is_as_unknown_to_strangers_as_before,
    an_explanation_names_the_demand,
    a_colleague_who_does_not_manage_members_does_not_hear_who_has_no_second_factor,
    only_an_owner_with_a_second_factor_demands_one,
    a_policy_out_of_range_is_refused,
    admins_see_who_has_none,
    an_invitation_holds_though_its_inviter_has_to_come_back,
);

const CODE: &str = "SECOND_FACTOR_REQUIRED";

/// Gives somebody a second factor, or takes it.
async fn factor(app: &App, who: &Actor, has: bool) {
    let since = if has { "created_at" } else { "NULL" };
    let user = app.literal(&who.id);
    app.sql(&format!("UPDATE users SET second_factor_at = {since} WHERE id = {user}")).await;
}

/// Somebody with such a second factor in a new session.
async fn again(app: &App, who: &Actor) -> Actor {
    factor(app, who, false).await;
    let again = who.again().await;
    factor(app, who, true).await;
    again
}

async fn require(owner: &Actor, organization: &str, hours: i32) -> Answer {
    let input =
        json!({ "organizationId": organization, "requireTwoFactor": true, "twoFactorGraceHours": hours });
    owner.mutate("updateOrganizationPolicy", input, "organization { policy { requireTwoFactor } }").await
}

/// Ada, who has a second factor; her organization, which demands one in that many hours; a workspace of it, and Eve in it.
async fn demanding(app: &App, hours: i32, role: SystemRole) -> (Actor, String, Workspace, Actor) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let eve = app.member(&lab, role, "Eve").await;
    let organization = ada.organization().await;
    factor(app, &ada, true).await;
    require(&ada, &organization, hours).await.ok();
    (ada, organization, lab, eve)
}

async fn look(who: &Actor, workspace: &Workspace) -> Answer {
    who.query("query($name: String!) { workspace(name: $name) { id } }", json!({ "name": workspace.name }))
        .await
}

const OWN: &str = "{ viewer { workspaces { totalCount nodes { id } } defaultWorkspace { id } organizations { totalCount nodes {
    id name viewerRole viewerPermissions viewerSecondFactorDueAt policy { requireTwoFactor twoFactorGraceHours } } } } }";

async fn a_second_factor_is_demanded_when_the_grace_is_over(app: App) {
    let (ada, _, lab, eve) = demanding(&app, 2, SystemRole::Editor).await;
    look(&eve, &lab).await.ok();
    let own = eve.query(OWN, json!({})).await.ok();
    let due = own.text("/viewer/organizations/nodes/0/viewerSecondFactorDueAt");
    let due = chrono::DateTime::parse_from_rfc3339(due).unwrap().to_utc();
    let left = due - app.db().now();
    assert!(left > TimeDelta::minutes(119) && left <= TimeDelta::hours(2), "{left}");
    assert_eq!(
        ada.query(OWN, json!({})).await.ok().data("/viewer/organizations/nodes/0/viewerSecondFactorDueAt"),
        &Value::Null
    );
    app.stop_the_clock();
    app.advance(due - app.db().now() - TimeDelta::seconds(1));
    let eve = eve.again().await;
    look(&eve, &lab).await.ok();
    app.advance(TimeDelta::seconds(1));
    let denied = look(&eve, &lab).await.denied(CODE);
    let message = denied.errors()[0]["message"].as_str().unwrap();
    assert!(message.contains("enrollSecondFactor"), "{message}");
    // It is enough to have one.
    factor(&app, &eve, true).await;
    look(&eve, &lab).await.ok();
    look(&again(&app, &ada).await, &lab).await.ok();
}

async fn the_grace_counts_from_joining_for_whoever_joins_later(app: App) {
    let (ada, _, lab, eve) = demanding(&app, 24, SystemRole::Viewer).await;
    app.advance(TimeDelta::hours(23));
    let ada = again(&app, &ada).await;
    let lab = Workspace { admin: ada, ..lab };
    let finn = app.member(&lab, SystemRole::Viewer, "Finn").await;
    app.advance(TimeDelta::hours(2));
    look(&eve.again().await, &lab).await.denied(CODE);
    let finn = finn.again().await;
    look(&finn, &lab).await.ok();
    assert_eq!(finn.query(OWN, json!({})).await.ok().data("/viewer/workspaces/totalCount"), 1);
    app.advance(TimeDelta::hours(22));
    look(&finn.again().await, &lab).await.denied(CODE);
}

async fn nothing_in_the_organization_opens(app: App) {
    let (ada, organization, lab, eve) = demanding(&app, 0, SystemRole::Admin).await;
    let key = crate::machines::key(&ada, &lab, &["WORKSPACE_VIEW"]).await.0;
    let place = membership(&lab, &eve).await;
    let role = crate::roles::made(&ada, &organization, "Helper", &["ITEM_READ"]).await;
    let ids = json!({ "organization": organization, "workspace": lab.id, "member": place, "key": key, "ada": ada.id });
    for (document, is_list) in [
        ("query($workspace: ID!) { node(id: $workspace) { id } }", false),
        ("query($member: ID!) { node(id: $member) { id } }", false),
        ("query($key: ID!) { node(id: $key) { id } }", false),
        (
            "query($organization: ID!) { node(id: $organization) { ... on Organization { members { totalCount } } } }",
            false,
        ),
        (
            "query($organization: ID!) { node(id: $organization) { ... on Organization { auditLog { totalCount } } } }",
            false,
        ),
        ("query($workspace: ID!, $ada: ID!) { nodes(ids: [$workspace, $ada]) { id } }", true),
        (
            "query($workspace: ID!) { explainAccess(workspaceId: $workspace, permission: FILE_READ) { rule } }",
            false,
        ),
    ] {
        let used: serde_json::Map<_, _> = ids
            .as_object()
            .unwrap()
            .iter()
            .filter(|(name, _)| document.contains(&format!("${name}")))
            .map(|(name, id)| (name.clone(), id.clone()))
            .collect();
        let answer = eve.query(document, Value::Object(used)).await;
        match is_list {
            // Neither the workspace nor who else is in the organization.
            true => assert_eq!(answer.ok().data("/nodes"), &json!([null, null])),
            false => drop(answer.denied(CODE)),
        }
    }
    let of_workspace = json!({ "workspaceId": lab.id });
    for (mutation, input) in [
        ("updateWorkspace", json!({ "workspaceId": lab.id, "displayName": "Mine" })),
        ("leaveWorkspace", of_workspace.clone()),
        ("archiveWorkspace", of_workspace.clone()),
        ("switchWorkspace", of_workspace.clone()),
        ("inviteMember", json!({ "workspaceId": lab.id, "email": "new@example.org", "role": "VIEWER" })),
        ("issueWorkspaceToken", json!({ "workspaceId": lab.id, "audience": "files" })),
        ("createWorkspace", json!({ "displayName": "Another", "organizationId": organization })),
        ("createWorkspace", json!({ "displayName": "Another" })),
        ("leaveOrganization", json!({ "organizationId": organization })),
        ("updateOrganization", json!({ "organizationId": organization, "name": "Mine" })),
    ] {
        let before = app.number("SELECT count(*) FROM audit_events").await;
        let answer = eve.mutate(mutation, input, "__typename").await;
        assert_eq!(answer.code(), CODE, "{mutation}: {answer}");
        assert_eq!(app.number("SELECT count(*) FROM audit_events").await, before, "{mutation}");
    }
    // What its roles are is told before, in the list and one by one.
    let query = "query($organization: ID!, $role: ID!) { listed: node(id: $organization) { \
        ... on Organization { roles(last: 1) { nodes { name } } } } alone: node(id: $role) { ... on Role { name } } }";
    let seen = eve.query(query, json!({ "organization": organization, "role": role })).await.ok();
    assert_eq!(seen.data("/listed/roles/nodes/0/name"), "Helper");
    assert_eq!(seen.data("/alone/name"), "Helper");
    // An owner is asked like anybody else.
    factor(&app, &ada, false).await;
    let input = json!({ "organizationId": organization, "requireTwoFactor": false });
    ada.mutate("updateOrganizationPolicy", input, "__typename").await.denied(CODE);
    look(&ada, &lab).await.denied(CODE);
}

async fn lists_leave_out_what_is_demanded_first(app: App) {
    let (_, organization, lab, eve) = demanding(&app, 0, SystemRole::Viewer).await;
    let own = eve.query(OWN, json!({})).await.ok();
    assert_eq!(own.data("/viewer/workspaces"), &json!({ "totalCount": 0, "nodes": [] }));
    assert_eq!(own.data("/viewer/defaultWorkspace"), &Value::Null);
    // That the organization is there, and what it demands, is what they need to know.
    assert_eq!(own.data("/viewer/organizations/totalCount"), 1);
    let its = own.data("/viewer/organizations/nodes/0");
    assert_eq!((&its["id"], &its["viewerRole"]), (&json!(organization), &json!("MEMBER")));
    assert_eq!(its["viewerPermissions"], json!(["ORGANIZATION_VIEW"]));
    assert_eq!(its["policy"], json!({ "requireTwoFactor": true, "twoFactorGraceHours": 0 }));
    assert!(its["viewerSecondFactorDueAt"].is_string(), "{its}");
    factor(&app, &eve, true).await;
    let own = eve.query(OWN, json!({})).await.ok();
    assert_eq!(own.data("/viewer/workspaces/totalCount"), 1);
    assert_eq!(own.text("/viewer/workspaces/nodes/0/id"), lab.id);
    assert_eq!(own.text("/viewer/defaultWorkspace/id"), lab.id);
}

async fn other_organizations_are_not_touched(app: App) {
    let (_, _, lab, eve) = demanding(&app, 0, SystemRole::Viewer).await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    let den = olga.workspace("Den").await;
    olga.invite(&den, &eve.email, "EDITOR").await.ok();
    let link = app.mail_to(&eve.email).await.link();
    let input = json!({ "token": guildhall_tests::actor::token_of(&link) });
    eve.mutate("acceptInvitation", input, "invitation { status }").await.ok();
    look(&eve, &den).await.ok();
    look(&eve, &lab).await.denied(CODE);
    let own = eve.query(OWN, json!({})).await.ok();
    assert_eq!(own.data("/viewer/workspaces/totalCount"), 1);
    assert_eq!(own.text("/viewer/workspaces/nodes/0/id"), den.id);
    assert_eq!(own.data("/viewer/organizations/totalCount"), 2);
    // They share another organization with Ada no more than before, and Olga they see.
    let document = "query($ids: [ID!]!) { nodes(ids: $ids) { id } }";
    let seen = eve.query(document, json!({ "ids": [app.owner().id, olga.id, eve.id] })).await.ok();
    assert_eq!(seen.data("/nodes"), &json!([null, { "id": olga.id }, { "id": eve.id }]));
}

async fn an_open_subscription_ends_at_the_next_event(app: App) {
    const CHANGES: &str = "subscription($id: ID!) { invitationStatusChanged(workspaceId: $id) { status } }";
    const LOG: &str = "subscription($id: ID!) { auditLogChanged(workspaceId: $id) { cursor } }";
    let (ada, _, lab, eve) = demanding(&app, 24, SystemRole::Admin).await;
    let mut changes = eve.subscribe(CHANGES, json!({ "id": lab.id })).await;
    let mut own = ada.subscribe(CHANGES, json!({ "id": lab.id })).await;
    ada.invite(&lab, "one@example.org", "VIEWER").await.ok();
    // That it was made and that its mail was sent: nothing is left to tell.
    for watching in [&mut changes, &mut own] {
        for _ in 0..2 {
            watching.next().await.ok();
        }
    }
    app.chained().await;
    let mut log = eve.subscribe(LOG, json!({ "id": lab.id })).await;
    app.advance(TimeDelta::hours(24));
    let ada = again(&app, &ada).await;
    ada.invite(&lab, "two@example.org", "VIEWER").await.ok();
    assert!(matches!(changes.ended().await, End::Errors(errors) if errors[0]["extensions"]["code"] == CODE));
    log.next().await.denied(CODE);
    assert_eq!(log.ended().await, End::Complete);
    own.next().await.ok();
    // Nor does one begin.
    let eve = eve.again().await;
    let mut changes = eve.subscribe(CHANGES, json!({ "id": lab.id })).await;
    changes.next().await.denied(CODE);
}

async fn machines_are_not_asked(app: App) {
    let (ada, organization, lab, _) = demanding(&app, 24, SystemRole::Viewer).await;
    let (_, secret) = crate::machines::key(&ada, &lab, &["WORKSPACE_VIEW", "CONFIG_VIEW"]).await;
    require(&ada, &organization, 0).await.ok();
    factor(&app, &ada, false).await;
    look(&ada, &lab).await.denied(CODE);
    look(&Actor::machine(&app.url, &secret), &lab).await.ok();
}

async fn a_workspace_is_as_unknown_to_strangers_as_before(app: App) {
    let (ada, _, lab, eve) = demanding(&app, 0, SystemRole::Viewer).await;
    let attic = ada.workspace("Attic").await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    let rename = async |who: &Actor, workspace: &str| {
        let input = json!({ "workspaceId": workspace, "displayName": "Mine" });
        who.mutate("updateWorkspace", input, "__typename").await
    };
    let nothing = rename(&olga, "wsp_00000000000000000000000000000000").await.denied("NOT_FOUND");
    let foreign = rename(&olga, &lab.id).await.denied("NOT_FOUND");
    assert_eq!(foreign.errors()[0]["message"], nothing.errors()[0]["message"]);
    assert_eq!(look(&olga, &lab).await.ok().data("/workspace"), &Value::Null);
    // Who belongs to the organization, and not to that workspace, learns no more of it.
    rename(&eve, &attic.id).await.denied("NOT_FOUND");
    assert_eq!(look(&eve, &attic).await.ok().data("/workspace"), &Value::Null);
    rename(&eve, &lab.id).await.denied(CODE);
}

async fn an_explanation_names_the_demand(app: App) {
    let (ada, _, lab, eve) = demanding(&app, 0, SystemRole::Editor).await;
    let document = "query($workspace: ID!, $user: ID!, $permission: Permission!) {
        explainAccess(workspaceId: $workspace, userId: $user, permission: $permission) {
            isAllowed rule message grant { role { key } } changes { steps { kind message } } } }";
    let ask = async |permission: &str| {
        let variables = json!({ "workspace": lab.id, "user": eve.id, "permission": permission });
        ada.query(document, variables).await.ok().data("/explainAccess").clone()
    };
    let told = ask("FILE_WRITE").await;
    assert_eq!((&told["isAllowed"], &told["rule"]), (&json!(false), &json!("SECOND_FACTOR_MISSING")));
    assert_eq!(told["grant"]["role"]["key"], "EDITOR");
    assert_eq!(told["changes"][0]["steps"][0]["kind"], "SET_UP_SECOND_FACTOR");
    assert_eq!(ask("MEMBERS_MANAGE").await["rule"], "ROLE_LACKS");
    factor(&app, &eve, true).await;
    assert_eq!(ask("FILE_WRITE").await["rule"], "ROLE_HOLDS");
}

async fn a_colleague_who_does_not_manage_members_does_not_hear_who_has_no_second_factor(app: App) {
    let (_, _, lab, eve) = demanding(&app, 0, SystemRole::Editor).await;
    let vic = app.member(&lab, SystemRole::Viewer, "Vic").await;
    let amy = app.member(&lab, SystemRole::Admin, "Amy").await;
    for who in [&vic, &amy] {
        factor(&app, who, true).await;
    }
    let document = "query($workspace: ID!, $user: ID!, $permission: Permission!) {
        explainAccess(workspaceId: $workspace, userId: $user, permission: $permission) {
            isAllowed rule message policySwitch grant { source role { key } } changes { steps { kind message } } } }";
    let told = async |asker: &Actor| {
        let mut told = Vec::new();
        for permission in ["WORKSPACE_VIEW", "FILE_WRITE", "MEMBERS_MANAGE"] {
            let variables = json!({ "workspace": lab.id, "user": eve.id, "permission": permission });
            told.push(asker.query(document, variables).await.ok().data("/explainAccess").clone());
        }
        told
    };
    let (to_vic, to_amy) = (told(&vic).await, told(&amy).await);
    assert_eq!((&to_vic[1]["isAllowed"], &to_vic[1]["rule"]), (&json!(true), &json!("ROLE_HOLDS")));
    assert_eq!(
        (&to_amy[1]["isAllowed"], &to_amy[1]["rule"]),
        (&json!(false), &json!("SECOND_FACTOR_MISSING"))
    );
    // Of herself Eve hears it wherever she asks.
    let own = json!({ "workspace": lab.id, "user": eve.id, "permission": "FILE_WRITE" });
    eve.query(document, own).await.denied(CODE);
    // To Vic nothing changes when she has one, and then he is told the same as Amy.
    factor(&app, &eve, true).await;
    assert_eq!(told(&vic).await, to_vic);
    assert_eq!(told(&amy).await, to_vic);
}

async fn only_an_owner_with_a_second_factor_demands_one(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let refused = require(&ada, &organization, 168).await.refused(CODE);
    assert_eq!(refused.user_errors()[0]["field"], json!(["requireTwoFactor"]));
    let own = ada.query(OWN, json!({})).await.ok();
    let policy = own.data("/viewer/organizations/nodes/0/policy");
    assert_eq!(policy, &json!({ "requireTwoFactor": false, "twoFactorGraceHours": 168 }));
    factor(&app, &ada, true).await;
    require(&ada, &organization, 168).await.ok();
    // Who has lost theirs since may change the policy while there is time, but not end the time.
    factor(&app, &ada, false).await;
    require(&ada, &organization, 24).await.ok();
    require(&ada, &organization, 0).await.refused(CODE);
    let input = json!({ "organizationId": organization, "requireTwoFactor": false });
    ada.mutate("updateOrganizationPolicy", input, "__typename").await.ok();
    app.chained().await;
    let log = ada
        .query(
            "{ viewer { organizations { nodes { auditLog(first: 1) { nodes { action after } } } } } }",
            json!({}),
        )
        .await
        .ok();
    let entry = log.data("/viewer/organizations/nodes/0/auditLog/nodes/0");
    assert_eq!(entry["action"], "updateOrganizationPolicy", "{entry}");
    assert_eq!(entry["after"], json!({ "requireTwoFactor": false }), "{entry}");
}

async fn a_policy_out_of_range_is_refused(app: App) {
    let (ada, organization, ..) = demanding(&app, 720, SystemRole::Viewer).await;
    for hours in [-1, 721, i32::MAX] {
        let refused = require(&ada, &organization, hours).await.refused("INVALID_INPUT");
        assert_eq!(refused.user_errors()[0]["field"], json!(["twoFactorGraceHours"]));
    }
    require(&ada, &organization, 0).await.ok();
}

async fn admins_see_who_has_none(app: App) {
    let (ada, _, _, eve) = demanding(&app, 24, SystemRole::Viewer).await;
    let answer = ada
        .query(
            "{ viewer { organizations { nodes { members { nodes { user { id } hasSecondFactor } } } } } }",
            json!({}),
        )
        .await
        .ok();
    let members = answer.data("/viewer/organizations/nodes/0/members/nodes").as_array().unwrap();
    let has = |who: &Actor| {
        members.iter().find(|member| member["user"]["id"] == who.id.as_str()).unwrap()["hasSecondFactor"]
            .clone()
    };
    assert_eq!((has(&ada), has(&eve)), (json!(true), json!(false)));
}

async fn an_invitation_holds_though_its_inviter_has_to_come_back(app: App) {
    let (_, _, lab, eve) = demanding(&app, 24, SystemRole::Admin).await;
    eve.invite(&lab, "finn@example.org", "VIEWER").await.ok();
    let link = app.mail_to("finn@example.org").await.link();
    app.advance(TimeDelta::hours(24));
    look(&eve.again().await, &lab).await.denied(CODE);
    let finn = Actor::register(&app.url, guildhall_tests::actor::token_of(&link), "Finn").await;
    look(&finn, &lab).await.ok();
}
