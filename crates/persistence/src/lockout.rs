//! Sign-ins that failed, counted for all processes: of an account, of a network, and of the two together. What is counted
//! hangs on the address as it was typed, so that one which nobody has answers like any other. Refuses to know how long
//! anybody waits.
//!
//! A try is judged before its password is hashed and counted afterwards. Of a burst, which `limits.sign_in_per_minute`
//! bounds, whoever finds the password when the others have failed too often meanwhile is turned away as well.

use std::net::IpAddr;

use chrono::{DateTime, SecondsFormat, Utc};
use guildhall_domain::{
    access::Open,
    accounts::SignInCode,
    activity::LoginCode,
    lockout::{Counted, FAILURES_LAST, Failures, NETWORKS_LAST},
    refusal::{Detail, Refusal},
    text::Email,
};
use sea_orm::FromQueryResult;
use uuid::Uuid;

use crate::{
    activity::{self, Who},
    db::{Ask, Db, Tx},
    error::{Fault, OpError},
    sessions::Device,
    sql::Sql,
};

/// An account and a network, as they are counted.
pub(crate) struct Door {
    address: String,
    keys: [(Counted, Uuid); 3],
    /// How many failures of the pair the try was judged by.
    seen: u32,
}

#[derive(Debug, FromQueryResult)]
struct Row {
    id: Uuid,
    failures: i32,
    failed_at: Option<DateTime<Utc>>,
    succeeded_at: Option<DateTime<Utc>>,
    noted: bool,
}

/// What is counted as one: an IPv4 address, and of IPv6 what one household gets.
fn network(ip: Option<&str>) -> String {
    match ip.and_then(|ip| ip.parse::<IpAddr>().ok()).map(|ip| ip.to_canonical()) {
        Some(IpAddr::V4(ip)) => ip.to_string(),
        Some(IpAddr::V6(ip)) => {
            let [a, b, c, d, ..] = ip.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::")
        }
        None => String::new(),
    }
}

impl Door {
    /// The door at which somebody tries that address; `None`: a text that is no address.
    pub(crate) fn of(db: &Db, email: Option<&Email>, device: &Device) -> Self {
        let address = email.map_or("", Email::as_str).to_owned();
        let network = network(device.ip.as_deref());
        let key = |counted| {
            let parts: [&str; 2] = match counted {
                Counted::Pair => [&address, &network],
                Counted::Account => [&address, ""],
                Counted::Network => ["", &network],
            };
            (counted, db.keys().counter(&format!("{counted:?}"), parts))
        };
        let keys = Counted::ALL.map(key);
        Self { address, keys, seen: 0 }
    }

    async fn rows(&self, ask: &impl Ask) -> Result<Vec<(Counted, Row)>, Fault> {
        let sql =
            Sql::new("SELECT id, failures, failed_at, succeeded_at, noted FROM sign_in_tries WHERE id IN ")
                .bind_list(self.keys.iter().map(|(_, key)| *key));
        let rows: Vec<Row> = ask.all(sql).await?;
        let counted = |id| self.keys.iter().find(|(_, key)| *key == id).map(|(counted, _)| *counted);
        Ok(rows.into_iter().filter_map(|row| Some((counted(row.id)?, row))).collect())
    }

    /// What waits, and until when; `noted`: it is written down already.
    fn judge(
        &self,
        db: &Db,
        rows: &[(Counted, Row)],
        now: DateTime<Utc>,
    ) -> Option<(Uuid, DateTime<Utc>, bool)> {
        let is_known = rows.iter().any(|(counted, row)| {
            *counted == Counted::Pair && row.succeeded_at.is_some_and(|at| now < at + NETWORKS_LAST)
        });
        let failures: Vec<_> = rows
            .iter()
            .filter_map(|(counted, row)| {
                let last = row.failed_at.filter(|last| now < *last + FAILURES_LAST)?;
                Some((*counted, Failures { number: u32::try_from(row.failures).unwrap_or(0), last }))
            })
            .collect();
        let (counted, until) = db.settings().lockout.judge(&failures, is_known, now)?;
        let (_, row) = rows.iter().find(|(of, _)| *of == counted)?;
        Some((row.id, until, row.noted))
    }

    /// Turns a try away that has to wait, whoever's address it is and whatever its password. The first of those that are
    /// turned away is written down.
    pub(crate) async fn check(
        &mut self,
        db: &Db,
        proof: &Open,
        device: &Device,
    ) -> Result<(), OpError<SignInCode>> {
        let rows = self.rows(&db.read(proof)).await?;
        let pair = rows.iter().find(|(counted, _)| *counted == Counted::Pair);
        self.seen = pair.map_or(0, |(_, row)| u32::try_from(row.failures).unwrap_or(0));
        let Some((key, until, noted)) = self.judge(db, &rows, db.now()) else { return Ok(()) };
        if !noted {
            db.write::<_, SignInCode>(proof, async |tx| {
                let sql = Sql::new("UPDATE sign_in_tries SET noted = TRUE WHERE noted = FALSE AND id = ");
                if tx.run(sql.bind(key)).await? > 0 {
                    activity::note(tx, Who::Address(&self.address), LoginCode::Locked, device).await?;
                }
                Ok(())
            })
            .await?;
        }
        Err(locked(until).into())
    }

    /// Writes down that a try failed.
    pub(crate) async fn failed(&self, tx: &Tx<'_>) -> Result<(), Fault> {
        // In one order, so that two that fail at once do not wait for each other.
        let mut keys = self.keys.map(|(_, key)| key);
        keys.sort_unstable();
        let mut sql =
            Sql::new("INSERT INTO sign_in_tries (id, failures, failed_at, noted, expires_at) VALUES ");
        for (place, key) in keys.into_iter().enumerate() {
            sql = sql
                .push(if place == 0 { "(" } else { ", (" })
                .bind(key)
                .push(", 1, ")
                .bind(tx.now())
                .push(", FALSE, ")
                .bind(tx.now() + FAILURES_LAST)
                .push(")");
        }
        let sql = sql
            .push(" ON CONFLICT (id) DO UPDATE SET failures = CASE WHEN sign_in_tries.failed_at > ")
            .bind(tx.now() - FAILURES_LAST)
            .push(
                " THEN sign_in_tries.failures + 1 ELSE 1 END, failed_at = excluded.failed_at, noted = FALSE, \
                 expires_at = CASE WHEN sign_in_tries.expires_at > excluded.expires_at THEN sign_in_tries.expires_at \
                 ELSE excluded.expires_at END",
            );
        tx.run(sql).await?;
        Ok(())
    }

    /// Forgets what failed here, and that the account knows this network from now on. Refuses where so much has failed
    /// since the try was judged that it would have to wait.
    pub(crate) async fn passed(&self, tx: &Tx<'_>) -> Result<(), OpError<SignInCode>> {
        let free = tx.db().settings().lockout.free_of(Counted::Pair);
        let most = i32::try_from(self.seen.max(free.saturating_sub(1))).unwrap_or(i32::MAX);
        if self.reset(tx, most).await? {
            return Ok(());
        }
        let rows = self.rows(tx).await?;
        let until = self.judge(tx.db(), &rows, tx.now()).map_or(tx.now(), |(_, until, _)| until);
        Err(locked(until).into())
    }

    /// The same, however much has failed, and for the account from everywhere: its owner has shown who they are.
    pub(crate) async fn forgive(&self, tx: &Tx<'_>) -> Result<(), Fault> {
        self.reset(tx, i32::MAX).await?;
        let account = self.keys.iter().filter(|(counted, _)| *counted == Counted::Account);
        let sql = Sql::new("DELETE FROM sign_in_tries WHERE id IN ").bind_list(account.map(|(_, key)| *key));
        tx.run(sql).await?;
        Ok(())
    }

    async fn reset(&self, tx: &Tx<'_>, most: i32) -> Result<bool, Fault> {
        let pair = self.keys.iter().find(|(counted, _)| *counted == Counted::Pair);
        let Some((_, key)) = pair else { return Ok(true) };
        let sql = Sql::new(
            "INSERT INTO sign_in_tries (id, failures, failed_at, succeeded_at, noted, expires_at) VALUES (",
        )
        .bind(*key)
        .push(", 0, NULL, ")
        .bind(tx.now())
        .push(", FALSE, ")
        .bind(tx.now() + NETWORKS_LAST)
        .push(
            ") ON CONFLICT (id) DO UPDATE SET failures = 0, failed_at = NULL, succeeded_at = excluded.succeeded_at, \
             noted = FALSE, expires_at = excluded.expires_at WHERE sign_in_tries.failures <= ",
        )
        .bind(most);
        Ok(tx.run(sql).await? > 0)
    }

    /// Writes down how a try ended that was refused.
    pub(crate) async fn note_refused(
        &self,
        db: &Db,
        proof: &Open,
        code: SignInCode,
        device: &Device,
    ) -> Result<(), OpError<SignInCode>> {
        let code = match code {
            SignInCode::InvalidCredentials => LoginCode::WrongPassword,
            SignInCode::UserDisabled => LoginCode::Disabled,
            SignInCode::InvalidInput | SignInCode::SignInLocked | SignInCode::RateLimited => return Ok(()),
        };
        db.write(proof, async |tx| {
            if code == LoginCode::WrongPassword {
                self.failed(tx).await?;
            }
            activity::note(tx, Who::Address(&self.address), code, device).await?;
            Ok(())
        })
        .await
    }
}

fn locked(until: DateTime<Utc>) -> Refusal<SignInCode> {
    // Whole seconds, and none too few.
    let until = DateTime::from_timestamp(until.timestamp() + 1, 0).unwrap_or(until);
    Refusal::new(
        SignInCode::SignInLocked,
        format!(
            "Too many sign-ins failed. Wait until {}, or set a new password by mail.",
            until.to_rfc3339_opts(SecondsFormat::Secs, true)
        ),
    )
    .with(Detail::RetryAt(until))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_household_is_one_network() {
        assert_eq!(network(Some("192.0.2.7")), "192.0.2.7");
        assert_eq!(network(Some("::ffff:192.0.2.7")), "192.0.2.7");
        assert_eq!(network(Some("2001:db8:1:2:3:4:5:6")), network(Some("2001:db8:1:2::9")));
        assert_ne!(network(Some("2001:db8:1:2::9")), network(Some("2001:db8:1:3::9")));
        assert_eq!(network(Some("unknown")), network(None));
    }
}
