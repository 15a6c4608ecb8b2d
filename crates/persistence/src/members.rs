//! Members of a workspace: listing, changing a role, removing, leaving.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Granted, OrganizationRole, OwnSession, perm, role::Role},
    audit::{Action, Entry, ObjectKind},
    events::Event,
    ids::{MembershipId, RoleId, UserId, WorkspaceId},
    members::{
        LeaveWorkspaceCode, MemberFacts, MembershipSource, RemoveMemberCode, UpdateMemberRoleCode,
        judge_leaving, judge_removal, judge_role_change,
    },
    page::{Order, Page, PageArgs, Position},
    refusal::Refusal,
    text::SearchTerm,
};
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    access::{
        ADMINISTERS, EFFECTIVE_ADMIN_JOINS, Sorted, in_sight, role, role_columns, where_nothing_is_demanded,
        word,
    },
    accounts::User,
    counts::{self, Beside, Count, Counting},
    db::{Ask, Db, Tx},
    error::{Fault, OpError, ReadError},
    invitations,
    previews::{RemovalImpact, removal_impact},
    roles::grantable_role,
    search,
    sql::{Single, Sql},
    workspaces::fall_back,
};

/// A membership with the person it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The membership.
    pub id: MembershipId,
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The person.
    pub user: User,
    /// The role held in the workspace.
    pub role: Role,
    /// How the membership came about.
    pub source: MembershipSource,
    /// When it ends by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// Since when.
    pub joined_at: DateTime<Utc>,
}

pub(crate) const MEMBER_COLUMNS: &str = concat!(
    "m.id AS membership_id, m.workspace_id, m.source, m.expires_at, m.created_at AS joined_at, \
     u.id AS user_id, u.email, u.display_name, u.status, ",
    role_columns!()
);
pub(crate) const MEMBER_TABLES: &str =
    "memberships m JOIN users u ON u.id = m.user_id JOIN roles r ON r.id = m.role_id";

impl FromQueryResult for Member {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        Ok(Self {
            id: row.try_get::<Uuid>(prefix, "membership_id")?.into(),
            workspace: row.try_get::<Uuid>(prefix, "workspace_id")?.into(),
            user: User::from_query_result(row, prefix)?,
            role: role(row, prefix)?,
            source: word(&row.try_get::<String>(prefix, "source")?, MembershipSource::from_word)?,
            expires_at: row.try_get(prefix, "expires_at")?,
            joined_at: row.try_get(prefix, "joined_at")?,
        })
    }
}

/// Which members to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MemberFilter {
    /// Part of a name or e-mail address.
    pub search: Option<SearchTerm>,
    /// Only those with this role.
    pub role: Option<RoleId>,
    /// How they are sorted; by age: since when they are members.
    pub order: Order,
}

impl MemberFilter {
    fn apply(&self, mut sql: Sql, now: DateTime<Utc>) -> Sql {
        sql = sql.push(" AND (m.expires_at IS NULL OR m.expires_at > ").bind(now).push(")");
        if let Some(role) = self.role {
            sql = sql.push(" AND m.role_id = ").bind(role.uuid());
        }
        if let Some(search) = &self.search {
            sql = search::where_person(sql, search);
        }
        sql
    }
}

/// A page of the members of each of those workspaces, and the numbers that are asked for at the same time, all in one
/// statement. Of several workspaces it is the first page, since a cursor is of one.
pub async fn pages(
    db: &Db,
    proofs: &[Granted<perm::MembersView>],
    filter: &MemberFilter,
    args: &PageArgs<Position>,
    counts: &[Count],
) -> Result<(HashMap<WorkspaceId, Page<Member>>, Vec<u64>), ReadError> {
    let Some(proof) = proofs.first() else { return Ok((HashMap::new(), counts::counts(db, counts).await?)) };
    let args = filter.order.ascend(args);
    let sorted = Sorted::by(db, filter.order, "u.display_name", "m.id");
    let page = match proofs {
        [proof] => {
            let of =
                format!("SELECT {MEMBER_COLUMNS}, 1 AS nth FROM {MEMBER_TABLES} WHERE m.workspace_id = ");
            let sql = Sql::new(of).bind(proof.access().workspace().uuid());
            sorted.page(filter.apply(sql, db.now()), &args)
        }
        _ => {
            let order = sorted.order_by(&args);
            let sql = Sql::new(format!(
                "SELECT * FROM (SELECT {MEMBER_COLUMNS}, row_number() OVER (PARTITION BY m.workspace_id ORDER BY {order}) AS nth \
                 FROM {MEMBER_TABLES} WHERE m.workspace_id IN "
            ))
            .bind_list(proofs.iter().map(|proof| proof.access().workspace().uuid()));
            let sql = filter.apply(sql, db.now()).push(") AS numbered WHERE nth <= ");
            sql.bind(i64::from(args.size) + 1).push(" ORDER BY workspace_id, nth")
        }
    };
    let counting = Counting::of(counts, db.now());
    let sql = match &counting {
        None => page,
        Some(counting) => counting.beside(page, MEMBER_COLUMNS.split(',').count() + 1),
    };
    let mut members: HashMap<WorkspaceId, Vec<Member>> = HashMap::new();
    let mut counted = Vec::new();
    for row in db.read(proof).all::<Beside<Member>>(sql).await? {
        match row {
            Beside::Row(member) => members.entry(member.workspace).or_default().push(member),
            Beside::Counted(number) => counted.push(number),
        }
    }
    let page = |rows| filter.order.descend(Page::cut(&args, rows));
    let pages = members.into_iter().map(|(workspace, rows)| (workspace, page(rows))).collect();
    Ok((pages, counting.map_or_else(Vec::new, |counting| counting.numbers(counted))))
}

/// The actor's own memberships of several workspaces; left out where there is none.
pub async fn own(db: &Db, proofs: &[Granted<perm::WorkspaceView>]) -> Result<Vec<Member>, ReadError> {
    let Some(proof) = proofs.first() else { return Ok(Vec::new()) };
    let memberships = proofs.iter().filter_map(|proof| proof.access().membership());
    let sql = Sql::new(format!("SELECT {MEMBER_COLUMNS} FROM {MEMBER_TABLES} WHERE m.id IN "))
        .bind_list(memberships.map(MembershipId::uuid));
    Ok(db.read(proof).all(MemberFilter::default().apply(sql, db.now())).await?)
}

/// How many members each of several workspaces has, as `id` and `number`; a workspace without any is left out.
pub(crate) fn number(workspaces: &[WorkspaceId], filter: &MemberFilter, now: DateTime<Utc>) -> Sql {
    let users = if filter.search.is_some() { "JOIN users u ON u.id = m.user_id" } else { "" };
    let sql = Sql::new(format!(
        "SELECT m.workspace_id AS id, count(*) AS number FROM memberships m {users} WHERE m.workspace_id IN "
    ))
    .bind_list(workspaces.iter().map(|id| id.uuid()));
    filter.apply(sql, now).push(" GROUP BY m.workspace_id")
}

/// A member with what the rules about admins ask.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) member: Member,
    pub(crate) facts: MemberFacts,
}

/// Finds a member of the workspace by membership or by person, while the workspace is locked.
pub(crate) async fn find(
    tx: &impl Ask,
    workspace: WorkspaceId,
    key: &str,
    value: Uuid,
) -> Result<Option<Found>, Fault> {
    let sql = Sql::new(format!(
        "SELECT {MEMBER_COLUMNS}, om.role AS organization_role, w.created_by FROM {MEMBER_TABLES} \
         JOIN workspaces w ON w.id = m.workspace_id \
         LEFT JOIN organization_members om ON om.user_id = u.id AND om.organization_id = w.organization_id \
             AND om.status = 'ACTIVE' \
         WHERE m.workspace_id = "
    ))
    .bind(workspace.uuid())
    .push(&format!(" AND {key} = "))
    .bind(value);
    let sql = MemberFilter::default().apply(sql, tx.now());
    let Some(FoundRow { member, organization_role, created_by }) = tx.one(sql).await? else {
        return Ok(None);
    };
    let other_admins = other_admins(tx, workspace, member.id).await?;
    let facts = MemberFacts {
        user: member.user.id,
        role: member.role.clone(),
        organization_role,
        is_creator: created_by == Some(member.user.id.uuid()),
        ends_at: member.expires_at,
        other_admins,
    };
    Ok(Some(Found { member, facts }))
}

#[derive(Debug)]
struct FoundRow {
    member: Member,
    organization_role: Option<OrganizationRole>,
    created_by: Option<Uuid>,
}

impl FromQueryResult for FoundRow {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        Ok(Self {
            member: Member::from_query_result(row, prefix)?,
            organization_role: row
                .try_get::<Option<String>>(prefix, "organization_role")?
                .map(|role| word(&role, OrganizationRole::from_word))
                .transpose()?,
            created_by: row.try_get(prefix, "created_by")?,
        })
    }
}

/// How many effective admins the workspace has besides that member.
async fn other_admins(tx: &impl Ask, workspace: WorkspaceId, besides: MembershipId) -> Result<u64, Fault> {
    let sql = Sql::new(format!(
        "SELECT count(*) FROM workspaces w JOIN memberships m ON m.workspace_id = w.id {EFFECTIVE_ADMIN_JOINS} \
         WHERE m.expires_at IS NULL AND {ADMINISTERS} AND w.id = "
    ))
    .bind(workspace.uuid())
    .push(" AND m.id <> ")
    .bind(besides.uuid());
    Ok(tx.one::<Single<i64>>(sql).await?.map_or(0, |Single(number)| u64::try_from(number).unwrap_or(0)))
}

/// Gives a member another role, and with `expires_at` another end; `Some(None)` is no end.
pub async fn update_role(
    db: &Db,
    proof: &Granted<perm::MembersManage>,
    member: MembershipId,
    role: RoleId,
    expires_at: Option<Option<DateTime<Utc>>>,
) -> Result<Member, OpError<UpdateMemberRoleCode>> {
    use UpdateMemberRoleCode as Code;
    db.write(proof, async |tx| {
        let access = tx.access()?.clone();
        let workspace = access.workspace();
        let Some(Found { mut member, facts }) = find(tx, workspace, "m.id", member.uuid()).await? else {
            return Err(no_such_member(Code::NotFound).into());
        };
        let Some(role) = grantable_role(tx, workspace, role).await? else {
            return Err(no_such_role().into());
        };
        let expires_at = expires_at.unwrap_or(member.expires_at);
        judge_role_change(
            &facts,
            &role,
            expires_at,
            access.actor().person(),
            access.organization_role(),
            access.permissions(),
        )?;
        tx.run(
            Sql::new("UPDATE memberships SET role_id = ")
                .bind(role.id.uuid())
                .push(", expires_at = ")
                .bind(expires_at)
                .push(", updated_at = ")
                .bind(tx.now())
                .push(" WHERE id = ")
                .bind(member.id.uuid()),
        )
        .await?;
        tx.append(Event::Access { workspace, user: member.user.id });
        let was = shown(&member);
        member.role = role;
        member.expires_at = expires_at;
        tx.audit(&entry(Action::UpdateMemberRole, &member).changed(was, shown(&member)))?;
        Ok(member)
    })
    .await
}

/// Ends somebody's membership, and with it their access, the subscriptions they have open in the workspace
/// and the pending invitations to it that they sent. Tells what has ended.
pub async fn remove(
    db: &Db,
    proof: &Granted<perm::MembersManage>,
    member: MembershipId,
) -> Result<(Member, RemovalImpact), OpError<RemoveMemberCode>> {
    db.write(proof, async |tx| {
        let access = tx.access()?.clone();
        let Some(Found { member, facts }) = find(tx, access.workspace(), "m.id", member.uuid()).await? else {
            return Err(no_such_member(RemoveMemberCode::NotFound).into());
        };
        judge_removal(&facts, access.actor().person(), access.organization_role())?;
        // The person could choose another default meanwhile.
        tx.lock_user(member.user.id).await?;
        let ended = removal_impact(tx, &member).await?;
        end(tx, &member).await?;
        tx.audit(&entry(Action::RemoveMember, &member).before(shown(&member)))?;
        Ok((member, ended))
    })
    .await
}

/// Ends the actor's own membership.
pub async fn leave(
    db: &Db,
    proof: &Granted<perm::WorkspaceView>,
) -> Result<Member, OpError<LeaveWorkspaceCode>> {
    db.write(proof, async |tx| {
        let access = tx.access()?.clone();
        let user = access.person()?;
        let Some(Found { member, facts }) = find(tx, access.workspace(), "m.user_id", user.uuid()).await?
        else {
            return Err(Refusal::new(
                LeaveWorkspaceCode::NotFound,
                "You are not a member of this workspace. You see it as an admin of the organization.",
            )
            .into());
        };
        judge_leaving(&facts)?;
        end(tx, &member).await?;
        tx.audit(&entry(Action::LeaveWorkspace, &member).before(shown(&member)))?;
        Ok(member)
    })
    .await
}

fn entry(action: Action, member: &Member) -> Entry {
    Entry::of(action, ObjectKind::Membership, member.id, member.user.display_name.as_str())
}

/// A membership, as the audit log tells it.
fn shown(member: &Member) -> Value {
    json!({
        "userId": member.user.id.to_string(),
        "email": member.user.email,
        "role": member.role.key,
        "expiresAt": member.expires_at,
    })
}

pub(crate) fn no_such_member<C>(code: C) -> Refusal<C> {
    Refusal::new(code, "This workspace has no such member.").at("memberId")
}

pub(crate) fn no_such_role() -> Refusal<UpdateMemberRoleCode> {
    Refusal::new(UpdateMemberRoleCode::InvalidInput, "`role` is no role of this organization.").at("role")
}

async fn end(tx: &mut Tx<'_>, member: &Member) -> Result<(), Fault> {
    let gone = Sql::new("DELETE FROM memberships WHERE id = ").bind(member.id.uuid());
    tx.run(gone).await?;
    fall_back(tx, member.workspace, member.user.id).await?;
    invitations::revoke_sent_by(tx, member.workspace, member.user.id).await?;
    tx.append(Event::Access { workspace: member.workspace, user: member.user.id });
    Ok(())
}

/// The people with whom the actor shares an organization and whose name or e-mail address contains the
/// term; at most 20, the best match first.
pub async fn search_users(
    db: &Db,
    proof: &Granted<perm::MembersInvite>,
    term: &SearchTerm,
) -> Result<Vec<User>, ReadError> {
    let sql = Sql::new(
        "SELECT u.id AS user_id, u.email, u.display_name, u.status FROM organization_members om \
         JOIN users u ON u.id = om.user_id AND u.status = 'ACTIVE' \
         WHERE om.status = 'ACTIVE' AND om.organization_id = ",
    )
    .bind(proof.access().organization().uuid());
    let sql = search::where_person(sql, term)
        .push(" ORDER BY CASE WHEN u.email = ")
        .bind(term.as_str().to_lowercase())
        .push(" THEN 0 ELSE 1 END, u.search_text, u.id LIMIT 20");
    Ok(db.read(proof).all(sql).await?)
}

/// A person, if the actor may see them: themselves, whoever shares a workspace with them whose members all
/// see, and everyone in an organization that they are an admin of.
pub async fn visible_user(db: &Db, proof: &OwnSession, user: UserId) -> Result<Option<User>, ReadError> {
    let sql =
        Sql::new("SELECT u.id AS user_id, u.email, u.display_name, u.status FROM users u WHERE u.id = ")
            .bind(user.uuid())
            .push(" AND (u.id = ")
            .bind(proof.user().uuid())
            .push(
                " OR EXISTS (SELECT 1 FROM organization_members mine \
         JOIN organization_members theirs ON theirs.organization_id = mine.organization_id \
         JOIN organizations o ON o.id = mine.organization_id JOIN users me ON me.id = mine.user_id \
         JOIN sessions s ON s.id = ",
            )
            .bind(proof.session().uuid())
            .push(" WHERE theirs.user_id = u.id AND mine.status = 'ACTIVE' AND mine.user_id = ")
            .bind(proof.user().uuid());
    let has_second_factor = "me.second_factor_at IS NOT NULL";
    let sql = where_nothing_is_demanded(sql, db.engine(), "mine", has_second_factor, db.now())
    .push(
        " AND (mine.role <> 'MEMBER' OR theirs.status = 'ACTIVE' AND o.member_list_visibility = 'MEMBERS' AND EXISTS (\
         SELECT 1 FROM memberships a JOIN memberships b ON b.workspace_id = a.workspace_id \
         JOIN workspaces w ON w.id = a.workspace_id AND w.organization_id = mine.organization_id \
         JOIN roles r ON r.id = a.role_id \
             AND (r.organization_id IS NULL OR r.permissions LIKE '%\"members.view\"%') \
         WHERE a.user_id = mine.user_id AND b.user_id = u.id \
         AND (a.expires_at IS NULL OR a.expires_at > ",
    )
    .bind(db.now())
    .push(") AND (b.expires_at IS NULL OR b.expires_at > ")
    .bind(db.now())
    .push(")))))");
    Ok(db.read(proof).one(sql).await?)
}

/// The workspace that a membership is of, if the actor knows of it: where to ask whether it may be seen.
pub async fn workspace_of(
    db: &Db,
    proof: &OwnSession,
    id: MembershipId,
) -> Result<Option<WorkspaceId>, ReadError> {
    let sql = Sql::new(
        "SELECT m.workspace_id FROM memberships m JOIN workspaces w ON w.id = m.workspace_id WHERE m.id = ",
    )
    .bind(id.uuid());
    let sql = in_sight(sql, proof.actor());
    Ok(db.read(proof).one::<Single<Uuid>>(sql).await?.map(|Single(id)| id.into()))
}

/// One of a workspace's members.
pub async fn by_id(
    db: &Db,
    proof: &Granted<perm::MembersView>,
    id: MembershipId,
) -> Result<Option<Member>, ReadError> {
    let sql = Sql::new(format!("SELECT {MEMBER_COLUMNS} FROM {MEMBER_TABLES} WHERE m.workspace_id = "))
        .bind(proof.access().workspace().uuid())
        .push(" AND m.id = ")
        .bind(id.uuid());
    let sql = MemberFilter::default().apply(sql, db.now());
    Ok(db.read(proof).one(sql).await?)
}
