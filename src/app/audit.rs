//! The audit of batches, for the command line.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use secrecy::ExposeSecret;
use tokio::{runtime, time::timeout};

use super::parts::store_rules;
use crate::{
    api::DEFAULT_ACCOUNT,
    domain::ids::BatchId,
    settings::Settings,
    store::{
        self, Audit,
        audit::{self, Audited},
    },
};

/// How long a command waits for the store.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a batch is repaired until nothing is found any more.
const REPAIRS_MAX: usize = 100;

/// What came of one batch.
pub struct Outcome {
    /// The batch.
    pub id: BatchId,
    /// What the audit said of it; `None` if there is none.
    pub audited: Option<Audited>,
    /// What was left after the repair, if there was one.
    pub repaired: Option<Audited>,
}

/// Audits one batch, or all there are, and repairs what it finds if `repair` says so. `tell` hears of
/// each. An embedded store is read beside the process that may be using it; a repair needs it alone.
///
/// # Errors
/// If the store can't be used within 5 seconds.
pub fn audit(
    settings: &Settings,
    batch: Option<BatchId>,
    repair: bool,
    mut tell: impl FnMut(&Outcome) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let opened = timeout(STORE_TIMEOUT, open(settings, repair)).await;
        let store = opened.context("the store does not answer")??;
        let ids = match batch {
            Some(id) => vec![id],
            None => all(settings, &*store).await?,
        };
        for id in ids {
            tell(&look_at(&*store, id, repair).await?)?;
        }
        Ok(())
    })
}

async fn open(settings: &Settings, repair: bool) -> anyhow::Result<Arc<dyn Audit>> {
    match store::embedded::folder(settings.store.url.expose_secret()) {
        Some(folder) if !repair => Ok(store::embedded::auditor(folder)?),
        _ => Ok(store::open(&settings.store, store_rules(settings)).await?.audit),
    }
}

async fn all(settings: &Settings, store: &dyn Audit) -> anyhow::Result<Vec<BatchId>> {
    let mut ids = store.batches(DEFAULT_ACCOUNT).await?;
    for account in settings.accounts.keys().filter(|account| *account != DEFAULT_ACCOUNT) {
        ids.extend(store.batches(account).await?);
    }
    ids.sort_unstable();
    Ok(ids)
}

async fn look_at(store: &dyn Audit, id: BatchId, repair: bool) -> anyhow::Result<Outcome> {
    let audited = audit::audit(store, id).await?;
    let mut outcome = Outcome { id, audited, repaired: None };
    if !repair {
        return Ok(outcome);
    }
    for _ in 0..REPAIRS_MAX {
        let last = outcome.repaired.as_ref().or(outcome.audited.as_ref());
        let Some(Audited { notes, recount, findings: Some(findings) }) = last else { break };
        if !findings.iter().any(crate::domain::audit::Finding::can_be_mended) {
            break;
        }
        store.repair(id, notes, recount).await?;
        outcome.repaired = audit::audit(store, id).await?;
    }
    Ok(outcome)
}
