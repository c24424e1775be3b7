//! How events are read: in the order of their creation.

use rusqlite::{Connection, OptionalExtension, Row};

use super::columns::{self, EventUlid, Word, batch_columns, instant};
use crate::{
    domain::{batch::CallbackState, ids::EventId},
    store::{EventView, stored::StoredEvent},
};

/// The columns that [`read`] reads.
macro_rules! event_columns {
    ($rest:literal) => {
        concat!(
            // What is due at once came then, and is due since.
            "SELECT id, batch, kind, about, sequence, at_ms, state, number, \
             max(due_ms, since_ms), body FROM event ",
            $rest
        )
    };
}

/// An event's own columns.
struct Found {
    id: EventId,
    batch: i64,
    stored: StoredEvent,
    state: CallbackState,
    attempts: u32,
    due_ms: Option<i64>,
    body: Option<String>,
}

/// The place of an account's event; `None` if it has no such one.
pub(super) fn place(db: &Connection, account: &str, id: EventId) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT event FROM event WHERE id = ?1 AND account = ?2";
    db.prepare_cached(sql)?.query_row((EventUlid(id), account), |row| row.get(0)).optional()
}

/// The events of an account before a place, newest first.
pub(super) fn before(
    db: &Connection,
    account: &str,
    place: i64,
    limit: usize,
) -> rusqlite::Result<Vec<EventView>> {
    let sql = event_columns!("WHERE account = ?1 AND event < ?2 ORDER BY event DESC LIMIT ?3");
    views(db, sql, account, place, limit)
}

/// The events of an account after a place, oldest first.
pub(super) fn after(
    db: &Connection,
    account: &str,
    place: i64,
    limit: usize,
) -> rusqlite::Result<Vec<EventView>> {
    let sql = event_columns!("WHERE account = ?1 AND event > ?2 ORDER BY event LIMIT ?3");
    views(db, sql, account, place, limit)
}

fn views(
    db: &Connection,
    sql: &str,
    account: &str,
    place: i64,
    limit: usize,
) -> rusqlite::Result<Vec<EventView>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = db.prepare_cached(sql)?;
    let found = rows.query_map((account, place, limit), Found::read)?;
    let mut views = Vec::new();
    for found in found {
        views.extend(found?.view(db)?);
    }
    Ok(views)
}

// === impl Found ===

impl Found {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get::<_, EventUlid>(0)?.0,
            batch: row.get(1)?,
            stored: StoredEvent {
                kind: row.get(2)?,
                about: row.get(3)?,
                sequence: row.get(4)?,
                at: instant(row.get(5)?),
            },
            state: row.get::<_, Word<CallbackState>>(6)?.0,
            attempts: row.get(7)?,
            due_ms: row.get(8)?,
            body: row.get(9)?,
        })
    }

    fn view(self, db: &Connection) -> rusqlite::Result<Option<EventView>> {
        let sql = batch_columns!("WHERE b.batch = ?1");
        let batch = db.prepare_cached(sql)?.query_row([self.batch], columns::batch).optional()?;
        let Some(batch) = batch else { return Ok(None) };
        let event = self.stored.event(self.id, &batch);
        let event = event.map_err(|error| rusqlite::types::FromSqlError::Other(error.into()))?;
        Ok(Some(EventView {
            event,
            batch,
            state: self.state,
            attempts: self.attempts,
            next_attempt_at: self.due_ms.map(instant),
            body: self.body,
        }))
    }
}
