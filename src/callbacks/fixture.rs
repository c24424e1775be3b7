//! What the tests of the notifier stand on: events, and a store of them in memory.

use std::{collections::VecDeque, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::{
    domain::{
        batch::{Batch, BatchSpec, BatchState, CallbackSpec, CallbackState, Counts, FinalCounts},
        event::{Event, Occurrence},
        ids::{BatchId, EventId},
        message::{FinalState, MessageState},
        time::UnixMs,
    },
    store::{
        Attempt, AttemptsView, BatchFilter, Callbacks, EventFilter, EventView, MessageView,
        Reading, RecipientView, Recorded, Stats, StoreError, TakenEvent, Verdict,
    },
};

/// How long tests wait for what comes at once.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// The first attempt at a completion event.
pub(super) fn completion() -> TakenEvent {
    event(0, "http://127.0.0.1:1/")
}

/// The first attempt at a report of progress.
pub(super) fn progress() -> TakenEvent {
    let taken = completion();
    let what = Occurrence::Progress(taken.batch.counts);
    TakenEvent { event: Event { what, ..taken.event.clone() }, ..taken }
}

/// The first attempt at the completion event of the batch with this number.
pub(super) fn event(number: u64, url: &str) -> TakenEvent {
    let mut ended = FinalCounts::default();
    ended.add(FinalState::Sent, 2);
    let headers = vec![
        ("X-Api-Token".into(), "t0ken".into()),
        ("Webhook-Id".into(), "evt_forged".into()),
        ("Content-Type".into(), "text/plain".into()),
    ];
    let callback = Some(CallbackSpec { url: url.into(), headers, ..CallbackSpec::default() });
    let batch = Batch {
        id: BatchId::new(UnixMs(1_790_000_000_000 + number), 99 << 30, 0),
        spec: BatchSpec { callback, ..BatchSpec::default() },
        state: BatchState::Completed,
        counts: Counts { total: 2, sending: 0, ended },
        skipped: 0,
        started_at: Some(UnixMs(1_790_000_000_010)),
        completed_at: Some(UnixMs(1_790_000_000_250)),
        callback: CallbackState::Pending,
    };
    let event = Event {
        id: batch.id.event(),
        batch: batch.id,
        sequence: 1,
        at: UnixMs(1_790_000_000_250),
        what: Occurrence::Completed,
    };
    let age = Duration::ZERO;
    TakenEvent { event, batch, number: 1, tries: 1, age, interrupted: false, body: None }
}

/// A store in which the completion events of these URLs are due.
pub(super) fn events(urls: &[String]) -> Events {
    let due = (0..).zip(urls).map(|(number, url)| event(number, url)).collect();
    Events { due: Mutex::new(due), ..Events::default() }
}

/// A store of events in memory: those that are due, and what was recorded.
#[derive(Default)]
pub(super) struct Events {
    pub(super) due: Mutex<VecDeque<TakenEvent>>,
    pub(super) held: Mutex<Vec<TakenEvent>>,
    pub(super) records: Mutex<Vec<Attempt>>,
    pub(super) welcomes: Mutex<Vec<(String, String)>>,
    pub(super) secret: Mutex<Option<String>>,
    /// How many times `take`, and `record`, fail from now on.
    pub(super) take_failures: Mutex<usize>,
    pub(super) record_failures: Mutex<usize>,
    pub(super) takes: Mutex<usize>,
    /// What the next record is said to have come to, if not that it is kept.
    pub(super) said: Mutex<Option<Recorded>>,
    pub(super) recorded: tokio::sync::Notify,
}

// === impl Events ===

#[async_trait]
impl Callbacks for Events {
    async fn take(&self, limit: usize, _: Duration) -> Result<Vec<TakenEvent>, StoreError> {
        *self.takes.lock() += 1;
        fail(&self.take_failures)?;
        let mut due = self.due.lock();
        let room = limit.min(due.len());
        let taken: Vec<_> = due.drain(..room).collect();
        self.held.lock().extend(taken.iter().cloned());
        Ok(taken)
    }

    async fn body(&self, event: EventId, body: String) -> Result<Option<String>, StoreError> {
        let mut held = self.held.lock();
        let taken = held.iter_mut().find(|taken| taken.event.id == event).unwrap();
        Ok(Some(taken.body.get_or_insert(body).clone()))
    }

    async fn record(&self, attempt: &Attempt) -> Result<Recorded, StoreError> {
        fail(&self.record_failures)?;
        let mut held = self.held.lock();
        let Some(at) = held.iter().position(|taken| taken.event.id == attempt.event) else {
            return Ok(Recorded::Lost);
        };
        let mut taken = held.remove(at);
        if let Verdict::Again(_) = attempt.verdict {
            // However long the wait, it is over at once.
            taken.number += 1;
            taken.tries += 1;
            taken.interrupted = false;
            self.due.lock().push_back(taken);
        }
        self.records.lock().push(attempt.clone());
        self.recorded.notify_waiters();
        Ok(self.said.lock().take().unwrap_or(Recorded::Kept))
    }

    async fn next_due(&self) -> Result<Option<Duration>, StoreError> {
        Ok((!self.due.lock().is_empty()).then_some(Duration::ZERO))
    }

    async fn is_welcome(&self, account: &str, host: &str) -> Result<bool, StoreError> {
        let welcomes = self.welcomes.lock();
        Ok(welcomes.iter().any(|(its, at)| its == account && at == host))
    }

    async fn welcome(&self, account: &str, host: &str) -> Result<(), StoreError> {
        self.welcomes.lock().push((account.to_owned(), host.to_owned()));
        Ok(())
    }

    async fn signing_secret(&self, secret: &str) -> Result<String, StoreError> {
        Ok(self.secret.lock().get_or_insert(secret.to_owned()).clone())
    }
}

impl Events {
    /// Waits until this many attempts are recorded.
    pub(super) async fn recorded(&self, attempts: usize) -> Vec<Attempt> {
        loop {
            let recorded = self.recorded.notified();
            if self.records.lock().len() >= attempts {
                return self.records.lock().clone();
            }
            let wait = tokio::time::timeout(PATIENCE, recorded);
            wait.await.expect("too few attempts were recorded");
        }
    }
}

fn fail(failures: &Mutex<usize>) -> Result<(), StoreError> {
    let mut failures = failures.lock();
    if *failures == 0 {
        return Ok(());
    }
    *failures -= 1;
    Err(away())
}

fn away() -> StoreError {
    StoreError::Unreachable("as the test wishes".into())
}

/// What nobody here reads: completion events need nothing but their batch.
pub(super) struct Unread;

#[async_trait]
impl Reading for Unread {
    async fn batch(&self, _: &str, _: BatchId) -> Result<Option<Batch>, StoreError> {
        Err(away())
    }

    async fn batches(
        &self,
        _: &str,
        _: &BatchFilter,
        _: Option<BatchId>,
        _: usize,
    ) -> Result<(Vec<Batch>, Option<BatchId>), StoreError> {
        Err(away())
    }

    async fn messages(
        &self,
        _: BatchId,
        _: Option<MessageState>,
        _: u32,
        _: usize,
    ) -> Result<(Vec<MessageView>, Option<u32>), StoreError> {
        Err(away())
    }

    async fn recipients(
        &self,
        _: BatchId,
        _: &[FinalState],
        _: u32,
        _: usize,
    ) -> Result<(Vec<RecipientView>, Option<u32>), StoreError> {
        Err(away())
    }

    async fn attempts(&self, _: &str, _: BatchId) -> Result<Option<AttemptsView>, StoreError> {
        Err(away())
    }

    async fn events(
        &self,
        _: &str,
        _: &EventFilter,
        _: Option<EventId>,
        _: usize,
    ) -> Result<Option<(Vec<EventView>, Option<EventId>)>, StoreError> {
        Err(away())
    }

    async fn events_after(
        &self,
        _: &str,
        _: Option<EventId>,
        _: usize,
    ) -> Result<Option<Vec<EventView>>, StoreError> {
        Err(away())
    }

    async fn stats(&self, _: &[String]) -> Result<Stats, StoreError> {
        Err(away())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Err(away())
    }
}
