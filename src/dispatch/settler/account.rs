//! What one hold has to say to the store: its settlements, numbered, and what follows from each for the
//! worker once it is applied.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    crash,
    dispatch::{
        hold::{Hold, Outbox},
        lane::Shared,
    },
    domain::{message::FinalState, state_byte::StateByte},
    store::{Settled, Settlement, Wish},
};

/// How long a hold whose settlements failed waits, at first and at most.
const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// What was settled of one hold, and what is to be.
pub(super) struct Account {
    pub(super) hold: Arc<Hold>,
    /// All settlements of this hold; the first one has sequence 1.
    settlements: Vec<Arc<Settlement>>,
    /// What each of them brings about once it is applied.
    effects: Vec<Effect>,
    /// How many of them the store has applied.
    applied: usize,
    /// How many of them were sent, and not found missing since.
    sent: usize,
    /// How many answers are awaited.
    pub(super) awaited: usize,
    /// Whether some must be sent again, once no answer is awaited.
    pub(super) repeats: bool,
    /// Until when nothing is sent, since the part of the store that has the chunk is away.
    pub(super) waits_until: Option<Instant>,
    backoff: Duration,
    /// Whether the last of them lets go of the chunk.
    pub(super) released: bool,
    /// How many messages ended, by state.
    ended: Vec<(FinalState, u32)>,
    /// How many of the hold's messages have come to something.
    collected: usize,
    /// How many are marked, or are to be by a settlement that is on its way.
    marked: usize,
    /// Whether it has a share of what the lane may have marked.
    pub(super) has_share: bool,
}

/// What follows for the worker from a settlement that is applied; taken when it first is.
#[derive(Default)]
struct Effect {
    /// Slots that are free then.
    slots: u32,
    /// Messages that are final then.
    ended: u32,
    /// So many messages of the hold, if it says so, are marked then.
    marked: Option<usize>,
}

/// How a hold ended.
pub(super) enum Ending {
    Settled { completed: bool },
    Lost,
}

// === impl Account ===

impl Account {
    pub(super) fn new(hold: Arc<Hold>) -> Self {
        Self {
            hold,
            settlements: Vec::new(),
            effects: Vec::new(),
            applied: 0,
            sent: 0,
            awaited: 0,
            repeats: false,
            waits_until: None,
            backoff: BACKOFF_FIRST,
            released: false,
            ended: Vec::new(),
            collected: 0,
            marked: 0,
            has_share: false,
        }
    }

    pub(super) fn collect(&mut self, lane: &Shared) {
        if self.released {
            return;
        }
        // Asked first: a finished hold has all its outcomes in the outbox.
        let finished = self.hold.is_finished();
        let outbox = self.hold.collect();
        self.collected += outbox.slots as usize;
        let marked = if finished { None } else { self.next_mark(lane) };
        if outbox.is_empty() && !finished && marked.is_none() {
            return;
        }
        let ended = u32::try_from(outbox.ended.len()).unwrap_or(u32::MAX);
        self.effects.push(Effect { slots: outbox.slots, ended, marked });
        let settlement = self.settlement(outbox, marked, finished);
        self.settlements.push(Arc::new(settlement));
        self.released = finished;
    }

    /// How many messages are to be marked from now on: those that have come to something, and a window
    /// of others.
    fn next_mark(&mut self, lane: &Shared) -> Option<usize> {
        let window = self.hold.window().filter(|_| self.hold.left() > 0)?;
        // One at a time is little enough to need no share.
        if window > 1 && !self.has_share {
            self.has_share = lane.take_share();
            if !self.has_share {
                return None;
            }
        }
        let next = (self.collected + window).min(self.hold.size());
        (next > self.marked).then(|| {
            self.marked = next;
            next
        })
    }

    fn settlement(
        &mut self,
        mut outbox: Outbox,
        marked: Option<usize>,
        finished: bool,
    ) -> Settlement {
        outbox.ended.sort_unstable_by_key(|(place, _)| *place);
        for state in outbox.ended.iter().filter_map(|(_, byte)| byte.ended()) {
            match self.ended.iter_mut().find(|(known, _)| *known == state) {
                Some((_, messages)) => *messages += 1,
                None => self.ended.push((state, 1)),
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
            mark: marked.and_then(|marked| self.hold.mark(marked)),
            release: finished.then(|| self.hold.release()),
        }
    }

    /// Whether the last that was heard is that the store is away.
    pub(super) fn fails(&self) -> bool {
        self.backoff > BACKOFF_FIRST
    }

    /// What was not applied is sent again, a little later; others don't wait for it. Nothing more of
    /// the chunk is submitted: outcomes that can't be recorded would fill the slots of all.
    pub(super) fn put_off(&mut self) {
        self.repeats = true;
        self.hold.close(Wish::Pause);
        if self.waits_until.is_none() {
            self.waits_until = Some(Instant::now() + self.backoff);
            self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// The next settlement to send, with its number. After a failure, those that were not applied
    /// are sent again, but not before every answer is in.
    pub(super) fn next_to_send(&mut self) -> Option<(usize, Arc<Settlement>)> {
        if self.repeats {
            let now = Instant::now();
            if self.awaited > 0 || self.waits_until.is_some_and(|end| now < end) {
                return None;
            }
            self.sent = self.applied;
            self.repeats = false;
            self.waits_until = None;
        }
        let (number, settlement) = (self.sent, self.settlements.get(self.sent)?);
        self.sent += 1;
        self.awaited += 1;
        Some((number, Arc::clone(settlement)))
    }

    /// Takes in what the store said to the settlement of this number.
    pub(super) fn apply(
        &mut self,
        number: usize,
        settled: Settled,
        lane: &Shared,
    ) -> Option<Ending> {
        self.backoff = BACKOFF_FIRST;
        match settled {
            Settled::Applied(wish) => {
                crash::point("recorded");
                self.apply_to(number, lane);
                if wish != Wish::Go {
                    self.hold.close(wish);
                }
            }
            Settled::Done => self.apply_to(number, lane),
            Settled::Completed => {
                crash::point("completed");
                self.apply_to(number, lane);
                // What is not submitted yet has its receipt already.
                self.hold.close(Wish::Pause);
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
        let completed = settled == Settled::Completed;
        if completed && !let_go {
            self.report_completed();
        }
        let_go.then_some(Ending::Settled { completed })
    }

    /// The settlement of this number is applied, and so are all before it.
    fn apply_to(&mut self, number: usize, lane: &Shared) {
        while self.applied <= number {
            let Effect { slots, ended, marked } = std::mem::take(&mut self.effects[self.applied]);
            lane.slots.add_permits(slots as usize);
            lane.metrics.settled(u64::from(ended));
            if let Some(marked) = marked {
                crash::point("marked");
                lane.ring(self.hold.allow(marked));
            }
            self.applied += 1;
        }
    }

    pub(super) fn report(&self, completed: bool) {
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
            self.report_completed();
        }
    }

    fn report_completed(&self) {
        tracing::info!(batch.id = %self.hold.job.id, "batch completed");
    }

    /// Gives back the slots of outcomes that can't be settled any more.
    pub(super) fn report_lost(&self, lane: &Shared) {
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

/// Whether a hold waits for marks that it may have.
pub(super) fn lacks_marks(lane: &Shared, hold: &Hold, account: Option<&Account>) -> bool {
    let (collected, marked, has_share) =
        account.map_or((0, 0, false), |known| (known.collected, known.marked, known.has_share));
    hold.window().is_some_and(|window| {
        hold.lacks_marks()
            && collected + window > marked
            && marked < hold.size()
            && (window == 1 || has_share || lane.has_share())
    })
}

/// Final states in runs, as [`Settlement::changes`] wants them. `ended` is sorted by place.
fn runs(ended: &[(u16, StateByte)]) -> Bytes {
    let mut runs = Vec::new();
    let mut rest = ended;
    while let [(first, state), ..] = rest {
        let follows = |(nth, (place, other)): (usize, &(u16, StateByte))| {
            usize::from(*place) == usize::from(*first) + nth && other == state
        };
        let length = rest.iter().enumerate().take_while(|next| follows(*next)).count();
        // A chunk's places fit two bytes, so the length of a run does too.
        let messages = u16::try_from(length).unwrap_or(u16::MAX);
        runs.extend_from_slice(&first.to_be_bytes());
        runs.extend_from_slice(&messages.to_be_bytes());
        runs.push(state.0);
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
        let ended = ended.map(|(place, state)| (place, state.into()));
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
