//! Secrets at work: access and refresh tokens, hashes of the tokens in links, sealed mail bodies. Knows how
//! each is made from the instance's secrets; refuses to know where those come from.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chacha20poly1305::{
    Key, KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use chrono::{DateTime, TimeDelta, Utc};
use guildhall_domain::{
    access::Actor,
    ids::{SessionId, UserId},
};
use hmac::{Hmac, Mac};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::error::Fault;

/// What the keys are made of. The texts hold at least 32 bytes each.
pub struct KeyMaterial<'a> {
    /// Signs access tokens.
    pub access_secret: &'a str,
    /// Makes refresh tokens.
    pub refresh_secret: &'a str,
    /// Hashes the tokens in links.
    pub token_hash_secret: &'a str,
    /// Wraps everything that is stored encrypted.
    pub master_key: &'a [u8; 32],
    /// `iss` of access tokens.
    pub issuer: &'a str,
    /// `aud` of access tokens.
    pub audience: &'a str,
    /// How long an access token lasts.
    pub access_lifetime: TimeDelta,
    /// How long a session lasts without being used.
    pub refresh_lifetime: TimeDelta,
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
    seal: XChaCha20Poly1305,
    check: String,
}

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
    sid: Uuid,
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

fn mac(key: &[u8]) -> Hmac<Sha256> {
    // HMAC takes a key of any length; `new_from_slice` is fallible only for other algorithms.
    <Hmac<Sha256> as KeyInit>::new_from_slice(key).unwrap_or_else(|_| unreachable!())
}

fn tag(mac: &Hmac<Sha256>, parts: &[&[u8]]) -> [u8; 32] {
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
        let master = mac(material.master_key);
        let derive = |purpose: &str| Zeroizing::new(tag(&master, &[purpose.as_bytes()]));
        let all = mac(derive("check").as_slice());
        let check =
            tag(&all, &[material.refresh_secret.as_bytes(), b"\0", material.token_hash_secret.as_bytes()]);
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
            seal: XChaCha20Poly1305::new(&Key::from(*derive("seal mails"))),
            check: URL_SAFE_NO_PAD.encode(check),
        }
    }

    /// A value that differs when any stored secret would not be readable: kept in the database, so that a
    /// start with other secrets fails at once.
    pub(crate) fn check_value(&self) -> &str {
        &self.check
    }

    /// An access token for the actor. It carries identity and never rights.
    pub fn access_token(&self, actor: Actor, now: DateTime<Utc>) -> Result<AccessToken, Fault> {
        let expires_at = now + self.access_lifetime;
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            sub: actor.user().uuid(),
            sid: actor.session().uuid(),
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
        Ok((Actor::User { user: UserId::from(claims.sub), session: SessionId::from(claims.sid) }, expires_at))
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

    /// What is stored of a token in a link.
    pub(crate) fn hash_token(&self, token: &str) -> Vec<u8> {
        tag(&self.token_hash, &[b"link\0", token.as_bytes()]).to_vec()
    }

    /// The secret of the set-up link. Computed, so that every replica and every restart prints the same.
    pub fn setup_token(&self) -> String {
        URL_SAFE_NO_PAD.encode(tag(&self.token_hash, &[b"setup"]))
    }

    /// Whether that is the secret of the set-up link.
    pub fn is_setup_token(&self, token: &str) -> bool {
        token.as_bytes().ct_eq(self.setup_token().as_bytes()).into()
    }

    /// Encrypts `plain` so that it opens only under the same `label`.
    pub(crate) fn seal(&self, label: &str, plain: &[u8]) -> Result<Vec<u8>, Fault> {
        let nonce = random::<24>()?;
        let sealed = self
            .seal
            .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: label.as_bytes() })
            .map_err(|_| Fault::Crypto("a value could not be sealed"))?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Opens what was sealed under `label`.
    pub(crate) fn open(&self, label: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let fault = Fault::Crypto("a sealed value does not open: the master key is another one");
        let Some((nonce, sealed)) = sealed.split_first_chunk::<24>() else { return Err(fault) };
        self.seal
            .decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: label.as_bytes() })
            .map(Zeroizing::new)
            .map_err(|_| fault)
    }
}

fn hex8(bytes: &[u8; 32]) -> String {
    bytes[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}
