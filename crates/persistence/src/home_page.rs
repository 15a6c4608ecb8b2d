//! Home pages of workspaces: reading them, and replacing one by the version that the edit started from.

use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Granted, perm},
    audit::{Action, Entry, ObjectKind},
    events::{Event, WorkspaceChange},
    home_page::{DescribeWorkspaceCode, judge_edit},
    ids::{UserId, WorkspaceId},
    refusal::Refusal,
    text::Markdown,
};
use sea_orm::FromQueryResult;
use serde_json::json;
use uuid::Uuid;

use crate::{
    db::{Db, Tx},
    error::{Fault, OpError, ReadError},
    sql::Sql,
    workspaces::{self, Workspace},
};

/// The home page of a workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HomePage {
    /// Markdown; `None` where there is none, or none any more.
    pub text: Option<String>,
    /// How often it was written; 0 where nobody did yet.
    pub version: i32,
    /// Who wrote it last.
    pub updated_by: Option<UserId>,
    /// When.
    pub updated_at: Option<DateTime<Utc>>,
}

const COLUMNS: &str =
    "SELECT workspace_id, text, version, updated_by, updated_at FROM workspace_descriptions";

#[derive(Debug, FromQueryResult)]
struct Row {
    workspace_id: Uuid,
    text: String,
    version: i32,
    updated_by: Option<Uuid>,
    updated_at: DateTime<Utc>,
}

impl From<Row> for HomePage {
    fn from(row: Row) -> Self {
        Self {
            text: Some(row.text).filter(|text| !text.is_empty()),
            version: row.version,
            updated_by: row.updated_by.map(Into::into),
            updated_at: Some(row.updated_at),
        }
    }
}

/// What became of an edit.
pub enum Edit {
    /// It was written.
    Written(Box<Workspace>, HomePage),
    /// It started from another version than the one that is there.
    Stale(Refusal<DescribeWorkspaceCode>, HomePage),
}

/// Replaces a workspace's home page; `None` clears it. Its version goes on counting.
pub async fn edit(
    db: &Db,
    proof: &Granted<perm::WorkspaceDescribe>,
    text: Option<Markdown>,
    started_from: Option<i32>,
) -> Result<Edit, OpError<DescribeWorkspaceCode>> {
    db.write(proof, async |tx| {
        let (workspace, by) = (proof.access().workspace(), proof.access().actor().person());
        let sql = Sql::new(format!("{COLUMNS} WHERE workspace_id = ")).bind(workspace.uuid());
        let current = tx.one::<Row>(sql).await?.map(HomePage::from).unwrap_or_default();
        if let Err(refusal) = judge_edit(current.version, started_from) {
            return Ok(Edit::Stale(refusal, current));
        }
        let row = workspaces::read(tx, workspace).await?;
        if text.as_ref().map(Markdown::as_str) == current.text.as_deref() {
            return Ok(Edit::Written(Box::new(row), current));
        }
        let page = write(tx, workspace, by, text.as_ref(), current.version + 1).await?;
        let shown = |page: &HomePage| json!({ "text": page.text, "version": page.version });
        tx.audit(
            &Entry::of(Action::DescribeWorkspace, ObjectKind::HomePage, workspace, row.display_name.as_str())
                .changed(shown(&current), shown(&page)),
        )?;
        tx.append(Event::Workspace { workspace, change: WorkspaceChange::HomePage });
        Ok(Edit::Written(Box::new(row), page))
    })
    .await
}

pub(crate) async fn write(
    tx: &Tx<'_>,
    workspace: WorkspaceId,
    by: Option<UserId>,
    text: Option<&Markdown>,
    version: i32,
) -> Result<HomePage, Fault> {
    // A cleared page keeps its row, so that no version comes twice.
    let row = Sql::insert(
        "workspace_descriptions",
        [
            ("workspace_id", workspace.uuid().into()),
            ("text", text.map(Markdown::as_str).unwrap_or_default().into()),
            ("version", version.into()),
            ("updated_by", by.map(UserId::uuid).into()),
            ("updated_at", tx.now().into()),
        ],
    )
    .push(
        " ON CONFLICT (workspace_id) DO UPDATE SET text = excluded.text, version = excluded.version, \
         updated_by = excluded.updated_by, updated_at = excluded.updated_at",
    );
    tx.run(row).await?;
    Ok(HomePage {
        text: text.map(|text| text.as_str().to_owned()),
        version,
        updated_by: by,
        updated_at: Some(tx.now()),
    })
}

/// The home pages of several workspaces, each proven visible; left out where nobody wrote one.
pub async fn pages(
    db: &Db,
    proofs: &[Granted<perm::WorkspaceView>],
) -> Result<Vec<(WorkspaceId, HomePage)>, ReadError> {
    let Some(proof) = proofs.first() else { return Ok(Vec::new()) };
    let sql = Sql::new(format!("{COLUMNS} WHERE workspace_id IN "))
        .bind_list(proofs.iter().map(|proof| proof.access().workspace().uuid()));
    let rows: Vec<Row> = db.read(proof).all(sql).await?;
    Ok(rows.into_iter().map(|row| (row.workspace_id.into(), row.into())).collect())
}
