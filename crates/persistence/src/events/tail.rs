//! Reading the log as it grows: one task per process. Knows how a process learns that there is something to
//! read, and how numbers that become visible late are still found; refuses to know who subscribes.

use std::{collections::BTreeMap, convert::Infallible, io, time::Duration};

use guildhall_domain::access::System;
use sqlx::{Executor as _, postgres::PgListener};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{COLUMNS, Row, extent};
use crate::{
    db::{Db, Engine, Read},
    error::Fault,
    sql::{AT_ONCE, Single, Sql},
};

/// Where processes on one PostgreSQL tell each other that the log has grown.
const CHANNEL: &str = "guildhall_events";
/// How often the log is read without being told to.
const POLL: Duration = Duration::from_secs(1);
/// The shortest time from one reading to the next: under load one reading serves many commits.
const PACE: Duration = Duration::from_millis(5);
/// The most events of one reading.
const BATCH: usize = 500;
/// How many numbers may be missing at once, and how long each is looked for. More than the largest transactions draw, and
/// longer than any of them lasts: what is still missing then was rolled back.
const GAPS: usize = 8192;
const GAP_LASTS: Duration = Duration::from_secs(60);
/// Missing numbers that are no further apart are looked for together, with what is between them.
const NEAR: i64 = 16;
/// After how much silence a listening connection is asked whether it lives, and how long it may think.
const SILENCE: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(5);

/// Follows the log from its present end and publishes what is new on the bus, until `shutdown` resolves. A
/// database that cannot be reached is tried for ever.
pub async fn tail(db: Db, shutdown: impl Future<Output = ()>) {
    let own = db.fresh_id().to_string();
    let heard = Notify::new();
    tokio::select! {
        () = shutdown => {}
        never = follow(&db, &own, &heard) => match never {},
        never = listen(&db, &own, &heard) => match never {},
    }
}

async fn follow(db: &Db, own: &str, heard: &Notify) -> Infallible {
    let mut place = loop {
        match Place::at_the_end(db).await {
            Ok(place) => break place,
            Err(error) => tracing::warn!(%error, "the event log cannot be read; trying again"),
        }
        sleep(POLL).await;
    };
    db.bus().lag_all();
    let mut failing = false;
    loop {
        let ours = tokio::select! {
            biased;
            () = db.bus().announced() => true,
            () = heard.notified() => false,
            () = sleep(POLL) => false,
        };
        let next = Instant::now() + PACE;
        let (told, read) = tokio::join!(tell(db, own, ours), place.advance(db));
        let outcome = told.and(read);
        match &outcome {
            Ok(()) if failing => tracing::info!("the event log is read again"),
            Err(error) if !failing => tracing::warn!(%error, "the event log cannot be read; trying again"),
            _ => {}
        }
        failing = outcome.is_err();
        sleep_until(next).await;
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the log is read for all; who may see an event is asked on delivery"
)]
fn log(db: &Db) -> Read<'_> {
    db.read(&System::named("event log"))
}

/// Tells the other processes. It is not part of the transactions that it tells of: PostgreSQL lets those
/// that notify commit only one after the other.
async fn tell(db: &Db, own: &str, ours: bool) -> Result<(), Fault> {
    if ours && db.engine() == Engine::Postgres {
        let sql = Sql::new("SELECT 1 FROM pg_notify(").bind(CHANNEL).push(", ").bind(own).push(")");
        log(db).one::<Single<i32>>(sql).await?;
    }
    Ok(())
}

/// How far the log was read.
struct Place {
    last: i64,
    /// Numbers below `last` that were not there, and since when they are missed: drawn by a transaction that
    /// commits later than one which drew a higher number, or that was rolled back.
    gaps: BTreeMap<i64, Instant>,
}

impl Place {
    /// Behind the newest event, but with an eye on the numbers missing just before it.
    async fn at_the_end(db: &Db) -> Result<Self, Fault> {
        #[expect(clippy::disallowed_methods, reason = "the task that reads the log for all")]
        let newest = extent(db, &System::named("event log")).await?.newest;
        let mut place = Self { last: (newest - GAPS as i64).max(0), gaps: BTreeMap::new() };
        let sql = Sql::new("SELECT seq FROM events WHERE seq > ").bind(place.last).push(" ORDER BY seq");
        for Single(seq) in log(db).all(sql).await? {
            place.pass(seq);
        }
        Ok(place)
    }

    /// Publishes everything that became visible.
    async fn advance(&mut self, db: &Db) -> Result<(), Fault> {
        loop {
            let sql = Sql::new(format!("SELECT {COLUMNS} FROM events WHERE seq > ")).bind(self.last);
            let new: Vec<Row> = log(db).all(sql.push(" ORDER BY seq").limit(BATCH as i64)).await?;
            let more = new.len() == BATCH;
            // Second: whatever committed before an event among the new ones is visible by now, so the order
            // within a workspace holds.
            let late = self.found(db).await?;
            for row in late.into_iter().chain(new) {
                self.pass(row.seq);
                if let Some(event) = row.event {
                    db.bus().publish(event);
                }
            }
            if !more {
                break;
            }
        }
        self.gaps.retain(|_, since| since.elapsed() < GAP_LASTS);
        Ok(())
    }

    /// The events that were missing and are there now, in order.
    async fn found(&self, db: &Db) -> Result<Vec<Row>, Fault> {
        let mut found: Vec<Row> = Vec::new();
        for spans in spans(self.gaps.keys().copied()).chunks(AT_ONCE) {
            // Filled up as `bind_list` does it, so that there are few different statements.
            let last = spans.last().into_iter().cycle();
            let mut sql = Sql::new(format!("SELECT {COLUMNS} FROM events WHERE"));
            for (place, (first, last)) in
                spans.iter().chain(last).take(spans.len().next_power_of_two()).enumerate()
            {
                sql = sql.push(if place == 0 { " seq BETWEEN " } else { " OR seq BETWEEN " });
                sql = sql.bind(*first).push(" AND ").bind(*last);
            }
            found.extend(log(db).all::<Row>(sql.push(" ORDER BY seq")).await?);
        }
        found.retain(|row| self.gaps.contains_key(&row.seq));
        Ok(found)
    }

    fn pass(&mut self, seq: i64) {
        if seq <= self.last {
            self.gaps.remove(&seq);
            return;
        }
        let now = Instant::now();
        let from = (self.last + 1).max(seq - GAPS as i64);
        self.gaps.extend((from..seq).map(|missing| (missing, now)));
        let mut forgotten = from - (self.last + 1);
        while self.gaps.len() > GAPS {
            self.gaps.pop_first();
            forgotten += 1;
        }
        // Not at the start, where nobody listens yet.
        if forgotten > 0 && self.last > 0 {
            tracing::warn!(
                forgotten,
                before = seq,
                "numbers are missing from the event log, too many to wait for"
            );
        }
        self.last = seq;
    }
}

/// The stretches in which those numbers are, which are in order.
fn spans(numbers: impl Iterator<Item = i64>) -> Vec<(i64, i64)> {
    let mut spans: Vec<(i64, i64)> = Vec::new();
    for number in numbers {
        match spans.last_mut() {
            Some((_, last)) if number - *last <= NEAR => *last = number,
            _ => spans.push((number, number)),
        }
    }
    spans
}

/// Listens to the other processes, over a connection of its own, for ever.
async fn listen(db: &Db, own: &str, heard: &Notify) -> Infallible {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(10);
    if db.engine() == Engine::Sqlite {
        return std::future::pending().await;
    }
    let mut pause = FIRST;
    loop {
        let connected = match listener(db).await {
            Ok(listener) => {
                pause = FIRST;
                // For what was said while nobody listened.
                heard.notify_one();
                hear(listener, own, heard).await
            }
            Err(error) => Err(error),
        };
        let Err(error) = connected;
        tracing::warn!(%error, "not listening for events of other processes; reading the log each second");
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST);
    }
}

async fn listener(db: &Db) -> Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect(&db.options().url).await?;
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// Passes on what is heard, until the connection fails.
async fn hear(mut listener: PgListener, own: &str, heard: &Notify) -> Result<Infallible, sqlx::Error> {
    loop {
        match timeout(SILENCE, listener.try_recv()).await {
            Ok(Ok(Some(notification))) if notification.payload() == own => {}
            Ok(Ok(Some(_))) => heard.notify_one(),
            Ok(Ok(None)) => return Err(sqlx::Error::Io(io::ErrorKind::UnexpectedEof.into())),
            Ok(Err(error)) => return Err(error),
            // A connection whose other end vanished without a word looks just like a silent one.
            Err(_) => match timeout(ANSWER, listener.execute("SELECT 1")).await {
                Ok(answered) => _ = answered?,
                Err(_) => return Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_near_are_looked_for_together() {
        assert_eq!(spans([].into_iter()), []);
        assert_eq!(spans(101..=1100), [(101, 1100)]);
        assert_eq!(spans([1, 3, 5, 21, 38].into_iter()), [(1, 21), (38, 38)]);
    }

    #[test]
    fn every_number_of_a_large_transaction_is_waited_for() {
        let mut place = Place { last: 100, gaps: BTreeMap::new() };
        place.pass(1101);
        assert_eq!(place.gaps.len(), 1000);
        (101..=1100).for_each(|seq| place.pass(seq));
        assert!(place.gaps.is_empty());
        place.pass(1101 + 2 * GAPS as i64);
        assert_eq!(place.gaps.len(), GAPS);
    }
}
