//! Events: what callbacks say.
//!
//! An event is a frozen fact: its body is rendered once and stored, and every attempt and every
//! replay sends the stored bytes. It is a message, not a data transfer: below 8 KiB, since
//! reference, metadata and the public URL are bounded at intake. A batch has one completion event;
//! the others are made only if its client asked for them. `sequence` gives a batch's events their
//! order; the completion is the last but for those that tell of late receipts.

use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    batch::{Batch, Counts},
    ids::{BatchId, EventId, MessageId},
    message::{FinalState, MessageState},
    outcome::SendError,
    time::UnixMs,
};

/// The longest event body, in bytes.
pub const EVENT_BYTES_MAX: usize = 8 * 1024;

/// An event, as it was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its id, the same at every attempt.
    pub id: EventId,
    /// Its batch.
    pub batch: BatchId,
    /// Its place among the events of its batch, from 1.
    pub sequence: u32,
    /// When it came about.
    pub at: UnixMs,
    /// What came about.
    pub what: Occurrence,
}

/// What an event reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occurrence {
    /// Every message is final.
    Completed,
    /// Nothing is left to be submitted; these were the counts.
    Dispatched(Counts),
    /// These were the counts, on the way.
    Progress(Counts),
    /// The message with this index failed, or was not delivered.
    MessageFailed(u32),
    /// Receipts came after the batch was over.
    Amended(LateReceipts),
}

/// How many receipts came after a batch was over.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize, utoipa::ToSchema,
)]
pub struct LateReceipts {
    /// How often they were told of, from 1; each time of all that came so far.
    pub revision: u32,
    /// Those of them that said delivered.
    pub delivered: u64,
    /// Those that said not.
    pub undelivered: u64,
}

/// A message that failed or was not delivered, as its event tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedMessage {
    /// Which of the two.
    pub state: MessageState,
    /// The number as the client gave it.
    pub to: String,
    /// The client's own name for it.
    pub reference: Option<String>,
    /// Tries used up.
    pub attempts: u8,
    /// Why it failed.
    pub error: Option<SendError>,
}

/// Counts as clients read them: in batch resources and in events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct CountsView {
    /// All messages of the batch; the sum of the others.
    pub total: u64,
    /// Waiting for a worker, or for the next try.
    pub queued: u64,
    /// In a chunk that a worker holds.
    pub sending: u64,
    /// Accepted by the provider, which reports no more.
    pub sent: u64,
    /// Delivered by the carrier.
    pub delivered: u64,
    /// Refused by the carrier.
    pub undelivered: u64,
    /// Never left.
    pub failed: u64,
    /// Had not left by `expire_at`.
    pub expired: u64,
    /// Canceled before they left.
    pub canceled: u64,
    /// May have been accepted; that can't be known.
    pub unknown: u64,
}

#[derive(Serialize)]
struct Body<'a, D> {
    r#type: &'static str,
    #[serde(serialize_with = "UnixMs::rfc3339")]
    timestamp: UnixMs,
    data: &'a D,
}

#[derive(Serialize)]
struct BatchData<'a> {
    batch_id: BatchId,
    sequence: u32,
    /// Only of the batch's end: on the way it would be old news.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    reference: Option<&'a str>,
    counts: CountsView,
    created_at: String,
    started_at: Option<String>,
    completed_at: Option<String>,
    results_url: String,
    metadata: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    late_receipts: Option<LateReceipts>,
}

#[derive(Serialize)]
struct MessageData<'a> {
    batch_id: BatchId,
    sequence: u32,
    batch_reference: Option<&'a str>,
    message: MessageBody<'a>,
}

#[derive(Serialize)]
struct MessageBody<'a> {
    id: String,
    index: u32,
    to: &'a str,
    reference: Option<&'a str>,
    state: &'static str,
    attempts: u8,
    error: Option<ErrorBody<'a>>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: &'a str,
    detail: &'a str,
    provider_code: Option<&'a str>,
    permanent: bool,
}

/// The body of `event`, which belongs to `batch`; `failed` is the message it is about, if it is
/// about one. `public_url` is where clients reach the API.
#[must_use]
pub fn render(
    event: &Event,
    batch: &Batch,
    failed: Option<&FailedMessage>,
    public_url: &str,
) -> String {
    match event.what {
        Occurrence::Completed => {
            let end = (Some(batch.state.word()), batch.completed_at);
            body(event, &batch_data(event, batch, batch.counts, end, public_url))
        }
        Occurrence::Amended(late) => {
            let end = (Some(batch.state.word()), batch.completed_at);
            let data = batch_data(event, batch, batch.counts, end, public_url);
            body(event, &BatchData { late_receipts: Some(late), ..data })
        }
        Occurrence::Dispatched(counts) | Occurrence::Progress(counts) => {
            body(event, &batch_data(event, batch, counts, (None, None), public_url))
        }
        Occurrence::MessageFailed(index) => {
            body(event, &message_data(event, batch, index, failed.unwrap_or(&UNTOLD)))
        }
    }
}

/// What is told of a message whose record is not to be had any more.
const UNTOLD: FailedMessage = FailedMessage {
    state: MessageState::Failed,
    to: String::new(),
    reference: None,
    attempts: 0,
    error: None,
};

fn body(event: &Event, data: &impl Serialize) -> String {
    let body = Body { r#type: event.what.word(), timestamp: event.at, data };
    // Strings, numbers and a JSON text that was parsed at intake: nothing here can fail to render.
    serde_json::to_string(&body).unwrap_or_default()
}

fn batch_data<'a>(
    event: &Event,
    batch: &'a Batch,
    counts: Counts,
    (state, completed_at): (Option<&'static str>, Option<UnixMs>),
    public_url: &str,
) -> BatchData<'a> {
    let public_url = public_url.trim_end_matches('/');
    BatchData {
        batch_id: batch.id,
        sequence: event.sequence,
        state,
        reference: batch.spec.reference.as_deref(),
        counts: counts.into(),
        created_at: batch.created_at().to_string(),
        started_at: batch.started_at.map(|at| at.to_string()),
        completed_at: completed_at.map(|at| at.to_string()),
        results_url: format!("{public_url}/v1/batches/{}/messages", batch.id),
        metadata: serde_json::from_str(batch.spec.metadata.as_deref().unwrap_or("{}")).ok(),
        late_receipts: None,
    }
}

fn message_data<'a>(
    event: &Event,
    batch: &'a Batch,
    index: u32,
    failed: &'a FailedMessage,
) -> MessageData<'a> {
    MessageData {
        batch_id: batch.id,
        sequence: event.sequence,
        batch_reference: batch.spec.reference.as_deref(),
        message: MessageBody {
            id: MessageId { batch: batch.id, index }.to_string(),
            index,
            to: &failed.to,
            reference: failed.reference.as_deref(),
            state: failed.state.word(),
            attempts: failed.attempts,
            error: failed.error.as_ref().map(|error| ErrorBody {
                code: &error.code,
                detail: &error.detail,
                provider_code: error.provider_code.as_deref(),
                permanent: error.permanent,
            }),
        },
    }
}

// === impl Occurrence ===

impl Occurrence {
    /// The event's type, as receivers read it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Completed => "batch.completed",
            Self::Dispatched(_) => "batch.dispatched",
            Self::Progress(_) => "batch.progress",
            Self::MessageFailed(_) => "message.failed",
            Self::Amended(_) => "batch.amended",
        }
    }
}

// === impl CountsView ===

impl From<Counts> for CountsView {
    fn from(counts: Counts) -> Self {
        Self {
            total: counts.total,
            queued: counts.queued(),
            sending: counts.sending,
            sent: counts.ended[FinalState::Sent],
            delivered: counts.ended[FinalState::Delivered],
            undelivered: counts.ended[FinalState::Undelivered],
            failed: counts.ended[FinalState::Failed],
            expired: counts.ended[FinalState::Expired],
            canceled: counts.ended[FinalState::Canceled],
            unknown: counts.ended[FinalState::Unknown],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::batch::{BatchSpec, BatchState, CallbackState, FinalCounts};

    fn completed(reference: &str, metadata: &str) -> Batch {
        let mut ended = FinalCounts::default();
        ended.add(FinalState::Sent, 2);
        Batch {
            id: BatchId::new(UnixMs(1_790_000_000_000), 99 << 30, 0),
            spec: BatchSpec {
                reference: Some(reference.into()),
                metadata: Some(metadata.into()),
                ..BatchSpec::default()
            },
            state: BatchState::Completed,
            counts: Counts { total: 2, sending: 0, ended },
            skipped: 0,
            started_at: Some(UnixMs(1_790_000_000_010)),
            completed_at: Some(UnixMs(1_790_000_000_250)),
            callback: CallbackState::Pending,
        }
    }

    fn of(batch: &Batch, what: Occurrence) -> Event {
        let at = batch.completed_at.unwrap();
        Event { id: batch.id.event(), batch: batch.id, sequence: 1, at, what }
    }

    fn completion(batch: &Batch, public_url: &str) -> String {
        render(&of(batch, Occurrence::Completed), batch, None, public_url)
    }

    #[test]
    fn the_event_tells_the_frozen_batch() {
        let batch = completed("spring", r#"{"b": 1, "a": [1.10]}"#);
        let body = completion(&batch, "https://sms.example/");
        let event: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(event["type"], "batch.completed");
        assert_eq!(event["timestamp"], "2026-09-21T14:13:20.250Z");
        assert_eq!(event["data"]["counts"]["sent"], 2);
        assert_eq!(event["data"]["counts"]["total"], 2);
        assert_eq!(
            event["data"]["results_url"],
            format!("https://sms.example/v1/batches/{}/messages", batch.id)
        );
        assert!(body.contains(r#""metadata":{"b": 1, "a": [1.10]}"#), "{body}");
    }

    #[test]
    fn the_longest_event_stays_below_its_bound() {
        let reference = "\u{1}".repeat(256);
        let metadata = format!("\"{}\"", "x".repeat(4094));
        let url = format!("https://{}.example", "a".repeat(200));
        let batch = completed(&reference, &metadata);
        assert!(completion(&batch, &url).len() < EVENT_BYTES_MAX);
        let failed = FailedMessage {
            state: MessageState::Failed,
            to: "\u{1}".repeat(64),
            reference: Some(reference),
            attempts: 6,
            error: Some(SendError::permanent("provider_rejected", "x".repeat(500))),
        };
        let event = of(&batch, Occurrence::MessageFailed(7));
        assert!(render(&event, &batch, Some(&failed), &url).len() < EVENT_BYTES_MAX);
    }

    #[test]
    fn what_happens_on_the_way_is_told_with_the_counts_of_its_moment() {
        let batch = completed("spring", "{}");
        let counts = Counts { total: 2, sending: 1, ended: FinalCounts::default() };
        let body = render(&of(&batch, Occurrence::Progress(counts)), &batch, None, "http://a");
        let event: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(event["type"], "batch.progress");
        assert_eq!(event["data"]["sequence"], 1);
        assert_eq!(event["data"]["counts"]["sending"], 1);
        assert_eq!(event["data"]["counts"]["sent"], 0);
        assert!(event["data"]["completed_at"].is_null() && event["data"].get("state").is_none());
    }

    #[test]
    fn a_failed_message_is_told_with_its_error() {
        let batch = completed("spring", "{}");
        let error =
            SendError::permanent("invalid_number", "no such number").with_provider_code("9");
        let failed = FailedMessage {
            state: MessageState::Failed,
            to: "+15551230001".into(),
            reference: Some("user-42".into()),
            attempts: 1,
            error: Some(error),
        };
        let event = of(&batch, Occurrence::MessageFailed(1));
        let body = render(&event, &batch, Some(&failed), "http://a");
        let event: serde_json::Value = serde_json::from_str(&body).unwrap();
        let message = &event["data"]["message"];
        assert_eq!(message["id"], format!("{}.1", batch.id));
        assert_eq!(message["error"]["provider_code"], "9");
        assert_eq!(event["data"]["batch_reference"], "spring");
    }
}
