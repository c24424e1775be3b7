//! What became of a batch's callback.

use axum::{Json, extract::State};
use http::Uri;

use super::{
    AppState,
    auth::Account,
    model::{AttemptList, ProblemBody},
    params::{BatchPath, Query, no_batch},
    problem::Problem,
};

/// List the attempts at a batch's callback
///
/// The last 20, oldest first.
#[utoipa::path(
    get, path = "/v1/batches/{id}/callbacks", tag = "Callbacks",
    params(("id" = String, Path, description = "The batch's id.")),
    responses(
        (status = 200, description = "The attempts.", body = AttemptList),
        (status = 404, description = "The account has no such batch.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn attempts(
    State(app): State<AppState>,
    account: Account,
    BatchPath(id): BatchPath,
    uri: Uri,
) -> Result<Json<AttemptList>, Problem> {
    Query::parse(&uri, &[])?;
    let view = app.api.store.reading.attempts(&account.0, id).await?.ok_or_else(no_batch)?;
    Ok(Json(view.into()))
}
