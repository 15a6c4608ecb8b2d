//! The server's own pages over HTTP: answering an invitation, setting up, and what stands at every other address.
//! Knows routes, forms, headers and status codes; refuses to know how a page looks and which rules hold.
//!
//! No page keeps anybody signed in: a session that an answer opens on the way is ended before the answer is sent.

use std::{
    convert::Infallible,
    sync::{Arc, LazyLock},
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequestParts, State, rejection::BytesRejection},
    http::{HeaderMap, HeaderName, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use guildhall_domain::{
    access::{Actor, Denied},
    refusal::Refusal,
};
use guildhall_graphql::{Throttle, Wait, single_sign_on::CALLBACK_PATH};
use guildhall_persistence::{
    Db, Fault, OpError, ReadError,
    audit::Origin,
    instance,
    sessions::{self, Device},
};
use sha2::{Digest, Sha256};
use tracing::Instrument;
use url::form_urlencoded;

use crate::{
    client::ClientInfo,
    pages::{
        CONTENT_SECURITY_POLICY, CSS, CSS_PATH, InvitationPage, MessagePage, Pages, RecoveryPage, SetupPage,
    },
    request_id::RequestId,
    single_sign_on::SingleSignOn,
};

mod invitation;
mod recovery;
mod setup;
mod single_sign_on;
#[cfg(test)]
mod tests;

/// The longest form, in bytes. The fields hold a few hundred characters each.
const MAX_FORM_BYTES: usize = 16 * 1024;

/// What the pages need.
pub struct Web {
    pub db: Db,
    pub pages: Pages,
    /// Shared with the API: whoever guesses at one door has guessed at the other.
    pub throttle: Arc<Throttle>,
    /// Where people go on.
    pub app_url: String,
    /// Whether a proxy in front sets `X-Forwarded-For`.
    pub trust_proxy: bool,
    /// Asks identity providers.
    pub single_sign_on: Arc<SingleSignOn>,
    /// Whether there is a playground to send people to.
    pub playground: bool,
}

/// `/`, `/setup`, `/invitations/{token}`, `/reset`, `/email`, `/sso/callback/{organization}`, the style sheet, and a page for every address that nothing else answers.
/// Expects `request_id::assign` outside of it.
pub fn router(state: Arc<Web>) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/invitations/{token}", get(invitation::show).post(invitation::answer))
        .route("/reset", get(recovery::show_reset).post(recovery::reset))
        .route("/email", get(recovery::show_email).post(recovery::change_email))
        .route("/setup", get(setup::show).post(setup::submit))
        .route(&format!("{CALLBACK_PATH}/{{organization}}"), get(single_sign_on::come_back))
        .route(CSS_PATH, get(style_sheet))
        .method_not_allowed_fallback(wrong_method)
        .fallback(nothing_here)
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .with_state(state)
}

/// Where a request came from, and its id.
struct Visitor {
    device: Device,
    request_id: RequestId,
}

impl FromRequestParts<Arc<Web>> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, web: &Arc<Web>) -> Result<Self, Infallible> {
        let client = ClientInfo::read(parts, web.trust_proxy);
        // The text of the address is a key of the throttle, so it is the one that the API uses.
        let ip = client.ip.map(|ip| ip.to_canonical().to_string());
        let request_id = parts.extensions.get().cloned().unwrap_or_else(RequestId::fresh);
        Ok(Self { device: Device { name: client.user_agent, ip }, request_id })
    }
}

impl Visitor {
    /// The database, for what this request changes.
    fn db(&self, web: &Web) -> Db {
        let (request_id, ip) = (Some(self.request_id.shared()), self.device.ip.clone());
        web.db.on_behalf_of(Origin { request_id, ip, operator: false })
    }
}

/// One of the pages, with what stands on it.
enum Page {
    Invitation(InvitationPage),
    Setup(SetupPage),
    Recovery(RecoveryPage),
    Message(MessagePage),
}

impl From<InvitationPage> for Page {
    fn from(page: InvitationPage) -> Self {
        Self::Invitation(page)
    }
}

impl From<RecoveryPage> for Page {
    fn from(page: RecoveryPage) -> Self {
        Self::Recovery(page)
    }
}

impl From<SetupPage> for Page {
    fn from(page: SetupPage) -> Self {
        Self::Setup(page)
    }
}

/// What a request comes to.
type Outcome = Result<(StatusCode, Page), Trouble>;

/// Why a request gets another page than it asked for.
enum Trouble {
    /// Something failed: the log says what, the page only under which id.
    Fault(Fault),
    /// The request itself is refused.
    Refused(StatusCode, MessagePage),
    /// Too many like it came before.
    TooOften(Wait),
}

impl Trouble {
    fn refused(status: StatusCode, title: &str, what_to_do: impl Into<String>) -> Self {
        let sentences = vec![what_to_do.into()];
        Self::Refused(status, MessagePage { title: title.into(), sentences, reference: None, home_url: None })
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Denied> for Trouble {
    fn from(_: Denied) -> Self {
        // Only a session has rights here, and only until this request ends it: somebody else ended it first.
        Self::refused(
            StatusCode::FORBIDDEN,
            "You were signed out meanwhile",
            "Go back and try again. If that does not help, the account may have been disabled.",
        )
    }
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Denied(denied) => denied.into(),
            ReadError::Fault(fault) => fault.into(),
        }
    }
}

/// The refusals of an operation, to be shown beside the fields. The rest gets a page of its own.
fn refusals<C>(error: OpError<C>) -> Result<Vec<Refusal<C>>, Trouble> {
    match error {
        OpError::Refused(refusals) => Ok(refusals.0),
        OpError::Denied(denied) => Err(denied.into()),
        OpError::Fault(fault) => Err(fault.into()),
    }
}

/// Runs a submission to its end even if the browser goes away: the session that it opens has to be ended.
async fn to_the_end(submission: impl Future<Output = Outcome> + Send + 'static) -> Outcome {
    let done = tokio::spawn(submission.in_current_span()).await;
    done.unwrap_or_else(|error| Err(Fault::Worker(error.to_string()).into()))
}

impl Web {
    fn respond(&self, request_id: &RequestId, outcome: Outcome) -> Response {
        let mut wait = None;
        let (status, page) = outcome.unwrap_or_else(|trouble| match trouble {
            Trouble::Refused(status, page) => (status, Page::Message(page)),
            Trouble::TooOften(until) => {
                wait = Some(until.seconds);
                let title = "A little slower, please".into();
                let page =
                    MessagePage { title, sentences: vec![until.into()], reference: None, home_url: None };
                (StatusCode::TOO_MANY_REQUESTS, Page::Message(page))
            }
            Trouble::Fault(fault) => {
                tracing::error!(%request_id, %fault, "a page failed");
                let page = MessagePage::internal(request_id.to_string());
                (StatusCode::INTERNAL_SERVER_ERROR, Page::Message(page))
            }
        });
        let html = match &page {
            Page::Invitation(page) => self.pages.invitation(page),
            Page::Setup(page) => self.pages.setup(page),
            Page::Recovery(page) => self.pages.recovery(page),
            Page::Message(page) => self.pages.message(page),
        };
        let html = match html {
            Ok(html) => html,
            Err(error) => {
                tracing::error!(%request_id, %error, "a page could not be rendered");
                return StatusCode::INTERNAL_SERVER_ERROR.into_response();
            }
        };
        // The address holds a secret: it goes to no cache, no search engine and no other site.
        let headers = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CACHE_CONTROL, "no-store"),
            (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (HeaderName::from_static("x-robots-tag"), "noindex"),
        ];
        let mut response = (status, headers, html).into_response();
        if let Some(seconds) = wait {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }

    /// Counts a try of a link's secret.
    fn guard_token(&self, device: &Device) -> Result<(), Trouble> {
        self.throttle.token(device.ip.as_deref()).map_err(Trouble::TooOften)
    }

    /// Ends a session that an answer opened. What the person asked for is done by then, so a failure is only logged.
    async fn end_session(&self, visitor: &Visitor, actor: Actor) {
        let ended = async { sessions::sign_out(&self.db, &self.db.own_session(actor).await?).await };
        if let Err(OpError::Fault(fault)) = ended.await {
            tracing::error!(request_id = %visitor.request_id, %fault, "a page's session could not be ended");
        }
    }
}

/// The fields of a submitted form, or of a query. Without `Debug`, since they hold passwords.
struct Form(Vec<(String, String)>);

impl Form {
    fn read(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<Self, Trouble> {
        let mut types = headers.get_all(header::CONTENT_TYPE).iter().map(|value| value.to_str());
        let essence = match (types.next(), types.next()) {
            (Some(Ok(value)), None) => value.split(';').next().unwrap_or_default().trim(),
            _ => "",
        };
        if !essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(Trouble::refused(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "This is not a form of this page",
                "Send the form as application/x-www-form-urlencoded, as browsers do. Programs use /graphql.",
            ));
        }
        match body {
            Ok(body) => Ok(Self::parse(&body)),
            Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(Trouble::refused(
                StatusCode::PAYLOAD_TOO_LARGE,
                "That is too much text",
                format!("A form may have {MAX_FORM_BYTES} bytes. Go back and shorten what you entered."),
            )),
            Err(_) => Err(Trouble::refused(
                StatusCode::BAD_REQUEST,
                "The form did not arrive whole",
                "Go back and send it again.",
            )),
        }
    }

    fn parse(encoded: &[u8]) -> Self {
        Self(form_urlencoded::parse(encoded).into_owned().collect())
    }

    /// The first field of that name; a missing one is empty.
    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value)
    }
}

async fn home(State(web): State<Arc<Web>>, visitor: Visitor) -> Response {
    let outcome = async {
        let mut sentences = vec!["Programs talk to it in GraphQL at /graphql.".to_owned()];
        if web.playground {
            sentences.push("People try it out in the playground.".to_owned());
        }
        if !instance::is_set_up(&web.db).await? {
            sentences.push(
                "Nobody has an account yet: open the set-up link that the server printed when it started."
                    .into(),
            );
        }
        let title = "The server is running".to_owned();
        let home_url = web.playground.then(|| "/playground".to_owned());
        Ok((StatusCode::OK, Page::Message(MessagePage { title, sentences, reference: None, home_url })))
    };
    web.respond(&visitor.request_id, outcome.await)
}

async fn nothing_here(State(web): State<Arc<Web>>, visitor: Visitor) -> Response {
    let page = MessagePage::not_found(Some(web.app_url.clone()));
    web.respond(&visitor.request_id, Err(Trouble::Refused(StatusCode::NOT_FOUND, page)))
}

async fn wrong_method(State(web): State<Arc<Web>>, visitor: Visitor) -> Response {
    let trouble = Trouble::refused(
        StatusCode::METHOD_NOT_ALLOWED,
        "This page cannot do that",
        "Open it in a browser and use the forms on it.",
    );
    web.respond(&visitor.request_id, Err(trouble))
}

async fn style_sheet(request: HeaderMap) -> Response {
    // Weak, because a compressed answer carries the same tag.
    static TAG: LazyLock<String> = LazyLock::new(|| format!("W/\"{}\"", hex::encode(Sha256::digest(CSS))));
    let known = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let opaque = TAG.trim_start_matches("W/");
    let known = known
        .flat_map(|tags| tags.split(','))
        .any(|tag| tag.trim() == "*" || tag.trim().trim_start_matches("W/") == opaque);
    let headers = [
        // The pages name it without a version, so a new release has to show within a day.
        (header::CACHE_CONTROL, "public, max-age=86400"),
        (header::ETAG, TAG.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    if known {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, [(header::CONTENT_TYPE, "text/css; charset=utf-8")], CSS).into_response()
}
