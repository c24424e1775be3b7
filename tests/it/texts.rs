//! What messages come to on the air: segments and encodings, as each call shows them.

use serde_json::{Value, json};

use crate::{
    harness::{Kind, PATIENCE, on_each_store},
    scene::{Scene, accepted, batch, messages, number, numbers},
};

on_each_store! {
    every_message_tells_its_segments_and_encoding
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

#[tokio::test]
async fn what_messages_tell_is_what_the_estimate_told() {
    let scene = Scene::start_on(Kind::Embedded).await;
    for body in ["x".repeat(161), "Grüße 😀".repeat(20), "Hi".into()] {
        let mut document = batch(numbers(0..1_200));
        document["body"] = body.as_str().into();
        let estimate = scene.client.post("/v1/estimate", &[], document.to_string()).await.json();
        let id = accepted(&scene.client, &document).await;
        let shown = messages(&scene.client, &id).await;
        let sum: u64 = shown.iter().map(|message| message["segments"].as_u64().unwrap()).sum();
        assert_eq!((shown.len(), estimate["segments"].as_u64()), (1_200, Some(sum)), "{body}");
    }
}
