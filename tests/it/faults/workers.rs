//! Workers that die, stand still, are replaced, and are many.

use std::time::Duration;

use rand::RngExt;

use super::{
    Books, Bounds, IN_FLIGHT, LONG, Row, Stage, after, calls, compare, figure, scene, worker,
};
use crate::{
    harness::{Kind, Mode, PATIENCE, Provider, Ringback, eventually},
    scene::{numbers, one_report, setup, shown},
};

#[tokio::test]
async fn a_worker_killed_at_random_loses_nothing_and_repeats_little() {
    const KILLS: u32 = 6;
    const MESSAGES: usize = 15_000;
    let mut row = Row::begin(1, "worker killed at random", Kind::Redis, "I1 I2 I3 I5 I6 I10");
    let mut lots = row.lots();
    let mut stage = Stage::set().await;
    let id = stage.post(MESSAGES).await;
    let mut worker = stage.worker().start().await;
    for kill in 1..=KILLS {
        let share = MESSAGES / (KILLS as usize + 1);
        stage.calls(share * (kill as usize - 1) + lots.random_range(share / 4..share)).await;
        worker.kill();
        row.inject("SIGKILL");
        assert!(!stage.is_complete(&id).await, "kill {kill} came too late");
        worker = stage.worker().start().await;
    }
    let found = stage.compare(after(KILLS)).await;
    found.all_sent();
    let lost = figure(&stage.client, "ringback_leases_lost_total").await;
    assert!(lost > 0);
    row.end(&found, format!("{lost} leases ran out"));
}

#[tokio::test]
async fn the_one_process_of_an_embedded_store_killed_at_random_loses_nothing_and_repeats_little() {
    const KILLS: u32 = 5;
    const MESSAGES: usize = 15_000;
    let mut row = Row::begin(1, "process killed at random", Kind::Embedded, "I1 I2 I3 I5 I6 I10");
    let mut lots = row.lots();
    // The lease is as long as it is by default: nobody has to wait for its end.
    let mut scene = scene(Kind::Embedded, |setup| setup.set("worker.lease", "30s")).await;
    let id = scene.post(numbers(0..MESSAGES)).await;
    for kill in 1..=KILLS {
        let share = MESSAGES / (KILLS as usize + 1);
        let at = share * (kill as usize - 1) + lots.random_range(share / 4..share);
        calls(&scene.provider, at).await;
        scene.ringback.restart().await;
        row.inject("SIGKILL");
        let complete = &shown(&scene.client, &id).await["completed_at"];
        assert!(complete.is_null(), "kill {kill} came too late");
    }
    let found = compare(&scene, &[(id, MESSAGES as u64)], after(KILLS)).await;
    found.all_sent();
    row.end(&found, "");
}

#[tokio::test]
async fn a_worker_that_stood_still_past_its_lease_changes_nothing_afterwards() {
    const MESSAGES: usize = 6_000;
    let mut row = Row::begin(9, "worker stopped past its lease", Kind::Redis, "I2 I6 I8");
    let mut stage = Stage::set().await;
    // Each worker has a provider of its own, so that their calls can be told apart.
    let beside = Provider::start();
    let still = worker(&stage.redis, &beside).start().await;
    beside.set(Mode::Delay(Duration::from_millis(20)));
    let id = stage.post(MESSAGES).await;
    calls(&beside, 1_000).await;
    still.pause();
    row.inject("SIGSTOP");
    let other = stage.worker().start().await;
    let complete = one_report(&stage.client, &stage.receiver, &id, LONG).await;
    let before = beside.count();
    still.resume();
    eventually("its notice that leases are lost", PATIENCE, async || {
        (figure(&still.health(), "ringback_process_leases_lost_total").await > 0).then_some(())
    })
    .await;
    // Nothing has moved: neither the counts, nor the event, nor a message's record.
    let again = one_report(&stage.client, &stage.receiver, &id, LONG).await;
    assert_eq!(again, complete);
    let late = figure(&still.health(), "ringback_process_late_outcomes_refused_total").await;
    // What had left its hands when it was stopped may still reach the provider, and no more.
    let woken = beside.count() - before;
    assert!(woken <= IN_FLIGHT as usize, "{woken} calls after its lease was over");
    // It works on.
    drop(other);
    stage.post(200).await;
    let Stage { client, receiver, accepted, .. } = &stage;
    let books = Books { client, providers: &[&stage.provider, &beside], receiver };
    let found = books.compare(accepted, after(1)).await;
    found.all_sent();
    row.end(&found, format!("{late} late outcomes refused, {woken} calls after waking"));
}

#[tokio::test]
async fn workers_that_are_replaced_one_after_the_other_repeat_nothing() {
    const MESSAGES: usize = 12_000;
    let mut row = Row::begin(20, "SIGTERM under load, rolling restart", Kind::Redis, "I1 I6 = 0");
    let mut stage = Stage::set().await;
    let id = stage.post(MESSAGES).await;
    let mut old = stage.worker().start().await;
    for turn in 1..=3 {
        stage.calls(3_000 * turn).await;
        let new = stage.worker().start().await;
        old.terminate();
        row.inject("SIGTERM");
        let status = old.wait_for_exit(Duration::from_secs(25)).await;
        assert_eq!(status.code(), Some(0));
        assert!(!stage.is_complete(&id).await, "turn {turn} came too late");
        old = new;
    }
    let found = stage.compare(Bounds::default()).await;
    found.all_sent();
    assert_eq!(stage.provider.count(), MESSAGES);
    // What the workers gave back was free at once: no lease had to run out.
    assert_eq!(figure(&stage.client, "ringback_leases_lost_total").await, 0);
    row.end(&found, "no lease ran out");
}

#[tokio::test]
async fn a_process_that_is_told_twice_stops_at_once_and_loses_nothing() {
    const MESSAGES: usize = 4_000;
    for on in [Kind::Redis, Kind::Embedded] {
        let mut row = Row::begin(20, "SIGTERM twice under load", on, "I1 I6");
        let mut scene = scene(on, |setup| setup).await;
        scene.provider.set(Mode::Delay(Duration::from_millis(40)));
        let id = scene.post(numbers(0..MESSAGES)).await;
        calls(&scene.provider, MESSAGES / 4).await;
        scene.ringback.terminate();
        eventually("the first signal's line", PATIENCE, async || {
            scene.ringback.log().contains("what is open is being finished").then_some(())
        })
        .await;
        scene.ringback.terminate();
        row.inject_times("SIGTERM", 2);
        scene.ringback.wait_for_exit(Duration::from_secs(5)).await;
        scene.provider.set(Mode::Accept);
        scene.ringback.restart().await;
        let found = compare(&scene, &[(id, MESSAGES as u64)], after(1)).await;
        found.all_sent();
        row.end(&found, "");
    }
}

#[tokio::test]
async fn five_processes_at_once_move_nothing_twice() {
    const BATCHES: usize = 40;
    const MESSAGES: usize = 250;
    // What a process may have open to one host when it dies.
    const REPORTS: u32 = 16;
    let mut row = Row::begin(21, "five reapers and notifiers", Kind::Redis, "I2 I3 I5 I6");
    let mut stage = Stage::set().await;
    let all = || {
        let setup = setup(&stage.redis, &stage.provider).set("worker.lease", "1s");
        setup.set("callbacks.timeout", "1s").set("callbacks.schedule", "100ms,1s,1h")
    };
    let mut processes: Vec<Ringback> = Vec::new();
    for _ in 0..5 {
        let in_flight = IN_FLIGHT.to_string();
        processes.push(all().set("providers.carrier.max_in_flight", &in_flight).start().await);
    }
    for _ in 0..BATCHES {
        stage.post(MESSAGES).await;
    }
    // Two of them leave leases behind, for which the others' reapers all run at once.
    for process in processes.drain(..2) {
        process.pause();
        row.inject("SIGSTOP");
        eventually("leases that ran out", PATIENCE, async || {
            let lost = figure(&stage.client, "ringback_leases_lost_total").await;
            (lost > 0 || stage.provider.count() >= BATCHES * MESSAGES).then_some(())
        })
        .await;
        drop(process);
        row.inject("SIGKILL");
    }
    let found = stage.compare(Bounds { reports: 2 * REPORTS, ..after(2) }).await;
    found.all_sent();
    row.end(&found, "");
}
