//! The people of an organization: what its admins see of them, and what they may do to whom.

use std::{collections::BTreeMap, pin::Pin, time::Duration};

use futures_util::future::{join, join_all};
use guildhall_domain::access::SystemRole;
use guildhall_tests::{
    Actor, Answer, App, Workspace,
    actor::{PASSWORD, token_of},
    both_databases,
    subscription::End,
};
use serde_json::{Value, json};

use crate::races::tally;

both_databases!(
    App::start,
    admins_see_everybody_with_their_roles_and_workspaces,
    others_do_not_see_who_belongs_to_the_organization,
    members_are_searched_and_filtered_within_the_organization,
    members_come_in_pages,
    what_somebody_does_in_another_organization_is_not_told,
    a_list_of_members_takes_as_many_statements_for_twenty_as_for_two,
    an_admin_of_the_organization_is_made_and_unmade,
    an_owner_is_changed_by_owners_alone_and_the_last_one_stays,
    a_change_of_nobody_or_by_nobody_is_refused,
    removing_ends_everything_in_the_organization_and_nothing_else,
    who_is_removed_stops_hearing_at_once,
    workspaces_that_would_lose_their_last_admin_are_named,
    who_counts_as_another_admin,
    one_leaves_an_organization_and_may_remove_oneself,
    what_people_who_left_are_called_today_is_not_told,
    disabling_ends_every_access_at_once_and_enabling_restores_it,
    disabling_is_refused_as_removing_is,
    a_person_disabled_in_one_organization_goes_on_in_another,
    who_is_disabled_everywhere_signs_in_to_answer_an_invitation_of_elsewhere,
    a_disabled_person_neither_accepts_nor_grants,
    who_signs_in_while_being_disabled_does_not_stay,
    two_owners_who_demote_each_other_leave_one,
    of_a_workspace_s_two_admins_one_stays_whichever_way_they_go,
    two_hundred_changes_at_once_keep_an_owner_and_the_admins,
);

const CHANGES: &str = "subscription($id: ID!) { invitationStatusChanged(workspaceId: $id) { status } }";

/// The id of the organization that the workspace belongs to.
async fn organization_of(workspace: &Workspace) -> String {
    let document = "query($name: String!) { workspace(name: $name) { organization { id } } }";
    let answer = workspace.admin.query(document, json!({ "name": workspace.name })).await.ok();
    answer.text("/workspace/organization/id").to_owned()
}

/// The organization of whoever set the instance up.
async fn example(app: &App) -> String {
    organization_of(app.default_workspace()).await
}

/// Carries out one of the changes of a member.
async fn change(by: &Actor, mutation: &str, organization: &str, user: &Actor) -> Answer {
    let input = json!({ "organizationId": organization, "userId": user.id });
    by.mutate(mutation, input, "member { status role user { email } }").await
}

async fn set_role(by: &Actor, organization: &str, user: &Actor, role: &str) -> Answer {
    let input = json!({ "organizationId": organization, "userId": user.id, "role": role });
    by.mutate("updateOrganizationMember", input, "member { role }").await
}

async fn leave(actor: &Actor, organization: &str) -> Answer {
    let input = json!({ "organizationId": organization });
    actor.mutate("leaveOrganization", input, "endedMemberships { id }").await
}

/// Makes somebody an owner behind the server's back.
async fn make_owner(app: &App, organization: &str, user: &Actor) {
    app.sql(&format!(
        "UPDATE organization_members SET role = 'OWNER' WHERE user_id = {} AND organization_id = {}",
        app.literal(&user.id),
        app.literal(organization)
    ))
    .await;
}

/// Makes somebody who has an account a member of the workspace.
async fn join_workspace(app: &App, workspace: &Workspace, actor: &Actor, role: SystemRole) {
    let invited = workspace.admin.invite(workspace, &actor.email, role.key()).await.ok();
    app.mail_to(&actor.email).await;
    let input = json!({ "invitationId": invited.data("/inviteMember/invitation/id") });
    actor.mutate("acceptInvitation", input, "").await.ok();
}

/// The members as an admin lists them: role and status by address.
async fn listed(admin: &Actor) -> BTreeMap<String, (String, String)> {
    let document = "{ organization(slug: \"example\") { members(first: 100) { nodes {
        role status user { email }
    } } } }";
    let answer = admin.query(document, json!({})).await.ok();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let nodes = answer.data("/organization/members/nodes").as_array().unwrap();
    nodes
        .iter()
        .map(|node| (text(&node["user"]["email"]), (text(&node["role"]), text(&node["status"]))))
        .collect()
}

#[track_caller]
fn assert_at(refused: &Answer, mutation: &str, field: &str) {
    assert_eq!(refused.data(&format!("/{mutation}/userErrors/0/field")), &json!([field]), "{refused}");
}

async fn is_signed_in(actor: &Actor) -> bool {
    !actor.query("{ viewer { user { id } } }", json!({})).await.ok().data("/viewer").is_null()
}

/// The names of the workspaces that somebody sees.
async fn workspaces_of(actor: &Actor) -> Vec<String> {
    let answer = actor.query("{ viewer { workspaces { nodes { displayName } } } }", json!({})).await.ok();
    let nodes = answer.data("/viewer/workspaces/nodes").as_array().unwrap();
    nodes.iter().map(|node| node["displayName"].as_str().unwrap().to_owned()).collect()
}

async fn admins_see_everybody_with_their_roles_and_workspaces(app: App) {
    let ada = app.set_up().await;
    let organization = example(&app).await;
    let lab = ada.workspace("Lab").await;
    let eve = app.person("eve@example.org", "Eve").await;
    let orla = app.member(&lab, SystemRole::Editor, "Orla").await;
    join_workspace(&app, &lab, &eve, SystemRole::Admin).await;
    set_role(&ada, &organization, &orla, "ADMIN").await.ok();
    eve.mutate("switchWorkspace", json!({ "workspaceId": lab.id }), "").await.ok();
    let document = "{ organization(slug: \"example\") { members { totalCount nodes {
        user { email displayName } role status joinedAt lastSignInAt
        activeWorkspace { displayName viewerRole { key } }
        memberships { totalCount nodes { role { key } workspace { displayName } } }
    } } } }";
    for admin in [&ada, &orla] {
        let answer = admin.query(document, json!({})).await.ok();
        assert_eq!(answer.data("/organization/members/totalCount"), 3);
        let nodes = answer.data("/organization/members/nodes").as_array().unwrap();
        let of = |actor: &Actor| nodes.iter().find(|node| node["user"]["email"] == *actor.email).unwrap();
        let emails: Vec<_> = nodes.iter().map(|node| node["user"]["email"].as_str().unwrap()).collect();
        assert_eq!(emails, ["ada@example.org", "eve@example.org", "orla@example.org"], "by age");
        for (actor, role) in [(&ada, "OWNER"), (&eve, "MEMBER"), (&orla, "ADMIN")] {
            assert_eq!((&of(actor)["role"], &of(actor)["status"]), (&json!(role), &json!("ACTIVE")));
            assert!(of(actor)["joinedAt"].is_string() && of(actor)["lastSignInAt"].is_string(), "{answer}");
        }
        assert_eq!(
            of(&eve)["activeWorkspace"],
            json!({ "displayName": "Lab", "viewerRole": { "key": "ADMIN" } })
        );
        assert_eq!(
            of(&eve)["memberships"],
            json!({ "totalCount": 2, "nodes": [
                { "role": { "key": "VIEWER" }, "workspace": { "displayName": "Example" } },
                { "role": { "key": "ADMIN" }, "workspace": { "displayName": "Lab" } },
            ] })
        );
        assert_eq!(
            of(&orla)["memberships"],
            json!({ "totalCount": 1, "nodes": [{ "role": { "key": "EDITOR" }, "workspace": { "displayName": "Lab" } }] }),
            "what she is as an admin of the organization is no membership"
        );
    }
}

async fn others_do_not_see_who_belongs_to_the_organization(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    let document =
        "{ organization(slug: \"example\") { name members(search: \"ada\") { totalCount nodes { role } } } }";
    let forbidden = adam.query(document, json!({})).await;
    assert_eq!(forbidden.code(), "FORBIDDEN");
    assert_eq!(forbidden.data("/organization"), &json!({ "name": "Example", "members": null }));
    assert_eq!(olga.query(document, json!({})).await.ok().data("/organization"), &Value::Null);
    app.anonymous().query(document, json!({})).await.denied("UNAUTHENTICATED");
}

async fn members_are_searched_and_filtered_within_the_organization(app: App) {
    let ada = app.set_up().await;
    let organization = example(&app).await;
    for name in ["Eve", "Eva", "Bob"] {
        app.person(&format!("{}@example.org", name.to_lowercase()), name).await;
    }
    let bob = Actor::sign_in(&app.url, "bob@example.org", PASSWORD).await;
    app.stranger("evelyn@example.org", "Evelyn").await;
    change(&ada, "disableUser", &organization, &bob).await.ok();
    let found = async |arguments: &str| {
        let document = format!(
            "{{ organization(slug: \"example\") {{ members({arguments}) {{ totalCount nodes {{ user {{ displayName }} }} }} }} }}"
        );
        let answer = ada.query(&document, json!({})).await.ok();
        let nodes = answer.data("/organization/members/nodes").as_array().unwrap();
        assert_eq!(answer.data("/organization/members/totalCount"), nodes.len(), "{answer}");
        let name = |node: &Value| node["user"]["displayName"].as_str().unwrap().to_owned();
        nodes.iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(found("search: \"EV\"").await, ["Eve", "Eva"], "Evelyn is of another organization");
    assert_eq!(found("search: \"eve@EXAMPLE\"").await, ["Eve"]);
    assert_eq!(found("search: \"evelyn\"").await, [""; 0]);
    assert_eq!(found("search: \"%\"").await, [""; 0]);
    assert_eq!(found("search: \" \"").await, ["Ada", "Eve", "Eva", "Bob"]);
    assert_eq!(found("role: OWNER").await, ["Ada"]);
    assert_eq!(found("role: ADMIN").await, [""; 0]);
    assert_eq!(found("status: DISABLED").await, ["Bob"]);
    assert_eq!(found("status: ACTIVE, role: MEMBER").await, ["Eve", "Eva"]);
    assert_eq!(found("status: DISABLED, search: \"eve\"").await, [""; 0]);
    for bad in ["a\u{0}b".to_owned(), "x".repeat(101)] {
        let document = "query($search: String) { organization(slug: \"example\") { members(search: $search) { totalCount } } }";
        ada.query(document, json!({ "search": bad })).await.denied("BAD_USER_INPUT");
    }
}

async fn members_come_in_pages(app: App) {
    let ada = app.set_up().await;
    for name in ["Bob", "Cleo", "Dan", "Eve"] {
        app.person(&format!("{}@example.org", name.to_lowercase()), name).await;
    }
    let page = async |arguments: Value| {
        let document =
            "query($first: Int, $after: String, $last: Int, $before: String) { organization(slug: \"example\") {
            members(first: $first, after: $after, last: $last, before: $before) {
                totalCount nodes { user { displayName } } pageInfo { endCursor startCursor hasNextPage hasPreviousPage }
            } } }";
        let answer = ada.query(document, arguments).await.ok();
        assert_eq!(answer.data("/organization/members/totalCount"), 5);
        let nodes = answer.data("/organization/members/nodes").as_array().unwrap().clone();
        let names: Vec<_> =
            nodes.iter().map(|node| node["user"]["displayName"].as_str().unwrap().to_owned()).collect();
        (names, answer.data("/organization/members/pageInfo").clone())
    };
    let (names, info) = page(json!({ "first": 2 })).await;
    assert_eq!((names, &info["hasNextPage"]), (vec!["Ada".to_owned(), "Bob".to_owned()], &json!(true)));
    let (names, info) = page(json!({ "first": 2, "after": info["endCursor"] })).await;
    assert_eq!((names, &info["hasNextPage"]), (vec!["Cleo".to_owned(), "Dan".to_owned()], &json!(true)));
    let (names, last) = page(json!({ "first": 2, "after": info["endCursor"] })).await;
    assert_eq!((names, &last["hasNextPage"]), (vec!["Eve".to_owned()], &json!(false)));
    let (names, info) = page(json!({ "last": 2, "before": last["startCursor"] })).await;
    assert_eq!((names, &info["hasPreviousPage"]), (vec!["Cleo".to_owned(), "Dan".to_owned()], &json!(true)));
}

async fn what_somebody_does_in_another_organization_is_not_told(app: App) {
    let ada = app.set_up().await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    let den = olga.workspace("Den").await;
    let eve = app.person("eve@example.org", "Eve").await;
    join_workspace(&app, &den, &eve, SystemRole::Admin).await;
    eve.mutate("switchWorkspace", json!({ "workspaceId": den.id }), "").await.ok();
    let document =
        "query($slug: String!) { organization(slug: $slug) { members(search: \"eve\") { totalCount nodes {
        role activeWorkspace { displayName } memberships { totalCount nodes { workspace { displayName } } }
    } } } }";
    let seen = async |admin: &Actor, slug: &str| {
        let answer = admin.query(document, json!({ "slug": slug })).await.ok();
        answer.data("/organization/members/nodes").clone()
    };
    assert_eq!(
        seen(&ada, "example").await,
        json!([{ "role": "MEMBER", "activeWorkspace": null, "memberships": {
            "totalCount": 1, "nodes": [{ "workspace": { "displayName": "Example" } }]
        } }])
    );
    assert_eq!(
        seen(&olga, &olga.id.replace("usr_", "of-")).await,
        json!([{ "role": "MEMBER", "activeWorkspace": { "displayName": "Den" }, "memberships": {
            "totalCount": 1, "nodes": [{ "workspace": { "displayName": "Den" } }]
        } }])
    );
}

async fn a_list_of_members_takes_as_many_statements_for_twenty_as_for_two(app: App) {
    let ada = app.set_up().await;
    // One by one: whether workspaces at two depths of one document share a batch is chance.
    let parts = [
        "role user { email } activeWorkspace { displayName }",
        "memberships(first: 2) { totalCount nodes { role { key } workspace { displayName } } }",
    ];
    let members = |part: &str| {
        format!(
            r#"{{ organization(slug: "example") {{ members(first: 20) {{ totalCount nodes {{ {part} }} }} }} }}"#
        )
    };
    let cost = async || {
        let mut costs = Vec::new();
        for part in parts {
            let ask = async || drop(ada.query(&members(part), json!({})).await.ok());
            costs.push(app.count(ask).await);
        }
        costs
    };
    app.person("eve@example.org", "Eve").await;
    let few = cost().await;
    for number in 0..18 {
        let user = app.literal(&format!("usr_0193a1b2c3d47e8f9012{number:012x}"));
        let membership = app.literal(&format!("mbr_0193a1b2c3d47e8f9013{number:012x}"));
        let eve = "(SELECT id FROM users WHERE email = 'eve@example.org')";
        for statement in [
            format!(
                "INSERT INTO users (id, email, display_name, search_text, status, password_hash, created_at, updated_at,
                     default_workspace_id, last_workspace_id)
                 SELECT {user}, 'm{number}@example.org', display_name, search_text, status, password_hash, created_at,
                     updated_at, default_workspace_id, last_workspace_id FROM users WHERE id = {eve}"
            ),
            format!(
                "INSERT INTO organization_members (user_id, organization_id, role, status, created_at)
                 SELECT {user}, organization_id, role, status, created_at FROM organization_members WHERE user_id = {eve}"
            ),
            format!(
                "INSERT INTO memberships (id, workspace_id, user_id, role_id, source, created_at, updated_at)
                 SELECT {membership}, workspace_id, {user}, role_id, source, created_at, updated_at
                 FROM memberships WHERE user_id = {eve}"
            ),
        ] {
            app.sql(&statement).await;
        }
    }
    let answer = ada.query(&members(&parts.concat()), json!({})).await.ok();
    assert_eq!(answer.len("/organization/members/nodes"), 20);
    for place in 0..20 {
        let node = format!("/organization/members/nodes/{place}");
        assert_eq!(answer.len(&format!("{node}/memberships/nodes")), 1);
        assert_eq!(answer.data(&format!("{node}/activeWorkspace/displayName")), "Example");
    }
    assert_eq!(cost().await, few, "for twenty members and for two");
}

async fn an_admin_of_the_organization_is_made_and_unmade(app: App) {
    let ada = app.set_up().await;
    let organization = example(&app).await;
    let lab = ada.workspace("Lab").await;
    let eve = app.person("eve@example.org", "Eve").await;
    let made = set_role(&ada, &organization, &eve, "ADMIN").await.ok();
    assert_eq!(made.data("/updateOrganizationMember/member/role"), "ADMIN");
    assert_eq!(workspaces_of(&eve).await, ["Example", "Lab"]);
    let mut changes = eve.subscribe(CHANGES, json!({ "id": lab.id })).await;
    changes.no_event_for(100).await;

    // An admin makes admins and unmakes them, themselves too.
    let bob = app.person("bob@example.org", "Bob").await;
    set_role(&eve, &organization, &bob, "ADMIN").await.ok();
    set_role(&bob, &organization, &eve, "MEMBER").await.ok();
    match changes.ended().await {
        End::Errors(errors) => assert_eq!(errors[0]["extensions"]["code"], "NOT_FOUND", "{errors:?}"),
        other => panic!("expected the end of her rights, but: {other:?}"),
    }
    assert_eq!(workspaces_of(&eve).await, ["Example"]);
    set_role(&eve, &organization, &bob, "MEMBER").await.denied("FORBIDDEN");
    set_role(&bob, &organization, &bob, "MEMBER").await.ok();
    set_role(&bob, &organization, &bob, "ADMIN").await.denied("FORBIDDEN");
    // What is so already stays so.
    set_role(&ada, &organization, &bob, "MEMBER").await.ok();
    assert!(listed(&ada).await.values().filter(|(role, _)| role == "MEMBER").count() == 2);
}

async fn an_owner_is_changed_by_owners_alone_and_the_last_one_stays(app: App) {
    let ada = app.set_up().await;
    let organization = example(&app).await;
    let eve = app.person("eve@example.org", "Eve").await;
    let orla = app.person("orla@example.org", "Orla").await;
    set_role(&ada, &organization, &orla, "ADMIN").await.ok();
    for (by, user) in [(&orla, &eve), (&orla, &orla), (&ada, &eve), (&ada, &ada)] {
        let refused = set_role(by, &organization, user, "OWNER").await.refused("INVALID_INPUT");
        assert_at(&refused, "updateOrganizationMember", "role");
        assert!(refused.text("/updateOrganizationMember/userErrors/0/message").contains("transferOwnership"));
    }
    let refused = set_role(&orla, &organization, &ada, "MEMBER").await.refused("OWNER_PROTECTED");
    assert_at(&refused, "updateOrganizationMember", "userId");
    change(&orla, "removeOrganizationMember", &organization, &ada).await.refused("OWNER_PROTECTED");
    change(&orla, "disableUser", &organization, &ada).await.refused("OWNER_PROTECTED");
    set_role(&ada, &organization, &ada, "ADMIN").await.refused("LAST_OWNER");
    change(&ada, "removeOrganizationMember", &organization, &ada).await.refused("LAST_OWNER");
    leave(&ada, &organization).await.refused("LAST_OWNER");

    // An owner who cannot act is none to rely on, but can be put right.
    make_owner(&app, &organization, &eve).await;
    change(&ada, "disableUser", &organization, &eve).await.ok();
    set_role(&ada, &organization, &ada, "ADMIN").await.refused("LAST_OWNER");
    leave(&ada, &organization).await.refused("LAST_OWNER");
    change(&orla, "enableUser", &organization, &eve).await.refused("OWNER_PROTECTED");
    change(&ada, "enableUser", &organization, &eve).await.ok();
    let eve = eve.again().await;
    set_role(&eve, &organization, &ada, "ADMIN").await.ok();
    set_role(&ada, &organization, &eve, "MEMBER").await.refused("OWNER_PROTECTED");
    set_role(&eve, &organization, &eve, "MEMBER").await.refused("LAST_OWNER");
    let roles = listed(&eve).await;
    assert_eq!(
        (roles["eve@example.org"].0.as_str(), roles["ada@example.org"].0.as_str()),
        ("OWNER", "ADMIN")
    );
}

async fn a_change_of_nobody_or_by_nobody_is_refused(app: App) {
    let ada = app.set_up().await;
    let organization = example(&app).await;
    let eve = app.person("eve@example.org", "Eve").await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    for mutation in ["updateOrganizationMember", "removeOrganizationMember", "disableUser", "enableUser"] {
        let input = |organization: &str, user: &str| {
            let mut input = json!({ "organizationId": organization, "userId": user });
            if mutation == "updateOrganizationMember" {
                input["role"] = json!("ADMIN");
            }
            input
        };
        for user in [olga.id.as_str(), "usr_0193a1b2c3d47e8f9012345678901234"] {
            let refused = ada
                .mutate(mutation, input(&organization, user), "member { role }")
                .await
                .refused("NOT_FOUND");
            assert_at(&refused, mutation, "userId");
        }
        for user in ["", "usr_", "eve@example.org", &organization, "usr_\u{0}"] {
            let refused = ada
                .mutate(mutation, input(&organization, user), "member { role }")
                .await
                .refused("INVALID_INPUT");
            assert_at(&refused, mutation, "userId");
        }
        let ids = input(&organization, &ada.id);
        eve.mutate(mutation, ids.clone(), "member { role }").await.denied("FORBIDDEN");
        olga.mutate(mutation, ids.clone(), "member { role }").await.denied("NOT_FOUND");
        app.anonymous().mutate(mutation, ids, "member { role }").await.denied("UNAUTHENTICATED");
        for organization in ["", "org_", "org_0193a1b2c3d47e8f9012345678901234", &eve.id] {
            ada.mutate(mutation, input(organization, &eve.id), "member { role }").await.denied("NOT_FOUND");
        }
    }
    for organization in [organization.as_str(), "", "org_0193a1b2c3d47e8f9012345678901234"] {
        leave(&olga, organization).await.denied("NOT_FOUND");
        leave(&app.anonymous(), organization).await.denied("UNAUTHENTICATED");
    }
    let everybody =
        json!({ "ada@example.org": ["OWNER", "ACTIVE"], "eve@example.org": ["MEMBER", "ACTIVE"] });
    assert_eq!(json!(listed(&ada).await), everybody);
}

async fn removing_ends_everything_in_the_organization_and_nothing_else(app: App) {
    let ada = app.set_up().await;
    let organization = example(&app).await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    let (lab, attic, den) =
        (ada.workspace("Lab").await, ada.workspace("Attic").await, olga.workspace("Den").await);
    let eve = app.member(&lab, SystemRole::Admin, "Eve").await;
    join_workspace(&app, &attic, &eve, SystemRole::Viewer).await;
    join_workspace(&app, &den, &eve, SystemRole::Admin).await;
    eve.mutate("switchWorkspace", json!({ "workspaceId": attic.id }), "").await.ok();
    // What she sent and received: in the organization, and in the other one.
    eve.invite(&lab, "ivan@example.org", "VIEWER").await.ok();
    eve.invite(&den, "igor@example.org", "VIEWER").await.ok();
    ada.invite(&lab, "iris@example.org", "VIEWER").await.ok();
    ada.invite(app.default_workspace(), &eve.email, "VIEWER").await.ok();
    let kiosk = olga.workspace("Kiosk").await;
    olga.invite(&kiosk, &eve.email, "VIEWER").await.ok();

    let input = json!({ "organizationId": organization, "userId": eve.id });
    let selection = "member { role status user { email } memberships { totalCount } }
        endedMemberships { role { key } workspace { displayName } principal { ... on User { email } } }";
    let removed = ada.mutate("removeOrganizationMember", input, selection).await.ok();
    assert_eq!(
        removed.data("/removeOrganizationMember/member"),
        &json!({ "role": "MEMBER", "status": "ACTIVE", "user": { "email": eve.email }, "memberships": { "totalCount": 0 } })
    );
    let ended = |role: &str, name: &str| json!({ "role": { "key": role }, "workspace": { "displayName": name }, "principal": { "email": eve.email } });
    assert_eq!(
        removed.data("/removeOrganizationMember/endedMemberships"),
        &json!([ended("ADMIN", "Lab"), ended("VIEWER", "Attic")])
    );
    assert!(!listed(&ada).await.contains_key(&eve.email));

    // She is signed in as before, and sees what is left to her.
    assert_eq!(workspaces_of(&eve).await, ["Den"]);
    let lands = "{ viewer { defaultWorkspace { displayName } lastWorkspace { displayName } organizations { totalCount } } }";
    let den_only = json!({ "displayName": "Den" });
    assert_eq!(
        eve.query(lands, json!({})).await.ok().data("/viewer"),
        &json!({ "defaultWorkspace": den_only, "lastWorkspace": den_only, "organizations": { "totalCount": 1 } })
    );
    let statuses = async |by: &Actor, workspace: &Workspace| {
        let document = "query($name: String!) { workspace(name: $name) { invitations { nodes { email status delivery } } } }";
        let answer = by.query(document, json!({ "name": workspace.name })).await.ok();
        let nodes = answer.data("/workspace/invitations/nodes").as_array().unwrap();
        let of = |node: &Value| {
            format!("{} {}", node["email"].as_str().unwrap(), node["status"].as_str().unwrap())
        };
        nodes.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(
        statuses(&ada, &lab).await,
        ["eve@example.org ACCEPTED", "ivan@example.org REVOKED", "iris@example.org PENDING"]
    );
    assert!(statuses(&ada, app.default_workspace()).await.contains(&"eve@example.org REVOKED".to_owned()));
    assert!(statuses(&olga, &den).await.contains(&"igor@example.org PENDING".to_owned()));
    assert_eq!(statuses(&olga, &kiosk).await, ["eve@example.org PENDING"]);

    // Her account is left, and can be invited again.
    change(&ada, "removeOrganizationMember", &organization, &eve).await.refused("NOT_FOUND");
    let eve = eve.again().await;
    join_workspace(&app, &lab, &eve, SystemRole::Viewer).await;
    assert_eq!(listed(&ada).await[&eve.email], ("MEMBER".to_owned(), "ACTIVE".to_owned()));
}

async fn who_is_removed_stops_hearing_at_once(app: App) {
    let ada = app.set_up().await;
    let organization = example(&app).await;
    let lab = ada.workspace("Lab").await;
    let eve = app.member(&lab, SystemRole::Admin, "Eve").await;
    let orla = app.person("orla@example.org", "Orla").await;
    set_role(&ada, &organization, &orla, "ADMIN").await.ok();
    // Orla watches a workspace that she is no member of.
    for actor in [&eve, &orla] {
        let mut changes = actor.subscribe(CHANGES, json!({ "id": lab.id })).await;
        changes.no_event_for(100).await;
        change(&ada, "removeOrganizationMember", &organization, actor).await.ok();
        let ended = tokio::time::timeout(Duration::from_secs(2), changes.ended()).await;
        match ended.expect("the subscription ends by itself") {
            End::Errors(errors) => assert_eq!(errors[0]["extensions"]["code"], "NOT_FOUND", "{errors:?}"),
            other => panic!("expected the end of their rights, but: {other:?}"),
        }
        actor.invite(&lab, "zoe@example.org", "VIEWER").await.denied("NOT_FOUND");
        assert!(is_signed_in(actor).await);
    }
}

async fn workspaces_that_would_lose_their_last_admin_are_named(app: App) {
    let ada = app.set_up().await;
    let organization = example(&app).await;
    let lab = ada.workspace("Lab").await;
    let bob = app.member(&lab, SystemRole::Admin, "Bob").await;
    let mut own = Vec::new();
    for number in 1..=7 {
        own.push(bob.workspace(&format!("Own {number}")).await);
    }
    let input = json!({ "organizationId": organization, "userId": bob.id });
    let leaving = json!({ "organizationId": organization });
    for (by, mutation, input) in [
        (&ada, "removeOrganizationMember", &input),
        (&ada, "disableUser", &input),
        (&bob, "leaveOrganization", &leaving),
    ] {
        let refused = by.mutate(mutation, input.clone(), "").await.refused("LAST_ADMIN");
        assert_eq!(
            refused.text(&format!("/{mutation}/userErrors/0/message")),
            "No admin would be left in “Own 1”, “Own 2”, “Own 3”, “Own 4”, “Own 5” and 2 more. \
             Give another member of each the Admin role first."
        );
    }
    let cleo = app.person("cleo@example.org", "Cleo").await;
    for workspace in &own[1..] {
        join_workspace(&app, workspace, &cleo, SystemRole::Admin).await;
    }
    let refused = ada.mutate("disableUser", input.clone(), "").await.refused("LAST_ADMIN");
    assert!(refused.text("/disableUser/userErrors/0/message").contains("left in “Own 1”. Give"), "{refused}");
    join_workspace(&app, &own[0], &cleo, SystemRole::Admin).await;
    ada.mutate("removeOrganizationMember", input, "").await.ok();
    change(&ada, "disableUser", &organization, &cleo).await.refused("LAST_ADMIN");
}

async fn who_counts_as_another_admin(app: App) {
    let ada = app.set_up().await;
    let organization = example(&app).await;
    let lab = ada.workspace("Lab").await;
    let bob = app.member(&lab, SystemRole::Admin, "Bob").await;
    let cleo = app.member(&lab, SystemRole::Editor, "Cleo").await;
    let orla = app.person("orla@example.org", "Orla").await;
    set_role(&ada, &organization, &orla, "ADMIN").await.ok();
    // Ada goes, so that Bob is the only one; an admin of the organization or an Editor does not take his place.
    ada.mutate("leaveWorkspace", json!({ "workspaceId": lab.id }), "").await.ok();
    let refuses = async || {
        change(&ada, "disableUser", &organization, &bob).await.refused("LAST_ADMIN");
        change(&ada, "removeOrganizationMember", &organization, &bob).await.refused("LAST_ADMIN");
        leave(&bob, &organization).await.refused("LAST_ADMIN");
    };
    refuses().await;
    // Nor does an Admin for a while only.
    let of_cleo = format!("WHERE user_id = {}", app.literal(&cleo.id));
    let admin = "(SELECT id FROM roles WHERE key = 'ADMIN' AND organization_id IS NULL)";
    app.sql(&format!(
        "UPDATE memberships SET role_id = {admin}, expires_at = '2999-01-01 00:00:00+00:00' {of_cleo}"
    ))
    .await;
    refuses().await;
    app.sql(&format!("UPDATE memberships SET expires_at = NULL {of_cleo}")).await;
    // Nor one who is disabled: here, or altogether.
    change(&ada, "disableUser", &organization, &cleo).await.ok();
    refuses().await;
    change(&ada, "enableUser", &organization, &cleo).await.ok();
    app.sql(&format!("UPDATE users SET status = 'DISABLED' WHERE id = {}", app.literal(&cleo.id))).await;
    refuses().await;
    app.sql(&format!("UPDATE users SET status = 'ACTIVE' WHERE id = {}", app.literal(&cleo.id))).await;
    // With a custom role that lets her manage people she does.
    app.sql(&format!(
        "INSERT INTO roles (id, organization_id, key, name, description, permissions, created_at, updated_at)
         SELECT {role}, id, 'WARDEN', 'Warden', '', '[\"workspace.view\", \"members.manage\", \"members.invite\"]',
             created_at, updated_at FROM organizations WHERE slug = 'example'",
        role = app.literal("rol_0193a1b2c3d47e8f9012345678901234")
    ))
    .await;
    let role = app.literal("rol_0193a1b2c3d47e8f9012345678901234");
    app.sql(&format!("UPDATE memberships SET role_id = {role} {of_cleo}")).await;
    change(&ada, "disableUser", &organization, &bob).await.ok();
    change(&ada, "removeOrganizationMember", &organization, &cleo).await.refused("LAST_ADMIN");
    // Who is disabled counts for nobody, so the workspace loses nothing by his going.
    change(&ada, "removeOrganizationMember", &organization, &bob).await.ok();
}

async fn one_leaves_an_organization_and_may_remove_oneself(app: App) {
    let ada = app.set_up().await;
    let organization = example(&app).await;
    let lab = ada.workspace("Lab").await;
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    let input = json!({ "organizationId": organization });
    let selection =
        "endedMemberships { role { key } workspace { id } } viewer { organizations { totalCount } }";
    let left = eve.mutate("leaveOrganization", input, selection).await.ok();
    assert_eq!(
        left.data("/leaveOrganization"),
        &json!({
            "endedMemberships": [{ "role": { "key": "VIEWER" }, "workspace": null }],
            "viewer": { "organizations": { "totalCount": 0 } }, "userErrors": [],
        })
    );
    leave(&eve, &organization).await.denied("NOT_FOUND");
    // Who belongs nowhere keeps the account.
    assert_eq!(workspaces_of(&eve.again().await).await, [""; 0]);

    let orla = app.person("orla@example.org", "Orla").await;
    set_role(&ada, &organization, &orla, "ADMIN").await.ok();
    change(&orla, "removeOrganizationMember", &organization, &orla).await.ok();
    leave(&orla, &organization).await.denied("NOT_FOUND");
    let cleo = app.person("cleo@example.org", "Cleo").await;
    make_owner(&app, &organization, &cleo).await;
    leave(&cleo, &organization).await.ok();
    assert_eq!(listed(&ada).await.into_keys().collect::<Vec<_>>(), ["ada@example.org"]);
}

/// Whoever is named anywhere in an answer as having made, changed or used something.
fn authors(answer: &Value) -> Vec<(String, Value)> {
    const FIELDS: [&str; 6] = ["createdBy", "updatedBy", "archivedBy", "inviter", "sharedBy", "user"];
    match answer {
        Value::Array(nodes) => nodes.iter().flat_map(authors).collect(),
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| match FIELDS.contains(&name.as_str()) {
                true => vec![(name.clone(), value.clone())],
                false => authors(value),
            })
            .collect(),
        _ => Vec::new(),
    }
}

async fn what_people_who_left_are_called_today_is_not_told(app: App) {
    let ada = app.set_up().await;
    let organization = example(&app).await;
    let (lab, attic) = (ada.workspace("Lab").await, ada.workspace("Attic").await);
    let eve = app.member(&lab, SystemRole::Admin, "Eve").await;
    set_role(&ada, &organization, &eve, "ADMIN").await.ok();
    // Eve leaves a trace of each kind.
    crate::machines::key(&eve, &lab, &["FILE_READ"]).await;
    crate::machines::account(&eve, &lab, "Nightly", "VIEWER").await;
    crate::webhooks::furnished(&eve, &lab).await;
    let store = crate::credential_nets::custom(&eve, &lab, "Store").await;
    crate::credential_nets::lend(&eve, &lab, &store, &app.default_workspace().id).await;
    crate::credential_nets::using(&eve, &lab, "store").await.ok();
    for (mutation, input) in [
        ("describeWorkspace", json!({ "workspaceId": lab.id, "description": "# Of Eve" })),
        ("setConfigProperty", json!({ "workspaceId": lab.id, "key": "a", "value": { "number": "1" } })),
        ("inviteMember", json!({ "workspaceId": lab.id, "email": "zoe@example.org", "role": "VIEWER" })),
        ("inviteOrganizationMember", json!({ "organizationId": organization, "email": "zora@example.org" })),
        ("archiveWorkspace", json!({ "workspaceId": attic.id })),
    ] {
        eve.mutate(mutation, input, "").await.ok();
    }
    let document = "query($lab: String!, $attic: String!) {
        lab: workspace(name: $lab) {
            homePage { updatedBy { ...named } } configProperty(key: \"a\") { updatedBy { ...named } }
            apiKeys { nodes { createdBy { ...named } } } serviceAccounts { nodes { createdBy { ...named } } }
            webhooks { nodes { createdBy { ...named } } } invitations { nodes { email inviter { ...named } } }
            credentials { nodes { shares { nodes { sharedBy { ...named } } } } }
            credentialUsages { nodes { user { ...named } } }
        }
        attic: workspace(name: $attic) { archivedBy { ...named } }
        organization(slug: \"example\") { invitations { nodes { inviter { ...named } } } }
    } fragment named on User { displayName email }";
    let named = async || {
        let answer = ada.query(document, json!({ "lab": lab.name, "attic": attic.name })).await.ok();
        // Those to Eve herself are of Ada.
        let mut told = authors(answer.data(""));
        told.retain(|(_, who)| who["displayName"] != "Ada");
        told
    };
    let present = json!({ "displayName": "Eve", "email": "eve@example.org" });
    let traces = named().await;
    assert_eq!(traces.len(), 10, "{traces:?}");
    assert!(traces.iter().all(|(_, who)| *who == present), "{traces:?}");
    // Who is disabled belongs to the organization.
    change(&ada, "disableUser", &organization, &eve).await.ok();
    assert_eq!(named().await, traces);
    change(&ada, "enableUser", &organization, &eve).await.ok();

    // She goes elsewhere and is called something else there.
    let olga = app.stranger("olga@example.org", "Olga").await;
    let den = olga.workspace("Den").await;
    let eve = eve.again().await;
    join_workspace(&app, &den, &eve, SystemRole::Admin).await;
    leave(&eve, &organization).await.ok();
    eve.mutate("updateProfile", json!({ "displayName": "Eva Elsewhere" }), "").await.ok();
    let user = app.literal(&eve.id);
    app.sql(&format!("UPDATE users SET email = 'eva@elsewhere.org' WHERE id = {user}")).await;
    let left = named().await;
    assert_eq!(left.len(), traces.len(), "{left:?}");
    assert!(left.iter().all(|(_, who)| who.is_null()), "{left:?}");
    // There she is known by it.
    eve.invite(&den, "zack@example.org", "VIEWER").await.ok();
    let document = "query($name: String!) { workspace(name: $name) { invitations(last: 1) { nodes { inviter { email } } } } }";
    let seen = olga.query(document, json!({ "name": den.name })).await.ok();
    assert_eq!(seen.data("/workspace/invitations/nodes/0/inviter/email"), "eva@elsewhere.org");
}

async fn sign_in(app: &App, actor: &Actor, password: &str) -> Answer {
    let input = json!({ "email": actor.email, "password": password });
    app.anonymous().mutate("signIn", input, "user { id } session { accessToken }").await
}

async fn disabling_ends_every_access_at_once_and_enabling_restores_it(app: App) {
    let ada = app.set_up().await;
    let organization = example(&app).await;
    let lab = ada.workspace("Lab").await;
    let eve = app.member(&lab, SystemRole::Admin, "Eve").await;
    let phone = eve.again().await;
    let before = workspaces_of(&eve).await;
    let mine = "subscription { viewerInvitationChanged { status } }";
    let mut changes = eve.subscribe(CHANGES, json!({ "id": lab.id })).await;
    let mut own = phone.subscribe(mine, json!({})).await;
    changes.no_event_for(100).await;
    let disabled = change(&ada, "disableUser", &organization, &eve).await.ok();
    assert_eq!(disabled.data("/disableUser/member/status"), "DISABLED");

    match tokio::time::timeout(Duration::from_secs(2), changes.ended()).await.expect("it ends by itself") {
        End::Errors(errors) => assert_eq!(errors[0]["extensions"]["code"], "UNAUTHENTICATED", "{errors:?}"),
        other => panic!("expected the end of a session, but: {other:?}"),
    }
    own.next().await.denied("UNAUTHENTICATED");
    for device in [&eve, &phone] {
        device.invite(&lab, "zoe@example.org", "VIEWER").await.denied("UNAUTHENTICATED");
        assert!(!is_signed_in(device).await);
        let token = json!({ "refreshToken": device.refresh_token });
        app.anonymous().mutate("refreshSession", token, "").await.refused("SESSION_INVALID");
    }
    sign_in(&app, &eve, "granite otter 9 violin").await.refused("INVALID_CREDENTIALS");
    sign_in(&app, &eve, PASSWORD).await.refused("USER_DISABLED");
    assert_eq!(listed(&ada).await[&eve.email], ("MEMBER".to_owned(), "DISABLED".to_owned()));
    let active =
        format!("SELECT count(*) FROM users WHERE status = 'ACTIVE' AND id = {}", app.literal(&eve.id));
    assert_eq!(app.number(&active).await, 1, "the account is nobody's to disable");
    // Her admins can still look at her.
    let node = "query($id: ID!) { node(id: $id) { ... on User { email } } }";
    assert_eq!(ada.query(node, json!({ "id": eve.id })).await.ok().data("/node/email"), &eve.email);
    // Once more changes nothing.
    change(&ada, "disableUser", &organization, &eve).await.ok();

    for _ in 0..2 {
        let enabled = change(&ada, "enableUser", &organization, &eve).await.ok();
        assert_eq!(enabled.data("/enableUser/member/status"), "ACTIVE");
    }
    assert!(!is_signed_in(&eve).await, "what has ended does not come back");
    let eve = eve.again().await;
    assert_eq!(workspaces_of(&eve).await, before);
    eve.invite(&lab, "zoe@example.org", "VIEWER").await.ok();
}

async fn disabling_is_refused_as_removing_is(app: App) {
    let ada = app.set_up().await;
    let organization = example(&app).await;
    let orla = app.person("orla@example.org", "Orla").await;
    set_role(&ada, &organization, &orla, "ADMIN").await.ok();
    for actor in [&ada, &orla] {
        let refused = change(actor, "disableUser", &organization, actor).await.refused("INVALID_INPUT");
        assert_at(&refused, "disableUser", "userId");
    }
    let cleo = app.person("cleo@example.org", "Cleo").await;
    make_owner(&app, &organization, &cleo).await;
    change(&orla, "disableUser", &organization, &cleo).await.refused("OWNER_PROTECTED");
    // Owners disable owners, as long as the other one can act: here the last one who does is Ada.
    change(&ada, "disableUser", &organization, &cleo).await.ok();
    change(&ada, "enableUser", &organization, &cleo).await.ok();
    let den = cleo.again().await.workspace("Den").await;
    change(&ada, "disableUser", &organization, &cleo).await.refused("LAST_ADMIN");
    join_workspace(&app, &Workspace { admin: cleo.again().await, ..den }, &orla, SystemRole::Admin).await;
    change(&ada, "disableUser", &organization, &cleo).await.ok();
    assert_eq!(listed(&ada).await["cleo@example.org"], ("OWNER".to_owned(), "DISABLED".to_owned()));
}

async fn a_person_disabled_in_one_organization_goes_on_in_another(app: App) {
    let ada = app.set_up().await;
    let organization = example(&app).await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    let den = olga.workspace("Den").await;
    let eve = app.person("eve@example.org", "Eve").await;
    join_workspace(&app, &den, &eve, SystemRole::Editor).await;
    change(&ada, "disableUser", &organization, &eve).await.ok();
    assert!(!is_signed_in(&eve).await);
    let eve = eve.again().await;
    assert_eq!(workspaces_of(&eve).await, ["Den"]);
    let seen = "{ organization(slug: \"example\") { id } viewer { organizations { totalCount } } }";
    let seen = eve.query(seen, json!({})).await.ok();
    assert_eq!(
        (seen.data("/organization"), seen.data("/viewer/organizations/totalCount")),
        (&Value::Null, &json!(1))
    );
    let document = "query($slug: String!) { organization(slug: $slug) { members(search: \"eve\") { nodes { status } } } }";
    let slug = json!({ "slug": olga.id.replace("usr_", "of-") });
    let told = olga.query(document, slug).await.ok();
    assert_eq!(
        told.data("/organization/members/nodes/0/status"),
        "ACTIVE",
        "the other tenant learns nothing of it"
    );

    // Disabling again does not sign her out of where she is active.
    change(&ada, "disableUser", &organization, &eve).await.ok();
    assert!(is_signed_in(&eve).await);
    // In none she is shut out; enabled in one, she is back there only.
    let theirs = olga.id.replace("usr_", "org_");
    change(&olga, "disableUser", &theirs, &eve).await.ok();
    sign_in(&app, &eve, PASSWORD).await.refused("USER_DISABLED");
    change(&ada, "enableUser", &organization, &eve).await.ok();
    assert_eq!(workspaces_of(&eve.again().await).await, ["Example"]);
}

async fn a_disabled_person_neither_accepts_nor_grants(app: App) {
    let ada = app.set_up().await;
    let organization = example(&app).await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    let (lab, den) = (ada.workspace("Lab").await, olga.workspace("Den").await);
    let eve = app.member(&lab, SystemRole::Admin, "Eve").await;
    join_workspace(&app, &den, &eve, SystemRole::Viewer).await;
    let mia = app.person("mia@example.org", "Mia").await;
    let sent = eve.invite(&lab, &mia.email, "VIEWER").await.ok();
    ada.invite(app.default_workspace(), &eve.email, "EDITOR").await.ok();
    let link = app.mail_to(&eve.email).await.link();
    change(&ada, "disableUser", &organization, &eve).await.ok();

    // She signs in to where she is active, and has the invitation still; it does not open what is closed.
    let eve = eve.again().await;
    let own = "{ viewer { invitations(status: [PENDING]) { nodes { id } } } }";
    let id = eve.query(own, json!({})).await.ok().text("/viewer/invitations/nodes/0/id").to_owned();
    for input in [json!({ "invitationId": id }), json!({ "token": token_of(&link) })] {
        let refused = eve.mutate("acceptInvitation", input, "").await.refused("USER_DISABLED");
        let message = refused.text("/acceptInvitation/userErrors/0/message");
        assert!(message.contains("Example") && message.contains("enable you"), "{message}");
    }
    assert_eq!(workspaces_of(&eve).await, ["Den"]);
    assert_eq!(listed(&ada).await[&eve.email].1, "DISABLED");
    // On the page of the invitation she is told the same.
    let fields = [("intent", "sign_in"), ("email", eve.email.as_str()), ("password", PASSWORD)];
    let page = app.anonymous().post_form(&link, &fields).await;
    assert!(
        page.status.as_u16() == 422 && page.text().contains("enable you"),
        "{}: {}",
        page.status,
        page.text()
    );
    // Nor does what she sent.
    let input = json!({ "invitationId": sent.data("/inviteMember/invitation/id") });
    mia.mutate("acceptInvitation", input, "").await.refused("INVITER_LOST_PERMISSION");

    change(&ada, "enableUser", &organization, &eve).await.ok();
    eve.mutate("acceptInvitation", json!({ "invitationId": id }), "").await.ok();
    assert_eq!(workspaces_of(&eve).await, ["Example", "Lab", "Den"]);
}

async fn who_signs_in_while_being_disabled_does_not_stay(app: App) {
    let ada = app.set_up().await;
    let organization = example(&app).await;
    let eve = app.person("eve@example.org", "Eve").await;
    for round in 0..12 {
        // The password is checked for a while first, so disabling sometimes comes before, sometimes after that.
        let disable = async {
            tokio::time::sleep(Duration::from_millis(4 * round)).await;
            change(&ada, "disableUser", &organization, &eve).await
        };
        let (signed_in, disabled) = join(sign_in(&app, &eve, PASSWORD), disable).await;
        disabled.ok();
        match signed_in.body["data"]["signIn"]["session"]["accessToken"].as_str() {
            Some(token) => {
                let mut on = eve.clone();
                on.access_token = Some(token.to_owned());
                assert!(!is_signed_in(&on).await, "round {round}");
            }
            None => drop(signed_in.refused("USER_DISABLED")),
        }
        change(&ada, "enableUser", &organization, &eve).await.ok();
    }
}

async fn two_owners_who_demote_each_other_leave_one(app: App) {
    let ada = app.set_up().await;
    let organization = example(&app).await;
    let eve = app.person("eve@example.org", "Eve").await;
    for round in 0..10 {
        for actor in [&ada, &eve] {
            make_owner(&app, &organization, actor).await;
        }
        let (first, second) = match round % 2 {
            0 => {
                join(
                    set_role(&ada, &organization, &eve, "ADMIN"),
                    set_role(&eve, &organization, &ada, "ADMIN"),
                )
                .await
            }
            _ => {
                join(
                    set_role(&ada, &organization, &ada, "MEMBER"),
                    set_role(&eve, &organization, &eve, "MEMBER"),
                )
                .await
            }
        };
        let answers = tally([&first, &second]);
        assert_eq!(answers.get("OK"), Some(&1), "round {round}: {answers:?}");
        let owners = "SELECT count(*) FROM organization_members WHERE role = 'OWNER'";
        assert_eq!(app.number(owners).await, 1, "round {round}");
    }
}

async fn of_a_workspace_s_two_admins_one_stays_whichever_way_they_go(app: App) {
    let ada = app.set_up().await;
    let organization = example(&app).await;
    let lab = ada.workspace("Lab").await;
    let bob = app.member(&lab, SystemRole::Admin, "Bob").await;
    let cleo = app.member(&lab, SystemRole::Admin, "Cleo").await;
    ada.mutate("leaveWorkspace", json!({ "workspaceId": lab.id }), "").await.ok();
    let at_lab = json!({ "workspaceId": lab.id });
    for round in 0..18 {
        // Bob goes by what concerns the workspace alone, Cleo by what concerns the organization.
        let goes = async {
            match round % 3 {
                0 => change(&ada, "disableUser", &organization, &cleo).await,
                1 => change(&ada, "removeOrganizationMember", &organization, &cleo).await,
                _ => leave(&cleo, &organization).await,
            }
        };
        let (left, gone) = join(bob.mutate("leaveWorkspace", at_lab.clone(), ""), goes).await;
        let answers = tally([&left, &gone]);
        let expected = BTreeMap::from([("LAST_ADMIN".to_owned(), 1), ("OK".to_owned(), 1)]);
        assert_eq!(answers, expected, "round {round}");

        app.sql("UPDATE sessions SET ended_at = NULL").await;
        app.sql("UPDATE organization_members SET status = 'ACTIVE'").await;
        for actor in [&bob, &cleo] {
            let user = app.literal(&actor.id);
            app.sql(&format!(
                "INSERT INTO organization_members (organization_id, user_id, role, status, created_at)
                 SELECT {}, id, 'MEMBER', 'ACTIVE', created_at FROM users
                 WHERE id = {user} AND id NOT IN (SELECT user_id FROM organization_members)",
                app.literal(&organization)
            ))
            .await;
            app.sql(&format!(
                "INSERT INTO memberships (id, workspace_id, user_id, role_id, source, created_at, updated_at)
                 SELECT users.id, {lab}, users.id, roles.id, 'DIRECT', users.created_at, users.created_at FROM users, roles
                 WHERE users.id = {user} AND roles.key = 'ADMIN'
                     AND users.id NOT IN (SELECT user_id FROM memberships WHERE workspace_id = {lab})",
                lab = app.literal(&lab.id)
            ))
            .await;
        }
    }
}

/// The people go on with the same accounts, so that each round begins with all of them where they were.
struct Crowd {
    organization: String,
    workspaces: Vec<Workspace>,
    owners: Vec<Actor>,
    admins: Vec<Actor>,
    members: Vec<Actor>,
}

impl Crowd {
    async fn gather(app: &App) -> Self {
        let ada = app.set_up().await;
        let organization = example(app).await;
        let workspaces = vec![ada.workspace("Lab").await, ada.workspace("Den").await];
        let (mut owners, mut admins, mut members) = (vec![ada.clone()], Vec::new(), Vec::new());
        for (place, name) in ["Bob", "Cleo", "Dan", "Eve", "Fay", "Gus", "Hal"].into_iter().enumerate() {
            let actor = app.member(&workspaces[place % 2], SystemRole::Admin, name).await;
            match place {
                0 | 1 => owners.push(actor),
                2 | 3 => admins.push(actor),
                _ => members.push(actor),
            }
        }
        let crowd = Self { organization, workspaces, owners, admins, members };
        crowd.restore(app).await;
        crowd
    }

    fn everybody(&self) -> Vec<&Actor> {
        self.owners.iter().chain(&self.admins).chain(&self.members).collect()
    }

    async fn restore(&self, app: &App) {
        let organization = app.literal(&self.organization);
        app.sql(&format!("DELETE FROM organization_members WHERE organization_id = {organization}")).await;
        app.sql("DELETE FROM memberships").await;
        app.sql("UPDATE sessions SET ended_at = NULL").await;
        let admin = "(SELECT id FROM roles WHERE key = 'ADMIN' AND organization_id IS NULL)";
        for (role, actors) in [("OWNER", &self.owners), ("ADMIN", &self.admins), ("MEMBER", &self.members)] {
            for actor in actors {
                let user = app.literal(&actor.id);
                app.sql(&format!(
                    "INSERT INTO organization_members (organization_id, user_id, role, status, created_at)
                     SELECT {organization}, id, '{role}', 'ACTIVE', created_at FROM users WHERE id = {user}"
                ))
                .await;
            }
        }
        let default = app.default_workspace();
        for (place, workspace) in self.workspaces.iter().chain([default]).enumerate() {
            for (number, actor) in self.everybody().into_iter().enumerate() {
                // Each workspace has a few of them, so that its last admin is soon reached.
                if (number + place) % 3 == 0 {
                    let id = app.literal(&format!("mbr_0193a1b2c3d47e8f{place:08x}{number:08x}"));
                    app.sql(&format!(
                        "INSERT INTO memberships (id, workspace_id, user_id, role_id, source, created_at, updated_at)
                         SELECT {id}, {workspace}, id, {admin}, 'DIRECT', created_at, created_at FROM users WHERE id = {user}",
                        workspace = app.literal(&workspace.id),
                        user = app.literal(&actor.id)
                    ))
                    .await;
                }
            }
        }
    }

    /// The change of that number: who asks, what, and of whom turn at different paces. Each workspace changes as well.
    async fn act(&self, turn: usize) -> Answer {
        let (everybody, organization) = (self.everybody(), self.organization.as_str());
        // Owners and admins ask most.
        let by = everybody[if turn % 5 == 4 { turn % everybody.len() } else { turn % 5 }];
        let whom = everybody[(turn / 3 + 1) % everybody.len()];
        let workspace = &self.workspaces[turn % 2];
        match turn % 8 {
            0 => set_role(by, organization, whom, "MEMBER").await,
            1 => change(by, "removeOrganizationMember", organization, whom).await,
            2 => change(by, "disableUser", organization, whom).await,
            3 => leave(by, organization).await,
            4 => set_role(by, organization, whom, "ADMIN").await,
            5 => change(by, "enableUser", organization, whom).await,
            6 => by.mutate("leaveWorkspace", json!({ "workspaceId": workspace.id }), "").await,
            _ => by.invite(workspace, &format!("guest{turn}@example.org"), "VIEWER").await,
        }
    }
}

async fn two_hundred_changes_at_once_keep_an_owner_and_the_admins(app: App) {
    let crowd = Crowd::gather(&app).await;
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for round in 0..3 {
        crowd.restore(&app).await;
        // In another order each time: who comes first decides much.
        let mut work: Vec<Pin<Box<dyn Future<Output = Answer>>>> = Vec::new();
        for turn in 0..200 {
            let (turn, crowd) = (round + turn * 7 % 200, &crowd);
            work.push(Box::pin(async move { crowd.act(turn).await }));
        }
        let answers = tokio::time::timeout(Duration::from_secs(60), join_all(work)).await;
        let answers = tally(&answers.expect("nobody waits for ever"));
        for (code, number) in &answers {
            *seen.entry(code.clone()).or_default() += number;
        }
        let owners = "SELECT count(*) FROM organization_members WHERE role = 'OWNER' AND status = 'ACTIVE'";
        assert!(app.number(owners).await >= 1, "round {round}: {answers:?}");
        let orphaned = "SELECT count(*) FROM workspaces w WHERE NOT EXISTS (
            SELECT 1 FROM memberships m JOIN roles r ON r.id = m.role_id AND r.key = 'ADMIN'
            JOIN organization_members om ON om.user_id = m.user_id AND om.organization_id = w.organization_id
                AND om.status = 'ACTIVE'
            WHERE m.workspace_id = w.id)";
        assert_eq!(app.number(orphaned).await, 0, "round {round}: {answers:?}");
        let strays = "SELECT count(*) FROM memberships m WHERE NOT EXISTS (
            SELECT 1 FROM organization_members om WHERE om.user_id = m.user_id)";
        assert_eq!(app.number(strays).await, 0, "round {round}: who is removed is nowhere");
    }
    let known = [
        "OK",
        "LAST_ADMIN",
        "LAST_OWNER",
        "OWNER_PROTECTED",
        "NOT_FOUND",
        "FORBIDDEN",
        "UNAUTHENTICATED",
        "INVALID_INPUT",
        "ALREADY_INVITED",
    ];
    assert!(seen.keys().all(|code| known.contains(&code.as_str())), "{seen:?}");
    assert_eq!(seen.values().sum::<usize>(), 600);
    assert!(seen["OK"] >= 12, "so that there was something to race for: {seen:?}");
}

async fn who_is_disabled_everywhere_signs_in_to_answer_an_invitation_of_elsewhere(app: App) {
    app.set_up().await;
    let organization = example(&app).await;
    let bob = app.person("bob@example.org", "Bob").await;
    change(app.owner(), "disableUser", &organization, &bob).await.ok();
    sign_in(&app, &bob, PASSWORD).await.refused("USER_DISABLED");
    // An invitation of the organization that disabled him is none to sign in for.
    app.owner().invite(app.default_workspace(), &bob.email, "VIEWER").await;
    sign_in(&app, &bob, PASSWORD).await.refused("USER_DISABLED");
    let olga = app.stranger("olga@example.org", "Olga").await;
    let lab = olga.workspace("Lab").await;
    let invited = olga.invite(&lab, &bob.email, "EDITOR").await.ok();
    let bob = bob.again().await;
    assert!(workspaces_of(&bob).await.is_empty());
    let input = json!({ "invitationId": invited.data("/inviteMember/invitation/id") });
    bob.mutate("acceptInvitation", input, "").await.ok();
    assert_eq!(workspaces_of(&bob).await, ["Lab"]);
}
