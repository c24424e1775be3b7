//! The provider against real sockets, answer by answer.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use super::*;
use crate::domain::{
    ids::{BatchId, MessageId},
    outcome::{SendError, Throttled},
    time::UnixMs,
};
use crate::providers::CommonSettings;

const TIMEOUT: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(150);

/// What the server does once it has read a request.
#[derive(Clone)]
enum Act {
    /// Writes these bytes and keeps the connection.
    Answer(Vec<u8>),
    /// Writes these bytes and closes the connection.
    AnswerAndClose(&'static str),
    /// Resets the connection.
    Reset,
    /// Writes these bytes, and then nothing more.
    Hang(&'static str),
}

/// A provider's side: its URL, and the requests it has read, as text.
struct Server {
    url: String,
    requests: mpsc::UnboundedReceiver<String>,
}

// === impl Server ===

impl Server {
    async fn start(act: Act) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/send?x=1", listener.local_addr().unwrap());
        let (tell, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, act.clone(), tell.clone()));
            }
        });
        Self { url, requests }
    }

    async fn answering(answer: &str) -> Self {
        Self::start(Act::Answer(answer.into())).await
    }

    fn provider(&self, timeout: Duration) -> Arc<dyn Provider> {
        provider(&self.url, timeout)
    }

    /// What submitting one message to it comes to.
    async fn outcome(&self) -> Outcome {
        submit(&*self.provider(TIMEOUT)).await
    }
}

async fn serve(
    mut stream: TcpStream,
    act: Act,
    tell: mpsc::UnboundedSender<String>,
) -> io::Result<()> {
    loop {
        tell.send(request(&mut stream).await?).map_err(io::Error::other)?;
        match &act {
            Act::Answer(answer) => stream.write_all(answer).await?,
            Act::AnswerAndClose(answer) => return stream.write_all(answer.as_bytes()).await,
            Act::Reset => return stream.set_zero_linger(),
            Act::Hang(answer) => {
                stream.write_all(answer.as_bytes()).await?;
                return std::future::pending().await;
            }
        }
    }
}

/// Reads one request with its body.
async fn request(stream: &mut TcpStream) -> io::Result<String> {
    let mut text = String::new();
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.and_then(|length| length.parse().ok()).unwrap_or(0) {
                return Ok(text);
            }
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => text.push_str(std::str::from_utf8(&buffer[..read]).unwrap()),
        }
    }
}

fn settings(url: &str) -> HttpSettings {
    let headers = BTreeMap::from([("X-Key".into(), SecretString::from("hush"))]);
    HttpSettings { url: url.into(), headers, receipt_secret: None }
}

fn provider(url: &str, timeout: Duration) -> Arc<dyn Provider> {
    let common = CommonSettings { timeout, ..CommonSettings::default() };
    settings(url).build(&Site::of(&common)).unwrap()
}

fn id() -> MessageId {
    MessageId { batch: BatchId::new(UnixMs(1_790_000_000_000), 99 << 30, 0), index: 7 }
}

async fn submit(provider: &dyn Provider) -> Outcome {
    let submission = Submission {
        id: id(),
        to: "+15551230001",
        from: None,
        body: "Hi \"Ann\" \\ é 日本\n\u{1}",
        attempts: 0,
        valid_for: None,
    };
    provider.submit(submission).await
}

fn accepted(id: Option<&str>) -> Outcome {
    Outcome::Accepted { provider_message_id: id.map(str::to_owned), receipt_follows: false }
}

/// The code of an outcome of the kind expected.
fn unknown(outcome: Outcome) -> SendError {
    match outcome {
        Outcome::Unknown { error } => error,
        other => panic!("{other:?}"),
    }
}

fn temporary(outcome: Outcome) -> SendError {
    match outcome {
        Outcome::Temporary { error, .. } => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_message_is_sent_as_documented() {
    let mut server = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(server.outcome().await, accepted(None));
    let request = server.requests.recv().await.unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /send?x=1 HTTP/1.1\r\n"), "{head}");
    let host = server.url.strip_prefix("http://").unwrap().strip_suffix("/send?x=1").unwrap();
    let lines = [
        format!("host: {host}"),
        format!("idempotency-key: {}", id()),
        "content-type: application/json".into(),
        concat!("user-agent: ringback/", env!("CARGO_PKG_VERSION")).into(),
        "x-key: hush".into(),
    ];
    for line in lines {
        assert!(head.lines().any(|other| other == line), "{line} in {head}");
    }
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let expected = serde_json::json!({
        "message_id": id().to_string(),
        "to": "+15551230001",
        "from": null,
        "body": "Hi \"Ann\" \\ é 日本\n\u{1}",
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn a_2xx_read_to_its_end_is_accepted() {
    let answers = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n{\"id\": \"A1\"}", Some("A1")),
        ("HTTP/1.1 201 Created\r\ncontent-length: 8\r\n\r\n{\"id\":7}", Some("7")),
        ("HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\nOK", None),
        ("HTTP/1.1 204 No Content\r\n\r\n", None),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
             4\r\n{\"id\r\n8\r\n\": \"B2\"}\r\n0\r\n\r\n",
            Some("B2"),
        ),
    ];
    for (answer, id) in answers {
        let server = Server::answering(answer).await;
        assert_eq!(server.outcome().await, accepted(id), "{answer}");
    }
}

#[tokio::test]
async fn an_answer_that_does_not_end_well_leaves_doubt() {
    let cut = [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"id\": \"A1\"}",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n{\"id\r\n",
        "HTTP/1.1 200 OK\r\ncontent-le",
        "SMPP/3.4 hello\r\n\r\n",
        "",
    ];
    for answer in cut {
        let server = Server::start(Act::AnswerAndClose(answer)).await;
        assert_eq!(unknown(server.outcome().await).code, "provider_broken_answer", "{answer}");
    }
    let server = Server::start(Act::Reset).await;
    assert_eq!(unknown(server.outcome().await).code, "provider_broken_answer");
}

#[tokio::test]
async fn an_answer_is_read_up_to_a_bound() {
    let sized = |bytes: usize| {
        let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n").into_bytes();
        answer.resize(answer.len() + bytes, b' ');
        Server::start(Act::Answer(answer))
    };
    let longest = sized(BODY_BYTES_MAX).await;
    assert_eq!(longest.outcome().await, accepted(None));
    let longer = sized(BODY_BYTES_MAX + 1).await;
    let error = unknown(longer.outcome().await);
    assert_eq!(error.code, "provider_broken_answer");
    assert!(error.detail.contains("too long"), "{}", error.detail);
}

#[tokio::test]
async fn a_slow_provider_leaves_doubt_when_the_time_is_up() {
    for answer in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"] {
        let server = Server::start(Act::Hang(answer)).await;
        let error = unknown(submit(&*server.provider(SHORT)).await);
        assert_eq!(error.code, "provider_timeout", "{answer}");
        assert_eq!(error.detail, "no whole answer within 150ms");
    }
    let refused = Server::start(Act::Hang("HTTP/1.1 503 No\r\ncontent-length: 9\r\n\r\n{")).await;
    let error = temporary(submit(&*refused.provider(SHORT)).await);
    assert_eq!(error.detail, "answered 503");
}

#[tokio::test]
async fn refusals_say_what_is_to_be_done() {
    let throttled =
        Server::answering("HTTP/1.1 429 Busy\r\nretry-after: 3\r\ncontent-length: 0\r\n\r\n").await;
    let error = SendError::passing("provider_throttled", "answered 429");
    let after = Duration::from_secs(3);
    assert_eq!(
        throttled.outcome().await,
        Outcome::Throttled { after, who: Throttled::Provider, error }
    );

    let down = Server::answering("HTTP/1.1 503 Down\r\ncontent-length: 0\r\n\r\n").await;
    let error = SendError::passing("provider_unavailable", "answered 503");
    assert_eq!(down.outcome().await, Outcome::Temporary { certain: true, after: None, error });

    let wrong = Server::answering(
        "HTTP/1.1 400 Bad Request\r\ncontent-length: 15\r\n\r\n{\"code\": 21211}",
    )
    .await;
    let error = SendError::permanent("provider_rejected", "answered 400");
    let error = error.with_provider_code("21211");
    assert_eq!(wrong.outcome().await, Outcome::Rejected { error });
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let mut second = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let answer =
        format!("HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", second.url);
    let first = Server::answering(&answer).await;
    let error = SendError::permanent("provider_rejected", "answered 302");
    assert_eq!(first.outcome().await, Outcome::Rejected { error });
    assert!(second.requests.try_recv().is_err());
}

#[tokio::test]
async fn without_a_connection_it_never_left() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let urls = [
        format!("http://{unused}/"),
        format!("https://{unused}/"),
        "http://nowhere.invalid/".to_owned(),
    ];
    for url in urls {
        let error = temporary(submit(&*provider(&url, TIMEOUT)).await);
        assert_eq!(error.code, "provider_unreachable", "{url}");
        assert!(error.detail.starts_with("could not connect: "), "{}", error.detail);
    }
    let no_tls = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let url = no_tls.url.replace("http://", "https://");
    assert_eq!(temporary(submit(&*provider(&url, SHORT)).await).code, "provider_unreachable");
}

#[tokio::test]
async fn connections_are_kept_and_a_closed_one_does_no_harm() {
    let mut server = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let provider = server.provider(TIMEOUT);
    for _ in 0..3 {
        assert_eq!(submit(&*provider).await, accepted(None));
        server.requests.recv().await.unwrap();
    }
    let close = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let closing = Server::start(Act::AnswerAndClose(close)).await;
    let provider = closing.provider(TIMEOUT);
    for _ in 0..3 {
        assert_eq!(submit(&*provider).await, accepted(None));
    }
}

#[test]
fn settings_that_can_not_serve_are_refused() {
    let refused = |settings: HttpSettings| {
        let error = settings.build(&Site::of(&CommonSettings::default())).err().unwrap();
        assert!(!error.to_string().contains("hush"), "{error}");
        error.key
    };
    for url in ["", "sms", "ftp://a.example", "https://ann:hush@a.example", "http://"] {
        assert_eq!(refused(settings(url)), "url", "{url}");
    }
    for (name, value) in [("a b", "x"), ("x", "hush\n"), ("Host", "a"), ("Content-Length", "1")] {
        let headers = BTreeMap::from([(name.to_owned(), SecretString::from(value))]);
        let settings =
            HttpSettings { url: "http://a.example".into(), headers, receipt_secret: None };
        assert_eq!(refused(settings), "headers", "{name}");
    }
}
