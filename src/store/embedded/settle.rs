//! Settling: outcomes for a chunk that the caller holds, and letting go of it if asked. A final
//! state is never overwritten, and what did not change is not counted.

use super::{
    claim::token,
    columns::{Id, chunk_key, closes, integer, past, past_column},
    finish::{Moved, PARK_MAX_MS, end, open_in, wish},
    intake::append_log,
    step::Step,
};
use crate::{
    domain::{ids::BatchId, message::FinalState, past::Past, record, state_byte::StateByte},
    store::{Release, Settled, Settlement, Token, Wish},
};

/// How a run of final states is written: place, number of messages, state.
const RUN_BYTES: usize = 5;

/// A chunk and its batch, as a settlement finds them.
struct Chunk {
    key: i64,
    batch: i64,
    batch_state: String,
    closes: Option<FinalState>,
    states: Vec<u8>,
    held: bool,
    sequence: u32,
    done: bool,
    past: Past,
}

/// What a chunk became by a settlement.
enum Became {
    Held,
    /// Every message is final, and the worker lets go of it.
    Done,
    /// It may be claimed from this instant on.
    Returned(i64),
}

/// See [`crate::store::Dispatch::settle`].
pub(super) fn settle(step: &mut Step<'_>, settlement: &Settlement) -> rusqlite::Result<Settled> {
    let found = find(step, settlement.batch, settlement.chunk, &settlement.token)?;
    let Some(mut chunk) = found else { return Ok(Settled::Lost) };
    if settlement.sequence <= chunk.sequence {
        return Ok(chunk.settled_before());
    }
    if !chunk.held {
        return Ok(Settled::Lost);
    }
    if settlement.sequence > chunk.sequence + 1 {
        return Ok(Settled::Behind(chunk.sequence));
    }
    let mut moved = Moved::default();
    let failures = apply_runs(&mut chunk.states, &settlement.changes, &mut moved);
    let ended = i64::try_from(moved.ended.sum()).unwrap_or(i64::MAX) + moved.awaiting;
    append_log(step, chunk.key, &settlement.log)?;
    keep_waiting(step, chunk.key, settlement)?;
    chunk.note_progress(settlement, ended);

    // How many messages leave the worker's hands: those that ended, and with a release the rest.
    let open = open_in(&chunk.states);
    let leaving = ended + if settlement.release.is_some() { open } else { 0 };
    let became = chunk.let_go(step, settlement.release, open, &mut moved)?;
    chunk.store(step, settlement.sequence, &became)?;
    tell_failures(step, &chunk, &failures)?;
    if step.finish(chunk.batch, &moved, leaving)? {
        return Ok(Settled::Completed);
    }
    Ok(match became {
        Became::Done => Settled::Done,
        // What the worker still has of a chunk without an open message need not be sent.
        Became::Held if open == 0 => Settled::Applied(Wish::Pause),
        _ => Settled::Applied(wish(&chunk.batch_state, chunk.closes)),
    })
}

/// The chunk whose last lease has this token, if that is so.
fn find(
    step: &Step<'_>,
    batch: BatchId,
    chunk: u32,
    given: &Token,
) -> rusqlite::Result<Option<Chunk>> {
    let sql = "SELECT batch, state, closes FROM batch WHERE id = ?1";
    let found =
        step.row(sql, [Id(batch)], |row| Ok((row.get(0)?, row.get(1)?, closes(row, 2)?)))?;
    let Some((batch, batch_state, closes)) = found else { return Ok(None) };
    let key = chunk_key(batch, chunk);
    step.row(
        "SELECT states, until_ms IS NOT NULL, sequence, done, turn, nonce, past FROM chunk \
         WHERE chunk = ?1 AND turn IS NOT NULL",
        [key],
        |row| {
            let found = Chunk {
                key,
                batch,
                batch_state,
                closes,
                states: row.get(0)?,
                held: row.get(1)?,
                sequence: row.get(2)?,
                done: row.get(3)?,
                past: past(row, 6)?,
            };
            Ok((token(row.get(4)?, row.get(5)?) == *given).then_some(found))
        },
    )
    .map(Option::flatten)
}

/// Applies final states in runs; see [`Settlement::changes`]. Gives the places that failed.
fn apply_runs(states: &mut [u8], runs: &[u8], moved: &mut Moved) -> Vec<usize> {
    let mut failures = Vec::new();
    for run in runs.as_chunks::<RUN_BYTES>().0 {
        let [place_high, place_low, number_high, number_low, state] = *run;
        let from = usize::from(u16::from_be_bytes([place_high, place_low]));
        let to = from + usize::from(u16::from_be_bytes([number_high, number_low]));
        if state == FinalState::Failed as u8 {
            failures.extend((from..to).filter(|place| states.get(*place) == Some(&0)));
        }
        end(states.get_mut(from..to), StateByte(state), moved);
    }
    failures
}

/// Tells of messages that failed, by their places in the chunk, if the client wants it.
fn tell_failures(step: &mut Step<'_>, chunk: &Chunk, places: &[usize]) -> rusqlite::Result<()> {
    if places.is_empty() {
        return Ok(());
    }
    let sql = "SELECT first FROM chunk WHERE chunk = ?1";
    let first = step.row(sql, [chunk.key], |row| row.get::<_, u32>(0))?.unwrap_or(0);
    // A place fits a u32: a chunk holds at most CHUNK_MESSAGES_MAX messages.
    let index = |place: &usize| first + u32::try_from(*place).unwrap_or(u32::MAX);
    step.tell_failures(chunk.batch, &places.iter().map(index).collect::<Vec<_>>())
}

fn keep_waiting(step: &Step<'_>, chunk: i64, settlement: &Settlement) -> rusqlite::Result<()> {
    for waiting in &settlement.waiting {
        let known = record::write_open(&waiting.open);
        let sql = "INSERT OR REPLACE INTO waiting VALUES (?1, ?2, ?3)";
        step.run(sql, (chunk, waiting.place, known))?;
    }
    Ok(())
}

// === impl Chunk ===

impl Chunk {
    /// What is started is written down with what has ended. Who lets go has started nothing more, and
    /// what an earlier lease left in doubt comes with the first settlement.
    fn note_progress(&mut self, settlement: &Settlement, ended: i64) {
        if settlement.release.is_some() {
            self.past.mark = None;
        } else if settlement.mark.is_some() || settlement.sequence == 1 {
            self.past.mark = settlement.mark;
        }
        if ended > 0 || !settlement.waiting.is_empty() {
            self.past = self.past.progressed();
        }
    }

    /// What a settlement that was applied before is told.
    fn settled_before(&self) -> Settled {
        if self.done {
            Settled::Done
        } else {
            Settled::Applied(wish(&self.batch_state, self.closes))
        }
    }

    /// Where the chunk goes: the number of open messages decides, once the worker lets go of it. Only that ends
    /// the lease: receipts may be faster than the record of a submission.
    fn let_go(
        &mut self,
        step: &mut Step<'_>,
        release: Option<Release>,
        open: i64,
        moved: &mut Moved,
    ) -> rusqlite::Result<Became> {
        let due_ms = match release {
            None => return Ok(Became::Held),
            Some(Release::Now) => step.now,
            Some(Release::At(at)) => integer(at.0).clamp(step.now, step.now + PARK_MAX_MS),
        };
        if open == 0 {
            step.run("DELETE FROM waiting WHERE chunk = ?1", [self.key])?;
            return Ok(Became::Done);
        }
        if let Some(state) = self.closes {
            step.close_chunk(self.key, state, &self.past, &mut self.states, moved)?;
            return Ok(Became::Done);
        }
        if due_ms > step.now {
            step.come_due(self.batch, due_ms)?;
        } else if self.batch_state == "running" {
            step.enter(self.batch)?;
        }
        Ok(Became::Returned(due_ms))
    }

    fn store(&self, step: &Step<'_>, sequence: u32, became: &Became) -> rusqlite::Result<()> {
        let due_ms = match became {
            Became::Held => {
                let sql = "UPDATE chunk SET states = ?2, sequence = ?3, past = ?4 WHERE chunk = ?1";
                let past = past_column(&self.past);
                return step.run(sql, (self.key, &self.states, sequence, past)).map(|_| ());
            }
            Became::Done => None,
            Became::Returned(due_ms) => Some(due_ms),
        };
        step.run(
            "UPDATE chunk SET states = ?2, sequence = ?3, due_ms = ?4, done = ?4 IS NULL, \
             until_ms = NULL, past = ?5 WHERE chunk = ?1",
            (self.key, &self.states, sequence, due_ms, past_column(&self.past)),
        )
        .map(|_| ())
    }
}
