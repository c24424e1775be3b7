//! What a receiver checks of a callback, as Standard Webhooks say: that it is signed with a secret
//! the receiver knows, and that its timestamp is of now, so that nobody can send it again later.
//!
//! The bytes are checked as they came; nothing is parsed before.

use std::time::Duration;

use http::HeaderMap;

use super::signature::{self, SigningSecret};
use crate::domain::time::UnixMs;

/// How far a timestamp may lie from the receiver's clock, before or after.
pub const TOLERANCE: Duration = Duration::from_mins(5);

/// The headers of Standard Webhooks.
const ID: &str = "webhook-id";
const TIMESTAMP: &str = "webhook-timestamp";
const SIGNATURE: &str = "webhook-signature";

/// Why a signature does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// One of the three headers is missing, or is no text.
    #[error("there is no readable header {0}")]
    Header(&'static str),
    /// The timestamp is no number of seconds.
    #[error("the header {TIMESTAMP} is no number of seconds")]
    Timestamp,
    /// The timestamp is too far in the past.
    #[error("its timestamp is {} old; at most {} are allowed", words(*.0), words(TOLERANCE))]
    Old(Duration),
    /// The timestamp is too far in the future.
    #[error("its timestamp is {} ahead of this clock; at most {} are allowed", words(*.0), words(TOLERANCE))]
    Early(Duration),
    /// No signature is that of a known secret.
    #[error("no signature in it was made with this secret over this id, timestamp and body")]
    Signature,
}

/// Checks a callback against each of `secrets` at the time `now`, and gives the place of the one
/// it is signed with, from 0.
///
/// # Errors
/// [`Refusal`], for the first thing that is wrong.
pub fn check(
    secrets: &[SigningSecret],
    headers: &HeaderMap,
    body: &[u8],
    now: UnixMs,
) -> Result<usize, Refusal> {
    let header = |name| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.ok_or(Refusal::Header(name))
    };
    let (id, timestamp, signatures) = (header(ID)?, header(TIMESTAMP)?, header(SIGNATURE)?);
    let timestamp_s = timestamp.parse::<u64>().map_err(|_| Refusal::Timestamp)?;
    let sent = Duration::from_secs(timestamp_s);
    let now = Duration::from_secs(now.0 / 1000);
    if now.saturating_sub(sent) > TOLERANCE {
        return Err(Refusal::Old(now.saturating_sub(sent)));
    }
    if sent.saturating_sub(now) > TOLERANCE {
        return Err(Refusal::Early(sent.saturating_sub(now)));
    }
    let holds =
        |secret: &SigningSecret| signature::verify(secret, id, timestamp_s, body, signatures);
    secrets.iter().position(holds).ok_or(Refusal::Signature)
}

fn words(duration: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = r#"{"type":"batch.completed"}"#;

    /// Half a second into a second, as clocks are.
    const NOW: UnixMs = UnixMs(1_795_465_006_500);
    const NOW_S: u64 = NOW.0 / 1000;

    fn secrets() -> [SigningSecret; 2] {
        std::array::from_fn(|_| SigningSecret::generate().unwrap())
    }

    fn signed(secret: &SigningSecret, timestamp_s: u64) -> HeaderMap {
        let signature = signature::sign(std::slice::from_ref(secret), "evt_1", timestamp_s, BODY);
        let values = [
            (ID, "evt_1".to_owned()),
            (TIMESTAMP, timestamp_s.to_string()),
            (SIGNATURE, signature),
        ];
        values
            .into_iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn the_secret_it_was_signed_with_is_named() {
        let secrets = secrets();
        for (place, secret) in secrets.iter().enumerate() {
            let checked = check(&secrets, &signed(secret, NOW_S), BODY.as_bytes(), NOW);
            assert_eq!(checked, Ok(place));
        }
    }

    #[test]
    fn another_secret_or_body_is_refused() {
        let [ours, other] = secrets();
        let headers = signed(&other, NOW_S);
        assert_eq!(check(&[ours], &headers, BODY.as_bytes(), NOW), Err(Refusal::Signature));
        assert_eq!(check(&[other], &headers, b"{}", NOW), Err(Refusal::Signature));
        assert_eq!(check(&[], &headers, BODY.as_bytes(), NOW), Err(Refusal::Signature));
    }

    #[test]
    fn five_minutes_before_and_after_are_allowed_and_no_second_more() {
        let secrets = secrets();
        let checked =
            |timestamp_s| check(&secrets, &signed(&secrets[0], timestamp_s), BODY.as_bytes(), NOW);
        assert_eq!(checked(NOW_S - 300), Ok(0));
        assert_eq!(checked(NOW_S + 300), Ok(0));
        assert_eq!(checked(NOW_S - 301), Err(Refusal::Old(Duration::from_secs(301))));
        assert_eq!(checked(NOW_S + 301), Err(Refusal::Early(Duration::from_secs(301))));
        let told = checked(0).unwrap_err().to_string();
        assert!(told.contains("old") && told.ends_with("at most 5m are allowed"), "{told}");
        assert!(checked(u64::MAX).is_err());
    }

    #[test]
    fn a_header_that_is_missing_or_unreadable_is_named() {
        let secrets = secrets();
        for name in [ID, TIMESTAMP, SIGNATURE] {
            let mut headers = signed(&secrets[0], NOW_S);
            headers.insert(name, http::HeaderValue::from_bytes(b"\xff").unwrap());
            let checked = check(&secrets, &headers, BODY.as_bytes(), NOW);
            assert_eq!(checked, Err(Refusal::Header(name)));
            headers.remove(name);
            let checked = check(&secrets, &headers, BODY.as_bytes(), NOW);
            assert_eq!(checked, Err(Refusal::Header(name)));
        }
        let mut headers = signed(&secrets[0], NOW_S);
        headers.insert(TIMESTAMP, "soon".parse().unwrap());
        assert_eq!(check(&secrets, &headers, BODY.as_bytes(), NOW), Err(Refusal::Timestamp));
    }
}
