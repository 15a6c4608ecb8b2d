//! What searches look through besides people: the names of credentials and workspaces, folded.

use sea_orm_migration::{
    prelude::*,
    sea_orm::{Statement, Value, prelude::Uuid},
};

use crate::columns::*;

#[derive(DeriveMigrationName)]
pub struct Step;

#[async_trait::async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (table, name) in [("credentials", "name"), ("workspaces", "display_name")] {
            // Null where a process of the version before wrote the row while a deployment was under way.
            run(manager, &[&format!("ALTER TABLE {table} ADD COLUMN search_text text")]).await?;
            fold(manager, table, name).await?;
        }
        Ok(())
    }
}

/// Fills the column of the rows that there are. Not by SQL: SQLite folds ASCII only.
async fn fold(manager: &SchemaManager<'_>, table: &str, name: &str) -> Result<(), DbErr> {
    /// As many rows as one statement surely takes values.
    const AT_ONCE: usize = 500;
    let (connection, backend) = (manager.get_connection(), manager.get_database_backend());
    let unfolded =
        format!("SELECT id, {name} AS name FROM {table} WHERE search_text IS NULL LIMIT {AT_ONCE}");
    loop {
        let rows = connection.query_all_raw(Statement::from_string(backend, unfolded.as_str())).await?;
        if rows.is_empty() {
            return Ok(());
        }
        let mut places = Vec::with_capacity(rows.len());
        let mut values: Vec<Value> = Vec::with_capacity(2 * rows.len());
        for row in rows {
            places.push(format!("(${}, ${})", values.len() + 1, values.len() + 2));
            values.push(row.try_get::<Uuid>("", "id")?.into());
            values.push(row.try_get::<String>("", "name")?.to_lowercase().into());
        }
        let folded = format!(
            "WITH folded (id, text) AS (VALUES {}) UPDATE {table} SET search_text = folded.text FROM folded \
             WHERE folded.id = {table}.id",
            places.join(", ")
        );
        connection.execute_raw(Statement::from_sql_and_values(backend, folded, values)).await?;
    }
}
