//! Login activity: written with the sign-in or its refusal, listed for the admins of each organization that the person
//! belongs to. A row is one organization's alone, so that none sees another's. Of what an identity provider says only its own
//! organization hears, and of what becomes of the sessions that it opened.

use chrono::{DateTime, TimeDelta, Utc};
use guildhall_domain::{
    access::{Granted, perm},
    accounts::UserStatus,
    activity::{LoginCode, STRANGERS_PER_HOUR, UNKNOWN_PER_HOUR},
    ids::{LoginActivityId, OrganizationId, SessionId, UserId},
    organization_members::OrganizationMemberStatus,
    page::{Page, PageArgs},
};
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use uuid::Uuid;

use crate::{
    access::{numbers_of, page_by, pages_of, word},
    accounts::User,
    credential_shares::person,
    db::{Db, Tx},
    error::{Fault, ReadError},
    sessions::Device,
    sql::{AT_ONCE, Placed, Sql},
};

/// Whose door it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Who<'a> {
    /// Whoever has the address, if anybody does.
    Address(&'a str),
    /// That person.
    Person(UserId),
}

/// What somebody came to the door with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum By {
    /// A password, or what stands for one: every organization hears of it in which the person is active.
    Password,
    /// What that identity provider says: only its organization hears of it, which is the only one that it opens.
    Provider(Uuid),
}

impl By {
    /// What opened a session of which that is kept.
    pub(crate) fn of(identity_provider_id: Option<Uuid>) -> Self {
        identity_provider_id.map_or(Self::Password, Self::Provider)
    }
}

/// Somebody's place in an organization; only nulls for an address that nobody has.
#[derive(Debug, FromQueryResult)]
struct Place {
    user_id: Option<Uuid>,
    user_status: Option<String>,
    organization_id: Option<Uuid>,
    member_status: Option<String>,
    has_workspace: Option<bool>,
    /// How many rows of that code there were lately.
    recent: i64,
}

/// The places of whoever it is that may hear of it. A statement finds as much for an address that nobody has.
async fn places(tx: &Tx<'_>, who: Who<'_>, by: By, code: LoginCode) -> Result<Vec<Place>, Fault> {
    /// More organizations than anybody is in.
    const AT_MOST: i64 = 1000;
    let (found_by, value): (_, sea_orm::Value) = match who {
        Who::Address(address) => ("u.email", address.into()),
        Who::Person(user) => ("u.id", user.uuid().into()),
    };
    let sql = Sql::new(format!(
        "SELECT u.id AS user_id, u.status AS user_status, om.organization_id, om.status AS member_status, \
         (om.role <> 'MEMBER' OR EXISTS (SELECT 1 FROM memberships m JOIN workspaces w ON w.id = m.workspace_id \
             WHERE m.user_id = om.user_id AND w.organization_id = om.organization_id AND w.status = 'ACTIVE' \
             AND (m.expires_at IS NULL OR m.expires_at > $2))) AS has_workspace, \
         CASE WHEN u.id IS NULL THEN (SELECT count(*) FROM login_activity a WHERE a.user_id IS NULL \
                 AND a.code = CASE WHEN $3 = 'WRONG_PASSWORD' THEN 'UNKNOWN_USER' ELSE $3 END \
                 AND a.created_at > $4) \
             ELSE (SELECT count(*) FROM login_activity a WHERE a.user_id = u.id AND a.code = $3 AND a.created_at > $4) \
             END AS recent \
         FROM (SELECT 1 AS one) AS somebody LEFT JOIN users u ON {found_by} = $1 \
         LEFT JOIN organization_members om ON om.user_id = u.id"
    ));
    let hour_ago = tx.now() - TimeDelta::hours(1);
    let sql = sql.values([value, tx.now().into(), code.word().into(), hour_ago.into()]);
    let sql = match by {
        By::Password => sql,
        By::Provider(provider) => sql
            .push(
                " AND om.organization_id = (SELECT p.organization_id FROM identity_providers p WHERE p.id = ",
            )
            .bind(provider)
            .push(")"),
    };
    tx.all(sql.limit(AT_MOST)).await
}

/// Writes down that somebody was turned away, or that a session was misused, with the next statement or the commit. A
/// wrong password for an address that nobody has is one for an unknown user.
pub(crate) async fn note(tx: &Tx<'_>, who: Who<'_>, code: LoginCode, device: &Device) -> Result<(), Fault> {
    note_by(tx, who, By::Password, code, device).await
}

/// The same of what somebody came to the door with.
pub(crate) async fn note_by(
    tx: &Tx<'_>,
    who: Who<'_>,
    by: By,
    code: LoginCode,
    device: &Device,
) -> Result<(), Fault> {
    let places = places(tx, who, by, code).await?;
    let unknown = places.iter().all(|place| place.user_id.is_none());
    let written = match code {
        LoginCode::WrongPassword if unknown => LoginCode::UnknownUser,
        code => code,
    };
    // Their own organizations hear of it; of somebody who is disabled also those that disabled them.
    let hears = |place: &&Place| {
        written == LoginCode::Disabled
            || place.member_status.as_deref() == Some(OrganizationMemberStatus::Active.word())
    };
    let mut rows: Vec<(Option<Uuid>, LoginCode)> =
        places.iter().filter(hears).map(|place| (place.organization_id, written)).collect();
    if rows.is_empty() {
        rows.push((None, written));
    }
    let recent = places.first().map_or(0, |place| place.recent.unsigned_abs()) / rows.len() as u64;
    let most = if unknown { UNKNOWN_PER_HOUR } else { STRANGERS_PER_HOUR };
    if written.is_of_strangers() && recent >= most {
        return Ok(());
    }
    let address = match who {
        Who::Address(address) if unknown => Some(tx.db().keys().fingerprint(address)),
        _ => None,
    };
    if let Some(address) = &address {
        tracing::info!(
            code = written.word(),
            ip = device.ip,
            address,
            "somebody tried an address that nobody has"
        );
    }
    let user = places.first().and_then(|place| place.user_id);
    write(tx, &rows, user, address, device);
    Ok(())
}

/// Writes down that a person signed in.
pub(crate) async fn note_sign_in(tx: &Tx<'_>, user: UserId, by: By, device: &Device) -> Result<(), Fault> {
    let places = places(tx, Who::Person(user), by, LoginCode::Login).await?;
    let mut rows = Vec::with_capacity(places.len());
    for place in &places {
        let status = place.user_status.as_deref().and_then(UserStatus::from_word);
        let code =
            LoginCode::of_sign_in(status.unwrap_or(UserStatus::Active), place.has_workspace == Some(true));
        if place.member_status.as_deref() == Some(OrganizationMemberStatus::Active.word()) {
            rows.push((place.organization_id, code));
        }
    }
    if rows.is_empty() {
        rows.push((None, LoginCode::NoWorkspace));
    }
    write(tx, &rows, Some(user.uuid()), None, device);
    Ok(())
}

/// Writes down that a person signed a device out.
pub(crate) async fn note_sign_out(tx: &Tx<'_>, user: UserId, session: SessionId) -> Result<(), Fault> {
    let sql = Sql::new("SELECT device AS name, ip, identity_provider_id FROM sessions WHERE id = ")
        .bind(session.uuid());
    let Some(Seen { name, ip, identity_provider_id }) = tx.one(sql).await? else {
        return Err(Fault::Stored(format!("{session} went away under the lock of its owner")));
    };
    let (who, by) = (Who::Person(user), By::of(identity_provider_id));
    note_by(tx, who, by, LoginCode::Logout, &Device { name, ip }).await
}

#[derive(Debug, FromQueryResult)]
struct Seen {
    name: Option<String>,
    ip: Option<String>,
    identity_provider_id: Option<Uuid>,
}

fn write(
    tx: &Tx<'_>,
    rows: &[(Option<Uuid>, LoginCode)],
    user: Option<Uuid>,
    address: Option<String>,
    device: &Device,
) {
    let agent = device.name.as_deref().map(|name| name.chars().take(200).collect::<String>());
    let mut sql = Sql::new(
        "INSERT INTO login_activity (id, organization_id, user_id, code, ip, user_agent, address, created_at) VALUES ",
    );
    for (place, (organization, code)) in rows.iter().enumerate() {
        let id: LoginActivityId = tx.fresh_id();
        sql = sql
            .push(if place == 0 { "(" } else { ", (" })
            .bind(id.uuid())
            .push(", ")
            .bind(*organization)
            .push(", ")
            .bind(user)
            .push(", ")
            .bind(code.word())
            .push(", ")
            .bind(device.ip.clone())
            .push(", ")
            .bind(agent.clone())
            .push(", ")
            .bind(address.clone())
            .push(", ")
            .bind(tx.now())
            .push(")");
    }
    tx.defer(sql);
}

/// Something that happened at the door.
#[derive(Clone, Debug)]
pub struct LoginActivity {
    /// Its id.
    pub id: LoginActivityId,
    /// What happened.
    pub code: LoginCode,
    /// Whose account it is.
    pub user_id: UserId,
    /// The person, while they have a place in the organization.
    pub user: Option<User>,
    /// The address it came from.
    pub ip: Option<String>,
    /// What the device said of itself.
    pub user_agent: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
}

const COLUMNS: &str = "x.id AS activity_id, x.code, x.user_id AS whose, x.ip, x.user_agent, x.created_at, \
     u.id AS user_id, u.email, u.display_name, u.status";
/// Who has left the organization is shown no more: what they are called today is not its business.
const TABLES: &str = "login_activity x \
     LEFT JOIN organization_members om ON om.organization_id = x.organization_id AND om.user_id = x.user_id \
     LEFT JOIN users u ON u.id = om.user_id";

impl FromQueryResult for LoginActivity {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        Ok(Self {
            id: row.try_get::<Uuid>(prefix, "activity_id")?.into(),
            code: word(&row.try_get::<String>(prefix, "code")?, LoginCode::from_word)?,
            user_id: row.try_get::<Uuid>(prefix, "whose")?.into(),
            user: person(row, prefix)?,
            ip: row.try_get(prefix, "ip")?,
            user_agent: row.try_get(prefix, "user_agent")?,
            at: row.try_get(prefix, "created_at")?,
        })
    }
}

/// Which activity to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// Only these codes; all where there are none.
    pub codes: Vec<LoginCode>,
    /// Only that person's.
    pub user: Option<UserId>,
    /// Only from then on.
    pub from: Option<DateTime<Utc>>,
    /// Only before then.
    pub to: Option<DateTime<Utc>>,
}

/// The activity of an organization. Two are equal that have the same answer.
#[derive(Clone)]
pub struct Activities {
    /// The asker manages the organization.
    pub proof: Granted<perm::OrganizationManage>,
    /// Which of it.
    pub filter: Filter,
}

impl Activities {
    fn organization(&self) -> OrganizationId {
        self.proof.access().organization()
    }

    fn sql(&self, columns: &str, now: DateTime<Utc>) -> Sql {
        let days = self.proof.access().policy().login_activity_days;
        let mut sql = Sql::new(format!("SELECT {columns} FROM login_activity x WHERE x.organization_id = "))
            .bind(self.organization().uuid())
            .push(" AND x.created_at > ")
            .bind(now - TimeDelta::days(days.into()));
        if !self.filter.codes.is_empty() {
            sql = sql.push(" AND x.code IN ").bind_list(self.filter.codes.iter().map(|code| code.word()));
        }
        if let Some(user) = self.filter.user {
            sql = sql.push(" AND x.user_id = ").bind(user.uuid());
        }
        if let Some(from) = self.filter.from {
            sql = sql.push(" AND x.created_at >= ").bind(from);
        }
        if let Some(to) = self.filter.to {
            sql = sql.push(" AND x.created_at < ").bind(to);
        }
        sql
    }
}

impl PartialEq for Activities {
    fn eq(&self, other: &Self) -> bool {
        self.organization() == other.organization() && self.filter == other.filter
    }
}

impl Eq for Activities {}

impl std::hash::Hash for Activities {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.organization().hash(state);
        self.filter.hash(state);
    }
}

/// A page of each of those lists, the newest first.
pub async fn pages(
    db: &Db,
    wanted: &[(Activities, PageArgs<Uuid>)],
) -> Result<Vec<Page<LoginActivity>>, ReadError> {
    let mut pages = Vec::with_capacity(wanted.len());
    for wanted in wanted.chunks(AT_ONCE) {
        let Some((first, _)) = wanted.first() else { break };
        // Ids grow with time, so the list is that of the ids turned round.
        let turned: Vec<PageArgs<Uuid>> = wanted.iter().map(|(_, args)| args.turned()).collect();
        let each = wanted
            .iter()
            .zip(&turned)
            .map(|((activities, _), args)| page_by(activities.sql("x.id AS id", db.now()), args, "x.id"));
        let sql = Sql::new(format!("SELECT listed.place, {COLUMNS} FROM ("))
            .append(Sql::each(each))
            .push(&format!(") AS listed, {TABLES} WHERE x.id = listed.id ORDER BY x.id"));
        let rows: Vec<Placed<LoginActivity>> = db.read(&first.proof).all(sql).await?;
        pages.extend(pages_of(turned.iter(), rows).into_iter().map(Page::turned));
    }
    Ok(pages)
}

/// How much each of those lists has in all.
pub async fn numbers(db: &Db, wanted: &[Activities]) -> Result<Vec<u64>, ReadError> {
    let mut numbers = Vec::with_capacity(wanted.len());
    for wanted in wanted.chunks(AT_ONCE) {
        let Some(first) = wanted.first() else { break };
        let each = wanted.iter().map(|activities| activities.sql("count(*) AS number", db.now()));
        numbers.extend(numbers_of(db.read(&first.proof).all(Sql::each(each)).await?));
    }
    Ok(numbers)
}

/// The policies about how long activity is kept, each once.
pub(crate) async fn kept_days(tx: &Tx<'_>) -> Result<Vec<i32>, Fault> {
    let sql = Sql::new("SELECT DISTINCT login_activity_days FROM organizations");
    Ok(tx
        .all::<crate::sql::Single<i32>>(sql)
        .await?
        .into_iter()
        .map(|crate::sql::Single(days)| days)
        .collect())
}
