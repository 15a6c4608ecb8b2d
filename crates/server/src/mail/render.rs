//! Letters as text: subject, plain text and HTML, from templates.
//!
//! Knows the templates, built in and from a directory that overrides them one by one. Whatever a user typed is made
//! harmless before any template sees it, so that an overriding template cannot forget to. Refuses to know addresses,
//! MIME and mail servers.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use minijinja::{
    AutoEscape, Environment, HtmlEscape, UndefinedBehavior, Value, escape_formatter, syntax::SyntaxConfig,
    value::Serde,
};
use serde::Serialize;

use super::one_line;
use guildhall_domain::mail::{AccountLetter, InvitationLetter, InvitedWorkspace, Letter};

/// The built-in templates by file name. Names that start with `_` are parts that others include.
const BUILT_IN: [(&str, &str); 22] = [
    ("_layout.html", include_str!("../../templates/mail/_layout.html")),
    ("invitation.subject.txt", include_str!("../../templates/mail/invitation.subject.txt")),
    ("invitation.txt", include_str!("../../templates/mail/invitation.txt")),
    ("invitation.html", include_str!("../../templates/mail/invitation.html")),
    ("password_reset.subject.txt", include_str!("../../templates/mail/password_reset.subject.txt")),
    ("password_reset.txt", include_str!("../../templates/mail/password_reset.txt")),
    ("password_reset.html", include_str!("../../templates/mail/password_reset.html")),
    ("password_changed.subject.txt", include_str!("../../templates/mail/password_changed.subject.txt")),
    ("password_changed.txt", include_str!("../../templates/mail/password_changed.txt")),
    ("password_changed.html", include_str!("../../templates/mail/password_changed.html")),
    ("email_change.subject.txt", include_str!("../../templates/mail/email_change.subject.txt")),
    ("email_change.txt", include_str!("../../templates/mail/email_change.txt")),
    ("email_change.html", include_str!("../../templates/mail/email_change.html")),
    ("second_factor_on.subject.txt", include_str!("../../templates/mail/second_factor_on.subject.txt")),
    ("second_factor_on.txt", include_str!("../../templates/mail/second_factor_on.txt")),
    ("second_factor_on.html", include_str!("../../templates/mail/second_factor_on.html")),
    ("second_factor_off.subject.txt", include_str!("../../templates/mail/second_factor_off.subject.txt")),
    ("second_factor_off.txt", include_str!("../../templates/mail/second_factor_off.txt")),
    ("second_factor_off.html", include_str!("../../templates/mail/second_factor_off.html")),
    ("recovery_codes_made.subject.txt", include_str!("../../templates/mail/recovery_codes_made.subject.txt")),
    ("recovery_codes_made.txt", include_str!("../../templates/mail/recovery_codes_made.txt")),
    ("recovery_codes_made.html", include_str!("../../templates/mail/recovery_codes_made.html")),
];

/// The three texts of a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// One line.
    pub subject: String,
    pub text: String,
    pub html: String,
}

/// All mail templates, compiled.
pub struct Templates {
    env: Environment<'static>,
    app_name: String,
    /// Template name → the file it came from, for those that are not built in.
    overrides: BTreeMap<String, PathBuf>,
}

/// What is wrong with a template.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    #[error("the mail template directory `{path}` cannot be read: {error}")]
    Unreadable { path: PathBuf, error: io::Error },
    #[error(
        "`{path}` overrides no mail template; there are: {known} (and parts to include: names that start with `_`)"
    )]
    Unknown { path: PathBuf, known: String },
    #[error("mail template `{template}`, line {line}: {reason}. Variables: {variables}")]
    Faulty { template: String, line: usize, reason: String, variables: &'static str },
}

impl Templates {
    /// Compiles the built-in templates and those in `overrides` (same file names), and renders each with sample
    /// letters, so that a mistake shows when the server starts and not when the first invitation is due.
    pub fn load(app_name: &str, overrides: Option<&Path>) -> Result<Self, TemplateError> {
        let mut env = Environment::new();
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_debug(true);
        // Lines that hold only a tag leave no trace, so that plain text can be laid out readably.
        let syntax =
            SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build();
        env.set_syntax(syntax.expect("the standard delimiters do not clash"));
        env.set_auto_escape_callback(|name| match name.ends_with(".html") {
            true => AutoEscape::Html,
            false => AutoEscape::None,
        });
        // The engine also escapes `/`, which nothing needs, and spam filters distrust links written in entities.
        env.set_formatter(|out, state, value| match value.as_str() {
            Some(text) if *state.auto_escape() == AutoEscape::Html && !value.is_safe() => {
                Ok(out.write_str(&HtmlEscape(text).to_string().replace("&#x2f;", "/"))?)
            }
            _ => escape_formatter(out, state, value),
        });
        let mut templates = Self { env, app_name: inert(app_name), overrides: BTreeMap::new() };
        for (name, source) in BUILT_IN {
            templates.add(name, source.to_owned())?;
        }
        if let Some(directory) = overrides {
            for (name, path, source) in read(directory)? {
                templates.overrides.insert(name.clone(), path);
                templates.add(&name, source)?;
            }
        }
        for letter in samples() {
            templates.render(&letter)?;
        }
        Ok(templates)
    }

    /// Renders a letter. After [`Templates::load`] succeeded this fails only where a template treats some letters
    /// in a way the samples did not reach.
    pub fn render(&self, letter: &Letter) -> Result<Rendered, TemplateError> {
        let variables = match letter {
            Letter::Invitation(letter) => Value::from(Serde(InvitationVariables::of(letter, &self.app_name))),
            Letter::PasswordReset(letter)
            | Letter::PasswordChanged(letter)
            | Letter::EmailChange(letter)
            | Letter::SecondFactorOn(letter)
            | Letter::SecondFactorOff(letter)
            | Letter::RecoveryCodesMade(letter) => {
                Value::from(Serde(AccountVariables::of(letter, &self.app_name)))
            }
        };
        let kind = letter.kind();
        let part = |suffix: &str| {
            let name = format!("{kind}{suffix}");
            let template = self.env.get_template(&name).map_err(|error| self.faulty(&name, &error))?;
            template.render(variables.clone()).map_err(|error| self.faulty(&name, &error))
        };
        Ok(Rendered { subject: one_line(&part(".subject.txt")?), text: part(".txt")?, html: part(".html")? })
    }

    fn add(&mut self, name: &str, source: String) -> Result<(), TemplateError> {
        self.env.add_template_owned(name.to_owned(), source).map_err(|error| self.faulty(name, &error))
    }

    fn faulty(&self, name: &str, error: &minijinja::Error) -> TemplateError {
        // The innermost error is the true one: an outer one only says which template included it.
        let mut cause = error;
        while let Some(inner) = std::error::Error::source(cause).and_then(|e| e.downcast_ref()) {
            cause = inner;
        }
        let name = cause.name().unwrap_or(name);
        TemplateError::Faulty {
            template: self
                .overrides
                .get(name)
                .map_or_else(|| name.to_owned(), |path| path.display().to_string()),
            line: cause.line().unwrap_or(1),
            reason: match cause.detail() {
                Some(detail) => format!("{}: {detail}", cause.kind()),
                None => cause.kind().to_string(),
            },
            variables: match name.starts_with("invitation.") || name.starts_with('_') {
                true => InvitationVariables::NAMES,
                false => AccountVariables::NAMES,
            },
        }
    }
}

/// The templates of a directory. Hidden files are passed over; a name that would never be used is an error, as it is
/// most likely a misspelt one.
fn read(directory: &Path) -> Result<Vec<(String, PathBuf, String)>, TemplateError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        |error| TemplateError::Unreadable { path, error }
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable(directory))? {
        let path = entry.map_err(unreadable(directory))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        if !name.starts_with('_') && !BUILT_IN.iter().any(|(known, _)| *known == name) {
            let known: Vec<_> = BUILT_IN.iter().map(|(name, _)| *name).collect();
            return Err(TemplateError::Unknown { path, known: known.join(", ") });
        }
        let source = fs::read_to_string(&path).map_err(unreadable(&path))?;
        found.push((name, path, source));
    }
    // Parts first, then in a fixed order, so that the same mistake gives the same error.
    found.sort();
    Ok(found)
}

/// What the templates of an invitation can use.
#[derive(Serialize)]
struct InvitationVariables {
    app_name: String,
    recipient_email: String,
    inviter_name: String,
    inviter_email: String,
    organization_name: String,
    organization_role: Option<String>,
    workspaces: Vec<InvitedWorkspace>,
    link: String,
    expires_at: String,
    expires_at_human: String,
    message: Vec<String>,
}

impl InvitationVariables {
    const NAMES: &'static str = "app_name, recipient_email, inviter_name, inviter_email, organization_name, \
        organization_role (absent where only workspaces are meant), workspaces (list of: display_name, role_name), link, expires_at (RFC 3339), expires_at_human, \
        message (list of lines, empty without a message)";

    fn of(letter: &InvitationLetter, app_name: &str) -> Self {
        Self {
            app_name: app_name.to_owned(),
            recipient_email: one_line(&letter.recipient_email),
            inviter_name: inert(&letter.inviter_name),
            inviter_email: one_line(&letter.inviter_email),
            organization_name: inert(&letter.organization_name),
            organization_role: letter.organization_role.as_deref().map(inert),
            workspaces: letter
                .workspaces
                .iter()
                .map(|workspace| InvitedWorkspace {
                    display_name: inert(&workspace.display_name),
                    role_name: inert(&workspace.role_name),
                })
                .collect(),
            link: one_line(&letter.link),
            expires_at: letter.expires_at.to_rfc3339_opts(SecondsFormat::Secs, true),
            expires_at_human: letter.expires_at.format("%A, %-d %B %Y at %H:%M UTC").to_string(),
            message: letter
                .message
                .iter()
                .flat_map(|message| message.lines())
                .map(inert)
                .filter(|line| !line.is_empty())
                .collect(),
        }
    }
}

/// What the templates of letters about the recipient's own account can use.
#[derive(Serialize)]
struct AccountVariables {
    app_name: String,
    recipient_email: String,
    recipient_name: String,
    link: String,
    at: String,
    at_human: String,
    current_email: String,
    new_email: String,
    ip: Option<String>,
}

impl AccountVariables {
    const NAMES: &'static str = "app_name, recipient_email, recipient_name, link, at (RFC 3339: until when the link works, or when \
        it happened), at_human, current_email and new_email (of email_change), ip (of what has happened, may be absent)";

    fn of(letter: &AccountLetter, app_name: &str) -> Self {
        Self {
            app_name: app_name.to_owned(),
            recipient_email: one_line(&letter.recipient_email),
            recipient_name: inert(&letter.recipient_name),
            link: one_line(&letter.link),
            at: letter.at.to_rfc3339_opts(SecondsFormat::Secs, true),
            at_human: letter.at.format("%A, %-d %B %Y at %H:%M UTC").to_string(),
            current_email: one_line(&letter.current_email),
            new_email: one_line(&letter.new_email),
            ip: letter.ip.as_deref().map(one_line),
        }
    }
}

/// A text from a user that must stay text: one line, and nothing a mail program would turn into a link. The dot of
/// what looks like a domain becomes U+2024, which looks the same and ends no host name.
fn inert(text: &str) -> String {
    let text = one_line(text).replace("://", ": //");
    let chars: Vec<char> = text.chars().collect();
    chars
        .iter()
        .enumerate()
        .map(|(at, &c)| {
            let before = at.checked_sub(1).and_then(|at| chars.get(at)).is_some_and(|c| c.is_alphanumeric());
            let after = chars.get(at + 1).is_some_and(|c| c.is_alphanumeric());
            if c == '.' && before && after { '\u{2024}' } else { c }
        })
        .collect()
}

/// Letters that reach the branches a template can have: one workspace or several, with a message or without.
fn samples() -> [Letter; 12] {
    let workspace =
        |name: &str, role: &str| InvitedWorkspace { display_name: name.into(), role_name: role.into() };
    let letter = InvitationLetter {
        recipient_email: "ben@example.com".into(),
        inviter_name: "Ann Example".into(),
        inviter_email: "ann@example.com".into(),
        organization_name: "Example Organization".into(),
        organization_role: None,
        workspaces: vec![workspace("Research", "Viewer")],
        link: "https://guildhall.example/invitations/sample".into(),
        expires_at: DateTime::<Utc>::UNIX_EPOCH + TimeDelta::days(7),
        message: None,
    };
    let several = InvitationLetter {
        workspaces: vec![workspace("Research", "Viewer"), workspace("Operations", "Editor")],
        message: Some("Welcome!\nGlad to have you.".into()),
        ..letter.clone()
    };
    let account = AccountLetter {
        recipient_email: "ben@example.com".into(),
        recipient_name: "Ben Example".into(),
        link: "https://guildhall.example/reset?token=sample".into(),
        at: DateTime::<Utc>::UNIX_EPOCH + TimeDelta::days(7),
        current_email: "ben@example.com".into(),
        new_email: "benjamin@example.com".into(),
        ip: Some("192.0.2.1".into()),
    };
    [
        Letter::Invitation(letter),
        Letter::Invitation(several),
        Letter::PasswordReset(account.clone()),
        Letter::PasswordChanged(AccountLetter { ip: None, ..account.clone() }),
        Letter::PasswordChanged(account.clone()),
        Letter::EmailChange(account.clone()),
        Letter::SecondFactorOn(AccountLetter { ip: None, ..account.clone() }),
        Letter::SecondFactorOn(account.clone()),
        Letter::SecondFactorOff(AccountLetter { ip: None, ..account.clone() }),
        Letter::SecondFactorOff(account.clone()),
        Letter::RecoveryCodesMade(AccountLetter { ip: None, ..account.clone() }),
        Letter::RecoveryCodesMade(account),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> InvitationLetter {
        let [_, Letter::Invitation(letter), ..] = samples() else { unreachable!() };
        letter
    }

    fn render(letter: InvitationLetter) -> Rendered {
        Templates::load("Guildhall", None).unwrap().render(&Letter::Invitation(letter)).unwrap()
    }

    fn overridden(files: &[(&str, &str)]) -> (tempfile::TempDir, Result<Templates, TemplateError>) {
        let directory = tempfile::tempdir().unwrap();
        for (name, source) in files {
            fs::write(directory.path().join(name), source).unwrap();
        }
        let templates = Templates::load("Guildhall", Some(directory.path()));
        (directory, templates)
    }

    #[test]
    fn an_invitation_says_who_where_as_what_until_when() {
        let mail = render(letter());
        assert_eq!(mail.subject, "Ann Example invited you to 2 workspaces of Example Organization");
        for body in [&mail.text, &mail.html] {
            for fact in [
                "Ann Example",
                "ann@example.com",
                "Research",
                "Viewer",
                "Operations",
                "Editor",
                "1970",
                "Thursday, 8 January 1970 at 00:00 UTC",
                "Glad to have you.",
                "ben@example.com",
            ] {
                assert!(body.contains(fact), "{fact} in {body}");
            }
        }
        assert!(mail.text.contains("\nhttps://guildhall.example/invitations/sample\n"), "{}", mail.text);
        assert_eq!(
            mail.html.matches("\"https://guildhall.example/invitations/sample\"").count(),
            2,
            "{}",
            mail.html
        );
        assert!(!mail.text.contains("\n\n\n"), "{}", mail.text);
    }

    #[test]
    fn names_stay_text_in_html() {
        let evil = "<script>alert(1)</script>\"'&<img src=x>";
        let mail = render(InvitationLetter {
            inviter_name: evil.into(),
            organization_name: evil.into(),
            organization_role: None,
            workspaces: vec![InvitedWorkspace { display_name: evil.into(), role_name: evil.into() }],
            message: Some(evil.into()),
            ..letter()
        });
        assert!(!mail.html.contains("<script") && !mail.html.contains("<img"), "{}", mail.html);
        assert!(mail.html.contains("&lt;script&gt;"));
        assert!(mail.text.contains("<script>"), "plain text is not escaped");
    }

    #[test]
    fn names_forge_neither_lines_nor_links() {
        let evil =
            "Ann\r\n\r\nYour account is locked:\nhttps://evil.example/x www.evil.example \u{202E}gro.live";
        let mail = render(InvitationLetter {
            inviter_name: evil.into(),
            message: Some(format!("See https://evil.example\n\n\n{evil}")),
            ..letter()
        });
        for body in [&mail.subject, &mail.text, &mail.html] {
            assert!(!body.contains("https://evil") && !body.contains("evil.example"), "{body}");
            assert!(!body.contains('\u{202E}'));
        }
        assert!(!mail.text.lines().any(|line| line.starts_with("Your account")), "{}", mail.text);
        assert!(!mail.subject.contains('\n'));
        let links = mail.text.matches("https://").count();
        assert_eq!(links, 1, "{}", mail.text);
    }

    #[test]
    fn ordinary_names_are_not_touched() {
        for name in ["J. R. R. Tolkien", "Müller & Söhne", "株式会社", "O'Brien", "Version 2 (beta)."] {
            assert_eq!(inert(name), name);
        }
    }

    #[test]
    fn one_file_can_be_overridden() {
        let (_directory, templates) =
            overridden(&[("invitation.subject.txt", "Join {{ app_name }}\n"), (".hidden", "{{")]);
        let mail = templates.unwrap().render(&Letter::Invitation(letter())).unwrap();
        assert_eq!(mail.subject, "Join Guildhall");
        assert!(mail.text.contains("Ann Example"));
    }

    #[test]
    fn a_faulty_template_is_named_with_its_line_and_the_variables() {
        let cases = [
            ("Hello\n{{ workspce }}\n", 2),
            ("Hello\n\n{% for w in workspaces %}{{ w.nme }}{% endfor %}", 3),
            ("{% if message %}\n{{ oops }}{% endif %}", 2),
            ("Hello {{ inviter_name\n", 1),
            ("{% include '_missing.txt' %}", 1),
        ];
        for (source, line) in cases {
            let (directory, templates) = overridden(&[("invitation.txt", source)]);
            let error = templates.err().unwrap().to_string();
            let file = directory.path().join("invitation.txt").display().to_string();
            assert!(error.contains(&file), "{error}");
            assert!(error.contains(&format!("line {line}:")), "{error}");
            assert!(error.contains("expires_at_human"), "{error}");
        }
    }

    #[test]
    fn a_fault_in_an_included_part_names_the_part() {
        let (directory, templates) =
            overridden(&[("invitation.txt", "{% include '_foot.txt' %}"), ("_foot.txt", "\n{{ nobody }}")]);
        let error = templates.err().unwrap().to_string();
        assert!(
            error.contains(&format!("{}`, line 2", directory.path().join("_foot.txt").display())),
            "{error}"
        );
    }

    #[test]
    fn a_misspelt_file_name_is_an_error() {
        let (_directory, templates) = overridden(&[("invitaton.txt", "Hi")]);
        let error = templates.err().unwrap().to_string();
        assert!(error.contains("invitaton.txt") && error.contains("invitation.txt"), "{error}");
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        let error = Templates::load("Guildhall", Some(Path::new("no/such/directory"))).err().unwrap();
        assert!(matches!(error, TemplateError::Unreadable { .. }), "{error}");
    }
}
