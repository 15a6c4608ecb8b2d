//! The id that ties an answer to its log lines. Knows the header; refuses to know what the request does.

use std::{fmt, sync::Arc};

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};
use uuid::Uuid;

/// Carries the id in requests and in responses.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");

const LONGEST: usize = 64;

/// Id of one HTTP request, or of one operation on a socket: 1–64 characters of `[A-Za-z0-9_-]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// A fresh id (UUIDv7).
    #[expect(clippy::disallowed_methods, reason = "an id of a request is no id of the domain")]
    pub fn fresh() -> Self {
        Self(Uuid::now_v7().to_string().into())
    }

    /// An id chosen by the client or by a proxy; none when it is empty, too long or has other characters.
    pub fn accept(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        ((1..=LONGEST).contains(&text.len()) && text.bytes().all(plain)).then(|| Self(text.into()))
    }

    /// The id as text that can be kept.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Outermost middleware: takes over a usable `x-request-id` or makes one, leaves it in the request's extensions
/// and echoes it in the response.
pub async fn assign(mut request: Request, next: Next) -> Response {
    let given =
        request.headers().get(HEADER).and_then(|value| value.to_str().ok()).and_then(RequestId::accept);
    let id = given.unwrap_or_else(RequestId::fresh);
    request.extensions_mut().insert(id.clone());
    let mut response = next.run(request).await;
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(HEADER, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_ids_of_64_characters_are_taken_over() {
        assert!(RequestId::accept("abc_DEF-123").is_some());
        assert!(RequestId::accept(&"a".repeat(64)).is_some());
        for bad in ["", "a b", "a\nb", "ä", "a;b", &"a".repeat(65)] {
            assert!(RequestId::accept(bad).is_none(), "{bad:?}");
        }
    }
}
