//! The life of a workspace: archiving, restoring, deleting it with everything inside, and telling what a deletion would
//! take along. What is deleted and what is told are read by the same statements.

use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Granted, perm},
    audit::{Action, Entry, ObjectKind},
    events::{CredentialChange, Event, EventKind, WorkspaceChange},
    ids::{CredentialId, UserId, WorkspaceId},
    invitations::InvitationStatus,
    life::{
        ArchiveWorkspaceCode, Confirmation, DeleteWorkspaceCode, DeletionFacts, RestoreWorkspaceCode,
        judge_archiving, judge_deletion,
    },
    refusal::Refusals,
    workspaces::WorkspaceStatus,
};
use sea_orm::FromQueryResult;
use serde_json::json;
use uuid::Uuid;

use crate::{
    access::in_sight,
    db::{Ask, Db, Engine, Tx},
    error::{Fault, OpError, ReadError},
    quotas,
    sql::{Single, Sql},
    workspaces::{self, Workspace, preferred_workspace},
};

/// Archives a workspace: everything in it stays, is read and not changed. One that is archived stays as it is.
pub async fn archive(
    db: &Db,
    proof: &Granted<perm::WorkspaceArchive>,
) -> Result<(), OpError<ArchiveWorkspaceCode>> {
    db.write(proof, async |tx| {
        let access = tx.access()?.clone();
        let workspace = workspaces::read(tx, access.workspace()).await?;
        judge_archiving(workspace.is_default)?;
        if workspace.status == WorkspaceStatus::Active {
            let by = access.actor().person();
            set_status(tx, workspace.id, WorkspaceStatus::Archived, Some((tx.now(), by))).await?;
            tx.audit(&status_entry(Action::ArchiveWorkspace, &workspace, WorkspaceStatus::Archived))?;
            tx.append(Event::Workspace { workspace: workspace.id, change: WorkspaceChange::Archived });
        }
        Ok(())
    })
    .await
}

/// Brings an archived workspace back exactly as it was. One that is in use stays as it is.
pub async fn restore(
    db: &Db,
    proof: &Granted<perm::WorkspaceArchive>,
) -> Result<(), OpError<RestoreWorkspaceCode>> {
    db.write(proof, async |tx| {
        let access = tx.access()?.clone();
        if access.is_archived() {
            let workspace = access.workspace();
            let row = workspaces::read(tx, workspace).await?;
            set_status(tx, workspace, WorkspaceStatus::Active, None).await?;
            tx.audit(&status_entry(Action::RestoreWorkspace, &row, WorkspaceStatus::Active))?;
            tx.append(Event::Workspace { workspace, change: WorkspaceChange::Restored });
        }
        Ok(())
    })
    .await
}

fn status_entry(action: Action, workspace: &Workspace, status: WorkspaceStatus) -> Entry {
    Entry::of(action, ObjectKind::Workspace, workspace.id, workspace.display_name.as_str())
        .changed(json!({ "status": workspace.status.word() }), json!({ "status": status.word() }))
}

/// Leaves the time of the last change of its settings as it is, since none of them changes.
async fn set_status(
    tx: &Tx<'_>,
    workspace: WorkspaceId,
    status: WorkspaceStatus,
    archived: Option<(DateTime<Utc>, Option<UserId>)>,
) -> Result<(), Fault> {
    let sql = Sql::new("UPDATE workspaces SET status = ")
        .bind(status.word())
        .push(", archived_at = ")
        .bind(archived.map(|(at, _)| at))
        .push(", archived_by = ")
        .bind(archived.and_then(|(_, by)| by).map(UserId::uuid))
        .push(" WHERE id = ")
        .bind(workspace.uuid());
    tx.run(sql).await?;
    Ok(())
}

/// How much goes with a workspace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeletionCounts {
    /// Its members.
    pub members: u64,
    /// Those of them who do not own the organization.
    pub members_besides_owners: u64,
    /// People who land in it after signing in, and land elsewhere then.
    pub landings: u64,
    /// Pending invitations to it.
    pub invitations: u64,
    /// Its credentials.
    pub credentials: u64,
    /// Its configuration properties.
    pub config_properties: u64,
    /// Its service accounts.
    pub service_accounts: u64,
    /// API keys of it and of those that are good.
    pub api_keys: u64,
    /// Its webhooks.
    pub webhooks: u64,
    /// What it lends, or offers: shares of its credentials.
    pub shares_out: u64,
    /// The workspaces that borrow from it, or are offered to.
    pub borrowers: u64,
    /// What it borrows, or is offered.
    pub shares_in: u64,
    /// The workspaces that it borrows from, or that offer to it.
    pub lenders: u64,
}

/// What deleting a workspace would do.
#[derive(Clone, Debug)]
pub struct Deletion {
    /// How much would go.
    pub counts: DeletionCounts,
    /// Why it would be refused.
    pub refusals: Option<Refusals<DeleteWorkspaceCode>>,
}

/// What deleting the workspace would do, with `remove_members` or without.
pub async fn deletion(
    db: &Db,
    proof: &Granted<perm::WorkspaceDelete>,
    remove_members: bool,
) -> Result<Deletion, ReadError> {
    let found = find(&db.read(proof), proof.access().workspace()).await?;
    let refusals = found.judge(&Confirmation { name: None, remove_members }).err();
    Ok(Deletion { counts: found.counts(), refusals })
}

/// Open shares (alias `s`): those that are used or wait for an answer, and have not run out by `$2`.
const OPEN_SHARES: &str = "credential_shares s WHERE s.status IN ('PENDING', 'ACTIVE') AND (s.expires_at IS NULL OR s.expires_at > $2)";
/// Memberships (alias `m`) of the workspace `$1` that are in force at `$2`.
const MEMBERSHIPS: &str =
    "memberships m WHERE m.workspace_id = $1 AND (m.expires_at IS NULL OR m.expires_at > $2)";

#[derive(Debug, FromQueryResult)]
struct Found {
    name: String,
    is_default: bool,
    members: i64,
    owners: i64,
    landings: i64,
    invitations: i64,
    credentials: i64,
    config_properties: i64,
    service_accounts: i64,
    api_keys: i64,
    webhooks: i64,
    shares_out: i64,
    borrowers: i64,
    shares_in: i64,
    lenders: i64,
}

/// The workspace that is to be deleted, and everything that goes with it, counted in one statement.
async fn find(tx: &impl Ask, workspace: WorkspaceId) -> Result<Found, Fault> {
    let sql = Sql::new(format!(
        "SELECT w.name, w.is_default, \
         (SELECT count(*) FROM {MEMBERSHIPS}) AS members, \
         (SELECT count(*) FROM {MEMBERSHIPS} AND EXISTS (SELECT 1 FROM organization_members om \
             WHERE om.user_id = m.user_id AND om.organization_id = w.organization_id AND om.role = 'OWNER')) AS owners, \
         (SELECT count(*) FROM users u WHERE u.default_workspace_id = $1) AS landings, \
         (SELECT count(*) FROM invitation_grants g JOIN invitations i ON i.id = g.invitation_id \
             WHERE g.workspace_id = $1 AND i.status = 'PENDING' AND i.expires_at > $2) AS invitations, \
         (SELECT count(*) FROM credentials c WHERE c.workspace_id = $1) AS credentials, \
         (SELECT count(*) FROM config_properties p WHERE p.workspace_id = $1) AS config_properties, \
         (SELECT count(*) FROM service_accounts sa WHERE sa.workspace_id = $1) AS service_accounts, \
         (SELECT count(*) FROM api_keys k WHERE k.workspace_id = $1 AND k.revoked_at IS NULL \
             AND (k.expires_at IS NULL OR k.expires_at > $2)) AS api_keys, \
         (SELECT count(*) FROM webhooks h WHERE h.workspace_id = $1) AS webhooks, \
         (SELECT count(*) FROM {OPEN_SHARES} AND s.workspace_id = $1) AS shares_out, \
         (SELECT count(DISTINCT s.target_id) FROM {OPEN_SHARES} AND s.workspace_id = $1) AS borrowers, \
         (SELECT count(*) FROM {OPEN_SHARES} AND s.target_id = $1) AS shares_in, \
         (SELECT count(DISTINCT s.workspace_id) FROM {OPEN_SHARES} AND s.target_id = $1) AS lenders \
         FROM workspaces w WHERE w.id = $1"
    ))
    .values([workspace.uuid().into(), tx.now().into()]);
    tx.one(sql).await?.ok_or_else(|| Fault::Stored(format!("{workspace} went away")))
}

impl Found {
    fn counts(&self) -> DeletionCounts {
        let number = |number: i64| u64::try_from(number).unwrap_or(0);
        DeletionCounts {
            members: number(self.members),
            members_besides_owners: number(self.members - self.owners),
            landings: number(self.landings),
            invitations: number(self.invitations),
            credentials: number(self.credentials),
            config_properties: number(self.config_properties),
            service_accounts: number(self.service_accounts),
            api_keys: number(self.api_keys),
            webhooks: number(self.webhooks),
            shares_out: number(self.shares_out),
            borrowers: number(self.borrowers),
            shares_in: number(self.shares_in),
            lenders: number(self.lenders),
        }
    }

    fn judge(&self, confirmation: &Confirmation<'_>) -> Result<(), Refusals<DeleteWorkspaceCode>> {
        let facts = DeletionFacts {
            name: &self.name,
            is_default: self.is_default,
            members_besides_owners: self.counts().members_besides_owners,
        };
        judge_deletion(&facts, confirmation)
    }
}

/// In which direction workspaces lend to each other, seen from one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lending {
    /// Those that borrow from it.
    Borrowers,
    /// Those that it borrows from.
    Lenders,
}

/// The workspaces that would lose a share with the workspace, those that the actor may know of, by age; at most `limit`.
pub async fn sharing_with(
    db: &Db,
    proof: &Granted<perm::WorkspaceDelete>,
    lending: Lending,
    limit: u32,
) -> Result<Vec<WorkspaceId>, ReadError> {
    let (own, other) = match lending {
        Lending::Borrowers => ("workspace_id", "target_id"),
        Lending::Lenders => ("target_id", "workspace_id"),
    };
    let access = proof.access();
    let sql = Sql::new(format!(
        "SELECT w.id FROM workspaces w WHERE w.organization_id = $3 \
         AND EXISTS (SELECT 1 FROM {OPEN_SHARES} AND s.{own} = $1 AND s.{other} = w.id)"
    ))
    .values([access.workspace().uuid().into(), db.now().into(), access.organization().uuid().into()]);
    let sql = in_sight(sql, access.actor()).push(" ORDER BY w.id").limit(limit.into());
    let rows: Vec<Single<Uuid>> = db.read(proof).all(sql).await?;
    Ok(rows.into_iter().map(|Single(id)| id.into()).collect())
}

/// A credential that would go, in few words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoomedCredential {
    /// Its id.
    pub id: CredentialId,
    /// Its name in addresses.
    pub slug: String,
    /// The name people read.
    pub name: String,
    /// How many workspaces borrow it, or are offered it.
    pub borrowers: u64,
}

#[derive(Debug, FromQueryResult)]
struct CredentialRow {
    id: Uuid,
    slug: String,
    name: String,
    borrowers: i64,
}

/// The workspace's credentials, by age; at most `limit`.
pub async fn doomed_credentials(
    db: &Db,
    proof: &Granted<perm::CredentialList>,
    limit: u32,
) -> Result<Vec<DoomedCredential>, ReadError> {
    let sql = Sql::new(format!(
        "SELECT c.id, c.slug, c.name, (SELECT count(*) FROM {OPEN_SHARES} AND s.credential_id = c.id) AS borrowers \
         FROM credentials c WHERE c.workspace_id = $1 ORDER BY c.id"
    ))
    .values([proof.access().workspace().uuid().into(), db.now().into()])
    .limit(limit.into());
    let rows: Vec<CredentialRow> = db.read(proof).all(sql).await?;
    let credentials = rows.into_iter().map(|row| DoomedCredential {
        id: row.id.into(),
        slug: row.slug,
        name: row.name,
        borrowers: u64::try_from(row.borrowers).unwrap_or(0),
    });
    Ok(credentials.collect())
}

/// Deletes a workspace with everything in it, and tells how much that was. However much it is, by a fixed number of
/// statements in one transaction: who is interrupted has deleted nothing, and does it again.
pub async fn delete(
    db: &Db,
    proof: &Granted<perm::WorkspaceDelete>,
    confirm_name: &str,
    remove_members: bool,
) -> Result<DeletionCounts, OpError<DeleteWorkspaceCode>> {
    db.write_across(proof, async |tx| {
        let access = tx.access()?.clone();
        let workspace = access.workspace();
        let others = neighbours(tx, workspace).await?;
        tx.lock_workspaces(access.organization(), &others).await?;
        lock_people(tx, workspace).await?;
        let found = find(tx, workspace).await?;
        found.judge(&Confirmation { name: Some(confirm_name), remove_members })?;
        let counts = found.counts();
        let row = workspaces::read(tx, workspace).await?;
        send_home(tx, workspace).await?;
        tell_neighbours(tx, workspace).await?;
        forget_uses(tx, workspace).await?;
        end_invitations(tx, workspace).await?;
        quotas::forget_workspace(tx, quotas::Place { organization: access.organization(), workspace })
            .await?;
        let gone = Sql::new("DELETE FROM workspaces WHERE id = ").bind(workspace.uuid());
        tx.run(gone).await?;
        let mut was = workspaces::shown(&row);
        was["members"] = counts.members.into();
        was["credentials"] = counts.credentials.into();
        was["configProperties"] = counts.config_properties.into();
        was["serviceAccounts"] = counts.service_accounts.into();
        was["apiKeys"] = counts.api_keys.into();
        was["webhooks"] = counts.webhooks.into();
        tx.audit(
            &Entry::of(Action::DeleteWorkspace, ObjectKind::Workspace, workspace, row.display_name.as_str())
                .before(was),
        )?;
        tx.append(Event::Workspace { workspace, change: WorkspaceChange::Deleted });
        Ok(counts)
    })
    .await
}

/// The other workspaces that are told: those that lend to it or borrow from it. The organization is locked, so they stay
/// the same.
async fn neighbours(tx: &Tx<'_>, workspace: WorkspaceId) -> Result<Vec<WorkspaceId>, Fault> {
    let sql = Sql::new(
        "SELECT DISTINCT CASE WHEN s.workspace_id = $1 THEN s.target_id ELSE s.workspace_id END AS id \
         FROM credential_shares s WHERE s.workspace_id = $1 OR s.target_id = $1",
    )
    .values([workspace.uuid().into()]);
    Ok(tx.all::<Single<Uuid>>(sql).await?.into_iter().map(|Single(id)| id.into()).collect())
}

/// Locks everybody who could fall back to the workspace, or prefers it: whoever is losing another workspace at this moment
/// has chosen before, or waits and then finds this one gone.
async fn lock_people(tx: &Tx<'_>, workspace: WorkspaceId) -> Result<(), Fault> {
    if tx.db().engine() == Engine::Postgres {
        let sql = Sql::new(
            "SELECT 1 FROM users u WHERE u.default_workspace_id = $1 OR u.last_workspace_id = $1 \
             OR u.id IN (SELECT m.user_id FROM memberships m WHERE m.workspace_id = $1) \
             ORDER BY u.id FOR NO KEY UPDATE",
        )
        .values([workspace.uuid().into()]);
        tx.all::<Single<i32>>(sql).await?;
    }
    Ok(())
}

/// Everybody who preferred the workspace lands elsewhere: whoever was last in it in their default workspace, and whose
/// default workspace it was in the earliest other one.
async fn send_home(tx: &Tx<'_>, workspace: WorkspaceId) -> Result<(), Fault> {
    let elsewhere = preferred_workspace("$2", " AND m.workspace_id <> $1");
    let sql = Sql::new(format!(
        "UPDATE users SET \
         default_workspace_id = CASE WHEN default_workspace_id = $1 THEN {elsewhere} ELSE default_workspace_id END, \
         last_workspace_id = CASE WHEN last_workspace_id = $1 THEN \
             CASE WHEN default_workspace_id <> $1 THEN default_workspace_id ELSE {elsewhere} END \
             ELSE last_workspace_id END \
         WHERE default_workspace_id = $1 OR last_workspace_id = $1"
    ))
    .values([workspace.uuid().into(), tx.now().into()]);
    tx.run(sql).await?;
    Ok(())
}

/// Tells the workspaces at the other end of each open share that it is over: a borrower by its loan, a lender by its
/// credential.
async fn tell_neighbours(tx: &mut Tx<'_>, workspace: WorkspaceId) -> Result<(), Fault> {
    let sql = Sql::new(format!(
        "INSERT INTO events (kind, workspace_id, subject_id, state, created_at) \
         SELECT $3, s.target_id, s.id, $4, $2 FROM {OPEN_SHARES} AND s.workspace_id = $1 \
         UNION ALL SELECT $3, s.workspace_id, s.credential_id, $5, $2 FROM {OPEN_SHARES} AND s.target_id = $1"
    ))
    .values([
        workspace.uuid().into(),
        tx.now().into(),
        EventKind::Credential.word().into(),
        CredentialChange::Returned.word().into(),
        CredentialChange::ShareDeclined.word().into(),
    ]);
    tx.append_each(sql).await
}

/// Deletes the records of uses that concern nobody else. Of the others the database forgets this workspace.
async fn forget_uses(tx: &Tx<'_>, workspace: WorkspaceId) -> Result<(), Fault> {
    let sql = Sql::new(
        "DELETE FROM credential_uses WHERE owner_id = $1 AND (workspace_id = $1 OR workspace_id IS NULL) \
         OR workspace_id = $1 AND owner_id IS NULL",
    )
    .values([workspace.uuid().into()]);
    tx.run(sql).await?;
    Ok(())
}

/// The invitations to the workspace: those to nothing else go, whatever became of them, and with them their mails; the others
/// lose it. Whoever has a pending one, and an account to hear it with, is told: the link of one that is gone is not valid any
/// more.
async fn end_invitations(tx: &mut Tx<'_>, workspace: WorkspaceId) -> Result<(), Fault> {
    /// Invitations (alias `i`) to the workspace `$1` and to nothing else.
    const ONLY_HERE: &str = "(i.organization_role IS NULL AND NOT EXISTS (SELECT 1 FROM invitation_grants other \
         WHERE other.invitation_id = i.id AND other.workspace_id <> $1))";
    const HERE: &str = "i.id IN (SELECT g.invitation_id FROM invitation_grants g WHERE g.workspace_id = $1)";
    // Last of all, and in the order of the addresses, as `events::insert` does it for one.
    let news = format!(
        "SELECT i.id, i.email, CASE WHEN {ONLY_HERE} THEN $4 ELSE $5 END AS state FROM invitations i \
         JOIN users u ON u.email = i.email WHERE {HERE} AND i.status = 'PENDING' ORDER BY i.email, i.id"
    );
    let news = match tx.db().engine() {
        Engine::Sqlite => format!("SELECT id, email, state FROM ({news}) AS news"),
        Engine::Postgres => format!(
            "SELECT id, email, state FROM (SELECT news.*, pg_advisory_xact_lock(hashtextextended(news.email, 0)) \
             FROM ({news}) AS news OFFSET 0) AS told"
        ),
    };
    let sql = Sql::new(format!(
        "INSERT INTO events (kind, email, subject_id, state, created_at) \
         SELECT $3, email, id, state, $2 FROM ({news}) AS ended"
    ))
    .values([
        workspace.uuid().into(),
        tx.now().into(),
        EventKind::Invitation.word().into(),
        InvitationStatus::Revoked.word().into(),
        InvitationStatus::Pending.word().into(),
    ]);
    tx.append_each(sql).await?;
    let gone = Sql::new(format!(
        "DELETE FROM invitations WHERE id IN (SELECT i.id FROM invitations i WHERE {HERE} AND {ONLY_HERE})"
    ))
    .values([workspace.uuid().into()]);
    tx.run(gone).await?;
    Ok(())
}
