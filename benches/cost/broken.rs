//! Uploads that end half-way: how soon the store is as it was, and the idempotency key free.

use std::{
    convert::Infallible,
    fmt,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use rusqlite::{Connection, OpenFlags};
use serde_json::json;
use tokio::{
    sync::mpsc::{self, Sender},
    task::JoinHandle,
    time::sleep,
};

use crate::{
    harness::{Backing, Kind, Redis, Ringback, eventually},
    lines,
    report::{milliseconds, whole},
};

const MESSAGES: usize = 1_000_000;
const LONGEST: Duration = Duration::from_mins(1);

/// How an upload ends.
#[derive(Clone, Copy)]
enum End {
    /// Its client goes away.
    Broken,
    /// The service is killed, and started again.
    Killed,
}

/// What a store holds.
#[derive(Clone, Copy)]
enum Held {
    Redis {
        keys: u64,
        dataset_bytes: u64,
    },
    /// Pages of the file that are in use; others are free, and are used again before it grows.
    Embedded {
        pages: u64,
        free_pages: u64,
    },
}

/// An upload under way.
struct Upload {
    /// Takes the pieces of the body; the body ends when it is dropped.
    pieces: Sender<Bytes>,
    request: JoinHandle<()>,
}

/// Half of a million lines, and then the end.
pub(crate) async fn broken(on: Kind) {
    let store = Backing::start(on).await;
    let mut service = Ringback::on(&store).set("log.filter", "error").start().await;
    let stopped = service.client().post("/v1/providers/mock/pause", &[], "").await;
    assert_eq!(stopped.status, 200, "{}", stopped.text);
    // What a store makes once, and for every upload, is there before anything is compared.
    half(&service, "warm-up").await.request.abort();
    settled(&store).await;
    for (what, end) in
        [("the client breaks off", End::Broken), ("SIGKILL of the service", End::Killed)]
    {
        let before = Held::look(&store);
        let upload = half(&service, "the store").await;
        let half_way = settled(&store).await;
        let begun = Instant::now();
        upload.end(end, &mut service).await;
        let is_back = async || Some(Held::look(&store)).filter(|held| !held.exceeds(&before));
        let after = eventually("the store as before", LONGEST, is_back).await;
        println!(
            "  {what}: {before} → {half_way} → {after} after {:.0} ms",
            milliseconds(begun.elapsed())
        );

        let upload = half(&service, what).await;
        settled(&store).await;
        let begun = Instant::now();
        upload.end(end, &mut service).await;
        let id = accepted_again(&service, what).await;
        println!(
            "  {what}: the same key is accepted after {:.0} ms",
            milliseconds(begun.elapsed())
        );
        erase(&service, &id).await;
        settled(&store).await;
    }
}

/// Uploads one half under a key.
async fn half(service: &Ringback, key: &str) -> Upload {
    let (pieces, body) = mpsc::channel::<Bytes>(4);
    let body = stream::unfold(body, async |mut body| {
        let piece = body.recv().await?;
        Some((Ok::<_, Infallible>(piece), body))
    });
    let request = reqwest::Client::builder().no_proxy().build().expect("a client");
    let request = request
        .post(format!("http://{}/v1/batches", service.address()))
        .header(lines::FORM.0, lines::FORM.1)
        .header("idempotency-key", key.replace(' ', "-"))
        .body(reqwest::Body::wrap_stream(body));
    // It never ends well.
    let request = tokio::spawn(async move { drop(request.send().await) });
    let upload = Upload { pieces, request };
    upload.pieces.send(lines::first(&head())).await.expect("a body");
    let mut half = lines::pieces(0..MESSAGES / 2);
    while let Some(piece) = half.next().await {
        upload.pieces.send(piece).await.expect("a body");
    }
    upload
}

fn head() -> String {
    json!({"body": "Hello", "provider": "mock"}).to_string()
}

/// Submits a small batch under the key until it is accepted; gives its id.
async fn accepted_again(service: &Ringback, key: &str) -> String {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let url = format!("http://{}/v1/batches", service.address());
    let try_once = async || {
        let request = http.post(&url).header(lines::FORM.0, lines::FORM.1);
        let request = request.header("idempotency-key", key.replace(' ', "-"));
        let body = format!("{}\n\"+15550000001\"\n", head());
        let answer = request.body(body).send().await.ok()?;
        let batch: serde_json::Value = match answer.status().as_u16() {
            202 => answer.json().await.expect("a batch"),
            409 => return None,
            other => panic!("{other}: {}", answer.text().await.unwrap_or_default()),
        };
        batch["id"].as_str().map(str::to_owned)
    };
    eventually("the key to be free", LONGEST, try_once).await
}

async fn erase(service: &Ringback, id: &str) {
    let client = service.client();
    let canceled = client.post(&format!("/v1/batches/{id}/cancel"), &[], "").await;
    assert_eq!(canceled.status, 200, "{}", canceled.text);
    client.wait_until_complete(id, LONGEST).await;
    let erased = client.delete(&format!("/v1/batches/{id}")).await;
    assert_eq!(erased.status, 202, "{}", erased.text);
}

/// What the store holds, once that has not changed for half a second.
async fn settled(store: &Backing) -> Held {
    let mut last = Held::look(store);
    loop {
        sleep(Duration::from_millis(500)).await;
        let now = Held::look(store);
        if now.size() == last.size() {
            return now;
        }
        last = now;
    }
}

// === impl Upload ===

impl Upload {
    async fn end(self, end: End, service: &mut Ringback) {
        match end {
            End::Broken => self.request.abort(),
            End::Killed => service.restart().await,
        }
    }
}

// === impl Held ===

impl Held {
    fn look(store: &Backing) -> Self {
        match store {
            Backing::Redis(redis) => Self::Redis {
                keys: figure(redis, "DBSIZE", ":"),
                dataset_bytes: figure(redis, "INFO memory", "used_memory_dataset:"),
            },
            Backing::Embedded(folder) => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
                let path = folder.path().join("ringback.db");
                let db = Connection::open_with_flags(path, flags).expect("the file");
                // Both from one state of the file.
                let sql = "SELECT page_count, freelist_count \
                           FROM pragma_page_count, pragma_freelist_count";
                let row = db.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)));
                let (all, free): (u32, u32) = row.expect("figures");
                Self::Embedded { pages: (all - free).into(), free_pages: free.into() }
            }
        }
    }

    fn size(&self) -> u64 {
        match self {
            Self::Redis { keys, .. } => *keys,
            Self::Embedded { pages, .. } => *pages,
        }
    }

    /// Whether there is more than before.
    fn exceeds(&self, before: &Self) -> bool {
        self.size() > before.size()
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redis { keys, dataset_bytes } => {
                let mib = *dataset_bytes as f64 / 1_048_576.0;
                write!(f, "{} keys, {mib:.2} MiB", whole(*keys as f64))
            }
            Self::Embedded { pages, free_pages } => {
                let (used, free) = (whole(*pages as f64), whole(*free_pages as f64));
                write!(f, "{used} pages in use, {free} free")
            }
        }
    }
}

/// The number behind `name` in the answer to a command.
fn figure(redis: &Redis, command: &str, name: &str) -> u64 {
    let answer = redis.ask(command);
    let line = answer.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|number| number.trim().parse().ok()).expect("a figure")
}
