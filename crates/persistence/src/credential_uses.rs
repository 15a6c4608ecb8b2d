//! Uses of credentials: handing values to a workload, and the record of who asked, from where, what for and how it ended.

use std::hash::{Hash, Hasher};

use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Actor, Granted, LetIn, perm},
    credentials::{Found, ShareStatus, TestCredentialCode, UseCredentialCode, UseOutcome, judge_use},
    ids::{CredentialId, CredentialUseId, UserId, WorkspaceId},
    machines::MachineKind,
    page::{Page, PageArgs},
    refusal::{Refusal, Refusals},
    text::Message,
};
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use uuid::Uuid;

use crate::{
    access::{numbers_of, page_by, pages_of, word},
    accounts::User,
    credential_shares::{counterpart, person},
    credentials::{self, Address, Counterpart, Credential, CredentialRef, Value},
    db::{Ask, Db, Engine, Tx},
    error::{Fault, OpError, ReadError},
    machines::MachineRef,
    sql::{AT_ONCE, Placed, Sql},
};

/// A use to write down.
pub(crate) struct Use<'a> {
    pub(crate) credential: CredentialId,
    pub(crate) workspace: WorkspaceId,
    pub(crate) by: Actor,
    pub(crate) purpose: &'a str,
    pub(crate) outcome: UseOutcome,
}

/// Writes a use down, with the next statement or the commit: of a credential that is still there, which stays until then.
pub(crate) fn note(tx: &Tx<'_>, used: &Use<'_>) {
    tx.unaudited("the record of uses is a list of its own");
    let id: CredentialUseId = tx.fresh_id();
    let stays = match tx.db().engine() {
        Engine::Sqlite => "",
        Engine::Postgres => " FOR KEY SHARE OF here, ow, c",
    };
    let (kind, machine) = match used.by {
        Actor::User { .. } => (None, "NULL"),
        Actor::Key { .. } => (Some(MachineKind::ApiKey.word()), "(SELECT name FROM api_keys WHERE id = $8)"),
        Actor::ServiceAccount { .. } => {
            (Some(MachineKind::ServiceAccount.word()), "(SELECT name FROM service_accounts WHERE id = $8)")
        }
    };
    let sql = Sql::new(format!(
        "INSERT INTO credential_uses (id, credential_id, owner_id, workspace_id, user_id, slug, purpose, outcome, created_at, \
             machine_id, machine_kind, machine_name) \
         SELECT $1, c.id, c.workspace_id, here.id, $4, c.slug, $5, $6, $7, $8, $9, {machine} \
         FROM workspaces here, workspaces ow, credentials c \
         WHERE here.id = $3 AND c.id = $2 AND ow.id = c.workspace_id{stays}"
    ));
    tx.defer(sql.values([
        id.uuid().into(),
        used.credential.uuid().into(),
        used.workspace.uuid().into(),
        used.by.person().map(UserId::uuid).into(),
        used.purpose.into(),
        used.outcome.word().into(),
        tx.now().into(),
        kind.map(|_| used.by.uuid()).into(),
        kind.into(),
    ]));
}

/// What goes by an address in a workspace, or went by it: one row per credential and loan.
#[derive(Debug)]
struct Candidate {
    credential: CredentialId,
    owner: WorkspaceId,
    found: Found,
    share: Option<Uuid>,
}

impl FromQueryResult for Candidate {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        let found = match row.try_get::<Option<String>>(prefix, "share_status")? {
            None => Found::Own,
            Some(status) => Found::Lent {
                status: word(&status, ShareStatus::from_word)?,
                is_suspended: row.try_get::<String>(prefix, "owner_status")? != "ACTIVE",
            },
        };
        Ok(Self {
            credential: row.try_get::<Uuid>(prefix, "credential_id")?.into(),
            owner: row.try_get::<Uuid>(prefix, "owner_id")?.into(),
            found,
            share: row.try_get(prefix, "share_id")?,
        })
    }
}

/// What the address stands for in the workspace: its own credential before borrowed ones, and of those what can be used
/// before what cannot.
async fn candidates(
    ask: &impl Ask,
    workspace: WorkspaceId,
    address: &Address<'_>,
) -> Result<Vec<Candidate>, Fault> {
    const AT_MOST: i64 = 200;
    let columns = "c.id AS credential_id, c.slug AS slug, ow.id AS owner_id, ow.status AS owner_status";
    let by_owner = |sql: Sql| match address.owner {
        Some(owner) => sql.push(" AND ow.name = ").bind(owner),
        None => sql,
    };
    let own = Sql::new(format!(
        "SELECT {columns}, CAST(NULL AS uuid) AS share_id, CAST(NULL AS text) AS share_status \
         FROM credentials c JOIN workspaces ow ON ow.id = c.workspace_id WHERE c.slug = "
    ))
    .bind(address.slug)
    .push(" AND c.workspace_id = ")
    .bind(workspace.uuid());
    // The newest loan of each credential says where it stands, however often it was lent before.
    let lent = Sql::new(format!(
        "SELECT {columns}, s.id AS share_id, CASE WHEN s.status IN ('PENDING', 'ACTIVE') AND s.expires_at <= "
    ))
    .bind(ask.now())
    .push(
        " THEN 'EXPIRED' ELSE s.status END AS share_status FROM (SELECT l.id, l.credential_id, l.status, l.expires_at, \
         row_number() OVER (PARTITION BY l.credential_id ORDER BY l.id DESC) AS turn \
         FROM credential_shares l JOIN credentials lc ON lc.id = l.credential_id WHERE lc.slug = ",
    )
    .bind(address.slug)
    .push(" AND l.target_id = ")
    .bind(workspace.uuid())
    .push(
        ") AS s JOIN credentials c ON c.id = s.credential_id JOIN workspaces ow ON ow.id = c.workspace_id \
         WHERE s.turn = 1",
    );
    let sql = Sql::new("SELECT * FROM (").append(by_owner(own)).push(" UNION ALL ").append(by_owner(lent)).push(
        ") AS found ORDER BY CASE WHEN share_id IS NULL THEN 0 WHEN share_status = 'ACTIVE' THEN 1 ELSE 2 END, \
         share_id DESC",
    );
    let mut found: Vec<Candidate> = ask.all(sql.limit(AT_MOST)).await?;
    found.sort_by_key(|candidate| match candidate.found {
        Found::Own => 0,
        ref lent if judge_use(lent).is_ok() => 1,
        Found::Lent { .. } => 2,
    });
    Ok(found)
}

/// A credential handed to a workload.
#[derive(Debug)]
pub struct Used {
    /// The credential.
    pub credential: Credential,
    /// Its values.
    pub values: Vec<Value>,
}

/// Hands the values of a credential to a workload, and notes it. A refused use is noted too, where there is a credential
/// whose owner could be interested.
pub async fn use_credential(
    db: &Db,
    proof: &Granted<perm::CredentialUse>,
    address: &str,
    purpose: &Message,
) -> Result<Used, OpError<UseCredentialCode>> {
    use UseCredentialCode as Code;
    let unknown = || Refusal::new(Code::NotFound, "There is no credential of that slug here.").at("slug");
    let Some(address) = Address::read(address) else { return Err(unknown().into()) };
    let outcome: Result<Used, Refusals<Code>> = db
        .write::<_, Code>(proof, async |tx| {
            let (workspace, by) = (proof.access().workspace(), proof.access().actor());
            let candidates = candidates(tx, workspace, &address).await?;
            let usable = |candidate: &&Candidate| judge_use(&candidate.found).is_ok();
            let Some(first) = candidates.first() else { return Ok(Err(unknown().into())) };
            if first.found != Found::Own && candidates.iter().filter(usable).count() > 1 {
                let message = format!(
                    "Several workspaces lend a credential {0} here. Say whose, as workspace/{0}.",
                    address.slug
                );
                return Ok(Err(Refusal::new(Code::AmbiguousSlug, message).at("slug").into()));
            }
            let judged = judge_use(&first.found);
            note(
                tx,
                &Use {
                    credential: first.credential,
                    workspace,
                    by,
                    purpose: purpose.as_str(),
                    outcome: judged.as_ref().map_or_else(|(outcome, _)| *outcome, |()| UseOutcome::Used),
                },
            );
            if let Err((_, refusal)) = judged {
                return Ok(Err(refusal.into()));
            }
            let at = match first.share {
                None => CredentialRef::Own(first.credential),
                Some(share) => CredentialRef::Borrowed(share.into()),
            };
            let credential = credentials::find(tx, workspace, at).await?;
            let credential =
                credential.ok_or_else(|| Fault::Stored(format!("{} went away", first.credential)))?;
            let values = credentials::values(tx, tx.db(), first.owner, first.credential).await?;
            Ok(Ok(Used { credential, values }))
        })
        .await?;
    Ok(outcome?)
}

/// What it takes to try a credential that the workspace owns or borrows; noted as a use.
pub async fn to_test(
    db: &Db,
    proof: &Granted<perm::CredentialUse>,
    at: CredentialRef,
) -> Result<Used, OpError<TestCredentialCode>> {
    use TestCredentialCode as Code;
    db.write(proof, async |tx| {
        let (workspace, by) = (proof.access().workspace(), proof.access().actor());
        let Some(credential) = credentials::find(tx, workspace, at).await? else {
            return Err(credentials::no_such_credential(Code::NotFound).into());
        };
        if !credential.kind.is_testable() {
            let message = "There is no way to try a credential of the type CUSTOM.";
            return Err(Refusal::new(Code::NotTestable, message).at("credentialId").into());
        }
        if credential.origin.as_ref().is_some_and(|origin| origin.is_suspended) {
            let message = "The workspace that lends this credential is archived.";
            return Err(Refusal::new(Code::ShareSuspended, message).at("credentialId").into());
        }
        let owner = credential.origin.as_ref().map_or(workspace, |origin| origin.workspace.id);
        let values = credentials::values(tx, tx.db(), owner, credential.id).await?;
        let outcome = UseOutcome::Tested;
        note(tx, &Use { credential: credential.id, workspace, by, purpose: "", outcome });
        Ok(Used { credential, values })
    })
    .await
}

/// Notes a use that was refused before it was looked at: for lack of the permission, or since the workspace is archived.
pub async fn note_denied(
    db: &Db,
    proof: &LetIn,
    view: &Granted<perm::WorkspaceView>,
    address: &str,
    purpose: &Message,
    outcome: UseOutcome,
) -> Result<(), OpError<()>> {
    let Some(address) = Address::read(address) else { return Ok(()) };
    // In earnest: noted of a trial as well, and so that an idempotency key, which knows whether anything was changed, does
    // not tell whether there is such a credential.
    db.in_earnest()
        .write(proof, async |tx| {
            let workspace = view.access().workspace();
            // The session's proof locks nothing, and a workspace that is being deleted has forgotten its uses already.
            tx.lock_workspace(workspace).await?;
            let found = candidates(tx, workspace, &address).await?;
            // Written down of nothing, too, which writes nothing: so that it takes as long, and whoever may not know of the
            // workspace's credentials does not learn their slugs by the time it takes.
            let credential = found.first().map_or(Uuid::nil().into(), |first| first.credential);
            let by = proof.actor();
            note(tx, &Use { credential, workspace, by, purpose: purpose.as_str(), outcome });
            Ok(())
        })
        .await
}

/// A use of a credential, or a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialUse {
    /// Its id.
    pub id: CredentialUseId,
    /// The slug of the credential at the time.
    pub slug: String,
    /// Who asked; `None`: a machine, or somebody who has left the organization.
    pub user: Option<User>,
    /// Which machine asked.
    pub machine: Option<MachineRef>,
    /// The workspace it was asked from; `None`: deleted since.
    pub workspace: Option<Counterpart>,
    /// The workspace that owned the credential; `None`: deleted since.
    pub owner: Option<Counterpart>,
    /// What for.
    pub purpose: String,
    /// How it ended.
    pub outcome: UseOutcome,
    /// When.
    pub at: DateTime<Utc>,
}

const USE_COLUMNS: &str = "x.id AS use_id, x.slug, x.purpose, x.outcome, x.created_at, \
     ow.id AS owner_id, ow.name AS owner_name, ow.display_name AS owner_display_name, \
     tw.id AS target_id, tw.name AS target_name, tw.display_name AS target_display_name, \
     x.machine_kind, x.machine_id, x.machine_name, u.id AS user_id, u.email, u.display_name, u.status";
/// Who has left the organization, which both workspaces belong to, is shown no more.
const USE_TABLES: &str = "credential_uses x LEFT JOIN workspaces ow ON ow.id = x.owner_id \
     LEFT JOIN workspaces tw ON tw.id = x.workspace_id \
     LEFT JOIN organization_members om ON om.user_id = x.user_id \
         AND om.organization_id = COALESCE(ow.organization_id, tw.organization_id) \
     LEFT JOIN users u ON u.id = om.user_id";

impl FromQueryResult for CredentialUse {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        Ok(Self {
            id: row.try_get::<Uuid>(prefix, "use_id")?.into(),
            slug: row.try_get(prefix, "slug")?,
            user: person(row, prefix)?,
            machine: MachineRef::read(row, prefix)?,
            workspace: counterpart(row, prefix, "target")?,
            owner: counterpart(row, prefix, "owner")?,
            purpose: row.try_get(prefix, "purpose")?,
            outcome: word(&row.try_get::<String>(prefix, "outcome")?, UseOutcome::from_word)?,
            at: row.try_get(prefix, "created_at")?,
        })
    }
}

/// The uses to list. Two are equal that have the same answer.
#[derive(Clone)]
pub struct Uses {
    /// The asker may manage the workspace's credentials.
    pub proof: Granted<perm::CredentialManage>,
    /// Of which credential: all uses of an own one, and of a borrowed one those from this workspace. `None`: of every
    /// credential that the workspace owns or borrows, also of deleted ones.
    pub of: Option<CredentialRef>,
}

impl Uses {
    fn parts(&self) -> (WorkspaceId, Option<CredentialRef>) {
        (self.proof.access().workspace(), self.of)
    }

    /// What of the table `x` is listed, as conditions of which one holds: each has an index of its own.
    fn conditions(&self) -> Vec<Sql> {
        let workspace = self.proof.access().workspace().uuid();
        let owned = || Sql::new("x.owner_id = ").bind(workspace);
        let from_here = || Sql::new("x.workspace_id = ").bind(workspace);
        match self.of {
            // What was used where it belongs is listed once.
            None => vec![owned(), from_here().push(" AND (x.owner_id IS NULL OR x.owner_id <> x.workspace_id)")],
            Some(CredentialRef::Own(id)) => vec![owned().push(" AND x.credential_id = ").bind(id.uuid())],
            Some(CredentialRef::Borrowed(id)) => vec![
                from_here()
                    .push(" AND x.credential_id = (SELECT s.credential_id FROM credential_shares s WHERE s.id = ")
                    .bind(id.uuid())
                    .push(" AND s.target_id = ")
                    .bind(workspace)
                    .push(")"),
            ],
        }
    }

    /// The ids of a page and of one row more.
    fn page(&self, args: &PageArgs<Uuid>) -> Sql {
        let parts = self.conditions().into_iter().map(|condition| {
            page_by(
                Sql::new("SELECT x.id AS id FROM credential_uses x WHERE ").append(condition),
                args,
                "x.id",
            )
        });
        let all = Sql::new("SELECT x.id AS id FROM (").append(Sql::each(parts)).push(") AS x WHERE true");
        page_by(all, args, "x.id")
    }

    fn number(&self) -> Sql {
        let parts = self.conditions().into_iter().map(|condition| {
            Sql::new("SELECT count(*) AS number FROM credential_uses x WHERE ").append(condition)
        });
        Sql::new("SELECT CAST(sum(x.number) AS bigint) AS number FROM (")
            .append(Sql::each(parts))
            .push(") AS x")
    }
}

impl PartialEq for Uses {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Uses {}

impl Hash for Uses {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

/// A page of each of those lists of uses, by age.
pub async fn pages(
    db: &Db,
    wanted: &[(Uses, PageArgs<Uuid>)],
) -> Result<Vec<Page<CredentialUse>>, ReadError> {
    let mut pages = Vec::with_capacity(wanted.len());
    for wanted in wanted.chunks(AT_ONCE) {
        let Some((first, _)) = wanted.first() else { break };
        let each = Sql::each(wanted.iter().map(|(uses, args)| uses.page(args)));
        let sql = Sql::new(format!("SELECT listed.place, {USE_COLUMNS} FROM ("))
            .append(each)
            .push(&format!(") AS listed, {USE_TABLES} WHERE x.id = listed.id ORDER BY x.id"));
        let rows: Vec<Placed<CredentialUse>> = db.read(&first.proof).all(sql).await?;
        pages.extend(pages_of(wanted.iter().map(|(_, args)| args), rows));
    }
    Ok(pages)
}

/// How many uses each of those lists has in all.
pub async fn numbers(db: &Db, wanted: &[Uses]) -> Result<Vec<u64>, ReadError> {
    let mut numbers = Vec::with_capacity(wanted.len());
    for wanted in wanted.chunks(AT_ONCE) {
        let Some(first) = wanted.first() else { break };
        let sql = Sql::each(wanted.iter().map(Uses::number));
        numbers.extend(numbers_of(db.read(&first.proof).all(sql).await?));
    }
    Ok(numbers)
}
