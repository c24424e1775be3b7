//! Welcomes that are known here: hosts that want an account's callbacks.
//!
//! The store keeps all of them; this only spares the question. So they are bounded in number, and
//! each is forgotten after a while, for the store forgets them too.
//!
//! However many events wait for a new host, it is asked once at a time.

use std::{
    collections::HashMap,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::client::Exchange;

/// The most that are kept in mind.
const KNOWN_MAX: usize = 10_000;

/// For how long.
const KNOWN: Duration = Duration::from_hours(1);

/// Accounts and hosts that are welcome to each other.
#[derive(Default)]
pub(super) struct Welcomes {
    /// Since when that is known.
    known: Mutex<HashMap<Pair, Instant>>,
    /// Questions under way.
    asked: Mutex<HashMap<Pair, Arc<Question>>>,
}

/// A question that may be asked by many at once, and the one answer to all of them.
type Question = OnceCell<Result<(), Box<Exchange>>>;

/// An account and a host with its port.
pub(super) type Pair = (String, String);

// === impl Welcomes ===

impl Welcomes {
    /// Whether the store need not be asked.
    pub(super) fn know(&self, pair: &Pair, now: Instant) -> bool {
        self.known.lock().get(pair).is_some_and(|since| is_fresh(*since, now))
    }

    /// Asks, unless somebody else does: then their answer is taken.
    pub(super) async fn ask(
        &self,
        pair: Pair,
        ask: impl Future<Output = Result<(), Box<Exchange>>>,
    ) -> Result<(), Box<Exchange>> {
        let question = self.asked.lock().entry(pair.clone()).or_default().clone();
        let answer = question.get_or_init(|| async {
            let answer = ask.await;
            if answer.is_ok() {
                self.keep(pair.clone(), Instant::now());
            }
            self.asked.lock().remove(&pair);
            answer
        });
        answer.await.clone()
    }

    /// Keeps a welcome in mind.
    fn keep(&self, pair: Pair, now: Instant) {
        let mut known = self.known.lock();
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
        assert_eq!(welcomes.known.lock().len(), KNOWN_MAX);
        assert!(welcomes.know(&pair(0), now) && !welcomes.know(&pair(KNOWN_MAX), now));
        // Those that are old make room.
        welcomes.keep(pair(KNOWN_MAX), now + KNOWN);
        assert!(welcomes.know(&pair(KNOWN_MAX), now + KNOWN));
        assert_eq!(welcomes.known.lock().len(), 1);
    }

    #[tokio::test]
    async fn all_who_ask_at_once_take_one_answer() {
        let welcomes = Welcomes::default();
        let refuse = async {
            tokio::task::yield_now().await;
            Err(Box::new(Exchange::failed("no".into())))
        };
        let never = async { panic!("it is asked already") };
        let (first, second) =
            tokio::join!(welcomes.ask(pair(1), refuse), welcomes.ask(pair(1), never));
        assert_eq!(first, Err(Box::new(Exchange::failed("no".into()))));
        assert_eq!(second, first);
        // The next one asks anew, and one who gave up leaves the question to those who wait.
        let gave_up = tokio::time::timeout(
            Duration::from_millis(1),
            welcomes.ask(pair(1), std::future::pending()),
        );
        assert!(gave_up.await.is_err());
        welcomes.ask(pair(1), async { Ok(()) }).await.unwrap();
        assert!(welcomes.know(&pair(1), Instant::now()) && welcomes.asked.lock().is_empty());
    }
}
