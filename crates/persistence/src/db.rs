//! The only doors to the database: [`Db::read`] and [`Db::write`], each behind a proof. Knows connections,
//! transactions and what is checked again inside one; refuses to know any feature.

use std::{
    collections::HashSet,
    str::FromStr as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use guildhall_domain::{
    access::{Actor, Granted, OrganizationAccess, Proof, Recheck, WorkspaceAccess, catalog::PermissionType},
    audit::Entry,
    events::Event,
    ids::{OrganizationId, UserId, WorkspaceId},
    lockout::Lockout,
    seams::{Clock, IdGen},
    text::ImageRef,
};
use guildhall_migrations::Migrator;
use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, FromQueryResult, QueryResult, SqliteTransactionMode,
    SqlxPostgresConnector, SqlxSqliteConnector, TransactionOptions, TransactionTrait,
};
use sea_orm_migration::{IntoSchemaManagerConnection, MigratorTrait, SchemaManager};
use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use uuid::Uuid;

use crate::{
    access,
    audit::{self, Origin},
    connection::{LastLost, Opener, Pool, Statements, Transaction},
    error::{Fault, OpError, ReadError, lost_connection},
    events::{self, Bus},
    hasher::Hasher,
    idempotency::Claim,
    keys::Keys,
    machines::MachinesSeen,
    quotas::calls::Calls,
    rehearsal::Rehearsal,
    sql::{self, Sql},
};

/// Which database it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// One file, one process.
    Sqlite,
    /// A server; several processes may share it.
    Postgres,
}

/// How to reach the database and how many connections to hold.
#[derive(Clone, Debug)]
pub struct Options {
    /// `sqlite://path` or `postgres://…`.
    pub url: String,
    /// The most connections to PostgreSQL.
    pub max_connections: u32,
    /// The connections to PostgreSQL that are opened at the start and kept when idle.
    pub min_connections: u32,
    /// The connections of SQLite that only read; writing has one of its own.
    pub read_connections: u32,
    /// How long a request waits for a connection.
    pub acquire_timeout: Duration,
    /// `FULL` keeps every acknowledged change through a power loss; `NORMAL` may lose the last ones.
    pub sqlite_full_sync: bool,
}

impl Options {
    /// The defaults for a database at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            max_connections: 16,
            min_connections: 1,
            read_connections: 4,
            acquire_timeout: Duration::from_secs(10),
            sqlite_full_sync: true,
        }
    }

    /// Which database the URL names.
    pub fn engine(&self) -> Engine {
        if self.url.starts_with("postgres") { Engine::Postgres } else { Engine::Sqlite }
    }
}

/// What an instance decides about invitations, links and workspaces.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where links in mails point, without a trailing slash.
    pub app_url: String,
    /// How long an invitation can be answered where the organization's policy does not say, in hours.
    pub invitation_hours: u16,
    /// How long the previous refresh token still answers, so that tabs which refresh at once all go on.
    pub refresh_grace: chrono::TimeDelta,
    /// How long a password can be reset by a link that was mailed.
    pub password_reset: chrono::TimeDelta,
    /// How long sign-ins wait after too many that failed.
    pub lockout: Lockout,
    /// Whether every signed-in person may make organizations.
    pub open_organizations: bool,
    /// The image that a workspace's workloads run unless it names one.
    pub default_image: ImageRef,
}

/// What a database is opened with.
pub struct Seams {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Makes ids.
    pub ids: Arc<dyn IdGen>,
}

/// A handle to the database; cheap to clone.
#[derive(Clone)]
pub struct Db(Arc<Inner>, Behalf);

/// Whose request a handle is for.
#[derive(Clone, Default)]
struct Behalf {
    origin: Option<Arc<Origin>>,
    rehearsal: Option<Arc<Rehearsal>>,
    claim: Option<Arc<Claim>>,
}

struct Inner {
    engine: Engine,
    options: Options,
    /// Of SQLite the only connection that writes; of PostgreSQL all.
    write: Pool,
    /// Of SQLite those that only read; PostgreSQL has one pool for both.
    read: Option<Pool>,
    seams: Seams,
    keys: Keys,
    hasher: Hasher,
    settings: Settings,
    bus: Bus,
    statements: Arc<Statements>,
    machines_seen: MachinesSeen,
    calls: Calls,
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").field("engine", &self.0.engine).finish_non_exhaustive()
    }
}

impl Db {
    /// Connects. Neither creates tables nor checks them: see [`migrate`].
    pub async fn connect(
        options: Options,
        seams: Seams,
        keys: Keys,
        hasher: Hasher,
        settings: Settings,
    ) -> Result<Self, Fault> {
        let engine = options.engine();
        let statements = Arc::<Statements>::default();
        let pool = |opener, size| Pool::new(opener, size, options.acquire_timeout, &statements);
        let (write, read) = match engine {
            Engine::Postgres => {
                let pool = pool(
                    Opener::Postgres(Box::new(postgres(&options)?), LastLost::default()),
                    options.max_connections,
                );
                // At least one, so that a service which cannot reach its database does not start.
                pool.fill(options.min_connections.clamp(1, options.max_connections)).await?;
                (pool, None)
            }
            Engine::Sqlite => {
                let opener =
                    |only_reads| Ok::<_, Fault>(Opener::Sqlite(Box::new(sqlite(&options, only_reads)?)));
                let write = pool(opener(false)?, 1);
                write.fill(1).await?;
                (write, Some(pool(opener(true)?, options.read_connections)))
            }
        };
        let inner = Inner {
            engine,
            options,
            write,
            read,
            seams,
            keys,
            hasher,
            settings,
            bus: Bus::default(),
            statements,
            machines_seen: MachinesSeen::default(),
            calls: Calls::default(),
        };
        Ok(Self(Arc::new(inner), Behalf::default()))
    }

    /// The same handle, for a request: what it changes is written down as coming from there.
    pub fn on_behalf_of(&self, origin: Origin) -> Self {
        Self(Arc::clone(&self.0), Behalf { origin: Some(Arc::new(origin)), ..self.1.clone() })
    }

    /// The same handle, for one change that is only tried: every check is made and every statement run, and what it leaves
    /// is read through this handle and no other, until [`Db::end_rehearsal`] takes it back.
    pub fn rehearsing(&self) -> Self {
        Self(Arc::clone(&self.0), Behalf { rehearsal: Some(Arc::default()), ..self.1.clone() })
    }

    /// Whether what is changed through this handle is taken back.
    pub fn is_rehearsing(&self) -> bool {
        self.1.rehearsal.is_some()
    }

    /// The same handle, for a mutation with an idempotency key: each change notes that it was made.
    pub fn claiming(&self, claim: Arc<Claim>) -> Self {
        Self(Arc::clone(&self.0), Behalf { claim: Some(claim), ..self.1.clone() })
    }

    /// The claim of the idempotency key that this handle is for.
    pub fn claim(&self) -> Option<&Claim> {
        self.1.claim.as_deref()
    }

    /// The same handle, for what is written down even when the rest is only tried: what guards against guessing.
    pub(crate) fn in_earnest(&self) -> Self {
        Self(Arc::clone(&self.0), Behalf { rehearsal: None, claim: None, ..self.1.clone() })
    }

    /// Takes back what was tried. A handle that is dropped without this takes it back as well, a little later.
    pub async fn end_rehearsal(&self) {
        if let Some(rehearsal) = &self.1.rehearsal
            && let Some(transaction) = rehearsal.take().await
        {
            roll_back(transaction).await;
        }
    }

    /// Where the request comes from that this handle is for.
    pub(crate) fn origin(&self) -> Option<&Origin> {
        self.1.origin.as_deref()
    }

    /// Which database it is.
    pub fn engine(&self) -> Engine {
        self.0.engine
    }

    /// The present moment.
    pub fn now(&self) -> DateTime<Utc> {
        self.0.seams.clock.now()
    }

    /// How many SQL statements requests ran since the start, `BEGIN` and `COMMIT` apart.
    pub fn statements(&self) -> u64 {
        self.0.statements.requests.load(Ordering::Relaxed)
    }

    /// The same of what went on [`in_background`](crate::in_background).
    pub fn background_statements(&self) -> u64 {
        self.0.statements.background.load(Ordering::Relaxed)
    }

    /// The instance's keys.
    pub fn keys(&self) -> &Keys {
        &self.0.keys
    }

    /// Hashes passwords.
    pub(crate) fn hasher(&self) -> &Hasher {
        &self.0.hasher
    }

    /// What the instance decides.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Where events arrive.
    pub fn bus(&self) -> &Bus {
        &self.0.bus
    }

    /// Which machines were here of late.
    pub(crate) fn machines_seen(&self) -> &MachinesSeen {
        &self.0.machines_seen
    }

    /// What machines asked for, as far as it is not written down.
    pub(crate) fn calls(&self) -> &Calls {
        &self.0.calls
    }

    pub(crate) fn options(&self) -> &Options {
        &self.0.options
    }

    pub(crate) fn fresh_id(&self) -> Uuid {
        self.0.seams.ids.fresh()
    }

    /// Whether the database answers and takes changes: for readiness probes. [`Fault::ReadOnly`] where it takes none.
    pub async fn ping(&self) -> Result<(), Fault> {
        let question = match self.0.engine {
            Engine::Postgres => {
                "SELECT CASE current_setting('transaction_read_only') WHEN 'on' THEN 0 ELSE 1 END"
            }
            Engine::Sqlite => "SELECT 1",
        };
        let connection = self.reading().get().await?;
        match sql::one::<sql::Single<i32>>(&connection, Sql::new(question)).await? {
            Some(sql::Single(1)) => Ok(()),
            _ => {
                drop(connection);
                // The name may lead to the server that writes by now.
                self.0.write.forget(Duration::ZERO, 0);
                Err(Fault::ReadOnly)
            }
        }
    }

    fn reading(&self) -> &Pool {
        self.0.read.as_ref().unwrap_or(&self.0.write)
    }

    /// Lets go of connections that nobody needed for a while.
    pub(crate) fn forget_idle_connections(&self) {
        const IDLE: Duration = Duration::from_secs(10 * 60);
        // What SQLite's connections hold is its file, which costs nothing to keep.
        if self.0.engine == Engine::Postgres {
            self.0.write.forget(IDLE, self.0.options.min_connections);
        }
    }

    /// Opens a session that reads.
    pub fn read(&self, _proof: &impl Proof) -> Read<'_> {
        Read { db: self }
    }

    /// Runs `work` in one transaction, after checking again what `proof` proved when the request began:
    /// whoever lost the right since then is denied. Commits when `work` succeeds, else leaves no trace.
    ///
    /// A change in a workspace locks the workspace's row first. That serialises changes of one workspace,
    /// which the rules that count (the last admin, seats, pending invitations) need under READ COMMITTED,
    /// and it makes the events of one workspace commit in the order of their numbers. A change of an
    /// organization locks the organization's row in the same way.
    pub async fn write<T, C>(
        &self,
        proof: &impl Proof,
        work: impl AsyncFnOnce(&mut Tx<'_>) -> Result<T, OpError<C>>,
    ) -> Result<T, OpError<C>> {
        self.write_after(None, proof, work).await
    }

    /// The same for a change in a workspace that reaches into others of the organization. It locks the organization first,
    /// so that the order in which such changes lock the workspaces does not matter.
    pub async fn write_across<T, C, P: PermissionType<Access = WorkspaceAccess>>(
        &self,
        proof: &Granted<P>,
        work: impl AsyncFnOnce(&mut Tx<'_>) -> Result<T, OpError<C>>,
    ) -> Result<T, OpError<C>> {
        self.write_after(Some(proof.access().organization()), proof, work).await
    }

    async fn write_after<T, C>(
        &self,
        organization: Option<OrganizationId>,
        proof: &impl Proof,
        work: impl AsyncFnOnce(&mut Tx<'_>) -> Result<T, OpError<C>>,
    ) -> Result<T, OpError<C>> {
        // Boxed for the same reason as `Read::rows`.
        Box::pin(async move {
            let mut tx = self.begin().await?;
            if let Some(organization) = organization {
                tx.lock_organization(organization).await?;
            }
            tx.recheck(proof.recheck()).await?;
            match work(&mut tx).await {
                Ok(value) => {
                    tx.account()?;
                    let told = tx.write_events().await?;
                    if let Some(rehearsal) = &self.1.rehearsal {
                        rehearsal.keep(tx.conn).await;
                        return Ok(value);
                    }
                    if let Some(claim) = self.claim()
                        && tx.conn.has_changed()
                    {
                        claim.perform(&tx).await?;
                    }
                    tx.conn.commit().await?;
                    if told {
                        self.0.bus.announce();
                    }
                    if tx.audited.load(Ordering::Relaxed) {
                        self.0.bus.audit_written();
                    }
                    Ok(value)
                }
                Err(error) => {
                    roll_back(tx.conn).await;
                    Err(error)
                }
            }
        })
        .await
    }

    async fn begin(&self) -> Result<Tx<'_>, Fault> {
        let tried = match &self.1.rehearsal {
            Some(rehearsal) => rehearsal.take().await,
            None => None,
        };
        let conn = match tried {
            Some(conn) => conn,
            None => self.retrying(&self.0.write, || Transaction::begin(&self.0.write)).await?,
        };
        Ok(Tx {
            db: self,
            now: self.now(),
            conn,
            access: None,
            organization: None,
            happened: Vec::new(),
            told: false,
            deferred: Mutex::default(),
            actor: None,
            audited: AtomicBool::new(false),
            accounted: AtomicBool::new(false),
        })
    }

    /// Closes every connection, after those in use come back.
    pub async fn close(&self) {
        for pool in self.0.read.iter().chain([&self.0.write]) {
            pool.close().await;
        }
    }

    /// Tries again while the connection is what fails: nothing of `attempt` can have been carried out, since it
    /// reads or only begins. A database that is restarting is waited for as long as a connection is.
    async fn retrying<T, F: Future<Output = Result<T, DbErr>>>(
        &self,
        pool: &Pool,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, Fault> {
        const PAUSE: Duration = Duration::from_millis(100);
        let mut tried = 0_u32;
        let started = tokio::time::Instant::now();
        loop {
            let error = match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            // A pool that gave no connection in time has tried for as long as a request may wait.
            let again = lost_connection(&error) && !matches!(error, DbErr::ConnectionAcquire(_));
            if !again || started.elapsed() > self.0.options.acquire_timeout {
                return Err(error.into());
            }
            tracing::debug!(%error, tried, "database connection lost");
            // Whatever ended this one has most likely ended those that nobody uses, too.
            pool.forget(Duration::ZERO, 0);
            if tried > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            tried += 1;
        }
    }
}

/// A roll-back that fails means a broken connection, which rolls back as well.
async fn roll_back(transaction: Transaction) {
    if let Err(error) = transaction.rollback().await {
        tracing::debug!(%error, "roll-back");
    }
}

fn postgres(options: &Options) -> Result<PgConnectOptions, Fault> {
    Ok(PgConnectOptions::from_str(&options.url)?.application_name("guildhall").disable_statement_logging())
}

fn sqlite(options: &Options, only_reads: bool) -> Result<SqliteConnectOptions, Fault> {
    let full = options.sqlite_full_sync;
    let sqlite = SqliteConnectOptions::from_str(&options.url)?
        .create_if_missing(!only_reads)
        .busy_timeout(Duration::from_secs(5))
        .foreign_keys(true)
        .synchronous(if full { SqliteSynchronous::Full } else { SqliteSynchronous::Normal })
        .disable_statement_logging();
    Ok(if only_reads {
        sqlite.pragma("query_only", "ON")
    } else {
        sqlite.journal_mode(SqliteJournalMode::Wal)
    })
}

/// Brings the tables up to date. Two processes that start at once take turns, by a lock of the database.
pub async fn migrate(options: &Options) -> Result<(), Fault> {
    // "guildhall" as eight bytes of ASCII: any number does, as long as nobody else's lock has it.
    const LOCK: i64 = 0x6775_696c_6468_616c;
    match options.engine() {
        Engine::Postgres => {
            // The lock belongs to a connection of its own, so that it is released whatever happens to
            // those that migrate.
            let mut holder = reach(&options.url).await?;
            let version = server_version(&mut holder).await?;
            if version < OLDEST_POSTGRES * 10_000 {
                return Err(Fault::Stored(format!(
                    "this PostgreSQL is version {}; Guildhall needs {OLDEST_POSTGRES} or newer",
                    version / 10_000
                )));
            }
            sqlx::query("SELECT pg_advisory_lock($1)").bind(LOCK).execute(&mut holder).await?;
            // A step that waits for a table, as long as somebody dumps it, lets everybody else wait behind it. So it waits
            // a moment only, and is tried again: each step is done whole or not at all.
            const PATIENCE: Duration = Duration::from_secs(10 * 60);
            let pool = PgPoolOptions::new().max_connections(1).after_connect(|connection, _| {
                Box::pin(async { connection.execute("SET lock_timeout = '3s'").await.map(drop) })
            });
            let pool = pool.connect_with(postgres(options)?).await?;
            let conn = SqlxPostgresConnector::from_sqlx_postgres_pool(pool);
            let started = tokio::time::Instant::now();
            let migrated = loop {
                match bring_up(&conn).await {
                    Err(fault) if fault.waited_for_lock() && started.elapsed() < PATIENCE => {
                        tracing::warn!(%fault, "a table that is to be changed is in use; trying again");
                        tokio::time::sleep(Duration::from_secs(2)).await;
                    }
                    done => break done,
                }
            };
            holder.close().await?;
            migrated
        }
        Engine::Sqlite => {
            if let Some(directory) = sqlite_path(&options.url).and_then(|path| path.parent()) {
                // Whoever can read the database can read everything in it.
                let mut builder = std::fs::DirBuilder::new();
                std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
                builder
                    .recursive(true)
                    .create(directory)
                    .map_err(|error| Fault::Stored(format!("{}: {error}", directory.display())))?;
            }
            // While one process makes the file or turns it to WAL, SQLite answers the others at once that the
            // database is locked, whatever their busy timeout: waiting there could deadlock.
            const PATIENCE: Duration = Duration::from_secs(60);
            let started = tokio::time::Instant::now();
            while let Err(fault) = migrate_sqlite(options).await {
                if !fault.busy() || started.elapsed() > PATIENCE {
                    return Err(fault);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        }
    }
}

/// All steps in one transaction that excludes every other writer.
async fn migrate_sqlite(options: &Options) -> Result<(), Fault> {
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(sqlite(options, false)?).await?;
    let conn = SqlxSqliteConnector::from_sqlx_sqlite_pool(pool);
    let txn = conn
        .begin_with_options(TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        })
        .await?;
    bring_up(&txn).await?;
    txn.commit().await?;
    conn.close().await?;
    Ok(())
}

/// Runs the steps that have not run. Where a newer version has run them all and more, nothing is to do: it only added what
/// this version does not ask for. So a process of the version before can start again while a deployment is under way, or
/// when it is taken back.
async fn bring_up<'c, C: ConnectionTrait>(conn: &'c C) -> Result<(), Fault>
where
    &'c C: IntoSchemaManagerConnection<'c>,
{
    if SchemaManager::new(conn).has_table("seaql_migrations").await? {
        let ran: Vec<sql::Single<String>> =
            sql::all(conn, Sql::new("SELECT version FROM seaql_migrations")).await?;
        let ran: HashSet<String> = ran.into_iter().map(|sql::Single(step)| step).collect();
        let own: HashSet<String> = Migrator::migrations().iter().map(|step| step.name().to_owned()).collect();
        if own.is_subset(&ran) {
            if ran.len() > own.len() {
                tracing::warn!("the database was brought up to date by a newer version than this one");
            }
            return Ok(());
        }
    }
    Ok(Migrator::up(conn, None).await?)
}

/// The oldest PostgreSQL that is supported.
const OLDEST_POSTGRES: i32 = 14;

/// Connects to a PostgreSQL that may be starting at the same time as this process: waits for it for a while.
async fn reach(url: &str) -> Result<sqlx::PgConnection, Fault> {
    const PATIENCE: Duration = Duration::from_secs(30);
    let started = tokio::time::Instant::now();
    loop {
        let fault = match sqlx::PgConnection::connect(url).await {
            Ok(connection) => return Ok(connection),
            Err(error) => Fault::from(error),
        };
        if !fault.lost_connection() || started.elapsed() > PATIENCE {
            return Err(fault);
        }
        tracing::warn!(%fault, "PostgreSQL does not answer yet; trying again");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// The version as PostgreSQL counts it: 150018 for 15.18.
async fn server_version(connection: &mut sqlx::PgConnection) -> Result<i32, Fault> {
    let version = sqlx::query_scalar("SELECT current_setting('server_version_num')::int4");
    Ok(version.fetch_one(connection).await?)
}

/// The file of a SQLite URL.
fn sqlite_path(url: &str) -> Option<&std::path::Path> {
    let path = url.strip_prefix("sqlite:")?;
    let path = path.strip_prefix("//").unwrap_or(path);
    Some(std::path::Path::new(path.split('?').next()?))
}

/// What answers statements: a session that reads, or a transaction. For what is read alike in both, so that a preview
/// and the change itself read the same.
pub(crate) trait Ask: Sync {
    fn all<T: FromQueryResult + Send>(&self, sql: Sql) -> impl Future<Output = Result<Vec<T>, Fault>> + Send;
    fn one<T: FromQueryResult + Send>(
        &self,
        sql: Sql,
    ) -> impl Future<Output = Result<Option<T>, Fault>> + Send;
    /// The present moment, or that of the transaction.
    fn now(&self) -> DateTime<Utc>;
}

impl Ask for Read<'_> {
    async fn all<T: FromQueryResult + Send>(&self, sql: Sql) -> Result<Vec<T>, Fault> {
        Read::all(self, sql).await
    }

    async fn one<T: FromQueryResult + Send>(&self, sql: Sql) -> Result<Option<T>, Fault> {
        Read::one(self, sql).await
    }

    fn now(&self) -> DateTime<Utc> {
        self.db.now()
    }
}

impl Ask for Tx<'_> {
    async fn all<T: FromQueryResult + Send>(&self, sql: Sql) -> Result<Vec<T>, Fault> {
        Tx::all(self, sql).await
    }

    async fn one<T: FromQueryResult + Send>(&self, sql: Sql) -> Result<Option<T>, Fault> {
        Tx::one(self, sql).await
    }

    fn now(&self) -> DateTime<Utc> {
        Tx::now(self)
    }
}

/// A session that reads, outside a transaction: each statement sees what is committed. A lost connection is
/// tried again.
pub struct Read<'a> {
    db: &'a Db,
}

impl Read<'_> {
    pub(crate) async fn all<T: FromQueryResult>(&self, sql: Sql) -> Result<Vec<T>, Fault> {
        Ok(sql::read(&self.rows(sql).await?)?)
    }

    pub(crate) async fn one<T: FromQueryResult>(&self, sql: Sql) -> Result<Option<T>, Fault> {
        Ok(self.rows(sql).await?.first().map(sql::read_row).transpose()?)
    }

    /// Boxed: whoever waits for it, up to the field of a query, would otherwise keep room for a connection being
    /// opened in its own state: 10 KiB, which are moved each time that state is.
    fn rows(&self, sql: Sql) -> BoxFuture<'_, Result<Vec<QueryResult>, Fault>> {
        let pool = self.db.reading();
        Box::pin(async move {
            if let Some(rehearsal) = &self.db.1.rehearsal
                && let Some(rows) = rehearsal.rows(&sql).await
            {
                return Ok(rows?);
            }
            let attempt = async || sql::rows(&pool.get().await?, sql.clone()).await;
            self.db.retrying(pool, attempt).await
        })
    }
}

/// A transaction. Its time is fixed when it begins.
pub struct Tx<'a> {
    db: &'a Db,
    now: DateTime<Utc>,
    conn: Transaction,
    access: Option<Arc<WorkspaceAccess>>,
    organization: Option<Arc<OrganizationAccess>>,
    happened: Vec<Event>,
    /// Whether events were written by [`Tx::append_each`].
    told: bool,
    deferred: Mutex<Vec<Sql>>,
    /// Whom the proof names.
    actor: Option<Actor>,
    /// Whether an entry of the audit log is written with it.
    audited: AtomicBool,
    /// Whether it said who did what, or that there is nothing to say.
    accounted: AtomicBool,
}

impl Tx<'_> {
    pub(crate) fn conn(&self) -> &Transaction {
        &self.conn
    }

    pub(crate) fn db(&self) -> &Db {
        self.db
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.now
    }

    pub(crate) fn fresh_id<T: From<Uuid>>(&self) -> T {
        self.db.fresh_id().into()
    }

    /// The actor's rights in the organization, as they are in this transaction.
    pub(crate) fn organization(&self) -> Result<&Arc<OrganizationAccess>, Fault> {
        self.organization.as_ref().ok_or(Fault::Crypto("no organization was proven for this transaction"))
    }

    /// The actor's rights in the workspace, as they are in this transaction.
    pub(crate) fn access(&self) -> Result<&Arc<WorkspaceAccess>, Fault> {
        self.access.as_ref().ok_or(Fault::Crypto("no workspace was proven for this transaction"))
    }

    pub(crate) async fn all<T: FromQueryResult>(&self, sql: Sql) -> Result<Vec<T>, Fault> {
        self.flush().await?;
        Ok(sql::all(&self.conn, sql).await?)
    }

    pub(crate) async fn one<T: FromQueryResult>(&self, sql: Sql) -> Result<Option<T>, Fault> {
        self.flush().await?;
        Ok(sql::one(&self.conn, sql).await?)
    }

    pub(crate) async fn run(&self, sql: Sql) -> Result<u64, Fault> {
        self.flush().await?;
        Ok(sql::run(&self.conn, sql).await?)
    }

    /// An insert that is written with the next statement or with the commit: those that are waiting then go
    /// together, in one round trip.
    pub(crate) fn defer(&self, insert: Sql) {
        self.deferred.lock().unwrap_or_else(PoisonError::into_inner).push(insert);
    }

    async fn flush(&self) -> Result<(), Fault> {
        let deferred = std::mem::take(&mut *self.deferred.lock().unwrap_or_else(PoisonError::into_inner));
        if !deferred.is_empty() {
            let together = Sql::together(deferred, self.conn.get_database_backend());
            sql::run(&self.conn, together).await?;
        }
        Ok(())
    }

    /// Notes what happened. It is written with the change, and those who watch are told after the commit.
    pub(crate) fn append(&mut self, event: Event) {
        self.happened.push(event);
    }

    /// Writes down who did what, with the change: together with what is deferred, in no round trip of its own. It takes no
    /// lock that another entry waits for, since it gets its place in the chain later; see [`audit`].
    pub(crate) fn audit(&self, entry: &Entry) -> Result<(), Fault> {
        self.accounted.store(true, Ordering::Relaxed);
        if !entry.is_idle() {
            self.defer(audit::insert(self, entry)?);
            self.audited.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Says that what this transaction changes is no entry of the audit log, and why.
    pub(crate) fn unaudited(&self, _reason: &'static str) {
        self.accounted.store(true, Ordering::Relaxed);
    }

    /// Whom the proof names.
    pub(crate) fn actor(&self) -> Option<Actor> {
        self.actor
    }

    /// The net under the audit log: what somebody changed is accounted for. A build for tests fails; in production the
    /// change is worth more than its entry.
    fn account(&self) -> Result<(), Fault> {
        let waits = !self.deferred.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        let changed = waits || self.told || !self.happened.is_empty() || self.conn.has_changed();
        if self.actor.is_some() && changed && !self.accounted.load(Ordering::Relaxed) {
            let message = "a change that says neither who did what nor why that is not to be said";
            if cfg!(debug_assertions) {
                return Err(Fault::Unaudited(message));
            }
            tracing::error!("{message}");
        }
        Ok(())
    }

    /// Writes events by a statement that makes them of rows; none that is told to an address.
    pub(crate) async fn append_each(&mut self, insert: Sql) -> Result<(), Fault> {
        self.told |= self.run(insert).await? > 0;
        Ok(())
    }

    /// Writes the events last of all, in the order of their addresses: each holds a lock on its address
    /// until the commit, and two transactions that tell the same people would otherwise wait for each other.
    async fn write_events(&mut self) -> Result<bool, Fault> {
        let mut events = std::mem::take(&mut self.happened);
        events.sort_by(|a, b| a.email().cmp(&b.email()));
        // An invitation to several workspaces is news in each of them, and one piece of news for the invitee.
        let mut told = HashSet::new();
        for event in &events {
            let is_news = match event {
                Event::Invitation { invitation, status, .. } => told.insert((*invitation, *status)),
                _ => true,
            };
            self.defer(events::insert(self.db.engine(), self.now, event, is_news));
            self.flush().await?;
        }
        self.flush().await?;
        Ok(self.told || !events.is_empty())
    }

    /// Serialises changes of those workspaces, as far as they are the organization's, one after the other.
    pub(crate) async fn lock_workspaces(
        &self,
        organization: OrganizationId,
        workspaces: &[WorkspaceId],
    ) -> Result<(), Fault> {
        if self.conn.get_database_backend() == DbBackend::Postgres && !workspaces.is_empty() {
            let sql = Sql::new("SELECT id FROM workspaces WHERE organization_id = ")
                .bind(organization.uuid())
                .push(" AND id IN ")
                .bind_list(workspaces.iter().map(|id| id.uuid()))
                .push(" ORDER BY id FOR NO KEY UPDATE");
            self.all::<sql::Single<Uuid>>(sql).await?;
        }
        Ok(())
    }

    /// Serialises changes of that organization until the end of the transaction. To be taken before any other lock.
    pub(crate) async fn lock_organization(&self, organization: OrganizationId) -> Result<(), Fault> {
        self.lock("SELECT id FROM organizations WHERE id = ", organization.uuid()).await
    }

    /// Serialises changes of that workspace until the end of the transaction. SQLite has one writer anyway.
    /// The lock lets others refer to the workspace meanwhile, such as a person who falls back to it.
    pub(crate) async fn lock_workspace(&self, workspace: WorkspaceId) -> Result<(), Fault> {
        self.lock("SELECT id FROM workspaces WHERE id = ", workspace.uuid()).await
    }

    /// Serialises changes of every workspace of the organization, for what may take an admin from several of
    /// them. To be taken after the organization's own lock, without which a workspace could be made meanwhile.
    pub(crate) async fn lock_workspaces_of(&self, organization: OrganizationId) -> Result<(), Fault> {
        self.lock("SELECT id FROM workspaces WHERE organization_id = ", organization.uuid()).await
    }

    /// Serialises changes of that person's preferences until the end of the transaction. To be taken after
    /// the workspaces' locks.
    pub(crate) async fn lock_user(&self, user: UserId) -> Result<(), Fault> {
        self.lock("SELECT id FROM users WHERE id = ", user.uuid()).await
    }

    /// Locks the rows that the text and the value after it find, one after the other.
    async fn lock(&self, found_by: &str, value: Uuid) -> Result<(), Fault> {
        if self.conn.get_database_backend() == DbBackend::Postgres {
            self.all::<sql::Single<Uuid>>(
                Sql::new(found_by).bind(value).push(" ORDER BY id FOR NO KEY UPDATE"),
            )
            .await?;
        }
        Ok(())
    }

    async fn recheck(&mut self, recheck: Recheck) -> Result<(), ReadError> {
        self.actor = match recheck {
            Recheck::Nothing => None,
            Recheck::LetIn(actor) | Recheck::Workspace(actor, ..) | Recheck::Organization(actor, ..) => {
                Some(actor)
            }
        };
        match recheck {
            Recheck::Nothing => {}
            Recheck::LetIn(actor) => {
                access::let_in(&self.conn, actor, self.now).await?;
            }
            Recheck::Workspace(actor, workspace, permission) => {
                // Lock first, read second: what is read then cannot change before the commit.
                self.lock_workspace(workspace).await?;
                let access = access::workspace_by_id(&self.conn, actor, workspace, self.now).await?;
                access.may_change(permission)?;
                self.access = Some(access);
            }
            Recheck::Organization(actor, organization, permission) => {
                self.lock_organization(organization).await?;
                let access = access::organization(&self.conn, actor, organization, self.now).await?;
                access.may_change(permission)?;
                self.organization = Some(access);
            }
        }
        Ok(())
    }
}
