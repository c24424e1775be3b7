//! What every store keeps in the same form, whatever it keeps it in.
//!
//! A batch's spec stands behind one version byte, so that a later version can read it. A chunk's
//! parts become messages here: the packed recipients, the state bytes, the log, and whether a
//! worker holds it.

use std::ops::Range;

use super::{LateReceipt, MessageView, RecipientView, StoreError};
use crate::domain::{
    batch::{Batch, BatchSpec, CallbackSpec, Counts, FinalCounts, Pace},
    chunk,
    composer::Composer,
    event::{Event, LateReceipts, Occurrence},
    ids::{BatchId, EventId},
    message::{FinalState, MessageState},
    outcome::SendError,
    receipt::{self, ReceiptRecord},
    recipient::Recipient,
    record::{self, Record},
    state_byte::StateByte,
    time::UnixMs,
};

const SPEC_VERSION: u8 = 5;

/// An event's own part, as stores keep it.
pub(super) struct StoredEvent {
    /// `completed`, `dispatched`, `progress`, `failed` or `amended`.
    pub(super) kind: String,
    /// Of the second and third the counts, of the fourth the message's index, of the last how many late
    /// receipts came.
    pub(super) about: String,
    /// Its place among the events of its batch.
    pub(super) sequence: u32,
    /// When it came about.
    pub(super) at: UnixMs,
}

/// One chunk, as read.
pub(super) struct StoredChunk {
    /// The batch-wide index of its first message.
    pub(super) first: u32,
    /// One byte a message, 0 for open.
    pub(super) states: Vec<u8>,
    /// The packed recipients.
    pub(super) recipients: Vec<u8>,
    /// The records of tries.
    pub(super) log: Vec<u8>,
    /// The receipts.
    pub(super) receipts: Vec<u8>,
    /// Whether a worker holds it.
    pub(super) held: bool,
    /// How the batch was closed, if it was canceled or has expired.
    pub(super) closed: Option<Closed>,
}

/// Some messages of a batch, side by side, as read.
pub(super) struct StoredPart {
    /// What was asked for.
    pub(super) spec: BatchSpec,
    /// The chunks they are in.
    pub(super) chunks: Vec<StoredChunk>,
    /// Their batch-wide indexes.
    pub(super) wanted: Range<u32>,
    /// The index to go on from, unless the end is reached.
    pub(super) next: Option<u32>,
}

/// How a batch was closed.
#[derive(Clone, Copy)]
pub(super) struct Closed {
    /// When.
    pub(super) at: UnixMs,
    /// What became of messages that had not left.
    pub(super) state: FinalState,
    /// Whether that were all that were open in this chunk.
    pub(super) wholly: bool,
}

/// A spec as it is kept.
pub(super) fn write_spec(spec: &BatchSpec) -> Vec<u8> {
    // A spec holds strings, lists and maps only: postcard can't fail to write it.
    postcard::to_extend(spec, vec![SPEC_VERSION]).unwrap_or_default()
}

/// Reads what [`write_spec`] wrote.
///
/// # Errors
/// [`StoreError::Unexpected`] if another version wrote it, or it is none.
pub(super) fn read_spec(bytes: &[u8]) -> Result<BatchSpec, StoreError> {
    match bytes.split_first() {
        Some((&SPEC_VERSION, spec)) => postcard::from_bytes(spec)
            .map_err(|error| StoreError::Unexpected(format!("a batch can't be read: {error}"))),
        Some((version, _)) => {
            Err(StoreError::Unexpected(format!("a batch of version {version} can't be read")))
        }
        None => Err(StoreError::Unexpected("a batch without a spec".to_owned())),
    }
}

/// What a client wants to be told besides the completion, as stores keep it: a letter each.
pub(super) fn wants(callback: Option<&CallbackSpec>) -> String {
    let Some(wanted) = callback.map(|callback| callback.events) else { return String::new() };
    let letters = [
        ('a', wanted.amended),
        ('d', wanted.dispatched),
        ('f', wanted.failures),
        ('p', wanted.progress.is_some()),
    ];
    letters.iter().filter(|(_, wanted)| *wanted).map(|(letter, _)| *letter).collect()
}

/// How often progress is told: percent, and milliseconds, of which one is given if it is told.
pub(super) fn pace(callback: Option<&CallbackSpec>) -> (Option<u8>, Option<u64>) {
    match callback.and_then(|callback| callback.events.progress) {
        Some(Pace::Percent(percent)) => (Some(percent), None),
        Some(Pace::Every(every_ms)) => (None, Some(every_ms)),
        None => (None, None),
    }
}

// === impl StoredEvent ===

impl StoredEvent {
    /// The event with this id, of this batch.
    ///
    /// # Errors
    /// [`StoreError::Unexpected`] if it is none that this version knows.
    pub(super) fn event(&self, id: EventId, batch: &Batch) -> Result<Event, StoreError> {
        let unexpected = || StoreError::Unexpected(format!("an event can't be read: {id}"));
        let counts = || counts(&self.about, batch.counts.total).ok_or_else(unexpected);
        let what = match self.kind.as_str() {
            "completed" => Occurrence::Completed,
            "dispatched" => Occurrence::Dispatched(counts()?),
            "progress" => Occurrence::Progress(counts()?),
            "amended" => Occurrence::Amended(late(&self.about).ok_or_else(unexpected)?),
            "failed" => Occurrence::MessageFailed(self.about.parse().map_err(|_| unexpected())?),
            _ => return Err(unexpected()),
        };
        Ok(Event { id, batch: batch.id, sequence: self.sequence, at: self.at, what })
    }
}

/// Reads what stores write of late receipts: revision, delivered, undelivered.
fn late(text: &str) -> Option<LateReceipts> {
    let mut numbers = text.split(' ');
    let revision = numbers.next()?.parse().ok()?;
    let (delivered, undelivered) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    Some(LateReceipts { revision, delivered, undelivered })
}

/// Reads counts as stores write them: those in workers' hands, then each final state.
fn counts(text: &str, total: u64) -> Option<Counts> {
    let mut numbers = text.split(' ').map(str::parse);
    let sending = numbers.next()?.ok()?;
    let mut ended = FinalCounts::default();
    for state in FinalState::ALL {
        ended.add(state, numbers.next()?.ok()?);
    }
    Some(Counts { total, sending, ended })
}

// === impl StoredPart ===

impl StoredPart {
    /// The messages that are in `state`, or all of them.
    pub(super) fn messages(&self, id: BatchId, state: Option<MessageState>) -> Vec<MessageView> {
        let (mut messages, composer) = (Vec::new(), Composer::new(&self.spec));
        for chunk in &self.chunks {
            chunk.add_to(&mut messages, &composer, id, &self.wanted);
        }
        messages.retain(|message| state.is_none_or(|state| message.state == state));
        messages
    }

    /// The recipients of those that ended in one of `states`.
    pub(super) fn recipients(&self, states: &[FinalState]) -> Vec<RecipientView> {
        let mut recipients = Vec::new();
        for chunk in &self.chunks {
            chunk.add_recipients(&mut recipients, states, &self.wanted);
        }
        recipients
    }
}

// === impl StoredChunk ===

impl StoredChunk {
    fn add_recipients(
        &self,
        recipients: &mut Vec<RecipientView>,
        states: &[FinalState],
        wanted: &Range<u32>,
    ) {
        let offsets = chunk::offsets(&self.recipients, self.states.len());
        for ((index, byte), offset) in (self.first..).zip(&self.states).zip(&offsets) {
            let ended = StateByte(*byte).ended().or(self.closed_wholly());
            if wanted.contains(&index) && ended.is_some_and(|ended| states.contains(&ended)) {
                recipients.push(chunk::entry_at(&self.recipients, *offset).into());
            }
        }
    }

    /// The state that every open message of this chunk was closed with, if that is so.
    fn closed_wholly(&self) -> Option<FinalState> {
        self.closed.filter(|closed| closed.wholly).map(|closed| closed.state)
    }

    /// Adds the messages of this chunk whose batch-wide indexes lie in `wanted`.
    fn add_to(
        &self,
        messages: &mut Vec<MessageView>,
        composer: &Composer,
        id: BatchId,
        wanted: &Range<u32>,
    ) {
        let mut scratch = String::new();
        let mut latest: Vec<Option<Record<'_>>> = vec![None; self.states.len()];
        for record in record::read(&self.log) {
            if let Some(slot) = latest.get_mut(usize::from(record.place)) {
                *slot = Some(record);
            }
        }
        let mut heard: Vec<Option<ReceiptRecord<'_>>> = vec![None; self.states.len()];
        for (place, receipt) in receipt::read(&self.receipts) {
            if let Some(slot) = heard.get_mut(usize::from(place)) {
                *slot = Some(receipt);
            }
        }
        let offsets = chunk::offsets(&self.recipients, self.states.len());
        let known = self.states.iter().zip(&latest).zip(&heard).zip(&offsets);
        for (place, (((state, record), receipt), offset)) in known.enumerate() {
            // A place fits a u32: a chunk holds at most CHUNK_MESSAGES_MAX messages.
            let index = self.first + u32::try_from(place).unwrap_or(u32::MAX);
            if wanted.contains(&index) {
                let entry = chunk::entry_at(&self.recipients, *offset);
                let state = StateByte(*state);
                let mut message = self.message(id, index, state, &entry, record.as_ref());
                // Whether a number is one need not be asked of those that did not fail.
                if message.state != MessageState::Failed || Recipient::parse(entry.to).is_ok() {
                    message.size = composer.size(&entry, &mut scratch).ok();
                }
                messages.push(heard_of(message, state, receipt.as_ref(), id));
            }
        }
    }

    fn message(
        &self,
        id: BatchId,
        index: u32,
        state: StateByte,
        entry: &chunk::Entry<'_>,
        record: Option<&Record<'_>>,
    ) -> MessageView {
        let created_at = id.created_at();
        let state = match state.ended().or(self.closed_wholly()) {
            Some(state) => state.into(),
            None if self.held => MessageState::Sending,
            None => MessageState::Queued,
        };
        let recorded_at = record.map(|record| record::at(created_at, record.after_ms));
        let closed = self.closed.filter(|closed| state == closed.state.into());
        MessageView {
            index,
            to: entry.to.to_owned(),
            reference: entry.reference.map(str::to_owned),
            state,
            size: None,
            attempts: record.map_or(0, |record| record.attempts),
            provider: record.and_then(|record| record.left.provider()).map(str::to_owned),
            provider_message_id: record
                .and_then(|record| record.left.provider_message_id())
                .map(str::to_owned),
            error: record.and_then(|record| record.error.clone()).map(Into::into),
            updated_at: closed.map(|closed| closed.at).or(recorded_at).unwrap_or(created_at),
            late_receipt: None,
        }
    }
}

/// A message with what its receipt adds to what its tries came to.
fn heard_of(
    mut message: MessageView,
    state: StateByte,
    receipt: Option<&ReceiptRecord<'_>>,
    id: BatchId,
) -> MessageView {
    let Some(receipt) = receipt else { return message };
    let at = record::at(id.created_at(), receipt.after_ms);
    let error = receipt.error.clone().map(SendError::from);
    if let Some(state) = state.late() {
        message.late_receipt = Some(LateReceipt { state, at, error });
    } else {
        message.updated_at = at;
        message.error = error;
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_reads_back_and_an_unknown_version_is_named() {
        let spec = BatchSpec { body: "Hi {{name}}".into(), ..BatchSpec::default() };
        let mut bytes = write_spec(&spec);
        assert_eq!(read_spec(&bytes).unwrap(), spec);
        bytes[0] = 9;
        assert!(read_spec(&bytes).unwrap_err().to_string().contains("version 9"));
        assert!(read_spec(&[]).is_err());
    }
}
