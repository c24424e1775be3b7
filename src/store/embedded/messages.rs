//! Messages, put together from the rows of their chunks.

use rusqlite::{Connection, OptionalExtension};

use super::columns::{self, Id, chunk_key, instant};
use crate::{
    domain::{batch::BatchSpec, ids::BatchId, message::FinalState, time::UnixMs},
    store::stored::{Closed, StoredChunk, StoredPart},
};

/// What all messages of a batch share.
struct Whole {
    batch: i64,
    spec: BatchSpec,
    total: u32,
    /// One more than the highest chunk's number.
    top: u32,
    /// The first chunk that was never claimed when the batch was closed, when, and how.
    cut: Option<(u32, UnixMs, FinalState)>,
}

/// The `limit` messages of a batch from the index `from` on; `None` if it is not there.
pub(super) fn read(
    db: &Connection,
    id: BatchId,
    from: u32,
    limit: usize,
) -> rusqlite::Result<Option<StoredPart>> {
    let Some(whole) = Whole::read(db, id)? else { return Ok(None) };
    let to = from.saturating_add(u32::try_from(limit).unwrap_or(u32::MAX)).min(whole.total);
    let mut chunks = Vec::new();
    for number in chunk_of(db, whole.batch, whole.top, from)?..whole.top {
        let Some(chunk) = whole.read_chunk(db, number)? else { continue };
        if chunk.first >= to {
            break;
        }
        chunks.push(chunk);
    }
    let next = (to < whole.total).then_some(to);
    Ok(Some(StoredPart { spec: whole.spec, chunks, wanted: from..to, next }))
}

/// The number of the chunk of a batch that holds the message `index`, found by halving. `top` is one more than
/// the highest chunk's number.
pub(super) fn chunk_of(db: &Connection, batch: i64, top: u32, index: u32) -> rusqlite::Result<u32> {
    let mut rows = db.prepare_cached("SELECT first FROM chunk WHERE chunk = ?1")?;
    let (mut low, mut high) = (0, top);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        let key = [chunk_key(batch, middle)];
        let first: Option<u32> = rows.query_row(key, |row| row.get(0)).optional()?;
        // One that is erased already counts as passed.
        if first.is_none_or(|first| first <= index) {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// All records of a chunk in a table of them, one behind the other.
fn records(db: &Connection, sql: &str, chunk: i64) -> rusqlite::Result<Vec<u8>> {
    let mut rows = db.prepare_cached(sql)?;
    let (mut log, mut records) = (Vec::new(), rows.query([chunk])?);
    while let Some(row) = records.next()? {
        log.extend_from_slice(row.get_ref(0)?.as_blob()?);
    }
    Ok(log)
}

// === impl Whole ===

impl Whole {
    fn read(db: &Connection, id: BatchId) -> rusqlite::Result<Option<Self>> {
        let sql = "SELECT batch, total, top, cut, cut_ms, closes, spec \
                   FROM batch JOIN spec USING (batch) WHERE id = ?1";
        let mut rows = db.prepare_cached(sql)?;
        rows.query_row([Id(id)], |row| {
            let cut: Option<u32> = row.get(3)?;
            let cut_at = row.get::<_, Option<i64>>(4)?.map(instant);
            let closes = columns::closes(row, 5)?;
            Ok(Self {
                batch: row.get(0)?,
                spec: columns::spec(row, 6)?,
                total: row.get(1)?,
                top: row.get(2)?,
                cut: cut.zip(cut_at).zip(closes).map(|((cut, at), closes)| (cut, at, closes)),
            })
        })
        .optional()
    }

    fn read_chunk(&self, db: &Connection, number: u32) -> rusqlite::Result<Option<StoredChunk>> {
        let key = chunk_key(self.batch, number);
        let log = records(db, "SELECT records FROM log WHERE chunk = ?1 ORDER BY log", key)?;
        let sql = "SELECT records FROM receipt WHERE chunk = ?1 ORDER BY receipt";
        let receipts = records(db, sql, key)?;
        let sql = "SELECT first, states, until_ms IS NOT NULL, recipients \
                   FROM chunk JOIN recipients USING (chunk) WHERE chunk = ?1";
        let mut rows = db.prepare_cached(sql)?;
        rows.query_row([key], |row| {
            Ok(StoredChunk {
                first: row.get(0)?,
                states: row.get(1)?,
                held: row.get(2)?,
                recipients: row.get(3)?,
                log,
                receipts,
                closed: self.cut.map(|(cut, at, state)| Closed {
                    at,
                    state,
                    wholly: number >= cut,
                }),
            })
        })
        .optional()
    }
}
