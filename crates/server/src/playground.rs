//! The GraphQL playground: serves the built page that is embedded in the binary.
//!
//! Knows the addresses under `/playground` and the headers they need. Refuses to know what the page does,
//! whether it is switched on, and who is asking: it has no state and no secret.

use axum::Router;
use axum::extract::Path;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rust_embed::{EmbeddedFile, RustEmbed};

/// The output of `npm run build` in `playground/`. Plain files: they stay on the binary's read-only pages
/// and cost no memory until someone opens the playground.
#[derive(RustEmbed)]
#[folder = "playground/dist"]
struct Dist;

/// Nothing from elsewhere, no inline script. Monaco positions its lines with inline styles.
const POLICY: &str = "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; font-src 'self' data:; worker-src 'self' blob:; connect-src 'self'; \
     object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The name of a built asset contains the hash of its content.
const FOREVER: &str = "public, max-age=31536000, immutable";

/// Routes of the playground, for any state: the page at `/playground`, its files under `/playground/assets/`,
/// and the licenses of what is bundled in them.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/playground", get(page))
        .route("/playground/", get(page))
        .route("/playground/LICENSES.md", get(licenses))
        .route("/playground/assets/{file}", get(asset))
}

async fn page(request: HeaderMap) -> Response {
    respond("index.html", "no-cache", &request)
}

async fn licenses(request: HeaderMap) -> Response {
    respond("LICENSES.md", "no-cache", &request)
}

async fn asset(Path(file): Path<String>, request: HeaderMap) -> Response {
    // A debug build reads from the disk, where an encoded `../` would lead to another file.
    if file.contains(['/', '\\']) {
        return StatusCode::NOT_FOUND.into_response();
    }
    respond(&format!("assets/{file}"), FOREVER, &request)
}

fn respond(path: &str, cache: &'static str, request: &HeaderMap) -> Response {
    let Some(EmbeddedFile { data, metadata }) = Dist::get(path) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    // Weak, because a compressed answer carries the same tag.
    let tag = format!("W/\"{}\"", hex::encode(metadata.sha256_hash()));
    let headers = [
        (CACHE_CONTROL, cache),
        (CONTENT_SECURITY_POLICY, POLICY),
        (ETAG, &tag),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    if has_tag(request, &tag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, [(CONTENT_TYPE, content_type(path))], data).into_response()
}

/// Whether `If-None-Match` names this tag: a list, compared weakly (RFC 9110, 13.1.2).
fn has_tag(request: &HeaderMap, tag: &str) -> bool {
    let opaque = tag.trim_start_matches("W/");
    request
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|candidate| candidate == "*" || candidate.trim_start_matches("W/") == opaque)
}

/// The types that the build emits; `every_built_file_has_a_content_type` notices a new one.
fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("css") => "text/css; charset=utf-8",
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("md") => "text/plain; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("ttf") => "font/ttf",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn fetch(path: &str, if_none_match: Option<&str>) -> Response {
        let mut request = Request::get(path);
        if let Some(tag) = if_none_match {
            request = request.header(IF_NONE_MATCH, tag);
        }
        router::<()>().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    fn header(response: &Response, name: axum::http::HeaderName) -> &str {
        response.headers().get(name).unwrap().to_str().unwrap()
    }

    async fn text(response: Response) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[test]
    fn every_built_file_has_a_content_type() {
        for path in Dist::iter() {
            assert_ne!(content_type(&path), "application/octet-stream", "{path}");
        }
    }

    #[tokio::test]
    async fn page_is_revalidated_and_fenced_in() {
        for path in ["/playground", "/playground/"] {
            let response = fetch(path, None).await;
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(header(&response, CONTENT_TYPE), "text/html; charset=utf-8");
            assert_eq!(header(&response, CACHE_CONTROL), "no-cache");
            assert_eq!(header(&response, REFERRER_POLICY), "no-referrer");
            assert_eq!(header(&response, X_CONTENT_TYPE_OPTIONS), "nosniff");
            assert!(header(&response, CONTENT_SECURITY_POLICY).contains("script-src 'self';"));
        }
    }

    #[tokio::test]
    async fn page_runs_no_inline_script_and_names_nothing_outside() {
        let page = text(fetch("/playground", None).await).await;
        assert!(!page.contains("://"), "{page}");
        for tag in page.split("<script").skip(1) {
            assert!(tag.contains(" src=\"/playground/assets/"), "{tag}");
            assert!(tag.contains("></script>"), "{tag}");
        }
    }

    #[tokio::test]
    async fn every_file_the_page_names_is_served_forever() {
        let page = text(fetch("/playground", None).await).await;
        let named: Vec<_> =
            page.split('"').filter(|value| value.starts_with("/playground/assets/")).collect();
        assert!(named.len() >= 2, "{page}");
        for path in named {
            let response = fetch(path, None).await;
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            assert_eq!(header(&response, CACHE_CONTROL), FOREVER);
            assert_ne!(header(&response, CONTENT_TYPE), "application/octet-stream", "{path}");
        }
    }

    #[tokio::test]
    async fn licenses_of_the_bundle_are_readable() {
        let response = fetch("/playground/LICENSES.md", None).await;
        assert_eq!(header(&response, CONTENT_TYPE), "text/plain; charset=utf-8");
        assert!(text(response).await.contains("## graphiql - 5."));
    }

    #[tokio::test]
    async fn known_tag_is_answered_without_a_body() {
        let tag = header(&fetch("/playground", None).await, ETAG).to_owned();
        let strong = tag.trim_start_matches("W/");
        for value in [tag.as_str(), strong, "*", &format!("\"other\", {tag}")] {
            let response = fetch("/playground", Some(value)).await;
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{value}");
            assert_eq!(header(&response, CACHE_CONTROL), "no-cache");
            assert_eq!(text(response).await, "");
        }
        assert_eq!(fetch("/playground", Some("\"other\"")).await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn nothing_else_is_found() {
        for path in [
            "/playground/assets/none.js",
            "/playground/assets/../index.html",
            "/playground/assets/..%2Findex.html",
            "/playground/assets/..%2F..%2Fpackage.json",
            "/playground/index.html",
            "/playground/assets/",
        ] {
            assert_eq!(fetch(path, None).await.status(), StatusCode::NOT_FOUND, "{path}");
        }
    }
}
