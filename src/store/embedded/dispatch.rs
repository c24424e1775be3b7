//! [`Dispatch`] in this process.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use rusqlite::OptionalExtension;

use super::{
    EmbeddedStore, claim,
    columns::{Id, chunk_key, closes, integer},
    finish, receipts,
    replay::{self, LOOKED_AT_MAX},
    settle,
    step::Step,
    sweep::{self, STEP},
};
use crate::{
    domain::{batch::BatchSpec, ids::BatchId, share::Share, time::millis},
    store::{
        Claim, Claimed, Dispatch, Grant, GrantRequest, Holding, PURGE_AHEAD_MAX, Pause, Ring,
        Settled, Settlement, Standing, StoreError, Swept, stored,
    },
};

#[async_trait]
impl Dispatch for EmbeddedStore {
    async fn claim(&self, claim: &Claim) -> Result<Option<Claimed>, StoreError> {
        let (claim, lease_ms) = (claim.clone(), self.lease_ms());
        self.write(move |step| claim::claim(step, &claim, lease_ms)).await
    }

    async fn spec(&self, batch: BatchId) -> Result<Option<BatchSpec>, StoreError> {
        let spec = self.read(move |db| {
            let sql = "SELECT s.spec FROM batch b JOIN spec s USING (batch) \
                       WHERE b.id = ?1 AND b.state != 'dropped'";
            let mut rows = db.prepare_cached(sql)?;
            let mut rows = rows.query([Id(batch)])?;
            rows.next()?.map(|row| row.get::<_, Vec<u8>>(0)).transpose()
        });
        spec.await?.as_deref().map(stored::read_spec).transpose()
    }

    async fn settle(&self, settlement: &Settlement) -> Result<Settled, StoreError> {
        let settlement = settlement.clone();
        self.write(move |step| settle::settle(step, &settlement)).await
    }

    async fn hold(&self, holdings: &[Holding]) -> Result<Vec<Standing>, StoreError> {
        let (holdings, lease_ms) = (holdings.to_vec(), self.lease_ms());
        self.write(move |step| {
            holdings.iter().map(|holding| hold(step, holding, lease_ms)).collect()
        })
        .await
    }

    async fn grant(&self, request: &GrantRequest<'_>) -> Result<Grant, StoreError> {
        Ok(self.rates.grant(Instant::now(), request))
    }

    async fn throttle(
        &self,
        provider: &str,
        pause: Duration,
        cuts: bool,
    ) -> Result<Option<Share>, StoreError> {
        let left = self.rates.pause(Instant::now(), provider, pause, cuts);
        self.doorbell.ring(Ring::Paused(provider.to_owned()));
        Ok(left)
    }

    async fn tell_away(
        &self,
        provider: &str,
        cool_down: Option<Duration>,
    ) -> Result<(), StoreError> {
        self.rates.tell_away(Instant::now(), provider, cool_down);
        Ok(())
    }

    async fn paused(&self, provider: &str) -> Result<Pause, StoreError> {
        let (pause, name) = (self.rates.paused(Instant::now(), provider), provider.to_owned());
        let stopped = self.read(move |db| {
            let mut rows = db.prepare_cached("SELECT stopped FROM provider WHERE name = ?1")?;
            rows.query_row([name], |row| row.get(0)).optional()
        });
        Ok(Pause { stopped: stopped.await?.unwrap_or(false), ..pause })
    }

    async fn sweep(&self) -> Result<Swept, StoreError> {
        let (lease_ms, upload_lease_ms) =
            (self.lease_ms(), integer(millis(self.rules.upload_lease)));
        let ahead_max_ms = integer(millis(PURGE_AHEAD_MAX));
        let (leases_lost, closed) = self.write(move |step| sweep::recover(step, lease_ms)).await?;
        let closed_later = self.write(sweep::close).await?;
        let batches_due = self.write(sweep::forward).await?;
        let batches_begun = self.write(sweep::start).await?;
        let batches_expired = self.write(sweep::expire).await?;
        let waits_ended = self.write(receipts::lapse).await?;
        let uploads_dropped = self.write(move |step| sweep::expel(step, upload_lease_ms)).await?;
        let (chunks_purged, batches_purged) =
            self.write(move |step| sweep::purge(step, ahead_max_ms)).await?;
        let (events_replayed, looked_at) = self.write(replay::carry_out).await?;
        let full = [
            leases_lost,
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
                || (events_replayed == 0 && looked_at >= LOOKED_AT_MAX.unsigned_abs())
                || closed_later > 0
                || full.into_iter().any(|count| count >= STEP.unsigned_abs()),
        })
    }

    fn partitions(&self) -> u16 {
        1
    }
}

impl EmbeddedStore {
    fn lease_ms(&self) -> i64 {
        integer(millis(self.rules.lease))
    }
}

fn hold(step: &Step<'_>, holding: &Holding, lease_ms: i64) -> rusqlite::Result<Standing> {
    let sql = "SELECT batch, state, closes FROM batch WHERE id = ?1";
    let found = step.row(sql, [Id(holding.batch)], |row| {
        Ok((row.get(0)?, row.get::<_, String>(1)?, closes(row, 2)?))
    })?;
    let Some((batch, state, closes)) = found else { return Ok(Standing::Lost) };
    let chunk = chunk_key(batch, holding.chunk);
    let sql = "SELECT turn, nonce FROM chunk WHERE chunk = ?1 AND until_ms IS NOT NULL";
    let held = step.row(sql, [chunk], |row| Ok(claim::token(row.get(0)?, row.get(1)?)))?;
    if held.as_ref() != Some(&holding.token) {
        return Ok(Standing::Lost);
    }
    let sql = "UPDATE chunk SET until_ms = ?2 WHERE chunk = ?1";
    step.run(sql, (chunk, step.now + lease_ms))?;
    Ok(Standing::Held(finish::wish(&state, closes)))
}
