//! From the event log to the receivers: what happened is gathered for the webhooks that take it, claimed, and what became of
//! it is written down. Knows what keeps that from losing anything or doing it twice at once; refuses to know how it is sent.
//!
//! Each webhook has its own place in the log of its workspace. The events of a workspace commit in the order of their
//! numbers, so what is behind that place is complete, whenever it is read: a process that dies gathers nothing, and the next
//! one goes on from there. Of one webhook one delivery is on its way at a time, the oldest of those that are due: so a slow receiver
//! holds up itself alone. Whoever is at one has a lease of the webhook.

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, TimeDelta, Utc};
use guildhall_domain::{
    access::System,
    audit::{Action, Entry, ObjectKind},
    ids::{AuditEventId, OrganizationId, WebhookDeliveryId, WebhookId, WorkspaceId},
    webhooks::{
        AuditNews, MAX_WAITING, Verdict, WebhookDeliveryState, WebhookDisabledReason, WebhookEvent,
        WebhookStatus, data_of, judge_try, judge_webhook, payload,
    },
    workspaces::WorkspaceStatus,
};
use sea_orm::FromQueryResult;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{
    deliveries::{queue, waiting, wake},
    locked, read_events,
};
use crate::{
    db::{Db, Tx},
    error::Fault,
    events,
    keys::{mac, random, tag},
    mails::{fault, skip_locked},
    sql::{Single, Sql},
    vault::{self, DataKey},
};

/// How long whoever claimed a delivery has the webhook to itself. One that dies without a word gives it up by this.
pub const LEASE: TimeDelta = TimeDelta::minutes(1);
/// The most events that are gathered in one transaction.
const BATCH: u32 = 50;

/// The workspaces that have an active webhook, each with its organization. What happens elsewhere need not be gathered;
/// where one comes to be, the log says so by an [`Event::Webhook`](guildhall_domain::events::Event).
#[expect(clippy::disallowed_methods, reason = "events are gathered for all")]
pub async fn watched(db: &Db) -> Result<Vec<(WorkspaceId, OrganizationId)>, Fault> {
    #[derive(FromQueryResult)]
    struct Row {
        workspace_id: Uuid,
        organization_id: Uuid,
    }
    let sql = "SELECT DISTINCT h.workspace_id, w.organization_id FROM webhooks h JOIN workspaces w ON w.id = h.workspace_id \
               WHERE h.status = 'ACTIVE'";
    let rows: Vec<Row> = db.read(&System::named("webhooks")).all(Sql::new(sql)).await?;
    Ok(rows.into_iter().map(|row| (row.workspace_id.into(), row.organization_id.into())).collect())
}

/// Where something may have happened.
#[derive(Clone, Copy, Debug)]
pub enum News<'a> {
    /// Anywhere.
    Everything,
    /// In these workspaces, and in the audit logs of these organizations.
    Of(&'a [WorkspaceId], &'a [OrganizationId]),
}

/// Queues for each webhook what it takes of what happened since it was last gathered for. Tells how many deliveries that
/// were. Several may gather at once: they take turns for each webhook.
#[expect(
    clippy::disallowed_methods,
    reason = "events are gathered for all; what a webhook may be told stands in its row"
)]
pub async fn gather(db: &Db, news: News<'_>) -> Result<u64, Fault> {
    let sql = Sql::new(
        "SELECT h.id FROM webhooks h JOIN workspaces w ON w.id = h.workspace_id WHERE h.status = 'ACTIVE' AND (EXISTS ( \
         SELECT 1 FROM events e WHERE e.workspace_id = h.workspace_id AND e.seq > h.event_cursor) OR EXISTS ( \
         SELECT 1 FROM audit_events a WHERE a.workspace_id = h.workspace_id AND a.place > h.audit_cursor))",
    );
    let sql = match news {
        News::Everything => sql,
        News::Of(workspaces, organizations) => sql
            .push(" AND (w.id IN ")
            .bind_list(workspaces.iter().map(|id| id.uuid()))
            .push(" OR w.organization_id IN ")
            .bind_list(organizations.iter().map(|id| id.uuid()))
            .push(")"),
    };
    let proof = System::named("webhooks");
    let found: Vec<Single<Uuid>> = db.read(&proof).all(sql.push(" ORDER BY h.id")).await?;
    let mut queued = 0;
    for Single(webhook) in found {
        loop {
            let batch = db.write(&proof, async |tx| Ok(gather_for(tx, webhook.into()).await?)).await;
            let batch = batch.map_err(fault)?;
            queued += batch.queued;
            if !batch.is_full {
                break;
            }
        }
    }
    Ok(queued)
}

#[derive(Default)]
struct Batch {
    queued: u64,
    /// Whether there may be more.
    is_full: bool,
}

#[derive(FromQueryResult)]
struct Place {
    workspace_id: Uuid,
    events: String,
    status: String,
    event_cursor: i64,
    audit_cursor: Option<i64>,
    workspace_status: String,
    archived_at: Option<DateTime<Utc>>,
}

#[derive(FromQueryResult)]
struct AuditRow {
    id: Uuid,
    created_at: DateTime<Utc>,
    action: String,
    actor_kind: String,
    actor_id: Option<String>,
    object_kind: String,
    object_id: String,
    chain_place: i64,
}

async fn gather_for(tx: &Tx<'_>, webhook: WebhookId) -> Result<Batch, Fault> {
    let sql = Sql::new(
        "SELECT h.workspace_id, h.events, h.status, h.event_cursor, h.audit_cursor, w.status AS workspace_status, \
         w.archived_at FROM webhooks h JOIN workspaces w ON w.id = h.workspace_id WHERE h.id = ",
    );
    // Locked first and the log read second, so that it is read to where the last one stopped.
    let Some(place): Option<Place> = tx.one(sql.bind(webhook.uuid()).push(locked(tx.db()))).await? else {
        return Ok(Batch::default());
    };
    // What finds no room stays in the log.
    if place.status != WebhookStatus::Active.word() || waiting(tx, webhook).await? >= MAX_WAITING {
        return Ok(Batch::default());
    }
    let workspace: WorkspaceId = place.workspace_id.into();
    let takes = read_events(&place.events)?;
    // An archived workspace is silent: that it was archived is the last that is told of it.
    let archived_at =
        place.archived_at.filter(|_| place.workspace_status == WorkspaceStatus::Archived.word());
    let is_told = |what: WebhookEvent, at: DateTime<Utc>| {
        takes.contains(&what) && archived_at.is_none_or(|archived| at <= archived)
    };

    let new = events::of_workspace(tx, workspace, place.event_cursor, BATCH).await?;
    let mut is_full = new.len() == BATCH as usize;
    let event_cursor = new.last().map_or(place.event_cursor, |(seq, _)| *seq);
    let mut told = Vec::new();
    for event in new.iter().filter_map(|(_, event)| event.as_ref()) {
        if let Some((what, data)) = data_of(event).filter(|(what, _)| is_told(*what, event.at)) {
            told.push((what.word(), payload(what.word(), event.at, data)));
        }
    }
    let mut audit_cursor = place.audit_cursor;
    if let Some(cursor) = &mut audit_cursor {
        let sql = Sql::new(
            "SELECT a.id, a.created_at, a.action, a.actor_kind, a.actor_id, a.object_kind, a.object_id, \
             a.place AS chain_place FROM audit_events a WHERE a.workspace_id = ",
        )
        .bind(place.workspace_id)
        .push(" AND a.place > ")
        .bind(*cursor)
        .push(" ORDER BY a.place")
        .limit(i64::from(BATCH));
        let rows: Vec<AuditRow> = tx.all(sql).await?;
        is_full |= rows.len() == BATCH as usize;
        for row in rows {
            *cursor = row.chain_place;
            let what = WebhookEvent::AuditLogChanged;
            if is_told(what, row.created_at) {
                let news = AuditNews {
                    id: AuditEventId::from(row.id),
                    workspace,
                    action: row.action,
                    actor_kind: row.actor_kind,
                    actor_id: row.actor_id,
                    object_kind: row.object_kind,
                    object_id: row.object_id,
                    place: row.chain_place,
                };
                told.push((what.word(), payload(what.word(), row.created_at, news.data())));
            }
        }
    }
    let queued = queue(tx, webhook, told).await?.len();
    let sql = match queued {
        0 => Sql::new("UPDATE webhooks SET event_cursor = "),
        _ => wake(tx).push(", event_cursor = "),
    };
    let sql = sql.bind(event_cursor).push(", audit_cursor = ").bind(audit_cursor).push(" WHERE id = ");
    tx.run(sql.bind(webhook.uuid())).await?;
    Ok(Batch { queued: queued as u64, is_full })
}

/// The right to send one delivery, until the lease ends.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// The delivery, the same at every try.
    pub delivery: WebhookDeliveryId,
    /// The webhook.
    pub webhook: WebhookId,
    /// Which try this is in all, from 1.
    pub attempt: u32,
    /// The [`digest`] of where to: the webhook may lead elsewhere when the answer comes.
    destination: [u8; 32],
}

/// Tells one address from another. A claim is copied about, and in an address there may be a secret.
fn digest(url: &str) -> [u8; 32] {
    Sha256::digest(url.as_bytes()).into()
}

/// A message to send. It is to be answered by [`settle`].
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The right to send it.
    pub claim: Claim,
    /// Where to.
    pub url: String,
    /// `webhook-timestamp`: when this try was made, in seconds since 1970.
    pub timestamp: i64,
    /// `webhook-signature`.
    pub signature: String,
    /// The body.
    pub body: String,
}

#[derive(FromQueryResult)]
struct Due {
    id: Uuid,
    workspace_id: Uuid,
    url: String,
    sealed_secret: Vec<u8>,
    sealed_previous: Option<Vec<u8>>,
    previous_until: Option<DateTime<Utc>>,
}

#[derive(FromQueryResult)]
struct DueDelivery {
    id: Uuid,
    webhook_id: Uuid,
    payload: String,
    attempts: i32,
}

/// Takes deliveries that are due, at most one of each webhook and `limit` in all: nobody else has them until the lease ends.
#[expect(clippy::disallowed_methods, reason = "deliveries are sent for all")]
///
/// Those whose receiver answers come first. With `only_good` those that fail are left out: the caller keeps room, so that
/// many who never answer do not hold up everybody else.
pub async fn claim(db: &Db, limit: usize, only_good: bool) -> Result<Vec<Outgoing>, Fault> {
    let proof = System::named("webhooks");
    let due = |columns: &str, now: DateTime<Utc>| {
        Sql::new(format!(
            "SELECT {columns} FROM webhooks WHERE status = 'ACTIVE' AND due_at IS NOT NULL AND due_at <= "
        ))
        .bind(now)
        .push(" AND (leased_until IS NULL OR leased_until <= ")
        .bind(now)
        .push(if only_good { ") AND failing_since IS NULL" } else { ")" })
    };
    // Asked outside a transaction, since mostly there is none.
    if db.read(&proof).one::<Single<i32>>(due("1", db.now()).push(" LIMIT 1")).await?.is_none() {
        return Ok(Vec::new());
    }
    let claimed = db.write(&proof, async |tx| {
        let sql = Sql::new("WITH due AS MATERIALIZED (")
            .append(due("id", tx.now()))
            .push(" ORDER BY (failing_since IS NOT NULL), due_at LIMIT ");
        let sql = sql.bind(i64::try_from(limit).unwrap_or(i64::MAX)).push(skip_locked(db));
        let sql = sql.push(") UPDATE webhooks SET leased_until = ").bind(tx.now() + LEASE).push(
            " WHERE id IN (SELECT id FROM due) \
             RETURNING id, workspace_id, url, sealed_secret, sealed_previous, previous_until",
        );
        let webhooks: Vec<Due> = tx.all(sql).await?;
        if webhooks.is_empty() {
            return Ok(Vec::new());
        }
        let sql =
            Sql::new("UPDATE webhook_deliveries SET attempts = attempts + 1, tries = tries + 1, tried_at = ")
                .bind(tx.now())
                .push(", updated_at = ")
                .bind(tx.now())
                .push(
                    " WHERE id IN (SELECT (SELECT d.id FROM webhook_deliveries d WHERE d.webhook_id = h.id \
                 AND d.state = 'PENDING' AND d.due_at <= ",
                )
                .bind(tx.now())
                .push(" ORDER BY d.id LIMIT 1) FROM webhooks h WHERE h.id IN ")
                .bind_list(webhooks.iter().map(|webhook| webhook.id))
                .push(") RETURNING id, webhook_id, payload, attempts");
        let deliveries: Vec<DueDelivery> = tx.all(sql).await?;
        let mut deliveries: HashMap<Uuid, DueDelivery> =
            deliveries.into_iter().map(|delivery| (delivery.webhook_id, delivery)).collect();
        let workspaces: Vec<WorkspaceId> =
            webhooks.iter().map(|webhook| webhook.workspace_id.into()).collect();
        let keys = vault::existing_data_keys(tx, db.keys(), &workspaces).await?;
        let mut claimed = Vec::with_capacity(webhooks.len());
        let mut unsigned = Vec::new();
        for webhook in webhooks {
            let Some(delivery) = deliveries.remove(&webhook.id) else {
                // What was due was deleted since, being old.
                reschedule(tx, webhook.id.into()).await?;
                continue;
            };
            let id = delivery.id;
            match sign(tx, keys.get(&webhook.workspace_id.into()), webhook, delivery) {
                Ok(outgoing) => claimed.push(outgoing),
                // It is claimed again when the lease ends.
                Err(error) => {
                    tracing::error!(%error, "a message to a webhook cannot be signed");
                    unsigned.push(id);
                }
            }
        }
        if !unsigned.is_empty() {
            // Nobody was asked, so it was no try: a process that lacks a key uses up no receiver's tries.
            let sql = "UPDATE webhook_deliveries SET attempts = attempts - 1, tries = tries - 1 WHERE id IN ";
            tx.run(Sql::new(sql).bind_list(unsigned)).await?;
        }
        Ok(claimed)
    });
    claimed.await.map_err(fault)
}

/// The message with its signature, for which the secret was unsealed: by it and, for a while, by the one before.
fn sign(
    tx: &Tx<'_>,
    key: Option<&Result<DataKey, Fault>>,
    webhook: Due,
    delivery: DueDelivery,
) -> Result<Outgoing, Fault> {
    let id: WebhookId = webhook.id.into();
    let key = match key {
        Some(Ok(key)) => key,
        Some(Err(error)) => return Err(Fault::Stored(error.to_string())),
        None => return Err(Fault::Stored(format!("the workspace of {id} has no key"))),
    };
    let claim = Claim {
        delivery: delivery.id.into(),
        webhook: id,
        attempt: delivery.attempts.unsigned_abs(),
        destination: digest(&webhook.url),
    };
    let timestamp = tx.now().timestamp();
    let signed = format!("{}.{timestamp}.{}", claim.delivery, delivery.payload);
    let previous =
        webhook.sealed_previous.filter(|_| webhook.previous_until.is_some_and(|until| until > tx.now()));
    let mut signatures = Vec::with_capacity(2);
    for sealed in [Some(webhook.sealed_secret), previous].into_iter().flatten() {
        let secret = key.open_webhook(id, &sealed)?;
        signatures.push(format!("v1,{}", STANDARD.encode(tag(&mac(&secret), &[signed.as_bytes()]))));
    }
    Ok(Outgoing {
        claim,
        url: webhook.url,
        timestamp,
        signature: signatures.join(" "),
        body: delivery.payload,
    })
}

/// Writes down when the webhook is to be looked after next, and that nobody is at it. Whoever asks has locked it before, in
/// another statement.
async fn reschedule(tx: &Tx<'_>, webhook: WebhookId) -> Result<(), Fault> {
    let sql = Sql::new(
        "UPDATE webhooks SET leased_until = NULL, due_at = (SELECT min(d.due_at) FROM webhook_deliveries d \
         WHERE d.webhook_id = webhooks.id AND d.state = 'PENDING') WHERE id = ",
    );
    tx.run(sql.bind(webhook.uuid())).await?;
    Ok(())
}

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The status that was answered, if anything was.
    pub status: Option<u16>,
    /// How the answer's body began.
    pub body: Option<String>,
    /// Why there is no answer, in words fit for whoever manages the webhook.
    pub fault: Option<&'static str>,
}

#[derive(FromQueryResult)]
struct Tried {
    name: String,
    url: String,
    status: String,
    failing_since: Option<DateTime<Utc>>,
    workspace_id: Uuid,
    organization_id: Uuid,
}

/// Writes down what came of a try, and stops the webhook if that was the last straw. Once is as good as several times.
#[expect(clippy::disallowed_methods, reason = "deliveries are sent for all")]
pub async fn settle(db: &Db, claim: &Claim, outcome: &Outcome) -> Result<(), Fault> {
    let proof = System::named("webhooks");
    let settled = db.write(&proof, async |tx| {
        let sql = Sql::new(
            "SELECT h.name, h.url, h.status, h.failing_since, h.workspace_id, w.organization_id FROM webhooks h \
             JOIN workspaces w ON w.id = h.workspace_id WHERE h.id = ",
        );
        let sql = sql.bind(claim.webhook.uuid()).push(locked(db));
        let Some(webhook): Option<Tried> = tx.one(sql).await? else { return Ok(()) };
        // Asked once the webhook is locked: a replay meanwhile has set it to none, and the next try is due at once. The try of
        // whoever claimed it after the lease is not undone by the news of this one.
        let sql = Sql::new("SELECT tries FROM webhook_deliveries WHERE state = 'PENDING' AND id = ")
            .bind(claim.delivery.uuid())
            .push(" AND attempts = ")
            .bind(i64::from(claim.attempt));
        let Some(Single(counted)) = tx.one::<Single<i32>>(sql).await? else { return Ok(()) };
        let tries = counted.unsigned_abs();
        let verdict = judge_try(outcome.status, tries);
        let delivered = verdict == Verdict::Delivered;
        // Of where the webhook leads by now such an answer says nothing: it is tried there, as if it had not been before.
        let has_moved = !delivered && claim.destination != digest(&webhook.url);
        let (state, due_at) = match verdict {
            Verdict::Delivered => (WebhookDeliveryState::Delivered, None),
            _ if has_moved => (WebhookDeliveryState::Pending, Some(tx.now())),
            Verdict::Later(wait) => (WebhookDeliveryState::Pending, Some(tx.now() + scattered(wait))),
            Verdict::GivenUp => (WebhookDeliveryState::Failed, None),
        };
        let mut sql = Sql::new("UPDATE webhook_deliveries SET state = ")
            .bind(state.word())
            .push(", response_status = ")
            .bind(outcome.status.map(i32::from))
            .push(", response_body = ")
            .bind(outcome.body.clone())
            .push(", fault = ")
            .bind(outcome.fault.map(str::to_owned))
            .push(", delivered_at = ")
            .bind(delivered.then(|| tx.now()))
            .push(", updated_at = ")
            .bind(tx.now());
        if let Some(due_at) = due_at {
            sql = sql.push(", due_at = ").bind(due_at);
        }
        if has_moved {
            sql = sql.push(", tries = ").bind((counted - 1).max(0));
        }
        tx.run(sql.push(" WHERE id = ").bind(claim.delivery.uuid())).await?;
        reschedule(tx, claim.webhook).await?;
        if has_moved {
            return Ok(());
        }
        let failing_since = (!delivered).then(|| webhook.failing_since.unwrap_or(tx.now()));
        if failing_since != webhook.failing_since {
            let sql =
                Sql::new("UPDATE webhooks SET failing_since = ").bind(failing_since).push(" WHERE id = ");
            tx.run(sql.bind(claim.webhook.uuid())).await?;
        }
        let reason = failing_since.and_then(|since| judge_webhook(outcome.status, since, tx.now()));
        // One try that failed after days of nothing to tell is no five days of failures.
        let is_serious = tries >= SERIOUS_TRIES || state == WebhookDeliveryState::Failed;
        let reason = reason.filter(|reason| is_serious || *reason == WebhookDisabledReason::Gone);
        if let Some(reason) = reason.filter(|_| webhook.status == WebhookStatus::Active.word()) {
            disable(tx, claim.webhook, &webhook, reason).await?;
        }
        Ok(())
    });
    settled.await.map_err(fault)
}

/// After that many tries of one delivery, which take some minutes, its failing is no hiccup.
const SERIOUS_TRIES: u32 = 3;

async fn disable(
    tx: &Tx<'_>,
    id: WebhookId,
    webhook: &Tried,
    reason: WebhookDisabledReason,
) -> Result<(), Fault> {
    let sql = Sql::new("UPDATE webhooks SET status = ")
        .bind(WebhookStatus::Disabled.word())
        .push(", disabled_reason = ")
        .bind(reason.word())
        .push(", disabled_at = ")
        .bind(tx.now())
        .push(" WHERE id = ");
    tx.run(sql.bind(id.uuid())).await?;
    tracing::info!(webhook = %id, reason = reason.word(), "a webhook was disabled");
    tx.audit(
        &Entry::of(Action::DisableWebhook, ObjectKind::Webhook, id, webhook.name.as_str())
            .in_organization(webhook.organization_id.into())
            .in_workspace(Some(webhook.workspace_id.into()))
            .changed(
                json!({ "status": WebhookStatus::Active.word() }),
                json!({ "status": WebhookStatus::Disabled.word(), "reason": reason.word() }),
            ),
    )
}

/// Give or take a fifth: what failed together does not come back together.
fn scattered(wait: TimeDelta) -> TimeDelta {
    let chance = i32::from(random::<1>().map_or(128, |[byte]| byte));
    wait * (5 * 255 + 2 * chance - 255) / (5 * 255)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_scattered_by_a_fifth() {
        let day = TimeDelta::hours(24);
        for _ in 0..100 {
            let wait = scattered(day);
            assert!(wait >= day * 4 / 5 && wait <= day * 6 / 5, "{wait}");
        }
    }
}
