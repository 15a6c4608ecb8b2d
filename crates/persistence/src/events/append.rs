//! Writing events down. Knows how each stands in the log, and what keeps the log in order.

use chrono::{DateTime, Utc};
use guildhall_domain::{
    events::{Event, EventKind},
    ids::{OrganizationId, RoleId, UserId},
};
use sea_orm::Value;

use crate::{db::Engine, sql::Sql};

const COLUMNS: &str =
    "INSERT INTO events (kind, workspace_id, user_id, email, subject_id, state, created_at)";
const VALUES: &str = "$1, $2, $3, $4, $5, $6, $7";

/// The statement that writes, for everybody with that role, that their rights are to be read anew: of any number
/// of people and machines at once. Whoever runs it has locked the workspaces.
pub(crate) fn access_of_holders(now: DateTime<Utc>, role: RoleId) -> Sql {
    Sql::new("INSERT INTO events (kind, workspace_id, user_id, created_at) SELECT ")
        .bind(EventKind::Access.word())
        .push(", m.workspace_id, m.user_id, ")
        .bind(now)
        .push(" FROM (SELECT workspace_id, user_id FROM memberships WHERE role_id = ")
        .bind(role.uuid())
        .push(" UNION ALL SELECT DISTINCT workspace_id, CAST(NULL AS uuid) FROM service_accounts WHERE role_id = ")
        .bind(role.uuid())
        .push(") m")
}

/// The same for a person, in every workspace of the organization that they are a member of.
pub(crate) fn access_of_person(now: DateTime<Utc>, organization: OrganizationId, user: UserId) -> Sql {
    Sql::new("INSERT INTO events (kind, workspace_id, user_id, created_at) SELECT ")
        .bind(EventKind::Access.word())
        .push(", m.workspace_id, m.user_id, ")
        .bind(now)
        .push(" FROM memberships m JOIN workspaces w ON w.id = m.workspace_id WHERE w.organization_id = ")
        .bind(organization.uuid())
        .push(" AND m.user_id = ")
        .bind(user.uuid())
}

/// The statement that writes an event.
///
/// The events of one workspace commit in the order of their numbers: whoever changes a workspace holds its
/// row. An invitee's events come from several workspaces, so on PostgreSQL the statement first takes a lock
/// on the address, kept until the commit, and only the row that comes out of it draws the number. Therefore a
/// transaction that tells several addresses does so in the order of the addresses, else two of them could
/// wait for each other. SQLite has one writer.
///
/// The address is told only if it `is_news` there.
pub(crate) fn insert(engine: Engine, now: DateTime<Utc>, event: &Event, is_news: bool) -> Sql {
    let at = now.into();
    let none = Value::Uuid(None);
    let values: [Value; 7] = match event {
        Event::Invitation { invitation, workspace, email, status } => [
            EventKind::Invitation.word().into(),
            workspace.uuid().into(),
            none,
            is_news.then(|| email.as_str().to_owned()).into(),
            invitation.uuid().into(),
            status.word().into(),
            at,
        ],
        Event::OrganizationInvitation { invitation, email, status } => [
            EventKind::Invitation.word().into(),
            none.clone(),
            none,
            email.as_str().into(),
            invitation.uuid().into(),
            status.word().into(),
            at,
        ],
        Event::Access { workspace, user } => [
            EventKind::Access.word().into(),
            workspace.uuid().into(),
            user.uuid().into(),
            Value::String(None),
            none,
            Value::String(None),
            at,
        ],
        Event::Machines { workspace } => [
            EventKind::Access.word().into(),
            workspace.uuid().into(),
            none.clone(),
            Value::String(None),
            none,
            Value::String(None),
            at,
        ],
        Event::Rights { user } => [
            EventKind::Access.word().into(),
            none.clone(),
            user.uuid().into(),
            Value::String(None),
            none,
            Value::String(None),
            at,
        ],
        Event::Workspace { workspace, change } => [
            EventKind::Workspace.word().into(),
            workspace.uuid().into(),
            none.clone(),
            Value::String(None),
            none,
            change.word().into(),
            at,
        ],
        Event::Credential { workspace, subject, change } => [
            EventKind::Credential.word().into(),
            workspace.uuid().into(),
            none,
            Value::String(None),
            (*subject).into(),
            change.word().into(),
            at,
        ],
        Event::Webhook { workspace, organization } => [
            EventKind::Webhook.word().into(),
            workspace.uuid().into(),
            none,
            Value::String(None),
            organization.uuid().into(),
            Value::String(None),
            at,
        ],
        Event::Quota { workspace, metric, scope } => [
            EventKind::Quota.word().into(),
            workspace.uuid().into(),
            none.clone(),
            Value::String(None),
            none,
            format!("{} {}", scope.word(), metric.word()).into(),
            at,
        ],
        Event::Audit { organization } => [
            EventKind::Audit.word().into(),
            none.clone(),
            none,
            Value::String(None),
            organization.uuid().into(),
            Value::String(None),
            at,
        ],
        Event::Session { user, session } => [
            EventKind::Session.word().into(),
            none,
            user.uuid().into(),
            Value::String(None),
            session.map(|session| session.uuid()).into(),
            Value::String(None),
            at,
        ],
    };
    let ordered = engine == Engine::Postgres && is_news && event.email().is_some();
    let text = if ordered {
        format!(
            "WITH address AS MATERIALIZED (SELECT pg_advisory_xact_lock(hashtextextended($4, 0))) \
             {COLUMNS} SELECT {VALUES} FROM address"
        )
    } else {
        format!("{COLUMNS} VALUES ({VALUES})")
    };
    Sql::new(text).values(values)
}
