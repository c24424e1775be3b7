//! Whose turn it is: which strand has waited longest of those whose clocks have times and whose sender does
//! not rest.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use super::{Key, Levels};
use crate::dispatch::{hold::Hold, lane::Shared};

/// Beyond so many strands those that had no turn for long are forgotten.
const STRANDS_MAX: usize = 4_096;

/// So many senders rest at once at most: each one more is found out about message by message.
const RESTS_MAX: usize = 4_096;

/// So many chunks are in hand at most while their messages have no times, or are all of one strand: others
/// may bring some that have.
const HOLDS_MAX: usize = 8;
const HOLDS_OF_ONE: usize = 4;

#[derive(Default)]
pub(super) struct Turns {
    /// How many turns there were.
    taken: u64,
    strands: HashMap<Key, Turn>,
    /// The senders that rest, and until when. Apart from their strands: it holds for each of these, also for
    /// those that are not known yet, and whatever their clocks say.
    rests: HashMap<Arc<str>, Instant>,
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
                match self.waits_until(key, now) {
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

    /// Nothing of this sender leaves before `until`.
    pub(super) fn rest(&mut self, sender: Arc<str>, until: Instant, now: Instant) {
        if self.rests.len() >= RESTS_MAX {
            self.rests.retain(|_, until| *until > now);
        }
        if let Some(known) = self.rests.get_mut(&sender) {
            *known = until.max(*known);
        } else if self.rests.len() < RESTS_MAX {
            self.rests.insert(sender, until);
        }
    }

    /// Until when the sender of this strand rests, if it does at `now`.
    pub(super) fn rests_until(&self, key: &Key, now: Instant) -> Option<Instant> {
        self.rests.get(key.sender.as_ref()?).copied().filter(|until| *until > now)
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

    /// Until when nothing of this strand leaves, if it waits at `now`.
    fn waits_until(&self, key: &Key, now: Instant) -> Option<Instant> {
        let clocks = self.strands.get(key).and_then(|turn| turn.waits_until);
        clocks.filter(|until| *until > now).max(self.rests_until(key, now))
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
            for hold in queue.iter().filter(|hold| hold.in_hand(now) > 0) {
                holds += 1;
                hold.each_strand(now, |key, left| {
                    are_several |= first.get_or_insert_with(|| key.clone()) != key;
                    messages += if turns.waits_until(key, now).is_some() { 0 } else { left };
                });
            }
        });
        holds >= HOLDS_MAX || messages > ahead && (are_several || holds >= HOLDS_OF_ONE)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn strand(sender: &str, prefix: Option<&str>) -> Key {
        Key { sender: Some(sender.into()), prefix: prefix.map(Into::into) }
    }

    #[test]
    fn a_sender_rests_whatever_its_strands_do_meanwhile() {
        let (mut turns, now) = (Turns::default(), Instant::now());
        let (rests, other) = (strand("s:1", None), strand("s:2", None));
        let until = now + 10 * SECOND;
        turns.rest("s:1".into(), until, now);
        turns.rest("s:1".into(), now + SECOND, now);
        // One was on its way already, and the next one found no time.
        turns.took(&rests);
        turns.waits(&rests, now + SECOND);
        // So many others have turns that strands are forgotten.
        (0..2 * STRANDS_MAX).for_each(|nth| turns.took(&strand(&format!("s:1{nth}"), None)));
        for key in [&rests, &strand("s:1", Some("p:+49"))] {
            assert_eq!(turns.waits_until(key, now), Some(until));
            assert_eq!(turns.waits_until(key, until), None);
        }
        assert_eq!(turns.waits_until(&other, now), None);
    }

    #[test]
    fn a_strand_whose_clocks_have_no_times_for_longer_than_its_sender_rests_waits_for_them() {
        let (mut turns, now) = (Turns::default(), Instant::now());
        let key = strand("s:1", None);
        turns.rest("s:1".into(), now + SECOND, now);
        turns.waits(&key, now + 2 * SECOND);
        assert_eq!(turns.waits_until(&key, now), Some(now + 2 * SECOND));
        assert_eq!(turns.rests_until(&key, now), Some(now + SECOND));
    }

    #[test]
    fn rests_that_are_over_make_room_and_no_others() {
        let (mut turns, now) = (Turns::default(), Instant::now());
        let rest = |turns: &mut Turns, nth: usize, now| {
            turns.rest(format!("s:{nth}").into(), now + SECOND, now);
        };
        (0..=RESTS_MAX).for_each(|nth| rest(&mut turns, nth, now));
        let rests = |turns: &Turns, nth: usize, now| {
            turns.rests_until(&strand(&format!("s:{nth}"), None), now).is_some()
        };
        assert!(rests(&turns, 0, now) && !rests(&turns, RESTS_MAX, now));
        let later = now + SECOND;
        rest(&mut turns, RESTS_MAX, later);
        assert!(rests(&turns, RESTS_MAX, later) && turns.rests.len() == 1);
    }
}
