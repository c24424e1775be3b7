//! Row 18: the clock that the store goes by is stepped, two hours on and two hours back. No burst, no
//! stall.
//!
//! On the embedded store it is the process's own clock, and faketime steps it. Redis can't be run
//! under faketime (its allocator asks for the time before that is ready); so every instant that is
//! stored is moved the other way, which is what a step looks like to the scripts.

use std::{fs, path::PathBuf, process::Command};

use tempfile::TempDir;

use super::{Row, Stage, after, calls, compare, scene, within_rate};
use crate::{
    harness::{Kind, Mode, Redis},
    scene::numbers,
};

const RATE: usize = 400;
const MESSAGES: usize = 1_600;

/// A clock of the test's own, by a library that is loaded into the process.
struct Clock(TempDir);

// === impl Clock ===

impl Clock {
    fn new() -> Self {
        let clock = Self(tempfile::tempdir().unwrap());
        clock.step("+0");
        clock
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("offset")
    }

    /// Sets it so far off, such as `+2h`.
    fn step(&self, offset: &str) {
        // Whoever reads it meanwhile must not find half of it.
        let next = self.0.path().join("next");
        fs::write(&next, offset).unwrap();
        fs::rename(next, self.file()).unwrap();
    }

    /// What a process needs in its environment to go by it.
    fn environment(&self) -> [(&'static str, String); 4] {
        let mut wrapped = Command::new("faketime");
        wrapped.args(["-m", "-f", "+0", "printenv", "LD_PRELOAD"]);
        let found = wrapped.output().expect("faketime is missing: scripts/test installs it");
        let library = String::from_utf8(found.stdout).unwrap().trim().to_owned();
        [
            ("LD_PRELOAD", library),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }
}

/// Moves all instants that are stored as if the clock had been stepped by so many hours.
fn step(redis: &Redis, hours: i64) {
    // Scores that are instants are in milliseconds since 1970; turns and places are far smaller.
    const SCRIPT: &str = "for _, k in ipairs(redis.call('KEYS', 'rb:*')) do \
         local t = redis.call('TYPE', k).ok \
         if t == 'zset' then local m = redis.call('ZRANGE', k, 0, -1, 'WITHSCORES') \
         for i = 1, #m, 2 do if tonumber(m[i + 1]) > 1e12 then \
         redis.call('ZADD', k, m[i + 1] - ARGV[1], m[i]) end end \
         elseif string.find(k, '{rate:', 1, true) then for _, f in ipairs({ 'clock', 'paused' }) do \
         local v = redis.call('HGET', k, f) if v then \
         redis.call('HSET', k, f, string.format('%.0f', v - ARGV[1] * 1000)) end end end end return 1";
    let moved = redis.ask(&format!("EVAL \"{SCRIPT}\" 0 {}", hours * 3_600_000));
    assert_eq!(moved.trim(), ":1", "{moved}");
}

#[tokio::test]
async fn a_stepped_clock_of_redis_brings_no_burst_and_no_stall() {
    let mut row = Row::begin(18, "clock stepped by ±2 h", Kind::Redis, "I1 I6 I8 I9 I10");
    let mut stage = Stage::set().await;
    stage.provider.set(Mode::Accept);
    let rate = format!("{RATE}/s");
    let _worker = stage.worker().set("providers.carrier.rate", &rate).start().await;
    stage.post(MESSAGES).await;
    for (turn, hours) in [2, -4, 2].into_iter().enumerate() {
        stage.calls((turn + 1) * MESSAGES / 5).await;
        step(&stage.redis, hours);
        row.inject("step");
    }
    // Each step may end a lease.
    let found = stage.compare(after(3)).await;
    found.all_sent();
    let most = within_rate(&stage.provider, RATE);
    assert!(row.elapsed().as_secs() < 15, "it stood still");
    row.end(&found, format!("at most {most} in any second, of {RATE}"));
}

#[tokio::test]
async fn a_stepped_clock_of_the_process_brings_no_burst_and_no_stall() {
    let mut row = Row::begin(18, "clock stepped by ±2 h", Kind::Embedded, "I1 I6 I8 I9 I10");
    let clock = Clock::new();
    let scene = scene(Kind::Embedded, |setup| {
        let setup = setup.set("providers.carrier.rate", &format!("{RATE}/s"));
        clock.environment().iter().fold(setup, |setup, (name, value)| setup.env(name, value))
    })
    .await;
    scene.provider.set(Mode::Accept);
    let id = scene.post(numbers(0..MESSAGES)).await;
    for (turn, offset) in ["+2h", "-2h", "+0"].into_iter().enumerate() {
        calls(&scene.provider, (turn + 1) * MESSAGES / 5).await;
        clock.step(offset);
        row.inject("step");
    }
    clock.step("+0");
    let found = compare(&scene, &[(id, MESSAGES as u64)], after(3)).await;
    found.all_sent();
    let most = within_rate(&scene.provider, RATE);
    assert!(row.elapsed().as_secs() < 15, "it stood still");
    row.end(&found, format!("at most {most} in any second, of {RATE}"));
}
