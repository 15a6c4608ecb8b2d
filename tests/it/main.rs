//! Guildhall's behaviour, seen from outside.
#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod accounts;
mod architecture;
mod bad_input;
mod configuration;
mod databases;
mod documents;
mod guards_declared;
mod guards_enforced;
mod harness;
mod http;
mod invitation_answers;
mod invitations;
mod invitations_live;
mod mail_delivery;
mod mail_queue;
mod members;
mod members_leaving;
mod migrations;
mod n_plus_one;
mod organizations;
mod outbox;
mod policy_matrix;
mod races;
mod readme;
mod running;
mod schema_file;
mod sessions;
mod smtp;
mod sockets;
mod storage;
mod tenancy;
mod two_processes;
mod walk;
mod workspace_access;
mod workspaces;
