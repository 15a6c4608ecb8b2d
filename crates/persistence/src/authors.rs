//! Who changed something in a workspace, for those who see the change.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Granted, perm},
    ids::{UserId, WorkspaceId},
};
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use uuid::Uuid;

use crate::{
    accounts::{self, User},
    db::Db,
    error::ReadError,
    sql::Sql,
};

/// Somebody who changed something in the workspace of the proof.
#[derive(Clone)]
pub struct Author {
    /// The proof that the change may be seen.
    pub proof: Granted<perm::WorkspaceView>,
    /// Who it was.
    pub user: UserId,
    /// Whether they are told only while they are a member: to whoever sees the members and no more of people.
    pub only_if_member: bool,
}

#[derive(Debug)]
struct Membership {
    workspace: WorkspaceId,
    user: User,
}

impl FromQueryResult for Membership {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        Ok(Self {
            workspace: row.try_get::<Uuid>(prefix, "workspace_id")?.into(),
            user: User::from_query_result(row, prefix)?,
        })
    }
}

/// The authors, in the order in which they are asked for: two statements for any number.
pub async fn find(db: &Db, wanted: &[Author]) -> Result<Vec<Option<User>>, ReadError> {
    let Some(first) = wanted.first() else { return Ok(Vec::new()) };
    let ids = |members: bool| {
        wanted.iter().filter(move |author| author.only_if_member == members).map(|author| author.user)
    };
    let in_organization = |author: &Author| (author.proof.access().organization(), author.user);
    let anybody: Vec<_> =
        wanted.iter().filter(|author| !author.only_if_member).map(in_organization).collect();
    let mut users = HashMap::new();
    if !anybody.is_empty() {
        users = accounts::in_organizations(db, &first.proof, &anybody).await?;
    }
    let members: Vec<Membership> = match ids(true).next() {
        None => Vec::new(),
        Some(_) => {
            let workspaces = wanted.iter().map(|author| author.proof.access().workspace().uuid());
            let now: DateTime<Utc> = db.now();
            let sql = Sql::new(
                "SELECT m.workspace_id, u.id AS user_id, u.email, u.display_name, u.status \
                 FROM memberships m JOIN users u ON u.id = m.user_id WHERE m.workspace_id IN ",
            )
            .bind_list(workspaces)
            .push(" AND m.user_id IN ")
            .bind_list(ids(true).map(UserId::uuid))
            .push(" AND (m.expires_at IS NULL OR m.expires_at > ")
            .bind(now)
            .push(")");
            db.read(&first.proof).all(sql).await?
        }
    };
    let found = |author: &Author| {
        if author.only_if_member {
            let is_here = |membership: &&Membership| {
                membership.user.id == author.user && membership.workspace == author.proof.access().workspace()
            };
            return members.iter().find(is_here).map(|membership| membership.user.clone());
        }
        users.get(&in_organization(author)).cloned()
    };
    Ok(wanted.iter().map(found).collect())
}
