//! One subscription over `graphql-transport-ws`, on a socket of its own.

use std::{collections::VecDeque, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use crate::answer::Answer;

/// How long anything may take before the test is stopped.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running subscription; it ends when dropped.
pub struct Subscription {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// What came while nobody asked for it.
    early: VecDeque<Result<Value, Option<u16>>>,
}

/// How a subscription ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// The server completed it.
    Complete,
    /// The server ended it with these errors, without another event.
    Errors(Vec<Value>),
    /// The socket was closed with this code; none when the connection was cut.
    Closed(Option<u16>),
}

enum Step {
    Event(Answer),
    End(End),
}

impl Subscription {
    pub(crate) async fn start(url: &str, token: Option<&str>, document: &str, variables: Value) -> Self {
        let address = format!("{}/graphql/ws", url.replacen("http", "ws", 1));
        let mut request = address.into_client_request().expect("an address");
        request
            .headers_mut()
            .insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("graphql-transport-ws"));
        let (socket, _) = connect_async(request).await.expect("a socket");
        let mut subscription = Self { socket, early: VecDeque::new() };
        let payload = token.map_or(json!({}), |token| json!({ "Authorization": format!("Bearer {token}") }));
        subscription.say(json!({ "type": "connection_init", "payload": payload })).await;
        let acknowledged = subscription.message().await;
        assert_eq!(acknowledged.map(|message| message["type"].clone()), Ok(json!("connection_ack")));
        let payload = json!({ "query": document, "variables": variables });
        subscription.say(json!({ "type": "subscribe", "id": "1", "payload": payload })).await;
        // The protocol does not acknowledge a subscription. A round trip and a moment, a longer one on a slow machine, are
        // enough for one that waits for nothing but a statement or two.
        let asked = Instant::now();
        subscription.say(json!({ "type": "ping" })).await;
        loop {
            let message = timeout(PATIENCE, subscription.receive()).await.expect("an answer to a ping");
            if message.as_ref().is_ok_and(|message| message["type"] == "pong") {
                break;
            }
            let is_over = message.is_err();
            subscription.early.push_back(message);
            if is_over {
                return subscription;
            }
        }
        sleep((asked.elapsed() * 3).max(Duration::from_millis(80))).await;
        subscription
    }

    /// The next event, within five seconds. An event can carry errors: see [`Answer::ok`].
    pub async fn next(&mut self) -> Answer {
        self.within(PATIENCE).await
    }

    /// The next event, which must come within this time.
    pub async fn within(&mut self, patience: Duration) -> Answer {
        match timeout(patience, self.step()).await {
            Ok(Step::Event(event)) => event,
            Ok(Step::End(end)) => panic!("expected an event, but the subscription ended: {end:?}"),
            Err(_) => panic!("expected an event within {patience:?}, but none came"),
        }
    }

    /// The next event for which `wanted` holds; those before it are dropped.
    pub async fn until(&mut self, wanted: impl Fn(&Answer) -> bool) -> Answer {
        loop {
            let event = self.next().await;
            if wanted(&event) {
                return event;
            }
        }
    }

    /// How the subscription ended: within five seconds, and without an event before.
    pub async fn ended(&mut self) -> End {
        match timeout(PATIENCE, self.step()).await {
            Ok(Step::End(end)) => end,
            Ok(Step::Event(event)) => panic!("expected the end, but an event came: {event}"),
            Err(_) => panic!("expected the end within {PATIENCE:?}, but the subscription is open"),
        }
    }

    /// Listens for this many milliseconds and hears nothing.
    pub async fn no_event_for(&mut self, milliseconds: u64) {
        match timeout(Duration::from_millis(milliseconds), self.step()).await {
            Err(_) => {}
            Ok(Step::Event(event)) => panic!("expected silence, but an event came: {event}"),
            Ok(Step::End(end)) => panic!("expected silence, but the subscription ended: {end:?}"),
        }
    }

    async fn step(&mut self) -> Step {
        loop {
            let mut message = match self.message().await {
                Ok(message) => message,
                Err(code) => return Step::End(End::Closed(code)),
            };
            let payload = message["payload"].take();
            return match message["type"].as_str() {
                Some("next") => Step::Event(Answer {
                    status: StatusCode::OK,
                    headers: http::HeaderMap::new(),
                    body: payload,
                }),
                Some("error") => Step::End(End::Errors(payload.as_array().cloned().unwrap_or_default())),
                Some("complete") => Step::End(End::Complete),
                _ => continue,
            };
        }
    }

    /// The next message, or the code that the socket was closed with.
    async fn message(&mut self) -> Result<Value, Option<u16>> {
        match self.early.pop_front() {
            Some(message) => message,
            None => self.receive().await,
        }
    }

    async fn receive(&mut self) -> Result<Value, Option<u16>> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    return Ok(serde_json::from_str(&text).expect("messages are JSON"));
                }
                Some(Ok(Message::Close(frame))) => return Err(frame.map(|frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    async fn say(&mut self, message: Value) {
        self.socket.send(Message::text(message.to_string())).await.expect("the socket takes a message");
    }
}
