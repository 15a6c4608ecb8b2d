//! Scratch entry while the tests are written.
#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]
mod accounts;
mod configuration;
mod mail_delivery;
mod running;
mod sessions;
mod storage;
