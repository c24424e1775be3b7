//! Events and their callbacks through the API: listed, delivered again, pulled, and tried out.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use crate::{
    harness::{
        Answer, Backing, Client, Delivery, Kind, PATIENCE, Provider, Receiver, Reply, eventually,
        key_hash, on_each_store,
    },
    scene::{SECRET, Scene, accepted, batch, number, numbers, setup, shown_when, with_callback},
};

on_each_store! {
    a_callback_that_is_replayed_is_the_same_again
    callbacks_that_were_given_up_come_back_on_one_order
    an_order_means_one_state_and_one_host
    callbacks_are_listed_by_state_and_host_page_by_page
    the_feed_tells_every_event_in_order_with_the_bytes_that_were_sent
    what_the_feed_has_told_is_what_is_delivered_later
    nobody_sees_or_replays_anothers_events
}

/// Another secret of 32 bytes.
const OTHER_SECRET: &str = "whsec_OTg3NjU0MzIxMDk4NzY1NDMyMTA5ODc2NTQzMjEwOTg=";

/// An event of the feed.
#[derive(Deserialize)]
struct Told {
    id: String,
    r#type: String,
    sequence: u32,
    batch_id: String,
    state: String,
    payload: Box<RawValue>,
}

#[derive(Deserialize)]
struct Page {
    events: Vec<Told>,
    next_cursor: Option<String>,
}

/// The whole feed, read by so many events a page.
async fn feed(client: &Client, limit: usize) -> Vec<Told> {
    let (mut told, mut after) = (Vec::new(), String::new());
    loop {
        let answer = client.get(&format!("/v1/events?limit={limit}{after}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let page: Page = serde_json::from_str(&answer.text).unwrap();
        assert!(page.events.len() <= limit);
        let last = page.events.last().map(|event| event.id.clone());
        told.extend(page.events);
        let Some(next) = page.next_cursor else { return told };
        assert_eq!(Some(&next), last.as_ref());
        after = format!("&after={next}");
    }
}

async fn listed(client: &Client, query: &str) -> Vec<Value> {
    let answer = client.get(&format!("/v1/callbacks{query}")).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.text);
    answer.json()["callbacks"].as_array().unwrap().clone()
}

fn ids(callbacks: &[Value]) -> Vec<String> {
    callbacks.iter().map(|callback| callback["id"].as_str().unwrap().to_owned()).collect()
}

/// The id of a batch's completion event.
fn event_of(batch: &str) -> String {
    batch.replacen("bat_", "evt_", 1)
}

/// A batch whose second message fails, for it lacks a name.
fn half_named(receiver: &Receiver) -> Value {
    let ann = json!({"to": number(0), "variables": {"name": "Ann"}});
    with_callback(json!({"body": "Hi {{name}}", "recipients": [ann, number(1)]}), receiver)
}

async fn callback_once(client: &Client, batch: &str, state: &str) {
    let what = format!("a callback that is {state}");
    shown_when(client, batch, &what, |batch| batch["callback"]["state"] == state).await;
}

async fn posted(client: &Client, path: &str, body: &Value) -> Answer {
    client.post(path, &[], body.to_string()).await
}

/// Status, code, and pointer and code of each error, of an answer that says no.
fn refusal(answer: &Answer) -> (u16, String, Vec<(String, String)>) {
    let problem = answer.json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let errors = problem["errors"].as_array().into_iter().flatten();
    let errors = errors.map(|error| (text(&error["pointer"]), text(&error["code"]))).collect();
    (answer.status, text(&problem["code"]), errors)
}

fn ended<'a>(deliveries: &'a [Delivery], event: &str) -> Vec<&'a Delivery> {
    deliveries.iter().filter(|delivery| delivery.header("webhook-id") == event).collect()
}

async fn a_callback_that_is_replayed_is_the_same_again(on: Kind) {
    let scene = Scene::start_on(on).await;
    let id = scene.post(numbers(0..2)).await;
    callback_once(&scene.client, &id, "delivered").await;
    let path = format!("/v1/batches/{id}/callbacks/replay");
    let answer = scene.client.post(&path, &[], "").await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let expected = json!({"id": event_of(&id), "batch_id": id, "state": "pending"});
    assert_eq!(answer.json(), expected);
    let deliveries = scene.receiver.wait_for(2, PATIENCE).await;
    assert_eq!(ended(&deliveries, &event_of(&id)).len(), 2);
    assert_eq!(deliveries[0].body, deliveries[1].body);
    for delivery in &deliveries {
        delivery.verify(SECRET);
    }
    callback_once(&scene.client, &id, "delivered").await;
    let attempts = scene.client.get(&format!("/v1/batches/{id}/callbacks")).await.json();
    assert_eq!(attempts["attempts"].as_array().unwrap().len(), 2);
}

async fn callbacks_that_were_given_up_come_back_on_one_order(on: Kind) {
    let scene = Scene::start_on_with(on, |setup| setup.set("callbacks.schedule", "10ms")).await;
    let receiver = Receiver::scripted([Reply::Status(500); 60]);
    let mut batches = Vec::new();
    for _ in 0..30 {
        let batch = with_callback(batch(numbers(0..0)), &receiver);
        batches.push(accepted(&scene.client, &batch).await);
    }
    for id in &batches {
        callback_once(&scene.client, id, "exhausted").await;
    }
    let delivered = scene.post(numbers(0..1)).await;
    callback_once(&scene.client, &delivered, "delivered").await;
    let order = json!({"since": "2020-01-01T00:00:00Z"});
    let answer = posted(&scene.client, "/v1/callbacks/replay", &order).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let expected = json!({"since": "2020-01-01T00:00:00.000Z", "state": "exhausted", "host": null});
    assert_eq!(answer.json(), expected);
    for id in &batches {
        callback_once(&scene.client, id, "delivered").await;
    }
    let deliveries = receiver.deliveries();
    assert_eq!(deliveries.len(), 90, "two attempts and one more");
    for id in &batches {
        let [first, _, last] = ended(&deliveries, &event_of(id))[..] else { panic!("{id}") };
        assert_eq!(first.body, last.body);
    }
    assert_eq!(scene.receiver.deliveries().len(), 1, "what was delivered stays so");
}

async fn an_order_means_one_state_and_one_host(on: Kind) {
    let scene = Scene::start_on_with(on, |setup| setup.set("callbacks.schedule", "10ms")).await;
    let wanted = Receiver::scripted([Reply::Status(410)]);
    let others = Receiver::scripted([Reply::Status(410)]);
    let mut posted_to = Vec::new();
    for receiver in [&wanted, &others] {
        let id = accepted(&scene.client, &with_callback(batch(numbers(0..1)), receiver)).await;
        callback_once(&scene.client, &id, "gone").await;
        posted_to.push(id);
    }
    let host = wanted.url().replace("http://", "").replace("/hooks/sms", "");
    let order = |since: &str, state: &str, host: &str| json!({"since": since, "state": state, "host": host});
    for nothing in [
        order("2020-01-01T00:00:00Z", "delivered", &host),
        order("2099-01-01T00:00:00Z", "gone", &host),
        order("2020-01-01T00:00:00Z", "gone", "hooks.example"),
    ] {
        let answer = posted(&scene.client, "/v1/callbacks/replay", &nothing).await;
        assert_eq!((answer.status, answer.json()["host"].clone()), (202, nothing["host"].clone()));
    }
    let this = order("2020-01-01T00:00:00Z", "gone", &host);
    assert_eq!(posted(&scene.client, "/v1/callbacks/replay", &this).await.status, 202);
    callback_once(&scene.client, &posted_to[0], "delivered").await;
    assert_eq!((wanted.deliveries().len(), others.deliveries().len()), (2, 1));
    callback_once(&scene.client, &posted_to[1], "gone").await;
}

async fn callbacks_are_listed_by_state_and_host_page_by_page(on: Kind) {
    let scene = Scene::start_on_with(on, |setup| setup.set("callbacks.schedule", "1h")).await;
    let failing = Receiver::scripted([Reply::Status(500); 2]);
    let (mut delivered, mut waiting) = (Vec::new(), Vec::new());
    for nth in 0..5 {
        let (receiver, state, list) = if nth % 2 == 0 {
            (&scene.receiver, "delivered", &mut delivered)
        } else {
            (&failing, "pending", &mut waiting)
        };
        let mut batch = with_callback(batch(numbers(0..1)), receiver);
        batch["reference"] = format!("nth-{nth}").into();
        batch["callback_url"] = format!("{}?token=hush", receiver.url()).into();
        batch["callback_headers"] = json!({"x-token": "hush"});
        let id = accepted(&scene.client, &batch).await;
        callback_once(&scene.client, &id, state).await;
        if state == "pending" {
            failing.wait_for(nth / 2 + 1, PATIENCE).await;
        }
        list.insert(0, event_of(&id));
    }
    let all = eventually("the record of the last attempt", PATIENCE, async || {
        let all = listed(&scene.client, "").await;
        let due = all.iter().filter(|callback| !callback["next_attempt_at"].is_null()).count();
        (due == 2).then_some(all)
    })
    .await;
    assert_eq!(all.len(), 5);
    assert_eq!(all[0]["batch_reference"], "nth-4");
    assert!(!json!(all).to_string().contains("hush"), "{all:?}");
    for (state, expected) in [("delivered", &delivered), ("pending", &waiting)] {
        assert_eq!(&ids(&listed(&scene.client, &format!("?state={state}")).await), expected);
    }
    assert!(listed(&scene.client, "?state=exhausted").await.is_empty());
    let host = all[1]["host"].as_str().unwrap();
    assert_eq!(ids(&listed(&scene.client, &format!("?host={host}")).await), waiting);
    assert_eq!(listed(&scene.client, "?host=127.0.0.1").await.len(), 5);
    assert!(listed(&scene.client, "?host=127.0.0.2").await.is_empty());
    let one = &all[1];
    for (field, expected) in [
        ("type", json!("batch.completed")),
        ("sequence", json!(1)),
        ("state", json!("pending")),
        ("attempts", json!(1)),
    ] {
        assert_eq!(one[field], expected, "{field}");
    }
    let (mut seen, mut query) = (Vec::new(), "?limit=2".to_owned());
    loop {
        let page = scene.client.get(&format!("/v1/callbacks{query}")).await.json();
        seen.extend(page["callbacks"].as_array().unwrap().clone());
        let Some(next) = page["next_cursor"].as_str() else { break };
        query = format!("?limit=2&cursor={next}");
    }
    assert_eq!(seen, all);
}

async fn the_feed_tells_every_event_in_order_with_the_bytes_that_were_sent(on: Kind) {
    let scene = Scene::start_on(on).await;
    let mut batches = Vec::new();
    for mut batch in [scene.batch(numbers(0..3)), half_named(&scene.receiver)] {
        batch["events"] = json!(["batch.dispatched", "message.failed"]);
        batch["metadata"] = json!({"é": [1.10, "\u{1f600}"]});
        batches.push(accepted(&scene.client, &batch).await);
    }
    for id in &batches {
        callback_once(&scene.client, id, "delivered").await;
    }
    // Two batches with two events each, and a message that failed.
    let deliveries = scene.receiver.wait_for(5, PATIENCE).await;
    let bodies: BTreeMap<&str, &[u8]> =
        deliveries.iter().map(|one| (one.header("webhook-id"), &*one.body)).collect();
    let told = eventually("the end of all callbacks", PATIENCE, async || {
        let told = feed(&scene.client, 2).await;
        told.iter().all(|event| event.state == "delivered").then_some(told)
    })
    .await;
    assert_eq!((told.len(), bodies.len()), (5, 5));
    let mut sequences: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for event in &told {
        assert_eq!(event.payload.get().as_bytes(), bodies[event.id.as_str()], "{}", event.id);
        let body: Value = serde_json::from_str(event.payload.get()).unwrap();
        assert_eq!(
            (&body["type"], &body["data"]["batch_id"]),
            (&json!(event.r#type), &json!(event.batch_id))
        );
        sequences.entry(&event.batch_id).or_default().push(event.sequence);
    }
    let failed: Vec<_> = told.iter().filter(|event| event.r#type == "message.failed").collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].batch_id, batches[1]);
    assert_eq!((&sequences[&*batches[0]], &sequences[&*batches[1]]), (&vec![1, 2], &vec![1, 2, 3]));
    for id in &batches {
        let last = told.iter().rev().find(|event| event.batch_id == *id).unwrap();
        assert_eq!((&last.id, last.r#type.as_str()), (&event_of(id), "batch.completed"));
    }
    let whole: Vec<_> =
        feed(&scene.client, 1_000).await.into_iter().map(|event| event.id).collect();
    assert_eq!(told.iter().map(|event| event.id.clone()).collect::<Vec<_>>(), whole);
}

async fn what_the_feed_has_told_is_what_is_delivered_later(on: Kind) {
    let (store, provider, receiver) =
        (Backing::start(on).await, Provider::start(), Receiver::start());
    let mut quiet = setup(&store, &provider).role("api").role("worker").start().await;
    let mut wanted = half_named(&receiver);
    wanted["events"] = json!(["message.failed"]);
    let id = accepted(&quiet.client(), &wanted).await;
    quiet.client().wait_until_complete(&id, PATIENCE).await;
    let told = feed(&quiet.client(), 100).await;
    let states: Vec<_> = told.iter().map(|event| event.state.as_str()).collect();
    assert_eq!(states, ["pending", "pending"]);
    quiet.kill();
    // Rendered by now, the links would be others.
    let _notifying =
        setup(&store, &provider).set("server.public_url", "https://sms.example").start().await;
    let deliveries = receiver.wait_for(2, PATIENCE).await;
    for event in &told {
        let [delivery] = ended(&deliveries, &event.id)[..] else { panic!("{}", event.id) };
        assert_eq!(delivery.body, event.payload.get().as_bytes());
    }
    let failure: Value = serde_json::from_str(told[0].payload.get()).unwrap();
    assert_eq!(failure["data"]["message"]["index"], 1);
    assert_eq!(failure["data"]["message"]["error"]["code"], "template_variable_missing");
}

async fn nobody_sees_or_replays_anothers_events(on: Kind) {
    let scene = Scene::start_on_with(on, |setup| {
        setup
            .set("accounts.acme.api_key_hashes", &key_hash("acme's"))
            .set("accounts.zeta.api_key_hashes", &key_hash("zeta's"))
    })
    .await;
    let (acme, zeta) = (scene.client.with_key("acme's"), scene.client.with_key("zeta's"));
    let id = accepted(&acme, &scene.batch(numbers(0..1))).await;
    callback_once(&acme, &id, "delivered").await;
    assert_eq!((listed(&acme, "").await.len(), feed(&acme, 10).await.len()), (1, 1));
    assert_eq!((listed(&zeta, "").await.len(), feed(&zeta, 10).await.len()), (0, 0));
    let after = zeta.get(&format!("/v1/events?after={}", event_of(&id))).await;
    assert_eq!((after.status, after.json()["code"].clone()), (404, json!("not_found")));
    let path = format!("/v1/batches/{id}/callbacks/replay");
    let theirs = zeta.post(&path, &[], "").await;
    assert_eq!((theirs.status, theirs.json()["code"].clone()), (404, json!("not_found")));
    let order = json!({"since": "2020-01-01T00:00:00Z", "state": "delivered"});
    assert_eq!(posted(&zeta, "/v1/callbacks/replay", &order).await.status, 202);
    assert_eq!(posted(&acme, "/v1/callbacks/replay", &order).await.status, 202);
    scene.receiver.wait_for(2, PATIENCE).await;
    callback_once(&acme, &id, "delivered").await;
    assert_eq!(scene.receiver.deliveries().len(), 2);
}

#[tokio::test]
async fn a_replay_that_can_not_be_says_why() {
    let scene = Scene::start_on(Kind::Embedded).await;
    let path = |id: &str| format!("/v1/batches/{id}/callbacks/replay");
    let unknown = scene.client.post(&path("bat_01M8504YGB5C2D44B7XT9Y7P00"), &[], "").await;
    assert_eq!(refusal(&unknown), (404, "not_found".into(), vec![]));
    let silent = accepted(&scene.client, &batch(numbers(0..1))).await;
    scene.client.wait_until_complete(&silent, PATIENCE).await;
    let no_callback = scene.client.post(&path(&silent), &[], "").await;
    assert_eq!(refusal(&no_callback), (422, "no_callback".into(), vec![]));
    scene.provider.set(crate::harness::Mode::Hang);
    let open = scene.post(numbers(0..1)).await;
    let not_over = scene.client.post(&path(&open), &[], "").await;
    assert_eq!(refusal(&not_over), (409, "batch_state".into(), vec![]));
}

#[tokio::test]
async fn every_field_that_is_wrong_has_its_pointer() {
    let scene = Scene::start_on(Kind::Embedded).await;
    let since = "2026-01-01T00:00:00Z";
    for (path, body, pointer, code) in [
        ("replay", json!({}), "/since", "missing"),
        ("replay", json!({"since": 7}), "/since", "wrong_type"),
        ("replay", json!({"since": "soon"}), "/since", "invalid_value"),
        ("replay", json!({"since": since, "state": "pending"}), "/state", "invalid_value"),
        ("replay", json!({"since": since, "host": "http://a"}), "/host", "invalid_value"),
        ("replay", json!({"since": since, "limit": 3}), "/limit", "unknown_field"),
        ("test", json!({}), "/url", "missing"),
        ("test", json!({"url": "http://a.example", "secret": "x"}), "/secret", "invalid_value"),
        (
            "test",
            json!({"url": "http://a.example", "headers": {"Host": "x"}}),
            "/headers/Host",
            "invalid_header",
        ),
        ("test", json!({"url": "http://a.example", "body": "x"}), "/body", "unknown_field"),
    ] {
        let answer = posted(&scene.client, &format!("/v1/callbacks/{path}"), &body).await;
        let expected = vec![(pointer.to_owned(), code.to_owned())];
        assert_eq!(refusal(&answer), (422, "invalid_request".into(), expected), "{body}");
    }
    let url = json!({"url": "http://169.254.169.254/"});
    let answer = posted(&scene.client, "/v1/callbacks/test", &url).await;
    let expected = vec![("/url".to_owned(), "callback_url_forbidden".to_owned())];
    assert_eq!(refusal(&answer), (422, "callback_url_forbidden".into(), expected));
    for (query, pointer, code) in [
        ("callbacks?state=over", "/state", "invalid_value"),
        ("callbacks?host=", "/host", "invalid_value"),
        ("callbacks?cursor=bTow", "/cursor", "invalid_cursor"),
        // That of an event that is not there: `e:evt_01M8504YGB5C2D44B7XT9Y7P00`.
        (
            "callbacks?cursor=ZTpldnRfMDFNODUwNFlHQjVDMkQ0NEI3WFQ5WTdQMDA",
            "/cursor",
            "invalid_cursor",
        ),
        ("callbacks?after=x", "/after", "unknown_parameter"),
        ("events?after=7", "/after", "invalid_value"),
        ("events?limit=0", "/limit", "out_of_range"),
        ("events?state=gone", "/state", "unknown_parameter"),
    ] {
        let answer = scene.client.get(&format!("/v1/{query}")).await;
        let (status, _, errors) = refusal(&answer);
        assert_eq!((status, errors), (422, vec![(pointer.to_owned(), code.to_owned())]), "{query}");
    }
    let gone = scene.client.get("/v1/events?after=evt_01M8504YGB5C2D44B7XT9Y7P00").await;
    assert_eq!(refusal(&gone), (404, "not_found".into(), vec![]));
    assert!(gone.text.contains("begin without `after`"), "{}", gone.text);
}

#[tokio::test]
async fn a_small_body_is_json_and_small() {
    let scene = Scene::start_on(Kind::Embedded).await;
    for path in ["/v1/callbacks/replay", "/v1/callbacks/test"] {
        let none = scene.client.post(path, &[], "{").await;
        assert_eq!(refusal(&none), (400, "invalid_json".into(), vec![]));
        let plain = scene.client.post(path, &[("content-type", "text/plain")], "{}").await;
        assert_eq!(refusal(&plain), (415, "unsupported_media_type".into(), vec![]));
        let long = scene.client.post(path, &[], " ".repeat(65 * 1024)).await;
        assert_eq!(refusal(&long), (413, "body_too_large".into(), vec![]));
    }
}

#[tokio::test]
async fn a_receiver_can_be_tried_out() {
    let scene = Scene::start_on(Kind::Embedded).await;
    let receiver = Receiver::scripted([Reply::Status(200), Reply::Status(401)]);
    let mut test = json!({"url": receiver.url(), "headers": {"X-Token": "hush"}});
    let answer = posted(&scene.client, "/v1/callbacks/test", &test).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let tested = answer.json();
    assert_eq!((&tested["delivered"], &tested["status"]), (&json!(true), &json!(200)));
    assert!(tested["error"].is_null() && tested["latency_ms"].is_u64());
    assert!(receiver.url().contains(tested["url_host"].as_str().unwrap()));
    test["secret"] = OTHER_SECRET.into();
    let refused = posted(&scene.client, "/v1/callbacks/test", &test).await.json();
    assert_eq!((&refused["delivered"], &refused["status"]), (&json!(false), &json!(401)));
    assert_eq!(refused["error"], "the receiver answered 401");
    let [first, second] = receiver.deliveries().try_into().unwrap();
    first.verify(SECRET);
    second.verify(OTHER_SECRET);
    assert_eq!((first.header("x-token"), &first.json()["type"]), ("hush", &json!("webhook.ping")));
    assert_ne!(first.header("webhook-id"), second.header("webhook-id"));
    assert!(listed(&scene.client, "").await.is_empty(), "nothing of it is kept");
    assert!(!scene.ringback.log().contains("hush"));
}

#[tokio::test]
async fn only_so_many_receivers_are_tried_out_at_once() {
    let scene = Scene::start_on(Kind::Embedded).await;
    let silent = Receiver::scripted([Reply::Hang; 8]);
    let test = json!({"url": silent.url()});
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let (client, test) = (scene.client.clone(), test.clone());
            tokio::spawn(async move { posted(&client, "/v1/callbacks/test", &test).await })
        })
        .collect();
    silent.wait_for(8, PATIENCE).await;
    let ninth = posted(&scene.client, "/v1/callbacks/test", &test).await;
    assert_eq!((refusal(&ninth).1.as_str(), ninth.header("retry-after")), ("busy", "1"));
    assert_eq!(ninth.status, 503);
    // Who goes away makes room.
    for task in waiting {
        task.abort();
    }
    eventually("room for another one", PATIENCE, async || {
        let answer = posted(&scene.client, "/v1/callbacks/test", &test).await;
        (answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_callback_proves_who_it_is_and_the_proof_is_shown_nowhere() {
    let scene = Scene::start_on(Kind::Embedded).await;
    let mut batch = scene.batch(numbers(0..1));
    batch["callback_auth"] = json!({"type": "basic", "username": "ann", "password": "hush"});
    batch["callback_secret"] = OTHER_SECRET.into();
    batch["events"] = json!(["batch.progress"]);
    batch["progress_every"] = "50%".into();
    let id = accepted(&scene.client, &batch).await;
    callback_once(&scene.client, &id, "delivered").await;
    let deliveries = scene.receiver.deliveries();
    let [delivery] = ended(&deliveries, &event_of(&id))[..] else { panic!("{deliveries:?}") };
    delivery.verify(OTHER_SECRET);
    assert_eq!(delivery.header("authorization"), "Basic YW5uOmh1c2g=");
    let secrets = ["YW5uOmh1c2g=", "hush", OTHER_SECRET];
    for path in ["", "/callbacks"] {
        let shown = scene.client.get(&format!("/v1/batches/{id}{path}")).await.text;
        assert!(!secrets.iter().any(|secret| shown.contains(secret)), "{shown}");
    }
    let log = scene.ringback.log();
    assert!(!secrets.iter().any(|secret| log.contains(secret)), "{log}");
}
