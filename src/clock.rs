//! The one wall clock, passed to whoever must know the time of day: ids and signatures.
//!
//! Leases, retries and rates go by the store's time, which is that of Redis; the embedded store's
//! leases and retries go by this clock, for there is no other machine.

use std::{fmt, sync::Arc};

use crate::domain::time::UnixMs;

/// A clock that tests can replace.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> UnixMs + Send + Sync>);

// === impl Clock ===

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that asks")]
        Self(Arc::new(|| jiff::Timestamp::now().into()))
    }

    /// A clock that says what `now` says.
    pub fn new(now: impl Fn() -> UnixMs + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time of day.
    #[must_use]
    pub fn now(&self) -> UnixMs {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}
