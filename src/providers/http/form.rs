//! The request that carries a message.
//!
//! All but the id, the numbers and the body stays the same, so it is parsed and made once. A
//! request costs one buffer for its JSON, which the idempotency key's header shares.

use std::io::Write;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Uri,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT},
};
use http_body_util::Full;
use secrecy::ExposeSecret;
use url::Url;

use super::{HttpSettings, Submission};
use crate::providers::registry::InvalidSettings;

/// Headers that belong to the exchange itself.
const RESERVED: [&str; 11] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "idempotency-key",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What stays the same from one request to the next.
pub(super) struct Form {
    /// Where to connect to.
    target: Uri,
    /// What is asked for there.
    path: Uri,
    headers: HeaderMap,
}

// === impl Form ===

impl Form {
    pub(super) fn new(settings: &HttpSettings) -> Result<Self, InvalidSettings> {
        let url = judged(&settings.url).map_err(|reason| InvalidSettings::new("url", reason))?;
        let mut headers = HeaderMap::with_capacity(settings.headers.len() + 5);
        for (name, value) in &settings.headers {
            let (name, value) = header(name, value.expose_secret())?;
            headers.insert(name, value);
        }
        let agent = HeaderValue::from_static(concat!("ringback/", env!("CARGO_PKG_VERSION")));
        headers.entry(USER_AGENT).or_insert(agent);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(HOST, host(&url).ok_or(InvalidSettings::new("url", "it has no host"))?);
        // Room for what differs, so that a copy of the map need not grow.
        headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
        headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_static(""));
        let unfit = |_| InvalidSettings::new("url", "not a URL that can be requested");
        let target: Uri = url.as_str().parse().map_err(unfit)?;
        let path = target.path_and_query().map_or("/", |path| path.as_str());
        let path = path.parse().map_err(unfit)?;
        Ok(Self { target, path, headers })
    }

    /// Where to connect to.
    pub(super) fn target(&self) -> &Uri {
        &self.target
    }

    pub(super) fn is_https(&self) -> bool {
        self.target.scheme() == Some(&http::uri::Scheme::HTTPS)
    }

    /// The request for one message.
    pub(super) fn request(&self, submission: &Submission<'_>) -> Request<Full<Bytes>> {
        let (json, id) = json(submission);
        let mut headers = self.headers.clone();
        headers.insert(CONTENT_LENGTH, HeaderValue::from(json.len()));
        // An id is made of letters, digits, `_` and `.`: always a header's value.
        if let Ok(id) = HeaderValue::from_maybe_shared(id) {
            headers.insert(IDEMPOTENCY_KEY, id);
        }
        let mut request = Request::new(Full::new(json));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = headers;
        request
    }
}

/// The JSON object, and the message's id within it. Both share one buffer.
fn json(submission: &Submission<'_>) -> (Bytes, Bytes) {
    const BEFORE_ID: &[u8] = br#"{"message_id":""#;
    let from = submission.from.unwrap_or_default();
    // Room for keys, id and a few escapes.
    let mut json =
        Vec::with_capacity(112 + submission.to.len() + from.len() + submission.body.len() * 9 / 8);
    json.extend_from_slice(BEFORE_ID);
    // Writing to a vector can't fail, neither here nor in `text`.
    let _ = write!(json, "{}", submission.id);
    let id_end = json.len();
    json.extend_from_slice(br#"","to":"#);
    text(&mut json, submission.to);
    json.extend_from_slice(br#","from":"#);
    match submission.from {
        Some(from) => text(&mut json, from),
        None => json.extend_from_slice(b"null"),
    }
    json.extend_from_slice(br#","body":"#);
    text(&mut json, submission.body);
    json.push(b'}');
    let json = Bytes::from(json);
    let id = json.slice(BEFORE_ID.len()..id_end);
    (json, id)
}

fn text(json: &mut Vec<u8>, text: &str) {
    let _ = serde_json::to_writer(json, text);
}

fn judged(url: &str) -> Result<Url, String> {
    let mut url = Url::parse(url).map_err(|error| format!("not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("give a URL that begins with http:// or https://".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("give no user name and no password here; use headers".into());
    }
    url.set_fragment(None);
    Ok(url)
}

fn host(url: &Url) -> Option<HeaderValue> {
    let host = url.host_str()?;
    let host = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    HeaderValue::try_from(host).ok()
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), InvalidSettings> {
    let invalid = |reason| InvalidSettings::new("headers", format!("{name:?} {reason}"));
    let parsed = HeaderName::try_from(name).map_err(|_| invalid("is not a header's name"))?;
    if RESERVED.contains(&parsed.as_str()) {
        return Err(invalid("is set by the exchange itself"));
    }
    let mut value =
        HeaderValue::try_from(value).map_err(|_| invalid("has a value with controls"))?;
    value.set_sensitive(true);
    Ok((parsed, value))
}
