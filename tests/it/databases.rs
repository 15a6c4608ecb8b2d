//! The databases of the tests, tested.

use std::time::Instant;

use futures_util::future::join_all;
use guildhall_tests::{
    both_databases,
    databases::{Databases, Engine, TestDatabase},
};
use sqlx::{Connection as _, PgConnection, SqliteConnection};

static DATABASES: Databases = Databases::migrated_by(|url| Box::pin(migrate(url)));

async fn migrate(url: String) {
    execute(&url, "CREATE TABLE notes (text TEXT NOT NULL)").await.unwrap();
}

async fn execute(url: &str, statement: &'static str) -> sqlx::Result<u64> {
    if url.starts_with("sqlite:") {
        let mut connection = SqliteConnection::connect(url).await?;
        sqlx::raw_sql("PRAGMA journal_mode = WAL").execute(&mut connection).await?;
        Ok(sqlx::query(statement).execute(&mut connection).await?.rows_affected())
    } else {
        let mut connection = PgConnection::connect(url).await?;
        Ok(sqlx::query(statement).execute(&mut connection).await?.rows_affected())
    }
}

async fn fresh(engine: Engine) -> TestDatabase {
    DATABASES.fresh(engine).await
}

both_databases!(
    fresh,
    twenty_fresh_databases_are_migrated_and_apart,
    dropped_database_is_gone,
    empty_database_has_no_table,
);

async fn twenty_fresh_databases_are_migrated_and_apart(first: TestDatabase) {
    let start = Instant::now();
    let others = join_all((0..20).map(|_| fresh(first.engine()))).await;
    println!("20 parallel on {}: {:?}", first.engine(), start.elapsed());
    for database in others.iter().chain([&first]) {
        execute(&database.url, "INSERT INTO notes VALUES ('mine')").await.unwrap();
    }
    for database in others.iter().chain([&first]) {
        assert_eq!(execute(&database.url, "DELETE FROM notes").await.unwrap(), 1);
    }
    let start = Instant::now();
    drop(others);
    println!("20 dropped on {}: {:?}", first.engine(), start.elapsed());
    let start = Instant::now();
    for _ in 0..5 {
        fresh(first.engine()).await;
    }
    println!("5 serial make + drop on {}: {:?}", first.engine(), start.elapsed());
}

async fn dropped_database_is_gone(database: TestDatabase) {
    let url = database.url.clone();
    drop(database);
    assert!(execute(&url, "SELECT 1").await.is_err());
}

async fn empty_database_has_no_table(database: TestDatabase) {
    let empty = TestDatabase::empty(database.engine()).await;
    assert!(execute(&empty.url, "DELETE FROM notes").await.is_err());
    execute(&empty.url, "CREATE TABLE notes (text TEXT)").await.unwrap();
}

#[test]
fn killed_connection_fails_and_the_next_one_works() {
    guildhall_tests::databases::run(Engine::Postgres, fresh, async |database: TestDatabase| {
        let mut connection = PgConnection::connect(&database.url).await.unwrap();
        database.kill_connections().await;
        assert!(sqlx::query("SELECT 1").execute(&mut connection).await.is_err());
        execute(&database.url, "DELETE FROM notes").await.unwrap();
    });
}

#[test]
#[ignore = "waits to be killed, to see that no server outlives it"]
fn wait_to_be_killed() {
    guildhall_tests::databases::run(Engine::Postgres, fresh, async |database: TestDatabase| {
        let mut connection = PgConnection::connect(&database.url).await.unwrap();
        let number: String = sqlx::query_scalar("SHOW port").fetch_one(&mut connection).await.unwrap();
        eprintln!("listening on {number}");
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    });
}
