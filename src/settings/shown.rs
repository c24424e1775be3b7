//! The settings as people may see them: as TOML, secrets masked.
//!
//! Each part masks its own section when it is written; the store's URL is masked here. What is
//! shown can be read back, but for the masks.

use std::{collections::BTreeMap, time::Duration};

use secrecy::ExposeSecret;
use serde::Serialize;
use url::Url;

use super::{Settings, error::SettingsError};
use crate::{
    api::{AccountSettings, ServerSettings},
    callbacks::CallbackSettings,
    dispatch::WorkerSettings,
    domain::units::span,
    providers::registry::ProviderSettings,
    store::{SentinelLogin, StoreSettings, StoreTls, embedded},
    telemetry::LogSettings,
};

/// What stands in a secret's place.
const MASK: &str = "********";

/// [`Settings`], to be written.
#[derive(Serialize)]
struct Shown<'a> {
    default_provider: &'a str,
    server: ServerSettings,
    store: Store,
    worker: &'a WorkerSettings,
    callbacks: &'a CallbackSettings,
    log: &'a LogSettings,
    providers: &'a BTreeMap<String, ProviderSettings>,
    accounts: &'a BTreeMap<String, AccountSettings>,
}

/// [`StoreSettings`], to be written.
#[derive(Serialize)]
struct Store {
    url: String,
    #[serde(with = "span")]
    retention: Duration,
    #[serde(with = "span")]
    sync_every: Duration,
    #[serde(skip_serializing_if = "Option::is_none")]
    partitions: Option<u16>,
    tls: StoreTls,
    sentinel: SentinelLogin,
}

// === impl Store ===

impl From<&StoreSettings> for Store {
    fn from(store: &StoreSettings) -> Self {
        let url = masked_url(store.url.expose_secret());
        let StoreSettings { retention, sync_every, partitions, .. } = *store;
        let (tls, sentinel) = (store.tls.clone(), store.sentinel.clone());
        Self { url, retention, sync_every, partitions, tls, sentinel }
    }
}

/// The settings as TOML.
pub(super) fn toml(settings: &Settings) -> Result<String, SettingsError> {
    let public_url = Some(settings.public_url());
    let shown = Shown {
        default_provider: &settings.default_provider,
        server: ServerSettings { public_url, ..settings.server.clone() },
        store: Store::from(&settings.store),
        worker: &settings.worker,
        callbacks: &settings.callbacks,
        log: &settings.log,
        providers: &settings.providers,
        accounts: &settings.accounts,
    };
    // Only a value that TOML has no form for could fail, such as a number above its range.
    toml::to_string_pretty(&shown).map_err(|error| SettingsError::Unreadable(error.to_string()))
}

/// `url` without its password and its query; nothing of it if it is no URL.
pub(crate) fn masked_url(url: &str) -> String {
    if embedded::folder(url).is_some() {
        return url.to_owned();
    }
    // A URL has one host: the others of a list are taken out meanwhile.
    let (one, others) = without_other_hosts(url);
    match masked(&one) {
        Some(shown) if others.is_empty() => shown,
        Some(shown) => {
            let authority = shown.find("://").map_or(0, |at| at + 3);
            let end = shown[authority..].find(['/', '?']).map_or(shown.len(), |at| authority + at);
            format!("{}{others}{}", &shown[..end], &shown[end..])
        }
        None => MASK.to_owned(),
    }
}

/// `url` with the first of its hosts only, and the others with their commas.
fn without_other_hosts(url: &str) -> (String, String) {
    let start = url.find("://").map_or(url.len(), |at| at + 3);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    let hosts = url[start..end].rfind('@').map_or(start, |at| start + at + 1);
    let comma = url[hosts..end].find(',').map_or(end, |at| hosts + at);
    (format!("{}{}", &url[..comma], &url[end..]), url[comma..end].to_owned())
}

fn masked(url: &str) -> Option<String> {
    let mut parsed = Url::parse(url).ok().filter(Url::has_host)?;
    // Setting them fails only on URLs that can't have any.
    if parsed.password().is_some() {
        let _ = parsed.set_password(Some(MASK));
    }
    if parsed.query().is_some() {
        parsed.set_query(Some(MASK));
    }
    Some(parsed.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Layers;

    #[test]
    fn no_secret_is_shown_and_nothing_else_is_hidden() {
        let variables = [
            ("RINGBACK__STORE__URL", "redis://ringback:hush@127.0.0.1:6379/3"),
            ("RINGBACK__STORE__SENTINEL__USERNAME", "watcher"),
            ("RINGBACK__STORE__SENTINEL__PASSWORD", "hush"),
            ("RINGBACK__CALLBACKS__SIGNING_SECRETS", "whsec_aHVzaGh1c2hodXNoaHVzaGh1c2hodXNo"),
            ("RINGBACK__PROVIDERS__CARRIER__KIND", "http"),
            ("RINGBACK__PROVIDERS__CARRIER__URL", "http://127.0.0.1:9/send?token=hush"),
            ("RINGBACK__PROVIDERS__CARRIER__HEADERS__AUTHORIZATION", "Bearer hush"),
            ("RINGBACK__PROVIDERS__CARRIER__RATE", "200/s"),
            ("RINGBACK__PROVIDERS__CARRIER__MAX_IN_FLIGHT", "12"),
        ];
        let variables = variables.map(|(key, value)| (key.into(), value.into()));
        let shown = Layers::read(None, variables).unwrap().shown().unwrap();
        assert!(!shown.contains("hush") && !shown.contains("aHVz"), "{shown}");
        for line in [
            "url = \"redis://ringback:********@127.0.0.1:6379/3\"",
            "url = \"http://127.0.0.1:9/send?********\"",
            "authorization = \"********\"",
            "rate = \"200/s\"",
            "max_in_flight = 12",
            "public_url = \"http://127.0.0.1:8080\"",
            "default_provider = \"mock\"",
        ] {
            assert!(shown.lines().any(|found| found.trim() == line), "{line} is not in\n{shown}");
        }
    }

    #[test]
    fn what_is_shown_can_be_read_back() {
        let shown = Layers::read(None, []).unwrap().shown().unwrap();
        let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        std::io::Write::write_all(&mut file, shown.as_bytes()).unwrap();
        let again = Layers::read(Some(file.path()), []).unwrap().shown().unwrap();
        assert_eq!(again, shown);
    }

    #[test]
    fn passwords_and_queries_leave_urls() {
        assert_eq!(masked_url("redis://:hush@h:1"), "redis://:********@h:1");
        assert_eq!(masked_url("rediss://h:1?a=hush"), "rediss://h:1?********");
        let sentinels = masked_url("redis-sentinel://u:hu%2Csh@h:1,i,[::1]:2/main/3?a=hush");
        assert_eq!(sentinels, "redis-sentinel://u:********@h:1,i,[::1]:2/main/3?********");
        assert_eq!(masked_url("redis-cluster://h,i:2"), "redis-cluster://h,i:2");
        assert_eq!(masked_url("redis-cluster://:hu,sh@h,i"), "redis-cluster://:********@h,i");
        assert_eq!(masked_url("redis-cluster://:hu/sh@h,i"), MASK);
        assert_eq!(masked_url("redis//:hush@h"), MASK);
        assert_eq!(masked_url("redis:/:hush@h:1"), MASK);
        assert_eq!(masked_url("redis:user:hush@h"), MASK);
    }
}
