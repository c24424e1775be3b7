//! A lane: all that one worker does for one provider, and what its parts share.
//!
//! The claimer puts holds in, senders take messages out, the settler ends holds, the keeper keeps
//! their leases. Slots bound what may be lost at a crash (I6): a sender takes one before it submits,
//! and the settler gives it back once the outcome is in the store. There are twice as many as open
//! exchanges, so one half may be settled while the other is in flight.

use std::{
    collections::VecDeque,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit},
    time::sleep_until,
};

use super::{
    breaker::Breaker,
    gate::Gate,
    hold::{Hold, Taken},
    levels::{Levels, Origin},
    run::Run,
};
use crate::{
    domain::retry::RetryPolicy,
    providers::{CommonSettings, Provider},
    store::{Store, Wish},
    telemetry::Metrics,
};

/// So many holds of a lane have a window of marked messages at once: one that is sent, and one that is
/// next.
const SHARES: u32 = 2;

/// The most chunks in hand at once.
const HOLDS_MAX: usize = 256;

/// A provider, and how its messages are paced and retried.
pub struct Lane {
    /// The provider's name in the configuration.
    pub name: String,
    /// Its adapter.
    pub provider: Arc<dyn Provider>,
    /// What its table sets.
    pub settings: CommonSettings,
}

/// What the parts of a running lane share.
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) provider: Arc<dyn Provider>,
    pub(super) policy: RetryPolicy,
    /// Where messages come from whose batch does not say so.
    pub(super) origin: Origin,
    pub(super) max_in_flight: u32,
    pub(super) store: Store,
    pub(super) lease: Duration,
    pub(super) metrics: Arc<Metrics>,
    pub(super) gate: Gate,
    /// The levels of its rate, if it has more than one, or counts segments.
    pub(super) levels: Option<Levels>,
    /// Whether the provider is away.
    pub(super) breaker: Breaker,
    /// The name of the provider that stands in meanwhile.
    fallback_name: Option<String>,
    /// Its lane; set once all lanes are there, if there is one.
    fallback: OnceLock<Arc<Self>>,
    /// The open exchanges that it may have; set if it stands in for another. Else its senders are as many.
    exchanges: OnceLock<Semaphore>,
    pub(super) slots: Semaphore,
    /// Holds with messages to take, in the order claimed. Senders read it, the claimer adds.
    queue: Mutex<VecDeque<Arc<Hold>>>,
    /// How many holds in `queue` give their messages out piecemeal. While there are any, senders look
    /// through all of them.
    piecemeal: AtomicUsize,
    /// How many more holds may have a window of marked messages.
    shares: AtomicU32,
    /// Holds that have not ended. The claimer adds, the settler removes, the keeper reads.
    active: Mutex<Vec<Arc<Hold>>>,
    /// Rung when there is something to take.
    work: Notify,
    /// Rung when the claimer should look.
    pub(super) wanted: Notify,
    /// Rung when the settler should look.
    pub(super) settle: Notify,
    /// Outcomes recorded since the settler last looked.
    unsettled: AtomicU32,
    /// Whether the claimer has stopped: then the settler ends with the last hold.
    closed: AtomicBool,
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(lane: Lane, store: Store, lease: Duration, metrics: Arc<Metrics>) -> Self {
        let Lane { name, provider, settings } = lane;
        let max_in_flight = settings.max_in_flight.max(1);
        let gate = Gate::new(&name, &settings, Arc::clone(&store.dispatch));
        Self {
            gate,
            breaker: Breaker::new(settings.breaker),
            fallback_name: settings.fallback.clone(),
            fallback: OnceLock::new(),
            exchanges: OnceLock::new(),
            name,
            provider,
            policy: (&settings.retry).into(),
            levels: Levels::new(&settings),
            origin: Origin::new(&settings),
            max_in_flight,
            store,
            lease,
            metrics,
            slots: Semaphore::new(2 * max_in_flight as usize),
            queue: Mutex::default(),
            piecemeal: AtomicUsize::new(0),
            shares: AtomicU32::new(SHARES),
            active: Mutex::default(),
            work: Notify::new(),
            wanted: Notify::new(),
            settle: Notify::new(),
            unsettled: AtomicU32::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// Finds the lane of the fallback among all lanes, which settings name.
    pub(super) fn find_fallback(&self, lanes: &[Arc<Self>]) {
        let wanted = self.fallback_name.as_deref();
        let Some(fallback) = lanes.iter().find(|lane| Some(lane.name.as_str()) == wanted) else {
            return;
        };
        let permits = fallback.max_in_flight as usize;
        fallback.exchanges.get_or_init(|| Semaphore::new(permits));
        self.fallback.get_or_init(|| Arc::clone(fallback));
    }

    /// The lane of the provider that stands in while this one is away.
    pub(super) fn fallback(&self) -> Option<&Arc<Self>> {
        self.fallback.get()
    }

    /// Waits until one more exchange may be open, where that is not bounded by the number of senders alone.
    pub(super) async fn exchange(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.exchanges.get()?.acquire().await.ok()
    }

    /// Puts a fresh hold in.
    pub(super) fn add(self: &Arc<Self>, hold: &Arc<Hold>) {
        self.active.lock().push(Arc::clone(hold));
        let messages = hold.left();
        if messages == 0 {
            self.settle.notify_one();
            return;
        }
        {
            let mut queue = self.queue.lock();
            queue.push_back(Arc::clone(hold));
            self.count_piecemeal(&queue);
        }
        if let Some(times) = hold.times() {
            tokio::spawn(Arc::clone(self).ring_at_times(Arc::clone(hold), times));
        }
        if hold.window().is_some() {
            // It is rung for once the store has its first mark.
            self.settle.notify_one();
        } else if !hold.is_piecemeal() {
            self.ring(messages);
        }
    }

    /// Rings for each message of a paced hold at its time.
    async fn ring_at_times(self: Arc<Self>, hold: Arc<Hold>, mut times: Run) {
        while let Some(next) = times.next(Instant::now()).filter(|_| hold.left() > 0) {
            sleep_until(next.into()).await;
            self.ring_levels();
            self.work.notify_one();
            times.use_one();
        }
    }

    /// The next message to send, if there is one. `current` is where the caller took its last one
    /// from: as long as that has more, nothing is locked, unless there are holds that give
    /// out piecemeal.
    pub(super) fn take(&self, current: &mut Option<Arc<Hold>>) -> Option<Taken> {
        if self.piecemeal.load(Ordering::Relaxed) > 0 {
            *current = None;
            return self.take_piecemeal();
        }
        loop {
            if let Some(hold) = current {
                if let Some(taken) = hold.take() {
                    if hold.left() == 0 {
                        self.wanted.notify_one();
                    }
                    return Some(taken);
                }
                if hold.is_finished() {
                    self.settle.notify_one();
                }
            }
            let mut queue = self.queue.lock();
            while queue.front().is_some_and(|hold| hold.left() == 0) {
                queue.pop_front();
            }
            *current = queue.front().map(Arc::clone);
            if current.is_none() {
                return None;
            }
        }
    }

    /// The next message of the first hold that gives one out. While one leaves at times of its own, holds
    /// take turns, so that its times are not missed while another is emptied; else one after the other,
    /// so that a settlement has much to say of few.
    fn take_piecemeal(&self) -> Option<Taken> {
        let mut queue = self.queue.lock();
        let in_turn = queue.iter().any(|hold| hold.is_paced());
        let mut found = None;
        for at in 0..queue.len() {
            if let Some(taken) = queue[at].take() {
                if in_turn {
                    queue.rotate_left(at + 1);
                }
                found = Some(taken);
                break;
            }
        }
        self.drop_taken(&mut queue);
        found
    }

    /// The next message to send, whatever the levels of this provider's rate: it leaves through another one.
    pub(super) fn take_any(&self, current: &mut Option<Arc<Hold>>) -> Option<Taken> {
        if self.levels.is_none() {
            return self.take(current);
        }
        self.look_through(|holds| Levels::take_any(holds))
    }

    /// Looks through the holds that have messages left.
    pub(super) fn look_through<T>(&self, look: impl FnOnce(&mut VecDeque<Arc<Hold>>) -> T) -> T {
        let mut queue = self.queue.lock();
        self.drop_taken(&mut queue);
        look(&mut queue)
    }

    /// Drops the holds of which every message was taken, and asks for others.
    fn drop_taken(&self, queue: &mut VecDeque<Arc<Hold>>) {
        let held = queue.len();
        queue.retain(|hold| hold.left() > 0);
        if queue.len() < held {
            self.count_piecemeal(queue);
            self.wanted.notify_one();
            self.settle.notify_one();
        }
    }

    fn count_piecemeal(&self, queue: &VecDeque<Arc<Hold>>) {
        let piecemeal = queue.iter().filter(|hold| hold.is_piecemeal()).count();
        self.piecemeal.store(piecemeal, Ordering::Relaxed);
    }

    /// Gives a share of what may be marked and not settled, if one is left.
    pub(super) fn take_share(&self) -> bool {
        let less = |shares: u32| shares.checked_sub(1);
        self.shares.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    /// Whether a share is left.
    pub(super) fn has_share(&self) -> bool {
        self.shares.load(Ordering::Relaxed) > 0
    }

    pub(super) fn give_share_back(&self) {
        self.shares.fetch_add(1, Ordering::Relaxed);
    }

    /// Rings for messages of a hold that may be taken from now on.
    pub(super) fn ring(&self, messages: usize) {
        self.ring_levels();
        if messages >= self.max_in_flight as usize {
            self.work.notify_waiters();
        } else {
            (0..messages).for_each(|_| self.work.notify_one());
        }
    }

    fn ring_levels(&self) {
        if let Some(levels) = &self.levels {
            levels.ring();
        }
    }

    /// Resolves when there may be something to take.
    pub(super) async fn work(&self) {
        loop {
            let rung = self.work.notified();
            tokio::pin!(rung);
            rung.as_mut().enable();
            if self.left() > 0 {
                return;
            }
            rung.await;
        }
    }

    /// How many messages in hand can be taken now.
    pub(super) fn left(&self) -> usize {
        let now = Instant::now();
        self.queue.lock().iter().map(|hold| hold.due(now)).sum()
    }

    /// How many messages in hand can be taken now, or as soon as they are marked.
    pub(super) fn in_hand(&self) -> usize {
        let now = Instant::now();
        self.queue.lock().iter().map(|hold| hold.in_hand(now)).sum()
    }

    /// Whether as many chunks are held as may be: paced ones wait in hand for their times.
    pub(super) fn is_full(&self) -> bool {
        self.active.lock().len() >= HOLDS_MAX
    }

    /// Counts an outcome, and wakes the settler for the first one of a round, for the one that
    /// fills the round, and for one that finishes its hold.
    pub(super) fn recorded(&self, finished: bool) {
        let before = self.unsettled.fetch_add(1, Ordering::Relaxed);
        if before == 0 || before + 1 == self.round() || finished {
            self.settle.notify_one();
        }
    }

    /// Takes note that the settler looks now.
    pub(super) fn looked(&self) {
        self.unsettled.store(0, Ordering::Relaxed);
    }

    /// Whether outcomes were recorded since the settler last looked.
    pub(super) fn has_outcomes(&self) -> bool {
        self.unsettled.load(Ordering::Relaxed) > 0
    }

    /// Whether a round of outcomes is full.
    pub(super) fn round_is_full(&self) -> bool {
        self.unsettled.load(Ordering::Relaxed) >= self.round()
    }

    /// So many outcomes are worth a settlement at once.
    fn round(&self) -> u32 {
        (self.max_in_flight / 2).clamp(1, 1_000)
    }

    pub(super) fn active(&self) -> Vec<Arc<Hold>> {
        self.active.lock().clone()
    }

    /// Whether the claimer has stopped and the last hold has ended.
    pub(super) fn is_over(&self) -> bool {
        self.closed.load(Ordering::SeqCst) && self.active.lock().is_empty()
    }

    /// Forgets a hold that has ended.
    pub(super) fn remove(&self, ended: &Arc<Hold>) {
        self.active.lock().retain(|hold| !Arc::ptr_eq(hold, ended));
        self.wanted.notify_one();
    }

    /// The claimer has stopped: what is in hand goes back.
    pub(super) fn close_down(&self) {
        self.close(Wish::Pause, |_| true);
        self.closed.store(true, Ordering::SeqCst);
        self.settle.notify_one();
    }

    /// Closes holds that `which` names, as `wish` says.
    pub(super) fn close(&self, wish: Wish, which: impl Fn(&Hold) -> bool) {
        for hold in self.active().iter().filter(|hold| hold.left() > 0 && which(hold)) {
            hold.close(wish);
            self.settle.notify_one();
        }
    }

    /// When the first turn of a hold with messages left is over.
    pub(super) fn next_turn_end(&self) -> Option<Instant> {
        let queue = self.queue.lock();
        queue.iter().filter(|hold| hold.left() > 0).map(|hold| hold.turn_ends()).min()
    }
}
