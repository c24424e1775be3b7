//! The claimer: keeps a lane in work.
//!
//! It claims the next chunk when what is in hand will soon be gone, and no further ahead: what one
//! worker holds, another can't send. It also ends turns: what a hold has not sent within its turn
//! goes back, so that other batches get theirs.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::{hold::Hold, job::Jobs, lane::Shared};
use crate::{
    crash,
    providers::PAUSE_MAX,
    store::{Claim, Claimed, Listener, Ring, StoreError, Wish},
};

/// How far ahead to claim: so much of the present speed.
const AHEAD: Duration = Duration::from_millis(20);
/// The most messages to have in hand unsent when claiming more.
const AHEAD_MAX: usize = 2_000;
/// An idle claimer looks this often even if nothing rings.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

pub(super) struct Claimer {
    lane: Arc<Shared>,
    jobs: Jobs,
    /// The partition to look in first.
    partition: u16,
    /// The word of the next claim in each partition. Kept until what was claimed is taken up, so that
    /// a chunk whose claim was answered to nobody is found again.
    nonces: Vec<u64>,
    /// Messages sent a second, of late.
    speed: f64,
    sent_before: (Instant, u64),
    claimed: u64,
    /// Whether the store was asked once if the provider is paused.
    knows_pauses: bool,
    /// How many partitions were looked in since the store last failed.
    well: usize,
    /// Whether it was said that the store fails.
    said: bool,
}

// === impl Claimer ===

impl Claimer {
    pub(super) fn new(lane: Arc<Shared>) -> Self {
        let partitions = lane.store.dispatch.partitions();
        Self {
            lane,
            jobs: Jobs::default(),
            partition: 0,
            nonces: (0..partitions).map(|_| rand::random()).collect(),
            speed: 0.0,
            sent_before: (Instant::now(), 0),
            claimed: 0,
            knows_pauses: false,
            well: 0,
            said: false,
        }
    }

    /// Claims until `soft` is cancelled. Then what is in hand goes back.
    pub(super) async fn run(mut self, soft: CancellationToken) {
        // Listen first, then look, then wait.
        let mut bell = self.lane.store.doorbell.listen();
        let mut backoff = BACKOFF_FIRST;
        while !soft.is_cancelled() {
            // What rang so far is answered by the look that follows.
            while let Some(ring) = bell.heard() {
                self.learn_of_pause(&ring).await;
            }
            match self.round().await {
                Ok(claimed) => {
                    backoff = BACKOFF_FIRST;
                    if !claimed {
                        tokio::select! {
                            () = self.idle(&mut bell) => {}
                            () = soft.cancelled() => {}
                        }
                    }
                }
                Err(error) => {
                    if !self.said {
                        tracing::warn!(provider.name = self.lane.name, %error, "can't claim");
                    }
                    self.said = true;
                    tokio::select! {
                        () = tokio::time::sleep(backoff) => {}
                        () = soft.cancelled() => {}
                    }
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
            }
        }
        self.lane.close_down();
    }

    /// Ends turns, and claims once if more is wanted. `true` if it claimed.
    async fn round(&mut self) -> Result<bool, StoreError> {
        if !self.knows_pauses {
            // Nothing is claimed before it is known whether the provider is stopped.
            let known = self.lane.gate.refresh_pause().await?;
            if known.away.is_some() {
                // Said by a worker that may be gone; ours knows nothing yet.
                self.lane.tell_away(None);
            }
            self.knows_pauses = true;
        }
        let now = Instant::now();
        self.lane.close(Wish::Pause, |hold| hold.turn_is_over(now));
        let ahead = self.ahead(now);
        let enough = match &self.lane.levels {
            None => self.lane.in_hand() > ahead,
            Some(levels) => levels.has_enough(&self.lane, ahead),
        };
        if enough || self.lane.is_full() || self.lane.is_shut(now) {
            return Ok(false);
        }
        self.claim().await
    }

    /// Looks for a chunk in one partition after the other. One whose server is away takes nothing from
    /// the others.
    async fn claim(&mut self) -> Result<bool, StoreError> {
        let mut failure = None;
        for _ in 0..self.nonces.len() {
            let claimed = self.claim_here().await;
            self.well = if claimed.is_ok() { self.well.saturating_add(1) } else { 0 };
            // The outage is over once all of the store has answered.
            self.said &= self.well < self.nonces.len();
            match claimed {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(false), Err)
    }

    /// Looks for a chunk in the partition whose turn it is.
    async fn claim_here(&mut self) -> Result<bool, StoreError> {
        let partition = self.partition;
        self.partition = (partition + 1) % self.lane.store.dispatch.partitions().max(1);
        let nonce = self.nonces[usize::from(partition)];
        let claim = Claim { provider: self.lane.name.clone(), partition, nonce };
        let sent_at = Instant::now();
        let Some(claimed) = self.lane.store.dispatch.claim(&claim).await? else { return Ok(false) };
        self.take_up(claimed, sent_at).await?;
        self.nonces[usize::from(partition)] = rand::random();
        Ok(true)
    }

    async fn take_up(&mut self, claimed: Claimed, sent_at: Instant) -> Result<(), StoreError> {
        crash::point("claimed");
        let id = claimed.batch;
        let job = match self.jobs.get(&*self.lane.store.dispatch, id).await {
            Ok(Some(job)) => job,
            Ok(None) => {
                tracing::error!(batch.id = %id, "a chunk has no batch: the store lost it");
                return Ok(());
            }
            Err(error) if error.is_passing() => return Err(error),
            Err(error) => {
                tracing::error!(batch.id = %id, %error, "a chunk is left to its lease");
                return Ok(());
            }
        };
        let optouts = &self.lane.store.optouts;
        let account = &job.spec.account;
        let opted_out = match optouts.places(account, &claimed.states, &claimed.recipients).await {
            Ok(opted_out) => opted_out,
            // Nothing of the chunk is sent; the next claim finds it again.
            Err(error) if error.is_passing() => return Err(error),
            Err(error) => {
                tracing::error!(batch.id = %id, %error, "a chunk is left to its lease");
                return Ok(());
            }
        };
        let wait_max = self.lane.policy.wait_max().max(PAUSE_MAX);
        let lease = self.lane.lease;
        let hold = Hold::new(claimed, job, sent_at, lease, wait_max, &opted_out);
        let hold = Arc::new(match &self.lane.levels {
            None => hold,
            Some(levels) => hold.in_strands(levels),
        });
        let messages = hold.size();
        tracing::info!(batch.id = %id, chunk = hold.chunk, messages, provider.name = self.lane.name, "chunk claimed");
        self.claimed += messages as u64;
        self.lane.add(&hold);
        Ok(())
    }

    /// How many messages in hand are enough.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a rough figure, then bounded"
    )]
    fn ahead(&mut self, now: Instant) -> usize {
        if let Some(messages) = self.lane.gate.within(AHEAD) {
            return (messages as usize).min(AHEAD_MAX);
        }
        let sent = self.claimed.saturating_sub(self.lane.in_hand() as u64);
        let (before, sent_before) = self.sent_before;
        let elapsed = now.duration_since(before);
        if elapsed >= Duration::from_millis(1) && sent > sent_before {
            self.speed = (sent - sent_before) as f64 / elapsed.as_secs_f64();
            self.sent_before = (now, sent);
        }
        ((self.speed * AHEAD.as_secs_f64()) as usize).clamp(1, AHEAD_MAX)
    }

    /// Waits for a ring, for a hold that runs out, for the end of a turn or of a pause.
    async fn idle(&self, bell: &mut Listener) {
        let look = Instant::now() + LOOK_EVERY;
        let pause = self.lane.gate.pause_left();
        let paused = (!pause.is_zero()).then(|| Instant::now() + pause);
        let next = [Some(look), self.lane.next_turn_end(), paused].into_iter().flatten().min();
        let wake = sleep_until(next.unwrap_or(look).into());
        tokio::pin!(wake);
        loop {
            tokio::select! {
                () = &mut wake => return,
                () = self.lane.wanted.notified() => return,
                ring = bell.next() => match ring {
                    Ring::Work(provider) if provider == self.lane.name => return,
                    Ring::Everything => return,
                    ring => if self.learn_of_pause(&ring).await { return },
                },
            }
        }
    }

    /// Whether the ring was about our provider's pause, which then is known.
    async fn learn_of_pause(&self, ring: &Ring) -> bool {
        let is_ours = matches!(ring, Ring::Paused(provider) if *provider == self.lane.name);
        if is_ours {
            // A failure only means that the pause is learnt of a little later.
            let _ = self.lane.gate.refresh_pause().await;
        }
        is_ours
    }
}
