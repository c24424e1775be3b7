//! `ringback secret`: what callbacks are signed with.
//!
//! Secrets and public keys are the result, on stdout, so that `$(ringback secret show)` is what a
//! receiver needs; what each of them is for is said on stderr.

use clap::{Args, Subcommand};

use super::{ConfigFile, Failure, print, say, table};
use crate::{
    app::{self, InUse},
    settings::Settings,
};

/// Make or show signing secrets of callbacks
#[derive(Debug, Args)]
pub(super) struct Secret {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a new signing secret, for `callbacks.signing_secrets` or an account's
    #[command(after_help = "Examples:\n  ringback secret new\n  ringback secret new --ed25519")]
    New {
        /// Make an Ed25519 key instead: the private one for `callbacks.signing_keys`, and the public
        /// one, which receivers check with
        #[arg(long)]
        ed25519: bool,

        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print what is in use, one a line: the secrets configured for all, else the one in the store;
    /// the secrets of accounts; the public keys
    #[command(after_help = "\
Examples:
  ringback secret show --config ringback.toml
  ringback secret show --json | jq -r '.accounts.acme[]'
  ringback listen --secret \"$(ringback secret show)\"")]
    Show {
        #[command(flatten)]
        config: ConfigFile,

        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

// === impl Secret ===

impl Secret {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::New { ed25519: false, json } => new_secret(json),
            Command::New { ed25519: true, json } => new_key(json),
            Command::Show { config, json } => show(&config, json),
        }
    }
}

fn new_secret(json: bool) -> Result<(), Failure> {
    let secret = app::new_signing_secret();
    if json {
        return print(&table::json_line(&serde_json::json!({ "secret": secret }))?);
    }
    print(&format!("{secret}\n"))
}

fn new_key(json: bool) -> Result<(), Failure> {
    let key = app::new_signing_key()?;
    if json {
        return print(&table::json_line(&key)?);
    }
    print(&format!(
        "Private key, for the configuration:\n\
         \n\
         [callbacks]\n\
         signing_keys = [\"{}\"]\n\
         \n\
         Public key, for receivers; the server publishes it at /.well-known/webhook-keys:\n\
         \n\
         {}\n",
        key.private_key, key.public_key
    ))
}

fn show(config: &ConfigFile, json: bool) -> Result<(), Failure> {
    let settings = Settings::load(config.path.as_deref())?;
    let findings = settings.check();
    if !findings.errors.is_empty() {
        return Err(Failure::Configuration(findings.errors.join("; ")));
    }
    let in_use = app::signing_secrets(&settings)?;
    if json {
        return print(&table::json_line(&in_use)?);
    }
    show_lines(&in_use)
}

/// Says what the lines are for only where there is more than one kind of them.
fn show_lines(in_use: &InUse) -> Result<(), Failure> {
    let InUse { secrets, accounts, public_keys } = in_use;
    if accounts.is_empty() && public_keys.is_empty() {
        return print(&lines(secrets));
    }
    say("for all accounts without secrets of their own:");
    print(&lines(secrets))?;
    for (account, secrets) in accounts {
        say(&format!("for the account {account}:"));
        print(&lines(secrets))?;
    }
    if !public_keys.is_empty() {
        say("public keys, of the Ed25519 keys that sign for all accounts:");
        print(&lines(public_keys))?;
    }
    Ok(())
}

fn lines(texts: &[String]) -> String {
    texts.iter().flat_map(|text| [text, "\n"]).collect()
}
