//! `ringback messages`: the messages of a batch.

use std::num::NonZeroUsize;

use clap::Args;
use futures_util::{StreamExt, TryStreamExt};

use super::{
    Failure,
    batch::word,
    pour,
    remote::{Remote, batch_id},
    say,
    table::{self, Side, Table},
};
use crate::{
    api::model::MessageResource,
    domain::{ids::BatchId, message::MessageState},
};

/// Messages that are read before a table of them is written.
const ROWS: usize = 1_000;

/// The widths of the columns up to the time, so that tables of further pages line up.
const WIDTHS: [u16; 6] = [8, 16, 11, 8, 5, 20];

/// List a batch's messages, in order
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ringback messages bat_01M850VKVVFR222NAP7FS08R00 --state failed\n  \
    ringback messages bat_01M850VKVVFR222NAP7FS08R00 --json | jq -r .to"
)]
pub(super) struct Messages {
    /// The batch's id
    #[arg(value_parser = batch_id)]
    id: BatchId,

    /// Only messages in this state: queued, sending, sent, delivered, undelivered, failed,
    /// expired, canceled, unknown
    #[arg(long, value_parser = word::<MessageState>)]
    state: Option<MessageState>,

    /// At most this many; all of them if absent
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroUsize>,

    /// Print JSON, one message a line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    remote: Remote,
}

// === impl Messages ===

impl Messages {
    pub(super) fn run(self) -> Result<(), Failure> {
        self.remote.run(|client| async move {
            let messages = client.all_messages(self.id, self.state);
            let most = self.limit.map_or(usize::MAX, NonZeroUsize::get);
            let mut pages = messages.take(most).try_ready_chunks(ROWS);
            let mut is_first = true;
            while let Some(messages) = pages.next().await {
                // What came before an error is in its other half, and is of no use without the rest.
                let messages = messages.map_err(|error| Failure::from(error.1))?;
                let text = if self.json { lines(&messages)? } else { rows(&messages, is_first) };
                if !pour(&text)? {
                    return Ok(());
                }
                is_first = false;
            }
            if is_first && !self.json {
                say("There are no such messages.");
            }
            Ok(())
        })
    }
}

fn lines(messages: &[MessageResource]) -> Result<String, anyhow::Error> {
    messages.iter().map(table::json_line).collect()
}

/// Messages as rows, with a header over the first.
fn rows(messages: &[MessageResource], has_header: bool) -> String {
    let (left, right) = (Side::Left, Side::Right);
    let columns = [
        ("index", right),
        ("to", left),
        ("state", left),
        ("segments", right),
        ("tries", right),
        ("updated", left),
        ("reference", left),
        ("error", left),
    ];
    let mut table = Table::new(&columns).at_least(&WIDTHS);
    for message in messages {
        let error = message.error.as_ref();
        table.row([
            message.index.to_string(),
            message.to.clone(),
            message.state.word().to_owned(),
            message.segments.map_or_else(|| "-".to_owned(), |segments| segments.to_string()),
            message.attempts.to_string(),
            table::instant(&message.updated_at),
            message.reference.clone().unwrap_or_default(),
            error.map_or_else(String::new, |error| format!("{}: {}", error.code, error.detail)),
        ]);
    }
    if has_header { table.text() } else { table.rows_text() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_a_row_with_its_error() {
        let message: MessageResource = serde_json::from_str(
            r#"{"id": "bat_01M850VKVVFR222NAP7FS08R00.2", "index": 2, "to": "12",
                "reference": null, "state": "failed", "segments": null, "attempts": 0,
                "provider": "mock", "provider_message_id": null,
                "error": {"code": "invalid_number", "detail": "not an E.164 number",
                    "provider_code": null, "permanent": true},
                "updated_at": "2026-11-23T20:16:46.971Z"}"#,
        )
        .unwrap();
        let text = rows(std::slice::from_ref(&message), true);
        let [header, row] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
        assert!(header.trim_start().starts_with("INDEX  TO"), "{header}");
        let words: Vec<_> = row.split_whitespace().collect();
        assert_eq!(words[..7], ["2", "12", "failed", "-", "0", "2026-11-23", "20:16:46Z"]);
        assert!(row.ends_with("invalid_number: not an E.164 number"), "{row}");
        assert_eq!(rows(&[message], false), format!("{row}\n"));
    }
}
