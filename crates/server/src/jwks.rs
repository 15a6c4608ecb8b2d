//! `/.well-known/jwks.json`: the keys with which other services check workspace tokens (RFC 7517, and RFC 8037 for Ed25519).

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use guildhall_persistence::{Db, workspace_tokens};
use serde_json::json;

/// `/.well-known/jwks.json`.
pub fn router(db: Db) -> Router {
    Router::new().route("/.well-known/jwks.json", get(keys)).with_state(db)
}

async fn keys(State(db): State<Db>) -> Response {
    let published = match workspace_tokens::published(&db).await {
        Ok(published) => published,
        Err(fault) => {
            tracing::error!(%fault, "the keys of workspace tokens could not be read");
            return (StatusCode::SERVICE_UNAVAILABLE, "try again\n").into_response();
        }
    };
    let keys: Vec<_> = published
        .iter()
        .map(|key| {
            json!({
                "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": key.id,
                "x": URL_SAFE_NO_PAD.encode(key.key),
            })
        })
        .collect();
    // A verifier asks again when it meets a key it does not know, and must not get an old answer then.
    ([(header::CACHE_CONTROL, "no-cache")], Json(json!({ "keys": keys }))).into_response()
}
