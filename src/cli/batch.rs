//! `ringback batch`: batches at a server.

mod retry;

use std::num::NonZeroUsize;

use clap::{Args, Subcommand};
use futures_util::{StreamExt, TryStreamExt};
use serde::{Deserialize, de::IntoDeserializer, de::value::Error as WordError};

use self::retry::Retry;
use super::{
    Failure, pour, print,
    progress::{self, View, done},
    remote::{Remote, batch_id},
    table::{self, Side, Table},
};
use crate::{
    api::model::BatchResource,
    client::{BatchFilter, Client, ClientError},
    domain::{batch::BatchState, ids::BatchId},
};

/// Batches that are read before a table of them is written.
const ROWS: usize = 100;

/// The widths of the columns up to the times, so that tables of further pages line up.
const WIDTHS: [u16; 5] = [30, 9, 8, 7, 7];

/// List, show and steer batches
#[derive(Debug, Args)]
pub(super) struct Batch {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List batches, newest first
    #[command(after_help = "Examples:\n  ringback batch list --state running\n  \
        ringback batch list --all --json | jq -r .id")]
    List(List),
    /// Show a batch as it stands
    #[command(after_help = "Example:\n  ringback batch show bat_01M850VKVVFR222NAP7FS08R00")]
    Show(One),
    /// Watch a batch until its last message is final; exit code 0 only if every message was sent
    /// or delivered
    #[command(after_help = "Example:\n  ringback batch watch bat_01M850VKVVFR222NAP7FS08R00\n\n\
        With --json the batch is printed each time that it has changed, one line each.")]
    Watch(One),
    /// Cancel a batch; what is in flight may still go
    #[command(after_help = "Example:\n  ringback batch cancel bat_01M850VKVVFR222NAP7FS08R00")]
    Cancel(One),
    /// Pause a batch; what is in flight may still go
    #[command(after_help = "Example:\n  ringback batch pause bat_01M850VKVVFR222NAP7FS08R00")]
    Pause(One),
    /// Let a paused batch go on
    #[command(after_help = "Example:\n  ringback batch resume bat_01M850VKVVFR222NAP7FS08R00")]
    Resume(One),
    /// Make a new batch of the messages that did not go, with all else as it was
    #[command(after_help = "Example:\n  ringback batch retry bat_01M850VKVVFR222NAP7FS08R00 \
        --states failed,expired")]
    Retry(Retry),
}

#[derive(Debug, Args)]
struct List {
    /// Only batches in this state: receiving, queued, running, paused, completed, canceled
    #[arg(long, value_parser = word::<BatchState>)]
    state: Option<BatchState>,

    /// Only batches with this reference
    #[arg(long, value_name = "TEXT")]
    reference: Option<String>,

    /// At most this many
    #[arg(long, value_name = "N", default_value = "20")]
    limit: NonZeroUsize,

    /// All of them
    #[arg(long, conflicts_with = "limit")]
    all: bool,

    /// Print JSON, one batch a line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
struct One {
    /// The batch's id
    #[arg(value_parser = batch_id)]
    id: BatchId,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    remote: Remote,
}

// === impl Batch ===

impl Batch {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::List(list) => list.run(),
            Command::Show(one) => one.run(|client, id| async move { client.batch(id).await }),
            Command::Cancel(one) => one.run(|client, id| async move { client.cancel(id).await }),
            Command::Pause(one) => one.run(|client, id| async move { client.pause(id).await }),
            Command::Resume(one) => one.run(|client, id| async move { client.resume(id).await }),
            Command::Retry(retry) => retry.run(),
            Command::Watch(one) => one.watch(),
        }
    }
}

// === impl List ===

impl List {
    fn run(self) -> Result<(), Failure> {
        let filter = BatchFilter { state: self.state, reference: self.reference };
        let most = if self.all { usize::MAX } else { self.limit.get() };
        self.remote.run(|client| async move {
            let mut pages = client.all_batches(filter).take(most).try_ready_chunks(ROWS);
            let mut is_first = true;
            while let Some(batches) = pages.next().await {
                // What came before an error is in its other half, and is of no use without the rest.
                let batches = batches.map_err(|error| Failure::from(error.1))?;
                let text = if self.json { lines(&batches)? } else { rows(&batches, is_first) };
                if !pour(&text)? {
                    return Ok(());
                }
                is_first = false;
            }
            if is_first && !self.json {
                super::say("There are no such batches.");
            }
            Ok(())
        })
    }
}

// === impl One ===

impl One {
    /// Makes one call, and prints the batch that it answers with.
    fn run<A>(self, call: impl FnOnce(Client, BatchId) -> A) -> Result<(), Failure>
    where
        A: Future<Output = Result<BatchResource, ClientError>>,
    {
        let batch = self.remote.run(|client| async move { Ok(call(client, self.id).await?) })?;
        let text = if self.json { table::json_line(&batch)? } else { details(&batch) };
        print(&text)
    }

    fn watch(self) -> Result<(), Failure> {
        self.remote.run(|client| async move {
            // A server that isn't there is said at once; one that goes away later is waited for.
            client.batch(self.id).await?;
            let mut view = if self.json { View::json() } else { View::for_people() };
            let batch = progress::watch(&client, self.id, &mut view).await?;
            if !self.json {
                print(&table::counts(&batch.counts))?;
            }
            progress::verdict(&batch.counts)
        })
    }
}

/// Reads one of the words of `T`, as the API writes them.
///
/// # Errors
/// The words there are.
pub(super) fn word<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, String> {
    T::deserialize(text.into_deserializer()).map_err(|error: WordError| error.to_string())
}

fn lines(batches: &[BatchResource]) -> Result<String, anyhow::Error> {
    batches.iter().map(table::json_line).collect()
}

/// Batches as rows, with a header over the first.
fn rows(batches: &[BatchResource], has_header: bool) -> String {
    let (left, right) = (Side::Left, Side::Right);
    let columns = [
        ("id", left),
        ("state", left),
        ("messages", right),
        ("done", right),
        ("went", right),
        ("created", left),
        ("took", right),
        ("callback", left),
        ("reference", left),
    ];
    let mut table = Table::new(&columns).at_least(&WIDTHS);
    for batch in batches {
        let counts = &batch.counts;
        let callback = batch.callback.as_ref();
        table.row([
            batch.id.to_string(),
            batch.state.word().to_owned(),
            table::number(counts.total),
            table::number(done(counts)),
            table::number(counts.sent + counts.delivered),
            table::instant(&batch.created_at),
            took(batch).unwrap_or_default(),
            callback.map_or_else(String::new, |callback| callback.state.word().to_owned()),
            batch.reference.clone().unwrap_or_default(),
        ]);
    }
    if has_header { table.text() } else { table.rows_text() }
}

/// A batch with all that is known of it.
fn details(batch: &BatchResource) -> String {
    let time = |at: &Option<String>| at.as_deref().map_or_else(|| "-".to_owned(), table::instant);
    let metadata = batch.metadata.get();
    let about = Table::of_pairs([
        ("id", batch.id.to_string()),
        ("state", batch.state.word().to_owned()),
        ("reference", batch.reference.clone().unwrap_or_else(|| "-".to_owned())),
        ("provider", batch.provider.clone()),
        ("parent", batch.parent.map_or_else(|| "-".to_owned(), |parent| parent.to_string())),
        ("created", table::instant(&batch.created_at)),
        ("started", time(&batch.started_at)),
        ("completed", time(&batch.completed_at)),
        ("took", took(batch).unwrap_or_else(|| "-".to_owned())),
        ("callback", callback_text(batch)),
        ("metadata", metadata.replace(['\n', '\r'], " ")),
    ]);
    format!("{}\n{}", about.text(), table::counts(&batch.counts))
}

fn callback_text(batch: &BatchResource) -> String {
    match &batch.callback {
        None => "none".to_owned(),
        Some(callback) => format!("{}, {}", callback.state.word(), callback.url),
    }
}

fn took(batch: &BatchResource) -> Option<String> {
    let completed_at = batch.completed_at.as_deref()?;
    table::between(&batch.created_at, completed_at).map(table::duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> BatchResource {
        serde_json::from_str(
            r#"{"id": "bat_01M850VKVVFR222NAP7FS08R00", "state": "completed",
                "reference": "spring\u001b[2J", "provider": "mock",
                "counts": {"total": 1200, "queued": 0, "sending": 0, "sent": 1199,
                    "delivered": 0, "undelivered": 0, "failed": 1, "expired": 0, "canceled": 0,
                    "unknown": 0},
                "created_at": "2026-11-23T20:16:46.971Z", "started_at": "2026-11-23T20:16:46.972Z",
                "completed_at": "2026-11-23T20:16:49.473Z", "metadata": {"a":
                7}, "callback": {"url": "http://127.0.0.1:9/x", "state": "delivered"}}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_list_is_a_row_a_batch() {
        let text = rows(&[batch()], true);
        let [header, row] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
        let words: Vec<_> = header.split_whitespace().collect();
        assert_eq!(words[..5], ["ID", "STATE", "MESSAGES", "DONE", "WENT"]);
        assert!(row.starts_with("bat_01M850VKVVFR222NAP7FS08R00  completed"), "{row}");
        for cell in
            ["1,200", "1,199", "2026-11-23 20:16:46Z", "2.5s", "delivered", "spring\u{fffd}"]
        {
            assert!(row.contains(cell), "{cell} is not in {row}");
        }
        assert_eq!(rows(&[batch()], false), format!("{row}\n"));
    }

    #[test]
    fn a_batch_is_shown_with_all_that_is_known_of_it() {
        let text = details(&batch());
        for line in [
            "state      completed",
            "completed  2026-11-23 20:16:49Z",
            "callback   delivered, http://127.0.0.1:9/x",
            "failed         1",
            "total      1,200",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn a_batch_is_one_line_of_json() {
        let text = lines(&[batch(), batch()]).unwrap();
        assert_eq!(text.lines().count(), 2);
        for line in text.lines() {
            let read: BatchResource = serde_json::from_str(line).unwrap();
            assert_eq!(read.counts, batch().counts);
        }
    }

    #[test]
    fn a_wrong_word_is_answered_with_the_right_ones() {
        assert_eq!(word::<BatchState>("paused").unwrap(), BatchState::Paused);
        assert!(word::<BatchState>("stopped").unwrap_err().contains("completed"));
    }
}
