//! From a bearer token to an identity. Knows the signature and the expiry of access tokens; whether the session
//! behind one is still alive is asked of the database by each guard.

use std::time::Duration;

use guildhall_domain::access::Actor;
use guildhall_persistence::{Db, TokenFault};
use uuid::Uuid;

/// Who asks, as far as the token says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identity {
    actor: Option<(Actor, Duration)>,
}

impl Identity {
    /// Who acts; `None` without a token.
    pub fn actor(&self) -> Option<Actor> {
        self.actor.map(|(actor, _)| actor)
    }

    /// What limits per actor count by.
    pub fn actor_key(&self) -> Option<Uuid> {
        self.actor().map(|actor| actor.user().uuid())
    }

    /// How long the token was still good for when it was read.
    pub fn left(&self) -> Option<Duration> {
        self.actor.map(|(_, left)| left)
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

/// Reads tokens.
#[derive(Clone, Debug)]
pub struct Identify(Db);

impl Identify {
    /// Reads the tokens that this instance's keys sign.
    pub fn new(db: Db) -> Self {
        Self(db)
    }

    /// Whom the token stands for; nobody without one.
    pub fn identify(&self, bearer: Option<&str>) -> Result<Identity, Refused> {
        let Some(token) = bearer else { return Ok(Identity::default()) };
        let now = self.0.now();
        match self.0.keys().identify(token, now) {
            Ok((actor, expires_at)) => {
                Ok(Identity { actor: Some((actor, (expires_at - now).to_std().unwrap_or_default())) })
            }
            Err(TokenFault::Expired) => Err(Refused::Expired),
            Err(TokenFault::Invalid) => Err(Refused::Invalid),
        }
    }
}
