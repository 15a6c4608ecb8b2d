//! Mail through an SMTP server.
//!
//! Knows lettre, TLS and what the answers of a mail server mean for another attempt. The full error goes to the
//! operator's log; a workspace admin sees the reply of the server and nothing else of it.

use std::{
    error::Error as _,
    fs, io,
    net::IpAddr,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Tokio1Executor,
    transport::smtp::{
        self,
        authentication::Credentials,
        client::{Certificate, Tls, TlsParameters},
        extension::ClientId,
    },
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{Letterhead, Mailer, Outgoing, SendError};

type Transport = AsyncSmtpTransport<Tokio1Executor>;

/// A server may think about a message for a while after it took it, and to hang up then makes a duplicate. So one
/// attempt as a whole may take this many times the time a connection may take.
const PATIENCE: u32 = 4;

/// How the way to the server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// Starts in the clear and must upgrade before anything else is said (usual port 587).
    StartTls,
    /// TLS from the first byte (usual port 465).
    Tls,
    /// No protection; only for a server on this machine, unless forced.
    None,
}

/// Where the mail server is and how to speak with it.
#[derive(Clone, Debug)]
pub struct SmtpConfig {
    /// Name or IP address; the certificate must be for it.
    pub host: String,
    pub port: u16,
    pub tls: TlsMode,
    /// Allows [`TlsMode::None`] to a host that is not this machine.
    pub force_plaintext: bool,
    /// With `password`: signs in. Both or neither.
    pub user: Option<String>,
    pub password: Option<SecretString>,
    /// PEM file of certificates to trust besides the public ones.
    pub ca_file: Option<PathBuf>,
    /// Longest wait for a connection; a whole attempt may take four times as long.
    pub timeout: Duration,
}

impl SmtpConfig {
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
}

/// What is wrong with an [`SmtpConfig`].
#[derive(Debug, thiserror::Error)]
pub enum SmtpConfigError {
    #[error("the SMTP host is empty")]
    NoHost,
    #[error(
        "SMTP without TLS to `{0}` would send mail and password readable for others; use `starttls` or `tls`, \
         or force it if the network is trusted"
    )]
    Plaintext(String),
    #[error("the SMTP user and the SMTP password belong together: give both or neither")]
    HalfCredentials,
    #[error("the SMTP CA file `{path}` cannot be read: {error}")]
    CaUnreadable { path: PathBuf, error: io::Error },
    #[error("the SMTP CA file `{0}` holds no certificate in PEM format")]
    CaInvalid(PathBuf),
    #[error("the SMTP host `{0}` cannot be used for TLS")]
    Tls(String),
}

/// Sends through one mail server, over pooled connections.
pub struct SmtpMailer {
    letterhead: Letterhead,
    config: SmtpConfig,
    tls: Tls,
    transport: Mutex<Transport>,
}

impl SmtpMailer {
    /// Checks the configuration and reads the CA file; connects only when there is mail. Must be called, and
    /// dropped, within a Tokio runtime: the pool of connections lives there.
    pub fn new(config: SmtpConfig, letterhead: Letterhead) -> Result<Self, SmtpConfigError> {
        if config.host.trim().is_empty() {
            return Err(SmtpConfigError::NoHost);
        }
        if config.tls == TlsMode::None && !config.force_plaintext && !is_loopback(&config.host) {
            return Err(SmtpConfigError::Plaintext(config.host));
        }
        if config.user.is_some() != config.password.is_some() {
            return Err(SmtpConfigError::HalfCredentials);
        }
        let tls = match config.tls {
            TlsMode::StartTls => Tls::Required(tls_parameters(&config)?),
            TlsMode::Tls => Tls::Wrapper(tls_parameters(&config)?),
            TlsMode::None => Tls::None,
        };
        let transport = Mutex::new(connect_lazily(&config, &tls, &letterhead));
        Ok(Self { letterhead, config, tls, transport })
    }

    fn transport(&self) -> Transport {
        self.transport.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An attempt that was cut off leaves a connection in the middle of a conversation, which the pool would take
    /// for a good one. A new pool forgets it.
    fn forget_connections(&self) {
        *self.transport.lock().unwrap_or_else(PoisonError::into_inner) =
            connect_lazily(&self.config, &self.tls, &self.letterhead);
    }
}

#[async_trait]
impl Mailer for SmtpMailer {
    async fn send(&self, mail: &Outgoing) -> Result<(), SendError> {
        let message = self.letterhead.compose(mail)?;
        let international = message.envelope().to().iter().any(|to| !to.to_string().is_ascii());
        // lettre limits only the connecting; a server that falls silent later would hold the worker for ever.
        match tokio::time::timeout(self.config.timeout * PATIENCE, self.transport().send(message)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                tracing::warn!(mail = %mail.id, host = %self.config.host, %error, "mail not accepted");
                Err(verdict(&error, international))
            }
            Err(_) => {
                self.forget_connections();
                tracing::warn!(mail = %mail.id, host = %self.config.host, "mail server fell silent");
                Err(SendError::transient("The mail server did not answer in time."))
            }
        }
    }
}

fn connect_lazily(config: &SmtpConfig, tls: &Tls, letterhead: &Letterhead) -> Transport {
    let mut builder = Transport::builder_dangerous(&config.host)
        .port(config.port)
        .tls(tls.clone())
        .timeout(Some(config.timeout))
        .hello_name(ClientId::Domain(letterhead.host().to_owned()));
    if let (Some(user), Some(password)) = (&config.user, &config.password) {
        builder = builder.credentials(Credentials::new(user.clone(), password.expose_secret().to_owned()));
    }
    builder.build()
}

fn tls_parameters(config: &SmtpConfig) -> Result<TlsParameters, SmtpConfigError> {
    let mut builder = TlsParameters::builder(config.host.clone());
    if let Some(path) = &config.ca_file {
        let pem =
            fs::read(path).map_err(|error| SmtpConfigError::CaUnreadable { path: path.clone(), error })?;
        let holds_one = pem.windows(22).any(|window| window == b"-----BEGIN CERTIFICATE");
        let certificate = Certificate::from_pem(&pem).ok().filter(|_| holds_one);
        builder = builder
            .add_root_certificate(certificate.ok_or_else(|| SmtpConfigError::CaInvalid(path.clone()))?);
    }
    builder.build().map_err(|_| SmtpConfigError::Tls(config.host.clone()))
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// What an error means for another attempt. Only a refusal that concerns this message or its recipient is for ever:
/// a sign-in that is refused today works tomorrow, when the operator has corrected the password.
fn verdict(error: &smtp::Error, international: bool) -> SendError {
    if let Some(code) = error.status() {
        let code = u16::from(code);
        let reply = error.source().map(ToString::to_string).unwrap_or_default();
        let text = format!("The mail server answered: {code} {reply}");
        return match code {
            521 | 550..=556 => SendError::permanent(&text),
            _ => SendError::transient(&text),
        };
    }
    if error.is_client() && international {
        return SendError::permanent(
            "The mail server cannot deliver to an address with letters beyond ASCII.",
        );
    }
    if error.is_tls() {
        return SendError::transient(
            "No secure connection to the mail server: its certificate was not accepted.",
        );
    }
    SendError::transient(match io_kind(error) {
        Some(io::ErrorKind::ConnectionRefused) => "The mail server refused the connection.",
        Some(io::ErrorKind::TimedOut) => "The mail server did not answer in time.",
        Some(
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof,
        ) => "The mail server closed the connection too early.",
        Some(io::ErrorKind::InvalidData) => "No secure connection to the mail server could be made.",
        // An end of the connection in the middle of an answer, or an answer that is not SMTP.
        _ if error.is_response() => "The mail server broke off, or did not speak SMTP.",
        _ if error.is_client() => "The mail server does not offer what is needed to send (TLS or sign-in).",
        _ => "The connection to the mail server failed.",
    })
}

fn io_kind(error: &smtp::Error) -> Option<io::ErrorKind> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        source = error.source();
    }
    None
}
