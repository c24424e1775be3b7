//! Opt-outs: the list that an account keeps by the API, and what it does to messages.

mod worker;

use std::fmt::Write as _;

use ringback::{clock::Clock, domain::signature::SigningSecret};
use serde_json::{Value, json};

use crate::{
    harness::{Answer, Client, Kind, PATIENCE, Ran, command, key_hash, on_each_store, run_to_end},
    scene::{SECRET, Scene, accepted, batch, counts, messages, number, numbers, these},
};

on_each_store! {
    a_list_is_kept_by_the_api
    a_table_is_taken_line_by_line_and_given_back
    who_is_on_the_list_has_failed_by_the_answer
    an_opt_out_holds_for_what_waits
}

const LIST: &str = "/v1/suppressions";

async fn add(client: &Client, numbers: &[&str]) -> Answer {
    let body = json!({"numbers": numbers}).to_string();
    client.post(LIST, &[("content-type", "application/json")], body).await
}

async fn import(client: &Client, table: &str) -> Answer {
    client.post(LIST, &[("content-type", "text/csv; charset=utf-8")], table.to_owned()).await
}

/// All numbers, page after page, sorted.
async fn listed(client: &Client, limit: usize) -> Vec<String> {
    let (mut numbers, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("{LIST}?limit={limit}{cursor}")).await.json();
        let found = page["numbers"].as_array().unwrap().iter();
        numbers.extend(found.map(|number| number.as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    numbers.sort();
    numbers
}

fn is_refused(answer: &Answer, status: u16, code: &str) -> bool {
    (answer.status, &answer.json()["code"]) == (status, &json!(code))
}

async fn a_list_is_kept_by_the_api(on: Kind) {
    let scene = Scene::start_on(on).await;
    let client = &scene.client;
    let empty = client.get(LIST).await.json();
    assert_eq!(empty, json!({"numbers": [], "count": 0, "next_cursor": null}));
    let added = add(client, &["+15551230001", "+15551230002", "+15551230001"]).await;
    let expected = json!({"added": 2, "already_there": 1, "invalid": 0, "invalid_lines": []});
    assert_eq!((added.status, added.json()), (200, expected));
    assert_eq!(add(client, &["+15551230002", "+15551230003"]).await.json()["already_there"], 1);
    assert_eq!(client.get(&format!("{LIST}?limit=1")).await.json()["count"], 3);
    let three = ["+15551230001", "+15551230002", "+15551230003"];
    assert_eq!(listed(client, 1).await, three);
    assert_eq!(listed(client, 100).await, three);
    for path in ["/v1/suppressions/+15551230001", "/v1/suppressions/%2B15551230001"] {
        let found = client.get(path).await;
        assert_eq!((found.status, found.json()), (200, json!({"number": "+15551230001"})));
    }
    for path in ["+15551230009", "15551230001", "nobody", "+15551230001/x"] {
        let answer = client.get(&format!("{LIST}/{path}")).await;
        assert!(is_refused(&answer, 404, "not_found"), "{path}: {}", answer.text);
    }
    for _ in 0..2 {
        assert_eq!(client.delete("/v1/suppressions/+15551230001").await.status, 204);
    }
    assert_eq!(listed(client, 100).await, three[1..]);
    let refused = add(client, &["+15551230004", "15551230005", ""]).await;
    assert!(is_refused(&refused, 422, "invalid_request"), "{}", refused.text);
    let pointers: Vec<_> =
        refused.json()["errors"].as_array().unwrap().iter().map(|e| e["pointer"].clone()).collect();
    assert_eq!(pointers, ["/numbers/1", "/numbers/2"]);
    assert_eq!(client.get(LIST).await.json()["count"], 2, "nothing is added then");
    let typed = client.post(LIST, &[("content-type", "text/plain")], "+15551230001").await;
    assert!(is_refused(&typed, 415, "unsupported_media_type"), "{}", typed.text);
    for query in ["limit=0", "cursor=x", "state=sent"] {
        let answer = client.get(&format!("{LIST}?{query}")).await;
        assert!(is_refused(&answer, 422, "invalid_request"), "{query}: {}", answer.text);
    }
}

async fn a_table_is_taken_line_by_line_and_given_back(on: Kind) {
    const LINES: usize = 30_000;
    let scene = Scene::start_on(on).await;
    let client = &scene.client;
    let mut table = "\u{feff}name,to\r\n".to_owned();
    for index in 0..LINES {
        let to = if index % 200 == 7 { "none".to_owned() } else { number(index) };
        write!(table, "\"A, {index}\",{to}\r\n").unwrap();
    }
    let added = import(client, &table).await;
    let expected = LINES - LINES / 200;
    let said = added.json();
    assert_eq!(
        (added.status, &said["added"], &said["invalid"]),
        (200, &json!(expected), &json!(150))
    );
    let lines = said["invalid_lines"].as_array().unwrap();
    assert_eq!((lines.len(), &lines[0]["line"], &lines[1]["line"]), (100, &json!(9), &json!(209)));
    let again = import(client, &table).await.json();
    assert_eq!((&again["added"], &again["already_there"]), (&json!(0), &json!(expected)));

    let export = client.get_with(LIST, &[("accept", "text/csv")]).await;
    assert!(export.header("content-type").starts_with("text/csv"));
    let (header, rest) = export.text.split_once("\r\n").unwrap();
    let mut numbers: Vec<_> = rest.lines().map(str::to_owned).collect();
    numbers.sort();
    assert_eq!((header, numbers.len()), ("number", expected));
    assert_eq!(numbers, listed(client, 1_000).await);
    let lines = client.get_with(LIST, &[("accept", "application/x-ndjson")]).await;
    assert_eq!(lines.text.lines().count(), expected);
    assert!(serde_json::from_str::<Value>(lines.text.lines().next().unwrap()).unwrap().is_string());
    // What was given is taken.
    let back = import(client, &export.text).await.json();
    assert_eq!((&back["already_there"], &back["invalid"]), (&json!(expected), &json!(0)));

    for table in ["", "phone\n+15551230001\n"] {
        let refused = import(client, table).await;
        assert!(is_refused(&refused, 422, "invalid_csv"), "{}", refused.text);
    }
}

#[tokio::test]
async fn a_list_is_its_accounts_alone() {
    let account = |name: &str| {
        format!("[accounts.{name}]\napi_key_hashes = [\"{}\"]\n", key_hash(&format!("{name}-key")))
    };
    let file = [account("acme"), account("zeta")].concat();
    let scene = Scene::start_with(|setup| setup.file(&file)).await;
    let key = |name: &str| scene.client.with_key(&format!("{name}-key"));
    let (acme, zeta) = (key("acme"), key("zeta"));
    assert_eq!(add(&acme, &["+15551230001"]).await.status, 200);
    assert_eq!(zeta.get("/v1/suppressions/+15551230001").await.status, 404);
    assert_eq!(zeta.get(LIST).await.json()["count"], 0);
    assert_eq!(zeta.delete("/v1/suppressions/+15551230001").await.status, 204);
    assert_eq!(acme.get("/v1/suppressions/+15551230001").await.status, 200);
    assert!(!scene.ringback.log().contains("5551230001"), "a number is in the log");
}

async fn who_is_on_the_list_has_failed_by_the_answer(on: Kind) {
    let scene = Scene::start_on(on).await;
    let client = &scene.client;
    let off = [number(1), number(3)];
    assert_eq!(add(client, &[&off[0], &off[1]]).await.status, 200);
    let recipients = [numbers(0..3), vec!["nobody".to_owned(), number(3)]].concat();

    let estimate = client.post("/v1/estimate", &[], batch(recipients.clone()).to_string()).await;
    let estimate = estimate.json();
    assert_eq!(estimate["opted_out_recipients"], json!({"count": 2, "indexes": [1, 4]}));
    assert_eq!(estimate["invalid_recipients"], json!({"count": 1, "indexes": [3]}));
    assert_eq!(estimate["segments"], 2);

    let answer = client.post_batch(&scene.batch(recipients.clone())).await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.json()["counts"]["failed"], 3, "{}", answer.text);
    let id = answer.batch_id();
    let over = scene.report(&id).await;
    assert_eq!(counts(&over), these([("sent", 2), ("failed", 3)]));
    let told = messages(client, &id).await;
    for index in [1, 4] {
        let Value::Object(error) = &told[index]["error"] else { panic!("{}", told[index]) };
        assert_eq!((&error["code"], &error["permanent"]), (&json!("opted_out"), &json!(true)));
        assert_eq!(told[index]["attempts"], 0);
    }
    let lines = recipients.iter().fold(json!({"body": "Hi"}).to_string() + "\n", |lines, to| {
        lines + &json!(to).to_string() + "\n"
    });
    let ndjson = [("content-type", "application/x-ndjson")];
    let estimate = client.post("/v1/estimate", &ndjson, lines.clone()).await.json();
    assert_eq!(estimate["opted_out_recipients"]["indexes"], json!([1, 4]));
    let streamed = client.post("/v1/batches", &ndjson, lines).await;
    assert_eq!((streamed.status, &streamed.json()["counts"]["failed"]), (202, &json!(3)));
    let over = client.wait_until_complete(&streamed.batch_id(), PATIENCE).await;
    assert_eq!(counts(&over), these([("sent", 2), ("failed", 3)]));
    assert!(scene.provider.calls().iter().all(|call| !off.contains(&call.to)));

    // Who has come back gets messages again, also those that were missed.
    assert_eq!(client.delete(&format!("{LIST}/{}", off[1])).await.status, 204);
    let states = json!({"states": ["failed"]}).to_string();
    let retried = client.post(&format!("/v1/batches/{id}/retry"), &[], states).await;
    let over = client.wait_until_complete(&retried.batch_id(), PATIENCE).await;
    assert_eq!(counts(&over), these([("sent", 1), ("failed", 2)]));
}

async fn an_opt_out_holds_for_what_waits(on: Kind) {
    let scene = Scene::start_on(on).await;
    let client = &scene.client;
    assert_eq!(client.post("/v1/providers/carrier/pause", &[], "").await.status, 200);
    let id = accepted(client, &batch(numbers(0..1_000))).await;
    let off: Vec<_> = (0..1_000).filter(|index| index % 3 == 0).map(number).collect();
    let off: Vec<_> = off.iter().map(String::as_str).collect();
    assert_eq!(add(client, &off).await.json()["added"], 334);
    assert_eq!(client.post("/v1/providers/carrier/resume", &[], "").await.status, 200);
    let over = client.wait_until_complete(&id, PATIENCE).await;
    assert_eq!(counts(&over), these([("sent", 666), ("failed", 334)]));
    assert_eq!(scene.provider.count(), 666);
    let told = messages(client, &id).await;
    for (index, message) in told.iter().enumerate().filter(|(index, _)| index % 3 == 0) {
        let said = (&message["error"]["code"], &message["attempts"]);
        assert_eq!(said, (&json!("opted_out"), &json!(0)), "{index}");
    }
}

#[tokio::test]
async fn the_command_line_keeps_the_list() {
    let scene = Scene::start().await;
    let run = |arguments: &[&str]| -> Ran {
        let mut command = command();
        command.arg("suppression").args(arguments);
        command.env("RINGBACK_URL", format!("http://{}", scene.ringback.address()));
        run_to_end(command)
    };
    let ran = run(&["add", "+15551230001", "+15551230002"]);
    assert_eq!((ran.code, &*ran.out), (0, "2 added, 0 already there\n"), "{ran:?}");
    assert_eq!(run(&["remove", "+15551230001", "+15551230009"]).code, 0);
    assert_eq!(run(&["list"]).out, "+15551230002\n");
    assert_eq!(run(&["list", "--json"]).out, "\"+15551230002\"\n");
    assert_eq!(run(&["add", "15551230001"]).code, 2);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("optouts.csv");
    std::fs::write(&file, "number,since\n+15551230002,2020\nnone,2021\n+15551230003,\n").unwrap();
    let file = file.to_str().unwrap();
    let ran = run(&["import", file]);
    assert_eq!((ran.code, &*ran.out), (1, "1 added, 1 already there, 1 invalid\n"), "{ran:?}");
    assert!(ran.err.contains("line 3: not an E.164 number"), "{ran:?}");
    let ran = run(&["export"]);
    let mut lines: Vec<_> = ran.out.lines().collect();
    lines[1..].sort_unstable();
    assert_eq!((ran.code, lines), (0, vec!["number", "+15551230002", "+15551230003"]));
    assert_eq!(run(&["import", "nowhere.csv"]).code, 2);
}

#[tokio::test]
async fn what_recipients_answer_keeps_the_list_if_the_provider_signed_it() {
    let scene = Scene::start_with(|setup| {
        setup
            .set("providers.carrier.receipts", "true")
            .set("providers.carrier.receipt_secret", SECRET)
    })
    .await;
    let (client, secret) = (&scene.client, SigningSecret::parse(SECRET).unwrap());
    let report = async |provider: &str, text: &str, signer: &SigningSecret| {
        let body = json!({"from": number(1), "to": "+15550001111", "body": text}).to_string();
        let now_s = Clock::system().now().0 / 1_000;
        let signature = signer.sign("evt_1", now_s, &body);
        let (now, path) = (now_s.to_string(), format!("/v1/inbound/{provider}"));
        let headers = [
            ("content-type", "application/json"),
            ("webhook-id", "evt_1"),
            ("webhook-timestamp", &*now),
            ("webhook-signature", &*signature),
        ];
        client.post(&path, &headers, body).await
    };
    let entry = format!("{LIST}/{}", number(1));
    for (text, status) in [("Hello", 404), (" stop ", 200), ("Hello", 200), ("Start", 404)] {
        let heard = report("carrier", text, &secret).await;
        assert_eq!(heard.status, 204, "{}", heard.text);
        assert_eq!(client.get(&entry).await.status, status, "after {text}");
    }
    let forged = report("carrier", "STOP", &SigningSecret::of(&[9; 32])).await;
    assert!(is_refused(&forged, 401, "invalid_signature"), "{}", forged.text);
    for provider in ["mock", "nobody"] {
        let refused = report(provider, "STOP", &secret).await;
        assert!(is_refused(&refused, 404, "not_found"), "{provider}: {}", refused.text);
    }
    assert_eq!(client.get(&entry).await.status, 404);
}
