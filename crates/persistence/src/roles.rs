//! An organization's roles: listing, making, changing, giving up. A role that is given up stays for the history
//! that names it, and can be had by nobody.

use std::collections::HashSet;

use guildhall_domain::{
    access::{Granted, OwnSession, PermissionSet, SystemRole, perm, role::Role},
    audit::{Action, Entry, ObjectKind},
    ids::{OrganizationId, RoleId, WorkspaceId},
    members::{KeepsAnAdmin, keep_admins},
    page::{Page, PageArgs},
    refusal::{Refusal, RefusalCode},
    roles::{CreateRoleCode, DeleteRoleCode, UpdateRoleCode, derived_key, refuse_system_role},
    text::{DisplayName, Message},
};
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    access::{effective_admins, names_of, numbers_of, page_by, pages_of, role, role_columns},
    db::{Ask, Db, Tx},
    error::{Fault, OpError, ReadError},
    events,
    sql::{AT_ONCE, Placed, Single, Sql},
};

#[derive(Debug)]
struct RoleRow(Role);

impl FromQueryResult for RoleRow {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        role(row, prefix).map(Self)
    }
}

/// `columns` of the roles that workspaces of the organization can grant: the system's and its own.
fn of_organization(columns: &str, organization: OrganizationId) -> Sql {
    Sql::new(format!(
        "SELECT {columns} FROM roles r WHERE r.deleted_at IS NULL AND (r.organization_id IS NULL OR r.organization_id = "
    ))
    .bind(organization.uuid())
    .push(")")
}

/// A page of the roles of each of those organizations: the system's first, then its own by age.
pub async fn pages(
    db: &Db,
    wanted: &[(Granted<perm::OrganizationView>, PageArgs<Uuid>)],
) -> Result<Vec<Page<Role>>, ReadError> {
    let mut pages = Vec::with_capacity(wanted.len());
    for wanted in wanted.chunks(AT_ONCE) {
        let Some((proof, _)) = wanted.first() else { break };
        let each = wanted.iter().map(|(proof, args)| {
            page_by(of_organization(role_columns!(), proof.access().organization()), args, "r.id")
        });
        let sql = Sql::new("SELECT * FROM (").append(Sql::each(each)).push(") AS listed ORDER BY role_id");
        let rows: Vec<Placed<RoleRow>> = db.read(proof).all(sql).await?;
        let found = pages_of(wanted.iter().map(|(_, args)| args), rows);
        pages.extend(found.into_iter().map(|page| page.map(|RoleRow(role)| role)));
    }
    Ok(pages)
}

/// How many roles each of those organizations has in all.
pub async fn numbers(db: &Db, proofs: &[Granted<perm::OrganizationView>]) -> Result<Vec<u64>, ReadError> {
    let mut numbers = Vec::with_capacity(proofs.len());
    for proofs in proofs.chunks(AT_ONCE) {
        let Some(proof) = proofs.first() else { break };
        let each =
            proofs.iter().map(|proof| of_organization("count(*) AS number", proof.access().organization()));
        numbers.extend(numbers_of(db.read(proof).all(Sql::each(each)).await?));
    }
    Ok(numbers)
}

/// A custom role of an organization that the actor belongs to.
pub async fn by_id(db: &Db, proof: &OwnSession, id: RoleId) -> Result<Option<Role>, ReadError> {
    let sql = Sql::new(concat!(
        "SELECT ",
        role_columns!(),
        " FROM roles r JOIN organization_members om ON om.organization_id = r.organization_id AND om.status = 'ACTIVE' \
         WHERE r.deleted_at IS NULL AND om.user_id = "
    ))
    .bind(proof.user().uuid())
    .push(" AND r.id = ")
    .bind(id.uuid());
    Ok(db.read(proof).one::<RoleRow>(sql).await?.map(|RoleRow(role)| role))
}

/// The role of that id, if workspaces of the organization can grant it.
pub(crate) async fn find(
    tx: &Tx<'_>,
    organization: OrganizationId,
    id: RoleId,
) -> Result<Option<Role>, Fault> {
    if let Some(system) = SystemRole::from_id(id) {
        return Ok(Some(system.into()));
    }
    let sql = of_organization(role_columns!(), organization).push(" AND r.id = ").bind(id.uuid());
    Ok(tx.one::<RoleRow>(sql).await?.map(|RoleRow(role)| role))
}

/// The role of that id, if it can be granted in the workspace: a system role or one of its organization. Whoever
/// changes or gives up a role locks the workspaces, so it stays as it is while the workspace is locked.
pub(crate) async fn grantable_role(
    tx: &impl Ask,
    workspace: WorkspaceId,
    id: RoleId,
) -> Result<Option<Role>, Fault> {
    if let Some(system) = SystemRole::from_id(id) {
        return Ok(Some(system.into()));
    }
    let sql = Sql::new(concat!(
        "SELECT ",
        role_columns!(),
        " FROM roles r JOIN workspaces w ON w.organization_id = r.organization_id \
         WHERE r.deleted_at IS NULL AND w.id = "
    ))
    .bind(workspace.uuid())
    .push(" AND r.id = ")
    .bind(id.uuid());
    Ok(tx.one::<RoleRow>(sql).await?.map(|RoleRow(role)| role))
}

/// The refusal of a key that another role has, if one does.
async fn refuse_key<C: RefusalCode>(
    tx: &Tx<'_>,
    organization: OrganizationId,
    key: &str,
    field: &'static str,
    taken: C,
) -> Result<(), OpError<C>> {
    let sql = of_organization("1", organization).push(" AND r.key = ").bind(key);
    if tx.one::<Single<i32>>(sql).await?.is_none() {
        return Ok(());
    }
    let message = format!("There is a role with the key {key}. Choose another {field}.");
    Err(Refusal::new(taken, message).at(field).into())
}

/// What a role is made of.
#[derive(Clone, Debug)]
pub struct NewRole {
    /// The key; `None`: one is made of the name.
    pub key: Option<String>,
    /// The name people read.
    pub name: DisplayName,
    /// What it is for.
    pub description: Option<Message>,
    /// What it holds.
    pub permissions: PermissionSet,
}

/// Makes a role. Who may is an implicit Admin of every workspace, and so lacks nothing that a role can hold.
pub async fn create(
    db: &Db,
    proof: &Granted<perm::OrganizationManage>,
    new: NewRole,
) -> Result<Role, OpError<CreateRoleCode>> {
    db.write(proof, async |tx| {
        let organization = proof.access().organization();
        let (key, field) = match new.key {
            Some(key) => (key, "key"),
            None => (derived_key(&new.name), "name"),
        };
        refuse_key(tx, organization, &key, field, CreateRoleCode::AlreadyExists).await?;
        let role = Role {
            id: tx.fresh_id(),
            key,
            name: new.name.into_string(),
            description: new.description.map_or_else(String::new, Message::into_string),
            permissions: new.permissions,
        };
        let role = insert(tx, organization, role).await?;
        tx.audit(
            &Entry::of(Action::CreateRole, ObjectKind::Role, role.id, role.name.as_str()).after(shown(&role)),
        )?;
        Ok(role)
    })
    .await
}

/// Writes a role whose key is free.
pub(crate) async fn insert(tx: &Tx<'_>, organization: OrganizationId, role: Role) -> Result<Role, Fault> {
    tx.run(Sql::insert(
        "roles",
        [
            ("id", role.id.uuid().into()),
            ("organization_id", organization.uuid().into()),
            ("key", role.key.as_str().into()),
            ("name", role.name.as_str().into()),
            ("description", role.description.as_str().into()),
            ("permissions", names_of(role.permissions)?.into()),
            ("created_at", tx.now().into()),
            ("updated_at", tx.now().into()),
        ],
    ))
    .await?;
    Ok(role)
}

/// What changes of a role; `None` leaves it as it is.
#[derive(Clone, Debug, Default)]
pub struct RoleChange {
    /// The name people read.
    pub name: Option<DisplayName>,
    /// What it is for; `Some(None)` clears it.
    pub description: Option<Option<Message>>,
    /// Everything it holds from now on.
    pub permissions: Option<PermissionSet>,
}

/// Changes a role, for everybody who has it from their next request on. Its key stays.
pub async fn update(
    db: &Db,
    proof: &Granted<perm::OrganizationManage>,
    id: RoleId,
    change: RoleChange,
) -> Result<Role, OpError<UpdateRoleCode>> {
    use UpdateRoleCode as Code;
    db.write(proof, async |tx| {
        let organization = proof.access().organization();
        let mut role =
            find(tx, organization, id).await?.ok_or_else(|| no_such_role(Code::NotFound, "roleId"))?;
        refuse_system_role(&role)?;
        let was = shown(&role);
        let other_rights = change.permissions.is_some_and(|permissions| permissions != role.permissions);
        if let Some(name) = change.name {
            role.name = name.into_string();
        }
        if let Some(description) = change.description {
            role.description = description.map_or_else(String::new, Message::into_string);
        }
        role.permissions = change.permissions.unwrap_or(role.permissions);
        let write = Sql::new("UPDATE roles SET name = ")
            .bind(role.name.as_str())
            .push(", description = ")
            .bind(role.description.as_str())
            .push(", permissions = ")
            .bind(names_of(role.permissions)?)
            .push(", updated_at = ")
            .bind(tx.now())
            .push(" WHERE id = ")
            .bind(id.uuid());
        if other_rights {
            let before = Unruled::read(tx, organization).await?;
            tx.run(write).await?;
            before.refuse_more(tx, organization).await?;
            tx.append_each(events::access_of_holders(tx.now(), id)).await?;
        } else {
            tx.run(write).await?;
        }
        tx.audit(
            &Entry::of(Action::UpdateRole, ObjectKind::Role, id, role.name.as_str())
                .changed(was, shown(&role)),
        )?;
        Ok(role)
    })
    .await
}

/// A role that was given up, and what became of it.
#[derive(Clone, Debug)]
pub struct DeletedRole {
    /// The role as it was.
    pub role: Role,
    /// How many members have the replacement instead.
    pub members: u64,
    /// How many pending invitations give the replacement instead.
    pub invitations: u64,
    /// How many service accounts have the replacement instead.
    pub service_accounts: u64,
}

/// Gives up a role. Members, pending invitations and service accounts that have it get the replacement; without one it is refused
/// while there are any.
pub async fn delete(
    db: &Db,
    proof: &Granted<perm::OrganizationManage>,
    id: RoleId,
    replacement: Option<RoleId>,
) -> Result<DeletedRole, OpError<DeleteRoleCode>> {
    use DeleteRoleCode as Code;
    db.write(proof, async |tx| {
        let organization = proof.access().organization();
        let role = find(tx, organization, id).await?.ok_or_else(|| no_such_role(Code::NotFound, "roleId"))?;
        refuse_system_role(&role)?;
        let replacement = match replacement {
            None => None,
            Some(other) if other == id => {
                return Err(Refusal::new(Code::InvalidInput, "`replacement` is the role itself: name another one.")
                    .at("replacement")
                    .into());
            }
            Some(other) => Some(
                find(tx, organization, other)
                    .await?
                    .ok_or_else(|| no_such_role(Code::InvalidInput, "replacement"))?,
            ),
        };
        let replaced_by = replacement.as_ref().map(|replacement| replacement.name.clone());
        // Before it is counted: nobody is given the role meanwhile.
        let before = Unruled::read(tx, organization).await?;
        let (members, invitations, service_accounts) = match replacement {
            None => {
                let Uses { members, invitations, service_accounts } = uses(tx, id).await?;
                if members > 0 || invitations > 0 || service_accounts > 0 {
                    return Err(Refusal::new(
                        Code::RoleInUse,
                        format!(
                            "{} member(s), {} pending invitation(s) and {} service account(s) have the role {}. \
                             Name its `replacement`.",
                            members, invitations, service_accounts, role.name
                        ),
                    )
                    .at("replacement")
                    .into());
                }
                (0, 0, 0)
            }
            Some(replacement) => {
                tx.append_each(events::access_of_holders(tx.now(), id)).await?;
                let members = Sql::new("UPDATE memberships SET role_id = ")
                    .bind(replacement.id.uuid())
                    .push(", updated_at = ")
                    .bind(tx.now())
                    .push(" WHERE role_id = ")
                    .bind(id.uuid());
                let invitations = Sql::new("UPDATE invitation_grants SET role_id = ")
                    .bind(replacement.id.uuid())
                    .push(&format!(" WHERE {OPEN_GRANT} AND role_id = "))
                    .bind(id.uuid());
                let machines = Sql::new("UPDATE service_accounts SET role_id = ")
                    .bind(replacement.id.uuid())
                    .push(", updated_at = ")
                    .bind(tx.now())
                    .push(" WHERE role_id = ")
                    .bind(id.uuid());
                let moved = (tx.run(members).await?, tx.run(invitations).await?, tx.run(machines).await?);
                before.refuse_more(tx, organization).await?;
                moved
            }
        };
        let gone = Sql::new("UPDATE roles SET deleted_at = ").bind(tx.now()).push(" WHERE id = ").bind(id.uuid());
        tx.run(gone).await?;
        let mut entry =
            Entry::of(Action::DeleteRole, ObjectKind::Role, id, role.name.as_str()).before(shown(&role));
        if let Some(name) = replaced_by {
            entry = entry.after(json!({ "replacement": name, "members": members, "invitations": invitations, "serviceAccounts": service_accounts }));
        }
        tx.audit(&entry)?;
        Ok(DeletedRole { role, members, invitations, service_accounts })
    })
    .await
}

/// A role, as the audit log tells it.
fn shown(role: &Role) -> Value {
    let permissions: Vec<&str> = role.permissions.iter().map(|permission| permission.name()).collect();
    json!({ "key": role.key, "name": role.name, "description": role.description, "permissions": permissions })
}

fn no_such_role<C>(code: C, field: &'static str) -> Refusal<C> {
    Refusal::new(code, format!("`{field}` is no role of this organization.")).at(field)
}

#[derive(Debug, FromQueryResult)]
struct Uses {
    members: i64,
    invitations: i64,
    service_accounts: i64,
}

/// Whether a grant can still make somebody a member: also that of an expired invitation, which may be sent again. The
/// grant's own `pending` only keeps its place in the workspace.
const OPEN_GRANT: &str = "invitation_id IN (SELECT id FROM invitations WHERE status = 'PENDING')";

/// How many have the role. A membership that has run out counts: its row refers to the role.
async fn uses(tx: &Tx<'_>, role: RoleId) -> Result<Uses, Fault> {
    let sql = Sql::new(format!(
        "SELECT (SELECT count(*) FROM memberships WHERE role_id = $1) AS members, \
         (SELECT count(*) FROM invitation_grants WHERE {OPEN_GRANT} AND role_id = $1) AS invitations, \
         (SELECT count(*) FROM service_accounts WHERE role_id = $1) AS service_accounts"
    ))
    .values([role.uuid().into()]);
    tx.one(sql).await?.ok_or_else(|| Fault::Stored("counts are one row".into()))
}

/// The workspaces of an organization that have no effective admin. There should be none.
pub(crate) struct Unruled(HashSet<Uuid>);

#[derive(Debug, FromQueryResult)]
struct UnruledRow {
    id: Uuid,
    display_name: String,
}

impl Unruled {
    /// Those that there are before a change; locks all workspaces of the organization until its end.
    pub(crate) async fn read(tx: &Tx<'_>, organization: OrganizationId) -> Result<Self, Fault> {
        tx.lock_workspaces_of(organization).await?;
        Ok(Self(Self::rows(tx, organization).await?.into_iter().map(|row| row.id).collect()))
    }

    /// Refuses the change if there are more after it.
    pub(crate) async fn refuse_more<C: KeepsAnAdmin>(
        &self,
        tx: &Tx<'_>,
        organization: OrganizationId,
    ) -> Result<(), OpError<C>> {
        let now = Self::rows(tx, organization).await?;
        let more: Vec<String> =
            now.into_iter().filter(|row| !self.0.contains(&row.id)).map(|row| row.display_name).collect();
        Ok(keep_admins(&more)?)
    }

    async fn rows(tx: &Tx<'_>, organization: OrganizationId) -> Result<Vec<UnruledRow>, Fault> {
        let sql = Sql::new(format!(
            "SELECT w.id, w.display_name FROM workspaces w WHERE NOT EXISTS ({}) AND w.organization_id = ",
            effective_admins()
        ))
        .bind(organization.uuid())
        .push(" ORDER BY w.id");
        tx.all(sql).await
    }
}
