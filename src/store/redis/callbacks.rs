//! [`Callbacks`] on Redis.

use std::{sync::atomic::Ordering, time::Duration};

use async_trait::async_trait;
use redis::{Cmd, Value};

use super::{RedisStore, codec, keys, scripts};
use crate::{
    domain::{
        batch::CallbackState,
        ids::{BatchId, EventId},
        time::{UnixMs, millis},
    },
    store::{
        Attempt, AttemptEnd, Callbacks, EVENT_DELAY_MAX, EVENT_LEASE_MAX, HostSign, Recorded,
        StoreError, TakenEvent, Verdict, WELCOME_KEPT, stored::StoredEvent,
    },
};

/// How many values the script gives of a taken event.
const TAKEN_VALUES: usize = 11;

/// A taken event as the script gives it, without its batch.
struct Taken {
    event: EventId,
    batch: BatchId,
    stored: StoredEvent,
    number: u32,
    tries: u32,
    age: Duration,
    interrupted: bool,
    body: Option<String>,
}

#[async_trait]
impl Callbacks for RedisStore {
    async fn take(&self, limit: usize, lease: Duration) -> Result<Vec<TakenEvent>, StoreError> {
        let mut taken = Vec::new();
        let mut failure = None;
        for partition in self.partitions_in_turn() {
            if taken.len() >= limit {
                break;
            }
            // What was taken has begun its attempts: it must not be thrown away. And a partition whose
            // server is away takes nothing from the others.
            match self.take_of(partition, limit - taken.len(), lease).await {
                Ok(events) => taken.extend(events),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match failure {
            Some(error) if taken.is_empty() => Err(error),
            _ => Ok(taken),
        }
    }

    async fn body(&self, event: EventId, body: String) -> Result<Option<String>, StoreError> {
        let keep = |call: &mut Cmd| {
            call.arg(event.ulid()).arg(&body);
        };
        match self.link.run(&scripts::BODY, &keys::of_event(event), keep).await? {
            Value::Nil => Ok(None),
            kept => codec::text(kept).map(Some),
        }
    }

    async fn record(&self, attempt: &Attempt) -> Result<Recorded, StoreError> {
        // Numbers and texts only: nothing here can fail to be written.
        let end = serde_json::to_string(&attempt.end).unwrap_or_default();
        let (word, delay) = match attempt.verdict {
            Verdict::Ended(state) => (state.word(), Duration::ZERO),
            Verdict::Again(delay) => ("again", delay),
        };
        let sign = match attempt.host {
            HostSign::Answered => "answered",
            HostSign::Silent => "silent",
            HostSign::None => "",
        };
        let answer = self
            .link
            .run(&scripts::RECORD, &keys::of_event(attempt.event), |call| {
                call.arg(attempt.event.ulid())
                    .arg(attempt.number)
                    .arg(&end)
                    .arg(word)
                    .arg(millis(delay).min(millis(EVENT_DELAY_MAX)))
                    .arg(sign)
                    .arg(self.rules.hosts.silences_max)
                    .arg(millis(self.rules.hosts.left_alone));
            })
            .await?;
        match codec::text(answer)?.as_str() {
            "kept" => Ok(Recorded::Kept),
            "left alone" => Ok(Recorded::HostLeftAlone),
            "back" => Ok(Recorded::HostBack),
            "lost" => Ok(Recorded::Lost),
            other => Err(codec::unexpected(other)),
        }
    }

    async fn next_due(&self) -> Result<Option<Duration>, StoreError> {
        let mut calls = redis::pipe();
        for partition in 0..self.partitions {
            let key = keys::PartitionKeys(keys::partition(partition)).hosts();
            // The time of the server that the instants are of.
            calls.cmd("TIME").cmd("ZRANGE").arg(key).arg(0).arg(0).arg("WITHSCORES");
        }
        let mut answers = self.link.ask_all(&calls).await?.into_iter();
        let mut next_ms: Option<u64> = None;
        while let (Some(now), Some(next)) = (answers.next(), answers.next()) {
            let now_ms = time_ms(now)?;
            if let Some(score) = codec::list(next)?.pop() {
                let wait_ms = score_ms(score)?.saturating_sub(now_ms);
                next_ms = Some(next_ms.map_or(wait_ms, |next_ms| next_ms.min(wait_ms)));
            }
        }
        Ok(next_ms.map(Duration::from_millis))
    }

    async fn is_welcome(&self, account: &str, host: &str) -> Result<bool, StoreError> {
        let mut command = redis::cmd("EXISTS");
        command.arg(keys::welcome(account, host));
        Ok(codec::number(self.link.ask(&command).await?)? == 1)
    }

    async fn welcome(&self, account: &str, host: &str) -> Result<(), StoreError> {
        let mut command = redis::cmd("SET");
        command.arg(keys::welcome(account, host)).arg(1).arg("PX").arg(millis(WELCOME_KEPT));
        self.link.ask(&command).await.map(|_| ())
    }

    async fn signing_secret(&self, secret: &str) -> Result<String, StoreError> {
        super::agreed(&self.link, "secret", secret).await
    }
}

impl RedisStore {
    /// All partitions, from another one on each time: a busy notifier has room for a few events only,
    /// and the first partition could fill that for ever.
    fn partitions_in_turn(&self) -> impl Iterator<Item = u16> + use<> {
        let partitions = self.partitions;
        let turn = self.takes.fetch_add(1, Ordering::Relaxed) % usize::from(partitions);
        // Less than the partitions there are.
        let first = u16::try_from(turn).unwrap_or(0);
        (first..partitions).chain(0..first)
    }

    /// How many events a host may have at once in each partition.
    fn places_at_once(&self) -> u32 {
        (self.rules.hosts.at_once / u32::from(self.partitions)).max(1)
    }

    async fn take_of(
        &self,
        partition: u16,
        limit: usize,
        lease: Duration,
    ) -> Result<Vec<TakenEvent>, StoreError> {
        let hosts = self.rules.hosts;
        let answer = self
            .link
            .run_once(&scripts::TAKE, &keys::partition(partition), |call| {
                call.arg(limit)
                    .arg(millis(lease))
                    .arg(millis(EVENT_DELAY_MAX))
                    .arg(millis(EVENT_LEASE_MAX))
                    .arg(self.places_at_once())
                    .arg(hosts.silences_max)
                    .arg(millis(hosts.left_alone));
            })
            .await?;
        self.read_taken(answer).await
    }

    /// The events of the answer of `take`, with their batches.
    async fn read_taken(&self, answer: Value) -> Result<Vec<TakenEvent>, StoreError> {
        let (mut found, mut calls) = (Vec::new(), redis::pipe());
        for values in codec::list(answer)?.chunks(TAKEN_VALUES) {
            let event = Taken::read(values)?;
            calls.add_command(hgetall(&keys::batch(event.batch)));
            found.push(event);
        }
        let (mut taken, mut lost) = (Vec::with_capacity(found.len()), Vec::new());
        for (event, fields) in found.into_iter().zip(self.link.ask_all(&calls).await?) {
            let (id, number) = (event.event, event.number);
            // One that can't be read must not hold the others up.
            match event.with_batch(fields) {
                Ok(Some(event)) => taken.push(event),
                Ok(None) => lost.push((id, number)),
                Err(error) => tracing::error!(event.id = %id, %error, "an event can't be read"),
            }
        }
        for (id, number) in lost {
            self.give_up(id, number).await;
        }
        Ok(taken)
    }

    /// Ends an event that has no batch any more, which would keep one of its host's places for ever.
    async fn give_up(&self, event: EventId, number: u32) {
        tracing::error!(event.id = %event, "an event has no batch: the store lost it");
        let end =
            AttemptEnd { error: Some("its batch is lost".to_owned()), ..AttemptEnd::default() };
        let verdict = Verdict::Ended(CallbackState::Exhausted);
        let attempt = Attempt { event, number, end, verdict, host: HostSign::None };
        if let Err(error) = self.record(&attempt).await {
            tracing::warn!(event.id = %event, %error, "it comes again when its lease runs out");
        }
    }
}

// === impl Taken ===

impl Taken {
    fn read(values: &[Value]) -> Result<Self, StoreError> {
        let mut values = values.iter().cloned();
        let mut next = || values.next().unwrap_or(Value::Nil);
        let event = event_id(next())?;
        let batch = batch_id(next())?;
        let (kind, about) = (codec::text(next())?, codec::text(next())?);
        let mut number = || codec::number(next());
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let stored = StoredEvent { kind, about, sequence: small(number()?), at: UnixMs(number()?) };
        Ok(Self {
            event,
            batch,
            stored,
            number: small(number()?),
            tries: small(number()?),
            age: Duration::from_millis(number()?),
            interrupted: number()? == 1,
            body: Some(codec::text(next())?).filter(|body| !body.is_empty()),
        })
    }

    fn with_batch(self, fields: Value) -> Result<Option<TakenEvent>, StoreError> {
        let Some(batch) = codec::batch(self.batch, &codec::fields(fields)?)? else {
            return Ok(None);
        };
        Ok(Some(TakenEvent {
            event: self.stored.event(self.event, &batch)?,
            batch,
            number: self.number,
            tries: self.tries,
            age: self.age,
            interrupted: self.interrupted,
            body: self.body,
        }))
    }
}

pub(super) fn event_id(value: Value) -> Result<EventId, StoreError> {
    EventId::from_ulid(&codec::text(value)?).map_err(|_| codec::unexpected("an event id"))
}

pub(super) fn batch_id(value: Value) -> Result<BatchId, StoreError> {
    BatchId::from_ulid(&codec::text(value)?).map_err(|_| codec::unexpected("a batch id"))
}

pub(super) fn hgetall(key: &str) -> Cmd {
    let mut command = redis::cmd("HGETALL");
    command.arg(key);
    command
}

pub(super) fn time_ms(answer: Value) -> Result<u64, StoreError> {
    let mut parts = codec::list(answer)?.into_iter();
    let mut part = || codec::number(parts.next().unwrap_or(Value::Nil));
    Ok(part()? * 1_000 + part()? / 1_000)
}

/// A score that is an instant: whole milliseconds, whatever way the server writes the number.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "instants are whole")]
pub(super) fn score_ms(score: Value) -> Result<u64, StoreError> {
    if let Value::Double(score) = score {
        return Ok(score as u64);
    }
    let text = codec::text(score)?;
    let score: f64 = text.parse().map_err(|_| codec::unexpected("a score that is no number"))?;
    Ok(score as u64)
}
