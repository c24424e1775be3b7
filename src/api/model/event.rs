//! Events and their callbacks: where they stand, what they say, and having them delivered again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::Hidden;
use crate::{
    domain::{
        batch::CallbackState,
        event::Occurrence,
        ids::{BatchId, EventId},
    },
    store::{AttemptEnd, EventView, ReplayOrder},
};

/// What an event reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum EventType {
    /// Every message is final: the last event of its batch, and always there.
    #[serde(rename = "batch.completed")]
    BatchCompleted,
    /// Nothing is left to be submitted; receipts may be open.
    #[serde(rename = "batch.dispatched")]
    BatchDispatched,
    /// More messages are final.
    #[serde(rename = "batch.progress")]
    BatchProgress,
    /// A message failed after its batch was accepted, or was not delivered.
    #[serde(rename = "message.failed")]
    MessageFailed,
    /// Receipts came after the batch was over.
    #[serde(rename = "batch.amended")]
    BatchAmended,
}

/// An event, and where its callback stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventCallback {
    /// The event's id, the `webhook-id` of each attempt.
    #[schema(value_type = String, example = "evt_01JX4T0V5Q8Z3M9K7B2C6D1E0F")]
    pub id: EventId,
    /// What it reports.
    pub r#type: EventType,
    /// Its batch.
    #[schema(value_type = String, example = "bat_01JX4T0V5Q8Z3M9K7B2C6D1E0F")]
    pub batch_id: BatchId,
    /// The client's own name for the batch.
    pub batch_reference: Option<String>,
    /// Its place among the events of its batch, from 1.
    pub sequence: u32,
    /// The receiver's host and port; never the URL, whose query may be a secret.
    #[schema(example = "example.com:443")]
    pub host: String,
    /// Where it stands.
    pub state: CallbackState,
    /// How many attempts were begun.
    pub attempts: u32,
    /// When the next one is due; null once it has ended, and while one is under way.
    #[schema(format = DateTime)]
    pub next_attempt_at: Option<String>,
    /// When the event came about.
    #[schema(format = DateTime)]
    pub created_at: String,
}

/// A page of events and where their callbacks stand, newest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CallbackList {
    /// The events; a filtered page may be short, or even empty.
    pub callbacks: Vec<EventCallback>,
    /// What to ask for the next page with; null at the end.
    pub next_cursor: Option<String>,
}

/// An event, with what is or was delivered.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Event)]
pub struct EventResource {
    /// Its id, the `webhook-id` of its callback.
    #[schema(value_type = String, example = "evt_01JX4T0V5Q8Z3M9K7B2C6D1E0F")]
    pub id: EventId,
    /// What it reports.
    pub r#type: EventType,
    /// Its place among the events of its batch, from 1.
    pub sequence: u32,
    /// Its batch.
    #[schema(value_type = String, example = "bat_01JX4T0V5Q8Z3M9K7B2C6D1E0F")]
    pub batch_id: BatchId,
    /// Where its callback stands.
    pub state: CallbackState,
    /// When it came about.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// The callback's body, byte for byte.
    #[schema(value_type = serde_json::Value)]
    pub payload: Box<RawValue>,
}

/// A page of the feed, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EventList {
    /// The events.
    pub events: Vec<EventResource>,
    /// The last one's id, to ask on with; null at the end.
    #[schema(example = "evt_01JX4T0V5Q8Z3M9K7B2C6D1E0F")]
    pub next_cursor: Option<String>,
}

/// A completion event that will be delivered again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplayedEvent {
    /// The event's id, the same as ever.
    #[schema(value_type = String, example = "evt_01JX4T0V5Q8Z3M9K7B2C6D1E0F")]
    pub id: EventId,
    /// Its batch.
    #[schema(value_type = String, example = "bat_01JX4T0V5Q8Z3M9K7B2C6D1E0F")]
    pub batch_id: BatchId,
    /// Always `pending`.
    pub state: CallbackState,
}

/// Which events are to be delivered again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayCallbacks {
    /// Those that ended at this instant or later, and before the order.
    #[schema(format = DateTime, example = "2026-12-01T09:00:00Z")]
    pub since: String,
    /// Those that ended in this state.
    #[serde(default)]
    pub state: ReplayState,
    /// Those to this host, with its port (`example.com:443`) or whatever the port (`example.com`).
    #[serde(default)]
    pub host: Option<String>,
}

/// A state that events can be brought back from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplayState {
    /// The schedule is used up.
    #[default]
    Exhausted,
    /// The receiver answered 410.
    Gone,
    /// The receiver answered 2xx.
    Delivered,
}

/// Where a signed ping is to be sent, to try a receiver out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TestCallback {
    /// The URL, by the rules of `callback_url`.
    #[schema(example = "https://example.com/hooks/sms")]
    pub url: String,
    /// Headers to send it with, by the rules of `callback_headers`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, String>)]
    pub headers: BTreeMap<String, Hidden>,
    /// The secret to sign with, `whsec_` and base64; else those of the account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(write_only, value_type = Option<String>)]
    pub secret: Option<Hidden>,
}

/// What a ping came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TestedCallback {
    /// The receiver's host and port.
    #[schema(example = "example.com:443")]
    pub url_host: String,
    /// The receiver's HTTP status, if it answered.
    pub status: Option<u16>,
    /// How long the exchange took, in milliseconds.
    pub latency_ms: u64,
    /// The first 4 KiB of the answer's body.
    pub answer: Option<String>,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// Whether a callback would count as delivered: the answer was 2xx.
    pub delivered: bool,
}

// === impl EventType ===

impl EventType {
    /// The word that receivers read.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::BatchCompleted => "batch.completed",
            Self::BatchDispatched => "batch.dispatched",
            Self::BatchProgress => "batch.progress",
            Self::MessageFailed => "message.failed",
            Self::BatchAmended => "batch.amended",
        }
    }
}

impl From<Occurrence> for EventType {
    fn from(what: Occurrence) -> Self {
        match what {
            Occurrence::Completed => Self::BatchCompleted,
            Occurrence::Dispatched(_) => Self::BatchDispatched,
            Occurrence::Progress(_) => Self::BatchProgress,
            Occurrence::MessageFailed(_) => Self::MessageFailed,
            Occurrence::Amended(_) => Self::BatchAmended,
        }
    }
}

// === impl EventCallback ===

impl From<EventView> for EventCallback {
    fn from(view: EventView) -> Self {
        let spec = view.batch.spec;
        Self {
            id: view.event.id,
            r#type: view.event.what.into(),
            batch_id: view.event.batch,
            batch_reference: spec.reference,
            sequence: view.event.sequence,
            host: spec.callback.map(|callback| callback.host).unwrap_or_default(),
            state: view.state,
            attempts: view.attempts,
            next_attempt_at: view.next_attempt_at.map(|at| at.to_string()),
            created_at: view.event.at.to_string(),
        }
    }
}

// === impl EventResource ===

impl EventResource {
    /// The event that the store shows as `view`, with its body.
    #[must_use]
    pub fn new(view: &EventView, payload: Box<RawValue>) -> Self {
        Self {
            id: view.event.id,
            r#type: view.event.what.into(),
            sequence: view.event.sequence,
            batch_id: view.event.batch,
            state: view.state,
            created_at: view.event.at.to_string(),
            payload,
        }
    }
}

// === impl ReplayCallbacks ===

impl From<ReplayOrder> for ReplayCallbacks {
    fn from(order: ReplayOrder) -> Self {
        let state = match order.state {
            CallbackState::Gone => ReplayState::Gone,
            CallbackState::Delivered => ReplayState::Delivered,
            CallbackState::Exhausted | CallbackState::Pending | CallbackState::Skipped => {
                ReplayState::Exhausted
            }
        };
        Self { since: order.since.to_string(), state, host: order.host }
    }
}

// === impl ReplayState ===

impl From<ReplayState> for CallbackState {
    fn from(state: ReplayState) -> Self {
        match state {
            ReplayState::Exhausted => Self::Exhausted,
            ReplayState::Gone => Self::Gone,
            ReplayState::Delivered => Self::Delivered,
        }
    }
}

// === impl TestedCallback ===

impl TestedCallback {
    /// What a ping to `url_host` came to.
    #[must_use]
    pub fn new(url_host: String, end: AttemptEnd) -> Self {
        let AttemptEnd { status, latency_ms, answer, error } = end;
        let delivered = status.is_some_and(|status| (200..300).contains(&status));
        Self { url_host, status, latency_ms, answer, error, delivered }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        batch::{Batch, BatchSpec, BatchState, CallbackSpec, Counts},
        event::{Event, LateReceipts},
        time::UnixMs,
    };

    #[test]
    fn where_a_callback_stands_is_told_without_its_secrets() {
        let id = BatchId::new(UnixMs(1_790_000_000_000), 77 << 20, 0);
        let callback = CallbackSpec {
            url: "https://a.example/?token=hush".into(),
            host: "a.example:443".into(),
            headers: vec![("x-token".into(), "hush".into())],
            secret: Some("whsec_hush".into()),
            ..CallbackSpec::default()
        };
        let spec = BatchSpec { callback: Some(callback), ..BatchSpec::default() };
        let batch = Batch {
            id,
            spec,
            state: BatchState::Completed,
            counts: Counts::default(),
            skipped: 0,
            started_at: None,
            completed_at: Some(UnixMs(1_790_000_000_250)),
            callback: CallbackState::Pending,
        };
        let at = UnixMs(1_790_000_000_250);
        let event =
            Event { id: id.event(), batch: id, sequence: 1, at, what: Occurrence::Completed };
        let (state, body) = (CallbackState::Pending, None);
        let view = EventView { event, batch, state, attempts: 2, next_attempt_at: Some(at), body };
        let json = serde_json::to_string(&EventCallback::from(view)).unwrap();
        assert!(json.contains(r#""type":"batch.completed","batch_id":"bat_"#), "{json}");
        assert!(
            json.contains(r#""host":"a.example:443","state":"pending","attempts":2"#),
            "{json}"
        );
        assert!(!json.contains("hush"), "{json}");
    }

    #[test]
    fn an_events_word_is_the_one_in_its_body() {
        for what in [
            Occurrence::Completed,
            Occurrence::Dispatched(Counts::default()),
            Occurrence::Progress(Counts::default()),
            Occurrence::MessageFailed(0),
            Occurrence::Amended(LateReceipts::default()),
        ] {
            let kind = EventType::from(what);
            assert_eq!(kind.word(), what.word());
            assert_eq!(serde_json::to_value(kind).unwrap(), what.word());
        }
    }

    #[test]
    fn secrets_are_sent_and_never_printed() {
        let test = TestCallback {
            url: "https://a.example".into(),
            headers: [("x-token".to_owned(), Hidden("hush".into()))].into(),
            secret: Some(Hidden("whsec_hush".into())),
        };
        assert!(!format!("{test:?}").contains("hush"));
        assert_eq!(serde_json::to_string(&test).unwrap().matches("hush").count(), 2);
    }
}
