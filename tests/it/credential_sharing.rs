//! Lending credentials between workspaces: Flowise's walk, and what its sharing forgets.

use chrono::{DateTime, TimeDelta, Utc};
use guildhall_domain::access::SystemRole;
use guildhall_tests::{Actor, Answer, App, Workspace, both_databases};
use serde_json::{Value, json};

use crate::credentials::{
    CREDENTIAL, create, database_fields, delete, listed, made, slugs, update, used, value,
};

both_databases!(
    App::start,
    a_shared_credential_is_listed_used_and_not_edited_elsewhere,
    a_credential_is_lent_once_to_a_workspace_one_knows_of,
    targets_are_searched_among_what_one_sees,
    targets_are_found_in_any_case_and_sorted_by_name,
    what_is_taken_back_fails_at_the_next_use,
    a_loan_ends_by_itself_to_the_second,
    where_the_policy_asks_for_it_a_target_admin_accepts_first,
    an_offer_names_who_made_it_to_those_who_may_know_of_them,
    a_borrower_gives_back_what_it_does_not_want,
    a_borrowed_credential_in_use_is_not_deleted_without_force,
    both_sides_list_the_uses_that_concern_them,
    own_slugs_go_before_borrowed_ones_and_a_path_says_whose,
    both_sides_are_told_live,
    an_archived_lender_suspends_and_a_deleted_one_takes_back,
    a_use_and_its_revocation_at_once_give_one_of_two_answers,
    two_workspaces_that_lend_to_each_other_do_not_wait_for_each_other,
);

const SHARE: &str = "share { id status slug name credentialType expiresAt respondedAt
    owner { name } target { name workspace { id } } sharedBy { displayName } }";

pub(crate) async fn share_until(
    by: &Actor,
    owner: &Workspace,
    credential: &str,
    target: &Workspace,
    end: Option<DateTime<Utc>>,
) -> Answer {
    let input = json!({
        "workspaceId": owner.id, "credentialId": credential, "targetWorkspaceId": target.id,
        "expiresAt": end.map(|end| end.to_rfc3339()),
    });
    by.mutate("shareCredential", input, SHARE).await
}

pub(crate) async fn share(by: &Actor, owner: &Workspace, credential: &str, target: &Workspace) -> Answer {
    share_until(by, owner, credential, target, None).await
}

/// The id of a loan that was made.
pub(crate) async fn lent(by: &Actor, owner: &Workspace, credential: &str, target: &Workspace) -> String {
    share(by, owner, credential, target).await.ok().text("/shareCredential/share/id").to_owned()
}

async fn answer_share(by: &Actor, mutation: &str, workspace: &Workspace, share: &str) -> Answer {
    by.mutate(mutation, json!({ "workspaceId": workspace.id, "shareId": share }), SHARE).await
}

async fn policy(by: &Actor, acceptance: &str) {
    let input = json!({ "organizationId": by.organization().await, "shareAcceptance": acceptance });
    by.mutate("updateOrganizationPolicy", input, "organization { slug }").await.ok();
}

/// The id of the credential of that slug, as the workspace has it.
async fn id_in(by: &Actor, workspace: &Workspace, slug: &str) -> String {
    let document = "query($w: ID!, $s: String!) { credential(workspaceId: $w, slug: $s) { id } }";
    let answer = by.query(document, json!({ "w": workspace.id, "s": slug })).await.ok();
    answer.text("/credential/id").to_owned()
}

async fn uses(by: &Actor, workspace: &Workspace, slug: &str) -> Vec<Value> {
    let document = "query($w: ID!, $s: String!) { credential(workspaceId: $w, slug: $s) {
        usages { nodes { outcome purpose user { displayName } workspace { name } owner { name } } } } }";
    let answer = by.query(document, json!({ "w": workspace.id, "s": slug })).await.ok();
    answer.data("/credential/usages/nodes").as_array().unwrap().clone()
}

async fn a_shared_credential_is_listed_used_and_not_edited_elsewhere(app: App) {
    let ada = app.set_up().await;
    let (lab, field) = (ada.workspace("Lab").await, ada.workspace("Field").await);
    let id = made(&ada, &lab, "Store", "hunter2").await;
    let amy = app.member(&field, SystemRole::Admin, "Amy").await;
    let eve = app.member(&field, SystemRole::Editor, "Eve").await;
    let vic = app.member(&field, SystemRole::Viewer, "Vic").await;
    assert!(slugs(&listed(&amy, &field, "").await.ok()).is_empty());

    let answer = share(&ada, &lab, &id, &field).await.ok();
    assert_eq!(answer.data("/shareCredential/share/status"), "ACTIVE");
    assert_eq!(answer.data("/shareCredential/share/target/name"), field.name.as_str());

    // Switch to the other workspace: it is there, says whose it is, and can be used.
    let list = listed(&eve, &field, "(isShared: true)").await.ok();
    assert_eq!(
        (slugs(&list), list.data("/workspace/credentials/nodes/0/isShared")),
        (vec!["store"], &json!(true))
    );
    let document = format!(
        "query($w: ID!) {{ {} }}",
        CREDENTIAL.replacen("credential", "credential(workspaceId: $w, slug: \"store\")", 1)
    );
    let seen = eve.query(&document, json!({ "w": field.id })).await.ok();
    let borrowed = seen.data("/credential").clone();
    assert_eq!(borrowed["sharedFrom"]["workspace"]["name"], lab.name.as_str());
    assert_eq!(
        borrowed["sharedFrom"]["workspace"]["workspace"],
        Value::Null,
        "Eve may not see the lab itself"
    );
    assert_ne!(borrowed["id"], id.as_str());
    assert_eq!(borrowed["fields"][0]["value"], "db.example.org");
    assert_eq!(borrowed["fields"][4]["value"], Value::Null);
    assert_eq!(value(&used(&eve, &field, "store").await.ok(), "password"), "hunter2");
    listed(&vic, &field, "").await.denied("FORBIDDEN");
    used(&vic, &field, "store").await.denied("FORBIDDEN");

    // Nobody there edits, reveals, lends on or deletes it: not even by the id that the owner has.
    let input = json!({ "organizationId": ada.organization().await, "allowReveal": true });
    ada.mutate("updateOrganizationPolicy", input, "organization { slug }").await.ok();
    let third = amy_in_third(&app, &amy).await;
    for (by, code, id) in [
        (&amy, "SHARED_READ_ONLY", borrowed["id"].as_str().unwrap()),
        (&ada, "SHARED_READ_ONLY", borrowed["id"].as_str().unwrap()),
        (&amy, "NOT_FOUND", &*id),
        (&ada, "NOT_FOUND", &*id),
    ] {
        update(by, &field, id, json!({ "name": "Mine" })).await.refused(code);
        update(by, &field, id, json!({ "fields": database_fields("mine") })).await.refused(code);
        delete(by, &field, id, true).await.refused(code);
        share(by, &field, id, &third).await.refused(code);
        let input = json!({ "workspaceId": field.id, "credentialId": id });
        by.mutate("revealCredential", input, "values { code }").await.refused(code);
    }
    // Rotation reaches the borrower at the next use.
    update(&ada, &lab, &id, json!({ "fields": database_fields("hunter3") })).await.ok();
    assert_eq!(value(&used(&eve, &field, "store").await.ok(), "password"), "hunter3");
}

/// A third workspace that Amy administers.
async fn amy_in_third(app: &App, amy: &Actor) -> Workspace {
    let third = app.owner().workspace("Third").await;
    app.owner().invite(&third, &amy.email, "ADMIN").await.ok();
    let link = loop {
        let mail = app.mail_to(&amy.email).await;
        if mail.subject().contains("Third") {
            break mail.link();
        }
    };
    let input = json!({ "token": guildhall_tests::actor::token_of(&link) });
    amy.mutate("acceptInvitation", input, "invitation { id }").await.ok();
    third
}

async fn a_credential_is_lent_once_to_a_workspace_one_knows_of(app: App) {
    let ada = app.set_up().await;
    let (lab, field, hidden) =
        (ada.workspace("Lab").await, ada.workspace("Field").await, ada.workspace("Hidden").await);
    let amy = app.member(&lab, SystemRole::Admin, "Amy").await;
    let id = made(&ada, &lab, "Store", "hunter2").await;
    share(&ada, &lab, &id, &field).await.ok();
    share(&ada, &lab, &id, &field).await.refused("ALREADY_SHARED");
    let own = share(&ada, &lab, &id, &lab).await;
    assert_eq!(own.refused("INVALID_INPUT").user_errors()[0]["field"], json!(["targetWorkspaceId"]));

    // A workspace of another tenant, one that Amy does not know of and one that does not exist are alike.
    let stranger = app.stranger("sam@elsewhere.org", "Sam").await;
    let theirs = stranger.workspace("Theirs").await;
    let nowhere = Workspace { id: lab.id.replace(char::is_numeric, "1"), ..lab.clone() };
    let mut told = Vec::new();
    for target in [&theirs, &hidden, &nowhere] {
        let answer = share(&amy, &lab, &id, target).await;
        told.push(answer.refused("NOT_FOUND").user_errors()[0].clone());
    }
    assert!(told.iter().all(|error| error == &told[0]), "{told:?}");
    share(&ada, &lab, &id, &theirs).await.refused("NOT_FOUND");

    let past = app.db().now() - TimeDelta::days(1);
    let answer = share_until(&ada, &lab, &id, &hidden, Some(past)).await;
    assert_eq!(answer.refused("INVALID_INPUT").user_errors()[0]["field"], json!(["expiresAt"]));
    let editor = app.member(&lab, SystemRole::Editor, "Eve").await;
    share(&editor, &lab, &id, &field).await.denied("FORBIDDEN");

    // Of ten at once to one workspace, one is lent.
    let attempts = (0..10).map(|_| share(&ada, &lab, &id, &hidden));
    let answers = futures_util::future::join_all(attempts).await;
    assert_eq!(answers.iter().filter(|answer| answer.user_errors().is_empty()).count(), 1);
}

async fn targets_are_searched_among_what_one_sees(app: App) {
    let ada = app.set_up().await;
    let (lab, field, hidden) =
        (ada.workspace("Lab").await, ada.workspace("Field North").await, ada.workspace("Field South").await);
    let id = made(&ada, &lab, "Store", "hunter2").await;
    let amy = app.member(&lab, SystemRole::Admin, "Amy").await;
    app.owner().invite(&field, &amy.email, "VIEWER").await.ok();
    let mail = app.mail_to(&amy.email).await;
    let input = json!({ "token": guildhall_tests::actor::token_of(&mail.link()) });
    amy.mutate("acceptInvitation", input, "invitation { id }").await.ok();
    app.stranger("sam@elsewhere.org", "Sam").await.workspace("Field East").await;
    let targets = async |by: &Actor, id: &str, search: &str| {
        let document = "query($w: ID!, $c: ID!, $s: String) { credentialShareTargets(workspaceId: $w, credentialId: $c, search: $s) { name } }";
        by.query(document, json!({ "w": lab.id, "c": id, "s": search })).await
    };
    let names = |answer: Answer| -> Vec<String> {
        let found = answer.data("/credentialShareTargets").as_array().unwrap().clone();
        found.iter().map(|workspace| workspace["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(targets(&ada, &id, "FIELD").await.ok()), [field.name.clone(), hidden.name.clone()]);
    assert_eq!(names(targets(&amy, &id, "field").await.ok()), vec![field.name.as_str()]);
    share(&ada, &lab, &id, &field).await.ok();
    assert_eq!(names(targets(&ada, &id, "field").await.ok()), vec![hidden.name.as_str()]);
    targets(&ada, &id.replace(char::is_numeric, "1"), "").await.denied("NOT_FOUND");
    targets(&ada, "nonsense", "").await.denied("NOT_FOUND");
}

async fn targets_are_found_in_any_case_and_sorted_by_name(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let id = made(&ada, &lab, "Store", "hunter2").await;
    for name in ["gamma", "Übersicht", "Beta", "alpha"] {
        ada.workspace(name).await;
    }
    let targets = async |search: Value| {
        let document = "query($w: ID!, $c: ID!, $s: String) { credentialShareTargets(workspaceId: $w, credentialId: $c, search: $s) { displayName } }";
        let answer = ada.query(document, json!({ "w": lab.id, "c": id, "s": search })).await.ok();
        let found = answer.data("/credentialShareTargets").as_array().unwrap().clone();
        found.iter().map(|target| target["displayName"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(targets(Value::Null).await, ["alpha", "Beta", "Example", "gamma", "Übersicht"]);
    assert_eq!(targets(json!("üBERSICHT")).await, ["Übersicht"]);
    let example = json!({ "workspaceId": app.default_workspace().id, "displayName": "Ärzte" });
    ada.mutate("updateWorkspace", example, "").await.ok();
    assert_eq!(targets(json!("ärzte")).await, ["Ärzte"]);
}

async fn what_is_taken_back_fails_at_the_next_use(app: App) {
    let ada = app.set_up().await;
    let (lab, field) = (ada.workspace("Lab").await, ada.workspace("Field").await);
    let id = made(&ada, &lab, "Store", "hunter2").await;
    let eve = app.member(&field, SystemRole::Editor, "Eve").await;
    let loan = lent(&ada, &lab, &id, &field).await;
    used(&eve, &field, "store").await.ok();
    let borrowed = id_in(&eve, &field, "store").await;
    let answer = answer_share(&ada, "unshareCredential", &lab, &loan).await.ok();
    assert_eq!(answer.data("/unshareCredential/share/status"), "REVOKED");
    used(&eve, &field, "store").await.refused("NOT_FOUND");
    assert!(slugs(&listed(&eve, &field, "").await.ok()).is_empty());
    let node = eve.query("query($id: ID!) { node(id: $id) { id } }", json!({ "id": borrowed })).await.ok();
    assert_eq!(node.data("/node"), &Value::Null);
    answer_share(&ada, "unshareCredential", &lab, &loan).await.refused("SHARE_ENDED");
    // The borrower cannot take it back, and its failed use is on the owner's list.
    answer_share(&ada, "unshareCredential", &field, &loan).await.refused("NOT_FOUND");
    let outcomes: Vec<_> =
        uses(&ada, &lab, "store").await.iter().map(|used| used["outcome"].clone()).collect();
    assert_eq!(outcomes, ["USED", "NOT_SHARED"]);
    // It can be lent again, and the history keeps both.
    share(&ada, &lab, &id, &field).await.ok();
    used(&eve, &field, "store").await.ok();
    let document = "query($w: ID!) { credential(workspaceId: $w, slug: \"store\") { shares { totalCount nodes { status } } } }";
    let shares = ada.query(document, json!({ "w": lab.id })).await.ok();
    assert_eq!(
        shares.data("/credential/shares/nodes"),
        &json!([{ "status": "REVOKED" }, { "status": "ACTIVE" }])
    );
}

async fn a_loan_ends_by_itself_to_the_second(app: App) {
    let ada = app.set_up().await;
    let (lab, field) = (ada.workspace("Lab").await, ada.workspace("Field").await);
    let id = made(&ada, &lab, "Store", "hunter2").await;
    let end = app.db().now() + TimeDelta::minutes(10);
    share_until(&ada, &lab, &id, &field, Some(end)).await.ok();
    app.advance(TimeDelta::minutes(9));
    used(&ada, &field, "store").await.ok();
    app.advance(TimeDelta::seconds(61));
    used(&ada, &field, "store").await.refused("SHARE_EXPIRED");
    assert!(slugs(&listed(&ada, &field, "").await.ok()).is_empty());
    delete(&ada, &lab, &id, false).await.ok();

    // What has ended makes room for the next loan.
    let id = made(&ada, &lab, "Second", "hunter2").await;
    let end = app.db().now() + TimeDelta::minutes(1);
    share_until(&ada, &lab, &id, &field, Some(end)).await.ok();
    app.advance(TimeDelta::minutes(2));
    share(&ada, &lab, &id, &field).await.ok();
    used(&ada, &field, "second").await.ok();
}

async fn where_the_policy_asks_for_it_a_target_admin_accepts_first(app: App) {
    let ada = app.set_up().await;
    let (lab, field) = (ada.workspace("Lab").await, ada.workspace("Field").await);
    let id = made(&ada, &lab, "Store", "hunter2").await;
    let amy = app.member(&field, SystemRole::Admin, "Amy").await;
    let eve = app.member(&field, SystemRole::Editor, "Eve").await;
    policy(&ada, "REQUIRED").await;
    let answer = share(&ada, &lab, &id, &field).await.ok();
    assert_eq!(answer.data("/shareCredential/share/status"), "PENDING");
    let loan = answer.text("/shareCredential/share/id").to_owned();
    used(&eve, &field, "store").await.refused("SHARE_NOT_ACCEPTED");
    assert!(slugs(&listed(&eve, &field, "").await.ok()).is_empty());
    let document = "query($name: String!) { workspace(name: $name) { credentialOffers { totalCount nodes { id name owner { name } sharedBy { displayName } } } } }";
    let offers = eve.query(document, json!({ "name": field.name })).await.ok();
    assert_eq!(
        offers.data("/workspace/credentialOffers/nodes"),
        &json!([
            { "id": loan, "name": "Store", "owner": { "name": lab.name }, "sharedBy": { "displayName": "Ada" } },
        ])
    );
    // An editor does not accept, the lender does not accept for the borrower, a stranger knows of nothing.
    answer_share(&eve, "acceptCredentialShare", &field, &loan).await.denied("FORBIDDEN");
    answer_share(&ada, "acceptCredentialShare", &lab, &loan).await.refused("NOT_FOUND");
    let stranger = app.stranger("sam@elsewhere.org", "Sam").await;
    let theirs = stranger.workspace("Theirs").await;
    answer_share(&stranger, "acceptCredentialShare", &theirs, &loan).await.refused("NOT_FOUND");
    answer_share(&amy, "acceptCredentialShare", &field, &loan).await.ok();
    used(&eve, &field, "store").await.ok();
    answer_share(&amy, "acceptCredentialShare", &field, &loan).await.refused("SHARE_NOT_PENDING");
    let offers = eve.query(document, json!({ "name": field.name })).await.ok();
    assert_eq!(offers.data("/workspace/credentialOffers/totalCount"), 0);

    // Declined, an offer is over; it can be made anew, and ends by itself.
    let other = made(&ada, &lab, "Other", "x").await;
    let loan = lent(&ada, &lab, &other, &field).await;
    let answer = answer_share(&amy, "declineCredentialShare", &field, &loan).await.ok();
    assert_eq!(answer.data("/declineCredentialShare/share/status"), "DECLINED");
    answer_share(&amy, "acceptCredentialShare", &field, &loan).await.refused("SHARE_NOT_PENDING");
    answer_share(&amy, "declineCredentialShare", &field, &loan).await.refused("SHARE_ENDED");
    let end = app.db().now() + TimeDelta::minutes(1);
    let answer = share_until(&ada, &lab, &other, &field, Some(end)).await.ok();
    let loan = answer.text("/shareCredential/share/id").to_owned();
    app.advance(TimeDelta::minutes(2));
    answer_share(&amy, "acceptCredentialShare", &field, &loan).await.refused("SHARE_EXPIRED");

    // Without the policy nothing waits.
    policy(&ada, "NOT_REQUIRED").await;
    let answer = share(&ada, &lab, &other, &field).await.ok();
    assert_eq!(answer.data("/shareCredential/share/status"), "ACTIVE");
}

async fn an_offer_names_who_made_it_to_those_who_may_know_of_them(app: App) {
    let ada = app.set_up().await;
    let (lab, field) = (ada.workspace("Lab").await, ada.workspace("Field").await);
    let organization = ada.organization().await;
    let orla = app.member(&lab, SystemRole::Admin, "Orla").await;
    let input = json!({ "organizationId": organization, "userId": orla.id, "role": "ADMIN" });
    ada.mutate("updateOrganizationMember", input, "").await.ok();
    let amy = app.member(&field, SystemRole::Admin, "Amy").await;
    let eve = app.member(&field, SystemRole::Editor, "Eve").await;
    policy(&ada, "REQUIRED").await;
    // Ada is a member of the field, Orla is none.
    let (first, second) = (made(&ada, &lab, "First", "x").await, made(&ada, &lab, "Second", "x").await);
    lent(&ada, &lab, &first, &field).await;
    let of_orla = share(&orla, &lab, &second, &field).await.ok();
    assert_eq!(of_orla.data("/shareCredential/share/sharedBy/displayName"), "Orla");
    let of_orla = of_orla.text("/shareCredential/share/id").to_owned();
    let offered_by = async |reader: &Actor| {
        let document = "query($name: String!) { workspace(name: $name) { credentialOffers { nodes { sharedBy { displayName } } } } }";
        let offers = reader.query(document, json!({ "name": field.name })).await.ok();
        let nodes = offers.data("/workspace/credentialOffers/nodes").as_array().unwrap().clone();
        nodes.iter().map(|node| node["sharedBy"]["displayName"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(offered_by(&amy).await, ["Ada", "Orla"]);
    assert_eq!(offered_by(&eve).await, [json!("Ada"), Value::Null]);
    // Where the members are for admins alone, an Editor is told of nobody; who may accept it knows whose offer it is.
    let input = json!({ "organizationId": organization, "memberListVisibility": "ADMINS" });
    ada.mutate("updateOrganizationPolicy", input, "").await.ok();
    assert_eq!(offered_by(&eve).await, [Value::Null, Value::Null]);
    assert_eq!(offered_by(&amy).await, ["Ada", "Orla"]);
    let accepted = answer_share(&amy, "acceptCredentialShare", &field, &of_orla).await.ok();
    assert_eq!(accepted.data("/acceptCredentialShare/share/sharedBy/displayName"), "Orla");
}

async fn a_borrower_gives_back_what_it_does_not_want(app: App) {
    let ada = app.set_up().await;
    let (lab, field) = (ada.workspace("Lab").await, ada.workspace("Field").await);
    let id = made(&ada, &lab, "Store", "hunter2").await;
    let amy = app.member(&field, SystemRole::Admin, "Amy").await;
    share(&ada, &lab, &id, &field).await.ok();
    // By the id under which the borrower knows it.
    let borrowed = id_in(&amy, &field, "store").await;
    answer_share(&amy, "declineCredentialShare", &field, &borrowed).await.ok();
    used(&amy, &field, "store").await.refused("NOT_FOUND");
    delete(&ada, &lab, &id, false).await.ok();
}

async fn a_borrowed_credential_in_use_is_not_deleted_without_force(app: App) {
    let ada = app.set_up().await;
    let (lab, field) = (ada.workspace("Lab").await, ada.workspace("Field").await);
    let id = made(&ada, &lab, "Store", "hunter2").await;
    share(&ada, &lab, &id, &field).await.ok();
    let answer = delete(&ada, &lab, &id, false).await;
    let message = answer.refused("IN_USE").user_errors()[0]["message"].as_str().unwrap().to_owned();
    assert!(message.contains(&field.name), "{message}");
    used(&ada, &field, "store").await.ok();
    delete(&ada, &lab, &id, true).await.ok();
    used(&ada, &field, "store").await.refused("NOT_FOUND");
    assert_eq!(app.number("SELECT count(*) FROM credential_shares").await, 0);
}

async fn both_sides_list_the_uses_that_concern_them(app: App) {
    let ada = app.set_up().await;
    let (lab, field, third) =
        (ada.workspace("Lab").await, ada.workspace("Field").await, ada.workspace("Third").await);
    let id = made(&ada, &lab, "Store", "hunter2").await;
    share(&ada, &lab, &id, &field).await.ok();
    share(&ada, &lab, &id, &third).await.ok();
    let amy = app.member(&field, SystemRole::Admin, "Amy").await;
    let vic = app.member(&field, SystemRole::Viewer, "Vic").await;
    used(&ada, &lab, "store").await.ok();
    used(&amy, &field, "store").await.ok();
    used(&vic, &field, "store").await.denied("FORBIDDEN");
    used(&ada, &third, "store").await.ok();
    let brief = |uses: &[Value]| -> Vec<(String, String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        uses.iter()
            .map(|used| {
                (text(&used["outcome"]), text(&used["user"]["displayName"]), text(&used["workspace"]["name"]))
            })
            .collect()
    };
    let row = |outcome: &str, user: &str, workspace: &Workspace| {
        (outcome.to_owned(), user.to_owned(), workspace.name.clone())
    };
    assert_eq!(
        brief(&uses(&ada, &lab, "store").await),
        [
            row("USED", "Ada", &lab),
            row("USED", "Amy", &field),
            row("FORBIDDEN", "Vic", &field),
            row("USED", "Ada", &third),
        ]
    );
    assert_eq!(
        brief(&uses(&amy, &field, "store").await),
        [row("USED", "Amy", &field), row("FORBIDDEN", "Vic", &field)]
    );
    for used in uses(&ada, &lab, "store").await {
        assert_eq!(used["purpose"], "pipeline nightly, run 7");
        assert_eq!(used["owner"]["name"], lab.name.as_str());
    }
    for purpose in ["", " ", &"x".repeat(501)] {
        let input = json!({ "workspaceId": lab.id, "slug": "store", "purpose": purpose });
        let answer = ada.mutate("useCredential", input, "values { code }").await;
        assert_eq!(answer.refused("INVALID_INPUT").user_errors()[0]["field"], json!(["purpose"]));
    }
}

async fn own_slugs_go_before_borrowed_ones_and_a_path_says_whose(app: App) {
    let ada = app.set_up().await;
    let (lab, field, third) =
        (ada.workspace("Lab").await, ada.workspace("Field").await, ada.workspace("Third").await);
    let of_lab = made(&ada, &lab, "Store", "of the lab").await;
    let of_third = made(&ada, &third, "Store", "of the third").await;
    share(&ada, &lab, &of_lab, &field).await.ok();
    share(&ada, &third, &of_third, &field).await.ok();
    let answer = used(&ada, &field, "store").await;
    assert_eq!(answer.refused("AMBIGUOUS_SLUG").user_errors()[0]["field"], json!(["slug"]));
    for (owner, password) in [(&lab, "of the lab"), (&third, "of the third")] {
        let answer = used(&ada, &field, &format!("{}/store", owner.name)).await.ok();
        assert_eq!(value(&answer, "password"), password);
    }
    create(&ada, &field, "Store", "of the field").await.ok();
    assert_eq!(value(&used(&ada, &field, "store").await.ok(), "password"), "of the field");
    assert_eq!(
        value(&used(&ada, &field, &format!("{}/store", field.name)).await.ok(), "password"),
        "of the field"
    );
    used(&ada, &field, "nowhere/store").await.refused("NOT_FOUND");
}

async fn both_sides_are_told_live(app: App) {
    let ada = app.set_up().await;
    let (lab, field) = (ada.workspace("Lab").await, ada.workspace("Field").await);
    let amy = app.member(&field, SystemRole::Admin, "Amy").await;
    policy(&ada, "REQUIRED").await;
    let id = made(&ada, &lab, "Store", "hunter2").await;
    let document = "subscription($w: ID!) { credentialChanged(workspaceId: $w) { change credentialId credential { id slug isShared } } }";
    let mut owner = ada.subscribe(document, json!({ "w": lab.id })).await;
    let mut borrower = amy.subscribe(document, json!({ "w": field.id })).await;
    let loan = lent(&ada, &lab, &id, &field).await;
    let next = async |watch: &mut guildhall_tests::Subscription| {
        let event = watch.next().await.ok();
        (event.text("/credentialChanged/change").to_owned(), event.data("/credentialChanged").clone())
    };
    assert_eq!(next(&mut owner).await.0, "SHARE_OFFERED");
    let (change, offered) = next(&mut borrower).await;
    assert_eq!((change.as_str(), &offered["credential"]), ("OFFERED", &Value::Null));
    answer_share(&amy, "acceptCredentialShare", &field, &loan).await.ok();
    assert_eq!(next(&mut owner).await.0, "SHARE_ACCEPTED");
    let (change, borrowed) = next(&mut borrower).await;
    assert_eq!((change.as_str(), &borrowed["credential"]["isShared"]), ("BORROWED", &json!(true)));
    assert_eq!(borrowed["credentialId"], borrowed["credential"]["id"]);
    assert_eq!(borrowed["credentialId"], offered["credentialId"]);
    update(&ada, &lab, &id, json!({ "fields": database_fields("hunter3") })).await.ok();
    assert_eq!(next(&mut owner).await.0, "UPDATED");
    assert_eq!(next(&mut borrower).await.0, "BORROWED_UPDATED");
    answer_share(&ada, "unshareCredential", &lab, &loan).await.ok();
    assert_eq!(next(&mut owner).await.0, "UNSHARED");
    let (change, returned) = next(&mut borrower).await;
    assert_eq!((change.as_str(), &returned["credential"]), ("RETURNED", &Value::Null));
    assert_eq!(returned["credentialId"], borrowed["credentialId"]);
}

async fn a_use_and_its_revocation_at_once_give_one_of_two_answers(app: App) {
    let ada = app.set_up().await;
    let (lab, field) = (ada.workspace("Lab").await, ada.workspace("Field").await);
    let id = made(&ada, &lab, "Store", "hunter2").await;
    for _ in 0..5 {
        let loan = lent(&ada, &lab, &id, &field).await;
        let uses = futures_util::future::join_all((0..8).map(|_| used(&ada, &field, "store")));
        let (answers, revoked) = tokio::join!(uses, answer_share(&ada, "unshareCredential", &lab, &loan));
        revoked.ok();
        for answer in answers {
            match answer.user_errors().is_empty() {
                true => assert_eq!(value(&answer, "password"), "hunter2"),
                false => drop(answer.refused("NOT_FOUND")),
            }
        }
        used(&ada, &field, "store").await.refused("NOT_FOUND");
    }
}

async fn two_workspaces_that_lend_to_each_other_do_not_wait_for_each_other(app: App) {
    let ada = app.set_up().await;
    let (lab, field) = (ada.workspace("Lab").await, ada.workspace("Field").await);
    let (of_lab, of_field) = (made(&ada, &lab, "A", "x").await, made(&ada, &field, "B", "x").await);
    for _ in 0..10 {
        let (there, back) =
            tokio::join!(lent(&ada, &lab, &of_lab, &field), lent(&ada, &field, &of_field, &lab));
        let rotate = json!({ "fields": database_fields("y") });
        let (a, b, c, d) = tokio::join!(
            update(&ada, &lab, &of_lab, rotate.clone()),
            update(&ada, &field, &of_field, rotate),
            answer_share(&ada, "unshareCredential", &lab, &there),
            answer_share(&ada, "unshareCredential", &field, &back),
        );
        for answer in [a, b, c, d] {
            answer.ok();
        }
    }
}

async fn an_archived_lender_suspends_and_a_deleted_one_takes_back(app: App) {
    let ada = app.set_up().await;
    let (lab, field) = (ada.workspace("Lab").await, ada.workspace("Field").await);
    let id = made(&ada, &lab, "Store", "hunter2").await;
    share(&ada, &lab, &id, &field).await.ok();
    let suspended = async || {
        let document =
            "query($w: ID!) { credential(workspaceId: $w, slug: \"store\") { sharedFrom { isSuspended } } }";
        let answer = ada.query(document, json!({ "w": field.id })).await.ok();
        answer.data("/credential/sharedFrom/isSuspended").clone()
    };
    let change = async |mutation: &str| {
        ada.mutate(mutation, json!({ "workspaceId": lab.id }), "workspace { status }").await.ok();
    };
    change("archiveWorkspace").await;
    used(&ada, &field, "store").await.refused("SHARE_SUSPENDED");
    used(&ada, &lab, "store").await.refused("WORKSPACE_ARCHIVED");
    assert_eq!(suspended().await, json!(true));
    update(&ada, &lab, &id, json!({ "name": "Mine" })).await.refused("WORKSPACE_ARCHIVED");
    let outcomes: Vec<_> =
        uses(&ada, &lab, "store").await.iter().map(|used| used["outcome"].clone()).collect();
    assert_eq!(outcomes, ["SUSPENDED", "SUSPENDED"]);

    change("restoreWorkspace").await;
    assert_eq!(suspended().await, json!(false));
    assert_eq!(value(&used(&ada, &field, "store").await.ok(), "password"), "hunter2");

    // An archived workspace is nothing to lend to.
    ada.mutate("archiveWorkspace", json!({ "workspaceId": field.id }), "workspace { status }").await.ok();
    let other = made(&ada, &lab, "Other", "x").await;
    share(&ada, &lab, &other, &field).await.refused("NOT_FOUND");
    ada.mutate("restoreWorkspace", json!({ "workspaceId": field.id }), "workspace { status }").await.ok();

    let input = json!({ "workspaceId": lab.id, "confirmName": lab.name });
    ada.mutate("deleteWorkspace", input, "workspaceId").await.ok();
    used(&ada, &field, "store").await.refused("NOT_FOUND");
    assert!(slugs(&listed(&ada, &field, "").await.ok()).is_empty());
    for table in ["credentials", "credential_fields", "credential_shares", "workspace_keys"] {
        assert_eq!(app.number(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
}
