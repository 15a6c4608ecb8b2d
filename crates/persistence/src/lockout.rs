//! Sign-ins that failed, counted for all processes: of an account, of a network, and of the two together. What is counted
//! hangs on the address as it was typed, so that one which nobody has answers like any other. Refuses to know how long
//! anybody waits.
//!
//! A try is judged before its password is hashed, counted afterwards, and judged again then: of a burst, which
//! `limits.sign_in_per_minute` bounds, those that end when too many have failed are turned away alike, whether their
//! password was right or wrong.

use chrono::{DateTime, SecondsFormat, Utc};
use guildhall_domain::{
    access::Open,
    accounts::SignInCode,
    activity::LoginCode,
    lockout::{Counted, FAILURES_LAST, Failures, NETWORKS_LAST, network},
    refusal::{Detail, Refusal},
    text::Email,
};
use sea_orm::FromQueryResult;
use uuid::Uuid;

use crate::{
    activity::{self, Who},
    db::{Ask, Db, Engine, Tx},
    error::{Fault, OpError},
    sessions::Device,
    sql::{Single, Sql},
};

/// An account and a network, as they are counted.
pub(crate) struct Door {
    address: String,
    keys: [(Counted, Uuid); 3],
}

#[derive(Debug, FromQueryResult)]
struct Row {
    id: Uuid,
    failures: i32,
    failed_at: Option<DateTime<Utc>>,
    succeeded_at: Option<DateTime<Utc>>,
    noted: bool,
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
        Self { address, keys }
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
        &self,
        db: &Db,
        proof: &Open,
        device: &Device,
    ) -> Result<(), OpError<SignInCode>> {
        let rows = self.rows(&db.read(proof)).await?;
        let Some((key, until, noted)) = self.judge(db, &rows, db.now()) else { return Ok(()) };
        if !noted {
            db.in_earnest()
                .write::<_, SignInCode>(proof, async |tx| {
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
        let rows = self.rows(tx).await?;
        match self.judge(tx.db(), &rows, tx.now()) {
            Some((_, until, _)) => Err(locked(until).into()),
            None => Ok(self.reset(tx).await?),
        }
    }

    /// The same, however much has failed, and for the account from everywhere: its owner has shown who they are.
    pub(crate) async fn forgive(&self, tx: &Tx<'_>) -> Result<(), Fault> {
        if tx.db().engine() == Engine::Postgres {
            // In the order in which failures are counted, so that neither waits for the other.
            let sql = Sql::new("SELECT id FROM sign_in_tries WHERE id IN ")
                .bind_list(self.keys.iter().map(|(_, key)| *key))
                .push(" ORDER BY id FOR UPDATE");
            tx.all::<Single<Uuid>>(sql).await?;
        }
        self.reset(tx).await?;
        let account = self.keys.iter().filter(|(counted, _)| *counted == Counted::Account);
        let sql = Sql::new("DELETE FROM sign_in_tries WHERE id IN ").bind_list(account.map(|(_, key)| *key));
        tx.run(sql).await?;
        Ok(())
    }

    async fn reset(&self, tx: &Tx<'_>) -> Result<(), Fault> {
        let pair = self.keys.iter().find(|(counted, _)| *counted == Counted::Pair);
        let Some((_, key)) = pair else { return Ok(()) };
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
             noted = FALSE, expires_at = excluded.expires_at",
        );
        tx.run(sql).await?;
        Ok(())
    }

    /// Writes down how a try ended that was refused. Until when it would have to wait, had it come later: others of the same
    /// burst have failed meanwhile.
    pub(crate) async fn note_refused(
        &self,
        db: &Db,
        proof: &Open,
        code: SignInCode,
        device: &Device,
    ) -> Result<Option<Refusal<SignInCode>>, OpError<SignInCode>> {
        let code = match code {
            SignInCode::InvalidCredentials => LoginCode::WrongPassword,
            SignInCode::SecondFactorRequired => LoginCode::SecondFactorAsked,
            SignInCode::SecondFactorInvalid => LoginCode::WrongSecondFactor,
            SignInCode::UserDisabled => LoginCode::Disabled,
            SignInCode::InvalidInput | SignInCode::SignInLocked | SignInCode::RateLimited => return Ok(None),
        };
        // Also when the sign-in is only tried: nobody guesses passwords for nothing.
        db.in_earnest()
            .write(proof, async |tx| {
                if matches!(code, LoginCode::WrongPassword | LoginCode::WrongSecondFactor) {
                    let rows = self.rows(tx).await?;
                    if let Some((_, until, _)) = self.judge(db, &rows, tx.now()) {
                        return Ok(Some(locked(until)));
                    }
                    self.failed(tx).await?;
                }
                activity::note(tx, Who::Address(&self.address), code, device).await?;
                Ok(None)
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
