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

use tokio::sync::SemaphorePermit;

use super::{
    breaker::{News, Trial, Verdict},
    hold::{Hold, TURN, Taken},
    lane::Shared,
    levels::Levels,
};
use crate::domain::{
    batch::DeliveryGuarantee,
    message::{Next, Open, Terms},
    outcome::{Outcome, SendError},
    through::Through,
    time::UnixMs,
};

/// The shortest wait of a message whose provider is tried by another one.
const WAIT_MIN: Duration = Duration::from_secs(1);

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
            Some(levels) if self.is(exit) => self.pass_levels(levels, may).await?,
            _ => {
                let take = || if may() { self.take_any(current) } else { None };
                exit.gate.pass(|| self.left(), take).await?
            }
        };
        Some((taken, self.way(exit, exchange, trial)))
    }

    /// Takes the next message that the levels of its rate let leave, if this `may` still be the way then.
    async fn pass_levels(&self, levels: &Levels, may: impl Fn() -> bool) -> Option<Taken> {
        let taken = levels.pass(self).await?;
        if may() {
            return Some(taken);
        }
        taken.give_back();
        self.settle.notify_one();
        None
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
        Way { exit, through, _exchange: exchange, trial }
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

    /// Passes the way through the fallback with a message in hand, which is bound to it. `None` if that takes
    /// longer than a turn: nothing reaches a message that is held so.
    pub(super) async fn pass_bound(self: &Arc<Self>) -> Option<Way<'_>> {
        let fallback = self.fallback()?;
        let passing = async {
            let exchange = fallback.exchange().await;
            fallback.gate.pass(|| 1, || Some(())).await;
            self.way(fallback, exchange, None)
        };
        tokio::time::timeout(TURN, passing).await.ok()
    }

    /// What follows for a message that waits for its own provider: until it is tried again.
    pub(super) fn put_off(&self, open: Open, now: UnixMs) -> Next {
        let next = self.breaker.next_trial();
        let left = next.map_or(Duration::ZERO, |next| next.duration_since(Instant::now()));
        let error = SendError::passing(
            "provider_away",
            "the provider is away; it may have accepted this message, so no other one is asked",
        );
        open.put_off(&self.policy, now, left.max(WAIT_MIN), error)
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
