//! Invitations to an organization: sending, sending again, revoking, listing. They are answered like any other
//! (`invitations`).

use std::collections::{HashMap, HashSet, hash_map::Entry};

use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Granted, OrganizationRole, perm},
    audit::{self, Action, ObjectKind},
    events::Event,
    ids::{InvitationId, RoleId, UserId, WorkspaceId},
    invitations::{DeliveryState, InvitationStatus, effective_status, expiry},
    mail::{InvitationLetter, InvitedWorkspace, Letter},
    organization_invitations::{
        InviteOrganizationMemberCode, InviteeFacts, Opening, ResendOrganizationInvitationCode,
        RevokeOrganizationInvitationCode, answerable_until, judge_invitation,
    },
    page::{Page, PageArgs},
    refusal::Refusal,
    text::{Email, Message},
};
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    access::{numbers_of, page_by, pages_of, word},
    db::{Db, Tx},
    error::{Fault, OpError, ReadError},
    invitations::{GrantRow, ReceivedGrant, grants_sql, link, set_status, with_status},
    keys::fresh_token,
    mails,
    quotas::{self, Seat},
    roles,
    sql::{AT_ONCE, Placed, Single, Sql},
};

/// An invitation to an organization, as its admins see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrganizationInvitation {
    /// Its id.
    pub id: InvitationId,
    /// The invitee's address.
    pub email: String,
    /// The role it gives in the organization.
    pub role: OrganizationRole,
    /// The person who sent it.
    pub inviter: UserId,
    /// Where it stands now; an expired one says so.
    pub status: InvitationStatus,
    /// The inviter's own words.
    pub message: Option<String>,
    /// When it expires.
    pub expires_at: DateTime<Utc>,
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
    /// The workspaces that it opens.
    pub grants: Vec<ReceivedGrant>,
}

impl FromQueryResult for OrganizationInvitation {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        Ok(Self {
            id: row.try_get::<Uuid>(prefix, "id")?.into(),
            email: row.try_get(prefix, "email")?,
            role: word(&row.try_get::<String>(prefix, "organization_role")?, OrganizationRole::from_word)?,
            inviter: row.try_get::<Uuid>(prefix, "inviter_id")?.into(),
            status: word(&row.try_get::<String>(prefix, "status")?, InvitationStatus::from_word)?,
            message: row.try_get(prefix, "message")?,
            expires_at: row.try_get(prefix, "expires_at")?,
            delivery: word(&row.try_get::<String>(prefix, "delivery")?, DeliveryState::from_word)?,
            delivery_error: row.try_get(prefix, "delivery_error")?,
            sent_at: row.try_get(prefix, "sent_at")?,
            responded_at: row.try_get(prefix, "responded_at")?,
            created_at: row.try_get(prefix, "created_at")?,
            grants: Vec::new(),
        })
    }
}

/// Gives invitations their grants and the status that people see at that moment. One may stand in several lists.
fn furnishing(
    grants: Vec<GrantRow>,
    now: DateTime<Utc>,
) -> impl Fn(OrganizationInvitation) -> OrganizationInvitation {
    let mut by_invitation: HashMap<InvitationId, Vec<ReceivedGrant>> = HashMap::new();
    for GrantRow { invitation, grant } in grants {
        by_invitation.entry(invitation).or_default().push(grant);
    }
    move |invitation| OrganizationInvitation {
        grants: by_invitation.get(&invitation.id).cloned().unwrap_or_default(),
        status: effective_status(invitation.status, invitation.expires_at, now),
        ..invitation
    }
}

const COLUMNS: &str = "SELECT i.id, i.email, i.organization_role, i.inviter_id, i.status, i.message, i.expires_at, \
     i.delivery, i.delivery_error, i.sent_at, i.responded_at, i.created_at";
const OF_ORGANIZATION: &str =
    " FROM invitations i WHERE i.organization_role IS NOT NULL AND i.organization_id = ";

/// What to list of an organization's invitations: those in one of the statuses, in any when there is none.
pub type Listed = (Granted<perm::OrganizationManage>, Vec<InvitationStatus>, PageArgs<Uuid>);

/// Pages of invitations to organizations themselves, each of an organization and the newest last, in the order in which
/// they were asked for.
pub async fn pages(db: &Db, wanted: &[Listed]) -> Result<Vec<Page<OrganizationInvitation>>, ReadError> {
    let now = db.now();
    let mut pages = Vec::with_capacity(wanted.len());
    for wanted in wanted.chunks(AT_ONCE) {
        let Some((proof, ..)) = wanted.first() else { break };
        let each = wanted.iter().map(|(proof, statuses, args)| {
            let sql =
                Sql::new(format!("{COLUMNS}{OF_ORGANIZATION}")).bind(proof.access().organization().uuid());
            page_by(with_status(sql, statuses, now), args, "i.id")
        });
        let sql = Sql::new("SELECT * FROM (").append(Sql::each(each)).push(") AS listed ORDER BY id");
        let rows: Vec<Placed<OrganizationInvitation>> = db.read(proof).all(sql).await?;
        let found = pages_of(wanted.iter().map(|(_, _, args)| args), rows);
        let ids: Vec<Uuid> = found.iter().flat_map(|page| &page.items).map(|row| row.id.uuid()).collect();
        let grants = match &ids[..] {
            [] => Vec::new(),
            _ => db.read(proof).all(grants_sql(ids)).await?,
        };
        let furnished = furnishing(grants, now);
        pages.extend(found.into_iter().map(|page| page.map(&furnished)));
    }
    Ok(pages)
}

/// How many invitations each of those lists has in all.
pub async fn numbers(
    db: &Db,
    wanted: &[(Granted<perm::OrganizationManage>, Vec<InvitationStatus>)],
) -> Result<Vec<u64>, ReadError> {
    let now = db.now();
    let mut numbers = Vec::with_capacity(wanted.len());
    for wanted in wanted.chunks(AT_ONCE) {
        let Some((proof, _)) = wanted.first() else { break };
        let each = wanted.iter().map(|(proof, statuses)| {
            let sql = Sql::new(format!("SELECT count(*) AS number{OF_ORGANIZATION}"))
                .bind(proof.access().organization().uuid());
            with_status(sql, statuses, now)
        });
        numbers.extend(numbers_of(db.read(proof).all(Sql::each(each)).await?));
    }
    Ok(numbers)
}

/// Whom to invite, and to what.
#[derive(Clone, Debug)]
pub struct NewInvitation {
    /// The address.
    pub email: Email,
    /// The role in the organization; never an owner's.
    pub role: OrganizationRole,
    /// The workspaces to open.
    pub workspaces: Vec<NewGrant>,
    /// The inviter's own words.
    pub message: Option<Message>,
}

/// A workspace to invite to.
#[derive(Clone, Debug)]
pub struct NewGrant {
    /// Which one.
    pub workspace: WorkspaceId,
    /// The role there.
    pub role: RoleId,
    /// When the membership ends by itself.
    pub membership_expires_at: Option<DateTime<Utc>>,
}

/// Invites somebody to the organization and to any number of its workspaces, all or nothing. Who may is an implicit
/// Admin of every workspace, and so lacks nothing that the roles hold.
pub async fn invite(
    db: &Db,
    proof: &Granted<perm::OrganizationManage>,
    new: &NewInvitation,
) -> Result<OrganizationInvitation, OpError<InviteOrganizationMemberCode>> {
    db.write(proof, async |tx| {
        let organization = proof.access().organization();
        lock(tx, proof, new).await?;
        let found = find_openings(tx, proof, new).await?;
        let (invitee, replaced) = find_invitee(tx, proof, &new.email).await?;
        judge_invitation(invitee, &new.email, &found.openings)?;
        let opened: Vec<WorkspaceId> = new.workspaces.iter().map(|grant| grant.workspace).collect();
        let room = quotas::seat(tx, organization, &opened, new.email.as_str(), Seat::Invited).await?;
        room.map_err(|exceeded| exceeded.refusal(InviteOrganizationMemberCode::QuotaExceeded).at("email"))?;
        for stale in replaced.into_iter().chain(found.replaced) {
            take_back(tx, stale, &new.email, InvitationStatus::Superseded).await?;
        }
        let letterhead = letterhead(tx, proof).await?;
        let hours = tx.organization()?.policy().invitation_lifetime_hours;
        let expires_at = answerable_until(
            expiry(tx.now(), hours, tx.db().settings().invitation_hours),
            new.workspaces.iter().map(|grant| grant.membership_expires_at),
        );
        let grants = new.workspaces.iter().zip(found.openings).filter_map(|(grant, opening)| {
            Some(ReceivedGrant {
                workspace: grant.workspace,
                workspace_name: found.names.get(&grant.workspace)?.clone(),
                workspace_display_name: opening.workspace?,
                role: opening.role?,
                membership_expires_at: grant.membership_expires_at,
            })
        });
        let invitation = OrganizationInvitation {
            id: tx.fresh_id(),
            email: new.email.as_str().to_owned(),
            role: new.role,
            inviter: proof.access().person()?,
            status: InvitationStatus::Pending,
            message: new.message.as_ref().map(|message| message.as_str().to_owned()),
            expires_at,
            delivery: DeliveryState::Queued,
            delivery_error: None,
            sent_at: None,
            responded_at: None,
            created_at: tx.now(),
            grants: grants.collect(),
        };
        let token = fresh_token()?;
        tx.defer(Sql::insert(
            "invitations",
            [
                ("id", invitation.id.uuid().into()),
                ("organization_id", organization.uuid().into()),
                ("organization_role", invitation.role.word().into()),
                ("email", invitation.email.as_str().into()),
                ("inviter_id", invitation.inviter.uuid().into()),
                ("status", invitation.status.word().into()),
                ("message", invitation.message.clone().into()),
                ("token_hash", tx.db().keys().hash_token(&token).into()),
                ("expires_at", invitation.expires_at.into()),
                ("delivery", invitation.delivery.word().into()),
                ("created_at", tx.now().into()),
                ("updated_at", tx.now().into()),
            ],
        ));
        for grant in &invitation.grants {
            tx.defer(Sql::insert(
                "invitation_grants",
                [
                    ("invitation_id", invitation.id.uuid().into()),
                    ("workspace_id", grant.workspace.uuid().into()),
                    ("role_id", grant.role.id.uuid().into()),
                    ("email", invitation.email.as_str().into()),
                    ("pending", true.into()),
                    ("membership_expires_at", grant.membership_expires_at.into()),
                ],
            ));
        }
        send(tx, &invitation, letterhead, &token)?;
        tell(tx, &invitation);
        tx.audit(&entry(Action::InviteOrganizationMember, &invitation).after(shown(&invitation)))?;
        Ok(invitation)
    })
    .await
}

fn entry(action: Action, invitation: &OrganizationInvitation) -> audit::Entry {
    audit::Entry::of(action, ObjectKind::Invitation, invitation.id, invitation.email.as_str())
}

/// An invitation, as the audit log tells it: nothing of its link.
fn shown(invitation: &OrganizationInvitation) -> Value {
    let workspaces = invitation.grants.iter().map(|grant| {
        json!({
            "name": grant.workspace_name,
            "role": grant.role.key,
            "membershipExpiresAt": grant.membership_expires_at,
        })
    });
    json!({
        "email": invitation.email,
        "organizationRole": invitation.role.word(),
        "workspaces": workspaces.collect::<Vec<_>>(),
        "status": invitation.status.word(),
        "expiresAt": invitation.expires_at,
    })
}

/// Locks every workspace that is told: those to invite to, and those of what the new invitation replaces.
async fn lock(
    tx: &Tx<'_>,
    proof: &Granted<perm::OrganizationManage>,
    new: &NewInvitation,
) -> Result<(), Fault> {
    let organization = proof.access().organization();
    let sql = Sql::new(
        "SELECT g.workspace_id FROM invitations i JOIN invitation_grants g ON g.invitation_id = i.id \
         WHERE i.status = 'PENDING' AND i.organization_id = ",
    )
    .bind(organization.uuid())
    .push(" AND i.email = ")
    .bind(new.email.as_str());
    let pending: Vec<Single<Uuid>> = tx.all(sql).await?;
    let workspaces = new.workspaces.iter().map(|grant| grant.workspace);
    let workspaces: Vec<WorkspaceId> =
        workspaces.chain(pending.into_iter().map(|Single(id)| id.into())).collect();
    tx.lock_workspaces(organization, &workspaces).await
}

/// The workspaces to invite to as they are, and the expired invitations to them that the new one replaces.
struct Found {
    openings: Vec<Opening>,
    names: HashMap<WorkspaceId, String>,
    replaced: Vec<InvitationId>,
}

#[derive(Debug, FromQueryResult)]
struct OpeningRow {
    id: Uuid,
    name: String,
    display_name: String,
    is_archived: bool,
    pending_id: Option<Uuid>,
    pending_until: Option<DateTime<Utc>>,
}

async fn find_openings(
    tx: &Tx<'_>,
    proof: &Granted<perm::OrganizationManage>,
    new: &NewInvitation,
) -> Result<Found, Fault> {
    let mut found = Found { openings: Vec::new(), names: HashMap::new(), replaced: Vec::new() };
    if new.workspaces.is_empty() {
        return Ok(found);
    }
    let organization = proof.access().organization();
    let wanted: Vec<WorkspaceId> = new.workspaces.iter().map(|grant| grant.workspace).collect();
    let sql = Sql::new(
        "SELECT w.id, w.name, w.display_name, w.status = 'ARCHIVED' AS is_archived, i.id AS pending_id, i.expires_at AS pending_until FROM workspaces w \
         LEFT JOIN invitation_grants g ON g.workspace_id = w.id AND g.pending AND g.email = ",
    )
    .bind(new.email.as_str())
    .push(" LEFT JOIN invitations i ON i.id = g.invitation_id WHERE w.organization_id = ")
    .bind(organization.uuid())
    .push(" AND w.id IN ")
    .bind_list(wanted.iter().map(|id| id.uuid()));
    let rows: Vec<OpeningRow> = tx.all(sql).await?;
    let rows: HashMap<WorkspaceId, OpeningRow> = rows.into_iter().map(|row| (row.id.into(), row)).collect();
    // Each once: an invitation to a hundred workspaces mostly gives one or two roles.
    let mut roles = HashMap::new();
    for grant in &new.workspaces {
        if let Entry::Vacant(unread) = roles.entry(grant.role) {
            unread.insert(roles::find(tx, organization, grant.role).await?);
        }
    }
    let mut seen = HashSet::new();
    for grant in &new.workspaces {
        let row = rows.get(&grant.workspace);
        let is_invited = row.and_then(|row| row.pending_until).is_some_and(|until| tx.now() < until);
        if let Some(row) = row {
            found.names.insert(grant.workspace, row.name.clone());
            found.replaced.extend(row.pending_id.filter(|_| !is_invited).map(InvitationId::from));
        }
        found.openings.push(Opening {
            workspace: row.map(|row| row.display_name.clone()),
            is_archived: row.is_some_and(|row| row.is_archived),
            role: roles.get(&grant.role).cloned().flatten(),
            is_repeated: !seen.insert(grant.workspace),
            is_invited,
        });
    }
    found.replaced.sort_unstable();
    found.replaced.dedup();
    Ok(found)
}

/// What is known of the invitee, and the expired invitation to the organization that the new one replaces.
async fn find_invitee(
    tx: &Tx<'_>,
    proof: &Granted<perm::OrganizationManage>,
    email: &Email,
) -> Result<(InviteeFacts, Option<InvitationId>), Fault> {
    let organization = proof.access().organization();
    let place = Sql::new(
        "SELECT om.status FROM organization_members om JOIN users u ON u.id = om.user_id WHERE om.organization_id = ",
    )
    .bind(organization.uuid())
    .push(" AND u.email = ")
    .bind(email.as_str());
    let place = tx.one::<Single<String>>(place).await?.map(|Single(status)| status == "ACTIVE");
    let sql = Sql::new(format!("SELECT i.id, i.expires_at{OF_ORGANIZATION}"))
        .bind(organization.uuid())
        .push(" AND i.status = 'PENDING' AND i.email = ")
        .bind(email.as_str());
    let pending: Option<PendingRow> = tx.one(sql).await?;
    let is_invited = pending.as_ref().is_some_and(|pending| tx.now() < pending.expires_at);
    let replaced = pending.filter(|_| !is_invited).map(|pending| pending.id.into());
    Ok((InviteeFacts { place, is_invited }, replaced))
}

#[derive(Debug, FromQueryResult)]
struct PendingRow {
    id: Uuid,
    expires_at: DateTime<Utc>,
}

/// Gives an invitation its final status, unless it has one, and tells of it.
async fn take_back(
    tx: &mut Tx<'_>,
    id: InvitationId,
    email: &Email,
    status: InvitationStatus,
) -> Result<bool, Fault> {
    if !set_status(tx, id, status).await? {
        return Ok(false);
    }
    let sql = Sql::new("SELECT workspace_id FROM invitation_grants WHERE invitation_id = ")
        .bind(id.uuid())
        .push(" ORDER BY workspace_id");
    let workspaces: Vec<Single<Uuid>> = tx.all(sql).await?;
    tell_each(tx, id, email, status, workspaces.into_iter().map(|Single(id)| id.into()));
    Ok(true)
}

fn tell(tx: &mut Tx<'_>, invitation: &OrganizationInvitation) {
    let email = Email::from_stored(invitation.email.clone());
    let workspaces = invitation.grants.iter().map(|grant| grant.workspace);
    tell_each(tx, invitation.id, &email, invitation.status, workspaces);
}

/// Tells every workspace of an invitation where it stands, and the invitee; the invitee alone where it opens none.
pub(crate) fn tell_each(
    tx: &mut Tx<'_>,
    invitation: InvitationId,
    email: &Email,
    status: InvitationStatus,
    workspaces: impl Iterator<Item = WorkspaceId>,
) {
    let mut workspaces = workspaces.peekable();
    if workspaces.peek().is_none() {
        tx.append(Event::OrganizationInvitation { invitation, email: email.clone(), status });
    }
    for workspace in workspaces {
        tx.append(Event::Invitation { invitation, workspace, email: email.clone(), status });
    }
}

#[derive(Debug, FromQueryResult)]
struct Letterhead {
    organization_name: String,
    inviter_name: String,
    inviter_email: String,
}

async fn letterhead(tx: &Tx<'_>, proof: &Granted<perm::OrganizationManage>) -> Result<Letterhead, ReadError> {
    let sql = Sql::new(
        "SELECT o.name AS organization_name, u.display_name AS inviter_name, u.email AS inviter_email \
         FROM organizations o JOIN users u ON u.id = ",
    )
    .bind(proof.access().person()?.uuid())
    .push(" WHERE o.id = ")
    .bind(proof.access().organization().uuid());
    let letterhead = tx.one(sql).await?;
    Ok(letterhead.ok_or_else(|| Fault::Stored("the inviter or the organization went away".to_owned()))?)
}

fn send(
    tx: &Tx<'_>,
    invitation: &OrganizationInvitation,
    letterhead: Letterhead,
    token: &str,
) -> Result<(), Fault> {
    let workspaces = invitation.grants.iter().map(|grant| InvitedWorkspace {
        display_name: grant.workspace_display_name.clone(),
        role_name: grant.role.name.clone(),
    });
    let letter = Letter::Invitation(InvitationLetter {
        recipient_email: invitation.email.clone(),
        inviter_name: letterhead.inviter_name,
        inviter_email: letterhead.inviter_email,
        organization_name: letterhead.organization_name,
        organization_role: Some(invitation.role.title().to_owned()),
        workspaces: workspaces.collect(),
        link: link(&tx.db().settings().app_url, token),
        expires_at: invitation.expires_at,
        message: invitation.message.clone(),
    });
    mails::enqueue(tx, Some(invitation.id), &letter)?;
    Ok(())
}

/// One of the organization's invitations to itself, while its workspaces are locked.
async fn find(
    tx: &Tx<'_>,
    proof: &Granted<perm::OrganizationManage>,
    id: InvitationId,
) -> Result<Option<OrganizationInvitation>, Fault> {
    let organization = proof.access().organization();
    let workspaces = Sql::new(
        "SELECT g.workspace_id FROM invitation_grants g JOIN invitations i ON i.id = g.invitation_id \
         WHERE i.organization_role IS NOT NULL AND i.organization_id = ",
    )
    .bind(organization.uuid())
    .push(" AND i.id = ")
    .bind(id.uuid());
    let workspaces: Vec<Single<Uuid>> = tx.all(workspaces).await?;
    let workspaces: Vec<WorkspaceId> = workspaces.into_iter().map(|Single(id)| id.into()).collect();
    tx.lock_workspaces(organization, &workspaces).await?;
    let sql = Sql::new(format!("{COLUMNS}{OF_ORGANIZATION}"))
        .bind(organization.uuid())
        .push(" AND i.id = ")
        .bind(id.uuid());
    let rows: Vec<OrganizationInvitation> = tx.all(sql).await?;
    let grants = tx.all(grants_sql([id.uuid()])).await?;
    Ok(rows.into_iter().map(furnishing(grants, tx.now())).next())
}

/// The name of a workspace that the invitation opens and that is archived, if one is.
async fn archived_among(tx: &Tx<'_>, id: InvitationId) -> Result<Option<String>, Fault> {
    let sql = Sql::new(
        "SELECT w.display_name FROM invitation_grants g JOIN workspaces w ON w.id = g.workspace_id \
         WHERE w.status = 'ARCHIVED' AND g.invitation_id = ",
    )
    .bind(id.uuid())
    .push(" ORDER BY w.id LIMIT 1");
    Ok(tx.one::<Single<String>>(sql).await?.map(|Single(name)| name))
}

/// A workspace in which an expired invitation made room for another one, with the one that has its place.
#[derive(Debug, FromQueryResult)]
struct PlaceRow {
    display_name: String,
    pending_id: Option<Uuid>,
    pending_until: Option<DateTime<Utc>>,
}

/// Gives an invitation the places in its workspaces back that it left to others when it had expired: an address has one
/// pending invitation to a workspace. Refused where another one can be answered.
async fn return_places(
    tx: &mut Tx<'_>,
    invitation: &OrganizationInvitation,
) -> Result<(), OpError<ResendOrganizationInvitationCode>> {
    let sql = Sql::new(
        "SELECT w.display_name, i.id AS pending_id, i.expires_at AS pending_until FROM invitation_grants g \
         JOIN workspaces w ON w.id = g.workspace_id LEFT JOIN invitation_grants other \
             ON other.workspace_id = g.workspace_id AND other.email = g.email AND other.pending \
         LEFT JOIN invitations i ON i.id = other.invitation_id WHERE NOT g.pending AND g.invitation_id = ",
    )
    .bind(invitation.id.uuid())
    .push(" ORDER BY w.id");
    let places: Vec<PlaceRow> = tx.all(sql).await?;
    if places.is_empty() {
        return Ok(());
    }
    let is_taken = |place: &&PlaceRow| place.pending_until.is_some_and(|until| tx.now() < until);
    let taken: Vec<String> =
        places.iter().filter(is_taken).map(|place| format!("“{}”", place.display_name)).collect();
    if !taken.is_empty() {
        return Err(Refusal::new(
            ResendOrganizationInvitationCode::AlreadyInvited,
            format!(
                "{} has a pending invitation to {} by now. Revoke that one first, or wait for its answer.",
                invitation.email,
                taken.join(", ")
            ),
        )
        .at("invitationId")
        .into());
    }
    let email = Email::from_stored(invitation.email.clone());
    for stale in places.into_iter().filter_map(|place| place.pending_id) {
        take_back(tx, stale.into(), &email, InvitationStatus::Superseded).await?;
    }
    let back = Sql::new("UPDATE invitation_grants SET pending = ")
        .bind(true)
        .push(" WHERE invitation_id = ")
        .bind(invitation.id.uuid());
    tx.run(back).await?;
    Ok(())
}

fn no_such_invitation<C>(code: C) -> Refusal<C> {
    Refusal::new(code, "The organization has no such invitation.").at("invitationId")
}

/// The address that one of the organization's invitations went to, for what is counted by address.
pub async fn address_of(
    db: &Db,
    proof: &Granted<perm::OrganizationManage>,
    id: InvitationId,
) -> Result<Option<Email>, ReadError> {
    let sql = Sql::new(format!("SELECT i.email{OF_ORGANIZATION}"))
        .bind(proof.access().organization().uuid())
        .push(" AND i.id = ")
        .bind(id.uuid());
    let row = db.read(proof).one::<Single<String>>(sql).await?;
    Ok(row.map(|Single(email)| Email::from_stored(email)))
}

/// Sends an invitation again with a new link and a new expiry. The link sent before is dead from then on.
pub async fn resend(
    db: &Db,
    proof: &Granted<perm::OrganizationManage>,
    id: InvitationId,
) -> Result<OrganizationInvitation, OpError<ResendOrganizationInvitationCode>> {
    use ResendOrganizationInvitationCode as Code;
    db.write(proof, async |tx| {
        let mut invitation =
            find(tx, proof, id).await?.ok_or_else(|| no_such_invitation(Code::NotFound))?;
        let hours = tx.organization()?.policy().invitation_lifetime_hours;
        let expires_at = answerable_until(
            expiry(tx.now(), hours, tx.db().settings().invitation_hours),
            invitation.grants.iter().map(|grant| grant.membership_expires_at),
        );
        let is_open = matches!(invitation.status, InvitationStatus::Pending | InvitationStatus::Expired);
        if !is_open || expires_at <= tx.now() {
            return Err(Refusal::new(
                Code::InvitationNotPending,
                "This invitation was answered or taken back, or what it was to give has ended. Invite the person anew.",
            )
            .into());
        }
        if let Some(name) = archived_among(tx, id).await? {
            return Err(Refusal::new(
                Code::WorkspaceArchived,
                format!("“{name}”, which it opens, is archived, so it cannot be accepted. Restore the workspace first."),
            )
            .into());
        }
        return_places(tx, &invitation).await?;
        // One that has expired lost its seats.
        let opened: Vec<WorkspaceId> = invitation.grants.iter().map(|grant| grant.workspace).collect();
        let organization = proof.access().organization();
        let room = quotas::seat(tx, organization, &opened, invitation.email.as_str(), Seat::Invited).await?;
        room.map_err(|exceeded| exceeded.refusal(Code::QuotaExceeded).at("invitationId"))?;
        let letterhead = letterhead(tx, proof).await?;
        let token = fresh_token()?;
        let was = shown(&invitation);
        invitation.inviter = proof.access().person()?;
        invitation.status = InvitationStatus::Pending;
        invitation.delivery = DeliveryState::Queued;
        invitation.delivery_error = None;
        invitation.expires_at = expires_at;
        tx.run(
            Sql::new("UPDATE invitations SET inviter_id = ")
                .bind(invitation.inviter.uuid())
                .push(", token_hash = ")
                .bind(tx.db().keys().hash_token(&token))
                .push(", expires_at = ")
                .bind(expires_at)
                .push(", delivery = 'QUEUED', delivery_error = NULL, updated_at = ")
                .bind(tx.now())
                .push(" WHERE id = ")
                .bind(id.uuid()),
        )
        .await?;
        mails::cancel(tx, &[id]).await?;
        send(tx, &invitation, letterhead, &token)?;
        tell(tx, &invitation);
        let entry = entry(Action::ResendOrganizationInvitation, &invitation);
        tx.audit(&entry.before(was).after(shown(&invitation)))?;
        Ok(invitation)
    })
    .await
}

/// Takes an invitation back. Its link is dead from then on.
pub async fn revoke(
    db: &Db,
    proof: &Granted<perm::OrganizationManage>,
    id: InvitationId,
) -> Result<OrganizationInvitation, OpError<RevokeOrganizationInvitationCode>> {
    use RevokeOrganizationInvitationCode as Code;
    db.write(proof, async |tx| {
        let mut invitation = find(tx, proof, id).await?.ok_or_else(|| no_such_invitation(Code::NotFound))?;
        let email = Email::from_stored(invitation.email.clone());
        if invitation.status != InvitationStatus::Pending
            || !take_back(tx, id, &email, InvitationStatus::Revoked).await?
        {
            return Err(Refusal::new(
                Code::InvitationNotPending,
                "This invitation is not pending: it was answered, taken back or has expired.",
            )
            .into());
        }
        let was = shown(&invitation);
        invitation.status = InvitationStatus::Revoked;
        let entry = entry(Action::RevokeOrganizationInvitation, &invitation);
        tx.audit(&entry.changed(was, shown(&invitation)))?;
        invitation.responded_at = Some(tx.now());
        if invitation.delivery == DeliveryState::Queued {
            invitation.delivery = DeliveryState::Cancelled;
        }
        Ok(invitation)
    })
    .await
}
