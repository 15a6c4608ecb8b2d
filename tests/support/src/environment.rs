//! The settings a server under test starts with: as in production, but with fixed secrets and limits no test meets
//! by accident.

use std::{collections::BTreeMap, ffi::OsString, path::Path};

use guildhall_server::config::{Config, Sources};

use crate::mailbox::MailServer;

/// Environment variables by name.
#[derive(Clone, Debug)]
pub struct Environment(BTreeMap<&'static str, String>);

impl Environment {
    /// The usual ones of a server that is reached at `url`.
    pub(crate) fn new(url: &str, database: &str, data: &Path, mail: &MailServer) -> Self {
        let listen = url.trim_start_matches("http://");
        let mut environment = Self(BTreeMap::new());
        environment
            .set("APP_URL", url)
            .set("GUILDHALL_LISTEN", listen)
            .set("GUILDHALL_DATA_DIR", data.to_str().expect("the temporary directory has a UTF-8 name"))
            .set("DATABASE_URL", database)
            .set("GUILDHALL_DATABASE_SQLITE_SYNCHRONOUS", "normal")
            .set("GUILDHALL_DATABASE_MAX_CONNECTIONS", 8)
            .set("SMTP_HOST", "127.0.0.1")
            .set("SMTP_PORT", mail.port())
            .set("JWT_AUTH_TOKEN_SECRET", "access tokens of the tests, signed")
            .set("JWT_REFRESH_TOKEN_SECRET", "refresh tokens of the tests, made")
            .set("TOKEN_HASH_SECRET", "links and tokens of the tests, hashed")
            .set("MASTER_KEY", "dGhlIG1hc3RlciBrZXkgb2YgdGhlIHRlc3RzLCAzMiE=")
            .set("PASSWORD_SALT_HASH_ROUNDS", 2)
            .set("GUILDHALL_SHUTDOWN_GRACE_SECONDS", 5)
            .set("GUILDHALL_LIMITS_REQUESTS_PER_MINUTE", 0)
            .set("GUILDHALL_LIMITS_REQUESTS_PER_MINUTE_PER_IP", 0)
            .set("GUILDHALL_LIMITS_SIGN_IN_PER_MINUTE", 100_000)
            .set("GUILDHALL_SIGN_IN_FREE_FAILURES", 100_000)
            .set("GUILDHALL_LIMITS_TOKEN_ATTEMPTS_PER_MINUTE", 100_000)
            .set("GUILDHALL_LIMITS_INVITATIONS_PER_HOUR", 1_000_000)
            .set("GUILDHALL_LIMITS_INVITATIONS_PER_HOUR_PER_WORKSPACE", 1_000_000)
            .set("GUILDHALL_LIMITS_INVITATIONS_PER_HOUR_PER_RECIPIENT", 1_000_000);
        environment
    }

    /// Sets a variable, by its name in `config.default.toml`.
    pub fn set(&mut self, name: &'static str, value: impl ToString) -> &mut Self {
        self.0.insert(name, value.to_string());
        self
    }

    /// Leaves a variable to its default: without `SMTP_HOST`, mail is written into files.
    pub fn unset(&mut self, name: &str) -> &mut Self {
        self.0.remove(name);
        self
    }

    pub(crate) fn variables(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }

    pub(crate) fn config(&self) -> Config {
        let environment =
            self.variables().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
        Config::load(&Sources { file: None, environment }).unwrap_or_else(|faults| panic!("{faults}"))
    }
}
