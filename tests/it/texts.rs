//! What messages come to on the air: segments and encodings, as each call shows them.

use std::time::Duration;

use ringback::clock::Clock;
use serde_json::{Value, json};

use crate::{
    harness::{Kind, PATIENCE, on_each_store},
    scene::{Scene, accepted, batch, counts, messages, number, numbers, shown, these},
};

on_each_store! {
    every_message_tells_its_segments_and_encoding
    typographic_characters_are_replaced_before_they_leave
    what_takes_too_many_segments_never_leaves
    what_is_wanted_of_texts_can_be_changed
}

/// What each message tells of its text.
fn sizes(messages: &[Value]) -> Vec<(Option<u64>, Option<&str>)> {
    let is_told = |message: &Value| {
        assert!(message["segments"].is_u64() || message["segments"].is_null(), "{message}");
        assert!(message["encoding"].is_string() || message["encoding"].is_null(), "{message}");
    };
    messages.iter().for_each(is_told);
    let sizes = messages.iter();
    sizes.map(|message| (message["segments"].as_u64(), message["encoding"].as_str())).collect()
}

/// Reads the column of each record, which have no quotes in them.
fn column<'a>(table: &'a str, name: &str) -> Vec<&'a str> {
    let mut records = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = records.next().unwrap();
    let place = header.iter().position(|column| *column == name).unwrap();
    records.map(|record| record[place]).collect()
}

/// What left for each recipient.
fn bodies(scene: &Scene, id: &str) -> Vec<(String, String)> {
    let of_batch = format!("{id}.");
    let calls = scene.provider.calls().into_iter();
    let calls = calls.filter(|call| call.message_id.starts_with(&of_batch));
    let mut bodies: Vec<_> = calls.map(|call| (call.to, call.body)).collect();
    bodies.sort();
    bodies
}

async fn estimated(scene: &Scene, document: &Value) -> Value {
    let answer = scene.client.post("/v1/estimate", &[], document.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

async fn every_message_tells_its_segments_and_encoding(on: Kind) {
    let scene = Scene::start_on(on).await;
    let id = accepted(
        &scene.client,
        &json!({
            "body": "Hi {{name}}{{rest}}",
            "variables": {"rest": ""},
            "recipients": [
                {"to": number(0), "variables": {"name": "Ann"}},
                {"to": number(1), "variables": {"name": "Zoë ж"}},
                {"to": "nobody", "variables": {"name": "Ann"}},
                number(3),
                {"to": number(4), "variables": {"name": "Ann", "rest": "x".repeat(155)}},
                {"to": number(5), "variables": {"name": "字", "rest": "字".repeat(131)}},
            ],
        }),
    )
    .await;
    let gsm7 = |segments| (Some(segments), Some("gsm7"));
    let ucs2 = |segments| (Some(segments), Some("ucs2"));
    let nothing = (None, None);
    let expected = [gsm7(1), ucs2(1), nothing, nothing, gsm7(2), ucs2(3)];
    let client = &scene.client;
    assert_eq!(sizes(&messages(client, &id).await), expected);
    client.wait_until_complete(&id, PATIENCE).await;
    assert_eq!(sizes(&messages(client, &id).await), expected);
    let path = format!("/v1/batches/{id}/messages");
    for (index, expected) in expected.iter().enumerate() {
        let message = client.get(&format!("{path}/{index}")).await.json();
        assert_eq!(sizes(&[message]), [*expected], "{index}");
    }
    let failed = client.get(&format!("{path}?state=failed")).await.json();
    assert_eq!(sizes(failed["messages"].as_array().unwrap()), [nothing; 2]);
    let lines = client.get_with(&path, &[("accept", "application/x-ndjson")]).await.text;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(sizes(&lines), expected);
    let table = client.get_with(&path, &[("accept", "text/csv")]).await.text;
    let table = table.replace(", the first one not 0", "").replace('"', "");
    assert_eq!(column(&table, "segments"), ["1", "1", "", "", "2", "3"]);
    assert_eq!(column(&table, "encoding"), ["gsm7", "ucs2", "", "", "gsm7", "ucs2"]);
}

async fn typographic_characters_are_replaced_before_they_leave(on: Kind) {
    let scene = Scene::start_on(on).await;
    let mut document = json!({
        "body": "“Hi” {{name}}…",
        "recipients": [
            {"to": number(0), "variables": {"name": "O’Neill"}},
            {"to": number(1), "variables": {"name": "Жанна"}},
        ],
        "smart_encoding": true,
    });
    let body = |index, body: &str| (number(index), body.to_owned());
    let given = [body(0, "“Hi” O’Neill…"), body(1, "“Hi” Жанна…")];
    let replaced = [body(0, "\"Hi\" O'Neill..."), given[1].clone()];
    for (wanted, sent, encoding) in [(true, replaced, "gsm7"), (false, given, "ucs2")] {
        document["smart_encoding"] = wanted.into();
        let estimate = estimated(&scene, &document).await;
        let gsm7 = u64::from(encoding == "gsm7");
        assert_eq!(estimate["encodings"], json!({"gsm7": gsm7, "ucs2": 2 - gsm7}));
        let id = accepted(&scene.client, &document).await;
        scene.client.wait_until_complete(&id, PATIENCE).await;
        assert_eq!(bodies(&scene, &id), sent);
        let messages = messages(&scene.client, &id).await;
        assert_eq!(sizes(&messages), [(Some(1), Some(encoding)), (Some(1), Some("ucs2"))]);
        assert_eq!(shown(&scene.client, &id).await["smart_encoding"], wanted);
    }
}

async fn what_takes_too_many_segments_never_leaves(on: Kind) {
    let scene = Scene::start_on(on).await;
    let client = &scene.client;
    let text = |index, text: String| json!({"to": number(index), "variables": {"text": text}});
    let mut document = json!({
        "body": "{{text}}",
        "recipients": [
            text(0, "x".repeat(306)),
            text(1, "x".repeat(307)),
            text(2, "字".repeat(135)),
            text(3, "“".repeat(135)),
            text(4, "Hi".into()),
        ],
        "smart_encoding": true,
        "max_segments": 2,
    });
    let estimate = estimated(&scene, &document).await;
    assert_eq!(estimate["too_many_segments"], json!({"count": 2, "indexes": [1, 2]}));
    assert_eq!([&estimate["messages"], &estimate["segments"]], [5, 4]);
    let id = accepted(client, &document).await;
    let batch = client.wait_until_complete(&id, PATIENCE).await;
    assert_eq!(counts(&batch), these([("sent", 3), ("failed", 2)]));
    assert_eq!(batch["max_segments"], 2);
    let sent: Vec<_> = bodies(&scene, &id).into_iter().map(|(to, _)| to).collect();
    assert_eq!(sent, [number(0), number(3), number(4)]);
    let messages = messages(client, &id).await;
    for (message, segments) in messages[1..3].iter().zip([3, 3]) {
        assert_eq!([&message["state"], &message["error"]["code"]], ["failed", "too_many_segments"]);
        assert_eq!(
            (&message["attempts"], &message["error"]["permanent"]),
            (&json!(0), &json!(true))
        );
        assert_eq!(message["segments"], segments);
    }
    // What failed is tried again under the same limit, so it fails again.
    let path = format!("/v1/batches/{id}/retry");
    let again = client.post(&path, &[], json!({"states": ["failed"]}).to_string()).await;
    let again = again.batch_id();
    let batch = client.wait_until_complete(&again, PATIENCE).await;
    assert_eq!(counts(&batch), these([("failed", 2)]));
    assert_eq!((&batch["max_segments"], &batch["smart_encoding"]), (&json!(2), &json!(true)));
    assert_eq!(scene.calls_of(&again), 0);
    document["max_segments"] = 3.into();
    let id = accepted(client, &document).await;
    let batch = client.wait_until_complete(&id, PATIENCE).await;
    assert_eq!(counts(&batch), these([("sent", 5)]));
}

async fn what_is_wanted_of_texts_can_be_changed(on: Kind) {
    let scene = Scene::start_on(on).await;
    let client = &scene.client;
    let mut document = batch(numbers(0..2));
    document["body"] = "“".repeat(71).into();
    document["send_at"] = Clock::system().now().after(Duration::from_hours(1)).to_string().into();
    document["max_segments"] = 1.into();
    let id = accepted(client, &document).await;
    let path = format!("/v1/batches/{id}");
    let ucs2 = (Some(2), Some("ucs2"));
    assert_eq!(sizes(&messages(client, &id).await), [ucs2; 2]);
    let changed = client.patch(&path, &json!({"smart_encoding": true})).await.json();
    assert_eq!((&changed["smart_encoding"], &changed["max_segments"]), (&json!(true), &json!(1)));
    let gsm7 = (Some(1), Some("gsm7"));
    assert_eq!(sizes(&messages(client, &id).await), [gsm7; 2]);
    let changed = json!({"smart_encoding": null, "max_segments": null});
    let changed = client.patch(&path, &changed).await.json();
    assert_eq!(
        (&changed["smart_encoding"], &changed["max_segments"]),
        (&json!(false), &Value::Null)
    );
    client.patch(&path, &json!({"send_at": null})).await;
    let batch = client.wait_until_complete(&id, PATIENCE).await;
    assert_eq!(counts(&batch), these([("sent", 2)]));
}

#[tokio::test]
async fn every_form_of_a_batch_says_what_is_wanted_of_its_texts() {
    let scene = Scene::start_on(Kind::Embedded).await;
    let client = &scene.client;
    let settings = r#"{"body": "“{{name}}”", "smart_encoding": true, "max_segments": 1}"#;
    let long = "x".repeat(160);
    let table = format!("to,name\n{},Ann\n{},{long}\n", number(0), number(1));
    let line = |to, name| json!({"to": to, "variables": {"name": name}}).to_string();
    let lines = [settings.to_owned(), line(number(0), "Ann"), line(number(1), &long)].join("\n");
    let query: String = url::form_urlencoded::byte_serialize(settings.as_bytes()).collect();
    for (path, kind, body) in [
        ("/v1/batches".to_owned(), "application/x-ndjson", lines),
        (format!("/v1/batches?settings={query}"), "text/csv", table),
    ] {
        let answer = client.post(&path, &[("content-type", kind)], body).await;
        assert_eq!(answer.status, 202, "{kind}: {}", answer.text);
        let id = answer.batch_id();
        let batch = client.wait_until_complete(&id, PATIENCE).await;
        assert_eq!(counts(&batch), these([("sent", 1), ("failed", 1)]), "{kind}");
        assert_eq!(bodies(&scene, &id), [(number(0), "\"Ann\"".to_owned())], "{kind}");
    }
}

#[tokio::test]
async fn what_messages_tell_is_what_the_estimate_told() {
    let scene = Scene::start_on(Kind::Embedded).await;
    for body in ["x".repeat(161), "Grüße 😀".repeat(20), "Hi".into()] {
        let mut document = batch(numbers(0..1_200));
        document["body"] = body.as_str().into();
        let estimate = estimated(&scene, &document).await;
        let id = accepted(&scene.client, &document).await;
        let shown = messages(&scene.client, &id).await;
        let sum: u64 = shown.iter().map(|message| message["segments"].as_u64().unwrap()).sum();
        assert_eq!((shown.len(), estimate["segments"].as_u64()), (1_200, Some(sum)), "{body}");
    }
}
