//! `/reset` and `/email`: what the links in mails about one's own account open.
//! Knows which refusal belongs beside which field; refuses to know what a link is bound to. Looking at a page changes
//! nothing, since programs look at the links in mails too.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{RawQuery, State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use guildhall_domain::{access::Open, recovery::ResetPasswordCode, refusal::Refusal, text::Email};
use guildhall_persistence::{email_changes, password_resets};

use super::{Form, Outcome, Trouble, Visitor, Web, invitation::unmet, refusals, to_the_end};
use crate::pages::RecoveryPage;

/// The most of a password that is looked at.
const MAX_PASSWORD_BYTES: usize = 4096;

#[expect(
    clippy::disallowed_methods,
    reason = "the secret of the mailed link is required, or nothing is told"
)]
fn holder() -> Open {
    Open::because("guarded by the secret of the mailed link")
}

fn invalid(again: bool) -> Outcome {
    Ok((StatusCode::NOT_FOUND, RecoveryPage::Invalid { again }.into()))
}

pub(super) async fn show_reset(
    State(web): State<Arc<Web>>,
    visitor: Visitor,
    RawQuery(query): RawQuery,
) -> Response {
    let query = Form::parse(query.unwrap_or_default().as_bytes());
    let token = query.get("token");
    let outcome = async {
        if token.is_empty() {
            let page = RecoveryPage::Ask { email: String::new(), errors: Vec::new() };
            return Ok((StatusCode::OK, page.into()));
        }
        web.guard_token(&visitor.device)?;
        if !password_resets::is_valid(&web.db, &holder(), token).await? {
            return invalid(true);
        }
        let page = RecoveryPage::Reset { token: token.to_owned(), errors: Vec::new() };
        Ok((StatusCode::OK, page.into()))
    };
    web.respond(&visitor.request_id, outcome.await)
}

pub(super) async fn reset(
    State(web): State<Arc<Web>>,
    visitor: Visitor,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let request_id = visitor.request_id.clone();
    let submission = {
        let web = Arc::clone(&web);
        async move {
            let form = Form::read(&headers, body)?;
            match form.get("intent") {
                "ask" => ask(&web, &visitor, form.get("email")).await,
                "reset" => set_password(&web, &visitor, &form).await,
                _ => Err(no_button()),
            }
        }
    };
    web.respond(&request_id, to_the_end(submission).await)
}

fn no_button() -> Trouble {
    Trouble::refused(
        StatusCode::BAD_REQUEST,
        "The form does not say what to do",
        "Go back and use one of its buttons.",
    )
}

async fn ask(web: &Web, visitor: &Visitor, typed: &str) -> Outcome {
    let again = |status, errors| Ok((status, RecoveryPage::Ask { email: typed.to_owned(), errors }.into()));
    let email = match Email::parse(typed) {
        Ok(email) => email,
        Err(fault) => return again(StatusCode::UNPROCESSABLE_ENTITY, vec![format!("The address {fault}.")]),
    };
    if let Err(wait) = web.throttle.account_mail(visitor.device.ip.as_deref(), email.as_str()) {
        return again(StatusCode::TOO_MANY_REQUESTS, vec![wait.to_string()]);
    }
    match password_resets::request(&web.db, &holder(), &email).await {
        Ok(()) => Ok((StatusCode::OK, RecoveryPage::Asked.into())),
        Err(error) => {
            let errors = refusals(error)?.into_iter().map(|refusal| refusal.message).collect();
            again(StatusCode::UNPROCESSABLE_ENTITY, errors)
        }
    }
}

async fn set_password(web: &Web, visitor: &Visitor, form: &Form) -> Outcome {
    web.guard_token(&visitor.device)?;
    let (token, password) = (form.get("token"), form.get("password"));
    let password = password.get(..MAX_PASSWORD_BYTES).unwrap_or(password);
    match password_resets::reset(&web.db, &holder(), token, password, &visitor.device).await {
        Ok(()) => Ok((StatusCode::OK, RecoveryPage::Done { app_url: web.app_url.clone() }.into())),
        Err(error) => {
            let mut errors = Vec::new();
            for Refusal { code, message, detail, .. } in refusals(error)? {
                match code {
                    ResetPasswordCode::LinkInvalid => return invalid(true),
                    ResetPasswordCode::WeakPassword | ResetPasswordCode::InvalidInput => {
                        errors.extend(unmet(detail, message));
                    }
                }
            }
            let page = RecoveryPage::Reset { token: token.to_owned(), errors };
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page.into()))
        }
    }
}

pub(super) async fn show_email(
    State(web): State<Arc<Web>>,
    visitor: Visitor,
    RawQuery(query): RawQuery,
) -> Response {
    let query = Form::parse(query.unwrap_or_default().as_bytes());
    let outcome = async {
        web.guard_token(&visitor.device)?;
        let token = query.get("token");
        let Some(change) = email_changes::by_token(&web.db, &holder(), token).await? else {
            return invalid(false);
        };
        let page = RecoveryPage::Email {
            token: token.to_owned(),
            current_email: change.email,
            new_email: change.new_email,
        };
        Ok((StatusCode::OK, page.into()))
    };
    web.respond(&visitor.request_id, outcome.await)
}

pub(super) async fn change_email(
    State(web): State<Arc<Web>>,
    visitor: Visitor,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let request_id = visitor.request_id.clone();
    let submission = {
        let web = Arc::clone(&web);
        async move {
            let form = Form::read(&headers, body)?;
            web.guard_token(&visitor.device)?;
            let token = form.get("token");
            match form.get("intent") {
                "confirm" => match email_changes::confirm(&web.db, &holder(), token).await {
                    Ok(change) => {
                        let page = RecoveryPage::Confirmed {
                            changed: change.is_done(),
                            other_email: if change.is_new { change.email } else { change.new_email.clone() },
                            new_email: change.new_email,
                            app_url: web.app_url.clone(),
                        };
                        Ok((StatusCode::OK, page.into()))
                    }
                    Err(error) => refusals(error).and_then(|_| invalid(false)),
                },
                "cancel" => match email_changes::cancel(&web.db, &holder(), token).await {
                    Ok(()) => Ok((StatusCode::OK, RecoveryPage::Stopped.into())),
                    Err(error) => refusals(error).and_then(|_| invalid(false)),
                },
                _ => Err(no_button()),
            }
        }
    };
    web.respond(&request_id, to_the_end(submission).await)
}
