//! Which passwords are good enough, and the one form in which they are hashed. Knows length, characters and
//! guessability; refuses to know hashing, storage, or whose password it is beyond the words it is given.

use std::fmt;
use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};
use zxcvbn::matching::{Match, patterns::MatchPattern};
use zxcvbn::{Entropy, Score, zxcvbn};

const MIN_CHARS: usize = 8;
const MAX_CHARS: usize = 128;
/// More bytes than 128 characters can have in any spelling that is not made to be long.
const MAX_RAW_BYTES: usize = 16 * MAX_CHARS;
/// zxcvbn's arithmetic overflows on longer patterns, such as fifty times `()`.
const ESTIMATED_CHARS: usize = 32;
/// Personal words beyond these do not make a password safer, only the check slower.
const MAX_PERSONAL_WORDS: usize = 32;

/// The form in which a password is checked, hashed and compared: the OpaqueString profile of RFC 8265, section
/// 4.2.2, maps any other space to U+0020 and normalises to NFC, so that one password typed on two keyboards is
/// the same; letter case and width stay (NFKC, which NIST SP 800-63B names, would merge distinct passwords).
///
/// Bound the length of `raw` first where it has not passed [`PasswordPolicy::check`].
pub fn prepare(raw: &str) -> String {
    raw.chars()
        .map(|c| if c.general_category() == GeneralCategory::SpaceSeparator { ' ' } else { c })
        .nfc()
        .collect()
}

/// What a new password must satisfy. It never applies to signing in: rules change, passwords stay.
pub struct PasswordPolicy;

impl PasswordPolicy {
    /// Checks a new password in any spelling. `personal` holds what an attacker would try first: e-mail address,
    /// name; each is also taken apart into words. A password that is too long is not examined further, so the
    /// cost is bounded by 128 characters.
    pub fn check(candidate: &str, personal: &[&str]) -> Result<(), Unmet> {
        if candidate.len() > MAX_RAW_BYTES {
            return Err(Unmet(vec![PasswordRule::TooLong]));
        }
        let password = prepare(candidate);
        let length = password.chars().count();
        if length > MAX_CHARS {
            return Err(Unmet(vec![PasswordRule::TooLong]));
        }

        let mut unmet = Vec::new();
        if length < MIN_CHARS {
            unmet.push(PasswordRule::TooShort);
        }
        if password.chars().any(char::is_control) {
            unmet.push(PasswordRule::ControlCharacters);
        }
        unmet.extend(guessable(&password, personal));
        if unmet.is_empty() { Ok(()) } else { Err(Unmet(unmet)) }
    }
}

/// A rule that a password does not meet; `Display` is a sentence for the person who chose it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordRule {
    TooShort,
    TooLong,
    ControlCharacters,
    /// `advice`: sentences on what makes it easy to guess and what would help; may be empty.
    Guessable {
        advice: Vec<String>,
    },
}

impl fmt::Display for PasswordRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => write!(f, "Use at least {MIN_CHARS} characters."),
            Self::TooLong => write!(f, "Use at most {MAX_CHARS} characters."),
            Self::ControlCharacters => {
                f.write_str("Leave out control characters such as tabs and line breaks.")
            }
            Self::Guessable { advice } => {
                f.write_str("Choose a password that is harder to guess.")?;
                advice.iter().try_for_each(|sentence| write!(f, " {sentence}"))
            }
        }
    }
}

/// Every rule that a password does not meet: at least one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))]
pub struct Unmet(pub Vec<PasswordRule>);

fn guessable(password: &str, personal: &[&str]) -> Option<PasswordRule> {
    let words = personal_words(personal);
    let inputs: Vec<&str> = words.iter().map(String::as_str).chain(["guildhall"]).collect();
    let estimate = hardest_part(password, &inputs)?;
    if estimate.score() >= Score::Three {
        return None;
    }

    let mut advice = Vec::new();
    if estimate.sequence().iter().any(|part| is_personal(part, &words)) {
        advice.push("It contains a part of your name or e-mail address.".to_owned());
    }
    if let Some(feedback) = estimate.feedback() {
        advice.extend(feedback.warning().map(|warning| warning.to_string()));
        advice.extend(feedback.suggestions().iter().map(ToString::to_string));
    }
    Some(PasswordRule::Guessable { advice })
}

/// A password is at least as hard to guess as the hardest part of it.
fn hardest_part(password: &str, inputs: &[&str]) -> Option<Entropy> {
    // An empty password has one part, the empty one.
    let parts = if password.is_empty() { vec![String::new()] } else { parts(password) };
    parts.iter().map(|part| zxcvbn(part, inputs)).max_by_key(Entropy::guesses)
}

fn parts(text: &str) -> Vec<String> {
    text.chars().collect::<Vec<_>>().chunks(ESTIMATED_CHARS).map(|part| part.iter().collect()).collect()
}

/// Each text as a whole (in parts, where a password would be) and each of its words of three letters or more, in
/// lower case.
fn personal_words(personal: &[&str]) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for text in personal {
        let text = prepare(&text.chars().take(MAX_RAW_BYTES).collect::<String>()).to_lowercase();
        let single = text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.chars().nth(2).is_some());
        for word in parts(&text).into_iter().chain(single.flat_map(parts)) {
            if words.len() < MAX_PERSONAL_WORDS && !words.contains(&word) {
                words.push(word);
            }
        }
    }
    words
}

fn is_personal(part: &Match, words: &[String]) -> bool {
    matches!(&part.pattern, MatchPattern::Dictionary(found) if words.contains(&found.matched_word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    const PERSONAL: [&str; 2] = ["jane.doe-smith@example.org", "Jane Doe-Smith"];

    fn unmet(candidate: &str) -> Vec<PasswordRule> {
        PasswordPolicy::check(candidate, &PERSONAL).err().map_or(vec![], |Unmet(rules)| rules)
    }

    fn is_guessable(rule: &PasswordRule) -> bool {
        matches!(rule, PasswordRule::Guessable { .. })
    }

    #[test]
    fn long_enough_and_hard_to_guess_passes() {
        for good in [
            "correct horse battery staple",
            "vT9#qLm2xZ",
            "zebra-quilt-onyx",
            "парольный кит ест мох",
            "🦊🐳🌵🪐🧭🎻🪁🧊🎈",
        ] {
            assert_eq!(unmet(good), [], "{good}");
        }
        assert_eq!(unmet(&"vT9#qLm2xZ,w".repeat(11)[..128]), []);
    }

    #[test]
    fn common_and_personal_passwords_are_guessable() {
        for weak in [
            "password",
            "Password1!",
            "12345678",
            "qwertyuiop",
            "aaaaaaaaaaaa",
            "jane.doe-smith@example.org",
            "Jane1990",
            "doesmith",
            "example.org",
            "guildhall",
            "Guildhall1",
            "letmein1",
            "2026-01-01",
        ] {
            assert!(unmet(weak).iter().any(is_guessable), "{weak} passed");
        }
    }

    #[test]
    fn personal_words_make_a_password_weak_only_for_their_owner() {
        let candidate = "Vrtochorkvany";
        assert_eq!(PasswordPolicy::check(candidate, &[]), Ok(()));
        let Unmet(rules) = PasswordPolicy::check(candidate, &["Bo Vrtochorkvany"]).unwrap_err();
        assert!(rules[0].to_string().contains("your name or e-mail address"), "{rules:?}");
    }

    #[test]
    fn a_long_e_mail_address_is_no_password_for_its_owner() {
        let email = "gwendolyn.fitzwilliam@department-of-long-names.example.org";
        for candidate in [email.to_owned(), email.to_uppercase(), format!("{email}1")] {
            assert_eq!(PasswordPolicy::check(&candidate, &[]), Ok(()));
            assert!(PasswordPolicy::check(&candidate, &[email]).is_err(), "{candidate}");
        }
    }

    #[test]
    fn every_unmet_rule_is_listed() {
        let rules = unmet("abc\n");
        assert_eq!(rules.len(), 3);
        assert!(rules.contains(&PasswordRule::TooShort) && rules.contains(&PasswordRule::ControlCharacters));
        assert!(is_guessable(&rules[2]));
        assert_eq!(unmet("").len(), 2);
        assert_eq!(unmet("vT9#qLm2xZ\u{0}"), [PasswordRule::ControlCharacters]);
    }

    #[test]
    fn a_rule_is_a_sentence_with_advice() {
        assert_eq!(PasswordRule::TooShort.to_string(), "Use at least 8 characters.");
        let text = unmet("password")[0].to_string();
        assert!(
            text.starts_with("Choose a password that is harder to guess. This is a top-10 common password."),
            "{text}"
        );
    }

    #[test]
    fn length_counts_characters_of_the_prepared_form() {
        assert!(unmet("🦊🐳🌵🪐🧭🎻🪁").contains(&PasswordRule::TooShort));
        assert_eq!(unmet(&"x".repeat(129)), [PasswordRule::TooLong]);
        assert!(!unmet(&"e\u{301}".repeat(128)).contains(&PasswordRule::TooLong));
        assert!(!unmet(&"e\u{301}".repeat(7)).is_empty());
    }

    #[test]
    fn one_password_typed_on_two_keyboards_is_the_same() {
        for (one, other) in [("zoe\u{308} x", "zoë\u{A0}x"), ("a\u{3000}b", "a b"), ("\u{212B}", "Å")] {
            assert_eq!(prepare(one), prepare(other));
        }
        for (one, other) in [("Ａ", "A"), ("ﬁ", "fi"), ("a ", "a"), ("Ab", "ab")] {
            assert_ne!(prepare(one), prepare(other));
        }
    }

    #[test]
    fn no_candidate_costs_much_time() {
        let words: Vec<String> = (0..1000).map(|n| format!("word{n} other{n}")).collect();
        let personal: Vec<&str> = words.iter().map(String::as_str).collect();
        for candidate in ["a", "aB3$", "qwerty", "1990", "p4ssw0rd", "é", "\u{301}", "()", "4@8({[<3"] {
            for size in [128, 10_000_000] {
                let text = candidate.repeat(size / candidate.len());
                let started = Instant::now();
                let _ = PasswordPolicy::check(&text, &personal);
                assert!(
                    started.elapsed() < Duration::from_secs(2),
                    "{candidate} × {size}: {:?}",
                    started.elapsed()
                );
            }
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
        #[test]
        fn no_password_makes_the_estimate_panic(
            candidate in "\\PC{0,140}|[()qwertyQWERTY]{30,128}|[aA4@sS$5]{30,128}|[0-9/]{0,128}",
            personal in "\\PC{0,60}|[aA4@sS$5]{0,300}",
        ) {
            let _ = PasswordPolicy::check(&candidate, &[&personal]);
        }
    }
}
