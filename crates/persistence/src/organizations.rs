//! Organizations: making them, changing their name and their policy.

use guildhall_domain::{
    access::{Granted, OrganizationPolicy, OrganizationRole, OwnSession, System, perm},
    audit::{Action, Entry, ObjectKind},
    ids::{OrganizationId, UserId},
    members::MembershipSource,
    organizations::{
        CreateOrganizationCode, UpdateOrganizationCode, UpdateOrganizationPolicyCode, require_two_factor,
    },
    refusal::{NameUnavailable, Refusal},
    text::{DisplayName, Email, Slug},
    workspaces::{candidate_names, name_unavailable},
};
use sea_orm::{ActiveValue::Set, DbErr, EntityTrait, sea_query::OnConflict};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    accounts::join_organization,
    db::{Db, Tx},
    entities::organizations::{ActiveModel, Column, Entity},
    error::{Fault, OpError},
    sql::{Single, Sql},
    workspaces::{self, Joining, NewWorkspace, Workspace},
};

/// An organization that was just made, with its default workspace.
#[derive(Clone, Debug)]
pub struct NewOrganization {
    /// Its id.
    pub id: OrganizationId,
    /// The name in addresses.
    pub slug: String,
    /// Its default workspace.
    pub workspace: Workspace,
}

/// Makes an organization with a default workspace for its owner, under slugs made of the name. `Err` with a name
/// that could not be had.
pub(crate) async fn insert(
    tx: &Tx<'_>,
    name: &DisplayName,
    owner: UserId,
    source: MembershipSource,
) -> Result<Result<NewOrganization, String>, Fault> {
    let id: OrganizationId = tx.fresh_id();
    let policy = OrganizationPolicy::default();
    let mut written = None;
    for slug in candidate_names(&Slug::derive(name.as_str())) {
        let row = ActiveModel {
            id: Set(id.uuid()),
            slug: Set(slug.as_str().to_owned()),
            name: Set(name.as_str().to_owned()),
            workspace_creation: Set(policy.workspace_creation.word().to_owned()),
            workspace_deletion: Set(policy.workspace_deletion.word().to_owned()),
            member_list_visibility: Set(policy.member_list_visibility.word().to_owned()),
            share_acceptance: Set(policy.share_acceptance.word().to_owned()),
            allow_reveal: Set(policy.allow_reveal),
            invitation_lifetime_hours: Set(None),
            api_key_max_lifetime_days: Set(None),
            login_activity_days: Set(i32::from(policy.login_activity_days)),
            identity_provider_id: Set(None),
            password_sign_in: Set(true),
            two_factor_required_since: Set(None),
            two_factor_grace_hours: Set(i32::from(policy.two_factor_grace_hours)),
            created_at: Set(tx.now()),
            updated_at: Set(tx.now()),
        };
        // Of two organizations of one name at once the second waits, and then takes the next slug.
        let inserted = Entity::insert(row)
            .on_conflict(OnConflict::column(Column::Slug).do_nothing().to_owned())
            .exec_without_returning(tx.conn())
            .await;
        match inserted {
            Ok(0) | Err(DbErr::RecordNotInserted) => {}
            Ok(_) => {
                written = Some(slug.into_string());
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let Some(slug) = written else { return Ok(Err(name.as_str().to_owned())) };
    join_organization(tx, id, owner, OrganizationRole::Owner).await?;
    let new = NewWorkspace::named(name.clone());
    Ok(match workspaces::insert(tx, id, Some(owner), &new, true).await? {
        Ok(workspace) => {
            workspaces::join(tx, workspace.id, owner, Joining::admin(source)).await?;
            Ok(NewOrganization { id, slug, workspace })
        }
        Err(name) => Err(name),
    })
}

/// What the audit log says of a new organization, as its first entry.
pub(crate) fn made_entry(action: Action, made: &NewOrganization, name: &DisplayName) -> Entry {
    Entry::of(action, ObjectKind::Organization, made.id, name.as_str()).in_organization(made.id).after(
        json!({
            "name": name.as_str(),
            "slug": made.slug,
            "workspace": made.workspace.name,
        }),
    )
}

/// Makes an organization that the actor owns, where everybody may.
pub async fn create(
    db: &Db,
    proof: &OwnSession,
    name: &DisplayName,
) -> Result<NewOrganization, OpError<CreateOrganizationCode>> {
    if !db.settings().open_organizations {
        return Err(Refusal::new(
            CreateOrganizationCode::OperatorOnly,
            "Only an operator of this instance makes organizations. Ask one, with your e-mail address.",
        )
        .into());
    }
    db.write(proof, async |tx| {
        let made = insert(tx, name, proof.user(), MembershipSource::Creator).await?;
        let made = made.map_err(|name| {
            name_unavailable(CreateOrganizationCode::NameUnavailable, "name", &name, NameUnavailable::Taken)
        })?;
        tx.audit(&made_entry(Action::CreateOrganization, &made, name))?;
        Ok(made)
    })
    .await
}

/// Makes an organization for somebody who has an account, as an operator; `None` where nobody has the address, or
/// the account is disabled.
pub async fn create_for(
    db: &Db,
    proof: &System,
    name: &DisplayName,
    owner: &Email,
) -> Result<Option<NewOrganization>, Fault> {
    let made = db.write(proof, async |tx| {
        let sql =
            Sql::new("SELECT id FROM users WHERE status <> 'DISABLED' AND email = ").bind(owner.as_str());
        let Some(Single(owner)) = tx.one::<Single<Uuid>>(sql).await? else { return Ok(None) };
        let made = insert(tx, name, owner.into(), MembershipSource::Direct).await?;
        let made = made.map_err(|name| Fault::Stored(format!("every name like {name} is taken")))?;
        tx.audit(&made_entry(Action::AdminCreateOrganization, &made, name))?;
        Ok(Some(made))
    });
    made.await.map_err(OpError::into_fault)
}

/// Gives an organization another name. Its slug stays.
pub async fn update(
    db: &Db,
    proof: &Granted<perm::OrganizationManage>,
    name: Option<DisplayName>,
) -> Result<(), OpError<UpdateOrganizationCode>> {
    db.write(proof, async |tx| {
        if let Some(name) = name {
            let id = proof.access().organization();
            let sql = Sql::new("SELECT name FROM organizations WHERE id = ").bind(id.uuid());
            let was = tx.one::<Single<String>>(sql).await?.map(|Single(name)| name);
            tx.audit(
                &Entry::of(Action::UpdateOrganization, ObjectKind::Organization, id, name.as_str())
                    .changed(json!({ "name": was }), json!({ "name": name.as_str() })),
            )?;
            let sql = Sql::new("UPDATE organizations SET name = ")
                .bind(name.as_str())
                .push(", updated_at = ")
                .bind(tx.now())
                .push(" WHERE id = ")
                .bind(proof.access().organization().uuid());
            tx.run(sql).await?;
        }
        Ok(())
    })
    .await
}

/// A policy, as the audit log tells it.
fn shown(policy: &OrganizationPolicy) -> Value {
    json!({
        "workspaceCreation": policy.workspace_creation.word(),
        "workspaceDeletion": policy.workspace_deletion.word(),
        "memberListVisibility": policy.member_list_visibility.word(),
        "shareAcceptance": policy.share_acceptance.word(),
        "allowReveal": policy.allow_reveal,
        "invitationLifetimeHours": policy.invitation_lifetime_hours,
        "apiKeyMaxLifetimeDays": policy.api_key_max_lifetime_days,
        "loginActivityDays": policy.login_activity_days,
        "requireTwoFactor": policy.two_factor_required_since.is_some(),
        "twoFactorGraceHours": policy.two_factor_grace_hours,
    })
}

/// Changes an organization's policy, for the next request of everybody in it. `change` gets the policy as it is; `two_factor`
/// says whether a second factor is demanded from now on.
pub async fn update_policy(
    db: &Db,
    proof: &Granted<perm::OrganizationGovern>,
    two_factor: Option<bool>,
    change: impl FnOnce(&mut OrganizationPolicy) + Send,
) -> Result<(), OpError<UpdateOrganizationPolicyCode>> {
    db.write(proof, async |tx| {
        let access = tx.organization()?;
        let mut policy = *access.policy();
        let was = shown(&policy);
        change(&mut policy);
        require_two_factor(&mut policy, two_factor, access.arrival(), tx.now())?;
        let organization = proof.access().organization();
        tx.audit(
            &Entry::of(Action::UpdateOrganizationPolicy, ObjectKind::Organization, organization, "policy")
                .changed(was, shown(&policy)),
        )?;
        let sql = Sql::new("UPDATE organizations SET workspace_creation = ")
            .bind(policy.workspace_creation.word())
            .push(", workspace_deletion = ")
            .bind(policy.workspace_deletion.word())
            .push(", member_list_visibility = ")
            .bind(policy.member_list_visibility.word())
            .push(", share_acceptance = ")
            .bind(policy.share_acceptance.word())
            .push(", allow_reveal = ")
            .bind(policy.allow_reveal)
            .push(", invitation_lifetime_hours = ")
            .bind(policy.invitation_lifetime_hours.map(i32::from))
            .push(", api_key_max_lifetime_days = ")
            .bind(policy.api_key_max_lifetime_days.map(i32::from))
            .push(", login_activity_days = ")
            .bind(i32::from(policy.login_activity_days))
            .push(", two_factor_required_since = ")
            .bind(policy.two_factor_required_since)
            .push(", two_factor_grace_hours = ")
            .bind(i32::from(policy.two_factor_grace_hours))
            .push(", updated_at = ")
            .bind(tx.now())
            .push(" WHERE id = ")
            .bind(proof.access().organization().uuid());
        tx.run(sql).await?;
        Ok(())
    })
    .await
}
