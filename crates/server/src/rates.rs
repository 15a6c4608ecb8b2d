//! How many operations somebody may ask for. Counted for the account or key and for the network, in memory and by each process
//! for itself: it keeps one client from taking everybody's share, and no rule depends on it. Knows counts; what is tried
//! at the doors (passwords, links, invitations) is counted apart, by `guildhall_graphql::Throttle`.

use std::{num::NonZeroU32, time::Duration};

use async_graphql::{ErrorExtensionValues, ServerError};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::StateInformationMiddleware,
    state::keyed::DefaultKeyedStateStore,
};
use uuid::Uuid;

use crate::{
    errors::{Code, coded},
    gateway::Caller,
};

type Counters<K> = RateLimiter<K, DefaultKeyedStateStore<K>, DefaultClock, StateInformationMiddleware>;

/// Counters of what was asked.
pub struct Requests {
    actor: Option<(NonZeroU32, Counters<Uuid>)>,
    network: Option<(NonZeroU32, Counters<String>)>,
}

/// Where somebody stands after asking.
#[derive(Debug, Default)]
pub struct Standing {
    /// By each limit that counts them: its name, its quota a minute, and what is left.
    limits: Vec<(&'static str, u32, u32)>,
    /// How long to wait, where they have asked too often.
    wait: Option<Duration>,
}

impl Requests {
    /// So many a minute, all of which may come at once; none is no limit.
    pub fn new(per_actor: Option<NonZeroU32>, per_network: Option<NonZeroU32>) -> Self {
        fn counters<K: std::hash::Hash + Eq + Clone>(most: NonZeroU32) -> (NonZeroU32, Counters<K>) {
            (most, RateLimiter::keyed(Quota::per_minute(most)).with_middleware())
        }
        Self { actor: per_actor.map(counters), network: per_network.map(counters) }
    }

    /// Counts an operation of that caller.
    pub fn count(&self, caller: &Caller) -> Standing {
        let mut standing = Standing::default();
        if let (Some((most, counters)), Some(actor)) = (&self.actor, caller.identity.actor_key()) {
            standing.add("actor", *most, counters, &actor);
        }
        if let Some((most, counters)) = &self.network {
            standing.add("network", *most, counters, &caller.network());
        }
        standing
    }

    /// Forgets who has not asked for a minute, so that the counters stay bounded.
    pub fn forget_idle(&self) {
        if let Some((_, counters)) = &self.actor {
            counters.retain_recent();
            counters.shrink_to_fit();
        }
        if let Some((_, counters)) = &self.network {
            counters.retain_recent();
            counters.shrink_to_fit();
        }
    }
}

impl Standing {
    fn add<K: std::hash::Hash + Eq + Clone>(
        &mut self,
        name: &'static str,
        most: NonZeroU32,
        counters: &Counters<K>,
        key: &K,
    ) {
        let left = match counters.check_key(key) {
            Ok(snapshot) => snapshot.remaining_burst_capacity(),
            Err(not_until) => {
                let wait = not_until.wait_time_from(DefaultClock::default().now());
                self.wait = self.wait.max(Some(wait));
                0
            }
        };
        self.limits.push((name, most.get(), left));
    }

    /// What to refuse the operation with; none while there is something left.
    pub fn refusal(&self) -> Option<ServerError> {
        let seconds = self.retry_after()?;
        let message = format!("Too many requests. Wait {seconds} seconds and try again.");
        let mut error = coded(Code::RateLimited, message, None);
        error.extensions.get_or_insert_with(ErrorExtensionValues::default).set("retryAfterSeconds", seconds);
        Some(error)
    }

    /// Whole seconds to wait, where something is refused.
    pub fn retry_after(&self) -> Option<u64> {
        self.wait.map(whole_seconds)
    }

    /// `RateLimit-Policy` and `RateLimit`, as draft-ietf-httpapi-ratelimit-headers has them since version 8: structured
    /// lists, in which both limits find room. The three fields of the versions before (`RateLimit-Limit` and so on) could
    /// tell one.
    pub fn tell(&self, headers: &mut HeaderMap) {
        if self.limits.is_empty() {
            return;
        }
        let (mut policy, mut left) = (String::new(), String::new());
        for (name, most, remaining) in &self.limits {
            let comma = if policy.is_empty() { "" } else { ", " };
            policy.push_str(&format!("{comma}\"{name}\";q={most};w=60"));
            // Until all of it is there again: it comes back bit by bit.
            let full = (u64::from(most - remaining) * 60).div_ceil(u64::from(*most));
            left.push_str(&format!("{comma}\"{name}\";r={remaining};t={full}"));
        }
        for (name, value) in [("ratelimit-policy", policy), ("ratelimit", left)] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
}

fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::{client::ClientInfo, identify::Identity};

    fn from(ip: &str) -> Caller {
        let ip: IpAddr = ip.parse().unwrap();
        Caller { identity: Identity::default(), client: ClientInfo { ip: Some(ip), user_agent: None } }
    }

    #[test]
    fn a_network_has_its_share_and_the_next_one_another() {
        let requests = Requests::new(None, NonZeroU32::new(2));
        let mut headers = HeaderMap::new();
        let first = requests.count(&from("2001:db8::1"));
        first.tell(&mut headers);
        assert!(first.refusal().is_none());
        assert_eq!(headers["ratelimit-policy"], "\"network\";q=2;w=60");
        assert_eq!(headers["ratelimit"], "\"network\";r=1;t=30");
        assert!(requests.count(&from("2001:db8::2")).refusal().is_none(), "the same household");
        let third = requests.count(&from("2001:db8::3"));
        assert_eq!(third.retry_after(), Some(30));
        assert!(third.refusal().unwrap().message.contains("Wait 30 seconds"));
        third.tell(&mut headers);
        assert_eq!(headers["ratelimit"], "\"network\";r=0;t=60");
        assert!(requests.count(&from("192.0.2.1")).refusal().is_none());
    }

    #[test]
    fn without_limits_nothing_is_counted_or_told() {
        let requests = Requests::new(None, None);
        let mut headers = HeaderMap::new();
        for _ in 0..100 {
            let standing = requests.count(&from("192.0.2.1"));
            assert!(standing.refusal().is_none());
            standing.tell(&mut headers);
        }
        assert!(headers.is_empty());
    }

    #[test]
    fn who_was_not_seen_for_long_is_forgotten() {
        // A minute's share of 60000 is full again after a millisecond.
        let requests = Requests::new(None, NonZeroU32::new(60_000));
        for n in 0..1_000_u32 {
            requests.count(&from(&IpAddr::from(n.to_be_bytes()).to_string()));
        }
        std::thread::sleep(Duration::from_millis(20));
        requests.forget_idle();
        assert_eq!(requests.network.unwrap().1.len(), 0);
    }
}
