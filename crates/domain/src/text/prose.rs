//! Longer text and search terms. Knows what may stand in text that is shown as written; refuses to know
//! Markdown itself: whoever renders it escapes it.

use super::{
    CharacterFault, TextFault, at_most, fold_case, refuse_characters, reorders_text, text_type, trimmed,
};
use unicode_normalization::UnicodeNormalization;

const MAX_MARKDOWN_BYTES: usize = 64 * 1024;
const MAX_MESSAGE_CHARS: usize = 500;
const MAX_SEARCH_CHARS: usize = 100;

text_type! {
    /// A home page in Markdown: never blank, at most 64 KiB with lines ended by `\n`, otherwise as written.
    Markdown
}

impl Markdown {
    pub fn parse(raw: &str) -> Result<Self, TextFault> {
        // Before line ends are normalised, so that a huge text is not copied; `\r\n` counts as it was sent.
        if raw.len() > MAX_MARKDOWN_BYTES {
            return Err(TextFault::TooLong { length: raw.len(), max: MAX_MARKDOWN_BYTES, unit: "bytes" });
        }
        if raw.trim().is_empty() {
            return Err(TextFault::Empty);
        }
        lines(raw).map(Self)
    }

    /// `None` for blank text, by which a client clears the page.
    pub fn parse_or_clear(raw: &str) -> Result<Option<Self>, TextFault> {
        if raw.trim().is_empty() { Ok(None) } else { Self::parse(raw).map(Some) }
    }
}

text_type! {
    /// A few words: those that go with an invitation, or what a role is for. Never blank, NFC, at most 500 characters, lines ended by
    /// `\n`.
    Message
}

impl Message {
    pub fn parse(raw: &str) -> Result<Self, TextFault> {
        let text: String = lines(trimmed(raw, MAX_MESSAGE_CHARS)?)?.nfc().collect();
        at_most(&text, MAX_MESSAGE_CHARS)?;
        Ok(Self(text))
    }

    /// `None` for blank text: an invitation without a message.
    pub fn parse_optional(raw: &str) -> Result<Option<Self>, TextFault> {
        if raw.trim().is_empty() { Ok(None) } else { Self::parse(raw).map(Some) }
    }
}

/// Ends lines by `\n` and refuses controls other than it and tab, and whatever reorders text. Direction *marks*
/// stay: Arabic and Hebrew prose needs them, and they move nothing but punctuation.
fn lines(raw: &str) -> Result<String, TextFault> {
    let text = raw.replace("\r\n", "\n").replace('\r', "\n");
    refuse_characters(&text, |c| match c {
        '\n' | '\t' => None,
        _ if c.is_control() => Some(CharacterFault::Control),
        _ if reorders_text(c) => Some(CharacterFault::Direction),
        _ => None,
    })?;
    Ok(text)
}

text_type! {
    /// What somebody types into a search box: never blank, NFC, at most 100 characters.
    SearchTerm
}

impl SearchTerm {
    pub fn parse(raw: &str) -> Result<Self, TextFault> {
        let term: String = trimmed(raw, MAX_SEARCH_CHARS)?.nfc().collect();
        refuse_characters(&term, |c| c.is_control().then_some(CharacterFault::Control))?;
        at_most(&term, MAX_SEARCH_CHARS)?;
        Ok(Self(term))
    }

    /// `None` for blank text: no search at all.
    pub fn parse_optional(raw: &str) -> Result<Option<Self>, TextFault> {
        if raw.trim().is_empty() { Ok(None) } else { Self::parse(raw).map(Some) }
    }

    /// "Contains this term", for `LIKE … ESCAPE '\'` on a column with what [`fold_case`] gave.
    pub fn like_pattern(&self) -> String {
        let mut pattern = String::from("%");
        for c in fold_case(&self.0).chars() {
            if matches!(c, '%' | '_' | '\\') {
                pattern.push('\\');
            }
            pattern.push(c);
        }
        pattern.push('%');
        pattern
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_keeps_what_was_written_but_line_ends() {
        let page = Markdown::parse("# Hi\r\n\r\n\tcode\rend  \n<script>\u{200F}שלום\n").unwrap();
        assert_eq!(page.as_str(), "# Hi\n\n\tcode\nend  \n<script>\u{200F}שלום\n");
    }

    #[test]
    fn blank_text_clears() {
        for blank in ["", " \r\n\t "] {
            assert_eq!(Markdown::parse_or_clear(blank), Ok(None));
            assert_eq!(Message::parse_optional(blank), Ok(None));
            assert_eq!(SearchTerm::parse_optional(blank), Ok(None));
            assert_eq!(Markdown::parse(blank), Err(TextFault::Empty));
        }
    }

    #[test]
    fn a_part_of_a_name_is_found_wherever_a_sigma_stands() {
        let pattern = |term| SearchTerm::parse(term).unwrap().like_pattern();
        assert_eq!(fold_case("ΣΩΣΤΟΣ"), "σωστοσ");
        for term in ["ΣΩΣ", "σωσ", "σως"] {
            assert_eq!(pattern(term), "%σωσ%", "{term}");
        }
    }

    #[test]
    fn prose_refuses_controls_and_reordering() {
        for bad in ["a\u{0}", "\u{1B}[2J", "a\u{8}b", "a\u{85}b", "a\u{202E}b", "a\u{2067}b", "a\u{202C}"] {
            assert!(matches!(Markdown::parse(bad), Err(TextFault::Character { .. })), "{bad:?}");
            assert!(matches!(Message::parse(bad), Err(TextFault::Character { .. })), "{bad:?}");
        }
        assert_eq!(Message::parse(" Hello,\r\nwelcome! 👩‍⚕️ ").unwrap().as_str(), "Hello,\nwelcome! 👩‍⚕️");
    }

    #[test]
    fn limits_of_prose_are_met_exactly() {
        assert!(Markdown::parse(&"x".repeat(65_536)).is_ok());
        assert!(matches!(Markdown::parse(&"x".repeat(65_537)), Err(TextFault::TooLong { max: 65_536, .. })));
        assert!(Message::parse(&"é".repeat(500)).is_ok());
        assert!(matches!(Message::parse(&"é".repeat(501)), Err(TextFault::TooLong { length: 501, .. })));
        assert!(SearchTerm::parse(&"é".repeat(100)).is_ok());
        assert!(matches!(SearchTerm::parse(&"é".repeat(101)), Err(TextFault::TooLong { length: 101, .. })));
    }

    #[test]
    fn a_search_term_is_matched_literally() {
        for (raw, pattern) in [
            ("Ann", "%ann%"),
            (" 100%_\\ ", "%100\\%\\_\\\\%"),
            ("ÉCOLE", "%école%"),
            ("'; DROP TABLE x --", "%'; drop table x --%"),
        ] {
            assert_eq!(SearchTerm::parse(raw).unwrap().like_pattern(), pattern);
        }
        assert!(SearchTerm::parse("a\u{0}b").is_err());
        assert!(SearchTerm::parse("a\nb").is_err());
    }
}
