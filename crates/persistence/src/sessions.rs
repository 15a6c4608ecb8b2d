//! Signed-in devices: refreshing, listing, ending.

use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Actor, Open, OwnSession},
    activity::LoginCode,
    events::Event,
    ids::{SessionId, UserId},
    page::{Page, PageArgs},
    refusal::Refusal,
    sessions::{
        RefreshSessionCode, RefreshVerdict, RevokeSessionCode, SessionFacts, SignOutCode, judge_refresh,
    },
};
use sea_orm::{ActiveValue::Set, EntityTrait, FromQueryResult};
use uuid::Uuid;

use crate::{
    access::{count, page_by},
    activity::{self, By},
    db::{Db, Tx},
    entities::sessions,
    error::{Fault, OpError, ReadError},
    keys::{AccessToken, Keys, random},
    sql::{Single, Sql},
};

/// The device a request comes from, as it says of itself.
#[derive(Clone, Debug, Default)]
pub struct Device {
    /// The `User-Agent`, at most 200 characters.
    pub name: Option<String>,
    /// The address the request came from.
    pub ip: Option<String>,
}

/// What a signed-in client holds.
#[derive(Clone)]
pub struct SignedIn {
    /// Who is signed in, on which session.
    pub actor: Actor,
    /// For the `Authorization` header.
    pub access: AccessToken,
    /// For `refreshSession`, once.
    pub refresh_token: String,
    /// When the session ends unless it is refreshed.
    pub refresh_expires_at: DateTime<Utc>,
}

/// Opens a session for a person whose identity was proven by a password, or what stands for one.
pub(crate) async fn open(tx: &Tx<'_>, user: UserId, device: &Device) -> Result<SignedIn, Fault> {
    open_by(tx, user, By::Password, device).await
}

/// Opens a session for a person whose identity was proven, and keeps by what.
pub(crate) async fn open_by(tx: &Tx<'_>, user: UserId, by: By, device: &Device) -> Result<SignedIn, Fault> {
    let id: SessionId = tx.fresh_id();
    let nonce = random::<32>()?;
    let now = tx.now();
    let expires_at = now + tx.db().keys().refresh_lifetime;
    let row = sessions::ActiveModel {
        id: Set(id.uuid()),
        user_id: Set(user.uuid()),
        nonce: Set(nonce.to_vec()),
        generation: Set(1),
        rotated_at: Set(now),
        device: Set(device.name.as_deref().map(|name| name.chars().take(200).collect())),
        ip: Set(device.ip.clone()),
        created_at: Set(now),
        last_seen_at: Set(now),
        expires_at: Set(expires_at),
        ended_at: Set(None),
        identity_provider_id: Set(match by {
            By::Password => None,
            By::Provider(provider) => Some(provider),
        }),
    };
    sessions::Entity::insert(row).exec_without_returning(tx.conn()).await?;
    activity::note_sign_in(tx, user, by, device).await?;
    let actor = Actor::User { user, session: id };
    Ok(SignedIn {
        actor,
        access: tx.db().keys().access_token(actor, now)?,
        refresh_token: tx.db().keys().refresh_token(id, 1, &nonce),
        refresh_expires_at: expires_at,
    })
}

#[derive(Debug, FromQueryResult)]
struct Stored {
    user_id: Uuid,
    nonce: Vec<u8>,
    generation: i32,
    rotated_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
    identity_provider_id: Option<Uuid>,
    user_status: String,
}

/// Exchanges a refresh token for a new pair of tokens. Within the grace the token before the newest gets the
/// same answer as the newest got, so that tabs which refresh at once all go on; an older one ends the
/// session.
pub async fn refresh(
    db: &Db,
    proof: &Open,
    token: &str,
    device: &Device,
) -> Result<SignedIn, OpError<RefreshSessionCode>> {
    let outcome = try_to_refresh(db, proof, token, device).await;
    if db.is_rehearsing() && matches!(outcome, Err(OpError::Refused(_))) {
        // A token that comes back ends its session also when it is only tried: it tells that somebody has stolen it.
        db.end_rehearsal().await;
        return try_to_refresh(&db.in_earnest(), proof, token, device).await;
    }
    outcome
}

async fn try_to_refresh(
    db: &Db,
    proof: &Open,
    token: &str,
    device: &Device,
) -> Result<SignedIn, OpError<RefreshSessionCode>> {
    let invalid = || Refusal::new(RefreshSessionCode::SessionInvalid, "Sign in again.").at("refreshToken");
    let Some(claim) = Keys::read_refresh_token(token) else { return Err(invalid().into()) };
    let outcome = db
        .write(proof, async |tx| {
            let lock = if db.engine() == crate::Engine::Postgres { " FOR UPDATE OF s" } else { "" };
            let sql = Sql::new(
                "SELECT s.user_id, s.nonce, s.generation, s.rotated_at, s.expires_at, s.ended_at, s.identity_provider_id, \
                 u.status AS user_status FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id = ",
            )
            .bind(claim.session.uuid())
            .push(lock);
            let Some(stored) = tx.one::<Stored>(sql).await? else { return Ok(Err(invalid())) };
            // A forged token of a session that exists must not end it.
            if !db.keys().is_genuine(&claim, &stored.nonce) {
                return Ok(Err(invalid()));
            }
            let facts = SessionFacts {
                generation: u32::try_from(stored.generation).unwrap_or(0),
                rotated_at: stored.rotated_at,
                expires_at: stored.expires_at,
                ended: stored.ended_at.is_some(),
                user_disabled: stored.user_status == "DISABLED",
            };
            let actor = Actor::User { user: stored.user_id.into(), session: claim.session };
            let now = tx.now();
            let (generation, expires_at) =
                match judge_refresh(&facts, claim.generation, db.settings().refresh_grace, now) {
                    RefreshVerdict::Over => return Ok(Err(invalid())),
                    RefreshVerdict::Replayed => {
                        end(tx, stored.user_id.into(), claim.session).await?;
                        let who = activity::Who::Person(stored.user_id.into());
                        let by = By::of(stored.identity_provider_id);
                        activity::note_by(tx, who, by, LoginCode::RefreshReused, device).await?;
                        tracing::warn!(session = %claim.session, "a refresh token was replayed; its session ends");
                        // Committed: the family must be dead even though the answer is a refusal.
                        return Ok(Err(invalid()));
                    }
                    RefreshVerdict::Repeat => (facts.generation, facts.expires_at),
                    RefreshVerdict::Rotate => {
                        let next = facts.generation.saturating_add(1);
                        let expires_at = now + db.keys().refresh_lifetime;
                        tx.run(
                            Sql::new("UPDATE sessions SET generation = ")
                                .bind(i32::try_from(next).unwrap_or(i32::MAX))
                                .push(", rotated_at = ")
                                .bind(now)
                                .push(", last_seen_at = ")
                                .bind(now)
                                .push(", expires_at = ")
                                .bind(expires_at)
                                .push(", ip = ")
                                .bind(device.ip.clone())
                                .push(" WHERE id = ")
                                .bind(claim.session.uuid()),
                        )
                        .await?;
                        (next, expires_at)
                    }
                };
            Ok(Ok(SignedIn {
                actor,
                access: db.keys().access_token(actor, now)?,
                refresh_token: db.keys().refresh_token(claim.session, generation, &stored.nonce),
                refresh_expires_at: expires_at,
            }))
        })
        .await?;
    outcome.map_err(Into::into)
}

/// Ends a session; tells whether it was alive.
pub(crate) async fn end(tx: &mut Tx<'_>, user: UserId, session: SessionId) -> Result<bool, Fault> {
    let ended = tx
        .run(
            Sql::new("UPDATE sessions SET ended_at = ")
                .bind(tx.now())
                .push(" WHERE ended_at IS NULL AND id = ")
                .bind(session.uuid())
                .push(" AND user_id = ")
                .bind(user.uuid()),
        )
        .await?;
    if ended > 0 {
        tx.append(Event::Session { user, session: Some(session) });
    }
    Ok(ended > 0)
}

/// Ends every session of a person but `keep`.
pub(crate) async fn end_others(tx: &mut Tx<'_>, user: UserId, keep: Option<SessionId>) -> Result<(), Fault> {
    let mut sql = Sql::new("UPDATE sessions SET ended_at = ")
        .bind(tx.now())
        .push(" WHERE ended_at IS NULL AND user_id = ")
        .bind(user.uuid());
    if let Some(keep) = keep {
        sql = sql.push(" AND id <> ").bind(keep.uuid());
    }
    tx.run(sql).await?;
    tx.append(Event::Session { user, session: None });
    Ok(())
}

/// Signs the actor's own device out.
pub async fn sign_out(db: &Db, proof: &OwnSession) -> Result<(), OpError<SignOutCode>> {
    db.write(proof, async |tx| {
        tx.unaudited("a person's sessions are their own");
        // Before the session, as whoever ends all of them does.
        tx.lock_user(proof.user()).await?;
        if end(tx, proof.user(), proof.session()).await? {
            activity::note_sign_out(tx, proof.user(), proof.session()).await?;
        }
        Ok(())
    })
    .await
}

/// Ends one of the actor's own sessions.
pub async fn revoke(
    db: &Db,
    proof: &OwnSession,
    session: SessionId,
) -> Result<(), OpError<RevokeSessionCode>> {
    db.write(proof, async |tx| {
        tx.unaudited("a person's sessions are their own");
        // Before the session, as whoever ends all of them does.
        tx.lock_user(proof.user()).await?;
        if end(tx, proof.user(), session).await? {
            activity::note_sign_out(tx, proof.user(), session).await?;
            return Ok(());
        }
        Err(Refusal::new(RevokeSessionCode::NotFound, "You have no such session, or it has ended before.")
            .at("sessionId")
            .into())
    })
    .await
}

/// A signed-in device.
#[derive(Clone, Debug, FromQueryResult)]
pub struct SessionRow {
    id: Uuid,
    /// What the device said of itself.
    pub device: Option<String>,
    /// The address it came from last.
    pub ip: Option<String>,
    /// When it signed in.
    pub created_at: DateTime<Utc>,
    /// When it refreshed last.
    pub last_seen_at: DateTime<Utc>,
    /// When it ends unless it is used.
    pub expires_at: DateTime<Utc>,
}

impl SessionRow {
    /// Its id.
    pub fn id(&self) -> SessionId {
        self.id.into()
    }
}

/// The actor's own live sessions, by age.
pub async fn page(db: &Db, proof: &OwnSession, args: &PageArgs<Uuid>) -> Result<Page<SessionRow>, ReadError> {
    let sql = live(db, proof, "s.id, s.device, s.ip, s.created_at, s.last_seen_at, s.expires_at");
    Ok(Page::cut(args, db.read(proof).all(page_by(sql, args, "s.id")).await?))
}

/// How many live sessions the actor has.
pub async fn count_live(db: &Db, proof: &OwnSession) -> Result<u64, ReadError> {
    count(db.read(proof).one::<Single<i64>>(live(db, proof, "count(*)")).await?)
}

fn live(db: &Db, proof: &OwnSession, columns: &str) -> Sql {
    Sql::new(format!("SELECT {columns} FROM sessions s WHERE s.ended_at IS NULL AND s.expires_at > "))
        .bind(db.now())
        .push(" AND s.user_id = ")
        .bind(proof.user().uuid())
}

/// One of the actor's own live sessions.
pub async fn by_id(db: &Db, proof: &OwnSession, id: SessionId) -> Result<Option<SessionRow>, ReadError> {
    let columns = "s.id, s.device, s.ip, s.created_at, s.last_seen_at, s.expires_at";
    Ok(db.read(proof).one(live(db, proof, columns).push(" AND s.id = ").bind(id.uuid())).await?)
}
