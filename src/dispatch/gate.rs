//! The gate before a provider: its rate and its pauses.
//!
//! A rate belongs to the provider, not to a worker. The store hands out runs of send times, so that
//! all workers together never exceed it (I9); a message leaves at its time or after, and a time
//! that has passed for more than the burst is dropped. A limiter of this process's own stands
//! behind that: a reply that came late moves its run, and no moved run may exceed the rate. Senders
//! pass one behind the other, and take their message inside, so that no time is spent on a message
//! that another sender took.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use governor::{DefaultDirectRateLimiter, Quota, clock::Clock};
use tokio::{
    sync::{Mutex, Notify, Semaphore},
    time::sleep_until,
};

use super::{adaptive::Adaptive, run::Run};
use crate::{
    domain::units::Rate,
    providers::CommonSettings,
    store::{Dispatch, Grant, GrantRequest, Pause, StoreError},
};

/// What a rate may catch up, and the length of a run: this much of it.
pub(super) const BURST: Duration = Duration::from_millis(50);

/// No run begins further ahead than this.
const AHEAD: Duration = Duration::from_secs(1);

/// How long to wait before the store is asked again after it failed.
pub(super) const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);

pub(super) struct Gate {
    provider: String,
    store: Arc<dyn Dispatch>,
    rate: Option<Rate>,
    /// How much of it may be used, if that changes.
    pub(super) adaptive: Option<Adaptive>,
    epoch: Instant,
    /// In microseconds after `epoch`.
    paused_until_us: AtomicU64,
    /// Whether somebody stopped the provider, until it is resumed.
    stopped: AtomicBool,
    /// Rung when it is resumed.
    resumed: Notify,
    /// Where senders wait until they are next at `run`.
    line: Mutex<()>,
    run: Mutex<Run>,
    /// What this process alone may send.
    own: Option<DefaultDirectRateLimiter>,
    /// How many more of the senders behind this gate may take a message of theirs through another one that
    /// it is bound to: however slow that is, the others go on.
    pub(super) strays: Semaphore,
}

// === impl Gate ===

impl Gate {
    pub(super) fn new(provider: &str, settings: &CommonSettings, store: Arc<dyn Dispatch>) -> Self {
        let (epoch, rate) = (Instant::now(), settings.rate);
        Self {
            provider: provider.to_owned(),
            store,
            rate,
            adaptive: Adaptive::new(provider, settings),
            epoch,
            paused_until_us: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            resumed: Notify::new(),
            line: Mutex::default(),
            run: Mutex::new(Run::none(epoch)),
            strays: Semaphore::new((settings.max_in_flight / 4).max(1) as usize),
            own: rate.and_then(quota).map(DefaultDirectRateLimiter::direct),
        }
    }

    /// Waits until a message may leave, and then gives what `take` gives. `left` tells how many
    /// messages are in hand: without any, nobody waits.
    pub(super) async fn pass<T>(
        &self,
        left: impl Fn() -> usize,
        take: impl FnOnce() -> Option<T>,
    ) -> Option<T> {
        let _next = if self.rate.is_some() { Some(self.line.lock().await) } else { None };
        self.pass_first(left, take).await
    }

    /// Like [`Self::pass`], but before those who wait in line there.
    pub(super) async fn pass_first<T>(
        &self,
        left: impl Fn() -> usize,
        take: impl FnOnce() -> Option<T>,
    ) -> Option<T> {
        self.wait_out_pause().await;
        if self.rate.is_none() {
            return take();
        }
        let mut run = self.run.lock().await;
        loop {
            let in_hand = left();
            if in_hand == 0 {
                return None;
            }
            let Some(next) = run.next(Instant::now()) else {
                self.ask(in_hand, &mut run).await;
                continue;
            };
            if self.is_closed() {
                self.wait_out_pause().await;
            } else if next > Instant::now() {
                sleep_until(next.into()).await;
            } else if let Some(wait) = self.too_fast() {
                tokio::time::sleep(wait).await;
            } else {
                let taken = take();
                if taken.is_some() {
                    run.use_one();
                }
                return taken;
            }
        }
    }

    /// Stops the provider for this worker; never shortens a pause.
    pub(super) fn pause(&self, pause: Duration) {
        let until = self.epoch.elapsed() + pause;
        let until_us = u64::try_from(until.as_micros()).unwrap_or(u64::MAX);
        self.paused_until_us.fetch_max(until_us, Ordering::Relaxed);
    }

    /// How long the provider is still paused.
    pub(super) fn pause_left(&self) -> Duration {
        let until_us = self.paused_until_us.load(Ordering::Relaxed);
        if until_us == 0 {
            return Duration::ZERO;
        }
        Duration::from_micros(until_us).saturating_sub(self.epoch.elapsed())
    }

    /// Whether nothing may leave now.
    pub(super) fn is_closed(&self) -> bool {
        self.is_stopped() || !self.pause_left().is_zero()
    }

    /// Whether somebody stopped the provider, until it is resumed.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Learns from the store whether the provider is paused or stopped, and how much of its rate it may use.
    pub(super) async fn refresh_pause(&self) -> Result<Pause, StoreError> {
        let pause = self.store.paused(&self.provider).await?;
        let Pause { left, stopped, share, .. } = pause;
        if let Some(adaptive) = &self.adaptive {
            adaptive.learn(share);
        }
        if !left.is_zero() {
            self.pause(left);
        }
        match (self.stopped.swap(stopped, Ordering::SeqCst), stopped) {
            (false, true) => tracing::warn!(provider.name = self.provider, "provider stopped"),
            (true, false) => {
                tracing::info!(provider.name = self.provider, "provider resumed");
                self.resumed.notify_waiters();
            }
            _ => {}
        }
        Ok(pause)
    }

    /// The time between two submissions, as far as the rate may be used; zero without one.
    pub(super) fn interval(&self) -> Duration {
        let interval = self.rate.map_or(Duration::ZERO, Rate::interval);
        self.adaptive.as_ref().map_or(interval, |adaptive| adaptive.stretch(interval))
    }

    /// How many messages the rate lets leave within `time`; `None` without a rate.
    pub(super) fn within(&self, time: Duration) -> Option<u32> {
        self.rate.map(|_| messages_within(self.interval(), time).get())
    }

    /// How long this process must wait so as not to exceed the rate by itself; else the message
    /// that leaves now is counted.
    fn too_fast(&self) -> Option<Duration> {
        let own = self.own.as_ref()?;
        let not_until = own.check().err()?;
        Some(not_until.wait_time_from(own.clock().now()))
    }

    /// Waits until messages may leave, as far as pauses and stops go.
    pub(super) async fn wait_out_pause(&self) {
        while self.is_closed() {
            // Listen first, then look.
            let resumed = self.resumed.notified();
            if self.is_stopped() {
                resumed.await;
            } else {
                tokio::time::sleep(self.pause_left()).await;
            }
        }
    }

    async fn ask(&self, in_hand: usize, run: &mut Run) {
        let in_hand = u32::try_from(in_hand).unwrap_or(u32::MAX);
        let interval = self.interval();
        let wanted = messages_within(interval, BURST).get().min(in_hand).max(1);
        let request = GrantRequest {
            provider: &self.provider,
            interval,
            burst_us: u64::try_from(BURST.as_micros()).unwrap_or(0),
            wanted,
            wanted_max: wanted,
            ahead_us: u64::try_from(AHEAD.as_micros()).unwrap_or(0),
            below: &[],
        };
        let asked_at = Instant::now();
        match self.store.grant(&request).await {
            // A run counts from its reply: never early, at most a little late. One that came later
            // than that would move into times that other workers have.
            Ok(Grant::Run { .. }) if asked_at.elapsed() > BURST => {}
            Ok(Grant::Run { first_in_us }) => {
                *run = Run::new(Instant::now(), first_in_us, wanted, interval, BURST);
            }
            Ok(Grant::Later { wait, paused: true }) => self.pause(wait),
            Ok(Grant::Later { wait, paused: false }) => tokio::time::sleep(wait).await,
            Err(error) => {
                tracing::debug!(provider.name = self.provider, %error, "no send times to be had");
                tokio::time::sleep(ASK_AGAIN_AFTER).await;
            }
        }
    }
}

fn quota(rate: Rate) -> Option<Quota> {
    Some(Quota::with_period(rate.interval())?.allow_burst(messages_within(rate.interval(), BURST)))
}

/// How many messages, `interval` apart, may leave within `time`; at least one.
fn messages_within(interval: Duration, time: Duration) -> NonZeroU32 {
    let messages = time.as_nanos() / interval.as_nanos().max(1);
    let messages = u32::try_from(messages).unwrap_or(u32::MAX);
    NonZeroU32::new(messages).unwrap_or(NonZeroU32::MIN)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::store::{
        self, HostLimits, SentinelLogin, Store, StoreRules, StoreSettings, StoreTls,
    };

    /// An empty store. It may be used for as long as it is open, though its folder is gone.
    pub(in crate::dispatch) async fn store() -> Store {
        let folder = tempfile::tempdir().unwrap();
        let retention = Duration::from_hours(1);
        let settings = StoreSettings {
            url: format!("embedded:{}", folder.path().display()).into(),
            retention,
            sync_every: Duration::from_secs(1),
            partitions: None,
            tls: StoreTls::default(),
            sentinel: SentinelLogin::default(),
        };
        let lease = Duration::from_secs(30);
        let hosts = HostLimits { at_once: 16, silences_max: 5, left_alone: lease };
        let rules = StoreRules { lease, upload_lease: lease, retention, hosts };
        store::open(&settings, rules).await.unwrap()
    }

    #[tokio::test]
    async fn who_passes_first_does_not_wait_in_line() {
        let settings = CommonSettings { rate: "50/s".parse().ok(), ..CommonSettings::default() };
        let gate = Gate::new("carrier", &settings, store().await.dispatch);
        let passed = parking_lot::Mutex::new(Vec::new());
        let note = |who| {
            passed.lock().push(who);
            Some(())
        };
        let own = || gate.pass(|| 1, || note("own"));
        let bound = gate.pass_first(|| 1, || note("bound"));
        // Another one is before them all until they wait.
        let before = gate.run.lock().await;
        let all_wait = async {
            tokio::task::yield_now().await;
            drop(before);
        };
        tokio::join!(own(), own(), own(), own(), bound, all_wait);
        assert_eq!(*passed.lock(), ["own", "bound", "own", "own", "own"]);
    }
}
