//! What clients wish of a batch: cancel, pause, resume, amend, erase.

use super::{
    EmbeddedStore,
    columns::{Id, Word, integer},
    step::Step,
};
use crate::{
    domain::{
        batch::{BatchSpec, BatchState},
        ids::BatchId,
        message::FinalState,
    },
    store::{Ring, WishError, stored},
};

/// How a wish ended: granted, or the batch is in a state that does not allow it.
type Granted<T = ()> = Result<T, BatchState>;

/// What a wish is judged by.
pub(super) struct Wished {
    id: BatchId,
    batch: i64,
    state: BatchState,
}

/// What a batch is to do from now on.
pub(super) struct Amendment {
    /// The spec that is to be there.
    was: Vec<u8>,
    /// The spec that takes its place.
    becomes: Vec<u8>,
    send_ms: Option<i64>,
    expire_ms: Option<i64>,
}

// === impl Amendment ===

impl Amendment {
    pub(super) fn new(was: &BatchSpec, becomes: &BatchSpec) -> Self {
        Self {
            was: stored::write_spec(was),
            becomes: stored::write_spec(becomes),
            send_ms: becomes.send_at.map(|at| integer(at.0)),
            expire_ms: becomes.expire_at.map(|at| integer(at.0)),
        }
    }
}

// === impl EmbeddedStore ===

impl EmbeddedStore {
    pub(super) async fn wish<T: Send + 'static>(
        &self,
        account: &str,
        id: BatchId,
        grant: impl FnOnce(&mut Step<'_>, &Wished) -> rusqlite::Result<Granted<T>> + Send + 'static,
    ) -> Result<T, WishError> {
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
            Some(Ok(granted)) => Ok(granted),
        }
    }
}

/// Cancels a batch. One that has expired is closed already.
pub(super) fn cancel(step: &mut Step<'_>, wished: &Wished) -> rusqlite::Result<Granted> {
    match wished.state {
        BatchState::Canceled => return Ok(Ok(())),
        over @ (BatchState::Completed | BatchState::Receiving) => return Ok(Err(over)),
        _ => {}
    }
    let sql = "UPDATE batch SET state = 'canceled' WHERE batch = ?1 RETURNING closes IS NULL";
    if step.row(sql, [wished.batch], |row| row.get(0))? == Some(true) {
        step.cut_off(wished.batch, FinalState::Canceled)?;
    }
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

/// Changes what a batch that waits for its time is to do, and has it begin if that has come by this.
pub(super) fn amend(
    step: &mut Step<'_>,
    wished: &Wished,
    amendment: &Amendment,
) -> rusqlite::Result<Granted<bool>> {
    let sql = "SELECT spec FROM spec WHERE batch = ?1";
    let spec: Option<Vec<u8>> = step.row(sql, [wished.batch], |row| row.get(0))?;
    if spec.as_ref() == Some(&amendment.becomes) {
        return Ok(Ok(true));
    }
    if wished.state != BatchState::Scheduled {
        return Ok(Err(wished.state));
    }
    if spec.as_ref() != Some(&amendment.was) {
        return Ok(Ok(false));
    }
    step.run("UPDATE spec SET spec = ?2 WHERE batch = ?1", (wished.batch, &amendment.becomes))?;
    let sql = "UPDATE batch SET send_ms = ?2, expire_ms = ?3 WHERE batch = ?1";
    step.run(sql, (wished.batch, amendment.send_ms, amendment.expire_ms))?;
    step.begin(wished.batch)?;
    Ok(Ok(true))
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
