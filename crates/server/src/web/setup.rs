//! `/setup`: makes the first account for whoever holds the one-time link.
//! Knows which refusal belongs beside which field; refuses to know what setting up makes.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{RawQuery, State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use guildhall_domain::{
    access::Open,
    accounts::SetUpCode,
    refusal::Refusal,
    text::{DisplayName, Email, TextFault},
};
use guildhall_persistence::{accounts, instance};

use super::{Form, Outcome, Trouble, Visitor, Web, invitation::unmet, refusals, to_the_end};
use crate::pages::{SetupForm, SetupPage};

pub(super) async fn show(
    State(web): State<Arc<Web>>,
    visitor: Visitor,
    RawQuery(query): RawQuery,
) -> Response {
    let query = Form::parse(query.unwrap_or_default().as_bytes());
    let token = query.get("token");
    let outcome = async {
        if let Some((status, page)) = closed(&web, &visitor, token).await? {
            return Ok((status, page.into()));
        }
        let form = SetupForm { action: "/setup".into(), token: token.into(), ..SetupForm::default() };
        Ok((StatusCode::OK, SetupPage::Form(Box::new(form)).into()))
    };
    web.respond(&visitor.request_id, outcome.await)
}

pub(super) async fn submit(
    State(web): State<Arc<Web>>,
    visitor: Visitor,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let request_id = visitor.request_id.clone();
    let submission = {
        let web = Arc::clone(&web);
        async move { set_up(&web, &visitor, &Form::read(&headers, body)?).await }
    };
    web.respond(&request_id, to_the_end(submission).await)
}

/// The page that stands here instead of the form: somebody was first, or the link is wrong.
async fn closed(
    web: &Web,
    visitor: &Visitor,
    token: &str,
) -> Result<Option<(StatusCode, SetupPage)>, Trouble> {
    if instance::is_set_up(&web.db).await? {
        return Ok(Some((StatusCode::OK, SetupPage::AlreadyDone { app_url: web.app_url.clone() })));
    }
    web.guard_token(&visitor.device)?;
    let right = web.db.keys().is_setup_token(token);
    Ok((!right).then_some((StatusCode::FORBIDDEN, SetupPage::Invalid)))
}

async fn set_up(web: &Web, visitor: &Visitor, form: &Form) -> Outcome {
    let token = form.get("token");
    if let Some((status, page)) = closed(web, visitor, token).await? {
        return Ok((status, page.into()));
    }
    let mut shown = SetupForm {
        action: "/setup".into(),
        token: token.into(),
        display_name: form.get("display_name").into(),
        email: form.get("email").into(),
        organization_name: form.get("organization_name").into(),
        ..SetupForm::default()
    };
    let again = |shown| Ok((StatusCode::UNPROCESSABLE_ENTITY, SetupPage::Form(Box::new(shown)).into()));
    let organization = read(
        "The organization",
        DisplayName::parse(&shown.organization_name),
        &mut shown.organization_name_errors,
    );
    let name = read("Your name", DisplayName::parse(&shown.display_name), &mut shown.display_name_errors);
    let email = read("The address", Email::parse(&shown.email), &mut shown.email_errors);
    let (Some(organization), Some(display_name), Some(email)) = (organization, name, email) else {
        return again(shown);
    };
    let new = accounts::NewUser { email, display_name, password: form.get("password").to_owned() };
    #[expect(clippy::disallowed_methods, reason = "nobody has an account yet; the link's secret is required")]
    let proof = Open::because("guarded by the secret of the set-up link");
    match accounts::set_up(&visitor.db(web), &proof, token, &new, &organization, &visitor.device).await {
        Ok(made) => {
            web.end_session(visitor, made.session.actor).await;
            let page = SetupPage::Done {
                email: made.user.email,
                organization_name: organization.into_string(),
                app_url: web.app_url.clone(),
            };
            Ok((StatusCode::OK, page.into()))
        }
        Err(error) => {
            for Refusal { code, message, detail, .. } in refusals(error)? {
                match code {
                    SetUpCode::SetupDone => {
                        let page = SetupPage::AlreadyDone { app_url: web.app_url.clone() };
                        return Ok((StatusCode::OK, page.into()));
                    }
                    SetUpCode::LinkInvalid => return Ok((StatusCode::FORBIDDEN, SetupPage::Invalid.into())),
                    SetUpCode::WeakPassword => shown.password_errors = unmet(detail, message),
                    SetUpCode::NameUnavailable => shown.organization_name_errors.push(message),
                    SetUpCode::InvalidInput => shown.alert = Some(message),
                }
            }
            again(shown)
        }
    }
}

/// The parsed field; its fault goes beside it.
fn read<T>(name: &str, parsed: Result<T, TextFault>, errors: &mut Vec<String>) -> Option<T> {
    parsed.map_err(|fault| errors.push(format!("{name} {fault}."))).ok()
}
