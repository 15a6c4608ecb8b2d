//! Invitations to an organization: to a place in it and to several workspaces at once, all or nothing.

use chrono::TimeDelta;
use futures_util::{StreamExt as _, stream};
use guildhall_domain::access::SystemRole;
use guildhall_tests::{Actor, Answer, App, Workspace, actor::token_of, both_databases};
use serde_json::{Value, json};

use crate::members::{list, names};

both_databases!(
    App::start,
    one_invitation_opens_several_workspaces,
    one_without_workspaces_gives_a_place_in_the_organization,
    one_bad_entry_refuses_the_whole_and_is_named,
    who_belongs_to_it_or_is_invited_is_not_invited_again,
    an_admin_s_place_is_given_by_admins_only,
    an_inviter_who_lost_the_right_grants_nothing,
    the_organization_s_admins_resend_and_revoke,
    an_expired_one_is_replaced,
    the_invitee_sees_it_live,
    the_invitee_is_told_once_and_each_workspace_too,
    who_joined_meanwhile_gets_what_is_missing,
    an_admin_of_one_workspace_leaves_an_expired_one_to_the_organization,
    one_that_is_sent_again_replaces_what_expired_in_its_place,
    a_role_that_is_given_up_is_given_by_no_invitation_that_is_sent_again,
    answers_while_the_mail_is_being_sent_wait_their_turn,
);

const INVITATION: &str = "invitation { id email role status delivery expiresAt message
    workspaces { name displayName role { key } } inviter { email } }";

async fn invite(by: &Actor, organization: &str, email: &str, rest: Value) -> Answer {
    let mut input = json!({ "organizationId": organization, "email": email });
    input.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    by.mutate("inviteOrganizationMember", input, INVITATION).await
}

fn id(answer: &Answer) -> String {
    answer.text("/inviteOrganizationMember/invitation/id").to_owned()
}

async fn answer_by(by: &Actor, mutation: &str, organization: &str, invitation: &str) -> Answer {
    let input = json!({ "organizationId": organization, "invitationId": invitation });
    by.mutate(mutation, input, INVITATION).await
}

/// The role somebody has in the organization, and the names of their workspaces with the roles there.
async fn place(actor: &Actor) -> Value {
    let document = "{ viewer { organizations { nodes { viewerRole } }
        workspaces { nodes { displayName viewerMembership { role { key } } } } } }";
    let answer = actor.query(document, json!({})).await.ok();
    let workspaces = answer.data("/viewer/workspaces/nodes").as_array().unwrap().clone();
    let workspaces = workspaces
        .iter()
        .map(|workspace| json!([workspace["displayName"], workspace.pointer("/viewerMembership/role/key")]));
    json!([answer.data("/viewer/organizations/nodes/0/viewerRole"), workspaces.collect::<Vec<_>>()])
}

async fn accept(app: &App, email: &str, name: &str) -> Actor {
    let link = app.mail_to(email).await.link();
    Actor::register(&app.url, token_of(&link), name).await
}

async fn one_invitation_opens_several_workspaces(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    let workspaces = json!({ "workspaces": [
        { "workspaceId": lab.id, "role": "EDITOR" }, { "workspaceId": den.id, "role": "VIEWER" },
    ] });
    let invited = invite(&ada, &organization, "Eve@Example.org", workspaces).await.ok();
    let invitation = invited.data("/inviteOrganizationMember/invitation");
    assert_eq!(
        (&invitation["email"], &invitation["role"], &invitation["status"], &invitation["inviter"]["email"]),
        (&json!("eve@example.org"), &json!("MEMBER"), &json!("PENDING"), &json!("ada@example.org"))
    );
    assert_eq!(
        invitation["workspaces"],
        json!([
            { "name": "lab", "displayName": "Lab", "role": { "key": "EDITOR" } },
            { "name": "den", "displayName": "Den", "role": { "key": "VIEWER" } },
        ])
    );
    // One mail names all of it, and the page behind its link as well.
    let mail = app.mail_to("eve@example.org").await;
    assert_eq!(mail.subject(), "Ada invited you to Example");
    for text in ["Example itself, as Member", "Lab, as Editor", "Den, as Viewer"] {
        assert!(mail.text().contains(text), "{text}: {}", mail.text());
    }
    let page = app.anonymous().get(&mail.link()).await;
    for text in ["Lab", "Den", "Member"] {
        assert!(page.text().contains(text), "{text}");
    }
    // The admins of each workspace see it, with the role there.
    let document = "query($name: String!) { workspace(name: $name) {
        invitations { nodes { email organizationRole role { key } } } } }";
    let seen = ada.query(document, json!({ "name": lab.name })).await.ok();
    assert_eq!(
        seen.data("/workspace/invitations/nodes"),
        &json!([{ "email": "eve@example.org", "organizationRole": "MEMBER", "role": { "key": "EDITOR" } }])
    );
    let eve = Actor::register(&app.url, token_of(&mail.link()), "Eve").await;
    assert_eq!(place(&eve).await, json!(["MEMBER", [["Lab", "EDITOR"], ["Den", "VIEWER"]]]));
    let list = "{ organization(slug: \"example\") { invitations(status: [ACCEPTED]) {
        totalCount nodes { email status workspaces { name } } }
        all: invitations { nodes { workspaces { name } } } } }";
    let listed = ada.query(list, json!({})).await.ok();
    assert_eq!(listed.data("/organization/invitations/totalCount"), 1);
    // In two lists at once it is the same.
    for list in ["invitations", "all"] {
        assert_eq!(listed.data(&format!("/organization/{list}/nodes/0/workspaces/1/name")), "den");
    }
    eve.query(list, json!({})).await.denied("FORBIDDEN");
}

async fn one_without_workspaces_gives_a_place_in_the_organization(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    ada.workspace("Lab").await;
    invite(&ada, &organization, "eve@example.org", json!({ "role": "ADMIN", "message": "Join us!" }))
        .await
        .ok();
    let mail = app.mail_to("eve@example.org").await;
    assert_eq!(mail.subject(), "Ada invited you to Example");
    assert!(mail.text().contains("Example itself, as Admin") && mail.text().contains("Join us!"));
    let preview = "query($token: String!) { invitationByToken(token: $token) {
        organizationName organizationRole workspaces { name } } }";
    let preview = app.anonymous().query(preview, json!({ "token": token_of(&mail.link()) })).await.ok();
    assert_eq!(
        preview.data("/invitationByToken"),
        &json!({ "organizationName": "Example", "organizationRole": "ADMIN", "workspaces": [] })
    );
    let link = mail.link();
    let form = [
        ("token", token_of(&link)),
        ("intent", "register"),
        ("display_name", "Eve"),
        ("password", guildhall_tests::actor::PASSWORD),
    ];
    let page = app.anonymous().post_form(&link, &form).await;
    assert!(page.text().contains("You are now a member of <strong>Example</strong>"), "{}", page.text());
    let eve = Actor::sign_in(&app.url, "eve@example.org", guildhall_tests::actor::PASSWORD).await;
    // An admin of the organization sees every workspace without being a member of one.
    assert_eq!(place(&eve).await, json!(["ADMIN", [["Example", null], ["Lab", null]]]));
}

async fn one_bad_entry_refuses_the_whole_and_is_named(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    let olga = app.stranger("olga@example.org", "Olga").await;
    let hers = olga.workspace("Hers").await;
    ada.invite(&den, "eve@example.org", "VIEWER").await.ok();
    let nobody = "wks_0193a1b2c3d47e8f9012345678901234";
    let workspaces = json!({ "workspaces": [
        { "workspaceId": lab.id, "role": "EDITOR" },
        { "workspaceId": hers.id, "role": "EDITOR" },
        { "workspaceId": nobody, "role": "EDITOR" },
        { "workspaceId": den.id, "role": "VIEWER" },
        { "workspaceId": lab.id, "role": "VIEWER" },
    ] });
    let refused = invite(&ada, &organization, "eve@example.org", workspaces).await;
    let faults: Vec<_> = refused
        .user_errors()
        .iter()
        .map(|fault| (fault["code"].as_str().unwrap().to_owned(), fault["field"].to_string()))
        .collect();
    let at = |code: &str, index: u8| (code.to_owned(), format!(r#"["workspaces","{index}","workspaceId"]"#));
    assert_eq!(
        faults,
        [at("INVALID_INPUT", 1), at("INVALID_INPUT", 2), at("ALREADY_INVITED", 3), at("INVALID_INPUT", 4)]
    );
    // Nothing at all was written or sent.
    assert_eq!(app.number("SELECT count(*) FROM invitations").await, 1);
    assert_eq!(app.number("SELECT count(*) FROM mails").await, 1);
    for (bad, field) in [
        (
            json!({ "workspaces": [{ "workspaceId": lab.id, "role": "BOSS" }] }),
            json!(["workspaces", "0", "role"]),
        ),
        (
            json!({ "workspaces": [{ "workspaceId": "x", "role": "VIEWER" }] }),
            json!(["workspaces", "0", "workspaceId"]),
        ),
        (
            json!({ "workspaces": [{ "workspaceId": lab.id, "role": "VIEWER", "membershipExpiresAt": "2020-01-01T00:00:00Z" }] }),
            json!(["workspaces", "0", "membershipExpiresAt"]),
        ),
        (json!({ "role": "OWNER" }), json!(["role"])),
        (
            json!({ "workspaces": vec![json!({ "workspaceId": lab.id, "role": "VIEWER" }); 101] }),
            json!(["workspaces"]),
        ),
        (json!({ "message": "a".repeat(501) }), json!(["message"])),
    ] {
        let refused = invite(&ada, &organization, "new@example.org", bad).await.refused("INVALID_INPUT");
        assert_eq!(refused.user_errors()[0]["field"], field);
    }
    invite(&ada, &organization, "no address", json!({})).await.refused("INVALID_INPUT");
    assert_eq!(app.number("SELECT count(*) FROM invitations").await, 1);
}

async fn who_belongs_to_it_or_is_invited_is_not_invited_again(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let bob = app.person("bob@example.org", "Bob").await;
    invite(&ada, &organization, &bob.email, json!({})).await.refused("ALREADY_MEMBER");
    invite(&ada, &organization, "eve@example.org", json!({})).await.ok();
    invite(&ada, &organization, "EVE@example.org", json!({})).await.refused("ALREADY_INVITED");
    let disable = json!({ "organizationId": organization, "userId": bob.id });
    ada.mutate("disableUser", disable, "").await.ok();
    let refused = invite(&ada, &organization, &bob.email, json!({})).await.refused("ALREADY_MEMBER");
    assert!(refused.user_errors()[0]["message"].as_str().unwrap().contains("disabled"));
}

async fn an_admin_s_place_is_given_by_admins_only(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    for role in ["MEMBER", "ADMIN"] {
        invite(&adam, &organization, "eve@example.org", json!({ "role": role })).await.denied("FORBIDDEN");
    }
    let promote = json!({ "organizationId": organization, "userId": adam.id, "role": "ADMIN" });
    ada.mutate("updateOrganizationMember", promote, "").await.ok();
    invite(&adam, &organization, "eve@example.org", json!({ "role": "ADMIN" })).await.ok();
    let eve = accept(&app, "eve@example.org", "Eve").await;
    assert_eq!(place(&eve).await[0], "ADMIN");
}

async fn an_inviter_who_lost_the_right_grants_nothing(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    let role = async |role: &str| {
        let input = json!({ "organizationId": organization, "userId": adam.id, "role": role });
        ada.mutate("updateOrganizationMember", input, "").await.ok();
    };
    role("ADMIN").await;
    // Adam stays an Admin of the workspace, so only the place in the organization is beyond him then.
    let workspaces = json!({ "workspaces": [{ "workspaceId": lab.id, "role": "VIEWER" }] });
    invite(&adam, &organization, "eve@example.org", workspaces).await.ok();
    role("MEMBER").await;
    let link = app.mail_to("eve@example.org").await.link();
    let input = json!({
        "token": token_of(&link), "displayName": "Eve", "password": guildhall_tests::actor::PASSWORD,
    });
    app.anonymous().mutate("register", input, "").await.refused("INVITER_LOST_PERMISSION");
    assert_eq!(names(&list(&ada, &lab, json!({})).await.ok()), ["Ada", "Adam"]);
}

async fn the_organization_s_admins_resend_and_revoke(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let workspaces = json!({ "workspaces": [{ "workspaceId": lab.id, "role": "VIEWER" }] });
    let invited = id(&invite(&ada, &organization, "eve@example.org", workspaces).await.ok());
    let first = app.mail_to("eve@example.org").await.link();
    // From inside the workspace it is seen, and decided about by others.
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    let input = json!({ "workspaceId": lab.id, "invitationId": invited });
    adam.mutate("resendInvitation", input.clone(), "").await.refused("ORGANIZATION_INVITATION");
    adam.mutate("revokeInvitation", input, "").await.refused("ORGANIZATION_INVITATION");
    answer_by(&adam, "revokeOrganizationInvitation", &organization, &invited).await.denied("FORBIDDEN");

    answer_by(&ada, "resendOrganizationInvitation", &organization, &invited).await.ok();
    let second = app.mail_to("eve@example.org").await.link();
    assert_ne!(first, second);
    let preview = "query($token: String!) { invitationByToken(token: $token) { status } }";
    let look = async |link: &str| {
        let answer = app.anonymous().query(preview, json!({ "token": token_of(link) })).await.ok();
        answer.data("/invitationByToken").clone()
    };
    assert_eq!((look(&first).await, look(&second).await), (Value::Null, json!({ "status": "PENDING" })));
    let revoked = answer_by(&ada, "revokeOrganizationInvitation", &organization, &invited).await.ok();
    assert_eq!(revoked.data("/revokeOrganizationInvitation/invitation/status"), "REVOKED");
    assert_eq!(look(&second).await, json!({ "status": "REVOKED" }));
    for again in ["revokeOrganizationInvitation", "resendOrganizationInvitation"] {
        answer_by(&ada, again, &organization, &invited).await.refused("INVITATION_NOT_PENDING");
        let nobody = "inv_0193a1b2c3d47e8f9012345678901234";
        answer_by(&ada, again, &organization, nobody).await.refused("NOT_FOUND");
    }
    // One that is to a workspace only is not the organization's to revoke.
    let of_lab = ada.invite(&lab, "ivy@example.org", "VIEWER").await.ok();
    let of_lab = of_lab.text("/inviteMember/invitation/id");
    answer_by(&ada, "revokeOrganizationInvitation", &organization, of_lab).await.refused("NOT_FOUND");
}

async fn an_expired_one_is_replaced(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let workspaces = json!({ "workspaces": [{ "workspaceId": lab.id, "role": "VIEWER" }] });
    invite(&ada, &organization, "eve@example.org", workspaces.clone()).await.ok();
    // Before it expires: a mail that is still queued then is not sent any more.
    app.mail_to("eve@example.org").await;
    app.advance(TimeDelta::hours(169));
    let ada = ada.again().await;
    let list = "{ organization(slug: \"example\") { invitations { nodes { status } } } }";
    let statuses = async |actor: &Actor| {
        let answer = actor.query(list, json!({})).await.ok();
        answer.data("/organization/invitations/nodes").clone()
    };
    assert_eq!(statuses(&ada).await, json!([{ "status": "EXPIRED" }]));
    invite(&ada, &organization, "eve@example.org", workspaces).await.ok();
    assert_eq!(statuses(&ada).await, json!([{ "status": "SUPERSEDED" }, { "status": "PENDING" }]));
    let eve = accept(&app, "eve@example.org", "Eve").await;
    assert_eq!(place(&eve).await, json!(["MEMBER", [["Lab", "VIEWER"]]]));
}

async fn the_invitee_sees_it_live(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    let watch = "subscription { viewerInvitationChanged { status invitation { organizationRole workspaces { name } } } }";
    let mut subscription = olga.subscribe(watch, json!({})).await;
    let invited = id(&invite(&ada, &organization, &olga.email, json!({ "role": "ADMIN" })).await.ok());
    let event = subscription.next().await.ok();
    assert_eq!(
        event.data("/viewerInvitationChanged"),
        &json!({ "status": "PENDING", "invitation": { "organizationRole": "ADMIN", "workspaces": [] } })
    );
    let input = json!({ "invitationId": invited });
    olga.mutate("acceptInvitation", input.clone(), "invitation { status }").await.ok();
    let accepted =
        subscription.until(|event| event.data("/viewerInvitationChanged/status") == "ACCEPTED").await;
    accepted.ok();
    olga.mutate("acceptInvitation", input, "").await.refused("INVITATION_NOT_PENDING");
}

async fn who_joined_meanwhile_gets_what_is_missing(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let (lab, den): (Workspace, Workspace) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    let workspaces = json!({ "role": "ADMIN", "workspaces": [{ "workspaceId": lab.id, "role": "VIEWER" }] });
    let invited = id(&invite(&ada, &organization, "eve@example.org", workspaces).await.ok());
    app.mail_to("eve@example.org").await;
    ada.invite(&den, "eve@example.org", "EDITOR").await.ok();
    let eve = accept(&app, "eve@example.org", "Eve").await;
    assert_eq!(place(&eve).await, json!(["MEMBER", [["Den", "EDITOR"]]]));
    eve.mutate("acceptInvitation", json!({ "invitationId": invited }), "").await.ok();
    let now = place(&eve).await;
    assert_eq!(now[0], "ADMIN");
    let memberships = now[1].as_array().unwrap();
    assert!(
        memberships.contains(&json!(["Lab", "VIEWER"])) && memberships.contains(&json!(["Den", "EDITOR"]))
    );
}

async fn the_invitee_is_told_once_and_each_workspace_too(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    let watch = "subscription { viewerInvitationChanged { status } }";
    let mut invitee = olga.subscribe(watch, json!({})).await;
    let watch = "subscription($id: ID!) { invitationStatusChanged(workspaceId: $id) { status invitation { delivery } } }";
    let mut of_lab = ada.subscribe(watch, json!({ "id": lab.id })).await;
    let mut of_den = ada.subscribe(watch, json!({ "id": den.id })).await;
    let workspaces = json!({ "workspaces": [
        { "workspaceId": lab.id, "role": "VIEWER" }, { "workspaceId": den.id, "role": "VIEWER" },
    ] });
    invite(&ada, &organization, &olga.email, workspaces).await.ok();
    let sent = |event: &Answer| event.data("/invitationStatusChanged/invitation/delivery") == "SENT";
    of_lab.until(sent).await.ok();
    of_den.until(sent).await.ok();
    // Once that it was made, and once that its mail was sent.
    for _ in 0..2 {
        assert_eq!(invitee.next().await.ok().data("/viewerInvitationChanged/status"), "PENDING");
    }
    invitee.no_event_for(200).await;
}

/// How many invitations of an address to a workspace are pending, expired ones too.
const PENDING: &str = "SELECT count(*) FROM invitation_grants g JOIN invitations i ON i.id = g.invitation_id
    JOIN workspaces w ON w.id = g.workspace_id WHERE w.name = 'lab' AND i.status = 'PENDING'";

async fn an_admin_of_one_workspace_leaves_an_expired_one_to_the_organization(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    let workspaces = json!({ "workspaces": [
        { "workspaceId": lab.id, "role": "VIEWER" }, { "workspaceId": den.id, "role": "VIEWER" },
    ] });
    let invited = id(&invite(&ada, &organization, "eve@example.org", workspaces).await.ok());
    // Before it expires: a mail that is still queued then is not sent any more.
    app.mail_to("eve@example.org").await;
    app.advance(TimeDelta::hours(169));
    let (ada, adam) = (ada.again().await, adam.again().await);
    answer_by(&ada, "revokeOrganizationInvitation", &organization, &invited)
        .await
        .refused("INVITATION_NOT_PENDING");
    let other = adam.invite(&lab, "eve@example.org", "EDITOR").await.ok();
    app.mail_to("eve@example.org").await;
    // Now Adam's can be answered, and a second one to the same workspace cannot be beside it.
    let refused = answer_by(&ada, "resendOrganizationInvitation", &organization, &invited).await;
    let refused = refused.refused("ALREADY_INVITED");
    let told = refused.text("/resendOrganizationInvitation/userErrors/0/message");
    assert!(told.contains("“Lab”") && !told.contains("“Den”"), "{told}");
    let other = json!({ "workspaceId": lab.id, "invitationId": other.data("/inviteMember/invitation/id") });
    adam.mutate("revokeInvitation", other, "").await.ok();
    answer_by(&ada, "resendOrganizationInvitation", &organization, &invited).await.ok();
    assert_eq!(app.number(PENDING).await, 1);
    // It has its place in the workspace again.
    adam.invite(&lab, "eve@example.org", "EDITOR").await.refused("ALREADY_INVITED");
    let eve = accept(&app, "eve@example.org", "Eve").await;
    let opened = place(&eve).await;
    assert_eq!(opened, json!(["MEMBER", [["Lab", "VIEWER"], ["Den", "VIEWER"]]]));
}

async fn one_that_is_sent_again_replaces_what_expired_in_its_place(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let workspaces = json!({ "workspaces": [{ "workspaceId": lab.id, "role": "VIEWER" }] });
    let invited = id(&invite(&ada, &organization, "eve@example.org", workspaces).await.ok());
    app.mail_to("eve@example.org").await;
    app.advance(TimeDelta::hours(169));
    let ada = ada.again().await;
    let other = ada.invite(&lab, "eve@example.org", "EDITOR").await.ok();
    app.mail_to("eve@example.org").await;
    app.advance(TimeDelta::hours(169));
    let ada = ada.again().await;
    let watch =
        "subscription($id: ID!) { invitationStatusChanged(workspaceId: $id) { status invitation { id } } }";
    let mut watching = ada.subscribe(watch, json!({ "id": lab.id })).await;
    let resent = answer_by(&ada, "resendOrganizationInvitation", &organization, &invited).await.ok();
    assert_eq!(resent.data("/resendOrganizationInvitation/invitation/status"), "PENDING");
    let event = watching.until(|event| event.data("/invitationStatusChanged/status") == "SUPERSEDED").await;
    let other = other.text("/inviteMember/invitation/id");
    assert_eq!(event.ok().data("/invitationStatusChanged/invitation/id"), other);
    assert_eq!(app.number(PENDING).await, 1);
    let again = json!({ "workspaceId": lab.id, "invitationId": other });
    ada.mutate("resendInvitation", again, "").await.refused("INVITATION_NOT_PENDING");
    ada.invite(&lab, "eve@example.org", "EDITOR").await.refused("ALREADY_INVITED");
    let eve = accept(&app, "eve@example.org", "Eve").await;
    assert_eq!(place(&eve).await, json!(["MEMBER", [["Lab", "VIEWER"]]]));
}

async fn a_role_that_is_given_up_is_given_by_no_invitation_that_is_sent_again(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    let role = crate::roles::made(&ada, &organization, "Helper", &["ITEM_READ"]).await;
    let workspaces = json!({ "workspaces": [{ "workspaceId": lab.id, "role": role }] });
    let invited = id(&invite(&ada, &organization, "eve@example.org", workspaces).await.ok());
    app.advance(TimeDelta::hours(169));
    let (ada, adam) = (ada.again().await, adam.again().await);
    // Another invitation has its place in the workspace, but it can still be sent again.
    let other = adam.invite(&lab, "eve@example.org", "EDITOR").await.ok();
    let give_up = |replacement: Value| {
        let input = json!({ "organizationId": organization, "roleId": role, "replacement": replacement });
        let ada = ada.clone();
        async move { ada.mutate("deleteRole", input, "invitationsMoved").await }
    };
    give_up(Value::Null).await.refused("ROLE_IN_USE");
    assert_eq!(give_up(json!("VIEWER")).await.ok().data("/deleteRole/invitationsMoved"), 1);
    let other = json!({ "workspaceId": lab.id, "invitationId": other.data("/inviteMember/invitation/id") });
    adam.mutate("revokeInvitation", other, "").await.ok();
    answer_by(&ada, "resendOrganizationInvitation", &organization, &invited).await.ok();
    let mail = loop {
        let mail = app.mail_to("eve@example.org").await;
        if mail.subject() == "Ada invited you to Example" && mail.text().contains("as Viewer") {
            break mail;
        }
    };
    let eve = Actor::register(&app.url, token_of(&mail.link()), "Eve").await;
    assert_eq!(place(&eve).await, json!(["MEMBER", [["Lab", "VIEWER"]]]));
}

async fn answers_while_the_mail_is_being_sent_wait_their_turn(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    // What the mail server took is written down the moment after: just when the guest answers.
    let rounds = (0..40).map(|n| {
        let (app, ada, organization) = (&app, &ada, &organization);
        async move {
            let email = format!("guest{n}@example.org");
            let invited = id(&invite(ada, organization, &email, json!({})).await.ok());
            for _ in 0..3 {
                app.mail_to(&email).await;
                answer_by(ada, "resendOrganizationInvitation", organization, &invited).await.ok();
            }
            app.mail_to(&email).await;
            answer_by(ada, "revokeOrganizationInvitation", organization, &invited).await.ok();
        }
    });
    // Ten guests at a time: a mail then waits for few others.
    stream::iter(rounds).buffer_unordered(10).collect::<()>().await;
    let open = app.number("SELECT count(*) FROM invitations WHERE status <> 'REVOKED'").await;
    assert_eq!(open, 0);
}
