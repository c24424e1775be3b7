//! What the service survives: one test for each fault, or two where it is another one on another
//! store. Each is a [`Row`] of a table that says what was injected and what was counted, and ends by
//! comparing the [`Books`] of provider and receiver, which are kept outside the service, with what
//! was accepted. `docs/faults.md` tells of each row; some rows stand in the test of the part that
//! they concern (`guard.rs`, `callback_hosts.rs`).
//!
//! On Redis most rows keep the API in a process that is left alone, so that clients can be told what
//! happens, and hurt the worker, the notifier or Redis under load. On the embedded store there is
//! one process, and it is hurt as a whole.

mod books;
mod chaos;
mod clock;
mod crashes;
mod intake;
mod neighbours;
mod process;
mod provider;
mod receipts;
mod receiver;
mod redis;
mod row;
mod space;
mod wire;
mod workers;

use std::time::Duration;

use serde_json::Value;

use crate::{
    harness::{
        Client, Kind, Mode, PATIENCE, Provider, Receiver, Redis, Ringback, Setup, StoreUrl,
        eventually,
    },
    scene::{Scene, accepted, batch, numbers, setup, with_callback},
};

pub(crate) use self::{
    books::{Books, Bounds, Found, LONG},
    row::Row,
};

/// The most open exchanges of a worker; it has twice as many slots.
const IN_FLIGHT: u32 = 64;

/// What one crash, or one lost lease of a worker, may repeat.
const SLOTS: u32 = 2 * IN_FLIGHT;

/// The API in a process of its own, and everything around it.
struct Stage {
    _api: Ringback,
    client: Client,
    provider: Provider,
    receiver: Receiver,
    redis: Redis,
    accepted: Vec<(String, u64)>,
}

// === impl Stage ===

impl Stage {
    async fn set() -> Self {
        Self::on(Redis::start().await).await
    }

    async fn on(redis: Redis) -> Self {
        let provider = Provider::start();
        provider.set(Mode::Delay(Duration::from_millis(3)));
        let api = setup(&redis, &provider).role("api").role("notifier");
        // An attempt whose record is lost comes again once its lease is over.
        let api = api.set("callbacks.timeout", "1s").set("callbacks.schedule", "100ms,1s,1h");
        let (api, accepted) = (api.start().await, Vec::new());
        let client = api.client();
        let receiver = Receiver::start();
        Self { _api: api, client, provider, receiver, redis, accepted }
    }

    /// A worker that sends through the stage's provider.
    fn worker(&self) -> Setup {
        worker(&self.redis, &self.provider)
    }

    async fn post(&mut self, messages: usize) -> String {
        let id =
            accepted(&self.client, &with_callback(batch(numbers(0..messages)), &self.receiver))
                .await;
        self.accepted.push((id.clone(), messages as u64));
        id
    }

    /// Waits until the provider was called so often.
    async fn calls(&self, count: usize) {
        calls(&self.provider, count).await;
    }

    /// Whether a batch is complete. The store may be away for a moment.
    async fn is_complete(&self, id: &str) -> bool {
        eventually("an answer", PATIENCE, async || {
            let answer = self.client.get(&format!("/v1/batches/{id}")).await;
            (answer.status == 200).then(|| !answer.json()["completed_at"].is_null())
        })
        .await
    }

    /// Waits for the end of all that was accepted, and compares.
    async fn compare(&self, bounds: Bounds) -> Found {
        let Self { client, provider, receiver, .. } = self;
        Books { client, providers: &[provider], receiver }.compare(&self.accepted, bounds).await
    }
}

/// Waits until the provider was called so often.
async fn calls(provider: &Provider, count: usize) {
    let what = format!("call {count} of the provider");
    eventually(&what, LONG, async || (provider.count() >= count).then_some(())).await;
}

/// A worker with a short lease.
fn worker(store: &impl StoreUrl, provider: &Provider) -> Setup {
    setup(store, provider)
        .role("worker")
        .set("worker.lease", "1s")
        .set("providers.carrier.max_in_flight", &IN_FLIGHT.to_string())
        .set("log.filter", "info")
}

/// A whole service in one process, whose batches take a while.
async fn scene(on: Kind, settings: impl FnOnce(Setup) -> Setup) -> Scene {
    let scene = Scene::start_on_with(on, |setup| {
        let setup = setup.set("providers.carrier.max_in_flight", &IN_FLIGHT.to_string());
        settings(setup.set("worker.lease", "1s"))
    })
    .await;
    scene.provider.set(Mode::Delay(Duration::from_millis(3)));
    scene
}

/// Waits for the end of these batches of a scene, and compares.
pub(crate) async fn compare(scene: &Scene, accepted: &[(String, u64)], bounds: Bounds) -> Found {
    let Scene { client, provider, receiver, .. } = scene;
    Books { client, providers: &[provider], receiver }.compare(accepted, bounds).await
}

/// What so many crashes may repeat.
fn after(faults: u32) -> Bounds {
    Bounds { repeats: faults * SLOTS, ..Bounds::default() }
}

/// Posts a batch again and again until it is accepted, as a client should.
async fn insist(client: &Client, key: &str, batch: &Value) -> String {
    let key = key.replace(' ', "-");
    let answer = eventually("its acceptance", LONG, async || {
        let answer = client.try_post_batch_once(&key, batch).await?;
        assert!([200, 202, 409, 503].contains(&answer.status), "{}", answer.text);
        [200, 202].contains(&answer.status).then_some(answer)
    })
    .await;
    answer.batch_id()
}

/// Fails the test if the provider got more in any second than its rate and the burst allow: 50 ms of
/// the rate, and as much again for calls that the machine itself held up and let go together. Gives
/// the most that it got.
fn within_rate(provider: &Provider, rate: usize) -> usize {
    let most = provider.busiest_second();
    assert!(most <= rate + rate / 10, "{most} in a second, of {rate}");
    most
}

/// A figure of `/metrics`; 0 if it is not there.
async fn figure(client: &Client, name: &str) -> u64 {
    let text = client.get("/metrics").await.text;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().unwrap())
}
