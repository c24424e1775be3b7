//! The last layer: variables named `RINGBACK__SECTION__KEY`.
//!
//! Names are folded to lower case, so only lower-case providers and accounts can be reached. Lists
//! are separated by commas. Everything else stays the text it is: whoever reads a setting of
//! another type reads it from text too.

use std::{collections::BTreeMap, ffi::OsString};

use config::{ConfigError, Map, Source, Value, ValueKind};

use super::error::SettingsError;

/// What the names of our variables begin with.
const PREFIX: &str = "RINGBACK__";

/// The layer, as a source for the crate `config`. Every value's origin is its variable.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment(Map<String, Value>);

// === impl Environment ===

impl Environment {
    /// Picks our variables out of `variables`.
    ///
    /// # Errors
    /// [`SettingsError`] if one of ours is not Unicode, has one underscore too few after the
    /// prefix, or names a table that another one names as a value.
    pub(super) fn read(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SettingsError> {
        let mut ours = BTreeMap::new();
        for (name, text) in variables {
            // A name that is not Unicode is not one of ours.
            let Ok(name) = name.into_string() else { continue };
            refuse_lookalike(&name)?;
            let Some(path) = name.strip_prefix(PREFIX) else { continue };
            let path = path.to_lowercase();
            let text =
                text.into_string().map_err(|_| wrong(&path, &name, "is not valid Unicode"))?;
            ours.insert(path, (name, text));
        }
        let mut layer = Self::default();
        for (path, (name, text)) in &ours {
            let steps: Vec<_> = path.split("__").collect();
            let value = Value::new(Some(name), kind(&steps, text));
            insert(&mut layer.0, &steps, value).map_err(|()| {
                wrong(&steps.join("."), name, "is a table and a value at the same time")
            })?;
        }
        Ok(layer)
    }
}

impl Source for Environment {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// `RINGBACK_WORKER__LEASE` would be ignored in silence, though its author meant us.
fn refuse_lookalike(name: &str) -> Result<(), SettingsError> {
    let rest = name.strip_prefix("RINGBACK_").filter(|rest| !rest.starts_with('_'));
    match rest {
        Some(rest) if rest.contains("__") => {
            let detail = format!("two underscores follow the first word: {PREFIX}{rest}");
            Err(wrong(name, name, &detail))
        }
        _ => Ok(()),
    }
}

fn wrong(key: &str, variable: &str, detail: &str) -> SettingsError {
    let origin = Some(variable.to_owned());
    SettingsError::Key { key: key.to_owned(), origin, detail: detail.to_owned() }
}

fn insert(table: &mut Map<String, Value>, steps: &[&str], value: Value) -> Result<(), ()> {
    match steps {
        [] => Err(()),
        [last] => match table.insert((*last).to_owned(), value) {
            Some(_) => Err(()),
            None => Ok(()),
        },
        [first, rest @ ..] => {
            let next = table.entry((*first).to_owned()).or_insert_with(|| {
                Value::new(value.origin().map(str::to_owned).as_ref(), Map::<String, Value>::new())
            });
            match &mut next.kind {
                ValueKind::Table(next) => insert(next, rest, value),
                _ => Err(()),
            }
        }
    }
}

fn kind(steps: &[&str], text: &str) -> ValueKind {
    match steps {
        [
            "callbacks",
            "allow_networks" | "allow_ports" | "deny_networks" | "deny_ports" | "dns_servers"
            | "schedule" | "signing_keys" | "signing_secrets",
        ]
        | ["accounts", _, "api_key_hashes" | "signing_secrets"]
        | ["providers", _, "senders"] => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            ValueKind::from(items.map(str::to_owned).collect::<Vec<_>>())
        }
        _ => ValueKind::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Map<String, Value>, SettingsError> {
        let variables = variables.iter().map(|(key, value)| (key.into(), value.into()));
        Environment::read(variables).map(|layer| layer.0)
    }

    #[test]
    fn only_our_variables_count() {
        let layer = read(&[("PATH", "/bin"), ("RINGBACK_PORT", "tcp://10.0.0.1:80")]).unwrap();
        assert!(layer.is_empty());
    }

    #[test]
    fn a_name_with_one_underscore_too_few_is_refused_and_corrected() {
        let error = read(&[("RINGBACK_WORKER__LEASE", "9s")]).unwrap_err().to_string();
        assert!(error.contains("RINGBACK__WORKER__LEASE"), "{error}");
    }

    #[test]
    fn lists_are_separated_by_commas() {
        let text = "whsec_a, whsec_b,";
        let items = kind(&["callbacks", "signing_secrets"], text);
        assert_eq!(items, ValueKind::from(vec!["whsec_a".to_owned(), "whsec_b".to_owned()]));
        assert_eq!(kind(&["log", "filter"], "warn,a=debug"), ValueKind::from("warn,a=debug"));
    }

    #[test]
    fn a_table_and_a_value_of_one_name_are_refused() {
        let both = [("RINGBACK__WORKER", "x"), ("RINGBACK__WORKER__LEASE", "9s")];
        assert!(read(&both).unwrap_err().to_string().contains("worker.lease"));
    }
}
