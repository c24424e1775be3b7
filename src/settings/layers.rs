//! The layers: the built-in default, a file, the environment, each over the one before.

use std::{ffi::OsString, path::Path};

use config::{Config, File, FileFormat, Source, Value, ValueKind};

use super::{Settings, environment::Environment, error::SettingsError, shown};

/// The built-in layer: every key with its default, its unit and its effect.
pub const DEFAULT_TOML: &str = include_str!("../../config/default.toml");

/// All layers, one over the other. Every value knows where it came from.
#[derive(Debug)]
pub struct Layers(Value);

// === impl Layers ===

impl Layers {
    /// Reads the built-in default, then `file`, then `variables`.
    ///
    /// # Errors
    /// [`SettingsError`] if the file can't be read or is no TOML, or a variable is no key.
    pub fn read(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SettingsError> {
        let mut layers =
            Config::builder().add_source(File::from_str(DEFAULT_TOML, FileFormat::Toml));
        if let Some(path) = file {
            if !path.is_file() {
                let detail = format!("there is no file {}", path.display());
                return Err(SettingsError::Unreadable(detail));
            }
            layers = layers.add_source(File::from(path).format(FileFormat::Toml));
        }
        let merged = layers.add_source(Environment::read(variables)?).build();
        match merged.and_then(|config| config.collect()) {
            Ok(tree) => Ok(Self(Value::new(None, tree))),
            Err(error) => Err(SettingsError::broken(&error)),
        }
    }

    /// The settings these layers make.
    ///
    /// # Errors
    /// [`SettingsError`] for the first key that is wrong.
    pub fn settings(&self) -> Result<Settings, SettingsError> {
        let tree = self.0.clone();
        tree.try_deserialize().map_err(|error| SettingsError::explain(error, &self.0))
    }

    /// All of it as TOML with secrets masked, for people to read.
    ///
    /// # Errors
    /// [`SettingsError`] for the first key that is wrong.
    pub fn shown(&self) -> Result<String, SettingsError> {
        shown::toml(&self.settings()?)
    }
}

/// What stands at a path such as `callbacks.schedule[2]`.
pub(super) fn find<'a>(tree: &'a Value, path: &str) -> Option<&'a Value> {
    let steps = path.split(['.', '[']).map(|step| step.trim_end_matches(']'));
    steps.into_iter().try_fold(tree, |node, step| match &node.kind {
        ValueKind::Table(table) => table.get(step),
        ValueKind::Array(items) => items.get(step.parse::<usize>().ok()?),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::{io::Write, time::Duration};

    use super::*;

    fn read(file: &str, variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let mut path = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        path.write_all(file.as_bytes()).unwrap();
        let variables = variables.iter().map(|(key, value)| (key.into(), value.into()));
        Layers::read(Some(path.path()), variables)?.settings()
    }

    fn error(file: &str, variables: &[(&str, &str)]) -> String {
        read(file, variables).unwrap_err().to_string()
    }

    #[test]
    fn the_default_stands_by_itself_and_is_sound() {
        let settings = Layers::read(None, []).unwrap().settings().unwrap();
        assert_eq!(settings.default_provider, "mock");
        assert_eq!(settings.providers.keys().collect::<Vec<_>>(), ["mock"]);
        let findings = settings.check();
        assert!(findings.errors.is_empty() && findings.warnings.is_empty(), "{findings:?}");
    }

    #[test]
    fn a_later_layer_overrides_an_earlier_one_key_by_key() {
        let file = "[worker]\nlease = \"9s\"\nchunk_size = 7\n";
        let settings = read(file, &[("RINGBACK__WORKER__LEASE", "11s")]).unwrap();
        assert_eq!(settings.worker.lease, Duration::from_secs(11));
        assert_eq!(settings.worker.chunk_size, 7);
        assert_eq!(settings.worker.drain_timeout, Duration::from_secs(25));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_path_and_its_origin() {
        let in_file = error("[worker]\nleese = \"9s\"\n", &[]);
        assert!(in_file.starts_with("worker.leese (from "), "{in_file}");
        assert!(
            in_file.contains(".toml): unknown key") && in_file.contains("`lease`"),
            "{in_file}"
        );
        let at_the_top = error("colour = 1\n", &[]);
        assert!(at_the_top.starts_with("colour (from "), "{at_the_top}");
        let variable = error("", &[("RINGBACK__STORE__URI", "redis://x")]);
        assert!(variable.starts_with("store.uri (from RINGBACK__STORE__URI)"), "{variable}");
        let provider = error("", &[("RINGBACK__PROVIDERS__MOCK__LATENZY", "1s")]);
        assert!(provider.starts_with("providers.mock.latenzy (from RINGBACK__"), "{provider}");
    }

    #[test]
    fn a_wrong_type_names_the_key_and_what_was_expected() {
        let number = error("[worker]\nchunk_size = \"many\"\n", &[]);
        assert!(number.starts_with("worker.chunk_size (from "), "{number}");
        assert!(number.contains("expected an integer") && !number.contains("many"), "{number}");
        let span = error("", &[("RINGBACK__CALLBACKS__SCHEDULE", "5s,soon")]);
        assert!(span.starts_with("callbacks.schedule") && span.contains("\"soon\""), "{span}");
        assert!(span.contains("RINGBACK__CALLBACKS__SCHEDULE"), "{span}");
        let hash = error("", &[("RINGBACK__ACCOUNTS__ACME__API_KEY_HASHES", "rbk_hush")]);
        assert!(hash.starts_with("accounts.acme.api_key_hashes"), "{hash}");
        assert!(hash.contains("sha256:") && !hash.contains("hush"), "{hash}");
        let missing = error("[providers.carrier]\nkind = \"http\"\n", &[]);
        assert!(missing.contains("providers.carrier") && missing.contains("url"), "{missing}");
    }

    #[test]
    fn what_is_no_toml_and_what_is_not_there_say_so() {
        let broken = error("[callbacks]\nsigning_secrets = [\"whsec_hush\n", &[]);
        assert!(broken.contains("line 2, ") && broken.contains(".toml"), "{broken}");
        assert!(!broken.contains("hush") && !broken.contains('\n'), "{broken}");
        let missing = Layers::read(Some(Path::new("/nowhere/ringback.toml")), []).unwrap_err();
        assert_eq!(missing.to_string(), "there is no file /nowhere/ringback.toml");
    }

    #[test]
    fn paths_are_found_in_the_tree() {
        let Layers(tree) = Layers::read(None, []).unwrap();
        assert!(find(&tree, "callbacks.schedule[0]").is_some());
        assert!(find(&tree, "callbacks.schedule[99]").is_none());
        assert!(find(&tree, "callbacks.nothing.here").is_none());
    }
}
