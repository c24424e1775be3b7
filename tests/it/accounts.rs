//! Accounts: what their keys may be used for, how much they may do, and what the log says of it.

use serde_json::{Value, json};

use crate::{
    harness::{
        Answer, Client, Kind, PATIENCE, Provider, Redis, Ringback, eventually, key_hash,
        on_each_store,
    },
    scene::{Scene, accepted, batch, numbers, setup},
};

on_each_store! {
    an_account_has_so_many_recipients_a_day
}

/// A batch that is not there.
const NOWHERE: &str = "bat_01M8504YGB5C2D44B7XT9Y7P00";

/// The settings of a key: its text is its name.
fn key(account: &str, name: &str, scopes: &[&str]) -> String {
    let hash = key_hash(name);
    format!(
        "[[accounts.{account}.keys]]\nname = \"{name}\"\nhash = \"{hash}\"\nscopes = {scopes:?}\n"
    )
}

fn is_refused(answer: &Answer, status: u16, code: &str) -> bool {
    (answer.status, &answer.json()["code"]) == (status, &json!(code))
}

/// Makes a call of the document, with what its path needs.
async fn call(client: &Client, method: &str, path: &str) -> Answer {
    let path = path.replace("{id}", NOWHERE).replace("{index}", "0").replace("{name}", "nobody");
    match method {
        "get" => client.get(&path).await,
        "delete" => client.delete(&path).await,
        "patch" => client.patch(&path, &json!({})).await,
        "post" => client.post(&path, &[], "{}").await,
        other => panic!("{other} is no method of the API"),
    }
}

/// The lines of the audit log, once there are `wanted`: who asked for what, and what came of it.
async fn audit(ringback: &Ringback, wanted: usize) -> Vec<Value> {
    eventually("the audit log", PATIENCE, async || {
        let log = ringback.log();
        let whole = log.rsplit_once('\n')?.0.lines();
        let lines = whole.map(|line| serde_json::from_str::<Value>(line).expect(line));
        let lines: Vec<_> = lines.filter(|line| line["target"] == "ringback::audit").collect();
        (lines.len() >= wanted).then_some(lines)
    })
    .await
}

#[tokio::test]
async fn each_call_needs_a_key_with_its_scope() {
    let scopes = ["submit", "read", "admin"];
    let keys: Vec<_> = scopes.iter().map(|scope| key("acme", scope, &[scope])).collect();
    let file = format!("[accounts.acme]\nadmin = true\n{}", keys.concat());
    let scene = Scene::start_with(|setup| setup.file(&file)).await;
    let document = scene.client.get("/openapi.json").await.json();
    let mut asked = [0; 3];
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let open = call(&scene.client, method, path).await;
            let Some(needed) = operation["security"][0]["api_key"][0].as_str() else {
                // Who signs needs no key; but there is no provider of this name.
                let is_fine = open.status < 300 || path.ends_with("/{provider}");
                assert!(is_fine && open.status != 401, "{method} {path}: {}", open.text);
                continue;
            };
            assert!(is_refused(&open, 401, "unauthorized"), "{method} {path}: {}", open.text);
            for (scope, asked) in scopes.iter().zip(&mut asked) {
                let answer = call(&scene.client.with_key(scope), method, path).await;
                if *scope == needed {
                    assert!(![401, 403].contains(&answer.status), "{method} {path}");
                    *asked += 1;
                } else {
                    assert!(is_refused(&answer, 403, "forbidden"), "{method} {path} as {scope}");
                    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
                    assert!(detail.contains(&format!("`{needed}`")), "{detail}");
                }
            }
        }
    }
    assert!(asked.iter().all(|calls| *calls >= 2), "{asked:?}");
}

#[tokio::test]
async fn a_scope_is_no_way_into_another_account() {
    let both = [key("acme", "one", &["submit", "read"]), key("zeta", "two", &["submit", "read"])];
    let scene = Scene::start_with(|setup| setup.file(&both.concat())).await;
    let id = accepted(&scene.client.with_key("one"), &batch(numbers(0..1))).await;
    let zeta = scene.client.with_key("two");
    let path = format!("/v1/batches/{id}");
    assert!(is_refused(&zeta.get(&path).await, 404, "not_found"));
    assert!(is_refused(&zeta.delete(&path).await, 404, "not_found"));
}

#[tokio::test]
async fn what_clients_change_is_in_the_log_with_their_keys_names() {
    let keys = [
        key("acme", "shop-key", &["submit"]),
        key("acme", "reader-key", &["read"]),
        format!("[accounts.ops]\nadmin = true\napi_key_hashes = [\"{}\"]\n", key_hash("ops-key")),
    ];
    let scene = Scene::start_with(|setup| {
        setup.file(&keys.concat()).set("log.format", "json").set("providers.carrier.rate", "1/s")
    })
    .await;
    let key = |key: &str| scene.client.with_key(key);
    let (shop, reader, ops) = (key("shop-key"), key("reader-key"), key("ops-key"));
    let id = accepted(&shop, &batch(numbers(0..50))).await;
    let cancel = format!("/v1/batches/{id}/cancel");
    assert_eq!(reader.post(&cancel, &[], "").await.status, 403);
    assert_eq!(ops.post(&cancel, &[], "").await.status, 404);
    assert_eq!(scene.client.post(&cancel, &[], "").await.status, 401);
    assert_eq!(shop.post(&cancel, &[], "").await.status, 200);
    reader.wait_until_complete(&id, PATIENCE).await;
    let states = json!({"states": ["canceled"]}).to_string();
    let again = shop.post(&format!("/v1/batches/{id}/retry"), &[], states).await;
    assert_eq!(again.status, 202, "{}", again.text);
    assert_eq!(ops.post("/v1/providers/carrier/pause", &[], "").await.status, 200);
    assert_eq!(ops.post("/v1/providers/no%0Abody/pause", &[], "").await.status, 404);

    let written = audit(&scene.ringback, 7).await;
    let told = written.iter().map(|line| {
        assert_eq!(line["message"], "a client asked for a change");
        ["change", "result", "account", "key.name", "batch.id", "http.status", "code"].map(
            |field| line[field].as_str().map_or_else(|| line[field].to_string(), str::to_owned),
        )
    });
    let (id, none) = (id.as_str(), "null");
    let new = again.batch_id();
    let expected = [
        ["submit a batch", "done", "acme", "shop-key", id, "202", none],
        ["cancel a batch", "refused", "acme", "reader-key", id, "403", "forbidden"],
        ["cancel a batch", "refused", "ops", "unnamed", id, "404", "not_found"],
        ["cancel a batch", "done", "acme", "shop-key", id, "200", none],
        ["try messages again", "done", "acme", "shop-key", &new, "202", none],
        ["stop a provider", "done", "ops", "unnamed", none, "200", none],
        ["stop a provider", "refused", "ops", "unnamed", none, "404", "not_found"],
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    assert_eq!(written[4]["batch.parent"], id);
    assert_eq!(
        (&written[5]["provider.name"], &written[6]["provider.name"]),
        (&json!("carrier"), &Value::Null)
    );
    assert_eq!(written[0]["key.fingerprint"], key_hash("shop-key")["sha256:".len()..][..8]);
    let log = scene.ringback.log();
    assert!(!log.contains(&key_hash("shop-key")["sha256:".len()..]), "a whole hash is in the log");
}

#[tokio::test]
async fn a_change_whose_client_went_away_is_in_the_log_too() {
    use tokio::io::AsyncWriteExt;
    let scene = Scene::start_with(|setup| setup.set("log.format", "json")).await;
    let mut client = tokio::net::TcpStream::connect(scene.ringback.address()).await.unwrap();
    let head = "POST /v1/batches HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-ndjson\r\n\
                Content-Length: 900\r\n\r\n{\"body\": \"Hi\"}\n";
    client.write_all(head.as_bytes()).await.unwrap();
    drop(client);
    let line = audit(&scene.ringback, 1).await.remove(0);
    assert_eq!((&line["change"], &line["account"]), (&json!("submit a batch"), &json!("default")));
    assert!(line["result"] == "unanswered" || line["code"] == "body_broken", "{line}");
    assert_eq!(line["key.name"], Value::Null);
}

#[tokio::test]
async fn an_account_that_asks_too_often_is_told_when_to_come_back() {
    let keys = [
        format!("[accounts.acme]\nrequest_rate = \"2/h\"\n{}", key("acme", "one", &["read"])),
        key("zeta", "two", &["read"]),
    ];
    let scene = Scene::start_with(|setup| setup.file(&keys.concat())).await;
    let (acme, zeta) = (scene.client.with_key("one"), scene.client.with_key("two"));
    assert_eq!(acme.get("/v1/batches").await.status, 200);
    let refused = acme.get("/v1/batches").await;
    assert!(is_refused(&refused, 429, "rate_limited"), "{}", refused.text);
    assert_eq!(refused.header("content-type"), "application/problem+json");
    let seconds: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1_700..=1_800).contains(&seconds), "{seconds}");
    assert_eq!(zeta.get("/v1/batches").await.status, 200);
    assert_eq!(scene.client.get("/v1/batches").await.status, 401);
}

async fn an_account_has_so_many_recipients_a_day(on: Kind) {
    let limited = |most: u32| {
        let acme = format!("[accounts.acme]\ndaily_recipients_max = {most}\n");
        [acme, key("acme", "one", &["submit", "read"]), key("zeta", "two", &["submit"])].concat()
    };
    let mut scene = Scene::start_on_with(on, |setup| setup.file(&limited(5))).await;
    let (acme, zeta) = (scene.client.with_key("one"), scene.client.with_key("two"));
    let lines = async |count: usize| {
        let numbers = numbers(0..count).into_iter().map(|number| format!("\"{number}\"\n"));
        let body = format!("{{\"body\": \"Hi\"}}\n{}", numbers.collect::<String>());
        acme.post("/v1/batches", &[("content-type", "application/x-ndjson")], body).await
    };
    // Who can't be reached counts too.
    let mut recipients = numbers(0..2);
    recipients.push("nobody".into());
    let first = acme.post_batch_once("first", &batch(recipients)).await;
    assert_eq!(first.status, 202, "{}", first.text);
    for refused in [acme.post_batch_once("second", &batch(numbers(0..3))).await, lines(3).await] {
        assert!(is_refused(&refused, 429, "daily_limit"), "{}", refused.text);
        let seconds: u64 = refused.header("retry-after").parse().unwrap();
        assert!((1..=86_400).contains(&seconds), "{seconds}");
        assert!(refused.text.contains("has had 3 recipients today"), "{}", refused.text);
    }
    for refused in [acme.post_batch(&batch(numbers(0..6))).await, lines(6).await] {
        assert!(is_refused(&refused, 422, "daily_limit"), "{}", refused.text);
    }
    // Nothing is kept of what was refused, not even its key.
    assert_eq!(acme.get("/v1/batches").await.json()["batches"].as_array().unwrap().len(), 1);
    assert_eq!(acme.post_batch_once("second", &batch(numbers(0..2))).await.status, 202);
    assert!(is_refused(&lines(1).await, 429, "daily_limit"));
    acme.wait_until_complete(&first.batch_id(), PATIENCE).await;
    let again = format!("/v1/batches/{}/retry", first.batch_id());
    let failed = json!({"states": ["failed"]}).to_string();
    assert!(is_refused(&acme.post(&again, &[], failed).await, 429, "daily_limit"));
    // What adds nobody is fine, and others are not concerned.
    assert_eq!(acme.post_batch(&batch(json!([]))).await.status, 202);
    let mut recipients = numbers(0..2);
    recipients.push("nobody".into());
    assert_eq!(acme.post_batch_once("first", &batch(recipients)).await.status, 200);
    assert_eq!(zeta.post_batch(&batch(numbers(0..9))).await.status, 202);
    scene.ringback.restart().await;
    assert!(is_refused(&lines(1).await, 429, "daily_limit"), "the count is not the process's");
    scene.ringback.reload(&limited(6));
    eventually("the new limit", PATIENCE, async || (lines(1).await.status == 202).then_some(()))
        .await;
    assert!(is_refused(&lines(1).await, 429, "daily_limit"));
}

#[tokio::test]
async fn all_processes_count_one_day() {
    const MOST: usize = 20;
    let (store, provider) = (Redis::start().await, Provider::start());
    let file = format!(
        "[store]\npartitions = 4\n[accounts.acme]\ndaily_recipients_max = {MOST}\n{}",
        key("acme", "one", &["submit"])
    );
    let process = || setup(&store, &provider).file(&file).role("api");
    let (one, other) = tokio::join!(process().start(), process().start());
    let clients = [one.client().with_key("one"), other.client().with_key("one")];
    let posts = (0..2 * MOST).map(|nth| {
        let client = clients[nth % 2].clone();
        tokio::spawn(async move { client.post_batch(&batch(numbers(0..1))).await.status })
    });
    let mut statuses = Vec::new();
    for post in posts.collect::<Vec<_>>() {
        statuses.push(post.await.unwrap());
    }
    let with = |wanted: u16| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!((with(202), with(429)), (MOST, MOST), "{statuses:?}");
}

#[tokio::test]
async fn a_key_is_replaced_without_a_restart() {
    let [old, new] = ["old", "new"].map(|name| key("acme", name, &["read"]));
    let scene = Scene::start_with(|setup| setup.file(&old)).await;
    let status = async |key: &str| scene.client.with_key(key).get("/v1/batches").await.status;
    let becomes = async |key: &str, wanted: u16| {
        eventually("another answer", PATIENCE, async || {
            (status(key).await == wanted).then_some(())
        })
        .await;
    };
    assert_eq!((status("old").await, status("new").await), (200, 401));
    scene.ringback.reload(&[&*old, &new].concat());
    becomes("new", 200).await;
    assert_eq!(status("old").await, 200);
    scene.ringback.reload(&new);
    becomes("old", 401).await;
    assert_eq!(status("new").await, 200);
    // Scopes and limits change as well.
    let scoped = key("acme", "new", &["submit"]);
    scene.ringback.reload(&format!("[accounts.acme]\nrecipients_max = 1\n{scoped}"));
    becomes("new", 403).await;
    let two = scene.client.with_key("new").post_batch(&batch(numbers(0..2))).await;
    assert_eq!(two.status, 422, "{}", two.text);
}

#[tokio::test]
async fn a_configuration_that_can_not_be_used_changes_nothing() {
    let good = key("acme", "one", &["read"]);
    let scene = Scene::start_with(|setup| setup.file(&good)).await;
    let twice = [&*good, &key("zeta", "one", &["read"])].concat();
    let refusal = "the configuration can't be used and stays as it was";
    for (times, (bad, told)) in [
        ("[accounts.acme", ".toml"),
        ("[accounts.acme]\nkees = []\n", "kees"),
        (&*twice, "is the same key as"),
    ]
    .into_iter()
    .enumerate()
    {
        scene.ringback.reload(bad);
        let line = eventually("a refusal", PATIENCE, async || {
            let log = scene.ringback.log();
            log.lines().filter(|line| line.contains(refusal)).nth(times).map(str::to_owned)
        })
        .await;
        assert!(line.contains(told), "{told} is not in {line}");
        assert_eq!(scene.client.with_key("one").get("/v1/batches").await.status, 200);
        assert_eq!(scene.client.get("/v1/batches").await.status, 401);
    }
}

#[tokio::test]
async fn a_process_without_the_api_outlives_a_reload() {
    let store = Redis::start().await;
    let worker = Ringback::on(&store).role("worker").start().await;
    worker.reload("");
    eventually("the reload", PATIENCE, async || {
        worker.log().contains("the configuration was read again").then_some(())
    })
    .await;
    assert_eq!(worker.health().get("/healthz").await.status, 200);
}

#[tokio::test]
async fn that_no_key_is_asked_for_is_warned_of() {
    let warning = "no account is configured: the API asks for no key";
    let open = Scene::start().await;
    assert!(open.ringback.log().contains(warning));
    let closed = Scene::start_with(|setup| setup.file(&key("acme", "one", &["read"]))).await;
    assert!(!closed.ringback.log().contains(warning));
}
