//! `/metrics`: figures of the whole installation, asked of the store at each scrape, and those of
//! this process.

use std::time::Duration;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::header::CONTENT_TYPE;
use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use tokio::time::timeout;

use super::AppState;
use crate::{
    domain::{share::Share, time::UnixMs},
    store::{ProviderStats, Stats},
};

/// The `OpenMetrics` text form.
const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How long the store may take to answer.
const STATS_TIME: Duration = Duration::from_secs(5);

type Labels<const N: usize> = [(&'static str, String); N];

/// The figures of one scrape.
#[derive(Default)]
struct Figures {
    messages: Family<Labels<2>, Gauge>,
    ended: Family<Labels<2>, Counter>,
    oldest_queued: Family<Labels<1>, Gauge<f64, std::sync::atomic::AtomicU64>>,
    paused: Family<Labels<1>, Gauge<f64, std::sync::atomic::AtomicU64>>,
    stopped: Family<Labels<1>, Gauge>,
    rate_share: Family<Labels<1>, Gauge<f64, std::sync::atomic::AtomicU64>>,
    away: Family<Labels<1>, Gauge>,
    callbacks_pending: Gauge,
    callbacks_ended: Family<Labels<1>, Counter>,
    leases_lost: Counter,
}

/// Read the metrics
///
/// In the `OpenMetrics` text form. `ringback_store_up` is 0 if the store did not answer; then only
/// this process's own figures are there.
#[utoipa::path(
    get, path = "/metrics", tag = "Operation",
    responses((status = 200, description = "The metrics.", body = String,
        content_type = "application/openmetrics-text"))
)]
pub(super) async fn scrape(State(app): State<AppState>) -> Response {
    let api = &app.api;
    let providers: Vec<String> = api.providers.keys().cloned().collect();
    let stats = timeout(STATS_TIME, api.store.reading.stats(&providers)).await;
    let stats = stats.ok().and_then(|answer| {
        answer.inspect_err(|error| tracing::warn!(%error, "the store gave no figures")).ok()
    });
    let mut out = render(stats.as_ref(), api.clock.now());
    api.metrics.encode(&mut out);
    // Writing to a string can't fail.
    let _ = text::encode_eof(&mut out);
    ([(CONTENT_TYPE, MEDIA_TYPE)], out).into_response()
}

/// The store's figures, without the closing mark.
fn render(stats: Option<&Stats>, now: UnixMs) -> String {
    let mut registry = Registry::with_prefix("ringback");
    let up = Gauge::<i64>::default();
    up.set(stats.is_some().into());
    registry.register("store_up", "Whether the store answered this scrape", up);
    if let Some(stats) = stats {
        Figures::of(stats, now).register(&mut registry);
    }
    let mut out = String::new();
    // Writing to a string can't fail.
    let _ = text::encode_registry(&mut out, &registry);
    out
}

// === impl Figures ===

impl Figures {
    fn of(stats: &Stats, now: UnixMs) -> Self {
        let figures = Self::default();
        for (name, provider) in &stats.providers {
            figures.provider(name, provider, now);
        }
        figures.callbacks_pending.set(gauge(stats.callbacks_pending));
        for (state, events) in &stats.callbacks_ended {
            let labels = [("state", (*state).to_owned())];
            figures.callbacks_ended.get_or_create(&labels).inc_by(*events);
        }
        figures.leases_lost.inc_by(stats.leases_lost);
        figures
    }

    fn provider(&self, name: &str, stats: &ProviderStats, now: UnixMs) {
        let with_state = |state: &str| [("provider", name.to_owned()), ("state", state.to_owned())];
        let queued = stats.open.saturating_sub(stats.sending);
        self.messages.get_or_create(&with_state("queued")).set(gauge(queued));
        self.messages.get_or_create(&with_state("sending")).set(gauge(stats.sending));
        self.messages.get_or_create(&with_state("awaiting_receipt")).set(gauge(stats.awaiting));
        for (state, messages) in &stats.ended {
            self.ended.get_or_create(&with_state(state.word())).inc_by(*messages);
        }
        let alone = [("provider", name.to_owned())];
        let age = stats.oldest_queued.map_or(Duration::ZERO, |oldest| now.since(oldest));
        self.oldest_queued.get_or_create(&alone).set(age.as_secs_f64());
        let pause = Duration::from_millis(stats.paused_ms);
        self.paused.get_or_create(&alone).set(pause.as_secs_f64());
        self.stopped.get_or_create(&alone).set(i64::from(stats.stopped));
        let share = f64::from(stats.share.millionths()) / f64::from(Share::FULL.millionths());
        self.rate_share.get_or_create(&alone).set(share);
        self.away.get_or_create(&alone).set(i64::from(stats.away_ms.is_some()));
    }

    fn register(self, registry: &mut Registry) {
        registry.register("messages", "Messages that are not final, by state", self.messages);
        registry.register("messages_ended", "Messages that became final, by state", self.ended);
        registry.register(
            "oldest_queued_age_seconds",
            "Age of the oldest batch that waits for a worker; 0 if none does",
            self.oldest_queued,
        );
        registry.register(
            "provider_paused_seconds",
            "How long the provider is still paused, as it asked; 0 if it is not",
            self.paused,
        );
        registry.register(
            "provider_stopped",
            "Whether somebody stopped the provider, until it is resumed",
            self.stopped,
        );
        registry.register(
            "provider_rate_share",
            "How much of the provider's rate may be used: less than 1 for a while after it throttled",
            self.rate_share,
        );
        registry.register(
            "provider_away",
            "Whether workers found the provider away, until it is back",
            self.away,
        );
        registry.register(
            "callbacks_pending",
            "Callbacks that are yet to be delivered",
            self.callbacks_pending,
        );
        registry.register(
            "callbacks_ended",
            "Callbacks that have ended, by state",
            self.callbacks_ended,
        );
        registry.register(
            "leases_lost",
            "Chunks taken back from workers whose lease ran out",
            self.leases_lost,
        );
    }
}

fn gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::message::FinalState;

    #[test]
    fn the_stores_figures_are_named_as_documented() {
        let carrier = ProviderStats {
            open: 7,
            sending: 2,
            awaiting: 3,
            ended: BTreeMap::from([(FinalState::Sent, 90)]),
            oldest_queued: Some(UnixMs(1_000)),
            paused_ms: 1_500,
            stopped: true,
            share: Share::FULL.cut(),
            away_ms: Some(0),
        };
        let stats = Stats {
            providers: BTreeMap::from([("carrier".to_owned(), carrier)]),
            callbacks_pending: 3,
            callbacks_ended: BTreeMap::from([("delivered", 4)]),
            leases_lost: 1,
        };
        let text = render(Some(&stats), UnixMs(3_500));
        for line in [
            r#"ringback_messages{provider="carrier",state="queued"} 5"#,
            r#"ringback_messages{provider="carrier",state="sending"} 2"#,
            r#"ringback_messages{provider="carrier",state="awaiting_receipt"} 3"#,
            r#"ringback_messages_ended_total{provider="carrier",state="sent"} 90"#,
            r#"ringback_oldest_queued_age_seconds{provider="carrier"} 2.5"#,
            r#"ringback_provider_paused_seconds{provider="carrier"} 1.5"#,
            r#"ringback_provider_stopped{provider="carrier"} 1"#,
            r#"ringback_provider_rate_share{provider="carrier"} 0.5"#,
            r#"ringback_provider_away{provider="carrier"} 1"#,
            "ringback_callbacks_pending 3",
            r#"ringback_callbacks_ended_total{state="delivered"} 4"#,
            "ringback_leases_lost_total 1",
            "ringback_store_up 1",
        ] {
            assert!(text.lines().any(|given| given == line), "{line} is not in\n{text}");
        }
        assert!(text.contains("# HELP ringback_messages "));
    }

    #[test]
    fn a_store_that_does_not_answer_is_a_figure_too() {
        assert!(render(None, UnixMs(0)).contains("ringback_store_up 0"));
    }
}
