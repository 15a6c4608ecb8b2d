//! Reading the log as it grows: one task per process. Knows how a process learns that there is something to
//! read, and how numbers that become visible late are still found; refuses to know who subscribes.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

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
/// How many stretches of missing numbers are looked for, and how long each. Longer than any transaction lasts: what is still
/// missing then was rolled back.
const GAPS: usize = 4096;
const GAP_LASTS: Duration = Duration::from_secs(60);
/// How far before its end the log is read at the start, for numbers that were missing there.
const BEHIND: i64 = 8192;
/// After how much silence a listening connection is asked whether it lives, and how long it may think.
const SILENCE: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(5);

/// Follows the log from its present end and publishes what is new on the bus, until `shutdown` resolves. A
/// database that cannot be reached is tried for ever.
pub async fn tail(db: Db, shutdown: impl Future<Output = ()>) {
    let own = db.fresh_id().to_string();
    let heard = Heard::default();
    tokio::select! {
        () = shutdown => {}
        never = follow(&db, &own, &heard) => match never {},
        never = listen(&db, &own, &heard) => match never {},
    }
}

/// What the listening connection says to the task that reads.
#[derive(Default)]
struct Heard {
    /// The log has grown, or may have.
    grown: Notify,
    /// The connection is a new one, perhaps to another server than before.
    connected: AtomicBool,
}

async fn follow(db: &Db, own: &str, heard: &Heard) -> Infallible {
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
            () = heard.grown.notified() => false,
            () = sleep(POLL) => false,
        };
        let next = Instant::now() + PACE;
        let connected = heard.connected.swap(false, Ordering::Relaxed);
        let read = async {
            if connected || failing {
                place.go_back(db).await?;
            }
            place.advance(db).await
        };
        let (told, read) = tokio::join!(tell(db, own, ours), read);
        let outcome = told.and(read);
        match &outcome {
            Ok(()) if failing => tracing::info!("the event log is read again"),
            Err(error) if !failing => tracing::warn!(%error, "the event log cannot be read; trying again"),
            _ => {}
        }
        failing = outcome.is_err();
        if failing && connected {
            heard.connected.store(true, Ordering::Relaxed);
        }
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

#[expect(clippy::disallowed_methods, reason = "the task that reads the log for all")]
async fn newest(db: &Db) -> Result<i64, Fault> {
    Ok(extent(db, &System::named("event log")).await?.newest)
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
    gaps: Gaps,
}

impl Place {
    /// Behind the newest event, but with an eye on the numbers missing just before it.
    async fn at_the_end(db: &Db) -> Result<Self, Fault> {
        let mut place = Self { last: (newest(db).await? - BEHIND).max(0), gaps: Gaps::default() };
        let sql = Sql::new("SELECT seq FROM events WHERE seq > ").bind(place.last).push(" ORDER BY seq");
        for Single(seq) in log(db).all(sql).await? {
            place.pass(seq);
        }
        Ok(place)
    }

    /// Begins anew where the log ends before this place: the database was restored, or another server took over that had
    /// not received everything. Whoever watches reads again, and is told by their cursor what that means.
    async fn go_back(&mut self, db: &Db) -> Result<(), Fault> {
        let newest = newest(db).await?;
        if newest < self.last {
            tracing::warn!(
                newest,
                read = self.last,
                "the event log ends earlier than it did; it is read anew"
            );
            *self = Self::at_the_end(db).await?;
            db.bus().lag_all();
        }
        Ok(())
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
        self.gaps.forget_old();
        Ok(())
    }

    /// The events that were missing and are there now, in order.
    async fn found(&self, db: &Db) -> Result<Vec<Row>, Fault> {
        let spans = self.gaps.spans(AT_ONCE);
        if spans.is_empty() {
            return Ok(Vec::new());
        }
        // In one statement, which sees all of a transaction or nothing of it. Filled up as `bind_list` does it, so that
        // there are few different ones.
        let last = spans.last().into_iter().cycle();
        let mut sql = Sql::new(format!("SELECT {COLUMNS} FROM events WHERE"));
        for (place, (first, last)) in
            spans.iter().chain(last).take(spans.len().next_power_of_two()).enumerate()
        {
            sql = sql.push(if place == 0 { " seq BETWEEN " } else { " OR seq BETWEEN " });
            sql = sql.bind(*first).push(" AND ").bind(*last);
        }
        let mut found: Vec<Row> = log(db).all(sql.push(" ORDER BY seq")).await?;
        found.retain(|row| self.gaps.contains(row.seq));
        Ok(found)
    }

    fn pass(&mut self, seq: i64) {
        if seq <= self.last {
            self.gaps.fill(seq);
            return;
        }
        if self.last + 1 < seq && self.gaps.open(self.last + 1, seq - 1) {
            tracing::warn!(before = seq, "too many numbers are missing from the event log to wait for all");
        }
        self.last = seq;
    }
}

/// Numbers below the last one that were not there, and since when they are missed: drawn by a transaction that commits
/// later than one which drew a higher number, or that was rolled back.
#[derive(Default)]
struct Gaps {
    /// Stretches by their first number, with their last.
    stretches: BTreeMap<i64, (i64, Instant)>,
}

impl Gaps {
    /// Notes that nothing from `first` to `last` is there. True when the oldest stretch was given up for it.
    fn open(&mut self, first: i64, last: i64) -> bool {
        self.stretches.insert(first, (last, Instant::now()));
        self.stretches.len() > GAPS && self.stretches.pop_first().is_some()
    }

    /// Notes that this number is there.
    fn fill(&mut self, seq: i64) {
        let Some((first, (last, since))) = self.around(seq) else { return };
        self.stretches.remove(&first);
        if first < seq {
            self.stretches.insert(first, (seq - 1, since));
        }
        if seq < last {
            self.stretches.insert(seq + 1, (last, since));
        }
    }

    fn contains(&self, seq: i64) -> bool {
        self.around(seq).is_some()
    }

    fn around(&self, seq: i64) -> Option<(i64, (i64, Instant))> {
        let (first, stretch) = self.stretches.range(..=seq).next_back()?;
        (seq <= stretch.0).then_some((*first, *stretch))
    }

    fn forget_old(&mut self) {
        self.stretches.retain(|_, (_, since)| since.elapsed() < GAP_LASTS);
    }

    /// At most `most` spans that cover all of it: the nearer ones with what is between them, as far as that is needed.
    fn spans(&self, most: usize) -> Vec<(i64, i64)> {
        let mut spans: Vec<_> = self.stretches.iter().map(|(first, (last, _))| (*first, *last)).collect();
        let mut near = 1;
        while spans.len() > most {
            near *= 2;
            spans.dedup_by(|next, span| {
                let joined = next.0 - span.1 <= near;
                if joined {
                    span.1 = next.1;
                }
                joined
            });
        }
        spans
    }
}

/// Listens to the other processes, over a connection of its own, for ever.
async fn listen(db: &Db, own: &str, heard: &Heard) -> Infallible {
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
                heard.connected.store(true, Ordering::Relaxed);
                heard.grown.notify_one();
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
async fn hear(mut listener: PgListener, own: &str, heard: &Heard) -> Result<Infallible, sqlx::Error> {
    loop {
        match timeout(SILENCE, listener.try_recv()).await {
            Ok(Ok(Some(notification))) if notification.payload() == own => {}
            Ok(Ok(Some(_))) => heard.grown.notify_one(),
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
    fn stretches_are_joined_as_far_as_there_are_too_many() {
        let mut gaps = Gaps::default();
        assert_eq!(gaps.spans(4), []);
        for (first, last) in [(1, 1000), (1002, 1002), (1010, 1011), (2000, 2000)] {
            assert!(!gaps.open(first, last));
        }
        assert_eq!(gaps.spans(4), [(1, 1000), (1002, 1002), (1010, 1011), (2000, 2000)]);
        assert_eq!(gaps.spans(3), [(1, 1002), (1010, 1011), (2000, 2000)]);
        assert_eq!(gaps.spans(1), [(1, 2000)]);
    }

    #[test]
    fn what_is_found_in_a_stretch_divides_it() {
        let mut gaps = Gaps::default();
        gaps.open(11, 20);
        for seq in [10, 15, 15, 11, 20, 21] {
            gaps.fill(seq);
        }
        assert_eq!(gaps.spans(9), [(12, 14), (16, 19)]);
        assert!(gaps.contains(12) && gaps.contains(19) && !gaps.contains(15) && !gaps.contains(20));
    }

    #[test]
    fn every_number_of_a_large_transaction_is_waited_for() {
        let mut place = Place { last: 100, gaps: Gaps::default() };
        place.pass(100_101);
        assert_eq!(place.gaps.spans(9), [(101, 100_100)]);
        (101..=100_101).for_each(|seq| place.pass(seq));
        assert_eq!(place.gaps.spans(9), []);
    }

    #[test]
    fn the_oldest_stretches_are_given_up_first() {
        let mut place = Place { last: 0, gaps: Gaps::default() };
        (1..=GAPS as i64 + 1).for_each(|n| place.pass(2 * n));
        assert_eq!(place.gaps.stretches.len(), GAPS);
        assert!(!place.gaps.contains(1) && place.gaps.contains(3));
    }
}
