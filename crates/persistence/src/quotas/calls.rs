//! Operations that machines ask for, counted against the quota of API calls without a statement for each.
//!
//! A process takes a block of what is left of the day ([`block`]) and spends it in memory; near the limit blocks are single
//! calls, so that exactly as many get through as there may be. Where nothing is limited it counts in memory. Every few
//! seconds ([`INTERVAL`]) what was counted is written down, what was not spent is given back, and limits are read anew.
//!
//! The error: a process that is killed has taken at most a block of each workspace that was not used (an eighth of what was left,
//! 500 at the most), and has counted a few seconds of calls without a limit that are forgotten. While one process holds a
//! block, another one may refuse before the limit is reached. None of this lets more through than the limit.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use guildhall_domain::{
    access::{Actor, System},
    ids::WorkspaceId,
    quotas::{Exceeded, Metric, QuotaScope, block},
};
use sea_orm::FromQueryResult;
use uuid::Uuid;

use super::{Count, Place, stored};
use crate::{
    db::{Db, Engine, Tx},
    error::{Fault, ReadError},
    mails::fault,
    sql::Sql,
};

/// How often what was counted is to be written down.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// For how long a workspace that has used everything is refused without asking the database again.
const REFUSED_FOR: TimeDelta = TimeDelta::seconds(1);
/// For how long somebody is taken for good who was let in.
const GOOD_FOR: TimeDelta = TimeDelta::seconds(5);
/// How many machines' workspaces are remembered.
const MOST_REMEMBERED: usize = 10_000;

/// What this process has counted and not written down.
#[derive(Default)]
pub(crate) struct Calls {
    places: Mutex<HashMap<Uuid, Place>>,
    /// Who was let in, and when: what is shown after a key ended is counted for some seconds at the most.
    good: Mutex<HashMap<Actor, DateTime<Utc>>>,
    accounts: Mutex<HashMap<WorkspaceId, Arc<tokio::sync::Mutex<Account>>>>,
}

/// The calls of one workspace.
struct Account {
    day: NaiveDate,
    /// What was taken ahead and not spent.
    ahead: i64,
    /// What was spent without taking it ahead, since nothing is limited.
    behind: i64,
    /// What the database said last; `None`: it is to be asked.
    answer: Option<Answer>,
    /// What belongs to days that are over.
    over: Vec<(NaiveDate, i64)>,
}

#[derive(Clone, Copy)]
enum Answer {
    Unlimited,
    Taken,
    Refused(Exceeded, DateTime<Utc>),
}

impl Account {
    fn new(day: NaiveDate) -> Self {
        Self { day, ahead: 0, behind: 0, answer: None, over: Vec::new() }
    }

    /// Begins a new day; a clock that went back stays on the later one.
    fn turn(&mut self, today: NaiveDate) {
        if today > self.day {
            let over = self.unwritten();
            if over != 0 {
                self.over.push((self.day, over));
            }
            *self = Self { over: std::mem::take(&mut self.over), ..Self::new(today) };
        }
    }

    /// How much has to be added to what stands in the database.
    fn unwritten(&self) -> i64 {
        self.behind - self.ahead
    }

    /// Spends a call, if what is known lets it.
    fn spend(&mut self, now: DateTime<Utc>) -> Option<Result<(), Exceeded>> {
        match self.answer? {
            Answer::Unlimited => self.behind += 1,
            Answer::Taken if self.ahead > 0 => self.ahead -= 1,
            Answer::Refused(exceeded, until) if now < until => return Some(Err(exceeded)),
            Answer::Taken | Answer::Refused(..) => return None,
        }
        Some(Ok(()))
    }
}

/// Counts an operation that somebody asks for: against the quota of the workspace, if it is a machine that is let in. Tells on
/// which day it was counted. Where the operation itself finds that it is let in no more, [`give_back`] undoes this.
pub async fn count(db: &Db, actor: Actor) -> Result<Result<Option<NaiveDate>, Exceeded>, Fault> {
    if actor.person().is_some() || !is_good(db, actor).await? {
        return Ok(Ok(None));
    }
    let Some(place) = place_of(db, actor).await? else { return Ok(Ok(None)) };
    let account = account(db, place.workspace);
    // Held while the database is asked: those who come meanwhile want its answer as well.
    let mut account = account.lock().await;
    let now = db.now();
    account.turn(Metric::ApiCalls.period(now));
    if let Some(known) = account.spend(now) {
        return Ok(known.map(|()| Some(account.day)));
    }
    let answer = take_ahead(db, place).await?;
    account.answer = Some(match answer {
        Ok(Some((taken, day))) => {
            account.turn(day);
            account.ahead += taken;
            Answer::Taken
        }
        Ok(None) => Answer::Unlimited,
        Err(exceeded) => Answer::Refused(exceeded, now + REFUSED_FOR),
    });
    let day = account.day;
    Ok(account.spend(now).unwrap_or(Ok(())).map(|()| Some(day)))
}

/// Takes back that an operation was counted on that day: nobody was let in by it.
pub async fn give_back(db: &Db, actor: Actor, day: NaiveDate) {
    let place = db.calls().places.lock().unwrap_or_else(PoisonError::into_inner).get(&actor.uuid()).copied();
    let Some(place) = place else { return };
    let account = account(db, place.workspace);
    let mut account = account.lock().await;
    if account.day != day {
        account.over.push((day, -1));
        return;
    }
    match account.answer {
        Some(Answer::Unlimited) => account.behind -= 1,
        Some(Answer::Taken) => account.ahead += 1,
        // It was written down meanwhile, and is taken off with the next writing.
        Some(Answer::Refused(..)) | None => account.behind -= 1,
    }
}

/// Whether what it shows is good, or was a moment ago.
async fn is_good(db: &Db, actor: Actor) -> Result<bool, Fault> {
    let now = db.now();
    let known =
        |good: &mut HashMap<Actor, DateTime<Utc>>| good.get(&actor).is_some_and(|at| now < *at + GOOD_FOR);
    if known(&mut db.calls().good.lock().unwrap_or_else(PoisonError::into_inner)) {
        return Ok(true);
    }
    match db.let_in(actor).await {
        Ok(_) => {}
        Err(ReadError::Denied(_)) => return Ok(false),
        Err(ReadError::Fault(fault)) => return Err(fault),
    }
    let mut good = db.calls().good.lock().unwrap_or_else(PoisonError::into_inner);
    if good.len() >= MOST_REMEMBERED {
        good.clear();
    }
    good.insert(actor, now);
    Ok(true)
}

fn account(db: &Db, workspace: WorkspaceId) -> Arc<tokio::sync::Mutex<Account>> {
    let mut accounts = db.calls().accounts.lock().unwrap_or_else(PoisonError::into_inner);
    let new = || Arc::new(tokio::sync::Mutex::new(Account::new(Metric::ApiCalls.period(db.now()))));
    Arc::clone(accounts.entry(workspace).or_insert_with(new))
}

#[derive(FromQueryResult)]
struct PlaceRow {
    workspace_id: Uuid,
    organization_id: Uuid,
}

impl From<PlaceRow> for Place {
    fn from(row: PlaceRow) -> Self {
        Self { organization: row.organization_id.into(), workspace: row.workspace_id.into() }
    }
}

/// Where a machine belongs, which never changes; `None` where there is no such machine any more.
async fn place_of(db: &Db, actor: Actor) -> Result<Option<Place>, Fault> {
    let places = &db.calls().places;
    if let Some(place) = places.lock().unwrap_or_else(PoisonError::into_inner).get(&actor.uuid()) {
        return Ok(Some(*place));
    }
    let table = match actor {
        Actor::User { .. } => return Ok(None),
        Actor::Key { .. } => "api_keys",
        Actor::ServiceAccount { .. } => "service_accounts",
    };
    let sql = Sql::new(format!(
        "SELECT x.workspace_id, w.organization_id FROM {table} x JOIN workspaces w ON w.id = x.workspace_id WHERE x.id = "
    ));
    let Some(row) = db.read(&proof()).one::<PlaceRow>(sql.bind(actor.uuid())).await? else { return Ok(None) };
    let place = Place::from(row);
    let mut places = places.lock().unwrap_or_else(PoisonError::into_inner);
    if places.len() >= MOST_REMEMBERED {
        places.clear();
    }
    places.insert(actor.uuid(), place);
    Ok(Some(place))
}

#[expect(clippy::disallowed_methods, reason = "the service counts on its own behalf who asks how much")]
fn proof() -> System {
    System::named("api calls")
}

/// Takes a block of what is left, and tells of which day; `None` where there is no end, or no such workspace any more.
async fn take_ahead(db: &Db, place: Place) -> Result<Result<Option<(i64, NaiveDate)>, Exceeded>, Fault> {
    let proof = proof();
    let taken = db.write(&proof, async |tx| {
        if lock(tx, place.workspace).await?.is_none() {
            return Ok(Ok(None));
        }
        let mut count = Count::begin(tx, place, Metric::ApiCalls).await?;
        let Some((left, scope, limit, used)) = count
            .levels
            .iter()
            .filter_map(|level| Some((level.left()?, level.scope, level.most()?, level.used)))
            .min_by_key(|(left, ..)| *left)
        else {
            return Ok(Ok(None));
        };
        if left == 0 {
            let metric = Metric::ApiCalls;
            return Ok(Err(Exceeded { metric, scope, limit, used, resets_at: metric.resets_at(tx.now()) }));
        }
        count.add(tx, block(left)).await?;
        Ok(Ok(Some((block(left), count.period))))
    });
    taken.await.map_err(fault)
}

/// Where the workspace is, if it is still there; nobody else counts in it until the end of the transaction.
async fn lock(tx: &Tx<'_>, workspace: WorkspaceId) -> Result<Option<Place>, Fault> {
    let lock = if tx.db().engine() == Engine::Postgres { " FOR NO KEY UPDATE" } else { "" };
    let sql = Sql::new("SELECT id AS workspace_id, organization_id FROM workspaces WHERE id = ")
        .bind(workspace.uuid())
        .push(lock);
    Ok(tx.one::<PlaceRow>(sql).await?.map(Place::from))
}

/// Writes down what was counted, gives back what was taken and not spent, and has limits read anew with the next call.
pub async fn settle(db: &Db) -> Result<(), Fault> {
    let accounts: Vec<_> = {
        let accounts = db.calls().accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.iter().map(|(workspace, account)| (*workspace, Arc::clone(account))).collect()
    };
    let mut outcome = Ok(());
    for (workspace, account) in accounts {
        let mut account = account.lock().await;
        account.turn(Metric::ApiCalls.period(db.now()));
        let written = if account.unwritten() == 0 && account.over.is_empty() {
            Ok(())
        } else {
            write(db, workspace, &account).await
        };
        match written {
            Ok(()) => *account = Account::new(account.day),
            Err(fault) => {
                // It may have been written all the same: what is given back twice would let too many through.
                account.ahead = 0;
                account.behind = account.behind.max(0);
                account.over.retain(|(_, used)| *used > 0);
                account.answer = None;
                outcome = Err(fault);
            }
        }
    }
    // Who counted nothing since is forgotten; whoever holds an account at this moment is about to count.
    let mut accounts = db.calls().accounts.lock().unwrap_or_else(PoisonError::into_inner);
    accounts.retain(|_, account| match account.try_lock() {
        Ok(state) => Arc::strong_count(account) > 1 || state.unwritten() != 0 || !state.over.is_empty(),
        Err(_) => true,
    });
    outcome
}

async fn write(db: &Db, workspace: WorkspaceId, account: &Account) -> Result<(), Fault> {
    let proof = proof();
    let written = db.write(&proof, async |tx| {
        let Some(place) = lock(tx, workspace).await? else { return Ok(()) };
        // First, as everybody does it who writes of a day.
        let mut count = Count::begin(tx, place, Metric::ApiCalls).await?;
        if account.unwritten() != 0 {
            match count.period == account.day {
                true => count.add(tx, account.unwritten()).await?,
                // The total is that of a later day.
                false => add_to_day(tx, place, account.day, account.unwritten()).await?,
            }
        }
        for (day, used) in &account.over {
            add_to_day(tx, place, *day, *used).await?;
        }
        Ok(())
    });
    written.await.map_err(fault)
}

/// Adds to the chart of a day that is over.
async fn add_to_day(tx: &Tx<'_>, place: Place, day: NaiveDate, used: i64) -> Result<(), Fault> {
    for (scope, scope_id) in [
        (QuotaScope::Workspace, place.workspace.uuid()),
        (QuotaScope::Organization, place.organization.uuid()),
    ] {
        let workspace = (scope == QuotaScope::Workspace).then_some(scope_id);
        let sql = Sql::new(
            "INSERT INTO usage_days (scope_id, metric, organization_id, workspace_id, day, used) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (scope_id, metric, day) \
             DO UPDATE SET used = usage_days.used + excluded.used",
        )
        .values([
            scope_id.into(),
            Metric::ApiCalls.word().into(),
            place.organization.uuid().into(),
            workspace.into(),
            stored(day).into(),
            used.into(),
        ]);
        tx.run(sql).await?;
    }
    Ok(())
}
