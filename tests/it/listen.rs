//! `ringback listen`: what it says of requests, and how it answers them.

use std::{process::Command, time::Duration};

use ringback::clock::Clock;
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::{
    harness::{
        Backing, Client, Kind, PATIENCE, Receiver, Reply, Ringback, Watched, command, eventually,
        free_port,
    },
    scene::{SECRET, accepted, batch, numbers, shown_when},
};

const OTHER_SECRET: &str = "whsec_OTg3NjU0MzIxMDk4NzY1NDMyMTA5ODc2NTQzMjEw";

/// A callback's body, in short.
const BODY: &str = r#"{"type":"batch.completed","data":{"counts":{"total":3}}}"#;

/// A running receiver.
struct Listening {
    run: Watched,
    url: String,
}

// === impl Listening ===

impl Listening {
    async fn start(arguments: &[&str]) -> Self {
        let mut command = command();
        command.args(["listen", "--port", "0"]).args(arguments);
        Self::watch(command).await
    }

    async fn watch(command: Command) -> Self {
        let run = Watched::start(command);
        run.wait_for("Ctrl-C ends it").await;
        let said = run.err();
        let (_, url) = said.split_once("listening on ").unwrap();
        let (url, _) = url.split_once(';').unwrap();
        Self { url: url.to_owned(), run }
    }

    /// The requests it has told of, where it speaks JSON, once there are `count`.
    async fn told(&self, count: usize) -> Vec<Value> {
        let lines = || {
            let out = self.run.out();
            let whole = out.rfind('\n').map_or("", |end| &out[..end]);
            let lines = whole.lines().map(|line| serde_json::from_str(line).unwrap());
            lines.collect::<Vec<Value>>()
        };
        let what = format!("report of {count} requests");
        eventually(&what, PATIENCE, async || Some(lines()).filter(|told| told.len() >= count)).await
    }

    async fn post(&self, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> u16 {
        Client::of(&self.url).post("/hooks/sms?a=1", headers, body).await.status
    }

    /// Posts a callback that was signed by another implementation.
    async fn post_signed(&self, secret: &str, id: &str, age_s: i64, body: &str) -> u16 {
        let now_s = Clock::system().now().0 / 1_000;
        let timestamp = i64::try_from(now_s).unwrap() - age_s;
        let signature = Webhook::new(secret).unwrap().sign(id, timestamp, BODY.as_bytes()).unwrap();
        let timestamp = timestamp.to_string();
        let headers = [
            ("webhook-id", id),
            ("webhook-timestamp", timestamp.as_str()),
            ("webhook-signature", signature.as_str()),
        ];
        self.post(&headers, body.to_owned()).await
    }

    /// Interrupts it, and gives its exit code.
    async fn end(&mut self) -> i32 {
        self.run.interrupt();
        self.run.exit_code().await
    }
}

#[tokio::test]
async fn a_signature_is_judged_and_the_reason_is_told() {
    let mut listening =
        Listening::start(&["--json", "--secret", OTHER_SECRET, "--secret", SECRET]).await;
    assert_eq!(listening.post_signed(SECRET, "evt_good", 0, BODY).await, 200);
    listening.post_signed(OTHER_SECRET, "evt_other", 299, BODY).await;
    listening.post_signed(SECRET, "evt_tampered", 0, &BODY.replace('3', "4")).await;
    listening.post_signed(SECRET, "evt_old", 400, BODY).await;
    listening.post_signed(SECRET, "evt_early", -400, BODY).await;
    listening.post(&[], BODY).await;
    let unknown = "whsec_MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw";
    listening.post_signed(unknown, "evt_unknown", 0, BODY).await;
    let told = listening.told(7).await;
    let holding = |secret: u64| json!({"verdict": "holds", "secret": secret});
    assert_eq!(told[0]["signature"], holding(2));
    assert_eq!(told[1]["signature"], holding(1));
    let reasons =
        ["this secret", "s old; at most 5m", "ahead of this clock", "webhook-id", "this secret"];
    for (told, reason) in told[2..].iter().zip(reasons) {
        assert_eq!(told["signature"]["verdict"], "does_not_hold", "{told}");
        let given = told["signature"]["reason"].as_str().unwrap();
        assert!(given.contains(reason), "{given}");
    }
    assert_eq!(told[0]["event"]["id"], "evt_good");
    assert_eq!(told[0]["event"]["type"], "batch.completed");
    assert_eq!(told[0]["path"], "/hooks/sms?a=1");
    assert_eq!(told[0]["headers"]["webhook-id"], "evt_good");
    assert_eq!(told[0]["body"], BODY);
    assert_eq!(listening.end().await, 0);
    let said = listening.run.err();
    assert!(
        said.contains("7 requests: 0 repeated, 2 with a signature that holds, 5 with"),
        "{said}"
    );
}

#[tokio::test]
async fn people_read_the_verdict_the_headers_and_the_body_on_several_lines() {
    let mut command = command();
    command.args(["listen", "--port", "0"]);
    command.env("RINGBACK_WEBHOOK_SECRET", format!("{OTHER_SECRET},\n{SECRET}\n"));
    let mut listening = Listening::watch(command).await;
    for _ in 0..3 {
        listening.post_signed(SECRET, "evt_1", 0, BODY).await;
    }
    listening.post_signed(SECRET, "evt_1", 0, "{}").await;
    listening.run.wait_for("attempt 4 of evt_1, with ANOTHER BODY").await;
    assert_eq!(listening.end().await, 0);
    let out = listening.run.out();
    for words in [
        "POST /hooks/sms?a=1\n",
        "event: evt_1, batch.completed\n",
        "signature: holds (secret 2 of 2)\n",
        "attempt 3 of evt_1, with the same body\n",
        "signature: does NOT hold: ",
        "answered: 200\n",
        "\n  webhook-id: evt_1\n",
        "\n  {\n    \"type\": \"batch.completed\",\n    \"data\": {\n",
    ] {
        assert!(out.contains(words), "{words}");
    }
    assert!(!out.contains("attempt 1 of"), "{out}");
}

#[tokio::test]
async fn a_service_tries_again_until_the_answer_is_a_good_one() {
    let listening =
        Listening::start(&["--json", "--status", "503", "--times", "2", "--secret", SECRET]).await;
    let store = Backing::start(Kind::Embedded).await;
    let setup = Ringback::on(&store).set("callbacks.signing_secrets", SECRET);
    let ringback = setup.set("callbacks.schedule", "50ms,50ms,50ms").start().await;
    let mut batch = batch(numbers(0..3));
    batch["callback_url"] = format!("{}/hooks/sms", listening.url).into();
    let id = accepted(&ringback.client(), &batch).await;
    shown_when(&ringback.client(), &id, "the delivery of its callback", |batch| {
        batch["callback"]["state"] == "delivered"
    })
    .await;
    let told = listening.told(3).await;
    let statuses: Vec<_> = told.iter().map(|told| told["answered"]["status"].clone()).collect();
    assert_eq!(statuses, [503, 503, 200]);
    for (place, told) in told.iter().enumerate() {
        assert_eq!(told["signature"], json!({"verdict": "holds", "secret": 1}), "{told}");
        assert_eq!(told["event"]["id"], id.replace("bat_", "evt_"));
        assert_eq!(told["event"]["attempt"], place + 1);
        assert_eq!(told["event"]["is_same_body"], true);
    }
}

#[tokio::test]
async fn without_a_number_of_times_every_request_is_answered_so() {
    let listening = Listening::start(&["--status", "418"]).await;
    for _ in 0..3 {
        assert_eq!(listening.post(&[], BODY).await, 418);
    }
    listening.run.wait_for("signature: not checked: no --secret").await;
    listening.run.wait_for("answered: 418 (as every time)").await;
}

#[tokio::test]
async fn a_request_is_passed_on_and_the_answer_back() {
    let behind = Receiver::scripted([Reply::RetryAfter(429, 7), Reply::Redirect]);
    let listening =
        Listening::start(&["--json", "--forward", &behind.url(), "--secret", SECRET]).await;
    let client = Client::of(&listening.url);
    let headers = [("x-api-token", "abc"), ("connection", "x-hop"), ("x-hop", "1")];
    let answer = client.post("/other", &headers, BODY).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, "7"));
    // It is passed back, not followed.
    assert_eq!(listening.post_signed(SECRET, "evt_1", 0, BODY).await, 307);
    let passed = behind.deliveries();
    assert_eq!(passed.len(), 2);
    assert_eq!(passed[0].path, "/hooks/sms");
    assert_eq!((passed[0].header("x-api-token"), passed[0].header("x-hop")), ("abc", ""));
    assert_eq!(passed[0].body, BODY);
    passed[1].verify(SECRET);
    let told = listening.told(2).await;
    assert_eq!(told[0]["path"], "/other");
    assert_eq!(told[0]["answered"]["status"], 429);
    assert_eq!(told[0]["answered"]["forwarded_to"], behind.url());
}

#[tokio::test]
async fn who_can_not_be_reached_is_told_of_with_502() {
    let nobody = format!("http://127.0.0.1:{}/hooks?token=hush", free_port());
    let listening = Listening::start(&["--forward", &nobody]).await;
    let answer = Client::of(&listening.url).post("/", &[], BODY).await;
    assert_eq!(answer.status, 502);
    assert!(answer.text.contains("refused") && !answer.text.contains("hush"), "{}", answer.text);
    listening.run.wait_for("answered: 502: http://127.0.0.1:").await;
}

#[tokio::test]
async fn a_body_beyond_its_bound_is_refused_and_told_of() {
    let listening = Listening::start(&["--json", "--secret", SECRET]).await;
    assert_eq!(listening.post(&[], vec![b'x'; 1 << 20]).await, 200);
    assert_eq!(listening.post(&[], vec![b'x'; (1 << 20) + 1]).await, 413);
    let pieces = (0..20).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 64 << 10]));
    let chunked = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    assert_eq!(listening.post(&[], chunked).await, 413);
    let told = listening.told(3).await;
    assert_eq!(told[0]["body"].as_str().unwrap().len(), 1 << 20);
    for told in &told[1..] {
        assert_eq!(told["answered"]["reason"], "the body is longer than 1 MiB");
        assert_eq!(told["signature"]["verdict"], "not_checked");
        assert_eq!(told["body"], "");
    }
}

#[tokio::test]
async fn what_a_terminal_would_obey_is_printed_as_what_it_is() {
    for arguments in [&["--secret", SECRET][..], &["--json"]] {
        let listening = Listening::start(arguments).await;
        let body = "{\"type\":\"\\u001b[2J\",\"a\":\"\u{9b}2J\u{202e}\"}";
        listening.post(&[("webhook-id", "evt_\u{9b}31m")], body).await;
        listening.post(&[], "\u{1b}]0;owned\u{7}").await;
        eventually("its end", PATIENCE, async || {
            listening.run.out().contains("]0;owned").then_some(())
        })
        .await;
        let out = listening.run.out();
        let obeyed = out.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
        assert_eq!(obeyed, None, "{out}");
    }
}

#[tokio::test]
async fn it_ends_at_once_though_connections_are_open() {
    let mut listening = Listening::start(&[]).await;
    let client = Client::of(&listening.url);
    // The client keeps its connection.
    client.post("/", &[], BODY).await;
    let begin = std::time::Instant::now();
    assert_eq!(listening.end().await, 0);
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert!(listening.run.err().contains("1 request: "), "{}", listening.run.err());
}

#[tokio::test]
async fn a_wrong_call_is_refused_and_no_secret_repeated() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = address.local_addr().unwrap().port().to_string();
    for (arguments, code, said) in [
        (&["--secret", "whsec_hush"][..], 2, "--secret, number 1"),
        (&["--secret", SECRET, "--secret", "hush"], 2, "begins with whsec_"),
        (&["--status", "99"], 2, "200 to 599"),
        (&["--times", "3"], 2, "--status"),
        (&["--status", "500", "--forward", "http://127.0.0.1/"], 2, "cannot be used with"),
        (&["--forward", "ftp://127.0.0.1/"], 2, "http or https"),
        (&["--port", &taken], 1, "can't listen on 127.0.0.1:"),
    ] {
        let mut command = command();
        command.arg("listen").args(arguments);
        let mut run = Watched::start(command);
        assert_eq!(run.exit_code().await, code, "{arguments:?}");
        assert!(run.err().contains(said), "{arguments:?}: {}", run.err());
        assert!(!run.err().contains("hush"), "{}", run.err());
    }
    let mut command = command();
    command.args(["listen", "--help"]).env("RINGBACK_WEBHOOK_SECRET", "whsec_hush");
    let mut run = Watched::start(command);
    assert_eq!(run.exit_code().await, 0);
    assert!(!run.out().contains("hush"), "{}", run.out());
}
