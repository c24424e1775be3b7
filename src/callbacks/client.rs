//! The guarded client: posts to URLs that strangers chose.
//!
//! It connects only to addresses that were judged: names are resolved and judged for every new
//! connection, and refused if any of their addresses is forbidden; a literal address is judged
//! before the request, since the resolver is never asked for it. No redirect is followed, no proxy
//! of the environment used, no cookie kept, nothing inflated. One time-out covers the whole
//! exchange, and of the answer only the first bytes are read.

use std::{
    error::Error,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, StatusCode,
    header::{DATE, RETRY_AFTER},
};
use reqwest::{
    Response,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};
use url::Host;

use crate::{
    domain::{
        callback_url::{self, CallbackUrl, Forbidden},
        retry_after,
        time::millis,
    },
    store::AttemptEnd,
};

/// How long an unused connection is kept: shorter than servers and balancers keep theirs.
const IDLE: Duration = Duration::from_secs(15);

/// How many unused connections are kept to one host.
const IDLE_PER_HOST_MAX: usize = 8;

/// The longest time to wait for a connection, within the time-out of the whole exchange.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How much of an answer's body is read, in bytes.
const ANSWER_BYTES_MAX: usize = 4 * 1024;

/// The longest text of an error that is kept, in characters.
const ERROR_CHARS_MAX: usize = 300;

/// See the module.
#[derive(Clone, Debug)]
pub struct GuardedClient {
    http: reqwest::Client,
    allow_private_networks: bool,
    timeout: Duration,
}

/// What an exchange came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// Its end, as it is recorded.
    pub end: AttemptEnd,
    /// What the answer's `Retry-After` asked for.
    pub retry_after: Option<Duration>,
}

/// Resolves names, and gives only addresses that were judged.
struct JudgedNames {
    allow_private_networks: bool,
}

// === impl GuardedClient ===

impl GuardedClient {
    /// A client whose exchanges take at most `timeout`.
    ///
    /// # Errors
    /// If the machine's trusted certificates can't be read.
    pub fn new(timeout: Duration, allow_private_networks: bool) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .redirect(Policy::none())
            .referer(false)
            .no_proxy()
            .connect_timeout(timeout.min(CONNECT_MAX))
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
            .dns_resolver(JudgedNames { allow_private_networks })
            .user_agent(concat!("ringback/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, allow_private_networks, timeout })
    }

    /// Judges a URL by this client's rules.
    ///
    /// # Errors
    /// [`Forbidden`].
    pub fn judge(&self, url: &str) -> Result<CallbackUrl, Forbidden> {
        callback_url::judge(url, self.allow_private_networks)
    }

    /// Posts `body` to `url`, within the time-out.
    pub async fn post(&self, url: &CallbackUrl, headers: HeaderMap, body: Bytes) -> Exchange {
        let begin = Instant::now();
        let deadline = tokio::time::Instant::from_std(begin) + self.timeout;
        let answer = tokio::time::timeout_at(deadline, self.send(url, headers, body)).await;
        let mut exchange = match answer {
            Ok(Ok(response)) => read(response, deadline).await,
            Ok(Err(error)) => Exchange::failed(error),
            Err(_) => {
                let timeout = humantime::format_duration(self.timeout);
                Exchange::failed(format!("no answer within {timeout}"))
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
    ) -> Result<Response, String> {
        self.judge_literal(url).map_err(|forbidden| forbidden.to_string())?;
        let request = self.http.post(url.url().clone()).headers(headers).body(body);
        request.send().await.map_err(|error| why(&error.without_url()))
    }

    fn judge_literal(&self, url: &CallbackUrl) -> Result<(), Forbidden> {
        let ip = match url.url().host() {
            Some(Host::Ipv4(ip)) => ip.into(),
            Some(Host::Ipv6(ip)) => ip.into(),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        callback_url::judge_address(ip, self.allow_private_networks)
    }
}

// === impl Exchange ===

impl Exchange {
    /// An exchange that got no answer, and why.
    #[must_use]
    pub fn failed(error: String) -> Self {
        let end = AttemptEnd { error: Some(error), ..AttemptEnd::default() };
        Self { end, retry_after: None }
    }
}

// === impl JudgedNames ===

impl Resolve for JudgedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private_networks = self.allow_private_networks;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let addresses = found.collect::<Vec<SocketAddr>>();
            if addresses.is_empty() {
                return Err(io::Error::other("the host's name has no address").into());
            }
            for address in &addresses {
                callback_url::judge_address(address.ip(), allow_private_networks)?;
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Reads the first bytes of an answer. Its head has decided already: a body that breaks off or
/// takes too long changes nothing.
async fn read(mut response: Response, deadline: tokio::time::Instant) -> Exchange {
    let status = response.status();
    let retry_after = asked(response.headers());
    let mut answer = Vec::new();
    while answer.len() < ANSWER_BYTES_MAX {
        match tokio::time::timeout_at(deadline, response.chunk()).await {
            Ok(Ok(Some(chunk))) => answer.extend_from_slice(&chunk),
            Ok(Ok(None) | Err(_)) | Err(_) => break,
        }
    }
    let end = AttemptEnd {
        status: Some(status.as_u16()),
        latency_ms: 0,
        answer: (!answer.is_empty()).then(|| beginning(&answer)),
        error: refusal(status),
    };
    Exchange { end, retry_after }
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

/// The first bytes as text, without a last character that was cut in two.
fn beginning(answer: &[u8]) -> String {
    let first = &answer[..answer.len().min(ANSWER_BYTES_MAX)];
    let whole = match std::str::from_utf8(first) {
        Err(error) if error.error_len().is_none() => &first[..error.valid_up_to()],
        _ => first,
    };
    String::from_utf8_lossy(whole).into_owned()
}

/// Why there is no answer: what the innermost error says, which names no URL.
fn why(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let place = match cause.downcast_ref::<Forbidden>() {
        Some(forbidden) => return forbidden.to_string(),
        None if error.is_connect() => "could not connect",
        None => "no answer",
    };
    format!("{place}: {cause}").chars().take(ERROR_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callbacks::receiver::{Act, Receiver};

    const TIMEOUT: Duration = Duration::from_secs(10);
    const SHORT: Duration = Duration::from_millis(200);

    async fn post(url: &str, timeout: Duration, allow_private_networks: bool) -> Exchange {
        let client = GuardedClient::new(timeout, allow_private_networks).unwrap();
        // The URL passes for the sake of the test; the client must judge for itself.
        let url = callback_url::judge(url, true).unwrap();
        client.post(&url, HeaderMap::new(), Bytes::from_static(b"{}")).await
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
