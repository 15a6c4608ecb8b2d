//! A mail server for tests: real SMTP on a loopback port, with faults on demand.
//!
//! The protocol is spoken by the `mailin` crate, so that it is not our own idea of SMTP that our client is tested
//! against. What arrives is kept with its envelope and its raw bytes. Refuses to know what the mails are about.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use mail_parser::MessageParser;
use mailin::{Action, AuthMechanism, Handler, Response, Session, SessionBuilder, response};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Notify,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivatePkcs8KeyDer},
};

/// How connections to the server are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    None,
    StartTls,
    Tls,
}

/// What goes wrong, until told otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Nobody listens: connections are refused, open ones are cut.
    Refuse,
    /// Connections are taken and never spoken to.
    Silence,
    /// `RCPT TO` is answered with this code and text, such as 451 or 550.
    Recipient(u16, String),
    /// The message is taken and kept, and the connection ends before the client learns of it.
    DropAfterData,
    /// The message is taken and kept, and the client never gets an answer.
    SilenceAfterData,
}

/// A mail as it arrived.
#[derive(Clone, Debug)]
pub struct Captured {
    pub from: String,
    pub to: Vec<String>,
    pub raw: Vec<u8>,
    /// Whether it came over TLS.
    pub encrypted: bool,
    /// Who signed in before sending it.
    pub user: Option<String>,
}

impl Captured {
    pub fn subject(&self) -> String {
        self.parsed(|message| message.subject().map(ToOwned::to_owned))
    }

    pub fn message_id(&self) -> String {
        self.parsed(|message| message.message_id().map(ToOwned::to_owned))
    }

    pub fn text(&self) -> String {
        self.parsed(|message| message.body_text(0).map(|text| text.into_owned()))
    }

    pub fn html(&self) -> String {
        self.parsed(|message| message.body_html(0).map(|html| html.into_owned()))
    }

    /// The first web address in the plain text.
    pub fn link(&self) -> String {
        let text = self.text();
        let link =
            text.split_whitespace().find(|word| word.starts_with("http://") || word.starts_with("https://"));
        link.unwrap_or_else(|| panic!("no link in:\n{text}")).to_owned()
    }

    fn parsed(&self, part: impl Fn(&mail_parser::Message<'_>) -> Option<String>) -> String {
        let message = MessageParser::default().parse(&self.raw).expect("a mail that can be parsed");
        part(&message).unwrap_or_else(|| panic!("missing in:\n{}", String::from_utf8_lossy(&self.raw)))
    }
}

struct Shared {
    encryption: Encryption,
    credentials: Option<(String, String)>,
    acceptor: TlsAcceptor,
    fault: Mutex<Fault>,
    captured: Mutex<Vec<Captured>>,
    /// How many mails of each recipient [`MailServer::next_for`] has handed out.
    read: Mutex<HashMap<String, usize>>,
    arrived: Notify,
    connections: AtomicUsize,
}

/// A running server; ends when dropped.
pub struct MailServer {
    address: SocketAddr,
    ca_pem: String,
    shared: Arc<Shared>,
    listening: Mutex<JoinHandle<()>>,
    /// While connections are refused: its port, so that nobody else gets it meanwhile.
    held: Mutex<Option<TcpSocket>>,
}

impl MailServer {
    /// The name its certificate is for.
    pub const HOST: &'static str = "localhost";

    /// Without encryption and sign-in.
    pub async fn start() -> Self {
        Self::start_with(Encryption::None, None).await
    }

    /// With credentials, nothing is taken before the client signed in.
    pub async fn start_with(encryption: Encryption, credentials: Option<(&str, &str)>) -> Self {
        let (acceptor, ca_pem) = certificate();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            encryption,
            credentials: credentials.map(|(user, password)| (user.to_owned(), password.to_owned())),
            acceptor,
            fault: Mutex::new(Fault::None),
            captured: Mutex::default(),
            read: Mutex::default(),
            arrived: Notify::new(),
            connections: AtomicUsize::new(0),
        });
        let listening = Mutex::new(tokio::spawn(listen(listener, Arc::clone(&shared))));
        Self { address, ca_pem, shared, listening, held: Mutex::default() }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The certificate of the authority that signed the server's, in PEM format.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// How many connections were taken so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Sets what goes wrong from now on.
    pub async fn fault(&self, fault: Fault) {
        let refused = std::mem::replace(&mut *lock(&self.shared.fault), fault.clone()) == Fault::Refuse;
        if fault == Fault::Refuse {
            lock(&self.listening).abort();
            // The port is free only once the task is gone.
            while !lock(&self.listening).is_finished() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // Bound and not listening: whoever connects is refused.
            let held = TcpSocket::new_v4().expect("a socket");
            held.set_reuseaddr(true).expect("a port can be bound again");
            held.bind(self.address).expect("the same port again");
            *lock(&self.held) = Some(held);
        } else if refused {
            let held = lock(&self.held).take().expect("the port of a server that refuses");
            let listener = held.listen(1024).expect("the same port again");
            *lock(&self.listening) = tokio::spawn(listen(listener, Arc::clone(&self.shared)));
        }
    }

    /// Everything that arrived, oldest first.
    pub fn messages(&self) -> Vec<Captured> {
        lock(&self.shared.captured).clone()
    }

    /// The latest mail to `recipient`; waits up to ten seconds for the first one.
    pub async fn wait_for(&self, recipient: &str) -> Captured {
        self.wait(recipient, |mut mails| mails.pop()).await
    }

    /// The oldest mail to `recipient` that no earlier call has answered; waits up to ten seconds for it.
    pub async fn next_for(&self, recipient: &str) -> Captured {
        let next = |mails: Vec<Captured>| {
            let mut read = lock(&self.shared.read);
            let read = read.entry(recipient.to_owned()).or_default();
            let mail = mails.into_iter().nth(*read)?;
            *read += 1;
            Some(mail)
        };
        self.wait(recipient, next).await
    }

    /// Waits until `choose` finds one among the mails to `recipient`, oldest first.
    async fn wait(&self, recipient: &str, choose: impl Fn(Vec<Captured>) -> Option<Captured>) -> Captured {
        let search = async {
            loop {
                let arrived = self.shared.arrived.notified();
                tokio::pin!(arrived);
                arrived.as_mut().enable();
                let mut mails = self.messages();
                mails.retain(|mail| mail.to.iter().any(|to| to == recipient));
                if let Some(mail) = choose(mails) {
                    return mail;
                }
                arrived.await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(10), search).await {
            Ok(mail) => mail,
            Err(_) => panic!(
                "no mail to {recipient}; there are mails to {:?}",
                self.messages().into_iter().map(|mail| mail.to).collect::<Vec<_>>()
            ),
        }
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        lock(&self.listening).abort();
    }
}

/// The connections belong to this task: when it is aborted, they are cut.
async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(&shared);
        // A client that hangs up is no concern of the server.
        connections.spawn(async move { serve(stream, shared).await.unwrap_or_default() });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    if *lock(&shared.fault) == Fault::Silence {
        std::future::pending::<()>().await;
    }
    let mut builder = SessionBuilder::new(MailServer::HOST);
    if shared.encryption == Encryption::StartTls {
        builder.enable_start_tls();
    }
    if shared.credentials.is_some() {
        builder.enable_auth(AuthMechanism::Plain);
        // With TLS from the first byte there is no upgrade after which the session would offer it by itself.
        if shared.encryption != Encryption::StartTls {
            builder.insecure_enable_plaintext_auth();
        }
    }
    let encrypted = Arc::new(AtomicBool::new(shared.encryption == Encryption::Tls));
    let after_data = Arc::new(Mutex::new(Fault::None));
    let envelope = Envelope {
        shared: Arc::clone(&shared),
        encrypted: Arc::clone(&encrypted),
        after_data: Arc::clone(&after_data),
        user: None,
        from: String::new(),
        to: Vec::new(),
        raw: Vec::new(),
    };
    let mut session = builder.build(IpAddr::V4(Ipv4Addr::LOCALHOST), envelope);
    if shared.encryption == Encryption::Tls {
        let mut stream = BufReader::new(shared.acceptor.accept(stream).await?);
        stream.write_all(&session.greeting().buffer()?).await?;
        return converse(&mut stream, &mut session, &after_data).await.map(|_| ());
    }
    let mut stream = BufReader::new(stream);
    stream.write_all(&session.greeting().buffer()?).await?;
    if converse(&mut stream, &mut session, &after_data).await? == Action::UpgradeTls {
        let mut stream = BufReader::new(shared.acceptor.accept(stream.into_inner()).await?);
        encrypted.store(true, Ordering::SeqCst);
        session.tls_active();
        converse(&mut stream, &mut session, &after_data).await?;
    }
    Ok(())
}

/// Speaks until the conversation ends or goes on over TLS.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufReader<S>,
    session: &mut Session<Envelope>,
    after_data: &Mutex<Fault>,
) -> io::Result<Action> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if stream.read_until(b'\n', &mut line).await? == 0 {
            return Ok(Action::Close);
        }
        let response = session.process(&line);
        match &*lock(after_data) {
            Fault::DropAfterData => return Ok(Action::Close),
            Fault::SilenceAfterData => break,
            _ => {}
        }
        if response.action != Action::NoReply {
            stream.write_all(&response.buffer()?).await?;
            stream.flush().await?;
        }
        if matches!(response.action, Action::Close | Action::UpgradeTls) {
            return Ok(response.action);
        }
    }
    std::future::pending().await
}

/// The mail a connection is about to deliver.
struct Envelope {
    shared: Arc<Shared>,
    encrypted: Arc<AtomicBool>,
    /// What the connection does instead of acknowledging the message.
    after_data: Arc<Mutex<Fault>>,
    user: Option<String>,
    from: String,
    to: Vec<String>,
    raw: Vec<u8>,
}

impl Handler for Envelope {
    fn mail(&mut self, _ip: IpAddr, _domain: &str, from: &str) -> Response {
        if self.shared.credentials.is_some() && self.user.is_none() {
            return response::AUTHENTICATION_REQUIRED;
        }
        from.clone_into(&mut self.from);
        self.to.clear();
        self.raw.clear();
        response::OK
    }

    fn rcpt(&mut self, to: &str) -> Response {
        if let Fault::Recipient(code, text) = &*lock(&self.shared.fault) {
            return Response::custom(*code, text.clone());
        }
        self.to.push(to.to_owned());
        response::OK
    }

    fn data(&mut self, buf: &[u8]) -> io::Result<()> {
        self.raw.extend_from_slice(buf);
        Ok(())
    }

    fn data_end(&mut self) -> Response {
        lock(&self.shared.captured).push(Captured {
            from: std::mem::take(&mut self.from),
            to: std::mem::take(&mut self.to),
            raw: std::mem::take(&mut self.raw),
            encrypted: self.encrypted.load(Ordering::SeqCst),
            user: self.user.clone(),
        });
        self.shared.arrived.notify_waiters();
        *lock(&self.after_data) = lock(&self.shared.fault).clone();
        response::OK
    }

    fn auth_plain(&mut self, _authorization_id: &str, user: &str, password: &str) -> Response {
        let expected = self.shared.credentials.as_ref();
        if expected.is_some_and(|(u, p)| u == user && p == password) {
            self.user = Some(user.to_owned());
            return response::AUTH_OK;
        }
        response::INVALID_CREDENTIALS
    }
}

/// A fresh authority, and a server certificate for `localhost` signed by it.
fn certificate() -> (TlsAcceptor, String) {
    let ca_key = KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).expect("an authority").pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new([MailServer::HOST.to_owned()])
        .and_then(|params| params.signed_by(&key, &issuer))
        .expect("a certificate");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .expect("a certificate that fits its key");
    (TlsAcceptor::from(Arc::new(config)), ca_pem)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
