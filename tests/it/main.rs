//! Guildhall's behaviour, seen from outside.
#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod architecture;
mod databases;
mod guards_declared;
mod harness;
mod migrations;
mod readme;
mod schema_file;
mod smtp;
mod two_processes;
mod walk;
