//! `POST /oauth/token`: access tokens for service accounts, by OAuth 2.0's client credentials (RFC 6749, sections 2.3.1, 4.4 and
//! 5). Knows the form of the request and of the answers; whose secret it is the database layer knows.
//!
//! Written out, since the crates for authorization servers are made for the flows with a browser and bring their own stores:
//! what is left of them here is the reading of one form.

use std::{borrow::Cow, convert::Infallible, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequestParts, State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::post,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use guildhall_domain::access::Open;
use guildhall_graphql::{Throttle, Wait};
use guildhall_persistence::{Db, ReadError, service_accounts};
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::client::ClientInfo;

/// The longest request, in bytes: it holds two short texts.
const MAX_BYTES: usize = 8 * 1024;

/// What the endpoint needs.
pub struct OAuth {
    pub db: Db,
    /// Shared with the other doors: whoever guesses at one has guessed at all.
    pub throttle: Arc<Throttle>,
    /// Whether a proxy in front sets `X-Forwarded-For`.
    pub trust_proxy: bool,
}

/// `/oauth/token`.
pub fn router(state: Arc<OAuth>) -> Router {
    Router::new()
        .route("/oauth/token", post(token).fallback(wrong_method))
        .layer(DefaultBodyLimit::max(MAX_BYTES))
        .with_state(state)
}

/// The client's address.
struct Ip(Option<String>);

impl FromRequestParts<Arc<OAuth>> for Ip {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<OAuth>) -> Result<Self, Infallible> {
        let client = ClientInfo::read(parts, state.trust_proxy);
        Ok(Self(client.ip.map(|ip| ip.to_canonical().to_string())))
    }
}

/// Why there is no token. The words are those of RFC 6749, section 5.2.
enum Refused {
    InvalidRequest(&'static str),
    UnsupportedGrantType,
    InvalidClient,
    TooMany(Wait),
    Failed,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let retry_after = match &self {
            Self::TooMany(wait) => Some(wait.seconds),
            _ => None,
        };
        let (status, error, description) = match self {
            Self::InvalidRequest(why) => (StatusCode::BAD_REQUEST, "invalid_request", why.to_owned()),
            Self::UnsupportedGrantType => {
                let why = "The grant type is client_credentials.".to_owned();
                (StatusCode::BAD_REQUEST, "unsupported_grant_type", why)
            }
            Self::InvalidClient => {
                let why = "Client id and secret do not belong together, the secret was rotated, the service account was deleted, \
                           or its workspace is archived.";
                (StatusCode::UNAUTHORIZED, "invalid_client", why.to_owned())
            }
            // RFC 6749 has no word for it.
            Self::TooMany(wait) => {
                (StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable", wait.to_string())
            }
            Self::Failed => {
                let why = "Something went wrong here. Try again.".to_owned();
                (StatusCode::INTERNAL_SERVER_ERROR, "server_error", why)
            }
        };
        let mut response = answer(status, json!({ "error": error, "error_description": description }));
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            let challenge = header::HeaderValue::from_static("Basic realm=\"guildhall\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

fn answer(status: StatusCode, body: Value) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store"), (header::PRAGMA, "no-cache")], Json(body)).into_response()
}

async fn wrong_method() -> Response {
    let mut response = Refused::InvalidRequest("Ask for a token with POST.").into_response();
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("POST"));
    response
}

async fn token(
    State(state): State<Arc<OAuth>>,
    Ip(ip): Ip,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refused> {
    let body = body.map_err(|_| Refused::InvalidRequest("The body is too long or broke off."))?;
    let is_form = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|media| media.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"));
    if !is_form {
        return Err(Refused::InvalidRequest("Send a form: application/x-www-form-urlencoded."));
    }
    let form = Form::read(&body)?;
    let (id, secret) = form.client(&headers)?;
    match form.grant_type.as_deref() {
        Some("client_credentials") => {}
        Some(_) => return Err(Refused::UnsupportedGrantType),
        None => return Err(Refused::InvalidRequest("grant_type is missing: it is client_credentials.")),
    }
    #[expect(clippy::disallowed_methods, reason = "whoever has the secret is asked for nothing else")]
    let open = Open::because("a service account's secret is checked");
    match service_accounts::access_token(&state.db, &open, &id, &secret).await {
        Ok(token) => {
            let left = token.expires_at - state.db.now();
            let body = json!({ "access_token": token.token, "token_type": "Bearer", "expires_in": left.num_seconds() });
            Ok(answer(StatusCode::OK, body))
        }
        // Only who is wrong is counted: a fleet behind one address gets its tokens.
        Err(ReadError::Denied(_)) => match state.throttle.machine(ip.as_deref()) {
            Ok(()) => Err(Refused::InvalidClient),
            Err(wait) => Err(Refused::TooMany(wait)),
        },
        Err(ReadError::Fault(fault)) => {
            tracing::error!(%fault, "a service account got no token");
            Err(Refused::Failed)
        }
    }
}

#[derive(Default)]
struct Form<'a> {
    grant_type: Option<Cow<'a, str>>,
    client_id: Option<Cow<'a, str>>,
    client_secret: Option<Cow<'a, str>>,
}

impl<'a> Form<'a> {
    fn read(body: &'a [u8]) -> Result<Self, Refused> {
        let mut form = Self::default();
        // A parameter without a value counts as left out: section 3.2.
        for (name, value) in form_urlencoded::parse(body).filter(|(_, value)| !value.is_empty()) {
            let field = match &*name {
                "grant_type" => &mut form.grant_type,
                "client_id" => &mut form.client_id,
                "client_secret" => &mut form.client_secret,
                // Unknown parameters are ignored, as section 3.2 demands; so is `scope`: rights are read at each request.
                _ => continue,
            };
            if field.replace(value).is_some() {
                return Err(Refused::InvalidRequest("A parameter stands there twice."));
            }
        }
        Ok(form)
    }

    /// Id and secret, of the form or of the header: one of the two.
    fn client(&self, headers: &HeaderMap) -> Result<(String, String), Refused> {
        let header =
            headers.get(header::AUTHORIZATION).map(|value| basic(value).ok_or(Refused::InvalidClient));
        match (header, &self.client_id, &self.client_secret) {
            (None, Some(id), Some(secret)) => Ok((id.to_string(), secret.to_string())),
            (None, ..) => Err(Refused::InvalidClient),
            (Some(_), _, Some(_)) => {
                Err(Refused::InvalidRequest("Send the secret in the header or in the form, not in both."))
            }
            (Some(client), id, None) => {
                let client = client?;
                match id {
                    Some(id) if **id != client.0 => {
                        Err(Refused::InvalidRequest("client_id differs from that of the header."))
                    }
                    _ => Ok(client),
                }
            }
        }
    }
}

/// `Basic` credentials, whose parts are encoded as in forms: section 2.3.1.
fn basic(value: &header::HeaderValue) -> Option<(String, String)> {
    let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((decoded(id), decoded(secret)))
}

fn decoded(text: &str) -> String {
    // As the value of a parameter, so that a `&` or `=` in it is no end of it.
    let form = format!("v={}", text.replace('&', "%26"));
    form_urlencoded::parse(form.as_bytes()).next().map(|(_, text)| text.into_owned()).unwrap_or_default()
}
