//! The settler: brings outcomes into the store, many at a time.
//!
//! It settles as soon as a round of outcomes is full, a hold is finished, or the first outcome has
//! waited long enough; a few settlements may be on their way at once. Those of one hold are numbered,
//! and the store applies each once and in order. All of them are kept until the hold ends, so that a
//! store that lost the last ones (a failover to an older copy) gets them again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};

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
/// The most settlements on their way, beyond which outcomes wait for an answer.
const CALLS_MAX: usize = 4;
const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

pub(super) struct Settler {
    lane: Arc<Shared>,
    accounts: Vec<Account>,
    calls: FuturesUnordered<BoxFuture<'static, Answer>>,
    backoff: Duration,
}

/// The store's answer to the settlement of this number (from 0) of a hold.
struct Answer {
    hold: Arc<Hold>,
    number: usize,
    settled: Result<Settled, StoreError>,
}

/// What was settled of one hold, and what is to be.
struct Account {
    hold: Arc<Hold>,
    /// All settlements of this hold; the first one has sequence 1.
    settlements: Vec<Arc<Settlement>>,
    /// What each of them brings about once it is applied.
    effects: Vec<Effect>,
    /// How many of them the store has applied.
    applied: usize,
    /// How many of them were sent, and not found missing since.
    sent: usize,
    /// How many answers are awaited.
    awaited: usize,
    /// Whether some must be sent again, once no answer is awaited.
    repeats: bool,
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

/// How a hold ended.
enum Ending {
    Settled { completed: bool },
    Lost,
}

// === impl Settler ===

impl Settler {
    pub(super) fn new(lane: Arc<Shared>) -> Self {
        let calls = FuturesUnordered::new();
        Self { lane, accounts: Vec::new(), calls, backoff: BACKOFF_FIRST }
    }

    /// Settles until the claimer has stopped and the last hold has ended.
    pub(super) async fn run(mut self) {
        while !self.lane.is_over() {
            let may_call = self.calls.len() < CALLS_MAX;
            tokio::select! {
                Some(answer) = self.calls.next() => self.take_in(answer).await,
                () = wait(&self.lane, &self.accounts), if may_call => self.settle(),
            }
        }
    }

    /// Makes a settlement of what each hold has to say, and sends it.
    fn settle(&mut self) {
        self.lane.looked();
        for hold in self.lane.active() {
            let known = self.accounts.iter().position(|account| Arc::ptr_eq(&account.hold, &hold));
            let at = known.unwrap_or_else(|| {
                self.accounts.push(Account::new(hold));
                self.accounts.len() - 1
            });
            self.accounts[at].collect();
        }
        self.send();
        self.end_lost();
    }

    fn send(&mut self) {
        for account in self.accounts.iter_mut().filter(|account| !account.hold.is_lost()) {
            while let Some((number, settlement)) = account.next_to_send() {
                let (lane, hold) = (Arc::clone(&self.lane), Arc::clone(&account.hold));
                let call = async move {
                    let settled = lane.store.dispatch.settle(&settlement).await;
                    Answer { hold, number, settled }
                };
                self.calls.push(call.boxed());
            }
        }
    }

    async fn take_in(&mut self, answer: Answer) {
        let Answer { hold, number, settled } = answer;
        let found = self.accounts.iter().position(|account| Arc::ptr_eq(&account.hold, &hold));
        // A hold may end before its last answer is heard: a later one said it all.
        let Some(at) = found else { return };
        let account = &mut self.accounts[at];
        account.awaited -= 1;
        match settled {
            Ok(settled) => {
                self.backoff = BACKOFF_FIRST;
                if let Some(ending) = account.apply(number, settled, &self.lane) {
                    self.end(at, &ending);
                }
            }
            Err(error) => {
                account.repeats = true;
                self.back_off(&error).await;
            }
        }
        self.send();
        self.end_lost();
    }

    fn end_lost(&mut self) {
        let lost = |account: &Account| account.hold.is_lost() && account.awaited == 0;
        while let Some(at) = self.accounts.iter().position(lost) {
            self.end(at, &Ending::Lost);
        }
    }

    fn end(&mut self, at: usize, ending: &Ending) {
        let account = self.accounts.swap_remove(at);
        self.lane.remove(&account.hold);
        match ending {
            Ending::Lost => account.report_lost(&self.lane),
            Ending::Settled { completed } => account.report(*completed),
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

/// Resolves when there is something to settle, or when the lane is over.
async fn wait(lane: &Shared, accounts: &[Account]) {
    while !lane.has_outcomes() && !is_urgent(lane, accounts) {
        if lane.is_over() {
            return;
        }
        lane.settle.notified().await;
    }
    let window = tokio::time::sleep(WINDOW);
    tokio::pin!(window);
    while !lane.round_is_full() && !is_urgent(lane, accounts) {
        tokio::select! {
            () = &mut window => return,
            () = lane.settle.notified() => {}
        }
    }
}

/// Whether a hold waits to be let go of.
fn is_urgent(lane: &Shared, accounts: &[Account]) -> bool {
    let over = |hold: &Arc<Hold>| {
        let account = accounts.iter().find(|account| Arc::ptr_eq(&account.hold, hold));
        let (released, awaited) =
            account.map_or((false, 0), |known| (known.released, known.awaited));
        hold.is_finished() && !released || hold.is_lost() && awaited == 0
    };
    lane.active().iter().any(over)
}

// === impl Account ===

impl Account {
    fn new(hold: Arc<Hold>) -> Self {
        Self {
            hold,
            settlements: Vec::new(),
            effects: Vec::new(),
            applied: 0,
            sent: 0,
            awaited: 0,
            repeats: false,
            released: false,
            ended: Vec::new(),
        }
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
        self.settlements.push(Arc::new(settlement));
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

    /// The next settlement to send, with its number. After a failure, those that were not applied
    /// are sent again, but not before every answer is in.
    fn next_to_send(&mut self) -> Option<(usize, Arc<Settlement>)> {
        if self.repeats {
            if self.awaited > 0 {
                return None;
            }
            self.sent = self.applied;
            self.repeats = false;
        }
        let (number, settlement) = (self.sent, self.settlements.get(self.sent)?);
        self.sent += 1;
        self.awaited += 1;
        Some((number, Arc::clone(settlement)))
    }

    /// Takes in what the store said to the settlement of this number.
    fn apply(&mut self, number: usize, settled: Settled, lane: &Shared) -> Option<Ending> {
        match settled {
            Settled::Applied(wish) => {
                self.apply_to(number, lane);
                if wish != Wish::Go {
                    self.hold.close(wish);
                }
            }
            Settled::Done { completed } => {
                self.apply_to(number, lane);
                return Some(Ending::Settled { completed });
            }
            Settled::Behind(sequence) => {
                tracing::warn!(batch.id = %self.hold.job.id, chunk = self.hold.chunk, "the store lacks settlements; they are repeated");
                let applied = usize::try_from(sequence).unwrap_or(usize::MAX);
                self.applied = self.applied.min(applied);
                self.repeats = true;
            }
            Settled::Lost => self.hold.lose(),
        }
        let let_go = self.released && self.applied == self.settlements.len();
        let_go.then_some(Ending::Settled { completed: false })
    }

    /// The settlement of this number is applied, and so are all before it.
    fn apply_to(&mut self, number: usize, lane: &Shared) {
        while self.applied <= number {
            let Effect { slots, ended } = std::mem::take(&mut self.effects[self.applied]);
            lane.slots.add_permits(slots as usize);
            lane.metrics.settled(u64::from(ended));
            self.applied += 1;
        }
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
