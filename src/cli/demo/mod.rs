//! `ringback demo`: the whole job on this machine, with nothing installed.
//!
//! A service with the built-in configuration, on an embedded store in a temporary folder; a receiver
//! of callbacks; a batch over real HTTP; and then what came of it is shown, and checked. Nothing of
//! the user's environment or files configures it, and nothing of it is left behind. Every wait has
//! its bound, and the exit code is 0 only if everything was seen.

mod recipients;
mod result;
mod stage;

use std::{
    fs::{self, File},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use clap::{Args, value_parser};
use tempfile::TempDir;
use tokio::{
    runtime,
    time::{sleep, timeout},
};

use self::{result::Seen, stage::Stage};
use super::{
    Failure,
    interrupt::Interrupt,
    pour, print,
    progress::{View, follow},
    say, table,
};
use crate::{
    api::model::{BatchResource, SubmitBatch},
    client::Client,
    domain::{batch::CallbackState, ids::BatchId},
    telemetry,
};

/// The messages' text.
const TEMPLATE: &str = "Hi {{name}}, your code is {{code}}";

/// The time that any number of messages may take, and a rate that any machine should reach.
const LONGEST: Duration = Duration::from_mins(1);
const RATE_MIN: u64 = 5_000;

/// How long a callback may take once the last message is final.
const CALLBACK_TIME: Duration = Duration::from_secs(15);

/// How often the batch is looked at while its callback's end is waited for.
const POLL: Duration = Duration::from_millis(10);

/// The file in the temporary folder that the service logs to.
const LOG_FILE: &str = "ringback.log";

/// How many lines of the log are shown after a failure.
const LOG_LINES: usize = 20;

/// How long tasks that were cut short may take to notice.
const CUT_TIME: Duration = Duration::from_secs(1);

/// See the whole job on this machine: a batch, its progress, and its signed callback
///
/// It needs nothing installed and leaves nothing behind. The provider is `mock`, which accepts
/// messages and sends nothing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ringback demo
  ringback demo --messages 1000000
  ringback demo --keep              # leaves the service running, to try it with curl")]
pub(super) struct Demo {
    /// How many messages to send
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    #[arg(value_parser = value_parser!(u64).range(..=100_000_000))]
    messages: u64,

    /// Leave service and receiver running until Ctrl-C
    #[arg(long)]
    keep: bool,
}

// === impl Demo ===

impl Demo {
    pub(super) fn run(self) -> Result<(), Failure> {
        let runtime = runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.context("can't start")?;
        // From here on no signal ends the process before the folder is removed.
        let entered = runtime.enter();
        let interrupt = Interrupt::new().context("can't start")?;
        drop(entered);
        let folder = tempfile::Builder::new().prefix("ringback-demo-").tempdir();
        let folder = folder.context("can't make a temporary folder")?;
        let flush = log_into(folder.path())?;
        let done = runtime.block_on(self.play(folder.path(), interrupt));
        runtime.shutdown_timeout(CUT_TIME);
        drop(flush);
        if let Err(Failure::Failed(_)) = &done {
            show_log(folder.path());
        }
        let removed = remove(folder);
        done.and(removed.map_err(Failure::from))
    }

    async fn play(&self, folder: &Path, mut interrupt: Interrupt) -> Result<(), Failure> {
        let mut stage = tokio::select! {
            stage = timeout(LONGEST, Stage::set(folder)) => stage.context("the start takes too long")??,
            () = interrupt.next() => return Err(Failure::Interrupted),
        };
        let mut played = tokio::select! {
            played = timeout(self.longest(), self.scene(&mut stage)) => played.unwrap_or_else(|_| {
                let longest = table::duration(self.longest());
                Err(anyhow!("not everything was seen within {longest}").into())
            }),
            () = interrupt.next() => Err(Failure::Interrupted),
        };
        if played.is_ok() && self.keep {
            played = stage.keep(folder, &mut interrupt).await;
        }
        if matches!(played, Err(Failure::Interrupted)) {
            say("interrupted: stopping the service");
        }
        tokio::select! {
            struck = stage.strike(self.keep) => played.and(struck),
            () = interrupt.next() => Err(Failure::Interrupted),
        }
    }

    /// Everything there is to see.
    async fn scene(&self, stage: &mut Stage) -> Result<(), Failure> {
        print(&self.introduction(stage))?;
        let begin = Instant::now();
        let batch = self.submit(stage).await?;
        print(&format!(
            "202 Accepted after {}: {}\n\n",
            table::duration(begin.elapsed()),
            batch.id
        ))?;
        let mut view = View::for_people();
        follow(&stage.client, batch.id, &mut view).await.map_err(no_server)?;
        if matches!(view, View::Bar(_)) {
            // It leaves the line unfinished.
            say("");
        }
        let callback = timeout(CALLBACK_TIME, stage.reports.recv()).await.ok().flatten();
        let callback = callback.context("no callback has come")?;
        let batch = delivered(&stage.client, batch.id).await?;
        let further = stage.further_callbacks();
        let seen = Seen { batch, callback, further, begin, messages: self.messages };
        print(&seen.text())?;
        let missing = seen.missing();
        if missing.is_empty() {
            return print("The counts add up, one callback came, and its signature holds.\n\n");
        }
        Err(anyhow!("not all was as it should be: {}", missing.join("; ")).into())
    }

    async fn submit(&self, stage: &Stage) -> Result<BatchResource, Failure> {
        let head = SubmitBatch {
            from: Some("+15550001111".to_owned()),
            body: TEMPLATE.to_owned(),
            callback_url: Some(stage.callback_url()),
            reference: Some("demo".to_owned()),
            ..SubmitBatch::default()
        };
        let lines = recipients::lines(self.messages);
        let submitted = stage.client.submit_stream(&head, lines, Some("demo")).await;
        Ok(submitted.context("the batch was not accepted")?.batch)
    }

    fn introduction(&self, stage: &Stage) -> String {
        let messages = table::number(self.messages);
        let mut text = format!(
            "A service at {}, with a store in a temporary folder and the provider \"mock\",\n\
             which sends nothing; a receiver of callbacks at {}.\n\n\
             A batch of {messages}, from a template:\n  {TEMPLATE}\n",
            stage.client.url(),
            stage.callback_url()
        );
        if recipients::invalid(self.messages) > 0 {
            text += "The last recipient is `12`, which is no phone number, and is to be counted as failed.\n";
        }
        text + "\nPOST /v1/batches\n"
    }

    /// How long it may take in all.
    fn longest(&self) -> Duration {
        LONGEST + Duration::from_secs(self.messages / RATE_MIN)
    }
}

/// Waits until the service knows that the callback was taken, and gives the batch.
async fn delivered(client: &Client, id: BatchId) -> anyhow::Result<BatchResource> {
    let look = async {
        loop {
            let batch = client.batch(id).await?;
            let callback = batch.callback.as_ref().map(|callback| callback.state);
            if callback != Some(CallbackState::Pending) {
                return anyhow::Ok(batch);
            }
            sleep(POLL).await;
        }
    };
    timeout(CALLBACK_TIME, look).await.context("the callback stays pending")?
}

/// The service is within this process: that it can't be reached is a failure like any other.
fn no_server(failure: Failure) -> Failure {
    match failure {
        Failure::Unreachable(why) => Failure::Failed(anyhow!(why)),
        other => other,
    }
}

fn log_into(folder: &Path) -> anyhow::Result<telemetry::Flush> {
    let file = File::create_new(folder.join(LOG_FILE)).context("can't log")?;
    telemetry::start_into(file, "info").context("can't log")
}

/// What the service said last may tell why.
fn show_log(folder: &Path) {
    let log = fs::read(folder.join(LOG_FILE)).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<_> = log.lines().collect();
    say("the service's last words:");
    for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
        say(&format!("  {}", table::plain(line)));
    }
}

fn remove(folder: TempDir) -> anyhow::Result<()> {
    let path = folder.path().to_owned();
    folder.close().with_context(|| format!("{} is left behind", path.display()))
}
