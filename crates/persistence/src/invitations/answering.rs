//! Accepting and declining, by whoever the invitation goes to.

use guildhall_domain::{
    access::{Demand, Denied, Open, OrganizationRole, OwnSession, Permission, PermissionSet, role::Role},
    audit::{Action, By, Entry, ObjectKind},
    events::Event,
    ids::{InvitationId, OrganizationId, UserId, WorkspaceId},
    invitations::{
        AcceptInvitationCode, AnswerFacts, AnswerFault, AnswersInvitation, DeclineInvitationCode,
        InvitationStatus, judge_accept, judge_decline,
    },
    members::{MembershipSource, may_grant},
    refusal::{Refusal, RefusalCode},
    text::Email,
};
use sea_orm::FromQueryResult;
use serde_json::json;
use uuid::Uuid;

use super::{
    received::{RECEIVED, Received, ReceivedRow, assemble, grants_sql, own},
    set_status,
};
use crate::{
    access::{self, opens, word},
    accounts::join_organization,
    db::{Db, Tx},
    error::{Fault, OpError},
    organization_invitations::tell_each,
    organization_members::is_disabled_in,
    quotas::{self, Seat},
    sql::{Single, Sql},
    workspaces::{Joining, join},
};

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
                && let Err(refusal) = check_holder(tx, &answered, proof, Code::EmailMismatch).await?
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
struct Holder {
    email: String,
    verified: bool,
    /// Whether the session opens the organization.
    opened: bool,
}

/// Whether the invitation is the actor's own. Asked before it is loaded and its workspaces are locked: who only has the id
/// of somebody else's learns nothing, not even by the time it takes.
async fn is_own(tx: &Tx<'_>, proof: &OwnSession, id: InvitationId) -> Result<bool, Fault> {
    let sql = own(Sql::new("SELECT 1 FROM invitations i WHERE "), proof).push(" AND i.id = ").bind(id.uuid());
    Ok(tx.one::<Single<i32>>(sql).await?.is_some())
}

fn not_own<C>(missing: C) -> Refusal<C> {
    Refusal::new(missing, "You have no such invitation.").at("invitationId")
}

/// Refuses an answer by somebody else than the invitee, who holds the link and so is told that the address
/// is another one. Denies it to the invitee who came by another organization's identity provider: the link shows that the
/// mailbox is theirs, and they are told to come otherwise.
async fn check_holder<C: RefusalCode>(
    tx: &Tx<'_>,
    answered: &Answered,
    proof: &OwnSession,
    mismatch: C,
) -> Result<Result<(), Refusal<C>>, OpError<C>> {
    let sql = Sql::new("SELECT u.email, u.email_verified_at IS NOT NULL AS verified, ")
        .append(opens(proof, "i.organization_id"))
        .push(" AS opened FROM users u, invitations i WHERE u.id = ")
        .bind(proof.user().uuid())
        .push(" AND i.id = ")
        .bind(answered.received.id.uuid());
    let holder: Option<Holder> = tx.one(sql).await?;
    if let Some(holder) = holder.filter(|holder| holder.verified && holder.email == answered.received.email) {
        return match holder.opened {
            true => Ok(Ok(())),
            false => Err(Denied::Demanded(Demand::AnotherSignIn).into()),
        };
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
