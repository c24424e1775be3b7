//! What the notifiers do: take events that are due, and record what each attempt came to.
//!
//! Events wait in a queue of their receiver's host. A host gets at most so many at once, and one
//! that gives no answer any more is left alone for a while, then tried with a single event: so a
//! dead host neither holds up the others nor is hammered. Whoever waits uses up no attempt.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use crate::domain::{
    batch::{Batch, CallbackState},
    event::Event,
    ids::EventId,
    time::UnixMs,
};

/// No event waits longer than this for its next attempt: the longest `Retry-After`, and some.
pub const EVENT_DELAY_MAX: Duration = Duration::from_hours(30);

/// No attempt holds its event longer than this.
pub const EVENT_LEASE_MAX: Duration = Duration::from_secs(3_605);

/// The notifiers' view of the store.
#[async_trait]
pub trait Callbacks: Send + Sync {
    /// Takes at most `limit` events that are due, and leases them for `lease`. It is written down
    /// that an attempt of each begins; but one whose last attempt lost its lease comes as
    /// [`TakenEvent::interrupted`], for that attempt to be recorded.
    ///
    /// # Errors
    /// [`StoreError`]. A crash after it leaves attempts whose leases run out.
    async fn take(&self, limit: usize, lease: Duration) -> Result<Vec<TakenEvent>, StoreError>;

    /// Keeps `body` as the event's body unless it has one, and gives the one it has; `None` if the
    /// event was erased with its batch, or tells of more by now than `body` does. A store that is full
    /// keeps it all the same.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn body(&self, event: EventId, body: String) -> Result<Option<String>, StoreError>;

    /// Records the end of an attempt and what follows from it, for the event and for its host.
    ///
    /// # Errors
    /// [`StoreError`]. Recording again changes nothing.
    async fn record(&self, attempt: &Attempt) -> Result<Recorded, StoreError>;

    /// How long until there is something to take; `None` if there is nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn next_due(&self) -> Result<Option<Duration>, StoreError>;

    /// Whether a host has shown, by its answer to a ping, that it wants the account's callbacks.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn is_welcome(&self, account: &str, host: &str) -> Result<bool, StoreError>;

    /// Keeps in mind that a host wants the account's callbacks, for [`WELCOME_KEPT`].
    ///
    /// # Errors
    /// [`StoreError`]. Repeating it changes nothing but the time.
    async fn welcome(&self, account: &str, host: &str) -> Result<(), StoreError>;

    /// Keeps `secret` as the installation's signing secret unless it has one, and gives the one it
    /// has.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn signing_secret(&self, secret: &str) -> Result<String, StoreError>;
}

/// How long an order to replay that was carried out is known, so that a repeat of it changes
/// nothing.
pub(super) const ORDER_KNOWN: Duration = Duration::from_hours(1);

/// How long a host's welcome is kept in mind.
pub const WELCOME_KEPT: Duration = Duration::from_hours(30 * 24);

/// What one receiver's host gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostLimits {
    /// The most events at once, by all notifiers. Several partitions share them evenly, and each has
    /// at least one.
    pub at_once: u32,
    /// After so many attempts in a row without any answer the host is left alone.
    pub silences_max: u32,
    /// For how long.
    pub left_alone: Duration,
}

/// An event that is to be delivered now.
#[derive(Clone, Debug)]
pub struct TakenEvent {
    /// The event.
    pub event: Event,
    /// Its batch. If the event reports the batch's end, it stands as it did then.
    pub batch: Batch,
    /// The number of the attempt, from 1.
    pub number: u32,
    /// How many attempts there were, this one included, since the event was created or last
    /// replayed.
    pub tries: u32,
    /// How long ago that was.
    pub age: Duration,
    /// Whether this attempt was begun by a notifier that never recorded its end. It must not be
    /// made again, but be recorded, and what follows from it.
    pub interrupted: bool,
    /// The stored body, if it was rendered before.
    pub body: Option<String>,
}

/// An attempt that has ended.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The event.
    pub event: EventId,
    /// The attempt's number.
    pub number: u32,
    /// What it came to.
    pub end: AttemptEnd,
    /// What follows.
    pub verdict: Verdict,
    /// What it says about the host.
    pub host: HostSign,
}

/// What an attempt came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AttemptEnd {
    /// The receiver's HTTP status, if it answered.
    pub status: Option<u16>,
    /// From the beginning to the end of the exchange, in milliseconds.
    pub latency_ms: u64,
    /// The first bytes of the answer's body.
    pub answer: Option<String>,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// What follows from an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The event has ended in this state.
    Ended(CallbackState),
    /// It is tried again, this long from now.
    Again(Duration),
}

/// What an attempt says about its receiver's host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostSign {
    /// It answered, whatever it said.
    Answered,
    /// It gave no answer.
    Silent,
    /// It was not asked.
    #[default]
    None,
}

/// What recording came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is recorded.
    Kept,
    /// It is recorded, and from now on the host is left alone for a while.
    HostLeftAlone,
    /// It is recorded, and the host answers again.
    HostBack,
    /// The attempt had lost its lease: nothing was changed.
    Lost,
}

/// An event as the store keeps it, with where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventView {
    /// The event.
    pub event: Event,
    /// Its batch, as it stands now.
    pub batch: Batch,
    /// Where the event stands.
    pub state: CallbackState,
    /// How many attempts were begun.
    pub attempts: u32,
    /// When the next one is due, unless the event has ended or one is under way.
    pub next_attempt_at: Option<UnixMs>,
    /// The stored body, if it was rendered.
    pub body: Option<String>,
}

/// Which events are wanted; all of them if nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Those in this state.
    pub state: Option<CallbackState>,
    /// Those to this host, given as `host:port`, or as the host alone, whatever the port.
    pub host: Option<String>,
}

/// An order to deliver ended events again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayOrder {
    /// A random word, fresh for each order and the same when it is repeated.
    pub nonce: u64,
    /// Events that ended in this state…
    pub state: CallbackState,
    /// …at this instant or later, and before the order…
    pub since: UnixMs,
    /// …to this host; see [`EventFilter::host`].
    pub host: Option<String>,
}

/// An event can't be delivered again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The account has no such batch.
    #[error("no such batch")]
    NotFound,
    /// The batch is not over: there is no completion event yet.
    #[error("the batch is not over yet")]
    NotOver,
    /// The batch has no callback URL.
    #[error("the batch has no callback")]
    NoCallback,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

// === impl AttemptEnd ===

impl AttemptEnd {
    /// The end of an attempt that nobody recorded.
    #[must_use]
    pub fn interrupted() -> Self {
        Self { error: Some("interrupted".to_owned()), ..Self::default() }
    }
}

// === impl EventFilter ===

impl EventFilter {
    /// Whether `view` is wanted.
    #[must_use]
    pub fn matches(&self, view: &EventView) -> bool {
        let host = view.batch.spec.callback.as_ref().map_or("", |callback| &callback.host);
        self.state.is_none_or(|state| state == view.state)
            && self.host.as_ref().is_none_or(|wanted| is_of_host(host, wanted))
    }
}

/// Whether `host` (always with a port) is the one that `wanted` names, with its port or without.
pub(super) fn is_of_host(host: &str, wanted: &str) -> bool {
    let port = host.strip_prefix(wanted);
    port.is_some_and(|port| {
        port.is_empty()
            || port.strip_prefix(':').is_some_and(|digits| {
                !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_named_with_its_port_or_without() {
        for wanted in ["a.example", "a.example:443"] {
            assert!(is_of_host("a.example:443", wanted), "{wanted}");
        }
        for wanted in ["a.example:44", "a.exampl", "a.example:", "", "b.example"] {
            assert!(!is_of_host("a.example:443", wanted), "{wanted}");
        }
        assert!(is_of_host("[2001:db8::1]:80", "[2001:db8::1]"));
        assert!(!is_of_host("[2001:db8::1]:80", "[2001"));
    }
}
