//! Batches, read; and what clients wish of them.

use std::future::Future;

use axum::{
    Json,
    extract::{Request, State},
    response::Response,
};
use http::{HeaderMap, StatusCode, Uri};

use super::{
    App, AppState,
    auth::Account,
    media::small_json,
    model::{AmendBatch, BatchList, BatchResource, ProblemBody},
    params::{BatchPath, Query, cursor, no_batch},
    problem::Problem,
    submission,
    watch::{Shown, wait_time},
};
use crate::{
    domain::{batch::BatchState, ids::BatchId},
    store::{BatchFilter, WishError},
};

/// Tries of a change that others come before.
const AMEND_TRIES: usize = 5;

/// What cursors of this list begin with.
const CURSOR: &str = "b";

/// List batches
///
/// Newest first. A filtered page may be short; the end is where `next_cursor` is null.
#[utoipa::path(
    get, path = "/v1/batches", tag = "Batches",
    params(
        ("state" = Option<BatchState>, Query, description = "Only batches in this state."),
        ("reference" = Option<String>, Query, description = "Only batches with this reference."),
        ("limit" = Option<u32>, Query, description = "1 to 1,000; 100 if absent."),
        ("cursor" = Option<String>, Query, description = "Where to go on: an earlier answer's `next_cursor`."),
    ),
    responses((status = 200, description = "A page of batches.", body = BatchList))
)]
pub(super) async fn list(
    State(app): State<AppState>,
    account: Account,
    uri: Uri,
) -> Result<Json<BatchList>, Problem> {
    let query = Query::parse(&uri, &["state", "reference", "limit", "cursor"])?;
    let (limit, before) = (query.limit()?, query.cursor(CURSOR)?);
    let filter = BatchFilter {
        state: query.word("state")?,
        reference: query.text("reference").map(str::to_owned),
    };
    let found = app.api.store.reading.batches(&account.0, &filter, before, limit).await?;
    let (batches, next) = found;
    Ok(Json(BatchList {
        batches: batches.into_iter().map(BatchResource::from).collect(),
        next_cursor: next.map(|id| cursor(CURSOR, id)),
    }))
}

/// Get a batch
///
/// With `wait`, once all of its messages are final, or the time is up. The answer has an `ETag`.
#[utoipa::path(
    get, path = "/v1/batches/{id}", tag = "Batches",
    params(
        ("id" = String, Path, description = "The batch's id."),
        ("wait" = Option<String>, Query,
            description = "How long to wait for the end, such as `30s`; at most `5m`."),
        ("if-none-match" = Option<String>, Header, description = "The `ETag` that is known."),
    ),
    responses(
        (status = 200, description = "The batch as it stands.", body = BatchResource),
        (status = 304, description = "The batch stands as the client knows it."),
        (status = 404, description = "The account has no such batch.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(
    State(app): State<AppState>,
    account: Account,
    BatchPath(id): BatchPath,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let wait = Query::parse(&uri, &["wait"])?.read("wait", wait_time)?;
    let mut shown = Shown::new(&resource(&app, &account, id).await?);
    if let Some(longest) = wait.filter(|_| !shown.is_over()) {
        let over = app.watches.until_over(&account, id, shown.clone(), longest);
        shown = app.shutdown.run_until_cancelled(over).await.unwrap_or(shown);
    }
    Ok(shown.answer(&headers))
}

/// Cancel a batch
///
/// What no worker holds is canceled at once; what is in flight may still go, and the counts say so.
#[utoipa::path(
    post, path = "/v1/batches/{id}/cancel", tag = "Batches",
    params(("id" = String, Path, description = "The batch's id.")),
    responses(
        (status = 200, description = "The batch is canceled, or was already.", body = BatchResource),
        (status = 404, description = "The account has no such batch.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`batch_state`: the batch is over.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn cancel(
    State(app): State<AppState>,
    account: Account,
    BatchPath(id): BatchPath,
    uri: Uri,
) -> Result<Json<BatchResource>, Problem> {
    wish(&app, &account, id, &uri, app.api.store.intake.cancel(&account.0, id)).await
}

/// Pause a batch
///
/// Nothing more of it is begun until it is resumed; what is in flight may still go.
#[utoipa::path(
    post, path = "/v1/batches/{id}/pause", tag = "Batches",
    params(("id" = String, Path, description = "The batch's id.")),
    responses(
        (status = 200, description = "The batch is paused, or was already.", body = BatchResource),
        (status = 404, description = "The account has no such batch.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`batch_state`: the batch is over.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn pause(
    State(app): State<AppState>,
    account: Account,
    BatchPath(id): BatchPath,
    uri: Uri,
) -> Result<Json<BatchResource>, Problem> {
    wish(&app, &account, id, &uri, app.api.store.intake.pause(&account.0, id)).await
}

/// Resume a paused batch
#[utoipa::path(
    post, path = "/v1/batches/{id}/resume", tag = "Batches",
    params(("id" = String, Path, description = "The batch's id.")),
    responses(
        (status = 200, description = "The batch goes on, or did already.", body = BatchResource),
        (status = 404, description = "The account has no such batch.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`batch_state`: the batch is over.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn resume(
    State(app): State<AppState>,
    account: Account,
    BatchPath(id): BatchPath,
    uri: Uri,
) -> Result<Json<BatchResource>, Problem> {
    wish(&app, &account, id, &uri, app.api.store.intake.resume(&account.0, id)).await
}

/// Change a batch that waits for its time
///
/// Its `body`, `send_at`, `expire_at`, `smart_encoding` and `max_segments`: what is not named stays,
/// `null` takes a time or a limit away. A batch whose time has come by this begins at once.
#[utoipa::path(
    patch, path = "/v1/batches/{id}", tag = "Batches",
    params(("id" = String, Path, description = "The batch's id.")),
    request_body = AmendBatch,
    responses(
        (status = 200, description = "The batch as it is from now on.", body = BatchResource),
        (status = 404, description = "The account has no such batch.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`batch_state`: the batch does not wait for its time.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_request` with every field that is wrong; `template_invalid`.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn amend(
    State(app): State<AppState>,
    account: Account,
    BatchPath(id): BatchPath,
    request: Request,
) -> Result<Json<BatchResource>, Problem> {
    let (parts, body) = request.into_parts();
    Query::parse(&parts.uri, &[])?;
    let body = small_json(&app, &parts.headers, body).await?;
    for _ in 0..AMEND_TRIES {
        let batch = app.api.store.reading.batch(&account.0, id).await?.ok_or_else(no_batch)?;
        if batch.state != BatchState::Scheduled {
            return Err(WishError::State(batch.state).into());
        }
        let becomes = submission::amended(&body, batch.spec.clone(), &app.rules(&account))?;
        if app.api.store.intake.amend(id, &batch.spec, &becomes).await? {
            return resource(&app, &account, id).await.map(Json);
        }
    }
    let detail = "The batch was changed by others meanwhile; look at it, and try again.";
    Err(Problem::new(StatusCode::CONFLICT, "batch_changed", detail))
}

/// Erase a batch
///
/// With its messages, numbers and events, once its callbacks have ended; its idempotency key is free
/// then. Only once it is over.
#[utoipa::path(
    delete, path = "/v1/batches/{id}", tag = "Batches",
    params(("id" = String, Path, description = "The batch's id.")),
    responses(
        (status = 202, description = "The batch is erased as soon as its callbacks have ended."),
        (status = 404, description = "The account has no such batch.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`batch_state`: the batch is not over.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn erase(
    State(app): State<AppState>,
    account: Account,
    BatchPath(id): BatchPath,
    uri: Uri,
) -> Result<StatusCode, Problem> {
    Query::parse(&uri, &[])?;
    app.api.store.intake.erase(&account.0, id).await?;
    Ok(StatusCode::ACCEPTED)
}

/// The batch as the store shows it to `account`.
pub(super) async fn resource(
    app: &App,
    account: &Account,
    id: BatchId,
) -> Result<BatchResource, Problem> {
    let batch = app.api.store.reading.batch(&account.0, id).await?;
    batch.map(BatchResource::from).ok_or_else(no_batch)
}

async fn wish(
    app: &App,
    account: &Account,
    id: BatchId,
    uri: &Uri,
    granted: impl Future<Output = Result<(), WishError>>,
) -> Result<Json<BatchResource>, Problem> {
    Query::parse(uri, &[])?;
    granted.await?;
    resource(app, account, id).await.map(Json)
}

impl From<WishError> for Problem {
    fn from(error: WishError) -> Self {
        match error {
            WishError::NotFound => no_batch(),
            WishError::State(state) => {
                let detail = format!("The batch is {}, which does not allow this.", state.word());
                Self::new(StatusCode::CONFLICT, "batch_state", detail)
            }
            WishError::Store(error) => error.into(),
        }
    }
}
