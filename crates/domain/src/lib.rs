//! Guildhall's rules. Pure and synchronous: facts, input and `now` in, a plan or a refusal out.
//! Knows nothing of databases, GraphQL, HTTP or tokio.

pub mod access;
pub mod accounts;
pub mod activity;
pub mod api_keys;
pub mod audit;
pub mod config;
pub mod credentials;
pub mod events;
pub mod export;
pub mod home_page;
pub mod ids;
pub mod invitations;
pub mod life;
pub mod lockout;
pub mod machines;
pub mod mail;
pub mod members;
pub mod organization_invitations;
pub mod organization_members;
pub mod organizations;
pub mod ownership;
pub mod page;
pub mod passwords;
pub mod recovery;
pub mod refusal;
pub mod roles;
pub mod seams;
pub mod second_factor;
pub mod service_accounts;
pub mod sessions;
pub mod single_sign_on;
pub mod text;
pub mod webhooks;
pub mod workspace_tokens;
pub mod workspaces;
