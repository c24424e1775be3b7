//! [`Audit`] on Redis.

use std::time::Duration;

use async_trait::async_trait;
use redis::{Cmd, Pipeline, Value};

use super::{
    RedisStore,
    callbacks::hgetall,
    codec,
    keys::{self, ChunkKey, PartitionKeys},
    scripts,
};
use crate::{
    domain::{
        audit::{ChunkNotes, Notes, Recount},
        batch::{CallbackState, FinalCounts},
        ids::BatchId,
        message::FinalState,
        state_byte::StateByte,
        time::{UnixMs, millis},
    },
    store::{
        Audit, Concern, Matter, StoreError,
        audit::{LOOK_AFTER_EVERY, LOOKED_AFTER_MAX, PAGE, STANDS_STILL_AFTER},
    },
};

#[async_trait]
impl Audit for RedisStore {
    async fn batches(&self, account: &str) -> Result<Vec<BatchId>, StoreError> {
        let mut ids = Vec::new();
        for partition in 0..self.partitions {
            let keys = PartitionKeys(keys::partition(partition));
            let mut command = redis::cmd("ZRANGE");
            command.arg(keys.list(account)).arg(0).arg(-1);
            for id in codec::list(self.link.ask(&command).await?)? {
                let id = BatchId::from_ulid(&codec::text(id)?);
                ids.push(id.map_err(|_| codec::unexpected("a batch id"))?);
            }
        }
        Ok(ids)
    }

    async fn notes(&self, id: BatchId) -> Result<Option<Notes>, StoreError> {
        if id.partition() >= self.partitions {
            return Ok(None);
        }
        let fields = codec::fields(self.link.ask(&hgetall(&keys::batch(id))).await?)?;
        let Some(batch) = codec::batch(id, &fields)? else { return Ok(None) };
        if !fields.contains_key("hash") {
            return Ok(None);
        }
        let keys = PartitionKeys(keys::of(id));
        let ring = keys.ring_of(&batch.spec.provider, batch.spec.priority, &batch.spec.account);
        let mut calls = Pipeline::new();
        calls.cmd("ZSCORE").arg(ring).arg(id.ulid());
        calls.cmd("ZSCORE").arg(keys.due()).arg(id.ulid());
        calls.cmd("ZSCORE").arg(keys.closing()).arg(id.ulid());
        calls.cmd("EXISTS").arg(keys::event(id.event()));
        let mut answers = self.link.ask_all(&calls).await?.into_iter();
        let mut is_there = || answers.next().is_some_and(|answer| answer != Value::Nil);
        let (in_ring, is_due, is_closing) = (is_there(), is_there(), is_there());
        let has_event = answers.next() == Some(Value::Int(1));
        let number = |name| u32::try_from(codec::count(&fields, name)).unwrap_or(u32::MAX);
        let closes = u8::try_from(codec::count(&fields, "closes")).ok();
        let closes = closes.and_then(FinalState::from_byte);
        let wants_event = batch.spec.callback.is_some() && batch.callback == CallbackState::Pending;
        Ok(Some(Notes {
            state: batch.state,
            open: codec::count(&fields, "open"),
            awaiting: codec::count(&fields, "n8"),
            chunks: number("chunks"),
            cursor: number("cursor"),
            cut: closes.map(|state| (number("cut"), state)),
            closes: closes.is_some(),
            is_queued: in_ring || is_due,
            is_closing,
            is_over: batch.is_over(),
            lacks_event: batch.is_over() && wants_event && !has_event,
            counts: batch.counts,
        }))
    }

    async fn chunks(&self, id: BatchId, from: u32) -> Result<Vec<ChunkNotes>, StoreError> {
        let mut command = redis::cmd("STRLEN");
        command.arg(keys::firsts(id));
        let all = u32::try_from(codec::number(self.link.ask(&command).await?)? / 4);
        let to = from.saturating_add(PAGE).min(all.unwrap_or(u32::MAX));
        let mut calls = Pipeline::new();
        for number in from..to {
            let place = usize::try_from(number).unwrap_or(usize::MAX);
            calls.cmd("GET").arg(keys::chunk(id, ChunkKey::States, place));
            calls.cmd("HGET").arg(keys::leases(id)).arg(number);
            calls.cmd("ZSCORE").arg(keys::parked(id)).arg(number);
        }
        if from >= to {
            return Ok(Vec::new());
        }
        let mut answers = self.link.ask_all(&calls).await?.into_iter();
        let mut next = || answers.next().unwrap_or(Value::Nil);
        (from..to)
            .map(|number| {
                let mut states = [0; StateByte::COUNT];
                for state in codec::bytes(next())? {
                    let known = states.get_mut(usize::from(state));
                    *known.ok_or_else(|| codec::unexpected("a state"))? += 1;
                }
                let held = codec::bytes(next())?.ends_with(b" H");
                Ok(ChunkNotes { number, states, held, parked: next() != Value::Nil })
            })
            .collect()
    }

    async fn repair(&self, id: BatchId, was: &Notes, found: &Recount) -> Result<bool, StoreError> {
        let answer = self
            .link
            .run(&scripts::REPAIR, &keys::of(id), |call| {
                call.arg(id.ulid()).arg(was.open).arg(was.counts.sending);
                write_counts(call, &was.counts.ended, was.awaiting);
                call.arg(found.sending);
                write_counts(call, &found.ended, found.awaiting);
                for chunk in found.orphans.iter().take(PAGE as usize) {
                    call.arg(*chunk);
                }
            })
            .await?;
        Ok(codec::text(answer)? == "repaired")
    }

    async fn look_after(&self) -> Result<Vec<Concern>, StoreError> {
        let mut concerns = Vec::new();
        for partition in 0..self.partitions {
            let ms = |span: Duration| millis(span);
            let answer = self
                .link
                .run_once(&scripts::WATCH, &keys::partition(partition), |call| {
                    call.arg(ms(LOOK_AFTER_EVERY))
                        .arg(ms(STANDS_STILL_AFTER))
                        .arg(LOOKED_AFTER_MAX);
                })
                .await?;
            for concern in codec::list(answer)?.as_chunks().0 {
                concerns.push(read_concern(concern)?);
            }
        }
        Ok(concerns)
    }
}

/// The counts n1 to n8. Those who wait for a receipt are among the sent ones.
fn write_counts(call: &mut Cmd, ended: &FinalCounts, awaiting: u64) {
    for state in FinalState::ALL {
        let of_them = if state == FinalState::Sent { awaiting } else { 0 };
        call.arg(ended[state].saturating_sub(of_them));
    }
    call.arg(awaiting);
}

fn read_concern([id, word, open, since]: &[Value; 4]) -> Result<Concern, StoreError> {
    let id = BatchId::from_ulid(&codec::text(id.clone())?);
    let batch = id.map_err(|_| codec::unexpected("a batch id"))?;
    let what = match codec::text(word.clone())?.as_str() {
        "requeued" => Matter::Requeued,
        _ => Matter::StandsStill {
            open: codec::number(open.clone())?,
            since: UnixMs(codec::number(since.clone())?),
        },
    };
    Ok(Concern { batch, what })
}
