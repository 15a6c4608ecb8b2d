//! `/sso/callback/{organization}`: where identity providers send browsers back to. Knows what a browser is told and where it goes on; what
//! the provider is asked stands in `crate::single_sign_on`. Nobody is signed in here: the browser gets a code, which is
//! good only together with what the browser that began has kept.

use std::sync::Arc;

use axum::{
    extract::{Path, RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use guildhall_domain::{
    access::Open,
    text::{Slug, TextFault},
};
use guildhall_persistence::single_sign_on;
use url::Url;

use super::{Form, Page, Trouble, Visitor, Web};
use crate::{pages::MessagePage, single_sign_on::Fault};

#[expect(
    clippy::disallowed_methods,
    reason = "the state that only the browser has is required, or nothing is told"
)]
fn holder() -> Open {
    Open::because("guarded by the state of the sign-in")
}

/// How a sign-in went at the provider.
enum Told {
    Code(String),
    Error(&'static str, &'static str),
}

const REFUSED: Told = Told::Error("PROVIDER_REFUSED", "The identity provider did not sign you in.");
const FAILED: Told = Told::Error(
    "PROVIDER_FAILED",
    "The identity provider does not answer as it should. Try again, or tell an admin of your organization.",
);
const UNVERIFIED: Told = Told::Error(
    "EMAIL_UNVERIFIED",
    "The identity provider tells no e-mail address of yours that it has verified. Tell an admin of your organization.",
);

pub(super) async fn come_back(
    State(web): State<Arc<Web>>,
    visitor: Visitor,
    Path(organization): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = Form::parse(query.unwrap_or_default().as_bytes());
    let (redirect_to, told) = match ask(&web, &visitor, &organization, &query).await {
        Ok(done) => done,
        Err(trouble) => return web.respond(&visitor.request_id, Err(trouble)),
    };
    if let Some(mut url) = redirect_to.and_then(|url| Url::parse(&url).ok()) {
        let (name, value) = match &told {
            Told::Code(code) => ("code", code.as_str()),
            Told::Error(code, _) => ("error", *code),
        };
        url.query_pairs_mut().append_pair(name, value);
        let headers = [
            (header::LOCATION, url.as_str()),
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
        ];
        return (StatusCode::SEE_OTHER, headers).into_response();
    }
    let (status, title, sentences) = match told {
        Told::Code(code) => (
            StatusCode::OK,
            "Almost signed in",
            vec![
                "Enter this code where you began to sign in, within two minutes:".to_owned(),
                code,
                "If you did not begin, or somebody asks you for it, close this page: they want to get into your \
                 account."
                    .to_owned(),
            ],
        ),
        Told::Error(_, why) => (StatusCode::BAD_GATEWAY, "You are not signed in", vec![why.to_owned()]),
    };
    let page = MessagePage { title: title.to_owned(), sentences, reference: None, home_url: None };
    web.respond(&visitor.request_id, Ok((status, Page::Message(page))))
}

/// Where the browser goes on, and with what.
async fn ask(
    web: &Web,
    visitor: &Visitor,
    organization: &str,
    query: &Form,
) -> Result<(Option<String>, Told), Trouble> {
    web.guard_token(&visitor.device)?;
    // PostgreSQL takes no NUL, not even to compare.
    let returned = match Slug::parse(organization) {
        Ok(_) | Err(TextFault::Reserved(_)) => {
            single_sign_on::come_back(&web.db, &holder(), organization, query.get("state")).await?
        }
        Err(_) => None,
    };
    let Some(returned) = returned else {
        return Err(Trouble::refused(
            StatusCode::NOT_FOUND,
            "This sign-in is over",
            "It was finished before, or took too long. Begin anew where you came from.",
        ));
    };
    let (redirect_to, code) = (returned.redirect_to.clone(), query.get("code"));
    if code.is_empty() || !query.get("error").is_empty() {
        return Ok((redirect_to, REFUSED));
    }
    let issuer = Some(query.get("iss")).filter(|issuer| !issuer.is_empty());
    let assertion = match web.single_sign_on.ask(&returned, code, issuer, web.db.now()).await {
        Ok(assertion) => assertion,
        Err(fault) => {
            tracing::warn!(request_id = %visitor.request_id, issuer = returned.issuer, %fault, "no sign-in by an identity provider");
            return Ok((redirect_to, if matches!(fault, Fault::NoEmail) { UNVERIFIED } else { FAILED }));
        }
    };
    let code = single_sign_on::vouch(&web.db, &holder(), &returned, &assertion).await?;
    Ok((redirect_to, code.map_or(FAILED, Told::Code)))
}
