//! Signatures as Standard Webhooks say, version `v1`: HMAC-SHA256 of `{id}.{timestamp}.{body}`.
//!
//! Source: the specification at standardwebhooks.com, "Signature scheme". With several secrets
//! there is one signature for each, so that receivers can change over while a secret rotates.

use std::fmt;

use aws_lc_rs::{constant_time, hmac, rand};
use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};

use super::CallbackSettings;
use crate::store::{Callbacks, StoreError};

/// What a secret's text begins with.
const PREFIX: &str = "whsec_";

/// What a signature of this version begins with.
const VERSION: &str = "v1,";

/// The length of new secrets, in bytes.
const NEW_BYTES: usize = 32;

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
    /// The machine has no randomness to give.
    #[error("no random bytes are to be had for a new signing secret")]
    NoRandomness,
}

/// The signing secrets are not to be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// A configured one is none.
    #[error("callbacks.signing_secrets[{index}]: {source}")]
    Configured {
        /// Its place in the list, from 0.
        index: usize,
        /// What is wrong with it.
        source: InvalidSecret,
    },
    /// No new one could be made, or the store's is none.
    #[error("the store's signing secret: {0}")]
    Stored(InvalidSecret),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The secrets to sign with: the configured ones, or else the store's, made at the first start.
///
/// # Errors
/// [`SecretsError`].
pub async fn signing_secrets(
    callbacks: &dyn Callbacks,
    settings: &CallbackSettings,
) -> Result<Vec<SigningSecret>, SecretsError> {
    if settings.signing_secrets.is_empty() {
        let fresh = SigningSecret::generate().map_err(SecretsError::Stored)?;
        let kept = callbacks.signing_secret(fresh.reveal()).await?;
        return Ok(vec![SigningSecret::parse(&kept).map_err(SecretsError::Stored)?]);
    }
    let texts = settings.signing_secrets.iter().enumerate();
    texts
        .map(|(index, text)| {
            SigningSecret::parse(text.expose_secret())
                .map_err(|source| SecretsError::Configured { index, source })
        })
        .collect()
}

/// The value of the header `webhook-signature`: one signature for each secret, separated by
/// spaces. `timestamp_s` is in seconds since the Unix epoch.
#[must_use]
pub fn sign(secrets: &[SigningSecret], id: &str, timestamp_s: u64, body: &str) -> String {
    let signatures: Vec<_> = secrets
        .iter()
        .map(|secret| {
            let tag = secret.tag(id, timestamp_s, body.as_bytes());
            format!("{VERSION}{}", STANDARD.encode(tag))
        })
        .collect();
    signatures.join(" ")
}

/// Whether one of the signatures in the header `webhook-signature` is the secret's. How old the
/// timestamp may be is the caller's to judge.
#[must_use]
pub fn verify(
    secret: &SigningSecret,
    id: &str,
    timestamp_s: u64,
    body: &[u8],
    signatures: &str,
) -> bool {
    let tag = secret.tag(id, timestamp_s, body);
    signatures
        .split(' ')
        .filter_map(|signature| STANDARD.decode(signature.strip_prefix(VERSION)?).ok())
        .any(|given| constant_time::verify_slices_are_equal(tag.as_ref(), &given).is_ok())
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

    /// Makes a new secret of 32 random bytes.
    ///
    /// # Errors
    /// [`InvalidSecret::NoRandomness`].
    pub fn generate() -> Result<Self, InvalidSecret> {
        let mut bytes = [0; NEW_BYTES];
        rand::fill(&mut bytes).map_err(|_| InvalidSecret::NoRandomness)?;
        Self::parse(&format!("{PREFIX}{}", STANDARD.encode(bytes)))
    }

    /// The secret's text, for the one who is to keep it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.text.expose_secret()
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
    use http::HeaderMap;
    use proptest::prelude::*;
    use standardwebhooks::Webhook;

    use super::*;
    use crate::clock::Clock;

    /// The example of the specification.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn headers(id: &str, timestamp_s: u64, signatures: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", id.parse().unwrap());
        headers.insert("webhook-timestamp", timestamp_s.to_string().parse().unwrap());
        headers.insert("webhook-signature", signatures.parse().unwrap());
        headers
    }

    #[test]
    fn a_known_signature_comes_out() {
        let secret = SigningSecret::parse(SECRET).unwrap();
        let signature = sign(
            &[secret],
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            "{\"test\": 2432232314}",
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    proptest! {
        #[test]
        fn other_implementations_accept_what_is_signed(
            body in ".{0,400}",
            key in proptest::collection::vec(any::<u8>(), BYTES_MIN..=BYTES_MAX),
        ) {
            let text = format!("{PREFIX}{}", STANDARD.encode(key));
            let secrets = [SigningSecret::parse(&text).unwrap(), SigningSecret::parse(SECRET).unwrap()];
            let timestamp_s = Clock::system().now().0 / 1000;
            let signatures = sign(&secrets, "evt_1", timestamp_s, &body);
            let headers = headers("evt_1", timestamp_s, &signatures);
            for text in [&text, SECRET] {
                let other = Webhook::new(text).unwrap();
                prop_assert!(other.verify(body.as_bytes(), &headers).is_ok());
            }
            for secret in &secrets {
                prop_assert!(verify(secret, "evt_1", timestamp_s, body.as_bytes(), &signatures));
            }
        }
    }

    #[test]
    fn only_the_same_id_time_body_and_secret_verify() {
        let secret = SigningSecret::parse(SECRET).unwrap();
        let signature = sign(std::slice::from_ref(&secret), "evt_1", 7, "{}");
        assert!(verify(&secret, "evt_1", 7, b"{}", &format!("v1a,x v1,%% {signature}")));
        assert!(!verify(&secret, "evt_2", 7, b"{}", &signature));
        assert!(!verify(&secret, "evt_1", 8, b"{}", &signature));
        assert!(!verify(&secret, "evt_1", 7, b"{ }", &signature));
        assert!(!verify(&SigningSecret::generate().unwrap(), "evt_1", 7, b"{}", &signature));
        for signatures in ["", "v1,", &signature[3..], &signature.replace("v1,", "v2,")] {
            assert!(!verify(&secret, "evt_1", 7, b"{}", signatures), "{signatures:?}");
        }
    }

    #[test]
    fn a_new_secret_reads_back_and_is_never_printed() {
        let secret = SigningSecret::generate().unwrap();
        let text = secret.reveal();
        assert_eq!(STANDARD.decode(&text[PREFIX.len()..]).unwrap().len(), NEW_BYTES);
        assert_eq!(SigningSecret::parse(text).unwrap().reveal(), text);
        assert_ne!(SigningSecret::generate().unwrap().reveal(), text);
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
