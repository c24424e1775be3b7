//! Where callbacks stand: those of an account, and the attempts at that of one batch.

use axum::{Json, extract::State};
use http::Uri;

use super::{
    AppState,
    auth::Account,
    hosts::host,
    model::{AttemptList, CallbackList, EventCallback, ProblemBody},
    params::{BatchPath, Query, cursor, no_batch},
    problem::Problem,
};
use crate::{domain::batch::CallbackState, store::EventFilter};

/// What cursors of this list begin with.
const CURSOR: &str = "e";

/// List callbacks
///
/// Events and where they stand, newest first. A filtered page may be short; the end is where
/// `next_cursor` is null.
#[utoipa::path(
    get, path = "/v1/callbacks", tag = "Callbacks",
    params(
        ("state" = Option<CallbackState>, Query, description = "Only events whose callback is in this state."),
        ("host" = Option<String>, Query, description = "Only those to this host, with its port (`example.com:443`) or whatever the port (`example.com`)."),
        ("limit" = Option<u32>, Query, description = "1 to 1,000; 100 if absent."),
        ("cursor" = Option<String>, Query, description = "Where to go on: an earlier answer's `next_cursor`."),
    ),
    responses(
        (status = 200, description = "A page of events.", body = CallbackList),
        (status = 422, description = "A parameter is wrong; `invalid_cursor` also where the event that the cursor leads to was erased.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(
    State(app): State<AppState>,
    account: Account,
    uri: Uri,
) -> Result<Json<CallbackList>, Problem> {
    let query = Query::parse(&uri, &["state", "host", "limit", "cursor"])?;
    let (limit, before) = (query.limit()?, query.cursor(CURSOR)?);
    let filter = EventFilter { state: query.word("state")?, host: query.read("host", host)? };
    let found = app.api.store.reading.events(&account.0, &filter, before, limit).await?;
    let (views, next) = found.ok_or_else(|| {
        let detail = "what this cursor leads to is not there any more; begin without it";
        Query::refuse("cursor", "invalid_cursor", detail)
    })?;
    Ok(Json(CallbackList {
        callbacks: views.into_iter().map(EventCallback::from).collect(),
        next_cursor: next.map(|id| cursor(CURSOR, id)),
    }))
}

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
