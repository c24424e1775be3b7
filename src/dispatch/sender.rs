//! The sender: takes a message, makes one exchange, records what came of it. A lane has as many
//! senders as open exchanges it may hold.
//!
//! Nothing is awaited between the last check and the submission: a message is taken inside the
//! gate, and only from a hold that gives it out; its lease is looked at once more; then it leaves.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

use super::{
    adaptive::Adaptive,
    hold::{Hold, Taken},
    lane::Shared,
    optouts,
    way::{Detour, Fit, Way},
};
use crate::{
    crash,
    domain::{
        message::{Next, Terms},
        outcome::{Outcome, SendError, Throttled},
        recipient::Masked,
        through::Through,
    },
    providers::{PAUSE_MAX, Submission},
    store::Wish,
};

pub(super) struct Sender {
    lane: Arc<Shared>,
    /// Where the last message came from.
    current: Option<Arc<Hold>>,
    /// The rendered body; kept for its capacity.
    body: String,
}

// === impl Sender ===

impl Sender {
    pub(super) fn new(lane: Arc<Shared>) -> Self {
        Self { lane, current: None, body: String::new() }
    }

    /// Sends until `soft` is cancelled; an exchange that is open then is finished.
    pub(super) async fn run(mut self, soft: CancellationToken) {
        let lane = Arc::clone(&self.lane);
        loop {
            let next = tokio::select! {
                biased;
                () = soft.cancelled() => return,
                taken = self.next(&lane) => taken,
            };
            if let Some((taken, way)) = next {
                self.send_by(&lane, taken, way, &soft).await;
            }
            tokio::task::coop::consume_budget().await;
        }
    }

    /// The next message that may leave now, and by which way; its slot is taken.
    async fn next<'a>(&mut self, lane: &'a Arc<Shared>) -> Option<(Taken, Way<'a>)> {
        if self.current.as_ref().is_none_or(|hold| hold.left() == 0) {
            self.current = None;
            lane.work().await;
        }
        // The semaphore is never closed.
        let slot = lane.slots.acquire().await.ok()?;
        let passed = lane.pass(&mut self.current).await?;
        slot.forget();
        Some(passed)
    }

    /// Sends a message by this way, or by the one that it is bound to. One that must wait leaves the way to the
    /// next one.
    async fn send_by<'a>(
        &mut self,
        lane: &'a Arc<Shared>,
        taken: Taken,
        way: Way<'a>,
        soft: &CancellationToken,
    ) {
        let mut next = Some(taken);
        while let Some(taken) = next {
            let open = taken.open();
            match lane.fit(&open, &way) {
                Fit::Here => return self.send(taken, way).await,
                // It needs no way to end.
                Fit::Fallback | Fit::Later if taken.has_expired(Instant::now()) => {
                    return self.send(taken, way).await;
                }
                Fit::Fallback => match lane.detour() {
                    Some(detour) => {
                        drop(way);
                        return self.send_by_detour(lane, taken, detour, soft).await;
                    }
                    None => self.put_off(taken),
                },
                Fit::Later => self.put_off(taken),
                Fit::Nowhere => {
                    let error = SendError::passing(
                        "provider_gone",
                        "the provider that may have accepted it is its provider's fallback no more",
                    );
                    self.record(taken, &open.end(error), open.through);
                }
            }
            next = self.another(lane, &way);
        }
    }

    /// Sends a message through the fallback, which it is bound to.
    async fn send_by_detour<'a>(
        &mut self,
        lane: &'a Arc<Shared>,
        taken: Taken,
        detour: Detour<'a>,
        soft: &CancellationToken,
    ) {
        let way = tokio::select! {
            biased;
            () = soft.cancelled() => None,
            way = lane.pass_bound(detour, &taken.hold) => way,
        };
        match way {
            Some(way) => self.send(taken, way).await,
            None => self.put_off(taken),
        }
    }

    /// The next message for a way that was passed and not made use of; its slot is taken. Levels let a
    /// message pass, not a sender: there is none then.
    fn another(&mut self, lane: &Shared, way: &Way<'_>) -> Option<Taken> {
        if way.is_own() && lane.levels.is_some() {
            return None;
        }
        let slot = lane.slots.try_acquire().ok()?;
        let taken = lane.take_any(&mut self.current)?;
        slot.forget();
        Some(taken)
    }

    /// Has a message wait for the one provider that it may leave through.
    fn put_off(&self, taken: Taken) {
        let open = taken.open();
        let next = self.lane.put_off(open, taken.hold.store_time(Instant::now()));
        self.record(taken, &next, open.through);
    }

    async fn send(&mut self, taken: Taken, way: Way<'_>) {
        let began = Instant::now();
        if began >= taken.hold.deadline() {
            self.put_down(taken, Taken::give_back);
            return;
        }
        if taken.must_rest(began) {
            taken.hold.close(Wish::Pause);
            self.put_down(taken, Taken::give_back);
            return;
        }
        if taken.has_expired(began) {
            let open = taken.open();
            self.record(taken, &open.expire(), open.bound_to().unwrap_or_default());
            return;
        }
        let tried = AssertUnwindSafe(self.try_once(&taken, &way, began)).catch_unwind().await;
        match tried.unwrap_or_else(|_| Some(self.contain(&taken, &way, began))) {
            Some(next) => self.record(taken, &next, way.through),
            None => self.put_down(taken, Taken::abandon),
        }
    }

    /// What follows from one try; `None` if the lease was lost meanwhile.
    async fn try_once(&mut self, taken: &Taken, way: &Way<'_>, began: Instant) -> Option<Next> {
        let (job, entry, open) = (&taken.hold.job, taken.entry(), taken.open());
        let exit = way.exit;
        if let Err(unfit) = job.composer.write(&entry, &mut self.body) {
            return Some(open.unfit(unfit.into()));
        }
        let submission = Submission {
            id: taken.id(),
            to: entry.to,
            from: exit.origin.of(job.spec.from.as_deref(), entry.to),
            body: &self.body,
            attempts: open.attempts,
            valid_for: taken.time_left(began),
        };
        let outcome = tokio::select! {
            biased;
            outcome = exit.provider.submit(submission) => outcome,
            () = taken.hold.lost() => return None,
        };
        if matches!(outcome, Outcome::Accepted { .. }) {
            crash::point("accepted");
        }
        if !way.is_own() {
            self.lane.metrics.failed_over(&self.lane.name);
        }
        exit.heed(&outcome, began);
        obey(exit, &outcome, job.spec.from.as_deref(), entry.to);
        optouts::learn(&self.lane, &outcome, &job.spec.account, entry.to);
        Some(self.next_of(taken, way, outcome, began))
    }

    /// A panic is an unknown outcome of this message, and touches no other.
    fn contain(&self, taken: &Taken, way: &Way<'_>, began: Instant) -> Next {
        self.lane.metrics.panic_contained();
        let (id, provider) = (taken.id(), &way.exit.name);
        tracing::error!(message.id = %id, provider.name = provider, "a submission panicked");
        let error = SendError::passing("internal_error", "the submission broke off");
        self.next_of(taken, way, Outcome::Unknown { error }, began)
    }

    /// What follows from the outcome of a try begun at `began`.
    fn next_of(&self, taken: &Taken, way: &Way<'_>, outcome: Outcome, began: Instant) -> Next {
        let (began, ended) = (taken.hold.store_time(began), taken.hold.store_time(Instant::now()));
        let terms = Terms { policy: &self.lane.policy, guarantee: taken.hold.job.spec.guarantee };
        way.next_of(taken.open(), outcome, terms, began, ended)
    }

    /// Lets go of a message of which nothing is recorded; its slot is free at once.
    fn put_down(&self, taken: Taken, how: fn(Taken)) {
        how(taken);
        self.lane.slots.add_permits(1);
        self.lane.settle.notify_one();
    }

    /// Records what follows for a message whose last try left through `through`.
    fn record(&self, taken: Taken, next: &Next, through: Through) {
        if tracing::enabled!(tracing::Level::DEBUG) {
            let to = Masked(taken.entry().to).to_string();
            tracing::debug!(message.id = %taken.id(), to, outcome = ?kind(next), "message tried");
        }
        let hold = Arc::clone(&taken.hold);
        let now = hold.store_time(Instant::now());
        if taken.record(next, self.lane.name_of(through), now) {
            self.lane.recorded(hold.is_finished());
        } else {
            self.lane.slots.add_permits(1);
            self.lane.metrics.late_outcomes_refused(1);
        }
    }
}

/// Stops the provider for every worker if it asked for that, and has its rate cut; or only the sender that a
/// message to `to` of a batch `from` has there.
fn obey(exit: &Arc<Shared>, outcome: &Outcome, from: Option<&str>, to: &str) {
    let Outcome::Throttled { after, who, .. } = outcome else { return };
    let pause = (*after).min(PAUSE_MAX);
    let is_of_sender = *who == Throttled::Sender;
    let levels = exit.levels.as_ref().filter(|_| is_of_sender);
    if levels.is_some_and(|levels| levels.rest_sender(from, to, Instant::now() + pause)) {
        tracing::warn!(provider.name = exit.name, pause_ms = pause.as_millis(), "a sender rests");
        return;
    }
    let known = exit.gate.pause_left();
    exit.gate.pause(pause);
    // Many exchanges end with the same news: only what lengthens the pause, or may cut the rate, is told on.
    let is_longer = pause.saturating_sub(known) >= Duration::from_millis(100);
    let wants_cut = |adaptive: &Adaptive| adaptive.wants_cut(Instant::now());
    let cuts = !is_of_sender && exit.gate.adaptive.as_ref().is_some_and(wants_cut);
    if is_longer {
        exit.metrics.provider_paused(&exit.name);
        tracing::warn!(
            provider.name = exit.name,
            pause_ms = pause.as_millis(),
            "provider asked for a pause"
        );
    }
    if !is_longer && !cuts {
        return;
    }
    let lane = Arc::clone(exit);
    tokio::spawn(async move {
        match (lane.store.dispatch.throttle(&lane.name, pause, cuts).await, &lane.gate.adaptive) {
            (Ok(Some(share)), Some(adaptive)) => adaptive.cut(share),
            (Ok(_), _) => {}
            (Err(error), _) => {
                tracing::warn!(provider.name = lane.name, %error, "other workers were not told of the pause");
            }
        }
    });
}

fn kind(next: &Next) -> &'static str {
    match next {
        Next::Ended(ended) => ended.state.word(),
        Next::Waiting { .. } => "waiting for another try",
    }
}
