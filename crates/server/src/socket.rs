//! The `graphql-transport-ws` protocol, one task per socket. Knows messages, close codes and deadlines; refuses to
//! know how an operation is parsed and run.
//!
//! Nothing is queued here: while a client does not take a message its operations are not polled, and after
//! `SocketLimits::slow_reader` it is closed. What may pile up meanwhile is bounded by the source of the events.

mod admission;
mod message;
mod operations;

use std::{pin::pin, sync::Arc, time::Duration};

use async_graphql::ServerError;
use axum::{
    Json,
    body::Bytes,
    extract::{
        FromRequestParts, Request, State,
        ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade},
    },
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use tokio::time::{Instant, sleep_until, timeout};
use uuid::Uuid;

pub use self::admission::Sockets;
use self::{
    admission::{Place, origin_allowed},
    message::{ClientMessage, Outgoing},
    operations::Operations,
};
use crate::{
    client::ClientInfo,
    errors::{Code, coded},
    gateway::{Body, Caller, Gateway, Payload, bearer},
    identify::{Identity, Refused},
    limits::SocketLimits,
    request_id::RequestId,
    wire::{Envelope, Object},
};

const PROTOCOL: &str = "graphql-transport-ws";
/// How long a closed client may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(1);
/// What a close frame holds besides its code, in bytes.
const LONGEST_REASON: usize = 123;
/// Far enough to mean never.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Why the server closes a socket. graphql-ws clients give up on 1002, 1009, 1011, 4400, 4401, 4406, 4409 and 4429,
/// and come back after 1001, 1013, 4403 and 4408.
#[derive(Debug)]
struct Close {
    code: u16,
    reason: String,
}

impl Close {
    fn new(code: u16, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        reason.truncate(reason.floor_char_boundary(LONGEST_REASON));
        Self { code, reason }
    }

    fn try_again(reason: &str) -> Self {
        Self::new(1013, reason)
    }

    fn refused(refused: Refused) -> Self {
        match refused {
            Refused::Invalid => Self::new(4403, "Forbidden: the token is not valid"),
            Refused::Expired => Self::new(4403, "Forbidden: token expired"),
        }
    }
}

/// How a conversation ends.
enum End {
    /// The server closes.
    Close(Close),
    /// The client closed or is gone.
    Gone,
}

impl From<Close> for End {
    fn from(close: Close) -> Self {
        Self::Close(close)
    }
}

/// `GET /graphql/ws`. An origin that is not allowed is refused before the upgrade; all else is told by close codes,
/// which browsers let their scripts read.
pub async fn upgrade(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    if !origin_allowed(&parts.headers, &gateway.origins, gateway.trust_proxy) {
        let message = "Pages of this origin may not open a WebSocket here.";
        return refuse(&gateway, &parts, StatusCode::FORBIDDEN, coded(Code::Forbidden, message, None));
    }
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade,
        Err(rejection) => {
            let error = coded(Code::BadUserInput, "Only WebSocket connections are answered here.", None);
            return refuse(&gateway, &parts, rejection.status(), error);
        }
    };
    let client = ClientInfo::read(&parts, gateway.trust_proxy);
    let most = gateway.limits.socket.message_bytes;
    let upgrade = upgrade.protocols([PROTOCOL]).read_buffer_size(1024).write_buffer_size(0);
    upgrade
        .max_message_size(most)
        .max_frame_size(most)
        .on_upgrade(move |socket| serve(socket, gateway, client))
}

fn refuse(gateway: &Gateway, parts: &Parts, status: StatusCode, error: ServerError) -> Response {
    let request_id = parts.extensions.get().cloned().unwrap_or_else(RequestId::fresh);
    (status, Json(Body::refused(&gateway.refusal(vec![error], &request_id)))).into_response()
}

async fn serve(mut socket: WebSocket, gateway: Arc<Gateway>, client: ClientInfo) {
    let spoken = socket.protocol().is_some_and(|protocol| protocol == PROTOCOL);
    // Held until the farewell is over, so that a shutdown which waits for it cuts no close frame off.
    let mut place = gateway.sockets.enter();
    let end = if !spoken {
        End::Close(Close::new(4406, "Subprotocol not acceptable: only graphql-transport-ws is spoken"))
    } else if let Some(place) = &mut place {
        Conversation::new(&mut socket, &gateway, client, place).run().await
    } else {
        End::Close(Close::try_again("The server has no room for another socket"))
    };
    let farewell = async {
        if let End::Close(Close { code, reason }) = end {
            let frame = CloseFrame { code, reason: Utf8Bytes::from(reason) };
            socket.send(Message::Close(Some(frame))).await.ok();
        }
        // Reading on answers the client's own close frame; and without it, what the client still sends would reset
        // the connection before the client reads the code.
        while let Some(Ok(_)) = socket.recv().await {}
    };
    timeout(FAREWELL, farewell).await.ok();
}

struct Conversation<'a> {
    socket: &'a mut WebSocket,
    gateway: &'a Arc<Gateway>,
    limits: &'a SocketLimits,
    client: ClientInfo,
    /// Set once `connection_init` was accepted.
    identity: Option<Identity>,
    operations: Operations,
    place: &'a mut Place,
    /// When `connection_init` must have come, and later when the credential expires.
    deadline: Instant,
    next_ping: Instant,
    /// Whether anything came in since the last ping.
    heard: bool,
}

impl<'a> Conversation<'a> {
    fn new(
        socket: &'a mut WebSocket,
        gateway: &'a Arc<Gateway>,
        client: ClientInfo,
        place: &'a mut Place,
    ) -> Self {
        let limits = &gateway.limits.socket;
        let now = Instant::now();
        Self {
            socket,
            gateway,
            limits,
            client,
            identity: None,
            operations: Operations::default(),
            place,
            deadline: now + limits.init_deadline,
            next_ping: now + limits.ping_every,
            heard: true,
        }
    }

    async fn run(mut self) -> End {
        let shutdown = self.gateway.shutdown.clone();
        let mut stopping = pin!(shutdown.cancelled());
        let mut alarm = pin!(sleep_until(self.deadline.min(self.next_ping)));
        loop {
            let next = self.deadline.min(self.next_ping);
            if alarm.deadline() != next {
                alarm.as_mut().reset(next);
            }
            let done = tokio::select! {
                () = &mut stopping => Err(Close::new(1001, "The server is shutting down").into()),
                received = self.socket.recv() => self.received(received).await,
                Some((id, payload)) = self.operations.next(), if self.operations.any() => self.stepped(id, payload).await,
                () = &mut alarm => self.alarm().await,
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    async fn alarm(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if now >= self.deadline {
            return Err(match self.identity {
                None => Close::new(4408, "Connection initialisation timeout").into(),
                Some(_) => Close::refused(Refused::Expired).into(),
            });
        }
        if now >= self.next_ping {
            if !self.heard {
                return Err(Close::new(1001, "No answer to a ping").into());
            }
            self.heard = false;
            self.next_ping = now + self.limits.ping_every;
            self.send(Message::Ping(Bytes::new())).await?;
        }
        Ok(())
    }

    async fn received(&mut self, received: Option<Result<Message, axum::Error>>) -> Result<(), End> {
        self.heard = true;
        let text = match received {
            None | Some(Ok(Message::Close(_))) => return Err(End::Gone),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return Ok(()),
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Binary(_))) => {
                return Err(Close::new(4400, "Only text messages are understood").into());
            }
            // axum does not say which error it was except in words.
            Some(Err(error)) if error.to_string().contains("too long") => {
                let reason = format!("A message may have {} bytes", self.limits.message_bytes);
                return Err(Close::new(1009, reason).into());
            }
            Some(Err(_)) => return Err(Close::new(1002, "Protocol error").into()),
        };
        match ClientMessage::read(&text).map_err(|why| Close::new(4400, why))? {
            ClientMessage::ConnectionInit(payload) => Box::pin(self.init(payload)).await,
            ClientMessage::Ping(payload) => self.say(Outgoing::Pong { payload: payload.as_ref() }).await,
            ClientMessage::Pong => Ok(()),
            ClientMessage::Subscribe { id, envelope } => self.subscribe(id, *envelope).await,
            ClientMessage::Complete { id } => {
                self.operations.stop(&id);
                Ok(())
            }
        }
    }

    async fn init(&mut self, payload: Option<Object>) -> Result<(), End> {
        if self.identity.is_some() {
            return Err(Close::new(4429, "Too many initialisation requests").into());
        }
        let token = payload.as_ref().map(message::authorization).unwrap_or(Ok(None));
        let identity = match token.and_then(bearer) {
            Ok(token) => self.gateway.identify.identify(token),
            Err(refused) => Err(refused),
        };
        let identity = identity.map_err(Close::refused)?;
        if let Some(actor) = identity.actor_key() {
            self.claim(actor)?;
        }
        self.deadline = Instant::now() + identity.left().unwrap_or(NEVER).min(NEVER);
        self.identity = Some(identity);
        self.say(Outgoing::ConnectionAck).await
    }

    fn claim(&mut self, actor: Uuid) -> Result<(), Close> {
        if self.place.claim(actor, self.limits.per_actor) {
            return Ok(());
        }
        Err(Close::try_again(&format!("An account may have {} sockets open", self.limits.per_actor)))
    }

    async fn subscribe(&mut self, id: String, envelope: Envelope) -> Result<(), End> {
        let Some(identity) = self.identity else {
            return Err(Close::new(4401, "Unauthorized: subscribe before connection_ack").into());
        };
        if self.operations.runs(&id) {
            return Err(Close::new(4409, format!("Subscriber for {id:.64} already exists")).into());
        }
        let request_id = RequestId::fresh();
        let running = self.operations.count();
        let prepared = if running >= self.limits.operations {
            let message =
                format!("A socket may run {} operations at once, {running} run.", self.limits.operations);
            Err(self.gateway.refusal(vec![coded(Code::RateLimited, message, None)], &request_id))
        } else {
            let caller = Caller { identity, client: self.client.clone(), key: None };
            self.gateway.prepare(envelope, caller, &request_id)
        };
        match prepared {
            Ok(call) => {
                self.operations.start(id, self.gateway.stream(call));
                Ok(())
            }
            Err(errors) => self.say(Outgoing::Error { id: &id, payload: &errors }).await,
        }
    }

    async fn stepped(&mut self, id: Arc<str>, payload: Option<Payload>) -> Result<(), End> {
        match payload {
            Some(Payload::Refused(errors)) => {
                self.operations.stop(&id);
                self.say(Outgoing::Error { id: &id, payload: &errors }).await
            }
            Some(Payload::Executed(result)) => self.say(Outgoing::next(&id, &result)).await,
            Some(Payload::Serialized(json) | Payload::Replayed(json)) => {
                self.send(Message::Text(message::next_serialized(&id, &json).into())).await
            }
            None => {
                self.operations.stop(&id);
                self.say(Outgoing::Complete { id: &id }).await
            }
        }
    }

    async fn say(&mut self, message: Outgoing<'_>) -> Result<(), End> {
        match serde_json::to_string(&message) {
            Ok(text) => self.send(Message::Text(text.into())).await,
            Err(error) => {
                tracing::error!(%error, "a message could not be written as JSON");
                Err(Close::new(1011, "Internal error").into())
            }
        }
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        match timeout(self.limits.slow_reader, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(Close::try_again("The client reads too slowly").into()),
        }
    }
}
