//! The parts of a process, made from settings and a store, and started by role.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use async_trait::async_trait;
use tokio::net::{TcpListener, TcpSocket};

use super::{
    Roles,
    reload::{Changeable, Reloads},
    service::Running,
    shutdown::Shutdown,
};
use crate::{
    api::{self, Accounts, Api, Certificate, Pings, ProviderFacts},
    callbacks::{Notifier, Pinger, Signers, secrets},
    clock::Clock,
    dispatch::{Lane, Worker, reaper},
    domain::{callback_url::Forbidden, signing_key::PublicKey},
    providers::{Provider, registry},
    receipts::{self, Clerk, Desk},
    settings::Settings,
    store::{AttemptEnd, HostLimits, Store, StoreRules},
    telemetry::Metrics,
};

/// How long an upload lives without another piece of it.
const UPLOAD_LEASE: Duration = Duration::from_secs(5);

/// How many connections wait to be accepted at most; the system may allow less. A client beyond that
/// tries again after a second.
const BACKLOG: u32 = 8192;

/// What the parts are made from.
pub(super) struct Parts {
    settings: Settings,
    store: Store,
    lanes: Vec<Lane>,
    public_keys: Vec<PublicKey>,
    accounts: Arc<Accounts>,
    /// That of the API's listener, in a process that has one.
    certificate: Option<Arc<Certificate>>,
    /// Where receipts are brought to, and who brings them into the store.
    desk: Desk,
    clerk: Clerk,
    metrics: Arc<Metrics>,
}

/// The pings of the API, sent as callbacks are.
struct ApiPings(Pinger);

/// The rules the store goes by.
pub(super) fn store_rules(settings: &Settings) -> StoreRules {
    StoreRules {
        lease: settings.worker.lease,
        upload_lease: UPLOAD_LEASE,
        retention: settings.store.retention,
        hosts: HostLimits {
            at_once: settings.callbacks.host_concurrency,
            silences_max: settings.callbacks.breaker_failures,
            left_alone: settings.callbacks.breaker_cool_down,
        },
    }
}

// === impl Parts ===

impl Parts {
    /// Builds what does not run by itself.
    ///
    /// # Errors
    /// If the settings of a provider, or of a signing key, can't serve.
    pub(super) fn new(settings: Settings, store: Store) -> anyhow::Result<Self> {
        let public_url = settings.public_url();
        let lanes = settings.providers.iter().map(|(name, provider)| {
            Ok(Lane {
                name: name.clone(),
                provider: registry::build(name, provider, &public_url)?,
                settings: provider.common.clone(),
            })
        });
        let lanes = lanes.collect::<anyhow::Result<_>>()?;
        let public_keys = secrets::public_keys(&settings.callbacks)?;
        let accounts = Arc::new(Accounts::new(&settings.accounts));
        let (certificate, metrics): (_, Arc<Metrics>) = (None, Arc::default());
        let (stands_in_for, clock) = (stands_in_for(&settings), Clock::system());
        let (desk, clerk) =
            receipts::open(store.clone(), clock, stands_in_for, Arc::clone(&metrics));
        Ok(Self {
            settings,
            store,
            lanes,
            public_keys,
            accounts,
            certificate,
            desk,
            clerk,
            metrics,
        })
    }

    /// Starts what `roles` ask for, and the reaper, which every process runs; `reloads` change what can
    /// be meanwhile. Gives the address the API listens on, if it does.
    ///
    /// # Errors
    /// If an address can't be listened on, or the certificate or the callbacks' settings can't serve.
    /// What was started before runs on.
    pub(super) async fn start(
        mut self,
        roles: Roles,
        reloads: Option<Reloads>,
        shutdown: &Shutdown,
        running: &mut Running,
    ) -> anyhow::Result<Option<SocketAddr>> {
        let signers = self.signers().await?;
        let api_address = self.start_listeners(roles, &signers, shutdown, running)?;
        if let Some(reloads) = reloads {
            let (what, soft) = (self.changeable(), shutdown.soft.clone());
            running.spawn(async move {
                reloads.run(what, soft).await;
                ("reloads", Ok(()))
            });
        }
        if roles.notifier {
            self.start_notifier(signers, shutdown, running)?;
        }
        if roles.worker {
            self.follow_own_receipts(shutdown, running);
            self.start_worker(shutdown, running);
        }
        // With a desk of its own it runs on where nobody brings receipts.
        let (clerk, desk, soft) = (self.clerk, self.desk.clone(), shutdown.soft.clone());
        running.spawn(async move {
            let until_then = async move {
                soft.cancelled().await;
                drop(desk);
            };
            tokio::join!(clerk.run(), until_then);
            ("receipts", Ok(()))
        });
        let (store, soft) = (self.store, shutdown.soft.clone());
        running.spawn(async move {
            reaper::run(store, soft).await;
            ("reaper", Ok(()))
        });
        Ok(api_address)
    }

    fn start_listeners(
        &mut self,
        roles: Roles,
        signers: &Signers,
        shutdown: &Shutdown,
        running: &mut Running,
    ) -> anyhow::Result<Option<SocketAddr>> {
        if roles.api {
            let certificate = self.settings.server.tls.as_ref().map(Certificate::load);
            self.certificate = certificate.transpose()?.map(Arc::new);
            let listener = listen("server.listen", self.settings.server.listen)?;
            // What was port 0 has a number now, and links in answers and callbacks need it.
            self.settings.server.listen = listener.local_addr()?;
            if self.settings.accounts.is_empty() {
                let address = self.settings.server.listen;
                tracing::warn!(%address, "no account is configured: the API asks for no key");
            }
            let (api, soft) = (self.api(signers)?, shutdown.soft.clone());
            running.spawn(async move {
                ("API", api::serve(api, listener, soft).await.map_err(anyhow::Error::from))
            });
        }
        if let Some(address) = self.settings.server.metrics_listen {
            let listener = listen("server.metrics_listen", address)?;
            let (api, soft) = (self.api(signers)?, shutdown.soft.clone());
            running.spawn(async move {
                let served = api::serve_metrics(api, listener, soft).await;
                ("metrics listener", served.map_err(anyhow::Error::from))
            });
        }
        Ok(roles.api.then_some(self.settings.server.listen))
    }

    async fn signers(&self) -> anyhow::Result<Signers> {
        let accounts = self.settings.accounts.iter();
        let accounts = accounts.map(|(name, account)| (name, &account.signing_secrets));
        let callbacks = &*self.store.callbacks;
        Ok(Signers::load(callbacks, &self.settings.callbacks, accounts).await?)
    }

    fn changeable(&self) -> Changeable {
        Changeable {
            accounts: Arc::clone(&self.accounts),
            certificate: self.certificate.clone(),
            listen: self.settings.server.listen,
        }
    }

    fn start_notifier(
        &self,
        signers: Signers,
        shutdown: &Shutdown,
        running: &mut Running,
    ) -> anyhow::Result<()> {
        let settings = &self.settings.callbacks;
        let public_url = self.settings.public_url();
        let (clock, metrics) = (Clock::system(), Arc::clone(&self.metrics));
        let notifier = Notifier::new(&self.store, clock, settings, signers, public_url, metrics)
            .context("can't deliver callbacks")?;
        let (soft, hard) = (shutdown.soft.clone(), shutdown.hard.clone());
        running.spawn(async move {
            notifier.run(soft, hard).await;
            ("notifier", Ok(()))
        });
        Ok(())
    }

    /// What providers of this process say of themselves goes the way of all receipts.
    fn follow_own_receipts(&self, shutdown: &Shutdown, running: &mut Running) {
        for lane in &self.lanes {
            let Some(own) = lane.provider.own_receipts() else { continue };
            let followed = self.desk.clone().follow(lane.name.clone(), own, shutdown.soft.clone());
            running.spawn(async move {
                followed.await;
                ("own receipts", Ok(()))
            });
        }
    }

    /// What reads the receipts of each provider.
    fn carriers(&self) -> BTreeMap<String, Arc<dyn Provider>> {
        self.lanes.iter().map(|lane| (lane.name.clone(), Arc::clone(&lane.provider))).collect()
    }

    fn start_worker(&mut self, shutdown: &Shutdown, running: &mut Running) {
        let lanes = std::mem::take(&mut self.lanes);
        let (settings, metrics) = (self.settings.worker.clone(), Arc::clone(&self.metrics));
        let worker = Worker::new(self.store.clone(), lanes, settings, &metrics);
        let (soft, hard) = (shutdown.soft.clone(), shutdown.hard.clone());
        running.spawn(async move {
            worker.run(soft, hard).await;
            ("worker", Ok(()))
        });
    }

    fn api(&self, signers: &Signers) -> anyhow::Result<Api> {
        let settings = &self.settings;
        let pinger = Pinger::new(&settings.callbacks, Clock::system(), signers.clone())
            .context("can't send pings")?;
        let facts = settings.providers.iter().map(|(name, provider)| {
            let has_default_from = provider.common.has_sender();
            let facts = ProviderFacts {
                needs_from: provider.needs_from(),
                has_default_from,
                kind: provider.kind(),
                rate: provider.common.rate,
                max_in_flight: provider.common.max_in_flight,
                price_per_segment: provider.common.price_per_segment,
                receipt_timeout: provider.common.receipt_timeout,
                rate_unit: provider.common.rate_unit,
                sender_rate: provider.common.sender_rate,
                senders: provider.common.senders.clone(),
                prefix_rates: provider.common.prefix_rates.clone(),
            };
            (name.clone(), facts)
        });
        let fallbacks = settings
            .providers
            .iter()
            .filter_map(|(name, provider)| Some((name.clone(), provider.common.fallback.clone()?)));
        let mut server = settings.server.clone();
        server.public_url = Some(settings.public_url());
        Ok(Api {
            store: self.store.clone(),
            clock: Clock::system(),
            server,
            certificate: self.certificate.clone(),
            accounts: Arc::clone(&self.accounts),
            providers: facts.collect(),
            carriers: self.carriers(),
            desk: self.desk.clone(),
            fallbacks: fallbacks.collect(),
            default_provider: settings.default_provider.clone(),
            chunk_size: settings.worker.chunk_size,
            callback_rules: settings.callbacks.rules(),
            public_keys: self.public_keys.clone(),
            pings: Arc::new(ApiPings(pinger)),
            metrics: Arc::clone(&self.metrics),
        })
    }
}

// === impl ApiPings ===

#[async_trait]
impl Pings for ApiPings {
    async fn ping(
        &self,
        account: &str,
        url: &str,
        headers: &[(String, String)],
        secret: Option<&str>,
    ) -> Result<AttemptEnd, Forbidden> {
        self.0.ping(account, url, headers, secret).await
    }
}

/// For each provider those whose messages may leave through it: its own, and those that it stands in for.
fn stands_in_for(settings: &Settings) -> BTreeMap<String, Vec<String>> {
    let of = |name: &String| {
        let others = settings.providers.iter();
        let others = others.filter(|(_, other)| other.common.fallback.as_ref() == Some(name));
        [name].into_iter().chain(others.map(|(other, _)| other)).cloned().collect()
    };
    settings.providers.keys().map(|name| (name.clone(), of(name))).collect()
}

fn listen(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = bind(address);
    let listener = listener.with_context(|| format!("{key}: can't listen on {address}"))?;
    let address = listener.local_addr().unwrap_or(address);
    tracing::info!(address = %address, "listening ({key})");
    Ok(listener)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // The port of a process that has just ended is free. (On Windows this would mean another thing.)
    socket.set_reuseaddr(cfg!(unix))?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
