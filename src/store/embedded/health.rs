//! Whether the store can be relied on just now: what the writer and the syncer found last.

use std::sync::atomic::{AtomicBool, Ordering};

use super::EmbeddedStore;
use crate::store::StoreError;

/// Set and cleared by the writer and the syncer.
#[derive(Default)]
pub(super) struct Health {
    /// The last commit failed.
    pub(super) uncommitted: Flag,
    /// The last sync failed: a loss of power may take what was answered since.
    pub(super) unsynced: Flag,
    /// The disk has little space left: what there is serves what was accepted.
    pub(super) short: Flag,
}

/// Something that is so, or is not.
#[derive(Default)]
pub(super) struct Flag(AtomicBool);

// === impl Flag ===

impl Flag {
    /// Sets it, and gives what it was before.
    pub(super) fn set(&self, to: bool) -> bool {
        self.0.swap(to, Ordering::AcqRel)
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

// === impl EmbeddedStore ===

impl EmbeddedStore {
    /// Refuses new batches while the store could not keep its word for them.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is to be accepted.
    pub(super) fn accepts(&self) -> Result<(), StoreError> {
        if self.health.short.is_set() {
            return Err(StoreError::Full("the disk has little space left".to_owned()));
        }
        self.synced()
    }

    /// Whether what was committed reaches the disk.
    ///
    /// # Errors
    /// [`StoreError`] if the last sync failed.
    pub(super) fn synced(&self) -> Result<(), StoreError> {
        if self.health.unsynced.is_set() {
            return Err(StoreError::Unreachable(
                "the disk does not keep what is written".to_owned(),
            ));
        }
        Ok(())
    }
}
