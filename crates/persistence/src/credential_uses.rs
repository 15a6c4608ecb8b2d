//! Uses of credentials: handing values to a workload, and the record of who asked, from where, what for and how it ended.

use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Granted, OwnSession, perm},
    credentials::{Found, ShareStatus, UseCredentialCode, UseOutcome, judge_use},
    ids::{CredentialId, CredentialUseId, UserId, WorkspaceId},
    page::{Page, PageArgs},
    refusal::{Refusal, Refusals},
    text::Message,
};
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use uuid::Uuid;

use crate::{
    access::{count, page_by, word},
    accounts::User,
    credential_shares::{counterpart, person},
    credentials::{self, Address, Counterpart, Credential, CredentialRef, Value},
    db::{Ask, Db, Tx},
    error::{Fault, OpError, ReadError},
    sql::{Single, Sql},
};

/// A use to write down.
pub(crate) struct Use<'a> {
    pub(crate) credential: CredentialId,
    pub(crate) owner: WorkspaceId,
    pub(crate) workspace: WorkspaceId,
    pub(crate) user: UserId,
    pub(crate) slug: &'a str,
    pub(crate) purpose: &'a str,
    pub(crate) outcome: UseOutcome,
}

/// Writes a use down, with the next statement or the commit.
pub(crate) fn note(tx: &Tx<'_>, used: &Use<'_>) {
    let id: CredentialUseId = tx.fresh_id();
    tx.defer(Sql::insert(
        "credential_uses",
        [
            ("id", id.uuid().into()),
            ("credential_id", used.credential.uuid().into()),
            ("owner_id", used.owner.uuid().into()),
            ("workspace_id", used.workspace.uuid().into()),
            ("user_id", used.user.uuid().into()),
            ("slug", used.slug.into()),
            ("purpose", used.purpose.into()),
            ("outcome", used.outcome.word().into()),
            ("created_at", tx.now().into()),
        ],
    ));
}

/// What goes by an address in a workspace, or went by it: one row per credential and loan.
#[derive(Debug)]
struct Candidate {
    credential: CredentialId,
    owner: WorkspaceId,
    slug: String,
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
            slug: row.try_get(prefix, "slug")?,
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
    let mut sql = Sql::new(
        "SELECT c.id AS credential_id, c.slug, ow.id AS owner_id, ow.status AS owner_status, s.id AS share_id, \
         CASE WHEN s.status IN ('PENDING', 'ACTIVE') AND s.expires_at <= ",
    )
    .bind(ask.now())
    .push(
        " THEN 'EXPIRED' ELSE s.status END AS share_status FROM credentials c JOIN workspaces ow ON ow.id = c.workspace_id \
         LEFT JOIN credential_shares s ON s.credential_id = c.id AND c.workspace_id <> s.target_id AND s.target_id = ",
    )
    .bind(workspace.uuid())
    .push(" WHERE c.slug = ")
    .bind(address.slug)
    .push(" AND (c.workspace_id = ")
    .bind(workspace.uuid())
    .push(" OR s.id IS NOT NULL)");
    if let Some(owner) = address.owner {
        sql = sql.push(" AND ow.name = ").bind(owner);
    }
    // The newest loan of each credential says where it stands.
    let mut found: Vec<Candidate> = ask.all(sql.push(" ORDER BY s.id DESC").limit(200)).await?;
    let mut seen = std::collections::HashSet::new();
    found.retain(|candidate| seen.insert(candidate.credential));
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
            let (workspace, user) = (proof.access().workspace(), proof.access().actor().user());
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
                    owner: first.owner,
                    workspace,
                    user,
                    slug: &first.slug,
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

/// Notes a use that was refused before it was looked at: for lack of the permission, or since the workspace is archived.
pub async fn note_denied(
    db: &Db,
    proof: &OwnSession,
    view: &Granted<perm::WorkspaceView>,
    address: &str,
    purpose: &Message,
    outcome: UseOutcome,
) -> Result<(), OpError<()>> {
    let Some(address) = Address::read(address) else { return Ok(()) };
    db.write(proof, async |tx| {
        let workspace = view.access().workspace();
        if let Some(first) = candidates(tx, workspace, &address).await?.first() {
            let used = Use {
                credential: first.credential,
                owner: first.owner,
                workspace,
                user: proof.actor().user(),
                slug: &first.slug,
                purpose: purpose.as_str(),
                outcome,
            };
            note(tx, &used);
        }
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
    /// Who asked.
    pub user: Option<User>,
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
     u.id AS user_id, u.email, u.display_name, u.status";
const USE_TABLES: &str = "credential_uses x LEFT JOIN workspaces ow ON ow.id = x.owner_id \
     LEFT JOIN workspaces tw ON tw.id = x.workspace_id LEFT JOIN users u ON u.id = x.user_id";

impl FromQueryResult for CredentialUse {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        Ok(Self {
            id: row.try_get::<Uuid>(prefix, "use_id")?.into(),
            slug: row.try_get(prefix, "slug")?,
            user: person(row, prefix)?,
            workspace: counterpart(row, prefix, "target")?,
            owner: counterpart(row, prefix, "owner")?,
            purpose: row.try_get(prefix, "purpose")?,
            outcome: word(&row.try_get::<String>(prefix, "outcome")?, UseOutcome::from_word)?,
            at: row.try_get(prefix, "created_at")?,
        })
    }
}

/// The uses to list.
#[derive(Clone)]
pub struct Uses {
    /// The asker may manage the workspace's credentials.
    pub proof: Granted<perm::CredentialManage>,
    /// Of which credential: all uses of an own one, and of a borrowed one those from this workspace. `None`: of every
    /// credential that the workspace owns or borrows, also of deleted ones.
    pub of: Option<CredentialRef>,
}

impl Uses {
    fn sql(&self, columns: &str) -> Sql {
        let workspace = self.proof.access().workspace().uuid();
        let sql = Sql::new(format!("SELECT {columns} FROM {USE_TABLES} WHERE "));
        match self.of {
            None => sql
                .push("(x.owner_id = ")
                .bind(workspace)
                .push(" OR x.workspace_id = ")
                .bind(workspace)
                .push(")"),
            Some(CredentialRef::Own(id)) => {
                sql.push("x.owner_id = ").bind(workspace).push(" AND x.credential_id = ").bind(id.uuid())
            }
            Some(CredentialRef::Borrowed(id)) => sql
                .push("x.workspace_id = ")
                .bind(workspace)
                .push(" AND x.credential_id = (SELECT s.credential_id FROM credential_shares s WHERE s.id = ")
                .bind(id.uuid())
                .push(" AND s.target_id = ")
                .bind(workspace)
                .push(")"),
        }
    }
}

/// A page of uses, by age.
pub async fn page(db: &Db, uses: &Uses, args: &PageArgs<Uuid>) -> Result<Page<CredentialUse>, ReadError> {
    let rows = db.read(&uses.proof).all(page_by(uses.sql(USE_COLUMNS), args, "x.id")).await?;
    Ok(Page::cut(args, rows))
}

/// How many uses [`page`] lists in all.
pub async fn number(db: &Db, uses: &Uses) -> Result<u64, ReadError> {
    count(db.read(&uses.proof).one::<Single<i64>>(uses.sql("count(*)")).await?)
}
