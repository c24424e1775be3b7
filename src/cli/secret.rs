//! `ringback secret`: the secrets that callbacks are signed with.

use clap::{Args, Subcommand};

use super::{ConfigFile, Failure, print};
use crate::{app, settings::Settings};

/// Make or show signing secrets of callbacks
#[derive(Debug, Args)]
pub(super) struct Secret {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a new signing secret for `callbacks.signing_secrets`
    #[command(after_help = "Example:\n  ringback secret new")]
    New,
    /// Print the secrets in use, one a line: the configured ones, else the one in the store
    #[command(after_help = "Example:\n  ringback secret show --config ringback.toml")]
    Show(ConfigFile),
}

// === impl Secret ===

impl Secret {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::New => print(&format!("{}\n", app::new_signing_secret()?)),
            Command::Show(file) => {
                let settings = Settings::load(file.path.as_deref())?;
                let findings = settings.check();
                if !findings.errors.is_empty() {
                    return Err(Failure::Configuration(findings.errors.join("; ")));
                }
                let secrets = app::signing_secrets(&settings)?;
                print(&secrets.into_iter().map(|secret| secret + "\n").collect::<String>())
            }
        }
    }
}
