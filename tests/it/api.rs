//! The HTTP API at its edges: who may ask, what is refused and how, and what it tells of itself.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    harness::{
        Answer, Client, Kind, PATIENCE, Provider, Redis, command, eventually, on_each_store,
    },
    scene::{
        Scene, accepted, batch, counts, messages, number, numbers, setup, shown, shown_when, these,
        wish,
    },
};

on_each_store! {
    nothing_crosses_accounts
    a_request_under_one_key_is_one_batch
    a_refused_request_leaves_its_key_free
    a_body_that_breaks_off_leaves_nothing
    batches_are_listed_newest_first_page_by_page
    the_metrics_tell_what_happened
    a_batch_is_shown_as_it_was_given
    a_batch_that_is_over_is_erased_on_request
}

/// Every path that is in the document, and the methods of each.
const PATHS: [(&str, &[&str]); 28] = [
    ("/.well-known/webhook-keys", &["get"]),
    ("/healthz", &["get"]),
    ("/metrics", &["get"]),
    ("/openapi.json", &["get"]),
    ("/readyz", &["get"]),
    ("/v1/batches", &["get", "post"]),
    ("/v1/batches/{id}", &["delete", "get", "patch"]),
    ("/v1/batches/{id}/callbacks", &["get"]),
    ("/v1/batches/{id}/callbacks/replay", &["post"]),
    ("/v1/batches/{id}/cancel", &["post"]),
    ("/v1/batches/{id}/events", &["get"]),
    ("/v1/batches/{id}/messages", &["get"]),
    ("/v1/batches/{id}/messages/{index}", &["get"]),
    ("/v1/batches/{id}/pause", &["post"]),
    ("/v1/batches/{id}/resume", &["post"]),
    ("/v1/batches/{id}/retry", &["post"]),
    ("/v1/callbacks", &["get"]),
    ("/v1/callbacks/replay", &["post"]),
    ("/v1/callbacks/test", &["post"]),
    ("/v1/estimate", &["post"]),
    ("/v1/events", &["get"]),
    ("/v1/inbound/{provider}", &["post"]),
    ("/v1/providers", &["get"]),
    ("/v1/providers/{name}/pause", &["post"]),
    ("/v1/providers/{name}/resume", &["post"]),
    ("/v1/receipts/{provider}", &["post"]),
    ("/v1/suppressions", &["get", "post"]),
    ("/v1/suppressions/{number}", &["delete", "get"]),
];

/// A refusal is a problem with a code and a sentence; gives it.
fn problem(answer: &Answer) -> Value {
    assert_eq!(answer.header("content-type"), "application/problem+json", "{}", answer.text);
    let problem = answer.json();
    assert_eq!(problem["status"], answer.status);
    assert_eq!(problem["type"], "about:blank");
    for text in ["code", "title", "detail"] {
        assert!(!problem[text].as_str().unwrap().is_empty(), "{text} in {problem}");
    }
    problem
}

/// Pointer and code of each field error.
fn errors(problem: &Value) -> Vec<(String, String)> {
    let errors = problem["errors"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    errors.map(|error| (text(&error["pointer"]), text(&error["code"]))).collect()
}

/// A new API key as the command line makes it: the key, and its hash for the configuration.
pub(crate) fn new_key(account: &str) -> (String, String) {
    let output = command().args(["key", "new", account]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let word = |prefix: &str| {
        let rest = &text[text.find(prefix).unwrap()..];
        rest[..rest.find(['\n', '"']).unwrap()].to_owned()
    };
    (word("rbk_"), word("sha256:"))
}

async fn listed(client: &Client, query: &str) -> Value {
    let answer = client.get(&format!("/v1/batches{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

fn ids(list: &Value) -> Vec<String> {
    let batches = list["batches"].as_array().unwrap().iter();
    batches.map(|batch| batch["id"].as_str().unwrap().to_owned()).collect()
}

async fn nothing_crosses_accounts(on: Kind) {
    let (acme, zeta) = (new_key("acme"), new_key("zeta"));
    let scene = Scene::start_on_with(on, |setup| {
        setup
            .set("accounts.acme.api_key_hashes", &acme.1)
            .set("accounts.zeta.api_key_hashes", &zeta.1)
            .set("providers.carrier.rate", "20/s")
    })
    .await;
    let (acme, zeta) = (scene.client.with_key(&acme.0), scene.client.with_key(&zeta.0));
    let posted = acme.post_batch_once("same", &batch(numbers(0..100))).await;
    assert_eq!(posted.status, 202, "{}", posted.text);
    let id = posted.batch_id();
    let nowhere = "bat_01M8504YGB5C2D44B7XT9Y7P00";
    for path in ["", "/messages", "/messages/0", "/callbacks"] {
        assert_eq!(acme.get(&format!("/v1/batches/{id}{path}")).await.status, 200, "{path}");
        let theirs = zeta.get(&format!("/v1/batches/{id}{path}")).await;
        assert_eq!(
            (theirs.status, &problem(&theirs)["code"]),
            (404, &json!("not_found")),
            "{path}"
        );
        // What is another's reads as what is not there at all.
        assert_eq!(theirs.text, zeta.get(&format!("/v1/batches/{nowhere}{path}")).await.text);
    }
    for word in ["cancel", "pause", "resume"] {
        let theirs = zeta.post(&format!("/v1/batches/{id}/{word}"), &[], "").await;
        assert_eq!(
            (theirs.status, &problem(&theirs)["code"]),
            (404, &json!("not_found")),
            "{word}"
        );
    }
    assert_eq!(ids(&listed(&zeta, "").await), [""; 0]);
    assert_eq!(ids(&listed(&acme, "").await), [id.as_str()]);
    let cursor = listed(&acme, "?limit=1").await["next_cursor"].clone();
    if let Some(cursor) = cursor.as_str() {
        assert_eq!(ids(&listed(&zeta, &format!("?cursor={cursor}")).await), [""; 0]);
    }
    // The same idempotency key is another one in another account.
    let own = zeta.post_batch_once("same", &batch(numbers(0..1))).await;
    assert_eq!(own.status, 202, "{}", own.text);
    assert_ne!(own.batch_id(), id);
    assert_ne!(shown(&acme, &id).await["state"], "canceled");
    wish(&acme, &id, "cancel").await;
}

#[tokio::test]
async fn only_who_has_a_key_is_let_in() {
    let (key, hash) = new_key("acme");
    let (second, second_hash) = new_key("acme");
    let scene = Scene::start_with(|setup| {
        setup.set("accounts.acme.api_key_hashes", &format!("{hash},{second_hash}"))
    })
    .await;
    let open = &scene.client;
    let wrong = [key[..key.len() - 1].to_owned(), format!("{key}x"), hash, String::new()];
    let mut refused =
        vec![open.get("/v1/batches").await, open.post_batch(&batch(numbers(0..1))).await];
    refused.push(open.get("/v1/callbacks").await);
    refused.push(open.get("/v1/providers").await);
    for key in &wrong {
        refused.push(open.with_key(key).get("/v1/batches").await);
        refused.push(open.with_key(key).post_batch(&batch(numbers(0..1))).await);
    }
    for answer in &refused {
        assert_eq!((answer.status, &problem(answer)["code"]), (401, &json!("unauthorized")));
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json"] {
        assert_eq!(open.get(path).await.status, 200, "{path}");
    }
    let id = accepted(&open.with_key(&key), &batch(numbers(0..1))).await;
    open.with_key(&second).wait_until_complete(&id, PATIENCE).await;
    assert_eq!(scene.provider.count(), 1);
    let log = scene.ringback.log();
    assert!(!log.contains(&key) && !log.contains(&second), "a key is in the log");
}

async fn a_request_under_one_key_is_one_batch(on: Kind) {
    let scene = Scene::start_on(on).await;
    let batch = batch(numbers(0..100));
    let answers =
        futures_util::future::join_all((0..12).map(|_| scene.client.post_batch_once("k1", &batch)))
            .await;
    let first: Vec<_> = answers.iter().filter(|answer| answer.status == 202).collect();
    assert_eq!(first.len(), 1, "{:?}", answers.iter().map(|a| a.status).collect::<Vec<_>>());
    let id = first[0].batch_id();
    for answer in &answers {
        match answer.status {
            202 => assert_eq!(answer.header("idempotent-replayed"), ""),
            200 => assert_eq!(
                (answer.batch_id(), answer.header("idempotent-replayed")),
                (id.clone(), "true")
            ),
            _ => {
                assert_eq!((answer.status, answer.header("retry-after")), (409, "1"));
                assert_eq!(problem(answer)["code"], "idempotency_in_progress");
            }
        }
    }
    let complete = scene.client.wait_until_complete(&id, PATIENCE).await;
    let again = scene.client.post_batch_once("k1", &batch).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (200, "true"));
    assert_eq!(again.header("location"), format!("/v1/batches/{id}"));
    assert_eq!(again.json(), complete);
    let other = scene.client.post_batch_once("k1", &crate::scene::batch(numbers(0..99))).await;
    assert_eq!((other.status, &problem(&other)["code"]), (422, &json!("idempotency_key_reused")));
    assert_eq!(ids(&listed(&scene.client, "").await), [id]);
    assert_eq!(scene.provider.count(), 100);
    for key in ["", "two words", &"x".repeat(256)] {
        let refused = scene.client.post_batch_once(key, &batch).await;
        assert_eq!(
            (refused.status, &problem(&refused)["code"]),
            (422, &json!("idempotency_key_invalid"))
        );
    }
}

async fn a_refused_request_leaves_its_key_free(on: Kind) {
    let scene = Scene::start_on(on).await;
    let refused = scene.client.post_batch_once("k1", &json!({"recipients": []})).await;
    assert_eq!(refused.status, 422);
    let answer = scene.client.post_batch_once("k1", &batch(numbers(0..1))).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
}

#[tokio::test]
async fn a_client_can_have_a_batch_with_invalid_numbers_refused() {
    let scene = Scene::start().await;
    let mut recipients = numbers(0..300);
    (0..300).filter(|index| index % 2 == 1).for_each(|index| recipients[index] = "nobody".into());
    let mut batch = batch(recipients);
    batch["on_invalid"] = "reject_batch".into();
    let refused = scene.client.post_batch(&batch).await;
    let problem = problem(&refused);
    assert_eq!((refused.status, &problem["code"]), (422, &json!("invalid_recipients")));
    assert_eq!(problem["invalid_count"], 150);
    let expected: Vec<_> = (0..100)
        .map(|nth| (format!("/recipients/{}", 2 * nth + 1), "invalid_number".to_owned()))
        .collect();
    assert_eq!(errors(&problem), expected);
    assert_eq!(ids(&listed(&scene.client, "").await), [""; 0]);
    batch["recipients"] = json!(numbers(0..3));
    let id = accepted(&scene.client, &batch).await;
    scene.client.wait_until_complete(&id, PATIENCE).await;
    assert_eq!(scene.provider.count(), 3);
}

#[tokio::test]
async fn everything_that_is_wrong_is_told_at_once() {
    let scene = Scene::start().await;
    let wrong = json!({
        "body": 5,
        "from": "with blanks",
        "recipients": [
            number(0), 5, null, [], {"to": 7}, {}, {"to": number(1), "colour": "red"},
            {"to": number(2), "variables": {"a b": 1, "c": []}, "reference": "r".repeat(257)}
        ],
        "variables": {"x": null},
        "callback_url": 1,
        "callback_headers": {"Host": "x", "X-A": "line\r\nbreak", "webhook-id": "x", "Content-Type": "x"},
        "provider": "nobody",
        "reference": "r".repeat(257),
        "metadata": {"long": "m".repeat(4_100)},
        "on_invalid": "shrug",
        "send_at": "2099-01-01T00:00:00Z",
        "expire_at": "2099-01-01T00:00:00Z",
        "priority": "urgent",
        "delivery_guarantee": "exactly_once",
        "colour/~": "red"
    });
    let refused = scene.client.post_batch(&wrong).await;
    let problem = problem(&refused);
    assert_eq!((refused.status, &problem["code"]), (422, &json!("invalid_request")));
    let found: BTreeSet<_> = errors(&problem).into_iter().collect();
    let expected = [
        ("/body", "wrong_type"),
        ("/from", "invalid_value"),
        ("/recipients/1", "wrong_type"),
        ("/recipients/2", "wrong_type"),
        ("/recipients/3", "wrong_type"),
        ("/recipients/4/to", "wrong_type"),
        ("/recipients/5/to", "missing"),
        ("/recipients/6/colour", "unknown_field"),
        ("/recipients/7/variables/a b", "invalid_name"),
        ("/recipients/7/variables/c", "wrong_type"),
        ("/recipients/7/reference", "too_long"),
        ("/variables/x", "wrong_type"),
        ("/callback_url", "wrong_type"),
        ("/callback_headers/Host", "invalid_header"),
        ("/callback_headers/X-A", "invalid_header"),
        ("/callback_headers/webhook-id", "invalid_header"),
        ("/callback_headers/Content-Type", "invalid_header"),
        ("/provider", "unknown_provider"),
        ("/reference", "too_long"),
        ("/metadata", "too_long"),
        ("/on_invalid", "invalid_value"),
        ("/send_at", "out_of_range"),
        ("/expire_at", "out_of_range"),
        ("/priority", "invalid_value"),
        ("/delivery_guarantee", "invalid_value"),
        ("/colour~1~0", "unknown_field"),
    ];
    let expected: BTreeSet<_> =
        expected.map(|(pointer, code)| (pointer.to_owned(), code.to_owned())).into();
    let missing: Vec<_> = expected.difference(&found).collect();
    let beside: Vec<_> = found.difference(&expected).collect();
    assert!(missing.is_empty() && beside.is_empty(), "missing {missing:?}, beside {beside:?}");
    // Of very many, a hundred are told.
    let many = scene.client.post_batch(&json!({"body": "x", "recipients": vec![5; 500]})).await;
    assert_eq!((many.status, errors(&self::problem(&many)).len()), (422, 100));
    let none = scene.client.post_batch(&json!({})).await;
    let missing = |field: &str| (format!("/{field}"), "missing".to_owned());
    assert_eq!(errors(&self::problem(&none)), [missing("body"), missing("recipients")]);
    assert_eq!(ids(&listed(&scene.client, "").await), [""; 0]);
}

/// Bodies that must be refused with 400 for being no JSON.
fn no_json() -> Vec<Vec<u8>> {
    let batch = batch(numbers(0..1)).to_string();
    let mut bodies: Vec<Vec<u8>> = [
        "",
        " ",
        "{",
        "nul",
        "{\"body\": NaN}",
        "{\"body\": Infinity}",
        "{'body': 'x'}",
        "{\"body\": \"x\",}",
        "{\"body\": \"a\nb\"}",
        "{\"body\": \"\\x\"}",
        "{\"body\": 01}",
        "// x\n{}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    bodies.push(format!("\u{feff}{batch}").into_bytes());
    bodies.push(format!("{batch} x").into_bytes());
    bodies.push(format!("{batch}{batch}").into_bytes());
    bodies.push(format!("{batch}\0").into_bytes());
    bodies.push(batch.encode_utf16().flat_map(u16::to_le_bytes).collect());
    for place in
        ["{\"body\": \"\u{1}", "{\"\u{1}", "{\"body\": \"x\", \"metadata\": {\"a\": \"\u{1}"]
    {
        let mut body = place.as_bytes().to_vec();
        // Bytes that are no UTF-8: alone, cut short, overlong, a surrogate, too large.
        for wrong in [&b"\xff"[..], b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"] {
            body.truncate(place.len() - 1);
            body.extend_from_slice(wrong);
            body.extend_from_slice(b"\"}");
            bodies.push(body.clone());
        }
    }
    bodies.push("[".repeat(100_000).into_bytes());
    bodies.push("{\"a\":".repeat(100_000).into_bytes());
    bodies
}

/// Bodies that are JSON and must be refused with 422, and where the fault is; the batch around it
/// is sound.
fn unfit() -> Vec<(String, &'static str)> {
    let with = |members: &str| {
        format!("{{\"body\": \"Hi\", \"recipients\": [\"{}\"], {members}}}", number(0))
    };
    let to = |recipient: &str| format!("{{\"body\": \"Hi\", \"recipients\": [{recipient}]}}");
    let saying = |body: &str| format!("{{\"body\": {body}, \"recipients\": []}}");
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let object = |members: &str| format!("{{\"to\": \"{}\", {members}}}", number(0));
    vec![
        ("null".into(), ""),
        ("5".into(), ""),
        ("\"x\"".into(), ""),
        ("[]".into(), ""),
        ("true".into(), ""),
        (saying("1"), "/body"),
        (saying("null"), "/body"),
        (saying("\"\""), "/body"),
        (saying("\"{{name\""), "/body"),
        (saying("\"{{no name}}\""), "/body"),
        (saying("\"a\\u0000b\""), "/body"),
        (saying("\"\\ud800\""), "/body"),
        (saying("\"\\udc00\\ud800\""), "/body"),
        (with("\"body\": \"Ho\""), "/body"),
        (with("\"recipients\": []"), "/recipients"),
        (saying("\"Hi\"").replace("[]", "{}"), "/recipients"),
        (saying("\"Hi\"").replace("[]", "\"x\""), "/recipients"),
        (with("\"variables\": {\"x\": 1e400}"), "/variables/x"),
        (with("\"variables\": {\"x\": -1e400}"), "/variables/x"),
        (with("\"variables\": {\"x\": 1, \"x\": 1}"), "/variables/x"),
        (with("\"variables\": {\"x\": \"\\ud83d\"}"), "/variables/x"),
        (with("\"variables\": {\"x\": \"\\u0000\"}"), "/variables/x"),
        (with("\"variables\": {\"x\": {}}"), "/variables/x"),
        (with("\"variables\": []"), "/variables"),
        (with("\"metadata\": {\"a\": 1, \"a\": 2}"), "/metadata/a"),
        (with("\"metadata\": {\"a\": [{\"b\": 1e999}]}"), "/metadata/a/0/b"),
        (with("\"metadata\": {\"a\": \"\\ud800\"}"), "/metadata/a"),
        (with("\"metadata\": {\"\\ud800\": 1}"), "/metadata"),
        (with("\"metadata\": \"\\u0000\""), "/metadata"),
        (with(&format!("\"metadata\": {}", deep(1_000))), "/metadata"),
        (with("\"reference\": \"a\\u0000\""), "/reference"),
        (with("\"reference\": 7"), "/reference"),
        (with("\"callback_headers\": {\"X-A\": \"\\n\"}"), "/callback_headers/X-A"),
        (to("\"+1\\u0000\""), "/recipients/0"),
        (to("5"), "/recipients/0"),
        (to("[]"), "/recipients/0"),
        (to(&deep(100)), "/recipients/0"),
        (to(&object("\"to\": \"+15551230001\"")), "/recipients/0/to"),
        (to(&object("\"variables\": {\"x\": 1, \"x\": 2}")), "/recipients/0/variables/x"),
        (to(&object("\"variables\": {\"x\": \"\\udfff\"}")), "/recipients/0/variables/x"),
        (to(&object("\"reference\": \"\\u0000\"")), "/recipients/0/reference"),
        (to(&object("\"colour\": 1")), "/recipients/0/colour"),
    ]
}

#[tokio::test]
async fn what_is_no_json_or_no_batch_is_refused_and_never_an_accident() {
    let scene = Scene::start().await;
    for body in no_json() {
        let answer = scene.client.post("/v1/batches", &[], body.clone()).await;
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        assert_eq!(answer.status, 400, "{shown:?}: {}", answer.text);
        assert_eq!(problem(&answer)["code"], "invalid_json", "{shown:?}");
    }
    for (body, pointer) in unfit() {
        let answer = scene.client.post("/v1/batches", &[], body.clone()).await;
        let shown = &body[..body.len().min(120)];
        assert_eq!(answer.status, 422, "{shown}: {}", answer.text);
        let problem = problem(&answer);
        let errors = errors(&problem);
        let deepest = errors
            .iter()
            .find(|(at, _)| *at == pointer || (pointer == "/metadata" && at.starts_with(pointer)));
        assert!(deepest.is_some(), "{shown}: {problem}");
    }
    // Keys that nothing knows.
    let odd = ["\\ud800", "\\u0000", "a\\u202e"];
    for name in odd {
        let body = format!("{{\"body\": \"x\", \"recipients\": [], \"{name}\": 1}}");
        let answer = scene.client.post("/v1/batches", &[], body).await;
        assert!([400, 422].contains(&answer.status), "{name}: {}", answer.text);
        problem(&answer);
    }
    let nested = format!("{{\"x\": {}}}", "[".repeat(200) + &"]".repeat(200));
    let answer = scene.client.post("/v1/batches", &[], nested).await;
    assert!([400, 422].contains(&answer.status), "{}", answer.text);
    assert_eq!(ids(&listed(&scene.client, "").await), [""; 0]);
    assert_eq!(scene.provider.count(), 0);
    assert!(!scene.ringback.log().contains("panicked"));
}

#[tokio::test]
async fn text_goes_through_byte_for_byte() {
    let scene = Scene::start().await;
    let text =
        "a\u{1}\u{7f}\t\n\u{202e}\u{2066}\u{200d}\u{feff}👩\u{200d}👧 é e\u{301} \u{10ffff}<b>";
    let mut batch = scene.batch(json!([
        {"to": number(0), "reference": text, "variables": {"v": text}}
    ]));
    batch["body"] = format!("{text}|{{{{v}}}}").into();
    batch["reference"] = text.into();
    batch["metadata"] = json!({text: [text]});
    let id = accepted(&scene.client, &batch).await;
    let complete = scene.report(&id).await;
    assert_eq!(scene.provider.calls()[0].body, format!("{text}|{text}"));
    assert_eq!(
        (&complete["reference"], &complete["metadata"]),
        (&json!(text), &json!({text: [text]}))
    );
    assert_eq!(messages(&scene.client, &id).await[0]["reference"], text);
    let query: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    assert_eq!(ids(&listed(&scene.client, &format!("?reference={query}")).await), [id]);
    let log = scene.ringback.log();
    assert!(!log.contains('\u{202e}') && !log.contains('\u{1}'), "raw text in the log");
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_and_its_sender_told() {
    const LIMIT: usize = 64 * 1024;
    let scene = Scene::start_with(|setup| setup.set("server.body_bytes_max", "64KiB")).await;
    let batch = batch(numbers(0..1)).to_string();
    let padded = |length: usize| format!("{batch}{}", " ".repeat(length - batch.len()));
    assert_eq!(scene.client.post("/v1/batches", &[], padded(LIMIT)).await.status, 202);
    let refused = scene.client.post("/v1/batches", &[], padded(LIMIT + 1)).await;
    assert_eq!((refused.status, &problem(&refused)["code"]), (413, &json!("body_too_large")));
    // Without a length: the bytes are counted as they come, and read on for a while.
    let address = scene.ringback.address();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let head = "POST /v1/batches HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
                Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let piece = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    for _ in 0..64 {
        stream.write_all(piece.as_bytes()).await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("application/problem+json") && answer.contains("body_too_large"));
}

async fn a_body_that_breaks_off_leaves_nothing(on: Kind) {
    let scene = Scene::start_on(on).await;
    let address = scene.ringback.address();
    let body = batch(numbers(0..1)).to_string();
    for sent in [0, 1, body.len() - 1] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let head = format!(
            "POST /v1/batches HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
             Idempotency-Key: k1\r\nContent-Length: {}\r\n\r\n{}",
            body.len(),
            &body[..sent]
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        if sent > 0 {
            stream.shutdown().await.unwrap();
        }
    }
    let answer = scene.client.post("/v1/batches", &[("idempotency-key", "k1")], body).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    assert_eq!(ids(&listed(&scene.client, "").await), [answer.batch_id()]);
}

#[tokio::test]
async fn other_media_types_are_told_what_is_taken() {
    let scene = Scene::start().await;
    let body = batch(numbers(0..1)).to_string();
    let refused = [
        ("content-type", "text/plain", 415, "unsupported_media_type"),
        ("content-type", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        ("content-type", "text/csv", 422, "invalid_request"),
        ("content-encoding", "br", 415, "unsupported_encoding"),
        ("content-encoding", "identity, br", 415, "unsupported_encoding"),
    ];
    for (name, value, status, code) in refused {
        let answer = scene.client.post("/v1/batches", &[(name, value)], body.clone()).await;
        assert_eq!((answer.status, &problem(&answer)["code"]), (status, &json!(code)), "{value}");
    }
    let json = [("content-type", "Application/JSON; charset=utf-8")];
    assert_eq!(scene.client.post("/v1/batches", &json, body).await.status, 202);
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_too() {
    let scene = Scene::start().await;
    let id = accepted(&scene.client, &batch(numbers(0..1))).await;
    let client = &scene.client;
    for path in
        ["/v1", "/v1/batch", "/v2/batches", "/v1/batches/", "/favicon.ico", "/v1/batches/x/y/z"]
    {
        let answer = client.get(path).await;
        assert_eq!(
            (answer.status, &problem(&answer)["code"]),
            (404, &json!("not_found")),
            "{path}"
        );
    }
    for wrong in [
        "x",
        "bat_",
        "evt_01M8504YGB5C2D44B7XT9Y7P00",
        "bat_01M8504YGB5C2D44B7XT9Y7P0",
        "%00",
        "..%2f",
        "bat_é",
    ] {
        let answer = client.get(&format!("/v1/batches/{wrong}")).await;
        assert_eq!(
            (answer.status, &problem(&answer)["code"]),
            (404, &json!("not_found")),
            "{wrong}"
        );
    }
    for path in
        ["/healthz".to_owned(), format!("/v1/batches/{id}"), format!("/v1/batches/{id}/messages")]
    {
        let answer = client.post(&path, &[], "").await;
        assert_eq!(
            (answer.status, &problem(&answer)["code"]),
            (405, &json!("method_not_allowed")),
            "{path}"
        );
        assert_ne!(answer.header("allow"), "", "{path}");
    }
    let answer = client.get(&format!("/v1/batches/{id}/cancel")).await;
    assert_eq!((answer.status, answer.header("allow")), (405, "POST"));
}

#[tokio::test]
async fn a_query_is_understood_or_refused() {
    let scene = Scene::start().await;
    let id = accepted(&scene.client, &batch(numbers(0..1))).await;
    let refused = [
        ("/v1/batches?offset=3".to_owned(), "/offset", "unknown_parameter"),
        (format!("/v1/batches/{id}?verbose"), "/verbose", "unknown_parameter"),
        (format!("/v1/batches/{id}/messages?to=x"), "/to", "unknown_parameter"),
        (format!("/v1/batches/{id}/callbacks?limit=1"), "/limit", "unknown_parameter"),
        ("/v1/batches?limit=1&limit=2".to_owned(), "/limit", "duplicate_parameter"),
        ("/v1/batches?limit=0".to_owned(), "/limit", "out_of_range"),
        ("/v1/batches?limit=1001".to_owned(), "/limit", "out_of_range"),
        ("/v1/batches?limit=%C3%28".to_owned(), "/limit", "out_of_range"),
        ("/v1/batches?state=Running".to_owned(), "/state", "invalid_value"),
        ("/v1/batches?cursor=x".to_owned(), "/cursor", "invalid_cursor"),
        // A cursor of another list: that of messages.
        ("/v1/batches?cursor=bTow".to_owned(), "/cursor", "invalid_cursor"),
        (format!("/v1/batches/{id}/messages?wait=30s"), "/wait", "unknown_parameter"),
    ];
    for (path, pointer, code) in refused {
        let answer = scene.client.get(&path).await;
        assert_eq!(answer.status, 422, "{path}: {}", answer.text);
        assert_eq!(errors(&problem(&answer)), [(pointer.to_owned(), code.to_owned())], "{path}");
    }
    let answer = scene.client.post(&format!("/v1/batches/{id}/cancel?force=1"), &[], "").await;
    assert_eq!(answer.status, 422, "{}", answer.text);
}

#[tokio::test]
async fn what_is_not_built_yet_says_so() {
    let scene = Scene::start().await;
    let client = &scene.client;
    for path in ["/", "/docs"] {
        let answer = client.get(path).await;
        assert_eq!(
            (answer.status, &problem(&answer)["code"]),
            (422, &json!("not_supported")),
            "{path}"
        );
    }
}

async fn batches_are_listed_newest_first_page_by_page(on: Kind) {
    let scene = Scene::start_on(on).await;
    let mut posted = Vec::new();
    for nth in 0..5 {
        let mut batch = batch(numbers(0..1));
        batch["reference"] = if nth % 2 == 0 { "even" } else { "odd" }.into();
        let id = accepted(&scene.client, &batch).await;
        scene.client.wait_until_complete(&id, PATIENCE).await;
        posted.insert(0, id);
    }
    let (mut seen, mut sizes, mut query) = (Vec::new(), Vec::new(), "?limit=2".to_owned());
    loop {
        let page = listed(&scene.client, &query).await;
        let ids = ids(&page);
        sizes.push(ids.len());
        seen.extend(ids);
        let Some(next) = page["next_cursor"].as_str() else { break };
        query = format!("?limit=2&cursor={next}");
    }
    assert_eq!((seen.as_slice(), sizes.as_slice()), (posted.as_slice(), &[2, 2, 1][..]));
    let odd = [posted[1].clone(), posted[3].clone()];
    assert_eq!(ids(&listed(&scene.client, "?reference=odd").await), odd);
    assert_eq!(ids(&listed(&scene.client, "?reference=odd&state=completed").await), odd);
    assert_eq!(ids(&listed(&scene.client, "?state=running").await), [""; 0]);
    let listed_first = listed(&scene.client, "?limit=1").await["batches"][0].clone();
    assert_eq!(listed_first, shown(&scene.client, &posted[0]).await);
}

#[tokio::test]
async fn readiness_follows_the_store() {
    let mut scene = Scene::start().await;
    let ready = scene.client.get("/readyz").await;
    assert_eq!((ready.status, ready.json()), (200, json!({"status": "ok"})));
    scene.store.redis().kill();
    let answer = scene.client.get("/readyz").await;
    assert_eq!((answer.status, &problem(&answer)["code"]), (503, &json!("not_ready")));
    let answer = scene.client.post_batch(&batch(numbers(0..1))).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
    assert_eq!(problem(&answer)["code"], "store_unavailable");
    assert_eq!(scene.client.get("/healthz").await.status, 200);
    let metrics = scene.client.get("/metrics").await;
    assert!(metrics.status == 200 && metrics.text.contains("ringback_store_up 0"));
    scene.store.redis().restart().await;
    eventually("readiness", PATIENCE, async || {
        (scene.client.get("/readyz").await.status == 200).then_some(())
    })
    .await;
    let id = scene.post(numbers(0..10)).await;
    assert_eq!(counts(&scene.report(&id).await), these([("sent", 10)]));
}

async fn the_metrics_tell_what_happened(on: Kind) {
    let scene = Scene::start_on(on).await;
    let mut recipients = numbers(0..40);
    recipients.push("nobody".into());
    let id = scene.post(recipients).await;
    scene.report(&id).await;
    // This process's own figures come a moment after what they count.
    let own = [
        "ringback_process_callback_attempt_seconds_count 1",
        "ringback_process_messages_settled_total 40",
    ];
    let metrics = eventually("the last figures", PATIENCE, async || {
        let answer = scene.client.get("/metrics").await;
        assert!(answer.header("content-type").starts_with("application/openmetrics-text"));
        own.iter().all(|line| answer.text.contains(line)).then_some(answer.text)
    })
    .await;
    assert!(metrics.ends_with("# EOF\n"));
    let expected = [
        "ringback_store_up 1",
        r#"ringback_messages{provider="carrier",state="queued"} 0"#,
        r#"ringback_messages{provider="carrier",state="sending"} 0"#,
        r#"ringback_messages_ended_total{provider="carrier",state="sent"} 40"#,
        r#"ringback_messages_ended_total{provider="carrier",state="failed"} 1"#,
        r#"ringback_oldest_queued_age_seconds{provider="carrier"} 0.0"#,
        r#"ringback_provider_paused_seconds{provider="carrier"} 0.0"#,
        "ringback_callbacks_pending 0",
        r#"ringback_callbacks_ended_total{state="delivered"} 1"#,
        "ringback_leases_lost_total 0",
        "ringback_process_late_outcomes_refused_total 0",
        "ringback_process_panics_contained_total 0",
    ];
    for line in expected {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn the_metrics_tell_what_waits() {
    let redis = Redis::start().await;
    let provider = Provider::start();
    let ringback = setup(&redis, &provider).role("api").start().await;
    let client = ringback.client();
    let id = accepted(&client, &batch(numbers(0..30))).await;
    let metrics = eventually("an age", PATIENCE, async || {
        let text = client.get("/metrics").await.text;
        let age = "ringback_oldest_queued_age_seconds{provider=\"carrier\"} ";
        let line = text.lines().find_map(|line| line.strip_prefix(age)).unwrap();
        (line.parse::<f64>().unwrap() > 0.0).then_some(text)
    })
    .await;
    assert!(
        metrics.contains("ringback_messages{provider=\"carrier\",state=\"queued\"} 30"),
        "{metrics}"
    );
    let worker = setup(&redis, &provider).role("worker").start().await;
    client.wait_until_complete(&id, PATIENCE).await;
    // A process without the API answers for itself.
    let own = eventually("its figures", PATIENCE, async || {
        let text = worker.health().get("/metrics").await.text;
        text.contains("ringback_process_messages_settled_total 30").then_some(text)
    })
    .await;
    assert!(own.contains("ringback_store_up 1"));
    assert!(ringback.client().get("/metrics").await.text.contains("settled_total 0"));
}

#[tokio::test]
async fn the_published_document_lists_every_path() {
    let scene = Scene::start().await;
    let answer = scene.client.get("/openapi.json").await;
    assert_eq!(answer.header("content-type"), "application/json");
    let document = answer.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."), "{}", document["openapi"]);
    let paths: Vec<(String, Vec<String>)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(path, item)| (path.clone(), item.as_object().unwrap().keys().cloned().collect()))
        .collect();
    let mut found: Vec<_> = paths.clone();
    found.sort();
    let expected = PATHS.map(|(path, methods)| {
        (path.to_owned(), methods.iter().map(|method| (*method).to_owned()).collect::<Vec<_>>())
    });
    assert_eq!(found, expected);
    // What it lists is there.
    let id = accepted(&scene.client, &batch(numbers(0..1))).await;
    for (path, methods) in &paths {
        let path = path.replace("{id}", &id).replace("{index}", "0");
        if methods.iter().any(|method| method == "get") && !path.contains('{') {
            assert_eq!(scene.client.get(&path).await.status, 200, "{path}");
        }
    }
    let statuses = document["paths"]["/v1/batches"]["post"]["responses"].as_object().unwrap();
    for status in ["202", "200", "400", "401", "409", "413", "415", "422", "503"] {
        assert!(statuses.contains_key(status), "{status}");
    }
}

async fn a_batch_is_shown_as_it_was_given(on: Kind) {
    let scene = Scene::start_on(on).await;
    let mut batch = scene.batch(numbers(0..2));
    batch["reference"] = "spring".into();
    batch["callback_headers"] = json!({"Authorization": "Bearer hush"});
    let body = batch.to_string();
    let body = format!("{}, \"metadata\": {{\"b\": 1.10, \"a\": [ ]}}}}", &body[..body.len() - 1]);
    let answer = scene.client.post("/v1/batches", &[], body).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    assert!(answer.text.contains(r#""metadata":{"b": 1.10, "a": [ ]}"#), "{}", answer.text);
    let id = answer.batch_id();
    let complete = scene.report(&id).await;
    assert_eq!(
        (&complete["reference"], &complete["provider"], &complete["callback"]["url"]),
        (&json!("spring"), &json!("carrier"), &json!(scene.receiver.url()))
    );
    let instants = ["created_at", "started_at", "completed_at"]
        .map(|field| complete[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap());
    assert!(instants.is_sorted(), "{instants:?}");
    // The headers are never shown again, nor logged; numbers are masked.
    let log = scene.ringback.log();
    let shown = [scene.client.get(&format!("/v1/batches/{id}")).await.text, log];
    assert!(shown.iter().all(|text| !text.contains("hush")));
    assert!(!shown[1].contains(&number(0)) && shown[1].contains("batch completed"));
    shown_when(&scene.client, &id, "its state", |batch| batch["state"] == "completed").await;
}

async fn a_batch_that_is_over_is_erased_on_request(on: Kind) {
    let scene = Scene::start_on(on).await;
    let held = accepted(&scene.client, &batch(numbers(0..500))).await;
    wish(&scene.client, &held, "pause").await;
    let answer = scene.client.delete(&format!("/v1/batches/{held}")).await;
    assert_eq!((answer.status, &problem(&answer)["code"]), (409, &json!("batch_state")));

    let given = scene.batch(numbers(0..3));
    let first = scene.client.post_batch_once("spring", &given).await.batch_id();
    scene.report(&first).await;
    let path = format!("/v1/batches/{first}");
    let answer = scene.client.delete(&path).await;
    assert_eq!((answer.status, answer.text.as_str()), (202, ""));
    eventually("the end of the batch", PATIENCE, async || {
        (scene.client.get(&path).await.status == 404).then_some(())
    })
    .await;
    for gone in [format!("{path}/messages"), format!("{path}/callbacks")] {
        assert_eq!(scene.client.get(&gone).await.status, 404, "{gone}");
    }
    assert_eq!(scene.client.get("/v1/events").await.json()["events"], json!([]));
    assert_eq!(scene.client.delete(&path).await.status, 404);
    // Its key is free.
    let second = scene.client.post_batch_once("spring", &given).await;
    assert_eq!(second.status, 202, "{}", second.text);
    assert_ne!(second.batch_id(), first);
}
