//! The open messages of a claimed chunk, sorted by what is to be done with them: sent now, later, or
//! not any more.

use super::Outbox;
use crate::{
    domain::{
        ids::BatchId,
        message::{Ended, Open},
        past::Past,
        time::UnixMs,
    },
    store::Claimed,
};
use std::time::Duration;

pub(super) struct Sorted {
    /// The places to send now.
    pub(super) ready: Vec<u16>,
    /// When the first of the others comes due.
    pub(super) later: Option<UnixMs>,
    /// Those that have ended with a lease that was lost.
    pub(super) outbox: Outbox,
}

/// What is known of a chunk's open messages.
pub(super) struct Known {
    /// Of places that were tried before, sorted by place.
    tried: Vec<(u16, Open)>,
    /// Of the others.
    untried: Open,
}

// === impl Sorted ===

impl Sorted {
    /// No message waits for longer than `wait_max`: one that seems to was stored before the clock was
    /// stepped back. The places in `opted_out`, which are in order, end here.
    pub(super) fn new(
        claimed: &Claimed,
        known: &Known,
        wait_max: Duration,
        opted_out: &[u16],
    ) -> Self {
        let (now, past) = (claimed.now, &claimed.past);
        let is_due = |due_at: UnixMs, at: UnixMs| due_at <= at || due_at.since(at) > wait_max;
        let mut sorted = Self { ready: vec![], later: None, outbox: Outbox::default() };
        sorted.ready.reserve(claimed.states.len());
        for (place, _) in (0..=u16::MAX).zip(&*claimed.states).filter(|(_, state)| **state == 0) {
            let open = known.of(place);
            let started = |at| is_due(open.due_at, at);
            if let Some(ended) = ended(place, open, past, started) {
                sorted.end(claimed.batch, place, &ended, now);
            } else if opted_out.binary_search(&place).is_ok() {
                sorted.end(claimed.batch, place, &open.opted_out(), now);
            } else if is_due(open.due_at, now) {
                sorted.ready.push(place);
            } else {
                let earliest = sorted.later.map_or(open.due_at, |later| later.min(open.due_at));
                sorted.later = Some(earliest);
            }
        }
        sorted
    }

    fn end(&mut self, batch: BatchId, place: u16, ended: &Ended, now: UnixMs) {
        self.outbox.end(place, ended, None, now.since(batch.created_at()));
    }
}

/// How a message has ended with a lost lease, if it has. `started` tells whether a lease that began at
/// an instant would have started it.
fn ended(place: u16, open: Open, past: &Past, started: impl Fn(UnixMs) -> bool) -> Option<Ended> {
    let marked = past.mark.filter(|mark| u32::from(place) < mark.upto);
    if marked.is_some_and(|mark| started(mark.claimed_at)) {
        return Some(open.lost());
    }
    (past.poison() == Some(place)).then(|| open.poisoned())
}

// === impl Known ===

impl Known {
    pub(super) fn new(mut tried: Vec<(u16, Open)>, past: &Past) -> Self {
        tried.sort_unstable_by_key(|(place, _)| *place);
        let untried = Open { maybe_accepted: past.doubts_all(), ..Open::default() };
        Self { tried, untried }
    }

    /// Of the open message at this place.
    pub(super) fn of(&self, place: u16) -> Open {
        let found = self.tried.binary_search_by_key(&place, |(place, _)| *place);
        let open = found.map_or(self.untried, |at| self.tried[at].1);
        Open { maybe_accepted: open.maybe_accepted || self.untried.maybe_accepted, ..open }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        domain::{
            message::FinalState,
            past::{Mark, Suspect},
            record,
        },
        store::Token,
    };

    const NOW: UnixMs = UnixMs(1_795_000_000_000);
    const MINUTE: Duration = Duration::from_mins(1);

    fn due(at: UnixMs) -> Open {
        Open { attempts: 1, due_at: at, ..Open::default() }
    }

    /// A chunk of six messages of which the second is final, the fourth waits, and the fifth comes due
    /// now.
    fn sorted(past: Past) -> Sorted {
        sorted_without(past, &[])
    }

    fn sorted_without(past: Past, opted_out: &[u16]) -> Sorted {
        let claimed = Claimed {
            batch: BatchId::new(NOW, 7, 0),
            chunk: 0,
            first: 0,
            token: Token("1-0".to_owned()),
            now: NOW,
            states: Bytes::from_static(&[0, 1, 0, 0, 0, 0]),
            recipients: Bytes::new(),
            waiting: vec![(4, due(NOW)), (3, due(NOW.after(MINUTE)))],
            times: None,
            past,
        };
        let known = Known::new(claimed.waiting.clone(), &past);
        Sorted::new(&claimed, &known, 2 * MINUTE, opted_out)
    }

    #[test]
    fn what_is_due_is_ready_and_the_rest_comes_later() {
        let sorted = sorted(Past::default());
        assert_eq!((sorted.ready, sorted.later), (vec![0, 2, 4, 5], Some(NOW.after(MINUTE))));
        assert!(sorted.outbox.is_empty());
    }

    #[test]
    fn what_was_started_under_a_mark_has_ended_as_unknown_and_what_waited_then_has_not() {
        let claimed_at = UnixMs(NOW.0 - 1_000);
        let mark = Some(Mark { upto: 5, claimed_at });
        let sorted = sorted(Past { mark, ..Past::default() });
        assert_eq!(sorted.outbox.ended, [0, 2].map(|place| (place, FinalState::Unknown.into())));
        assert_eq!((sorted.ready, sorted.later), (vec![4, 5], Some(NOW.after(MINUTE))));
    }

    #[test]
    fn who_has_opted_out_has_ended_whether_due_or_waiting_and_is_in_doubt_if_it_may_have_left() {
        let sorted = sorted_without(Past::default(), &[1, 2, 3]);
        assert_eq!(sorted.outbox.ended, [2, 3].map(|place| (place, FinalState::Failed.into())));
        assert_eq!((sorted.ready, sorted.later), (vec![0, 4, 5], None));
        let records: Vec<_> = record::read(&sorted.outbox.log).collect();
        let told = |nth: usize| {
            (records[nth].place, records[nth].attempts, records[nth].error.clone().unwrap().code)
        };
        assert_eq!((told(0), told(1)), ((2, 0, "opted_out"), (3, 1, "opted_out")));

        let sorted = sorted_without(Past { losses: Some(1), ..Past::default() }, &[0]);
        assert_eq!(sorted.outbox.ended, [(0, FinalState::Unknown.into())]);
    }

    #[test]
    fn poison_has_ended_and_the_rest_is_sent() {
        let suspect = Some(Suspect { place: 2, starts: 3 });
        let sorted = sorted(Past { losses: Some(6), suspect, ..Past::default() });
        assert_eq!(sorted.outbox.ended, [(2, FinalState::Failed.into())]);
        assert_eq!(sorted.ready, [0, 4, 5]);
    }
}
