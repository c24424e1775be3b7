//! [`Audit`] in this process; and read-only, beside the process that has the store open.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    EmbeddedStore, OpenError,
    columns::{self, Id, Word, batch_columns, chunk_key, count, instant, integer, of_key},
    file,
    finish::Moved,
    readers::Readers,
    step::Step,
};
use crate::{
    domain::{
        audit::{ChunkNotes, Notes, Recount},
        batch::{BatchState, CallbackState},
        ids::BatchId,
        message::FinalState,
        state_byte::StateByte,
        time::millis,
    },
    store::{
        Audit, Concern, Matter, StoreError,
        audit::{LOOK_AFTER_EVERY, LOOKED_AFTER_MAX, PAGE, STANDS_STILL_AFTER},
    },
};

/// Reads a store's file, its own or that of whoever has it open.
pub(super) struct Auditor {
    readers: Readers,
    /// The store, unless another process has it: then nothing can be put right.
    store: Option<Arc<EmbeddedStore>>,
}

/// Opens the store in this folder for audits that change nothing, also while a process serves from it.
///
/// # Errors
/// [`OpenError`] if there is no store that can be read.
pub fn auditor(folder: &Path) -> Result<Arc<dyn Audit>, OpenError> {
    let path = file::path(folder);
    if file::open_beside(folder)?.is_none() {
        let source = std::io::ErrorKind::NotFound.into();
        return Err(OpenError::Files { path, source });
    }
    Ok(Arc::new(Auditor { readers: Readers::new(path), store: None }))
}

// === impl Auditor ===

impl Auditor {
    pub(super) fn of(store: &Arc<EmbeddedStore>, file: PathBuf) -> Self {
        Self { readers: Readers::new(file), store: Some(Arc::clone(store)) }
    }
}

#[async_trait]
impl Audit for Auditor {
    async fn batches(&self, account: &str) -> Result<Vec<BatchId>, StoreError> {
        let account = account.to_owned();
        self.readers.read(move |db| batches(db, &account)).await
    }

    async fn notes(&self, id: BatchId) -> Result<Option<Notes>, StoreError> {
        self.readers.read(move |db| notes(db, id)).await
    }

    async fn chunks(&self, id: BatchId, from: u32) -> Result<Vec<ChunkNotes>, StoreError> {
        self.readers.read(move |db| chunks(db, id, from)).await
    }

    async fn repair(&self, id: BatchId, was: &Notes, found: &Recount) -> Result<bool, StoreError> {
        let Some(store) = &self.store else {
            let why = "this store is open for reading only".to_owned();
            return Err(StoreError::Unexpected(why));
        };
        let (was, found) = (was.clone(), found.clone());
        store.write(move |step| repair(step, id, &was, &found)).await
    }

    async fn look_after(&self) -> Result<Vec<Concern>, StoreError> {
        match &self.store {
            Some(store) => store.write(look_after).await,
            None => Ok(Vec::new()),
        }
    }
}

fn batches(db: &Connection, account: &str) -> rusqlite::Result<Vec<BatchId>> {
    let sql = "SELECT id FROM batch WHERE account = ?1 AND state != 'dropped' ORDER BY id";
    let mut rows = db.prepare_cached(sql)?;
    let ids = rows.query_map([account], |row| row.get::<_, Id>(0).map(|id| id.0))?;
    ids.collect()
}

fn notes(db: &Connection, id: BatchId) -> rusqlite::Result<Option<Notes>> {
    let sql = "SELECT open, chunks, cursor, cut, closes, turn IS NOT NULL OR due_ms IS NOT NULL, \
               closing_ms IS NOT NULL, callback = 'pending' AND NOT EXISTS (SELECT 1 FROM event \
               WHERE batch = b.batch AND kind = 'completed'), awaiting FROM batch b \
               WHERE id = ?1 AND body_hash IS NOT NULL AND state != 'dropped'";
    let mut own = db.prepare_cached(sql)?;
    let mut batch = db.prepare_cached(batch_columns!("WHERE b.id = ?1"))?;
    let Some(batch) = batch.query_row([Id(id)], columns::batch).optional()? else {
        return Ok(None);
    };
    own.query_row([Id(id)], |row| {
        let closes = columns::closes(row, 4)?;
        let cut: Option<u32> = row.get(3)?;
        let untold = row.get::<_, Option<bool>>(7)?.unwrap_or(false);
        Ok(Notes {
            state: batch.state,
            counts: batch.counts,
            open: count(row, 0)?,
            awaiting: count(row, 8)?,
            chunks: row.get(1)?,
            cursor: row.get(2)?,
            cut: cut.zip(closes),
            closes: closes.is_some(),
            is_queued: row.get(5)?,
            is_closing: row.get(6)?,
            is_over: batch.is_over(),
            lacks_event: batch.is_over() && untold,
        })
    })
    .optional()
}

fn chunks(db: &Connection, id: BatchId, from: u32) -> rusqlite::Result<Vec<ChunkNotes>> {
    let sql = "SELECT batch FROM batch WHERE id = ?1";
    let batch = db.prepare_cached(sql)?.query_row([Id(id)], |row| row.get(0)).optional()?;
    let Some(batch) = batch else { return Ok(Vec::new()) };
    let sql = "SELECT chunk, states, until_ms IS NOT NULL, due_ms IS NOT NULL FROM chunk \
               WHERE chunk BETWEEN ?1 AND ?2 ORDER BY chunk LIMIT ?3";
    let mut rows = db.prepare_cached(sql)?;
    let range = (chunk_key(batch, from), chunk_key(batch, u32::MAX), PAGE);
    let chunks = rows.query_map(range, |row| {
        let mut states = [0; StateByte::COUNT];
        for state in row.get_ref(1)?.as_blob()? {
            // A byte that names no state counts as open: it would never end.
            let known = StateByte(*state).ended().map_or(StateByte::OPEN, |_| StateByte(*state));
            states[usize::from(known.0)] += 1;
        }
        let number = of_key(row.get(0)?).1;
        Ok(ChunkNotes { number, states, held: row.get(2)?, parked: row.get(3)? })
    })?;
    chunks.collect()
}

/// A batch as a repair finds it.
struct Broken {
    batch: i64,
    provider: String,
    state: BatchState,
    closes: Option<FinalState>,
    callback: Option<CallbackState>,
    is_over: bool,
}

fn repair(
    step: &mut Step<'_>,
    id: BatchId,
    was: &Notes,
    found: &Recount,
) -> rusqlite::Result<bool> {
    let sql = "SELECT batch, provider, state, closes, callback, completed_ms IS NOT NULL FROM batch \
               WHERE id = ?1 AND open = ?2 AND sending = ?3 AND cursor = ?4 AND awaiting = ?5";
    let (open, sending) = (integer(was.open), integer(was.counts.sending));
    let guard = (Id(id), open, sending, was.cursor, integer(was.awaiting));
    let Some(broken) = step.row(sql, guard, Broken::read)? else { return Ok(false) };
    broken.note(step, was, found)?;
    let mut moved = Moved::default();
    for chunk in found.orphans.iter().take(PAGE as usize) {
        broken.adopt(step, chunk_key(broken.batch, *chunk), &mut moved)?;
    }
    if !step.finish(broken.batch, &moved, 0)? {
        broken.send_on(step)?;
    }
    Ok(true)
}

// === impl Broken ===

impl Broken {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            batch: row.get(0)?,
            provider: row.get(1)?,
            state: row.get::<_, Word<_>>(2)?.0,
            closes: columns::closes(row, 3)?,
            callback: row.get::<_, Option<Word<_>>>(4)?.map(|word| word.0),
            is_over: row.get(5)?,
        })
    }

    /// The counts are what was counted.
    fn note(&self, step: &Step<'_>, was: &Notes, found: &Recount) -> rusqlite::Result<()> {
        let [e1, e2, e3, e4, e5, e6, e7] = FinalState::ALL
            .map(|state| integer(found.ended[state]) - integer(was.counts.ended[state]));
        // Those who wait for a receipt are among the sent ones.
        let awaiting = integer(found.awaiting) - integer(was.awaiting);
        let e1 = e1 - awaiting;
        let open = integer(found.open()) - integer(was.open);
        let sending = integer(found.sending) - integer(was.counts.sending);
        step.run(
            "UPDATE batch SET open = open + ?2, sending = sending + ?3, ended_1 = ended_1 + ?4, \
             ended_2 = ended_2 + ?5, ended_3 = ended_3 + ?6, ended_4 = ended_4 + ?7, \
             ended_5 = ended_5 + ?8, ended_6 = ended_6 + ?9, ended_7 = ended_7 + ?10, \
             awaiting = awaiting + ?11 WHERE batch = ?1",
            params![self.batch, open, sending, e1, e2, e3, e4, e5, e6, e7, awaiting],
        )?;
        step.run(
            "UPDATE provider SET open = open + ?2, sending = sending + ?3, ended_1 = ended_1 + ?4, \
             ended_2 = ended_2 + ?5, ended_3 = ended_3 + ?6, ended_4 = ended_4 + ?7, \
             ended_5 = ended_5 + ?8, ended_6 = ended_6 + ?9, ended_7 = ended_7 + ?10, \
             awaiting = awaiting + ?11 WHERE name = ?1",
            params![self.provider, open, sending, e1, e2, e3, e4, e5, e6, e7, awaiting],
        )
        .map(|_| ())
    }

    /// A chunk that nobody has can be claimed again, or is closed.
    fn adopt(&self, step: &Step<'_>, chunk: i64, moved: &mut Moved) -> rusqlite::Result<()> {
        let sql = "UPDATE chunk SET due_ms = ?2 \
                   WHERE chunk = ?1 AND until_ms IS NULL AND due_ms IS NULL";
        if step.run(sql, (chunk, step.now))? == 0 {
            return Ok(());
        }
        match self.closes {
            Some(state) => super::sweep::close_returned(step, chunk, state, moved),
            None => Ok(()),
        }
    }

    /// What is not over goes on, and what is over is told of.
    fn send_on(&self, step: &mut Step<'_>) -> rusqlite::Result<()> {
        await_again(step, self.batch)?;
        if self.is_over {
            let sql = "SELECT EXISTS (SELECT 1 FROM event WHERE batch = ?1 AND kind = 'completed')";
            let is_told = step.row(sql, [self.batch], |row| row.get(0))? == Some(true);
            if self.callback == Some(CallbackState::Pending) && !is_told {
                step.tell_end(self.batch)?;
            }
        } else if self.closes.is_some() {
            let sql = "UPDATE batch SET closing_ms = ?2 WHERE batch = ?1 AND EXISTS (SELECT 1 \
                       FROM chunk WHERE chunk >> 32 = ?1 AND due_ms IS NOT NULL)";
            step.run(sql, (self.batch, step.now))?;
        } else if matches!(self.state, BatchState::Queued | BatchState::Running) {
            step.enter(self.batch)?;
        }
        Ok(())
    }
}

/// See [`Audit::look_after`].
fn look_after(step: &mut Step<'_>) -> rusqlite::Result<Vec<Concern>> {
    let every = integer(millis(LOOK_AFTER_EVERY));
    let due: Vec<i64> = step.rows(
        "SELECT batch FROM batch WHERE watch_ms IS NOT NULL AND (watch_ms <= ?1 OR watch_ms > ?2) \
         ORDER BY watch_ms LIMIT ?3",
        (step.now - every, step.now + every, LOOKED_AFTER_MAX),
        |row| row.get(0),
    )?;
    let mut concerns = Vec::new();
    for batch in due {
        look_at(step, batch, &mut concerns)?;
    }
    Ok(concerns)
}

fn look_at(step: &mut Step<'_>, batch: i64, concerns: &mut Vec<Concern>) -> rusqlite::Result<()> {
    let sql = "UPDATE batch SET watch_ms = ?2 WHERE batch = ?1 RETURNING id, open, seen_open, \
               coalesce(seen_ms, 0), closes IS NULL AND state IN ('queued', 'running'), \
               due_ms IS NOT NULL, turn IS NULL AND due_ms IS NULL AND closing_ms IS NULL \
               AND sending = 0";
    let found = step.row(sql, (batch, step.now), |row| {
        let (open, seen): (i64, Option<i64>) = (row.get(1)?, row.get(2)?);
        let (goes, rests): (bool, bool) = (row.get(4)?, row.get(5)?);
        let (id, since): (Id, i64) = (row.get(0)?, row.get(3)?);
        Ok((id.0, open, seen, since, goes, rests, row.get::<_, bool>(6)?))
    })?;
    let Some((id, open, seen, since, goes, rests, is_nowhere)) = found else { return Ok(()) };
    await_again(step, batch)?;
    let requeued = is_nowhere && requeue(step, batch, goes)?;
    if requeued {
        concerns.push(Concern { batch: id, what: Matter::Requeued });
    }
    let handed_over = open == 0;
    let moves = seen != Some(open) || requeued || handed_over || !goes || rests || since > step.now;
    let stands = step.now - since >= integer(millis(STANDS_STILL_AFTER));
    if moves || stands {
        let sql = "UPDATE batch SET seen_open = ?2, seen_ms = ?3 WHERE batch = ?1";
        step.run(sql, (batch, open, step.now))?;
    }
    if stands && !moves {
        let what = Matter::StandsStill { open: open.unsigned_abs(), since: instant(since) };
        concerns.push(Concern { batch: id, what });
    }
    Ok(())
}

/// Has receipts waited for of a batch that was handed over and is not among those that wait: else it would
/// not end.
fn await_again(step: &Step<'_>, batch: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE batch SET receipts_ms = ?2 + receipt_ms WHERE batch = ?1 AND open <= 0 \
               AND awaiting > 0 AND receipts_ms IS NULL AND completed_ms IS NULL";
    step.run(sql, (batch, step.now)).map(|_| ())
}

/// Puts a batch back that is nowhere: into its ring, or to have its chunks closed. False if there is
/// nothing of it to claim or to close.
fn requeue(step: &mut Step<'_>, batch: i64, goes: bool) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM chunk WHERE chunk >> 32 = ?1 AND due_ms IS NOT NULL), \
               cursor < top, closes IS NOT NULL FROM batch WHERE batch = ?1";
    let found = step.row(sql, [batch], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let (parked, unclaimed, closes): (bool, bool, bool) = found.unwrap_or_default();
    if closes && parked {
        step.run("UPDATE batch SET closing_ms = ?2 WHERE batch = ?1", (batch, step.now))?;
        return Ok(true);
    }
    let can_be_claimed = goes && (parked || unclaimed);
    if can_be_claimed {
        step.enter(batch)?;
    }
    Ok(can_be_claimed)
}
