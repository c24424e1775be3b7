//! What a list of 1,000,000 opt-outs costs: its bytes, how fast it is taken in and asked, and what it takes
//! from the intake of batches.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::join_all, stream};
use ringback::{
    domain::number::Number,
    store::{self, HostLimits, SentinelLogin, Store, StoreRules, StoreSettings, StoreTls},
};
use serde_json::json;

use crate::{
    harness::{Backing, Client, Kind, Redis, Ringback, StoreUrl},
    lines::post,
    report::{milliseconds, per_second, quantile, whole},
};

const ENTRIES: usize = 1_000_000;

/// So many numbers are asked for at once: a chunk's.
const CHUNK: usize = 500;

/// The account where none is configured.
const ACCOUNT: &str = "default";

pub(crate) async fn optouts(on: Kind) {
    let (redis, folder);
    let url = match on {
        Kind::Redis => {
            redis = Redis::start().await;
            let before = redis.used_memory();
            import(&Ringback::on(&redis).set("log.filter", "warn").start().await.client()).await;
            let bytes = (redis.used_memory() - before) as f64 / ENTRIES as f64;
            println!("  {bytes:.2} bytes an entry, by used_memory");
            redis.store_url()
        }
        Kind::Embedded => {
            folder = tempfile::tempdir().expect("a folder");
            import(&Ringback::on(&folder).set("log.filter", "warn").start().await.client()).await;
            folder.store_url()
        }
    };
    let store = opened(&url).await;
    for at_once in [1, 4] {
        ask(&store, at_once).await;
    }
}

/// The intake of a batch of lines: without any opt-out, with one, and with a million of which every other
/// recipient is one.
pub(crate) async fn optouts_intake(on: Kind) {
    let backing = Backing::start(on).await;
    let service = Ringback::on(&backing).set("log.filter", "warn").start().await;
    let client = service.client();
    let stopped = client.post("/v1/providers/mock/pause", &[], "").await;
    assert_eq!(stopped.status, 200, "{}", stopped.text);
    take_in(&client, "no opt-out", 0).await;
    let one = json!({"numbers": ["+15559999999"]}).to_string();
    let json = [("content-type", "application/json")];
    assert_eq!(client.post("/v1/suppressions", &json, one).await.status, 200);
    take_in(&client, "one", 0).await;
    import(&client).await;
    take_in(&client, "a million, half of the recipients", ENTRIES / 2).await;
}

/// Every other of 2,000,000 numbers.
fn entry(nth: usize) -> String {
    format!("+1555{:08}", nth * 2)
}

async fn import(client: &Client) {
    let lines = stream::iter((0..ENTRIES).step_by(1_000)).map(|from| {
        let lines = (from..from + 1_000).map(|nth| entry(nth) + "\n").collect::<Vec<_>>().concat();
        Ok::<_, Infallible>(if from == 0 { format!("number\n{lines}") } else { lines })
    });
    let begun = Instant::now();
    let body = reqwest::Body::wrap_stream(lines);
    let answer = client.post("/v1/suppressions", &[("content-type", "text/csv")], body).await;
    assert_eq!((answer.status, &answer.json()["added"]), (200, &json!(ENTRIES)), "{}", answer.text);
    println!("  import: {}/s", whole(per_second(ENTRIES, begun.elapsed())));
}

async fn take_in(client: &Client, what: &str, failed: usize) {
    let head = json!({"body": "Hello", "provider": "mock"}).to_string();
    let begun = Instant::now();
    let id = post(client, &head, ENTRIES).await;
    let rate = whole(per_second(ENTRIES, begun.elapsed()));
    let batch = client.get(&format!("/v1/batches/{id}")).await.json();
    assert_eq!(batch["counts"]["failed"], failed, "{batch}");
    println!("  intake with {what}: {rate}/s");
    let canceled = client.post(&format!("/v1/batches/{id}/cancel"), &[], "").await;
    assert_eq!(canceled.status, 200, "{}", canceled.text);
}

async fn opened(url: &str) -> Store {
    let hour = Duration::from_hours(1);
    let hosts = HostLimits { at_once: 1, silences_max: 1, left_alone: hour };
    let rules = StoreRules { lease: hour, upload_lease: hour, retention: hour, hosts };
    let settings = StoreSettings {
        url: url.to_owned().into(),
        retention: hour,
        sync_every: Duration::from_secs(1),
        partitions: None,
        tls: StoreTls::default(),
        sentinel: SentinelLogin::default(),
    };
    store::open(&settings, rules).await.expect("the store")
}

/// Asks for 1,000,000 numbers, half of which are on the list, by the chunk.
async fn ask(store: &Store, at_once: usize) {
    let chunks: Vec<Vec<Number>> = (0..ENTRIES)
        .step_by(CHUNK)
        .map(|from| {
            let digits = (from..from + CHUNK).map(|nth| 155_500_000_000 + nth as u64);
            digits.filter_map(Number::of_digits).collect()
        })
        .collect();
    let (begun, mut times) = (Instant::now(), Vec::new());
    for group in chunks.chunks(at_once) {
        let asked = group.iter().map(|chunk| async {
            let begun = Instant::now();
            let found = store.optouts.contains(ACCOUNT, chunk).await.expect("an answer");
            assert_eq!(found.iter().filter(|found| **found).count(), CHUNK / 2);
            milliseconds(begun.elapsed())
        });
        times.extend(join_all(asked).await);
    }
    println!(
        "  {}/s checks, {at_once} chunks of {CHUNK} at once; a chunk takes {:.2} ms, p99 {:.2}",
        whole(per_second(ENTRIES, begun.elapsed())),
        quantile(&times, 0.5),
        quantile(&times, 0.99),
    );
}
