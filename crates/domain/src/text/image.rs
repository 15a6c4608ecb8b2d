//! Names of container images. Knows the grammar of references of distribution/reference, which registries and container
//! engines share; refuses to know whether such an image exists.

use super::{TextFault, text_type};

/// As long as the standard lets a name be.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;
/// A name, a tag and the longest digest there is.
const MAX_REFERENCE: usize = 640;

text_type! {
    /// A reference to a container image, such as `ghcr.io/acme/tools:1.2@sha256:…`; registry, tag and digest may be absent.
    ImageRef
}

impl ImageRef {
    pub fn parse(raw: &str) -> Result<Self, TextFault> {
        let text = raw.trim();
        if text.is_empty() {
            return Err(TextFault::Empty);
        }
        if text.len() > MAX_REFERENCE {
            let length = text.chars().count();
            return Err(TextFault::TooLong { length, max: MAX_REFERENCE, unit: "characters" });
        }
        judge(text).map_err(|fault| TextFault::Malformed(fault.into()))?;
        Ok(Self(text.to_owned()))
    }

    /// `None` for blank text, by which a client goes back to the default image.
    pub fn parse_or_clear(raw: &str) -> Result<Option<Self>, TextFault> {
        if raw.trim().is_empty() { Ok(None) } else { Self::parse(raw).map(Some) }
    }
}

fn judge(text: &str) -> Result<(), &'static str> {
    let (named, digest) = match text.split_once('@') {
        Some((named, digest)) => (named, Some(digest)),
        None => (text, None),
    };
    // A colon before the last slash is that of a port.
    let last = named.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match named[last..].find(':') {
        Some(colon) => (&named[..last + colon], Some(&named[last + colon + 1..])),
        None => (named, None),
    };
    if name.len() > MAX_NAME {
        return Err("has a name of more than 255 characters");
    }
    let path = match name.split_once('/') {
        Some((domain, path)) if is_domain(domain) => {
            if !is_host_and_port(domain) {
                return Err(
                    "names no registry before the first /: give a host as in ghcr.io or localhost:5000",
                );
            }
            path
        }
        _ => name,
    };
    if !path.split('/').all(is_component) {
        return Err(
            "is no image reference: between the slashes of its name stand lower-case letters and digits with single ., _ \
             or - between them, as in ghcr.io/acme/tools:1.2",
        );
    }
    if name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("is the id of an image, not a name");
    }
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err("has no tag after the colon: 1 to 128 letters, digits, _, . and -, the first no . or -");
    }
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return Err("has no digest after the @, such as sha256: and 64 hexadecimal digits");
    }
    Ok(())
}

/// Whether what stands before the first slash can only be a registry.
fn is_domain(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':', '['])
        || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_host_and_port(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, "")) => return is_ipv6(address),
            Some((address, port)) if is_ipv6(address) => match port.strip_prefix(':') {
                Some(port) => return is_port(port),
                None => return false,
            },
            _ => return false,
        },
        None => match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, None),
        },
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.split('.').all(is_label) && port.is_none_or(is_port)
}

fn is_ipv6(address: &str) -> bool {
    address.parse::<std::net::Ipv6Addr>().is_ok()
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

/// Runs of lower-case letters and digits, with `.`, `_`, `__` or any number of `-` between them.
fn is_component(component: &str) -> bool {
    let is_letter = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut bytes = component.as_bytes();
    loop {
        let run = bytes.iter().take_while(|byte| is_letter(byte)).count();
        if run == 0 {
            return false;
        }
        bytes = &bytes[run..];
        let between = bytes.iter().take_while(|byte| !is_letter(byte)).count();
        match &bytes[..between] {
            b"" => return bytes.is_empty(),
            b"." | b"_" | b"__" => {}
            dashes if dashes.iter().all(|byte| *byte == b'-') => {}
            _ => return false,
        }
        bytes = &bytes[between..];
    }
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else { return false };
    let is_part = |part: &str| {
        part.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let long_enough = match algorithm {
        "sha256" => hex.len() == 64,
        "sha384" => hex.len() == 96,
        "sha512" => hex.len() == 128,
        _ => (32..=256).contains(&hex.len()),
    };
    algorithm.split(['-', '_', '+', '.']).all(is_part)
        && long_enough
        && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    // The first of each are those of distribution/reference's own tests.
    #[test]
    fn references_as_registries_take_them_are_read() {
        let (sha256, sha512) = ("f".repeat(64), "0".repeat(128));
        for good in [
            "test_com",
            "test.com:tag",
            "test.com:5000",
            "test.com/repo:tag",
            "test:5000/repo",
            "test:5000/repo:tag",
            "lowercase:Uppercase",
            "sub-dom1.foo.com/bar/baz/quux",
            "sub-dom1.foo.com/bar/baz/quux:some-long-tag",
            "b.gcr.io/test.example.com/my-app:test.example.com",
            "xn--n3h.com/myimage:xn--n3h.com",
            "foo_bar.com:8080",
            "foo/foo_bar.com:8080",
            "192.168.1.1:5000/repo:1",
            "[2001:db8::1]/repo",
            "[2001:db8::1]:5000/repo:tag",
            "Registry.example.org/repo",
            "localhost/repo",
            "a__b",
            "a---b",
            "python:3.13-slim",
            "docker.io/library/python:3",
            "  python  ",
        ] {
            let read = ImageRef::parse(good).map(ImageRef::into_string);
            assert_eq!(read.as_deref(), Ok(good.trim()), "{good}");
        }
        for good in [
            format!("test:5000/repo@sha256:{sha256}"),
            format!("test:5000/repo:tag@sha512:{sha512}"),
            format!("xn--n3h.com/myimage@sha256:{sha256}"),
            format!("repo@multi-hash+b64.x:{}", "a".repeat(32)),
            format!("a:{}", "T".repeat(128)),
            format!("a/{}", "b".repeat(253)),
        ] {
            assert!(ImageRef::parse(&good).is_ok(), "{good}");
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for bad in [
            ":justtag",
            "@sha256:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "repo@sha256:ffffffffffffffffffffffffffffffffff",
            "validname@invaliddigest:ffffffffffffffffffffffffffffffffffffffffffffffff!",
            "Uppercase:tag",
            "test:5000/Uppercase/lowercase:tag",
            "aa/asdf$$^/aa",
            "-foo/bar",
            "foo-/bar",
            "foo.com/-bar",
            "foo//bar",
            "/foo",
            "foo/",
            "foo:",
            "foo:-tag",
            "foo:.tag",
            "foo:tag/bar",
            "a..b",
            "a___b",
            "a._b",
            "_a",
            "a b",
            "a\nb",
            "é",
            "https://ghcr.io/acme/tools",
            "ghcr.io:99999/tools",
            "ghcr.io:x/tools",
            "[2001:db8::1/repo",
            "[::1]x/repo",
            "[zz]/repo",
            "-bad.example.org/repo",
            "repo@sha256",
            "repo@",
            "a\u{0}",
        ] {
            assert!(matches!(ImageRef::parse(bad), Err(TextFault::Malformed(_))), "{bad:?}");
        }
        for bad in [
            "a".repeat(64),
            format!("a/{}", "b".repeat(254)),
            format!("a:{}", "t".repeat(129)),
            format!("repo@sha256:{}", "F".repeat(64)),
        ] {
            assert!(matches!(ImageRef::parse(&bad), Err(TextFault::Malformed(_))), "{bad:?}");
        }
        assert_eq!(ImageRef::parse(" "), Err(TextFault::Empty));
        assert_eq!(ImageRef::parse_or_clear(" \n"), Ok(None));
        assert!(matches!(ImageRef::parse(&"a/".repeat(400)), Err(TextFault::TooLong { .. })));
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_strange_to_judge(text in "\\PC{0,80}") {
            let _ = ImageRef::parse(&text);
        }

        #[test]
        fn what_is_made_of_its_parts_is_read(
            host in "([a-z][a-z0-9-]{0,8}[a-z0-9]\\.org(:[1-9][0-9]{0,3})?/)?",
            path in "[a-z0-9]{1,9}([._]|__|-{1,3})?[a-z0-9]{1,9}(/[a-z0-9]{1,9}){0,3}",
            tag in "(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,20})?",
        ) {
            let text = format!("{host}{path}{tag}");
            proptest::prop_assert!(ImageRef::parse(&text).is_ok(), "{}", text);
        }
    }
}
