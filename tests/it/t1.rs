//! Scratch entry while the tests are written.
#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod invitation_answers;
mod invitations;
mod invitations_live;
mod members;
mod members_leaving;
mod races;
mod workspace_access;
mod workspaces;
