//! A mail address in its one canonical spelling. Knows the grammar of RFC 5321 and IDNA; refuses to know
//! whether anybody reads mail there.

use super::{CharacterFault, TextFault, refuse_characters, refuse_encoded_word, text_type, trimmed};
use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};
use unicode_normalization::UnicodeNormalization;

/// RFC 5321 4.5.3.1, in bytes: a path of 256 includes its two angle brackets.
const MAX_BYTES: usize = 254;
const MAX_LOCAL_BYTES: usize = 64;

text_type! {
    /// A mail address: lower-case `local@domain`, at most 254 ASCII bytes. Two spellings that reach the same
    /// mailbox are equal; `+tag` is kept, since it may belong to another person's filter.
    ///
    /// The domain is kept in its ASCII (`xn--`) form: that is what DNS and every SMTP server take, and a
    /// look-alike of another domain shows itself. The part before the @ is ASCII too: mailboxes beyond it need
    /// SMTPUTF8 on each hop, and their case rules would let two addresses collide.
    Email
}

impl Email {
    pub fn parse(raw: &str) -> Result<Self, TextFault> {
        let text: String = trimmed(raw, MAX_BYTES)?.nfc().collect();
        refuse_characters(&text, |c| match c {
            _ if c.is_control() => Some(CharacterFault::Control),
            _ if super::name::steers_direction(c) => Some(CharacterFault::Direction),
            _ if super::name::is_never_visible(c) => Some(CharacterFault::Invisible),
            '<' | '>' | '"' | '(' | ')' | ',' | ':' | ';' | '[' | ']' | '\\' => {
                Some(CharacterFault::NotAllowed)
            }
            _ if c.is_whitespace() => Some(CharacterFault::NotAllowed),
            _ => None,
        })?;
        refuse_encoded_word(&text)?;

        let Some((local, domain)) = text.split_once('@').filter(|(_, domain)| !domain.contains('@')) else {
            return malformed("must have exactly one @, as in ann@example.org");
        };
        if local.len() > MAX_LOCAL_BYTES {
            return Err(TextFault::TooLong {
                length: local.len(),
                max: MAX_LOCAL_BYTES,
                unit: "bytes before the @",
            });
        }
        if !local.is_ascii() {
            return malformed(
                "must have only unaccented Latin letters, digits and .!#$%&'*+/=?^_`{|}~- before the @",
            );
        }
        if local.split('.').any(str::is_empty) {
            return malformed("must have text before the @, and between any two dots there");
        }

        let Ok(domain) = Uts46::new().to_ascii(
            domain.as_bytes(),
            AsciiDenyList::STD3,
            Hyphens::CheckFirstLast,
            DnsLength::Verify,
        ) else {
            return malformed("must have a valid domain after the @, as in ann@example.org");
        };
        // A last label of digits is an IP address; a domain of one label is a machine of somebody's own network.
        match domain.rsplit_once('.') {
            Some((_, top)) if !top.bytes().all(|b| b.is_ascii_digit()) => {}
            _ => return malformed("must have a full domain after the @, as in ann@example.org"),
        }

        let address = format!("{}@{domain}", local.to_ascii_lowercase());
        if address.len() > MAX_BYTES {
            return Err(TextFault::TooLong { length: address.len(), max: MAX_BYTES, unit: "bytes" });
        }
        Ok(Self(address))
    }

    /// The part before the @.
    pub fn local(&self) -> &str {
        self.0.split_once('@').map_or("", |(local, _)| local)
    }

    /// The part after the @, in ASCII form.
    pub fn domain(&self) -> &str {
        self.0.split_once('@').map_or("", |(_, domain)| domain)
    }

    /// A hint for somebody who may know the address, such as `j•••@e•••.org`: the same length for every address.
    pub fn masked(&self) -> String {
        let first = |part: &str| part.chars().next().unwrap_or('•');
        let top = self.domain().rsplit('.').next().unwrap_or_default();
        format!("{}•••@{}•••.{top}", first(self.local()), first(self.domain()))
    }
}

fn malformed(message: &'static str) -> Result<Email, TextFault> {
    Err(TextFault::Malformed(message.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_mailbox_become_one_address() {
        for (raw, canonical) in [
            ("ann@example.org", "ann@example.org"),
            ("  Ann.Lee@Example.ORG\n", "ann.lee@example.org"),
            ("ann+Tag@example.org", "ann+tag@example.org"),
            ("o'brien_x-1/y=z@sub.example.co.uk", "o'brien_x-1/y=z@sub.example.co.uk"),
            ("ann@Bücher.example", "ann@xn--bcher-kva.example"),
            ("ann@BU\u{308}CHER.example", "ann@xn--bcher-kva.example"),
            ("ann@xn--bcher-kva.example", "ann@xn--bcher-kva.example"),
            ("ann@例え。jp", "ann@xn--r8jz45g.jp"),
            ("ann@r3---sn.example.org", "ann@r3---sn.example.org"),
            ("\u{212A}im@example.org", "kim@example.org"),
        ] {
            assert_eq!(Email::parse(raw).unwrap().as_str(), canonical, "{raw:?}");
            assert_eq!(Email::parse(canonical).unwrap().as_str(), canonical);
        }
    }

    #[test]
    fn what_is_no_plain_address_is_refused() {
        let long_local = format!("{}@example.org", "a".repeat(65));
        let long_label = format!("a@{}.org", "b".repeat(64));
        let long = format!("a@{}org", "abcdefghi.".repeat(26));
        for bad in [
            "",
            "   ",
            "ann",
            "@",
            "ann@",
            "@example.org",
            "a@b@c.org",
            "a@@b.org",
            "ann@localhost",
            "a@b.",
            "a@.b",
            "a@b..org",
            ".a@b.org",
            "a.@b.org",
            "a..b@c.org",
            "\"a b\"@c.org",
            "a b@c.org",
            "a@b c.org",
            "<a@b.org>",
            "Ann <a@b.org>",
            "a@[127.0.0.1]",
            "a@127.0.0.1",
            "a@b.123",
            "a,b@c.org",
            "a@-b.org",
            "a@b-.org",
            "a@b_c.org",
            "a@b.org\r\nBcc: x@y.org",
            "a\u{0}@b.org",
            "a@b\u{202E}.org",
            "a\u{200B}@b.org",
            "a@b.org\u{2066}",
            "=?utf-8?q?a?=@b.org",
            "mıke@example.org",
            "ánn@example.org",
            "a@xn--a.org",
            "a@b.org/../x",
            "a@b%00.org",
            "a\u{AD}b@c.org",
            "a@\u{E000}.org",
            &long_local,
            &long_label,
            &long,
        ] {
            assert!(Email::parse(bad).is_err(), "{bad:?} passed");
        }
    }

    #[test]
    fn each_limit_is_met_exactly() {
        let local = "a".repeat(64);
        let domain = format!("{}.{}.{}.org", "b".repeat(63), "c".repeat(63), "d".repeat(57));
        assert_eq!(Email::parse(&format!("{local}@{domain}")).unwrap().as_str().len(), 254);
        assert_eq!(
            Email::parse(&format!("{local}@d{domain}")),
            Err(TextFault::Malformed("must have a valid domain after the @, as in ann@example.org".into()))
        );
        let domain = format!("{}.{}.{}.org", "b".repeat(63), "c".repeat(63), "d".repeat(58));
        assert_eq!(
            Email::parse(&format!("{local}@{domain}")),
            Err(TextFault::TooLong { length: 255, max: 254, unit: "bytes" })
        );
    }

    #[test]
    fn a_masked_address_hides_its_length() {
        for (raw, masked) in [
            ("jane.doe@example.org", "j•••@e•••.org"),
            ("j@e.org", "j•••@e•••.org"),
            ("x@mail.example.co.uk", "x•••@m•••.uk"),
        ] {
            assert_eq!(Email::parse(raw).unwrap().masked(), masked);
        }
    }
}
