//! Top-level errors: each with `extensions.code` from a fixed set, and nothing internal.

use std::sync::Arc;

use async_graphql::{Context, Error, ErrorExtensions};
use guildhall_domain::{
    access::{Demand, Denied},
    page::PageFault,
};
use guildhall_persistence::{Fault, ReadError};

use crate::throttle::Wait;

/// The id of the request, shown in answers and written to the log.
#[derive(Clone, Debug)]
pub struct RequestId(pub Arc<str>);

/// A GraphQL error with a code.
pub(crate) fn coded(code: &'static str, message: impl Into<String>) -> Error {
    Error::new(message).extend_with(|_, extensions| extensions.set("code", code))
}

/// Tried too often; the extension says when to try again.
pub(crate) fn too_often(wait: Wait) -> Error {
    coded("RATE_LIMITED", wait).extend_with(|_, extensions| extensions.set("retryAfterSeconds", wait.seconds))
}

/// The argument cannot be used; the message names it.
pub(crate) fn bad_input(message: impl Into<String>) -> Error {
    coded("BAD_USER_INPUT", message)
}

/// Nobody is signed in, or not any more.
pub(crate) fn unauthenticated() -> Error {
    coded("UNAUTHENTICATED", "Sign in: this needs a valid access token.")
}

/// What does not exist and what may not be seen answer alike.
pub(crate) fn not_found() -> Error {
    coded("NOT_FOUND", "There is no such object, or you may not see it.")
}

fn has_code(error: &Error, wanted: &str) -> bool {
    let code = error.extensions.as_ref().and_then(|extensions| extensions.get("code"));
    code == Some(&async_graphql::Value::from(wanted))
}

/// Whether the error is [`not_found`].
pub(crate) fn is_not_found(error: &Error) -> bool {
    has_code(error, "NOT_FOUND")
}

/// Whether the caller lacks a permission.
pub(crate) fn is_forbidden(error: &Error) -> bool {
    has_code(error, "FORBIDDEN")
}

/// Whether the organization demands something of the caller first.
pub(crate) fn is_demanded(error: &Error) -> bool {
    Demand::ALL.iter().any(|demand| has_code(error, demanded(*demand).0))
}

/// The code of what is demanded, and what to do.
fn demanded(demand: Demand) -> (&'static str, &'static str) {
    match demand {
        Demand::SecondFactor => (
            "SECOND_FACTOR_REQUIRED",
            "This organization demands a second factor of its people. Set one up by `enrollSecondFactor` and \
             `confirmSecondFactor`, then go on.",
        ),
        Demand::SingleSignOn => (
            "SINGLE_SIGN_ON_REQUIRED",
            "This organization lets in only who comes by its identity provider. Sign in by `startSingleSignOn`, with the slug of \
             the organization, then go on.",
        ),
        Demand::AnotherSignIn => (
            "ANOTHER_SIGN_IN_REQUIRED",
            "You came by the identity provider of another organization, which opens nothing here. Sign in with your password, or \
             by this organization's own provider, then go on.",
        ),
    }
}

/// Writes the fault to the log under the request's id and tells the caller only that id.
pub(crate) fn internal(ctx: &Context<'_>, fault: &Fault) -> Error {
    let request_id = ctx.data_opt::<RequestId>().map_or("-", |id| &*id.0);
    tracing::error!(request_id, %fault, "a request failed");
    Error::new("Something went wrong here. It is logged under this request id.").extend_with(
        |_, extensions| {
            extensions.set("code", "INTERNAL");
            extensions.set("requestId", request_id);
        },
    )
}

/// What a machine is told whose key or token does not work any more.
const KEY_ENDED: &str =
    "This key or token does not work: it was revoked or rotated, has expired, or its workspace is archived.";

/// Why nothing changes in an archived workspace.
pub(crate) const ARCHIVED: &str = "The workspace is archived and so read-only. Restore it first.";

pub(crate) fn denied(denied: Denied) -> Error {
    match denied {
        Denied::SignedOut => unauthenticated(),
        Denied::KeyEnded => coded("UNAUTHENTICATED", KEY_ENDED),
        Denied::NoPerson => {
            coded("FORBIDDEN", "This is for people: sign in as one. A key or service account cannot do it.")
        }
        Denied::NotFound => not_found(),
        Denied::Archived => coded("FORBIDDEN", ARCHIVED),
        Denied::Demanded(demand) => {
            let (code, message) = demanded(demand);
            coded(code, message)
        }
        Denied::Forbidden(permission) => {
            coded("FORBIDDEN", format!("You lack the permission {} here.", permission.name())).extend_with(
                |_, extensions| extensions.set("permission", crate::access::wire_name(permission)),
            )
        }
    }
}

pub(crate) fn read(ctx: &Context<'_>, error: ReadError) -> Error {
    match error {
        ReadError::Denied(why) => denied(why),
        ReadError::Fault(fault) => internal(ctx, &fault),
    }
}

pub(crate) fn page(fault: &PageFault) -> Error {
    bad_input(format!("`{}` {}.", fault.argument, fault.message))
}
