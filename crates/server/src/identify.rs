//! From a bearer token to an identity. Knows the signature and the expiry of access tokens, and the form of API keys; whether
//! the session or the key behind one is still good is asked of the database by each guard.

use std::time::Duration;

use chrono::{DateTime, Utc};
use guildhall_domain::access::Actor;
use guildhall_persistence::{Db, TokenFault, is_api_key};
use moka::sync::Cache;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Who asks, as far as the token says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identity {
    /// With how long the token is good; a key has no end that the text tells.
    actor: Option<(Actor, Option<Duration>)>,
}

impl Identity {
    /// Who acts; `None` without a token.
    pub fn actor(&self) -> Option<Actor> {
        self.actor.map(|(actor, _)| actor)
    }

    /// What limits per actor count by.
    pub fn actor_key(&self) -> Option<Uuid> {
        self.actor().map(Actor::uuid)
    }

    /// How long the token was still good for when it was read.
    pub fn left(&self) -> Option<Duration> {
        self.actor.and_then(|(_, left)| left)
    }
}

/// Why no identity could be established.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not a token of this instance.
    Invalid,
    /// Was valid once.
    Expired,
}

/// How many tokens are remembered. Each takes some hundred bytes.
const REMEMBERED: u64 = 10_000;

/// Reads tokens.
#[derive(Clone, Debug)]
pub struct Identify {
    db: Db,
    /// Genuine tokens by their SHA-256: to read and verify one costs as much as the rest of a small request.
    genuine: Cache<[u8; 32], (Actor, DateTime<Utc>)>,
}

impl Identify {
    /// Reads the tokens that this instance's keys sign.
    pub fn new(db: Db) -> Self {
        Self { db, genuine: Cache::new(REMEMBERED) }
    }

    /// The database whose keys they are.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Whom the token stands for; nobody without one.
    pub fn identify(&self, bearer: Option<&str>) -> Result<Identity, Refused> {
        let Some(token) = bearer else { return Ok(Identity::default()) };
        if is_api_key(token) {
            let actor = self.db.keys().read_api_key(token).ok_or(Refused::Invalid)?;
            return Ok(Identity { actor: Some((actor, None)) });
        }
        let now = self.db.now();
        let read = || self.db.keys().identify(token, now);
        let known = self.genuine.try_get_with(Sha256::digest(token).into(), read);
        match known.map_err(|fault| *fault) {
            // It was not expired when it was read first.
            Ok((_, expires_at)) if expires_at <= now => Err(Refused::Expired),
            Ok((actor, expires_at)) => {
                let left = (expires_at - now).to_std().unwrap_or_default();
                Ok(Identity { actor: Some((actor, Some(left))) })
            }
            Err(TokenFault::Expired) => Err(Refused::Expired),
            Err(TokenFault::Invalid) => Err(Refused::Invalid),
        }
    }
}
