//! People's accounts: setting the instance up, signing in, registering, profile and password.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Open, OrganizationRole, OwnSession, System},
    accounts::{
        ChangePasswordCode, RegisterCode, SetUpCode, SignInCode, UpdateProfileCode, UserStatus,
        check_password,
    },
    audit::{Action, By, Entry, ObjectKind},
    ids::{OrganizationId, UserId, WorkspaceId},
    members::MembershipSource,
    organization_members::is_shut_out,
    refusal::{NameUnavailable, Refusal, Refusals},
    second_factor::Typed,
    text::{DisplayName, Email},
    workspaces::name_unavailable,
};
use sea_orm::{ActiveValue::Set, DbErr, EntityTrait, FromQueryResult, QueryResult, sea_query::OnConflict};
use uuid::Uuid;

use crate::{
    access::word,
    activity,
    db::{Db, Tx},
    email_changes,
    entities::{self, users},
    error::{Fault, OpError, ReadError},
    instance, invitations,
    lockout::Door,
    organization_members,
    organizations::{self, NewOrganization},
    password_resets, recovery_codes, search, second_factor,
    sessions::{self, Device, SignedIn},
    sql::{Single, Sql},
    workspaces::Workspace,
};

/// A person, as others in the organization see them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Their id.
    pub id: UserId,
    /// Their address: normalised, unique.
    pub email: String,
    /// The name people read.
    pub display_name: String,
    /// The state of the account.
    pub status: UserStatus,
}

pub(crate) const USER_COLUMNS: &str = "u.id AS user_id, u.email, u.display_name, u.status";

impl FromQueryResult for User {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        Ok(Self {
            id: row.try_get::<Uuid>(prefix, "user_id")?.into(),
            email: row.try_get(prefix, "email")?,
            display_name: row.try_get(prefix, "display_name")?,
            status: word(&row.try_get::<String>(prefix, "status")?, UserStatus::from_word)?,
        })
    }
}

/// A person, as they see themselves.
#[derive(Clone, Debug)]
pub struct Account {
    /// The person.
    pub user: User,
    /// Where they land.
    pub default_workspace: Option<WorkspaceId>,
    /// Where they were last.
    pub last_workspace: Option<WorkspaceId>,
    /// Since when the account exists.
    pub created_at: DateTime<Utc>,
}

impl FromQueryResult for Account {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        let workspace =
            |column: &str| Ok::<_, DbErr>(row.try_get::<Option<Uuid>>(prefix, column)?.map(Into::into));
        Ok(Self {
            user: User::from_query_result(row, prefix)?,
            default_workspace: workspace("default_workspace_id")?,
            last_workspace: workspace("last_workspace_id")?,
            created_at: row.try_get(prefix, "created_at")?,
        })
    }
}

/// The actor's own account.
pub async fn account(db: &Db, proof: &OwnSession) -> Result<Account, ReadError> {
    let sql = Sql::new(format!(
        "SELECT {USER_COLUMNS}, u.default_workspace_id, u.last_workspace_id, u.created_at FROM users u WHERE u.id = "
    ))
    .bind(proof.user().uuid());
    Ok(db.read(proof).one(sql).await?.ok_or_else(|| Fault::Stored("a live session without a user".into()))?)
}

/// A person, and an organization in which they have a place.
#[derive(Debug)]
struct InOrganization {
    organization: OrganizationId,
    user: User,
}

impl FromQueryResult for InOrganization {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        Ok(Self {
            organization: row.try_get::<Uuid>(prefix, "organization_id")?.into(),
            user: User::from_query_result(row, prefix)?,
        })
    }
}

/// Several people by the organization that asks and their id, for those who may see them: an inviter shown to the admins of
/// a workspace. Who has left the organization is not found: what they are called today is not its business.
pub async fn in_organizations(
    db: &Db,
    proof: &impl guildhall_domain::access::Proof,
    wanted: &[(OrganizationId, UserId)],
) -> Result<HashMap<(OrganizationId, UserId), User>, ReadError> {
    let sql = Sql::new(format!(
        "SELECT om.organization_id, {USER_COLUMNS} FROM organization_members om JOIN users u ON u.id = om.user_id \
         WHERE om.organization_id IN "
    ))
    .bind_list(wanted.iter().map(|(organization, _)| organization.uuid()).collect::<BTreeSet<_>>())
    .push(" AND om.user_id IN ")
    .bind_list(wanted.iter().map(|(_, user)| user.uuid()).collect::<BTreeSet<_>>());
    let found: Vec<InOrganization> = db.read(proof).all(sql).await?;
    Ok(found.into_iter().map(|found| ((found.organization, found.user.id), found.user)).collect())
}

/// A person to make an account for.
#[derive(Debug)]
pub struct NewUser {
    /// Their address.
    pub email: Email,
    /// The name people read.
    pub display_name: DisplayName,
    /// The password in the clear.
    pub password: String,
}

pub(crate) async fn insert(
    tx: &Tx<'_>,
    email: &Email,
    name: &DisplayName,
    password_hash: String,
) -> Result<Result<User, ()>, Fault> {
    let user = User {
        id: tx.fresh_id(),
        email: email.as_str().to_owned(),
        display_name: name.as_str().to_owned(),
        status: UserStatus::Active,
    };
    let row = users::ActiveModel {
        id: Set(user.id.uuid()),
        email: Set(user.email.clone()),
        display_name: Set(user.display_name.clone()),
        search_text: Set(search::of_person(&user.display_name, &user.email)),
        status: Set(user.status.word().to_owned()),
        password_hash: Set(password_hash),
        email_verified_at: Set(Some(tx.now())),
        last_sign_in_at: Set(Some(tx.now())),
        created_at: Set(tx.now()),
        updated_at: Set(tx.now()),
        default_workspace_id: Set(None),
        last_workspace_id: Set(None),
        second_factor_at: Set(None),
    };
    // Not by the error: on PostgreSQL nothing of a transaction lasts in which a statement failed.
    let taken = OnConflict::column(users::Column::Email).do_nothing().to_owned();
    let made = users::Entity::insert(row).on_conflict(taken).exec_without_returning(tx.conn()).await?;
    Ok(if made == 1 { Ok(user) } else { Err(()) })
}

/// What setting up makes.
pub struct SetUp {
    /// The first person, who owns the organization.
    pub user: User,
    /// The organization.
    pub organization: OrganizationId,
    /// Its default workspace.
    pub workspace: Workspace,
    /// The person's first session.
    pub session: SignedIn,
}

/// Makes the first user, the organization and the default workspace, once, for whoever holds the secret of
/// the set-up link.
pub async fn set_up(
    db: &Db,
    proof: &Open,
    token: &str,
    new: &NewUser,
    organization_name: &DisplayName,
    device: &Device,
) -> Result<SetUp, OpError<SetUpCode>> {
    // Said first, so that a second set-up learns it is too late rather than that its token is wrong.
    if instance::is_set_up(db).await? {
        return Err(set_up_before().into());
    }
    if !db.keys().is_setup_token(token) {
        return Err(Refusal::new(
            SetUpCode::LinkInvalid,
            "This is not the secret of the set-up link. The server prints the link when it starts.",
        )
        .at("token")
        .into());
    }
    check_password("password", &new.password, Some(&new.email), Some(&new.display_name))?;
    let hash = db.hasher().hash(&new.password).await?;
    db.write(proof, async |tx| {
        if !instance::claim_set_up(tx).await? {
            return Err(set_up_before().into());
        }
        let Ok(user) = insert(tx, &new.email, &new.display_name, hash).await? else {
            return Err(set_up_before().into());
        };
        let made = organizations::insert(tx, organization_name, user.id, MembershipSource::Setup).await?;
        let made = made.map_err(|name| {
            name_unavailable(SetUpCode::NameUnavailable, "organizationName", &name, NameUnavailable::Taken)
        })?;
        let entry = organizations::made_entry(Action::SetUp, &made, organization_name);
        tx.audit(&entry.by(By::Person(user.id)))?;
        let NewOrganization { id: organization, workspace, .. } = made;
        let session = sessions::open(tx, user.id, device).await?;
        Ok(SetUp { user, organization, workspace, session })
    })
    .await
}

fn set_up_before() -> Refusal<SetUpCode> {
    Refusal::new(SetUpCode::SetupDone, "This instance was set up before. Sign in instead.")
}

/// Makes somebody a member of the organization, unless they are one.
pub(crate) async fn join_organization(
    tx: &Tx<'_>,
    organization: OrganizationId,
    user: UserId,
    role: OrganizationRole,
) -> Result<(), Fault> {
    use entities::organization_members::{ActiveModel, Column, Entity};
    let row = ActiveModel {
        user_id: Set(user.uuid()),
        organization_id: Set(organization.uuid()),
        role: Set(role.word().to_owned()),
        status: Set("ACTIVE".to_owned()),
        created_at: Set(tx.now()),
    };
    let written = Entity::insert(row)
        .on_conflict(OnConflict::columns([Column::UserId, Column::OrganizationId]).do_nothing().to_owned())
        .exec_without_returning(tx.conn())
        .await;
    match written {
        Ok(_) | Err(DbErr::RecordNotInserted) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[derive(Debug)]
pub(crate) struct Secret {
    pub(crate) user: User,
    pub(crate) password_hash: String,
    pub(crate) has_second_factor: bool,
}

impl FromQueryResult for Secret {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        Ok(Self {
            user: User::from_query_result(row, prefix)?,
            password_hash: row.try_get(prefix, "password_hash")?,
            has_second_factor: row.try_get(prefix, "has_second_factor")?,
        })
    }
}

pub(crate) async fn secret(
    db: &Db,
    proof: &impl guildhall_domain::access::Proof,
    key: &str,
    value: impl Into<sea_orm::Value>,
) -> Result<Option<Secret>, Fault> {
    let sql = Sql::new(format!(
        "SELECT {USER_COLUMNS}, u.password_hash, u.second_factor_at IS NOT NULL AS has_second_factor \
         FROM users u WHERE {key} = "
    ));
    db.read(proof).one(sql.bind(value)).await
}

/// Signs a person in. An unknown address and a wrong password get the same answer after the same time; that
/// an account is disabled, or has a second factor, is told only to somebody who knows its password.
pub async fn sign_in(
    db: &Db,
    proof: &Open,
    email: Option<&Email>,
    password: &str,
    typed: &Typed,
    device: &Device,
) -> Result<(User, SignedIn), OpError<SignInCode>> {
    let door = Door::of(db, email, device);
    door.check(db, proof, device).await?;
    let outcome = try_to_sign_in(db, proof, email, password, typed, device, &door).await;
    if let Err(OpError::Refused(Refusals(refusals))) = &outcome {
        for refusal in refusals {
            if let Some(late) = door.note_refused(db, proof, refusal.code, device).await? {
                return Err(late.into());
            }
        }
    }
    if let Ok((user, _)) = &outcome
        && db.is_rehearsing()
    {
        // That a password is right is found out by nobody without a trace.
        db.end_rehearsal().await;
        let db = db.in_earnest();
        db.write::<_, SignInCode>(proof, async |tx| {
            Ok(activity::note_sign_in(tx, user.id, activity::By::Password, device).await?)
        })
        .await?;
    }
    outcome
}

async fn try_to_sign_in(
    db: &Db,
    proof: &Open,
    email: Option<&Email>,
    password: &str,
    typed: &Typed,
    device: &Device,
    door: &Door,
) -> Result<(User, SignedIn), OpError<SignInCode>> {
    // An address that cannot be one is looked up all the same, so that it takes the same time.
    let found = secret(db, proof, "u.email", email.map_or("", Email::as_str)).await?;
    let stored = found.as_ref().map(|secret| secret.password_hash.as_str());
    let right = db.hasher().verify(password, stored).await?;
    let Some(Secret { user, password_hash, has_second_factor }) = found.filter(|_| right) else {
        return Err(Refusal::new(
            SignInCode::InvalidCredentials,
            "E-mail address and password do not belong together.",
        )
        .into());
    };
    let disabled = || {
        Refusal::new(
            SignInCode::UserDisabled,
            "This account is disabled. An admin of your organization can enable it.",
        )
    };
    if user.status == UserStatus::Disabled {
        return Err(disabled().into());
    }
    if has_second_factor {
        second_factor::ask_at_door(db, proof, user.id, typed, device).await?;
    }
    db.write(proof, async |tx| {
        // Who is being disabled at this moment is so before, or has this session ended.
        tx.lock_user(user.id).await?;
        if has_second_factor && !second_factor::use_up(tx, user.id, typed).await? {
            return Err(second_factor::invalid(SignInCode::SecondFactorInvalid).into());
        }
        if is_shut_out(&organization_members::places(tx, user.id).await?)
            && !invitations::awaits_answer(tx, user.id).await?
        {
            return Err(disabled().into());
        }
        door.passed(tx).await?;
        let signed_in = sessions::open(tx, user.id, device).await?;
        // The condition closes the gap since the check: a password that was changed, an account that was disabled or a
        // second factor that was put in force in between signs nobody in.
        let touched = tx
            .run(
                Sql::new("UPDATE users SET last_sign_in_at = ")
                    .bind(tx.now())
                    .push(" WHERE status <> 'DISABLED' AND id = ")
                    .bind(user.id.uuid())
                    .push(if has_second_factor { "" } else { " AND second_factor_at IS NULL" })
                    .push(" AND password_hash = ")
                    .bind(password_hash.as_str()),
            )
            .await?;
        if touched == 0 {
            let message = "The password or the second factor was changed just now. Try again.";
            return Err(Refusal::new(SignInCode::InvalidCredentials, message).into());
        }
        Ok((user.clone(), signed_in))
    })
    .await
}

/// Makes an account for the holder of an invitation's link, accepts the invitation and signs them in. The
/// link came by mail, so the address is verified.
pub async fn register(
    db: &Db,
    proof: &Open,
    token: &str,
    name: &DisplayName,
    password: &str,
    device: &Device,
) -> Result<(User, SignedIn, invitations::Received), OpError<RegisterCode>> {
    let preview = invitations::by_token(db, proof, token).await?;
    let Some(preview) = preview else {
        return Err(invitations::link_invalid(RegisterCode::LinkInvalid).into());
    };
    let email = Email::from_stored(preview.email.clone());
    check_password("password", password, Some(&email), Some(name))?;
    let hash = db.hasher().hash(password).await?;
    let outcome = db
        .write(proof, async |tx| {
            let answer = invitations::Answer::Token(token);
            let pending = match invitations::load_answerable(tx, &answer, RegisterCode::LinkInvalid).await? {
                Ok(pending) => pending,
                Err(refusal) => return Ok(Err(refusal)),
            };
            if let Err(refusal) = invitations::check_acceptable(tx, &pending).await? {
                return Ok(Err(refusal));
            }
            let Ok(user) = insert(tx, &email, name, hash).await? else {
                return Err(Refusal::new(
                    RegisterCode::AccountExists,
                    "The address of this invitation has an account already. Sign in to accept.",
                )
                .into());
            };
            let received = invitations::admit(tx, Action::Register, pending, user.id).await?;
            let session = sessions::open(tx, user.id, device).await?;
            Ok(Ok((user, session, received)))
        })
        .await?;
    outcome.map_err(Into::into)
}

/// Changes the actor's own profile.
pub async fn update_profile(
    db: &Db,
    proof: &OwnSession,
    name: &DisplayName,
) -> Result<Account, OpError<UpdateProfileCode>> {
    db.write(proof, async |tx| {
        tx.unaudited("a person's profile is their own");
        let id = proof.user();
        let read = Sql::new(format!(
            "SELECT {USER_COLUMNS}, u.default_workspace_id, u.last_workspace_id, u.created_at FROM users u WHERE u.id = "
        ))
        .bind(id.uuid());
        let mut account: Account =
            tx.one(read).await?.ok_or_else(|| Fault::Stored("a live session without a user".into()))?;
        account.user.display_name = name.as_str().to_owned();
        tx.run(
            Sql::new("UPDATE users SET display_name = ")
                .bind(name.as_str())
                .push(", search_text = ")
                .bind(search::of_person(name.as_str(), &account.user.email))
                .push(", updated_at = ")
                .bind(tx.now())
                .push(" WHERE id = ")
                .bind(id.uuid()),
        )
        .await?;
        Ok(account)
    })
    .await
}

/// Changes the actor's own password and ends all other sessions.
pub async fn change_password(
    db: &Db,
    proof: &OwnSession,
    current: &str,
    new: &str,
) -> Result<(), OpError<ChangePasswordCode>> {
    let found = secret(db, proof, "u.id", proof.user().uuid()).await?;
    let right =
        db.hasher().verify(current, found.as_ref().map(|secret| secret.password_hash.as_str())).await?;
    let Some(Secret { user, password_hash, .. }) = found.filter(|_| right) else {
        return Err(Refusal::new(
            ChangePasswordCode::InvalidCredentials,
            "This is not your current password.",
        )
        .at("currentPassword")
        .into());
    };
    let (email, name) = (Email::from_stored(user.email), DisplayName::from_stored(user.display_name));
    check_password("newPassword", new, Some(&email), Some(&name))?;
    let hash = db.hasher().hash(new).await?;
    db.write(proof, async |tx| {
        let changed = set_password(tx, user.id, &hash, Some(&password_hash)).await?;
        if !changed {
            return Err(Refusal::new(
                ChangePasswordCode::InvalidCredentials,
                "The password was changed elsewhere just now.",
            )
            .at("currentPassword")
            .into());
        }
        tx.unaudited("a person's password is their own");
        sessions::end_others(tx, user.id, Some(proof.session())).await?;
        Ok(())
    })
    .await
}

/// Stores another password, and ends the links by which one could be set and a change of address that is under way. With `expected`, only where the password is
/// still that one.
pub(crate) async fn set_password(
    tx: &Tx<'_>,
    user: UserId,
    hash: &str,
    expected: Option<&str>,
) -> Result<bool, Fault> {
    tx.lock_user(user).await?;
    password_resets::forget(tx, user).await?;
    // Whoever asked for another address may be the one from whom the account is being taken back.
    email_changes::forget(tx, user).await?;
    let mut sql = Sql::new("UPDATE users SET password_hash = ")
        .bind(hash)
        .push(", updated_at = ")
        .bind(tx.now())
        .push(" WHERE id = ")
        .bind(user.uuid());
    if let Some(expected) = expected {
        sql = sql.push(" AND password_hash = ").bind(expected);
    }
    Ok(tx.run(sql).await? > 0)
}

/// For an operator: gives the account of that address a fresh random password and ends all its sessions.
/// Answers the password, or `None` for an unknown address.
pub async fn reset_password(db: &Db, proof: &System, email: &Email) -> Result<Option<String>, Fault> {
    let Some(found) = secret(db, proof, "u.email", email.as_str()).await? else { return Ok(None) };
    let password = crate::keys::fresh_token()?;
    let password = password[..24].to_owned();
    let hash = db.hasher().hash(&password).await?;
    db.write(proof, async |tx| {
        set_password(tx, found.user.id, &hash, None).await?;
        recovery_codes::forget(tx, found.user.id).await?;
        // Whoever administers an organization that this person belongs to has to know.
        let sql = Sql::new("SELECT organization_id FROM organization_members WHERE user_id = ");
        for Single(organization) in tx.all::<Single<Uuid>>(sql.bind(found.user.id.uuid())).await? {
            let (id, name) = (found.user.id, found.user.display_name.as_str());
            let entry = Entry::of(Action::AdminResetPassword, ObjectKind::User, id, name);
            tx.audit(&entry.in_organization(organization.into()))?;
        }
        sessions::end_others(tx, found.user.id, None).await?;
        Ok(())
    })
    .await
    .map_err(OpError::into_fault)?;
    Ok(Some(password))
}
