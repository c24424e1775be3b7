//! What it costs that many follow a batch.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use memchr::memmem;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::{
    harness::Kind,
    steady::{Cost, Steady, compare},
};

const WATCHERS: usize = 200;

/// A batch at a steady rate, with and without watchers in turns: whether the rate is kept, and what a
/// message costs. Through the mock a message itself costs least, so the watchers' share is largest.
pub(crate) async fn watchers(on: Kind) {
    let mut steady = Steady::start(on).await;
    let address = steady.service.address();
    for provider in ["carrier", "mock"] {
        println!("  through the {}:", if provider == "mock" { "mock" } else { "http provider" });
        let told = Arc::new(AtomicUsize::new(0));
        let special = format!("with {WATCHERS} watchers");
        compare(&special, "without", async |watched| {
            let watchers = if watched { WATCHERS } else { 0 };
            let fields = json!({ "provider": provider });
            let follow = async |id: &str| follow_all(watchers, &address, id, &told).await;
            steady.run(Cost::Service, fields, follow).await
        })
        .await;
        println!("  all of them were told of {} events", told.load(Ordering::Relaxed));
    }
}

/// So many watchers follow a batch to its end.
async fn follow_all(watchers: usize, address: &str, id: &str, told: &Arc<AtomicUsize>) {
    let mut following = JoinSet::new();
    for _ in 0..watchers {
        following.spawn(follow(address.to_owned(), id.to_owned(), Arc::clone(told)));
    }
    while let Some(followed) = following.join_next().await {
        followed.expect("a watcher").expect("a stream that ends well");
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
