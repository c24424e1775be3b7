//! What the workers do: claim chunks, settle outcomes, keep leases; and what every process does
//! for all of them: take back what died.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use super::{SendTimes, StoreError};
use crate::domain::{
    batch::BatchSpec,
    ids::BatchId,
    message::Open,
    past::{Mark, Past},
    share::Share,
    time::UnixMs,
};

/// The workers' view of the store.
#[async_trait]
pub trait Dispatch: Send + Sync {
    /// Claims the next chunk of a provider, if there is one: accounts take turns, then their
    /// batches. A batch in its quiet hours, or whose rate has no time to give yet, is passed over until
    /// then. The same nonce again gives the same chunk.
    ///
    /// # Errors
    /// [`StoreError`]. A crash after it leaves a lease, which runs out.
    async fn claim(&self, claim: &Claim) -> Result<Option<Claimed>, StoreError>;

    /// What a batch's client asked for; `None` if the batch is gone.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn spec(&self, batch: BatchId) -> Result<Option<BatchSpec>, StoreError>;

    /// Applies outcomes to a chunk, and lets go of it if asked. Only what really changed is
    /// counted; the step that makes the last message final completes the batch.
    ///
    /// # Errors
    /// [`StoreError`]. Settling again changes nothing.
    async fn settle(&self, settlement: &Settlement) -> Result<Settled, StoreError>;

    /// Extends leases, and tells how each chunk stands, in the order asked.
    ///
    /// # Errors
    /// [`StoreError`]; leases may or may not have been extended.
    async fn hold(&self, holdings: &[Holding]) -> Result<Vec<Standing>, StoreError>;

    /// Asks for a run of send times of a provider's shared rate, and of the rates below it that hold for
    /// the same messages: a run is taken from all of these clocks, or from none.
    ///
    /// # Errors
    /// [`StoreError`]. A lost reply loses that run: less is sent, never more.
    async fn grant(&self, request: &GrantRequest<'_>) -> Result<Grant, StoreError>;

    /// Stops a provider for every worker, `pause` long from now; never shortens a pause. If it `cuts`, the
    /// provider's rate is cut besides, for every worker, see [`Share`]: at most once a pause, and once in
    /// [`Share::CUT_EVERY`]. Gives what that left, if this call cut it.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn throttle(
        &self,
        provider: &str,
        pause: Duration,
        cuts: bool,
    ) -> Result<Option<Share>, StoreError>;

    /// Notes, for whoever asks how providers stand, that one is away and is left alone for `cool_down`, as this
    /// worker found; or that it is back. Nobody goes by it.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn tell_away(
        &self,
        provider: &str,
        cool_down: Option<Duration>,
    ) -> Result<(), StoreError>;

    /// Whether and how long a provider is still paused, and what else is known of it.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn paused(&self, provider: &str) -> Result<Pause, StoreError>;

    /// Takes back chunks whose leases ran out, noting what they left behind (see [`Past`]), closes chunks of canceled and expired batches, puts what is due
    /// back in the ring, ends the wait for receipts that lasted long enough, drops dead uploads, carries out orders to replay events at a measured pace,
    /// and erases what was kept long enough. Bounded; to be repeated at once while
    /// [`Swept::more`].
    ///
    /// # Errors
    /// [`StoreError`]. Any number of processes may sweep at once.
    async fn sweep(&self) -> Result<Swept, StoreError>;

    /// The number of partitions to claim from.
    fn partitions(&self) -> u16;
}

/// A wish for a chunk.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The provider whose chunks are wanted.
    pub provider: String,
    /// The partition to look in.
    pub partition: u16,
    /// A random word, fresh for each claim and the same when it is repeated.
    pub nonce: u64,
}

/// A lease's fencing token: a number that the store counts up, and the claimer's nonce, so that
/// not even an older copy of the store can hand out the same one again.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Token(pub String);

/// A claimed chunk.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// Its batch.
    pub batch: BatchId,
    /// Its number in the batch.
    pub chunk: u32,
    /// The batch-wide index of its first message.
    pub first: u32,
    /// The proof of the lease.
    pub token: Token,
    /// The store's time at the claim.
    pub now: UnixMs,
    /// One state byte a message; those that are 0 are open.
    pub states: Bytes,
    /// The packed recipients.
    pub recipients: Bytes,
    /// What is known of open messages that were tried before, by place.
    pub waiting: Vec<(u16, Open)>,
    /// When its messages may leave, if its batch has a rate of its own.
    pub times: Option<SendTimes>,
    /// What leases of it that were lost left behind.
    pub past: Past,
}

/// Outcomes for one chunk.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The chunk's batch.
    pub batch: BatchId,
    /// The chunk's number.
    pub chunk: u32,
    /// The proof of the lease.
    pub token: Token,
    /// 1 for the first settlement of a lease, then counted up.
    pub sequence: u32,
    /// Final states in runs, ordered by place: the first message's place and the number of messages
    /// (two bytes each, big end first), then the state's byte.
    pub changes: Bytes,
    /// Records for the chunk's log.
    pub log: Bytes,
    /// Messages that wait for another try.
    pub waiting: Vec<Waiting>,
    /// How far messages will be started from now on. It stands from then on, also if the lease is lost,
    /// until the chunk is let go of or is done, or another lease's first settlement.
    pub mark: Option<Mark>,
    /// Whether this lets go of the chunk.
    pub release: Option<Release>,
}

/// A message that waits for another try.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Its place in the chunk.
    pub place: u16,
    /// What is known of it.
    pub open: Open,
}

/// What becomes of a chunk's open messages when a worker lets go of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Some were not tried: it can be claimed again at once.
    Now,
    /// All wait for another try, the first one at this instant.
    At(UnixMs),
}

/// What settling came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The outcomes are applied; the lease goes on, unless the settlement let go.
    Applied(Wish),
    /// The same; the settlement let go, every message of the chunk is final, and the lease has ended.
    Done,
    /// The outcomes are applied, and this very settlement completed the batch. The lease has ended if it let go.
    Completed,
    /// Outcomes before this settlement are missing: repeat from the sequence after this one.
    Behind(u32),
    /// The lease is not ours any more: nothing was changed.
    Lost,
}

/// What a batch's client wishes of the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To go on.
    Go,
    /// To stop submitting, and to give the rest back.
    Pause,
    /// To stop submitting; the rest is canceled.
    Cancel,
    /// To stop submitting; the rest has expired.
    Expire,
}

/// A chunk that a worker holds.
#[derive(Clone, Debug)]
pub struct Holding {
    /// Its batch.
    pub batch: BatchId,
    /// Its number.
    pub chunk: u32,
    /// The proof of the lease.
    pub token: Token,
}

/// How a chunk that a worker holds stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its lease was extended.
    Held(Wish),
    /// The lease is not ours any more.
    Lost,
    /// Nothing was heard of it: a part of the store is away. It lasts as long as it was to last.
    Unheard,
}

/// A wish for send times.
#[derive(Clone, Copy, Debug)]
pub struct GrantRequest<'a> {
    /// The provider.
    pub provider: &'a str,
    /// The time between two submissions; zero if the provider has no rate.
    pub interval: Duration,
    /// How far in the past a run may begin, in microseconds: what a rate may catch up.
    pub burst_us: u64,
    /// How many send times are wanted.
    pub wanted: u32,
    /// How many are ever wanted at once: a clock that is further ahead than those reach is wrong.
    pub wanted_max: u32,
    /// How far ahead a run may begin at most, in microseconds.
    pub ahead_us: u64,
    /// The rates below the provider's. A run must wait for neither of them longer than for the provider's:
    /// what one of them can't use yet is left to others.
    pub below: &'a [Level<'a>],
}

/// A rate below a provider's: of a sender, or of a prefix.
#[derive(Clone, Copy, Debug)]
pub struct Level<'a> {
    /// Its name, unique within the provider.
    pub name: &'a str,
    /// The time between two submissions.
    pub interval: Duration,
}

/// A run of send times: `wanted` of them, `interval` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// The first one's distance from the store's now, in microseconds; negative if it has passed.
    Run {
        /// See above.
        first_in_us: i64,
    },
    /// None yet: the provider is paused, or others hold the times to come.
    Later {
        /// How long to wait before asking again.
        wait: Duration,
        /// Whether the provider is paused.
        paused: bool,
    },
}

/// Whether messages may leave through a provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pause {
    /// How long it asked to be left alone from now on; zero if it didn't.
    pub left: Duration,
    /// Whether it was stopped, and not resumed since; see
    /// [`Intake::set_stopped`](super::Intake::set_stopped).
    pub stopped: bool,
    /// How much of its rate may be used.
    pub share: Share,
    /// How long it is still left alone, if workers found it away; zero once one may find out whether it is back.
    pub away: Option<Duration>,
}

/// What a sweep found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Leases that had run out.
    pub leases_lost: u64,
    /// Chunks of canceled and expired batches that were closed.
    pub chunks_closed: u64,
    /// Batches that came due.
    pub batches_due: u64,
    /// Batches whose time to begin had come.
    pub batches_begun: u64,
    /// Batches of which nothing may leave any more.
    pub batches_expired: u64,
    /// Batches whose receipts are waited for no more.
    pub waits_ended: u64,
    /// Uploads that were dropped.
    pub uploads_dropped: u64,
    /// Batches that were erased.
    pub batches_purged: u64,
    /// Events that are delivered again, as was ordered.
    pub events_replayed: u64,
    /// Whether a bound was reached, so that more is to be done at once.
    pub more: bool,
}

// === impl Token ===

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The number tells leases apart in a log; the nonce is the proof.
        write!(f, "Token({})", self.0.split('-').next().unwrap_or_default())
    }
}

// === impl Swept ===

impl std::ops::AddAssign for Swept {
    fn add_assign(&mut self, other: Self) {
        self.leases_lost += other.leases_lost;
        self.chunks_closed += other.chunks_closed;
        self.batches_due += other.batches_due;
        self.batches_begun += other.batches_begun;
        self.batches_expired += other.batches_expired;
        self.waits_ended += other.waits_ended;
        self.uploads_dropped += other.uploads_dropped;
        self.batches_purged += other.batches_purged;
        self.events_replayed += other.events_replayed;
        self.more |= other.more;
    }
}
