//! Notices what looks like a secret among what every member may read. Knows names and shapes that secrets have; it only
//! suspects, so what it says is a warning and nothing is refused for it.

use serde_json::Value;

use super::{ConfigKind, ConfigValue};
use crate::text::ConfigKey;

/// What of a property looks like a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Its key.
    Key,
    /// Its value.
    Value,
}

impl Part {
    /// The field of the input.
    pub const fn field(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Value => "value",
        }
    }
}

/// Something that looks like a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspicion {
    /// What does.
    pub part: Part,
    /// What it looks like, to follow the name of the field.
    looks: &'static str,
}

impl Suspicion {
    /// What it looks like and what to do, to follow the name of the field. Never quotes a value.
    pub fn message(self) -> String {
        format!(
            "{}: every member of the workspace can read it. Keep secrets in a credential instead (`createCredential`).",
            self.looks
        )
    }
}

/// What looks like a secret: the key by its name, the value by its shape or by the names in it. Each at most once.
pub fn suspicions(key: &ConfigKey, value: &ConfigValue) -> Vec<Suspicion> {
    let parsed = serde_json::from_str(value.as_json()).ok();
    let mut found = Vec::new();
    let can_be_one = match (&parsed, value.kind()) {
        (_, ConfigKind::Boolean) => false,
        (Some(Value::String(text)), _) => !text.is_empty(),
        (_, kind) => is_certain(key.as_str()) || kind == ConfigKind::Json,
    };
    if can_be_one && names_a_secret(key.as_str()) {
        found.push(Suspicion { part: Part::Key, looks: "reads like the name of a secret" });
    }
    if let Some(looks) = parsed.as_ref().and_then(shape_within) {
        found.push(Suspicion { part: Part::Value, looks });
    }
    found
}

/// What a secret is called, as whole words.
const NAMES: [&str; 16] = [
    "password",
    "passwords",
    "passwd",
    "passphrase",
    "pwd",
    "pass",
    "secret",
    "secrets",
    "token",
    "tokens",
    "credential",
    "credentials",
    "apikey",
    "jwt",
    "bearer",
    "authtoken",
];
/// What can stand before `key` in the name of a secret.
const KEYS: [&str; 15] = [
    "api",
    "private",
    "secret",
    "access",
    "signing",
    "encryption",
    "master",
    "auth",
    "account",
    "ssh",
    "license",
    "service",
    "session",
    "storage",
    "shared",
];
/// With one of these words a name says something about a secret rather than that it is one.
#[rustfmt::skip]
const ABOUT: [&str; 49] = [
    "age", "algorithm", "audience", "count", "days", "enabled", "endpoint", "expires", "expiry", "field", "file",
    "format", "header", "host", "hours", "id", "ids", "issuer", "length", "lifetime", "limit", "max", "min", "minutes",
    "mode", "name", "names", "path", "pattern", "policy", "prefix", "provider", "public", "ratio", "ref", "required",
    "reset", "rotation", "rounds", "seconds", "size", "store", "strength", "ttl", "type", "uri", "url", "usage", "version",
];

/// The words of a name: `dbPassword`, `DB_PASSWORD` and `db.password` have the same.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for c in name.chars() {
        let begins =
            !c.is_alphanumeric() || (c.is_uppercase() && (before.is_lowercase() || before.is_numeric()));
        if begins {
            words.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
        before = c;
    }
    words.retain(|word| !word.is_empty());
    words
}

fn is_name(word: &str) -> bool {
    let word = word.trim_end_matches(|c: char| c.is_ascii_digit());
    NAMES.contains(&word)
        || ["password", "passwd", "passphrase", "apikey", "privatekey", "secretkey", "accesskey"]
            .iter()
            .any(|part| word.contains(part))
        || ["secret", "token"].iter().any(|end| word.len() > end.len() && word.ends_with(end))
}

fn names_a_secret(name: &str) -> bool {
    let words = words(name);
    let is_key =
        |pair: &[String]| KEYS.contains(&pair[0].as_str()) && ["key", "keys"].contains(&pair[1].as_str());
    (words.iter().any(|word| is_name(word)) || words.windows(2).any(is_key))
        && !words.iter().any(|word| ABOUT.contains(&word.as_str()) || word == "passwordless")
}

/// Whether a number of that name is a secret, too: tokens are counted, passwords are not.
fn is_certain(name: &str) -> bool {
    !words(name).iter().any(|word| word.starts_with("token"))
}

/// What a value, or something in it, looks like.
fn shape_within(value: &Value) -> Option<&'static str> {
    match value {
        Value::String(text) => shape(text),
        Value::Array(items) => items.iter().find_map(shape_within),
        Value::Object(members) => members.iter().find_map(|(name, value)| {
            let is_given = value.as_str().is_some_and(|text| !text.is_empty());
            let named =
                (is_given && names_a_secret(name)).then_some("holds something with the name of a secret");
            named.or_else(|| shape_within(value))
        }),
        _ => None,
    }
}

/// Prefixes by which those who issue tokens mark them, with how much must follow.
const MARKS: [(&str, usize); 22] = [
    ("ghp_", 30),
    ("gho_", 30),
    ("ghu_", 30),
    ("ghs_", 30),
    ("ghr_", 30),
    ("github_pat_", 20),
    ("glpat-", 16),
    ("xoxa-", 10),
    ("xoxb-", 10),
    ("xoxp-", 10),
    ("xoxr-", 10),
    ("xoxs-", 10),
    ("sk-", 20),
    ("sk_live_", 16),
    ("rk_live_", 16),
    ("whsec_", 16),
    ("hf_", 30),
    ("npm_", 36),
    ("pypi-", 40),
    ("AIza", 35),
    ("ya29.", 20),
    ("SG.", 40),
];

fn shape(text: &str) -> Option<&'static str> {
    if text.contains("PRIVATE KEY-----") || text.contains("PRIVATE KEY BLOCK-----") {
        return Some("looks like a private key");
    }
    if has_url_with_password(text) {
        return Some("looks like an address with a password in it");
    }
    let is_mark = |c: char| {
        c.is_whitespace() || matches!(c, '"' | '\'' | '`' | ',' | ';' | '<' | '>' | '(' | ')' | '&')
    };
    for piece in text.split(is_mark) {
        // `Password=…;` of connection strings, and headers such as `Authorization: Bearer …`.
        let piece = match piece.split_once(['=', ':']) {
            Some((name, value)) if !value.starts_with("//") && !name.contains('/') => {
                let says =
                    !value.is_empty() && !value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'=');
                if says && !name.is_empty() && names_a_secret(name) {
                    return Some("holds something with the name of a secret");
                }
                if name.len() < 20 && !value.is_empty() { value } else { piece }
            }
            _ => piece,
        };
        if is_jwt(piece) {
            return Some("looks like a JSON Web Token");
        }
        if is_marked(piece) {
            return Some("looks like an access key or token");
        }
    }
    is_random(text.trim()).then_some("looks random, as keys and tokens do")
}

fn is_base64url(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn is_jwt(piece: &str) -> bool {
    let parts: Vec<&str> = piece.splitn(4, '.').collect();
    let [head, body, signature] = parts[..] else { return false };
    // `{"` in base64.
    head.starts_with("eyJ")
        && head.len() > 10
        && body.starts_with("eyJ")
        && [head, body, signature].into_iter().all(is_base64url)
}

fn is_marked(piece: &str) -> bool {
    let is_aws = piece.len() == 20
        && ["AKIA", "ASIA"].iter().any(|mark| piece.starts_with(mark))
        && piece.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    let follows = |rest: &str, least: usize| {
        rest.len() >= least
            && is_base64url(&rest.replace('.', ""))
            && rest.bytes().any(|byte| byte.is_ascii_digit())
    };
    is_aws
        || MARKS
            .iter()
            .any(|(mark, least)| piece.strip_prefix(mark).is_some_and(|rest| follows(rest, *least)))
}

/// `scheme://user:password@host`, where the password is no mere placeholder.
fn has_url_with_password(text: &str) -> bool {
    text.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', '?', '#', ' ', '\n', '"', '\'']).next().unwrap_or_default();
        // A password that was not escaped may hold any of those.
        let authority =
            if authority.contains('@') { authority } else { rest.lines().next().unwrap_or_default() };
        let Some((user_info, _)) = authority.rsplit_once('@') else { return false };
        let Some((user, password)) = user_info.split_once(':') else { return false };
        let is_placeholder = password.is_empty()
            || password.starts_with(['$', '<', '{', '%', '/'])
            || password.bytes().all(|byte| matches!(byte, b'*' | b'x' | b'X' | b'.'));
        !is_placeholder && !user.contains(['/', ' ', '?']) && !password.contains([' ', '/'])
    })
}

/// One long word that changes between capitals, small letters and digits as chance does. Digests and ids in hexadecimal do
/// not: they stand for what is public more often than not.
fn is_random(text: &str) -> bool {
    if !(32..=512).contains(&text.len())
        || !text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_'))
        || ["sha256-", "sha384-", "sha512-"].iter().any(|digest| text.starts_with(digest))
    {
        return false;
    }
    let class = |byte: u8| match byte {
        b'A'..=b'Z' => 0,
        b'a'..=b'z' => 1,
        b'0'..=b'9' => 2,
        _ => 3,
    };
    let classes: Vec<usize> = text.bytes().map(class).collect();
    let has = |wanted: usize| classes.contains(&wanted);
    // A small letter after a capital is how words begin, not chance.
    let changes = classes.windows(2).filter(|pair| pair[0] != pair[1] && pair != &[0, 1]).count();
    has(0) && has(1) && has(2) && changes * 4 >= text.len() && bits_per_byte(text) >= 4.0
}

/// Shannon's entropy of the text's own letters.
fn bits_per_byte(text: &str) -> f64 {
    let mut counts = [0u32; 256];
    for byte in text.bytes() {
        counts[usize::from(byte)] += 1;
    }
    let length = text.len() as f64;
    let share = |count: &u32| f64::from(*count) / length;
    counts.iter().filter(|count| **count > 0).map(share).map(|share| -share * share.log2()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(key: &str, value: ConfigValue) -> Vec<Part> {
        let key = ConfigKey::parse(key).unwrap();
        suspicions(&key, &value).into_iter().map(|suspicion| suspicion.part).collect()
    }

    fn text(value: &str) -> ConfigValue {
        ConfigValue::string(value).unwrap()
    }

    /// What only looks like a secret must not stand in one piece, lest somebody's scanner takes this file for a leak.
    fn joined(pieces: &[&str]) -> String {
        pieces.concat()
    }

    #[test]
    fn names_of_secrets_are_noticed() {
        for key in [
            "PASSWORD",
            "DB_PASSWORD",
            "dbPassword",
            "db.password",
            "dbpassword",
            "db-pass",
            "PGPASSWORD",
            "SMTP_PWD",
            "client_secret",
            "CLIENTSECRET",
            "API_KEY",
            "apiKey",
            "apikey",
            "openaiApiKey",
            "private-key",
            "AWS_SECRET_ACCESS_KEY",
            "AUTH_TOKEN",
            "slackToken",
            "accesstoken",
            "SIGNING_KEY",
            "storage_account_key",
            "credentials",
            "JWT",
            "token2",
        ] {
            assert_eq!(parts(key, text("whatever")), [Part::Key], "{key}");
            assert_eq!(parts(key, text("")), [], "{key}: nothing is given away");
            assert_eq!(parts(key, ConfigValue::boolean(true)), [], "{key}: yes or no is no secret");
        }
        assert_eq!(parts("PASSWORD", ConfigValue::number("123456").unwrap()), [Part::Key]);
    }

    #[test]
    fn names_that_only_speak_of_secrets_pass() {
        for key in [
            "REPORT_YEAR",
            "PASSWORD_MIN_LENGTH",
            "PASSWORD_RESET_URL",
            "TOKEN_TTL",
            "token_endpoint",
            "SECRET_NAME",
            "secretName",
            "max_tokens",
            "AWS_ACCESS_KEY_ID",
            "PUBLIC_KEY",
            "passwordless",
            "tokenizer",
            "SECRETARIAT_EMAIL",
            "compass",
            "PASSENGERS",
            "primary.key",
            "key",
            "KEYBOARD",
            "monkey",
            "bypass",
            "passthrough",
            "API_VERSION",
        ] {
            assert_eq!(parts(key, text("whatever")), [], "{key}");
        }
        assert_eq!(parts("TOKENS", ConfigValue::number("4096").unwrap()), [], "tokens are counted");
    }

    #[test]
    fn shapes_of_secrets_are_noticed() {
        let letters = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0";
        for value in [
            joined(&["-----BEGIN RSA PRIVATE ", "KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----\n"]),
            joined(&["-----BEGIN PGP PRIVATE ", "KEY BLOCK-----\n"]),
            joined(&["eyJhbGciOiJIUzI1NiJ9.", "eyJzdWIiOiIxIn0.", "dBjftJeZ4CVPmB92K27uhbUJU1p1r"]),
            joined(&["Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.", "eyJzdWIiOiIxIn0.", "dBjftJeZ4CV"]),
            joined(&["AKIA", "IOSFODNN7EXAMPLE"]),
            joined(&["use ASIA", "IOSFODNN7EXAMPLE, please"]),
            joined(&["ghp_", letters]),
            joined(&["github_pat_", letters]),
            joined(&["xoxb-", "123456789012-abcdefghijkl"]),
            joined(&["glpat-", &letters[..20]]),
            joined(&["sk-", letters]),
            joined(&["AIza", &letters[..35]]),
            "postgres://app:hunter2@db.example.org/lab".to_owned(),
            "redis://:hunter2@cache:6379".to_owned(),
            "see https://ann:s3cret@example.org/ for more".to_owned(),
            "postgres://app:p@ss#w@db.example.org/lab".to_owned(),
            "Server=db;User Id=app;Password=hunter2;".to_owned(),
            joined(&["AccountName=lab;AccountKey=", letters, "=="]),
            letters.to_owned(),
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            "q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=".to_owned(),
        ] {
            assert_eq!(parts("NOTE", text(&value)), [Part::Value], "{value}");
        }
    }

    #[test]
    fn what_is_no_secret_passes() {
        for value in [
            "",
            "2026",
            "Malaria survey, third round",
            "https://example.org/reports?year=2026&token_type=bearer",
            "https://ann@example.org/",
            "https://example.org/@ann:blog",
            "mailto:ann@example.org",
            "postgres://app@db.example.org/lab",
            "postgres://app:$PASSWORD@db.example.org/lab",
            "postgres://app:***@db.example.org/lab",
            "9d5ed678fe57bcca610140957afab571",
            "da39a3ee5e6b4b0d3255bfef95601890afd80709",
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "sha384-oqVuAfXRKap7fdgcCY5uykM6+R9GqQ8K/uxy9rx7HNQlGYl1kPzQho1wx4JwY8wC",
            "0193a1b2-c3d4-7e8f-9012-345678901234",
            "ghcr.io/acme/very-long-image-name-for-the-data-science-team:2026.01.31",
            "s3://bucket/Some/Path/To/A/Very/Long/Folder2026/Export",
            "ThisIsAVeryLongCamelCaseIdentifierOfVersion2",
            "this-is-a-very-long-name-with-2-digits-and-Capitals",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA1a",
            "ghp_short",
            "sk-learn",
            "sk-learn-contrib-extension-package",
            "eyJ.not.a-token",
            "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkq\n-----END PUBLIC KEY-----",
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ann@example.org",
            "max_tokens=4096",
            "12:30",
            "key: value",
            "Password",
            "The password must have 8 characters.",
        ] {
            assert_eq!(parts("NOTE", text(value)), [], "{value}");
        }
        assert_eq!(parts("BIG", ConfigValue::number(&"1234567890".repeat(10)).unwrap()), []);
    }

    #[test]
    fn secrets_within_json_are_noticed() {
        let json = |text: &str| ConfigValue::json(text).unwrap();
        for value in [
            r#"{"db":{"host":"db","password":"hunter2"}}"#,
            r#"["postgres://app:hunter2@db.example.org/lab"]"#,
            r#"{"apiKey":"x"}"#,
        ] {
            assert_eq!(parts("SETTINGS", json(value)), [Part::Value], "{value}");
        }
        for value in [
            r#"{"db":{"host":"db","password":""},"passwordMinLength":8,"tokens":[1,2]}"#,
            "[1,2,null]",
            r#"{"password":null}"#,
        ] {
            assert_eq!(parts("SETTINGS", json(value)), [], "{value}");
        }
        assert_eq!(parts("CREDENTIALS", json(r#"{"a":1}"#)), [Part::Key]);
    }

    #[test]
    fn a_warning_says_what_to_do_and_quotes_nothing() {
        let key = ConfigKey::parse("NOTE").unwrap();
        let found = suspicions(&key, &text("postgres://app:hunter2@db.example.org/lab"));
        let message = found[0].message();
        assert!(message.contains("credential") && !message.contains("hunter2"), "{message}");
        assert_eq!(found[0].part.field(), "value");
    }

    proptest::proptest! {
        #[test]
        fn random_base62_is_noticed(value in "[A-Za-z0-9]{40,200}") {
            let has = |class: fn(&char) -> bool| value.chars().any(|c| class(&c));
            proptest::prop_assume!(has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase) && has(char::is_ascii_digit));
            // By chance a word in thousands looks tidier than the rest.
            let found = parts("NOTE", text(&value));
            proptest::prop_assert!(found == [Part::Value] || value.len() < 64, "{}", value);
        }

        #[test]
        fn no_value_is_too_strange_to_look_at(value in "\\PC{0,200}") {
            let _ = parts("NOTE", text(&value));
        }
    }
}
