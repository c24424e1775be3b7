//! Which server a command calls, and how: shared by all commands that call one.

use std::future::Future;

use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use tokio::runtime;

use super::Failure;
use crate::{client::Client, domain::ids::BatchId};

/// Where `ringback serve` listens if nothing else is said.
pub(super) const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// The server that a command calls.
#[derive(Debug, Args)]
#[command(next_help_heading = "Server")]
pub(super) struct Remote {
    /// The server's URL
    #[arg(
        long,
        env = "RINGBACK_URL",
        value_name = "URL",
        default_value = DEFAULT_URL,
        hide_env_values = true
    )]
    url: String,

    /// An API key, where the server wants one; better given by the variable, which `ps` doesn't show
    #[arg(long, env = "RINGBACK_API_KEY", value_name = "KEY", hide_env_values = true)]
    api_key: Option<SecretString>,
}

// === impl Remote ===

impl Remote {
    /// A client of the server.
    ///
    /// # Errors
    /// [`Failure::Usage`] if URL or key can't be used.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        // A variable that is set to nothing gives no key.
        let key = self.api_key.clone().filter(|key| !key.expose_secret().is_empty());
        Ok(Client::new(&self.url, key)?)
    }

    /// Runs `work` with a client of the server, on this thread.
    ///
    /// # Errors
    /// Those of `work`; [`Failure::Usage`] if URL or key can't be used.
    pub(super) fn run<T, W>(&self, work: impl FnOnce(Client) -> W) -> Result<T, Failure>
    where
        W: Future<Output = Result<T, Failure>>,
    {
        let client = self.client()?;
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| anyhow::Error::new(error).context("can't start"))?;
        let done = runtime.block_on(work(client));
        // A look-up of a name or a read of a file may still be under way; nobody waits for it.
        runtime.shutdown_background();
        done
    }
}

/// Reads a batch's id as an argument, so that none that can't be one is asked for.
///
/// # Errors
/// What to say of a text that is none.
pub(super) fn batch_id(text: &str) -> Result<BatchId, String> {
    text.parse().map_err(|_| {
        "a batch's id is `bat_` and 26 digits and letters, as in bat_01M850VKVVFR222NAP7FS08R00"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        remote: Remote,
    }

    #[test]
    fn a_key_is_never_shown() {
        let command = Command::parse_from(["x", "--api-key", "rbk_hush"]);
        assert!(!format!("{command:?}").contains("hush"));
        assert!(command.remote.client().is_ok());
    }

    #[test]
    fn an_id_is_checked_before_anyone_is_asked() {
        assert!(batch_id("bat_01M850VKVVFR222NAP7FS08R00").is_ok());
        for text in ["", "bat_", "01M850VKVVFR222NAP7FS08R00", "bat_01M850VKVVFR222NAP7FS08R00.2"] {
            assert!(batch_id(text).unwrap_err().contains("bat_01M"), "{text}");
        }
    }
}
