//! The settings that are more than a number or a word: addresses, URLs, the sender of mail.
//! Knows their form and what may be shown of them. Knows no key and opens nothing.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use lettre::message::Mailbox;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};
use url::{Host, Url};

use crate::secrets::Secret;

/// Where the data is: `sqlite://PATH` or a PostgreSQL URL. Debug and Display hide a password.
#[derive(Clone)]
pub struct DatabaseUrl(Secret);

impl DatabaseUrl {
    /// The whole URL, password included.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// The path of the SQLite file, taken literally; `None` for PostgreSQL.
    pub fn sqlite_path(&self) -> Option<&Path> {
        self.expose().strip_prefix("sqlite://").map(Path::new)
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let shown = redacted_url(text);
        if let Some(path) = text.strip_prefix("sqlite://") {
            if path.is_empty() || path.ends_with('/') || path.contains(['?', '#', '%']) || path == ":memory:"
            {
                return Err(format!("\"{shown}\" is not sqlite:// and the path of a file, without ? # or %"));
            }
        } else if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            Url::parse(text).map_err(|fault| {
                format!(
                    "\"{shown}\" is not a URL ({fault}); special characters in a password are written %XX"
                )
            })?;
        } else {
            return Err(format!(
                "\"{shown}\" is no known database; allowed: sqlite://PATH, postgres://…, postgresql://…"
            ));
        }
        Ok(Self(Secret::new(text)))
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redacted_url(self.expose()))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// A URL with `***` for its password, in the user part or the query. Text that may hold a password in a place
/// where URLs have none (a stray `@` or `/` in it moves the parts) shows its scheme only.
pub(super) fn redacted_url(text: &str) -> String {
    let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
    let is_plain = !text.contains('@') && !text.to_lowercase().contains("pass");
    if is_plain || scheme == "sqlite" {
        return text.to_owned();
    }
    let hidden = || format!("{scheme}://***");
    let Ok(mut url) = Url::parse(text) else { return hidden() };
    let tail = [Some(url.path()), url.query(), url.fragment()];
    if tail.into_iter().flatten().any(|part| part.contains('@')) {
        return hidden();
    }
    if url.password().is_some() && url.set_password(Some("***")).is_err() {
        return hidden();
    }
    let shown_pair = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if name.to_lowercase().contains("pass") => format!("{name}=***"),
        _ => pair.to_owned(),
    };
    let query = url.query().map(|query| query.split('&').map(shown_pair).collect::<Vec<_>>().join("&"));
    url.set_query(query.as_deref());
    url.into()
}

pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("\"{text}\" is not an IP address and port, such as 127.0.0.1:8080"))
}

/// A name server: an address, with a port where it is not 53.
pub(super) fn name_server(text: &str) -> Result<SocketAddr, String> {
    let whole = text.parse().ok();
    let server = whole.or_else(|| text.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, 53)));
    server.ok_or_else(|| format!("\"{text}\" is not an IP address, such as 10.0.0.2, and no port after it"))
}

/// The URL by which this machine reaches a server listening on `listen`.
pub(super) fn local_url(listen: SocketAddr) -> String {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, listen.port()))
}

/// An absolute http(s) URL, returned without its trailing slash.
pub(super) fn app_url(text: &str) -> Result<String, String> {
    let shown = redacted_url(text);
    let url = http_url(text)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("\"{shown}\" holds a user name; people's links must not"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("\"{shown}\" has a ? or # part; end it with the path"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// An origin as browsers send it: `scheme://host`, with the port unless it is the scheme's own.
pub(super) fn origin(text: &str) -> Result<String, String> {
    let url = http_url(text)?;
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
        let shown = redacted_url(text);
        return Err(format!(
            "\"{shown}\" is more than an origin; write {}",
            url.origin().ascii_serialization()
        ));
    }
    Ok(url.origin().ascii_serialization())
}

fn http_url(text: &str) -> Result<Url, String> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host()).ok_or_else(
        || {
            let shown = redacted_url(text);
            format!("\"{shown}\" is not an absolute http or https URL, such as https://guildhall.example.org")
        },
    )
}

/// Whether a host name or address is this machine itself.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost") || bare.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

pub(super) fn mail_host(text: &str) -> Result<String, String> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let known = bare.parse::<IpAddr>().is_ok() || Host::parse(text).is_ok();
    if known && !text.contains([':', '/', ' ']) || bare.parse::<IpAddr>().is_ok() {
        Ok(bare.to_owned())
    } else {
        Err(format!("\"{text}\" is not a host name or address; the port goes into mail.smtp_port"))
    }
}

pub(super) fn sender(text: &str) -> Result<Mailbox, String> {
    let wrong = || format!("\"{text}\" is not a sender, such as Guildhall <no-reply@example.org>");
    let sender: Mailbox = text.parse().map_err(|_| wrong())?;
    // An encoded word in a name becomes a header of its own in some mail programs.
    if sender.name.as_deref().is_some_and(|name| name.contains("=?")) { Err(wrong()) } else { Ok(sender) }
}

/// The sender where none is set. `None` where the public URL has no domain that mail could come from.
pub(super) fn sender_of(app_url: &str) -> Option<Mailbox> {
    match Url::parse(app_url).ok()?.host()? {
        Host::Domain(domain) => sender(&format!("Guildhall <no-reply@{domain}>")).ok(),
        Host::Ipv4(_) | Host::Ipv6(_) => None,
    }
}

pub(super) fn log_filter(text: &str) -> Result<String, String> {
    // EnvFilter takes a lone word that is no level for a module's name, and then logs next to nothing.
    let is_level = |word: &str| word.parse::<LevelFilter>().is_ok();
    if let Some(word) =
        text.split(',').map(str::trim).find(|word| !word.contains(['=', '[']) && !is_level(word))
    {
        return Err(format!(
            "\"{word}\" is no level; allowed: off, error, warn, info, debug, trace, and MODULE=LEVEL"
        ));
    }
    EnvFilter::builder().parse(text).map(|_| text.to_owned()).map_err(|fault| {
        format!("\"{text}\" is not a log filter ({fault}); such as info or info,guildhall=debug")
    })
}
