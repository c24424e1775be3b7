//! What a batch may be made of: recipients that are there twice, and the limits of accounts.

use serde_json::{Value, json};

use crate::{
    api::new_key,
    harness::{Answer, Client, Kind, PATIENCE, on_each_store},
    scene::{Scene, batch, counts, number, numbers, these, wish},
};

on_each_store! {
    a_table_is_the_batch_its_document_is
    duplicates_are_left_out_if_that_is_wished
    an_account_has_only_so_many_batches_under_way
}

async fn post_lines(client: &Client, head: &Value, recipients: &[Value]) -> Answer {
    let lines = std::iter::once(head).chain(recipients);
    let text: String = lines.map(|line| line.to_string() + "\n").collect();
    client.post("/v1/batches", &[("content-type", "application/x-ndjson")], text).await
}

/// Posts a table with these settings, in pieces of this many bytes, under a key if there is one.
async fn post_table(
    client: &Client,
    settings: &Value,
    table: &str,
    cut: usize,
    key: Option<&str>,
) -> Answer {
    let query: String =
        url::form_urlencoded::byte_serialize(settings.to_string().as_bytes()).collect();
    let pieces: Vec<_> = table.as_bytes().chunks(cut).map(<[u8]>::to_vec).collect();
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(
        pieces.into_iter().map(Ok::<_, std::io::Error>),
    ));
    let mut headers = vec![("content-type", "text/csv")];
    headers.extend(key.map(|key| ("idempotency-key", key)));
    client.post(&format!("/v1/batches?settings={query}"), &headers, body).await
}

async fn a_table_is_the_batch_its_document_is(on: Kind) {
    let scene = Scene::start_on(on).await;
    let settings = json!({"body": "Hi {{name}}, {{code}}", "variables": {"name": "there"}});
    let table = "\u{feff}to,unused,name,reference,code\r\n\
                 +15551230001,x,Ann,user-1,81\r\n\
                 \"+15551230002\",\"a \"\"b\"\"\nc\",,,\"8,2\"\r\n\
                 nobody,,Bob,,7\n\
                 +15551230003,,Émile,,9";
    for cut in [1, 7, 4_096] {
        let answer = post_table(&scene.client, &settings, table, cut, None).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        let id = answer.batch_id();
        let over = scene.client.wait_until_complete(&id, PATIENCE).await;
        assert_eq!(counts(&over), these([("sent", 3), ("failed", 1)]));
        let of_batch = format!("{id}.");
        let mut bodies: Vec<_> = scene.provider.calls().into_iter().collect();
        bodies.retain(|call| call.message_id.starts_with(&of_batch));
        let mut bodies: Vec<_> = bodies.into_iter().map(|call| call.body).collect();
        bodies.sort_unstable();
        assert_eq!(bodies, ["Hi Ann, 81", "Hi there, 8,2", "Hi Émile, 9"]);
        let first = scene.client.get(&format!("/v1/batches/{id}/messages/0")).await.json();
        assert_eq!((&first["to"], &first["reference"]), (&json!("+15551230001"), &json!("user-1")));
    }
    // The same key, and the same settings and table, is the same batch.
    let once = post_table(&scene.client, &settings, table, 9, Some("once")).await;
    let again = post_table(&scene.client, &settings, table, 50, Some("once")).await;
    assert_eq!((again.status, again.batch_id()), (200, once.batch_id()));
    let other = json!({"body": "Bye {{name}}, {{code}}", "variables": {"name": "there"}});
    let reused = post_table(&scene.client, &other, table, 50, Some("once")).await;
    assert_eq!((reused.status, &reused.json()["code"]), (422, &json!("idempotency_key_reused")));
}

#[tokio::test]
async fn a_table_that_is_wrong_is_told_by_line_and_column_and_leaves_nothing() {
    let scene = Scene::start().await;
    let plain = json!({"body": "Hi {{name}}"});
    let rejects = json!({"body": "Hi", "on_invalid": "reject_batch"});
    for (settings, table, pointer, code) in [
        (&plain, "", "/1", "empty"),
        (&plain, "number,name\n", "/1/to", "missing"),
        (&plain, "to\n+15551230001\n", "/1/name", "missing"),
        (&plain, "to,name,to\n", "/1/to", "duplicate_field"),
        (&plain, "to,name\n+15551230001\n", "/2/name", "invalid_csv"),
        (&plain, "to,name\n+15551230001,Ann,81\n", "/2", "invalid_csv"),
        (&plain, "to,name\n+15551230001,\"A\"nn\n", "/2/name", "invalid_csv"),
        (&plain, "to,name\n\n+15551230001,\"Ann\n", "/3/name", "invalid_csv"),
        (&plain, "to,name\n+15551230001,A\0nn\n", "/2/name", "invalid_text"),
        (&rejects, "to,name\n\"+15551230001\",\"a\nb\"\nnobody,x\n", "/4", "invalid_number"),
        (&json!({"body": "{{"}), "to\n", "/settings/body", "template_invalid"),
        (&json!({"body": "Hi", "recipients": []}), "to\n", "/settings/recipients", "unknown_field"),
    ] {
        let refused = post_table(&scene.client, settings, table, 4_096, Some("free")).await;
        assert_eq!(refused.status, 422, "{table}: {}", refused.text);
        let error = &refused.json()["errors"][0];
        let told = (error["pointer"].as_str().unwrap(), error["code"].as_str().unwrap());
        assert_eq!(told, (pointer, code), "{table}: {}", refused.text);
    }
    let long = format!("to,name\n+15551230001,{}\n", "x".repeat(70_000));
    let refused = post_table(&scene.client, &plain, &long, 4_096, Some("free")).await;
    assert_eq!((refused.status, &refused.json()["code"]), (413, &json!("line_too_long")));
    let form = [("content-type", "text/csv")];
    for (path, pointer, code) in [
        ("/v1/batches", "/settings", "missing"),
        ("/v1/batches?settings=%7B", "/settings", "invalid_json"),
        ("/v1/batches?batch=%7B%7D", "/batch", "unknown_parameter"),
    ] {
        let refused = scene.client.post(path, &form, "to\n").await;
        let error = &refused.json()["errors"][0];
        assert_eq!((&error["pointer"], &error["code"]), (&json!(pointer), &json!(code)));
    }
    assert_eq!(scene.client.get("/v1/batches").await.json()["batches"], json!([]));
    let kept = post_table(&scene.client, &plain, "to,name\n", 9, Some("free")).await;
    assert_eq!((kept.status, &kept.json()["counts"]["total"]), (202, &json!(0)));
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
