//! What a batch may be made of: recipients that are there twice, and the limits of accounts.

use serde_json::{Value, json};

use crate::{
    api::new_key,
    harness::{Answer, Client, Kind, PATIENCE, on_each_store},
    scene::{Scene, batch, counts, number, numbers, these, wish},
};

on_each_store! {
    duplicates_are_left_out_if_that_is_wished
    an_account_has_only_so_many_batches_under_way
}

async fn post_lines(client: &Client, head: &Value, recipients: &[Value]) -> Answer {
    let lines = std::iter::once(head).chain(recipients);
    let text: String = lines.map(|line| line.to_string() + "\n").collect();
    client.post("/v1/batches", &[("content-type", "application/x-ndjson")], text).await
}

async fn duplicates_are_left_out_if_that_is_wished(on: Kind) {
    let scene = Scene::start_on(on).await;
    let recipients = [
        json!(number(0)),
        json!({"to": number(1), "reference": "first"}),
        json!("nobody"),
        json!(number(0)),
        json!({"to": number(1), "reference": "second"}),
        json!("nobody"),
        json!(number(2)),
    ];
    // In the document the wish stands behind the recipients.
    let whole = |wish: &str| {
        format!(r#"{{"body":"Hi","recipients":{},"duplicates":"{wish}"}}"#, json!(recipients))
    };
    for (wish, total, sent, skipped) in [("keep", 7, 5, 0), ("skip", 5, 3, 2)] {
        let head = json!({"body": "Hi", "duplicates": wish});
        let streamed = post_lines(&scene.client, &head, &recipients).await;
        for answer in [scene.client.post("/v1/batches", &[], whole(wish)).await, streamed] {
            assert_eq!(answer.status, 202, "{}", answer.text);
            assert_eq!(answer.json()["duplicates_skipped"], skipped);
            let id = answer.batch_id();
            let over = scene.client.wait_until_complete(&id, PATIENCE).await;
            assert_eq!(over["duplicates_skipped"], skipped);
            assert_eq!(over["counts"]["total"], total);
            assert_eq!(counts(&over), these([("sent", sent), ("failed", 2)]));
            assert_eq!(u64::try_from(scene.calls_of(&id)).unwrap(), sent);
            let kept = scene.client.get(&format!("/v1/batches/{id}/messages/1")).await.json();
            assert_eq!(kept["reference"], "first");
        }
    }
    // What is refused is told by its place among all that was given.
    let head = json!({"body": "Hi", "duplicates": "skip", "on_invalid": "reject_batch"});
    let given = [&recipients[..2], &recipients[3..6]].concat();
    let refused = post_lines(&scene.client, &head, &given).await;
    assert_eq!((refused.status, &refused.json()["errors"][0]["pointer"]), (422, &json!("/6")));
}

async fn an_account_has_only_so_many_batches_under_way(on: Kind) {
    let (acme, zeta) = (new_key("acme"), new_key("zeta"));
    let scene = Scene::start_on_with(on, |setup| {
        setup
            .set("accounts.acme.api_key_hashes", &acme.1)
            .set("accounts.acme.batches_max", "2")
            .set("accounts.zeta.api_key_hashes", &zeta.1)
            .set("providers.carrier.rate", "10/s")
    })
    .await;
    let (acme, zeta) = (scene.client.with_key(&acme.0), scene.client.with_key(&zeta.0));
    let slow = batch(numbers(0..1_000));
    let first = acme.post_batch_once("first", &slow).await.batch_id();
    let second = acme.post_batch(&slow).await.batch_id();
    let refused = acme.post_batch(&slow).await;
    assert_eq!((refused.status, &refused.json()["code"]), (429, &json!("too_many_batches")));
    assert_eq!(refused.header("retry-after"), "1");
    // A repeated request is no further batch, and another account is not concerned.
    assert_eq!(acme.post_batch_once("first", &slow).await.status, 200);
    assert_eq!(zeta.post_batch(&slow).await.status, 202);
    wish(&acme, &second, "cancel").await;
    acme.wait_until_complete(&second, PATIENCE).await;
    // A refused upload takes no place.
    for _ in 0..3 {
        let head = json!({"body": "Hi"});
        let broken = post_lines(&acme, &head, &[json!(number(0)), json!(5)]).await;
        assert_eq!(broken.status, 422, "{}", broken.text);
    }
    assert_eq!(acme.post_batch(&slow).await.status, 202);
    assert_eq!(acme.post_batch(&slow).await.status, 429);
    wish(&acme, &first, "cancel").await;
}

#[tokio::test]
async fn an_accounts_batches_have_their_limits() {
    let (key, hash) = new_key("acme");
    let scene = Scene::start_with(|setup| {
        setup
            .set("accounts.acme.api_key_hashes", &hash)
            .set("accounts.acme.recipients_max", "100")
            .set("accounts.acme.body_bytes_max", "8KiB")
    })
    .await;
    let client = scene.client.with_key(&key);
    let head = json!({"body": "Hi"});
    let lines = |count| -> Vec<Value> { numbers(0..count).into_iter().map(Value::from).collect() };
    for (whole, streamed, status, code) in [
        (numbers(0..100), lines(100), 202, Value::Null),
        (numbers(0..101), lines(101), 422, json!("invalid_request")),
        (numbers(0..800), lines(800), 413, json!("body_too_large")),
    ] {
        let answers =
            [client.post_batch(&batch(whole)).await, post_lines(&client, &head, &streamed).await];
        for answer in answers {
            // A stream is read as it comes: what is wrong first is told first.
            let is_first = status == 413 && answer.status == 422;
            assert!(answer.status == status || is_first, "{status}: {}", answer.text);
            assert!(answer.json()["code"] == code || is_first, "{}", answer.text);
        }
    }
    let refused = client.post_batch(&batch(numbers(0..101))).await.json();
    assert_eq!(
        (&refused["errors"][0]["pointer"], &refused["errors"][0]["code"]),
        (&json!("/recipients/100"), &json!("too_many"))
    );
    let long = format!("{head}\n{:?}\n", "x".repeat(9_000));
    let form = [("content-type", "application/x-ndjson")];
    assert_eq!(client.post("/v1/batches", &form, long).await.status, 413);
}
