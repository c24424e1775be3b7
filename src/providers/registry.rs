//! The kinds of providers, and how a provider's table in the configuration becomes a provider.
//!
//! A table holds `kind`, the keys every kind has ([`CommonSettings`]), and the kind's own. It is
//! split by hand, since serde's `flatten` would let unknown keys pass: every key that nobody knows
//! is an error that names it. A new kind is one more line in `KINDS`.

mod levels;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use config::{ConfigError, Value, ValueKind};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, de::DeserializeOwned, ser};

use super::{
    CommonSettings, Provider, http::HttpSettings, mock::MockSettings, twilio::TwilioSettings,
};

/// Every kind there is.
const KINDS: [Registration; 3] = [
    Registration::of::<MockSettings>(),
    Registration::of::<HttpSettings>(),
    Registration::of::<TwilioSettings>(),
];

/// The keys every kind has, besides `kind`.
const COMMON_KEYS: [&str; 15] = [
    "rate",
    "adaptive",
    "max_in_flight",
    "timeout",
    "retry",
    "from",
    "receipts",
    "receipt_timeout",
    "fallback",
    "breaker",
    "price_per_segment",
    "rate_unit",
    "sender_rate",
    "senders",
    "prefix_rates",
];

/// The most open exchanges a process may be allowed.
const MAX_IN_FLIGHT_MAX: u32 = 100_000;

/// The longest time-out of an exchange, and the longest wait between two tries.
const TIMEOUT_MAX: Duration = Duration::from_hours(1);
const WAIT_MAX: Duration = Duration::from_hours(30 * 24);

/// The longest time that receipts are waited for.
const RECEIPT_TIMEOUT_MAX: Duration = Duration::from_hours(31 * 24);

/// A provider's table in the configuration.
///
/// Written back, it is what an operator may see: secret values are masked.
#[derive(Clone, Debug)]
pub struct ProviderSettings {
    /// What every kind has.
    pub common: CommonSettings,
    kind: Arc<dyn Kind>,
}

/// A kind's own settings.
pub trait Kind: fmt::Debug + Send + Sync {
    /// The word that names the kind.
    fn word(&self) -> &'static str;

    /// Whether a message can't leave without a sender.
    fn needs_from(&self) -> bool {
        false
    }

    /// The settings as an operator may see them: secret values are masked.
    ///
    /// # Errors
    /// Only if a value has no form in JSON.
    fn shown(&self) -> serde_json::Result<serde_json::Value>;

    /// The provider.
    ///
    /// # Errors
    /// [`InvalidSettings`], if a value can't serve.
    fn build(&self, site: &Site<'_>) -> Result<Arc<dyn Provider>, InvalidSettings>;
}

/// What a provider must know of where it is to work.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// Its name in the configuration.
    pub name: &'a str,
    /// What every kind has.
    pub common: &'a CommonSettings,
    /// Where clients, and providers, reach the API.
    pub public_url: &'a str,
}

/// What the registry must know of a kind before it has its settings.
pub trait KindSettings: Kind + DeserializeOwned + 'static {
    /// The word that names the kind.
    const WORD: &'static str;

    /// Its own keys.
    const KEYS: &'static [&'static str];
}

/// A value in a provider's table that can't serve.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct InvalidSettings {
    /// The key.
    pub key: &'static str,
    /// Why its value can't serve; never the value, which may be secret.
    pub reason: String,
}

/// A provider can't be built from its settings.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("providers.{name}.{source}")]
pub struct BuildError {
    name: String,
    source: InvalidSettings,
}

type Table = BTreeMap<String, Value>;

#[derive(Debug, PartialEq, thiserror::Error)]
enum TableError {
    #[error("the key `kind` is missing; it is one of {}", words())]
    NoKind,
    #[error("unknown kind {word:?}; it is one of {}", words())]
    UnknownKind { word: String },
    #[error("unknown key `{key}`; the kind `{word}` has {known}")]
    UnknownKey { key: String, word: &'static str, known: String },
    #[error("the key `{0}` is missing")]
    Missing(String),
    #[error("the value of `{key}` is wrong: {reason}")]
    Value { key: String, reason: String },
    #[error("{0}")]
    Other(String),
}

/// One kind in [`KINDS`].
struct Registration {
    word: &'static str,
    keys: &'static [&'static str],
    read: fn(Table) -> Result<Arc<dyn Kind>, TableError>,
}

/// Builds the provider called `name`. `public_url` is where clients, and providers, reach the API.
///
/// # Errors
/// [`BuildError`], which names the key whose value can't serve.
pub fn build(
    name: &str,
    settings: &ProviderSettings,
    public_url: &str,
) -> Result<Arc<dyn Provider>, BuildError> {
    let site = Site { name, common: &settings.common, public_url };
    judge(&settings.common)
        .and_then(|()| settings.kind.build(&site))
        .map_err(|source| BuildError { name: name.to_owned(), source })
}

/// Judges what every kind has.
fn judge(common: &CommonSettings) -> Result<(), InvalidSettings> {
    if !(1..=MAX_IN_FLIGHT_MAX).contains(&common.max_in_flight) {
        let reason = format!("give a number from 1 to {MAX_IN_FLIGHT_MAX}");
        return Err(InvalidSettings { key: "max_in_flight", reason });
    }
    if common.timeout.is_zero() || common.timeout > TIMEOUT_MAX {
        return Err(InvalidSettings::new("timeout", "give a duration above 0, at most 1h"));
    }
    if common.receipt_timeout > RECEIPT_TIMEOUT_MAX {
        return Err(InvalidSettings::new("receipt_timeout", "give a duration of at most 31d"));
    }
    common.breaker.judge()?;
    if common.retry.attempts == 0 {
        return Err(InvalidSettings::new("retry.attempts", "give a number of at least 1"));
    }
    for (key, wait) in
        [("retry.first", common.retry.first), ("retry.longest", common.retry.longest)]
    {
        if wait > WAIT_MAX {
            return Err(InvalidSettings::new(key, "give a duration of at most 30d"));
        }
    }
    levels::judge(common)
}

// === impl Site ===

#[cfg(test)]
impl<'a> Site<'a> {
    /// A provider called `test`, of an API that is here.
    pub(super) fn of(common: &'a CommonSettings) -> Self {
        Self { name: "test", common, public_url: "http://127.0.0.1:8080" }
    }
}

// === impl InvalidSettings ===

impl InvalidSettings {
    /// `key` can't have its value for `reason`.
    pub fn new(key: &'static str, reason: impl Into<String>) -> Self {
        Self { key, reason: reason.into() }
    }
}

// === impl ProviderSettings ===

impl ProviderSettings {
    /// Settings that come from no configuration.
    pub fn new(common: CommonSettings, kind: impl Kind + 'static) -> Self {
        Self { common, kind: Arc::new(kind) }
    }

    /// The word that names the kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind.word()
    }

    /// Whether a batch needs a sender where the provider has no default one.
    #[must_use]
    pub fn needs_from(&self) -> bool {
        self.kind.needs_from()
    }

    fn from_table(mut table: Table) -> Result<Self, TableError> {
        let word = table.remove("kind").ok_or(TableError::NoKind)?;
        let word: String = read_value(word)?;
        let kind = KINDS.iter().find(|kind| kind.word == word);
        let kind = kind.ok_or(TableError::UnknownKind { word })?;
        if let Some(key) = table.keys().find(|key| !kind.knows(key)) {
            let known = [&["kind"], &COMMON_KEYS[..], kind.keys].concat().join(", ");
            return Err(TableError::UnknownKey { key: key.clone(), word: kind.word, known });
        }
        let (common, own) =
            table.into_iter().partition(|(key, _)| COMMON_KEYS.contains(&key.as_str()));
        Ok(Self { common: read_table(common)?, kind: (kind.read)(own)? })
    }
}

impl<'de> Deserialize<'de> for ProviderSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_table(Table::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl Serialize for ProviderSettings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut shown = serde_json::Map::new();
        shown.insert("kind".into(), self.kind().into());
        let common = serde_json::to_value(&self.common).map_err(ser::Error::custom)?;
        let own = self.kind.shown().map_err(ser::Error::custom)?;
        for part in [common, own] {
            if let serde_json::Value::Object(fields) = part {
                shown.extend(fields);
            }
        }
        shown.serialize(serializer)
    }
}

// === impl Registration ===

impl Registration {
    const fn of<K: KindSettings>() -> Self {
        Self { word: K::WORD, keys: K::KEYS, read: |table| Ok(Arc::new(read_table::<K>(table)?)) }
    }

    fn knows(&self, key: &str) -> bool {
        COMMON_KEYS.contains(&key) || self.keys.contains(&key)
    }
}

// === impl TableError ===

impl From<ConfigError> for TableError {
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::NotFound(key) => Self::Missing(key),
            // What was found is not repeated: it may be a secret in the wrong place.
            ConfigError::Type { key: Some(key), expected, .. } => {
                Self::Value { key, reason: format!("expected {expected}") }
            }
            ConfigError::At { key: Some(key), error, .. } => {
                Self::Value { key, reason: error.to_string() }
            }
            other => Self::Other(other.to_string()),
        }
    }
}

fn read_table<T: DeserializeOwned>(table: Table) -> Result<T, TableError> {
    read_value(Value::new(None, ValueKind::Table(table.into_iter().collect())))
}

/// Reads with the leniency of the crate `config`: environment variables are always text.
fn read_value<T: DeserializeOwned>(value: Value) -> Result<T, TableError> {
    value.try_deserialize().map_err(TableError::from)
}

/// The words of all kinds, for a person.
fn words() -> String {
    KINDS.map(|kind| kind.word).join(", ")
}

#[cfg(test)]
mod tests {
    use config::{Config, File, FileFormat};

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        providers: BTreeMap<String, ProviderSettings>,
    }

    fn read(toml: &str) -> Result<ProviderSettings, String> {
        let toml = format!("[providers.carrier]\n{toml}");
        let mut settings: Settings = Config::builder()
            .add_source(File::from_str(&toml, FileFormat::Toml))
            .build()
            .unwrap()
            .try_deserialize()
            .map_err(|error: ConfigError| error.to_string())?;
        Ok(settings.providers.remove("carrier").unwrap())
    }

    const HERE: &str = "http://127.0.0.1:8080";

    const HTTP: &str = r#"
        kind = "http"
        url = "https://sms.example/send?key=hush"
        headers = { Authorization = "Bearer hush" }
        receipt_secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
        rate = "200/s"
        max_in_flight = "128"
        retry = { attempts = 3 }
    "#;

    #[test]
    fn a_table_holds_common_keys_and_the_kinds_own() {
        let settings = read(HTTP).unwrap();
        assert_eq!(settings.kind(), "http");
        assert!(!settings.needs_from());
        assert_eq!(settings.common.rate.unwrap().to_string(), "200/s");
        assert_eq!(settings.common.max_in_flight, 128);
        assert_eq!(settings.common.retry.attempts, 3);
        assert_eq!(settings.common.retry.first, Duration::from_millis(500));
        assert!(build("carrier", &settings, HERE).is_ok());
        assert!(build("mock", &read("kind = \"mock\"").unwrap(), HERE).is_ok());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("", "`kind` is missing"),
            ("kind = \"smoke\"", "unknown kind \"smoke\"; it is one of mock, http, twilio"),
            ("kind = \"mock\"\nratee = \"1/s\"", "unknown key `ratee`; the kind `mock` has"),
            ("kind = \"mock\"\nurl = \"http://a.example\"", "unknown key `url`"),
            ("kind = \"http\"", "`url` is missing"),
            ("kind = \"mock\"\nrate = \"fast\"", "the value of `rate` is wrong: not a rate"),
            ("kind = \"mock\"\nmax_in_flight = \"many\"", "the value of `max_in_flight` is wrong"),
            (
                "kind = \"mock\"\nprice_per_segment = \"0.0079\"",
                "the value of `price_per_segment` is wrong: not a price",
            ),
            ("kind = \"mock\"\nrate_unit = \"part\"", "the value of `rate_unit` is wrong"),
            (
                "kind = \"mock\"\nsender_rate = \"fast\"",
                "the value of `sender_rate` is wrong: not a rate",
            ),
            ("kind = \"mock\"\nprefix_rates = { \"+1\" = \"fast\" }", "prefix_rates"),
            ("kind = \"mock\"\nlatency = \"soon\"", "the value of `latency` is wrong"),
            ("kind = \"mock\"\nretry = { attemptss = 1 }", "attemptss"),
        ];
        for (toml, expected) in cases {
            let error = read(toml).unwrap_err();
            assert!(error.contains(expected), "{toml}: {error}");
            assert!(error.contains("providers.carrier"), "{toml}: {error}");
        }
    }

    #[test]
    fn values_that_can_not_serve_are_named() {
        let cases = [
            (
                "kind = \"mock\"\nmax_in_flight = 0",
                "providers.carrier.max_in_flight: give a number",
            ),
            ("kind = \"mock\"\nmax_in_flight = 100001", "providers.carrier.max_in_flight: "),
            ("kind = \"mock\"\ntimeout = \"0s\"", "providers.carrier.timeout: "),
            ("kind = \"mock\"\ntimeout = \"2h\"", "providers.carrier.timeout: "),
            ("kind = \"mock\"\nretry = { longest = \"31d\" }", "providers.carrier.retry.longest: "),
            ("kind = \"mock\"\nretry = { attempts = 0 }", "providers.carrier.retry.attempts: "),
            ("kind = \"mock\"\nreceipt_timeout = \"32d\"", "providers.carrier.receipt_timeout: "),
            (
                "kind = \"http\"\nurl = \"http://a.example\"\nreceipts = true",
                "providers.carrier.receipt_secret: ",
            ),
            ("kind = \"mock\"\nbreaker = { failures = 0 }", "providers.carrier.breaker.failures: "),
            (
                "kind = \"mock\"\nbreaker = { cool_down = \"999ms\" }",
                "providers.carrier.breaker.cool_down: ",
            ),
            ("kind = \"mock\"\nfailure_ratio = 1.5", "providers.carrier.failure_ratio: "),
            ("kind = \"http\"\nurl = \"ftp://a.example\"", "providers.carrier.url: "),
            (
                "kind = \"mock\"\nsenders = [\"+1555\", \"\"]",
                "providers.carrier.senders: number 2 is",
            ),
            (
                "kind = \"mock\"\nsenders = [\"+1\", \"+1\"]",
                "providers.carrier.senders: +1 is there twice",
            ),
            (
                "kind = \"mock\"\nfrom = \"+1\"\nsenders = [\"+2\"]",
                "providers.carrier.senders: give senders or a `from`",
            ),
            (
                "kind = \"mock\"\nprefix_rates = { \"+0\" = \"1/s\" }",
                "providers.carrier.prefix_rates: \"+0\" is not the beginning",
            ),
        ];
        for (toml, expected) in cases {
            let settings = read(toml).unwrap();
            let error = build("carrier", &settings, HERE).err().unwrap().to_string();
            assert!(error.starts_with(expected), "{toml}: {error}");
        }
    }

    #[test]
    fn what_is_shown_can_be_read_back_and_holds_no_secret() {
        let settings = read(HTTP).unwrap();
        let shown = serde_json::to_string(&settings).unwrap();
        let debug = format!("{settings:?}");
        for secret in ["hush", "whsec_"] {
            assert!(!shown.contains(secret) && !debug.contains(secret), "{shown} {debug}");
        }
        let value: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(value["kind"], "http");
        assert_eq!(value["rate"], "200/s");
        assert_eq!(value["url"], "https://sms.example/send?********");
        assert_eq!(value["headers"]["Authorization"], "********");
        let again: ProviderSettings = serde_json::from_str(&shown).unwrap();
        assert_eq!(again.common.max_in_flight, 128);
    }

    #[test]
    fn every_key_of_a_kind_is_registered() {
        let shown = read(HTTP).unwrap().kind.shown().unwrap();
        assert_eq!(keys(&shown), HttpSettings::KEYS.iter().copied().collect());
        let shown = MockSettings::default().shown().unwrap();
        assert_eq!(keys(&shown), MockSettings::KEYS.iter().copied().collect());
        let twilio = r#"
            kind = "twilio"
            account_sid = "AC"
            auth_token = "hush"
            api_key_sid = "SK"
            api_key_secret = "hush"
            messaging_service_sid = "MG"
        "#;
        let shown = read(twilio).unwrap().kind.shown().unwrap();
        assert_eq!(keys(&shown), TwilioSettings::KEYS.iter().copied().collect());
        let common = CommonSettings {
            receipts: Some(true),
            rate: "1/s".parse().ok(),
            from: Some("+15550001111".into()),
            fallback: Some("second".into()),
            price_per_segment: "0.0079 USD".parse().ok(),
            sender_rate: "1/s".parse().ok(),
            senders: vec!["+15550001111".into()],
            prefix_rates: "1/s".parse().into_iter().map(|rate| ("+1".into(), rate)).collect(),
            ..CommonSettings::default()
        };
        let shown = serde_json::to_value(common).unwrap();
        assert_eq!(keys(&shown), COMMON_KEYS.into_iter().collect());
    }

    fn keys(shown: &serde_json::Value) -> std::collections::BTreeSet<&str> {
        shown.as_object().unwrap().keys().map(String::as_str).collect()
    }
}
