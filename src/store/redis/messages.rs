//! Messages, put together from what the store keeps of a chunk: the packed recipients, the state
//! bytes, the log, and whether a worker holds it.

use redis::{Pipeline, Value};

use super::{
    callbacks::hgetall,
    codec,
    keys::{self, ChunkKey},
    link::Link,
};
use crate::{
    domain::{
        chunk,
        ids::BatchId,
        message::{FinalState, MessageState},
        record::{self, Record},
        time::UnixMs,
    },
    store::{MessageView, StoreError},
};

/// What all messages of a batch share.
struct Whole {
    id: BatchId,
    total: u32,
    /// The first index of each chunk.
    firsts: Vec<u32>,
    /// The first chunk that cancel closed, and when.
    cut: Option<(usize, UnixMs)>,
}

/// One chunk, as read.
struct Parts {
    first: u32,
    states: Vec<u8>,
    recipients: Vec<u8>,
    log: Vec<u8>,
    held: bool,
    /// When the batch was canceled, and whether that closed all that was open in this chunk.
    canceled: Option<(UnixMs, bool)>,
}

/// See [`crate::store::Reading::messages`].
pub(super) async fn read(
    link: &Link,
    id: BatchId,
    state: Option<MessageState>,
    from: u32,
    limit: usize,
) -> Result<(Vec<MessageView>, Option<u32>), StoreError> {
    let Some(whole) = Whole::read(link, id).await? else { return Ok((Vec::new(), None)) };
    let to = from.saturating_add(u32::try_from(limit).unwrap_or(u32::MAX)).min(whole.total);
    let mut messages = Vec::new();
    let mut number = whole.chunk_of(from);
    while number < whole.firsts.len() && whole.firsts[number] < to {
        let parts = whole.read_chunk(link, number).await?;
        parts.add_to(&mut messages, id, from..to);
        number += 1;
    }
    messages.retain(|message| state.is_none_or(|state| message.state == state));
    Ok((messages, (to < whole.total).then_some(to)))
}

// === impl Whole ===

impl Whole {
    async fn read(link: &Link, id: BatchId) -> Result<Option<Self>, StoreError> {
        let mut calls = Pipeline::new();
        calls.add_command(hgetall(&keys::batch(id)));
        calls.cmd("GET").arg(keys::firsts(id));
        let mut answers = link.ask_all(&calls).await?.into_iter();
        let fields = codec::fields(answers.next().unwrap_or(Value::Nil))?;
        let firsts = codec::bytes(answers.next().unwrap_or(Value::Nil))?;
        if codec::word(&fields, "state").is_none() {
            return Ok(None);
        }
        let cut = codec::word(&fields, "cut").and_then(|cut| cut.parse().ok());
        Ok(Some(Self {
            id,
            total: u32::try_from(codec::count(&fields, "total")).unwrap_or(u32::MAX),
            firsts: firsts.as_chunks().0.iter().map(|first| u32::from_be_bytes(*first)).collect(),
            cut: cut.map(|cut| (cut, UnixMs(codec::count(&fields, "cut_ms")))),
        }))
    }

    fn chunk_of(&self, index: u32) -> usize {
        self.firsts.partition_point(|first| *first <= index).saturating_sub(1)
    }

    async fn read_chunk(&self, link: &Link, number: usize) -> Result<Parts, StoreError> {
        let mut calls = Pipeline::new();
        for kind in [ChunkKey::States, ChunkKey::Recipients, ChunkKey::Log] {
            calls.cmd("GET").arg(keys::chunk(self.id, kind, number));
        }
        calls.cmd("HGET").arg(keys::leases(self.id)).arg(number);
        let mut answers = link.ask_all(&calls).await?.into_iter();
        let mut next = || codec::bytes(answers.next().unwrap_or(Value::Nil));
        Ok(Parts {
            first: self.firsts[number],
            states: next()?,
            recipients: next()?,
            log: next()?,
            held: next()?.ends_with(b" H"),
            canceled: self.cut.map(|(cut, at)| (at, number >= cut)),
        })
    }
}

// === impl Parts ===

impl Parts {
    /// Adds the messages of this chunk whose batch-wide indexes lie in `wanted`.
    fn add_to(&self, messages: &mut Vec<MessageView>, id: BatchId, wanted: std::ops::Range<u32>) {
        let mut latest: Vec<Option<Record<'_>>> = vec![None; self.states.len()];
        for record in record::read(&self.log) {
            if let Some(slot) = latest.get_mut(usize::from(record.place)) {
                *slot = Some(record);
            }
        }
        let offsets = chunk::offsets(&self.recipients, self.states.len());
        for (place, ((state, record), offset)) in
            self.states.iter().zip(&latest).zip(&offsets).enumerate()
        {
            // A place fits a u32: a chunk holds at most CHUNK_MESSAGES_MAX messages.
            let index = self.first + u32::try_from(place).unwrap_or(u32::MAX);
            if wanted.contains(&index) {
                let entry = chunk::entry_at(&self.recipients, *offset);
                messages.push(self.message(id, index, *state, &entry, record.as_ref()));
            }
        }
    }

    fn message(
        &self,
        id: BatchId,
        index: u32,
        state: u8,
        entry: &chunk::Entry<'_>,
        record: Option<&Record<'_>>,
    ) -> MessageView {
        let created_at = id.created_at();
        let known = FinalState::from_byte(state);
        let state = match (known, self.canceled) {
            (Some(state), _) => state.into(),
            (None, Some((_, true))) => MessageState::Canceled,
            (None, _) if self.held => MessageState::Sending,
            (None, _) => MessageState::Queued,
        };
        let recorded_at = record.map(|record| record::at(created_at, record.after_ms));
        let canceled_at = self.canceled.filter(|_| state == MessageState::Canceled);
        MessageView {
            index,
            to: entry.to.to_owned(),
            reference: entry.reference.map(str::to_owned),
            state,
            attempts: record.map_or(0, |record| record.attempts),
            provider_message_id: record
                .and_then(|record| record.provider_message_id)
                .map(str::to_owned),
            error: record.and_then(|record| record.error.clone()).map(Into::into),
            updated_at: canceled_at.map(|(at, _)| at).or(recorded_at).unwrap_or(created_at),
        }
    }
}
