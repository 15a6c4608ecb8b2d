//! Handing an organization over: an owner asks, the receiver accepts or not, and there is always an owner.

use std::{collections::BTreeMap, pin::Pin, time::Duration};

use chrono::TimeDelta;
use futures_util::future::{join, join_all};
use guildhall_tests::{Actor, Answer, App, both_databases};
use serde_json::{Value, json};

use crate::races::tally;

both_databases!(
    App::start,
    the_receiver_accepts_and_the_giver_becomes_an_admin,
    only_owners_and_the_receiver_see_a_transfer,
    only_an_active_member_is_asked_and_only_by_an_owner,
    a_newer_transfer_replaces_a_pending_one,
    what_was_answered_or_taken_back_is_over,
    a_transfer_expires_after_seven_days,
    a_transfer_is_void_once_its_giver_or_receiver_is_not_what_they_were,
    a_disabled_receiver_sees_and_accepts_nothing,
    nobody_answers_somebody_elses_transfer,
    a_list_of_organizations_takes_one_statement_for_all_their_transfers,
    of_two_answers_at_once_one_wins,
    whatever_happens_at_once_an_owner_is_left,
    an_admin_does_not_void_what_an_owner_asked,
    whoever_has_not_done_what_is_demanded_takes_nothing_over,
    an_owner_who_has_not_done_what_is_demanded_sees_no_transfer,
    a_trial_of_taking_over_opens_nothing,
);

const TRANSFER: &str = "transfer { id status from { email } to { email } createdAt expiresAt respondedAt organization { slug viewerRole } }";

async fn organization(actor: &Actor) -> String {
    let answer = actor.query("{ organization(slug: \"example\") { id } }", json!({})).await.ok();
    answer.text("/organization/id").to_owned()
}

async fn ask(by: &Actor, organization: &str, user: &Actor) -> Answer {
    let input = json!({ "organizationId": organization, "userId": user.id });
    by.mutate("transferOwnership", input, TRANSFER).await
}

/// Asks, and gives the transfer's id.
async fn asked(by: &Actor, organization: &str, user: &Actor) -> String {
    ask(by, organization, user).await.ok().text("/transferOwnership/transfer/id").to_owned()
}

async fn accept(actor: &Actor, transfer: &str) -> Answer {
    actor.mutate("acceptOwnershipTransfer", json!({ "transferId": transfer }), TRANSFER).await
}

async fn a_trial_of_taking_over_opens_nothing(app: App) {
    let ada = app.set_up().await;
    let eve = app.person("eve@example.org", "Eve").await;
    let transfer = asked(&ada, &organization(&ada).await, &eve).await;
    let selection = "transfer { status organization { members { totalCount } auditLog { totalCount } } }";
    let input = json!({ "transferId": transfer });
    let trial =
        eve.mutate_with("dryRun: true", "acceptOwnershipTransfer", input.clone(), selection).await.ok();
    assert_eq!(
        trial.data("/acceptOwnershipTransfer/transfer"),
        &json!({ "status": "ACCEPTED", "organization": null })
    );
    let done = eve.mutate("acceptOwnershipTransfer", input, selection).await.ok();
    assert_eq!(done.data("/acceptOwnershipTransfer/transfer/organization/members/totalCount"), 2);
}

async fn decline(actor: &Actor, transfer: &str) -> Answer {
    actor.mutate("declineOwnershipTransfer", json!({ "transferId": transfer }), TRANSFER).await
}

async fn cancel(by: &Actor, organization: &str, transfer: &str) -> Answer {
    let input = json!({ "organizationId": organization, "transferId": transfer });
    by.mutate("cancelOwnershipTransfer", input, TRANSFER).await
}

async fn change(by: &Actor, mutation: &str, organization: &str, user: &Actor) -> Answer {
    let input = json!({ "organizationId": organization, "userId": user.id });
    by.mutate(mutation, input, "").await
}

async fn set_role(by: &Actor, organization: &str, user: &Actor, role: &str) -> Answer {
    let input = json!({ "organizationId": organization, "userId": user.id, "role": role });
    by.mutate("updateOrganizationMember", input, "").await
}

async fn make_owner(app: &App, user: &Actor) {
    let user = app.literal(&user.id);
    app.sql(&format!("UPDATE organization_members SET role = 'OWNER' WHERE user_id = {user}")).await;
}

async fn roles(app: &App) -> BTreeMap<&'static str, i64> {
    let mut roles = BTreeMap::new();
    for role in ["OWNER", "ADMIN", "MEMBER"] {
        let count = format!("SELECT count(*) FROM organization_members WHERE role = '{role}'");
        roles.insert(role, app.number(&count).await);
    }
    roles
}

/// The status of a transfer as somebody sees it, if they do.
async fn status(actor: &Actor, transfer: &str) -> Value {
    let document = "query($id: ID!) { node(id: $id) { ... on OwnershipTransfer { status } } }";
    let answer = actor.query(document, json!({ "id": transfer })).await.ok();
    match answer.data("/node") {
        Value::Null => Value::Null,
        node => node["status"].clone(),
    }
}

/// What of pending transfers somebody sees: that of the organization, and their own.
async fn pending(actor: &Actor) -> (Value, Value) {
    let document = "{ organization(slug: \"example\") { ownershipTransfer { id } }
        viewer { ownershipTransfers { totalCount nodes { id } } } }";
    let answer = actor.query(document, json!({})).await.ok();
    let own = answer.data("/viewer/ownershipTransfers/nodes").as_array().unwrap();
    assert_eq!(answer.data("/viewer/ownershipTransfers/totalCount"), own.len());
    let of_organization = answer.body["data"]["organization"]["ownershipTransfer"]["id"].clone();
    (of_organization, own.first().map_or(Value::Null, |node| node["id"].clone()))
}

async fn the_receiver_accepts_and_the_giver_becomes_an_admin(app: App) {
    let ada = app.set_up().await;
    let example = organization(&ada).await;
    let eve = app.person("eve@example.org", "Eve").await;
    let answer = ask(&ada, &example, &eve).await.ok();
    let transfer = answer.data("/transferOwnership/transfer");
    assert_eq!((&transfer["status"], &transfer["respondedAt"]), (&json!("PENDING"), &Value::Null));
    assert_eq!(
        (&transfer["from"]["email"], &transfer["to"]["email"]),
        (&json!(ada.email), &json!(eve.email))
    );
    let at =
        |field: &str| transfer[field].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    assert_eq!(at("expiresAt") - at("createdAt"), TimeDelta::days(7));
    assert_eq!(roles(&app).await, BTreeMap::from([("OWNER", 1), ("ADMIN", 0), ("MEMBER", 1)]), "not yet");

    let id = transfer["id"].as_str().unwrap();
    let accepted = accept(&eve, id).await.ok();
    let transfer = accepted.data("/acceptOwnershipTransfer/transfer");
    assert_eq!(transfer["status"], "ACCEPTED");
    assert!(transfer["respondedAt"].is_string(), "{accepted}");
    assert_eq!(transfer["organization"], json!({ "slug": "example", "viewerRole": "OWNER" }));
    assert_eq!(roles(&app).await, BTreeMap::from([("OWNER", 1), ("ADMIN", 1), ("MEMBER", 0)]));
    set_role(&ada, &example, &eve, "MEMBER").await.refused("OWNER_PROTECTED");
    ask(&ada, &example, &eve).await.denied("FORBIDDEN");
    // And back.
    let id = asked(&eve, &example, &ada).await;
    accept(&ada, &id).await.ok();
    assert_eq!(roles(&app).await, BTreeMap::from([("OWNER", 1), ("ADMIN", 1), ("MEMBER", 0)]));
    set_role(&ada, &example, &eve, "MEMBER").await.ok();
}

async fn only_owners_and_the_receiver_see_a_transfer(app: App) {
    let ada = app.set_up().await;
    let example = organization(&ada).await;
    let mut people = Vec::new();
    for name in ["Eve", "Orla", "Mia", "Cleo"] {
        people.push(app.person(&format!("{}@example.org", name.to_lowercase()), name).await);
    }
    let [eve, orla, mia, cleo] = &people[..] else { unreachable!() };
    let olga = app.stranger("olga@example.org", "Olga").await;
    set_role(&ada, &example, orla, "ADMIN").await.ok();
    make_owner(&app, cleo).await;
    assert_eq!(pending(&ada).await, (Value::Null, Value::Null));
    let id = asked(&ada, &example, eve).await;
    let seen = json!(id);
    assert_eq!(pending(eve).await, (seen.clone(), seen.clone()));
    for owner in [&ada, cleo] {
        assert_eq!(pending(owner).await, (seen.clone(), Value::Null));
    }
    for other in [orla, mia, &olga] {
        assert_eq!(pending(other).await, (Value::Null, Value::Null));
    }
    for (actor, status_seen) in [(&ada, "PENDING"), (cleo, "PENDING"), (eve, "PENDING")] {
        assert_eq!(status(actor, &id).await, status_seen);
    }
    for other in [orla, mia, &olga] {
        assert_eq!(status(other, &id).await, Value::Null);
    }
    decline(eve, &id).await.ok();
    for actor in [&ada, cleo, eve] {
        assert_eq!(pending(actor).await, (Value::Null, Value::Null));
        assert_eq!(status(actor, &id).await, "DECLINED");
    }
}

async fn only_an_active_member_is_asked_and_only_by_an_owner(app: App) {
    let ada = app.set_up().await;
    let example = organization(&ada).await;
    let (eve, orla) =
        (app.person("eve@example.org", "Eve").await, app.person("orla@example.org", "Orla").await);
    let olga = app.stranger("olga@example.org", "Olga").await;
    set_role(&ada, &example, &orla, "ADMIN").await.ok();
    let cleo = app.person("cleo@example.org", "Cleo").await;
    make_owner(&app, &cleo).await;
    let barred = app.person("bert@example.org", "Bert").await;
    change(&ada, "disableUser", &example, &barred).await.ok();
    for (user, code) in [
        (&ada.id, "INVALID_INPUT"),
        (&cleo.id, "INVALID_INPUT"),
        (&barred.id, "INVALID_INPUT"),
        (&olga.id, "NOT_FOUND"),
        (&"usr_0193a1b2c3d47e8f9012345678901234".to_owned(), "NOT_FOUND"),
        (&example, "INVALID_INPUT"),
        (&String::new(), "INVALID_INPUT"),
    ] {
        let input = json!({ "organizationId": example, "userId": user });
        let refused = ada.mutate("transferOwnership", input, TRANSFER).await.refused(code);
        assert_eq!(refused.data("/transferOwnership/userErrors/0/field"), &json!(["userId"]), "{refused}");
        assert_eq!(refused.data("/transferOwnership/transfer"), &Value::Null);
    }
    ask(&eve, &example, &orla).await.denied("FORBIDDEN");
    ask(&orla, &example, &eve).await.denied("FORBIDDEN");
    ask(&olga, &example, &eve).await.denied("NOT_FOUND");
    ask(&app.anonymous(), &example, &eve).await.denied("UNAUTHENTICATED");
    assert_eq!(app.number("SELECT count(*) FROM ownership_transfers").await, 0);
    // An admin can be asked as well as a member.
    ask(&cleo, &example, &orla).await.ok();
}

async fn a_newer_transfer_replaces_a_pending_one(app: App) {
    let ada = app.set_up().await;
    let example = organization(&ada).await;
    let (eve, bob) = (app.person("eve@example.org", "Eve").await, app.person("bob@example.org", "Bob").await);
    let first = asked(&ada, &example, &eve).await;
    let second = asked(&ada, &example, &bob).await;
    assert_eq!(
        (status(&ada, &first).await, status(&ada, &second).await),
        (json!("SUPERSEDED"), json!("PENDING"))
    );
    assert_eq!(pending(&eve).await, (Value::Null, Value::Null));
    accept(&eve, &first).await.refused("TRANSFER_NOT_PENDING");
    let third = asked(&ada, &example, &bob).await;
    accept(&bob, &second).await.refused("TRANSFER_NOT_PENDING");
    accept(&bob, &third).await.ok();
    assert_eq!(roles(&app).await, BTreeMap::from([("OWNER", 1), ("ADMIN", 1), ("MEMBER", 1)]));
}

async fn what_was_answered_or_taken_back_is_over(app: App) {
    let ada = app.set_up().await;
    let example = organization(&ada).await;
    let eve = app.person("eve@example.org", "Eve").await;
    let cleo = app.person("cleo@example.org", "Cleo").await;
    make_owner(&app, &cleo).await;
    let declined = asked(&ada, &example, &eve).await;
    assert_eq!(
        decline(&eve, &declined).await.ok().data("/declineOwnershipTransfer/transfer/status"),
        "DECLINED"
    );
    // Any owner takes it back.
    let cancelled = asked(&ada, &example, &eve).await;
    let answer = cancel(&cleo, &example, &cancelled).await.ok();
    assert_eq!(answer.data("/cancelOwnershipTransfer/transfer/status"), "CANCELLED");
    let accepted = asked(&ada, &example, &eve).await;
    accept(&eve, &accepted).await.ok();
    for id in [&declined, &cancelled, &accepted] {
        accept(&eve, id).await.refused("TRANSFER_NOT_PENDING");
        decline(&eve, id).await.refused("TRANSFER_NOT_PENDING");
        let refused = cancel(&cleo, &example, id).await.refused("TRANSFER_NOT_PENDING");
        assert_eq!(refused.data("/cancelOwnershipTransfer/userErrors/0/field"), &json!(["transferId"]));
    }
    assert_eq!(roles(&app).await, BTreeMap::from([("OWNER", 2), ("ADMIN", 1), ("MEMBER", 0)]));
}

async fn a_transfer_expires_after_seven_days(app: App) {
    let ada = app.set_up().await;
    let example = organization(&ada).await;
    let eve = app.person("eve@example.org", "Eve").await;
    let id = asked(&ada, &example, &eve).await;
    app.advance(TimeDelta::days(7) - TimeDelta::seconds(30));
    let (ada, eve) = (ada.again().await, eve.again().await);
    assert_eq!(pending(&eve).await, (json!(id), json!(id)));
    app.advance(TimeDelta::seconds(31));
    for actor in [&ada, &eve] {
        assert_eq!(pending(actor).await, (Value::Null, Value::Null));
        assert_eq!(status(actor, &id).await, "EXPIRED");
    }
    accept(&eve, &id).await.refused("TRANSFER_EXPIRED");
    decline(&eve, &id).await.refused("TRANSFER_EXPIRED");
    cancel(&ada, &example, &id).await.refused("TRANSFER_EXPIRED");
    // Asking again does not rewrite what happened.
    let again = asked(&ada, &example, &eve).await;
    assert_eq!(status(&ada, &id).await, "EXPIRED");
    accept(&eve, &again).await.ok();
}

async fn a_transfer_is_void_once_its_giver_or_receiver_is_not_what_they_were(app: App) {
    let ada = app.set_up().await;
    let example = organization(&ada).await;
    let eve = app.person("eve@example.org", "Eve").await;
    let cleo = app.person("cleo@example.org", "Cleo").await;
    // The giver is demoted, or has gone: it is void at once.
    make_owner(&app, &cleo).await;
    let id = asked(&cleo, &example, &eve).await;
    set_role(&ada, &example, &cleo, "ADMIN").await.ok();
    assert_eq!(status(&ada, &id).await, "VOID");
    accept(&eve, &id).await.refused("TRANSFER_NOT_PENDING");
    make_owner(&app, &cleo).await;
    let id = asked(&cleo, &example, &eve).await;
    change(&ada, "removeOrganizationMember", &example, &cleo).await.ok();
    assert_eq!(status(&ada, &id).await, "VOID");
    accept(&eve, &id).await.refused("TRANSFER_NOT_PENDING");

    // Where an owner's rights ended otherwise, accepting finds it out and leaves it void.
    let dora = app.person("dora@example.org", "Dora").await;
    for ended in ["role = 'MEMBER'", "status = 'DISABLED'"] {
        let of_dora = format!("WHERE user_id = {}", app.literal(&dora.id));
        app.sql(&format!("UPDATE organization_members SET role = 'OWNER', status = 'ACTIVE' {of_dora}"))
            .await;
        let id = asked(&dora, &example, &eve).await;
        app.sql(&format!("UPDATE organization_members SET {ended} {of_dora}")).await;
        let refused = accept(&eve, &id).await.refused("TRANSFER_VOID");
        assert_eq!(refused.data("/acceptOwnershipTransfer/transfer"), &Value::Null);
        assert_eq!(status(&ada, &id).await, "VOID");
        accept(&eve, &id).await.refused("TRANSFER_NOT_PENDING");
    }

    // The receiver has gone, and may come back, but not to that.
    let id = asked(&ada, &example, &eve).await;
    change(&ada, "removeOrganizationMember", &example, &eve).await.ok();
    assert_eq!(pending(&eve).await, (Value::Null, Value::Null));
    accept(&eve, &id).await.refused("TRANSFER_NOT_PENDING");
    assert_eq!(roles(&app).await["OWNER"], 2, "Ada, and Dora who is disabled");
}

async fn a_disabled_receiver_sees_and_accepts_nothing(app: App) {
    let ada = app.set_up().await;
    let example = organization(&ada).await;
    let eve = app.person("eve@example.org", "Eve").await;
    // She is active elsewhere, and so can sign in.
    let olga = app.stranger("olga@example.org", "Olga").await;
    app.sql(&format!(
        "INSERT INTO organization_members (user_id, organization_id, role, status, created_at)
         SELECT {}, organization_id, 'MEMBER', status, created_at FROM organization_members WHERE user_id = {}",
        app.literal(&eve.id),
        app.literal(&olga.id)
    ))
    .await;
    let id = asked(&ada, &example, &eve).await;
    change(&ada, "disableUser", &example, &eve).await.ok();
    let eve = eve.again().await;
    assert_eq!(pending(&eve).await, (Value::Null, Value::Null));
    assert_eq!(status(&eve, &id).await, Value::Null);
    accept(&eve, &id).await.refused("TRANSFER_VOID");
    assert_eq!(roles(&app).await["OWNER"], 2, "Ada and Olga, each of her own");
}

async fn nobody_answers_somebody_elses_transfer(app: App) {
    let ada = app.set_up().await;
    let example = organization(&ada).await;
    let (eve, mia) = (app.person("eve@example.org", "Eve").await, app.person("mia@example.org", "Mia").await);
    let olga = app.stranger("olga@example.org", "Olga").await;
    let id = asked(&ada, &example, &eve).await;
    let nobody = "otr_0193a1b2c3d47e8f9012345678901234";
    for actor in [&ada, &mia, &olga] {
        for id in [id.as_str(), nobody] {
            let refused = accept(actor, id).await.refused("NOT_FOUND");
            assert_eq!(refused.data("/acceptOwnershipTransfer/userErrors/0/field"), &json!(["transferId"]));
            decline(actor, id).await.refused("NOT_FOUND");
        }
    }
    for bad in ["", "otr_", &eve.id, "otr_\u{0}"] {
        accept(&eve, bad).await.refused("INVALID_INPUT");
        decline(&eve, bad).await.refused("INVALID_INPUT");
        cancel(&ada, &example, bad).await.refused("INVALID_INPUT");
    }
    accept(&app.anonymous(), &id).await.denied("UNAUTHENTICATED");
    cancel(&ada, &example, nobody).await.refused("NOT_FOUND");
    cancel(&eve, &example, &id).await.denied("FORBIDDEN");
    cancel(&olga, &example, &id).await.denied("NOT_FOUND");
    cancel(&olga, &olga.id.replace("usr_", "org_"), &id).await.refused("NOT_FOUND");
    assert_eq!(status(&eve, &id).await, "PENDING");
}

async fn a_list_of_organizations_takes_one_statement_for_all_their_transfers(app: App) {
    let ada = app.set_up().await;
    let example = organization(&ada).await;
    let eve = app.person("eve@example.org", "Eve").await;
    asked(&ada, &example, &eve).await;
    let document = "{ viewer {
        organizations { nodes { ownershipTransfer { status to { email } } } }
        ownershipTransfers { nodes { organization { slug } } }
    } }";
    let cost = async || {
        let mut fewest = u64::MAX;
        for _ in 0..4 {
            fewest = fewest.min(app.count(async || drop(eve.query(document, json!({})).await.ok())).await);
        }
        fewest
    };
    let few = cost().await;
    for number in 1..=5 {
        let (id, transfer) = (
            app.literal(&format!("org_0193a1b2c3d47e8f901234567890123{number}")),
            app.literal(&format!("otr_0193a1b2c3d47e8f901234567890123{number}")),
        );
        for statement in [
            format!(
                "INSERT INTO organizations (id, slug, name, workspace_creation, workspace_deletion,
                     member_list_visibility, share_acceptance, created_at, updated_at)
                 SELECT {id}, 'o-{number}', 'O {number}', workspace_creation, workspace_deletion,
                     member_list_visibility, share_acceptance, created_at, updated_at
                 FROM organizations WHERE slug = 'example'"
            ),
            format!(
                "INSERT INTO organization_members (organization_id, user_id, role, status, created_at)
                 SELECT {id}, user_id, role, status, created_at FROM organization_members WHERE organization_id = {}",
                app.literal(&example)
            ),
            format!(
                "INSERT INTO ownership_transfers (id, organization_id, from_user_id, to_user_id, status, expires_at, created_at)
                 SELECT {transfer}, {id}, from_user_id, to_user_id, status, expires_at, created_at FROM ownership_transfers
                 WHERE organization_id = {}",
                app.literal(&example)
            ),
        ] {
            app.sql(&statement).await;
        }
    }
    let answer = eve.query(document, json!({})).await.ok();
    assert_eq!(answer.len("/viewer/ownershipTransfers/nodes"), 6);
    for place in 0..6 {
        let to = answer.data(&format!("/viewer/organizations/nodes/{place}/ownershipTransfer/to/email"));
        assert_eq!(to, &eve.email);
        assert!(
            answer.data(&format!("/viewer/ownershipTransfers/nodes/{place}/organization/slug")).is_string()
        );
    }
    assert_eq!(cost().await, few, "statements for six and for one organization");
}

async fn of_two_answers_at_once_one_wins(app: App) {
    let ada = app.set_up().await;
    let example = organization(&ada).await;
    let eve = app.person("eve@example.org", "Eve").await;
    for round in 0..10 {
        let of_eve = format!("WHERE user_id = {}", app.literal(&eve.id));
        make_owner(&app, &ada).await;
        app.sql(&format!("UPDATE organization_members SET role = 'MEMBER' {of_eve}")).await;
        let id = asked(&ada, &example, &eve).await;
        let (accepted, other) = match round % 3 {
            0 => join(accept(&eve, &id), accept(&eve, &id)).await,
            1 => join(accept(&eve, &id), decline(&eve, &id)).await,
            _ => join(accept(&eve, &id), cancel(&ada, &example, &id)).await,
        };
        let answers = tally([&accepted, &other]);
        assert_eq!(answers.get("OK"), Some(&1), "round {round}: {answers:?}");
        let known = ["OK", "TRANSFER_NOT_PENDING", "FORBIDDEN"];
        assert!(answers.keys().all(|code| known.contains(&code.as_str())), "round {round}: {answers:?}");
        assert_eq!(roles(&app).await["OWNER"], 1, "round {round}");
    }
}

async fn whatever_happens_at_once_an_owner_is_left(app: App) {
    let ada = app.set_up().await;
    let example = organization(&ada).await;
    let mut people = vec![ada];
    for name in ["Bob", "Cleo", "Dan", "Eve"] {
        people.push(app.person(&format!("{}@example.org", name.to_lowercase()), name).await);
    }
    // Nobody administers a workspace, so that owners are all that is kept.
    app.sql("DELETE FROM memberships").await;
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for round in 0..5 {
        app.sql("UPDATE ownership_transfers SET status = 'VOID'").await;
        app.sql("UPDATE sessions SET ended_at = NULL").await;
        let id = app.literal(&example);
        app.sql("DELETE FROM organization_members").await;
        for (place, actor) in people.iter().enumerate() {
            let role = if place < 2 { "OWNER" } else { "MEMBER" };
            app.sql(&format!(
                "INSERT INTO organization_members (organization_id, user_id, role, status, created_at)
                 SELECT {id}, id, '{role}', 'ACTIVE', created_at FROM users WHERE id = {}",
                app.literal(&actor.id)
            ))
            .await;
        }
        let transfer = asked(&people[round % 2], &example, &people[2]).await;
        let mut work: Vec<Pin<Box<dyn Future<Output = Answer>>>> = Vec::new();
        for turn in 0..40 {
            let (people, example, transfer) = (&people, example.as_str(), transfer.as_str());
            let (by, whom) = (&people[turn % 3], &people[(turn / 2) % 5]);
            work.push(Box::pin(async move {
                match (turn * 7 + round) % 8 {
                    0 => accept(&people[2], transfer).await,
                    1 => ask(by, example, whom).await,
                    2 => set_role(by, example, whom, "MEMBER").await,
                    3 => cancel(by, example, transfer).await,
                    4 => change(by, "disableUser", example, whom).await,
                    5 => change(by, "removeOrganizationMember", example, whom).await,
                    6 => by.mutate("leaveOrganization", json!({ "organizationId": example }), "").await,
                    _ => decline(&people[2], transfer).await,
                }
            }));
        }
        let answers = tokio::time::timeout(Duration::from_secs(60), join_all(work)).await;
        let answers = tally(&answers.expect("nobody waits for ever"));
        for (code, number) in &answers {
            *seen.entry(code.clone()).or_default() += number;
        }
        let owners = "SELECT count(*) FROM organization_members WHERE role = 'OWNER' AND status = 'ACTIVE'";
        assert!(app.number(owners).await >= 1, "round {round}: {answers:?}");
        let waiting = "SELECT count(*) FROM ownership_transfers WHERE status = 'PENDING'";
        assert!(app.number(waiting).await <= 1, "round {round}: {answers:?}");
    }
    let known = [
        "OK",
        "LAST_OWNER",
        "OWNER_PROTECTED",
        "NOT_FOUND",
        "FORBIDDEN",
        "UNAUTHENTICATED",
        "INVALID_INPUT",
        "TRANSFER_NOT_PENDING",
        "TRANSFER_VOID",
    ];
    assert!(seen.keys().all(|code| known.contains(&code.as_str())), "{seen:?}");
    assert_eq!(seen.values().sum::<usize>(), 200);
}

async fn an_admin_does_not_void_what_an_owner_asked(app: App) {
    let ada = app.set_up().await;
    let organization = ada.organization().await;
    let (bob, orla) =
        (app.person("bob@example.org", "Bob").await, app.person("orla@example.org", "Orla").await);
    let role = |by: &Actor, of: &Actor| {
        let input = json!({ "organizationId": organization, "userId": of.id, "role": "ADMIN" });
        let by = by.clone();
        async move { by.mutate("updateOrganizationMember", input, "").await.ok() }
    };
    role(&ada, &orla).await;
    let transfer = asked(&ada, &organization, &bob).await;
    role(&orla, &bob).await;
    accept(&bob, &transfer).await.ok();
}

async fn whoever_has_not_done_what_is_demanded_takes_nothing_over(app: App) {
    let ada = app.set_up().await;
    let eve = app.person("eve@example.org", "Eve").await;
    let organization = organization(&ada).await;
    let asked = ask(&ada, &organization, &eve).await.ok();
    let transfer = json!({ "transferId": asked.text("/transferOwnership/transfer/id") });
    app.sql("UPDATE organizations SET password_sign_in = FALSE").await;
    for mutation in ["acceptOwnershipTransfer", "declineOwnershipTransfer"] {
        eve.mutate(mutation, transfer.clone(), "").await.denied("SINGLE_SIGN_ON_REQUIRED");
    }
    app.sql("UPDATE organizations SET password_sign_in = TRUE").await;
    eve.mutate("acceptOwnershipTransfer", transfer, "").await.ok();
}

async fn an_owner_who_has_not_done_what_is_demanded_sees_no_transfer(app: App) {
    let ada = app.set_up().await;
    let bob = app.person("bob@example.org", "Bob").await;
    let eve = app.person("eve@example.org", "Eve").await;
    make_owner(&app, &bob).await;
    let organization = organization(&ada).await;
    let transfer = asked(&ada, &organization, &eve).await;
    let seen = async |who: &Actor| {
        let answer =
            who.query("query($id: ID!) { node(id: $id) { id } }", json!({ "id": transfer })).await.ok();
        !answer.data("/node").is_null()
    };
    assert!(seen(&bob).await);
    app.sql("UPDATE organizations SET two_factor_required_since = created_at, two_factor_grace_hours = 0")
        .await;
    assert!(!seen(&bob).await);
    // It waits for her answer, which she may give when she has done it.
    assert!(seen(&eve).await);
    app.sql(&format!("UPDATE users SET second_factor_at = created_at WHERE id = {}", app.literal(&bob.id)))
        .await;
    assert!(seen(&bob).await);
}
