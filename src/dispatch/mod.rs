//! The worker: claims chunks, sends their messages through a provider, and settles what came of
//! them.
//!
//! For each provider there is a lane. Its claimer puts holds (claimed chunks) in, its senders take
//! messages out and submit them behind the gate (rate and pauses), its settler brings the outcomes
//! into the store. While a provider is away (its breaker says so), its messages leave through the gate of
//! its fallback. One keeper keeps the leases of all lanes. The reaper is apart: it runs in every process,
//! whatever its roles.

mod adaptive;
mod breaker;
mod claimer;
mod gate;
mod hold;
mod job;
mod keeper;
mod lane;
mod levels;
mod optouts;
pub mod reaper;
mod run;
mod sender;
mod settings;
mod settler;
mod way;

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::{claimer::Claimer, keeper::Keeper, lane::Shared, sender::Sender, settler::Settler};
pub use self::{lane::Lane, settings::WorkerSettings};
use crate::{store::Store, telemetry::Metrics};

/// A worker for some providers.
pub struct Worker {
    store: Store,
    lanes: Vec<Arc<Shared>>,
    settings: WorkerSettings,
}

// === impl Worker ===

impl Worker {
    /// A worker with a lane for each provider.
    #[must_use]
    pub fn new(
        store: Store,
        lanes: Vec<Lane>,
        settings: WorkerSettings,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let share =
            |lane| Arc::new(Shared::new(lane, store.clone(), settings.lease, Arc::clone(metrics)));
        let lanes: Vec<_> = lanes.into_iter().map(share).collect();
        for lane in &lanes {
            lane.find_fallback(&lanes);
        }
        Self { store, lanes, settings }
    }

    /// Works until `soft` is cancelled; then finishes the open exchanges, settles them and gives
    /// back what is unsent, unless `hard` is cancelled before: then it stops where it is.
    pub async fn run(self, soft: CancellationToken, hard: CancellationToken) {
        let mut tasks = JoinSet::new();
        let mut settlers = JoinSet::new();
        for lane in &self.lanes {
            tasks.spawn(Claimer::new(Arc::clone(lane)).run(soft.clone()));
            for _ in 0..lane.max_in_flight {
                tasks.spawn(Sender::new(Arc::clone(lane)).run(soft.clone()));
            }
            settlers.spawn(Settler::new(Arc::clone(lane)).run());
        }
        let keeper = Keeper::new(self.store, self.lanes, self.settings.lease);
        tasks.spawn(keeper.run());
        // A lane's settler ends when its last hold has ended; then the worker has.
        while !settlers.is_empty() {
            let ended = tokio::select! {
                () = hard.cancelled() => {
                    tracing::warn!("the worker stops before its work is settled");
                    return;
                }
                Some(ended) = settlers.join_next() => ended,
                Some(ended) = tasks.join_next() => ended,
            };
            // A lane that lost one of its parts can't go on: the process must not seem well.
            if let Err(broken) = ended
                && let Ok(panic) = broken.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            }
        }
    }
}
