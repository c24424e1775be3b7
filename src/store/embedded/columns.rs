//! How columns become types, and back.

use std::time::Duration;

use rusqlite::{
    Row, ToSql,
    types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef},
};

use crate::{
    domain::{
        batch::{Batch, BatchSpec, BatchState, CallbackState, Counts, FinalCounts},
        ids::{BatchId, EventId},
        message::FinalState,
        past::Past,
        time::UnixMs,
    },
    store::stored,
};

/// A batch's id as its column holds it.
pub(super) struct Id(pub(super) BatchId);

/// An event's id as its column holds it.
pub(super) struct EventUlid(pub(super) EventId);

/// A word of the domain as its column holds it.
pub(super) struct Word<T>(pub(super) T);

/// The columns that [`batch`] reads, and where they are from.
macro_rules! batch_columns {
    ($rest:literal) => {
        concat!(
            "SELECT b.id, b.state, b.total, b.sending, b.started_ms, b.completed_ms, b.callback, \
             s.spec, b.ended_1 + b.awaiting, b.ended_2, b.ended_3, \
             b.ended_4 + iif(b.body_hash IS NULL, b.invalid, 0), b.ended_5, b.ended_6, b.ended_7, \
             b.skipped \
             FROM batch b JOIN spec s USING (batch) ",
            $rest
        )
    };
}
pub(super) use batch_columns;

/// A chunk's key.
pub(super) fn chunk_key(batch: i64, number: u32) -> i64 {
    batch << 32 | i64::from(number)
}

/// The batch and the number of a chunk's key.
pub(super) fn of_key(chunk: i64) -> (i64, u32) {
    // The lower 32 bits are the number.
    (chunk >> 32, u32::try_from(chunk & i64::from(u32::MAX)).unwrap_or(u32::MAX))
}

/// An instant or a number, as the file keeps them.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// An instant, as the domain has it.
pub(super) fn instant(ms: i64) -> UnixMs {
    UnixMs(u64::try_from(ms).unwrap_or(0))
}

/// Reads the columns of [`batch_columns`].
pub(super) fn batch(row: &Row<'_>) -> rusqlite::Result<Batch> {
    let mut ended = FinalCounts::default();
    for (column, state) in (8..).zip(FinalState::ALL) {
        ended.add(state, count(row, column)?);
    }
    let spec = spec(row, 7)?;
    let moment = |column| row.get::<_, Option<i64>>(column).map(|ms| ms.map(instant));
    Ok(Batch {
        id: row.get::<_, Id>(0)?.0,
        spec,
        state: row.get::<_, Word<BatchState>>(1)?.0,
        counts: Counts { total: count(row, 2)?, sending: count(row, 3)?, ended },
        skipped: count(row, 15)?,
        started_at: moment(4)?,
        completed_at: moment(5)?,
        callback: row
            .get::<_, Option<Word<CallbackState>>>(6)?
            .map_or(CallbackState::Pending, |word| word.0),
    })
}

/// What a batch's client asked for.
pub(super) fn spec(row: &Row<'_>, column: usize) -> rusqlite::Result<BatchSpec> {
    let spec = stored::read_spec(row.get_ref(column)?.as_blob()?);
    Ok(spec.map_err(|error| FromSqlError::Other(error.into()))?)
}

/// The time between two messages of a rate, if there is one.
pub(super) fn interval(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Duration>> {
    let interval_ns = row.get::<_, Option<i64>>(column)?;
    Ok(interval_ns.map(|ns| Duration::from_nanos(ns.unsigned_abs())))
}

/// What lost leases of a chunk left behind.
pub(super) fn past(row: &Row<'_>, column: usize) -> rusqlite::Result<Past> {
    let bytes = row.get_ref(column)?.as_blob_or_null()?;
    let read = bytes.map(postcard::from_bytes).transpose();
    Ok(read.map_err(|error| FromSqlError::Other(error.into()))?.unwrap_or_default())
}

/// The same as its column holds it.
pub(super) fn past_column(past: &Past) -> Option<Vec<u8>> {
    // Numbers alone: postcard can't fail to write them.
    (*past != Past::default()).then(|| postcard::to_allocvec(past).unwrap_or_default())
}

/// The state that a batch's open messages are closed with, if they are.
pub(super) fn closes(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<FinalState>> {
    Ok(row.get::<_, Option<u8>>(column)?.and_then(FinalState::from_byte))
}

/// A number of messages.
pub(super) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|number| u64::try_from(number).unwrap_or(0))
}

// === impl Id ===

impl FromSql for Id {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let id = BatchId::from_ulid(value.as_str()?);
        id.map(Self).map_err(|error| FromSqlError::Other(error.into()))
    }
}

impl ToSql for Id {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.ulid().into())
    }
}

// === impl EventUlid ===

impl FromSql for EventUlid {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let id = EventId::from_ulid(value.as_str()?);
        id.map(Self).map_err(|error| FromSqlError::Other(error.into()))
    }
}

impl ToSql for EventUlid {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.ulid().into())
    }
}

// === impl Word ===

impl<T> FromSql for Word<T>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let word = value.as_str()?.parse();
        word.map(Self).map_err(|error: T::Err| FromSqlError::Other(error.into()))
    }
}
