//! [`Callbacks`] in this process.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension};
use serde::Deserialize;

use super::{
    EmbeddedStore,
    columns::{self, EventUlid, batch_columns, integer},
    events::AT_ONCE,
    step::Step,
};
use crate::{
    domain::{batch::CallbackState, event::LateReceipts, ids::EventId, time::millis},
    store::{
        Attempt, Callbacks, EVENT_DELAY_MAX, HostLimits, HostSign, Recorded, StoreError,
        TakenEvent, Verdict, WELCOME_KEPT, stored::StoredEvent,
    },
};

/// An event whose attempt ends, and what the record needs of it.
struct Ending {
    event: i64,
    number: u32,
    recorded: u32,
    batch: i64,
    host: String,
}

#[async_trait]
impl Callbacks for EmbeddedStore {
    async fn take(&self, limit: usize, lease: Duration) -> Result<Vec<TakenEvent>, StoreError> {
        let (limit, lease_ms) = (integer(limit as u64), integer(millis(lease)));
        let hosts = self.rules.hosts;
        self.write(move |step| super::take::take(step, limit, lease_ms, hosts)).await
    }

    async fn body(&self, event: EventId, body: String) -> Result<Option<String>, StoreError> {
        self.write(move |step| keep_body(step, event, &body)).await
    }

    async fn record(&self, attempt: &Attempt) -> Result<Recorded, StoreError> {
        let (attempt, hosts) = (attempt.clone(), self.rules.hosts);
        self.write(move |step| record(step, &attempt, hosts)).await
    }

    async fn next_due(&self) -> Result<Option<Duration>, StoreError> {
        let now = self.clock.now();
        let due = self.read(|db| {
            let sql = "SELECT min(look_ms) FROM host";
            db.prepare_cached(sql)?.query_row([], |row| row.get::<_, Option<i64>>(0))
        });
        Ok(due.await?.map(|due_ms| columns::instant(due_ms).since(now)))
    }

    async fn is_welcome(&self, account: &str, host: &str) -> Result<bool, StoreError> {
        let (account, host) = (account.to_owned(), host.to_owned());
        let now = integer(self.clock.now().0);
        self.read(move |db| {
            let sql = "SELECT 1 FROM welcome WHERE account = ?1 AND host = ?2 AND until_ms > ?3";
            db.prepare_cached(sql)?.exists((&account, &host, now))
        })
        .await
    }

    async fn welcome(&self, account: &str, host: &str) -> Result<(), StoreError> {
        let (account, host) = (account.to_owned(), host.to_owned());
        self.write(move |step| {
            step.run("DELETE FROM welcome WHERE until_ms <= ?1", [step.now])?;
            let until_ms = step.now + integer(millis(WELCOME_KEPT));
            let sql = "INSERT OR REPLACE INTO welcome VALUES (?1, ?2, ?3)";
            step.run(sql, (account, host, until_ms)).map(|_| ())
        })
        .await
    }

    async fn signing_secret(&self, secret: &str) -> Result<String, StoreError> {
        let secret = secret.to_owned();
        let kept = self.write(move |step| {
            let sql = "INSERT INTO fact VALUES ('secret', ?1) \
                       ON CONFLICT DO UPDATE SET value = value RETURNING value";
            step.row(sql, [secret], |row| row.get(0))
        });
        kept.await?.ok_or_else(|| StoreError::Unexpected("a secret that was not kept".to_owned()))
    }
}

/// The signing secret that the store keeps.
pub(super) fn stored_secret(db: &Connection) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT value FROM fact WHERE name = 'secret'";
    db.query_row(sql, [], |row| row.get(0)).optional()
}

/// Keeps a body, unless the event has one. One of late receipts is not kept if more of them came since it was
/// rendered: they would never be told of, since the event tells of more only until its body is kept.
fn keep_body(step: &Step<'_>, event: EventId, body: &str) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT about FROM event WHERE id = ?1 AND kind = 'amended' AND body IS NULL";
    let about: Option<String> = step.row(sql, [EventUlid(event)], |row| row.get(0))?;
    if about.is_some_and(|about| late_receipts(body) != Some(about)) {
        return Ok(None);
    }
    let sql = "UPDATE event SET body = coalesce(body, ?2) WHERE id = ?1 RETURNING body";
    step.row(sql, (EventUlid(event), body), |row| row.get(0))
}

/// What a body tells of late receipts, as it stands in `about`.
fn late_receipts(body: &str) -> Option<String> {
    let body: serde_json::Value = serde_json::from_str(body).ok()?;
    let late = LateReceipts::deserialize(body.pointer("/data/late_receipts")?).ok()?;
    Some(format!("{} {} {}", late.revision, late.delivered, late.undelivered))
}

fn record(step: &mut Step<'_>, attempt: &Attempt, hosts: HostLimits) -> rusqlite::Result<Recorded> {
    let sql = "SELECT event, number, recorded, batch, host FROM event WHERE id = ?1";
    let found = step.row(sql, [EventUlid(attempt.event)], |row| {
        Ok(Ending {
            event: row.get(0)?,
            number: row.get(1)?,
            recorded: row.get(2)?,
            batch: row.get(3)?,
            host: row.get(4)?,
        })
    })?;
    let Some(ending) = found.filter(|ending| ending.number == attempt.number) else {
        return Ok(Recorded::Lost);
    };
    if ending.recorded == attempt.number {
        return Ok(Recorded::Kept);
    }
    // Numbers and texts only: nothing here can fail to be written.
    let came_to = serde_json::to_string(&attempt.end).unwrap_or_default();
    let sql = "UPDATE attempt SET came_to = ?3 WHERE event = ?1 AND number = ?2";
    step.run(sql, (ending.event, ending.number, came_to))?;
    ending.follow(step, attempt.verdict)?;
    let recorded = judge_host(step, &ending.host, attempt.host, hosts)?;
    free_place(step, &ending.host)?;
    Ok(recorded)
}

// === impl Ending ===

impl Ending {
    /// What follows for the event, and for a completion that waited for it.
    fn follow(&self, step: &Step<'_>, verdict: Verdict) -> rusqlite::Result<()> {
        let due_ms = match verdict {
            Verdict::Again(delay) => Some(step.now + integer(millis(delay.min(EVENT_DELAY_MAX)))),
            Verdict::Ended(_) => None,
        };
        let sql = "UPDATE event SET recorded = number, until_ms = NULL, due_ms = ?2 \
                   WHERE event = ?1";
        step.run(sql, (self.event, due_ms))?;
        if let Verdict::Ended(state) = verdict {
            step.end_event(self.event, state)?;
        }
        let sql = "UPDATE batch SET progress = NULL WHERE batch = ?1 AND progress = ?2";
        if step.run(sql, (self.batch, self.event))? == 1 {
            // The completion may have waited for this. It lies under its batch's ULID.
            let sql = "UPDATE event SET due_ms = ?2 \
                       WHERE id = (SELECT id FROM batch WHERE batch = ?1) AND due_ms IS NOT NULL";
            step.run(sql, (self.batch, AT_ONCE))?;
        }
        Ok(())
    }
}

/// What an attempt says of its host.
fn judge_host(
    step: &Step<'_>,
    host: &str,
    sign: HostSign,
    limits: HostLimits,
) -> rusqlite::Result<Recorded> {
    let silences = |row: &rusqlite::Row<'_>| row.get::<_, u32>(0);
    match sign {
        HostSign::None => Ok(Recorded::Kept),
        HostSign::Silent => {
            let sql = "UPDATE host SET silences = silences + 1, \
                       until_ms = iif(silences + 1 >= ?2, ?3, NULL) WHERE host = ?1 \
                       RETURNING silences";
            let until_ms = step.now + integer(millis(limits.left_alone));
            let now = step.row(sql, (host, limits.silences_max, until_ms), silences)?;
            let left_alone = now == Some(limits.silences_max);
            Ok(if left_alone { Recorded::HostLeftAlone } else { Recorded::Kept })
        }
        HostSign::Answered => {
            let before = step.row("SELECT silences FROM host WHERE host = ?1", [host], silences)?;
            let sql = "UPDATE host SET silences = 0, until_ms = NULL WHERE host = ?1";
            step.run(sql, [host])?;
            let was_left_alone = before.is_some_and(|silences| silences >= limits.silences_max);
            Ok(if was_left_alone { Recorded::HostBack } else { Recorded::Kept })
        }
    }
}

/// A host has a place that is free: whoever waits may have it.
fn free_place(step: &mut Step<'_>, host: &str) -> rusqlite::Result<()> {
    let sql = "SELECT min(due_ms) FROM event WHERE host = ?1 AND due_ms IS NOT NULL";
    match step.row(sql, [host], |row| row.get::<_, Option<i64>>(0))?.flatten() {
        Some(due_ms) => {
            step.look_at(host, due_ms)?;
            if due_ms <= step.now {
                step.rings.push(crate::store::Ring::Event);
            }
            Ok(())
        }
        None => super::take::forget_idle(step, host),
    }
}

/// An event as its columns tell it, with its batch. Nothing if that is gone: the event ends then, since
/// it would keep one of its host's places for ever.
pub(super) fn taken(
    step: &Step<'_>,
    event: i64,
    interrupted: bool,
) -> rusqlite::Result<Option<TakenEvent>> {
    let sql = "SELECT id, kind, about, sequence, at_ms, number, number - base, since_ms, body, \
               batch FROM event WHERE event = ?1";
    let now = columns::instant(step.now);
    let found = step.row(sql, [event], |row| {
        let stored = StoredEvent {
            kind: row.get(1)?,
            about: row.get(2)?,
            sequence: row.get(3)?,
            at: columns::instant(row.get(4)?),
        };
        let (number, tries): (u32, u32) = (row.get(5)?, row.get(6)?);
        let age = now.since(columns::instant(row.get(7)?));
        let (body, batch): (Option<String>, i64) = (row.get(8)?, row.get(9)?);
        Ok((row.get::<_, EventUlid>(0)?.0, stored, number, tries, age, body, batch))
    })?;
    let Some((id, stored, number, tries, age, body, batch)) = found else { return Ok(None) };
    let batch = match step.row(batch_columns!("WHERE b.batch = ?1"), [batch], columns::batch) {
        Ok(Some(batch)) => batch,
        Ok(None) => {
            tracing::error!(event.id = %id, "an event has no batch: the store lost it");
            step.end_event(event, CallbackState::Exhausted)?;
            return Ok(None);
        }
        Err(error @ rusqlite::Error::FromSqlConversionFailure(..)) => {
            tracing::error!(event.id = %id, %error, "an event's batch can't be read");
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    match stored.event(id, &batch) {
        Ok(event) => Ok(Some(TakenEvent { event, batch, number, tries, age, interrupted, body })),
        Err(error) => {
            tracing::error!(event.id = %id, %error, "an event can't be read");
            Ok(None)
        }
    }
}
