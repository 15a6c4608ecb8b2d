//! Invitations as those see them to whom they go: by the link, or signed in under the address.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Open, OrganizationRole, OwnSession, role::Role},
    ids::{InvitationId, UserId, WorkspaceId},
    invitations::{InvitationStatus, effective_status},
    page::{Page, PageArgs},
    text::Email,
};
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use uuid::Uuid;

use super::with_status;
use crate::{
    access::{count, opens, page_by, role, role_columns, word},
    db::{Db, Tx},
    error::{Fault, ReadError},
    sql::{Single, Sql},
};

/// An invitation as the invitee sees it before answering: names only, nothing of what is inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its id.
    pub id: InvitationId,
    /// The invitee's address.
    pub email: String,
    /// The organization's name.
    pub organization: String,
    /// The role it gives in the organization; `None` where it only opens workspaces.
    pub organization_role: Option<OrganizationRole>,
    /// The name of the person who sent it.
    pub inviter: String,
    /// The inviter's own words.
    pub message: Option<String>,
    /// Where it stands.
    pub status: InvitationStatus,
    /// When it expires.
    pub expires_at: DateTime<Utc>,
    /// When it was answered or taken back.
    pub responded_at: Option<DateTime<Utc>>,
    /// What it opens.
    pub grants: Vec<ReceivedGrant>,
}

/// A workspace that an invitation opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedGrant {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// Its name in addresses.
    pub workspace_name: String,
    /// The name people read.
    pub workspace_display_name: String,
    /// The role the invitee would have.
    pub role: Role,
    /// When the membership that comes of it ends by itself.
    pub membership_expires_at: Option<DateTime<Utc>>,
}

#[derive(Debug, FromQueryResult)]
pub(super) struct ReceivedRow {
    pub(super) id: Uuid,
    email: String,
    organization_name: String,
    organization_role: Option<String>,
    inviter_name: String,
    message: Option<String>,
    status: String,
    expires_at: DateTime<Utc>,
    responded_at: Option<DateTime<Utc>>,
}

pub(super) const RECEIVED: &str = "SELECT i.id, i.email, o.name AS organization_name, i.organization_role, u.display_name AS inviter_name, i.message, \
     i.status, i.expires_at, i.responded_at FROM invitations i JOIN organizations o ON o.id = i.organization_id \
     JOIN users u ON u.id = i.inviter_id WHERE ";

#[derive(Debug)]
pub(crate) struct GrantRow {
    pub(crate) invitation: InvitationId,
    pub(crate) grant: ReceivedGrant,
}

impl FromQueryResult for GrantRow {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        Ok(Self {
            invitation: row.try_get::<Uuid>(prefix, "invitation_id")?.into(),
            grant: ReceivedGrant {
                workspace: row.try_get::<Uuid>(prefix, "workspace_id")?.into(),
                workspace_name: row.try_get(prefix, "workspace_name")?,
                workspace_display_name: row.try_get(prefix, "workspace_display_name")?,
                role: role(row, prefix)?,
                membership_expires_at: row.try_get(prefix, "membership_expires_at")?,
            },
        })
    }
}

pub(crate) fn grants_sql(ids: impl IntoIterator<Item = Uuid>) -> Sql {
    Sql::new(concat!(
        "SELECT g.invitation_id, g.workspace_id, w.name AS workspace_name, w.display_name AS workspace_display_name, \
         g.membership_expires_at, ",
        role_columns!(),
        " FROM invitation_grants g JOIN workspaces w ON w.id = g.workspace_id JOIN roles r ON r.id = g.role_id \
         WHERE g.invitation_id IN ",
    ))
    .bind_list(ids)
    .push(" ORDER BY g.invitation_id, g.workspace_id")
}

pub(super) fn assemble(
    rows: Vec<ReceivedRow>,
    grants: Vec<GrantRow>,
    now: DateTime<Utc>,
) -> Result<Vec<Received>, DbErr> {
    let mut by_invitation: HashMap<InvitationId, Vec<ReceivedGrant>> = HashMap::new();
    for GrantRow { invitation, grant } in grants {
        by_invitation.entry(invitation).or_default().push(grant);
    }
    rows.into_iter()
        .map(|row| {
            let id: InvitationId = row.id.into();
            let stored = word(&row.status, InvitationStatus::from_word)?;
            Ok(Received {
                id,
                email: row.email,
                organization: row.organization_name,
                organization_role: row
                    .organization_role
                    .map(|role| word(&role, OrganizationRole::from_word))
                    .transpose()?,
                inviter: row.inviter_name,
                message: row.message,
                status: effective_status(stored, row.expires_at, now),
                expires_at: row.expires_at,
                responded_at: row.responded_at,
                grants: by_invitation.remove(&id).unwrap_or_default(),
            })
        })
        .collect()
}

/// The invitation that a link belongs to.
pub async fn by_token(db: &Db, proof: &Open, token: &str) -> Result<Option<Received>, ReadError> {
    let found = Sql::new(format!("{RECEIVED} i.token_hash = ")).bind(db.keys().hash_token(token));
    let rows: Vec<ReceivedRow> = db.read(proof).all(found).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let grants = db.read(proof).all(grants_sql(rows.iter().map(|row| row.id))).await?;
    Ok(assemble(rows, grants, db.now())?.pop())
}

/// The actor's own invitations, the newest last: those to the verified address of the account, in a session that an
/// identity provider opened of its own organization alone.
pub async fn received_page(
    db: &Db,
    proof: &OwnSession,
    statuses: &[InvitationStatus],
    args: &PageArgs<Uuid>,
) -> Result<Page<Received>, ReadError> {
    let sql = with_status(own(Sql::new(RECEIVED), proof), statuses, db.now());
    let rows: Vec<ReceivedRow> = db.read(proof).all(page_by(sql, args, "i.id")).await?;
    let page = Page::cut(args, rows);
    let grants = if page.items.is_empty() {
        Vec::new()
    } else {
        db.read(proof).all(grants_sql(page.items.iter().map(|row| row.id))).await?
    };
    let (has_previous, has_next) = (page.has_previous, page.has_next);
    Ok(Page { items: assemble(page.items, grants, db.now())?, has_previous, has_next })
}

/// How many invitations [`received_page`] lists in all.
pub async fn count_received(
    db: &Db,
    proof: &OwnSession,
    statuses: &[InvitationStatus],
) -> Result<u64, ReadError> {
    let sql = own(Sql::new("SELECT count(*) FROM invitations i WHERE "), proof);
    count(db.read(proof).one::<Single<i64>>(with_status(sql, statuses, db.now())).await?)
}

/// One of the actor's own invitations.
pub async fn received(db: &Db, proof: &OwnSession, id: InvitationId) -> Result<Option<Received>, ReadError> {
    let sql = own(Sql::new(RECEIVED), proof).push(" AND i.id = ").bind(id.uuid());
    let rows: Vec<ReceivedRow> = db.read(proof).all(sql).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let grants = db.read(proof).all(grants_sql([id.uuid()])).await?;
    Ok(assemble(rows, grants, db.now())?.pop())
}

/// Keeps of the invitations `i` the actor's own. Who came by an identity provider has those of its organization alone: it
/// says who comes, so another organization's would be read and answered in the name of whomever it likes.
pub(super) fn own(sql: Sql, proof: &OwnSession) -> Sql {
    sql.push("i.email = (SELECT me.email FROM users me WHERE me.email_verified_at IS NOT NULL AND me.id = ")
        .bind(proof.user().uuid())
        .push(") AND ")
        .append(opens(proof, "i.organization_id"))
}

/// Whether an invitation of an organization in which the person is not disabled waits for their answer: to give it they
/// have to sign in, whatever another organization decided about them.
pub(crate) async fn awaits_answer(tx: &Tx<'_>, user: UserId) -> Result<bool, Fault> {
    let sql = Sql::new(
        "SELECT 1 FROM invitations i JOIN users u ON u.email = i.email AND u.email_verified_at IS NOT NULL \
         WHERE i.status = 'PENDING' AND i.expires_at > ",
    )
    .bind(tx.now())
    .push(" AND u.id = ")
    .bind(user.uuid())
    .push(
        " AND NOT EXISTS (SELECT 1 FROM organization_members om WHERE om.organization_id = i.organization_id \
         AND om.user_id = u.id AND om.status = 'DISABLED')",
    )
    .limit(1);
    Ok(tx.one::<Single<i32>>(sql).await?.is_some())
}

/// Where a person's invitations are announced.
#[derive(Clone, Debug)]
pub struct Announced {
    /// The verified address of the account.
    pub address: Email,
    /// Whether an identity provider opened the session, which then has the invitations of its organization alone.
    pub by_provider: bool,
}

#[derive(FromQueryResult)]
struct AnnouncedRow {
    email: String,
    by_provider: bool,
}

/// Where the actor's invitations are announced; `None` before the address is verified.
pub async fn announced(db: &Db, proof: &OwnSession) -> Result<Option<Announced>, ReadError> {
    let sql = Sql::new(
        "SELECT u.email, s.identity_provider_id IS NOT NULL AS by_provider FROM users u \
         JOIN sessions s ON s.user_id = u.id WHERE u.email_verified_at IS NOT NULL AND u.id = ",
    )
    .bind(proof.user().uuid())
    .push(" AND s.id = ")
    .bind(proof.session().uuid());
    let row: Option<AnnouncedRow> = db.read(proof).one(sql).await?;
    Ok(row.map(|row| Announced { address: Email::from_stored(row.email), by_provider: row.by_provider }))
}
