//! The doorbell: what wakes idle workers and notifiers at once.
//!
//! It only saves waiting. Whoever hears nothing finds the same work by looking once a second.

use tokio::sync::broadcast;

use crate::domain::ids::BatchId;

/// How many rings a slow listener may fall behind before it is told to look everywhere.
const RINGS_MAX: usize = 1024;

/// What happened in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ring {
    /// This provider has something to claim.
    Work(String),
    /// This provider was paused, or resumed.
    Paused(String),
    /// An event is due.
    Event,
    /// A client wishes something of this batch.
    Wish(BatchId),
    /// Rings may have been missed: look everywhere.
    Everything,
}

/// Where rings are heard.
#[derive(Clone, Debug)]
pub struct Doorbell(broadcast::Sender<Ring>);

/// One who listens.
#[derive(Debug)]
pub struct Listener(broadcast::Receiver<Ring>);

// === impl Doorbell ===

impl Default for Doorbell {
    fn default() -> Self {
        Self(broadcast::channel(RINGS_MAX).0)
    }
}

impl Doorbell {
    /// Rings for everyone who listens; in silence if nobody does.
    pub fn ring(&self, ring: Ring) {
        // An error only says that nobody listens.
        let _ = self.0.send(ring);
    }

    /// Begins to listen. Listen first, then look, then wait.
    #[must_use]
    pub fn listen(&self) -> Listener {
        Listener(self.0.subscribe())
    }
}

// === impl Listener ===

impl Listener {
    /// A ring that was not heard yet, without waiting for one.
    pub fn heard(&mut self) -> Option<Ring> {
        match self.0.try_recv() {
            Ok(ring) => Some(ring),
            Err(broadcast::error::TryRecvError::Lagged(_)) => Some(Ring::Everything),
            Err(_) => None,
        }
    }

    /// The next ring. Never resolves once the store is gone.
    pub async fn next(&mut self) -> Ring {
        match self.0.recv().await {
            Ok(ring) => ring,
            Err(broadcast::error::RecvError::Lagged(_)) => Ring::Everything,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}
