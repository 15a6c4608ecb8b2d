//! Tokens that tell other services who somebody is in a workspace: signed, so that whoever has the published keys can read
//! them, and asked about here by those who want to know what holds now.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use guildhall_domain::{
    access::{Actor, Denied, Granted, Open, OrganizationRole, System, SystemRole, WorkspaceAccess, perm},
    ids::{ApiKeyId, ServiceAccountId, SessionId, UserId, WorkspaceId},
};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use sea_orm::FromQueryResult;
use serde::{Deserialize, Serialize};

use crate::{
    db::Db,
    error::{Fault, ReadError},
    signing::{self, PublicKey, Purpose},
    sql::Sql,
};

/// How long a token lasts.
const LIFETIME: TimeDelta = TimeDelta::hours(1);

/// What the tokens call themselves, so that nobody takes one for a token of another kind (RFC 8725, section 3.11).
const TYPE: &str = "workspace+jwt";

/// A token and when it ends.
#[derive(Clone)]
pub struct WorkspaceToken {
    /// The JWT.
    pub token: String,
    /// Its `exp`.
    pub expires_at: DateTime<Utc>,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    iat: i64,
    exp: i64,
    /// The workspace, by its id and its name in addresses.
    workspace: String,
    workspace_name: String,
    /// The key of the role in the workspace; none for an API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    /// Which session of a person, secret of a service account or secret of a key it was asked for with.
    ver: String,
}

#[expect(clippy::disallowed_methods, reason = "the service signs on its own behalf")]
fn service() -> System {
    System::named("workspace tokens")
}

/// The role that the actor has in effect; a key has none, whatever its service account's is: it is limited besides.
fn role_of(access: &WorkspaceAccess) -> Option<String> {
    if matches!(access.actor(), Actor::Key { .. }) {
        return None;
    }
    match access.organization_role() {
        Some(role) if role >= OrganizationRole::Admin => Some(SystemRole::Admin.key().to_owned()),
        _ => access.role().map(|role| role.key.clone()),
    }
}

/// A token for the actor, good for an hour. `audience` says for which service it is.
pub async fn issue(
    db: &Db,
    proof: &Granted<perm::WorkspaceView>,
    workspace_name: &str,
    audience: Option<&str>,
) -> Result<WorkspaceToken, ReadError> {
    let access = proof.access();
    if access.is_archived() {
        return Err(Denied::Archived.into());
    }
    let (sub, ver) = match access.actor() {
        Actor::User { user, session } => (user.to_string(), session.to_string()),
        Actor::ServiceAccount { account, generation } => (account.to_string(), generation.to_string()),
        Actor::Key { key, hash } => (key.to_string(), db.keys().version_of(&hash)),
    };
    let (now, expires_at) = (db.now(), db.now() + LIFETIME);
    let claims = Claims {
        iss: db.keys().issuer().to_owned(),
        aud: audience.unwrap_or(db.keys().audience()).to_owned(),
        sub,
        iat: now.timestamp(),
        exp: expires_at.timestamp(),
        workspace: access.workspace().to_string(),
        workspace_name: workspace_name.to_owned(),
        role: role_of(access),
        ver,
    };
    let key = signing::current(db, &service(), Purpose::WorkspaceTokens).await?;
    let mut header = Header::new(Algorithm::EdDSA);
    header.typ = Some(TYPE.to_owned());
    header.kid = Some(key.id.clone());
    let token = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ed_der(&key.pkcs8()))
        .map_err(|_| Fault::Crypto("a workspace token could not be signed"))?;
    Ok(WorkspaceToken { token, expires_at })
}

/// The keys with which tokens that may still be good are checked; the first is made.
pub async fn published(db: &Db) -> Result<Vec<PublicKey>, Fault> {
    let mut keys = signing::published(db, &service(), Purpose::WorkspaceTokens).await?;
    if keys.iter().all(|key| key.retired_at.is_some()) {
        signing::current(db, &service(), Purpose::WorkspaceTokens).await?;
        keys = signing::published(db, &service(), Purpose::WorkspaceTokens).await?;
    }
    let since = db.now() - LIFETIME - TimeDelta::minutes(5);
    Ok(keys.into_iter().filter(|key| key.retired_at.is_none_or(|retired| retired > since)).collect())
}

/// Makes a new key that signs. Tokens of the one before stay good until they end.
pub async fn rotate_key(db: &Db) -> Result<String, Fault> {
    Ok(signing::rotate(db, &service(), Purpose::WorkspaceTokens).await?.id)
}

/// What the holder of a workspace token or an API key may do now.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The holder's rights.
    pub access: Arc<WorkspaceAccess>,
    /// The service that the token was made for; `None` of an API key.
    pub audience: Option<String>,
}

/// What the holder of a workspace token or an API key may do now; `None` where it is good for nothing any more. With
/// `audience`, a workspace token is good only if it was made for that service.
pub async fn check(
    db: &Db,
    proof: &Open,
    token: &str,
    audience: Option<&str>,
) -> Result<Option<Checked>, Fault> {
    let (actor, workspace, made_for) = match db.keys().read_api_key(token) {
        Some(actor) => {
            #[derive(FromQueryResult)]
            struct Row {
                workspace_id: uuid::Uuid,
            }
            let sql = Sql::new("SELECT workspace_id FROM api_keys WHERE id = ").bind(actor.uuid());
            let Some(row) = db.read(proof).one::<Row>(sql).await? else { return Ok(None) };
            (actor, WorkspaceId::from(row.workspace_id), None)
        }
        None => match read(db, proof, token).await? {
            Some((actor, workspace, made_for)) => (actor, workspace, Some(made_for)),
            None => return Ok(None),
        },
    };
    if made_for.as_deref().zip(audience).is_some_and(|(made_for, audience)| made_for != audience) {
        return Ok(None);
    }
    match db.standing(actor, workspace).await {
        Ok(standing) if standing.access.is_archived() => Ok(None),
        Ok(standing) => Ok(Some(Checked { access: standing.access, audience: made_for })),
        Err(ReadError::Denied(_)) => Ok(None),
        Err(ReadError::Fault(fault)) => Err(fault),
    }
}

/// Whom a workspace token stands for, where, and the service that it was made for.
async fn read(db: &Db, proof: &Open, token: &str) -> Result<Option<(Actor, WorkspaceId, String)>, Fault> {
    let Ok(header) = jsonwebtoken::decode_header(token) else { return Ok(None) };
    if header.typ.as_deref() != Some(TYPE) {
        return Ok(None);
    }
    let keys = published(db).await?;
    let Some(key) = keys.iter().find(|key| Some(&key.id) == header.kid.as_ref()) else { return Ok(None) };
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_issuer(&[db.keys().issuer()]);
    // Compared by whoever asks for that.
    validation.validate_aud = false;
    // Judged against the service's own clock.
    validation.validate_exp = false;
    let decoded = jsonwebtoken::decode::<Claims>(token, &DecodingKey::from_ed_der(&key.key), &validation);
    let Ok(claims) = decoded.map(|decoded| decoded.claims) else { return Ok(None) };
    if claims.exp <= db.now().timestamp() {
        return Ok(None);
    }
    let Ok(workspace) = claims.workspace.parse::<WorkspaceId>() else { return Ok(None) };
    let actor = if let Ok(user) = claims.sub.parse::<UserId>() {
        claims.ver.parse::<SessionId>().ok().map(|session| Actor::User { user, session })
    } else if let Ok(account) = claims.sub.parse::<ServiceAccountId>() {
        claims.ver.parse().ok().map(|generation| Actor::ServiceAccount { account, generation })
    } else if let Ok(key) = claims.sub.parse::<ApiKeyId>() {
        key_of(db, proof, key, &claims.ver).await?
    } else {
        None
    };
    Ok(actor.map(|actor| (actor, workspace, claims.aud)))
}

/// The key with that of its secrets which has the version.
async fn key_of(db: &Db, proof: &Open, key: ApiKeyId, version: &str) -> Result<Option<Actor>, Fault> {
    #[derive(FromQueryResult)]
    struct Row {
        secret_hash: Vec<u8>,
        previous_hash: Option<Vec<u8>>,
    }
    let sql = Sql::new("SELECT secret_hash, previous_hash FROM api_keys WHERE id = ").bind(key.uuid());
    let Some(row) = db.read(proof).one::<Row>(sql).await? else { return Ok(None) };
    let hashes = [Some(row.secret_hash), row.previous_hash].into_iter().flatten();
    let mut hashes = hashes.filter_map(|hash| <[u8; 32]>::try_from(hash).ok());
    Ok(hashes.find(|hash| db.keys().version_of(hash) == version).map(|hash| Actor::Key { key, hash }))
}
