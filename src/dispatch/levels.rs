//! The levels of a provider's rate: the provider's own, and below it those of senders and prefixes, each
//! counted in messages or segments.
//!
//! Lanes with such a level, or with a rate in segments, have one of these in place of the gate's runs. A
//! message's clocks and cost are known before it is taken, so the store gives it a time of all its clocks at
//! once, for as many messages as it has segments ([`asking`]). Which message is next is decided by turns:
//! of those in hand whose clocks have times, one of the strand that has waited longest.

mod asking;
mod turns;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use self::{asking::Desk, turns::Turns};
use super::hold::{Hold, Taken};
use crate::{
    domain::{
        prefixes::Prefixes,
        senders::Senders,
        through::Through,
        units::{Rate, RateUnit},
    },
    providers::CommonSettings,
};

/// What tells apart messages that wait for different clocks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The sender's level, if senders have a rate.
    sender: Option<Arc<str>>,
    /// The prefix's level, if there is one for the number.
    prefix: Option<Arc<str>>,
}

pub(super) struct Levels {
    unit: RateUnit,
    /// The time between two of one sender.
    sender_interval: Option<Duration>,
    prefixes: Prefixes,
    /// The sender of each recipient, where a batch has none.
    origin: Origin,
    turns: Mutex<Turns>,
    /// Where senders pass one behind the other.
    desk: tokio::sync::Mutex<Desk>,
    /// Rung when there may be something else to take.
    news: Notify,
}

/// Where messages come from whose batch does not say so.
#[derive(Clone, Default)]
pub(super) struct Origin {
    pool: Senders<String>,
    default: Option<String>,
}

// === impl Origin ===

impl Origin {
    pub(super) fn new(settings: &CommonSettings) -> Self {
        let pool = Senders::new(settings.senders.iter().cloned());
        Self { pool, default: settings.from.clone() }
    }

    /// The sender of a message: its batch's, or the one that its recipient always hears from, or the
    /// provider's only one.
    pub(super) fn of<'a>(&'a self, from: Option<&'a str>, to: &str) -> Option<&'a str> {
        from.or_else(|| self.pool.of(to).map(String::as_str)).or(self.default.as_deref())
    }
}

// === impl Levels ===

impl Levels {
    /// The levels that a provider's table sets; `None` if it has none but a rate in messages.
    pub(super) fn new(settings: &CommonSettings) -> Option<Self> {
        settings.has_levels().then(|| Self {
            unit: settings.rate_unit,
            sender_interval: settings.sender_rate.map(Rate::interval),
            prefixes: Prefixes::new(&settings.prefix_rates),
            origin: Origin::new(settings),
            turns: Mutex::default(),
            desk: tokio::sync::Mutex::default(),
            news: Notify::new(),
        })
    }

    /// The next message of whichever strand: it waits for none of these clocks.
    pub(super) fn take_any(holds: &VecDeque<Arc<Hold>>) -> Option<Taken> {
        let now = Instant::now();
        holds.iter().find_map(|hold| {
            let mut first = None;
            hold.each_strand(now, |key, _| _ = first.get_or_insert_with(|| key.clone()));
            hold.take_of(&first?)
        })
    }

    /// The strand of a message to `to`, of a batch that says it is `from`.
    pub(super) fn key(&self, from: Option<&str>, to: &str) -> Key {
        let sender = self.sender_interval.map(|_| self.origin.of(from, to).unwrap_or_default());
        let prefix = self.prefixes.of(to).map(|(prefix, _)| prefix);
        Key {
            sender: sender.map(|sender| format!("s:{sender}").into()),
            prefix: prefix.map(|prefix| format!("p:{prefix}").into()),
        }
    }

    /// Has the sender of a message to `to`, of a batch that says it is `from`, rest until then; false if senders are
    /// not told apart.
    pub(super) fn rest_sender(&self, from: Option<&str>, to: &str, until: Instant) -> bool {
        let Some(sender) = self.key(from, to).sender else { return false };
        self.turns.lock().rest(sender, until, Instant::now());
        true
    }

    /// Rings for whoever waits for something to take.
    pub(super) fn ring(&self) {
        self.news.notify_one();
    }

    /// Whether there are rates below the provider's.
    fn has_any_below(&self) -> bool {
        self.sender_interval.is_some() || !self.prefixes.is_empty()
    }

    /// How many times a message takes of each of its clocks; none if it will not leave, or only through
    /// another provider.
    fn cost(&self, next: &Taken, text: &mut String) -> u32 {
        let now = Instant::now();
        match self.unit {
            _ if next.has_expired(now) || next.must_rest(now) => 0,
            _ if next.open().bound_to().is_some_and(|bound| bound != Through::OWN) => 0,
            RateUnit::Message => 1,
            RateUnit::Segment => next.hold.job.segments(&next.entry(), text),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn levels(set: impl FnOnce(&mut CommonSettings)) -> Option<Levels> {
        let mut settings = CommonSettings::default();
        set(&mut settings);
        Levels::new(&settings)
    }

    #[test]
    fn a_rate_in_messages_alone_has_no_levels_and_nor_has_a_pool_without_a_rate() {
        assert!(levels(|_| {}).is_none());
        assert!(levels(|settings| settings.rate = "10/s".parse().ok()).is_none());
        assert!(levels(|settings| settings.rate_unit = RateUnit::Segment).is_none());
        assert!(levels(|settings| settings.senders = vec!["+15550001111".into()]).is_none());
        assert!(levels(|settings| settings.sender_rate = "10/s".parse().ok()).is_some());
    }

    #[test]
    fn messages_are_of_one_strand_if_they_wait_for_the_same_clocks() {
        let levels = levels(|settings| {
            settings.from = Some("+15550001111".into());
            settings.sender_rate = "10/s".parse().ok();
            settings.prefix_rates = BTreeMap::from([("+49".into(), "5/s".parse().unwrap())]);
        })
        .unwrap();
        let key = |from, to| levels.key(from, to);
        assert_eq!(key(None, "+15551230001"), key(Some("+15550001111"), "+15551230002"));
        assert_ne!(key(None, "+15551230001"), key(Some("+15550002222"), "+15551230001"));
        assert_ne!(key(None, "+15551230001"), key(None, "+4915551230001"));
        assert_eq!(key(None, "+4917012345678"), key(None, "+4915551230001"));
    }
}
