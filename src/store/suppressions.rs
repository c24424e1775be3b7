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
    /// When each account's list was looked at, and whether it was empty.
    lists: HashMap<String, (Instant, bool)>,
    /// How many changes this process has made: what was looked up beside one says nothing.
    changes: u64,
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

    /// Whether the account's list is empty, or was so within [`LOOK_EVERY`]; or when it was last looked at, if the
    /// store does not answer: what notes that a list has begun is where every first number must go, so while that is
    /// away no list begins, and a part of the store that is away takes nothing from accounts without lists.
    async fn is_empty(&self, account: &str) -> Result<bool, StoreError> {
        let (now, changes) = {
            let (now, seen) = (Instant::now(), self.seen.lock());
            if let Some((at, is_empty)) = seen.lists.get(account)
                && now.duration_since(*at) < LOOK_EVERY
            {
                return Ok(*is_empty);
            }
            (now, seen.changes)
        };
        let is_empty = match self.port.count(account).await {
            Ok(count) => count == 0,
            Err(error) if error.is_passing() && self.was_empty(account) => return Ok(true),
            Err(error) => return Err(error),
        };
        let mut seen = self.seen.lock();
        if seen.changes == changes {
            seen.lists.insert(account.to_owned(), (now, is_empty));
        }
        Ok(is_empty)
    }
}

impl OptOuts {
    /// Whether the account's list was empty when it was last looked at.
    fn was_empty(&self, account: &str) -> bool {
        self.seen.lock().lists.get(account).is_some_and(|(_, is_empty)| *is_empty)
    }
}

// === impl Seen ===

impl Seen {
    fn forget(&mut self, account: &str) {
        self.changes += 1;
        self.lists.remove(account);
    }
}
