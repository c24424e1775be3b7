//! A chunk in a worker's hands.
//!
//! Senders take its messages one by one and record what came of them; the settler collects the
//! records; the keeper extends its lease. It is finished once nothing is left to take and nothing
//! is in flight; then the settler lets go of it. Three rules hold it together:
//!
//! - `in_flight` is raised before a place is taken, and lowered after its outcome is recorded. So
//!   when it is 0 and nothing is left to take, every outcome is in the outbox.
//! - A closed hold gives out no more places; what was not taken goes back to the store.
//! - Past its deadline nothing is given out, whatever else holds (I8).
//!
//! Some holds give their messages out piecemeal:
//!
//! - A batch with a rate of its own comes with send times: a message is given out at its time, and there
//!   are no more of them than times.
//! - A batch that is sent at most once, and a chunk that is handled with care, have a window: a message is
//!   given out once the store has a mark that covers it, and no more of them are marked and unsettled
//!   than the window allows. So it is known after a crash what may have left.

mod outbox;
mod sorted;
mod strands;
mod taken;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

pub(super) use self::{outbox::Outbox, taken::Taken};
use self::{
    sorted::{Known, Sorted},
    strands::Strands,
};
use super::{job::Job, run::Run};
use crate::{
    domain::{batch::DeliveryGuarantee, chunk, message::FinalState, past::Mark, time::UnixMs},
    store::{Claimed, Holding, Release, Token, Wish, pace::BURST},
};

/// A turn: after this long the worker gives back what it has not sent, and others take theirs.
pub(super) const TURN: Duration = Duration::from_millis(500);

/// So many messages of a batch that is sent at most once are marked and not settled; two chunks of a lane
/// are at once, see [`Shared::take_share`](super::lane::Shared::take_share).
const WINDOW: usize = 128;

/// Places taken from a closed hold start here: above every place there is.
const CLOSED: u32 = 1 << 30;

pub(super) struct Hold {
    pub(super) job: Arc<Job>,
    pub(super) chunk: u32,
    pub(super) token: Token,
    first: u32,
    recipients: Bytes,
    /// Where each entry begins in `recipients`.
    offsets: Vec<u32>,
    /// The places to send now.
    ready: Vec<u16>,
    /// The same in strands, if those of different senders or prefixes wait for different clocks.
    strands: Option<Mutex<Strands>>,
    /// When they may leave, if the batch has a rate of its own.
    times: Option<Mutex<Run>>,
    known: Known,
    /// When the first of the places that are not ready comes due.
    later: Option<UnixMs>,
    /// When the claim was sent: the lease counts from here.
    claimed_at: Instant,
    /// When it was answered, by our clock and by the store's.
    answered_at: (Instant, UnixMs),
    turn_ends: Instant,
    /// How many messages may be marked and not settled, if they must be marked.
    window: Option<usize>,
    /// How many of `ready` may be taken: all that are marked.
    marked: AtomicU32,
    /// The next of `ready` to be taken.
    next: AtomicU32,
    in_flight: AtomicU32,
    finished: AtomicBool,
    /// The end of the lease as far as this worker goes, in microseconds after `claimed_at`.
    deadline_us: AtomicU64,
    /// Cancelled when the lease is lost: open exchanges are dropped.
    lost: CancellationToken,
    outbox: Mutex<Outbox>,
}

// === impl Hold ===

impl Hold {
    /// What was claimed, by a call sent at `claimed_at`, under a lease of `lease`. No message waits
    /// for longer than `wait_max`: one that seems to was stored before the clock was stepped back. The places in `opted_out`, which are in
    /// order, are not sent.
    pub(super) fn new(
        mut claimed: Claimed,
        job: Arc<Job>,
        claimed_at: Instant,
        lease: Duration,
        wait_max: Duration,
        opted_out: &[u16],
    ) -> Self {
        let answered_at = Instant::now();
        let known = Known::new(std::mem::take(&mut claimed.waiting), &claimed.past);
        let Sorted { mut ready, later, mut outbox } =
            Sorted::new(&claimed, &known, wait_max, opted_out);
        let times = send_times(&claimed, &job, claimed_at, answered_at);
        let places = claimed.times.map_or(usize::MAX, |times| times.messages as usize);
        outbox.given_back = places < ready.len();
        ready.truncate(places);
        let turn_ends = times.as_ref().map_or(claimed_at, Run::ends).max(claimed_at + TURN);
        let Claimed { chunk, first, token, now, states, recipients, past, .. } = claimed;
        let window = match job.spec.guarantee {
            DeliveryGuarantee::AtMostOnce => Some(WINDOW),
            DeliveryGuarantee::AtLeastOnce => past.needs_care().then_some(1),
        };
        let marked = if window.is_some() { 0 } else { ready.len() };
        let hold = Self {
            job,
            chunk,
            token,
            first,
            offsets: chunk::offsets(&recipients, states.len()),
            recipients,
            finished: AtomicBool::new(ready.is_empty()),
            ready,
            strands: None,
            times: times.map(Mutex::new),
            known,
            later,
            claimed_at,
            answered_at: (answered_at, now),
            turn_ends,
            window,
            marked: AtomicU32::new(count(marked)),
            next: AtomicU32::new(0),
            in_flight: AtomicU32::new(0),
            deadline_us: AtomicU64::new(0),
            lost: CancellationToken::new(),
            outbox: Mutex::new(outbox),
        };
        hold.extend(claimed_at, lease);
        hold
    }

    /// How many messages this hold began with.
    pub(super) fn size(&self) -> usize {
        self.ready.len()
    }

    pub(super) fn claimed_at(&self) -> Instant {
        self.claimed_at
    }

    /// How many messages are left to take.
    pub(super) fn left(&self) -> usize {
        let next = usize::try_from(self.next.load(Ordering::SeqCst)).unwrap_or(usize::MAX);
        self.ready.len().saturating_sub(next)
    }

    /// The next message to send, or `None` if nothing is left, or nothing may be sent any more.
    pub(super) fn take(self: &Arc<Self>) -> Option<Taken> {
        if self.left() == 0 || !self.use_time(Instant::now()) {
            return None;
        }
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let marked = self.marked.load(Ordering::SeqCst);
        let next = |next| (next < marked).then_some(next + 1);
        let next = self.next.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
        let place = next.ok().and_then(|next| self.ready.get(usize::try_from(next).ok()?));
        if let Some(place) = place {
            Some(Taken { hold: Arc::clone(self), place: *place })
        } else {
            self.land();
            None
        }
    }

    /// How many messages may be marked and not settled, if they must be marked.
    pub(super) fn window(&self) -> Option<usize> {
        self.window
    }

    /// Whether messages are left and all that are marked were taken.
    pub(super) fn lacks_marks(&self) -> bool {
        let (next, marked) = (self.next.load(Ordering::SeqCst), self.marked.load(Ordering::SeqCst));
        self.left() > 0 && next >= marked
    }

    /// The mark that covers the first `messages` to send.
    pub(super) fn mark(&self, messages: usize) -> Option<Mark> {
        let last = self.ready.get(messages.checked_sub(1)?)?;
        Some(Mark { upto: u32::from(*last) + 1, claimed_at: self.answered_at.1 })
    }

    /// The store has the mark that covers the first `messages`: they may be taken. Gives how many more
    /// these are.
    pub(super) fn allow(&self, messages: usize) -> usize {
        let marked = count(messages);
        let before = self.marked.fetch_max(marked, Ordering::SeqCst);
        usize::try_from(marked.saturating_sub(before)).unwrap_or(usize::MAX)
    }

    /// Whether its messages leave at times of their own.
    pub(super) fn is_paced(&self) -> bool {
        self.times.is_some()
    }

    /// Whether its messages are given out piecemeal.
    pub(super) fn is_piecemeal(&self) -> bool {
        self.times.is_some() || self.window.is_some()
    }

    /// How many messages may be taken at `now`.
    pub(super) fn due(&self, now: Instant) -> usize {
        let (next, marked) = (self.next.load(Ordering::SeqCst), self.marked.load(Ordering::SeqCst));
        let marked = usize::try_from(marked.saturating_sub(next)).unwrap_or(usize::MAX);
        self.in_hand(now).min(marked)
    }

    /// How many messages may be taken at `now`, or as soon as they are marked.
    pub(super) fn in_hand(&self, now: Instant) -> usize {
        let due = self.times.as_ref().map_or(usize::MAX, |times| times.lock().due(now));
        self.left().min(due)
    }

    /// The send times that are left.
    pub(super) fn times(&self) -> Option<Run> {
        self.times.as_ref().map(|times| *times.lock())
    }

    /// Uses up a send time; false if none has come.
    fn use_time(&self, now: Instant) -> bool {
        let Some(times) = &self.times else { return true };
        let mut times = times.lock();
        let has_come = times.due(now) > 0;
        if has_come {
            times.use_one();
        }
        has_come
    }

    /// Gives out no more places. What was not taken ends now, as canceled or expired, or goes back
    /// to the store when the hold ends.
    pub(super) fn close(&self, wish: Wish) {
        // Locked over the swap: whoever then finds the hold finished waits for the rest of this.
        let mut outbox = self.outbox.lock();
        let next = self.next.swap(CLOSED, Ordering::SeqCst);
        let untaken = self.untaken(next);
        if !untaken.is_empty() {
            let state = match wish {
                Wish::Cancel => Some(FinalState::Canceled),
                Wish::Expire => Some(FinalState::Expired),
                Wish::Go | Wish::Pause => None,
            };
            if let Some(state) = state {
                let closed = |place: &u16| (*place, self.known.of(*place).closed_as(state).into());
                outbox.ended.extend(untaken.iter().map(closed));
            } else {
                outbox.given_back = true;
            }
        }
        drop(outbox);
        self.look_whether_finished();
    }

    /// The lease is gone: nothing more may be sent or settled.
    pub(super) fn lose(&self) {
        self.close(Wish::Pause);
        self.lost.cancel();
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Resolves when the lease is lost.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Whether nothing is left to take, nothing is in flight, and every outcome is in the outbox.
    pub(super) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::SeqCst)
    }

    /// Whether its turn is over at `now`.
    pub(super) fn turn_is_over(&self, now: Instant) -> bool {
        now >= self.turn_ends()
    }

    pub(super) fn turn_ends(&self) -> Instant {
        self.turn_ends
    }

    /// The lease was extended to `lease` by a call sent at `sent_at`. A tenth is kept back for
    /// clocks that don't run alike.
    pub(super) fn extend(&self, sent_at: Instant, lease: Duration) {
        let deadline = sent_at.duration_since(self.claimed_at) + lease.mul_f64(0.9);
        self.deadline_us.fetch_max(micros(deadline), Ordering::Relaxed);
    }

    /// The end of the lease as far as this worker goes.
    pub(super) fn deadline(&self) -> Instant {
        self.claimed_at + Duration::from_micros(self.deadline_us.load(Ordering::Relaxed))
    }

    /// The store's time at `now`.
    pub(super) fn store_time(&self, now: Instant) -> UnixMs {
        let (answered_at, store_now) = self.answered_at;
        store_now.after(now.saturating_duration_since(answered_at))
    }

    /// When this hold's open messages may be claimed again.
    pub(super) fn release(&self) -> Release {
        let outbox = self.outbox.lock();
        match self.later.into_iter().chain(outbox.later).min() {
            Some(at) if !outbox.given_back => Release::At(at),
            _ => Release::Now,
        }
    }

    /// Empties the outbox.
    pub(super) fn collect(&self) -> Outbox {
        let mut outbox = self.outbox.lock();
        let (given_back, later, buried) = (outbox.given_back, outbox.later, outbox.buried);
        let capacity = outbox.ended.len();
        let fresh = Outbox {
            ended: Vec::with_capacity(capacity),
            log: Vec::with_capacity(outbox.log.len()),
            given_back,
            later,
            buried,
            ..Outbox::default()
        };
        std::mem::replace(&mut *outbox, fresh)
    }

    /// Gives the hold up, with what was recorded and not collected. What is recorded later is
    /// refused, see [`Taken::record`].
    pub(super) fn bury(&self) -> Outbox {
        self.lose();
        let grave = Outbox { buried: true, ..Outbox::default() };
        std::mem::replace(&mut *self.outbox.lock(), grave)
    }

    pub(super) fn holding(&self) -> Holding {
        Holding { batch: self.job.id, chunk: self.chunk, token: self.token.clone() }
    }

    /// One message less in flight; the last one finishes the hold.
    fn land(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.look_whether_finished();
    }

    /// The order matters: whoever took a place raised `in_flight` first, so once every place is
    /// seen to be taken, each of their takers is seen in `in_flight` until it lands.
    fn look_whether_finished(&self) {
        if self.left() == 0 && self.in_flight.load(Ordering::SeqCst) == 0 {
            self.finished.store(true, Ordering::SeqCst);
        }
    }
}

/// The send times of a batch with a rate of its own. They count from the reply: never early, at most a
/// little late. A reply that came later than that would move them into times that others have.
fn send_times(claimed: &Claimed, job: &Job, sent_at: Instant, answered_at: Instant) -> Option<Run> {
    let (times, interval) = (claimed.times?, job.spec.rate?.interval());
    let in_time = answered_at.duration_since(sent_at) <= BURST;
    let messages = if in_time { times.messages } else { 0 };
    let late = (interval / 2).clamp(BURST, TURN);
    Some(Run::new(answered_at, times.first_in_us, messages, interval, late))
}

/// A chunk's messages are far fewer.
fn count(messages: usize) -> u32 {
    u32::try_from(messages).unwrap_or(CLOSED)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
