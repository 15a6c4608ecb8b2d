//! Scratch entry while the tests are written.
#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod guards_enforced;
mod n_plus_one;
mod policy_matrix;
mod tenancy;
