//! What goes over the wire: the JSON of requests and answers, for the server and its clients.
//!
//! Shapes only. They are also where the published `OpenAPI` document comes from, so every field's
//! description here is what users read there.

mod estimate;
mod event;
mod provider;
mod submit;
mod suppression;
mod webhook;

use std::num::NonZeroU8;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

pub use estimate::{Cost, Encodings, Estimate, Unsendable};
pub use event::{
    CallbackList, EventCallback, EventList, EventResource, EventType, ReplayCallbacks, ReplayState,
    ReplayedEvent, TestCallback, TestedCallback,
};
pub use provider::{BreakerState, ProviderList, ProviderResource, ProviderState, ReceiptsTaken};
pub use submit::{
    AmendBatch, BatchForm, CallbackAuth, Duplicates, Hidden, OnInvalid, QuietHours, RecipientInput,
    RecipientObject, RetryBatch, SubmitBatch, VariableValue,
};
pub use suppression::{InvalidLine, SuppressNumbers, Suppressed, Suppression, SuppressionList};
pub use webhook::{
    BatchEvent, BatchEventData, EventMessage, MessageEvent, MessageEventData, Ping, PingData,
};

pub use crate::domain::event::CountsView;
use crate::{
    domain::{
        batch::{Batch, BatchState, CallbackState, DeliveryGuarantee, Priority},
        encoding::Encoding,
        ids::{BatchId, MessageId},
        message::MessageState,
        outcome::SendError,
    },
    store::{AttemptRecord, AttemptsView, LateReceipt, MessageView},
};

/// A batch as it stands.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Batch)]
pub struct BatchResource {
    /// Its id.
    #[schema(value_type = String, example = "bat_01JX4T0V5Q8Z3M9K7B2C6D1E0F")]
    pub id: BatchId,
    /// Where it stands.
    pub state: BatchState,
    /// The batch some of whose recipients it tries again.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub parent: Option<BatchId>,
    /// The client's own name for it.
    pub reference: Option<String>,
    /// The provider its messages leave through.
    pub provider: String,
    /// How often it has a turn, beside others.
    #[serde(default)]
    pub priority: Priority,
    /// How many messages are in each state.
    pub counts: CountsView,
    /// How many recipients were left out, since the batch had their numbers already.
    #[serde(default)]
    pub duplicates_skipped: u64,
    /// When it was created.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it begins, if it is to wait for its time.
    #[serde(default)]
    #[schema(format = DateTime)]
    pub send_at: Option<String>,
    /// When what has not left may leave no more.
    #[serde(default)]
    #[schema(format = DateTime)]
    pub expire_at: Option<String>,
    /// What becomes of messages that may or may not have been accepted.
    #[serde(default)]
    pub delivery_guarantee: DeliveryGuarantee,
    /// How fast its messages may leave, as given.
    #[serde(default)]
    #[schema(example = "50/s")]
    pub rate: Option<String>,
    /// When none of them leaves, as given.
    #[serde(default)]
    pub quiet_hours: Option<QuietHours>,
    /// Whether typographic characters are replaced where that makes a text GSM-7.
    #[serde(default)]
    pub smart_encoding: bool,
    /// The most segments that a message may take, if there is a limit.
    #[serde(default)]
    pub max_segments: Option<u8>,
    /// When a worker first claimed a part of it.
    #[schema(format = DateTime)]
    pub started_at: Option<String>,
    /// When its last message became final.
    #[schema(format = DateTime)]
    pub completed_at: Option<String>,
    /// The client's own JSON, as given; an empty object if none was.
    #[schema(value_type = serde_json::Value)]
    pub metadata: Box<RawValue>,
    /// Where its completion is reported, and whether it was; null without a URL.
    pub callback: Option<CallbackResource>,
}

/// A batch's callback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Callback)]
pub struct CallbackResource {
    /// The URL as the client gave it.
    pub url: String,
    /// Where it stands.
    pub state: CallbackState,
}

/// A page of batches, newest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BatchList {
    /// The batches; a filtered page may be short, or even empty.
    pub batches: Vec<BatchResource>,
    /// What to ask for the next page with; null at the end.
    pub next_cursor: Option<String>,
}

/// A message as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Message)]
pub struct MessageResource {
    /// Its id: the batch's, a dot, and the index.
    pub id: String,
    /// Its place in the batch, from 0, in the order given.
    pub index: u32,
    /// The recipient as the client gave it.
    pub to: String,
    /// The client's own name for it.
    pub reference: Option<String>,
    /// Where it stands.
    pub state: MessageState,
    /// How many SMS parts its text takes (3GPP TS 23.038); null if it has no text that could be sent, or
    /// its number is not E.164.
    #[schema(example = 1)]
    pub segments: Option<u32>,
    /// How its text is encoded; null where `segments` is.
    #[serde(default)]
    pub encoding: Option<Encoding>,
    /// Tries used up.
    pub attempts: u8,
    /// The provider it leaves through: the batch's, or the fallback that stood in for it.
    pub provider: String,
    /// The provider's own name for it.
    pub provider_message_id: Option<String>,
    /// Why it was not accepted, or why its last try failed.
    pub error: Option<MessageError>,
    /// When it last changed.
    #[schema(format = DateTime)]
    pub updated_at: String,
    /// What the carrier said of it when it was final already; absent if nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_receipt: Option<LateReceiptResource>,
}

/// A receipt that came too late: the message's state and the batch's counts stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = LateReceipt)]
pub struct LateReceiptResource {
    /// `delivered` or `undelivered`.
    pub state: MessageState,
    /// When.
    #[schema(format = DateTime)]
    pub at: String,
    /// Why it was not delivered.
    pub error: Option<MessageError>,
}

/// Why a message was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MessageError {
    /// A stable word in `snake_case`.
    pub code: String,
    /// One sentence.
    pub detail: String,
    /// The provider's own code, if it gave one.
    pub provider_code: Option<String>,
    /// Whether another try with the same message is pointless.
    pub permanent: bool,
}

/// A page of messages, in order.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MessageList {
    /// The messages; a filtered page may be short, or even empty.
    pub messages: Vec<MessageResource>,
    /// What to ask for the next page with; null at the end.
    pub next_cursor: Option<String>,
}

/// The last 20 attempts at a batch's callback, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AttemptList {
    /// The attempts.
    pub attempts: Vec<AttemptResource>,
    /// When the next one is due; null once the callback has ended.
    #[schema(format = DateTime)]
    pub next_attempt_at: Option<String>,
}

/// One attempt at a callback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Attempt)]
pub struct AttemptResource {
    /// Its number, from 1.
    pub number: u32,
    /// When it began.
    #[schema(format = DateTime)]
    pub at: String,
    /// The receiver's HTTP status, if it answered.
    pub status: Option<u16>,
    /// How long the exchange took, in milliseconds.
    pub latency_ms: u64,
    /// The first 4 KiB of the answer's body.
    pub answer: Option<String>,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// An answer that says no (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// Always `about:blank`; the `code` tells problems apart.
    pub r#type: String,
    /// The HTTP status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong, in a sentence for people.
    pub detail: String,
    /// What is wrong, in a stable word for programs.
    pub code: String,
    /// Every field that is wrong, at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// How many recipients are invalid, where that is the problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid_count: Option<u64>,
}

/// One field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// Where in the request's JSON it is (RFC 6901); for a query parameter, `/` and its name.
    #[schema(example = "/recipients/17/variables/name")]
    pub pointer: String,
    /// What is wrong, in a stable word.
    pub code: String,
    /// What is wrong, in a sentence.
    pub detail: String,
}

/// The server's health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Always `ok`; anything else is a problem.
    pub status: String,
}

// === impl BatchResource ===

impl From<Batch> for BatchResource {
    fn from(batch: Batch) -> Self {
        let state = batch.callback;
        Self {
            id: batch.id,
            state: batch.state,
            parent: batch.spec.parent,
            priority: batch.spec.priority,
            counts: batch.counts.into(),
            duplicates_skipped: batch.skipped,
            created_at: batch.created_at().to_string(),
            send_at: batch.spec.send_at.map(|at| at.to_string()),
            expire_at: batch.spec.expire_at.map(|at| at.to_string()),
            delivery_guarantee: batch.spec.guarantee,
            rate: batch.spec.rate.map(|rate| rate.to_string()),
            quiet_hours: batch.spec.quiet_hours.map(QuietHours::from),
            smart_encoding: batch.spec.smart_encoding,
            max_segments: batch.spec.segments_max.map(NonZeroU8::get),
            started_at: batch.started_at.map(|at| at.to_string()),
            completed_at: batch.completed_at.map(|at| at.to_string()),
            reference: batch.spec.reference,
            provider: batch.spec.provider,
            metadata: raw_json(batch.spec.metadata),
            callback: batch.spec.callback.map(|spec| CallbackResource { url: spec.url, state }),
        }
    }
}

// === impl MessageResource ===

impl MessageResource {
    /// The message of `batch` that the store shows as `view`.
    #[must_use]
    pub fn new(batch: BatchId, provider: &str, view: MessageView) -> Self {
        Self {
            id: MessageId { batch, index: view.index }.to_string(),
            index: view.index,
            to: view.to,
            reference: view.reference,
            state: view.state,
            // A text has at most 16 KiB before its characters are replaced.
            segments: view.size.map(|size| u32::try_from(size.segments).unwrap_or(u32::MAX)),
            encoding: view.size.map(|size| size.encoding),
            attempts: view.attempts,
            provider: view.provider.unwrap_or_else(|| provider.to_owned()),
            provider_message_id: view.provider_message_id,
            error: view.error.map(MessageError::from),
            updated_at: view.updated_at.to_string(),
            late_receipt: view.late_receipt.map(LateReceiptResource::from),
        }
    }
}

// === impl LateReceiptResource ===

impl From<LateReceipt> for LateReceiptResource {
    fn from(receipt: LateReceipt) -> Self {
        Self {
            state: receipt.state.into(),
            at: receipt.at.to_string(),
            error: receipt.error.map(MessageError::from),
        }
    }
}

// === impl MessageError ===

impl From<SendError> for MessageError {
    fn from(error: SendError) -> Self {
        Self {
            code: error.code.into_owned(),
            detail: error.detail,
            provider_code: error.provider_code,
            permanent: error.permanent,
        }
    }
}

// === impl AttemptList ===

impl From<AttemptsView> for AttemptList {
    fn from(view: AttemptsView) -> Self {
        Self {
            attempts: view.attempts.into_iter().map(AttemptResource::from).collect(),
            next_attempt_at: view.next_attempt_at.map(|at| at.to_string()),
        }
    }
}

// === impl AttemptResource ===

impl From<AttemptRecord> for AttemptResource {
    fn from(record: AttemptRecord) -> Self {
        Self {
            number: record.number,
            at: record.at.to_string(),
            status: record.end.status,
            latency_ms: record.end.latency_ms,
            answer: record.end.answer,
            error: record.end.error,
        }
    }
}

/// A JSON text that was checked at intake, verbatim; an empty object in place of none.
fn raw_json(json: Option<String>) -> Box<RawValue> {
    let given = json.and_then(|json| RawValue::from_string(json).ok());
    given.unwrap_or_else(|| {
        RawValue::from_string("{}".into()).unwrap_or_else(|_| RawValue::NULL.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        batch::{BatchSpec, CallbackSpec, Counts},
        time::UnixMs,
    };

    fn batch(spec: BatchSpec) -> Batch {
        Batch {
            id: BatchId::new(UnixMs(1_790_000_000_000), 77 << 20, 0),
            spec,
            state: BatchState::Queued,
            counts: Counts { total: 2, ..Counts::default() },
            skipped: 0,
            started_at: None,
            completed_at: None,
            callback: CallbackState::Pending,
        }
    }

    #[test]
    fn metadata_is_shown_byte_for_byte_and_callback_headers_never() {
        let callback = CallbackSpec {
            url: "https://a.example/?x=1".into(),
            headers: vec![("x-token".into(), "hush".into())],
            ..CallbackSpec::default()
        };
        let metadata = Some("{\"n\": 1.10,  \"é\":[ ]}".to_owned());
        let spec = BatchSpec { callback: Some(callback), metadata, ..BatchSpec::default() };
        let json = serde_json::to_string(&BatchResource::from(batch(spec))).unwrap();
        assert!(json.contains("\"metadata\":{\"n\": 1.10,  \"é\":[ ]}"), "{json}");
        assert!(json.contains(r#""callback":{"url":"https://a.example/?x=1","state":"pending"}"#));
        assert!(!json.contains("hush"));
    }

    #[test]
    fn what_was_not_given_is_null_and_metadata_is_empty() {
        let json = serde_json::to_value(BatchResource::from(batch(BatchSpec::default()))).unwrap();
        assert_eq!(json["metadata"], serde_json::json!({}));
        for member in ["callback", "reference", "started_at", "completed_at"] {
            assert!(json[member].is_null(), "{member}");
        }
        assert_eq!(json["counts"]["queued"], 2);
    }
}
