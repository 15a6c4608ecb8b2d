//! The tables: made once, whoever comes first, and as this version knows them.

use std::time::Duration;

use guildhall_persistence::{Options, housekeeping, instance, migrate};
use guildhall_tests::{
    App, both_databases,
    databases::{Engine, TestDatabase, run},
};
use serde_json::json;
use sqlx::{Connection as _, Executor as _, PgConnection, SqliteConnection};

both_databases!(
    TestDatabase::empty,
    migrating_twice_changes_nothing,
    two_that_migrate_at_once_take_turns,
    a_version_starts_again_after_a_newer_one_has_migrated,
);

both_databases!(
    App::start,
    every_entity_selects_from_a_fresh_database,
    names_that_the_version_before_wrote_are_found_in_any_case,
);

/// Everything the database knows of its tables: statements on SQLite, columns and indexes on PostgreSQL.
async fn shape(database: &TestDatabase) -> Vec<String> {
    match database.engine() {
        Engine::Sqlite => {
            let mut connection = SqliteConnection::connect(&database.url).await.unwrap();
            sqlx::query_scalar("SELECT coalesce(sql, name) FROM sqlite_schema ORDER BY name")
                .fetch_all(&mut connection)
                .await
        }
        Engine::Postgres => {
            let mut connection = PgConnection::connect(&database.url).await.unwrap();
            sqlx::query_scalar(
                "SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default)
                 FROM information_schema.columns WHERE table_schema = 'public'
                 UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
                 ORDER BY 1",
            )
            .fetch_all(&mut connection)
            .await
        }
    }
    .unwrap()
}

/// The steps that ran, with the time of each.
async fn history(database: &TestDatabase) -> Vec<(String, i64)> {
    let select = "SELECT version, applied_at FROM seaql_migrations ORDER BY version";
    match database.engine() {
        Engine::Sqlite => {
            let mut connection = SqliteConnection::connect(&database.url).await.unwrap();
            sqlx::query_as(select).fetch_all(&mut connection).await
        }
        Engine::Postgres => {
            let mut connection = PgConnection::connect(&database.url).await.unwrap();
            sqlx::query_as(select).fetch_all(&mut connection).await
        }
    }
    .unwrap()
}

async fn every_entity_selects_from_a_fresh_database(app: App) {
    instance::check_tables(app.db()).await.unwrap();
    // And would not, were a column missing.
    app.sql("ALTER TABLE workspaces RENAME COLUMN region TO somewhere").await;
    assert!(instance::check_tables(app.db()).await.is_err());
}

async fn names_that_the_version_before_wrote_are_found_in_any_case(app: App) {
    let ada = app.set_up().await;
    let (lab, _) = (ada.workspace("Lab").await, ada.workspace("Ärzte").await);
    let store = crate::credentials::made(&ada, &lab, "Ölpreise", "x").await;
    // As the version before left them, and more than are folded at once.
    let copies = (1..=501).map(|number| {
        let id = app.literal(&format!("crd_0193a1b2c3d47e8f90123456{number:08x}"));
        format!(
            "INSERT INTO credentials (id, workspace_id, kind, slug, name, description, created_at, updated_at)
             SELECT {id}, workspace_id, kind, 's-{number}', 'Öl {number}', '', created_at, updated_at
             FROM credentials WHERE name = 'Ölpreise'"
        )
    });
    app.sql(&copies.collect::<Vec<_>>().join(";\n")).await;
    for table in ["credentials", "workspaces"] {
        app.sql(&format!("ALTER TABLE {table} DROP COLUMN search_text")).await;
    }
    app.sql("UPDATE users SET search_text = 'άδας ada@example.org'").await;
    assert_eq!(app.sql("DELETE FROM seaql_migrations WHERE version LIKE 'm001__%_search'").await, 3);
    migrate(&Options::new(&app.database().url)).await.unwrap();
    assert_eq!(app.number("SELECT count(*) FROM users WHERE search_text = 'άδασ ada@example.org'").await, 1);
    let swept = housekeeping::sweep(app.db()).await.unwrap();
    // The two workspaces, and the one in which everybody begins.
    assert_eq!(swept.names, 502 + 3);

    let document = "query($workspace: ID!, $credential: ID!, $name: String!, $search: String!) {
        workspace(name: $name) { credentials(search: $search) { totalCount } }
        credentialShareTargets(workspaceId: $workspace, credentialId: $credential, search: $search) { displayName } }";
    let found = async |search: &str| {
        let variables =
            json!({ "workspace": lab.id, "credential": store, "name": lab.name, "search": search });
        let answer = ada.query(document, variables).await.ok();
        let targets = answer.data("/credentialShareTargets").as_array().unwrap().len();
        json!([answer.data("/workspace/credentials/totalCount"), targets])
    };
    assert_eq!(found("öL").await, json!([502, 0]));
    assert_eq!(found("ärzte").await, json!([0, 1]));
    // While a deployment is under way, it goes on writing rows as it knows them: what SQL folds is found at once, and all
    // of it after the next sweep.
    app.sql("UPDATE credentials SET name = 'Kohle', search_text = NULL WHERE slug = 's-1'").await;
    app.sql("UPDATE credentials SET name = 'Kohle' WHERE slug = 's-2'").await;
    app.sql("UPDATE workspaces SET display_name = 'Kohle' WHERE display_name = 'Ärzte'").await;
    assert_eq!(found("KOHLE").await, json!([2, 1]));
    app.sql("UPDATE credentials SET name = 'Ära', search_text = NULL WHERE slug = 's-3'").await;
    assert_eq!(housekeeping::sweep(app.db()).await.unwrap().names, 2);
    assert_eq!(found("äRA").await, json!([1, 0]));
}

async fn migrating_twice_changes_nothing(database: TestDatabase) {
    let options = Options::new(&database.url);
    assert!(shape(&database).await.is_empty());
    migrate(&options).await.unwrap();
    let (shape_before, history_before) = (shape(&database).await, history(&database).await);
    assert!(!history_before.is_empty());
    migrate(&options).await.unwrap();
    assert_eq!(shape(&database).await, shape_before);
    assert_eq!(history(&database).await, history_before);
}

async fn execute(database: &TestDatabase, statement: &'static str) {
    match database.engine() {
        Engine::Sqlite => {
            let mut connection = SqliteConnection::connect(&database.url).await.unwrap();
            connection.execute(statement).await.map(drop)
        }
        Engine::Postgres => {
            let mut connection = PgConnection::connect(&database.url).await.unwrap();
            connection.execute(statement).await.map(drop)
        }
    }
    .unwrap();
}

async fn a_version_starts_again_after_a_newer_one_has_migrated(database: TestDatabase) {
    let options = Options::new(&database.url);
    migrate(&options).await.unwrap();
    execute(&database, "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9999_newer', 1)").await;
    let before = shape(&database).await;
    migrate(&options).await.unwrap();
    assert_eq!(shape(&database).await, before);
    // One that lacks a step of its own is no older version: nobody knows what became of the tables.
    execute(&database, "DELETE FROM seaql_migrations WHERE version = 'm0017_invitation_seats'").await;
    let fault = migrate(&options).await.unwrap_err().to_string();
    assert!(fault.contains("m9999_newer"), "{fault}");
}

/// A step waits for a table in turns: so long as somebody dumps it, the service goes on.
#[test]
fn a_step_that_waits_for_a_table_holds_up_nobody() {
    run(Engine::Postgres, TestDatabase::empty, async |database: TestDatabase| {
        let options = Options::new(&database.url);
        migrate(&options).await.unwrap();
        for undo in [
            "DELETE FROM seaql_migrations WHERE version = 'm0016_credential_search'",
            "ALTER TABLE credentials DROP COLUMN search_text",
        ] {
            execute(&database, undo).await;
        }
        let mut dump = PgConnection::connect(&database.url).await.unwrap();
        dump.execute("BEGIN; LOCK TABLE credentials IN ACCESS SHARE MODE").await.unwrap();
        let migrating = tokio::spawn(async move { migrate(&options).await });
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'credentials'::regclass";
        let mut watch = PgConnection::connect(&database.url).await.unwrap();
        while sqlx::query_scalar::<_, i64>(waits).fetch_one(&mut watch).await.unwrap() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Whoever reads waits behind the step, and not until the dump is done.
        let read =
            tokio::time::timeout(Duration::from_secs(10), watch.execute("SELECT count(*) FROM credentials"));
        read.await.expect("the step makes room").unwrap();
        assert!(!migrating.is_finished());
        dump.execute("COMMIT").await.unwrap();
        migrating.await.unwrap().unwrap();
        execute(&database, "SELECT search_text FROM credentials").await;
    });
}

async fn two_that_migrate_at_once_take_turns(database: TestDatabase) {
    let migrations = (0..4).map(|_| {
        let options = Options::new(&database.url);
        tokio::spawn(async move { migrate(&options).await })
    });
    for done in futures_util::future::join_all(migrations.collect::<Vec<_>>()).await {
        done.unwrap().unwrap();
    }
    let mut steps: Vec<_> = history(&database).await.into_iter().map(|(step, _)| step).collect();
    let ran = steps.len();
    steps.dedup();
    assert_eq!(steps.len(), ran, "a step ran twice");
}
