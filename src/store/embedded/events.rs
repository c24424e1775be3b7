//! Events: how they come about, and how they end.
//!
//!   * A pending event waits (`due_ms`), or an attempt of it is under way (`until_ms`); an ended one
//!     does neither. One that has no delay to wait for is due [`AT_ONCE`].
//!   * `host.look_ms` is no later than there is something to take of the host: too early costs a look.
//!   * A batch's `unsent` is the number of its pending events. Once the batch is over and it is 0, the
//!     time that the batch is kept begins, and a replay stops it.

use rusqlite::params;

use super::{columns::Id, step::Step};
use crate::{
    domain::{batch::CallbackState, ids::BatchId, message::FinalState},
    store::Ring,
};

/// When an event is due that waits for nothing: before any instant that a clock can show, so that one
/// that is set back holds up none of them. They are taken in the order in which they came about.
pub(super) const AT_ONCE: i64 = 0;

/// At most so many failed messages of a batch are told of one by one.
const FAILURES_MAX: u32 = 10_000;

/// The number of the event that tells of the dispatch, before those that tell of progress.
const DISPATCHED: u64 = 1;

/// The numbers of events that tell of messages begin here.
const MESSAGES: u64 = 1 << 32;

/// The numbers of events that tell of late receipts begin here.
const AMENDMENTS: u64 = 1 << 33;

/// Late receipts are told of some time after they came, so that those that come together are told of
/// together: this long the first time, and so much longer each further time, so that a batch whose receipts
/// trickle in for days can be told of to the end. And at most so many times.
const AMEND_AFTER_MS: i64 = 2_000;
const REVISIONS_MAX: u32 = 1_000;

/// What decides whether progress is told.
struct Progress {
    ended: i64,
    total: i64,
    percent: Option<i64>,
    every_ms: Option<i64>,
    at: i64,
    is_pending: bool,
}

impl Step<'_> {
    /// Creates event `number` of a batch; 0 is the completion.
    fn add_event(
        &mut self,
        batch: i64,
        number: u64,
        kind: &str,
        about: &str,
    ) -> rusqlite::Result<Option<i64>> {
        let sql = "UPDATE batch SET told = told + 1, unsent = unsent + 1 WHERE batch = ?1 \
                   RETURNING id, account, host, told";
        let found = self.row(sql, [batch], |row| {
            let (account, host): (String, String) = (row.get(1)?, row.get(2)?);
            Ok((row.get::<_, Id>(0)?.0, account, host, row.get::<_, i64>(3)?))
        })?;
        let Some((id, account, host, sequence)) = found else { return Ok(None) };
        let event = self.next_turn()?;
        self.run(
            "INSERT INTO event (event, id, batch, account, host, kind, about, sequence, at_ms, \
             since_ms, due_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, ?10)",
            params![
                event,
                BatchId::further_event(id, number).ulid(),
                batch,
                account,
                host,
                kind,
                about,
                sequence,
                self.now,
                AT_ONCE
            ],
        )?;
        self.count("callback:pending", 1)?;
        self.look_at(&host, AT_ONCE)?;
        self.rings.push(Ring::Event);
        Ok(Some(event))
    }

    /// Has notifiers look at a host at this instant, unless they do so earlier.
    pub(super) fn look_at(&self, host: &str, at_ms: i64) -> rusqlite::Result<()> {
        let sql = "INSERT INTO host (host, look_ms) VALUES (?1, ?2) \
                   ON CONFLICT DO UPDATE SET look_ms = min(look_ms, excluded.look_ms)";
        self.run(sql, (host, at_ms)).map(|_| ())
    }

    /// A batch that is over, and of which nothing is left to be told, is kept from now on for as
    /// long as the settings said when it came.
    pub(super) fn begin_retention(&self, batch: i64) -> rusqlite::Result<()> {
        let sql = "UPDATE batch SET purge_ms = ?2 + keep_ms \
                   WHERE batch = ?1 AND completed_ms IS NOT NULL AND unsent <= 0";
        self.run(sql, (batch, self.now)).map(|_| ())
    }

    /// Ends a pending event in this state.
    pub(super) fn end_event(&self, event: i64, state: CallbackState) -> rusqlite::Result<()> {
        let sql = "UPDATE event SET state = ?2, ended_ms = ?3, due_ms = NULL, until_ms = NULL \
                   WHERE event = ?1 RETURNING batch, kind = 'completed'";
        let ended = self.row(sql, (event, state.word(), self.now), |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?))
        })?;
        let Some((batch, is_completion)) = ended else { return Ok(()) };
        self.count("callback:pending", -1)?;
        self.count(&format!("callback:{}", state.word()), 1)?;
        let sql = "UPDATE batch SET unsent = unsent - 1, callback = iif(?3, ?2, callback) \
                   WHERE batch = ?1";
        self.run(sql, (batch, state.word(), is_completion))?;
        self.begin_retention(batch)
    }

    /// Has an event delivered now, and from the beginning of the schedule. Nothing changes while an
    /// attempt is under way. A host that was left alone is tried at once.
    pub(super) fn deliver_again(&mut self, event: i64) -> rusqlite::Result<()> {
        // A batch that is being erased is gone already.
        let sql = "SELECT e.batch, e.host, e.state = 'pending', e.kind = 'completed', \
                   e.number = e.base FROM event e JOIN batch b USING (batch) WHERE e.event = ?1 \
                   AND e.until_ms IS NULL AND (b.purge_ms IS NULL OR b.purge_ms > ?2)";
        let found = self.row(sql, (event, self.now), |row| {
            let (host, is_pending): (String, bool) = (row.get(1)?, row.get(2)?);
            Ok((row.get::<_, i64>(0)?, host, is_pending, row.get::<_, bool>(3)?, row.get(4)?))
        })?;
        let Some((batch, host, is_pending, is_completion, is_untried)) = found else {
            return Ok(());
        };
        if !is_pending {
            let sql = "UPDATE batch SET unsent = unsent + 1, purge_ms = NULL, \
                       callback = iif(?2, 'pending', callback) WHERE batch = ?1";
            self.run(sql, (batch, is_completion))?;
            self.count("callback:pending", 1)?;
        }
        // One that was not tried yet comes as soon as it may: a completion can wait for a report.
        let keeps_its_time: bool = is_pending && is_untried;
        let sql = "UPDATE event SET state = 'pending', ended_ms = NULL, base = number, \
                   since_ms = ?2, due_ms = iif(?3, due_ms, ?4) WHERE event = ?1";
        self.run(sql, (event, self.now, keeps_its_time, AT_ONCE))?;
        self.run("UPDATE host SET until_ms = NULL WHERE host = ?1", [&host])?;
        self.look_at(&host, AT_ONCE)?;
        self.rings.push(Ring::Event);
        Ok(())
    }

    /// Sets when progress is told first, once the batch is whole.
    pub(super) fn begin_progress(&self, batch: i64) -> rusqlite::Result<()> {
        let sql = "UPDATE batch SET tell_at = coalesce(\
                   max(1, (total * tell_percent + 99) / 100), ?2 + tell_every) WHERE batch = ?1";
        self.run(sql, (batch, self.now)).map(|_| ())
    }

    /// Tells of a batch's progress if it is time to; not while the last report is on its way.
    pub(super) fn tell_progress(&mut self, batch: i64) -> rusqlite::Result<()> {
        let sql = "SELECT total - open - awaiting, total, tell_percent, tell_every, tell_at, \
                   progress IS NOT NULL FROM batch WHERE batch = ?1 AND tell_at IS NOT NULL";
        let found = self.row(sql, [batch], |row| {
            Ok(Progress {
                ended: row.get(0)?,
                total: row.get(1)?,
                percent: row.get(2)?,
                every_ms: row.get(3)?,
                at: row.get(4)?,
                is_pending: row.get(5)?,
            })
        })?;
        let Some(next) = found.as_ref().and_then(|progress| progress.next(self.now)) else {
            return Ok(());
        };
        self.run("UPDATE batch SET tell_at = ?2 WHERE batch = ?1", (batch, next))?;
        if found.is_some_and(|progress| progress.is_pending) {
            return Ok(());
        }
        let sql = "UPDATE batch SET reports = reports + 1 WHERE batch = ?1 RETURNING reports";
        let reports = self.row(sql, [batch], |row| super::columns::count(row, 0))?.unwrap_or(1);
        let counts = self.counts_of(batch)?;
        let event = self.add_event(batch, DISPATCHED + reports, "progress", &counts)?;
        self.run("UPDATE batch SET progress = ?2 WHERE batch = ?1", (batch, event)).map(|_| ())
    }

    /// Tells that nothing is left to be submitted.
    pub(super) fn tell_dispatched(&mut self, batch: i64) -> rusqlite::Result<()> {
        let counts = self.counts_of(batch)?;
        self.add_event(batch, DISPATCHED, "dispatched", &counts).map(|_| ())
    }

    /// Tells of the late receipts of a batch that is over, all that came so far. An event that nobody took
    /// yet tells of more instead of being followed by another one.
    pub(super) fn tell_late(&mut self, batch: i64) -> rusqlite::Result<()> {
        let sql = "SELECT revision, late_delivered, late_undelivered, \
                   (SELECT event FROM event WHERE event = amended AND number = 0 AND body IS NULL) \
                   FROM batch WHERE batch = ?1 AND instr(wants, 'a') > 0";
        let found = self.row(sql, [batch], |row| {
            let late: (i64, i64) = (row.get(1)?, row.get(2)?);
            Ok((row.get::<_, u32>(0)?, late, row.get::<_, Option<i64>>(3)?))
        })?;
        let Some((revision, (delivered, undelivered), waits)) = found else { return Ok(()) };
        let revision = if waits.is_some() { revision } else { revision + 1 };
        if revision > REVISIONS_MAX {
            return Ok(());
        }
        let about = format!("{revision} {delivered} {undelivered}");
        if let Some(event) = waits {
            return self
                .run("UPDATE event SET about = ?2 WHERE event = ?1", (event, about))
                .map(|_| ());
        }
        let event = self.add_event(batch, AMENDMENTS + u64::from(revision), "amended", &about)?;
        let sql = "UPDATE event SET due_ms = ?2 WHERE event = ?1";
        self.run(sql, (event, self.now + i64::from(revision) * AMEND_AFTER_MS))?;
        let sql = "UPDATE batch SET revision = ?2, amended = ?3, purge_ms = NULL WHERE batch = ?1";
        self.run(sql, (batch, revision, event)).map(|_| ())
    }

    /// A batch is over: tells so whoever wants to know. The completion is told last.
    pub(super) fn tell_end(&mut self, batch: i64) -> rusqlite::Result<()> {
        let sql = "SELECT instr(wants, 'd') > 0 AND handed_ms IS NULL, progress FROM batch \
                   WHERE batch = ?1";
        let found = self
            .row(sql, [batch], |row| Ok((row.get::<_, bool>(0)?, row.get::<_, Option<i64>>(1)?)))?;
        let Some((tells_dispatch, progress)) = found else { return Ok(()) };
        if tells_dispatch {
            self.tell_dispatched(batch)?;
        }
        let completion = self.add_event(batch, 0, "completed", "")?;
        match (progress, completion) {
            (Some(progress), Some(completion)) => self.end_progress(batch, progress, completion),
            _ => Ok(()),
        }
    }

    /// Nothing tells of progress after the completion. A report that waits is given up; for one that
    /// is under way the completion waits, at most until its lease ends.
    fn end_progress(&self, batch: i64, progress: i64, completion: i64) -> rusqlite::Result<()> {
        let sql = "SELECT until_ms FROM event WHERE event = ?1 AND until_ms IS NOT NULL";
        let until_ms: Option<i64> = self.row(sql, [progress], |row| row.get(0))?;
        if let Some(until_ms) = until_ms {
            let sql = "UPDATE event SET due_ms = ?2 WHERE event = ?1";
            return self.run(sql, (completion, until_ms)).map(|_| ());
        }
        self.run("UPDATE batch SET progress = NULL WHERE batch = ?1", [batch])?;
        self.end_event(progress, CallbackState::Skipped)
    }

    /// Tells of messages that failed in this step, by their indexes.
    pub(super) fn tell_failures(&mut self, batch: i64, indexes: &[u32]) -> rusqlite::Result<()> {
        let sql = "SELECT failures FROM batch WHERE batch = ?1 AND instr(wants, 'f') > 0";
        let Some(told): Option<u32> = self.row(sql, [batch], |row| row.get(0))? else {
            return Ok(());
        };
        let places = told..FAILURES_MAX;
        for (_, index) in places.zip(indexes) {
            self.add_event(batch, MESSAGES + u64::from(*index), "failed", &index.to_string())?;
            self.run("UPDATE batch SET failures = failures + 1 WHERE batch = ?1", [batch])?;
        }
        Ok(())
    }

    /// A batch's counts as an event keeps them: sending, then each final state. What waits for a receipt
    /// has been sent.
    fn counts_of(&self, batch: i64) -> rusqlite::Result<String> {
        const COUNTS: usize = 1 + FinalState::ALL.len();
        let sql = "SELECT sending, ended_1 + awaiting, ended_2, ended_3, ended_4, ended_5, ended_6, ended_7 \
                   FROM batch WHERE batch = ?1";
        let counts = self.row(sql, [batch], |row| {
            let counts = (0..COUNTS).map(|column| row.get::<_, i64>(column));
            counts.map(|count| Ok(count?.to_string())).collect::<rusqlite::Result<Vec<_>>>()
        })?;
        Ok(counts.unwrap_or_default().join(" "))
    }
}

// === impl Progress ===

impl Progress {
    /// When the report after this one is due, if it is time for this one.
    fn next(&self, now: i64) -> Option<i64> {
        if let Some(percent) = self.percent {
            let step = ((self.total * percent + 99) / 100).max(1);
            return (self.ended >= self.at).then_some((self.ended / step + 1) * step);
        }
        let every_ms = self.every_ms?;
        // One that lies further ahead than a report can: the clock was stepped back.
        (now >= self.at || self.at > now + every_ms).then_some(now + every_ms)
    }
}
