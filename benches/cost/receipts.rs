//! Receipts beside a dispatch: whether both keep their rates, and what a receipt costs in memory.

use std::time::{Duration, Instant};

use ringback::clock::Clock;
use serde_json::json;
use standardwebhooks::Webhook;
use tokio::task::JoinSet;

use crate::{
    cases::EmulatorProcess,
    harness::{Backing, Client, Kind, Receiver, Ringback, memory_kib},
    lines,
    report::whole,
};

/// What the provider signs with.
const SECRET: &str = "whsec_cmVjZWlwdHMtb2YtdGhlLWNhcnJpZXItMDEyMzQ1Njc=";

const DISPATCHED_A_SECOND: usize = 10_000;
const RECEIPTS_A_SECOND: usize = 5_000;
const SECONDS: usize = 10;
const LONGEST: Duration = Duration::from_mins(2);

/// How many connections the provider reports by, each receipt in a request of its own.
const CONNECTIONS: usize = 32;

/// A service whose provider reports receipts, and who it works with.
struct Carried {
    service: Ringback,
    store: Backing,
    receiver: Receiver,
    told: usize,
    _emulator: EmulatorProcess,
}

/// Two batches: the first one's receipts come while the second is sent.
pub(crate) async fn receipts(on: Kind) {
    let mut carried = Carried::start(on).await;
    let reported = RECEIPTS_A_SECOND * SECONDS;
    let (first, _) = carried.dispatch(reported).await;
    let client = carried.service.client();
    let (heard, (second, dispatched)) = tokio::join!(
        report(&client, &first, reported),
        carried.dispatch(DISPATCHED_A_SECOND * SECONDS),
    );
    carried.told += 1;
    let callback = &carried.receiver.wait_for(carried.told, LONGEST).await[carried.told - 1].json();
    let counts = &callback["data"]["counts"];
    assert_eq!((&counts["delivered"], &counts["sent"]), (&json!(reported), &json!(0)));
    let ideal = SECONDS as f64;
    println!(
        "  {} messages/s dispatched: {:.3} of the rate; {} receipts/s beside them, each a request: {:.3}",
        whole(DISPATCHED_A_SECOND as f64),
        ideal / dispatched.as_secs_f64(),
        whole(RECEIPTS_A_SECOND as f64),
        ideal / heard.as_secs_f64(),
    );
    println!("  at most {} KiB resident", memory_kib(carried.service.pid(), "VmHWM"));
    // What receipts alone add: some more of the second batch, whose end they do not bring about.
    if let Some(before) = carried.store_bytes() {
        report(&client, &second, reported).await;
        let added = carried.store_bytes().map_or(0.0, |after| after - before);
        println!("  {:.1} bytes a receipt in Redis", added / reported as f64);
    }
}

// === impl Carried ===

impl Carried {
    async fn start(on: Kind) -> Self {
        let emulator = EmulatorProcess::start();
        let store = Backing::start(on).await;
        let setup = Ringback::on(&store).set("log.filter", "warn").carrier(&emulator.url);
        let setup = setup
            .set("providers.carrier.rate", &format!("{DISPATCHED_A_SECOND}/s"))
            .set("providers.carrier.receipts", "true")
            .set("providers.carrier.receipt_secret", SECRET);
        let service = setup.start().await;
        Self { service, store, receiver: Receiver::start(), told: 0, _emulator: emulator }
    }

    /// Sends a batch; gives its id, and how long it took until its last message was handed over.
    async fn dispatch(&mut self, messages: usize) -> (String, Duration) {
        let head = json!({
            "body": "Hello", "callback_url": self.receiver.url(), "events": ["batch.dispatched"],
        });
        let begun = Instant::now();
        let id = lines::post(&self.service.client(), &head.to_string(), messages).await;
        self.told += 1;
        let told = loop {
            let told = self.receiver.wait_for(self.told, LONGEST).await;
            let of_it = |data: &serde_json::Value| data["data"]["batch_id"] == id.as_str();
            if let Some(told) = told.into_iter().find(|told| of_it(&told.json())) {
                break told;
            }
            self.told += 1;
        };
        (id, told.at - begun)
    }

    /// What the store's server keeps in memory, if there is one.
    fn store_bytes(&self) -> Option<f64> {
        let Backing::Redis(redis) = &self.store else { return None };
        let info = redis.ask("INFO memory");
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory:"))?;
        used.trim().parse().ok()
    }
}

/// Reports that the first `messages` of a batch were delivered, at a steady pace. Gives how long it took.
async fn report(client: &Client, id: &str, messages: usize) -> Duration {
    let begun = Instant::now();
    let mut reporting = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let (client, id) = (client.clone(), id.to_owned());
        reporting.spawn(async move {
            for index in (connection..messages).step_by(CONNECTIONS) {
                let due = Duration::from_secs_f64(index as f64 / RECEIPTS_A_SECOND as f64);
                tokio::time::sleep_until((begun + due).into()).await;
                report_one(&client, &id, index).await;
            }
        });
    }
    while let Some(reported) = reporting.join_next().await {
        reported.expect("receipts reported");
    }
    begun.elapsed()
}

async fn report_one(client: &Client, id: &str, index: usize) {
    let body = format!(r#"[{{"message_id":"{id}.{index}","state":"delivered"}}]"#);
    let timestamp = (Clock::system().now().0 / 1_000).cast_signed();
    let signature =
        Webhook::new(SECRET).and_then(|key| key.sign("rcp_1", timestamp, body.as_bytes()));
    let headers = [
        ("webhook-id", "rcp_1"),
        ("webhook-timestamp", &timestamp.to_string()),
        ("webhook-signature", &signature.expect("a signature")),
    ];
    let answer = client.post("/v1/receipts/carrier", &headers, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}
