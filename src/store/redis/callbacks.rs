//! [`Callbacks`] on Redis.

use std::time::Duration;

use async_trait::async_trait;
use redis::{Cmd, Value};

use super::{RedisStore, codec, keys, scripts};
use crate::{
    domain::{ids::BatchId, time::millis},
    store::{Attempt, Callbacks, EVENT_DELAY_MAX, StoreError, TakenEvent, Verdict},
};

#[async_trait]
impl Callbacks for RedisStore {
    async fn take(&self, limit: usize, lease: Duration) -> Result<Vec<TakenEvent>, StoreError> {
        let mut taken = Vec::new();
        for partition in 0..self.partitions {
            if taken.len() >= limit {
                break;
            }
            let left = limit - taken.len();
            let answer = self
                .link
                .run_once(&scripts::TAKE, &keys::partition(partition), |call| {
                    call.arg(left).arg(millis(lease)).arg(millis(EVENT_DELAY_MAX));
                })
                .await;
            match answer {
                Ok(answer) => self.read_taken(answer, &mut taken).await?,
                // What was taken before has begun its attempts: it must not be thrown away.
                Err(_) if !taken.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }

    async fn body(&self, batch: BatchId, body: String) -> Result<String, StoreError> {
        let key = keys::event(batch);
        let mut calls = redis::pipe();
        calls.cmd("HSETNX").arg(&key).arg("body").arg(&body);
        calls.cmd("HGET").arg(&key).arg("body");
        let mut answers = self.link.ask_all(&calls).await?;
        codec::text(answers.pop().unwrap_or(Value::Nil))
    }

    async fn record(&self, attempt: &Attempt) -> Result<bool, StoreError> {
        // Numbers and texts only: nothing here can fail to be written.
        let end = serde_json::to_string(&attempt.end).unwrap_or_default();
        let (word, delay) = match attempt.verdict {
            Verdict::Ended(state) => (state.word(), Duration::ZERO),
            Verdict::Again(delay) => ("again", delay),
        };
        let answer = self
            .link
            .run(&scripts::RECORD, &keys::of(attempt.batch), |call| {
                call.arg(attempt.batch.ulid())
                    .arg(attempt.number)
                    .arg(&end)
                    .arg(word)
                    .arg(millis(delay).min(millis(EVENT_DELAY_MAX)));
            })
            .await?;
        Ok(codec::number(answer)? == 1)
    }

    async fn next_due(&self) -> Result<Option<Duration>, StoreError> {
        let mut calls = redis::pipe();
        calls.cmd("TIME");
        for partition in 0..self.partitions {
            let key = keys::PartitionKeys(keys::partition(partition)).events();
            calls.cmd("ZRANGE").arg(key).arg(0).arg(0).arg("WITHSCORES");
        }
        let mut answers = self.link.ask_all(&calls).await?.into_iter();
        let now_ms = time_ms(answers.next().unwrap_or(Value::Nil))?;
        let mut next_ms: Option<u64> = None;
        for answer in answers {
            if let Some(score) = codec::list(answer)?.pop() {
                let due_ms = score_ms(score)?;
                next_ms = Some(next_ms.map_or(due_ms, |next_ms| next_ms.min(due_ms)));
            }
        }
        Ok(next_ms.map(|due_ms| Duration::from_millis(due_ms.saturating_sub(now_ms))))
    }

    async fn signing_secret(&self, secret: &str) -> Result<String, StoreError> {
        let mut calls = redis::pipe();
        calls.cmd("HSETNX").arg(keys::META).arg("secret").arg(secret);
        calls.cmd("HGET").arg(keys::META).arg("secret");
        let mut answers = self.link.ask_all(&calls).await?;
        codec::text(answers.pop().unwrap_or(Value::Nil))
    }
}

impl RedisStore {
    /// Adds the batches that belong to the answer of `take`.
    async fn read_taken(
        &self,
        answer: Value,
        taken: &mut Vec<TakenEvent>,
    ) -> Result<(), StoreError> {
        let mut events = Vec::new();
        let mut calls = redis::pipe();
        let mut values = codec::list(answer)?.into_iter();
        while let (Some(id), Some(number), Some(body)) =
            (values.next(), values.next(), values.next())
        {
            let id = BatchId::from_ulid(&codec::text(id)?)
                .map_err(|_| codec::unexpected("a batch id"))?;
            let number = u32::try_from(codec::number(number)?).unwrap_or(u32::MAX);
            let body = Some(codec::text(body)?).filter(|body| !body.is_empty());
            calls.add_command(hgetall(&keys::batch(id)));
            events.push((id, number, body));
        }
        let batches = self.link.ask_all(&calls).await?;
        for ((id, number, body), fields) in events.into_iter().zip(batches) {
            // One that can't be read must not hold the others up.
            match codec::fields(fields).and_then(|fields| codec::batch(id, &fields)) {
                Ok(Some(batch)) => taken.push(TakenEvent { batch, number, body }),
                Ok(None) => {
                    tracing::error!(batch.id = %id, "an event has no batch: the store lost it");
                }
                Err(error) => {
                    tracing::error!(batch.id = %id, %error, "an event's batch can't be read");
                }
            }
        }
        Ok(())
    }
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
