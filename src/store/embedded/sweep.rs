//! What the reaper does: takes back, closes, puts back, drops and erases, at most [`STEP`] things a
//! step.

use super::{
    columns::{self, integer, of_key},
    finish::{Moved, PARK_MAX_MS, open_in},
    intake::{drop_upload, free_key},
    step::Step,
};
use crate::{
    domain::{batch::DeliveryGuarantee, message::FinalState, time::millis},
    store::SCHEDULE_MAX,
};

/// The most things one step does.
pub(super) const STEP: i64 = 100;

/// Takes back chunks whose leases ran out: they can be claimed again at once, or are closed if
/// their batch was canceled or has expired meanwhile. Gives how many leases had run out, and how many of their
/// chunks were closed.
pub(super) fn recover(step: &mut Step<'_>, lease_ms: i64) -> rusqlite::Result<(u64, u64)> {
    let late: Vec<i64> = step.due(
        "SELECT chunk FROM chunk WHERE until_ms IS NOT NULL AND until_ms <= ?1 \
         ORDER BY until_ms LIMIT ?2",
        "SELECT chunk FROM chunk WHERE until_ms IS NOT NULL AND until_ms > ?1 \
         ORDER BY until_ms LIMIT ?2",
        lease_ms,
        STEP,
    )?;
    let mut closed = 0;
    for chunk in &late {
        closed += u64::from(take_back(step, *chunk)?);
        step.count("leases_lost", 1)?;
    }
    Ok((late.len() as u64, closed))
}

/// True if the chunk was closed.
fn take_back(step: &mut Step<'_>, chunk: i64) -> rusqlite::Result<bool> {
    let batch = of_key(chunk).0;
    let sql = "SELECT state, closes, once FROM batch WHERE batch = ?1";
    let found = step.row(sql, [batch], |row| {
        let once: bool = row.get(2)?;
        let guarantee =
            if once { DeliveryGuarantee::AtMostOnce } else { DeliveryGuarantee::AtLeastOnce };
        Ok((row.get::<_, String>(0)?, columns::closes(row, 1)?, guarantee))
    })?;
    let (state, closes, guarantee) = found.unwrap_or_default();
    note_loss(step, chunk, guarantee)?;
    // Without the lease's record, whoever had it is a stranger.
    let states = step.row(
        "UPDATE chunk SET until_ms = NULL, turn = NULL, nonce = NULL, due_ms = ?2 \
         WHERE chunk = ?1 RETURNING states",
        (chunk, step.now),
        |row| row.get::<_, Vec<u8>>(0),
    )?;
    let leaving = open_in(&states.unwrap_or_default());
    let mut moved = Moved::default();
    if let Some(closes) = closes {
        close_returned(step, chunk, closes, &mut moved)?;
    } else if state == "running" {
        step.enter(batch)?;
    }
    step.finish(batch, &moved, leaving)?;
    Ok(closes.is_some())
}

/// Closes parked and returned chunks of a batch that was canceled or has expired; gives how many.
pub(super) fn close(step: &mut Step<'_>) -> rusqlite::Result<u64> {
    let sql = "SELECT batch, closes FROM batch WHERE closing_ms IS NOT NULL \
               ORDER BY closing_ms LIMIT 1";
    let found = step.row(sql, [], |row| Ok((row.get(0)?, columns::closes(row, 1)?)))?;
    let Some((batch, closes)): Option<(i64, _)> = found else { return Ok(0) };
    let closes = closes.unwrap_or(FinalState::Canceled);
    let chunks: Vec<i64> = step.rows(
        "SELECT chunk FROM chunk WHERE chunk >> 32 = ?1 AND due_ms IS NOT NULL LIMIT ?2",
        (batch, STEP),
        |row| row.get(0),
    )?;
    let mut moved = Moved::default();
    for chunk in &chunks {
        close_returned(step, *chunk, closes, &mut moved)?;
    }
    if i64::try_from(chunks.len()).unwrap_or(i64::MAX) < STEP {
        step.run("UPDATE batch SET closing_ms = NULL WHERE batch = ?1", [batch])?;
    }
    step.finish(batch, &moved, 0)?;
    Ok(chunks.len() as u64)
}

/// Notes that a lease of this chunk was lost.
fn note_loss(step: &Step<'_>, chunk: i64, guarantee: DeliveryGuarantee) -> rusqlite::Result<()> {
    let sql = "SELECT past FROM chunk WHERE chunk = ?1";
    let past = step.row(sql, [chunk], |row| columns::past(row, 0))?.unwrap_or_default();
    let past = columns::past_column(&past.lost(guarantee));
    step.run("UPDATE chunk SET past = ?2 WHERE chunk = ?1", (chunk, past)).map(|_| ())
}

pub(super) fn close_returned(
    step: &Step<'_>,
    chunk: i64,
    state: FinalState,
    moved: &mut Moved,
) -> rusqlite::Result<()> {
    let sql = "SELECT states, past FROM chunk WHERE chunk = ?1";
    let found = step.row(sql, [chunk], |row| Ok((row.get(0)?, columns::past(row, 1)?)))?;
    let (mut states, past): (Vec<u8>, _) = found.unwrap_or_default();
    step.close_chunk(chunk, state, &past, &mut states, moved)?;
    let sql = "UPDATE chunk SET states = ?2, due_ms = NULL WHERE chunk = ?1";
    step.run(sql, (chunk, states)).map(|_| ())
}

/// Puts batches back into the ring that have rested, or have a parked chunk that is due; gives how many
/// there were.
pub(super) fn forward(step: &mut Step<'_>) -> rusqlite::Result<u64> {
    let due: Vec<i64> = step.due(
        "SELECT batch FROM batch WHERE due_ms IS NOT NULL AND due_ms <= ?1 \
         ORDER BY due_ms LIMIT ?2",
        "SELECT batch FROM batch WHERE due_ms IS NOT NULL AND due_ms > ?1 \
         ORDER BY due_ms LIMIT ?2",
        PARK_MAX_MS,
        STEP,
    )?;
    for batch in &due {
        let sql = "UPDATE batch SET due_ms = NULL WHERE batch = ?1 RETURNING state IN ('running', 'queued')";
        if step.row(sql, [batch], |row| row.get(0))? == Some(true) {
            step.enter(*batch)?;
        }
    }
    Ok(due.len() as u64)
}

/// Puts batches whose time has come into their rings; gives how many there were.
pub(super) fn start(step: &mut Step<'_>) -> rusqlite::Result<u64> {
    let due: Vec<i64> = step.due(
        "SELECT batch FROM batch WHERE state = 'scheduled' AND send_ms <= ?1 \
         ORDER BY send_ms LIMIT ?2",
        "SELECT batch FROM batch WHERE state = 'scheduled' AND send_ms > ?1 \
         ORDER BY send_ms LIMIT ?2",
        integer(millis(SCHEDULE_MAX)),
        STEP,
    )?;
    for batch in &due {
        step.run("UPDATE batch SET state = 'queued' WHERE batch = ?1", [batch])?;
        step.enter(*batch)?;
    }
    Ok(due.len() as u64)
}

/// Closes batches whose messages may leave no more; gives how many there were.
pub(super) fn expire(step: &mut Step<'_>) -> rusqlite::Result<u64> {
    // What is open is counted from the seal on: an upload does not expire.
    let due: Vec<i64> = step.due(
        "SELECT batch FROM batch WHERE expire_ms IS NOT NULL AND open > 0 AND expire_ms <= ?1 \
         ORDER BY expire_ms LIMIT ?2",
        "SELECT batch FROM batch WHERE expire_ms IS NOT NULL AND open > 0 AND expire_ms > ?1 \
         ORDER BY expire_ms LIMIT ?2",
        integer(millis(SCHEDULE_MAX)),
        STEP,
    )?;
    for batch in &due {
        step.cut_off(*batch, FinalState::Expired)?;
    }
    Ok(due.len() as u64)
}

/// Drops uploads that were not renewed in time; gives how many.
pub(super) fn expel(step: &mut Step<'_>, upload_lease_ms: i64) -> rusqlite::Result<u64> {
    let dead: Vec<i64> = step.due(
        "SELECT batch FROM batch WHERE upload_ms IS NOT NULL AND upload_ms <= ?1 \
         ORDER BY upload_ms LIMIT ?2",
        "SELECT batch FROM batch WHERE upload_ms IS NOT NULL AND upload_ms > ?1 \
         ORDER BY upload_ms LIMIT ?2",
        2 * upload_lease_ms,
        STEP,
    )?;
    for batch in &dead {
        drop_upload(step, *batch)?;
    }
    Ok(dead.len() as u64)
}

/// Erases a batch that was kept long enough, [`STEP`] chunks and events at a time. Gives how many of
/// these and how many batches were erased.
pub(super) fn purge(step: &mut Step<'_>, ahead_max_ms: i64) -> rusqlite::Result<(u64, u64)> {
    let due: Vec<i64> = step.due(
        "SELECT batch FROM batch WHERE purge_ms IS NOT NULL AND purge_ms <= ?1 \
         ORDER BY purge_ms LIMIT ?2",
        "SELECT batch FROM batch WHERE purge_ms IS NOT NULL AND purge_ms > ?1 \
         ORDER BY purge_ms LIMIT ?2",
        ahead_max_ms,
        1,
    )?;
    let Some(batch) = due.first().copied() else { return Ok((0, 0)) };
    // From here on it is gone for everybody, whatever the clock does until all of it is.
    step.run("UPDATE batch SET purge_ms = 0 WHERE batch = ?1", [batch])?;
    let chunks: Vec<i64> = step.rows(
        "SELECT chunk FROM chunk WHERE chunk BETWEEN ?1 << 32 AND (?1 << 32) + 0xffffffff \
         LIMIT ?2",
        (batch, STEP),
        |row| row.get(0),
    )?;
    for chunk in &chunks {
        step.run("DELETE FROM recipients WHERE chunk = ?1", [chunk])?;
        step.run("DELETE FROM log WHERE chunk = ?1", [chunk])?;
        step.run("DELETE FROM receipt WHERE chunk = ?1", [chunk])?;
        step.run("DELETE FROM waiting WHERE chunk = ?1", [chunk])?;
        step.run("DELETE FROM chunk WHERE chunk = ?1", [chunk])?;
    }
    if i64::try_from(chunks.len()).unwrap_or(i64::MAX) == STEP {
        return Ok((chunks.len() as u64, 0));
    }
    let sql = "DELETE FROM event WHERE event IN \
               (SELECT event FROM event WHERE batch = ?1 LIMIT ?2) RETURNING event";
    let events: Vec<i64> = step.rows(sql, (batch, STEP), |row| row.get(0))?;
    for event in &events {
        step.run("DELETE FROM attempt WHERE event = ?1", [event])?;
    }
    let erased = (chunks.len() + events.len()) as u64;
    if i64::try_from(events.len()).unwrap_or(i64::MAX) == STEP {
        return Ok((erased, 0));
    }
    free_key(step, batch)?;
    step.run("DELETE FROM spec WHERE batch = ?1", [batch])?;
    step.run("DELETE FROM batch WHERE batch = ?1", [batch])?;
    Ok((erased, 1))
}
