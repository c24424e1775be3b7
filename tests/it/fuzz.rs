//! The properties that `fuzz/` looks for exceptions from, on its corpus and on changed copies of it.
//!
//! Without a variable this takes a moment, and does the same every time. `RINGBACK_FUZZ_SECONDS=60`
//! goes on for a minute a property with other changes each time. An input that breaks a property is
//! named with its bytes: put it into the corpus, and the property right.

use std::{
    fs,
    panic::catch_unwind,
    path::Path,
    time::{Duration, Instant},
};

use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng, seq::IndexedRandom};

#[path = "../../fuzz/src/properties/mod.rs"]
mod properties;

use properties::TARGETS;

/// Changed inputs of each property where no time is given.
const CHANGED: u64 = 500;

/// The longest changed input, in bytes.
const LENGTH_MAX: usize = 8 * 1024;

/// What is put into inputs: what the formats are made of.
const WORDS: [&[u8]; 44] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"\\\"",
    b"null",
    b"1e400",
    b"true",
    b"\0",
    b"\n",
    b"\r\n",
    b" ",
    b"\xff",
    b"\xc3\xa9",
    b"\xef\xbb\xbf",
    b"{{",
    b"}}",
    b"{{a}}",
    b"\"body\":\"Hi\",",
    b"\"recipients\":[]",
    b"\"to\":\"+15550000001\",",
    b"\"variables\":{\"a\":1}",
    b"\"metadata\":{\"a\":[1]},",
    b"\"duplicates\":\"skip\",",
    b"\"reference\":\"r\"",
    b"+15550000001",
    b"http://",
    b"https://",
    b"@",
    b"127.0.0.1",
    b"[::1]",
    b"0x7f",
    b"%31",
    b".",
    b"#",
    b"?",
    b"/",
    b"\xe3\x80\x82",
];

/// The corpus of a property: names and bytes.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        })
        .collect();
    inputs.sort();
    inputs
}

#[test]
fn the_corpus_holds() {
    for (target, check) in TARGETS {
        let inputs = corpus(target);
        assert!(inputs.len() >= 20, "{target} has {} inputs", inputs.len());
        for (name, input) in &inputs {
            assert!(catch_unwind(|| check(input)).is_ok(), "{target}: {name}");
        }
    }
}

#[test]
fn changed_inputs_hold() {
    let seconds = std::env::var("RINGBACK_FUZZ_SECONDS").ok().map(|text| text.parse().unwrap());
    let only = std::env::var("RINGBACK_FUZZ_TARGET").ok();
    for (target, check) in TARGETS {
        if only.as_ref().is_some_and(|only| only != target) {
            continue;
        }
        let inputs: Vec<_> = corpus(target).into_iter().map(|(_, input)| input).collect();
        let seed = if seconds.is_some() { rand::random() } else { 1 };
        let mut random = SmallRng::seed_from_u64(seed);
        let (begun, mut executions) = (Instant::now(), 0_u64);
        let goes_on = |executions| match seconds {
            Some(seconds) => begun.elapsed() < Duration::from_secs(seconds),
            None => executions < CHANGED,
        };
        while goes_on(executions) {
            let input = changed(&inputs, &mut random);
            executions += 1;
            assert!(
                catch_unwind(|| check(&input)).is_ok(),
                "{target}, seed {seed}: \"{}\"",
                input.escape_ascii()
            );
        }
        println!("{target}: {executions} executions in {:?}", begun.elapsed());
    }
}

/// One of the inputs, changed in a few places.
fn changed(inputs: &[Vec<u8>], random: &mut SmallRng) -> Vec<u8> {
    let mut input = inputs.choose(random).unwrap().clone();
    for _ in 0..random.random_range(1..=8) {
        change(&mut input, inputs, random);
    }
    input.truncate(LENGTH_MAX);
    input
}

fn change(input: &mut Vec<u8>, inputs: &[Vec<u8>], random: &mut impl Rng) {
    let at = random.random_range(0..=input.len());
    let end = random.random_range(at..=input.len().min(at + 16));
    match random.random_range(0..7) {
        0 => drop(input.splice(at..at, WORDS.choose(random).unwrap().iter().copied())),
        1 => drop(input.splice(at..end, WORDS.choose(random).unwrap().iter().copied())),
        2 => drop(input.drain(at..end)),
        3 => {
            // Something is there twice.
            let part = input[at..end].to_vec();
            drop(input.splice(at..at, part));
        }
        4 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.random_range(0..8);
            }
        }
        5 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = random.random();
            }
        }
        _ => {
            // The rest is that of another input.
            let other = inputs.choose(random).unwrap();
            let from = random.random_range(0..=other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
    }
}
