//! The configuration: three layers, read once at start, and checked before anything runs.
//!
//! The commented `config/default.toml` is built in and holds every default; a file overrides it;
//! variables named `RINGBACK__SECTION__KEY` override both. A key that nobody knows is an error, and
//! an error names the key and where it came from. Every part of the program owns the type of its
//! section; here they are only put together.

mod check;
mod environment;
mod error;
mod layers;
mod shown;

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;

pub use check::Findings;
pub(crate) use check::is_name;
pub use error::SettingsError;
pub use layers::{DEFAULT_TOML, Layers};
pub(crate) use shown::masked_url;

use crate::{
    api::{AccountSettings, ServerSettings},
    callbacks::CallbackSettings,
    dispatch::WorkerSettings,
    providers::registry::ProviderSettings,
    store::StoreSettings,
    telemetry::LogSettings,
};

/// All that can be configured.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The provider of batches that name none.
    pub default_provider: String,
    /// The HTTP API.
    pub server: ServerSettings,
    /// The store.
    pub store: StoreSettings,
    /// The workers.
    pub worker: WorkerSettings,
    /// The notifiers.
    pub callbacks: CallbackSettings,
    /// The log.
    pub log: LogSettings,
    /// The providers, by name.
    pub providers: BTreeMap<String, ProviderSettings>,
    /// The accounts, by name. Without any, the API asks for no key.
    #[serde(default)]
    pub accounts: BTreeMap<String, AccountSettings>,
}

// === impl Settings ===

impl Settings {
    /// Reads all layers: the built-in default, `file`, and this process's environment.
    ///
    /// # Errors
    /// [`SettingsError`], for the first key that is wrong. What fits its type and still makes no
    /// sense is found by [`Settings::check`].
    pub fn load(file: Option<&Path>) -> Result<Self, SettingsError> {
        Layers::read(file, std::env::vars_os())?.settings()
    }

    /// The URL under which clients reach the API, without a slash at its end.
    #[must_use]
    pub fn public_url(&self) -> String {
        match &self.server.public_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None if self.server.tls.is_some() => format!("https://{}", self.server.listen),
            None => format!("http://{}", self.server.listen),
        }
    }
}
