//! Chaining: giving the new entries of each organization their places and hashes, and signing where the chain stands.
//! Any number of processes may be at it: the row of the chain is locked meanwhile, so that they take turns.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use guildhall_domain::{
    access::System,
    audit::{Checkpoint, FIRST},
    events::Event,
    ids::OrganizationId,
};
use sea_orm::FromQueryResult;
use uuid::Uuid;

use super::read::{AuditEvent, COLUMNS, moment};
use crate::{
    db::{Db, Engine, Tx},
    error::{Fault, OpError},
    signing::{self, Purpose},
    sql::{Single, Sql},
};

/// The most entries of one transaction.
const BATCH: i64 = 500;
/// The most entries that stand in a chain unsigned, and how long they do; rounded up to the next time that it is looked at.
const UNSIGNED: i64 = 100;
const UNSIGNED_FOR: TimeDelta = TimeDelta::minutes(1);
/// The most organizations that are looked at in one go.
const AT_ONCE: i64 = 100;

/// How much was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chained {
    /// Entries that got their places.
    pub entries: u64,
    /// Checkpoints that were signed.
    pub checkpoints: u64,
}

/// Chains every entry that has no place yet, and signs what has stood unsigned for long enough.
pub async fn chain(db: &Db) -> Result<Chained, Fault> {
    #[expect(clippy::disallowed_methods, reason = "the chain is the service's own")]
    let proof = System::named("audit log");
    let (mut done, mut failed) = (Chained::default(), None);
    loop {
        let waiting = waiting(db, &proof).await?;
        let mut more = waiting.len() as i64 == AT_ONCE;
        for organization in waiting {
            match chain_one(db, &proof, organization, false).await {
                Ok((entries, signed)) => {
                    done.entries += entries;
                    done.checkpoints += u64::from(signed);
                    more |= entries == BATCH.unsigned_abs();
                }
                // What is wrong with one organization's log keeps no other's waiting.
                Err(fault) => {
                    tracing::warn!(%organization, %fault, "the audit log of an organization cannot be chained");
                    failed.get_or_insert(fault);
                }
            }
        }
        match failed {
            Some(fault) => return Err(fault),
            None if !more => return Ok(done),
            None => {}
        }
    }
}

/// Chains every entry of the organization, and signs its end.
pub(super) async fn sign_all(db: &Db, proof: &System, organization: OrganizationId) -> Result<(), Fault> {
    while chain_one(db, proof, organization, true).await?.0 == BATCH.unsigned_abs() {
        tokio::time::sleep(Duration::ZERO).await;
    }
    Ok(())
}

async fn waiting(db: &Db, proof: &System) -> Result<Vec<OrganizationId>, Fault> {
    let sql = Sql::new(
        "SELECT organization_id FROM audit_events WHERE place IS NULL UNION \
         SELECT organization_id FROM audit_chains WHERE place > signed_place AND signed_at <= ",
    )
    .bind(db.now() - UNSIGNED_FOR)
    .limit(AT_ONCE);
    let rows: Vec<Single<Uuid>> = db.read(proof).all(sql).await?;
    Ok(rows.into_iter().map(|Single(id)| id.into()).collect())
}

#[derive(FromQueryResult)]
struct Head {
    place: i64,
    hash: String,
    signed_place: i64,
    signed_at: DateTime<Utc>,
}

/// Chains one batch of an organization; how many that were, and whether the end was signed.
async fn chain_one(
    db: &Db,
    proof: &System,
    organization: OrganizationId,
    sign: bool,
) -> Result<(u64, bool), Fault> {
    let done = db.write(proof, async |tx| {
        let Head { place, hash, signed_place, signed_at } = lock_head(tx, organization).await?;
        let sql = Sql::new(format!(
            "SELECT {COLUMNS} FROM audit_events x WHERE x.place IS NULL AND x.organization_id = "
        ))
        .bind(organization.uuid())
        // Roughly as they were done. What commits later than what was done after it gets a later place.
        .push(" ORDER BY x.id")
        .limit(BATCH);
        let new: Vec<AuditEvent> = tx.all(sql).await?;
        let (mut last, mut previous) = (place, hash);
        let mut linked = Vec::with_capacity(new.len());
        for stored in new {
            let id = stored.id;
            last += 1;
            let mut record = stored.record();
            record.place = last.unsigned_abs();
            record.previous_hash = previous;
            let hash = record.computed_hash(&organization.to_string());
            linked.push((id, last, record.previous_hash, hash.clone()));
            previous = hash;
        }
        let number = linked.len() as u64;
        if number > 0 {
            write_places(tx, linked).await?;
            tx.append(Event::Audit { organization });
        }
        let due = last - signed_place >= UNSIGNED || tx.now() - signed_at >= UNSIGNED_FOR;
        let signs = last > signed_place && (sign || due);
        if signs {
            write_checkpoint(tx, organization, last, &previous).await?;
        }
        if number > 0 || signs {
            let (signed_place, signed_at) = if signs { (last, tx.now()) } else { (signed_place, signed_at) };
            let sql = Sql::new("UPDATE audit_chains SET place = ")
                .bind(last)
                .push(", hash = ")
                .bind(previous)
                .push(", signed_place = ")
                .bind(signed_place)
                .push(", signed_at = ")
                .bind(signed_at);
            tx.run(sql.push(" WHERE organization_id = ").bind(organization.uuid())).await?;
        }
        Ok((number, signs))
    });
    done.await.map_err(OpError::into_fault)
}

/// Where the chain ends. Whoever else chains for the organization waits until this transaction is over, and reads after
/// that what it has left.
async fn lock_head(tx: &Tx<'_>, organization: OrganizationId) -> Result<Head, Fault> {
    let row = Sql::insert(
        "audit_chains",
        [
            ("organization_id", organization.uuid().into()),
            ("place", 0_i64.into()),
            ("hash", FIRST.into()),
            ("signed_place", 0_i64.into()),
            ("signed_at", tx.now().into()),
        ],
    );
    let lock = if tx.db().engine() == Engine::Postgres { " FOR UPDATE" } else { "" };
    let head =
        Sql::new("SELECT place, hash, signed_place, signed_at FROM audit_chains WHERE organization_id = ")
            .bind(organization.uuid())
            .push(lock);
    if let Some(head) = tx.one(head.clone()).await? {
        return Ok(head);
    }
    tx.run(row.push(" ON CONFLICT (organization_id) DO NOTHING")).await?;
    tx.one(head).await?.ok_or_else(|| Fault::Stored("the chain that was begun is gone".to_owned()))
}

async fn write_places(tx: &Tx<'_>, linked: Vec<(Uuid, i64, String, String)>) -> Result<(), Fault> {
    let mut sql = Sql::new("WITH linked (id, place, previous_hash, hash) AS (VALUES ");
    for (number, (id, place, previous, hash)) in linked.into_iter().enumerate() {
        let between = if number == 0 { "(" } else { ", (" };
        sql = sql.push(between).bind(id).push(", ").bind(place);
        sql = sql.push(", ").bind(previous).push(", ").bind(hash).push(")");
    }
    tx.run(sql.push(
        ") UPDATE audit_events SET place = linked.place, previous_hash = linked.previous_hash, hash = linked.hash \
         FROM linked WHERE audit_events.id = linked.id",
    ))
    .await?;
    Ok(())
}

async fn write_checkpoint(
    tx: &Tx<'_>,
    organization: OrganizationId,
    place: i64,
    hash: &str,
) -> Result<(), Fault> {
    let key = signing::current_in(tx, Purpose::Audit).await?;
    let text =
        Checkpoint::signed_text(&organization.to_string(), place.unsigned_abs(), hash, &moment(tx.now()));
    tx.run(Sql::insert(
        "audit_checkpoints",
        [
            ("organization_id", organization.uuid().into()),
            ("place", place.into()),
            ("hash", hash.into()),
            ("created_at", tx.now().into()),
            ("key_id", key.id.as_str().into()),
            ("signature", key.sign(text.as_bytes()).into()),
        ],
    ))
    .await?;
    Ok(())
}
