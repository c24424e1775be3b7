//! Messages, put together from the keys of their chunks.

use redis::{Pipeline, Value};

use super::{
    callbacks::hgetall,
    codec,
    keys::{self, ChunkKey},
    link::Link,
};
use crate::{
    domain::{batch::BatchSpec, ids::BatchId, message::FinalState, time::UnixMs},
    store::{
        StoreError,
        stored::{Closed, StoredChunk, StoredPart},
    },
};

/// What all messages of a batch share.
struct Whole {
    id: BatchId,
    spec: BatchSpec,
    total: u32,
    /// The first index of each chunk.
    firsts: Vec<u32>,
    /// The first chunk that was never claimed when the batch was closed, when, and how.
    cut: Option<(usize, UnixMs, FinalState)>,
}

/// The `limit` messages of a batch from the index `from` on; `None` if it is not there.
pub(super) async fn read(
    link: &Link,
    id: BatchId,
    from: u32,
    limit: usize,
) -> Result<Option<StoredPart>, StoreError> {
    let Some(whole) = Whole::read(link, id).await? else { return Ok(None) };
    let to = from.saturating_add(u32::try_from(limit).unwrap_or(u32::MAX)).min(whole.total);
    let mut chunks = Vec::new();
    let mut number = whole.chunk_of(from);
    while number < whole.firsts.len() && whole.firsts[number] < to {
        chunks.push(whole.read_chunk(link, number).await?);
        number += 1;
    }
    let next = (to < whole.total).then_some(to);
    Ok(Some(StoredPart { spec: whole.spec, chunks, wanted: from..to, next }))
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
        let closes =
            codec::count(&fields, "closes").try_into().ok().and_then(FinalState::from_byte);
        let cut_at = UnixMs(codec::count(&fields, "cut_ms"));
        Ok(Some(Self {
            id,
            spec: codec::spec(&fields)?,
            total: u32::try_from(codec::count(&fields, "total")).unwrap_or(u32::MAX),
            firsts: firsts.as_chunks().0.iter().map(|first| u32::from_be_bytes(*first)).collect(),
            cut: cut.zip(closes).map(|(cut, closes)| (cut, cut_at, closes)),
        }))
    }

    fn chunk_of(&self, index: u32) -> usize {
        self.firsts.partition_point(|first| *first <= index).saturating_sub(1)
    }

    async fn read_chunk(&self, link: &Link, number: usize) -> Result<StoredChunk, StoreError> {
        let mut calls = Pipeline::new();
        for kind in [ChunkKey::States, ChunkKey::Recipients, ChunkKey::Log, ChunkKey::Receipts] {
            calls.cmd("GET").arg(keys::chunk(self.id, kind, number));
        }
        calls.cmd("HGET").arg(keys::leases(self.id)).arg(number);
        let mut answers = link.ask_all(&calls).await?.into_iter();
        let mut next = || codec::bytes(answers.next().unwrap_or(Value::Nil));
        Ok(StoredChunk {
            first: self.firsts[number],
            states: next()?,
            recipients: next()?,
            log: next()?,
            receipts: next()?,
            held: next()?.ends_with(b" H"),
            closed: self.cut.map(|(cut, at, state)| Closed { at, state, wholly: number >= cut }),
        })
    }
}
