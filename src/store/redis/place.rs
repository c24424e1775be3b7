//! Where the store is: what `store.url` and `store.tls` say.
//!
//! A URL names one server, or several hosts separated by commas: the sentinels that know the master,
//! or some nodes of a cluster. User, password, TLS and time-outs are the same for every server.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, TlsCertificates,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};
use secrecy::ExposeSecret;

use crate::store::{SentinelLogin, StoreSettings, StoreTls};

const FORMS: &str = "must be `embedded:` and a folder, or a URL: redis://HOST, \
                     redis-sentinel://HOST,HOST,…/MASTER or redis-cluster://HOST,HOST,…; with \
                     rediss in place of redis for TLS";

const SENTINEL_PORT: u16 = 26_379;

/// What the settings say of the store's place can't be meant.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {detail}")]
pub struct PlaceError {
    /// The key that is wrong.
    pub key: &'static str,
    /// What is wrong with it. Never holds a secret.
    pub detail: String,
}

/// How the servers of a store are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// There is one, at a known address.
    Single,
    /// Sentinels know which one is the master of this name.
    Sentinel { master: String },
    /// Each node of the cluster knows which one has which slots.
    Cluster,
}

/// A server's address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Node {
    pub(super) host: Arc<str>,
    pub(super) port: u16,
}

/// Where the store is, and how its servers are spoken to.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) form: Form,
    /// The server; or the sentinels, or nodes of the cluster, as far as they are configured.
    pub(super) seeds: Vec<Node>,
    /// User, database and TCP settings; the address is any.
    template: ConnectionInfo,
    sentinel: SentinelLogin,
    is_secure: bool,
    certificates: Option<TlsCertificates>,
}

/// The parts of a URL.
struct Parts<'a> {
    form: Form,
    is_secure: bool,
    /// User and password with the `@`, or nothing.
    user: &'a str,
    hosts: &'a str,
    database: &'a str,
    /// With the `?`, or nothing.
    query: &'a str,
}

/// Looks whether the settings name a place on Redis.
///
/// # Errors
/// [`PlaceError`].
pub fn check_place(settings: &StoreSettings) -> Result<(), PlaceError> {
    Place::of(settings).map(|_| ())
}

// === impl Place ===

impl Place {
    pub(super) fn of(settings: &StoreSettings) -> Result<Self, PlaceError> {
        let parts = Parts::of(settings.url.expose_secret())?;
        let infos = parts.hosts.split(',').map(|host| parts.connection(host));
        let infos = infos.collect::<Result<Vec<_>, _>>()?;
        let seeds = infos.iter().map(|info| node_of(info.addr())).collect();
        // Splitting gives at least one host.
        let Some(template) = infos.into_iter().next() else { return Err(wrong_url(FORMS)) };
        let Parts { form, is_secure, .. } = parts;
        let certificates = certificates(&settings.tls)?;
        if certificates.is_some() && !is_secure {
            let detail = "is for TLS, and store.url is not: write rediss in place of redis";
            return Err(PlaceError { key: "store.tls", detail: detail.to_owned() });
        }
        let (template, sentinel) = (template.set_tcp_settings(tcp()), settings.sentinel.clone());
        Ok(Self { form, seeds, template, sentinel, is_secure, certificates })
    }

    /// A client of a server that holds data.
    pub(super) fn client(&self, node: &Node) -> Result<Client, RedisError> {
        self.client_as(node, self.template.redis_settings().clone())
    }

    /// A client of a sentinel.
    pub(super) fn sentinel(&self, node: &Node) -> Result<Client, RedisError> {
        let mut login = RedisConnectionInfo::default();
        if let Some(username) = &self.sentinel.username {
            login = login.set_username(username);
        }
        if let Some(password) = &self.sentinel.password {
            login = login.set_password(password.expose_secret());
        }
        self.client_as(node, login)
    }

    fn client_as(&self, node: &Node, login: RedisConnectionInfo) -> Result<Client, RedisError> {
        let (host, port) = (node.host.to_string(), node.port);
        let address = if self.is_secure {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let info = self.template.clone().set_addr(address).set_redis_settings(login);
        match &self.certificates {
            Some(certificates) => Client::build_with_tls(info, certificates.clone()),
            None => Client::open(info),
        }
    }
}

// === impl Parts ===

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Result<Self, PlaceError> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong_url(FORMS))?;
        let is_secure = scheme.starts_with("rediss");
        let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (path, query) = tail.split_at(tail.find(['?', '#']).unwrap_or(tail.len()));
        if query.contains('#') {
            return Err(wrong_url("must not have a fragment (`#…`)"));
        }
        let (user, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        let path = path.trim_start_matches('/');
        let (form, database) = match scheme {
            "redis" | "rediss" => (Form::Single, path),
            "redis-sentinel" | "rediss-sentinel" => {
                let (master, database) = path.split_once('/').unwrap_or((path, ""));
                if master.is_empty() {
                    return Err(wrong_url(
                        "must name the master, as in redis-sentinel://HOST/MASTER",
                    ));
                }
                (Form::Sentinel { master: master.to_owned() }, database)
            }
            "redis-cluster" | "rediss-cluster" => (Form::Cluster, path),
            _ => return Err(wrong_url(FORMS)),
        };
        if form == Form::Single && hosts.contains(',') {
            return Err(wrong_url(
                "names several hosts: is it redis-sentinel:// or redis-cluster://?",
            ));
        }
        if form == Form::Cluster && !matches!(database, "" | "0") {
            return Err(wrong_url("must not name a database: a cluster has one"));
        }
        Ok(Self { form, is_secure, user, hosts, database, query })
    }

    /// How a connection to one of the hosts is made.
    fn connection(&self, host: &str) -> Result<ConnectionInfo, PlaceError> {
        let Self { user, database, query, .. } = self;
        let scheme = if self.is_secure { "rediss" } else { "redis" };
        let after_bracket = host.rsplit(']').next().unwrap_or(host);
        let port = match self.form {
            Form::Sentinel { .. } if !after_bracket.contains(':') => format!(":{SENTINEL_PORT}"),
            _ => String::new(),
        };
        let url = format!("{scheme}://{user}{host}{port}/{database}{query}");
        // The category tells what is wrong without any part of the URL.
        let url = url.into_connection_info();
        url.map_err(|error| wrong_url(&format!("{FORMS} ({})", error.category())))
    }
}

// === impl Node ===

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

fn node_of(address: &ConnectionAddr) -> Node {
    match address {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            Node { host: host.as_str().into(), port: *port }
        }
        // No scheme that is let through makes another.
        other => Node { host: other.to_string().into(), port: 0 },
    }
}

fn wrong_url(detail: &str) -> PlaceError {
    PlaceError { key: "store.url", detail: detail.to_owned() }
}

fn certificates(tls: &StoreTls) -> Result<Option<TlsCertificates>, PlaceError> {
    let StoreTls { ca, cert, key } = tls;
    let root_cert = ca.as_deref().map(|path| read_pem("store.tls.ca", path, "CERTIFICATE"));
    let client_tls = match (cert, key) {
        (Some(cert), Some(key)) => Some(ClientTlsConfig {
            client_cert: read_pem("store.tls.cert", cert, "CERTIFICATE")?,
            client_key: read_pem("store.tls.key", key, "PRIVATE KEY")?,
        }),
        (None, None) => None,
        (Some(_), None) => return Err(missing("store.tls.key", "store.tls.cert")),
        (None, Some(_)) => return Err(missing("store.tls.cert", "store.tls.key")),
    };
    let root_cert = root_cert.transpose()?;
    let is_needed = root_cert.is_some() || client_tls.is_some();
    Ok(is_needed.then_some(TlsCertificates { client_tls, root_cert }))
}

fn missing(key: &'static str, other: &str) -> PlaceError {
    PlaceError { key, detail: format!("must be set, as {other} is") }
}

/// Reads a PEM file that must hold something of this kind.
fn read_pem(key: &'static str, path: &Path, kind: &str) -> Result<Vec<u8>, PlaceError> {
    let wrong =
        |detail: String| PlaceError { key, detail: format!("{}: {detail}", path.display()) };
    let pem = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let holds = |line: &str| line.starts_with("-----BEGIN ") && line.contains(kind);
    if !pem.lines().any(holds) {
        return Err(wrong(format!("holds no {kind} in PEM form")));
    }
    Ok(pem.into_bytes())
}

/// A server that vanished without a word is given up within seconds.
fn tcp() -> TcpSettings {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(3))
        .with_retries(3);
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(Duration::from_secs(10));
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str, tls: StoreTls) -> Result<Place, PlaceError> {
        Place::of(&StoreSettings {
            url: url.into(),
            retention: Duration::from_secs(1),
            sync_every: Duration::ZERO,
            partitions: None,
            tls,
            sentinel: SentinelLogin::default(),
        })
    }

    fn read(url: &str) -> (Form, Vec<String>) {
        let place = place(url, StoreTls::default()).unwrap();
        (place.form, place.seeds.iter().map(Node::to_string).collect())
    }

    #[test]
    fn each_form_is_read_with_its_hosts() {
        let one = |host: &str| (Form::Single, vec![host.to_owned()]);
        assert_eq!(read("redis://a"), one("a:6379"));
        assert_eq!(read("rediss://:p%40ss@[::1]:7000/3"), one("[::1]:7000"));
        let sentinel = Form::Sentinel { master: "main".into() };
        let hosts = ["a:26379", "[::1]:26379", "c:7"].map(str::to_owned);
        assert_eq!(read("redis-sentinel://u:p@a,[::1],c:7/main/2"), (sentinel, hosts.into()));
        let hosts = ["a:7000", "b:6379"].map(str::to_owned);
        assert_eq!(read("rediss-cluster://a:7000,b"), (Form::Cluster, hosts.into()));
    }

    #[test]
    fn user_password_and_database_are_for_every_server() {
        let place = place("redis-sentinel://me:p%40ss@a,b/main/2", StoreTls::default()).unwrap();
        let client = place.client(&Node { host: "c".into(), port: 9 }).unwrap();
        let info = client.get_connection_info();
        assert_eq!(info.addr().to_string(), "c:9");
        let login = info.redis_settings();
        let said = (login.username(), login.password(), login.db());
        assert_eq!(said, (Some("me"), Some("p@ss"), 2));
    }

    #[test]
    fn what_can_not_be_meant_is_refused_without_showing_the_password() {
        for url in [
            "mysql://a",
            "redis:a",
            "redis://",
            "redis://:hush@",
            "redis://a,b",
            "redis://u:hush@a:port",
            "redis://u:hush@a/x",
            "redis://:hu/sh@a",
            "rediss://u:hush@a#insecure",
            "redis-sentinel://u:hush@a",
            "redis-sentinel://a,,b/main",
            "redis-cluster://u:hush@a/3",
            "redis-cluster://u:hush@",
        ] {
            let error = place(url, StoreTls::default()).unwrap_err();
            assert_eq!(error.key, "store.url", "{url}");
            assert!(!error.detail.contains("hush"), "{url}: {}", error.detail);
        }
    }

    #[test]
    fn tls_files_are_looked_at_before_they_are_used() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = || Some(file.path().to_owned());
        let ca = StoreTls { ca: path(), ..StoreTls::default() };
        let empty = place("rediss://a", ca.clone()).unwrap_err();
        assert_eq!(empty.key, "store.tls.ca");
        assert!(empty.detail.contains("holds no CERTIFICATE"), "{empty}");
        let absent = StoreTls { ca: Some("/nowhere/ca.pem".into()), ..StoreTls::default() };
        assert!(place("rediss://a", absent).unwrap_err().detail.contains("/nowhere/ca.pem"));
        std::fs::write(file.path(), "-----BEGIN CERTIFICATE-----\n").unwrap();
        assert_eq!(place("redis://a", ca).unwrap_err().key, "store.tls");
        let half = StoreTls { cert: path(), ..StoreTls::default() };
        assert_eq!(place("rediss://a", half).unwrap_err().key, "store.tls.key");
    }
}
