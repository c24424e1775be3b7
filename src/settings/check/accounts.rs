//! Accounts and their keys: names, scopes, and that a key belongs to one account.

use std::collections::BTreeMap;

use super::Findings;
use crate::{
    api::{AccountSettings, KeySettings},
    domain::scope::Scope,
};

// === impl Findings ===

impl Findings {
    pub(super) fn check_accounts(&mut self, accounts: &BTreeMap<String, AccountSettings>) {
        for (name, account) in accounts {
            let key = format!("accounts.{name}");
            self.check_name(&key, name);
            if account.api_key_hashes.is_empty() && account.keys.is_empty() {
                self.warn(&key, "has no API key, so nobody can use it");
            }
            self.check_secrets(&format!("{key}.signing_secrets"), &account.signing_secrets);
            self.check_keys(&key, account);
        }
        self.check_hashes(accounts);
    }

    fn check_keys(&mut self, of: &str, account: &AccountSettings) {
        let mut names = Vec::new();
        for (index, KeySettings { name, scopes, .. }) in account.keys.iter().enumerate() {
            let key = format!("{of}.keys[{index}]");
            self.check_name(&format!("{key}.name"), name);
            if names.contains(&name) {
                self.error(&format!("{key}.name"), format!("another key is called {name} too"));
            }
            names.push(name);
            let named_twice = Scope::ALL
                .iter()
                .any(|scope| scopes.iter().filter(|named| *named == scope).count() > 1);
            if scopes.is_empty() || named_twice {
                let detail = "must name at least one of submit, read and admin, each once";
                self.error(&format!("{key}.scopes"), detail);
            }
            if scopes.contains(&Scope::Admin) && !account.admin {
                let detail = format!("has admin, which means nothing without {of}.admin = true");
                self.warn(&format!("{key}.scopes"), detail);
            }
        }
    }

    /// Whose a key is, and what it may be used for, must be said once.
    fn check_hashes(&mut self, accounts: &BTreeMap<String, AccountSettings>) {
        let mut known = BTreeMap::new();
        for (name, account) in accounts {
            let unnamed = account.api_key_hashes.iter().enumerate();
            let unnamed = unnamed
                .map(|(index, hash)| (format!("accounts.{name}.api_key_hashes[{index}]"), hash));
            let named = account.keys.iter().enumerate();
            let named = named
                .map(|(index, key)| (format!("accounts.{name}.keys[{index}].hash"), &key.hash));
            for (place, hash) in unnamed.chain(named) {
                // Digits may be written in either case.
                if let Some(first) = known.insert(hash.to_ascii_lowercase(), place.clone()) {
                    self.error(&place, format!("is the same key as {first}"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::settings::Layers;

    fn check(accounts: &str) -> Findings {
        let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        let text = accounts.replace("HASH", &"0a".repeat(31));
        file.write_all(text.as_bytes()).unwrap();
        Layers::read(Some(file.path()), []).unwrap().settings().unwrap().check()
    }

    fn key(name: &str, number: u8, scopes: &str) -> String {
        format!(
            "[[accounts.acme.keys]]\nname = \"{name}\"\nhash = \"sha256:HASH{number:02x}\"\n\
             scopes = [{scopes}]\n"
        )
    }

    #[test]
    fn keys_with_names_and_scopes_are_sound() {
        let both = [key("shop", 1, "\"submit\", \"read\""), key("audit", 2, "\"read\"")].concat();
        assert_eq!(check(&both), Findings::default());
    }

    #[test]
    fn what_makes_no_sense_of_a_key_is_named() {
        for (accounts, named) in [
            (key("Shop", 1, "\"read\""), "accounts.acme.keys[0].name: "),
            (key("shop", 1, ""), "accounts.acme.keys[0].scopes: "),
            (key("shop", 1, "\"read\", \"read\""), "accounts.acme.keys[0].scopes: "),
            (
                [key("shop", 1, "\"read\""), key("shop", 2, "\"read\"")].concat(),
                "accounts.acme.keys[1].name: ",
            ),
            (
                [key("shop", 0xab, "\"read\""), key("audit", 0xAB, "\"read\"")].concat(),
                "accounts.acme.keys[1].hash: is the same key as accounts.acme.keys[0].hash",
            ),
            (
                format!(
                    "{}[accounts.zeta]\napi_key_hashes = [\"sha256:HASHAB\"]\n",
                    key("shop", 0xab, "\"read\"")
                ),
                "accounts.zeta.api_key_hashes[0]: is the same key as accounts.acme.keys[0].hash",
            ),
        ] {
            let errors = check(&accounts).errors;
            assert_eq!(errors.len(), 1, "{errors:?}");
            assert!(errors[0].starts_with(named), "{named}: {errors:?}");
        }
    }

    #[test]
    fn a_scope_that_means_nothing_is_warned_of() {
        let boss = key("boss", 1, "\"admin\"");
        let warnings = check(&boss).warnings;
        assert!(warnings[0].starts_with("accounts.acme.keys[0].scopes: "), "{warnings:?}");
        assert_eq!(check(&format!("[accounts.acme]\nadmin = true\n{boss}")), Findings::default());
        let warnings = check("[accounts.acme]\n").warnings;
        assert!(warnings[0].starts_with("accounts.acme: has no API key"), "{warnings:?}");
    }
}
