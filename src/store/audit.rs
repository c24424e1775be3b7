//! What an operator asks: whether what the store has noted of a batch is what its messages say, and that
//! what is stuck be put right.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use crate::domain::{
    audit::{ChunkNotes, Finding, Notes, Recount},
    ids::BatchId,
    time::UnixMs,
};

/// How many chunks are looked at in one go.
pub(super) const PAGE: u32 = 500;

/// How often a batch is looked after.
pub(super) const LOOK_AFTER_EVERY: Duration = Duration::from_mins(1);

/// A batch of which nothing ended for so long, though it should, stands still.
pub(super) const STANDS_STILL_AFTER: Duration = Duration::from_mins(10);

/// At most so many batches are looked after in one go.
pub(super) const LOOKED_AFTER_MAX: u32 = 100;

/// How often a batch that moves under the audit is counted again.
const ROUNDS_MAX: usize = 5;

/// The operator's view of the store.
#[async_trait]
pub trait Audit: Send + Sync {
    /// The batches of an account, in no order.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn batches(&self, account: &str) -> Result<Vec<BatchId>, StoreError>;

    /// What is noted of a sealed batch; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn notes(&self, id: BatchId) -> Result<Option<Notes>, StoreError>;

    /// What is noted of a batch's chunks, from this number on: none at the end.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn chunks(&self, id: BatchId, from: u32) -> Result<Vec<ChunkNotes>, StoreError>;

    /// Puts right what was counted of a batch, unless it has moved since: its counts, its place in the
    /// ring, its end, its event; chunks that nobody has can be claimed again. False if it has moved.
    ///
    /// # Errors
    /// [`StoreError`]. Repairing again changes nothing.
    async fn repair(&self, id: BatchId, was: &Notes, found: &Recount) -> Result<bool, StoreError>;

    /// Looks after batches that were not looked after for a while, at the same cost whatever their size:
    /// one that could be claimed and is in no ring is put back, and who stands still is told of.
    /// Bounded; to be called again and again.
    ///
    /// # Errors
    /// [`StoreError`]. Any number of processes may look.
    async fn look_after(&self) -> Result<Vec<Concern>, StoreError>;
}

/// What looking after batches found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concern {
    /// The batch.
    pub batch: BatchId,
    /// What is the matter with it.
    pub what: Matter,
}

/// What is the matter with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matter {
    /// It could be claimed and was in no ring; now it is.
    Requeued,
    /// Nothing of it has ended for a long while, though it should.
    StandsStill {
        /// How many messages are open.
        open: u64,
        /// Since when their number is the same.
        since: UnixMs,
    },
}

/// A batch that was audited.
#[derive(Clone, Debug)]
pub struct Audited {
    /// What was noted of it.
    pub notes: Notes,
    /// What its messages say.
    pub recount: Recount,
    /// What does not agree; `None` if it moved all the while, so that nothing can be said.
    pub findings: Option<Vec<Finding>>,
}

/// Counts a batch again. `None` if there is none.
///
/// # Errors
/// [`StoreError`].
pub async fn audit(store: &dyn Audit, id: BatchId) -> Result<Option<Audited>, StoreError> {
    let Some(mut notes) = store.notes(id).await? else { return Ok(None) };
    let mut recount = count(store, id, &notes).await?;
    for _ in 0..ROUNDS_MAX {
        let Some(after) = store.notes(id).await? else { return Ok(None) };
        if after == notes {
            let findings = Some(recount.findings(&notes));
            return Ok(Some(Audited { notes, recount, findings }));
        }
        notes = after;
        recount = count(store, id, &notes).await?;
    }
    Ok(Some(Audited { notes, recount, findings: None }))
}

async fn count(store: &dyn Audit, id: BatchId, notes: &Notes) -> Result<Recount, StoreError> {
    let (mut recount, mut from) = (Recount::default(), 0);
    loop {
        let chunks = store.chunks(id, from).await?;
        let Some(last) = chunks.last() else { return Ok(recount) };
        from = last.number + 1;
        for chunk in &chunks {
            recount.add(notes, chunk);
        }
    }
}
