//! The cases.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::{
    bare,
    emulator::{self, Arrivals},
    harness::{Backing, Client, Kind, Receiver, Redis, Ringback, Setup},
    report::{median, milliseconds, per_second, quantile, whole},
};

const CONCURRENCY: usize = 64;
const ROUNDS: usize = 5;
const LONGEST: Duration = Duration::from_mins(2);

/// Through the `http` provider, all included.
pub(crate) async fn http(on: Kind) {
    const MESSAGES: usize = 100_000;
    let emulator = EmulatorProcess::start();
    let store = Backing::start(on).await;
    let service = quiet(Ringback::on(&store)).carrier(&emulator.url).start().await;
    let client = service.client();
    let receiver = Receiver::start();
    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        let bare = per_second(MESSAGES, bare::send(&emulator.url, MESSAGES, CONCURRENCY).await);
        let batch = batch(MESSAGES, &receiver, &json!({}));
        let ours = per_second(MESSAGES, run(&client, &receiver, &batch, round).await);
        ratios.push(ours / bare);
        println!(
            "  {round}: ringback {}/s, reqwest {}/s, ratio {:.2}",
            whole(ours),
            whole(bare),
            ours / bare
        );
    }
    println!("  median ratio {:.2}", median(&ratios));
}

/// Without a provider's cost: what Ringback itself can do.
pub(crate) async fn mock(on: Kind) {
    const MESSAGES: usize = 500_000;
    let store = Backing::start(on).await;
    let service = quiet(Ringback::on(&store)).start().await;
    let client = service.client();
    let receiver = Receiver::start();
    let mut rates = Vec::new();
    for round in 1..=ROUNDS {
        let batch = batch(MESSAGES, &receiver, &json!({"provider": "mock"}));
        let rate = per_second(MESSAGES, run(&client, &receiver, &batch, round).await);
        println!("  {round}: {}/s", whole(rate));
        rates.push(rate);
    }
    println!("  median {}/s", whole(median(&rates)));
}

/// On an idle system, one message at a time.
pub(crate) async fn latency(on: Kind) {
    const SAMPLES: usize = 300;
    static ARRIVALS: Arrivals = Arrivals::new(Vec::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let provider = tokio::spawn(emulator::serve(listener, Some(&ARRIVALS)));
    let store = Backing::start(on).await;
    let service = quiet(Ringback::on(&store)).carrier(&url).start().await;
    let client = service.client();
    client.get("/readyz").await;
    let receiver = Receiver::start();
    let (mut submitted, mut called_back) = (Vec::new(), Vec::new());
    for sample in 1..=SAMPLES {
        let begun = Instant::now();
        run(&client, &receiver, &batch(1, &receiver, &json!({})), sample).await;
        let arrived = *ARRIVALS.lock().last().expect("a submission");
        let delivered = receiver.deliveries()[sample - 1].at;
        submitted.push(milliseconds(arrived - begun));
        called_back.push(milliseconds(delivered - arrived));
    }
    provider.abort();
    for (what, samples) in
        [("POST to first submission", submitted), ("last outcome to callback", called_back)]
    {
        println!(
            "  {what}: median {:.2} ms, p99 {:.2} ms ({SAMPLES} samples)",
            median(&samples),
            quantile(&samples, 0.99)
        );
    }
}

/// What a message costs in Redis beyond its recipient's own bytes.
pub(crate) async fn memory() {
    const MESSAGES: usize = 200_000;
    const RECIPIENT_BYTES: f64 = 12.0;
    let redis = Redis::start().await;
    let receiver = Receiver::start();
    let api = quiet(Ringback::on(&redis)).role("api").start().await;
    let batch = batch(MESSAGES, &receiver, &json!({"provider": "mock"}));
    let before = used_memory(&redis);
    let accepted = api.client().post_batch(&batch).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    let queued = (used_memory(&redis) - before) / MESSAGES as f64 - RECIPIENT_BYTES;
    println!("  queued: {queued:.1} bytes a message beyond the recipient's {RECIPIENT_BYTES}");
    let _worker = quiet(Ringback::on(&redis)).role("worker").role("notifier").start().await;
    receiver.wait_for(1, LONGEST).await;
    let done = (used_memory(&redis) - before) / MESSAGES as f64 - RECIPIENT_BYTES;
    println!("  done, with a provider id of 34 bytes: {done:.1} bytes a message beyond it");
}

/// What a message costs on the disk beyond its recipient's own bytes.
pub(crate) async fn disk() {
    const MESSAGES: usize = 200_000;
    const RECIPIENT_BYTES: f64 = 12.0;
    let folder = tempfile::tempdir().expect("a folder");
    let receiver = Receiver::start();
    let mut api = quiet(Ringback::on(&folder)).role("api").start().await;
    let batch = batch(MESSAGES, &receiver, &json!({"provider": "mock"}));
    let accepted = api.client().post_batch(&batch).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    let queued = file_bytes(&mut api, &folder).await / MESSAGES as f64 - RECIPIENT_BYTES;
    println!("  queued: {queued:.1} bytes a message beyond the recipient's {RECIPIENT_BYTES}");
    let mut rest = quiet(Ringback::on(&folder)).role("worker").role("notifier").start().await;
    receiver.wait_for(1, LONGEST).await;
    let done = file_bytes(&mut rest, &folder).await / MESSAGES as f64 - RECIPIENT_BYTES;
    println!("  done, with a provider id of 34 bytes: {done:.1} bytes a message beyond it");
}

/// The shared rate, as the provider sees it.
pub(crate) async fn rate() {
    const RATE: usize = 200;
    const SECONDS: usize = 10;
    static ARRIVALS: Arrivals = Arrivals::new(Vec::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let provider = tokio::spawn(emulator::serve(listener, Some(&ARRIVALS)));
    let redis = Redis::start().await;
    let receiver = Receiver::start();
    let paced = || {
        quiet(Ringback::on(&redis))
            .carrier(&url)
            .set("providers.carrier.rate", &format!("{RATE}/s"))
    };
    let first = paced().start().await;
    let _others = (paced().role("worker").start().await, paced().role("worker").start().await);
    let batch = batch(RATE * (SECONDS + 2), &receiver, &json!({}));
    run(&first.client(), &receiver, &batch, 1).await;
    provider.abort();
    let arrivals = ARRIVALS.lock().clone();
    let window = Duration::from_secs(SECONDS as u64);
    let within = arrivals.iter().filter(|at| **at - arrivals[0] < window).count();
    let busiest = arrivals.iter().map(|from| {
        let until = *from + Duration::from_secs(1);
        arrivals.iter().filter(|at| **at >= *from && **at < until).count()
    });
    println!("  {:.3} of the rate over {SECONDS} s", within as f64 / (RATE * SECONDS) as f64);
    println!("  busiest second: {} messages", busiest.max().unwrap_or(0));
}

/// Posts a batch and waits for the `nth` callback; from the POST until that has arrived.
async fn run(client: &Client, receiver: &Receiver, batch: &Value, nth: usize) -> Duration {
    let begun = Instant::now();
    let accepted = client.post_batch(batch).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    let deliveries = receiver.wait_for(nth, LONGEST).await;
    let last = &deliveries[nth - 1];
    let counts = &last.json()["data"]["counts"];
    assert_eq!(counts["sent"], counts["total"], "{counts}");
    last.at - begun
}

fn batch(messages: usize, receiver: &Receiver, more: &Value) -> Value {
    let recipients: Vec<_> = (0..messages).map(|index| format!("+1555{index:07}")).collect();
    let mut batch = json!({
        "body": "Hello from the bench",
        "recipients": recipients,
        "callback_url": receiver.url(),
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        batch[key] = value.clone();
    }
    batch
}

fn quiet(setup: Setup) -> Setup {
    setup.set("log.filter", "warn")
}

fn used_memory(redis: &Redis) -> f64 {
    redis.used_memory() as f64
}

/// The size of the store's file, once its process has ended and folded everything in.
async fn file_bytes(process: &mut Ringback, folder: &TempDir) -> f64 {
    process.terminate();
    process.wait_for_exit(LONGEST).await;
    std::fs::metadata(folder.path().join("ringback.db")).expect("the file").len() as f64
}

/// The emulator in a process of its own. Killed when dropped.
pub(crate) struct EmulatorProcess {
    child: Child,
    pub(crate) url: String,
}

impl EmulatorProcess {
    pub(crate) fn start() -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new(program)
            .arg("emulator")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the emulator");
        let mut url = String::new();
        let out = child.stdout.take().expect("its output");
        BufReader::new(out).read_line(&mut url).expect("its address");
        Self { child, url: url.trim().to_owned() }
    }
}

impl Drop for EmulatorProcess {
    fn drop(&mut self) {
        // Killing fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
