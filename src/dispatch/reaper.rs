//! The reaper: takes back what died, and puts what is due back in the ring. It runs in every
//! process; any number may run at once.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::{
    domain::retry::spread,
    store::{Concern, Matter, Store},
};

const TICK: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// How often batches that stand still are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(20);

/// Sweeps until `soft` is cancelled.
pub async fn run(store: Store, soft: CancellationToken) {
    let mut wait = TICK;
    let mut reachable = true;
    let mut last_look = Instant::now();
    loop {
        tokio::select! {
            () = soft.cancelled() => return,
            // Spread, so that many processes don't sweep in step.
            () = tokio::time::sleep(spread(wait, rand::random())) => {}
        }
        if last_look.elapsed() >= LOOK_EVERY {
            last_look = Instant::now();
            look_after(&store).await;
        }
        match store.dispatch.sweep().await {
            Ok(swept) => {
                report(&swept);
                reachable = true;
                wait = if swept.more { Duration::ZERO } else { TICK };
            }
            Err(error) => {
                if reachable {
                    tracing::warn!(%error, "the reaper can't reach the store");
                }
                reachable = false;
                wait = (wait.max(TICK) * 2).min(BACKOFF_MAX);
            }
        }
    }
}

/// Looks after batches that no other part would come back to. What fails is done at the next look.
async fn look_after(store: &Store) {
    for Concern { batch, what } in store.audit.look_after().await.unwrap_or_default() {
        match what {
            Matter::Requeued => {
                tracing::error!(batch.id = %batch, "a batch was in no queue, and is again");
            }
            Matter::StandsStill { open, since } => tracing::warn!(
                batch.id = %batch,
                batch.open = open,
                %since,
                "a batch stands still: does a worker run for its provider, and is it paused?"
            ),
        }
    }
}

fn report(swept: &crate::store::Swept) {
    if swept.leases_lost > 0 {
        tracing::warn!(
            leases = swept.leases_lost,
            "leases ran out; their chunks can be claimed again"
        );
    }
    if swept.batches_begun > 0 {
        tracing::info!(batches = swept.batches_begun, "scheduled batches begin");
    }
    if swept.batches_expired > 0 {
        tracing::info!(batches = swept.batches_expired, "batches have expired");
    }
    if swept.uploads_dropped > 0 {
        tracing::warn!(uploads = swept.uploads_dropped, "uploads that stopped were dropped");
    }
    if swept.events_replayed > 0 {
        tracing::info!(events = swept.events_replayed, "callbacks are delivered again, as ordered");
    }
    if swept.batches_purged > 0 {
        tracing::info!(batches = swept.batches_purged, "batches and dropped uploads were erased");
    }
}
