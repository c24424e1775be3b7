//! Receipts while processes die: a carrier repeats what was not taken, and everything counts once.

use std::{collections::VecDeque, time::Duration};

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use super::{LONG, Row, after, calls, compare, scene};
use crate::{
    harness::{Client, Kind, Provider, on_each_store},
    scene::{SECRET, numbers, shown},
};

on_each_store! {
    receipts_count_once_each_through_crashes
}

const MESSAGES: usize = 6_000;
const KILLS: u32 = 4;

/// How many receipts a call reports.
const TOGETHER: usize = 40;

async fn receipts_count_once_each_through_crashes(on: Kind) {
    let mut row = Row::begin(27, "killed while receipts come", on, "I1 I2 I3 I5 I6 I10");
    let mut lots = row.lots();
    let mut scene = scene(on, |setup| {
        setup
            .set("providers.carrier.receipts", "true")
            .set("providers.carrier.receipt_secret", SECRET)
            .set("callbacks.timeout", "1s")
            .set("callbacks.schedule", "100ms,1s,1h")
    })
    .await;
    let id = scene.post(numbers(0..MESSAGES)).await;
    let client = scene.ringback.client();
    let carrier = StdRng::seed_from_u64(lots.next_u64());
    let reporting = report_all(&client, &scene.provider, carrier);
    let hurting = async {
        for kill in 1..=KILLS {
            let share = MESSAGES / (KILLS as usize + 1);
            let at = share * (kill as usize - 1) + lots.random_range(share / 4..share);
            calls(&scene.provider, at).await;
            scene.ringback.restart().await;
        }
    };
    let (reported, ()) =
        tokio::time::timeout(LONG, async { tokio::join!(reporting, hurting) }).await.unwrap();
    (0..KILLS).for_each(|_| row.inject("SIGKILL"));
    // What a kill left unrecorded was handed over, and its receipt is in: it is not sent again.
    let found = compare(&scene, &[(id.clone(), MESSAGES as u64)], after(KILLS)).await;
    let counts = &shown(&scene.client, &id).await["counts"];
    let undelivered = (0..MESSAGES).filter(|index| !is_delivered(*index)).count();
    assert_eq!(counts["undelivered"], undelivered, "{counts}");
    assert_eq!(counts["delivered"], MESSAGES - undelivered, "{counts}");
    row.end(&found, format!("{reported} receipts reported until each was taken"));
}

/// What the carrier says of each message, whenever it says it.
fn is_delivered(index: usize) -> bool {
    !index.is_multiple_of(9)
}

/// Reports what the provider has, some of it twice and in any order, until every message's receipt was taken.
/// Gives how many receipts that took.
async fn report_all(client: &Client, provider: &Provider, mut lots: StdRng) -> usize {
    let (mut seen, mut taken, mut reported) = (0, vec![false; MESSAGES], 0);
    let mut waiting = VecDeque::new();
    while taken.iter().any(|taken| !taken) {
        let calls = provider.calls();
        let index = |id: &str| id.rsplit_once('.').unwrap().1.parse::<usize>().unwrap();
        waiting.extend(
            calls[seen..].iter().map(|call| (index(&call.message_id), call.message_id.clone())),
        );
        seen = calls.len();
        if waiting.is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        }
        let first = lots.random_range(0..waiting.len());
        waiting.rotate_left(first);
        let mut some: Vec<_> = waiting.drain(..TOGETHER.min(waiting.len())).collect();
        if lots.random_ratio(1, 4) {
            some.extend(some[..some.len() / 2].to_vec());
        }
        reported += some.len();
        if report(client, &some).await {
            for (index, _) in some {
                taken[index] = true;
            }
        } else {
            waiting.extend(some);
        }
    }
    reported
}

/// Whether the receipts were taken.
async fn report(client: &Client, messages: &[(usize, String)]) -> bool {
    let word = |index| if is_delivered(index) { "delivered" } else { "undelivered" };
    let receipts: Vec<Value> = messages
        .iter()
        .map(|(index, id)| json!({"message_id": id, "state": word(*index)}))
        .collect();
    let body = json!(receipts).to_string();
    let now = (ringback::clock::Clock::system().now().0 / 1_000).cast_signed();
    let signature = Webhook::new(SECRET).unwrap().sign("rcp_1", now, body.as_bytes()).unwrap();
    let headers = [
        ("webhook-id", "rcp_1"),
        ("webhook-timestamp", &*now.to_string()),
        ("webhook-signature", &*signature),
    ];
    let answer = client.try_post("/v1/receipts/carrier", &headers, body).await;
    answer.is_some_and(|answer| {
        assert!([200, 503].contains(&answer.status), "{}", answer.text);
        answer.status == 200 && answer.json()["unknown"] == 0
    })
}
