//! What fits its type and still makes no sense: limits, and keys that must agree with each other.

use std::time::Duration;

use secrecy::ExposeSecret;
use url::Url;

use super::Settings;
use crate::{
    callbacks::SigningSecret,
    domain::{chunk::CHUNK_MESSAGES_MAX, ids::PARTITIONS_MAX},
    providers::registry,
    store::{RETENTION_MAX, embedded},
};

/// The shortest lease: heartbeats at a third of it must have time to arrive.
const LEASE_MIN: Duration = Duration::from_secs(1);

/// The longest public URL, in bytes, so that a callback's body keeps its bound.
const PUBLIC_URL_BYTES_MAX: usize = 256;

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
        self.check_accounts(&mut findings);
        self.check_providers(&mut findings);
        if let Err(error) = self.log.parse_filter() {
            findings.error("log.filter", error);
        }
        findings
    }

    fn check_server(&self, findings: &mut Findings) {
        let server = &self.server;
        findings.at_least("server.body_bytes_max", server.body_bytes_max > 0);
        findings.at_least("server.connections_max", server.connections_max > 0);
        findings.at_least("server.header_timeout", !server.header_timeout.is_zero());
        findings.at_least("server.body_timeout", !server.body_timeout.is_zero());
        if self.accounts.is_empty() && !server.listen.ip().is_loopback() {
            let detail = format!(
                "{} can be reached from elsewhere, and no account is configured: the API would ask \
                 for no key; add an account (`ringback key new NAME`) or listen on 127.0.0.1",
                server.listen
            );
            findings.error("server.listen", detail);
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
        if !(1..=PARTITIONS_MAX).contains(&self.store.partitions) {
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
            if self.store.partitions > 1 {
                findings.warn("store.partitions", "means nothing to an embedded store");
            }
            return;
        }
        let url = Url::parse(url);
        if !url.is_ok_and(|url| matches!(url.scheme(), "redis" | "rediss") && url.has_host()) {
            let detail = "must be `embedded:` and a folder, or a URL with redis:// or rediss:// \
                          and a host";
            findings.error("store.url", detail);
        }
    }

    fn check_callbacks(&self, findings: &mut Findings) {
        let callbacks = &self.callbacks;
        findings.at_least("callbacks.timeout", !callbacks.timeout.is_zero());
        findings.at_least("callbacks.concurrency", callbacks.concurrency > 0);
        for (index, secret) in callbacks.signing_secrets.iter().enumerate() {
            if let Err(error) = SigningSecret::parse(secret.expose_secret()) {
                findings.error(&format!("callbacks.signing_secrets[{index}]"), error);
            }
        }
        if callbacks.schedule.is_empty() {
            findings.error("callbacks.schedule", "must have at least one delay");
        }
    }

    fn check_accounts(&self, findings: &mut Findings) {
        for (name, account) in &self.accounts {
            let key = format!("accounts.{name}");
            findings.check_name(&key, name);
            if account.api_key_hashes.is_empty() {
                findings.warn(&key, "has no API key, so nobody can use it");
            }
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
            if let Err(error) = registry::build(name, provider) {
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
            ("store.url", "STORE__URL", "mysql://127.0.0.1"),
            ("store.partitions", "STORE__PARTITIONS", "0"),
            ("worker.chunk_size", "WORKER__CHUNK_SIZE", "0"),
            ("worker.chunk_size", "WORKER__CHUNK_SIZE", "10001"),
            ("worker.lease", "WORKER__LEASE", "999ms"),
            ("callbacks.signing_secrets[0]", "CALLBACKS__SIGNING_SECRETS", "aGVsbG8="),
            ("callbacks.schedule", "CALLBACKS__SCHEDULE", ""),
            ("callbacks.timeout", "CALLBACKS__TIMEOUT", "0s"),
            ("log.filter", "LOG__FILTER", "ringback=loud"),
            ("providers.mock.max_in_flight", "PROVIDERS__MOCK__MAX_IN_FLIGHT", "0"),
            ("providers.a b", "PROVIDERS__A B__KIND", "mock"),
        ] {
            let errors = check(&[(variable, value)]).errors;
            let named = format!("{key}: ");
            assert!(errors.iter().any(|error| error.starts_with(&named)), "{key}: {errors:?}");
        }
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
    }
}
