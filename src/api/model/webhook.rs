//! The bodies of callbacks, as receivers read them.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{CountsView, EventType, MessageError};
use crate::domain::{batch::BatchState, event::LateReceipts, ids::BatchId, message::MessageState};

/// A callback about a batch: `batch.completed`, `batch.dispatched`, `batch.progress` or `batch.amended`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BatchEvent {
    /// What it reports.
    pub r#type: EventType,
    /// When the event came about.
    #[schema(format = DateTime)]
    pub timestamp: String,
    /// The batch, as it stood then.
    pub data: BatchEventData,
}

/// A batch as an event tells it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BatchEventData {
    /// The batch.
    #[schema(value_type = String, example = "bat_01JX4T0V5Q8Z3M9K7B2C6D1E0F")]
    pub batch_id: BatchId,
    /// The event's place among those of its batch, from 1; after the completion come only those about late
    /// receipts.
    pub sequence: u32,
    /// `completed` or `canceled`; only in `batch.completed` and `batch.amended`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<BatchState>,
    /// The client's own name for the batch.
    pub reference: Option<String>,
    /// How many messages were in each state.
    pub counts: CountsView,
    /// When the batch was created.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When a worker first claimed a part of it.
    #[schema(format = DateTime)]
    pub started_at: Option<String>,
    /// When its last message became final; null before.
    #[schema(format = DateTime)]
    pub completed_at: Option<String>,
    /// Where its messages are listed.
    pub results_url: String,
    /// The client's own JSON, as given.
    #[schema(value_type = serde_json::Value)]
    pub metadata: Box<RawValue>,
    /// Receipts that came after the batch was over; only in `batch.amended`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_receipts: Option<LateReceipts>,
}

/// A callback about a message that failed or was not delivered: `message.failed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MessageEvent {
    /// Always `message.failed`.
    pub r#type: EventType,
    /// When the event came about.
    #[schema(format = DateTime)]
    pub timestamp: String,
    /// The message.
    pub data: MessageEventData,
}

/// A message as an event tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MessageEventData {
    /// Its batch.
    #[schema(value_type = String, example = "bat_01JX4T0V5Q8Z3M9K7B2C6D1E0F")]
    pub batch_id: BatchId,
    /// The event's place among those of its batch, from 1.
    pub sequence: u32,
    /// The client's own name for the batch.
    pub batch_reference: Option<String>,
    /// The message.
    pub message: EventMessage,
}

/// A message that failed or was not delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventMessage {
    /// Its id: the batch's, a dot, and the index.
    pub id: String,
    /// Its place in the batch, from 0, in the order given.
    pub index: u32,
    /// The recipient as the client gave it.
    pub to: String,
    /// The client's own name for it.
    pub reference: Option<String>,
    /// `failed` or `undelivered`.
    pub state: MessageState,
    /// Tries used up.
    pub attempts: u8,
    /// Why it failed.
    pub error: Option<MessageError>,
}

/// A ping: it says nothing but hello, and wants a 2xx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ping {
    /// Always `webhook.ping`.
    #[schema(example = "webhook.ping")]
    pub r#type: String,
    /// When it was made.
    #[schema(format = DateTime)]
    pub timestamp: String,
    /// Always empty.
    pub data: PingData,
}

/// Nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PingData {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        batch::{Batch, BatchSpec, CallbackState, Counts},
        event::{Event, FailedMessage, Occurrence, render},
        outcome::SendError,
        time::UnixMs,
    };

    /// What is rendered of `what`.
    fn body(what: Occurrence) -> String {
        let (id, at) =
            (BatchId::new(UnixMs(1_790_000_000_000), 77 << 20, 0), UnixMs(1_790_000_000_250));
        let batch = Batch {
            id,
            spec: BatchSpec { reference: Some("spring".into()), ..BatchSpec::default() },
            state: BatchState::Completed,
            counts: Counts { total: 1, ..Counts::default() },
            skipped: 0,
            started_at: Some(at),
            completed_at: Some(at),
            callback: CallbackState::Pending,
        };
        let event = Event { id: id.event(), batch: id, sequence: 2, at, what };
        let error = Some(SendError::permanent("invalid_number", "no such number"));
        let failed = FailedMessage {
            state: MessageState::Failed,
            to: "12".into(),
            reference: None,
            attempts: 1,
            error,
        };
        render(&event, &batch, Some(&failed), "https://sms.example")
    }

    #[test]
    fn every_body_reads_as_its_type_with_nothing_left_over() {
        let counts = Counts { total: 1, ..Counts::default() };
        for what in [
            Occurrence::Completed,
            Occurrence::Dispatched(counts),
            Occurrence::Progress(counts),
            Occurrence::Amended(LateReceipts { revision: 2, delivered: 3, undelivered: 4 }),
        ] {
            let text = body(what);
            let read: BatchEvent = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
        let text = body(Occurrence::MessageFailed(7));
        let read: MessageEvent = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        let ping = r#"{"type":"webhook.ping","timestamp":"2026-11-23T20:16:46.971Z","data":{}}"#;
        let read: Ping = serde_json::from_str(ping).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), ping);
    }
}
