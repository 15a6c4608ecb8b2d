//! What can go wrong in an operation, and how a broken constraint becomes a refusal.

use std::borrow::Cow;

use guildhall_domain::{
    access::Denied,
    refusal::{Refusal, Refusals},
};
use sea_orm::{DbErr, RuntimeErr, SqlErr};
use sqlx::error::DatabaseError;

/// Something failed that no input explains: for the log, never for the caller.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The database failed or cannot be reached.
    #[error("database: {0}")]
    Database(#[from] DbErr),
    /// The database answers and takes no changes.
    #[error("the database only reads: it is a standby, or was told to take no changes")]
    ReadOnly,
    /// A stored value does not have the form that this version writes.
    #[error("stored value: {0}")]
    Stored(String),
    /// A secret could not be opened, or randomness could not be had.
    #[error("cryptography: {0}")]
    Crypto(&'static str),
    /// Something is sealed with a master key that this process was not given.
    #[error(
        "{what} is sealed with the master key {id}, which this process was not given: start it again with that key, \
         as MASTER_KEY, in MASTER_KEY_PREVIOUS, or in the secrets.toml of its data directory"
    )]
    MasterKeyMissing {
        /// What cannot be opened.
        what: String,
        /// The key's id, no secret.
        id: String,
    },
    /// A change was not accounted for: a defect of this build.
    #[error("audit log: {0}")]
    Unaudited(&'static str),
    /// Another attempt with the same idempotency key has taken over.
    #[error("another attempt with the same idempotency key has taken over")]
    Overtaken,
    /// A background thread went away.
    #[error("worker: {0}")]
    Worker(String),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(DbErr::Query(RuntimeErr::SqlxError(error.into())))
    }
}

impl Fault {
    /// Whether trying again on another connection may help: the statement cannot have been carried out.
    pub fn lost_connection(&self) -> bool {
        matches!(self, Self::Database(error) if lost_connection(error))
    }

    /// Whether a statement waited for a table or a row as long as it may, on PostgreSQL.
    pub(crate) fn waited_for_lock(&self) -> bool {
        // lock_not_available: PostgreSQL, appendix A.
        matches!(self, Self::Database(error) if code_of(error).is_some_and(|code| code == "55P03"))
    }

    /// Whether another connection to the SQLite file stood in the way: nothing was carried out, and trying again helps.
    pub(crate) fn busy(&self) -> bool {
        // SQLITE_BUSY, with what extended result codes add in the upper bits: https://sqlite.org/rescode.html#busy
        const BUSY: i32 = 5;
        let code = match self {
            Self::Database(error) => sqlx_error(error).and_then(sqlx::Error::as_database_error),
            _ => None,
        };
        code.and_then(|error| {
            error.try_downcast_ref::<sqlx::sqlite::SqliteError>()?.code()?.parse::<i32>().ok()
        })
        .is_some_and(|code| code & 0xff == BUSY)
    }
}

/// What the driver said.
fn sqlx_error(error: &DbErr) -> Option<&sqlx::Error> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => Some(error),
        _ => None,
    }
}

/// The code that the database gives to the error.
fn code_of(error: &DbErr) -> Option<Cow<'_, str>> {
    sqlx_error(error)?.as_database_error()?.code()
}

/// Whether the connection broke, rather than the statement.
pub(crate) fn lost_connection(error: &DbErr) -> bool {
    // No place for one more connection: it is to be tried again, and the connections there are have no part in it.
    const TOO_MANY: &str = "53300";
    matches!(error, DbErr::ConnectionAcquire(_))
        || sqlx_error(error).is_some_and(broken)
        || code_of(error).is_some_and(|code| code == TOO_MANY)
}

/// What a server that only reads says to a change.
const READ_ONLY: &str = "25006";

/// Whether the connection that gave this error is of no more use.
pub(crate) fn broken(error: &sqlx::Error) -> bool {
    use sqlx::Error;
    match error {
        Error::Io(_) | Error::Protocol(_) | Error::PoolTimedOut | Error::WorkerCrashed => true,
        // Class 57: the operator ended the connection or the server is starting or stopping; class 08: connection
        // exceptions; 25006: the server only reads, so it is a standby, and another one writes (PostgreSQL, appendix A).
        Error::Database(error) => error
            .code()
            .is_some_and(|code| code.starts_with("57P") || code.starts_with("08") || code == READ_ONLY),
        _ => false,
    }
}

/// Why an operation gave no result.
#[derive(Debug)]
pub enum OpError<C> {
    /// The operation's own rules refuse; nothing was changed.
    Refused(Refusals<C>),
    /// The actor may not do this, or not any more.
    Denied(Denied),
    /// Something failed.
    Fault(Fault),
}

impl OpError<()> {
    /// The fault of an operation of the service itself, which has no rules that refuse and no actor.
    pub(crate) fn into_fault(self) -> Fault {
        match self {
            Self::Fault(fault) => fault,
            Self::Refused(_) | Self::Denied(_) => Fault::Stored("the service was refused".to_owned()),
        }
    }
}

impl<C> From<Fault> for OpError<C> {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl<C> From<DbErr> for OpError<C> {
    fn from(error: DbErr) -> Self {
        Self::Fault(error.into())
    }
}

impl<C> From<Denied> for OpError<C> {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl<C> From<Refusal<C>> for OpError<C> {
    fn from(refusal: Refusal<C>) -> Self {
        Self::Refused(refusal.into())
    }
}

impl<C> From<Refusals<C>> for OpError<C> {
    fn from(refusals: Refusals<C>) -> Self {
        Self::Refused(refusals)
    }
}

/// Why something could not be read.
#[derive(Debug)]
pub enum ReadError {
    /// The actor may not, or not any more.
    Denied(Denied),
    /// Something failed.
    Fault(Fault),
}

impl From<Fault> for ReadError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<DbErr> for ReadError {
    fn from(error: DbErr) -> Self {
        Self::Fault(error.into())
    }
}

impl From<Denied> for ReadError {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl<C> From<ReadError> for OpError<C> {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Denied(denied) => Self::Denied(denied),
            ReadError::Fault(fault) => Self::Fault(fault),
        }
    }
}

/// Whether `error` is a second row where `table.column` allows one. Both databases name the columns in
/// their own way; the index is named `table_column`.
pub(crate) fn is_duplicate(error: &DbErr, table: &str, column: &str) -> bool {
    match error.sql_err() {
        Some(SqlErr::UniqueConstraintViolation(message)) => {
            message.contains(&format!("{table}_{column}")) || message.contains(&format!("{table}.{column}"))
        }
        _ => false,
    }
}
