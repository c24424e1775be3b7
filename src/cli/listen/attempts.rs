//! Which events have come before: a callback is delivered at least once, and a repeat should be
//! known when it is seen.

use std::collections::{HashMap, VecDeque};

use aws_lc_rs::digest::{SHA256, digest};

/// How many events are remembered; the oldest is forgotten first.
const EVENTS_MAX: usize = 10_000;

/// The longest id that is remembered, in bytes.
const ID_BYTES_MAX: usize = 256;

/// How often an event has come, counting this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Attempt {
    /// From 1.
    pub(in crate::cli) number: u64,
    /// Whether the body is that of the first time, byte for byte.
    pub(in crate::cli) is_same_body: bool,
}

/// See the module.
#[derive(Default)]
pub(super) struct Attempts {
    events: HashMap<String, Event>,
    by_age: VecDeque<String>,
}

struct Event {
    attempts: u64,
    /// The SHA-256 of the first body.
    body: [u8; 32],
}

// === impl Attempts ===

impl Attempts {
    /// Counts one delivery of the event `id`; nothing if the id is too long to be remembered.
    pub(super) fn count(&mut self, id: &str, body: &[u8]) -> Option<Attempt> {
        if id.len() > ID_BYTES_MAX {
            return None;
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, body).as_ref());
        if !self.events.contains_key(id) {
            self.remember(id);
        }
        let event = self.events.entry(id.to_owned()).or_insert(Event { attempts: 0, body: hash });
        event.attempts = event.attempts.saturating_add(1);
        Some(Attempt { number: event.attempts, is_same_body: event.body == hash })
    }

    /// Makes room for an event that comes for the first time.
    fn remember(&mut self, id: &str) {
        if self.by_age.len() >= EVENTS_MAX
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.events.remove(&oldest);
        }
        self.by_age.push_back(id.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_is_counted_and_its_body_compared() {
        let mut attempts = Attempts::default();
        let mut count = |id, body: &str| {
            let attempt = attempts.count(id, body.as_bytes()).unwrap();
            (attempt.number, attempt.is_same_body)
        };
        assert_eq!(count("evt_1", "{}"), (1, true));
        assert_eq!(count("evt_2", "{}"), (1, true));
        assert_eq!(count("evt_1", "{}"), (2, true));
        assert_eq!(count("evt_1", "{ }"), (3, false));
        assert_eq!(count("evt_1", "{}"), (4, true));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut attempts = Attempts::default();
        for number in 0..=EVENTS_MAX {
            attempts.count(&format!("evt_{number}"), b"");
        }
        assert_eq!((attempts.events.len(), attempts.by_age.len()), (EVENTS_MAX, EVENTS_MAX));
        assert_eq!(attempts.count("evt_0", b"").unwrap().number, 1);
        assert_eq!(attempts.count(&format!("evt_{EVENTS_MAX}"), b"").unwrap().number, 2);
        assert_eq!(attempts.count(&"x".repeat(ID_BYTES_MAX + 1), b""), None);
    }
}
