//! `ringback callback`: what became of callbacks, and having them delivered again.

use clap::{Args, Subcommand};

use super::{
    Failure, print,
    remote::{Remote, batch_id},
    say,
    table::{self, Side, Table},
};
use crate::{
    api::model::{AttemptList, AttemptResource},
    domain::ids::BatchId,
};

/// List the attempts at callbacks, and have callbacks delivered again
#[derive(Debug, Args)]
pub(super) struct Callback {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the last attempts at a batch's callback, or all callbacks if no batch is named
    #[command(after_help = "Example:\n  ringback callback list bat_01M850VKVVFR222NAP7FS08R00\n\n\
        Listing all callbacks needs a server that offers it, and is printed as JSON.")]
    List(List),
    /// Have a batch's callback delivered again, with the same id and body
    #[command(
        after_help = "Example:\n  ringback callback replay bat_01M850VKVVFR222NAP7FS08R00\n\n\
        It needs a server that offers it."
    )]
    Replay(Replay),
}

#[derive(Debug, Args)]
struct List {
    /// The batch's id
    #[arg(value_parser = batch_id)]
    id: Option<BatchId>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
struct Replay {
    /// The batch's id
    #[arg(value_parser = batch_id)]
    id: BatchId,

    #[command(flatten)]
    remote: Remote,
}

// === impl Callback ===

impl Callback {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::List(list) => list.run(),
            Command::Replay(replay) => replay.run(),
        }
    }
}

// === impl List ===

impl List {
    fn run(self) -> Result<(), Failure> {
        let Some(id) = self.id else {
            let all = self.remote.run(|client| async move { Ok(client.callbacks().await?) })?;
            return print(&table::json_line(&all)?);
        };
        let list = self.remote.run(|client| async move { Ok(client.attempts(id).await?) })?;
        if self.json {
            return print(&table::json_line(&list)?);
        }
        if list.attempts.is_empty() {
            say("There was no attempt at its callback so far.");
        }
        print(&text(&list))
    }
}

// === impl Replay ===

impl Replay {
    fn run(self) -> Result<(), Failure> {
        self.remote.run(|client| async move { Ok(client.replay_callback(self.id).await?) })?;
        print("The callback will be delivered again.\n")
    }
}

/// The attempts as rows, and when the next one is due.
fn text(list: &AttemptList) -> String {
    let (left, right) = (Side::Left, Side::Right);
    let columns =
        [("no", right), ("at", left), ("status", right), ("took", right), ("result", left)];
    let mut table = Table::new(&columns);
    for attempt in &list.attempts {
        table.row([
            attempt.number.to_string(),
            table::instant(&attempt.at),
            attempt.status.map_or_else(|| "-".to_owned(), |status| status.to_string()),
            table::duration(std::time::Duration::from_millis(attempt.latency_ms)),
            result(attempt),
        ]);
    }
    let rows = if list.attempts.is_empty() { String::new() } else { table.text() };
    match &list.next_attempt_at {
        Some(at) => format!("{rows}The next attempt is due at {}.\n", table::instant(at)),
        None => rows,
    }
}

/// Why it failed, or the beginning of what was answered.
fn result(attempt: &AttemptResource) -> String {
    const SHOWN_CHARS_MAX: usize = 80;
    if let Some(error) = &attempt.error {
        return error.clone();
    }
    let answer = attempt.answer.as_deref().unwrap_or_default();
    let answer = answer.split_whitespace().collect::<Vec<_>>().join(" ");
    match answer.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &answer[..end]),
        None => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(status: Option<u16>, answer: Option<&str>, error: Option<&str>) -> AttemptResource {
        AttemptResource {
            number: 1,
            at: "2026-11-23T20:23:28.254Z".into(),
            status,
            latency_ms: 1_240,
            answer: answer.map(str::to_owned),
            error: error.map(str::to_owned),
        }
    }

    #[test]
    fn attempts_are_rows_and_the_next_one_is_named() {
        let list = AttemptList {
            attempts: vec![
                attempt(None, None, Some("could not connect")),
                attempt(Some(200), Some("all\n well"), None),
            ],
            next_attempt_at: Some("2026-11-23T20:23:32.926Z".into()),
        };
        assert_eq!(
            text(&list),
            "NO  AT                    STATUS  TOOK  RESULT\n \
             1  2026-11-23 20:23:28Z       -  1.2s  could not connect\n \
             1  2026-11-23 20:23:28Z     200  1.2s  all well\n\
             The next attempt is due at 2026-11-23 20:23:32Z.\n"
        );
    }

    #[test]
    fn a_long_answer_is_cut_between_characters() {
        let long = "é".repeat(4_096);
        let shown = result(&attempt(Some(500), Some(&long), None));
        assert_eq!(shown.chars().count(), 81);
    }
}
