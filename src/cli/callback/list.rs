//! `ringback callback list`: where callbacks stand.

use std::num::NonZeroUsize;

use clap::Args;
use futures_util::{StreamExt, TryStreamExt};

use super::attempts;
use crate::{
    api::model::EventCallback,
    cli::{
        Failure,
        batch::word,
        pour, print,
        remote::{Remote, batch_id},
        say,
        table::{self, Side, Table},
    },
    client::CallbackFilter,
    domain::{batch::CallbackState, ids::BatchId},
};

/// Callbacks that are read before a table of them is written.
const ROWS: usize = 100;

/// The widths of the columns up to the time, so that tables of further pages line up.
const WIDTHS: [u16; 6] = [30, 16, 30, 24, 9, 5];

#[derive(Debug, Args)]
pub(super) struct List {
    /// A batch's id: lists the last attempts at its callback
    #[arg(value_parser = batch_id, conflicts_with_all = ["state", "host", "limit", "all"])]
    batch: Option<BatchId>,

    /// Only callbacks in this state: pending, delivered, exhausted, gone, skipped
    #[arg(long, value_parser = word::<CallbackState>)]
    state: Option<CallbackState>,

    /// Only callbacks to this host, with its port or whatever the port
    #[arg(long)]
    host: Option<String>,

    /// At most this many
    #[arg(long, value_name = "N", default_value = "20")]
    limit: NonZeroUsize,

    /// All of them
    #[arg(long, conflicts_with = "limit")]
    all: bool,

    /// Print JSON: one callback a line, or the list of attempts
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    remote: Remote,
}

// === impl List ===

impl List {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.batch {
            Some(id) => self.attempts(id),
            None => self.callbacks(),
        }
    }

    fn attempts(self, id: BatchId) -> Result<(), Failure> {
        let list = self.remote.run(|client| async move { Ok(client.attempts(id).await?) })?;
        if self.json {
            return print(&table::json_line(&list)?);
        }
        if list.attempts.is_empty() {
            say("There was no attempt at its callback so far.");
        }
        print(&attempts::text(&list))
    }

    fn callbacks(self) -> Result<(), Failure> {
        let filter = CallbackFilter { state: self.state, host: self.host };
        let most = if self.all { usize::MAX } else { self.limit.get() };
        self.remote.run(|client| async move {
            let mut pages = client.all_callbacks(filter).take(most).try_ready_chunks(ROWS);
            let mut is_first = true;
            while let Some(callbacks) = pages.next().await {
                // What came before an error is in its other half, and is of no use without the rest.
                let callbacks = callbacks.map_err(|error| Failure::from(error.1))?;
                let text = if self.json { lines(&callbacks)? } else { rows(&callbacks, is_first) };
                if !pour(&text)? {
                    return Ok(());
                }
                is_first = false;
            }
            if is_first && !self.json {
                say("There are no such callbacks.");
            }
            Ok(())
        })
    }
}

fn lines(callbacks: &[EventCallback]) -> Result<String, anyhow::Error> {
    callbacks.iter().map(table::json_line).collect()
}

/// Callbacks as rows, with a header over the first.
fn rows(callbacks: &[EventCallback], has_header: bool) -> String {
    let (left, right) = (Side::Left, Side::Right);
    let columns = [
        ("id", left),
        ("type", left),
        ("batch", left),
        ("host", left),
        ("state", left),
        ("tries", right),
        ("next try", left),
    ];
    let mut table = Table::new(&columns).at_least(&WIDTHS);
    for callback in callbacks {
        let next = callback.next_attempt_at.as_deref();
        table.row([
            callback.id.to_string(),
            callback.r#type.word().to_owned(),
            callback.batch_id.to_string(),
            callback.host.clone(),
            callback.state.word().to_owned(),
            callback.attempts.to_string(),
            next.map_or_else(|| "-".to_owned(), table::instant),
        ]);
    }
    if has_header { table.text() } else { table.rows_text() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callback_is_a_row() {
        let callback: EventCallback = serde_json::from_str(
            r#"{"id": "evt_01M850VKVVFR222NAP7FS08R00", "type": "batch.completed",
                "batch_id": "bat_01M850VKVVFR222NAP7FS08R00", "batch_reference": null,
                "sequence": 1, "host": "hooks.example:443", "state": "pending", "attempts": 2,
                "next_attempt_at": "2026-11-23T20:23:32.926Z",
                "created_at": "2026-11-23T20:16:46.971Z"}"#,
        )
        .unwrap();
        let text = rows(std::slice::from_ref(&callback), true);
        let [header, row] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
        assert!(header.starts_with("ID  ") && header.ends_with("NEXT TRY"), "{header}");
        let words: Vec<_> = row.split_whitespace().collect();
        let expected = [
            "evt_01M850VKVVFR222NAP7FS08R00",
            "batch.completed",
            "bat_01M850VKVVFR222NAP7FS08R00",
            "hooks.example:443",
            "pending",
            "2",
            "2026-11-23",
            "20:23:32Z",
        ];
        assert_eq!(words, expected);
        assert_eq!(rows(&[callback], false), format!("{row}\n"));
    }
}
