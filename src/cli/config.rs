//! `ringback config`: what the server would use, and whether it makes sense.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use clap::{Args, Subcommand};

use super::{ConfigFile, Failure, print};
use crate::settings::{Findings, Layers, Settings};

/// Show or check the configuration
#[derive(Debug, Args)]
pub(super) struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look for errors and for what is likely not meant; exit code 1 if there are errors
    #[command(after_help = "Example:\n  ringback config check --config ringback.toml")]
    Check(ConfigFile),
    /// Print all layers as one TOML document, secrets masked
    #[command(after_help = "Example:\n  RINGBACK__LOG__FORMAT=json ringback config show")]
    Show(ConfigFile),
}

// === impl Config ===

impl Config {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Check(file) => check(&file),
            Command::Show(file) => {
                print(&Layers::read(file.path.as_deref(), std::env::vars_os())?.shown()?)
            }
        }
    }
}

fn check(file: &ConfigFile) -> Result<(), Failure> {
    let findings = match Settings::load(file.path.as_deref()) {
        Ok(settings) => settings.check(),
        Err(error) => Findings { errors: vec![error.to_string()], warnings: Vec::new() },
    };
    let mut report = String::new();
    // Writing to a string can't fail.
    for warning in &findings.warnings {
        let _ = writeln!(report, "warning: {warning}");
    }
    for error in &findings.errors {
        let _ = writeln!(report, "error: {error}");
    }
    // Where stderr is closed, the exit code has to do.
    let _ = io::stderr().write_all(report.as_bytes());
    if !findings.errors.is_empty() {
        return Err(Failure::Silent);
    }
    print("The configuration can be used.\n")
}
