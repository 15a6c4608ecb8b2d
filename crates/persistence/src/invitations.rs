//! Invitations: sending, resending, revoking, answering, listing.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Granted, Open, OrganizationRole, OwnSession, Permission, PermissionSet, perm, role::Role},
    audit::{Action, By, Entry, ObjectKind},
    events::Event,
    ids::{InvitationId, OrganizationId, RoleId, UserId, WorkspaceId},
    invitations::{
        AcceptInvitationCode, AnswerFacts, AnswerFault, AnswersInvitation, DeclineInvitationCode,
        DeliveryState, InvitationStatus, InviteMemberCode, InviteeFacts, ResendInvitationCode,
        RevokeInvitationCode, effective_status, expiry, judge_accept, judge_decline, judge_invite,
    },
    mail::{InvitationLetter, InvitedWorkspace, Letter},
    members::{MembershipSource, may_grant},
    page::{Page, PageArgs},
    refusal::{Refusal, RefusalCode},
    text::{Email, Message},
};
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    access::{self, count, page_by, pages_of, role, role_columns, word},
    accounts::join_organization,
    db::{Ask, Db, Tx},
    error::{Fault, OpError, ReadError},
    keys::fresh_token,
    mails,
    organization_invitations::tell_each,
    organization_members::is_disabled_in,
    quotas::{self, LIMITS_SEATS, Seat},
    roles::grantable_role,
    sql::{AT_ONCE, Placed, Single, Sql},
    workspaces::{Joining, join},
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

/// Somebody to invite.
#[derive(Clone, Debug)]
pub struct Invitee {
    /// Whom: by address, or a person found by search.
    pub who: Who,
    /// To which role.
    pub role: RoleId,
    /// When the membership ends by itself; the invitation cannot be answered any longer than that.
    pub membership_expires_at: Option<DateTime<Utc>>,
    /// The inviter's own words.
    pub message: Option<Message>,
}

/// Whom to invite.
#[derive(Clone, Debug)]
pub enum Who {
    /// Whoever reads the mail of that address.
    Email(Email),
    /// A person of the inviter's organization.
    User(UserId),
}

/// Invites somebody to a workspace.
pub async fn invite(
    db: &Db,
    proof: &Granted<perm::MembersInvite>,
    invitee: &Invitee,
) -> Result<Invitation, OpError<InviteMemberCode>> {
    db.write(proof, async |tx| Ok(plan_and_write(tx, Action::InviteMember, invitee).await??)).await
}

/// Invites several people, each for itself: a refusal of one leaves the others invited.
pub async fn invite_many(
    db: &Db,
    proof: &Granted<perm::MembersInvite>,
    invitees: Vec<Result<Invitee, Refusal<InviteMemberCode>>>,
) -> Result<Vec<Result<Invitation, Refusal<InviteMemberCode>>>, OpError<InviteMemberCode>> {
    db.write(proof, async |tx| {
        let mut results = Vec::with_capacity(invitees.len());
        for invitee in invitees {
            results.push(match invitee {
                Ok(invitee) => plan_and_write(tx, Action::InviteMembers, &invitee).await?,
                Err(refusal) => Err(refusal),
            });
        }
        Ok(results)
    })
    .await
}

/// Who invites, and to what, as a letter says it.
#[derive(Debug, FromQueryResult)]
pub(crate) struct Letterhead {
    pub(crate) workspace_name: String,
    pub(crate) organization_name: String,
    pub(crate) inviter_name: String,
    pub(crate) inviter_email: String,
}

/// What the letter and the rules ask, in one statement.
#[derive(Debug, FromQueryResult)]
struct InviteFacts {
    #[sea_orm(nested)]
    letterhead: Letterhead,
    is_member: bool,
    pending_id: Option<Uuid>,
    pending_until: Option<DateTime<Utc>>,
    pending_of_organization: bool,
    limits_seats: bool,
}

async fn plan_and_write(
    tx: &mut Tx<'_>,
    action: Action,
    invitee: &Invitee,
) -> Result<Result<Invitation, Refusal<InviteMemberCode>>, ReadError> {
    let access = tx.access()?.clone();
    let workspace = access.workspace();
    let Some(role) = grantable_role(tx, workspace, invitee.role).await? else {
        return Ok(Err(Refusal::new(
            InviteMemberCode::InvalidInput,
            "`role` is no role of this organization.",
        )
        .at("role")));
    };
    let email = match &invitee.who {
        Who::Email(email) => email.clone(),
        Who::User(user) => match email_of(tx, access.organization(), *user).await? {
            Some(email) => email,
            None => {
                return Ok(Err(Refusal::new(
                    InviteMemberCode::InvalidInput,
                    "`userId` names nobody in your organization. Invite by e-mail address instead.",
                )
                .at("userId")));
            }
        },
    };
    let facts = invite_facts(tx, workspace, access.person()?, &email).await?;
    let invitee_facts = InviteeFacts {
        is_member: facts.is_member,
        is_invited: facts.pending_until.is_some_and(|until| tx.now() < until),
    };
    let given = match &invitee.who {
        Who::Email(_) => "email",
        Who::User(_) => "userId",
    };
    if let Err(refusal) = judge_invite(invitee_facts, &email, given, &role, access.permissions()) {
        return Ok(Err(refusal));
    }
    if facts.limits_seats {
        let room =
            quotas::seat(tx, access.organization(), &[workspace], email.as_str(), Seat::Invited).await?;
        if let Err(exceeded) = room {
            return Ok(Err(exceeded.refusal(InviteMemberCode::QuotaExceeded).at(given)));
        }
    }
    if let Some(stale) = facts.pending_id
        && facts.pending_of_organization
    {
        // Not this workspace's to end: it only makes room here, and can still be sent again for the others.
        let room = Sql::new("UPDATE invitation_grants SET pending = ")
            .bind(false)
            .push(" WHERE invitation_id = ")
            .bind(stale)
            .push(" AND workspace_id = ")
            .bind(workspace.uuid());
        tx.run(room).await?;
    } else if let Some(stale) = facts.pending_id {
        let (invitation, status) = (stale.into(), InvitationStatus::Superseded);
        if set_status(tx, invitation, status).await? {
            tx.append(Event::Invitation { invitation, workspace, email: email.clone(), status });
        }
    }

    let now = tx.now();
    let settings = tx.db().settings();
    let expires_at = expiry(now, access.policy().invitation_lifetime_hours, settings.invitation_hours);
    let expires_at = invitee.membership_expires_at.map_or(expires_at, |end| end.min(expires_at));
    let message = invitee.message.as_ref().map(|message| message.as_str().to_owned());
    let draft = Draft {
        organization: access.organization(),
        workspace,
        inviter: access.person()?,
        email: &email,
        role: &role,
        membership_expires_at: invitee.membership_expires_at,
        expires_at,
        message: message.clone(),
        letterhead: facts.letterhead,
    };
    let id = write(tx, draft)?;
    let invitation = Invitation {
        id,
        workspace,
        email: email.into_string(),
        role,
        inviter: access.person()?,
        organization_role: None,
        status: InvitationStatus::Pending,
        message,
        expires_at,
        membership_expires_at: invitee.membership_expires_at,
        delivery: DeliveryState::Queued,
        delivery_error: None,
        sent_at: None,
        responded_at: None,
        created_at: now,
    };
    tx.audit(&entry(action, &invitation).after(shown(&invitation)))?;
    Ok(Ok(invitation))
}

fn entry(action: Action, invitation: &Invitation) -> Entry {
    Entry::of(action, ObjectKind::Invitation, invitation.id, invitation.email.as_str())
}

/// An invitation, as the audit log tells it: nothing of its link.
fn shown(invitation: &Invitation) -> Value {
    json!({
        "email": invitation.email,
        "role": invitation.role.key,
        "status": invitation.status.word(),
        "expiresAt": invitation.expires_at,
        "membershipExpiresAt": invitation.membership_expires_at,
    })
}

/// An invitation to one workspace, as it is to be written.
pub(crate) struct Draft<'a> {
    pub(crate) organization: OrganizationId,
    pub(crate) workspace: WorkspaceId,
    pub(crate) inviter: UserId,
    pub(crate) email: &'a Email,
    pub(crate) role: &'a Role,
    pub(crate) membership_expires_at: Option<DateTime<Utc>>,
    pub(crate) expires_at: DateTime<Utc>,
    pub(crate) message: Option<String>,
    pub(crate) letterhead: Letterhead,
}

/// Writes an invitation with its mail and its event.
pub(crate) fn write(tx: &mut Tx<'_>, draft: Draft<'_>) -> Result<InvitationId, Fault> {
    let Draft {
        organization,
        workspace,
        inviter,
        email,
        role,
        membership_expires_at,
        expires_at,
        message,
        letterhead,
    } = draft;
    let token = fresh_token()?;
    let id: InvitationId = tx.fresh_id();
    let now = tx.now();
    tx.defer(Sql::insert(
        "invitations",
        [
            ("id", id.uuid().into()),
            ("organization_id", organization.uuid().into()),
            ("email", email.as_str().into()),
            ("inviter_id", inviter.uuid().into()),
            ("status", InvitationStatus::Pending.word().into()),
            ("message", message.clone().into()),
            ("token_hash", tx.db().keys().hash_token(&token).into()),
            ("expires_at", expires_at.into()),
            ("delivery", DeliveryState::Queued.word().into()),
            ("created_at", now.into()),
            ("updated_at", now.into()),
        ],
    ));
    tx.defer(Sql::insert(
        "invitation_grants",
        [
            ("invitation_id", id.uuid().into()),
            ("workspace_id", workspace.uuid().into()),
            ("role_id", role.id.uuid().into()),
            ("email", email.as_str().into()),
            ("pending", true.into()),
            ("membership_expires_at", membership_expires_at.into()),
        ],
    ));
    let letter = Letter::Invitation(InvitationLetter {
        recipient_email: email.as_str().to_owned(),
        inviter_name: letterhead.inviter_name,
        inviter_email: letterhead.inviter_email,
        organization_name: letterhead.organization_name,
        organization_role: None,
        workspaces: vec![InvitedWorkspace {
            display_name: letterhead.workspace_name,
            role_name: role.name.clone(),
        }],
        link: link(&tx.db().settings().app_url, &token),
        expires_at,
        message,
    });
    mails::enqueue(tx, Some(id), &letter)?;
    tx.append(Event::Invitation {
        invitation: id,
        workspace,
        email: email.clone(),
        status: InvitationStatus::Pending,
    });
    Ok(id)
}

/// The link of an invitation.
pub(crate) fn link(app_url: &str, token: &str) -> String {
    format!("{app_url}/invitations/{token}")
}

async fn invite_facts(
    tx: &Tx<'_>,
    workspace: WorkspaceId,
    inviter: UserId,
    email: &Email,
) -> Result<InviteFacts, Fault> {
    let sql = Sql::new(format!(
        "SELECT w.display_name AS workspace_name, o.name AS organization_name, u.display_name AS inviter_name, \
         u.email AS inviter_email, EXISTS (SELECT 1 FROM users mu JOIN memberships m ON m.user_id = mu.id \
             WHERE mu.email = $3 AND m.workspace_id = $1 AND (m.expires_at IS NULL OR m.expires_at > $4)) AS is_member, \
         i.id AS pending_id, i.expires_at AS pending_until, i.organization_role IS NOT NULL AS pending_of_organization, {LIMITS_SEATS} AS limits_seats \
         FROM workspaces w JOIN organizations o ON o.id = w.organization_id JOIN users u ON u.id = $2 \
         LEFT JOIN invitation_grants g ON g.workspace_id = w.id AND g.email = $3 AND g.pending \
         LEFT JOIN invitations i ON i.id = g.invitation_id WHERE w.id = $1",
    ))
    .values([workspace.uuid().into(), inviter.uuid().into(), email.as_str().into(), tx.now().into()]);
    tx.one(sql).await?.ok_or_else(|| Fault::Stored(format!("{workspace} went away")))
}

async fn email_of(tx: &Tx<'_>, organization: OrganizationId, user: UserId) -> Result<Option<Email>, Fault> {
    let row: Option<Addressed> = tx.one(email_sql(organization, &[user])).await?;
    Ok(row.map(|row| Email::from_stored(row.email)))
}

/// The addresses that mails to those people would go to. Who is not in the workspace's organization is left out.
pub async fn addresses_of_people(
    db: &Db,
    proof: &Granted<perm::MembersInvite>,
    users: &[UserId],
) -> Result<HashMap<UserId, Email>, ReadError> {
    if users.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<Addressed> = db.read(proof).all(email_sql(proof.access().organization(), users)).await?;
    Ok(rows.into_iter().map(|row| (row.id.into(), Email::from_stored(row.email))).collect())
}

/// The address that an invitation of the workspace went to.
pub async fn address_of_invitation(
    db: &Db,
    proof: &Granted<perm::MembersInvite>,
    invitation: InvitationId,
) -> Result<Option<Email>, ReadError> {
    let sql = Sql::new("SELECT g.email FROM invitation_grants g WHERE g.workspace_id = ")
        .bind(proof.access().workspace().uuid())
        .push(" AND g.invitation_id = ")
        .bind(invitation.uuid());
    let row = db.read(proof).one::<Single<String>>(sql).await?;
    Ok(row.map(|Single(email)| Email::from_stored(email)))
}

fn email_sql(organization: OrganizationId, users: &[UserId]) -> Sql {
    Sql::new(
        "SELECT u.id, u.email FROM users u JOIN organization_members om ON om.user_id = u.id AND om.status = 'ACTIVE' \
         WHERE om.organization_id = ",
    )
    .bind(organization.uuid())
    .push(" AND u.id IN ")
    .bind_list(users.iter().map(|user| user.uuid()))
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

/// The invitation of that id as it is seen from the workspace.
async fn find(tx: &Tx<'_>, workspace: WorkspaceId, id: InvitationId) -> Result<Option<Invitation>, Fault> {
    let sql =
        Sql::new(format!("SELECT {INVITATION_COLUMNS} FROM {INVITATION_TABLES} WHERE g.workspace_id = "))
            .bind(workspace.uuid())
            .push(" AND i.id = ")
            .bind(id.uuid());
    Ok(tx.one::<Invitation>(sql).await?.map(|invitation| invitation.at(tx.now())))
}

/// An invitation that gives a place in the organization, and perhaps opens other workspaces, is none that the admins
/// of one workspace decide about.
fn refuse_of_organization<C>(invitation: &Invitation, code: C) -> Result<(), Refusal<C>> {
    if invitation.organization_role.is_none() {
        return Ok(());
    }
    Err(Refusal::new(
        code,
        "This invitation is to the organization itself. An admin of the organization sends it again or revokes it.",
    )
    .at("invitationId"))
}

/// Sends an invitation again with a new link and a new expiry, and another role if one is given. The link
/// sent before is dead from then on.
pub async fn resend(
    db: &Db,
    proof: &Granted<perm::MembersInvite>,
    id: InvitationId,
    new_role: Option<RoleId>,
) -> Result<Invitation, OpError<ResendInvitationCode>> {
    use ResendInvitationCode as Code;
    db.write(proof, async |tx| {
        let access = tx.access()?.clone();
        let workspace = access.workspace();
        let Some(mut invitation) = find(tx, workspace, id).await? else {
            return Err(no_such_invitation(Code::NotFound).into());
        };
        refuse_of_organization(&invitation, Code::OrganizationInvitation)?;
        if !matches!(invitation.status, InvitationStatus::Pending | InvitationStatus::Expired) {
            return Err(Refusal::new(
                Code::InvitationNotPending,
                "This invitation was answered or taken back. Invite the person anew.",
            )
            .into());
        }
        let was = shown(&invitation);
        if let Some(new_role) = new_role {
            let Some(role) = grantable_role(tx, workspace, new_role).await? else {
                return Err(Refusal::new(Code::InvalidInput, "`role` is no role of this organization.")
                    .at("role")
                    .into());
            };
            invitation.role = role;
        }
        if !may_grant(access.permissions(), &invitation.role) {
            return Err(Refusal::new(
                Code::PrivilegeEscalation,
                format!("The role {} holds permissions that you do not have yourself.", invitation.role.name),
            )
            .at("role")
            .into());
        }
        let email = Email::from_stored(invitation.email.clone());
        let facts = invite_facts(tx, workspace, access.person()?, &email).await?;
        // One that has expired lost its seat.
        if facts.limits_seats {
            let organization = access.organization();
            let room = quotas::seat(tx, organization, &[workspace], email.as_str(), Seat::Invited).await?;
            if let Err(exceeded) = room {
                return Err(exceeded.refusal(Code::QuotaExceeded).at("invitationId").into());
            }
        }
        let settings = tx.db().settings();
        let token = fresh_token()?;
        invitation.inviter = access.person()?;
        invitation.status = InvitationStatus::Pending;
        invitation.delivery = DeliveryState::Queued;
        invitation.delivery_error = None;
        let expires_at =
            expiry(tx.now(), access.policy().invitation_lifetime_hours, settings.invitation_hours);
        if let Some(end) = invitation.membership_expires_at
            && end <= tx.now()
        {
            return Err(Refusal::new(
                Code::InvitationNotPending,
                "The membership it was to give has ended by now. Invite the person anew.",
            )
            .into());
        }
        invitation.expires_at =
            invitation.membership_expires_at.map_or(expires_at, |end| end.min(expires_at));
        tx.run(
            Sql::new("UPDATE invitations SET inviter_id = ")
                .bind(invitation.inviter.uuid())
                .push(", token_hash = ")
                .bind(tx.db().keys().hash_token(&token))
                .push(", expires_at = ")
                .bind(invitation.expires_at)
                .push(", delivery = 'QUEUED', delivery_error = NULL, updated_at = ")
                .bind(tx.now())
                .push(" WHERE id = ")
                .bind(id.uuid()),
        )
        .await?;
        tx.run(
            Sql::new("UPDATE invitation_grants SET role_id = ")
                .bind(invitation.role.id.uuid())
                .push(" WHERE invitation_id = ")
                .bind(id.uuid())
                .push(" AND workspace_id = ")
                .bind(workspace.uuid()),
        )
        .await?;
        mails::cancel(tx, &[id]).await?;
        let letter = Letter::Invitation(InvitationLetter {
            recipient_email: invitation.email.clone(),
            inviter_name: facts.letterhead.inviter_name,
            inviter_email: facts.letterhead.inviter_email,
            organization_name: facts.letterhead.organization_name,
            organization_role: None,
            workspaces: vec![InvitedWorkspace {
                display_name: facts.letterhead.workspace_name,
                role_name: invitation.role.name.clone(),
            }],
            link: link(&settings.app_url, &token),
            expires_at: invitation.expires_at,
            message: invitation.message.clone(),
        });
        mails::enqueue(tx, Some(id), &letter)?;
        let status = InvitationStatus::Pending;
        tx.append(Event::Invitation { invitation: id, workspace, email, status });
        tx.audit(&entry(Action::ResendInvitation, &invitation).before(was).after(shown(&invitation)))?;
        Ok(invitation)
    })
    .await
}

fn no_such_invitation<C>(code: C) -> Refusal<C> {
    Refusal::new(code, "This workspace has no such invitation.").at("invitationId")
}

/// Takes a pending invitation back.
pub async fn revoke(
    db: &Db,
    proof: &Granted<perm::MembersInvite>,
    id: InvitationId,
) -> Result<Invitation, OpError<RevokeInvitationCode>> {
    db.write(proof, async |tx| {
        let workspace = tx.access()?.workspace();
        let Some(mut invitation) = find(tx, workspace, id).await? else {
            return Err(no_such_invitation(RevokeInvitationCode::NotFound).into());
        };
        refuse_of_organization(&invitation, RevokeInvitationCode::OrganizationInvitation)?;
        if invitation.status != InvitationStatus::Pending
            || !set_status(tx, id, InvitationStatus::Revoked).await?
        {
            return Err(Refusal::new(
                RevokeInvitationCode::InvitationNotPending,
                "This invitation is not pending: it was answered, taken back or has expired.",
            )
            .into());
        }
        let was = shown(&invitation);
        invitation.status = InvitationStatus::Revoked;
        tx.audit(&entry(Action::RevokeInvitation, &invitation).changed(was, shown(&invitation)))?;
        invitation.responded_at = Some(tx.now());
        if invitation.delivery == DeliveryState::Queued {
            invitation.delivery = DeliveryState::Cancelled;
        }
        let email = Email::from_stored(invitation.email.clone());
        tx.append(Event::Invitation { invitation: id, workspace, email, status: invitation.status });
        Ok(invitation)
    })
    .await
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
struct ReceivedRow {
    id: Uuid,
    email: String,
    organization_name: String,
    organization_role: Option<String>,
    inviter_name: String,
    message: Option<String>,
    status: String,
    expires_at: DateTime<Utc>,
    responded_at: Option<DateTime<Utc>>,
}

const RECEIVED: &str = "SELECT i.id, i.email, o.name AS organization_name, i.organization_role, u.display_name AS inviter_name, i.message, \
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

fn assemble(
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

/// The actor's own invitations, the newest last: those to the verified address of the account.
pub async fn received_page(
    db: &Db,
    proof: &OwnSession,
    statuses: &[InvitationStatus],
    args: &PageArgs<Uuid>,
) -> Result<Page<Received>, ReadError> {
    let sql = with_status(to_own_address(Sql::new(RECEIVED), proof), statuses, db.now());
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
    let sql = to_own_address(Sql::new("SELECT count(*) FROM invitations i WHERE "), proof);
    count(db.read(proof).one::<Single<i64>>(with_status(sql, statuses, db.now())).await?)
}

/// One of the actor's own invitations.
pub async fn received(db: &Db, proof: &OwnSession, id: InvitationId) -> Result<Option<Received>, ReadError> {
    let sql = to_own_address(Sql::new(RECEIVED), proof).push(" AND i.id = ").bind(id.uuid());
    let rows: Vec<ReceivedRow> = db.read(proof).all(sql).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let grants = db.read(proof).all(grants_sql([id.uuid()])).await?;
    Ok(assemble(rows, grants, db.now())?.pop())
}

fn to_own_address(sql: Sql, proof: &OwnSession) -> Sql {
    sql.push("i.email = (SELECT me.email FROM users me WHERE me.email_verified_at IS NOT NULL AND me.id = ")
        .bind(proof.user().uuid())
        .push(")")
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

/// The verified address of the actor, under which their invitations are announced.
pub async fn own_address(db: &Db, proof: &OwnSession) -> Result<Option<Email>, ReadError> {
    let sql = Sql::new("SELECT email FROM users WHERE email_verified_at IS NOT NULL AND id = ")
        .bind(proof.user().uuid());
    Ok(db.read(proof).one::<Single<String>>(sql).await?.map(|Single(email)| Email::from_stored(email)))
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

/// Which invitation is answered.
#[derive(Clone, Copy, Debug)]
pub enum Answer<'a> {
    /// The one that the link's secret belongs to.
    Token(&'a str),
    /// One of the actor's own.
    Id(InvitationId),
}

/// An invitation that is being answered, with its workspaces locked.
pub(crate) struct Answered {
    received: Received,
    organization: OrganizationId,
    inviter: UserId,
    inviter_role: Option<OrganizationRole>,
    stored: InvitationStatus,
    opens_an_archive: bool,
}

#[derive(Debug, FromQueryResult)]
struct AnsweredRow {
    organization_id: Uuid,
    inviter_id: Uuid,
    status: String,
    /// The inviter's role in the organization, while their place and their account are in use.
    inviter_role: Option<String>,
    opens_an_archive: bool,
}

pub(crate) fn link_invalid<C>(code: C) -> Refusal<C> {
    Refusal::new(
        code,
        "This link is not valid, or not any more. If the invitation was sent again, use the newest mail.",
    )
    .at("token")
}

/// Loads an invitation to be answered and locks its workspaces, and the organization where it gives a place in it: of
/// two answers at once one wins.
pub(crate) async fn load_answerable<C: RefusalCode>(
    tx: &Tx<'_>,
    answer: &Answer<'_>,
    missing: C,
) -> Result<Result<Answered, Refusal<C>>, Fault> {
    let (key, value): (_, sea_orm::Value) = match answer {
        Answer::Token(token) => ("i.token_hash = ", tx.db().keys().hash_token(token).into()),
        Answer::Id(id) => ("i.id = ", id.uuid().into()),
    };
    let refusal = || match answer {
        Answer::Token(_) => link_invalid(missing),
        Answer::Id(_) => not_own(missing),
    };
    let place =
        Sql::new("SELECT organization_id FROM invitations i WHERE organization_role IS NOT NULL AND ");
    if let Some(Single(organization)) = tx.one::<Single<Uuid>>(place.push(key).bind(value.clone())).await? {
        tx.lock_organization(organization.into()).await?;
    }
    let locked = Sql::new(
        "SELECT g.workspace_id FROM invitation_grants g JOIN invitations i ON i.id = g.invitation_id WHERE ",
    )
    .push(key)
    .bind(value.clone())
    .push(" ORDER BY g.workspace_id");
    for Single(workspace) in tx.all::<Single<Uuid>>(locked).await? {
        tx.lock_workspace(workspace.into()).await?;
    }
    // Read again under the lock: another answer may have come first.
    let rows: Vec<ReceivedRow> = tx.all(Sql::new(RECEIVED).push(key).bind(value)).await?;
    let Some(id) = rows.first().map(|row| row.id) else { return Ok(Err(refusal())) };
    let grants = tx.all(grants_sql([id])).await?;
    let Some(received) = assemble(rows, grants, tx.now())?.pop() else { return Ok(Err(refusal())) };
    let sql = Sql::new(
        "SELECT i.organization_id, i.inviter_id, i.status, (SELECT om.role FROM organization_members om \
         JOIN users u ON u.id = om.user_id AND u.status <> 'DISABLED' WHERE om.user_id = i.inviter_id \
         AND om.organization_id = i.organization_id AND om.status = 'ACTIVE') AS inviter_role, \
         EXISTS (SELECT 1 FROM invitation_grants g JOIN workspaces w ON w.id = g.workspace_id \
             WHERE g.invitation_id = i.id AND w.status = 'ARCHIVED') AS opens_an_archive \
         FROM invitations i WHERE i.id = ",
    )
    .bind(id);
    let Some(row) = tx.one::<AnsweredRow>(sql).await? else { return Ok(Err(refusal())) };
    Ok(Ok(Answered {
        received,
        organization: row.organization_id.into(),
        inviter: row.inviter_id.into(),
        inviter_role: row.inviter_role.map(|role| word(&role, OrganizationRole::from_word)).transpose()?,
        stored: word(&row.status, InvitationStatus::from_word)?,
        opens_an_archive: row.opens_an_archive,
    }))
}

/// Asks whether an invitation can be accepted. One whose inviter lost the right is revoked on the way: the
/// caller commits that although it refuses.
pub(crate) async fn check_acceptable<C: AnswersInvitation>(
    tx: &mut Tx<'_>,
    answered: &Answered,
) -> Result<Result<(), Refusal<C>>, Fault> {
    let gives_a_place = answered.received.organization_role.is_some();
    let mut inviter_may_invite =
        !gives_a_place || answered.inviter_role.is_some_and(|role| role >= OrganizationRole::Admin);
    for grant in &answered.received.grants {
        let held = access::held_by(tx, answered.inviter, grant.workspace).await?;
        inviter_may_invite &= may_invite_to(held, &grant.role);
    }
    let facts = AnswerFacts {
        status: answered.stored,
        expires_at: answered.received.expires_at,
        inviter_may_invite,
        opens_an_archive: answered.opens_an_archive,
    };
    let Err(fault) = judge_accept(&facts, tx.now()) else {
        let opened: Vec<WorkspaceId> = answered.received.grants.iter().map(|grant| grant.workspace).collect();
        let email = answered.received.email.as_str();
        let room = quotas::seat(tx, answered.organization, &opened, email, Seat::Member).await?;
        return Ok(room.map_err(|exceeded| AnswerFault::QuotaExceeded(exceeded).refusal()));
    };
    if fault == AnswerFault::InviterLostPermission {
        tx.unaudited("it was void since the inviter lost the right, which has an entry of its own");
        finish(tx, &answered.received, InvitationStatus::Revoked).await?;
    }
    Ok(Err(fault.refusal()))
}

fn may_invite_to(held: PermissionSet, role: &Role) -> bool {
    held.holds(Permission::MembersInvite) && may_grant(held, role)
}

/// Gives the invitation its final status and tells every workspace of it.
async fn finish(tx: &mut Tx<'_>, received: &Received, status: InvitationStatus) -> Result<(), Fault> {
    if set_status(tx, received.id, status).await? {
        let email = Email::from_stored(received.email.clone());
        tell_each(tx, received.id, &email, status, received.grants.iter().map(|grant| grant.workspace));
    }
    Ok(())
}

/// Makes the person a member of everything the invitation opens. Where they are a member already, they keep
/// the role they have.
pub(crate) async fn admit(
    tx: &mut Tx<'_>,
    action: Action,
    answered: Answered,
    user: UserId,
) -> Result<Received, Fault> {
    audit_answer(tx, action, &answered, By::Person(user), InvitationStatus::Accepted)?;
    let mut received = answered.received;
    let role = received.organization_role.unwrap_or(OrganizationRole::Member);
    join_organization(tx, answered.organization, user, role).await?;
    if role == OrganizationRole::Admin {
        // Who came to belong to it while the invitation was open is a mere member.
        let raised =
            Sql::new("UPDATE organization_members SET role = 'ADMIN' WHERE role = 'MEMBER' AND user_id = ")
                .bind(user.uuid())
                .push(" AND organization_id = ")
                .bind(answered.organization.uuid());
        tx.run(raised).await?;
    }
    for grant in &received.grants {
        let of_theirs =
            |sql: &str| Sql::new(sql).bind(grant.workspace.uuid()).push(" AND user_id = ").bind(user.uuid());
        // A membership that has run out makes room for the new one.
        let ended = of_theirs("DELETE FROM memberships WHERE workspace_id = ").push(" AND expires_at <= ");
        tx.run(ended.bind(tx.now())).await?;
        if tx
            .one::<Single<i32>>(of_theirs("SELECT 1 FROM memberships WHERE workspace_id = "))
            .await?
            .is_none()
        {
            let joining = Joining {
                role: grant.role.id,
                source: MembershipSource::Invitation,
                invitation: Some(received.id),
                expires_at: grant.membership_expires_at,
            };
            join(tx, grant.workspace, user, joining).await?;
            tx.append(Event::Access { workspace: grant.workspace, user });
        }
    }
    finish(tx, &received, InvitationStatus::Accepted).await?;
    received.status = InvitationStatus::Accepted;
    received.responded_at = Some(tx.now());
    Ok(received)
}

/// Writes down an answer: for each workspace that the invitation opens, so that those who may read what was done there
/// find it, or once where it opens none.
fn audit_answer(
    tx: &Tx<'_>,
    action: Action,
    answered: &Answered,
    by: By,
    status: InvitationStatus,
) -> Result<(), Fault> {
    let received = &answered.received;
    let entry = |workspace: Option<WorkspaceId>, role: Option<&str>| {
        Entry::of(action, ObjectKind::Invitation, received.id, received.email.as_str())
            .in_organization(answered.organization)
            .in_workspace(workspace)
            .by(by.clone())
            .before(json!({ "status": InvitationStatus::Pending.word() }))
            .after(json!({
                "status": status.word(),
                "role": role,
                "organizationRole": received.organization_role.map(OrganizationRole::word),
            }))
    };
    if received.grants.is_empty() {
        tx.audit(&entry(None, None))?;
    }
    for grant in &received.grants {
        tx.audit(&entry(Some(grant.workspace), Some(&grant.role.key)))?;
    }
    Ok(())
}

/// Accepts an invitation as the person who is signed in.
pub async fn accept(
    db: &Db,
    proof: &OwnSession,
    answer: Answer<'_>,
) -> Result<Received, OpError<AcceptInvitationCode>> {
    use AcceptInvitationCode as Code;
    let missing = match answer {
        Answer::Token(_) => Code::LinkInvalid,
        Answer::Id(_) => Code::NotFound,
    };
    let outcome = db
        .write(proof, async |tx| {
            let user = proof.user();
            if let Answer::Id(id) = answer
                && !is_own(tx, proof, id).await?
            {
                return Ok(Err(not_own(missing)));
            }
            let answered = match load_answerable(tx, &answer, missing).await? {
                Ok(answered) => answered,
                Err(refusal) => return Ok(Err(refusal)),
            };
            if let Answer::Token(_) = answer
                && let Err(refusal) = check_address(tx, &answered, user, Code::EmailMismatch).await?
            {
                return Ok(Err(refusal));
            }
            if let Err(refusal) = check_acceptable(tx, &answered).await? {
                return Ok(Err(refusal));
            }
            if is_disabled_in(tx, answered.organization, user).await? {
                // It stays pending: who is enabled in time can accept it then.
                return Ok(Err(Refusal::new(
                    Code::UserDisabled,
                    format!(
                        "You are disabled in {}. Ask an admin of it to enable you, and accept then.",
                        answered.received.organization
                    ),
                )));
            }
            Ok(Ok(admit(tx, Action::AcceptInvitation, answered, user).await?))
        })
        .await?;
    outcome.map_err(Into::into)
}

#[derive(Debug, FromQueryResult)]
struct Address {
    email: String,
    verified: bool,
}

/// Whether the invitation is to the actor's own verified address. Asked before it is loaded and its
/// workspaces are locked: who only has the id of somebody else's learns nothing, not even by the time it takes.
async fn is_own(tx: &Tx<'_>, proof: &OwnSession, id: InvitationId) -> Result<bool, Fault> {
    let sql = to_own_address(Sql::new("SELECT 1 FROM invitations i WHERE "), proof)
        .push(" AND i.id = ")
        .bind(id.uuid());
    Ok(tx.one::<Single<i32>>(sql).await?.is_some())
}

fn not_own<C>(missing: C) -> Refusal<C> {
    Refusal::new(missing, "You have no such invitation.").at("invitationId")
}

/// Refuses an answer by somebody else than the invitee, who holds the link and so is told that the address
/// is another one.
async fn check_address<C>(
    tx: &Tx<'_>,
    answered: &Answered,
    user: UserId,
    mismatch: C,
) -> Result<Result<(), Refusal<C>>, Fault> {
    let sql = Sql::new("SELECT email, email_verified_at IS NOT NULL AS verified FROM users WHERE id = ")
        .bind(user.uuid());
    let address: Option<Address> = tx.one(sql).await?;
    if address.is_some_and(|address| address.verified && address.email == answered.received.email) {
        return Ok(Ok(()));
    }
    Ok(Err(Refusal::new(
        mismatch,
        format!(
            "This invitation is for {}. Sign in with that address, or ask for an invitation to yours.",
            Email::from_stored(answered.received.email.clone()).masked()
        ),
    )
    .at("token")))
}

/// Declines an invitation of one's own, as the person who is signed in.
pub async fn decline(
    db: &Db,
    proof: &OwnSession,
    id: InvitationId,
) -> Result<Received, OpError<DeclineInvitationCode>> {
    use DeclineInvitationCode as Code;
    let outcome = db
        .write(proof, async |tx| {
            if !is_own(tx, proof, id).await? {
                return Ok(Err(not_own(Code::NotFound)));
            }
            match load_answerable(tx, &Answer::Id(id), Code::NotFound).await? {
                Ok(answered) => {
                    let by = By::Person(proof.user());
                    turn_down(tx, answered, by).await
                }
                Err(refusal) => Ok(Err(refusal)),
            }
        })
        .await?;
    outcome.map_err(Into::into)
}

/// Declines the invitation that a link belongs to; holding the link is enough.
pub async fn decline_by_token(
    db: &Db,
    proof: &Open,
    token: &str,
) -> Result<Received, OpError<DeclineInvitationCode>> {
    let outcome = db
        .write(proof, async |tx| {
            match load_answerable(tx, &Answer::Token(token), DeclineInvitationCode::LinkInvalid).await? {
                Ok(answered) => {
                    let by = By::Address(answered.received.email.clone());
                    turn_down(tx, answered, by).await
                }
                Err(refusal) => Ok(Err(refusal)),
            }
        })
        .await?;
    outcome.map_err(Into::into)
}

async fn turn_down(
    tx: &mut Tx<'_>,
    answered: Answered,
    by: By,
) -> Result<Result<Received, Refusal<DeclineInvitationCode>>, OpError<DeclineInvitationCode>> {
    let facts = AnswerFacts {
        status: answered.stored,
        expires_at: answered.received.expires_at,
        inviter_may_invite: true,
        opens_an_archive: false,
    };
    if let Err(fault) = judge_decline(&facts, tx.now()) {
        return Ok(Err(fault.refusal()));
    }
    audit_answer(tx, Action::DeclineInvitation, &answered, by, InvitationStatus::Declined)?;
    let mut received = answered.received;
    finish(tx, &received, InvitationStatus::Declined).await?;
    received.status = InvitationStatus::Declined;
    received.responded_at = Some(tx.now());
    Ok(Ok(received))
}
