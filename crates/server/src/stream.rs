//! GraphQL over server-sent events: one operation, one response, as the “distinct connections mode” of the graphql-sse
//! protocol has it. Knows the form of the events and when a stream ends; refuses to know how an operation is run.
//!
//! A stream that ends without `complete` is one that the client should open again: the token has expired, or the
//! server is stopping. Nothing is queued here: while a client does not read, its operation is not polled, and the
//! connection is cut by `serve.rs`.

use std::{convert::Infallible, pin::Pin, sync::Arc, time::Duration};

use async_graphql::{ServerError, parser::types::OperationType};
use axum::{
    body::{Body, Bytes},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::{
    StreamExt, future,
    stream::{self, BoxStream},
};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    gateway::{self, Call, Caller, Gateway, Payload},
    socket::Place,
};

/// Far enough to mean never.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Seconds after which there may be room again.
pub const RETRY_AFTER: u64 = 5;

/// The room for one more stream of that caller; else what to refuse the request with.
pub fn place(gateway: &Gateway, caller: &Caller) -> Result<Place, (StatusCode, String)> {
    let Some(mut place) = gateway.sockets.enter() else {
        let message = "The server has no room for another stream: try again later.";
        return Err((StatusCode::SERVICE_UNAVAILABLE, message.into()));
    };
    let most = gateway.limits.socket.per_actor;
    if !place.claim(caller.holder(), most) {
        let message = format!("{most} subscription connections may be open at once, and they are.");
        return Err((StatusCode::TOO_MANY_REQUESTS, message));
    }
    Ok(place)
}

/// The answer that tells all payloads of an operation. `left` is how long the credential is good for.
pub fn respond(gateway: &Arc<Gateway>, call: Call, left: Option<Duration>, place: Place) -> Response {
    let left = left.unwrap_or(NEVER).min(NEVER);
    let shutdown = gateway.shutdown.clone();
    let over: Over = match call.kind {
        OperationType::Subscription => Box::pin(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = sleep(left) => {}
            }
        }),
        // They end by themselves, and whoever asked for a change is told what became of it.
        OperationType::Query | OperationType::Mutation => Box::pin(future::pending()),
    };
    tell(gateway, gateway.stream(call), over, place)
}

/// An operation that was refused before it ran: told in the stream, since clients of event streams see no other body.
pub fn refused(gateway: &Gateway, errors: Vec<ServerError>, place: Place) -> Response {
    let payloads = stream::once(async { Payload::Refused(errors) }).boxed();
    tell(gateway, payloads, Box::pin(future::pending()), place)
}

fn tell(gateway: &Gateway, payloads: BoxStream<'static, Payload>, over: Over, place: Place) -> Response {
    let every = gateway.limits.socket.ping_every;
    let telling = Telling { payloads, over, every, stage: Stage::Begins, _place: place };
    let events = stream::unfold(telling, async |mut telling| Some((telling.next().await?, telling)));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // nginx would keep the events back until it has a buffer full of them.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, Body::from_stream(events.map(Ok::<_, Infallible>))).into_response()
}

const COMMENT: Bytes = Bytes::from_static(b":\n\n");
/// Browsers tell of no event that has no data, so it has an empty one.
const COMPLETE: Bytes = Bytes::from_static(b"event: complete\ndata:\n\n");

type Over = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Telling {
    payloads: BoxStream<'static, Payload>,
    /// Comes with the end of the token, or of the server.
    over: Over,
    /// Longest silence.
    every: Duration,
    stage: Stage,
    _place: Place,
}

enum Stage {
    Begins,
    Runs,
    Completed,
}

impl Telling {
    async fn next(&mut self) -> Option<Bytes> {
        match self.stage {
            // Something to read at once: some clients take the stream for open only then.
            Stage::Begins => {
                self.stage = Stage::Runs;
                Some(COMMENT)
            }
            Stage::Runs => tokio::select! {
                biased;
                () = &mut self.over => None,
                payload = self.payloads.next() => Some(match payload {
                    // JSON has no raw line break, which would end the event's data.
                    Some(payload) => format!("event: next\ndata: {}\n\n", json(&payload)).into(),
                    None => {
                        self.stage = Stage::Completed;
                        COMPLETE
                    }
                }),
                () = sleep_until(Instant::now() + self.every) => Some(COMMENT),
            },
            Stage::Completed => None,
        }
    }
}

fn json(payload: &Payload) -> String {
    let body = match payload {
        Payload::Serialized(json) | Payload::Replayed(json) => return json.to_string(),
        Payload::Refused(errors) => gateway::Body::refused(errors),
        Payload::Executed(result) => gateway::Body::executed(result),
    };
    serde_json::to_string(&body).unwrap_or_else(|error| {
        tracing::error!(%error, "an event could not be written as JSON");
        r#"{"data":null}"#.to_owned()
    })
}
