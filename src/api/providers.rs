//! Providers: how they stand, and the emergency stop.
//!
//! Accounts share them. So only an account that may operate the installation can stop one, or see
//! how much of everybody's waits for it.

use axum::{
    Json,
    extract::{Path, State},
};
use http::Uri;

use super::{
    App, AppState,
    auth::Account,
    model::{BreakerState, ProblemBody, ProviderList, ProviderResource, ProviderState},
    params::Query,
    problem::Problem,
};
use crate::store::ProviderStats;

/// List providers
///
/// Whether messages leave through each, and how fast they may. How many wait is told to accounts
/// with `admin` only.
#[utoipa::path(
    get, path = "/v1/providers", tag = "Providers",
    responses((status = 200, description = "Every provider.", body = ProviderList))
)]
pub(super) async fn list(
    State(app): State<AppState>,
    account: Account,
    uri: Uri,
) -> Result<Json<ProviderList>, Problem> {
    Query::parse(&uri, &[])?;
    let names: Vec<String> = app.api.providers.keys().cloned().collect();
    let sees_all = app.api.accounts.is_operator(&account);
    let mut stats = app.api.store.reading.stats(&names).await?.providers;
    let resource = |name: &String| app.provider(name, stats.remove(name), sees_all);
    Ok(Json(ProviderList { providers: names.iter().filter_map(resource).collect() }))
}

/// Stop a provider
///
/// At once and everywhere: nothing more leaves through it until it is resumed; what is in flight
/// ends. Batches are accepted meanwhile, and wait. Needs an account with `admin`, and a key with that scope.
#[utoipa::path(
    post, path = "/v1/providers/{name}/pause", tag = "Providers",
    params(("name" = String, Path, description = "The provider's name.")),
    responses(
        (status = 200, description = "The provider is stopped, or was already.", body = ProviderResource),
        (status = 403, description = "`forbidden`: the account has no `admin`, or the key lacks the scope.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such provider.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn pause(
    State(app): State<AppState>,
    account: Account,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Json<ProviderResource>, Problem> {
    set_stopped(&app, &account, &name, &uri, true).await
}

/// Resume a provider
///
/// A pause that the provider itself asked for goes on. Needs an account with `admin`, and a key with that scope.
#[utoipa::path(
    post, path = "/v1/providers/{name}/resume", tag = "Providers",
    params(("name" = String, Path, description = "The provider's name.")),
    responses(
        (status = 200, description = "The provider is not stopped any more.", body = ProviderResource),
        (status = 403, description = "`forbidden`: the account has no `admin`, or the key lacks the scope.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such provider.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn resume(
    State(app): State<AppState>,
    account: Account,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Json<ProviderResource>, Problem> {
    set_stopped(&app, &account, &name, &uri, false).await
}

async fn set_stopped(
    app: &App,
    account: &Account,
    name: &str,
    uri: &Uri,
    stopped: bool,
) -> Result<Json<ProviderResource>, Problem> {
    Query::parse(uri, &[])?;
    let no_provider = || Problem::not_found("There is no such provider.");
    if !app.api.providers.contains_key(name) {
        return Err(no_provider());
    }
    app.api.store.intake.set_stopped(name, stopped).await?;
    tracing::warn!(
        provider.name = name,
        account = &*account.0,
        stopped,
        "a provider is stopped or resumed"
    );
    let stats = app.api.store.reading.stats(&[name.to_owned()]).await?.providers.remove(name);
    app.provider(name, stats, true).map(Json).ok_or_else(no_provider)
}

// === impl App ===

impl App {
    fn provider(
        &self,
        name: &str,
        stats: Option<ProviderStats>,
        sees_all: bool,
    ) -> Option<ProviderResource> {
        let facts = self.api.providers.get(name)?;
        let stats = stats.unwrap_or_default();
        let paused = stats.paused_ms > 0;
        Some(ProviderResource {
            name: name.to_owned(),
            kind: facts.kind.to_owned(),
            state: match (stats.stopped, paused) {
                (true, _) => ProviderState::Paused,
                (false, true) => ProviderState::Throttled,
                (false, false) => ProviderState::Running,
            },
            paused_until: paused.then(|| {
                let left = std::time::Duration::from_millis(stats.paused_ms);
                self.api.clock.now().after(left).to_string()
            }),
            rate: facts.rate.map(|rate| rate.to_string()),
            rate_unit: facts.rate_unit,
            sender_rate: facts.sender_rate.map(|rate| rate.to_string()),
            senders: facts.senders.len(),
            prefix_rates: facts
                .prefix_rates
                .iter()
                .map(|(prefix, rate)| (prefix.clone(), rate.to_string()))
                .collect(),
            current_rate: facts.rate.map(|rate| rate.at(stats.share)),
            fallback: self.api.fallbacks.get(name).cloned(),
            breaker: match stats.away_ms {
                None => BreakerState::Closed,
                Some(0) => BreakerState::HalfOpen,
                Some(_) => BreakerState::Open,
            },
            max_in_flight: facts.max_in_flight,
            queued: sees_all.then(|| stats.open.saturating_sub(stats.sending)),
            in_flight: sees_all.then_some(stats.sending),
        })
    }
}
