//! PostgreSQL. TLS is agreed on here, since the connection is one that was checked; then tokio-postgres signs in on it.
//! (sqlx takes a host and resolves it itself.)

use std::{future, pin::pin};

use futures_util::future::{Either, select};
use guildhall_graphql::credential_tests::{CredentialTestFailure as Reason, Failure};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_postgres::{Config, Error, NoTls, config::SslMode, error::SqlState};

use super::{Fields, NOT_AS_EXPECTED, Verdict, invalid, told};
use crate::outbound::{Outbound, Trust};

/// The port of PostgreSQL.
const PORT: u16 = 5432;

/// `SSLRequest`: its length, then its number.
const ASK_FOR_TLS: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// The most bytes that a server may say. A sign-in takes some hundred.
const MAX_ANSWER: u64 = 64 * 1024;

const NO_TLS: Failure = Failure::new(
    Reason::Tls,
    "The server offers no TLS, which `ssl_mode` demands. Turn TLS on at the server, or choose another `ssl_mode`.",
);

const BROKE_OFF: Failure = Failure::new(
    Reason::UnexpectedAnswer,
    "What answered does not sign in as PostgreSQL does, or broke off. Check host and port.",
);

pub(super) async fn sign_in(outbound: &Outbound, fields: &Fields) -> Verdict {
    let host = fields.host("host")?;
    let port = match fields.get("port").map(str::parse) {
        None => PORT,
        Some(Ok(port @ 1..)) => port,
        Some(_) => return Err(invalid("`port` is no port: give a number from 1 to 65535.")),
    };
    let mut config = Config::new();
    config
        .user(fields.required("username")?)
        .password(fields.required("password")?)
        .dbname(fields.required("database")?)
        .application_name("guildhall")
        // Agreed on already.
        .ssl_mode(SslMode::Disable);
    // As libpq reads these words: only `verify-full` looks at the certificate.
    let (is_needed, trust) = match fields.get("ssl_mode").unwrap_or("prefer") {
        "disable" => (None, Trust::Anybody),
        "prefer" => (Some(false), Trust::Anybody),
        "require" => (Some(true), Trust::Anybody),
        "verify-full" => (Some(true), Trust::Verified),
        _ => return Err(invalid("`ssl_mode` is none of disable, prefer, require and verify-full.")),
    };
    let mut stream = outbound.connect(&host, port).await.map_err(told)?;
    let Some(is_needed) = is_needed else { return converse(config, stream).await };
    stream.write_all(&ASK_FOR_TLS).await.map_err(|_| BROKE_OFF)?;
    // One byte and no more: what follows it unasked must not be taken for something said in confidence.
    match stream.read_u8().await.map_err(|_| BROKE_OFF)? {
        b'S' => converse(config, outbound.secure(stream, &host, trust).await.map_err(told)?).await,
        b'N' if is_needed => Err(NO_TLS),
        b'N' => converse(config, stream).await,
        _ => Err(NOT_AS_EXPECTED),
    }
}

async fn converse(config: Config, stream: impl AsyncRead + AsyncWrite + Unpin) -> Verdict {
    let (reader, writer) = tokio::io::split(stream);
    let stream = tokio::io::join(reader.take(MAX_ANSWER), writer);
    let (client, mut connection) = config.connect_raw(stream, NoTls).await.map_err(meaning)?;
    // Driven here instead of spawned, because the connection by itself would log what the server remarks.
    let driven = pin!(async move {
        loop {
            match future::poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return meaning(error),
                None => return BROKE_OFF,
            }
        }
    });
    match select(pin!(client.simple_query("SELECT 1")), driven).await {
        Either::Left((answered, _)) => answered.map_err(meaning)?,
        // The answer may have come with the end.
        Either::Right((failure, query)) => query.await.map_err(|error| match error.code() {
            Some(_) => meaning(error),
            None => failure,
        })?,
    };
    Ok("Signed in to the database.")
}

fn meaning(error: Error) -> Failure {
    let Some(code) = error.code() else { return BROKE_OFF };
    // https://www.postgresql.org/docs/current/errcodes-appendix.html
    match *code {
        SqlState::INVALID_PASSWORD => Failure::new(
            Reason::AuthenticationFailed,
            "The server does not accept this user with this password.",
        ),
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION => Failure::new(
            Reason::AuthenticationFailed,
            "The server does not let this user in: there is no such role, it may not sign in, or not from here, \
             to this database or with this `ssl_mode`.",
        ),
        SqlState::INVALID_CATALOG_NAME => {
            Failure::new(Reason::NotFound, "The server has no database of that name.")
        }
        SqlState::INSUFFICIENT_PRIVILEGE => {
            Failure::new(Reason::PermissionDenied, "The user may not connect to this database.")
        }
        SqlState::TOO_MANY_CONNECTIONS => Failure::new(
            Reason::UnexpectedAnswer,
            "The server, the database or the user has no connections left. Try again later.",
        ),
        SqlState::CANNOT_CONNECT_NOW => {
            Failure::new(Reason::UnexpectedAnswer, "The server is starting or stopping. Try again later.")
        }
        _ => Failure::new(Reason::UnexpectedAnswer, "The server refused the connection. Its log says why."),
    }
}
