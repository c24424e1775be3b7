//! Receipts from end to end: what carriers say later ends messages and batches, and what is forged, said
//! again, early, late or nonsense does no harm.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use ringback::clock::Clock;
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::{
    harness::{Answer, Client, Kind, Mode, PATIENCE, eventually, memory_kib, on_each_store},
    scene::{Scene, accepted, batch, counts, messages, number, numbers, shown, shown_when, these},
};

on_each_store! {
    receipts_end_messages_and_their_batch
    the_mock_says_its_own_receipts
    what_is_not_the_providers_is_refused
    ten_thousand_receipts_in_any_order_count_once_each
    a_receipt_before_the_answer_takes_no_slot_for_good
    late_receipts_are_kept_and_told_of
    an_answer_that_says_stop_is_heeded
}

/// What the provider signs its receipts with.
const RECEIPT_SECRET: &str = "whsec_cmVjZWlwdHMtb2YtdGhlLWNhcnJpZXItMDEyMzQ1Njc=";

/// A service whose provider reports receipts, which are waited for this long.
async fn scene(on: Kind, timeout: &str) -> Scene {
    Scene::start_on_with(on, |setup| {
        setup
            .set("providers.carrier.receipts", "true")
            .set("providers.carrier.receipt_secret", RECEIPT_SECRET)
            .set("providers.carrier.receipt_timeout", timeout)
    })
    .await
}

fn now_s() -> i64 {
    (Clock::system().now().0 / 1_000).cast_signed()
}

/// Reports receipts as the provider does, as of this second.
async fn report_at(client: &Client, timestamp: i64, secret: &str, body: &str) -> Answer {
    report_to(client, "/v1/receipts/carrier", timestamp, secret, body).await
}

async fn report_to(
    client: &Client,
    path: &str,
    timestamp: i64,
    secret: &str,
    body: &str,
) -> Answer {
    let signature =
        Webhook::new(secret).unwrap().sign("rcp_1", timestamp, body.as_bytes()).unwrap();
    let headers = [
        ("webhook-id", "rcp_1"),
        ("webhook-timestamp", &timestamp.to_string()),
        ("webhook-signature", &signature),
    ];
    client.post(path, &headers, body.to_owned()).await
}

async fn report(client: &Client, receipts: &Value) -> Value {
    let answer = report_at(client, now_s(), RECEIPT_SECRET, &receipts.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let mut tally = answer.json();
    tally.as_object_mut().unwrap().retain(|_, number| *number != 0);
    tally
}

fn receipt(id: &str, index: usize, state: &str) -> Value {
    json!({"message_id": format!("{id}.{index}"), "state": state})
}

/// Waits until nothing of a batch is left to be submitted.
async fn handed_over(client: &Client, id: &str) -> Value {
    shown_when(client, id, "its dispatch", |batch| {
        batch["counts"]["queued"] == 0 && batch["counts"]["sending"] == 0
    })
    .await
}

async fn receipts_end_messages_and_their_batch(on: Kind) {
    let scene = scene(on, "1h").await;
    let mut wanted = scene.batch(numbers(0..3));
    wanted["events"] = json!(["batch.dispatched", "message.failed"]);
    let id = accepted(&scene.client, &wanted).await;
    let batch = handed_over(&scene.client, &id).await;
    assert_eq!((counts(&batch), &batch["state"]), (these([("sent", 3)]), &json!("running")));
    let deliveries = scene.receiver.wait_for(1, PATIENCE).await;
    assert_eq!(deliveries[0].json()["type"], "batch.dispatched");
    let receipts = json!([
        receipt(&id, 0, "delivered"),
        receipt(&id, 2, "sent"),
        {"message_id": format!("{id}.1"), "state": "undelivered", "at": "2026-11-28T00:00:00Z",
         "error": {"code": "unreachable", "detail": "no handset", "provider_code": "30003"}},
    ]);
    assert_eq!(report(&scene.client, &receipts).await, json!({"counted": 2, "passing": 1}));
    assert_eq!(
        counts(&shown(&scene.client, &id).await),
        these([("sent", 1), ("delivered", 1), ("undelivered", 1)])
    );
    let told = scene.receiver.wait_for(2, PATIENCE).await[1].json();
    assert_eq!(told["data"]["message"]["state"], "undelivered");
    assert_eq!(told["data"]["message"]["error"]["code"], "unreachable");
    let last = json!([receipt(&id, 2, "delivered")]);
    assert_eq!(report(&scene.client, &last).await, json!({"counted": 1}));
    let batch = scene.report(&id).await;
    assert_eq!(counts(&batch), these([("delivered", 2), ("undelivered", 1)]));
    let undelivered = messages(&scene.client, &id).await.remove(1);
    assert_eq!(undelivered["error"]["provider_code"], "30003");
    assert!(undelivered["provider_message_id"].is_string() && undelivered["attempts"] == 1);
    let metrics = scene.client.get("/metrics").await.text;
    let line = r#"ringback_process_receipts_total{provider="carrier",result="counted"} 3"#;
    assert!(metrics.lines().any(|found| found == line), "{metrics}");
}

async fn the_mock_says_its_own_receipts(on: Kind) {
    let scene = Scene::start_on_with(on, |setup| setup.set("providers.mock.kind", "mock")).await;
    let mut wanted = scene.batch(json!(["+15005550005", "+15005550006", number(0)]));
    wanted["provider"] = json!("mock");
    let id = accepted(&scene.client, &wanted).await;
    let batch = scene.report(&id).await;
    let expected = these([("sent", 1), ("delivered", 1), ("undelivered", 1)]);
    assert_eq!(counts(&batch), expected);
    assert_eq!(messages(&scene.client, &id).await[1]["error"]["code"], "undelivered");
}

async fn what_is_not_the_providers_is_refused(on: Kind) {
    let scene = scene(on, "1h").await;
    let client = &scene.client;
    let id = accepted(client, &batch(numbers(0..1))).await;
    handed_over(client, &id).await;
    let body = json!([receipt(&id, 0, "delivered")]).to_string();
    let refused = async |timestamp, secret, body: &str, status, code| {
        let answer = report_at(client, timestamp, secret, body).await;
        assert_eq!((answer.status, &answer.json()["code"]), (status, &json!(code)), "{body}");
    };
    let other = "whsec_c29tZWJvZHktZWxzZS1hbHRvZ2V0aGVyLTAxMjM0NTY3";
    refused(now_s(), other, &body, 401, "invalid_signature").await;
    refused(now_s() - 400, RECEIPT_SECRET, &body, 401, "invalid_signature").await;
    refused(now_s() + 400, RECEIPT_SECRET, &body, 401, "invalid_signature").await;
    let unsigned = client.post("/v1/receipts/carrier", &[], body.clone()).await;
    assert_eq!((unsigned.status, &unsigned.json()["code"]), (401, &json!("invalid_signature")));
    for provider in ["nobody", "mock"] {
        let answer = client.post(&format!("/v1/receipts/{provider}"), &[], body.clone()).await;
        assert_eq!(answer.status, 404, "{provider}");
    }
    let instant = json!([{"message_id": format!("{id}.0"), "state": "delivered", "at": "soon"}]);
    for malformed in [
        "",
        "{}",
        "[1]",
        r#"[{"message_id": "x", "state": "delivered"}]"#,
        &json!([receipt(&id, 0, "eaten")]).to_string(),
        &instant.to_string(),
    ] {
        refused(now_s(), RECEIPT_SECRET, malformed, 422, "invalid_request").await;
    }
    assert_eq!(counts(&shown(client, &id).await), these([("sent", 1)]));
    let metrics = client.get("/metrics").await.text;
    for (result, number) in [("forged", 4), ("malformed", 6)] {
        let line = format!(
            r#"ringback_process_receipts_total{{provider="carrier",result="{result}"}} {number}"#
        );
        assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
    }
    // A replay of a true one changes nothing, and what nobody sent is only counted.
    let strange = json!([receipt(&id, 7, "delivered"), receipt(&id, 0, "delivered")]);
    assert_eq!(report(client, &strange).await, json!({"counted": 1, "unknown": 1}));
    assert_eq!(report(client, &strange).await, json!({"repeated": 1, "unknown": 1}));
    let contrary = json!([receipt(&id, 0, "undelivered")]);
    assert_eq!(report(client, &contrary).await, json!({"contrary": 1}));
    assert_eq!(counts(&shown(client, &id).await), these([("delivered", 1)]));
}

/// A batch that is over by its receipts has a submission under way still: what comes of that frees its slot.
async fn a_receipt_before_the_answer_takes_no_slot_for_good(on: Kind) {
    const IN_FLIGHT: usize = 4;
    const TIMEOUT: Duration = Duration::from_secs(1);
    let scene = Scene::start_on_with(on, |setup| {
        setup
            .set("providers.carrier.receipts", "true")
            .set("providers.carrier.receipt_secret", RECEIPT_SECRET)
            .set("providers.carrier.receipt_timeout", "1h")
            .set("providers.carrier.max_in_flight", &IN_FLIGHT.to_string())
            // The second message leaves after the first one's receipt, and before its time-out.
            .set("providers.carrier.rate", "20/s")
            .set("providers.carrier.timeout", "1s")
    })
    .await;
    let client = &scene.client;
    scene.provider.set(Mode::HangOn("wait"));
    let post = async |texts: &[&str]| {
        let one = |(nth, text)| json!({"to": number(nth), "variables": {"text": text}});
        let list: Vec<_> = texts.iter().enumerate().map(one).collect();
        let mut wanted = scene.batch(list);
        wanted["body"] = "{{text}}".into();
        accepted(client, &wanted).await
    };
    let calls = async |id: &str, number: usize| {
        eventually("submissions", PATIENCE, async || (scene.calls_of(id) >= number).then_some(()))
            .await;
    };
    // Outcomes that are not recorded yet may take as many slots again.
    for round in 0..2 * IN_FLIGHT {
        let id = post(&["wait", "go"]).await;
        calls(&id, 1).await;
        let early = json!([receipt(&id, 0, "delivered")]);
        assert_eq!(report(client, &early).await, json!({"early": 1}), "round {round}");
        calls(&id, 2).await;
        handed_over(client, &id).await;
        report(client, &json!([receipt(&id, 1, "delivered")])).await;
        let batch = client.wait_until_complete(&id, PATIENCE).await;
        assert_eq!(counts(&batch), these([("delivered", 2)]));
    }
    tokio::time::sleep(TIMEOUT).await;
    // All slots are free: so many leave before the first of them is given up.
    let id = post(&["wait"; IN_FLIGHT]).await;
    calls(&id, IN_FLIGHT).await;
    let all = scene.provider.calls();
    let at = all.iter().filter(|call| call.message_id.starts_with(&id)).map(|call| call.at);
    let (first, last) = (at.clone().min().unwrap(), at.clone().max().unwrap());
    assert!(last - first < TIMEOUT, "{:?} between the first and the last", last - first);
}

/// 5 % come before our own record of the answer, 10 % twice, 2 % never.
async fn ten_thousand_receipts_in_any_order_count_once_each(on: Kind) {
    const MESSAGES: usize = 10_000;
    const EARLY: usize = 500;
    const NEVER: usize = 200;
    const TIMEOUT: Duration = Duration::from_secs(3);
    let scene = Scene::start_on_with(on, |setup| {
        setup
            .set("providers.carrier.receipts", "true")
            .set("providers.carrier.receipt_secret", RECEIPT_SECRET)
            .set("providers.carrier.receipt_timeout", "3s")
            .set("providers.carrier.max_in_flight", &EARLY.to_string())
            .set("providers.carrier.timeout", "20s")
    })
    .await;
    let client = &scene.client;
    scene.provider.set(Mode::Hang);
    let id = accepted(client, &scene.batch(numbers(0..MESSAGES))).await;
    // Their answers never come; their receipts do, and so they are not tried again.
    let calls = eventually("the first submissions", PATIENCE, async || {
        Some(scene.provider.calls()).filter(|calls| calls.len() >= EARLY)
    })
    .await;
    let early: Vec<usize> = calls
        .iter()
        .map(|call| call.message_id.rsplit_once('.').unwrap().1.parse().unwrap())
        .collect();
    assert_eq!(early.len(), EARLY);
    let said = early.iter().map(|index| receipt(&id, *index, "delivered")).collect::<Vec<_>>();
    assert_eq!(report(client, &json!(said)).await, json!({"early": EARLY}));
    scene.provider.set(Mode::Accept);
    shown_when(client, &id, "the dispatch of the rest", |batch| {
        batch["counts"]["queued"] == 0 && batch["counts"]["sending"] == 0
    })
    .await;
    let handed = Instant::now();
    // All others in any order, some twice, a hundred a call.
    let mut lots = StdRng::seed_from_u64(7);
    let mut rest: Vec<_> = (0..MESSAGES).filter(|index| !early.contains(index)).collect();
    rest.shuffle(&mut lots);
    rest.truncate(MESSAGES - EARLY - NEVER);
    let twice = rest[..MESSAGES / 10].to_vec();
    let mut all = [rest.clone(), twice].concat();
    all.shuffle(&mut lots);
    let state = |index: usize| if index.is_multiple_of(9) { "undelivered" } else { "delivered" };
    let tallies: Vec<_> = stream::iter(all.chunks(100))
        .map(|some| {
            let said: Vec<_> =
                some.iter().map(|index| receipt(&id, *index, state(*index))).collect();
            async move { report(client, &json!(said)).await }
        })
        .buffer_unordered(8)
        .collect()
        .await;
    let sum = |word: &str| tallies.iter().filter_map(|tally| tally[word].as_u64()).sum::<u64>();
    let (counted, repeated) = (sum("counted"), sum("repeated"));
    assert_eq!((counted, repeated), (rest.len() as u64, MESSAGES as u64 / 10));
    assert!(shown(client, &id).await["completed_at"].is_null());
    let batch = scene.report(&id).await;
    assert!(handed.elapsed() + Duration::from_millis(500) >= TIMEOUT, "{:?}", handed.elapsed());
    let undelivered = rest.iter().filter(|index| index.is_multiple_of(9)).count() as u64;
    let delivered = (MESSAGES - NEVER) as u64 - undelivered;
    let expected = [("sent", NEVER as u64), ("delivered", delivered), ("undelivered", undelivered)];
    assert_eq!(counts(&batch), these(expected));
    // Each was submitted once: a receipt stands for the answer that never came.
    assert_eq!(scene.provider.count(), MESSAGES);
    let rss = memory_kib(scene.ringback.pid(), "VmHWM");
    eprintln!(
        "{on:?}: {counted} counted, {repeated} repeated, {EARLY} early, {NEVER} never; at most {rss} KiB"
    );
}

async fn late_receipts_are_kept_and_told_of(on: Kind) {
    let scene = scene(on, "1s").await;
    let mut wanted = scene.batch(numbers(0..2));
    wanted["events"] = json!(["batch.amended"]);
    let id = accepted(&scene.client, &wanted).await;
    let batch = scene.report(&id).await;
    assert_eq!(counts(&batch), these([("sent", 2)]));
    let late = json!([receipt(&id, 0, "delivered"), receipt(&id, 1, "failed")]);
    assert_eq!(report(&scene.client, &late).await, json!({"late": 2}));
    let deliveries = scene.receiver.wait_for(2, PATIENCE).await;
    let amended = deliveries[1].json();
    deliveries[1].verify(crate::scene::SECRET);
    assert_eq!(amended["type"], "batch.amended");
    let told = json!({"revision": 1, "delivered": 1, "undelivered": 1});
    assert_eq!(amended["data"]["late_receipts"], told);
    assert_eq!(amended["data"]["counts"]["sent"], 2);
    let found = messages(&scene.client, &id).await;
    let states: Vec<_> =
        found.iter().map(|one| (&one["state"], &one["late_receipt"]["state"])).collect();
    let (sent, delivered, undelivered) = (json!("sent"), json!("delivered"), json!("undelivered"));
    assert_eq!(states, [(&sent, &delivered), (&sent, &undelivered)]);
    assert_eq!(shown(&scene.client, &id).await["counts"], batch["counts"]);
}

async fn an_answer_that_says_stop_is_heeded(on: Kind) {
    let scene = scene(on, "1h").await;
    let client = &scene.client;
    let path = "/v1/inbound/carrier";
    let said =
        |text: &str| json!({"from": number(0), "to": "+15550001111", "body": text}).to_string();
    let is_listed = async || client.get(&format!("/v1/suppressions/{}", number(0))).await.status;
    for (secret, text, status, listed) in [
        (crate::scene::SECRET, "Stop", 401, 404),
        (RECEIPT_SECRET, "please stop", 204, 404),
        (RECEIPT_SECRET, " Stop\n", 204, 200),
        (RECEIPT_SECRET, "thanks", 204, 200),
        (RECEIPT_SECRET, "start", 204, 404),
        (RECEIPT_SECRET, "QUIT", 204, 200),
    ] {
        let answer = report_to(client, path, now_s(), secret, &said(text)).await;
        assert_eq!((answer.status, is_listed().await), (status, listed), "{text}");
    }
    let id = accepted(client, &batch(numbers(0..2))).await;
    handed_over(client, &id).await;
    assert_eq!(messages(client, &id).await[0]["error"]["code"], "opted_out");
    assert_eq!(scene.provider.count(), 1);
}
