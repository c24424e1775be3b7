//! A batch as the model knows it.

use ringback::{
    domain::{
        batch::{Batch, DeliveryGuarantee},
        message::{FinalState, Open},
        past::Past,
    },
    store::{Claimed, Settlement},
};

#[derive(Clone, Default)]
pub(super) struct Modeled {
    guarantee: DeliveryGuarantee,
    /// Each message's final state, once it has one.
    pub(super) ended: Vec<Option<FinalState>>,
    /// What is known of messages that were to be tried again.
    waiting: Vec<Option<Open>>,
    firsts: Vec<usize>,
    /// What lost leases of each chunk left behind.
    pasts: Vec<Past>,
    /// How its open messages are closed, once it was canceled or has expired.
    pub(super) closes: Option<FinalState>,
    pub(super) paused: bool,
}

// === impl Modeled ===

impl Modeled {
    pub(super) fn new(
        guarantee: DeliveryGuarantee,
        ended: Vec<Option<FinalState>>,
        chunk_size: u16,
    ) -> Self {
        let firsts: Vec<_> = (0..ended.len()).step_by(usize::from(chunk_size)).collect();
        let (waiting, pasts) = (vec![None; ended.len()], vec![Past::default(); firsts.len()]);
        Self { guarantee, ended, waiting, firsts, pasts, ..Self::default() }
    }

    /// Whether every message is final.
    pub(super) fn is_over(&self) -> bool {
        self.ended.iter().all(Option::is_some)
    }

    pub(super) fn check(&self, batch: &Batch) {
        assert_eq!(batch.counts.total, self.ended.len() as u64);
        for state in FinalState::ALL {
            let modeled = self.ended.iter().filter(|ended| **ended == Some(state)).count();
            assert_eq!(batch.counts.ended[state], modeled as u64, "{state:?} of {batch:?}");
        }
        assert_eq!(batch.is_over(), self.is_over(), "{batch:?}");
    }

    /// A chunk is claimed as the model knows it.
    pub(super) fn check_claimed(&self, claimed: &Claimed) {
        assert!(self.closes.is_none() && !self.paused, "claimed of a batch that stands still");
        let chunk = claimed.chunk as usize;
        let first = self.firsts[chunk];
        assert_eq!(claimed.first as usize, first);
        assert_eq!(claimed.past, self.pasts[chunk]);
        for (place, state) in claimed.states.iter().enumerate() {
            let ended = self.ended[first + place];
            assert_eq!(FinalState::from_byte(*state), ended);
            if ended.is_none() {
                let waiting = claimed.waiting.iter().find(|(at, _)| usize::from(*at) == place);
                assert_eq!(waiting.map(|(_, open)| *open), self.waiting[first + place]);
            }
        }
    }

    /// A settlement with these final states is applied.
    pub(super) fn settle(&mut self, settlement: &Settlement, ended: &[(u16, FinalState)]) {
        let chunk = settlement.chunk as usize;
        let first = self.firsts[chunk];
        let mut progress = !settlement.waiting.is_empty();
        for (place, state) in ended {
            let message = &mut self.ended[first + usize::from(*place)];
            progress |= message.is_none();
            message.get_or_insert(*state);
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
        let end = self.firsts.get(chunk + 1).copied().unwrap_or(self.ended.len());
        for (place, message) in (0..).zip(first..end) {
            let known = self.waiting[message].unwrap_or_default();
            let maybe_accepted = known.maybe_accepted || self.pasts[chunk].doubts(place);
            let state = Open { maybe_accepted, ..known }.closed_as(closes);
            self.ended[message].get_or_insert(state);
        }
    }
}
