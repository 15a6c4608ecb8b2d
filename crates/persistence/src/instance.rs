//! What the instance knows of itself: whether it was set up, and whether its secrets are still the ones
//! that its stored values were made with.

use guildhall_domain::access::{Open, System};
use sea_orm::{ActiveValue::Set, DbErr, EntityTrait, sea_query::OnConflict};

use crate::{
    db::{Ask, Db, Engine, Tx},
    entities::instance::{ActiveModel, Column, Entity},
    error::{Fault, OpError},
    master_keys::{self, Place},
    sql::{Single, Sql},
};

const SET_UP: &str = "set_up_at";
const KEY_CHECK: &str = "key_check";
const MASTER_KEY: &str = "master_key_id";

/// Why the instance cannot start with these secrets.
#[derive(Debug, thiserror::Error)]
pub enum StartFault {
    /// The database was written with other secrets.
    #[error(
        "the database was written with other secrets than these: give the same MASTER_KEY, \
         JWT_REFRESH_TOKEN_SECRET and TOKEN_HASH_SECRET as before, or the data directory that holds them"
    )]
    OtherKeys,
    /// The master key of the database is none of those that were given.
    #[error(
        "the database was written with other secrets than these: its master key is {needed}, and what was given is \
         {given}. Give that key as MASTER_KEY, or in MASTER_KEY_PREVIOUS beside a new one"
    )]
    OtherMasterKey {
        /// The key's id, no secret.
        needed: String,
        /// The ids of those that were given.
        given: String,
    },
    /// Data keys are wrapped with master keys that were not given.
    #[error(
        "a master key is missing: {0}. Give it in MASTER_KEY_PREVIOUS, and run `guildhall keys rotate` before it is \
         taken away"
    )]
    MasterKeyMissing(String),
    /// The check itself failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Compares the secrets with those of the first start, or of the last rotation of the master key, and remembers them
/// at the first start. What is stored must open with the master keys that were given.
pub async fn check_keys(db: &Db) -> Result<(), StartFault> {
    #[expect(clippy::disallowed_methods, reason = "a start-up check has no actor")]
    let proof = System::named("start");
    let keys = db.keys();
    let (mine, newest) = keys.checks().next().unwrap_or_default();
    let (stored, of, census) = db
        .write::<_, ()>(&proof, async |tx| {
            put_if_absent(tx, KEY_CHECK, newest).await?;
            let stored = read(tx, KEY_CHECK, "").await?.unwrap_or_default();
            // Earlier versions did not note whose check it is.
            if let Some((id, _)) = keys.checks().find(|(_, check)| *check == stored) {
                put_if_absent(tx, MASTER_KEY, id).await?;
            }
            Ok((stored, read(tx, MASTER_KEY, "").await?, master_keys::census(tx, keys).await?))
        })
        .await
        .map_err(OpError::into_fault)?;
    if !keys.checks().any(|(_, check)| check == stored) {
        return Err(match of.filter(|of| keys.master_key_ids().all(|id| id != of)) {
            Some(needed) => {
                let given = keys.master_key_ids().collect::<Vec<_>>().join(", ");
                StartFault::OtherMasterKey { needed, given }
            }
            None => StartFault::OtherKeys,
        });
    }
    let missing = census.keys.iter().filter(|key| key.place == Place::Missing && key.workspaces > 0);
    let missing: Vec<_> = missing
        .map(|key| format!("the secrets of {} are sealed with {}", workspaces(key.workspaces), key.id))
        .collect();
    if !missing.is_empty() {
        return Err(StartFault::MasterKeyMissing(missing.join(", ")));
    }
    let factors: u64 =
        census.keys.iter().filter(|key| key.place == Place::Missing).map(|key| key.second_factors).sum();
    if factors > 0 {
        tracing::warn!(
            second_factors = factors,
            "second factors are sealed with a master key that was not given: those people cannot sign in by them"
        );
    }
    let lost: u64 = census.keys.iter().filter(|key| key.place == Place::Missing).map(|key| key.mails).sum();
    if lost > 0 {
        tracing::warn!(mails = lost, "queued mails are sealed with a master key that was not given");
    }
    if census.is_pending() {
        tracing::warn!(
            master_key = mine,
            "not everything is sealed with this master key yet: when every server was started with it, run \
             `guildhall keys rotate`"
        );
    }
    Ok(())
}

/// Of the workspaces that number, for people.
fn workspaces(number: u64) -> String {
    if number == 1 { "1 workspace".to_owned() } else { format!("{number} workspaces") }
}

/// The id of the master key that the database is under: the one of the first start, or of the last rotation that
/// was finished.
pub(crate) async fn master_key(ask: &impl Ask) -> Result<Option<String>, Fault> {
    read(ask, MASTER_KEY, "").await
}

/// The same, which then stays until the end of the transaction.
pub(crate) async fn hold_master_key(tx: &Tx<'_>) -> Result<Option<String>, Fault> {
    let lock = if tx.db().engine() == Engine::Postgres { " FOR SHARE" } else { "" };
    read(tx, MASTER_KEY, lock).await
}

/// Faults where this process was not told of the master key that the database is under: it seals nothing more then that is to
/// be kept. The key stays until the end of the transaction.
pub(crate) async fn check_master_key(tx: &Tx<'_>) -> Result<(), Fault> {
    let under = hold_master_key(tx).await?;
    match under.filter(|under| tx.db().keys().master_key_ids().all(|id| id != under)) {
        Some(id) => Err(Fault::MasterKeyMissing { what: "this database".to_owned(), id }),
        None => Ok(()),
    }
}

/// The same, for the transaction that changes it; see [`set_master_key`].
pub(crate) async fn lock_master_key(tx: &Tx<'_>) -> Result<Option<String>, Fault> {
    let lock = if tx.db().engine() == Engine::Postgres { " FOR UPDATE" } else { "" };
    read(tx, MASTER_KEY, lock).await
}

/// Puts the database under that master key, of which the check is made.
pub(crate) async fn set_master_key(tx: &Tx<'_>, id: &str, check: &str) -> Result<(), Fault> {
    for (key, value) in [(KEY_CHECK, check), (MASTER_KEY, id)] {
        let sql = Sql::new("UPDATE instance SET value = ").bind(value).push(", updated_at = ").bind(tx.now());
        tx.run(sql.push(" WHERE key = ").bind(key)).await?;
    }
    Ok(())
}

async fn read(ask: &impl Ask, key: &str, lock: &str) -> Result<Option<String>, Fault> {
    let sql = Sql::new("SELECT value FROM instance WHERE key = ").bind(key).push(lock);
    Ok(ask.one::<Single<String>>(sql).await?.map(|Single(value)| value))
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
