//! The `[server]` and `[accounts.…]` sections.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::auth::KeyHash;
use crate::domain::{
    scope::Scope,
    signature::masked,
    units::{Rate, size, size_if_any, span},
};

/// Where the API listens, and what it puts up with.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// Where the API listens, in processes with that role.
    pub listen: SocketAddr,
    /// Where clients reach the API; `http://` and `listen` if absent.
    pub public_url: Option<String>,
    /// The longest JSON body, in bytes.
    #[serde(with = "size")]
    pub body_bytes_max: u64,
    /// The most that a packed body of lines may come to, in bytes.
    #[serde(with = "size")]
    pub unpacked_bytes_max: u64,
    /// Where metrics and health are served in processes without the API's role; nowhere if absent.
    pub metrics_listen: Option<SocketAddr>,
    /// How long a request's headers may take, and how long a connection may be idle.
    #[serde(with = "span")]
    pub header_timeout: Duration,
    /// How long each piece of a request's body may take, and each piece of an answer.
    #[serde(with = "span")]
    pub body_timeout: Duration,
    /// The most connections at once; further ones wait.
    pub connections_max: u32,
    /// TLS on the API's listener; plain HTTP if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSettings>,
}

/// The certificate of a listener.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// A file with the certificate and those that lead to a known one, as PEM.
    pub certificate: PathBuf,
    /// A file with its private key, as PEM.
    pub key: PathBuf,
}

/// A tenant.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AccountSettings {
    /// The SHA-256 of each of its API keys that have all scopes: `sha256:` and 64 hexadecimal digits.
    #[serde(default, deserialize_with = "key_hashes")]
    pub api_key_hashes: Vec<String>,
    /// What its callbacks are signed with instead of the secrets of the installation, each `whsec_`
    /// and base64.
    #[serde(default, skip_serializing_if = "Vec::is_empty", serialize_with = "masked")]
    pub signing_secrets: Vec<SecretString>,
    /// Whether it may do what concerns all accounts, such as stopping a provider.
    #[serde(default)]
    pub admin: bool,
    /// The most requests a period; no limit if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_rate: Option<Rate>,
    /// The most recipients in one batch; no limit if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipients_max: Option<u32>,
    /// The most recipients in a day, by UTC, over all processes; no limit if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily_recipients_max: Option<u64>,
    /// The most that the body of a batch may come to, in bytes; the server's limits if absent.
    #[serde(default, with = "size_if_any", skip_serializing_if = "Option::is_none")]
    pub body_bytes_max: Option<u64>,
    /// The most batches under way at once, those that wait for their time included; no limit if
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batches_max: Option<u32>,
    /// Its API keys that have names and scopes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeySettings>,
}

/// An API key.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeySettings {
    /// What the log calls it.
    pub name: String,
    /// Its SHA-256: `sha256:` and 64 hexadecimal digits.
    #[serde(deserialize_with = "key_hash")]
    pub hash: String,
    /// What it may be used for.
    pub scopes: Vec<Scope>,
}

fn key_hashes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let hashes = Vec::<String>::deserialize(deserializer)?;
    for hash in &hashes {
        hash.parse::<KeyHash>().map_err(de::Error::custom)?;
    }
    Ok(hashes)
}

fn key_hash<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let hash = String::deserialize(deserializer)?;
    hash.parse::<KeyHash>().map_err(de::Error::custom)?;
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_that_is_none_is_refused_at_load() {
        let good = format!("api_key_hashes = [\"sha256:{}\"]", "0a".repeat(32));
        assert!(toml::from_str::<AccountSettings>(&good).is_ok());
        for bad in ["sha256:0a", &"0a".repeat(32), &format!("sha256:{}", "xy".repeat(32))] {
            let error = toml::from_str::<AccountSettings>(&format!("api_key_hashes = [\"{bad}\"]"));
            assert!(error.unwrap_err().to_string().contains("sha256:"), "{bad}");
            let key = format!("[[keys]]\nname = \"a\"\nhash = \"{bad}\"\nscopes = [\"read\"]");
            let error = toml::from_str::<AccountSettings>(&key);
            assert!(error.unwrap_err().to_string().contains("sha256:"), "{bad}");
        }
    }

    #[test]
    fn a_key_has_a_name_a_hash_and_scopes_that_are_known() {
        let read = |scopes: &str| {
            let hash = "0a".repeat(32);
            toml::from_str::<AccountSettings>(&format!(
                "[[keys]]\nname = \"shop\"\nhash = \"sha256:{hash}\"\nscopes = {scopes}"
            ))
        };
        let account = read("[\"submit\", \"read\"]").unwrap();
        assert_eq!(account.keys[0].scopes, [Scope::Submit, Scope::Read]);
        let error = read("[\"write\"]").unwrap_err().to_string();
        assert!(error.contains("`write`") && error.contains("`submit`"), "{error}");
    }
}
