//! Inviting, sending again and taking back, by those who may invite to a workspace.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Granted, perm, role::Role},
    audit::{Action, Entry, ObjectKind},
    events::Event,
    ids::{InvitationId, OrganizationId, RoleId, UserId, WorkspaceId},
    invitations::{
        DeliveryState, InvitationStatus, InviteMemberCode, InviteeFacts, ResendInvitationCode,
        RevokeInvitationCode, expiry, judge_invite,
    },
    mail::{InvitationLetter, InvitedWorkspace, Letter},
    members::may_grant,
    refusal::Refusal,
    text::{Email, Message},
};
use sea_orm::FromQueryResult;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Addressed, INVITATION_COLUMNS, INVITATION_TABLES, Invitation, link, set_status};
use crate::{
    db::{Db, Tx},
    error::{Fault, OpError, ReadError},
    keys::fresh_token,
    mails,
    quotas::{self, LIMITS_SEATS, Seat},
    roles::grantable_role,
    sql::{Single, Sql},
};

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
