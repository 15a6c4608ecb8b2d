//! The facts of which an explanation of somebody's rights is made, in one statement whoever is asked about. The
//! explanation is the domain's.

use chrono::DateTime;
use guildhall_domain::{
    access::{
        Entrance, Granted, Permission,
        explain::{Explanation, MembershipFacts, PersonFacts, explain, heard_by, may_ask},
        perm,
    },
    ids::{UserId, WorkspaceId},
};
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use uuid::Uuid;

use crate::{
    access::{
        POLICY_COLUMNS, STANDING_COLUMNS, administers_a_workspace, arrival, organization_role, policy, role,
    },
    db::{Ask as _, Db, Read},
    error::{Fault, ReadError},
    sql::Sql,
};

/// Why the actor may or may not do something in the workspace, or in its organization; `None` should they have left it
/// since they were asked for their rights.
pub async fn own(
    db: &Db,
    proof: &Granted<perm::WorkspaceView>,
    permission: Permission,
) -> Result<Option<Explanation>, ReadError> {
    let access = proof.access();
    let facts = facts(&db.read(proof), access.workspace(), access.person()?).await?;
    Ok(facts.map(|facts| explain(&facts, permission)))
}

/// Why somebody else may or may not do something; `None` for a person whom the actor may not hear of.
pub async fn of(
    db: &Db,
    proof: &Granted<perm::MembersView>,
    user: UserId,
    permission: Permission,
) -> Result<Option<Explanation>, ReadError> {
    let access = proof.access();
    may_ask(access, permission)?;
    let facts = facts(&db.read(proof), access.workspace(), user).await?;
    Ok(facts.and_then(|facts| heard_by(access, facts)).map(|facts| explain(&facts, permission)))
}

/// What is known of a person's place in a workspace, if they belong to its organization.
pub(crate) async fn facts(
    read: &Read<'_>,
    workspace: WorkspaceId,
    user: UserId,
) -> Result<Option<PersonFacts>, Fault> {
    let sql = Sql::new(format!(
        "SELECT {POLICY_COLUMNS}, {STANDING_COLUMNS}, m.expires_at, \
             m.expires_at IS NOT NULL AND m.expires_at <= $3 AS has_expired, om.status AS place_status, \
             u.status AS account_status, w.status = 'ARCHIVED' AS is_archived, {} \
         FROM workspaces w JOIN organizations o ON o.id = w.organization_id \
         JOIN organization_members om ON om.organization_id = o.id JOIN users u ON u.id = om.user_id \
         LEFT JOIN memberships m ON m.workspace_id = w.id AND m.user_id = u.id \
         LEFT JOIN roles r ON r.id = m.role_id WHERE w.id = $1 AND u.id = $2",
        // What this workspace gives is no fact of its own: the explanation tries what would change it.
        administers_a_workspace(" AND aw.id <> w.id")
    ))
    .values([workspace.uuid().into(), user.uuid().into(), read.now().into()]);
    Ok(read.one::<FactsRow>(sql).await?.map(|FactsRow(facts)| PersonFacts { at: read.now(), ..facts }))
}

#[derive(Debug)]
struct FactsRow(PersonFacts);

impl FromQueryResult for FactsRow {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        let is_member = row.try_get::<Option<Uuid>>(prefix, "membership_id")?.is_some();
        let membership = is_member.then(|| {
            Ok::<_, DbErr>(MembershipFacts {
                role: role(row, prefix)?,
                expires_at: row.try_get(prefix, "expires_at")?,
                has_expired: row.try_get(prefix, "has_expired")?,
            })
        });
        let policy = policy(row, prefix)?;
        // A person is asked about, and no session of theirs.
        let by = if policy.password_sign_in { Entrance::Password } else { Entrance::OwnProvider };
        Ok(Self(PersonFacts {
            policy,
            has_active_account: row.try_get::<String>(prefix, "account_status")? != "DISABLED",
            organization_role: organization_role(row, prefix)?
                .ok_or_else(|| DbErr::Type("a membership of an organization has a role".to_owned()))?,
            is_active_in_organization: row.try_get::<String>(prefix, "place_status")? == "ACTIVE",
            membership: membership.transpose()?,
            administers_a_workspace: row.try_get(prefix, "administers")?,
            is_archived: row.try_get(prefix, "is_archived")?,
            arrival: arrival(row, prefix, by)?
                .ok_or_else(|| DbErr::Type("a membership of an organization has a beginning".to_owned()))?,
            // Of the asker's clock, not of the row.
            at: DateTime::UNIX_EPOCH,
        }))
    }
}
