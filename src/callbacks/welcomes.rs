//! Welcomes that are known here: hosts that want an account's callbacks.
//!
//! The store keeps all of them; this only spares the question. So they are bounded in number, and
//! each is forgotten after a while, for the store forgets them too.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// The most that are kept in mind.
const KNOWN_MAX: usize = 10_000;

/// For how long.
const KNOWN: Duration = Duration::from_hours(1);

/// Accounts and hosts that are welcome to each other, and since when that is known.
#[derive(Default)]
pub(super) struct Welcomes(Mutex<HashMap<Pair, Instant>>);

/// An account and a host with its port.
pub(super) type Pair = (String, String);

// === impl Welcomes ===

impl Welcomes {
    /// Whether the store need not be asked.
    pub(super) fn know(&self, pair: &Pair, now: Instant) -> bool {
        self.0.lock().get(pair).is_some_and(|since| is_fresh(*since, now))
    }

    /// Keeps a welcome in mind.
    pub(super) fn keep(&self, pair: Pair, now: Instant) {
        let mut known = self.0.lock();
        if known.len() >= KNOWN_MAX {
            known.retain(|_, since| is_fresh(*since, now));
        }
        if known.len() < KNOWN_MAX {
            known.insert(pair, now);
        }
    }
}

fn is_fresh(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) < KNOWN
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(number: usize) -> Pair {
        ("default".to_owned(), format!("{number}.example:443"))
    }

    #[test]
    fn a_welcome_is_known_for_its_pair_and_its_time() {
        let (welcomes, now) = (Welcomes::default(), Instant::now());
        welcomes.keep(pair(1), now);
        assert!(welcomes.know(&pair(1), now + KNOWN / 2));
        assert!(!welcomes.know(&pair(2), now));
        assert!(!welcomes.know(&("other".to_owned(), pair(1).1), now));
        assert!(!welcomes.know(&pair(1), now + KNOWN));
    }

    #[test]
    fn no_more_are_known_than_there_is_room_for() {
        let (welcomes, now) = (Welcomes::default(), Instant::now());
        (0..KNOWN_MAX + 5).for_each(|number| welcomes.keep(pair(number), now));
        assert_eq!(welcomes.0.lock().len(), KNOWN_MAX);
        assert!(welcomes.know(&pair(0), now) && !welcomes.know(&pair(KNOWN_MAX), now));
        // Those that are old make room.
        welcomes.keep(pair(KNOWN_MAX), now + KNOWN);
        assert!(welcomes.know(&pair(KNOWN_MAX), now + KNOWN));
        assert_eq!(welcomes.0.lock().len(), 1);
    }
}
