//! The tables: made once, whoever comes first, and as this version knows them.

use guildhall_persistence::{Options, instance, migrate};
use guildhall_tests::{
    App, both_databases,
    databases::{Engine, TestDatabase},
};
use sqlx::{Connection as _, PgConnection, SqliteConnection};

both_databases!(TestDatabase::empty, migrating_twice_changes_nothing, two_that_migrate_at_once_take_turns,);

both_databases!(App::start, every_entity_selects_from_a_fresh_database);

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
