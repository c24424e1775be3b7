//! A running service: the parts that roles ask for, within this process, started and ended together.
//!
//! `ringback serve` runs one until a signal comes, and others may run one beside work of their own.
//! A part that ends before it was asked to brings the others to an end. A service that is dropped
//! is cut short, and what that loses the leases give back; [`Service::stop`] ends it in order.

use std::net::SocketAddr;

use anyhow::Context;
use tokio::task::{JoinError, JoinSet};

use super::{
    CUT_TIMEOUT, Ending, Roles,
    parts::{Parts, store_rules},
    reload::Reloads,
    shutdown::Shutdown,
};
use crate::{
    settings::{Settings, masked_url},
    store::{self, Store},
};

/// The parts that run, each with its name.
pub(super) type Running = JoinSet<Ended>;

/// A part that has ended: its name, and how.
type Ended = (&'static str, anyhow::Result<()>);

/// See the module.
pub struct Service {
    running: Running,
    api_address: Option<SocketAddr>,
    /// Whether a part ended that should not have.
    failed: bool,
    shutdown: Shutdown,
}

// === impl Service ===

impl Service {
    /// Starts `roles`. Once it returns, the store has answered and the addresses are listened on;
    /// port 0 in `server.listen` is a free port.
    ///
    /// # Errors
    /// If the store can't be used, an address can't be listened on, or the settings can't serve.
    /// Nothing runs then.
    pub async fn start(settings: Settings, roles: Roles) -> anyhow::Result<Self> {
        let shutdown = Shutdown::on_request(settings.worker.drain_timeout);
        Self::start_under(settings, roles, shutdown, None).await
    }

    /// Starts `roles`, which run until `shutdown`, with what `reloads` change meanwhile. If the
    /// shutdown comes before the store has answered, it is a service of which nothing runs.
    ///
    /// # Errors
    /// As [`Service::start`].
    pub(super) async fn start_under(
        settings: Settings,
        roles: Roles,
        shutdown: Shutdown,
        reloads: Option<Reloads>,
    ) -> anyhow::Result<Self> {
        announce(&settings, roles);
        let mut service =
            Self { running: Running::new(), api_address: None, failed: false, shutdown };
        let Some(store) = service.connect(&settings).await? else { return Ok(service) };
        let parts = Parts::new(settings, store)?;
        match parts.start(roles, reloads, &service.shutdown, &mut service.running).await {
            Ok(api_address) => {
                service.api_address = api_address;
                Ok(service)
            }
            Err(error) => {
                // What has started already must let go of its work in order.
                service.stop().await;
                Err(error)
            }
        }
    }

    /// Where its API listens, if it has that role.
    #[must_use]
    pub fn api_address(&self) -> Option<SocketAddr> {
        self.api_address
    }

    /// Waits until all parts have ended, whether they were asked to or not, and says how. May be
    /// dropped and called again.
    pub async fn ended(&mut self) -> Ending {
        let Self { running, shutdown, failed, .. } = self;
        let all = async {
            while let Some(ended) = running.join_next().await {
                if let Some(error) = early_end(ended, shutdown) {
                    tracing::error!("{error:#}: stopping");
                    *failed = true;
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
        if self.failed { Ending::Failed } else { self.shutdown.ending() }
    }

    /// Asks all parts to finish what is open, waits until they have, at most
    /// `worker.drain_timeout` and a second, and says how it ended.
    pub async fn stop(mut self) -> Ending {
        self.shutdown.ask();
        self.ended().await
    }

    /// The store, once it answers; nothing if the process is asked to stop before.
    async fn connect(&self, settings: &Settings) -> anyhow::Result<Option<Store>> {
        tokio::select! {
            biased;
            () = self.shutdown.soft.cancelled() => Ok(None),
            store = store::open(&settings.store, store_rules(settings)) => {
                store.context("can't use the store").map(Some)
            }
        }
    }
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

/// Why a part ended, if it should not have.
fn early_end(ended: Result<Ended, JoinError>, shutdown: &Shutdown) -> Option<anyhow::Error> {
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
