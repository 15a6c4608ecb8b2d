//! What the databases are trusted with: many writers at once, lost connections, other secrets, a sudden end.

use std::{ffi::OsString, fs, path::Path, time::Duration};

use chrono::DateTime;
use futures_util::future::join_all;
use guildhall_domain::{
    access::System,
    ids::InvitationId,
    mail::{InvitationLetter, InvitedWorkspace, Letter},
};
use guildhall_persistence::{OpError, mails};
use guildhall_server::{
    app::{self as server, StartError},
    config::{Config, Sources},
};
use guildhall_tests::{
    Actor, App, Process,
    actor::token_of,
    app::fresh_database,
    both_databases,
    databases::{Engine, TestDatabase, run},
    mailbox::{Fault, MailServer},
};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use tempfile::TempDir;
use uuid::Uuid;

both_databases!(
    App::start,
    thirty_two_write_at_once,
    clients_that_go_away_leave_nothing_half_written_and_no_lock,
    references_are_kept_whole,
);
both_databases!(
    fresh_database,
    database_written_with_other_secrets_refuses_to_start,
    what_was_acknowledged_survives_kill_9,
);

const WORKSPACES: &str = "{ viewer { workspaces(first: 100) { totalCount nodes { name displayName } } } }";

async fn execute(database: &TestDatabase, statement: &str) {
    let query = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()));
    match database.engine() {
        Engine::Sqlite => {
            let mut connection = SqliteConnection::connect(&database.url).await.unwrap();
            query.execute(&mut connection).await.unwrap();
        }
        Engine::Postgres => {
            let mut connection = PgConnection::connect(&database.url).await.unwrap();
            query.execute(&mut connection).await.unwrap();
        }
    }
}

fn configured(database: &TestDatabase, data: &Path, more: &[(&str, &str)]) -> Config {
    let data = data.to_str().unwrap();
    let given = [("DATABASE_URL", database.url.as_str()), ("GUILDHALL_DATA_DIR", data)];
    let environment =
        given.iter().chain(more).map(|(name, value)| (OsString::from(name), OsString::from(value)));
    Config::load(&Sources { file: None, environment: environment.collect() }).unwrap()
}

#[test]
fn sqlite_is_set_for_safety() {
    run(Engine::Sqlite, App::start, async |app: App| {
        app.set_up().await;
        let mut connection = SqliteConnection::connect(&app.database().url).await.unwrap();
        let mode: String =
            sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut connection).await.unwrap();
        assert_eq!(mode, "wal", "readers and the writer do not wait for each other");
    });
    run(Engine::Sqlite, fresh_database, async |database: TestDatabase| {
        let data = TempDir::new().unwrap();
        let full = |more: &[_]| {
            server::database_options(&configured(&database, data.path(), more).database).sqlite_full_sync
        };
        assert!(full(&[]), "nothing acknowledged is lost with the power, unless somebody asks for speed");
        assert!(!full(&[("GUILDHALL_DATABASE_SQLITE_SYNCHRONOUS", "normal")]));
    });
}

/// A row that points nowhere is refused: on SQLite only where foreign keys were turned on.
async fn references_are_kept_whole(app: App) {
    app.set_up().await;
    let letter = Letter::Invitation(InvitationLetter {
        recipient_email: "eve@example.org".into(),
        inviter_name: "Ada".into(),
        inviter_email: "ada@example.org".into(),
        organization_name: "Engines".into(),
        organization_role: None,
        workspaces: vec![InvitedWorkspace { display_name: "Lab".into(), role_name: "Viewer".into() }],
        link: "https://guild.example/invitations/secret".into(),
        expires_at: DateTime::UNIX_EPOCH,
        message: None,
    });
    #[expect(clippy::disallowed_methods, reason = "a test acts for the service itself")]
    let proof = System::named("test");
    let nowhere = InvitationId::from(Uuid::from_u128(7));
    let written =
        app.db().write(&proof, async |tx| Ok::<_, OpError<()>>(mails::enqueue(tx, Some(nowhere), &letter)?));
    assert!(written.await.is_err());
    assert_eq!(app.number("SELECT count(*) FROM mails").await, 0);
}

/// Requests that are dropped while their statement or transaction is under way: each at another moment.
async fn clients_that_go_away_leave_nothing_half_written_and_no_lock(app: App) {
    let ada = app.set_up().await;
    let lab = ada.workspace("Lab").await;
    let gone = async |number: u64, moment: Duration| {
        let email = format!("gone{number}@example.org");
        tokio::time::timeout(moment, ada.invite(&lab, &email, "VIEWER")).await.ok();
    };
    // Many at once, so that several connections are left.
    join_all((0..120).map(|number| gone(number, Duration::from_micros(number * 400)))).await;
    if app.engine() == Engine::Postgres {
        let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
            AND state LIKE 'idle in transaction%' AND state_change < now() - interval '1 second'";
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(app.number(open).await, 0, "a transaction that nobody will end");
    }
    // One after the other, so that the next one gets the connection that was left.
    for number in 120..240 {
        gone(number, Duration::from_micros((number - 120) * 60)).await;
    }
    // Whoever comes next finds every connection usable, and the workspace's row free.
    let next = (0..20).map(|number| {
        let (ada, lab) = (&ada, &lab);
        async move { ada.invite(lab, &format!("next{number}@example.org"), "VIEWER").await.ok() }
    });
    tokio::time::timeout(Duration::from_secs(10), join_all(next)).await.expect("something holds a lock");
    for (whole, half) in [
        (
            "invitations",
            "SELECT count(*) FROM invitations i WHERE NOT EXISTS \
            (SELECT 1 FROM invitation_grants g WHERE g.invitation_id = i.id)",
        ),
        (
            "their mails",
            "SELECT count(*) FROM invitations i WHERE NOT EXISTS \
            (SELECT 1 FROM mails m WHERE m.invitation_id = i.id)",
        ),
        (
            "their events",
            "SELECT count(*) FROM invitations i WHERE NOT EXISTS \
            (SELECT 1 FROM events e WHERE e.subject_id = i.id)",
        ),
    ] {
        assert_eq!(app.number(half).await, 0, "{whole} came without what belongs to them");
    }
    let written = app.number("SELECT count(*) FROM invitations").await;
    assert!((20..=260).contains(&written), "{written}");
}

async fn thirty_two_write_at_once(app: App) {
    let ada = app.set_up().await;
    // All want the same name, so that they meet.
    let made = join_all((0..32).map(|_| ada.workspace("Lab"))).await;
    let mut names: Vec<_> = made.iter().map(|workspace| workspace.name.clone()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 32, "{names:?}");
    let seen = ada.query(WORKSPACES, json!({})).await.ok();
    assert_eq!(seen.data("/viewer/workspaces/totalCount"), 33);

    // In one workspace, in many, and with sessions: each is written and each is read meanwhile.
    let all = join_all((0..32).map(|number| {
        let (ada, lab) = (&ada, if number % 2 == 0 { &made[0] } else { &made[number] });
        async move {
            ada.invite(lab, &format!("eve{number}@example.org"), "VIEWER").await.ok();
            ada.again().await.query(WORKSPACES, json!({})).await.ok();
        }
    }));
    all.await;
    assert_eq!(app.number("SELECT count(*) FROM invitations WHERE status = 'PENDING'").await, 32);
    assert_eq!(app.number("SELECT count(*) FROM sessions").await, 33);
    assert_eq!(app.number("SELECT count(*) FROM mails").await, 32);
}

#[test]
fn lost_connections_fail_no_read_and_no_more_than_a_write() {
    run(Engine::Postgres, App::start, async |app: App| {
        let ada = app.set_up().await;
        let mut acknowledged = Vec::new();
        for round in 0..5 {
            app.database().kill_connections().await;
            ada.query(WORKSPACES, json!({})).await.ok();
            let reads = join_all((0..10).map(|_| ada.query(WORKSPACES, json!({}))));
            let writes = join_all((0..10).map(|number| {
                let input = json!({ "displayName": format!("Lab {round} {number}") });
                ada.mutate("createWorkspace", input, "workspace { displayName }")
            }));
            let (reads, writes, ()) = tokio::join!(reads, writes, app.database().kill_connections());
            for read in reads {
                read.ok();
            }
            for write in writes {
                if write.errors().is_empty() {
                    acknowledged.push(write.ok().text("/createWorkspace/workspace/displayName").to_owned());
                } else {
                    let message = write.errors()[0]["message"].as_str().unwrap().to_owned();
                    write.denied("INTERNAL");
                    assert!(message.starts_with("Something went wrong"), "{message}");
                }
            }
        }
        let seen = ada.query(WORKSPACES, json!({})).await.ok();
        let nodes = seen.data("/viewer/workspaces/nodes").as_array().unwrap();
        for name in &acknowledged {
            assert!(nodes.iter().any(|node| node["displayName"] == name.as_str()), "{name} was lost");
        }
        // Between requests nothing is lost at all.
        for number in 0..50 {
            if number % 10 == 0 {
                app.database().kill_connections().await;
            }
            ada.workspace(&format!("Den {number}")).await;
        }
        assert_eq!(app.anonymous().get("/readyz").await.status, 200);
        app.stop().await;
    });
}

async fn database_written_with_other_secrets_refuses_to_start(database: TestDatabase) {
    let secrets = [
        ("MASTER_KEY", "f0Kx9vQ2mZ7rT4bW8nL1cY6hJ3sD5gAaPpEeUuRrSs0="),
        ("JWT_AUTH_TOKEN_SECRET", "one access secret, long enough to be one"),
        ("JWT_REFRESH_TOKEN_SECRET", "one refresh secret, long enough to be it"),
        ("TOKEN_HASH_SECRET", "one hashing secret, long enough to be one"),
    ];
    let data = TempDir::new().unwrap();
    let open = async |secrets: &[(&str, &str)]| {
        let mut config = configured(&database, data.path(), secrets);
        let opened = server::open_database(&mut config, server::system_seams()).await;
        match opened {
            Ok(db) => {
                db.close().await;
                Ok(())
            }
            Err(error) => Err(error),
        }
    };
    open(&secrets).await.unwrap();
    for (name, other) in [
        ("MASTER_KEY", "q7Bn2XwV5kLt9ZcJ4mYh8RfD1sGp6TaE3uQoNiWx0Mw="),
        ("JWT_REFRESH_TOKEN_SECRET", "another refresh secret, long enough too"),
        ("TOKEN_HASH_SECRET", "another hashing secret, long enough too!"),
    ] {
        let changed = secrets.map(|(key, value)| (key, if key == name { other } else { value }));
        let error = open(&changed).await.unwrap_err();
        assert!(matches!(error, StartError::Keys(_)), "{name}: {error}");
        let message = error.to_string();
        assert!(message.contains("other secrets") && message.contains(name), "{message}");
        assert!(!changed.iter().any(|(_, value)| message.contains(value)), "{message}");
    }
    // Access tokens are not kept, so their secret may be renewed at any time.
    open(&secrets.map(|(key, value)| {
        (
            key,
            if key == "JWT_AUTH_TOKEN_SECRET" { "a new access secret, long enough to be one" } else { value },
        )
    }))
    .await
    .unwrap();
    // Secrets that were lost with their directory are other secrets.
    assert!(matches!(open(&[]).await.unwrap_err(), StartError::Keys(_)));
    assert!(fs::exists(data.path().join("secrets.toml")).unwrap());
    open(&secrets).await.unwrap();
}

async fn what_was_acknowledged_survives_kill_9(database: TestDatabase) {
    let mail = MailServer::start().await;
    // What the process could not send, the next one has to.
    mail.fault(Fault::Refuse).await;
    let full = |environment: &mut guildhall_tests::Environment| {
        environment.set("GUILDHALL_DATABASE_SQLITE_SYNCHRONOUS", "full");
    };
    let mut process = Process::spawn_with(&database, &mail, full).await;
    let (ada, lab) = Actor::set_up(&process.url, &process.setup_token(), "ada@example.org", "Ada").await;
    let invited = ada.invite(&lab, "eve@example.org", "EDITOR").await.ok();
    process.kill();

    mail.fault(Fault::None).await;
    // Instead of waiting until the lease of the dead process has passed.
    execute(&database, "UPDATE mails SET due_at = created_at WHERE status = 'QUEUED'").await;
    let process = Process::spawn_with(&database, &mail, full).await;
    let ada = ada.at(&process.url);
    let query = "query($name: String!) { workspace(name: $name) {
        invitations { nodes { id status email delivery } }
    } }";
    let seen = ada.query(query, json!({ "name": lab.name })).await.ok();
    let nodes = seen.data("/workspace/invitations/nodes");
    assert_eq!(nodes[0]["id"], *invited.data("/inviteMember/invitation/id"));
    assert_eq!(nodes[0]["status"], "PENDING");

    let link = mail.next_for("eve@example.org").await.link();
    let eve = Actor::register(&process.url, token_of(&link), "Eve").await;
    let role = "query($name: String!) { workspace(name: $name) { viewerRole { key } } }";
    let seen = eve.query(role, json!({ "name": lab.name })).await.ok();
    assert_eq!(seen.data("/workspace/viewerRole/key"), "EDITOR");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(mail.messages().len(), 1);
}
