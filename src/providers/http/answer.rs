//! What a provider's answer means.
//!
//! Only the end of a 2xx proves acceptance. Nothing of a body is repeated but an id and a short word: it
//! may hold numbers.

use std::time::Duration;

use http::{StatusCode, response::Parts};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    domain::outcome::{Outcome, SendError, Throttled},
    providers::exchange::failure::pause,
};

/// The longest id that is kept, in bytes.
const ID_BYTES_MAX: usize = 256;

/// The longest word of a provider's own that is kept, in bytes, and how many digits it may have: a
/// phone number has more.
const WORD_BYTES_MAX: usize = 64;
const WORD_DIGITS_MAX: usize = 6;

/// How long a provider that is too busy to say how long is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// What is read of a 2xx's body.
#[derive(Deserialize)]
struct Receipt<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

/// What is read of any other body.
#[derive(Deserialize)]
struct Refusal<'a> {
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// A 2xx with its whole body.
pub(super) fn accepted(body: &[u8], receipt_follows: bool) -> Outcome {
    let receipt = serde_json::from_slice::<Receipt<'_>>(body).ok();
    let id = receipt.and_then(|receipt| text_or_number(receipt.id?));
    Outcome::Accepted {
        provider_message_id: id.filter(|id| id.len() <= ID_BYTES_MAX),
        receipt_follows,
    }
}

/// Any other answer. `body` is what was read of its body.
pub(super) fn refused(head: &Parts, body: &[u8]) -> Outcome {
    let status = head.status;
    let detail = format!("answered {}", status.as_u16());
    let passing = |code| with_word(SendError::passing(code, detail.clone()), body);
    if status == StatusCode::TOO_MANY_REQUESTS {
        let after = pause(head).unwrap_or(PAUSE);
        Outcome::Throttled { after, who: Throttled::Provider, error: passing("provider_throttled") }
    } else if status == StatusCode::REQUEST_TIMEOUT || status.is_server_error() {
        let certain = status == StatusCode::SERVICE_UNAVAILABLE;
        let error = passing("provider_unavailable");
        Outcome::Temporary { certain, after: pause(head), error }
    } else if status.is_informational() {
        Outcome::Unknown { error: SendError::passing("provider_broken_answer", detail) }
    } else {
        let error = SendError::permanent("provider_rejected", detail);
        Outcome::Rejected { error: with_word(error, body) }
    }
}

/// Adds the provider's own word for why, if the body has one that can be shown.
fn with_word(error: SendError, body: &[u8]) -> SendError {
    let refusal = serde_json::from_slice::<Refusal<'_>>(body).ok();
    let word = refusal
        .and_then(|refusal| [refusal.code, refusal.error].into_iter().flatten().find_map(word));
    match word {
        Some(word) => error.with_provider_code(word),
        None => error,
    }
}

/// A text or number that can be shown, there or as `code` within.
fn word(json: &RawValue) -> Option<String> {
    let within = serde_json::from_str::<Refusal<'_>>(json.get()).ok();
    let word = text_or_number(within.and_then(|within| within.code).unwrap_or(json))?;
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let showable = (1..=WORD_BYTES_MAX).contains(&word.len())
        && digits <= WORD_DIGITS_MAX
        && word.bytes().all(plain);
    showable.then_some(word)
}

fn text_or_number(json: &RawValue) -> Option<String> {
    match json.get().as_bytes().first()? {
        b'"' => serde_json::from_str(json.get()).ok(),
        b'-' | b'0'..=b'9' => Some(json.get().to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, headers: &[(&'static str, &str)]) -> Parts {
        let mut response = http::Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        response.body(()).unwrap().into_parts().0
    }

    fn id(body: &str) -> Option<String> {
        match super::accepted(body.as_bytes(), false) {
            Outcome::Accepted { provider_message_id, .. } => provider_message_id,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_id_is_a_text_or_a_number_of_bounded_length() {
        assert_eq!(id(r#"{"id": "SM\u00e9-1", "to": "x"}"#).as_deref(), Some("SMé-1"));
        assert_eq!(id(r#"{"id": 18446744073709551616}"#).as_deref(), Some("18446744073709551616"));
        let longest = "x".repeat(ID_BYTES_MAX);
        assert_eq!(id(&format!(r#"{{"id": "{longest}"}}"#)), Some(longest.clone()));
        let none = [
            "",
            "OK",
            "[]",
            "{}",
            r#"{"id": null}"#,
            r#"{"id": true}"#,
            r#"{"id": {"a": 1}}"#,
            r#"{"id": "1""#,
            &format!(r#"{{"id": "{longest}x"}}"#),
        ];
        for body in none {
            assert_eq!(id(body), None, "{body}");
        }
        assert_eq!(
            super::accepted(b"\xff\xfe", false),
            Outcome::Accepted { provider_message_id: None, receipt_follows: false }
        );
    }

    #[test]
    fn a_refusals_status_decides() {
        let throttled = |after| Outcome::Throttled {
            who: Throttled::Provider,
            after: Duration::from_secs(after),
            error: SendError::passing("provider_throttled", "answered 429"),
        };
        assert_eq!(refused(&head(429, &[]), b""), throttled(1));
        assert_eq!(refused(&head(429, &[("retry-after", "soon")]), b""), throttled(1));
        assert_eq!(refused(&head(429, &[("retry-after", "7")]), b""), throttled(7));
        assert_eq!(refused(&head(429, &[("retry-after", "86400")]), b""), throttled(600));
        let dates = [
            ("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT"),
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ];
        assert_eq!(refused(&head(429, &dates), b""), throttled(30));
        for status in [408, 500, 502, 503, 504, 599] {
            let error = SendError::passing("provider_unavailable", format!("answered {status}"));
            let after = None;
            let certain = status == 503;
            let expected = Outcome::Temporary { certain, after, error: error.clone() };
            assert_eq!(refused(&head(status, &[]), b""), expected);
            let after = Some(Duration::from_secs(9));
            let expected = Outcome::Temporary { certain, after, error };
            assert_eq!(refused(&head(status, &[("retry-after", "9")]), b""), expected);
        }
        for status in [301, 302, 307, 400, 401, 404, 413, 422, 499] {
            let error = SendError::permanent("provider_rejected", format!("answered {status}"));
            assert_eq!(
                refused(&head(status, &[("retry-after", "9")]), b""),
                Outcome::Rejected { error }
            );
        }
        assert!(matches!(refused(&head(101, &[]), b""), Outcome::Unknown { .. }));
    }

    #[test]
    fn only_a_short_plain_word_of_a_refusal_is_kept() {
        let word = |body: &str| match refused(&head(400, &[]), body.as_bytes()) {
            Outcome::Rejected { error } => error.provider_code,
            other => panic!("{other:?}"),
        };
        assert_eq!(word(r#"{"code": 21211}"#).as_deref(), Some("21211"));
        assert_eq!(word(r#"{"code": "bad-sender"}"#).as_deref(), Some("bad-sender"));
        assert_eq!(word(r#"{"error": "quota.daily"}"#).as_deref(), Some("quota.daily"));
        assert_eq!(word(r#"{"error": {"code": "E7", "to": "x"}}"#).as_deref(), Some("E7"));
        assert_eq!(word(r#"{"code": null, "error": "E8"}"#).as_deref(), Some("E8"));
        let long = format!(r#"{{"code": "{}"}}"#, "x".repeat(WORD_BYTES_MAX + 1));
        let none = [
            "",
            "no",
            "{}",
            r#"{"code": ""}"#,
            r#"{"code": 15551230001}"#,
            r#"{"error": "+15551230001 is no number"}"#,
            r#"{"error": "to 5551230001"}"#,
            r#"{"error": "to_5551230001"}"#,
            r#"{"error": ["a"]}"#,
            &long,
        ];
        for body in none {
            assert_eq!(word(body), None, "{body}");
        }
    }
}
