//! What was asked with an idempotency key, and what was answered: so that a mutation that is sent again is carried out once.
//! Knows keys by numbers made of them; refuses to know what was asked.
//!
//! An attempt claims its key for a while. Each of its transactions says so in the row of the key, and is rolled back where
//! another attempt has taken over. So whoever finds a key whose attempt went away knows whether anything was changed: if
//! not, they take over; else they are told that it was done and that the answer is lost.

use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use guildhall_domain::access::{Actor, System};
use sea_orm::FromQueryResult;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    db::{Db, Tx},
    error::{Fault, OpError},
    sql::Sql,
};

/// How long an answer is given again.
pub const ANSWERS_LAST: TimeDelta = TimeDelta::hours(24);
/// How long an attempt may take before another takes over.
pub const LEASE: TimeDelta = TimeDelta::seconds(60);
/// The longest answer that is kept, in bytes.
const LONGEST_ANSWER: usize = 1024 * 1024;

/// A mutation that is to be carried out once.
#[derive(Clone, Copy, Debug)]
pub struct Once {
    id: Uuid,
    fingerprint: [u8; 32],
}

impl Once {
    /// Of that actor and key; `body` is what has to be the same when it is sent again.
    pub fn new(db: &Db, actor: Option<Actor>, key: &str, body: &[&[u8]]) -> Self {
        let actor = actor.map(|actor| actor.uuid().to_string()).unwrap_or_default();
        let id = db.keys().counter("idempotency key", [&actor, key]);
        Self { id, fingerprint: db.keys().fingerprint_of(body) }
    }
}

/// The right to carry it out.
#[derive(Debug)]
pub struct Claim {
    id: Uuid,
    attempt: Uuid,
    passes: AtomicBool,
    fades: AtomicBool,
}

impl Claim {
    /// Says that the answer is one that passes by itself, such as that something was tried too often: it is not kept.
    pub fn passes(&self) {
        self.passes.store(true, Ordering::Relaxed);
    }

    /// Says that the answer holds what opens something at once, such as a session's tokens: it is given again only as long as
    /// a client that lost it would ask.
    pub fn fades(&self) {
        self.fades.store(true, Ordering::Relaxed);
    }

    /// Notes in the transaction of a change that it was made.
    pub(crate) async fn perform(&self, tx: &Tx<'_>) -> Result<(), Fault> {
        let sql =
            Sql::new("UPDATE idempotency_keys SET performed = performed + 1 WHERE is_done = FALSE AND id = ")
                .bind(self.id)
                .push(" AND attempt = ")
                .bind(self.attempt);
        match tx.run(sql).await? {
            0 => Err(Fault::Overtaken),
            _ => Ok(()),
        }
    }
}

/// What is known of a key.
#[derive(Debug)]
pub enum Known {
    /// Nothing: carry it out, and then call [`finish`].
    Mine(Claim),
    /// It was carried out, with this answer.
    Answered(Zeroizing<Vec<u8>>),
    /// It was carried out, and the answer was not kept.
    AnswerLost,
    /// Somebody carries it out at this moment.
    Underway,
    /// It was used for something else.
    OtherBody,
}

#[derive(FromQueryResult)]
struct Row {
    fingerprint: Vec<u8>,
    attempt: Uuid,
    performed: i32,
    is_done: bool,
    sealed: Option<Vec<u8>>,
    leased_until: DateTime<Utc>,
    expires_at: DateTime<Utc>,
}

/// Claims the key, or says what is known of it.
#[expect(clippy::disallowed_methods, reason = "keys are claimed before anybody's rights are known")]
pub async fn claim(db: &Db, once: &Once) -> Result<Known, Fault> {
    let proof = System::named("idempotency keys");
    let claimed = db.write::<_, ()>(&proof, async |tx| {
        let attempt: Uuid = tx.fresh_id();
        let mine = || {
            let (passes, fades) = (AtomicBool::default(), AtomicBool::default());
            Known::Mine(Claim { id: once.id, attempt, passes, fades })
        };
        let sql = Sql::new(
            "INSERT INTO idempotency_keys (id, fingerprint, attempt, performed, is_done, leased_until, expires_at) VALUES (",
        )
        .bind(once.id)
        .push(", ")
        .bind(once.fingerprint.to_vec())
        .push(", ")
        .bind(attempt)
        .push(", 0, FALSE, ")
        .bind(tx.now() + LEASE)
        .push(", ")
        .bind(tx.now() + ANSWERS_LAST)
        .push(") ON CONFLICT (id) DO NOTHING");
        if tx.run(sql).await? > 0 {
            return Ok(mine());
        }
        let sql = Sql::new(
            "SELECT fingerprint, attempt, performed, is_done, sealed, leased_until, expires_at FROM idempotency_keys WHERE id = ",
        );
        // Gone since: the next try finds nothing.
        let Some(row) = tx.one::<Row>(sql.bind(once.id)).await? else { return Ok(Known::Underway) };
        let is_over = row.expires_at <= tx.now();
        if !is_over {
            if row.fingerprint != once.fingerprint {
                return Ok(Known::OtherBody);
            }
            if row.is_done {
                let sealed = row.sealed.filter(|_| tx.now() < row.leased_until);
                let opened = sealed.and_then(|sealed| db.keys().open_answer(once.id, &sealed));
                return Ok(opened.map_or(Known::AnswerLost, Known::Answered));
            }
            if tx.now() < row.leased_until {
                return Ok(Known::Underway);
            }
            if row.performed > 0 {
                return Ok(Known::AnswerLost);
            }
        }
        let sql = Sql::new("UPDATE idempotency_keys SET performed = 0, is_done = FALSE, sealed = NULL, fingerprint = ")
            .bind(once.fingerprint.to_vec())
            .push(", attempt = ")
            .bind(attempt)
            .push(", leased_until = ")
            .bind(tx.now() + LEASE)
            .push(", expires_at = ")
            .bind(tx.now() + ANSWERS_LAST)
            .push(" WHERE id = ")
            .bind(once.id)
            .push(" AND attempt = ")
            .bind(row.attempt)
            .push(" AND performed = ")
            .bind(row.performed);
        Ok(if tx.run(sql).await? > 0 { mine() } else { Known::Underway })
    });
    claimed.await.map_err(OpError::into_fault)
}

/// Keeps the answer; `None`: there is none to keep. An attempt that changed nothing and whose answer passes gives its key
/// back.
#[expect(clippy::disallowed_methods, reason = "whose key it is was asked when it was claimed")]
pub async fn finish(db: &Db, claim: &Claim, answer: Option<&[u8]>) -> Result<(), Fault> {
    let proof = System::named("idempotency keys");
    let sealed = match answer.filter(|answer| answer.len() <= LONGEST_ANSWER) {
        Some(answer) => Some(db.keys().seal_answer(claim.id, answer)?),
        None => None,
    };
    let gives_back = claim.passes.load(Ordering::Relaxed);
    let finished = db.write::<_, ()>(&proof, async |tx| {
        let mine = |sql: Sql| sql.bind(claim.id).push(" AND attempt = ").bind(claim.attempt);
        if gives_back {
            let sql = mine(Sql::new("DELETE FROM idempotency_keys WHERE performed = 0 AND id = "));
            if tx.run(sql).await? > 0 {
                return Ok(());
            }
        }
        let told_for = if claim.fades.load(Ordering::Relaxed) { LEASE } else { ANSWERS_LAST };
        let sql = Sql::new("UPDATE idempotency_keys SET is_done = TRUE, leased_until = ")
            .bind(tx.now() + told_for)
            .push(", sealed = ")
            .bind(sealed.clone());
        tx.run(mine(sql.push(" WHERE id = "))).await?;
        Ok(())
    });
    finished.await.map_err(OpError::into_fault)
}
