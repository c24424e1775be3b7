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
    hold::{Hold, Taken},
    lane::Shared,
    optouts,
};
use crate::{
    crash,
    domain::{
        message::{Next, Terms},
        outcome::{Outcome, SendError},
        recipient::Masked,
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
            if let Some(taken) = next {
                self.send(taken).await;
            }
            tokio::task::coop::consume_budget().await;
        }
    }

    /// The next message that may leave now; its slot is taken.
    async fn next(&mut self, lane: &Shared) -> Option<Taken> {
        if self.current.as_ref().is_none_or(|hold| hold.left() == 0) {
            self.current = None;
            lane.work().await;
        }
        // The semaphore is never closed.
        let slot = lane.slots.acquire().await.ok()?;
        let taken = match &lane.levels {
            None => lane.gate.pass(|| lane.left(), || lane.take(&mut self.current)).await?,
            Some(levels) => levels.pass(lane).await?,
        };
        slot.forget();
        Some(taken)
    }

    async fn send(&mut self, taken: Taken) {
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
            let next = taken.open().expire();
            self.record(taken, &next);
            return;
        }
        let tried = AssertUnwindSafe(self.try_once(&taken, began)).catch_unwind().await;
        match tried.unwrap_or_else(|_| Some(self.contain(&taken, began))) {
            Some(next) => self.record(taken, &next),
            None => self.put_down(taken, Taken::abandon),
        }
    }

    /// What follows from one try; `None` if the lease was lost meanwhile.
    async fn try_once(&mut self, taken: &Taken, began: Instant) -> Option<Next> {
        let (job, entry, open) = (&taken.hold.job, taken.entry(), taken.open());
        if let Err(unfit) = job.composer.write(&entry, &mut self.body) {
            return Some(open.unfit(unfit.into()));
        }
        let submission = Submission {
            id: taken.id(),
            to: entry.to,
            from: self.lane.origin.of(job.spec.from.as_deref(), entry.to),
            body: &self.body,
            attempts: open.attempts,
            valid_for: taken.time_left(began),
        };
        let outcome = tokio::select! {
            biased;
            outcome = self.lane.provider.submit(submission) => outcome,
            () = taken.hold.lost() => return None,
        };
        if matches!(outcome, Outcome::Accepted { .. }) {
            crash::point("accepted");
        }
        self.obey(&outcome);
        optouts::learn(&self.lane, &outcome, &job.spec.account, entry.to);
        Some(self.next_of(taken, outcome, began))
    }

    /// A panic is an unknown outcome of this message, and touches no other.
    fn contain(&self, taken: &Taken, began: Instant) -> Next {
        self.lane.metrics.panic_contained();
        let (id, provider) = (taken.id(), &self.lane.name);
        tracing::error!(message.id = %id, provider.name = provider, "a submission panicked");
        let error = SendError::passing("internal_error", "the submission broke off");
        self.next_of(taken, Outcome::Unknown { error }, began)
    }

    /// What follows from the outcome of a try begun at `began`.
    fn next_of(&self, taken: &Taken, outcome: Outcome, began: Instant) -> Next {
        let (began, ended) = (taken.hold.store_time(began), taken.hold.store_time(Instant::now()));
        let terms = Terms { policy: &self.lane.policy, guarantee: taken.hold.job.spec.guarantee };
        taken.open().after(outcome, terms, began, ended, rand::random())
    }

    /// Lets go of a message of which nothing is recorded; its slot is free at once.
    fn put_down(&self, taken: Taken, how: fn(Taken)) {
        how(taken);
        self.lane.slots.add_permits(1);
        self.lane.settle.notify_one();
    }

    /// Stops the provider for every worker if it asked for that.
    fn obey(&self, outcome: &Outcome) {
        let Outcome::Throttled { after, .. } = outcome else { return };
        let pause = (*after).min(PAUSE_MAX);
        let known = self.lane.gate.pause_left();
        self.lane.gate.pause(pause);
        // Many exchanges end with the same news: only what lengthens the pause is told on.
        if pause.saturating_sub(known) < Duration::from_millis(100) {
            return;
        }
        self.lane.metrics.provider_paused(&self.lane.name);
        tracing::warn!(
            provider.name = self.lane.name,
            pause_ms = pause.as_millis(),
            "provider asked for a pause"
        );
        let lane = Arc::clone(&self.lane);
        tokio::spawn(async move {
            if let Err(error) = lane.store.dispatch.throttle(&lane.name, pause).await {
                tracing::warn!(provider.name = lane.name, %error, "other workers were not told of the pause");
            }
        });
    }

    fn record(&self, taken: Taken, next: &Next) {
        if tracing::enabled!(tracing::Level::DEBUG) {
            let to = Masked(taken.entry().to).to_string();
            tracing::debug!(message.id = %taken.id(), to, outcome = ?kind(next), "message tried");
        }
        let hold = Arc::clone(&taken.hold);
        let now = hold.store_time(Instant::now());
        if taken.record(next, now) {
            self.lane.recorded(hold.is_finished());
        } else {
            self.lane.slots.add_permits(1);
            self.lane.metrics.late_outcomes_refused(1);
        }
    }
}

fn kind(next: &Next) -> &'static str {
    match next {
        Next::Ended(ended) => ended.state.word(),
        Next::Waiting { .. } => "waiting for another try",
    }
}
