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

/// The secrets in use: those configured, else the store's own. On Redis it is made if there is none
/// yet; an embedded store's is read beside the process that may be using the store.
///
/// # Errors
/// If the store is needed and can't be used within 5 seconds, or it is an embedded one that is not
/// there: in another folder than the server's there would be another secret.
pub fn signing_secrets(settings: &Settings) -> anyhow::Result<Vec<String>> {
    let configured = &settings.callbacks.signing_secrets;
    if !configured.is_empty() {
        return Ok(configured.iter().map(|secret| secret.expose_secret().to_owned()).collect());
    }
    if let Some(folder) = store::embedded::folder(settings.store.url.expose_secret()) {
        let secret = store::embedded::signing_secret(folder)?.with_context(|| {
            let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
            format!(
                "there is no store with a secret in {}: the server makes it at its first start; run \
                 this command where the server runs, with the same configuration",
                folder.display()
            )
        })?;
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
