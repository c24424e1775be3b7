//! What the command line needs to receive callbacks itself: a server with the API's bounds, the
//! check of signatures, and the time of day.

use std::{net::SocketAddr, time::Duration};

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::api::{self, ServerSettings};
pub use crate::{
    callbacks::verification::{InvalidVerifier, Refusal, Verifier, check},
    clock::Clock,
    domain::time::UnixMs,
};

/// The most connections at once; further ones wait.
const CONNECTIONS_MAX: u32 = 64;

/// How long a request's headers may take, each piece of a body, and each piece of an answer.
const PIECE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves `routes` until `shutdown`, then lets open requests finish for at most 10 s. A body that
/// stalls for 10 s ends with an error; how long it may be, its handler decides.
pub async fn serve(routes: Router, listener: TcpListener, shutdown: CancellationToken) {
    let settings = ServerSettings {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        public_url: None,
        body_bytes_max: 0,
        unpacked_bytes_max: 0,
        metrics_listen: None,
        header_timeout: PIECE_TIMEOUT,
        body_timeout: PIECE_TIMEOUT,
        connections_max: CONNECTIONS_MAX,
        tls: None,
    };
    api::serve_routes(routes, &settings, listener, shutdown).await;
}
