//! [`Intake`] in this process.

use async_trait::async_trait;
use rusqlite::params;

use super::{
    EmbeddedStore,
    columns::{Id, chunk_key, integer},
    day,
    finish::Moved,
    replay,
    step::Step,
    wishes::{self, Amendment, Wished},
};
use crate::{
    domain::{
        batch::{BatchSpec, CallbackState, DeliveryGuarantee},
        chunk::NewChunk,
        ids::BatchId,
        message::FinalState,
        time::millis,
    },
    store::{
        Day, Draft, Intake, IntakeError, Opened, ReplayError, ReplayOrder, Ring, Seal, StoreError,
        StoreRules, Upload, WishError, pace, stored,
    },
};

#[async_trait]
impl Intake for EmbeddedStore {
    async fn open(&self, draft: &Draft) -> Result<Opened, StoreError> {
        self.accepts()?;
        let (draft, rules) = (draft.clone(), self.rules);
        self.write(move |step| open(step, &draft, rules)).await
    }

    async fn append(&self, upload: &Upload, chunks: &[NewChunk]) -> Result<(), IntakeError> {
        self.accepts()?;
        let (upload, chunks) = (*upload, chunks.to_vec());
        let lease_ms = integer(millis(self.rules.upload_lease));
        let open = self.write(move |step| append(step, upload, &chunks, lease_ms)).await?;
        if open { Ok(()) } else { Err(IntakeError::Gone) }
    }

    async fn seal(&self, upload: &Upload, how: &Seal) -> Result<(), IntakeError> {
        self.synced()?;
        let (upload, how) = (*upload, how.clone());
        match self.write(move |step| seal(step, upload, &how)).await? {
            Sealing::Sealed => Ok(()),
            Sealing::Gone => Err(IntakeError::Gone),
            Sealing::DayFull(day) => Err(IntakeError::DayFull(day)),
        }
    }

    async fn day(&self, account: &str) -> Result<Day, StoreError> {
        let account = account.to_owned();
        self.write(move |step| day::today(step, &account)).await
    }

    async fn abandon(&self, upload: &Upload) -> Result<(), StoreError> {
        let upload = *upload;
        self.write(move |step| {
            let sql = "SELECT batch FROM batch \
                       WHERE id = ?1 AND upload = ?2 AND state = 'receiving'";
            let found = step.row(sql, (Id(upload.id), word(upload.token)), |row| row.get(0))?;
            found.map_or(Ok(()), |batch| drop_upload(step, batch))
        })
        .await
    }

    async fn cancel(&self, account: &str, id: BatchId) -> Result<(), WishError> {
        self.wish(account, id, wishes::cancel).await
    }

    async fn pause(&self, account: &str, id: BatchId) -> Result<(), WishError> {
        self.wish(account, id, wishes::pause).await
    }

    async fn resume(&self, account: &str, id: BatchId) -> Result<(), WishError> {
        self.wish(account, id, wishes::resume).await
    }

    async fn amend(
        &self,
        id: BatchId,
        was: &BatchSpec,
        becomes: &BatchSpec,
    ) -> Result<bool, WishError> {
        let (account, amendment) = (was.account.clone(), Amendment::new(was, becomes));
        let grant =
            move |step: &mut Step<'_>, wished: &Wished| wishes::amend(step, wished, &amendment);
        self.wish(&account, id, grant).await
    }

    async fn erase(&self, account: &str, id: BatchId) -> Result<(), WishError> {
        self.wish(account, id, wishes::erase).await
    }

    async fn replay(&self, account: &str, id: BatchId) -> Result<(), ReplayError> {
        let account = account.to_owned();
        self.write(move |step| replay::one(step, &account, id)).await?
    }

    async fn order_replay(&self, account: &str, order: &ReplayOrder) -> Result<(), StoreError> {
        let (account, order) = (account.to_owned(), order.clone());
        self.write(move |step| replay::order(step, &account, &order)).await
    }

    async fn set_stopped(&self, provider: &str, stopped: bool) -> Result<(), StoreError> {
        let name = provider.to_owned();
        self.write(move |step| {
            let sql = "INSERT INTO provider (name, stopped) VALUES (?1, ?2) \
                       ON CONFLICT DO UPDATE SET stopped = excluded.stopped";
            step.run(sql, (&name, stopped))?;
            step.rings.push(Ring::Paused(name.clone()));
            Ok(())
        })
        .await
    }

    fn partitions(&self) -> u16 {
        1
    }
}

/// What became of an upload that was to be sealed.
enum Sealing {
    Sealed,
    Gone,
    DayFull(Day),
}

fn open(step: &Step<'_>, draft: &Draft, rules: StoreRules) -> rusqlite::Result<Opened> {
    let upload = Upload { id: draft.id, token: draft.token };
    let token = word(draft.token);
    let again = "SELECT 1 FROM batch WHERE id = ?1 AND upload = ?2";
    if step.row(again, (Id(draft.id), token), |_| Ok(()))?.is_some() {
        return Ok(Opened::New(upload));
    }
    let (spec, key) = (&draft.spec, draft.key.as_ref().map(|key| &key.0));
    if let Some(held) = key.map_or(Ok(None), |key| holder(step, &spec.account, key))? {
        return Ok(held);
    }
    if let Some(batches_max) = draft.batches_max {
        let sql = "SELECT count(*) >= ?2 FROM (SELECT 1 FROM batch WHERE account = ?1 \
                   AND completed_ms IS NULL AND state != 'dropped' LIMIT ?2)";
        if step.row(sql, (&spec.account, batches_max), |row| row.get(0))? == Some(true) {
            return Ok(Opened::TooMany);
        }
    }
    let callback = spec.callback.as_ref();
    let (percent, every_ms) = stored::pace(callback);
    // It may be there: this very upload, dropped between a lost reply and this repeat.
    let batch: Option<i64> = step.row(
        "INSERT INTO batch \
         (id, account, provider, reference, state, callback, keep_ms, key, upload, upload_ms, \
          host, wants, tell_percent, tell_every, send_ms, expire_ms, priority, interval_ns, quiet, \
          once, receipt_ms) \
         VALUES (?1, ?2, ?3, ?4, 'receiving', ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, \
          ?16, ?17, ?18, ?19, ?20) \
         ON CONFLICT (id) DO UPDATE SET state = excluded.state, key = excluded.key, \
         upload = excluded.upload, upload_ms = excluded.upload_ms, purge_ms = NULL \
         RETURNING batch",
        params![
            Id(draft.id),
            spec.account,
            spec.provider,
            spec.reference,
            callback.map(|_| CallbackState::Pending.word()),
            integer(millis(rules.retention)),
            key,
            token,
            step.now + integer(millis(rules.upload_lease)),
            callback.map(|callback| &callback.host),
            stored::wants(callback),
            percent,
            every_ms.map(integer),
            spec.send_at.map(|at| integer(at.0)),
            spec.expire_at.map(|at| integer(at.0)),
            spec.priority as u8,
            spec.rate.map(|rate| pace::nanos(rate.interval())),
            spec.quiet_hours.is_some(),
            spec.guarantee == DeliveryGuarantee::AtMostOnce,
            integer(millis(draft.receipt_timeout)),
        ],
        |row| row.get(0),
    )?;
    let spec_bytes = stored::write_spec(spec);
    step.run("INSERT OR REPLACE INTO spec VALUES (?1, ?2)", (batch, spec_bytes))?;
    if key.is_some() {
        step.run("INSERT INTO idempotency VALUES (?1, ?2, ?3)", (&spec.account, key, batch))?;
    }
    Ok(Opened::New(upload))
}

/// What holds an idempotency key, if anything does.
fn holder(step: &Step<'_>, account: &str, key: &str) -> rusqlite::Result<Option<Opened>> {
    let sql = "SELECT b.id, b.body_hash FROM idempotency i JOIN batch b USING (batch) \
               WHERE i.account = ?1 AND i.key = ?2";
    step.row(sql, (account, key), |row| {
        let body_hash: Option<[u8; 32]> = row.get(1)?;
        let id = row.get::<_, Id>(0)?.0;
        Ok(body_hash.map_or(Opened::UnderWay, |body_hash| Opened::Replayed { id, body_hash }))
    })
}

/// False if the upload is gone.
fn append(
    step: &Step<'_>,
    upload: Upload,
    chunks: &[NewChunk],
    lease_ms: i64,
) -> rusqlite::Result<bool> {
    let sql = "SELECT batch FROM batch WHERE id = ?1 AND upload = ?2 AND state = 'receiving'";
    let found = step.row(sql, (Id(upload.id), word(upload.token)), |row| row.get(0))?;
    let Some(batch) = found else { return Ok(false) };
    let (mut added, mut total, mut invalid, mut top) = (0, 0, 0, 0);
    for chunk in chunks {
        let key = chunk_key(batch, chunk.number);
        let sql = "INSERT OR IGNORE INTO chunk (chunk, first, states) VALUES (?1, ?2, ?3)";
        if step.run(sql, (key, chunk.first, &chunk.states))? == 1 {
            step.run("INSERT INTO recipients VALUES (?1, ?2)", (key, &chunk.recipients))?;
            append_log(step, key, &chunk.log)?;
            added += 1;
            total += chunk.messages();
            invalid += chunk.failed();
            top = top.max(chunk.number + 1);
        }
    }
    step.run(
        "UPDATE batch SET chunks = chunks + ?2, total = total + ?3, invalid = invalid + ?4, \
         top = max(top, ?5), upload_ms = ?6 WHERE batch = ?1",
        (batch, added, total, invalid, top, step.now + lease_ms),
    )?;
    Ok(true)
}

/// Adds records to a chunk's log.
pub(super) fn append_log(step: &Step<'_>, chunk: i64, records: &[u8]) -> rusqlite::Result<()> {
    if !records.is_empty() {
        step.run("INSERT INTO log (chunk, records) VALUES (?1, ?2)", (chunk, records))?;
    }
    Ok(())
}

/// A batch without an open message completes in this very step.
fn seal(step: &mut Step<'_>, upload: Upload, how: &Seal) -> rusqlite::Result<Sealing> {
    let sql = "SELECT batch, body_hash IS NOT NULL, state = 'receiving' AND chunks = ?3, \
               total, invalid, provider FROM batch WHERE id = ?1 AND upload = ?2";
    let found = step.row(sql, (Id(upload.id), word(upload.token), how.chunks), |row| {
        let (sealed, complete): (bool, bool) = (row.get(1)?, row.get(2)?);
        let (total, invalid): (i64, i64) = (row.get(3)?, row.get(4)?);
        Ok((row.get(0)?, sealed, complete, total, invalid, row.get::<_, String>(5)?))
    })?;
    let Some((batch, sealed, complete, total, invalid, provider)) = found else {
        return Ok(Sealing::Gone);
    };
    if sealed || !complete {
        return Ok(if sealed { Sealing::Sealed } else { Sealing::Gone });
    }
    if let Some(share) = &how.day
        && let Some(day) = day::count(step, share)?
    {
        return Ok(Sealing::DayFull(day));
    }
    step.run(
        "UPDATE batch SET state = 'queued', body_hash = ?2, open = total, \
         behind = total - invalid, upload_ms = NULL, skipped = ?3, watch_ms = ?4 WHERE batch = ?1",
        (batch, how.body_hash, integer(how.skipped), step.now),
    )?;
    step.begin_progress(batch)?;
    let sql = "INSERT INTO provider (name, open) VALUES (?1, ?2) \
               ON CONFLICT DO UPDATE SET open = open + excluded.open";
    step.run(sql, (&provider, total))?;
    if invalid < total {
        step.begin(batch)?;
    }
    let mut moved = Moved::default();
    moved.ended.add(FinalState::Failed, u64::try_from(invalid).unwrap_or(0));
    step.finish(batch, &moved, 0)?;
    Ok(Sealing::Sealed)
}

/// Drops an unsealed upload in one row: the key is free, nobody sees the batch, the sweep gives
/// its space back.
pub(super) fn drop_upload(step: &Step<'_>, batch: i64) -> rusqlite::Result<()> {
    free_key(step, batch)?;
    let sql = "UPDATE batch SET state = 'dropped', key = NULL, upload = NULL, upload_ms = NULL, \
               purge_ms = ?2 WHERE batch = ?1";
    step.run(sql, (batch, step.now)).map(|_| ())
}

/// Frees the idempotency key that a batch holds, if it does.
pub(super) fn free_key(step: &Step<'_>, batch: i64) -> rusqlite::Result<()> {
    let sql = "DELETE FROM idempotency WHERE batch = ?1 AND (account, key) = \
               (SELECT account, key FROM batch WHERE batch = ?1)";
    step.run(sql, [batch]).map(|_| ())
}

/// A random word in the file's signed form: the same bits.
pub(super) fn word(random: u64) -> i64 {
    random.cast_signed()
}
