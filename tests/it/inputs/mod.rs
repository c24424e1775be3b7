//! Bad input, as one table: each case is the bytes that a client sends, and the answer they get. After
//! each of them the service is as it was: nothing stored, nothing sent, no panic, and well.

mod callbacks;
mod documents;
mod exchanges;

use std::fmt::Write as _;

use ringback::{clock::Clock, domain::time::UnixMs};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    api::new_key,
    harness::{Client, PATIENCE, Ringback},
    scene::{Scene, accepted, counts, messages, number, shown_when, these},
};

/// A word that stands in every secret of these cases, and must come back in no answer and no log line.
const HUSH: &str = "hush";

/// The longest JSON body, in bytes.
const BODY_BYTES_MAX: usize = 16 << 20;

/// The most that a packed body of lines may come to, in bytes.
const UNPACKED_BYTES_MAX: usize = 1 << 20;

/// What a client sends, and what it is answered.
struct Case {
    /// The row of the table.
    area: &'static str,
    what: String,
    bytes: Vec<u8>,
    end: End,
    /// The status and the problem's code; no code where the answer is the HTTP library's own.
    answer: (u16, &'static str),
}

/// What a client does once it has sent its bytes.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// It waits for the answer.
    Waits,
    /// It says that there is no more, and waits for the answer.
    Closes,
    /// It resets the connection, and gets no answer.
    Resets,
}

// === impl Case ===

impl Case {
    fn new(
        area: &'static str,
        what: impl Into<String>,
        bytes: impl Into<Vec<u8>>,
        answer: (u16, &'static str),
    ) -> Self {
        Self { area, what: what.into(), bytes: bytes.into(), end: End::Waits, answer }
    }

    fn ending(self, end: End) -> Self {
        Self { end, ..self }
    }

    /// Sends it; gives the status and the code of the answer, and all of its text.
    async fn ask(&self, ringback: &Ringback) -> (u16, String, String) {
        let mut stream = TcpStream::connect(ringback.address()).await.unwrap();
        // The server may have answered, and closed, before it has read everything.
        let sent = stream.write_all(&self.bytes).await;
        match self.end {
            End::Resets => {
                stream.set_zero_linger().unwrap();
                return (0, String::new(), String::new());
            }
            End::Closes => stream.shutdown().await.unwrap(),
            End::Waits => {}
        }
        let mut answer = Vec::new();
        let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        // Where the server closed early, the answer may be followed by a reset.
        let read = read.unwrap_or_else(|_| panic!("no end of the answer to {}", self.what));
        assert!(read.is_ok() || sent.is_err() || !answer.is_empty(), "{}: {read:?}", self.what);
        let text = String::from_utf8_lossy(&answer).into_owned();
        let status = text.get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or(0);
        let problem =
            text.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str(body).ok());
        let code = problem.map_or(Value::Null, |problem: Value| problem["code"].clone());
        (status, code.as_str().unwrap_or_default().to_owned(), text)
    }
}

/// A request whose body has a length.
fn request(line: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n");
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    write!(head, "Content-Length: {}\r\n\r\n", body.len()).unwrap();
    [head.as_bytes(), body].concat()
}

/// A batch as JSON, well framed.
fn post(body: impl AsRef<[u8]>) -> Vec<u8> {
    request("POST /v1/batches", &[("Content-Type", "application/json")], body.as_ref())
}

/// A batch that is sound but for `members`.
fn with(members: &str) -> String {
    format!(r#"{{"body":"Hi","recipients":["{}"],{members}}}"#, number(0))
}

/// Has the service answer every case, and looks after each whether it is as it was.
async fn run(scene: &Scene, cases: Vec<Case>) {
    let list = async || scene.client.get("/v1/batches").await.text;
    let before = list().await;
    let mut wrong = Vec::new();
    for case in cases {
        let (status, code, text) = case.ask(&scene.ringback).await;
        println!("{} | {} | {status} {code}", case.area, case.what);
        if (status, code.as_str()) != case.answer || text.contains(HUSH) {
            let shown = text.chars().take(400).collect::<String>();
            wrong.push(format!("{} | {}: {:?} wanted, {shown}", case.area, case.what, case.answer));
        }
        if list().await != before || scene.client.get("/healthz").await.status != 200 {
            wrong.push(format!("{} | {}: the service is not as it was", case.area, case.what));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!((scene.provider.count(), scene.receiver.deliveries().len()), (0, 0));
    nothing_went_wrong(scene).await;
}

async fn nothing_went_wrong(scene: &Scene) {
    let log = scene.ringback.log();
    for word in ["panicked", " ERROR ", HUSH] {
        let line = log.lines().find(|line| line.contains(word));
        assert!(line.is_none(), "{line:?}");
    }
    let metrics = scene.client.get("/metrics").await.text;
    assert!(metrics.contains("ringback_process_panics_contained_total 0"), "{metrics}");
    assert!(!metrics.contains(HUSH));
}

#[tokio::test]
async fn bad_input_is_refused_and_leaves_nothing() {
    let scene = Scene::start_with(|setup| {
        setup
            .set("server.body_bytes_max", &BODY_BYTES_MAX.to_string())
            .set("server.unpacked_bytes_max", &UNPACKED_BYTES_MAX.to_string())
            .set("callbacks.allow_private_networks", "false")
    })
    .await;
    // Two batches are there, for the calls that concern one.
    let over = accepted(&scene.client, &json!({"body": "Hi", "recipients": []})).await;
    scene.client.wait_until_complete(&over, PATIENCE).await;
    let waiting = accepted(&scene.client, &later()).await;
    let mut cases = documents::cases(&over, &waiting).await;
    cases.extend(callbacks::cases());
    cases.extend(exchanges::cases());
    run(&scene, cases).await;
}

#[tokio::test]
async fn who_has_no_key_is_told_nothing() {
    let (key, hash) = new_key("acme");
    let scene = Scene::start_with(|setup| setup.set("accounts.acme.api_key_hashes", &hash)).await;
    let keyed = scene.client.with_key(&key);
    let batch = with(r#""reference":"none""#);
    let flipped = key.chars().rev().collect::<String>();
    let given = |values: &[String]| -> Vec<u8> {
        let mut headers = vec![("Content-Type", "application/json")];
        headers.extend(values.iter().map(|value| ("Authorization", value.as_str())));
        request("POST /v1/batches", &headers, batch.as_bytes())
    };
    let before = keyed.get("/v1/batches").await.text;
    for (what, values) in [
        ("no key", vec![]),
        ("an empty one", vec![String::new()]),
        ("a scheme alone", vec!["Bearer".to_owned()]),
        ("an empty token", vec!["Bearer ".to_owned()]),
        ("another scheme", vec![format!("Basic {key}")]),
        ("no scheme", vec![key.clone()]),
        ("a truncated one", vec![format!("Bearer {}", &key[..key.len() - 1])]),
        ("a longer one", vec![format!("Bearer {key}0")]),
        ("one in capitals", vec![format!("Bearer {}", key.to_uppercase())]),
        ("one backwards", vec![format!("Bearer {flipped}")]),
        ("its hash", vec![format!("Bearer {hash}")]),
        ("two at once", vec![format!("Bearer {key}"), format!("Bearer {key}")]),
        ("bytes beyond ASCII", vec![format!("Bearer {key}é")]),
        ("a long one", vec![format!("Bearer {}", "k".repeat(20_000))]),
    ] {
        let case = Case::new("keys", what, given(&values), (401, "unauthorized"));
        let (status, code, text) = case.ask(&scene.ringback).await;
        println!("{} | {} | {status} {code}", case.area, case.what);
        assert_eq!((status, code.as_str()), case.answer, "{what}: {text}");
        assert!(!text.contains(&key) && !text.contains(&hash), "{text}");
    }
    assert_eq!(keyed.get("/v1/batches").await.text, before);
    assert_eq!(scene.provider.count(), 0);
    let log = scene.ringback.log();
    assert!(!log.contains(&key) && !log.contains("panicked"));
}

#[tokio::test]
async fn numbers_are_judged_one_by_one_and_kept_as_given() {
    let scene = Scene::start().await;
    let good = ["+1555000", "+155500000000001", "+15550000001", "+15550000001"];
    let bad = [
        "",
        "+",
        "15550000001",
        "0015550000001",
        "+05550000001",
        "+155500",
        "+1555000000000012",
        "+1555000000a",
        "+1 555 000 0001",
        " +15550000001",
        "+15550000001 ",
        "+1-555-000-0001",
        "+1(555)0000001",
        "tel:+15550000001",
        "\u{ff0b}15550000001",
        "+\u{661}\u{665}\u{665}\u{665}\u{660}\u{660}\u{660}\u{660}\u{660}\u{660}\u{661}",
        "+\u{ff11}5550000001",
        "+15550000001\n",
        "+15550000001\u{202e}",
        "+1555000000\u{200d}1",
        "nobody",
    ];
    let recipients: Vec<_> = good.iter().chain(&bad).copied().collect();
    let id = accepted(&scene.client, &scene.batch(json!(recipients))).await;
    let over = scene.report(&id).await;
    let ended = [good.len(), bad.len()].map(|count| u64::try_from(count).unwrap());
    assert_eq!(counts(&over), these([("sent", ended[0]), ("failed", ended[1])]));
    for (message, given) in messages(&scene.client, &id).await.iter().zip(&recipients) {
        assert_eq!(message["to"], *given);
        let code = message["error"]["code"].as_str().unwrap_or_default();
        println!("phone numbers | {given:?} | {} {code}", message["state"]);
        assert_eq!(code, if good.contains(given) { "" } else { "invalid_number" }, "{given:?}");
    }
    let mut called: Vec<_> = scene.provider.calls().into_iter().map(|call| call.to).collect();
    called.sort_unstable();
    let mut wanted = good;
    wanted.sort_unstable();
    assert_eq!(called, wanted);
    nothing_went_wrong(&scene).await;
}

/// Callbacks that come back to the service itself: what they are answered is told with the attempt.
#[tokio::test]
async fn a_callback_to_the_service_itself_changes_nothing() {
    let (key, hash) = new_key("acme");
    let scene = Scene::start_with(|setup| {
        setup
            .set("accounts.acme.api_key_hashes", &hash)
            .set("accounts.acme.admin", "true")
            .set("callbacks.schedule", "50ms")
            .set("callbacks.breaker_failures", "100000")
    })
    .await;
    let client = scene.client.with_key(&key);
    let held = accepted(&client, &later()).await;
    let over = accepted(&client, &json!({"body": "Hi", "recipients": []})).await;
    // With the account's own key, as far as that may be.
    for (path, status) in [
        ("/v1/batches".to_owned(), 422),
        (format!("/v1/batches/{held}"), 405),
        (format!("/v1/batches/{held}/cancel"), 422),
        (format!("/v1/batches/{held}/pause"), 422),
        (format!("/v1/batches/{over}/retry"), 422),
        (format!("/v1/batches/{over}/callbacks/replay"), 422),
        ("/v1/callbacks/replay".to_owned(), 422),
        ("/v1/callbacks/test".to_owned(), 422),
        ("/v1/providers/carrier/pause".to_owned(), 422),
        ("/v1/receipts/carrier".to_owned(), 404),
        ("/metrics".to_owned(), 405),
        ("/healthz".to_owned(), 405),
        ("/nothing".to_owned(), 404),
    ] {
        let url = format!("http://{}{path}", scene.ringback.address());
        let id = accepted(
            &client,
            &json!({
                "body": "Hi", "recipients": [], "callback_url": url,
                "callback_auth": {"type": "bearer", "token": key}
            }),
        )
        .await;
        shown_when(&client, &id, "the end of its callback", |batch| {
            batch["callback"]["state"] == "exhausted"
        })
        .await;
        let told = client.get(&format!("/v1/batches/{id}/callbacks")).await.json();
        let attempt = &told["attempts"][0];
        println!("loops | {path} | {}", attempt["status"]);
        assert_eq!(attempt["status"], status, "{path}: {told}");
    }
    assert_eq!(client.get(&format!("/v1/batches/{held}")).await.json()["state"], "scheduled");
    let provider = &client.get("/v1/providers").await.json()["providers"][0];
    assert!(provider["paused_until"].is_null(), "{provider}");
    assert_eq!((scene.provider.count(), batches(&client).await), (0, 15));
    nothing_went_wrong(&scene).await;
}

/// A batch that waits for its time.
fn later() -> Value {
    let tomorrow = UnixMs(Clock::system().now().0 + 86_400_000);
    json!({"body": "Hi", "recipients": [number(0)], "send_at": tomorrow.to_string()})
}

async fn batches(client: &Client) -> usize {
    client.get("/v1/batches").await.json()["batches"].as_array().unwrap().len()
}
