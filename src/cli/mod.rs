//! The command line: one file per command.
//!
//! Results go to stdout, everything else to stderr. The exit codes are those that the program's own
//! help lists. Commands that call a server share `remote::Remote`; what a server or anyone behind
//! it wrote reaches the terminal without control characters.

mod audit;
mod batch;
mod callback;
mod completions;
mod config;
mod demo;
mod interrupt;
mod key;
mod listen;
mod messages;
mod openapi;
mod progress;
mod provider;
mod remote;
mod secret;
mod send;
mod serve;
mod suppression;
mod table;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};

use crate::{client::ClientError, settings::SettingsError};

/// What the program's help ends with.
const EXIT_CODES: &str = "\
Exit codes:
  0    all went well: of a batch, that every message was sent or delivered
  1    the command failed, or not every message went
  2    it was called wrongly, or the configuration or the list can't be used
       (`config check`, which only reports that, ends with 1)
  3    the server can't be reached, or did not answer
  130  it was interrupted

Examples:
  ringback serve --config ringback.toml
  ringback batch list
  RINGBACK_URL=https://ringback.example ringback batch watch bat_01M850VKVVFR222NAP7FS08R00";

/// Self-hosted, callback-based bulk message dispatcher.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Demo(demo::Demo),
    Listen(listen::Listen),
    Send(Box<send::SendList>),
    Batch(batch::Batch),
    Messages(messages::Messages),
    Audit(audit::Audit),
    Callback(callback::Callback),
    Provider(provider::Provider),
    Suppression(suppression::Suppression),
    Config(config::Config),
    Key(key::Key),
    Secret(secret::Secret),
    Openapi(openapi::Openapi),
    Completions(completions::Completions),
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
    /// What it was given can't be used.
    #[error("{0}")]
    Usage(String),
    /// The server can't be reached.
    #[error("{0}")]
    Unreachable(String),
    /// Someone has interrupted it, and was told what that means.
    #[error("")]
    Interrupted,
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
            Command::Demo(demo) => demo.run(),
            Command::Send(send) => send.run(),
            Command::Batch(batch) => batch.run(),
            Command::Messages(messages) => messages.run(),
            Command::Audit(audit) => audit.run(),
            Command::Callback(callback) => callback.run(),
            Command::Provider(provider) => provider.run(),
            Command::Suppression(suppression) => suppression.run(),
            Command::Listen(listen) => listen.run(),
            Command::Config(config) => config.run(),
            Command::Key(key) => key.run(),
            Command::Secret(secret) => secret.run(),
            Command::Openapi(openapi) => openapi.run(),
            Command::Completions(completions) => completions.run(),
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
        if !matches!(self, Self::Silent | Self::Interrupted) {
            let text = self.to_string();
            let lines: Vec<_> = text.lines().map(table::plain).collect();
            say(&format!("error: {}", lines.join("\n")));
        }
        match self {
            Self::Failed(_) | Self::Silent => ExitCode::FAILURE,
            Self::Configuration(_) | Self::Usage(_) => ExitCode::from(2),
            Self::Unreachable(_) => ExitCode::from(3),
            Self::Interrupted => ExitCode::from(130),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Settings(text) => Self::Usage(text),
            error if error.is_unreachable() => Self::Unreachable(error.to_string()),
            error if error.code() == Some("unauthorized") => Self::Failed(anyhow::anyhow!(
                "{error}; give the key with --api-key or RINGBACK_API_KEY"
            )),
            error => Self::Failed(anyhow::anyhow!("{error}")),
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
    pour(text).map(drop)
}

/// Prints a part of a result; says whether anyone reads on.
fn pour(text: &str) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => {
            Err(Failure::Failed(anyhow::Error::new(error).context("can't write the result")))
        }
    }
}

/// Says something to people, on stderr.
fn say(text: &str) {
    // Where stderr is closed, the exit code has to do.
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_help_lists_the_exit_codes() {
        let failures = [
            Failure::Failed(anyhow::anyhow!("no")),
            Failure::Usage(String::new()),
            Failure::Unreachable(String::new()),
            Failure::Interrupted,
        ];
        let codes = ["  1  ", "  2  ", "  3  ", "  130  "];
        let help = Cli::command().render_help().to_string();
        for (failure, listed) in failures.iter().zip(codes) {
            let code: u8 = listed.trim().parse().unwrap();
            assert_eq!(failure.report(), ExitCode::from(code));
            assert!(help.contains(listed), "{listed} is not in\n{help}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    fn leaves(command: &clap::Command) -> Vec<&clap::Command> {
        match command.get_subcommands().collect::<Vec<_>>() {
            inner if inner.is_empty() => vec![command],
            inner => inner.into_iter().flat_map(leaves).collect(),
        }
    }

    #[test]
    fn every_command_is_in_the_documentation() {
        const TEXT: &str = include_str!("../../docs/cli.md");
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            let (section, row) = (format!("\n### {name}\n"), format!("`{name}"));
            assert!(TEXT.contains(&section), "there is no{section}");
            let table = TEXT.split("\n\n## ").next().unwrap_or_default();
            assert!(table.contains(&row), "{row} is not in the table");
            for leaf in leaves(command) {
                assert!(table.contains(leaf.get_name()), "{} is not in the table", leaf.get_name());
            }
        }
    }

    #[test]
    fn every_command_shows_an_example() {
        for command in leaves(&Cli::command()) {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains("ringback "), "`{}` shows no example", command.get_name());
        }
    }
}
