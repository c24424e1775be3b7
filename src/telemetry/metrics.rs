//! The figures of one process. Each is one atomic addition, so the hot path may keep them.

use std::{fmt, time::Duration};

use prometheus_client::{
    encoding::text,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

/// Counters by the provider's name.
type ByProvider = Family<[(&'static str, String); 1], Counter>;

/// Counters by what came of something.
type ByResult = Family<[(&'static str, &'static str); 1], Counter>;

/// What came of an attempt at a callback, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallbackResult {
    /// The receiver took it.
    Delivered,
    /// The receiver answered, and did not take it.
    Refused,
    /// The receiver gave no answer.
    Silent,
    /// Nobody was asked: callbacks don't go there.
    Forbidden,
    /// Whoever made the attempt never recorded its end.
    Interrupted,
}

/// Counters by the provider's name and what came of something.
type ByProviderAndResult = Family<[(&'static str, String); 2], Counter>;

/// The figures of this process, named `ringback_process_…`.
pub struct Metrics {
    registry: Registry,
    leases_lost: Counter,
    late_outcomes: Counter,
    settlements: Counter,
    messages_settled: Counter,
    panics: Counter,
    pauses: ByProvider,
    aways: ByProvider,
    failovers: ByProvider,
    callback_attempts: ByResult,
    callback_seconds: Histogram,
    hosts_left_alone: Counter,
    receipts: ByProviderAndResult,
}

// === impl CallbackResult ===

impl CallbackResult {
    const ALL: [Self; 5] =
        [Self::Delivered, Self::Refused, Self::Silent, Self::Forbidden, Self::Interrupted];

    fn labels(self) -> [(&'static str, &'static str); 1] {
        let word = match self {
            Self::Delivered => "delivered",
            Self::Refused => "refused",
            Self::Silent => "silent",
            Self::Forbidden => "forbidden",
            Self::Interrupted => "interrupted",
        };
        [("result", word)]
    }

    /// Whether there was an exchange whose time says something.
    fn was_sent(self) -> bool {
        matches!(self, Self::Delivered | Self::Refused | Self::Silent)
    }
}

// === impl Metrics ===

impl Default for Metrics {
    fn default() -> Self {
        // From 1 ms to 32 s, doubling: a callback's time-out lies within.
        let callback_seconds = Histogram::new(exponential_buckets(0.001, 2.0, 16));
        let mut metrics = Self {
            registry: Registry::with_prefix("ringback_process"),
            leases_lost: Counter::default(),
            late_outcomes: Counter::default(),
            settlements: Counter::default(),
            messages_settled: Counter::default(),
            panics: Counter::default(),
            pauses: ByProvider::default(),
            aways: ByProvider::default(),
            failovers: ByProvider::default(),
            callback_attempts: ByResult::default(),
            callback_seconds,
            hosts_left_alone: Counter::default(),
            receipts: ByProviderAndResult::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    /// A worker found that it holds a chunk no more.
    pub fn lease_lost(&self) {
        self.leases_lost.inc();
    }

    /// The store refused `messages` outcomes, for their lease was over.
    pub fn late_outcomes_refused(&self, messages: u64) {
        self.late_outcomes.inc_by(messages);
    }

    /// One settlement was written; it made `messages` final.
    pub fn settled(&self, messages: u64) {
        self.settlements.inc();
        self.messages_settled.inc_by(messages);
    }

    /// A panic in one message's task was contained.
    pub fn panic_contained(&self) {
        self.panics.inc();
    }

    /// A provider asked for a pause.
    pub fn provider_paused(&self, provider: &str) {
        self.pauses.get_or_create(&[("provider", provider.to_owned())]).inc();
    }

    /// A provider counts as away from now on.
    pub fn provider_away(&self, provider: &str) {
        self.aways.get_or_create(&[("provider", provider.to_owned())]).inc();
    }

    /// A message of `provider` was submitted through its fallback.
    pub fn failed_over(&self, provider: &str) {
        self.failovers.get_or_create(&[("provider", provider.to_owned())]).inc();
    }

    /// An attempt at a callback ended, `latency` after it began.
    pub fn callback_attempted(&self, result: CallbackResult, latency: Duration) {
        self.callback_attempts.get_or_create(&result.labels()).inc();
        if result.was_sent() {
            self.callback_seconds.observe(latency.as_secs_f64());
        }
    }

    /// A provider reported `number` receipts that came to this.
    pub fn receipts_heard(&self, provider: &str, result: &str, number: u64) {
        let labels = [("provider", provider.to_owned()), ("result", result.to_owned())];
        self.receipts.get_or_create(&labels).inc_by(number);
    }

    /// A receiver's host gave no answer once too often.
    pub fn host_left_alone(&self) {
        self.hosts_left_alone.inc();
    }

    /// Writes all figures in the `OpenMetrics` text form, without the closing `# EOF`, so that
    /// others can write theirs before or after.
    pub fn encode(&self, out: &mut String) {
        // Writing to a string can't fail.
        let _ = text::encode_registry(out, &self.registry);
    }

    fn register(&mut self) {
        let counters = [
            ("leases_lost", "Chunks that a worker found it holds no more", &self.leases_lost),
            (
                "late_outcomes_refused",
                "Outcomes the store refused, for their lease was over",
                &self.late_outcomes,
            ),
            ("settlements", "Settlements written to the store", &self.settlements),
            ("messages_settled", "Messages those settlements made final", &self.messages_settled),
            ("panics_contained", "Panics contained in one message's task", &self.panics),
            (
                "callback_hosts_left_alone",
                "Times a receiver's host was left alone, for it gave no answer",
                &self.hosts_left_alone,
            ),
        ];
        for (name, help, counter) in counters {
            self.registry.register(name, help, counter.clone());
        }
        self.registry.register(
            "provider_pauses",
            "Times a provider asked for a pause",
            self.pauses.clone(),
        );
        self.registry.register(
            "receipts",
            "Receipts that providers reported, by what they came to",
            self.receipts.clone(),
        );
        self.registry.register(
            "provider_aways",
            "Times a provider counted as away",
            self.aways.clone(),
        );
        self.registry.register(
            "messages_failed_over",
            "Submissions of a provider's messages through its fallback",
            self.failovers.clone(),
        );
        // From zero, so that the first of a kind is seen as an increase.
        for result in CallbackResult::ALL {
            self.callback_attempts.get_or_create(&result.labels()).inc_by(0);
        }
        self.registry.register(
            "callback_attempts",
            "Attempts at callbacks, by what came of them",
            self.callback_attempts.clone(),
        );
        self.registry.register(
            "callback_attempt_seconds",
            "How long attempts at callbacks took that were sent",
            self.callback_seconds.clone(),
        );
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_in_the_text() {
        let metrics = Metrics::default();
        metrics.lease_lost();
        metrics.late_outcomes_refused(7);
        metrics.settled(500);
        metrics.settled(2);
        metrics.panic_contained();
        metrics.provider_paused("carrier");
        metrics.provider_away("carrier");
        metrics.failed_over("carrier");
        metrics.callback_attempted(CallbackResult::Delivered, Duration::from_millis(3));
        metrics.callback_attempted(CallbackResult::Interrupted, Duration::ZERO);
        metrics.host_left_alone();
        metrics.receipts_heard("carrier", "late", 3);
        let mut text = String::new();
        metrics.encode(&mut text);
        for line in [
            "ringback_process_leases_lost_total 1",
            "ringback_process_late_outcomes_refused_total 7",
            "ringback_process_settlements_total 2",
            "ringback_process_messages_settled_total 502",
            "ringback_process_panics_contained_total 1",
            "ringback_process_provider_pauses_total{provider=\"carrier\"} 1",
            "ringback_process_provider_aways_total{provider=\"carrier\"} 1",
            "ringback_process_messages_failed_over_total{provider=\"carrier\"} 1",
            "ringback_process_callback_attempts_total{result=\"delivered\"} 1",
            "ringback_process_callback_attempts_total{result=\"silent\"} 0",
            "ringback_process_callback_attempts_total{result=\"interrupted\"} 1",
            "ringback_process_callback_attempt_seconds_count 1",
            "ringback_process_callback_hosts_left_alone_total 1",
            "ringback_process_receipts_total{provider=\"carrier\",result=\"late\"} 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn the_text_can_be_joined_with_others() {
        let mut text = String::from("ringback_other 1\n");
        Metrics::default().encode(&mut text);
        assert!(text.starts_with("ringback_other 1\n"));
        assert!(!text.contains("# EOF"));
    }
}
