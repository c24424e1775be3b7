//! The messages of a hold in strands: those of one strand leave from one sender, to numbers of one prefix,
//! and so wait for the same clocks. A strand that has no times keeps up no other.
//!
//! Only lanes with rates below the provider's have strands, see [`levels`](crate::dispatch::levels). There
//! `next` counts the messages taken, in whatever order.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use parking_lot::Mutex;

use super::{CLOSED, Hold, Taken};
use crate::{
    dispatch::levels::{Key, Levels},
    domain::chunk::{self, Entry},
};

/// A hold's messages by their strand.
pub(super) struct Strands(Vec<Strand>);

struct Strand {
    key: Key,
    /// Where its messages are in `ready`, in order.
    left: VecDeque<u32>,
}

// === impl Strands ===

impl Strands {
    /// Empties all of them, and gives where the messages were in `ready`.
    pub(super) fn drain(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.0).into_iter().flat_map(|strand| strand.left).collect()
    }

    /// The first message of a strand, if it is among the first `marked` of `ready`.
    fn first(&mut self, key: &Key, marked: u32) -> Option<&mut VecDeque<u32>> {
        let left = &mut self.0.iter_mut().find(|strand| strand.key == *key)?.left;
        left.front().is_some_and(|at| *at < marked).then_some(left)
    }
}

// === impl Hold ===

impl Hold {
    /// The same hold, with its messages in strands.
    pub(in crate::dispatch) fn in_strands(mut self, levels: &Levels) -> Self {
        let mut strands = HashMap::<Key, VecDeque<u32>>::new();
        for (at, place) in (0..).zip(&self.ready) {
            let key = levels.key(self.job.spec.from.as_deref(), self.entry(*place).to);
            strands.entry(key).or_default().push_back(at);
        }
        let strands = strands.into_iter().map(|(key, left)| Strand { key, left }).collect();
        self.strands = Some(Mutex::new(Strands(strands)));
        self
    }

    /// Calls `look` with each strand that has a message to take now, and how many.
    pub(in crate::dispatch) fn each_strand(&self, now: Instant, mut look: impl FnMut(&Key, usize)) {
        let due = self.due(now);
        let Some(strands) = self.strands.as_ref().filter(|_| due > 0) else { return };
        let marked = self.marked.load(Ordering::SeqCst);
        for strand in &strands.lock().0 {
            if strand.left.front().is_some_and(|at| *at < marked) {
                look(&strand.key, strand.left.len().min(due));
            }
        }
    }

    /// The next message of a strand, to look at.
    pub(in crate::dispatch) fn next_of(self: &Arc<Self>, key: &Key) -> Option<Taken> {
        let marked = self.marked.load(Ordering::SeqCst);
        let mut strands = self.strands.as_ref()?.lock();
        let at = *strands.first(key, marked)?.front()?;
        let place = self.ready.get(usize::try_from(at).ok()?).copied()?;
        Some(Taken { hold: Arc::clone(self), place })
    }

    /// The next message of a strand, or `None` if nothing is left of it, or nothing may be sent any more.
    pub(in crate::dispatch) fn take_of(self: &Arc<Self>, key: &Key) -> Option<Taken> {
        if self.left() == 0 || !self.use_time(Instant::now()) {
            return None;
        }
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let place = self.place_of(key);
        if place.is_none() {
            self.land();
        }
        place.map(|place| Taken { hold: Arc::clone(self), place })
    }

    /// The places that were not taken when `next` was the next one.
    pub(super) fn untaken(&self, next: u32) -> Cow<'_, [u16]> {
        let place = |at: u32| self.ready.get(usize::try_from(at).ok()?).copied();
        if let Some(strands) = &self.strands {
            return strands.lock().drain().into_iter().filter_map(place).collect();
        }
        let next = usize::try_from(next).unwrap_or(usize::MAX);
        self.ready.get(next..).unwrap_or_default().into()
    }

    /// The recipient at a place.
    pub(super) fn entry(&self, place: u16) -> Entry<'_> {
        let offset = self.offsets.get(usize::from(place));
        offset.map_or_else(Entry::default, |offset| chunk::entry_at(&self.recipients, *offset))
    }

    fn place_of(&self, key: &Key) -> Option<u16> {
        let marked = self.marked.load(Ordering::SeqCst);
        let mut strands = self.strands.as_ref()?.lock();
        // Whoever closes the hold says so first, and then empties the strands.
        if self.next.load(Ordering::SeqCst) >= CLOSED {
            return None;
        }
        let at = strands.first(key, marked)?.pop_front()?;
        self.next.fetch_add(1, Ordering::SeqCst);
        self.ready.get(usize::try_from(at).ok()?).copied()
    }
}
