//! What clients wish of a batch: cancel, pause, resume.

use super::{
    EmbeddedStore,
    columns::{Id, Word},
    step::Step,
};
use crate::{
    domain::{
        batch::{BatchState, FinalCounts},
        ids::BatchId,
        message::FinalState,
    },
    store::{Ring, WishError},
};

/// How a wish ended: granted, or the batch is in a state that does not allow it.
type Granted = Result<(), BatchState>;

/// What a wish is judged by.
pub(super) struct Wished {
    id: BatchId,
    batch: i64,
    state: BatchState,
}

// === impl EmbeddedStore ===

impl EmbeddedStore {
    pub(super) async fn wish(
        &self,
        account: &str,
        id: BatchId,
        grant: fn(&mut Step<'_>, &Wished) -> rusqlite::Result<Granted>,
    ) -> Result<(), WishError> {
        let account = account.to_owned();
        let granted = self.write(move |step| {
            let sql = "SELECT batch, state FROM batch \
                       WHERE id = ?1 AND account = ?2 AND state != 'dropped'";
            let found = step.row(sql, (Id(id), account), |row| {
                Ok(Wished { id, batch: row.get(0)?, state: row.get::<_, Word<_>>(1)?.0 })
            })?;
            found.map(|wished| grant(step, &wished)).transpose()
        });
        match granted.await? {
            None => Err(WishError::NotFound),
            Some(Err(state)) => Err(WishError::State(state)),
            Some(Ok(())) => Ok(()),
        }
    }
}

/// Cancels a batch, at the same cost whatever its size: the cursor goes to the end, and the
/// messages behind it are counted at once; readers know them by `cut`, the first chunk closed so.
/// The sweep closes parked chunks; held ones are closed when their worker lets go.
pub(super) fn cancel(step: &mut Step<'_>, wished: &Wished) -> rusqlite::Result<Granted> {
    match wished.state {
        BatchState::Canceled => return Ok(Ok(())),
        over @ (BatchState::Completed | BatchState::Receiving) => return Ok(Err(over)),
        _ => {}
    }
    let behind = step.row("SELECT behind FROM batch WHERE batch = ?1", [wished.batch], |row| {
        super::columns::count(row, 0)
    })?;
    step.run(
        "UPDATE batch SET state = 'canceled', cut = cursor, cut_ms = ?2, cursor = top, behind = 0, \
         turn = NULL, due_ms = NULL, closing_ms = iif(EXISTS (SELECT 1 FROM chunk \
         WHERE chunk >> 32 = ?1 AND due_ms IS NOT NULL), ?2, NULL) WHERE batch = ?1",
        (wished.batch, step.now),
    )?;
    let mut moved = FinalCounts::default();
    moved.add(FinalState::Canceled, behind.unwrap_or(0));
    step.finish(wished.batch, &moved, 0)?;
    step.rings.push(Ring::Wish(wished.id));
    Ok(Ok(()))
}

/// Pauses a batch: out of the rings, and nothing due brings it back, nor its time.
pub(super) fn pause(step: &mut Step<'_>, wished: &Wished) -> rusqlite::Result<Granted> {
    match wished.state {
        BatchState::Paused => return Ok(Ok(())),
        BatchState::Scheduled | BatchState::Queued | BatchState::Running => {}
        other => return Ok(Err(other)),
    }
    let sql = "UPDATE batch SET state = 'paused', turn = NULL, due_ms = NULL WHERE batch = ?1";
    step.run(sql, [wished.batch])?;
    step.rings.push(Ring::Wish(wished.id));
    Ok(Ok(()))
}

/// Resumes a paused batch: back into the rings, where a claim finds what is due, or to wait for its
/// time.
pub(super) fn resume(step: &mut Step<'_>, wished: &Wished) -> rusqlite::Result<Granted> {
    match wished.state {
        BatchState::Scheduled | BatchState::Queued | BatchState::Running => return Ok(Ok(())),
        BatchState::Paused => {}
        other => return Ok(Err(other)),
    }
    let sql = "UPDATE batch SET state = 'running' WHERE batch = ?1 AND started_ms IS NOT NULL";
    match step.run(sql, [wished.batch])? {
        0 => step.begin(wished.batch)?,
        _ => step.enter(wished.batch)?,
    }
    step.rings.push(Ring::Wish(wished.id));
    Ok(Ok(()))
}

/// Has a batch that is over erased, without waiting for the time that it would be kept: now, or once
/// nothing is left to be told of it. The sweep does it.
pub(super) fn erase(step: &mut Step<'_>, wished: &Wished) -> rusqlite::Result<Granted> {
    let sql = "UPDATE batch SET keep_ms = 0 WHERE batch = ?1 AND completed_ms IS NOT NULL";
    if step.run(sql, [wished.batch])? == 0 {
        return Ok(Err(wished.state));
    }
    step.begin_retention(wished.batch)?;
    Ok(Ok(()))
}
