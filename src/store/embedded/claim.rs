//! Claiming: of the priority that has its turn the account at the head of the ring, of its batches
//! the one at the head; both then go to the tail. A parked or returned chunk that is due goes before
//! the never-claimed ones.
//!
//! Priorities share the turns by weight (stride scheduling): each has a mark, which moves on by its
//! stride with every turn it takes, and the one whose mark lies furthest back has the next turn. One
//! that had nothing to do joins at the mark of the last turn, so that it saves up no turns.
//!
//! A batch rests in its quiet hours, and while its own rate has no time to give: then it leaves the
//! ring until that is over.

use std::time::Duration;

use super::{
    columns::{Id, chunk_key, instant, integer, interval, of_key, past, spec},
    finish::{PARK_MAX_MS, open_in},
    intake::word,
    step::Step,
};
use crate::{
    domain::{ids::BatchId, record},
    store::{Claim, Claimed, Ring, SendTimes, Token, pace},
};

/// The most chunks, batches and accounts that one claim looks at.
const LOOKS_MAX: usize = 32;

/// How far a turn moves the mark of high, normal and low.
const STRIDES: [i64; 3] = [1, 4, 16];

/// A priority that has its turn.
struct Turn {
    /// As the file keeps it: 1 to 3.
    priority: i64,
    /// The mark of this turn.
    mark: i64,
    stride: i64,
    /// Whether another priority waits for one.
    contested: bool,
}

/// A batch that has its turn.
struct Next {
    batch: i64,
    id: BatchId,
    priority: i64,
    account: String,
    /// Whether its state lets it be claimed.
    claimable: bool,
    cursor: u32,
    top: u32,
    /// The interval of its own rate, if it has one, and how far that was handed out.
    interval: Option<Duration>,
    clock_us: i64,
    /// Whether it has quiet hours.
    quiet: bool,
}

/// A chunk that is to be held now.
struct Found {
    chunk: i64,
    fresh: bool,
}

/// See [`crate::store::Dispatch::claim`].
pub(super) fn claim(
    step: &mut Step<'_>,
    claim: &Claim,
    lease_ms: i64,
) -> rusqlite::Result<Option<Claimed>> {
    if let Some(again) = claimed_before(step, claim, lease_ms)? {
        return Ok(Some(again));
    }
    // Each look claims a chunk, passes one without an open message, or shortens a ring.
    for _ in 0..LOOKS_MAX {
        let Some(turn) = next_turn(step, &claim.provider)? else { return Ok(None) };
        let account = head_account(step, &claim.provider, turn.priority)?;
        let Some(next) = head_batch(step, &claim.provider, turn.priority, account)? else {
            continue;
        };
        let Some(found) = next_chunk(step, &next)? else {
            step.run("UPDATE batch SET turn = NULL WHERE batch = ?1", [next.batch])?;
            continue;
        };
        let sql = "SELECT states FROM chunk WHERE chunk = ?1";
        let states: Option<Vec<u8>> = step.row(sql, [found.chunk], |row| row.get(0))?;
        let open = states.as_deref().map_or(0, open_in);
        if open > 0 {
            turn.take(step, &claim.provider)?;
            return hold(step, claim, &next, &found, open, lease_ms).map(Some);
        }
    }
    step.rings.push(Ring::Work(claim.provider.clone()));
    Ok(None)
}

/// The chunk that a claim with this nonce got before: its reply was lost.
fn claimed_before(
    step: &Step<'_>,
    claim: &Claim,
    lease_ms: i64,
) -> rusqlite::Result<Option<Claimed>> {
    let held = step.row(
        "UPDATE chunk SET until_ms = ?2 WHERE nonce = ?1 AND until_ms IS NOT NULL \
         RETURNING chunk, turn",
        (word(claim.nonce), step.now + lease_ms),
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let Some((chunk, turn)) = held else { return Ok(None) };
    let (sql, batch) = ("SELECT id FROM batch WHERE batch = ?1", of_key(chunk).0);
    let Some(id) = step.row(sql, [batch], |row| row.get::<_, Id>(0))? else { return Ok(None) };
    let claimed = read_claimed(step, id.0, chunk, token(turn, word(claim.nonce)))?;
    // Its send times are lost: others follow.
    let times = send_times(step, batch, open_in(&claimed.states))?;
    Ok(Some(Claimed { times, ..claimed }))
}

/// The priority that has its turn, if there is anything to claim.
fn next_turn(step: &Step<'_>, provider: &str) -> rusqlite::Result<Option<Turn>> {
    let marks = step.row(
        "SELECT last_mark, mark_1, mark_2, mark_3, \
         EXISTS (SELECT 1 FROM ring WHERE provider = ?1 AND priority = 1), \
         EXISTS (SELECT 1 FROM ring WHERE provider = ?1 AND priority = 2), \
         EXISTS (SELECT 1 FROM ring WHERE provider = ?1 AND priority = 3) \
         FROM provider WHERE name = ?1",
        [provider],
        |row| {
            let last: i64 = row.get(0)?;
            let mut waiting = Vec::with_capacity(STRIDES.len());
            for (column, (priority, stride)) in (1..).zip((1..).zip(STRIDES)) {
                if row.get(column + STRIDES.len())? {
                    waiting.push((row.get::<_, i64>(column)?.max(last), priority, stride));
                }
            }
            Ok(waiting)
        },
    )?;
    let waiting = marks.unwrap_or_default();
    let contested = waiting.len() > 1;
    let next = waiting.into_iter().min();
    Ok(next.map(|(mark, priority, stride)| Turn { priority, mark, stride, contested }))
}

fn head_account(step: &Step<'_>, provider: &str, priority: i64) -> rusqlite::Result<String> {
    let sql = "SELECT account FROM ring WHERE provider = ?1 AND priority = ?2 \
               ORDER BY turn LIMIT 1";
    let head = step.row(sql, (provider, priority), |row| row.get(0))?;
    head.ok_or(rusqlite::Error::QueryReturnedNoRows)
}

/// An account without a batch leaves the ring.
fn head_batch(
    step: &Step<'_>,
    provider: &str,
    priority: i64,
    account: String,
) -> rusqlite::Result<Option<Next>> {
    let next = step.row(
        "SELECT batch, id, state IN ('queued', 'running') AND closes IS NULL, cursor, top, \
         interval_ns, clock_us, quiet FROM batch \
         WHERE provider = ?1 AND priority = ?2 AND account = ?3 AND turn IS NOT NULL \
         ORDER BY turn LIMIT 1",
        (provider, priority, &account),
        |row| {
            Ok(Next {
                batch: row.get(0)?,
                id: row.get::<_, Id>(1)?.0,
                priority,
                account: account.clone(),
                claimable: row.get(2)?,
                cursor: row.get(3)?,
                top: row.get(4)?,
                interval: interval(row, 5)?,
                clock_us: row.get(6)?,
                quiet: row.get(7)?,
            })
        },
    )?;
    if next.is_none() {
        let sql = "DELETE FROM ring WHERE provider = ?1 AND priority = ?2 AND account = ?3";
        step.run(sql, (provider, priority, account))?;
    }
    Ok(next)
}

/// The next chunk of a batch: a parked one that is due, else the one at the cursor.
fn next_chunk(step: &Step<'_>, next: &Next) -> rusqlite::Result<Option<Found>> {
    if !next.claimable {
        return Ok(None);
    }
    if let Some(until_ms) = next.rests_until(step)? {
        step.come_due(next.batch, until_ms.min(step.now + PARK_MAX_MS))?;
        return Ok(None);
    }
    let parked: Option<(i64, i64)> = step.row(
        "SELECT chunk, due_ms FROM chunk WHERE chunk >> 32 = ?1 AND due_ms IS NOT NULL \
         ORDER BY due_ms LIMIT 1",
        [next.batch],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    // One that is parked for longer than there is was so before the clock was stepped back.
    let is_due = |due_ms| due_ms <= step.now || due_ms > step.now + PARK_MAX_MS;
    if let Some((chunk, _)) = parked.filter(|(_, due_ms)| is_due(*due_ms)) {
        step.run("UPDATE chunk SET due_ms = NULL WHERE chunk = ?1", [chunk])?;
        return Ok(Some(Found { chunk, fresh: false }));
    }
    if next.cursor < next.top {
        step.run("UPDATE batch SET cursor = cursor + 1 WHERE batch = ?1", [next.batch])?;
        return Ok(Some(Found { chunk: chunk_key(next.batch, next.cursor), fresh: true }));
    }
    if let Some((_, due_ms)) = parked {
        step.come_due(next.batch, due_ms)?;
    }
    Ok(None)
}

fn hold(
    step: &Step<'_>,
    claim: &Claim,
    next: &Next,
    found: &Found,
    open: i64,
    lease_ms: i64,
) -> rusqlite::Result<Claimed> {
    let (turn, nonce) = (step.next_turn()?, word(claim.nonce));
    step.run(
        "UPDATE chunk SET until_ms = ?2, turn = ?3, nonce = ?4, sequence = 0, done = 0 \
         WHERE chunk = ?1",
        (found.chunk, step.now + lease_ms, turn, nonce),
    )?;
    step.run(
        "UPDATE batch SET turn = ?2, sending = sending + ?3, behind = behind - iif(?4, ?3, 0), \
         state = 'running', started_ms = coalesce(started_ms, ?5) WHERE batch = ?1",
        (next.batch, turn, open, found.fresh, step.now),
    )?;
    let sql = "UPDATE ring SET turn = ?4 WHERE provider = ?1 AND priority = ?2 AND account = ?3";
    step.run(sql, (&claim.provider, next.priority, &next.account, turn))?;
    let sql = "UPDATE provider SET sending = sending + ?2 WHERE name = ?1";
    step.run(sql, (&claim.provider, open))?;
    let times = if next.interval.is_some() { send_times(step, next.batch, open)? } else { None };
    let claimed = read_claimed(step, next.id, found.chunk, token(turn, nonce))?;
    Ok(Claimed { times, ..claimed })
}

/// A run of send times for a chunk with so many open messages, if its batch has a rate of its own.
fn send_times(step: &Step<'_>, batch: i64, open: i64) -> rusqlite::Result<Option<SendTimes>> {
    let sql = "SELECT interval_ns, clock_us FROM batch WHERE batch = ?1";
    let found = step.row(sql, [batch], |row| Ok((interval(row, 0)?, row.get(1)?)))?;
    let Some((Some(interval), clock_us)) = found else { return Ok(None) };
    let (times, clock_us) = pace::next_run(clock_us, step.now, interval, open);
    step.run("UPDATE batch SET clock_us = ?2 WHERE batch = ?1", (batch, clock_us))?;
    Ok(Some(times))
}

fn read_claimed(
    step: &Step<'_>,
    batch: BatchId,
    chunk: i64,
    token: Token,
) -> rusqlite::Result<Claimed> {
    let sql = "SELECT place, known FROM waiting WHERE chunk = ?1";
    let waiting = step.rows(sql, [chunk], |row| {
        Ok((row.get(0)?, record::read_open(row.get_ref(1)?.as_blob()?)))
    })?;
    let claimed = step.row(
        "SELECT first, states, recipients, past FROM chunk JOIN recipients USING (chunk) \
         WHERE chunk = ?1",
        [chunk],
        |row| {
            Ok(Claimed {
                batch,
                chunk: of_key(chunk).1,
                first: row.get(0)?,
                token,
                now: instant(step.now),
                states: row.get::<_, Vec<u8>>(1)?.into(),
                recipients: row.get::<_, Vec<u8>>(2)?.into(),
                waiting,
                times: None,
                past: past(row, 3)?,
            })
        },
    )?;
    claimed.ok_or(rusqlite::Error::QueryReturnedNoRows)
}

// === impl Next ===

impl Next {
    /// Until when it rests, if it does.
    fn rests_until(&self, step: &Step<'_>) -> rusqlite::Result<Option<i64>> {
        if self.quiet {
            let sql = "SELECT spec FROM spec WHERE batch = ?1";
            let spec = step.row(sql, [self.batch], |row| spec(row, 0))?;
            let quiet_hours = spec.and_then(|spec| spec.quiet_hours);
            let rests = quiet_hours.and_then(|quiet| quiet.rest_until(instant(step.now)));
            if let Some(until) = rests {
                return Ok(Some(integer(until.0)));
            }
        }
        let Some(interval) = self.interval else { return Ok(None) };
        Ok(pace::rests_until(self.clock_us, step.now, interval))
    }
}

// === impl Turn ===

impl Turn {
    /// Counts the turn, if any other priority could have had it.
    fn take(&self, step: &Step<'_>, provider: &str) -> rusqlite::Result<()> {
        if !self.contested {
            return Ok(());
        }
        let sql = match self.priority {
            1 => "UPDATE provider SET last_mark = ?2, mark_1 = ?3 WHERE name = ?1",
            2 => "UPDATE provider SET last_mark = ?2, mark_2 = ?3 WHERE name = ?1",
            _ => "UPDATE provider SET last_mark = ?2, mark_3 = ?3 WHERE name = ?1",
        };
        step.run(sql, (provider, self.mark, self.mark + self.stride)).map(|_| ())
    }
}

/// The proof of a lease.
pub(super) fn token(turn: i64, nonce: i64) -> Token {
    Token(format!("{turn}-{nonce:016x}"))
}
