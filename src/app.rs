//! The composition root: settings become a store, providers and roles, and those run until they
//! are asked to stop.
//!
//! The first SIGTERM or SIGINT asks everyone to finish what is open: the API answers the requests
//! it has, workers let their exchanges end and settle them. After `worker.drain_timeout`, or at the
//! second signal, whoever is left is cut short; what that loses, the leases give back.

mod parts;
mod secrets;
mod shutdown;

use std::{fmt, time::Duration};

use anyhow::Context;
use tokio::{runtime, task::JoinSet};

pub use secrets::{new_signing_secret, signing_secrets};

use self::{
    parts::{Parts, store_times},
    shutdown::Shutdown,
};
use crate::{
    settings::{Settings, masked_url},
    store::{self, Store},
};

/// How long those who were cut short may take to notice.
const CUT_TIMEOUT: Duration = Duration::from_secs(1);

/// What a process does.
#[derive(Clone, Copy, Debug)]
pub struct Roles {
    /// It answers the HTTP API.
    pub api: bool,
    /// It sends messages.
    pub worker: bool,
    /// It delivers callbacks.
    pub notifier: bool,
}

/// How a process ended. The log says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was asked to stop, and finished what was open, or its time to do so was up.
    Orderly,
    /// A second signal cut it short.
    Cut,
    /// It could not start, or a part of it failed.
    Failed,
}

/// The parts that run, each with its name.
type Running = JoinSet<(&'static str, anyhow::Result<()>)>;

/// Runs `roles` until the process is asked to stop. Logs what goes wrong.
#[must_use]
pub fn run(settings: Settings, roles: Roles) -> Ending {
    match run_logged(settings, roles) {
        Ok(ending) => ending,
        Err(error) => {
            tracing::error!("can't start: {error:#}");
            Ending::Failed
        }
    }
}

/// The HTTP API's description.
#[must_use]
pub fn openapi_json() -> String {
    crate::api::openapi_json()
}

fn run_logged(settings: Settings, roles: Roles) -> anyhow::Result<Ending> {
    let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
    let ending = runtime.block_on(serve(settings, roles));
    runtime.shutdown_timeout(CUT_TIMEOUT);
    ending
}

async fn serve(settings: Settings, roles: Roles) -> anyhow::Result<Ending> {
    let shutdown = Shutdown::on_signals(settings.worker.drain_timeout)?;
    announce(&settings, roles);
    let Some(store) = connect(&settings, &shutdown).await? else {
        return Ok(shutdown.ending());
    };
    let parts = Parts::new(settings, store)?;
    let mut running = Running::new();
    if let Err(error) = parts.start(roles, &shutdown, &mut running).await {
        // What has started already must let go of its work in order.
        shutdown.ask();
        finish(running, &shutdown).await;
        return Err(error);
    }
    let ending = finish(running, &shutdown).await;
    tracing::info!("stopped");
    Ok(ending)
}

fn announce(settings: &Settings, roles: Roles) {
    use secrecy::ExposeSecret;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        roles = %roles,
        store = masked_url(settings.store.url.expose_secret()),
        accounts = settings.accounts.len(),
        "starting"
    );
    for (name, provider) in &settings.providers {
        let rate =
            provider.common.rate.map_or_else(|| "no limit".to_owned(), |rate| rate.to_string());
        tracing::info!(
            provider.name = name,
            provider.kind = provider.kind(),
            provider.rate = rate,
            "provider configured"
        );
    }
}

/// The store, once it answers; nothing if the process is asked to stop before.
async fn connect(settings: &Settings, shutdown: &Shutdown) -> anyhow::Result<Option<Store>> {
    tokio::select! {
        biased;
        () = shutdown.soft.cancelled() => Ok(None),
        store = store::redis::connect(&settings.store, store_times(settings)) => {
            store.context("can't use the store").map(Some)
        }
    }
}

/// Waits for all parts to end. One that ends before it was asked to brings the others to an end.
async fn finish(mut running: Running, shutdown: &Shutdown) -> Ending {
    let mut failed = false;
    let all = async {
        while let Some(ended) = running.join_next().await {
            if let Some(error) = early_end(ended, shutdown) {
                tracing::error!("{error:#}: stopping");
                failed = true;
                shutdown.ask();
            }
        }
    };
    tokio::select! {
        () = all => {}
        () = shutdown.cut_and_waited(CUT_TIMEOUT) => {
            tracing::warn!("not everything has ended in time");
        }
    }
    if failed { Ending::Failed } else { shutdown.ending() }
}

/// Why a part ended, if it should not have.
fn early_end(
    ended: Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>,
    shutdown: &Shutdown,
) -> Option<anyhow::Error> {
    match ended {
        Ok((name, Err(error))) => Some(error.context(format!("the {name} failed"))),
        Ok((name, Ok(()))) if !shutdown.soft.is_cancelled() => {
            Some(anyhow::anyhow!("the {name} ended by itself"))
        }
        Ok(_) => None,
        // The log has the place already.
        Err(_) => Some(anyhow::anyhow!("a part of the process panicked")),
    }
}

// === impl Roles ===

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [(self.api, "api"), (self.worker, "worker"), (self.notifier, "notifier")];
        let names: Vec<_> = names.iter().filter(|(has, _)| *has).map(|(_, name)| *name).collect();
        f.write_str(&names.join(","))
    }
}
