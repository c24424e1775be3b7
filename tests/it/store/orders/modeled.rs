//! A batch as the model knows it.

use ringback::{
    domain::{
        batch::{Batch, DeliveryGuarantee},
        message::{FinalState, Open},
        past::Past,
        state_byte::{StateByte, Taken},
    },
    store::{Claimed, Settlement},
};

#[derive(Clone, Default)]
pub(super) struct Modeled {
    guarantee: DeliveryGuarantee,
    /// Each message's state.
    pub(super) states: Vec<StateByte>,
    /// Whether it is over: every message is final, or was waited for long enough.
    over: bool,
    /// What is known of messages that were to be tried again.
    waiting: Vec<Option<Open>>,
    firsts: Vec<usize>,
    /// What lost leases of each chunk left behind.
    pasts: Vec<Past>,
    /// Whether each chunk was ever claimed.
    claimed: Vec<bool>,
    /// How its open messages are closed, once it was canceled or has expired.
    pub(super) closes: Option<FinalState>,
    pub(super) paused: bool,
}

// === impl Modeled ===

impl Modeled {
    pub(super) fn new(
        guarantee: DeliveryGuarantee,
        states: Vec<StateByte>,
        chunk_size: u16,
    ) -> Self {
        let firsts: Vec<_> = (0..states.len()).step_by(usize::from(chunk_size)).collect();
        let (waiting, pasts) = (vec![None; states.len()], vec![Past::default(); firsts.len()]);
        let claimed = vec![false; firsts.len()];
        let new = Self { guarantee, states, waiting, firsts, pasts, claimed, ..Self::default() };
        new.counted()
    }

    /// It is over once nothing is open or waits for a receipt, and stays so.
    fn counted(mut self) -> Self {
        self.count();
        self
    }

    fn count(&mut self) {
        let is_final = |state: &StateByte| state.ended().is_some() && *state != StateByte::AWAITING;
        self.over |= self.states.iter().all(is_final);
    }

    /// Whether a message is yet to be submitted, or to have its outcome recorded.
    pub(super) fn has_open(&self) -> bool {
        self.states.contains(&StateByte::OPEN)
    }

    /// Receipts are waited for no more, if they were: true if that is so.
    pub(super) fn lapse(&mut self) -> bool {
        let lapses = !self.over && !self.has_open();
        self.over |= lapses;
        lapses
    }

    /// All that is open is sent.
    pub(super) fn send_rest(&mut self) {
        for state in self.states.iter_mut().filter(|state| **state == StateByte::OPEN) {
            *state = FinalState::Sent.into();
        }
        self.count();
    }

    /// A receipt comes. `None` if its message was never handed over.
    pub(super) fn hear(&mut self, message: usize, word: FinalState) -> Option<Taken> {
        let chunk = self.firsts.partition_point(|first| *first <= message) - 1;
        let before = self.states[message];
        let was_closed = matches!(before.ended(), Some(FinalState::Canceled | FinalState::Expired));
        if !self.claimed[chunk] && (before == StateByte::OPEN || was_closed) {
            return None;
        }
        let (after, taken) = before.hear(word, self.over);
        self.states[message] = after;
        self.count();
        Some(taken)
    }

    /// Whether every message is final.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn check(&self, batch: &Batch) {
        assert_eq!(batch.counts.total, self.states.len() as u64);
        for state in FinalState::ALL {
            let modeled = self.states.iter().filter(|byte| byte.ended() == Some(state)).count();
            assert_eq!(batch.counts.ended[state], modeled as u64, "{state:?} of {batch:?}");
        }
        assert_eq!(batch.is_over(), self.is_over(), "{batch:?}");
    }

    /// A chunk is claimed as the model knows it.
    pub(super) fn claim(&mut self, claimed: &Claimed) {
        assert!(self.closes.is_none() && !self.paused, "claimed of a batch that stands still");
        let chunk = claimed.chunk as usize;
        let first = self.firsts[chunk];
        assert_eq!(claimed.first as usize, first);
        assert_eq!(claimed.past, self.pasts[chunk]);
        self.claimed[chunk] = true;
        for (place, state) in claimed.states.iter().enumerate() {
            assert_eq!(StateByte(*state), self.states[first + place]);
            if *state == 0 {
                let waiting = claimed.waiting.iter().find(|(at, _)| usize::from(*at) == place);
                assert_eq!(waiting.map(|(_, open)| *open), self.waiting[first + place]);
            }
        }
    }

    /// A settlement with these states is applied.
    pub(super) fn settle(&mut self, settlement: &Settlement, ended: &[(u16, StateByte)]) {
        let chunk = settlement.chunk as usize;
        let first = self.firsts[chunk];
        let mut progress = !settlement.waiting.is_empty();
        for (place, state) in ended {
            let message = &mut self.states[first + usize::from(*place)];
            if *message == StateByte::OPEN {
                progress = true;
                *message = *state;
            }
        }
        for waiting in &settlement.waiting {
            self.waiting[first + usize::from(waiting.place)] = Some(waiting.open);
        }
        let past = &mut self.pasts[chunk];
        if settlement.release.is_some() {
            past.mark = None;
        } else if settlement.mark.is_some() || settlement.sequence == 1 {
            past.mark = settlement.mark;
        }
        if progress {
            *past = past.progressed();
        }
        if self.closes.is_some() && settlement.release.is_some() {
            self.close(chunk);
        }
        self.count();
    }

    /// The lease of a chunk is lost.
    pub(super) fn lose(&mut self, chunk: usize) {
        self.pasts[chunk] = self.pasts[chunk].lost(self.guarantee);
        if self.closes.is_some() {
            self.close(chunk);
        }
    }

    /// Cancel and expiry close every chunk but those under a lease.
    pub(super) fn close_all_but(&mut self, leased: &[usize]) {
        for chunk in (0..self.firsts.len()).filter(|chunk| !leased.contains(chunk)) {
            self.close(chunk);
        }
    }

    fn close(&mut self, chunk: usize) {
        let closes = self.closes.expect("a closed batch");
        let first = self.firsts[chunk];
        let end = self.firsts.get(chunk + 1).copied().unwrap_or(self.states.len());
        for (place, message) in (0..).zip(first..end) {
            let known = self.waiting[message].unwrap_or_default();
            let maybe_accepted = known.maybe_accepted || self.pasts[chunk].doubts(place);
            let state = Open { maybe_accepted, ..known }.closed_as(closes);
            if self.states[message] == StateByte::OPEN {
                self.states[message] = state.into();
            }
        }
        self.count();
    }
}
