//! Every dependency's licence is one that `deny.toml` allows.

use std::{collections::BTreeSet, path::Path, process::Command};

use serde_json::Value;

#[test]
fn every_dependency_has_an_allowed_licence() {
    let allowed = allowed();
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let offenders: Vec<_> = packages
        .iter()
        .filter_map(|package| {
            let expression = package["license"].as_str().unwrap_or("none");
            let fine = permits(expression, &allowed);
            (!fine).then(|| format!("{}: {expression}", package["name"].as_str().unwrap()))
        })
        .collect();
    assert!(packages.len() > 100, "only {} packages were found", packages.len());
    assert!(offenders.is_empty(), "not allowed by deny.toml: {offenders:#?}");
}

#[test]
fn expressions_are_understood() {
    let allowed = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
    let allowed = BTreeSet::from(allowed);
    for expression in [
        "MIT",
        "MIT OR GPL-3.0",
        "GPL-3.0/MIT",
        "ISC AND (GPL-3.0 OR MIT)",
        "(GPL-3.0 AND MIT) OR ISC",
        "Apache-2.0 WITH LLVM-exception OR GPL-3.0",
    ] {
        assert!(permits(expression, &allowed), "{expression}");
    }
    for expression in
        ["GPL-3.0", "MIT AND GPL-3.0", "ISC AND (GPL-3.0 OR LGPL-2.1)", "Apache-2.0", "none"]
    {
        assert!(!permits(expression, &allowed), "{expression}");
    }
}

fn allowed() -> BTreeSet<String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml"));
    let deny: toml::Table = toml::from_str(&text.unwrap()).unwrap();
    let allowed = deny["licenses"]["allow"].as_array().unwrap();
    allowed.iter().map(|licence| licence.as_str().unwrap().to_owned()).collect()
}

/// What is built on this machine. It was downloaded for that, so no network is needed; if it is not
/// all there, it is fetched.
fn metadata() -> Value {
    let version = String::from_utf8(cargo(&["-vV"]).unwrap()).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let arguments = ["metadata", "--format-version", "1", "--locked", "--filter-platform", host];
    let text = cargo(&[&arguments[..], &["--offline"]].concat()).or_else(|_| cargo(&arguments));
    serde_json::from_slice(&text.unwrap()).unwrap()
}

fn cargo(arguments: &[&str]) -> Result<Vec<u8>, String> {
    let mut command = Command::new(env!("CARGO"));
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments).output().unwrap();
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Whether an SPDX expression can be met with what is allowed.
fn permits(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<_> = spaced.split_whitespace().collect();
    let mut rest = &words[..];
    let met = any_of(&mut rest, allowed);
    assert!(rest.is_empty(), "not understood: {expression}");
    met
}

fn any_of(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut met = all_of(rest, allowed);
    while let ["OR", after @ ..] = *rest {
        *rest = after;
        met |= all_of(rest, allowed);
    }
    met
}

fn all_of(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut met = one(rest, allowed);
    while let ["AND", after @ ..] = *rest {
        *rest = after;
        met &= one(rest, allowed);
    }
    met
}

fn one(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    match *rest {
        ["(", after @ ..] => {
            *rest = after;
            let met = any_of(rest, allowed);
            *rest = rest.strip_prefix(&[")"]).expect("a closing bracket");
            met
        }
        [licence, "WITH", exception, after @ ..] => {
            *rest = after;
            allowed.contains(&format!("{licence} WITH {exception}"))
        }
        [licence, after @ ..] => {
            *rest = after;
            allowed.contains(*licence)
        }
        [] => false,
    }
}
