//! What can be wrong with a configuration, told so that it can be found: the key, where it came
//! from, and what was expected. Values are left out where they may be secret.

use config::{ConfigError, Value};

use super::layers::find;

/// The configuration can't be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A file is missing, or is no TOML.
    #[error("{0}")]
    Unreadable(String),
    /// A key is unknown, missing or of another type.
    #[error("{key}{}: {detail}", Origin(.origin.as_deref()))]
    Key {
        /// The key with its path, as in `worker.lease`.
        key: String,
        /// The file or variable it came from, if that is known.
        origin: Option<String>,
        /// What is wrong with it.
        detail: String,
    },
}

/// How an origin is told.
struct Origin<'a>(Option<&'a str>);

// === impl SettingsError ===

impl SettingsError {
    /// A file that is no TOML. Where it breaks is told, and not the line, which may hold a secret.
    pub(super) fn broken(error: &ConfigError) -> Self {
        let text = error.to_string();
        let is_quote = |line: &&str| {
            line.trim_start()
                .trim_start_matches(|c: char| c.is_ascii_digit())
                .trim_start()
                .starts_with('|')
        };
        let told: Vec<_> = text.lines().filter(|line| !is_quote(line)).map(str::trim).collect();
        Self::Unreadable(told.join(" "))
    }

    /// Translates an error of the crate `config` about what stands in `tree`.
    pub(super) fn explain(error: ConfigError, tree: &Value) -> Self {
        match error {
            ConfigError::NotFound(key) => {
                Self::Key { key, origin: None, detail: "is missing".to_owned() }
            }
            ConfigError::Type { origin, unexpected, expected, key: Some(key) } => {
                let found = unexpected.to_string();
                let detail = format!("expected {expected}, found {}", without_text(&found));
                Self::Key { origin: origin.or_else(|| origin_of(tree, &key)), key, detail }
            }
            ConfigError::At { error, key: Some(key), .. } => {
                Self::about(&key, &error.to_string(), tree)
            }
            ConfigError::Message(detail) => Self::about("", &detail, tree),
            other => Self::Unreadable(other.to_string()),
        }
    }

    /// A message about `table`, or about the key in it that the message names first.
    fn about(table: &str, message: &str, tree: &Value) -> Self {
        let dot = if table.is_empty() { "" } else { "." };
        let named = message.split('`').nth(1).map(|word| format!("{table}{dot}{word}"));
        let key = named.filter(|key| find(tree, key).is_some()).unwrap_or(table.to_owned());
        let detail = match message.strip_prefix("unknown field `").and_then(|m| m.split_once('`')) {
            Some((_, rest)) => format!("unknown key{rest}"),
            None => message.to_owned(),
        };
        match key.as_str() {
            "" => Self::Unreadable(detail),
            _ => Self::Key { origin: origin_of(tree, &key), key, detail },
        }
    }
}

impl std::fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |origin| write!(f, " (from {origin})"))
    }
}

/// Text may be a secret: only that it was text is told.
fn without_text(found: &str) -> &str {
    if found.starts_with("string") { "a text" } else { found }
}

fn origin_of(tree: &Value, key: &str) -> Option<String> {
    find(tree, key)?.origin().map(str::to_owned)
}
