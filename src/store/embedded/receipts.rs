//! [`Receipts`] in this process: they carry no lease, and move messages forward only, whoever holds their
//! chunks.

use std::time::Duration;

use async_trait::async_trait;

use super::{
    EmbeddedStore,
    columns::{Id, chunk_key, integer},
    finish::{Moved, open_in},
    messages::chunk_of,
    step::Step,
    sweep::STEP,
};
use crate::{
    domain::{
        ids::BatchId,
        message::FinalState,
        state_byte::{StateByte, Taken},
        time::millis,
    },
    store::{Heard, RECEIPT_TIMEOUT_MAX, Receipts, StoreError, StoredReceipt},
};

/// The longest wait and a clock that was stepped back a little are no reason to end it.
const STEP_BACK: Duration = Duration::from_hours(24);

#[async_trait]
impl Receipts for EmbeddedStore {
    async fn take(
        &self,
        providers: &[String],
        batch: BatchId,
        receipts: &[StoredReceipt],
    ) -> Result<Vec<Heard>, StoreError> {
        let (providers, receipts) = (providers.to_vec(), receipts.to_vec());
        self.write(move |step| take(step, &providers, batch, &receipts)).await
    }
}

/// A batch as receipts find it.
struct Batch {
    key: i64,
    provider: String,
    is_over: bool,
    /// The first chunk that was never claimed.
    cursor: u32,
    /// The first chunk that was closed without being looked at.
    cut: Option<u32>,
    /// One more than the highest chunk's number.
    top: u32,
}

/// A chunk that receipts move messages of.
struct Chunk {
    number: u32,
    key: i64,
    first: u32,
    states: Vec<u8>,
    held: bool,
    log: Vec<u8>,
}

/// What the receipts of one call change.
#[derive(Default)]
struct Change {
    moved: Moved,
    /// Open messages that left workers' hands.
    leaving: i64,
    late_delivered: i64,
    late_undelivered: i64,
    /// The indexes of messages that were not delivered.
    failures: Vec<u32>,
}

fn take(
    step: &mut Step<'_>,
    providers: &[String],
    id: BatchId,
    receipts: &[StoredReceipt],
) -> rusqlite::Result<Vec<Heard>> {
    let found = Batch::read(step, id)?.filter(|batch| providers.contains(&batch.provider));
    let Some(batch) = found else { return Ok(vec![Heard::Unknown; receipts.len()]) };
    let mut change = Change::default();
    let mut current: Option<Chunk> = None;
    let mut heard = Vec::with_capacity(receipts.len());
    for receipt in receipts {
        if current.as_ref().is_none_or(|chunk| chunk.place(receipt.index).is_none()) {
            if let Some(chunk) = current.take() {
                chunk.store(step)?;
            }
            current = Chunk::read(step, &batch, receipt.index)?;
        }
        heard.push(match &mut current {
            Some(chunk) => chunk.hear(&batch, receipt, &mut change),
            None => Heard::Unknown,
        });
    }
    if let Some(chunk) = current {
        chunk.store(step)?;
    }
    change.note(step, &batch)?;
    Ok(heard)
}

/// Ends the wait for receipts of batches that were handed over long enough ago: what no receipt came for
/// has been sent, and that is all. Their bytes stay, and readers show the one as the other. A batch with open
/// messages (a repair found some) does not wait yet: it is put back once they are handed over. Gives how
/// many batches there were.
pub(super) fn lapse(step: &mut Step<'_>) -> rusqlite::Result<u64> {
    let due: Vec<i64> = step.due(
        "SELECT batch FROM batch WHERE receipts_ms IS NOT NULL AND receipts_ms <= ?1 \
         ORDER BY receipts_ms LIMIT ?2",
        "SELECT batch FROM batch WHERE receipts_ms IS NOT NULL AND receipts_ms > ?1 \
         ORDER BY receipts_ms LIMIT ?2",
        integer(millis(RECEIPT_TIMEOUT_MAX + STEP_BACK)),
        STEP,
    )?;
    for batch in &due {
        let sql = "UPDATE batch SET receipts_ms = NULL WHERE batch = ?1 \
                   RETURNING iif(open > 0, 0, awaiting)";
        let awaiting: i64 = step.row(sql, [batch], |row| row.get(0))?.unwrap_or_default();
        let mut moved = Moved { awaiting: -awaiting, ..Moved::default() };
        moved.ended.add(FinalState::Sent, awaiting.unsigned_abs());
        step.finish(*batch, &moved, 0)?;
    }
    Ok(due.len() as u64)
}

// === impl Batch ===

impl Batch {
    /// A batch that is being erased, or is about to be, is gone already: nothing may put that off.
    fn read(step: &Step<'_>, id: BatchId) -> rusqlite::Result<Option<Self>> {
        let sql = "SELECT batch, provider, completed_ms IS NOT NULL, cursor, cut, top FROM batch \
                   WHERE id = ?1 AND body_hash IS NOT NULL AND state != 'dropped' \
                   AND (purge_ms IS NULL OR purge_ms > ?2)";
        step.row(sql, (Id(id), step.now), |row| {
            Ok(Self {
                key: row.get(0)?,
                provider: row.get(1)?,
                is_over: row.get(2)?,
                cursor: row.get(3)?,
                cut: row.get(4)?,
                top: row.get(5)?,
            })
        })
    }

    /// A message that is open can only have been handed over if its chunk was claimed.
    fn was_claimed(&self, chunk: u32) -> bool {
        chunk < self.cursor && self.cut.is_none_or(|cut| chunk < cut)
    }
}

// === impl Chunk ===

impl Chunk {
    /// The chunk that may hold the message `index`.
    fn read(step: &Step<'_>, batch: &Batch, index: u32) -> rusqlite::Result<Option<Self>> {
        let number = step.look(|db| chunk_of(db, batch.key, batch.top, index))?;
        let key = chunk_key(batch.key, number);
        let sql = "SELECT first, states, until_ms IS NOT NULL FROM chunk WHERE chunk = ?1";
        step.row(sql, [key], |row| {
            let (first, states, held) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(Self { number, key, first, states, held, log: Vec::new() })
        })
    }

    /// Where the message `index` is in it, if it is.
    fn place(&self, index: u32) -> Option<usize> {
        let place = usize::try_from(index.checked_sub(self.first)?).ok()?;
        (place < self.states.len()).then_some(place)
    }

    fn hear(&mut self, batch: &Batch, receipt: &StoredReceipt, change: &mut Change) -> Heard {
        let Some(place) = self.place(receipt.index) else { return Heard::Unknown };
        let before = StateByte(self.states[place]);
        if before == StateByte::OPEN && !batch.was_claimed(self.number) {
            return Heard::Unknown;
        }
        let (after, taken) = before.hear(receipt.state, batch.is_over);
        if after != before {
            self.states[place] = after.0;
            // A chunk's places fit two bytes.
            let place = u16::try_from(place).unwrap_or(u16::MAX);
            self.log.extend(place.to_be_bytes());
            self.log.extend(&receipt.record);
        }
        match taken {
            Taken::Counted { early } => change.count(receipt, early, self.held),
            Taken::Late => change.add_late(receipt.state),
            Taken::Again | Taken::Contrary => {}
        }
        taken.into()
    }

    /// A chunk that is left without an open message is nobody's any more.
    fn store(self, step: &Step<'_>) -> rusqlite::Result<()> {
        if self.log.is_empty() {
            return Ok(());
        }
        let is_done = !self.held && open_in(&self.states) == 0;
        let sql = "UPDATE chunk SET states = ?2, due_ms = iif(?3, NULL, due_ms) WHERE chunk = ?1";
        step.run(sql, (self.key, &self.states, is_done))?;
        if is_done {
            step.run("DELETE FROM waiting WHERE chunk = ?1", [self.key])?;
        }
        step.run("INSERT INTO receipt (chunk, records) VALUES (?1, ?2)", (self.key, &self.log))?;
        Ok(())
    }
}

// === impl Change ===

impl Change {
    /// A message whose submission is not recorded yet leaves the hands it is in.
    fn count(&mut self, receipt: &StoredReceipt, early: bool, held: bool) {
        self.moved.ended.add(receipt.state, 1);
        if receipt.state == FinalState::Undelivered {
            self.failures.push(receipt.index);
        }
        if early {
            self.leaving += i64::from(held);
        } else {
            self.moved.awaiting -= 1;
        }
    }

    fn add_late(&mut self, state: FinalState) {
        match state {
            FinalState::Delivered => self.late_delivered += 1,
            _ => self.late_undelivered += 1,
        }
    }

    fn note(&self, step: &mut Step<'_>, batch: &Batch) -> rusqlite::Result<()> {
        if !self.failures.is_empty() {
            step.tell_failures(batch.key, &self.failures)?;
        }
        if self.moved != Moved::default() {
            step.finish(batch.key, &self.moved, self.leaving)?;
        }
        // Before the batch is over they are kept beside their messages, and that is all.
        if !batch.is_over || self.late_delivered + self.late_undelivered == 0 {
            return Ok(());
        }
        step.run(
            "UPDATE batch SET late_delivered = late_delivered + ?2, \
             late_undelivered = late_undelivered + ?3 WHERE batch = ?1",
            (batch.key, self.late_delivered, self.late_undelivered),
        )?;
        step.tell_late(batch.key)
    }
}

impl From<Taken> for Heard {
    fn from(taken: Taken) -> Self {
        match taken {
            Taken::Counted { early: false } => Self::Counted,
            Taken::Counted { early: true } => Self::Early,
            Taken::Late => Self::Late,
            Taken::Again => Self::Again,
            Taken::Contrary => Self::Contrary,
        }
    }
}
