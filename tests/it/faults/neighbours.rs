//! Row 26: an account with very much to send beside one with little. The account with a dead
//! receiver is in `callback_hosts.rs`.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use super::{Found, Row, calls, scene};
use crate::{
    api::new_key,
    harness::{Kind, PATIENCE, on_each_store},
    scene::{accepted, batch, numbers, with_callback},
};

on_each_store! {
    an_account_with_a_million_messages_holds_up_no_other
}

async fn an_account_with_a_million_messages_holds_up_no_other(on: Kind) {
    const MANY: usize = 1_000_000;
    const FEW: usize = 50;
    const TURNS: usize = 5;
    let mut row =
        Row::begin(26, "account with 1,000,000 messages", on, "I11; the other's latency bounded");
    let [(large_key, large_hash), (small_key, small_hash)] = ["large", "small"].map(new_key);
    let scene = scene(on, |setup| {
        setup
            .set("accounts.large.api_key_hashes", &large_hash)
            .set("accounts.small.api_key_hashes", &small_hash)
    })
    .await;
    let [large, small] = [large_key, small_key].map(|key| scene.client.with_key(&key));
    let mut lines = "{\"body\":\"Hello\"}\n".to_owned();
    for number in numbers(0..MANY) {
        writeln!(lines, "\"{number}\"").unwrap();
    }
    let form = [("content-type", "application/x-ndjson")];
    let answer = large.post("/v1/batches", &form, lines).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    row.inject("batch of 1,000,000");
    calls(&scene.provider, 500).await;
    let mut slowest = Duration::ZERO;
    for _ in 0..TURNS {
        let posted = Instant::now();
        let batch = with_callback(batch(numbers(0..FEW)), &scene.receiver);
        let id = accepted(&small, &batch).await;
        small.wait_until_complete(&id, PATIENCE).await;
        slowest = slowest.max(posted.elapsed());
    }
    // A turn is half a second: others wait for one, and not for the million.
    assert!(slowest < Duration::from_secs(4), "{slowest:?}");
    let id = answer.batch_id();
    let batch = large.get(&format!("/v1/batches/{id}")).await.json();
    assert!(batch["completed_at"].is_null(), "the large batch was over too soon");
    assert_eq!(small.get(&format!("/v1/batches/{id}")).await.status, 404);
    let provider = &scene.provider;
    assert_eq!(large.post(&format!("/v1/batches/{id}/cancel"), &[], "").await.status, 200);
    let over = large.wait_until_complete(&id, PATIENCE).await;
    let sent = over["counts"]["sent"].as_u64().unwrap();
    let taken = provider.taken_in().keys().filter(|key| key.starts_with(&id)).count() as u64;
    assert_eq!(sent, taken, "what was sent is what the provider has");
    row.end(
        &Found {
            messages: sent + (TURNS * FEW) as u64,
            ..Found::reports(TURNS, scene.receiver.deliveries().len())
        },
        format!("the other's {FEW} within {slowest:.1?}"),
    );
}
