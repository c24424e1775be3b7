//! `ringback audit`, run beside the server and without it.

use serde_json::{Value, json};

use crate::{
    harness::{
        Kind, PATIENCE, Ran, StoreUrl, command, eventually, on_each_store, run_to_end, variable,
    },
    scene::{Scene, numbers},
};

on_each_store! {
    a_batch_is_audited_beside_the_server
}

fn audit(scene: &Scene, arguments: &[&str]) -> Ran {
    let mut command = command();
    command.env(variable("store.url"), scene.store.store_url()).arg("audit").args(arguments);
    run_to_end(command)
}

async fn a_batch_is_audited_beside_the_server(on: Kind) {
    let scene = Scene::start_on(on).await;
    let first = scene.post(numbers(0..700)).await;
    scene.report(&first).await;
    let second = scene.post(numbers(0..3)).await;
    scene.report(&second).await;

    let all = audit(&scene, &[]);
    assert_eq!((all.code, all.out.as_str()), (0, ""), "{all:?}");
    assert_eq!(all.err.trim(), "2 batches: all in order");
    let one = audit(&scene, &[&first, "--json"]);
    let told: Value = serde_json::from_str(&one.out).expect("one object");
    assert_eq!((one.code, &told["findings"], &told["total"]), (0, &json!([]), &json!(700)));
    let nobody = audit(&scene, &["bat_01M850VKVVFR222NAP7FS08R00"]);
    assert_eq!(nobody.code, 1);
    assert!(nobody.out.contains("no such batch"), "{nobody:?}");
}

#[tokio::test]
async fn what_is_stuck_is_put_right_beside_the_server() {
    let mut scene = Scene::start().await;
    let id = scene.post(numbers(0..3)).await;
    scene.report(&id).await;
    let stopped = scene.client.post("/v1/providers/carrier/pause", &[], "").await;
    assert_eq!(stopped.status, 200, "{}", stopped.text);
    let stuck = scene.post(numbers(0..10)).await;
    // What nobody but a fault does: a batch that goes, and is in no ring; and a false count.
    let ulid = &stuck["bat_".len()..];
    let redis = scene.store.redis();
    assert!(redis.ask(&format!("ZREM rb:{{p00}}:ring:2:carrier:default {ulid}")).starts_with(":1"));
    redis.ask(&format!("HINCRBY rb:{{p00}}:b:{ulid} n1 2"));
    scene.client.post("/v1/providers/carrier/resume", &[], "").await;
    let found = audit(&scene, &[&stuck]);
    assert_eq!(found.code, 1, "{found:?}");
    assert!(found.out.contains("is in no ring"), "{found:?}");
    assert!(found.out.contains("sent is noted as"), "{found:?}");
    let repaired = audit(&scene, &[&stuck, "--repair"]);
    assert_eq!(repaired.code, 0, "{repaired:?}");
    assert!(repaired.out.ends_with(": repaired\n"), "{repaired:?}");
    eventually("the end", PATIENCE, async || {
        let shown = scene.client.get(&format!("/v1/batches/{stuck}")).await.json();
        shown["completed_at"].is_string().then_some(())
    })
    .await;
    assert_eq!(scene.report(&stuck).await["counts"]["sent"], 10);
}
