//! The event log: what happened, written down in the transaction in which it did, and told to those who
//! watch. Knows the order of the log and how it reaches every process; refuses to know who may see what.

mod append;
mod bus;
mod tail;

use guildhall_domain::{
    access::Proof,
    events::{EventKind, Recorded},
    ids::WorkspaceId,
};
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use uuid::Uuid;

pub(crate) use append::{access_of_holders, access_of_person, insert};
pub use bus::{Bus, Feed, Lagged, Topic};
pub use tail::tail;

use crate::{
    db::{Db, Tx},
    error::Fault,
    sql::{Single, Sql},
};

/// The key in the table `instance` under which the highest number stands that retention has deleted.
pub(crate) const PRUNED_TO: &str = "events.pruned_to";

/// The columns of a [`Row`].
const COLUMNS: &str = "seq, kind, workspace_id, user_id, email, subject_id, state, created_at";

/// What the log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromQueryResult)]
pub struct Extent {
    /// Events up to this number may be deleted; 0 while none is.
    pub pruned_to: i64,
    /// The number of the newest event; 0 before the first.
    pub newest: i64,
}

impl Extent {
    /// Whether the log still holds everything later than `after`, and `after` itself comes from this log: a
    /// number ahead of it is from before a backup was restored.
    pub fn reaches(&self, after: i64) -> bool {
        (self.pruned_to..=self.newest).contains(&after)
    }
}

/// What the log holds at present. To be asked after [`since`], so that what was deleted in between is noticed.
pub async fn extent(db: &Db, proof: &impl Proof) -> Result<Extent, Fault> {
    let sql = Sql::new(
        "SELECT pruned_to, CASE WHEN newest > pruned_to THEN newest ELSE pruned_to END AS newest FROM (",
    )
    .push("SELECT COALESCE((SELECT CAST(value AS bigint) FROM instance WHERE key = ")
    .bind(PRUNED_TO)
    .push("), 0) AS pruned_to, COALESCE((SELECT max(seq) FROM events), 0) AS newest) AS bounds");
    let extent = db.read(proof).one(sql).await?;
    extent.ok_or_else(|| Fault::Stored("the extent of the event log is one row".into()))
}

/// Where a topic stands: the number of its newest event, or what is pruned where it has none. Not the newest
/// of the whole log: an event of this topic may yet commit under a lower number than one of another.
pub async fn newest(db: &Db, proof: &impl Proof, topic: &Topic) -> Result<i64, Fault> {
    let extent = extent(db, proof).await?;
    let sql = of_topic(Sql::new("SELECT max(seq) FROM events WHERE "), topic);
    let newest: Option<Single<Option<i64>>> = db.read(proof).one(sql).await?;
    Ok(newest.and_then(|Single(seq)| seq).unwrap_or(0).max(extent.pruned_to))
}

fn of_topic(sql: Sql, topic: &Topic) -> Sql {
    match topic {
        Topic::Workspace(workspace) => sql.push("workspace_id = ").bind(workspace.uuid()),
        Topic::Email(email) => sql.push("email = ").bind(email.as_str()),
        Topic::User(user) => sql.push("user_id = ").bind(user.uuid()),
        // Nobody reads all of it again.
        Topic::Everything => sql.push("1 = 0"),
        Topic::Audit(organization) => sql.push("kind = 'AUDIT' AND subject_id = ").bind(organization.uuid()),
    }
}

/// The events of a topic later than `after`, in order, at most `limit` of them. For a subscriber that comes
/// back or was told [`Lagged`]: subscribe first, then read, then leave out of the feed what was read already.
pub async fn since(
    db: &Db,
    proof: &impl Proof,
    topic: &Topic,
    after: i64,
    limit: u32,
) -> Result<Vec<Recorded>, Fault> {
    let sql = of_topic(Sql::new(format!("SELECT {COLUMNS} FROM events WHERE ")), topic);
    let sql = sql.push(" AND seq > ").bind(after).push(" AND kind IN ");
    let sql = sql.bind_list(EventKind::ALL.iter().map(|kind| kind.word()));
    let rows: Vec<Row> = db.read(proof).all(sql.push(" ORDER BY seq").limit(i64::from(limit))).await?;
    Ok(rows.into_iter().filter_map(|row| row.event).collect())
}

/// The same in a transaction, of a workspace and whatever their kind: with its number each event, or none of a kind that
/// only a newer version knows. The events of a workspace commit in the order of their numbers, so whoever goes on from the
/// last of these misses none.
pub(crate) async fn of_workspace(
    tx: &Tx<'_>,
    workspace: WorkspaceId,
    after: i64,
    limit: u32,
) -> Result<Vec<(i64, Option<Recorded>)>, Fault> {
    let sql =
        of_topic(Sql::new(format!("SELECT {COLUMNS} FROM events WHERE ")), &Topic::Workspace(workspace));
    let sql = sql.push(" AND seq > ").bind(after).push(" ORDER BY seq").limit(i64::from(limit));
    let rows: Vec<Row> = tx.all(sql).await?;
    Ok(rows.into_iter().map(|row| (row.seq, row.event)).collect())
}

/// The number of the workspace's newest event; whoever asks has locked it.
pub(crate) async fn newest_of_workspace(tx: &Tx<'_>, workspace: WorkspaceId) -> Result<i64, Fault> {
    let sql = of_topic(Sql::new("SELECT max(seq) FROM events WHERE "), &Topic::Workspace(workspace));
    let newest: Option<Single<Option<i64>>> = tx.one(sql).await?;
    Ok(newest.and_then(|Single(seq)| seq).unwrap_or(0))
}

/// A row of the log.
#[derive(Debug)]
struct Row {
    seq: i64,
    /// `None`: of a kind that only a newer version of this service knows, which runs beside this one.
    event: Option<Recorded>,
}

impl FromQueryResult for Row {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        let seq = row.try_get(prefix, "seq")?;
        let Some(kind) = EventKind::from_word(&row.try_get::<String>(prefix, "kind")?) else {
            return Ok(Self { seq, event: None });
        };
        let event = Recorded {
            seq,
            kind,
            workspace: row.try_get::<Option<Uuid>>(prefix, "workspace_id")?.map(Into::into),
            user: row.try_get::<Option<Uuid>>(prefix, "user_id")?.map(Into::into),
            email: row.try_get(prefix, "email")?,
            subject: row.try_get(prefix, "subject_id")?,
            state: row.try_get(prefix, "state")?,
            at: row.try_get(prefix, "created_at")?,
        };
        Ok(Self { seq, event: Some(event) })
    }
}
