//! The commands that call a server: what they print, and how they end.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::TcpListener,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use ringback::{
    api::model::{BatchEvent, EventType, RecipientInput, SubmitBatch, VariableValue},
    client::{BatchFilter, Client, ClientError},
    clock::Clock,
    domain::batch::BatchState,
};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::{
    harness::{
        Kind, Mode, PATIENCE, Ran, Receiver, Reply, command, eventually, free_port, key_hash,
        run_to_end,
    },
    scene::{Scene, accepted, batch, number, numbers, shown, shown_when, with_callback},
};

/// A command that runs on while the test does something else.
struct Running {
    child: Child,
    out: NamedTempFile,
    err: NamedTempFile,
}

// === impl Ran ===

impl Ran {
    /// The one document printed.
    fn json(&self) -> Value {
        let [document] = &self.json_lines()[..] else { panic!("{self:?}") };
        document.clone()
    }

    fn json_lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The words of the line that begins with `start`.
    fn line(&self, start: &str) -> Vec<&str> {
        let line = self.out.lines().find(|line| line.trim_start().starts_with(start));
        line.unwrap_or_else(|| panic!("no {start} in {self:?}")).split_whitespace().collect()
    }
}

// === impl Running ===

impl Running {
    fn start(scene: &Scene, arguments: &[&str]) -> Self {
        let (out, err) = (NamedTempFile::new().unwrap(), NamedTempFile::new().unwrap());
        let child = at(scene, arguments)
            .stdout(out.reopen().unwrap())
            .stderr(err.reopen().unwrap())
            .spawn()
            .unwrap();
        Self { child, out, err }
    }

    async fn wait_for(&self, words: &str) {
        eventually(words, PATIENCE, async || read(&self.err).contains(words).then_some(())).await;
    }

    fn interrupt(&self) {
        let kill = format!("kill -s INT {}", self.child.id());
        assert!(Command::new("/bin/sh").args(["-c", &kill]).status().unwrap().success());
    }

    async fn end(mut self) -> Ran {
        let status = eventually("its end", PATIENCE, async || self.child.try_wait().unwrap()).await;
        Ran { code: status.code().unwrap(), out: read(&self.out), err: read(&self.err) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It fails only if it has ended already.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

fn read(file: &NamedTempFile) -> String {
    io::read_to_string(File::open(file.path()).unwrap()).unwrap()
}

fn at(scene: &Scene, arguments: &[&str]) -> Command {
    let mut command = command();
    command.args(arguments).stdin(Stdio::null());
    command.env("RINGBACK_URL", format!("http://{}", scene.ringback.address()));
    command
}

fn run_at(scene: &Scene, arguments: &[&str]) -> Ran {
    run_to_end(at(scene, arguments))
}

/// A service whose messages leave one by one.
async fn slow_scene(provider: Mode) -> Scene {
    let settings = |setup: crate::harness::Setup| setup.set("providers.carrier.max_in_flight", "1");
    let scene = Scene::start_on_with(Kind::Embedded, settings).await;
    scene.provider.set(provider);
    scene
}

#[tokio::test]
async fn a_batch_that_went_is_watched_listed_and_shown() {
    let scene = Scene::start_on(Kind::Embedded).await;
    let mut wanted = scene.batch(numbers(0..1_200));
    wanted["reference"] = "spring".into();
    wanted["metadata"] = json!({"campaign": 7});
    let id = accepted(&scene.client, &wanted).await;
    let other = accepted(&scene.client, &batch(numbers(0..1))).await;

    let watched = run_at(&scene, &["batch", "watch", &id]);
    assert_eq!(watched.code, 0, "{watched:?}");
    assert_eq!(watched.line("sent"), ["sent", "1,200"]);
    assert_eq!(watched.line("total"), ["total", "1,200"]);
    assert!(watched.err.starts_with(&format!("{id}: ")), "{watched:?}");
    scene.report(&id).await;
    scene.client.wait_until_complete(&other, PATIENCE).await;

    let listed = run_at(&scene, &["batch", "list"]);
    assert_eq!(listed.code, 0, "{listed:?}");
    let [header, newest, oldest] = listed.out.lines().collect::<Vec<_>>()[..] else {
        panic!("{listed:?}")
    };
    assert!(header.starts_with("ID ") && header.contains(" STATE "), "{header}");
    assert!(newest.starts_with(&other) && oldest.starts_with(&id), "{listed:?}");
    assert_eq!(listed.line(&id)[1..5], ["completed", "1,200", "1,200", "1,200"]);
    assert!(oldest.ends_with("  delivered  spring"), "{oldest}");

    let found = run_at(&scene, &["batch", "list", "--reference", "spring", "--json"]);
    let as_told = shown(&scene.client, &id).await;
    assert_eq!(found.json(), as_told);
    let found = run_at(&scene, &["batch", "list", "--limit", "1", "--json"]);
    assert_eq!(found.json()["id"], other);
    let found = run_at(&scene, &["batch", "list", "--state", "paused"]);
    assert_eq!((found.code, found.out.as_str()), (0, ""));
    assert!(found.err.contains("no such batches"), "{found:?}");

    let told = run_at(&scene, &["batch", "show", &id]);
    assert_eq!(told.line("state"), ["state", "completed"]);
    assert_eq!(told.line("callback"), ["callback", "delivered,", &scene.receiver.url()]);
    assert_eq!(told.line("metadata"), ["metadata", r#"{"campaign":7}"#]);
    assert_eq!(run_at(&scene, &["batch", "show", &id, "--json"]).json(), as_told);
}

#[tokio::test]
async fn a_batch_that_did_not_all_go_ends_its_watch_with_1() {
    let scene = Scene::start_on(Kind::Embedded).await;
    let id = accepted(&scene.client, &batch(vec!["+15551230001", "12"])).await;
    let watched = run_at(&scene, &["batch", "watch", &id]);
    assert_eq!(watched.code, 1, "{watched:?}");
    assert_eq!(watched.line("failed"), ["failed", "1"]);
    assert!(watched.err.contains("1 of 2 messages did not go."), "{watched:?}");

    let in_json = run_at(&scene, &["batch", "watch", &id, "--json"]);
    assert_eq!(in_json.code, 1);
    assert_eq!(in_json.json(), shown(&scene.client, &id).await);
}

#[tokio::test]
async fn a_batch_is_paused_resumed_and_canceled() {
    let scene = slow_scene(Mode::Delay(Duration::from_millis(20))).await;
    let id = accepted(&scene.client, &batch(numbers(0..5_000))).await;
    let paused = run_at(&scene, &["batch", "pause", &id, "--json"]);
    assert_eq!((paused.code, &paused.json()["state"]), (0, &json!("paused")), "{paused:?}");
    assert_eq!(shown(&scene.client, &id).await["state"], "paused");
    let resumed = run_at(&scene, &["batch", "resume", &id]);
    assert_eq!(resumed.code, 0, "{resumed:?}");
    assert!(["queued", "running"].contains(&resumed.line("state")[1]), "{resumed:?}");

    // Who watches sees each change, and that not all of it went.
    let watch = Running::start(&scene, &["batch", "watch", &id, "--json"]);
    eventually("the first line", PATIENCE, async || (!read(&watch.out).is_empty()).then_some(()))
        .await;
    let canceled = run_at(&scene, &["batch", "cancel", &id]);
    assert_eq!((canceled.code, canceled.line("state")[1]), (0, "canceled"), "{canceled:?}");
    let watched = watch.end().await;
    let lines = watched.json_lines();
    assert_eq!((watched.code, lines.len() > 1), (1, true), "{watched:?}");
    assert_eq!(lines[lines.len() - 1]["state"], "canceled");
    assert!(!lines[lines.len() - 1]["completed_at"].is_null());

    let late = run_at(&scene, &["batch", "resume", &id]);
    assert_eq!(late.code, 1);
    assert!(late.err.contains("(409 batch_state)"), "{late:?}");
}

#[tokio::test]
async fn messages_are_listed_to_the_last_page() {
    let scene = Scene::start_on(Kind::Embedded).await;
    let mut recipients: Vec<Value> = numbers(0..2_500).into_iter().map(Value::from).collect();
    recipients[1_700] = json!({"to": "12\u{1b}[2J", "reference": "user-42"});
    let id = accepted(&scene.client, &batch(recipients)).await;
    scene.client.wait_until_complete(&id, PATIENCE).await;

    let all = run_at(&scene, &["messages", &id, "--json"]).json_lines();
    assert_eq!(all.len(), 2_500);
    assert!(all.iter().enumerate().all(|(index, message)| message["index"] == index));
    let as_told = scene.client.get(&format!("/v1/batches/{id}/messages/1700")).await.json();
    assert_eq!(all[1_700], as_told);

    let table = run_at(&scene, &["messages", &id]);
    assert_eq!(table.out.lines().count(), 2_501, "one header, and a row a message");
    assert!(!table.out.contains('\u{1b}'));
    let column = |line: &str| line.find(" sent ").map(|at| line[..at].chars().count());
    let mut rows = table.out.lines().skip(1);
    let first = column(rows.next().unwrap());
    assert!(first.is_some() && column(rows.last().unwrap()) == first, "pages line up");

    let failed = run_at(&scene, &["messages", &id, "--state", "failed"]);
    let row = failed.line("1700");
    assert!(row.contains(&"user-42") && row.contains(&"invalid_number:"), "{failed:?}");
    assert_eq!(failed.out.lines().count(), 2);
    let some = run_at(&scene, &["messages", &id, "--limit", "3", "--json"]);
    assert_eq!(some.json_lines(), all[..3]);
    let none = run_at(&scene, &["messages", &id, "--state", "delivered", "--json"]);
    assert_eq!((none.code, none.out.as_str(), none.err.as_str()), (0, "", ""));
}

#[tokio::test]
async fn what_did_not_go_is_tried_again_as_a_new_batch() {
    let scene = Scene::start_on(Kind::Embedded).await;
    let id = accepted(&scene.client, &batch(vec!["+15551230001", "12", "13"])).await;
    scene.client.wait_until_complete(&id, PATIENCE).await;
    let retry = ["batch", "retry", &id, "--states", "failed,expired"];
    let with_key = [&retry[..], &["--idempotency-key", "once"]].concat();
    let told = run_at(&scene, &with_key);
    assert_eq!((told.code, told.line("parent")[1]), (0, &*id), "{told:?}");
    assert_eq!(told.line("total"), ["total", "2"]);
    let made = told.line("id")[1].to_owned();
    assert_ne!(made, id);
    let over = scene.client.wait_until_complete(&made, PATIENCE).await;
    assert_eq!((&over["counts"]["failed"], &over["counts"]["total"]), (&json!(2), &json!(2)));

    let again = run_at(&scene, &[&with_key[..], &["--json"]].concat());
    assert_eq!((again.code, &again.json()["id"]), (0, &json!(made)), "{again:?}");
    assert!(again.err.contains("made before"), "{again:?}");
    // Without a key of one's own each command makes a batch.
    let other = run_at(&scene, &[&retry[..], &["--json"]].concat()).json();
    assert!(other["id"] != json!(made) && other["parent"] == json!(id), "{other}");

    let mut waits = batch(numbers(0..1));
    waits["send_at"] = Clock::system().now().after(Duration::from_hours(1)).to_string().into();
    let waits = accepted(&scene.client, &waits).await;
    let early = run_at(&scene, &["batch", "retry", &waits, "--states", "failed"]);
    assert_eq!((early.code, early.out.as_str()), (1, ""), "{early:?}");
    assert!(early.err.contains("(409 batch_state)"), "{early:?}");
}

#[tokio::test]
async fn a_provider_is_listed_stopped_and_resumed() {
    let ops = key_hash("rbk_ops");
    let acme = key_hash("rbk_acme");
    let settings = |setup: crate::harness::Setup| {
        setup
            .set("accounts.ops.api_key_hashes", &ops)
            .set("accounts.ops.admin", "true")
            .set("accounts.acme.api_key_hashes", &acme)
            .set("providers.carrier.rate", "200/s")
    };
    let scene = Scene::start_on_with(Kind::Embedded, settings).await;
    let by = |key: &str, arguments: &[&str]| {
        let mut command = at(&scene, arguments);
        command.env("RINGBACK_API_KEY", key);
        run_to_end(command)
    };
    let listed = by("rbk_ops", &["provider", "list"]);
    assert_eq!(listed.line("carrier"), ["carrier", "http", "running", "-", "200/s", "0", "0"]);
    assert_eq!(listed.line("mock")[2..5], ["running", "-", "-"], "{listed:?}");
    let as_told = scene.client.with_key("rbk_ops").get("/v1/providers").await.json();
    let in_json = by("rbk_ops", &["provider", "list", "--json"]);
    assert_eq!(json!(in_json.json_lines()), as_told["providers"], "{in_json:?}");

    let paused = by("rbk_ops", &["provider", "pause", "carrier"]);
    assert_eq!((paused.code, paused.line("carrier")[2]), (0, "paused"), "{paused:?}");
    let seen = by("rbk_acme", &["provider", "list"]);
    assert_eq!(seen.line("carrier")[2..], ["paused", "-", "200/s", "-", "-"], "{seen:?}");
    let forbidden = by("rbk_acme", &["provider", "resume", "carrier"]);
    assert_eq!((forbidden.code, forbidden.out.as_str()), (1, ""), "{forbidden:?}");
    assert!(forbidden.err.contains("(403 forbidden)"), "{forbidden:?}");
    let nobody = by("rbk_ops", &["provider", "pause", "no/body"]);
    assert_eq!(nobody.code, 1, "{nobody:?}");
    assert!(nobody.err.contains("(404 not_found)"), "{nobody:?}");
    let resumed = by("rbk_ops", &["provider", "resume", "carrier", "--json"]);
    assert_eq!((resumed.code, &resumed.json()["state"]), (0, &json!("running")), "{resumed:?}");
}

#[tokio::test]
async fn attempts_at_a_callback_are_listed() {
    let scene = Scene::start_on(Kind::Embedded).await;
    let id = scene.post(numbers(0..1)).await;
    scene.report(&id).await;
    let listed = run_at(&scene, &["callback", "list", &id]);
    assert_eq!(listed.code, 0, "{listed:?}");
    assert_eq!(listed.line("1 ")[3], "200");
    let as_told = scene.client.get(&format!("/v1/batches/{id}/callbacks")).await.json();
    assert_eq!(run_at(&scene, &["callback", "list", &id, "--json"]).json(), as_told);
    assert_eq!(as_told["attempts"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn callbacks_are_listed_and_delivered_again() {
    let scene =
        Scene::start_on_with(Kind::Embedded, |setup| setup.set("callbacks.schedule", "10ms")).await;
    let failing = Receiver::scripted([Reply::Status(500); 2]);
    let given_up = accepted(&scene.client, &with_callback(batch(numbers(0..1)), &failing)).await;
    shown_when(&scene.client, &given_up, "the end of its callback", |batch| {
        batch["callback"]["state"] == "exhausted"
    })
    .await;
    let taken = scene.post(numbers(0..1)).await;
    scene.report(&taken).await;

    let listed = run_at(&scene, &["callback", "list"]);
    let row = listed.line(&given_up.replacen("bat_", "evt_", 1));
    assert_eq!((row[1], row[2], row[4], row[5]), ("batch.completed", &*given_up, "exhausted", "2"));
    assert_eq!(listed.out.lines().count(), 3, "{listed:?}");
    let json = run_at(&scene, &["callback", "list", "--state", "exhausted", "--json"]).json_lines();
    assert_eq!((json.len(), &json[0]["batch_id"]), (1, &json!(given_up)));
    let none = run_at(&scene, &["callback", "list", "--host", "hooks.example"]);
    assert_eq!(
        (none.code, none.out.as_str(), none.err.as_str()),
        (0, "", "There are no such callbacks.\n")
    );

    let one = run_at(&scene, &["callback", "replay", &taken]);
    assert!(one.code == 0 && one.out.contains("will be delivered again"), "{one:?}");
    scene.receiver.wait_for(2, PATIENCE).await;
    let many = run_at(&scene, &["callback", "replay", "--since", "2h", "--host", "127.0.0.1"]);
    assert!(many.code == 0 && many.out.contains("that were given up since"), "{many:?}");
    failing.wait_for(3, PATIENCE).await;

    let silent = accepted(&scene.client, &batch(numbers(0..1))).await;
    scene.client.wait_until_complete(&silent, PATIENCE).await;
    let nobody = run_at(&scene, &["callback", "replay", &silent]);
    assert_eq!((nobody.code, nobody.out.as_str()), (1, ""), "{nobody:?}");
    assert!(nobody.err.contains("(422 no_callback)"), "{nobody:?}");
}

#[tokio::test]
async fn a_receiver_is_tried_out() {
    let scene = Scene::start_on(Kind::Embedded).await;
    let receiver = Receiver::scripted([Reply::Status(204), Reply::Status(401)]);
    let with_token = ["callback", "test", &*receiver.url(), "--header", "X-Token: hush"];
    let taken = run_at(&scene, &with_token);
    assert_eq!((taken.code, taken.line("status")[1]), (0, "204"), "{taken:?}");
    assert_eq!(receiver.deliveries()[0].header("x-token"), "hush");
    let refused = run_at(&scene, &["callback", "test", &receiver.url(), "--json"]);
    assert_eq!((refused.code, refused.err.as_str()), (1, ""), "{refused:?}");
    assert_eq!(refused.json()["error"], "the receiver answered 401");
    let forbidden = run_at(&scene, &["callback", "test", "http://169.254.169.254/"]);
    assert_eq!((forbidden.code, forbidden.out.as_str()), (1, ""), "{forbidden:?}");
    assert!(forbidden.err.contains("(422 callback_url_forbidden)"), "{forbidden:?}");
}

#[tokio::test]
async fn events_are_pulled_and_ordered_by_the_client() {
    let scene = Scene::start_on(Kind::Embedded).await;
    let client = Client::new(&format!("http://{}", scene.ringback.address()), None).unwrap();
    let mut posted = Vec::new();
    for _ in 0..3 {
        let id = scene.post(numbers(0..1)).await;
        scene.report(&id).await;
        posted.push(id);
    }
    let first = client.events_after(None, Some(2)).await.unwrap();
    assert_eq!(first.next_cursor, Some(first.events[1].id.to_string()));
    let rest = client.events_after(Some(first.events[1].id), Some(2)).await.unwrap();
    assert_eq!(rest.next_cursor, None);
    let pulled: Vec<_> = first.events.iter().chain(&rest.events).collect();
    assert_eq!(pulled.iter().map(|event| event.batch_id.to_string()).collect::<Vec<_>>(), posted);
    let body: BatchEvent = serde_json::from_str(pulled[0].payload.get()).unwrap();
    assert_eq!((body.r#type, body.data.counts.sent), (EventType::BatchCompleted, 1));
    let replayed = client.replay_callback(pulled[0].batch_id).await.unwrap();
    assert_eq!(replayed.id, pulled[0].id);
    scene.receiver.wait_for(4, PATIENCE).await;
}

/// A server of an earlier version answers so.
#[test]
fn what_the_server_does_not_offer_is_said_in_its_own_words() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let body = json!({
        "type": "about:blank", "title": "Unprocessable Entity", "status": 422,
        "detail": "This version does not offer GET /v1/callbacks yet; see /openapi.json.",
        "code": "not_supported"
    })
    .to_string();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        let length = body.len();
        let head = "HTTP/1.1 422 No\r\nconnection: close\r\ncontent-type: application/problem+json";
        write!(stream, "{head}\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
    });
    let mut command = command();
    command.args(["callback", "list", "--url", &url]);
    let ran = run_to_end(command);
    server.join().unwrap();
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{ran:?}");
    assert!(ran.err.contains("does not offer") && ran.err.contains("not_supported"), "{ran:?}");
}

#[tokio::test]
async fn a_watch_outlives_a_restart_of_the_server() {
    let mut scene = slow_scene(Mode::Hang).await;
    let wanted = with_callback(batch(numbers(0..20)), &scene.receiver);
    let id = accepted(&scene.client, &wanted).await;
    let watch = Running::start(&scene, &["batch", "watch", &id]);
    watch.wait_for(&id).await;
    scene.ringback.kill();
    watch.wait_for("does not answer").await;
    scene.provider.set(Mode::Accept);
    scene.ringback.restart().await;
    let watched = watch.end().await;
    assert_eq!(watched.code, 0, "{watched:?}");
    assert!(watched.err.contains("The server answers again."), "{watched:?}");
    assert_eq!(watched.line("sent"), ["sent", "20"]);
}

#[tokio::test]
async fn an_interrupted_watch_says_how_to_go_on() {
    let scene = slow_scene(Mode::Hang).await;
    let id = accepted(&scene.client, &batch(numbers(0..20))).await;
    let watch = Running::start(&scene, &["batch", "watch", &id]);
    watch.wait_for(&id).await;
    watch.interrupt();
    let watched = watch.end().await;
    assert_eq!((watched.code, watched.out.as_str()), (130, ""), "{watched:?}");
    let again = format!("ringback batch watch {id} --url http://{}", scene.ringback.address());
    assert!(watched.err.contains("goes on at the server"), "{watched:?}");
    assert!(watched.err.contains(&again), "{watched:?}");
    // So it does.
    scene.provider.set(Mode::Accept);
    shown_when(&scene.client, &id, "its start", |batch| batch["state"] == "running").await;
}

#[tokio::test]
async fn lines_come_at_most_every_two_seconds_and_at_the_end() {
    let scene = slow_scene(Mode::Delay(Duration::from_millis(50))).await;
    let id = accepted(&scene.client, &batch(numbers(0..50))).await;
    let began = Instant::now();
    let watched = run_at(&scene, &["batch", "watch", &id]);
    // At least 2.5 s of work: the line at the start, one or more after it, and one at the end.
    let most = 2 + began.elapsed().as_secs() / 2;
    let lines = watched.err.lines().count();
    assert!((2..=usize::try_from(most).unwrap()).contains(&lines), "{watched:?}");
    assert!(watched.err.lines().nth(1).unwrap().contains(" of 50 done ("), "{watched:?}");
    assert!(watched.err.lines().last().unwrap().contains(": completed: 50 of 50"), "{watched:?}");
}

#[tokio::test]
async fn a_key_opens_its_account_and_is_never_printed() {
    let hash = key_hash("rbk_right");
    let settings = |setup: crate::harness::Setup| setup.set("accounts.acme.api_key_hashes", &hash);
    let scene = Scene::start_on_with(Kind::Embedded, settings).await;
    let with_key = |key: &str, arguments: &[&str]| {
        let mut command = at(&scene, arguments);
        command.env("RINGBACK_API_KEY", key);
        run_to_end(command)
    };
    assert_eq!(with_key("rbk_right", &["batch", "list"]).code, 0);
    assert_eq!(run_at(&scene, &["batch", "list", "--api-key", "rbk_right"]).code, 0);
    for wrong in [with_key("rbk_wrong", &["batch", "list"]), run_at(&scene, &["batch", "list"])] {
        assert_eq!((wrong.code, wrong.out.as_str()), (1, ""), "{wrong:?}");
        assert!(wrong.err.contains("(401 unauthorized)"), "{wrong:?}");
        assert!(wrong.err.contains("RINGBACK_API_KEY"), "{wrong:?}");
        assert!(!wrong.err.contains("rbk_wrong"), "{wrong:?}");
    }
    let broken = with_key("rbk_hush\n", &["batch", "list"]);
    assert_eq!(broken.code, 2, "{broken:?}");
    let help = with_key("rbk_hush", &["batch", "list", "--help"]);
    for ran in [broken, help] {
        assert!(!ran.out.contains("hush") && !ran.err.contains("hush"), "{ran:?}");
    }
}

#[tokio::test]
async fn the_client_submits_a_batch_once_under_a_key() {
    let scene = Scene::start_on(Kind::Embedded).await;
    let client = Client::new(&format!("http://{}", scene.ringback.address()), None).unwrap();
    let mut wanted = SubmitBatch {
        body: "Hi {{name}}".into(),
        variables: [("name".to_owned(), VariableValue::Text("Ann".into()))].into(),
        recipients: numbers(0..3).into_iter().map(RecipientInput::Number).collect(),
        ..SubmitBatch::default()
    };
    let first = client.submit(&wanted, Some("spring-2")).await.unwrap();
    let again = client.submit(&wanted, Some("spring-2")).await.unwrap();
    assert_eq!((first.replayed, again.replayed), (false, true));
    assert_eq!((again.batch.id, again.batch.counts.total), (first.batch.id, 3));
    wanted.body = "Bye".into();
    let other_body = client.submit(&wanted, Some("spring-2")).await.unwrap_err();
    assert_eq!(other_body.code(), Some("idempotency_key_reused"), "{other_body}");
    wanted.body = "Hi {{name".into();
    wanted.from = Some(String::new());
    let refused = client.submit(&wanted, None).await.unwrap_err().to_string();
    assert!(refused.contains("\n  /body: ") && refused.contains("\n  /from: "), "{refused}");
}

#[tokio::test]
async fn the_client_streams_a_batch() {
    let scene = Scene::start_on(Kind::Embedded).await;
    let client = Client::new(&format!("http://{}", scene.ringback.address()), None).unwrap();
    let head = SubmitBatch { body: "Hello".into(), ..SubmitBatch::default() };
    let lines = || {
        let lines = (0..2_000).map(|index| Ok(format!("\"{}\"\n", number(index)).into()));
        futures_util::stream::iter(lines)
    };
    let submitted = client.submit_stream(&head, lines(), Some("k")).await.unwrap();
    assert_eq!((submitted.batch.counts.total, submitted.replayed), (2_000, false));
    let id = submitted.batch.id;
    scene.client.wait_until_complete(&id.to_string(), PATIENCE).await;
    let again = client.submit_stream(&head, lines(), Some("k")).await.unwrap();
    assert_eq!((again.batch.id, again.replayed), (id, true));

    let broken = lines().take(7).chain(futures_util::stream::iter([Err(io::Error::other("no"))]));
    let error = client.submit_stream(&head, broken, Some("other")).await.unwrap_err();
    assert!(matches!(error, ClientError::Source(_)), "{error}");
    let listed = client.batches(&BatchFilter::default(), None, None).await.unwrap();
    let accepted = listed.batches.iter().filter(|batch| batch.state != BatchState::Receiving);
    assert_eq!(accepted.map(|batch| batch.id).collect::<Vec<_>>(), [id]);
}

#[tokio::test]
async fn no_proxy_is_asked_for_this_machine() {
    let scene = Scene::start_on(Kind::Embedded).await;
    let mut listed = at(&scene, &["batch", "list"]);
    listed.env("http_proxy", format!("http://127.0.0.1:{}", free_port()));
    assert_eq!(run_to_end(listed).code, 0);
}

#[test]
fn a_server_that_is_not_there_is_told_from_a_failure() {
    let url = format!("http://127.0.0.1:{}", free_port());
    let id = "bat_01M850VKVVFR222NAP7FS08R00";
    for arguments in [
        &["batch", "list"][..],
        &["batch", "show", id],
        &["batch", "watch", id],
        &["batch", "cancel", id],
        &["messages", id],
        &["callback", "list", id],
        &["callback", "replay", id],
        &["callback", "list"],
        &["callback", "replay", "--since", "2h"],
        &["callback", "test", "http://127.0.0.1/"],
        &["batch", "retry", id, "--states", "failed"],
        &["provider", "list"],
        &["provider", "pause", "carrier"],
    ] {
        let mut command = command();
        command.args(arguments).args(["--url", &url]);
        let ran = run_to_end(command);
        assert_eq!((ran.code, ran.out.as_str()), (3, ""), "{ran:?}");
        for hint in [&*url, "ringback serve", "RINGBACK_URL"] {
            assert!(ran.err.contains(hint), "{ran:?}");
        }
    }
}

#[test]
fn a_wrong_call_asks_nobody() {
    // Nobody is there who could be asked: that would be exit code 3.
    let url = format!("http://127.0.0.1:{}", free_port());
    for arguments in [
        &["batch", "show", "bat_7"][..],
        &["batch", "watch", "01M850VKVVFR222NAP7FS08R00"],
        &["messages", "bat_01M850VKVVFR222NAP7FS08R00.2"],
        &["callback", "replay", ""],
        &["callback", "replay"],
        &["callback", "replay", "--since", "soon"],
        &["callback", "replay", "bat_01M850VKVVFR222NAP7FS08R00", "--since", "2h"],
        &["callback", "replay", "bat_01M850VKVVFR222NAP7FS08R00", "--state", "gone"],
        &["callback", "replay", "--since", "2h", "--state", "pending"],
        &["callback", "list", "--state", "over"],
        &["callback", "list", "bat_01M850VKVVFR222NAP7FS08R00", "--state", "gone"],
        &["callback", "test"],
        &["callback", "test", "http://127.0.0.1/", "--header", "x"],
        &["batch", "list", "--state", "stopped"],
        &["messages", "bat_01M850VKVVFR222NAP7FS08R00", "--state", "receiving"],
        &["batch", "list", "--all", "--limit", "3"],
        &["batch", "retry", "bat_01M850VKVVFR222NAP7FS08R00"],
        &["batch", "retry", "bat_01M850VKVVFR222NAP7FS08R00", "--states", "failed,sent"],
        &["batch", "retry", "bat_01M850VKVVFR222NAP7FS08R00", "--states", ""],
        &["provider", "pause"],
        &["provider", "resume", ""],
        &["batch", "list", "--url", "ftp://127.0.0.1"],
    ] {
        let mut command = command();
        command.env("RINGBACK_URL", &url).args(arguments);
        let ran = run_to_end(command);
        assert_eq!(ran.code, 2, "{arguments:?}: {ran:?}");
    }
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let mut command = command();
        command.args(["completions", shell]);
        let script = run_to_end(command);
        assert_eq!(script.code, 0, "{script:?}");
        for word in ["batch", "watch", "callback", "replay", "api-key"] {
            assert!(script.out.contains(word), "{shell} does not know {word}");
        }
    }
}
