//! A row of the suite's table: which fault, how often it was injected, and what was counted.
//!
//! A row prints itself when it ends, past the capture of the test runner, so that every run shows
//! the whole table. One that fails prints that, with the seed to repeat it by.

use std::{
    fmt::Display,
    fs::OpenOptions,
    io::Write,
    time::{Duration, Instant},
};

use rand::{SeedableRng, rngs::StdRng};

use super::books::Found;
use crate::harness::Kind;

/// The variable that repeats what an earlier run drew by lot.
const SEED: &str = "FAULTS_SEED";

/// Where the rows of this and of earlier runs are kept, one a line.
const TABLE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/faults.txt");

/// One row.
pub(crate) struct Row {
    number: u8,
    fault: &'static str,
    store: &'static str,
    holds: &'static str,
    began: Instant,
    injected: Vec<(&'static str, u32)>,
    seed: Option<u64>,
    printed: bool,
}

// === impl Row ===

impl Row {
    /// Row `number`: under this fault these invariants must hold.
    pub(crate) fn begin(number: u8, fault: &'static str, on: Kind, holds: &'static str) -> Self {
        let store = match on {
            Kind::Redis => "Redis",
            Kind::Embedded => "embedded",
        };
        let (began, injected) = (Instant::now(), Vec::new());
        Self { number, fault, store, holds, began, injected, seed: None, printed: false }
    }

    /// Something to draw lots by, the same again for the same `FAULTS_SEED`.
    pub(crate) fn lots(&mut self) -> StdRng {
        let given = std::env::var(SEED).ok().map(|seed| seed.parse().expect("a number"));
        let seed = *self.seed.insert(given.unwrap_or_else(rand::random));
        StdRng::seed_from_u64(seed)
    }

    /// Notes that something was done to the service.
    pub(crate) fn inject(&mut self, what: &'static str) {
        self.inject_times(what, 1);
    }

    /// Notes that something was done to the service so often.
    pub(crate) fn inject_times(&mut self, what: &'static str, times: u32) {
        match self.injected.iter_mut().find(|(known, _)| *known == what) {
            Some((_, known)) => *known += times,
            None => self.injected.push((what, times)),
        }
    }

    /// How often anything was done to it.
    pub(crate) fn injected(&self) -> u32 {
        self.injected.iter().map(|(_, times)| times).sum()
    }

    /// How long it has lasted.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Prints the row. `beside` is what else was measured.
    pub(crate) fn end(mut self, found: &Found, beside: impl Display) {
        self.print(&found.to_string(), &beside.to_string());
    }

    fn print(&mut self, found: &str, beside: &str) {
        self.printed = true;
        let injected: Vec<_> =
            self.injected.iter().map(|(what, times)| format!("{times} × {what}")).collect();
        let seed = self.seed.map(|seed| format!(" seed {seed}")).unwrap_or_default();
        let line = format!(
            "| {:>2} | {} | {} | {}{seed} | {found} | {:.1} s | {} | {beside} |\n",
            self.number,
            self.fault,
            self.store,
            injected.join(", "),
            self.began.elapsed().as_secs_f64(),
            self.holds,
        );
        // Straight to the stream: what the macros print is shown of failed tests only.
        let _ = std::io::stderr().write_all(line.as_bytes());
        let table = OpenOptions::new().create(true).append(true).open(TABLE);
        let _ = table.and_then(|mut table| table.write_all(line.as_bytes()));
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        if !self.printed && std::thread::panicking() {
            self.print("FAILED | | | ", "");
        }
    }
}
