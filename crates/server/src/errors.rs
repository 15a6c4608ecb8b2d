//! What a client may read of a failure: codes, masking, the request id. Knows how async-graphql words its own errors;
//! refuses to know transports and status codes.

use async_graphql::{ErrorExtensionValues, PathSegment, Pos, Response, ServerError, Value};

use chrono::SecondsFormat;
use guildhall_domain::quotas::Exceeded;
use guildhall_graphql::{TOO_COMPLEX, TOO_DEEP};

use crate::{limits::Limits, request_id::RequestId};

/// Longest message of one error, in bytes.
const LONGEST_MESSAGE: usize = 1_000;

/// `extensions.code` of the errors that the transports make themselves. Resolvers add codes of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The credential is missing, invalid or expired.
    Unauthenticated,
    /// The credential is fine, the request is not allowed.
    Forbidden,
    /// The request or one of its values is not what was asked for.
    BadUserInput,
    /// The document does not follow GraphQL's syntax.
    ParseFailed,
    /// The document does not fit the schema.
    ValidationFailed,
    /// The document is beyond a limit.
    QueryTooComplex,
    /// Too much at once; later it may work.
    RateLimited,
    /// More operations than the quota of API calls has.
    QuotaExceeded,
    /// Only a document's name was sent, and no document is known by it.
    PersistedQueryNotFound,
    /// Only documents that the server was given beforehand are run, and this is none of them.
    DocumentNotTrusted,
    /// The idempotency key belongs to another request.
    IdempotencyKeyReused,
    /// A request with the idempotency key is under way.
    IdempotencyKeyInUse,
    /// A request with the idempotency key was carried out, and its answer was lost.
    IdempotencyAnswerLost,
    /// A fault of the server, told by its request id only.
    Internal,
}

impl Code {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Forbidden => "FORBIDDEN",
            Self::BadUserInput => "BAD_USER_INPUT",
            Self::ParseFailed => "GRAPHQL_PARSE_FAILED",
            Self::ValidationFailed => "GRAPHQL_VALIDATION_FAILED",
            Self::QueryTooComplex => "QUERY_TOO_COMPLEX",
            Self::RateLimited => "RATE_LIMITED",
            Self::QuotaExceeded => "QUOTA_EXCEEDED",
            Self::PersistedQueryNotFound => "PERSISTED_QUERY_NOT_FOUND",
            Self::DocumentNotTrusted => "DOCUMENT_NOT_TRUSTED",
            Self::IdempotencyKeyReused => "IDEMPOTENCY_KEY_REUSED",
            Self::IdempotencyKeyInUse => "IDEMPOTENCY_KEY_IN_USE",
            Self::IdempotencyAnswerLost => "IDEMPOTENCY_ANSWER_LOST",
            Self::Internal => "INTERNAL",
        }
    }
}

/// An error with its code.
pub fn coded(code: Code, message: impl Into<String>, pos: Option<Pos>) -> ServerError {
    let mut error = ServerError::new(message, pos);
    set(&mut error, "code", code.as_str());
    error
}

/// The error for a fault: says nothing but where the log has more.
pub fn internal(request_id: &RequestId) -> ServerError {
    let message =
        format!("Something went wrong on the server. The log has it under the request id {request_id}.");
    coded(Code::Internal, message, None)
}

/// The error for a machine whose workspace has used up its calls.
pub fn quota_exceeded(exceeded: &Exceeded) -> ServerError {
    let mut error = coded(Code::QuotaExceeded, exceeded.message(), None);
    set(&mut error, "metric", exceeded.metric.word());
    set(&mut error, "scope", exceeded.scope.word());
    let extensions = error.extensions.get_or_insert_with(ErrorExtensionValues::default);
    extensions.set("limit", exceeded.limit);
    extensions.set("used", exceeded.used);
    let resets_at = exceeded.resets_at.map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true));
    extensions.set("resetsAt", resets_at);
    error
}

/// Whether it says that nobody was let in.
pub fn is_unauthenticated(error: &ServerError) -> bool {
    let code = error.extensions.as_ref().and_then(|extensions| extensions.get("code"));
    code == Some(&Value::from(Code::Unauthenticated.as_str()))
}

/// True when the answer to a query or mutation was made before any resolver ran: async-graphql gives a path to every
/// error of a root field. Not for events of subscriptions, whose errors may lack one.
pub fn never_executed(response: &Response) -> bool {
    response.data == Value::Null
        && !response.errors.is_empty()
        && response.errors.iter().all(|error| error.path.is_empty() && error.source.is_none())
}

/// Completes the errors of a request that never reached execution: code, request id, at most `limits.errors`.
pub fn finish_refusal(errors: &mut Vec<ServerError>, limits: &Limits, request_id: &RequestId) {
    for error in errors.iter_mut().filter(|error| !has_code(error)) {
        unquote(error);
        classify(error, limits);
    }
    complete(errors, limits, request_id);
}

/// Completes the errors of an executed operation. One without a code is a fault: it is logged and masked.
pub fn finish_execution(errors: &mut Vec<ServerError>, limits: &Limits, request_id: &RequestId) {
    for error in errors.iter_mut().filter(|error| !has_code(error)) {
        // The only uncoded errors that async-graphql makes for a client's mistake, and the only ones without a
        // source that start so: values that passed validation and did not parse.
        let unparsed = ["Failed to parse \"", "Expected input type \""];
        if error.source.is_none() && unparsed.iter().any(|start| error.message.starts_with(start)) {
            unquote(error);
            set(error, "code", Code::BadUserInput.as_str());
            continue;
        }
        tracing::error!(%request_id, path = %path(error), message = %error.message, "a resolver failed");
        let masked = internal(request_id);
        error.message = masked.message;
        error.extensions = masked.extensions;
        error.source = None;
    }
    complete(errors, limits, request_id);
}

/// Takes the client's values out of async-graphql's messages: clients log messages, and a value that stands in the wrong
/// place may be a secret.
fn unquote(error: &mut ServerError) {
    const UNKNOWN: &str = " does not contain the value \"";
    const UNEXPECTED: &str = "\", found ";
    let message = &mut error.message;
    // The name of a permission is no secret, and whoever edits a role has to find the wrong one among many.
    const NAMED: &str = "enumeration type \"Permission\"";
    if let Some(at) = message.find(UNKNOWN) {
        if message[..at].ends_with(NAMED) {
            return;
        }
        message.truncate(at);
        message.push_str(" does not contain the given value");
    } else if message.starts_with("Expected input type \"")
        && let Some(at) = message.find(UNEXPECTED)
    {
        message.truncate(at);
        message.push_str("\", found something else.");
    }
}

/// Bounds the errors in number and length, as async-graphql's messages quote names of any size, and adds the id.
fn complete(errors: &mut Vec<ServerError>, limits: &Limits, request_id: &RequestId) {
    errors.truncate(limits.errors);
    for error in errors {
        if error.message.len() > LONGEST_MESSAGE {
            error.message.truncate(error.message.floor_char_boundary(LONGEST_MESSAGE));
            error.message.push('…');
        }
        set(error, "requestId", request_id.as_str());
    }
}

/// async-graphql's limits come as plain sentences without the bound.
fn classify(error: &mut ServerError, limits: &Limits) {
    let bound = match error.message.as_str() {
        TOO_COMPLEX => Some(format!("The query is too complex: its limit is {} points.", limits.complexity)),
        TOO_DEEP => {
            Some(format!("The query is nested too deep: its limit is {} levels of fields.", limits.depth))
        }
        message if message.contains("cannot be greater than `") => Some(format!("{message}.")),
        _ => None,
    };
    let code = if bound.is_some() { Code::QueryTooComplex } else { Code::ValidationFailed };
    if let Some(message) = bound {
        error.message = message;
    }
    set(error, "code", code.as_str());
}

/// Whether the error has that code.
pub fn is(error: &ServerError, code: Code) -> bool {
    let told = error.extensions.as_ref().and_then(|extensions| extensions.get("code"));
    told == Some(&Value::from(code.as_str()))
}

fn has_code(error: &ServerError) -> bool {
    error.extensions.as_ref().is_some_and(|extensions| extensions.get("code").is_some())
}

fn set(error: &mut ServerError, key: &str, value: &str) {
    error.extensions.get_or_insert_with(ErrorExtensionValues::default).set(key, value);
}

fn path(error: &ServerError) -> String {
    let segment = |segment: &PathSegment| match segment {
        PathSegment::Field(name) => name.clone(),
        PathSegment::Index(index) => index.to_string(),
    };
    error.path.iter().map(segment).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_tells_what_was_expected_and_not_what_was_given() {
        for (message, told) in [
            (
                r#"Expected input type "CredentialFieldInput", found "hunter2". (occurred while parsing "[A!]")"#,
                r#"Expected input type "CredentialFieldInput", found something else."#,
            ),
            (
                r#"Expected input type "String", found {a: ["", found hunter2"]}."#,
                r#"Expected input type "String", found something else."#,
            ),
            (
                r#"Invalid value for argument "input.type", enumeration type "Kind" does not contain the value "hunter2""#,
                r#"Invalid value for argument "input.type", enumeration type "Kind" does not contain the given value"#,
            ),
            (
                r#"Invalid value for argument "input.permissions.1", enumeration type "Permission" does not contain the value "ALL""#,
                r#"Invalid value for argument "input.permissions.1", enumeration type "Permission" does not contain the value "ALL""#,
            ),
            (r#"Unknown argument "first" on field "b"."#, r#"Unknown argument "first" on field "b"."#),
        ] {
            let mut errors = vec![ServerError::new(message, None)];
            finish_refusal(&mut errors, &Limits::default(), &RequestId::fresh());
            assert_eq!(errors[0].message, told);
        }
    }
}
