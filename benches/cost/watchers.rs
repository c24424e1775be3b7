//! What it costs that many follow a batch.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use memchr::memmem;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::{
    cases::EmulatorProcess,
    harness::{Backing, Kind, Receiver, Ringback},
    lines,
    processes::cpu_seconds,
    report::{median, per_second},
};

const RATE: usize = 20_000;
const SECONDS: usize = 10;
const WATCHERS: usize = 200;
const PAIRS: usize = 5;
const LONGEST: Duration = Duration::from_mins(1);

/// A service at work, and who it works for.
struct Scene {
    service: Ringback,
    receiver: Receiver,
    reported: usize,
}

/// One batch.
struct Run {
    /// Of the rate that was to be kept.
    share: f64,
    /// The service's processor time a message, in microseconds.
    micros: f64,
    /// The events that a watcher was told of.
    told: f64,
}

/// A batch at a steady rate, with and without watchers in turns: whether the rate is kept, and what a
/// message costs. Through the mock a message itself costs least, so the watchers' share is largest.
pub(crate) async fn watchers(on: Kind) {
    let emulator = EmulatorProcess::start();
    let store = Backing::start(on).await;
    let setup = Ringback::on(&store).set("log.filter", "warn").carrier(&emulator.url);
    let rate = format!("{RATE}/s");
    let setup = setup.set("providers.carrier.rate", &rate).set("providers.mock.rate", &rate);
    let service = setup.start().await;
    let mut scene = Scene { service, receiver: Receiver::start(), reported: 0 };
    for provider in ["carrier", "mock"] {
        scene.compare(provider).await;
    }
}

// === impl Scene ===

impl Scene {
    /// Pairs of batches through a provider.
    async fn compare(&mut self, provider: &str) {
        println!("  through the {}:", if provider == "mock" { "mock" } else { "http provider" });
        self.run(provider, 0).await;
        let (mut ratios, mut shares) = (Vec::new(), Vec::new());
        for pair in 1..=PAIRS {
            // Who goes first changes, so that what drifts favours neither.
            let (with, without) = if pair % 2 == 0 {
                let with = self.run(provider, WATCHERS).await;
                (with, self.run(provider, 0).await)
            } else {
                let without = self.run(provider, 0).await;
                (self.run(provider, WATCHERS).await, without)
            };
            let ratio = with.micros / without.micros;
            println!(
                "    {pair}: {:.2} µs a message with {WATCHERS} watchers, {:.2} without, ratio {ratio:.3}; \
                 {:.3} of the rate, {:.3} without; each told of {:.1} events",
                with.micros, without.micros, with.share, without.share, with.told
            );
            ratios.push(ratio);
            shares.push(with.share);
        }
        println!(
            "  median ratio {:.3}, median share of the rate {:.3}",
            median(&ratios),
            median(&shares)
        );
    }

    /// Sends a batch that so many watch, until its callback.
    async fn run(&mut self, provider: &str, watchers: usize) -> Run {
        let (messages, pid) = (RATE * SECONDS, self.service.pid());
        let url = self.receiver.url();
        let head = json!({"body": "Hello", "provider": provider, "callback_url": url}).to_string();
        let (begun, before) = (Instant::now(), cpu_seconds(pid));
        let id = lines::post(&self.service.client(), &head, messages).await;
        let told = Arc::new(AtomicUsize::new(0));
        let mut following = JoinSet::new();
        for _ in 0..watchers {
            following.spawn(follow(self.service.address(), id.clone(), Arc::clone(&told)));
        }
        self.reported += 1;
        let callback = &self.receiver.wait_for(self.reported, LONGEST).await[self.reported - 1];
        let counts = &callback.json()["data"]["counts"];
        assert_eq!(counts["sent"], messages, "{counts}");
        // The last event, too, belongs to the cost.
        while let Some(followed) = following.join_next().await {
            followed.expect("a watcher").expect("a stream that ends well");
        }
        let share = per_second(messages, callback.at - begun) / RATE as f64;
        let micros = (cpu_seconds(pid) - before) / messages as f64 * 1e6;
        let told = told.load(Ordering::Relaxed) as f64 / watchers.max(1) as f64;
        Run { share, micros, told }
    }
}

/// Follows a batch to the end of its stream, as cheaply as can be, and counts the events.
async fn follow(address: String, id: String, told: Arc<AtomicUsize>) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(&address).await?;
    let request = format!(
        "GET /v1/batches/{id}/events HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut piece = vec![0; 16 * 1024];
    loop {
        // Each event comes in a piece of its own.
        match stream.read(&mut piece).await? {
            0 => return Ok(()),
            read => {
                let events = memmem::find_iter(&piece[..read], b"event: ").count();
                told.fetch_add(events, Ordering::Relaxed);
            }
        }
    }
}
