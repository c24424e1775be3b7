//! Signatures as Standard Webhooks say, version `v1a`: Ed25519 of `{id}.{timestamp}.{body}`.
//!
//! Whoever checks one needs the public key alone, which anybody may know. Source: the specification
//! at standardwebhooks.com, "Signature scheme", and RFC 8032. The private key is written as `whsk_`
//! and the base64 of its 32-byte seed, with or without the 32 bytes of the public key behind it;
//! the public key as `whpk_` and base64.

use std::{fmt, sync::Arc};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};

const PRIVATE_PREFIX: &str = "whsk_";
const PUBLIC_PREFIX: &str = "whpk_";

/// What a signature of this version begins with.
const VERSION: &str = "v1a,";

/// The length of a seed, and of a public key, in bytes.
const KEY_BYTES: usize = 32;

/// A private key that callbacks are signed with.
#[derive(Clone)]
pub struct SigningKey {
    pair: Arc<Ed25519KeyPair>,
    text: SecretString,
}

/// A public key that callbacks are checked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; KEY_BYTES]);

/// The text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// It does not begin with the private key's prefix.
    #[error("a signing key begins with {PRIVATE_PREFIX}")]
    PrivatePrefix,
    /// It does not begin with the public key's prefix.
    #[error("a public key begins with {PUBLIC_PREFIX}")]
    PublicPrefix,
    /// What follows the prefix is no base64.
    #[error("what follows a key's prefix is base64, with its padding")]
    Base64,
    /// It is too short or too long.
    #[error("a signing key has 32 bytes, or 64 with its public key; a public key has 32")]
    Length,
    /// The public key behind the seed is that of another one.
    #[error("the signing key's second half is not its public key")]
    Mismatch,
}

// === impl SigningKey ===

impl SigningKey {
    /// Reads a private key: `whsk_` and base64.
    ///
    /// # Errors
    /// [`InvalidKey`], which never shows the text.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let base64 = text.strip_prefix(PRIVATE_PREFIX).ok_or(InvalidKey::PrivatePrefix)?;
        let bytes = STANDARD.decode(base64).map_err(|_| InvalidKey::Base64)?;
        let pair = match bytes.len() {
            KEY_BYTES => Ed25519KeyPair::from_seed_unchecked(&bytes),
            64 => {
                Ed25519KeyPair::from_seed_and_public_key(&bytes[..KEY_BYTES], &bytes[KEY_BYTES..])
            }
            _ => return Err(InvalidKey::Length),
        };
        let pair = pair.map_err(|_| InvalidKey::Mismatch)?;
        Ok(Self { pair: Arc::new(pair), text: text.into() })
    }

    /// The key of this seed, which must be random. It is written with its public key behind the
    /// seed, as other implementations want it.
    ///
    /// # Errors
    /// [`InvalidKey`]; there is no seed it is known to happen with.
    pub fn of(seed: &[u8; KEY_BYTES]) -> Result<Self, InvalidKey> {
        let of_seed = Self::parse(&format!("{PRIVATE_PREFIX}{}", STANDARD.encode(seed)))?;
        let whole = [*seed, of_seed.public().0].concat();
        Self::parse(&format!("{PRIVATE_PREFIX}{}", STANDARD.encode(whole)))
    }

    /// The key's text, for the one who is to keep it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.text.expose_secret()
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        // A public key of Ed25519 always has this length.
        PublicKey(self.pair.public_key().as_ref().try_into().unwrap_or_default())
    }

    /// The signature, as the header `webhook-signature` holds it. `timestamp_s` is in seconds since
    /// the Unix epoch.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp_s: u64, body: &str) -> String {
        let signature = self.pair.sign(format!("{id}.{timestamp_s}.{body}").as_bytes());
        format!("{VERSION}{}", STANDARD.encode(signature))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public())
    }
}

// === impl PublicKey ===

impl PublicKey {
    /// Reads a public key: `whpk_` and base64.
    ///
    /// # Errors
    /// [`InvalidKey`].
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let base64 = text.strip_prefix(PUBLIC_PREFIX).ok_or(InvalidKey::PublicPrefix)?;
        let bytes = STANDARD.decode(base64).map_err(|_| InvalidKey::Base64)?;
        bytes.try_into().map(Self).map_err(|_| InvalidKey::Length)
    }

    /// Whether one of the signatures in the header `webhook-signature` was made with this key's
    /// private one. How old the timestamp may be is the caller's to judge.
    #[must_use]
    pub fn verify(&self, id: &str, timestamp_s: u64, body: &[u8], signatures: &str) -> bool {
        let content = [format!("{id}.{timestamp_s}.").as_bytes(), body].concat();
        let key = UnparsedPublicKey::new(&ED25519, &self.0);
        signatures
            .split(' ')
            .filter_map(|signature| STANDARD.decode(signature.strip_prefix(VERSION)?).ok())
            .any(|signature| key.verify(&content, &signature).is_ok())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC_PREFIX}{}", STANDARD.encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, 7.1, test 1.
    const SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

    fn bytes(hex: &str) -> Vec<u8> {
        let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    }

    fn text(prefix: &str, key: &[u8]) -> String {
        format!("{prefix}{}", STANDARD.encode(key))
    }

    #[test]
    fn a_known_seed_has_its_known_public_key_with_or_without_it_behind() {
        let (seed, public) = (bytes(SEED), bytes(PUBLIC));
        for whole in [seed.clone(), [seed.clone(), public.clone()].concat()] {
            let key = SigningKey::parse(&text("whsk_", &whole)).unwrap();
            assert_eq!(key.public().to_string(), text("whpk_", &public));
        }
        let other = text("whsk_", &[seed.clone(), seed].concat());
        assert_eq!(SigningKey::parse(&other).err(), Some(InvalidKey::Mismatch));
    }

    #[test]
    fn only_the_same_id_time_body_and_key_verify() {
        let key = SigningKey::of(&[7; 32]).unwrap();
        let public = PublicKey::parse(&key.public().to_string()).unwrap();
        let signature = format!("v1,eA== {}", key.sign("evt_1", 7, "{}"));
        assert!(public.verify("evt_1", 7, b"{}", &signature));
        assert!(!public.verify("evt_2", 7, b"{}", &signature));
        assert!(!public.verify("evt_1", 8, b"{}", &signature));
        assert!(!public.verify("evt_1", 7, b"{ }", &signature));
        assert!(!public.verify("evt_1", 7, b"{}", &signature.replace("v1a,", "v1,")));
        let other = SigningKey::of(&[8; 32]).unwrap().public();
        assert!(!other.verify("evt_1", 7, b"{}", &signature));
    }

    #[test]
    fn a_key_of_a_seed_reads_back_and_is_never_printed() {
        let key = SigningKey::of(&[7; 32]).unwrap();
        assert_eq!(SigningKey::parse(key.reveal()).unwrap().public(), key.public());
        assert!(!format!("{key:?}").contains(&key.reveal()[5..40]));
    }

    #[test]
    fn what_is_no_key_says_why() {
        let cases = [
            ("", InvalidKey::PrivatePrefix),
            ("whsec_aGk=", InvalidKey::PrivatePrefix),
            ("whsk_%%", InvalidKey::Base64),
            ("whsk_aGk=", InvalidKey::Length),
        ];
        for (text, expected) in cases {
            assert_eq!(SigningKey::parse(text).err(), Some(expected), "{text}");
        }
        assert_eq!(PublicKey::parse("whpk_aGk=").err(), Some(InvalidKey::Length));
        assert_eq!(PublicKey::parse("whsk_aGk=").err(), Some(InvalidKey::PublicPrefix));
    }
}
