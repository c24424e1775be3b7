//! A run of the program whose words are read while it runs.

use std::{
    fs::File,
    process::{Child, Command, Stdio},
};

use tempfile::NamedTempFile;

use super::{PATIENCE, eventually, signal};

/// The run. Killed when dropped; what it said is shown if the test fails.
pub(crate) struct Watched {
    child: Child,
    out: NamedTempFile,
    err: NamedTempFile,
}

// === impl Watched ===

impl Watched {
    /// Starts a command that reads nothing.
    pub(crate) fn start(command: Command) -> Self {
        Self::reading(Stdio::null(), command)
    }

    /// Starts a command that reads this.
    pub(crate) fn reading(input: impl Into<Stdio>, mut command: Command) -> Self {
        let (out, err) = (NamedTempFile::new().unwrap(), NamedTempFile::new().unwrap());
        let child = command
            .stdin(input)
            .stdout(out.reopen().unwrap())
            .stderr(err.reopen().unwrap())
            .spawn()
            .unwrap();
        Self { child, out, err }
    }

    /// The number the system knows it by.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to stdout.
    pub(crate) fn out(&self) -> String {
        read(&self.out)
    }

    /// What it has written to stderr.
    pub(crate) fn err(&self) -> String {
        read(&self.err)
    }

    /// Waits until it has written these words, to stdout or stderr.
    pub(crate) async fn wait_for(&self, words: &str) {
        let is_said = || self.out().contains(words) || self.err().contains(words);
        eventually(words, PATIENCE, async || is_said().then_some(())).await;
    }

    /// Interrupts it, as Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        signal("INT", self.pid());
    }

    /// Waits for its end, and gives its exit code.
    pub(crate) async fn exit_code(&mut self) -> i32 {
        let ended = eventually("its end", PATIENCE, async || self.child.try_wait().unwrap()).await;
        ended.code().unwrap()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // It fails only if it has ended already.
        let _ = self.child.kill();
        self.child.wait().unwrap();
        if std::thread::panicking() {
            eprintln!("stdout:\n{}\nstderr:\n{}", self.out(), self.err());
        }
    }
}

fn read(file: &NamedTempFile) -> String {
    std::io::read_to_string(File::open(file.path()).unwrap()).unwrap()
}
