//! [`Callbacks`] in this process.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension};

use super::{
    EmbeddedStore,
    columns::{self, Id, batch_columns, integer},
    step::Step,
};
use crate::{
    domain::{ids::BatchId, time::millis},
    store::{Attempt, Callbacks, EVENT_DELAY_MAX, StoreError, TakenEvent, Verdict},
};

#[async_trait]
impl Callbacks for EmbeddedStore {
    async fn take(&self, limit: usize, lease: Duration) -> Result<Vec<TakenEvent>, StoreError> {
        let (limit, lease_ms) = (integer(limit as u64), integer(millis(lease)));
        self.write(move |step| take(step, limit, lease_ms)).await
    }

    async fn body(&self, batch: BatchId, body: String) -> Result<String, StoreError> {
        let kept = self.write(move |step| {
            let sql = "UPDATE event SET body = coalesce(body, ?2) \
                       WHERE batch = (SELECT batch FROM batch WHERE id = ?1) RETURNING body";
            step.row(sql, (Id(batch), body), |row| row.get(0))
        });
        kept.await?.ok_or_else(|| StoreError::Unexpected("a batch without an event".to_owned()))
    }

    async fn record(&self, attempt: &Attempt) -> Result<bool, StoreError> {
        let attempt = attempt.clone();
        self.write(move |step| record(step, &attempt)).await
    }

    async fn next_due(&self) -> Result<Option<Duration>, StoreError> {
        let now = self.clock.now();
        let due = self.read(|db| {
            let sql = "SELECT min(due_ms) FROM event WHERE due_ms IS NOT NULL";
            db.prepare_cached(sql)?.query_row([], |row| row.get::<_, Option<i64>>(0))
        });
        Ok(due.await?.map(|due_ms| columns::instant(due_ms).since(now)))
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

fn take(step: &Step<'_>, limit: i64, lease_ms: i64) -> rusqlite::Result<Vec<TakenEvent>> {
    let due = step.due_numbers(
        "SELECT batch FROM event WHERE due_ms IS NOT NULL AND due_ms <= ?1 \
         ORDER BY due_ms LIMIT ?2",
        "SELECT batch FROM event WHERE due_ms IS NOT NULL AND due_ms > ?1 \
         ORDER BY due_ms LIMIT ?2",
        integer(millis(EVENT_DELAY_MAX)),
        limit,
    )?;
    let mut taken = Vec::with_capacity(due.len());
    for batch in due {
        taken.extend(begin_attempt(step, batch, lease_ms)?);
    }
    Ok(taken)
}

/// Nothing if the event's batch can't be read: it must not hold the others up.
fn begin_attempt(
    step: &Step<'_>,
    batch: i64,
    lease_ms: i64,
) -> rusqlite::Result<Option<TakenEvent>> {
    let begun = step.row(
        "UPDATE event SET number = number + 1, due_ms = ?2 WHERE batch = ?1 \
         RETURNING number, body",
        (batch, step.now + lease_ms),
        |row| Ok((row.get::<_, u32>(0)?, row.get(1)?)),
    )?;
    let Some((number, body)) = begun else { return Ok(None) };
    let sql = "INSERT INTO attempt (batch, number, at_ms) VALUES (?1, ?2, ?3)";
    step.run(sql, (batch, number, step.now))?;
    step.run("DELETE FROM attempt WHERE batch = ?1 AND number <= ?2 - 20", (batch, number))?;
    match step.row(batch_columns!("WHERE b.batch = ?1"), [batch], columns::batch) {
        Ok(Some(batch)) => Ok(Some(TakenEvent { batch, number, body })),
        Ok(None) => Ok(None),
        Err(error @ rusqlite::Error::FromSqlConversionFailure(..)) => {
            tracing::error!(batch.number = batch, %error, "an event's batch can't be read");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn record(step: &Step<'_>, attempt: &Attempt) -> rusqlite::Result<bool> {
    let found: Option<(i64, u32, u32)> = step.row(
        "SELECT batch, number, recorded FROM event \
         WHERE batch = (SELECT batch FROM batch WHERE id = ?1)",
        [Id(attempt.batch)],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    let Some((batch, number, recorded)) = found else { return Ok(false) };
    if number != attempt.number || recorded == attempt.number {
        return Ok(number == attempt.number);
    }
    // Numbers and texts only: nothing here can fail to be written.
    let came_to = serde_json::to_string(&attempt.end).unwrap_or_default();
    let sql = "UPDATE attempt SET came_to = ?3 WHERE batch = ?1 AND number = ?2";
    step.run(sql, (batch, number, came_to))?;
    let due_ms = match attempt.verdict {
        Verdict::Again(delay) => Some(step.now + integer(millis(delay.min(EVENT_DELAY_MAX)))),
        Verdict::Ended(_) => None,
    };
    let sql = "UPDATE event SET recorded = ?2, due_ms = ?3 WHERE batch = ?1";
    step.run(sql, (batch, number, due_ms))?;
    if let Verdict::Ended(state) = attempt.verdict {
        let sql = "UPDATE batch SET callback = ?2 WHERE batch = ?1";
        step.run(sql, (batch, state.word()))?;
        step.count(&format!("callback:{}", state.word()))?;
        step.begin_retention(batch)?;
    }
    Ok(true)
}
