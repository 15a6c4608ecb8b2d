//! How much organizations and workspaces may have and use: exactly so much gets through, whoever asks at once, and everybody
//! is told how much that is.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, TimeDelta, Utc};
use futures_util::future::join_all;
use guildhall_domain::{
    access::{System, SystemRole},
    quotas::Metric,
};
use guildhall_persistence::{housekeeping, quotas};
use guildhall_tests::{
    Actor, Answer, App, Workspace,
    actor::{PASSWORD, token_of},
    both_databases,
    databases::{Engine, run},
    subscription::End,
};
use serde_json::{Value, json};

use crate::races::tally;

both_databases!(
    App::start,
    members_and_pending_invitations_have_seats,
    an_invitation_that_is_sent_again_after_it_made_room_takes_its_seat_again,
    a_seat_of_the_organization_is_for_a_person,
    whoever_accepts_after_the_limit_was_lowered_waits,
    an_organization_has_so_many_workspaces,
    credits_are_spent_from_the_workspace_s_and_the_organization_s,
    what_is_kept_is_counted_up_and_down,
    two_hundred_at_once_spend_exactly_the_limit,
    two_hundred_invitations_at_once_fill_exactly_the_seats,
    machines_call_exactly_as_often_as_they_may,
    calls_are_counted_without_a_statement_each,
    a_dead_key_uses_up_nothing,
    what_was_taken_yesterday_is_not_given_back_to_today,
    admins_are_warned_once_of_each_limit,
    charts_tell_of_each_day,
    who_sets_quotas_and_how,
    an_operator_s_ceiling_holds_for_admins,
);

const QUOTA: &str =
    "quota { metric scope window limit ownLimit limitAbove used usedAbove remaining resetsAt }";

/// Limits the workspace, or its organization.
async fn limit(by: &Actor, workspace: Option<&Workspace>, metric: &str, limit: Value) -> Answer {
    let organization = by.organization().await;
    let workspace = workspace.map(|workspace| &workspace.id);
    let input =
        json!({ "organizationId": organization, "workspaceId": workspace, "metric": metric, "limit": limit });
    by.mutate("setQuota", input, QUOTA).await
}

async fn spend(by: &Actor, workspace: &Workspace, amount: i64) -> Answer {
    let input = json!({ "workspaceId": workspace.id, "amount": amount, "purpose": "Forecast" });
    by.mutate("spendCredits", input, QUOTA).await
}

async fn adjust(by: &Actor, workspace: &Workspace, metric: &str, amount: i64) -> Answer {
    let input = json!({ "workspaceId": workspace.id, "metric": metric, "by": amount });
    by.mutate("adjustUsage", input, QUOTA).await
}

/// The quota of which a refusal tells.
async fn exceeded(by: &Actor, mutation: &str, input: Value) -> Value {
    // Merged with what is asked of every refusal.
    let told = "userErrors { quota { metric scope limit used resetsAt } }";
    let answer = by.mutate(mutation, input, told).await;
    let refused = answer.refused("QUOTA_EXCEEDED");
    refused.data(&format!("/{mutation}/userErrors/0/quota")).clone()
}

/// A quota of the workspace as its members see it.
async fn quota(by: &Actor, workspace: &Workspace, metric: &str) -> Value {
    let document = "query($name: String!) { workspace(name: $name) { quotas {
        metric scope window limit ownLimit limitAbove used usedAbove remaining resetsAt } } }";
    let answer = by.query(document, json!({ "name": workspace.name })).await.ok();
    let quotas = answer.data("/workspace/quotas").as_array().unwrap().clone();
    quotas.into_iter().find(|quota| quota["metric"] == metric).unwrap()
}

async fn organization_quota(by: &Actor, metric: &str) -> Value {
    let document = "query($id: ID!) { node(id: $id) { ... on Organization { quotas {
        metric scope window limit ownLimit limitAbove used usedAbove remaining resetsAt } } } }";
    let answer = by.query(document, json!({ "id": by.organization().await })).await.ok();
    let quotas = answer.data("/node/quotas").as_array().unwrap().clone();
    quotas.into_iter().find(|quota| quota["metric"] == metric).unwrap()
}

async fn members_and_pending_invitations_have_seats(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    assert_eq!(quota(&ada, &lab, "MEMBERS").await["limit"], Value::Null, "nothing is limited at first");
    let set = limit(&ada, Some(&lab), "MEMBERS", json!(3)).await.ok();
    assert_eq!(
        set.data("/setQuota/quota"),
        &json!({ "metric": "MEMBERS", "scope": "WORKSPACE", "window": "NONE", "limit": 3, "ownLimit": 3,
                 "limitAbove": null, "used": 1, "usedAbove": null, "remaining": 2, "resetsAt": null })
    );
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    let pending = ada.invite(&lab, "ivan@example.org", "VIEWER").await.ok();
    assert_eq!(quota(&eve, &lab, "MEMBERS").await["remaining"], 0, "whoever views the workspace sees it");

    let input = json!({ "workspaceId": lab.id, "email": "ida@example.org", "role": "VIEWER" });
    let told = exceeded(&ada, "inviteMember", input.clone()).await;
    let full = json!({ "metric": "MEMBERS", "scope": "WORKSPACE", "limit": 3, "used": 3, "resetsAt": null });
    assert_eq!(told, full);
    assert_eq!(app.number("SELECT count(*) FROM invitations").await, 2, "nothing is half-written");
    let organization = ada.organization().await;
    let grants = json!([{ "workspaceId": lab.id, "role": "VIEWER" }]);
    let other =
        json!({ "organizationId": organization, "email": "ida@example.org", "workspaces": grants.clone() });
    assert_eq!(exceeded(&ada, "inviteOrganizationMember", other).await, full);
    // Of several, those for whom there is room.
    ada.mutate(
        "removeMember",
        json!({ "workspaceId": lab.id, "memberId": crate::members::membership(&lab, &eve).await }),
        "",
    )
    .await
    .ok();
    let invitees = json!([
        { "email": "jon@example.org", "role": "VIEWER" }, { "email": "kim@example.org", "role": "VIEWER" }
    ]);
    let input_of_many = json!({ "workspaceId": lab.id, "invitees": invitees });
    let many =
        ada.mutate("inviteMembers", input_of_many, "results { invitation { id } userErrors { code } }").await;
    assert!(many.data("/inviteMembers/results/0/invitation/id").is_string(), "{many}");
    assert_eq!(many.data("/inviteMembers/results/1/userErrors/0/code"), "QUOTA_EXCEEDED");

    // Whoever is invited already keeps their seat when the mail is sent again.
    let again = json!({ "workspaceId": lab.id, "invitationId": pending.data("/inviteMember/invitation/id") });
    ada.mutate("resendInvitation", again.clone(), "").await.ok();
    // One that has expired gives its seat up, and needs one to be sent again.
    app.advance(TimeDelta::days(8));
    let ada = ada.again().await;
    assert_eq!(quota(&ada, &lab, "MEMBERS").await["used"], 1);
    for name in ["lea", "max"] {
        ada.invite(&lab, &format!("{name}@example.org"), "VIEWER").await.ok();
    }
    assert_eq!(exceeded(&ada, "resendInvitation", again).await, full);
    limit(&ada, Some(&lab), "MEMBERS", Value::Null).await.ok();
    ada.mutate("inviteMember", input, "").await.ok();
}

async fn an_invitation_that_is_sent_again_after_it_made_room_takes_its_seat_again(app: App) {
    let ada = app.set_up().await;
    let (lab, organization) = (ada.workspace("Lab").await, ada.organization().await);
    limit(&ada, Some(&lab), "MEMBERS", json!(2)).await.ok();
    let grants = json!([{ "workspaceId": lab.id, "role": "VIEWER" }]);
    let input = json!({ "organizationId": organization, "email": "eve@example.org", "workspaces": grants });
    let invited = ada.mutate("inviteOrganizationMember", input, "invitation { id }").await.ok();
    let resend = json!({
        "organizationId": organization, "invitationId": invited.data("/inviteOrganizationMember/invitation/id"),
    });
    app.advance(TimeDelta::hours(169));
    let ada = ada.again().await;
    for email in ["eve@example.org", "ivan@example.org"] {
        // The workspace's own, in its place; then somebody else.
        let other = ada.invite(&lab, email, "VIEWER").await.ok();
        let code = if email.starts_with("eve") { "ALREADY_INVITED" } else { "QUOTA_EXCEEDED" };
        ada.mutate("resendOrganizationInvitation", resend.clone(), "").await.refused(code);
        let other =
            json!({ "workspaceId": lab.id, "invitationId": other.data("/inviteMember/invitation/id") });
        ada.mutate("revokeInvitation", other, "").await.ok();
    }
    assert_eq!(quota(&ada, &lab, "MEMBERS").await["remaining"], 1);
    ada.mutate("resendOrganizationInvitation", resend, "").await.ok();
    assert_eq!(quota(&ada, &lab, "MEMBERS").await["remaining"], 0);
    let ivan = json!({ "workspaceId": lab.id, "email": "ivan@example.org", "role": "VIEWER" });
    exceeded(&ada, "inviteMember", ivan).await;
}

async fn a_seat_of_the_organization_is_for_a_person(app: App) {
    let ada = app.set_up().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    let olga = app.stranger("olga@example.org", "Olga").await;
    limit(&ada, None, "MEMBERS", json!(3)).await.ok();
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    ada.invite(&lab, "ivan@example.org", "VIEWER").await.ok();
    let told = organization_quota(&ada, "MEMBERS").await;
    assert_eq!((&told["used"], &told["remaining"]), (&json!(3), &json!(0)));
    let input = json!({ "workspaceId": den.id, "email": "ida@example.org", "role": "VIEWER" });
    let told = exceeded(&ada, "inviteMember", input).await;
    assert_eq!((&told["scope"], &told["used"]), (&json!("ORGANIZATION"), &json!(3)));
    // Who has a seat, or is invited to one, takes no second one.
    ada.invite(&den, &eve.email, "VIEWER").await.ok();
    ada.invite(&den, "ivan@example.org", "VIEWER").await.ok();
    assert_eq!(organization_quota(&ada, "MEMBERS").await["used"], 3);
    let ivan =
        Actor::register(&app.url, token_of(&app.mail_to("ivan@example.org").await.link()), "Ivan").await;
    let received = "{ viewer { invitations(status: PENDING) { nodes { id } } } }";
    let received = ivan.query(received, json!({})).await.ok();
    let input = json!({ "invitationId": received.text("/viewer/invitations/nodes/0/id") });
    ivan.mutate("acceptInvitation", input, "").await.ok();
    assert_eq!(quota(&ivan, &den, "MEMBERS").await["limitAbove"], 3);

    // An organization next door has its own.
    let far = olga.workspace("Far").await;
    olga.invite(&far, "ida@example.org", "VIEWER").await.ok();
}

async fn whoever_accepts_after_the_limit_was_lowered_waits(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    ada.invite(&lab, "olga@example.org", "VIEWER").await.ok();
    ada.invite(&lab, "new@example.org", "VIEWER").await.ok();
    limit(&ada, Some(&lab), "MEMBERS", json!(1)).await.ok();

    let received = olga.query("{ viewer { invitations { nodes { id } } } }", json!({})).await.ok();
    let answer = json!({ "invitationId": received.text("/viewer/invitations/nodes/0/id") });
    let told = exceeded(&olga, "acceptInvitation", answer.clone()).await;
    assert_eq!((&told["limit"], &told["used"]), (&json!(1), &json!(1)), "members alone");
    let link = app.mail_to("new@example.org").await.link();
    let register = json!({ "token": token_of(&link), "displayName": "New", "password": PASSWORD });
    exceeded(&app.anonymous(), "register", register.clone()).await;
    assert_eq!(app.number("SELECT count(*) FROM users WHERE email = 'new@example.org'").await, 0);
    // The page says so as well.
    let fields = [("intent", "register"), ("display_name", "New"), ("password", PASSWORD)];
    let page = app.anonymous().post_form(&link, &fields).await;
    assert!(page.text().contains("may have 1 members"), "{}", page.text());

    limit(&ada, Some(&lab), "MEMBERS", json!(3)).await.ok();
    olga.mutate("acceptInvitation", answer, "").await.ok();
    app.anonymous().mutate("register", register, "").await.ok();
}

async fn an_organization_has_so_many_workspaces(app: App) {
    let ada = app.set_up().await;
    limit(&ada, None, "WORKSPACES", json!(2)).await.ok();
    let lab = ada.workspace("Lab").await;
    let told = exceeded(&ada, "createWorkspace", json!({ "displayName": "Den" })).await;
    assert_eq!(
        told,
        json!({ "metric": "WORKSPACES", "scope": "ORGANIZATION", "limit": 2, "used": 2, "resetsAt": null })
    );
    // Nine tenths were used before: admins were warned, by mail alone.
    assert!(app.mail_to(&ada.email).await.subject().contains("100 % of its workspaces"));
    ada.mutate("archiveWorkspace", json!({ "workspaceId": lab.id }), "").await.ok();
    exceeded(&ada, "createWorkspace", json!({ "displayName": "Den" })).await;
    ada.mutate("deleteWorkspace", json!({ "workspaceId": lab.id, "confirmName": lab.name }), "").await.ok();
    let made = join_all(["A", "B", "C", "D"].map(|name| {
        let (ada, input) = (ada.clone(), json!({ "displayName": name }));
        async move { ada.mutate("createWorkspace", input, "").await }
    }));
    assert_eq!(tally(&made.await), BTreeMap::from([("OK".to_owned(), 1), ("QUOTA_EXCEEDED".to_owned(), 3)]));
}

async fn credits_are_spent_from_the_workspace_s_and_the_organization_s(app: App) {
    app.stop_the_clock();
    let ada = app.set_up().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    limit(&ada, None, "CREDITS", json!(100)).await.ok();
    limit(&ada, Some(&lab), "CREDITS", json!(60)).await.ok();
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    let spent = spend(&eve, &lab, 50).await.ok();
    let next_month = {
        let today = app.db().now().date_naive();
        let first = today.with_day(1).unwrap() + Months::new(1);
        format!("{first}T00:00:00+00:00")
    };
    assert_eq!(
        spent.data("/spendCredits/quota"),
        &json!({ "metric": "CREDITS", "scope": "WORKSPACE", "window": "MONTH", "limit": 60, "ownLimit": 60,
                 "limitAbove": 100, "used": 50, "usedAbove": 50, "remaining": 10, "resetsAt": next_month })
    );
    let input = json!({ "workspaceId": lab.id, "amount": 11, "purpose": "Forecast" });
    let told = exceeded(&eve, "spendCredits", input).await;
    assert_eq!(
        told,
        json!({ "metric": "CREDITS", "scope": "WORKSPACE", "limit": 60, "used": 50, "resetsAt": next_month })
    );
    spend(&ada, &den, 45).await.ok();
    assert_eq!(quota(&eve, &lab, "CREDITS").await["remaining"], 5, "the others have used up the rest");
    let input = json!({ "workspaceId": lab.id, "amount": 6, "purpose": "Forecast" });
    let told = exceeded(&eve, "spendCredits", input).await;
    assert_eq!(
        (&told["scope"], &told["limit"], &told["used"]),
        (&json!("ORGANIZATION"), &json!(100), &json!(95))
    );
    spend(&eve, &lab, 5).await.ok();

    // Whoever may run nothing spends nothing.
    let organization = ada.organization().await;
    let reader = crate::roles::made(&ada, &organization, "Reader", &["ITEM_READ", "QUOTA_VIEW"]).await;
    crate::members::set_role(&ada, &lab, &crate::members::membership(&lab, &eve).await, &reader).await.ok();
    let denied = spend(&eve, &lab, 1).await.denied("FORBIDDEN");
    assert_eq!(denied.errors()[0]["extensions"]["permission"], "ITEM_RUN");
    for amount in [0, -5] {
        spend(&ada, &lab, amount).await.refused("INVALID_INPUT");
    }
    // What was spent stays spent when the workspace goes.
    ada.mutate("deleteWorkspace", json!({ "workspaceId": den.id, "confirmName": den.name }), "").await.ok();
    spend(&ada, &lab, 1).await.refused("QUOTA_EXCEEDED");

    app.advance(TimeDelta::days(32));
    let ada = ada.again().await;
    let fresh = quota(&ada, &lab, "CREDITS").await;
    assert_eq!(
        (&fresh["used"], &fresh["usedAbove"], &fresh["remaining"]),
        (&json!(0), &json!(0), &json!(60))
    );
    spend(&ada, &lab, 60).await.ok();
}

async fn what_is_kept_is_counted_up_and_down(app: App) {
    let ada = app.set_up().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    limit(&ada, None, "STORAGE_BYTES", json!(5_000_000_000_i64)).await.ok();
    let kept = adjust(&ada, &lab, "STORAGE_BYTES", 3_000_000_000).await.ok();
    assert_eq!(kept.data("/adjustUsage/quota/remaining"), 2_000_000_000_i64, "beyond 32 bits");
    adjust(&ada, &den, "STORAGE_BYTES", 2_000_000_001).await.refused("QUOTA_EXCEEDED");
    adjust(&ada, &den, "STORAGE_BYTES", 2_000_000_000).await.ok();
    adjust(&ada, &lab, "STORAGE_BYTES", -1).await.ok();
    adjust(&ada, &den, "STORAGE_BYTES", 1).await.ok();
    let refused = adjust(&ada, &lab, "STORAGE_BYTES", -3_000_000_000).await.refused("INVALID_INPUT");
    assert!(refused.user_errors()[0]["message"].as_str().unwrap().contains("2999999999"), "{refused}");
    adjust(&ada, &lab, "STORAGE_BYTES", 0).await.refused("INVALID_INPUT");
    // What nobody limits has no end; one change has.
    let most = 10_000_000_000_000_i64;
    for _ in 0..2 {
        adjust(&ada, &lab, "ITEMS", most).await.ok();
        spend(&ada, &lab, most).await.ok();
    }
    adjust(&ada, &den, "ITEMS", 1).await.ok();
    adjust(&ada, &den, "ITEMS", -1).await.ok();
    for amount in [most + 1, -most - 1] {
        adjust(&ada, &lab, "ITEMS", amount).await.refused("INVALID_INPUT");
        spend(&ada, &lab, amount).await.refused("INVALID_INPUT");
    }
    // Above a limit that was lowered nothing is taken away, and everything can be given back.
    limit(&ada, Some(&lab), "STORAGE_BYTES", json!(10)).await.ok();
    adjust(&ada, &lab, "STORAGE_BYTES", 1).await.refused("QUOTA_EXCEEDED");
    adjust(&ada, &lab, "STORAGE_BYTES", -999_999_999).await.ok();
    assert_eq!(quota(&ada, &lab, "STORAGE_BYTES").await["remaining"], 0);
    // With a workspace goes what is in it.
    ada.mutate("deleteWorkspace", json!({ "workspaceId": lab.id, "confirmName": lab.name }), "").await.ok();
    assert_eq!(organization_quota(&ada, "STORAGE_BYTES").await["used"], 2_000_000_001_i64);
    adjust(&ada, &den, "ITEMS", 3).await.ok();
    assert_eq!(quota(&ada, &den, "ITEMS").await["used"], 3);
    assert_eq!(quota(&ada, &den, "STORAGE_BYTES").await["used"], 2_000_000_001_i64);
}

async fn two_hundred_at_once_spend_exactly_the_limit(app: App) {
    app.stop_the_clock();
    let ada = app.set_up().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    limit(&ada, None, "CREDITS", json!(120)).await.ok();
    limit(&ada, Some(&den), "CREDITS", json!(50)).await.ok();
    let spends = (0..200).map(|number| {
        let (ada, workspace) = (ada.clone(), if number % 2 == 0 { lab.clone() } else { den.clone() });
        async move { spend(&ada, &workspace, 1).await }
    });
    let answers = join_all(spends).await;
    assert_eq!(tally(&answers), BTreeMap::from([("OK".to_owned(), 120), ("QUOTA_EXCEEDED".to_owned(), 80)]));
    assert_eq!(organization_quota(&ada, "CREDITS").await["used"], 120);
    assert!(quota(&ada, &den, "CREDITS").await["used"].as_i64().unwrap() <= 50);
}

async fn two_hundred_invitations_at_once_fill_exactly_the_seats(app: App) {
    let ada = app.set_up().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    limit(&ada, None, "MEMBERS", json!(41)).await.ok();
    limit(&ada, Some(&den), "MEMBERS", json!(11)).await.ok();
    // What guards against spam is another limit.
    let emails = |workspace: &Workspace, people: std::ops::Range<usize>| {
        let invitees: Vec<_> = people
            .map(|number| json!({ "email": format!("guest{number}@example.org"), "role": "VIEWER" }))
            .collect();
        json!({ "workspaceId": workspace.id, "invitees": invitees })
    };
    let bulks = (0..20).map(|bulk| {
        let workspace = if bulk % 2 == 0 { &lab } else { &den };
        let (ada, input) = (ada.clone(), emails(workspace, bulk * 10..bulk * 10 + 10));
        async move {
            let results = "results { invitation { id } userErrors { code } }";
            ada.mutate("inviteMembers", input, results).await
        }
    });
    let mut invited = 0;
    for answer in join_all(bulks).await {
        for result in answer.data("/inviteMembers/results").as_array().unwrap() {
            match result["invitation"]["id"].is_string() {
                true => invited += 1,
                false => assert_eq!(result["userErrors"][0]["code"], "QUOTA_EXCEEDED", "{answer}"),
            }
        }
    }
    assert_eq!(invited, 40);
    assert_eq!(app.number("SELECT count(*) FROM invitations WHERE status = 'PENDING'").await, 40);
    assert!(quota(&ada, &den, "MEMBERS").await["used"].as_i64().unwrap() <= 11);
}

const SEEN: &str = "query($name: String!) { workspace(name: $name) { id } }";

/// What an operation of a machine comes to: `OK`, or the code.
async fn call(machine: &Actor, workspace: &Workspace) -> String {
    let answer = machine.query(SEEN, json!({ "name": workspace.name })).await;
    if answer.errors().is_empty() { "OK".to_owned() } else { answer.code().to_owned() }
}

async fn calls(machine: &Actor, workspace: &Workspace, number: usize) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for code in join_all((0..number).map(|_| call(machine, workspace))).await {
        *tally.entry(code).or_default() += 1;
    }
    tally
}

fn counted(passed: usize, refused: usize) -> BTreeMap<String, usize> {
    let counts = [("OK".to_owned(), passed), ("QUOTA_EXCEEDED".to_owned(), refused)];
    counts.into_iter().filter(|(_, number)| *number > 0).collect()
}

async fn machines_call_exactly_as_often_as_they_may(app: App) {
    app.stop_the_clock();
    let ada = app.set_up().await;
    let (lab, den) = (ada.workspace("Lab").await, ada.workspace("Den").await);
    limit(&ada, Some(&lab), "API_CALLS", json!(150)).await.ok();
    let (_, secret) = crate::machines::key(&ada, &lab, &["FILE_READ"]).await;
    let made = crate::machines::account(&ada, &lab, "Nightly", "VIEWER").await;
    let token = crate::machines::access_token(&app, &made.0, &made.1).await;
    let (key, account) = (Actor::machine(&app.url, &secret), Actor::machine(&app.url, &token));
    let (of_key, of_account) =
        futures_util::future::join(calls(&key, &lab, 100), calls(&account, &lab, 100)).await;
    let passed = of_key["OK"] + of_account["OK"];
    assert_eq!(passed, 150, "{of_key:?} {of_account:?}");

    let refused = key.query(SEEN, json!({ "name": lab.name })).await;
    let tomorrow = (app.db().now().date_naive() + Days::new(1)).to_string();
    let extensions = &refused.errors()[0]["extensions"];
    assert_eq!(extensions["code"], "QUOTA_EXCEEDED");
    assert_eq!(
        (&extensions["metric"], &extensions["scope"], &extensions["limit"], &extensions["used"]),
        (&json!("API_CALLS"), &json!("WORKSPACE"), &json!(150), &json!(150))
    );
    assert_eq!(extensions["resetsAt"], format!("{tomorrow}T00:00:00Z"));
    // A subscription is an operation, too.
    let document = format!(r#"subscription {{ workspaceChanged(workspaceId: "{}") {{ cursor }} }}"#, lab.id);
    let End::Errors(told) = key.subscribe(&document, json!({})).await.ended().await else {
        panic!("it is refused")
    };
    assert_eq!(told[0]["extensions"]["code"], "QUOTA_EXCEEDED");
    // People go on, and so does the workspace next door.
    assert_eq!(quota(&ada, &lab, "API_CALLS").await["used"], 150);
    let (_, secret) = crate::machines::key(&ada, &den, &["FILE_READ"]).await;
    assert_eq!(calls(&Actor::machine(&app.url, &secret), &den, 5).await, counted(5, 0));

    // A higher limit is obeyed within seconds, and a new day counts anew.
    limit(&ada, Some(&lab), "API_CALLS", json!(160)).await.ok();
    app.advance(TimeDelta::seconds(2));
    assert_eq!(calls(&key, &lab, 30).await, counted(10, 20));
    app.advance(TimeDelta::days(1));
    assert_eq!(calls(&key, &lab, 200).await, counted(160, 40));

    // The organization's pool is shared.
    let ada = ada.again().await;
    app.advance(TimeDelta::days(1));
    let ada = ada.again().await;
    limit(&ada, None, "API_CALLS", json!(90)).await.ok();
    assert_eq!(calls(&key, &lab, 60).await, counted(60, 0));
    quotas::calls::settle(app.db()).await.unwrap();
    let there = calls(&Actor::machine(&app.url, &secret), &den, 60).await;
    assert_eq!(there, counted(30, 30));
}

async fn calls_are_counted_without_a_statement_each(app: App) {
    app.stop_the_clock();
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let (_, secret) = crate::machines::key(&ada, &lab, &["FILE_READ"]).await;
    let key = Actor::machine(&app.url, &secret);
    assert_eq!(call(&key, &lab).await, "OK");
    let one = app.count(async || drop(call(&key, &lab).await)).await;
    assert_eq!(one, 1, "what the operation itself asks");
    // Nothing of that is lost, and what was taken ahead and not used is given back.
    quotas::calls::settle(app.db()).await.unwrap();
    let so_far = quota(&ada, &lab, "API_CALLS").await["used"].as_i64().unwrap();
    limit(&ada, Some(&lab), "API_CALLS", json!(10_000)).await.ok();
    for _ in 0..20 {
        assert_eq!(call(&key, &lab).await, "OK");
    }
    assert_eq!(app.count(async || drop(call(&key, &lab).await)).await, 1);
    quotas::calls::settle(app.db()).await.unwrap();
    let now = quota(&ada, &lab, "API_CALLS").await["used"].as_i64().unwrap();
    assert_eq!(now - so_far, 23, "twenty, and three to count statements");
}

async fn a_dead_key_uses_up_nothing(app: App) {
    app.stop_the_clock();
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let (id, secret) = crate::machines::key(&ada, &lab, &["FILE_READ"]).await;
    let key = Actor::machine(&app.url, &secret);
    limit(&ada, Some(&lab), "API_CALLS", json!(12)).await.ok();
    assert_eq!(calls(&key, &lab, 2).await, counted(2, 0));
    ada.mutate("revokeApiKey", json!({ "workspaceId": lab.id, "apiKeyId": id }), "").await.ok();
    assert_eq!(calls(&key, &lab, 30).await, BTreeMap::from([("UNAUTHENTICATED".to_owned(), 30)]));
    quotas::calls::settle(app.db()).await.unwrap();
    assert_eq!(quota(&ada, &lab, "API_CALLS").await["used"], 2);
    // Nor by what anybody may ask, by what is no document, by a subscription, or with an idempotency key.
    app.advance(TimeDelta::seconds(10));
    for _ in 0..10 {
        key.query("{ __typename }", json!({})).await;
        key.query("{ nothing", json!({})).await;
        let input = json!({ "workspaceId": lab.id, "description": "# Mine" });
        let document = "mutation($input: DescribeWorkspaceInput!) { describeWorkspace(input: $input) { userErrors { code } } }";
        key.query_with(&[("idempotency-key", "k")], document, json!({ "input": input })).await;
    }
    let document = format!(r#"subscription {{ workspaceChanged(workspaceId: "{}") {{ cursor }} }}"#, lab.id);
    key.subscribe(&document, json!({})).await.next().await.denied("UNAUTHENTICATED");
    quotas::calls::settle(app.db()).await.unwrap();
    let ada = ada.again().await;
    assert_eq!(quota(&ada, &lab, "API_CALLS").await["used"], 2);
    // Where nothing is left, whoever shows it hears of that no more than of anything else.
    let (_, secret) = crate::machines::key(&ada, &lab, &["FILE_READ"]).await;
    assert_eq!(calls(&Actor::machine(&app.url, &secret), &lab, 20).await, counted(10, 10));
    assert_eq!(call(&key, &lab).await, "UNAUTHENTICATED");
}

async fn what_was_taken_yesterday_is_not_given_back_to_today(app: App) {
    app.stop_the_clock();
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    limit(&ada, None, "API_CALLS", json!(400)).await.ok();
    let (_, secret) = crate::machines::key(&ada, &lab, &["FILE_READ"]).await;
    let key = Actor::machine(&app.url, &secret);
    assert_eq!(call(&key, &lab).await, "OK");
    // Another process, whose clock is ahead, has begun the next day meanwhile.
    let tomorrow = app.db().now().date_naive() + Days::new(1);
    app.sql(&format!("UPDATE usage_totals SET period = '{tomorrow}', used = 7 WHERE workspace_id IS NULL"))
        .await;
    quotas::calls::settle(app.db()).await.unwrap();
    let total = async |of: &str| {
        app.number(&format!("SELECT used FROM usage_totals WHERE workspace_id IS {of}")).await
    };
    assert_eq!((total("NULL").await, total("NOT NULL").await), (7, 0));
    let charted =
        app.number("SELECT CAST(sum(used) AS bigint) FROM usage_days WHERE metric = 'API_CALLS' AND workspace_id IS NULL");
    assert_eq!(charted.await, 1, "what was given back is taken off the day it was taken on");
    // And from here on it counts with the other.
    assert_eq!(calls(&key, &lab, 400).await, counted(393, 7));
}

#[test]
fn of_two_processes_neither_lets_more_through_and_one_that_dies_takes_little_along() {
    run(Engine::Postgres, App::start, async |app: App| {
        app.stop_the_clock();
        let ada = app.set_up().await;
        let lab = ada.workspace("Lab").await;
        limit(&ada, Some(&lab), "API_CALLS", json!(200)).await.ok();
        let (_, secret) = crate::machines::key(&ada, &lab, &["FILE_READ"]).await;
        let other = app.second_process().await;
        let (here, there) = (Actor::machine(&app.url, &secret), Actor::machine(&other.url, &secret));
        let (first, second) =
            futures_util::future::join(calls(&here, &lab, 150), calls(&there, &lab, 150)).await;
        let passed = first["OK"] + second["OK"];
        // What one holds ahead the other lacks, until it is given back.
        assert!((200 - 25..=200).contains(&passed), "{first:?} {second:?}");
        quotas::calls::settle(app.db()).await.unwrap();
        quotas::calls::settle(other.db()).await.unwrap();
        app.advance(TimeDelta::seconds(2));
        assert_eq!(passed + calls(&here, &lab, 60).await.get("OK").copied().unwrap_or(0), 200);

        // Killed: what it had taken ahead is gone for the day, an eighth of what was left at the most.
        let den = ada.workspace("Den").await;
        limit(&ada, Some(&den), "API_CALLS", json!(400)).await.ok();
        let (_, secret) = crate::machines::key(&ada, &den, &["FILE_READ"]).await;
        let mut process = guildhall_tests::process::Process::spawn(app.database(), &app.mail).await;
        assert_eq!(call(&Actor::machine(&process.url, &secret), &den).await, "OK");
        process.kill();
        let passed = calls(&Actor::machine(&app.url, &secret), &den, 420).await["OK"];
        assert!((350..400).contains(&passed), "{passed}");
    });
}

async fn admins_are_warned_once_of_each_limit(app: App) {
    app.stop_the_clock();
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    let vera = app.member(&lab, SystemRole::Viewer, "Vera").await;
    limit(&ada, Some(&lab), "CREDITS", json!(100)).await.ok();
    let document = format!(
        r#"subscription {{ quotaWarning(workspaceId: "{}") {{ cursor resyncRequired quota {{ metric used limit }} }} }}"#,
        lab.id
    );
    let mut watched = vera.subscribe(&document, json!({})).await;
    spend(&vera, &lab, 89).await.ok();
    watched.no_event_for(300).await;
    spend(&vera, &lab, 1).await.ok();
    let told = watched.next().await;
    assert_eq!(told.data("/quotaWarning/quota"), &json!({ "metric": "CREDITS", "used": 90, "limit": 100 }));
    for admin in [&ada, &adam] {
        let mail = app.mail_to(&admin.email).await;
        assert_eq!(mail.subject(), "Lab uses 90 % of its credits a month", "{}", admin.email);
        assert!(mail.text().contains("90 of the 100 credits a month"), "{}", mail.text());
    }
    spend(&vera, &lab, 5).await.ok();
    watched.no_event_for(300).await;
    // Another limit is another warning; and so is another month.
    limit(&ada, Some(&lab), "CREDITS", json!(200)).await.ok();
    spend(&vera, &lab, 85).await.ok();
    assert_eq!(watched.next().await.data("/quotaWarning/quota/used"), 180);
    for admin in [&ada, &adam] {
        let mail = app.mail_to(&admin.email).await;
        assert_eq!(mail.subject(), "Lab uses 90 % of its credits a month", "{}", admin.email);
    }
    // Whoever was away hears of both.
    let since = format!(
        r#"subscription {{ quotaWarning(workspaceId: "{}", after: "e0") {{ cursor resyncRequired quota {{ used }} }} }}"#,
        lab.id
    );
    let mut later = vera.subscribe(&since, json!({})).await;
    let first = later.next().await;
    if first.data("/quotaWarning/resyncRequired") != &json!(true) {
        later.next().await;
    }

    // Of what goes up and down, once for each time that it goes up.
    limit(&ada, None, "ITEMS", json!(10)).await.ok();
    adjust(&ada, &lab, "ITEMS", 9).await.ok();
    assert_eq!(watched.next().await.data("/quotaWarning/quota/metric"), "ITEMS");
    let mail = app.mail_to(&ada.email).await;
    assert_eq!(mail.subject(), "Example uses 90 % of its items", "the organization's admins alone");
    for amount in [1, -1] {
        adjust(&ada, &lab, "ITEMS", amount).await.ok();
        watched.no_event_for(200).await;
    }
    adjust(&ada, &lab, "ITEMS", -5).await.ok();
    adjust(&ada, &lab, "ITEMS", 5).await.ok();
    assert_eq!(watched.next().await.data("/quotaWarning/quota/metric"), "ITEMS");
    assert!(app.mail_to(&ada.email).await.subject().contains("items"));
    // What is taken ahead and given back warns once.
    limit(&ada, Some(&lab), "API_CALLS", json!(80)).await.ok();
    let (_, secret) = crate::machines::key(&ada, &lab, &["FILE_READ"]).await;
    let key = Actor::machine(&app.url, &secret);
    assert_eq!(calls(&key, &lab, 70).await, counted(70, 0));
    for _ in 0..3 {
        quotas::calls::settle(app.db()).await.unwrap();
        assert_eq!(call(&key, &lab).await, "OK");
    }
    assert_eq!(watched.next().await.data("/quotaWarning/quota/metric"), "API_CALLS");
    watched.no_event_for(300).await;
    // Seats are warned of when somebody is invited.
    limit(&ada, Some(&lab), "MEMBERS", json!(4)).await.ok();
    ada.invite(&lab, "ivan@example.org", "VIEWER").await.ok();
    assert_eq!(watched.next().await.data("/quotaWarning/quota/metric"), "MEMBERS");
    let unread = app.mail.messages().iter().filter(|mail| mail.subject().contains("items")).count();
    assert_eq!(unread, 2);
}

async fn usage(by: &Actor, workspace: &Workspace, metric: &str, from: NaiveDate, to: NaiveDate) -> Answer {
    let document = "query($id: ID!, $metric: Metric!, $from: Date!, $to: Date!) {
        usage(workspaceId: $id, metric: $metric, from: $from, to: $to) { day used } }";
    by.query(
        document,
        json!({ "id": workspace.id, "metric": metric, "from": from.to_string(), "to": to.to_string() }),
    )
    .await
}

fn numbers(answer: &Answer) -> Vec<i64> {
    let days = answer.data("/usage").as_array().unwrap();
    days.iter().map(|day| day["used"].as_i64().unwrap()).collect()
}

async fn charts_tell_of_each_day(app: App) {
    app.stop_the_clock();
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let first: DateTime<Utc> = app.db().now();
    spend(&ada, &lab, 3).await.ok();
    spend(&ada, &lab, 4).await.ok();
    adjust(&ada, &lab, "ITEMS", 6).await.ok();
    app.advance(TimeDelta::days(2));
    let ada = ada.again().await;
    spend(&ada, &lab, 5).await.ok();
    adjust(&ada, &lab, "ITEMS", -2).await.ok();
    ada.invite(&lab, "ivan@example.org", "VIEWER").await.ok();
    let (from, to) = (first.date_naive() - Days::new(1), first.date_naive() + Days::new(9));
    let credits = usage(&ada, &lab, "CREDITS", from, to).await.ok();
    assert_eq!(numbers(&credits), [0, 7, 0, 5], "none is still to come");
    assert_eq!(credits.data("/usage/1/day"), &json!(first.date_naive().to_string()));
    let items = usage(&ada, &lab, "ITEMS", from, to).await.ok();
    assert_eq!(numbers(&items), [0, 6, 6, 4], "a day on which nothing changed has what was there before");
    let later = usage(&ada, &lab, "ITEMS", first.date_naive() + Days::new(1), to).await.ok();
    assert_eq!(numbers(&later), [6, 4]);
    let members = usage(&ada, &lab, "MEMBERS", first.date_naive() + Days::new(2), to).await.ok();
    assert_eq!(numbers(&members), [2], "of today, how many there are");
    housekeeping::sweep(app.db()).await.unwrap();
    app.advance(TimeDelta::days(9));
    let ada = ada.again().await;
    let members = usage(&ada, &lab, "MEMBERS", first.date_naive() + Days::new(2), to).await.ok();
    assert_eq!(numbers(&members), [2; 8]);
    let today = first.date_naive() + Days::new(11);
    let members = usage(&ada, &lab, "MEMBERS", today, today).await.ok();
    assert_eq!(numbers(&members), [1], "the invitation has expired");

    let document = "query($id: ID!, $from: Date!, $to: Date!) { node(id: $id) { ... on Organization {
        credits: usage(metric: CREDITS, from: $from, to: $to) { used }
        workspaces: usage(metric: WORKSPACES, from: $from, to: $to) { used } } } }";
    let variables = json!({ "id": ada.organization().await, "from": first.date_naive().to_string(), "to": today.to_string() });
    let whole = ada.query(document, variables.clone()).await.ok();
    assert_eq!(whole.data("/node/credits/0/used"), 7);
    assert_eq!(whole.data("/node/workspaces/11/used"), 2);

    for (metric, from, to, told) in [
        ("CREDITS", to, from, "before `from`"),
        ("CREDITS", from, from + Days::new(366), "366 days"),
        ("WORKSPACES", from, to, "organizations only"),
    ] {
        let denied = usage(&ada, &lab, metric, from, to).await.denied("BAD_USER_INPUT");
        assert!(denied.errors()[0]["message"].as_str().unwrap().contains(told), "{denied}");
    }
    let document = r#"query($id: ID!) { usage(workspaceId: $id, metric: CREDITS, from: "21.11.2026", to: "2026-11-21") { used } }"#;
    let denied = ada.query(document, json!({ "id": lab.id })).await;
    assert!(["BAD_USER_INPUT", "GRAPHQL_VALIDATION_FAILED"].contains(&denied.code()), "{denied}");
    // After two years it is forgotten; what there is, is not.
    app.advance(TimeDelta::days(3 * 366));
    housekeeping::sweep(app.db()).await.unwrap();
    let ada = ada.again().await;
    assert_eq!(numbers(&usage(&ada, &lab, "CREDITS", from, to).await.ok()), [0; 11]);
    let today = app.db().now().date_naive();
    assert_eq!(numbers(&usage(&ada, &lab, "ITEMS", today - Days::new(1), today).await.ok()), [4, 4]);
}

async fn who_sets_quotas_and_how(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let organization = ada.organization().await;
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    let input =
        json!({ "organizationId": organization, "workspaceId": lab.id, "metric": "ITEMS", "limit": 5 });
    adam.mutate("setQuota", input.clone(), "").await.denied("FORBIDDEN");
    let document = "query($id: ID!) { node(id: $id) { ... on Organization { quotas { used } usage(metric: ITEMS, from: \"2026-01-01\", to: \"2026-01-02\") { used } } } }";
    let denied = adam.query(document, json!({ "id": organization })).await;
    assert_eq!((denied.code(), denied.errors().len()), ("FORBIDDEN", 2), "{denied}");
    let with = |field: &str, value: Value| {
        let mut input = input.clone();
        input[field] = value;
        input
    };
    for (input, code, field) in [
        (with("limit", json!(-1)), "INVALID_INPUT", "limit"),
        (with("metric", json!("WORKSPACES")), "INVALID_INPUT", "metric"),
        (with("workspaceId", json!("wks_nonsense")), "INVALID_INPUT", "workspaceId"),
        (with("workspaceId", json!("wks_0193a1b2c3d47e8f9012345678901234")), "NOT_FOUND", "workspaceId"),
    ] {
        let refused = ada.mutate("setQuota", input, "").await.refused(code);
        assert_eq!(refused.user_errors()[0]["field"], json!([field]), "{refused}");
    }
    for limit in [json!(9_007_199_254_740_992_i64), json!(1.5), json!("7")] {
        let denied = ada.mutate("setQuota", with("limit", limit), "").await;
        assert!(["BAD_USER_INPUT", "GRAPHQL_VALIDATION_FAILED"].contains(&denied.code()), "{denied}");
    }
    // A workspace of somebody else's organization is none.
    let olga = app.stranger("olga@example.org", "Olga").await;
    let far = olga.workspace("Far").await;
    ada.mutate("setQuota", with("workspaceId", json!(far.id)), "").await.refused("NOT_FOUND");
    assert_eq!(quota(&olga, &far, "ITEMS").await["limit"], Value::Null);

    // Only tried: told, and not done.
    let document = "mutation($input: SetQuotaInput!) { setQuota(input: $input, dryRun: true) { quota { limit } userErrors { code } } }";
    let tried = ada.query(document, json!({ "input": input })).await.ok();
    assert_eq!(tried.data("/setQuota/quota/limit"), 5);
    assert_eq!(quota(&ada, &lab, "ITEMS").await["limit"], Value::Null);
    limit(&ada, Some(&lab), "ITEMS", json!(0)).await.ok();
    adjust(&ada, &lab, "ITEMS", 1).await.refused("QUOTA_EXCEEDED");
    // The smaller one holds.
    limit(&ada, Some(&lab), "ITEMS", json!(8)).await.ok();
    limit(&ada, None, "ITEMS", json!(5)).await.ok();
    let told = quota(&adam, &lab, "ITEMS").await;
    assert_eq!((&told["limit"], &told["ownLimit"], &told["limitAbove"]), (&json!(5), &json!(8), &json!(5)));
    // In an archived workspace nothing is used, and what there may be can be set.
    ada.mutate("archiveWorkspace", json!({ "workspaceId": lab.id }), "").await.ok();
    adjust(&ada, &lab, "ITEMS", 1).await.refused("WORKSPACE_ARCHIVED");
    limit(&ada, Some(&lab), "ITEMS", json!(9)).await.ok();
}

async fn an_operator_s_ceiling_holds_for_admins(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    #[expect(clippy::disallowed_methods, reason = "what the operator's command does")]
    let operator = System::named("operator");
    let set = async |most| quotas::set_ceiling(app.db(), &operator, "example", Metric::Credits, most).await;
    assert_eq!(set(Some(10)).await.unwrap().as_deref(), Some("Example"));
    limit(&ada, None, "CREDITS", json!(1000)).await.ok();
    let told = organization_quota(&ada, "CREDITS").await;
    assert_eq!(
        (&told["limit"], &told["ownLimit"], &told["limitAbove"]),
        (&json!(10), &json!(1000), &json!(10))
    );
    spend(&ada, &lab, 11).await.refused("QUOTA_EXCEEDED");
    spend(&ada, &lab, 10).await.ok();
    assert_eq!(set(None).await.unwrap().as_deref(), Some("Example"));
    spend(&ada, &lab, 990).await.ok();
    assert_eq!(
        quotas::set_ceiling(app.db(), &operator, "nobody", Metric::Credits, None).await.unwrap(),
        None
    );
    assert_eq!(app.number("SELECT count(*) FROM audit_events WHERE action = 'admin set-quota'").await, 2);
}
