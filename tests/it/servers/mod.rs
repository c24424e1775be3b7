//! Redis as people run it: over TLS and with users, as a cluster, and with sentinels.

mod cluster;
mod sentinels;
mod tls;

use std::{collections::BTreeSet, time::Instant};

use serde_json::Value;

use crate::{
    harness::{Client, PATIENCE, Provider, Receiver},
    scene::{accepted, batch, counts, numbers, shown_when, these, with_callback},
};

/// The most open exchanges of a worker; it has twice as many slots, which a lost lease may repeat.
const IN_FLIGHT: u32 = 64;

/// Batches under way, and the books of those who know what became of them.
struct Load {
    client: Client,
    provider: Provider,
    receiver: Receiver,
    /// The batches that were answered 202.
    ids: Vec<String>,
    /// The messages in each.
    messages: usize,
}

/// What the books say at the end.
struct Books {
    batches: usize,
    messages: usize,
    repeats: usize,
    callbacks: usize,
}

// === impl Load ===

impl Load {
    /// Has so many batches of so many messages accepted.
    async fn accepted(
        client: Client,
        provider: Provider,
        receiver: Receiver,
        batches: usize,
        messages: usize,
    ) -> Self {
        let recipients = Value::from(numbers(0..messages));
        let mut ids = Vec::with_capacity(batches);
        for _ in 0..batches {
            let batch = with_callback(batch(recipients.clone()), &receiver);
            ids.push(accepted(&client, &batch).await);
        }
        Self { client, provider, receiver, ids, messages }
    }

    /// How many partitions the batches lie in: the last two characters of an id name one.
    fn partitions(&self) -> usize {
        self.ids.iter().map(|id| &id[id.len() - 2..]).collect::<BTreeSet<_>>().len()
    }

    /// Waits until every batch has ended and its callback was taken. Everything must have been sent,
    /// the provider must have seen each message, and there must be one callback to a batch.
    async fn ended(&self) -> Books {
        let total = self.messages as u64;
        for id in &self.ids {
            self.client.wait_until_complete(id, PATIENCE * 4).await;
            let over = shown_when(&self.client, id, "the delivery of its callback", |batch| {
                batch["callback"]["state"] == "delivered"
            })
            .await;
            assert_eq!(counts(&over), these([("sent", total)]), "{id}");
        }
        let taken_in = self.provider.taken_in();
        for id in &self.ids {
            let lost = (0..total).find(|index| !taken_in.contains_key(&format!("{id}.{index}")));
            assert_eq!(lost, None, "a message of {id} that the provider never saw");
        }
        assert_eq!(taken_in.len(), self.ids.len() * self.messages, "messages that nobody posted");
        let deliveries = self.receiver.deliveries();
        let told: BTreeSet<_> =
            deliveries.iter().map(|delivery| delivery.header("webhook-id").to_owned()).collect();
        let events = self.ids.iter().map(|id| id.replace("bat_", "evt_")).collect();
        assert_eq!(told, events);
        for delivery in &deliveries {
            assert_eq!(counts(&delivery.json()["data"]), these([("sent", total)]));
        }
        Books {
            batches: self.ids.len(),
            messages: taken_in.len(),
            repeats: taken_in.values().map(|times| *times as usize - 1).sum(),
            callbacks: deliveries.len(),
        }
    }
}

// === impl Books ===

impl Books {
    /// Prints what held, and checks it.
    fn check(&self, what: &str, began: Instant) {
        let Self { batches, messages, repeats, callbacks } = self;
        let bound = 2 * IN_FLIGHT as usize;
        eprintln!(
            "{what}: {batches} batches of {messages} messages ended, all sent; {repeats} repeats, at \
             most {bound} allowed; {callbacks} callbacks; {:.1} s",
            began.elapsed().as_secs_f64()
        );
        assert!(*repeats <= bound, "{repeats} repeats");
        assert_eq!(callbacks, batches);
    }
}
