//! Invitations, as those see them who send them: listing, and what ends them whoever wants it.

mod answering;
mod received;
mod sending;

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Granted, OrganizationRole, OwnSession, perm, role::Role},
    events::Event,
    ids::{InvitationId, OrganizationId, UserId, WorkspaceId},
    invitations::{DeliveryState, InvitationStatus, effective_status},
    page::{Page, PageArgs},
    text::Email,
};
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use uuid::Uuid;

pub use answering::{Answer, accept, decline, decline_by_token};
pub(crate) use answering::{admit, check_acceptable, link_invalid, load_answerable};
pub use received::{
    Announced, Received, ReceivedGrant, announced, by_token, count_received, received, received_page,
};
pub(crate) use received::{GrantRow, awaits_answer, grants_sql};
pub(crate) use sending::{Draft, Letterhead, write};
pub use sending::{
    Invitee, Who, address_of_invitation, addresses_of_people, invite, invite_many, resend, revoke,
};

use crate::{
    access::{self, page_by, pages_of, role, role_columns, word},
    db::{Ask, Db, Tx},
    error::{Fault, ReadError},
    mails,
    sql::{AT_ONCE, Placed, Single, Sql},
};

/// An invitation as the admins of one of its workspaces see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Its id.
    pub id: InvitationId,
    /// The workspace it is seen from.
    pub workspace: WorkspaceId,
    /// The invitee's address.
    pub email: String,
    /// The role it gives in this workspace.
    pub role: Role,
    /// The person who sent it.
    pub inviter: UserId,
    /// The role it gives in the organization; `None` where it only opens workspaces. One that gives a place in the
    /// organization is sent again and revoked by the organization's admins.
    pub organization_role: Option<OrganizationRole>,
    /// Where it stands now; an expired one says so.
    pub status: InvitationStatus,
    /// The inviter's own words.
    pub message: Option<String>,
    /// When it expires.
    pub expires_at: DateTime<Utc>,
    /// When the membership that comes of it ends by itself.
    pub membership_expires_at: Option<DateTime<Utc>>,
    /// Where its mail stands.
    pub delivery: DeliveryState,
    /// What the mail server said last, if it refused.
    pub delivery_error: Option<String>,
    /// When the mail server took the last mail.
    pub sent_at: Option<DateTime<Utc>>,
    /// When it was answered or taken back.
    pub responded_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

const INVITATION_COLUMNS: &str = concat!(
    "i.id, g.workspace_id, i.email, i.inviter_id, i.status, i.message, i.expires_at, i.delivery, i.delivery_error, \
     i.sent_at, i.responded_at, i.created_at, g.membership_expires_at, i.organization_role, ",
    role_columns!()
);
const INVITATION_TABLES: &str = "invitation_grants g JOIN invitations i ON i.id = g.invitation_id \
     JOIN roles r ON r.id = g.role_id";

impl FromQueryResult for Invitation {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        Ok(Self {
            id: row.try_get::<Uuid>(prefix, "id")?.into(),
            workspace: row.try_get::<Uuid>(prefix, "workspace_id")?.into(),
            email: row.try_get(prefix, "email")?,
            role: role(row, prefix)?,
            inviter: row.try_get::<Uuid>(prefix, "inviter_id")?.into(),
            status: word(&row.try_get::<String>(prefix, "status")?, InvitationStatus::from_word)?,
            message: row.try_get(prefix, "message")?,
            expires_at: row.try_get(prefix, "expires_at")?,
            membership_expires_at: row.try_get(prefix, "membership_expires_at")?,
            organization_role: row
                .try_get::<Option<String>>(prefix, "organization_role")?
                .map(|role| word(&role, OrganizationRole::from_word))
                .transpose()?,
            delivery: word(&row.try_get::<String>(prefix, "delivery")?, DeliveryState::from_word)?,
            delivery_error: row.try_get(prefix, "delivery_error")?,
            sent_at: row.try_get(prefix, "sent_at")?,
            responded_at: row.try_get(prefix, "responded_at")?,
            created_at: row.try_get(prefix, "created_at")?,
        })
    }
}

impl Invitation {
    /// The same with the status people see at that moment.
    fn at(mut self, now: DateTime<Utc>) -> Self {
        self.status = effective_status(self.status, self.expires_at, now);
        self
    }
}

/// The link of an invitation.
pub(crate) fn link(app_url: &str, token: &str) -> String {
    format!("{app_url}/invitations/{token}")
}

/// Moves a pending invitation to another status; `false` when it was not pending.
pub(crate) async fn set_status(
    tx: &Tx<'_>,
    id: InvitationId,
    status: InvitationStatus,
) -> Result<bool, Fault> {
    Ok(set_status_of_each(tx, &[id], status).await?.contains(&id))
}

/// Moves those of the invitations that are pending to another status, and tells which they were.
async fn set_status_of_each(
    tx: &Tx<'_>,
    ids: &[InvitationId],
    status: InvitationStatus,
) -> Result<HashSet<InvitationId>, Fault> {
    let uuids = |ids: &[InvitationId]| ids.iter().map(|id| id.uuid()).collect::<Vec<_>>();
    let sql = Sql::new("UPDATE invitations SET status = ")
        .bind(status.word())
        .push(", responded_at = ")
        .bind(tx.now())
        .push(", updated_at = ")
        .bind(tx.now())
        // A mail that is still on its way to the mail server says so when it has arrived.
        .push(", delivery = CASE WHEN delivery = ")
        .bind(DeliveryState::Queued.word())
        .push(" THEN ")
        .bind(DeliveryState::Cancelled.word())
        .push(" ELSE delivery END WHERE status = 'PENDING' AND id IN ")
        .bind_list(uuids(ids))
        .push(" RETURNING id");
    let changed: Vec<InvitationId> =
        tx.all::<Single<Uuid>>(sql).await?.into_iter().map(|Single(id)| id.into()).collect();
    if !changed.is_empty() {
        let done =
            Sql::new("UPDATE invitation_grants SET pending = ").bind(false).push(" WHERE invitation_id IN ");
        tx.run(done.bind_list(uuids(&changed))).await?;
        mails::cancel(tx, &changed).await?;
    }
    Ok(changed.into_iter().collect())
}

/// Revokes the pending invitations of the organization that a person sent, or received, who is no longer in it.
pub(crate) async fn revoke_of_person(
    tx: &mut Tx<'_>,
    organization: OrganizationId,
    user: UserId,
    email: &Email,
) -> Result<(), Fault> {
    let sql = Sql::new(
        "SELECT i.id, i.email, g.workspace_id FROM invitations i \
         LEFT JOIN invitation_grants g ON g.invitation_id = i.id \
         WHERE i.status = 'PENDING' AND i.organization_id = ",
    )
    .bind(organization.uuid())
    .push(" AND (i.inviter_id = ")
    .bind(user.uuid())
    .push(" OR i.email = ")
    .bind(email.as_str())
    .push(") ORDER BY i.id, g.workspace_id");
    let pending = tx.all(sql).await?;
    revoke_each(tx, pending).await
}

/// Revokes those of the invitations that are pending, and tells of each. What belongs to one stands together.
async fn revoke_each(tx: &mut Tx<'_>, opened: Vec<Opened>) -> Result<(), Fault> {
    /// As many invitations as one statement surely takes values.
    const AT_ONCE: usize = 500;
    let mut ids: Vec<InvitationId> = opened.iter().map(|opened| opened.id.into()).collect();
    ids.dedup();
    let status = InvitationStatus::Revoked;
    let mut revoked = HashSet::new();
    for ids in ids.chunks(AT_ONCE) {
        revoked.extend(set_status_of_each(tx, ids, status).await?);
    }
    for Opened { id, email, workspace_id } in opened {
        let (invitation, email) = (id.into(), Email::from_stored(email));
        if revoked.contains(&invitation) {
            tx.append(match workspace_id.map(WorkspaceId::from) {
                Some(workspace) => Event::Invitation { invitation, workspace, email, status },
                None => Event::OrganizationInvitation { invitation, email, status },
            });
        }
    }
    Ok(())
}

/// An invitation with one of the workspaces that it opens, if it opens any.
#[derive(Debug, FromQueryResult)]
struct Opened {
    id: Uuid,
    email: String,
    workspace_id: Option<Uuid>,
}

/// Revokes the pending invitations to the workspace that a person sent who is no longer in it.
pub(crate) async fn revoke_sent_by(
    tx: &mut Tx<'_>,
    workspace: WorkspaceId,
    inviter: UserId,
) -> Result<(), Fault> {
    let sent = sent_by(tx, workspace, inviter).await?;
    let of_workspace = |Addressed { id, email }| Opened { id, email, workspace_id: Some(workspace.uuid()) };
    revoke_each(tx, sent.into_iter().map(of_workspace).collect()).await
}

/// The invitations to the workspace that a person sent and nobody has answered, even after they have expired.
pub(crate) async fn sent_by(
    tx: &impl Ask,
    workspace: WorkspaceId,
    inviter: UserId,
) -> Result<Vec<Addressed>, Fault> {
    let sql = Sql::new(
        "SELECT i.id, i.email FROM invitations i JOIN invitation_grants g ON g.invitation_id = i.id AND g.pending \
         WHERE i.status = 'PENDING' AND i.organization_role IS NULL AND i.inviter_id = ",
    )
    .bind(inviter.uuid())
    .push(" AND g.workspace_id = ")
    .bind(workspace.uuid())
    .push(" ORDER BY i.id");
    tx.all(sql).await
}

/// An invitation and its address.
#[derive(Debug, FromQueryResult)]
pub(crate) struct Addressed {
    pub(crate) id: Uuid,
    email: String,
}

/// Adds the statuses people see to a `WHERE`: `PENDING` and `EXPIRED` differ by the clock.
pub(crate) fn with_status(mut sql: Sql, statuses: &[InvitationStatus], now: DateTime<Utc>) -> Sql {
    if statuses.is_empty() {
        return sql;
    }
    let mut or = " AND (";
    for status in statuses {
        sql = sql.push(or);
        or = " OR ";
        sql = match status {
            InvitationStatus::Pending => sql.push("i.status = 'PENDING' AND i.expires_at > ").bind(now),
            InvitationStatus::Expired => sql.push("i.status = 'PENDING' AND i.expires_at <= ").bind(now),
            other => sql.push("i.status = ").bind(other.word()),
        };
    }
    sql.push(")")
}

/// What to list of a workspace's invitations: those in one of the statuses, in any when there is none.
pub type Listed = (Granted<perm::InvitationsView>, Vec<InvitationStatus>, PageArgs<Uuid>);

/// Pages of invitations, each of a workspace and the newest last, in the order in which they were asked for.
pub async fn pages(db: &Db, wanted: &[Listed]) -> Result<Vec<Page<Invitation>>, ReadError> {
    let now = db.now();
    let mut pages = Vec::with_capacity(wanted.len());
    for wanted in wanted.chunks(AT_ONCE) {
        let Some((proof, ..)) = wanted.first() else { break };
        let each = wanted.iter().map(|(proof, statuses, args)| {
            let sql = Sql::new(
                "SELECT g.workspace_id, g.invitation_id FROM invitation_grants g \
                 JOIN invitations i ON i.id = g.invitation_id WHERE g.workspace_id = ",
            )
            .bind(proof.access().workspace().uuid());
            page_by(with_status(sql, statuses, now), args, "g.invitation_id")
        });
        let sql = Sql::new(format!("SELECT listed.place, {INVITATION_COLUMNS} FROM ("))
            .append(Sql::each(each))
            .push(&format!(
                ") AS listed, {INVITATION_TABLES} WHERE g.workspace_id = listed.workspace_id \
                 AND g.invitation_id = listed.invitation_id ORDER BY g.invitation_id"
            ));
        let rows: Vec<Placed<Invitation>> = db.read(proof).all(sql).await?;
        let found = pages_of(wanted.iter().map(|(_, _, args)| args), rows);
        pages.extend(found.into_iter().map(|page| page.map(|invitation| invitation.at(now))));
    }
    Ok(pages)
}

/// How many invitations in those statuses each of several workspaces has, as `id` and `number`; one without any is
/// left out.
pub(crate) fn number(workspaces: &[WorkspaceId], statuses: &[InvitationStatus], now: DateTime<Utc>) -> Sql {
    let sql = Sql::new(
        "SELECT g.workspace_id AS id, count(*) AS number FROM invitation_grants g \
         JOIN invitations i ON i.id = g.invitation_id WHERE g.workspace_id IN ",
    )
    .bind_list(workspaces.iter().map(|id| id.uuid()));
    // The partial index on what is pending serves the common question; a superset by itself.
    let pending_only = statuses == [InvitationStatus::Pending];
    let sql = if pending_only { sql.push(" AND g.pending") } else { sql };
    with_status(sql, statuses, now).push(" GROUP BY g.workspace_id")
}

/// One of a workspace's invitations.
pub async fn by_id(
    db: &Db,
    proof: &Granted<perm::InvitationsView>,
    id: InvitationId,
) -> Result<Option<Invitation>, ReadError> {
    Ok(by_ids(db, proof, &[id]).await?.pop())
}

/// Several of a workspace's invitations.
pub async fn by_ids(
    db: &Db,
    proof: &Granted<perm::InvitationsView>,
    ids: &[InvitationId],
) -> Result<Vec<Invitation>, ReadError> {
    let sql =
        Sql::new(format!("SELECT {INVITATION_COLUMNS} FROM {INVITATION_TABLES} WHERE g.workspace_id = "))
            .bind(proof.access().workspace().uuid())
            .push(" AND i.id IN ")
            .bind_list(ids.iter().map(|id| id.uuid()));
    let now = db.now();
    let rows: Vec<Invitation> = db.read(proof).all(sql).await?;
    Ok(rows.into_iter().map(|invitation| invitation.at(now)).collect())
}

/// The workspaces that an invitation opens, as far as the actor knows of them: where an admin has to look
/// for it.
pub async fn workspaces_of(
    db: &Db,
    proof: &OwnSession,
    id: InvitationId,
) -> Result<Vec<WorkspaceId>, ReadError> {
    let sql = Sql::new(
        "SELECT g.workspace_id FROM invitation_grants g JOIN workspaces w ON w.id = g.workspace_id \
         WHERE g.invitation_id = ",
    )
    .bind(id.uuid());
    let rows: Vec<Single<Uuid>> = db.read(proof).all(access::in_sight(sql, proof.actor())).await?;
    Ok(rows.into_iter().map(|Single(id)| id.into()).collect())
}
