//! `ringback callback`: what became of callbacks, having them delivered again, and trying a receiver.

mod attempts;
mod list;
mod replay;
mod trial;

use clap::{Args, Subcommand};

use self::{list::List, replay::Replay, trial::Trial};
use super::Failure;

/// List callbacks, have them delivered again, and try a receiver out
#[derive(Debug, Args)]
pub(super) struct Callback {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List callbacks and where they stand, newest first; of a batch, the last attempts
    #[command(after_help = "Examples:\n  ringback callback list --state exhausted\n  \
        ringback callback list --host hooks.example --all --json | jq -r .id\n  \
        ringback callback list bat_01M850VKVVFR222NAP7FS08R00")]
    List(List),
    /// Have a batch's callback delivered again, or all that ended in a certain way; ids and bodies
    /// stay the same
    #[command(
        after_help = "Examples:\n  ringback callback replay bat_01M850VKVVFR222NAP7FS08R00\n  \
        ringback callback replay --since 2h\n  \
        ringback callback replay --since 2026-12-01T09:00:00Z --state gone --host hooks.example"
    )]
    Replay(Replay),
    /// Have the server send one signed ping to a URL, and show what came of it; exit code 0 only if
    /// it was taken
    #[command(after_help = "Example:\n  ringback callback test https://hooks.example/sms")]
    Test(Trial),
}

// === impl Callback ===

impl Callback {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::List(list) => list.run(),
            Command::Replay(replay) => replay.run(),
            Command::Test(trial) => trial.run(),
        }
    }
}
