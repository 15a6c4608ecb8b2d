//! Guildhall's process: the only room that touches the world. HTTP and sockets, mail, workers, configuration
//! and the command line. What may be done, and what is kept, is decided elsewhere.

pub mod app;
pub mod audit;
pub mod cli;
mod client;
pub mod config;
pub mod credential_tests;
mod dns;
mod document;
mod errors;
pub mod export;
mod gateway;
mod http;
mod idempotency;
mod identify;
mod jwks;
mod limits;
pub mod mail;
pub mod master_key;
mod oauth;
pub mod outbound;
mod pages;
mod persisted;
mod playground;
mod rates;
mod request_id;
pub mod secrets;
mod serve;
mod shared;
mod single_sign_on;
mod socket;
mod stream;
pub mod telemetry;
mod validation;
mod web;
mod wire;
pub mod workers;
