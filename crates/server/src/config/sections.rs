//! Builds each section of the configuration from its settings, and checks those that depend on each other.
//! Knows every setting by name. A function returns `None` only after noting the fault that keeps it from a value.

use std::path::PathBuf;

use guildhall_domain::text::ImageRef;
use lettre::message::Mailbox;

use super::{
    App, Auth, CorsOrigins, Credentials, Database, DatabaseUrl, Dns, Invitations, Limits, Log, LogFormat,
    Mail, MailTransport, Organizations, Origin, Server, SingleSignOn, Smtp, SmtpCredentials, SmtpTls,
    SqliteSynchronous, Webhooks, Workspaces, layers::Layers, values,
};
use crate::{
    outbound::Destination,
    secrets::{self, GivenSecrets, MasterKey, Secret},
};

const SECOND: u64 = 1;
const MINUTE: u64 = 60;
const HOUR: u64 = 3600;

pub(super) fn server(layers: &mut Layers) -> Option<Server> {
    let cors_origins = cors_origins(layers);
    let listen = required(layers, "server.listen", values::listen);
    let data_dir = required(layers, "server.data_dir", |text| Ok(PathBuf::from(text)));
    let trusted_documents = layers.parsed("server.trusted_documents", |text| Ok(PathBuf::from(text)));
    Some(Server {
        trusted_documents,
        playground: layers.flag("server.playground"),
        introspection: layers.flag("server.introspection"),
        trust_proxy: layers.flag("server.trust_proxy"),
        shutdown_grace: layers.duration("server.shutdown_grace_seconds", SECOND),
        cors_origins: cors_origins?,
        listen: listen?,
        data_dir: data_dir?,
    })
}

fn cors_origins(layers: &mut Layers) -> Option<CorsOrigins> {
    const KEY: &str = "server.cors_origins";
    let listed = layers.list(KEY);
    if listed == ["*"] {
        return Some(CorsOrigins::Any);
    }
    let (origins, faults): (Vec<_>, Vec<_>) =
        listed.iter().map(|text| values::origin(text)).partition(Result::is_ok);
    let is_sound = faults.is_empty();
    faults.into_iter().filter_map(Result::err).for_each(|problem| layers.fault(KEY, problem));
    is_sound.then(|| CorsOrigins::These(origins.into_iter().flatten().collect()))
}

pub(super) fn app(layers: &mut Layers, server: Option<&Server>) -> Option<App> {
    const KEY: &str = "app.url";
    if layers.text(KEY).is_empty() {
        layers.stands_for(KEY, values::local_url(server?.listen), None);
    }
    let url = layers.parsed(KEY, values::app_url)?;
    layers.stands_for(KEY, url.clone(), None);
    Some(App { url })
}

pub(super) fn database(layers: &mut Layers, server: Option<&Server>) -> Option<Database> {
    const KEY: &str = "database.url";
    let max_connections = layers.number("database.max_connections");
    let min_connections = layers.number("database.min_connections");
    if min_connections > max_connections {
        let problem = format!("{min_connections} is more than database.max_connections, {max_connections}");
        layers.fault("database.min_connections", problem);
    }
    if let (true, Some(server)) = (layers.text(KEY).is_empty(), server) {
        layers.stands_for(KEY, format!("sqlite://{}", server.data_dir.join("guildhall.db").display()), None);
    }
    let url = layers.parsed(KEY, DatabaseUrl::parse)?;
    layers.stands_for(KEY, url.to_string(), None);
    Some(Database {
        url,
        max_connections,
        min_connections,
        read_connections: layers.number("database.read_connections"),
        acquire_timeout: layers.duration("database.acquire_timeout_seconds", SECOND),
        sqlite_synchronous: match layers.text("database.sqlite_synchronous").as_str() {
            "normal" => SqliteSynchronous::Normal,
            _ => SqliteSynchronous::Full,
        },
    })
}

const SECRETS: [&str; 4] = [
    "auth.jwt_auth_token_secret",
    "auth.jwt_refresh_token_secret",
    "auth.token_hash_secret",
    "auth.master_key",
];

pub(super) fn auth(layers: &mut Layers, server: Option<&Server>) -> Option<Auth> {
    let [access_token, refresh_token, token_hash, master_key] = SECRETS;
    let given_secrets = GivenSecrets {
        access_token: layers.parsed(access_token, Secret::parse),
        refresh_token: layers.parsed(refresh_token, Secret::parse),
        token_hash: layers.parsed(token_hash, Secret::parse),
        master_key: layers.parsed(master_key, MasterKey::parse),
        master_key_previous: previous_master_keys(layers, master_key),
    };
    for (index, path) in SECRETS.iter().enumerate() {
        let text = layers.text(path);
        if text.is_empty() {
            let file = server.map(|server| server.data_dir.join(secrets::FILE)).unwrap_or_default();
            layers.stands_for(path, text, Some(Origin::Generated(file)));
        } else if let Some(other) = SECRETS[..index].iter().find(|other| layers.text(other) == text) {
            layers.fault(path, format!("the same value as {other}; each secret must be another one"));
        }
    }
    let jwt_issuer = required(layers, "auth.jwt_issuer", |text| Ok(text.to_owned()));
    let jwt_audience = required(layers, "auth.jwt_audience", |text| Ok(text.to_owned()));
    let access_token_lifetime = layers.duration("auth.jwt_token_expiry_in_minutes", MINUTE);
    let refresh_token_lifetime = layers.duration("auth.jwt_refresh_token_expiry_in_minutes", MINUTE);
    if refresh_token_lifetime <= access_token_lifetime {
        let problem = "must be more than auth.jwt_token_expiry_in_minutes";
        layers.fault("auth.jwt_refresh_token_expiry_in_minutes", problem);
    }
    Some(Auth {
        given_secrets,
        access_token_lifetime,
        refresh_token_lifetime,
        refresh_grace: layers.duration("auth.refresh_grace_seconds", SECOND),
        sign_in_free_failures: layers.number("auth.sign_in_free_failures"),
        sign_in_longest_wait: layers.duration("auth.sign_in_longest_wait_minutes", MINUTE),
        password_reset_lifetime: layers.duration("auth.password_reset_token_expiry_in_mins", MINUTE),
        password_hash_iterations: layers.number("auth.password_salt_hash_rounds"),
        password_hashing_threads: layers.number("auth.password_hashing_threads"),
        jwt_issuer: jwt_issuer?,
        jwt_audience: jwt_audience?,
    })
}

fn previous_master_keys(layers: &mut Layers, current: &str) -> Vec<MasterKey> {
    const KEY: &str = "auth.master_key_previous";
    let current = layers.text(current);
    let mut keys = Vec::new();
    for text in layers.list(KEY) {
        match MasterKey::parse(&text) {
            Ok(_) if text == current => {
                layers.fault(KEY, "holds the value of auth.master_key; each secret must be another one");
            }
            Ok(key) => keys.push(key),
            Err(problem) => layers.fault(KEY, problem),
        }
    }
    keys
}

pub(super) fn organizations(layers: &mut Layers) -> Organizations {
    Organizations { open: layers.text("organizations.creation") == "anyone" }
}

pub(super) fn workspaces(layers: &mut Layers) -> Option<Workspaces> {
    let image = |text: &str| ImageRef::parse(text).map_err(|fault| fault.message());
    Some(Workspaces { default_image: required(layers, "workspaces.default_image", image)? })
}

pub(super) fn invitations(layers: &mut Layers) -> Invitations {
    Invitations { lifetime: layers.duration("invitations.invite_token_expiry_in_hours", HOUR) }
}

pub(super) fn credentials(layers: &mut Layers) -> Credentials {
    let test_destinations = destinations(layers, "credentials.test_destinations");
    let test_ca_file = layers.parsed("credentials.test_ca_file", |text| Ok(PathBuf::from(text)));
    Credentials { test_destinations, test_ca_file }
}

pub(super) fn webhooks(layers: &mut Layers) -> Webhooks {
    let destinations = destinations(layers, "webhooks.destinations");
    let ca_file = layers.parsed("webhooks.ca_file", |text| Ok(PathBuf::from(text)));
    Webhooks { destinations, ca_file }
}

pub(super) fn single_sign_on(layers: &mut Layers) -> SingleSignOn {
    let destinations = destinations(layers, "single_sign_on.destinations");
    let ca_file = layers.parsed("single_sign_on.ca_file", |text| Ok(PathBuf::from(text)));
    SingleSignOn { destinations, ca_file }
}

pub(super) fn dns(layers: &mut Layers) -> Dns {
    const KEY: &str = "dns.servers";
    let mut servers = Vec::new();
    for text in layers.list(KEY) {
        match values::name_server(&text) {
            Ok(server) => servers.push(server),
            Err(problem) => layers.fault(KEY, problem),
        }
    }
    Dns { servers }
}

fn destinations(layers: &mut Layers, path: &str) -> Vec<Destination> {
    let mut destinations = Vec::new();
    for text in layers.list(path) {
        match Destination::parse(&text) {
            Ok(destination) => destinations.push(destination),
            Err(problem) => layers.fault(path, problem),
        }
    }
    destinations
}

pub(super) fn mail(layers: &mut Layers, server: Option<&Server>, app: Option<&App>) -> Option<Mail> {
    let has_host = !layers.text("mail.smtp_host").is_empty();
    let host = layers.parsed("mail.smtp_host", values::mail_host);
    let port = layers.number("mail.smtp_port");
    let (user, password) = (layers.text("mail.smtp_user"), layers.text("mail.smtp_password"));
    for (path, text, other, partner) in [
        ("mail.smtp_user", &user, "mail.smtp_password", &password),
        ("mail.smtp_password", &password, "mail.smtp_user", &user),
    ] {
        if !text.is_empty() && partner.is_empty() {
            layers.fault(path, format!("given without {other}"));
        }
        if !text.is_empty() && !has_host {
            layers.fault(path, "given without mail.smtp_host");
        }
    }
    let is_loopback = host.as_deref().is_some_and(values::is_loopback);
    let tls = match layers.text("mail.smtp_tls").as_str() {
        "starttls" => SmtpTls::StartTls,
        "tls" => SmtpTls::Tls,
        "none" => SmtpTls::None,
        _ if port == 465 => SmtpTls::Tls,
        _ if is_loopback => SmtpTls::None,
        _ => SmtpTls::StartTls,
    };
    if tls == SmtpTls::None && host.is_some() && !is_loopback && !user.is_empty() {
        layers.fault(
            "mail.smtp_tls",
            "\"none\" would send mail.smtp_password in the clear; use starttls or tls",
        );
    }
    let credentials = (!user.is_empty()).then(|| SmtpCredentials { user, password: Secret::new(&password) });
    let from = sender(layers, app, host.is_some() && !is_loopback);
    let ca_file = layers.parsed("mail.smtp_ca_file", |text| Ok(PathBuf::from(text)));
    let templates_dir = layers.parsed("mail.templates_dir", |text| Ok(PathBuf::from(text)));
    let transport = match host {
        Some(host) => MailTransport::Smtp(Smtp { host, port, tls, credentials, ca_file }),
        None => MailTransport::Files(server?.data_dir.join("mail")),
    };
    Some(Mail { transport, templates_dir, from: from? })
}

/// The sender set, else one at the host of the public URL; `leaves` when the mail goes to another machine, where a
/// made-up sender would be refused.
fn sender(layers: &mut Layers, app: Option<&App>, leaves: bool) -> Option<Mailbox> {
    const KEY: &str = "mail.smtp_from";
    if !layers.text(KEY).is_empty() {
        return layers.parsed(KEY, values::sender);
    }
    let from = match values::sender_of(&app?.url) {
        Some(from) => from,
        None if leaves => {
            layers.fault(KEY, "needed, since the host of app.url is an address and no domain name");
            return None;
        }
        None => values::sender("Guildhall <no-reply@localhost>").ok()?,
    };
    layers.stands_for(KEY, from.to_string(), None);
    Some(from)
}

pub(super) fn limits(layers: &mut Layers) -> Limits {
    let limits = Limits {
        body_bytes: layers.number("limits.body_bytes"),
        document_bytes: layers.number("limits.document_bytes"),
        document_tokens: layers.number("limits.document_tokens"),
        document_nesting: layers.number("limits.document_nesting"),
        document_fragments: layers.number("limits.document_fragments"),
        document_spreads: layers.number("limits.document_spreads"),
        depth: layers.number("limits.depth"),
        complexity: layers.number("limits.complexity"),
        aliases: layers.number("limits.aliases"),
        directives: layers.number("limits.directives"),
        root_fields: layers.number("limits.root_fields"),
        connections: layers.number("limits.connections"),
        request_head: layers.duration("limits.request_head_seconds", SECOND),
        sockets: layers.number("limits.sockets"),
        sockets_per_actor: layers.number("limits.sockets_per_actor"),
        operations_per_socket: layers.number("limits.operations_per_socket"),
        socket_message_bytes: layers.number("limits.socket_message_bytes"),
        socket_init: layers.duration("limits.socket_init_seconds", SECOND),
        socket_ping: layers.duration("limits.socket_ping_seconds", SECOND),
        requests_per_minute: layers.number("limits.requests_per_minute"),
        requests_per_minute_per_ip: layers.number("limits.requests_per_minute_per_ip"),
        sign_in_per_minute: layers.number("limits.sign_in_per_minute"),
        token_attempts_per_minute: layers.number("limits.token_attempts_per_minute"),
        invitations_per_hour: layers.number("limits.invitations_per_hour"),
        invitations_per_hour_per_workspace: layers.number("limits.invitations_per_hour_per_workspace"),
        invitations_per_hour_per_ip: layers.number("limits.invitations_per_hour_per_ip"),
        invitations_per_hour_per_recipient: layers.number("limits.invitations_per_hour_per_recipient"),
    };
    if layers.flag("server.introspection") {
        for (path, value, least) in
            [("limits.depth", limits.depth, 15), ("limits.complexity", limits.complexity, 250)]
        {
            if value < least {
                let remedy = "raise it, or turn server.introspection off";
                layers.fault(
                    path,
                    format!("{value} is too little for introspection, which needs {least}; {remedy}"),
                );
            }
        }
    }
    if limits.connections <= limits.sockets {
        let Limits { connections, sockets, .. } = limits;
        let problem = format!(
            "{connections} is not more than limits.sockets, {sockets}: event streams could take every place, and leave none for \
             requests"
        );
        layers.fault("limits.connections", problem);
    }
    if limits.document_bytes > limits.body_bytes {
        layers.fault("limits.document_bytes", "is more than limits.body_bytes, in which a document arrives");
    }
    limits
}

pub(super) fn log(layers: &mut Layers) -> Option<Log> {
    let filter = required(layers, "log.filter", values::log_filter);
    let format = match layers.text("log.format").as_str() {
        "json" => LogFormat::Json,
        _ => LogFormat::Text,
    };
    Some(Log { filter: filter?, format })
}

/// As [`Layers::parsed`], for a setting that cannot do without a value.
fn required<T>(layers: &mut Layers, path: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
    if layers.text(path).trim().is_empty() {
        layers.fault(path, "is empty");
        return None;
    }
    layers.parsed(path, parse)
}
