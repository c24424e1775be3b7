//! What changes with the size of a batch: the intake's speed and memory, and the cost of a message.

use std::{
    convert::Infallible,
    fs,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::stream;
use serde_json::json;

use crate::{
    harness::{Backing, Client, Kind, Receiver, Ringback, Setup},
    report::{per_second, whole},
};

const LONGEST: Duration = Duration::from_mins(5);

/// How many recipients the client sends in one piece.
const PIECE: usize = 1_000;

/// Ticks of a processor's time a second, as Linux counts them.
const TICKS: f64 = 100.0;

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
        let peak = status_kib(service.pid(), "VmHWM:") / 1_024.0;
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
    let pids: Vec<u32> = [Some(service.pid()), server_pid(&store)].into_iter().flatten().collect();
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

/// Streams a batch of lines; gives its id.
async fn post(client: &Client, head: &str, messages: usize) -> String {
    let first = stream::iter([Ok::<_, Infallible>(Bytes::from(format!("{head}\n")))]);
    let pieces = (0..messages).step_by(PIECE).map(move |from| {
        let numbers = from..(from + PIECE).min(messages);
        let lines = numbers.map(|index| format!("\"+1555{index:08}\"\n"));
        Ok(Bytes::from(lines.collect::<Vec<_>>().concat()))
    });
    let body = futures_util::StreamExt::chain(first, stream::iter(pieces));
    let form = [("content-type", "application/x-ndjson")];
    let accepted = client.post("/v1/batches", &form, reqwest::Body::wrap_stream(body)).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    accepted.batch_id()
}

fn quiet(store: &Backing) -> Setup {
    Ringback::on(store).set("log.filter", "warn")
}

/// The process of the store's server, if it has one.
fn server_pid(store: &Backing) -> Option<u32> {
    let Backing::Redis(redis) = store else { return None };
    let info = redis.ask("INFO server");
    let pid = info.lines().find_map(|line| line.strip_prefix("process_id:"));
    Some(pid.and_then(|pid| pid.trim().parse().ok()).expect("the server's process"))
}

/// The time that processors spent on a process.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process");
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
    // utime and stime are fields 14 and 15; the name, which may hold blanks, is the second.
    let ticks = [fields[11], fields[12]].map(|field| field.parse::<f64>().expect("ticks"));
    (ticks[0] + ticks[1]) / TICKS
}

fn status_kib(pid: u32, name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the figure");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
