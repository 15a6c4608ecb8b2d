//! The mail queue: written in the transaction of the change that causes the mail, emptied by one claimant per
//! mail. Knows when a mail is due and what became of it; refuses to know how it is rendered and sent.
//!
//! A mail is `QUEUED`, then `SENT`, `FAILED` or `CANCELLED`. Its body holds a secret link, so it is stored
//! sealed and blanked as soon as the mail is no longer queued.

use std::convert::Infallible;

use chrono::{DateTime, TimeDelta, Utc};
use guildhall_domain::{
    access::System,
    ids::{InvitationId, MailId, OrganizationId, WorkspaceId},
    invitations::{DeliveryState, InvitationStatus, effective_status},
    mail::Letter,
    text::Email,
};
use sea_orm::FromQueryResult;
use uuid::Uuid;

use crate::{
    db::{Db, Engine, Tx},
    error::{Fault, OpError},
    keys::random,
    organization_invitations::tell_each,
    sql::{Single, Sql},
};

/// How long a claimant has a mail to itself. One that dies without a word gives it up by this.
pub const LEASE: TimeDelta = TimeDelta::minutes(2);
/// How long after it was queued a mail is still tried.
const GIVE_UP_AFTER: TimeDelta = TimeDelta::hours(48);
/// The wait after the first failure; it doubles with each further one, up to the longest.
const FIRST_WAIT: TimeDelta = TimeDelta::seconds(5);
const LONGEST_WAIT: TimeDelta = TimeDelta::minutes(10);

/// Queues a letter; `invitation` is the one whose delivery it is.
pub fn enqueue(tx: &Tx<'_>, invitation: Option<InvitationId>, letter: &Letter) -> Result<MailId, Fault> {
    let id: MailId = tx.fresh_id();
    let body = serde_json::to_vec(letter).map_err(|error| Fault::Stored(error.to_string()))?;
    tx.defer(Sql::insert(
        "mails",
        [
            ("id", id.uuid().into()),
            ("status", "QUEUED".into()),
            ("recipient", letter.recipient().into()),
            ("sealed", tx.db().keys().seal_mail(id, &body)?.into()),
            ("master_key_id", tx.db().keys().master_key_id().into()),
            ("invitation_id", invitation.map(InvitationId::uuid).into()),
            ("attempts", 0.into()),
            ("due_at", tx.now().into()),
            ("created_at", tx.now().into()),
            ("updated_at", tx.now().into()),
        ],
    ));
    tx.db().bus().mail_written();
    Ok(id)
}

/// Does what [`enqueue`] does, for a letter that must not be written: nobody can tell by the time it takes. The row is one
/// of a mail that was taken back.
pub fn pretend(tx: &Tx<'_>) -> Result<(), Fault> {
    let id: MailId = tx.fresh_id();
    tx.db().keys().seal_mail(id, &[0; 500])?;
    tx.defer(Sql::insert(
        "mails",
        [
            ("id", id.uuid().into()),
            ("status", "CANCELLED".into()),
            ("recipient", "".into()),
            ("attempts", 0.into()),
            ("due_at", tx.now().into()),
            ("created_at", tx.now().into()),
            ("updated_at", tx.now().into()),
        ],
    ));
    tx.db().bus().mail_written();
    Ok(())
}

/// Takes back what is still queued for invitations: they were revoked, answered or are sent anew.
pub async fn cancel(tx: &Tx<'_>, invitations: &[InvitationId]) -> Result<(), Fault> {
    let sql = Sql::new("UPDATE mails SET status = 'CANCELLED', sealed = NULL, updated_at = ")
        .bind(tx.now())
        .push(" WHERE status = 'QUEUED' AND invitation_id IN ")
        .bind_list(invitations.iter().map(|id| id.uuid()));
    tx.run(sql).await?;
    Ok(())
}

/// The right to send one mail, until the lease ends.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// The mail, the same at every attempt.
    pub id: MailId,
    /// When it was queued.
    pub queued_at: DateTime<Utc>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    invitation: Option<InvitationId>,
    /// The organization in which the invitation gives a place.
    place_in: Option<OrganizationId>,
}

/// A mail to send. It is to be answered by [`ack`] or [`fail`].
#[derive(Debug)]
pub struct ClaimedMail {
    /// The right to send it.
    pub claim: Claim,
    /// What it says; a fault where this process cannot read it, such as a kind of a newer version.
    pub letter: Result<Letter, Fault>,
}

#[derive(FromQueryResult)]
struct DueMail {
    id: Uuid,
    sealed: Option<Vec<u8>>,
    master_key_id: Option<String>,
    invitation_id: Option<Uuid>,
    place_in: Option<Uuid>,
    attempts: i32,
    created_at: DateTime<Utc>,
}

impl DueMail {
    fn open(self, db: &Db) -> ClaimedMail {
        let id = MailId::from(self.id);
        let letter = self.sealed.ok_or_else(|| Fault::Stored(format!("{id} is queued without a body")));
        let open = |sealed: Vec<u8>| db.keys().open_mail(id, self.master_key_id.as_deref(), &sealed);
        let letter = letter.and_then(open).and_then(|body| {
            serde_json::from_slice(&body).map_err(|error| Fault::Stored(format!("{id}: {error}")))
        });
        let claim = Claim {
            id,
            queued_at: self.created_at,
            attempt: u32::try_from(self.attempts).unwrap_or(u32::MAX),
            invitation: self.invitation_id.map(Into::into),
            place_in: self.place_in.map(Into::into),
        };
        ClaimedMail { claim, letter }
    }
}

/// Takes up to `limit` mails that are due, those that waited longest first, and before all invitations everything else,
/// which is mostly about somebody's own account: who cannot sign in does not wait behind a thousand guests. No other
/// claimant gets them before [`LEASE`] has passed; after that they are due again, so that no mail is lost with its claimant.
#[expect(clippy::disallowed_methods, reason = "the mailer serves everyone's mail")]
pub async fn claim(db: &Db, limit: usize) -> Result<Vec<ClaimedMail>, Fault> {
    let proof = System::named("mailer");
    // Asked outside a transaction, since mostly there is none.
    let due = Sql::new("SELECT 1 FROM mails WHERE status = 'QUEUED' AND due_at <= ").bind(db.now());
    if db.read(&proof).one::<Single<i32>>(due.push(" LIMIT 1")).await?.is_none() {
        return Ok(Vec::new());
    }
    let claimed = db.write(&proof, async |tx| {
        let due = |sql: Sql, what: &str| {
            sql.push(" AS MATERIALIZED (SELECT id, due_at FROM mails WHERE status = 'QUEUED' AND invitation_id ")
                .push(what)
                .push(" AND due_at <= ")
                .bind(tx.now())
                .push(" ORDER BY due_at LIMIT ")
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .push(skip_locked(db))
        };
        let sql = due(Sql::new("WITH account"), "IS NULL").push("), invitation");
        let sql = due(sql, "IS NOT NULL")
            .push(
                "), due AS (SELECT id FROM (SELECT id, due_at, 0 AS turn FROM account \
                 UNION ALL SELECT id, due_at, 1 AS turn FROM invitation) AS waiting ORDER BY turn, due_at LIMIT ",
            )
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .push(") UPDATE mails SET attempts = attempts + 1, updated_at = ")
            .bind(tx.now())
            .push(", due_at = ")
            .bind(tx.now() + LEASE)
            .push(
                " WHERE id IN (SELECT id FROM due) RETURNING id, sealed, master_key_id, invitation_id, attempts, created_at, \
                 (SELECT i.organization_id FROM invitations i WHERE i.id = mails.invitation_id \
                  AND i.organization_role IS NOT NULL) AS place_in",
            );
        Ok(tx.all::<DueMail>(sql).await?)
    });
    Ok(claimed.await.map_err(fault)?.into_iter().map(|mail| mail.open(db)).collect())
}

/// Remembers that the mail was accepted for delivery. Until this is written nobody knows, so it is to be
/// tried until it succeeds; once is as good as several times.
#[expect(clippy::disallowed_methods, reason = "the mailer serves everyone's mail")]
pub async fn ack(db: &Db, claim: &Claim) -> Result<(), Fault> {
    let proof = System::named("mailer");
    let acked = db.write(&proof, async |tx| {
        let told = lock_workspaces(tx, claim).await?;
        // `FAILED`: another claimant gave up after this one's lease. `CANCELLED`: the invitation was answered while
        // the mail server took the mail, which invitees are quick enough for. It was accepted all the same; but
        // where the invitation was sent anew after either, the state is that of the newer mail.
        let sql =
            Sql::new("UPDATE mails SET status = 'SENT', sealed = NULL, last_error = NULL, updated_at = ")
                .bind(tx.now())
                .push(
                    " WHERE (status = 'QUEUED' OR status IN ('FAILED', 'CANCELLED') AND NOT EXISTS ( \
                     SELECT 1 FROM mails newer WHERE newer.invitation_id = mails.invitation_id AND newer.id > mails.id)) \
                     AND id = ",
                )
                .bind(claim.id.uuid());
        if tx.run(sql).await? == 1 {
            deliver(tx, claim, DeliveryState::Sent, None, &told).await?;
        }
        Ok(())
    });
    acked.await.map_err(fault)
}

/// Remembers that the mail could not be sent and why, in words fit for an admin of the workspace. With
/// `retry` it is tried again later, unless it has waited for two days; else it is given up.
#[expect(clippy::disallowed_methods, reason = "the mailer serves everyone's mail")]
pub async fn fail(db: &Db, claim: &Claim, error: &str, retry: bool) -> Result<(), Fault> {
    let proof = System::named("mailer");
    let failed = db.write(&proof, async |tx| {
        let told = lock_workspaces(tx, claim).await?;
        let retry = retry && tx.now() - claim.queued_at < GIVE_UP_AFTER;
        let sql =
            Sql::new("UPDATE mails SET last_error = ").bind(error).push(", updated_at = ").bind(tx.now());
        let sql = if retry {
            sql.push(", due_at = ").bind(tx.now() + wait_after(claim.attempt))
        } else {
            sql.push(", status = 'FAILED', sealed = NULL")
        };
        // Another claimant's attempt is not undone by the news of this one.
        let sql = sql
            .push(" WHERE status = 'QUEUED' AND id = ")
            .bind(claim.id.uuid())
            .push(" AND attempts = ")
            .bind(i64::from(claim.attempt));
        if tx.run(sql).await? == 1 {
            let state = if retry { DeliveryState::Queued } else { DeliveryState::Failed };
            deliver(tx, claim, state, Some(error), &told).await?;
        }
        Ok(())
    });
    failed.await.map_err(fault)
}

/// What follows on PostgreSQL the choice of rows that several processes make at once.
pub(crate) fn skip_locked(db: &Db) -> &'static str {
    match db.engine() {
        Engine::Postgres => " FOR UPDATE SKIP LOCKED",
        Engine::Sqlite => "",
    }
}

/// Locks what whoever answers the mail's invitation locks, before anything is written: the organization where it gives a
/// place in it, then the workspaces that it opens, in the order of their ids.
async fn lock_workspaces(tx: &Tx<'_>, claim: &Claim) -> Result<Vec<WorkspaceId>, Fault> {
    let Some(invitation) = claim.invitation else { return Ok(Vec::new()) };
    if let Some(organization) = claim.place_in {
        tx.lock_organization(organization).await?;
    }
    let sql = Sql::new(
        "SELECT w.id FROM invitation_grants g JOIN workspaces w ON w.id = g.workspace_id \
         WHERE g.invitation_id = ",
    )
    .bind(invitation.uuid())
    .push(" ORDER BY w.id");
    let sql = if tx.db().engine() == Engine::Postgres { sql.push(" FOR NO KEY UPDATE OF w") } else { sql };
    Ok(tx.all::<Single<Uuid>>(sql).await?.into_iter().map(|Single(id)| id.into()).collect())
}

#[derive(FromQueryResult)]
struct DeliveredInvitation {
    email: String,
    status: String,
    expires_at: DateTime<Utc>,
}

/// Writes the state of the mail into its invitation. Whoever watches is told of the end of it, not of every
/// failure on the way.
async fn deliver(
    tx: &mut Tx<'_>,
    claim: &Claim,
    state: DeliveryState,
    error: Option<&str>,
    told: &[WorkspaceId],
) -> Result<(), Fault> {
    let Some(invitation) = claim.invitation else { return Ok(()) };
    let sent_at = (state == DeliveryState::Sent).then(|| tx.now());
    let sql = Sql::new("UPDATE invitations SET delivery = ")
        .bind(state.word())
        .push(", delivery_error = ")
        .bind(error.map(str::to_owned))
        .push(", sent_at = COALESCE(")
        .bind(sent_at)
        .push(", sent_at), updated_at = ")
        .bind(tx.now())
        .push(" WHERE id = ")
        .bind(invitation.uuid())
        .push(" RETURNING email, status, expires_at");
    let row: Option<DeliveredInvitation> = tx.one(sql).await?;
    let Some(row) = row.filter(|_| state != DeliveryState::Queued) else { return Ok(()) };
    let Some(status) = InvitationStatus::from_word(&row.status) else {
        // Written by a newer version. No reason to forget that the mail was sent.
        tracing::error!(%invitation, status = row.status, "this version does not know the status");
        return Ok(());
    };
    // Who watches was told how the invitation ended, and would take this for the same news again.
    if status != InvitationStatus::Pending {
        return Ok(());
    }
    let email = Email::from_stored(row.email);
    let status = effective_status(status, row.expires_at, tx.now());
    tell_each(tx, invitation, &email, status, told.iter().copied());
    Ok(())
}

/// How long to wait after that attempt failed, give or take a fifth: mails that failed together do not
/// come back together.
fn wait_after(attempt: u32) -> TimeDelta {
    let doublings = attempt.saturating_sub(1).min(16);
    let wait = (FIRST_WAIT * 2_i32.pow(doublings)).min(LONGEST_WAIT);
    let chance = i32::from(random::<1>().map_or(128, |[byte]| byte));
    wait * (5 * 255 + 2 * chance - 255) / (5 * 255)
}

/// The fault of the service's own operation, which no rule refuses.
pub(crate) fn fault(error: OpError<Infallible>) -> Fault {
    match error {
        OpError::Fault(fault) => fault,
        OpError::Denied(_) | OpError::Refused(_) => {
            Fault::Worker("the service itself was turned away".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_doubles_the_wait_up_to_ten_minutes() {
        for (attempt, seconds) in
            [(0, 5), (1, 5), (2, 10), (3, 20), (7, 320), (8, 600), (9, 600), (u32::MAX, 600)]
        {
            let middle = TimeDelta::seconds(seconds);
            for _ in 0..50 {
                let wait = wait_after(attempt);
                assert!(wait >= middle * 3 / 4 && wait <= middle * 5 / 4, "{attempt}: {wait}");
            }
        }
    }
}
