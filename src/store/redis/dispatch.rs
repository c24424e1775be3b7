//! [`Dispatch`] on Redis.

use std::{str::FromStr, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use redis::{Cmd, Value};

use super::{RedisStore, codec, keys, link::Link, scripts};
use crate::{
    domain::{
        batch::BatchSpec,
        ids::BatchId,
        past::{Mark, Past, Suspect},
        record,
        share::Share,
        time::{UnixMs, millis},
    },
    store::{
        Claim, Claimed, Dispatch, Grant, GrantRequest, Holding, ORDER_KNOWN, PURGE_AHEAD_MAX,
        Pause, RECEIPT_TIMEOUT_MAX, Release, SendTimes, Settled, Settlement, Standing, StoreError,
        Swept, Token, Wish, pace, stored,
    },
};

/// At most so many leases, due batches, uploads or chunks a script and call.
const STEP: u64 = 100;

/// This part of a lease is waited for an answer that extends it: a worker waits for all its leases
/// together, and for a third of it at most.
const HOLD_PART: u32 = 4;

/// At most so many events are looked at for an order to deliver some again, a call.
const LOOKED_AT_MAX: u64 = 1_000;

#[async_trait]
impl Dispatch for RedisStore {
    async fn claim(&self, claim: &Claim) -> Result<Option<Claimed>, StoreError> {
        let answer = self
            .link
            .run(&scripts::CLAIM, &keys::partition(claim.partition), |call| {
                call.arg(&claim.provider)
                    .arg(format!("{:016x}", claim.nonce))
                    .arg(self.lease_ms())
                    .arg(pace::micros(pace::CATCH_UP))
                    .arg(pace::micros(pace::AHEAD))
                    .arg(pace::micros(pace::RUN));
            })
            .await?;
        match answer {
            Value::Nil => Ok(None),
            answer => claimed(answer).map(Some),
        }
    }

    async fn spec(&self, batch: BatchId) -> Result<Option<BatchSpec>, StoreError> {
        let mut command = redis::cmd("HGET");
        command.arg(keys::batch(batch)).arg("spec");
        match self.link.ask(&command).await? {
            Value::Nil => Ok(None),
            value => stored::read_spec(&codec::bytes(value)?).map(Some),
        }
    }

    async fn settle(&self, settlement: &Settlement) -> Result<Settled, StoreError> {
        let answer = self
            .link
            .run_once(&scripts::SETTLE, &keys::of(settlement.batch), |call| {
                write_settlement(call, settlement);
            })
            .await?;
        let answer = codec::text(answer)?;
        match answer.as_str() {
            "done" => Ok(Settled::Done),
            "completed" => Ok(Settled::Completed),
            "lost" => Ok(Settled::Lost),
            other => match other.strip_prefix("behind ") {
                Some(sequence) => {
                    sequence.parse().map(Settled::Behind).map_err(|_| codec::unexpected(other))
                }
                None => wish(other).map(Settled::Applied),
            },
        }
    }

    async fn hold(&self, holdings: &[Holding]) -> Result<Vec<Standing>, StoreError> {
        let mut standings = vec![Standing::Unheard; holdings.len()];
        let mut failure = None;
        let places = (0..self.partitions).map(|partition| {
            let is_here = |place: &usize| holdings[*place].batch.partition() == partition;
            (0..holdings.len()).filter(is_here).collect::<Vec<_>>()
        });
        let asked = places.filter(|places| !places.is_empty());
        let asked = asked.map(|places| async { (self.hold_at(&places, holdings).await, places) });
        // A partition whose server is away takes nothing from the others.
        for (answer, places) in join_all(asked).await {
            match answer {
                Ok(heard) => {
                    for (place, standing) in places.into_iter().zip(heard) {
                        standings[place] = standing;
                    }
                }
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if standings.iter().all(|one| *one == Standing::Unheard) => Err(error),
            _ => Ok(standings),
        }
    }

    async fn grant(&self, request: &GrantRequest<'_>) -> Result<Grant, StoreError> {
        let answer = self
            .link
            .run_once(&scripts::GRANT, &keys::rate(request.provider), |call| {
                let interval_ns = u64::try_from(request.interval.as_nanos()).unwrap_or(u64::MAX);
                call.arg(interval_ns).arg(request.burst_us).arg(request.wanted);
                call.arg(request.ahead_us).arg(request.wanted_max);
                for level in request.below {
                    call.arg(level.name).arg(pace::nanos(level.interval));
                }
            })
            .await?;
        match codec::list(answer)?.as_slice() {
            [Value::Int(1), first_in] => Ok(Grant::Run { first_in_us: codec::signed(first_in)? }),
            [Value::Int(0), wait, paused] => Ok(Grant::Later {
                wait: Duration::from_micros(u64::try_from(codec::signed(wait)?).unwrap_or(0)),
                paused: codec::signed(paused)? == 1,
            }),
            _ => Err(codec::unexpected("a grant that is none")),
        }
    }

    async fn throttle(
        &self,
        provider: &str,
        pause: Duration,
        cuts: bool,
    ) -> Result<Option<Share>, StoreError> {
        let pause_us = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
        let stop = |call: &mut Cmd| {
            call.arg(provider).arg(pause_us).arg(u8::from(cuts));
        };
        let answer = self.link.run(&scripts::THROTTLE, &keys::rate(provider), stop).await?;
        let left = share(codec::signed(&answer)?);
        Ok(left.filter(|_| cuts))
    }

    async fn tell_away(
        &self,
        provider: &str,
        cool_down: Option<Duration>,
    ) -> Result<(), StoreError> {
        let left = cool_down.map_or_else(String::new, |left| left.as_micros().to_string());
        let note = |call: &mut Cmd| _ = call.arg(&left);
        self.link.run(&scripts::AWAY, &keys::rate(provider), note).await.map(|_| ())
    }

    async fn paused(&self, provider: &str) -> Result<Pause, StoreError> {
        read_pause(&self.link, provider).await
    }

    async fn sweep(&self) -> Result<Swept, StoreError> {
        let sweeping = (0..self.partitions).map(|partition| async move {
            self.sweep_partition(&keys::partition(partition)).await
        });
        let mut all = Swept::default();
        // A partition whose server is away takes nothing from the others.
        for swept in join_all(sweeping).await {
            all += swept?;
        }
        Ok(all)
    }

    fn partitions(&self) -> u16 {
        self.partitions
    }
}

impl RedisStore {
    /// Extends the leases of one partition: those of the holdings at these places.
    async fn hold_at(
        &self,
        places: &[usize],
        holdings: &[Holding],
    ) -> Result<Vec<Standing>, StoreError> {
        let Some(first) = places.first() else { return Ok(Vec::new()) };
        let extend = |call: &mut Cmd| {
            call.arg(self.lease_ms());
            for holding in places.iter().map(|place| &holdings[*place]) {
                call.arg(holding.batch.ulid()).arg(holding.chunk).arg(&holding.token.0);
            }
        };
        let partition = keys::of(holdings[*first].batch);
        let asked = self.link.run(&scripts::HOLD, &partition, extend);
        let asked = tokio::time::timeout(self.rules.lease / HOLD_PART, asked).await;
        let late = |_| StoreError::ReplyLost("no answer while the lease lasts".to_owned());
        let words = codec::list(asked.map_err(late)??)?;
        words
            .into_iter()
            .map(|word| match codec::text(word)?.as_str() {
                "lost" => Ok(Standing::Lost),
                other => wish(other).map(Standing::Held),
            })
            .collect()
    }

    async fn sweep_partition(&self, key: &str) -> Result<Swept, StoreError> {
        let [leases_lost, closed] = self
            .step(&scripts::RECOVER, key, |call| {
                call.arg(self.lease_ms()).arg(STEP);
            })
            .await?;
        let [closed_later] = self.step(&scripts::CLOSE, key, |call| _ = call.arg(STEP)).await?;
        let [batches_due] = self.step(&scripts::FORWARD, key, |call| _ = call.arg(STEP)).await?;
        let [batches_begun] = self.step(&scripts::START, key, |call| _ = call.arg(STEP)).await?;
        let [batches_expired] = self.step(&scripts::EXPIRE, key, |call| _ = call.arg(STEP)).await?;
        let [waits_ended] = self
            .step(&scripts::LAPSE, key, |call| {
                call.arg(STEP).arg(millis(RECEIPT_TIMEOUT_MAX));
            })
            .await?;
        let [uploads_dropped] = self
            .step(&scripts::EXPEL, key, |call| {
                call.arg(self.upload_lease_ms()).arg(STEP);
            })
            .await?;
        let [chunks_purged, batches_purged] = self
            .step(&scripts::PURGE, key, |call| {
                call.arg(STEP).arg(millis(PURGE_AHEAD_MAX));
            })
            .await?;
        let [events_replayed, looked_at] = self
            .step(&scripts::REDO, key, |call| {
                call.arg(STEP).arg(LOOKED_AT_MAX).arg(millis(ORDER_KNOWN));
            })
            .await?;
        let full = [
            leases_lost,
            closed_later,
            batches_due,
            batches_begun,
            batches_expired,
            waits_ended,
            uploads_dropped,
            chunks_purged,
        ];
        Ok(Swept {
            leases_lost,
            chunks_closed: closed + closed_later,
            batches_due,
            batches_begun,
            batches_expired,
            waits_ended,
            uploads_dropped,
            batches_purged,
            events_replayed,
            // Replays keep to their pace; only looking for them does not.
            more: batches_purged > 0
                || (events_replayed == 0 && looked_at >= LOOKED_AT_MAX)
                || closed_later > 0
                || full.into_iter().any(|count| count >= STEP),
        })
    }

    async fn step<const N: usize>(
        &self,
        script: &scripts::Script,
        key: &str,
        arguments: impl Fn(&mut Cmd),
    ) -> Result<[u64; N], StoreError> {
        let counts = match self.link.run_once(script, key, arguments).await? {
            Value::Array(counts) => counts,
            count => vec![count],
        };
        let counts: Vec<u64> = counts.into_iter().map(codec::number).collect::<Result<_, _>>()?;
        counts.try_into().map_err(|_| codec::unexpected(script.name))
    }
}

/// Whether and how long a provider is still paused.
pub(super) async fn read_pause(link: &Link, provider: &str) -> Result<Pause, StoreError> {
    let answer = link.run(&scripts::PAUSED, &keys::rate(provider), |_| ()).await?;
    match codec::list(answer)?.as_slice() {
        [left_us, stopped, left_of_rate, away_us] => Ok(Pause {
            left: Duration::from_micros(u64::try_from(codec::signed(left_us)?).unwrap_or(0)),
            stopped: codec::signed(stopped)? == 1,
            share: share(codec::signed(left_of_rate)?).unwrap_or_default(),
            away: u64::try_from(codec::signed(away_us)?).ok().map(Duration::from_micros),
        }),
        _ => Err(codec::unexpected("a pause that is none")),
    }
}

/// A share as scripts tell it; `None` for 0.
fn share(millionths: i64) -> Option<Share> {
    let millionths = u32::try_from(millionths).ok().filter(|millionths| *millionths > 0);
    millionths.map(Share::from_millionths)
}

fn write_settlement(call: &mut Cmd, settlement: &Settlement) {
    call.arg(settlement.batch.ulid())
        .arg(settlement.chunk)
        .arg(&settlement.token.0)
        .arg(settlement.sequence)
        .arg(&settlement.changes[..])
        .arg(&settlement.log[..]);
    match settlement.release {
        None => call.arg(""),
        Some(Release::Now) => call.arg(0),
        Some(Release::At(at)) => call.arg(at.0),
    };
    call.arg(
        settlement
            .mark
            .map_or_else(String::new, |mark| format!("{} {}", mark.upto, mark.claimed_at.0)),
    );
    for waiting in &settlement.waiting {
        call.arg(waiting.place).arg(record::write_open(&waiting.open));
    }
}

fn claimed(answer: Value) -> Result<Claimed, StoreError> {
    let fields: Result<[Value; 10], _> = codec::list(answer)?.try_into();
    let Ok([id, chunk, first, token, now, states, recipients, waiting, times, past]) = fields
    else {
        return Err(codec::unexpected("a claim that is none"));
    };
    let first = codec::bytes(first)?;
    let mut pairs = codec::list(waiting)?.into_iter();
    let mut waiting = Vec::with_capacity(pairs.len() / 2);
    while let (Some(place), Some(open)) = (pairs.next(), pairs.next()) {
        let place =
            u16::try_from(codec::number(place)?).map_err(|_| codec::unexpected("a place"))?;
        waiting.push((place, record::read_open(&codec::bytes(open)?)));
    }
    Ok(Claimed {
        batch: BatchId::from_ulid(&codec::text(id)?)
            .map_err(|_| codec::unexpected("a batch id"))?,
        chunk: u32::try_from(codec::number(chunk)?).map_err(|_| codec::unexpected("a chunk"))?,
        first: u32::from_be_bytes(first.try_into().map_err(|_| codec::unexpected("an index"))?),
        token: Token(codec::text(token)?),
        now: UnixMs(codec::number(now)?),
        states: Bytes::from(codec::bytes(states)?),
        recipients: Bytes::from(codec::bytes(recipients)?),
        waiting,
        times: send_times(&codec::list(times)?)?,
        past: past_of(codec::list(past)?)?,
    })
}

/// What lost leases left behind: losses, the mark and the suspect, each if there is one.
fn past_of(past: Vec<Value>) -> Result<Past, StoreError> {
    let mut texts = past.into_iter().map(|field| match field {
        Value::Nil => Ok(None),
        field => codec::text(field).map(Some),
    });
    let mut next = || texts.next().transpose().map(Option::flatten);
    let unexpected = || codec::unexpected("what a lost lease left behind");
    let losses = next()?.map(|text| text.parse().unwrap_or(u8::MAX));
    let mark = next()?.map(|text| pair(&text).ok_or_else(unexpected)).transpose()?;
    let suspect = next()?.map(|text| pair(&text).ok_or_else(unexpected)).transpose()?;
    Ok(Past {
        losses,
        mark: mark.map(|(upto, at)| Mark { upto, claimed_at: UnixMs(at) }),
        suspect: suspect.map(|(place, starts)| Suspect { place, starts }),
    })
}

/// Two numbers with a space between them.
fn pair<A: FromStr, B: FromStr>(text: &str) -> Option<(A, B)> {
    let (first, second) = text.split_once(' ')?;
    Some((first.parse().ok()?, second.parse().ok()?))
}

fn send_times(times: &[Value]) -> Result<Option<SendTimes>, StoreError> {
    let [first_in, messages] = times else { return Ok(None) };
    let messages = u32::try_from(codec::signed(messages)?)
        .map_err(|_| codec::unexpected("a number of send times"))?;
    Ok(Some(SendTimes { first_in_us: codec::signed(first_in)?, messages }))
}

fn wish(word: &str) -> Result<Wish, StoreError> {
    match word {
        "go" => Ok(Wish::Go),
        "pause" => Ok(Wish::Pause),
        "cancel" => Ok(Wish::Cancel),
        "expire" => Ok(Wish::Expire),
        other => Err(codec::unexpected(other)),
    }
}
