//! The folders of `src` import each other in one direction only, and the domain imports no driver.
//!
//! What a part may import is the table below; the sources are read as text, and every
//! `crate::part` in them counts, whether in a `use` or in the middle of a line.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Each part, and which parts it may import.
const RULES: [(&str, &[&str]); 14] = [
    ("domain", &[]),
    ("clock", &["domain"]),
    ("crash", &[]),
    ("telemetry", &[]),
    ("store", &["domain", "clock"]),
    ("providers", &["domain"]),
    ("dispatch", &["domain", "store", "providers", "clock", "crash", "telemetry"]),
    ("callbacks", &["domain", "store", "providers", "clock", "crash", "telemetry"]),
    ("receipts", &["domain", "store", "clock", "telemetry"]),
    ("api", &["domain", "store", "providers", "receipts", "clock", "crash", "telemetry"]),
    ("settings", &["domain", "store", "providers", "dispatch", "callbacks", "api", "telemetry"]),
    (
        "app",
        &[
            "domain",
            "store",
            "providers",
            "dispatch",
            "callbacks",
            "receipts",
            "api",
            "clock",
            "telemetry",
            "settings",
        ],
    ),
    ("client", &["domain", "api"]),
    ("cli", &["app", "settings", "telemetry", "client", "domain", "api"]),
];

/// Who knows the API from outside: by its requests and answers.
const CALLERS: [&str; 2] = ["client", "cli"];

/// Crates that the domain must do without: whatever waits, talks or stores.
const DRIVERS: [&str; 9] =
    ["tokio", "tokio_util", "axum", "tower", "redis", "reqwest", "hyper", "hyper_util", "config"];

#[test]
fn imports_point_one_way() {
    let mut offences = Vec::new();
    for (part, allowed) in RULES {
        for (path, text) in sources(part) {
            for imported in imports(&text) {
                if imported != part && !allowed.contains(&imported.as_str()) {
                    offences.push(format!("{} imports {imported}", path.display()));
                }
            }
        }
    }
    assert!(offences.is_empty(), "{offences:#?}");
}

#[test]
fn the_table_knows_every_part() {
    let known: BTreeSet<_> = RULES.iter().map(|(part, _)| (*part).to_owned()).collect();
    let lib = fs::read_to_string(src().join("lib.rs")).unwrap();
    let parts = lib.lines().filter_map(|line| {
        line.strip_prefix("pub ").unwrap_or(line).strip_prefix("mod ")?.strip_suffix(';')
    });
    assert_eq!(parts.map(str::to_owned).collect::<BTreeSet<_>>(), known);
}

#[test]
fn callers_know_the_api_by_its_model_only() {
    for (path, text) in CALLERS.into_iter().flat_map(sources) {
        let code = code(&text);
        for (at, _) in code.match_indices("api::") {
            let is_part = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            let named = &code[at..code.len().min(at + 40)];
            assert!(!is_part || named.starts_with("api::model::"), "{}: {named}", path.display());
        }
    }
}

#[test]
fn the_domain_has_no_driver() {
    for (path, text) in sources("domain") {
        for driver in DRIVERS {
            let named = text.match_indices(&format!("{driver}::")).any(|(at, _)| {
                !text[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
            });
            assert!(!named, "{} names {driver}", path.display());
        }
        assert!(!text.contains("async "), "{} is not pure", path.display());
    }
}

#[test]
fn the_program_goes_through_the_command_line_only() {
    let main = fs::read_to_string(src().join("main.rs")).unwrap();
    for (at, _) in main.match_indices("ringback::") {
        assert!(main[at..].starts_with("ringback::cli"), "{}", &main[at..]);
    }
}

#[test]
fn imports_are_seen_wherever_they_stand() {
    let text = "use crate::{\n    domain::{ids::BatchId, time},\n    store::Store,\n    clock,\n};\n\
                fn f(x: crate::api::Api) {}\n// crate::telemetry in a comment does not count\n";
    let seen = imports(text);
    let expected = ["api", "clock", "domain", "store"].map(str::to_owned);
    assert_eq!(seen, BTreeSet::from(expected));
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The sources of a part: its file, and all files in its folder.
fn sources(part: &str) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut open = vec![src().join(part), src().join(format!("{part}.rs"))];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") && path.exists() {
            let text = fs::read_to_string(&path).unwrap();
            files.push((path, text));
        }
    }
    assert!(!files.is_empty(), "there is no part {part}");
    files
}

/// A source without its comments.
fn code(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// The parts that a source names by `crate::…`.
fn imports(text: &str) -> BTreeSet<String> {
    let code = code(text);
    let mut parts = BTreeSet::new();
    for (at, path) in code.match_indices("crate::") {
        let rest = &code[at + path.len()..];
        match rest.strip_prefix('{') {
            Some(list) => parts.extend(first_words(list)),
            None => parts.extend(first_words(rest).into_iter().next()),
        }
    }
    parts
}

/// The first word of each item in a list, up to the bracket that closes it.
fn first_words(list: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let (mut depth, mut within) = (0, true);
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                words.push(String::new());
                within = true;
            }
            c if depth == 0 && within && (c.is_alphanumeric() || c == '_') => {
                words.last_mut().unwrap().push(c);
            }
            c if depth == 0 && !c.is_whitespace() => within = false,
            _ => {}
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
