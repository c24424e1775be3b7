//! A chunk as the store keeps it.

use std::array::from_fn;

use ringback::domain::{
    message::{FinalState, Open},
    past::{Mark, Past},
    time::UnixMs,
};

/// The most messages of a chunk.
pub(super) const PLACES: usize = 3;

pub(super) type PerPlace<T> = [T; PLACES];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Chunk {
    pub(super) size: usize,
    pub(super) states: PerPlace<Option<FinalState>>,
    pub(super) waiting: PerPlace<Option<Open>>,
    pub(super) past: Past,
    pub(super) lease: Option<Lease>,
    /// When it may be claimed again, if it was before.
    pub(super) parked: Option<UnixMs>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lease {
    pub(super) token: u8,
    pub(super) sequence: u8,
    pub(super) standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Standing {
    Held,
    LetGo,
    Done,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Settlement {
    pub(super) sequence: u8,
    pub(super) ended: PerPlace<Option<FinalState>>,
    pub(super) waiting: PerPlace<Option<Open>>,
    pub(super) mark: Option<Mark>,
    /// When the rest may be claimed again, if it lets go of the chunk.
    pub(super) release: Option<UnixMs>,
}

/// Messages that became final in a step, by state.
pub(super) type Moved = [u8; FinalState::ALL.len()];

// === impl Chunk ===

impl Chunk {
    pub(super) fn open(&self) -> u8 {
        let open = self.states[..self.size].iter().filter(|state| state.is_none());
        u8::try_from(open.count()).unwrap()
    }

    /// What is known of an open message, what is in doubt included.
    pub(super) fn known(&self, place: usize) -> Open {
        let open = self.waiting[place].unwrap_or_default();
        Open { maybe_accepted: open.maybe_accepted || self.past.doubts_all(), ..open }
    }

    /// Takes in outcomes, and gives what became final.
    pub(super) fn apply(&mut self, settlement: &Settlement, counts_repeats: bool) -> Moved {
        let (mut moved, mut progress) = (Moved::default(), false);
        for (place, state) in settlement.ended.iter().enumerate() {
            let Some(state) = *state else { continue };
            if self.states[place].is_none() || counts_repeats {
                self.states[place] = Some(state);
                moved[at(state)] += 1;
                progress = true;
            }
        }
        for (place, open) in settlement.waiting.iter().enumerate() {
            self.waiting[place] = open.or(self.waiting[place]);
            progress |= open.is_some();
        }
        if settlement.mark.is_some() && settlement.release.is_none() {
            self.past.mark = settlement.mark;
        } else if settlement.release.is_some() || settlement.sequence == 1 {
            self.past.mark = None;
        }
        if progress {
            self.past = self.past.progressed();
        }
        moved
    }

    pub(super) fn close(&mut self, closes: FinalState, without_doubt: bool, moved: &mut Moved) {
        let known: PerPlace<Open> = from_fn(|place| self.known(place));
        for (place, open) in known.into_iter().enumerate().take(self.size) {
            if self.states[place].is_some() {
                continue;
            }
            let doubted = self.past.doubts(u16::try_from(place).unwrap());
            let open = Open { maybe_accepted: open.maybe_accepted || doubted, ..open };
            let state = if without_doubt { closes } else { open.closed_as(closes) };
            self.states[place] = Some(state);
            moved[at(state)] += 1;
        }
        self.waiting = PerPlace::default();
    }
}

impl Lease {
    /// Whether it is held under this token.
    pub(super) fn is(self, token: u8) -> bool {
        self.standing == Standing::Held && self.token == token
    }
}

/// Where a state is counted.
pub(super) fn at(state: FinalState) -> usize {
    state as usize - 1
}
