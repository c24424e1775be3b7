//! What a request says its body is, and small JSON bodies in one piece.

use axum::body::Body;
use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};

use super::{App, body, json::Flaw, packed::Packing, problem::Problem};

/// The longest small body, in bytes.
const SMALL_BYTES_MAX: u64 = 64 * 1024;

/// The media type of a body, in lower case and without its parameters; empty if nothing is said.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    given.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

/// Collects a JSON body of at most 64 KiB.
pub(super) async fn small_json(
    app: &App,
    headers: &HeaderMap,
    body: Body,
) -> Result<Vec<u8>, Problem> {
    if media_type(headers) != "application/json" {
        let detail = "Send the body with Content-Type: application/json.";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(Problem::new(status, "unsupported_media_type", detail));
    }
    let body = Packing::read(headers)?.unpack(body, SMALL_BYTES_MAX);
    let patience = app.api.server.body_timeout;
    Ok(body::collect(body, SMALL_BYTES_MAX, &app.large_bodies, patience).await?.bytes)
}

impl From<Flaw> for Problem {
    fn from(flaw: Flaw) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_json", flaw.to_string())
    }
}
