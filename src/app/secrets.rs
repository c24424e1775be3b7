//! What callbacks are signed with, for the command line.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use tokio::{runtime, time::timeout};

use super::parts::store_rules;
use crate::{
    callbacks::{self, Signers},
    settings::Settings,
    store,
};

/// How long a command waits for the store.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// A new Ed25519 key, in the forms of the configuration and of receivers.
#[derive(Serialize)]
pub struct KeyTexts {
    /// What signs: `whsk_…`.
    pub private_key: String,
    /// What receivers check with: `whpk_…`.
    pub public_key: String,
}

/// What is in use. The secrets are plain text, for the one who may see them.
#[derive(Serialize)]
pub struct InUse {
    /// The secrets that sign for all accounts without their own.
    pub secrets: Vec<String>,
    /// The secrets of the accounts that have their own.
    pub accounts: BTreeMap<String, Vec<String>>,
    /// What signatures of version `v1a` are checked with.
    pub public_keys: Vec<String>,
}

/// A new secret, in the form of the configuration.
#[must_use]
pub fn new_signing_secret() -> String {
    callbacks::secrets::new_secret().reveal().to_owned()
}

/// A new Ed25519 key.
///
/// # Errors
/// None is known.
pub fn new_signing_key() -> anyhow::Result<KeyTexts> {
    let key = callbacks::secrets::new_key()?;
    Ok(KeyTexts { private_key: key.reveal().to_owned(), public_key: key.public().to_string() })
}

/// What is in use: what is configured and, if no secret is configured for all, the store's own. On
/// Redis that is made if there is none yet; an embedded store's is read beside the process that may
/// be using the store.
///
/// # Errors
/// If the store is needed and can't be used within 5 seconds, or it is an embedded one that is not
/// there: in another folder than the server's there would be another secret.
pub fn signing_secrets(settings: &Settings) -> anyhow::Result<InUse> {
    let accounts = settings.accounts.iter();
    let accounts = accounts.filter(|(_, account)| !account.signing_secrets.is_empty());
    let keys = callbacks::secrets::public_keys(&settings.callbacks)?;
    Ok(InUse {
        secrets: general(settings)?,
        accounts: accounts
            .map(|(name, account)| (name.clone(), plain(&account.signing_secrets)))
            .collect(),
        public_keys: keys.iter().map(ToString::to_string).collect(),
    })
}

fn general(settings: &Settings) -> anyhow::Result<Vec<String>> {
    let configured = &settings.callbacks.signing_secrets;
    if !configured.is_empty() {
        return Ok(plain(configured));
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
    let store = store::open(&settings.store, store_rules(settings)).await?;
    let signers = Signers::load(&*store.callbacks, &settings.callbacks, []).await?;
    Ok(signers.general().iter().map(|secret| secret.reveal().to_owned()).collect())
}

fn plain(secrets: &[SecretString]) -> Vec<String> {
    secrets.iter().map(|secret| secret.expose_secret().to_owned()).collect()
}
