//! Two processes of the built binary on one PostgreSQL: what one does, the other tells; and what happens to one,
//! the other survives.

use std::time::Duration;

use guildhall_tests::{
    Actor, App, Process, Workspace,
    actor::token_of,
    app::fresh_database,
    databases::{Engine, TestDatabase, run},
    mailbox::MailServer,
};
use serde_json::json;

const CHANGES: &str = "subscription($id: ID!) {
    invitationStatusChanged(workspaceId: $id) { status invitation { email } }
}";

/// Two processes, and the owner of the instance at the first one.
struct Pair {
    first: Process,
    second: Process,
    ada: Actor,
    lab: Workspace,
    mail: MailServer,
    database: TestDatabase,
}

impl Pair {
    async fn start(engine: Engine) -> Self {
        let database = TestDatabase::empty(engine).await;
        let mail = MailServer::start().await;
        // On an empty database, at the same moment: one of them migrates.
        let (first, second) =
            tokio::join!(Process::spawn(&database, &mail), Process::spawn(&database, &mail));
        let (ada, _) = Actor::set_up(&first.url, &second.setup_token(), "ada@example.org", "Ada").await;
        let lab = ada.workspace("Lab").await;
        Self { first, second, ada, lab, mail, database }
    }

    /// Invites an address at one process and registers at the other; the link names whichever sent the mail.
    async fn join(&self, email: &str, invited_at: &str, registered_at: &str) -> Actor {
        self.ada.at(invited_at).invite(&self.lab, email, "VIEWER").await.ok();
        let link = self.mail.next_for(email).await.link();
        Actor::register(registered_at, token_of(&link), "Somebody").await
    }
}

#[test]
fn accept_at_one_is_told_at_the_other() {
    run(Engine::Postgres, Pair::start, async |mut pair: Pair| {
        let mut changes = pair.ada.at(&pair.first.url).subscribe(CHANGES, json!({ "id": pair.lab.id })).await;
        pair.ada.at(&pair.second.url).invite(&pair.lab, "eve@example.org", "VIEWER").await.ok();
        let told = changes.within(Duration::from_secs(1)).await.ok();
        assert_eq!(told.data("/invitationStatusChanged/status"), "PENDING");
        let link = pair.mail.next_for("eve@example.org").await.link();
        let eve = Actor::register(&pair.second.url, token_of(&link), "Eve").await;
        let accepted = changes.until(|event| event.data("/invitationStatusChanged/status") == "ACCEPTED");
        tokio::time::timeout(Duration::from_secs(1), accepted).await.expect("told within a second").ok();
        let query = "query($name: String!) { workspace(name: $name) { viewerRole { key } } }";
        let seen = eve.at(&pair.first.url).query(query, json!({ "name": pair.lab.name })).await.ok();
        assert_eq!(seen.data("/workspace/viewerRole/key"), "VIEWER");
        assert_eq!(pair.mail.messages().len(), 1, "one of the two sends the mail");
        for process in [&mut pair.first, &mut pair.second] {
            assert!(process.terminate().await.success(), "{}", process.output());
        }
    });
}

#[test]
fn other_process_goes_on_when_one_is_killed() {
    run(Engine::Postgres, Pair::start, async |mut pair: Pair| {
        let mut changes =
            pair.ada.at(&pair.second.url).subscribe(CHANGES, json!({ "id": pair.lab.id })).await;
        pair.ada.at(&pair.first.url).invite(&pair.lab, "eve@example.org", "VIEWER").await.ok();
        pair.first.kill();
        let told = changes.next().await.ok();
        assert_eq!(told.data("/invitationStatusChanged/invitation/email"), "eve@example.org");
        let second = pair.second.url.clone();
        pair.join("zoe@example.org", &second, &second).await;
        changes
            .until(|event| {
                event.data("/invitationStatusChanged/invitation/email") == "zoe@example.org"
                    && event.data("/invitationStatusChanged/status") == "ACCEPTED"
            })
            .await;
        assert!(pair.second.runs());
    });
}

#[test]
fn lost_connections_end_no_process_and_no_subscription() {
    run(Engine::Postgres, Pair::start, async |mut pair: Pair| {
        let mut changes = pair.ada.at(&pair.first.url).subscribe(CHANGES, json!({ "id": pair.lab.id })).await;
        for round in 0..3 {
            pair.database.kill_connections().await;
            let email = format!("eve{round}@example.org");
            let second = pair.second.url.clone();
            pair.join(&email, &second, &second).await;
            changes
                .until(|event| {
                    event.data("/invitationStatusChanged/invitation/email") == email.as_str()
                        && event.data("/invitationStatusChanged/status") == "ACCEPTED"
                })
                .await;
        }
        assert!(pair.first.runs() && pair.second.runs());
    });
}

#[test]
fn two_in_one_test_share_what_they_keep() {
    run(Engine::Postgres, App::start, async |app: App| {
        let ada = app.set_up().await;
        let other = app.second_process().await;
        let lab = ada.at(&other.url).workspace("Lab").await;
        let mut changes = ada.subscribe(CHANGES, json!({ "id": lab.id })).await;
        ada.at(&other.url).invite(&lab, "eve@example.org", "VIEWER").await.ok();
        changes.within(Duration::from_secs(1)).await.ok();
        other.stop().await;
        ada.invite(&lab, "zoe@example.org", "VIEWER").await.ok();
        changes
            .until(|event| event.data("/invitationStatusChanged/invitation/email") == "zoe@example.org")
            .await;
    });
}

#[test]
fn sqlite_process_keeps_everything_over_a_kill() {
    run(Engine::Sqlite, fresh_database, async |database: TestDatabase| {
        let mail = MailServer::start().await;
        let mut process = Process::spawn(&database, &mail).await;
        let (ada, workspace) =
            Actor::set_up(&process.url, &process.setup_token(), "ada@example.org", "Ada").await;
        process.kill();
        let process = Process::spawn(&database, &mail).await;
        let query = "query($name: String!) { workspace(name: $name) { id } }";
        let seen = ada.at(&process.url).query(query, json!({ "name": workspace.name })).await.ok();
        assert_eq!(seen.data("/workspace/id"), &json!(workspace.id));
        assert!(!process.output().contains("/setup?token="), "{}", process.output());
    });
}
