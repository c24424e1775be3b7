//! Whose turn it is: which strand has waited longest of those whose clocks have times.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use super::{Key, Levels};
use crate::dispatch::{hold::Hold, lane::Shared};

/// Beyond so many strands those that had no turn for long are forgotten.
const STRANDS_MAX: usize = 4_096;

/// So many chunks are in hand at most while their messages have no times, or are all of one strand: others
/// may bring some that have.
const HOLDS_MAX: usize = 8;
const HOLDS_OF_ONE: usize = 4;

#[derive(Default)]
pub(super) struct Turns {
    /// How many turns there were.
    taken: u64,
    strands: HashMap<Key, Turn>,
}

/// A strand's place among the others.
#[derive(Clone, Copy, Default)]
struct Turn {
    /// Its last turn.
    last: u64,
    /// Before that its clocks have no times.
    waits_until: Option<Instant>,
}

/// What there is to take.
pub(super) enum Next {
    /// A message of this strand of the hold.
    Of(Arc<Hold>, Key),
    /// Nothing before this instant, if it is known.
    Later(Option<Instant>),
}

// === impl Turns ===

impl Turns {
    /// The strand whose turn it is. Holds that have messages of it take turns too.
    pub(super) fn next(&mut self, holds: &mut VecDeque<Arc<Hold>>, now: Instant) -> Next {
        let (mut best, mut earliest) = (None::<(u64, usize, Key)>, None::<Instant>);
        for (at, hold) in holds.iter().enumerate() {
            hold.each_strand(now, |key, _| {
                let turn = self.strands.get(key).copied().unwrap_or_default();
                match turn.waits_until.filter(|until| *until > now) {
                    Some(until) => earliest = Some(earliest.map_or(until, |at| at.min(until))),
                    None if best.as_ref().is_none_or(|(last, ..)| turn.last < *last) => {
                        best = Some((turn.last, at, key.clone()));
                    }
                    None => {}
                }
            });
        }
        let found = best.and_then(|(_, at, key)| Some((holds.remove(at)?, key)));
        let Some((hold, key)) = found else { return Next::Later(earliest) };
        holds.push_back(Arc::clone(&hold));
        Next::Of(hold, key)
    }

    /// A message of this strand leaves.
    pub(super) fn took(&mut self, key: &Key) {
        self.taken += 1;
        let last = self.taken;
        self.set(key, Turn { last, waits_until: None });
    }

    /// There are no times for this strand before `until`.
    pub(super) fn waits(&mut self, key: &Key, until: Instant) {
        let last = self.strands.get(key).map_or(0, |turn| turn.last);
        self.set(key, Turn { last, waits_until: Some(until) });
    }

    fn set(&mut self, key: &Key, turn: Turn) {
        if let Some(known) = self.strands.get_mut(key) {
            *known = turn;
            return;
        }
        if self.strands.len() >= STRANDS_MAX {
            let recent = self.taken.saturating_sub(STRANDS_MAX as u64 / 2);
            self.strands.retain(|_, turn| turn.last > recent);
        }
        self.strands.insert(key.clone(), turn);
    }

    fn is_waiting(&self, key: &Key, now: Instant) -> bool {
        let turn = self.strands.get(key);
        turn.and_then(|turn| turn.waits_until).is_some_and(|until| until > now)
    }
}

// === impl Levels ===

impl Levels {
    /// Whether no more chunks are wanted in hand than there are: more than `ahead` messages have times, and
    /// not all are of one strand, so that strands share the provider's times evenly.
    pub(in crate::dispatch) fn has_enough(&self, lane: &Shared, ahead: usize) -> bool {
        if !self.has_any_below() {
            return lane.in_hand() > ahead;
        }
        let now = Instant::now();
        let (mut holds, mut messages, mut first, mut are_several) = (0, 0, None, false);
        lane.look_through(|queue| {
            let turns = self.turns.lock();
            for hold in queue.iter().filter(|hold| hold.due(now) > 0) {
                holds += 1;
                hold.each_strand(now, |key, left| {
                    are_several |= first.get_or_insert_with(|| key.clone()) != key;
                    messages += if turns.is_waiting(key, now) { 0 } else { left };
                });
            }
        });
        holds >= HOLDS_MAX || messages > ahead && (are_several || holds >= HOLDS_OF_ONE)
    }
}
