//! The HTTP API: one file per resource.
//!
//! A request passes `server`, which bounds its time and size; `access`, which finds its account and
//! looks whether its key may do this, as the table in `calls` says; and its resource, which asks the store's [`Intake`](crate::store::Intake) and
//! [`Reading`](crate::store::Reading) ports. Every answer that says no is a `problem`. Nothing is
//! kept here between requests: any number of processes may serve.

mod access;
mod audit;
mod auth;
mod batches;
mod body;
mod callbacks;
mod calls;
mod create;
mod day;
mod digest;
mod events;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod health;
mod host_header;
mod hosts;
mod inbound;
mod json;
mod media;
mod messages;
mod metrics;
pub mod model;
mod multipart;
mod openapi;
mod packed;
mod params;
mod pings;
mod places;
mod problem;
mod providers;
mod receipts;
mod replays;
mod reported;
mod results;
mod server;
mod settings;
mod submission;
mod suppressions;
mod tls;
mod unbuilt;
mod upload;
mod watch;
mod webhooks;
mod well_known;
mod writing;

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use axum::{Router, middleware};
use http::{Method, StatusCode, Uri};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

pub use self::{
    auth::{Accounts, DEFAULT_ACCOUNT},
    openapi::openapi_json,
    pings::Pings,
    settings::{AccountSettings, KeySettings, ServerSettings, TlsSettings},
    tls::{Certificate, CertificateError},
};
use self::{
    body::{LARGE_BODIES_MAX, LARGE_UPLOADS_MAX},
    calls::MetricsAt,
    pings::PINGS_MAX,
    problem::Problem,
    results::STREAMS_MAX,
    server::Server,
    watch::Watches,
};
use crate::{
    clock::Clock,
    domain::{
        callback_url,
        price::Price,
        signing_key::PublicKey,
        units::{Rate, RateUnit},
    },
    providers::Provider,
    receipts::Desk,
    store::Store,
    telemetry::Metrics,
};

/// Everything the API works with.
#[derive(Clone)]
pub struct Api {
    /// Where batches are written and read.
    pub store: Store,
    /// The time of day, for the ids of batches.
    pub clock: Clock,
    /// Where to listen, and the bounds of requests.
    pub server: ServerSettings,
    /// The certificate of the API's listener; plain HTTP if there is none.
    pub certificate: Option<Arc<Certificate>>,
    /// The accounts; everyone is the account `default` if there are none.
    pub accounts: Arc<Accounts>,
    /// The providers, by name.
    pub providers: BTreeMap<String, ProviderFacts>,
    /// The same as what reads their receipts.
    pub carriers: BTreeMap<String, Arc<dyn Provider>>,
    /// Where receipts are brought to.
    pub desk: Desk,
    /// The fallback of each provider that has one.
    pub fallbacks: BTreeMap<String, String>,
    /// The provider of batches that name none.
    pub default_provider: String,
    /// The most messages in a chunk.
    pub chunk_size: u16,
    /// Where callbacks may go.
    pub callback_rules: callback_url::Rules,
    /// What receivers check signatures of version `v1a` with.
    pub public_keys: Vec<PublicKey>,
    /// What sends pings.
    pub pings: Arc<dyn Pings>,
    /// The figures of this process.
    pub metrics: Arc<Metrics>,
}

/// What the API must know of a provider: to judge a batch for it, and to show it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderFacts {
    /// Whether it sends nothing without a sender.
    pub needs_from: bool,
    /// Whether it has a sender for batches that give none.
    pub has_default_from: bool,
    /// The word that names its kind.
    pub kind: &'static str,
    /// The most messages a period, over all workers.
    pub rate: Option<Rate>,
    /// The most open exchanges of one process.
    pub max_in_flight: u32,
    /// What a segment costs.
    pub price_per_segment: Option<Price>,
    /// How long after a batch was handed over its receipts are waited for.
    pub receipt_timeout: Duration,
    /// What its rates count.
    pub rate_unit: RateUnit,
    /// The most that leaves from each sender a period.
    pub sender_rate: Option<Rate>,
    /// The senders that recipients of batches without one are shared among.
    pub senders: Vec<String>,
    /// The most that leaves a period to numbers that begin so.
    pub prefix_rates: BTreeMap<String, Rate>,
}

/// What handlers share.
type AppState = Arc<App>;

struct App {
    api: Api,
    /// Places for large bodies.
    large_bodies: Arc<Semaphore>,
    /// Places for large bodies that are read by the piece.
    large_uploads: Arc<Semaphore>,
    /// Places for answers that are streamed.
    streams: Arc<Semaphore>,
    /// Places for pings.
    pings: Semaphore,
    /// The batches that clients watch.
    watches: Arc<Watches>,
    /// Ends what would go on and on.
    shutdown: CancellationToken,
    /// The published document.
    openapi: String,
}

/// Serves the API on `listener` until `shutdown`, then lets open requests finish for 10 s.
///
/// # Errors
/// If TLS can't be spoken.
pub async fn serve(api: Api, listener: TcpListener, shutdown: CancellationToken) -> io::Result<()> {
    let (settings, certificate) = (api.server.clone(), api.certificate.clone());
    let mut server = Server::new(router(api, shutdown.clone()), &settings);
    if let Some(certificate) = certificate {
        server = server.with_tls(certificate.acceptor().map_err(io::Error::other)?);
    }
    server.run(listener, shutdown).await;
    Ok(())
}

/// Serves only `/metrics`, `/healthz` and `/readyz`, as [`serve`] does, and always as plain HTTP. An API
/// that is served with the same `server.metrics_listen` has no `/metrics` then.
///
/// # Errors
/// None for now; a listener that fails for good will be one.
pub async fn serve_metrics(
    api: Api,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let settings = api.server.clone();
    let router = finished(calls::of_process(), String::new(), api, shutdown.clone());
    Server::new(router, &settings).run(listener, shutdown).await;
    Ok(())
}

/// Serves `routes`, which are not the API's, within the bounds that `settings` put on connections,
/// headers and time, until `shutdown`; then lets open requests finish for 10 s. How long a body may
/// be is theirs to say.
pub async fn serve_routes(
    routes: Router,
    settings: &ServerSettings,
    listener: TcpListener,
    shutdown: CancellationToken,
) {
    Server::new(routes, settings).run(listener, shutdown).await;
}

fn router(api: Api, shutdown: CancellationToken) -> Router {
    let metrics_at = match api.server.metrics_listen {
        Some(_) => MetricsAt::OwnListener,
        None => MetricsAt::Api,
    };
    let (routes, document) = openapi::routes(metrics_at);
    finished(routes.merge(unbuilt::routes()), openapi::rendered(&document), api, shutdown)
}

/// `routes` with what every router has: answers for what is not there, and for panics.
fn finished(
    routes: Router<AppState>,
    openapi: String,
    api: Api,
    shutdown: CancellationToken,
) -> Router {
    let app = App {
        large_bodies: Arc::new(Semaphore::new(LARGE_BODIES_MAX)),
        large_uploads: Arc::new(Semaphore::new(LARGE_UPLOADS_MAX)),
        streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        pings: Semaphore::new(PINGS_MAX),
        watches: Watches::new(api.store.reading.clone()),
        shutdown,
        openapi,
        api,
    };
    let app = Arc::new(app);
    routes
        .route_layer(middleware::from_fn_with_state(Arc::clone(&app), access::guard))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(CatchPanicLayer::custom(problem::panicked))
        .with_state(app)
}

async fn no_such_path() -> Problem {
    Problem::not_found("There is nothing at this address; see /openapi.json.")
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{method} is not something that {} does.", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}
