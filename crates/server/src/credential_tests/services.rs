//! Web services with a user and a password: DHIS2 and IASO.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use guildhall_graphql::credential_tests::{CredentialTestFailure as Reason, Failure};
use hyper::{
    Method, StatusCode,
    header::{self, HeaderName, HeaderValue},
};
use serde_json::{Value, json};

use super::{Fields, NOT_AS_EXPECTED, Verdict, invalid, told_of_web, trouble};
use crate::outbound::{
    Outbound,
    web::{Answer, Ask},
};

/// Asks DHIS2 who the user is.
pub(super) async fn dhis2(outbound: &Outbound, fields: &Fields) -> Verdict {
    let mut url = fields.url("api_url", &["api", "me"])?;
    url.set_query(Some("fields=id"));
    let (user, password) = (fields.required("username")?, fields.required("password")?);
    if user.contains(':') {
        return Err(invalid("`username` holds a colon, which no user of a web service can have."));
    }
    let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    let mut basic = HeaderValue::try_from(basic).map_err(|_| NOT_AS_EXPECTED)?;
    basic.set_sensitive(true);
    let headers = vec![
        (header::AUTHORIZATION, basic),
        (header::ACCEPT, HeaderValue::from_static("application/json")),
        // Else some versions answer a wrong password with a redirect to the form for signing in.
        (HeaderName::from_static("x-requested-with"), HeaderValue::from_static("XMLHttpRequest")),
    ];
    let ask = Ask { method: Method::GET, url: &url, headers, body: Bytes::new() };
    meaning(&outbound.ask(ask).await.map_err(told_of_web)?, "id")
}

/// Asks IASO for a token.
pub(super) async fn iaso(outbound: &Outbound, fields: &Fields) -> Verdict {
    // With the slash at its end, without which IASO redirects.
    let url = fields.url("api_url", &["api", "token", ""])?;
    let body = json!({ "username": fields.required("username")?, "password": fields.required("password")? });
    let headers = vec![
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::ACCEPT, HeaderValue::from_static("application/json")),
    ];
    let ask = Ask { method: Method::POST, url: &url, headers, body: body.to_string().into() };
    meaning(&outbound.ask(ask).await.map_err(told_of_web)?, "access")
}

/// A good answer is an object with a text of this name.
fn meaning(answer: &Answer, proof: &str) -> Verdict {
    match answer.status {
        StatusCode::OK => match serde_json::from_slice::<Value>(&answer.body) {
            Ok(object) if object[proof].is_string() => Ok("Signed in."),
            _ => Err(NOT_AS_EXPECTED),
        },
        StatusCode::UNAUTHORIZED => Err(Failure::new(
            Reason::AuthenticationFailed,
            "The service does not accept this user with this password.",
        )),
        StatusCode::FORBIDDEN => {
            Err(Failure::new(Reason::PermissionDenied, "The service does not let this user use its API."))
        }
        StatusCode::NOT_FOUND => Err(Failure::new(
            Reason::NotFound,
            "There is no such API at this address. Give the address of the instance, without `/api`.",
        )),
        _ => Err(trouble(answer)),
    }
}
