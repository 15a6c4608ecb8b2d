//! Secrets at work: access and refresh tokens, hashes of the tokens in links, what the master key wraps and seals.
//! Knows how each is made from the instance's secrets; refuses to know where those come from.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chacha20poly1305::{
    Key, KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use chrono::{DateTime, TimeDelta, Utc};
use guildhall_domain::{
    access::Actor,
    ids::{ApiKeyId, MailId, ServiceAccountId, SessionId, UserId, WorkspaceId},
    machines::MachineKind,
};
use hmac::{Hmac, Mac};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{error::Fault, secret_text};

/// What the keys are made of. The texts hold at least 32 bytes each.
pub struct KeyMaterial<'a> {
    /// Signs access tokens.
    pub access_secret: &'a str,
    /// Makes refresh tokens.
    pub refresh_secret: &'a str,
    /// Hashes the tokens in links.
    pub token_hash_secret: &'a str,
    /// Wraps everything that is stored encrypted from now on.
    pub master_key: &'a [u8; 32],
    /// Open what they wrapped before.
    pub previous_master_keys: Vec<&'a [u8; 32]>,
    /// `iss` of access tokens.
    pub issuer: &'a str,
    /// `aud` of access tokens.
    pub audience: &'a str,
    /// How long an access token lasts.
    pub access_lifetime: TimeDelta,
    /// How long a session lasts without being used.
    pub refresh_lifetime: TimeDelta,
}

impl fmt::Debug for KeyMaterial<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyMaterial").finish_non_exhaustive()
    }
}

/// The instance's keys.
pub struct Keys {
    encoding: EncodingKey,
    decoding: DecodingKey,
    header: Header,
    validation: Validation,
    issuer: String,
    audience: String,
    access_lifetime: TimeDelta,
    /// How long a session lasts without being used.
    pub refresh_lifetime: TimeDelta,
    refresh: Hmac<Sha256>,
    token_hash: Hmac<Sha256>,
    /// The one that new things are sealed with.
    master: Master,
    /// Those that open what they sealed before.
    previous: Vec<Master>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

/// What is made of one master key.
struct Master {
    id: String,
    /// Wraps the workspaces' data keys.
    wrap: Seal,
    /// Seals mails.
    mails: Seal,
    /// Seals private keys that sign.
    signing: Seal,
    /// Seals answers that are given again.
    answers: Seal,
    /// Seals what second factors are computed from.
    factors: Seal,
    /// Seals what this server shows identity providers.
    client_secrets: Seal,
    /// See [`Keys::checks`].
    check: String,
}

impl Master {
    fn new(key: &[u8; 32], others: &[&[u8]]) -> Self {
        let derived = |purpose: &[u8]| Zeroizing::new(tag(&mac(key), &[purpose]));
        Self {
            id: master_key_id(key),
            wrap: Seal::new(&derived(b"wrap data keys")),
            mails: Seal::new(&derived(b"seal mails")),
            signing: Seal::new(&derived(b"seal signing keys")),
            answers: Seal::new(&derived(b"seal answers")),
            factors: Seal::new(&derived(b"seal second factors")),
            client_secrets: Seal::new(&derived(b"seal client secrets")),
            check: URL_SAFE_NO_PAD.encode(tag(&mac(derived(b"check").as_slice()), others)),
        }
    }
}

/// What a master key is called, in rows and messages. It tells nothing of the key.
pub fn master_key_id(key: &[u8; 32]) -> String {
    hex::encode(&tag(&mac(key), &[b"id"])[..8])
}

/// XChaCha20-Poly1305 with a fresh nonce each time, which stands before what is sealed.
pub(crate) struct Seal(XChaCha20Poly1305);

impl Seal {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(XChaCha20Poly1305::new(<&Key>::from(key)))
    }

    pub(crate) fn seal(&self, bound_to: &[u8], plain: &[u8]) -> Result<Vec<u8>, Fault> {
        let nonce = random::<24>()?;
        let sealed = self
            .0
            .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: bound_to })
            .map_err(|_| Fault::Crypto("a value could not be sealed"))?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// What was sealed with this key and bound to the same; `None` for anything else.
    pub(crate) fn open(&self, bound_to: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_first_chunk::<24>()?;
        let payload = Payload { msg: sealed, aad: bound_to };
        self.0.decrypt(&XNonce::from(*nonce), payload).ok().map(Zeroizing::new)
    }
}

/// How long the access token of a service account lasts.
const MACHINE_LIFETIME: TimeDelta = TimeDelta::hours(2);

/// An access token and when it ends.
#[derive(Clone)]
pub struct AccessToken {
    /// The JWT.
    pub token: String,
    /// Its `exp`.
    pub expires_at: DateTime<Utc>,
}

/// Why an access token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenFault {
    /// It was good once.
    Expired,
    /// It was not made by this instance, or is no token at all.
    Invalid,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: Uuid,
    /// Of a person: the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sid: Option<Uuid>,
    /// Of a service account: which of its secrets it was got with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    r#gen: Option<i32>,
    iat: i64,
    exp: i64,
}

/// A refresh token as it was read: whose it claims to be, until its signature is checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RefreshClaim {
    pub(crate) session: SessionId,
    pub(crate) generation: u32,
    signature: [u8; 32],
}

pub(crate) fn mac(key: &[u8]) -> Hmac<Sha256> {
    // HMAC takes a key of any length; `new_from_slice` is fallible only for other algorithms.
    <Hmac<Sha256> as KeyInit>::new_from_slice(key).unwrap_or_else(|_| unreachable!())
}

pub(crate) fn tag(mac: &Hmac<Sha256>, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = mac.clone();
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Fills an array with randomness of the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Fault> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| Fault::Crypto("the operating system gave no randomness"))?;
    Ok(bytes)
}

/// A fresh 256-bit secret, as text for a link.
pub(crate) fn fresh_token() -> Result<String, Fault> {
    Ok(URL_SAFE_NO_PAD.encode(random::<32>()?))
}

impl Keys {
    /// Makes the keys.
    pub fn new(material: &KeyMaterial<'_>) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[material.issuer]);
        validation.set_audience(&[material.audience]);
        validation.leeway = 0;
        // Judged against the service's own clock, below.
        validation.validate_exp = false;
        let others: [&[u8]; 3] =
            [material.refresh_secret.as_bytes(), b"\0", material.token_hash_secret.as_bytes()];
        let master = Master::new(material.master_key, &others);
        let mut previous: Vec<Master> = Vec::new();
        for key in &material.previous_master_keys {
            let key = Master::new(key, &others);
            if key.id != master.id && previous.iter().all(|other| other.id != key.id) {
                previous.push(key);
            }
        }
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(hex8(&tag(&mac(material.access_secret.as_bytes()), &[b"kid"])));
        Self {
            encoding: EncodingKey::from_secret(material.access_secret.as_bytes()),
            decoding: DecodingKey::from_secret(material.access_secret.as_bytes()),
            header,
            validation,
            issuer: material.issuer.to_owned(),
            audience: material.audience.to_owned(),
            access_lifetime: material.access_lifetime,
            refresh_lifetime: material.refresh_lifetime,
            refresh: mac(material.refresh_secret.as_bytes()),
            token_hash: mac(material.token_hash_secret.as_bytes()),
            master,
            previous,
        }
    }

    /// For each master key, the newest first, its id and a value made of it and of the other secrets that stored
    /// values depend on. One of them is kept in the database, so that a start with other secrets fails at once.
    pub(crate) fn checks(&self) -> impl Iterator<Item = (&str, &str)> {
        self.masters().map(|master| (master.id.as_str(), master.check.as_str()))
    }

    fn masters(&self) -> impl Iterator<Item = &Master> {
        std::iter::once(&self.master).chain(&self.previous)
    }

    fn master(&self, id: &str) -> Option<&Master> {
        self.masters().find(|master| master.id == id)
    }

    /// An access token for the actor. It carries identity and never rights.
    pub fn access_token(&self, actor: Actor, now: DateTime<Utc>) -> Result<AccessToken, Fault> {
        let (sid, r#gen, lifetime) = match actor {
            Actor::User { session, .. } => (Some(session.uuid()), None, self.access_lifetime),
            Actor::ServiceAccount { generation, .. } => (None, Some(generation), MACHINE_LIFETIME),
            Actor::Key { .. } => return Err(Fault::Crypto("a key needs no access token")),
        };
        let expires_at = now + lifetime;
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            sub: actor.uuid(),
            sid,
            r#gen,
            iat: now.timestamp(),
            exp: expires_at.timestamp(),
        };
        let token = jsonwebtoken::encode(&self.header, &claims, &self.encoding)
            .map_err(|_| Fault::Crypto("an access token could not be signed"))?;
        Ok(AccessToken { token, expires_at })
    }

    /// Who an access token stands for, and until when.
    pub fn identify(&self, token: &str, now: DateTime<Utc>) -> Result<(Actor, DateTime<Utc>), TokenFault> {
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation)
            .map_err(|_| TokenFault::Invalid)?
            .claims;
        let expires_at = DateTime::from_timestamp(claims.exp, 0).ok_or(TokenFault::Invalid)?;
        if now >= expires_at {
            return Err(TokenFault::Expired);
        }
        let actor = match (claims.sid, claims.r#gen) {
            (Some(session), None) => {
                Actor::User { user: UserId::from(claims.sub), session: SessionId::from(session) }
            }
            (None, Some(generation)) => {
                Actor::ServiceAccount { account: ServiceAccountId::from(claims.sub), generation }
            }
            _ => return Err(TokenFault::Invalid),
        };
        Ok((actor, expires_at))
    }

    /// The refresh token of that generation of a session. It is computed, not stored: all tabs that
    /// refresh within the grace get the same next token, and the database holds nothing that signs in.
    pub(crate) fn refresh_token(&self, session: SessionId, generation: u32, nonce: &[u8]) -> String {
        let mut bytes = [0; 52];
        bytes[..16].copy_from_slice(session.uuid().as_bytes());
        bytes[16..20].copy_from_slice(&generation.to_be_bytes());
        bytes[20..].copy_from_slice(&self.refresh_signature(session, generation, nonce));
        format!("ghr_{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Reads the text of a refresh token.
    pub(crate) fn read_refresh_token(token: &str) -> Option<RefreshClaim> {
        let bytes: [u8; 52] = URL_SAFE_NO_PAD.decode(token.strip_prefix("ghr_")?).ok()?.try_into().ok()?;
        Some(RefreshClaim {
            session: Uuid::from_slice(&bytes[..16]).ok()?.into(),
            generation: u32::from_be_bytes(bytes[16..20].try_into().ok()?),
            signature: bytes[20..].try_into().ok()?,
        })
    }

    /// Whether the claim was signed by this instance for that session.
    pub(crate) fn is_genuine(&self, claim: &RefreshClaim, nonce: &[u8]) -> bool {
        self.refresh_signature(claim.session, claim.generation, nonce).ct_eq(&claim.signature).into()
    }

    fn refresh_signature(&self, session: SessionId, generation: u32, nonce: &[u8]) -> [u8; 32] {
        tag(&self.refresh, &[session.uuid().as_bytes(), &generation.to_be_bytes(), nonce])
    }

    /// A new secret for that key or service account: the text that is shown once, and the hash that is kept. The text
    /// begins with `gh`, the kind, and `_`, and ends in a checksum, so that scanners for leaked secrets can tell one for sure;
    /// a mark of this instance in it lets a made-up one be refused without a look into the database.
    pub(crate) fn machine_secret(&self, kind: MachineKind, id: Uuid) -> Result<(String, [u8; 32]), Fault> {
        let mut bytes = [0; 56];
        // What differs from key to key comes first: people tell them by how they begin.
        bytes[..32].copy_from_slice(&random::<32>()?);
        bytes[32..48].copy_from_slice(id.as_bytes());
        let mark = self.machine_mark(kind, &bytes[..48]);
        bytes[48..].copy_from_slice(&mark);
        let text = secret_text::write(kind, &bytes);
        let hash = self.hash_machine_secret(&text);
        Ok((text, hash))
    }

    /// Whose secret that text is, of this instance's, and its hash.
    pub fn read_machine_secret(&self, kind: MachineKind, text: &str) -> Option<(Uuid, [u8; 32])> {
        let bytes = secret_text::read(kind, text)?;
        let genuine: bool = self.machine_mark(kind, &bytes[..48]).ct_eq(&bytes[48..]).into();
        genuine.then(|| (id_in(&bytes), self.hash_machine_secret(text)))
    }

    /// The actor that an API key stands for, if it is one of this instance's.
    pub fn read_api_key(&self, text: &str) -> Option<Actor> {
        let (id, hash) = self.read_machine_secret(MachineKind::ApiKey, text)?;
        Some(Actor::Key { key: ApiKeyId::from(id), hash })
    }

    /// Tells which of its secrets a key was used with, without telling anything of the secret or its hash.
    pub(crate) fn version_of(&self, hash: &[u8; 32]) -> String {
        hex::encode(&tag(&self.token_hash, &[b"version\0", hash])[..8])
    }

    /// `iss` of tokens.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// `aud` of tokens.
    pub(crate) fn audience(&self) -> &str {
        &self.audience
    }

    fn machine_mark(&self, kind: MachineKind, bytes: &[u8]) -> [u8; 8] {
        let tag = tag(&self.token_hash, &[b"mark\0", kind.word().as_bytes(), b"\0", bytes]);
        let mut mark = [0; 8];
        mark.copy_from_slice(&tag[..8]);
        mark
    }

    fn hash_machine_secret(&self, text: &str) -> [u8; 32] {
        tag(&self.token_hash, &[b"machine\0", text.as_bytes()])
    }

    /// What is stored of a token in a link.
    pub(crate) fn hash_token(&self, token: &str) -> Vec<u8> {
        tag(&self.token_hash, &[b"link\0", token.as_bytes()]).to_vec()
    }

    /// What stands for a text that is not stored itself: the same text has the same one.
    pub(crate) fn fingerprint(&self, text: &str) -> String {
        hex::encode(&tag(&self.token_hash, &[b"fingerprint\0", text.as_bytes()])[..8])
    }

    /// What stands for several texts together.
    pub(crate) fn fingerprint_of(&self, parts: &[&[u8]]) -> [u8; 32] {
        let lengths: Vec<_> = parts.iter().map(|part| part.len().to_be_bytes()).collect();
        let framed = parts.iter().zip(&lengths).flat_map(|(part, length)| [&length[..], part]);
        let framed: Vec<_> = std::iter::once(&b"fingerprint of\0"[..]).chain(framed).collect();
        tag(&self.token_hash, &framed)
    }

    /// The number under which something is counted that is not stored itself.
    pub(crate) fn counter(&self, kind: &str, parts: [&str; 2]) -> Uuid {
        let [one, other] = parts.map(str::as_bytes);
        let tag = tag(&self.token_hash, &[b"counter\0", kind.as_bytes(), b"\0", one, b"\0", other]);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&tag[..16]);
        Uuid::from_bytes(bytes)
    }

    /// The secret of the set-up link. Computed, so that every replica and every restart prints the same.
    pub fn setup_token(&self) -> String {
        URL_SAFE_NO_PAD.encode(tag(&self.token_hash, &[b"setup"]))
    }

    /// Whether that is the secret of the set-up link.
    pub fn is_setup_token(&self, token: &str) -> bool {
        token.as_bytes().ct_eq(self.setup_token().as_bytes()).into()
    }

    /// The id of the master key that new things are sealed with.
    pub(crate) fn master_key_id(&self) -> &str {
        &self.master.id
    }

    /// The ids of all master keys, first that of the one that new things are sealed with.
    pub(crate) fn master_key_ids(&self) -> impl Iterator<Item = &str> {
        self.masters().map(|master| master.id.as_str())
    }

    /// Seals the body of a mail with the master key; it opens as that mail's alone.
    pub(crate) fn seal_mail(&self, mail: MailId, body: &[u8]) -> Result<Vec<u8>, Fault> {
        self.master.mails.seal(mail.to_string().as_bytes(), body)
    }

    /// The body of that mail. Those of earlier versions do not tell which key sealed them.
    pub(crate) fn open_mail(
        &self,
        mail: MailId,
        master_key_id: Option<&str>,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let label = mail.to_string();
        if let Some(id) = master_key_id.filter(|id| self.master(id).is_none()) {
            return Err(Fault::MasterKeyMissing { what: format!("the mail {mail}"), id: id.to_owned() });
        }
        self.masters()
            .filter(|master| master_key_id.is_none_or(|id| id == master.id))
            .find_map(|master| master.mails.open(label.as_bytes(), sealed))
            .ok_or(Fault::Crypto("a mail does not open: it is damaged, or its master key is another one"))
    }

    /// Seals the answer that belongs to that idempotency key.
    pub(crate) fn seal_answer(&self, key: Uuid, answer: &[u8]) -> Result<Vec<u8>, Fault> {
        self.master.answers.seal(key.as_bytes(), answer)
    }

    /// The same answer; `None` where its master key was taken away since.
    pub(crate) fn open_answer(&self, key: Uuid, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.masters().find_map(|master| master.answers.open(key.as_bytes(), sealed))
    }

    /// Seals the seed of a key that signs, with the master key.
    pub(crate) fn seal_signing_key(&self, id: Uuid, purpose: &str, seed: &[u8]) -> Result<Vec<u8>, Fault> {
        self.master.signing.seal(&signs_for(id, purpose, &self.master.id), seed)
    }

    /// The seed of a key that signs, which the master key of that id sealed.
    pub(crate) fn open_signing_key(
        &self,
        id: Uuid,
        purpose: &str,
        master_key_id: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let Some(master) = self.master(master_key_id) else {
            let what = format!("the signing key {}", id.as_simple());
            return Err(Fault::MasterKeyMissing { what, id: master_key_id.to_owned() });
        };
        let seed = master.signing.open(&signs_for(id, purpose, master_key_id), sealed);
        seed.ok_or_else(|| Fault::Stored(format!("the signing key {} is damaged", id.as_simple())))
    }

    /// Seals what a person's second factor is computed from, with the master key; it opens as that one's alone.
    pub(crate) fn seal_second_factor(&self, id: Uuid, user: UserId, secret: &[u8]) -> Result<Vec<u8>, Fault> {
        self.master.factors.seal(&factor_of(id, user, &self.master.id), secret)
    }

    /// The same, which the master key of that id sealed.
    pub(crate) fn open_second_factor(
        &self,
        id: Uuid,
        user: UserId,
        master_key_id: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let Some(master) = self.master(master_key_id) else {
            let what = format!("the second factor of {user}");
            return Err(Fault::MasterKeyMissing { what, id: master_key_id.to_owned() });
        };
        let secret = master.factors.open(&factor_of(id, user, master_key_id), sealed);
        secret.ok_or_else(|| Fault::Stored(format!("the second factor of {user} is damaged")))
    }

    /// Seals the secret that is shown to that identity provider, with the master key.
    pub(crate) fn seal_client_secret(&self, provider: Uuid, secret: &[u8]) -> Result<Vec<u8>, Fault> {
        self.master.client_secrets.seal(&shown_to(provider, &self.master.id), secret)
    }

    /// The secret that is shown to that identity provider, which the master key of that id sealed.
    pub(crate) fn open_client_secret(
        &self,
        provider: Uuid,
        master_key_id: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let what = || format!("the client secret of the identity provider {}", provider.as_simple());
        let Some(master) = self.master(master_key_id) else {
            return Err(Fault::MasterKeyMissing { what: what(), id: master_key_id.to_owned() });
        };
        let secret = master.client_secrets.open(&shown_to(provider, master_key_id), sealed);
        secret.ok_or_else(|| Fault::Stored(format!("{} is damaged", what())))
    }

    /// Wraps a workspace's data key with the master key.
    pub(crate) fn wrap(&self, workspace: WorkspaceId, key: &[u8; 32]) -> Result<Vec<u8>, Fault> {
        self.master.wrap.seal(&wrapped_for(workspace, &self.master.id), key)
    }

    /// The workspace's data key, which the master key of that id wrapped.
    pub(crate) fn unwrap(
        &self,
        workspace: WorkspaceId,
        master_key_id: &str,
        wrapped: &[u8],
    ) -> Result<Zeroizing<[u8; 32]>, Fault> {
        let Some(master) = self.master(master_key_id) else {
            let what = format!("the data key of {workspace}");
            return Err(Fault::MasterKeyMissing { what, id: master_key_id.to_owned() });
        };
        let key = master.wrap.open(&wrapped_for(workspace, master_key_id), wrapped);
        let key = key.as_deref().and_then(|key| <[u8; 32]>::try_from(key.as_slice()).ok());
        key.map(Zeroizing::new)
            .ok_or_else(|| Fault::Stored(format!("the data key of {workspace} is damaged")))
    }
}

/// What a wrapped data key is bound to: the form's version, whose it is, and the key that wraps it.
fn wrapped_for(workspace: WorkspaceId, master_key_id: &str) -> Vec<u8> {
    [[1].as_slice(), workspace.uuid().as_bytes(), master_key_id.as_bytes()].concat()
}

/// What the seed of a signing key is bound to: the form's version, the key, what it signs, and the key that seals it.
fn signs_for(id: Uuid, purpose: &str, master_key_id: &str) -> Vec<u8> {
    [[1].as_slice(), id.as_bytes(), purpose.as_bytes(), b"\0", master_key_id.as_bytes()].concat()
}

/// What a second factor is bound to: the form's version, the row, whose it is, and the key that seals it.
fn factor_of(id: Uuid, user: UserId, master_key_id: &str) -> Vec<u8> {
    [[1].as_slice(), id.as_bytes(), user.uuid().as_bytes(), master_key_id.as_bytes()].concat()
}

/// What a client secret is bound to: the form's version, the provider it is shown to, and the key that seals it.
fn shown_to(provider: Uuid, master_key_id: &str) -> Vec<u8> {
    [[1].as_slice(), provider.as_bytes(), master_key_id.as_bytes()].concat()
}

/// The number in a machine's secret.
fn id_in(bytes: &[u8; 56]) -> Uuid {
    let mut id = [0; 16];
    id.copy_from_slice(&bytes[32..48]);
    Uuid::from_bytes(id)
}

/// The first 32 bits of a tag, as text.
pub(crate) fn hex8(bytes: &[u8; 32]) -> String {
    hex::encode(&bytes[..4])
}
