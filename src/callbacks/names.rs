//! Names to addresses, for the guarded client: only addresses that were judged come out.
//!
//! Asks the name servers of `callbacks.dns_servers`, or the system's resolver if there are none.
//! Every address of an answer is judged, and one that is forbidden spoils all of them. A lookup is
//! bounded in time; the system's, which can't be called off, are bounded in number too.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{
        ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
        ResolverOpts,
    },
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::op::ResponseCode,
};
use hyper_util::client::legacy::connect::dns::Name;
use tokio::sync::Semaphore;
use tower::Service;

use crate::domain::callback_url::{Forbidden, Rules};

/// The longest lookup: long enough for the system to give up one server and ask the next.
const LOOKUP_MAX: Duration = Duration::from_secs(7);

/// How long a configured name server has to answer. It is asked twice.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);
const SERVER_RETRIES: usize = 1;

/// The most lookups of the system's resolver that are under way: each keeps a thread.
const SYSTEM_LOOKUPS_MAX: usize = 128;

/// The most answers that are kept, the longest for so long.
const CACHE_ANSWERS_MAX: u64 = 1024;
const CACHE_MAX: Duration = Duration::from_mins(1);
const CACHE_FAILURE_MAX: Duration = Duration::from_secs(5);

/// The most queries that one connection to a name server carries at once.
const QUERIES_MAX: usize = 256;

/// The most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// See the module.
#[derive(Clone)]
pub(super) struct JudgedNames(Arc<Inner>);

struct Inner {
    rules: Rules,
    source: Source,
    lookup_max: Duration,
}

/// Who is asked.
enum Source {
    /// The system, as long as there is a place.
    System(Arc<Semaphore>),
    /// Name servers of our own choice.
    Servers(Box<TokioResolver>),
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a name has no address that a callback could go to.
#[derive(Debug, thiserror::Error)]
enum NameError {
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    #[error("the host's name was not found")]
    NotFound,
    #[error("the host's name has no address")]
    NoAddress,
    #[error("the name server did not answer")]
    Silent,
    #[error("the name server failed: {0}")]
    Failed(String),
}

// === impl JudgedNames ===

impl JudgedNames {
    /// Resolves names by asking `servers`, or the system if there are none, for an exchange that
    /// takes at most `timeout`.
    ///
    /// # Errors
    /// If the servers can't be used.
    pub(super) fn new(
        rules: Rules,
        servers: &[SocketAddr],
        timeout: Duration,
    ) -> Result<Self, NetError> {
        let source = if servers.is_empty() {
            Source::System(Arc::new(Semaphore::new(SYSTEM_LOOKUPS_MAX)))
        } else {
            Source::Servers(Box::new(resolver(servers)?))
        };
        // It must end before the exchange does, or nobody would learn that it was the name.
        let lookup_max = LOOKUP_MAX.min(timeout * 3 / 4);
        Ok(Self(Arc::new(Inner { rules, source, lookup_max })))
    }
}

impl Service<Name> for JudgedNames {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let inner = self.0.clone();
        Box::pin(async move {
            match inner.judged(name.as_str()).await {
                Ok(addresses) => Ok(addresses.into_iter()),
                // The client looks for this very type.
                Err(NameError::Forbidden(forbidden)) => Err(forbidden.into()),
                Err(error) => Err(error.into()),
            }
        })
    }
}

// === impl Inner ===

impl Inner {
    async fn judged(&self, name: &str) -> Result<Vec<SocketAddr>, NameError> {
        let found = tokio::time::timeout(self.lookup_max, self.source.look_up(name)).await;
        let found = found.map_err(|_| NameError::Silent)??;
        if found.is_empty() {
            return Err(NameError::NoAddress);
        }
        for ip in &found {
            self.rules.judge_address(*ip)?;
        }
        // The port is the URL's; the connector puts it in.
        Ok(found.into_iter().take(ADDRESSES_MAX).map(|ip| SocketAddr::new(ip, 0)).collect())
    }
}

// === impl Source ===

impl Source {
    async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, NameError> {
        match self {
            Self::System(places) => ask_system(name.to_owned(), places.clone()).await,
            Self::Servers(resolver) => {
                // With the dot it is asked for as it is, and nothing is appended.
                let whole = format!("{}.", name.trim_end_matches('.'));
                let found = resolver.lookup_ip(whole).await.map_err(|error| why(&error))?;
                Ok(found.iter().collect())
            }
        }
    }
}

fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let servers = servers.iter().map(|server| {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut to| {
            to.port = server.port();
            to
        });
        NameServerConfig::new(server.ip(), true, connections.into())
    });
    let config = ResolverConfig::from_name_servers(servers.collect());
    let runtime = TokioRuntimeProvider::default();
    let mut builder = TokioResolver::builder_with_config(config, runtime);
    set(builder.options_mut());
    builder.build()
}

fn set(options: &mut ResolverOpts) {
    options.timeout = SERVER_TIMEOUT;
    options.attempts = SERVER_RETRIES;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.use_hosts_file = ResolveHosts::Never;
    options.cache_size = CACHE_ANSWERS_MAX;
    options.positive_max_ttl = Some(CACHE_MAX);
    options.negative_max_ttl = Some(CACHE_FAILURE_MAX);
    options.max_active_requests = QUERIES_MAX;
}

/// Asks the system. A lookup whose caller has gone keeps its place until it ends.
async fn ask_system(name: String, places: Arc<Semaphore>) -> Result<Vec<IpAddr>, NameError> {
    let failed = |error: &dyn std::error::Error| NameError::Failed(error.to_string());
    let place = places.acquire_owned().await.map_err(|error| failed(&error))?;
    let looking = tokio::task::spawn_blocking(move || {
        let _place = place;
        (name.as_str(), 0).to_socket_addrs()
    });
    match looking.await.map_err(|error| failed(&error))? {
        Ok(found) => Ok(found.map(|address| address.ip()).collect()),
        Err(error) => Err(why_not(&error)),
    }
}

fn why(error: &NetError) -> NameError {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => NameError::NotFound,
            ResponseCode::NoError => NameError::NoAddress,
            code => NameError::Failed(code.to_string()),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => NameError::Failed(code.to_string()),
        NetError::Timeout | NetError::NoConnections | NetError::Busy | NetError::Io(_) => {
            NameError::Silent
        }
        other => NameError::Failed(other.to_string()),
    }
}

/// The standard library has no kinds for this: what `getaddrinfo` says is in the text alone, in
/// English since no locale is ever set.
fn why_not(error: &io::Error) -> NameError {
    let text = error.to_string();
    let says = |words: &[&str]| words.iter().any(|words| text.contains(words));
    if says(&["Name or service not known", "Name does not resolve", "not known"]) {
        NameError::NotFound
    } else if says(&["No address associated", "Name has no usable address"]) {
        NameError::NoAddress
    } else if says(&["Temporary failure", "Try again"]) {
        NameError::Silent
    } else {
        NameError::Failed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_told_apart() {
        let prefix = "failed to lookup address information";
        for (said, expected) in [
            ("Name or service not known", "the host's name was not found"),
            ("Name does not resolve", "the host's name was not found"),
            ("No address associated with hostname", "the host's name has no address"),
            ("Temporary failure in name resolution", "the name server did not answer"),
            ("Try again", "the name server did not answer"),
            ("System error", "the name server failed: failed to lookup"),
        ] {
            let told = why_not(&io::Error::other(format!("{prefix}: {said}"))).to_string();
            assert!(told.starts_with(expected), "{said}: {told}");
        }
    }

    #[tokio::test]
    async fn a_lookup_that_nobody_waits_for_gives_its_place_back() {
        let places = Arc::new(Semaphore::new(1));
        let looking = ask_system("localhost".to_owned(), places.clone());
        drop(tokio::time::timeout(Duration::ZERO, looking).await);
        let found = ask_system("localhost".to_owned(), places.clone()).await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty(), "{found:?}");
        assert_eq!(places.available_permits(), 1);
    }
}
