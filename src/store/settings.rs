//! The `[store]` section.

use std::{path::PathBuf, time::Duration};

use secrecy::SecretString;
use serde::{Deserialize, Serialize, Serializer};

use crate::domain::units::span;

/// The longest retention.
pub const RETENTION_MAX: Duration = Duration::from_hours(400 * 24);

/// A batch that is to be erased later than this from now has its time from a clock that was wrong.
/// Well beyond the longest retention: a batch that is kept for too long hurts nobody, so a clock that
/// was set back by less than a year erases nothing.
pub(super) const PURGE_AHEAD_MAX: Duration = RETENTION_MAX.saturating_mul(2);

/// Which store serves, and how long it keeps what is over.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSettings {
    /// Where the store is: `embedded:` and a folder, or a URL of a Redis server, of sentinels or of
    /// a cluster. May hold a password.
    pub url: SecretString,
    /// How long a batch is kept once it is final and its callback has ended.
    #[serde(with = "span")]
    pub retention: Duration,
    /// How often the embedded store brings to the disk what it has committed: what a loss of power
    /// may take. With 0 every commit waits for the disk.
    #[serde(with = "span")]
    pub sync_every: Duration,
    /// Into how many partitions the store is divided. As it was made if not set; a new one by how it
    /// is kept.
    #[serde(default)]
    pub partitions: Option<u16>,
    /// How servers of Redis prove who they are, and this process to them.
    #[serde(default)]
    pub tls: StoreTls,
    /// Who this process is to sentinels, which know other users than their servers.
    #[serde(default)]
    pub sentinel: SentinelLogin,
}

/// The `[store.sentinel]` section.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SentinelLogin {
    /// The user; the default one if not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password, for sentinels that ask for one.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "hidden")]
    pub password: Option<SecretString>,
}

/// The `[store.tls]` section: PEM files for `rediss…://`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StoreTls {
    /// The authorities whose servers are trusted, in place of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// This process's certificate, for servers that ask for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// The key of that certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

/// Writes a mask in place of a secret.
#[expect(clippy::ref_option, reason = "serde hands a field over so")]
fn hidden<S: Serializer>(_: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str("********")
}
