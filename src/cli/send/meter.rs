//! How far an upload is, for those who wait for it: a bar or a spinner on a terminal, a line now
//! and then in a log.

use std::{sync::atomic::Ordering, time::Duration};

use indicatif::{DecimalBytes, ProgressBar, ProgressStyle};
use tokio::time::sleep;

use super::list::Progress;
use crate::cli::{progress::View, say, table};

/// How often a terminal is redrawn.
const REDRAW: Duration = Duration::from_millis(100);

/// The time between two lines, where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(2);

/// Shows how far an upload is.
pub(super) struct Meter {
    /// Where there is a terminal.
    bar: Option<ProgressBar>,
    /// How long the list is, if that is known.
    file_bytes: Option<u64>,
}

// === impl Meter ===

impl Meter {
    /// A meter of a list that is so long.
    pub(super) fn new(file_bytes: Option<u64>) -> Self {
        let View::Bar(bar) = View::for_people() else { return Self { bar: None, file_bytes } };
        if let Some(length) = file_bytes {
            bar.set_length(length);
        } else if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            bar.set_style(style);
        }
        Self { bar: Some(bar), file_bytes }
    }

    /// Shows the progress for as long as it is polled.
    pub(super) async fn run(&self, progress: &Progress) {
        loop {
            sleep(if self.bar.is_some() { REDRAW } else { LINE_INTERVAL }).await;
            let read_bytes = progress.read_bytes.load(Ordering::Relaxed);
            let sentence = self.sentence(read_bytes, progress.recipients.load(Ordering::Relaxed));
            match &self.bar {
                Some(bar) => {
                    bar.set_position(read_bytes);
                    bar.set_message(sentence);
                }
                None => say(&sentence),
            }
        }
    }

    /// Says something beside it.
    pub(super) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }

    /// Takes it away.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn sentence(&self, read_bytes: u64, recipients: u64) -> String {
        let read = DecimalBytes(read_bytes);
        let recipients = table::number(recipients);
        match self.file_bytes {
            Some(all) => {
                format!("uploading: {read} of {}, {recipients} recipients", DecimalBytes(all))
            }
            None => format!("uploading: {read}, {recipients} recipients"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_where_it_is_known() {
        let meter = |file_bytes| Meter { bar: None, file_bytes };
        assert_eq!(
            meter(Some(40_000_000)).sentence(12_300_000, 310_000),
            "uploading: 12.30 MB of 40.00 MB, 310,000 recipients"
        );
        assert_eq!(meter(None).sentence(500, 12), "uploading: 500 B, 12 recipients");
    }
}
