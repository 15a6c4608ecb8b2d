//! Inviting: who can be invited and how, and what the workspace's admins see of it.

use chrono::TimeDelta;
use guildhall_domain::access::SystemRole;
use guildhall_tests::{
    Actor, Answer, App, Workspace,
    actor::{PASSWORD, token_of},
    both_databases,
    databases::Engine,
};
use serde_json::{Value, json};

both_databases!(
    App::start,
    an_address_is_one_however_it_is_spelled,
    whoever_is_invited_or_a_member_is_not_invited_again,
    people_are_found_within_the_organization,
    bulk_invitations_answer_for_each,
    bad_input_names_its_field,
    nothing_tells_whether_an_address_has_an_account,
    invitations_of_elsewhere_are_unknown,
    invitations_are_listed_by_status,
);
both_databases!(tight, too_many_invitations_are_refused);

async fn tight(engine: Engine) -> App {
    App::start_with(engine, |environment| {
        environment.set("GUILDHALL_LIMITS_INVITATIONS_PER_HOUR_PER_RECIPIENT", 3);
        environment.set("GUILDHALL_LIMITS_INVITATIONS_PER_HOUR_PER_WORKSPACE", 6);
    })
    .await
}

const LISTED: &str = "query($name: String!, $status: [InvitationStatus!]) { workspace(name: $name) {
    invitations(status: $status) { totalCount nodes { id email status role { key } inviter { displayName } } }
} }";
/// The secret of the next link that was mailed to the address.
pub(crate) async fn token(app: &App, email: &str) -> String {
    token_of(&app.mail_to(email).await.link()).to_owned()
}

/// Revokes or resends.
pub(crate) async fn change(actor: &Actor, mutation: &str, workspace: &Workspace, id: &Value) -> Answer {
    let input = json!({ "workspaceId": workspace.id, "invitationId": id });
    actor.mutate(mutation, input, "invitation { status role { key } expiresAt delivery }").await
}

/// The id of a new invitation.
pub(crate) async fn invited(by: &Actor, workspace: &Workspace, email: &str, role: &str) -> Value {
    by.invite(workspace, email, role).await.ok().data("/inviteMember/invitation/id").clone()
}

/// The statuses of a workspace's invitations, the oldest first.
pub(crate) async fn statuses(by: &Actor, workspace: &Workspace) -> Vec<String> {
    let answer = by.query(LISTED, json!({ "name": workspace.name })).await.ok();
    let nodes = answer.data("/workspace/invitations/nodes").as_array().unwrap();
    nodes.iter().map(|node| node["status"].as_str().unwrap().to_owned()).collect()
}

async fn an_address_is_one_however_it_is_spelled(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let invited = ada.invite(&lab, "  Eve+News@Example.ORG\n", "VIEWER").await.ok();
    assert_eq!(invited.data("/inviteMember/invitation/email"), "eve+news@example.org");
    ada.invite(&lab, "EVE+NEWS@example.org", "EDITOR").await.refused("ALREADY_INVITED");
    // A tag may belong to another mailbox.
    ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    ada.invite(&lab, "eve@Müller.example", "VIEWER").await.ok();
    ada.invite(&lab, "eve@mu\u{308}ller.example", "VIEWER").await.refused("ALREADY_INVITED");
    let eve = Actor::register(&app.url, &token(&app, "eve+news@example.org").await, "Eve").await;
    assert_eq!(eve.email, "eve+news@example.org", "the tag survives the link");
    Actor::sign_in(&app.url, "Eve+News@EXAMPLE.org", PASSWORD).await;
    ada.invite(&lab, " EVE+news@example.org", "VIEWER").await.refused("ALREADY_MEMBER");
}

async fn whoever_is_invited_or_a_member_is_not_invited_again(app: App) {
    let ada = app.set_up().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    let refused = ada.invite(&lab, "ada@example.org", "VIEWER").await.refused("ALREADY_MEMBER");
    assert_eq!(refused.user_errors()[0]["field"], json!(["email"]));
    assert_eq!(refused.data("/inviteMember/invitation"), &Value::Null);
    let id = invited(&ada, &lab, "eve@example.org", "VIEWER").await;
    ada.invite(&lab, "eve@example.org", "VIEWER").await.refused("ALREADY_INVITED");
    ada.invite(&den, "eve@example.org", "VIEWER").await.ok();
    change(&ada, "revokeInvitation", &lab, &id).await.ok();
    ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    assert_eq!(statuses(&ada, &lab).await, ["REVOKED", "PENDING"], "history is kept");

    // The same by id, and the fault is at what was given.
    let bob = app.member(&lab, SystemRole::Viewer, "Bob").await;
    let input = json!({ "workspaceId": lab.id, "userId": bob.id, "role": "VIEWER" });
    let refused = ada.mutate("inviteMember", input, "invitation { id }").await.refused("ALREADY_MEMBER");
    assert_eq!(refused.user_errors()[0]["field"], json!(["userId"]));
}

async fn people_are_found_within_the_organization(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let search = "query($id: ID!, $query: String!) { searchUsers(workspaceId: $id, query: $query) { email displayName } }";
    let bob = app.member(&lab, SystemRole::Admin, "Bob").await;
    let eve = app.person("eve@example.org", "Éve 100%").await;
    let sam = app.stranger("sam@example.org", "Sam").await;
    let find = async |by: &Actor, query: &str| {
        let answer = by.query(search, json!({ "id": lab.id, "query": query })).await.ok();
        let found = answer.data("/searchUsers").as_array().unwrap();
        found.iter().map(|user| user["email"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(find(&bob, "ÉVE").await, ["eve@example.org"]);
    assert_eq!(find(&bob, "%").await, ["eve@example.org"]);
    assert_eq!(find(&bob, "EXAMPLE.ORG").await.len(), 3, "those of the organization, and not Sam");
    assert!(find(&bob, "sam").await.is_empty());
    app.sql(&format!("UPDATE users SET status = 'DISABLED' WHERE id = {}", app.literal(&eve.id))).await;
    assert!(find(&bob, "eve").await.is_empty());

    // Nor is somebody of elsewhere invited by id, and the answer tells nothing of them.
    let refusal = async |user: &str| {
        let input = json!({ "workspaceId": lab.id, "userId": user, "role": "VIEWER" });
        let refused = bob.mutate("inviteMember", input, "invitation { id }").await.refused("INVALID_INPUT");
        refused.user_errors()[0].clone()
    };
    let unknown = refusal("usr_0193a1b2c3d47e8f9012345678901234").await;
    assert_eq!(refusal(&sam.id).await, unknown);
    assert_eq!(unknown["field"], json!(["userId"]));

    for query in ["", "  ", &"a".repeat(101)] {
        bob.query(search, json!({ "id": lab.id, "query": query })).await.denied("BAD_USER_INPUT");
    }
    let vera = app.member(&lab, SystemRole::Viewer, "Vera").await;
    vera.query(search, json!({ "id": lab.id, "query": "a" })).await.denied("FORBIDDEN");
    sam.query(search, json!({ "id": lab.id, "query": "a" })).await.denied("NOT_FOUND");
}

async fn bulk_invitations_answer_for_each(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    ada.invite(&lab, "p3@example.org", "VIEWER").await.ok();
    let mut invitees: Vec<Value> =
        (0..100).map(|n| json!({ "email": format!("p{n}@example.org"), "role": "VIEWER" })).collect();
    invitees[0] = json!({ "email": "ada@example.org", "role": "VIEWER" });
    invitees[1] = json!({ "email": "no address", "role": "BOSS" });
    invitees[2] = json!({ "email": "p2@example.org", "userId": ada.id, "role": "VIEWER" });
    invitees[4] = json!({ "role": "VIEWER" });
    invitees[5] = json!({ "userId": ada.id, "role": "VIEWER" });
    invitees[99] = json!({ "email": "P98@example.org", "role": "EDITOR" });
    let selection = "results { invitation { email status } userErrors { code field } }";
    let input = json!({ "workspaceId": lab.id, "invitees": invitees, "message": "Welcome" });
    let answer = ada.mutate("inviteMembers", input, selection).await;
    assert!(answer.errors().is_empty(), "{answer}");
    assert_eq!(answer.data("/inviteMembers/userErrors"), &json!([]));
    assert_eq!(answer.len("/inviteMembers/results"), 100);
    let refusals = |n: usize| -> Vec<(String, String)> {
        let errors = answer.data(&format!("/inviteMembers/results/{n}/userErrors")).as_array().unwrap();
        let field = |error: &Value| {
            let path = error["field"].as_array().unwrap().iter().map(|part| part.as_str().unwrap());
            path.collect::<Vec<_>>().join(".")
        };
        errors.iter().map(|error| (error["code"].as_str().unwrap().to_owned(), field(error))).collect()
    };
    let one = |code: &str, field: &str| vec![(code.to_owned(), field.to_owned())];
    assert_eq!(refusals(0), one("ALREADY_MEMBER", "invitees.0.email"));
    let both = [one("INVALID_INPUT", "invitees.1.email"), one("INVALID_INPUT", "invitees.1.role")].concat();
    assert_eq!(refusals(1), both);
    assert_eq!(refusals(2), one("INVALID_INPUT", "invitees.2.email"));
    assert_eq!(refusals(3), one("ALREADY_INVITED", "invitees.3.email"));
    assert_eq!(refusals(4), one("INVALID_INPUT", "invitees.4.email"));
    assert_eq!(refusals(5), one("ALREADY_MEMBER", "invitees.5.userId"));
    assert_eq!(refusals(99), one("ALREADY_INVITED", "invitees.99.email"));
    for n in 6..99 {
        let invited = answer.data(&format!("/inviteMembers/results/{n}/invitation"));
        assert_eq!(invited, &json!({ "email": format!("p{n}@example.org"), "status": "PENDING" }));
    }
    assert_eq!(app.number("SELECT count(*) FROM invitations").await, 94);
    assert_eq!(app.number("SELECT count(*) FROM mails WHERE invitation_id IS NOT NULL").await, 94);
    assert!(app.mail_to("p98@example.org").await.text().contains("Welcome"));

    let many: Vec<Value> =
        (0..101).map(|n| json!({ "email": format!("q{n}@example.org"), "role": "VIEWER" })).collect();
    for invitees in [many, Vec::new()] {
        let input = json!({ "workspaceId": lab.id, "invitees": invitees });
        let refused = ada.mutate("inviteMembers", input, selection).await.refused("INVALID_INPUT");
        assert_eq!(refused.user_errors()[0]["field"], json!(["invitees"]));
        assert_eq!(refused.data("/inviteMembers/results"), &Value::Null);
    }
    let vera = app.member(&lab, SystemRole::Viewer, "Vera").await;
    let input =
        json!({ "workspaceId": lab.id, "invitees": [{ "email": "x@example.org", "role": "VIEWER" }] });
    vera.mutate("inviteMembers", input, selection).await.denied("FORBIDDEN");
    assert_eq!(app.number("SELECT count(*) FROM invitations").await, 95);
}

async fn bad_input_names_its_field(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let (long, wordy) = (format!("{}@example.org", "a".repeat(65)), "a".repeat(501));
    for (field, value) in [
        ("email", json!("")),
        ("email", json!("eve")),
        ("email", json!("eve@localhost")),
        ("email", json!("Eve <eve@example.org>")),
        ("email", json!("eve@example.org\r\nBcc: all@example.org")),
        ("email", json!("e\u{0}ve@example.org")),
        ("email", json!("\u{202e}eve@example.org")),
        ("email", json!("a@example.org,b@example.org")),
        ("email", json!(long)),
        ("email", Value::Null),
        ("role", json!("OWNER")),
        ("role", json!("viewer")),
        ("role", json!(lab.id)),
        ("message", json!(wordy)),
        ("message", json!("nul\u{0}")),
    ] {
        let mut input = json!({ "workspaceId": lab.id, "email": "eve@example.org", "role": "VIEWER" });
        input[field] = value.clone();
        let refused = ada.mutate("inviteMember", input, "invitation { id }").await.refused("INVALID_INPUT");
        assert_eq!(refused.user_errors()[0]["field"], json!([field]), "{value}");
    }
    assert_eq!(app.number("SELECT count(*) FROM invitations").await, 0);
    for role in [json!("VIEWER"), Value::Null] {
        let input =
            json!({ "workspaceId": lab.id, "email": "eve@example.org", "role": role, "message": " " });
        let answer = ada.mutate("inviteMember", input, "invitation { message }").await;
        match role.is_null() {
            true => assert!(!answer.errors().is_empty(), "the role is required: {answer}"),
            false => assert_eq!(answer.ok().data("/inviteMember/invitation/message"), &Value::Null),
        }
    }
}

async fn nothing_tells_whether_an_address_has_an_account(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    app.stranger("with@example.net", "Sam").await;
    let shape = async |email: &str| {
        let input = json!({ "workspaceId": lab.id, "email": email, "role": "VIEWER" });
        let selection = "invitation { status delivery role { key } inviter { email } message respondedAt }";
        ada.mutate("inviteMember", input, selection).await.ok().data("/inviteMember").clone()
    };
    assert_eq!(shape("with@example.net").await, shape("without@example.net").await);
    let mailed = async |email: &str| {
        let mail = app.mail_to(email).await;
        let text = mail.text().replace(&mail.link(), "LINK").replace(email, "ADDRESS");
        let document =
            "query($token: String!) { invitationByToken(token: $token) { status maskedEmail inviterName } }";
        let token = json!({ "token": token_of(&mail.link()) });
        let preview = app.anonymous().query(document, token).await.ok();
        (mail.subject(), text, preview.data("/invitationByToken").clone())
    };
    assert_eq!(mailed("with@example.net").await, mailed("without@example.net").await);
}

async fn invitations_of_elsewhere_are_unknown(app: App) {
    let ada = app.set_up().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    let bob = app.member(&lab, SystemRole::Admin, "Bob").await;
    let sam = app.stranger("sam@example.net", "Sam").await;
    let theirs = sam.workspace("Theirs").await;
    let id = invited(&ada, &den, "eve@example.org", "VIEWER").await;
    let node = "query($id: ID!) { node(id: $id) { id } }";
    for (by, own) in [(&bob, &lab), (&sam, &theirs)] {
        for mutation in ["revokeInvitation", "resendInvitation"] {
            change(by, mutation, own, &id).await.refused("NOT_FOUND");
            change(by, mutation, &den, &id).await.denied("NOT_FOUND");
        }
        assert_eq!(by.query(node, json!({ "id": id })).await.ok().data("/node"), &Value::Null);
    }
    let vera = app.member(&den, SystemRole::Viewer, "Vera").await;
    change(&vera, "revokeInvitation", &den, &id).await.denied("FORBIDDEN");
    let hidden = vera.query(LISTED, json!({ "name": den.name })).await.denied("FORBIDDEN");
    assert_eq!(hidden.data("/workspace/invitations"), &Value::Null);
    assert_eq!(ada.query(node, json!({ "id": id })).await.ok().data("/node/id"), &id);
    assert_eq!(statuses(&ada, &den).await, ["PENDING", "ACCEPTED"]);
}

async fn invitations_are_listed_by_status(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    invited(&ada, &lab, "expired@example.org", "VIEWER").await;
    app.advance(TimeDelta::hours(168));
    let ada = ada.again().await;
    let revoked = invited(&ada, &lab, "revoked@example.org", "VIEWER").await;
    change(&ada, "revokeInvitation", &lab, &revoked).await.ok();
    for email in ["one@example.org", "two@example.org"] {
        invited(&ada, &lab, email, "EDITOR").await;
    }
    let list = async |status: Value| {
        let answer = ada.query(LISTED, json!({ "name": lab.name, "status": status })).await.ok();
        let nodes = answer.data("/workspace/invitations/nodes").as_array().unwrap();
        assert_eq!(answer.data("/workspace/invitations/totalCount"), nodes.len());
        nodes
            .iter()
            .map(|node| node["email"].as_str().unwrap().split('@').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(list(Value::Null).await, ["expired", "revoked", "one", "two"]);
    assert_eq!(list(json!([])).await.len(), 4);
    assert_eq!(list(json!(["PENDING"])).await, ["one", "two"]);
    assert_eq!(list(json!(["EXPIRED", "REVOKED", "EXPIRED"])).await, ["expired", "revoked"]);
    assert!(list(json!(["ACCEPTED", "DECLINED", "SUPERSEDED"])).await.is_empty());
}

async fn too_many_invitations_are_refused(app: App) {
    let ada = app.set_up().await;
    let mut labs = Vec::new();
    for name in ["A", "B", "C", "D"] {
        labs.push(ada.workspace(name).await);
    }
    // The first of three goes to Eve's address here. She is in the organization, so that she can be named by her id too.
    let eve = app.person("eve@example.org", "Eve").await;
    let by_id = |lab: &Workspace| json!({ "workspaceId": lab.id, "userId": eve.id, "role": "VIEWER" });
    let id = invited(&ada, &labs[0], "Eve@example.org", "VIEWER").await;
    ada.mutate("inviteMember", by_id(&labs[1]), "").await.ok();
    // Whichever way it is named, that is enough for the address; others are not held up.
    ada.mutate("inviteMember", by_id(&labs[2]), "").await.refused("RATE_LIMITED");
    let refused = ada.invite(&labs[3], "eve@example.org", "VIEWER").await.refused("RATE_LIMITED");
    assert!(!refused.user_errors()[0]["message"].as_str().unwrap().is_empty());
    ada.invite(&labs[3], "max@example.org", "VIEWER").await.ok();
    change(&ada, "resendInvitation", &labs[0], &id).await.refused("RATE_LIMITED");

    // And six from one workspace: each of a bulk is counted.
    let invitees: Vec<Value> =
        (0..7).map(|n| json!({ "email": format!("p{n}@example.org"), "role": "VIEWER" })).collect();
    let input = json!({ "workspaceId": labs[1].id, "invitees": invitees });
    let answer = ada.mutate("inviteMembers", input, "results { userErrors { code } }").await;
    let codes: Vec<&Value> = answer.user_errors().iter().map(|error| &error["code"]).collect();
    assert_eq!(codes, ["RATE_LIMITED"; 2], "one was spent on Eve: {answer}");
    assert_eq!(app.number("SELECT count(*) FROM invitations").await, 9);
}
