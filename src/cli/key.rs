//! `ringback key`: API keys. A key is 256 random bits, so its plain SHA-256 is safe to keep.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::{Args, Subcommand};

use super::{Failure, print};
use crate::domain::scope::Scope;

/// Make API keys
#[derive(Debug, Args)]
pub(super) struct Key {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a new API key: prints it once, with what to write into the configuration
    #[command(after_help = "Examples:\n  ringback key new acme\n  \
                            ringback key new acme --name shop --scope submit --scope read")]
    New {
        /// The account that will use it: a-z, 0-9, `_` and `-`
        #[arg(value_parser = is_name)]
        account: String,

        /// What it may be used for, may be given more than once: submit, read or admin; for all if
        /// none is given
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<Scope>,

        /// What the log calls it; if no name is given, one is made of its hash
        #[arg(long, requires = "scopes", value_parser = is_name)]
        name: Option<String>,
    },
}

// === impl Key ===

impl Key {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Command::New { account, scopes, name } = self.command;
        let key = format!("rbk_{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()));
        let hash = hash(&key);
        let section = if scopes.is_empty() {
            format!("[accounts.{account}]\napi_key_hashes = [\"{hash}\"]\n")
        } else {
            let name = name.unwrap_or_else(|| format!("key-{}", &hash["sha256:".len()..][..8]));
            named(&account, &name, &hash, &scopes)
        };
        print(&format!(
            "API key, shown this once: {key}\n\
             \n\
             Its hash, for the configuration:\n\
             \n\
             {section}"
        ))
    }
}

/// The section of a key that has a name and scopes.
fn named(account: &str, name: &str, hash: &str, scopes: &[Scope]) -> String {
    let given = Scope::ALL.into_iter().filter(|scope| scopes.contains(scope));
    let scopes = given.map(|scope| format!("\"{scope}\"")).collect::<Vec<_>>().join(", ");
    format!(
        "[[accounts.{account}.keys]]\nname = \"{name}\"\nhash = \"{hash}\"\nscopes = [{scopes}]\n"
    )
}

/// What the configuration keeps of a key.
fn hash(key: &str) -> String {
    use std::fmt::Write;
    let mut text = String::from("sha256:");
    for byte in digest(&SHA256, key.as_bytes()).as_ref() {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn is_name(text: &str) -> Result<String, String> {
    crate::settings::is_name(text)
        .then(|| text.to_owned())
        .ok_or_else(|| "a name has 1 to 64 characters of a-z, 0-9, `_` and `-`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_keys_sha_256_in_hexadecimal() {
        // FIPS 180-2, appendix B.1.
        let expected = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash("abc"), expected);
    }
}
