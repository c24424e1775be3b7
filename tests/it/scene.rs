//! What the tests of the service's ways share: a service between its provider and its receiver,
//! batches to post, and what is to be seen of them in the API, the callback and the book.

use std::{
    collections::BTreeMap,
    ops::Range,
    time::{Duration, Instant},
};

use ringback::domain::time::UnixMs;
use serde_json::{Value, json};

use crate::harness::{
    Backing, Client, Delivery, Kind, PATIENCE, Provider, Receiver, Ringback, Setup, StoreUrl,
    eventually,
};

/// What callbacks are signed with.
pub(crate) const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5";

/// A whole service: one process with all roles, between a provider and a receiver that keep books.
///
/// The order of the fields is the order in which they end: the service first.
pub(crate) struct Scene {
    pub(crate) ringback: Ringback,
    pub(crate) client: Client,
    pub(crate) provider: Provider,
    pub(crate) receiver: Receiver,
    pub(crate) store: Backing,
}

// === impl Scene ===

impl Scene {
    /// A service on Redis, with everything as it is by default.
    pub(crate) async fn start() -> Self {
        Self::start_on(Kind::Redis).await
    }

    /// A service on Redis, with further settings.
    pub(crate) async fn start_with(settings: impl FnOnce(Setup) -> Setup) -> Self {
        Self::start_on_with(Kind::Redis, settings).await
    }

    /// A service on a store of this kind, with everything as it is by default.
    pub(crate) async fn start_on(kind: Kind) -> Self {
        Self::start_on_with(kind, |setup| setup).await
    }

    /// A service on a store of this kind, with further settings.
    pub(crate) async fn start_on_with(kind: Kind, settings: impl FnOnce(Setup) -> Setup) -> Self {
        let (store, provider) = (Backing::start(kind).await, Provider::start());
        let ringback = settings(setup(&store, &provider)).start().await;
        let client = ringback.client();
        Self { ringback, client, provider, receiver: Receiver::start(), store }
    }

    /// A batch that reports to the receiver.
    pub(crate) fn batch(&self, recipients: impl Into<Value>) -> Value {
        with_callback(batch(recipients), &self.receiver)
    }

    /// Posts a batch to `recipients` that reports to the receiver; gives its id.
    pub(crate) async fn post(&self, recipients: impl Into<Value>) -> String {
        accepted(&self.client, &self.batch(recipients)).await
    }

    /// Waits for the one report of a batch, and checks it against the API.
    pub(crate) async fn report(&self, id: &str) -> Value {
        one_report(&self.client, &self.receiver, id, PATIENCE).await
    }

    /// The messages of a batch that were posted to the provider, in the order of the calls.
    pub(crate) fn calls_of(&self, id: &str) -> usize {
        let of_batch = format!("{id}.");
        self.provider.calls().iter().filter(|call| call.message_id.starts_with(&of_batch)).count()
    }
}

/// A process on `store` that sends through `provider` and signs with [`SECRET`].
pub(crate) fn setup(store: &impl StoreUrl, provider: &Provider) -> Setup {
    Ringback::on(store).carrier(&provider.url()).set("callbacks.signing_secrets", SECRET)
}

/// The number of a recipient.
pub(crate) fn number(index: usize) -> String {
    format!("+1555{index:07}")
}

/// The numbers of recipients.
pub(crate) fn numbers(indexes: Range<usize>) -> Vec<String> {
    indexes.map(number).collect()
}

/// A batch without a callback.
pub(crate) fn batch(recipients: impl Into<Value>) -> Value {
    json!({"body": "Hello", "recipients": recipients.into()})
}

/// The batch, reporting to `receiver`.
pub(crate) fn with_callback(mut batch: Value, receiver: &Receiver) -> Value {
    batch["callback_url"] = receiver.url().into();
    batch
}

/// Posts a batch that is to be accepted; gives its id.
pub(crate) async fn accepted(client: &Client, batch: &Value) -> String {
    let answer = client.post_batch(batch).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let id = answer.batch_id();
    assert_eq!(answer.header("location"), format!("/v1/batches/{id}"));
    id
}

/// The batch as the API shows it.
pub(crate) async fn shown(client: &Client, id: &str) -> Value {
    let answer = client.get(&format!("/v1/batches/{id}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

/// Waits until the API shows the batch as `wanted` asks.
pub(crate) async fn shown_when(
    client: &Client,
    id: &str,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    eventually(what, PATIENCE, async || {
        let batch = shown(client, id).await;
        wanted(&batch).then_some(batch)
    })
    .await
}

/// Wishes something of a batch, such as `pause`, which is to be granted; gives the batch.
pub(crate) async fn wish(client: &Client, id: &str, word: &str) -> Value {
    let answer = client.post(&format!("/v1/batches/{id}/{word}"), &[], "").await;
    assert_eq!(answer.status, 200, "{word}: {}", answer.text);
    answer.json()
}

/// All messages of a batch, page after page, checked for order and ids.
pub(crate) async fn messages(client: &Client, id: &str) -> Vec<Value> {
    let mut messages = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/v1/batches/{id}/messages?limit=1000{cursor}");
        let page = client.get(&path).await.json();
        messages.extend(page["messages"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    for (index, message) in messages.iter().enumerate() {
        assert_eq!(message["index"], index);
        assert_eq!(message["id"], format!("{id}.{index}"));
    }
    messages
}

/// How many messages are in which state.
pub(crate) fn states(messages: &[Value]) -> BTreeMap<String, u64> {
    let mut states = BTreeMap::new();
    for message in messages {
        *states.entry(message["state"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    states
}

/// The counts that are not 0, but for the total, which is checked to be their sum.
pub(crate) fn counts(batch: &Value) -> BTreeMap<String, u64> {
    let mut counts: BTreeMap<String, u64> =
        serde_json::from_value(batch["counts"].clone()).unwrap();
    let total = counts.remove("total").unwrap();
    assert_eq!(counts.values().sum::<u64>(), total, "{batch}");
    counts.retain(|_, messages| *messages > 0);
    counts
}

/// Counts to compare with.
pub(crate) fn these<const N: usize>(counts: [(&str, u64); N]) -> BTreeMap<String, u64> {
    counts.map(|(state, messages)| (state.to_owned(), messages)).into()
}

/// Waits until a batch is complete and its callback delivered. There must have been one delivery,
/// well signed, that tells what the API tells. Gives the batch.
pub(crate) async fn one_report(
    client: &Client,
    receiver: &Receiver,
    id: &str,
    longest: Duration,
) -> Value {
    client.wait_until_complete(id, longest).await;
    let batch = shown_when(client, id, "the delivery of its callback", |batch| {
        batch["callback"]["state"] == "delivered"
    })
    .await;
    let event = format!("evt_{}", id.strip_prefix("bat_").unwrap());
    let mut reports = receiver.deliveries();
    reports.retain(|delivery| delivery.header("webhook-id") == event);
    assert_eq!(reports.len(), 1, "deliveries of {event}");
    reports[0].verify(SECRET);
    let report = reports[0].json();
    assert_eq!(report["type"], "batch.completed");
    let data = &report["data"];
    assert_eq!(data["batch_id"], id);
    for field in
        ["state", "counts", "reference", "created_at", "started_at", "completed_at", "metadata"]
    {
        assert_eq!(data[field], batch[field], "{field}");
    }
    assert_eq!(counts(data), counts(&batch));
    assert_eq!(states(&messages(client, id).await), counts(&batch));
    batch
}

/// From the event's timestamp to its delivery. The clocks were read together at the start.
pub(crate) fn latency(delivery: &Delivery, zero: Instant, now: UnixMs) -> Duration {
    let body: Value = delivery.json();
    let completed: jiff::Timestamp = body["timestamp"].as_str().unwrap().parse().unwrap();
    let since_start = UnixMs::from(completed).since(now);
    delivery.at.duration_since(zero).saturating_sub(since_start)
}
