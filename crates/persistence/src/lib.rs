//! What Guildhall remembers. The only crate that names sea-orm. One operation is one function and one
//! transaction: recheck the right, load the facts, ask the domain, write, and return what was read there.

mod access;
pub mod accounts;
pub mod activity;
pub mod authors;
pub mod config;
mod connection;
pub mod counts;
pub mod credential_shares;
pub mod credential_uses;
pub mod credentials;
mod db;
mod entities;
mod error;
pub mod events;
pub mod explain;
pub mod export;
mod hasher;
pub mod home_page;
pub mod housekeeping;
pub mod instance;
pub mod invitations;
mod keys;
pub mod life;
mod lockout;
pub mod mails;
pub mod master_keys;
pub mod members;
pub mod organization_invitations;
pub mod organization_members;
pub mod organizations;
pub mod ownership;
pub mod previews;
pub mod roles;
pub mod seed;
pub mod sessions;
mod sql;
mod vault;
pub mod workspaces;

pub use access::{Organization, OrganizationStanding, Standing, Which};
pub use connection::in_background;
pub use db::{Db, Engine, Options, Read, Seams, Settings, Tx, migrate};
pub use error::{Fault, OpError, ReadError};
pub use hasher::Hasher;
pub use keys::{AccessToken, KeyMaterial, Keys, TokenFault, master_key_id};
