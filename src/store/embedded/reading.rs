//! [`Reading`] in this process: batches, attempts, figures. Messages are read in `messages.rs`.

use std::time::Instant;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Params, params};

use super::{
    EmbeddedStore,
    columns::{self, Id, batch_columns, instant},
    feed, messages,
};
use crate::{
    domain::{
        batch::{Batch, CallbackState},
        ids::{BatchId, EventId},
        message::{FinalState, MessageState},
        time::UnixMs,
    },
    store::{
        AttemptEnd, AttemptRecord, AttemptsView, BatchFilter, EventFilter, EventView, MessageView,
        Pause, ProviderStats, Reading, RecipientView, Stats, StoreError,
    },
};

#[async_trait]
impl Reading for EmbeddedStore {
    async fn batch(&self, account: &str, id: BatchId) -> Result<Option<Batch>, StoreError> {
        let account = account.to_owned();
        self.read(move |db| batch(db, &account, id)).await
    }

    async fn batches(
        &self,
        account: &str,
        filter: &BatchFilter,
        before: Option<BatchId>,
        limit: usize,
    ) -> Result<(Vec<Batch>, Option<BatchId>), StoreError> {
        let account = account.to_owned();
        let mut batches = self.read(move |db| list(db, &account, before, limit)).await?;
        let last = batches.last().map(|batch| batch.id);
        let next = last.filter(|_| batches.len() == limit);
        batches.retain(|batch| filter.matches(batch));
        Ok((batches, next))
    }

    async fn messages(
        &self,
        id: BatchId,
        state: Option<MessageState>,
        from: u32,
        limit: usize,
    ) -> Result<(Vec<MessageView>, Option<u32>), StoreError> {
        let part = self.read(move |db| messages::read(db, id, from, limit)).await?;
        Ok(part.map(|part| (part.messages(id, state), part.next)).unwrap_or_default())
    }

    async fn recipients(
        &self,
        id: BatchId,
        states: &[FinalState],
        from: u32,
        limit: usize,
    ) -> Result<(Vec<RecipientView>, Option<u32>), StoreError> {
        let part = self.read(move |db| messages::read(db, id, from, limit)).await?;
        Ok(part.map(|part| (part.recipients(states), part.next)).unwrap_or_default())
    }

    async fn attempts(
        &self,
        account: &str,
        id: BatchId,
    ) -> Result<Option<AttemptsView>, StoreError> {
        let (account, now) = (account.to_owned(), self.clock.now());
        self.read(move |db| {
            batch(db, &account, id)?.map(|batch| attempts(db, &batch, now)).transpose()
        })
        .await
    }

    async fn events(
        &self,
        account: &str,
        filter: &EventFilter,
        before: Option<EventId>,
        limit: usize,
    ) -> Result<Option<(Vec<EventView>, Option<EventId>)>, StoreError> {
        let account = account.to_owned();
        let found = self.read(move |db| {
            let place = before.map_or(Ok(Some(i64::MAX)), |id| feed::place(db, &account, id))?;
            place.map(|place| feed::before(db, &account, place, limit)).transpose()
        });
        Ok(found.await?.map(|mut views| {
            let last = views.last().map(|view| view.event.id);
            let next = last.filter(|_| views.len() == limit);
            views.retain(|view| filter.matches(view));
            (views, next)
        }))
    }

    async fn events_after(
        &self,
        account: &str,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Option<Vec<EventView>>, StoreError> {
        let account = account.to_owned();
        self.read(move |db| {
            let place = after.map_or(Ok(Some(0)), |id| feed::place(db, &account, id))?;
            place.map(|place| feed::after(db, &account, place, limit)).transpose()
        })
        .await
    }

    async fn stats(&self, providers: &[String]) -> Result<Stats, StoreError> {
        let names = providers.to_vec();
        let mut stats = self.read(move |db| stats(db, names)).await?;
        for (name, figures) in &mut stats.providers {
            let pause = self.rates.paused(Instant::now(), name);
            figures.set_pause(&Pause { stopped: figures.stopped, ..pause });
        }
        Ok(stats)
    }

    /// Asks the writer: without it nothing is accepted or sent. After a failed commit it has to
    /// write something, to find out whether it can again.
    async fn ping(&self) -> Result<(), StoreError> {
        self.synced()?;
        let failed = self.health.uncommitted.is_set();
        self.write(move |step| if failed { step.next_turn().map(|_| ()) } else { Ok(()) }).await
    }
}

fn batch(db: &Connection, account: &str, id: BatchId) -> rusqlite::Result<Option<Batch>> {
    let sql = batch_columns!("WHERE b.id = ?1 AND b.account = ?2 AND b.state != 'dropped'");
    db.prepare_cached(sql)?.query_row((Id(id), account), columns::batch).optional()
}

fn list(
    db: &Connection,
    account: &str,
    before: Option<BatchId>,
    limit: usize,
) -> rusqlite::Result<Vec<Batch>> {
    let sql = batch_columns!(
        "WHERE b.account = ?1 AND b.id < ?2 AND b.state != 'dropped' ORDER BY b.id DESC LIMIT ?3"
    );
    // Behind every ULID, whose first character is a digit.
    let before = before.map_or_else(|| "~".to_owned(), BatchId::ulid);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    db.prepare_cached(sql)?.query_map((account, before, limit), columns::batch)?.collect()
}

fn attempts(db: &Connection, batch: &Batch, now: UnixMs) -> rusqlite::Result<AttemptsView> {
    let sql = "SELECT number, at_ms, came_to FROM attempt \
               WHERE event = (SELECT event FROM event WHERE id = ?1) ORDER BY number";
    let mut rows = db.prepare_cached(sql)?;
    let attempts = rows.query_map([Id(batch.id)], |row| {
        let came_to: Option<String> = row.get(2)?;
        let end = came_to.and_then(|json| serde_json::from_str(&json).ok());
        Ok(AttemptRecord {
            number: row.get(0)?,
            at: instant(row.get(1)?),
            end: end.unwrap_or_else(AttemptEnd::interrupted),
        })
    })?;
    let attempts = attempts.collect::<rusqlite::Result<_>>()?;
    // What is due at once came then, and is due since.
    let sql = "SELECT max(due_ms, since_ms), until_ms FROM event WHERE id = ?1";
    let found = db.prepare_cached(sql)?.query_row([Id(batch.id)], |row| {
        Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?))
    });
    let (due, until) = found.optional()?.unwrap_or_default();
    let is_held = until.is_some_and(|until_ms| instant(until_ms) > now);
    let due = due.or(until).map(instant);
    Ok(AttemptsView::new(attempts, due, is_held, batch.callback))
}

fn stats(db: &Connection, providers: Vec<String>) -> rusqlite::Result<Stats> {
    let mut stats = Stats {
        callbacks_pending: tally(db, "callback:pending")?,
        leases_lost: tally(db, "leases_lost")?,
        ..Stats::default()
    };
    for state in CallbackState::ENDED {
        let ended = tally(db, &format!("callback:{}", state.word()))?;
        stats.callbacks_ended.insert(state.word(), ended);
    }
    for name in providers {
        let figures = provider(db, &name)?;
        stats.providers.insert(name, figures);
    }
    Ok(stats)
}

fn provider(db: &Connection, name: &str) -> rusqlite::Result<ProviderStats> {
    let sql = "SELECT open, sending, ended_1, ended_2, ended_3, ended_4, ended_5, ended_6, ended_7, \
               stopped, awaiting FROM provider WHERE name = ?1";
    let mut rows = db.prepare_cached(sql)?;
    let found = rows.query_row([name], |row| {
        let mut figures = ProviderStats {
            open: columns::count(row, 0)?,
            sending: columns::count(row, 1)?,
            stopped: row.get(9)?,
            awaiting: columns::count(row, 10)?,
            ..ProviderStats::default()
        };
        for (column, state) in (2..).zip(FinalState::ALL) {
            figures.ended.insert(state, columns::count(row, column)?);
        }
        Ok(figures)
    });
    let nothing = || ProviderStats {
        ended: FinalState::ALL.map(|state| (state, 0)).into(),
        ..ProviderStats::default()
    };
    let mut figures = found.optional()?.unwrap_or_else(nothing);
    // As far as the first 100 accounts tell, and 10,000 batches of theirs.
    let sql = "SELECT min(id) FROM (SELECT b.id FROM \
               (SELECT priority, account FROM ring WHERE provider = ?1 LIMIT 100) r \
               JOIN batch b ON b.provider = ?1 AND b.priority = r.priority \
               AND b.account = r.account AND b.turn IS NOT NULL \
               LIMIT 10000)";
    let mut rows = db.prepare_cached(sql)?;
    let oldest: Option<Id> = rows.query_row([name], |row| row.get(0))?;
    figures.oldest_queued = oldest.map(|id| id.0.created_at());
    Ok(figures)
}

/// One of the sums, 0 if there is none.
pub(super) fn tally(db: &Connection, name: &str) -> rusqlite::Result<u64> {
    number(db, "SELECT sum(value) FROM tally WHERE name = ?1", params![name])
}

fn number(db: &Connection, sql: &str, with: impl Params) -> rusqlite::Result<u64> {
    let number = one(db, sql, with)?.unwrap_or(0);
    Ok(u64::try_from(number).unwrap_or(0))
}

/// The number in a statement's first row, if there is one.
fn one(db: &Connection, sql: &str, with: impl Params) -> rusqlite::Result<Option<i64>> {
    let mut rows = db.prepare_cached(sql)?;
    let found = rows.query_row(with, |row| row.get::<_, Option<i64>>(0));
    found.optional().map(Option::flatten)
}
