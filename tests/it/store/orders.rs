//! Random orders of steps against a simple model: whatever happens in whatever order, the
//! invariants hold after every step, and every batch ends with one event.
//!
//! The model knows each message's final state, and who holds each chunk. The store must agree with
//! it after every step (I2, I5, I7, I8), and once everything that was interrupted has been taken
//! back and sent, every batch is over and has exactly one event (I1, I3).

mod world;

use proptest::{prelude::*, test_runner::TestRunner};
use tokio::runtime::Runtime;

use self::world::World;
use super::fixture::Fixture;
use crate::harness::{Kind, Redis};

/// One step, with numbers to choose by; they are taken modulo what there is to choose from.
#[derive(Clone, Debug)]
enum Step {
    Accept {
        messages: usize,
        invalid: usize,
        chunk_size: u16,
    },
    Claim,
    ClaimAgain,
    Settle {
        held: usize,
        places: u16,
        state: usize,
        end: End,
    },
    SettleAgain {
        earlier: usize,
    },
    SettleStale {
        dead: usize,
    },
    Crash {
        held: usize,
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
    /// Only on the embedded store, which nobody else has open.
    Reopen,
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
    let server = runtime.block_on(Redis::start());
    search(&runtime, steps(&[Step::Recover]), async || {
        // To start a server for each order would take too long.
        server.ask("FLUSHALL");
        Fixture::on(&server).await
    });
}

#[test]
fn no_order_of_steps_breaks_the_invariants_on_embedded() {
    let steps = steps(&[Step::Recover, Step::Reopen]);
    search(&runtime(), steps, async || Fixture::start(Kind::Embedded).await);
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Takes many orders of steps, each on an empty store.
fn search(
    runtime: &Runtime,
    steps: impl Strategy<Value = Vec<Step>>,
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
                let mut world = World::on(empty().await);
                for step in steps {
                    world = world.take(step).await;
                    world.check().await;
                }
                world.heal().await;
                world.check_all_is_over().await;
            });
            Ok(())
        })
        .unwrap();
}

/// Orders of steps; now and then one of `interruptions` ends all leases.
fn steps(interruptions: &'static [Step]) -> impl Strategy<Value = Vec<Step>> {
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
        1 => Just(Step::ComeDue),
        1 => choice.clone().prop_map(|batch| Step::Cancel { batch }),
        1 => choice.clone().prop_map(|batch| Step::Expire { batch }),
        1 => choice.clone().prop_map(|batch| Step::Pause { batch }),
        1 => choice.prop_map(|batch| Step::Resume { batch }),
        2 => prop::sample::select(interruptions),
    ];
    prop::collection::vec(step, 1..60)
}
