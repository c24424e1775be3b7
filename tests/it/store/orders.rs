//! Random orders of steps against a simple model: whatever happens in whatever order, the
//! invariants hold after every step, and every batch ends with one event.
//!
//! The model knows each message's final state, who holds each chunk, and what lost leases left behind.
//! The store must agree with it after every step (I2, I5, I7, I8), and once everything that was
//! interrupted has been taken back and sent, every batch is over and has exactly one event (I1, I3).
//!
//! The store on Redis has two partitions. It is reached by a way that loses replies, and fails over to
//! older copies of itself.

mod cut;
mod failover;
mod modeled;
mod world;

use proptest::{prelude::*, test_runner::TestRunner};
use ringback::domain::{
    batch::DeliveryGuarantee::{self, AtLeastOnce, AtMostOnce},
    message::FinalState,
};
use tokio::runtime::Runtime;

use self::{cut::Way, world::World};
use super::fixture::Fixture;
use crate::harness::{Kind, Redis};

/// One step, with numbers to choose by; they are taken modulo what there is to choose from.
#[derive(Clone, Debug)]
enum Step {
    Accept {
        messages: usize,
        invalid: usize,
        chunk_size: u16,
        guarantee: DeliveryGuarantee,
        partition: u16,
    },
    Claim {
        partition: u16,
    },
    ClaimAgain,
    Settle(Settle),
    SettleAgain {
        earlier: usize,
    },
    SettleStale {
        dead: usize,
    },
    Crash {
        held: usize,
    },
    CrashInARow {
        times: u8,
        partition: u16,
        upto: u16,
    },
    Recover,
    ComeDue,
    Cancel {
        batch: usize,
    },
    Expire {
        batch: usize,
    },
    Pause {
        batch: usize,
    },
    Resume {
        batch: usize,
    },
    /// A carrier says what became of a message.
    Hear {
        batch: usize,
        message: usize,
        state: FinalState,
    },
    /// Receipts are waited for no more.
    Lapse,
    /// Only on the embedded store, which nobody else has open.
    Reopen,
    /// In the next step. Only on the way to a server, as what follows.
    LoseReply {
        nth: u32,
    },
    Copy,
    FailOver,
}

#[derive(Clone, Copy, Debug)]
struct Settle {
    held: usize,
    /// The places that end, a bit each, and how.
    places: u16,
    state: usize,
    end: End,
    /// How far messages are marked, if they are; also the place that waits, if one does.
    upto: u16,
    marks: bool,
    /// Whether what waits may have been accepted.
    doubt: bool,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Hold,
    ReleaseNow,
    ParkRest,
}

#[test]
fn no_order_of_steps_breaks_the_invariants_on_redis() {
    let runtime = runtime();
    let way = runtime.block_on(way());
    let interruptions = prop_oneof![
        3 => Just(Step::Recover),
        2 => (1_u32..5).prop_map(|nth| Step::LoseReply { nth }),
        2 => Just(Step::Copy),
        1 => Just(Step::FailOver),
    ];
    search(&runtime, steps(interruptions), Some(&way), async || {
        // To start a server for each order would take too long.
        way.command("FLUSHALL");
        Fixture::by(&way, &way.server, 2).await
    });
}

#[test]
fn no_order_of_steps_breaks_the_invariants_on_embedded() {
    let steps = steps(prop_oneof![Just(Step::Recover), Just(Step::Reopen)]);
    search(&runtime(), steps, None, async || Fixture::start(Kind::Embedded).await);
}

#[tokio::test]
async fn a_step_whose_reply_is_lost_is_taken_once() {
    let way = way().await;
    let wishes = [
        hear(2),
        Step::Pause { batch: 0 },
        Step::Resume { batch: 0 },
        Step::Cancel { batch: 0 },
        Step::Expire { batch: 0 },
    ];
    let once = [
        Step::Claim { partition: 1 },
        say(0, 2, End::ReleaseNow),
        // The last word: the batch completes.
        say(0, 15, End::Hold),
        Step::Recover,
    ];
    // Seven calls, and each of their replies.
    let each_of_accept = (1..=7).map(|nth| (nth, four_messages()));
    for (nth, step) in once.into_iter().chain(wishes).map(|step| (1, step)).chain(each_of_accept) {
        let before = way.replies_lost();
        let order = [
            four_messages(),
            Step::Claim { partition: 1 },
            say(0, 1, End::Hold),
            Step::LoseReply { nth },
            step.clone(),
        ];
        World::on(Fixture::by(&way, &way.server, 2).await, Some(&way)).take_all(order).await;
        assert_eq!(way.replies_lost(), before + 1, "{step:?}");
        way.command("FLUSHALL");
    }
}

#[tokio::test]
async fn what_an_older_copy_lacks_is_said_again() {
    let way = way().await;
    let order = [
        four_messages(),
        Step::Claim { partition: 1 },
        say(0, 1, End::Hold),
        Step::Copy,
        say(0, 2, End::Hold),
        say(0, 4, End::Hold),
        // The copy knows nothing of it.
        four_messages(),
        Step::FailOver,
        say(0, 8, End::Hold),
    ];
    let world = World::on(Fixture::by(&way, &way.server, 2).await, Some(&way));
    let world = world.take_all(order).await;
    assert_eq!((world.said_again, world.batches.len()), (2, 1));
}

/// A batch of one chunk.
fn four_messages() -> Step {
    let (messages, chunk_size) = (4, 4);
    Step::Accept { messages, invalid: 0, chunk_size, guarantee: AtLeastOnce, partition: 1 }
}

/// The holder says that messages were sent, a bit each.
fn say(held: usize, places: u16, end: End) -> Step {
    Step::Settle(Settle { held, places, state: 0, end, upto: 0, marks: false, doubt: false })
}

/// A carrier says that a message was delivered.
fn hear(message: usize) -> Step {
    Step::Hear { batch: 0, message, state: FinalState::Delivered }
}

async fn way() -> Way {
    let options = ["--appendonly", "no", "--enable-debug-command", "yes"];
    Way::to(Redis::start_with(&options).await).await
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Takes many orders of steps, each on an empty store.
fn search(
    runtime: &Runtime,
    steps: impl Strategy<Value = Vec<Step>>,
    way: Option<&Way>,
    empty: impl AsyncFn() -> Fixture,
) {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let config = ProptestConfig {
        cases: cases.unwrap_or(96),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    TestRunner::new(config)
        .run(&steps, |steps| {
            runtime.block_on(async {
                World::on(empty().await, way).take_all(steps).await;
            });
            Ok(())
        })
        .unwrap();
}

/// Orders of steps, now and then with one of `interruptions`.
fn steps(interruptions: impl Strategy<Value = Step> + 'static) -> impl Strategy<Value = Vec<Step>> {
    let choice = 0_usize..1_000;
    let partition = 0_u16..2;
    let step = prop_oneof![
        2 => accept(),
        6 => partition.clone().prop_map(|partition| Step::Claim { partition }),
        1 => Just(Step::ClaimAgain),
        8 => settle(),
        2 => choice.clone().prop_map(|earlier| Step::SettleAgain { earlier }),
        2 => choice.clone().prop_map(|dead| Step::SettleStale { dead }),
        2 => choice.clone().prop_map(|held| Step::Crash { held }),
        1 => (1_u8..5, partition, 0_u16..4)
            .prop_map(|(times, partition, upto)| Step::CrashInARow { times, partition, upto }),
        1 => Just(Step::ComeDue),
        1 => choice.clone().prop_map(|batch| Step::Cancel { batch }),
        1 => choice.clone().prop_map(|batch| Step::Expire { batch }),
        1 => choice.clone().prop_map(|batch| Step::Pause { batch }),
        1 => choice.clone().prop_map(|batch| Step::Resume { batch }),
        6 => (choice.clone(), choice, any::<bool>()).prop_map(|(batch, message, delivered)| {
            let state = if delivered { FinalState::Delivered } else { FinalState::Undelivered };
            Step::Hear { batch, message, state }
        }),
        1 => Just(Step::Lapse),
        3 => interruptions,
    ];
    prop::collection::vec(step, 1..60)
}

fn accept() -> impl Strategy<Value = Step> {
    let guarantee = prop_oneof![Just(AtLeastOnce), Just(AtMostOnce)];
    (0_usize..12, 0_usize..3, 1_u16..5, guarantee, 0_u16..2).prop_map(
        |(messages, invalid, chunk_size, guarantee, partition)| Step::Accept {
            messages,
            invalid,
            chunk_size,
            guarantee,
            partition,
        },
    )
}

fn settle() -> impl Strategy<Value = Step> {
    let end =
        prop_oneof![3 => Just(End::Hold), 2 => Just(End::ReleaseNow), 2 => Just(End::ParkRest)];
    let choice = 0_usize..1_000;
    (choice.clone(), any::<u16>(), choice, end, 0_u16..4, any::<bool>(), any::<bool>()).prop_map(
        |(held, places, state, end, upto, marks, doubt)| {
            Step::Settle(Settle { held, places, state, end, upto, marks, doubt })
        },
    )
}
