//! Every call of the API: its handler, who may make it, and what it changes.

use axum::{Router, routing::get};
use http::Method;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    AppState, batches, callbacks, create, events, health, inbound, messages, metrics, openapi,
    pings, providers, receipts, replays, suppressions, watch, well_known,
};
use crate::domain::scope::Scope;

/// A call, and who may make it.
#[derive(Debug)]
pub(super) struct Call {
    /// Its method.
    pub(super) method: Method,
    /// The pattern of its path.
    pub(super) path: &'static str,
    /// Who may make it.
    pub(super) access: Access,
    /// What it changes, as the log says it: then each time it is made stands in the log.
    pub(super) change: Option<&'static str>,
}

/// Who may make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Everyone.
    Open,
    /// Who has a key with this scope; everyone, where no account is configured.
    Key(Scope),
    /// Who signs as the provider does that it is about.
    Signed,
}

/// Where the metrics are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetricsAt {
    /// With the API.
    Api,
    /// On a listener of their own, and nowhere else.
    OwnListener,
}

/// The calls: those of [`described`], and those that [`unbuilt`](super::unbuilt) stands for. One that
/// is missing here is refused.
pub(super) static CALLS: [Call; 35] = [
    changes(Method::POST, "/v1/batches", Scope::Submit, "submit a batch"),
    reads(Method::GET, "/v1/batches"),
    reads(Method::GET, "/v1/batches/{id}"),
    changes(Method::PATCH, "/v1/batches/{id}", Scope::Submit, "change a batch"),
    changes(Method::DELETE, "/v1/batches/{id}", Scope::Submit, "erase a batch"),
    reads(Method::GET, "/v1/batches/{id}/events"),
    changes(Method::POST, "/v1/batches/{id}/cancel", Scope::Submit, "cancel a batch"),
    changes(Method::POST, "/v1/batches/{id}/pause", Scope::Submit, "pause a batch"),
    changes(Method::POST, "/v1/batches/{id}/resume", Scope::Submit, "resume a batch"),
    changes(Method::POST, "/v1/batches/{id}/retry", Scope::Submit, "try messages again"),
    reads(Method::GET, "/v1/batches/{id}/messages"),
    reads(Method::GET, "/v1/batches/{id}/messages/{index}"),
    reads(Method::GET, "/v1/batches/{id}/callbacks"),
    changes(Method::POST, "/v1/batches/{id}/callbacks/replay", Scope::Submit, "replay a callback"),
    reads(Method::GET, "/v1/callbacks"),
    changes(Method::POST, "/v1/callbacks/replay", Scope::Submit, "replay callbacks"),
    changes(Method::POST, "/v1/callbacks/test", Scope::Submit, "try a receiver out"),
    reads(Method::GET, "/v1/events"),
    reads(Method::GET, "/v1/suppressions"),
    changes(Method::POST, "/v1/suppressions", Scope::Submit, "opt numbers out"),
    reads(Method::GET, "/v1/suppressions/{number}"),
    changes(Method::DELETE, "/v1/suppressions/{number}", Scope::Submit, "opt a number in"),
    reads(Method::GET, "/v1/providers"),
    changes(Method::POST, "/v1/providers/{name}/pause", Scope::Admin, "stop a provider"),
    changes(Method::POST, "/v1/providers/{name}/resume", Scope::Admin, "resume a provider"),
    reads(Method::POST, "/v1/estimate"),
    signed("/v1/receipts/{provider}"),
    signed("/v1/inbound/{provider}"),
    open("/.well-known/webhook-keys"),
    open("/healthz"),
    open("/readyz"),
    open("/metrics"),
    open("/openapi.json"),
    open("/docs"),
    open("/"),
];

/// The calls that are in the document.
pub(super) fn described(metrics_at: MetricsAt) -> OpenApiRouter<AppState> {
    let router = OpenApiRouter::with_openapi(openapi::empty())
        .routes(routes!(create::submit, batches::list))
        .routes(routes!(batches::get, batches::amend, batches::erase))
        .routes(routes!(create::estimated::estimate))
        .routes(routes!(watch::events))
        .routes(routes!(batches::cancel))
        .routes(routes!(batches::pause))
        .routes(routes!(batches::resume))
        .routes(routes!(create::retry))
        .routes(routes!(messages::list))
        .routes(routes!(messages::get))
        .routes(routes!(callbacks::attempts))
        .routes(routes!(replays::replay))
        .routes(routes!(callbacks::list))
        .routes(routes!(replays::replay_many))
        .routes(routes!(pings::test))
        .routes(routes!(events::feed))
        .routes(routes!(suppressions::list, suppressions::add))
        .routes(routes!(suppressions::get, suppressions::remove))
        .routes(routes!(providers::list))
        .routes(routes!(providers::pause))
        .routes(routes!(providers::resume))
        .routes(routes!(receipts::report))
        .routes(routes!(inbound::report))
        .routes(routes!(well_known::webhook_keys))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(openapi::published));
    match metrics_at {
        MetricsAt::Api => router.routes(routes!(metrics::scrape)),
        MetricsAt::OwnListener => router,
    }
}

/// What a listener for metrics serves: what tells how the process is.
pub(super) fn of_process() -> Router<AppState> {
    Router::new()
        .route("/metrics", get(metrics::scrape))
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
}

const fn open(path: &'static str) -> Call {
    Call { method: Method::GET, path, access: Access::Open, change: None }
}

const fn signed(path: &'static str) -> Call {
    Call { method: Method::POST, path, access: Access::Signed, change: None }
}

const fn reads(method: Method, path: &'static str) -> Call {
    Call { method, path, access: Access::Key(Scope::Read), change: None }
}

const fn changes(method: Method, path: &'static str, scope: Scope, change: &'static str) -> Call {
    Call { method, path, access: Access::Key(scope), change: Some(change) }
}

// === impl Call ===

impl Call {
    /// The call that a request makes, by the path's pattern.
    pub(super) fn of(method: &Method, path: &str) -> Option<&'static Self> {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        CALLS.iter().find(|call| call.path == path && call.method == *method)
    }

    /// What stands in `path`, which is of this call's pattern, at the place called `name`.
    pub(super) fn part<'p>(&self, path: &'p str, name: &str) -> Option<&'p str> {
        let mut parts = self.path.split('/').zip(path.split('/'));
        let is_it = |pattern: &str| pattern.trim_matches(['{', '}']) == name && pattern != name;
        parts.find(|(pattern, _)| is_it(pattern)).map(|(_, part)| part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_known_by_its_method_and_path() {
        let access = |method, path| Call::of(&method, path).map(|call| call.access);
        assert_eq!(access(Method::GET, "/healthz"), Some(Access::Open));
        assert_eq!(access(Method::HEAD, "/v1/batches"), Some(Access::Key(Scope::Read)));
        assert_eq!(access(Method::POST, "/v1/batches"), Some(Access::Key(Scope::Submit)));
        assert_eq!(access(Method::PUT, "/v1/batches"), None);
        assert_eq!(access(Method::GET, "/v1/batches/bat_1"), None);
    }

    #[test]
    fn the_parts_of_a_path_have_names() {
        let call = Call::of(&Method::GET, "/v1/batches/{id}/messages/{index}").unwrap();
        let path = "/v1/batches/bat_1/messages/7";
        assert_eq!(call.part(path, "id"), Some("bat_1"));
        assert_eq!(call.part(path, "index"), Some("7"));
        assert_eq!(call.part(path, "batches"), None);
    }

    #[test]
    fn what_changes_something_is_told_apart_from_what_reads() {
        for call in &CALLS {
            let scope = match call.access {
                Access::Open | Access::Signed => None,
                Access::Key(scope) => Some(scope),
            };
            let is_open = call.access == Access::Open;
            assert_eq!(call.path.starts_with("/v1/"), !is_open, "{call:?}");
            let changes = scope.is_some_and(|scope| scope != Scope::Read);
            assert_eq!(call.change.is_some(), changes, "{call:?}");
        }
    }
}
