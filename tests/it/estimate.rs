//! What a batch would come to: the same in every form, and nothing of it is kept.

use serde_json::{Value, json};

use crate::{
    harness::{Answer, Client, Kind, PATIENCE, key_hash, memory_kib, on_each_store},
    scene::{Scene, accepted, batch, number, numbers, shown_when, wish},
};

on_each_store! {
    an_estimate_tells_what_the_batch_comes_to
    the_end_follows_from_the_queue_and_the_rate
}

/// Two that are sent, one of them in UCS-2; one without a number, one without a name, one twice.
fn sample() -> Value {
    json!({
        "body": "Hi {{name}}, {{text}}",
        "variables": {"text": "x".repeat(152)},
        "recipients": [
            {"to": number(0), "variables": {"name": "Ann"}},
            {"to": number(1), "variables": {"name": "Zoë", "text": ""}},
            {"to": "nobody", "variables": {"name": "Ann"}},
            number(1),
            {"to": number(0), "variables": {"name": "Annabel"}},
        ],
    })
}

/// The sample as lines.
fn lines(document: &Value) -> String {
    let mut head = document.clone();
    let recipients = head.as_object_mut().unwrap().remove("recipients").unwrap();
    let recipients = recipients.as_array().unwrap().iter();
    let all = std::iter::once(&head).chain(recipients);
    all.fold(String::new(), |lines, line| lines + &line.to_string() + "\n")
}

async fn estimated(client: &Client, document: &Value) -> Value {
    let answer = client.post("/v1/estimate", &[], document.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

async fn post_lines(client: &Client, body: impl Into<reqwest::Body>) -> Answer {
    client.post("/v1/estimate", &[("content-type", "application/x-ndjson")], body).await
}

/// An instant that was told, in milliseconds.
fn ms(at: &Value) -> i64 {
    at.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

async fn an_estimate_tells_what_the_batch_comes_to(on: Kind) {
    let scene = Scene::start_on_with(on, |setup| {
        setup.set("providers.carrier.price_per_segment", "0.0079 USD")
    })
    .await;
    let estimate = estimated(&scene.client, &sample()).await;
    let expected = json!({
        "provider": "carrier",
        "messages": 5,
        "segments": 4,
        "encodings": {"gsm7": 2, "ucs2": 1},
        "invalid_recipients": {"count": 1, "indexes": [2]},
        "opted_out_recipients": {"count": 0, "indexes": []},
        "duplicate_recipients": 2,
        "missing_variables": {"count": 1, "indexes": [3]},
        "too_long": {"count": 0, "indexes": []},
        "too_many_segments": {"count": 0, "indexes": []},
        "finish_at": null,
        "cost": {"amount": "0.0316", "currency": "USD"},
    });
    assert_eq!(estimate, expected);
    let answer = post_lines(&scene.client, lines(&sample())).await;
    assert_eq!((answer.status, answer.json()), (200, expected), "{}", answer.text);
    let mut skipping = sample();
    skipping["duplicates"] = "skip".into();
    let skipped = estimated(&scene.client, &skipping).await;
    assert_eq!([&skipped["messages"], &skipped["segments"]], [3, 2]);
    assert_eq!(skipped["duplicate_recipients"], 2);
    assert_eq!(post_lines(&scene.client, lines(&skipping)).await.json(), skipped);
    assert_eq!(scene.client.get("/v1/batches").await.json()["batches"], json!([]));
    // The estimate tells what then happens.
    let id = accepted(&scene.client, &sample()).await;
    let complete = scene.client.wait_until_complete(&id, PATIENCE).await;
    assert_eq!([&complete["counts"]["sent"], &complete["counts"]["failed"]], [3, 2]);
}

async fn the_end_follows_from_the_queue_and_the_rate(on: Kind) {
    let scene =
        Scene::start_on_with(on, |setup| setup.set("providers.carrier.rate", "600/h")).await;
    let client = &scene.client;
    // Six seconds a message; the batch that waits for the provider stands still.
    let id = accepted(client, &batch(numbers(0..100))).await;
    wish(client, &id, "pause").await;
    let paused = shown_when(client, &id, "a pause", |batch| batch["state"] == "paused").await;
    let estimate = estimated(client, &batch(numbers(0..50))).await;
    let ahead_ms = ms(&estimate["finish_at"]) - ms(&paused["created_at"]);
    // A few may have gone before the pause, and the test may have been slow.
    assert!((850_000..1_000_000).contains(&ahead_ms), "{ahead_ms}");
    assert_eq!((&estimate["cost"], &estimate["segments"]), (&Value::Null, &json!(50)));
    let path = "/v1/providers/carrier/pause";
    assert_eq!(client.post(path, &[], "").await.status, 200);
    assert_eq!(estimated(client, &batch(numbers(0..50))).await["finish_at"], Value::Null);
}

#[tokio::test]
async fn what_a_batch_is_refused_for_an_estimate_is_too_but_for_invalid_recipients() {
    let scene = Scene::start_on(Kind::Embedded).await;
    let client = &scene.client;
    for (broken, status, code) in [
        ("{", 400, "invalid_json"),
        ("{\"body\": \"Hi\"}", 422, "invalid_request"),
        ("{\"body\": \"Hi {{\", \"recipients\": []}", 422, "template_invalid"),
        (
            "{\"body\": \"Hi\", \"recipients\": [], \"provider\": \"nobody\"}",
            422,
            "unknown_provider",
        ),
    ] {
        let answer = client.post("/v1/estimate", &[], broken).await;
        assert_eq!((answer.status, &answer.json()["code"]), (status, &json!(code)), "{broken}");
    }
    let answer = post_lines(client, "{\"body\": \"Hi\"}\n[]\n").await;
    assert_eq!((answer.status, &answer.json()["errors"][0]["pointer"]), (422, &json!("/2")));
    let mut rejecting = sample();
    rejecting["on_invalid"] = "reject_batch".into();
    assert_eq!(client.post_batch(&rejecting).await.status, 422);
    assert_eq!(estimated(client, &rejecting).await["invalid_recipients"]["count"], 1);
    let lines = post_lines(client, lines(&rejecting)).await;
    assert_eq!(lines.json()["invalid_recipients"], json!({"count": 1, "indexes": [2]}));
    let nobody = estimated(client, &batch(json!([]))).await;
    assert_eq!([&nobody["messages"], &nobody["segments"]], [0, 0]);
}

#[tokio::test]
async fn a_table_is_estimated_as_it_would_be_sent() {
    let scene = Scene::start_on(Kind::Embedded).await;
    let table = "to,name\r\n+15551230001,Ann\r\n+15551230002,Zoë\r\nnobody,Ann\r\n";
    let path = "/v1/estimate?settings=%7B%22body%22%3A%22Hi%20%7B%7Bname%7D%7D%22%7D";
    let estimate = scene.client.post(path, &[("content-type", "text/csv")], table).await;
    assert_eq!(estimate.status, 200, "{}", estimate.text);
    let estimate = estimate.json();
    assert_eq!(estimate["encodings"], json!({"gsm7": 1, "ucs2": 1}));
    assert_eq!(estimate["invalid_recipients"], json!({"count": 1, "indexes": [2]}));
    let part = |name, body| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{body}\r\n")
    };
    let form = part("settings", r#"{"body": "Hi {{name}}"}"#) + &part("list", table) + "--b--\r\n";
    let headers = [("content-type", "multipart/form-data; boundary=b")];
    let answer = scene.client.post("/v1/estimate", &headers, form).await;
    assert_eq!((answer.status, answer.json()), (200, estimate), "{}", answer.text);
}

#[tokio::test]
async fn a_key_that_only_reads_may_estimate() {
    let scene = Scene::start_on_with(Kind::Embedded, |setup| {
        let (reads, submits) = (key_hash("rbk_reads"), key_hash("rbk_submits"));
        setup.file(&format!(
            "[accounts.acme]\nkeys = [{{ name = \"a\", hash = \"{reads}\", scopes = [\"read\"] }}, \
             {{ name = \"b\", hash = \"{submits}\", scopes = [\"submit\"] }}]\n"
        ))
    })
    .await;
    let body = sample().to_string();
    for (key, status) in [("rbk_reads", 200), ("rbk_submits", 403), ("rbk_nobody", 401)] {
        let answer = scene.client.with_key(key).post("/v1/estimate", &[], body.clone()).await;
        assert_eq!(answer.status, status, "{key}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_million_lines_are_estimated_in_the_memory_of_few() {
    let scene = Scene::start_on(Kind::Embedded).await;
    let line = |index: usize| format!("\"{}\"\n", number(index % 900_000));
    let few = "{\"body\": \"Hi\"}\n".to_owned() + &(0..100_000).map(line).collect::<String>();
    assert_eq!(post_lines(&scene.client, few).await.status, 200);
    let before_kib = memory_kib(scene.ringback.pid(), "VmHWM");
    let pieces = (0..1_000).map(move |piece| {
        let lines = (piece * 1_000..(piece + 1) * 1_000).map(line).collect::<String>();
        Ok::<_, std::io::Error>(if piece == 0 {
            "{\"body\": \"Hi\"}\n".to_owned() + &lines
        } else {
            lines
        })
    });
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    let estimate = post_lines(&scene.client, body).await.json();
    assert_eq!([&estimate["messages"], &estimate["segments"]], [1_000_000, 1_000_000]);
    assert_eq!(estimate["duplicate_recipients"], 100_000);
    let grown_kib = memory_kib(scene.ringback.pid(), "VmHWM").saturating_sub(before_kib);
    assert!(grown_kib < 64 * 1024, "{grown_kib} KiB for 20 MB of lines");
}
