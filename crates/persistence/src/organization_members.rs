//! Members of an organization: listing, changing a role, removing, leaving, disabling and enabling.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Granted, OrganizationRole, perm},
    audit::{Action, Entry, ObjectKind},
    events::Event,
    ids::{OrganizationId, UserId, WorkspaceId},
    organization_members::{
        Changer, DisableUserCode, EnableUserCode, LeaveOrganizationCode, OrganizationMemberFacts,
        OrganizationMemberStatus, RemoveOrganizationMemberCode, UpdateOrganizationMemberCode,
        judge_disabling, judge_enabling, judge_ending_sessions, judge_organization_leaving,
        judge_organization_removal, judge_organization_role,
    },
    page::{Order, Page, PageArgs, Position},
    refusal::Refusal,
    sessions::EndMemberSessionsCode,
    text::{Email, SearchTerm},
};
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    access::{Sorted, effective_admins, word},
    accounts::{USER_COLUMNS, User},
    db::{Db, Tx},
    error::{Fault, OpError, ReadError},
    events, invitations,
    members::{MEMBER_COLUMNS, MEMBER_TABLES, Member},
    ownership, search, sessions,
    sql::{Single, Sql},
    workspaces::fall_back,
};

/// A person's place in an organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrganizationMember {
    /// The organization.
    pub organization: OrganizationId,
    /// The person.
    pub user: User,
    /// The role held in the organization.
    pub role: OrganizationRole,
    /// Whether the place is in use.
    pub status: OrganizationMemberStatus,
    /// Since when.
    pub joined_at: DateTime<Utc>,
    /// When the person signed in last.
    pub last_sign_in_at: Option<DateTime<Utc>>,
    /// The workspace the person was in last, where that is one of this organization.
    pub active_workspace: Option<WorkspaceId>,
    /// Whether the account has a second factor.
    pub has_second_factor: bool,
}

const ORGANIZATION_MEMBER_COLUMNS: &str = "om.organization_id, om.role AS organization_role, om.status AS member_status, \
     om.created_at AS joined_at, u.last_sign_in_at, w.id AS active_workspace_id, \
     u.second_factor_at IS NOT NULL AS has_second_factor";
/// What somebody was last in elsewhere is no business of this organization.
const ORGANIZATION_MEMBER_TABLES: &str = "organization_members om JOIN users u ON u.id = om.user_id \
     LEFT JOIN workspaces w ON w.id = u.last_workspace_id AND w.organization_id = om.organization_id";

impl FromQueryResult for OrganizationMember {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        let text = |column: &str| row.try_get::<String>(prefix, column);
        Ok(Self {
            organization: row.try_get::<Uuid>(prefix, "organization_id")?.into(),
            user: User::from_query_result(row, prefix)?,
            role: word(&text("organization_role")?, OrganizationRole::from_word)?,
            status: word(&text("member_status")?, OrganizationMemberStatus::from_word)?,
            joined_at: row.try_get(prefix, "joined_at")?,
            last_sign_in_at: row.try_get(prefix, "last_sign_in_at")?,
            active_workspace: row
                .try_get::<Option<Uuid>>(prefix, "active_workspace_id")?
                .map(WorkspaceId::from),
            has_second_factor: row.try_get(prefix, "has_second_factor")?,
        })
    }
}

/// Which members to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OrganizationMemberFilter {
    /// Part of a name or e-mail address.
    pub search: Option<SearchTerm>,
    /// Only those with this role.
    pub role: Option<OrganizationRole>,
    /// Only those with this status.
    pub status: Option<OrganizationMemberStatus>,
    /// How they are sorted; by age: of their accounts.
    pub order: Order,
}

impl OrganizationMemberFilter {
    fn apply(&self, mut sql: Sql) -> Sql {
        if let Some(role) = self.role {
            sql = sql.push(" AND om.role = ").bind(role.word());
        }
        if let Some(status) = self.status {
            sql = sql.push(" AND om.status = ").bind(status.word());
        }
        if let Some(search) = &self.search {
            sql = search::where_person(sql, search);
        }
        sql
    }
}

fn ids_of(proofs: &[Granted<perm::OrganizationManage>]) -> impl Iterator<Item = Uuid> {
    proofs.iter().map(|proof| proof.access().organization().uuid())
}

/// A page of an organization's members, by the age of their accounts.
pub async fn page(
    db: &Db,
    proof: &Granted<perm::OrganizationManage>,
    filter: &OrganizationMemberFilter,
    args: &PageArgs<Position>,
) -> Result<Page<OrganizationMember>, ReadError> {
    let sql = Sql::new(format!(
        "SELECT {USER_COLUMNS}, {ORGANIZATION_MEMBER_COLUMNS} FROM {ORGANIZATION_MEMBER_TABLES} WHERE om.organization_id = "
    ))
    .bind(proof.access().organization().uuid());
    let args = filter.order.ascend(args);
    let sql = sorted(db, filter).page(filter.apply(sql), &args);
    Ok(filter.order.descend(Page::cut(&args, db.read(proof).all(sql).await?)))
}

fn sorted(db: &Db, filter: &OrganizationMemberFilter) -> Sorted {
    Sorted::by(db, filter.order, "u.display_name", "om.user_id")
}

/// The first members of each of several organizations, in one statement.
pub async fn first_of_each(
    db: &Db,
    proofs: &[Granted<perm::OrganizationManage>],
    filter: &OrganizationMemberFilter,
    args: &PageArgs<Position>,
) -> Result<HashMap<OrganizationId, Page<OrganizationMember>>, ReadError> {
    let Some(proof) = proofs.first() else { return Ok(HashMap::new()) };
    let args = filter.order.ascend(args);
    let order = sorted(db, filter).order_by(&args);
    let sql = Sql::new(format!(
        "SELECT * FROM (SELECT {USER_COLUMNS}, {ORGANIZATION_MEMBER_COLUMNS}, \
             row_number() OVER (PARTITION BY om.organization_id ORDER BY {order}) AS place \
         FROM {ORGANIZATION_MEMBER_TABLES} WHERE om.organization_id IN "
    ))
    .bind_list(ids_of(proofs));
    let sql = filter
        .apply(sql)
        .push(") AS placed WHERE place <= ")
        .bind(i64::from(args.size) + 1)
        .push(" ORDER BY organization_id, place");
    let mut rows: HashMap<OrganizationId, Vec<OrganizationMember>> = HashMap::new();
    for member in db.read(proof).all::<OrganizationMember>(sql).await? {
        rows.entry(member.organization).or_default().push(member);
    }
    let page = |rows| filter.order.descend(Page::cut(&args, rows));
    Ok(rows.into_iter().map(|(organization, rows)| (organization, page(rows))).collect())
}

/// How many members each of several organizations has; one without any is left out.
pub async fn number(
    db: &Db,
    proofs: &[Granted<perm::OrganizationManage>],
    filter: &OrganizationMemberFilter,
) -> Result<Vec<(OrganizationId, u64)>, ReadError> {
    let Some(proof) = proofs.first() else { return Ok(Vec::new()) };
    let sql = Sql::new(
        "SELECT om.organization_id AS id, count(*) AS number FROM organization_members om \
         JOIN users u ON u.id = om.user_id WHERE om.organization_id IN ",
    )
    .bind_list(ids_of(proofs));
    let rows: Vec<Counted> =
        db.read(proof).all(filter.apply(sql).push(" GROUP BY om.organization_id")).await?;
    Ok(rows.into_iter().map(|row| (row.id.into(), u64::try_from(row.number).unwrap_or(0))).collect())
}

#[derive(Debug, FromQueryResult)]
struct Counted {
    id: Uuid,
    number: i64,
}

/// Memberships that are in force, in workspaces of the organization.
fn memberships_sql(
    db: &Db,
    columns: &str,
    proof: &Granted<perm::OrganizationManage>,
    users: &[UserId],
) -> Sql {
    Sql::new(format!(
        "SELECT {columns} FROM {MEMBER_TABLES} JOIN workspaces w ON w.id = m.workspace_id WHERE w.organization_id = "
    ))
    .bind(proof.access().organization().uuid())
    .push(" AND (m.expires_at IS NULL OR m.expires_at > ")
    .bind(db.now())
    .push(") AND m.user_id IN ")
    .bind_list(users.iter().map(|user| user.uuid()))
}

/// The memberships that each of several people has in the organization's workspaces, in one statement; `size + 1` of each,
/// so that [`Page::cut`] can tell whether there are more.
pub async fn memberships_of_each(
    db: &Db,
    proof: &Granted<perm::OrganizationManage>,
    users: &[UserId],
    args: &PageArgs<Uuid>,
) -> Result<Vec<Member>, ReadError> {
    let order = if args.backward { "DESC" } else { "ASC" };
    let columns = format!(
        "{MEMBER_COLUMNS}, row_number() OVER (PARTITION BY m.user_id ORDER BY m.id {order}) AS place"
    );
    let mut placed = memberships_sql(db, &columns, proof, users);
    if let Some(after) = args.after {
        placed = placed.push(" AND m.id > ").bind(after);
    }
    if let Some(before) = args.before {
        placed = placed.push(" AND m.id < ").bind(before);
    }
    let sql = Sql::new("SELECT * FROM (")
        .append(placed)
        .push(") AS placed WHERE place <= ")
        .bind(i64::from(args.size) + 1)
        .push(&format!(" ORDER BY user_id, membership_id {order}"));
    Ok(db.read(proof).all(sql).await?)
}

/// How many memberships each of several people has in the organization's workspaces; who has none is left out.
pub async fn number_of_memberships(
    db: &Db,
    proof: &Granted<perm::OrganizationManage>,
    users: &[UserId],
) -> Result<Vec<(UserId, u64)>, ReadError> {
    let sql = memberships_sql(db, "m.user_id AS id, count(*) AS number", proof, users);
    let rows: Vec<Counted> = db.read(proof).all(sql.push(" GROUP BY m.user_id")).await?;
    Ok(rows.into_iter().map(|row| (row.id.into(), u64::try_from(row.number).unwrap_or(0))).collect())
}

/// A member with what the rules about owners ask.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) member: OrganizationMember,
    pub(crate) facts: OrganizationMemberFacts,
}

/// Finds a member while the organization is locked.
pub(crate) async fn find(
    tx: &Tx<'_>,
    organization: OrganizationId,
    user: UserId,
) -> Result<Option<Found>, Fault> {
    let sql = Sql::new(format!(
        "SELECT {USER_COLUMNS}, {ORGANIZATION_MEMBER_COLUMNS} FROM {ORGANIZATION_MEMBER_TABLES} WHERE om.organization_id = "
    ))
    .bind(organization.uuid())
    .push(" AND om.user_id = ")
    .bind(user.uuid());
    let Some(member) = tx.one::<OrganizationMember>(sql).await? else { return Ok(None) };
    let owners = Sql::new(
        "SELECT count(*) FROM organization_members om JOIN users u ON u.id = om.user_id AND u.status = 'ACTIVE' \
         WHERE om.role = 'OWNER' AND om.status = 'ACTIVE' AND om.organization_id = ",
    )
    .bind(organization.uuid())
    .push(" AND om.user_id <> ")
    .bind(user.uuid());
    let others = tx.one::<Single<i64>>(owners).await?.map_or(0, |Single(number)| number);
    let in_use = member.user.status == guildhall_domain::accounts::UserStatus::Active;
    let facts = OrganizationMemberFacts {
        user,
        role: member.role,
        is_effective: in_use && member.status == OrganizationMemberStatus::Active,
        other_owners: u64::try_from(others).unwrap_or(0),
    };
    Ok(Some(Found { member, facts }))
}

/// The display names of the workspaces of which that person is the only effective admin, while all of the organization
/// are locked.
async fn orphaned_without(
    tx: &Tx<'_>,
    organization: OrganizationId,
    user: UserId,
) -> Result<Vec<String>, Fault> {
    let admins = effective_admins();
    let sql = Sql::new(format!(
        "SELECT w.display_name FROM workspaces w WHERE w.organization_id = $1 AND EXISTS ({admins} AND m.user_id = $2) \
         AND NOT EXISTS ({admins} AND m.user_id <> $2) ORDER BY w.id"
    ))
    .values([organization.uuid().into(), user.uuid().into()]);
    Ok(tx.all::<Single<String>>(sql).await?.into_iter().map(|Single(name)| name).collect())
}

fn no_such_member<C>(code: C) -> Refusal<C> {
    Refusal::new(code, "This organization has no such member.").at("userId")
}

/// Who changes, as they are in this transaction, and in which organization.
fn changer(tx: &Tx<'_>) -> Result<(OrganizationId, Changer), ReadError> {
    let access = tx.organization()?;
    Ok((access.organization(), Changer { user: access.person()?, role: access.role() }))
}

/// Gives a member another role in the organization.
pub async fn update_role(
    db: &Db,
    proof: &Granted<perm::OrganizationManage>,
    user: UserId,
    role: OrganizationRole,
) -> Result<OrganizationMember, OpError<UpdateOrganizationMemberCode>> {
    db.write(proof, async |tx| {
        let (organization, by) = changer(tx)?;
        let Some(Found { mut member, facts }) = find(tx, organization, user).await? else {
            return Err(no_such_member(UpdateOrganizationMemberCode::NotFound).into());
        };
        judge_organization_role(&facts, role, by)?;
        if member.role != role {
            set(tx, organization, user, "role", role.word()).await?;
            ownership::void_from(tx, organization, user).await?;
            tx.append(Event::Rights { user });
            let was = shown(&member);
            member.role = role;
            tx.audit(&entry(Action::UpdateOrganizationMember, &member).changed(was, shown(&member)))?;
        }
        Ok(member)
    })
    .await
}

/// Changes one column of somebody's place in the organization.
pub(crate) async fn set(
    tx: &Tx<'_>,
    organization: OrganizationId,
    user: UserId,
    column: &str,
    value: &str,
) -> Result<(), Fault> {
    tx.run(
        Sql::new(format!("UPDATE organization_members SET {column} = "))
            .bind(value)
            .push(" WHERE organization_id = ")
            .bind(organization.uuid())
            .push(" AND user_id = ")
            .bind(user.uuid()),
    )
    .await?;
    Ok(())
}

/// Somebody who does not belong to the organization any more.
#[derive(Clone, Debug)]
pub struct Departed {
    /// Their place in it, as it was.
    pub member: OrganizationMember,
    /// Their memberships in its workspaces, as they were.
    pub memberships: Vec<Member>,
}

/// Ends somebody's membership of the organization and of every workspace in it.
pub async fn remove(
    db: &Db,
    proof: &Granted<perm::OrganizationManage>,
    user: UserId,
) -> Result<Departed, OpError<RemoveOrganizationMemberCode>> {
    db.write(proof, async |tx| {
        let (organization, by) = changer(tx)?;
        tx.lock_workspaces_of(organization).await?;
        let Some(Found { member, facts }) = find(tx, organization, user).await? else {
            return Err(no_such_member(RemoveOrganizationMemberCode::NotFound).into());
        };
        judge_organization_removal(&facts, &orphaned_without(tx, organization, user).await?, by)?;
        Ok(end(tx, Action::RemoveOrganizationMember, member).await?)
    })
    .await
}

/// Ends the actor's own membership of the organization and of every workspace in it.
pub async fn leave(
    db: &Db,
    proof: &Granted<perm::OrganizationView>,
) -> Result<Departed, OpError<LeaveOrganizationCode>> {
    db.write(proof, async |tx| {
        let (organization, Changer { user, .. }) = changer(tx)?;
        tx.lock_workspaces_of(organization).await?;
        let Some(Found { member, facts }) = find(tx, organization, user).await? else {
            return Err(Fault::Stored("a right in an organization without a place in it".into()).into());
        };
        judge_organization_leaving(&facts, &orphaned_without(tx, organization, user).await?)?;
        Ok(end(tx, Action::LeaveOrganization, member).await?)
    })
    .await
}

/// Somebody's place in the organization, as the audit log tells it.
fn shown(member: &OrganizationMember) -> Value {
    json!({ "email": member.user.email, "role": member.role.word(), "status": member.status.word() })
}

pub(crate) fn entry(action: Action, member: &OrganizationMember) -> Entry {
    Entry::of(action, ObjectKind::OrganizationMember, member.user.id, member.user.display_name.as_str())
}

async fn end(tx: &mut Tx<'_>, action: Action, member: OrganizationMember) -> Result<Departed, Fault> {
    let (organization, user) = (member.organization, member.user.id);
    let email = Email::from_stored(member.user.email.clone());
    invitations::revoke_of_person(tx, organization, user, &email).await?;
    let of_theirs = Sql::new(format!(
        "SELECT {MEMBER_COLUMNS} FROM {MEMBER_TABLES} JOIN workspaces w ON w.id = m.workspace_id WHERE w.organization_id = "
    ))
    .bind(organization.uuid())
    .push(" AND m.user_id = ")
    .bind(user.uuid())
    .push(" ORDER BY m.id");
    let memberships: Vec<Member> = tx.all(of_theirs).await?;
    // However many they are, by statements for all of them: meanwhile nothing in the organization changes.
    tx.append_each(events::access_of_person(tx.now(), organization, user)).await?;
    let ended = Sql::new(
        "DELETE FROM memberships WHERE workspace_id IN (SELECT w.id FROM workspaces w WHERE w.organization_id = ",
    )
    .bind(organization.uuid())
    .push(") AND user_id = ")
    .bind(user.uuid());
    tx.run(ended).await?;
    // An admin may have been last in a workspace without being a member of it.
    let preferred = Sql::new(
        "SELECT w.id FROM users u JOIN workspaces w ON w.id = u.default_workspace_id OR w.id = u.last_workspace_id \
         WHERE u.id = ",
    )
    .bind(user.uuid())
    .push(" AND w.organization_id = ")
    .bind(organization.uuid());
    for Single(workspace) in tx.all::<Single<Uuid>>(preferred).await? {
        fall_back(tx, workspace.into(), user).await?;
    }
    ownership::void_of(tx, organization, user).await?;
    let gone = Sql::new("DELETE FROM organization_members WHERE organization_id = ")
        .bind(organization.uuid())
        .push(" AND user_id = ")
        .bind(user.uuid());
    tx.run(gone).await?;
    tx.append(Event::Rights { user });
    let mut was = shown(&member);
    was["memberships"] = memberships.len().into();
    tx.audit(&entry(action, &member).before(was))?;
    Ok(Departed { member, memberships })
}

/// Takes every access in the organization from a member, without ending the membership, and signs them out everywhere.
pub async fn disable(
    db: &Db,
    proof: &Granted<perm::OrganizationManage>,
    user: UserId,
) -> Result<OrganizationMember, OpError<DisableUserCode>> {
    db.write(proof, async |tx| {
        let (organization, by) = changer(tx)?;
        tx.lock_workspaces_of(organization).await?;
        let Some(Found { mut member, facts }) = find(tx, organization, user).await? else {
            return Err(no_such_member(DisableUserCode::NotFound).into());
        };
        judge_disabling(&facts, &orphaned_without(tx, organization, user).await?, by)?;
        if member.status == OrganizationMemberStatus::Active {
            let was = shown(&member);
            member.status = OrganizationMemberStatus::Disabled;
            tx.audit(&entry(Action::DisableUser, &member).changed(was, shown(&member)))?;
            set(tx, organization, user, "status", member.status.word()).await?;
            // Whoever is signing in at this moment has done so before, and is signed out; or waits, and is refused.
            tx.lock_user(user).await?;
            sessions::end_others(tx, user, None).await?;
        }
        Ok(member)
    })
    .await
}

/// Signs a member out everywhere. Whoever knows the password signs in again.
pub async fn end_sessions(
    db: &Db,
    proof: &Granted<perm::OrganizationManage>,
    user: UserId,
) -> Result<OrganizationMember, OpError<EndMemberSessionsCode>> {
    db.write(proof, async |tx| {
        let (organization, by) = changer(tx)?;
        let Some(Found { member, facts }) = find(tx, organization, user).await? else {
            return Err(no_such_member(EndMemberSessionsCode::NotFound).into());
        };
        judge_ending_sessions(&facts, by)?;
        tx.audit(&entry(Action::EndMemberSessions, &member))?;
        // Whoever is signing in at this moment has done so before, and is signed out.
        tx.lock_user(user).await?;
        sessions::end_others(tx, user, None).await?;
        Ok(member)
    })
    .await
}

/// Gives a disabled member everything back as it was.
pub async fn enable(
    db: &Db,
    proof: &Granted<perm::OrganizationManage>,
    user: UserId,
) -> Result<OrganizationMember, OpError<EnableUserCode>> {
    db.write(proof, async |tx| {
        let (organization, by) = changer(tx)?;
        let Some(Found { mut member, facts }) = find(tx, organization, user).await? else {
            return Err(no_such_member(EnableUserCode::NotFound).into());
        };
        judge_enabling(&facts, by)?;
        if member.status == OrganizationMemberStatus::Disabled {
            let was = shown(&member);
            member.status = OrganizationMemberStatus::Active;
            tx.audit(&entry(Action::EnableUser, &member).changed(was, shown(&member)))?;
            set(tx, organization, user, "status", member.status.word()).await?;
        }
        Ok(member)
    })
    .await
}

/// The status of each place that somebody has in an organization, once.
pub(crate) async fn places(tx: &Tx<'_>, user: UserId) -> Result<Vec<OrganizationMemberStatus>, Fault> {
    let sql = Sql::new("SELECT DISTINCT status FROM organization_members WHERE user_id = ").bind(user.uuid());
    let words: Vec<Single<String>> = tx.all(sql).await?;
    let statuses = words.into_iter().map(|Single(status)| word(&status, OrganizationMemberStatus::from_word));
    Ok(statuses.collect::<Result<_, _>>()?)
}

/// Whether somebody has a place in the organization that is disabled.
pub(crate) async fn is_disabled_in(
    tx: &Tx<'_>,
    organization: OrganizationId,
    user: UserId,
) -> Result<bool, Fault> {
    let sql = Sql::new("SELECT 1 FROM organization_members WHERE status = 'DISABLED' AND organization_id = ")
        .bind(organization.uuid())
        .push(" AND user_id = ")
        .bind(user.uuid());
    Ok(tx.one::<Single<i32>>(sql).await?.is_some())
}
