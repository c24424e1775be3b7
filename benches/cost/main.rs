//! What Ringback costs, as ratios in one run.
//!
//! `cargo bench` runs every case; `cargo bench -- http mock` those two. Machines differ and are
//! noisy, so a rate is always given beside that of a bare reqwest loop against the same emulator in
//! the same run. Each case starts a redis-server (AOF, everysec) and the release build of the
//! service for itself. Nothing here is a test: the figures are to be read by a person.

#![expect(clippy::cast_precision_loss, reason = "figures for people")]

mod bare;
mod cases;
mod emulator;
#[path = "../../tests/it/harness/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the harness serves the tests first")]
mod harness;
mod report;

/// Name, what it measures, and how.
type Case = (&'static str, &'static str, fn() -> futures_util::future::LocalBoxFuture<'static, ()>);

const CASES: &[Case] = &[
    ("http", "100,000 messages, POST to callback, against a bare reqwest loop", || {
        Box::pin(cases::http())
    }),
    ("mock", "500,000 messages through the mock at zero latency, POST to callback", || {
        Box::pin(cases::mock())
    }),
    ("latency", "POST to first submission, and last outcome to callback", || {
        Box::pin(cases::latency())
    }),
    ("memory", "Redis bytes a message, queued and done", || Box::pin(cases::memory())),
    ("rate", "200/s over three workers", || Box::pin(cases::rate())),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "emulator") {
        emulator::run().expect("the emulator");
        return;
    }
    // cargo passes flags of its own, such as --bench.
    let wanted: Vec<_> = arguments.iter().filter(|word| !word.starts_with('-')).collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for (name, what, case) in CASES {
        if wanted.is_empty() || wanted.contains(&&(*name).to_owned()) {
            println!("\n{name}: {what}");
            runtime.block_on(case());
        }
    }
}
