//! Logs. Knows their form and what each request leaves in them: never a path with a secret in it, a header or
//! a body, however much is asked for.

use std::time::Instant;

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::Response,
};
use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, filter::filter_fn, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::{
    config::{Log, LogFormat},
    request_id::RequestId,
};

/// Sends logs to standard error, in the form and with the filter of the configuration.
pub fn start(log: &Log) {
    let filter = EnvFilter::try_new(&log.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let form = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let registry = tracing_subscriber::registry().with(filter).with(filter_fn(tells_no_content));
    match log.format {
        LogFormat::Text => registry.with(form).init(),
        LogFormat::Json => registry.with(form.json()).init(),
    }
}

/// Whether it says what happens, rather than what is sent: the sockets' library logs each frame with its payload, where
/// tokens and the values of credentials stand.
fn tells_no_content(about: &Metadata<'_>) -> bool {
    let is_of_sockets = about.target().split("::").next() == Some("tungstenite");
    !is_of_sockets || *about.level() <= Level::INFO
}

/// Middleware that logs each request under its id: at `info` when it failed here, else at `debug`.
pub async fn log(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request.extensions().get::<RequestId>().cloned();
    let method = request.method().clone();
    // The route, not the path: an invitation's path holds its secret.
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let response = next.run(request).await;
    let (status, micros) = (response.status().as_u16(), started.elapsed().as_micros());
    let id = id.as_ref().map_or("-", RequestId::as_str);
    let route = route.as_deref().unwrap_or("-");
    if status >= 500 {
        tracing::error!(request_id = id, %method, route, status, micros, "request");
    } else {
        tracing::debug!(request_id = id, %method, route, status, micros, "request");
    }
    response
}
