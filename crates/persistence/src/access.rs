//! Reads an actor's place in a workspace or organization, each in one statement that also checks that the
//! session is alive. The verdict is the domain's.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{
        Actor, Arrival, Denied, Entrance, LetIn, MemberListVisibility, OrganizationAccess,
        OrganizationPolicy, OrganizationRole, OwnSession, Permission, PermissionSet, ShareAcceptance,
        SystemRole, WorkspaceAccess, WorkspaceCreation, WorkspaceDeletion,
        machine::MachineRights,
        proof::{OrganizationFacts, Place, WorkspaceFacts},
        role::Role,
    },
    activity::DEFAULT_DAYS,
    ids::{OrganizationId, RoleId, SessionId, UserId, WorkspaceId},
    page::{Order, Page, PageArgs, Position},
    workspaces::WorkspaceStatus,
};
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult, QueryResult};
use uuid::Uuid;

use crate::{
    db::{Db, Engine, Read, Tx},
    error::{Fault, ReadError},
    sql::{self, Sql},
    workspaces::{WORKSPACE_COLUMNS, Workspace},
};

/// The columns of an organization's policy, of the table alias `o`.
pub(crate) const POLICY_COLUMNS: &str = "o.workspace_creation, o.workspace_deletion, o.member_list_visibility, \
     o.share_acceptance, o.allow_reveal, o.invitation_lifetime_hours, o.api_key_max_lifetime_days, \
     o.login_activity_days, o.password_sign_in, o.two_factor_required_since AS two_factor_required_since, \
     o.two_factor_grace_hours AS two_factor_grace_hours";

/// The columns of a role, of the table alias `r`, as [`role`] reads them.
macro_rules! role_columns {
    () => {
        "r.id AS role_id, r.key AS role_key, r.name AS role_name, r.description AS role_description, \
         r.permissions AS role_permissions"
    };
}
pub(crate) use role_columns;

/// How the person `u` comes into the organization that `om` is the membership of, as [`arrival`] reads it.
macro_rules! arrival_columns {
    () => {
        "om.created_at AS joined_at, u.second_factor_at IS NOT NULL AS has_second_factor"
    };
}

/// The columns of a membership (alias `m`) and its role (alias `r`), of the place in the organization (alias `om`), and of
/// how the person (alias `u`) comes in.
pub(crate) const STANDING_COLUMNS: &str = concat!(
    "om.role AS organization_role, m.id AS membership_id, ",
    role_columns!(),
    ", ",
    arrival_columns!()
);

/// Which identity provider opened the session `s`, and which one the organization `o` has.
const ENTRANCE_COLUMNS: &str = "s.identity_provider_id AS opened_by, o.identity_provider_id AS own_provider";

/// The actor's live session (`$1`), user (`$2`), at the moment `$3`.
const LIVE_SESSION: &str = "sessions s JOIN users u ON u.id = s.user_id AND u.status <> 'DISABLED'";
const IS_LIVE: &str = "s.id = $1 AND s.user_id = $2 AND s.ended_at IS NULL AND s.expires_at > $3";

/// The membership of the workspace `w`, and its role. It hangs on the active membership of the organization
/// (alias `om`): without that one it gives nothing.
const MEMBERSHIP_JOINS: &str = "LEFT JOIN memberships m ON m.workspace_id = w.id AND m.user_id = om.user_id \
     AND (m.expires_at IS NULL OR m.expires_at > $3) \
     LEFT JOIN roles r ON r.id = m.role_id";

/// Which organization is meant.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a> {
    /// The one that the actor joined first.
    Earliest,
    /// The one of that id.
    Id(OrganizationId),
    /// The one of that slug.
    Slug(&'a str),
}

/// An organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Organization {
    /// Its id.
    pub id: OrganizationId,
    /// The name in addresses.
    pub slug: String,
    /// The name people read.
    pub name: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// What the actor knows of an organization by looking at it: its rights and the organization itself.
#[derive(Clone, Debug)]
pub struct OrganizationStanding {
    /// The actor's rights.
    pub access: Arc<OrganizationAccess>,
    /// The organization.
    pub organization: Organization,
}

/// What the actor knows of a workspace by looking at it: its rights and the workspace itself.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The actor's rights.
    pub access: Arc<WorkspaceAccess>,
    /// The workspace.
    pub workspace: Workspace,
}

impl Db {
    /// The proof that the actor is signed in, at the price of one statement.
    pub async fn own_session(&self, actor: Actor) -> Result<OwnSession, ReadError> {
        Ok(OwnSession::of(self.let_in(actor).await?)?)
    }

    /// The proof that the actor is let in, at the price of one statement.
    pub async fn let_in(&self, actor: Actor) -> Result<LetIn, ReadError> {
        let row = self.reader().one::<sql::Single<i32>>(alive_sql(actor, self.now())).await?;
        Ok(LetIn::assess(actor, row.is_some())?)
    }

    /// The actor's standing in the workspace of that id, at the price of one statement.
    pub async fn standing(&self, actor: Actor, workspace: WorkspaceId) -> Result<Standing, ReadError> {
        self.look(actor, "w.id", workspace.uuid()).await
    }

    /// The actor's standing in the workspace of that name, at the price of one statement.
    pub async fn standing_by_name(&self, actor: Actor, name: &str) -> Result<Standing, ReadError> {
        self.look(actor, "w.name", name).await
    }

    async fn look(
        &self,
        actor: Actor,
        found_by: &str,
        value: impl Into<sea_orm::Value>,
    ) -> Result<Standing, ReadError> {
        let now = self.now();
        let sql = workspace_sql(actor, found_by, value, now);
        if actor.person().is_some() {
            return judge(actor, self.reader().one(sql).await?, now);
        }
        let standing = judge(actor, self.reader().one::<MachineRow>(sql).await?.map(StandingRow::from), now)?;
        self.machines_seen().note(actor, now);
        Ok(standing)
    }

    /// The actor's standing in each of their workspaces in one of those statuses, by age: those they are a
    /// member of, and all of an organization where they are an admin of it. Those of an organization that demands something
    /// first are left out.
    pub async fn standings(
        &self,
        proof: &OwnSession,
        statuses: &[WorkspaceStatus],
        order: Order,
        page: &PageArgs<Position>,
    ) -> Result<Page<Standing>, ReadError> {
        let columns =
            format!("{WORKSPACE_COLUMNS}, {POLICY_COLUMNS}, {STANDING_COLUMNS}, {ENTRANCE_COLUMNS}");
        let now = self.now();
        let sql = standings_sql(self.engine(), proof, &columns, statuses, now);
        let page = order.ascend(page);
        let sorted = Sorted::by(self, order, "w.display_name", "w.id");
        let rows: Vec<StandingRow> = self.reader().all(sorted.page(sql, &page)).await?;
        let judged = rows.into_iter().map(|row| seen(judge(proof.actor(), Some(row), now)));
        let standings = judged.filter_map(Result::transpose).collect::<Result<_, _>>()?;
        Ok(order.descend(Page::cut(&page, standings)))
    }

    /// The actor's standing in each of those workspaces where they have one, archived or not.
    pub async fn standings_of(
        &self,
        actor: Actor,
        workspaces: &[WorkspaceId],
    ) -> Result<Vec<Standing>, ReadError> {
        let Actor::User { user, session } = actor else {
            // A machine has one workspace, which it found by this id.
            let mut found = Vec::new();
            for workspace in workspaces {
                match self.standing(actor, *workspace).await {
                    Err(ReadError::Denied(_)) => {}
                    standing => found.push(standing?),
                }
            }
            return Ok(found);
        };
        let sql = Sql::new(format!(
            "SELECT {WORKSPACE_COLUMNS}, {POLICY_COLUMNS}, {STANDING_COLUMNS}, {ENTRANCE_COLUMNS} FROM {LIVE_SESSION} \
             JOIN organization_members om ON om.user_id = u.id AND om.status = 'ACTIVE' \
             JOIN organizations o ON o.id = om.organization_id JOIN workspaces w ON w.organization_id = o.id \
             {MEMBERSHIP_JOINS} WHERE {IS_LIVE} AND w.id IN "
        ))
        .values([session.uuid().into(), user.uuid().into(), self.now().into()])
        .bind_list(workspaces.iter().map(|id| id.uuid()));
        let rows: Vec<StandingRow> = self.reader().all(sql).await?;
        let now = self.now();
        let standings = rows.into_iter().map(|row| seen(judge(actor, Some(row), now)));
        standings.filter_map(Result::transpose).collect()
    }

    /// How many workspaces [`Db::standings`] lists in all.
    pub async fn count_standings(
        &self,
        proof: &OwnSession,
        statuses: &[WorkspaceStatus],
    ) -> Result<u64, ReadError> {
        let sql = standings_sql(self.engine(), proof, "count(*)", statuses, self.now());
        count(self.reader().one(sql).await?)
    }

    /// The actor's standing where they land without a workspace of their choice: in the earliest that they are a member of
    /// and that is in use, else in the oldest that they see as an admin of its organization.
    pub async fn landing(&self, proof: &OwnSession) -> Result<Option<Standing>, ReadError> {
        let columns =
            format!("{WORKSPACE_COLUMNS}, {POLICY_COLUMNS}, {STANDING_COLUMNS}, {ENTRANCE_COLUMNS}");
        let now = self.now();
        let sql = standings_sql(self.engine(), proof, &columns, &[WorkspaceStatus::Active], now)
            .push(" ORDER BY m.id IS NULL, m.id, w.id LIMIT 1");
        let row: Option<StandingRow> = self.reader().one(sql).await?;
        row.map_or(Ok(None), |row| seen(judge(proof.actor(), Some(row), now)))
    }

    /// The rights of several actors in one workspace, or why they have none, at the price of one statement.
    /// Whose session has ended is left out.
    pub async fn accesses(
        &self,
        workspace: WorkspaceId,
        actors: &[Actor],
    ) -> Result<HashMap<Actor, Result<Arc<WorkspaceAccess>, Denied>>, ReadError> {
        let people: Vec<Uuid> = actors
            .iter()
            .filter_map(|actor| match actor {
                Actor::User { session, .. } => Some(session.uuid()),
                Actor::Key { .. } | Actor::ServiceAccount { .. } => None,
            })
            .collect();
        let mut found = HashMap::new();
        // Machines that watch are few.
        for machine in actors.iter().filter(|actor| actor.person().is_none()) {
            match self.standing(*machine, workspace).await {
                Ok(standing) => found.insert(*machine, Ok(standing.access)),
                Err(ReadError::Denied(denied)) => found.insert(*machine, Err(denied)),
                Err(fault) => return Err(fault),
            };
        }
        if people.is_empty() {
            return Ok(found);
        }
        let sql = Sql::new(format!(
            "SELECT s.id AS session_id, s.user_id AS session_user, {WORKSPACE_COLUMNS}, {POLICY_COLUMNS}, {STANDING_COLUMNS}, {ENTRANCE_COLUMNS} \
             FROM {LIVE_SESSION} LEFT JOIN workspaces w ON w.id = $1 LEFT JOIN organizations o ON o.id = w.organization_id \
             LEFT JOIN organization_members om ON om.user_id = u.id AND om.organization_id = w.organization_id \
                 AND om.status = $2 \
             {MEMBERSHIP_JOINS} WHERE s.ended_at IS NULL AND s.expires_at > $3 AND s.id IN "
        ))
        .values([workspace.uuid().into(), "ACTIVE".into(), self.now().into()])
        .bind_list(people.iter().copied());
        let rows: Vec<SessionStanding> = self.reader().all(sql).await?;
        let now = self.now();
        let alive: HashSet<Actor> = actors.iter().copied().collect();
        for row in rows.into_iter().filter(|row| alive.contains(&row.actor)) {
            match judge(row.actor, Some(row.standing), now) {
                Ok(standing) => found.insert(row.actor, Ok(standing.access)),
                Err(ReadError::Denied(denied)) => found.insert(row.actor, Err(denied)),
                Err(fault) => return Err(fault),
            };
        }
        Ok(found)
    }

    /// The actor's standing in an organization, at the price of one statement.
    pub async fn organization_standing(
        &self,
        actor: Actor,
        which: Which<'_>,
    ) -> Result<OrganizationStanding, ReadError> {
        let now = self.now();
        let row = match organization_sql(actor, which, now) {
            Some(sql) => self.reader().one(sql).await?,
            // To a machine there is no organization: it has its workspace.
            None => {
                self.let_in(actor).await?;
                Some(OrganizationRow(None))
            }
        };
        judge_organization(actor, row, now)
    }

    /// The actor's standing in each of those organizations where they have one.
    pub async fn organization_standings_of(
        &self,
        actor: Actor,
        organizations: &[OrganizationId],
    ) -> Result<Vec<OrganizationStanding>, ReadError> {
        let now = self.now();
        let Some(sql) = organizations_sql(actor, &organization_columns(), now) else {
            return Ok(Vec::new());
        };
        let sql = sql.push(" AND o.id IN ").bind_list(organizations.iter().map(|id| id.uuid()));
        let rows: Vec<OrganizationRow> = self.reader().all(sql).await?;
        rows.into_iter().map(|row| judge_organization(actor, Some(row), now)).collect()
    }

    /// The actor's standing in each of their organizations, by age.
    pub async fn organization_standings(
        &self,
        actor: Actor,
        page: &PageArgs<Uuid>,
    ) -> Result<Page<OrganizationStanding>, ReadError> {
        let now = self.now();
        let Some(sql) = organizations_sql(actor, &organization_columns(), now) else {
            return Ok(Page::cut(page, Vec::new()));
        };
        let rows: Vec<OrganizationRow> = self.reader().all(page_by(sql, page, "o.id")).await?;
        let standings = rows.into_iter().map(|row| judge_organization(actor, Some(row), now));
        Ok(Page::cut(page, standings.collect::<Result<_, _>>()?))
    }

    /// How many organizations [`Db::organization_standings`] lists in all.
    pub async fn count_organization_standings(&self, actor: Actor) -> Result<u64, ReadError> {
        let Some(sql) = organizations_sql(actor, "count(*)", self.now()) else { return Ok(0) };
        count(self.reader().one(sql).await?)
    }

    /// Reads of this module need no proof: what they read *is* how a proof is come by.
    fn reader(&self) -> Read<'_> {
        #[expect(clippy::disallowed_methods, reason = "loading the facts of which a proof is made")]
        self.read(&guildhall_domain::access::System::named("access"))
    }
}

/// Denies unless the actor is still let in.
pub(crate) async fn let_in(
    conn: &impl ConnectionTrait,
    actor: Actor,
    now: DateTime<Utc>,
) -> Result<LetIn, ReadError> {
    let row: Option<sql::Single<i32>> = sql::one(conn, alive_sql(actor, now)).await?;
    Ok(LetIn::assess(actor, row.is_some())?)
}

/// The actor's rights in a workspace, within a transaction.
pub(crate) async fn workspace_by_id(
    conn: &impl ConnectionTrait,
    actor: Actor,
    workspace: WorkspaceId,
    now: DateTime<Utc>,
) -> Result<Arc<WorkspaceAccess>, ReadError> {
    let sql = workspace_sql(actor, "w.id", workspace.uuid(), now);
    let row = match actor.person() {
        Some(_) => sql::one(conn, sql).await?,
        None => sql::one::<MachineRow>(conn, sql).await?.map(StandingRow::from),
    };
    Ok(judge(actor, row, now)?.access)
}

/// The actor's rights in an organization, within a transaction.
pub(crate) async fn organization(
    conn: &impl ConnectionTrait,
    actor: Actor,
    organization: OrganizationId,
    now: DateTime<Utc>,
) -> Result<Arc<OrganizationAccess>, ReadError> {
    let sql = organization_sql(actor, Which::Id(organization), now).ok_or(Denied::NotFound)?;
    let row = sql::one(conn, sql).await?;
    Ok(judge_organization(actor, row, now)?.access)
}

/// What somebody holds in a workspace, whether or not they are signed in: nothing while they are disabled. What the
/// organization demands of whoever comes in takes nothing of it: they have it still, and come back to it.
pub(crate) async fn held_by(
    tx: &Tx<'_>,
    user: UserId,
    workspace: WorkspaceId,
) -> Result<PermissionSet, Fault> {
    let sql = Sql::new(format!(
        "SELECT {POLICY_COLUMNS}, {STANDING_COLUMNS} FROM workspaces w \
         JOIN organizations o ON o.id = w.organization_id \
         JOIN users u ON u.id = $1 AND u.status <> 'DISABLED' \
         JOIN organization_members om ON om.user_id = u.id AND om.organization_id = w.organization_id \
             AND om.status = 'ACTIVE' \
         {MEMBERSHIP_JOINS} WHERE w.id = $2"
    ))
    .values([user.uuid().into(), workspace.uuid().into(), tx.now().into()]);
    Ok(tx.one::<Held>(sql).await?.map_or(PermissionSet::EMPTY, |Held(held)| held))
}

#[derive(Debug)]
struct Held(PermissionSet);

impl FromQueryResult for Held {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        let member = row.try_get::<Option<Uuid>>(prefix, "membership_id")?.is_some();
        let role = if member { Some(role(row, prefix)?.permissions) } else { None };
        Ok(Self(policy(row, prefix)?.in_workspace(role, organization_role(row, prefix)?)))
    }
}

/// Keeps of the workspaces `w` those that the actor may know of, so that what is in another one costs no
/// more to be refused than what does not exist.
pub(crate) fn in_sight(sql: Sql, actor: Actor) -> Sql {
    let user = match actor {
        Actor::User { user, .. } => user,
        Actor::Key { .. } | Actor::ServiceAccount { .. } => {
            return sql
                .push(" AND w.id IN (SELECT workspace_id FROM api_keys WHERE id = ")
                .bind(actor.uuid())
                .push(" UNION ALL SELECT workspace_id FROM service_accounts WHERE id = ")
                .bind(actor.uuid())
                .push(")");
        }
    };
    sql.push(
        " AND EXISTS (SELECT 1 FROM organization_members om WHERE om.organization_id = w.organization_id \
         AND om.status = 'ACTIVE' AND om.user_id = ",
    )
    .bind(user.uuid())
    .push(
        " AND (om.role <> 'MEMBER' OR EXISTS (SELECT 1 FROM memberships mine \
         WHERE mine.workspace_id = w.id AND mine.user_id = om.user_id)))",
    )
}

/// The columns of a machine's rights: its role, and what it is limited to. Of a key (alias `k`), and of a service account.
const KEY_COLUMNS: &str = concat!("k.permissions AS machine_limit, ", role_columns!());
const ACCOUNT_COLUMNS: &str = concat!("NULL AS machine_limit, ", role_columns!());

/// A key (alias `k`), and the service account it is of, if it is one's.
const KEYS: &str = "api_keys k LEFT JOIN service_accounts sa ON sa.id = k.service_account_id \
     LEFT JOIN roles r ON r.id = sa.role_id";
const ACCOUNTS: &str = "service_accounts sa JOIN roles r ON r.id = sa.role_id";

/// Narrows to the machine (alias `k` or `sa`) if what it shows is still good.
fn where_live(sql: Sql, actor: Actor, now: DateTime<Utc>) -> Sql {
    match actor {
        Actor::User { user, session } => sql
            .push("s.id = ")
            .bind(session.uuid())
            .push(" AND s.user_id = ")
            .bind(user.uuid())
            .push(" AND s.ended_at IS NULL AND s.expires_at > ")
            .bind(now),
        Actor::Key { key, hash } => sql
            .push("k.id = ")
            .bind(key.uuid())
            .push(" AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > ")
            .bind(now)
            .push(") AND (k.secret_hash = ")
            .bind(hash.to_vec())
            .push(" OR k.previous_hash = ")
            .bind(hash.to_vec())
            .push(" AND k.previous_until > ")
            .bind(now)
            .push(")"),
        Actor::ServiceAccount { account, generation } => {
            sql.push("sa.id = ").bind(account.uuid()).push(" AND sa.generation = ").bind(generation)
        }
    }
}

fn alive_sql(actor: Actor, now: DateTime<Utc>) -> Sql {
    const IN_USE: &str = "AND w.status = 'ACTIVE' WHERE ";
    let from = match actor {
        Actor::User { .. } => format!("{LIVE_SESSION} WHERE "),
        Actor::Key { .. } => format!("{KEYS} JOIN workspaces w ON w.id = k.workspace_id {IN_USE}"),
        Actor::ServiceAccount { .. } => {
            format!("{ACCOUNTS} JOIN workspaces w ON w.id = sa.workspace_id {IN_USE}")
        }
    };
    where_live(Sql::new(format!("SELECT 1 FROM {from}")), actor, now)
}

fn workspace_sql(actor: Actor, found_by: &str, value: impl Into<sea_orm::Value>, now: DateTime<Utc>) -> Sql {
    let (columns, from, own) = match actor {
        Actor::User { user, session } => {
            return person_sql(user, session, now, &format!("{found_by} = $4")).values([value.into()]);
        }
        Actor::Key { .. } => (KEY_COLUMNS, KEYS, "k.workspace_id"),
        Actor::ServiceAccount { .. } => (ACCOUNT_COLUMNS, ACCOUNTS, "sa.workspace_id"),
    };
    let sql = Sql::new(format!(
        "SELECT {WORKSPACE_COLUMNS}, {POLICY_COLUMNS}, {columns} FROM {from} \
         LEFT JOIN workspaces w ON w.id = {own} AND {found_by} = "
    ))
    .bind(value)
    .push(" LEFT JOIN organizations o ON o.id = w.organization_id WHERE ");
    where_live(sql, actor, now)
}

/// The standing of a person in the workspace that `found_by` finds.
fn person_sql(user: UserId, session: SessionId, now: DateTime<Utc>, found_by: &str) -> Sql {
    // Left joins throughout, so that one statement tells a dead session (no row) from an unknown workspace
    // (a row of nulls), and an unknown workspace costs what a foreign one costs.
    Sql::new(format!(
        "SELECT {WORKSPACE_COLUMNS}, {POLICY_COLUMNS}, {STANDING_COLUMNS}, {ENTRANCE_COLUMNS} FROM {LIVE_SESSION} \
         LEFT JOIN workspaces w ON {found_by} \
         LEFT JOIN organizations o ON o.id = w.organization_id \
         LEFT JOIN organization_members om ON om.user_id = u.id AND om.organization_id = w.organization_id \
             AND om.status = 'ACTIVE' \
         {MEMBERSHIP_JOINS} WHERE {IS_LIVE}"
    ))
    .values([session.uuid().into(), user.uuid().into(), now.into()])
}

fn standings_sql(
    engine: Engine,
    proof: &OwnSession,
    columns: &str,
    statuses: &[WorkspaceStatus],
    now: DateTime<Utc>,
) -> Sql {
    let sql = Sql::new(format!(
        "SELECT {columns} FROM {LIVE_SESSION} \
         JOIN organization_members om ON om.user_id = u.id AND om.status = 'ACTIVE' \
         JOIN organizations o ON o.id = om.organization_id \
         JOIN workspaces w ON w.organization_id = o.id \
         {MEMBERSHIP_JOINS} WHERE {IS_LIVE} AND (m.id IS NOT NULL OR om.role <> 'MEMBER') AND w.status IN "
    ))
    .values([proof.session().uuid().into(), proof.user().uuid().into(), now.into()]);
    let sql = sql.bind_list(statuses.iter().map(|status| status.word()));
    where_nothing_is_demanded(sql, engine, "om", "u.second_factor_at IS NOT NULL", now)
}

/// Keeps what is of an organization `o` that demands nothing more of the person whose place in it is `place`, in the session
/// `s`: [`OrganizationPolicy::unmet`] for the database, which counts by it.
pub(crate) fn where_nothing_is_demanded(
    sql: Sql,
    engine: Engine,
    place: &str,
    has_second_factor: &str,
    now: DateTime<Utc>,
) -> Sql {
    const BY_OWN: &str = "COALESCE(s.identity_provider_id = o.identity_provider_id, FALSE)";
    let sql = sql.push(&format!(
        " AND (o.password_sign_in OR {place}.role = 'OWNER' OR {BY_OWN}) \
         AND (s.identity_provider_id IS NULL OR {BY_OWN}) \
         AND (o.two_factor_required_since IS NULL OR {BY_OWN} OR {has_second_factor} OR "
    ));
    match engine {
        Engine::Postgres => sql
            .push(&format!(
                "GREATEST(o.two_factor_required_since, {place}.created_at) \
                 + o.two_factor_grace_hours * INTERVAL '1 hour' > "
            ))
            .bind(now)
            .push(")"),
        Engine::Sqlite => sql
            .push(&format!(
                "julianday(max(o.two_factor_required_since, {place}.created_at)) \
                 + o.two_factor_grace_hours / 24.0 > julianday("
            ))
            .bind(now)
            .push("))"),
    }
}

/// Whether the actor's session opens an organization, whatever else that demands: any where a password opened the session,
/// and its own alone where an identity provider did. `organization` is the column that says which is meant.
pub(crate) fn opens(proof: &OwnSession, organization: &str) -> Sql {
    Sql::new("EXISTS (SELECT 1 FROM sessions s WHERE s.id = ").bind(proof.session().uuid()).push(&format!(
        " AND (s.identity_provider_id IS NULL OR s.identity_provider_id = \
         (SELECT own.identity_provider_id FROM organizations own WHERE own.id = {organization})))"
    ))
}

/// Whether the role (alias `ar`) counts as an admin's: [`Role::administers`] for the database.
pub(crate) const ADMINISTERS: &str = "(ar.organization_id IS NULL AND ar.key = 'ADMIN' \
     OR ar.permissions LIKE '%\"members.manage\"%' AND ar.permissions LIKE '%\"members.invite\"%')";

/// What the membership `m` of the workspace `w` needs to count as an admin's, beside a role (alias `ar`) that
/// [`ADMINISTERS`] and no end: an account in use, and an active place in the organization.
pub(crate) const EFFECTIVE_ADMIN_JOINS: &str = "JOIN roles ar ON ar.id = m.role_id \
     JOIN users u ON u.id = m.user_id AND u.status = 'ACTIVE' \
     JOIN organization_members om ON om.user_id = m.user_id AND om.organization_id = w.organization_id \
         AND om.status = 'ACTIVE'";

/// The effective admins of the workspace `w`, as what `EXISTS` asks for: members (alias `m`) with an administering role
/// that does not expire, whose account is in use and who are active in the organization. A condition may follow.
pub(crate) fn effective_admins() -> String {
    format!(
        "SELECT 1 FROM memberships m {EFFECTIVE_ADMIN_JOINS} \
         WHERE m.workspace_id = w.id AND m.expires_at IS NULL AND {ADMINISTERS}"
    )
}

/// Whether the person `u` administers a workspace (alias `aw`) of the organization `o`; `which` may narrow which. `$3` is
/// the moment.
pub(crate) fn administers_a_workspace(which: &str) -> String {
    format!(
        "EXISTS (\
             SELECT 1 FROM memberships am JOIN workspaces aw ON aw.id = am.workspace_id JOIN roles ar ON ar.id = am.role_id \
             WHERE am.user_id = u.id AND aw.organization_id = o.id AND (am.expires_at IS NULL OR am.expires_at > $3) \
             AND {ADMINISTERS}{which}) AS administers"
    )
}

/// The columns of an organization (alias `o`), its policy, the actor's role in it, and whether they administer one of its
/// workspaces. `$3` is the moment.
fn organization_columns() -> String {
    format!(
        "o.id AS organization_id, o.slug AS slug, o.name AS name, o.created_at AS created_at, {POLICY_COLUMNS}, \
         om.role AS organization_role, {ENTRANCE_COLUMNS}, {}, {}",
        arrival_columns!(),
        administers_a_workspace("")
    )
}

/// `None` for a machine.
fn organization_sql(actor: Actor, which: Which<'_>, now: DateTime<Utc>) -> Option<Sql> {
    let Actor::User { user, session } = actor else { return None };
    let found_by = match which {
        Which::Earliest => "",
        Which::Id(_) => "AND o.id = $4",
        Which::Slug(_) => "AND o.slug = $4",
    };
    // A left join, for the same reasons as in `workspace_sql`.
    let sql = Sql::new(format!(
        "SELECT {} FROM {LIVE_SESSION} \
         LEFT JOIN (organization_members om JOIN organizations o ON o.id = om.organization_id) \
             ON om.user_id = u.id AND om.status = 'ACTIVE' {found_by} \
         WHERE {IS_LIVE} ORDER BY om.created_at, o.id LIMIT 1",
        organization_columns()
    ))
    .values([session.uuid().into(), user.uuid().into(), now.into()]);
    Some(match which {
        Which::Earliest => sql,
        Which::Id(id) => sql.values([id.uuid().into()]),
        Which::Slug(slug) => sql.values([slug.into()]),
    })
}

/// `None` for a machine.
fn organizations_sql(actor: Actor, columns: &str, now: DateTime<Utc>) -> Option<Sql> {
    let Actor::User { user, session } = actor else { return None };
    let sql = Sql::new(format!(
        "SELECT {columns} FROM {LIVE_SESSION} \
         JOIN organization_members om ON om.user_id = u.id AND om.status = 'ACTIVE' \
         JOIN organizations o ON o.id = om.organization_id WHERE {IS_LIVE}"
    ));
    Some(sql.values([session.uuid().into(), user.uuid().into(), now.into()]))
}

/// A row of [`workspace_sql`] and [`standings_sql`].
#[derive(Debug)]
struct StandingRow {
    workspace: Option<Workspace>,
    facts: Option<WorkspaceFacts>,
}

impl StandingRow {
    /// `place` reads what the actor is there.
    fn read(
        row: &QueryResult,
        prefix: &str,
        place: impl FnOnce(&QueryResult, &str) -> Result<Place, DbErr>,
    ) -> Result<Self, DbErr> {
        if row.try_get::<Option<Uuid>>(prefix, "id")?.is_none() {
            return Ok(Self { workspace: None, facts: None });
        }
        let workspace = Workspace::from_query_result(row, prefix)?;
        let facts = WorkspaceFacts {
            workspace: workspace.id,
            organization: workspace.organization,
            status: workspace.status,
            policy: policy(row, prefix)?,
            place: place(row, prefix)?,
        };
        Ok(Self { workspace: Some(workspace), facts: Some(facts) })
    }
}

impl FromQueryResult for StandingRow {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        Self::read(row, prefix, |row, prefix| {
            let membership = row
                .try_get::<Option<Uuid>>(prefix, "membership_id")?
                .map(|id| Ok::<_, DbErr>((id.into(), role(row, prefix)?)))
                .transpose()?;
            let by = entrance(row, prefix)?;
            Ok(Place::Person {
                organization_role: organization_role(row, prefix)?.map(|role| by.caps(role)),
                membership,
                arrival: arrival(row, prefix, by)?,
            })
        })
    }
}

/// The same of a machine.
#[derive(Debug)]
struct MachineRow(StandingRow);

impl FromQueryResult for MachineRow {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        StandingRow::read(row, prefix, |row, prefix| Ok(Place::Machine(machine_rights(row, prefix)?)))
            .map(Self)
    }
}

impl From<MachineRow> for StandingRow {
    fn from(MachineRow(row): MachineRow) -> Self {
        row
    }
}

/// A row of [`Db::accesses`].
#[derive(Debug)]
struct SessionStanding {
    actor: Actor,
    standing: StandingRow,
}

impl FromQueryResult for SessionStanding {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        let user = row.try_get::<Uuid>(prefix, "session_user")?.into();
        let session = row.try_get::<Uuid>(prefix, "session_id")?.into();
        Ok(Self {
            actor: Actor::User { user, session },
            standing: StandingRow::from_query_result(row, prefix)?,
        })
    }
}

fn judge(actor: Actor, row: Option<StandingRow>, now: DateTime<Utc>) -> Result<Standing, ReadError> {
    let row = row.ok_or(Denied::SignedOut)?;
    match (row.workspace, row.facts) {
        (Some(workspace), Some(facts)) => {
            Ok(Standing { access: WorkspaceAccess::assess(actor, facts, now)?, workspace })
        }
        _ => Err(Denied::NotFound.into()),
    }
}

/// A list leaves out what is denied.
fn seen<T>(judged: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
    match judged {
        Err(ReadError::Denied(_)) => Ok(None),
        judged => judged.map(Some),
    }
}

/// A row of [`organization_sql`] and [`organizations_sql`].
#[derive(Debug)]
struct OrganizationRow(Option<(OrganizationFacts, Organization)>);

impl FromQueryResult for OrganizationRow {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        let Some(id) = row.try_get::<Option<Uuid>>(prefix, "organization_id")? else {
            return Ok(Self(None));
        };
        let organization = Organization {
            id: id.into(),
            slug: row.try_get(prefix, "slug")?,
            name: row.try_get(prefix, "name")?,
            created_at: row.try_get(prefix, "created_at")?,
        };
        let by = entrance(row, prefix)?;
        let facts = OrganizationFacts {
            organization: organization.id,
            policy: policy(row, prefix)?,
            role: organization_role(row, prefix)?.map(|role| by.caps(role)),
            administers_a_workspace: row.try_get(prefix, "administers")?,
            arrival: arrival(row, prefix, by)?,
        };
        Ok(Self(Some((facts, organization))))
    }
}

fn judge_organization(
    actor: Actor,
    row: Option<OrganizationRow>,
    now: DateTime<Utc>,
) -> Result<OrganizationStanding, ReadError> {
    let OrganizationRow(row) = row.ok_or(Denied::SignedOut)?;
    let (facts, organization) = row.ok_or(Denied::NotFound)?;
    Ok(OrganizationStanding { access: OrganizationAccess::assess(actor, facts, now)?, organization })
}

/// Reads one of a fixed set of words.
pub(crate) fn word<T>(word: &str, read: impl Fn(&str) -> Option<T>) -> Result<T, DbErr> {
    read(word).ok_or_else(|| DbErr::Type(format!("{word:?} is not a value this version knows")))
}

pub(crate) fn policy(row: &QueryResult, prefix: &str) -> Result<OrganizationPolicy, DbErr> {
    let text = |column: &str| row.try_get::<String>(prefix, column);
    let number = |column: &str| {
        let number = row.try_get::<Option<i32>>(prefix, column)?;
        Ok::<_, DbErr>(number.and_then(|number| u16::try_from(number).ok()))
    };
    Ok(OrganizationPolicy {
        workspace_creation: word(&text("workspace_creation")?, WorkspaceCreation::from_word)?,
        workspace_deletion: word(&text("workspace_deletion")?, WorkspaceDeletion::from_word)?,
        member_list_visibility: word(&text("member_list_visibility")?, MemberListVisibility::from_word)?,
        share_acceptance: word(&text("share_acceptance")?, ShareAcceptance::from_word)?,
        allow_reveal: row.try_get(prefix, "allow_reveal")?,
        invitation_lifetime_hours: number("invitation_lifetime_hours")?,
        api_key_max_lifetime_days: number("api_key_max_lifetime_days")?,
        login_activity_days: number("login_activity_days")?.unwrap_or(DEFAULT_DAYS),
        password_sign_in: row.try_get(prefix, "password_sign_in")?,
        two_factor_required_since: row.try_get(prefix, "two_factor_required_since")?,
        two_factor_grace_hours: number("two_factor_grace_hours")?.unwrap_or(0),
    })
}

/// How somebody comes into an organization; `None` where they have no place in it.
pub(crate) fn arrival(row: &QueryResult, prefix: &str, by: Entrance) -> Result<Option<Arrival>, DbErr> {
    let Some(joined_at) = row.try_get(prefix, "joined_at")? else { return Ok(None) };
    Ok(Some(Arrival {
        joined_at,
        has_second_factor: row.try_get(prefix, "has_second_factor")?,
        by,
        is_owner: organization_role(row, prefix)? == Some(OrganizationRole::Owner),
    }))
}

/// What opened the session of a row that has [`ENTRANCE_COLUMNS`].
fn entrance(row: &QueryResult, prefix: &str) -> Result<Entrance, DbErr> {
    let provider = |column| row.try_get::<Option<Uuid>>(prefix, column);
    let Some(opened_by) = provider("opened_by")? else { return Ok(Entrance::Password) };
    let is_own = provider("own_provider")? == Some(opened_by);
    Ok(if is_own { Entrance::OwnProvider } else { Entrance::OtherProvider })
}

pub(crate) fn organization_role(row: &QueryResult, prefix: &str) -> Result<Option<OrganizationRole>, DbErr> {
    row.try_get::<Option<String>>(prefix, "organization_role")?
        .map(|role| word(&role, OrganizationRole::from_word))
        .transpose()
}

/// The role of a row that has [`role_columns`].
pub(crate) fn role(row: &QueryResult, prefix: &str) -> Result<Role, DbErr> {
    let id: RoleId = row.try_get::<Uuid>(prefix, "role_id")?.into();
    if let Some(system) = SystemRole::from_id(id) {
        return Ok(system.into());
    }
    Ok(Role {
        id,
        key: row.try_get(prefix, "role_key")?,
        name: row.try_get(prefix, "role_name")?,
        description: row.try_get(prefix, "role_description")?,
        permissions: permissions(&row.try_get::<String>(prefix, "role_permissions")?)?,
    })
}

/// The permissions whose names are kept as that JSON. One that this version does not know gives nothing.
pub(crate) fn permissions(names: &str) -> Result<PermissionSet, DbErr> {
    let names: Vec<String> = serde_json::from_str(names).map_err(|error| DbErr::Json(error.to_string()))?;
    Ok(names.iter().filter_map(|name| Permission::from_name(name)).collect())
}

/// The same the other way round.
pub(crate) fn names_of(permissions: PermissionSet) -> Result<String, Fault> {
    let names: Vec<&str> = permissions.iter().map(|permission| permission.name()).collect();
    serde_json::to_string(&names).map_err(|error| Fault::Stored(error.to_string()))
}

fn machine_rights(row: &QueryResult, prefix: &str) -> Result<MachineRights, DbErr> {
    let limit = row.try_get::<Option<String>>(prefix, "machine_limit")?;
    let has_role = row.try_get::<Option<Uuid>>(prefix, "role_id")?.is_some();
    Ok(MachineRights {
        role: if has_role { Some(role(row, prefix)?) } else { None },
        limit: limit.map(|names| permissions(&names)).transpose()?,
    })
}

/// Adds the keyset of a page to a statement that ends in its `WHERE`; `key` is a unique column that sorts.
pub(crate) fn page_by(mut sql: Sql, page: &PageArgs<Uuid>, key: &str) -> Sql {
    if let Some(after) = page.after {
        sql = sql.push(&format!(" AND {key} > ")).bind(after);
    }
    if let Some(before) = page.before {
        sql = sql.push(&format!(" AND {key} < ")).bind(before);
    }
    let order = if page.backward { "DESC" } else { "ASC" };
    sql.push(&format!(" ORDER BY {key} {order}")).limit(i64::from(page.size) + 1)
}

/// How a list that people sort is ordered: the columns that sort it, the last of them unique.
pub(crate) struct Sorted {
    name: Option<String>,
    key: String,
}

impl Sorted {
    /// `name` is the column of names and `key` that of ids.
    pub(crate) fn by(db: &Db, order: Order, name: &str, key: &str) -> Self {
        // As `Position::of` has it: SQLite folds and compares so by itself.
        let name = match db.engine() {
            Engine::Postgres => format!("lower({name} COLLATE \"C\")"),
            Engine::Sqlite => format!("lower({name})"),
        };
        Self { name: order.by_name.then_some(name), key: key.to_owned() }
    }

    /// Only the rows between the cursors of a page of the list in ascending order.
    pub(crate) fn between(&self, mut sql: Sql, page: &PageArgs<Position>) -> Sql {
        for (place, side) in [(&page.after, ">"), (&page.before, "<")] {
            let Some(place) = place else { continue };
            sql = match &self.name {
                Some(name) => sql
                    .push(&format!(" AND ({name}, {}) {side} (", self.key))
                    .bind(place.name.clone())
                    .push(", ")
                    .bind(place.id)
                    .push(")"),
                None => sql.push(&format!(" AND {} {side} ", self.key)).bind(place.id),
            };
        }
        sql
    }

    /// What follows `ORDER BY`.
    pub(crate) fn order_by(&self, page: &PageArgs<Position>) -> String {
        let way = if page.backward { " DESC" } else { " ASC" };
        let name = self.name.as_ref().map(|name| format!("{name}{way}, ")).unwrap_or_default();
        format!("{name}{}{way}", self.key)
    }

    /// A page of what a statement that ends in its `WHERE` finds; one row more than it has.
    pub(crate) fn page(&self, sql: Sql, page: &PageArgs<Position>) -> Sql {
        let sql = self.between(sql, page).push(&format!(" ORDER BY {}", self.order_by(page)));
        sql.limit(i64::from(page.size) + 1)
    }
}

/// The pages of the lists that [`Sql::each`] asked for by [`page_by`], of its rows in the order of the keys.
pub(crate) fn pages_of<'a, T>(
    args: impl Iterator<Item = &'a PageArgs<Uuid>>,
    rows: Vec<sql::Placed<T>>,
) -> Vec<Page<T>> {
    let mut pages: Vec<_> = args.map(|args| (args, Vec::new())).collect();
    for sql::Placed { place, row } in rows {
        if let Some((_, rows)) = pages.get_mut(place) {
            rows.push(row);
        }
    }
    let cut = |(args, mut rows): (&PageArgs<Uuid>, Vec<T>)| {
        if args.backward {
            rows.reverse();
        }
        Page::cut(args, rows)
    };
    pages.into_iter().map(cut).collect()
}

/// The numbers that [`Sql::each`] asked for by `count(*) AS number`, in the order of the statements.
pub(crate) fn numbers_of(mut rows: Vec<sql::Placed<sql::Number>>) -> impl Iterator<Item = u64> {
    rows.sort_by_key(|row| row.place);
    rows.into_iter().map(|sql::Placed { row, .. }| row.into())
}

/// The answer to a `count(*)`.
pub(crate) fn count(row: Option<sql::Single<i64>>) -> Result<u64, ReadError> {
    Ok(row.map_or(0, |sql::Single(count)| u64::try_from(count).unwrap_or(0)))
}
