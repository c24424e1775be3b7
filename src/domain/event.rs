//! The completion event: what the callback says.
//!
//! It is rendered once, from a batch whose last message is final, and stored; every attempt and
//! every replay sends the stored bytes. It is a message, not a data transfer: below 8 KiB, since
//! reference, metadata and the public URL are bounded at intake.

use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    batch::{Batch, Counts},
    ids::BatchId,
    message::FinalState,
    time::UnixMs,
};

/// The longest event body, in bytes.
pub const EVENT_BYTES_MAX: usize = 8 * 1024;

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
struct Completed<'a> {
    r#type: &'static str,
    #[serde(serialize_with = "UnixMs::rfc3339")]
    timestamp: UnixMs,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    batch_id: BatchId,
    state: &'static str,
    reference: Option<&'a str>,
    counts: CountsView,
    created_at: String,
    started_at: Option<String>,
    completed_at: Option<String>,
    results_url: String,
    metadata: Option<&'a RawValue>,
}

/// The body of the completion event of `batch`, every message of which is final. `public_url` is
/// where clients reach the API.
#[must_use]
pub fn render(batch: &Batch, public_url: &str) -> String {
    let metadata = batch.spec.metadata.as_deref().unwrap_or("{}");
    let event = Completed {
        r#type: "batch.completed",
        timestamp: batch.completed_at.unwrap_or_default(),
        data: Data {
            batch_id: batch.id,
            state: batch.state.word(),
            reference: batch.spec.reference.as_deref(),
            counts: batch.counts.into(),
            created_at: batch.created_at().to_string(),
            started_at: batch.started_at.map(|at| at.to_string()),
            completed_at: batch.completed_at.map(|at| at.to_string()),
            results_url: format!(
                "{}/v1/batches/{}/messages",
                public_url.trim_end_matches('/'),
                batch.id
            ),
            metadata: serde_json::from_str(metadata).ok(),
        },
    };
    // Strings, numbers and a JSON text that was parsed at intake: nothing here can fail to render.
    serde_json::to_string(&event).unwrap_or_default()
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
            started_at: Some(UnixMs(1_790_000_000_010)),
            completed_at: Some(UnixMs(1_790_000_000_250)),
            callback: CallbackState::Pending,
        }
    }

    #[test]
    fn the_event_tells_the_frozen_batch() {
        let batch = completed("spring", r#"{"b": 1, "a": [1.10]}"#);
        let body = render(&batch, "https://sms.example/");
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
        assert!(render(&completed(&reference, &metadata), &url).len() < EVENT_BYTES_MAX);
    }
}
