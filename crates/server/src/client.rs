//! Where a request came from: address and user agent, as far as they can be trusted. Refuses to know who sent it.

use std::net::IpAddr;

use axum::{
    extract::ConnectInfo,
    http::{header, request::Parts},
};

use crate::serve::Peer;

const LONGEST_USER_AGENT: usize = 256;

/// Origin of a request, given to resolvers as request data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientInfo {
    /// Address of the client; none when the listener does not tell.
    pub ip: Option<IpAddr>,
    /// `User-Agent`, at most 256 characters.
    pub user_agent: Option<String>,
}

impl ClientInfo {
    /// Reads the peer address, or with `trust_proxy` the last entry of `X-Forwarded-For`: the one the nearest
    /// proxy added itself. Earlier entries are whatever the client wrote.
    pub fn read(parts: &Parts, trust_proxy: bool) -> Self {
        let peer = parts.extensions.get::<ConnectInfo<Peer>>().map(|peer| peer.0.0.ip());
        let forwarded = || {
            let value = parts.headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
            value.rsplit(',').next()?.trim().parse().ok()
        };
        let user_agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        Self {
            ip: trust_proxy.then(forwarded).flatten().or(peer),
            user_agent: user_agent.map(|text| text.chars().take(LONGEST_USER_AGENT).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn read(trust_proxy: bool) -> ClientInfo {
        let request = Request::builder()
            .header("x-forwarded-for", "6.6.6.6, 10.0.0.7")
            .header("user-agent", "x".repeat(1_000))
            .extension(ConnectInfo(Peer(([127, 0, 0, 1], 5).into())))
            .body(())
            .unwrap();
        ClientInfo::read(&request.into_parts().0, trust_proxy)
    }

    #[test]
    fn forwarded_addresses_count_only_behind_a_trusted_proxy() {
        assert_eq!(read(false).ip, Some(IpAddr::from([127, 0, 0, 1])));
        assert_eq!(read(true).ip, Some(IpAddr::from([10, 0, 0, 7])), "a client cannot choose its address");
    }

    #[test]
    fn a_long_user_agent_is_cut() {
        assert_eq!(read(false).user_agent.unwrap().len(), 256);
    }
}
