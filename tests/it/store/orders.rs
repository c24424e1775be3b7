//! Random orders of steps against a simple model: whatever happens in whatever order, the
//! invariants hold after every step, and every batch ends with one event.
//!
//! The model knows each message's final state, and who holds each chunk. The store must agree with
//! it after every step (I2, I5, I7, I8), and once everything that was interrupted has been taken
//! back and sent, every batch is over and has exactly one event (I1, I3).

use std::collections::HashMap;

use proptest::{prelude::*, test_runner::TestRunner};
use ringback::{
    domain::{
        batch::{Batch, BatchState},
        ids::BatchId,
        message::FinalState,
        time::UnixMs,
    },
    store::{Claimed, Release, Settled, Settlement, WishError},
};

use super::fixture::{ACCOUNT, Fixture, all_sent, changes, settlement, waiting};
use crate::harness::Redis;

/// One step, with numbers to choose by; they are taken modulo what there is to choose from.
#[derive(Clone, Debug)]
enum Step {
    Accept { messages: usize, invalid: usize, chunk_size: u16 },
    Claim,
    ClaimAgain,
    Settle { held: usize, places: u16, state: usize, end: End },
    SettleAgain { earlier: usize },
    SettleStale { dead: usize },
    Crash { held: usize },
    Recover,
    ComeDue,
    Cancel { batch: usize },
    Pause { batch: usize },
    Resume { batch: usize },
}

#[derive(Clone, Copy, Debug)]
enum End {
    Hold,
    ReleaseNow,
    ParkRest,
}

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
    canceled: bool,
    paused: bool,
}

struct World {
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

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let end =
        prop_oneof![3 => Just(End::Hold), 2 => Just(End::ReleaseNow), 2 => Just(End::ParkRest)];
    let choice = 0_usize..1_000;
    let step = prop_oneof![
        2 => (0_usize..12, 0_usize..3, 1_u16..5).prop_map(|(messages, invalid, chunk_size)| {
            Step::Accept { messages, invalid, chunk_size }
        }),
        6 => Just(Step::Claim),
        1 => Just(Step::ClaimAgain),
        8 => (choice.clone(), any::<u16>(), choice.clone(), end)
            .prop_map(|(held, places, state, end)| Step::Settle { held, places, state, end }),
        2 => choice.clone().prop_map(|earlier| Step::SettleAgain { earlier }),
        2 => choice.clone().prop_map(|dead| Step::SettleStale { dead }),
        2 => choice.clone().prop_map(|held| Step::Crash { held }),
        1 => Just(Step::Recover),
        1 => Just(Step::ComeDue),
        1 => choice.clone().prop_map(|batch| Step::Cancel { batch }),
        1 => choice.clone().prop_map(|batch| Step::Pause { batch }),
        1 => choice.prop_map(|batch| Step::Resume { batch }),
    ];
    prop::collection::vec(step, 1..60)
}

#[test]
fn no_order_of_steps_breaks_the_invariants() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = runtime.block_on(Redis::start());
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let config = ProptestConfig {
        cases: cases.unwrap_or(96),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    TestRunner::new(config)
        .run(&steps(), |steps| {
            runtime.block_on(async {
                let mut world = World::new(&server).await;
                for step in steps {
                    world.take(step).await;
                    world.check().await;
                }
                world.heal().await;
                world.check_all_is_over().await;
            });
            Ok(())
        })
        .unwrap();
}

impl World {
    async fn new(server: &Redis) -> Self {
        let on = Fixture::on(&server.url(), 1).await;
        on.forget_everything().await;
        Self { on, batches: vec![], held: vec![], crashed: vec![], dead: vec![], answered: vec![] }
    }

    async fn take(&mut self, step: Step) {
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
            Step::Pause { batch } => self.pause(batch, true).await,
            Step::Resume { batch } => self.pause(batch, false).await,
        }
    }

    async fn accept(&mut self, messages: usize, invalid: usize, chunk_size: u16) {
        let mut recipients = vec!["+15551230001"; messages];
        for nth in 0..invalid.min(messages) {
            recipients[nth * messages / invalid.max(1)] = "nobody";
        }
        let id = self.on.accept(&recipients, chunk_size).await;
        let ended = recipients.iter().map(|to| (*to == "nobody").then_some(FinalState::Failed));
        let firsts: Vec<_> = (0..messages).step_by(usize::from(chunk_size)).collect();
        let claimed = vec![false; firsts.len()];
        let modeled = Modeled { ended: ended.collect(), firsts, claimed, ..Modeled::default() };
        self.batches.push((id, modeled));
    }

    async fn claim(&mut self) {
        let nonce = rand::random();
        let Some(claimed) = self.on.claim_with(nonce).await else { return };
        let batch = self.modeled(claimed.batch);
        assert!(!batch.canceled && !batch.paused, "claimed of a batch that stands still");
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
        let messages = self.held[held].claimed.states.len();
        let batch = self.modeled(id);
        let first = batch.firsts[chunk];
        for (place, state) in ended {
            batch.ended[first + usize::from(*place)].get_or_insert(*state);
        }
        if released && batch.canceled {
            for message in &mut batch.ended[first..first + messages] {
                message.get_or_insert(FinalState::Canceled);
            }
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
        self.on.lapse_leases().await;
        self.on.sweep().await;
        self.dead.append(&mut self.held);
        self.dead.append(&mut self.crashed);
        for (_, batch) in &mut self.batches {
            if batch.canceled {
                batch.close_claimed();
            }
        }
    }

    async fn come_due(&mut self) {
        for (id, _) in &self.batches {
            self.on.come_due(*id).await;
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
        // The sweep closes what is parked; what is held, or was when its worker died, stays.
        self.on.sweep().await;
        let out: Vec<_> = self.held.iter().chain(&self.crashed).map(Held::chunk).collect();
        let batch = &mut self.batches[at].1;
        batch.canceled = true;
        let out: Vec<_> = out.iter().filter(|(of, _)| *of == id).map(|(_, chunk)| *chunk).collect();
        batch.close_all_but(&out, &self.on.leased(id).await);
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
    async fn check(&self) {
        for (id, modeled) in &self.batches {
            let batch = self.on.batch(*id).await;
            modeled.check(&batch);
            let over = modeled.ended.iter().all(Option::is_some);
            assert_eq!(batch.is_over(), over, "{batch:?}");
            assert_eq!(self.on.events(*id).await, usize::from(over));
        }
    }

    /// Everything interrupted is taken back, and the rest is sent.
    async fn heal(&mut self) {
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

    async fn check_all_is_over(&self) {
        for (id, modeled) in &self.batches {
            let batch = self.on.batch(*id).await;
            assert!(batch.is_over(), "{batch:?}");
            assert_eq!(batch.counts.ended.sum(), modeled.ended.len() as u64);
            assert_eq!((batch.counts.queued(), batch.counts.sending), (0, 0));
            assert_eq!(self.on.events(*id).await, 1);
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
        for message in self.chunk(chunk) {
            message.get_or_insert(FinalState::Canceled);
        }
    }

    fn close_claimed(&mut self) {
        for chunk in 0..self.claimed.len() {
            self.close(chunk);
        }
    }

    /// Cancel closes every chunk but those under a lease.
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
