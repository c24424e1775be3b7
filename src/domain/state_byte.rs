//! A message's state as stores keep it: one byte.
//!
//! | byte | says |
//! | --- | --- |
//! | 0 | open: it is yet to be submitted, or its outcome is not recorded |
//! | 1 to 7 | final, see [`FinalState`] |
//! | 8 | handed over, and its receipt is waited for; once its batch is over it was sent, and that is all |
//! | 9, 10 | final as 1, with a late receipt: delivered, undelivered |
//! | 11, 12 | final as 7, with the same |
//!
//! A byte only ever goes forward: from 0 to any other, from 8 to 2 or 3, and once, by a late receipt, from
//! 1, 7 or 8 to one of the last four. None of these but the first two moves changes a count.

use super::{
    message::{Ended, FinalState},
    receipt::ReceiptWord,
};

/// See above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StateByte(pub u8);

/// What a receipt makes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is final by it; before that it was open if `early`.
    Counted {
        /// Whether it came before our own record of the submission.
        early: bool,
    },
    /// It came too late: it is kept beside the final state.
    Late,
    /// It says what is known.
    Again,
    /// It says other than what is known.
    Contrary,
}

// === impl StateByte ===

impl StateByte {
    /// Of a message that is open.
    pub const OPEN: Self = Self(0);

    /// Of a message that waits for its receipt.
    pub const AWAITING: Self = Self(8);

    /// How many there are.
    pub const COUNT: usize = 13;

    /// The final state, if it is one: a message that waits for its receipt was sent, unless more is heard
    /// of it.
    #[must_use]
    pub fn ended(self) -> Option<FinalState> {
        match self.0 {
            8..=10 => Some(FinalState::Sent),
            11 | 12 => Some(FinalState::Unknown),
            byte => FinalState::from_byte(byte),
        }
    }

    /// What a late receipt said, if there was one.
    #[must_use]
    pub fn late(self) -> Option<FinalState> {
        match self.0 {
            9 | 11 => Some(FinalState::Delivered),
            10 | 12 => Some(FinalState::Undelivered),
            _ => None,
        }
    }

    /// What a receipt of this final state makes of it; `over` says whether the batch is.
    #[must_use]
    pub fn hear(self, word: FinalState, over: bool) -> (Self, Taken) {
        let says = word as u8;
        match self.0 {
            0 => (Self(says), Taken::Counted { early: true }),
            8 if !over => (Self(says), Taken::Counted { early: false }),
            1 | 8 => (Self(says + 7), Taken::Late),
            7 => (Self(says + 9), Taken::Late),
            byte if [says, says + 7, says + 9].contains(&byte) => (self, Taken::Again),
            _ => (self, Taken::Contrary),
        }
    }
}

impl From<FinalState> for StateByte {
    fn from(state: FinalState) -> Self {
        Self(state as u8)
    }
}

impl From<&Ended> for StateByte {
    fn from(ended: &Ended) -> Self {
        if ended.receipt_follows { Self::AWAITING } else { ended.state.into() }
    }
}

impl ReceiptWord {
    /// The state that a message has by it, if it is one that nothing follows.
    #[must_use]
    pub fn state(self) -> Option<FinalState> {
        match self {
            Self::Passing => None,
            Self::Delivered => Some(FinalState::Delivered),
            Self::Undelivered => Some(FinalState::Undelivered),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: [FinalState; 2] = [FinalState::Delivered, FinalState::Undelivered];

    fn all() -> impl Iterator<Item = StateByte> {
        (0..).take(StateByte::COUNT).map(StateByte)
    }

    #[test]
    fn what_is_final_stays_what_it_is_whatever_is_heard() {
        for before in all().filter(|byte| ![StateByte::OPEN, StateByte::AWAITING].contains(byte)) {
            for (word, over) in WORDS.into_iter().flat_map(|word| [(word, false), (word, true)]) {
                let (after, taken) = before.hear(word, over);
                assert_eq!(after.ended(), before.ended(), "{before:?} {word:?}");
                assert!(!matches!(taken, Taken::Counted { .. }), "{before:?} {word:?}");
                assert!(before.late().is_none() || after == before, "{before:?} {word:?}");
            }
        }
    }

    #[test]
    fn a_receipt_said_again_changes_nothing() {
        for (before, word) in all().flat_map(|byte| WORDS.map(|word| (byte, word))) {
            for over in [false, true] {
                let (after, taken) = before.hear(word, over);
                let (again, second) = after.hear(word, over);
                assert_eq!(again, after, "{before:?} {word:?}");
                let expected = if taken == Taken::Contrary { taken } else { Taken::Again };
                assert_eq!(second, expected, "{before:?} {word:?}");
            }
        }
    }

    #[test]
    fn a_message_that_waits_was_sent_once_its_batch_is_over() {
        assert_eq!(StateByte::AWAITING.ended(), Some(FinalState::Sent));
        let (late, taken) = StateByte::AWAITING.hear(FinalState::Undelivered, true);
        assert_eq!(taken, Taken::Late);
        assert_eq!(late.ended(), Some(FinalState::Sent));
        assert_eq!(late.late(), Some(FinalState::Undelivered));
        let (counted, taken) = StateByte::AWAITING.hear(FinalState::Undelivered, false);
        assert_eq!(taken, Taken::Counted { early: false });
        assert_eq!(counted.ended(), Some(FinalState::Undelivered));
    }
}
