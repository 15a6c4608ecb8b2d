//! The audit log: entries written with the change they tell of, and what is read of them. Knows who acted and from
//! where; refuses to know the features, which say themselves what they did.
//!
//! An entry is written without a place in the chain, so that two who change something in one organization do not wait for
//! each other: the row is all that is added, and the only lock that it takes is the one by which it refers to its
//! organization, which any number hold at once and which waits for no change of it. Its place it gets by `chain`, after the
//! commit, from a task that works through an organization's new entries one batch after the other.

mod chain;
mod export;
mod read;

pub use chain::{Chained, chain};
pub use export::{Export, export};
pub use read::{AuditEvent, AuditFilter, Log, Scope, head, newer, numbers, pages};

use std::sync::Arc;

use guildhall_domain::{
    access::Actor,
    audit::{ActorKind, By, Entry},
    ids::{AuditEventId, OrganizationId, UserId},
};
use sea_orm::Value;
use uuid::Uuid;

use crate::{db::Tx, error::Fault, sql::Sql};

/// Where a request comes from, as the audit log tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The request's id, as it stands in the server's log.
    pub request_id: Option<Arc<str>>,
    /// The address it came from.
    pub ip: Option<String>,
    /// Whether it is a command of whoever runs the instance.
    pub operator: bool,
}

impl Origin {
    /// A command of whoever runs the instance.
    pub fn operator() -> Self {
        Self { operator: true, ..Self::default() }
    }
}

/// Who did it: their kind, id and name. The name is read by the statement that writes the entry.
struct Author {
    kind: ActorKind,
    id: Option<String>,
    name: Sql,
}

impl Author {
    fn person(user: UserId) -> Self {
        let name = "SELECT display_name FROM users WHERE id = ";
        Self::found(ActorKind::Person, user.to_string(), name, user.uuid())
    }

    /// Whose name that statement finds.
    fn found(kind: ActorKind, id: String, name: &str, value: Uuid) -> Self {
        let name = Sql::new(format!("COALESCE(({name}")).bind(value).push("), '')");
        Self { kind, id: Some(id), name }
    }

    fn named(kind: ActorKind, name: &str) -> Self {
        Self { kind, id: None, name: Sql::new("").bind(name) }
    }

    fn of(tx: &Tx<'_>, entry: &Entry) -> Self {
        match (&entry.by, tx.actor()) {
            (Some(By::Person(user)), _) => Self::person(*user),
            (Some(By::Address(address)), _) => Self::named(ActorKind::Person, address),
            (None, Some(Actor::User { user, .. })) => Self::person(user),
            (None, Some(Actor::Key { key, .. })) => Self::found(
                ActorKind::ApiKey,
                key.to_string(),
                "SELECT name FROM api_keys WHERE id = ",
                key.uuid(),
            ),
            (None, Some(Actor::ServiceAccount { account, .. })) => {
                let name = "SELECT name FROM service_accounts WHERE id = ";
                Self::found(ActorKind::ServiceAccount, account.to_string(), name, account.uuid())
            }
            (None, None) if tx.db().origin().is_some_and(|origin| origin.operator) => {
                Self::named(ActorKind::Operator, "operator")
            }
            (None, None) => Self::named(ActorKind::System, "Guildhall"),
        }
    }
}

/// Where it was done: as the entry says, else as the proof does.
fn organization(tx: &Tx<'_>, entry: &Entry) -> Result<OrganizationId, Fault> {
    let of_workspace = || tx.access().map(|access| access.organization()).ok();
    let of_organization = || tx.organization().map(|access| access.organization()).ok();
    let organization = entry.organization.or_else(of_workspace).or_else(of_organization);
    organization.ok_or(Fault::Unaudited("an entry that belongs to no organization"))
}

/// The statement that writes an entry.
pub(crate) fn insert(tx: &Tx<'_>, entry: &Entry) -> Result<Sql, Fault> {
    let id: AuditEventId = tx.fresh_id();
    let organization = organization(tx, entry)?;
    let workspace = entry.workspace.unwrap_or_else(|| tx.access().map(|access| access.workspace()).ok());
    let author = Author::of(tx, entry);
    let origin = tx.db().origin();
    let values: [Value; 13] = [
        id.uuid().into(),
        organization.uuid().into(),
        workspace.map(|workspace| workspace.uuid()).into(),
        tx.now().into(),
        author.kind.word().into(),
        author.id.into(),
        entry.action.word().into(),
        entry.object.kind.word().into(),
        entry.object.id.as_str().into(),
        entry.object.name.as_str().into(),
        entry.stored_before().into(),
        entry.stored_after().into(),
        origin.and_then(|origin| origin.request_id.as_deref()).map(str::to_owned).into(),
    ];
    let sql = Sql::new(
        "INSERT INTO audit_events (id, organization_id, workspace_id, created_at, actor_kind, actor_id, action, object_kind, \
         object_id, object_name, before_json, after_json, request_id, ip, actor_name) VALUES \
         ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, ",
    )
    .values(values)
    .bind(origin.and_then(|origin| origin.ip.clone()))
    .push(", ")
    .append(author.name)
    .push(")");
    Ok(sql)
}
