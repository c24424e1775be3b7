//! All messages of a large batch, read in one answer.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::json;

use crate::{
    harness::{Backing, Kind, Receiver, Ringback},
    lines,
    processes::{forget_peak, memory_mib, peak_mib, workers},
    report::{per_second, whole},
};

const MESSAGES: usize = 1_000_000;
const ROUNDS: usize = 10;
const LONGEST: Duration = Duration::from_mins(2);

/// The messages of a batch that is over, as lines, and the memory that reading them took.
pub(crate) async fn results(on: Kind) {
    let store = Backing::start(on).await;
    let service = Ringback::on(&store).set("log.filter", "warn").start().await;
    let receiver = Receiver::start();
    let head = json!({"body": "Hello", "provider": "mock", "callback_url": receiver.url()});
    let id = lines::post(&service.client(), &head.to_string(), MESSAGES).await;
    receiver.wait_for(1, LONGEST).await;
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    for round in 1..=ROUNDS {
        let pids = workers(&service, &store);
        let before: Vec<f64> = pids.iter().map(|pid| memory_mib(*pid)).collect();
        for pid in &pids {
            forget_peak(*pid);
        }
        let begun = Instant::now();
        let url = format!("http://{}/v1/batches/{id}/messages", service.address());
        let answer = http.get(url).header("accept", lines::FORM.1).send().await.expect("an answer");
        let (mut read, mut bytes, mut pieces) = (0, 0, answer.bytes_stream());
        while let Some(piece) = pieces.next().await {
            let piece = piece.expect("a whole answer");
            read += memchr::memchr_iter(b'\n', &piece).count();
            bytes += piece.len();
        }
        let rate = per_second(read, begun.elapsed());
        assert_eq!(read, MESSAGES);
        let memory: Vec<_> = std::iter::zip(pids, before)
            .map(|(pid, before)| format!("{before:.0} → {:.0} MiB", peak_mib(pid)))
            .collect();
        println!(
            "  {round}: {} lines/s, {} MB; memory of the service (and the server): {}",
            whole(rate),
            bytes / 1_000_000,
            memory.join(", ")
        );
    }
}
