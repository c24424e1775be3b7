//! What a request says its body is, and small JSON bodies in one piece.

use axum::body::Body;
use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};

use super::{App, body, json::Flaw, packed::Packing, problem::Problem};

/// The longest small body, in bytes.
const SMALL_BYTES_MAX: u64 = 64 * 1024;

/// The media type of a body, in lower case and without its parameters; empty if nothing is said.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    essence(content_type(headers))
}

/// What a request says its body is; empty if nothing is said.
pub(super) fn content_type(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// The value of a header in lower case, without its parameters.
pub(super) fn essence(value: &str) -> String {
    value.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

/// A parameter of a header's value (RFC 9110, section 5.6.6); `None` if it is not there, or what
/// stands before it can't be read.
pub(super) fn parameter(value: &str, wanted: &str) -> Option<String> {
    let (_, mut rest) = value.split_once(';')?;
    loop {
        let (name, after) = rest.split_once('=')?;
        let (text, after) = word(after)?;
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(text);
        }
        (_, rest) = after.split_once(';')?;
    }
}

/// Reads a token or a quoted string; gives it, and what follows.
fn word(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        return Some((text[..end].trim().to_owned(), &text[end..]));
    };
    let (mut word, mut characters) = (String::new(), quoted.char_indices());
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((word, &quoted[at + 1..])),
            '\\' => word.push(characters.next()?.1),
            other => word.push(other),
        }
    }
    None
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_found_behind_others() {
        let value = r#"form-data; a=1 ;b="x; c=\"y\""; Name = z;c = "#;
        for (wanted, text) in
            [("a", Some("1")), ("b", Some("x; c=\"y\"")), ("c", Some("")), ("d", None)]
        {
            assert_eq!(parameter(value, wanted).as_deref(), text, "{wanted}");
        }
        for broken in ["form-data", "form-data; name", "form-data; a=\"b; name=c", "a; b=\"\\"] {
            assert_eq!(parameter(broken, "name"), None, "{broken}");
        }
    }
}
