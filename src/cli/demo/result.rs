//! What came of the demo's batch: shown, and held against what was to be expected.

use std::{fmt::Write, time::Instant};

use serde::Deserialize;

use super::{
    super::{listen::report::Report, table},
    recipients,
};
use crate::{
    api::model::{BatchResource, CountsView},
    domain::batch::CallbackState,
};

/// Everything there was to see.
pub(super) struct Seen {
    /// The batch, after its callback was taken.
    pub(super) batch: BatchResource,
    /// The first callback.
    pub(super) callback: Report,
    /// How many came after it.
    pub(super) further: usize,
    /// When the batch began to be posted.
    pub(super) begin: Instant,
    /// How many messages there were to be.
    pub(super) messages: u64,
}

/// What is looked at of a callback's body.
#[derive(Deserialize)]
struct Event {
    r#type: String,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    batch_id: String,
    counts: CountsView,
}

// === impl Seen ===

impl Seen {
    /// All of it, for people.
    pub(super) fn text(&self) -> String {
        // Writing to a string can't fail.
        let mut text = format!("\n{}\n", table::counts(&self.batch.counts));
        let _ = write!(text, "The callback, as it arrived:\n\n{}\n", self.callback.raw());
        let _ = writeln!(text, "signature: {}", self.callback.signature);
        let took = self.callback.arrived.saturating_duration_since(self.begin);
        let messages = table::counted(self.messages, "message");
        let took_words = table::duration(took);
        let _ = write!(text, "{messages} in {took_words}, from the POST to the callback");
        if self.messages > 0 {
            let rate = u128::from(self.messages) * 1_000_000 / took.as_micros().max(1);
            let rate = table::number(u64::try_from(rate).unwrap_or(u64::MAX));
            let _ = write!(text, ": {rate} messages/s");
        }
        text.push('\n');
        let completed = self.batch.completed_at.as_deref().unwrap_or_default();
        if let Some(after) = table::between(completed, &self.callback.at.to_string()) {
            let after = table::duration(after);
            let _ = writeln!(text, "The callback came {after} after the last message was final.");
        }
        text
    }

    /// What should have been seen and was not.
    pub(super) fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        let mut expect = |is_so: bool, otherwise: &str| {
            if !is_so {
                missing.push(otherwise.to_owned());
            }
        };
        let counts = &self.batch.counts;
        let sum: u64 = table::states(counts).iter().map(|(_, messages)| messages).sum();
        expect(sum == counts.total, "the counts do not add up to the total");
        expect(counts.total == self.messages, "the total is not the number of messages");
        let invalid = recipients::invalid(self.messages);
        expect(counts.failed == invalid, "other messages failed than were to");
        expect(counts.sent == self.messages - invalid, "not every message was sent");
        let callback = self.batch.callback.as_ref().map(|callback| callback.state);
        expect(callback == Some(CallbackState::Delivered), "the callback was not delivered");
        expect(self.further == 0, "more than one callback came");
        expect(self.callback.signature.holds(), "the callback's signature does not hold");
        let event = serde_json::from_slice::<Event>(&self.callback.body);
        let is_ours = event.is_ok_and(|Event { r#type, data }| {
            r#type == "batch.completed"
                && data.batch_id == self.batch.id.to_string()
                && table::states(&data.counts) == table::states(counts)
                && data.counts.total == counts.total
        });
        expect(is_ours, "the callback does not tell what the API tells");
        missing
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        app::receiving::{Refusal, UnixMs},
        cli::listen::report::Signature,
    };

    fn counts(sent: u64, failed: u64) -> Value {
        json!({"total": sent + failed, "queued": 0, "sending": 0, "sent": sent, "delivered": 0,
            "undelivered": 0, "failed": failed, "expired": 0, "canceled": 0, "unknown": 0})
    }

    fn batch(counts: &Value) -> Value {
        json!({"id": "bat_01M850VKVVFR222NAP7FS08R00", "state": "completed", "reference": "demo",
            "provider": "mock", "counts": counts, "created_at": "2026-11-23T20:16:46.971Z",
            "started_at": null, "completed_at": "2026-11-23T20:16:46.973Z", "metadata": {},
            "callback": {"url": "http://127.0.0.1:9/hooks/sms", "state": "delivered"}})
    }

    /// What is seen of three messages where all goes well.
    fn seen() -> Seen {
        let counts = counts(2, 1);
        let event = json!({"type": "batch.completed",
            "data": {"batch_id": "bat_01M850VKVVFR222NAP7FS08R00", "counts": counts}});
        let (head, ()) = Request::post("/hooks/sms").body(()).unwrap().into_parts();
        let signature = Signature::Holds { secret: 1, of: 1 };
        let (at, begin) = (UnixMs(1_795_465_006_976), Instant::now());
        let body = event.to_string().into();
        let callback = Report::new(at, begin, head, body, signature);
        let batch = serde_json::from_value(batch(&counts)).unwrap();
        Seen { batch, callback, further: 0, begin, messages: 3 }
    }

    #[test]
    fn nothing_is_missing_where_all_goes_well() {
        assert_eq!(seen().missing(), Vec::<String>::new());
        let text = seen().text();
        assert!(text.contains("The callback came 3ms after"), "{text}");
    }

    #[test]
    fn whatever_is_missing_is_named() {
        type Spoil = fn(&mut Seen);
        let cases: [(Spoil, &str); 8] = [
            (|seen| seen.batch.counts.queued = 1, "do not add up"),
            (|seen| seen.messages = 4, "the number of messages"),
            (|seen| seen.batch.counts.failed = 0, "other messages failed"),
            (|seen| seen.batch.counts.sent = 1, "not every message was sent"),
            (|seen| seen.batch.callback = None, "was not delivered"),
            (|seen| seen.further = 1, "more than one callback"),
            (|seen| seen.callback.signature = Signature::Fails(Refusal::Signature), "signature"),
            (|seen| seen.callback.body = "{}".into(), "does not tell what the API tells"),
        ];
        for (spoil, named) in cases {
            let mut seen = seen();
            spoil(&mut seen);
            let missing = seen.missing();
            assert!(missing.iter().any(|missing| missing.contains(named)), "{named}: {missing:?}");
        }
    }
}
