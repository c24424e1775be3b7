//! The client against a server that follows a script, over real sockets.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use secrecy::SecretString;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::{Client, ClientError, is_loopback};
use crate::{
    api::model::{ReplayCallbacks, ReplayState, SubmitBatch},
    domain::ids::BatchId,
};

const BATCH: &str = r#"{"id": "bat_01M850VKVVFR222NAP7FS08R00", "state": "queued",
    "reference": null, "provider": "mock",
    "counts": {"total": 2, "queued": 2, "sending": 0, "sent": 0, "delivered": 0, "undelivered": 0,
        "failed": 0, "expired": 0, "canceled": 0, "unknown": 0},
    "created_at": "2026-11-23T20:16:46.971Z", "started_at": null, "completed_at": null,
    "metadata": {}, "callback": null}"#;

/// What the server does with a request.
enum Step {
    /// Reads it to its end and answers.
    Answer(String),
    /// Reads its head only, and answers.
    AnswerEarly(String),
    /// Reads it to its end and closes the connection.
    Close,
}

/// A server that takes one request a connection.
struct Server {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
    _task: AbortOnDropHandle<()>,
}

// === impl Server ===

impl Server {
    async fn start(script: impl Into<VecDeque<Step>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, mut script) = (Arc::clone(&requests), script.into());
        let task = tokio::spawn(async move {
            while let Some(step) = script.pop_front() {
                let (stream, _) = listener.accept().await.unwrap();
                serve(stream, step, &seen).await;
            }
        });
        Self { url, requests, _task: AbortOnDropHandle::new(task) }
    }

    fn client(&self) -> Client {
        Client::new(&self.url, None).unwrap()
    }
}

async fn serve(mut stream: TcpStream, step: Step, seen: &Mutex<Vec<String>>) {
    let mut request = Vec::new();
    let is_early = matches!(step, Step::AnswerEarly(_));
    while !is_whole(&request, is_early) {
        let read = stream.read_buf(&mut request).await.unwrap_or_default();
        if read == 0 {
            break;
        }
    }
    seen.lock().push(String::from_utf8(request).unwrap());
    if let Step::Answer(answer) | Step::AnswerEarly(answer) = step {
        stream.write_all(answer.as_bytes()).await.unwrap();
        // Whatever else comes is read, so that closing does not take the answer back.
        let mut nowhere = tokio::io::sink();
        let rest = tokio::io::copy(&mut stream, &mut nowhere);
        let _ = tokio::time::timeout(Duration::from_secs(5), rest).await;
    }
}

fn is_whole(request: &[u8], head_is_enough: bool) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    head_is_enough
        || match length {
            Some(length) => body.len() >= length.parse().unwrap(),
            None if head.contains("transfer-encoding: chunked") => body.ends_with("0\r\n\r\n"),
            None => true,
        }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
    )
}

fn accepted() -> Step {
    Step::Answer(answer("202 Accepted", "content-type: application/json\r\n", BATCH))
}

fn problem(status: &str, code: &str) -> String {
    let number = status.split(' ').next().unwrap();
    let body = format!(
        r#"{{"type": "about:blank", "title": "", "status": {number}, "detail": "No.", "code": "{code}"}}"#
    );
    answer(status, "content-type: application/problem+json\r\nretry-after: 0\r\n", &body)
}

fn batch() -> SubmitBatch {
    SubmitBatch { body: "Hello".into(), ..SubmitBatch::default() }
}

fn id() -> BatchId {
    "bat_01M850VKVVFR222NAP7FS08R00".parse().unwrap()
}

fn lines() -> impl futures_util::Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::iter(["\"+15551230001\"\n\"+1555", "1230002\"\n"]).map(|piece| Ok(Bytes::from(piece)))
}

#[tokio::test]
async fn a_submission_under_a_key_is_repeated_until_its_outcome_is_known() {
    let unknown = problem("503 Service Unavailable", "outcome_unknown");
    let under_way = problem("409 Conflict", "idempotency_in_progress");
    let script = [Step::Close, Step::Answer(unknown), Step::Answer(under_way), accepted()];
    let server = Server::start(script).await;
    let submitted = server.client().submit(&batch(), Some("spring-2")).await.unwrap();
    assert_eq!((submitted.batch.id, submitted.replayed), (id(), false));
    let requests = server.requests.lock();
    assert_eq!(requests.len(), 4);
    for request in requests.iter() {
        assert!(request.contains("idempotency-key: spring-2\r\n"), "{request}");
        assert_eq!(request, &requests[0]);
    }
}

#[tokio::test]
async fn without_a_key_nothing_is_repeated() {
    let server = Server::start([Step::Close, accepted()]).await;
    let error = server.client().submit(&batch(), None).await.unwrap_err();
    assert!(error.is_outcome_unknown(), "{error}");
    assert_eq!(server.requests.lock().len(), 1);
}

#[tokio::test]
async fn a_refusal_is_not_repeated() {
    let refusal = problem("422 Unprocessable Entity", "template_invalid");
    let server = Server::start([Step::Answer(refusal), accepted()]).await;
    let error = server.client().submit(&batch(), Some("k")).await.unwrap_err();
    assert_eq!(error.code(), Some("template_invalid"));
    assert!(!error.is_outcome_unknown());
    assert_eq!(server.requests.lock().len(), 1);
}

#[tokio::test]
async fn a_doubt_outlives_a_server_that_is_gone_afterwards() {
    // The first try is taken in; then nobody listens any more.
    let server = Server::start([Step::Close]).await;
    let error = server.client().submit(&batch(), Some("k")).await.unwrap_err();
    assert!(error.is_outcome_unknown(), "{error}");
}

#[tokio::test]
async fn a_stream_is_the_batch_and_then_its_recipients() {
    let replayed = answer("200 OK", "idempotent-replayed: true\r\n", BATCH);
    let server = Server::start([Step::Answer(replayed)]).await;
    let submitted = server.client().submit_stream(&batch(), lines(), Some("k")).await.unwrap();
    assert!(submitted.replayed);
    let request = server.requests.lock()[0].clone();
    assert!(request.contains("content-type: application/x-ndjson\r\n"), "{request}");
    let body = request.split_once("\r\n\r\n").unwrap().1;
    // The odd lines are the sizes of the chunks.
    let body: String = body.split("\r\n").skip(1).step_by(2).collect();
    let [head, first, second] = body.lines().collect::<Vec<_>>()[..] else { panic!("{body}") };
    let head: serde_json::Value = serde_json::from_str(head).unwrap();
    assert_eq!((&head["body"], &head["recipients"]), (&"Hello".into(), &serde_json::Value::Null));
    assert_eq!((first, second), (r#""+15551230001""#, r#""+15551230002""#));
}

#[tokio::test]
async fn a_source_that_fails_is_named_and_breaks_the_upload_off() {
    let server = Server::start([Step::Close]).await;
    let failing = lines().chain(stream::iter([Err(io::Error::other("line 3: no number"))]));
    let error = server.client().submit_stream(&batch(), failing, None).await.unwrap_err();
    let ClientError::Source(source) = &error else { panic!("{error}") };
    assert_eq!(source.to_string(), "line 3: no number");
    while server.requests.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(!server.requests.lock()[0].ends_with("0\r\n\r\n"), "the body must not look complete");
}

#[tokio::test]
async fn a_refusal_in_the_middle_ends_an_upload() {
    let refusal = problem("422 Unprocessable Entity", "invalid_request");
    let server = Server::start([Step::AnswerEarly(refusal)]).await;
    let endless = stream::repeat_with(|| Ok(Bytes::from_static(b"\"+15551230001\"\n")));
    let error = server.client().submit_stream(&batch(), endless, None).await.unwrap_err();
    assert_eq!(error.code(), Some("invalid_request"), "{error}");
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_end_has_submitted_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(&format!("http://{}", listener.local_addr().unwrap()), None).unwrap();
    let endless = stream::repeat_with(|| Ok(Bytes::from_static(b"\"+15551230001\"\n")));
    let head = batch();
    let (error, ()) = tokio::join!(client.submit_stream(&head, endless, None), async {
        drop(listener.accept().await.unwrap());
    });
    let error = error.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("the upload broke off"), "{error}");
}

#[tokio::test]
async fn an_order_to_replay_is_posted_and_read_back() {
    let stored = r#"{"since": "2026-12-01T09:00:00.000Z", "state": "gone", "host": null}"#;
    let stored = answer("202 Accepted", "content-type: application/json\r\n", stored);
    let server = Server::start([Step::Answer(stored)]).await;
    let order = ReplayCallbacks {
        since: "2026-12-01T09:00:00Z".into(),
        state: ReplayState::Gone,
        host: None,
    };
    let read = server.client().replay_callbacks(&order).await.unwrap();
    assert_eq!((read.since.as_str(), read.state), ("2026-12-01T09:00:00.000Z", ReplayState::Gone));
    let request = server.requests.lock()[0].clone();
    assert!(request.starts_with("POST /v1/callbacks/replay HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("content-type: application/json\r\n"), "{request}");
    assert!(request.contains(r#""since":"2026-12-01T09:00:00Z","state":"gone""#), "{request}");
}

#[tokio::test]
async fn the_feed_is_asked_on_after_an_event() {
    let list = answer("200 OK", "", r#"{"events": [], "next_cursor": null}"#);
    let server = Server::start([Step::Answer(list)]).await;
    let after = id().event();
    let read = server.client().events_after(Some(after), Some(7)).await.unwrap();
    assert!(read.events.is_empty() && read.next_cursor.is_none());
    let request = server.requests.lock()[0].clone();
    assert!(request.starts_with(&format!("GET /v1/events?after={after}&limit=7 ")), "{request}");
}

#[tokio::test]
async fn what_is_no_ringback_is_told_from_a_refusal() {
    let page = answer("200 OK", "content-type: text/html\r\n", "<html>");
    let elsewhere = answer("302 Found", "location: http://127.0.0.1:1/\r\n", "");
    let gateway = answer("502 Bad Gateway", "content-type: text/html\r\n", "<html>");
    for strange in [page, elsewhere, gateway] {
        let server = Server::start([Step::Answer(strange.clone())]).await;
        let error = server.client().batch(id()).await.unwrap_err();
        assert!(matches!(error, ClientError::Foreign { .. }), "{error} for {strange}");
        assert!(error.to_string().contains(&server.url), "{error}");
    }
}

#[tokio::test]
async fn nobody_there_is_said_with_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = Client::new(&url, None).unwrap().batch(id()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&url) && error.to_string().contains("refused"), "{error}");
}

#[test]
fn a_url_is_a_server_and_perhaps_a_path() {
    let of = |url| Client::new(url, None).map(|client| client.url().to_owned());
    assert_eq!(of("http://127.0.0.1:8080").unwrap(), "http://127.0.0.1:8080");
    assert_eq!(of("http://a.example/ringback/").unwrap(), "http://a.example/ringback");
    for url in ["127.0.0.1:8080", "ftp://a.example", "", "http://a.example/?x=1"] {
        assert!(matches!(of(url), Err(ClientError::Settings(_))), "{url}");
    }
}

#[test]
fn no_secret_is_printed() {
    let key = || Some(SecretString::from("rbk_hush"));
    let client = Client::new("http://127.0.0.1:1", key()).unwrap();
    assert!(!format!("{client:?}").contains("hush"));
    let wrong = Client::new("http://me:hush@127.0.0.1:1", key()).unwrap_err();
    assert!(!wrong.to_string().contains("hush"), "{wrong}");
    let wrong = Client::new("http://127.0.0.1:1", Some("hush\n".into())).unwrap_err();
    assert!(!wrong.to_string().contains("hush"), "{wrong}");
}

#[test]
fn this_machine_is_known_by_any_of_its_names() {
    for url in ["http://127.0.0.2", "http://[::1]:9", "http://localhost", "http://x.localhost"] {
        assert!(is_loopback(&Url::parse(url).unwrap()), "{url}");
    }
    assert!(!is_loopback(&Url::parse("http://10.0.0.1").unwrap()));
}
