//! The settler: brings outcomes into the store, many at a time.
//!
//! It settles as soon as a round of outcomes is full, a hold is finished, or the first outcome has
//! waited long enough. Settlements of a hold are numbered; the store applies each once and in order.
//! All of them are kept until the hold ends, so that a store that lost the last ones (a failover to
//! an older copy) gets them again.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::join_all;

use super::{
    hold::{Hold, Outbox},
    lane::Shared,
};
use crate::{
    domain::message::FinalState,
    store::{Settled, Settlement, StoreError, Wish},
};

/// The longest an outcome waits for others.
const WINDOW: Duration = Duration::from_millis(2);
const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

pub(super) struct Settler {
    lane: Arc<Shared>,
    accounts: Vec<Account>,
    backoff: Duration,
}

/// What was settled of one hold, and what is to be.
struct Account {
    hold: Arc<Hold>,
    /// All settlements of this hold; the first one has sequence 1.
    settlements: Vec<Settlement>,
    /// What each of them brings about once it is applied.
    effects: Vec<Effect>,
    /// How many of them the store has applied.
    applied: usize,
    /// Whether the last of them lets go of the chunk.
    released: bool,
    /// How many messages ended, by state.
    ended: Vec<(FinalState, u32)>,
}

/// What follows for the worker from a settlement that is applied; taken when it first is.
#[derive(Default)]
struct Effect {
    /// Slots that are free then.
    slots: u32,
    /// Messages that are final then.
    ended: u32,
}

/// What is left to do for a hold after the store has answered.
enum Progress {
    GoesOn,
    Ended { completed: bool },
    Lost,
}

// === impl Settler ===

impl Settler {
    pub(super) fn new(lane: Arc<Shared>) -> Self {
        Self { lane, accounts: Vec::new(), backoff: BACKOFF_FIRST }
    }

    /// Settles until the claimer has stopped and the last hold has ended.
    pub(super) async fn run(mut self) {
        loop {
            if self.lane.closed.load(Ordering::SeqCst) && self.lane.active().is_empty() {
                return;
            }
            self.wait().await;
            self.lane.looked();
            self.collect();
            self.settle().await;
        }
    }

    async fn wait(&self) {
        if self.accounts.iter().any(Account::has_work) {
            return;
        }
        self.lane.settle.notified().await;
        let window = tokio::time::sleep(WINDOW);
        tokio::pin!(window);
        while !self.lane.round_is_full() && !self.any_finished() {
            tokio::select! {
                () = &mut window => return,
                () = self.lane.settle.notified() => {}
            }
        }
    }

    fn any_finished(&self) -> bool {
        self.lane.active().iter().any(|hold| hold.is_finished() || hold.is_lost())
    }

    /// Makes a settlement of what each hold has to say.
    fn collect(&mut self) {
        for hold in self.lane.active() {
            let known = self.accounts.iter().position(|account| Arc::ptr_eq(&account.hold, &hold));
            let at = known.unwrap_or_else(|| {
                self.accounts.push(Account::new(hold));
                self.accounts.len() - 1
            });
            self.accounts[at].collect();
        }
    }

    async fn settle(&mut self) {
        let lane = &self.lane;
        let calls = self.accounts.iter_mut().filter(|account| account.has_work()).map(
            |account| async move {
                let progress = account.settle(lane).await;
                (Arc::clone(&account.hold), progress)
            },
        );
        let mut failed = None;
        for (hold, progress) in join_all(calls).await {
            match progress {
                Ok(Progress::GoesOn) => {}
                Ok(ended) => self.end(&hold, &ended),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            None => self.backoff = BACKOFF_FIRST,
            Some(error) => self.back_off(&error).await,
        }
    }

    fn end(&mut self, hold: &Arc<Hold>, progress: &Progress) {
        let found = self.accounts.iter().position(|account| Arc::ptr_eq(&account.hold, hold));
        let Some(account) = found.map(|at| self.accounts.swap_remove(at)) else { return };
        self.lane.remove(hold);
        match progress {
            Progress::Lost => account.report_lost(&self.lane),
            Progress::Ended { completed } => account.report(*completed),
            Progress::GoesOn => {}
        }
    }

    async fn back_off(&mut self, error: &StoreError) {
        if self.backoff == BACKOFF_FIRST {
            tracing::warn!(provider.name = self.lane.name, %error, "can't settle; outcomes are kept");
        }
        tokio::time::sleep(self.backoff).await;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }
}

// === impl Account ===

impl Account {
    fn new(hold: Arc<Hold>) -> Self {
        Self {
            hold,
            settlements: Vec::new(),
            effects: Vec::new(),
            applied: 0,
            released: false,
            ended: Vec::new(),
        }
    }

    fn has_work(&self) -> bool {
        self.applied < self.settlements.len() || self.hold.is_lost()
    }

    fn collect(&mut self) {
        if self.released {
            return;
        }
        // Asked first: a finished hold has all its outcomes in the outbox.
        let finished = self.hold.is_finished();
        let outbox = self.hold.collect();
        if outbox.is_empty() && !finished {
            return;
        }
        let ended = u32::try_from(outbox.ended.len()).unwrap_or(u32::MAX);
        self.effects.push(Effect { slots: outbox.slots, ended });
        let settlement = self.settlement(outbox, finished);
        self.settlements.push(settlement);
        self.released = finished;
    }

    fn settlement(&mut self, mut outbox: Outbox, finished: bool) -> Settlement {
        outbox.ended.sort_unstable_by_key(|(place, _)| *place);
        for (_, state) in &outbox.ended {
            match self.ended.iter_mut().find(|(known, _)| known == state) {
                Some((_, messages)) => *messages += 1,
                None => self.ended.push((*state, 1)),
            }
        }
        let holding = self.hold.holding();
        Settlement {
            batch: holding.batch,
            chunk: holding.chunk,
            token: holding.token,
            sequence: u32::try_from(self.settlements.len() + 1).unwrap_or(u32::MAX),
            changes: runs(&outbox.ended),
            log: outbox.log.into(),
            waiting: outbox.waiting,
            release: finished.then(|| self.hold.release()),
        }
    }

    /// Sends what the store has not applied, in order.
    async fn settle(&mut self, lane: &Shared) -> Result<Progress, StoreError> {
        if self.hold.is_lost() {
            return Ok(Progress::Lost);
        }
        while let Some(settlement) = self.settlements.get(self.applied) {
            match lane.store.dispatch.settle(settlement).await? {
                Settled::Applied(wish) => {
                    self.apply_one(lane);
                    if wish != Wish::Go {
                        self.hold.close(wish);
                    }
                }
                Settled::Done { completed } => {
                    self.apply_one(lane);
                    return Ok(Progress::Ended { completed });
                }
                Settled::Behind(sequence) => {
                    tracing::warn!(batch.id = %self.hold.job.id, chunk = self.hold.chunk, "the store lost settlements; they are repeated");
                    self.applied =
                        usize::try_from(sequence).unwrap_or(usize::MAX).min(self.applied);
                }
                Settled::Lost => {
                    self.hold.lose();
                    return Ok(Progress::Lost);
                }
            }
        }
        let ended = self.released && self.applied == self.settlements.len();
        Ok(if ended { Progress::Ended { completed: false } } else { Progress::GoesOn })
    }

    fn apply_one(&mut self, lane: &Shared) {
        let Effect { slots, ended } = std::mem::take(&mut self.effects[self.applied]);
        lane.slots.add_permits(slots as usize);
        lane.metrics.settled(u64::from(ended));
        self.applied += 1;
    }

    fn report(&self, completed: bool) {
        let elapsed = Instant::now().duration_since(self.hold.claimed_at());
        let messages: u32 = self.ended.iter().map(|(_, messages)| messages).sum();
        let ended = words(&self.ended);
        let rate = f64::from(messages) / elapsed.as_secs_f64().max(1e-6);
        tracing::info!(
            batch.id = %self.hold.job.id,
            chunk = self.hold.chunk,
            ended,
            per_second = format_args!("{rate:.0}"),
            "chunk settled"
        );
        if completed {
            tracing::info!(batch.id = %self.hold.job.id, "batch completed");
        }
    }

    /// Gives back the slots of outcomes that can't be settled any more.
    fn report_lost(&self, lane: &Shared) {
        let refused =
            self.effects.iter().map(|effect| effect.slots).sum::<u32>() + self.hold.bury().slots;
        lane.slots.add_permits(refused as usize);
        lane.metrics.lease_lost();
        lane.metrics.late_outcomes_refused(u64::from(refused));
        tracing::warn!(
            batch.id = %self.hold.job.id,
            chunk = self.hold.chunk,
            late_outcomes = refused,
            "lease lost; the chunk is another worker's"
        );
    }
}

/// Final states in runs, as [`Settlement::changes`] wants them. `ended` is sorted by place.
fn runs(ended: &[(u16, FinalState)]) -> Bytes {
    let mut runs = Vec::new();
    let mut rest = ended;
    while let [(first, state), ..] = rest {
        let follows = |(nth, (place, other)): (usize, &(u16, FinalState))| {
            usize::from(*place) == usize::from(*first) + nth && other == state
        };
        let length = rest.iter().enumerate().take_while(|next| follows(*next)).count();
        // A chunk's places fit two bytes, so the length of a run does too.
        let messages = u16::try_from(length).unwrap_or(u16::MAX);
        runs.extend_from_slice(&first.to_be_bytes());
        runs.extend_from_slice(&messages.to_be_bytes());
        runs.push(*state as u8);
        rest = &rest[length..];
    }
    runs.into()
}

/// "480 sent, 20 failed".
fn words(ended: &[(FinalState, u32)]) -> String {
    let words: Vec<_> =
        ended.iter().map(|(state, messages)| format!("{messages} {}", state.word())).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_in_one_state_make_a_run() {
        use FinalState::{Failed, Sent};
        let ended = [(0, Sent), (1, Sent), (2, Failed), (4, Failed), (300, Sent)];
        let expected = [[0, 0, 0, 2, 1], [0, 2, 0, 1, 4], [0, 4, 0, 1, 4], [1, 44, 0, 1, 1]];
        assert_eq!(runs(&ended), expected.concat());
        assert!(runs(&[]).is_empty());
    }

    #[test]
    fn counts_read_as_words() {
        assert_eq!(
            words(&[(FinalState::Sent, 480), (FinalState::Failed, 20)]),
            "480 sent, 20 failed"
        );
        assert_eq!(words(&[]), "none");
    }
}
