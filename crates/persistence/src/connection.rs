//! Connections to either database, and the pool that lends them. Knows opening, lending and transactions; refuses to
//! know what is asked.
//!
//! The driver has a pool of its own, which asks the server after each use whether the connection still works, on a
//! task of its own. That is a second round trip and two more wake-ups for each statement: half the price of the
//! statements that this service lives of. Here a connection that read its last answer to the end is taken to work,
//! and one that has been idle for a while is asked before it is lent.

use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use deadpool::{
    Runtime,
    managed::{
        self, Metrics, Object, PoolError, QueueMode, RecycleError, RecycleResult, TimeoutType, Timeouts,
    },
};
use sea_orm::{
    ConnAcquireErr, ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr, Statement,
};
use sea_query_sqlx::SqlxValues;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Error, PgConnection, SqliteConnection,
    postgres::PgConnectOptions, sqlite::SqliteConnectOptions,
};
use tokio::{sync::Mutex, time::timeout};

use crate::error::broken;

/// The longest that PostgreSQL may take for one statement. A server that is gone without a word, its machine or the way to
/// it, would otherwise be waited for until the system gives up on the connection: a quarter of an hour, or for ever.
const SILENCE: Duration = Duration::from_secs(120);
/// The same of a roll-back that nobody waits for.
const ROLLBACK: Duration = Duration::from_secs(5);

/// How connections are opened.
#[derive(Debug)]
pub(crate) enum Opener {
    Postgres(Box<PgConnectOptions>, LastLost),
    Sqlite(Box<SqliteConnectOptions>),
}

/// When an idle connection was last found to be gone.
#[derive(Debug, Default)]
pub(crate) struct LastLost(std::sync::Mutex<Option<Instant>>);

impl LastLost {
    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether that was after this connection had been used for the last time.
    fn is_since(&self, idle: Duration) -> bool {
        let lost = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lost.is_some_and(|lost| lost.elapsed() < idle)
    }
}

/// An open connection.
pub(crate) struct Opened {
    wire: Wire,
    condition: Condition,
}

enum Wire {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

/// What a connection was last seen in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// It read its last answer to the end.
    Ready,
    /// An answer is under way; whoever waited for it may have gone.
    Asked,
    /// It failed.
    Broken,
}

/// Runs the same on whichever connection it is.
macro_rules! on {
    ($wire:expr, $connection:ident => $run:expr) => {
        match $wire {
            Wire::Postgres($connection) => $run,
            Wire::Sqlite($connection) => $run,
        }
    };
}

impl Opened {
    /// Notes what becomes of the connection while `run` is at work with it.
    async fn with<T>(&mut self, run: impl AsyncFnOnce(&mut Wire) -> Result<T, Error>) -> Result<T, Error> {
        self.condition = Condition::Asked;
        let result = match &self.wire {
            Wire::Postgres(_) => {
                let silence = |_| Err(Error::Io(std::io::ErrorKind::TimedOut.into()));
                timeout(SILENCE, run(&mut self.wire)).await.unwrap_or_else(silence)
            }
            Wire::Sqlite(_) => run(&mut self.wire).await,
        };
        self.condition = match &result {
            Err(error) if broken(error) => Condition::Broken,
            _ => Condition::Ready,
        };
        result
    }

    async fn ping(&mut self) -> Result<(), Error> {
        self.with(async |wire| on!(wire, connection => connection.ping().await)).await
    }

    async fn close(self) -> Result<(), Error> {
        on!(self.wire, connection => connection.close().await)
    }
}

impl managed::Manager for Opener {
    type Type = Opened;
    type Error = Error;

    async fn create(&self) -> Result<Opened, Error> {
        // Boxed, as in `recycle`: rare, and large for what waits for a connection.
        let wire = match self {
            Self::Postgres(options, _) => Wire::Postgres(Box::pin(options.connect()).await?),
            Self::Sqlite(options) => Wire::Sqlite(Box::pin(options.connect()).await?),
        };
        Ok(Opened { wire, condition: Condition::Ready })
    }

    async fn recycle(&self, opened: &mut Opened, metrics: &Metrics) -> RecycleResult<Error> {
        /// After that long without use a connection is asked whether it still works.
        const IDLE: Duration = Duration::from_secs(15);
        /// How long that may take: a server that is gone without a word answers nothing, and there are other connections.
        const PING: Duration = Duration::from_secs(2);
        /// A connection is not used longer than that: what a server's process keeps for it only grows.
        const LIFETIME: Duration = Duration::from_secs(30 * 60);
        if opened.condition == Condition::Broken {
            return Err(RecycleError::message("broken"));
        }
        if let Self::Postgres(_, last_lost) = self {
            if metrics.age() > LIFETIME {
                return Err(RecycleError::message("old"));
            }
            // Most likely it is gone as well. Asking each would take as long as a request may wait.
            if last_lost.is_since(metrics.last_used()) {
                return Err(RecycleError::message("idle for longer than another that was gone"));
            }
            if opened.condition == Condition::Asked || metrics.last_used() > IDLE {
                let silence = |_| Err(Error::Io(std::io::ErrorKind::TimedOut.into()));
                let answered = Box::pin(timeout(PING, opened.ping())).await.unwrap_or_else(silence);
                answered.inspect_err(|_| last_lost.note())?;
            }
        }
        Ok(())
    }
}

/// How many ran.
#[derive(Default)]
pub(crate) struct Statements {
    pub(crate) requests: AtomicU64,
    pub(crate) background: AtomicU64,
}

tokio::task_local! {
    static BACKGROUND: ();
}

/// Work that no request waits for, such as sending mail. Its statements are counted apart, so that what a request costs can
/// be told exactly while it goes on.
pub async fn in_background<F: Future>(work: F) -> F::Output {
    BACKGROUND.scope((), work).await
}

/// Lends connections to one database.
pub(crate) struct Pool {
    connections: managed::Pool<Opener>,
    backend: DbBackend,
    statements: Arc<Statements>,
}

impl Pool {
    /// A pool of at most `size` connections, each opened when it is needed. Each statement is counted.
    pub(crate) fn new(opener: Opener, size: u32, patience: Duration, statements: &Arc<Statements>) -> Self {
        let backend = match &opener {
            Opener::Postgres(..) => DbBackend::Postgres,
            Opener::Sqlite(_) => DbBackend::Sqlite,
        };
        let timeouts = Timeouts { wait: Some(patience), create: Some(patience), recycle: Some(patience) };
        let connections = managed::Pool::builder(opener)
            .max_size(usize::try_from(size).unwrap_or(usize::MAX))
            .timeouts(timeouts)
            // The one used last: its caches are warm, and the others may end.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .build();
        #[expect(clippy::expect_used, reason = "fails only for timeouts without a runtime")]
        let connections = connections.expect("a pool with a runtime");
        Self { connections, backend, statements: Arc::clone(statements) }
    }

    /// Opens connections until there are `number`.
    pub(crate) async fn fill(&self, number: u32) -> Result<(), DbErr> {
        let mut held = Vec::new();
        for _ in 0..number {
            held.push(self.get().await?);
        }
        Ok(())
    }

    /// Borrows a connection.
    pub(crate) async fn get(&self) -> Result<Connection, DbErr> {
        let opened = self.connections.get().await.map_err(|error| match error {
            PoolError::Backend(error) => failed(DbErr::Conn, error),
            PoolError::Timeout(TimeoutType::Wait) => DbErr::ConnectionAcquire(ConnAcquireErr::Timeout),
            PoolError::Timeout(TimeoutType::Create | TimeoutType::Recycle) => {
                failed(DbErr::Conn, Error::Io(std::io::ErrorKind::TimedOut.into()))
            }
            PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
                DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed)
            }
        })?;
        Ok(Connection {
            opened: Mutex::new(opened),
            backend: self.backend,
            statements: Arc::clone(&self.statements),
        })
    }

    /// Lets go of connections that were not lent for as long as `idle`, as long as more than `fewest` are open.
    pub(crate) fn forget(&self, idle: Duration, fewest: u32) {
        let fewest = usize::try_from(fewest).unwrap_or(usize::MAX);
        let mut open = self.connections.status().size;
        let forgotten = self.connections.retain(|_, metrics| {
            let stays = metrics.last_used() < idle || open <= fewest;
            open -= usize::from(!stays);
            stays
        });
        drop(forgotten);
    }

    /// Closes every connection, after those in use come back or a while has passed.
    pub(crate) async fn close(&self) {
        const PATIENCE: Duration = Duration::from_secs(5);
        let open = self.connections.status().size;
        // No new ones instead of those that are in use.
        self.connections.resize(open);
        let all = async {
            // First all, then the end: the place of one that is closed would be filled by a new one.
            let mut held = Vec::with_capacity(open);
            for _ in 0..open {
                let Ok(object) = self.connections.get().await else { break };
                held.push(object);
            }
            for object in held {
                if let Err(error) = Object::take(object).close().await {
                    tracing::debug!(%error, "closing a connection");
                }
            }
        };
        if timeout(PATIENCE, all).await.is_err() {
            tracing::warn!("some connections to the database were still in use when the service ended");
        }
        self.connections.close();
    }
}

fn failed(what: fn(RuntimeErr) -> DbErr, error: Error) -> DbErr {
    what(RuntimeErr::SqlxError(Arc::new(error)))
}

/// A borrowed connection; goes back when dropped.
pub(crate) struct Connection {
    opened: Mutex<Object<Opener>>,
    backend: DbBackend,
    statements: Arc<Statements>,
}

impl Connection {
    /// Runs a statement that begins or ends a transaction.
    async fn command(&self, text: &'static str) -> Result<(), DbErr> {
        let mut opened = self.opened.lock().await;
        let run = async |wire: &mut Wire| on!(wire, connection => sqlx::raw_sql(text).execute(connection).await.map(drop));
        opened.with(run).await.map_err(|error| failed(DbErr::Exec, error))
    }

    fn count(&self) {
        let statements = &self.statements;
        let counter =
            if BACKGROUND.try_with(|()| ()).is_ok() { &statements.background } else { &statements.requests };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The statement with its values, for whichever driver.
macro_rules! query {
    ($statement:ident) => {
        sqlx::query_with(
            AssertSqlSafe($statement.sql),
            SqlxValues($statement.values.unwrap_or_else(|| sea_orm::Values(Vec::new()))),
        )
    };
}

#[async_trait::async_trait]
impl ConnectionTrait for Connection {
    fn get_database_backend(&self) -> DbBackend {
        self.backend
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.count();
        let run = async |wire: &mut Wire| on!(wire, connection => query!(statement).execute(connection).await.map(ExecResult::from));
        self.opened.lock().await.with(run).await.map_err(|error| failed(DbErr::Exec, error))
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.count();
        let text = AssertSqlSafe(sql.to_owned());
        let run = async |wire: &mut Wire| on!(wire, connection => sqlx::raw_sql(text).execute(connection).await.map(ExecResult::from));
        self.opened.lock().await.with(run).await.map_err(|error| failed(DbErr::Exec, error))
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        // To the end of the answer, so that nothing of it is left for whoever gets the connection next.
        Ok(self.query_all_raw(statement).await?.into_iter().next())
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.count();
        let run = async |wire: &mut Wire| {
            on!(wire, connection => {
                let rows = query!(statement).fetch_all(connection).await?;
                Ok(rows.into_iter().map(QueryResult::from).collect())
            })
        };
        self.opened.lock().await.with(run).await.map_err(|error| failed(DbErr::Query, error))
    }
}

/// A transaction under way. Dropped without an end, it is rolled back.
pub(crate) struct Transaction {
    /// `None` once it has ended.
    connection: Option<Connection>,
    backend: DbBackend,
    /// Whether a statement has changed a row.
    changed: AtomicBool,
    /// Whether a statement has failed.
    failed: AtomicBool,
}

impl Transaction {
    /// Begins one. On SQLite it takes the right to write at once: a transaction that reads first and then finds
    /// another writer cannot wait for it.
    pub(crate) async fn begin(pool: &Pool) -> Result<Self, DbErr> {
        let connection = pool.get().await?;
        let begin = match pool.backend {
            DbBackend::Sqlite => "BEGIN IMMEDIATE",
            _ => "BEGIN",
        };
        // Made first, so that it ends the transaction if this future is dropped halfway.
        let this = Self {
            connection: Some(connection),
            backend: pool.backend,
            changed: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        };
        this.open()?.command(begin).await?;
        Ok(this)
    }

    /// Whether a statement has changed a row.
    pub(crate) fn has_changed(&self) -> bool {
        self.changed.load(Ordering::Relaxed)
    }

    /// Counts changes from here on.
    pub(crate) fn count_anew(&self) {
        self.changed.store(false, Ordering::Relaxed);
    }

    /// Makes the changes last. Where a statement had failed nothing lasts, whatever was made of its error: PostgreSQL answers
    /// such a COMMIT by rolling back, and says so only in passing.
    pub(crate) async fn commit(self) -> Result<(), DbErr> {
        if self.failed.load(Ordering::Relaxed) {
            self.rollback().await?;
            return Err(DbErr::Custom("a statement of the transaction had failed".to_owned()));
        }
        self.end("COMMIT").await
    }

    /// Takes the changes back.
    pub(crate) async fn rollback(self) -> Result<(), DbErr> {
        self.end("ROLLBACK").await
    }

    async fn end(mut self, how: &'static str) -> Result<(), DbErr> {
        self.open()?.command(how).await?;
        self.connection = None;
        Ok(())
    }

    /// Notes whether a statement failed.
    fn noted<T>(&self, answer: Result<T, DbErr>) -> Result<T, DbErr> {
        self.failed.fetch_or(answer.is_err(), Ordering::Relaxed);
        answer
    }

    fn open(&self) -> Result<&Connection, DbErr> {
        self.connection.as_ref().ok_or_else(|| DbErr::Custom("the transaction has ended".to_owned()))
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        // Not when the connection is lent next: until then it would hold its locks.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // One that does not answer holds a place meanwhile. It is asked again before it is lent.
                match timeout(ROLLBACK, connection.command("ROLLBACK")).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => tracing::debug!(%error, "roll-back"),
                    Err(_) => tracing::debug!("a connection does not answer to a roll-back"),
                }
            });
        }
    }
}

#[async_trait::async_trait]
impl ConnectionTrait for Transaction {
    fn get_database_backend(&self) -> DbBackend {
        self.backend
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let done = self.noted(self.open()?.execute_raw(statement).await)?;
        self.changed.fetch_or(done.rows_affected() > 0, Ordering::Relaxed);
        Ok(done)
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let done = self.noted(self.open()?.execute_unprepared(sql).await)?;
        self.changed.fetch_or(done.rows_affected() > 0, Ordering::Relaxed);
        Ok(done)
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        Ok(self.query_all_raw(statement).await?.into_iter().next())
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        // What changes rows and answers with them says so.
        let returns_changes = statement.sql.contains(" RETURNING ");
        let rows = self.noted(self.open()?.query_all_raw(statement).await)?;
        self.changed.fetch_or(returns_changes && !rows.is_empty(), Ordering::Relaxed);
        Ok(rows)
    }
}
