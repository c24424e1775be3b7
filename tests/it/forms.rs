//! Batches that come as forms: the settings in one part, the table of recipients in the next.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    harness::{Answer, Backing, Client, Kind, PATIENCE, Ringback, eventually, on_each_store},
    ndjson::peak_kib,
    scene::{Scene, counts, number, these},
};

on_each_store! {
    a_form_is_the_batch_its_table_is
    a_form_that_is_wrong_names_its_part_and_leaves_nothing
    a_form_that_breaks_off_leaves_nothing
}

const TABLE: &str = "to,name,reference\n+15551230001,Ann,user-1\n+15551230002,,\nnobody,Bob,\n";

/// A part of a form, and the type it says it is.
struct Part<'a>(&'a str, &'a str, &'a str);

fn settings() -> String {
    json!({"body": "Hi {{name}}", "variables": {"name": "there"}}).to_string()
}

/// A form of these parts.
fn form(boundary: &str, parts: &[Part<'_>]) -> String {
    let part = |Part(name, media_type, text): &Part<'_>| {
        let file = if *media_type == "text/csv" { "; filename=\"customers.csv\"" } else { "" };
        let kind = match *media_type {
            "" => String::new(),
            media_type => format!("Content-Type: {media_type}\r\n"),
        };
        format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n{kind}\r\n\
             {text}\r\n"
        )
    };
    parts.iter().map(part).collect::<String>() + &format!("--{boundary}--\r\n")
}

fn good(boundary: &str) -> String {
    let settings = settings();
    form(
        boundary,
        &[Part("settings", "application/json", &settings), Part("list", "text/csv", TABLE)],
    )
}

/// Posts a form in pieces of this many bytes.
async fn post(client: &Client, boundary: &str, key: &str, form: &str, cut: usize) -> Answer {
    let pieces: Vec<_> = form.as_bytes().chunks(cut).map(<[u8]>::to_vec).collect();
    let pieces = futures_util::stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>));
    let media_type = format!("multipart/form-data; boundary={boundary}");
    let headers = [("content-type", &*media_type), ("idempotency-key", key)];
    client.post("/v1/batches", &headers, reqwest::Body::wrap_stream(pieces)).await
}

async fn a_form_is_the_batch_its_table_is(on: Kind) {
    let scene = Scene::start_on(on).await;
    for (cut, boundary) in [(1, "x"), (7, "----WebKitFormBoundary7MA4YWxk"), (4_096, "\"a b:c\"")] {
        let form = good(boundary.trim_matches('"'));
        let answer = post(&scene.client, boundary, &format!("cut-{cut}"), &form, cut).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        let id = answer.batch_id();
        assert_eq!(answer.header("location"), format!("/v1/batches/{id}"));
        let over = scene.client.wait_until_complete(&id, PATIENCE).await;
        assert_eq!(counts(&over), these([("sent", 2), ("failed", 1)]));
        let first = scene.client.get(&format!("/v1/batches/{id}/messages/0")).await.json();
        assert_eq!((&first["to"], &first["reference"]), (&json!("+15551230001"), &json!("user-1")));
    }
    let mut bodies: Vec<_> = scene.provider.calls().into_iter().map(|call| call.body).collect();
    bodies.sort_unstable();
    bodies.dedup();
    assert_eq!(bodies, ["Hi Ann", "Hi there"]);

    // Another boundary, another name of the table, no types: it is the same batch.
    let settings = settings();
    let once = post(&scene.client, "x", "once", &good("x"), 4_096).await;
    let bare = form("other", &[Part("settings", "", &settings), Part("file", "", TABLE)]);
    let again = post(&scene.client, "other", "once", &bare, 50).await;
    assert_eq!((again.status, again.batch_id()), (200, once.batch_id()), "{}", again.text);
    // So it is with its settings in the query.
    let query: String = url::form_urlencoded::byte_serialize(settings.as_bytes()).collect();
    let headers = [("content-type", "text/csv"), ("idempotency-key", "once")];
    let path = format!("/v1/batches?settings={query}");
    let table = scene.client.post(&path, &headers, TABLE).await;
    assert_eq!((table.status, table.batch_id()), (200, once.batch_id()), "{}", table.text);
    let longer = format!("{TABLE}{}\n", number(9));
    let other = form("x", &[Part("settings", "", &settings), Part("list", "", &longer)]);
    let other = post(&scene.client, "x", "once", &other, 4_096).await;
    assert_eq!(other.status, 422, "{}", other.text);
}

async fn a_form_that_is_wrong_names_its_part_and_leaves_nothing(on: Kind) {
    let scene = Scene::start_on(on).await;
    let kept = || match &scene.store {
        Backing::Redis(redis) => redis.ask("DBSIZE"),
        Backing::Embedded(_) => String::new(),
    };
    let before = kept();
    let settings = settings();
    let (set, list) = (Part("settings", "", &settings), Part("list", "text/csv", TABLE));
    let of = |parts: &[&Part<'_>]| {
        form("x", &parts.iter().map(|part| Part(part.0, part.1, part.2)).collect::<Vec<_>>())
    };
    let (unknown, whole) = (Part("note", "", "1"), of(&[&set, &list]));
    let (long, many) =
        (" ".repeat(70_000), format!("to,name\n{}", "+15551230001,Ann\n".repeat(9_000)));
    let invalid = format!("{many}+15551230001,Ann,81\n");
    for (body, status, pointer, code) in [
        (of(&[&list, &set]), 422, "/settings", "missing"),
        (of(&[]), 422, "/settings", "missing"),
        (of(&[&list]), 422, "/settings", "missing"),
        (of(&[&set]), 422, "/list", "missing"),
        (of(&[&unknown, &set, &list]), 422, "/note", "unknown_field"),
        (of(&[&set, &unknown, &list]), 422, "/note", "unknown_field"),
        (of(&[&set, &list, &unknown]), 422, "/note", "unknown_field"),
        (of(&[&set, &set, &list]), 422, "/settings", "duplicate_field"),
        (of(&[&set, &list, &set]), 422, "/settings", "duplicate_field"),
        (of(&[&set, &list, &Part("file", "", TABLE)]), 422, "/file", "duplicate_field"),
        (of(&[&Part("settings", "", &long), &list]), 413, "/settings", "part_too_large"),
        (of(&[&Part("settings", "", "{"), &list]), 422, "/settings", "invalid_json"),
        (of(&[&Part("settings", "", "{}"), &list]), 422, "/settings/body", "missing"),
        (
            of(&[&Part("settings", "text/csv", "{}"), &list]),
            415,
            "/settings",
            "unsupported_media_type",
        ),
        (of(&[&set, &Part("list", "image/png", TABLE)]), 415, "/list", "unsupported_media_type"),
        (of(&[&set, &Part("list", "", "to,name\n+1,2,3\n")]), 422, "/2", "invalid_csv"),
        (of(&[&set, &Part("list", "", &invalid)]), 422, "/9002", "invalid_csv"),
        (whole.replace("\r\n--x--", "\r\n--y--"), 400, "/list", "invalid_multipart"),
        (whole.replace("\r\n--x--\r\n", ""), 400, "/list", "invalid_multipart"),
        (
            of(&[&set, &Part("list", "", &many)]).replace("--x--", "--x"),
            400,
            "/list",
            "invalid_multipart",
        ),
        (whole.replacen("\r\n--x\r\n", "\r\n--y\r\n", 1), 422, "/list", "missing"),
        (good("y"), 400, "", "invalid_multipart"),
        (String::new(), 400, "", "invalid_multipart"),
        (whole.replace("name=\"list\"", "nome=\"list\""), 400, "", "invalid_multipart"),
    ] {
        let refused = post(&scene.client, "x", "free", &body, 1_000).await;
        let problem = refused.json();
        let start = body.get(..200).unwrap_or(&body);
        assert_eq!(refused.status, status, "{start}: {problem}");
        let error = &problem["errors"][0];
        let told = error["pointer"].as_str().unwrap_or_default();
        assert_eq!(told, pointer, "{start}: {problem}");
        let told = if pointer.is_empty() { &problem["code"] } else { &error["code"] };
        assert_eq!(told, code, "{start}: {problem}");
    }
    let heads = [
        ("multipart/form-data", "identity", 400, "invalid_multipart"),
        ("multipart/form-data; boundary=\"", "identity", 400, "invalid_multipart"),
        ("multipart/form-data; boundary=x", "gzip", 415, "unsupported_encoding"),
        ("multipart/mixed; boundary=x", "identity", 415, "unsupported_media_type"),
    ];
    for (media_type, encoding, status, code) in heads {
        let headers = [("content-type", media_type), ("content-encoding", encoding)];
        let refused = scene.client.post("/v1/batches", &headers, whole.clone()).await;
        assert_eq!((refused.status, &refused.json()["code"]), (status, &json!(code)));
    }
    let headers = [("content-type", "multipart/form-data; boundary=x")];
    let both = scene.client.post("/v1/batches?settings=%7B%7D", &headers, whole.clone()).await;
    assert_eq!((both.status, &both.json()["errors"][0]["pointer"]), (422, &json!("/settings")));

    assert_eq!(scene.client.get("/v1/batches").await.json()["batches"], json!([]));
    eventually("the store as it was", PATIENCE, async || (kept() == before).then_some(())).await;
    assert_eq!(post(&scene.client, "x", "free", &whole, 9).await.status, 202);
}

async fn a_form_that_breaks_off_leaves_nothing(on: Kind) {
    let scene = Scene::start_on(on).await;
    let settings = settings();
    let many = format!("to,name\n{}", "+15551230001,Ann\n".repeat(20_000));
    let body = form("x", &[Part("settings", "", &settings), Part("list", "", &many)]);
    for sent in [0, 60, 250, body.len() / 2, body.len() - 3] {
        let mut stream = TcpStream::connect(scene.ringback.address()).await.unwrap();
        let head = format!(
            "POST /v1/batches HTTP/1.1\r\nHost: a\r\nConnection: close\r\nIdempotency-Key: k1\r\n\
             Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body.as_bytes()[..sent]).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        let (head, problem) = answer.split_once("\r\n\r\n").unwrap();
        let problem: Value = serde_json::from_str(problem).unwrap();
        assert!(head.starts_with("HTTP/1.1 400"), "{sent}: {answer}");
        assert_eq!(problem["code"], "body_broken", "{sent}");
        assert_eq!(scene.client.get("/v1/batches").await.json()["batches"], json!([]));
    }
    let whole = post(&scene.client, "x", "k1", &body, 64 * 1024).await;
    assert_eq!((whole.status, &whole.json()["counts"]["total"]), (202, &json!(20_000)));
}

#[tokio::test]
async fn memory_is_the_same_for_any_number_of_records() {
    let store = Backing::start(Kind::Redis).await;
    let ringback = Ringback::on(&store).role("api").start().await;
    let (client, settings) = (ringback.client(), settings());
    let row = format!("+15551230001,Ann,{}\n", "r".repeat(200));
    let upload = async |rows: usize| {
        let table = format!("to,name,reference\n{}", row.repeat(rows));
        let form = form("x", &[Part("settings", "", &settings), Part("list", "", &table)]);
        let answer = post(&client, "x", &format!("rows-{rows}"), &form, 64 * 1024).await;
        assert_eq!((answer.status, &answer.json()["counts"]["total"]), (202, &json!(rows)));
        peak_kib(ringback.pid())
    };
    let small = upload(30_000).await;
    // 66 MB.
    let large = upload(300_000).await;
    assert!(large < small + 16 * 1024, "{small} KiB at first, then {large} KiB");
}
