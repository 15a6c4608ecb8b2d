//! Answering invitations: by whom, how, and until when; and what takes an invitation back.

use chrono::TimeDelta;
use guildhall_domain::access::SystemRole;
use guildhall_tests::{Actor, Answer, App, Workspace, actor::PASSWORD, both_databases};
use serde_json::{Value, json};

use crate::invitations::{change, invited, statuses, token};

both_databases!(
    App::start,
    registering_by_the_link_verifies_and_signs_in,
    an_existing_account_consents,
    a_link_is_for_one_address,
    the_invitee_accepts_without_the_link,
    the_invitee_reads_nothing_of_the_workspace_before,
    anybody_with_the_link_can_decline,
    what_was_answered_is_not_answered_again,
    an_expired_invitation_is_sent_again_or_replaced,
    sending_again_kills_the_old_link_and_may_change_the_role,
    an_inviter_who_lost_the_right_grants_nothing,
);

const MINE: &str = "{ viewer { invitations { totalCount nodes {
    id status inviterName organizationName maskedEmail message workspaces { name displayName role { key } }
} } } }";

async fn by_token(actor: &Actor, mutation: &str, token: &str) -> Answer {
    actor.mutate(mutation, json!({ "token": token }), "invitation { status respondedAt }").await
}

async fn by_id(actor: &Actor, mutation: &str, id: &Value) -> Answer {
    actor.mutate(mutation, json!({ "invitationId": id }), "invitation { status respondedAt }").await
}

async fn register(app: &App, token: &str) -> Answer {
    let input = json!({ "token": token, "displayName": "Somebody", "password": PASSWORD });
    app.anonymous().mutate("register", input, "user { id email } invitation { status }").await
}

async fn role_in(actor: &Actor, workspace: &Workspace) -> Option<String> {
    let document = "query($name: String!) { workspace(name: $name) { viewerRole { key } } }";
    let answer = actor.query(document, json!({ "name": workspace.name })).await.ok();
    answer.data("/workspace").pointer("/viewerRole/key").map(|key| key.as_str().unwrap().to_owned())
}

async fn registering_by_the_link_verifies_and_signs_in(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    ada.invite(&lab, "eve@example.org", "EDITOR").await.ok();
    let token = token(&app, "eve@example.org").await;
    let weak = json!({ "token": token, "displayName": "Eve", "password": "password" });
    app.anonymous().mutate("register", weak, "user { id }").await.refused("WEAK_PASSWORD");
    let eve = Actor::register(&app.url, &token, "Eve").await;
    let seen =
        eve.query("{ viewer { user { status email } defaultWorkspace { name } } }", json!({})).await.ok();
    assert_eq!(
        seen.data("/viewer"),
        &json!({ "user": { "status": "ACTIVE", "email": "eve@example.org" }, "defaultWorkspace": { "name": "lab" } })
    );
    assert_eq!(role_in(&eve, &lab).await.as_deref(), Some("EDITOR"));
    assert_eq!(statuses(&ada, &lab).await, ["ACCEPTED"]);
    register(&app, &token).await.refused("INVITATION_NOT_PENDING");
    register(&app, "no-such-link").await.refused("LINK_INVALID");
    assert_eq!(app.number("SELECT count(*) FROM users").await, 2);
}

async fn an_existing_account_consents(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let eve = app.person("eve@example.org", "Eve").await;
    let input = json!({ "workspaceId": lab.id, "userId": eve.id, "role": "EDITOR" });
    let selection = "invitation { id email status }";
    let made = ada.mutate("inviteMember", input.clone(), selection).await.ok();
    assert_eq!(made.data("/inviteMember/invitation/email"), "eve@example.org");
    ada.mutate("inviteMember", input, selection).await.refused("ALREADY_INVITED");
    assert_eq!(role_in(&eve, &lab).await, None, "nobody is added silently");
    let token = token(&app, "eve@example.org").await;
    register(&app, &token).await.refused("ACCOUNT_EXISTS");
    assert_eq!(statuses(&ada, &lab).await, ["PENDING"]);
    by_token(&app.anonymous(), "acceptInvitation", &token).await.denied("UNAUTHENTICATED");
    let accepted = by_token(&eve, "acceptInvitation", &token).await.ok();
    assert_eq!(accepted.data("/acceptInvitation/invitation/status"), "ACCEPTED");
    assert!(accepted.data("/acceptInvitation/invitation/respondedAt").is_string());
    assert_eq!(role_in(&eve, &lab).await.as_deref(), Some("EDITOR"));
}

async fn a_link_is_for_one_address(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let bob = app.person("bob@example.org", "Bob").await;
    ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    let token = token(&app, "eve@example.org").await;
    let refused = by_token(&bob, "acceptInvitation", &token).await.refused("EMAIL_MISMATCH");
    let message = refused.user_errors()[0]["message"].as_str().unwrap();
    assert!(!message.contains("eve@"), "the address is masked: {message}");
    assert_eq!(statuses(&ada, &lab).await, ["PENDING"]);
    assert_eq!(role_in(&bob, &lab).await, None);
    let eve = Actor::register(&app.url, &token, "Eve").await;
    assert_eq!(role_in(&eve, &lab).await.as_deref(), Some("VIEWER"));
}

async fn the_invitee_accepts_without_the_link(app: App) {
    let ada = app.set_up().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    let eve = app.person("eve@example.org", "Eve").await;
    let bob = app.person("bob@example.org", "Bob").await;
    let input = json!({ "workspaceId": lab.id, "email": eve.email, "role": "ADMIN", "message": "Do come!" });
    ada.mutate("inviteMember", input, "invitation { id }").await.ok();
    ada.invite(&den, &eve.email, "VIEWER").await.ok();
    let mine = eve.query(MINE, json!({})).await.ok();
    assert_eq!(mine.data("/viewer/invitations/totalCount"), 3, "with the one she joined by");
    let received = mine.data("/viewer/invitations/nodes/1");
    let text = |field: &str| received[field].as_str().unwrap().to_owned();
    assert_eq!(
        (text("status"), text("inviterName"), text("message")),
        ("PENDING".into(), "Ada".into(), "Do come!".into())
    );
    assert_eq!(
        received["workspaces"],
        json!([{ "name": "lab", "displayName": "Lab", "role": { "key": "ADMIN" } }])
    );
    assert!(!received["maskedEmail"].as_str().unwrap().contains("eve"));
    let (lab_id, den_id) = (&received["id"], mine.data("/viewer/invitations/nodes/2/id"));

    assert_eq!(bob.query(MINE, json!({})).await.ok().data("/viewer/invitations/totalCount"), 1);
    for mutation in ["acceptInvitation", "declineInvitation"] {
        by_id(&bob, mutation, lab_id).await.refused("NOT_FOUND");
        by_id(&app.anonymous(), mutation, lab_id).await.denied("UNAUTHENTICATED");
        by_id(&eve, mutation, &json!("inv_0193a1b2c3d47e8f9012345678901234")).await.refused("NOT_FOUND");
        by_id(&eve, mutation, &json!("nonsense")).await.refused("INVALID_INPUT");
    }
    by_id(&eve, "acceptInvitation", lab_id).await.ok();
    assert_eq!(role_in(&eve, &lab).await.as_deref(), Some("ADMIN"));
    let declined = by_id(&eve, "declineInvitation", den_id).await.ok();
    assert_eq!(declined.data("/declineInvitation/invitation/status"), "DECLINED");
    assert_eq!(role_in(&eve, &den).await, None);
}

async fn the_invitee_reads_nothing_of_the_workspace_before(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let eve = app.person("eve@example.org", "Eve").await;
    let id = invited(&ada, &lab, &eve.email, "ADMIN").await;
    assert_eq!(role_in(&eve, &lab).await, None);
    let node = "query($id: ID!) { node(id: $id) { id ... on Workspace { displayName } } }";
    assert_eq!(eve.query(node, json!({ "id": lab.id })).await.ok().data("/node"), &Value::Null);
    assert_eq!(eve.query(node, json!({ "id": id })).await.ok().data("/node"), &Value::Null);
    eve.invite(&lab, "zoe@example.org", "VIEWER").await.denied("NOT_FOUND");
    change(&eve, "revokeInvitation", &lab, &id).await.denied("NOT_FOUND");
    eve.mutate("switchWorkspace", json!({ "workspaceId": lab.id }), "workspace { id }")
        .await
        .denied("NOT_FOUND");
    by_id(&eve, "declineInvitation", &id).await.ok();
    assert_eq!(role_in(&eve, &lab).await, None);
}

async fn anybody_with_the_link_can_decline(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    let token = token(&app, "eve@example.org").await;
    by_token(&app.anonymous(), "declineInvitation", "no-such-link").await.refused("LINK_INVALID");
    let declined = by_token(&app.anonymous(), "declineInvitation", &token).await.ok();
    assert_eq!(declined.data("/declineInvitation/invitation/status"), "DECLINED");
    assert_eq!(statuses(&ada, &lab).await, ["DECLINED"]);
    by_token(&app.anonymous(), "declineInvitation", &token).await.refused("INVITATION_NOT_PENDING");
    register(&app, &token).await.refused("INVITATION_NOT_PENDING");
    // It can be tried again.
    ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
}

async fn what_was_answered_is_not_answered_again(app: App) {
    let ada = app.set_up().await;
    for (ending, status) in
        [("acceptInvitation", "ACCEPTED"), ("declineInvitation", "DECLINED"), ("revokeInvitation", "REVOKED")]
    {
        let lab = ada.workspace(ending).await;
        let eve = app.person(&format!("eve.{}@example.org", status.to_lowercase()), "Eve").await;
        let id = invited(&ada, &lab, &eve.email, "VIEWER").await;
        let token = token(&app, &eve.email).await;
        match ending {
            "revokeInvitation" => change(&ada, ending, &lab, &id).await.ok(),
            _ => by_id(&eve, ending, &id).await.ok(),
        };
        for mutation in ["acceptInvitation", "declineInvitation"] {
            by_id(&eve, mutation, &id).await.refused("INVITATION_NOT_PENDING");
            by_token(&eve, mutation, &token).await.refused("INVITATION_NOT_PENDING");
        }
        for mutation in ["revokeInvitation", "resendInvitation"] {
            change(&ada, mutation, &lab, &id).await.refused("INVITATION_NOT_PENDING");
        }
        register(&app, &token).await.refused("INVITATION_NOT_PENDING");
        assert_eq!(statuses(&ada, &lab).await, [status]);
        assert_eq!(role_in(&eve, &lab).await.is_some(), status == "ACCEPTED");
    }
}

async fn an_expired_invitation_is_sent_again_or_replaced(app: App) {
    let ada = app.set_up().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    let eve = app.person("eve@example.org", "Eve").await;
    let first = invited(&ada, &lab, &eve.email, "VIEWER").await;
    let first_token = token(&app, &eve.email).await;
    let second = invited(&ada, &den, &eve.email, "VIEWER").await;
    let second_token = token(&app, &eve.email).await;
    app.advance(TimeDelta::hours(168));
    let (ada, eve) = (ada.again().await, eve.again().await);
    assert_eq!(statuses(&ada, &lab).await, ["EXPIRED"]);
    for mutation in ["acceptInvitation", "declineInvitation"] {
        by_id(&eve, mutation, &first).await.refused("INVITATION_EXPIRED");
        by_token(&eve, mutation, &first_token).await.refused("INVITATION_EXPIRED");
    }
    register(&app, &first_token).await.refused("INVITATION_EXPIRED");
    change(&ada, "revokeInvitation", &lab, &first).await.refused("INVITATION_NOT_PENDING");

    // Replaced by a new one,
    let anew = invited(&ada, &lab, &eve.email, "EDITOR").await;
    assert_eq!(statuses(&ada, &lab).await, ["SUPERSEDED", "PENDING"]);
    by_token(&eve, "acceptInvitation", &first_token).await.refused("INVITATION_NOT_PENDING");
    change(&ada, "resendInvitation", &lab, &first).await.refused("INVITATION_NOT_PENDING");
    token(&app, &eve.email).await;
    by_id(&eve, "acceptInvitation", &anew).await.ok();
    assert_eq!(role_in(&eve, &lab).await.as_deref(), Some("EDITOR"));

    // or sent again.
    let resent = change(&ada, "resendInvitation", &den, &second).await.ok();
    assert_eq!(resent.data("/resendInvitation/invitation/status"), "PENDING");
    by_token(&eve, "acceptInvitation", &second_token).await.refused("LINK_INVALID");
    let newest = token(&app, &eve.email).await;
    by_token(&eve, "acceptInvitation", &newest).await.ok();
    assert_eq!(role_in(&eve, &den).await.as_deref(), Some("VIEWER"));
}

async fn sending_again_kills_the_old_link_and_may_change_the_role(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let bob = app.member(&lab, SystemRole::Admin, "Bob").await;
    let id = invited(&ada, &lab, "eve@example.org", "VIEWER").await;
    let old = token(&app, "eve@example.org").await;
    app.advance(TimeDelta::hours(100));
    let (ada, bob) = (ada.again().await, bob.again().await);
    let input = json!({ "workspaceId": lab.id, "invitationId": id, "role": "EDITOR" });
    let resent = bob
        .mutate(
            "resendInvitation",
            input,
            "invitation { status role { key } delivery inviter { displayName } }",
        )
        .await
        .ok();
    assert_eq!(
        resent.data("/resendInvitation/invitation"),
        &json!({ "status": "PENDING", "role": { "key": "EDITOR" }, "delivery": "QUEUED",
                 "inviter": { "displayName": "Bob" } })
    );
    let new = token(&app, "eve@example.org").await;
    assert_ne!(old, new);
    // It lives on past the first expiry.
    app.advance(TimeDelta::hours(100));
    let ada = ada.again().await;
    for mutation in ["declineInvitation", "acceptInvitation"] {
        by_token(&ada, mutation, &old).await.refused("LINK_INVALID");
    }
    register(&app, &old).await.refused("LINK_INVALID");
    let preview =
        "query($token: String!) { invitationByToken(token: $token) { workspaces { role { key } } } }";
    let nobody = app.anonymous();
    assert_eq!(
        nobody.query(preview, json!({ "token": old })).await.ok().data("/invitationByToken"),
        &Value::Null
    );
    let seen = nobody.query(preview, json!({ "token": new })).await.ok();
    assert_eq!(seen.data("/invitationByToken/workspaces/0/role/key"), "EDITOR");
    let eve = Actor::register(&app.url, &new, "Eve").await;
    assert_eq!(role_in(&eve, &lab).await.as_deref(), Some("EDITOR"));
    let refused = change(&ada, "resendInvitation", &lab, &json!("nonsense")).await.refused("INVALID_INPUT");
    assert_eq!(refused.user_errors()[0]["field"], json!(["invitationId"]));
}

async fn an_inviter_who_lost_the_right_grants_nothing(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let bob = app.member(&lab, SystemRole::Admin, "Bob").await;
    let eve = app.person("eve@example.org", "Eve").await;
    let id = invited(&bob, &lab, &eve.email, "VIEWER").await;
    invited(&bob, &lab, "new@example.org", "VIEWER").await;
    let declined = invited(&bob, &lab, "ada+no@example.org", "VIEWER").await;
    let again = invited(&bob, &lab, "again@example.org", "VIEWER").await;
    let query =
        "query($name: String!) { workspace(name: $name) { members(search: \"bob@\") { nodes { id } } } }";
    let found = ada.query(query, json!({ "name": lab.name })).await.ok();
    let input = json!({ "workspaceId": lab.id, "memberId": found.data("/workspace/members/nodes/0/id"), "role": "EDITOR" });
    ada.mutate("updateMemberRole", input, "member { id }").await.ok();

    by_id(&eve, "acceptInvitation", &id).await.refused("INVITER_LOST_PERMISSION");
    by_id(&eve, "acceptInvitation", &id).await.refused("INVITATION_NOT_PENDING");
    register(&app, &token(&app, "new@example.org").await).await.refused("INVITER_LOST_PERMISSION");
    assert_eq!(app.number("SELECT count(*) FROM users WHERE email = 'new@example.org'").await, 0);
    // Saying no is still possible, and another admin can stand in.
    by_token(&app.anonymous(), "declineInvitation", &token(&app, "ada+no@example.org").await).await.ok();
    token(&app, "again@example.org").await;
    change(&ada, "resendInvitation", &lab, &again).await.ok();
    register(&app, &token(&app, "again@example.org").await).await.ok();
    assert_eq!(statuses(&ada, &lab).await, ["ACCEPTED", "REVOKED", "REVOKED", "DECLINED", "ACCEPTED"]);
    assert_eq!(role_in(&eve, &lab).await, None);
    change(&ada, "revokeInvitation", &lab, &declined).await.refused("INVITATION_NOT_PENDING");
}
