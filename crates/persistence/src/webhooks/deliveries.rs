//! What was or is to be sent to a webhook: listing it, sending it again, and trying a webhook out.

use std::hash::{Hash, Hasher};

use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::OwnSession,
    audit::Action,
    ids::{WebhookDeliveryId, WebhookId, WorkspaceId},
    page::{Page, PageArgs},
    refusal::Refusal,
    webhooks::{
        PING, ReplayWebhookDeliveryCode, SendTestWebhookCode, WebhookDeliveryState, WebhookEvent,
        judge_queueing, judge_sight, payload, ping,
    },
};
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use serde_json::json;
use uuid::Uuid;

use super::{Manage, entry, lock};
use crate::{
    access::{in_sight, numbers_of, pages_of, word},
    db::{Db, Tx},
    error::{Fault, OpError, ReadError},
    sql::{AT_ONCE, Number, Placed, Single, Sql},
};

/// One message to a webhook: the same at every try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its id, which the receiver sees as well.
    pub id: WebhookDeliveryId,
    /// The webhook.
    pub webhook: WebhookId,
    /// The `type` of the payload.
    pub kind: String,
    /// What is sent: JSON.
    pub payload: String,
    /// Where it stands.
    pub state: WebhookDeliveryState,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next, while it waits.
    pub due_at: Option<DateTime<Utc>>,
    /// When it was tried last.
    pub tried_at: Option<DateTime<Utc>>,
    /// When it was accepted.
    pub delivered_at: Option<DateTime<Utc>>,
    /// What was answered last.
    pub response_status: Option<u16>,
    /// How that answer's body began.
    pub response_body: Option<String>,
    /// Why there was no answer.
    pub fault: Option<String>,
    /// When it was queued.
    pub created_at: DateTime<Utc>,
}

/// The columns of a [`Delivery`], of the table alias `d`.
const COLUMNS: &str = "d.id, d.webhook_id, d.kind, d.payload, d.state, d.attempts, d.due_at, d.tried_at, d.delivered_at, \
     d.response_status, d.response_body, d.fault, d.created_at";
/// Deliveries (alias `d`) with their webhooks (alias `h`).
const TABLES: &str = "webhook_deliveries d JOIN webhooks h ON h.id = d.webhook_id";

impl FromQueryResult for Delivery {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        let state = word(&row.try_get::<String>(prefix, "state")?, WebhookDeliveryState::from_word)?;
        let due_at = row.try_get(prefix, "due_at")?;
        let status = row.try_get::<Option<i32>>(prefix, "response_status")?;
        Ok(Self {
            id: row.try_get::<Uuid>(prefix, "id")?.into(),
            webhook: row.try_get::<Uuid>(prefix, "webhook_id")?.into(),
            kind: row.try_get(prefix, "kind")?,
            payload: row.try_get(prefix, "payload")?,
            state,
            attempts: row.try_get::<i32>(prefix, "attempts")?.unsigned_abs(),
            due_at: Some(due_at).filter(|_| state == WebhookDeliveryState::Pending),
            tried_at: row.try_get(prefix, "tried_at")?,
            delivered_at: row.try_get(prefix, "delivered_at")?,
            response_status: status.and_then(|status| u16::try_from(status).ok()),
            response_body: row.try_get(prefix, "response_body")?,
            fault: row.try_get(prefix, "fault")?,
            created_at: row.try_get(prefix, "created_at")?,
        })
    }
}

/// The deliveries of a webhook. Two lists are equal that have the same answer.
#[derive(Clone)]
pub struct Deliveries {
    /// The right to see them.
    pub proof: Manage,
    /// The webhook.
    pub webhook: WebhookId,
    /// Only those in one of these states.
    pub states: Option<Vec<WebhookDeliveryState>>,
}

impl Deliveries {
    fn parts(&self) -> (WorkspaceId, WebhookId, &Option<Vec<WebhookDeliveryState>>) {
        (self.proof.access().workspace(), self.webhook, &self.states)
    }

    fn rows(&self, columns: &str) -> Sql {
        let sql = Sql::new(format!("SELECT {columns} FROM {TABLES} WHERE h.workspace_id = "))
            .bind(self.proof.access().workspace().uuid())
            .push(" AND d.webhook_id = ")
            .bind(self.webhook.uuid());
        match &self.states {
            Some(states) => sql.push(" AND d.state IN ").bind_list(states.iter().map(|state| state.word())),
            None => sql,
        }
    }
}

impl PartialEq for Deliveries {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Deliveries {}

impl Hash for Deliveries {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

/// A page of each of those lists, the newest delivery first.
pub async fn delivery_pages(
    db: &Db,
    wanted: &[(Deliveries, PageArgs<Uuid>)],
) -> Result<Vec<Page<Delivery>>, ReadError> {
    let mut pages = Vec::with_capacity(wanted.len());
    for wanted in wanted.chunks(AT_ONCE) {
        let Some((first, _)) = wanted.first() else { break };
        let each = Sql::each(wanted.iter().map(|(list, args)| {
            let mut sql = list.rows("d.id AS id");
            if let Some(after) = args.after {
                sql = sql.push(" AND d.id < ").bind(after);
            }
            if let Some(before) = args.before {
                sql = sql.push(" AND d.id > ").bind(before);
            }
            let order = if args.backward { "ASC" } else { "DESC" };
            sql.push(&format!(" ORDER BY d.id {order}")).limit(i64::from(args.size) + 1)
        }));
        let sql = Sql::new(format!("SELECT listed.place, {COLUMNS} FROM ("))
            .append(each)
            .push(") AS listed JOIN webhook_deliveries d ON d.id = listed.id ORDER BY d.id DESC");
        let rows: Vec<Placed<Delivery>> = db.read(&first.proof).all(sql).await?;
        pages.extend(pages_of(wanted.iter().map(|(_, args)| args), rows));
    }
    Ok(pages)
}

/// How many deliveries each of those lists has in all.
pub async fn delivery_numbers(db: &Db, wanted: &[Deliveries]) -> Result<Vec<u64>, ReadError> {
    let mut numbers = Vec::with_capacity(wanted.len());
    for wanted in wanted.chunks(AT_ONCE) {
        let Some(first) = wanted.first() else { break };
        let counts = Sql::each(wanted.iter().map(|list| list.rows("count(*) AS number")));
        numbers.extend(numbers_of(db.read(&first.proof).all::<Placed<Number>>(counts).await?));
    }
    Ok(numbers)
}

fn by_id(workspace: WorkspaceId, id: WebhookDeliveryId) -> Sql {
    Sql::new(format!("SELECT {COLUMNS} FROM {TABLES} WHERE h.workspace_id = "))
        .bind(workspace.uuid())
        .push(" AND d.id = ")
        .bind(id.uuid())
}

/// One of the deliveries of the workspace's webhooks.
pub async fn delivery(db: &Db, proof: &Manage, id: WebhookDeliveryId) -> Result<Option<Delivery>, ReadError> {
    Ok(db.read(proof).one(by_id(proof.access().workspace(), id)).await?)
}

/// The workspace that a delivery is of, if the actor knows of it: where to ask whether it may be seen.
pub async fn delivery_place(
    db: &Db,
    proof: &OwnSession,
    id: WebhookDeliveryId,
) -> Result<Option<WorkspaceId>, ReadError> {
    let sql = Sql::new(format!(
        "SELECT h.workspace_id FROM {TABLES} JOIN workspaces w ON w.id = h.workspace_id WHERE d.id = "
    ));
    let sql = in_sight(sql.bind(id.uuid()), proof.actor());
    Ok(db.read(proof).one::<Single<Uuid>>(sql).await?.map(|Single(id)| id.into()))
}

/// How many deliveries of the webhook wait.
pub(super) async fn waiting(tx: &Tx<'_>, webhook: WebhookId) -> Result<u64, Fault> {
    let sql =
        Sql::new("SELECT count(*) FROM webhook_deliveries d WHERE d.state = 'PENDING' AND d.webhook_id = ")
            .bind(webhook.uuid());
    let waiting = tx.one::<Single<i64>>(sql).await?;
    Ok(waiting.map_or(0, |Single(waiting)| u64::try_from(waiting).unwrap_or(0)))
}

/// The events of which something waits.
pub(super) async fn kinds(tx: &Tx<'_>, webhook: WebhookId) -> Result<Vec<WebhookEvent>, Fault> {
    let sql =
        Sql::new("SELECT DISTINCT kind FROM webhook_deliveries WHERE state = 'PENDING' AND webhook_id = ")
            .bind(webhook.uuid());
    let kinds = tx.all::<Single<String>>(sql).await?;
    // A ping is no event, and tells nothing.
    Ok(kinds.iter().filter_map(|Single(kind)| WebhookEvent::from_word(kind)).collect())
}

/// Queues what is to be told, each as its kind and payload, in that order. Whoever asks has locked the webhook, and wakes it.
pub(super) async fn queue(
    tx: &Tx<'_>,
    webhook: WebhookId,
    told: Vec<(&str, String)>,
) -> Result<Vec<Delivery>, Fault> {
    let mut sql = Sql::new(
        "INSERT INTO webhook_deliveries (id, webhook_id, kind, payload, state, due_at, created_at, updated_at) VALUES ",
    );
    let mut queued = Vec::with_capacity(told.len());
    for (kind, payload) in told {
        let delivery = Delivery {
            id: tx.fresh_id(),
            webhook,
            kind: kind.to_owned(),
            payload,
            state: WebhookDeliveryState::Pending,
            attempts: 0,
            due_at: Some(tx.now()),
            tried_at: None,
            delivered_at: None,
            response_status: None,
            response_body: None,
            fault: None,
            created_at: tx.now(),
        };
        sql = sql.push(if queued.is_empty() { "(" } else { ", (" }).bind(delivery.id.uuid());
        sql = sql.push(", ").bind(webhook.uuid()).push(", ").bind(kind);
        sql = sql.push(", ").bind(delivery.payload.as_str()).push(", ").bind(delivery.state.word());
        for _ in 0..3 {
            sql = sql.push(", ").bind(tx.now());
        }
        sql = sql.push(")");
        queued.push(delivery);
    }
    if !queued.is_empty() {
        tx.run(sql).await?;
    }
    Ok(queued)
}

/// Has the webhook looked after from now on. Whoever asks has locked it.
pub(super) fn wake(tx: &Tx<'_>) -> Sql {
    Sql::new("UPDATE webhooks SET due_at = CASE WHEN due_at < ")
        .bind(tx.now())
        .push(" THEN due_at ELSE ")
        .bind(tx.now())
        .push(" END")
}

/// Sends a delivery again, under its own id, whatever became of it: its tries begin anew. One that waits is tried at once.
pub async fn replay(
    db: &Db,
    proof: &Manage,
    id: WebhookDeliveryId,
) -> Result<Delivery, OpError<ReplayWebhookDeliveryCode>> {
    use ReplayWebhookDeliveryCode as Code;
    db.write(proof, async |tx| {
        let workspace = proof.access().workspace();
        let refusal =
            || Refusal::new(Code::NotFound, "This workspace has no such delivery.").at("deliveryId");
        let found = tx.one::<Delivery>(by_id(workspace, id)).await?.ok_or_else(refusal)?;
        let webhook = lock(tx, workspace, found.webhook, Code::NotFound).await?;
        // Once more: whoever was at it has written down by now what became of it.
        let mut delivery = tx.one::<Delivery>(by_id(workspace, id)).await?.ok_or_else(refusal)?;
        // Whoever has it sent could have seen it.
        if let Some(event) = WebhookEvent::from_word(&delivery.kind) {
            judge_sight(tx.access()?.permissions(), &[event], Code::PrivilegeEscalation)?;
        }
        let waits = delivery.state == WebhookDeliveryState::Pending;
        // One that waits already takes no further place.
        let waiting = if waits { 0 } else { waiting(tx, webhook.id).await? };
        judge_queueing(webhook.status, waiting, Code::WebhookNotActive, Code::LimitReached)?;
        let sql = Sql::new("UPDATE webhook_deliveries SET state = ")
            .bind(WebhookDeliveryState::Pending.word())
            .push(", due_at = ")
            .bind(tx.now())
            .push(", updated_at = ")
            .bind(tx.now())
            // A try that is under way counts no more either: `settle` looks here.
            .push(", tries = 0, delivered_at = NULL WHERE id = ")
            .bind(id.uuid());
        tx.run(sql).await?;
        tx.run(wake(tx).push(" WHERE id = ").bind(webhook.id.uuid())).await?;
        let was = delivery.state;
        delivery.state = WebhookDeliveryState::Pending;
        delivery.due_at = Some(tx.now());
        delivery.delivered_at = None;
        let told =
            |state: WebhookDeliveryState| json!({ "deliveryId": id.to_string(), "state": state.word() });
        let entry = entry(Action::ReplayWebhookDelivery, &webhook);
        tx.audit(&entry.before(told(was)).after(told(delivery.state)))?;
        Ok(delivery)
    })
    .await
}

/// Tries a webhook: queues a message that says nothing.
pub async fn send_test(
    db: &Db,
    proof: &Manage,
    id: WebhookId,
) -> Result<Delivery, OpError<SendTestWebhookCode>> {
    use SendTestWebhookCode as Code;
    db.write(proof, async |tx| {
        let workspace = proof.access().workspace();
        let webhook = lock(tx, workspace, id, Code::NotFound).await?;
        let waiting = waiting(tx, id).await?;
        judge_queueing(webhook.status, waiting, Code::WebhookNotActive, Code::LimitReached)?;
        let told = vec![(PING, payload(PING, tx.now(), ping(workspace, id)))];
        let mut queued = queue(tx, id, told).await?;
        tx.run(wake(tx).push(" WHERE id = ").bind(id.uuid())).await?;
        let delivery = queued.pop().ok_or_else(|| Fault::Stored("nothing was queued".to_owned()))?;
        tx.audit(
            &entry(Action::SendTestWebhook, &webhook).after(json!({ "deliveryId": delivery.id.to_string() })),
        )?;
        Ok(delivery)
    })
    .await
}
