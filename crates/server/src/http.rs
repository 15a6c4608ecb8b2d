//! GraphQL over HTTP, POST and GET. Knows methods, media types and status codes; refuses to know how an operation
//! is parsed and run.

use std::sync::Arc;

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
use url::form_urlencoded;

use crate::{
    client::ClientInfo,
    errors::{Code, coded},
    gateway::{self, Caller, Gateway, Payload, bearer_of, refused_error},
    idempotency,
    request_id::RequestId,
    socket,
    wire::{self, Envelope, Object},
};

/// `/graphql` and `/graphql/ws`. Expects `request_id::assign` outside of it.
pub fn router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/graphql", any(graphql))
        .route("/graphql/ws", any(socket::upgrade))
        .with_state(gateway)
}

async fn graphql(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let request_id = request.extensions().get::<RequestId>().cloned().unwrap_or_else(RequestId::fresh);
    let media = Media::negotiate(request.headers());
    let (parts, body) = request.into_parts();
    let answered = match media {
        Some(media) => answer(&gateway, parts, body, media, &request_id).await,
        None => {
            let message = "Only application/graphql-response+json and application/json can be answered.";
            Err(Fault::new(StatusCode::NOT_ACCEPTABLE, message))
        }
    };
    let media = media.unwrap_or(Media::Json);
    let mut response = answered.unwrap_or_else(|fault| fault.respond(&gateway, media, &request_id));
    response.headers_mut().append(header::VARY, HeaderValue::from_static("accept"));
    response
}

async fn answer(
    gateway: &Arc<Gateway>,
    parts: Parts,
    body: Body,
    media: Media,
    request_id: &RequestId,
) -> Result<Response, Fault> {
    let object = match parts.method {
        Method::GET | Method::HEAD => query_string(parts.uri.query().unwrap_or_default())?,
        Method::POST => posted(&parts.headers, body, gateway.limits.body_bytes).await?,
        _ => return Err(Fault::method("GET, POST", "Send GraphQL requests with POST or GET.")),
    };
    let envelope = Envelope::read(object).map_err(|error| {
        // Asked with the hash of a document only: well-formed, so no fault of the HTTP request.
        let supported = error.message != "PersistedQueryNotSupported";
        let status = if supported { StatusCode::BAD_REQUEST } else { media.refused() };
        Fault { status, error: Box::new(error), allow: None }
    })?;
    let identity = match bearer_of(&parts.headers) {
        Ok(token) => gateway.identify.identify(token),
        Err(refused) => Err(refused),
    };
    let identity = identity.map_err(|refused| Fault {
        status: StatusCode::UNAUTHORIZED,
        error: Box::new(refused_error(refused)),
        allow: None,
    })?;
    let key = idempotency::key_of(&parts.headers).map_err(|why| Fault::bad(&why))?;
    let caller = Caller { identity, client: ClientInfo::read(&parts, gateway.trust_proxy), key };
    let payload = match gateway.prepare(envelope, caller, request_id) {
        Err(errors) => Payload::Refused(errors),
        Ok(call) => match call.kind {
            OperationType::Mutation if parts.method != Method::POST => {
                return Err(Fault::method("POST", "Send mutations with POST: GET runs queries only."));
            }
            OperationType::Subscription => {
                let message = "Subscriptions run on the WebSocket at /graphql/ws (graphql-transport-ws).";
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
    let body = Limited::new(body, most).collect().await.map_err(|error| {
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
            "query" | "operationName" => Value::String(text.into_owned()),
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

impl Media {
    /// The type the client likes best: by quality, then by the order of naming. `application/json` when it does not
    /// care; none when it accepts neither.
    fn negotiate(headers: &HeaderMap) -> Option<Self> {
        let mut accept = String::new();
        for value in headers.get_all(header::ACCEPT) {
            accept.push_str(value.to_str().ok()?);
            accept.push(',');
        }
        if accept.trim_matches([',', ' ']).is_empty() {
            return Some(Self::Json);
        }
        // For each type the most specific range that covers it: (specificity, quality, place).
        let mut best: [Option<(u8, f32, usize)>; 2] = [None; 2];
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
            let (specificity, covered): (u8, &[Self]) = match essence.as_str() {
                _ if !utf8 => continue,
                "application/json" => (2, &[Self::Json]),
                "application/graphql-response+json" => (2, &[Self::GraphQl]),
                "application/*" => (1, &[Self::Json, Self::GraphQl]),
                "*/*" => (0, &[Self::Json, Self::GraphQl]),
                _ => continue,
            };
            for media in covered {
                let known = &mut best[*media as usize];
                if known.is_none_or(|(known, ..)| specificity > known) {
                    *known = Some((specificity, quality, place));
                }
            }
        }
        let wanted = |media: Self| best[media as usize].filter(|(_, quality, _)| *quality > 0.0);
        match (wanted(Self::Json), wanted(Self::GraphQl)) {
            (None, None) => None,
            (Some(_), None) => Some(Self::Json),
            (None, Some(_)) => Some(Self::GraphQl),
            (Some((_, json, json_place)), Some((_, graphql, graphql_place))) => {
                let prefers = graphql > json || (graphql == json && graphql_place < json_place);
                Some(if prefers { Self::GraphQl } else { Self::Json })
            }
        }
    }

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
}

impl Fault {
    fn new(status: StatusCode, message: &str) -> Self {
        Self { status, error: Box::new(coded(Code::BadUserInput, message, None)), allow: None }
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

    fn negotiate(accept: &str) -> Option<Media> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        Media::negotiate(&headers)
    }

    #[test]
    fn the_client_chooses_the_media_type() {
        use Media::{GraphQl, Json};
        assert_eq!(Media::negotiate(&HeaderMap::new()), Some(Json));
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
            assert_eq!(negotiate(accept), media, "{accept}");
        }
    }
}
