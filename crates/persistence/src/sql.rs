//! Statements that are written out, with their values beside them: what both databases read alike, in one
//! text that can be explained and indexed for.

use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, FromQueryResult, QueryResult, Statement, TryGetable, Value,
};

/// A statement under construction. Values go beside the text as `$1`, `$2`, …; both databases read these.
#[derive(Clone, Debug)]
pub(crate) struct Sql {
    text: String,
    values: Vec<Value>,
}

impl Sql {
    /// A statement that begins with `text`.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), values: Vec::new() }
    }

    /// Adds text.
    pub(crate) fn push(mut self, text: &str) -> Self {
        self.text.push_str(text);
        self
    }

    /// Adds a value, as the next `$n`.
    pub(crate) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self.text.push('$');
        self.text.push_str(&self.values.len().to_string());
        self
    }

    /// Adds values without touching the text, which names them itself.
    pub(crate) fn values<const N: usize>(mut self, values: [Value; N]) -> Self {
        self.values.extend(values);
        self
    }

    /// Adds `(value, value, …)`; never empty, since `IN ()` is no SQL.
    pub(crate) fn bind_list(mut self, values: impl IntoIterator<Item = impl Into<Value>>) -> Self {
        self.text.push('(');
        let mut first = true;
        for value in values {
            if !first {
                self.text.push_str(", ");
            }
            first = false;
            self = self.bind(value);
        }
        if first {
            self.text.push_str("NULL");
        }
        self.text.push(')');
        self
    }

    /// The statement for that database.
    pub(crate) fn statement(self, backend: DbBackend) -> Statement {
        Statement::from_sql_and_values(backend, self.text, self.values)
    }
}

/// Runs a statement and reads every row of the answer.
pub(crate) async fn all<T: FromQueryResult>(conn: &impl ConnectionTrait, sql: Sql) -> Result<Vec<T>, DbErr> {
    conn.query_all_raw(sql.statement(conn.get_database_backend()))
        .await?
        .iter()
        .map(|row| T::from_query_result(row, ""))
        .collect()
}

/// Runs a statement and reads the only row, if there is one.
pub(crate) async fn one<T: FromQueryResult>(
    conn: &impl ConnectionTrait,
    sql: Sql,
) -> Result<Option<T>, DbErr> {
    conn.query_one_raw(sql.statement(conn.get_database_backend()))
        .await?
        .map(|row| T::from_query_result(&row, ""))
        .transpose()
}

/// Runs a statement and tells how many rows it touched.
pub(crate) async fn run(conn: &impl ConnectionTrait, sql: Sql) -> Result<u64, DbErr> {
    Ok(conn.execute_raw(sql.statement(conn.get_database_backend())).await?.rows_affected())
}

/// A single column of a single row.
#[derive(Debug)]
pub(crate) struct Single<T>(pub(crate) T);

impl<T: TryGetable> FromQueryResult for Single<T> {
    fn from_query_result(row: &QueryResult, _prefix: &str) -> Result<Self, DbErr> {
        row.try_get_by_index(0).map(Self)
    }
}
