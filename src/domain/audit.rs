//! An audit of a batch: its messages are counted again, and compared with what the store has noted of it.
//!
//! A batch's counts are sums of what its messages went through, so they can always be counted again. What
//! is neither final, nor held, nor in any queue would wait for ever: it is found here too.

use std::fmt;

use super::{
    batch::{BatchState, Counts, FinalCounts},
    message::FinalState,
    state_byte::StateByte,
};

/// What the store has noted of a batch, apart from its messages.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notes {
    /// Where it stands.
    pub state: BatchState,
    /// Its counts.
    pub counts: Counts,
    /// How many messages are yet to be submitted, or to have their outcome recorded.
    pub open: u64,
    /// How many wait for their receipts; `counts` has them as sent.
    pub awaiting: u64,
    /// How many chunks it has.
    pub chunks: u32,
    /// The first chunk that was never claimed.
    pub cursor: u32,
    /// The first chunk that was closed without being looked at, and the state its messages have by that.
    pub cut: Option<(u32, FinalState)>,
    /// Whether it was canceled or has expired, so that what comes back is closed.
    pub closes: bool,
    /// Whether it is in its ring, or comes back there by itself.
    pub is_queued: bool,
    /// Whether its parked chunks are being closed.
    pub is_closing: bool,
    /// Whether it is over.
    pub is_over: bool,
    /// Whether its end is to be told, and was not made an event of.
    pub lacks_event: bool,
}

/// What the store has noted of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkNotes {
    /// Its number.
    pub number: u32,
    /// How many of its messages have each [`StateByte`].
    pub states: [u64; StateByte::COUNT],
    /// Whether a worker holds it.
    pub held: bool,
    /// Whether it waits to be claimed again.
    pub parked: bool,
}

/// A batch's messages, counted again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recount {
    /// Those that are final, and those that were sent and wait for their receipts.
    pub ended: FinalCounts,
    /// Those of them that wait for their receipts: none of a batch that is over.
    pub awaiting: u64,
    /// Open ones in workers' hands.
    pub sending: u64,
    /// All of them.
    pub total: u64,
    /// Chunks with open messages that are neither held, nor parked, nor yet to be claimed.
    pub orphans: Vec<u32>,
    /// Whether a chunk can be claimed, now or later.
    has_claimable: bool,
    /// Whether a chunk is parked.
    has_parked: bool,
}

/// What does not agree, or would wait for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A final state's count is not what the messages say.
    Count {
        /// The state.
        state: FinalState,
        /// What the batch says.
        noted: u64,
        /// What its messages say.
        counted: u64,
    },
    /// The number of messages is not what the batch says.
    Total {
        /// What the batch says.
        noted: u64,
        /// What its chunks hold.
        counted: u64,
    },
    /// The number of messages in workers' hands is not what the chunks say.
    Sending {
        /// What the batch says.
        noted: u64,
        /// What its chunks say.
        counted: u64,
    },
    /// The number of open messages is not what is left of the total.
    Open {
        /// What the batch says.
        noted: u64,
        /// What its messages say.
        counted: u64,
    },
    /// The number of messages that wait for their receipts is not what the messages say.
    Awaiting {
        /// What the batch says.
        noted: u64,
        /// What its messages say.
        counted: u64,
    },
    /// These chunks would never be claimed again.
    Orphans(Vec<u32>),
    /// It could be claimed, and is in no ring.
    NotQueued,
    /// It has parked chunks to close, and nobody closes them.
    NotClosing,
    /// Every message is final, and it is not over.
    NotOver,
    /// It is over, and not every message is final.
    OverEarly,
    /// It is over, and there is no event to tell so.
    NoEvent,
}

// === impl ChunkNotes ===

impl ChunkNotes {
    /// How many of its messages have this byte.
    fn messages(&self, byte: StateByte) -> u64 {
        self.states.get(usize::from(byte.0)).copied().unwrap_or_default()
    }
}

// === impl Recount ===

impl Recount {
    /// Counts one more chunk. Each is to be counted once.
    pub fn add(&mut self, notes: &Notes, chunk: &ChunkNotes) {
        let open = chunk.messages(StateByte::OPEN);
        for (byte, messages) in (0..).map(StateByte).zip(chunk.states) {
            if let Some(state) = byte.ended() {
                self.ended.add(state, messages);
            }
        }
        if !notes.is_over {
            self.awaiting += chunk.messages(StateByte::AWAITING);
        }
        self.total += chunk.states.iter().sum::<u64>();
        match notes.cut {
            _ if open == 0 => {}
            Some((cut, state)) if chunk.number >= cut => self.ended.add(state, open),
            _ if chunk.held => self.sending += open,
            _ if chunk.parked => {
                self.has_claimable = true;
                self.has_parked = true;
            }
            _ if chunk.number >= notes.cursor => self.has_claimable = true,
            _ => self.orphans.push(chunk.number),
        }
    }

    /// How many messages are yet to be submitted, or to have their outcome recorded.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.total.saturating_sub(self.ended.sum())
    }

    /// What does not agree with the notes.
    #[must_use]
    pub fn findings(&self, notes: &Notes) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut compare = |noted: u64, counted: u64, finding: fn(u64, u64) -> Finding| {
            if noted != counted {
                findings.push(finding(noted, counted));
            }
        };
        let (counts, counted) = (&notes.counts, self);
        compare(counts.total, counted.total, |noted, counted| Finding::Total { noted, counted });
        compare(counts.sending, counted.sending, |noted, counted| Finding::Sending {
            noted,
            counted,
        });
        compare(notes.open, counted.open(), |noted, counted| Finding::Open { noted, counted });
        compare(notes.awaiting, counted.awaiting, |noted, counted| Finding::Awaiting {
            noted,
            counted,
        });
        for state in FinalState::ALL {
            let (before, counted) = (counts.ended[state], self.ended[state]);
            if before != counted {
                findings.push(Finding::Count { state, noted: before, counted });
            }
        }
        if !self.orphans.is_empty() {
            findings.push(Finding::Orphans(self.orphans.clone()));
        }
        findings.extend(self.stuck(notes));
        findings
    }

    fn stuck(&self, notes: &Notes) -> Option<Finding> {
        let moves = matches!(notes.state, BatchState::Queued | BatchState::Running);
        match notes.is_over {
            true if self.open() > 0 => Some(Finding::OverEarly),
            true => notes.lacks_event.then_some(Finding::NoEvent),
            false if self.open() == 0 && self.awaiting == 0 => Some(Finding::NotOver),
            false if notes.closes => {
                (self.has_parked && !notes.is_closing).then_some(Finding::NotClosing)
            }
            false => {
                let waits = self.has_claimable && self.sending == 0;
                (moves && waits && !notes.is_queued).then_some(Finding::NotQueued)
            }
        }
    }
}

// === impl Finding ===

impl Finding {
    /// Whether a repair can mend it.
    #[must_use]
    pub fn can_be_mended(&self) -> bool {
        !matches!(self, Self::Total { .. } | Self::OverEarly)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count { state, noted, counted } => {
                write!(f, "{} is noted as {noted}, and {counted} messages are", state.word())
            }
            Self::Total { noted, counted } => {
                write!(f, "the total is noted as {noted}, and there are {counted} messages")
            }
            Self::Sending { noted, counted } => {
                write!(f, "{noted} messages are noted to be in workers' hands, and {counted} are")
            }
            Self::Open { noted, counted } => {
                write!(f, "{noted} messages are noted as not final, and {counted} are not")
            }
            Self::Awaiting { noted, counted } => {
                write!(f, "{noted} messages are noted to wait for receipts, and {counted} do")
            }
            Self::Orphans(chunks) => {
                let first: Vec<_> = chunks.iter().take(10).map(u32::to_string).collect();
                let more = if chunks.len() > first.len() { ", …" } else { "" };
                write!(f, "{} chunks would never be claimed again: ", chunks.len())?;
                write!(f, "{}{more}", first.join(", "))
            }
            Self::NotQueued => f.write_str("it could be claimed, and is in no ring"),
            Self::NotClosing => f.write_str("it has chunks to close, and nobody closes them"),
            Self::NotOver => f.write_str("every message is final, and it is not over"),
            Self::OverEarly => f.write_str("it is over, and not every message is final"),
            Self::NoEvent => f.write_str("it is over, and there is no event to tell so"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes() -> Notes {
        let mut counts = Counts { total: 4, sending: 1, ..Counts::default() };
        counts.ended.add(FinalState::Sent, 1);
        Notes {
            state: BatchState::Running,
            counts,
            open: 3,
            awaiting: 0,
            chunks: 2,
            cursor: 1,
            cut: None,
            closes: false,
            is_queued: true,
            is_closing: false,
            is_over: false,
            lacks_event: false,
        }
    }

    fn chunk(number: u32, open: u64, sent: u64) -> ChunkNotes {
        let mut states = [0; StateByte::COUNT];
        (states[0], states[1]) = (open, sent);
        ChunkNotes { number, states, held: false, parked: false }
    }

    fn findings(notes: &Notes, chunks: &[ChunkNotes]) -> Vec<Finding> {
        let mut recount = Recount::default();
        for chunk in chunks {
            recount.add(notes, chunk);
        }
        recount.findings(notes)
    }

    #[test]
    fn what_agrees_gives_nothing_to_say() {
        let held = ChunkNotes { held: true, ..chunk(0, 1, 1) };
        assert_eq!(findings(&notes(), &[held, chunk(1, 2, 0)]), []);
    }

    #[test]
    fn a_chunk_that_nobody_has_is_an_orphan_and_false_counts_are_told() {
        let found = findings(&notes(), &[chunk(0, 1, 1), chunk(1, 1, 1)]);
        let expected = [
            Finding::Sending { noted: 1, counted: 0 },
            Finding::Open { noted: 3, counted: 2 },
            Finding::Count { state: FinalState::Sent, noted: 1, counted: 2 },
            Finding::Orphans(vec![0]),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_waits_for_nobody_is_stuck() {
        let idle = Notes { counts: Counts { sending: 0, ..notes().counts }, ..notes() };
        let parked = ChunkNotes { parked: true, ..chunk(0, 1, 1) };
        let chunks = [parked, chunk(1, 2, 0)];
        assert_eq!(findings(&idle, &chunks), []);
        let lost = Notes { is_queued: false, ..idle.clone() };
        assert_eq!(findings(&lost, &chunks), [Finding::NotQueued]);
        assert_eq!(findings(&Notes { state: BatchState::Paused, ..lost.clone() }, &chunks), []);
        let closes = Notes { closes: true, cursor: 2, ..lost };
        assert_eq!(findings(&closes, &chunks)[..1], [Finding::Orphans(vec![1])]);
        assert_eq!(findings(&closes, &chunks)[1..], [Finding::NotClosing]);
    }

    #[test]
    fn what_was_cut_off_counts_as_closed() {
        let mut cut = Notes { cut: Some((1, FinalState::Canceled)), closes: true, ..notes() };
        cut.counts.ended.add(FinalState::Canceled, 2);
        cut.open = 1;
        let held = ChunkNotes { held: true, ..chunk(0, 1, 1) };
        assert_eq!(findings(&cut, &[held, chunk(1, 2, 0)]), []);
    }

    #[test]
    fn what_waits_for_a_receipt_is_sent_and_keeps_the_batch_from_its_end() {
        let mut notes = Notes { open: 0, awaiting: 2, cursor: 1, is_queued: false, ..notes() };
        notes.counts = Counts { total: 4, ..Counts::default() };
        notes.counts.ended.add(FinalState::Sent, 4);
        let mut waits = chunk(0, 0, 1);
        (waits.states[8], waits.states[10]) = (2, 1);
        assert_eq!(findings(&notes, &[waits.clone()]), []);
        let over = Notes { is_over: true, awaiting: 0, ..notes.clone() };
        assert_eq!(findings(&over, &[waits.clone()]), []);
        let wrong = Notes { awaiting: 1, ..notes };
        assert_eq!(findings(&wrong, &[waits]), [Finding::Awaiting { noted: 1, counted: 2 }]);
    }

    #[test]
    fn an_end_without_an_event_and_an_event_without_an_end_are_found() {
        let mut over = Notes { cursor: 2, is_queued: false, open: 0, ..notes() };
        over.counts = Counts { total: 4, ..Counts::default() };
        over.counts.ended.add(FinalState::Sent, 4);
        let chunks = [chunk(0, 0, 2), chunk(1, 0, 2)];
        assert_eq!(findings(&over, &chunks), [Finding::NotOver]);
        let over = Notes { is_over: true, lacks_event: true, ..over };
        assert_eq!(findings(&over, &chunks), [Finding::NoEvent]);
    }
}
