//! Redis that crashes, loses its last writes or all of them, and stands still.

use std::{fs::OpenOptions, time::Duration};

use rand::RngExt;
use serde_json::json;

use super::{Bounds, IN_FLIGHT, LONG, Row, Stage, after};
use crate::{
    harness::{Kind, PATIENCE, Ringback, eventually, memory_kib},
    scene::{batch, numbers, one_report, setup, with_callback},
};

#[tokio::test]
async fn redis_may_crash_under_load_and_nobody_needs_a_restart() {
    const MESSAGES: usize = 12_000;
    let mut row = Row::begin(4, "Redis killed and restarted", Kind::Redis, "I1–I6 I10");
    let mut stage = Stage::set().await;
    let _worker = stage.worker().set("worker.lease", "30s").start().await;
    let id = stage.post(MESSAGES).await;
    stage.calls(4_000).await;
    stage.redis.restart().await;
    row.inject("SIGKILL");
    assert!(!stage.is_complete(&id).await, "the first crash came too late");
    // The second time it stays away, for longer than anything is repeated on the quiet.
    stage.calls(8_000).await;
    stage.redis.kill();
    row.inject("SIGKILL");
    let refused = stage.client.post_batch(&batch(numbers(0..1))).await;
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("store_unavailable")));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(stage.client.get("/readyz").await.status, 503);
    stage.redis.restart().await;
    assert!(!stage.is_complete(&id).await, "the second crash came too late");
    let found = stage.compare(after(2)).await;
    found.all_sent();
    // What was refused was not kept.
    let known = stage.client.get("/v1/batches").await.json();
    assert_eq!(known["batches"].as_array().unwrap().len(), 1, "{known}");
    row.end(&found, "refused with 503 meanwhile");
}

#[tokio::test]
async fn a_power_loss_under_everysec_takes_the_last_writes_and_leaves_nothing_stuck() {
    const MESSAGES: usize = 6_000;
    let mut row = Row::begin(5, "tail of the AOF lost", Kind::Redis, "I2 I5 I10");
    let mut lots = row.lots();
    let mut stage = Stage::set().await;
    let _worker = stage.worker().start().await;
    // What was there long before is not in the tail.
    stage.post(500).await;
    stage.compare(Bounds::default()).await;
    let mut gone = 0;
    for round in 1..=3 {
        let before = std::fs::metadata(stage.redis.log_of_writes()).unwrap().len();
        let early = stage.accepted.len();
        stage.post(MESSAGES / 3).await;
        let called = stage.provider.count();
        stage.calls(called + lots.random_range(200..MESSAGES / 4)).await;
        stage.post(20).await;
        stage.redis.kill();
        let file = stage.redis.log_of_writes();
        let after = std::fs::metadata(&file).unwrap().len();
        // While the disk is slow Redis writes nothing for up to two seconds.
        let kept = lots.random_range(before..=after);
        OpenOptions::new().write(true).open(&file).unwrap().set_len(kept).unwrap();
        row.inject("SIGKILL and cut");
        stage.redis.restart().await;
        stage.redis.rewrite_log().await;
        // What is known after the restart must end; the rest was accepted in the tail.
        let mut known = Vec::new();
        for (nth, (id, total)) in std::mem::take(&mut stage.accepted).into_iter().enumerate() {
            let answer = eventually("an answer", PATIENCE, async || {
                let answer = stage.client.try_get(&format!("/v1/batches/{id}")).await?;
                (answer.status != 503).then_some(answer)
            })
            .await;
            // An upload without its seal is as good as gone: it is dropped seconds later.
            let is_there = answer.status == 200 && answer.json()["state"] != "receiving";
            match answer.status {
                200 if is_there => known.push((id, total)),
                200 | 404 if nth >= early => gone += 1,
                other => panic!("{id} of round {round}: {other}"),
            }
        }
        stage.accepted = known;
        for (id, _) in &stage.accepted {
            stage.client.wait_until_complete(id, LONG).await;
        }
    }
    let taken = stage.provider.taken_in();
    let repeats: u32 = taken.values().map(|times| times - 1).sum();
    let mut messages = 0;
    for (id, total) in &stage.accepted {
        let batch = eventually("the callback", PATIENCE, async || {
            let batch = stage.client.get(&format!("/v1/batches/{id}")).await.json();
            (batch["callback"]["state"] == "delivered").then_some(batch)
        })
        .await;
        assert_eq!(batch["counts"]["sent"], *total, "{batch}");
        for index in 0..*total {
            assert!(taken.contains_key(&format!("{id}.{index}")), "{id}.{index} is lost");
        }
        messages += total;
    }
    let mut found = super::Found { messages, repeats, ..super::Found::default() };
    found.batches = stage.accepted.len();
    found.deliveries = stage.receiver.deliveries().len();
    // What was recorded in the tail is sent again, and no more than was ever called.
    found.bounds.repeats = u32::try_from(stage.provider.count()).unwrap();
    row.end(&found, format!("{gone} batches accepted in the tail are gone"));
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_is_told_of_and_used_again() {
    let mut row = Row::begin(6, "Redis comes back empty", Kind::Redis, "I3 I10");
    let mut stage = Stage::set().await;
    let worker = stage.worker().start().await;
    let lost = stage.post(8_000).await;
    stage.calls(1_000).await;
    stage.redis.kill();
    stage.redis.forget_all();
    stage.redis.restart().await;
    row.inject("SIGKILL and empty directory");
    eventually("a line about the loss", PATIENCE, async || {
        worker.log().contains("the store came back empty").then_some(())
    })
    .await;
    // The worker has noticed that its chunks are gone before anything new comes.
    eventually("the end of what was in hand", PATIENCE, async || {
        worker.log().contains("lease lost").then_some(())
    })
    .await;
    assert_eq!(stage.client.get(&format!("/v1/batches/{lost}")).await.status, 404);
    let (messages, _) = stage.accepted.pop().unwrap();
    let ghosts = stage.provider.count();
    assert_eq!(messages, lost);
    for _ in 0..5 {
        stage.post(200).await;
    }
    for (id, _) in &stage.accepted {
        one_report(&stage.client, &stage.receiver, id, LONG).await;
    }
    let deliveries = stage.receiver.deliveries();
    assert_eq!(deliveries.len(), 5, "nothing reports what was lost");
    let calls = stage.provider.calls().split_off(ghosts);
    let late = calls.iter().filter(|call| call.message_id.starts_with(&lost)).count();
    assert!(late <= IN_FLIGHT as usize, "{late} calls for what was lost");
    // A process that starts now finds the store marked as its own.
    drop(setup(&stage.redis, &stage.provider).role("worker").start().await);
    row.end(&super::Found { messages: 1_000, ..super::Found::reports(5, 5) }, "one batch is gone");
}

#[tokio::test]
async fn while_redis_stands_still_clients_are_told_so_and_then_all_goes_on() {
    const MESSAGES: usize = 10_000;
    let mut row =
        Row::begin(10, "Redis stopped for 6 s", Kind::Redis, "I1 I6 I7 I10, memory, no busy loop");
    let mut stage = Stage::set().await;
    let worker = stage.worker().start().await;
    let id = stage.post(MESSAGES).await;
    stage.calls(3_000).await;
    let before_kib = memory_kib(worker.pid(), "VmRSS");
    stage.redis.pause();
    row.inject("SIGSTOP");
    let (lines_before, cpu_before) = (worker.log().lines().count(), cpu_ticks(&worker));
    let mut late = with_callback(batch(numbers(0..3)), &stage.receiver);
    late["reference"] = "late".into();
    let path = format!("/v1/batches/{id}");
    let client = stage.client.clone();
    let during = async {
        let ready = client.get("/readyz").await;
        assert_eq!((ready.status, &ready.json()["code"]), (503, &json!("not_ready")));
        assert_eq!(client.get("/healthz").await.status, 200);
        let read = client.get(&path).await;
        assert_eq!((read.status, &read.json()["code"]), (503, &json!("store_unavailable")));
        assert_eq!(read.header("retry-after"), "1");
    };
    let cpu = {
        let redis = &stage.redis;
        let posted = async {
            tokio::join!(tokio::time::sleep(Duration::from_secs(6)), during);
            let cpu = cpu_ticks(&worker) - cpu_before;
            redis.resume();
            cpu
        };
        let (first, cpu) = tokio::join!(client.post_batch_once("late", &late), posted);
        // Whatever it was told, its sender may repeat it until it is accepted, and it is sent once.
        assert!([202, 503].contains(&first.status), "{}", first.text);
        let repeated = eventually("an end of the first request", PATIENCE, async || {
            let answer = client.post_batch_once("late", &late).await;
            [200, 202].contains(&answer.status).then_some(answer)
        })
        .await;
        if first.status == 202 {
            assert_eq!(repeated.batch_id(), first.batch_id());
        }
        stage.accepted.push((repeated.batch_id(), 3));
        cpu
    };
    // The leases have run out meanwhile: what was in flight or not settled may be sent again.
    let found = stage.compare(after(1)).await;
    found.all_sent();
    let known = client.get("/v1/batches?reference=late").await.json();
    assert_eq!(known["batches"].as_array().unwrap().len(), 1, "{known}");
    let lines = worker.log().lines().count() - lines_before;
    let grown_kib = memory_kib(worker.pid(), "VmHWM").saturating_sub(before_kib);
    assert!(lines < 1_000, "a loop that is busy with nothing: {lines} lines in the log");
    // A tick is a hundredth of a second.
    assert!(cpu < 200, "a loop that is busy with nothing: {cpu} ticks of the processor");
    assert!(grown_kib < 16 * 1024, "{grown_kib} KiB more memory");
    row.end(
        &found,
        format!("{cpu}0 ms of processor and {lines} lines in 6 s, {grown_kib} KiB more"),
    );
}

/// How much of the processor a process has used, in ticks.
fn cpu_ticks(process: &Ringback) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid())).unwrap();
    // What follows the name, which is in brackets and may hold spaces.
    let after_name = stat.rsplit_once(") ").unwrap().1;
    let field = |nth: usize| after_name.split(' ').nth(nth).unwrap().parse::<u64>().unwrap();
    field(11) + field(12)
}
