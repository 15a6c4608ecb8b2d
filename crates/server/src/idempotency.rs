//! The `Idempotency-Key` header: a mutation that is sent again is carried out once, and answered alike. Knows the header and
//! how long to wait for another that is under way; refuses to know what is kept, and where.
//!
//! The header follows draft-ietf-httpapi-idempotency-key-header: a text in quotes; without them it is taken as well.

use std::{sync::Arc, time::Duration};

use async_graphql::Value;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use guildhall_persistence::{
    ReadError,
    idempotency::{self, ANSWERS_LAST, Claim, Known, Once},
};
use tokio::time::{Instant, sleep};

use crate::{
    errors::{self, Code, coded},
    gateway::{Body, Call, Gateway, Payload},
    request_id::RequestId,
};

/// The request's header.
pub const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Stands in an answer that is given again.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Longest key, in bytes.
const LONGEST: usize = 255;
/// How long a request waits for another with the same key.
const PATIENCE: Duration = Duration::from_secs(30);

/// The key of a request; `Err`: what is wrong with it.
pub fn key_of(headers: &HeaderMap) -> Result<Option<String>, String> {
    let wrong = || {
        format!(
            "`Idempotency-Key` must be given once, with 1 to {LONGEST} visible ASCII characters: a UUID serves well."
        )
    };
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().map_err(|_| wrong())?.trim();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
    if values.next().is_some() || !(1..=LONGEST).contains(&text.len()) || !is_plain {
        return Err(wrong());
    }
    Ok(Some(text.to_owned()))
}

/// The status of HTTP for a mutation that was not carried out because of its key.
pub fn status(payload: &Payload) -> Option<StatusCode> {
    let Payload::Refused(refusals) = payload else { return None };
    let first = refusals.first()?;
    [
        (Code::IdempotencyKeyReused, StatusCode::UNPROCESSABLE_ENTITY),
        (Code::IdempotencyKeyInUse, StatusCode::CONFLICT),
        (Code::IdempotencyAnswerLost, StatusCode::CONFLICT),
    ]
    .into_iter()
    .find_map(|(code, status)| errors::is(first, code).then_some(status))
}

/// Carries out a mutation with a key, or answers as it was answered before. On a task of its own: a client that goes away
/// leaves no key that is claimed and no change without its answer, and finds both when it comes back.
pub async fn execute(gateway: &Arc<Gateway>, call: Call, once: Once) -> Payload {
    let request_id = call.request_id().clone();
    let task = tokio::spawn({
        let gateway = Arc::clone(gateway);
        async move { execute_once(&gateway, call, once).await }
    });
    task.await.unwrap_or_else(|error| failed(gateway, &request_id, &error))
}

async fn execute_once(gateway: &Arc<Gateway>, call: Call, once: Once) -> Payload {
    let request_id = call.request_id().clone();
    let db = gateway.identify.db();
    // An answer that was given to somebody is not given to a session that ended since.
    if let Some(actor) = call.actor()
        && let Err(error) = db.let_in(actor).await
    {
        return match error {
            ReadError::Denied(_) => {
                let message = "Your session has ended. Sign in again.";
                refused(gateway, &request_id, Code::Unauthenticated, message)
            }
            ReadError::Fault(fault) => failed(gateway, &request_id, &fault),
        };
    }
    let started = Instant::now();
    let mut pause = Duration::from_millis(10);
    loop {
        match idempotency::claim(db, &once).await {
            Ok(Known::Mine(claim)) => return carry_out(gateway, call, claim).await,
            Ok(Known::Answered(answer)) => {
                return match std::str::from_utf8(&answer) {
                    Ok(json) => Payload::Replayed(json.into()),
                    Err(_) => failed(gateway, &request_id, "an answer that was kept is no text"),
                };
            }
            Ok(Known::OtherBody) => {
                let message = format!(
                    "This `Idempotency-Key` was used for another request in the last {} hours. Use a new key for a new request.",
                    ANSWERS_LAST.num_hours()
                );
                return refused(gateway, &request_id, Code::IdempotencyKeyReused, &message);
            }
            Ok(Known::AnswerLost) => {
                let message = "This request was carried out, and its answer was lost. Read what has become of it; use a new \
                               `Idempotency-Key` to do it once more.";
                return refused(gateway, &request_id, Code::IdempotencyAnswerLost, message);
            }
            Ok(Known::Underway) if started.elapsed() < PATIENCE => {
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(250));
            }
            Ok(Known::Underway) => {
                let message = "A request with this `Idempotency-Key` is being carried out. Send it again in a minute to get \
                               the answer.";
                return refused(gateway, &request_id, Code::IdempotencyKeyInUse, message);
            }
            Err(fault) => return failed(gateway, &request_id, &fault),
        }
    }
}

async fn carry_out(gateway: &Gateway, mut call: Call, claim: Claim) -> Payload {
    let claim = Arc::new(claim);
    call.claim(&claim);
    let payload = gateway.run(call).await;
    let answer = match &payload {
        Payload::Executed(response) => {
            // Who was denied, or met a fault, may send the same again once that has passed.
            if response.data == Value::Null {
                claim.passes();
            }
            // What was changed before a fault is told as that: the fault would read as if nothing had been done.
            let failed = response.errors.iter().any(|error| errors::is(error, Code::Internal));
            (!failed).then(|| serde_json::to_vec(&Body::executed(response)).ok()).flatten()
        }
        _ => {
            claim.passes();
            None
        }
    };
    if let Err(fault) = idempotency::finish(gateway.identify.db(), &claim, answer.as_deref()).await {
        tracing::error!(%fault, "the answer to a request with an idempotency key was not kept");
    }
    payload
}

fn refused(gateway: &Gateway, request_id: &RequestId, code: Code, message: &str) -> Payload {
    Payload::Refused(gateway.refusal(vec![coded(code, message, None)], request_id))
}

fn failed(gateway: &Gateway, request_id: &RequestId, fault: impl std::fmt::Display) -> Payload {
    tracing::error!(%request_id, %fault, "a request with an idempotency key failed");
    Payload::Refused(gateway.refusal(vec![errors::internal(request_id)], request_id))
}
