//! Places where a test has the process end as a crash would.
//!
//! The variable `RINGBACK_CRASH_AT` names one, and how many times it is passed until the process
//! ends there: `accepted:3`. Compiled in only with the feature `crash-points`, which the tests turn
//! on and nothing else. Without it a point is an empty function.

/// The process ends here, without a word and with nothing tidied up, if it was told to.
#[cfg(feature = "crash-points")]
pub(crate) fn point(name: &str) {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    };

    static ARMED: LazyLock<Option<(String, AtomicU64)>> = LazyLock::new(|| {
        let armed = std::env::var("RINGBACK_CRASH_AT").ok()?;
        let (name, times) = armed.split_once(':').unwrap_or((&armed, "1"));
        Some((name.to_owned(), AtomicU64::new(times.parse().unwrap_or(1))))
    });
    let Some((armed, left)) = &*ARMED else { return };
    if armed == name && left.fetch_sub(1, Ordering::Relaxed) == 1 {
        std::process::abort();
    }
}

/// Nothing.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub(crate) fn point(_: &str) {}
