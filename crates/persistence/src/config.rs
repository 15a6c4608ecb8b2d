//! Configuration properties of workspaces: setting, deleting and listing them. Keys are compared and sorted byte by byte,
//! on both databases.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Granted, perm},
    audit::{Action, Entry, ObjectKind},
    config::{ConfigKind, ConfigValue, DeleteConfigPropertyCode, judge_room},
    events::{Event, WorkspaceChange},
    ids::{UserId, WorkspaceId},
    page::{Page, PageArgs},
    refusal::Refusal,
    text::{ConfigKey, ConfigPrefix},
};
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    access::word,
    db::{Db, Engine, Tx},
    error::{Fault, OpError, ReadError},
    sql::{Single, Sql},
};

/// A configuration property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProperty {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// Its key, unique in the workspace.
    pub key: ConfigKey,
    /// What it holds.
    pub value: ConfigValue,
    /// Who set it last.
    pub updated_by: Option<UserId>,
    /// When.
    pub updated_at: DateTime<Utc>,
}

impl FromQueryResult for ConfigProperty {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        let kind = word(&row.try_get::<String>(prefix, "kind")?, ConfigKind::from_word)?;
        Ok(Self {
            workspace: row.try_get::<Uuid>(prefix, "workspace_id")?.into(),
            key: ConfigKey::from_stored(row.try_get(prefix, "key")?),
            value: ConfigValue::from_stored(kind, row.try_get(prefix, "value")?),
            updated_by: row.try_get::<Option<Uuid>>(prefix, "updated_by")?.map(Into::into),
            updated_at: row.try_get(prefix, "updated_at")?,
        })
    }
}

const COLUMNS: &str = "p.workspace_id, p.key, p.kind, p.value, p.updated_by, p.updated_at";

/// The key as it sorts: by its bytes, whatever language the database speaks.
fn sorted_key(engine: Engine) -> &'static str {
    match engine {
        Engine::Sqlite => "p.key",
        Engine::Postgres => "p.key COLLATE \"C\"",
    }
}

fn with_prefix(sql: Sql, prefix: Option<&ConfigPrefix>) -> Sql {
    match prefix {
        None => sql,
        Some(prefix) => sql
            .push(" AND substr(p.key, 1, ")
            .bind(i32::try_from(prefix.as_str().len()).unwrap_or(i32::MAX))
            .push(") = ")
            .bind(prefix.as_str()),
    }
}

/// Sets properties, all or none. What is there already is left alone, and is no news. `limit_reached` is the operation's
/// code for too many.
pub async fn set<C>(
    db: &Db,
    proof: &Granted<perm::ConfigManage>,
    wanted: Vec<(ConfigKey, ConfigValue)>,
    action: Action,
    limit_reached: C,
) -> Result<Vec<ConfigProperty>, OpError<C>> {
    db.write(proof, async |tx| {
        let (workspace, by) = (proof.access().workspace(), proof.access().actor().person());
        let keys = wanted.iter().map(|(key, _)| key.as_str());
        let sql = of_workspace(workspace).push(" AND p.key IN ").bind_list(keys);
        let present: Vec<ConfigProperty> = tx.all(sql).await?;
        let mut present: HashMap<_, _> =
            present.into_iter().map(|property| (property.key.clone(), property)).collect();
        let added = wanted.iter().filter(|(key, _)| !present.contains_key(key)).count();
        if added > 0 {
            let sql = Sql::new("SELECT count(*) FROM config_properties WHERE workspace_id = ")
                .bind(workspace.uuid());
            let all = tx.one::<Single<i64>>(sql).await?.map_or(0, |Single(count)| count);
            judge_room(limit_reached, usize::try_from(all).unwrap_or(usize::MAX), added)?;
        }
        let before = present.clone();
        let mut changed = Vec::new();
        let properties: Vec<ConfigProperty> = wanted
            .into_iter()
            .map(|(key, value)| match present.remove(&key) {
                Some(property) if property.value == value => property,
                _ => {
                    let now = tx.now();
                    let property = ConfigProperty { workspace, key, value, updated_by: by, updated_at: now };
                    changed.push(property.clone());
                    property
                }
            })
            .collect();
        if !changed.is_empty() {
            write(tx, &changed).await?;
            tx.audit(&entry(action, workspace, &changed, &before))?;
            tx.append(Event::Workspace { workspace, change: WorkspaceChange::Config });
        }
        Ok(properties)
    })
    .await
}

/// What the audit log says of properties that were set.
fn entry(
    action: Action,
    workspace: WorkspaceId,
    changed: &[ConfigProperty],
    before: &HashMap<ConfigKey, ConfigProperty>,
) -> Entry {
    let entry = match changed {
        [one] if action == Action::SetConfigProperty => {
            Entry::of(action, ObjectKind::ConfigProperty, &one.key, one.key.as_str())
        }
        several => {
            let keys: Vec<&str> = several.iter().map(|property| property.key.as_str()).collect();
            Entry::of(action, ObjectKind::ConfigProperties, workspace, keys.join(", "))
        }
    };
    let were = changed.iter().filter_map(|property| before.get(&property.key));
    entry.changed(shown(were), shown(changed.iter()))
}

fn shown<'a>(properties: impl Iterator<Item = &'a ConfigProperty>) -> Value {
    let shown = properties.map(|property| {
        let json = property.value.as_json();
        (
            property.key.as_str().to_owned(),
            serde_json::from_str(&json).unwrap_or(Value::String(json.to_string())),
        )
    });
    Value::Object(shown.collect())
}

async fn write(tx: &Tx<'_>, properties: &[ConfigProperty]) -> Result<(), Fault> {
    let mut sql = Sql::new(
        "INSERT INTO config_properties (workspace_id, key, kind, value, updated_by, updated_at) VALUES ",
    );
    for (place, property) in properties.iter().enumerate() {
        sql = sql
            .push(if place > 0 { ", (" } else { "(" })
            .bind(property.workspace.uuid())
            .push(", ")
            .bind(property.key.as_str())
            .push(", ")
            .bind(property.value.kind().word())
            .push(", ")
            .bind(property.value.as_json())
            .push(", ")
            .bind(property.updated_by.map(UserId::uuid))
            .push(", ")
            .bind(property.updated_at)
            .push(")");
    }
    let sql = sql.push(
        " ON CONFLICT (workspace_id, key) DO UPDATE SET kind = excluded.kind, value = excluded.value, \
         updated_by = excluded.updated_by, updated_at = excluded.updated_at",
    );
    tx.run(sql).await?;
    Ok(())
}

/// Deletes a property, and tells what it was.
pub async fn delete(
    db: &Db,
    proof: &Granted<perm::ConfigManage>,
    key: &ConfigKey,
) -> Result<ConfigProperty, OpError<DeleteConfigPropertyCode>> {
    db.write(proof, async |tx| {
        let workspace = proof.access().workspace();
        let sql = of_workspace(workspace).push(" AND p.key = ").bind(key.as_str());
        let Some(property) = tx.one::<ConfigProperty>(sql).await? else {
            let message = format!("There is no configuration property “{key}” in this workspace.");
            return Err(Refusal::new(DeleteConfigPropertyCode::NotFound, message).at("key").into());
        };
        let sql = Sql::new("DELETE FROM config_properties WHERE workspace_id = ")
            .bind(workspace.uuid())
            .push(" AND key = ")
            .bind(key.as_str());
        tx.run(sql).await?;
        tx.audit(
            &Entry::of(Action::DeleteConfigProperty, ObjectKind::ConfigProperty, key, key.as_str())
                .before(shown(std::iter::once(&property))),
        )?;
        tx.append(Event::Workspace { workspace, change: WorkspaceChange::Config });
        Ok(property)
    })
    .await
}

fn of_workspace(workspace: WorkspaceId) -> Sql {
    Sql::new(format!("SELECT {COLUMNS} FROM config_properties p WHERE p.workspace_id = "))
        .bind(workspace.uuid())
}

/// A page of a workspace's properties, by key; only those whose key begins so, if one is given.
pub async fn page(
    db: &Db,
    proof: &Granted<perm::ConfigView>,
    prefix: Option<&ConfigPrefix>,
    args: &PageArgs<ConfigKey>,
) -> Result<Page<ConfigProperty>, ReadError> {
    let key = sorted_key(db.engine());
    let mut sql = with_prefix(of_workspace(proof.access().workspace()), prefix);
    if let Some(after) = &args.after {
        sql = sql.push(&format!(" AND {key} > ")).bind(after.as_str());
    }
    if let Some(before) = &args.before {
        sql = sql.push(&format!(" AND {key} < ")).bind(before.as_str());
    }
    let order = if args.backward { "DESC" } else { "ASC" };
    let sql = sql.push(&format!(" ORDER BY {key} {order}")).limit(i64::from(args.size) + 1);
    Ok(Page::cut(args, db.read(proof).all(sql).await?))
}

/// The first properties of each of several workspaces, in one statement; `size + 1` of each, so that [`Page::cut`] can
/// tell whether there are more.
pub async fn first_of_each(
    db: &Db,
    proofs: &[Granted<perm::ConfigView>],
    prefix: Option<&ConfigPrefix>,
    args: &PageArgs<ConfigKey>,
) -> Result<Vec<ConfigProperty>, ReadError> {
    let Some(proof) = proofs.first() else { return Ok(Vec::new()) };
    let order = if args.backward { "DESC" } else { "ASC" };
    let key = sorted_key(db.engine());
    let sql = Sql::new(format!(
        "SELECT * FROM (SELECT {COLUMNS}, row_number() OVER (PARTITION BY p.workspace_id ORDER BY {key} {order}) AS place \
         FROM config_properties p WHERE p.workspace_id IN "
    ))
    .bind_list(proofs.iter().map(|proof| proof.access().workspace().uuid()));
    let sql = with_prefix(sql, prefix)
        .push(") AS placed WHERE place <= ")
        .bind(i64::from(args.size) + 1)
        .push(" ORDER BY workspace_id, place");
    Ok(db.read(proof).all(sql).await?)
}

/// Properties by workspace and key; left out where there is none.
pub async fn by_keys(
    db: &Db,
    wanted: &[(Granted<perm::ConfigView>, ConfigKey)],
) -> Result<Vec<ConfigProperty>, ReadError> {
    let Some((proof, _)) = wanted.first() else { return Ok(Vec::new()) };
    let sql = Sql::new(format!("SELECT {COLUMNS} FROM config_properties p WHERE p.workspace_id IN "))
        .bind_list(wanted.iter().map(|(proof, _)| proof.access().workspace().uuid()))
        .push(" AND p.key IN ")
        .bind_list(wanted.iter().map(|(_, key)| key.as_str()));
    Ok(db.read(proof).all(sql).await?)
}

/// How many properties each of several workspaces has, as `id` and `number`; a workspace without any is left out.
pub(crate) fn number(workspaces: &[WorkspaceId], prefix: Option<&ConfigPrefix>) -> Sql {
    let sql = Sql::new(
        "SELECT p.workspace_id AS id, count(*) AS number FROM config_properties p WHERE p.workspace_id IN ",
    )
    .bind_list(workspaces.iter().map(|id| id.uuid()));
    with_prefix(sql, prefix).push(" GROUP BY p.workspace_id")
}
