//! Guildhall's GraphQL schema. Declares each field's guard, obtains the proof it names, maps types and
//! errors. Never sees a transaction or an entity.

pub mod access;
pub mod accounts;
pub mod activity;
pub mod api_keys;
pub mod audit;
mod authors;
mod authz;
mod batching;
pub mod config;
pub mod connection;
pub mod credential_shares;
pub mod credential_tests;
pub mod credential_uses;
pub mod credentials;
mod error;
pub mod explain;
pub mod home_page;
mod input;
pub mod invitations;
pub mod life;
mod live;
mod loaders;
pub mod machines;
pub mod members;
pub mod node;
pub mod organization_invitations;
pub mod organization_members;
pub mod organizations;
pub mod ownership;
pub mod payload;
pub mod previews;
pub mod recovery;
pub mod roles;
mod schema;
pub mod service_accounts;
pub mod sessions;
mod throttle;
pub mod workspace_changes;
pub mod workspaces;

pub use authz::Caller;
pub use batching::batched;
pub use error::RequestId;
pub use live::{Ended, Handoff, Turn, Watch};
pub use schema::{Limits, Mutation, Query, Schema, Subscription, build, sdl};
pub use throttle::{Rates, Throttle};
