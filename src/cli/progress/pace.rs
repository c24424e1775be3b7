//! How fast a batch goes, over the last seconds, and how long it will take at that.

use std::{collections::VecDeque, fmt::Write as _, time::Duration};

use tokio::time::Instant;

use super::{done, table};
use crate::api::model::BatchResource;

/// What the rate is taken over.
const WINDOW: Duration = Duration::from_secs(5);

/// The most samples kept; more than there are in a window.
const SAMPLES_MAX: usize = 64;

/// The messages that were final at each of the last moments.
#[derive(Debug, Default)]
pub(super) struct Pace {
    samples: VecDeque<(Instant, u64)>,
}

// === impl Pace ===

impl Pace {
    /// Takes down that `done` messages are final at `now`.
    pub(super) fn note(&mut self, now: Instant, done: u64) {
        self.samples.push_back((now, done));
        // The sample at the window's edge stays: the rate is taken from there.
        while self.samples.len() > SAMPLES_MAX
            || self.samples.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW)
        {
            self.samples.pop_front();
        }
    }

    /// Messages a second.
    pub(super) fn rate(&self) -> Option<u64> {
        let (messages, ms) = self.span()?;
        Some(messages.saturating_mul(1_000) / ms)
    }

    /// The time that `messages` take at this rate.
    pub(super) fn time_for(&self, messages: u64) -> Option<Duration> {
        let (done, ms) = self.span().filter(|(done, _)| *done > 0)?;
        Some(Duration::from_millis(messages.saturating_mul(ms) / done))
    }

    /// How the batch stands, in words.
    pub(super) fn sentence(&self, batch: &BatchResource) -> String {
        let counts = &batch.counts;
        let (done, total) = (done(counts), counts.total);
        let mut text = format!(
            "{}: {} of {} done",
            batch.state.word(),
            table::number(done),
            table::number(total)
        );
        // Writing to a string can't fail.
        if let Some(percent) = done.saturating_mul(100).checked_div(total) {
            let _ = write!(text, " ({percent} %)");
        }
        if done < total {
            if let Some(rate) = self.rate() {
                let _ = write!(text, ", {}/s", table::number(rate));
            }
            if let Some(left) = self.time_for(total - done) {
                let left = Duration::from_secs(left.as_secs().max(1));
                let _ = write!(text, ", {} left", table::whole(left));
            }
        }
        let ends = table::states(counts).into_iter().skip(2).filter(|(_, messages)| *messages > 0);
        for (at, (state, messages)) in ends.enumerate() {
            let gap = if at == 0 { ";" } else { "," };
            let _ = write!(text, "{gap} {} {state}", table::number(messages));
        }
        text
    }

    /// Messages and milliseconds between the first sample and the last.
    fn span(&self) -> Option<(u64, u64)> {
        let ((first_at, first), (last_at, last)) = (self.samples.front()?, self.samples.back()?);
        let ms = u64::try_from(last_at.duration_since(*first_at).as_millis()).ok()?;
        (ms > 0).then(|| (last.saturating_sub(*first), ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        batch::{Batch, BatchSpec, BatchState, CallbackState, Counts, FinalCounts},
        ids::BatchId,
        message::FinalState,
        time::UnixMs,
    };

    fn batch(total: u64, sent: u64, failed: u64) -> BatchResource {
        let mut ended = FinalCounts::default();
        ended.add(FinalState::Sent, sent);
        ended.add(FinalState::Failed, failed);
        BatchResource::from(Batch {
            id: BatchId::new(UnixMs(1_790_000_000_000), 0, 0),
            spec: BatchSpec::default(),
            state: BatchState::Running,
            counts: Counts { total, sending: 0, ended },
            skipped: 0,
            started_at: None,
            completed_at: None,
            callback: CallbackState::Pending,
        })
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert_eq!(pace.rate(), None);
        for quarter in 0..=40 {
            let at = start + quarter * Duration::from_millis(250);
            // Fast for five seconds, then 100 a second.
            let done = if quarter <= 20 { 1_000 * quarter } else { 20_000 + 25 * (quarter - 20) };
            pace.note(at, done.into());
        }
        assert_eq!(pace.rate(), Some(100));
        assert_eq!(pace.time_for(1_000), Some(Duration::from_secs(10)));
    }

    #[test]
    fn what_does_not_move_has_no_end_in_sight() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        pace.note(start, 7);
        pace.note(start + Duration::from_secs(1), 7);
        assert_eq!((pace.rate(), pace.time_for(1)), (Some(0), None));
    }

    #[test]
    fn the_sentence_tells_all_there_is_to_know() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert_eq!(pace.sentence(&batch(0, 0, 0)), "running: 0 of 0 done");
        pace.note(start, 0);
        pace.note(start + Duration::from_secs(2), 2_500);
        assert_eq!(
            pace.sentence(&batch(100_000, 2_490, 10)),
            "running: 2,500 of 100,000 done (2 %), 1,250/s, 1m 18s left; 2,490 sent, 10 failed"
        );
        assert_eq!(pace.sentence(&batch(2, 2, 0)), "running: 2 of 2 done (100 %); 2 sent");
    }
}
