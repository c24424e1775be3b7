//! What Ringback is measured against: a bare loop over reqwest, which keeps nothing and promises
//! nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Sends `messages` POSTs to `url`, `concurrency` at a time, and says how long it took.
pub(crate) async fn send(url: &str, messages: usize, concurrency: usize) -> Duration {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let tasks: Vec<_> = (0..concurrency)
        .map(|_| {
            let (client, next, url) = (client.clone(), Arc::clone(&next), url.to_owned());
            tokio::spawn(async move {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= messages {
                        return;
                    }
                    send_one(&client, &url, index).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a task that ends");
    }
    begun.elapsed()
}

async fn send_one(client: &reqwest::Client, url: &str, index: usize) {
    let id = format!("bat_01KBARELOOP0000000000000000.{index}");
    let body = format!(
        r#"{{"message_id":"{id}","to":"+1555{index:07}","from":null,"body":"Hello from the bench"}}"#
    );
    let request = client
        .post(url)
        .header("content-type", "application/json")
        .header("idempotency-key", id)
        .body(body);
    let answer = request.send().await.expect("an answer");
    assert!(answer.status().is_success());
    answer.bytes().await.expect("a body");
}
