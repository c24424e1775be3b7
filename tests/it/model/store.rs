//! The store's steps, each atomic, as the scripts do them: one batch of a few chunks.
//!
//! What a lost lease leaves behind is the domain's own `Past`. What is never claimed is counted when it
//! is cut off, and its states are derived, as in the real store.

use ringback::domain::{batch::DeliveryGuarantee, message::FinalState, time::UnixMs};

use super::{
    Fault,
    chunk::{Chunk, Lease, Moved, PerPlace, Settlement, Standing, at},
};

pub(super) const CHUNKS: usize = 2;
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "a batch is in several sets, or not")]
pub(super) struct Store {
    /// The rule that is broken on purpose.
    pub(super) fault: Option<Fault>,
    pub(super) guarantee: DeliveryGuarantee,
    pub(super) now: UnixMs,
    pub(super) accepted: bool,
    pub(super) paused: bool,
    /// How open messages end from now on.
    pub(super) closes: Option<FinalState>,
    pub(super) chunks: [Chunk; CHUNKS],
    /// The first chunk that was never claimed, and how many messages are behind it.
    cursor: usize,
    behind: u8,
    /// The first chunk that was cut off.
    cut: Option<usize>,
    /// Final messages, by state.
    pub(super) counts: [u8; FinalState::ALL.len()],
    pub(super) open: u8,
    pub(super) completed: bool,
    /// How many completion events were created, and how the last one stands.
    pub(super) events: u8,
    pub(super) event: Event,
    /// The sets that the batch is in.
    pub(super) in_ring: bool,
    pub(super) due: bool,
    pub(super) closing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Event {
    None,
    Waits,
    UnderWay,
    Delivered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    Applied,
    Done,
    Lost,
}

/// What a claim brings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claimed {
    pub(super) number: usize,
    pub(super) chunk: Chunk,
    pub(super) now: UnixMs,
}

// === impl Store ===

impl Store {
    pub(super) fn new(
        guarantee: DeliveryGuarantee,
        sizes: [usize; CHUNKS],
        fault: Option<Fault>,
    ) -> Self {
        let total = u8::try_from(sizes.iter().sum::<usize>()).unwrap();
        Self {
            fault,
            guarantee,
            now: UnixMs(1_000),
            accepted: false,
            paused: false,
            closes: None,
            chunks: sizes.map(|size| Chunk { size, ..Chunk::default() }),
            cursor: 0,
            behind: total,
            cut: None,
            counts: Moved::default(),
            open: total,
            completed: false,
            events: 0,
            event: Event::None,
            in_ring: false,
            due: false,
            closing: false,
        }
    }

    pub(super) fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// How many chunks there are.
    fn used(&self) -> usize {
        self.chunks.iter().filter(|chunk| chunk.size > 0).count()
    }

    /// A message's state, as readers see it.
    pub(super) fn state(&self, chunk: usize, place: usize) -> Option<FinalState> {
        let cut = self.cut.filter(|cut| chunk >= *cut).and(self.closes);
        self.chunks[chunk].states[place].or(cut)
    }

    pub(super) fn accept(&mut self) {
        self.accepted = true;
        self.in_ring = true;
    }

    /// Gives the chunk that this token has already, or the next one.
    pub(super) fn claim(&mut self, token: u8) -> Option<Claimed> {
        let held = |chunk: &Chunk| chunk.lease.is_some_and(|lease| lease.is(token));
        if let Some(number) = self.chunks.iter().position(held) {
            return Some(self.claimed(number));
        }
        while self.in_ring {
            let runs = self.accepted && !self.paused && self.closes.is_none() && !self.completed;
            match runs.then(|| self.next_chunk()).flatten() {
                None => self.in_ring = false,
                Some((number, fresh)) if self.chunks[number].open() > 0 => {
                    let chunk = &mut self.chunks[number];
                    chunk.lease = Some(Lease { token, sequence: 0, standing: Standing::Held });
                    self.behind -= if fresh { chunk.open() } else { 0 };
                    return Some(self.claimed(number));
                }
                Some(_) => {}
            }
        }
        None
    }

    fn claimed(&self, number: usize) -> Claimed {
        Claimed { number, chunk: self.chunks[number], now: self.now }
    }

    /// When the first of the chunks that came back may be claimed, and which it is.
    fn first_parked(&self) -> Option<(UnixMs, usize)> {
        let parked = self.chunks.iter().enumerate();
        parked.filter_map(|(number, chunk)| Some((chunk.parked?, number))).min()
    }

    fn next_chunk(&mut self) -> Option<(usize, bool)> {
        let parked = self.first_parked();
        if let Some((_, number)) = parked.filter(|(due, _)| *due <= self.now) {
            self.chunks[number].parked = None;
            return Some((number, false));
        }
        if self.cursor < self.used() {
            self.cursor += 1;
            return Some((self.cursor - 1, true));
        }
        self.due |= parked.is_some() && !self.has(Fault::ParkedChunksAreNotLookedAt);
        None
    }

    pub(super) fn settle(&mut self, number: usize, token: u8, settlement: &Settlement) -> Settled {
        let blind = self.has(Fault::TokensAreNotChecked);
        let counts_repeats = self.has(Fault::RepeatsAreCounted);
        let found = self.chunks[number].lease.filter(|lease| lease.token == token || blind);
        let Some(lease) = found else { return Settled::Lost };
        if settlement.sequence <= lease.sequence && !blind && !counts_repeats {
            return if lease.standing == Standing::Done { Settled::Done } else { Settled::Applied };
        }
        if lease.standing != Standing::Held && !blind {
            return Settled::Lost;
        }
        assert!(settlement.sequence <= lease.sequence + 1 || blind, "a gap");
        let mut moved = self.chunks[number].apply(settlement, counts_repeats);
        if let Some(closes) = self.closes.filter(|_| settlement.release.is_some()) {
            let without_doubt = self.has(Fault::ClosesWithoutDoubt);
            self.chunks[number].close(closes, without_doubt, &mut moved);
        }
        let standing = match settlement.release {
            None => Standing::Held,
            Some(_) if self.chunks[number].open() == 0 => {
                self.chunks[number].waiting = PerPlace::default();
                Standing::Done
            }
            Some(release) => {
                self.park(number, release);
                Standing::LetGo
            }
        };
        let sequence = settlement.sequence;
        self.chunks[number].lease = Some(Lease { sequence, standing, ..lease });
        self.finish(moved);
        if standing == Standing::Done { Settled::Done } else { Settled::Applied }
    }

    /// A chunk may be claimed again at this instant.
    fn park(&mut self, number: usize, release: UnixMs) {
        let due = release.max(self.now);
        self.chunks[number].parked = Some(due);
        if due > self.now {
            self.due |= !self.has(Fault::ParkedChunksAreNotLookedAt);
        } else {
            self.in_ring |= !self.paused;
        }
    }

    /// Counts what became final, and completes the batch with the last one.
    fn finish(&mut self, moved: Moved) {
        for (count, moved) in self.counts.iter_mut().zip(moved) {
            *count += moved;
        }
        self.open = self.open.saturating_sub(moved.iter().sum());
        if !self.has(Fault::CompletesInASecondStep) {
            self.complete();
        }
    }

    pub(super) fn complete(&mut self) {
        let early = self.has(Fault::CompletesWithTheLastChunk) && self.cursor == self.used();
        if !self.completed && (self.open == 0 || early) {
            self.completed = true;
            self.in_ring = false;
            self.events += 1;
            self.event = Event::Waits;
        }
    }

    /// Whether the client may still cancel it, pause it, or see it expire.
    pub(super) fn is_under_way(&self) -> bool {
        self.accepted && !self.completed && self.closes.is_none()
    }

    pub(super) fn cancel(&mut self) {
        self.paused = false;
        self.cut_off(FinalState::Canceled);
    }

    pub(super) fn expire(&mut self) {
        self.cut_off(FinalState::Expired);
    }

    fn cut_off(&mut self, state: FinalState) {
        self.closes = Some(state);
        self.cut = Some(self.cursor);
        self.cursor = self.used();
        (self.in_ring, self.due) = (false, false);
        self.closing = self.first_parked().is_some() && !self.has(Fault::ParkedChunksStayOpen);
        let mut moved = Moved::default();
        moved[at(state)] = std::mem::take(&mut self.behind);
        self.finish(moved);
    }

    pub(super) fn pause(&mut self) {
        self.paused = true;
        (self.in_ring, self.due) = (false, false);
    }

    pub(super) fn resume(&mut self) {
        self.paused = false;
        self.in_ring = !self.has(Fault::ResumedBatchesStayOut);
    }

    /// A lease has run out.
    pub(super) fn recover(&mut self, number: usize) {
        let (guarantee, closes) = (self.guarantee, self.closes);
        let forgets_mark = self.has(Fault::LossesForgetTheMark);
        let without_doubt = self.has(Fault::ClosesWithoutDoubt);
        let mut moved = Moved::default();
        let chunk = &mut self.chunks[number];
        chunk.lease = None;
        chunk.past = chunk.past.lost(guarantee);
        if forgets_mark {
            chunk.past.mark = None;
        }
        if let Some(closes) = closes {
            chunk.close(closes, without_doubt, &mut moved);
        } else {
            chunk.parked = Some(self.now);
            self.in_ring |= !self.paused;
        }
        self.finish(moved);
    }

    /// Closes the chunks of a closed batch that nobody holds.
    pub(super) fn close_parked(&mut self) {
        let without_doubt = self.has(Fault::ClosesWithoutDoubt);
        let mut moved = Moved::default();
        self.closing = false;
        let Some(closes) = self.closes else { return };
        for chunk in self.chunks.iter_mut().filter(|chunk| chunk.parked.is_some()) {
            chunk.parked = None;
            chunk.close(closes, without_doubt, &mut moved);
        }
        self.finish(moved);
    }

    /// Time passes until the first of the parked chunks is due, and the reaper looks.
    pub(super) fn forward(&mut self) {
        self.due = false;
        if let Some((due, _)) = self.first_parked() {
            self.now = self.now.max(due);
            self.in_ring |= !self.paused;
        }
    }

    /// Whether another one says the same of messages, lease records apart.
    pub(super) fn says_the_same_as(&self, other: &Self) -> bool {
        let without_leases = |store: &Self| {
            let mut store = store.clone();
            store.chunks.iter_mut().for_each(|chunk| chunk.lease = None);
            store
        };
        without_leases(self) == without_leases(other)
    }

    /// A lease's record tells nothing once nobody knows its token.
    pub(super) fn forget_leases_but(&mut self, is_known: impl Fn(u8) -> bool) {
        for chunk in &mut self.chunks {
            chunk.lease = chunk
                .lease
                .filter(|lease| lease.standing == Standing::Held || is_known(lease.token));
        }
    }
}
