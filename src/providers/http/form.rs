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

use super::{HttpSettings, Submission};
use crate::providers::{
    exchange::{Target, agent},
    registry::InvalidSettings,
};

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
    target: Target,
    /// What is asked for there.
    path: Uri,
    headers: HeaderMap,
}

// === impl Form ===

impl Form {
    pub(super) fn new(settings: &HttpSettings) -> Result<Self, InvalidSettings> {
        let target = Target::parse("url", &settings.url)?;
        let mut headers = HeaderMap::with_capacity(settings.headers.len() + 5);
        for (name, value) in &settings.headers {
            let (name, value) = header(name, value.expose_secret())?;
            headers.insert(name, value);
        }
        headers.entry(USER_AGENT).or_insert_with(agent);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(HOST, target.host());
        // Room for what differs, so that a copy of the map need not grow.
        headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
        headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_static(""));
        let unfit = |_| InvalidSettings::new("url", "not a URL that can be requested");
        let path = target.path().parse().map_err(unfit)?;
        Ok(Self { target, path, headers })
    }

    /// Where requests go.
    pub(super) fn target(&self) -> &Target {
        &self.target
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
