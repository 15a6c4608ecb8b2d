//! How many of something a workspace has: whatever is asked at the same time, in one statement.

use std::{
    collections::HashMap,
    hash::{Hash, Hasher},
};

use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Granted, perm},
    ids::WorkspaceId,
    invitations::InvitationStatus,
    text::ConfigPrefix,
};
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use uuid::Uuid;

use crate::{
    config,
    credentials::{self, CredentialFilter},
    db::Db,
    error::ReadError,
    invitations,
    members::{self, MemberFilter},
    sql::Sql,
};

/// Something to count in a workspace, with the proof that the asker may know the number. Two are equal that
/// have the same answer.
#[derive(Clone)]
pub enum Count {
    /// Members.
    Members(Granted<perm::MembersView>, MemberFilter),
    /// Invitations in one of those statuses; in any when empty.
    Invitations(Granted<perm::InvitationsView>, Vec<InvitationStatus>),
    /// Credentials, its own and borrowed ones.
    Credentials(Granted<perm::CredentialList>, CredentialFilter),
    /// Configuration properties whose key begins so; all without.
    ConfigProperties(Granted<perm::ConfigView>, Option<ConfigPrefix>),
}

/// What is counted, wherever that is: workspaces are counted together where this is the same.
#[derive(PartialEq, Eq, Hash)]
enum What<'a> {
    Members(&'a MemberFilter),
    Invitations(&'a [InvitationStatus]),
    Credentials(&'a CredentialFilter),
    ConfigProperties(Option<&'a ConfigPrefix>),
}

impl Count {
    fn parts(&self) -> (WorkspaceId, What<'_>) {
        match self {
            Self::Members(proof, filter) => (proof.access().workspace(), What::Members(filter)),
            Self::Invitations(proof, statuses) => (proof.access().workspace(), What::Invitations(statuses)),
            Self::Credentials(proof, filter) => (proof.access().workspace(), What::Credentials(filter)),
            Self::ConfigProperties(proof, prefix) => {
                (proof.access().workspace(), What::ConfigProperties(prefix.as_ref()))
            }
        }
    }
}

impl PartialEq for Count {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Count {}

impl Hash for Count {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

/// A row of a [`Counting`].
#[derive(Debug, FromQueryResult)]
pub(crate) struct Counted {
    place: i32,
    id: Uuid,
    number: i64,
}

/// A statement that counts what is asked for.
pub(crate) struct Counting {
    sql: Sql,
    /// Of what is asked for, in that order: which part of the statement counts it, and where.
    places: Vec<(usize, WorkspaceId)>,
}

impl Counting {
    /// `None` where nothing is asked for.
    pub(crate) fn of(wanted: &[Count], now: DateTime<Utc>) -> Option<Self> {
        let mut groups: Vec<(What<'_>, Vec<WorkspaceId>)> = Vec::new();
        let mut places = Vec::with_capacity(wanted.len());
        for count in wanted {
            let (workspace, what) = count.parts();
            let place = groups.iter().position(|(known, _)| *known == what).unwrap_or(groups.len());
            match groups.get_mut(place) {
                Some((_, workspaces)) => workspaces.push(workspace),
                None => groups.push((what, vec![workspace])),
            }
            places.push((place, workspace));
        }
        let mut sql = Sql::new("");
        for (place, (what, workspaces)) in groups.iter().enumerate() {
            let number = match what {
                What::Members(filter) => members::number(workspaces, filter, now),
                What::Invitations(statuses) => invitations::number(workspaces, statuses, now),
                What::Credentials(filter) => credentials::number(workspaces, filter, now),
                What::ConfigProperties(prefix) => config::number(workspaces, *prefix),
            };
            let union = if place > 0 { " UNION ALL " } else { "" };
            sql = sql.push(&format!("{union}SELECT {place} AS place, id, number FROM ("));
            sql = sql.append(number).push(&format!(") AS counted{place}"));
        }
        (!groups.is_empty()).then_some(Self { sql, places })
    }

    /// The rows of `page`, a statement of so many columns, and after them those of this one: each a [`Beside`]. The order of
    /// the page is kept since both databases answer the parts of a `UNION ALL` one after the other, each as it comes.
    pub(crate) fn beside(&self, page: Sql, columns: usize) -> Sql {
        // Types come from the first part.
        Sql::new("SELECT page.*, CAST(NULL AS integer) AS place, CAST(NULL AS uuid) AS id, CAST(NULL AS bigint) AS number FROM (")
            .append(page)
            .push(") AS page UNION ALL SELECT ")
            .push(&"NULL, ".repeat(columns))
            .push("place, id, number FROM (")
            .append(self.sql.clone())
            .push(") AS counted")
    }

    /// The numbers, in the order in which they are asked for.
    pub(crate) fn numbers(self, rows: Vec<Counted>) -> Vec<u64> {
        let mut numbers = HashMap::with_capacity(rows.len());
        for row in rows {
            numbers.insert((usize::try_from(row.place).ok(), row.id), u64::try_from(row.number).unwrap_or(0));
        }
        // A workspace that has none gives no row.
        let number = |(place, workspace): (usize, WorkspaceId)| {
            numbers.get(&(Some(place), workspace.uuid())).copied().unwrap_or(0)
        };
        self.places.into_iter().map(number).collect()
    }
}

/// A row of [`Counting::beside`], or of a page beside which nothing is counted.
pub(crate) enum Beside<T> {
    Row(T),
    Counted(Counted),
}

impl<T: FromQueryResult> FromQueryResult for Beside<T> {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        match row.try_get::<Option<i32>>(prefix, "place") {
            Ok(Some(_)) => Counted::from_query_result(row, prefix).map(Self::Counted),
            _ => T::from_query_result(row, prefix).map(Self::Row),
        }
    }
}

/// The numbers, in the order in which they are asked for.
pub async fn counts(db: &Db, wanted: &[Count]) -> Result<Vec<u64>, ReadError> {
    let (Some(first), Some(counting)) = (wanted.first(), Counting::of(wanted, db.now())) else {
        return Ok(Vec::new());
    };
    let sql = counting.sql.clone();
    let rows: Vec<Counted> = match first {
        Count::Members(proof, _) => db.read(proof).all(sql).await?,
        Count::Invitations(proof, _) => db.read(proof).all(sql).await?,
        Count::Credentials(proof, _) => db.read(proof).all(sql).await?,
        Count::ConfigProperties(proof, _) => db.read(proof).all(sql).await?,
    };
    Ok(counting.numbers(rows))
}
