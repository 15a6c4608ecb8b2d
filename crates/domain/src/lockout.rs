//! Waiting after sign-ins that failed. Knows how many are free and how long the wait grows; refuses to know how they are
//! counted.
//!
//! Three things are counted: an account from one network, the account from any, and the network against any account. The
//! first is what a person who mistypes meets. The others slow down whoever tries from many networks, or many accounts,
//! and would let strangers keep people out: so neither holds for an account in a network from which it signed in
//! before. No wait is longer than the longest, nothing that is tried meanwhile prolongs it, and a password that is reset
//! by mail ends it.

use std::net::IpAddr;

use chrono::{DateTime, TimeDelta, Utc};

/// The wait after the first failure that is not free; it doubles with each further one.
const FIRST_WAIT: TimeDelta = TimeDelta::seconds(30);
/// How long after the last failure all are forgotten.
pub const FAILURES_LAST: TimeDelta = TimeDelta::days(1);
/// How long a network counts as one from which an account signed in.
pub const NETWORKS_LAST: TimeDelta = TimeDelta::days(90);

/// What is counted as one: an IPv4 address, and of IPv6 what one household gets.
pub fn network(ip: Option<&str>) -> String {
    match ip.and_then(|ip| ip.parse::<IpAddr>().ok()).map(|ip| ip.to_canonical()) {
        Some(IpAddr::V4(ip)) => ip.to_string(),
        Some(IpAddr::V6(ip)) => {
            let [a, b, c, d, ..] = ip.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::")
        }
        None => String::new(),
    }
}

/// What an instance decides about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lockout {
    /// How many failures of one account from one network are free.
    pub free: u32,
    /// The longest wait.
    pub longest: TimeDelta,
}

impl Default for Lockout {
    fn default() -> Self {
        Self { free: 10, longest: TimeDelta::minutes(15) }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// An account from one network.
    Pair,
    /// An account, from any network.
    Account,
    /// A network, against any account.
    Network,
}

impl Counted {
    /// Everything that is counted.
    pub const ALL: [Self; 3] = [Self::Pair, Self::Account, Self::Network];

    /// How many times as many failures are free as of a pair.
    const fn times(self) -> u32 {
        match self {
            Self::Pair => 1,
            Self::Account => 5,
            Self::Network => 10,
        }
    }
}

/// Sign-ins that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failures {
    /// How many, since they were forgotten last.
    pub number: u32,
    /// When the last one was.
    pub last: DateTime<Utc>,
}

impl Lockout {
    /// How many failures of that are free.
    pub fn free_of(&self, counted: Counted) -> u32 {
        self.free.saturating_mul(counted.times())
    }

    /// Until when that waits, if it does.
    pub fn until(&self, counted: Counted, failures: Failures, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let beyond = failures.number.checked_sub(self.free_of(counted))?;
        let wait = FIRST_WAIT * 2_i32.pow(beyond.min(16));
        let until = failures.last + wait.min(self.longest);
        (now < until).then_some(until)
    }

    /// Until when a try has to wait, and for which of what is counted. `is_known`: the account signed in from this network
    /// before.
    pub fn judge(
        &self,
        failures: &[(Counted, Failures)],
        is_known: bool,
        now: DateTime<Utc>,
    ) -> Option<(Counted, DateTime<Utc>)> {
        failures
            .iter()
            .filter(|(counted, _)| *counted == Counted::Pair || !is_known)
            .filter_map(|(counted, failures)| Some((*counted, self.until(*counted, *failures, now)?)))
            .max_by_key(|(_, until)| *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;

    fn wait(counted: Counted, number: u32) -> Option<i64> {
        let failures = Failures { number, last: NOW };
        Lockout::default().until(counted, failures, NOW).map(|until| (until - NOW).num_seconds())
    }

    #[test]
    fn the_wait_doubles_up_to_the_longest() {
        for (number, seconds) in [
            (0, None),
            (9, None),
            (10, Some(30)),
            (11, Some(60)),
            (12, Some(120)),
            (14, Some(480)),
            (15, Some(900)),
            (u32::MAX, Some(900)),
        ] {
            assert_eq!(wait(Counted::Pair, number), seconds, "{number}");
        }
        assert_eq!((wait(Counted::Account, 49), wait(Counted::Account, 50)), (None, Some(30)));
        assert_eq!((wait(Counted::Network, 99), wait(Counted::Network, 100)), (None, Some(30)));
    }

    #[test]
    fn a_wait_ends_by_itself() {
        let failures = Failures { number: 10, last: NOW };
        let until =
            |seconds| Lockout::default().until(Counted::Pair, failures, NOW + TimeDelta::seconds(seconds));
        assert!(until(29).is_some());
        assert_eq!(until(30), None);
    }

    #[test]
    fn strangers_keep_nobody_out_of_a_network_they_know() {
        let of = |counted, number| (counted, Failures { number, last: NOW });
        let rules = Lockout::default();
        let besieged = [of(Counted::Pair, 3), of(Counted::Account, 5000), of(Counted::Network, 5000)];
        assert!(rules.judge(&besieged, false, NOW).is_some());
        assert_eq!(rules.judge(&besieged, true, NOW), None);
        // Whoever guesses from there waits all the same.
        assert_eq!(
            rules.judge(&[of(Counted::Pair, 10)], true, NOW).map(|(counted, _)| counted),
            Some(Counted::Pair)
        );
    }

    #[test]
    fn a_household_is_one_network() {
        assert_eq!(network(Some("192.0.2.7")), "192.0.2.7");
        assert_eq!(network(Some("::ffff:192.0.2.7")), "192.0.2.7");
        assert_eq!(network(Some("2001:db8:1:2:3:4:5:6")), network(Some("2001:db8:1:2::9")));
        assert_ne!(network(Some("2001:db8:1:2::9")), network(Some("2001:db8:1:3::9")));
        assert_eq!(network(Some("unknown")), network(None));
    }
}
