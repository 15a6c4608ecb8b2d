//! Where connections come from and how many there are. Knows who is at the other end, and whether they still send and
//! read; refuses to know what is said.

use std::{mem::replace, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, extract::ConnectInfo, http::Request, serve::Listener};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_io_timeout::TimeoutWriter;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service as _;

/// Longest time in which a client may take nothing of what it was sent; then it is cut off. An answer that nobody reads
/// would hold its memory for ever.
const SLOW_READER: Duration = Duration::from_secs(10);

/// Longest head of a request, in bytes: what a client may make the server keep before it is known who they are. A query
/// in an address may have 64 KiB.
const HEAD_BYTES: usize = 96 * 1024;

/// The address at the other end.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Bounds of HTTP connections.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// Most at the same time, WebSockets apart, event streams among them. Whoever comes then waits in the system's queue
    /// until one of them ends.
    pub total: usize,
    /// How long a client may take to send the head of a request, from when the connection is free for it: what is open
    /// and silent is closed after that too. A body has a time of its own.
    pub head: Duration,
}

/// Answers every connection until `stop`; then takes no more, closes those that are idle and returns when the others
/// have got their answers.
pub async fn serve(
    mut listener: TcpListener,
    router: Router,
    limits: &ConnectionLimits,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(limits.total));
    let connections = TaskTracker::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head).max_header_size(HEAD_BYTES);
    let mut full = false;
    loop {
        let next = async {
            let free = Arc::clone(&places).try_acquire_owned();
            // Told once, not with each that waits.
            if !replace(&mut full, free.is_err()) && free.is_err() {
                tracing::warn!(
                    places = limits.total,
                    "all places for connections are taken: nobody else is let in"
                );
            }
            let place = match free {
                Ok(place) => Ok(place),
                Err(_) => Arc::clone(&places).acquire_owned().await,
            };
            // Where the system has no more files, this waits and tries again.
            (place, Listener::accept(&mut listener).await)
        };
        let Some((Ok(place), (stream, peer))) = stop.run_until_cancelled(next).await else { break };
        connections.spawn(answer(http.clone(), stream, peer, router.clone(), place, stop.clone()));
    }
    // Whoever comes now is turned away at once, and goes on to another process.
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Answers the requests of one connection. One that becomes a WebSocket leaves here, and its place is free.
async fn answer(
    http: http1::Builder,
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    _place: OwnedSemaphorePermit,
    stop: CancellationToken,
) {
    // Answers are written at once and whole: waiting to fill a segment only delays them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(SLOW_READER));
    let requests = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(Peer(peer)));
        // A router is always ready.
        router.clone().call(request)
    });
    let connection = http.serve_connection(TokioIo::new(Box::pin(stream)), requests).with_upgrades();
    let mut connection = pin!(connection);
    let ended = match stop.run_until_cancelled(connection.as_mut()).await {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection");
    }
}
