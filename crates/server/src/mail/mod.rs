//! Mail: a letter in, bytes on their way to a mail server (or into a file) out.
//!
//! Knows how letters become messages ([`Templates`], [`Letterhead`]) and how these leave the house
//! ([`SmtpMailer`], [`FileMailer`]). Refuses to know the queue: who calls [`Mailer::send`], how often it is tried
//! again and when it is given up is the worker's business, helped by the two kinds of [`SendError`].

mod files;
mod message;
mod render;
mod smtp;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

pub use files::FileMailer;
pub use message::{Letterhead, LetterheadError};
pub use render::{Rendered, TemplateError, Templates};
pub use smtp::{SmtpConfig, SmtpConfigError, SmtpMailer, TlsMode};

/// A way out for mail. Two exist: a mail server and a directory.
#[async_trait]
pub trait Mailer: Send + Sync {
    /// Hands one mail over. `Ok` means the other side took responsibility for it; a mail that is sent again under
    /// the same [`Outgoing::id`] carries the same `Message-ID`, so that receivers can drop the duplicate.
    async fn send(&self, mail: &Outgoing) -> Result<(), SendError>;
}

/// One mail, ready to leave.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The mail's id in the queue, the same at every attempt.
    pub id: Uuid,
    /// What the `Date` header says.
    pub date: DateTime<Utc>,
    /// Address of the one recipient, at most 254 bytes.
    pub to: String,
    pub content: Rendered,
}

/// Why a mail did not leave. The text is fit for the eyes of a workspace admin: one line, at most
/// [`SendError::MAX_CHARS`] characters, no credentials, of the mail server only what it answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It may go better later: try again.
    #[error("{0}")]
    Transient(String),
    /// This mail to this recipient will never leave: give up.
    #[error("{0}")]
    Permanent(String),
}

impl SendError {
    /// The most characters a text can have.
    pub const MAX_CHARS: usize = 300;

    fn transient(text: &str) -> Self {
        Self::Transient(presentable(text))
    }

    fn permanent(text: &str) -> Self {
        Self::Permanent(presentable(text))
    }

    /// Whether another attempt makes sense.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Transient(_))
    }
}

fn presentable(text: &str) -> String {
    let line = one_line(text);
    if line.chars().count() <= SendError::MAX_CHARS {
        return line;
    }
    line.chars().take(SendError::MAX_CHARS - 1).chain(['…']).collect()
}

/// `text` as one line that cannot pretend to be anything else: line breaks and other control characters become
/// spaces, runs of white space one space; characters that reorder or hide text are dropped.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if deceives(c) {
            continue;
        }
        if c.is_control() || c.is_whitespace() {
            if !line.is_empty() && !line.ends_with(' ') {
                line.push(' ');
            }
        } else {
            line.push(c);
        }
    }
    line.truncate(line.trim_end().len());
    line
}

/// Bidirectional controls, invisible separators and tag characters. The joiners U+200C and U+200D stay: Persian and
/// emoji need them.
fn deceives(c: char) -> bool {
    matches!(c,
        '\u{061C}' | '\u{180E}' | '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_drops_what_could_deceive() {
        assert_eq!(one_line("  Ann\r\nBcc: x\u{2028}\u{0}y\u{202E}z \t"), "Ann Bcc: x yz");
        assert_eq!(one_line("نام\u{200C}ها 👩\u{200D}🔬"), "نام\u{200C}ها 👩\u{200D}🔬");
    }

    #[test]
    fn the_text_of_an_error_is_short_and_on_one_line() {
        let error = SendError::transient(&format!("450 busy\r\n450 {}", "ü".repeat(500)));
        assert_eq!(error.to_string().chars().count(), SendError::MAX_CHARS);
        assert!(!error.to_string().contains(['\r', '\n']));
    }
}
