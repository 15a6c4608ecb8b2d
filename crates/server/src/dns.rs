//! Asks DNS for TXT records, outside of any transaction. Knows who is asked and for how long; refuses to know what a record
//! proves.

use std::{net::SocketAddr, time::Duration};

use hickory_resolver::{
    TokioResolver,
    config::{NameServerConfig, ResolveHosts, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::RData,
};
use tokio::time::timeout;

/// How long one answer of a server is waited for, and how long all of it may take.
const ONE_TRY: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(8);
/// The most records of a name that are looked at.
const MOST_RECORDS: usize = 100;

/// Why DNS was not asked.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It does not answer, or with a fault of its own.
    #[error("{0}")]
    Failed(String),
    /// It took too long.
    #[error("no answer in time")]
    TimedOut,
}

/// Asks DNS.
pub struct Dns(Result<TokioResolver, String>);

impl Dns {
    /// Asks these servers; those of the machine where none is named. That nobody can be asked is told when somebody is.
    pub fn new(servers: &[SocketAddr]) -> Self {
        Self(resolver(servers).map_err(|error| error.to_string()))
    }

    /// The TXT records of a name, each in one piece; none where there is no such name.
    pub async fn txt_records(&self, name: &str) -> Result<Vec<String>, Fault> {
        let resolver = self.0.as_ref().map_err(|error| Fault::Failed(error.clone()))?;
        // With a dot at its end, so that no domain of this machine's is tried behind it.
        let asked = timeout(PATIENCE, resolver.txt_lookup(format!("{name}."))).await;
        let found = match asked.map_err(|_| Fault::TimedOut)? {
            Ok(found) => found,
            Err(error) if error.is_no_records_found() || error.is_nx_domain() => return Ok(Vec::new()),
            Err(error) => return Err(Fault::Failed(error.to_string())),
        };
        let texts = found.answers().iter().filter_map(|record| match &record.data {
            RData::TXT(text) => {
                let whole: Vec<u8> = text.txt_data.iter().flat_map(|part| part.iter().copied()).collect();
                Some(String::from_utf8_lossy(&whole).into_owned())
            }
            _ => None,
        });
        Ok(texts.take(MOST_RECORDS).collect())
    }
}

fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let mut builder = match servers {
        [] => TokioResolver::builder_tokio()?,
        servers => {
            let named = servers.iter().map(|server| {
                let mut named = NameServerConfig::udp_and_tcp(server.ip());
                named.connections.iter_mut().for_each(|connection| connection.port = server.port());
                named
            });
            let config = ResolverConfig::from_parts(None, Vec::new(), named.collect());
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    let options = builder.options_mut();
    options.timeout = ONE_TRY;
    options.attempts = 2;
    options.use_hosts_file = ResolveHosts::Never;
    // Whoever asks has just published something: what was not there a moment ago may be there now.
    options.cache_size = 0;
    builder.build()
}
