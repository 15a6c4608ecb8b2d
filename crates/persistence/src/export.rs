//! Moving workspaces between instances: writing one down, and making one of what was written. Both are an operator's.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Permission, PermissionSet, System, SystemRole, role::Role},
    audit::{Action, Entry, ObjectKind},
    export::{
        CredentialEntry, Document, FieldEntry, FileFault, MemberEntry, Plan, PlannedCredential, PlannedRole,
        PropertyEntry, RoleEntry, WorkspaceEntry,
    },
    ids::{CredentialId, OrganizationId, RoleId, UserId, WorkspaceId},
    invitations::expiry,
    members::{MembershipSource, may_grant},
    refusal::Refusal,
    text::Message,
};
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use secrecy::ExposeSecret as _;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    access::{held_by, role, role_columns},
    db::{Db, Tx},
    error::{Fault, OpError},
    invitations::{self, Draft, Letterhead},
    search,
    sql::{Single, Sql},
    workspaces::{self, Joining, NewWorkspace, Workspace},
};

/// Writes a workspace down as it is at one moment; `None` where there is none of that name.
pub async fn export(db: &Db, proof: &System, name: &str) -> Result<Option<Document>, Fault> {
    let exported = db.write(proof, async |tx| {
        let id = Sql::new("SELECT w.id FROM workspaces w WHERE w.name = ").bind(name);
        let Some(Single(id)) = tx.one::<Single<Uuid>>(id).await? else { return Ok(None) };
        let id = WorkspaceId::from(id);
        // Whoever changes something in it waits, so that all of it is of one moment.
        tx.lock_workspace(id).await?;
        let workspace = workspaces::read(tx, id).await?;
        let description =
            Sql::new("SELECT text FROM workspace_descriptions WHERE workspace_id = ").bind(id.uuid());
        let description: Option<Single<String>> = tx.one(description).await?;
        let mut document = Document::of(settings(workspace, description.map(|Single(text)| text)));
        let members = members(tx, id).await?;
        let custom = members.iter().filter(|(_, role, _)| SystemRole::from_id(role.id).is_none());
        let roles: BTreeMap<&str, &Role> = custom.map(|(_, role, _)| (role.key.as_str(), role)).collect();
        document.roles = roles.into_values().map(role_entry).collect();
        let members = members.into_iter().map(|(email, role, expires_at)| {
            (email.clone(), MemberEntry { email, role: role.key, expires_at })
        });
        document.members = members.collect::<BTreeMap<_, _>>().into_values().collect();
        document.config = config(tx, id).await?;
        document.credentials = credentials(tx, id).await?;
        Ok(Some(document))
    });
    exported.await.map_err(OpError::into_fault)
}

fn settings(workspace: Workspace, description: Option<String>) -> WorkspaceEntry {
    WorkspaceEntry {
        name: workspace.name,
        display_name: workspace.display_name,
        description,
        countries: workspace.countries,
        docker_image: workspace.docker_image,
        region: workspace.region,
        labels: workspace.labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
    }
}

fn role_entry(role: &Role) -> RoleEntry {
    RoleEntry {
        key: role.key.clone(),
        name: role.name.clone(),
        description: role.description.clone(),
        permissions: role.permissions.iter().map(|permission| permission.name().to_owned()).collect(),
    }
}

struct Belonging {
    email: String,
    role: Role,
    expires_at: Option<DateTime<Utc>>,
}

impl FromQueryResult for Belonging {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        Ok(Self {
            email: row.try_get(prefix, "email")?,
            role: role(row, prefix)?,
            expires_at: row.try_get(prefix, "ends_at")?,
        })
    }
}

/// Somebody who is asked to be a member, and by whom.
struct Asked {
    inviter: UserId,
    belonging: Belonging,
}

impl FromQueryResult for Asked {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        let inviter: Uuid = row.try_get(prefix, "inviter_id")?;
        Ok(Self { inviter: inviter.into(), belonging: Belonging::from_query_result(row, prefix)? })
    }
}

/// Everybody who is a member or is asked to be one. Whoever is both comes last as the member.
///
/// An import invites all of them anew, in the name of somebody who may: so whoever is disabled is left out, and so is what
/// could not be accepted here, because the inviter is disabled, gone or without the right: in the workspace and, where a
/// role in the organization is given too, as an admin of it.
async fn members(
    tx: &Tx<'_>,
    workspace: WorkspaceId,
) -> Result<Vec<(String, Role, Option<DateTime<Utc>>)>, Fault> {
    let invited = Sql::new(concat!(
        "SELECT i.email, i.inviter_id, g.membership_expires_at AS ends_at, ",
        role_columns!(),
        " FROM invitation_grants g JOIN invitations i ON i.id = g.invitation_id JOIN roles r ON r.id = g.role_id \
         WHERE g.workspace_id = $1 AND i.status = 'PENDING' AND i.expires_at > $2 \
         AND (i.organization_role IS NULL OR EXISTS (SELECT 1 FROM organization_members om WHERE om.user_id = i.inviter_id \
             AND om.organization_id = i.organization_id AND om.status = 'ACTIVE' AND om.role <> 'MEMBER')) \
         AND NOT EXISTS (SELECT 1 FROM users u \
         LEFT JOIN organization_members om ON om.user_id = u.id AND om.organization_id = i.organization_id \
         WHERE u.email = i.email AND (u.status = 'DISABLED' OR om.status = 'DISABLED')) ORDER BY i.email, i.id",
    ))
    .values([workspace.uuid().into(), tx.now().into()]);
    let present = Sql::new(concat!(
        "SELECT u.email, m.expires_at AS ends_at, ",
        role_columns!(),
        " FROM memberships m JOIN workspaces w ON w.id = m.workspace_id \
         JOIN users u ON u.id = m.user_id AND u.status <> 'DISABLED' \
         JOIN organization_members om ON om.user_id = u.id AND om.organization_id = w.organization_id \
             AND om.status = 'ACTIVE' JOIN roles r ON r.id = m.role_id \
         WHERE m.workspace_id = $1 AND (m.expires_at IS NULL OR m.expires_at > $2) ORDER BY u.email",
    ))
    .values([workspace.uuid().into(), tx.now().into()]);
    let mut rights: BTreeMap<UserId, PermissionSet> = BTreeMap::new();
    let mut all = Vec::new();
    for Asked { inviter, belonging } in tx.all::<Asked>(invited).await? {
        let held = match rights.get(&inviter).copied() {
            Some(held) => held,
            None => held_by(tx, inviter, workspace).await?,
        };
        rights.insert(inviter, held);
        if held.holds(Permission::MembersInvite) && may_grant(held, &belonging.role) {
            all.push(belonging);
        }
    }
    all.extend(tx.all::<Belonging>(present).await?);
    Ok(all.into_iter().map(|one| (one.email, one.role, one.expires_at)).collect())
}

#[derive(FromQueryResult)]
struct PropertyRow {
    key: String,
    kind: String,
    value: String,
}

async fn config(tx: &Tx<'_>, workspace: WorkspaceId) -> Result<Vec<PropertyEntry>, Fault> {
    let sql = Sql::new("SELECT key, kind, value FROM config_properties WHERE workspace_id = ")
        .bind(workspace.uuid());
    let mut rows: Vec<PropertyRow> = tx.all(sql).await?;
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    let entries = rows.into_iter().map(|PropertyRow { key, kind, value }| {
        let value = RawValue::from_string(value).map_err(|wrong| Fault::Stored(format!("{key}: {wrong}")))?;
        Ok(PropertyEntry { key, kind, value })
    });
    entries.collect()
}

#[derive(FromQueryResult)]
struct CredentialRow {
    id: Uuid,
    slug: String,
    kind: String,
    name: String,
    description: String,
}

#[derive(FromQueryResult)]
struct FieldRow {
    credential_id: Uuid,
    code: String,
    is_secret: bool,
    value: Option<String>,
}

/// The workspace's own credentials. What is secret is not even read.
async fn credentials(tx: &Tx<'_>, workspace: WorkspaceId) -> Result<Vec<CredentialEntry>, Fault> {
    let rows = Sql::new("SELECT id, slug, kind, name, description FROM credentials WHERE workspace_id = ")
        .bind(workspace.uuid());
    let mut rows: Vec<CredentialRow> = tx.all(rows).await?;
    rows.sort_by(|a, b| a.slug.cmp(&b.slug));
    let fields = Sql::new(
        "SELECT f.credential_id, f.code, f.is_secret, CASE WHEN f.is_secret THEN NULL ELSE f.value END AS value \
         FROM credential_fields f JOIN credentials c ON c.id = f.credential_id WHERE c.workspace_id = ",
    )
    .bind(workspace.uuid())
    .push(" ORDER BY f.place, f.code");
    let mut fields_of: BTreeMap<Uuid, Vec<FieldEntry>> = BTreeMap::new();
    for FieldRow { credential_id, code, is_secret, value } in tx.all::<FieldRow>(fields).await? {
        fields_of.entry(credential_id).or_default().push(FieldEntry { code, is_secret, value });
    }
    let entries = rows.into_iter().map(|row| CredentialEntry {
        slug: row.slug,
        kind: row.kind,
        name: row.name,
        description: row.description,
        fields: fields_of.remove(&row.id).unwrap_or_default(),
    });
    Ok(entries.collect())
}

/// A workspace that was made of a file, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Its name in addresses.
    pub name: String,
    /// The name people read.
    pub display_name: String,
    /// The name of its organization.
    pub organization: String,
    /// The address of its Admin, an owner of the organization, who invites the others.
    pub admin: String,
    /// The keys of roles that the organization did not have.
    pub roles: Vec<String>,
    /// Who is invited, and as what.
    pub invited: Vec<(String, String)>,
    /// How many configuration properties it has.
    pub config: usize,
    /// How many credentials it has.
    pub credentials: usize,
    /// The secret fields that are to be given, by the slug of their credential.
    pub missing: Vec<(String, Vec<String>)>,
}

/// Why nothing was made.
#[derive(Debug)]
pub enum ImportError {
    /// The file, or what was asked for, does not fit.
    Faults(Vec<FileFault>),
    /// Something failed.
    Fault(Fault),
}

/// Why the transaction was undone.
enum Undone {
    Refused(FileFault),
    DryRun,
}

impl From<FileFault> for OpError<Undone> {
    fn from(fault: FileFault) -> Self {
        Refusal::new(Undone::Refused(fault), "").into()
    }
}

fn fault(path: &str, message: impl Into<String>) -> FileFault {
    FileFault { path: path.to_owned(), message: message.into() }
}

/// Makes a workspace of what was judged, all of it or nothing, in the organization of that slug. With `dry_run` everything is
/// done and undone.
///
/// Nobody is added silently: an owner of the organization, who administers every workspace in it anyway, becomes the
/// workspace's Admin, and all others are invited in their name.
pub async fn import(
    db: &Db,
    proof: &System,
    plan: &Plan,
    organization: Option<&str>,
    dry_run: bool,
) -> Result<Imported, ImportError> {
    let mut imported = None;
    let done = db.write(proof, async |tx| {
        imported = Some(make(tx, plan, organization).await?);
        match dry_run {
            true => Err(Refusal::new(Undone::DryRun, "").into()),
            false => Ok(()),
        }
    });
    match (done.await, imported) {
        (Ok(()), Some(imported)) => Ok(imported),
        (Err(OpError::Refused(refusals)), imported) => {
            let mut faults = Vec::new();
            for refusal in refusals.0 {
                match refusal.code {
                    Undone::Refused(fault) => faults.push(fault),
                    Undone::DryRun => {}
                }
            }
            match imported {
                Some(imported) if faults.is_empty() => Ok(imported),
                _ => Err(ImportError::Faults(faults)),
            }
        }
        (Err(OpError::Fault(fault)), _) => Err(ImportError::Fault(fault)),
        _ => Err(ImportError::Fault(Fault::Stored("the service itself was turned away".to_owned()))),
    }
}

/// Where to import to, and in whose name.
#[derive(FromQueryResult)]
struct Destination {
    id: Uuid,
    slug: String,
    name: String,
    invitation_lifetime_hours: Option<i32>,
    owner: Option<Uuid>,
}

#[derive(FromQueryResult)]
struct Owner {
    email: String,
    display_name: String,
}

async fn make(tx: &mut Tx<'_>, plan: &Plan, organization: Option<&str>) -> Result<Imported, OpError<Undone>> {
    let destination = destination(tx, organization).await?;
    let organization = OrganizationId::from(destination.id);
    tx.lock_organization(organization).await?;
    let Some(owner) = destination.owner.map(UserId::from) else {
        return Err(fault("--organization", format!("{} has no owner in use", destination.slug)).into());
    };
    let sql = Sql::new("SELECT email, display_name FROM users WHERE id = ").bind(owner.uuid());
    let inviter: Owner = tx.one(sql).await?.ok_or_else(|| Fault::Stored("an owner went away".to_owned()))?;
    let (roles, made_roles) = find_or_make_roles(tx, organization, &plan.roles).await?;
    let new = NewWorkspace {
        name: Some(plan.name.clone()),
        display_name: plan.display_name.clone(),
        description: plan.description.clone(),
        countries: plan.countries.clone(),
        docker_image: plan.docker_image.clone(),
        region: plan.region.clone(),
        labels: plan.labels.clone(),
    };
    let workspace = workspaces::insert(tx, organization, Some(owner), &new, false).await?;
    let workspace = workspace.map_err(|name| {
        fault("workspace.name", format!("is taken: {name}. Give the workspace another one with --name"))
    })?;
    workspaces::join(tx, workspace.id, owner, Joining::admin(MembershipSource::Direct)).await?;
    write_config(tx, workspace.id, plan).await?;
    for credential in &plan.credentials {
        write_credential(tx, workspace.id, credential).await?;
    }
    let hours = destination.invitation_lifetime_hours.and_then(|hours| u16::try_from(hours).ok());
    let until = expiry(tx.now(), hours, tx.db().settings().invitation_hours);
    let mut invited = Vec::new();
    for member in plan.members.iter().filter(|member| member.email.as_str() != inviter.email) {
        let role = roles
            .get(&member.role)
            .ok_or_else(|| Fault::Stored(format!("a role that was judged is gone: {}", member.role)))?;
        let draft = Draft {
            organization,
            workspace: workspace.id,
            inviter: owner,
            email: &member.email,
            role,
            membership_expires_at: member.expires_at,
            expires_at: member.expires_at.map_or(until, |end| end.min(until)),
            message: None,
            letterhead: Letterhead {
                workspace_name: workspace.display_name.clone(),
                organization_name: destination.name.clone(),
                inviter_name: inviter.display_name.clone(),
                inviter_email: inviter.email.clone(),
            },
        };
        invitations::write(tx, draft)?;
        invited.push((member.email.as_str().to_owned(), role.name.clone()));
    }
    let mut made = workspaces::shown(&workspace);
    made["configProperties"] = plan.config.len().into();
    made["credentials"] = plan.credentials.len().into();
    made["invitations"] = invited.len().into();
    tx.audit(
        &Entry::of(Action::Import, ObjectKind::Workspace, workspace.id, workspace.display_name.as_str())
            .in_organization(organization)
            .in_workspace(Some(workspace.id))
            .after(made),
    )?;
    Ok(Imported {
        name: workspace.name,
        display_name: workspace.display_name,
        organization: destination.name,
        admin: inviter.email,
        roles: made_roles,
        invited,
        config: plan.config.len(),
        credentials: plan.credentials.len(),
        missing: plan.credentials.iter().filter_map(missing).collect(),
    })
}

/// The secret fields of a credential, which the file does not have.
fn missing(credential: &PlannedCredential) -> Option<(String, Vec<String>)> {
    let secret = credential.fields.iter().filter(|field| field.value.is_none());
    let codes: Vec<String> = secret.map(|field| field.code.clone()).collect();
    (!codes.is_empty()).then(|| (credential.slug.as_str().to_owned(), codes))
}

/// The organization of that slug, or the only one; with its owner of longest standing.
async fn destination(tx: &Tx<'_>, slug: Option<&str>) -> Result<Destination, OpError<Undone>> {
    let sql = Sql::new(
        "SELECT o.id, o.slug, o.name, o.invitation_lifetime_hours, (SELECT om.user_id FROM organization_members om \
         JOIN users u ON u.id = om.user_id AND u.status = 'ACTIVE' WHERE om.organization_id = o.id AND om.role = 'OWNER' \
         AND om.status = 'ACTIVE' ORDER BY om.created_at, om.user_id LIMIT 1) AS owner FROM organizations o",
    );
    let sql = match slug {
        Some(slug) => sql.push(" WHERE o.slug = ").bind(slug),
        None => sql,
    };
    let mut found: Vec<Destination> = tx.all(sql.push(" ORDER BY o.id LIMIT 2")).await?;
    match (found.len(), slug) {
        (1, _) => {}
        (0, Some(slug)) => {
            return Err(fault("--organization", format!("names none that there is: {slug}")).into());
        }
        (0, None) => {
            return Err(fault(
                "--organization",
                "cannot be guessed: there is none yet, set the instance up first",
            )
            .into());
        }
        _ => {
            return Err(fault("--organization", "is missing: there are several, name one by its slug").into());
        }
    }
    found.pop().ok_or_else(|| Fault::Stored("an organization went away".to_owned()).into())
}

struct RoleRow(Role);

impl FromQueryResult for RoleRow {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        role(row, prefix).map(Self)
    }
}

/// The roles of the file and the system by their keys, and which of them were made. One that the organization has already is
/// that one, if it holds the same.
async fn find_or_make_roles(
    tx: &Tx<'_>,
    organization: OrganizationId,
    wanted: &[PlannedRole],
) -> Result<(BTreeMap<String, Role>, Vec<String>), OpError<Undone>> {
    let mut roles: BTreeMap<String, Role> =
        SystemRole::ALL.map(|system| (system.key().to_owned(), system.into())).into();
    let mut made = Vec::new();
    for (index, planned) in wanted.iter().enumerate() {
        let sql = Sql::new(concat!(
            "SELECT ",
            role_columns!(),
            " FROM roles r WHERE r.deleted_at IS NULL AND r.organization_id = "
        ))
        .bind(organization.uuid())
        .push(" AND r.key = ")
        .bind(planned.key.as_str());
        let role = match tx.one::<RoleRow>(sql).await? {
            Some(RoleRow(role)) if role.permissions == planned.permissions => role,
            Some(RoleRow(role)) => {
                let message = format!(
                    "is a role that the organization has with other permissions ({}): give the one in the file another key",
                    difference(role.permissions, planned.permissions)
                );
                return Err(fault(&format!("roles[{index}].key"), message).into());
            }
            None => {
                made.push(planned.key.clone());
                crate::roles::insert(tx, organization, new_role(tx.fresh_id(), planned)).await?
            }
        };
        roles.insert(planned.key.clone(), role);
    }
    Ok((roles, made))
}

fn new_role(id: RoleId, planned: &PlannedRole) -> Role {
    Role {
        id,
        key: planned.key.clone(),
        name: planned.name.as_str().to_owned(),
        description: planned.description.as_ref().map_or("", Message::as_str).to_owned(),
        permissions: planned.permissions,
    }
}

/// What either holds and the other does not.
fn difference(one: PermissionSet, other: PermissionSet) -> String {
    let differs = |permission: &&Permission| one.holds(**permission) != other.holds(**permission);
    Permission::ALL.iter().filter(differs).map(|permission| permission.name()).collect::<Vec<_>>().join(", ")
}

async fn write_config(tx: &Tx<'_>, workspace: WorkspaceId, plan: &Plan) -> Result<(), Fault> {
    for (key, value) in &plan.config {
        tx.run(Sql::insert(
            "config_properties",
            [
                ("workspace_id", workspace.uuid().into()),
                ("key", key.as_str().into()),
                ("kind", value.kind().word().into()),
                ("value", value.as_json().into()),
                ("updated_at", tx.now().into()),
            ],
        ))
        .await?;
    }
    Ok(())
}

/// Writes a credential; its secret fields are there and have no value.
async fn write_credential(
    tx: &Tx<'_>,
    workspace: WorkspaceId,
    credential: &PlannedCredential,
) -> Result<(), Fault> {
    let id: CredentialId = tx.fresh_id();
    tx.run(Sql::insert(
        "credentials",
        [
            ("id", id.uuid().into()),
            ("workspace_id", workspace.uuid().into()),
            ("kind", credential.kind.word().into()),
            ("slug", credential.slug.as_str().into()),
            ("name", credential.name.as_str().into()),
            ("search_text", search::of_name(credential.name.as_str()).into()),
            ("description", credential.description.as_ref().map_or("", Message::as_str).into()),
            ("created_at", tx.now().into()),
            ("updated_at", tx.now().into()),
        ],
    ))
    .await?;
    for (place, field) in (0_i32..).zip(&credential.fields) {
        tx.run(Sql::insert(
            "credential_fields",
            [
                ("credential_id", id.uuid().into()),
                ("code", field.code.as_str().into()),
                ("place", place.into()),
                ("is_secret", field.is_secret.into()),
                ("value", field.value.as_ref().map(|value| value.expose_secret().to_owned()).into()),
                ("updated_at", tx.now().into()),
            ],
        ))
        .await?;
    }
    Ok(())
}
