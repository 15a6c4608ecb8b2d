//! `/invitations/{token}`: shows an invitation to whoever holds its link, and takes the answer.
//! Knows which refusal belongs beside which field; refuses to know when an answer is allowed.
//!
//! The link is recognised before anything else is asked, so that no answer tells somebody without it whether an
//! address has an account.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{
        Path, State,
        rejection::{BytesRejection, PathRejection},
    },
    http::{HeaderMap, StatusCode},
    response::Response,
};
use chrono::SecondsFormat;
use guildhall_domain::{
    access::{Actor, Open},
    accounts::{RegisterCode, SignInCode},
    invitations::{AcceptInvitationCode, InvitationStatus},
    refusal::{Detail, FieldFault, Refusal},
    second_factor::Typed,
    text::{DisplayName, Email},
};
use guildhall_persistence::{
    accounts,
    invitations::{self, Answer, Received},
};

use super::{Form, Outcome, Trouble, Visitor, Web, refusals, to_the_end};
use crate::pages::{InvitationPage, OfferedWorkspace, PendingInvitation};

type Token = Result<Path<String>, PathRejection>;

/// The secret in the path. One that is no text belongs to no invitation, just as an empty one.
fn text(token: Token) -> String {
    token.map_or_else(|_| String::new(), |Path(token)| token)
}

pub(super) async fn show(State(web): State<Arc<Web>>, visitor: Visitor, token: Token) -> Response {
    let outcome = async {
        web.guard_token(&visitor.device)?;
        let (status, page) = look(&web, &text(token)).await?;
        Ok((status, page.into()))
    };
    web.respond(&visitor.request_id, outcome.await)
}

pub(super) async fn answer(
    State(web): State<Arc<Web>>,
    visitor: Visitor,
    token: Token,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let request_id = visitor.request_id.clone();
    let submission = {
        let web = Arc::clone(&web);
        async move {
            let form = Form::read(&headers, body)?;
            web.guard_token(&visitor.device)?;
            Submission { web: &web, visitor: &visitor, token: &text(token), form: &form }.answer().await
        }
    };
    web.respond(&request_id, to_the_end(submission).await)
}

#[expect(clippy::disallowed_methods, reason = "whoever holds an invitation's link may see and answer it")]
fn holder() -> Open {
    Open::because("guarded by the secret of the invitation's link")
}

/// The page of the invitation as it stands.
async fn look(web: &Web, token: &str) -> Result<(StatusCode, InvitationPage), Trouble> {
    Ok(match invitations::by_token(&web.db, &holder(), token).await? {
        Some(received) => (StatusCode::OK, page(web, token, received)),
        None => (StatusCode::NOT_FOUND, InvitationPage::Invalid),
    })
}

fn page(web: &Web, token: &str, received: Received) -> InvitationPage {
    match received.status {
        InvitationStatus::Pending => InvitationPage::Pending(Box::new(pending(token, received))),
        InvitationStatus::Accepted => InvitationPage::Answered { app_url: web.app_url.clone() },
        InvitationStatus::Declined => InvitationPage::Declined { inviter_name: received.inviter },
        InvitationStatus::Expired => InvitationPage::Expired { inviter_name: received.inviter },
        InvitationStatus::Revoked | InvitationStatus::Superseded => InvitationPage::Revoked,
    }
}

fn pending(token: &str, received: Received) -> PendingInvitation {
    let lines = received.message.as_deref().unwrap_or_default().lines();
    let workspaces = received.grants.into_iter().map(|grant| OfferedWorkspace {
        display_name: grant.workspace_display_name,
        role_name: grant.role.name,
    });
    PendingInvitation {
        action: format!("/invitations/{token}"),
        token: token.to_owned(),
        organization_name: received.organization,
        organization_role: received.organization_role.map(|role| role.title().to_owned()),
        workspaces: workspaces.collect(),
        inviter_name: received.inviter,
        masked_email: Email::from_stored(received.email).masked(),
        expires_at: received.expires_at.to_rfc3339_opts(SecondsFormat::Secs, true),
        expires_at_human: received.expires_at.format("%-d %B %Y, %H:%M UTC").to_string(),
        message: lines.filter(|line| !line.trim().is_empty()).map(str::to_owned).collect(),
        ..PendingInvitation::default()
    }
}

fn accepted(web: &Web, received: Received) -> InvitationPage {
    let mut names: Vec<_> = received.grants.into_iter().map(|grant| grant.workspace_display_name).collect();
    if names.is_empty() {
        names.push(received.organization);
    }
    InvitationPage::Accepted { workspaces: names, app_url: web.app_url.clone() }
}

/// A form that was sent from the page.
struct Submission<'a> {
    web: &'a Web,
    visitor: &'a Visitor,
    token: &'a str,
    form: &'a Form,
}

/// How an attempt to answer ended.
enum Attempt {
    Answered(InvitationPage),
    /// The page says what to change.
    Again(StatusCode),
    /// The invitation is no longer what the page said.
    Outdated,
}

impl Submission<'_> {
    async fn answer(&self) -> Outcome {
        let mut shown = match look(self.web, self.token).await? {
            (_, InvitationPage::Pending(shown)) => shown,
            (StatusCode::OK, over) => return Ok((StatusCode::CONFLICT, over.into())),
            (status, invalid) => return Ok((status, invalid.into())),
        };
        let attempt = match self.form.get("intent") {
            "register" => self.register(&mut shown).await?,
            "sign_in" => self.sign_in(&mut shown).await?,
            "decline" => self.decline().await?,
            _ => {
                return Err(Trouble::refused(
                    StatusCode::BAD_REQUEST,
                    "The form does not say what to do",
                    "Go back and use one of its buttons.",
                ));
            }
        };
        Ok(match attempt {
            Attempt::Answered(page) => (StatusCode::OK, page.into()),
            Attempt::Again(status) => (status, InvitationPage::Pending(shown).into()),
            Attempt::Outdated => match look(self.web, self.token).await? {
                (StatusCode::OK, page) => (StatusCode::CONFLICT, page.into()),
                (status, page) => (status, page.into()),
            },
        })
    }

    async fn register(&self, shown: &mut PendingInvitation) -> Result<Attempt, Trouble> {
        shown.register.display_name = self.form.get("display_name").to_owned();
        let name = match DisplayName::parse(self.form.get("display_name")) {
            Ok(name) => name,
            Err(fault) => {
                shown.register.display_name_errors.push(format!("Your name {fault}."));
                return Ok(Attempt::Again(StatusCode::UNPROCESSABLE_ENTITY));
            }
        };
        let password = self.form.get("password");
        let device = &self.visitor.device;
        let db = self.visitor.db(self.web);
        let made = accounts::register(&db, &holder(), self.token, &name, password, device).await;
        match made {
            Ok((_, session, received)) => {
                self.web.end_session(self.visitor, session.actor).await;
                Ok(Attempt::Answered(accepted(self.web, received)))
            }
            Err(error) => {
                for Refusal { code, message, detail, .. } in refusals(error)? {
                    match code {
                        RegisterCode::WeakPassword => shown.register.password_errors = unmet(detail, message),
                        // Beside the form to use instead, which this opens.
                        RegisterCode::AccountExists => shown.sign_in.email_errors.push(message),
                        RegisterCode::InvalidInput | RegisterCode::WorkspaceArchived => {
                            shown.alert = Some(message);
                        }
                        RegisterCode::LinkInvalid
                        | RegisterCode::InvitationNotPending
                        | RegisterCode::InvitationExpired
                        | RegisterCode::InviterLostPermission => return Ok(Attempt::Outdated),
                    }
                }
                Ok(Attempt::Again(StatusCode::UNPROCESSABLE_ENTITY))
            }
        }
    }

    async fn sign_in(&self, shown: &mut PendingInvitation) -> Result<Attempt, Trouble> {
        shown.sign_in.email = self.form.get("email").to_owned();
        let email = match Email::parse(self.form.get("email")) {
            Ok(email) => email,
            Err(fault) => {
                shown.sign_in.email_errors.push(format!("The address {fault}."));
                return Ok(Attempt::Again(StatusCode::UNPROCESSABLE_ENTITY));
            }
        };
        let device = &self.visitor.device;
        if let Err(wait) = self.web.throttle.sign_in(device.ip.as_deref(), email.as_str()) {
            shown.sign_in.password_errors.push(wait.to_string());
            return Ok(Attempt::Again(StatusCode::TOO_MANY_REQUESTS));
        }
        #[expect(clippy::disallowed_methods, reason = "signing in is how a right is gained")]
        let proof = Open::because("the password is checked");
        let password = self.form.get("password");
        let typed = match self.form.get("code") {
            blank if blank.trim().is_empty() => Typed::Nothing,
            code => match Typed::parse(code) {
                Ok(typed) => typed,
                Err(FieldFault(fault)) => {
                    shown.sign_in.code_errors.push(format!("The code {fault}."));
                    return Ok(Attempt::Again(StatusCode::UNPROCESSABLE_ENTITY));
                }
            },
        };
        match accounts::sign_in(&self.web.db, &proof, Some(&email), password, &typed, device).await {
            Ok((_, session)) => {
                let attempt = self.accept(session.actor, shown).await;
                self.web.end_session(self.visitor, session.actor).await;
                attempt
            }
            Err(error) => {
                let mut status = StatusCode::UNPROCESSABLE_ENTITY;
                for Refusal { code, message, field, .. } in refusals(error)? {
                    match code {
                        SignInCode::SecondFactorRequired | SignInCode::SecondFactorInvalid => {
                            shown.sign_in.code_errors.push(message);
                        }
                        SignInCode::InvalidCredentials => shown.sign_in.password_errors.push(message),
                        SignInCode::UserDisabled | SignInCode::InvalidInput => {
                            shown.sign_in.email_errors.push(message);
                        }
                        SignInCode::RateLimited | SignInCode::SignInLocked => {
                            status = StatusCode::TOO_MANY_REQUESTS;
                            match field.as_slice() {
                                [at] if at == "code" => shown.sign_in.code_errors.push(message),
                                _ => shown.sign_in.password_errors.push(message),
                            }
                        }
                    }
                }
                Ok(Attempt::Again(status))
            }
        }
    }

    async fn accept(&self, actor: Actor, shown: &mut PendingInvitation) -> Result<Attempt, Trouble> {
        use AcceptInvitationCode as Code;
        let db = self.visitor.db(self.web);
        let proof = db.own_session(actor).await?;
        let error = match invitations::accept(&db, &proof, Answer::Token(self.token)).await {
            Ok(received) => return Ok(Attempt::Answered(accepted(self.web, received))),
            Err(error) => error,
        };
        for Refusal { code, message, .. } in refusals(error)? {
            match code {
                Code::EmailMismatch | Code::EmailUnverified => shown.sign_in.email_errors.push(message),
                Code::WorkspaceArchived | Code::UserDisabled | Code::InvalidInput => {
                    shown.alert = Some(message)
                }
                Code::NotFound
                | Code::LinkInvalid
                | Code::InvitationNotPending
                | Code::InvitationExpired
                | Code::InviterLostPermission => return Ok(Attempt::Outdated),
            }
        }
        Ok(Attempt::Again(StatusCode::UNPROCESSABLE_ENTITY))
    }

    async fn decline(&self) -> Result<Attempt, Trouble> {
        match invitations::decline_by_token(&self.visitor.db(self.web), &holder(), self.token).await {
            Ok(received) => {
                Ok(Attempt::Answered(InvitationPage::Declined { inviter_name: received.inviter }))
            }
            // Whichever rule refuses, the invitation is not pending any more.
            Err(error) => refusals(error).map(|_| Attempt::Outdated),
        }
    }
}

/// The password rules that are not met, a sentence each.
pub(super) fn unmet(detail: Option<Detail>, message: String) -> Vec<String> {
    match detail {
        Some(Detail::WeakPassword(rules)) => rules.iter().map(ToString::to_string).collect(),
        _ => vec![message],
    }
}
