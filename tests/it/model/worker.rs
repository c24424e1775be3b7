//! A worker with a chunk in hand: what it takes, sends, records and settles.
//!
//! It goes by the domain's rules: [`Past`] for what lost leases left behind, [`Open::after`] for what an
//! outcome makes of a message. Its settlements are numbered, and made one after the other.

use std::{array::from_fn, time::Duration};

use ringback::domain::{
    batch::DeliveryGuarantee,
    message::{FinalState, Next, Open, Terms},
    outcome::{Outcome, SendError},
    past::{Mark, Past},
    retry::RetryPolicy,
    time::UnixMs,
};

use super::{
    Fault,
    chunk::{PLACES, PerPlace, Settlement},
    store::{Claimed, Settled},
};

/// How many messages may be in flight or not yet settled.
pub(super) const SLOTS: usize = 2;

/// How many messages of a batch that is sent at most once are marked and not settled.
const WINDOW: usize = 2;

const POLICY: RetryPolicy = RetryPolicy {
    attempts: 2,
    first: Duration::from_millis(100),
    longest: Duration::from_millis(100),
    give_up_after: Duration::from_hours(1),
};

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Worker {
    /// A claim was sent with this token, and no reply has come.
    pub(super) asking: Option<u8>,
    pub(super) hold: Option<Hold>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Hold {
    pub(super) chunk: usize,
    pub(super) token: u8,
    /// Whether its deadline has passed.
    pub(super) late: bool,
    claimed_at: UnixMs,
    guarantee: DeliveryGuarantee,
    known: PerPlace<Open>,
    /// The places to send, in their order; how many were taken, and how many may be.
    ready: Vec<usize>,
    taken: usize,
    marked: usize,
    window: Option<usize>,
    closed: bool,
    /// Exchanges that are open, and whether the provider accepted.
    pub(super) flying: PerPlace<Option<bool>>,
    outbox: Outbox,
    sequence: u8,
    /// The settlement that is on its way, and what follows when it is applied.
    sent: Option<(Settlement, Effect)>,
    /// Outcomes that were put into settlements, and messages that these mark.
    collected: usize,
    marking: usize,
    given_back: bool,
    later: Option<UnixMs>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Outbox {
    ended: PerPlace<Option<FinalState>>,
    waiting: PerPlace<Option<Open>>,
    slots: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Effect {
    slots: usize,
    marked: Option<usize>,
}

/// What a worker hears of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Heard {
    Accepted,
    /// It was not accepted, and may be tried again.
    Refused,
    /// It is not known whether it was accepted.
    Nothing,
}

// === impl Worker ===

impl Worker {
    pub(super) fn knows(&self, token: u8) -> bool {
        self.asking == Some(token) || self.hold.as_ref().is_some_and(|hold| hold.token == token)
    }
}

// === impl Hold ===

impl Hold {
    pub(super) fn new(
        claimed: &Claimed,
        token: u8,
        guarantee: DeliveryGuarantee,
        fault: Option<Fault>,
    ) -> Self {
        let Claimed { number, chunk, now } = *claimed;
        let past = &chunk.past;
        let known: PerPlace<Open> = from_fn(|place| chunk.known(place));
        let mut outbox = Outbox::default();
        let (mut ready, mut later) = (vec![], None);
        for (place, open) in known.into_iter().enumerate().take(chunk.size) {
            if chunk.states[place].is_some() {
                continue;
            }
            if let Some(state) = ended(place, open, past, fault) {
                outbox.ended[place] = Some(state);
            } else if open.due_at <= now {
                ready.push(place);
            } else {
                later = Some(earlier(later, open.due_at));
            }
        }
        let window = match guarantee {
            DeliveryGuarantee::AtMostOnce => Some(WINDOW),
            DeliveryGuarantee::AtLeastOnce => past.needs_care().then_some(1),
        };
        let waits = window.is_some() && fault != Some(Fault::MarksFollowTheStart);
        Self {
            chunk: number,
            token,
            late: false,
            claimed_at: now,
            guarantee,
            known,
            taken: 0,
            marked: if waits { 0 } else { ready.len() },
            ready,
            window,
            closed: false,
            flying: PerPlace::default(),
            outbox,
            sequence: 0,
            sent: None,
            collected: 0,
            marking: 0,
            given_back: false,
            later,
        }
    }

    pub(super) fn left(&self) -> usize {
        if self.closed { 0 } else { self.ready.len() - self.taken }
    }

    fn is_finished(&self) -> bool {
        self.left() == 0 && self.flying.iter().all(Option::is_none)
    }

    /// How many slots are in use.
    pub(super) fn slots(&self) -> usize {
        let flying = self.flying.iter().flatten().count();
        flying + self.outbox.slots + self.sent.map_or(0, |(_, effect)| effect.slots)
    }

    /// The place of the message that may be started now.
    pub(super) fn next(&self, fault: Option<Fault>) -> Option<usize> {
        let in_time = !self.late || fault == Some(Fault::DeadlinesAreNotLookedAt);
        let has_slot = self.slots() < SLOTS || fault == Some(Fault::SlotsAreFreedEarly);
        let may = in_time && has_slot && self.left() > 0 && self.taken < self.marked;
        may.then(|| self.ready[self.taken])
    }

    pub(super) fn start(&mut self, accepted: bool) {
        let place = self.ready[self.taken];
        self.taken += 1;
        self.flying[place] = Some(accepted);
    }

    /// The next message's time is up before it starts.
    pub(super) fn let_expire(&mut self) {
        let place = self.ready[self.taken];
        self.taken += 1;
        let next = self.known[place].expire();
        self.record(place, &next);
    }

    /// Takes in what is heard of an open exchange.
    pub(super) fn land(&mut self, place: usize, heard: Heard, now: UnixMs, fault: Option<Fault>) {
        let error = SendError::passing("provider_unavailable", "of no importance");
        let outcome = match heard {
            Heard::Accepted => {
                Outcome::Accepted { provider_message_id: None, receipt_follows: false }
            }
            Heard::Refused => Outcome::Temporary { certain: true, after: None, error },
            Heard::Nothing => Outcome::Unknown { error },
        };
        let guarantee = match fault {
            Some(Fault::UnknownIsAlwaysRetried) => DeliveryGuarantee::AtLeastOnce,
            _ => self.guarantee,
        };
        let terms = Terms { policy: &POLICY, guarantee };
        let next = self.known[place].after(outcome, terms, now, now, 0.5);
        self.flying[place] = None;
        self.record(place, &next);
    }

    fn record(&mut self, place: usize, next: &Next) {
        self.outbox.slots += 1;
        match next {
            Next::Ended(ended) => self.outbox.ended[place] = Some(ended.state),
            Next::Waiting { open, .. } => {
                self.outbox.waiting[place] = Some(*open);
                self.later = Some(earlier(self.later, open.due_at));
            }
        }
    }

    /// Gives out no more. What was not taken is closed in this state, or given back.
    pub(super) fn close(&mut self, state: Option<FinalState>, fault: Option<Fault>) {
        if self.left() > 0 {
            for place in &self.ready[self.taken..] {
                let open = self.known[*place];
                let closed = state.map(|state| match fault {
                    Some(Fault::ClosesWithoutDoubt) => state,
                    _ => open.closed_as(state),
                });
                self.outbox.ended[*place] = closed;
                self.given_back |= closed.is_none();
            }
        }
        self.closed = true;
    }

    /// What is to be said to the store: what was not applied yet, or else what has come about since.
    pub(super) fn next_word(&mut self) -> Option<Settlement> {
        if self.sent.is_none() {
            self.sent = self.collect();
        }
        self.sent.map(|(settlement, _)| settlement)
    }

    fn collect(&mut self) -> Option<(Settlement, Effect)> {
        let finished = self.is_finished();
        let Outbox { ended, waiting, slots } = self.outbox;
        let collected = self.collected + slots;
        let marked = if finished { None } else { self.next_mark(collected) };
        let says_nothing = ended.iter().all(Option::is_none) && waiting.iter().all(Option::is_none);
        if says_nothing && !finished && marked.is_none() {
            return None;
        }
        self.outbox = Outbox::default();
        self.collected = collected;
        self.marking = marked.unwrap_or(self.marking);
        self.sequence += 1;
        let settlement = Settlement {
            sequence: self.sequence,
            ended,
            waiting,
            mark: marked.map(|marked| self.mark(marked)),
            release: finished.then(|| self.release()),
        };
        Some((settlement, Effect { slots, marked }))
    }

    fn next_mark(&self, collected: usize) -> Option<usize> {
        let window = self.window.filter(|_| self.left() > 0)?;
        let next = (collected + window).min(self.ready.len());
        (next > self.marking).then_some(next)
    }

    fn mark(&self, messages: usize) -> Mark {
        let upto = u32::try_from(self.ready[messages - 1] + 1).unwrap();
        Mark { upto, claimed_at: self.claimed_at }
    }

    fn release(&self) -> UnixMs {
        self.later.filter(|_| !self.given_back).unwrap_or_default()
    }

    /// Takes in the store's answer; false if the chunk is not this worker's any more.
    pub(super) fn answered(&mut self, settled: Settled) -> bool {
        let Some((settlement, effect)) = self.sent.take() else { return true };
        if let Some(marked) = effect.marked {
            self.marked = self.marked.max(marked);
        }
        settled == Settled::Applied && settlement.release.is_none()
    }
}

/// How a message has ended with a lost lease, if it has: the rule by which a worker sorts what it has
/// claimed.
fn ended(place: usize, open: Open, past: &Past, fault: Option<Fault>) -> Option<FinalState> {
    let place = u16::try_from(place).unwrap();
    let marked = past.mark.filter(|mark| u32::from(place) < mark.upto);
    let was_due = marked.is_some_and(|mark| open.due_at <= mark.claimed_at);
    if was_due && fault != Some(Fault::DoubtsAreSentAgain) {
        return Some(open.lost().state);
    }
    let is_poison = past.poison() == Some(place) && fault != Some(Fault::PoisonIsSentAgain);
    is_poison.then(|| open.poisoned().state)
}

fn earlier(known: Option<UnixMs>, at: UnixMs) -> UnixMs {
    known.map_or(at, |known| known.min(at))
}

const _: () =
    assert!(WINDOW < PLACES, "a window that covers every chunk would hide what it is for");
