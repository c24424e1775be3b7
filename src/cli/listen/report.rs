//! What is told of one request: as text for people, or as one JSON object a line.
//!
//! All of it came from outside, so nothing is printed that a terminal would obey.

use std::{fmt::Write, time::Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode, Version, request};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{attempts::Attempt, pretty::pretty, visible};
use crate::app::receiving::{Refusal, UnixMs};

/// The longest event type that is shown, in characters.
const KIND_CHARS_MAX: usize = 100;

/// One request, and how it was answered.
pub(in crate::cli) struct Report {
    /// The time of day at which it had been read to its end.
    pub(in crate::cli) at: UnixMs,
    /// The same, to measure with.
    pub(in crate::cli) arrived: Instant,
    /// Its method.
    pub(in crate::cli) method: Method,
    /// Its path and query.
    pub(in crate::cli) path: String,
    /// Its version of HTTP.
    pub(in crate::cli) version: Version,
    /// All its headers.
    pub(in crate::cli) headers: HeaderMap,
    /// Its body, byte for byte; empty if it was not taken.
    pub(in crate::cli) body: Bytes,
    /// The event's type, as the body says.
    pub(in crate::cli) kind: Option<String>,
    /// The event's id: the header `webhook-id`.
    pub(in crate::cli) event_id: Option<String>,
    /// How often the event has come.
    pub(in crate::cli) attempt: Option<Attempt>,
    /// Whether its signature holds.
    pub(in crate::cli) signature: Signature,
    /// How it was answered.
    pub(in crate::cli) answered: Answered,
}

/// What a check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Signature {
    /// It was made with one of the secrets.
    Holds {
        /// Which one, from 1.
        secret: usize,
        /// How many there are.
        of: usize,
    },
    /// It does not hold.
    Fails(Refusal),
    /// There is no secret to check with.
    NotChecked,
    /// There is no body to check.
    NoBody,
}

/// How a request was answered, and why so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Answered {
    /// As any request is.
    Plain { status: StatusCode },
    /// As was asked for: the `number`th time, of `of`.
    Scripted { status: StatusCode, number: u64, of: Option<u64> },
    /// As the receiver at `to` did.
    Forwarded { status: StatusCode, to: String },
    /// With 502, since the receiver at `to` gave no answer.
    NotForwarded { to: String, why: String },
    /// The request was not taken.
    Refused { status: StatusCode, why: &'static str },
}

/// What is looked at of a callback's body.
#[derive(Deserialize)]
struct Typed {
    #[serde(rename = "type")]
    kind: String,
}

// === impl Report ===

impl Report {
    /// A report of a request that was not answered yet.
    pub(in crate::cli) fn new(
        at: UnixMs,
        arrived: Instant,
        head: request::Parts,
        body: Bytes,
        signature: Signature,
    ) -> Self {
        let path = head.uri.path_and_query().map_or_else(|| head.uri.path(), |path| path.as_str());
        let id = head.headers.get("webhook-id");
        Self {
            at,
            arrived,
            method: head.method,
            path: path.to_owned(),
            version: head.version,
            event_id: id.map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned()),
            headers: head.headers,
            kind: serde_json::from_slice(&body).ok().map(|Typed { kind }| kind),
            body,
            attempt: None,
            signature,
            answered: Answered::Plain { status: StatusCode::OK },
        }
    }

    /// For people: the verdict first, then headers and body.
    pub(in crate::cli) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = writeln!(text, "{} {} {}", self.at, self.method, visible::line(&self.path));
        let _ = write!(text, "{}", self.event_line());
        let _ = writeln!(text, "signature: {}", self.signature);
        let _ = writeln!(text, "answered: {}", self.answered);
        let _ = write!(text, "\n{}", indented(&self.headers_text()));
        if !self.body.is_empty() {
            let _ = write!(text, "\n{}", indented(&self.body_text()));
        }
        text.push('\n');
        text
    }

    /// The request as it arrived, headers and body, with nothing rearranged.
    pub(in crate::cli) fn raw(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        format!(
            "{} {} {:?}\n{}\n{}\n",
            self.method,
            visible::line(&self.path),
            self.version,
            self.headers_text(),
            visible::lines(&body)
        )
    }

    /// For programs: one line.
    pub(in crate::cli) fn json(&self) -> String {
        let body = std::str::from_utf8(&self.body).ok();
        let attempt = self.attempt.map(|attempt| attempt.number);
        let is_same_body = self.attempt.map(|attempt| attempt.is_same_body);
        let line = json!({
            "at": self.at.to_string(),
            "method": self.method.as_str(),
            "path": self.path,
            "event": {"id": self.event_id, "type": self.kind, "attempt": attempt,
                "is_same_body": is_same_body},
            "signature": self.signature.json(),
            "answered": self.answered.json(),
            "headers": self.headers_json(),
            "body": body,
            "body_base64": body.is_none().then(|| STANDARD.encode(&self.body)),
        });
        format!("{}\n", visible::json(&line.to_string()))
    }

    fn event_line(&self) -> String {
        let Some(id) = &self.event_id else { return String::new() };
        let id = visible::line(id);
        let mut text = format!("event: {id}");
        if let Some(kind) = &self.kind {
            let kind: String = kind.chars().take(KIND_CHARS_MAX).collect();
            let _ = write!(text, ", {}", visible::line(&kind));
        }
        text.push('\n');
        if let Some(attempt) = self.attempt.filter(|attempt| attempt.number > 1) {
            let body =
                if attempt.is_same_body { "with the same body" } else { "with ANOTHER BODY" };
            let _ = writeln!(text, "attempt {} of {id}, {body}", attempt.number);
        }
        text
    }

    fn headers_text(&self) -> String {
        let line = |(name, value): (&HeaderName, &http::HeaderValue)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            format!("{name}: {}\n", visible::line(&value))
        };
        self.headers.iter().map(line).collect()
    }

    /// By name; a header that came several times has its values as a list.
    fn headers_json(&self) -> Map<String, Value> {
        let values = |name: &HeaderName| {
            let values = self.headers.get_all(name).into_iter();
            let mut values: Vec<Value> =
                values.map(|value| String::from_utf8_lossy(value.as_bytes()).into()).collect();
            if values.len() == 1 { values.remove(0) } else { values.into() }
        };
        self.headers.keys().map(|name| (name.to_string(), values(name))).collect()
    }

    fn body_text(&self) -> String {
        match std::str::from_utf8(&self.body) {
            Ok(body) => {
                let pretty = pretty(body);
                visible::lines(pretty.as_deref().unwrap_or(body)).into_owned()
            }
            Err(_) => format!("({} bytes that are no text in UTF-8)", self.body.len()),
        }
    }
}

// === impl Signature ===

impl Signature {
    /// Whether it was checked and holds.
    pub(in crate::cli) fn holds(&self) -> bool {
        matches!(self, Self::Holds { .. })
    }

    fn json(&self) -> Value {
        match self {
            Self::Holds { secret, .. } => json!({"verdict": "holds", "secret": secret}),
            Self::Fails(why) => json!({"verdict": "does_not_hold", "reason": why.to_string()}),
            Self::NotChecked | Self::NoBody => json!({"verdict": "not_checked"}),
        }
    }
}

impl std::fmt::Display for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Holds { secret, of } => write!(f, "holds (secret {secret} of {of})"),
            Self::Fails(why) => write!(f, "does NOT hold: {why}"),
            Self::NotChecked => f.write_str("not checked: no --secret"),
            Self::NoBody => f.write_str("not checked: the body was not taken"),
        }
    }
}

// === impl Answered ===

impl Answered {
    fn status(&self) -> StatusCode {
        match self {
            Self::Plain { status }
            | Self::Scripted { status, .. }
            | Self::Forwarded { status, .. }
            | Self::Refused { status, .. } => *status,
            Self::NotForwarded { .. } => StatusCode::BAD_GATEWAY,
        }
    }

    fn json(&self) -> Value {
        let (to, why) = match self {
            Self::Plain { .. } | Self::Scripted { .. } => (None, None),
            Self::Forwarded { to, .. } => (Some(to.as_str()), None),
            Self::NotForwarded { to, why } => (Some(to.as_str()), Some(why.as_str())),
            Self::Refused { why, .. } => (None, Some(*why)),
        };
        json!({"status": self.status().as_u16(), "forwarded_to": to, "reason": why})
    }
}

impl std::fmt::Display for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let status = self.status().as_u16();
        match self {
            Self::Plain { .. } => write!(f, "{status}"),
            Self::Scripted { number, of: Some(of), .. } => write!(f, "{status} ({number} of {of})"),
            Self::Scripted { .. } => write!(f, "{status} (as every time)"),
            Self::Forwarded { to, .. } => write!(f, "{status}, by {}", visible::line(to)),
            Self::NotForwarded { to, why } => {
                write!(f, "{status}: {}: {}", visible::line(to), visible::line(why))
            }
            Self::Refused { why, .. } => write!(f, "{status}: {why}"),
        }
    }
}

fn indented(text: &str) -> String {
    text.lines().flat_map(|line| ["  ", line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn report(body: &'static [u8], id: &str) -> Report {
        let request = Request::post("/hooks/sms?a=1").header("webhook-id", id);
        let request = request.header("x-twice", "1").header("x-twice", "2").body(()).unwrap();
        let (head, ()) = request.into_parts();
        let body = Bytes::from_static(body);
        Report::new(UnixMs(1_796_000_000_120), Instant::now(), head, body, Signature::NotChecked)
    }

    #[test]
    fn people_read_the_verdict_first_then_headers_and_body() {
        let mut report = report(br#"{"type":"batch.completed","data":{}}"#, "evt_1");
        report.signature = Signature::Holds { secret: 1, of: 2 };
        report.attempt = Some(Attempt { number: 3, is_same_body: true });
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        report.answered = Answered::Scripted { status, number: 3, of: Some(3) };
        let expected = "\
2026-11-30T00:53:20.120Z POST /hooks/sms?a=1
event: evt_1, batch.completed
attempt 3 of evt_1, with the same body
signature: holds (secret 1 of 2)
answered: 500 (3 of 3)

  webhook-id: evt_1
  x-twice: 1
  x-twice: 2

  {
    \"type\": \"batch.completed\",
    \"data\": {}
  }

";
        assert_eq!(report.text(), expected);
    }

    #[test]
    fn programs_read_one_line() {
        let line = report(br#"{"type":"batch.completed"}"#, "evt_1").json();
        assert_eq!(line.matches('\n').count(), 1);
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["event"]["type"], "batch.completed");
        assert_eq!(line["signature"]["verdict"], "not_checked");
        assert_eq!(line["answered"]["status"], 200);
        assert_eq!(line["headers"]["x-twice"], json!(["1", "2"]));
        assert_eq!(line["body"], r#"{"type":"batch.completed"}"#);
    }

    #[test]
    fn nothing_a_terminal_would_obey_gets_through() {
        let body = "{\"type\":\"\\u001b[2J\u{9b}\"} \u{202e}".as_bytes();
        for body in [body, b"\x1b]0;title\x07", b"\xff\x1b"] {
            let mut report = report(body, "evt_1");
            report.headers.insert("x", http::HeaderValue::from_bytes(b"\xc2\x9bK").unwrap());
            report.answered =
                Answered::NotForwarded { to: "a".to_owned(), why: "b\u{1b}".to_owned() };
            for shown in [report.text(), report.raw(), report.json()] {
                let obeyed =
                    shown.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
                assert_eq!(obeyed, None, "{shown}");
            }
        }
    }

    #[test]
    fn a_body_that_is_no_text_is_kept_for_programs() {
        let report = report(b"\xff\x00", "evt_1");
        assert!(report.text().contains("(2 bytes that are no text in UTF-8)"));
        let line: Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!((&line["body"], &line["body_base64"]), (&Value::Null, &json!("/wA=")));
    }
}
