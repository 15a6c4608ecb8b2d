//! One HTTP request to where a user says, and its answer. Follows no redirect, asks no proxy, keeps no connection and
//! reads a bounded answer: hyper's connection on a stream of [`Outbound`], since a client with a pool and a resolver of
//! its own would have to be kept from all that.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    HeaderMap, Method, Request, StatusCode,
    client::conn::http1,
    header::{self, HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;
use url::{Position, Url};

use super::{Fault, Outbound, Trust, host};

/// The most bytes of an answer's head, and of its body.
const MAX_ANSWER: usize = 64 * 1024;

/// How long the beginning of a body is waited for.
const BODY_PATIENCE: Duration = Duration::from_secs(2);

/// How much of an answer's body is read.
#[derive(Clone, Copy)]
enum Reading {
    Whole,
    Beginning(usize),
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebFault {
    /// There is no connection.
    #[error(transparent)]
    Connection(#[from] Fault),
    /// What came is not HTTP, or it broke off.
    #[error("the answer is not HTTP or broke off")]
    Broken,
    /// The answer is longer than what is read.
    #[error("the answer is too long")]
    TooLong,
    /// The request cannot be made of what was given.
    #[error("the request cannot be made")]
    Unspeakable,
}

/// A request; its body may be empty.
pub struct Ask<'a> {
    /// How.
    pub method: Method,
    /// Where: `http` or `https`. A user name and password in it are left out.
    pub url: &'a Url,
    /// Headers beside `Host`, `User-Agent` and `Content-Length`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What to send.
    pub body: Bytes,
}

/// What was answered.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body, or its beginning.
    pub body: Bytes,
}

impl Outbound {
    /// Asks, and reads the whole answer. Whoever calls bounds the time.
    pub async fn ask(&self, ask: Ask<'_>) -> Result<Answer, WebFault> {
        self.reading(ask, Reading::Whole).await
    }

    /// Asks, and reads of the answer's body no more than that many bytes and not for long: for when the status is what
    /// counts.
    pub async fn ask_briefly(&self, ask: Ask<'_>, most: usize) -> Result<Answer, WebFault> {
        self.reading(ask, Reading::Beginning(most)).await
    }

    async fn reading(&self, ask: Ask<'_>, reading: Reading) -> Result<Answer, WebFault> {
        let place = ask.url.host_str().and_then(host).ok_or(WebFault::Unspeakable)?;
        let port = ask.url.port_or_known_default().ok_or(WebFault::Unspeakable)?;
        let is_secure = match ask.url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(WebFault::Unspeakable),
        };
        let stream = self.connect(&place, port).await?;
        match is_secure {
            true => converse(self.secure(stream, &place, Trust::Verified).await?, ask, reading).await,
            false => converse(stream, ask, reading).await,
        }
    }
}

async fn converse<S>(stream: S, ask: Ask<'_>, reading: Reading) -> Result<Answer, WebFault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut request = Request::builder()
        .method(ask.method)
        .uri(&ask.url[Position::BeforePath..Position::AfterQuery])
        .header(header::HOST, &ask.url[Position::BeforeHost..Position::AfterPort])
        .header(header::USER_AGENT, "guildhall")
        .body(Full::new(ask.body))
        .map_err(|_| WebFault::Unspeakable)?;
    request.headers_mut().extend(ask.headers);
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_ANSWER)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| WebFault::Broken)?;
    // It must not outlive the request, whichever way that ends.
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let answer = sender.send_request(request).await.map_err(|_| WebFault::Broken)?;
    let (head, mut incoming) = answer.into_parts();
    let mut body = BytesMut::new();
    match reading {
        Reading::Whole => {
            while let Some(frame) = incoming.frame().await {
                let Ok(data) = frame.map_err(|_| WebFault::Broken)?.into_data() else { continue };
                if body.len() + data.len() > MAX_ANSWER {
                    return Err(WebFault::TooLong);
                }
                body.extend_from_slice(&data);
            }
        }
        Reading::Beginning(most) => {
            let beginning = async {
                while body.len() < most
                    && let Some(Ok(frame)) = incoming.frame().await
                {
                    body.extend(frame.into_data());
                }
            };
            // Whatever comes of the rest, the status is there.
            _ = timeout(BODY_PATIENCE, beginning).await;
            body.truncate(most);
        }
    }
    Ok(Answer { status: head.status, headers: head.headers, body: body.freeze() })
}
