//! Limits on what is tried often: passwords, links, invitations. Kept in memory by each process; what they
//! protect holds without them.

use std::{fmt, num::NonZeroU32, time::Duration};

use governor::{
    DefaultKeyedRateLimiter, Quota,
    clock::{Clock, DefaultClock},
};
use guildhall_domain::lockout::network;

/// How often something may be tried.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Sign-ins per minute, for one account from one address.
    pub sign_in_per_minute: NonZeroU32,
    /// Tries of link and refresh tokens per minute from one address.
    pub tokens_per_minute: NonZeroU32,
    /// Invitations per hour by one inviter.
    pub invitations_per_hour: NonZeroU32,
    /// Invitations per hour to one workspace.
    pub invitations_per_hour_per_workspace: NonZeroU32,
    /// Invitations per hour from one IP address.
    pub invitations_per_hour_per_ip: NonZeroU32,
    /// Invitations per hour to one e-mail address.
    pub invitations_per_hour_per_recipient: NonZeroU32,
}

/// More than anybody needs, and few enough that nobody takes all the names.
const ORGANIZATIONS_PER_HOUR: NonZeroU32 = NonZeroU32::new(10).unwrap();

/// Enough for somebody who mends a credential, and few enough that nobody hammers a service with them.
const CREDENTIAL_TESTS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(10).unwrap();

/// Enough for somebody who waits for DNS, and few enough that nobody hammers it with us.
const DOMAINS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(10).unwrap();

/// Mails to one address on which nobody who is flooded need wait long, and more than anybody needs.
const RESETS_PER_HOUR: NonZeroU32 = NonZeroU32::new(6).unwrap();

/// The same from one network, in which many people may forget their passwords.
const RESETS_PER_HOUR_PER_IP: NonZeroU32 = NonZeroU32::new(60).unwrap();

/// The counters.
pub struct Throttle {
    sign_in: DefaultKeyedRateLimiter<String>,
    tokens: DefaultKeyedRateLimiter<String>,
    machines: DefaultKeyedRateLimiter<String>,
    inviter: DefaultKeyedRateLimiter<String>,
    workspace: DefaultKeyedRateLimiter<String>,
    ip: DefaultKeyedRateLimiter<String>,
    recipient: DefaultKeyedRateLimiter<String>,
    organizations: DefaultKeyedRateLimiter<String>,
    credential_tests: DefaultKeyedRateLimiter<String>,
    domains: DefaultKeyedRateLimiter<String>,
    resets: DefaultKeyedRateLimiter<String>,
    resets_by_ip: DefaultKeyedRateLimiter<String>,
}

impl Throttle {
    /// Fresh counters.
    pub fn new(rates: &Rates) -> Self {
        let per_minute = |rate| DefaultKeyedRateLimiter::keyed(Quota::per_minute(rate));
        let per_hour = |rate| DefaultKeyedRateLimiter::keyed(Quota::per_hour(rate));
        Self {
            sign_in: per_minute(rates.sign_in_per_minute),
            tokens: per_minute(rates.tokens_per_minute),
            machines: per_minute(rates.tokens_per_minute),
            inviter: per_hour(rates.invitations_per_hour),
            workspace: per_hour(rates.invitations_per_hour_per_workspace),
            ip: per_hour(rates.invitations_per_hour_per_ip),
            recipient: per_hour(rates.invitations_per_hour_per_recipient),
            organizations: per_hour(ORGANIZATIONS_PER_HOUR),
            credential_tests: per_minute(CREDENTIAL_TESTS_PER_MINUTE),
            domains: per_minute(DOMAINS_PER_MINUTE),
            resets: per_hour(RESETS_PER_HOUR),
            resets_by_ip: per_hour(RESETS_PER_HOUR_PER_IP),
        }
    }

    /// Forgets who has not tried for long: called by housekeeping, so that the counters stay bounded.
    pub fn forget_idle(&self) {
        for counters in [
            &self.sign_in,
            &self.tokens,
            &self.machines,
            &self.inviter,
            &self.workspace,
            &self.ip,
            &self.recipient,
            &self.organizations,
            &self.credential_tests,
            &self.domains,
            &self.resets,
            &self.resets_by_ip,
        ] {
            counters.retain_recent();
            counters.shrink_to_fit();
        }
    }

    /// Counts an organization that somebody makes.
    pub fn organization(&self, owner: &str) -> Result<(), Wait> {
        check(&self.organizations, owner.to_owned())
    }

    /// Counts a test of a credential.
    pub fn credential_test(&self, user: &str) -> Result<(), Wait> {
        check(&self.credential_tests, user.to_owned())
    }

    /// Counts a look into DNS for a domain of that organization.
    pub fn domain(&self, organization: &str) -> Result<(), Wait> {
        check(&self.domains, organization.to_owned())
    }

    /// Counts a mail that lets the holder of an address back in, or confirms an address: whoever has it.
    pub fn account_mail(&self, ip: Option<&str>, address: &str) -> Result<(), Wait> {
        check(&self.resets_by_ip, network(ip))?;
        check(&self.resets, address.to_owned())
    }

    /// Counts a try of a password.
    pub fn sign_in(&self, ip: Option<&str>, account: &str) -> Result<(), Wait> {
        check(&self.sign_in, format!("{} {account}", network(ip)))
    }

    /// Counts a try of a link's or a session's secret.
    pub fn token(&self, ip: Option<&str>) -> Result<(), Wait> {
        check(&self.tokens, network(ip))
    }

    /// Counts a try of a machine's secret that failed. Apart from people's: one machine that tries an old secret in a loop
    /// must not keep those from working who share its address.
    pub fn machine(&self, ip: Option<&str>) -> Result<(), Wait> {
        check(&self.machines, network(ip))
    }

    /// Counts an invitation.
    pub fn invitation(
        &self,
        inviter: &str,
        workspace: &str,
        ip: Option<&str>,
        recipient: &str,
    ) -> Result<(), Wait> {
        check(&self.inviter, inviter.to_owned())?;
        check(&self.workspace, workspace.to_owned())?;
        check(&self.ip, network(ip))?;
        check(&self.recipient, recipient.to_owned())
    }
}

/// Tried too often: how long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// At least one.
    pub seconds: u64,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Too many tries. Wait {} seconds and try again.", self.seconds)
    }
}

impl From<Wait> for String {
    fn from(wait: Wait) -> Self {
        wait.to_string()
    }
}

fn check(counters: &DefaultKeyedRateLimiter<String>, key: String) -> Result<(), Wait> {
    counters.check_key(&key).map_err(|not_until| {
        let wait = not_until.wait_time_from(DefaultClock::default().now()).max(Duration::from_secs(1));
        Wait { seconds: wait.as_secs() }
    })
}
