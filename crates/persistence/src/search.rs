//! Search by parts of names, in any case and any alphabet: what a search looks through is kept folded in the column
//! `search_text`, since SQLite folds only ASCII itself.

use guildhall_domain::{
    access::System,
    text::{SearchTerm, fold_case},
};
use sea_orm::FromQueryResult;
use uuid::Uuid;

use crate::{
    db::Db,
    error::Fault,
    mails::{fault, skip_locked},
    sql::Sql,
};

/// What a search for people looks through.
pub(crate) fn of_person(name: &str, email: &str) -> String {
    fold_case(&format!("{name} {email}"))
}

/// What a search for workspaces or credentials looks through.
pub(crate) fn of_name(name: &str) -> String {
    fold_case(name)
}

/// Keeps the people `u` in whose name or address the term is.
pub(crate) fn where_person(sql: Sql, search: &SearchTerm) -> Sql {
    sql.push(" AND u.search_text LIKE ").bind(search.like_pattern()).push(" ESCAPE '\\'")
}

/// Keeps the rows of the table `of` in whose display name, the column `name`, or in whose name in addresses, the column `key`,
/// the term is. The display name itself counts for what a process of a version without `search_text` wrote.
pub(crate) fn where_named(sql: Sql, of: &str, name: &str, key: &str, search: &SearchTerm) -> Sql {
    let pattern = search.like_pattern();
    let sql = sql.push(&format!(" AND ({of}.search_text LIKE ")).bind(pattern.clone());
    let sql = sql.push(&format!(" ESCAPE '\\' OR lower({of}.{name}) LIKE ")).bind(pattern.clone());
    let sql = sql.push(&format!(" ESCAPE '\\' OR {of}.{key} LIKE ")).bind(pattern);
    sql.push(" ESCAPE '\\')")
}

#[derive(FromQueryResult)]
struct Unfolded {
    id: Uuid,
    name: String,
}

/// Fills `search_text` where a version before left it out: in rows that are older than the column, and in those that a process
/// of that version writes while a deployment is under way. Where such a process renames something, the name before is found
/// as well until it is renamed again. So many rows a transaction; how many they were in all.
#[expect(clippy::disallowed_methods, reason = "names are found by those who may see them")]
pub(crate) async fn fold_names(db: &Db, batch: usize) -> Result<usize, Fault> {
    let proof = System::named("housekeeping");
    let mut folded = 0;
    for (table, name) in [("workspaces", "display_name"), ("credentials", "name")] {
        let mut after = Uuid::nil();
        loop {
            let rows = db.write(&proof, async |tx| {
                let sql = Sql::new(format!(
                    "SELECT id, {name} AS name FROM {table} WHERE search_text IS NULL AND id > "
                ))
                .bind(after)
                .push(" ORDER BY id")
                .limit(batch as i64)
                // What somebody else holds is left for the next sweep: who never waits cannot be part of a deadlock.
                .push(skip_locked(db));
                let rows: Vec<Unfolded> = tx.all(sql).await?;
                if rows.is_empty() {
                    return Ok(rows);
                }
                let mut sql = Sql::new("WITH folded (id, text) AS (VALUES ");
                for (place, row) in rows.iter().enumerate() {
                    sql = sql.push(if place == 0 { "(" } else { ", (" }).bind(row.id);
                    sql = sql.push(", ").bind(of_name(&row.name)).push(")");
                }
                let sql = sql.push(&format!(
                    ") UPDATE {table} SET search_text = folded.text FROM folded WHERE folded.id = {table}.id"
                ));
                tx.run(sql).await?;
                Ok(rows)
            });
            let rows = rows.await.map_err(fault)?;
            folded += rows.len();
            match rows.last() {
                Some(row) => after = row.id,
                None => break,
            }
        }
    }
    Ok(folded)
}
