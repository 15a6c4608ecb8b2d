//! What is read of the audit log: pages of it, the newest entry first, and what has been chained since.

use std::hash::{Hash, Hasher};

use chrono::{DateTime, SecondsFormat, Utc};
use guildhall_domain::{
    access::{Granted, perm},
    audit::{Action, ObjectKind, Record},
    ids::{AuditEventId, OrganizationId, WorkspaceId},
    page::{Page, PageArgs},
};
use sea_orm::FromQueryResult;
use uuid::Uuid;

use crate::{
    access::{numbers_of, pages_of},
    db::{Db, Read},
    error::{Fault, ReadError},
    sql::{AT_ONCE, Placed, Single, Sql},
};

/// An entry of the audit log.
#[derive(Clone, Debug, FromQueryResult)]
pub struct AuditEvent {
    /// Its id.
    pub id: Uuid,
    /// The workspace it was done in, which may be gone.
    pub workspace_id: Option<Uuid>,
    /// When.
    pub created_at: DateTime<Utc>,
    /// What kind of actor did it.
    pub actor_kind: String,
    /// The actor's id as the interface has it.
    pub actor_id: Option<String>,
    /// The actor's name at the time.
    pub actor_name: String,
    /// What was done.
    pub action: String,
    /// What kind of thing it was done to.
    pub object_kind: String,
    /// Its id as the interface has it, or its key.
    pub object_id: String,
    /// Its name at the time.
    pub object_name: String,
    /// What it was, as JSON.
    pub before_json: Option<String>,
    /// What it is, as JSON.
    pub after_json: Option<String>,
    /// The request's id.
    pub request_id: Option<String>,
    /// Where that came from.
    pub ip: Option<String>,
    /// Its place in the chain, once it has one.
    pub chain_place: Option<i64>,
    /// The hash of the one before.
    pub previous_hash: Option<String>,
    /// Its own hash.
    pub hash: Option<String>,
}

/// The columns of an [`AuditEvent`], of the table alias `x`.
pub(super) const COLUMNS: &str = "x.id, x.workspace_id, x.created_at, x.actor_kind, x.actor_id, x.actor_name, x.action, \
     x.object_kind, x.object_id, x.object_name, x.before_json, x.after_json, x.request_id, x.ip, x.place AS chain_place, \
     x.previous_hash, x.hash";

/// A moment as it is hashed.
pub(super) fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

impl AuditEvent {
    /// The record that is hashed, exactly as it is stored.
    pub(super) fn record(self) -> Record {
        Record {
            place: self.chain_place.map_or(0, i64::unsigned_abs),
            id: AuditEventId::from(self.id).to_string(),
            at: moment(self.created_at),
            workspace: self.workspace_id.map(|id| WorkspaceId::from(id).to_string()),
            actor_kind: self.actor_kind,
            actor_id: self.actor_id,
            actor_name: self.actor_name,
            action: self.action,
            object_kind: self.object_kind,
            object_id: self.object_id,
            object_name: self.object_name,
            before: self.before_json,
            after: self.after_json,
            request_id: self.request_id,
            ip: self.ip,
            previous_hash: self.previous_hash.unwrap_or_default(),
            hash: self.hash.unwrap_or_default(),
        }
    }
}

/// Which entries to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AuditFilter {
    /// Only those of the actor with this id.
    pub actor: Option<String>,
    /// Only those.
    pub actions: Option<Vec<Action>>,
    /// Only what was done to things of these kinds.
    pub object_kinds: Option<Vec<ObjectKind>>,
    /// Only what was done to the thing with this id or key.
    pub object: Option<String>,
    /// Only those in this workspace.
    pub workspace: Option<WorkspaceId>,
    /// Only from this moment on.
    pub from: Option<DateTime<Utc>>,
    /// Only before this moment.
    pub to: Option<DateTime<Utc>>,
}

impl AuditFilter {
    fn apply(&self, mut sql: Sql) -> Sql {
        if let Some(actor) = &self.actor {
            sql = sql.push(" AND x.actor_id = ").bind(actor.as_str());
        }
        if let Some(actions) = &self.actions {
            sql = sql.push(" AND x.action IN ").bind_list(actions.iter().map(|action| action.word()));
        }
        if let Some(kinds) = &self.object_kinds {
            sql = sql.push(" AND x.object_kind IN ").bind_list(kinds.iter().map(|kind| kind.word()));
        }
        if let Some(object) = &self.object {
            sql = sql.push(" AND x.object_id = ").bind(object.as_str());
        }
        if let Some(workspace) = self.workspace {
            sql = sql.push(" AND x.workspace_id = ").bind(workspace.uuid());
        }
        if let Some(from) = self.from {
            sql = sql.push(" AND x.created_at >= ").bind(from);
        }
        if let Some(to) = self.to {
            sql = sql.push(" AND x.created_at < ").bind(to);
        }
        sql
    }
}

/// Whose log is read, and the right to.
#[derive(Clone)]
pub enum Scope {
    /// All of an organization.
    Organization(Granted<perm::OrganizationManage>),
    /// What was done in a workspace.
    Workspace(Granted<perm::AuditView>),
}

impl Scope {
    fn organization(&self) -> OrganizationId {
        match self {
            Self::Organization(proof) => proof.access().organization(),
            Self::Workspace(proof) => proof.access().organization(),
        }
    }

    fn workspace(&self) -> Option<WorkspaceId> {
        match self {
            Self::Organization(_) => None,
            Self::Workspace(proof) => Some(proof.access().workspace()),
        }
    }

    /// The table `x` as far as it is in the scope.
    fn rows(&self, columns: &str) -> Sql {
        let sql = Sql::new(format!("SELECT {columns} FROM audit_events x WHERE "));
        match self.workspace() {
            None => sql.push("x.organization_id = ").bind(self.organization().uuid()),
            Some(workspace) => sql.push("x.workspace_id = ").bind(workspace.uuid()),
        }
    }

    fn read<'a>(&self, db: &'a Db) -> Read<'a> {
        match self {
            Self::Organization(proof) => db.read(proof),
            Self::Workspace(proof) => db.read(proof),
        }
    }
}

/// A list of entries. Two are equal that have the same answer.
#[derive(Clone)]
pub struct Log {
    /// Whose.
    pub scope: Scope,
    /// Which.
    pub filter: AuditFilter,
}

impl Log {
    fn parts(&self) -> (OrganizationId, Option<WorkspaceId>, &AuditFilter) {
        (self.scope.organization(), self.scope.workspace(), &self.filter)
    }
}

impl PartialEq for Log {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Log {}

impl Hash for Log {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

/// A page of each of those lists, the newest entry first.
pub async fn pages(db: &Db, wanted: &[(Log, PageArgs<Uuid>)]) -> Result<Vec<Page<AuditEvent>>, ReadError> {
    let mut pages = Vec::with_capacity(wanted.len());
    for wanted in wanted.chunks(AT_ONCE) {
        let Some((first, _)) = wanted.first() else { break };
        let each = Sql::each(wanted.iter().map(|(log, args)| {
            let mut sql = log.filter.apply(log.scope.rows("x.id AS id"));
            if let Some(after) = args.after {
                sql = sql.push(" AND x.id < ").bind(after);
            }
            if let Some(before) = args.before {
                sql = sql.push(" AND x.id > ").bind(before);
            }
            let order = if args.backward { "ASC" } else { "DESC" };
            sql.push(&format!(" ORDER BY x.id {order}")).limit(i64::from(args.size) + 1)
        }));
        let sql = Sql::new(format!("SELECT listed.place, {COLUMNS} FROM ("))
            .append(each)
            .push(") AS listed JOIN audit_events x ON x.id = listed.id ORDER BY x.id DESC");
        let rows: Vec<Placed<AuditEvent>> = first.scope.read(db).all(sql).await?;
        pages.extend(pages_of(wanted.iter().map(|(_, args)| args), rows));
    }
    Ok(pages)
}

/// How many entries each of those lists has in all.
pub async fn numbers(db: &Db, wanted: &[Log]) -> Result<Vec<u64>, ReadError> {
    let mut numbers = Vec::with_capacity(wanted.len());
    for wanted in wanted.chunks(AT_ONCE) {
        let Some(first) = wanted.first() else { break };
        let counts = wanted.iter().map(|log| log.filter.apply(log.scope.rows("count(*) AS number")));
        numbers.extend(numbers_of(first.scope.read(db).all(Sql::each(counts)).await?));
    }
    Ok(numbers)
}

/// The place of the newest entry in the chain of the scope's organization; 0 before the first.
pub async fn head(db: &Db, scope: &Scope) -> Result<u64, Fault> {
    let sql =
        Sql::new("SELECT place FROM audit_chains WHERE organization_id = ").bind(scope.organization().uuid());
    let place = scope.read(db).one::<Single<i64>>(sql).await?;
    Ok(place.map_or(0, |Single(place)| place.unsigned_abs()))
}

/// The entries of the scope whose place is later than `after`, in their order; at most `limit`.
pub async fn newer(db: &Db, scope: &Scope, after: u64, limit: u32) -> Result<Vec<AuditEvent>, Fault> {
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let mut sql = Sql::new(format!("SELECT {COLUMNS} FROM audit_events x WHERE x.organization_id = "))
        .bind(scope.organization().uuid())
        .push(" AND x.place > ")
        .bind(after);
    if let Some(workspace) = scope.workspace() {
        sql = sql.push(" AND x.workspace_id = ").bind(workspace.uuid());
    }
    scope.read(db).all(sql.push(" ORDER BY x.place").limit(i64::from(limit))).await
}
