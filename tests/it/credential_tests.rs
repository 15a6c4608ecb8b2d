//! Credentials tried against services on loopback: a real PostgreSQL, and stand-ins of the others that check what they
//! are asked as the real ones do.

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use aws_lc_rs::{
    digest,
    encoding::AsDer as _,
    hmac, rsa,
    signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey},
};
use axum::{
    Form, Json, Router,
    body::{Body, Bytes},
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse as _, Redirect, Response},
    routing::{any, get, post},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use chrono::NaiveDateTime;
use futures_util::{future::join_all, stream};
use guildhall_domain::{
    credentials::CredentialKind,
    seams::{Clock as _, System},
};
use guildhall_graphql::credential_tests::{
    CredentialTestFailure as Reason, CredentialTester as _, Failure, Outcome,
};
use guildhall_server::{
    credential_tests::Tester,
    outbound::{Destination, Outbound},
};
use guildhall_tests::databases::{self, Engine, TestDatabase};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};
use tracing_subscriber::util::SubscriberInitExt as _;
use url::Url;

/// Part of every secret value, of every answer and of nothing else.
const PLANTED: &str = "pl4nted";
pub(crate) const PASSWORD: &str = "pl4nted-password";
/// Answered by stand-ins that fail.
const BODY: &str = "pl4nted body of an answer";

fn tester_to(allowed: &[&str], ca_file: Option<&std::path::Path>) -> Tester {
    let allowed = allowed.iter().map(|text| Destination::parse(text).unwrap()).collect();
    Tester::new(Outbound::new(allowed, ca_file).unwrap(), Arc::new(System))
}

/// One that may go to this machine.
fn tester() -> Tester {
    tester_to(&["127.0.0.0/8", "::1"], None)
}

type Values<'a> = Vec<(&'a str, &'a str)>;

async fn outcome(tester: &Tester, kind: CredentialKind, values: &Values<'_>) -> Outcome {
    let fields = values.iter().map(|(code, value)| ((*code).to_owned(), (*value).into()));
    let outcome = tester.test(kind, fields.collect::<BTreeMap<_, _>>()).await;
    let (Ok(message) | Err(Failure { message, .. })) = &outcome.verdict;
    assert!(message.ends_with(['.', ')']) && !message.contains(PLANTED), "{message}");
    for (_, value) in values.iter().filter(|(code, _)| *code != "ssl_mode") {
        assert!(!message.contains(value), "{message:?} tells {value:?}");
    }
    outcome
}

async fn passes(tester: &Tester, kind: CredentialKind, values: &Values<'_>) {
    let outcome = outcome(tester, kind, values).await;
    assert!(outcome.verdict.is_ok(), "{outcome:?}");
}

async fn fails(tester: &Tester, kind: CredentialKind, values: &Values<'_>, expected: Reason) {
    let outcome = outcome(tester, kind, values).await;
    assert_eq!(outcome.verdict.map_err(|failure| failure.reason), Err(expected));
}

/// The values with some replaced or added.
fn with<'a>(values: &Values<'a>, other: &[(&'a str, &'a str)]) -> Values<'a> {
    let kept = values.iter().filter(|(code, _)| other.iter().all(|(replaced, _)| replaced != code));
    kept.chain(other).copied().collect()
}

/// Serves on a free port of this machine; the port.
pub(crate) async fn serve(router: Router) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
    port
}

/// Hands each connection to what is given; the port.
async fn accept<W: Future<Output = ()> + Send + 'static>(
    talk: impl Fn(TcpStream) -> W + Send + Sync + 'static,
) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            tokio::spawn(talk(listener.accept().await.unwrap().0));
        }
    });
    port
}

/// Takes connections and says nothing.
async fn silent() -> u16 {
    accept(|stream| async {
        let _stream = stream;
        std::future::pending::<()>().await;
    })
    .await
}

async fn closed() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap().port()
}

// ---------------------------------------------------------------------------------------------------------- DHIS2, IASO

/// A DHIS2 of version 2.41, as far as it is asked.
pub(crate) fn dhis2() -> Router {
    Router::new().route(
        "/demo/api/me",
        get(async |headers: HeaderMap| {
            let expected = format!("Basic {}", STANDARD.encode(format!("admin:{PASSWORD}")));
            match headers.get(header::AUTHORIZATION) {
                Some(given) if *given == expected => Json(json!({ "id": "xE7jOejl9FI" })).into_response(),
                // What DHIS2 answers to a browser.
                _ if !headers.contains_key("x-requested-with") => Redirect::to("/login").into_response(),
                _ => (StatusCode::UNAUTHORIZED, BODY).into_response(),
            }
        }),
    )
}

/// An IASO, as far as it is asked.
fn iaso() -> Router {
    Router::new().route(
        "/api/token/",
        post(async |Json(body): Json<Value>| {
            if body == json!({ "username": "admin", "password": PASSWORD }) {
                return Json(json!({ "access": "pl4nted.a.b", "refresh": "pl4nted.c.d" })).into_response();
            }
            (StatusCode::UNAUTHORIZED, Json(json!({ "detail": BODY }))).into_response()
        }),
    )
}

fn user<'a>(url: &'a str) -> Values<'a> {
    vec![("api_url", url), ("username", "admin"), ("password", PASSWORD)]
}

#[tokio::test]
async fn dhis2_and_iaso_accept_the_right_password_and_no_other() {
    let tester = tester();
    let dhis2_url = format!("http://127.0.0.1:{}/demo", serve(dhis2()).await);
    let iaso_url = format!("http://localhost:{}", serve(iaso()).await);
    for (kind, url) in [(CredentialKind::Dhis2, dhis2_url), (CredentialKind::Iaso, iaso_url)] {
        let values = user(&url);
        passes(&tester, kind, &values).await;
        let slashed = format!("{url}/");
        passes(&tester, kind, &user(&slashed)).await;
        for wrong in [("password", "pl4nted-other"), ("username", "root"), ("password", "pl4nted\u{e9}\"")] {
            fails(&tester, kind, &with(&values, &[wrong]), Reason::AuthenticationFailed).await;
        }
        let elsewhere = format!("{url}/elsewhere");
        fails(&tester, kind, &user(&elsewhere), Reason::NotFound).await;
        let without: Values<'_> = values.iter().copied().filter(|(code, _)| *code != "password").collect();
        fails(&tester, kind, &without, Reason::InvalidSettings).await;
    }
    fails(&tester, CredentialKind::Dhis2, &user("ftp://example.org"), Reason::InvalidSettings).await;
    fails(&tester, CredentialKind::Custom, &vec![("token", PASSWORD)], Reason::InvalidSettings).await;
}

#[tokio::test]
async fn what_is_no_such_service_is_told_without_its_answer() {
    let router = Router::new()
        .route("/page/{*rest}", any(async || BODY))
        .route("/other/{*rest}", any(async || Json(json!({ "message": BODY }))))
        .route("/failing/{*rest}", any(async || (StatusCode::BAD_GATEWAY, BODY)))
        .route("/full/{*rest}", any(async || (StatusCode::TOO_MANY_REQUESTS, BODY)))
        .route("/closed/{*rest}", any(async || (StatusCode::FORBIDDEN, BODY)));
    let port = serve(router).await;
    let tester = tester();
    for (path, reason) in [
        ("page", Reason::UnexpectedAnswer),
        ("other", Reason::UnexpectedAnswer),
        ("failing", Reason::UnexpectedAnswer),
        ("full", Reason::UnexpectedAnswer),
        ("closed", Reason::PermissionDenied),
    ] {
        let url = format!("http://127.0.0.1:{port}/{path}");
        fails(&tester, CredentialKind::Dhis2, &user(&url), reason).await;
        fails(&tester, CredentialKind::Iaso, &user(&url), reason).await;
    }
    // Not even HTTP.
    let port = accept(async |mut stream| {
        stream.write_all(b"220 pl4nted mail server\r\n").await.unwrap();
        // Closed with unread data, the answer would be lost.
        let _ = stream.read(&mut [0; 4096]).await;
    })
    .await;
    let url = format!("http://127.0.0.1:{port}");
    fails(&tester, CredentialKind::Dhis2, &user(&url), Reason::UnexpectedAnswer).await;
    let url = format!("http://127.0.0.1:{}", closed().await);
    fails(&tester, CredentialKind::Dhis2, &user(&url), Reason::Unreachable).await;
    fails(&tester, CredentialKind::Dhis2, &user("http://nowhere.invalid"), Reason::Unreachable).await;
}

#[tokio::test]
async fn redirects_are_told_and_not_followed() {
    let visits = Arc::new(AtomicUsize::new(0));
    let visitor = Arc::clone(&visits);
    let target = serve(Router::new().fallback(async move || {
        visitor.fetch_add(1, Relaxed);
        Json(json!({ "id": "x", "access": "x" }))
    }))
    .await;
    for status in [StatusCode::MOVED_PERMANENTLY, StatusCode::FOUND, StatusCode::TEMPORARY_REDIRECT] {
        let to = format!("http://127.0.0.1:{target}/");
        let redirect = Router::new().fallback(async move || (status, [(header::LOCATION, to)]));
        let url = format!("http://127.0.0.1:{}", serve(redirect).await);
        fails(&tester(), CredentialKind::Dhis2, &user(&url), Reason::Redirected).await;
        fails(&tester(), CredentialKind::Iaso, &user(&url), Reason::Redirected).await;
    }
    assert_eq!(visits.load(Relaxed), 0);
}

// --------------------------------------------------------------------------------------------------------------- bounds

#[tokio::test]
async fn a_service_that_never_answers_costs_the_limit_and_no_more() {
    let port = silent().await;
    let url = format!("http://127.0.0.1:{port}");
    let secure = format!("https://127.0.0.1:{port}");
    let text = port.to_string();
    let database = vec![
        ("host", "127.0.0.1"),
        ("port", text.as_str()),
        ("database", "analytics"),
        ("username", "reader"),
        ("password", PASSWORD),
    ];
    let bucket = vec![
        ("bucket_name", "data"),
        ("access_key_id", "AKIA"),
        ("secret_access_key", PASSWORD),
        ("endpoint_url", url.as_str()),
    ];
    let tester = tester().within(Duration::from_millis(300));
    for (kind, values) in [
        (CredentialKind::Dhis2, user(&url)),
        (CredentialKind::Iaso, user(&secure)),
        (CredentialKind::S3, bucket),
        (CredentialKind::Postgresql, with(&database, &[("ssl_mode", "disable")])),
        (CredentialKind::Postgresql, database),
    ] {
        let outcome = outcome(&tester, kind, &values).await;
        assert_eq!(outcome.verdict.map_err(|failure| failure.reason), Err(Reason::TimedOut), "{kind:?}");
        assert!(outcome.took >= Duration::from_millis(290), "{:?}", outcome.took);
        assert!(outcome.took < Duration::from_secs(3), "{:?}", outcome.took);
    }
}

#[tokio::test]
async fn a_service_that_answers_a_byte_at_a_time_is_given_up() {
    let port = accept(async |mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(b"a").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let url = format!("http://127.0.0.1:{port}");
    let tester = tester().within(Duration::from_millis(400));
    fails(&tester, CredentialKind::Dhis2, &user(&url), Reason::TimedOut).await;
}

#[tokio::test]
async fn an_endless_answer_is_read_to_its_bound() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let chunk = Bytes::from(PLANTED.repeat(2000));
    let endless = Router::new().fallback(async move || {
        Body::from_stream(stream::repeat_with(move || {
            counter.fetch_add(chunk.len(), Relaxed);
            Ok::<_, std::io::Error>(chunk.clone())
        }))
    });
    let url = format!("http://127.0.0.1:{}", serve(endless).await);
    fails(&tester(), CredentialKind::Dhis2, &user(&url), Reason::UnexpectedAnswer).await;
    // What the sockets buffer comes on top.
    assert!(sent.load(Relaxed) < 16 * 1024 * 1024, "{sent:?}");

    // A head without end.
    let port = accept(async |mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while stream.write_all(format!("a: {}\r\n", PLANTED.repeat(500)).as_bytes()).await.is_ok() {}
    })
    .await;
    let url = format!("http://127.0.0.1:{port}");
    fails(&tester(), CredentialKind::Iaso, &user(&url), Reason::UnexpectedAnswer).await;
}

#[tokio::test]
async fn no_more_tests_run_at_a_time_than_there_are_places() {
    let open = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&open);
    let port = accept(move |stream| {
        counter.fetch_add(1, Relaxed);
        async {
            let _stream = stream;
            std::future::pending::<()>().await;
        }
    })
    .await;
    let url = format!("http://127.0.0.1:{port}");
    let tester = tester().within(Duration::from_millis(500));
    let values = user(&url);
    let outcomes = join_all((0..11).map(|_| outcome(&tester, CredentialKind::Dhis2, &values))).await;
    let count = |reason| {
        outcomes
            .iter()
            .filter(|outcome| outcome.verdict.is_err_and(|failure| failure.reason == reason))
            .count()
    };
    assert_eq!((count(Reason::TimedOut), count(Reason::Busy)), (8, 3), "{outcomes:?}");
    assert_eq!(open.load(Relaxed), 8);
    // The places are free again.
    fails(&tester, CredentialKind::Dhis2, &values, Reason::TimedOut).await;
}

// --------------------------------------------------------------------------------------------------------- destinations

#[tokio::test]
async fn this_machine_is_refused_by_default_whatever_it_is_called() {
    let visits = Arc::new(AtomicUsize::new(0));
    let visitor = Arc::clone(&visits);
    let port = accept(move |stream| {
        visitor.fetch_add(1, Relaxed);
        async { drop(stream) }
    })
    .await;
    let shut = closed().await;
    let tester = tester_to(&["10.1.0.0/16"], None);
    for port in [port, shut] {
        let text = port.to_string();
        for host in [
            "localhost",
            "LOCALHOST.",
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f.0.0.1",
            "0177.0.0.1",
            "0.0.0.0",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "169.254.169.254",
            "10.2.0.1",
        ] {
            let url = format!("http://{host}:{port}/");
            fails(&tester, CredentialKind::Dhis2, &user(&url), Reason::DestinationRefused).await;
            fails(&tester, CredentialKind::Iaso, &user(&url), Reason::DestinationRefused).await;
            let bucket = vec![
                ("bucket_name", "data"),
                ("access_key_id", "AKIA"),
                ("secret_access_key", PASSWORD),
                ("endpoint_url", url.as_str()),
            ];
            fails(&tester, CredentialKind::S3, &bucket, Reason::DestinationRefused).await;
            for mode in ["disable", "prefer", "require", "verify-full"] {
                let database = vec![
                    ("host", host),
                    ("port", &text),
                    ("database", "analytics"),
                    ("username", "reader"),
                    ("password", PASSWORD),
                    ("ssl_mode", mode),
                ];
                fails(&tester, CredentialKind::Postgresql, &database, Reason::DestinationRefused).await;
            }
        }
        let key = ServiceAccount::new();
        let file = key.file(&format!("http://127.0.0.1:{port}/token"));
        let values = vec![("bucket_name", "field-data"), ("service_account_key", file.as_str())];
        fails(&tester, CredentialKind::Gcs, &values, Reason::DestinationRefused).await;
    }
    assert_eq!(visits.load(Relaxed), 0);
}

// ------------------------------------------------------------------------------------------------------------------ TLS

/// A certificate authority, and its certificate as a file.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: tempfile::NamedTempFile,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(issuer.pem().as_bytes()).unwrap();
        Self { issuer, file }
    }

    fn acceptor(&self, name: &str) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Ends TLS in front of another port.
async fn secured(acceptor: TlsAcceptor, port: u16) -> u16 {
    accept(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut plain = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
            let _ = copy_bidirectional(&mut stream, &mut plain).await;
        }
    })
    .await
}

#[tokio::test]
async fn the_certificate_must_be_for_the_name_and_by_a_trusted_authority() {
    let authority = Authority::new();
    let allowed = &["127.0.0.0/8", "::1"];
    let trusting = tester_to(allowed, Some(authority.file.path()));
    let plain = serve(dhis2()).await;
    let port = secured(authority.acceptor("localhost"), plain).await;
    let by_name = format!("https://localhost:{port}/demo");
    passes(&trusting, CredentialKind::Dhis2, &user(&by_name)).await;
    fails(&tester(), CredentialKind::Dhis2, &user(&by_name), Reason::Tls).await;
    // The same server, but its certificate is not for the address.
    let by_address = format!("https://127.0.0.1:{port}/demo");
    fails(&trusting, CredentialKind::Dhis2, &user(&by_address), Reason::Tls).await;
    let port = secured(authority.acceptor("127.0.0.1"), plain).await;
    let by_address = format!("https://127.0.0.1:{port}/demo");
    passes(&trusting, CredentialKind::Dhis2, &user(&by_address)).await;
    // No TLS at all there.
    let plain = format!("https://localhost:{plain}/demo");
    fails(&trusting, CredentialKind::Dhis2, &user(&plain), Reason::Tls).await;
}

// ----------------------------------------------------------------------------------------------------------- PostgreSQL

/// A user and a database of the server of the tests.
struct Account {
    port: String,
    name: String,
    user: String,
    password: String,
    _database: TestDatabase,
}

impl Account {
    async fn new(engine: Engine) -> Self {
        let database = TestDatabase::empty(engine).await;
        let url = Url::parse(&database.url).unwrap();
        Self {
            port: url.port().unwrap_or(5432).to_string(),
            name: url.path().trim_start_matches('/').to_owned(),
            user: url.username().to_owned(),
            password: url.password().unwrap_or_default().to_owned(),
            _database: database,
        }
    }

    fn values(&self) -> Values<'_> {
        vec![
            ("host", "127.0.0.1"),
            ("port", &self.port),
            ("database", &self.name),
            ("username", &self.user),
            ("password", &self.password),
        ]
    }

    fn port(&self) -> u16 {
        self.port.parse().unwrap()
    }
}

const POSTGRESQL: CredentialKind = CredentialKind::Postgresql;

#[test]
fn postgresql_says_what_is_wrong_with_an_account() {
    databases::run(Engine::Postgres, Account::new, async |account| {
        let (tester, values) = (tester(), account.values());
        passes(&tester, POSTGRESQL, &values).await;
        for (other, reason) in [
            (("password", "pl4nted-other"), Reason::AuthenticationFailed),
            (("username", "pl4nted-nobody"), Reason::AuthenticationFailed),
            (("database", "pl4nted-none"), Reason::NotFound),
            (("ssl_mode", "verify-ca"), Reason::InvalidSettings),
            (("port", "0"), Reason::InvalidSettings),
            (("port", "65536"), Reason::InvalidSettings),
            (("host", "/var/run/postgresql"), Reason::InvalidSettings),
            (("host", "127.0.0.1:5432"), Reason::InvalidSettings),
            (("host", "postgres://127.0.0.1"), Reason::InvalidSettings),
        ] {
            fails(&tester, POSTGRESQL, &with(&values, &[other]), reason).await;
        }
        let shut = closed().await.to_string();
        fails(&tester, POSTGRESQL, &with(&values, &[("port", &shut)]), Reason::Unreachable).await;
        let web = serve(dhis2()).await.to_string();
        fails(&tester, POSTGRESQL, &with(&values, &[("port", &web)]), Reason::UnexpectedAnswer).await;
        let disabled = with(&values, &[("port", &web), ("ssl_mode", "disable")]);
        fails(&tester, POSTGRESQL, &disabled, Reason::UnexpectedAnswer).await;
    });
}

#[test]
fn postgresql_keeps_out_who_may_not_connect() {
    databases::run(Engine::Postgres, Account::new, async |account| {
        let (tester, values) = (tester(), account.values());
        let role = format!("{}_guest", account.name);
        let mut connection = PgConnection::connect(&account._database.url).await.unwrap();
        let mut run = async |statement: String| {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
        };
        run(format!("CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")).await;
        let guest = with(&values, &[("username", &role), ("password", PASSWORD)]);
        passes(&tester, POSTGRESQL, &guest).await;
        run(format!("REVOKE CONNECT ON DATABASE {} FROM PUBLIC", account.name)).await;
        fails(&tester, POSTGRESQL, &guest, Reason::PermissionDenied).await;
        run(format!("ALTER ROLE {role} NOLOGIN")).await;
        fails(&tester, POSTGRESQL, &guest, Reason::AuthenticationFailed).await;
        run(format!("DROP ROLE {role}")).await;
    });
}

/// PostgreSQL's own way into TLS, in front of a server that may not have it.
async fn postgres_with_tls(acceptor: TlsAcceptor, port: u16) -> u16 {
    accept(move |mut stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut request = [0; 8];
            stream.read_exact(&mut request).await.unwrap();
            // Without TLS it does not let anybody in.
            if request != [0, 0, 0, 8, 4, 210, 22, 47] {
                return;
            }
            stream.write_all(b"S").await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut plain = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
            let _ = copy_bidirectional(&mut stream, &mut plain).await;
        }
    })
    .await
}

/// PostgreSQL without TLS, whatever the server of the tests has.
async fn postgres_without_tls(port: u16) -> u16 {
    accept(move |mut stream| async move {
        let mut request = [0; 8];
        stream.peek(&mut request).await.unwrap();
        if request == [0, 0, 0, 8, 4, 210, 22, 47] {
            stream.read_exact(&mut request).await.unwrap();
            stream.write_all(b"N").await.unwrap();
        }
        let mut plain = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let _ = copy_bidirectional(&mut stream, &mut plain).await;
    })
    .await
}

#[test]
fn postgresql_is_reached_as_ssl_mode_says() {
    databases::run(Engine::Postgres, Account::new, async |account| {
        let authority = Authority::new();
        let trusting = tester_to(&["localhost", "127.0.0.1"], Some(authority.file.path()));
        let secure = postgres_with_tls(authority.acceptor("localhost"), account.port()).await.to_string();
        let plain = postgres_without_tls(account.port()).await.to_string();
        let values = with(&account.values(), &[("host", "localhost"), ("port", &secure)]);
        for (mode, with_tls, without_tls) in [
            ("disable", Some(Reason::UnexpectedAnswer), None),
            ("prefer", None, None),
            ("require", None, Some(Reason::Tls)),
            ("verify-full", None, Some(Reason::Tls)),
        ] {
            for (port, expected) in [(&secure, with_tls), (&plain, without_tls)] {
                let values = with(&values, &[("ssl_mode", mode), ("port", port)]);
                let verdict = outcome(&trusting, POSTGRESQL, &values).await.verdict;
                assert_eq!(verdict.err().map(|failure| failure.reason), expected, "{mode}, {port}");
            }
        }
        let values = with(&values, &[("ssl_mode", "verify-full")]);
        fails(&tester(), POSTGRESQL, &values, Reason::Tls).await;
        // The certificate is for the name.
        fails(&trusting, POSTGRESQL, &with(&values, &[("host", "127.0.0.1")]), Reason::Tls).await;
        passes(&tester(), POSTGRESQL, &with(&values, &[("ssl_mode", "require")])).await;
    });
}

#[tokio::test]
async fn a_server_that_only_claims_to_be_postgresql_gets_no_further() {
    let message = |tag: u8, body: &[u8]| {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[tag][..], &length, body].concat()
    };
    let error = format!("SFATAL\0VFATAL\0C28P01\0M{BODY}\0\0");
    let notice = message(b'N', format!("SNOTICE\0VNOTICE\0C00000\0M{BODY}\0\0").as_bytes());
    let signed_in = [message(b'R', &[0; 4]), message(b'Z', b"I")].concat();
    let iterations = b"\0\0\0\x0ar=a,s=AAAA,i=4000000000";
    let scripts: [(Vec<u8>, Reason); 6] = [
        (message(b'E', error.as_bytes()), Reason::AuthenticationFailed),
        // Notices without end.
        (notice.repeat(5000), Reason::UnexpectedAnswer),
        ([signed_in.clone(), notice.repeat(5000)].concat(), Reason::UnexpectedAnswer),
        // A message of two gigabytes.
        ([&b"R\x7f\xff\xff\xff"[..], &[0; 1 << 20]].concat(), Reason::UnexpectedAnswer),
        // An authentication that nobody knows, and one that would keep a core busy for an hour.
        (message(b'R', &[0, 0, 0, 99]), Reason::UnexpectedAnswer),
        (
            [message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0"), message(b'R', iterations)].concat(),
            Reason::UnexpectedAnswer,
        ),
    ];
    for (script, reason) in scripts {
        let port = accept(move |mut stream| {
            let script = script.clone();
            async move {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(&script).await;
                let _ = stream.shutdown().await;
                while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
            }
        })
        .await
        .to_string();
        let values = vec![
            ("host", "127.0.0.1"),
            ("port", port.as_str()),
            ("database", "analytics"),
            ("username", "reader"),
            ("password", PASSWORD),
            ("ssl_mode", "disable"),
        ];
        fails(&tester(), POSTGRESQL, &values, reason).await;
    }
}

// ------------------------------------------------------------------------------------------------------------------- S3

const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET_KEY: &str = "pl4nted/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// The signature, version 4, of a presigned GET, from what stands in its query: written after Amazon's description of
/// it, and shared with nothing that signs.
fn signature(secret: &str, host: &str, path: &str, query: &str) -> String {
    let mac = |key: &[u8], data: &str| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data.as_bytes()).as_ref().to_vec()
    };
    let mut pairs: Vec<&str> =
        query.split('&').filter(|pair| !pair.starts_with("X-Amz-Signature=")).collect();
    pairs.sort_unstable();
    let value = |name: &str| {
        let pair = pairs.iter().find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        pair.unwrap_or_default().replace("%2F", "/")
    };
    let request = format!("GET\n{path}\n{}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD", pairs.join("&"));
    let hash = hex::encode(digest::digest(&digest::SHA256, request.as_bytes()));
    let credential = value("X-Amz-Credential");
    let (_, scope) = credential.split_once('/').unwrap();
    let text = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{hash}", value("X-Amz-Date"));
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in scope.split('/') {
        key = mac(&key, part);
    }
    hex::encode(mac(&key, &text))
}

#[test]
fn the_stand_in_of_s3_computes_the_signature_of_amazons_example() {
    let query = "X-Amz-Algorithm=AWS4-HMAC-SHA256\
        &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
        &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host";
    assert_eq!(
        signature(
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "examplebucket.s3.amazonaws.com",
            "/test.txt",
            query,
        ),
        "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    );
}

/// Amazon S3 as far as it is asked, in the region eu-central-1, with path-style addresses.
async fn s3(headers: HeaderMap, uri: Uri, RawQuery(query): RawQuery) -> Response {
    let refusal = |status: StatusCode, code: &str| {
        let xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>";
        (status, format!("{xml}<Error><Code>{code}</Code><Message>{BODY}</Message></Error>")).into_response()
    };
    let query = query.unwrap_or_default();
    let pairs: BTreeMap<String, String> =
        url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let scope: Vec<&str> = pairs["X-Amz-Credential"].split('/').collect();
    let [key, day, region, "s3", "aws4_request"] = scope[..] else { panic!("{scope:?}") };
    let date = NaiveDateTime::parse_from_str(&pairs["X-Amz-Date"], "%Y%m%dT%H%M%SZ").unwrap();
    assert_eq!(date.format("%Y%m%d").to_string(), day);
    if (System.now().naive_utc() - date).num_seconds().abs() > 60 {
        return refusal(StatusCode::FORBIDDEN, "RequestTimeTooSkewed");
    }
    if key != ACCESS_KEY {
        return refusal(StatusCode::FORBIDDEN, "InvalidAccessKeyId");
    }
    if region != "eu-central-1" {
        return refusal(StatusCode::BAD_REQUEST, "AuthorizationQueryParametersError");
    }
    let host = headers[header::HOST].to_str().unwrap();
    if signature(SECRET_KEY, host, uri.path(), &query) != pairs["X-Amz-Signature"] {
        return refusal(StatusCode::FORBIDDEN, "SignatureDoesNotMatch");
    }
    assert_eq!((pairs["list-type"].as_str(), pairs["max-keys"].as_str()), ("2", "1"));
    match uri.path() {
        "/field-data/" | "/below/field-data/" => {
            "<?xml version=\"1.0\"?><ListBucketResult><Name>pl4nted</Name></ListBucketResult>".into_response()
        }
        "/others/" => refusal(StatusCode::FORBIDDEN, "AccessDenied"),
        "/moved/" => refusal(StatusCode::MOVED_PERMANENTLY, "PermanentRedirect"),
        "/odd/" => refusal(StatusCode::IM_A_TEAPOT, BODY),
        "/page/" => BODY.into_response(),
        _ => refusal(StatusCode::NOT_FOUND, "NoSuchBucket"),
    }
}

#[tokio::test]
async fn a_bucket_of_s3_is_listed_with_a_signature_that_holds() {
    let url = format!("http://127.0.0.1:{}", serve(Router::new().fallback(s3)).await);
    let tester = tester();
    let kind = CredentialKind::S3;
    let values = vec![
        ("bucket_name", "field-data"),
        ("access_key_id", ACCESS_KEY),
        ("secret_access_key", SECRET_KEY),
        ("region", "eu-central-1"),
        ("endpoint_url", url.as_str()),
    ];
    passes(&tester, kind, &values).await;
    let below = format!("{url}/below/");
    passes(&tester, kind, &with(&values, &[("endpoint_url", &below)])).await;
    for (other, reason) in [
        (("secret_access_key", "pl4nted-other"), Reason::AuthenticationFailed),
        (("access_key_id", "AKIAOTHER"), Reason::AuthenticationFailed),
        (("bucket_name", "missing"), Reason::NotFound),
        (("bucket_name", "others"), Reason::PermissionDenied),
        (("bucket_name", "moved"), Reason::InvalidSettings),
        (("region", "us-west-2"), Reason::InvalidSettings),
        (("bucket_name", "odd"), Reason::UnexpectedAnswer),
        (("bucket_name", "page"), Reason::UnexpectedAnswer),
        (("bucket_name", "../field-data"), Reason::InvalidSettings),
        (("bucket_name", ".."), Reason::InvalidSettings),
        (("region", "evil.example/#"), Reason::InvalidSettings),
    ] {
        fails(&tester, kind, &with(&values, &[other]), reason).await;
    }
    // The region when none is given.
    let without: Values<'_> = values.iter().copied().filter(|(code, _)| *code != "region").collect();
    fails(&tester, kind, &without, Reason::InvalidSettings).await;
}

// ------------------------------------------------------------------------------------------------------------------ GCS

/// A service account of Google with a key of its own.
struct ServiceAccount {
    key: rsa::KeyPair,
}

impl ServiceAccount {
    fn new() -> Self {
        Self { key: rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap() }
    }

    fn public(&self) -> Vec<u8> {
        self.key.public_key().as_ref().to_vec()
    }

    /// The file that Google gives.
    fn file(&self, token_uri: &str) -> String {
        let der = STANDARD.encode(self.key.as_der().unwrap().as_ref());
        let lines: Vec<_> = der.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        json!({
            "type": "service_account",
            "project_id": "field",
            "private_key_id": "pl4nted-id",
            "private_key": format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n")),
            "client_email": "reader@field.iam.gserviceaccount.com",
            "token_uri": token_uri,
        })
        .to_string()
    }
}

struct Google {
    public: Vec<u8>,
    url: Mutex<String>,
}

/// Google's endpoint for tokens: it checks who asks.
async fn google_token(
    State(google): State<Arc<Google>>,
    Form(form): Form<BTreeMap<String, String>>,
) -> Response {
    assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
    let (signed, signature) = form["assertion"].rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &google.public);
    if key.verify(signed.as_bytes(), &signature).is_err() {
        let refusal = json!({ "error": "invalid_grant", "error_description": BODY });
        return (StatusCode::BAD_REQUEST, Json(refusal)).into_response();
    }
    let [head, claims] = [0, 1].map(|place| {
        let part = signed.split('.').nth(place).unwrap();
        serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    });
    assert_eq!(head, json!({ "alg": "RS256", "typ": "JWT", "kid": "pl4nted-id" }));
    assert_eq!(claims["iss"], "reader@field.iam.gserviceaccount.com");
    assert_eq!(claims["aud"], format!("{}/token", google.url.lock().unwrap()));
    let (from, to) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
    let now = System.now().timestamp();
    assert!((now - 60..=now).contains(&from) && to > now && to <= from + 3600, "{claims}");
    Json(json!({ "access_token": "pl4nted-token", "expires_in": 3599, "token_type": "Bearer" }))
        .into_response()
}

/// Google's storage API, as far as it is asked.
async fn google_bucket(Path(bucket): Path<String>, headers: HeaderMap) -> Response {
    if headers[header::AUTHORIZATION] != "Bearer pl4nted-token" {
        return (StatusCode::UNAUTHORIZED, BODY).into_response();
    }
    match bucket.as_str() {
        "field-data" => Json(json!({ "kind": "storage#objects" })).into_response(),
        "others" => (StatusCode::FORBIDDEN, BODY).into_response(),
        _ => (StatusCode::NOT_FOUND, BODY).into_response(),
    }
}

#[tokio::test]
async fn a_bucket_of_google_is_listed_with_a_token_for_the_service_account() {
    let account = ServiceAccount::new();
    let google = Arc::new(Google { public: account.public(), url: Mutex::default() });
    let router = Router::new()
        .route("/token", post(google_token))
        .route("/storage/v1/b/{bucket}/o", get(google_bucket))
        .with_state(Arc::clone(&google));
    let url = format!("http://127.0.0.1:{}", serve(router).await);
    google.url.lock().unwrap().clone_from(&url);
    let tester = tester().asking_google_at(Url::parse(&url).unwrap());
    let kind = CredentialKind::Gcs;
    let file = account.file(&format!("{url}/token"));
    let values = vec![("bucket_name", "field-data"), ("service_account_key", file.as_str())];
    passes(&tester, kind, &values).await;
    for (bucket, reason) in [
        ("others", Reason::PermissionDenied),
        ("missing", Reason::NotFound),
        ("../../../token", Reason::NotFound),
    ] {
        fails(&tester, kind, &with(&values, &[("bucket_name", bucket)]), reason).await;
    }
    let forged = ServiceAccount::new().file(&format!("{url}/token"));
    let forged = with(&values, &[("service_account_key", &forged)]);
    fails(&tester, kind, &forged, Reason::AuthenticationFailed).await;
    for broken in [
        file.replace("service_account", "authorized_user"),
        file.replace("PRIVATE KEY", "CERTIFICATE"),
        file.replace("\\nMII", "\\nAAA"),
        file.replace("private_key\"", "other\""),
        account.file("nowhere"),
        "{}".to_owned(),
        PLANTED.to_owned(),
    ] {
        fails(&tester, kind, &with(&values, &[("service_account_key", &broken)]), Reason::InvalidSettings)
            .await;
    }
    let closed = account.file(&format!("http://127.0.0.1:{}/token", closed().await));
    fails(&tester, kind, &with(&values, &[("service_account_key", &closed)]), Reason::Unreachable).await;
    let odd = account.file("mailto:pl4nted@example.org");
    fails(&tester, kind, &with(&values, &[("service_account_key", &odd)]), Reason::InvalidSettings).await;
}

// ------------------------------------------------------------------------------------------------------------------ log

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// On one thread, so that the log of everything reaches the subscriber of this thread.
#[tokio::test]
async fn nothing_of_a_value_or_an_answer_reaches_the_log() {
    let written = Written::default();
    let sink = written.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::TRACE);
    let _logging = subscriber.with_writer(move || sink.clone()).finish().set_default();

    let tester = tester();
    let url = format!("http://127.0.0.1:{}/demo", serve(dhis2()).await);
    passes(&tester, CredentialKind::Dhis2, &user(&url)).await;
    let wrong = with(&user(&url), &[("password", "pl4nted-other")]);
    fails(&tester, CredentialKind::Dhis2, &wrong, Reason::AuthenticationFailed).await;
    let url = format!("http://127.0.0.1:{}", serve(Router::new().fallback(s3)).await);
    let bucket = vec![
        ("bucket_name", "missing"),
        ("access_key_id", ACCESS_KEY),
        ("secret_access_key", SECRET_KEY),
        ("region", "eu-central-1"),
        ("endpoint_url", url.as_str()),
    ];
    fails(&tester, CredentialKind::S3, &bucket, Reason::NotFound).await;
    // A server that repeats what it was told, in notices and in an error.
    let port = accept(async |mut stream| {
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.write_all(b"R\0\0\0\x08\0\0\0\x03").await;
        let mut told = [0; 64];
        let read = stream.read(&mut told).await.unwrap();
        let password = String::from_utf8_lossy(&told[5..read - 1]).into_owned();
        assert_eq!(password, PASSWORD);
        let remark = |tag: u8| {
            let body = format!("SFATAL\0VFATAL\0C28P01\0M{password}\0\0");
            let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
            [&[tag][..], &length, body.as_bytes()].concat()
        };
        let signed_in = b"R\0\0\0\x08\0\0\0\0";
        let _ = stream.write_all(&[&signed_in[..], &remark(b'N'), b"Z\0\0\0\x05I"].concat()).await;
        assert_eq!(stream.read(&mut told).await.unwrap(), "Q....SELECT 1.".len());
        let _ = stream.write_all(&[remark(b'N'), remark(b'E')].concat()).await;
        let _ = stream.shutdown().await;
        while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
    })
    .await
    .to_string();
    let database = vec![
        ("host", "127.0.0.1"),
        ("port", port.as_str()),
        ("database", "analytics"),
        ("username", "reader"),
        ("password", PASSWORD),
        ("ssl_mode", "disable"),
    ];
    fails(&tester, POSTGRESQL, &database, Reason::AuthenticationFailed).await;

    let log = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    assert_eq!(log.matches("a credential was tested").count(), 4, "{log}");
    let basic = STANDARD.encode(format!("admin:{PASSWORD}"));
    for secret in [PLANTED, &basic] {
        assert!(!log.contains(secret), "{log}");
    }
}
