//! Rows 7, 8 and 22: no room, on the disk or in memory. What can't be kept is refused with 503, what was
//! accepted goes on as far as it can, and all heals when there is room again.
//!
//! A disk that is full is played by a limit on the size of the process's files, which takes no
//! rights: a write then fails with EFBIG in place of ENOSPC.

use std::{process::Command, time::Duration};

use serde_json::{Value, json};

use super::{Bounds, LONG, Row, Stage, after, calls, compare, scene};
use crate::{
    harness::{
        Answer, Client, Kind, Mode, PATIENCE, Provider, Redis, Ringback, eventually, limit,
        memory_kib,
    },
    scene::{accepted, batch, counts, number, numbers, setup, shown, these, with_callback},
};

/// A batch that takes some room: half a kilobyte a message.
fn large(messages: usize) -> Value {
    let filling = "x".repeat(480);
    let to = |index| json!({"to": number(index), "variables": {"x": filling}});
    batch((0..messages).map(to).collect::<Vec<_>>())
}

/// Posts batches until one is refused for want of room; gives what was accepted, and the refusal.
async fn fill(client: &Client, batch: &Value) -> (Vec<(String, u64)>, Answer) {
    let mut accepted = Vec::new();
    for nth in 0..200 {
        let answer = client.post_batch_once(&format!("fill-{nth}"), batch).await;
        match answer.status {
            202 => accepted.push((answer.batch_id(), 1_000)),
            503 => return (accepted, answer),
            other => panic!("{other}: {}", answer.text),
        }
    }
    panic!("there is always room");
}

/// The shell gives a server a limit of its files, and has it survive the signal that goes with it.
fn limited(command: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    // In blocks of 512 bytes: 4 MiB.
    let script = format!("trap '' XFSZ; ulimit -S -f 8192; exec {command} \"$@\"");
    shell.args(["-c", &script, "sh"]);
    shell
}

#[tokio::test]
async fn a_redis_whose_disk_is_full_takes_no_more_and_goes_on_when_there_is_room() {
    let mut row = Row::begin(7, "disk full", Kind::Redis, "I1 I5 I6 I7 I10");
    let mut stage = Stage::on(Redis::start_by(limited("redis-server"), &[]).await).await;
    stage.provider.set(Mode::Accept);
    let _worker = stage.worker().start().await;
    let batch = with_callback(large(1_000), &stage.receiver);
    let (accepted, refusal) = fill(&stage.client, &batch).await;
    row.inject("write that fails");
    assert_eq!(refusal.json()["code"], "store_full", "{}", refusal.text);
    let again = stage.client.post_batch(&batch).await;
    assert_eq!(again.status, 503, "{}", again.text);
    stage.accepted = accepted;
    limit("--fsize=unlimited", stage.redis.pid());
    let (client, key) = (&stage.client, format!("fill-{}", stage.accepted.len()));
    let late = eventually("room", PATIENCE, async || {
        let answer = client.post_batch_once(&key, &batch).await;
        [200, 202].contains(&answer.status).then_some(answer)
    })
    .await;
    stage.accepted.push((late.batch_id(), 1_000));
    // While nothing can be written no lease can be extended.
    let found = stage.compare(after(1)).await;
    found.all_sent();
    row.end(&found, "503 store_full meanwhile");
}

#[tokio::test]
async fn an_embedded_store_whose_disk_is_full_takes_no_more_and_goes_on_when_there_is_room() {
    let mut row = Row::begin(7, "disk full", Kind::Embedded, "I1 I5 I6 I7 I10");
    let scene = scene(Kind::Embedded, |setup| setup.by(limited)).await;
    scene.provider.set(Mode::Accept);
    let batch = with_callback(large(1_000), &scene.receiver);
    let (mut accepted, refusal) = fill(&scene.client, &batch).await;
    row.inject("write that fails");
    let code = refusal.json()["code"].as_str().unwrap().to_owned();
    limit("--fsize=unlimited", scene.ringback.pid());
    let key = format!("fill-{}", accepted.len());
    let late = eventually("room", PATIENCE, async || {
        let answer = scene.client.post_batch_once(&key, &batch).await;
        [200, 202].contains(&answer.status).then_some(answer)
    })
    .await;
    accepted.push((late.batch_id(), 1_000));
    let found = compare(&scene, &accepted, after(1)).await;
    found.all_sent();
    row.end(&found, format!("503 {code} meanwhile"));
}

/// What the embedded store works with comes from the system; what Rust works with was taken from it at the start.
#[tokio::test]
async fn an_embedded_store_that_gets_no_memory_takes_no_more_and_loses_nothing() {
    let mut row = Row::begin(22, "memory exhausted", Kind::Embedded, "I1 I5 I6 I7; no panic");
    let mut scene = scene(Kind::Embedded, |setup| setup).await;
    scene.provider.set(Mode::Accept);
    let batch = with_callback(large(1_000), &scene.receiver);
    let used = memory_kib(scene.ringback.pid(), "VmData") * 1_024;
    limit(&format!("--data={used}:"), scene.ringback.pid());
    let (mut accepted, refusal) = fill(&scene.client, &batch).await;
    row.inject("allocation that fails");
    assert_eq!(refusal.json()["code"], "store_unavailable", "{}", refusal.text);
    assert_eq!(scene.client.get("/healthz").await.status, 200);
    // A new process has its old limit.
    scene.ringback.restart().await;
    row.inject("SIGKILL");
    let key = format!("fill-{}", accepted.len());
    let late = scene.client.post_batch_once(&key, &batch).await;
    assert_eq!(late.status, 202, "{}", late.text);
    accepted.push((late.batch_id(), 1_000));
    let found = compare(&scene, &accepted, after(1)).await;
    found.all_sent();
    let log = scene.ringback.log();
    assert!(log.contains("out of memory") && !log.contains("panicked"), "{log}");
    row.end(&found, "503 store_unavailable meanwhile");
}

#[tokio::test]
async fn a_redis_without_memory_takes_no_more_and_finishes_what_it_has() {
    let mut row = Row::begin(8, "memory full, evicting policy", Kind::Redis, "I1 I5 I7");
    let mut stage = Stage::set().await;
    let batch = with_callback(large(1_000), &stage.receiver);
    let used = stage.redis.ask("INFO memory");
    let used = used.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
    let most = used.trim().parse::<u64>().unwrap() + (4 << 20);
    stage.redis.ask(&format!("CONFIG SET maxmemory {most}"));
    let (accepted, refusal) = fill(&stage.client, &batch).await;
    row.inject("OOM");
    assert_eq!(refusal.json()["code"], "store_full", "{}", refusal.text);
    stage.accepted = accepted;
    // What was refused is not there, not even in part.
    let known = stage.client.get("/v1/batches").await.json();
    assert_eq!(known["batches"].as_array().unwrap().len(), stage.accepted.len());
    // What was accepted is sent and reported while memory is still full.
    let _worker = stage.worker().start().await;
    let found = stage.compare(Bounds::default()).await;
    found.all_sent();
    let key = format!("fill-{}", stage.accepted.len());
    stage.redis.ask("CONFIG SET maxmemory 0");
    let late = stage.client.post_batch_once(&key, &batch).await;
    assert_eq!(late.status, 202, "{}", late.text);
    stage.accepted.push((late.batch_id(), 1_000));
    let found = stage.compare(Bounds::default()).await;
    found.all_sent();
    stage.redis.ask("CONFIG SET maxmemory-policy allkeys-lru");
    row.inject("evicting policy");
    let mut refused: Ringback = setup(&stage.redis, &stage.provider).role("worker").spawn();
    assert_eq!(refused.wait_for_exit(PATIENCE).await.code(), Some(1));
    assert!(refused.log().contains("maxmemory-policy"), "{}", refused.log());
    row.end(&found, "503 store_full meanwhile; no start with an evicting policy");
}

#[tokio::test]
async fn a_process_that_starts_while_redis_is_full_helps_to_finish() {
    let (redis, provider) = (Redis::start().await, Provider::start());
    // Nobody has set a signing secret: the one that was made at the first start is asked for, too.
    let process = || Ringback::on(&redis).carrier(&provider.url()).set("worker.lease", "2s");
    let mut first = process().start().await;
    provider.set(Mode::Delay(Duration::from_millis(500)));
    let id = accepted(&first.client(), &batch(numbers(0..50))).await;
    calls(&provider, 1).await;
    first.kill();
    redis.ask("CONFIG SET maxmemory 1");
    let second = process().start().await;
    second.client().wait_until_complete(&id, LONG).await;
    assert_eq!(counts(&shown(&second.client(), &id).await), these([("sent", 50)]));
}
