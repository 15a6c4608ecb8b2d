//! Quotas and usage: limits of organizations and workspaces, what is counted against them, and charts of it. Every check
//! is made in the transaction that uses what is limited, under a lock; what operations of machines use is counted ahead,
//! in [`calls`].
//!
//! Order of locks: whoever counts has locked the workspace's row. Then come the rows here: limits of seats by their number, or
//! totals, the workspace's before the organization's, and then what is charted; after them nothing but people and addresses.

pub mod calls;

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, Utc};
use guildhall_domain::{
    access::{Granted, Proof, System, perm},
    audit::{Action, Entry, ObjectKind},
    events::Event,
    ids::{OrganizationId, WorkspaceId},
    mail::{Letter, QuotaLetter},
    quotas::{
        AdjustUsageCode, Exceeded, Metric, QuotaScope, QuotaWindow, SetQuotaCode, SpendCreditsCode, is_near,
        judge,
    },
    refusal::Refusal,
};
use sea_orm::{FromQueryResult, Value};
use serde_json::json;
use uuid::Uuid;

use crate::{
    access::{ADMINISTERS, EFFECTIVE_ADMIN_JOINS},
    db::{Ask, Db, Engine, Tx},
    error::{Fault, OpError, ReadError},
    mails,
    sql::{Single, Sql},
};

/// How long it is known what was used on a day: two years, and some days, so that a chart can be compared with the one of the
/// year before.
pub const USAGE_LASTS: chrono::TimeDelta = chrono::TimeDelta::days(2 * 366);

/// The most admins who are warned by mail.
const MOST_LETTERS: i64 = 50;

/// Where something is used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) organization: OrganizationId,
    pub(crate) workspace: WorkspaceId,
}

/// A limit that is set.
#[derive(Debug, FromQueryResult)]
struct Limit {
    scope_id: Uuid,
    most: i64,
    warned_most: Option<i64>,
    warned_period: Option<String>,
}

/// What holds of a row: the smaller of what the admins and the operator say.
const MOST: &str = "CASE WHEN q.most IS NULL THEN q.ceiling WHEN q.ceiling IS NULL THEN q.most \
     WHEN q.most < q.ceiling THEN q.most ELSE q.ceiling END";

/// Whether the workspace `w` or its organization `o` limits seats: mostly not, and then nothing more is asked.
pub(crate) const LIMITS_SEATS: &str = "EXISTS (SELECT 1 FROM quotas q WHERE q.metric = 'MEMBERS' \
     AND q.scope_id IN (w.id, o.id) AND (q.most IS NOT NULL OR q.ceiling IS NOT NULL))";

/// The limits of those scopes. With `lock`, nobody else counts against them until the end of the transaction.
async fn limits(tx: &Tx<'_>, metric: Metric, scopes: &[Uuid], lock: bool) -> Result<Vec<Limit>, Fault> {
    let lock = if lock && tx.db().engine() == Engine::Postgres { " FOR NO KEY UPDATE" } else { "" };
    let sql = Sql::new(format!(
        "SELECT q.scope_id, {MOST} AS most, q.warned_most, q.warned_period FROM quotas q \
         WHERE (q.most IS NOT NULL OR q.ceiling IS NOT NULL) AND q.metric = "
    ))
    .bind(metric.word())
    .push(" AND q.scope_id IN ")
    .bind_list(scopes.iter().copied());
    // In one order, so that two who lock several do not wait for each other.
    tx.all(sql.push(" ORDER BY q.scope_id").push(lock)).await
}

fn stored(day: NaiveDate) -> String {
    day.format("%Y-%m-%d").to_string()
}

/// Counts so much more, or less where it is negative, or refuses; tells how much there is then. The workspace is locked.
pub(crate) async fn take(
    tx: &mut Tx<'_>,
    place: Place,
    metric: Metric,
    amount: i64,
) -> Result<Result<i64, Exceeded>, Fault> {
    let mut count = Count::begin(tx, place, metric).await?;
    for level in &count.levels {
        if let Err(exceeded) = judge(metric, level.scope, level.most(), level.used, amount, tx.now()) {
            return Ok(Err(exceeded));
        }
    }
    count.add(tx, amount).await?;
    Ok(Ok(count.levels[0].used))
}

/// Counting what is added up, in a workspace and its organization.
struct Count {
    place: Place,
    metric: Metric,
    period: NaiveDate,
    /// The workspace's, and the organization's.
    levels: [Level; 2],
}

struct Level {
    scope: QuotaScope,
    used: i64,
    limit: Option<Limit>,
}

impl Level {
    fn most(&self) -> Option<i64> {
        self.limit.as_ref().map(|limit| limit.most)
    }

    /// How much of it is left; `None`: there is no end.
    fn left(&self) -> Option<i64> {
        self.most().map(|most| (most - self.used).max(0))
    }
}

impl Count {
    /// Reads how much there is, and keeps others from counting until the end of the transaction.
    async fn begin(tx: &Tx<'_>, place: Place, metric: Metric) -> Result<Self, Fault> {
        #[derive(FromQueryResult)]
        struct Row {
            scope_id: Uuid,
            used: i64,
            period: String,
        }
        let period = metric.period(tx.now());
        let [workspace, organization] = [place.workspace.uuid(), place.organization.uuid()];
        // A clock that is behind does not bring back what another process has begun anew.
        let sql = Sql::new(
            "INSERT INTO usage_totals (scope_id, metric, organization_id, workspace_id, period, used) \
             VALUES ($1, $3, $2, $1, $4, 0), ($2, $3, $2, NULL, $4, 0) ON CONFLICT (scope_id, metric) DO UPDATE SET \
             used = CASE WHEN usage_totals.period >= excluded.period THEN usage_totals.used ELSE 0 END, \
             period = CASE WHEN usage_totals.period >= excluded.period THEN usage_totals.period ELSE excluded.period END \
             RETURNING scope_id, used, period",
        )
        .values([workspace.into(), organization.into(), metric.word().into(), stored(period).into()]);
        let mut rows: Vec<Row> = tx.all(sql).await?;
        // What another process has begun, whose clock is ahead, is begun, for both of them.
        let begun = rows.iter().filter_map(|row| row.period.parse::<NaiveDate>().ok()).max();
        let period = begun.map_or(period, |begun| begun.max(period));
        for row in rows.iter_mut().filter(|row| row.period < stored(period)) {
            let sql = Sql::new("UPDATE usage_totals SET used = 0, period = ")
                .bind(stored(period))
                .push(" WHERE metric = ")
                .bind(metric.word())
                .push(" AND scope_id = ")
                .bind(row.scope_id);
            tx.run(sql).await?;
            row.used = 0;
        }
        let used = |scope| rows.iter().find(|row| row.scope_id == scope).map_or(0, |row| row.used);
        let mut limits: HashMap<Uuid, Limit> = limits(tx, metric, &[workspace, organization], false)
            .await?
            .into_iter()
            .map(|limit| (limit.scope_id, limit))
            .collect();
        let mut level = |scope, id| Level { scope, used: used(id), limit: limits.remove(&id) };
        let levels = [level(QuotaScope::Workspace, workspace), level(QuotaScope::Organization, organization)];
        Ok(Self { place, metric, period, levels })
    }

    async fn add(&mut self, tx: &mut Tx<'_>, amount: i64) -> Result<(), Fault> {
        let Place { organization, workspace } = self.place;
        let sql = Sql::new("UPDATE usage_totals SET used = used + ")
            .bind(amount)
            .push(" WHERE metric = ")
            .bind(self.metric.word())
            .push(" AND scope_id IN ")
            .bind_list([workspace.uuid(), organization.uuid()]);
        tx.run(sql).await?;
        for level in &mut self.levels {
            level.used += amount;
        }
        // Of what starts anew a day's chart has what was used on it, of the rest how much there was at its end.
        let flows = self.metric.window() != QuotaWindow::None;
        let [here, everywhere] = self.levels.each_ref().map(|level| if flows { amount } else { level.used });
        let added = if flows { "usage_days.used + excluded.used" } else { "excluded.used" };
        let sql = Sql::new(format!(
            "INSERT INTO usage_days (scope_id, metric, organization_id, workspace_id, day, used) \
             VALUES ($1, $3, $2, $1, $4, $5), ($2, $3, $2, NULL, $4, $6) \
             ON CONFLICT (scope_id, metric, day) DO UPDATE SET used = {added}"
        ))
        .values([
            workspace.uuid().into(),
            organization.uuid().into(),
            self.metric.word().into(),
            stored(tx.now().date_naive()).into(),
            here.into(),
            everywhere.into(),
        ]);
        tx.defer(sql);
        for level in &self.levels {
            if let Some(limit) = &level.limit {
                warn(
                    tx,
                    self.place.organization,
                    Some(workspace),
                    self.metric,
                    self.period,
                    limit,
                    level.used,
                )
                .await?;
            }
        }
        Ok(())
    }
}

/// Warns the admins when nine tenths of a limit are used, once for each limit and period. Of what goes up and down a warning is
/// forgotten, so that the next one is told, once less than three quarters are used: what swings about the line floods nobody.
async fn warn(
    tx: &mut Tx<'_>,
    organization: OrganizationId,
    workspace: Option<WorkspaceId>,
    metric: Metric,
    period: NaiveDate,
    limit: &Limit,
    used: i64,
) -> Result<(), Fault> {
    let is_near = is_near(used, limit.most);
    let period = stored(period);
    let was_warned =
        limit.warned_most == Some(limit.most) && limit.warned_period.as_deref() == Some(&*period);
    let is_over = metric.window() == QuotaWindow::None
        && limit.warned_most.is_some()
        && i128::from(used) * 4 < i128::from(limit.most) * 3;
    if !(is_near && !was_warned || is_over) {
        return Ok(());
    }
    let sql = Sql::new("UPDATE quotas SET warned_most = ")
        .bind(is_near.then_some(limit.most))
        .push(", warned_period = ")
        .bind(is_near.then_some(period))
        .push(" WHERE metric = ")
        .bind(metric.word())
        .push(" AND scope_id = ")
        .bind(limit.scope_id);
    tx.run(sql).await?;
    if !is_near {
        return Ok(());
    }
    let scope = match workspace.is_some_and(|workspace| workspace.uuid() == limit.scope_id) {
        true => QuotaScope::Workspace,
        false => QuotaScope::Organization,
    };
    if let Some(workspace) = workspace {
        tx.append(Event::Quota { workspace, metric, scope });
    }
    for admin in admins(tx, organization, workspace, scope).await? {
        let letter = QuotaLetter {
            recipient_email: admin.email,
            recipient_name: admin.name,
            organization_name: admin.organization,
            workspace_name: (scope == QuotaScope::Workspace).then_some(admin.workspace).flatten(),
            what: metric.title().to_owned(),
            limit: limit.most,
            used,
            resets_at: metric.resets_at(tx.now()),
            link: tx.db().settings().app_url.clone(),
        };
        mails::enqueue(tx, None, &Letter::QuotaWarning(letter))?;
    }
    Ok(())
}

#[derive(FromQueryResult)]
struct Admin {
    email: String,
    name: String,
    organization: String,
    workspace: Option<String>,
}

/// Who can do something about a quota: the admins of the workspace, or of the organization.
async fn admins(
    tx: &Tx<'_>,
    organization: OrganizationId,
    workspace: Option<WorkspaceId>,
    scope: QuotaScope,
) -> Result<Vec<Admin>, Fault> {
    let sql = match (scope, workspace) {
        (QuotaScope::Workspace, Some(workspace)) => Sql::new(format!(
            "SELECT u.email, u.display_name AS name, o.name AS organization, w.display_name AS workspace \
             FROM workspaces w JOIN organizations o ON o.id = w.organization_id \
             JOIN memberships m ON m.workspace_id = w.id {EFFECTIVE_ADMIN_JOINS} \
             WHERE {ADMINISTERS} AND (m.expires_at IS NULL OR m.expires_at > "
        ))
        .bind(tx.now())
        .push(") AND w.id = ")
        .bind(workspace.uuid())
        .push(" ORDER BY m.id"),
        _ => Sql::new(
            "SELECT u.email, u.display_name AS name, o.name AS organization, NULL AS workspace FROM organizations o \
             JOIN organization_members om ON om.organization_id = o.id AND om.status = 'ACTIVE' AND om.role <> 'MEMBER' \
             JOIN users u ON u.id = om.user_id AND u.status = 'ACTIVE' WHERE o.id = ",
        )
        .bind(organization.uuid())
        .push(" ORDER BY om.created_at, u.id"),
    };
    tx.all(sql.limit(MOST_LETTERS)).await
}

/// What a seat is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seat {
    /// An invitation, which has one beside the members until it is answered.
    Invited,
    /// A member. Invitations that are pending do not stand in the way: theirs is one of those.
    Member,
}

/// The seats of workspaces, as `scope_id` and `used`, and whether the address `$1` has one already (`is_seated`); `$2` is
/// the moment. Members whose time is over and invitations that have expired have none.
fn seats_sql(seat: Seat, of_organization: bool) -> String {
    let invited = if seat == Seat::Invited { 1 } else { 0 };
    if of_organization {
        format!(
            "SELECT o.id AS scope_id, (SELECT count(*) FROM organization_members om WHERE om.organization_id = o.id) \
             + {invited} * (SELECT count(DISTINCT i.email) FROM invitations i WHERE i.organization_id = o.id \
                 AND i.status = 'PENDING' AND i.expires_at > $2 AND NOT EXISTS (SELECT 1 FROM users u \
                     JOIN organization_members om ON om.user_id = u.id AND om.organization_id = o.id WHERE u.email = i.email)) AS used, \
             (EXISTS (SELECT 1 FROM users u JOIN organization_members om ON om.user_id = u.id AND om.organization_id = o.id \
                 WHERE u.email = $1) \
              OR {invited} = 1 AND EXISTS (SELECT 1 FROM invitations i WHERE i.organization_id = o.id AND i.email = $1 \
                 AND i.status = 'PENDING' AND i.expires_at > $2)) AS is_seated \
             FROM organizations o WHERE o.id IN "
        )
    } else {
        format!(
            "SELECT w.id AS scope_id, (SELECT count(*) FROM memberships m WHERE m.workspace_id = w.id \
                 AND (m.expires_at IS NULL OR m.expires_at > $2)) \
             + {invited} * (SELECT count(*) FROM invitation_grants g JOIN invitations i ON i.id = g.invitation_id \
                 WHERE g.workspace_id = w.id AND g.pending AND i.expires_at > $2) AS used, \
             (EXISTS (SELECT 1 FROM memberships m JOIN users u ON u.id = m.user_id WHERE m.workspace_id = w.id \
                 AND u.email = $1 AND (m.expires_at IS NULL OR m.expires_at > $2)) \
              OR {invited} = 1 AND EXISTS (SELECT 1 FROM invitation_grants g JOIN invitations i ON i.id = g.invitation_id \
                 WHERE g.workspace_id = w.id AND g.pending AND g.email = $1 AND i.expires_at > $2)) AS is_seated \
             FROM workspaces w WHERE w.id IN "
        )
    }
}

#[derive(Debug, FromQueryResult)]
struct Seats {
    scope_id: Uuid,
    used: i64,
    is_seated: bool,
}

/// Locks how many seats the organization may have, for a [`seat`] that may be asked for later.
pub(crate) async fn lock_seats(tx: &Tx<'_>, organization: OrganizationId) -> Result<(), Fault> {
    limits(tx, Metric::Members, &[organization.uuid()], true).await?;
    Ok(())
}

/// Refuses whoever would be one too many in those workspaces, which are locked, or in their organization.
pub(crate) async fn seat(
    tx: &mut Tx<'_>,
    organization: OrganizationId,
    workspaces: &[WorkspaceId],
    email: &str,
    seat: Seat,
) -> Result<Result<(), Exceeded>, Fault> {
    let scopes: Vec<Uuid> = workspaces.iter().map(|id| id.uuid()).chain([organization.uuid()]).collect();
    let limits = limits(tx, Metric::Members, &scopes, true).await?;
    let mut used = Vec::new();
    for of_organization in [false, true] {
        let scopes: Vec<Uuid> = limits
            .iter()
            .map(|limit| limit.scope_id)
            .filter(|id| (*id == organization.uuid()) == of_organization)
            .collect();
        if !scopes.is_empty() {
            let sql = Sql::new(seats_sql(seat, of_organization))
                .values([email.into(), tx.now().into()])
                .bind_list(scopes);
            used.extend(tx.all::<Seats>(sql).await?);
        }
    }
    let one_more = |seats: &Seats| i64::from(!seats.is_seated);
    let found = |limit: &Limit| used.iter().find(|seats| seats.scope_id == limit.scope_id);
    for limit in &limits {
        let Some(seats) = found(limit) else { continue };
        let scope = match limit.scope_id == organization.uuid() {
            true => QuotaScope::Organization,
            false => QuotaScope::Workspace,
        };
        let most = Some(limit.most);
        if let Err(exceeded) = judge(Metric::Members, scope, most, seats.used, one_more(seats), tx.now()) {
            return Ok(Err(exceeded));
        }
    }
    if seat == Seat::Invited {
        let period = Metric::Members.period(tx.now());
        for limit in &limits {
            let Some(seats) = found(limit) else { continue };
            let workspace = match workspaces.iter().find(|id| id.uuid() == limit.scope_id) {
                Some(workspace) => Some(*workspace),
                None => workspaces.first().copied(),
            };
            let used = seats.used + one_more(seats);
            warn(tx, organization, workspace, Metric::Members, period, limit, used).await?;
        }
    }
    Ok(Ok(()))
}

/// Refuses one workspace too many. The organization is locked.
pub(crate) async fn room_for_workspace(
    tx: &mut Tx<'_>,
    organization: OrganizationId,
) -> Result<Result<(), Exceeded>, Fault> {
    let Some(limit) = limits(tx, Metric::Workspaces, &[organization.uuid()], false).await?.pop() else {
        return Ok(Ok(()));
    };
    let sql = Sql::new("SELECT count(*) FROM workspaces WHERE organization_id = ").bind(organization.uuid());
    let used = tx.one::<Single<i64>>(sql).await?.map_or(0, |Single(number)| number);
    let (metric, scope) = (Metric::Workspaces, QuotaScope::Organization);
    if let Err(exceeded) = judge(metric, scope, Some(limit.most), used, 1, tx.now()) {
        return Ok(Err(exceeded));
    }
    warn(tx, organization, None, metric, metric.period(tx.now()), &limit, used + 1).await?;
    Ok(Ok(()))
}

/// What an organization has less of when a workspace goes. What was used up stays used up.
pub(crate) async fn forget_workspace(tx: &Tx<'_>, place: Place) -> Result<(), Fault> {
    let sql = Sql::new(
        "UPDATE usage_totals SET used = used - COALESCE((SELECT here.used FROM usage_totals here WHERE here.scope_id = $2 \
         AND here.metric = usage_totals.metric), 0) WHERE scope_id = $1 AND metric IN ($3, $4)",
    )
    .values([
        place.organization.uuid().into(),
        place.workspace.uuid().into(),
        Metric::Items.word().into(),
        Metric::StorageBytes.word().into(),
    ]);
    tx.run(sql).await?;
    // Its chart, for the day on which it went.
    let sql = Sql::new(
        "INSERT INTO usage_days (scope_id, metric, organization_id, workspace_id, day, used) \
         SELECT t.scope_id, t.metric, t.organization_id, NULL, $2, t.used FROM usage_totals t \
         WHERE t.scope_id = $1 AND t.metric IN ($3, $4) \
         ON CONFLICT (scope_id, metric, day) DO UPDATE SET used = excluded.used",
    )
    .values([
        place.organization.uuid().into(),
        stored(tx.now().date_naive()).into(),
        Metric::Items.word().into(),
        Metric::StorageBytes.word().into(),
    ]);
    tx.run(sql).await?;
    Ok(())
}

/// A quota and what is used of it: of a workspace, or of an organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Of what.
    pub metric: Metric,
    /// Whose.
    pub scope: QuotaScope,
    /// What the organization's admins allow here.
    pub own: Option<i64>,
    /// What is allowed above: of a workspace, its organization; of an organization, the instance's operator.
    pub above: Option<i64>,
    /// How much there is here, or was used in this period.
    pub used: i64,
    /// The same of the whole organization.
    pub used_above: i64,
    /// When the count starts anew.
    pub resets_at: Option<DateTime<Utc>>,
}

impl Quota {
    /// What holds: the smaller of the two.
    pub fn limit(&self) -> Option<i64> {
        match (self.own, self.above) {
            (Some(own), Some(above)) => Some(own.min(above)),
            (own, above) => own.or(above),
        }
    }

    /// How much more there can be.
    pub fn left(&self) -> Option<i64> {
        let own = self.own.map(|most| most.saturating_sub(self.used));
        let above = self.above.map(|most| {
            let used = if self.scope == QuotaScope::Workspace { self.used_above } else { self.used };
            most.saturating_sub(used)
        });
        own.into_iter().chain(above).min().map(|left| left.max(0))
    }
}

#[derive(FromQueryResult)]
struct LimitRow {
    scope_id: Uuid,
    metric: String,
    own: Option<i64>,
    ceiling: Option<i64>,
}

#[derive(FromQueryResult)]
struct UsedRow {
    scope_id: Uuid,
    metric: String,
    period: String,
    used: i64,
}

/// The quotas of workspaces: of each the same metrics, in the order of the enum. Whoever may see one sees what is used of its
/// organization's too.
pub async fn of_workspaces(
    db: &Db,
    proofs: &[&Granted<perm::QuotaView>],
) -> Result<HashMap<WorkspaceId, Vec<Quota>>, ReadError> {
    let Some(first) = proofs.first() else { return Ok(HashMap::new()) };
    let places: Vec<Place> = proofs
        .iter()
        .map(|proof| Place {
            organization: proof.access().organization(),
            workspace: proof.access().workspace(),
        })
        .collect();
    read(&db.read(*first), &places, &[]).await.map(|(workspaces, _)| workspaces)
}

/// The quotas of an organization.
pub async fn of_organization(
    db: &Db,
    proof: &Granted<perm::OrganizationManage>,
) -> Result<Vec<Quota>, ReadError> {
    let organization = proof.access().organization();
    let (_, mut found) = read(&db.read(proof), &[], &[organization]).await?;
    Ok(found.remove(&organization).unwrap_or_default())
}

type Found = (HashMap<WorkspaceId, Vec<Quota>>, HashMap<OrganizationId, Vec<Quota>>);

/// Three statements, however many there are.
async fn read(ask: &impl Ask, places: &[Place], alone: &[OrganizationId]) -> Result<Found, ReadError> {
    let mut organizations: Vec<Uuid> = places
        .iter()
        .map(|place| place.organization)
        .chain(alone.iter().copied())
        .map(|id| id.uuid())
        .collect();
    organizations.sort_unstable();
    organizations.dedup();
    let scopes: Vec<Uuid> =
        places.iter().map(|place| place.workspace.uuid()).chain(organizations.iter().copied()).collect();
    let now = ask.now();

    let sql =
        Sql::new("SELECT q.scope_id, q.metric, q.most AS own, q.ceiling FROM quotas q WHERE q.scope_id IN ");
    let limits: Vec<LimitRow> = ask.all(sql.bind_list(scopes.iter().copied())).await?;
    let sql =
        Sql::new("SELECT t.scope_id, t.metric, t.period, t.used FROM usage_totals t WHERE t.scope_id IN ");
    let mut used: Vec<UsedRow> = ask.all(sql.bind_list(scopes)).await?;
    let workspaces = places.iter().map(|place| place.workspace.uuid());
    used.extend(ask.all::<UsedRow>(counted_sql(workspaces, &organizations, now)).await?);

    let row = |scope: Uuid, metric: Metric| {
        limits.iter().find(|row| row.scope_id == scope && row.metric == metric.word())
    };
    let used = |scope: Uuid, metric: Metric| {
        let period = stored(metric.period(now));
        let is_present = |row: &&UsedRow| {
            row.scope_id == scope
                && row.metric == metric.word()
                && (row.period >= period || row.period.is_empty())
        };
        used.iter().find(is_present).map_or(0, |row| row.used)
    };
    let most = |row: &LimitRow| match (row.own, row.ceiling) {
        (Some(own), Some(ceiling)) => Some(own.min(ceiling)),
        (own, ceiling) => own.or(ceiling),
    };
    let of_workspaces = places.iter().map(|place| {
        let (here, above) = (place.workspace.uuid(), place.organization.uuid());
        let quota = |metric: &Metric| Quota {
            metric: *metric,
            scope: QuotaScope::Workspace,
            own: row(here, *metric).and_then(|row| row.own),
            above: row(above, *metric).and_then(most),
            used: used(here, *metric),
            used_above: used(above, *metric),
            resets_at: metric.resets_at(now),
        };
        let metrics = Metric::ALL.iter().filter(|metric| metric.is_of_workspaces());
        (place.workspace, metrics.map(quota).collect())
    });
    let of_organizations = organizations.iter().map(|id| {
        let quota = |metric: &Metric| Quota {
            metric: *metric,
            scope: QuotaScope::Organization,
            own: row(*id, *metric).and_then(|row| row.own),
            above: row(*id, *metric).and_then(|row| row.ceiling),
            used: used(*id, *metric),
            used_above: used(*id, *metric),
            resets_at: metric.resets_at(now),
        };
        ((*id).into(), Metric::ALL.iter().map(quota).collect())
    });
    Ok((of_workspaces.collect(), of_organizations.collect()))
}

/// What is counted where it stands: seats and workspaces.
fn counted_sql(workspaces: impl Iterator<Item = Uuid>, organizations: &[Uuid], now: DateTime<Utc>) -> Sql {
    let metric = |metric: Metric| format!("'{}' AS metric, '' AS period", metric.word());
    let seats = metric(Metric::Members);
    // The address is nobody's: who is asked about has no part in it.
    let address = |sql: Sql| sql.values([Value::from(""), now.into()]);
    let here = address(Sql::new(format!(
        "SELECT scope_id, {seats}, used FROM ({}",
        seats_sql(Seat::Invited, false)
    )))
    .bind_list(workspaces)
    .push(") AS here");
    let everywhere =
        address(Sql::new(format!("SELECT scope_id, {seats}, used FROM ({}", seats_sql(Seat::Invited, true))))
            .bind_list(organizations.iter().copied())
            .push(") AS everywhere");
    let number = Sql::new(format!(
        "SELECT o.id AS scope_id, {}, (SELECT count(*) FROM workspaces w WHERE w.organization_id = o.id) AS used \
         FROM organizations o WHERE o.id IN ",
        metric(Metric::Workspaces)
    ))
    .bind_list(organizations.iter().copied());
    here.push(" UNION ALL ").append(everywhere).push(" UNION ALL ").append(number)
}

/// Sets a limit, or takes it away: of the organization, or of one of its workspaces. Below what is there already nothing is
/// taken away, and nothing more let in.
pub async fn set(
    db: &Db,
    proof: &Granted<perm::OrganizationManage>,
    workspace: Option<WorkspaceId>,
    metric: Metric,
    most: Option<i64>,
) -> Result<Quota, OpError<SetQuotaCode>> {
    db.write(proof, async |tx| {
        let organization = proof.access().organization();
        let id = workspace.map_or(organization.uuid(), |workspace| workspace.uuid());
        let sql = Sql::new(
            "SELECT w.display_name FROM workspaces w WHERE w.organization_id = $1 AND w.id = $2 \
             UNION ALL SELECT o.name FROM organizations o WHERE o.id = $1 AND o.id = $2",
        )
        .values([organization.uuid().into(), id.into()]);
        let Some(Single(name)) = tx.one::<Single<String>>(sql).await? else {
            return Err(Refusal::new(
                SetQuotaCode::NotFound,
                "`workspaceId` is no workspace of this organization.",
            )
            .at("workspaceId")
            .into());
        };
        let was = write_limit(tx, organization, workspace, metric, "most", most).await?;
        let told = |most: Option<i64>| json!({ "metric": metric.word(), "limit": most });
        let object = match workspace {
            Some(workspace) => Entry::of(Action::SetQuota, ObjectKind::Workspace, workspace, name),
            None => Entry::of(Action::SetQuota, ObjectKind::Organization, organization, name),
        };
        // Which metric it is stands there also when only the limit changed.
        let entry = object.in_workspace(workspace).before(told(was)).after(told(most));
        match was == most {
            true => tx.unaudited("the limit is what it was"),
            false => tx.audit(&entry)?,
        }
        let (mut workspaces, mut organizations) = match workspace {
            Some(workspace) => read(tx, &[Place { organization, workspace }], &[]).await?,
            None => read(tx, &[], &[organization]).await?,
        };
        let quotas = match workspace {
            Some(workspace) => workspaces.remove(&workspace),
            None => organizations.remove(&organization),
        };
        quotas
            .into_iter()
            .flatten()
            .find(|quota| quota.metric == metric)
            .ok_or_else(|| Fault::Stored(format!("no quota of {}", metric.word())).into())
    })
    .await
}

/// Writes a limit, and tells what it was. The organization is locked.
async fn write_limit(
    tx: &Tx<'_>,
    organization: OrganizationId,
    workspace: Option<WorkspaceId>,
    metric: Metric,
    column: &str,
    most: Option<i64>,
) -> Result<Option<i64>, Fault> {
    let id = workspace.map_or(organization.uuid(), |workspace| workspace.uuid());
    let sql = Sql::new(format!("SELECT {column} FROM quotas WHERE scope_id = ")).bind(id);
    let sql = sql.push(" AND metric = ").bind(metric.word());
    let was = tx.one::<Single<Option<i64>>>(sql).await?.and_then(|Single(most)| most);
    let sql = Sql::new(format!(
        "INSERT INTO quotas (scope_id, metric, organization_id, workspace_id, {column}, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (scope_id, metric) \
         DO UPDATE SET {column} = excluded.{column}, updated_at = excluded.updated_at"
    ))
    .values([
        id.into(),
        metric.word().into(),
        organization.uuid().into(),
        workspace.map(WorkspaceId::uuid).into(),
        most.into(),
        tx.now().into(),
    ]);
    tx.run(sql).await?;
    Ok(was)
}

/// For an operator: sets what an organization may have at the most, whatever its admins say, or takes that away. Answers
/// the organization's name, or `None` for an unknown slug.
pub async fn set_ceiling(
    db: &Db,
    proof: &System,
    slug: &str,
    metric: Metric,
    most: Option<i64>,
) -> Result<Option<String>, Fault> {
    db.write(proof, async |tx| {
        let sql = Sql::new("SELECT id FROM organizations WHERE slug = ").bind(slug);
        let Some(Single(id)) = tx.one::<Single<Uuid>>(sql).await? else { return Ok(None) };
        let organization = OrganizationId::from(id);
        tx.lock_organization(organization).await?;
        let sql = Sql::new("SELECT name FROM organizations WHERE id = ").bind(id);
        let name = tx.one::<Single<String>>(sql).await?.map_or_else(String::new, |Single(name)| name);
        let was = write_limit(tx, organization, None, metric, "ceiling", most).await?;
        let told = |most: Option<i64>| json!({ "metric": metric.word(), "limit": most });
        let entry = Entry::of(Action::AdminSetQuota, ObjectKind::Organization, organization, name.as_str());
        tx.audit(&entry.in_organization(organization).before(told(was)).after(told(most)))?;
        Ok(Some(name))
    })
    .await
    .map_err(OpError::into_fault)
}

/// Spends credits on something costly, all or none.
pub async fn spend(
    db: &Db,
    proof: &Granted<perm::ItemRun>,
    amount: i64,
    purpose: &str,
) -> Result<Quota, OpError<SpendCreditsCode>> {
    db.write(proof, async |tx| {
        let place =
            Place { organization: proof.access().organization(), workspace: proof.access().workspace() };
        if let Err(exceeded) = take(tx, place, Metric::Credits, amount).await? {
            return Err(exceeded.refusal(SpendCreditsCode::QuotaExceeded).at("amount").into());
        }
        let object = Entry::of(Action::SpendCredits, ObjectKind::Workspace, place.workspace, purpose);
        tx.audit(&object.after(json!({ "credits": amount })))?;
        Ok(one(tx, place, Metric::Credits).await?)
    })
    .await
}

/// Says that there is so much more of something in the workspace, or less.
pub async fn adjust(
    db: &Db,
    proof: &Granted<perm::ItemWrite>,
    metric: Metric,
    by: i64,
) -> Result<Quota, OpError<AdjustUsageCode>> {
    db.write(proof, async |tx| {
        let place =
            Place { organization: proof.access().organization(), workspace: proof.access().workspace() };
        // A service that keeps something says so each time; who gives back, or is no service, is in the log.
        if by < 0 || proof.access().actor().person().is_some() {
            let entry = Entry::of(Action::AdjustUsage, ObjectKind::Workspace, place.workspace, metric.word());
            tx.audit(&entry.after(json!({ "metric": metric.word(), "by": by })))?;
        } else {
            tx.unaudited("what a service makes is charted, and the service's own to log");
        }
        match take(tx, place, metric, by).await? {
            Err(exceeded) => {
                return Err(exceeded.refusal(AdjustUsageCode::QuotaExceeded).at("by").into());
            }
            Ok(used) if used < 0 => {
                let message = format!("`by` takes away more than the {} there are.", used - by);
                return Err(Refusal::new(AdjustUsageCode::InvalidInput, message).at("by").into());
            }
            Ok(_) => {}
        }
        Ok(one(tx, place, metric).await?)
    })
    .await
}

async fn one(tx: &Tx<'_>, place: Place, metric: Metric) -> Result<Quota, ReadError> {
    let (mut workspaces, _) = read(tx, &[place], &[]).await?;
    let quotas = workspaces.remove(&place.workspace).unwrap_or_default();
    let found = quotas.into_iter().find(|quota| quota.metric == metric);
    found.ok_or_else(|| Fault::Stored(format!("no quota of {}", metric.word())).into())
}

#[derive(FromQueryResult)]
struct DayRow {
    day: String,
    used: i64,
}

/// What a workspace used on each of those days, or had at the end of it.
pub async fn usage(
    db: &Db,
    proof: &Granted<perm::QuotaView>,
    metric: Metric,
    days: &[NaiveDate],
) -> Result<Vec<i64>, ReadError> {
    let access = proof.access();
    let place = Place { organization: access.organization(), workspace: access.workspace() };
    chart(db, proof, access.workspace().uuid(), &[place], &[], metric, days).await
}

/// The same of an organization.
pub async fn organization_usage(
    db: &Db,
    proof: &Granted<perm::OrganizationManage>,
    metric: Metric,
    days: &[NaiveDate],
) -> Result<Vec<i64>, ReadError> {
    let organization = proof.access().organization();
    chart(db, proof, organization.uuid(), &[], &[organization], metric, days).await
}

async fn chart(
    db: &Db,
    proof: &impl Proof,
    scope: Uuid,
    places: &[Place],
    organizations: &[OrganizationId],
    metric: Metric,
    days: &[NaiveDate],
) -> Result<Vec<i64>, ReadError> {
    let (Some(first), Some(last)) = (days.first(), days.last()) else { return Ok(Vec::new()) };
    // How much there is on a day on which nothing changed was written on an earlier one.
    let sql = Sql::new(
        "SELECT d.day, d.used FROM usage_days d WHERE d.scope_id = $1 AND d.metric = $2 AND d.day <= $4 \
         AND d.day >= COALESCE((SELECT max(b.day) FROM usage_days b WHERE b.scope_id = $1 AND b.metric = $2 AND b.day <= $3), $3) \
         ORDER BY d.day",
    )
    .values([scope.into(), metric.word().into(), stored(*first).into(), stored(*last).into()]);
    let read = db.read(proof);
    let rows: Vec<DayRow> = read.all(sql).await?;
    let flows = metric.window() != QuotaWindow::None;
    let mut rows = rows.into_iter().peekable();
    let mut level = 0;
    let mut chart: Vec<i64> = days
        .iter()
        .map(|day| {
            let day = stored(*day);
            let mut today = None;
            while let Some(row) = rows.next_if(|row| row.day <= day) {
                today = Some(row.used).filter(|_| row.day == day);
                level = row.used;
            }
            if flows { today.unwrap_or(0) } else { level }
        })
        .collect();
    // Seats and workspaces are written down each hour only; of today it is told how many there are.
    if matches!(metric, Metric::Members | Metric::Workspaces) && *last >= db.now().date_naive() {
        let (workspaces, organizations) = self::read(&read, places, organizations).await?;
        let quotas = workspaces.into_values().chain(
            organizations.into_iter().filter_map(|(id, quotas)| (id.uuid() == scope).then_some(quotas)),
        );
        if let (Some(quota), Some(today)) =
            (quotas.flatten().find(|quota| quota.metric == metric), chart.last_mut())
        {
            *today = quota.used;
        }
    }
    Ok(chart)
}

/// Writes down how many seats and workspaces there are, for the charts: everywhere, each metric in one statement. What is counted
/// by adding up is written when it changes.
pub(crate) async fn note_levels(tx: &Tx<'_>) -> Result<(), Fault> {
    let day = stored(tx.now().date_naive());
    let seats = |of_organization| {
        let sql = seats_sql(Seat::Invited, of_organization);
        let all =
            if of_organization { "(SELECT id FROM organizations)" } else { "(SELECT id FROM workspaces)" };
        format!("{sql}{all}")
    };
    let metric = Metric::Members.word();
    let statements = [
        format!(
            "SELECT n.scope_id, '{metric}', w.organization_id, w.id, $3, n.used FROM ({}) AS n \
             JOIN workspaces w ON w.id = n.scope_id WHERE 1 = 1",
            seats(false)
        ),
        format!(
            "SELECT n.scope_id, '{metric}', n.scope_id, CAST(NULL AS uuid), $3, n.used FROM ({}) AS n WHERE 1 = 1",
            seats(true)
        ),
        format!(
            "SELECT o.id, '{}', o.id, CAST(NULL AS uuid), $3, \
             (SELECT count(*) FROM workspaces w WHERE w.organization_id = o.id) \
             FROM organizations o WHERE $1 = '' AND $2 IS NOT NULL",
            Metric::Workspaces.word()
        ),
    ];
    for statement in statements {
        let sql = Sql::new(format!(
            "INSERT INTO usage_days (scope_id, metric, organization_id, workspace_id, day, used) {statement} \
             ON CONFLICT (scope_id, metric, day) DO UPDATE SET used = excluded.used"
        ))
        .values(["".into(), tx.now().into(), day.as_str().into()]);
        tx.run(sql).await?;
    }
    Ok(())
}
