//! The levels of a rate: what each sender gets of a provider's rate, by the provider's book.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::harness::{Backing, Client, Kind, Provider, Ringback};

const SENDERS: [&str; 2] = ["+15550001111", "+15550002222"];
const WINDOW: Duration = Duration::from_mins(1);

/// More than may leave in the window.
const MESSAGES: usize = 1_000;

/// Two senders at 10/s each on a provider of 15/s; then one of them alone.
pub(crate) async fn senders(on: Kind) {
    let (store, provider) = (Backing::start(on).await, Provider::start());
    let worker = || {
        Ringback::on(&store)
            .set("log.filter", "warn")
            .carrier(&provider.url())
            .set("providers.carrier.rate", "15/s")
            .set("providers.carrier.sender_rate", "10/s")
    };
    let service = worker().start().await;
    let mut others = Vec::new();
    if on == Kind::Redis {
        others.push(worker().role("worker").start().await);
        others.push(worker().role("worker").start().await);
    }
    let client = service.client();
    for senders in [&SENDERS[..], &SENDERS[..1]] {
        let mut ids = Vec::new();
        for from in senders {
            ids.push(post(&client, from).await);
        }
        // Past its beginning, where a burst is.
        sleep(Duration::from_secs(2)).await;
        let begins = Instant::now();
        sleep(WINDOW).await;
        tell(&provider, senders, begins);
        for id in ids {
            client.post(&format!("/v1/batches/{id}/cancel"), &[], "").await;
        }
        sleep(Duration::from_secs(2)).await;
    }
    drop(others);
}

async fn post(client: &Client, from: &str) -> String {
    let recipients: Vec<_> = (0..MESSAGES).map(|index| format!("+1555{index:07}")).collect();
    let batch: Value = json!({"body": "Hello", "from": from, "recipients": recipients});
    let answer = client.post_batch(&batch).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    answer.batch_id()
}

/// Prints what was seen in the window, of each sender and of all.
fn tell(provider: &Provider, senders: &[&str], begins: Instant) {
    let calls = provider.calls();
    let within = calls.iter().filter(|call| call.at >= begins && call.at < begins + WINDOW);
    let within: Vec<_> = within.collect();
    let each = senders.iter().map(|from| {
        let of = within.iter().filter(|call| call.from.as_deref() == Some(*from)).count();
        format!("{:.2}/s", of as f64 / WINDOW.as_secs_f64())
    });
    let each: Vec<_> = each.collect();
    let busiest = within.iter().map(|first| {
        let until = first.at + Duration::from_secs(1);
        within.iter().filter(|call| call.at >= first.at && call.at < until).count()
    });
    println!(
        "  {} of 10/s each: provider {:.2}/s, senders {}; busiest second: {} messages",
        senders.len(),
        within.len() as f64 / WINDOW.as_secs_f64(),
        each.join(" and "),
        busiest.max().unwrap_or(0),
    );
}
