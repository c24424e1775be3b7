//! Messages of this process that can't be told apart at Twilio: same recipient, sender and text.
//!
//! All exchanges are known here by a hash of the three, and for a while after they ended. Two that hash
//! alike are taken for twins, which at worst leaves an outcome unknown.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::form::Sender;
use crate::domain::ids::MessageId;

/// How long an exchange is remembered after its end: longer than Twilio's clock and ours can differ within
/// an exchange, and than it may take to create what it was given.
const REMEMBERED: Duration = Duration::from_secs(30);

/// The exchanges that are open, or ended lately.
#[derive(Default)]
pub(super) struct Twins {
    hasher: RandomState,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    by_hash: HashMap<u64, Entry>,
    /// What ended, the longest ago first.
    ended: VecDeque<(Instant, u64)>,
}

struct Entry {
    /// The message, if it was one alone.
    alone: Option<MessageId>,
    /// Exchanges that are open or remembered.
    exchanges: u32,
}

/// An open exchange.
pub(super) struct Twin<'a> {
    twins: &'a Twins,
    hash: u64,
}

// === impl Twins ===

impl Twins {
    /// An exchange for the message `id`, which says `words`, begins; it ends when dropped.
    pub(super) fn enter(&self, id: MessageId, words: (&str, Sender<'_>, &str)) -> Twin<'_> {
        let hash = self.hasher.hash_one(words);
        let mut known = self.known.lock();
        known.forget(Instant::now());
        let entry = known.by_hash.entry(hash).or_insert(Entry { alone: Some(id), exchanges: 0 });
        entry.exchanges += 1;
        if entry.alone != Some(id) {
            entry.alone = None;
        }
        Twin { twins: self, hash }
    }
}

// === impl Known ===

impl Known {
    /// Forgets what ended too long before `now`.
    fn forget(&mut self, now: Instant) {
        while let Some(&(ended, hash)) = self.ended.front() {
            if now.duration_since(ended) <= REMEMBERED {
                break;
            }
            self.ended.pop_front();
            if let Some(entry) = self.by_hash.get_mut(&hash) {
                entry.exchanges -= 1;
                if entry.exchanges == 0 {
                    self.by_hash.remove(&hash);
                }
            }
        }
    }
}

// === impl Twin ===

impl Twin<'_> {
    /// Whether no other message said the same while this exchange went on, or shortly before.
    pub(super) fn is_alone(&self) -> bool {
        let known = self.twins.known.lock();
        known.by_hash.get(&self.hash).is_some_and(|entry| entry.alone.is_some())
    }
}

impl Drop for Twin<'_> {
    fn drop(&mut self) {
        self.twins.known.lock().ended.push_back((Instant::now(), self.hash));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ids::BatchId, time::UnixMs};

    const WORDS: (&str, Sender<'_>, &str) = ("+15551230001", Sender::From("+15550001111"), "Hi");

    fn id(index: u32) -> MessageId {
        MessageId { batch: BatchId::new(UnixMs(1_790_000_000_000), 99 << 30, 0), index }
    }

    fn forget_all(twins: &Twins) {
        twins.known.lock().forget(Instant::now() + REMEMBERED + Duration::from_secs(1));
    }

    #[test]
    fn another_message_with_the_same_words_is_a_twin_even_once_it_ended() {
        let twins = Twins::default();
        let first = twins.enter(id(0), WORDS);
        assert!(first.is_alone());
        let second = twins.enter(id(1), WORDS);
        assert!(!first.is_alone() && !second.is_alone());
        drop(second);
        assert!(!first.is_alone());
        drop(first);
        assert!(!twins.enter(id(2), WORDS).is_alone());
        forget_all(&twins);
        assert!(twins.enter(id(3), WORDS).is_alone());
    }

    #[test]
    fn other_words_and_the_same_message_again_are_no_twins() {
        let twins = Twins::default();
        let first = twins.enter(id(0), WORDS);
        let others = [
            ("+15551230002", WORDS.1, WORDS.2),
            (WORDS.0, Sender::From("+15550001112"), WORDS.2),
            (WORDS.0, Sender::Service("+15550001111"), WORDS.2),
            (WORDS.0, WORDS.1, "Ho"),
        ];
        let others: Vec<_> = others.into_iter().map(|words| twins.enter(id(1), words)).collect();
        assert!(others.iter().all(Twin::is_alone));
        drop(first);
        assert!(twins.enter(id(0), WORDS).is_alone());
    }

    #[test]
    fn what_is_long_over_is_forgotten() {
        let twins = Twins::default();
        let open = twins.enter(id(0), WORDS);
        for index in 0..1_000 {
            twins.enter(id(index), ("+15551230002", Sender::Nobody, "Hi"));
        }
        forget_all(&twins);
        let known = twins.known.lock();
        assert_eq!((known.by_hash.len(), known.ended.len()), (1, 0));
        drop(known);
        drop(open);
        forget_all(&twins);
        assert!(twins.known.lock().by_hash.is_empty());
    }
}
