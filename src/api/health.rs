//! Whether the process lives, and whether it is ready to serve.

use std::time::Duration;

use axum::{Json, extract::State};
use http::StatusCode;
use tokio::time::timeout;

use super::{
    AppState,
    model::{Health, ProblemBody},
    problem::Problem,
};

/// How long the store may take to answer.
const PING_TIME: Duration = Duration::from_secs(1);

/// Tell whether the process lives
#[utoipa::path(
    get, path = "/healthz", tag = "Operation",
    responses((status = 200, description = "It does.", body = Health))
)]
pub(super) async fn live() -> Json<Health> {
    Json(Health { status: "ok".into() })
}

/// Tell whether the server is ready: its store answers
#[utoipa::path(
    get, path = "/readyz", tag = "Operation",
    responses(
        (status = 200, description = "It is ready.", body = Health),
        (status = 503, description = "`not_ready`: the store does not answer.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn ready(State(app): State<AppState>) -> Result<Json<Health>, Problem> {
    if let Ok(Ok(())) = timeout(PING_TIME, app.api.store.reading.ping()).await {
        return Ok(live().await);
    }
    let detail = "The store does not answer.";
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", detail))
}
