//! Scratch entry while the tests are written.
#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod bad_input;
mod documents;
mod http;
mod sockets;
