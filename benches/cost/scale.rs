//! What changes with the size of a batch: the intake's speed and memory, and the cost of a message.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    harness::{Backing, Kind, Receiver, Ringback, Setup},
    lines::post,
    processes::{cpu_seconds, peak_mib, workers},
    report::{per_second, whole},
};

const LONGEST: Duration = Duration::from_mins(5);

/// Batches of lines while the provider is stopped: nothing but the intake is at work.
pub(crate) async fn intake(on: Kind) {
    let store = Backing::start(on).await;
    let service = quiet(&store).start().await;
    let client = service.client();
    let stopped = client.post("/v1/providers/mock/pause", &[], "").await;
    assert_eq!(stopped.status, 200, "{}", stopped.text);
    let head = json!({"body": "Hello", "provider": "mock"}).to_string();
    for messages in [1_000_000, 5_000_000] {
        let begun = Instant::now();
        let id = post(&client, &head, messages).await;
        let rate = per_second(messages, begun.elapsed());
        let peak = peak_mib(service.pid());
        println!("  {}: {}/s, at most {peak:.0} MiB", whole(messages as f64), whole(rate));
        let canceled = client.post(&format!("/v1/batches/{id}/cancel"), &[], "").await;
        assert_eq!(canceled.status, 200, "{}", canceled.text);
    }
}

/// The cost of a message in batches of 1,000 to 10,000,000, by the processors' time of the service
/// and of the store. Of small batches there are as many as make 200,000 messages.
pub(crate) async fn curve(on: Kind) {
    let store = Backing::start(on).await;
    let service = quiet(&store).start().await;
    let client = service.client();
    let receiver = Receiver::start();
    let pids = workers(&service, &store);
    let used = || pids.iter().map(|pid| cpu_seconds(*pid)).sum::<f64>();
    let head =
        json!({"body": "Hello", "provider": "mock", "callback_url": receiver.url()}).to_string();
    let mut reported = 0;
    println!("  | messages a batch | POST to callback | processor time a message |");
    println!("  | --- | --- | --- |");
    for power in 3..=7 {
        let messages = 10_usize.pow(power);
        let batches = (200_000 / messages).max(1);
        let (begun, before) = (Instant::now(), used());
        for _ in 0..batches {
            post(&client, &head, messages).await;
            reported += 1;
            let deliveries = receiver.wait_for(reported, LONGEST).await;
            let counts = &deliveries[reported - 1].json()["data"]["counts"];
            assert_eq!(counts["sent"], messages, "{counts}");
        }
        let (rate, sent) = (per_second(batches * messages, begun.elapsed()), batches * messages);
        let micros = (used() - before) / sent as f64 * 1e6;
        println!("  | {} | {}/s | {micros:.2} µs |", whole(messages as f64), whole(rate));
    }
}

fn quiet(store: &Backing) -> Setup {
    Ringback::on(store).set("log.filter", "warn")
}
