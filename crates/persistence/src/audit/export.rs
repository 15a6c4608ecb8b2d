//! The audit log as a file that can be verified without this service. Knows which rows belong into it; what they look like
//! there is the domain's business.

use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::System,
    audit::{
        Checkpoint, FIRST, Record,
        file::{Header, Key, VERSION},
    },
    ids::OrganizationId,
};
use sea_orm::FromQueryResult;
use uuid::Uuid;

use super::{
    chain::sign_all,
    read::{AuditEvent, COLUMNS, moment},
};
use crate::{
    db::Db,
    error::Fault,
    signing::{self, Purpose},
    sql::{Single, Sql},
};

/// How many records are read at once.
const BATCH: i64 = 1000;

/// A log that is being exported: its header, and then its records, batch by batch.
pub struct Export<'a> {
    db: &'a Db,
    proof: &'a System,
    organization: OrganizationId,
    /// The first line.
    pub header: Header,
    /// The place of the last record that was given.
    place: u64,
}

#[derive(FromQueryResult)]
struct Named {
    id: Uuid,
    slug: String,
    name: String,
}

#[derive(FromQueryResult)]
struct CheckpointRow {
    place: i64,
    hash: String,
    created_at: DateTime<Utc>,
    key_id: String,
    signature: Vec<u8>,
}

/// Begins to export the log of the organization of that slug, of the entries from `from` on and before `to`; `None` where there
/// is no such organization. What is in the log now is chained and signed first.
pub async fn export<'a>(
    db: &'a Db,
    proof: &'a System,
    slug: &str,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
) -> Result<Option<Export<'a>>, Fault> {
    let sql = Sql::new("SELECT id, slug, name FROM organizations WHERE slug = ").bind(slug);
    let Some(Named { id, slug, name }) = db.read(proof).one(sql).await? else { return Ok(None) };
    let organization = OrganizationId::from(id);
    sign_all(db, proof, organization).await?;
    let (first, last) = places(db, proof, organization, from, to).await?;
    let previous = hash_at(db, proof, organization, first - 1).await?;
    let last_hash = hash_at(db, proof, organization, last).await?;
    let keys = signing::published(db, proof, Purpose::Audit).await?;
    let key = signing::current(db, proof, Purpose::Audit).await?;
    let mut header = Header {
        guildhall_audit: VERSION,
        organization: organization.to_string(),
        slug,
        name,
        exported_at: moment(db.now()),
        first,
        previous_hash: previous.unwrap_or_else(|| FIRST.to_owned()),
        last,
        last_hash: last_hash.unwrap_or_else(|| FIRST.to_owned()),
        keys: keys.into_iter().map(|key| Key { id: key.id, public_key: hex::encode(key.key) }).collect(),
        checkpoints: checkpoints(db, proof, organization, first, last, to.is_none()).await?,
        key: key.id.clone(),
        signature: String::new(),
    };
    if header.keys.iter().all(|known| known.id != key.id) {
        // The instance's first key: it was made after those that there are were read.
        header.keys.push(Key { id: key.id.clone(), public_key: hex::encode(key.public_key()) });
    }
    header.signature = hex::encode(key.sign(header.signed_text().as_bytes()));
    Ok(Some(Export { db, proof, organization, place: first - 1, header }))
}

/// The first and the last place of the entries from `from` on and before `to`. Entries are chained about in the order of their
/// times: whatever is chained between two of them belongs to them.
async fn places(
    db: &Db,
    proof: &System,
    organization: OrganizationId,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
) -> Result<(u64, u64), Fault> {
    let head = Sql::new("SELECT place FROM audit_chains WHERE organization_id = ");
    let head: Option<Single<i64>> = db.read(proof).one(head.bind(organization.uuid())).await?;
    let end = head.map_or(0, |Single(place)| place.unsigned_abs());
    let edge = async |which: &str, condition: &str, at: DateTime<Utc>| {
        let sql = Sql::new(format!("SELECT {which}(place) FROM audit_events WHERE organization_id = "))
            .bind(organization.uuid())
            .push(&format!(" AND place IS NOT NULL AND created_at {condition} "))
            .bind(at);
        let place: Option<Single<Option<i64>>> = db.read(proof).one(sql).await?;
        Ok::<_, Fault>(place.and_then(|Single(place)| place).map(i64::unsigned_abs))
    };
    let first = match from {
        None => 1,
        Some(from) => edge("min", ">=", from).await?.unwrap_or(end + 1),
    };
    let last = match to {
        // To the end of the chain, which is where its own row says, whatever became of the entries.
        None => end,
        Some(to) => edge("max", "<", to).await?.unwrap_or(0),
    };
    Ok((first, last.max(first - 1)))
}

async fn hash_at(
    db: &Db,
    proof: &System,
    organization: OrganizationId,
    place: u64,
) -> Result<Option<String>, Fault> {
    let place = i64::try_from(place).unwrap_or(i64::MAX);
    // The chain's own row knows its end; of other places the entries do.
    let sql = Sql::new("SELECT hash FROM audit_chains WHERE organization_id = ")
        .bind(organization.uuid())
        .push(" AND place = ")
        .bind(place)
        .push(" UNION ALL SELECT hash FROM audit_events WHERE organization_id = ")
        .bind(organization.uuid())
        .push(" AND place = ")
        .bind(place)
        .push(" AND hash IS NOT NULL LIMIT 1");
    Ok(db.read(proof).one::<Single<String>>(sql).await?.map(|Single(hash)| hash))
}

async fn checkpoints(
    db: &Db,
    proof: &System,
    organization: OrganizationId,
    first: u64,
    last: u64,
    to_the_end: bool,
) -> Result<Vec<Checkpoint>, Fault> {
    let bound = |place: u64| i64::try_from(place).unwrap_or(i64::MAX);
    // One beyond the end tells that the end was cut off.
    let last = if to_the_end { i64::MAX } else { bound(last) };
    let sql = Sql::new(
        "SELECT place, hash, created_at, key_id, signature FROM audit_checkpoints WHERE organization_id = ",
    )
    .bind(organization.uuid())
    .push(" AND place >= ")
    .bind(bound(first))
    .push(" AND place <= ")
    .bind(last)
    .push(" ORDER BY place");
    let rows: Vec<CheckpointRow> = db.read(proof).all(sql).await?;
    let checkpoints = rows.into_iter().map(|row| Checkpoint {
        place: row.place.unsigned_abs(),
        hash: row.hash,
        at: moment(row.created_at),
        key: row.key_id,
        signature: hex::encode(row.signature),
    });
    Ok(checkpoints.collect())
}

impl Export<'_> {
    /// The next records, exactly as they are stored; none after the last.
    pub async fn next(&mut self) -> Result<Vec<Record>, Fault> {
        let bound = |place: u64| i64::try_from(place).unwrap_or(i64::MAX);
        let sql = Sql::new(format!("SELECT {COLUMNS} FROM audit_events x WHERE x.organization_id = "))
            .bind(self.organization.uuid())
            .push(" AND x.place > ")
            .bind(bound(self.place))
            .push(" AND x.place <= ")
            .bind(bound(self.header.last))
            .push(" ORDER BY x.place")
            .limit(BATCH);
        let rows: Vec<AuditEvent> = self.db.read(self.proof).all(sql).await?;
        let records: Vec<Record> = rows.into_iter().map(AuditEvent::record).collect();
        self.place = records.last().map_or(self.place, |record| record.place);
        Ok(records)
    }
}
