//! Keys that sign: an Ed25519 key for each purpose, made when it is first needed and shared by every process on the
//! database. Knows how they are kept, sealed with the master key; refuses to know what is signed.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use chrono::{DateTime, Utc};
use guildhall_domain::access::System;
use sea_orm::FromQueryResult;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    db::{Ask, Db, Engine, Tx},
    error::{Fault, OpError},
    instance,
    keys::{Keys, random},
    sql::Sql,
};

/// What keys are for. A key signs for one purpose only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The checkpoints of the audit log.
    Audit,
    /// Tokens that workspaces' people and machines show other services.
    WorkspaceTokens,
}

impl Purpose {
    fn word(self) -> &'static str {
        match self {
            Self::Audit => "AUDIT",
            Self::WorkspaceTokens => "WORKSPACE_TOKENS",
        }
    }
}

/// A key that signs.
pub struct SigningKey {
    /// Names the key, in what it signed and where it is published.
    pub id: String,
    public: [u8; 32],
    seed: Zeroizing<Vec<u8>>,
    pair: Ed25519KeyPair,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// The signature of a message.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }

    /// What its signatures are checked with.
    pub fn public_key(&self) -> &[u8; 32] {
        &self.public
    }

    /// The key as PKCS #8, the form in which libraries take it (RFC 8410, without the public key).
    pub fn pkcs8(&self) -> Zeroizing<Vec<u8>> {
        const HEAD: [u8; 16] =
            [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
        Zeroizing::new([&HEAD[..], &self.seed].concat())
    }

    fn of_seed(id: Uuid, seed: Zeroizing<Vec<u8>>) -> Result<Self, Fault> {
        let damaged = || Fault::Stored(format!("the signing key {} is damaged", id.as_simple()));
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| damaged())?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| damaged())?;
        Ok(Self { id: name(id), public, seed, pair })
    }
}

/// What a key is called.
fn name(id: Uuid) -> String {
    format!("key_{}", id.as_simple())
}

/// What checks signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// What the key is called.
    pub id: String,
    /// The key.
    pub key: [u8; 32],
    /// Since when it signs.
    pub created_at: DateTime<Utc>,
    /// Since when it signs nothing any more.
    pub retired_at: Option<DateTime<Utc>>,
}

/// Whether `signature` is that of the message, made with the private half of the key.
pub fn verifies(public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public_key).verify(message, signature).is_ok()
}

#[derive(FromQueryResult)]
struct Row {
    id: Uuid,
    public_key: Vec<u8>,
    master_key_id: String,
    sealed: Vec<u8>,
}

async fn find(ask: &impl Ask, keys: &Keys, purpose: Purpose) -> Result<Option<SigningKey>, Fault> {
    let sql = Sql::new(
        "SELECT id, public_key, master_key_id, sealed FROM signing_keys WHERE retired_at IS NULL AND purpose = ",
    )
    .bind(purpose.word());
    let Some(row) = ask.one::<Row>(sql).await? else { return Ok(None) };
    let seed = keys.open_signing_key(row.id, purpose.word(), &row.master_key_id, &row.sealed)?;
    let key = SigningKey::of_seed(row.id, seed)?;
    if key.public != row.public_key.as_slice() {
        return Err(Fault::Stored(format!("the public half of the signing key {} is another one", key.id)));
    }
    Ok(Some(key))
}

/// Of two processes that find no key at once, or make a new one, the second waits here and finds that of the first.
async fn lock(tx: &Tx<'_>, purpose: Purpose) -> Result<(), Fault> {
    if tx.db().engine() == Engine::Postgres {
        let sql = Sql::new("SELECT 1 FROM (SELECT pg_advisory_xact_lock(hashtextextended(")
            .bind(format!("guildhall signing key {}", purpose.word()))
            .push(", 0))) AS locked");
        tx.all::<crate::sql::Single<i32>>(sql).await?;
    }
    Ok(())
}

async fn make(tx: &Tx<'_>, purpose: Purpose) -> Result<SigningKey, Fault> {
    let keys = tx.db().keys();
    // Whoever was not told of a new master key seals nothing more with the old one; see `vault::data_key`.
    instance::check_master_key(tx).await?;
    let id: Uuid = tx.fresh_id();
    let seed = Zeroizing::new(random::<32>()?.to_vec());
    let sealed = keys.seal_signing_key(id, purpose.word(), &seed)?;
    let key = SigningKey::of_seed(id, seed)?;
    tx.run(Sql::insert(
        "signing_keys",
        [
            ("id", id.into()),
            ("purpose", purpose.word().into()),
            ("public_key", key.public.to_vec().into()),
            ("master_key_id", keys.master_key_id().into()),
            ("sealed", sealed.into()),
            ("created_at", tx.now().into()),
            ("sealed_at", tx.now().into()),
        ],
    ))
    .await?;
    Ok(key)
}

/// The key that signs for that purpose now, within a transaction; the first is made.
pub(crate) async fn current_in(tx: &Tx<'_>, purpose: Purpose) -> Result<SigningKey, Fault> {
    if let Some(key) = find(tx, tx.db().keys(), purpose).await? {
        return Ok(key);
    }
    lock(tx, purpose).await?;
    match find(tx, tx.db().keys(), purpose).await? {
        Some(key) => Ok(key),
        None => make(tx, purpose).await,
    }
}

/// The key that signs for that purpose now; the first is made.
pub async fn current(db: &Db, proof: &System, purpose: Purpose) -> Result<SigningKey, Fault> {
    if let Some(key) = find(&db.read(proof), db.keys(), purpose).await? {
        return Ok(key);
    }
    let made = db.write(proof, async |tx| Ok(current_in(tx, purpose).await?));
    made.await.map_err(OpError::into_fault)
}

/// Makes a new key for that purpose. The one before signs nothing more, and stays published.
pub async fn rotate(db: &Db, proof: &System, purpose: Purpose) -> Result<SigningKey, Fault> {
    let made = db.write(proof, async |tx| {
        lock(tx, purpose).await?;
        let sql = Sql::new("UPDATE signing_keys SET retired_at = ").bind(tx.now());
        tx.run(sql.push(" WHERE retired_at IS NULL AND purpose = ").bind(purpose.word())).await?;
        Ok(make(tx, purpose).await?)
    });
    made.await.map_err(OpError::into_fault)
}

#[derive(FromQueryResult)]
struct PublicRow {
    id: Uuid,
    public_key: Vec<u8>,
    created_at: DateTime<Utc>,
    retired_at: Option<DateTime<Utc>>,
}

/// Every key that signed for that purpose, the oldest first.
pub async fn published(db: &Db, proof: &System, purpose: Purpose) -> Result<Vec<PublicKey>, Fault> {
    let sql = Sql::new("SELECT id, public_key, created_at, retired_at FROM signing_keys WHERE purpose = ")
        .bind(purpose.word())
        .push(" ORDER BY id");
    let rows: Vec<PublicRow> = db.read(proof).all(sql).await?;
    let keys = rows.into_iter().map(|row| {
        let key = row.public_key.as_slice().try_into();
        let key =
            key.map_err(|_| Fault::Stored(format!("the public half of {} is damaged", name(row.id))))?;
        Ok(PublicKey { id: name(row.id), key, created_at: row.created_at, retired_at: row.retired_at })
    });
    keys.collect()
}
