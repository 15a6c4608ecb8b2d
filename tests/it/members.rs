//! Members: listing and finding them, changing roles, removing and leaving, and what ends with a membership.

use guildhall_domain::access::SystemRole;
use guildhall_tests::{Actor, Answer, App, Workspace, actor::token_of, both_databases};
use serde_json::{Value, json};

both_databases!(
    App::start,
    members_are_paged_both_ways,
    search_takes_every_case_and_no_wildcards,
    members_are_filtered_by_role,
    the_policy_can_hide_the_list,
    a_role_changes_from_the_next_request_on,
    nobody_grants_what_they_lack,
    members_of_elsewhere_are_unknown,
    who_may_not_see_the_members_knows_none_by_id,
);

const LIST: &str = "query($name: String!, $first: Int, $after: String, $last: Int, $before: String,
        $search: String, $role: ID) { workspace(name: $name) {
    members(first: $first, after: $after, last: $last, before: $before, search: $search, role: $role) {
        totalCount pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
        edges { cursor } nodes { id source role { key } principal { __typename ... on User { displayName email } } }
    }
} }";

pub(crate) async fn list(actor: &Actor, workspace: &Workspace, mut arguments: Value) -> Answer {
    arguments["name"] = json!(workspace.name);
    actor.query(LIST, arguments).await
}

/// The names of the listed, in the order of the list.
pub(crate) fn names(answer: &Answer) -> Vec<&str> {
    let nodes = answer.data("/workspace/members/nodes").as_array().unwrap();
    nodes.iter().map(|node| node["principal"]["displayName"].as_str().unwrap()).collect()
}

/// The membership of somebody in a workspace.
pub(crate) async fn membership(workspace: &Workspace, who: &Actor) -> String {
    let found = list(&workspace.admin, workspace, json!({ "search": who.email })).await.ok();
    found.text("/workspace/members/nodes/0/id").to_owned()
}

pub(crate) async fn set_role(by: &Actor, workspace: &Workspace, member: &str, role: &str) -> Answer {
    let input = json!({ "workspaceId": workspace.id, "memberId": member, "role": role });
    by.mutate("updateMemberRole", input, "member { role { key } }").await
}

pub(crate) async fn remove(by: &Actor, workspace: &Workspace, member: &str) -> Answer {
    let input = json!({ "workspaceId": workspace.id, "memberId": member });
    by.mutate("removeMember", input, "member { id role { key } }").await
}

pub(crate) async fn leave(actor: &Actor, workspace: &Workspace) -> Answer {
    actor.mutate("leaveWorkspace", json!({ "workspaceId": workspace.id }), "member { id }").await
}

async fn members_are_paged_both_ways(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    for name in ["Bob", "Cleo", "Dan", "Eve"] {
        app.member(&lab, SystemRole::Viewer, name).await;
    }
    let page = list(&ada, &lab, json!({ "first": 2 })).await.ok();
    assert_eq!(names(&page), ["Ada", "Bob"]);
    assert_eq!(page.data("/workspace/members/totalCount"), 5);
    let info = page.data("/workspace/members/pageInfo");
    assert_eq!((&info["hasNextPage"], &info["hasPreviousPage"]), (&json!(true), &json!(false)));
    assert_eq!(page.data("/workspace/members/edges/1/cursor"), &info["endCursor"]);
    assert_eq!(page.data("/workspace/members/nodes/0/source"), "CREATOR");
    assert_eq!(page.data("/workspace/members/nodes/1/source"), "INVITATION");

    let page = list(&ada, &lab, json!({ "first": 3, "after": info["endCursor"] })).await.ok();
    assert_eq!(names(&page), ["Cleo", "Dan", "Eve"]);
    let info = page.data("/workspace/members/pageInfo");
    assert_eq!((&info["hasNextPage"], &info["hasPreviousPage"]), (&json!(false), &json!(true)));

    let page = list(&ada, &lab, json!({ "last": 1, "before": info["startCursor"] })).await.ok();
    assert_eq!(names(&page), ["Bob"]);
    let info = page.data("/workspace/members/pageInfo");
    assert_eq!((&info["hasNextPage"], &info["hasPreviousPage"]), (&json!(true), &json!(true)));
    assert_eq!(names(&list(&ada, &lab, json!({ "last": 2 })).await.ok()), ["Dan", "Eve"]);
    assert_eq!(names(&list(&ada, &lab, json!({})).await.ok()).len(), 5);

    let foreign = ada.query("{ viewer { workspaces { pageInfo { endCursor } } } }", json!({})).await.ok();
    let foreign = foreign.data("/viewer/workspaces/pageInfo/endCursor");
    for bad in [
        json!({ "first": 0 }),
        json!({ "first": 101 }),
        json!({ "last": 101 }),
        json!({ "first": 1, "last": 1 }),
        json!({ "after": "garbage" }),
        json!({ "before": foreign }),
        json!({ "role": "BOSS" }),
        json!({ "search": "a".repeat(101) }),
        json!({ "search": "a\u{0}b" }),
    ] {
        list(&ada, &lab, bad).await.denied("BAD_USER_INPUT");
    }
}

async fn search_takes_every_case_and_no_wildcards(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    for (email, name) in [
        ("strasse@example.org", "Élodie Strauß"),
        ("percent@example.org", "100% Real"),
        ("under_score@example.org", "Søren Ærø"),
        ("back@example.org", "Back \\ Slash"),
        ("ivan@example.org", "Иван Грозный"),
    ] {
        ada.invite(&lab, email, "VIEWER").await.ok();
        Actor::register(&app.url, token_of(&app.mail_to(email).await.link()), name).await;
    }
    for (search, found) in [
        ("ÉLODIE", &["Élodie Strauß"][..]),
        ("e\u{301}lodie", &["Élodie Strauß"]),
        ("STRASSE@", &["Élodie Strauß"]),
        ("ærø", &["Søren Ærø"]),
        ("SØREN", &["Søren Ærø"]),
        ("ГРОЗНЫЙ", &["Иван Грозный"]),
        ("%", &["100% Real"]),
        ("_", &["Søren Ærø"]),
        ("\\", &["Back \\ Slash"]),
        ("a%l", &[]),
        (" real ", &["100% Real"]),
        ("nobody", &[]),
        ("  ", &["Ada", "Élodie Strauß", "100% Real", "Søren Ærø", "Back \\ Slash", "Иван Грозный"]),
    ] {
        let answer = list(&ada, &lab, json!({ "search": search })).await.ok();
        assert_eq!(names(&answer), found, "{search:?}");
        assert_eq!(answer.data("/workspace/members/totalCount"), found.len(), "{search:?}");
    }
}

async fn members_are_filtered_by_role(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    app.member(&lab, SystemRole::Viewer, "Vera").await;
    app.member(&lab, SystemRole::Editor, "Eddie").await;
    app.member(&lab, SystemRole::Editor, "Edith").await;
    for (role, found) in [("ADMIN", &["Ada"][..]), ("EDITOR", &["Eddie", "Edith"]), ("VIEWER", &["Vera"])] {
        let answer = list(&ada, &lab, json!({ "role": role })).await.ok();
        assert_eq!(names(&answer), found);
        assert_eq!(answer.data("/workspace/members/totalCount"), found.len());
    }
    let answer = list(&ada, &lab, json!({ "role": "EDITOR", "search": "ED", "first": 1 })).await.ok();
    assert_eq!(names(&answer), ["Eddie"]);
    assert_eq!(answer.data("/workspace/members/totalCount"), 2);
    let id = "{ viewer { defaultWorkspace { viewerRole { id } } } }";
    let id = ada.query(id, json!({})).await.ok().data("/viewer/defaultWorkspace/viewerRole/id").clone();
    assert_eq!(names(&list(&ada, &lab, json!({ "role": id })).await.ok()), ["Ada"]);
}

async fn the_policy_can_hide_the_list(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let vera = app.member(&lab, SystemRole::Viewer, "Vera").await;
    assert_eq!(names(&list(&vera, &lab, json!({})).await.ok()), ["Ada", "Vera"]);
    app.sql("UPDATE organizations SET member_list_visibility = 'ADMINS'").await;
    let refused = list(&vera, &lab, json!({})).await.denied("FORBIDDEN");
    assert_eq!(refused.data("/workspace/members"), &Value::Null);
    assert_eq!(names(&list(&ada, &lab, json!({})).await.ok()), ["Ada", "Vera"]);
}

async fn a_role_changes_from_the_next_request_on(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let bob = app.member(&lab, SystemRole::Viewer, "Bob").await;
    let id = membership(&lab, &bob).await;
    let page = json!({ "workspaceId": lab.id, "description": "text" });
    bob.mutate("describeWorkspace", page.clone(), "workspace { id }").await.denied("FORBIDDEN");
    let changed = set_role(&ada, &lab, &id, "EDITOR").await.ok();
    assert_eq!(changed.data("/updateMemberRole/member/role/key"), "EDITOR");
    bob.mutate("describeWorkspace", page.clone(), "workspace { id }").await.ok();
    bob.invite(&lab, "zoe@example.org", "VIEWER").await.denied("FORBIDDEN");
    set_role(&bob, &lab, &id, "ADMIN").await.denied("FORBIDDEN");
    set_role(&ada, &lab, &id, "ADMIN").await.ok();
    bob.invite(&lab, "zoe@example.org", "VIEWER").await.ok();
    set_role(&ada, &lab, &id, "VIEWER").await.ok();
    bob.invite(&lab, "max@example.org", "VIEWER").await.denied("FORBIDDEN");
    bob.mutate("describeWorkspace", page, "workspace { id }").await.denied("FORBIDDEN");

    let refused = set_role(&ada, &lab, &id, "BOSS").await.refused("INVALID_INPUT");
    assert_eq!(refused.user_errors()[0]["field"], json!(["role"]));
    let refused = set_role(&ada, &lab, "nonsense", "ADMIN").await.refused("INVALID_INPUT");
    assert_eq!(refused.user_errors()[0]["field"], json!(["memberId"]));
    let unknown = "rol_0193a1b2c3d47e8f9012345678901234";
    set_role(&ada, &lab, &id, unknown).await.refused("INVALID_INPUT");
}

async fn nobody_grants_what_they_lack(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let rita = app.member(&lab, SystemRole::Viewer, "Rita").await;
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    // A recruiter manages people and nothing else. Roles of one's own have no operation yet.
    let role = "rol_0193a1b2c3d47e8f9012345678901234";
    app.sql(&format!(
        "INSERT INTO roles (id, organization_id, key, name, description, permissions, created_at, updated_at)
         SELECT {}, id, 'RECRUITER', 'Recruiter', '',
             '[\"workspace.view\",\"members.view\",\"members.manage\",\"members.invite\"]', created_at, updated_at
         FROM organizations ORDER BY created_at LIMIT 1",
        app.literal(role)
    ))
    .await;
    set_role(&ada, &lab, &membership(&lab, &rita).await, role).await.ok();
    let eves = membership(&lab, &eve).await;
    for too_much in ["VIEWER", "EDITOR", "ADMIN"] {
        let refused = set_role(&rita, &lab, &eves, too_much).await.refused("PRIVILEGE_ESCALATION");
        assert_eq!(refused.user_errors()[0]["field"], json!(["role"]));
        rita.invite(&lab, "zoe@example.org", too_much).await.refused("PRIVILEGE_ESCALATION");
    }
    let own = membership(&lab, &rita).await;
    set_role(&rita, &lab, &own, "ADMIN").await.refused("PRIVILEGE_ESCALATION");
    set_role(&rita, &lab, &eves, role).await.ok();
    rita.invite(&lab, "zoe@example.org", role).await.ok();

    // Sending somebody else's invitation again would grant its role too.
    let invited = ada.invite(&lab, "max@example.org", "EDITOR").await.ok();
    let id = invited.data("/inviteMember/invitation/id");
    let input = json!({ "workspaceId": lab.id, "invitationId": id });
    rita.mutate("resendInvitation", input, "invitation { id }").await.refused("PRIVILEGE_ESCALATION");
    let input = json!({ "workspaceId": lab.id, "invitationId": id, "role": role });
    rita.mutate("resendInvitation", input, "invitation { id }").await.ok();
}

async fn members_of_elsewhere_are_unknown(app: App) {
    let ada = app.set_up().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    let bob = app.member(&lab, SystemRole::Admin, "Bob").await;
    let cleo = app.member(&den, SystemRole::Viewer, "Cleo").await;
    let cleos = membership(&den, &cleo).await;
    remove(&bob, &lab, &cleos).await.refused("NOT_FOUND");
    set_role(&bob, &lab, &cleos, "ADMIN").await.refused("NOT_FOUND");
    remove(&bob, &den, &cleos).await.denied("NOT_FOUND");
    let sam = app.stranger("sam@example.net", "Sam").await;
    remove(&sam, &den, &cleos).await.denied("NOT_FOUND");
    let node = "query($id: ID!) { node(id: $id) { id } }";
    for outsider in [&bob, &sam] {
        assert_eq!(outsider.query(node, json!({ "id": cleos })).await.ok().data("/node"), &Value::Null);
    }
    assert_eq!(ada.query(node, json!({ "id": cleos })).await.ok().data("/node/id"), &json!(cleos));
    assert_eq!(names(&list(&ada, &den, json!({})).await.ok()), ["Ada", "Cleo"]);
}

async fn who_may_not_see_the_members_knows_none_by_id(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let (eve, bob) =
        (app.member(&lab, SystemRole::Viewer, "Eve").await, app.person("bob@example.org", "Bob").await);
    let knows = async |who: &Actor| {
        let node = "query($id: ID!) { node(id: $id) { ... on User { email } } }";
        !eve.query(node, json!({ "id": who.id })).await.ok().data("/node").is_null()
    };
    assert!(knows(&ada).await && !knows(&bob).await);
    let blind = crate::roles::made(&ada, &organization, "Blind", &["ITEM_READ"]).await;
    set_role(&ada, &lab, &membership(&lab, &eve).await, &blind).await.ok();
    assert!(!knows(&ada).await && knows(&eve).await);
    // Nor does the policy of another organization to which both belong open this one.
    let viewer = crate::roles::made(&ada, &organization, "Sighted", &["MEMBERS_VIEW"]).await;
    set_role(&ada, &lab, &membership(&lab, &eve).await, &viewer).await.ok();
    assert!(knows(&ada).await);
    let olga = app.stranger("olga@example.org", "Olga").await;
    for (place, who) in [("Keep", &ada), ("Tower", &eve)] {
        let keep = olga.workspace(place).await;
        let invited = olga.invite(&keep, &who.email, "VIEWER").await.ok();
        let input = json!({ "invitationId": invited.data("/inviteMember/invitation/id") });
        who.mutate("acceptInvitation", input, "").await.ok();
    }
    let hide = json!({ "organizationId": organization, "memberListVisibility": "ADMINS" });
    ada.mutate("updateOrganizationPolicy", hide, "").await.ok();
    assert!(!knows(&ada).await);
}
