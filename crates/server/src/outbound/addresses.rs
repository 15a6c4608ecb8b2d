//! Which addresses this process may be sent to by its users: those of the public internet, and those that the operator
//! named. Pure: resolves and connects nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::Host;

/// A destination that the operator allows although it is not public.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Every address in a network.
    Net(IpNet),
    /// Every address that this name has when it is asked for.
    Name(String),
}

impl Destination {
    /// Reads `10.1.0.0/16`, `fd00::/8`, `10.1.2.3` or `db.internal`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Ok(net) = text.parse::<IpNet>() {
            return match net.trunc() {
                whole if whole == net => Ok(Self::Net(net)),
                whole => Err(format!("\"{text}\" is an address within a network; the network is {whole}")),
            };
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Net(ip.into()));
        }
        match host(text) {
            Some(Host::Domain(name)) if !name.contains('*') => Ok(Self::Name(name)),
            Some(Host::Ipv4(ip)) => Err(format!("\"{text}\" is another spelling of {ip}; write that")),
            _ => Err(format!(
                "\"{text}\" is no network, address or host name, such as 10.1.0.0/16, 10.1.2.3 or db.internal"
            )),
        }
    }
}

/// Reads a host as browsers do: a name in its ASCII form without the dot at its end, or an address, in whichever
/// spelling (`127.1`, `0x7f000001`, `[::1]`, `::1`).
pub fn host(text: &str) -> Option<Host> {
    let host = match text.parse::<Ipv6Addr>() {
        Ok(ip) => Host::Ipv6(ip),
        Err(_) => Host::parse(text).ok()?,
    };
    match host {
        Host::Domain(name) => {
            let name = name.strip_suffix('.').unwrap_or(&name);
            (!name.is_empty()).then(|| Host::Domain(name.to_owned()))
        }
        address => Some(address),
    }
}

/// Whether connections may go to an address that was asked for by that name, or as it is.
pub fn is_allowed(allowed: &[Destination], name: Option<&str>, ip: IpAddr) -> bool {
    // What is written as `::ffff:10.0.0.1` is reached as 10.0.0.1.
    let ip = ip.to_canonical();
    is_public(ip) || is_named(allowed, name, Some(ip))
}

/// Whether the operator named that name, or a network with that address.
pub fn is_named(allowed: &[Destination], name: Option<&str>, ip: Option<IpAddr>) -> bool {
    let ip = ip.map(|ip| ip.to_canonical());
    allowed.iter().any(|destination| match destination {
        Destination::Net(net) => ip.is_some_and(|ip| net.contains(&ip)),
        Destination::Name(allowed) => name.is_some_and(|name| name == allowed),
    })
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(head: [u16; 4], prefix: u8) -> Ipv6Net {
    let [a, b, c, d] = head;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), prefix)
}

/// IANA's registry of special-purpose IPv4 addresses, without those that are reachable globally.
const SPECIAL_V4: [Ipv4Net; 16] = [
    v4(0, 0, 0, 0, 8),        // this network
    v4(10, 0, 0, 0, 8),       // private
    v4(100, 64, 0, 0, 10),    // behind a carrier's NAT; Alibaba's metadata service
    v4(127, 0, 0, 0, 8),      // loopback
    v4(168, 63, 129, 16, 32), // Azure's host, which looks public and is not
    v4(169, 254, 0, 0, 16),   // link-local; the metadata service of most clouds
    v4(172, 16, 0, 0, 12),    // private
    v4(192, 0, 0, 0, 24),     // protocol assignments; Oracle's metadata service
    v4(192, 0, 2, 0, 24),     // documentation
    v4(192, 88, 99, 0, 24),   // relays of 6to4
    v4(192, 168, 0, 0, 16),   // private
    v4(198, 18, 0, 0, 15),    // benchmarks
    v4(198, 51, 100, 0, 24),  // documentation
    v4(203, 0, 113, 0, 24),   // documentation
    v4(224, 0, 0, 0, 4),      // multicast
    v4(240, 0, 0, 0, 4),      // reserved; broadcast
];

/// What is assigned to the public internet. Loopback, unique local, link-local and multicast addresses, and those that
/// hold an IPv4 address in their last bits (`::/96`), are outside.
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0, 0], 3);

/// What is special within [`GLOBAL_V6`].
const SPECIAL_V6: [Ipv6Net; 4] = [
    v6([0x2001, 0, 0, 0], 23),      // protocol assignments: Teredo, ORCHID, benchmarks
    v6([0x2001, 0x0db8, 0, 0], 32), // documentation
    v6([0x2002, 0, 0, 0], 16),      // 6to4: holds an IPv4 address
    v6([0x3fff, 0, 0, 0], 20),      // documentation
];

/// NAT64: how hosts without IPv4 reach the IPv4 address in the last bits.
const NAT64: Ipv6Net = v6([0x0064, 0xff9b, 0, 0], 96);

/// Whether an address is one of the public internet.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !SPECIAL_V4.iter().any(|net| net.contains(&ip)),
        IpAddr::V6(ip) if NAT64.contains(&ip) => {
            let [.., a, b, c, d] = ip.octets();
            is_public(Ipv4Addr::new(a, b, c, d).into())
        }
        IpAddr::V6(ip) => GLOBAL_V6.contains(&ip) && !SPECIAL_V6.iter().any(|net| net.contains(&ip)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether what the text is read as may be connected to; `None` where it is no host.
    fn allowed_address(text: &str) -> Option<bool> {
        match host(text)? {
            Host::Ipv4(ip) => Some(is_allowed(&[], None, ip.into())),
            Host::Ipv6(ip) => Some(is_allowed(&[], None, ip.into())),
            Host::Domain(name) => panic!("{text} is read as the name {name}"),
        }
    }

    #[test]
    fn public_addresses_are_allowed() {
        for text in [
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.1",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "[2a00:1450:4001::1]",
            "2001:4860:4860::8888",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            // Odd, but the address is public.
            "134744072",
            "0x08080808",
            "8.8.8.8.",
        ] {
            assert_eq!(allowed_address(text), Some(true), "{text}");
        }
    }

    #[test]
    fn addresses_that_are_not_public_are_refused_in_every_spelling() {
        for text in [
            // Loopback.
            "127.0.0.1",
            "127.255.255.254",
            "127.1",
            "127.0.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "017700000001",
            "0x7F.0x0.0x0.0x1",
            "127.0.0.1.",
            "１２７.０.０.１",
            "127。0。0。1",
            "%31%32%37.0.0.1",
            "①②⑦.0.0.1",
            "::1",
            "[::1]",
            "0:0:0:0:0:0:0:1",
            "::ffff:127.0.0.1",
            "::ffff:7f00:1",
            "::127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            // Unspecified, this network.
            "0.0.0.0",
            "0",
            "0.1.2.3",
            "::",
            "::ffff:0.0.0.0",
            // Link-local and metadata services.
            "169.254.169.254",
            "169.254.0.1",
            "2852039166",
            "0xa9fea9fe",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "fe80::1",
            "febf::1",
            "fd00:ec2::254",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
            // Private.
            "10.0.0.0",
            "10.255.255.255",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "192.168.255.255",
            "::ffff:10.0.0.1",
            "::10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::a00:1",
            "2002:0a00:0001::1",
            "2001:0:53aa:64c:0:0:f5ff:fffe",
            "fc00::1",
            "fdff::1",
            "fec0::1",
            // Set aside for something else.
            "100.64.0.1",
            "100.127.255.255",
            "192.0.2.1",
            "192.88.99.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "ff02::1",
            "2001:db8::1",
            "2001:2::1",
            "2001:10::1",
            "3fff::1",
            "5f00::1",
            "100::1",
        ] {
            assert_eq!(allowed_address(text), Some(false), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_none() {
        for text in [
            "",
            ".",
            " ",
            "a b",
            "user@example.org",
            "example.org/path",
            "example.org:5432",
            "/var/run/postgresql",
            "fe80::1%eth0",
            "[::1",
            "256.1.1.1",
            "1.2.3.4.5",
            "0x100000000",
            "a\0b",
            "a#b",
            "a?b",
        ] {
            assert_eq!(host(text), None, "{text:?}");
        }
    }

    #[test]
    fn names_are_compared_in_one_form() {
        for text in ["db.example.org", "DB.Example.ORG", "db.example.org.", "ｄｂ.example.org"] {
            assert_eq!(host(text), Some(Host::Domain("db.example.org".to_owned())), "{text}");
        }
        assert_eq!(host("bücher.example"), Some(Host::Domain("xn--bcher-kva.example".to_owned())));
    }

    #[test]
    fn the_operator_allows_networks_addresses_and_names() {
        let allowed: Vec<_> = ["10.1.0.0/16", "192.168.7.7", "fd00:1::/32", "Db.Internal."]
            .into_iter()
            .map(|text| Destination::parse(text).unwrap())
            .collect();
        let is_allowed = |name, ip: &str| is_allowed(&allowed, name, ip.parse().unwrap());
        for ip in ["10.1.2.3", "::ffff:10.1.2.3", "192.168.7.7", "fd00:1::5"] {
            assert!(is_allowed(None, ip), "{ip}");
        }
        for ip in ["10.2.0.1", "192.168.7.8", "fd00:2::5", "127.0.0.1", "64:ff9b::10.1.2.3"] {
            assert!(!is_allowed(None, ip), "{ip}");
        }
        assert!(is_allowed(Some("db.internal"), "127.0.0.1"));
        assert!(!is_allowed(Some("other.db.internal"), "127.0.0.1"));
    }

    #[test]
    fn a_destination_that_is_none_is_a_fault_that_helps() {
        for (text, problem) in [
            ("10.1.2.3/16", "\"10.1.2.3/16\" is an address within a network; the network is 10.1.0.0/16"),
            ("127.1", "\"127.1\" is another spelling of 127.0.0.1; write that"),
            (
                "10.0.0.0/33",
                "\"10.0.0.0/33\" is no network, address or host name, such as 10.1.0.0/16, 10.1.2.3 or db.internal",
            ),
            (
                "http://db",
                "\"http://db\" is no network, address or host name, such as 10.1.0.0/16, 10.1.2.3 or db.internal",
            ),
            ("*", ""),
            ("*.internal", ""),
        ] {
            let told = Destination::parse(text);
            match problem {
                "" => assert!(told.is_err(), "{text}"),
                problem => assert_eq!(told, Err(problem.to_owned())),
            }
        }
    }
}
