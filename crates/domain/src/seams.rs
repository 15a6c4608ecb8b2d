//! The two things that differ from run to run, time and fresh ids, behind traits, so that rules and tests
//! choose them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use uuid::Uuid;

/// Tells the time, in UTC and whole microseconds: the finest that both databases keep.
pub trait Clock: Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> DateTime<Utc>;
}

/// Makes UUIDv7s.
pub trait IdGen: Send + Sync + 'static {
    /// An id that was never given out before.
    fn fresh(&self) -> Uuid;
}

/// The computer's own clock and id generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Clock for System {
    #[expect(clippy::disallowed_methods, reason = "this is the seam that the lint points to")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now().trunc_subsecs(6)
    }
}

impl IdGen for System {
    #[expect(clippy::disallowed_methods, reason = "this is the seam that the lint points to")]
    fn fresh(&self) -> Uuid {
        Uuid::now_v7()
    }
}

/// A clock that runs with the computer's and can be pushed ahead or stopped: for tests of what expires.
#[derive(Debug, Default)]
pub struct ShiftedClock(Mutex<Shift>);

#[derive(Debug, Default)]
struct Shift {
    span: TimeDelta,
    stopped_at: Option<DateTime<Utc>>,
}

impl ShiftedClock {
    /// Moves the clock ahead by `span`.
    pub fn advance(&self, span: TimeDelta) {
        self.shift().span += span;
    }

    /// From now on it moves by [`advance`](Self::advance) only.
    pub fn stop(&self) {
        self.shift().stopped_at.get_or_insert_with(|| System.now());
    }

    fn shift(&self) -> MutexGuard<'_, Shift> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ShiftedClock {
    fn now(&self) -> DateTime<Utc> {
        let shift = self.shift();
        shift.stopped_at.unwrap_or_else(|| System.now()) + shift.span
    }
}
