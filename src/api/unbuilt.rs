//! Calls that the interface names and this version does not offer yet. They say so: a client that
//! uses one must not take a 404 for an answer about its batch.

use axum::{Router, extract::MatchedPath, routing::get};
use http::Method;

use super::{AppState, problem::Problem};

/// The routes of these calls.
pub(super) fn routes() -> Router<AppState> {
    Router::new().route("/docs", get(without_key)).route("/", get(without_key))
}

async fn without_key(method: Method, path: MatchedPath) -> Problem {
    not_yet(&method, &path)
}

fn not_yet(method: &Method, path: &MatchedPath) -> Problem {
    let path = path.as_str();
    let detail = format!("This version does not offer {method} {path} yet; see /openapi.json.");
    Problem::not_supported(detail)
}
