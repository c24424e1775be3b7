//! The guarded client: posts to URLs that strangers chose.
//!
//! It connects only to addresses that were judged: names are resolved and judged for every new
//! connection, and refused if any of their addresses is forbidden; a literal address is judged
//! before the request, since the resolver is never asked for it. It follows no redirect, uses no
//! proxy of the environment, keeps no cookie and inflates nothing. One time-out covers the whole
//! exchange, and of the answer only the first bytes are read: its head, within a bound, decides.

use std::{
    error::Error,
    fmt::Display,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hickory_resolver::net::NetError;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{ACCEPT, DATE, RETRY_AFTER, USER_AGENT},
};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{self, Client},
    rt::{TokioExecutor, TokioTimer},
};

use super::{CallbackSettings, connector::GuardedConnector, names::JudgedNames};
use crate::{
    domain::{
        callback_url::{CallbackUrl, Forbidden, Rules},
        retry_after,
        time::millis,
    },
    store::{AttemptEnd, HostSign},
};

/// What the client calls itself.
const AGENT: &str = concat!("ringback/", env!("CARGO_PKG_VERSION"));

/// How long an unused connection is kept: shorter than servers and balancers keep theirs.
const IDLE: Duration = Duration::from_secs(15);

/// How many unused connections are kept to one host.
const IDLE_PER_HOST_MAX: usize = 8;

/// The longest time to wait for a connection, with the lookup of the host's name, within the
/// time-out of the whole exchange.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// The longest head of an answer, in bytes; no more of its body is read ahead either.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How much of an answer's body is kept, in bytes.
const ANSWER_BYTES_MAX: usize = 4 * 1024;

/// The longest text of an error that is kept, in characters.
const ERROR_CHARS_MAX: usize = 300;

/// See the module.
#[derive(Clone, Debug)]
pub struct GuardedClient {
    http: Client<GuardedConnector, Full<Bytes>>,
    rules: Rules,
    timeout: Duration,
}

/// What an exchange came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// Its end, as it is recorded.
    pub end: AttemptEnd,
    /// What the answer's `Retry-After` asked for.
    pub retry_after: Option<Duration>,
    /// What it says about the receiver's host.
    pub host: HostSign,
}

/// A client can't be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The machine's trusted certificates can't be read.
    #[error("the machine's trusted certificates can't be read: {0}")]
    Tls(#[from] rustls::Error),
    /// The name servers can't be used.
    #[error("callbacks.dns_servers: {0}")]
    Names(#[from] NetError),
}

/// Why there is no answer, and what that says about the host.
struct Failure {
    reason: String,
    host: HostSign,
}

// === impl GuardedClient ===

impl GuardedClient {
    /// A client that goes by the settings of callbacks.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn new(settings: &CallbackSettings) -> Result<Self, ClientError> {
        let (rules, timeout) = (settings.rules(), settings.timeout);
        let names = JudgedNames::new(rules.clone(), &settings.dns_servers, timeout)?;
        let connector = GuardedConnector::new(names, timeout.min(CONNECT_MAX))?;
        let http = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .build(connector);
        Ok(Self { http, rules, timeout })
    }

    /// Judges a URL by this client's rules.
    ///
    /// # Errors
    /// [`Forbidden`].
    pub fn judge(&self, url: &str) -> Result<CallbackUrl, Forbidden> {
        self.rules.judge(url)
    }

    /// Posts `body` to `url`, within the time-out.
    pub async fn post(&self, url: &CallbackUrl, headers: HeaderMap, body: Bytes) -> Exchange {
        let begin = Instant::now();
        let deadline = tokio::time::Instant::from_std(begin) + self.timeout;
        let answer = tokio::time::timeout_at(deadline, self.send(url, headers, body)).await;
        let mut exchange = match answer {
            Ok(Ok(response)) => read(response, deadline).await,
            Ok(Err(failure)) => failure.into(),
            Err(_) => {
                let timeout = humantime::format_duration(self.timeout);
                Failure::silent(format!("no answer within {timeout}")).into()
            }
        };
        exchange.end.latency_ms = millis(begin.elapsed());
        exchange
    }

    async fn send(
        &self,
        url: &CallbackUrl,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        self.rules.judge_again(url).map_err(|forbidden| Failure::unasked(&forbidden))?;
        let request = request(url, headers, body)?;
        self.http.request(request).await.map_err(|error| why(&error))
    }
}

// === impl Exchange ===

impl Exchange {
    /// An exchange that never came about, and why: it says nothing of the host.
    #[must_use]
    pub fn failed(error: String) -> Self {
        let end = AttemptEnd { error: Some(error), ..AttemptEnd::default() };
        Self { end, ..Self::default() }
    }
}

impl From<Failure> for Exchange {
    fn from(Failure { reason, host }: Failure) -> Self {
        Self { host, ..Self::failed(reason) }
    }
}

// === impl Failure ===

impl Failure {
    /// Nobody was asked.
    fn unasked(reason: &dyn Display) -> Self {
        Self { reason: reason.to_string(), host: HostSign::None }
    }

    /// Nobody took the connection, or answered in time.
    fn silent(reason: String) -> Self {
        Self { reason, host: HostSign::Silent }
    }
}

/// The request. Not every URL can be written into one.
fn request(
    url: &CallbackUrl,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, Failure> {
    let target = Uri::try_from(url.url().as_str());
    let target =
        target.map_err(|error| Failure::unasked(&format_args!("not a URL for HTTP: {error}")))?;
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = target;
    *request.headers_mut() = headers;
    let headers = request.headers_mut();
    headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    Ok(request)
}

/// Reads the first bytes of an answer. Its head has decided already: a body that breaks off or
/// takes too long changes nothing.
async fn read(response: Response<Incoming>, deadline: tokio::time::Instant) -> Exchange {
    let (head, mut body) = response.into_parts();
    let (status, retry_after) = (head.status, asked(&head.headers));
    let mut answer = Vec::new();
    while answer.len() < ANSWER_BYTES_MAX {
        let Ok(Some(Ok(frame))) = tokio::time::timeout_at(deadline, body.frame()).await else {
            break;
        };
        answer.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
    }
    let end = AttemptEnd {
        status: Some(status.as_u16()),
        latency_ms: 0,
        answer: (!answer.is_empty()).then(|| beginning(&answer)),
        error: refusal(status),
    };
    Exchange { end, retry_after, host: HostSign::Answered }
}

fn refusal(status: StatusCode) -> Option<String> {
    let code = status.as_u16();
    if status.is_success() {
        None
    } else if status.is_redirection() {
        Some(format!("the receiver answered {code}; redirects are not followed"))
    } else {
        Some(format!("the receiver answered {code}"))
    }
}

fn asked(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    retry_after::parse(text(RETRY_AFTER)?, text(DATE))
}

/// The first bytes as text, without a last character that was cut in two. What is no text takes
/// more room once it is replaced, and is cut again.
fn beginning(answer: &[u8]) -> String {
    let first = &answer[..answer.len().min(ANSWER_BYTES_MAX)];
    let whole = match std::str::from_utf8(first) {
        Err(error) if error.error_len().is_none() => &first[..error.valid_up_to()],
        _ => first,
    };
    let mut text = String::from_utf8_lossy(whole).into_owned();
    text.truncate(text.floor_char_boundary(ANSWER_BYTES_MAX));
    text
}

/// Why there is no answer: what the innermost error says, which names no URL.
fn why(error: &legacy::Error) -> Failure {
    let (mut cause, mut is_no_http): (&dyn Error, bool) = (error, false);
    while let Some(inner) = cause.source() {
        cause = inner;
        is_no_http |= cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse);
    }
    let place = match cause.downcast_ref::<Forbidden>() {
        Some(forbidden) => return Failure::unasked(forbidden),
        None if error.is_connect() => "could not connect",
        None => "no answer",
    };
    let reason = format!("{place}: {cause}").chars().take(ERROR_CHARS_MAX).collect();
    // What is no HTTP is a sign of life too.
    let host = if is_no_http { HostSign::Answered } else { HostSign::Silent };
    Failure { reason, host }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callbacks::receiver::{Act, Receiver};

    const TIMEOUT: Duration = Duration::from_secs(10);
    const SHORT: Duration = Duration::from_millis(200);
    const ANSWER: &str = "HTTP/1.1 204 Fine\r\n\r\n";

    fn client(timeout: Duration, allow_private_networks: bool) -> GuardedClient {
        let settings =
            CallbackSettings { allow_private_networks, timeout, ..CallbackSettings::default() };
        GuardedClient::new(&settings).unwrap()
    }

    async fn post_by(client: &GuardedClient, url: &str) -> Exchange {
        // The URL passes for the sake of the test; the client must judge for itself.
        let open = Rules { allow_private_networks: true, ..Rules::default() };
        let url = open.judge(url).unwrap();
        client.post(&url, HeaderMap::new(), Bytes::from_static(b"{}")).await
    }

    async fn post(url: &str, timeout: Duration, allow_private_networks: bool) -> Exchange {
        post_by(&client(timeout, allow_private_networks), url).await
    }

    #[tokio::test]
    async fn an_answer_is_read_in_its_first_bytes_only() {
        let big = format!("{}{}", "x".repeat(ANSWER_BYTES_MAX - 1), "é".repeat(100_000));
        let receiver = Receiver::start([Act::answer(200, &big)]).await;
        let end = post(&receiver.url(), TIMEOUT, true).await.end;
        assert_eq!((end.status, end.error), (Some(200), None));
        assert_eq!(end.answer, Some("x".repeat(ANSWER_BYTES_MAX - 1)));

        let receiver = Receiver::start([Act::answer(204, "")]).await;
        let end = post(&receiver.url(), TIMEOUT, true).await.end;
        assert_eq!((end.status, end.answer), (Some(204), None));
    }

    #[tokio::test]
    async fn a_connection_is_used_again_unless_more_was_answered_than_is_read() {
        let client = client(TIMEOUT, true);
        for (body, connections) in [("x".repeat(100), 1), ("x".repeat(1_000_000), 3)] {
            let receiver = Receiver::start([Act::answer(200, &body)]).await;
            for _ in 0..3 {
                assert_eq!(post_by(&client, &receiver.url()).await.end.status, Some(200));
            }
            assert_eq!(receiver.connections(), connections, "{} bytes", body.len());
        }
    }

    #[tokio::test]
    async fn what_is_no_text_is_kept_within_the_bound_too() {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 20000\r\n\r\n";
        let receiver = Receiver::start([Act::Flood(head.into(), "\u{1}".repeat(20_000))]).await;
        let answer = post(&receiver.url(), TIMEOUT, true).await.end.answer.unwrap();
        assert_eq!(answer.len(), ANSWER_BYTES_MAX);
        assert!(beginning(&[0xff; ANSWER_BYTES_MAX]).len() <= ANSWER_BYTES_MAX);
    }

    #[tokio::test]
    async fn heads_without_end_are_refused_at_a_bound() {
        let header = format!("x-pad: {}\r\n", "y".repeat(8_000));
        let many = "x: y\r\n".to_owned();
        let one = "y".repeat(8_000);
        for (head, piece) in [
            ("HTTP/1.1 200 OK\r\n", header),
            ("HTTP/1.1 200 OK\r\n", many),
            ("HTTP/1.1 200 OK\r\nx: ", one),
        ] {
            let receiver = Receiver::start([Act::Flood(head.into(), piece)]).await;
            let end = post(&receiver.url(), TIMEOUT, true).await.end;
            assert_eq!(end.status, None);
            let error = end.error.unwrap();
            assert!(error.starts_with("no answer: message head is too large"), "{error}");
            assert!(end.latency_ms < 1_000, "{}", end.latency_ms);
        }
    }

    #[tokio::test]
    async fn only_silence_counts_against_a_host() {
        let cases = [
            (Act::Write("220 mail ready\r\n\r\n".into()), HostSign::Answered),
            (Act::Write("HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n".into()), HostSign::Answered),
            (Act::Hang(String::new()), HostSign::Silent),
            (Act::Reset, HostSign::Silent),
        ];
        for (act, expected) in cases {
            let receiver = Receiver::start([act.clone()]).await;
            let exchange = post(&receiver.url(), SHORT, true).await;
            assert_eq!(exchange.host, expected, "{act:?}: {exchange:?}");
        }
        let forbidden = post("http://127.0.0.1/", SHORT, false).await;
        assert_eq!(forbidden.host, HostSign::None, "{forbidden:?}");
    }

    #[tokio::test]
    async fn heads_that_announce_another_are_refused_at_a_bound() {
        let hint = "HTTP/1.1 103 Hints\r\n\r\n".repeat(10_000);
        let receiver = Receiver::start([Act::Flood(String::new(), hint)]).await;
        let end = post(&receiver.url(), TIMEOUT, true).await.end;
        let error = "no answer: more than 131072 bytes came in answer";
        assert_eq!((end.status, end.error.as_deref()), (None, Some(error)));
        let one = format!("HTTP/1.1 103 Hints\r\n\r\n{ANSWER}");
        let receiver = Receiver::start([Act::Write(one)]).await;
        assert_eq!(post(&receiver.url(), TIMEOUT, true).await.end.status, Some(204));
    }

    #[tokio::test]
    async fn the_bound_is_one_answers_and_not_the_connections() {
        let head = format!("HTTP/1.1 204 Fine\r\nx-pad: {}\r\n\r\n", "y".repeat(60_000));
        let receiver = Receiver::start([Act::Write(head)]).await;
        let client = client(TIMEOUT, true);
        for _ in 0..20 {
            assert_eq!(post_by(&client, &receiver.url()).await.end.status, Some(204));
        }
        assert_eq!(receiver.connections(), 1);
    }

    #[tokio::test]
    async fn once_the_head_is_there_no_body_changes_what_it_says() {
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let zipped = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n\u{1f}";
        let cases = [
            ("endless", "HTTP/1.1 200 OK\r\n\r\n".to_owned(), "x".repeat(60_000)),
            ("packed", zipped.to_owned(), "\0".repeat(60_000)),
            ("chunk extensions", format!("{chunked}1;a="), "x".repeat(60_000)),
            ("extensions of many chunks", chunked.to_owned(), "1;x\r\ny\r\n".repeat(100)),
            ("trailers", format!("{chunked}0\r\n"), "x-pad: y\r\n".repeat(1_000)),
            ("a broken chunk", format!("{chunked}zz\r\n"), "x".repeat(60_000)),
        ];
        let client = client(Duration::from_secs(2), true);
        for (what, head, piece) in cases {
            let receiver = Receiver::start([Act::Flood(head, piece)]).await;
            let begin = Instant::now();
            let end = post_by(&client, &receiver.url()).await.end;
            assert_eq!((end.status, end.error), (Some(200), None), "{what}");
            assert!(begin.elapsed() < Duration::from_secs(4), "{what}: {:?}", begin.elapsed());
            let (written, kept) = (receiver.written_bytes(), end.answer.unwrap_or_default().len());
            println!("{what}: {kept} bytes kept, at most {written} written, {:?}", begin.elapsed());
            assert!(kept <= ANSWER_BYTES_MAX, "{what}: {kept}");
        }
    }

    #[tokio::test]
    async fn a_date_tells_how_long_to_wait_too() {
        let answer = "HTTP/1.1 429 Slow\r\nretry-after: Wed, 21 Oct 2026 07:28:30 GMT\r\n\
                      date: Wed, 21 Oct 2026 07:28:00 GMT\r\ncontent-length: 0\r\n\r\n";
        let receiver = Receiver::start([Act::Write(answer.into())]).await;
        let exchange = post(&receiver.url(), TIMEOUT, true).await;
        assert_eq!(exchange.end.status, Some(429));
        assert_eq!(exchange.retry_after, Some(Duration::from_secs(30)));
    }

    #[tokio::test]
    async fn a_refusal_tells_how_long_to_wait() {
        let answer = "HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 4\r\n\r\nlater";
        let receiver = Receiver::start([Act::Write(answer.into())]).await;
        let exchange = post(&receiver.url(), TIMEOUT, true).await;
        assert_eq!(exchange.end.status, Some(503));
        assert_eq!(exchange.end.error.as_deref(), Some("the receiver answered 503"));
        assert_eq!(exchange.end.answer.as_deref(), Some("late"));
        assert_eq!(exchange.retry_after, Some(Duration::from_secs(7)));
    }

    #[tokio::test]
    async fn the_time_out_covers_the_whole_exchange() {
        let begin = Instant::now();
        let silent = Receiver::start([Act::Hang(String::new())]).await;
        let end = post(&silent.url(), SHORT, true).await.end;
        assert_eq!((end.status, end.error.as_deref()), (None, Some("no answer within 200ms")));
        assert!(end.latency_ms >= 200, "{}", end.latency_ms);

        for head in ["HTTP/1.1 500 Oh\r\n", "HTTP/1.1 500 Oh\r\ncontent-length: 4000\r\n\r\n"] {
            let dripping = Receiver::start([Act::Drip(head.into())]).await;
            let end = post(&dripping.url(), SHORT, true).await.end;
            assert_eq!(end.status, head.ends_with("\r\n\r\n").then_some(500));
            assert!(end.error.is_some());
        }
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    }

    #[tokio::test]
    async fn the_request_is_what_it_is_told_to_be() {
        let receiver = Receiver::start([Act::Write(ANSWER.into())]).await;
        let open = Rules { allow_private_networks: true, ..Rules::default() };
        let url = open.judge(&format!("{}&a={{b}}|c#part", receiver.url())).unwrap();
        let headers = HeaderMap::from_iter([
            (USER_AGENT, HeaderValue::from_static("somebody else")),
            (ACCEPT, HeaderValue::from_static("text/plain")),
        ]);
        let posted = client(TIMEOUT, true).post(&url, headers, Bytes::from_static(b"{}")).await;
        assert_eq!(posted.end.status, Some(204), "{posted:?}");
        let request = &receiver.requests()[0];
        assert_eq!(request.header("host"), receiver.address().to_string());
        assert_eq!(request.header("content-length"), "2");
        assert_eq!(request.header("user-agent"), AGENT);
        assert_eq!(request.header("accept"), "text/plain");
        assert_eq!(request.body, "{}");
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let second = Receiver::start([Act::answer(200, "")]).await;
        let redirect =
            format!("HTTP/1.1 307 Go\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", second.url());
        let first = Receiver::start([Act::Write(redirect)]).await;
        let end = post(&first.url(), TIMEOUT, true).await.end;
        assert_eq!(end.status, Some(307));
        assert!(end.error.unwrap().contains("redirects are not followed"));
        assert!(second.requests().is_empty());
    }

    #[tokio::test]
    async fn forbidden_addresses_are_never_connected_to() {
        let receiver = Receiver::start([Act::answer(200, "")]).await;
        let port = receiver.address().port();
        for host in ["127.0.0.1", "2130706433", "[::1]", "localhost", "[::ffff:127.0.0.1]"] {
            let url = format!("http://{host}:{port}/");
            let end = post(&url, TIMEOUT, false).await.end;
            let error = end.error.unwrap();
            assert!(error.contains("callbacks.allow_private_networks"), "{host}: {error}");
            assert_eq!(end.status, None);
        }
        assert!(receiver.requests().is_empty());
        let named = format!("http://localhost:{port}/");
        assert_eq!(post(&named, TIMEOUT, true).await.end.status, Some(200));
    }

    #[tokio::test]
    async fn without_an_answer_it_says_why_and_names_no_url() {
        let reset = Receiver::start([Act::Reset]).await;
        let error = post(&reset.url(), TIMEOUT, true).await.end.error.unwrap();
        assert!(error.starts_with("no answer: "), "{error}");
        let garbage = Receiver::start([Act::Write("SMPP/3.4 hello\r\n\r\n".into())]).await;
        let error = post(&garbage.url(), TIMEOUT, true).await.end.error.unwrap();
        assert!(error.starts_with("no answer: ") && !error.contains("token"), "{error}");
        let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for host in [unused.to_string(), "nowhere.invalid".into()] {
            let url = format!("http://{host}/?token=hush");
            let error = post(&url, TIMEOUT, true).await.end.error.unwrap();
            assert!(error.starts_with("could not connect: "), "{error}");
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
