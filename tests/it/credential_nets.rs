//! What could slip through between credentials, their loans and their uses: rights that ended, ids of the wrong kind, much
//! history, and what happens at the same moment.

use chrono::TimeDelta;
use futures_util::future::{FutureExt as _, join_all};
use guildhall_domain::access::SystemRole;
use guildhall_persistence::housekeeping;
use guildhall_tests::{
    Actor, Answer, App, Workspace, both_databases,
    databases::{Engine, run},
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::{members::membership, races::tally};

both_databases!(
    App::start,
    nothing_is_lent_to_a_workspace_that_one_saw_once,
    a_loan_ends_in_a_year_of_four_digits,
    much_that_was_lent_hides_neither_the_own_credential_nor_an_older_loan,
    an_id_names_a_credential_or_a_loan_and_never_the_other,
    each_part_of_a_credential_asks_for_a_permission_of_its_own,
    a_refused_use_takes_as_long_for_a_credential_that_there_is,
    of_many_loans_to_one_workspace_at_once_one_is_made,
    lending_using_taking_back_and_deleting_at_once_agree,
    uses_are_forgotten_after_a_year,
    news_of_credentials_stays_with_its_tenant,
);

/// Makes a CUSTOM credential with the secret field `token` and the public one `host`; its id. The name is one word, and the
/// slug the same in small letters.
pub(crate) async fn custom(actor: &Actor, workspace: &Workspace, name: &str) -> String {
    let input = json!({
        "workspaceId": workspace.id, "type": "CUSTOM", "name": name,
        "fields": [{ "code": "token", "value": format!("secret of {name}") },
                   { "code": "host", "value": format!("host of {name}"), "isSecret": false }],
    });
    let made = actor.mutate("createCredential", input, "credential { id }").await.ok();
    made.text("/createCredential/credential/id").to_owned()
}

/// The answer to lending a credential of the workspace.
async fn lending(actor: &Actor, workspace: &Workspace, credential: &str, target: &str) -> Answer {
    let input =
        json!({ "workspaceId": workspace.id, "credentialId": credential, "targetWorkspaceId": target });
    actor.mutate("shareCredential", input, "share { id status target { displayName } }").await
}

/// Lends a credential of the workspace; the id of the loan.
pub(crate) async fn lend(actor: &Actor, workspace: &Workspace, credential: &str, target: &str) -> String {
    lending(actor, workspace, credential, target).await.ok().text("/shareCredential/share/id").to_owned()
}

/// The answer to using a credential.
pub(crate) async fn using(actor: &Actor, workspace: &Workspace, slug: &str) -> Answer {
    let input = json!({ "workspaceId": workspace.id, "slug": slug, "purpose": "a test" });
    actor.mutate("useCredential", input, "credential { id } values { code value }").await
}

/// The value of the field `token` that a use was given.
fn token(answer: &Answer) -> &Value {
    let values = answer.data("/useCredential/values").as_array().unwrap();
    &values.iter().find(|value| value["code"] == "token").unwrap()["value"]
}

async fn nothing_is_lent_to_a_workspace_that_one_saw_once(app: App) {
    let ada = app.set_up().await;
    let (lab, attic) = (ada.workspace("Lab").await, ada.workspace("Attic").await);
    let adam = app.member(&lab, SystemRole::Admin, "Adam").await;
    let invited = ada.invite(&attic, &adam.email, "ADMIN").await.ok();
    let input = json!({ "invitationId": invited.data("/inviteMember/invitation/id") });
    adam.mutate("acceptInvitation", input, "").await.ok();
    let store = custom(&adam, &lab, "Store").await;
    let targets = format!(
        r#"{{ credentialShareTargets(workspaceId: "{}", credentialId: "{store}") {{ name }} }}"#,
        lab.id
    );
    let found = adam.query(&targets, json!({})).await.ok();
    assert_eq!(found.data("/credentialShareTargets"), &json!([{ "name": "attic" }]));

    let membership = app.literal(&membership(&attic, &adam).await);
    app.sql(&format!(
        "UPDATE memberships SET expires_at = '2020-01-01 00:00:00+00:00' WHERE id = {membership}"
    ))
    .await;
    let refused = lending(&adam, &lab, &store, &attic.id).await.refused("NOT_FOUND");
    let unknown = lending(&adam, &lab, &store, "wks_0193a1b2c3d47e8f9012345678901234").await;
    assert_eq!(refused.body, unknown.body, "as if there were no such workspace");
    assert_eq!(adam.query(&targets, json!({})).await.ok().data("/credentialShareTargets"), &json!([]));
    assert_eq!(app.number("SELECT count(*) FROM credential_shares").await, 0);
}

async fn a_loan_ends_in_a_year_of_four_digits(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let store = custom(&ada, &lab, "Store").await;
    for (end, is_good) in [
        ("+10000-01-01T00:00:00Z", false),
        ("+262142-12-31T23:59:59Z", false),
        ("2001-01-01T00:00:00Z", false),
        ("9999-12-31T23:59:59Z", true),
    ] {
        let input = json!({
            "workspaceId": lab.id, "credentialId": store, "targetWorkspaceId": app.default_workspace().id,
            "expiresAt": end,
        });
        let answer = ada.mutate("shareCredential", input, "share { status }").await;
        if is_good {
            assert_eq!(answer.ok().data("/shareCredential/share/status"), "ACTIVE");
        } else {
            let answer = answer.refused("INVALID_INPUT");
            assert_eq!(answer.user_errors()[0]["field"], json!(["expiresAt"]), "{answer}");
        }
    }
    let used = using(&ada, app.default_workspace(), "store").await.ok();
    assert_eq!(token(&used), "secret of Store");
}

async fn much_that_was_lent_hides_neither_the_own_credential_nor_an_older_loan(app: App) {
    let ada = app.set_up().await;
    let (lab, attic) = (ada.workspace("Lab").await, ada.workspace("Attic").await);
    let borrower = app.default_workspace();
    let first = custom(&ada, &attic, "Store").await;
    lend(&ada, &attic, &first, &borrower.id).await;
    let second = custom(&ada, &lab, "Store").await;
    let like = lend(&ada, &lab, &second, &borrower.id).await;
    let input = json!({ "workspaceId": lab.id, "shareId": like });
    ada.mutate("unshareCredential", input, "").await.ok();
    // As if it had been lent and taken back for years.
    let copies: Vec<_> = (0..260)
        .map(|number| {
            let id = app.literal(&format!("shr_0fffa1b2c3d47e8f9012{number:012x}"));
            format!(
                "INSERT INTO credential_shares (id, credential_id, workspace_id, target_id, status, shared_by, created_at)
                 SELECT {id}, credential_id, workspace_id, target_id, status, shared_by, created_at
                 FROM credential_shares WHERE id = {}",
                app.literal(&like)
            )
        })
        .collect();
    app.sql(&copies.join(";\n")).await;

    let used = using(&ada, borrower, "store").await.ok();
    assert_eq!(token(&used), "secret of Store");
    using(&ada, borrower, "lab/store").await.refused("NOT_FOUND");
    custom(&ada, borrower, "Store").await;
    let used = using(&ada, borrower, "store").await.ok();
    assert!(used.text("/useCredential/credential/id").starts_with("crd_"), "{used}");
    let used = using(&ada, borrower, "attic/store").await.ok();
    assert!(used.text("/useCredential/credential/id").starts_with("bor_"), "{used}");
}

async fn an_id_names_a_credential_or_a_loan_and_never_the_other(app: App) {
    let ada = app.set_up().await;
    app.sql("UPDATE organizations SET allow_reveal = true").await;
    let lab = ada.workspace("Lab").await;
    let store = custom(&ada, &lab, "Store").await;
    let share = lend(&ada, &lab, &store, &app.default_workspace().id).await;
    for (workspace, id) in [
        (&lab, store.replace("crd_", "bor_")),
        (&lab, share.replace("shr_", "bor_")),
        (app.default_workspace(), share.replace("shr_", "crd_")),
        (app.default_workspace(), store.clone()),
        (app.default_workspace(), store.replace("crd_", "bor_")),
    ] {
        let input = json!({ "workspaceId": workspace.id, "credentialId": id });
        for (mutation, selection) in [
            ("updateCredential", "credential { id }"),
            ("revealCredential", "values { value }"),
            ("deleteCredential", "deletedCredentialId"),
        ] {
            ada.mutate(mutation, input.clone(), selection).await.refused("NOT_FOUND");
        }
        lending(&ada, workspace, &id, &lab.id).await.refused("NOT_FOUND");
    }
    for id in [store.replace("crd_", "bor_"), share.replace("shr_", "crd_"), share.clone()] {
        let node = ada.query("query($id: ID!) { node(id: $id) { id } }", json!({ "id": id })).await.ok();
        assert!(node.data("/node").is_null(), "{node}");
    }
    let input = json!({
        "workspaceId": app.default_workspace().id, "credentialId": share.replace("shr_", "bor_"),
    });
    ada.mutate("deleteCredential", input.clone(), "").await.refused("SHARED_READ_ONLY");
    ada.mutate("revealCredential", input, "").await.refused("SHARED_READ_ONLY");
}

async fn each_part_of_a_credential_asks_for_a_permission_of_its_own(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let store = custom(&ada, &lab, "Store").await;
    using(&ada, &lab, "store").await.ok();
    let organization = ada.organization().await;
    let all = ["CREDENTIAL_LIST", "CREDENTIAL_USE", "CREDENTIAL_MANAGE", "CREDENTIAL_SHARE"];
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    let membership = membership(&lab, &eve).await;
    for mask in 0..1_u32 << all.len() {
        let held = |permission: &str| {
            all.iter().position(|known| *known == permission).is_some_and(|at| mask & (1 << at) > 0)
        };
        let permissions: Vec<_> = all.into_iter().filter(|permission| held(permission)).collect();
        let role = crate::roles::made(&ada, &organization, &format!("Role {mask}"), &permissions).await;
        crate::members::set_role(&ada, &lab, &membership, &role).await.ok();
        let node = eve.query(&format!(r#"{{ node(id: "{store}") {{ id }} }}"#), json!({})).await.ok();
        assert_eq!(!node.data("/node").is_null(), held("CREDENTIAL_LIST"), "{permissions:?}: {node}");
        let of = |part: &str| {
            format!(r#"{{ credential(workspaceId: "{}", slug: "store") {{ name {part} }} }}"#, lab.id)
        };
        for (part, permission) in [
            ("fields { code value fingerprint }", "CREDENTIAL_USE"),
            ("shares { totalCount }", "CREDENTIAL_SHARE"),
            ("usages { totalCount }", "CREDENTIAL_MANAGE"),
        ] {
            let answer = eve.query(&of(part), json!({})).await;
            if !held("CREDENTIAL_LIST") {
                assert_eq!(
                    (answer.code(), answer.data("/credential")),
                    ("FORBIDDEN", &Value::Null),
                    "{answer}"
                );
            } else if held(permission) {
                answer.ok();
            } else {
                assert_eq!((answer.code(), answer.data("/credential/name")), ("FORBIDDEN", &json!("Store")));
            }
        }
        let used = using(&eve, &lab, "store").await;
        if held("CREDENTIAL_USE") {
            assert_eq!(token(&used), "secret of Store");
            assert_eq!(!used.data("/useCredential/credential").is_null(), held("CREDENTIAL_LIST"), "{used}");
        } else {
            used.denied("FORBIDDEN");
        }
    }
}

async fn a_refused_use_takes_as_long_for_a_credential_that_there_is(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    custom(&ada, &lab, "Store").await;
    let eve = app.member(&lab, SystemRole::Viewer, "Eve").await;
    let refused = async |slug: &str| {
        let answer = using(&eve, &lab, slug).await;
        answer.errors()[0]["message"].as_str().unwrap().to_owned()
    };
    assert_eq!(refused("store").await, refused("stove").await);
    let known = app.count(async || drop(refused("store").await)).await;
    let unknown = app.count(async || drop(refused("stove").await)).await;
    assert_eq!(known, unknown, "statements for a slug that there is and for one that there is not");
    let uses = "SELECT count(*) FROM credential_uses WHERE outcome = 'FORBIDDEN'";
    assert_eq!(app.number(uses).await, 4, "each of the four tries of what there is, and no other");
}

async fn of_many_loans_to_one_workspace_at_once_one_is_made(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let store = custom(&ada, &lab, "Store").await;
    let target = app.default_workspace();
    let answers = join_all((0..12).map(|_| lending(&ada, &lab, &store, &target.id))).await;
    let tally = tally(&answers);
    assert_eq!((tally["OK"], tally["ALREADY_SHARED"]), (1, 11), "{tally:?}");
    assert_eq!(app.number("SELECT count(*) FROM credential_shares").await, 1);
}

async fn lending_using_taking_back_and_deleting_at_once_agree(app: App) {
    let ada = app.set_up().await;
    let (lab, attic) = (ada.workspace("Lab").await, ada.workspace("Attic").await);
    let target = app.default_workspace();
    for round in 0..4 {
        let name = format!("Store{round}");
        let slug = name.to_lowercase();
        let store = custom(&ada, &lab, &name).await;
        let share = lend(&ada, &lab, &store, &target.id).await;
        let mine = json!({ "workspaceId": lab.id, "shareId": share });
        let theirs = json!({ "workspaceId": target.id, "shareId": share });
        let delete = json!({ "workspaceId": lab.id, "credentialId": store, "force": true });
        let update = json!({ "workspaceId": lab.id, "credentialId": store, "name": "New",
                             "fields": [{ "code": "token", "value": "new" }] });
        let address = format!("lab/{slug}");
        let work = vec![
            using(&ada, target, &slug).boxed_local(),
            ada.mutate("updateCredential", update.clone(), "credential { fields { code } }").boxed_local(),
            using(&ada, target, &address).boxed_local(),
            ada.mutate("unshareCredential", mine, "share { status }").boxed_local(),
            ada.mutate("declineCredentialShare", theirs, "share { status }").boxed_local(),
            lending(&ada, &lab, &store, &target.id).boxed_local(),
            using(&ada, &lab, &slug).boxed_local(),
            lending(&ada, &lab, &store, &attic.id).boxed_local(),
            using(&ada, target, &address).boxed_local(),
            ada.mutate("deleteCredential", delete, "deletedCredentialId").boxed_local(),
            ada.mutate("updateCredential", update, "credential { fields { code } }").boxed_local(),
            using(&ada, target, &address).boxed_local(),
            using(&ada, &attic, &slug).boxed_local(),
        ];
        let answers = join_all(work).await;
        tally(&answers);
        assert_eq!(answers[9].data("/deleteCredential/deletedCredentialId"), &json!(store), "{}", answers[9]);
        for workspace in [target, &lab, &attic] {
            using(&ada, workspace, &slug).await.refused("NOT_FOUND");
        }
    }
    assert_eq!(app.number("SELECT count(*) FROM credential_shares").await, 0);
    assert_eq!(app.number("SELECT count(*) FROM credential_fields").await, 0);
    assert_eq!(app.number("SELECT count(*) FROM credential_uses WHERE credential_id IS NOT NULL").await, 0);
}

#[test]
fn a_use_of_what_is_being_deleted_is_no_fault() {
    run(Engine::Postgres, App::start, async |app: App| {
        let ada = app.set_up().await;
        let lab = ada.workspace("Lab").await;
        let target = app.default_workspace().clone();
        let eve = app.member(&target, SystemRole::Viewer, "Eve").await;
        for what in ["credentials", "workspaces"] {
            let store = custom(&ada, &lab, "Store").await;
            let share = lend(&ada, &lab, &store, &target.id).await;
            let input = json!({ "workspaceId": lab.id, "shareId": share });
            ada.mutate("unshareCredential", input, "").await.ok();
            // What the deletion of a workspace does to its credentials happens within one statement.
            let gone = if what == "workspaces" { &lab.id } else { &store };
            let mut other = PgConnection::connect(&app.database().url).await.unwrap();
            let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut other).await.unwrap();
            let statement = format!("BEGIN; DELETE FROM {what} WHERE id = {}", app.literal(gone));
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut other).await.unwrap();
            let refused = tokio::join!(using(&ada, &target, "store"), using(&eve, &target, "store"), async {
                // Until one of them waits for what is being deleted.
                let waiting =
                    format!("SELECT count(*) FROM pg_stat_activity WHERE {pid} = ANY(pg_blocking_pids(pid))");
                let mut waited = 0;
                while app.number(&waiting).await == 0 {
                    waited += 1;
                    assert!(waited < 1000, "nobody met what was being deleted");
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
                sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
            });
            refused.0.refused("NOT_FOUND");
            refused.1.denied("FORBIDDEN");
        }
    });
}

async fn uses_are_forgotten_after_a_year(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    custom(&ada, &lab, "Store").await;
    using(&ada, &lab, "store").await.ok();
    app.advance(TimeDelta::days(364));
    assert_eq!(housekeeping::sweep(app.db()).await.unwrap().uses, 0);
    app.advance(TimeDelta::days(2));
    assert_eq!(housekeeping::sweep(app.db()).await.unwrap().uses, 1);
    assert_eq!(app.number("SELECT count(*) FROM credential_uses").await, 0);
}

async fn news_of_credentials_stays_with_its_tenant(app: App) {
    let ada = app.set_up().await;
    let olga = app.stranger("olga@example.org", "Olga").await;
    let (tower, keep) = (ada.workspace("Tower").await, ada.workspace("Keep").await);
    let lab = olga.workspace("Lab").await;
    let document = "subscription($id: ID!, $after: String) {
        credentialChanged(workspaceId: $id, after: $after) { cursor change credentialId credential { id name } } }";
    let mut theirs = olga.subscribe(document, json!({ "id": lab.id })).await;
    custom(&olga, &lab, "Theirs").await;
    let told = theirs.next().await.ok();
    assert_eq!(told.data("/credentialChanged/credential/name"), "Theirs");
    let cursor = told.text("/credentialChanged/cursor");
    let mut heard = [
        ada.subscribe(document, json!({ "id": tower.id })).await,
        ada.subscribe(document, json!({ "id": tower.id, "after": cursor })).await,
    ];
    let second = custom(&olga, &lab, "Second").await;
    // A workspace of the same organization is told of what is lent to it, and of nothing else.
    let mine = custom(&ada, &keep, "Mine").await;
    let lent = custom(&ada, &keep, "Lent").await;
    let update = json!({ "workspaceId": keep.id, "credentialId": mine, "name": "Still mine" });
    ada.mutate("updateCredential", update, "").await.ok();
    let delete = json!({ "workspaceId": lab.id, "credentialId": second });
    olga.mutate("deleteCredential", delete, "").await.ok();
    for subscription in &mut heard {
        subscription.no_event_for(250).await;
    }
    let share = lend(&ada, &keep, &lent, &tower.id).await;
    for subscription in &mut heard {
        let told = subscription.next().await.ok();
        let borrowed = share.replace("shr_", "bor_");
        assert_eq!(told.data("/credentialChanged/change"), "BORROWED");
        assert_eq!(told.data("/credentialChanged/credentialId"), &json!(borrowed));
        assert_eq!(told.data("/credentialChanged/credential"), &json!({ "id": borrowed, "name": "Lent" }));
    }
}
