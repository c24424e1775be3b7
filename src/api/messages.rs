//! The messages of a batch.

use axum::{Json, extract::State};
use http::{HeaderMap, Uri, header::ACCEPT};

use super::{
    AppState,
    auth::Account,
    batches,
    model::{MessageList, MessageResource, ProblemBody},
    params::{BatchPath, MessagePath, Query, cursor, no_message},
    problem::Problem,
};
use crate::domain::message::MessageState;

/// What cursors of this list begin with.
const CURSOR: &str = "m";

/// List a batch's messages
///
/// In the order given. A filtered page may be short; the end is where `next_cursor` is null.
#[utoipa::path(
    get, path = "/v1/batches/{id}/messages", tag = "Messages",
    params(
        ("id" = String, Path, description = "The batch's id."),
        ("state" = Option<MessageState>, Query, description = "Only messages in this state."),
        ("limit" = Option<u32>, Query, description = "1 to 1,000; 100 if absent."),
        ("cursor" = Option<String>, Query, description = "Where to go on: an earlier answer's `next_cursor`."),
    ),
    responses(
        (status = 200, description = "A page of messages.", body = MessageList),
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
) -> Result<Json<MessageList>, Problem> {
    let query = Query::parse(&uri, &["state", "limit", "cursor"])?;
    check_accept(&headers)?;
    let (limit, from) = (query.limit()?, query.cursor(CURSOR)?.unwrap_or(0));
    let state = query.word::<MessageState>("state")?;
    let batch = batches::resource(&app, &account, id).await?;
    let (views, next) = app.api.store.reading.messages(id, state, from, limit).await?;
    let messages = views.into_iter().map(|view| MessageResource::new(id, &batch.provider, view));
    Ok(Json(MessageList {
        messages: messages.collect(),
        next_cursor: next.map(|index| cursor(CURSOR, index)),
    }))
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

/// Refuses who asks for the stream of all messages, which is not built yet.
fn check_accept(headers: &HeaderMap) -> Result<(), Problem> {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types = accepted
        .flat_map(|value| value.split(','))
        .map(|kind| kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase());
    // The first one that is known is taken; weights would only reorder two of them.
    let known = ["application/json", "application/*", "*/*", "application/x-ndjson", "text/csv"];
    match types.find(|kind| known.contains(&&**kind)).as_deref() {
        Some(stream @ ("application/x-ndjson" | "text/csv")) => {
            let detail = format!("This version does not answer as {stream} yet; read the pages.");
            Err(Problem::not_supported(detail))
        }
        _ => Ok(()),
    }
}
