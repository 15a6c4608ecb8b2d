//! Google Cloud Storage: a token for the service account, then the name of one object. (The bucket itself may be read
//! only by those who administer it, which a key for files need not.)

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use guildhall_graphql::credential_tests::{CredentialTestFailure as Reason, Failure};
use hyper::{
    Method, StatusCode,
    header::{self, HeaderValue},
};
use serde::Deserialize;
use serde_json::json;
use tokio_rustls::rustls::{
    SignatureScheme,
    crypto::ring,
    pki_types::{PrivateKeyDer, pem::PemObject},
};
use url::{Url, form_urlencoded};

use super::{Fields, NOT_AS_EXPECTED, Verdict, invalid, told_of_web, trouble};
use crate::outbound::{Outbound, web::Ask};

const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_only";
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// How long the signed request for a token is good for.
const SIGNED_FOR: i64 = 300;

/// The storage API of Google.
pub(super) fn storage() -> Url {
    Url::parse("https://storage.googleapis.com").expect("a constant")
}

/// What is read of the file that Google gives. (No `Debug`: it holds the key.)
#[derive(Deserialize)]
struct Key {
    r#type: String,
    client_email: String,
    private_key_id: Option<String>,
    private_key: String,
    token_uri: Option<String>,
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
}

pub(super) async fn list(outbound: &Outbound, google: &Url, now: DateTime<Utc>, fields: &Fields) -> Verdict {
    let bucket = fields.required("bucket_name")?;
    let token = token(outbound, now, fields.required("service_account_key")?).await?;
    let mut url = google.clone();
    match url.path_segments_mut() {
        Ok(mut path) => path.pop_if_empty().extend(["storage", "v1", "b", bucket, "o"]),
        Err(()) => return Err(NOT_AS_EXPECTED),
    };
    url.set_query(Some("maxResults=1&fields=kind"));
    let mut bearer = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| NOT_AS_EXPECTED)?;
    bearer.set_sensitive(true);
    let headers = vec![(header::AUTHORIZATION, bearer)];
    let ask = Ask { method: Method::GET, url: &url, headers, body: Bytes::new() };
    let answer = outbound.ask(ask).await.map_err(told_of_web)?;
    match answer.status {
        StatusCode::OK => Ok("Signed in, and listed the bucket."),
        StatusCode::UNAUTHORIZED => Err(NOT_ACCEPTED),
        StatusCode::FORBIDDEN => Err(Failure::new(
            Reason::PermissionDenied,
            "The service account may not list this bucket. Give it a role with storage.objects.list there.",
        )),
        StatusCode::NOT_FOUND => Err(Failure::new(Reason::NotFound, "There is no bucket of that name.")),
        StatusCode::BAD_REQUEST => Err(invalid("`bucket_name` is no name of a bucket.")),
        _ => Err(trouble(&answer)),
    }
}

const NOT_ACCEPTED: Failure = Failure::new(
    Reason::AuthenticationFailed,
    "Google does not accept this key. It may have been deleted, or its service account disabled.",
);

async fn token(outbound: &Outbound, now: DateTime<Utc>, key: &str) -> Result<String, Failure> {
    const NO_KEY: Failure = invalid(
        "`service_account_key` is no key of a service account. Give the JSON file as Google Cloud gives it.",
    );
    let key: Key = serde_json::from_str(key).map_err(|_| NO_KEY)?;
    if key.r#type != "service_account" {
        return Err(NO_KEY);
    }
    let token_uri = key.token_uri.as_deref().unwrap_or(TOKEN_URI);
    let url = Url::parse(token_uri).map_err(|_| NO_KEY)?;
    let assertion = assertion(&key, token_uri, now).ok_or(NO_KEY)?;
    let body = form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", GRANT)
        .append_pair("assertion", &assertion)
        .finish();
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    let headers = vec![(header::CONTENT_TYPE, form)];
    let ask = Ask { method: Method::POST, url: &url, headers, body: body.into() };
    let answer = outbound.ask(ask).await.map_err(told_of_web)?;
    match answer.status {
        StatusCode::OK => match serde_json::from_slice::<Token>(&answer.body) {
            Ok(token) => Ok(token.access_token),
            Err(_) => Err(NOT_AS_EXPECTED),
        },
        // `invalid_grant` and `invalid_client` of RFC 6749.
        StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(NOT_ACCEPTED),
        _ => Err(trouble(&answer)),
    }
}

/// The JWT that asks for a token (RFC 7523), signed with RS256. By the TLS library's own signer: the one of the access
/// tokens reads PEM files only with a second ASN.1 library.
fn assertion(key: &Key, token_uri: &str, now: DateTime<Utc>) -> Option<String> {
    let head = json!({ "alg": "RS256", "typ": "JWT", "kid": key.private_key_id });
    let issued_at = now.timestamp();
    let claims = json!({
        "iss": key.client_email, "scope": SCOPE, "aud": token_uri, "iat": issued_at, "exp": issued_at + SIGNED_FOR,
    });
    let part = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let signed = format!("{}.{}", part(head), part(claims));
    let private_key = PrivateKeyDer::from_pem_slice(key.private_key.as_bytes()).ok()?;
    let signer = ring::sign::any_supported_type(&private_key)
        .ok()?
        .choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256])?;
    let signature = signer.sign(signed.as_bytes()).ok()?;
    Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
