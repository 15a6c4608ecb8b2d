//! GraphQL over HTTP, POST and GET. Knows methods, media types and status codes; refuses to know how an operation
//! is parsed and run, and what a stream of events looks like.

use std::{sync::Arc, time::Duration};

use async_graphql::{Name, ServerError, Value, parser::types::OperationType};
use axum::{
    Router,
    body::{Body, HttpBody},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::any,
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::timeout;
use url::form_urlencoded;

use crate::{
    client::ClientInfo,
    errors::{Code, coded},
    gateway::{self, Caller, Gateway, Payload, bearer_of, refused_error},
    idempotency,
    request_id::RequestId,
    socket, stream,
    wire::{self, Envelope, Object},
};

/// How long a client may take to send the body of a request.
const SLOW_BODY: Duration = Duration::from_secs(30);

/// `/graphql`, `/graphql/stream` and `/graphql/ws`. Expects `request_id::assign` outside of it.
pub fn router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/graphql", any(graphql))
        .route("/graphql/stream", any(event_stream))
        .route("/graphql/ws", any(socket::upgrade))
        .with_state(gateway)
}

async fn graphql(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let accept = Accept::read(request.headers());
    respond(&gateway, request, accept).await
}

/// The same for clients that take events whatever they accept: `curl -N`, for one.
async fn event_stream(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let accept = Accept::read(request.headers()).with_events_by_default();
    respond(&gateway, request, accept).await
}

async fn respond(gateway: &Arc<Gateway>, request: Request, accept: Accept) -> Response {
    let request_id = request.extensions().get::<RequestId>().cloned().unwrap_or_else(RequestId::fresh);
    let (parts, body) = request.into_parts();
    let identity = match bearer_of(&parts.headers) {
        Ok(token) => gateway.identify.identify(token),
        Err(refused) => Err(refused),
    };
    let client = ClientInfo::read(&parts, gateway.trust_proxy);
    // Whoever shows a token that is refused counts too, as whoever shows none.
    let counted = Caller { identity: identity.unwrap_or_default(), client: client.clone() };
    let standing = gateway.requests.count(&counted);
    let caller = match standing.refusal() {
        Some(error) => Err(Fault {
            retry_after: standing.retry_after(),
            ..Fault::of(StatusCode::TOO_MANY_REQUESTS, error)
        }),
        None => match identity {
            Ok(identity) => Ok(Caller { identity, client }),
            Err(refused) => Err(Fault::of(StatusCode::UNAUTHORIZED, refused_error(refused))),
        },
    };
    let answered = match (accept, caller) {
        (Accept { media: None, events: Events::Unwanted, .. }, Ok(_)) => {
            let message = "Only application/graphql-response+json, application/json and text/event-stream can be answered.";
            Err(Fault::new(StatusCode::NOT_ACCEPTABLE, message))
        }
        (_, Err(fault)) => Err(fault),
        (accept, Ok(caller)) => answer(gateway, parts, body, accept, caller, &request_id).await,
    };
    let media = accept.media.unwrap_or(Media::Json);
    let mut response = answered.unwrap_or_else(|fault| fault.respond(gateway, media, &request_id));
    standing.tell(response.headers_mut());
    response.headers_mut().append(header::VARY, HeaderValue::from_static("accept"));
    response
}

async fn answer(
    gateway: &Arc<Gateway>,
    parts: Parts,
    body: Body,
    accept: Accept,
    caller: Caller,
    request_id: &RequestId,
) -> Result<Response, Fault> {
    let media = accept.media.unwrap_or(Media::Json);
    let object = match parts.method {
        Method::GET | Method::HEAD => query_string(parts.uri.query().unwrap_or_default())?,
        Method::POST => posted(&parts.headers, body, gateway.limits.body_bytes).await?,
        _ => return Err(Fault::method("GET, POST", "Send GraphQL requests with POST or GET.")),
    };
    let mut envelope = Envelope::read(object).map_err(|error| Fault::of(StatusCode::BAD_REQUEST, error))?;
    envelope.key = idempotency::key_of(&parts.headers).map_err(|why| Fault::bad(&why))?;
    let prepared = gateway.prepare(envelope, caller.clone(), request_id);
    if let Ok(call) = &prepared
        && call.kind == OperationType::Mutation
        && parts.method != Method::POST
    {
        return Err(Fault::method("POST", "Send mutations with POST: GET changes nothing."));
    }
    let watches = matches!(&prepared, Ok(call) if call.kind == OperationType::Subscription);
    if accept.events == Events::Preferred || (watches && accept.events == Events::Accepted) {
        let place = stream::place(gateway, &caller).map_err(|(status, message)| Fault {
            retry_after: Some(stream::RETRY_AFTER),
            ..Fault::of(status, coded(Code::RateLimited, message, None))
        })?;
        return Ok(match prepared {
            Ok(call) => stream::respond(gateway, call, caller.identity.left(), place),
            Err(errors) => stream::refused(gateway, errors, place),
        });
    }
    let payload = match prepared {
        Err(errors) => Payload::Refused(errors),
        Ok(call) => match call.kind {
            OperationType::Subscription => {
                let message = "Subscriptions are streams: open the WebSocket at /graphql/ws (graphql-transport-ws), or accept \
                               text/event-stream.";
                let error = coded(Code::BadUserInput, message, None);
                Payload::Refused(gateway.refusal(vec![error], request_id))
            }
            _ => gateway.execute(call).await,
        },
    };
    let not_carried_out = idempotency::status(&payload);
    Ok(match payload {
        Payload::Refused(errors) => media
            .respond(not_carried_out.unwrap_or_else(|| media.refused()), &gateway::Body::refused(&errors)),
        Payload::Executed(result) => {
            let mut response = media.respond(StatusCode::OK, &gateway::Body::executed(&result));
            response.headers_mut().extend(result.http_headers);
            response
        }
        Payload::Serialized(json) => media.send(StatusCode::OK, json.as_bytes().to_vec()),
        Payload::Replayed(json) => {
            let mut response = media.send(StatusCode::OK, json.as_bytes().to_vec());
            response.headers_mut().insert(idempotency::REPLAYED, HeaderValue::from_static("true"));
            response
        }
    })
}

/// The request in a POST body.
async fn posted(headers: &HeaderMap, body: Body, most: usize) -> Result<Object, Fault> {
    if !is_json(headers) {
        // Browsers send other types across sites without asking first.
        let message = "Send the request as JSON, with Content-Type: application/json.";
        return Err(Fault::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let too_large = || {
        let message = format!("The request body may have {most} bytes, it has more.");
        Fault::new(StatusCode::PAYLOAD_TOO_LARGE, &message)
    };
    if body.size_hint().lower() > most as u64 {
        return Err(too_large());
    }
    let body = timeout(SLOW_BODY, Limited::new(body, most).collect()).await.map_err(|_| {
        Fault::new(StatusCode::REQUEST_TIMEOUT, "The request body did not come to its end in time.")
    })?;
    let body = body.map_err(|error| {
        if error.is::<LengthLimitError>() {
            too_large()
        } else {
            Fault::new(StatusCode::BAD_REQUEST, "The request body broke off.")
        }
    })?;
    wire::object(&body.to_bytes()).map_err(|why| Fault::bad(&format!("The request body is refused: {why}.")))
}

/// The request in a query string. An empty parameter counts as absent, as forms send them.
fn query_string(query: &str) -> Result<Object, Fault> {
    let mut object = Object::new();
    for (key, text) in form_urlencoded::parse(query.as_bytes()) {
        let value = match &*key {
            _ if text.is_empty() => continue,
            "query" | "documentId" | "operationName" => Value::String(text.into_owned()),
            "variables" | "extensions" if text == "null" => Value::Null,
            "variables" | "extensions" => {
                let object = wire::object(text.as_bytes());
                Value::Object(object.map_err(|why| Fault::bad(&format!("“{key}” is refused: {why}.")))?)
            }
            _ => continue,
        };
        if object.insert(Name::new(&key), value).is_some() {
            return Err(Fault::bad(&format!("“{key}” is given more than once.")));
        }
    }
    Ok(object)
}

/// `application/json`, in UTF-8 where it says.
fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(Ok(value)), None) = (values.next().map(HeaderValue::to_str), values.next()) else {
        return false;
    };
    let mut parts = value.split(';').map(str::trim);
    parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) && parts.all(is_utf8)
}

/// Whether a media type's parameter leaves the encoding at UTF-8.
fn is_utf8(parameter: &str) -> bool {
    match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    }
}

/// The two media types an answer can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Media {
    /// `application/json`: its status tells about HTTP only.
    Json,
    /// `application/graphql-response+json`: its status tells about the operation too.
    GraphQl,
}

/// Whether the answer may be a stream of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Events {
    /// The client does not name them.
    Unwanted,
    /// For what has no other answer: a subscription.
    Accepted,
    /// For every operation.
    Preferred,
}

/// What the client can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Accept {
    /// The type of a single answer that it likes best; none when it accepts neither.
    media: Option<Media>,
    events: Events,
    /// Whether it accepts whatever comes.
    anything: bool,
}

impl Accept {
    /// By quality, then by the order of naming. `application/json` when the client does not care. Events have to be
    /// named: whoever accepts anything may wait for the end of the answer.
    fn read(headers: &HeaderMap) -> Self {
        const EVENTS: usize = 2;
        let mut accept = String::new();
        for value in headers.get_all(header::ACCEPT) {
            let Ok(value) = value.to_str() else {
                return Self { media: None, events: Events::Unwanted, anything: false };
            };
            accept.push_str(value);
            accept.push(',');
        }
        if accept.trim_matches([',', ' ']).is_empty() {
            return Self { media: Some(Media::Json), events: Events::Unwanted, anything: true };
        }
        // For each type the most specific range that covers it: (specificity, quality, place).
        let mut best: [Option<(u8, f32, usize)>; 3] = [None; 3];
        let mut anything = false;
        for (place, range) in accept.split(',').enumerate() {
            let mut parts = range.split(';').map(str::trim);
            let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut quality, mut utf8) = (1.0, true);
            for parameter in parts {
                match parameter.split_once('=') {
                    Some((name, value)) if name.trim().eq_ignore_ascii_case("q") => {
                        quality = value.trim().parse().unwrap_or(0.0);
                    }
                    _ => utf8 &= is_utf8(parameter),
                }
            }
            let (specificity, covered): (u8, &[usize]) = match essence.as_str() {
                _ if !utf8 => continue,
                "application/json" => (2, &[Media::Json as usize]),
                "application/graphql-response+json" => (2, &[Media::GraphQl as usize]),
                "text/event-stream" => (2, &[EVENTS]),
                "application/*" => (1, &[Media::Json as usize, Media::GraphQl as usize]),
                "*/*" => {
                    anything |= quality > 0.0;
                    (0, &[Media::Json as usize, Media::GraphQl as usize])
                }
                _ => continue,
            };
            for &covered in covered {
                let known = &mut best[covered];
                if known.is_none_or(|(known, ..)| specificity > known) {
                    *known = Some((specificity, quality, place));
                }
            }
        }
        let wanted = |index: usize| best[index].filter(|(_, quality, _)| *quality > 0.0);
        // Both are asked for: whether the first is liked better, or as well and named before.
        let better = |one: (u8, f32, usize), other: (u8, f32, usize)| {
            one.1 > other.1 || (one.1 == other.1 && one.2 < other.2)
        };
        let (media, single) = match (wanted(Media::Json as usize), wanted(Media::GraphQl as usize)) {
            (None, None) => (None, None),
            (Some(json), None) => (Some(Media::Json), Some(json)),
            (Some(json), Some(graphql)) if !better(graphql, json) => (Some(Media::Json), Some(json)),
            (_, Some(graphql)) => (Some(Media::GraphQl), Some(graphql)),
        };
        let events = match (wanted(EVENTS), single) {
            (None, _) => Events::Unwanted,
            (Some(events), Some(single)) if !better(events, single) => Events::Accepted,
            (Some(_), _) => Events::Preferred,
        };
        Self { media, events, anything }
    }

    /// Where only events are served: nothing else comes, and whoever accepts anything gets them.
    fn with_events_by_default(self) -> Self {
        let events = match self.events {
            Events::Unwanted if !self.anything => Events::Unwanted,
            _ => Events::Preferred,
        };
        Self { media: None, events, ..self }
    }
}

impl Media {
    /// The status of a well-formed request whose operation was refused.
    fn refused(self) -> StatusCode {
        match self {
            Self::Json => StatusCode::OK,
            Self::GraphQl => StatusCode::BAD_REQUEST,
        }
    }

    fn respond(self, status: StatusCode, body: &gateway::Body<'_>) -> Response {
        match serde_json::to_vec(body) {
            Ok(json) => self.send(status, json),
            Err(error) => {
                tracing::error!(%error, "an answer could not be written as JSON");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }

    fn send(self, status: StatusCode, json: Vec<u8>) -> Response {
        let content_type = match self {
            Self::Json => "application/json; charset=utf-8",
            Self::GraphQl => "application/graphql-response+json; charset=utf-8",
        };
        // Answers depend on who asks, and GET would let caches keep them.
        let headers = [(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-store")];
        (status, headers, json).into_response()
    }
}

/// A request that HTTP itself refuses.
struct Fault {
    status: StatusCode,
    error: Box<ServerError>,
    allow: Option<&'static str>,
    /// Seconds until it may work.
    retry_after: Option<u64>,
}

impl Fault {
    fn new(status: StatusCode, message: &str) -> Self {
        Self::of(status, coded(Code::BadUserInput, message, None))
    }

    fn of(status: StatusCode, error: ServerError) -> Self {
        Self { status, error: Box::new(error), allow: None, retry_after: None }
    }

    fn bad(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    fn method(allow: &'static str, message: &str) -> Self {
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, message) }
    }

    fn respond(self, gateway: &Gateway, media: Media, request_id: &RequestId) -> Response {
        let errors = gateway.refusal(vec![*self.error], request_id);
        let mut response = media.respond(self.status, &gateway::Body::refused(&errors));
        let headers = response.headers_mut();
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\""));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(accept: &str) -> Accept {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        Accept::read(&headers)
    }

    #[test]
    fn the_client_chooses_the_media_type() {
        use Media::{GraphQl, Json};
        assert_eq!(Accept::read(&HeaderMap::new()).media, Some(Json));
        for (accept, media) in [
            ("", Some(Json)),
            ("*/*", Some(Json)),
            ("application/*", Some(Json)),
            ("application/json", Some(Json)),
            ("APPLICATION/JSON; charset=UTF-8", Some(Json)),
            ("application/graphql-response+json", Some(GraphQl)),
            ("application/graphql-response+json, application/json;q=0.9", Some(GraphQl)),
            ("application/json;q=0.5, application/graphql-response+json;q=0.9", Some(GraphQl)),
            ("application/json, application/graphql-response+json", Some(Json)),
            ("application/json;q=0, */*", Some(GraphQl)),
            ("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", Some(Json)),
            ("text/html", None),
            ("application/json;q=0", None),
            ("application/json;charset=latin1", None),
        ] {
            assert_eq!(read(accept).media, media, "{accept}");
        }
    }

    #[test]
    fn events_are_sent_to_those_who_name_them() {
        use Events::{Accepted, Preferred, Unwanted};
        for (accept, events, at_the_stream) in [
            ("", Unwanted, Preferred),
            ("*/*", Unwanted, Preferred),
            ("application/json", Unwanted, Unwanted),
            ("text/event-stream", Preferred, Preferred),
            ("text/event-stream, multipart/mixed", Preferred, Preferred),
            ("text/event-stream, */*;q=0.1", Preferred, Preferred),
            ("text/event-stream;q=0, */*", Unwanted, Preferred),
            (
                "application/graphql-response+json, application/json, text/event-stream, multipart/mixed",
                Accepted,
                Preferred,
            ),
            ("application/json;q=0.5, text/event-stream", Preferred, Preferred),
        ] {
            assert_eq!(read(accept).events, events, "{accept}");
            assert_eq!(read(accept).with_events_by_default().events, at_the_stream, "{accept}");
        }
    }
}
