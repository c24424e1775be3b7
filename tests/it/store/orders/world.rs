//! The store and the model side by side: each step is taken in both.

use std::collections::HashMap;

use ringback::{
    clock::Clock,
    domain::{
        batch::{Batch, BatchSpec, BatchState},
        ids::BatchId,
        message::FinalState,
        time::UnixMs,
    },
    store::{Claimed, Draft, Release, Settled, Settlement, WishError},
};

use super::{End, Step};
use crate::store::fixture::{ACCOUNT, Fixture, all_sent, changes, settlement, waiting};

/// A lease as its worker knows it.
struct Held {
    claimed: Claimed,
    nonce: u64,
    sequence: u32,
}

#[derive(Default)]
struct Modeled {
    /// Each message's final state, once it has one.
    ended: Vec<Option<FinalState>>,
    firsts: Vec<usize>,
    /// Which chunks were ever claimed.
    claimed: Vec<bool>,
    /// Which chunks had a lease that was lost: what is open in them may have been accepted.
    lost: Vec<bool>,
    /// How its open messages are closed, once it was canceled or has expired.
    closes: Option<FinalState>,
    paused: bool,
}

pub(super) struct World {
    on: Fixture,
    batches: Vec<(BatchId, Modeled)>,
    held: Vec<Held>,
    /// Leases whose workers have died, and which run on.
    crashed: Vec<Held>,
    /// Leases that were lost.
    dead: Vec<Held>,
    /// Settlements and their answers.
    answered: Vec<(Settlement, Settled)>,
}

// === impl World ===

impl World {
    pub(super) fn on(on: Fixture) -> Self {
        Self { on, batches: vec![], held: vec![], crashed: vec![], dead: vec![], answered: vec![] }
    }

    pub(super) async fn take(mut self, step: Step) -> Self {
        match step {
            Step::Accept { messages, invalid, chunk_size } => {
                self.accept(messages, invalid, chunk_size).await;
            }
            Step::Claim => self.claim().await,
            Step::ClaimAgain => self.claim_again().await,
            Step::Settle { held, places, state, end } => {
                self.settle(held, places, state, end).await;
            }
            Step::SettleAgain { earlier } => self.settle_again(earlier).await,
            Step::SettleStale { dead } => self.settle_stale(dead).await,
            Step::Crash { held } => self.crash(held),
            Step::Recover => self.recover().await,
            Step::ComeDue => self.come_due().await,
            Step::Cancel { batch } => self.cancel(batch).await,
            Step::Expire { batch } => self.expire(batch).await,
            Step::Pause { batch } => self.pause(batch, true).await,
            Step::Resume { batch } => self.pause(batch, false).await,
            Step::Reopen => return self.reopened().await,
        }
        self
    }

    async fn accept(&mut self, messages: usize, invalid: usize, chunk_size: u16) {
        let mut recipients = vec!["+15551230001"; messages];
        for nth in 0..invalid.min(messages) {
            recipients[nth * messages / invalid.max(1)] = "nobody";
        }
        let draft = self.on.draft(true);
        // It never does by itself.
        let expire_at = Some(UnixMs(Clock::system().now().0 + 86_400_000));
        let draft = Draft { spec: BatchSpec { expire_at, ..draft.spec.clone() }, ..draft };
        let id = self.on.accept_draft(&draft, &recipients, chunk_size).await;
        let ended = recipients.iter().map(|to| (*to == "nobody").then_some(FinalState::Failed));
        let firsts: Vec<_> = (0..messages).step_by(usize::from(chunk_size)).collect();
        let claimed = vec![false; firsts.len()];
        let lost = claimed.clone();
        let modeled =
            Modeled { ended: ended.collect(), firsts, claimed, lost, ..Modeled::default() };
        self.batches.push((id, modeled));
    }

    async fn claim(&mut self) {
        let nonce = rand::random();
        let Some(claimed) = self.on.claim_with(nonce).await else { return };
        let batch = self.modeled(claimed.batch);
        assert!(batch.closes.is_none() && !batch.paused, "claimed of a batch that stands still");
        let first = batch.firsts[claimed.chunk as usize];
        assert_eq!(claimed.first as usize, first);
        batch.claimed[claimed.chunk as usize] = true;
        for (place, state) in claimed.states.iter().enumerate() {
            assert_eq!(FinalState::from_byte(*state), batch.ended[first + place]);
        }
        let twice = |held: &Held| {
            held.claimed.batch == claimed.batch && held.claimed.chunk == claimed.chunk
        };
        assert!(!self.held.iter().chain(&self.crashed).any(twice), "a chunk has two holders");
        self.held.push(Held { claimed, nonce, sequence: 0 });
    }

    async fn claim_again(&mut self) {
        let Some(held) = self.held.last() else { return };
        let again = self.on.claim_with(held.nonce).await.expect("the same chunk");
        assert_eq!(again.token, held.claimed.token);
    }

    async fn settle(&mut self, held: usize, places: u16, state: usize, end: End) {
        let Some(held) = pick(&self.held, held) else { return };
        let Held { claimed, sequence, .. } = &mut self.held[held];
        *sequence += 1;
        let state = [FinalState::Sent, FinalState::Failed, FinalState::Unknown][state % 3];
        let chosen = (0..u16::try_from(claimed.states.len()).unwrap())
            .filter(|place| places & (1 << (place % 16)) != 0);
        let ended: Vec<_> = chosen.map(|place| (place, state)).collect();
        let in_an_hour = Release::At(UnixMs(claimed.now.0 + 3_600_000));
        let (release, waiting) = match end {
            End::Hold => (None, vec![]),
            End::ReleaseNow => (Some(Release::Now), vec![]),
            End::ParkRest => (Some(in_an_hour), vec![waiting(0, 1)]),
        };
        let settlement = Settlement {
            sequence: *sequence,
            changes: changes(&ended),
            log: vec![1; ended.len()].into(),
            waiting,
            release,
            ..settlement(claimed)
        };
        let settled = self.on.settle(&settlement).await;
        assert!(!matches!(settled, Settled::Lost | Settled::Behind(_)), "{settled:?}");
        self.model_settlement(held, &ended, release.is_some());
        let over = matches!(settled, Settled::Done { .. });
        if over || release.is_some() {
            self.held.swap_remove(held);
        }
        self.answered.push((settlement, settled));
    }

    fn model_settlement(&mut self, held: usize, ended: &[(u16, FinalState)], released: bool) {
        let (id, chunk) = (self.held[held].claimed.batch, self.held[held].claimed.chunk as usize);
        let batch = self.modeled(id);
        let first = batch.firsts[chunk];
        for (place, state) in ended {
            batch.ended[first + usize::from(*place)].get_or_insert(*state);
        }
        if batch.closes.is_some() && released {
            batch.close(chunk);
        }
    }

    async fn settle_again(&mut self, earlier: usize) {
        let Some(earlier) = pick(&self.answered, earlier) else { return };
        let (settlement, settled) = &self.answered[earlier];
        let again = self.on.settle(settlement).await;
        let same = match settled {
            Settled::Done { .. } => matches!(again, Settled::Done { .. } | Settled::Lost),
            // Its lease may have ended since, or the client may wish something else.
            _ => matches!(again, Settled::Applied(_) | Settled::Lost | Settled::Done { .. }),
        };
        assert!(same, "{settled:?}, then {again:?}");
    }

    async fn settle_stale(&mut self, dead: usize) {
        let Some(dead) = pick(&self.dead, dead) else { return };
        let held = &self.dead[dead];
        let late = Settlement { sequence: held.sequence + 1, ..all_sent(&held.claimed) };
        assert_eq!(self.on.settle(&late).await, Settled::Lost);
    }

    /// A worker dies: its lease is only the store's to end. Until it does, it is nobody's.
    fn crash(&mut self, held: usize) {
        if let Some(held) = pick(&self.held, held) {
            self.crashed.push(self.held.swap_remove(held));
        }
    }

    /// All leases run out, those of the living too.
    async fn recover(&mut self) {
        self.on.raw.lapse_leases().await;
        self.take_back().await;
    }

    /// The process ends, and another one opens its store: all leases are void.
    async fn reopened(self) -> Self {
        let mut world = Self { on: self.on.reopened().await, ..self };
        world.take_back().await;
        world
    }

    /// The store takes back what nobody holds any more, which is everything.
    async fn take_back(&mut self) {
        self.on.sweep().await;
        let lost: Vec<_> = self.held.drain(..).chain(self.crashed.drain(..)).collect();
        for held in &lost {
            let (id, chunk) = held.chunk();
            self.modeled(id).lost[chunk] = true;
        }
        self.dead.extend(lost);
        for (_, batch) in &mut self.batches {
            if batch.closes.is_some() {
                batch.close_claimed();
            }
        }
    }

    async fn come_due(&mut self) {
        for (id, _) in &self.batches {
            self.on.raw.come_due(*id).await;
        }
        self.on.sweep().await;
    }

    async fn cancel(&mut self, batch: usize) {
        let Some(at) = pick(&self.batches, batch) else { return };
        let (id, _) = self.batches[at];
        match self.on.store.intake.cancel(ACCOUNT, id).await {
            Ok(()) => {}
            Err(WishError::State(BatchState::Completed)) => return,
            Err(error) => panic!("{error}"),
        }
        self.close(at, FinalState::Canceled).await;
    }

    async fn expire(&mut self, batch: usize) {
        let Some(at) = pick(&self.batches, batch) else { return };
        let (id, modeled) = &self.batches[at];
        let is_over = modeled.ended.iter().all(Option::is_some);
        self.on.raw.expire(*id).await;
        let expired = self.on.sweep().await.batches_expired;
        assert_eq!(expired, u64::from(!is_over && modeled.closes.is_none()));
        if expired > 0 {
            self.close(at, FinalState::Expired).await;
        }
    }

    /// The store closes a batch, unless it did before.
    async fn close(&mut self, at: usize, state: FinalState) {
        let (id, _) = self.batches[at];
        // The sweep closes what is parked; what is held, or was when its worker died, stays.
        self.on.sweep().await;
        let out: Vec<_> = self.held.iter().chain(&self.crashed).map(Held::chunk).collect();
        let batch = &mut self.batches[at].1;
        batch.closes.get_or_insert(state);
        let out: Vec<_> = out.iter().filter(|(of, _)| *of == id).map(|(_, chunk)| *chunk).collect();
        batch.close_all_but(&out, &self.on.raw.leased(id).await);
    }

    async fn pause(&mut self, batch: usize, pause: bool) {
        let Some(at) = pick(&self.batches, batch) else { return };
        let (id, batch) = &mut self.batches[at];
        let intake = &self.on.store.intake;
        let done = if pause {
            intake.pause(ACCOUNT, *id).await
        } else {
            intake.resume(ACCOUNT, *id).await
        };
        match done {
            Ok(()) => batch.paused = pause,
            Err(WishError::State(BatchState::Completed | BatchState::Canceled)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// The store agrees with the model.
    pub(super) async fn check(&self) {
        for (id, modeled) in &self.batches {
            let batch = self.on.batch(*id).await;
            modeled.check(&batch);
            let over = modeled.ended.iter().all(Option::is_some);
            assert_eq!(batch.is_over(), over, "{batch:?}");
            assert_eq!(self.on.raw.events(*id).await, usize::from(over));
        }
    }

    /// Everything interrupted is taken back, and the rest is sent.
    pub(super) async fn heal(&mut self) {
        self.recover().await;
        for at in 0..self.batches.len() {
            self.pause(at, false).await;
        }
        self.come_due().await;
        while let Some(claimed) = self.on.claim().await {
            let settled = self.on.settle(&all_sent(&claimed)).await;
            assert!(matches!(settled, Settled::Done { .. }), "{settled:?}");
        }
    }

    pub(super) async fn check_all_is_over(&self) {
        for (id, modeled) in &self.batches {
            let batch = self.on.batch(*id).await;
            assert!(batch.is_over(), "{batch:?}");
            assert_eq!(batch.counts.ended.sum(), modeled.ended.len() as u64);
            assert_eq!((batch.counts.queued(), batch.counts.sending), (0, 0));
            assert_eq!(self.on.raw.events(*id).await, 1);
            self.recount(&batch).await;
        }
    }

    /// The counts are what the messages say.
    async fn recount(&self, batch: &Batch) {
        let reading = &self.on.store.reading;
        let (messages, _) = reading.messages(batch.id, None, 0, 1_000).await.expect("messages");
        let mut counted: HashMap<_, u64> = HashMap::new();
        for message in messages {
            *counted.entry(message.state).or_default() += 1;
        }
        for state in FinalState::ALL {
            let found = counted.get(&state.into()).copied().unwrap_or_default();
            assert_eq!(found, batch.counts.ended[state], "{state:?} of {batch:?}");
        }
    }

    fn modeled(&mut self, id: BatchId) -> &mut Modeled {
        let found = self.batches.iter_mut().find(|(known, _)| *known == id);
        &mut found.expect("a batch that was accepted").1
    }
}

impl Held {
    fn chunk(&self) -> (BatchId, usize) {
        (self.claimed.batch, self.claimed.chunk as usize)
    }
}

impl Modeled {
    fn check(&self, batch: &Batch) {
        assert_eq!(batch.counts.total, self.ended.len() as u64);
        for state in FinalState::ALL {
            let modeled = self.ended.iter().filter(|ended| **ended == Some(state)).count();
            assert_eq!(batch.counts.ended[state], modeled as u64, "{state:?} of {batch:?}");
        }
    }

    fn chunk(&mut self, chunk: usize) -> &mut [Option<FinalState>] {
        let end = self.firsts.get(chunk + 1).copied().unwrap_or(self.ended.len());
        &mut self.ended[self.firsts[chunk]..end]
    }

    fn close(&mut self, chunk: usize) {
        let closes = self.closes.expect("a closed batch");
        let state = if self.lost[chunk] { FinalState::Unknown } else { closes };
        for message in self.chunk(chunk) {
            message.get_or_insert(state);
        }
    }

    fn close_claimed(&mut self) {
        for chunk in 0..self.claimed.len() {
            self.close(chunk);
        }
    }

    /// Cancel and expiry close every chunk but those under a lease.
    fn close_all_but(&mut self, known: &[usize], leased: &[usize]) {
        for chunk in leased {
            assert!(known.contains(chunk), "a lease that nobody has");
        }
        for chunk in (0..self.claimed.len()).filter(|chunk| !leased.contains(chunk)) {
            self.close(chunk);
        }
    }
}

fn pick<T>(from: &[T], choice: usize) -> Option<usize> {
    (!from.is_empty()).then(|| choice % from.len())
}
