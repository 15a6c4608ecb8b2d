//! An OpenID provider on loopback, written by hand so that it can lie.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use axum::{
    Form, Json, Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use guildhall_domain::seams::{self, Clock as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::credential_tests::serve;

/// What the provider does otherwise than it should.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Lie {
    #[default]
    None,
    /// A claim of the ID token has another value; null takes it out.
    Claim(&'static str, Value),
    /// The token is signed by nobody.
    AlgNone,
    /// It is signed with what everybody knows, the public key, as if that were a shared secret.
    PublicKeyAsSecret,
    /// It is signed with the client's secret: allowed by OpenID Connect, and taken by nobody here.
    ClientSecretAsSecret,
    /// It is signed with a key that is not published.
    UnknownKey,
    /// Its claims were changed after it was signed.
    Tampered,
    /// A field of the discovery document has another value.
    Document(&'static str, Value),
    /// Whatever it is asked, it sends somewhere else.
    Redirects(String),
    /// Its answers never end.
    Huge,
    /// It accepts requests and answers none.
    Silent,
    /// Its answers are no JSON.
    Garbage,
    /// It tells little in the token, and of another person when it is asked for more.
    OtherUser,
    /// It calls itself something else when it sends a browser back.
    OtherName,
    /// It sends browsers back with an error.
    Denies,
}

struct Key {
    id: String,
    pair: EcdsaKeyPair,
}

impl Key {
    fn new(id: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        Self { id: id.to_owned(), pair }
    }

    fn public(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id,
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]),
        })
    }
}

struct Inner {
    key: Key,
    lie: Lie,
    /// What it says of whoever signs in.
    person: Value,
    /// Whether the token has no address, which is told when it is asked.
    is_brief: bool,
    codes: HashMap<String, Value>,
    /// What was asked for, in order.
    heard: Vec<String>,
}

/// The provider.
#[derive(Clone)]
pub(super) struct Provider {
    pub(super) issuer: String,
    inner: Arc<Mutex<Inner>>,
}

pub(super) const CLIENT: &str = "guildhall & friends";
pub(super) const SECRET: &str = "s3cret: of+the/client%";

impl Provider {
    pub(super) async fn start() -> Self {
        let inner = Arc::new(Mutex::new(Inner {
            key: Key::new("first"),
            lie: Lie::None,
            person: json!({}),
            is_brief: false,
            codes: HashMap::new(),
            heard: Vec::new(),
        }));
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discover))
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .route("/keys", get(keys))
            .route("/me", get(user_info));
        let slot = Arc::new(Mutex::new(String::new()));
        let router = router.with_state((Arc::clone(&inner), Arc::clone(&slot)));
        let issuer = format!("http://127.0.0.1:{}", serve(router).await);
        slot.lock().unwrap().clone_from(&issuer);
        Self { issuer, inner }
    }

    /// From now on whoever signs in is this.
    pub(super) fn is(&self, subject: &str, email: &str) {
        self.says(json!({ "sub": subject, "email": email, "email_verified": true, "name": "Somebody New" }));
    }

    pub(super) fn says(&self, person: Value) {
        self.inner.lock().unwrap().person = person;
    }

    pub(super) fn lies(&self, lie: Lie) {
        self.inner.lock().unwrap().lie = lie;
    }

    pub(super) fn is_brief(&self) {
        self.inner.lock().unwrap().is_brief = true;
    }

    /// Signs with a new key, and publishes no other.
    pub(super) fn rotates(&self) {
        self.inner.lock().unwrap().key = Key::new("second");
    }

    /// What it was asked since it was asked for this last.
    pub(super) fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.inner.lock().unwrap().heard)
    }
}

type Shared = State<(Arc<Mutex<Inner>>, Arc<Mutex<String>>)>;

/// What stands in the way of an answer.
async fn obstacle(lie: &Lie) -> Option<Response> {
    match lie {
        Lie::Redirects(to) => Some((StatusCode::FOUND, [(header::LOCATION, to.clone())]).into_response()),
        Lie::Huge => Some("x".repeat(1024 * 1024).into_response()),
        Lie::Garbage => Some("<html>Sign in</html>".into_response()),
        Lie::Silent => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            None
        }
        _ => None,
    }
}

fn note(inner: &Mutex<Inner>, what: &str) -> Lie {
    let mut inner = inner.lock().unwrap();
    inner.heard.push(what.to_owned());
    inner.lie.clone()
}

async fn discover(State((inner, issuer)): Shared) -> Response {
    let lie = note(&inner, "discovery");
    if let Some(response) = obstacle(&lie).await {
        return response;
    }
    let issuer = issuer.lock().unwrap().clone();
    let mut document = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize?tenant=1"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"),
        "userinfo_endpoint": format!("{issuer}/me"),
        "token_endpoint_auth_methods_supported": ["private_key_jwt", "client_secret_basic"],
        "authorization_response_iss_parameter_supported": true,
    });
    if let Lie::Document(field, value) = lie {
        document[field] = value;
    }
    Json(document).into_response()
}

async fn keys(State((inner, _)): Shared) -> Response {
    let lie = note(&inner, "keys");
    if let Some(response) = obstacle(&lie).await {
        return response;
    }
    let key = inner.lock().unwrap().key.public();
    // Among others that nobody here understands.
    let odd = json!({ "kty": "NEW", "kid": "x" });
    let shared =
        json!({ "kty": "oct", "kid": "first", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode("known to all") });
    Json(json!({ "keys": [odd, shared, key] })).into_response()
}

async fn authorize(State((inner, issuer)): Shared, Query(asked): Query<HashMap<String, String>>) -> Response {
    let lie = note(&inner, "authorize");
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", CLIENT),
        ("scope", "openid email profile"),
        ("code_challenge_method", "S256"),
        ("tenant", "1"),
    ] {
        assert_eq!(asked.get(name).map(String::as_str), Some(value), "{asked:?}");
    }
    assert!(asked["state"].len() >= 43 && asked["nonce"].len() >= 43 && asked["code_challenge"].len() == 43);
    let issuer = issuer.lock().unwrap().clone();
    let name = if lie == Lie::OtherName { "https://login.other.example".to_owned() } else { issuer };
    let mut back = url::Url::parse(&asked["redirect_uri"]).unwrap();
    back.query_pairs_mut().append_pair("state", &asked["state"]).append_pair("iss", &name);
    if lie == Lie::Denies {
        back.query_pairs_mut().append_pair("error", "access_denied");
    } else {
        let mut inner = inner.lock().unwrap();
        let code = format!("code {}", inner.codes.len());
        back.query_pairs_mut().append_pair("code", &code);
        inner.codes.insert(code, json!(asked));
    }
    (StatusCode::FOUND, [(header::LOCATION, back.to_string())]).into_response()
}

async fn token(
    State((inner, issuer)): Shared,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    let lie = note(&inner, "token");
    if let Some(response) = obstacle(&lie).await {
        return response;
    }
    let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let basic = format!("Basic {}", STANDARD.encode(format!("{}:{}", encoded(CLIENT), encoded(SECRET))));
    if headers.get(header::AUTHORIZATION).is_none_or(|given| given != basic.as_str()) {
        return (StatusCode::UNAUTHORIZED, Json(json!({ "error": "invalid_client" }))).into_response();
    }
    assert_eq!(form["grant_type"], "authorization_code");
    let mut inner = inner.lock().unwrap();
    let Some(asked) = inner.codes.remove(&form["code"]) else {
        return (StatusCode::BAD_REQUEST, Json(json!({ "error": "invalid_grant" }))).into_response();
    };
    assert_eq!(asked["redirect_uri"], form["redirect_uri"]);
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&form["code_verifier"]));
    assert_eq!(asked["code_challenge"], challenge.as_str(), "PKCE");
    let now = seams::System.now().timestamp();
    let mut claims = json!({
        "iss": *issuer.lock().unwrap(), "aud": CLIENT, "nonce": asked["nonce"], "iat": now, "exp": now + 300,
    });
    let object = claims.as_object_mut().unwrap();
    for (name, value) in inner.person.as_object().unwrap() {
        if !inner.is_brief || name == "sub" {
            object.insert(name.clone(), value.clone());
        }
    }
    if let Lie::Claim(name, value) = &lie {
        match value {
            Value::Null => drop(object.remove(*name)),
            value => drop(object.insert((*name).to_owned(), value.clone())),
        }
    }
    let token = sign(&inner.key, &claims, &lie);
    Json(json!({ "id_token": token, "access_token": "opaque", "token_type": "Bearer" })).into_response()
}

fn sign(key: &Key, claims: &Value, lie: &Lie) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let with = |algorithm: &str| {
        format!("{}.{}", part(&json!({ "alg": algorithm, "kid": key.id, "typ": "JWT" })), part(claims))
    };
    let shared = |secret: &[u8]| {
        let text = with("HS256");
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag))
    };
    let by = |key: &Key, text: String| {
        let signature = key.pair.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    match lie {
        Lie::AlgNone => format!("{}.", with("none")),
        Lie::PublicKeyAsSecret => shared(key.pair.public_key().as_ref()),
        Lie::ClientSecretAsSecret => shared(SECRET.as_bytes()),
        Lie::UnknownKey => by(&Key::new("unknown"), with("ES256")),
        Lie::Tampered => {
            let signed = by(key, with("ES256"));
            let mut claims = claims.clone();
            claims["email"] = json!("ada@example.org");
            let mut parts = signed.split('.');
            let (head, _, tail) = (parts.next().unwrap(), parts.next(), parts.next().unwrap());
            format!("{head}.{}.{tail}", part(&claims))
        }
        _ => by(key, with("ES256")),
    }
}

async fn user_info(State((inner, _)): Shared, headers: HeaderMap) -> Response {
    let lie = note(&inner, "user info");
    assert_eq!(headers[header::AUTHORIZATION], "Bearer opaque");
    let mut person = inner.lock().unwrap().person.clone();
    if lie == Lie::OtherUser {
        person["sub"] = json!("somebody else");
    }
    Json(person).into_response()
}
