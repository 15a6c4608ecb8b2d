//! Service accounts: listing, making, changing, deleting, and the access tokens that their secrets are good for.

use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Actor, Denied, Granted, Open, perm, role::Role},
    audit::{Action, Entry, ObjectKind},
    events::Event,
    ids::{RoleId, ServiceAccountId, UserId, WorkspaceId},
    machines::MachineKind,
    page::{Page, PageArgs},
    refusal::{Refusal, RefusalCode},
    service_accounts::{
        CreateServiceAccountCode, DeleteServiceAccountCode, RotateServiceAccountSecretCode,
        UpdateServiceAccountCode, judge_end, judge_grant, judge_room,
    },
    text::{DisplayName, Message},
};
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use secrecy::SecretString;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    access::{numbers_of, page_by, pages_of, role, role_columns},
    api_keys,
    db::{Ask, Db, Tx},
    error::{Fault, OpError, ReadError},
    keys::AccessToken,
    roles::grantable_role,
    secret_text::hint,
    sql::{AT_ONCE, Number, Placed, Single, Sql},
};

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Its id, which is also its client id.
    pub id: ServiceAccountId,
    /// The workspace it works in.
    pub workspace: WorkspaceId,
    /// The name people read.
    pub name: String,
    /// What it is for; may be empty.
    pub description: String,
    /// Its role.
    pub role: Role,
    /// How its secret begins.
    pub secret_hint: String,
    /// When its secret was made.
    pub secret_made_at: DateTime<Utc>,
    /// Who made it.
    pub created_by: Option<UserId>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When its name, description or role changed last.
    pub updated_at: DateTime<Utc>,
    /// When it was here last with an access token; some seconds behind.
    pub last_used_at: Option<DateTime<Utc>>,
    generation: i32,
}

const COLUMNS: &str = concat!(
    "sa.id, sa.workspace_id, sa.name, sa.description, sa.secret_hint, sa.secret_made_at, sa.created_by, sa.created_at, \
     sa.updated_at, sa.last_used_at, sa.generation, ",
    role_columns!()
);
const TABLES: &str = "service_accounts sa JOIN roles r ON r.id = sa.role_id";

impl FromQueryResult for ServiceAccount {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        Ok(Self {
            id: row.try_get::<Uuid>(prefix, "id")?.into(),
            workspace: row.try_get::<Uuid>(prefix, "workspace_id")?.into(),
            name: row.try_get(prefix, "name")?,
            description: row.try_get(prefix, "description")?,
            role: role(row, prefix)?,
            secret_hint: row.try_get(prefix, "secret_hint")?,
            secret_made_at: row.try_get(prefix, "secret_made_at")?,
            created_by: row.try_get::<Option<Uuid>>(prefix, "created_by")?.map(Into::into),
            created_at: row.try_get(prefix, "created_at")?,
            updated_at: row.try_get(prefix, "updated_at")?,
            last_used_at: row.try_get(prefix, "last_used_at")?,
            generation: row.try_get(prefix, "generation")?,
        })
    }
}

type Manage = Granted<perm::ServiceAccountsManage>;

/// A page of the service accounts of each of those workspaces, by age.
pub async fn pages(
    db: &Db,
    wanted: &[(Manage, PageArgs<Uuid>)],
) -> Result<Vec<Page<ServiceAccount>>, ReadError> {
    let mut pages = Vec::with_capacity(wanted.len());
    for wanted in wanted.chunks(AT_ONCE) {
        let Some((first, _)) = wanted.first() else { break };
        let each =
            wanted.iter().map(|(proof, args)| page_by(of_workspace("sa.id AS id", proof), args, "sa.id"));
        let sql = Sql::new(format!("SELECT listed.place, {COLUMNS} FROM ("))
            .append(Sql::each(each))
            .push(&format!(") AS listed, {TABLES} WHERE sa.id = listed.id ORDER BY sa.id"));
        let rows: Vec<Placed<ServiceAccount>> = db.read(first).all(sql).await?;
        pages.extend(pages_of(wanted.iter().map(|(_, args)| args), rows));
    }
    Ok(pages)
}

/// How many service accounts each of those workspaces has.
pub async fn numbers(db: &Db, wanted: &[Manage]) -> Result<Vec<u64>, ReadError> {
    let mut numbers = Vec::with_capacity(wanted.len());
    for wanted in wanted.chunks(AT_ONCE) {
        let Some(first) = wanted.first() else { break };
        let sql = Sql::each(wanted.iter().map(|proof| of_workspace("count(*) AS number", proof)));
        numbers.extend(numbers_of(db.read(first).all::<Placed<Number>>(sql).await?));
    }
    Ok(numbers)
}

fn of_workspace(columns: &str, proof: &Manage) -> Sql {
    Sql::new(format!("SELECT {columns} FROM service_accounts sa WHERE sa.workspace_id = "))
        .bind(proof.access().workspace().uuid())
}

/// The service accounts of those ids, as far as they are of the proof's workspaces.
pub async fn by_ids(
    db: &Db,
    wanted: &[(Manage, ServiceAccountId)],
) -> Result<Vec<ServiceAccount>, ReadError> {
    let Some((first, _)) = wanted.first() else { return Ok(Vec::new()) };
    let sql = Sql::new(format!("SELECT {COLUMNS} FROM {TABLES} WHERE sa.id IN "))
        .bind_list(wanted.iter().map(|(_, id)| id.uuid()))
        .push(" AND sa.workspace_id IN ")
        .bind_list(wanted.iter().map(|(proof, _)| proof.access().workspace().uuid()));
    Ok(db.read(first).all(sql).await?)
}

pub(crate) async fn find(
    tx: &impl Ask,
    workspace: WorkspaceId,
    id: ServiceAccountId,
) -> Result<Option<ServiceAccount>, Fault> {
    let sql = Sql::new(format!("SELECT {COLUMNS} FROM {TABLES} WHERE sa.workspace_id = "))
        .bind(workspace.uuid())
        .push(" AND sa.id = ")
        .bind(id.uuid());
    tx.one(sql).await
}

/// One of the workspace's service accounts.
pub async fn by_id(
    db: &Db,
    proof: &Manage,
    id: ServiceAccountId,
) -> Result<Option<ServiceAccount>, ReadError> {
    Ok(find(&db.read(proof), proof.access().workspace(), id).await?)
}

fn no_such_account<C>(code: C) -> Refusal<C> {
    Refusal::new(code, "This workspace has no such service account.").at("serviceAccountId")
}

/// What compares names: in lower case by Unicode.
fn name_key(name: &DisplayName) -> String {
    name.as_str().to_lowercase()
}

/// Refuses a name that another service account of the workspace has.
async fn refuse_name<C: RefusalCode>(
    tx: &Tx<'_>,
    workspace: WorkspaceId,
    name: &DisplayName,
    besides: Option<ServiceAccountId>,
    taken: C,
) -> Result<(), OpError<C>> {
    let sql = Sql::new("SELECT sa.id FROM service_accounts sa WHERE sa.workspace_id = ")
        .bind(workspace.uuid())
        .push(" AND sa.name_key = ")
        .bind(name_key(name));
    match tx.one::<Single<Uuid>>(sql).await? {
        Some(Single(id)) if besides.is_none_or(|besides| besides.uuid() != id) => {
            let message = "A service account of this workspace has that name. Choose another one.";
            Err(Refusal::new(taken, message).at("name").into())
        }
        _ => Ok(()),
    }
}

fn no_such_role<C: RefusalCode>() -> Refusal<C> {
    Refusal::new(C::INVALID_INPUT, "`role` is no role of this organization.").at("role")
}

/// A service account together with its secret, which is told this once.
#[derive(Debug)]
pub struct WithSecret {
    /// The service account.
    pub account: ServiceAccount,
    /// Its secret.
    pub secret: SecretString,
}

/// Makes a service account.
pub async fn create(
    db: &Db,
    proof: &Manage,
    name: DisplayName,
    description: Option<Message>,
    role: RoleId,
) -> Result<WithSecret, OpError<CreateServiceAccountCode>> {
    use CreateServiceAccountCode as Code;
    db.write(proof, async |tx| {
        let access = tx.access()?.clone();
        let workspace = access.workspace();
        let role = grantable_role(tx, workspace, role).await?.ok_or_else(no_such_role)?;
        judge_grant(access.permissions(), &role, Code::PrivilegeEscalation, "role")?;
        judge_end(api_keys::end_of_actor(tx).await?, Code::PrivilegeEscalation)?;
        let present = tx.one::<Single<i64>>(of_workspace("count(*)", proof)).await?;
        let present = present.map_or(0, |Single(present)| u64::try_from(present).unwrap_or(0));
        judge_room(present, Code::LimitReached)?;
        refuse_name(tx, workspace, &name, None, Code::AlreadyExists).await?;
        let id: ServiceAccountId = tx.fresh_id();
        let (secret, hash) = tx.db().keys().machine_secret(MachineKind::ServiceAccount, id.uuid())?;
        let account = ServiceAccount {
            id,
            workspace,
            name: name.as_str().to_owned(),
            description: description.map_or_else(String::new, Message::into_string),
            role,
            secret_hint: hint(&secret),
            secret_made_at: tx.now(),
            created_by: access.actor().person(),
            created_at: tx.now(),
            updated_at: tx.now(),
            last_used_at: None,
            generation: 1,
        };
        tx.defer(Sql::insert(
            "service_accounts",
            [
                ("id", id.uuid().into()),
                ("workspace_id", workspace.uuid().into()),
                ("name", account.name.as_str().into()),
                ("name_key", name_key(&name).into()),
                ("description", account.description.as_str().into()),
                ("role_id", account.role.id.uuid().into()),
                ("generation", account.generation.into()),
                ("secret_hash", hash.to_vec().into()),
                ("secret_hint", account.secret_hint.as_str().into()),
                ("secret_made_at", tx.now().into()),
                ("created_by", account.created_by.map(UserId::uuid).into()),
                ("created_at", tx.now().into()),
                ("updated_at", tx.now().into()),
            ],
        ));
        tx.audit(&entry(Action::CreateServiceAccount, &account).after(shown(&account)))?;
        Ok(WithSecret { account, secret: secret.into() })
    })
    .await
}

fn entry(action: Action, account: &ServiceAccount) -> Entry {
    Entry::of(action, ObjectKind::ServiceAccount, account.id, account.name.as_str())
}

/// A service account, as the audit log tells it: of its secret only the first characters, which every list shows.
fn shown(account: &ServiceAccount) -> Value {
    json!({
        "name": account.name,
        "description": account.description,
        "role": account.role.key,
        "secretHint": account.secret_hint,
        "generation": account.generation,
    })
}

/// What changes of a service account; `None` leaves it as it is.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// The name people read.
    pub name: Option<DisplayName>,
    /// What it is for; `Some(None)` clears it.
    pub description: Option<Option<Message>>,
    /// Its role.
    pub role: Option<RoleId>,
}

/// Changes a service account. Another role holds from its next request on, for its keys too.
pub async fn update(
    db: &Db,
    proof: &Manage,
    id: ServiceAccountId,
    change: Change,
) -> Result<ServiceAccount, OpError<UpdateServiceAccountCode>> {
    use UpdateServiceAccountCode as Code;
    db.write(proof, async |tx| {
        let access = tx.access()?.clone();
        let workspace = access.workspace();
        let account = find(tx, workspace, id).await?;
        let mut account = account.ok_or_else(|| no_such_account(Code::NotFound))?;
        let was = shown(&account);
        if let Some(role) = change.role {
            let role = grantable_role(tx, workspace, role).await?.ok_or_else(no_such_role)?;
            if role.id != account.role.id {
                judge_grant(access.permissions(), &role, Code::PrivilegeEscalation, "role")?;
                account.role = role;
                tx.append(Event::Machines { workspace });
            }
        }
        if let Some(name) = &change.name {
            refuse_name(tx, workspace, name, Some(id), Code::AlreadyExists).await?;
            account.name = name.as_str().to_owned();
        }
        if let Some(description) = change.description {
            account.description = description.map_or_else(String::new, Message::into_string);
        }
        account.updated_at = tx.now();
        let mut sql = Sql::new("UPDATE service_accounts SET description = ")
            .bind(account.description.as_str())
            .push(", role_id = ")
            .bind(account.role.id.uuid())
            .push(", updated_at = ")
            .bind(tx.now());
        if let Some(name) = &change.name {
            sql = sql.push(", name = ").bind(name.as_str()).push(", name_key = ").bind(name_key(name));
        }
        tx.run(sql.push(" WHERE id = ").bind(id.uuid())).await?;
        tx.audit(&entry(Action::UpdateServiceAccount, &account).changed(was, shown(&account)))?;
        Ok(account)
    })
    .await
}

/// Makes a new secret. The old one and every access token that was got with it are good no longer; API keys stay.
pub async fn rotate_secret(
    db: &Db,
    proof: &Manage,
    id: ServiceAccountId,
) -> Result<WithSecret, OpError<RotateServiceAccountSecretCode>> {
    use RotateServiceAccountSecretCode as Code;
    db.write(proof, async |tx| {
        let access = tx.access()?.clone();
        let workspace = access.workspace();
        let account = find(tx, workspace, id).await?;
        let mut account = account.ok_or_else(|| no_such_account(Code::NotFound))?;
        judge_end(api_keys::end_of_actor(tx).await?, Code::PrivilegeEscalation)?;
        // Whoever has the secret has the account's rights.
        judge_grant(access.permissions(), &account.role, Code::PrivilegeEscalation, "serviceAccountId")?;
        let (secret, hash) = tx.db().keys().machine_secret(MachineKind::ServiceAccount, id.uuid())?;
        let was = shown(&account);
        account.secret_hint = hint(&secret);
        account.secret_made_at = tx.now();
        account.generation += 1;
        let sql = Sql::new("UPDATE service_accounts SET secret_hash = ")
            .bind(hash.to_vec())
            .push(", secret_hint = ")
            .bind(account.secret_hint.as_str())
            .push(", secret_made_at = ")
            .bind(tx.now())
            .push(", generation = ")
            .bind(account.generation)
            .push(" WHERE id = ")
            .bind(id.uuid());
        tx.run(sql).await?;
        tx.append(Event::Machines { workspace });
        tx.audit(&entry(Action::RotateServiceAccountSecret, &account).changed(was, shown(&account)))?;
        Ok(WithSecret { account, secret: secret.into() })
    })
    .await
}

/// Deletes a service account with its keys: from the next request on it is nobody.
pub async fn delete(
    db: &Db,
    proof: &Manage,
    id: ServiceAccountId,
) -> Result<ServiceAccount, OpError<DeleteServiceAccountCode>> {
    db.write(proof, async |tx| {
        let workspace = proof.access().workspace();
        let account = find(tx, workspace, id).await?;
        let account = account.ok_or_else(|| no_such_account(DeleteServiceAccountCode::NotFound))?;
        // Before it is gone: it may be the one that does it.
        tx.audit(&entry(Action::DeleteServiceAccount, &account).before(shown(&account)))?;
        tx.run(Sql::new("DELETE FROM service_accounts WHERE id = ").bind(id.uuid())).await?;
        tx.append(Event::Machines { workspace });
        Ok(account)
    })
    .await
}

/// An access token for whoever has the secret of the service account: two hours long. Denied for any other secret, and while
/// the account's workspace is archived.
pub async fn access_token(
    db: &Db,
    proof: &Open,
    client_id: &str,
    secret: &str,
) -> Result<AccessToken, ReadError> {
    #[derive(FromQueryResult)]
    struct Row {
        generation: i32,
    }
    // The text of the secret names the account too: made-up ones are refused without a look into the database.
    let read = db.keys().read_machine_secret(MachineKind::ServiceAccount, secret);
    let claimed = client_id.parse::<ServiceAccountId>().ok();
    let (id, hash) = read.filter(|(id, _)| claimed.map(Uuid::from) == Some(*id)).ok_or(Denied::KeyEnded)?;
    let sql = Sql::new(
        "SELECT sa.generation FROM service_accounts sa JOIN workspaces w ON w.id = sa.workspace_id AND w.status = 'ACTIVE' \
         WHERE sa.id = ",
    )
    .bind(id)
    .push(" AND sa.secret_hash = ")
    .bind(hash.to_vec());
    let Row { generation } = db.read(proof).one(sql).await?.ok_or(Denied::KeyEnded)?;
    let actor = Actor::ServiceAccount { account: id.into(), generation };
    Ok(db.keys().access_token(actor, db.now())?)
}
