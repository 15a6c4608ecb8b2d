//! From a rendered mail to the bytes of an RFC 5322 message.
//!
//! Knows headers and addresses and trusts none of the texts that go into them. Refuses to know how the bytes travel.

use lettre::{
    Address, Message,
    address::Envelope,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
};
use url::{Host, Url};

use super::{Outgoing, SendError, one_line};

/// The longest address a mail server must accept (RFC 5321: a path of 256 bytes, less its brackets).
const MAX_ADDRESS_BYTES: usize = 254;
const MAX_SUBJECT_CHARS: usize = 200;

/// What every message of this installation has in common: the sender, and the host that makes message ids unique.
#[derive(Clone, Debug)]
pub struct Letterhead {
    from: Mailbox,
    host: String,
}

/// Why a sender or a URL cannot stand on the letterhead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LetterheadError {
    #[error("the sender must look like `Guildhall <guildhall@example.com>` or `guildhall@example.com`")]
    Sender,
    #[error("the application's URL names no host")]
    Host,
}

impl Letterhead {
    /// The sender used when none is configured.
    pub const DEFAULT_FROM: &'static str = "Guildhall <guildhall@localhost>";

    /// `from` is `Name <address>` or a bare address; the host of `app_url` goes into the message ids.
    pub fn new(from: &str, app_url: &Url) -> Result<Self, LetterheadError> {
        let from = from.trim();
        let (name, address) = match from.strip_suffix('>').and_then(|rest| rest.rsplit_once('<')) {
            Some((name, address)) => (name.trim().trim_matches('"'), address),
            None => ("", from),
        };
        let name = header_text(name);
        let from = Mailbox::new(
            (!name.is_empty()).then_some(name),
            address_of(address).map_err(|_| LetterheadError::Sender)?,
        );
        let host = match app_url.host().ok_or(LetterheadError::Host)? {
            Host::Domain(domain) => domain.to_owned(),
            Host::Ipv4(ip) => format!("[{ip}]"),
            Host::Ipv6(ip) => format!("[IPv6:{ip}]"),
        };
        Ok(Self { from, host })
    }

    /// The name this installation gives itself, also in the greeting to a mail server.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// The complete message. What it refuses, it refuses for ever: [`SendError::Permanent`].
    pub(super) fn compose(&self, mail: &Outgoing) -> Result<Message, SendError> {
        let to = address_of(&mail.to).map_err(SendError::permanent)?;
        let envelope = Envelope::new(Some(self.from.email.clone()), vec![to.clone()])
            .map_err(|_| SendError::permanent(UNUSABLE_ADDRESS))?;
        let subject: String = header_text(&mail.content.subject).chars().take(MAX_SUBJECT_CHARS).collect();
        Message::builder()
            .message_id(Some(format!("<{}@{}>", mail.id, self.host)))
            .date(mail.date.into())
            .from(self.from.clone())
            .to(to.into())
            .subject(subject)
            // Out-of-office replies to a machine help nobody (RFC 3834).
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ))
            .envelope(envelope)
            .multipart(MultiPart::alternative_plain_html(
                mail.content.text.clone(),
                mail.content.html.clone(),
            ))
            .map_err(|_| SendError::permanent("The mail could not be put together."))
    }
}

const UNUSABLE_ADDRESS: &str = "The e-mail address cannot be used for mail.";

/// Text for a header: one line, and no `=?`, which some readers decode into lines of a header of their own.
fn header_text(text: &str) -> String {
    let mut text = one_line(text);
    while text.contains("=?") {
        text = text.replace("=?", "= ?");
    }
    text
}

/// Parses an address; an international domain becomes its ASCII form, as not every server knows SMTPUTF8.
fn address_of(address: &str) -> Result<Address, &'static str> {
    if address.len() > MAX_ADDRESS_BYTES {
        return Err("The e-mail address is longer than 254 characters.");
    }
    // `=?` is a legal local part, yet nobody has it, and an encoded word in an address is an attack.
    if address.chars().any(|c| c.is_control() || c.is_whitespace()) || address.contains("=?") {
        return Err(UNUSABLE_ADDRESS);
    }
    let (user, domain) = address.rsplit_once('@').ok_or(UNUSABLE_ADDRESS)?;
    let parsed = if domain.is_ascii() {
        Address::new(user, domain)
    } else {
        match Host::parse(domain) {
            Ok(Host::Domain(domain)) => Address::new(user, domain),
            _ => return Err(UNUSABLE_ADDRESS),
        }
    };
    parsed.map_err(|_| UNUSABLE_ADDRESS)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use mail_parser::{Message as Parsed, MessageParser};
    use uuid::Uuid;

    use super::*;
    use crate::mail::Rendered;

    fn mail(to: &str, subject: &str) -> Outgoing {
        Outgoing {
            id: Uuid::nil(),
            date: DateTime::from_timestamp(1_795_219_200, 0).unwrap(),
            to: to.into(),
            content: Rendered { subject: subject.into(), text: "Hello".into(), html: "<p>Hello</p>".into() },
        }
    }

    fn bytes(from: &str, to: &str, subject: &str) -> Vec<u8> {
        let head = Letterhead::new(from, &Url::parse("https://guild.example:8443/app").unwrap()).unwrap();
        head.compose(&mail(to, subject)).unwrap().formatted()
    }

    fn parse(raw: &[u8]) -> Parsed<'_> {
        MessageParser::default().parse(raw).unwrap()
    }

    const HEADERS: [&str; 8] =
        ["Message-ID", "Date", "From", "To", "Subject", "Auto-Submitted", "MIME-Version", "Content-Type"];

    fn only_our_headers(raw: &[u8]) {
        for header in parse(raw).headers() {
            assert!(HEADERS.iter().any(|h| h.eq_ignore_ascii_case(header.name())), "{}", header.name());
        }
        let head = String::from_utf8_lossy(raw);
        let head = head.split("\r\n\r\n").next().unwrap().to_owned();
        for name in HEADERS {
            let count =
                head.lines().filter(|l| l.to_lowercase().starts_with(&format!("{}:", name.to_lowercase())));
            assert_eq!(count.count(), 1, "{name} in\n{head}");
        }
    }

    #[test]
    fn the_headers_say_what_they_should() {
        let raw = bytes(Letterhead::DEFAULT_FROM, "ben+tag@example.com", "Hello Ben");
        only_our_headers(&raw);
        let parsed = parse(&raw);
        assert_eq!(parsed.message_id(), Some("00000000-0000-0000-0000-000000000000@guild.example"));
        assert_eq!(parsed.subject(), Some("Hello Ben"));
        assert_eq!(parsed.date().unwrap().to_rfc3339(), "2026-11-21T00:00:00Z");
        assert_eq!(parsed.from().unwrap().first().unwrap().address(), Some("guildhall@localhost"));
        assert_eq!(parsed.from().unwrap().first().unwrap().name(), Some("Guildhall"));
        assert_eq!(parsed.to().unwrap().first().unwrap().address(), Some("ben+tag@example.com"));
        assert_eq!(parsed.header_raw("Auto-Submitted").map(str::trim), Some("auto-generated"));
        assert_eq!(parsed.body_text(0).unwrap().trim(), "Hello");
        assert_eq!(parsed.body_html(0).unwrap().trim(), "<p>Hello</p>");
    }

    #[test]
    fn a_subject_cannot_become_a_header() {
        for evil in [
            "Hi\r\nBcc: all@example.com",
            "Hi\nBcc: all@example.com\n\nbody",
            "=?utf-8?q?Hi=0D=0ABcc:_all@example.com?=",
            "==??utf-8?b?SGkNCkJjYzogYWxsQGV4YW1wbGUuY29t?=",
            "=\u{200B}?utf-8?b?SGkNCkJjYzogYWxsQGV4YW1wbGUuY29t?=",
            "Hi\u{0}\u{85}\u{2028}Bcc: all@example.com",
            "ü\r\nBcc: all@example.com",
            "ü=?utf-8?q?Hi=0D=0ABcc:_all@example.com?=",
        ] {
            let raw = bytes(Letterhead::DEFAULT_FROM, "ben@example.com", evil);
            only_our_headers(&raw);
            let subject = parse(&raw).subject().unwrap().to_owned();
            assert!(!subject.contains(['\r', '\n', '\0']) && !subject.contains("=?"), "{subject:?}");
            assert!(subject.contains("Bcc") || subject.contains("= ?"), "kept as plain text: {subject:?}");
        }
    }

    #[test]
    fn a_senders_name_cannot_become_a_header() {
        for evil in
            ["Ann\r\nBcc: x@example.com", "=?utf-8?q?A=0D=0ABcc:_x@e.com?=", "A\" <x@example.com>, \"B"]
        {
            let raw = bytes(&format!("{evil} <guildhall@example.com>"), "ben@example.com", "Hi");
            only_our_headers(&raw);
            let parsed = parse(&raw);
            let from: Vec<_> = parsed.from().unwrap().iter().map(|a| a.address().unwrap()).collect();
            assert_eq!(from, ["guildhall@example.com"]);
            assert!(!parsed.from().unwrap().first().unwrap().name().unwrap().contains("\r\n"));
        }
    }

    #[test]
    fn names_and_subjects_of_every_script_arrive_intact() {
        let raw = bytes(
            "Gildenhaus Zürich 会館 <guildhall@example.com>",
            "ben@example.com",
            "Émile lädt dich ein 🎉",
        );
        assert!(raw.is_ascii());
        let parsed = parse(&raw);
        assert_eq!(parsed.from().unwrap().first().unwrap().name(), Some("Gildenhaus Zürich 会館"));
        assert_eq!(parsed.subject(), Some("Émile lädt dich ein 🎉"));
    }

    #[test]
    fn a_very_long_subject_is_folded_and_cut() {
        let raw = bytes(Letterhead::DEFAULT_FROM, "ben@example.com", &"ä very löng subject ".repeat(40));
        only_our_headers(&raw);
        assert!(String::from_utf8_lossy(&raw).lines().all(|l| l.len() <= 998));
        assert!(parse(&raw).subject().unwrap().chars().count() <= MAX_SUBJECT_CHARS);
    }

    #[test]
    fn an_international_domain_is_written_in_ascii() {
        let raw = bytes(Letterhead::DEFAULT_FROM, "ben@bücher.example", "Hi");
        assert_eq!(parse(&raw).to().unwrap().first().unwrap().address(), Some("ben@xn--bcher-kva.example"));
    }

    #[test]
    fn addresses_that_could_do_harm_are_refused_for_ever() {
        let head =
            Letterhead::new(Letterhead::DEFAULT_FROM, &Url::parse("http://localhost").unwrap()).unwrap();
        let long = format!("{}@{}.example", "a".repeat(60), "b".repeat(200));
        for evil in [
            "ben@example.com\r\nBcc: x@example.com",
            "ben@example.com, x@example.com",
            "ben@example.com>",
            "<ben@example.com>",
            "=?utf-8?q?ben?=@example.com",
            "ben@exa mple.com",
            "ben\u{0}@example.com",
            "ben",
            "@example.com",
            "ben@",
            "",
            &long,
        ] {
            assert!(matches!(head.compose(&mail(evil, "Hi")), Err(SendError::Permanent(_))), "{evil:?}");
        }
    }

    #[test]
    fn a_letterhead_needs_a_real_address_and_a_host() {
        let url = Url::parse("https://guild.example").unwrap();
        assert_eq!(Letterhead::new("Guildhall", &url).unwrap_err(), LetterheadError::Sender);
        assert_eq!(Letterhead::new("", &url).unwrap_err(), LetterheadError::Sender);
        let no_host = Url::parse("mailto:x@example.com").unwrap();
        assert_eq!(Letterhead::new("a@example.com", &no_host).unwrap_err(), LetterheadError::Host);
        let ip = Letterhead::new("a@example.com", &Url::parse("http://127.0.0.1:8080").unwrap()).unwrap();
        assert_eq!(ip.host(), "[127.0.0.1]");
    }
}
