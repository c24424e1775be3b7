//! What it costs that no message may go twice.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    cases::EmulatorProcess,
    harness::{Backing, Kind, Receiver, Ringback},
    lines,
    processes::{cpu_seconds, workers},
    report::{median, per_second},
};

const RATE: usize = 20_000;
const SECONDS: usize = 10;
const PAIRS: usize = 5;
const LONGEST: Duration = Duration::from_mins(1);

/// A service at work, and whom it tells.
struct Scene {
    service: Ringback,
    /// The service's own, and its store's server.
    processes: Vec<u32>,
    receiver: Receiver,
    reported: usize,
}

/// One batch.
struct Run {
    /// Of the rate that was to be kept.
    share: f64,
    /// The processor time a message, in microseconds.
    micros: f64,
}

/// A batch at a steady rate, sent at most once and at least once in turns: whether the rate is kept, and
/// what a message costs.
pub(crate) async fn guarantee(on: Kind) {
    let emulator = EmulatorProcess::start();
    let store = Backing::start(on).await;
    let setup = Ringback::on(&store).set("log.filter", "warn").carrier(&emulator.url);
    let service = setup.set("providers.carrier.rate", &format!("{RATE}/s")).start().await;
    let processes = workers(&service, &store);
    let mut scene = Scene { service, processes, receiver: Receiver::start(), reported: 0 };
    scene.run("at_least_once").await;
    let (mut ratios, mut shares) = (Vec::new(), Vec::new());
    for pair in 1..=PAIRS {
        // Who goes first changes, so that what drifts favours neither.
        let (once, least) = if pair % 2 == 0 {
            let once = scene.run("at_most_once").await;
            (once, scene.run("at_least_once").await)
        } else {
            let least = scene.run("at_least_once").await;
            (scene.run("at_most_once").await, least)
        };
        let ratio = once.micros / least.micros;
        println!(
            "  {pair}: {:.2} µs a message at most once, {:.2} at least once, ratio {ratio:.3}; {:.3} of \
             the rate, and {:.3}",
            once.micros, least.micros, once.share, least.share
        );
        ratios.push(ratio);
        shares.push(once.share);
    }
    println!(
        "  median ratio {:.3}, median share of the rate {:.3}",
        median(&ratios),
        median(&shares)
    );
}

// === impl Scene ===

impl Scene {
    async fn run(&mut self, guarantee: &str) -> Run {
        let messages = RATE * SECONDS;
        let head = json!({
            "body": "Hello",
            "callback_url": self.receiver.url(),
            "delivery_guarantee": guarantee,
        });
        let (begun, before) = (Instant::now(), self.cpu_seconds());
        lines::post(&self.service.client(), &head.to_string(), messages).await;
        self.reported += 1;
        let callback = &self.receiver.wait_for(self.reported, LONGEST).await[self.reported - 1];
        let counts = &callback.json()["data"]["counts"];
        assert_eq!(counts["sent"], messages, "{counts}");
        Run {
            share: per_second(messages, callback.at - begun) / RATE as f64,
            micros: (self.cpu_seconds() - before) / messages as f64 * 1e6,
        }
    }

    fn cpu_seconds(&self) -> f64 {
        self.processes.iter().map(|pid| cpu_seconds(*pid)).sum()
    }
}
