//! Memberships that end by themselves: a second after their end nothing is left of them, and no job has run.

use chrono::{SecondsFormat, TimeDelta, Utc};
use guildhall_domain::access::SystemRole;
use guildhall_tests::{Actor, Answer, App, Workspace, actor::token_of, both_databases, subscription::End};
use serde_json::{Value, json};

use crate::members::{list, membership, names};

both_databases!(
    App::start,
    a_second_after_its_end_a_membership_gives_nothing,
    a_subscription_ends_with_the_membership,
    the_last_admin_s_membership_does_not_end,
    an_end_is_moved_and_taken_back,
    an_end_in_the_past_is_refused,
    nobody_prolongs_their_own_membership,
    who_has_lost_the_default_workspace_lands_in_another,
    an_invitation_can_limit_the_membership_it_gives,
    who_was_a_member_for_a_time_is_invited_again,
);

/// So many seconds from now, as an input.
fn after(app: &App, seconds: i64) -> Value {
    let at = app.db().now() + TimeDelta::seconds(seconds);
    json!(at.to_rfc3339_opts(SecondsFormat::Millis, true))
}

async fn limit(by: &Actor, workspace: &Workspace, who: &Actor, role: &str, until: Value) -> Answer {
    let id = membership(workspace, who).await;
    let input = json!({ "workspaceId": workspace.id, "memberId": id, "role": role, "expiresAt": until });
    by.mutate("updateMemberRole", input, "member { expiresAt role { key } }").await
}

async fn sees(actor: &Actor, workspace: &Workspace) -> bool {
    let document = "query($name: String!) { workspace(name: $name) { viewerMembership { expiresAt } } }";
    let answer = actor.query(document, json!({ "name": workspace.name })).await.ok();
    !answer.data("/workspace").is_null()
}

async fn a_second_after_its_end_a_membership_gives_nothing(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let eve = app.member(&lab, SystemRole::Editor, "Eve").await;
    app.stop_the_clock();
    let until = after(&app, 60);
    let limited = limit(&ada, &lab, &eve, "EDITOR", until.clone()).await.ok();
    assert_eq!(
        limited.text("/updateMemberRole/member/expiresAt").parse::<chrono::DateTime<Utc>>().unwrap(),
        until.as_str().unwrap().parse::<chrono::DateTime<Utc>>().unwrap()
    );
    app.advance(TimeDelta::seconds(59));
    let describe = json!({ "workspaceId": lab.id, "description": "# Lab" });
    eve.mutate("describeWorkspace", describe.clone(), "").await.ok();
    assert!(sees(&eve, &lab).await);
    app.advance(TimeDelta::seconds(2));
    eve.mutate("describeWorkspace", describe, "").await.denied("NOT_FOUND");
    assert!(!sees(&eve, &lab).await);
    let own = eve.query("{ viewer { workspaces { totalCount } } }", json!({})).await.ok();
    assert_eq!(own.data("/viewer/workspaces/totalCount"), 0);
    // Nobody sees them among the members any more.
    assert_eq!(names(&list(&ada, &lab, json!({})).await.ok()), ["Ada"]);
    let document = "query($id: ID!) { node(id: $id) { id } }";
    assert_eq!(eve.query(document, json!({ "id": ada.id })).await.ok().data("/node"), &Value::Null);
}

async fn a_subscription_ends_with_the_membership(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let eve = app.member(&lab, SystemRole::Admin, "Eve").await;
    limit(&ada, &lab, &eve, "ADMIN", after(&app, 60)).await.ok();
    let watch = "subscription($id: ID!) { invitationStatusChanged(workspaceId: $id) { cursor } }";
    let mut subscription = eve.subscribe(watch, json!({ "id": lab.id })).await;
    app.advance(TimeDelta::seconds(61));
    ada.invite(&lab, "new@example.org", "VIEWER").await.ok();
    let End::Errors(errors) = subscription.ended().await else { panic!("it ends with an error") };
    assert_eq!(errors[0]["extensions"]["code"], "NOT_FOUND");
}

async fn the_last_admin_s_membership_does_not_end(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let eve = app.member(&lab, SystemRole::Admin, "Eve").await;
    limit(&ada, &lab, &eve, "ADMIN", after(&app, 60)).await.ok();
    // An admin for a time is none to rely on: neither may the other go, nor be limited.
    limit(&ada, &lab, &ada, "ADMIN", after(&app, 3600)).await.refused("LAST_ADMIN");
    ada.mutate("leaveWorkspace", json!({ "workspaceId": lab.id }), "").await.refused("LAST_ADMIN");
    limit(&ada, &lab, &eve, "ADMIN", Value::Null).await.ok();
    limit(&eve, &lab, &eve, "ADMIN", after(&app, 3600)).await.ok();
    limit(&ada, &lab, &ada, "ADMIN", after(&app, 3600)).await.refused("LAST_ADMIN");
}

async fn an_end_is_moved_and_taken_back(app: App) {
    app.stop_the_clock();
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    limit(&ada, &lab, &eve, "VIEWER", after(&app, 10)).await.ok();
    // A change that says nothing of the end leaves it.
    let id = membership(&lab, &eve).await;
    crate::members::set_role(&ada, &lab, &id, "EDITOR").await.ok();
    limit(&ada, &lab, &eve, "EDITOR", after(&app, 100)).await.ok();
    app.advance(TimeDelta::seconds(50));
    assert!(sees(&eve, &lab).await);
    let freed = limit(&ada, &lab, &eve, "EDITOR", Value::Null).await.ok();
    assert_eq!(
        freed.data("/updateMemberRole/member"),
        &json!({ "expiresAt": null, "role": { "key": "EDITOR" } })
    );
    app.advance(TimeDelta::seconds(100));
    assert!(sees(&eve, &lab).await);
}

async fn an_end_in_the_past_is_refused(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    // Nor does one whose year has five digits sort where it should.
    for past in [after(&app, -1), json!("1970-01-01T00:00:00Z"), json!("+12000-01-01T00:00:00Z")] {
        let refused = limit(&ada, &lab, &eve, "VIEWER", past.clone()).await.refused("INVALID_INPUT");
        assert_eq!(refused.user_errors()[0]["field"], json!(["expiresAt"]));
        let input = json!({
            "workspaceId": lab.id, "email": "new@example.org", "role": "VIEWER", "membershipExpiresAt": past,
        });
        let refused = ada.mutate("inviteMember", input, "").await.refused("INVALID_INPUT");
        assert_eq!(refused.user_errors()[0]["field"], json!(["membershipExpiresAt"]));
    }
}

async fn an_invitation_can_limit_the_membership_it_gives(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let until = after(&app, 3600);
    let input = json!({
        "workspaceId": lab.id, "email": "eve@example.org", "role": "VIEWER", "membershipExpiresAt": until,
    });
    let invited =
        ada.mutate("inviteMember", input, "invitation { expiresAt membershipExpiresAt }").await.ok();
    // It cannot be accepted any longer than what it gives lasts.
    let invitation = invited.data("/inviteMember/invitation");
    assert_eq!(invitation["expiresAt"], invitation["membershipExpiresAt"]);
    let link = app.mail_to("eve@example.org").await.link();
    let eve = Actor::register(&app.url, token_of(&link), "Eve").await;
    assert!(sees(&eve, &lab).await);
    app.advance(TimeDelta::seconds(3601));
    let eve = eve.again().await;
    assert!(!sees(&eve, &lab).await);
}

async fn who_was_a_member_for_a_time_is_invited_again(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    limit(&ada, &lab, &eve, "VIEWER", after(&app, 60)).await.ok();
    ada.invite(&lab, "eve@example.org", "EDITOR").await.refused("ALREADY_MEMBER");
    app.advance(TimeDelta::seconds(61));
    ada.invite(&lab, "eve@example.org", "EDITOR").await.ok();
    let link = app.mail_to("eve@example.org").await.link();
    eve.mutate("acceptInvitation", json!({ "token": token_of(&link) }), "").await.ok();
    assert!(sees(&eve, &lab).await);
    assert_eq!(names(&list(&ada, &lab, json!({ "role": "EDITOR" })).await.ok()), ["Eve"]);
}

async fn nobody_prolongs_their_own_membership(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let eve = app.member(&lab, SystemRole::Admin, "Eve").await;
    limit(&ada, &lab, &eve, "ADMIN", after(&app, 60)).await.ok();
    for longer in [Value::Null, after(&app, 3600)] {
        let refused = limit(&eve, &lab, &eve, "ADMIN", longer).await.refused("PRIVILEGE_ESCALATION");
        assert_eq!(refused.user_errors()[0]["field"], json!(["expiresAt"]));
    }
    limit(&eve, &lab, &eve, "ADMIN", after(&app, 30)).await.ok();
    app.advance(TimeDelta::seconds(31));
    assert!(!sees(&eve, &lab).await);
}

async fn who_has_lost_the_default_workspace_lands_in_another(app: App) {
    let ada = app.set_up().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    ada.invite(&den, &eve.email, "VIEWER").await.ok();
    let link = app.mail_to(&eve.email).await.link();
    eve.mutate("acceptInvitation", json!({ "token": token_of(&link) }), "").await.ok();
    let lands = async || {
        let answer = eve.query("{ viewer { defaultWorkspace { name } } }", json!({})).await.ok();
        answer.data("/viewer/defaultWorkspace/name").clone()
    };
    assert_eq!(lands().await, "lab");
    limit(&ada, &lab, &eve, "VIEWER", after(&app, 60)).await.ok();
    app.advance(TimeDelta::seconds(61));
    assert_eq!(lands().await, "den");
}
