//! Taking events that are due, host by host.
//!
//! Lost leases come first: their attempts are to be recorded as interrupted, and until then they
//! keep their host's places. Then come those that wait, as far as the host has places free: one, if
//! it was left alone and is tried again. What is still due afterwards says when to look again.

use super::{callbacks::taken, columns::integer, events::AT_ONCE, step::Step};
use crate::{
    domain::time::millis,
    store::{EVENT_DELAY_MAX, EVENT_LEASE_MAX, HostLimits, TakenEvent},
};

/// What a take is made with.
struct Take {
    limit: i64,
    lease_ms: i64,
    hosts: HostLimits,
    taken: Vec<TakenEvent>,
    count: i64,
}

/// How many events a host may have at once, and from when on.
struct Places {
    number: i64,
    from_ms: i64,
}

/// Takes at most `limit` events.
pub(super) fn take(
    step: &Step<'_>,
    limit: i64,
    lease_ms: i64,
    hosts: HostLimits,
) -> rusqlite::Result<Vec<TakenEvent>> {
    let mut take = Take { limit, lease_ms, hosts, taken: Vec::new(), count: 0 };
    let due: Vec<String> = step.due(
        "SELECT host FROM host WHERE look_ms <= ?1 ORDER BY look_ms LIMIT ?2",
        "SELECT host FROM host WHERE look_ms > ?1 ORDER BY look_ms LIMIT ?2",
        integer(millis(EVENT_DELAY_MAX)),
        limit,
    )?;
    for host in due {
        if take.count >= limit {
            break;
        }
        take.take_of(step, &host)?;
    }
    Ok(take.taken)
}

/// Forgets a host of which nothing is pending.
pub(super) fn forget_idle(step: &Step<'_>, host: &str) -> rusqlite::Result<()> {
    let sql = "DELETE FROM host WHERE host = ?1 \
               AND NOT EXISTS (SELECT 1 FROM event WHERE host = ?1 AND due_ms IS NOT NULL) \
               AND NOT EXISTS (SELECT 1 FROM event WHERE host = ?1 AND until_ms IS NOT NULL)";
    step.run(sql, [host]).map(|_| ())
}

// === impl Take ===

impl Take {
    fn take_of(&mut self, step: &Step<'_>, host: &str) -> rusqlite::Result<()> {
        for event in self.lost(step, host)? {
            self.hand_out(step, event, true)?;
        }
        let places = self.places_of(step, host)?;
        let free = (places.number - under_way(step, host)?).min(self.limit - self.count);
        if free > 0 && places.from_ms <= step.now {
            for event in waiting(step, host, free)? {
                self.hand_out(step, event, false)?;
            }
        }
        self.look_again(step, host, &places)
    }

    /// Events of a host whose leases ran out.
    fn lost(&self, step: &Step<'_>, host: &str) -> rusqlite::Result<Vec<i64>> {
        let ahead_ms = step.now + integer(millis(EVENT_LEASE_MAX));
        let sql = "SELECT event FROM event WHERE host = ?1 AND until_ms IS NOT NULL \
                   AND (until_ms <= ?2 OR until_ms > ?3) ORDER BY until_ms LIMIT ?4";
        let with = (host, step.now, ahead_ms, self.limit - self.count);
        step.rows(sql, with, |row| row.get(0))
    }

    fn places_of(&self, step: &Step<'_>, host: &str) -> rusqlite::Result<Places> {
        let sql = "SELECT silences, until_ms FROM host WHERE host = ?1";
        let found: Option<(u32, Option<i64>)> =
            step.row(sql, [host], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let (silences, until_ms) = found.unwrap_or_default();
        if silences < self.hosts.silences_max {
            return Ok(Places { number: self.hosts.at_once.into(), from_ms: AT_ONCE });
        }
        // One that lies further ahead than it can: the clock was stepped back.
        let left_alone_ms = integer(millis(self.hosts.left_alone));
        let from_ms = until_ms.filter(|until_ms| *until_ms <= step.now + left_alone_ms);
        Ok(Places { number: 1, from_ms: from_ms.unwrap_or(step.now) })
    }

    fn hand_out(&mut self, step: &Step<'_>, event: i64, interrupted: bool) -> rusqlite::Result<()> {
        let sql = "UPDATE event SET number = number + ?2, until_ms = ?3, due_ms = NULL \
                   WHERE event = ?1 RETURNING number";
        let with = (event, i64::from(!interrupted), step.now + self.lease_ms);
        let number: Option<u32> = step.row(sql, with, |row| row.get(0))?;
        if !interrupted {
            let sql = "INSERT INTO attempt (event, number, at_ms) VALUES (?1, ?2, ?3)";
            step.run(sql, (event, number, step.now))?;
            let sql = "DELETE FROM attempt WHERE event = ?1 AND number <= ?2 - 20";
            step.run(sql, (event, number))?;
        }
        self.taken.extend(taken(step, event, interrupted)?);
        self.count += 1;
        Ok(())
    }

    /// Notes when to look at the host again: when a lease ends, or, while a place is free, when an
    /// event comes due.
    fn look_again(&self, step: &Step<'_>, host: &str, places: &Places) -> rusqlite::Result<()> {
        let first = |sql| step.row(sql, [host], |row| row.get::<_, Option<i64>>(0));
        let sql = "SELECT min(until_ms) FROM event WHERE host = ?1 AND until_ms IS NOT NULL";
        let ending = first(sql)?.flatten().map(|until_ms| until_ms.min(step.now + self.lease_ms));
        let sql = "SELECT min(due_ms) FROM event WHERE host = ?1 AND due_ms IS NOT NULL";
        let due = first(sql)?.flatten();
        let is_free = under_way(step, host)? < places.number;
        let due = due.filter(|_| is_free).map(|due_ms| due_ms.max(places.from_ms));
        match ending.into_iter().chain(due).min() {
            Some(look_ms) => {
                let sql = "UPDATE host SET look_ms = ?2 WHERE host = ?1";
                step.run(sql, (host, look_ms)).map(|_| ())
            }
            None => forget_idle(step, host),
        }
    }
}

/// How many attempts to a host are under way.
fn under_way(step: &Step<'_>, host: &str) -> rusqlite::Result<i64> {
    let sql = "SELECT count(*) FROM event WHERE host = ?1 AND until_ms IS NOT NULL";
    Ok(step.row(sql, [host], |row| row.get(0))?.unwrap_or(0))
}

/// Events of a host that are due.
fn waiting(step: &Step<'_>, host: &str, limit: i64) -> rusqlite::Result<Vec<i64>> {
    let sql = "SELECT event FROM event WHERE host = ?1 AND due_ms IS NOT NULL AND due_ms <= ?2 \
               ORDER BY due_ms, event LIMIT ?3";
    let due: Vec<i64> = step.rows(sql, (host, step.now, limit), |row| row.get(0))?;
    if !due.is_empty() {
        return Ok(due);
    }
    // Those that lie further ahead than they can: the clock was stepped back.
    let ahead_ms = step.now + integer(millis(EVENT_DELAY_MAX));
    let sql = "SELECT event FROM event WHERE host = ?1 AND due_ms IS NOT NULL AND due_ms > ?2 \
               ORDER BY due_ms LIMIT ?3";
    step.rows(sql, (host, ahead_ms, limit), |row| row.get(0))
}
