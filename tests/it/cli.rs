//! The command line: what it prints, and how it ends.

use std::io::Write;

use tempfile::NamedTempFile;

use crate::harness::{Ran, Redis, command, key_hash, run_to_end, variable};

/// Runs the program with arguments and settings from the environment.
fn run(arguments: &[&str], settings: &[(&str, &str)]) -> Ran {
    let mut command = command();
    command.args(arguments);
    command.envs(settings.iter().map(|(key, value)| (variable(key), value)));
    run_to_end(command)
}

fn file(toml: &str) -> NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    file.write_all(toml.as_bytes()).unwrap();
    file
}

#[test]
fn config_show_masks_every_secret() {
    let file = file(
        r#"
        [store]
        url = "redis://ringback:hush@127.0.0.1:6379"
        [callbacks]
        signing_secrets = ["whsec_aHVzaGh1c2hodXNoaHVzaGh1c2hodXNo"]
        [providers.carrier]
        kind = "http"
        url = "http://127.0.0.1:9/send?token=hush"
        headers = { Authorization = "Bearer hush" }
        "#,
    );
    let shown = run(&["config", "show", "--config", file.path().to_str().unwrap()], &[]);
    assert_eq!(shown.code, 0, "{}", shown.err);
    assert!(!shown.out.contains("hush") && !shown.out.contains("aHVz"), "{}", shown.out);
    assert!(shown.out.contains("redis://ringback:********@127.0.0.1:6379"), "{}", shown.out);
    assert!(shown.out.contains("[providers.carrier]"), "{}", shown.out);
}

#[test]
fn an_unknown_key_is_named_with_where_it_came_from() {
    let file = file("[worker]\nleese = \"9s\"\n");
    let path = file.path().to_str().unwrap();
    let from_file = run(&["config", "show", "--config", path], &[]);
    assert_eq!(from_file.code, 2);
    assert!(from_file.err.contains("worker.leese (from "), "{}", from_file.err);
    let name = file.path().file_name().unwrap().to_str().unwrap();
    assert!(from_file.err.contains(name), "{}", from_file.err);
    let from_variable = run(&["serve"], &[("server.lissten", "127.0.0.1:0")]);
    assert_eq!(from_variable.code, 2);
    assert!(from_variable.err.contains("RINGBACK__SERVER__LISSTEN"), "{}", from_variable.err);
}

#[test]
fn config_check_refuses_to_be_open_to_everyone() {
    let open = [("server.listen", "0.0.0.0:8080")];
    let checked = run(&["config", "check"], &open);
    assert_eq!(checked.code, 1);
    assert!(checked.err.contains("error: server.listen: "), "{}", checked.err);
    assert!(checked.err.contains("warning: server.public_url: "), "{}", checked.err);
    // The server refuses it too.
    assert_eq!(run(&["serve"], &open).code, 2);
    let checked = run(&["config", "check"], &[]);
    assert_eq!((checked.code, checked.err.as_str()), (0, ""));
}

#[test]
fn a_new_key_comes_with_its_hash_and_can_be_configured() {
    let made = run(&["key", "new", "acme"], &[]);
    assert_eq!(made.code, 0, "{}", made.err);
    let word = |prefix: &str| {
        let rest = &made.out[made.out.find(prefix).unwrap()..];
        rest[..rest.find(['\n', '"']).unwrap()].to_owned()
    };
    let (key, hash) = (word("rbk_"), word("sha256:"));
    // 256 bits in base64 without padding.
    assert_eq!(key.len(), "rbk_".len() + 43);
    assert_eq!(hash, key_hash(&key));
    let section = &made.out[made.out.find("[accounts.acme]").unwrap()..];
    let file = file(section);
    let open = [("server.listen", "0.0.0.0:8080")];
    let checked = run(&["config", "check", "--config", file.path().to_str().unwrap()], &open);
    assert_eq!(checked.code, 0, "{}", checked.err);
    assert_ne!(run(&["key", "new", "acme"], &[]).out, made.out);
    assert_eq!(run(&["key", "new", "Not A Name"], &[]).code, 2);
}

#[test]
fn a_new_key_with_scopes_comes_with_a_name_and_can_be_added_at_the_end() {
    let new = |arguments: &[&str]| run(&[&["key", "new", "acme"], arguments].concat(), &[]);
    let section =
        |made: &Ran| made.out[made.out.find("[[accounts.acme.keys]]").unwrap()..].to_owned();
    let shop = new(&["--name", "shop", "--scope", "read", "--scope", "submit", "--scope", "read"]);
    assert_eq!(shop.code, 0, "{}", shop.err);
    assert!(shop.out.contains("name = \"shop\"\n"), "{}", shop.out);
    assert!(shop.out.ends_with("scopes = [\"submit\", \"read\"]\n"), "{}", shop.out);
    let reader = new(&["--scope", "read"]);
    let both = file(&[section(&shop), section(&reader)].concat());
    let checked = run(&["config", "check", "--config", both.path().to_str().unwrap()], &[]);
    assert_eq!((checked.code, checked.err.as_str()), (0, ""));
    for wrong in
        [&["--scope", "write"][..], &["--name", "shop"], &["--scope", "read", "--name", "S"]]
    {
        assert_eq!(new(wrong).code, 2, "{wrong:?}");
    }
}

#[test]
fn a_new_secret_can_be_configured_and_shown() {
    let made = run(&["secret", "new"], &[]);
    let secret = made.out.trim();
    assert!(secret.starts_with("whsec_"), "{}", made.out);
    assert!(standardwebhooks::Webhook::new(secret).is_ok());
    let settings = [("callbacks.signing_secrets", secret)];
    assert_eq!(run(&["config", "check"], &settings).code, 0);
    // No store is asked.
    let shown = run(&["secret", "show"], &settings);
    assert_eq!(shown.out.trim(), secret, "{}", shown.err);
}

#[tokio::test]
async fn without_a_configured_secret_the_store_keeps_one() {
    let redis = Redis::start().await;
    let url = redis.url();
    let show = || run(&["secret", "show"], &[("store.url", &url)]);
    let first = show();
    assert!(first.out.starts_with("whsec_"), "{}", first.err);
    assert_eq!(show().out, first.out);
}

#[test]
fn the_secret_of_an_embedded_store_is_not_made_up_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let url = format!("embedded:{}", store.display());
    let shown = run(&["secret", "show"], &[("store.url", &url)]);
    assert_eq!((shown.code, shown.out.as_str()), (1, ""), "{}", shown.err);
    assert!(shown.err.contains(&store.display().to_string()), "{}", shown.err);
    assert!(!store.exists(), "a store was made");
    assert_eq!(run(&["secret", "show"], &[("store.url", "embeded:store")]).code, 2);
}

#[test]
fn openapi_prints_the_document() {
    let printed = run(&["openapi"], &[]);
    let document: serde_json::Value = serde_json::from_str(&printed.out).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert!(document["paths"]["/v1/batches"]["post"].is_object());
}

#[test]
fn a_wrong_call_is_told_from_a_failure() {
    assert_eq!(run(&["serve", "--role", "dishwasher"], &[]).code, 2);
    assert_eq!(run(&["frobnicate"], &[]).code, 2);
    let missing = run(&["serve", "--config", "/nowhere/ringback.toml"], &[]);
    assert_eq!(missing.code, 2);
    assert!(missing.err.contains("/nowhere/ringback.toml"), "{}", missing.err);
    assert_eq!(run(&["--version"], &[]).code, 0);
}
