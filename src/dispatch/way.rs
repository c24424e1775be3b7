//! The way of a message: through its own provider, or, while that is away, through its fallback.
//!
//! Whichever it is, that provider's gate is passed (its rate, its pauses, a stop), and it has no more open
//! exchanges than it may, whoever's messages they are. A stop or a pause of the batch's own provider
//! holds its messages whatever its breaker says: a fallback is no way around them. One hop is all: what
//! leaves through a fallback never leaves through the fallback's own.
//!
//! A message that may have been accepted is bound to where that was ([`Open::bound_to`]): it waits for
//! that provider, since another one does not know its idempotency key.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::SemaphorePermit, time::timeout};

use super::{
    breaker::{News, Trial, Verdict},
    hold::{Hold, Taken},
    lane::Shared,
};
use crate::domain::{
    batch::DeliveryGuarantee,
    message::{Next, Open, Terms},
    outcome::{Outcome, SendError},
    through::Through,
    time::UnixMs,
};

/// The shortest wait of a message for the one provider that it may leave through.
const WAIT_MIN: Duration = Duration::from_secs(1);

/// How long it waits if somebody stopped that, and nobody knows for how long: each wait is recorded.
const WAIT_WHILE_STOPPED: Duration = Duration::from_secs(10);

/// So often is looked whether a message waits for a way that has been shut.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What failed to find out whether a provider is back, and is not there, may leave again after this.
const TRIAL_OVER: Duration = Duration::from_millis(100);

/// A way that was passed: a message may leave now.
pub(super) struct Way<'a> {
    /// The lane of the provider that it leaves through.
    pub(super) exit: &'a Arc<Shared>,
    /// What tells its provider from that of the lane the message is in.
    pub(super) through: Through,
    _exchange: Option<SemaphorePermit<'a>>,
    trial: Option<Trial<'a>>,
    /// Set if the message is bound to it and not to the lane's own.
    _stray: Option<SemaphorePermit<'a>>,
}

/// Leave to wait for the way through the fallback with a message in hand.
pub(super) struct Detour<'a> {
    fallback: &'a Arc<Shared>,
    trial: Option<Trial<'a>>,
    stray: SemaphorePermit<'a>,
}

/// What is to be done with a message that may leave by a way.
pub(super) enum Fit {
    /// It leaves.
    Here,
    /// It must leave through the fallback, which is the other way.
    Fallback,
    /// It waits for its own provider, which is away.
    Later,
    /// The provider it is bound to is this one's fallback no more.
    Nowhere,
}

// === impl Shared ===

impl Shared {
    /// Passes the way that is open now, and takes the next message there; `None` if there is no message,
    /// or another way must be looked for.
    pub(super) async fn pass<'a>(
        self: &'a Arc<Self>,
        current: &mut Option<Arc<Hold>>,
    ) -> Option<(Taken, Way<'a>)> {
        let Some(fallback) = self.fallback() else {
            return self.pass_through(self, None, current, || true).await;
        };
        self.gate.wait_out_pause().await;
        let now = Instant::now();
        match self.breaker.ask(now) {
            Verdict::Closed => {
                self.pass_through(self, None, current, || !self.breaker.is_open()).await
            }
            Verdict::HalfOpen(trial) => {
                self.pass_through(self, Some(trial), current, || true).await
            }
            Verdict::Open => {
                let trial = match fallback.breaker.ask(now) {
                    Verdict::Closed => None,
                    Verdict::HalfOpen(trial) => Some(trial),
                    // Nobody stands in: it is as if there were no fallback.
                    Verdict::Open => {
                        return self.pass_through(self, None, current, || true).await;
                    }
                };
                let still_away = || self.breaker.is_open() && !self.gate.is_closed();
                tokio::select! {
                    biased;
                    passed = self.pass_through(fallback, trial, current, still_away) => passed,
                    () = self.breaker.until_asked_again() => None,
                }
            }
        }
    }

    /// Takes the next message inside the gate of `exit`, if that `may` still be the way then.
    async fn pass_through<'a>(
        &self,
        exit: &'a Arc<Self>,
        trial: Option<Trial<'a>>,
        current: &mut Option<Arc<Hold>>,
        may: impl Fn() -> bool,
    ) -> Option<(Taken, Way<'a>)> {
        let exchange = exit.exchange().await;
        let taken = match &self.levels {
            Some(levels) if self.is(exit) => levels.pass(self, may).await?,
            _ => {
                let take = || if may() { self.take_any(current) } else { None };
                exit.gate.pass(|| self.left(), take).await?
            }
        };
        Some((taken, self.way(exit, exchange, trial)))
    }

    fn is(&self, exit: &Arc<Self>) -> bool {
        std::ptr::eq(self, Arc::as_ptr(exit))
    }

    fn way<'a>(
        &self,
        exit: &'a Arc<Self>,
        exchange: Option<SemaphorePermit<'a>>,
        trial: Option<Trial<'a>>,
    ) -> Way<'a> {
        let through = if self.is(exit) { Through::OWN } else { Through::of(&exit.name) };
        Way { exit, through, _exchange: exchange, trial, _stray: None }
    }

    /// What is to be done with this message, which may leave by `way`.
    pub(super) fn fit(&self, open: &Open, way: &Way<'_>) -> Fit {
        match open.bound_to() {
            None => Fit::Here,
            Some(bound) if bound == way.through => Fit::Here,
            Some(Through::OWN) => Fit::Later,
            Some(bound) if self.name_of(bound).is_some() => Fit::Fallback,
            Some(_) => Fit::Nowhere,
        }
    }

    /// Leave for a message that is bound to the fallback to wait for that; `None` if it must be put off, since
    /// the fallback is stopped, paused or away, or enough others wait for it.
    pub(super) fn detour(&self) -> Option<Detour<'_>> {
        let fallback = self.fallback().filter(|fallback| !fallback.gate.is_closed())?;
        let stray = self.gate.strays.try_acquire().ok()?;
        let trial = match fallback.breaker.ask(Instant::now()) {
            Verdict::Closed => None,
            Verdict::HalfOpen(trial) => Some(trial),
            Verdict::Open => return None,
        };
        Some(Detour { fallback, trial, stray })
    }

    /// Passes the way through the fallback with a message of `hold` in hand, which is bound to it. Its place
    /// among those that wait is kept, or it would never pass while they are many. As in an open exchange, no
    /// wish of its batch reaches it. `None` if it must be put off, since the fallback was stopped, or paused,
    /// or went away.
    pub(super) async fn pass_bound<'a>(&self, detour: Detour<'a>, hold: &Hold) -> Option<Way<'a>> {
        let Detour { fallback, trial, stray } = detour;
        let is_shut = || fallback.gate.is_closed() || fallback.breaker.is_open() && trial.is_none();
        let passing = async {
            let exchange = fallback.exchange().await;
            fallback.gate.pass_first(|| 1, || Some(())).await;
            exchange
        };
        tokio::pin!(passing);
        let exchange = loop {
            match timeout(LOOK_EVERY, &mut passing).await {
                Ok(exchange) => break exchange,
                Err(_) if is_shut() || hold.is_lost() => return None,
                Err(_) => {}
            }
        };
        Some(Way { _stray: Some(stray), ..self.way(fallback, exchange, trial) })
    }

    /// What follows for a message that waits for the one provider that it may leave through: until that may
    /// be tried again.
    pub(super) fn put_off(&self, open: Open, now: UnixMs) -> Next {
        let bound = open.bound_to().filter(|bound| *bound != Through::OWN);
        let exit = bound.and(self.fallback()).map_or(self, Arc::as_ref);
        let error = SendError::passing(
            "provider_away",
            "the provider that may have accepted it is away, stopped or busy, and no other one is asked",
        );
        open.put_off(&self.policy, now, exit.time_until_tried(), error)
    }

    /// How long it is left alone by messages that are bound to it, if they can't leave now.
    fn time_until_tried(&self) -> Duration {
        let next = self.breaker.next_trial();
        let until_trial = next.map_or(Duration::ZERO, |next| next.duration_since(Instant::now()));
        let least = if self.gate.is_stopped() { WAIT_WHILE_STOPPED } else { WAIT_MIN };
        until_trial.max(self.gate.pause_left()).max(least)
    }

    /// Whether nothing can leave at `now`: the provider is paused or stopped, or it is away and its fallback
    /// is paused or stopped.
    pub(super) fn is_shut(&self, now: Instant) -> bool {
        let is_shut = |fallback: &Arc<Self>| {
            fallback.gate.is_closed() && !fallback.breaker.is_open() && self.breaker.is_shut(now)
        };
        self.gate.is_closed() || self.fallback().is_some_and(is_shut)
    }

    /// The name of the provider behind `through`, if it is this one's fallback.
    pub(super) fn name_of(&self, through: Through) -> Option<&str> {
        let fallback = self.fallback().filter(|fallback| Through::of(&fallback.name) == through);
        fallback.map(|fallback| fallback.name.as_str())
    }

    /// Takes note of what a try through this provider came to: it may count as away from now on, or be back.
    pub(super) fn heed(self: &Arc<Self>, outcome: &Outcome, began: Instant) {
        let Some(news) = self.breaker.note(outcome, began, Instant::now()) else { return };
        let (name, fallback) = (&self.name, self.fallback().map(|fallback| fallback.name.as_str()));
        match news {
            News::Opened => {
                self.metrics.provider_away(name);
                if let Some(levels) = &self.levels {
                    // Whoever waits there for times takes the other way.
                    levels.ring();
                }
                let failures = self.breaker.settings().failures;
                tracing::warn!(
                    provider.name = name,
                    failures,
                    provider.fallback = fallback,
                    "a provider is away"
                );
            }
            News::Closed => tracing::info!(provider.name = name, "a provider is back"),
            News::StillOpen => tracing::debug!(provider.name = name, "a provider is still away"),
        }
        let cool_down = self.breaker.settings().cool_down;
        self.tell_away((news != News::Closed).then_some(cool_down));
    }

    /// Has it known that the provider is left alone for `cool_down`, or that it is back.
    pub(super) fn tell_away(self: &Arc<Self>, cool_down: Option<Duration>) {
        let lane = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = lane.store.dispatch.tell_away(&lane.name, cool_down).await {
                tracing::debug!(provider.name = lane.name, %error, "nobody was told of the breaker");
            }
        });
    }
}

// === impl Way ===

impl Way<'_> {
    /// Whether it leads through the provider of the lane the message is in.
    pub(super) fn is_own(&self) -> bool {
        self.through == Through::OWN
    }

    /// What follows from the outcome of a try by this way, begun at `began`, at `now`. One that found out that
    /// the provider is still away was made for all: it uses up no attempt of this message.
    pub(super) fn next_of(
        &self,
        open: Open,
        outcome: Outcome,
        terms: Terms<'_>,
        began: UnixMs,
        now: UnixMs,
    ) -> Next {
        let open = open.tried_through(self.through);
        let at_most_once = terms.guarantee == DeliveryGuarantee::AtMostOnce;
        match outcome {
            Outcome::Temporary { certain, error, .. }
                if self.trial.is_some() && (certain || !at_most_once) =>
            {
                open.put_off(terms.policy, now, TRIAL_OVER, error)
            }
            outcome => open.after(outcome, terms, began, now, rand::random()),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::{BoxFuture, pending};

    use super::*;
    use crate::{
        dispatch::{Lane, gate},
        providers::{BreakerSettings, CommonSettings, Provider, Submission},
    };

    const NOW: UnixMs = UnixMs(1_000_000);

    struct Silent;

    impl Provider for Silent {
        fn submit<'a>(&'a self, _: Submission<'a>) -> BoxFuture<'a, Outcome> {
            Box::pin(pending())
        }
    }

    /// A provider's lane and that of its fallback, whose breaker is set so.
    async fn lanes(breaker: BreakerSettings) -> (Arc<Shared>, Arc<Shared>) {
        let store = gate::tests::store().await;
        let lane = |name: &str, settings| {
            let lane = Lane { name: name.to_owned(), provider: Arc::new(Silent), settings };
            let lease = Duration::from_secs(30);
            Arc::new(Shared::new(lane, store.clone(), lease, Arc::default()))
        };
        let main = CommonSettings { fallback: Some("second".into()), ..CommonSettings::default() };
        let second = CommonSettings { breaker, ..CommonSettings::default() };
        let lanes = [lane("main", main), lane("second", second)];
        for one in &lanes {
            one.find_fallback(&lanes);
        }
        lanes.into()
    }

    fn refused() -> Outcome {
        let error = SendError::passing("provider_unreachable", "could not connect");
        Outcome::Temporary { certain: true, after: None, error }
    }

    /// How long a message that is bound to `through` is put off, in milliseconds.
    fn put_off(lane: &Shared, through: Through) -> u64 {
        let open = Open { maybe_accepted: true, through, ..Open::default() };
        let Next::Waiting { open, .. } = lane.put_off(open, NOW) else { panic!("it ended") };
        open.due_at.0 - NOW.0
    }

    #[tokio::test]
    async fn a_message_is_put_off_until_the_provider_that_it_is_bound_to_may_be_tried() {
        let (main, second) = lanes(BreakerSettings::default()).await;
        let bound = Through::of("second");
        assert!(main.detour().is_some());
        assert_eq!(put_off(&main, bound), 1_000);
        second.gate.pause(Duration::from_secs(5));
        assert!(main.detour().is_none());
        assert_eq!([put_off(&main, bound), put_off(&main, Through::OWN)], [5_000, 1_000]);
        let BreakerSettings { failures, cool_down } = second.breaker.settings();
        let now = Instant::now();
        (0..failures).for_each(|_| _ = second.breaker.note(&refused(), now, now));
        assert_eq!(u128::from(put_off(&main, bound)), cool_down.as_millis());
    }

    #[tokio::test]
    async fn one_message_finds_out_whether_the_fallback_that_it_is_bound_to_is_back() {
        let (main, second) =
            lanes(BreakerSettings { failures: 1, cool_down: Duration::ZERO }).await;
        let now = Instant::now();
        assert_eq!(second.breaker.note(&refused(), now, now), Some(News::Opened));
        let detour = main.detour();
        assert!(detour.as_ref().is_some_and(|detour| detour.trial.is_some()));
        assert!(main.detour().is_none());
        drop(detour);
        assert!(main.detour().is_some());
    }

    #[tokio::test]
    async fn most_senders_never_wait_for_the_fallback_with_a_message_that_is_bound_to_it() {
        let (main, _second) = lanes(BreakerSettings::default()).await;
        let mut detours: Vec<_> = std::iter::from_fn(|| main.detour()).take(64).collect();
        assert_eq!(detours.len(), 16);
        detours.pop();
        assert!(main.detour().is_some());
    }
}
