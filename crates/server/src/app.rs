//! The composition root: from a checked configuration to a process that answers. Tests start the same.

use std::{
    future::pending,
    net::SocketAddr,
    num::NonZeroU32,
    path::PathBuf,
    sync::{Arc, LazyLock},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use chrono::TimeDelta;
use guildhall_domain::{lockout::Lockout, seams};
use guildhall_graphql::{Rates, Resources, Throttle};
use guildhall_persistence::{
    Db, Fault, Hasher, KeyMaterial, Keys, Options, Seams, Settings,
    instance::{self, StartFault},
};
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::{
    compression::{
        CompressionLayer, Predicate,
        predicate::{NotForContentType, SizeAbove},
    },
    cors::{AllowOrigin, CorsLayer},
    timeout::TimeoutLayer,
};
use url::Url;

use crate::{
    config::{self, Config, CorsOrigins, Credentials, MailTransport, SmtpTls, SqliteSynchronous, Webhooks},
    credential_tests::Tester,
    dns::Dns,
    gateway::Gateway,
    http, idempotency,
    identify::Identify,
    jwks,
    limits::{DocumentLimits, Limits, SocketLimits},
    mail::{FileMailer, Letterhead, Mailer, SmtpConfig, SmtpMailer, Templates, TlsMode},
    oauth::{self, OAuth},
    outbound::{CertificatesFault, Outbound},
    pages::Pages,
    playground,
    rates::Requests,
    request_id,
    secrets::{self, MasterKey, SecretsFault},
    serve::{ConnectionLimits, serve},
    single_sign_on::SingleSignOn,
    telemetry,
    validation::Validator,
    web::{self, Web},
    workers::Workers,
};

/// The product's name, as mails and pages show it.
const PRODUCT: &str = "Guildhall";

/// How long a request may take from its head to its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Why the process cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database cannot be reached, or failed.
    #[error("{0}")]
    Database(#[from] Fault),
    /// The database was written with other secrets.
    #[error("{0}")]
    Keys(#[from] StartFault),
    /// The generated secrets cannot be read or made.
    #[error("{0}")]
    Secrets(#[from] SecretsFault),
    /// Mail cannot be sent as it is configured.
    #[error("mail: {0}")]
    Mail(String),
    /// Credentials cannot be tested as it is configured.
    #[error("credentials.test_ca_file: {0}")]
    Certificates(#[from] CertificatesFault),
    /// Nothing can be sent to webhooks as it is configured.
    #[error("webhooks.ca_file: {0}")]
    WebhookCertificates(CertificatesFault),
    /// Identity providers cannot be asked as it is configured.
    #[error("single_sign_on.ca_file: {0}")]
    SignOnCertificates(CertificatesFault),
    /// The manifest of trusted documents cannot be used.
    #[error("server.trusted_documents: {path}: {why}", path = .0.display(), why = .1)]
    TrustedDocuments(PathBuf, String),
    /// The schema is faulty: a defect of this build.
    #[error("schema: {0}")]
    Schema(String),
    /// A page's template is faulty: a defect of this build.
    #[error("pages: {0}")]
    Pages(minijinja::Error),
    /// The address cannot be listened on.
    #[error("{0}: {1}")]
    Listen(SocketAddr, std::io::Error),
}

/// A server that is ready to answer.
pub struct App {
    db: Db,
    router: Router,
    gateway: Arc<Gateway>,
    workers: Workers,
    shutdown: CancellationToken,
    grace: Duration,
    connections: ConnectionLimits,
    app_url: String,
    playground: bool,
}

/// The system's own clock and ids.
pub fn system_seams() -> Seams {
    Seams { clock: Arc::new(seams::System), ids: Arc::new(seams::System) }
}

/// How the configuration reaches the database.
pub fn database_options(config: &config::Database) -> Options {
    Options {
        url: config.url.expose().to_owned(),
        max_connections: config.max_connections,
        min_connections: config.min_connections,
        read_connections: config.read_connections,
        acquire_timeout: config.acquire_timeout,
        sqlite_full_sync: config.sqlite_synchronous == SqliteSynchronous::Full,
    }
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

/// Brings the database up to date, connects, and makes sure that its secrets are these.
pub async fn open_database(config: &mut Config, seams: Seams) -> Result<Db, StartError> {
    let db = connect(config, seams).await?;
    instance::check_keys(&db).await?;
    Ok(db)
}

/// Brings the database up to date and connects, whatever its secrets are.
pub(crate) async fn connect(config: &mut Config, seams: Seams) -> Result<Db, StartError> {
    // The secrets come first: they make the data directory, readable by nobody else.
    let given = std::mem::take(&mut config.auth.given_secrets);
    let secrets = secrets::resolve(&config.server.data_dir, given)?;
    let options = database_options(&config.database);
    guildhall_persistence::migrate(&options).await?;
    let keys = Keys::new(&KeyMaterial {
        access_secret: secrets.access_token.expose(),
        refresh_secret: secrets.refresh_token.expose(),
        token_hash_secret: secrets.token_hash.expose(),
        master_key: secrets.master_key.expose(),
        previous_master_keys: secrets.master_key_previous.iter().map(MasterKey::expose).collect(),
        issuer: &config.auth.jwt_issuer,
        audience: &config.auth.jwt_audience,
        access_lifetime: delta(config.auth.access_token_lifetime),
        refresh_lifetime: delta(config.auth.refresh_token_lifetime),
    });
    let threads = match config.auth.password_hashing_threads {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        threads => threads,
    };
    let hasher = Hasher::new(config.auth.password_hash_iterations, threads)?;
    let settings = Settings {
        app_url: config.app.url.clone(),
        invitation_hours: u16::try_from(config.invitations.lifetime.as_secs() / 3600).unwrap_or(u16::MAX),
        refresh_grace: delta(config.auth.refresh_grace),
        password_reset: delta(config.auth.password_reset_lifetime),
        lockout: Lockout {
            free: config.auth.sign_in_free_failures,
            longest: delta(config.auth.sign_in_longest_wait),
        },
        open_organizations: config.organizations.open,
        default_image: config.workspaces.default_image.clone(),
    };
    let db = Db::connect(options, seams, keys, hasher, settings).await?;
    instance::check_tables(&db).await?;
    Ok(db)
}

fn mailer(config: &config::Mail, app_url: &str) -> Result<Arc<dyn Mailer>, StartError> {
    let fault = |error: &dyn std::fmt::Display| StartError::Mail(error.to_string());
    let url = Url::parse(app_url).map_err(|error| fault(&error))?;
    let letterhead = Letterhead::new(&config.from.to_string(), &url).map_err(|error| fault(&error))?;
    Ok(match &config.transport {
        MailTransport::Files(directory) => Arc::new(FileMailer::new(directory.clone(), letterhead)),
        MailTransport::Smtp(smtp) => {
            let (user, password) = match &smtp.credentials {
                Some(credentials) => (
                    Some(credentials.user.clone()),
                    Some(SecretString::from(credentials.password.expose().to_owned())),
                ),
                None => (None, None),
            };
            let tls = match smtp.tls {
                SmtpTls::StartTls => TlsMode::StartTls,
                SmtpTls::Tls => TlsMode::Tls,
                SmtpTls::None => TlsMode::None,
            };
            let smtp = SmtpConfig {
                host: smtp.host.clone(),
                port: smtp.port,
                tls,
                // The configuration allows this only where no password would travel in the clear.
                force_plaintext: tls == TlsMode::None,
                user,
                password,
                ca_file: smtp.ca_file.clone(),
                timeout: SmtpConfig::DEFAULT_TIMEOUT,
            };
            Arc::new(SmtpMailer::new(smtp, letterhead).map_err(|error| fault(&error))?)
        }
    })
}

fn limits(config: &config::Limits) -> Limits {
    let defaults = Limits::default();
    Limits {
        body_bytes: config.body_bytes,
        depth: config.depth,
        complexity: config.complexity,
        aliases: config.aliases,
        directives: config.directives,
        root_fields: config.root_fields,
        document: DocumentLimits {
            bytes: config.document_bytes,
            tokens: config.document_tokens,
            nesting: config.document_nesting,
            fragments: config.document_fragments,
            spreads: config.document_spreads,
            ..defaults.document
        },
        socket: SocketLimits {
            message_bytes: config.socket_message_bytes,
            operations: config.operations_per_socket,
            per_actor: config.sockets_per_actor,
            total: config.sockets,
            init_deadline: config.socket_init,
            ping_every: config.socket_ping,
            ..defaults.socket
        },
        ..defaults
    }
}

fn rates(config: &config::Limits) -> Rates {
    let rate = |rate: u32| NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN);
    Rates {
        sign_in_per_minute: rate(config.sign_in_per_minute),
        tokens_per_minute: rate(config.token_attempts_per_minute),
        invitations_per_hour: rate(config.invitations_per_hour),
        invitations_per_hour_per_workspace: rate(config.invitations_per_hour_per_workspace),
        invitations_per_hour_per_ip: rate(config.invitations_per_hour_per_ip),
        invitations_per_hour_per_recipient: rate(config.invitations_per_hour_per_recipient),
    }
}

impl App {
    /// Opens the database, puts the workers to work and lays the routes. Nothing is answered yet.
    pub async fn start(mut config: Config, seams: Seams) -> Result<Self, StartError> {
        let mailer = mailer(&config.mail, &config.app.url)?;
        let templates = Templates::load(PRODUCT, config.mail.templates_dir.as_deref())
            .map_err(|error| StartError::Mail(error.to_string()))?;
        let Credentials { test_destinations, test_ca_file } = std::mem::take(&mut config.credentials);
        let outbound = Outbound::new(test_destinations, test_ca_file.as_deref())?;
        let tester = Arc::new(Tester::new(outbound, Arc::clone(&seams.clock)));
        let Webhooks { destinations, ca_file } = std::mem::take(&mut config.webhooks);
        let to_webhooks =
            Outbound::new(destinations, ca_file.as_deref()).map_err(StartError::WebhookCertificates)?;
        let to_webhooks = Arc::new(to_webhooks);
        let config::SingleSignOn { destinations, ca_file } = std::mem::take(&mut config.single_sign_on);
        let to_providers =
            Outbound::new(destinations, ca_file.as_deref()).map_err(StartError::SignOnCertificates)?;
        let dns = Dns::new(&config.dns.servers);
        // Where every page may call the API, people are sent back to this instance alone.
        let origins = match &config.server.cors_origins {
            CorsOrigins::Any => Vec::new(),
            CorsOrigins::These(origins) => origins.clone(),
        };
        let single_sign_on = Arc::new(SingleSignOn::new(to_providers, dns, &config.app.url, origins));
        let db = open_database(&mut config, seams).await?;
        let mut limits = limits(&config.limits);
        limits.document.introspection = config.server.introspection;
        let throttle = Arc::new(Throttle::new(&rates(&config.limits)));
        let shutdown = CancellationToken::new();
        let schema_limits = guildhall_graphql::Limits {
            depth: limits.depth,
            complexity: limits.complexity,
            aliases: limits.aliases,
            directives: limits.directives,
            introspection: config.server.introspection,
        };
        let resources = Resources {
            db: db.clone(),
            throttle: Arc::clone(&throttle),
            credential_tester: tester,
            webhook_destinations: Arc::clone(&to_webhooks) as _,
            identity_providers: Arc::clone(&single_sign_on) as _,
        };
        let schema = guildhall_graphql::build(resources.clone(), schema_limits);
        let mut gateway = Gateway::new(schema, Identify::new(db.clone()), limits, shutdown.clone());
        gateway.measuring =
            LazyLock::new(Box::new(move || guildhall_graphql::build_measuring(resources, schema_limits)));
        gateway.trust_proxy = config.server.trust_proxy;
        let (per_actor, per_network) =
            (config.limits.requests_per_minute, config.limits.requests_per_minute_per_ip);
        gateway.requests = Requests::new(NonZeroU32::new(per_actor), NonZeroU32::new(per_network));
        let validator = Validator::new(&guildhall_graphql::sdl()).map_err(StartError::Schema)?;
        gateway.documents = gateway.documents.validated_by(validator);
        gateway.origins = match &config.server.cors_origins {
            CorsOrigins::Any => vec!["*".into()],
            CorsOrigins::These(origins) => origins.clone(),
        };
        if let Some(path) = config.server.trusted_documents {
            let read = std::fs::read_to_string(&path).map_err(|error| error.to_string());
            let trusted = read.and_then(|manifest| gateway.documents.trust(&manifest));
            match trusted {
                Ok(count) => tracing::info!(count, "only trusted documents are run"),
                Err(why) => return Err(StartError::TrustedDocuments(path, why)),
            }
        }
        let gateway = Arc::new(gateway);
        let pages = Arc::new(Web {
            db: db.clone(),
            pages: Pages::new(PRODUCT).map_err(StartError::Pages)?,
            throttle: Arc::clone(&throttle),
            app_url: config.app.url.clone(),
            trust_proxy: config.server.trust_proxy,
            single_sign_on,
            playground: config.server.playground,
        });
        let oauth = Arc::new(OAuth {
            db: db.clone(),
            throttle: Arc::clone(&throttle),
            trust_proxy: config.server.trust_proxy,
        });
        let probes = Probes { db: db.clone(), shutdown: shutdown.clone() };
        let mut router = Router::new()
            .merge(http::router(Arc::clone(&gateway)))
            .merge(web::router(pages))
            .merge(oauth::router(oauth))
            .merge(jwks::router(db.clone()))
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(ready).with_state(probes));
        if config.server.playground {
            router = router.merge(playground::router());
        }
        let router = router
            // Not 408: it says that the client was slow and may send the same again, and what was asked may be half done.
            .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, REQUEST_TIMEOUT))
            .layer(compression())
            .layer(cors(&config.server.cors_origins))
            .layer(middleware::from_fn(telemetry::log))
            .layer(middleware::from_fn(request_id::assign));
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(forget_idle(throttle, Arc::clone(&gateway))));
        let workers = Workers::start(&db, mailer, Arc::new(templates), to_webhooks);
        Ok(Self {
            db,
            router,
            gateway,
            workers,
            shutdown,
            grace: config.server.shutdown_grace,
            connections: ConnectionLimits {
                total: config.limits.connections,
                head: config.limits.request_head,
            },
            app_url: config.app.url,
            playground: config.server.playground,
        })
    }

    /// The database, for tests that look behind the API.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// The schema, for tests that stand where a transport stands.
    pub fn schema(&self) -> &guildhall_graphql::Schema {
        &self.gateway.schema
    }

    /// What to do first, for whoever started the process: where the playground is, and the set-up link
    /// while nobody has an account.
    pub async fn welcome(&self) -> Result<String, Fault> {
        let url = &self.app_url;
        let token = match instance::is_set_up(&self.db).await? {
            true => None,
            false => Some(self.db.keys().setup_token()),
        };
        let mut lines = format!("Guildhall answers at {url}\n");
        if self.playground {
            // The playground fills the token of the fragment into `setUp`; a fragment reaches no log.
            let fragment = token.as_ref().map(|token| format!("#setup={token}")).unwrap_or_default();
            lines.push_str(&format!("  playground   {url}/playground{fragment}\n"));
        }
        if let Some(token) = token {
            lines.push_str(&format!("  set up here  {url}/setup?token={token}\n"));
        }
        Ok(lines)
    }

    /// Answers until `stop` resolves. Then: no new connections, sockets close with 1001, requests that run
    /// finish within the grace, mails on their way are finished, and the database is closed.
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()> + Send + 'static) {
        let finished = async {
            serve(listener, self.router, &self.connections, self.shutdown.clone()).await;
            self.gateway.sockets.drained().await;
        };
        let overtime = async {
            self.shutdown.cancelled().await;
            tokio::time::sleep(self.grace).await;
        };
        let stopping = async {
            stop.await;
            tracing::info!("stopping");
            self.shutdown.cancel();
            pending().await
        };
        tokio::select! {
            () = finished => {}
            () = stopping => {}
            () = overtime => tracing::warn!("stopped with requests that had not finished in time"),
        }
        self.workers.stop().await;
        self.db.close().await;
    }
}

/// Keeps the counters of the rate limits bounded by who was seen lately.
async fn forget_idle(throttle: Arc<Throttle>, gateway: Arc<Gateway>) {
    loop {
        tokio::time::sleep(Duration::from_secs(60)).await;
        throttle.forget_idle();
        gateway.requests.forget_idle();
    }
}

#[derive(Clone)]
struct Probes {
    db: Db,
    shutdown: CancellationToken,
}

/// Whether requests should be sent here: the database answers, and the process is not stopping.
async fn ready(State(probes): State<Probes>) -> Response {
    let answer = |status: StatusCode, state: &str| {
        (status, Json(serde_json::json!({ "status": state }))).into_response()
    };
    if probes.shutdown.is_cancelled() {
        return answer(StatusCode::SERVICE_UNAVAILABLE, "stopping");
    }
    match tokio::time::timeout(Duration::from_secs(2), probes.db.ping()).await {
        Ok(Ok(())) => answer(StatusCode::OK, "ready"),
        Ok(Err(fault @ Fault::ReadOnly)) => {
            tracing::warn!(%fault, "not ready");
            answer(StatusCode::SERVICE_UNAVAILABLE, "the database takes no changes")
        }
        Ok(Err(fault)) => {
            tracing::warn!(%fault, "not ready");
            answer(StatusCode::SERVICE_UNAVAILABLE, "the database does not answer")
        }
        Err(_) => {
            tracing::warn!("not ready: the database does not answer in time, or no connection to it is free");
            answer(StatusCode::SERVICE_UNAVAILABLE, "the database does not answer in time")
        }
    }
}

/// gzip and brotli, but for event streams, which it would hold back, and for what fits into a packet anyway.
///
/// What compression can give away (BREACH) takes a page that makes a browser ask in somebody's name, over and over, with
/// guesses that stand in the answer beside a secret. No browser asks in anybody's name here by itself: a token is put into a
/// header by the page that owns it, there are no cookies, and the pages of links are reached by whoever has the secret.
fn compression() -> CompressionLayer<impl Predicate> {
    const PACKET: u64 = 1_400;
    let streams = NotForContentType::const_new("text/event-stream");
    CompressionLayer::new().compress_when(SizeAbove::new(PACKET).and(streams).and(NotForContentType::IMAGES))
}

fn cors(origins: &CorsOrigins) -> CorsLayer {
    let layer = CorsLayer::new()
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("x-request-id"),
        ])
        .expose_headers([
            HeaderName::from_static("x-request-id"),
            HeaderName::from_static("ratelimit"),
            HeaderName::from_static("ratelimit-policy"),
            header::RETRY_AFTER,
            idempotency::REPLAYED,
        ])
        .max_age(Duration::from_secs(3600));
    match origins {
        CorsOrigins::Any => layer.allow_origin(tower_http::cors::Any),
        CorsOrigins::These(origins) => layer.allow_origin(AllowOrigin::list(
            origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()),
        )),
    }
}
