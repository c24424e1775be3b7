//! Rates and pauses of providers, in memory: no other process sends, and a run that a crash loses
//! is one that is not sent.
//!
//! A rate is a clock that moves ahead by what is handed out (GCRA), so that all who ask together
//! never exceed it. The clock that counts here can't be stepped.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{
    domain::share::Share,
    store::{Grant, GrantRequest, Pause},
};

/// Beyond so many clocks those that have passed are forgotten.
const CLOCKS_MAX: usize = 4_096;

/// The longest pause of a provider.
const PAUSE_MAX: Duration = Duration::from_mins(10);

/// The paces of all providers.
#[derive(Default)]
pub(super) struct Rates(Mutex<HashMap<String, Pace>>);

/// A provider's pace.
struct Pace {
    /// When the next run may begin; it may lie in the past.
    clock: Instant,
    paused_until: Instant,
    /// The same of rates below the provider's, by name.
    below: HashMap<String, Instant>,
    /// What the last cut left of the rate, and since when it grows.
    share: Share,
    since: Instant,
    /// When it may be cut again.
    uncut_until: Instant,
    /// Until when it is left alone, if it is away.
    away_until: Option<Instant>,
}

// === impl Rates ===

impl Rates {
    /// Hands out a run of send times, if there is one to be had at `now`.
    pub(super) fn grant(&self, now: Instant, request: &GrantRequest<'_>) -> Grant {
        let mut paces = self.0.lock();
        let pace = pace(&mut paces, request.provider, now);
        let paused = pace.paused_until.saturating_duration_since(now);
        if !paused.is_zero() {
            return Grant::Later { wait: paused, paused: true };
        }
        let earliest = now.checked_sub(Duration::from_micros(request.burst_us)).unwrap_or(now);
        let mut first = pace.clock.max(earliest);
        let base = first.max(now);
        for level in request.below {
            let clock = pace.below.get(level.name).map_or(earliest, |clock| earliest.max(*clock));
            let wait = clock.saturating_duration_since(base);
            if !wait.is_zero() {
                return Grant::Later { wait, paused: false };
            }
            first = first.max(clock);
        }
        let ahead = first.saturating_duration_since(now);
        let wait = ahead.saturating_sub(Duration::from_micros(request.ahead_us));
        if !wait.is_zero() {
            return Grant::Later { wait, paused: false };
        }
        pace.take(now, first, request);
        let first_in_us = if ahead.is_zero() {
            -micros(now.saturating_duration_since(first))
        } else {
            // Never early.
            micros(ahead) + 1
        };
        Grant::Run { first_in_us }
    }

    /// Stops a provider; never shortens a pause. If it `cuts`, gives what that left of the rate, if it was not
    /// cut just before.
    pub(super) fn pause(
        &self,
        now: Instant,
        provider: &str,
        pause: Duration,
        cuts: bool,
    ) -> Option<Share> {
        let mut paces = self.0.lock();
        let pace = self::pace(&mut paces, provider, now);
        pace.paused_until = pace.paused_until.max(now + pause.min(PAUSE_MAX));
        if !cuts || now < pace.uncut_until {
            return None;
        }
        pace.share = pace.share_at(now).cut();
        pace.since = pace.paused_until;
        pace.uncut_until = pace.paused_until.max(now + Share::CUT_EVERY);
        Some(pace.share)
    }

    /// Notes that a provider is away, or that it is back.
    pub(super) fn tell_away(&self, now: Instant, provider: &str, cool_down: Option<Duration>) {
        let mut paces = self.0.lock();
        pace(&mut paces, provider, now).away_until = cool_down.map(|left| now + left);
    }

    /// How a provider stands, but for whether it is stopped.
    pub(super) fn paused(&self, now: Instant, provider: &str) -> Pause {
        let paces = self.0.lock();
        let Some(pace) = paces.get(provider) else { return Pause::default() };
        Pause {
            left: pace.paused_until.saturating_duration_since(now),
            stopped: false,
            share: pace.share_at(now),
            away: pace.away_until.map(|until| until.saturating_duration_since(now)),
        }
    }
}

// === impl Pace ===

impl Pace {
    /// How much of the rate may be used.
    fn share_at(&self, now: Instant) -> Share {
        self.share.grown(now.saturating_duration_since(self.since))
    }
}

// === impl Pace ===

impl Pace {
    /// Moves all clocks ahead by a run from `first` on.
    fn take(&mut self, now: Instant, first: Instant, request: &GrantRequest<'_>) {
        let after = |interval: Duration| first + interval.saturating_mul(request.wanted);
        self.clock = after(request.interval);
        if self.below.len() >= CLOCKS_MAX {
            self.below.retain(|_, clock| *clock > now);
        }
        for level in request.below {
            match self.below.get_mut(level.name) {
                Some(clock) => *clock = after(level.interval),
                None => _ = self.below.insert(level.name.to_owned(), after(level.interval)),
            }
        }
    }
}

fn pace<'a>(paces: &'a mut HashMap<String, Pace>, provider: &str, now: Instant) -> &'a mut Pace {
    // The providers of a configuration: a handful.
    let fresh = || Pace {
        clock: now,
        paused_until: now,
        below: HashMap::new(),
        share: Share::FULL,
        since: now,
        uncut_until: now,
        away_until: None,
    };
    paces.entry(provider.to_owned()).or_insert_with(fresh)
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Level;

    fn request(wanted: u32) -> GrantRequest<'static> {
        let interval = Duration::from_millis(10);
        GrantRequest {
            provider: "p",
            interval,
            burst_us: 50_000,
            wanted,
            wanted_max: wanted,
            ahead_us: 1_000_000,
            below: &[],
        }
    }

    #[test]
    fn clocks_that_have_passed_are_forgotten() {
        let (rates, now) = (Rates::default(), Instant::now());
        let names: Vec<_> = (0..=CLOCKS_MAX).map(|nth| nth.to_string()).collect();
        for (name, second) in names.iter().zip(0..) {
            let below = [Level { name, interval: Duration::from_millis(10) }];
            let later = now + Duration::from_secs(second);
            let granted = rates.grant(later, &GrantRequest { below: &below, ..request(1) });
            assert!(matches!(granted, Grant::Run { .. }), "{granted:?}");
        }
        assert_eq!(rates.0.lock()["p"].below.len(), 1);
    }

    #[test]
    fn runs_follow_each_other_without_a_gap_or_an_overlap() {
        let (rates, now) = (Rates::default(), Instant::now());
        assert_eq!(rates.grant(now, &request(5)), Grant::Run { first_in_us: 0 });
        assert_eq!(rates.grant(now, &request(5)), Grant::Run { first_in_us: 50_001 });
        let later = now + Duration::from_millis(120);
        assert_eq!(rates.grant(later, &request(5)), Grant::Run { first_in_us: -20_000 });
    }

    #[test]
    fn what_was_not_used_is_caught_up_by_the_burst_alone() {
        let (rates, now) = (Rates::default(), Instant::now());
        rates.grant(now, &request(1));
        let later = now + Duration::from_mins(1);
        assert_eq!(rates.grant(later, &request(1)), Grant::Run { first_in_us: -50_000 });
    }

    #[test]
    fn nothing_is_handed_out_far_ahead_or_in_a_pause() {
        let (rates, now) = (Rates::default(), Instant::now());
        rates.grant(now, &request(150));
        let wait = Duration::from_millis(500);
        assert_eq!(rates.grant(now, &request(1)), Grant::Later { wait, paused: false });
        rates.pause(now, "p", Duration::from_secs(5), false);
        rates.pause(now, "p", Duration::from_secs(1), false);
        let wait = Duration::from_secs(5);
        assert_eq!(rates.grant(now, &request(1)), Grant::Later { wait, paused: true });
        assert_eq!(rates.paused(now, "p"), Pause { left: wait, ..Pause::default() });
        assert_eq!(rates.paused(now, "other"), Pause::default());
    }

    #[test]
    fn a_cut_rate_grows_from_the_end_of_the_pause_on() {
        let (rates, now) = (Rates::default(), Instant::now());
        let second = Duration::from_secs(1);
        let half = Share::FULL.cut();
        assert_eq!(rates.pause(now, "p", 5 * second, true), Some(half));
        // The same news again, and again within the pause.
        assert_eq!(rates.pause(now, "p", 5 * second, true), None);
        assert_eq!(rates.pause(now + 4 * second, "p", second, true), None);
        assert_eq!(rates.paused(now + 5 * second, "p").share, half);
        assert_eq!(rates.paused(now + 20 * second, "p").share, half.grown(15 * second));
        assert_eq!(rates.paused(now + 35 * second, "p").share, Share::FULL);
        let again = rates.pause(now + 20 * second, "p", Duration::ZERO, true);
        assert_eq!(again, Some(half.grown(15 * second).cut()));
        assert_eq!(rates.pause(now + 20 * second, "p", Duration::ZERO, true), None);
    }
}
