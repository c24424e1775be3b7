//! A service that sends batches at a steady rate, and what a message costs it then.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    cases::EmulatorProcess,
    harness::{Backing, Client, Kind, Receiver, Ringback},
    lines,
    processes::{cpu_seconds, workers},
    report::{median, per_second},
};

const RATE: usize = 20_000;
const SECONDS: usize = 10;
const PAIRS: usize = 5;
const LONGEST: Duration = Duration::from_mins(1);

/// A service at work, and who it works with.
pub(crate) struct Steady {
    pub(crate) service: Ringback,
    store: Backing,
    receiver: Receiver,
    reported: usize,
    _emulator: EmulatorProcess,
}

/// Whose processor time counts.
#[derive(Clone, Copy)]
pub(crate) enum Cost {
    /// The service's.
    Service,
    /// That of the store's server too, if there is one.
    All,
}

/// One batch.
pub(crate) struct Run {
    /// Of the rate that was to be kept.
    share: f64,
    /// Processor time a message, in microseconds.
    micros: f64,
}

// === impl Steady ===

impl Steady {
    pub(crate) async fn start(on: Kind) -> Self {
        let emulator = EmulatorProcess::start();
        let store = Backing::start(on).await;
        let rate = format!("{RATE}/s");
        let setup = Ringback::on(&store).set("log.filter", "warn").carrier(&emulator.url);
        let setup = setup.set("providers.carrier.rate", &rate).set("providers.mock.rate", &rate);
        let service = setup.start().await;
        Self { service, store, receiver: Receiver::start(), reported: 0, _emulator: emulator }
    }

    pub(crate) fn client(&self) -> Client {
        self.service.client()
    }

    /// Sends a batch with these fields, until its callback and the end of what `beside` does with its id.
    pub(crate) async fn run(
        &mut self,
        cost: Cost,
        mut fields: Value,
        beside: impl AsyncFnOnce(&str),
    ) -> Run {
        let messages = RATE * SECONDS;
        fields["body"] = "Hello".into();
        fields["callback_url"] = json!(self.receiver.url());
        let (begun, before) = (Instant::now(), self.cpu_seconds(cost));
        let id = lines::post(&self.client(), &fields.to_string(), messages).await;
        self.reported += 1;
        let reported = async {
            let callback = &self.receiver.wait_for(self.reported, LONGEST).await[self.reported - 1];
            let counts = &callback.json()["data"]["counts"];
            assert_eq!(counts["sent"], messages, "{counts}");
            callback.at
        };
        let (at, ()) = tokio::join!(reported, beside(&id));
        Run {
            share: per_second(messages, at - begun) / RATE as f64,
            micros: (self.cpu_seconds(cost) - before) / messages as f64 * 1e6,
        }
    }

    fn cpu_seconds(&self, cost: Cost) -> f64 {
        let processes = match cost {
            Cost::Service => vec![self.service.pid()],
            Cost::All => workers(&self.service, &self.store),
        };
        processes.into_iter().map(cpu_seconds).sum()
    }
}

/// Pairs of batches, one that is `special` and one that is not, after one that warms up. Who goes first
/// changes, so that what drifts favours neither.
pub(crate) async fn compare(special: &str, plain: &str, mut run: impl AsyncFnMut(bool) -> Run) {
    run(false).await;
    let (mut ratios, mut shares) = (Vec::new(), Vec::new());
    for pair in 1..=PAIRS {
        let first = run(pair % 2 == 0).await;
        let second = run(pair % 2 != 0).await;
        let (with, without) = if pair % 2 == 0 { (first, second) } else { (second, first) };
        let ratio = with.micros / without.micros;
        println!(
            "    {pair}: {:.2} µs a message {special}, {:.2} {plain}, ratio {ratio:.3}; {:.3} of the \
             rate, and {:.3}",
            with.micros, without.micros, with.share, without.share
        );
        ratios.push(ratio);
        shares.push(with.share);
    }
    let (ratio, share) = (median(&ratios), median(&shares));
    println!("  median ratio {ratio:.3}, median share of the rate {share:.3}");
}
