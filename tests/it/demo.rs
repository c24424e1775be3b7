//! `ringback demo`: that it needs nothing, shows everything, and leaves nothing behind.

use std::{path::Path, process::Command, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Client, PATIENCE, Watched, command, eventually};

/// A demo whose environment holds nothing but where temporary files go.
fn demo(temporary: &TempDir, arguments: &[&str]) -> Watched {
    Watched::start(prepared(temporary, arguments))
}

fn prepared(temporary: &TempDir, arguments: &[&str]) -> Command {
    let mut command = command();
    command.arg("demo").args(arguments).env("TMPDIR", temporary.path()).current_dir("/");
    command
}

/// Runs a demo to its end, which is to be a good one, and gives what it printed.
async fn seen(arguments: &[&str]) -> String {
    let temporary = tempfile::tempdir().unwrap();
    let mut demo = demo(&temporary, arguments);
    assert_eq!(demo.exit_code().await, 0);
    assert!(is_empty(temporary.path()), "something is left behind");
    demo.out()
}

fn is_empty(folder: &Path) -> bool {
    folder.read_dir().unwrap().next().is_none()
}

/// The callback's headers, which are to be signed, and its body.
fn callback(out: &str) -> (Vec<&str>, Value) {
    let (_, callback) = out.split_once("POST /hooks/sms HTTP/1.1\n").unwrap();
    let (head, rest) = callback.split_once("\n\n").unwrap();
    let (body, _) = rest.split_once('\n').unwrap();
    assert!(head.contains("\nwebhook-signature: v1,"), "{head}");
    assert!(rest.contains("signature: holds"), "{rest}");
    (head.lines().collect(), serde_json::from_str(body).unwrap())
}

#[tokio::test]
async fn it_shows_the_whole_job_with_nothing_installed() {
    let out = seen(&[]).await;
    let (headers, event) = callback(&out);
    assert!(headers.contains(&"content-type: application/json"), "{headers:?}");
    assert_eq!(event["type"], "batch.completed");
    let counts = &event["data"]["counts"];
    assert_eq!((&counts["total"], &counts["sent"]), (&json!(1_000), &json!(999)));
    assert_eq!(counts["failed"], 1);
    // One recipient is no number, and the text says so before it is counted.
    assert!(out.find("is no phone number").unwrap() < out.find("failed ").unwrap(), "{out}");
    for row in ["sent         999\n", "failed         1\n", "total      1,000\n"] {
        assert!(out.contains(row), "{row}");
    }
    assert!(
        out.contains("messages/s") && out.contains("after the last message was final"),
        "{out}"
    );
}

#[tokio::test]
async fn it_takes_no_message_one_and_many() {
    for (messages, sent, failed) in [("0", 0, 0), ("1", 1, 0), ("2", 1, 1), ("5000", 4_999, 1)] {
        let (_, event) = callback(&seen(&["--messages", messages]).await);
        let counts = &event["data"]["counts"];
        assert_eq!(counts["total"], sent + failed, "{counts}");
        assert_eq!((&counts["sent"], &counts["failed"]), (&json!(sent), &json!(failed)));
    }
}

#[tokio::test]
async fn nothing_of_the_user_configures_it() {
    let temporary = tempfile::tempdir().unwrap();
    let mut command = prepared(&temporary, &[]);
    command
        .env("RINGBACK__STORE__URL", "redis://127.0.0.1:1")
        .env("RINGBACK__SERVER__NONSENSE", "1")
        .env("RINGBACK_URL", "http://127.0.0.1:1")
        .env("RUST_LOG", "no=filter")
        .env("http_proxy", "http://127.0.0.1:1");
    let mut demo = Watched::start(command);
    assert_eq!(demo.exit_code().await, 0);
}

#[tokio::test]
async fn kept_it_serves_until_it_is_interrupted() {
    let temporary = tempfile::tempdir().unwrap();
    let mut demo = demo(&temporary, &["--keep", "--messages", "10"]);
    demo.wait_for("Both go on until Ctrl-C").await;
    let out = demo.out();
    let (_, url) = out.split_once("A service at ").unwrap();
    let client = Client::of(url.split_once(',').unwrap().0);
    assert_eq!(client.get("/readyz").await.status, 200);
    // The batch that is proposed is one that the service takes, and its callback is printed.
    let (_, proposed) = out.split_once("--json '").unwrap();
    let (proposed, _) = proposed.split_once('\'').unwrap();
    let answer = client.post("/v1/batches", &[], proposed.to_owned()).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    demo.wait_for(&format!("event: {}", answer.batch_id().replace("bat_", "evt_"))).await;
    assert!(!is_empty(temporary.path()));
    demo.interrupt();
    assert_eq!(demo.exit_code().await, 0);
    assert!(is_empty(temporary.path()), "something is left behind");
}

#[tokio::test]
async fn interrupted_it_stops_in_order() {
    let temporary = tempfile::tempdir().unwrap();
    let mut demo = demo(&temporary, &["--messages", "3000000"]);
    eventually("its folder", PATIENCE, async || (!is_empty(temporary.path())).then_some(())).await;
    demo.wait_for("POST /v1/batches").await;
    demo.interrupt();
    let begin = std::time::Instant::now();
    assert_eq!(demo.exit_code().await, 130);
    assert!(begin.elapsed() < Duration::from_secs(15));
    assert!(is_empty(temporary.path()), "something is left behind");
}
