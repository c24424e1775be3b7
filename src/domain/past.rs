//! What leases of a chunk that ended without a word left behind, and what follows for its messages.
//!
//! A lease that is lost says nothing of the messages that its worker may have started. Two things tell
//! more:
//!
//! - A *mark* is written before messages are started, and covers all places before it. Of a batch that is
//!   sent at most once, every open message that was covered may have been accepted, and no other.
//! - After a few losses in a row without progress a chunk is handled with care: marked one message at a
//!   time. The one that is started and not settled again and again is *poison*: it ends whoever sends it.

use serde::{Deserialize, Serialize};

use super::{batch::DeliveryGuarantee, time::UnixMs};

/// So many losses in a row without progress, and a chunk is handled with care from then on.
pub const LOSSES_MAX: u8 = 3;

/// A message that was started alone so often, and never settled, is poison.
pub const STARTS_MAX: u8 = 3;

/// How far the messages of a chunk may have been started under one lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mark {
    /// Those at places before this one.
    pub upto: u32,
    /// The store's time when the chunk was claimed: what waited beyond it was not started.
    pub claimed_at: UnixMs,
}

/// A message that was started alone, under care, and not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Suspect {
    /// Its place in the chunk.
    pub place: u16,
    /// How often in a row.
    pub starts: u8,
}

/// What earlier leases of a chunk left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Past {
    /// Leases that were lost, if any was, since the last one that brought progress.
    pub losses: Option<u8>,
    /// How far the last one went, if it marked that.
    pub mark: Option<Mark>,
    /// Whom the last losses are laid to.
    pub suspect: Option<Suspect>,
}

// === impl Past ===

impl Past {
    /// Whether the chunk is handled with care.
    #[must_use]
    pub fn needs_care(&self) -> bool {
        self.losses.is_some_and(|losses| losses >= LOSSES_MAX)
    }

    /// The place of the message that ends whoever sends it, if there is one.
    #[must_use]
    pub fn poison(&self) -> Option<u16> {
        self.suspect.filter(|suspect| suspect.starts >= STARTS_MAX).map(|suspect| suspect.place)
    }

    /// Whether any open message may have been accepted under a lost lease, for all that is known.
    #[must_use]
    pub fn doubts_all(&self) -> bool {
        self.losses.is_some()
    }

    /// Whether the open message at this place may have been accepted under a lost lease.
    #[must_use]
    pub fn doubts(&self, place: u16) -> bool {
        self.doubts_all() || self.mark.is_some_and(|mark| u32::from(place) < mark.upto)
    }

    /// What is left behind when another lease is lost.
    #[must_use]
    pub fn lost(self, guarantee: DeliveryGuarantee) -> Self {
        if guarantee == DeliveryGuarantee::AtMostOnce {
            return self;
        }
        // Only who handles a chunk with care marks it here: then one message was started, the last.
        let started = self.mark.and_then(|mark| u16::try_from(mark.upto.checked_sub(1)?).ok());
        let suspect = started.map(|place| {
            let before = self.suspect.filter(|suspect| suspect.place == place);
            let starts = before.map_or(0, |suspect| suspect.starts).saturating_add(1);
            Suspect { place, starts }
        });
        Self {
            losses: Some(self.losses.unwrap_or(0).saturating_add(1)),
            mark: None,
            suspect: suspect.or(self.suspect),
        }
    }

    /// What is left behind once outcomes were settled. A chunk that needs care goes on needing it.
    #[must_use]
    pub fn progressed(self) -> Self {
        let losses = self.losses.map(|losses| if losses < LOSSES_MAX { 0 } else { losses });
        Self { losses, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DeliveryGuarantee::{AtLeastOnce, AtMostOnce};

    fn marked(past: Past, upto: u32) -> Past {
        Past { mark: Some(Mark { upto, claimed_at: UnixMs(7) }), ..past }
    }

    #[test]
    fn a_few_losses_in_a_row_call_for_care_and_progress_begins_the_row_anew() {
        let twice = Past::default().lost(AtLeastOnce).lost(AtLeastOnce);
        assert!(!twice.needs_care() && twice.doubts(9));
        let again = twice.progressed().lost(AtLeastOnce);
        assert_eq!(again.losses, Some(1));
        let careful = twice.lost(AtLeastOnce);
        assert!(careful.needs_care());
        assert!(careful.progressed().needs_care(), "who needs care keeps it");
        assert_eq!(Past::default().progressed(), Past::default());
    }

    #[test]
    fn who_is_started_alone_again_and_again_is_poison() {
        let careful = Past { losses: Some(3), ..Past::default() };
        let once = marked(careful, 8).lost(AtLeastOnce);
        assert_eq!((once.suspect, once.mark), (Some(Suspect { place: 7, starts: 1 }), None));
        // A worker that is lost before it starts anything lays nothing to anybody.
        let idle = once.lost(AtLeastOnce);
        assert_eq!(idle.suspect, once.suspect);
        let other = marked(idle, 3).lost(AtLeastOnce);
        assert_eq!(other.suspect, Some(Suspect { place: 2, starts: 1 }));
        let twice = marked(other, 3).lost(AtLeastOnce);
        assert_eq!(twice.poison(), None);
        assert_eq!(marked(twice, 3).lost(AtLeastOnce).poison(), Some(2));
    }

    #[test]
    fn at_most_once_only_what_was_marked_is_in_doubt() {
        let lost = marked(Past::default(), 8).lost(AtMostOnce);
        assert!(lost.doubts(7) && !lost.doubts(8));
        assert_eq!(lost, lost.lost(AtMostOnce), "a lease that marks nothing takes nothing away");
    }
}
