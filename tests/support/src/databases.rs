//! A fresh database for each test, on SQLite and on PostgreSQL.
//!
//! Knows where databases come from and how to make a migrated one cheaply: a SQLite file is written from memory, a
//! PostgreSQL database is cloned from a template. Refuses to know the schema: what migrates is handed to it once.
//!
//! PostgreSQL is the server of `TEST_DATABASE_URL`, or else a temporary cluster of this process, started from the
//! server binaries of the machine. With neither, tests run on SQLite only, unless `REQUIRE_POSTGRES=1` forbids that.

pub mod cluster;

use std::{
    env, fmt, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    pin::Pin,
    process::{self, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use tempfile::TempDir;
use tokio::{runtime, sync::OnceCell};
use url::Url;

use cluster::{Binaries, Cluster, Purpose};

/// A database engine that Guildhall runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

impl Engine {
    /// The engines this machine offers, SQLite first. The first call says in one line on stderr which they are.
    ///
    /// # Panics
    /// When `REQUIRE_POSTGRES=1` and there is no PostgreSQL.
    pub fn available() -> &'static [Self] {
        match source() {
            Some(_) => &[Self::Sqlite, Self::Postgres],
            None => &[Self::Sqlite],
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        })
    }
}

/// Brings the empty database at a URL to the current schema. Panics when it cannot, and closes its connections.
pub type Migrate = fn(String) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// Makes migrated databases. Meant to be a `static`, because each engine's template is migrated once and kept:
///
/// ```ignore
/// static DATABASES: Databases = Databases::migrated_by(|url| Box::pin(async move { … }));
/// let database = DATABASES.fresh(Engine::Sqlite).await;
/// ```
pub struct Databases {
    migrate: Migrate,
    sqlite: OnceCell<Vec<u8>>,
    postgres: OnceCell<TestDatabase>,
}

impl Databases {
    /// Databases whose templates `migrate` brings up to date.
    pub const fn migrated_by(migrate: Migrate) -> Self {
        Self { migrate, sqlite: OnceCell::const_new(), postgres: OnceCell::const_new() }
    }

    /// A migrated database that no other test sees.
    ///
    /// # Panics
    /// When it cannot be made; the message says why.
    pub async fn fresh(&'static self, engine: Engine) -> TestDatabase {
        match engine {
            Engine::Sqlite => {
                let template = self.sqlite.get_or_init(|| self.sqlite_template()).await;
                TestDatabase::sqlite(template)
            }
            Engine::Postgres => {
                let template = self.postgres.get_or_init(|| self.postgres_template()).await;
                TestDatabase::postgres(Some(template)).await
            }
        }
    }

    async fn sqlite_template(&self) -> Vec<u8> {
        let template = TestDatabase::empty(Engine::Sqlite).await;
        (self.migrate)(template.url.clone()).await;
        // A copy made by SQLite is one whole file, whatever the migration left in its write-ahead log.
        let Home::Directory(directory) = &template.home else { unreachable!("SQLite lives in a directory") };
        let copy = directory.path().join("copy.db");
        let mut connection =
            SqliteConnection::connect(&template.url).await.expect("open the migrated SQLite template");
        sqlx::query("VACUUM INTO ?")
            .bind(copy.to_str().expect("the temporary directory has a UTF-8 name"))
            .execute(&mut connection)
            .await
            .expect("copy the migrated SQLite template");
        connection.close().await.expect("close the SQLite template");
        fs::read(copy).expect("read the SQLite template")
    }

    async fn postgres_template(&self) -> TestDatabase {
        let template = TestDatabase::empty(Engine::Postgres).await;
        (self.migrate)(template.url.clone()).await;
        // A database with open connections cannot be cloned, and a pool may close its own late.
        let Home::Server { server, name } = &template.home else {
            unreachable!("PostgreSQL lives on a server")
        };
        server
            .execute(format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
            .await
            .expect("close the PostgreSQL template to connections");
        template.kill_connections().await;
        template
    }
}

/// A database of one test. It is deleted when this value is dropped, so drop it after whatever uses it.
pub struct TestDatabase {
    /// `sqlite://…` or `postgres://…`, as `DATABASE_URL` takes it.
    pub url: String,
    home: Home,
}

enum Home {
    Directory(TempDir),
    Server { server: &'static Server, name: String },
}

impl TestDatabase {
    /// A database without any table.
    ///
    /// # Panics
    /// When it cannot be made; the message says why.
    pub async fn empty(engine: Engine) -> Self {
        match engine {
            // SQLite takes a file of no bytes for an empty database.
            Engine::Sqlite => Self::sqlite(&[]),
            Engine::Postgres => Self::postgres(None).await,
        }
    }

    /// The engine it is on.
    pub fn engine(&self) -> Engine {
        match self.home {
            Home::Directory(_) => Engine::Sqlite,
            Home::Server { .. } => Engine::Postgres,
        }
    }

    /// Ends every connection to this database from the server's side, as a restart or a fail-over would.
    ///
    /// # Panics
    /// On SQLite, which has no connections to lose.
    pub async fn kill_connections(&self) {
        let Home::Server { server, name } = &self.home else {
            panic!("only PostgreSQL can lose a connection")
        };
        server
            .execute(format!(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'"
            ))
            .await
            .expect("terminate the connections of the test's database");
    }

    fn sqlite(content: &[u8]) -> Self {
        let directory =
            tempfile::Builder::new().prefix("guildhall-test-").tempdir().expect("make a directory");
        let file = directory.path().join("guildhall.db");
        fs::write(&file, content).expect("write the SQLite database");
        Self { url: format!("sqlite://{}", file.display()), home: Home::Directory(directory) }
    }

    async fn postgres(template: Option<&Self>) -> Self {
        let server = Server::get().await;
        let name = server.next_name();
        let clone = match template {
            Some(Self { home: Home::Server { name: template, .. }, .. }) => {
                format!(" TEMPLATE {template}{}", server.clone_strategy)
            }
            _ => String::new(),
        };
        server
            .execute(format!("CREATE DATABASE {name}{clone}"))
            .await
            .unwrap_or_else(|error| panic!("cannot create a PostgreSQL database for the test: {error}"));
        let mut url = server.url.clone();
        url.set_path(&name);
        Self { url: url.into(), home: Home::Server { server, name } }
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let Home::Server { server, name } = &self.home else { return };
        let statement = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        // A runtime cannot be entered twice on one thread, and the test's own is likely to be running on this one.
        let dropped = thread::scope(|scope| {
            scope
                .spawn(|| {
                    new_runtime(1).block_on(server.execute(statement)).map_err(|error| error.to_string())
                })
                .join()
        });
        if let Ok(Err(error)) = dropped {
            eprintln!("the database {name} was left behind: {error}");
        }
    }
}

/// Where PostgreSQL can come from.
enum Source {
    Given(Url),
    Binaries(Binaries),
}

fn source() -> Option<&'static Source> {
    static SOURCE: OnceLock<Option<Source>> = OnceLock::new();
    SOURCE
        .get_or_init(|| {
            let source = find_source();
            let line = match &source {
                Some(Source::Given(_)) => {
                    "SQLite and PostgreSQL (the server of TEST_DATABASE_URL)".to_owned()
                }
                Some(Source::Binaries(found)) => {
                    format!("SQLite and {} (own temporary cluster)", found.version)
                }
                None => {
                    let missing =
                        "no PostgreSQL server binaries found; install postgresql or set TEST_DATABASE_URL";
                    let required = set_variable("REQUIRE_POSTGRES").is_some_and(|value| value != "0");
                    assert!(!required, "REQUIRE_POSTGRES is set, but {missing}");
                    format!("SQLite only ({missing})")
                }
            };
            // Past the print macros, whose output the test harness keeps to itself. A closed stderr harms nobody.
            let _ = io::stderr().write_all(format!("databases: {line}\n").as_bytes());
            source
        })
        .as_ref()
}

fn find_source() -> Option<Source> {
    let Some(given) = set_variable("TEST_DATABASE_URL") else {
        return Binaries::find().map(Source::Binaries);
    };
    let url = Url::parse(&given).ok().filter(|url| matches!(url.scheme(), "postgres" | "postgresql"));
    Some(Source::Given(
        url.expect("TEST_DATABASE_URL must look like postgres://user:password@host:5432/postgres"),
    ))
}

fn set_variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The PostgreSQL server of this process.
struct Server {
    /// Its maintenance database.
    url: Url,
    /// What the names of this process's databases begin with.
    prefix: String,
    clone_strategy: &'static str,
    /// Runs for as long as this value lives, which is as long as the process.
    _cluster: Option<Cluster>,
}

impl Server {
    async fn get() -> &'static Self {
        static SERVER: OnceCell<Server> = OnceCell::const_new();
        SERVER
            .get_or_init(async || match source().expect("Engine::available() offers PostgreSQL") {
                Source::Given(url) => Self::connect(url.clone(), None).await,
                Source::Binaries(binaries) => {
                    let cluster = Cluster::start(binaries, Purpose::Tests).await;
                    Self::connect(cluster.url.clone(), Some(cluster)).await
                }
            })
            .await
    }

    async fn connect(url: Url, cluster: Option<Cluster>) -> Self {
        let mut connection = PgConnection::connect(url.as_str())
            .await
            .unwrap_or_else(|error| panic!("cannot reach the PostgreSQL server for tests: {error}"));
        // The server's own clock dates the names, so that what killed tests left behind is known by its age.
        let started: i64 =
            sqlx::query_scalar("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
                .fetch_one(&mut connection)
                .await
                .expect("read the server's clock");
        let stale: Vec<String> = sqlx::query_scalar(
            "SELECT datname::text FROM pg_database
             WHERE substring(datname FROM '^guildhall_test_([0-9]{16})_')::bigint < $1 - 86400000000",
        )
        .bind(started)
        .fetch_all(&mut connection)
        .await
        .expect("list the databases");
        for name in stale {
            // Another test process may be faster.
            let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
            let _ = sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut connection).await;
        }
        // Copying files is much faster than the default, which writes the log; before 15 it is the only way.
        let has_strategies = connection.server_version_num().is_some_and(|version| version >= 150_000);
        let clone_strategy = if has_strategies { " STRATEGY FILE_COPY" } else { "" };
        connection.close().await.expect("close the connection");
        let prefix = format!("guildhall_test_{started}_{}", process::id());
        Self { url, prefix, clone_strategy, _cluster: cluster }
    }

    fn next_name(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        format!("{}_{}", self.prefix, COUNT.fetch_add(1, Ordering::Relaxed))
    }

    /// Connects for each statement: a kept connection would belong to the runtime of one test and end with it.
    async fn execute(&self, statement: String) -> sqlx::Result<()> {
        let mut connection = PgConnection::connect(self.url.as_str()).await?;
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
        connection.close().await
    }
}

/// A new directory in memory where that is roomy, or else on disk. PostgreSQL spreads a new database over 300 files,
/// which some disks take 300 ms to create and memory 20; SQLite is spared the wait for the disk at each commit.
fn temporary_directory(prefix: &str) -> io::Result<TempDir> {
    static PARENT: OnceLock<PathBuf> = OnceLock::new();
    let parent = PARENT.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        let usage = Command::new("df").arg("-Pk").arg(memory).stderr(Stdio::null()).output();
        let usage =
            usage.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        // The second line is the file system's; its fourth field is what is free, in KiB.
        let free = usage.lines().nth(1).and_then(|line| line.split_whitespace().nth(3)?.parse::<u64>().ok());
        if free.is_some_and(|free| free >= 1024 * 1024) { memory.to_owned() } else { env::temp_dir() }
    });
    tempfile::Builder::new().prefix(prefix).tempdir_in(parent)
}

/// Runs a test on one engine, on a runtime of its own; says so and passes where the engine is not available.
/// [`both_databases!`](crate::both_databases) calls this.
pub fn run<T>(engine: Engine, start: impl AsyncFnOnce(Engine) -> T, test: impl AsyncFnOnce(T)) {
    if Engine::available().contains(&engine) {
        new_runtime(2).block_on(async { test(start(engine).await).await });
    } else {
        eprintln!("skipped: {engine} is not available");
    }
}

fn new_runtime(workers: usize) -> runtime::Runtime {
    runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .expect("start a runtime")
}

/// Makes of each named `async fn(T)` two tests, `<name>::on_sqlite` and `<name>::on_postgres`. First comes the path
/// of the `async fn(Engine) -> T` that prepares what the tests are given:
///
/// ```ignore
/// both_databases!(App::start, last_admin_cannot_leave, viewer_cannot_invite);
///
/// async fn last_admin_cannot_leave(app: App) { … }
/// ```
///
/// The functions stay ordinary items, which rustfmt formats and of which the compiler reports a forgotten one.
#[macro_export]
macro_rules! both_databases {
    ($start:path, $($test:ident),+ $(,)?) => {
        $(mod $test {
            use super::*;

            #[test]
            fn on_sqlite() {
                $crate::databases::run($crate::databases::Engine::Sqlite, $start, super::$test);
            }

            #[test]
            fn on_postgres() {
                $crate::databases::run($crate::databases::Engine::Postgres, $start, super::$test);
            }
        })+
    };
}
