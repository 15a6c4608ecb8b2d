//! The kinds of column the tables are made of, and how a step runs its statements.

use sea_orm_migration::prelude::*;

/// A UUID that has a value.
pub fn id(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).uuid().not_null().take()
}

/// A UUID that may be absent.
pub fn id_null(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).uuid().null().take()
}

/// Text that has a value.
pub fn text(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).text().not_null().take()
}

/// Text that may be absent.
pub fn text_null(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).text().null().take()
}

/// A moment that has a value.
pub fn at(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).timestamp_with_time_zone().not_null().take()
}

/// A moment that may be absent.
pub fn at_null(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).timestamp_with_time_zone().null().take()
}

/// A truth value.
pub fn flag(name: &'static str, default: bool) -> ColumnDef {
    ColumnDef::new(name).boolean().not_null().default(default).take()
}

/// A count.
pub fn number(name: &'static str, default: i32) -> ColumnDef {
    ColumnDef::new(name).integer().not_null().default(default).take()
}

/// A count that may grow beyond 32 bits.
pub fn big(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().not_null().take()
}

/// The same, where it may be absent.
pub fn big_null(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().null().take()
}

/// Bytes that may be absent.
pub fn bytes_null(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).binary().null().take()
}

/// Bytes that have a value.
pub fn bytes(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).binary().not_null().take()
}

/// A table of these columns.
pub fn table<const N: usize>(name: &'static str, columns: [ColumnDef; N]) -> TableCreateStatement {
    let mut table = Table::create().table(name).take();
    for mut column in columns {
        table.col(&mut column);
    }
    table
}

/// `column` of this table names a row of `to`, and goes with it.
pub fn belongs_to(table: &mut TableCreateStatement, column: &'static str, to: &'static str) {
    reference(table, column, to, ForeignKeyAction::Cascade);
}

/// `column` of this table names a row of `to`, which therefore stays.
pub fn refers_to(table: &mut TableCreateStatement, column: &'static str, to: &'static str) {
    reference(table, column, to, ForeignKeyAction::Restrict);
}

/// `column` of this table names a row of `to`, and is empty once that is gone.
pub fn forgets(table: &mut TableCreateStatement, column: &'static str, to: &'static str) {
    reference(table, column, to, ForeignKeyAction::SetNull);
}

fn reference(
    table: &mut TableCreateStatement,
    column: &'static str,
    to: &'static str,
    gone: ForeignKeyAction,
) {
    table.foreign_key(ForeignKey::create().from_col(column).to(to, "id").on_delete(gone));
}

/// Runs plain statements that both databases read alike: partial indexes and late references, which the
/// builder does not cover.
pub async fn run(manager: &SchemaManager<'_>, statements: &[&str]) -> Result<(), DbErr> {
    for statement in statements {
        manager.get_connection().execute_unprepared(statement).await?;
    }
    Ok(())
}
