//! What must hold, whatever happens: of each step, and in each state.

use ringback::domain::{batch::DeliveryGuarantee, message::FinalState};

use super::{
    chunk::{PLACES, at},
    store::{CHUNKS, Event},
    worker::SLOTS,
    world::{Action, World},
};
use Action::{Recover, Settle, Start};

/// What the provider's book, and an onlooker's, say of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    /// How often it was accepted; 2 for more.
    pub(super) accepted: u8,
    /// Calls, less those that another one may follow: of which it was heard that they were not accepted,
    /// or, where the batch allows it, nothing was heard, or whose lease was lost before they were settled.
    pub(super) calls: i8,
    /// Whether it was called under the lease of now, and may have been accepted for all that is settled.
    pub(super) in_doubt: bool,
    /// Whether a call was not accepted, or nothing was heard of it.
    pub(super) had_trouble: bool,
    /// Whether it ended as poison.
    pub(super) poisoned: bool,
}

// === impl World ===

impl World {
    /// What a step must not do.
    pub(super) fn forbids(&self, action: Action, after: &World) -> Option<&'static str> {
        let messages =
            || (0..CHUNKS).flat_map(|chunk| (0..PLACES).map(move |place| (chunk, place)));
        let changed = messages().any(|(chunk, place)| {
            let before = self.store.state(chunk, place);
            before.is_some() && before != after.store.state(chunk, place)
        });
        if changed {
            return Some("I2: a final state is never overwritten");
        }
        match action {
            Start { worker, .. } if !self.has_lease(worker) => {
                Some("I8: nothing is sent without a lease")
            }
            Start { .. } if !self.store.accepted => Some("I7: no 202, no send"),
            Settle { worker, .. }
                if !self.has_lease(worker) && !self.store.says_the_same_as(&after.store) =>
            {
                Some("I8: nothing is changed without a lease")
            }
            Recover { chunk } => {
                let states = &self.store.chunks[chunk].states;
                let in_doubt = |(entry, state): &(&Entry, &Option<FinalState>)| {
                    entry.in_doubt && state.is_none()
                };
                let lost = self.book[chunk].iter().zip(states).filter(in_doubt).count();
                (lost > SLOTS).then_some("I6: a lost lease leaves no more in doubt than slots")
            }
            _ => None,
        }
    }

    fn has_lease(&self, worker: usize) -> bool {
        let hold = self.workers[worker].hold.as_ref();
        hold.is_some_and(|hold| {
            self.store.chunks[hold.chunk].lease.is_some_and(|lease| lease.is(hold.token))
        })
    }

    /// What does not hold in this state.
    pub(super) fn broken(&self) -> Option<&'static str> {
        let store = &self.store;
        let mut counted = [0; FinalState::ALL.len()];
        let mut open = 0;
        for (number, chunk) in store.chunks.iter().enumerate() {
            for place in 0..chunk.size {
                let state = store.state(number, place);
                match state {
                    Some(state) => counted[at(state)] += 1,
                    None => open += 1,
                }
                let entry = &self.book[number][place];
                if let Some(property) = entry.contradicts(state, store.guarantee) {
                    return Some(property);
                }
            }
        }
        if store.counts != counted || store.open != open {
            return Some("I5: the counts are what the messages say");
        }
        let over = store.accepted && open == 0;
        if store.completed != over || store.events != u8::from(over) {
            return Some("I3: one event, with the last message and not before");
        }
        let delivered = store.event == Event::Delivered;
        (delivered && !self.received).then_some("I4: what was delivered was received")
    }
}

// === impl Entry ===

impl Entry {
    fn contradicts(
        self,
        state: Option<FinalState>,
        guarantee: DeliveryGuarantee,
    ) -> Option<&'static str> {
        let never_left = match state {
            Some(FinalState::Canceled | FinalState::Expired) => true,
            Some(FinalState::Failed) => !self.poisoned,
            _ => false,
        };
        if guarantee == DeliveryGuarantee::AtMostOnce && self.accepted > 1 {
            Some("I6: nothing is accepted twice that is sent at most once")
        } else if self.calls > 1 {
            Some("I6: nothing is sent again that has no reason to be")
        } else if state == Some(FinalState::Sent) && self.accepted == 0 {
            Some("I5: what is sent is in the provider's book")
        } else if never_left && self.accepted > 0 {
            Some("I5: what never left is not in the provider's book")
        } else if state == Some(FinalState::Failed) && !self.poisoned && !self.had_trouble {
            Some("I5: what failed was refused")
        } else {
            None
        }
    }
}
