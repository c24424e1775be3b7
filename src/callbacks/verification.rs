//! What a receiver checks of a callback, as Standard Webhooks say: that it is signed with a secret
//! the receiver knows, or by the owner of a key it knows, and that its timestamp is of now, so that
//! nobody can send it again later.
//!
//! The bytes are checked as they came; nothing is parsed before.

use std::time::Duration;

use http::HeaderMap;

use crate::domain::{
    signature::{InvalidSecret, SigningSecret},
    signing_key::{InvalidKey, PublicKey},
    time::UnixMs,
};

/// How far a timestamp may lie from the receiver's clock, before or after.
pub const TOLERANCE: Duration = Duration::from_mins(5);

/// The headers of Standard Webhooks.
const ID: &str = "webhook-id";
const TIMESTAMP: &str = "webhook-timestamp";
const SIGNATURE: &str = "webhook-signature";

/// What a receiver checks signatures with.
#[derive(Clone, Debug)]
pub enum Verifier {
    /// The secret they are made with, for those of version `v1`.
    Secret(Box<SigningSecret>),
    /// The public key of whoever makes them, for those of version `v1a`.
    Key(PublicKey),
}

/// The text is nothing to check signatures with. It is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidVerifier {
    /// It begins with neither prefix.
    #[error("a signing secret begins with whsec_, a public key with whpk_")]
    Prefix,
    /// It is a private key.
    #[error("this is a private key, which receivers need not have: give its public key, whpk_…")]
    Private,
    /// It begins as a secret and is none.
    #[error(transparent)]
    Secret(#[from] InvalidSecret),
    /// It begins as a public key and is none.
    #[error(transparent)]
    Key(#[from] InvalidKey),
}

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
    /// No signature is that of a known secret or key.
    #[error("no signature in it was made with this secret over this id, timestamp and body")]
    Signature,
}

/// Checks a callback against each of `verifiers` at the time `now`, and gives the place of the
/// first one it is signed with, from 0.
///
/// # Errors
/// [`Refusal`], for the first thing that is wrong.
pub fn check(
    verifiers: &[Verifier],
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
    let holds = |verifier: &Verifier| match verifier {
        Verifier::Secret(secret) => secret.verify(id, timestamp_s, body, signatures),
        Verifier::Key(key) => key.verify(id, timestamp_s, body, signatures),
    };
    verifiers.iter().position(holds).ok_or(Refusal::Signature)
}

// === impl Verifier ===

impl Verifier {
    /// Reads a secret, `whsec_…`, or a public key, `whpk_…`.
    ///
    /// # Errors
    /// [`InvalidVerifier`].
    pub fn parse(text: &str) -> Result<Self, InvalidVerifier> {
        match text.split_once('_') {
            Some(("whsec", _)) => Ok(Self::Secret(SigningSecret::parse(text)?.into())),
            Some(("whpk", _)) => Ok(Self::Key(PublicKey::parse(text)?)),
            Some(("whsk", _)) => Err(InvalidVerifier::Private),
            _ => Err(InvalidVerifier::Prefix),
        }
    }
}

fn words(duration: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(duration)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::signing_key::SigningKey;

    const BODY: &str = r#"{"type":"batch.completed"}"#;

    /// Half a second into a second, as clocks are.
    const NOW: UnixMs = UnixMs(1_795_465_006_500);
    const NOW_S: u64 = NOW.0 / 1000;

    fn secret(number: u8) -> SigningSecret {
        SigningSecret::of(&[number; 32])
    }

    fn verifiers() -> [Verifier; 2] {
        [1, 2].map(|number| Verifier::Secret(secret(number).into()))
    }

    fn headers(timestamp_s: u64, signatures: &str) -> HeaderMap {
        let timestamp = timestamp_s.to_string();
        let values = [(ID, "evt_1"), (TIMESTAMP, timestamp.as_str()), (SIGNATURE, signatures)];
        values
            .into_iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn signed(number: u8, timestamp_s: u64) -> HeaderMap {
        headers(timestamp_s, &secret(number).sign("evt_1", timestamp_s, BODY))
    }

    #[test]
    fn the_secret_it_was_signed_with_is_named() {
        for (place, number) in [1, 2].into_iter().enumerate() {
            let checked = check(&verifiers(), &signed(number, NOW_S), BODY.as_bytes(), NOW);
            assert_eq!(checked, Ok(place));
        }
    }

    #[test]
    fn a_public_key_verifies_what_its_private_key_has_signed() {
        let key = SigningKey::of(&[1; 32]).unwrap();
        let other = SigningKey::of(&[2; 32]).unwrap();
        let both = [key.public(), other.public()].map(Verifier::Key);
        // The secret's signature before it is passed over.
        let signatures = [secret(1).sign("evt_1", NOW_S, BODY), other.sign("evt_1", NOW_S, BODY)];
        let headers = headers(NOW_S, &signatures.join(" "));
        assert_eq!(check(&both, &headers, BODY.as_bytes(), NOW), Ok(1));
        assert_eq!(check(&both[..1], &headers, BODY.as_bytes(), NOW), Err(Refusal::Signature));
        assert_eq!(check(&both, &headers, b"{}", NOW), Err(Refusal::Signature));
        assert_eq!(check(&verifiers(), &headers, BODY.as_bytes(), NOW), Ok(0));
    }

    #[test]
    fn another_secret_or_body_is_refused() {
        let [ours, other] = verifiers();
        let headers = signed(2, NOW_S);
        assert_eq!(check(&[ours], &headers, BODY.as_bytes(), NOW), Err(Refusal::Signature));
        assert_eq!(check(&[other], &headers, b"{}", NOW), Err(Refusal::Signature));
        assert_eq!(check(&[], &headers, BODY.as_bytes(), NOW), Err(Refusal::Signature));
    }

    #[test]
    fn five_minutes_before_and_after_are_allowed_and_no_second_more() {
        let checked =
            |timestamp_s| check(&verifiers(), &signed(1, timestamp_s), BODY.as_bytes(), NOW);
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
        for name in [ID, TIMESTAMP, SIGNATURE] {
            let mut headers = signed(1, NOW_S);
            headers.insert(name, http::HeaderValue::from_bytes(b"\xff").unwrap());
            let checked = check(&verifiers(), &headers, BODY.as_bytes(), NOW);
            assert_eq!(checked, Err(Refusal::Header(name)));
            headers.remove(name);
            let checked = check(&verifiers(), &headers, BODY.as_bytes(), NOW);
            assert_eq!(checked, Err(Refusal::Header(name)));
        }
        let mut headers = signed(1, NOW_S);
        headers.insert(TIMESTAMP, "soon".parse().unwrap());
        let checked = check(&verifiers(), &headers, BODY.as_bytes(), NOW);
        assert_eq!(checked, Err(Refusal::Timestamp));
    }

    #[test]
    fn what_can_not_be_checked_with_says_why_and_is_not_shown() {
        let private = SigningKey::of(&[1; 32]).unwrap();
        let cases = [
            ("", InvalidVerifier::Prefix),
            ("hush", InvalidVerifier::Prefix),
            (private.reveal(), InvalidVerifier::Private),
            ("whsec_aHVzaA==", InvalidVerifier::Secret(InvalidSecret::Length)),
            ("whpk_aHVzaA==", InvalidVerifier::Key(InvalidKey::Length)),
        ];
        for (text, expected) in cases {
            let error = Verifier::parse(text).unwrap_err();
            assert_eq!(error, expected);
            assert!(!error.to_string().contains("aHVz"), "{error}");
        }
        assert!(matches!(Verifier::parse(secret(1).reveal()), Ok(Verifier::Secret(_))));
        let public = private.public().to_string();
        assert!(matches!(Verifier::parse(&public), Ok(Verifier::Key(_))));
    }
}
