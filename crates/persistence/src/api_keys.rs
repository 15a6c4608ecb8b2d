//! API keys of workspaces and of service accounts: listing, making, rotating, revoking.

use std::hash::{Hash, Hasher};

use chrono::{DateTime, TimeDelta, Utc};
use guildhall_domain::{
    access::{Actor, Granted, PermissionSet, perm},
    api_keys::{
        ApiKeyStatus, CreateApiKeyCode, DEFAULT_NAME, RevokeApiKeyCode, RotateApiKeyCode,
        RotateDefaultApiKeyCode, default_permissions, end_of_key, judge_grant, judge_room,
    },
    audit::{Action, Entry, ObjectKind},
    events::Event,
    ids::{ApiKeyId, ServiceAccountId, UserId, WorkspaceId},
    machines::MachineKind,
    page::{Page, PageArgs},
    refusal::{Refusal, RefusalCode},
    text::DisplayName,
};
use sea_orm::{DbErr, FromQueryResult, QueryResult};
use secrecy::SecretString;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    access::{names_of, numbers_of, page_by, pages_of, permissions},
    db::{Ask, Db, Tx},
    error::{Fault, OpError, ReadError},
    secret_text::hint,
    service_accounts,
    sql::{AT_ONCE, Number, Placed, Single, Sql},
};

/// An API key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// The workspace it is good in.
    pub workspace: WorkspaceId,
    /// The service account it is of; `None`: of the workspace itself.
    pub account: Option<ServiceAccountId>,
    /// The name people read.
    pub name: String,
    /// How the secret begins.
    pub prefix: String,
    /// What it is limited to.
    pub permissions: PermissionSet,
    /// Whether it is the workspace's default key.
    pub is_default: bool,
    /// Who made it.
    pub created_by: Option<UserId>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it got its present secret, if not when it was made.
    pub rotated_at: Option<DateTime<Utc>>,
    /// How long the secret before that one is good beside it.
    pub previous_until: Option<DateTime<Utc>>,
    /// When it ends by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// When somebody ended it.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it was used last; some seconds behind.
    pub last_used_at: Option<DateTime<Utc>>,
    /// Whether it is good.
    pub status: ApiKeyStatus,
}

impl ApiKey {
    fn at(mut self, now: DateTime<Utc>) -> Self {
        self.status = ApiKeyStatus::of(self.expires_at, self.revoked_at, now);
        self.previous_until = self.previous_until.filter(|until| *until > now);
        self
    }
}

const COLUMNS: &str = "k.id, k.workspace_id, k.service_account_id, k.name, k.prefix, k.permissions, k.is_default, k.created_by, \
     k.created_at, k.rotated_at, k.previous_until, k.expires_at, k.revoked_at, k.last_used_at";

impl FromQueryResult for ApiKey {
    fn from_query_result(row: &QueryResult, prefix: &str) -> Result<Self, DbErr> {
        Ok(Self {
            id: row.try_get::<Uuid>(prefix, "id")?.into(),
            workspace: row.try_get::<Uuid>(prefix, "workspace_id")?.into(),
            account: row.try_get::<Option<Uuid>>(prefix, "service_account_id")?.map(Into::into),
            name: row.try_get(prefix, "name")?,
            prefix: row.try_get(prefix, "prefix")?,
            permissions: permissions(&row.try_get::<String>(prefix, "permissions")?)?,
            is_default: row.try_get(prefix, "is_default")?,
            created_by: row.try_get::<Option<Uuid>>(prefix, "created_by")?.map(Into::into),
            created_at: row.try_get(prefix, "created_at")?,
            rotated_at: row.try_get(prefix, "rotated_at")?,
            previous_until: row.try_get(prefix, "previous_until")?,
            expires_at: row.try_get(prefix, "expires_at")?,
            revoked_at: row.try_get(prefix, "revoked_at")?,
            last_used_at: row.try_get(prefix, "last_used_at")?,
            status: ApiKeyStatus::Active,
        })
    }
}

type Manage = Granted<perm::ApiKeysManage>;

/// The keys to list. Two are equal that have the same answer.
#[derive(Clone)]
pub struct Keys {
    /// The asker may manage the workspace's keys.
    pub proof: Manage,
    /// Only those of that service account.
    pub account: Option<ServiceAccountId>,
    /// Whether those that have ended are listed as well.
    pub include_ended: bool,
}

impl Keys {
    fn parts(&self) -> (WorkspaceId, Option<ServiceAccountId>, bool) {
        (self.proof.access().workspace(), self.account, self.include_ended)
    }

    fn sql(&self, columns: &str, now: DateTime<Utc>) -> Sql {
        let mut sql = Sql::new(format!("SELECT {columns} FROM api_keys k WHERE k.workspace_id = "))
            .bind(self.proof.access().workspace().uuid());
        if let Some(account) = self.account {
            sql = sql.push(" AND k.service_account_id = ").bind(account.uuid());
        }
        if !self.include_ended {
            sql = good(sql, now);
        }
        sql
    }
}

impl PartialEq for Keys {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Keys {}

impl Hash for Keys {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

fn good(sql: Sql, now: DateTime<Utc>) -> Sql {
    sql.push(" AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > ").bind(now).push(")")
}

/// A page of each of those lists of keys, by age.
pub async fn pages(db: &Db, wanted: &[(Keys, PageArgs<Uuid>)]) -> Result<Vec<Page<ApiKey>>, ReadError> {
    let now = db.now();
    let mut pages = Vec::with_capacity(wanted.len());
    for wanted in wanted.chunks(AT_ONCE) {
        let Some((first, _)) = wanted.first() else { break };
        let each = wanted.iter().map(|(keys, args)| page_by(keys.sql("k.id AS id", now), args, "k.id"));
        let sql = Sql::new(format!("SELECT listed.place, {COLUMNS} FROM ("))
            .append(Sql::each(each))
            .push(") AS listed, api_keys k WHERE k.id = listed.id ORDER BY k.id");
        let rows: Vec<Placed<ApiKey>> = db.read(&first.proof).all(sql).await?;
        let found = pages_of(wanted.iter().map(|(_, args)| args), rows);
        pages.extend(found.into_iter().map(|page| page.map(|key| key.at(now))));
    }
    Ok(pages)
}

/// How many keys each of those lists has in all.
pub async fn numbers(db: &Db, wanted: &[Keys]) -> Result<Vec<u64>, ReadError> {
    let now = db.now();
    let mut numbers = Vec::with_capacity(wanted.len());
    for wanted in wanted.chunks(AT_ONCE) {
        let Some(first) = wanted.first() else { break };
        let sql = Sql::each(wanted.iter().map(|keys| keys.sql("count(*) AS number", now)));
        numbers.extend(numbers_of(db.read(&first.proof).all::<Placed<Number>>(sql).await?));
    }
    Ok(numbers)
}

/// The default keys of those workspaces; none of one that has none.
pub async fn defaults(db: &Db, proofs: &[Manage]) -> Result<Vec<ApiKey>, ReadError> {
    let Some(first) = proofs.first() else { return Ok(Vec::new()) };
    let sql = Sql::new(format!(
        "SELECT {COLUMNS} FROM api_keys k WHERE k.is_default AND k.revoked_at IS NULL AND k.workspace_id IN "
    ))
    .bind_list(proofs.iter().map(|proof| proof.access().workspace().uuid()));
    let keys: Vec<ApiKey> = db.read(first).all(sql).await?;
    Ok(keys.into_iter().map(|key| key.at(db.now())).collect())
}

/// One of the workspace's keys.
pub async fn by_id(db: &Db, proof: &Manage, id: ApiKeyId) -> Result<Option<ApiKey>, ReadError> {
    Ok(find(&db.read(proof), proof.access().workspace(), id).await?)
}

async fn find(tx: &impl Ask, workspace: WorkspaceId, id: ApiKeyId) -> Result<Option<ApiKey>, Fault> {
    let sql = Sql::new(format!("SELECT {COLUMNS} FROM api_keys k WHERE k.workspace_id = "))
        .bind(workspace.uuid())
        .push(" AND k.id = ")
        .bind(id.uuid());
    Ok(tx.one::<ApiKey>(sql).await?.map(|key| key.at(tx.now())))
}

/// A key together with its secret, which is told this once.
#[derive(Debug)]
pub struct WithSecret {
    /// The key.
    pub key: ApiKey,
    /// Its secret.
    pub secret: SecretString,
}

/// A key to make.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// The service account it is of; `None`: of the workspace itself.
    pub account: Option<ServiceAccountId>,
    /// The name people read.
    pub name: DisplayName,
    /// What it is limited to.
    pub permissions: PermissionSet,
    /// When it ends by itself, if that is asked for.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Makes a key.
pub async fn create(db: &Db, proof: &Manage, new: NewKey) -> Result<WithSecret, OpError<CreateApiKeyCode>> {
    use CreateApiKeyCode as Code;
    db.write(proof, async |tx| {
        let access = tx.access()?.clone();
        if let Some(account) = new.account
            && service_accounts::find(tx, access.workspace(), account).await?.is_none()
        {
            let message = "This workspace has no such service account.";
            return Err(Refusal::new(Code::NotFound, message).at("serviceAccountId").into());
        }
        // All that it names, even what the account's role does not hold today: it may tomorrow.
        judge_grant(access.permissions(), new.permissions, Code::PrivilegeEscalation)?;
        let wish = end_of_key(new.expires_at, access.policy().api_key_max_lifetime_days, tx.now());
        let expires_at = wish.map_err(|fault| {
            Refusal::new(Code::InvalidInput, format!("`expiresAt` {}.", fault.0)).at("expiresAt")
        })?;
        let (name, account) = (new.name.into_string(), new.account);
        let made = make(tx, Code::LimitReached, name, account, new.permissions, false, expires_at).await?;
        tx.audit(&entry(Action::CreateApiKey, &made.key).after(shown(&made.key)))?;
        Ok(made)
    })
    .await
}

fn entry(action: Action, key: &ApiKey) -> Entry {
    Entry::of(action, ObjectKind::ApiKey, key.id, key.name.as_str())
}

/// A key, as the audit log tells it: of its secret only the first characters, which every list shows.
fn shown(key: &ApiKey) -> Value {
    let permissions: Vec<&str> = key.permissions.iter().map(|permission| permission.name()).collect();
    json!({
        "name": key.name,
        "prefix": key.prefix,
        "permissions": permissions,
        "serviceAccount": key.account.map(|account| account.to_string()),
        "expiresAt": key.expires_at,
        "previousUntil": key.previous_until,
        "revokedAt": key.revoked_at,
    })
}

/// When the key with which this is asked for ends by itself: what it makes lasts no longer.
pub(crate) async fn end_of_actor(tx: &Tx<'_>) -> Result<Option<DateTime<Utc>>, Fault> {
    let access = tx.access()?.clone();
    let Actor::Key { key, .. } = access.actor() else { return Ok(None) };
    Ok(find(tx, access.workspace(), key).await?.and_then(|key| key.expires_at))
}

fn earlier(one: Option<DateTime<Utc>>, other: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

async fn refuse_more<C>(tx: &Tx<'_>, workspace: WorkspaceId, limit_reached: C) -> Result<(), OpError<C>> {
    let sql = Sql::new("SELECT count(*) FROM api_keys k WHERE k.workspace_id = ").bind(workspace.uuid());
    let present = tx.one::<Single<i64>>(good(sql, tx.now())).await?;
    let present = present.map_or(0, |Single(present)| u64::try_from(present).unwrap_or(0));
    Ok(judge_room(present, limit_reached)?)
}

/// Writes a key down, if there is room for one more. It ends no later than a key that asks for it.
async fn make<C>(
    tx: &Tx<'_>,
    limit_reached: C,
    name: String,
    account: Option<ServiceAccountId>,
    permissions: PermissionSet,
    is_default: bool,
    expires_at: Option<DateTime<Utc>>,
) -> Result<WithSecret, OpError<C>> {
    let access = tx.access()?;
    refuse_more(tx, access.workspace(), limit_reached).await?;
    let id: ApiKeyId = tx.fresh_id();
    let (secret, hash) = tx.db().keys().machine_secret(MachineKind::ApiKey, id.uuid())?;
    let key = ApiKey {
        id,
        workspace: access.workspace(),
        account,
        name,
        prefix: hint(&secret),
        permissions,
        is_default,
        created_by: access.actor().person(),
        created_at: tx.now(),
        rotated_at: None,
        previous_until: None,
        expires_at: earlier(expires_at, end_of_actor(tx).await?),
        revoked_at: None,
        last_used_at: None,
        status: ApiKeyStatus::Active,
    };
    tx.defer(Sql::insert(
        "api_keys",
        [
            ("id", key.id.uuid().into()),
            ("workspace_id", key.workspace.uuid().into()),
            ("service_account_id", key.account.map(ServiceAccountId::uuid).into()),
            ("name", key.name.as_str().into()),
            ("prefix", key.prefix.as_str().into()),
            ("secret_hash", hash.to_vec().into()),
            ("permissions", names_of(key.permissions)?.into()),
            ("is_default", key.is_default.into()),
            ("created_by", key.created_by.map(UserId::uuid).into()),
            ("created_at", key.created_at.into()),
            ("expires_at", key.expires_at.into()),
        ],
    ));
    Ok(WithSecret { key, secret: secret.into() })
}

fn no_such_key<C>(code: C) -> Refusal<C> {
    Refusal::new(code, "This workspace has no such API key.").at("apiKeyId")
}

/// Gives a key a new secret. The one before stays good for `overlap`, and not longer than the key itself; one before that is
/// good no longer.
pub async fn rotate(
    db: &Db,
    proof: &Manage,
    id: ApiKeyId,
    overlap: TimeDelta,
) -> Result<WithSecret, OpError<RotateApiKeyCode>> {
    use RotateApiKeyCode as Code;
    db.write(proof, async |tx| {
        let access = tx.access()?.clone();
        let key = find(tx, access.workspace(), id).await?.ok_or_else(|| no_such_key(Code::NotFound))?;
        if key.status != ApiKeyStatus::Active {
            return Err(
                Refusal::new(Code::KeyEnded, "The key was revoked or has expired: make a new one.").into()
            );
        }
        // Whoever has the secret has what the key gives.
        judge_grant(access.permissions(), key.permissions, Code::PrivilegeEscalation)?;
        let was = shown(&key);
        let made = renew(tx, key, overlap).await?;
        tx.audit(&entry(Action::RotateApiKey, &made.key).changed(was, shown(&made.key)))?;
        Ok(made)
    })
    .await
}

async fn renew<C: RefusalCode>(
    tx: &mut Tx<'_>,
    mut key: ApiKey,
    overlap: TimeDelta,
) -> Result<WithSecret, OpError<C>> {
    let (secret, hash) = tx.db().keys().machine_secret(MachineKind::ApiKey, key.id.uuid())?;
    key.prefix = hint(&secret);
    key.rotated_at = Some(tx.now());
    // A policy that was made stricter since holds from the new secret on.
    let days = tx.access()?.policy().api_key_max_lifetime_days;
    let longest = earlier(end_of_key(None, days, tx.now()).unwrap_or_default(), end_of_actor(tx).await?);
    key.expires_at = earlier(key.expires_at, longest);
    key.previous_until = (overlap > TimeDelta::zero()).then(|| tx.now() + overlap);
    let sql = Sql::new("UPDATE api_keys SET previous_hash = CASE WHEN ")
        .bind(key.previous_until.is_some())
        .push(" THEN secret_hash END, previous_until = ")
        .bind(key.previous_until)
        .push(", secret_hash = ")
        .bind(hash.to_vec())
        .push(", prefix = ")
        .bind(key.prefix.as_str())
        .push(", expires_at = ")
        .bind(key.expires_at)
        .push(", rotated_at = ")
        .bind(tx.now())
        .push(" WHERE id = ")
        .bind(key.id.uuid());
    tx.run(sql).await?;
    tx.append(Event::Machines { workspace: key.workspace });
    Ok(WithSecret { key, secret: secret.into() })
}

/// Gives the workspace's default key a new secret, and makes that key where there is none. The old secret is good no longer.
pub async fn rotate_default(db: &Db, proof: &Manage) -> Result<WithSecret, OpError<RotateDefaultApiKeyCode>> {
    use RotateDefaultApiKeyCode as Code;
    db.write(proof, async |tx| {
        let access = tx.access()?.clone();
        let workspace = access.workspace();
        let sql = Sql::new(format!(
            "SELECT {COLUMNS} FROM api_keys k WHERE k.is_default AND k.revoked_at IS NULL AND k.workspace_id = "
        ));
        let present = tx.one::<ApiKey>(sql.bind(workspace.uuid())).await?.map(|key| key.at(tx.now()));
        let wanted = present.as_ref().map_or_else(default_permissions, |key| key.permissions);
        judge_grant(access.permissions(), wanted, Code::PrivilegeEscalation)?;
        let was = present.as_ref().map(shown);
        let made = match present {
            Some(key) if key.status == ApiKeyStatus::Active => renew(tx, key, TimeDelta::zero()).await?,
            ended => {
                if let Some(key) = ended {
                    end(tx, &key).await?;
                }
                let days = access.policy().api_key_max_lifetime_days;
                let end = end_of_key(None, days, tx.now()).unwrap_or_default();
                make(tx, Code::LimitReached, DEFAULT_NAME.to_owned(), None, wanted, true, end).await?
            }
        };
        let entry = entry(Action::RotateDefaultApiKey, &made.key);
        tx.audit(&match was {
            Some(was) => entry.changed(was, shown(&made.key)),
            None => entry.after(shown(&made.key)),
        })?;
        Ok(made)
    })
    .await
}

/// Ends a key: from the next request on it is good for nothing. One that has ended before stays as it is.
pub async fn revoke(db: &Db, proof: &Manage, id: ApiKeyId) -> Result<ApiKey, OpError<RevokeApiKeyCode>> {
    db.write(proof, async |tx| {
        let workspace = proof.access().workspace();
        let key = find(tx, workspace, id).await?;
        let key = key.ok_or_else(|| no_such_key(RevokeApiKeyCode::NotFound))?;
        if key.revoked_at.is_some() {
            return Ok(key);
        }
        end(tx, &key).await?;
        tx.audit(&entry(Action::RevokeApiKey, &key).before(shown(&key)))?;
        Ok(ApiKey { revoked_at: Some(tx.now()), ..key }.at(tx.now()))
    })
    .await
}

async fn end(tx: &mut Tx<'_>, key: &ApiKey) -> Result<(), Fault> {
    let by = tx.access()?.actor().person();
    let sql = Sql::new("UPDATE api_keys SET revoked_at = ")
        .bind(tx.now())
        .push(", revoked_by = ")
        .bind(by.map(UserId::uuid))
        .push(", previous_hash = NULL, previous_until = NULL WHERE id = ")
        .bind(key.id.uuid());
    tx.run(sql).await?;
    tx.append(Event::Machines { workspace: key.workspace });
    Ok(())
}
