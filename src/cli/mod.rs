//! The command line: one file per command.
//!
//! Exit codes: 0 if all went well, 1 if the command failed, 2 if it was called wrongly or the
//! configuration can't be used. Results go to stdout, everything else to stderr.

mod config;
mod key;
mod openapi;
mod secret;
mod serve;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};

use crate::settings::SettingsError;

/// Self-hosted, callback-based bulk message dispatcher.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Config(config::Config),
    Key(key::Key),
    Secret(secret::Secret),
    Openapi(openapi::Openapi),
}

/// Where a command finds the configuration.
#[derive(Debug, Args)]
struct ConfigFile {
    /// A TOML file over the built-in default; variables `RINGBACK__SECTION__KEY` override it
    #[arg(long = "config", value_name = "FILE")]
    path: Option<PathBuf>,
}

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The configuration can't be used.
    #[error("the configuration can't be used: {0}")]
    Configuration(String),
    /// It could not be done, or was cut short; the text is empty where the log said why.
    #[error("{0:#}")]
    Failed(anyhow::Error),
    /// All was said already.
    #[error("")]
    Silent,
}

// === impl Cli ===

impl Cli {
    /// Runs the command and gives the exit code of the process.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let done = match self.command {
            Command::Serve(serve) => serve.run(),
            Command::Config(config) => config.run(),
            Command::Key(key) => key.run(),
            Command::Secret(secret) => secret.run(),
            Command::Openapi(openapi) => openapi.run(),
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.report(),
        }
    }
}

// === impl Failure ===

impl Failure {
    fn report(&self) -> ExitCode {
        if !matches!(self, Self::Silent) {
            // Where stderr is closed, the exit code has to do.
            let _ = writeln!(io::stderr(), "error: {self}");
        }
        match self {
            Self::Configuration(_) => ExitCode::from(2),
            Self::Failed(_) | Self::Silent => ExitCode::FAILURE,
        }
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        Self::Configuration(error.to_string())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// Prints a result. A reader that has seen enough and closed the pipe is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Failed(anyhow::Error::new(error).context("can't write the result")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn leaves(command: &clap::Command) -> Vec<&clap::Command> {
            match command.get_subcommands().collect::<Vec<_>>() {
                inner if inner.is_empty() => vec![command],
                inner => inner.into_iter().flat_map(leaves).collect(),
            }
        }
        for command in leaves(&Cli::command()) {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains("ringback "), "`{}` shows no example", command.get_name());
        }
    }
}
