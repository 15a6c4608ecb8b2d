//! Scratch entry while the tests are written.
#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod members;
mod races;
mod workspaces;
