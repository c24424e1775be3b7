//! A batch under way, for those who wait for it: a bar on a terminal, a line now and then in a log,
//! JSON for programs.
//!
//! All figures are the server's counts, asked for four times a second. A server that is away for a
//! while, as in a restart, is waited for; it must be back within a minute.

mod outage;
mod pace;

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Duration, Instant, sleep};

use self::{outage::Outage, pace::Pace};
use super::{Failure, interrupt::Interrupt, pour, remote, say, table};
use crate::{
    api::model::{BatchResource, CountsView},
    client::Client,
    domain::ids::BatchId,
};

/// How often the server is asked.
const POLL: Duration = Duration::from_millis(250);

/// The shortest time between two lines, where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(2);

/// How the way of a batch is shown.
#[derive(Debug)]
pub(super) enum View {
    /// A bar on stderr.
    Bar(ProgressBar),
    /// Lines on stderr, at most one every two seconds, and one at the end.
    Lines {
        /// When the last one was written, and what it said.
        last: Option<(Instant, String)>,
    },
    /// The batch on stdout, a line each time that it has changed.
    Json {
        /// What the last one said.
        last: String,
    },
}

/// Follows a batch until its last message is final; gives it as it stands then, or when nobody
/// reads what is shown any more.
///
/// # Errors
/// [`Failure`] if the server refuses to tell, or is away for too long.
pub(super) async fn follow(
    client: &Client,
    id: BatchId,
    view: &mut View,
) -> Result<BatchResource, Failure> {
    let (mut pace, mut outage) = (Pace::default(), Outage::default());
    loop {
        let pause = match client.batch(id).await {
            Ok(batch) => {
                if outage.end() {
                    view.say("The server answers again.");
                }
                pace.note(Instant::now(), done(&batch.counts));
                let is_read = view.show(&batch, &pace)?;
                if batch.completed_at.is_some() || !is_read {
                    view.end();
                    return Ok(batch);
                }
                POLL
            }
            Err(error) => {
                if outage.bear(error, Instant::now())? {
                    view.say("The server does not answer; trying again for up to a minute.");
                }
                outage.pause().max(POLL)
            }
        };
        sleep(pause).await;
    }
}

/// Follows a batch until its end or Ctrl-C, which says how to watch it again.
///
/// # Errors
/// Those of [`follow`]; [`Failure::Interrupted`].
pub(super) async fn watch(
    client: &Client,
    id: BatchId,
    view: &mut View,
) -> Result<BatchResource, Failure> {
    let interrupt = Interrupt::new();
    let mut interrupt = interrupt.map_err(|error| Failure::Failed(error.into()))?;
    tokio::select! {
        followed = follow(client, id, view) => followed,
        () = interrupt.next() => {
            view.leave();
            say(&format!("The batch goes on at the server. To watch it again:\n  {}", again(client, id)));
            Err(Failure::Interrupted)
        }
    }
}

/// The command that watches a batch.
pub(super) fn again(client: &Client, id: BatchId) -> String {
    match client.url() {
        remote::DEFAULT_URL => format!("ringback batch watch {id}"),
        url => format!("ringback batch watch {id} --url {url}"),
    }
}

/// How a command ends that has waited for a batch: well only if every message went.
///
/// # Errors
/// [`Failure::Silent`], after having said how many did not go.
pub(super) fn verdict(counts: &CountsView) -> Result<(), Failure> {
    let went = counts.sent + counts.delivered;
    if went == counts.total {
        return Ok(());
    }
    let (left, total) = (counts.total.saturating_sub(went), counts.total);
    say(&format!("{} of {} messages did not go.", table::number(left), table::number(total)));
    Err(Failure::Silent)
}

/// How many messages are final.
pub(super) fn done(counts: &CountsView) -> u64 {
    counts.total.saturating_sub(counts.queued + counts.sending)
}

// === impl View ===

impl View {
    /// For people: a bar where stderr is a terminal, else lines.
    pub(super) fn for_people() -> Self {
        let is_dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
        if !io::stderr().is_terminal() || is_dumb {
            return Self::Lines { last: None };
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("[{bar:24}] {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        Self::Bar(bar)
    }

    /// For programs.
    pub(super) fn json() -> Self {
        Self::Json { last: String::new() }
    }

    /// Shows how the batch stands; says whether anyone reads on.
    fn show(&mut self, batch: &BatchResource, pace: &Pace) -> Result<bool, Failure> {
        match self {
            Self::Bar(bar) => {
                bar.set_length(batch.counts.total.max(1));
                bar.set_position(if batch.counts.total == 0 { 1 } else { done(&batch.counts) });
                bar.set_message(pace.sentence(batch));
            }
            Self::Lines { last } => {
                let (now, line) =
                    (Instant::now(), format!("{}: {}", batch.id, pace.sentence(batch)));
                let is_over = batch.completed_at.is_some();
                let is_due = last.as_ref().is_none_or(|(at, said)| {
                    *said != line && (is_over || now.duration_since(*at) >= LINE_INTERVAL)
                });
                if is_due {
                    say(&line);
                    *last = Some((now, line));
                }
            }
            Self::Json { last } => {
                let line = table::json_line(batch)?;
                if line != *last {
                    *last = line;
                    return pour(last);
                }
            }
        }
        Ok(true)
    }

    /// Says something beside it.
    pub(super) fn say(&self, text: &str) {
        match self {
            Self::Bar(bar) => bar.suspend(|| say(text)),
            Self::Lines { .. } | Self::Json { .. } => say(text),
        }
    }

    /// Ends what is shown where it stands, without drawing it again: a terminal's `^C` is behind it.
    pub(super) fn leave(&self) {
        if let Self::Bar(bar) = self {
            bar.set_draw_target(ProgressDrawTarget::hidden());
            say("");
        }
    }

    /// Ends what is shown where it stands.
    pub(super) fn end(&self) {
        if let Self::Bar(bar) = self {
            bar.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(total: u64, sent: u64, delivered: u64, failed: u64) -> CountsView {
        let queued = total - sent - delivered - failed;
        let zero = 0;
        CountsView {
            total,
            queued,
            sending: zero,
            sent,
            delivered,
            undelivered: zero,
            failed,
            expired: zero,
            canceled: zero,
            unknown: zero,
        }
    }

    #[test]
    fn all_went_only_if_each_was_sent_or_delivered() {
        assert!(verdict(&counts(3, 2, 1, 0)).is_ok());
        assert!(verdict(&counts(0, 0, 0, 0)).is_ok());
        assert!(verdict(&counts(3, 2, 0, 1)).is_err());
        assert!(verdict(&counts(3, 2, 0, 0)).is_err());
    }

    #[test]
    fn done_is_what_is_final() {
        assert_eq!(done(&counts(10, 2, 1, 3)), 6);
    }

    #[test]
    fn the_command_to_watch_again_names_a_server_that_is_not_the_default() {
        let id = "bat_01M850VKVVFR222NAP7FS08R00".parse().unwrap();
        let at = |url| again(&Client::new(url, None).unwrap(), id);
        assert_eq!(at(remote::DEFAULT_URL), format!("ringback batch watch {id}"));
        assert!(at("http://127.0.0.1:9").ends_with(" --url http://127.0.0.1:9"));
    }
}
