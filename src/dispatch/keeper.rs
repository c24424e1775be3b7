//! The keeper: keeps the leases of what this worker holds, and hears what clients wish of it.
//!
//! One call does both, at least every half second and whenever a wish rings. A lease that could not
//! be extended in time is given up: its open exchanges are dropped, and nothing more is sent (I8).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::sleep_until;

use super::{hold::Hold, lane::Shared};
use crate::store::{Holding, Listener, Ring, Standing, Store, Wish};

const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(super) struct Keeper {
    store: Store,
    lanes: Vec<Arc<Shared>>,
    lease: Duration,
}

// === impl Keeper ===

impl Keeper {
    pub(super) fn new(store: Store, lanes: Vec<Arc<Shared>>, lease: Duration) -> Self {
        Self { store, lanes, lease }
    }

    /// Keeps leases for as long as it is polled.
    pub(super) async fn run(self) {
        let mut bell = self.store.doorbell.listen();
        let every = LOOK_EVERY.min(self.lease / 3);
        let mut reachable = true;
        loop {
            let next = Instant::now() + every;
            let looked = tokio::time::timeout(self.lease / 3, self.look()).await;
            let well = matches!(looked, Ok(Ok(())));
            if reachable && !well {
                tracing::warn!("leases can't be extended: the store does not answer");
            }
            reachable = well;
            self.give_up_late();
            self.wait(next, &mut bell).await;
        }
    }

    /// Extends every lease that is not lost, and passes the wishes on. One that was given up must run
    /// out, though its hold may still wait for an answer: others wait for its chunk.
    async fn look(&self) -> Result<(), crate::store::StoreError> {
        let mut holds = self.holds();
        holds.retain(|(_, hold)| !hold.is_lost());
        if !holds.is_empty() {
            let holdings: Vec<Holding> = holds.iter().map(|(_, hold)| hold.holding()).collect();
            let sent_at = Instant::now();
            let standings = self.store.dispatch.hold(&holdings).await?;
            for ((lane, hold), standing) in holds.iter().zip(standings) {
                self.apply(lane, hold, standing, sent_at);
            }
        }
        for lane in &self.lanes {
            lane.gate.refresh_pause().await?;
        }
        Ok(())
    }

    fn apply(&self, lane: &Shared, hold: &Hold, standing: Standing, sent_at: Instant) {
        match standing {
            Standing::Held(wish) => {
                hold.extend(sent_at, self.lease);
                if wish != Wish::Go {
                    hold.close(wish);
                    lane.settle.notify_one();
                }
            }
            Standing::Unheard => {}
            // One that is finished has been let go of, or is about to be.
            Standing::Lost if hold.is_finished() => {}
            Standing::Lost => {
                hold.lose();
                lane.settle.notify_one();
            }
        }
    }

    /// A hold that waits for nothing but its settlements is kept, since they may yet be taken; but not
    /// once it and its like have all the slots: what is away would then hold up the rest of the store.
    fn give_up_late(&self) {
        let now = Instant::now();
        for (lane, hold) in self.holds() {
            let is_kept = hold.is_finished() && lane.slots.available_permits() > 0;
            if now >= hold.deadline() && !hold.is_lost() && !is_kept {
                hold.lose();
                lane.settle.notify_one();
            }
        }
    }

    /// Waits until the next look is due, a lease ends, or a wish concerns what is in hand.
    async fn wait(&self, next: Instant, bell: &mut Listener) {
        let holds = self.holds();
        let kept = holds.iter().filter(|(_, hold)| !hold.is_finished() && !hold.is_lost());
        let ends = kept.map(|(_, hold)| hold.deadline()).min();
        let wake = sleep_until(ends.map_or(next, |ends| ends.min(next)).into());
        tokio::pin!(wake);
        loop {
            tokio::select! {
                () = &mut wake => return,
                ring = bell.next() => {
                    if let Ring::Wish(id) = ring
                        && self.holds().iter().any(|(_, hold)| hold.job.id == id)
                    {
                        return;
                    }
                }
            }
        }
    }

    fn holds(&self) -> Vec<(&Shared, Arc<Hold>)> {
        let mut holds = Vec::new();
        for lane in &self.lanes {
            holds.extend(lane.active().into_iter().map(|hold| (&**lane, hold)));
        }
        holds
    }
}
