//! The sample configurations in `config/` can be used as they are.

use std::{collections::BTreeSet, path::Path};

use ringback::settings::{Findings, Layers, Settings};

use crate::harness::key_hash;

fn load(name: &str, variables: &[(&str, &str)]) -> Settings {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
    let variables = variables.iter().map(|(key, value)| (key.into(), value.into()));
    Layers::read(Some(&path), variables).unwrap().settings().unwrap()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn the_example_for_production_is_sound() {
    let settings = load(
        "production.toml",
        &[
            ("RINGBACK__STORE__URL", "rediss://ringback:hush@redis.internal:6379"),
            ("RINGBACK__CALLBACKS__SIGNING_SECRETS", "whsec_aHVzaGh1c2hodXNoaHVzaGh1c2hodXNo"),
            ("RINGBACK__PROVIDERS__CARRIER__HEADERS__AUTHORIZATION", "Bearer hush"),
        ],
    );
    assert_eq!(settings.check(), Findings::default());
    assert_eq!(settings.accounts.len(), 2);
    assert_eq!(settings.default_provider, "carrier");
}

#[test]
fn what_docker_compose_starts_is_sound() {
    assert_eq!(load("compose.toml", &[]).check(), Findings::default());
}

#[test]
fn the_sample_key_opens_the_sample_account() {
    let keys_of = |path: &str| -> BTreeSet<String> {
        let text = read(path);
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && !"_-".contains(c));
        words.filter(|word| word.starts_with("rbk_")).map(str::to_owned).collect()
    };
    let keys = keys_of("config/compose.toml");
    assert_eq!(keys.len(), 1);
    assert_eq!(keys_of("docker-compose.yml"), keys);
    let account = &load("compose.toml", &[]).accounts["sample"];
    assert_eq!(account.api_key_hashes, [key_hash(keys.first().unwrap())]);
}

#[test]
fn every_key_of_a_section_is_explained_in_the_default() {
    let text = read("config/default.toml");
    let mut above = "";
    for line in text.lines() {
        let is_key = line.split_once(" = ").is_some_and(|(key, _)| {
            key.trim_start_matches("# ")
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        });
        assert!(!is_key || above.starts_with('#') || above.starts_with('['), "{line}");
        above = line;
    }
}
