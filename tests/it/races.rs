//! What many people do at the same moment: one wins, the others get a coded answer, and the rules hold
//! afterwards.

use std::{collections::BTreeMap, time::Duration};

use chrono::TimeDelta;
use futures_util::future::{join, join_all};
use guildhall_domain::access::SystemRole;
use guildhall_tests::{
    Actor, Answer, App, Workspace,
    actor::{PASSWORD, token_of},
    both_databases,
    databases::{Engine, run},
};
use serde_json::{Value, json};

both_databases!(
    App::start,
    two_admins_who_demote_each_other_leave_one,
    admins_who_all_go_at_once_leave_one,
    one_invitation_accepted_twenty_times_makes_one_membership,
    one_link_registers_one_account,
    accepting_revoking_and_resending_at_once_agree,
    twenty_invitations_of_one_address_make_one,
    one_that_is_sent_again_and_a_new_one_at_once_leave_one,
    of_two_set_ups_one_wins,
    writers_of_many_workspaces_do_not_disturb_each_other,
    bulk_invitations_of_the_same_people_in_opposite_order_both_succeed,
    two_removals_of_one_person_leave_a_true_default,
    removals_that_fall_back_into_each_other_both_succeed,
    two_hundred_calls_of_every_kind_leave_a_workspace_an_admin,
);

/// `OK`, or the code of the refusal. Nobody is told that something went wrong inside.
#[track_caller]
fn outcome(answer: &Answer) -> String {
    let code = if !answer.errors().is_empty() {
        answer.code()
    } else if answer.user_errors().is_empty() {
        "OK"
    } else {
        answer.user_error()
    };
    assert_ne!(code, "INTERNAL", "{answer}");
    code.to_owned()
}

#[track_caller]
pub(crate) fn tally<'a>(answers: impl IntoIterator<Item = &'a Answer>) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for answer in answers {
        *tally.entry(outcome(answer)).or_default() += 1;
    }
    tally
}

/// The members of a workspace by address: membership and role.
async fn members(admin: &Actor, workspace: &Workspace) -> BTreeMap<String, (String, String)> {
    let document = "query($name: String!) { workspace(name: $name) { members(first: 100) {
        nodes { id role { key } principal { ... on User { email } } }
    } } }";
    let answer = admin.query(document, json!({ "name": workspace.name })).await.ok();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let nodes = answer.data("/workspace/members/nodes").as_array().unwrap();
    nodes
        .iter()
        .map(|node| (text(&node["principal"]["email"]), (text(&node["id"]), text(&node["role"]["key"]))))
        .collect()
}

async fn set_role(by: &Actor, workspace: &Workspace, member: &str, role: &str) -> Answer {
    let input = json!({ "workspaceId": workspace.id, "memberId": member, "role": role });
    by.mutate("updateMemberRole", input, "member { id }").await
}

async fn remove(by: &Actor, workspace: &Workspace, member: &str) -> Answer {
    let input = json!({ "workspaceId": workspace.id, "memberId": member });
    by.mutate("removeMember", input, "member { id }").await
}

async fn leave(actor: &Actor, workspace: &Workspace) -> Answer {
    actor.mutate("leaveWorkspace", json!({ "workspaceId": workspace.id }), "member { id }").await
}

/// Makes somebody who has an account a member.
async fn add(app: &App, workspace: &Workspace, actor: &Actor, role: &str) {
    workspace.admin.invite(workspace, &actor.email, role).await.ok();
    let link = app.mail_to(&actor.email).await.link();
    let input = json!({ "token": token_of(&link) });
    actor.mutate("acceptInvitation", input, "invitation { id }").await.ok();
}

async fn two_admins_who_demote_each_other_leave_one(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let bob = app.member(&lab, SystemRole::Admin, "Bob").await;
    let cleo = app.member(&lab, SystemRole::Admin, "Cleo").await;
    leave(&ada, &lab).await.ok();
    let ids = members(&ada, &lab).await;
    let (bob_id, cleo_id) = (&ids["bob@example.org"].0, &ids["cleo@example.org"].0);
    for round in 0..30 {
        let (first, second) =
            join(set_role(&bob, &lab, cleo_id, "EDITOR"), set_role(&cleo, &lab, bob_id, "EDITOR")).await;
        let tally = tally([&first, &second]);
        assert_eq!(tally.get("OK"), Some(&1), "round {round}: {tally:?}");
        let roles = members(&ada, &lab).await;
        let admins = roles.values().filter(|(_, role)| role == "ADMIN").count();
        assert_eq!(admins, 1, "round {round}: {roles:?}");
        for id in [bob_id, cleo_id] {
            set_role(&ada, &lab, id, "ADMIN").await.ok();
        }
    }
}

async fn admins_who_all_go_at_once_leave_one(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let mut admins = Vec::new();
    for name in ["Bob", "Cleo", "Dan", "Eve"] {
        admins.push(app.member(&lab, SystemRole::Admin, name).await);
    }
    for round in 0..3 {
        let ids = members(&ada, &lab).await;
        let mut work = Vec::new();
        for (place, actor) in admins.iter().chain([&ada]).enumerate() {
            let others: Vec<&String> =
                ids.iter().filter(|(email, _)| **email != actor.email).map(|(_, (id, _))| id).collect();
            let (first, second) =
                (others[place % others.len()].clone(), others[(place + 1) % others.len()].clone());
            let lab = &lab;
            let own = ids[&actor.email].0.clone();
            work.push(join_all([
                Box::pin(async move { leave(actor, lab).await })
                    as std::pin::Pin<Box<dyn Future<Output = Answer>>>,
                Box::pin(async move { remove(actor, lab, &first).await }),
                Box::pin(async move { set_role(actor, lab, &second, "VIEWER").await }),
                Box::pin(async move { set_role(actor, lab, &own, "EDITOR").await }),
            ]));
        }
        let answers: Vec<Answer> = join_all(work).await.into_iter().flatten().collect();
        let tally = tally(&answers);
        assert_eq!(answers.len(), 20);
        let known = ["OK", "LAST_ADMIN", "FORBIDDEN", "NOT_FOUND", "OWNER_PROTECTED"];
        assert!(tally.keys().all(|code| known.contains(&code.as_str())), "round {round}: {tally:?}");
        let left = members(&ada, &lab).await;
        let still = left.values().filter(|(_, role)| role == "ADMIN").count();
        assert!(still >= 1, "round {round}: {tally:?}, and no admin among {left:?}");

        // All back to where they were.
        for actor in admins.iter().chain([&ada]) {
            match left.get(&actor.email) {
                Some((id, _)) => drop(set_role(&ada, &lab, id, "ADMIN").await.ok()),
                None => add(&app, &lab, actor, "ADMIN").await,
            }
        }
    }
}

async fn one_invitation_accepted_twenty_times_makes_one_membership(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let eve = app.person("eve@example.org", "Eve").await;
    let invited = ada.invite(&lab, &eve.email, "EDITOR").await.ok();
    let link = app.mail_to(&eve.email).await.link();
    let answers = join_all((0..20).map(|n| {
        let input = match n % 2 {
            0 => json!({ "token": token_of(&link) }),
            _ => json!({ "invitationId": invited.data("/inviteMember/invitation/id") }),
        };
        eve.mutate("acceptInvitation", input, "invitation { status }")
    }))
    .await;
    let expected = BTreeMap::from([("INVITATION_NOT_PENDING".to_owned(), 19), ("OK".to_owned(), 1)]);
    assert_eq!(tally(&answers), expected);
    let count = format!("SELECT count(*) FROM memberships WHERE workspace_id = {}", app.literal(&lab.id));
    assert_eq!(app.number(&count).await, 2);
    let told = "SELECT count(*) FROM events WHERE state = 'ACCEPTED'";
    assert_eq!(app.number(told).await, 2, "hers to this workspace and the one to the default workspace");
}

async fn one_link_registers_one_account(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    ada.invite(&lab, "eve@example.org", "VIEWER").await.ok();
    let link = app.mail_to("eve@example.org").await.link();
    let nobody = app.anonymous();
    let answers = join_all((0..8).map(|n| {
        let input =
            json!({ "token": token_of(&link), "displayName": format!("Eve {n}"), "password": PASSWORD });
        nobody.mutate("register", input, "user { id }")
    }))
    .await;
    let expected = BTreeMap::from([("INVITATION_NOT_PENDING".to_owned(), 7), ("OK".to_owned(), 1)]);
    assert_eq!(tally(&answers), expected);
    assert_eq!(app.number("SELECT count(*) FROM users").await, 2);
}

async fn accepting_revoking_and_resending_at_once_agree(app: App) {
    let ada = app.set_up().await;
    let eve = app.person("eve@example.org", "Eve").await;
    for round in 0..12 {
        let lab = ada.workspace(&format!("Lab {round}")).await;
        let invited = ada.invite(&lab, &eve.email, "EDITOR").await.ok();
        let id = invited.data("/inviteMember/invitation/id");
        let by_id = json!({ "workspaceId": lab.id, "invitationId": id });
        let accept = eve.mutate("acceptInvitation", json!({ "invitationId": id }), "invitation { id }");
        let decline = eve.mutate("declineInvitation", json!({ "invitationId": id }), "invitation { id }");
        let revoke = ada.mutate("revokeInvitation", by_id.clone(), "invitation { id }");
        let resend = ada.mutate("resendInvitation", by_id, "invitation { id }");
        let (((accepted, revoked), resent), declined) =
            join(join(join(accept, revoke), resend), decline).await;
        let [accepted, revoked, resent, declined] = [&accepted, &revoked, &resent, &declined].map(outcome);
        let answers = format!("accept {accepted}, revoke {revoked}, resend {resent}, decline {declined}");
        let query = "query($name: String!) { workspace(name: $name) {
            invitations { nodes { status } } members { totalCount }
        } }";
        let after = ada.query(query, json!({ "name": lab.name })).await.ok();
        let status = after.text("/workspace/invitations/nodes/0/status").to_owned();
        let expected = match (accepted.as_str(), revoked.as_str(), declined.as_str()) {
            ("OK", "INVITATION_NOT_PENDING", "INVITATION_NOT_PENDING") => "ACCEPTED",
            ("INVITATION_NOT_PENDING", "OK", "INVITATION_NOT_PENDING") => "REVOKED",
            ("INVITATION_NOT_PENDING", "INVITATION_NOT_PENDING", "OK") => "DECLINED",
            _ => panic!("not exactly one of them won: {answers}"),
        };
        assert!(["OK", "INVITATION_NOT_PENDING"].contains(&resent.as_str()), "{answers}");
        assert_eq!(status, expected, "{answers}");
        let count = after.data("/workspace/members/totalCount");
        assert_eq!(count, if status == "ACCEPTED" { 2 } else { 1 }, "{answers}");
    }
}

async fn twenty_invitations_of_one_address_make_one(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let bob = app.member(&lab, SystemRole::Admin, "Bob").await;
    let spellings = ["eve@example.org", "Eve@Example.org", " eve@example.org ", "EVE@EXAMPLE.ORG"];
    let answers = join_all((0..20).map(|n| {
        let by = if n % 2 == 0 { &ada } else { &bob };
        by.invite(&lab, spellings[n % spellings.len()], "VIEWER")
    }))
    .await;
    let expected = BTreeMap::from([("ALREADY_INVITED".to_owned(), 19), ("OK".to_owned(), 1)]);
    assert_eq!(tally(&answers), expected);
    app.mail_to("eve@example.org").await;
    assert_eq!(app.number("SELECT count(*) FROM mails WHERE recipient = 'eve@example.org'").await, 1);
}

async fn one_that_is_sent_again_and_a_new_one_at_once_leave_one(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let emails: Vec<_> = (0..8).map(|n| format!("guest{n}@example.org")).collect();
    let mut invited = Vec::new();
    for email in &emails {
        let input = json!({ "organizationId": organization, "email": email,
            "workspaces": [{ "workspaceId": lab.id, "role": "VIEWER" }] });
        let answer = ada.mutate("inviteOrganizationMember", input, "invitation { id }").await.ok();
        invited.push(answer.data("/inviteOrganizationMember/invitation/id").clone());
    }
    app.advance(TimeDelta::hours(169));
    let ada = ada.again().await;
    for (email, id) in emails.iter().zip(invited) {
        let input = json!({ "organizationId": organization, "invitationId": id });
        let resend = ada.mutate("resendOrganizationInvitation", input, "invitation { id }");
        let (resent, invited) = join(resend, ada.invite(&lab, email, "EDITOR")).await;
        let expected = BTreeMap::from([("ALREADY_INVITED".to_owned(), 1), ("OK".to_owned(), 1)]);
        assert_eq!(tally(&[resent, invited]), expected);
    }
    // Those that made room have expired; what can be answered is one for each address.
    assert_eq!(app.number("SELECT count(*) FROM invitation_grants WHERE pending").await, 8);
    let document =
        "query($name: String!) { workspace(name: $name) { invitations(status: [PENDING]) { totalCount } } }";
    let live = ada.query(document, json!({ "name": lab.name })).await.ok();
    assert_eq!(live.data("/workspace/invitations/totalCount"), 8);
}

async fn of_two_set_ups_one_wins(app: App) {
    let nobody = app.anonymous();
    let answers = join_all((0..4).map(|n| {
        let input = json!({
            "token": app.setup_token, "email": format!("owner{n}@example.org"), "displayName": "Owner",
            "password": PASSWORD, "organizationName": format!("Organization {n}"),
        });
        nobody.mutate("setUp", input, "user { id }")
    }))
    .await;
    assert_eq!(tally(&answers), BTreeMap::from([("OK".to_owned(), 1), ("SETUP_DONE".to_owned(), 3)]));
    for table in ["users", "organizations", "organization_members", "workspaces", "memberships"] {
        assert_eq!(app.number(&format!("SELECT count(*) FROM {table}")).await, 1, "{table}");
    }
}

async fn writers_of_many_workspaces_do_not_disturb_each_other(app: App) {
    let ada = app.set_up().await;
    let workspaces = join_all((0..32).map(|n| {
        let ada = ada.clone();
        async move { ada.workspace(&format!("W {n}")).await }
    }))
    .await;
    let answers = join_all(workspaces.iter().enumerate().map(|(n, workspace)| {
        let ada = &ada;
        async move {
            let id = json!({ "workspaceId": workspace.id });
            let mut describe = id.clone();
            describe["description"] = json!(format!("text {n}"));
            let mut update = id.clone();
            update["displayName"] = json!(format!("Renamed {n}"));
            let guest = format!("guest{n}@example.org");
            [
                ada.mutate("describeWorkspace", describe, "workspace { id }").await,
                ada.mutate("updateWorkspace", update, "workspace { id }").await,
                ada.invite(workspace, &guest, "VIEWER").await,
                ada.invite(workspace, "eve@example.org", "VIEWER").await,
                ada.mutate("switchWorkspace", id, "workspace { id }").await,
            ]
        }
    }))
    .await;
    assert_eq!(tally(answers.iter().flatten()), BTreeMap::from([("OK".to_owned(), 160)]));
    assert_eq!(app.number("SELECT count(*) FROM workspaces WHERE display_name LIKE 'Renamed %'").await, 32);
    assert_eq!(app.number("SELECT count(*) FROM invitations").await, 64);
}

async fn bulk_invitations_of_the_same_people_in_opposite_order_both_succeed(app: App) {
    let ada = app.set_up().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    for round in 0..6 {
        let people: Vec<Value> = (0..40)
            .map(|n| json!({ "email": format!("p{n}r{round}@example.org"), "role": "VIEWER" }))
            .collect();
        let backwards: Vec<&Value> = people.iter().rev().collect();
        let selection = "results { invitation { id } userErrors { code } }";
        let (first, second) = join(
            ada.mutate("inviteMembers", json!({ "workspaceId": lab.id, "invitees": people }), selection),
            ada.mutate("inviteMembers", json!({ "workspaceId": den.id, "invitees": backwards }), selection),
        )
        .await;
        assert_eq!(tally([&first, &second]), BTreeMap::from([("OK".to_owned(), 2)]), "round {round}");
    }
}

async fn two_removals_of_one_person_leave_a_true_default(app: App) {
    let ada = app.set_up().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    add(&app, &den, &eve, "VIEWER").await;
    add(&app, app.default_workspace(), &eve, "VIEWER").await;
    for round in 0..10 {
        let from_lab = members(&ada, &lab).await["eve@example.org"].0.clone();
        let from_den = members(&ada, &den).await["eve@example.org"].0.clone();
        let (first, second) = join(remove(&ada, &lab, &from_lab), remove(&ada, &den, &from_den)).await;
        assert_eq!(tally([&first, &second]), BTreeMap::from([("OK".to_owned(), 2)]), "round {round}");
        let lands =
            eve.query("{ viewer { defaultWorkspace { name } lastWorkspace { name } } }", json!({})).await;
        let default = json!({ "name": app.default_workspace().name });
        assert_eq!(
            lands.ok().data("/viewer"),
            &json!({ "defaultWorkspace": default, "lastWorkspace": default }),
            "round {round}"
        );
        add(&app, &lab, &eve, "VIEWER").await;
        add(&app, &den, &eve, "VIEWER").await;
        for mutation in ["setDefaultWorkspace", "switchWorkspace"] {
            eve.mutate(mutation, json!({ "workspaceId": lab.id }), "workspace { id }").await.ok();
        }
        // The next in age is the other one that she loses at the same moment.
        app.sql(&format!(
            "DELETE FROM memberships WHERE user_id = {} AND workspace_id = {}",
            app.literal(&eve.id),
            app.literal(&app.default_workspace().id)
        ))
        .await;
        add(&app, app.default_workspace(), &eve, "VIEWER").await;
    }
}

async fn removals_that_fall_back_into_each_other_both_succeed(app: App) {
    let ada = app.set_up().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    let max = app.member(&den, SystemRole::Viewer, "Max").await;
    add(&app, &den, &eve, "VIEWER").await;
    add(&app, &lab, &max, "VIEWER").await;
    for round in 0..8 {
        let from_lab = members(&ada, &lab).await["eve@example.org"].0.clone();
        let from_den = members(&ada, &den).await["max@example.org"].0.clone();
        let (first, second) = join(remove(&ada, &lab, &from_lab), remove(&ada, &den, &from_den)).await;
        assert_eq!(tally([&first, &second]), BTreeMap::from([("OK".to_owned(), 2)]), "round {round}");
        add(&app, &lab, &eve, "VIEWER").await;
        add(&app, &den, &max, "VIEWER").await;
        for (actor, workspace) in [(&eve, &lab), (&max, &den)] {
            for mutation in ["setDefaultWorkspace", "switchWorkspace"] {
                actor.mutate(mutation, json!({ "workspaceId": workspace.id }), "workspace { id }").await.ok();
            }
        }
    }
}

/// What follows a demotion in the same breath sees it, whoever asks and over whichever process.
#[test]
fn a_second_process_sees_the_demotion_at_once() {
    run(Engine::Postgres, App::start, async |app: App| {
        let ada = app.set_up().await;
        let lab = ada.workspace("Lab").await;
        let bob = app.member(&lab, SystemRole::Admin, "Bob").await;
        let other = app.second_process().await;
        let id = members(&ada, &lab).await["bob@example.org"].0.clone();
        let (there, watch) = (
            bob.at(&other.url),
            "subscription($id: ID!) { invitationStatusChanged(workspaceId: $id) { status } }",
        );
        let mut watching = there.subscribe(watch, json!({ "id": lab.id })).await;
        set_role(&ada, &lab, &id, "EDITOR").await.ok();
        there.invite(&lab, "zoe@example.org", "VIEWER").await.denied("FORBIDDEN");
        let ended = tokio::time::timeout(Duration::from_secs(1), watching.ended()).await;
        assert!(ended.is_ok(), "the subscription at the other process ends within a second");
    });
}

type Call<'a> = std::pin::Pin<Box<dyn Future<Output = Answer> + 'a>>;

/// Demotions, removals, leaving, accepting, disabling, enabling and edits of a role at the same moment.
async fn two_hundred_calls_of_every_kind_leave_a_workspace_an_admin(app: App) {
    const MANAGES: &[&str] = &["MEMBERS_VIEW", "MEMBERS_MANAGE", "MEMBERS_INVITE"];
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let lab = ada.workspace("Lab").await;
    let steward = crate::roles::made(&ada, &organization, "Steward", MANAGES).await;
    let mut people = Vec::new();
    for name in ["Bob", "Cleo", "Dan", "Eve", "Fay", "Gus", "Hal"] {
        people.push(app.member(&lab, SystemRole::Admin, name).await);
    }
    let place = |user: &Actor, is_active: bool| {
        let (ada, input) = (&ada, json!({ "organizationId": organization, "userId": user.id }));
        let mutation = if is_active { "enableUser" } else { "disableUser" };
        async move { ada.mutate(mutation, input, "").await }
    };
    let mut open = BTreeMap::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for round in 0..3 {
        // Whoever is out at the beginning of a round is asked back, and answers in the midst of it.
        let mut invitations = Vec::new();
        let ids = members(&ada, &lab).await;
        for person in &mut people {
            place(person, true).await.ok();
            *person = person.again().await;
            if !ids.contains_key(&person.email) {
                let role = if round == 1 { "ADMIN" } else { steward.as_str() };
                let invited = ada.invite(&lab, &person.email, role).await;
                // One that nobody came to answer is open still.
                if outcome(&invited) == "OK" {
                    let id = invited.text("/inviteMember/invitation/id").to_owned();
                    open.insert(person.email.clone(), id);
                }
                invitations.push((person.clone(), open[&person.email].clone()));
            }
        }
        let ids: Vec<String> = ids.into_values().map(|(id, _)| id).collect();
        let roles = ["VIEWER", steward.as_str(), "ADMIN", "EDITOR"];
        let calls = (0..200).map(|n: usize| -> Call<'_> {
            let (actor, other) = (&people[n % people.len()], &people[(n / 3) % people.len()]);
            let (id, role) = (&ids[(n / 5) % ids.len()], roles[(n / 7) % roles.len()]);
            let (ada, lab, organization, steward) = (&ada, &lab, &organization, &steward);
            match n % 8 {
                0 => Box::pin(leave(actor, lab)),
                1 | 2 => Box::pin(set_role(actor, lab, id, role)),
                3 => Box::pin(remove(actor, lab, id)),
                4 => match invitations.get((n / 8) % invitations.len().max(1)) {
                    Some((person, invitation)) => {
                        let input = json!({ "invitationId": invitation });
                        Box::pin(async move { person.mutate("acceptInvitation", input, "").await })
                    }
                    None => Box::pin(set_role(ada, lab, id, steward)),
                },
                5 => Box::pin(place(other, n.is_multiple_of(3))),
                6 => {
                    let held = if n % 16 == 6 { &["ITEM_READ"] } else { MANAGES };
                    Box::pin(crate::roles::edit(ada, organization, steward, held))
                }
                _ => Box::pin(set_role(ada, lab, id, role)),
            }
        });
        let answers = join_all(calls).await;
        for (code, number) in tally(&answers) {
            *seen.entry(code).or_default() += number;
        }
        let admins = app
            .number(&format!(
                "SELECT count(*) FROM memberships m JOIN roles r ON r.id = m.role_id
                 JOIN organization_members om ON om.user_id = m.user_id AND om.status = 'ACTIVE'
                 WHERE m.expires_at IS NULL AND m.workspace_id = {}
                 AND (r.key = 'ADMIN' OR r.permissions LIKE '%\"members.manage\"%')",
                app.literal(&lab.id)
            ))
            .await;
        assert!(admins >= 1, "round {round}: {seen:?}");
        let twice = "SELECT count(*) FROM (SELECT 1 AS one FROM memberships GROUP BY workspace_id, user_id HAVING count(*) > 1) t";
        assert_eq!(app.number(twice).await, 0, "round {round}");
    }
    let known = [
        "OK",
        "LAST_ADMIN",
        "FORBIDDEN",
        "NOT_FOUND",
        "UNAUTHENTICATED",
        "OWNER_PROTECTED",
        "PRIVILEGE_ESCALATION",
        "INVITATION_NOT_PENDING",
        "INVITER_LOST_PERMISSION",
        "USER_DISABLED",
    ];
    assert!(seen.contains_key("OK"), "{seen:?}");
    // Whoever was left, the last of them stays: an admin of the organization takes the role from one after the other.
    let mut last = Vec::new();
    for (id, _) in members(&ada, &lab).await.into_values() {
        last.push(set_role(&ada, &lab, &id, "VIEWER").await);
    }
    for (code, number) in tally(&last) {
        *seen.entry(code).or_default() += number;
    }
    assert!(seen.keys().all(|code| known.contains(&code.as_str())), "{seen:?}");
    assert!(seen.contains_key("LAST_ADMIN"), "{seen:?}");
}
