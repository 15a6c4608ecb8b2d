//! Members: listing and finding them, changing roles, removing and leaving, and what ends with a membership.

use std::time::Duration;

use guildhall_domain::access::SystemRole;
use guildhall_tests::{
    Actor, Answer, App, Subscription, Workspace, actor::token_of, both_databases, subscription::End,
};
use serde_json::{Value, json};

both_databases!(
    App::start,
    members_are_paged_both_ways,
    search_takes_every_case_and_no_wildcards,
    members_are_filtered_by_role,
    the_policy_can_hide_the_list,
    a_role_changes_from_the_next_request_on,
    a_demoted_admin_hears_nothing_more,
    a_removed_member_is_out_at_once,
    a_member_who_goes_takes_their_invitations_along,
    the_last_admin_stays,
    who_cannot_act_is_no_admin_to_rely_on,
    an_owner_stays_in_what_they_made,
    nobody_grants_what_they_lack,
    members_of_elsewhere_are_unknown,
);

const LIST: &str = "query($name: String!, $first: Int, $after: String, $last: Int, $before: String,
        $search: String, $role: ID) { workspace(name: $name) {
    members(first: $first, after: $after, last: $last, before: $before, search: $search, role: $role) {
        totalCount pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
        edges { cursor } nodes { id source role { key } principal { __typename ... on User { displayName email } } }
    }
} }";
const CHANGES: &str = "subscription($id: ID!) { invitationStatusChanged(workspaceId: $id) {
    status invitation { email }
} }";

async fn list(actor: &Actor, workspace: &Workspace, mut arguments: Value) -> Answer {
    arguments["name"] = json!(workspace.name);
    actor.query(LIST, arguments).await
}

/// The names of the listed, in the order of the list.
fn names(answer: &Answer) -> Vec<&str> {
    let nodes = answer.data("/workspace/members/nodes").as_array().unwrap();
    nodes.iter().map(|node| node["principal"]["displayName"].as_str().unwrap()).collect()
}

/// The membership of somebody in a workspace.
async fn membership(workspace: &Workspace, who: &Actor) -> String {
    let found = list(&workspace.admin, workspace, json!({ "search": who.email })).await.ok();
    found.text("/workspace/members/nodes/0/id").to_owned()
}

async fn set_role(by: &Actor, workspace: &Workspace, member: &str, role: &str) -> Answer {
    let input = json!({ "workspaceId": workspace.id, "memberId": member, "role": role });
    by.mutate("updateMemberRole", input, "member { role { key } }").await
}

async fn remove(by: &Actor, workspace: &Workspace, member: &str) -> Answer {
    let input = json!({ "workspaceId": workspace.id, "memberId": member });
    by.mutate("removeMember", input, "member { id role { key } }").await
}

async fn leave(actor: &Actor, workspace: &Workspace) -> Answer {
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

/// That the subscription ends within a second, with this code and without another event.
async fn ends(subscription: &mut Subscription, code: &str) {
    let ended = tokio::time::timeout(Duration::from_secs(1), subscription.ended()).await;
    let End::Errors(errors) = ended.expect("the subscription ends within a second") else {
        panic!("the subscription ends without saying why");
    };
    assert_eq!(errors[0]["extensions"]["code"], code, "{errors:?}");
}

async fn a_demoted_admin_hears_nothing_more(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let bob = app.member(&lab, SystemRole::Admin, "Bob").await;
    let cleo = app.member(&lab, SystemRole::Admin, "Cleo").await;
    let mut his = bob.subscribe(CHANGES, json!({ "id": lab.id })).await;
    let mut hers = cleo.subscribe(CHANGES, json!({ "id": lab.id })).await;
    set_role(&ada, &lab, &membership(&lab, &bob).await, "EDITOR").await.ok();
    ends(&mut his, "FORBIDDEN").await;
    bob.subscribe(CHANGES, json!({ "id": lab.id })).await.next().await.denied("FORBIDDEN");
    // The other one goes on.
    ada.invite(&lab, "zoe@example.org", "VIEWER").await.ok();
    let told = hers.next().await.ok();
    assert_eq!(told.data("/invitationStatusChanged/invitation/email"), "zoe@example.org");
}

async fn a_removed_member_is_out_at_once(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let bob = app.member(&lab, SystemRole::Admin, "Bob").await;
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    let id = membership(&lab, &bob).await;
    remove(&eve, &lab, &id).await.denied("FORBIDDEN");
    let mut watching = bob.subscribe(CHANGES, json!({ "id": lab.id })).await;
    let removed = remove(&ada, &lab, &id).await.ok();
    assert_eq!(removed.data("/removeMember/member"), &json!({ "id": id, "role": { "key": "ADMIN" } }));
    ends(&mut watching, "NOT_FOUND").await;
    assert_eq!(list(&bob, &lab, json!({})).await.ok().data("/workspace"), &Value::Null);
    bob.invite(&lab, "zoe@example.org", "VIEWER").await.denied("NOT_FOUND");
    remove(&ada, &lab, &id).await.refused("NOT_FOUND");

    // The account stays, and the person can come back.
    ada.invite(&lab, &bob.email, "VIEWER").await.ok();
    let input = json!({ "token": token_of(&app.mail_to(&bob.email).await.link()) });
    bob.mutate("acceptInvitation", input, "invitation { id }").await.ok();
    assert_eq!(names(&list(&bob, &lab, json!({})).await.ok()), ["Ada", "Eve", "Bob"]);
}

async fn a_member_who_goes_takes_their_invitations_along(app: App) {
    let ada = app.set_up().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    let bob = app.member(&lab, SystemRole::Admin, "Bob").await;
    let cleo = app.member(&lab, SystemRole::Admin, "Cleo").await;
    ada.invite(&den, &bob.email, "ADMIN").await.ok();
    let input = json!({ "token": token_of(&app.mail_to(&bob.email).await.link()) });
    bob.mutate("acceptInvitation", input, "invitation { id }").await.ok();
    for (by, workspace, email) in [
        (&bob, &lab, "one@example.org"),
        (&cleo, &lab, "two@example.org"),
        (&ada, &lab, "three@example.org"),
        (&bob, &den, "four@example.org"),
    ] {
        by.invite(workspace, email, "VIEWER").await.ok();
        app.mail_to(email).await;
    }
    let mut changes = ada.subscribe(CHANGES, json!({ "id": lab.id })).await;
    let revoked = |email: &'static str| {
        move |event: &Answer| {
            event.data("/invitationStatusChanged/status") == "REVOKED"
                && event.data("/invitationStatusChanged/invitation/email") == email
        }
    };
    remove(&ada, &lab, &membership(&lab, &bob).await).await.ok();
    changes.until(revoked("one@example.org")).await;
    leave(&cleo, &lab).await.ok();
    changes.until(revoked("two@example.org")).await;
    let statuses =
        "query($name: String!) { workspace(name: $name) { invitations(status: [PENDING, REVOKED]) {
        nodes { email status respondedAt }
    } } }";
    for (workspace, expected) in [
        (
            &lab,
            &[
                ("one@example.org", "REVOKED"),
                ("two@example.org", "REVOKED"),
                ("three@example.org", "PENDING"),
            ][..],
        ),
        (&den, &[("four@example.org", "PENDING")]),
    ] {
        let answer = ada.query(statuses, json!({ "name": workspace.name })).await.ok();
        let nodes = answer.data("/workspace/invitations/nodes").as_array().unwrap();
        let found: Vec<_> =
            nodes.iter().map(|n| (n["email"].as_str().unwrap(), n["status"].as_str().unwrap())).collect();
        assert_eq!(found, expected);
        assert!(nodes.iter().all(|node| node["respondedAt"].is_null() == (node["status"] == "PENDING")));
    }
}

async fn the_last_admin_stays(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let bob = app.member(&lab, SystemRole::Editor, "Bob").await;
    let (adas, bobs) = (membership(&lab, &ada).await, membership(&lab, &bob).await);
    leave(&ada, &lab).await.refused("LAST_ADMIN");
    remove(&ada, &lab, &adas).await.refused("LAST_ADMIN");
    set_role(&ada, &lab, &adas, "EDITOR").await.refused("LAST_ADMIN");
    set_role(&ada, &lab, &adas, "ADMIN").await.ok();
    assert_eq!(names(&list(&ada, &lab, json!({ "role": "ADMIN" })).await.ok()), ["Ada"]);

    set_role(&ada, &lab, &bobs, "ADMIN").await.ok();
    leave(&ada, &lab).await.ok();
    leave(&bob, &lab).await.refused("LAST_ADMIN");
    // Nor does the organization's owner, who administers it without being a member, take the last one away.
    remove(&ada, &lab, &bobs).await.refused("LAST_ADMIN");
    set_role(&ada, &lab, &bobs, "VIEWER").await.refused("LAST_ADMIN");
    set_role(&bob, &lab, &bobs, "VIEWER").await.refused("LAST_ADMIN");
    assert_eq!(names(&list(&bob, &lab, json!({})).await.ok()), ["Bob"]);
}

async fn who_cannot_act_is_no_admin_to_rely_on(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let bob = app.member(&lab, SystemRole::Admin, "Bob").await;
    let (his, user) = (app.literal(&membership(&lab, &bob).await), app.literal(&bob.id));
    for (spoil, mend) in [
        (
            format!("UPDATE users SET status = 'DISABLED' WHERE id = {user}"),
            format!("UPDATE users SET status = 'ACTIVE' WHERE id = {user}"),
        ),
        (
            format!("UPDATE organization_members SET status = 'DISABLED' WHERE user_id = {user}"),
            format!("UPDATE organization_members SET status = 'ACTIVE' WHERE user_id = {user}"),
        ),
        (
            format!("UPDATE memberships SET expires_at = '2999-01-01 00:00:00+00:00' WHERE id = {his}"),
            format!("UPDATE memberships SET expires_at = NULL WHERE id = {his}"),
        ),
    ] {
        app.sql(&spoil).await;
        leave(&ada, &lab).await.refused("LAST_ADMIN");
        app.sql(&mend).await;
    }
    // A membership that has expired is none.
    app.sql(&format!("UPDATE memberships SET expires_at = '2020-01-01 00:00:00+00:00' WHERE id = {his}"))
        .await;
    leave(&ada, &lab).await.refused("LAST_ADMIN");
    assert_eq!(names(&list(&ada, &lab, json!({})).await.ok()), ["Ada"]);
    bob.invite(&lab, "zoe@example.org", "VIEWER").await.denied("NOT_FOUND");
    app.sql(&format!("UPDATE memberships SET expires_at = NULL WHERE id = {his}")).await;
    leave(&ada, &lab).await.ok();
}

async fn an_owner_stays_in_what_they_made(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let bob = app.member(&lab, SystemRole::Admin, "Bob").await;
    let cleo = app.member(&lab, SystemRole::Admin, "Cleo").await;
    let adas = membership(&lab, &ada).await;
    let organization_role = async |who: &Actor, role: &str| {
        let user = app.literal(&who.id);
        app.sql(&format!("UPDATE organization_members SET role = '{role}' WHERE user_id = {user}")).await;
    };
    organization_role(&cleo, "ADMIN").await;
    for by in [&bob, &cleo] {
        remove(by, &lab, &adas).await.refused("OWNER_PROTECTED");
        set_role(by, &lab, &adas, "VIEWER").await.refused("OWNER_PROTECTED");
        set_role(by, &lab, &adas, "ADMIN").await.ok();
    }
    // What the owner did not make is not theirs to keep.
    let den = bob.workspace("Den").await;
    bob.invite(&den, &ada.email, "ADMIN").await.ok();
    let input = json!({ "token": token_of(&app.mail_to(&ada.email).await.link()) });
    ada.mutate("acceptInvitation", input, "invitation { id }").await.ok();
    remove(&cleo, &den, &membership(&den, &ada).await).await.ok();
    // Another owner may, and so may they themselves.
    organization_role(&cleo, "OWNER").await;
    set_role(&cleo, &lab, &adas, "EDITOR").await.ok();
    leave(&ada, &lab).await.ok();
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
