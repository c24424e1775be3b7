//! `ringback completions`: what a shell must know to complete this command line.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Failure, print};

/// Print completions for a shell
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    ringback completions bash > ~/.local/share/bash-completion/completions/ringback\n  \
    ringback completions zsh > ~/.zfunc/_ringback\n  \
    ringback completions fish > ~/.config/fish/completions/ringback.fish")]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

// === impl Completions ===

impl Completions {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "ringback", &mut script);
        print(&String::from_utf8_lossy(&script))
    }
}
