//! Which secrets sign for whom.
//!
//! A batch that brought a secret of its own is signed with that one alone; else its account's
//! secrets sign, if it has any; else those of the installation: the configured ones, or the store's
//! own, made at the first start. With several there is one signature for each, so that receivers
//! can change over while one is replaced. The Ed25519 keys sign besides, whoever the batch is of.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};

use super::CallbackSettings;
use crate::{
    domain::{
        signature::{InvalidSecret, SigningSecret},
        signing_key::{InvalidKey, PublicKey, SigningKey},
    },
    store::{Callbacks, StoreError},
};

/// Signs callbacks.
#[derive(Clone, Debug)]
pub struct Signers {
    /// The secrets of the accounts that have their own.
    accounts: BTreeMap<String, Vec<SigningSecret>>,
    /// The secrets of all others.
    general: Vec<SigningSecret>,
    keys: Vec<SigningKey>,
}

/// The signing secrets are not to be had. What is wrong with one never shows it.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// A configured secret is none.
    #[error("{key}: {source}")]
    Secret {
        /// The configuration's key, with the place in its list from 0.
        key: String,
        /// What is wrong with it.
        source: InvalidSecret,
    },
    /// A configured signing key is none.
    #[error("{key}: {source}")]
    Key {
        /// The configuration's key, with the place in its list from 0.
        key: String,
        /// What is wrong with it.
        source: InvalidKey,
    },
    /// What the store keeps is none.
    #[error("the store's signing secret: {0}")]
    Stored(InvalidSecret),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A new secret, of 256 random bits.
#[must_use]
pub fn new_secret() -> SigningSecret {
    SigningSecret::of(&rand::random())
}

/// A new Ed25519 key.
///
/// # Errors
/// [`InvalidKey`]; it is not known to happen.
pub fn new_key() -> Result<SigningKey, InvalidKey> {
    SigningKey::of(&rand::random())
}

/// The public keys of those in `callbacks.signing_keys`.
///
/// # Errors
/// [`SecretsError::Key`].
pub fn public_keys(settings: &CallbackSettings) -> Result<Vec<PublicKey>, SecretsError> {
    Ok(parsed_keys(&settings.signing_keys)?.iter().map(SigningKey::public).collect())
}

// === impl Signers ===

impl Signers {
    /// Reads the configured secrets and keys, and gets the store's own secret if none is
    /// configured for all. `accounts` are the accounts, each with its secrets.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub async fn load<'a>(
        store: &dyn Callbacks,
        settings: &CallbackSettings,
        accounts: impl IntoIterator<Item = (&'a String, &'a Vec<SecretString>)>,
    ) -> Result<Self, SecretsError> {
        let (secrets, keys) = (&settings.signing_secrets, &settings.signing_keys);
        let mut signers = Self::configured(secrets, keys, accounts)?;
        if signers.general.is_empty() {
            let kept = store.signing_secret(new_secret().reveal()).await?;
            signers.general.push(SigningSecret::parse(&kept).map_err(SecretsError::Stored)?);
        }
        Ok(signers)
    }

    fn configured<'a>(
        general: &[SecretString],
        keys: &[SecretString],
        accounts: impl IntoIterator<Item = (&'a String, &'a Vec<SecretString>)>,
    ) -> Result<Self, SecretsError> {
        let with_own = accounts.into_iter().filter(|(_, texts)| !texts.is_empty());
        let accounts = with_own.map(|(name, texts)| {
            let key = format!("accounts.{name}.signing_secrets");
            Ok((name.clone(), parsed_secrets(&key, texts)?))
        });
        Ok(Self {
            accounts: accounts.collect::<Result<_, SecretsError>>()?,
            general: parsed_secrets("callbacks.signing_secrets", general)?,
            keys: parsed_keys(keys)?,
        })
    }

    /// Signs with these secrets, whatever the account is.
    #[must_use]
    pub fn of(general: Vec<SigningSecret>) -> Self {
        Self { accounts: BTreeMap::new(), general, keys: Vec::new() }
    }

    /// The value of the header `webhook-signature` for a callback of `account`: signatures
    /// separated by spaces. `own` is the secret that the batch brought, `timestamp_s` is in seconds
    /// since the Unix epoch. An own secret that is none, which the API takes from nobody, signs
    /// nothing: nobody else's stands in for it.
    #[must_use]
    pub fn sign(
        &self,
        account: &str,
        own: Option<&str>,
        id: &str,
        timestamp_s: u64,
        body: &str,
    ) -> String {
        let own: Option<Vec<_>> = own.map(|text| SigningSecret::parse(text).into_iter().collect());
        let own_or_known = own.as_ref().or_else(|| self.accounts.get(account));
        let secrets = own_or_known.unwrap_or(&self.general).iter();
        let signatures = secrets.map(|secret| secret.sign(id, timestamp_s, body));
        let keys = self.keys.iter().map(|key| key.sign(id, timestamp_s, body));
        signatures.chain(keys).collect::<Vec<_>>().join(" ")
    }

    /// The secrets that sign for all accounts without their own.
    #[must_use]
    pub fn general(&self) -> &[SigningSecret] {
        &self.general
    }
}

fn parsed_secrets(key: &str, texts: &[SecretString]) -> Result<Vec<SigningSecret>, SecretsError> {
    let parsed = texts.iter().enumerate().map(|(index, text)| {
        SigningSecret::parse(text.expose_secret())
            .map_err(|source| SecretsError::Secret { key: format!("{key}[{index}]"), source })
    });
    parsed.collect()
}

fn parsed_keys(texts: &[SecretString]) -> Result<Vec<SigningKey>, SecretsError> {
    let parsed = texts.iter().enumerate().map(|(index, text)| {
        SigningKey::parse(text.expose_secret()).map_err(|source| {
            let key = format!("callbacks.signing_keys[{index}]");
            SecretsError::Key { key, source }
        })
    });
    parsed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(number: u8) -> String {
        SigningSecret::of(&[number; 32]).reveal().to_owned()
    }

    fn texts(numbers: impl IntoIterator<Item = u8>) -> Vec<SecretString> {
        numbers.into_iter().map(|number| text(number).into()).collect()
    }

    /// Who signs, in the order of the signatures.
    fn signed_by(signers: &Signers, account: &str, own: Option<&str>) -> String {
        let signatures = signers.sign(account, own, "evt_1", 7, "{}");
        signatures.split(' ').map(signer).collect::<Vec<_>>().join(", ")
    }

    fn signer(signature: &str) -> String {
        for number in 0..9 {
            if SigningSecret::of(&[number; 32]).verify("evt_1", 7, b"{}", signature) {
                return format!("secret {number}");
            }
            let key = SigningKey::of(&[number; 32]).unwrap().public();
            if key.verify("evt_1", 7, b"{}", signature) {
                return format!("key {number}");
            }
        }
        "nobody".to_owned()
    }

    #[test]
    fn a_batchs_secret_goes_before_its_accounts_and_that_before_the_general_ones() {
        let accounts =
            BTreeMap::from([("acme".to_owned(), texts([3, 4])), ("empty".to_owned(), Vec::new())]);
        let signers = Signers::configured(&texts([1, 2]), &[], &accounts).unwrap();
        for account in ["default", "empty"] {
            assert_eq!(signed_by(&signers, account, None), "secret 1, secret 2");
        }
        assert_eq!(signed_by(&signers, "acme", None), "secret 3, secret 4");
        assert_eq!(signed_by(&signers, "acme", Some(&text(5))), "secret 5");
        assert_eq!(signed_by(&signers, "default", Some(&text(5))), "secret 5");
        // No other secret stands in for one that can't be read.
        assert_eq!(signed_by(&signers, "acme", Some("hush")), "nobody");
    }

    #[test]
    fn ed25519_keys_sign_besides_whatever_the_secrets_are() {
        let keys: Vec<SecretString> =
            [6, 7].map(|number| SigningKey::of(&[number; 32]).unwrap().reveal().into()).into();
        let accounts = BTreeMap::from([("acme".to_owned(), texts([3]))]);
        let signers = Signers::configured(&texts([1]), &keys, &accounts).unwrap();
        assert_eq!(signed_by(&signers, "default", None), "secret 1, key 6, key 7");
        assert_eq!(signed_by(&signers, "acme", None), "secret 3, key 6, key 7");
        assert_eq!(signed_by(&signers, "acme", Some(&text(5))), "secret 5, key 6, key 7");
    }

    #[test]
    fn what_is_wrong_is_named_by_its_key_and_neither_printed_nor_told() {
        let hush: Vec<SecretString> = [text(1).into(), "hush".into()].into();
        let none: BTreeMap<String, Vec<SecretString>> = BTreeMap::new();
        let accounts = BTreeMap::from([("acme".to_owned(), hush.clone())]);
        for (refused, key) in [
            (Signers::configured(&hush, &[], &none), "callbacks.signing_secrets[1]: "),
            (Signers::configured(&[], &hush[1..], &none), "callbacks.signing_keys[0]: "),
            (Signers::configured(&[], &[], &accounts), "accounts.acme.signing_secrets[1]: "),
        ] {
            let error = refused.unwrap_err();
            assert!(error.to_string().starts_with(key), "{error}");
            assert!(!format!("{error} {error:?}").contains("hush"), "{error:?}");
        }
        let signers = Signers::configured(&texts([1]), &[], &none).unwrap();
        assert!(!format!("{signers:?}").contains(&text(1)[6..20]), "{signers:?}");
    }
}
