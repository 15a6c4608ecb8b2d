//! What the instance knows of itself: whether it was set up, and whether its secrets are still the ones
//! that its stored values were made with.

use guildhall_domain::access::{Open, System};
use sea_orm::{ActiveValue::Set, DbErr, EntityTrait, sea_query::OnConflict};

use crate::{
    db::{Db, Tx},
    entities::instance::{ActiveModel, Column, Entity},
    error::{Fault, OpError},
    sql::{Single, Sql},
};

const SET_UP: &str = "set_up_at";
const KEY_CHECK: &str = "key_check";

/// Why the instance cannot start with these secrets.
#[derive(Debug, thiserror::Error)]
pub enum StartFault {
    /// The database was written with other secrets.
    #[error(
        "the database was written with other secrets than these: give the same MASTER_KEY, \
         JWT_REFRESH_TOKEN_SECRET and TOKEN_HASH_SECRET as before, or the data directory that holds them"
    )]
    OtherKeys,
    /// The check itself failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Compares the secrets with those of the first start, and remembers them at that.
pub async fn check_keys(db: &Db) -> Result<(), StartFault> {
    #[expect(clippy::disallowed_methods, reason = "a start-up check has no actor")]
    let proof = System::named("start");
    let mine = db.keys().check_value();
    let checked = db
        .write::<_, ()>(&proof, async |tx| {
            put_if_absent(tx, KEY_CHECK, mine).await?;
            let sql = Sql::new("SELECT value FROM instance WHERE key = ").bind(KEY_CHECK);
            Ok(tx.one::<Single<String>>(sql).await?)
        })
        .await
        .map_err(OpError::into_fault)?;
    if checked.is_some_and(|Single(stored)| stored == mine) { Ok(()) } else { Err(StartFault::OtherKeys) }
}

/// Reads a row of every table: an error names the first whose columns are not those of this version.
pub async fn check_tables(db: &Db) -> Result<(), Fault> {
    #[expect(clippy::disallowed_methods, reason = "a start-up check has no actor")]
    let proof = System::named("start");
    let checked =
        db.write::<_, ()>(&proof, async |tx| Ok(crate::entities::select_each(tx.conn()).await?)).await;
    match checked {
        Ok(()) => Ok(()),
        Err(OpError::Fault(fault)) => Err(fault),
        Err(_) => Err(Fault::Crypto("the start-up check was refused")),
    }
}

/// Whether the instance was set up.
pub async fn is_set_up(db: &Db) -> Result<bool, Fault> {
    #[expect(clippy::disallowed_methods, reason = "whether an instance is set up is no secret")]
    let proof = Open::because("whether an instance is set up is no secret");
    let sql = Sql::new("SELECT 1 FROM instance WHERE key = ").bind(SET_UP);
    Ok(db.read(&proof).one::<Single<i32>>(sql).await?.is_some())
}

/// Marks the instance as set up; `false` when somebody was first, even at the same moment.
pub(crate) async fn claim_set_up(tx: &Tx<'_>) -> Result<bool, Fault> {
    put_if_absent(tx, SET_UP, &tx.now().to_rfc3339()).await
}

async fn put_if_absent(tx: &Tx<'_>, key: &str, value: &str) -> Result<bool, Fault> {
    let row =
        ActiveModel { key: Set(key.to_owned()), value: Set(value.to_owned()), updated_at: Set(tx.now()) };
    let written = Entity::insert(row)
        .on_conflict(OnConflict::column(Column::Key).do_nothing().to_owned())
        .exec_without_returning(tx.conn())
        .await;
    match written {
        Ok(rows) => Ok(rows > 0),
        Err(DbErr::RecordNotInserted) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
