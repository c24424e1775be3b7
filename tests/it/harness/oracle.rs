//! Programs of tests/oracles: other people's libraries, each asked a case a line.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::Value;

/// A program that reads a JSON value a line, and answers each with a line.
pub(crate) struct Oracle(Command);

// === impl Oracle ===

impl Oracle {
    /// A program in Python, with the packages that `scripts/oracles` installs.
    pub(crate) fn python(name: &str) -> Self {
        let mut python = Command::new(installed("python/bin/python"));
        python.arg(program(name));
        Self(python)
    }

    /// A program for Node.js, which is told where `scripts/oracles` installs its packages.
    pub(crate) fn node(name: &str) -> Self {
        let mut node = Command::new("node");
        node.arg(program(name)).arg(installed("node"));
        Self(node)
    }

    /// Its answers.
    pub(crate) fn answers(self, cases: impl Iterator<Item = Value>) -> Vec<String> {
        let Self(mut command) = self;
        let child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| {
            panic!("{command:?} can't be started ({error}): scripts/oracles installs what it needs")
        });
        let (mut input, mut asked) = (child.stdin.take().unwrap(), 0);
        for case in cases {
            // One that has ended already says why on its stderr.
            let _ = writeln!(input, "{case}");
            asked += 1;
        }
        drop(input);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let answers: Vec<_> = said.lines().map(str::to_owned).collect();
        let is_whole = output.status.success() && answers.len() == asked;
        assert!(is_whole, "{command:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        answers
    }
}

fn program(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/oracles", name].iter().collect()
}

fn installed(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "target/oracles", name].iter().collect()
}
