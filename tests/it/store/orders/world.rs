//! The store and the model side by side: each step is taken in both.

use std::{collections::HashMap, time::Duration};

use ringback::{
    clock::Clock,
    domain::{
        batch::{Batch, BatchSpec, BatchState, DeliveryGuarantee},
        ids::BatchId,
        message::{FinalState, Open},
        past::Mark,
        state_byte::{StateByte, Taken},
        time::UnixMs,
    },
    store::{
        Claimed, Draft, Heard, IntakeError, Release, Seal, Settled, Settlement, StoreError,
        StoredReceipt, Swept, Waiting, WishError,
    },
};

use super::{End, Settle, Step, cut::Way, failover::Copy, modeled::Modeled};
use crate::store::fixture::{
    ACCOUNT, Fixture, all_sent, changes, chunks, fresh_id_in, seal_of, settlement,
};

/// A lease as its worker knows it.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) claimed: Claimed,
    nonce: u64,
    /// Its settlements, with what they end; and how many of them the store has.
    said: Vec<(Settlement, Vec<(u16, StateByte)>)>,
    pub(super) applied: usize,
}

pub(super) struct World<'a> {
    pub(super) on: Fixture,
    /// The way to the store, if it is one that loses replies.
    pub(super) way: Option<&'a Way>,
    /// The reply that the next step loses.
    lost_reply: u32,
    pub(super) batches: Vec<(BatchId, Modeled)>,
    pub(super) held: Vec<Held>,
    /// Leases whose workers have died, and which run on.
    pub(super) crashed: Vec<Held>,
    /// Leases that were lost.
    pub(super) dead: Vec<Held>,
    /// Settlements and their answers.
    pub(super) answered: Vec<(Settlement, Settled)>,
    /// What a copy of the store has.
    pub(super) copy: Option<Copy>,
    /// How many settlements were said again, since the store lacked them.
    pub(super) said_again: usize,
}

// === impl World ===

impl<'a> World<'a> {
    pub(super) fn on(on: Fixture, way: Option<&'a Way>) -> Self {
        Self {
            on,
            way,
            lost_reply: 0,
            batches: vec![],
            held: vec![],
            crashed: vec![],
            dead: vec![],
            answered: vec![],
            copy: None,
            said_again: 0,
        }
    }

    /// Takes steps, with a check after each; then all comes to its end.
    pub(super) async fn take_all(mut self, steps: impl IntoIterator<Item = Step>) -> Self {
        for step in steps {
            self = self.take(step).await;
            self.check().await;
        }
        self.heal().await;
        self.check_all_is_over().await;
        self
    }

    /// Takes a step, in which a reply is lost if the one before said so.
    async fn take(mut self, step: Step) -> Self {
        if let Some(way) = self.way {
            way.lose_reply(std::mem::take(&mut self.lost_reply));
        }
        let world = self.take_whole(step).await;
        if let Some(way) = world.way {
            way.mend();
        }
        world
    }

    async fn take_whole(mut self, step: Step) -> Self {
        match step {
            Step::Accept { messages, invalid, chunk_size, guarantee, partition } => {
                self.accept(messages, invalid, chunk_size, guarantee, partition).await;
            }
            Step::Claim { partition } => _ = self.claim(partition).await,
            Step::ClaimAgain => self.claim_again().await,
            Step::Settle(settle) => self.settle(settle).await,
            Step::SettleAgain { earlier } => self.settle_again(earlier).await,
            Step::SettleStale { dead } => self.settle_stale(dead).await,
            Step::Crash { held } => self.crash(held),
            Step::CrashInARow { times, partition, upto } => {
                self.crash_in_a_row(times, partition, upto).await;
            }
            Step::Recover => self.recover().await,
            Step::ComeDue => self.come_due().await,
            Step::Cancel { batch } => self.cancel(batch).await,
            Step::Expire { batch } => self.expire(batch).await,
            Step::Pause { batch } => self.pause(batch, true).await,
            Step::Resume { batch } => self.pause(batch, false).await,
            Step::Hear { batch, message, state } => self.hear(batch, message, state).await,
            Step::Lapse => self.lapse().await,
            Step::Reopen => return self.reopened().await,
            Step::LoseReply { nth } => self.lost_reply = nth,
            Step::Copy => self.copy_store(),
            Step::FailOver => self.fail_over(),
        }
        self
    }

    /// Every call is made twice, as after a lost reply.
    async fn accept(
        &mut self,
        messages: usize,
        invalid: usize,
        chunk_size: u16,
        guarantee: DeliveryGuarantee,
        partition: u16,
    ) {
        let mut recipients = vec!["+15551230001"; messages];
        for nth in 0..invalid.min(messages) {
            recipients[nth * messages / invalid.max(1)] = "nobody";
        }
        // It never does by itself.
        let expire_at = Some(UnixMs(Clock::system().now().0 + 86_400_000));
        let spec = BatchSpec { expire_at, guarantee, ..self.on.spec(true) };
        let id = fresh_id_in(partition % self.on.partitions());
        // They are waited for until a step says no more.
        let receipt_timeout = Duration::from_hours(1);
        let draft = Draft { id, spec, receipt_timeout, ..self.on.draft(true) };
        let upload = self.on.open(&draft).await;
        assert_eq!(self.on.open(&draft).await, upload);
        let chunks = chunks(&recipients, chunk_size);
        let seal = seal_of(u32::try_from(chunks.len()).expect("few chunks"));
        let intake = &self.on.store.intake;
        for _ in 0..2 {
            intake.append(&upload, &chunks).await.expect("an append");
        }
        let early = Seal { chunks: seal.chunks + 1, ..seal.clone() };
        let refused = intake.seal(&upload, &early).await;
        assert!(matches!(refused, Err(IntakeError::Gone)), "{refused:?}");
        for _ in 0..2 {
            intake.seal(&upload, &seal).await.expect("a seal");
        }
        let state = |to: &&str| match *to {
            "nobody" => FinalState::Failed.into(),
            _ => StateByte::OPEN,
        };
        let states = recipients.iter().map(state).collect();
        self.batches.push((id, Modeled::new(guarantee, states, chunk_size)));
    }

    /// Gives where the lease is among those that are held.
    async fn claim(&mut self, partition: u16) -> Option<usize> {
        let nonce = rand::random();
        let claimed = self.on.claim_from(partition % self.on.partitions(), nonce).await?;
        self.modeled(claimed.batch).claim(&claimed);
        let twice = |held: &Held| held.chunk() == (claimed.batch, claimed.chunk as usize);
        assert!(!self.held.iter().chain(&self.crashed).any(twice), "a chunk has two holders");
        self.held.push(Held { claimed, nonce, said: vec![], applied: 0 });
        Some(self.held.len() - 1)
    }

    async fn claim_again(&mut self) {
        let Some(Held { claimed, nonce, .. }) = self.held.last() else { return };
        let again = self.on.claim_from(claimed.batch.partition(), *nonce).await;
        assert_eq!(again.expect("the same chunk").token, claimed.token);
    }

    async fn settle(&mut self, settle: Settle) {
        let Some(at) = pick(&self.held, settle.held) else { return };
        let Held { claimed, said, .. } = &self.held[at];
        let size = u16::try_from(claimed.states.len()).unwrap();
        let states =
            [FinalState::Sent, FinalState::Failed, FinalState::Unknown].map(StateByte::from);
        let state = *states.get(settle.state % 4).unwrap_or(&StateByte::AWAITING);
        let chosen = (0..size).filter(|place| settle.places & (1 << (place % 16)) != 0);
        let ended: Vec<_> = chosen.map(|place| (place, state)).collect();
        let in_an_hour = Release::At(UnixMs(claimed.now.0 + 3_600_000));
        let (release, waits) = match settle.end {
            End::Hold => (None, false),
            End::ReleaseNow => (Some(Release::Now), false),
            End::ParkRest => (Some(in_an_hour), true),
        };
        let open = Open { attempts: 1, maybe_accepted: settle.doubt, ..Open::default() };
        let waiting = Waiting { place: settle.upto % size, open };
        let mark = Mark { upto: u32::from(settle.upto % size) + 1, claimed_at: claimed.now };
        let settlement = Settlement {
            sequence: u32::try_from(said.len() + 1).unwrap(),
            changes: changes(&ended),
            log: vec![1; ended.len()].into(),
            waiting: waits.then_some(waiting).into_iter().collect(),
            mark: settle.marks.then_some(mark),
            release,
            ..settlement(claimed)
        };
        self.say(at, settlement, ended).await;
    }

    /// The holder says the next thing; and again what the store has lost.
    async fn say(&mut self, at: usize, settlement: Settlement, ended: Vec<(u16, StateByte)>) {
        let held = &mut self.held[at];
        let behind = (held.applied < held.said.len()).then_some(held.applied);
        held.said.push((settlement.clone(), ended));
        if let Some(applied) = behind {
            let applied = u32::try_from(applied).unwrap();
            assert_eq!(self.tell(&settlement).await, Settled::Behind(applied));
            self.said_again += self.held[at].said.len() - 1 - self.held[at].applied;
        }
        let rest = self.held[at].said[self.held[at].applied..].to_vec();
        for (settlement, ended) in rest {
            let settled = self.tell(&settlement).await;
            assert!(!matches!(settled, Settled::Lost | Settled::Behind(_)), "{settled:?}");
            self.modeled(settlement.batch).settle(&settlement, &ended);
            self.held[at].applied += 1;
            let over = settlement.release.is_some();
            self.answered.push((settlement, settled));
            if over {
                self.held.swap_remove(at);
                return;
            }
        }
    }

    /// Says it until it is answered, as the settler does.
    async fn tell(&self, settlement: &Settlement) -> Settled {
        until_answered(async || self.on.store.dispatch.settle(settlement).await).await.0
    }

    /// The reaper looks until an answer is heard. What it did is not known if that took several calls.
    async fn sweep(&self) -> Option<Swept> {
        let mut all = Swept::default();
        let mut calls = 0;
        loop {
            let (swept, made) = until_answered(async || self.on.store.dispatch.sweep().await).await;
            all += swept;
            calls += made - 1;
            if !swept.more {
                return (calls == 0).then_some(all);
            }
        }
    }

    async fn settle_again(&mut self, earlier: usize) {
        let Some(earlier) = pick(&self.answered, earlier) else { return };
        let (settlement, settled) = &self.answered[earlier];
        let again = self.tell(settlement).await;
        let same = match settled {
            Settled::Done => matches!(again, Settled::Done | Settled::Lost),
            // Its lease may have ended since, or the client may wish something else.
            _ => matches!(again, Settled::Applied(_) | Settled::Lost | Settled::Done),
        };
        assert!(same, "{settled:?}, then {again:?}");
    }

    async fn settle_stale(&mut self, dead: usize) {
        let Some(dead) = pick(&self.dead, dead) else { return };
        let Held { claimed, said, .. } = &self.dead[dead];
        let sequence = u32::try_from(said.len() + 1).unwrap();
        let late = Settlement { sequence, ..all_sent(claimed) };
        assert_eq!(self.tell(&late).await, Settled::Lost);
    }

    /// A worker dies: its lease is only the store's to end. Until it does, it is nobody's.
    fn crash(&mut self, held: usize) {
        if let Some(held) = pick(&self.held, held) {
            self.crashed.push(self.held.swap_remove(held));
        }
    }

    /// Workers die one after the other, each with a message of its own started.
    async fn crash_in_a_row(&mut self, times: u8, partition: u16, upto: u16) {
        for _ in 0..times {
            let Some(at) = self.claim(partition).await else { return };
            let claimed = &self.held[at].claimed;
            let upto = u32::from(upto) % u32::try_from(claimed.states.len()).unwrap() + 1;
            let mark = Some(Mark { upto, claimed_at: claimed.now });
            let settlement = Settlement { mark, ..settlement(claimed) };
            self.say(at, settlement, vec![]).await;
            self.crash(at);
            self.recover().await;
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
        self.sweep().await;
        let lost: Vec<_> = self.held.drain(..).chain(self.crashed.drain(..)).collect();
        for held in &lost {
            let (id, chunk) = held.chunk();
            self.modeled(id).lose(chunk);
        }
        self.dead.extend(lost);
    }

    async fn come_due(&mut self) {
        for (id, _) in &self.batches {
            self.on.raw.come_due(*id).await;
        }
        self.sweep().await;
    }

    /// A carrier says what became of a message.
    async fn hear(&mut self, batch: usize, message: usize, state: FinalState) {
        let Some(at) = pick(&self.batches, batch) else { return };
        let (id, modeled) = &mut self.batches[at];
        let Some(message) = pick(&modeled.states, message) else { return };
        let providers = [self.on.provider.clone()];
        let index = u32::try_from(message).unwrap();
        let receipt = [StoredReceipt { index, state, record: vec![0, 0] }];
        let take = async || self.on.store.receipts.take(&providers, *id, &receipt).await;
        let lost_before = self.way.map(Way::replies_lost);
        let (heard, _) = until_answered(take).await;
        let expected = match modeled.hear(message, state) {
            Some(Taken::Counted { early: true }) => Heard::Early,
            Some(Taken::Counted { early: false }) => Heard::Counted,
            Some(Taken::Late) => Heard::Late,
            Some(Taken::Again) => Heard::Again,
            Some(Taken::Contrary) => Heard::Contrary,
            None => Heard::Unknown,
        };
        // Whoever asks again, since the reply was lost, hears that it was said before.
        let again = self.way.map(Way::replies_lost) != lost_before && heard == [Heard::Again];
        assert!(again || heard == [expected], "{heard:?}, not {expected:?}");
    }

    /// Receipts are waited for no more.
    async fn lapse(&mut self) {
        for at in 0..self.batches.len() {
            self.on.raw.lapse_receipts(self.batches[at].0).await;
        }
        let swept = self.sweep().await;
        let lapsed = self.batches.iter_mut().filter_map(|(_, batch)| batch.lapse().then_some(()));
        let lapsed = lapsed.count() as u64;
        if let Some(swept) = swept {
            assert_eq!(swept.waits_ended, lapsed);
        }
    }

    /// Twice: canceling again changes nothing.
    async fn cancel(&mut self, batch: usize) {
        let Some(at) = pick(&self.batches, batch) else { return };
        let (id, _) = self.batches[at];
        for _ in 0..2 {
            match self.on.store.intake.cancel(ACCOUNT, id).await {
                Ok(()) => {}
                Err(WishError::State(BatchState::Completed)) => return,
                Err(error) => panic!("{error}"),
            }
        }
        self.close(at, FinalState::Canceled).await;
    }

    async fn expire(&mut self, batch: usize) {
        let Some(at) = pick(&self.batches, batch) else { return };
        let (id, modeled) = &self.batches[at];
        let expires = modeled.has_open() && modeled.closes.is_none();
        self.on.raw.expire(*id).await;
        if let Some(swept) = self.sweep().await {
            assert_eq!(swept.batches_expired, u64::from(expires));
        }
        if expires {
            self.close(at, FinalState::Expired).await;
        }
    }

    /// The store closes a batch, unless it did before.
    async fn close(&mut self, at: usize, state: FinalState) {
        let (id, _) = self.batches[at];
        // The sweep closes what is parked; what is held, or was when its worker died, stays.
        self.sweep().await;
        let known: Vec<_> = self.held.iter().chain(&self.crashed).map(Held::chunk).collect();
        let leased = self.on.raw.leased(id).await;
        for chunk in &leased {
            assert!(known.contains(&(id, *chunk)), "a lease that nobody has");
        }
        let batch = &mut self.batches[at].1;
        batch.closes.get_or_insert(state);
        batch.close_all_but(&leased);
    }

    /// Twice: the same again changes nothing.
    async fn pause(&mut self, batch: usize, pause: bool) {
        let Some(at) = pick(&self.batches, batch) else { return };
        let (id, batch) = &mut self.batches[at];
        let intake = &self.on.store.intake;
        for _ in 0..2 {
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
    }

    /// The store agrees with the model.
    async fn check(&self) {
        for (id, modeled) in &self.batches {
            modeled.check(&self.on.batch(*id).await);
            assert_eq!(self.on.raw.events(*id).await, usize::from(modeled.is_over()));
        }
    }

    /// Everything interrupted is taken back, and the rest is sent.
    async fn heal(&mut self) {
        self.recover().await;
        for at in 0..self.batches.len() {
            self.pause(at, false).await;
        }
        self.come_due().await;
        for partition in 0..self.on.partitions() {
            while let Some(claimed) = self.on.claim_from(partition, rand::random()).await {
                let settled = self.on.settle(&all_sent(&claimed)).await;
                assert!(matches!(settled, Settled::Done | Settled::Completed), "{settled:?}");
            }
        }
        for (_, modeled) in &mut self.batches {
            modeled.send_rest();
        }
        self.lapse().await;
    }

    async fn check_all_is_over(&self) {
        for (id, modeled) in &self.batches {
            let batch = self.on.batch(*id).await;
            assert!(batch.is_over(), "{batch:?}");
            assert_eq!(batch.counts.ended.sum(), modeled.states.len() as u64);
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
    pub(super) fn chunk(&self) -> (BatchId, usize) {
        (self.claimed.batch, self.claimed.chunk as usize)
    }
}

/// The answer to a call that is repeated until there is one, and how often it was made.
async fn until_answered<T>(call: impl AsyncFn() -> Result<T, StoreError>) -> (T, u32) {
    for calls in 1..10 {
        match call().await {
            Ok(answer) => return (answer, calls),
            Err(error) => assert!(error.is_passing(), "{error}"),
        }
    }
    panic!("no answer to ten calls");
}

fn pick<T>(from: &[T], choice: usize) -> Option<usize> {
    (!from.is_empty()).then(|| choice % from.len())
}
