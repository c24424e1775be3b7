//! A provider's rate as far as it may be used after the provider throttled.
//!
//! The store keeps how much that is, for all workers; this is what one worker knows of it. It is learnt
//! with the pauses: at once when the provider throttles, and at least every half second.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::{
    domain::{share::Share, time::millis, units::Rate},
    providers::CommonSettings,
};

pub(super) struct Adaptive {
    provider: String,
    rate: Rate,
    /// In millionths.
    share: AtomicU32,
    epoch: Instant,
    /// When a cut was last wanted, in milliseconds after `epoch`, from 1.
    wanted_ms: AtomicU64,
}

// === impl Adaptive ===

impl Adaptive {
    /// What these settings say of a provider; `None` if its rate stays as it is.
    pub(super) fn new(provider: &str, settings: &CommonSettings) -> Option<Self> {
        let rate = settings.rate.filter(|_| settings.adaptive)?;
        Some(Self {
            provider: provider.to_owned(),
            rate,
            share: AtomicU32::new(Share::FULL.millionths()),
            epoch: Instant::now(),
            wanted_ms: AtomicU64::new(0),
        })
    }

    /// How much of the rate may be used.
    pub(super) fn share(&self) -> Share {
        Share::from_millionths(self.share.load(Ordering::Relaxed))
    }

    /// Takes note of what the store says.
    pub(super) fn learn(&self, share: Share) {
        let before = self.share.swap(share.millionths(), Ordering::Relaxed);
        if share == Share::FULL && before < Share::FULL.millionths() {
            let rate = self.rate.to_string();
            tracing::info!(
                provider.name = self.provider,
                rate,
                "a provider's rate is back in full"
            );
        }
    }

    /// Takes note of a cut that this worker had made.
    pub(super) fn cut(&self, share: Share) {
        self.share.store(share.millionths(), Ordering::Relaxed);
        let (now, full) = (self.rate.at(share), self.rate.to_string());
        tracing::warn!(
            provider.name = self.provider,
            rate = now,
            of = full,
            "a provider's rate is cut"
        );
    }

    /// Whether a cut should be asked for at `now`: many exchanges end with the same news.
    pub(super) fn wants_cut(&self, now: Instant) -> bool {
        let now_ms = millis(now.duration_since(self.epoch)) + 1;
        let every_ms = millis(Share::CUT_EVERY);
        let is_new = |last: u64| (last == 0 || now_ms >= last + every_ms).then_some(now_ms);
        self.wanted_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_new).is_ok()
    }

    /// The time between two messages, if it is `interval` at the full rate.
    pub(super) fn stretch(&self, interval: Duration) -> Duration {
        self.share().stretch(interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adaptive(rate: Option<&str>, adaptive: bool) -> Option<Adaptive> {
        let rate = rate.map(|rate| rate.parse().unwrap());
        Adaptive::new("carrier", &CommonSettings { rate, adaptive, ..CommonSettings::default() })
    }

    #[test]
    fn only_a_rate_that_may_adapt_does() {
        assert!(adaptive(None, true).is_none() && adaptive(Some("10/s"), false).is_none());
        let adaptive = adaptive(Some("10/s"), true).unwrap();
        let interval = Duration::from_millis(100);
        assert_eq!(adaptive.stretch(interval), interval);
        adaptive.cut(Share::FULL.cut());
        assert_eq!(adaptive.stretch(interval), 2 * interval);
        adaptive.learn(Share::FULL);
        assert_eq!(adaptive.stretch(interval), interval);
    }

    #[test]
    fn a_cut_is_asked_for_once_a_second() {
        let adaptive = adaptive(Some("10/s"), true).unwrap();
        let now = adaptive.epoch;
        assert!(adaptive.wants_cut(now) && !adaptive.wants_cut(now));
        assert!(!adaptive.wants_cut(now + Duration::from_millis(999)));
        assert!(adaptive.wants_cut(now + Share::CUT_EVERY));
    }
}
