//! `ringback send`: what arrives at the provider, what is told of it, and how little it takes.

use std::{
    fs,
    io::{self, PipeWriter, Write},
    path::Path,
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    harness::{
        Kind, Mode, PATIENCE, Ran, Watched, command, eventually, free_port, key_hash, run_to_end,
    },
    scene::{Scene, counts, messages, number, shown, shown_when, these},
};

/// What a client's memory may come to, in KiB.
const RESIDENT_KIB_MAX: u64 = 50 * 1024;

/// A list that takes many pieces to upload, in records.
const LONG: usize = 20_000;

/// `ringback send` towards the service.
fn send(scene: &Scene, arguments: &[&str]) -> Command {
    send_to(&scene.ringback.address(), arguments)
}

fn send_to(address: &str, arguments: &[&str]) -> Command {
    let mut command = command();
    command.arg("send").args(arguments).env("RINGBACK_URL", format!("http://{address}"));
    command
}

/// Runs a command that reads `input`.
fn run_on(input: &str, mut command: Command) -> Ran {
    let (reader, mut writer) = io::pipe().unwrap();
    command.stdin(reader);
    let input = input.to_owned();
    let writing = std::thread::spawn(move || writer.write_all(input.as_bytes()));
    let ran = run_to_end(command);
    writing.join().unwrap().unwrap();
    ran
}

async fn scene() -> Scene {
    Scene::start_on(Kind::Embedded).await
}

fn list(folder: &TempDir, name: &str, text: impl AsRef<[u8]>) -> String {
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A list of many records.
fn records(records: usize) -> String {
    let records = (0..records).map(|index| number(index) + ",Ann\n");
    records.fold("to,name\n".to_owned(), |text, record| text + &record)
}

/// The only batch that the service knows.
async fn only_batch(scene: &Scene) -> Value {
    let batches = scene.client.get("/v1/batches").await.json();
    let [batch] = &batches["batches"].as_array().unwrap()[..] else { panic!("{batches}") };
    batch.clone()
}

/// Waits until the service knows of no batch, nor of one under way, and checks that none was sent.
async fn nothing_is_left(scene: &Scene) {
    eventually("the end of the upload", PATIENCE, async || {
        let batches = scene.client.get("/v1/batches").await.json();
        batches["batches"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
    assert_eq!(scene.provider.count(), 0);
}

/// The bodies that the provider was given, by recipient.
fn bodies(scene: &Scene) -> Vec<(String, String)> {
    let calls = scene.provider.calls().into_iter();
    let mut bodies: Vec<_> = calls.map(|call| (call.to, call.body)).collect();
    bodies.sort();
    bodies
}

fn body_of(index: usize, body: &str) -> (String, String) {
    (number(index), body.to_owned())
}

#[tokio::test]
async fn a_csv_list_arrives_rendered_and_is_waited_for() {
    let (scene, folder) = (scene().await, folder());
    let text = format!(
        "\u{feff}name,to,reference,unused column\r\n\
         Ann,{},user-1,x\r\n\
         \"O\"\"Neill,\nBob\",{},,\"y\"\r\n\
         ,{},\"ref \"\"3\"\"\",\r\n",
        number(1),
        number(2),
        number(3)
    );
    let ran = run_to_end(send(
        &scene,
        &[
            &list(&folder, "list.csv", text),
            "--body=Hi {{name}}: {{code}}",
            "--variable=name=there",
            "--variable=code=81",
            "--from=Shop",
            "--provider=carrier",
            "--reference=spring",
            "--metadata={\"campaign\": 7}",
            "--callback-url",
            &scene.receiver.url(),
            "--wait",
        ],
    ));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.out, "STATE  MESSAGES\nsent          3\ntotal         3\n");
    let expected =
        [body_of(1, "Hi Ann: 81"), body_of(2, "Hi O\"Neill,\nBob: 81"), body_of(3, "Hi there: 81")];
    assert_eq!(bodies(&scene), expected);
    assert!(scene.provider.calls().iter().all(|call| call.from.as_deref() == Some("Shop")));
    let batch = only_batch(&scene).await;
    let id = batch["id"].as_str().unwrap();
    assert!(ran.err.contains(&format!("Accepted as {id}, with 3 recipients.")), "{ran:?}");
    assert_eq!(
        (&batch["reference"], &batch["metadata"]),
        (&json!("spring"), &json!({"campaign": 7}))
    );
    let references: Vec<Value> =
        messages(&scene.client, id).await.iter().map(|m| m["reference"].clone()).collect();
    assert_eq!(references, [json!("user-1"), json!(null), json!("ref \"3\"")]);
    scene.report(id).await;
}

#[tokio::test]
async fn ndjson_is_taken_from_a_file_and_from_stdin() {
    let (scene, folder) = (scene().await, folder());
    let text = format!(
        "\"{}\"\n\n{{\"to\":\"{}\",\"variables\":{{\"name\":\"Bob\",\"n\":1.10}}}}",
        number(1),
        number(2)
    );
    let arguments =
        ["--body=Hi {{name}} {{n}}", "--variable=name=there", "--variable=n=0", "--json"];
    let file = list(&folder, "list.jsonl", &text);
    let from_file = run_to_end(send(&scene, &[&[file.as_str()], &arguments[..]].concat()));
    let from_stdin = run_on(&text, send(&scene, &[&["-"], &arguments[..]].concat()));
    for ran in [from_file, from_stdin] {
        assert_eq!(ran.code, 0, "{ran:?}");
        let batch: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!((ran.out.lines().count(), &batch["state"]), (1, &json!("completed")));
        assert_eq!(counts(&batch), these([("sent", 2)]));
    }
    let (first, second) = (body_of(1, "Hi there 0"), body_of(2, "Hi Bob 1.10"));
    assert_eq!(bodies(&scene), [first.clone(), first, second.clone(), second]);
}

#[tokio::test]
async fn csv_is_taken_from_stdin() {
    let scene = scene().await;
    let ran = run_on(&records(2_000), send(&scene, &["-", "--body", "Hi {{name}}"]));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.ends_with("total     2,000\n"), "{ran:?}");
    assert!(bodies(&scene).into_iter().eq((0..2_000).map(|index| body_of(index, "Hi Ann"))));
}

#[tokio::test]
async fn recipients_that_did_not_go_are_written_to_a_file() {
    let (scene, folder) = (scene().await, folder());
    let text =
        format!("reference,to\nuser-1,nobody\nuser-2,{}\n\"a,b\",\"+1 \"\"2\"\"\"\n", number(2));
    // The list itself is replaced once all is over.
    let path = list(&folder, "list.csv", text);
    let ran = run_to_end(send(&scene, &[&path, "--body", "Hi", "--failed-to", &path]));
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("failed         2\n"), "{ran:?}");
    assert!(ran.err.contains("2 of 3 messages did not go."), "{ran:?}");
    let why = "failed,invalid_number,";
    let written = fs::read_to_string(&path).unwrap();
    let mut lines = written.split("\r\n");
    assert_eq!(lines.next(), Some("to,reference,state,error_code,error_detail"));
    assert!(lines.next().unwrap().starts_with(&format!("nobody,user-1,{why}")), "{written}");
    assert!(
        lines.next().unwrap().starts_with(&format!("\"+1 \"\"2\"\"\",\"a,b\",{why}")),
        "{written}"
    );
    assert_eq!((lines.next(), lines.next()), (Some(""), None));
    assert_eq!(folder.path().read_dir().unwrap().count(), 1);
}

#[tokio::test]
async fn all_pages_of_those_that_did_not_go_are_written() {
    let (scene, folder) = (scene().await, folder());
    scene.provider.set(Mode::Reject(400));
    let path = folder.path().join("failed.csv");
    let failed_to = ["-", "--body", "Hi", "--failed-to", path.to_str().unwrap()];
    let ran = run_on(&records(2_500), send(&scene, &failed_to));
    assert_eq!(ran.code, 1, "{ran:?}");
    let written = fs::read_to_string(&path).unwrap();
    let recipients = written.lines().skip(1).map(|line| line.split(',').next().unwrap());
    assert!(recipients.eq((0..2_500).map(number)), "{written}");
}

#[test]
fn a_dry_run_tells_all_and_needs_no_server() {
    let folder = folder();
    let text = format!("to,name\n{},Ann\nnobody,Bob\n{},Eve\n", number(1), number(3));
    let path = list(&folder, "list.csv", text);
    let dry = |arguments: &[&str]| {
        let address = format!("127.0.0.1:{}", free_port());
        run_to_end(send_to(&address, &[&[path.as_str(), "--dry-run"], arguments].concat()))
    };
    let ran = dry(&["--body", "Hi {{name}}"]);
    assert_eq!((ran.code, ran.err.as_str()), (1, ""), "{ran:?}");
    assert!(ran.out.contains(&format!("{path}:3: `nobody`: not an E.164 number")), "{ran:?}");
    assert!(ran.out.contains(&format!("to {}:\n  Hi Ann\n", number(1))), "{ran:?}");
    assert!(ran.out.ends_with("Nothing was sent: this was a dry run.\n"), "{ran:?}");
    let ran = dry(&["--body", "Hi {{name}}", "--json"]);
    let told: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&told["recipients"], &told["invalid_numbers"]), (&json!(3), &json!(1)));
    assert_eq!(told["messages"][1], json!({"to": number(3), "body": "Hi Eve"}));
    assert_eq!(told["problems"][0]["line"], 3);
    let ran = dry(&["--body", "Hi {{nam}}"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("{{nam}}"), "{ran:?}");
    let good = list(&folder, "good.csv", records(1_000));
    let ran = run_to_end(send_to("127.0.0.1:1", &[&good, "--dry-run", "--body", "Hi"]));
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[tokio::test]
async fn an_estimate_tells_what_a_list_would_come_to_and_sends_nothing() {
    let scene = Scene::start_on_with(Kind::Embedded, |setup| {
        setup.set("providers.carrier.price_per_segment", "0.01 EUR")
    })
    .await;
    let folder = folder();
    let text = format!("to,name\n{0},“Ann”\nnobody,Bob\n{0},{1}\n", number(1), "x".repeat(320));
    let path = list(&folder, "list.csv", text);
    let estimate = |arguments: &[&str]| {
        run_to_end(send(&scene, &[&[path.as_str(), "--estimate"], arguments].concat()))
    };
    let ran = estimate(&["--body", "Hi {{name}}"]);
    assert_eq!((ran.code, ran.err.contains("Accepted")), (1, false), "{ran:?}");
    assert!(ran.out.contains("segments                           4\n"), "{ran:?}");
    assert!(ran.out.contains("cost                               0.04 EUR\n"), "{ran:?}");
    assert!(ran.out.contains("with an invalid number, counted from 0: 1\n"), "{ran:?}");
    let ran = estimate(&[
        "--body=Hi {{name}}",
        "--smart-encoding",
        "--max-segments=2",
        "--skip-duplicates",
        "--json",
    ]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let told: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!([&told["messages"], &told["duplicate_recipients"]], [2, 1]);
    assert_eq!(told["encodings"], json!({"gsm7": 1, "ucs2": 0}));
    let ran = estimate(&["--body=Hi {{name}}", "--max-segments=2", "--json"]);
    let told: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(told["too_many_segments"], json!({"count": 1, "indexes": [2]}));
    let good = list(&folder, "good.csv", records(LONG));
    let ran = run_to_end(send(&scene, &[&good, "--estimate", "--body=Hi", "--json"]));
    assert_eq!(ran.code, 0, "{ran:?}");
    let told: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(told["segments"], LONG);
    let flawed = list(&folder, "flawed.csv", records(LONG) + "+1,Ann,x\n");
    let ran = run_to_end(send(&scene, &[&flawed, "--estimate", "--body=Hi"]));
    assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{ran:?}");
    let ran = estimate(&["--body=Hi", "--provider=nobody"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("/provider: "), "{ran:?}");
    for other in ["--dry-run", "--no-wait", "--idempotency-key=a"] {
        assert_eq!(estimate(&["--body=Hi", other]).code, 2, "{other}");
    }
    nothing_is_left(&scene).await;
    let ran = run_to_end(send_to("127.0.0.1:1", &[&good, "--estimate", "--body=Hi"]));
    assert_eq!(ran.code, 3, "{ran:?}");
}

#[tokio::test]
async fn texts_are_made_as_the_options_say() {
    let (scene, folder) = (scene().await, folder());
    let text = format!("to,name\n{},“Ann”\n{},{}\n", number(1), number(2), "x".repeat(320));
    let path = list(&folder, "list.csv", text);
    let options = ["--body={{name}}…", "--smart-encoding", "--max-segments=2"];
    let ran = run_to_end(send(&scene, &[&[path.as_str()], &options[..]].concat()));
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!(bodies(&scene), [body_of(1, "\"Ann\"...")]);
    let batch = only_batch(&scene).await;
    assert_eq!(counts(&batch), these([("sent", 1), ("failed", 1)]));
    let messages = messages(&scene.client, batch["id"].as_str().unwrap()).await;
    assert_eq!(messages[1]["error"]["code"], "too_many_segments");
    let dry = [&[path.as_str(), "--dry-run"], &options[..]].concat();
    let ran = run_to_end(send(&scene, &dry));
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains("\n  \"Ann\"...\n"), "{ran:?}");
    assert!(ran.out.contains("takes 3 segments"), "{ran:?}");
}

#[tokio::test]
async fn a_flawed_list_is_told_with_its_place_and_leaves_nothing() {
    let (scene, folder) = (scene().await, folder());
    let long = records(LONG);
    let line = LONG + 2;
    for (name, text, place) in [
        ("early.csv", "to,name\n+15551230001\n".to_owned(), "2:13: `name`: ".to_owned()),
        ("late.csv", format!("{long}+1,Ann,x\n"), format!("{line}:8: ")),
        ("open.csv", format!("{long}+1,\"Ann\n"), format!("{line}:4: `name`: ")),
        ("header.csv", "name\nAnn\n".to_owned(), "1:1: ".to_owned()),
        (
            "list.ndjson",
            format!("{}{{\"too\":1}}\n", "\"+15551230001\"\n".repeat(LONG)),
            format!("{}:6: unknown field `too`", LONG + 1),
        ),
    ] {
        let path = list(&folder, name, text);
        let ran = run_to_end(send(&scene, &[&path, "--body", "Hi"]));
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{ran:?}");
        assert!(ran.err.contains(&format!("error: {path}:{place}")), "{ran:?}");
        assert!(ran.err.ends_with("Nothing was sent.\n"), "{ran:?}");
        nothing_is_left(&scene).await;
    }
    for absent in ["/nowhere/list.csv", "/"] {
        let ran = run_to_end(send(&scene, &[absent, "--body", "Hi"]));
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.err.contains(&format!("{absent}: can't be read: ")), "{ran:?}");
    }
}

#[tokio::test]
async fn a_refused_batch_is_told_by_its_recipients() {
    let scene = scene().await;
    let reject = ["-", "--format=csv", "--body=Hi", "--on-invalid=reject-batch"];
    let ran = run_on("to\n+15551230001\nnobody\n", send(&scene, &reject));
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("invalid_recipients"), "{ran:?}");
    assert!(ran.err.contains("recipient 2"), "{ran:?}");
    let ran = run_on("to\n", send(&scene, &["-", "--body=Hi", "--provider=nobody"]));
    assert_eq!(ran.code, 1, "{ran:?}");
    let once = ran.err.matches("/provider: ").count() == 1 && !ran.err.contains("/1/");
    assert!(once, "{ran:?}");
    nothing_is_left(&scene).await;
}

#[tokio::test]
async fn a_server_that_refuses_or_is_not_there_has_an_exit_code_of_its_own() {
    let hash = key_hash("rbk_secret");
    let closed = |setup: crate::harness::Setup| setup.set("accounts.acme.api_key_hashes", &hash);
    let scene = Scene::start_on_with(Kind::Embedded, closed).await;
    let folder = folder();
    let path = list(&folder, "list.csv", records(LONG));
    let ran = run_to_end(send(&scene, &[&path, "--body", "Hi"]));
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("401") && ran.err.contains("RINGBACK_API_KEY"), "{ran:?}");
    let small = list(&folder, "small.csv", records(2));
    let mut known = send(&scene, &[&small, "--body", "Hi"]);
    known.env("RINGBACK_API_KEY", "rbk_secret");
    assert_eq!(run_to_end(known).code, 0);
    let ran = run_to_end(send_to(&format!("127.0.0.1:{}", free_port()), &[&path, "--body", "Hi"]));
    assert_eq!(ran.code, 3, "{ran:?}");
    assert_eq!(run_to_end(send(&scene, &[&path])).code, 2);
}

#[tokio::test]
async fn without_waiting_the_id_is_printed_and_a_key_sends_once() {
    let (scene, folder) = (scene().await, folder());
    let path = list(&folder, "list.csv", records(10));
    let again = || {
        let key = ["--idempotency-key", "spring-1"];
        run_to_end(send(
            &scene,
            &[&[path.as_str(), "--body", "Hi", "--no-wait"], &key[..]].concat(),
        ))
    };
    let (first, second) = (again(), again());
    assert_eq!((first.code, second.code), (0, 0), "{first:?} {second:?}");
    assert_eq!(first.out, second.out);
    assert!(second.err.contains("was sent before"), "{second:?}");
    let id = first.out.trim();
    assert_eq!(only_batch(&scene).await["id"], id);
    scene.client.wait_until_complete(id, PATIENCE).await;
    assert_eq!(scene.provider.count(), 10);
    let other = run_to_end(send(&scene, &[&path, "--body", "Hi", "--detach", "--json"]));
    assert_ne!(serde_json::from_str::<Value>(&other.out).unwrap()["id"], id);
}

/// Starts an upload from a pipe that stays open, and waits until it is under way.
async fn upload_under_way(scene: &Scene) -> (Watched, PipeWriter) {
    let (reader, mut writer) = io::pipe().unwrap();
    let sending = Watched::reading(reader, send(scene, &["-", "--body", "Hi"]));
    let written = std::thread::spawn(move || {
        writer.write_all(records(LONG).as_bytes()).unwrap();
        writer
    });
    sending.wait_for("20,000 recipients").await;
    (sending, written.join().unwrap())
}

#[tokio::test]
async fn an_interrupted_upload_sends_nothing_and_says_so() {
    let scene = scene().await;
    let (mut sending, writer) = upload_under_way(&scene).await;
    sending.interrupt();
    assert_eq!(sending.exit_code().await, 130);
    assert!(sending.err().ends_with("Nothing was sent: the upload was broken off.\n"));
    assert_eq!(sending.out(), "");
    drop(writer);
    nothing_is_left(&scene).await;
}

#[tokio::test]
async fn a_batch_goes_on_when_nobody_waits_any_more() {
    let (scene, folder) = (scene().await, folder());
    scene.provider.set(Mode::Delay(Duration::from_secs(3)));
    let path = list(&folder, "list.csv", records(3));
    let mut sending = Watched::start(send(&scene, &[&path, "--body", "Hi"]));
    sending.wait_for("Accepted as ").await;
    let id = only_batch(&scene).await["id"].as_str().unwrap().to_owned();
    shown_when(&scene.client, &id, "its start", |batch| batch["state"] == "running").await;
    sending.interrupt();
    assert_eq!(sending.exit_code().await, 130);
    let told = sending.err();
    for words in
        ["goes on at the server", "ringback batch watch bat_", "ringback batch cancel bat_"]
    {
        assert!(told.contains(words), "{told}");
    }
    let batch = scene.client.wait_until_complete(&id, PATIENCE).await;
    assert_eq!(counts(&batch), these([("sent", 3)]));
}

/// Stands before the service and loses its answers to the first `losses` connections.
async fn forgetful(address: String, losses: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        for connection in 0.. {
            let (client, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect(&address).await.unwrap();
            tokio::spawn(pass(client, server, connection < losses));
        }
    });
    place
}

async fn pass(client: TcpStream, server: TcpStream, loses: bool) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut answer = vec![0; 64 * 1024];
    loop {
        match from_server.read(&mut answer).await {
            Ok(bytes) if bytes > 0 && !loses => {
                if to_client.write_all(&answer[..bytes]).await.is_err() {
                    break;
                }
            }
            _ => break,
        }
    }
    up.abort();
}

#[tokio::test]
async fn a_file_is_uploaded_again_when_the_answer_was_lost() {
    let (scene, folder) = (scene().await, folder());
    let path = list(&folder, "list.csv", records(LONG));
    let place = forgetful(scene.ringback.address(), 2).await;
    let lost = tokio::task::spawn_blocking(move || {
        run_to_end(send_to(&place, &[&path, "--body", "Hi", "--no-wait"]))
    });
    let ran = lost.await.unwrap();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(
        ran.err.matches("Uploading the list again under the same key.").count(),
        2,
        "{ran:?}"
    );
    assert!(ran.err.contains("Accepted as "), "{ran:?}");
    assert_eq!(only_batch(&scene).await["counts"]["total"], LONG);
}

#[tokio::test]
async fn who_can_not_know_is_told_the_key_to_find_out_with() {
    let scene = scene().await;
    let place = forgetful(scene.ringback.address(), usize::MAX).await;
    let lost = tokio::task::spawn_blocking(move || {
        run_on(&records(10), send_to(&place, &["-", "--body", "Hi", "--no-wait"]))
    });
    let ran = lost.await.unwrap();
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.err.contains("is not known"), "{ran:?}");
    let key = ran.err.rsplit_once("--idempotency-key ").unwrap().1.trim();
    let once_more = ["-", "--body", "Hi", "--no-wait", "--idempotency-key", key];
    let ran = run_on(&records(10), send(&scene, &once_more));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(only_batch(&scene).await["id"], ran.out.trim());
}

#[tokio::test]
async fn a_long_list_takes_no_more_memory_than_a_short_one() {
    const RECORDS: usize = 200_000;
    let (scene, folder) = (scene().await, folder());
    scene.provider.set(Mode::Hang);
    let path = list(&folder, "list.csv", records(RECORDS));
    let mut sending = Watched::start(send(&scene, &[&path, "--body", "Hi {{name}}"]));
    sending.wait_for("Accepted as ").await;
    let resident = peak_kib(&sending);
    assert!(resident < RESIDENT_KIB_MAX, "{resident} KiB");
    sending.interrupt();
    assert_eq!(sending.exit_code().await, 130);
    let id = only_batch(&scene).await["id"].as_str().unwrap().to_owned();
    assert_eq!(shown(&scene.client, &id).await["counts"]["total"], RECORDS);
}

/// The most memory that a running program has had resident.
fn peak_kib(program: &Watched) -> u64 {
    let path = Path::new("/proc").join(program.pid().to_string()).join("status");
    let status = fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
