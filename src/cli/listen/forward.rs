//! Passing a request on to another receiver, and its answer back.
//!
//! Method, headers and body go on as they came, but for what belongs to one connection only
//! (RFC 9110, section 7.6.1). No redirect is followed, no proxy of the environment used; an exchange
//! takes at most 10 s, and of an answer at most 1 MiB is passed back.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, Method, Response,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
};
use reqwest::redirect::Policy;
use url::Url;

/// The longest exchange: shorter than a callback's time-out, so that the answer still arrives.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The longest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Headers of one connection that `http` has no names for.
const OF_CONNECTION: [&str; 4] =
    ["keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"];

/// Sends requests on to one URL.
pub(in crate::cli) struct Forwarder {
    http: reqwest::Client,
    url: Url,
}

// === impl Forwarder ===

impl Forwarder {
    /// # Errors
    /// If the machine's trusted certificates can't be read.
    pub(super) fn new(url: Url) -> reqwest::Result<Self> {
        let http = reqwest::Client::builder()
            .redirect(Policy::none())
            .referer(false)
            .no_proxy()
            .timeout(TIMEOUT)
            .build()?;
        Ok(Self { http, url })
    }

    /// Where requests go, without user, password and query.
    pub(super) fn place(&self) -> String {
        let origin = self.url.origin().ascii_serialization();
        format!("{origin}{}", self.url.path())
    }

    /// Passes a request on, and gives the answer. The error says in words why there is none.
    pub(super) async fn pass(
        &self,
        method: &Method,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Bytes>, String> {
        let request = self.http.request(method.clone(), self.url.clone());
        let answer = request.headers(end_to_end(headers)).body(body).send().await;
        let mut answer = answer.map_err(words)?;
        let mut passed = Response::new(Bytes::new());
        *passed.status_mut() = answer.status();
        *passed.headers_mut() = end_to_end(answer.headers());
        let mut read = BytesMut::new();
        while let Some(piece) = answer.chunk().await.map_err(words)? {
            if read.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err(format!("its answer is longer than {ANSWER_BYTES_MAX} bytes"));
            }
            read.extend_from_slice(&piece);
        }
        *passed.body_mut() = read.freeze();
        Ok(passed)
    }
}

/// The headers that are for the other end, not for the connection they came by.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<_> = headers
        .get_all(CONNECTION)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let stays = |name: &HeaderName| {
        ![CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE]
            .contains(name)
            && !OF_CONNECTION.contains(&name.as_str())
            && !named.iter().any(|named| named == name.as_str())
    };
    let kept = headers.iter().filter(|(name, _)| stays(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn words(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {}", humantime::format_duration(TIMEOUT));
    }
    format!("{:#}", anyhow::Error::new(error.without_url()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_the_connection_stay_behind() {
        let headers = [
            ("host", "127.0.0.1"),
            ("content-length", "2"),
            ("connection", "keep-alive, X-Hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("webhook-id", "evt_1"),
            ("x-twice", "1"),
            ("x-twice", "2"),
        ];
        let headers = headers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let kept = end_to_end(&headers.into_iter().collect());
        let kept: Vec<_> =
            kept.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(kept, [("webhook-id", "evt_1"), ("x-twice", "1"), ("x-twice", "2")]);
    }
}
