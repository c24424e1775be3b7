//! The secrets that callbacks are signed with, for the command line.

use std::time::Duration;

use anyhow::Context;
use secrecy::ExposeSecret;
use tokio::{runtime, time::timeout};

use super::parts::store_times;
use crate::{
    callbacks::{self, SigningSecret},
    settings::Settings,
    store,
};

/// How long a command waits for the store.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// A new secret, in the form of the configuration.
///
/// # Errors
/// If the machine has no randomness to give.
pub fn new_signing_secret() -> anyhow::Result<String> {
    Ok(SigningSecret::generate()?.reveal().to_owned())
}

/// The secrets in use: those configured, else the store's own, which is made if there is none yet.
/// One that an embedded store has is read beside the process that may be using the store.
///
/// # Errors
/// If the store is needed and can't be used within 5 seconds.
pub fn signing_secrets(settings: &Settings) -> anyhow::Result<Vec<String>> {
    let configured = &settings.callbacks.signing_secrets;
    if !configured.is_empty() {
        return Ok(configured.iter().map(|secret| secret.expose_secret().to_owned()).collect());
    }
    let embedded = store::embedded::folder(settings.store.url.expose_secret());
    if let Some(secret) = embedded.map(store::embedded::signing_secret).transpose()?.flatten() {
        return Ok(vec![secret]);
    }
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let stored = async { timeout(STORE_TIMEOUT, stored(settings)).await };
    runtime.block_on(stored).context("the store does not answer")?
}

async fn stored(settings: &Settings) -> anyhow::Result<Vec<String>> {
    let store = store::open(&settings.store, store_times(settings)).await?;
    let secrets = callbacks::signing_secrets(&*store.callbacks, &settings.callbacks).await?;
    Ok(secrets.iter().map(|secret| secret.reveal().to_owned()).collect())
}
