//! Webhooks: where a workspace's events are told. Listing, making, changing, deleting; what is sent there stands in
//! `deliveries`, and how it comes to be sent in `queue`.

mod deliveries;
mod queue;

pub use deliveries::{
    Deliveries, Delivery, delivery, delivery_numbers, delivery_pages, delivery_place, replay, send_test,
};
pub use queue::{Claim, LEASE, News, Outcome, Outgoing, claim, gather, settle, watched};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, SecondsFormat, Utc};
use guildhall_domain::{
    access::{Granted, OwnSession, perm},
    audit::{Action, Entry, ObjectKind},
    events::Event,
    ids::{OrganizationId, UserId, WebhookId, WorkspaceId},
    page::{Page, PageArgs},
    refusal::Refusal,
    text::DisplayName,
    webhooks::{
        CreateWebhookCode, DeleteWebhookCode, OVERLAP, RotateWebhookSecretCode, UpdateWebhookCode,
        WebhookDisabledReason, WebhookEvent, WebhookStatus, WebhookUrl, judge_end, judge_room, judge_sight,
    },
};
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use secrecy::SecretString;
use serde_json::{Value, json};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    access::{in_sight, numbers_of, page_by, pages_of, word},
    api_keys,
    db::{Db, Engine, Tx},
    error::{Fault, OpError, ReadError},
    events,
    keys::random,
    sql::{AT_ONCE, Number, Placed, Single, Sql},
    vault::{self, DataKey},
};

/// A webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Its id.
    pub id: WebhookId,
    /// The workspace whose events it takes.
    pub workspace: WorkspaceId,
    /// The name people read.
    pub name: String,
    /// Where it is told.
    pub url: String,
    /// What it is told; an event that this version does not know is left out.
    pub events: Vec<WebhookEvent>,
    /// Whether it is told anything.
    pub status: WebhookStatus,
    /// Why the service stopped it.
    pub disabled_reason: Option<WebhookDisabledReason>,
    /// When it did.
    pub disabled_at: Option<DateTime<Utc>>,
    /// When its secret was made.
    pub secret_made_at: DateTime<Utc>,
    /// Until when the secret before that one signs as well.
    pub previous_until: Option<DateTime<Utc>>,
    /// Since when nothing was accepted that was sent.
    pub failing_since: Option<DateTime<Utc>>,
    /// Who made it.
    pub created_by: Option<UserId>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When its name, address, events or status changed last.
    pub updated_at: DateTime<Utc>,
}

const COLUMNS: &str = "h.id, h.workspace_id, h.name, h.url, h.events, h.status, h.disabled_reason, h.disabled_at, \
     h.secret_made_at, h.previous_until, h.failing_since, h.created_by, h.created_at, h.updated_at";

impl FromQueryResult for Webhook {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        let reason = row.try_get::<Option<String>>(prefix, "disabled_reason")?;
        Ok(Self {
            id: row.try_get::<Uuid>(prefix, "id")?.into(),
            workspace: row.try_get::<Uuid>(prefix, "workspace_id")?.into(),
            name: row.try_get(prefix, "name")?,
            url: row.try_get(prefix, "url")?,
            events: read_events(&row.try_get::<String>(prefix, "events")?)?,
            status: word(&row.try_get::<String>(prefix, "status")?, WebhookStatus::from_word)?,
            disabled_reason: reason.as_deref().and_then(WebhookDisabledReason::from_word),
            disabled_at: row.try_get(prefix, "disabled_at")?,
            secret_made_at: row.try_get(prefix, "secret_made_at")?,
            previous_until: row.try_get(prefix, "previous_until")?,
            failing_since: row.try_get(prefix, "failing_since")?,
            created_by: row.try_get::<Option<Uuid>>(prefix, "created_by")?.map(Into::into),
            created_at: row.try_get(prefix, "created_at")?,
            updated_at: row.try_get(prefix, "updated_at")?,
        })
    }
}

fn read_events(words: &str) -> Result<Vec<WebhookEvent>, DbErr> {
    let words: Vec<String> = serde_json::from_str(words).map_err(|error| DbErr::Json(error.to_string()))?;
    Ok(words.iter().filter_map(|word| WebhookEvent::from_word(word)).collect())
}

fn words_of(events: &[WebhookEvent]) -> Value {
    json!(events.iter().map(|event| event.word()).collect::<Vec<_>>())
}

type Manage = Granted<perm::IntegrationManage>;

/// A page of the webhooks of each of those workspaces, by age.
pub async fn pages(db: &Db, wanted: &[(Manage, PageArgs<Uuid>)]) -> Result<Vec<Page<Webhook>>, ReadError> {
    let mut pages = Vec::with_capacity(wanted.len());
    for wanted in wanted.chunks(AT_ONCE) {
        let Some((first, _)) = wanted.first() else { break };
        let each =
            wanted.iter().map(|(proof, args)| page_by(of_workspace("h.id AS id", proof), args, "h.id"));
        let sql = Sql::new(format!("SELECT listed.place, {COLUMNS} FROM ("))
            .append(Sql::each(each))
            .push(") AS listed JOIN webhooks h ON h.id = listed.id ORDER BY h.id");
        let rows: Vec<Placed<Webhook>> = db.read(first).all(sql).await?;
        pages.extend(pages_of(wanted.iter().map(|(_, args)| args), rows));
    }
    Ok(pages)
}

/// How many webhooks each of those workspaces has.
pub async fn numbers(db: &Db, wanted: &[Manage]) -> Result<Vec<u64>, ReadError> {
    let mut numbers = Vec::with_capacity(wanted.len());
    for wanted in wanted.chunks(AT_ONCE) {
        let Some(first) = wanted.first() else { break };
        let sql = Sql::each(wanted.iter().map(|proof| of_workspace("count(*) AS number", proof)));
        numbers.extend(numbers_of(db.read(first).all::<Placed<Number>>(sql).await?));
    }
    Ok(numbers)
}

fn of_workspace(columns: &str, proof: &Manage) -> Sql {
    Sql::new(format!("SELECT {columns} FROM webhooks h WHERE h.workspace_id = "))
        .bind(proof.access().workspace().uuid())
}

/// The webhooks of those ids, as far as they are of the proof's workspaces.
pub async fn by_ids(db: &Db, wanted: &[(Manage, WebhookId)]) -> Result<Vec<Webhook>, ReadError> {
    let Some((first, _)) = wanted.first() else { return Ok(Vec::new()) };
    let sql = Sql::new(format!("SELECT {COLUMNS} FROM webhooks h WHERE h.id IN "))
        .bind_list(wanted.iter().map(|(_, id)| id.uuid()))
        .push(" AND h.workspace_id IN ")
        .bind_list(wanted.iter().map(|(proof, _)| proof.access().workspace().uuid()));
    Ok(db.read(first).all(sql).await?)
}

/// The workspace that a webhook is of, if the actor knows of it: where to ask whether it may be seen.
pub async fn place_of(db: &Db, proof: &OwnSession, id: WebhookId) -> Result<Option<WorkspaceId>, ReadError> {
    let sql =
        "SELECT h.workspace_id FROM webhooks h JOIN workspaces w ON w.id = h.workspace_id WHERE h.id = ";
    let sql = in_sight(Sql::new(sql).bind(id.uuid()), proof.actor());
    Ok(db.read(proof).one::<Single<Uuid>>(sql).await?.map(|Single(id)| id.into()))
}

fn by_id(workspace: WorkspaceId, id: WebhookId) -> Sql {
    Sql::new(format!("SELECT {COLUMNS} FROM webhooks h WHERE h.workspace_id = "))
        .bind(workspace.uuid())
        .push(" AND h.id = ")
        .bind(id.uuid())
}

/// One of the workspace's webhooks, whose deliveries nobody queues, claims or settles until the end of the transaction.
async fn lock<C>(
    tx: &Tx<'_>,
    workspace: WorkspaceId,
    id: WebhookId,
    not_found: C,
) -> Result<Webhook, OpError<C>> {
    let sql = by_id(workspace, id).push(locked(tx.db()));
    let refusal = || Refusal::new(not_found, "This workspace has no such webhook.").at("webhookId");
    Ok(tx.one(sql).await?.ok_or_else(refusal)?)
}

/// What locks the rows of the table alias `h` on PostgreSQL.
fn locked(db: &Db) -> &'static str {
    match db.engine() {
        Engine::Postgres => " FOR NO KEY UPDATE OF h",
        Engine::Sqlite => "",
    }
}

/// A webhook to make.
#[derive(Clone, Debug)]
pub struct NewWebhook {
    /// The name people read.
    pub name: DisplayName,
    /// Where it is told.
    pub url: WebhookUrl,
    /// What it is told.
    pub events: Vec<WebhookEvent>,
    /// Whether it is told from now on.
    pub is_enabled: bool,
}

/// A webhook together with its secret, which is told this once.
#[derive(Debug)]
pub struct WithSecret {
    /// The webhook.
    pub webhook: Webhook,
    /// Its secret: `whsec_` and the key in base64.
    pub secret: SecretString,
}

/// A fresh secret, as text and as the key that it stands for.
fn fresh_secret() -> Result<(SecretString, Zeroizing<[u8; 32]>), Fault> {
    let key = Zeroizing::new(random::<32>()?);
    Ok((format!("whsec_{}", STANDARD.encode(key.as_slice())).into(), key))
}

/// How far the audit log of the organization is chained.
async fn chained_to(tx: &Tx<'_>, organization: OrganizationId) -> Result<i64, Fault> {
    let sql = Sql::new("SELECT place FROM audit_chains WHERE organization_id = ").bind(organization.uuid());
    Ok(tx.one::<Single<i64>>(sql).await?.map_or(0, |Single(place)| place))
}

/// Makes a webhook. It is told what happens from now on.
pub async fn create(
    db: &Db,
    proof: &Manage,
    new: NewWebhook,
) -> Result<WithSecret, OpError<CreateWebhookCode>> {
    use CreateWebhookCode as Code;
    db.write(proof, async |tx| {
        let access = tx.access()?.clone();
        let workspace = access.workspace();
        judge_sight(access.permissions(), &new.events, Code::PrivilegeEscalation)?;
        judge_end(api_keys::end_of_actor(tx).await?, Code::PrivilegeEscalation)?;
        let present = tx.one::<Single<i64>>(of_workspace("count(*)", proof)).await?;
        let present = present.map_or(0, |Single(present)| u64::try_from(present).unwrap_or(0));
        judge_room(present, Code::LimitReached)?;
        let webhook = Webhook {
            id: tx.fresh_id(),
            workspace,
            name: new.name.as_str().to_owned(),
            url: new.url.as_str().to_owned(),
            events: new.events,
            status: if new.is_enabled { WebhookStatus::Active } else { WebhookStatus::Paused },
            disabled_reason: None,
            disabled_at: None,
            secret_made_at: tx.now(),
            previous_until: None,
            failing_since: None,
            created_by: access.actor().person(),
            created_at: tx.now(),
            updated_at: tx.now(),
        };
        let (secret, key) = fresh_secret()?;
        let vault = vault::data_key(tx, workspace).await?;
        let event_cursor = events::newest_of_workspace(tx, workspace).await?;
        let audit_cursor = match takes_audit(&webhook) {
            true => Some(chained_to(tx, access.organization()).await?),
            false => None,
        };
        tx.defer(Sql::insert(
            "webhooks",
            [
                ("id", webhook.id.uuid().into()),
                ("workspace_id", workspace.uuid().into()),
                ("name", webhook.name.as_str().into()),
                ("url", webhook.url.as_str().into()),
                ("events", words_of(&webhook.events).to_string().into()),
                ("status", webhook.status.word().into()),
                ("sealed_secret", vault.seal_webhook(webhook.id, key.as_slice())?.into()),
                ("secret_made_at", tx.now().into()),
                ("event_cursor", event_cursor.into()),
                ("audit_cursor", audit_cursor.into()),
                ("created_by", webhook.created_by.map(UserId::uuid).into()),
                ("created_at", tx.now().into()),
                ("updated_at", tx.now().into()),
            ],
        ));
        if new.is_enabled {
            tx.append(Event::Webhook { workspace, organization: access.organization() });
        }
        tx.audit(&entry(Action::CreateWebhook, &webhook).after(shown(&webhook, &vault)))?;
        Ok(WithSecret { webhook, secret })
    })
    .await
}

fn takes_audit(webhook: &Webhook) -> bool {
    webhook.events.contains(&WebhookEvent::AuditLogChanged)
}

fn entry(action: Action, webhook: &Webhook) -> Entry {
    Entry::of(action, ObjectKind::Webhook, webhook.id, webhook.name.as_str())
}

/// A webhook, as the audit log tells it: nothing of its secret, and of its address, in which there may be one as well, the
/// host and a fingerprint.
fn shown(webhook: &Webhook, vault: &DataKey) -> Value {
    json!({
        "name": webhook.name,
        "destination": WebhookUrl::parse(&webhook.url).map(|url| url.origin()).unwrap_or_default(),
        "urlFingerprint": vault.fingerprint_of_url(webhook.id, &webhook.url),
        "events": words_of(&webhook.events),
        "status": webhook.status.word(),
        "secretCreatedAt": webhook.secret_made_at.to_rfc3339_opts(SecondsFormat::Micros, true),
    })
}

/// What changes of a webhook; `None` leaves it as it is.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// The name people read.
    pub name: Option<DisplayName>,
    /// Where it is told.
    pub url: Option<WebhookUrl>,
    /// What it is told.
    pub events: Option<Vec<WebhookEvent>>,
    /// Whether it is told anything.
    pub is_enabled: Option<bool>,
}

/// Changes a webhook. One that is enabled again is told what happens from then on, and what waited is sent.
pub async fn update(
    db: &Db,
    proof: &Manage,
    id: WebhookId,
    change: Change,
) -> Result<Webhook, OpError<UpdateWebhookCode>> {
    use UpdateWebhookCode as Code;
    db.write(proof, async |tx| {
        let access = tx.access()?.clone();
        let workspace = access.workspace();
        let was = lock(tx, workspace, id, Code::NotFound).await?;
        let mut webhook = was.clone();
        if let Some(name) = change.name {
            webhook.name = name.as_str().to_owned();
        }
        if let Some(url) = change.url {
            webhook.url = url.as_str().to_owned();
        }
        if let Some(events) = change.events {
            webhook.events = events;
        }
        match change.is_enabled {
            Some(true) => webhook.status = WebhookStatus::Active,
            Some(false) if was.status == WebhookStatus::Active => webhook.status = WebhookStatus::Paused,
            _ => {}
        }
        let enabled = webhook.status == WebhookStatus::Active && was.status != WebhookStatus::Active;
        if enabled || webhook.url != was.url || webhook.events != was.events {
            // Whoever decides what is sent where could have seen it.
            judge_sight(access.permissions(), &webhook.events, Code::PrivilegeEscalation)?;
            if enabled || webhook.url != was.url {
                // What it took until now may wait still.
                judge_sight(access.permissions(), &was.events, Code::PrivilegeEscalation)?;
                let told = deliveries::kinds(tx, id).await?;
                judge_sight(access.permissions(), &told, Code::PrivilegeEscalation)?;
            }
            judge_end(api_keys::end_of_actor(tx).await?, Code::PrivilegeEscalation)?;
        }
        if webhook == was {
            tx.unaudited("nothing changes");
            return Ok(webhook);
        }
        if enabled {
            webhook.disabled_reason = None;
            webhook.disabled_at = None;
            webhook.failing_since = None;
        }
        webhook.updated_at = tx.now();
        let mut sql = Sql::new("UPDATE webhooks SET name = ")
            .bind(webhook.name.as_str())
            .push(", url = ")
            .bind(webhook.url.as_str())
            .push(", events = ")
            .bind(words_of(&webhook.events).to_string())
            .push(", status = ")
            .bind(webhook.status.word())
            .push(", updated_at = ")
            .bind(tx.now());
        if enabled {
            tx.append(Event::Webhook { workspace, organization: access.organization() });
            let newest = events::newest_of_workspace(tx, workspace).await?;
            sql = sql
                .push(", disabled_reason = NULL, disabled_at = NULL, failing_since = NULL, event_cursor = ");
            sql = sql.bind(newest);
        } else if webhook.url != was.url {
            // Of the new address nothing is known.
            webhook.failing_since = None;
            sql = sql.push(", failing_since = NULL");
        }
        if !takes_audit(&webhook) {
            sql = sql.push(", audit_cursor = NULL");
        } else if enabled || !takes_audit(&was) {
            sql = sql.push(", audit_cursor = ").bind(chained_to(tx, access.organization()).await?);
        }
        tx.run(sql.push(" WHERE id = ").bind(id.uuid())).await?;
        let vault = vault::data_key(tx, workspace).await?;
        tx.audit(
            &entry(Action::UpdateWebhook, &webhook).changed(shown(&was, &vault), shown(&webhook, &vault)),
        )?;
        Ok(webhook)
    })
    .await
}

/// Makes a new secret. The one before signs as well for a day, so that the receiver can be told at leisure.
pub async fn rotate_secret(
    db: &Db,
    proof: &Manage,
    id: WebhookId,
) -> Result<WithSecret, OpError<RotateWebhookSecretCode>> {
    use RotateWebhookSecretCode as Code;
    db.write(proof, async |tx| {
        let access = tx.access()?.clone();
        let workspace = access.workspace();
        let was = lock(tx, workspace, id, Code::NotFound).await?;
        judge_end(api_keys::end_of_actor(tx).await?, Code::PrivilegeEscalation)?;
        let (secret, key) = fresh_secret()?;
        let vault = vault::data_key(tx, workspace).await?;
        let webhook =
            Webhook { secret_made_at: tx.now(), previous_until: Some(tx.now() + OVERLAP), ..was.clone() };
        let sql = Sql::new("UPDATE webhooks SET sealed_previous = sealed_secret, previous_until = ")
            .bind(webhook.previous_until)
            .push(", sealed_secret = ")
            .bind(vault.seal_webhook(id, key.as_slice())?)
            .push(", secret_made_at = ")
            .bind(tx.now())
            .push(" WHERE id = ")
            .bind(id.uuid());
        tx.run(sql).await?;
        tx.audit(
            &entry(Action::RotateWebhookSecret, &webhook)
                .changed(shown(&was, &vault), shown(&webhook, &vault)),
        )?;
        Ok(WithSecret { webhook, secret })
    })
    .await
}

/// Deletes a webhook with its deliveries: nothing more is sent.
pub async fn delete(db: &Db, proof: &Manage, id: WebhookId) -> Result<Webhook, OpError<DeleteWebhookCode>> {
    db.write(proof, async |tx| {
        let workspace = proof.access().workspace();
        let webhook = lock(tx, workspace, id, DeleteWebhookCode::NotFound).await?;
        let vault = vault::data_key(tx, workspace).await?;
        tx.audit(&entry(Action::DeleteWebhook, &webhook).before(shown(&webhook, &vault)))?;
        tx.run(Sql::new("DELETE FROM webhooks WHERE id = ").bind(id.uuid())).await?;
        Ok(webhook)
    })
    .await
}
