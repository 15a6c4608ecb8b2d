//! Workspaces: making, changing, describing and choosing them.

use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Granted, OwnSession, SystemRole, perm},
    audit::{Action, Entry, ObjectKind},
    events::{Event, WorkspaceChange as Change},
    ids::{InvitationId, MembershipId, OrganizationId, RoleId, UserId, WorkspaceId},
    members::MembershipSource,
    refusal::NameUnavailable,
    text::{CountryCode, DisplayName, ImageRef, Labels, Markdown, Region, Slug},
    workspaces::{
        CreateWorkspaceCode, SetDefaultWorkspaceCode, SwitchWorkspaceCode, UpdateWorkspaceCode,
        WorkspaceStatus, candidate_names, name_unavailable,
    },
};
use sea_orm::{ActiveValue::Set, DbErr, EntityTrait, FromQueryResult, QueryResult, sea_query::OnConflict};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    access::word,
    db::{Db, Tx},
    entities::{memberships, workspaces},
    error::{Fault, OpError, ReadError},
    home_page, quotas, search,
    sql::{Single, Sql},
};

/// A workspace as it is stored, its home page apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workspace {
    /// Its id.
    pub id: WorkspaceId,
    /// The organization it belongs to.
    pub organization: OrganizationId,
    /// Its name in addresses: unique in the instance, never changed.
    pub name: String,
    /// The name people read.
    pub display_name: String,
    /// ISO 3166-1 alpha-2 codes.
    pub countries: Vec<String>,
    /// The image its workloads run; `None`: the instance's default.
    pub docker_image: Option<String>,
    /// Where its workloads run.
    pub region: Option<String>,
    /// What it is labelled with.
    pub labels: Labels,
    /// Whether it is the organization's default workspace.
    pub is_default: bool,
    /// Whether it is in use.
    pub status: WorkspaceStatus,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When its settings changed last.
    pub updated_at: DateTime<Utc>,
    /// When it was archived, while it is.
    pub archived_at: Option<DateTime<Utc>>,
    /// Who archived it.
    pub archived_by: Option<UserId>,
}

/// The columns of [`Workspace`], of the table alias `w`.
pub(crate) const WORKSPACE_COLUMNS: &str = "w.id, w.organization_id, w.name, w.display_name, w.countries, \
     w.docker_image, w.region, w.labels, w.is_default, w.status, w.created_at, w.updated_at, w.archived_at, w.archived_by";

impl FromQueryResult for Workspace {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        Ok(Self {
            id: row.try_get::<Uuid>(prefix, "id")?.into(),
            organization: row.try_get::<Uuid>(prefix, "organization_id")?.into(),
            name: row.try_get(prefix, "name")?,
            display_name: row.try_get(prefix, "display_name")?,
            countries: split(&row.try_get::<String>(prefix, "countries")?),
            docker_image: row.try_get(prefix, "docker_image")?,
            region: row.try_get(prefix, "region")?,
            labels: word(&row.try_get::<String>(prefix, "labels")?, Labels::from_stored)?,
            is_default: row.try_get(prefix, "is_default")?,
            status: word(&row.try_get::<String>(prefix, "status")?, WorkspaceStatus::from_word)?,
            created_at: row.try_get(prefix, "created_at")?,
            updated_at: row.try_get(prefix, "updated_at")?,
            archived_at: row.try_get(prefix, "archived_at")?,
            archived_by: row.try_get::<Option<Uuid>>(prefix, "archived_by")?.map(Into::into),
        })
    }
}

/// Country codes are stored side by side: `FR,KE`.
fn split(countries: &str) -> Vec<String> {
    countries.split(',').filter(|code| !code.is_empty()).map(str::to_owned).collect()
}

fn codes(countries: &[CountryCode]) -> Vec<String> {
    countries.iter().map(|code| code.as_str().to_owned()).collect()
}

/// What a new workspace is made of.
#[derive(Clone, Debug)]
pub struct NewWorkspace {
    /// The wanted name; `None`: one is made of the display name.
    pub name: Option<Slug>,
    /// The name people read.
    pub display_name: DisplayName,
    /// The home page.
    pub description: Option<Markdown>,
    /// The countries it is about.
    pub countries: Vec<CountryCode>,
    /// The image its workloads run.
    pub docker_image: Option<ImageRef>,
    /// Where its workloads run.
    pub region: Option<Region>,
    /// What it is labelled with.
    pub labels: Labels,
}

impl NewWorkspace {
    /// One with a display name and nothing else.
    pub fn named(display_name: DisplayName) -> Self {
        Self {
            name: None,
            display_name,
            description: None,
            countries: Vec::new(),
            docker_image: None,
            region: None,
            labels: Labels::default(),
        }
    }
}

/// Makes a workspace with its creator as Admin.
pub async fn create(
    db: &Db,
    proof: &Granted<perm::WorkspaceCreate>,
    new: NewWorkspace,
) -> Result<Workspace, OpError<CreateWorkspaceCode>> {
    db.write(proof, async |tx| {
        let user = proof.access().person()?;
        let room = quotas::room_for_workspace(tx, proof.access().organization()).await?;
        room.map_err(|exceeded| exceeded.refusal(CreateWorkspaceCode::QuotaExceeded))?;
        let workspace =
            insert(tx, proof.access().organization(), Some(user), &new, false).await?.map_err(|name| {
                name_unavailable(CreateWorkspaceCode::NameUnavailable, "name", &name, NameUnavailable::Taken)
            })?;
        join(tx, workspace.id, user, Joining::admin(MembershipSource::Creator)).await?;
        tx.audit(
            &Entry::of(
                Action::CreateWorkspace,
                ObjectKind::Workspace,
                workspace.id,
                workspace.display_name.as_str(),
            )
            .in_workspace(Some(workspace.id))
            .after(shown(&workspace)),
        )?;
        Ok(workspace)
    })
    .await
}

/// Writes a workspace under the wanted name or the first free one; `Err` with a name that is taken.
pub(crate) async fn insert(
    tx: &Tx<'_>,
    organization: OrganizationId,
    creator: Option<UserId>,
    new: &NewWorkspace,
    is_default: bool,
) -> Result<Result<Workspace, String>, Fault> {
    let names: Box<dyn Iterator<Item = Slug> + Send> = match &new.name {
        Some(name) => Box::new(std::iter::once(name.clone())),
        None => Box::new(
            candidate_names(&Slug::derive(new.display_name.as_str())).collect::<Vec<_>>().into_iter(),
        ),
    };
    let mut workspace = Workspace {
        id: tx.fresh_id(),
        organization,
        name: String::new(),
        display_name: new.display_name.as_str().to_owned(),
        countries: codes(&new.countries),
        docker_image: new.docker_image.clone().map(ImageRef::into_string),
        region: new.region.clone().map(Region::into_string),
        labels: new.labels.clone(),
        is_default,
        status: WorkspaceStatus::Active,
        created_at: tx.now(),
        updated_at: tx.now(),
        archived_at: None,
        archived_by: None,
    };
    for name in names {
        let row = workspaces::ActiveModel {
            id: Set(workspace.id.uuid()),
            organization_id: Set(organization.uuid()),
            name: Set(name.as_str().to_owned()),
            display_name: Set(workspace.display_name.clone()),
            search_text: Set(Some(search::of_name(&workspace.display_name))),
            countries: Set(workspace.countries.join(",")),
            docker_image: Set(workspace.docker_image.clone()),
            region: Set(workspace.region.clone()),
            labels: Set(workspace.labels.to_stored()),
            is_default: Set(is_default),
            status: Set(WorkspaceStatus::Active.word().to_owned()),
            created_by: Set(creator.map(Into::into)),
            created_at: Set(tx.now()),
            updated_at: Set(tx.now()),
            archived_at: Set(None),
            archived_by: Set(None),
        };
        // Two creations of one name at once: the second waits for the first and then finds the name taken.
        let written = workspaces::Entity::insert(row)
            .on_conflict(OnConflict::column(workspaces::Column::Name).do_nothing().to_owned())
            .exec_without_returning(tx.conn())
            .await;
        match written {
            Ok(0) | Err(DbErr::RecordNotInserted) => workspace.name = name.into_string(),
            Ok(_) => {
                workspace.name = name.into_string();
                if let Some(text) = &new.description {
                    home_page::write(tx, workspace.id, creator, Some(text), 1).await?;
                }
                return Ok(Ok(workspace));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Err(workspace.name))
}

/// How somebody becomes a member.
pub(crate) struct Joining {
    /// The role they get.
    pub(crate) role: RoleId,
    /// How it came about.
    pub(crate) source: MembershipSource,
    /// The invitation it comes of.
    pub(crate) invitation: Option<InvitationId>,
    /// When it ends by itself.
    pub(crate) expires_at: Option<DateTime<Utc>>,
}

impl Joining {
    /// As an Admin, for good.
    pub(crate) fn admin(source: MembershipSource) -> Self {
        Self { role: SystemRole::Admin.id(), source, invitation: None, expires_at: None }
    }
}

/// Makes somebody a member who is none. The first workspace becomes their default one.
pub(crate) async fn join(
    tx: &Tx<'_>,
    workspace: WorkspaceId,
    user: UserId,
    joining: Joining,
) -> Result<MembershipId, Fault> {
    let id: MembershipId = tx.fresh_id();
    let row = memberships::ActiveModel {
        id: Set(id.uuid()),
        workspace_id: Set(workspace.uuid()),
        user_id: Set(user.uuid()),
        role_id: Set(joining.role.uuid()),
        source: Set(joining.source.word().to_owned()),
        invitation_id: Set(joining.invitation.map(InvitationId::uuid)),
        expires_at: Set(joining.expires_at),
        created_at: Set(tx.now()),
        updated_at: Set(tx.now()),
    };
    // The person may be losing another workspace at this moment.
    tx.lock_user(user).await?;
    memberships::Entity::insert(row).exec_without_returning(tx.conn()).await?;
    tx.run(
        Sql::new("UPDATE users SET default_workspace_id = COALESCE(default_workspace_id, ")
            .bind(workspace.uuid())
            .push("), last_workspace_id = COALESCE(last_workspace_id, ")
            .bind(workspace.uuid())
            .push(") WHERE id = ")
            .bind(user.uuid())
            .push(" AND (default_workspace_id IS NULL OR last_workspace_id IS NULL)"),
    )
    .await?;
    Ok(id)
}

/// What changes of a workspace; `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct WorkspaceChange {
    /// The name people read.
    pub display_name: Option<DisplayName>,
    /// All countries it is about.
    pub countries: Option<Vec<CountryCode>>,
    /// The image its workloads run.
    pub docker_image: Option<Option<ImageRef>>,
    /// Where its workloads run.
    pub region: Option<Option<Region>>,
    /// Everything it is labelled with.
    pub labels: Option<Labels>,
}

impl WorkspaceChange {
    fn apply(self, workspace: &mut Workspace) {
        if let Some(name) = self.display_name {
            workspace.display_name = name.into_string();
        }
        if let Some(countries) = self.countries {
            workspace.countries = codes(&countries);
        }
        if let Some(image) = self.docker_image {
            workspace.docker_image = image.map(ImageRef::into_string);
        }
        if let Some(region) = self.region {
            workspace.region = region.map(Region::into_string);
        }
        if let Some(labels) = self.labels {
            workspace.labels = labels;
        }
    }
}

/// A workspace's settings, as the audit log tells them.
pub(crate) fn shown(workspace: &Workspace) -> Value {
    let labels: Value = serde_json::from_str(&workspace.labels.to_stored()).unwrap_or_default();
    json!({
        "name": workspace.name,
        "displayName": workspace.display_name,
        "countries": workspace.countries,
        "dockerImage": workspace.docker_image,
        "region": workspace.region,
        "labels": labels,
    })
}

/// Changes a workspace's settings. What changes nothing is no news.
pub async fn update(
    db: &Db,
    proof: &Granted<perm::WorkspaceUpdate>,
    change: WorkspaceChange,
) -> Result<Workspace, OpError<UpdateWorkspaceCode>> {
    db.write(proof, async |tx| {
        let id = proof.access().workspace();
        let before = read(tx, id).await?;
        let mut workspace = before.clone();
        change.apply(&mut workspace);
        if workspace != before {
            workspace.updated_at = tx.now();
            let sql = Sql::new("UPDATE workspaces SET display_name = ")
                .bind(workspace.display_name.as_str())
                .push(", search_text = ")
                .bind(search::of_name(&workspace.display_name))
                .push(", countries = ")
                .bind(workspace.countries.join(","))
                .push(", docker_image = ")
                .bind(workspace.docker_image.clone())
                .push(", region = ")
                .bind(workspace.region.clone())
                .push(", labels = ")
                .bind(workspace.labels.to_stored())
                .push(", updated_at = ")
                .bind(workspace.updated_at)
                .push(" WHERE id = ")
                .bind(id.uuid());
            tx.run(sql).await?;
            tx.audit(
                &Entry::of(
                    Action::UpdateWorkspace,
                    ObjectKind::Workspace,
                    id,
                    workspace.display_name.as_str(),
                )
                .changed(shown(&before), shown(&workspace)),
            )?;
            tx.append(Event::Workspace { workspace: id, change: Change::Settings });
        }
        Ok(workspace)
    })
    .await
}

pub(crate) async fn read(tx: &Tx<'_>, id: WorkspaceId) -> Result<Workspace, Fault> {
    let sql = Sql::new(format!("SELECT {WORKSPACE_COLUMNS} FROM workspaces w WHERE w.id = ")).bind(id.uuid());
    tx.one(sql).await?.ok_or_else(|| Fault::Stored(format!("{id} went away")))
}

/// Whether a workspace of that name exists. Names are unique in the instance, so this tells a signed-in
/// person that a name is taken, and nothing else of the workspace.
pub async fn is_name_taken(db: &Db, proof: &OwnSession, name: &Slug) -> Result<bool, ReadError> {
    let sql = Sql::new("SELECT 1 FROM workspaces WHERE name = ").bind(name.as_str());
    Ok(db.read(proof).one::<Single<i32>>(sql).await?.is_some())
}

/// Remembers the workspace as the one the person was in last.
pub async fn switch(
    db: &Db,
    proof: &Granted<perm::WorkspaceView>,
) -> Result<(), OpError<SwitchWorkspaceCode>> {
    db.write(proof, async |tx| Ok(set_preference(tx, "last_workspace_id", proof).await?)).await
}

/// Makes the workspace the one the person lands in. Only a member can: an organization's admin who is not a
/// member has no place there to fall back to.
pub async fn set_default(
    db: &Db,
    proof: &Granted<perm::WorkspaceView>,
) -> Result<(), OpError<SetDefaultWorkspaceCode>> {
    db.write(proof, async |tx| {
        if tx.access()?.membership().is_none() {
            return Err(guildhall_domain::refusal::Refusal::new(
                SetDefaultWorkspaceCode::NotFound,
                "You are not a member of this workspace. Only a workspace you are a member of can be your default.",
            )
            .at("workspaceId")
            .into());
        }
        Ok(set_preference(tx, "default_workspace_id", proof).await?)
    })
    .await
}

async fn set_preference(
    tx: &Tx<'_>,
    column: &str,
    proof: &Granted<perm::WorkspaceView>,
) -> Result<(), ReadError> {
    let access = proof.access();
    tx.unaudited("where a person was last, and where they land, is their own business");
    tx.run(
        Sql::new(format!("UPDATE users SET {column} = "))
            .bind(access.workspace().uuid())
            .push(" WHERE id = ")
            .bind(access.person()?.uuid()),
    )
    .await?;
    Ok(())
}

/// The workspace that somebody (the row of `users`) lands in who has lost another: that of their earliest membership, and
/// rather one in use than an archived one. A condition on the membership `m` may follow.
pub(crate) fn preferred_workspace(now: &str, besides: &str) -> String {
    format!(
        "(SELECT m.workspace_id FROM memberships m JOIN workspaces w ON w.id = m.workspace_id \
         JOIN organization_members om ON om.organization_id = w.organization_id AND om.user_id = m.user_id \
             AND om.status = 'ACTIVE' \
         WHERE m.user_id = users.id AND (m.expires_at IS NULL OR m.expires_at > {now}){besides} \
         ORDER BY w.status, m.id LIMIT 1)"
    )
}

/// After a person lost a workspace: the earliest other membership takes its place as the default and as the
/// last one they were in.
pub(crate) async fn fall_back(tx: &Tx<'_>, workspace: WorkspaceId, user: UserId) -> Result<(), Fault> {
    // Of two losses at once the second waits here, and then sees what the first has left.
    tx.lock_user(user).await?;
    for column in ["default_workspace_id", "last_workspace_id"] {
        let sql = Sql::new(format!(
            "UPDATE users SET {column} = {} WHERE id = $2 AND {column} = $3",
            preferred_workspace("$1", "")
        ))
        .values([tx.now().into(), user.uuid().into(), workspace.uuid().into()]);
        tx.run(sql).await?;
    }
    Ok(())
}
