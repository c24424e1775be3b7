//! Random faults on a running load: processes that are killed and stopped, a store that goes away and
//! comes back, networks that cut, lose and delay, and a provider and a receiver that do not behave,
//! several at a time. All of it is drawn from one seed.
//!
//! Within the suite this lasts for [`SECONDS`]; `scripts/chaos` has it last for as long as is wished.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

use super::{Books, Bounds, IN_FLIGHT, Row, SLOTS, insist, within_rate};
use crate::{
    harness::{Kind, Mode, Provider, Proxy, Receiver, Redis, Reply, Ringback, Setup, Way, Wire},
    scene::{batch, numbers, setup, with_callback},
};

/// How long it lasts if nobody says otherwise.
const SECONDS: u64 = 5;

/// The variable that says otherwise.
const DURATION: &str = "CHAOS_SECONDS";

/// The provider's rate, in messages a second.
const RATE: usize = 2_000;

/// What a process may have open to one receiver's host when it dies.
const REPORTS: u32 = 16;

/// What is done, and what it may bring about.
struct Plan {
    row: Mutex<Row>,
    bounds: Mutex<Bounds>,
    end: Instant,
}

// === impl Plan ===

impl Plan {
    fn new(row: Row) -> Self {
        let seconds = std::env::var(DURATION).ok().map(|text| text.parse().expect("seconds"));
        let lasts = Duration::from_secs(seconds.unwrap_or(SECONDS));
        Self { row: Mutex::new(row), bounds: Mutex::default(), end: Instant::now() + lasts }
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }

    /// Notes a fault by which so many workers may lose what they hold, and so many notifiers.
    fn inject(&self, what: &'static str, workers: u32, notifiers: u32) {
        self.row.lock().inject(what);
        let mut bounds = self.bounds.lock();
        bounds.repeats += workers * SLOTS;
        bounds.reports += notifiers * REPORTS;
    }
}

async fn pause(lots: &mut StdRng, from_ms: u64, to_ms: u64) {
    tokio::time::sleep(Duration::from_millis(lots.random_range(from_ms..to_ms))).await;
}

/// Patient with everybody, and quick to try again.
fn hardened(setup: Setup) -> Setup {
    let schedule = vec!["400ms"; 200].join(",");
    setup
        .set("worker.lease", "1s")
        .set("providers.carrier.max_in_flight", &IN_FLIGHT.to_string())
        .set("providers.carrier.rate", &format!("{RATE}/s"))
        .set("providers.carrier.timeout", "500ms")
        .set("providers.carrier.retry.attempts", "200")
        .set("providers.carrier.retry.first", "50ms")
        .set("providers.carrier.retry.longest", "400ms")
        .set("callbacks.timeout", "1s")
        .set("callbacks.schedule", &schedule)
        .set("callbacks.breaker_cool_down", "300ms")
        .set("log.filter", "info")
}

/// Posts batches until it is over; gives those that were accepted.
async fn load(
    plan: &Plan,
    api: &crate::harness::Client,
    receiver: &Receiver,
    mut lots: StdRng,
) -> Vec<(String, u64)> {
    let mut accepted = Vec::new();
    while !plan.is_over() {
        let messages = lots.random_range(0..500);
        let batch = with_callback(batch(numbers(0..messages)), receiver);
        let key = format!("chaos-{}", accepted.len());
        accepted.push((insist(api, &key, &batch).await, messages as u64));
        pause(&mut lots, 50, 250).await;
    }
    accepted
}

/// Kills and stops processes. The first `workers` of them are workers, the next are notifiers.
async fn hurt_processes(plan: &Plan, processes: &mut [(Ringback, u32, u32)], mut lots: StdRng) {
    while !plan.is_over() {
        pause(&mut lots, 200, 900).await;
        let chosen = lots.random_range(0..processes.len());
        let (process, workers, notifiers) = &mut processes[chosen];
        if lots.random_ratio(3, 5) {
            plan.inject("SIGKILL", *workers, *notifiers);
            process.restart().await;
        } else {
            plan.inject("SIGSTOP", *workers, *notifiers);
            process.pause();
            pause(&mut lots, 100, 2_500).await;
            process.resume();
        }
    }
}

/// Kills and stops Redis, and breaks the ways to it. Each wire leads to so many workers and
/// notifiers.
async fn hurt_store(plan: &Plan, redis: &mut Redis, wires: &[(Proxy, u32, u32)], mut lots: StdRng) {
    let shapes = [
        ("cut within a call", Wire::CutRequest),
        ("cut before an answer", Wire::CutReply),
        ("lost to Redis", Wire::Swallow(Way::ToServer)),
        ("lost from Redis", Wire::Swallow(Way::ToClient)),
        ("lost both ways", Wire::Swallow(Way::Both)),
        ("held to Redis", Wire::Hold(Way::ToServer)),
        ("held both ways", Wire::Hold(Way::Both)),
        ("delay", Wire::Delay(Duration::from_millis(20))),
    ];
    let all = |pick: fn(&(Proxy, u32, u32)) -> u32| wires.iter().map(pick).sum::<u32>();
    let (workers, notifiers) = (all(|wire| wire.1), all(|wire| wire.2));
    while !plan.is_over() {
        pause(&mut lots, 300, 1_200).await;
        match lots.random_range(0..6) {
            0 => {
                plan.inject("Redis killed", workers, notifiers);
                redis.kill();
                pause(&mut lots, 1, 1_000).await;
                redis.restart().await;
            }
            1 => {
                plan.inject("Redis stopped", workers, notifiers);
                redis.pause();
                pause(&mut lots, 100, 2_000).await;
                redis.resume();
            }
            _ => {
                let (wire, workers, notifiers) = &wires[lots.random_range(0..wires.len())];
                let (what, shape) = shapes[lots.random_range(0..shapes.len())];
                plan.inject(what, *workers, *notifiers);
                wire.set(shape);
                pause(&mut lots, 100, 2_000).await;
                wire.set(Wire::Pass);
            }
        }
    }
}

/// Has provider and receiver misbehave for a while.
async fn vex(plan: &Plan, provider: &Provider, receiver: &Receiver, mut lots: StdRng) {
    let delay = Duration::from_millis(3);
    while !plan.is_over() {
        pause(&mut lots, 200, 1_000).await;
        let lasts = Duration::from_millis(lots.random_range(100..900));
        let until = Instant::now() + lasts;
        match lots.random_range(0..8) {
            0 => {
                plan.inject("429", 0, 0);
                provider.set(Mode::Throttle { until, retry_after_s: 1 });
            }
            1 => {
                plan.inject("503", 0, 0);
                provider.set(Mode::Storm { until, status: 503 });
            }
            2 => {
                plan.inject("time-outs", 0, 0);
                provider.set(Mode::Hang);
            }
            3 => {
                plan.inject("resets", 0, 0);
                provider.set(Mode::Reset);
            }
            4 => {
                plan.inject("slow answers", 0, 0);
                provider.set(Mode::Delay(Duration::from_millis(200)));
            }
            5 => {
                plan.inject("receiver answers 500", 0, 0);
                receiver.set(Reply::Status(500));
            }
            6 => {
                plan.inject("receiver resets", 0, 0);
                receiver.set(Reply::Reset);
            }
            _ => {
                plan.inject("receiver hangs", 0, 0);
                receiver.set(Reply::Hang);
            }
        }
        tokio::time::sleep(lasts).await;
        provider.set(Mode::Delay(delay));
        receiver.set(Reply::Status(200));
    }
}

/// Compares the books once all faults are over, and prints the row.
async fn settle(plan: Plan, books: Books<'_>, accepted: &[(String, u64)]) {
    let Plan { row, bounds, .. } = plan;
    let healed = Instant::now();
    let calls = books.providers[0].count();
    let mut bounds = bounds.into_inner();
    // What is not answered is tried again under the same key, as often as it takes.
    bounds.retries = u32::MAX;
    let found = books.compare(accepted, bounds).await;
    found.all_sent();
    let most = within_rate(books.providers[0], RATE);
    let beside = format!(
        "{calls} calls; at most {most} in any second, of {RATE}; all over {:.1?} after the last \
         fault",
        healed.elapsed()
    );
    row.into_inner().end(&found, beside);
}

#[tokio::test]
async fn a_load_survives_random_faults_on_redis() {
    let mut row = Row::begin(0, "random faults", Kind::Redis, "I1–I10");
    let mut seeds = row.lots();
    let mut lots = || StdRng::seed_from_u64(seeds.next_u64());
    // A crash of Redis must take nothing that was answered: then everything must be there.
    let mut redis = Redis::start_with(&["--appendfsync", "always"]).await;
    let (provider, receiver) = (Provider::start(), Receiver::start());
    let wire = || Proxy::before(redis.address());
    let wires = [(wire(), 1, 0), (wire(), 1, 0), (wire(), 0, 1), (wire(), 0, 1)];
    let start = |store: &Proxy, role| hardened(setup(store, &provider).role(role)).start();
    let api = start(&wires[3].0, "api").await;
    let client = api.client();
    let mut processes = vec![(api, 0, 0)];
    for (wire, role) in wires.iter().zip(["worker", "worker", "notifier"]) {
        let (store, workers, notifiers) = wire;
        processes.push((start(store, role).await, *workers, *notifiers));
    }
    processes.push((hardened(setup(&redis, &provider)).start().await, 1, 1));
    let plan = Plan::new(row);
    let ((), (), (), accepted) = tokio::join!(
        hurt_processes(&plan, &mut processes, lots()),
        hurt_store(&plan, &mut redis, &wires, lots()),
        vex(&plan, &provider, &receiver, lots()),
        load(&plan, &client, &receiver, lots()),
    );
    let books = Books { client: &client, providers: &[&provider], receiver: &receiver };
    settle(plan, books, &accepted).await;
}

#[tokio::test]
async fn a_load_survives_random_faults_on_embedded() {
    let mut row = Row::begin(0, "random faults", Kind::Embedded, "I1–I10");
    let mut seeds = row.lots();
    let mut lots = || StdRng::seed_from_u64(seeds.next_u64());
    let folder = tempfile::tempdir().unwrap();
    let (provider, receiver) = (Provider::start(), Receiver::start());
    let process = hardened(setup(&folder, &provider)).start().await;
    let client = process.client();
    let mut processes = [(process, 1, 1)];
    let plan = Plan::new(row);
    let ((), (), accepted) = tokio::join!(
        hurt_processes(&plan, &mut processes, lots()),
        vex(&plan, &provider, &receiver, lots()),
        load(&plan, &client, &receiver, lots()),
    );
    let books = Books { client: &client, providers: &[&provider], receiver: &receiver };
    settle(plan, books, &accepted).await;
}
