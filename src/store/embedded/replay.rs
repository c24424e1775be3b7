//! Events that are delivered again: one at once, or all that an order means, piece by piece.

use rusqlite::params;

use super::{
    columns::{Id, integer},
    intake::word,
    step::Step,
    sweep::STEP,
};
use crate::{
    domain::{ids::BatchId, time::millis},
    store::{ORDER_KNOWN, ReplayError, ReplayOrder, is_of_host},
};

/// At most so many events are looked at for an order, a step.
pub(super) const LOOKED_AT_MAX: i64 = 1_000;

/// An order that is under way.
struct Order {
    nonce: i64,
    account: String,
    state: String,
    since_ms: i64,
    host: Option<String>,
    at_ms: i64,
    place: i64,
}

/// Has a batch's completion event delivered again.
pub(super) fn one(
    step: &mut Step<'_>,
    account: &str,
    id: BatchId,
) -> rusqlite::Result<Result<(), ReplayError>> {
    // One that is being erased is gone already.
    let sql = "SELECT completed_ms IS NOT NULL, callback IS NOT NULL, \
               (SELECT event FROM event WHERE id = ?1) FROM batch \
               WHERE id = ?1 AND account = ?2 AND state != 'dropped' \
               AND (purge_ms IS NULL OR purge_ms > ?3)";
    let found = step.row(sql, (Id(id), account, step.now), |row| {
        Ok((row.get::<_, bool>(0)?, row.get::<_, bool>(1)?, row.get::<_, Option<i64>>(2)?))
    })?;
    Ok(match found {
        None => Err(ReplayError::NotFound),
        Some((_, false, _)) => Err(ReplayError::NoCallback),
        Some((false, ..) | (.., None)) => Err(ReplayError::NotOver),
        Some((.., Some(event))) => {
            step.deliver_again(event)?;
            Ok(())
        }
    })
}

/// Notes an order. [`carry_out`] carries it out.
pub(super) fn order(
    step: &mut Step<'_>,
    account: &str,
    order: &ReplayOrder,
) -> rusqlite::Result<()> {
    step.run(
        "INSERT OR IGNORE INTO replay (nonce, account, state, since_ms, host, at_ms) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            word(order.nonce),
            account,
            order.state.word(),
            integer(order.since.0),
            order.host,
            step.now
        ],
    )?;
    let sql = "INSERT OR IGNORE INTO replaying VALUES (?1, ?2)";
    step.run(sql, (account, step.next_turn()?)).map(|_| ())
}

/// Carries out an order, a bounded piece of it. Accounts take turns, so that a big order holds up
/// nobody else's; the orders of one account come one after the other. Gives how many events are
/// delivered again, and how many were looked at.
pub(super) fn carry_out(step: &mut Step<'_>) -> rusqlite::Result<(u64, u64)> {
    // Orders that were carried out are known for a while, so that a repeat changes nothing.
    let long_ago = step.now - integer(millis(ORDER_KNOWN));
    step.run("DELETE FROM replay WHERE done_ms < ?1", [long_ago])?;
    let sql = "SELECT account FROM replaying ORDER BY turn LIMIT 1";
    let next: Option<String> = step.row(sql, [], |row| row.get(0))?;
    let Some(account) = next else { return Ok((0, 0)) };
    let sql = "SELECT nonce, account, state, since_ms, host, at_ms, place FROM replay \
               WHERE account = ?1 AND done_ms IS NULL ORDER BY at_ms LIMIT 1";
    let found = step.row(sql, [&account], |row| {
        Ok(Order {
            nonce: row.get(0)?,
            account: row.get(1)?,
            state: row.get(2)?,
            since_ms: row.get(3)?,
            host: row.get(4)?,
            at_ms: row.get(5)?,
            place: row.get(6)?,
        })
    })?;
    let replayed = found.map_or(Ok((0, 0)), |order| order.carry_on(step))?;
    let sql = "UPDATE replaying SET turn = ?2 WHERE account = ?1";
    step.run(sql, (&account, step.next_turn()?))?;
    let sql = "DELETE FROM replaying WHERE account = ?1 AND NOT EXISTS \
               (SELECT 1 FROM replay WHERE account = ?1 AND done_ms IS NULL)";
    step.run(sql, [&account])?;
    Ok(replayed)
}

// === impl Order ===

impl Order {
    fn carry_on(mut self, step: &mut Step<'_>) -> rusqlite::Result<(u64, u64)> {
        // A report of progress is out of date by now.
        let sql = "SELECT event, host, state = ?3 AND kind != 'progress' \
                   AND ended_ms BETWEEN ?4 AND ?5 FROM event \
                   WHERE account = ?1 AND event > ?2 ORDER BY event LIMIT ?6";
        let with =
            params![self.account, self.place, self.state, self.since_ms, self.at_ms, LOOKED_AT_MAX];
        let events: Vec<(i64, String, Option<bool>)> =
            step.rows(sql, with, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let (mut again, mut looked_at) = (0, 0);
        for (event, host, is_meant) in &events {
            if again == STEP {
                break;
            }
            let is_there = self.host.as_ref().is_none_or(|wanted| is_of_host(host, wanted));
            if *is_meant == Some(true) && is_there {
                step.deliver_again(*event)?;
                again += 1;
            }
            self.place = *event;
            looked_at += 1;
        }
        let is_done = looked_at < LOOKED_AT_MAX && again < STEP;
        let sql = "UPDATE replay SET place = ?2, done_ms = ?3 WHERE nonce = ?1";
        step.run(sql, (self.nonce, self.place, is_done.then_some(step.now)))?;
        Ok((again.unsigned_abs(), looked_at.unsigned_abs()))
    }
}
