//! Who may open a socket or a stream of events: the origin, the number in all and for each holder. Refuses to know what
//! is said on it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::http::{HeaderMap, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;
use uuid::Uuid;

use crate::limits::SocketLimits;

/// Whose a connection is: one account's or key's, or of whom nothing is known but the network they are in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    Actor(Uuid),
    Network(String),
}

type Counts = Arc<Mutex<HashMap<Holder, usize>>>;

/// Counts open sockets and streams.
pub struct Sockets {
    total: u32,
    free: Arc<Semaphore>,
    counts: Counts,
}

/// One open connection's place in the count; given back when dropped.
pub struct Place {
    _permit: OwnedSemaphorePermit,
    holder: Option<Holder>,
    counts: Counts,
}

impl Sockets {
    pub fn new(limits: &SocketLimits) -> Self {
        let total = u32::try_from(limits.total).unwrap_or(u32::MAX);
        Self { total, free: Arc::new(Semaphore::new(limits.total)), counts: Arc::default() }
    }

    /// Waits until every socket is closed; no further one can open after that. For shutdown: cancel the gateway's
    /// token first.
    pub async fn drained(&self) {
        if let Ok(all) = self.free.acquire_many(self.total).await {
            all.forget();
        }
    }

    /// Room for one more connection, nobody's yet.
    pub fn enter(&self) -> Option<Place> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(Place { _permit: permit, holder: None, counts: Arc::clone(&self.counts) })
    }
}

impl Place {
    /// Counts the connection as this holder's, and no longer as another's; false when the holder has `most` already.
    pub fn claim(&mut self, holder: Holder, most: usize) -> bool {
        self.release();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.get(&holder).copied().unwrap_or_default();
        if count >= most {
            return false;
        }
        counts.insert(holder.clone(), count + 1);
        self.holder = Some(holder);
        true
    }

    /// Counts the connection as nobody's.
    pub(super) fn release(&mut self) {
        let Some(holder) = self.holder.take() else { return };
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&holder) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&holder);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.release();
    }
}

/// Whether a browser page of this origin may connect: the server's own host, or a configured origin. Clients that are
/// no browsers send no origin and pass: they hold no cookies of anybody. `*` allows all.
pub(super) fn origin_allowed(headers: &HeaderMap, allowed: &[String], trust_proxy: bool) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    if allowed
        .iter()
        .any(|allowed| allowed == "*" || allowed.trim_end_matches('/').eq_ignore_ascii_case(origin))
    {
        return true;
    }
    let forwarded = trust_proxy.then(|| headers.get("x-forwarded-host")).flatten();
    let Some(Ok(host)) = forwarded.or_else(|| headers.get(header::HOST)).map(|host| host.to_str()) else {
        return false;
    };
    let Ok(origin) = Url::parse(origin) else { return false };
    // The host is read with the origin's scheme, so that a default port equals none.
    let own = Url::parse(&format!("{}://{host}", origin.scheme()));
    matches!(origin.scheme(), "http" | "https") && own.is_ok_and(|own| own.origin() == origin.origin())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(origin: Option<&str>, host: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        headers.insert("x-forwarded-host", "outside.example".parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        origin_allowed(&headers, &["https://app.example".into()], false)
    }

    #[test]
    fn only_the_own_and_configured_origins_may_connect() {
        assert!(allowed(None, "api.example"));
        assert!(allowed(Some("https://api.example"), "api.example"));
        assert!(allowed(Some("https://api.example"), "api.example:443"));
        assert!(allowed(Some("http://localhost:8080"), "localhost:8080"));
        assert!(allowed(Some("https://app.example"), "api.example"));
        for foreign in [
            "https://evil.example",
            "http://localhost:1",
            "null",
            "",
            "https://app.example.evil",
            "file://localhost:8080",
            "https://outside.example",
        ] {
            assert!(!allowed(Some(foreign), "localhost:8080"), "{foreign}");
        }
    }

    #[test]
    fn a_place_is_given_back_when_its_socket_ends() {
        let sockets = Sockets::new(&SocketLimits { total: 2, ..SocketLimits::default() });
        let actor = Holder::Actor(Uuid::from_u128(1));
        let mut first = sockets.enter().unwrap();
        let mut second = sockets.enter().unwrap();
        assert!(sockets.enter().is_none());
        assert!(first.claim(actor.clone(), 1));
        assert!(!second.claim(actor.clone(), 1));
        drop(first);
        assert!(second.claim(actor.clone(), 1));
        assert!(second.claim(Holder::Network("10.0.0.1".into()), 1), "and is no longer the actor's");
        let mut third = sockets.enter().unwrap();
        assert!(third.claim(actor, 1));
        drop(third);
        assert_eq!(sockets.free.available_permits() + 1, sockets.total as usize);
        drop(second);
        assert_eq!(sockets.free.available_permits(), sockets.total as usize);
        assert!(sockets.counts.lock().unwrap().is_empty());
    }
}
