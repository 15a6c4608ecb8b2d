//! The few pages the server shows by itself: answer an invitation, set the installation up, say what went wrong.
//!
//! Knows what stands on each page, as typed data, and turns it into HTML that needs no JavaScript. Refuses to know
//! routes, sessions and rules: handlers decide which state a page is in and give the addresses forms are sent to.
//!
//! Every form is sent as `application/x-www-form-urlencoded` by POST, with these fields:
//!
//! | page | fields |
//! |---|---|
//! | invitation | `token`, `intent` = `register` (`display_name`, `password`), `sign_in` (`email`, `password`, `code` where it is asked for) or `decline` |
//! | recovery | `intent` = `ask` (`email`), `reset` (`token`, `password`), `confirm` or `cancel` (`token`) |
//! | set-up | `token`, `display_name`, `email`, `password`, `organization_name` |

use minijinja::{AutoEscape, Environment, UndefinedBehavior, syntax::SyntaxConfig, value::Serde};
use serde::Serialize;

/// The style sheet of all pages, to be served as `text/css` at [`CSS_PATH`].
pub const CSS: &str = include_str!("../templates/pages/pages.css");

/// Where the pages look for [`CSS`].
pub const CSS_PATH: &str = "/assets/pages.css";

/// The `Content-Security-Policy` to send with every page: nothing but the style sheet and forms to ourselves.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; form-action 'self'; \
    base-uri 'none'; frame-ancestors 'none'";

const TEMPLATES: [(&str, &str); 5] = [
    ("layout.html", include_str!("../templates/pages/layout.html")),
    ("invitation.html", include_str!("../templates/pages/invitation.html")),
    ("setup.html", include_str!("../templates/pages/setup.html")),
    ("recovery.html", include_str!("../templates/pages/recovery.html")),
    ("message.html", include_str!("../templates/pages/message.html")),
];

/// All pages, compiled.
pub struct Pages {
    env: Environment<'static>,
}

/// The page an invitation's link opens.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum InvitationPage {
    /// To be answered.
    Pending(Box<PendingInvitation>),
    /// Just accepted: the workspaces, or the organization where there are none. `app_url` is where to go on.
    Accepted { workspaces: Vec<String>, app_url: String },
    /// Just declined.
    Declined { inviter_name: String },
    /// Its time is over.
    Expired { inviter_name: String },
    /// Withdrawn by the inviter, or replaced by a newer one.
    Revoked,
    /// It was accepted or declined before.
    Answered { app_url: String },
    /// The link is unknown or damaged.
    Invalid,
}

/// What a pending invitation offers, and how far its answer got.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PendingInvitation {
    /// Address the forms are sent to.
    pub action: String,
    pub token: String,
    pub organization_name: String,
    /// The role in the organization; absent where only workspaces are meant.
    pub organization_role: Option<String>,
    /// At least one, unless there is a role in the organization.
    pub workspaces: Vec<OfferedWorkspace>,
    pub inviter_name: String,
    /// Such as `b••@example.com`: who holds the link need not learn the address from it.
    pub masked_email: String,
    /// For machines, RFC 3339.
    pub expires_at: String,
    /// For people, such as `28 November 2026, 14:00 UTC`.
    pub expires_at_human: String,
    /// The inviter's note, if any, as lines.
    pub message: Vec<String>,
    /// An error that belongs to no field, such as `EMAIL_MISMATCH`, with what to do.
    pub alert: Option<String>,
    pub register: RegisterForm,
    pub sign_in: SignInForm,
}

/// A workspace of an invitation.
#[derive(Clone, Debug, Serialize)]
pub struct OfferedWorkspace {
    pub display_name: String,
    pub role_name: String,
}

/// “Create your account”: what was typed, and what is wrong with it. A password is never sent back.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RegisterForm {
    pub display_name: String,
    pub display_name_errors: Vec<String>,
    /// The password rules that are not met, or other errors of the field.
    pub password_errors: Vec<String>,
}

/// “I already have an account”. Shown open when it has errors.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SignInForm {
    pub email: String,
    pub email_errors: Vec<String>,
    pub password_errors: Vec<String>,
    /// Why a code of the second factor is needed; it is asked for only where there is one of these.
    pub code_errors: Vec<String>,
}

/// The page the one-time set-up link opens.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum SetupPage {
    /// To be filled in.
    Form(Box<SetupForm>),
    /// Just done. `app_url` is where to go on.
    Done { email: String, organization_name: String, app_url: String },
    /// Somebody did it before.
    AlreadyDone { app_url: String },
    /// The link is unknown or damaged.
    Invalid,
}

/// The first account and organization: what was typed, and what is wrong with it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SetupForm {
    /// Address the form is sent to.
    pub action: String,
    pub token: String,
    pub alert: Option<String>,
    pub display_name: String,
    pub display_name_errors: Vec<String>,
    pub email: String,
    pub email_errors: Vec<String>,
    pub password_errors: Vec<String>,
    pub organization_name: String,
    pub organization_name_errors: Vec<String>,
}

/// The pages that mails about one's own account lead to.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RecoveryPage {
    /// Who forgot the password? What was typed, and what is wrong with it.
    Ask { email: String, errors: Vec<String> },
    /// A mail is on its way, if anybody has the address.
    Asked,
    /// A new password is to be chosen; the rules that the last one did not meet.
    Reset { token: String, errors: Vec<String> },
    /// It was. `app_url` is where to go on.
    Done { app_url: String },
    /// Another address is to be confirmed.
    Email { token: String, current_email: String, new_email: String },
    /// It was, here at least; `other_email` is the address where it has to be confirmed as well.
    Confirmed { changed: bool, other_email: String, new_email: String, app_url: String },
    /// The change was stopped.
    Stopped,
    /// The link is not valid, or not any more; `again`: another can be asked for.
    Invalid { again: bool },
}

/// A page that only says something.
#[derive(Clone, Debug, Serialize)]
pub struct MessagePage {
    pub title: String,
    /// What happened and what to do, a sentence each.
    pub sentences: Vec<String>,
    /// The id under which a fault stands in the log.
    pub reference: Option<String>,
    /// Where to go on, if anywhere.
    pub home_url: Option<String>,
}

impl MessagePage {
    /// For 404.
    pub fn not_found(home_url: Option<String>) -> Self {
        Self {
            title: "There is nothing here".into(),
            sentences: vec!["The address may be mistyped, or what it led to is gone.".into()],
            reference: None,
            home_url,
        }
    }

    /// For 500; `reference` is the request's id in the log.
    pub fn internal(reference: String) -> Self {
        Self {
            title: "Something went wrong on our side".into(),
            sentences: vec![
                "Please try again in a moment.".into(),
                "If it happens again, give the people who run this server the reference below.".into(),
            ],
            reference: Some(reference),
            home_url: None,
        }
    }
}

impl Pages {
    /// Compiles the templates. `app_name` stands at the head of every page.
    pub fn new(app_name: &str) -> Result<Self, minijinja::Error> {
        let mut env = Environment::new();
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        env.set_auto_escape_callback(|_| AutoEscape::Html);
        env.add_global("app_name", app_name.to_owned());
        for (name, source) in TEMPLATES {
            env.add_template(name, source)?;
        }
        Ok(Self { env })
    }

    pub fn invitation(&self, page: &InvitationPage) -> Result<String, minijinja::Error> {
        self.render("invitation.html", page)
    }

    pub fn setup(&self, page: &SetupPage) -> Result<String, minijinja::Error> {
        self.render("setup.html", page)
    }

    pub fn recovery(&self, page: &RecoveryPage) -> Result<String, minijinja::Error> {
        self.render("recovery.html", page)
    }

    pub fn message(&self, page: &MessagePage) -> Result<String, minijinja::Error> {
        self.render("message.html", page)
    }

    fn render(&self, template: &str, page: impl Serialize) -> Result<String, minijinja::Error> {
        self.env.get_template(template)?.render(Serde(page))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIL: &str = "<script>alert(1)</script>\" onfocus=\"x' &";

    fn pages() -> Pages {
        Pages::new("Guildhall").unwrap()
    }

    fn pending() -> PendingInvitation {
        PendingInvitation {
            action: "/invitation".into(),
            token: "tok_1".into(),
            organization_name: "Acme".into(),
            workspaces: vec![
                OfferedWorkspace { display_name: "Research".into(), role_name: "Viewer".into() },
                OfferedWorkspace { display_name: "Operations".into(), role_name: "Editor".into() },
            ],
            inviter_name: "Ann".into(),
            masked_email: "b••@example.com".into(),
            expires_at: "2026-11-28T14:00:00Z".into(),
            expires_at_human: "28 November 2026, 14:00 UTC".into(),
            ..PendingInvitation::default()
        }
    }

    fn evil_pages() -> Vec<String> {
        let pages = pages();
        let e = || EVIL.to_owned();
        let errors = || vec![e()];
        let pending = PendingInvitation {
            action: e(),
            token: e(),
            organization_name: e(),
            organization_role: Some(e()),
            workspaces: vec![OfferedWorkspace { display_name: e(), role_name: e() }],
            inviter_name: e(),
            masked_email: e(),
            expires_at: e(),
            expires_at_human: e(),
            message: errors(),
            alert: Some(e()),
            register: RegisterForm {
                display_name: e(),
                display_name_errors: errors(),
                password_errors: errors(),
            },
            sign_in: SignInForm {
                email: e(),
                email_errors: errors(),
                password_errors: errors(),
                code_errors: errors(),
            },
        };
        let form = SetupForm {
            action: e(),
            token: e(),
            alert: Some(e()),
            display_name: e(),
            display_name_errors: errors(),
            email: e(),
            email_errors: errors(),
            password_errors: errors(),
            organization_name: e(),
            organization_name_errors: errors(),
        };
        let mut out: Vec<String> = [
            InvitationPage::Pending(Box::new(pending)),
            InvitationPage::Accepted { workspaces: vec![e(), e()], app_url: e() },
            InvitationPage::Declined { inviter_name: e() },
            InvitationPage::Expired { inviter_name: e() },
            InvitationPage::Revoked,
            InvitationPage::Answered { app_url: e() },
            InvitationPage::Invalid,
        ]
        .iter()
        .map(|page| pages.invitation(page).unwrap())
        .collect();
        out.extend(
            [
                SetupPage::Form(Box::new(form)),
                SetupPage::Done { email: e(), organization_name: e(), app_url: e() },
                SetupPage::AlreadyDone { app_url: e() },
                SetupPage::Invalid,
            ]
            .iter()
            .map(|page| pages.setup(page).unwrap()),
        );
        out.extend(
            [
                RecoveryPage::Ask { email: e(), errors: errors() },
                RecoveryPage::Asked,
                RecoveryPage::Reset { token: e(), errors: vec![e(), e()] },
                RecoveryPage::Done { app_url: e() },
                RecoveryPage::Email { token: e(), current_email: e(), new_email: e() },
                RecoveryPage::Confirmed { changed: true, other_email: e(), new_email: e(), app_url: e() },
                RecoveryPage::Confirmed { changed: false, other_email: e(), new_email: e(), app_url: e() },
                RecoveryPage::Stopped,
                RecoveryPage::Invalid { again: true },
                RecoveryPage::Invalid { again: false },
            ]
            .iter()
            .map(|page| pages.recovery(page).unwrap()),
        );
        let message =
            MessagePage { title: e(), sentences: errors(), reference: Some(e()), home_url: Some(e()) };
        out.push(pages.message(&message).unwrap());
        out
    }

    #[test]
    fn nothing_a_user_typed_becomes_markup() {
        for html in evil_pages() {
            assert!(!html.contains("<script") && !html.contains("\" onfocus"), "{html}");
        }
    }

    #[test]
    fn every_page_obeys_its_own_security_policy() {
        for html in evil_pages() {
            for forbidden in ["<script", "<style", " style=", "<img", "javascript:", "http-equiv"] {
                assert!(!html.contains(forbidden), "{forbidden} in {html}");
            }
            assert_eq!(html.matches("<link ").count(), 1);
            assert!(html.contains(&format!("<link rel=\"stylesheet\" href=\"{CSS_PATH}\">")), "{html}");
        }
        assert!(!CSS.contains("url(") && !CSS.contains("@import"));
    }

    #[test]
    fn every_input_has_a_label_and_every_error_is_tied_to_its_field() {
        for html in evil_pages() {
            for input in html.split("<input ").skip(1).map(|rest| rest.split_once('>').unwrap().0) {
                if input.contains("type=\"hidden\"") {
                    continue;
                }
                let id = input.split_once("id=\"").unwrap().1.split_once('"').unwrap().0;
                assert!(html.contains(&format!("<label for=\"{id}\"")), "{id}");
                if input.contains("aria-invalid") {
                    let described =
                        input.split_once("aria-describedby=\"").unwrap().1.split_once('"').unwrap().0;
                    for id in described.split(' ') {
                        assert!(html.contains(&format!("id=\"{id}\"")), "{id}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_pending_invitation_shows_the_offer_and_three_answers() {
        let html = pages().invitation(&InvitationPage::Pending(Box::new(pending()))).unwrap();
        for fact in [
            "Ann",
            "Acme",
            "Research",
            "Viewer",
            "Operations",
            "Editor",
            "b••@example.com",
            "28 November 2026, 14:00 UTC",
            "autocomplete=\"new-password\"",
            "autocomplete=\"current-password\"",
            "autocomplete=\"name\"",
            "autocomplete=\"email\"",
        ] {
            assert!(html.contains(fact), "{fact} in {html}");
        }
        for intent in ["register", "sign_in", "decline"] {
            assert!(html.contains(&format!("name=\"intent\" value=\"{intent}\"")), "{intent}");
        }
        assert_eq!(html.matches("name=\"token\" value=\"tok_1\"").count(), 3);
        assert!(!html.contains("role=\"alert\"") && !html.contains("<details class=\"other\" open>"));
    }

    #[test]
    fn after_an_error_the_values_stay_and_the_right_form_is_open() {
        let page = PendingInvitation {
            sign_in: SignInForm {
                email: "ben@example.com".into(),
                email_errors: vec![],
                password_errors: vec!["E-mail or password is wrong.".into()],
                code_errors: vec![],
            },
            ..pending()
        };
        let html = pages().invitation(&InvitationPage::Pending(Box::new(page))).unwrap();
        assert!(html.contains("<details class=\"other\" open>"));
        assert!(html.contains("value=\"ben@example.com\"") && html.contains("E-mail or password is wrong."));
        assert!(html.contains("role=\"alert\""));
    }
}
