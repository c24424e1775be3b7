//! Bodies that come packed.

use async_compression::tokio::write::{GzipEncoder, ZstdEncoder};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::{
    harness::{Answer, Client, Kind, PATIENCE, on_each_store},
    scene::{Scene, batch, counts, numbers, these},
};

on_each_store! {
    a_packed_batch_is_the_same_as_a_plain_one
}

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";

pub(crate) async fn packed(encoding: &str, bytes: &[u8]) -> Vec<u8> {
    if encoding == "zstd" {
        let mut zstd = ZstdEncoder::new(Vec::new());
        zstd.write_all(bytes).await.unwrap();
        zstd.shutdown().await.unwrap();
        return zstd.into_inner();
    }
    let mut gzip = GzipEncoder::new(Vec::new());
    gzip.write_all(bytes).await.unwrap();
    gzip.shutdown().await.unwrap();
    gzip.into_inner()
}

fn lines(recipients: usize) -> String {
    let numbers = numbers(0..recipients).into_iter().map(|number| json!(number));
    let lines = std::iter::once(json!({"body": "Hello"})).chain(numbers);
    lines.map(|line| line.to_string() + "\n").collect()
}

async fn post(client: &Client, form: &str, encoding: &str, key: &str, body: Vec<u8>) -> Answer {
    let headers =
        [("content-type", form), ("content-encoding", encoding), ("idempotency-key", key)];
    client.post("/v1/batches", &headers, body).await
}

async fn a_packed_batch_is_the_same_as_a_plain_one(kind: Kind) {
    let scene = Scene::start_on(kind).await;
    let forms = [(JSON, batch(numbers(0..3_000)).to_string()), (NDJSON, lines(3_000))];
    for (form, text) in forms {
        let plain = post(&scene.client, form, "identity", form, text.clone().into()).await;
        assert_eq!(plain.status, 202, "{}", plain.text);
        for encoding in ["gzip", "zstd"] {
            let bytes = packed(encoding, text.as_bytes()).await;
            assert!(bytes.len() < text.len() / 2);
            let key = format!("{form}-{encoding}");
            let answer = post(&scene.client, form, encoding, &key, bytes.clone()).await;
            assert_eq!(answer.status, 202, "{}", answer.text);
            let over = scene.client.wait_until_complete(&answer.batch_id(), PATIENCE).await;
            assert_eq!(counts(&over), these([("sent", 3_000)]));
            // What counts for a repeat is what was packed.
            let again = post(&scene.client, form, encoding, form, bytes).await;
            assert_eq!((again.status, again.batch_id()), (200, plain.batch_id()));
        }
    }
    // Small bodies go the same way.
    let order = packed("gzip", br#"{"since": "2026-12-01T09:00:00Z"}"#).await;
    let headers = [("content-type", JSON), ("content-encoding", "gzip")];
    let ordered = scene.client.post("/v1/callbacks/replay", &headers, order).await;
    assert_eq!(ordered.status, 202, "{}", ordered.text);
}

#[tokio::test]
async fn what_can_not_be_unpacked_leaves_nothing() {
    let scene = Scene::start_with(|setup| {
        setup.set("server.body_bytes_max", "1MiB").set("server.unpacked_bytes_max", "2MiB")
    })
    .await;
    let whole = batch(numbers(0..3_000)).to_string();
    for encoding in ["gzip", "zstd"] {
        let good = packed(encoding, lines(3_000).as_bytes()).await;
        let bomb = packed(encoding, &vec![b' '; 64 << 20]).await;
        let many = packed(encoding, lines(200_000).as_bytes()).await;
        let twice = packed(encoding, &packed(encoding, whole.as_bytes()).await).await;
        let cut = good[..good.len() / 2].to_vec();
        let mut tail = good.clone();
        tail.extend_from_slice(&[7; 64]);
        for (what, form, body, status, code) in [
            ("a bomb", JSON, bomb.clone(), 413, "body_too_large"),
            ("one long line", NDJSON, bomb, 413, "line_too_long"),
            ("too many lines", NDJSON, many, 413, "body_too_large"),
            ("a piece", NDJSON, cut.clone(), 400, "body_encoding"),
            ("a piece", JSON, cut, 400, "body_encoding"),
            ("a tail", NDJSON, tail, 400, "body_encoding"),
            ("a lie", JSON, whole.clone().into_bytes(), 400, "body_encoding"),
            ("packed twice", JSON, twice, 400, "invalid_json"),
        ] {
            let answer = post(&scene.client, form, encoding, what.split(' ').next().unwrap(), body);
            let answer = answer.await;
            let problem = answer.json();
            assert_eq!((answer.status, &problem["code"]), (status, &code.into()), "{what}");
        }
    }
    let list: Value = scene.client.get("/v1/batches").await.json();
    assert_eq!(list["batches"], json!([]));
}
