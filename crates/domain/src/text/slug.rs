//! The names that stand in addresses. Knows their form, the reserved ones, and how to make one from a name for
//! people; refuses to know which are taken.

use super::{TextFault, text_type};
use deunicode::deunicode;

const MAX_LEN: usize = 63;
/// What is left of a name without a single letter or digit.
const FALLBACK: &str = "untitled";
/// Makes a derived name that is reserved usable.
const UNRESERVED: &str = "-workspace";

/// Words that a front end or this service routes, that stand for "none" in some client, or that would lend a
/// workspace the authority of the operator. Sorted.
#[rustfmt::skip]
const RESERVED: [&str; 122] = [
    "about", "abuse", "access", "account", "accounts", "activity", "admin", "administrator", "all",
    "anonymous", "api", "app", "apps", "archive", "archived", "assets", "audit", "auth", "billing", "blog",
    "callback", "config", "console", "contact", "credentials", "dashboard", "default", "delete", "demo",
    "dev", "docs", "download", "edit", "error", "events", "explore", "favicon", "feed", "files",
    "forgot-password", "graphiql", "graphql", "guildhall", "health", "healthz", "help", "home", "index",
    "internal", "invitation", "invitations", "invite", "join", "legal", "livez", "localhost", "login",
    "logout", "mail", "me", "members", "metrics", "new", "nil", "none", "null", "oauth", "official", "oidc",
    "organization", "organizations", "owner", "password", "playground", "policy", "postmaster", "pricing",
    "privacy", "profile", "public", "readyz", "register", "reset-password", "robots", "root", "saml",
    "search", "security", "session", "sessions", "settings", "setup", "sign-in", "sign-out", "sign-up",
    "signin", "signout", "signup", "sso", "static", "status", "subscriptions", "support", "system", "terms",
    "token", "undefined", "unsubscribe", "upload", "uploads", "user", "users", "verify", "version", "viewer",
    "webhook", "webhooks", "well-known", "workspace", "workspaces", "ws", "www",
];

text_type! {
    /// A name in addresses: `^[a-z0-9](?:-?[a-z0-9])*$`, at most 63 bytes, none of the reserved words.
    Slug
}

/// Organizations are named by the same rules as workspaces.
pub type OrganizationSlug = Slug;

impl Slug {
    pub fn parse(raw: &str) -> Result<Self, TextFault> {
        if raw.is_empty() {
            return Err(TextFault::Empty);
        }
        if raw.len() > MAX_LEN {
            let length = raw.chars().count();
            return Err(TextFault::TooLong { length, max: MAX_LEN, unit: "characters" });
        }
        let well_formed =
            |part: &str| !part.is_empty() && part.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9'));
        if !raw.split('-').all(well_formed) {
            return Err(TextFault::Malformed(
                "must be lower-case letters a to z and digits, with single hyphens between them, as in field-data-2"
                    .into(),
            ));
        }
        match reserved(raw) {
            Some(word) => Err(TextFault::Reserved(word)),
            None => Ok(Self(raw.to_owned())),
        }
    }

    /// A slug for a name in any script, transliterated: "Données d'été" → `donnees-dete`. The same name always
    /// gives the same slug; whether it is taken, and by which [`Slug::with_suffix`] it is freed, is another matter.
    pub fn derive(display_name: &str) -> Self {
        let words = ascii_words(display_name);
        let slug = shortened(&words, MAX_LEN);
        match (slug, reserved(slug)) {
            ("", _) => Self(FALLBACK.to_owned()),
            (_, Some(word)) => Self(format!("{word}{UNRESERVED}")),
            (_, None) => Self(slug.to_owned()),
        }
    }

    /// `name-2` for `name`, cut before the suffix where it would grow too long.
    pub fn with_suffix(&self, n: u32) -> Self {
        Self(with_suffix(&self.0, n))
    }
}

fn with_suffix(slug: &str, n: u32) -> String {
    let suffix = format!("-{n}");
    format!("{}{suffix}", shortened(slug, MAX_LEN - suffix.len()))
}

/// The words of a text in any script, transliterated, in lower case and joined by single dashes; may be empty.
pub(crate) fn ascii_words(text: &str) -> String {
    // A name is far shorter; this bounds the work for text that is none.
    let start: String = text.chars().take(4 * MAX_LEN).collect();
    let mut words = String::new();
    for c in deunicode(&start).chars().filter(|&c| c != '\'') {
        if c.is_ascii_alphanumeric() {
            words.push(c.to_ascii_lowercase());
        } else if !words.is_empty() && !words.ends_with('-') {
            words.push('-');
        }
    }
    words.truncate(words.trim_end_matches('-').len());
    words
}

text_type! {
    /// A credential's name in a workspace: of the form of a [`Slug`], and no word is reserved.
    CredentialSlug
}

impl CredentialSlug {
    pub fn parse(raw: &str) -> Result<Self, TextFault> {
        match Slug::parse(raw) {
            Ok(slug) => Ok(Self(slug.into_string())),
            Err(TextFault::Reserved(word)) => Ok(Self(word.to_owned())),
            Err(fault) => Err(fault),
        }
    }

    /// A slug for a name in any script, as [`Slug::derive`] makes one.
    pub fn derive(display_name: &str) -> Self {
        match shortened(&ascii_words(display_name), MAX_LEN) {
            "" => Self("credential".to_owned()),
            slug => Self(slug.to_owned()),
        }
    }

    /// As [`Slug::with_suffix`].
    pub fn with_suffix(&self, n: u32) -> Self {
        Self(with_suffix(&self.0, n))
    }
}

fn reserved(slug: &str) -> Option<&'static str> {
    RESERVED.binary_search(&slug).ok().map(|index| RESERVED[index])
}

fn shortened(ascii: &str, len: usize) -> &str {
    ascii.get(..len).unwrap_or(ascii).trim_end_matches('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_follow_the_pattern() {
        for good in ["a", "7", "a-b", "field-data-2", "0-0-0", &"a".repeat(63)] {
            assert_eq!(Slug::parse(good).map(Slug::into_string).as_deref(), Ok(good));
        }
        for bad in
            ["-", "-a", "a-", "a--b", "A", "a_b", "a b", " a", "a\n", "é", "а", "a.b", "a/b", "a\u{0}", "а-b"]
        {
            assert!(matches!(Slug::parse(bad), Err(TextFault::Malformed(_))), "{bad:?}");
        }
        assert_eq!(Slug::parse(""), Err(TextFault::Empty));
        assert!(matches!(Slug::parse(&"a".repeat(64)), Err(TextFault::TooLong { length: 64, .. })));
    }

    #[test]
    fn reserved_words_are_sorted_and_told_apart_from_bad_form() {
        assert!(RESERVED.is_sorted_by(|a, b| a < b));
        for word in RESERVED {
            assert_eq!(Slug::parse(word), Err(TextFault::Reserved(word)));
            assert!(Slug::parse(Slug::derive(word).as_str()).is_ok(), "{word}");
        }
        for word in ["admin", "www", "graphql", "workspaces", "undefined"] {
            assert!(RESERVED.contains(&word), "{word}");
        }
    }

    #[test]
    fn names_in_any_script_give_a_readable_slug() {
        for (name, slug) in [
            ("Field Data", "field-data"),
            ("  Données d'été — 2026! ", "donnees-dete-2026"),
            ("L’Oréal", "loreal"),
            ("Straße", "strasse"),
            ("Москва", "moskva"),
            ("北京 Lab", "bei-jing-lab"),
            ("Team 🚀", "team-rocket"),
            ("acme.org", "acme-org"),
            ("a__b--c", "a-b-c"),
            ("!!!", "untitled"),
            ("", "untitled"),
            ("Admin", "admin-workspace"),
            ("W W W", "w-w-w"),
        ] {
            assert_eq!(Slug::derive(name).as_str(), slug, "{name:?}");
        }
        assert_eq!(Slug::derive(&format!("{} b", "a".repeat(62))).as_str(), "a".repeat(62));
    }

    #[test]
    fn a_suffix_keeps_the_slug_within_its_length() {
        assert_eq!(Slug::derive("name").with_suffix(2).as_str(), "name-2");
        let long = Slug::parse(&"a".repeat(63)).unwrap();
        assert_eq!(long.with_suffix(12).as_str(), format!("{}-12", "a".repeat(60)));
        let cut_at_hyphen = Slug::parse(&format!("{}-b", "a".repeat(60))).unwrap();
        assert_eq!(cut_at_hyphen.with_suffix(2).as_str(), format!("{}-2", "a".repeat(60)));
        assert_eq!(long.with_suffix(u32::MAX).as_str().len(), 63);
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_derived_parses(name in "\\PC{0,100}", n: u32) {
            let slug = Slug::derive(&name);
            proptest::prop_assert_eq!(Slug::parse(slug.as_str()), Ok(slug.clone()));
            let next = slug.with_suffix(n);
            proptest::prop_assert_eq!(Slug::parse(next.as_str()), Ok(next.clone()));
        }
    }
}
