//! What Ringback costs, as ratios in one run.
//!
//! `cargo bench` runs every case; `cargo bench -- http mock` those two, `cargo bench -- http embedded`
//! one of them on one store. Machines differ and are
//! noisy, so a rate is always given beside that of a bare reqwest loop against the same emulator in
//! the same run. Each case starts the release build of the service for itself, with a
//! redis-server (AOF, everysec) or an embedded store (synced every second). Nothing here is a test: the figures are to be read by a person.

#![expect(clippy::cast_precision_loss, reason = "figures for people")]

mod bare;
mod broken;
mod cases;
mod emulator;
mod guarantee;
#[path = "../../tests/it/harness/mod.rs"]
#[expect(dead_code, unused_imports, unused_macros, reason = "the harness serves the tests first")]
mod harness;
mod lines;
mod optouts;
mod processes;
mod receipts;
mod report;
mod results;
mod scale;
mod senders;
mod slow;
mod steady;
mod steering;
mod watchers;

use futures_util::future::LocalBoxFuture;

use self::harness::Kind;

/// Name, what it measures, on which stores, and how.
type Case = (&'static str, &'static str, &'static [Kind], fn(Kind) -> LocalBoxFuture<'static, ()>);

const BOTH: &[Kind] = &[Kind::Embedded, Kind::Redis];

const CASES: &[Case] = &[
    ("http", "100,000 messages, POST to callback, against a bare reqwest loop", BOTH, |on| {
        Box::pin(cases::http(on))
    }),
    ("mock", "500,000 messages through the mock at zero latency, POST to callback", BOTH, |on| {
        Box::pin(cases::mock(on))
    }),
    ("latency", "POST to first submission, and last outcome to callback", BOTH, |on| {
        Box::pin(cases::latency(on))
    }),
    ("memory", "Redis bytes a message, queued and done", &[Kind::Redis], |_| {
        Box::pin(cases::memory())
    }),
    ("disk", "bytes on disk a message, queued and done", &[Kind::Embedded], |_| {
        Box::pin(cases::disk())
    }),
    ("intake", "1,000,000 and 5,000,000 lines, until they are accepted", BOTH, |on| {
        Box::pin(scale::intake(on))
    }),
    ("curve", "the cost of a message through the mock, by the size of the batch", BOTH, |on| {
        Box::pin(scale::curve(on))
    }),
    ("broken", "half of 1,000,000 lines, and then the end", BOTH, |on| {
        Box::pin(broken::broken(on))
    }),
    ("steering", "1,000,000 messages that are canceled, or paused", BOTH, |on| {
        Box::pin(steering::steering(on))
    }),
    ("watchers", "200,000 messages at 20,000/s, 200 who watch, and nobody", BOTH, |on| {
        Box::pin(watchers::watchers(on))
    }),
    ("guarantee", "200,000 messages at 20,000/s, at most once and at least once", BOTH, |on| {
        Box::pin(guarantee::guarantee(on))
    }),
    ("receipts", "5,000 receipts/s beside a dispatch of 10,000/s", BOTH, |on| {
        Box::pin(receipts::receipts(on))
    }),
    ("optouts", "a list of 1,000,000 opt-outs, and 1,000,000 checks", BOTH, |on| {
        Box::pin(optouts::optouts(on))
    }),
    ("optouts-intake", "1,000,000 lines beside 1,000,000 opt-outs", BOTH, |on| {
        Box::pin(optouts::optouts_intake(on))
    }),
    ("results", "the 1,000,000 messages of a batch, as lines", BOTH, |on| {
        Box::pin(results::results(on))
    }),
    (
        "slow",
        "requests beside 10,000 idle and 1,000 dripping connections",
        &[Kind::Embedded],
        |on| Box::pin(slow::slow(on)),
    ),
    ("senders", "two senders at 10/s each on a provider of 15/s, for a minute", BOTH, |on| {
        Box::pin(senders::senders(on))
    }),
    ("rate", "200/s over three workers", &[Kind::Redis], |_| Box::pin(cases::rate())),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "emulator") {
        emulator::run().expect("the emulator");
        return;
    }
    if let [first, address] = arguments.as_slice()
        && first == "crowd"
    {
        tokio::runtime::Runtime::new().expect("a runtime").block_on(slow::crowd(address));
        return;
    }
    // cargo passes flags of its own, such as --bench.
    let wanted: Vec<_> = arguments.iter().filter(|word| !word.starts_with('-')).collect();
    let (stores, cases): (Vec<&str>, Vec<&str>) = wanted
        .iter()
        .map(|word| word.as_str())
        .partition(|word| BOTH.iter().any(|on| name(*on) == *word));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for (case, what, kinds, run) in CASES {
        if !cases.is_empty() && !cases.contains(case) {
            continue;
        }
        for on in *kinds {
            if stores.is_empty() || stores.contains(&name(*on)) {
                println!("\n{case} on {}: {what}", name(*on));
                runtime.block_on(run(*on));
            }
        }
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Redis => "redis",
        Kind::Embedded => "embedded",
    }
}
