//! The oracle: compares the books of provider and receiver with what was accepted and with what the
//! API tells.
//!
//! Whatever was done to the service, this must come out (the numbers are those of ARCHITECTURE.md):
//!
//! - every accepted message is final, once (I1, I2), and the counts in the API, in the callback and
//!   in the list of messages are the same and sum up (I5);
//! - what counts as sent is in the provider's book, under its own id as idempotency key, with the
//!   same text at each call; nothing else is in it (I7);
//! - each batch has one event: same id, same bytes, well signed, made when all was final (I3, I4);
//! - calls for a message after one that was, or may have been, accepted are within the row's
//!   bound (I6).

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    harness::{Call, Client, Delivery, Fate, PATIENCE, Provider, Receiver, Reply, eventually},
    scene::{SECRET, counts},
};

/// How long a batch may take on a busy machine.
pub(crate) const LONG: Duration = Duration::from_mins(2);

/// The messages of larger batches are not listed, which takes a debug build too long.
const LISTED_MAX: u64 = 100_000;

/// Where the books are.
pub(crate) struct Books<'a> {
    pub(crate) client: &'a Client,
    pub(crate) providers: &'a [&'a Provider],
    pub(crate) receiver: &'a Receiver,
}

/// What the faults may have brought about.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bounds {
    /// Calls for a message after one that was accepted.
    pub(crate) repeats: u32,
    /// Calls for a message after one that was taken in and not answered.
    pub(crate) retries: u32,
    /// Deliveries of an event after one that was answered with 2xx.
    pub(crate) reports: u32,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) messages: u64,
    /// Final states over all batches.
    pub(crate) states: BTreeMap<String, u64>,
    /// Accepted messages that the provider should have, and has not.
    pub(crate) lost: u64,
    pub(crate) repeats: u32,
    pub(crate) retries: u32,
    pub(crate) bounds: Bounds,
    pub(crate) batches: usize,
    pub(crate) deliveries: usize,
}

/// What the provider was asked.
#[derive(Default)]
struct Called {
    /// When each message was first taken in.
    first: HashMap<String, Instant>,
    /// The last of these times of each batch.
    last: HashMap<String, Instant>,
    repeats: u32,
    retries: u32,
}

// === impl Books ===

impl Books<'_> {
    /// Waits for the end of the accepted batches, and compares. `accepted` is each batch's id and
    /// how many messages it has.
    pub(crate) async fn compare(&self, accepted: &[(String, u64)], bounds: Bounds) -> Found {
        let mut ended = Vec::new();
        for (id, total) in accepted {
            let batch = self.ended(id).await;
            assert_eq!(batch["counts"]["total"], *total, "{id}");
            ended.push(batch);
        }
        let called = self.called(accepted);
        let mut found =
            Found { batches: ended.len(), bounds, repeats: called.repeats, ..Found::default() };
        found.retries = called.retries;
        for batch in &ended {
            self.check_messages(batch, &called, &mut found).await;
        }
        self.check_reports(&ended, &called, &mut found);
        assert_eq!(found.lost, 0, "{found:?}");
        assert!(found.repeats <= bounds.repeats, "{found:?}");
        assert!(found.retries <= bounds.retries, "{found:?}");
        found
    }

    /// The batch, once it is over and its callback delivered.
    async fn ended(&self, id: &str) -> Value {
        self.client.wait_until_complete(id, LONG).await;
        eventually(&format!("the callback of {id}"), PATIENCE, async || {
            let answer = self.client.try_get(&format!("/v1/batches/{id}")).await?;
            let batch = (answer.status == 200).then(|| answer.json())?;
            let is_over = batch["callback"].is_null() || batch["callback"]["state"] == "delivered";
            is_over.then_some(batch)
        })
        .await
    }

    fn called(&self, accepted: &[(String, u64)]) -> Called {
        let totals: HashMap<&str, u64> =
            accepted.iter().map(|(id, total)| (id.as_str(), *total)).collect();
        let mut calls: Vec<Call> =
            self.providers.iter().flat_map(|provider| provider.calls()).collect();
        calls.sort_by_key(|call| call.at);
        let mut called = Called::default();
        let mut known: HashMap<String, (Option<Fate>, String, String)> = HashMap::new();
        for call in calls {
            assert_eq!(call.idempotency_key, call.message_id);
            let (id, index) = call.message_id.rsplit_once('.').expect("an index");
            let total = totals.get(id).unwrap_or_else(|| panic!("{id} was not accepted"));
            assert!(index.parse::<u64>().unwrap() < *total, "{}", call.message_id);
            let (fate, to, body) = known
                .entry(call.message_id.clone())
                .or_insert_with(|| (None, call.to.clone(), call.body.clone()));
            assert_eq!((&*to, &*body), (&call.to, &call.body), "{}", call.message_id);
            match fate {
                Some(Fate::Accepted) => called.repeats += 1,
                Some(Fate::Silence) => called.retries += 1,
                _ => {}
            }
            if call.fate != Fate::Refused && !called.first.contains_key(&call.message_id) {
                called.last.insert(id.to_owned(), call.at);
                called.first.insert(call.message_id.clone(), call.at);
            }
            match (&fate, call.fate) {
                (Some(Fate::Accepted), _) | (Some(Fate::Silence), Fate::Refused) => {}
                (_, new) => *fate = Some(new),
            }
        }
        called
    }

    async fn check_messages(&self, batch: &Value, called: &Called, found: &mut Found) {
        let id = batch["id"].as_str().unwrap();
        let counted = counts(batch);
        if counted.values().sum::<u64>() <= LISTED_MAX {
            let states = self.listed(id, called, found).await;
            assert_eq!(states, counted, "{id}");
        }
        for (state, messages) in counted {
            found.messages += messages;
            *found.states.entry(state).or_default() += messages;
        }
    }

    /// How many messages are listed in which state.
    async fn listed(&self, id: &str, called: &Called, found: &mut Found) -> BTreeMap<String, u64> {
        let path = format!("/v1/batches/{id}/messages");
        let listed = self.client.get_with(&path, &[("accept", "application/x-ndjson")]).await;
        let mut states: BTreeMap<String, u64> = BTreeMap::new();
        for line in listed.text.lines() {
            let message: Value = serde_json::from_str(line).unwrap();
            let state = message["state"].as_str().unwrap();
            let left = ["sent", "delivered", "undelivered"].contains(&state);
            if left && !called.first.contains_key(message["id"].as_str().unwrap()) {
                found.lost += 1;
            }
            *states.entry(state.to_owned()).or_default() += 1;
        }
        states
    }

    fn check_reports(&self, ended: &[Value], called: &Called, found: &mut Found) {
        let mut events: HashMap<String, Vec<Delivery>> = HashMap::new();
        for delivery in self.receiver.deliveries() {
            found.deliveries += 1;
            delivery.verify(SECRET);
            events.entry(delivery.header("webhook-id").to_owned()).or_default().push(delivery);
        }
        let mut again = 0;
        for batch in ended.iter().filter(|batch| !batch["callback"].is_null()) {
            let id = batch["id"].as_str().unwrap();
            let event = format!("evt_{}", id.strip_prefix("bat_").unwrap());
            let deliveries = events.remove(&event).unwrap_or_else(|| panic!("no {event}"));
            let first = &deliveries[0];
            let data = &first.json()["data"];
            for field in ["state", "counts", "created_at", "started_at", "completed_at"] {
                assert_eq!(data[field], batch[field], "{event}: {field}");
            }
            assert_eq!(data["batch_id"], id);
            for delivery in &deliveries {
                assert_eq!(delivery.body, first.body, "{event}");
            }
            let taken = deliveries.iter().position(|delivery| delivery.reply == Reply::Status(200));
            let taken = taken.unwrap_or_else(|| panic!("{event} was never taken"));
            again += u32::try_from(deliveries.len() - taken - 1).unwrap();
            let last = called.last.get(id);
            assert!(last.is_none_or(|last| *last <= first.at), "{event} came too early");
        }
        let strangers: Vec<_> = events.keys().collect();
        assert!(strangers.is_empty(), "events of nothing that was accepted: {strangers:?}");
        assert!(again <= found.bounds.reports, "{again} deliveries of what was taken");
    }
}

// === impl Found ===

impl Found {
    /// Fails the test unless every message was sent.
    pub(crate) fn all_sent(&self) {
        assert_eq!(self.states.get("sent").copied().unwrap_or_default(), self.messages, "{self:?}");
    }

    /// What a row without messages has found.
    pub(crate) fn reports(batches: usize, deliveries: usize) -> Self {
        Self { batches, deliveries, ..Self::default() }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} | {} | {} (≤ {})",
            self.messages, self.lost, self.repeats, self.bounds.repeats
        )?;
        if self.retries > 0 {
            write!(f, " + {} without an answer", self.retries)?;
        }
        write!(f, " | {} for {}", self.deliveries, self.batches)
    }
}
