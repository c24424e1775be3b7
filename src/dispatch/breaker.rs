//! The breaker of a provider: whether it counts as away.
//!
//! It is closed until so many tries in a row have failed in a way that says that the provider is away;
//! what it refuses or throttles is an answer like any other. Then it is open: whoever has another way
//! takes it. After a while it is half open: one try at a time finds out whether the provider is back.
//! Only tries that were begun after it opened tell anything then. Each process has its own.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Instant,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, futures::Notified},
    time::sleep_until,
};

use crate::{domain::outcome::Outcome, providers::BreakerSettings};

pub(super) struct Breaker {
    settings: BreakerSettings,
    /// Failures in a row, while it is closed.
    failures: AtomicU32,
    /// Whether `opened` is something: looked at for every message.
    is_open: AtomicBool,
    opened: Mutex<Option<Opened>>,
    /// Rung when it closes, and when a trial has ended.
    changed: Notify,
}

/// That it is open.
#[derive(Clone, Copy)]
struct Opened {
    since: Instant,
    /// Before that nothing is tried.
    until: Instant,
    on_trial: bool,
}

/// Whether a message may leave.
pub(super) enum Verdict<'a> {
    /// The provider is there.
    Closed,
    /// It may be back: this try finds out.
    HalfOpen(Trial<'a>),
    /// It is away.
    Open,
}

/// The one try that finds out whether the provider is back; over when dropped.
pub(super) struct Trial<'a>(&'a Breaker);

/// What a try has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The provider is away.
    Opened,
    /// It is still away.
    StillOpen,
    /// It is back.
    Closed,
}

// === impl Breaker ===

impl Breaker {
    pub(super) fn new(settings: BreakerSettings) -> Self {
        Self {
            settings,
            failures: AtomicU32::new(0),
            is_open: AtomicBool::new(false),
            opened: Mutex::new(None),
            changed: Notify::new(),
        }
    }

    pub(super) fn settings(&self) -> BreakerSettings {
        self.settings
    }

    /// Whether the provider counts as away.
    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// Whether a message may leave at `now`.
    pub(super) fn ask(&self, now: Instant) -> Verdict<'_> {
        if !self.is_open() {
            return Verdict::Closed;
        }
        match &mut *self.opened.lock() {
            None => Verdict::Closed,
            Some(opened) if now >= opened.until && !opened.on_trial => {
                opened.on_trial = true;
                Verdict::HalfOpen(Trial(self))
            }
            Some(_) => Verdict::Open,
        }
    }

    /// Whether nothing may leave at `now`, not even to find out.
    pub(super) fn is_shut(&self, now: Instant) -> bool {
        self.is_open()
            && self.opened.lock().is_some_and(|opened| now < opened.until || opened.on_trial)
    }

    /// When the next try may find out, if it is open and that is known.
    pub(super) fn next_trial(&self) -> Option<Instant> {
        self.opened.lock().filter(|opened| !opened.on_trial).map(|opened| opened.until)
    }

    /// Resolves when another answer than [`Verdict::Open`] may be had.
    pub(super) async fn until_asked_again(&self) {
        // Listen first, then look.
        let changed: Notified<'_> = self.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        match self.next_trial() {
            _ if !self.is_open() => {}
            Some(next) => tokio::select! {
                () = changed => {}
                () = sleep_until(next.into()) => {}
            },
            None => changed.await,
        }
    }

    /// Takes note of what a try that was begun at `began` came to at `now`.
    pub(super) fn note(&self, outcome: &Outcome, began: Instant, now: Instant) -> Option<News> {
        let failed = is_failure(outcome);
        if !self.is_open() {
            return self.note_closed(failed, now);
        }
        let mut opened = self.opened.lock();
        let known = opened.as_mut().filter(|known| began >= known.since)?;
        if failed {
            // Before that nothing was expected of it.
            let is_news = now >= known.until;
            known.until = if is_news { now + self.settings.cool_down } else { known.until };
            return is_news.then_some(News::StillOpen);
        }
        *opened = None;
        self.failures.store(0, Ordering::Relaxed);
        self.is_open.store(false, Ordering::Relaxed);
        self.changed.notify_waiters();
        Some(News::Closed)
    }

    fn note_closed(&self, failed: bool, now: Instant) -> Option<News> {
        if !failed {
            if self.failures.load(Ordering::Relaxed) > 0 {
                self.failures.store(0, Ordering::Relaxed);
            }
            return None;
        }
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 < self.settings.failures {
            return None;
        }
        let mut opened = self.opened.lock();
        if opened.is_some() {
            return None;
        }
        let until = now + self.settings.cool_down;
        *opened = Some(Opened { since: now, until, on_trial: false });
        self.is_open.store(true, Ordering::Relaxed);
        Some(News::Opened)
    }
}

// === impl Trial ===

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if let Some(opened) = &mut *self.0.opened.lock() {
            opened.on_trial = false;
        }
        self.0.changed.notify_waiters();
    }
}

/// Whether it says that the provider is away: it could not be reached, or gave no answer, or said itself
/// that it does not work.
fn is_failure(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Temporary { .. } | Outcome::Unknown { .. } => true,
        Outcome::Accepted { .. } | Outcome::Rejected { .. } | Outcome::Throttled { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;
    use crate::domain::outcome::{SendError, Throttled};

    const COOL_DOWN: Duration = Duration::from_secs(30);
    const SECOND: Duration = Duration::from_secs(1);

    fn breaker() -> Breaker {
        Breaker::new(BreakerSettings { failures: 3, cool_down: COOL_DOWN })
    }

    fn error() -> SendError {
        SendError::passing("provider_unreachable", "could not connect")
    }

    fn refused() -> Outcome {
        Outcome::Temporary { certain: true, after: None, error: error() }
    }

    fn accepted() -> Outcome {
        Outcome::Accepted { provider_message_id: None, receipt_follows: false }
    }

    fn verdict(breaker: &Breaker, now: Instant) -> &'static str {
        match breaker.ask(now) {
            Verdict::Closed => "closed",
            Verdict::HalfOpen(_) => "half open",
            Verdict::Open => "open",
        }
    }

    /// One that has just opened.
    fn opened(now: Instant) -> Breaker {
        let breaker = breaker();
        let news: Vec<_> = (0..3).map(|_| breaker.note(&refused(), now, now)).collect();
        assert_eq!(news, [None, None, Some(News::Opened)]);
        breaker
    }

    #[test]
    fn only_failures_in_a_row_that_say_it_is_away_open_it() {
        let (breaker, now) = (breaker(), Instant::now());
        let unknown = || Outcome::Unknown { error: error() };
        let throttled =
            Outcome::Throttled { after: SECOND, who: Throttled::Provider, error: error() };
        let rejected = Outcome::Rejected { error: error() };
        for answer in [accepted(), throttled, rejected] {
            for outcome in [refused(), unknown(), answer] {
                assert_eq!(breaker.note(&outcome, now, now), None);
            }
        }
        assert_eq!(verdict(&breaker, now), "closed");
        for outcome in [unknown(), refused()] {
            assert_eq!(breaker.note(&outcome, now, now), None);
        }
        assert_eq!(breaker.note(&unknown(), now, now), Some(News::Opened));
        assert_eq!(verdict(&breaker, now), "open");
    }

    #[test]
    fn after_the_cool_down_one_try_at_a_time_finds_out() {
        let now = Instant::now();
        let breaker = opened(now);
        assert!(breaker.is_shut(now) && breaker.next_trial() == Some(now + COOL_DOWN));
        let later = now + COOL_DOWN;
        let Verdict::HalfOpen(trial) = breaker.ask(later) else { panic!("no trial") };
        assert_eq!(verdict(&breaker, later), "open");
        assert!(breaker.is_shut(later) && breaker.next_trial().is_none());
        // It fails: all wait again.
        let ended = later + SECOND;
        assert_eq!(breaker.note(&refused(), later, ended), Some(News::StillOpen));
        drop(trial);
        assert_eq!(verdict(&breaker, ended + 29 * SECOND), "open");
        // It was not made after all: another one may.
        let again = ended + COOL_DOWN;
        assert_eq!(verdict(&breaker, again), "half open");
        let Verdict::HalfOpen(trial) = breaker.ask(again) else { panic!("no trial") };
        assert_eq!(breaker.note(&accepted(), again, again), Some(News::Closed));
        drop(trial);
        assert_eq!(verdict(&breaker, again), "closed");
        // The count begins anew.
        assert_eq!(breaker.note(&refused(), again, again), None);
    }

    #[test]
    fn what_was_begun_before_it_opened_tells_nothing() {
        let begun = Instant::now();
        let now = begun + SECOND;
        let breaker = opened(now);
        assert_eq!(breaker.note(&accepted(), begun, now), None);
        assert_eq!(breaker.note(&refused(), begun, now + COOL_DOWN), None);
        assert_eq!(breaker.note(&refused(), now, now + SECOND), None);
        assert_eq!(verdict(&breaker, now), "open");
        assert_eq!(breaker.note(&accepted(), now, now + SECOND), Some(News::Closed));
    }

    #[tokio::test]
    async fn who_waits_is_told_when_it_closes_and_when_a_trial_has_ended() {
        let now = Instant::now();
        let breaker = opened(now);
        let mut waits = Box::pin(breaker.until_asked_again());
        assert!(waits.as_mut().now_or_never().is_none());
        let Verdict::HalfOpen(trial) = breaker.ask(now + COOL_DOWN) else { panic!("no trial") };
        drop(trial);
        waits.await;
        let mut waits = Box::pin(breaker.until_asked_again());
        assert!(waits.as_mut().now_or_never().is_none());
        breaker.note(&accepted(), now, now);
        waits.await;
        breaker.until_asked_again().await;
    }
}
