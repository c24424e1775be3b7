//! [`Reading`] on Redis: batches, attempts, figures. Messages are read in `messages.rs`.

use async_trait::async_trait;
use futures_util::{FutureExt, future::select_ok};
use redis::Value;

use super::{
    RedisStore,
    callbacks::{hgetall, score_ms, time_ms},
    codec,
    dispatch::read_pause,
    events::Order,
    keys, messages,
};
use crate::{
    domain::{
        batch::{Batch, CallbackState, Priority},
        ids::{BatchId, EventId},
        message::{FinalState, MessageState},
        state_byte::StateByte,
        time::UnixMs,
    },
    store::{
        AttemptEnd, AttemptRecord, AttemptsView, BatchFilter, EventFilter, EventView, MessageView,
        ProviderStats, Reading, RecipientView, Stats, StoreError,
    },
};

#[async_trait]
impl Reading for RedisStore {
    async fn batch(&self, account: &str, id: BatchId) -> Result<Option<Batch>, StoreError> {
        if id.partition() >= self.partitions {
            return Ok(None);
        }
        let answer = self.link.ask(&hgetall(&keys::batch(id))).await?;
        let batch = codec::batch(id, &codec::fields(answer)?)?;
        Ok(batch.filter(|batch| batch.spec.account == account))
    }

    async fn batches(
        &self,
        account: &str,
        filter: &BatchFilter,
        before: Option<BatchId>,
        limit: usize,
    ) -> Result<(Vec<Batch>, Option<BatchId>), StoreError> {
        let ids = self.batch_ids(account, before, limit).await?;
        let next = (ids.len() == limit).then(|| ids.last().copied()).flatten();
        let mut calls = redis::pipe();
        for id in &ids {
            calls.add_command(hgetall(&keys::batch(*id)));
        }
        let mut batches = Vec::new();
        for (id, fields) in ids.iter().zip(self.link.ask_all(&calls).await?) {
            batches.extend(codec::batch(*id, &codec::fields(fields)?)?);
        }
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
        let part = messages::read(&self.link, id, from, limit).await?;
        Ok(part.map(|part| (part.messages(id, state), part.next)).unwrap_or_default())
    }

    async fn recipients(
        &self,
        id: BatchId,
        states: &[FinalState],
        from: u32,
        limit: usize,
    ) -> Result<(Vec<RecipientView>, Option<u32>), StoreError> {
        let part = messages::read(&self.link, id, from, limit).await?;
        Ok(part.map(|part| (part.recipients(states), part.next)).unwrap_or_default())
    }

    async fn attempts(
        &self,
        account: &str,
        id: BatchId,
    ) -> Result<Option<AttemptsView>, StoreError> {
        let Some(batch) = self.batch(account, id).await? else { return Ok(None) };
        let keys = keys::PartitionKeys(keys::of(id));
        let host = batch.spec.callback.as_ref().map_or("", |callback| &callback.host);
        let mut calls = redis::pipe();
        calls.cmd("LRANGE").arg(keys::attempts(id.event())).arg(0).arg(-1);
        calls.cmd("ZSCORE").arg(keys.waiting(host)).arg(id.ulid());
        calls.cmd("ZSCORE").arg(keys.under_way(host)).arg(id.ulid());
        calls.cmd("HGET").arg(keys::event(id.event())).arg("since");
        calls.cmd("TIME");
        let mut answers = self.link.ask_all(&calls).await?.into_iter();
        let mut next = || answers.next().unwrap_or(Value::Nil);
        let (lines, due, lease) = (codec::list(next())?, instant(next())?, instant(next())?);
        // What waits for nothing lies before any instant: it came then, and is due since.
        let since = instant(next())?.unwrap_or_default();
        let due = due.map(|due| due.max(since));
        let now = UnixMs(time_ms(next())?);
        let attempts = lines.into_iter().map(attempt).collect::<Result<Vec<_>, _>>()?;
        let is_held = lease.is_some_and(|lease| lease > now);
        Ok(Some(AttemptsView::new(attempts, due.or(lease), is_held, batch.callback)))
    }

    async fn events(
        &self,
        account: &str,
        filter: &EventFilter,
        before: Option<EventId>,
        limit: usize,
    ) -> Result<Option<(Vec<EventView>, Option<EventId>)>, StoreError> {
        let Some(ids) = self.event_ids(account, before, limit, Order::NewestFirst).await? else {
            return Ok(None);
        };
        let next = (ids.len() == limit).then(|| ids.last().copied()).flatten();
        let mut views = self.event_views(&ids).await?;
        views.retain(|view| filter.matches(view));
        Ok(Some((views, next)))
    }

    async fn events_after(
        &self,
        account: &str,
        after: Option<EventId>,
        limit: usize,
    ) -> Result<Option<Vec<EventView>>, StoreError> {
        match self.event_ids(account, after, limit, Order::OldestFirst).await? {
            Some(ids) => self.event_views(&ids).await.map(Some),
            None => Ok(None),
        }
    }

    async fn stats(&self, providers: &[String]) -> Result<Stats, StoreError> {
        let mut stats = Stats::default();
        for partition in 0..self.partitions {
            let keys = keys::PartitionKeys(keys::partition(partition));
            self.add_partition(&keys, providers, &mut stats).await?;
        }
        for provider in providers {
            let pause = read_pause(&self.link, provider).await?;
            let figures = stats.providers.entry(provider.clone()).or_default();
            figures.set_pause(&pause);
        }
        Ok(stats)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        // A key that never exists. The store serves as long as one partition can be reached.
        let asked = (0..self.partitions).map(|partition| {
            let mut command = redis::cmd("EXISTS");
            command.arg(keys::partition(partition));
            async move { self.link.ask(&command).await }.boxed()
        });
        select_ok(asked).await.map(|_| ())
    }
}

impl RedisStore {
    /// The ids of an account's batches older than `before`, newest first, partitions merged.
    async fn batch_ids(
        &self,
        account: &str,
        before: Option<BatchId>,
        limit: usize,
    ) -> Result<Vec<BatchId>, StoreError> {
        let newest = before.map_or("+".to_owned(), |id| format!("({}", id.ulid()));
        let mut calls = redis::pipe();
        for partition in 0..self.partitions {
            let list = keys::PartitionKeys(keys::partition(partition)).list(account);
            let call = calls.cmd("ZREVRANGEBYLEX").arg(list).arg(&newest).arg("-");
            call.arg("LIMIT").arg(0).arg(limit);
        }
        let mut ids = Vec::new();
        for answer in self.link.ask_all(&calls).await? {
            for id in codec::list(answer)? {
                let id = BatchId::from_ulid(&codec::text(id)?);
                ids.push(id.map_err(|_| codec::unexpected("a batch id"))?);
            }
        }
        ids.sort_unstable_by(|one, other| other.cmp(one));
        ids.truncate(limit);
        Ok(ids)
    }

    async fn add_partition(
        &self,
        keys: &keys::PartitionKeys,
        providers: &[String],
        stats: &mut Stats,
    ) -> Result<(), StoreError> {
        let mut calls = redis::pipe();
        calls.add_command(hgetall(&keys.stats()));
        let sums = codec::fields(self.link.ask_all(&calls).await?.pop().unwrap_or(Value::Nil))?;
        stats.callbacks_pending += codec::count(&sums, "callback:pending");
        stats.leases_lost += codec::count(&sums, "leases_lost");
        for state in CallbackState::ENDED {
            let word = state.word();
            *stats.callbacks_ended.entry(word).or_default() +=
                codec::count(&sums, &format!("callback:{word}"));
        }
        for provider in providers {
            let figures = stats.providers.entry(provider.clone()).or_default();
            add_sums(figures, provider, &sums);
            for priority in Priority::ALL {
                let oldest = self.oldest_waiting(&keys.ring(provider, priority)).await?;
                figures.oldest_queued = figures.oldest_queued.into_iter().chain(oldest).min();
            }
        }
        Ok(())
    }

    /// When the oldest batch in a ring was created, as far as its first 100 accounts tell.
    async fn oldest_waiting(&self, ring: &str) -> Result<Option<UnixMs>, StoreError> {
        let mut accounts = redis::cmd("ZRANGE");
        accounts.arg(ring).arg(0).arg(99);
        let mut calls = redis::pipe();
        for account in codec::list(self.link.ask(&accounts).await?)? {
            let batches = format!("{ring}:{}", codec::text(account)?);
            calls.cmd("ZRANGE").arg(batches).arg(0).arg(99);
        }
        let mut oldest = None;
        for answer in self.link.ask_all(&calls).await? {
            for id in codec::list(answer)? {
                let id = BatchId::from_ulid(&codec::text(id)?);
                oldest = oldest.into_iter().chain(id.ok().map(BatchId::created_at)).min();
            }
        }
        Ok(oldest)
    }
}

fn add_sums(
    figures: &mut ProviderStats,
    provider: &str,
    sums: &std::collections::HashMap<String, Vec<u8>>,
) {
    figures.open += codec::count(sums, &format!("{provider}:open"));
    figures.sending += codec::count(sums, &format!("{provider}:sending"));
    figures.awaiting += codec::count(sums, &format!("{provider}:{}", StateByte::AWAITING.0));
    for state in FinalState::ALL {
        *figures.ended.entry(state).or_default() +=
            codec::count(sums, &format!("{provider}:{}", state as u8));
    }
}

/// An instant, if the answer is one.
pub(super) fn instant(score: Value) -> Result<Option<UnixMs>, StoreError> {
    Some(score)
        .filter(|score| *score != Value::Nil)
        .map(score_ms)
        .transpose()
        .map(|ms| ms.map(UnixMs))
}

/// Reads `<number> <at, ms> <what it came to>`.
fn attempt(line: Value) -> Result<AttemptRecord, StoreError> {
    let line = codec::text(line)?;
    let mut parts = line.splitn(3, ' ');
    let mut part = || parts.next().unwrap_or_default();
    let (number, at, end) = (part(), part(), part());
    Ok(AttemptRecord {
        number: number.parse().map_err(|_| codec::unexpected("an attempt without a number"))?,
        at: UnixMs(at.parse().map_err(|_| codec::unexpected("an attempt without a time"))?),
        end: serde_json::from_str(end).unwrap_or_else(|_| AttemptEnd::interrupted()),
    })
}
