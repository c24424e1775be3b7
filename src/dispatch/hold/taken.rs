//! A message in a sender's hands: what it is, and what came of it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::Hold;
use crate::{
    domain::{
        chunk::Entry,
        ids::MessageId,
        message::{Next, Open},
        record,
        time::{UnixMs, millis},
    },
    store::Waiting,
};

/// A message taken from a hold.
pub(in crate::dispatch) struct Taken {
    pub(in crate::dispatch) hold: Arc<Hold>,
    pub(in crate::dispatch) place: u16,
}

// === impl Taken ===

impl Taken {
    pub(in crate::dispatch) fn id(&self) -> MessageId {
        MessageId { batch: self.hold.job.id, index: self.hold.first + u32::from(self.place) }
    }

    pub(in crate::dispatch) fn entry(&self) -> Entry<'_> {
        self.hold.entry(self.place)
    }

    /// What is known of it.
    pub(in crate::dispatch) fn open(&self) -> Open {
        self.hold.known.of(self.place)
    }

    /// Whether it may leave no more at `now`.
    pub(in crate::dispatch) fn has_expired(&self, now: Instant) -> bool {
        let expire_at = self.hold.job.spec.expire_at;
        expire_at.is_some_and(|expire_at| self.hold.store_time(now) >= expire_at)
    }

    /// How long it may leave from `now` on; `None` if for ever.
    pub(in crate::dispatch) fn time_left(&self, now: Instant) -> Option<Duration> {
        let expire_at = self.hold.job.spec.expire_at?;
        Some(expire_at.since(self.hold.store_time(now)))
    }

    /// Whether its batch rests at `now`: it may leave later.
    pub(in crate::dispatch) fn must_rest(&self, now: Instant) -> bool {
        let quiet_hours = self.hold.job.spec.quiet_hours.as_ref();
        quiet_hours.is_some_and(|quiet| quiet.rest_until(self.hold.store_time(now)).is_some())
    }

    /// Records what follows from its submission, through the provider `through` if that is not the batch's.
    /// The slot it took is free once this is settled; `false` if it came too late for that: the slot is the
    /// caller's then.
    pub(in crate::dispatch) fn record(
        self,
        next: &Next,
        through: Option<&str>,
        now: UnixMs,
    ) -> bool {
        let after = now.since(self.hold.job.id.created_at());
        let mut outbox = self.hold.outbox.lock();
        if outbox.buried {
            return false;
        }
        outbox.slots += 1;
        match next {
            Next::Ended(ended) => outbox.end(self.place, ended, through, after),
            Next::Waiting { open, error } => {
                let after_ms = millis(after);
                let log = &mut outbox.log;
                record::write_waiting(log, self.place, open, error, through, after_ms);
                outbox.waiting.push(Waiting { place: self.place, open: *open });
                let later = outbox.later.map_or(open.due_at, |later| later.min(open.due_at));
                outbox.later = Some(later);
            }
        }
        drop(outbox);
        self.hold.land();
        true
    }

    /// Gives it back unsent.
    pub(in crate::dispatch) fn give_back(self) {
        self.hold.outbox.lock().given_back = true;
        self.hold.land();
    }

    /// Its exchange was dropped, since the lease was lost: nothing can be said of it.
    pub(in crate::dispatch) fn abandon(self) {
        self.hold.land();
    }
}
