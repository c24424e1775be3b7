//! What the API reads. Nothing here changes anything, and every answer is bounded.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{AttemptEnd, EventFilter, EventView, Pause, StoreError};
use crate::domain::{
    batch::{Batch, BatchState, CallbackState},
    chunk::Entry,
    encoding::Size,
    ids::{BatchId, EventId},
    message::{FinalState, MessageState},
    outcome::SendError,
    share::Share,
    time::{UnixMs, millis},
};

/// The readers' view of the store. What belongs to another account is not there.
#[async_trait]
pub trait Reading: Send + Sync {
    /// A batch; `None` if the account has no such one.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn batch(&self, account: &str, id: BatchId) -> Result<Option<Batch>, StoreError>;

    /// Batches of an account that match, newest first, from among the `limit` next older than
    /// `before`; and the id to go on before, unless the end is reached.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn batches(
        &self,
        account: &str,
        filter: &BatchFilter,
        before: Option<BatchId>,
        limit: usize,
    ) -> Result<(Vec<Batch>, Option<BatchId>), StoreError>;

    /// Messages of a batch that are in `state`, from among the `limit` next ones from the index
    /// `from` on, in order; and the index to go on from, unless the end is reached.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn messages(
        &self,
        id: BatchId,
        state: Option<MessageState>,
        from: u32,
        limit: usize,
    ) -> Result<(Vec<MessageView>, Option<u32>), StoreError>;

    /// Recipients of the messages of a batch that ended in one of `states`, from among the `limit`
    /// next ones from the index `from` on, in order; and the index to go on from, unless the end is
    /// reached.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn recipients(
        &self,
        id: BatchId,
        states: &[FinalState],
        from: u32,
        limit: usize,
    ) -> Result<(Vec<RecipientView>, Option<u32>), StoreError>;

    /// The attempts at a batch's callback; `None` if the account has no such batch.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn attempts(
        &self,
        account: &str,
        id: BatchId,
    ) -> Result<Option<AttemptsView>, StoreError>;

    /// Events of an account that match, newest first, from among the `limit` next older than
    /// `before`; and the id to go on before, unless the end is reached. `None` if `before` is no
    /// event of the account's.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn events(
        &self,
        account: &str,
        filter: &EventFilter,
        before: Option<EventId>,
        limit: usize,
    ) -> Result<Option<(Vec<EventView>, Option<EventId>)>, StoreError>;

    /// The `limit` events of an account that were created next after `after`, oldest first; from
    /// the oldest on if nothing is said. No event ever comes in before one that was given,
    /// but in a store of several partitions whose clock went back. `None` if `after` is no event of the
    /// account's.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn events_after(
        &self,
        account: &str,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Option<Vec<EventView>>, StoreError>;

    /// Figures for the metrics.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn stats(&self, providers: &[String]) -> Result<Stats, StoreError>;

    /// Whether the store answers.
    ///
    /// # Errors
    /// [`StoreError`] if it doesn't.
    async fn ping(&self) -> Result<(), StoreError>;
}

/// Which batches are wanted; all of them if nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchFilter {
    /// Those in this state.
    pub state: Option<BatchState>,
    /// Those with this reference.
    pub reference: Option<String>,
}

/// A message as it stood at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageView {
    /// Its place in the batch.
    pub index: u32,
    /// The number as the client gave it.
    pub to: String,
    /// The client's own name for it.
    pub reference: Option<String>,
    /// Its state.
    pub state: MessageState,
    /// What its text comes to, as the batch's spec and the recipient say; `None` if it has none that
    /// could be sent, or nobody it could be sent to.
    pub size: Option<Size>,
    /// Tries used up.
    pub attempts: u8,
    /// The provider that it left through, or last tried to, if that is not the batch's.
    pub provider: Option<String>,
    /// The provider's own name for it.
    pub provider_message_id: Option<String>,
    /// Why it was not accepted, or why its last try failed.
    pub error: Option<SendError>,
    /// When it last changed.
    pub updated_at: UnixMs,
    /// What the carrier said of it when it was final already.
    pub late_receipt: Option<LateReceipt>,
}

/// A receipt that came too late to change anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LateReceipt {
    /// `Delivered` or `Undelivered`.
    pub state: FinalState,
    /// When.
    pub at: UnixMs,
    /// Why it was not delivered.
    pub error: Option<SendError>,
}

/// A recipient as the client gave it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecipientView {
    /// The number, E.164 or not.
    pub to: String,
    /// The client's own name for the message.
    pub reference: Option<String>,
    /// The recipient's own variables, name and value.
    pub variables: Vec<(String, String)>,
}

/// The attempts at one callback.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttemptsView {
    /// The last 20, oldest first.
    pub attempts: Vec<AttemptRecord>,
    /// When the next one is due, unless the callback has ended.
    pub next_attempt_at: Option<UnixMs>,
}

/// One attempt at a callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRecord {
    /// Its number, from 1.
    pub number: u32,
    /// When it began.
    pub at: UnixMs,
    /// What it came to; `interrupted` as its error if nobody recorded an end.
    pub end: AttemptEnd,
}

/// Figures of the whole store, for the metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// By provider.
    pub providers: BTreeMap<String, ProviderStats>,
    /// Events that are yet to be delivered.
    pub callbacks_pending: u64,
    /// Events in each final state since the store was made.
    pub callbacks_ended: BTreeMap<&'static str, u64>,
    /// Leases that ran out since the store was made.
    pub leases_lost: u64,
}

/// Figures of one provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderStats {
    /// Messages accepted and not final.
    pub open: u64,
    /// Those of them in workers' hands.
    pub sending: u64,
    /// Messages that were handed over and wait for their receipts.
    pub awaiting: u64,
    /// Messages that became final since the store was made, by state.
    pub ended: BTreeMap<FinalState, u64>,
    /// When the oldest batch that waits in the ring was created.
    pub oldest_queued: Option<UnixMs>,
    /// How long the provider is still paused, as it asked, in milliseconds.
    pub paused_ms: u64,
    /// Whether it was stopped, and not resumed since.
    pub stopped: bool,
    /// How much of its rate may be used.
    pub share: Share,
    /// How long it is still left alone, since workers found it away, in milliseconds: 0 once one may find out
    /// whether it is back; `None` if it is not away.
    pub away_ms: Option<u64>,
}

// === impl ProviderStats ===

impl ProviderStats {
    /// Takes over what is known of the provider's pause.
    pub(super) fn set_pause(&mut self, pause: &Pause) {
        (self.paused_ms, self.stopped) = (millis(pause.left), pause.stopped);
        (self.share, self.away_ms) = (pause.share, pause.away.map(millis));
    }
}

// === impl BatchFilter ===

impl BatchFilter {
    /// Whether `batch` is wanted.
    #[must_use]
    pub fn matches(&self, batch: &Batch) -> bool {
        self.state.is_none_or(|state| state == batch.state)
            && self
                .reference
                .as_ref()
                .is_none_or(|text| Some(text) == batch.spec.reference.as_ref())
    }
}

// === impl RecipientView ===

impl From<Entry<'_>> for RecipientView {
    fn from(entry: Entry<'_>) -> Self {
        let variables = entry.variables.into_iter();
        Self {
            to: entry.to.to_owned(),
            reference: entry.reference.map(str::to_owned),
            variables: variables.map(|(name, value)| (name.into(), value.into())).collect(),
        }
    }
}

impl RecipientView {
    /// The recipient as chunks take it.
    #[must_use]
    pub fn entry(&self) -> Entry<'_> {
        let variables = self.variables.iter();
        Entry {
            to: &self.to,
            reference: self.reference.as_deref(),
            variables: variables.map(|(name, value)| (name.as_str(), value.as_str())).collect(),
        }
    }
}

// === impl AttemptsView ===

impl AttemptsView {
    /// The view of `attempts` as the store keeps them. The last one is under way if its event is
    /// held; else it waits for its next attempt until `due`.
    pub(super) fn new(
        mut attempts: Vec<AttemptRecord>,
        due: Option<UnixMs>,
        is_held: bool,
        callback: CallbackState,
    ) -> Self {
        let last = attempts.last_mut().filter(|last| last.end == AttemptEnd::interrupted());
        if let Some(last) = last.filter(|_| is_held) {
            last.end = AttemptEnd::default();
        }
        let pending = callback == CallbackState::Pending;
        Self { attempts, next_attempt_at: due.filter(|_| pending) }
    }
}
