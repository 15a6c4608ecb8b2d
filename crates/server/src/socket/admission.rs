//! Who may open a socket: the origin, the number in all and per actor. Refuses to know what is said on it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::http::{HeaderMap, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;
use uuid::Uuid;

use crate::limits::SocketLimits;

/// Counts open sockets.
pub struct Sockets {
    total: u32,
    free: Arc<Semaphore>,
    per_actor: Arc<Mutex<HashMap<Uuid, usize>>>,
}

/// One open socket's place in the count; given back when dropped.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    actor: Option<Uuid>,
    per_actor: Arc<Mutex<HashMap<Uuid, usize>>>,
}

impl Sockets {
    pub fn new(limits: &SocketLimits) -> Self {
        let total = u32::try_from(limits.total).unwrap_or(u32::MAX);
        Self { total, free: Arc::new(Semaphore::new(limits.total)), per_actor: Arc::default() }
    }

    /// Waits until every socket is closed; no further one can open after that. For shutdown: cancel the gateway's
    /// token first.
    pub async fn drained(&self) {
        if let Ok(all) = self.free.acquire_many(self.total).await {
            all.forget();
        }
    }

    pub(super) fn enter(&self) -> Option<Place> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(Place { _permit: permit, actor: None, per_actor: Arc::clone(&self.per_actor) })
    }
}

impl Place {
    /// Counts the socket as the actor's; false when the actor has `most` already.
    pub(super) fn claim(&mut self, actor: Uuid, most: usize) -> bool {
        let mut counts = self.per_actor.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(actor).or_default();
        if *count >= most {
            return false;
        }
        *count += 1;
        self.actor = Some(actor);
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(actor) = self.actor else { return };
        let mut counts = self.per_actor.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&actor) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&actor);
            }
        }
    }
}

/// Whether a browser page of this origin may connect: the server's own host, or a configured origin. Clients that are
/// no browsers send no origin and pass: they hold no cookies of anybody.
pub(super) fn origin_allowed(headers: &HeaderMap, allowed: &[String], trust_proxy: bool) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    if allowed.iter().any(|allowed| allowed.trim_end_matches('/').eq_ignore_ascii_case(origin)) {
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
        let actor = Uuid::from_u128(1);
        let mut first = sockets.enter().unwrap();
        let mut second = sockets.enter().unwrap();
        assert!(sockets.enter().is_none());
        assert!(first.claim(actor, 1));
        assert!(!second.claim(actor, 1));
        drop(first);
        assert!(second.claim(actor, 1));
        assert_eq!(sockets.free.available_permits() + 1, sockets.total as usize);
        drop(second);
        assert_eq!(sockets.free.available_permits(), sockets.total as usize);
        assert!(sockets.per_actor.lock().unwrap().is_empty());
    }
}
