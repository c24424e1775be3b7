//! A batch: what the client asked for, where it stands, and how many messages are in each state.

use std::{collections::BTreeMap, fmt, num::NonZeroU8, ops::Index};

use serde::{Deserialize, Serialize};

use super::{
    ids::BatchId, message::FinalState, quiet_hours::QuietHours, time::UnixMs, units::Rate,
};

/// What the client asked for. It never changes, and workers and notifiers need nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchSpec {
    /// The account that owns the batch.
    pub account: String,
    /// The provider its messages leave through.
    pub provider: String,
    /// The sender; `None` where the provider's own default serves.
    pub from: Option<String>,
    /// The body, a template.
    pub body: String,
    /// Values for variables that a recipient does not give.
    pub variables: BTreeMap<String, String>,
    /// Where the completion is reported.
    pub callback: Option<CallbackSpec>,
    /// The client's own name for the batch.
    pub reference: Option<String>,
    /// A JSON text of the client's, echoed as given.
    pub metadata: Option<String>,
    /// When the first message may leave; at once if nothing is said.
    pub send_at: Option<UnixMs>,
    /// When what has not left may leave no more.
    pub expire_at: Option<UnixMs>,
    /// How often it has a turn, beside others.
    pub priority: Priority,
    /// The batch some of whose recipients it tries again.
    pub parent: Option<BatchId>,
    /// How fast its messages may leave, over all workers.
    pub rate: Option<Rate>,
    /// When none of them may leave.
    pub quiet_hours: Option<QuietHours>,
    /// What a message is worth: a second submission, or its loss.
    pub guarantee: DeliveryGuarantee,
    /// Whether typographic characters are replaced where that makes a text GSM-7.
    pub smart_encoding: bool,
    /// The most segments that a message may take.
    pub segments_max: Option<NonZeroU8>,
}

/// What becomes of a message that may or may not have been accepted.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryGuarantee {
    /// It is submitted again, under the same idempotency key: none is lost, and one may go twice.
    #[default]
    AtLeastOnce,
    /// It ends as `unknown`: none goes twice.
    AtMostOnce,
}

/// How often a batch has a turn, beside batches of other priorities: of 21 turns high ones have 16,
/// normal ones 4 and low ones 1. The numbers are those that the store keeps.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// For what can't wait.
    High = 1,
    /// For most.
    #[default]
    Normal = 2,
    /// For what others may go before.
    Low = 3,
}

/// Where, with which headers, and of what the client is told.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallbackSpec {
    /// The URL as the client gave it.
    pub url: String,
    /// Its host and port, as [`CallbackUrl::host_and_port`](super::callback_url::CallbackUrl)
    /// gives them: callbacks to one host wait and fail together.
    pub host: String,
    /// Headers to add: secrets, never shown.
    pub headers: Vec<(String, String)>,
    /// The secret to sign with instead of the account's; never shown.
    pub secret: Option<String>,
    /// What is reported besides the completion.
    pub events: Wanted,
}

/// The events that a client wants besides the completion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// `batch.dispatched`: nothing is left to be submitted.
    pub dispatched: bool,
    /// `message.failed`, for each message that fails.
    pub failures: bool,
    /// `batch.progress`, and how often.
    pub progress: Option<Pace>,
    /// `batch.amended`: receipts came after the batch was over.
    pub amended: bool,
}

/// How often progress is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pace {
    /// Whenever so many more percent of the messages are final, 1 to 99.
    Percent(u8),
    /// So many milliseconds after the last report, if more messages are final.
    Every(u64),
}

/// Where a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchState {
    /// Its recipients are being uploaded.
    Receiving,
    /// It waits for its time.
    Scheduled,
    /// No worker has claimed any of it yet.
    Queued,
    /// Workers have begun on it.
    Running,
    /// It stands still until it is resumed.
    Paused,
    /// Every message is final.
    Completed,
    /// It was canceled; what was in flight may still end otherwise.
    Canceled,
}

/// Where a batch's callback stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallbackState {
    /// It is yet to be delivered.
    Pending,
    /// The receiver answered 2xx.
    Delivered,
    /// The schedule is used up.
    Exhausted,
    /// The receiver answered 410.
    Gone,
    /// It told of progress, and was not delivered: the next one tells more.
    Skipped,
}

/// How many messages are in each final state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FinalCounts([u64; FinalState::ALL.len()]);

/// How many messages are in each state. They sum to `total` at every moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All messages of the batch.
    pub total: u64,
    /// Those in chunks that workers hold.
    pub sending: u64,
    /// Those that are final, by state.
    pub ended: FinalCounts,
}

/// A batch as it stood at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Its id.
    pub id: BatchId,
    /// What was asked for.
    pub spec: BatchSpec,
    /// Where it stands.
    pub state: BatchState,
    /// How many messages are in each state.
    pub counts: Counts,
    /// How many recipients were left out, since the batch had their numbers already.
    pub skipped: u64,
    /// When it was first claimed.
    pub started_at: Option<UnixMs>,
    /// When its last message became final.
    pub completed_at: Option<UnixMs>,
    /// Where its callback stands.
    pub callback: CallbackState,
}

/// The text is not a state of this kind.
#[derive(Debug, thiserror::Error)]
#[error("not a known state")]
pub struct InvalidState;

// === impl CallbackSpec ===

impl fmt::Debug for CallbackSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackSpec").finish_non_exhaustive()
    }
}

// === impl DeliveryGuarantee ===

impl DeliveryGuarantee {
    const WORDS: [(Self, &'static str); 2] =
        [(Self::AtLeastOnce, "at_least_once"), (Self::AtMostOnce, "at_most_once")];
}

impl std::str::FromStr for DeliveryGuarantee {
    type Err = InvalidState;

    fn from_str(text: &str) -> Result<Self, InvalidState> {
        let found = Self::WORDS.iter().find(|(_, word)| *word == text);
        found.map(|(guarantee, _)| *guarantee).ok_or(InvalidState)
    }
}

// === impl Priority ===

impl Priority {
    /// All of them, the most urgent one first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// The word clients read and write.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

impl std::str::FromStr for Priority {
    type Err = InvalidState;

    fn from_str(text: &str) -> Result<Self, InvalidState> {
        Self::ALL.into_iter().find(|priority| priority.word() == text).ok_or(InvalidState)
    }
}

// === impl BatchState ===

impl BatchState {
    const WORDS: [(Self, &'static str); 7] = [
        (Self::Receiving, "receiving"),
        (Self::Scheduled, "scheduled"),
        (Self::Queued, "queued"),
        (Self::Running, "running"),
        (Self::Paused, "paused"),
        (Self::Completed, "completed"),
        (Self::Canceled, "canceled"),
    ];

    /// The word clients read and the store keeps.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(state, _)| *state == self).map_or("", |(_, word)| word)
    }
}

impl std::str::FromStr for BatchState {
    type Err = InvalidState;

    fn from_str(text: &str) -> Result<Self, InvalidState> {
        let found = Self::WORDS.iter().find(|(_, word)| *word == text);
        found.map(|(state, _)| *state).ok_or(InvalidState)
    }
}

// === impl CallbackState ===

impl CallbackState {
    /// The states that nothing more follows from.
    pub const ENDED: [Self; 4] = [Self::Delivered, Self::Exhausted, Self::Gone, Self::Skipped];

    const WORDS: [(Self, &'static str); 5] = [
        (Self::Pending, "pending"),
        (Self::Delivered, "delivered"),
        (Self::Exhausted, "exhausted"),
        (Self::Gone, "gone"),
        (Self::Skipped, "skipped"),
    ];

    /// The word clients read and the store keeps.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(state, _)| *state == self).map_or("", |(_, word)| word)
    }
}

impl std::str::FromStr for CallbackState {
    type Err = InvalidState;

    fn from_str(text: &str) -> Result<Self, InvalidState> {
        let found = Self::WORDS.iter().find(|(_, word)| *word == text);
        found.map(|(state, _)| *state).ok_or(InvalidState)
    }
}

// === impl FinalCounts ===

impl FinalCounts {
    /// One more message in `state`.
    pub fn add(&mut self, state: FinalState, messages: u64) {
        self.0[state as usize - 1] += messages;
    }

    /// All messages that are final.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl Index<FinalState> for FinalCounts {
    type Output = u64;

    fn index(&self, state: FinalState) -> &u64 {
        &self.0[state as usize - 1]
    }
}

// === impl Counts ===

impl Counts {
    /// Those that wait for a worker or for their next try.
    #[must_use]
    pub fn queued(&self) -> u64 {
        self.total.saturating_sub(self.sending + self.ended.sum())
    }
}

// === impl Batch ===

impl Batch {
    /// When the batch was created.
    #[must_use]
    pub fn created_at(&self) -> UnixMs {
        self.id.created_at()
    }

    /// Whether every message is final.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.completed_at.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_always_add_up() {
        let mut counts = Counts { total: 10, sending: 3, ..Counts::default() };
        counts.ended.add(FinalState::Sent, 4);
        counts.ended.add(FinalState::Failed, 1);
        assert_eq!(counts.queued(), 2);
        assert_eq!(counts.ended[FinalState::Sent], 4);
        assert_eq!(counts.ended.sum(), 5);
    }

    #[test]
    fn a_states_word_reads_back() {
        for (state, word) in BatchState::WORDS {
            assert_eq!(state.word(), word);
            assert_eq!(word.parse::<BatchState>().unwrap(), state);
        }
        assert!("done".parse::<BatchState>().is_err());
    }

    #[test]
    fn callback_headers_are_never_printed() {
        let headers = vec![("x-api-token".into(), "hush".into())];
        let url = "https://a.example/?token=hush".into();
        let callback = CallbackSpec { url, headers, ..CallbackSpec::default() };
        assert!(!format!("{callback:?}").contains("hush"));
    }
}
