//! `ringback provider`: providers at a server, and the emergency stop.

use clap::{Args, Subcommand, builder::NonEmptyStringValueParser};

use super::{
    Failure, print,
    remote::Remote,
    table::{self, Side, Table},
};
use crate::{
    api::model::{BreakerState, ProviderResource, ProviderState},
    client::{Client, ClientError},
};

/// List providers, stop and resume them
#[derive(Debug, Args)]
pub(super) struct Provider {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List all providers and how they stand
    #[command(after_help = "Examples:\n  ringback provider list\n  \
        ringback provider list --json | jq -r 'select(.state == \"paused\").name'")]
    List(List),
    /// Stop a provider at once and for everybody; what is in flight may still go, and batches are
    /// accepted and wait. The account needs `admin`
    #[command(after_help = "Example:\n  ringback provider pause carrier")]
    Pause(One),
    /// Let a stopped provider go on. The account needs `admin`
    #[command(after_help = "Example:\n  ringback provider resume carrier")]
    Resume(One),
}

#[derive(Debug, Args)]
struct List {
    /// Print JSON, one provider a line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
struct One {
    /// The provider's name in the server's configuration
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: String,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    remote: Remote,
}

// === impl Provider ===

impl Provider {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::List(list) => list.run(),
            Command::Pause(one) => {
                one.run(|client, name| async move { client.pause_provider(&name).await })
            }
            Command::Resume(one) => {
                one.run(|client, name| async move { client.resume_provider(&name).await })
            }
        }
    }
}

// === impl List ===

impl List {
    fn run(self) -> Result<(), Failure> {
        let list = self.remote.run(|client| async move { Ok(client.providers().await?) })?;
        show(&list.providers, self.json)
    }
}

// === impl One ===

impl One {
    /// Makes one call, and prints the provider that it answers with.
    fn run<A>(self, call: impl FnOnce(Client, String) -> A) -> Result<(), Failure>
    where
        A: Future<Output = Result<ProviderResource, ClientError>>,
    {
        let name = self.name;
        let provider = self.remote.run(|client| async move { Ok(call(client, name).await?) })?;
        show(&[provider], self.json)
    }
}

fn show(providers: &[ProviderResource], in_json: bool) -> Result<(), Failure> {
    if in_json {
        let lines: Result<String, _> = providers.iter().map(table::json_line).collect();
        return print(&lines?);
    }
    print(&rows(providers))
}

/// Providers as rows, with a header.
fn rows(providers: &[ProviderResource]) -> String {
    let (left, right) = (Side::Left, Side::Right);
    let columns = [
        ("name", left),
        ("kind", left),
        ("state", left),
        ("paused until", left),
        ("rate", right),
        ("in flight", right),
        ("queued", right),
    ];
    let mut table = Table::new(&columns);
    let untold = || "-".to_owned();
    for provider in providers {
        let until = provider.paused_until.as_deref();
        table.row([
            provider.name.clone(),
            provider.kind.clone(),
            state(provider).to_owned(),
            until.map_or_else(untold, table::instant),
            rate(provider).unwrap_or_else(untold),
            provider.in_flight.map_or_else(untold, table::number),
            provider.queued.map_or_else(untold, table::number),
        ]);
    }
    table.text()
}

/// Whether messages leave through it, in a word.
fn state(provider: &ProviderResource) -> &'static str {
    match (provider.state, provider.breaker) {
        (ProviderState::Running, BreakerState::Open | BreakerState::HalfOpen) => "away",
        (state, _) => state.word(),
    }
}

/// Its rate, and how much of it may be used if that is not all.
fn rate(provider: &ProviderResource) -> Option<String> {
    let rate = provider.rate.as_ref()?;
    let current = provider.current_rate.as_ref().filter(|current| *current != rate);
    Some(current.map_or_else(|| rate.clone(), |current| format!("{current} of {rate}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use crate::domain::units::RateUnit;

    fn provider(name: &str, queued: Option<u64>) -> ProviderResource {
        ProviderResource {
            name: name.into(),
            kind: "http".into(),
            state: ProviderState::Throttled,
            paused_until: Some("2026-11-23T20:16:46.971Z".into()),
            rate: None,
            rate_unit: RateUnit::default(),
            sender_rate: None,
            senders: 0,
            prefix_rates: BTreeMap::new(),
            current_rate: None,
            fallback: None,
            breaker: BreakerState::Closed,
            max_in_flight: 64,
            queued,
            in_flight: queued,
        }
    }

    #[test]
    fn a_list_is_a_row_a_provider() {
        let text = rows(&[provider("carrier\u{1b}[2J", Some(1_200)), provider("other", None)]);
        let [header, first, second] = text.lines().collect::<Vec<_>>()[..] else {
            panic!("{text}")
        };
        assert!(header.starts_with("NAME") && header.contains("PAUSED UNTIL"), "{header}");
        assert!(first.starts_with("carrier\u{fffd}") && first.ends_with("1,200"), "{first}");
        let words: Vec<_> = second.split_whitespace().collect();
        let told = ["other", "http", "throttled", "2026-11-23", "20:16:46Z", "-", "-", "-"];
        assert_eq!(words, told);
    }

    #[test]
    fn who_is_away_and_what_is_cut_is_told() {
        let mut provider = provider("carrier", None);
        assert_eq!((state(&provider), rate(&provider)), ("throttled", None));
        provider.state = ProviderState::Running;
        provider.rate = Some("100/s".into());
        provider.current_rate = provider.rate.clone();
        assert_eq!((state(&provider), rate(&provider)), ("running", provider.rate.clone()));
        provider.breaker = BreakerState::HalfOpen;
        provider.current_rate = Some("62.5/s".into());
        assert_eq!((state(&provider), rate(&provider)), ("away", Some("62.5/s of 100/s".into())));
    }
}
