//! Batches that are streamed as lines: the same batch as its document is, in constant memory, all
//! or nothing.

use std::{fmt::Write, fs, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::{
    harness::{Answer, Backing, Client, Kind, PATIENCE, Ringback, eventually, on_each_store},
    scene::{Scene, batch, counts, messages, number, numbers, shown, these},
};

on_each_store! {
    a_stream_of_lines_is_the_batch_its_document_is
    a_hundred_thousand_lines_are_one_batch
    an_upload_that_breaks_off_leaves_nothing
    an_upload_may_be_slower_than_its_lease
    a_stream_under_one_key_is_one_batch
}

/// How long the store may take to be as it was before an upload that broke off.
const CLEARED: Duration = Duration::from_secs(10);

/// The first line of a batch.
fn head() -> String {
    json!({"body": "Hello"}).to_string()
}

/// A body of this first line and these recipients.
fn lines(head: &str, recipients: impl IntoIterator<Item = String>) -> String {
    let mut body = format!("{head}\n");
    recipients.into_iter().for_each(|recipient| writeln!(body, "{recipient}").unwrap());
    body
}

/// Plain numbers, each as a line.
fn plain(indexes: std::ops::Range<usize>) -> impl Iterator<Item = String> {
    indexes.map(|index| format!("\"{}\"", number(index)))
}

async fn post(client: &Client, key: Option<&str>, body: impl Into<reqwest::Body>) -> Answer {
    let mut headers = vec![("content-type", "application/x-ndjson")];
    headers.extend(key.map(|key| ("idempotency-key", key)));
    client.post("/v1/batches", &headers, body).await
}

/// Checks that nothing of an upload is to be seen.
async fn nothing_is_listed(client: &Client) {
    assert_eq!(client.get("/v1/batches").await.json()["batches"], json!([]));
}

/// What is wrong with a line: pointer and code of each error.
fn errors(answer: &Answer) -> Vec<(String, String)> {
    let problem = answer.json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let errors = problem["errors"].as_array().into_iter().flatten();
    errors.map(|error| (text(&error["pointer"]), text(&error["code"]))).collect()
}

/// A request whose body is sent by hand, in HTTP chunks.
pub(crate) struct Sending {
    stream: TcpStream,
}

// === impl Sending ===

impl Sending {
    pub(crate) async fn begin(ringback: &Ringback, key: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(ringback.address()).await.unwrap();
        let key = key.map_or_else(String::new, |key| format!("Idempotency-Key: {key}\r\n"));
        let head = format!(
            "POST /v1/batches HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-ndjson\r\n\
             Connection: close\r\n{key}Transfer-Encoding: chunked\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        Self { stream }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        self.stream.write_all(chunk.as_bytes()).await.unwrap();
    }

    pub(crate) async fn end(mut self) -> (u16, Value) {
        self.stream.write_all(b"0\r\n\r\n").await.unwrap();
        self.answer().await
    }

    /// The status and the body of the answer, whether or not the request has ended.
    async fn answer(mut self) -> (u16, Value) {
        let mut answer = String::new();
        timeout(PATIENCE, self.stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap())
    }
}

/// Waits until the batch that is being uploaded shows in the list.
async fn until_it_is_receiving(client: &Client) {
    eventually("an upload under way", PATIENCE, async || {
        let list = client.get("/v1/batches?state=receiving").await.json();
        (list["batches"].as_array().unwrap().len() == 1).then_some(())
    })
    .await;
}

async fn a_stream_of_lines_is_the_batch_its_document_is(on: Kind) {
    let scene = Scene::start_on(on).await;
    let mut document = batch(json!([]));
    document["body"] = "Hi {{name}}".into();
    document["variables"] = json!({"name": "there"});
    document["reference"] = "spring".into();
    document["metadata"] = json!({"campaign": 7});
    let head = {
        let mut head = document.clone();
        head.as_object_mut().unwrap().remove("recipients");
        head.to_string()
    };
    let recipients: Vec<Value> = (0..1_300)
        .map(|index| match index % 3 {
            0 => number(index).into(),
            1 => json!({"to": number(index), "variables": {"name": "Ann"}, "reference": "a"}),
            _ => "nobody".into(),
        })
        .collect();
    let body = lines(&head, recipients.iter().map(ToString::to_string));
    document["recipients"] = recipients.into();
    let mut posted = vec![scene.client.post_batch(&document).await];
    posted.push(post(&scene.client, None, body.clone()).await);
    // As a program pipes it: without a length, without regard to where lines end.
    let mut sending = Sending::begin(&scene.ringback, None).await;
    let mut rest = body.trim_end();
    while !rest.is_empty() {
        let (piece, further) = rest.split_at(rest.len().min(1_000));
        sending.send(piece).await;
        rest = further;
    }
    let (status, shown) = sending.end().await;
    assert_eq!(status, 202, "{shown}");
    let mut ids = vec![shown["id"].as_str().unwrap().to_owned()];
    for answer in posted {
        assert_eq!(answer.status, 202, "{}", answer.text);
        assert_eq!(answer.header("location"), format!("/v1/batches/{}", answer.batch_id()));
        ids.push(answer.batch_id());
    }
    let mut seen = Vec::new();
    for id in &ids {
        let complete = scene.client.wait_until_complete(id, PATIENCE).await;
        assert_eq!(counts(&complete), these([("sent", 867), ("failed", 433)]));
        let fields = ["reference", "metadata", "provider", "callback"].map(|name| &complete[name]);
        let fields = json!(fields);
        let messages = messages(&scene.client, id).await.into_iter().map(|message| {
            json!([message["index"], message["to"], message["reference"], message["state"]])
        });
        let of_batch = format!("{id}.");
        let calls = scene.provider.calls().into_iter();
        let mut texts: Vec<_> = calls
            .filter_map(|call| {
                let index = call.message_id.strip_prefix(&of_batch)?.parse::<u32>().unwrap();
                Some((index, call.to, call.body))
            })
            .collect();
        texts.sort();
        seen.push((fields, messages.collect::<Vec<_>>(), texts));
    }
    assert!(seen[0] == seen[1] && seen[1] == seen[2]);
}

async fn a_hundred_thousand_lines_are_one_batch(on: Kind) {
    let scene = Scene::start_on_with(on, |setup| setup.set("default_provider", "mock")).await;
    let answer = post(&scene.client, None, lines(&head(), plain(0..100_000))).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let id = answer.batch_id();
    let complete = scene.client.wait_until_complete(&id, PATIENCE).await;
    assert_eq!(counts(&complete), these([("sent", 100_000)]));
    for index in [0, 499, 500, 99_999] {
        let message = scene.client.get(&format!("/v1/batches/{id}/messages/{index}")).await.json();
        assert_eq!(message["to"], number(index));
    }
}

async fn an_upload_that_breaks_off_leaves_nothing(on: Kind) {
    let store = Backing::start(on).await;
    let mut ringback = Ringback::on(&store).role("api").start().await;
    let client = ringback.client();
    // What a server keeps, as a number of keys.
    let kept = || match &store {
        Backing::Redis(redis) => redis.ask("DBSIZE"),
        Backing::Embedded(_) => String::new(),
    };
    let before = kept();
    for killed in [false, true] {
        let mut sending = Sending::begin(&ringback, Some("k1")).await;
        sending.send(&lines(&head(), plain(0..20_000))).await;
        until_it_is_receiving(&client).await;
        if killed {
            ringback.restart().await;
        }
        drop(sending);
        let body = lines(&head(), plain(0..20_001));
        let refused = eventually("a free key", CLEARED, async || {
            // The first line is enough to ask for the key; the second one is then refused.
            let answer = post(&client, Some("k1"), format!("{}\n[]", head())).await;
            (answer.status != 409).then_some(answer)
        })
        .await;
        assert_eq!(refused.status, 422, "{}", refused.text);
        nothing_is_listed(&client).await;
        eventually("the store as it was", CLEARED, async || (kept() == before).then_some(())).await;
        if killed {
            let answer = eventually("a free key", CLEARED, async || {
                let answer = post(&client, Some("k1"), body.clone()).await;
                (answer.status != 409).then_some(answer)
            })
            .await;
            assert_eq!(answer.status, 202, "{}", answer.text);
            assert_eq!(answer.json()["counts"]["total"], 20_001);
        }
    }
}

async fn an_upload_may_be_slower_than_its_lease(on: Kind) {
    let scene = Scene::start_on(on).await;
    let mut sending = Sending::begin(&scene.ringback, None).await;
    sending.send(&lines(&head(), plain(0..1))).await;
    until_it_is_receiving(&scene.client).await;
    // Longer than a lease, and than a sweep after it.
    sleep(Duration::from_millis(7_500)).await;
    sending.send(&format!("\"{}\"\n", number(1))).await;
    let (status, batch) = sending.end().await;
    assert_eq!((status, &batch["counts"]["total"]), (202, &json!(2)), "{batch}");
    scene.client.wait_until_complete(batch["id"].as_str().unwrap(), PATIENCE).await;
    assert_eq!(scene.provider.count(), 2);
}

async fn a_stream_under_one_key_is_one_batch(on: Kind) {
    let scene = Scene::start_on(on).await;
    let client = &scene.client;
    let body = lines(&head(), plain(0..1_000));
    let mut first = Sending::begin(&scene.ringback, Some("k1")).await;
    first.send(&body).await;
    until_it_is_receiving(client).await;
    // The answer comes before the body has ended.
    let mut second = Sending::begin(&scene.ringback, Some("k1")).await;
    second.send(&format!("{}\n", head())).await;
    let (status, problem) = second.answer().await;
    assert_eq!((status, &problem["code"]), (409, &json!("idempotency_in_progress")));
    let (status, accepted) = first.end().await;
    assert_eq!(status, 202, "{accepted}");
    let again = post(client, Some("k1"), body.clone()).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (200, "true"));
    assert_eq!(again.batch_id(), accepted["id"]);
    let longer = format!("{body}\"{}\"\n", number(1_000));
    let document = batch(numbers(0..1_000));
    for other in
        [post(client, Some("k1"), longer).await, client.post_batch_once("k1", &document).await]
    {
        assert_eq!((other.status, &other.json()["code"]), (422, &json!("idempotency_key_reused")));
    }
    client.wait_until_complete(&again.batch_id(), PATIENCE).await;
    assert_eq!(scene.provider.count(), 1_000);
}

#[tokio::test]
async fn a_bad_line_is_named_and_nothing_of_the_batch_is_kept() {
    let scene = Scene::start().await;
    let with = |line: &str| {
        let further = std::iter::once(line.to_owned()).chain(plain(20_000..20_100));
        lines(&head(), plain(0..20_000).chain(further))
    };
    let cases = [
        ("nobody", "/20002", "invalid_json"),
        ("{\"to\":\"+15551230001\"", "/20002", "invalid_json"),
        ("5", "/20002", "wrong_type"),
        ("{\"to\":5}", "/20002/to", "wrong_type"),
        ("{\"to\":\"+15551230001\",\"colour\":1}", "/20002/colour", "unknown_field"),
        ("\"a\\u0000\"", "/20002", "invalid_text"),
        ("", "/20002", "empty"),
    ];
    for (line, pointer, code) in cases {
        let refused = post(&scene.client, Some("k1"), with(line)).await;
        assert_eq!(refused.status, 422, "{line}: {}", refused.text);
        assert_eq!(refused.json()["code"], "invalid_request", "{line}");
        assert_eq!(errors(&refused), [(pointer.to_owned(), code.to_owned())], "{line}");
    }
    let broken = post(&scene.client, None, with("{\"to\" 5}")).await.json();
    assert_eq!(broken["errors"][0]["detail"], "expected `:` at line 20002 column 7");
    for (first, pointer) in
        [("", "/1"), ("[]", "/1"), ("{}", "/1/body"), (" {\"body\": \"\"}", "/1/body")]
    {
        let refused = post(&scene.client, Some("k1"), lines(first, plain(0..1))).await;
        assert_eq!((refused.status, &*errors(&refused)[0].0), (422, pointer), "{first}");
    }
    nothing_is_listed(&scene.client).await;
    assert_eq!(scene.provider.count(), 0);
    let answer = post(&scene.client, Some("k1"), lines(&head(), plain(0..1))).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
}

#[tokio::test]
async fn a_client_that_is_still_sending_sees_the_refusal() {
    let scene = Scene::start().await;
    let filler = lines("\"+15551230001\"", plain(0..40_000));
    let long = "x".repeat(10 << 20);
    for (begin, status, code) in [
        (format!("{}\n[]\n", head()), 422, "invalid_request"),
        (format!("{}\n\"{long}", head()), 413, "line_too_long"),
        (long.clone(), 413, "line_too_long"),
    ] {
        let mut sending = Sending::begin(&scene.ringback, None).await;
        sending.send(&begin).await;
        for _ in 0..30 {
            sending.send(&filler).await;
        }
        let (found, problem) = sending.end().await;
        assert_eq!((found, &problem["code"]), (status, &json!(code)), "{problem}");
        let whole = format!("{begin}\n{}", filler.repeat(30));
        let answer = post(&scene.client, None, whole).await;
        assert_eq!((answer.status, answer.json()), (status, problem));
    }
    nothing_is_listed(&scene.client).await;
}

#[tokio::test]
async fn a_client_that_is_too_slow_is_cut_off_and_its_key_free() {
    let scene = Scene::start_with(|setup| setup.set("server.body_timeout", "500ms")).await;
    for first in [String::new(), head(), format!("{}\n\"+155", head())] {
        let began = Instant::now();
        let mut sending = Sending::begin(&scene.ringback, Some("k1")).await;
        if !first.is_empty() {
            sending.send(&first).await;
        }
        let (status, problem) = sending.answer().await;
        assert_eq!((status, &problem["code"]), (408, &json!("body_timeout")), "{first}");
        assert!(began.elapsed() < Duration::from_secs(5));
    }
    // A byte now and then is no progress either.
    let mut sending = Sending::begin(&scene.ringback, Some("k1")).await;
    sending.send(&format!("{}\n", head())).await;
    let (mut read, mut write) = sending.stream.into_split();
    let trickle = tokio::spawn(async move {
        while write.write_all(b"1\r\n \r\n").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    let mut first = [0; 12];
    timeout(PATIENCE, read.read_exact(&mut first)).await.unwrap().unwrap();
    assert_eq!(&first, b"HTTP/1.1 408");
    trickle.abort();
    let answer = post(&scene.client, Some("k1"), lines(&head(), plain(0..1))).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
}

#[tokio::test]
async fn a_stream_with_invalid_numbers_can_be_refused() {
    let scene = Scene::start().await;
    let head = json!({"body": "Hello", "on_invalid": "reject_batch"}).to_string();
    let recipients = (0..30_000).map(|index| match index % 2 {
        0 => format!("\"{}\"", number(index)),
        _ => "\"nobody\"".to_owned(),
    });
    let refused = post(&scene.client, Some("k1"), lines(&head, recipients)).await;
    let problem = refused.json();
    assert_eq!((refused.status, &problem["code"]), (422, &json!("invalid_recipients")));
    assert_eq!(problem["invalid_count"], 15_000);
    let expected: Vec<_> =
        (0..100).map(|nth| (format!("/{}", 2 * nth + 3), "invalid_number".to_owned())).collect();
    assert_eq!(errors(&refused), expected);
    nothing_is_listed(&scene.client).await;
    let answer = post(&scene.client, Some("k1"), lines(&head, plain(0..3))).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
}

#[tokio::test]
async fn memory_is_the_same_for_any_number_of_lines() {
    let store = Backing::start(Kind::Redis).await;
    let ringback = Ringback::on(&store).role("api").start().await;
    let reference = "r".repeat(200);
    let recipient = |index| json!({"to": number(index), "reference": reference}).to_string();
    let upload = async |count| {
        let answer =
            post(&ringback.client(), None, lines(&head(), (0..count).map(recipient))).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        let batch = shown(&ringback.client(), &answer.batch_id()).await;
        assert_eq!(batch["counts"]["total"], count);
        peak_kib(ringback.pid())
    };
    let small = upload(30_000).await;
    // 75 MB.
    let large = upload(300_000).await;
    assert!(large < small + 16 * 1024, "{small} KiB at first, then {large} KiB");
}

/// The most memory that a process ever had in use.
pub(crate) fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse().unwrap()
}
