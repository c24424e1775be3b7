//! The composition root: settings become a store, providers and roles, and those run until they
//! are asked to stop.
//!
//! The first SIGTERM or SIGINT asks everyone to finish what is open: the API answers the requests
//! it has, workers let their exchanges end and settle them. After `worker.drain_timeout`, or at the
//! second signal, whoever is left is cut short; what that loses, the leases give back.

mod audit;
mod parts;
pub mod receiving;
mod reload;
mod secrets;
mod service;
mod shutdown;

use std::{fmt, time::Duration};

use tokio::runtime;

pub use crate::store::Audited;
pub use audit::{Outcome, audit};
pub use reload::Source;
pub use secrets::{InUse, KeyTexts, new_signing_key, new_signing_secret, signing_secrets};
pub use service::Service;

use self::{reload::Reloads, shutdown::Shutdown};
use crate::settings::Settings;

/// How long those who were cut short may take to notice.
const CUT_TIMEOUT: Duration = Duration::from_secs(1);

/// What a process does: its roles. Every process also runs the reaper.
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

/// Runs `roles` until the process is asked to stop. Logs what goes wrong. SIGHUP has `source` read the
/// settings again.
#[must_use]
pub fn run(settings: Settings, roles: Roles, source: Source) -> Ending {
    match run_logged(settings, roles, source) {
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

fn run_logged(settings: Settings, roles: Roles, source: Source) -> anyhow::Result<Ending> {
    let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
    let ending = runtime.block_on(serve(settings, roles, source));
    runtime.shutdown_timeout(CUT_TIMEOUT);
    ending
}

async fn serve(settings: Settings, roles: Roles, source: Source) -> anyhow::Result<Ending> {
    let shutdown = Shutdown::on_signals(settings.worker.drain_timeout)?;
    let reloads = Reloads::of(source)?;
    let mut service = Service::start_under(settings, roles, shutdown, Some(reloads)).await?;
    let ending = service.ended().await;
    tracing::info!("stopped");
    Ok(ending)
}

// === impl Roles ===

impl Roles {
    /// All of them, in one process.
    pub const ALL: Self = Self { api: true, worker: true, notifier: true };
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [(self.api, "api"), (self.worker, "worker"), (self.notifier, "notifier")];
        let names: Vec<_> = names.iter().filter(|(has, _)| *has).map(|(_, name)| *name).collect();
        f.write_str(&names.join(","))
    }
}
