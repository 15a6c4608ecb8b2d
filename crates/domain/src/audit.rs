//! The audit log: what an entry says, how entries are chained, and whether a file of them is whole. Knows no storage and
//! no key: whoever asks brings what checks a signature.
//!
//! `entry` is what a change says of itself, `chain` the form of a record that is hashed, and `file` what is exported
//! and verified.

mod chain;
mod entry;
pub mod file;

pub use chain::{Checkpoint, FIRST, Record, canonical};
pub use entry::{Action, ActorKind, By, Entry, LONGEST, Object, ObjectKind};
