//! Guildhall's GraphQL schema. Declares each field's guard, obtains the proof it names, maps types and
//! errors. Never sees a transaction or an entity.

mod access;
mod accounts;
mod authz;
mod connection;
mod error;
mod input;
mod invitations;
mod live;
mod loaders;
mod members;
mod node;
mod payload;
mod schema;
mod sessions;
mod throttle;
mod workspaces;

pub use authz::Caller;
pub use error::RequestId;
pub use schema::{Limits, Mutation, Query, Schema, Subscription, build, sdl};
pub use throttle::{Rates, Throttle};
