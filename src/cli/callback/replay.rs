//! `ringback callback replay`: has callbacks delivered again.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;

use crate::{
    api::model::{ReplayCallbacks, ReplayState, ReplayedEvent},
    app::receiving::Clock,
    cli::{
        Failure,
        batch::word,
        print,
        remote::{Remote, batch_id},
        table,
    },
    client::Client,
    domain::{
        ids::BatchId,
        time::{UnixMs, millis},
    },
};

#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = false, args = ["batch", "since"])]
pub(super) struct Replay {
    /// The id of the batch whose callback is delivered again
    #[arg(value_parser = batch_id)]
    batch: Option<BatchId>,

    /// All that ended since then: so long ago (`2h`), or an instant (`2026-12-01T09:00:00Z`)
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<Since>,

    /// Those that ended in this state: exhausted (if not said), gone, delivered
    #[arg(long, value_parser = word::<ReplayState>, conflicts_with = "batch")]
    state: Option<ReplayState>,

    /// Those to this host, with its port or whatever the port
    #[arg(long, conflicts_with = "batch")]
    host: Option<String>,

    /// Print JSON: what the server answers
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    remote: Remote,
}

/// Since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    At(UnixMs),
    Ago(Duration),
}

// === impl Replay ===

impl Replay {
    pub(super) fn run(self) -> Result<(), Failure> {
        match (self.batch, self.since) {
            (Some(id), _) => {
                let request = |client: Client| async move { Ok(client.replay_callback(id).await?) };
                let event = self.remote.run(request)?;
                print(&if self.json { table::json_line(&event)? } else { one(&event) })
            }
            (None, Some(since)) => self.many(since),
            (None, None) => Err(Failure::Usage("name a batch, or give --since".to_owned())),
        }
    }

    fn many(self, since: Since) -> Result<(), Failure> {
        let order = ReplayCallbacks {
            since: since.at(Clock::system().now()).to_string(),
            state: self.state.unwrap_or_default(),
            host: self.host,
        };
        let request = |client: Client| async move { Ok(client.replay_callbacks(&order).await?) };
        let order = self.remote.run(request)?;
        print(&if self.json { table::json_line(&order)? } else { many(&order) })
    }
}

// === impl Since ===

impl Since {
    fn at(self, now: UnixMs) -> UnixMs {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => UnixMs(now.0.saturating_sub(millis(ago))),
        }
    }
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(Since::At(at.into()));
    }
    let ago = humantime::parse_duration(text).map(Since::Ago);
    ago.map_err(|_| {
        "this is a duration, as in 2h, or an instant, as in 2026-12-01T09:00:00Z".into()
    })
}

fn one(event: &ReplayedEvent) -> String {
    format!(
        "The callback of {} will be delivered again, with the same id ({}) and body.\n",
        event.batch_id, event.id
    )
}

fn many(order: &ReplayCallbacks) -> String {
    let state = match order.state {
        ReplayState::Exhausted => "were given up",
        ReplayState::Gone => "found their receiver gone",
        ReplayState::Delivered => "were delivered",
    };
    let host = order.host.as_deref().map(table::plain);
    let to = host.map(|host| format!(" to {host}")).unwrap_or_default();
    let since = table::instant(&order.since);
    format!(
        "All callbacks{to} that {state} since {since} will be delivered again, little by little.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_an_instant_or_so_long_ago() {
        let now = UnixMs(1_790_000_000_000);
        let at = |text| since(text).unwrap().at(now);
        assert_eq!(at("2h"), UnixMs(1_789_992_800_000));
        assert_eq!(at("2026-09-21T14:13:20+00:00"), now);
        assert_eq!(at("100y"), UnixMs(0));
        for text in ["", "yesterday", "2h ago", "-2h", "2026-09-21"] {
            assert!(since(text).unwrap_err().contains("2h"), "{text}");
        }
    }

    #[test]
    fn what_will_happen_is_said_in_words() {
        let order = ReplayCallbacks {
            since: "2026-12-01T09:00:00.000Z".into(),
            state: ReplayState::Exhausted,
            host: Some("hooks.example".into()),
        };
        assert_eq!(
            many(&order),
            "All callbacks to hooks.example that were given up since 2026-12-01 09:00:00Z will be \
             delivered again, little by little.\n"
        );
    }
}
