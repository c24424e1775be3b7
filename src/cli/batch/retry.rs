//! `ringback batch retry`: a new batch of the messages that did not go.

use clap::Args;

use super::{details, word};
use crate::{
    api::model::BatchResource,
    cli::{
        Failure, print,
        remote::{Remote, batch_id},
        say,
        send::idempotency_key,
        table,
    },
    client::Client,
    domain::{ids::BatchId, message::MessageState},
};

#[derive(Debug, Args)]
pub(super) struct Retry {
    /// The batch's id; it has to be over
    #[arg(value_parser = batch_id)]
    id: BatchId,

    /// The states that the messages ended in: failed, expired, canceled, undelivered, or unknown, which
    /// may have been sent
    #[arg(long, required = true, value_delimiter = ',', value_name = "STATES", value_parser = state)]
    states: Vec<MessageState>,

    /// Make the new batch under this name: the same command under the same key makes it once only. A
    /// random one if not given
    #[arg(long, value_name = "KEY", value_parser = idempotency_key)]
    idempotency_key: Option<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    remote: Remote,
}

// === impl Retry ===

impl Retry {
    /// Makes the new batch, and prints it.
    pub(super) fn run(self) -> Result<(), Failure> {
        let batch = self.remote.run(|client| self.submit(client))?;
        print(&if self.json { table::json_line(&batch)? } else { details(&batch) })
    }

    async fn submit(&self, client: Client) -> Result<BatchResource, Failure> {
        let random = || format!("retry-{:032x}", rand::random::<u128>());
        let key = self.idempotency_key.clone().unwrap_or_else(random);
        let submitted = client.retry(self.id, &self.states, Some(&key)).await;
        let submitted = submitted.map_err(|error| {
            if error.is_outcome_unknown() {
                return Failure::Unreachable(format!("{error}\n{}", doubt(&key)));
            }
            error.into()
        })?;
        if submitted.replayed {
            say("It was made before, under this idempotency key.");
        }
        Ok(submitted.batch)
    }
}

fn doubt(key: &str) -> String {
    format!(
        "Whether the new batch was accepted is not known. To find out, repeat the command with\n  \
         --idempotency-key {key}"
    )
}

/// Reads a state that a message can be tried again from.
fn state(text: &str) -> Result<MessageState, String> {
    use MessageState::{Canceled, Expired, Failed, Undelivered, Unknown};
    let state = word(text)?;
    if matches!(state, Failed | Expired | Canceled | Undelivered | Unknown) {
        return Ok(state);
    }
    Err("only failed, expired, canceled, undelivered and unknown ones are tried again".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_is_not_tried_again() {
        assert_eq!(state("expired"), Ok(MessageState::Expired));
        for text in ["sent", "delivered", "queued", "Failed", ""] {
            assert!(state(text).unwrap_err().contains("failed"), "{text}");
        }
    }
}
