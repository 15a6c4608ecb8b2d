//! What workspaces lend each other: offering, accepting, declining, taking back, and to whom something can be lent.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Granted, ShareAcceptance, WorkspaceAccess, perm},
    audit::{Action, Entry, ObjectKind},
    credentials::{
        AcceptCredentialShareCode, CredentialKind, DeclineCredentialShareCode, ShareCredentialCode,
        ShareStatus, UnshareCredentialCode,
    },
    events::{CredentialChange, Event},
    ids::{CredentialId, CredentialShareId, OrganizationId, UserId, WorkspaceId},
    page::{Order, Page, PageArgs},
    refusal::Refusal,
    text::SearchTerm,
};
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    access::{self, Sorted, in_sight, numbers_of, page_by, pages_of, word},
    accounts::User,
    credentials::{self, Counterpart, CredentialRef, own},
    db::{Ask, Db, Tx},
    error::{Fault, OpError, ReadError},
    search,
    sql::{AT_ONCE, Placed, Single, Sql},
};

/// The loan of a credential from one workspace to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialShare {
    /// Its id.
    pub id: CredentialShareId,
    /// What is lent.
    pub credential: CredentialId,
    /// Its kind.
    pub kind: CredentialKind,
    /// Its slug.
    pub slug: String,
    /// The name people read.
    pub name: String,
    /// The workspace that lends.
    pub owner: Counterpart,
    /// The workspace that borrows.
    pub target: Counterpart,
    /// Where it stands now.
    pub status: ShareStatus,
    /// Who lent it.
    pub shared_by: Option<UserId>,
    /// When it ends by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was accepted, declined, given back or taken back.
    pub responded_at: Option<DateTime<Utc>>,
    /// When it was lent or offered.
    pub created_at: DateTime<Utc>,
}

const SHARE_COLUMNS: &str = "s.id AS share_id, c.id AS credential_id, c.kind, c.slug, c.name, s.status AS share_status, \
     s.expires_at, s.responded_at, s.created_at, ow.id AS owner_id, ow.name AS owner_name, \
     ow.display_name AS owner_display_name, tw.id AS target_id, tw.name AS target_name, \
     tw.display_name AS target_display_name, s.shared_by";
const SHARE_TABLES: &str = "credential_shares s JOIN credentials c ON c.id = s.credential_id \
     JOIN workspaces ow ON ow.id = s.workspace_id JOIN workspaces tw ON tw.id = s.target_id";

/// The workspace whose columns begin with that word.
pub(crate) fn counterpart(
    row: &QueryResult,
    prefix: &str,
    which: &str,
) -> Result<Option<Counterpart>, DbErr> {
    let Some(id) = row.try_get::<Option<Uuid>>(prefix, &format!("{which}_id"))? else { return Ok(None) };
    Ok(Some(Counterpart {
        id: id.into(),
        name: row.try_get(prefix, &format!("{which}_name"))?,
        display_name: row.try_get(prefix, &format!("{which}_display_name"))?,
    }))
}

/// The person whose columns a left join may have left empty.
pub(crate) fn person(row: &QueryResult, prefix: &str) -> Result<Option<User>, DbErr> {
    match row.try_get::<Option<Uuid>>(prefix, "user_id")? {
        Some(_) => User::from_query_result(row, prefix).map(Some),
        None => Ok(None),
    }
}

impl FromQueryResult for CredentialShare {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        let which = |which| {
            counterpart(row, prefix, which)?.ok_or_else(|| DbErr::Type(format!("a loan without its {which}")))
        };
        Ok(Self {
            id: row.try_get::<Uuid>(prefix, "share_id")?.into(),
            credential: row.try_get::<Uuid>(prefix, "credential_id")?.into(),
            kind: word(&row.try_get::<String>(prefix, "kind")?, CredentialKind::from_word)?,
            slug: row.try_get(prefix, "slug")?,
            name: row.try_get(prefix, "name")?,
            owner: which("owner")?,
            target: which("target")?,
            status: word(&row.try_get::<String>(prefix, "share_status")?, ShareStatus::from_word)?,
            shared_by: row.try_get::<Option<Uuid>>(prefix, "shared_by")?.map(Into::into),
            expires_at: row.try_get(prefix, "expires_at")?,
            responded_at: row.try_get(prefix, "responded_at")?,
            created_at: row.try_get(prefix, "created_at")?,
        })
    }
}

impl CredentialShare {
    fn at(mut self, now: DateTime<Utc>) -> Self {
        self.status = self.status.at(self.expires_at, now);
        self
    }
}

/// An open loan, as seen from the lender.
#[derive(Debug)]
pub(crate) struct Borrower {
    /// The loan.
    pub(crate) share: CredentialShareId,
    /// Who borrows.
    pub(crate) workspace: Counterpart,
}

impl FromQueryResult for Borrower {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        let workspace = counterpart(row, prefix, "target")?;
        Ok(Self {
            share: row.try_get::<Uuid>(prefix, "share_id")?.into(),
            workspace: workspace.ok_or_else(|| DbErr::Type("a loan without its target".to_owned()))?,
        })
    }
}

/// The loans of a credential that are offered or active and have not ended, by age.
pub(crate) async fn open(ask: &impl Ask, credential: CredentialId) -> Result<Vec<Borrower>, Fault> {
    let sql = Sql::new(
        "SELECT s.id AS share_id, tw.id AS target_id, tw.name AS target_name, tw.display_name AS target_display_name \
         FROM credential_shares s JOIN workspaces tw ON tw.id = s.target_id \
         WHERE s.status IN ('PENDING', 'ACTIVE') AND (s.expires_at IS NULL OR s.expires_at > ",
    )
    .bind(ask.now())
    .push(") AND s.credential_id = ")
    .bind(credential.uuid())
    .push(" ORDER BY s.id");
    ask.all(sql).await
}

/// The loans to list, with the proof that the asker may see them. Two are equal that have the same answer.
#[derive(Clone)]
pub enum Shares {
    /// Every loan there was of a credential of the workspace.
    OfCredential(Granted<perm::CredentialShare>, CredentialId),
    /// What is offered to the workspace and waits for an answer.
    Offered(Granted<perm::CredentialList>),
}

impl Shares {
    /// The asker's rights in the workspace whose list it is.
    pub fn access(&self) -> &Arc<WorkspaceAccess> {
        match self {
            Self::OfCredential(proof, _) => proof.access(),
            Self::Offered(proof) => proof.access(),
        }
    }

    fn parts(&self) -> (WorkspaceId, Option<CredentialId>) {
        let credential = match self {
            Self::OfCredential(_, credential) => Some(*credential),
            Self::Offered(_) => None,
        };
        (self.access().workspace(), credential)
    }

    fn sql(&self, columns: &str, now: DateTime<Utc>) -> Sql {
        let sql = Sql::new(format!("SELECT {columns} FROM credential_shares s WHERE "));
        match self {
            Self::OfCredential(proof, credential) => sql
                .push("s.workspace_id = ")
                .bind(proof.access().workspace().uuid())
                .push(" AND s.credential_id = ")
                .bind(credential.uuid()),
            Self::Offered(proof) => sql
                .push("s.status = 'PENDING' AND s.target_id = ")
                .bind(proof.access().workspace().uuid())
                .push(" AND (s.expires_at IS NULL OR s.expires_at > ")
                .bind(now)
                .push(")"),
        }
    }

    async fn ask<T: FromQueryResult + Send>(&self, db: &Db, sql: Sql) -> Result<Vec<T>, Fault> {
        match self {
            Self::OfCredential(proof, _) => db.read(proof).all(sql).await,
            Self::Offered(proof) => db.read(proof).all(sql).await,
        }
    }
}

impl PartialEq for Shares {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Shares {}

impl Hash for Shares {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

/// A page of each of those lists of loans, by age.
pub async fn pages(
    db: &Db,
    wanted: &[(Shares, PageArgs<Uuid>)],
) -> Result<Vec<Page<CredentialShare>>, ReadError> {
    let now = db.now();
    let mut pages = Vec::with_capacity(wanted.len());
    for wanted in wanted.chunks(AT_ONCE) {
        let Some((first, _)) = wanted.first() else { break };
        let each = wanted.iter().map(|(which, args)| page_by(which.sql("s.id AS id", now), args, "s.id"));
        let sql = Sql::new(format!("SELECT listed.place, {SHARE_COLUMNS} FROM ("))
            .append(Sql::each(each))
            .push(&format!(") AS listed, {SHARE_TABLES} WHERE s.id = listed.id ORDER BY s.id"));
        let rows: Vec<Placed<CredentialShare>> = first.ask(db, sql).await?;
        let found = pages_of(wanted.iter().map(|(_, args)| args), rows);
        pages.extend(found.into_iter().map(|page| page.map(|share| share.at(now))));
    }
    Ok(pages)
}

/// How many loans each of those lists has in all.
pub async fn numbers(db: &Db, wanted: &[Shares]) -> Result<Vec<u64>, ReadError> {
    let now = db.now();
    let mut numbers = Vec::with_capacity(wanted.len());
    for wanted in wanted.chunks(AT_ONCE) {
        let Some(first) = wanted.first() else { break };
        let sql = Sql::each(wanted.iter().map(|which| which.sql("count(*) AS number", now)));
        numbers.extend(numbers_of(first.ask(db, sql).await?));
    }
    Ok(numbers)
}

async fn find(
    tx: &Tx<'_>,
    side: &str,
    workspace: WorkspaceId,
    id: CredentialShareId,
) -> Result<Option<CredentialShare>, Fault> {
    let sql = Sql::new(format!("SELECT {SHARE_COLUMNS} FROM {SHARE_TABLES} WHERE s.id = "))
        .bind(id.uuid())
        .push(&format!(" AND s.{side} = "))
        .bind(workspace.uuid());
    Ok(tx.one::<CredentialShare>(sql).await?.map(|share| share.at(tx.now())))
}

/// Tells the lender and the borrower what became of a loan.
fn tell(tx: &mut Tx<'_>, share: &CredentialShare, owner: CredentialChange, borrower: CredentialChange) {
    tx.append(Event::Credential {
        workspace: share.owner.id,
        subject: share.credential.uuid(),
        change: owner,
    });
    tx.append(Event::Credential { workspace: share.target.id, subject: share.id.uuid(), change: borrower });
}

/// The active workspaces `w` of the organization that the actor may know of, other than their own one.
fn candidates(proof: &Granted<perm::CredentialShare>) -> Sql {
    let access = proof.access();
    let sql = Sql::new("SELECT w.id FROM workspaces w WHERE w.status = 'ACTIVE' AND w.organization_id = ")
        .bind(access.organization().uuid())
        .push(" AND w.id <> ")
        .bind(access.workspace().uuid());
    in_sight(sql, access.actor())
}

/// Workspaces to lend a credential to, by name: those of the organization that the asker knows of, whose name contains the
/// text, and that do not have it yet. `None` where the workspace owns no such credential.
pub async fn targets(
    db: &Db,
    proof: &Granted<perm::CredentialShare>,
    credential: CredentialId,
    search: Option<&SearchTerm>,
) -> Result<Option<Vec<WorkspaceId>>, ReadError> {
    const AT_MOST: u32 = 20;
    let read = db.read(proof);
    if !find_own(&read, proof.access().workspace(), credential).await? {
        return Ok(None);
    }
    let mut sql = candidates(proof)
        .push(
            " AND NOT EXISTS (SELECT 1 FROM credential_shares s WHERE s.target_id = w.id \
             AND s.status IN ('PENDING', 'ACTIVE') AND s.credential_id = ",
        )
        .bind(credential.uuid())
        .push(" AND (s.expires_at IS NULL OR s.expires_at > ")
        .bind(db.now())
        .push("))");
    if let Some(search) = search {
        sql = search::where_named(sql, "w", "display_name", "name", search);
    }
    let by_name = Order { by_name: true, descending: false };
    let sorted = Sorted::by(db, by_name, "w.display_name", "w.id");
    let first = PageArgs { size: AT_MOST, backward: false, after: None, before: None };
    let found: Vec<Single<Uuid>> = read.all(sorted.page(sql, &first)).await?;
    Ok(Some(Page::cut(&first, found).items.into_iter().map(|Single(id)| id.into()).collect()))
}

async fn find_own(ask: &impl Ask, workspace: WorkspaceId, credential: CredentialId) -> Result<bool, Fault> {
    let found = credentials::find(ask, workspace, CredentialRef::Own(credential)).await?;
    Ok(found.is_some_and(|credential| credential.origin.is_none()))
}

/// Lends a credential to a workspace of the organization, or offers it where the policy wants it accepted.
pub async fn share(
    db: &Db,
    proof: &Granted<perm::CredentialShare>,
    at: CredentialRef,
    target: WorkspaceId,
    expires_at: Option<DateTime<Utc>>,
) -> Result<CredentialShare, OpError<ShareCredentialCode>> {
    use ShareCredentialCode as Code;
    db.write_across(proof, async |tx| {
        let access = tx.access()?.clone();
        let (workspace, organization) = (access.workspace(), access.organization());
        let credential = own(tx, workspace, at, Code::NotFound, Code::SharedReadOnly).await?;
        if target == workspace {
            let message = "`targetWorkspaceId` is the workspace that owns the credential: choose another one.";
            return Err(Refusal::new(Code::InvalidInput, message).at("targetWorkspaceId").into());
        }
        tx.lock_workspaces(organization, &[target]).await?;
        let visible = access::workspace_by_id(tx.conn(), access.actor(), target, tx.now()).await;
        let visible = match visible {
            Ok(target) => target.organization() == organization && !target.is_archived(),
            Err(ReadError::Denied(_)) => false,
            Err(fault) => return Err(fault.into()),
        };
        if !visible {
            let message = "There is no such workspace in the organization, or you may not know of it, or it is archived.";
            return Err(Refusal::new(Code::NotFound, message).at("targetWorkspaceId").into());
        }
        if let Some(earlier) = open(tx, credential.id).await?.into_iter().find(|loan| loan.workspace.id == target) {
            let message = format!("The credential is lent or offered to {} already.", earlier.workspace.name);
            return Err(Refusal::new(Code::AlreadyShared, message).at("targetWorkspaceId").into());
        }
        // One that has ended by itself makes room for the next.
        tx.run(
            Sql::new("UPDATE credential_shares SET status = 'EXPIRED' WHERE status IN ('PENDING', 'ACTIVE') AND credential_id = ")
                .bind(credential.id.uuid())
                .push(" AND target_id = ")
                .bind(target.uuid()),
        )
        .await?;
        let (status, owner, borrower) = match access.policy().share_acceptance {
            ShareAcceptance::NotRequired => {
                (ShareStatus::Active, CredentialChange::Shared, CredentialChange::Borrowed)
            }
            ShareAcceptance::Required => {
                (ShareStatus::Pending, CredentialChange::ShareOffered, CredentialChange::Offered)
            }
        };
        let id: CredentialShareId = tx.fresh_id();
        tx.defer(Sql::insert(
            "credential_shares",
            [
                ("id", id.uuid().into()),
                ("credential_id", credential.id.uuid().into()),
                ("workspace_id", workspace.uuid().into()),
                ("target_id", target.uuid().into()),
                ("status", status.word().into()),
                ("shared_by", access.person()?.uuid().into()),
                ("expires_at", expires_at.into()),
                ("created_at", tx.now().into()),
            ],
        ));
        let share = reread(tx, workspace, id).await?;
        tell(tx, &share, owner, borrower);
        tx.audit(&entry(Action::ShareCredential, &share).after(shown(&share)))?;
        Ok(share)
    })
    .await
}

fn entry(action: Action, share: &CredentialShare) -> Entry {
    Entry::of(action, ObjectKind::CredentialShare, share.id, share.name.as_str())
}

/// A loan, as the audit log tells it.
fn shown(share: &CredentialShare) -> Value {
    json!({
        "owner": share.owner.name,
        "target": share.target.name,
        "status": share.status.word(),
        "expiresAt": share.expires_at,
    })
}

async fn reread(tx: &Tx<'_>, owner: WorkspaceId, id: CredentialShareId) -> Result<CredentialShare, Fault> {
    find(tx, "workspace_id", owner, id).await?.ok_or_else(|| Fault::Stored(format!("{id} went away")))
}

/// Writes what was answered.
async fn close(tx: &Tx<'_>, share: &CredentialShare, status: ShareStatus) -> Result<CredentialShare, Fault> {
    tx.lock_workspaces(organization_of(tx)?, &[share.owner.id, share.target.id]).await?;
    tx.run(
        Sql::new("UPDATE credential_shares SET status = ")
            .bind(status.word())
            .push(", responded_at = ")
            .bind(tx.now())
            .push(", responded_by = ")
            .bind(tx.access()?.actor().person().map(UserId::uuid))
            .push(" WHERE id = ")
            .bind(share.id.uuid()),
    )
    .await?;
    reread(tx, share.owner.id, share.id).await
}

fn organization_of(tx: &Tx<'_>) -> Result<OrganizationId, Fault> {
    Ok(tx.access()?.organization())
}

fn no_such_share<C>(code: C) -> Refusal<C> {
    Refusal::new(code, "There is no such loan of a credential here.").at("shareId")
}

/// Takes back what was lent or offered: the next use fails.
pub async fn unshare(
    db: &Db,
    proof: &Granted<perm::CredentialShare>,
    id: CredentialShareId,
) -> Result<CredentialShare, OpError<UnshareCredentialCode>> {
    use UnshareCredentialCode as Code;
    db.write_across(proof, async |tx| {
        let Some(share) = find(tx, "workspace_id", proof.access().workspace(), id).await? else {
            return Err(no_such_share(Code::NotFound).into());
        };
        if !matches!(share.status, ShareStatus::Pending | ShareStatus::Active) {
            return Err(Refusal::new(Code::ShareEnded, "This loan has ended already.").at("shareId").into());
        }
        let was = shown(&share);
        let share = close(tx, &share, ShareStatus::Revoked).await?;
        tx.audit(&entry(Action::UnshareCredential, &share).changed(was, shown(&share)))?;
        tell(tx, &share, CredentialChange::Unshared, CredentialChange::Returned);
        Ok(share)
    })
    .await
}

/// Accepts what is offered to the workspace: it can be used there from now on.
pub async fn accept(
    db: &Db,
    proof: &Granted<perm::CredentialManage>,
    id: CredentialShareId,
) -> Result<CredentialShare, OpError<AcceptCredentialShareCode>> {
    use AcceptCredentialShareCode as Code;
    db.write_across(proof, async |tx| {
        let Some(share) = find(tx, "target_id", proof.access().workspace(), id).await? else {
            return Err(no_such_share(Code::NotFound).into());
        };
        match share.status {
            ShareStatus::Pending => {}
            ShareStatus::Expired => {
                let message =
                    "The offer has ended. Ask the workspace that made it to lend the credential again.";
                return Err(Refusal::new(Code::ShareExpired, message).at("shareId").into());
            }
            _ => {
                let message = "This offer was answered or taken back before.";
                return Err(Refusal::new(Code::ShareNotPending, message).at("shareId").into());
            }
        }
        let was = shown(&share);
        let share = close(tx, &share, ShareStatus::Active).await?;
        tx.audit(&entry(Action::AcceptCredentialShare, &share).changed(was, shown(&share)))?;
        tell(tx, &share, CredentialChange::ShareAccepted, CredentialChange::Borrowed);
        Ok(share)
    })
    .await
}

/// Declines what is offered to the workspace, or gives back what it borrows.
pub async fn decline(
    db: &Db,
    proof: &Granted<perm::CredentialManage>,
    id: CredentialShareId,
) -> Result<CredentialShare, OpError<DeclineCredentialShareCode>> {
    use DeclineCredentialShareCode as Code;
    db.write_across(proof, async |tx| {
        let Some(share) = find(tx, "target_id", proof.access().workspace(), id).await? else {
            return Err(no_such_share(Code::NotFound).into());
        };
        if !matches!(share.status, ShareStatus::Pending | ShareStatus::Active) {
            return Err(Refusal::new(Code::ShareEnded, "This loan has ended already.").at("shareId").into());
        }
        let was = shown(&share);
        let share = close(tx, &share, ShareStatus::Declined).await?;
        tx.audit(&entry(Action::DeclineCredentialShare, &share).changed(was, shown(&share)))?;
        tell(tx, &share, CredentialChange::ShareDeclined, CredentialChange::Returned);
        Ok(share)
    })
    .await
}
