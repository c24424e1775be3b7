//! `ringback audit`: counts batches again, from their messages, and says what does not agree.

use clap::Args;
use serde_json::json;

use super::{ConfigFile, Failure, print, say, table};
use crate::{
    app::{self, Audited, Outcome},
    domain::{audit::Finding, ids::BatchId},
    settings::Settings,
};

/// Count batches again from their messages, and compare with what the store has noted of them
#[derive(Debug, Args)]
#[command(after_help = "\
It looks into the store itself, by the server's configuration, and may run beside the server. A repair of
an embedded store needs the server stopped.

Examples:
  ringback audit --config ringback.toml
  ringback audit bat_01M850VKVVFR222NAP7FS08R00 --repair")]
pub(super) struct Audit {
    /// The batch; all there are if none is given
    batch: Option<BatchId>,

    #[command(flatten)]
    config: ConfigFile,

    /// Put right what is found: counts, chunks and batches that nobody would come back to, ends and
    /// events that are missing
    #[arg(long)]
    repair: bool,

    /// Print one JSON object for each batch
    #[arg(long)]
    json: bool,
}

/// What was seen so far.
#[derive(Default)]
struct Seen {
    batches: u64,
    /// Those that are not in order.
    faulty: u64,
    /// Those that moved all the while.
    moving: u64,
}

// === impl Audit ===

impl Audit {
    pub(super) fn run(self) -> Result<(), Failure> {
        let settings = Settings::load(self.config.path.as_deref())?;
        let findings = settings.check();
        if !findings.errors.is_empty() {
            return Err(Failure::Configuration(findings.errors.join("; ")));
        }
        let mut seen = Seen::default();
        app::audit(&settings, self.batch, self.repair, |outcome| {
            let report = if self.json { as_json(outcome)? } else { as_text(outcome) };
            seen.count(outcome);
            print(&report).map_err(anyhow::Error::from)
        })?;
        if !self.json {
            say(&seen.words());
        }
        if seen.faulty > 0 { Err(Failure::Silent) } else { Ok(()) }
    }
}

// === impl Seen ===

impl Seen {
    fn count(&mut self, outcome: &Outcome) {
        self.batches += 1;
        match last(outcome).map(|audited| audited.findings.as_deref()) {
            None | Some(Some([_, ..])) => self.faulty += 1,
            Some(None) => self.moving += 1,
            Some(Some([])) => {}
        }
    }

    fn words(&self) -> String {
        let all = match self.batches {
            1 => "1 batch".to_owned(),
            batches => format!("{} batches", table::number(batches)),
        };
        match (self.faulty, self.moving) {
            (0, 0) => format!("{all}: all in order"),
            (faulty, moving) => format!("{all}: {faulty} not in order, {moving} on the move"),
        }
    }
}

/// How a batch stands now.
fn last(outcome: &Outcome) -> Option<&Audited> {
    outcome.repaired.as_ref().or(outcome.audited.as_ref())
}

/// Batches that are in order are passed over.
fn as_text(outcome: &Outcome) -> String {
    let Some(audited) = &outcome.audited else {
        return format!("{}: there is no such batch\n", outcome.id);
    };
    let found = lines(outcome.id, audited);
    match &outcome.repaired {
        Some(repaired) => {
            format!("{found}{}: repaired\n{}", outcome.id, lines(outcome.id, repaired))
        }
        None => found,
    }
}

fn lines(id: BatchId, audited: &Audited) -> String {
    match &audited.findings {
        None => format!("{id}: it moves too fast to be counted; nothing can be said\n"),
        Some(findings) => {
            let lines = findings.iter().map(|finding| format!("{id}: {finding}\n"));
            lines.collect::<String>()
        }
    }
}

fn as_json(outcome: &Outcome) -> Result<String, anyhow::Error> {
    let words = |audited: &Audited| {
        let findings = audited.findings.as_ref();
        findings.map(|findings| findings.iter().map(Finding::to_string).collect::<Vec<_>>())
    };
    table::json_line(&json!({
        "batch_id": outcome.id,
        "found": outcome.audited.is_some(),
        "state": last(outcome).map(|audited| audited.notes.state),
        "total": last(outcome).map(|audited| audited.recount.total),
        "open": last(outcome).map(|audited| audited.recount.open()),
        "findings": outcome.audited.as_ref().map(words),
        "left_after_repair": outcome.repaired.as_ref().map(words),
    }))
}
