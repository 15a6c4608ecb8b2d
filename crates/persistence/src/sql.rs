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

    /// Adds another statement, its values after those that are here.
    pub(crate) fn append(mut self, other: Self) -> Self {
        self.text.push_str(&shifted(&other.text, self.values.len()));
        self.values.extend(other.values);
        self
    }

    /// Adds values without touching the text, which names them itself.
    pub(crate) fn values<const N: usize>(mut self, values: [Value; N]) -> Self {
        self.values.extend(values);
        self
    }

    /// Adds a `LIMIT`. SQLite plans a statement anew each time that a bare parameter there changes, and each time
    /// it is bound counts as a change; it does not look into an expression.
    pub(crate) fn limit(self, rows: i64) -> Self {
        self.push(" LIMIT (0 + ").bind(rows).push(")")
    }

    /// Adds `(value, value, …)`, to be looked for with `IN`; never empty, since `IN ()` is no SQL. As many values as the next
    /// power of two, the last one repeated: each length is another statement, which every connection prepares and plans
    /// for itself.
    pub(crate) fn bind_list(mut self, values: impl IntoIterator<Item = impl Into<Value>>) -> Self {
        let mut values: Vec<Value> = values.into_iter().map(Into::into).collect();
        let Some(last) = values.last().cloned() else { return self.push("(NULL)") };
        // Short ones only: a long list is rare, and databases bound how many values a statement may have.
        if values.len() < 4096 {
            values.resize(values.len().next_power_of_two(), last);
        }
        for (place, value) in values.into_iter().enumerate() {
            self = self.push(if place == 0 { "(" } else { ", " }).bind(value);
        }
        self.push(")")
    }

    /// `INSERT INTO table (columns) VALUES (values)`.
    pub(crate) fn insert<const N: usize>(table: &str, row: [(&str, Value); N]) -> Self {
        let columns = row.each_ref().map(|(column, _)| *column).join(", ");
        let places = (1..=N).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ");
        Self::new(format!("INSERT INTO {table} ({columns}) VALUES ({places})"))
            .values(row.map(|(_, value)| value))
    }

    /// Several inserts as one statement, which saves a round trip each: on PostgreSQL as parts of a `WITH`,
    /// which run in no particular order, and on SQLite one after the other.
    pub(crate) fn together(inserts: Vec<Self>, backend: DbBackend) -> Self {
        let several = backend == DbBackend::Postgres && inserts.len() > 1;
        let mut all = Self::new("");
        for (place, insert) in inserts.into_iter().enumerate() {
            let (before, after) = match place {
                0 if several => ("WITH part0 AS (".to_owned(), ")"),
                0 => (String::new(), ""),
                _ if several => (format!(", part{place} AS ("), ")"),
                _ => ("; ".to_owned(), ""),
            };
            all = all.push(&before).append(insert).push(after);
        }
        // The last insert cannot follow the parts instead: it may begin with a `WITH` of its own.
        if several { all.push(" SELECT 1") } else { all }
    }

    /// The rows of several statements in one, each with the place of its statement as `place`.
    pub(crate) fn each(statements: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::new("");
        for (place, statement) in statements.into_iter().enumerate() {
            let union = if place > 0 { " UNION ALL " } else { "" };
            all =
                all.push(&format!("{union}SELECT {place} AS place, part{place}.* FROM (")).append(statement);
            all = all.push(&format!(") AS part{place}"));
        }
        all
    }

    /// The statement for that database.
    pub(crate) fn statement(self, backend: DbBackend) -> Statement {
        Statement::from_sql_and_values(backend, self.text, self.values)
    }
}

/// The same text with every `$n` moved up by `by`.
fn shifted(text: &str, by: usize) -> String {
    let mut moved = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let digits = rest[at + 1..].bytes().take_while(u8::is_ascii_digit).count();
        moved.push_str(&rest[..=at]);
        match rest[at + 1..at + 1 + digits].parse::<usize>() {
            Ok(n) => moved.push_str(&(n + by).to_string()),
            Err(_) => moved.push_str(&rest[at + 1..at + 1 + digits]),
        }
        rest = &rest[at + 1 + digits..];
    }
    moved.push_str(rest);
    moved
}

/// Runs a statement and gives every row of the answer.
pub(crate) async fn rows(conn: &impl ConnectionTrait, sql: Sql) -> Result<Vec<QueryResult>, DbErr> {
    conn.query_all_raw(sql.statement(conn.get_database_backend())).await
}

/// Runs a statement and reads every row of the answer.
pub(crate) async fn all<T: FromQueryResult>(conn: &impl ConnectionTrait, sql: Sql) -> Result<Vec<T>, DbErr> {
    read(&rows(conn, sql).await?)
}

/// Runs a statement and reads the only row, if there is one.
pub(crate) async fn one<T: FromQueryResult>(
    conn: &impl ConnectionTrait,
    sql: Sql,
) -> Result<Option<T>, DbErr> {
    rows(conn, sql).await?.first().map(read_row).transpose()
}

/// Reads rows.
pub(crate) fn read<T: FromQueryResult>(rows: &[QueryResult]) -> Result<Vec<T>, DbErr> {
    rows.iter().map(read_row).collect()
}

/// Reads a row.
pub(crate) fn read_row<T: FromQueryResult>(row: &QueryResult) -> Result<T, DbErr> {
    T::from_query_result(row, "")
}

/// Runs a statement and tells how many rows it touched.
pub(crate) async fn run(conn: &impl ConnectionTrait, sql: Sql) -> Result<u64, DbErr> {
    Ok(conn.execute_raw(sql.statement(conn.get_database_backend())).await?.rows_affected())
}

/// How many statements [`Sql::each`] takes at once: SQLite reads no more than 500, and a plan has its price.
pub(crate) const AT_ONCE: usize = 100;

/// A row of [`Sql::each`].
#[derive(Debug)]
pub(crate) struct Placed<T> {
    /// Of which statement it is.
    pub(crate) place: usize,
    /// The row itself.
    pub(crate) row: T,
}

impl<T: FromQueryResult> FromQueryResult for Placed<T> {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        let place: i32 = row.try_get(prefix, "place")?;
        let place = usize::try_from(place).map_err(|_| DbErr::Type("a row without its place".to_owned()))?;
        Ok(Self { place, row: T::from_query_result(row, prefix)? })
    }
}

/// The answer to a `count(*) AS number`.
#[derive(Debug, FromQueryResult)]
pub(crate) struct Number {
    number: i64,
}

impl From<Number> for u64 {
    fn from(count: Number) -> Self {
        Self::try_from(count.number).unwrap_or(0)
    }
}

/// A single column of a single row.
#[derive(Debug)]
pub(crate) struct Single<T>(pub(crate) T);

impl<T: TryGetable> FromQueryResult for Single<T> {
    fn from_query_result(row: &QueryResult, _prefix: &str) -> Result<Self, DbErr> {
        row.try_get_by_index(0).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inserts_together_keep_their_values() {
        let inserts = || {
            vec![
                Sql::insert("a", [("x", 1.into()), ("y", 2.into())]),
                Sql::new("INSERT INTO b SELECT $1, $2").values([3.into(), 4.into()]),
            ]
        };
        let postgres = Sql::together(inserts(), DbBackend::Postgres);
        assert_eq!(
            postgres.text,
            "WITH part0 AS (INSERT INTO a (x, y) VALUES ($1, $2)), part1 AS (INSERT INTO b SELECT $3, $4) SELECT 1"
        );
        let sqlite = Sql::together(inserts(), DbBackend::Sqlite);
        assert_eq!(sqlite.text, "INSERT INTO a (x, y) VALUES ($1, $2); INSERT INTO b SELECT $3, $4");
        assert_eq!(sqlite.values.len(), 4);
    }
}
