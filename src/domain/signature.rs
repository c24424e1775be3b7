//! Signatures as Standard Webhooks say, version `v1`: HMAC-SHA256 of `{id}.{timestamp}.{body}`.
//!
//! Whoever checks one needs the secret it was made with. Source: the specification at
//! standardwebhooks.com, "Signature scheme".

use std::fmt;

use aws_lc_rs::{constant_time, hmac};
use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use serde::Serializer;

/// What a secret's text begins with.
const PREFIX: &str = "whsec_";

/// What a signature of this version begins with.
const VERSION: &str = "v1,";

/// The shortest and the longest secret, in bytes.
const BYTES_MIN: usize = 24;
const BYTES_MAX: usize = 64;

/// A secret that callbacks are signed with.
#[derive(Clone)]
pub struct SigningSecret {
    key: hmac::Key,
    text: SecretString,
}

/// The text is no signing secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// It does not begin with the prefix.
    #[error("a signing secret begins with {PREFIX}")]
    Prefix,
    /// What follows the prefix is no base64.
    #[error("what follows {PREFIX} in a signing secret is base64, with its padding")]
    Base64,
    /// It is too short or too long.
    #[error("a signing secret has {BYTES_MIN} to {BYTES_MAX} bytes")]
    Length,
}

/// A list of secrets as people may see it, for `#[serde(serialize_with = "…")]` in settings.
///
/// # Errors
/// The serializer's.
pub fn masked<S: Serializer>(secrets: &[SecretString], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(secrets.iter().map(|_| "********"))
}

// === impl SigningSecret ===

impl SigningSecret {
    /// Reads a secret: `whsec_` and base64.
    ///
    /// # Errors
    /// [`InvalidSecret`], which never shows the text.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let base64 = text.strip_prefix(PREFIX).ok_or(InvalidSecret::Prefix)?;
        let bytes = STANDARD.decode(base64).map_err(|_| InvalidSecret::Base64)?;
        if !(BYTES_MIN..=BYTES_MAX).contains(&bytes.len()) {
            return Err(InvalidSecret::Length);
        }
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &bytes), text: text.into() })
    }

    /// The secret of these bytes, which must be random.
    #[must_use]
    pub fn of(bytes: &[u8; 32]) -> Self {
        let text = format!("{PREFIX}{}", STANDARD.encode(bytes));
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, bytes), text: text.into() }
    }

    /// The secret's text, for the one who is to keep it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.text.expose_secret()
    }

    /// The signature, as the header `webhook-signature` holds it. `timestamp_s` is in seconds since
    /// the Unix epoch.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp_s: u64, body: &str) -> String {
        let tag = self.tag(id, timestamp_s, body.as_bytes());
        format!("{VERSION}{}", STANDARD.encode(tag))
    }

    /// Whether one of the signatures in the header `webhook-signature` is this secret's. How old
    /// the timestamp may be is the caller's to judge.
    #[must_use]
    pub fn verify(&self, id: &str, timestamp_s: u64, body: &[u8], signatures: &str) -> bool {
        let tag = self.tag(id, timestamp_s, body);
        signatures
            .split(' ')
            .filter_map(|signature| STANDARD.decode(signature.strip_prefix(VERSION)?).ok())
            .any(|given| constant_time::verify_slices_are_equal(tag.as_ref(), &given).is_ok())
    }

    fn tag(&self, id: &str, timestamp_s: u64, body: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(format!("{id}.{timestamp_s}.").as_bytes());
        context.update(body);
        context.sign()
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use standardwebhooks::Webhook;

    use super::*;

    /// The example of the specification.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn a_known_signature_comes_out() {
        let secret = SigningSecret::parse(SECRET).unwrap();
        let (id, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", "{\"test\": 2432232314}");
        let signature = secret.sign(id, 1_614_265_330, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    proptest! {
        #[test]
        fn another_implementation_signs_the_same(
            id in "[ -~]{1,40}",
            timestamp_s in 0..i64::MAX,
            body in ".{0,400}",
            key in proptest::collection::vec(any::<u8>(), BYTES_MIN..=BYTES_MAX),
        ) {
            let text = format!("{PREFIX}{}", STANDARD.encode(key));
            let secret = SigningSecret::parse(&text).unwrap();
            let signature = secret.sign(&id, timestamp_s.unsigned_abs(), &body);
            let other = Webhook::new(&text).unwrap().sign(&id, timestamp_s, body.as_bytes());
            prop_assert_eq!(&signature, &other.unwrap());
            prop_assert!(secret.verify(&id, timestamp_s.unsigned_abs(), body.as_bytes(), &signature));
        }
    }

    #[test]
    fn only_the_same_id_time_body_and_secret_verify() {
        let secret = SigningSecret::parse(SECRET).unwrap();
        let signature = secret.sign("evt_1", 7, "{}");
        assert!(secret.verify("evt_1", 7, b"{}", &format!("v1a,x v1,%% {signature}")));
        assert!(!secret.verify("evt_2", 7, b"{}", &signature));
        assert!(!secret.verify("evt_1", 8, b"{}", &signature));
        assert!(!secret.verify("evt_1", 7, b"{ }", &signature));
        assert!(!SigningSecret::of(&[7; 32]).verify("evt_1", 7, b"{}", &signature));
        for signatures in ["", "v1,", &signature[3..], &signature.replace("v1,", "v2,")] {
            assert!(!secret.verify("evt_1", 7, b"{}", signatures), "{signatures:?}");
        }
    }

    #[test]
    fn a_secret_of_bytes_reads_back_and_is_never_printed() {
        let secret = SigningSecret::of(&[7; 32]);
        let again = SigningSecret::parse(secret.reveal()).unwrap();
        assert_eq!(again.reveal(), secret.reveal());
        assert_eq!(again.sign("evt_1", 7, "{}"), secret.sign("evt_1", 7, "{}"));
        assert_eq!(format!("{secret:?}"), "SigningSecret");
    }

    #[test]
    fn what_is_no_secret_says_why() {
        let of = |bytes: usize| format!("{PREFIX}{}", STANDARD.encode(vec![7; bytes]));
        let cases = [
            ("", InvalidSecret::Prefix),
            (&SECRET[6..], InvalidSecret::Prefix),
            ("whsec_%%%", InvalidSecret::Base64),
            ("whsec_", InvalidSecret::Length),
            (&of(23), InvalidSecret::Length),
            (&of(65), InvalidSecret::Length),
        ];
        for (text, expected) in cases {
            assert_eq!(SigningSecret::parse(text).err(), Some(expected), "{text}");
        }
        assert!(SigningSecret::parse(&of(24)).is_ok() && SigningSecret::parse(&of(64)).is_ok());
    }
}
