//! Forgetting: what is kept for a while and then deleted. Knows how long each is kept; refuses to know when
//! the sweeper comes. Several may sweep at once.

use chrono::{DateTime, TimeDelta, Utc};
use guildhall_domain::{access::System, activity::NOBODYS_LAST};
use uuid::Uuid;

use crate::{
    activity,
    db::{Db, Tx},
    error::Fault,
    events::PRUNED_TO,
    mails::{fault, skip_locked},
    quotas, search,
    sql::{Single, Sql},
};

/// How long an event can be read again.
pub const EVENTS_LAST: TimeDelta = TimeDelta::days(7);
/// How long it is known what became of a mail.
pub const MAILS_LAST: TimeDelta = TimeDelta::days(30);
/// How long a session is known after its end: a stolen refresh token that comes back meanwhile is noticed.
pub const SESSIONS_LAST: TimeDelta = TimeDelta::days(30);

/// How long it is known what was sent to a webhook, and how long what waits for one that is paused.
pub const DELIVERIES_LAST: TimeDelta = TimeDelta::days(30);

/// How long it is known who used a credential.
pub const USES_LAST: TimeDelta = TimeDelta::days(365);

/// The most rows of one transaction, so that nobody waits long for a sweep.
const BATCH: usize = 500;

/// How many rows a sweep dealt with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Events.
    pub events: usize,
    /// Mails.
    pub mails: usize,
    /// Sessions.
    pub sessions: usize,
    /// Uses of credentials.
    pub uses: usize,
    /// Login activity.
    pub activity: usize,
    /// Links that reset a password or confirm an address, and sign-ins by an identity provider that nobody finished.
    pub links: usize,
    /// Counters of sign-ins that failed.
    pub tries: usize,
    /// Answers that were kept for an idempotency key.
    pub answers: usize,
    /// Deliveries to webhooks.
    pub deliveries: usize,
    /// What was used on a day.
    pub usage: usize,
    /// Names that searches did not know yet; these were not deleted but folded.
    pub names: usize,
}

/// Deletes everything that was kept long enough and folds the names that a version before left out, in small transactions.
pub async fn sweep(db: &Db) -> Result<Swept, Fault> {
    db.forget_idle_connections();
    let mut swept = Swept::default();
    loop {
        let batch = sweep_events(db).await?;
        swept.events += batch;
        if batch < BATCH {
            break;
        }
    }
    let mail_is_old = "status <> 'QUEUED' AND updated_at < $1";
    swept.mails = sweep_table(db, "mails", mail_is_old, db.now() - MAILS_LAST).await?;
    let session_is_old = "(ended_at < $1 OR expires_at < $1)";
    swept.sessions = sweep_table(db, "sessions", session_is_old, db.now() - SESSIONS_LAST).await?;
    swept.uses = sweep_table(db, "credential_uses", "created_at < $1", db.now() - USES_LAST).await?;
    for links in ["password_resets", "email_changes"] {
        let key = if links == "email_changes" { "user_id" } else { "id" };
        swept.links += sweep_keyed(db, links, key, "expires_at < $1", db.now()).await?;
    }
    swept.links += sweep_table(db, "sign_on_attempts", "expires_at < $1", db.now()).await?;
    swept.activity = sweep_activity(db).await?;
    swept.tries = sweep_table(db, "sign_in_tries", "expires_at < $1", db.now()).await?;
    swept.answers = sweep_table(db, "idempotency_keys", "expires_at < $1", db.now()).await?;
    let before = db.now() - DELIVERIES_LAST;
    swept.deliveries = sweep_table(db, "webhook_deliveries", "created_at < $1", before).await?;
    swept.usage = sweep_usage(db).await?;
    swept.names = search::fold_names(db, BATCH).await?;
    Ok(swept)
}

/// Notes for the charts how much there is today, and deletes what is too old for them.
#[expect(clippy::disallowed_methods, reason = "deletes what nobody asked to keep")]
async fn sweep_usage(db: &Db) -> Result<usize, Fault> {
    let proof = System::named("housekeeping");
    db.write(&proof, async |tx| Ok(quotas::note_levels(tx).await?)).await.map_err(fault)?;
    let mut swept = 0;
    // How much there is of something stays there since it changed last, and so is kept.
    loop {
        let sql = Sql::new(format!(
            "DELETE FROM usage_days WHERE (scope_id, metric, day) IN \
             (SELECT scope_id, metric, day FROM usage_days WHERE day < $1 AND metric NOT IN ('ITEMS', 'STORAGE_BYTES') \
              ORDER BY day LIMIT {BATCH})"
        ))
        .values([(db.now() - quotas::USAGE_LASTS).format("%Y-%m-%d").to_string().into()]);
        let batch = db.write(&proof, async |tx| Ok(tx.run(sql.clone()).await?)).await.map_err(fault)?;
        swept += usize::try_from(batch).unwrap_or(usize::MAX);
        if batch < BATCH as u64 {
            return Ok(swept);
        }
    }
}

/// Deletes login activity as each organization wants it, those of one wish together.
#[expect(clippy::disallowed_methods, reason = "deletes what nobody asked to keep")]
async fn sweep_activity(db: &Db) -> Result<usize, Fault> {
    let proof = System::named("housekeeping");
    let days = db.write(&proof, async |tx| Ok(activity::kept_days(tx).await?)).await.map_err(fault)?;
    let nobodys = "organization_id IS NULL AND created_at < $1";
    let mut swept = sweep_table(db, "login_activity", nobodys, db.now() - NOBODYS_LAST).await?;
    for days in days {
        let theirs = format!(
            "organization_id IN (SELECT id FROM organizations WHERE login_activity_days = {days}) AND created_at < $1"
        );
        swept += sweep_table(db, "login_activity", &theirs, db.now() - TimeDelta::days(days.into())).await?;
    }
    Ok(swept)
}

/// Deletes one batch of events, and notes how far the log is gone, so that a cursor from before that is
/// told from one that merely missed nothing.
#[expect(clippy::disallowed_methods, reason = "deletes what nobody asked to keep")]
async fn sweep_events(db: &Db) -> Result<usize, Fault> {
    let proof = System::named("housekeeping");
    let swept = db.write(&proof, async |tx| {
        let deleted = delete(tx, "events", "seq", "created_at < $1", tx.now() - EVENTS_LAST);
        let deleted: Vec<Single<i64>> = tx.all(deleted).await?;
        if let Some(last) = deleted.iter().map(|Single(seq)| *seq).max() {
            let sql = Sql::new("INSERT INTO instance (key, value, updated_at) VALUES (")
                .bind(PRUNED_TO)
                .push(", ")
                .bind(last.to_string())
                .push(", ")
                .bind(tx.now())
                .push(
                    ") ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at \
                     WHERE CAST(instance.value AS bigint) < CAST(excluded.value AS bigint)",
                );
            tx.run(sql).await?;
        }
        Ok(deleted.len())
    });
    swept.await.map_err(fault)
}

async fn sweep_table(db: &Db, table: &str, is_old: &str, before: DateTime<Utc>) -> Result<usize, Fault> {
    sweep_keyed(db, table, "id", is_old, before).await
}

#[expect(clippy::disallowed_methods, reason = "deletes what nobody asked to keep")]
async fn sweep_keyed(
    db: &Db,
    table: &str,
    key: &str,
    is_old: &str,
    before: DateTime<Utc>,
) -> Result<usize, Fault> {
    let proof = System::named("housekeeping");
    let mut swept = 0;
    loop {
        let batch = db.write(&proof, async |tx| {
            Ok(tx.all::<Single<Uuid>>(delete(tx, table, key, is_old, before)).await?.len())
        });
        let batch = batch.await.map_err(fault)?;
        swept += batch;
        if batch < BATCH {
            return Ok(swept);
        }
    }
}

/// Deletes a batch of the rows that are old by `is_old`, where `$1` is `before`, and answers their keys.
fn delete(tx: &Tx<'_>, table: &str, key: &str, is_old: &str, before: DateTime<Utc>) -> Sql {
    let skip_locked = skip_locked(tx.db());
    Sql::new(format!(
        "WITH old AS MATERIALIZED (SELECT {key} FROM {table} WHERE {is_old} ORDER BY {key} LIMIT {BATCH}{skip_locked}) \
         DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM old) RETURNING {key}"
    ))
    .values([before.into()])
}
