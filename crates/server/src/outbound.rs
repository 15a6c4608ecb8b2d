//! Connections to where a user says. A name is resolved once, every address that it has is checked, and the connection
//! goes to one of those: a name that resolves to something else a moment later changes nothing. TLS still verifies the
//! name. Whatever connects on a user's word goes through here; mail and the database, which the operator chooses, do not.

mod addresses;
pub mod web;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, ToSocketAddrs},
    path::Path,
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{net::TcpStream, sync::Semaphore, time::timeout};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{self, CryptoProvider, WebPkiSupportedAlgorithms},
        pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    },
};
use url::Host;

pub use addresses::{Destination, host};

/// How long one address may take to accept a connection, so that one that is dead leaves time for the next.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// The most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 4;

/// How many names are looked up at once. A name whose servers never answer keeps its place until the system gives up, which
/// may be half a minute after whoever asked has gone: enough for the 40 deliveries to webhooks of which nothing good is known
/// to keep three places each and leave some. Each way out has as many, and each takes one of the 512 threads that block.
const LOOK_UPS: usize = 128;

/// Why there is no connection. Says nothing about addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// An address of the host may not be connected to.
    #[error("the destination is not allowed")]
    Refused,
    /// The host's name has no address.
    #[error("the host's name is unknown")]
    UnknownHost,
    /// Nothing accepts connections there.
    #[error("the host cannot be reached")]
    Unreachable,
    /// Nothing answered in time.
    #[error("the host does not answer")]
    TimedOut,
    /// No secure connection was agreed on.
    #[error("no secure connection")]
    Tls,
}

/// Finds the addresses of names.
pub trait Resolve: Send + Sync {
    /// The addresses that a name has now.
    fn resolve(&self, name: String) -> BoxFuture<'_, io::Result<Vec<IpAddr>>>;
}

/// The machine's own resolver.
struct SystemResolver {
    /// A look-up blocks a thread and cannot be called off, so those whose asker has gone count too.
    places: Arc<Semaphore>,
}

impl Resolve for SystemResolver {
    fn resolve(&self, name: String) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let place = Arc::clone(&self.places).acquire_owned().await.map_err(io::Error::other)?;
            let look_up = tokio::task::spawn_blocking(move || {
                let found = (name.as_str(), 0).to_socket_addrs();
                drop(place);
                found.map(|found| found.map(|address| address.ip()).collect())
            });
            look_up.await.map_err(io::Error::other)?
        })
    }
}

/// What the other side's certificate is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It is for this host, by an authority that is trusted.
    Verified,
    /// Any will do: nobody listens, and anybody may answer.
    Anybody,
}

/// Why certificates of the operator cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesFault {
    /// The file cannot be read.
    #[error("{0} cannot be read: {1}")]
    Unreadable(String, io::Error),
    /// There is none in it that can be used.
    #[error("{0} holds no certificate in PEM format, or one that is broken")]
    Invalid(String),
    /// TLS cannot be set up: a defect of this build.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// The way out.
pub struct Outbound {
    allowed: Vec<Destination>,
    resolver: Arc<dyn Resolve>,
    verified: TlsConnector,
    anybody: TlsConnector,
}

impl Outbound {
    /// A way to the public internet and the destinations that are `allowed` besides. Trusts the public authorities and
    /// those of the PEM file.
    pub fn new(allowed: Vec<Destination>, ca_file: Option<&Path>) -> Result<Self, CertificatesFault> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() };
        if let Some(path) = ca_file {
            add_roots(&mut roots, path)?;
        }
        let provider = Arc::new(crypto::ring::default_provider());
        let config = || {
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()
        };
        let verified = config()?.with_root_certificates(roots).with_no_client_auth();
        let anybody = config()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate::new(&provider)))
            .with_no_client_auth();
        Ok(Self {
            allowed,
            resolver: Arc::new(SystemResolver { places: Arc::new(Semaphore::new(LOOK_UPS)) }),
            verified: TlsConnector::from(Arc::new(verified)),
            anybody: TlsConnector::from(Arc::new(anybody)),
        })
    }

    /// With another resolver.
    pub fn resolving_by(self, resolver: Arc<dyn Resolve>) -> Self {
        Self { resolver, ..self }
    }

    /// Whether the host, as it is written, leads where nothing goes. What a name stands for is looked up when it is
    /// connected to; only of `localhost` it is known.
    pub fn is_refused(&self, host: &Host) -> bool {
        literal(host).is_some_and(|(name, ip)| !addresses::is_allowed(&self.allowed, name, ip))
    }

    /// Whether the operator allowed that host beside the public internet.
    pub fn is_named(&self, host: &Host) -> bool {
        let (name, ip) = match (host, literal(host)) {
            (_, Some((name, ip))) => (name, Some(ip)),
            (Host::Domain(name), None) => (Some(name.as_str()), None),
            (_, None) => (None, None),
        };
        addresses::is_named(&self.allowed, name, ip)
    }

    /// Connects to a host that a user named. Whoever calls bounds the whole.
    pub async fn connect(&self, host: &Host, port: u16) -> Result<TcpStream, Fault> {
        let mut fault = Fault::UnknownHost;
        for address in self.checked_addresses(host).await?.into_iter().take(MAX_ADDRESSES) {
            match timeout(CONNECT_TIMEOUT, TcpStream::connect((address, port))).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(_)) => fault = Fault::Unreachable,
                Err(_) => fault = Fault::TimedOut,
            }
        }
        Err(fault)
    }

    /// The addresses of a host; all of them may be connected to.
    async fn checked_addresses(&self, host: &Host) -> Result<Vec<IpAddr>, Fault> {
        let (name, addresses) = match host {
            Host::Ipv4(ip) => (None, vec![IpAddr::from(*ip)]),
            Host::Ipv6(ip) => (None, vec![IpAddr::from(*ip)]),
            Host::Domain(name) => {
                let found = self.resolver.resolve(name.clone()).await.map_err(|_| Fault::UnknownHost)?;
                (Some(name.as_str()), found)
            }
        };
        // One address that is refused is enough: whoever mixes them wants to get at that one.
        match addresses.iter().all(|ip| addresses::is_allowed(&self.allowed, name, *ip)) {
            true => Ok(addresses.into_iter().map(|ip| ip.to_canonical()).collect()),
            false => Err(Fault::Refused),
        }
    }

    /// Secures a connection to that host.
    pub async fn secure(
        &self,
        stream: TcpStream,
        host: &Host,
        trust: Trust,
    ) -> Result<TlsStream<TcpStream>, Fault> {
        let name = match host {
            Host::Domain(name) => ServerName::try_from(name.clone()).map_err(|_| Fault::Tls)?,
            Host::Ipv4(ip) => IpAddr::from(*ip).into(),
            Host::Ipv6(ip) => IpAddr::from(*ip).into(),
        };
        let connector = match trust {
            Trust::Verified => &self.verified,
            Trust::Anybody => &self.anybody,
        };
        connector.connect(name, stream).await.map_err(|_| Fault::Tls)
    }
}

/// The address that a host is, and its name where it has one.
fn literal(host: &Host) -> Option<(Option<&str>, IpAddr)> {
    match host {
        Host::Ipv4(ip) => Some((None, IpAddr::from(*ip))),
        Host::Ipv6(ip) => Some((None, IpAddr::from(*ip))),
        Host::Domain(name) if name == "localhost" || name.ends_with(".localhost") => {
            Some((Some(name.as_str()), Ipv4Addr::LOCALHOST.into()))
        }
        Host::Domain(_) => None,
    }
}

fn add_roots(roots: &mut RootCertStore, path: &Path) -> Result<(), CertificatesFault> {
    let shown = || path.display().to_string();
    let pem = std::fs::read(path).map_err(|error| CertificatesFault::Unreadable(shown(), error))?;
    let mut found = 0;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let added = certificate.is_ok_and(|certificate| roots.add(certificate).is_ok());
        if !added {
            return Err(CertificatesFault::Invalid(shown()));
        }
        found += 1;
    }
    if found == 0 { Err(CertificatesFault::Invalid(shown())) } else { Ok(()) }
}

/// Takes every certificate; that the other side has its key is still checked.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl AnyCertificate {
    fn new(provider: &CryptoProvider) -> Self {
        Self(provider.signature_verification_algorithms)
    }
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Answers what it was told to, one answer after the other.
    struct Scripted(std::sync::Mutex<Vec<Vec<IpAddr>>>);

    impl Scripted {
        fn new(answers: &[&[&str]]) -> Arc<Self> {
            let answers = answers.iter().rev();
            Arc::new(Self(std::sync::Mutex::new(
                answers.map(|ips| ips.iter().map(|ip| ip.parse().unwrap()).collect()).collect(),
            )))
        }
    }

    impl Resolve for Scripted {
        fn resolve(&self, _name: String) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
            let answer = self.0.lock().unwrap().pop();
            Box::pin(async move { answer.ok_or_else(|| io::Error::other("asked once too often")) })
        }
    }

    fn outbound(allowed: &[&str], answers: &[&[&str]]) -> Outbound {
        let allowed = allowed.iter().map(|text| Destination::parse(text).unwrap()).collect();
        Outbound::new(allowed, None).unwrap().resolving_by(Scripted::new(answers))
    }

    fn public() -> Host {
        host("db.example.org").unwrap()
    }

    #[tokio::test]
    async fn a_public_name_that_leads_into_a_private_network_is_refused() {
        for answer in [
            &["127.0.0.1"][..],
            &["10.0.0.1"],
            &["::1"],
            &["::ffff:169.254.169.254"],
            &["8.8.8.8", "192.168.0.1"],
            &["192.168.0.1", "8.8.8.8"],
        ] {
            let refused = outbound(&[], &[answer]).connect(&public(), 80).await.unwrap_err();
            assert_eq!(refused, Fault::Refused, "{answer:?}");
        }
    }

    #[tokio::test]
    async fn a_name_is_resolved_once_and_the_connection_goes_to_the_address_that_was_checked() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // A second look-up would be answered with another address, and a third with a fault.
        let outbound = outbound(&["127.0.0.0/8"], &[&["127.0.0.1"], &["10.0.0.1"]]);
        let stream = outbound.connect(&public(), port).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap().ip(), IpAddr::from(Ipv4Addr::LOCALHOST));
        assert_eq!(outbound.connect(&public(), port).await.unwrap_err(), Fault::Refused);
    }

    #[tokio::test]
    async fn this_machine_is_refused_under_its_own_name() {
        let outbound = Outbound::new(vec![], None).unwrap();
        for text in ["localhost", "localhost.", "LOCALHOST", "127.0.0.1", "0x7f.1", "[::1]"] {
            assert_eq!(
                outbound.connect(&host(text).unwrap(), 9).await.unwrap_err(),
                Fault::Refused,
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn the_next_address_is_tried_and_an_unknown_name_is_told() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let outbound = outbound(&["127.0.0.0/8"], &[&["127.0.0.2", "127.0.0.1"], &[]]);
        outbound.connect(&public(), port).await.unwrap();
        assert_eq!(outbound.connect(&public(), port).await.unwrap_err(), Fault::UnknownHost);
        assert_eq!(outbound.connect(&public(), port).await.unwrap_err(), Fault::UnknownHost);
    }

    #[test]
    fn certificates_are_read_or_the_fault_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (content, expected) in [
            ("", "holds no certificate"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "holds no certificate"),
        ] {
            std::fs::write(file.path(), content).unwrap();
            let told = Outbound::new(vec![], Some(file.path())).err().unwrap().to_string();
            assert!(told.contains(expected), "{told}");
        }
        let told = Outbound::new(vec![], Some(Path::new("/nowhere"))).err().unwrap().to_string();
        assert!(told.starts_with("/nowhere cannot be read"), "{told}");
    }
}
