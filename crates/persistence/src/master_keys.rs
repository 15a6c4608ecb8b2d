//! Changing the master key: which one seals how much, and sealing everything anew with the newest. Knows rows and
//! keys; refuses to know where keys are kept. Servers go on meanwhile, and it can end anywhere and begin again.

use std::{collections::BTreeMap, time::Duration};

use guildhall_domain::{
    access::System,
    ids::{MailId, WorkspaceId},
};
use sea_orm::FromQueryResult;
use uuid::Uuid;

use crate::{
    db::{Ask, Db},
    error::Fault,
    instance,
    keys::Keys,
    mails::{fault, skip_locked},
    sql::Sql,
};

/// The rows of one transaction, so that nobody waits long for it.
const BATCH: i64 = 100;
/// How often the whole is gone through, for what others held at that moment or have sealed with an old key since.
const PASSES: usize = 10;
const PAUSE: Duration = Duration::from_millis(200);

/// Whether this process has a master key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It seals what is new.
    Current,
    /// It opens what it sealed.
    Previous,
    /// It was not given.
    Missing,
}

/// What is sealed with one master key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// What the key is called.
    pub id: String,
    /// Whether this process has it.
    pub place: Place,
    /// Workspaces whose data key it wraps.
    pub workspaces: u64,
    /// Queued mails.
    pub mails: u64,
    /// Keys that sign.
    pub signing_keys: u64,
    /// People's second factors.
    pub second_factors: u64,
    /// Secrets that are shown to identity providers.
    pub client_secrets: u64,
}

impl Holding {
    /// What would be lost without the key. Mails are given up before long.
    fn lasting(&self) -> u64 {
        self.workspaces + self.signing_keys + self.second_factors + self.client_secrets
    }
}

/// What is sealed with which master key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Census {
    /// The current one, the previous ones, then those that are missing.
    pub keys: Vec<Holding>,
    /// Queued mails of an earlier version, which did not note the key.
    pub unnamed_mails: u64,
    /// The id of the key that the database is under: servers need it to start.
    pub under: Option<String>,
}

impl Census {
    /// Whether something is left for [`rotate`] to do.
    pub fn is_pending(&self) -> bool {
        let is_under_current = self.keys.iter().any(|key| {
            key.place == Place::Current && self.under.as_deref().is_none_or(|under| under == key.id)
        });
        !is_under_current || self.unnamed_mails > 0 || self.left() > 0
    }

    /// Everything that is sealed with another key than the current one.
    pub fn left(&self) -> u64 {
        let others = self.keys.iter().filter(|key| key.place != Place::Current);
        others.map(|key| key.mails + key.lasting()).sum()
    }
}

#[derive(FromQueryResult)]
struct Counted {
    id: Option<String>,
    number: i64,
}

/// What is sealed with which master key.
pub(crate) async fn census(ask: &impl Ask, keys: &Keys) -> Result<Census, Fault> {
    let wrapped: Vec<Counted> = ask
        .all(Sql::new(
            "SELECT master_key_id AS id, COUNT(*) AS number FROM workspace_keys GROUP BY master_key_id",
        ))
        .await?;
    let mails: Vec<Counted> = ask
        .all(Sql::new(
            "SELECT master_key_id AS id, COUNT(*) AS number FROM mails WHERE status = 'QUEUED' GROUP BY master_key_id",
        ))
        .await?;
    let signing: Vec<Counted> = ask
        .all(Sql::new(
            "SELECT master_key_id AS id, COUNT(*) AS number FROM signing_keys GROUP BY master_key_id",
        ))
        .await?;
    let factors: Vec<Counted> = ask
        .all(Sql::new(
            "SELECT master_key_id AS id, COUNT(*) AS number FROM second_factors GROUP BY master_key_id",
        ))
        .await?;
    let clients: Vec<Counted> = ask
        .all(Sql::new(
            "SELECT master_key_id AS id, COUNT(*) AS number FROM identity_providers GROUP BY master_key_id",
        ))
        .await?;
    let mut unnamed_mails = 0;
    let mut numbers: BTreeMap<String, (u64, u64, u64, u64, u64)> = BTreeMap::new();
    for Counted { id, number } in clients {
        numbers.entry(id.unwrap_or_default()).or_default().4 += number.unsigned_abs();
    }
    for Counted { id, number } in factors {
        numbers.entry(id.unwrap_or_default()).or_default().3 += number.unsigned_abs();
    }
    for Counted { id, number } in signing {
        numbers.entry(id.unwrap_or_default()).or_default().2 += number.unsigned_abs();
    }
    for Counted { id, number } in wrapped {
        numbers.entry(id.unwrap_or_default()).or_default().0 += number.unsigned_abs();
    }
    for Counted { id, number } in mails {
        match id {
            Some(id) => numbers.entry(id).or_default().1 += number.unsigned_abs(),
            None => unnamed_mails += number.unsigned_abs(),
        }
    }
    let mut held = Vec::new();
    for id in keys.master_key_ids() {
        let (workspaces, mails, signing_keys, second_factors, client_secrets) =
            numbers.remove(id).unwrap_or_default();
        let place = if held.is_empty() { Place::Current } else { Place::Previous };
        let id = id.to_owned();
        held.push(Holding { id, place, workspaces, mails, signing_keys, second_factors, client_secrets });
    }
    let missing = |(id, (workspaces, mails, signing_keys, second_factors, client_secrets))| {
        let place = Place::Missing;
        Holding { id, place, workspaces, mails, signing_keys, second_factors, client_secrets }
    };
    held.extend(numbers.into_iter().map(missing));
    Ok(Census { keys: held, unnamed_mails, under: instance::master_key(ask).await? })
}

/// What is sealed with which master key, for whoever runs the instance.
pub async fn status(db: &Db, proof: &System) -> Result<Census, Fault> {
    census(&db.read(proof), db.keys()).await
}

/// What a rotation did.
#[derive(Debug)]
pub struct Rotated {
    /// Data keys that were wrapped anew.
    pub workspaces: u64,
    /// Queued mails that were sealed anew.
    pub mails: u64,
    /// Keys that sign that were sealed anew.
    pub signing_keys: u64,
    /// Second factors that were sealed anew.
    pub second_factors: u64,
    /// Secrets shown to identity providers that were sealed anew.
    pub client_secrets: u64,
    /// Workspaces whose data key none of the keys opens.
    pub damaged: Vec<WorkspaceId>,
    /// Queued mails that none of the keys opens.
    pub unreadable: Vec<MailId>,
    /// How many keys that sign none of the keys opens.
    pub damaged_signing_keys: usize,
    /// How many second factors none of the keys opens.
    pub damaged_second_factors: usize,
    /// How many secrets shown to identity providers none of the keys opens.
    pub damaged_client_secrets: usize,
    /// How it stands now.
    pub census: Census,
}

#[derive(FromQueryResult)]
struct Sealed {
    id: Uuid,
    master_key_id: Option<String>,
    sealed: Vec<u8>,
    /// What it is sealed for, beside its id.
    purpose: Option<String>,
    /// Whose it is.
    user_id: Option<Uuid>,
}

/// One batch: what was looked at up to which row, what became of it, and what does not open.
struct Batch {
    last: Option<Uuid>,
    done: u64,
    closed: Vec<Uuid>,
}

/// Seals with the current master key whatever another one sealed, then puts the database under it. What has been done
/// stays done, so that another call goes on where one was interrupted; several at once share the work.
pub async fn rotate(db: &Db, proof: &System) -> Result<Rotated, Fault> {
    let (mut workspaces, mut mails, mut signing_keys, mut second_factors, mut client_secrets) =
        (0, 0, 0, 0, 0);
    let mut pass = 0;
    loop {
        let (rewrapped, damaged) = go_through(db, proof, Kind::DataKeys).await?;
        let (resealed, unreadable) = go_through(db, proof, Kind::Mails).await?;
        let (signing, closed_signing) = go_through(db, proof, Kind::SigningKeys).await?;
        let (factors, closed_factors) = go_through(db, proof, Kind::SecondFactors).await?;
        signing_keys += signing;
        second_factors += factors;
        let (clients, closed_clients) = go_through(db, proof, Kind::ClientSecrets).await?;
        client_secrets += clients;
        workspaces += rewrapped;
        mails += resealed;
        finish(db, proof).await?;
        let census = status(db, proof).await?;
        pass += 1;
        let closed = damaged.len() + unreadable.len() + closed_signing.len() + closed_factors.len();
        let closed = closed + closed_clients.len();
        let closed = u64::try_from(closed).unwrap_or(u64::MAX);
        if census.left() + census.unnamed_mails <= closed || pass == PASSES {
            let damaged = damaged.into_iter().map(WorkspaceId::from).collect();
            let unreadable = unreadable.into_iter().map(MailId::from).collect();
            return Ok(Rotated {
                workspaces,
                mails,
                signing_keys,
                second_factors,
                client_secrets,
                damaged,
                unreadable,
                damaged_signing_keys: closed_signing.len(),
                damaged_second_factors: closed_factors.len(),
                damaged_client_secrets: closed_clients.len(),
                census,
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[derive(Clone, Copy)]
enum Kind {
    DataKeys,
    Mails,
    SigningKeys,
    SecondFactors,
    ClientSecrets,
}

/// Goes once through all rows of a kind, in the order of their ids.
async fn go_through(db: &Db, proof: &System, kind: Kind) -> Result<(u64, Vec<Uuid>), Fault> {
    let (mut done, mut closed) = (0, Vec::new());
    let mut after = Uuid::nil();
    loop {
        let batch = one_batch(db, proof, kind, after).await?;
        done += batch.done;
        closed.extend(batch.closed);
        match batch.last {
            Some(last) => after = last,
            None => return Ok((done, closed)),
        }
    }
}

async fn one_batch(db: &Db, proof: &System, kind: Kind, after: Uuid) -> Result<Batch, Fault> {
    let keys = db.keys();
    let current = keys.master_key_id();
    let (table, id, sealed, at, only) = match kind {
        Kind::DataKeys => ("workspace_keys", "workspace_id", "wrapped", "wrapped_at", ""),
        Kind::Mails => {
            ("mails", "id", "sealed", "updated_at", " AND status = 'QUEUED' AND sealed IS NOT NULL")
        }
        Kind::SigningKeys => ("signing_keys", "id", "sealed", "sealed_at", ""),
        Kind::SecondFactors => ("second_factors", "id", "sealed", "sealed_at", ""),
        Kind::ClientSecrets => ("identity_providers", "id", "sealed_secret", "sealed_at", ""),
    };
    let purpose = match kind {
        Kind::SigningKeys => "purpose, CAST(NULL AS uuid) AS user_id",
        Kind::SecondFactors => "CAST(NULL AS text) AS purpose, user_id",
        Kind::DataKeys | Kind::Mails | Kind::ClientSecrets => {
            "CAST(NULL AS text) AS purpose, CAST(NULL AS uuid) AS user_id"
        }
    };
    let batch = db.write(proof, async |tx| {
        let sql = Sql::new(format!(
            "SELECT {id} AS id, master_key_id, {sealed} AS sealed, {purpose} FROM {table} WHERE {id} > "
        ))
        .bind(after)
        .push(" AND (master_key_id IS NULL OR master_key_id <> ")
        .bind(current)
        .push(&format!("){only} ORDER BY {id}"))
        .limit(BATCH)
        // What somebody else holds is left for the next pass: who never waits cannot be part of a deadlock.
        .push(skip_locked(db));
        let rows: Vec<Sealed> = tx.all(sql).await?;
        let mut batch = Batch { last: rows.last().map(|row| row.id), done: 0, closed: Vec::new() };
        let mut anew = Vec::new();
        for row in rows {
            match reseal(keys, kind, &row) {
                Ok(sealed) => anew.push((row.id, row.sealed, sealed)),
                Err(fault) => {
                    tracing::error!(%fault, "left as it is");
                    batch.closed.push(row.id);
                }
            }
        }
        if anew.is_empty() {
            return Ok(batch);
        }
        let mut sql = Sql::new("WITH anew (id, before, sealed) AS (VALUES ");
        for (place, (id, before, sealed)) in anew.into_iter().enumerate() {
            let between = if place == 0 { "(" } else { ", (" };
            sql = sql.push(between).bind(id).push(", ").bind(before).push(", ").bind(sealed).push(")");
        }
        let sql = sql
            .push(&format!(") UPDATE {table} SET {sealed} = anew.sealed, {at} = "))
            .bind(tx.now())
            .push(", master_key_id = ")
            .bind(current)
            .push(&format!(" FROM anew WHERE {table}.{id} = anew.id AND {table}.{sealed} = anew.before"));
        batch.done = tx.run(sql).await?;
        Ok(batch)
    });
    batch.await.map_err(fault)
}

/// The same, sealed with the current master key.
fn reseal(keys: &Keys, kind: Kind, row: &Sealed) -> Result<Vec<u8>, Fault> {
    match kind {
        Kind::DataKeys => {
            let workspace = row.id.into();
            let key =
                keys.unwrap(workspace, row.master_key_id.as_deref().unwrap_or_default(), &row.sealed)?;
            keys.wrap(workspace, &key)
        }
        Kind::SigningKeys => {
            let purpose = row.purpose.as_deref().unwrap_or_default();
            let id = row.master_key_id.as_deref().unwrap_or_default();
            keys.seal_signing_key(row.id, purpose, &keys.open_signing_key(row.id, purpose, id, &row.sealed)?)
        }
        Kind::SecondFactors => {
            let (user, id) =
                (row.user_id.unwrap_or_default().into(), row.master_key_id.as_deref().unwrap_or_default());
            keys.seal_second_factor(row.id, user, &keys.open_second_factor(row.id, user, id, &row.sealed)?)
        }
        Kind::ClientSecrets => {
            let id = row.master_key_id.as_deref().unwrap_or_default();
            keys.seal_client_secret(row.id, &keys.open_client_secret(row.id, id, &row.sealed)?)
        }
        Kind::Mails => {
            let mail = row.id.into();
            keys.seal_mail(mail, &keys.open_mail(mail, row.master_key_id.as_deref(), &row.sealed)?)
        }
    }
}

/// Puts the database under the current master key when no data key needs another one. Nobody makes a data key
/// meanwhile, so that afterwards only those who know the current key do.
async fn finish(db: &Db, proof: &System) -> Result<(), Fault> {
    let keys = db.keys();
    let (id, check) = keys.checks().next().unwrap_or_default();
    let finished = db.write(proof, async |tx| {
        let under = instance::lock_master_key(tx).await?;
        if under.as_deref() == Some(id) {
            return Ok(());
        }
        let census = census(tx, keys).await?;
        if census.keys.iter().all(|key| key.place == Place::Current || key.lasting() == 0) {
            instance::set_master_key(tx, id, check).await?;
        }
        Ok(())
    });
    finished.await.map_err(fault)
}
