//! The settings of a server: read from defaults, file and environment, checked together, typed.
//! Knows what each setting may be and how they depend on each other. Opens no connection and, given its
//! [`Sources`], touches neither files nor the process; secrets that are not given are `secrets.rs`'s work.

mod keys;
mod layers;
mod sections;
#[cfg(test)]
mod tests;
mod values;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use guildhall_domain::text::ImageRef;
use layers::{Layers, Setting};
use lettre::message::Mailbox;

pub use self::{
    keys::reference_markdown,
    layers::{ConfigFaults, Fault, Origin, SourceFile, Sources},
    values::DatabaseUrl,
};
use crate::{
    outbound::Destination,
    secrets::{GivenSecrets, Secret},
};

/// Every setting in force, checked. Debug shows no secret.
#[derive(Debug)]
pub struct Config {
    pub server: Server,
    pub app: App,
    pub database: Database,
    pub auth: Auth,
    pub organizations: Organizations,
    pub workspaces: Workspaces,
    pub invitations: Invitations,
    pub credentials: Credentials,
    pub webhooks: Webhooks,
    pub single_sign_on: SingleSignOn,
    pub dns: Dns,
    pub mail: Mail,
    pub limits: Limits,
    pub log: Log,
    settings: Vec<Setting>,
}

#[derive(Debug)]
pub struct Server {
    pub listen: SocketAddr,
    pub data_dir: PathBuf,
    pub playground: bool,
    pub introspection: bool,
    pub cors_origins: CorsOrigins,
    /// The manifest of the documents that are run; any when none.
    pub trusted_documents: Option<PathBuf>,
    pub trust_proxy: bool,
    pub shutdown_grace: Duration,
}

/// Which web pages of other origins may call the API.
#[derive(Debug, PartialEq, Eq)]
pub enum CorsOrigins {
    Any,
    /// As browsers send them: `https://app.example.org`. None when empty.
    These(Vec<String>),
}

#[derive(Debug)]
pub struct App {
    /// Absolute, without a trailing slash: links are this, `/` and a path.
    pub url: String,
}

#[derive(Debug)]
pub struct Database {
    pub url: DatabaseUrl,
    pub read_connections: u32,
    pub max_connections: u32,
    pub min_connections: u32,
    pub acquire_timeout: Duration,
    pub sqlite_synchronous: SqliteSynchronous,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SqliteSynchronous {
    Full,
    Normal,
}

#[derive(Debug)]
pub struct Auth {
    /// For [`crate::secrets::resolve`].
    pub given_secrets: GivenSecrets,
    pub jwt_issuer: String,
    pub jwt_audience: String,
    pub access_token_lifetime: Duration,
    pub refresh_token_lifetime: Duration,
    pub refresh_grace: Duration,
    pub sign_in_free_failures: u32,
    pub sign_in_longest_wait: Duration,
    pub password_reset_lifetime: Duration,
    /// argon2id's `t`.
    pub password_hash_iterations: u32,
    /// 0: one per core.
    pub password_hashing_threads: usize,
}

#[derive(Debug)]
pub struct Organizations {
    /// Whether every signed-in person may make one.
    pub open: bool,
}

#[derive(Debug)]
pub struct Workspaces {
    /// What a workspace's workloads run unless it names an image.
    pub default_image: ImageRef,
}

#[derive(Debug)]
pub struct Invitations {
    pub lifetime: Duration,
}

#[derive(Debug, Default)]
pub struct Credentials {
    /// Where a test may go beside the public internet.
    pub test_destinations: Vec<Destination>,
    /// PEM certificates that a test trusts beside the public ones.
    pub test_ca_file: Option<PathBuf>,
}

#[derive(Debug, Default)]
pub struct Webhooks {
    /// Where webhooks may go beside the public internet.
    pub destinations: Vec<Destination>,
    /// PEM certificates that are trusted there beside the public ones.
    pub ca_file: Option<PathBuf>,
}

#[derive(Debug, Default)]
pub struct SingleSignOn {
    /// Where identity providers may be beside the public internet.
    pub destinations: Vec<Destination>,
    /// PEM certificates that are trusted there beside the public ones.
    pub ca_file: Option<PathBuf>,
}

#[derive(Debug, Default)]
pub struct Dns {
    /// Who is asked; the machine's own resolvers where there are none.
    pub servers: Vec<SocketAddr>,
}

#[derive(Debug)]
pub struct Mail {
    pub transport: MailTransport,
    pub from: Mailbox,
    pub templates_dir: Option<PathBuf>,
}

#[derive(Debug)]
pub enum MailTransport {
    /// `.eml` files in this directory.
    Files(PathBuf),
    Smtp(Smtp),
}

#[derive(Debug)]
pub struct Smtp {
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
    pub tls: SmtpTls,
    pub credentials: Option<SmtpCredentials>,
    /// PEM certificates trusted beside the public ones.
    pub ca_file: Option<PathBuf>,
}

#[derive(Debug)]
pub struct SmtpCredentials {
    pub user: String,
    pub password: Secret,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpTls {
    StartTls,
    Tls,
    None,
}

/// Sizes in bytes, rates as their names say.
#[derive(Debug)]
pub struct Limits {
    pub body_bytes: usize,
    pub document_bytes: usize,
    pub document_tokens: usize,
    pub document_nesting: usize,
    pub document_fragments: usize,
    pub document_spreads: usize,
    pub depth: usize,
    pub complexity: usize,
    pub aliases: usize,
    pub directives: usize,
    pub root_fields: usize,
    /// Of HTTP, WebSockets apart.
    pub connections: usize,
    pub request_head: Duration,
    pub sockets: usize,
    pub sockets_per_actor: usize,
    pub operations_per_socket: usize,
    pub socket_message_bytes: usize,
    pub socket_init: Duration,
    pub socket_ping: Duration,
    /// 0: as many as they like; so the next.
    pub requests_per_minute: u32,
    pub requests_per_minute_per_ip: u32,
    pub sign_in_per_minute: u32,
    pub token_attempts_per_minute: u32,
    pub invitations_per_hour: u32,
    pub invitations_per_hour_per_workspace: u32,
    pub invitations_per_hour_per_ip: u32,
    pub invitations_per_hour_per_recipient: u32,
}

#[derive(Debug)]
pub struct Log {
    /// In the syntax of tracing's `EnvFilter`, which has accepted it.
    pub filter: String,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl Config {
    /// Reads and checks every setting. The error lists every fault there is, not the first.
    pub fn load(sources: &Sources) -> Result<Self, ConfigFaults> {
        let mut layers = Layers::new(sources);
        let server = sections::server(&mut layers);
        let app = sections::app(&mut layers, server.as_ref());
        let database = sections::database(&mut layers, server.as_ref());
        let auth = sections::auth(&mut layers, server.as_ref());
        let organizations = sections::organizations(&mut layers);
        let workspaces = sections::workspaces(&mut layers);
        let invitations = sections::invitations(&mut layers);
        let credentials = sections::credentials(&mut layers);
        let webhooks = sections::webhooks(&mut layers);
        let single_sign_on = sections::single_sign_on(&mut layers);
        let dns = sections::dns(&mut layers);
        let mail = sections::mail(&mut layers, server.as_ref(), app.as_ref());
        let limits = sections::limits(&mut layers);
        let log = sections::log(&mut layers);
        match (server, app, database, auth, workspaces, mail, log) {
            (
                Some(server),
                Some(app),
                Some(database),
                Some(auth),
                Some(workspaces),
                Some(mail),
                Some(log),
            ) if layers.faults.is_empty() => {
                let settings = layers.into_settings();
                Ok(Self {
                    server,
                    app,
                    database,
                    auth,
                    organizations,
                    workspaces,
                    invitations,
                    credentials,
                    webhooks,
                    single_sign_on,
                    dns,
                    mail,
                    limits,
                    log,
                    settings,
                })
            }
            _ => Err(ConfigFaults(layers.faults)),
        }
    }

    /// The settings in force as TOML, secrets redacted, each line with where its value came from.
    pub fn print(&self) -> String {
        let mut printed = String::new();
        let mut section = "";
        for Setting { key, value, origin } in &self.settings {
            if key.section != section {
                section = &key.section;
                let gap = if printed.is_empty() { "" } else { "\n" };
                printed.push_str(&format!("{gap}[{section}]\n"));
            }
            printed.push_str(&format!("{} = {value} # {origin}\n", key.name));
        }
        printed
    }
}
