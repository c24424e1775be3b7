//! A message's states, and the one rule by which an outcome moves it on.
//!
//! A message is open until it is final, and a final state never changes. An open one carries what
//! its earlier tries came to; [`Open::after`] consumes it and gives the next.

use std::{borrow::Cow, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    batch::DeliveryGuarantee,
    outcome::{Outcome, SendError},
    past::STARTS_MAX,
    retry::RetryPolicy,
    through::Through,
    time::UnixMs,
};

/// A state that a message never leaves. The number is the byte the store keeps; 0 stands for a
/// message that is still open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum FinalState {
    /// The provider accepted it and reports no more.
    Sent = 1,
    /// The carrier delivered it.
    Delivered = 2,
    /// The carrier said no.
    Undelivered = 3,
    /// It never left.
    Failed = 4,
    /// It had not left by `expire_at`.
    Expired = 5,
    /// It was canceled before it left.
    Canceled = 6,
    /// It may have been accepted, and that can't be known.
    Unknown = 7,
}

/// A message's state as clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MessageState {
    /// It waits for a worker, or for its next try.
    Queued,
    /// It is in a chunk that a worker holds.
    Sending,
    /// See [`FinalState::Sent`].
    Sent,
    /// See [`FinalState::Delivered`].
    Delivered,
    /// See [`FinalState::Undelivered`].
    Undelivered,
    /// See [`FinalState::Failed`].
    Failed,
    /// See [`FinalState::Expired`].
    Expired,
    /// See [`FinalState::Canceled`].
    Canceled,
    /// See [`FinalState::Unknown`].
    Unknown,
}

/// What is known of a message that is not final yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Open {
    /// Whether an earlier try may have been accepted. Stored first: see
    /// [`record::write_open`](super::record::write_open).
    pub maybe_accepted: bool,
    /// Tries used up.
    pub attempts: u8,
    /// When the first try began; the epoch if there was none.
    pub first_try_at: UnixMs,
    /// The earliest time for the next try.
    pub due_at: UnixMs,
    /// Where the latest try left through.
    pub through: Through,
}

/// What follows from an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The message is final.
    Ended(Ended),
    /// It waits until `open.due_at` for another try.
    Waiting {
        /// What is known of it now.
        open: Open,
        /// Why the last try failed.
        error: SendError,
    },
}

/// What an outcome is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The provider's policy for retries.
    pub policy: &'a RetryPolicy,
    /// What the batch wants of a message that may have been accepted.
    pub guarantee: DeliveryGuarantee,
}

/// A final message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its final state.
    pub state: FinalState,
    /// Tries used up.
    pub attempts: u8,
    /// The provider's own name for it.
    pub provider_message_id: Option<String>,
    /// Why it was not accepted.
    pub error: Option<SendError>,
    /// Whether it is final only once its receipt has come, or was waited for long enough.
    pub receipt_follows: bool,
}

// === impl FinalState ===

impl FinalState {
    /// All of them, in the order of their bytes.
    pub const ALL: [Self; 7] = [
        Self::Sent,
        Self::Delivered,
        Self::Undelivered,
        Self::Failed,
        Self::Expired,
        Self::Canceled,
        Self::Unknown,
    ];

    /// The state the store keeps as `byte`; `None` for the byte of an open message.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as u8 == byte)
    }

    /// The word clients read.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Undelivered => "undelivered",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Canceled => "canceled",
            Self::Unknown => "unknown",
        }
    }
}

// === impl MessageState ===

impl MessageState {
    /// The word clients read.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sending => "sending",
            Self::Sent => FinalState::Sent.word(),
            Self::Delivered => FinalState::Delivered.word(),
            Self::Undelivered => FinalState::Undelivered.word(),
            Self::Failed => FinalState::Failed.word(),
            Self::Expired => FinalState::Expired.word(),
            Self::Canceled => FinalState::Canceled.word(),
            Self::Unknown => FinalState::Unknown.word(),
        }
    }
}

impl From<FinalState> for MessageState {
    fn from(state: FinalState) -> Self {
        match state {
            FinalState::Sent => Self::Sent,
            FinalState::Delivered => Self::Delivered,
            FinalState::Undelivered => Self::Undelivered,
            FinalState::Failed => Self::Failed,
            FinalState::Expired => Self::Expired,
            FinalState::Canceled => Self::Canceled,
            FinalState::Unknown => Self::Unknown,
        }
    }
}

// === impl Open ===

impl Open {
    /// What `outcome` of a try begun at `began` makes of this message, at `now`. `dice` is a
    /// random number in 0..1 that spreads the retries.
    #[must_use]
    pub fn after(
        mut self,
        outcome: Outcome,
        terms: Terms<'_>,
        began: UnixMs,
        now: UnixMs,
        dice: f64,
    ) -> Next {
        if self.first_try_at == UnixMs::default() {
            self.first_try_at = began;
        }
        let Terms { policy, guarantee } = terms;
        let at_most_once = guarantee == DeliveryGuarantee::AtMostOnce;
        match outcome {
            Outcome::Throttled { after, error, .. } => self.wait(policy, now, after, error),
            Outcome::Accepted { provider_message_id, receipt_follows } => Next::Ended(Ended {
                state: FinalState::Sent,
                attempts: self.attempts.saturating_add(1),
                provider_message_id,
                error: None,
                receipt_follows,
            }),
            Outcome::Rejected { error } => self.tried().end(error),
            Outcome::Temporary { certain, after, error } if certain || !at_most_once => {
                self.tried().retry(policy, after, now, dice, error)
            }
            Outcome::Unknown { error } | Outcome::Temporary { error, .. } if at_most_once => {
                self.maybe_accepted = true;
                self.tried().end(error)
            }
            Outcome::Unknown { error } | Outcome::Temporary { error, .. } => {
                self.maybe_accepted = true;
                self.tried().retry(policy, None, now, dice, error)
            }
        }
    }

    /// Where its next try must leave through, if it may have been accepted there.
    #[must_use]
    pub fn bound_to(self) -> Option<Through> {
        self.maybe_accepted.then_some(self.through)
    }

    /// What a try through `through` is made of: a message that is bound stays so.
    #[must_use]
    pub fn tried_through(self, through: Through) -> Self {
        Self { through: self.bound_to().unwrap_or(through), ..self }
    }

    /// Has it wait `delay` from `now` on for the one provider that it may leave through. No try was made,
    /// so none is used up.
    #[must_use]
    pub fn put_off(
        mut self,
        policy: &RetryPolicy,
        now: UnixMs,
        delay: Duration,
        error: SendError,
    ) -> Next {
        if self.first_try_at == UnixMs::default() {
            self.first_try_at = now;
        }
        self.wait(policy, now, delay, error)
    }

    /// The end of a message that can't be tried any more.
    #[must_use]
    pub fn end(self, error: SendError) -> Next {
        let state = if self.maybe_accepted { FinalState::Unknown } else { FinalState::Failed };
        Next::Ended(Ended {
            state,
            attempts: self.attempts,
            provider_message_id: None,
            error: Some(error),
            receipt_follows: false,
        })
    }

    /// The end of a message that can't be tried at all, and never was: there is nothing to send.
    #[must_use]
    pub fn unfit(self, error: SendError) -> Next {
        Self { maybe_accepted: false, ..self }.end(error)
    }

    /// The end of a message whose submission is not known to have ended: who made it was lost, and it may
    /// not be made again.
    #[must_use]
    pub fn lost(self) -> Ended {
        let error = SendError::passing(
            "worker_lost",
            "the worker was lost while this message may have been submitted",
        );
        let attempts = self.attempts.saturating_add(1);
        Ended {
            state: FinalState::Unknown,
            attempts,
            provider_message_id: None,
            error: Some(error),
            receipt_follows: false,
        }
    }

    /// The end of a message that ended whoever sent it.
    #[must_use]
    pub fn poisoned(self) -> Ended {
        let error = SendError::permanent(
            "poison",
            format!("{STARTS_MAX} times in a row the worker that submitted this message was lost"),
        );
        let attempts = self.attempts.saturating_add(STARTS_MAX);
        Ended {
            state: FinalState::Failed,
            attempts,
            provider_message_id: None,
            error: Some(error),
            receipt_follows: false,
        }
    }

    /// The end of a message whose recipient has opted out before its next try.
    #[must_use]
    pub fn opted_out(self) -> Ended {
        Ended {
            state: self.closed_as(FinalState::Failed),
            attempts: self.attempts,
            provider_message_id: None,
            error: Some(SendError::opted_out()),
            receipt_follows: false,
        }
    }

    /// What follows if it may leave no more.
    #[must_use]
    pub fn expire(self) -> Next {
        Next::Ended(Ended {
            state: self.closed_as(FinalState::Expired),
            attempts: self.attempts,
            provider_message_id: None,
            error: None,
            receipt_follows: false,
        })
    }

    /// The final state of a message that is closed as `state` before its next try: never if an
    /// earlier one may have been accepted.
    #[must_use]
    pub fn closed_as(self, state: FinalState) -> FinalState {
        if self.maybe_accepted { FinalState::Unknown } else { state }
    }

    fn tried(mut self) -> Self {
        self.attempts = self.attempts.saturating_add(1);
        self
    }

    fn retry(
        self,
        policy: &RetryPolicy,
        after: Option<Duration>,
        now: UnixMs,
        dice: f64,
        error: SendError,
    ) -> Next {
        if self.attempts >= policy.attempts {
            return self.end(exhausted(&error, &format!("all {} attempts failed", self.attempts)));
        }
        let delay = policy.delay(self.attempts, dice).max(after.unwrap_or_default());
        self.wait(policy, now, delay, error)
    }

    fn wait(
        mut self,
        policy: &RetryPolicy,
        now: UnixMs,
        delay: Duration,
        error: SendError,
    ) -> Next {
        let due_at = now.after(delay);
        if due_at.since(self.first_try_at) > policy.give_up_after {
            return self.end(exhausted(&error, "no time is left for another attempt"));
        }
        self.due_at = rounded_up(due_at, delay);
        Next::Waiting { open: self, error }
    }
}

/// The end of the step in which a message comes due: so that those of a chunk that failed together, a
/// little apart, are claimed together again, and not one by one.
fn rounded_up(due_at: UnixMs, delay: Duration) -> UnixMs {
    let step_ms = if delay < Duration::from_secs(1) { 100 } else { 1_000 };
    UnixMs(due_at.0.div_ceil(step_ms) * step_ms)
}

/// The error of a message whose tries are used up, naming the last one's.
fn exhausted(last: &SendError, reason: &str) -> SendError {
    SendError {
        code: Cow::Borrowed("retries_exhausted"),
        detail: format!("{reason}; the last one: {} ({})", last.detail, last.code),
        provider_code: last.provider_code.clone(),
        permanent: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::outcome::Throttled;

    const POLICY: RetryPolicy = RetryPolicy {
        attempts: 3,
        first: Duration::from_secs(1),
        longest: Duration::from_mins(1),
        give_up_after: Duration::from_mins(10),
    };
    const NOW: UnixMs = UnixMs(1_000_000);

    fn error() -> SendError {
        SendError::passing("provider_unavailable", "answered 503")
    }

    fn after(open: Open, outcome: Outcome) -> Next {
        let terms = Terms { policy: &POLICY, guarantee: DeliveryGuarantee::AtLeastOnce };
        open.after(outcome, terms, NOW, NOW, 0.5)
    }

    fn waiting(next: Next) -> Open {
        match next {
            Next::Waiting { open, .. } => open,
            Next::Ended(ended) => panic!("ended as {ended:?}"),
        }
    }

    fn ended(next: Next) -> Ended {
        match next {
            Next::Ended(ended) => ended,
            Next::Waiting { open, .. } => panic!("waits as {open:?}"),
        }
    }

    #[test]
    fn an_accepted_message_is_sent() {
        let outcome =
            Outcome::Accepted { provider_message_id: Some("SM1".into()), receipt_follows: false };
        let ended = ended(after(Open::default(), outcome));
        assert_eq!((ended.state, ended.attempts), (FinalState::Sent, 1));
        assert_eq!(ended.provider_message_id.as_deref(), Some("SM1"));
    }

    #[test]
    fn a_temporary_failure_waits_then_fails_for_good() {
        let temporary = || Outcome::Temporary { certain: true, after: None, error: error() };
        let first = waiting(after(Open::default(), temporary()));
        assert_eq!((first.attempts, first.due_at), (1, UnixMs(1_001_000)));
        let second = waiting(after(first, temporary()));
        assert_eq!((second.attempts, second.due_at), (2, UnixMs(1_002_000)));
        let last = ended(after(second, temporary()));
        assert_eq!((last.state, last.attempts), (FinalState::Failed, 3));
        assert_eq!(last.error.unwrap().code, "retries_exhausted");
    }

    #[test]
    fn what_may_have_been_accepted_never_ends_as_failed() {
        let doubtful = waiting(after(Open::default(), Outcome::Unknown { error: error() }));
        let rejected = Outcome::Rejected { error: SendError::permanent("provider_rejected", "no") };
        assert_eq!(ended(after(doubtful, rejected)).state, FinalState::Unknown);
    }

    #[test]
    fn at_most_once_only_what_was_not_accepted_for_certain_is_tried_again() {
        let after = |outcome| {
            let terms = Terms { policy: &POLICY, guarantee: DeliveryGuarantee::AtMostOnce };
            Open::default().after(outcome, terms, NOW, NOW, 0.5)
        };
        let temporary = |certain| Outcome::Temporary { certain, after: None, error: error() };
        assert_eq!(waiting(after(temporary(true))).attempts, 1);
        for doubtful in [temporary(false), Outcome::Unknown { error: error() }] {
            let ended = ended(after(doubtful));
            assert_eq!((ended.state, ended.attempts), (FinalState::Unknown, 1));
        }
        let throttled = Outcome::Throttled {
            after: Duration::from_secs(7),
            who: Throttled::Provider,
            error: error(),
        };
        assert_eq!(waiting(after(throttled)).attempts, 0);
    }

    #[test]
    fn retries_come_due_in_steps() {
        let after = |delay_ms| {
            let after = Some(Duration::from_millis(delay_ms));
            let policy = RetryPolicy { first: Duration::ZERO, ..POLICY };
            let terms = Terms { policy: &policy, guarantee: DeliveryGuarantee::AtLeastOnce };
            let outcome = Outcome::Temporary { certain: true, after, error: error() };
            waiting(Open::default().after(outcome, terms, NOW, NOW, 0.5)).due_at.0 - NOW.0
        };
        assert_eq!([after(20), after(110), after(1_000)], [100, 200, 1_000]);
        assert_eq!([after(1_001), after(1_999)], [2_000, 2_000]);
    }

    #[test]
    fn what_there_is_nothing_to_send_of_was_never_accepted() {
        let open = Open { maybe_accepted: true, ..Open::default() };
        assert_eq!(ended(open.unfit(error())).state, FinalState::Failed);
        assert_eq!(ended(open.end(error())).state, FinalState::Unknown);
    }

    #[test]
    fn throttling_uses_up_no_attempt() {
        let throttled = Outcome::Throttled {
            after: Duration::from_secs(7),
            who: Throttled::Provider,
            error: error(),
        };
        let open = waiting(after(Open { attempts: 2, ..Open::default() }, throttled));
        assert_eq!((open.attempts, open.due_at), (2, UnixMs(1_007_000)));
    }

    #[test]
    fn a_retry_obeys_the_provider_and_the_time_left() {
        let asked = |secs| Outcome::Temporary {
            certain: true,
            after: Some(Duration::from_secs(secs)),
            error: error(),
        };
        assert_eq!(waiting(after(Open::default(), asked(30))).due_at, UnixMs(1_030_000));
        assert_eq!(
            ended(after(Open::default(), asked(601))).error.unwrap().code,
            "retries_exhausted"
        );
    }

    #[test]
    fn what_may_have_been_accepted_is_bound_to_where_that_was() {
        let second = Through::of("second");
        let certain = || Outcome::Temporary { certain: true, after: None, error: error() };
        let free = waiting(after(Open::default().tried_through(second), certain()));
        assert_eq!((free.bound_to(), free.through), (None, second));
        let bound = waiting(after(free, Outcome::Unknown { error: error() }));
        assert_eq!(bound.bound_to(), Some(second));
        assert_eq!(bound.tried_through(Through::OWN).bound_to(), Some(second));
        assert_eq!(Open::default().tried_through(Through::OWN).bound_to(), None);
    }

    #[test]
    fn what_is_put_off_uses_up_no_attempt_and_waits_no_longer_than_it_may() {
        let doubtful = waiting(after(Open::default(), Outcome::Unknown { error: error() }));
        let put_off =
            |open: Open, now, secs| open.put_off(&POLICY, now, Duration::from_secs(secs), error());
        let later = waiting(put_off(doubtful, NOW, 30));
        assert_eq!((later.attempts, later.due_at), (1, UnixMs(1_030_000)));
        let last = ended(put_off(later, UnixMs(1_030_000), 571));
        assert_eq!(last.state, FinalState::Unknown);
        // Never tried, as far as is known: its time begins now.
        let in_doubt = Open { maybe_accepted: true, ..Open::default() };
        assert_eq!(waiting(put_off(in_doubt, NOW, 600)).first_try_at, NOW);
    }

    #[test]
    fn a_byte_names_a_final_state_or_none() {
        for state in FinalState::ALL {
            assert_eq!(FinalState::from_byte(state as u8), Some(state));
        }
        assert_eq!(FinalState::from_byte(0), None);
        assert_eq!(FinalState::from_byte(8), None);
    }
}
