//! Text that came from outside, parsed into types that cannot hold anything else.
//! Knows Unicode, mail addresses, slugs, country codes, image references and labels; refuses to know whether a value is taken, by
//! whom it may be used, or which field it arrived in: a [`TextFault`] reads on from any field's name.
//!
//! Every `parse` takes time linear in its input, and looks at the length before anything costlier.

mod code;
mod country;
mod email;
mod image;
mod name;
mod prose;
mod slug;

pub use code::{ConfigKey, ConfigPrefix, LabelFault, Labels, MAX_LABELS, Region};
pub use country::{CountryCode, MAX_COUNTRIES, parse_countries};
pub use email::Email;
pub use image::ImageRef;
pub use name::DisplayName;
pub use prose::{Markdown, Message, SearchTerm};
pub(crate) use slug::ascii_words;
pub use slug::{CredentialSlug, OrganizationSlug, Slug};

use std::borrow::Cow;

/// Why a text was refused. `Display` is a sentence without its subject, to be put after a field's name:
/// `"displayName"` + `" "` + `"is too long: 81 characters, at most 80"`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextFault {
    #[error("is empty: give it at least one visible character")]
    Empty,
    #[error("is too long: {length} {unit}, at most {max}")]
    TooLong { length: usize, max: usize, unit: &'static str },
    /// `position` counts characters from 1, after the white space around the text is dropped.
    #[error("contains {kind} (U+{:04X}) at position {position}: remove it", u32::from(*.found))]
    Character { kind: CharacterFault, found: char, position: usize },
    #[error("contains \"=?\", which mail programs decode as hidden text: remove it")]
    EncodedWord,
    #[error("mixes alphabets in a way that imitates other letters: write each word in one alphabet")]
    MixedScripts,
    /// The form is wrong; the text says how, and what the right form is.
    #[error("{0}")]
    Malformed(Cow<'static, str>),
    #[error("is reserved: \"{0}\" is used by the service itself, choose another")]
    Reserved(&'static str),
}

impl TextFault {
    /// The sentence for people, to follow a field's name; it quotes at most a few characters of the input.
    pub fn message(&self) -> String {
        self.to_string()
    }
}

/// The kinds of character that no text may hold where it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CharacterFault {
    #[error("a control character")]
    Control,
    #[error("a control for text direction")]
    Direction,
    #[error("an invisible or unassigned character")]
    Invisible,
    #[error("a character that is not allowed here")]
    NotAllowed,
}

/// What each text newtype is able to do, given its own `parse`.
macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// Takes back a value that `parse` once made, from our own storage only: rules that became
            /// stricter since then must not make stored rows unreadable.
            pub fn from_stored(value: String) -> Self {
                Self(value)
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }

            pub fn into_string(self) -> String {
                self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::text::TextFault;

            fn try_from(raw: String) -> Result<Self, Self::Error> {
                Self::parse(&raw)
            }
        }
    };
}
use text_type;

/// The text as searches compare it: in lower case, and with one lower-case sigma instead of two, since which of them a capital
/// one becomes depends on where its word ends, and a part of a name ends anywhere.
pub fn fold_case(text: &str) -> String {
    text.to_lowercase().replace('ς', "σ")
}

/// Drops the white space around `raw` and refuses it when nothing is left, or so much that no normalising
/// could bring it down to `max` characters (NFC joins at most a handful into one).
fn trimmed(raw: &str, max: usize) -> Result<&str, TextFault> {
    let text = raw.trim();
    if text.is_empty() {
        return Err(TextFault::Empty);
    }
    if text.len() > 16 * max {
        return Err(TextFault::TooLong { length: text.chars().count(), max, unit: "characters" });
    }
    Ok(text)
}

fn at_most(text: &str, max: usize) -> Result<(), TextFault> {
    match text.chars().count() {
        length if length > max => Err(TextFault::TooLong { length, max, unit: "characters" }),
        _ => Ok(()),
    }
}

/// Refuses the first character to which `fault_of` gives a fault.
fn refuse_characters(text: &str, fault_of: impl Fn(char) -> Option<CharacterFault>) -> Result<(), TextFault> {
    for (index, found) in text.chars().enumerate() {
        if let Some(kind) = fault_of(found) {
            return Err(TextFault::Character { kind, found, position: index + 1 });
        }
    }
    Ok(())
}

/// Embeddings, overrides and isolates: they reorder whatever is shown after them.
fn reorders_text(c: char) -> bool {
    matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// An RFC 2047 encoded word begins so: some mailers decode it even where it was meant literally.
fn refuse_encoded_word(text: &str) -> Result<(), TextFault> {
    if text.contains("=?") { Err(TextFault::EncodedWord) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn ten_megabytes_are_refused_at_once_by_every_type() {
        for piece in ["a", "а", "e\u{301}", " a", "-", "%", "a.", "\u{200D}", "\u{0}", "𝔞", "@", "\u{1100}"]
        {
            let huge = piece.repeat(10_000_000 / piece.len());
            let started = Instant::now();
            assert!(DisplayName::parse(&huge).is_err());
            assert!(Email::parse(&huge).is_err());
            assert!(Email::parse(&format!("a@{huge}")).is_err());
            assert!(Slug::parse(&huge).is_err());
            assert!(Markdown::parse(&huge).is_err());
            assert!(Message::parse(&huge).is_err());
            assert!(SearchTerm::parse(&huge).is_err());
            assert!(CountryCode::parse(&huge).is_err());
            assert!(ImageRef::parse(&huge).is_err());
            assert!(Region::parse(&huge).is_err());
            assert!(ConfigKey::parse(&huge).is_err());
            assert!(Labels::parse(&[(&huge, &huge)]).is_err());
            assert!(Slug::derive(&huge).as_str().len() <= 63);
            assert!(started.elapsed() < Duration::from_secs(2), "{piece:?} took {:?}", started.elapsed());
        }
    }

    #[test]
    fn a_fault_reads_on_from_the_name_of_its_field() {
        let long = "x".repeat(81);
        for (fault, sentence) in [
            (DisplayName::parse(&long).unwrap_err(), "is too long: 81 characters, at most 80"),
            (
                DisplayName::parse("Ann\u{0}").unwrap_err(),
                "contains a control character (U+0000) at position 4: remove it",
            ),
            (
                DisplayName::parse("a\u{202E}b").unwrap_err(),
                "contains a control for text direction (U+202E) at position 2: remove it",
            ),
            (DisplayName::parse(" \n ").unwrap_err(), "is empty: give it at least one visible character"),
            (
                Slug::parse("admin").unwrap_err(),
                "is reserved: \"admin\" is used by the service itself, choose another",
            ),
        ] {
            assert_eq!(fault.message(), sentence);
        }
    }

    #[test]
    fn no_message_repeats_a_long_input() {
        let long = "QQ".repeat(5_000);
        for fault in [
            Email::parse(&long).unwrap_err(),
            Email::parse(&format!("a@{long}.org")).unwrap_err(),
            Slug::parse(&long).unwrap_err(),
            CountryCode::parse(&long).unwrap_err(),
            ImageRef::parse(&long).unwrap_err(),
            Region::parse(&long).unwrap_err(),
            ConfigKey::parse(&long).unwrap_err(),
            DisplayName::parse(&long).unwrap_err(),
        ] {
            assert!(!fault.message().contains(&"QQ".repeat(21)), "{fault}");
        }
    }

    #[test]
    fn serde_writes_plain_strings_and_reads_only_what_parses() {
        let name = DisplayName::parse("Ann Lee").unwrap();
        assert_eq!(serde_json::to_string(&name).unwrap(), "\"Ann Lee\"");
        assert_eq!(serde_json::from_str::<DisplayName>("\"  Ann   Lee \"").unwrap(), name);
        assert_eq!(serde_json::from_str::<CountryCode>("\"fr\"").unwrap().as_str(), "FR");
        for bad in ["\"\"", "\"a\\u0000\"", "7"] {
            assert!(serde_json::from_str::<DisplayName>(bad).is_err(), "{bad}");
        }
    }
}
