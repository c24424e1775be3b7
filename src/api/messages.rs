//! The messages of a batch.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, Uri};

use super::{
    AppState,
    auth::Account,
    batches,
    model::{MessageList, MessageResource, ProblemBody},
    params::{BatchPath, MessagePath, Query, cursor, no_message},
    problem::Problem,
    results::{self, Form},
};
use crate::domain::message::MessageState;

/// What cursors of this list begin with.
const CURSOR: &str = "m";

/// List a batch's messages
///
/// In the order given. A filtered page may be short; the end is where `next_cursor` is null. With
/// `Accept: application/x-ndjson` or `text/csv` all of them in one answer, streamed; `limit` and
/// `cursor` are for pages only. A stream that can't be finished is broken off.
#[utoipa::path(
    get, path = "/v1/batches/{id}/messages", tag = "Messages",
    params(
        ("id" = String, Path, description = "The batch's id."),
        ("state" = Option<MessageState>, Query, description = "Only messages in this state."),
        ("limit" = Option<u32>, Query, description = "1 to 1,000; 100 if absent."),
        ("cursor" = Option<String>, Query, description = "Where to go on: an earlier answer's `next_cursor`."),
    ),
    responses(
        (status = 200, description = "A page of messages, or all of them.", content(
            (MessageList = "application/json"), (MessageResource = "application/x-ndjson"),
            (String = "text/csv"),
        )),
        (status = 404, description = "The account has no such batch.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(
    State(app): State<AppState>,
    account: Account,
    BatchPath(id): BatchPath,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let form = Form::wanted(&headers);
    let known: &[&str] = if form.is_some() { &["state"] } else { &["state", "limit", "cursor"] };
    let query = Query::parse(&uri, known)?;
    let (limit, from) = (query.limit()?, query.cursor(CURSOR)?.unwrap_or(0));
    let state = query.word::<MessageState>("state")?;
    let batch = batches::resource(&app, &account, id).await?;
    if let Some(form) = form {
        return results::answer(app, batch, state, form).await;
    }
    let (views, next) = app.api.store.reading.messages(id, state, from, limit).await?;
    let messages = views.into_iter().map(|view| MessageResource::new(id, &batch.provider, view));
    Ok(Json(MessageList {
        messages: messages.collect(),
        next_cursor: next.map(|index| cursor(CURSOR, index)),
    })
    .into_response())
}

/// Get one message
#[utoipa::path(
    get, path = "/v1/batches/{id}/messages/{index}", tag = "Messages",
    params(
        ("id" = String, Path, description = "The batch's id."),
        ("index" = u32, Path, description = "The message's place in the batch, from 0."),
    ),
    responses(
        (status = 200, description = "The message as it stands.", body = MessageResource),
        (status = 404, description = "The account has no such batch, or the batch no such message.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(
    State(app): State<AppState>,
    account: Account,
    MessagePath { batch: id, index }: MessagePath,
    uri: Uri,
) -> Result<Json<MessageResource>, Problem> {
    Query::parse(&uri, &[])?;
    let batch = batches::resource(&app, &account, id).await?;
    let (views, _) = app.api.store.reading.messages(id, None, index, 1).await?;
    let view = views.into_iter().find(|view| view.index == index).ok_or_else(no_message)?;
    Ok(Json(MessageResource::new(id, &batch.provider, view)))
}
