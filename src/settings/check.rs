//! What fits its type and still makes no sense: limits, and keys that must agree with each other.

mod accounts;

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::Settings;
use crate::{
    api::Certificate,
    domain::{
        chunk::CHUNK_MESSAGES_MAX, ids::PARTITIONS_MAX, signature::SigningSecret,
        signing_key::SigningKey,
    },
    providers::{
        judge_fallback,
        registry::{self, ProviderSettings},
    },
    store::{
        RETENTION_MAX, StoreTls, embedded,
        redis::{self, PlaceError},
    },
};

/// The shortest lease: heartbeats at a third of it must have time to arrive.
const LEASE_MIN: Duration = Duration::from_secs(1);

/// The longest public URL, in bytes, so that a callback's body keeps its bound.
const PUBLIC_URL_BYTES_MAX: usize = 256;

/// The most secrets, or keys, that sign one callback: each adds a signature to its header.
const SIGNERS_MAX: usize = 8;

/// The most networks, or ports, in one list: every callback is judged by all of them.
const RULES_MAX: usize = 256;

/// The most name servers: a lookup may ask all of them.
const DNS_SERVERS_MAX: usize = 8;

/// Where most clouds keep a machine's credentials.
const METADATA: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));

/// The longest name of a provider or account, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// What was found; each names its key.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What keeps the process from starting.
    pub errors: Vec<String>,
    /// What is allowed, and likely not meant.
    pub warnings: Vec<String>,
}

// === impl Settings ===

impl Settings {
    /// Looks for what makes no sense. All of it, not only the first.
    #[must_use]
    pub fn check(&self) -> Findings {
        let mut findings = Findings::default();
        self.check_server(&mut findings);
        self.check_store_and_worker(&mut findings);
        self.check_callbacks(&mut findings);
        findings.check_accounts(&self.accounts);
        self.check_providers(&mut findings);
        if let Err(error) = self.log.parse_filter() {
            findings.error("log.filter", error);
        }
        findings
    }

    fn check_server(&self, findings: &mut Findings) {
        let server = &self.server;
        findings.at_least("server.body_bytes_max", server.body_bytes_max > 0);
        findings.at_least("server.unpacked_bytes_max", server.unpacked_bytes_max > 0);
        findings.at_least("server.connections_max", server.connections_max > 0);
        findings.at_least("server.header_timeout", !server.header_timeout.is_zero());
        findings.at_least("server.body_timeout", !server.body_timeout.is_zero());
        if let Some(Err(error)) = server.tls.as_ref().map(Certificate::load) {
            // No error: others than the API need no key, and may not have it.
            findings
                .warnings
                .push(format!("{error}; a process with the role api can't start here"));
        }
        if self.accounts.is_empty() && !server.listen.ip().is_loopback() {
            let detail = format!(
                "{} can be reached from elsewhere, and no account is configured: the API would ask \
                 for no key; add an account (`ringback key new NAME`) or listen on 127.0.0.1",
                server.listen
            );
            findings.error("server.listen", detail);
        }
        if server.metrics_listen.is_some_and(|at| at == server.listen && at.port() != 0) {
            findings.error("server.metrics_listen", "must be another address than server.listen");
        }
        match &server.public_url {
            Some(url) if !is_public_url(url) => {
                let detail = format!(
                    "must be an http or https URL of at most {PUBLIC_URL_BYTES_MAX} bytes, without \
                     user, query and fragment"
                );
                findings.error("server.public_url", detail);
            }
            None if server.listen.ip().is_unspecified() => findings.warn(
                "server.public_url",
                format!("is not set, so links point to {}, where no client is", self.public_url()),
            ),
            _ => {}
        }
    }

    fn check_store_and_worker(&self, findings: &mut Findings) {
        self.check_store_url(findings);
        if self.store.partitions.is_some_and(|number| !(1..=PARTITIONS_MAX).contains(&number)) {
            findings.error("store.partitions", format!("must be from 1 to {PARTITIONS_MAX}"));
        }
        findings.at_least("store.retention", !self.store.retention.is_zero());
        if self.store.retention > RETENTION_MAX {
            findings.error("store.retention", "must be at most 400d");
        }
        if !(1..=CHUNK_MESSAGES_MAX).contains(&self.worker.chunk_size) {
            findings.error("worker.chunk_size", format!("must be from 1 to {CHUNK_MESSAGES_MAX}"));
        }
        if self.worker.lease < LEASE_MIN {
            findings.error("worker.lease", "must be at least 1s");
        }
    }

    fn check_store_url(&self, findings: &mut Findings) {
        let url = self.store.url.expose_secret();
        if let Some(folder) = embedded::folder(url) {
            let text = folder.as_os_str().as_encoded_bytes();
            if text.is_empty() || text.starts_with(b"//") || text.starts_with(b" ") {
                let detail = "must name a folder right after `embedded:`, as in \
                              embedded:/var/lib/ringback";
                findings.error("store.url", detail);
            } else if folder.exists() && !folder.is_dir() {
                findings.error("store.url", format!("{} is no folder", folder.display()));
            }
            if self.store.partitions.is_some_and(|number| number > 1) {
                findings.warn("store.partitions", "means nothing to an embedded store");
            }
            if self.store.tls != StoreTls::default() {
                findings.warn("store.tls", "means nothing to an embedded store");
            }
        } else if let Err(PlaceError { key, detail }) = redis::check_place(&self.store) {
            findings.error(key, detail);
        }
    }

    fn check_callbacks(&self, findings: &mut Findings) {
        let callbacks = &self.callbacks;
        findings.at_least("callbacks.timeout", !callbacks.timeout.is_zero());
        findings.at_least("callbacks.concurrency", callbacks.concurrency > 0);
        findings.check_secrets("callbacks.signing_secrets", &callbacks.signing_secrets);
        let keys = &callbacks.signing_keys;
        findings.at_most("callbacks.signing_keys", keys.len(), SIGNERS_MAX);
        for (index, key) in keys.iter().enumerate() {
            if let Err(error) = SigningKey::parse(key.expose_secret()) {
                findings.error(&format!("callbacks.signing_keys[{index}]"), error);
            }
        }
        if callbacks.schedule.is_empty() {
            findings.error("callbacks.schedule", "must have at least one delay");
        }
        self.check_callback_rules(findings);
    }

    fn check_callback_rules(&self, findings: &mut Findings) {
        let callbacks = &self.callbacks;
        for (key, rules) in [
            ("callbacks.allow_networks", callbacks.allow_networks.len()),
            ("callbacks.deny_networks", callbacks.deny_networks.len()),
            ("callbacks.allow_ports", callbacks.allow_ports.len()),
            ("callbacks.deny_ports", callbacks.deny_ports.len()),
        ] {
            findings.at_most(key, rules, RULES_MAX);
        }
        let servers = &callbacks.dns_servers;
        findings.at_most("callbacks.dns_servers", servers.len(), DNS_SERVERS_MAX);
        for (index, server) in servers.iter().enumerate() {
            if server.port() == 0 || server.ip().is_unspecified() {
                let detail = "must be an address and a port, as in \"10.0.0.53:53\"";
                findings.error(&format!("callbacks.dns_servers[{index}]"), detail);
            }
        }
        let mut wide = callbacks.allow_networks.iter().filter(|network| !network.is_single());
        if let Some(network) = wide.find(|network| network.holds(METADATA))
            && callbacks.rules().judge_address(METADATA).is_ok()
        {
            let detail = format!("{network} opens the metadata services of clouds, {METADATA}");
            findings.warn("callbacks.allow_networks", detail);
        }
    }

    fn check_providers(&self, findings: &mut Findings) {
        if !self.providers.contains_key(&self.default_provider) {
            let detail = format!("there is no [providers.{}]", self.default_provider);
            findings.error("default_provider", detail);
        }
        for (name, provider) in &self.providers {
            let key = format!("providers.{name}");
            findings.check_name(&key, name);
            if provider.common.retry.first.is_zero() {
                findings.error(&format!("{key}.retry.first"), "must be more than 0");
            }
            if provider.common.timeout > self.worker.lease {
                findings.warn(
                    "worker.lease",
                    format!("is shorter than {key}.timeout: a worker that can't extend its lease drops its open exchanges"),
                );
            }
            let settings = |name: &str| self.providers.get(name).map(|known| &known.common);
            let needs_from =
                |name: &str| self.providers.get(name).is_some_and(ProviderSettings::needs_from);
            if let Err(error) = judge_fallback(name, settings, needs_from) {
                findings.error(&format!("{key}.fallback"), error);
            }
            if let Err(error) = registry::build(name, provider, &self.public_url()) {
                findings.errors.push(error.to_string());
            }
        }
    }
}

// === impl Findings ===

impl Findings {
    fn error(&mut self, key: &str, detail: impl std::fmt::Display) {
        self.errors.push(format!("{key}: {detail}"));
    }

    fn warn(&mut self, key: &str, detail: impl std::fmt::Display) {
        self.warnings.push(format!("{key}: {detail}"));
    }

    fn at_least(&mut self, key: &str, above_zero: bool) {
        if !above_zero {
            self.error(key, "must be more than 0");
        }
    }

    fn at_most(&mut self, key: &str, items: usize, items_max: usize) {
        if items > items_max {
            self.error(key, format!("must have at most {items_max} items"));
        }
    }

    fn check_secrets(&mut self, key: &str, secrets: &[SecretString]) {
        self.at_most(key, secrets.len(), SIGNERS_MAX);
        for (index, secret) in secrets.iter().enumerate() {
            if let Err(error) = SigningSecret::parse(secret.expose_secret()) {
                self.error(&format!("{key}[{index}]"), error);
            }
        }
    }

    fn check_name(&mut self, key: &str, name: &str) {
        if !is_name(name) {
            self.error(
                key,
                format!("a name has 1 to {NAME_BYTES_MAX} characters of a-z, 0-9, `_` and `-`"),
            );
        }
    }
}

/// Whether providers and accounts may be called so. Names stand in URLs, variables and keys of the
/// store, hence so few characters.
pub(crate) fn is_name(text: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain)
}

fn is_public_url(url: &str) -> bool {
    url.len() <= PUBLIC_URL_BYTES_MAX
        && Url::parse(url).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Layers;

    fn check(variables: &[(&str, &str)]) -> Findings {
        let variables =
            variables.iter().map(|(key, value)| (format!("RINGBACK__{key}").into(), value.into()));
        Layers::read(None, variables).unwrap().settings().unwrap().check()
    }

    #[test]
    fn each_thing_that_makes_no_sense_is_found_and_named() {
        for (key, variable, value) in [
            ("default_provider", "DEFAULT_PROVIDER", "carrier"),
            ("server.listen", "SERVER__LISTEN", "0.0.0.0:8080"),
            ("server.public_url", "SERVER__PUBLIC_URL", "ftp://example.com"),
            ("server.public_url", "SERVER__PUBLIC_URL", "https://example.com/?a=1"),
            ("server.connections_max", "SERVER__CONNECTIONS_MAX", "0"),
            ("server.metrics_listen", "SERVER__METRICS_LISTEN", "127.0.0.1:8080"),
            ("store.url", "STORE__URL", "mysql://127.0.0.1"),
            ("store.url", "STORE__URL", "redis-sentinel://127.0.0.1"),
            ("store.url", "STORE__URL", "redis-cluster://127.0.0.1/3"),
            ("store.partitions", "STORE__PARTITIONS", "0"),
            ("worker.chunk_size", "WORKER__CHUNK_SIZE", "0"),
            ("worker.chunk_size", "WORKER__CHUNK_SIZE", "10001"),
            ("worker.lease", "WORKER__LEASE", "999ms"),
            ("callbacks.signing_secrets[0]", "CALLBACKS__SIGNING_SECRETS", "aGVsbG8="),
            ("callbacks.signing_keys[0]", "CALLBACKS__SIGNING_KEYS", "whsk_aGVsbG8="),
            ("callbacks.signing_keys", "CALLBACKS__SIGNING_KEYS", "1,2,3,4,5,6,7,8,9"),
            ("callbacks.schedule", "CALLBACKS__SCHEDULE", ""),
            ("callbacks.timeout", "CALLBACKS__TIMEOUT", "0s"),
            ("callbacks.dns_servers[1]", "CALLBACKS__DNS_SERVERS", "10.0.0.53:53,0.0.0.0:53"),
            ("callbacks.dns_servers[0]", "CALLBACKS__DNS_SERVERS", "[::1]:0"),
            ("callbacks.deny_ports", "CALLBACKS__DENY_PORTS", &"25,".repeat(257)),
            ("log.filter", "LOG__FILTER", "ringback=loud"),
            ("providers.mock.max_in_flight", "PROVIDERS__MOCK__MAX_IN_FLIGHT", "0"),
            ("providers.a b", "PROVIDERS__A B__KIND", "mock"),
            ("providers.mock.fallback", "PROVIDERS__MOCK__FALLBACK", "nobody"),
            ("providers.mock.fallback", "PROVIDERS__MOCK__FALLBACK", "mock"),
        ] {
            let errors = check(&[(variable, value)]).errors;
            let named = format!("{key}: ");
            assert!(errors.iter().any(|error| error.starts_with(&named)), "{key}: {errors:?}");
        }
    }

    #[test]
    fn an_accounts_secret_that_is_none_is_named_and_not_shown() {
        let hash = format!("sha256:{}", "0a".repeat(32));
        let secrets = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw,whsec_aHVzaA==";
        let errors = check(&[
            ("ACCOUNTS__ACME__API_KEY_HASHES", &hash),
            ("ACCOUNTS__ACME__SIGNING_SECRETS", secrets),
        ])
        .errors;
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].starts_with("accounts.acme.signing_secrets[1]: "), "{errors:?}");
        assert!(!errors[0].contains("aHVz"), "{errors:?}");
    }

    #[test]
    fn a_public_address_is_fine_with_an_account() {
        let hash = format!("sha256:{}", "0a".repeat(32));
        let findings = check(&[
            ("SERVER__LISTEN", "0.0.0.0:8080"),
            ("SERVER__PUBLIC_URL", "https://sms.example.com"),
            ("ACCOUNTS__ACME__API_KEY_HASHES", &hash),
        ]);
        assert_eq!(findings, Findings::default());
    }

    #[test]
    fn what_is_likely_not_meant_is_a_warning() {
        let short = check(&[("WORKER__LEASE", "5s")]);
        assert!(short.errors.is_empty() && short.warnings[0].contains("providers.mock.timeout"));
        let hash = format!("sha256:{}", "0a".repeat(32));
        let nowhere =
            check(&[("SERVER__LISTEN", "0.0.0.0:8080"), ("ACCOUNTS__ACME__API_KEY_HASHES", &hash)]);
        assert!(nowhere.warnings[0].starts_with("server.public_url: "), "{nowhere:?}");
        let all = ("CALLBACKS__ALLOW_NETWORKS", "10.0.0.0/8,0.0.0.0/0");
        let open = check(&[all]);
        assert!(open.warnings[0].starts_with("callbacks.allow_networks: 0.0.0.0/0 "), "{open:?}");
        let closed = check(&[all, ("CALLBACKS__DENY_NETWORKS", "169.254.0.0/16")]);
        assert_eq!(closed, Findings::default());
    }

    #[test]
    fn networks_and_ports_that_are_none_are_named_and_explained() {
        for (key, variable, value, told) in [
            ("allow_networks", "ALLOW_NETWORKS", "10.1.0.0/16,10.1.2.3/16", "10.1.0.0/16 is one"),
            ("deny_networks", "DENY_NETWORKS", "10.1/16", "not a network"),
            ("allow_ports", "ALLOW_PORTS", "443,90-80", "not a port"),
            ("deny_ports", "DENY_PORTS", "http", "not a port"),
            ("dns_servers", "DNS_SERVERS", "10.0.0.53", "socket address"),
            ("https_only", "HTTPS_ONLY", "maybe", "boolean"),
        ] {
            let variable = format!("RINGBACK__CALLBACKS__{variable}");
            let layers = Layers::read(None, [(variable.into(), value.into())]).unwrap();
            let error = layers.settings().unwrap_err().to_string();
            assert!(error.starts_with(&format!("callbacks.{key}")), "{error}");
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn what_is_read_as_a_list_of_networks_and_ports_is_shown_so() {
        let layers = Layers::read(
            None,
            [
                ("RINGBACK__CALLBACKS__ALLOW_NETWORKS".into(), "10.1.0.0/16, ::1".into()),
                ("RINGBACK__CALLBACKS__ALLOW_PORTS".into(), "443,8000-8999".into()),
                ("RINGBACK__CALLBACKS__DNS_SERVERS".into(), "10.0.0.53:53,[fd00::53]:5353".into()),
            ],
        );
        let shown = layers.unwrap().shown().unwrap();
        let shown: String = shown.split_whitespace().collect();
        for list in [
            r#"allow_networks=["10.1.0.0/16","::1/128",]"#,
            r#"allow_ports=["443","8000-8999",]"#,
            r#"dns_servers=["10.0.0.53:53","[fd00::53]:5353",]"#,
        ] {
            assert!(shown.contains(list), "{shown}");
        }
    }
}
