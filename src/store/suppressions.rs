//! Opt-outs: for each account a list of numbers that get nothing from it.
//!
//! [`Suppressions`] is the port; an entry is a number and nothing else, so that a million of them cost
//! little. [`OptOuts`] is what the others use: it remembers for a moment which lists are empty, so that
//! an account without opt-outs pays one look every [`LOOK_EVERY`] and no more.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::StoreError;
use crate::domain::{
    chunk::{self, NewChunk},
    number::Number,
    recipient::Recipient,
};

/// A list that was empty, or was not, is taken to be so for this long. A process knows of its own changes
/// at once.
pub const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Whoever looked so recently knows of all that was added to a part of the store before that went away.
const LOOKED_WITHIN: Duration = Duration::from_secs(5);

/// So many numbers are asked for, added or removed in one operation of a store at most.
pub const NUMBERS_MAX: usize = 1_000;

/// The lists of those who get nothing, one an account.
#[async_trait]
pub trait Suppressions: Send + Sync {
    /// Puts numbers on the account's list; gives how many were not on it. Each [`NUMBERS_MAX`] are a step
    /// of their own.
    ///
    /// # Errors
    /// [`StoreError`]: some may be on the list. Adding again does no harm; what a call added whose reply
    /// was lost counts as there already.
    async fn add(&self, account: &str, numbers: &[Number]) -> Result<u64, StoreError>;

    /// Takes numbers off the account's list; gives how many were on it. Steps as in [`Self::add`].
    ///
    /// # Errors
    /// [`StoreError`]: some may be off the list. Removing again does no harm.
    async fn remove(&self, account: &str, numbers: &[Number]) -> Result<u64, StoreError>;

    /// Whether each of the numbers is on the account's list, in their order.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn contains(&self, account: &str, numbers: &[Number]) -> Result<Vec<bool>, StoreError>;

    /// At most `limit` numbers of the account's list that come after `after`, and where to go on; `None`
    /// at the end. The order is the store's own and never changes: what is on the list all the while is
    /// told once.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn list(
        &self,
        account: &str,
        after: Option<Number>,
        limit: usize,
    ) -> Result<(Vec<Number>, Option<Number>), StoreError>;

    /// How many numbers are on the account's list, at the same cost for any number of them.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn count(&self, account: &str) -> Result<u64, StoreError>;

    /// For each part of the store that a list is spread over whether there is something of the account's, as far as
    /// that part can say so now.
    async fn parts(&self, account: &str) -> Vec<Result<bool, StoreError>> {
        vec![self.count(account).await.map(|count| count > 0)]
    }
}

/// The lists as a process uses them.
#[derive(Clone)]
pub struct OptOuts {
    port: Arc<dyn Suppressions>,
    /// What was seen of the lists of late.
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    lists: HashMap<String, Look>,
    /// How many changes this process has made: what was looked up beside one says nothing.
    changes: u64,
}

/// What was seen of one list.
#[derive(Clone)]
struct Look {
    at: Instant,
    /// Whether there was something in each part of the store.
    parts: Vec<bool>,
}

// === impl OptOuts ===

impl OptOuts {
    /// The lists of a store.
    #[must_use]
    pub fn new(port: Arc<dyn Suppressions>) -> Self {
        Self { port, seen: Arc::default() }
    }

    /// See [`Suppressions::add`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add(&self, account: &str, numbers: &[Number]) -> Result<u64, StoreError> {
        let added = self.port.add(account, numbers).await;
        // Perhaps it was done even if it failed.
        self.seen.lock().forget(account);
        added
    }

    /// See [`Suppressions::remove`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove(&self, account: &str, numbers: &[Number]) -> Result<u64, StoreError> {
        let removed = self.port.remove(account, numbers).await;
        self.seen.lock().forget(account);
        removed
    }

    /// See [`Suppressions::contains`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn contains(
        &self,
        account: &str,
        numbers: &[Number],
    ) -> Result<Vec<bool>, StoreError> {
        self.port.contains(account, numbers).await
    }

    /// See [`Suppressions::list`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list(
        &self,
        account: &str,
        after: Option<Number>,
        limit: usize,
    ) -> Result<(Vec<Number>, Option<Number>), StoreError> {
        self.port.list(account, after, limit).await
    }

    /// See [`Suppressions::count`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn count(&self, account: &str) -> Result<u64, StoreError> {
        self.port.count(account).await
    }

    /// Which of a chunk's open messages (state byte 0) go to numbers on the account's list, by their places
    /// in the chunk. `recipients` is the packed form. Nothing is read or asked if the list is empty.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn places(
        &self,
        account: &str,
        states: &[u8],
        recipients: &[u8],
    ) -> Result<Vec<u16>, StoreError> {
        if self.is_empty(account).await? {
            return Ok(Vec::new());
        }
        let (mut places, mut numbers) = (Vec::new(), Vec::new());
        let all = (0..=u16::MAX).zip(states).zip(chunk::entries(recipients));
        for ((place, _), entry) in all.filter(|((_, state), _)| **state == 0) {
            if let Ok(recipient) = Recipient::parse(entry.to) {
                places.push(place);
                numbers.push(recipient.into());
            }
        }
        let found = self.contains(account, &numbers).await?;
        Ok(places.into_iter().zip(found).filter_map(|(place, is)| is.then_some(place)).collect())
    }

    /// Ends the open messages of new chunks that go to numbers on the account's list; gives how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn apply(&self, account: &str, chunks: &mut [NewChunk]) -> Result<u32, StoreError> {
        let mut ended = 0;
        for chunk in chunks {
            for place in self.places(account, &chunk.states, &chunk.recipients).await? {
                ended += u32::from(chunk.opt_out(place));
            }
        }
        Ok(ended)
    }

    /// Whether the account's list is empty, or was so within [`LOOK_EVERY`]. A part of the store that is away counts
    /// as it was last seen, if somebody has looked all the while: nothing was added there since, and an
    /// account without opt-outs is not held up by it.
    async fn is_empty(&self, account: &str) -> Result<bool, StoreError> {
        let (known, changes) = {
            let seen = self.seen.lock();
            let known = seen.lists.get(account).filter(|look| look.at.elapsed() < LOOKED_WITHIN);
            if let Some(look) = known.filter(|look| look.at.elapsed() < LOOK_EVERY) {
                return Ok(look.is_empty());
            }
            (known.cloned(), seen.changes)
        };
        let mut parts = self.port.parts(account).await;
        for (number, part) in parts.iter_mut().enumerate() {
            if part.as_ref().is_err_and(StoreError::is_passing)
                && let Some(was) = known.as_ref().and_then(|look| look.parts.get(number))
            {
                *part = Ok(*was);
            }
        }
        let parts = parts.into_iter().collect::<Result<_, _>>()?;
        let look = Look { at: Instant::now(), parts };
        let is_empty = look.is_empty();
        let mut seen = self.seen.lock();
        if seen.changes == changes {
            seen.lists.insert(account.to_owned(), look);
        }
        Ok(is_empty)
    }
}

// === impl Look ===

impl Look {
    fn is_empty(&self) -> bool {
        !self.parts.contains(&true)
    }
}

// === impl Seen ===

impl Seen {
    fn forget(&mut self, account: &str) {
        self.changes += 1;
        self.lists.remove(account);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lists in two parts of a store, each of which has something, has nothing, or is away.
    #[derive(Default)]
    struct Parts(Mutex<[Option<bool>; 2]>);

    #[async_trait]
    impl Suppressions for Parts {
        async fn add(&self, _: &str, _: &[Number]) -> Result<u64, StoreError> {
            Ok(0)
        }

        async fn remove(&self, _: &str, _: &[Number]) -> Result<u64, StoreError> {
            Ok(0)
        }

        async fn contains(&self, _: &str, _: &[Number]) -> Result<Vec<bool>, StoreError> {
            Ok(Vec::new())
        }

        async fn list(
            &self,
            _: &str,
            _: Option<Number>,
            _: usize,
        ) -> Result<(Vec<Number>, Option<Number>), StoreError> {
            Ok((Vec::new(), None))
        }

        async fn count(&self, _: &str) -> Result<u64, StoreError> {
            Ok(0)
        }

        async fn parts(&self, _: &str) -> Vec<Result<bool, StoreError>> {
            let away = || StoreError::Unreachable("it is away".to_owned());
            self.0.lock().map(|part| part.ok_or_else(away)).into()
        }
    }

    /// Makes the last look of an account so much older.
    fn age(lists: &OptOuts, by: Duration) {
        for look in lists.seen.lock().lists.values_mut() {
            look.at -= by;
        }
    }

    #[tokio::test]
    async fn a_part_that_is_away_counts_as_it_was_and_the_others_as_they_are() {
        let port = Arc::new(Parts(Mutex::new([Some(false), Some(false)])));
        let lists = OptOuts::new(Arc::clone(&port) as _);
        assert!(lists.is_empty("acme").await.expect("an answer"));
        *port.0.lock() = [None, Some(false)];
        for _ in 0..3 {
            age(&lists, LOOK_EVERY);
            assert!(lists.is_empty("acme").await.expect("an answer"));
        }
        // Nobody has seen this account's list, and of the other it is too long ago.
        assert!(lists.is_empty("zeta").await.is_err());
        let others = lists.clone();
        *port.0.lock() = [None, Some(true)];
        age(&others, LOOK_EVERY);
        assert!(!others.is_empty("acme").await.expect("an answer"));
        *port.0.lock() = [None, Some(false)];
        age(&lists, LOOKED_WITHIN);
        assert!(lists.is_empty("acme").await.is_err());
    }
}
