//! The feed: events as they came about, for receivers that were down, or that rather ask.

use axum::{Json, extract::State};
use futures_util::{StreamExt, TryStreamExt, stream};
use http::Uri;
use serde_json::value::RawValue;

use super::{
    App, AppState,
    auth::Account,
    model::{EventList, EventResource, ProblemBody},
    params::Query,
    problem::Problem,
};
use crate::{
    domain::ids::EventId,
    store::{EventView, event_body},
};

/// How many bodies are rendered at once.
const RENDERED_AT_ONCE: usize = 8;

/// Read the feed of events
///
/// Oldest first, as long as their batches are kept. No event ever comes in before one that was
/// given, so whoever asks on after the last one gets each event once. Only a store of several partitions
/// can't promise that when its clock goes back.
#[utoipa::path(
    get, path = "/v1/events", tag = "Callbacks",
    params(
        ("after" = Option<String>, Query, description = "The id of the last event that was taken; from the oldest on if absent."),
        ("limit" = Option<u32>, Query, description = "1 to 1,000; 100 if absent."),
    ),
    responses(
        (status = 200, description = "The next events.", body = EventList),
        (status = 404, description = "The account has no such event any more: begin without `after`.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn feed(
    State(app): State<AppState>,
    account: Account,
    uri: Uri,
) -> Result<Json<EventList>, Problem> {
    let query = Query::parse(&uri, &["after", "limit"])?;
    let (limit, after) = (query.limit()?, query.read("after", event)?);
    let found = app.api.store.reading.events_after(&account.0, after, limit).await?;
    let views = found.ok_or_else(|| {
        let detail = "The event in `after` is not there any more; begin without `after`.";
        Problem::not_found(detail)
    })?;
    let is_end = views.len() < limit;
    let last = views.last().map(|view| view.event.id).filter(|_| !is_end);
    let events = stream::iter(views).map(|view| resource(&app, view)).buffered(RENDERED_AT_ONCE);
    let events: Vec<_> = events.try_collect().await?;
    Ok(Json(EventList {
        events: events.into_iter().flatten().collect(),
        next_cursor: last.as_ref().map(EventId::to_string),
    }))
}

fn event(text: &str) -> Result<EventId, &'static str> {
    text.parse().map_err(|_| "this is an event's id, as in evt_01M850VKVVFR222NAP7FS08R00")
}

/// The event with its body: the stored one, or the one that is stored from now on; `None` if it was
/// erased after it was read.
async fn resource(app: &App, mut view: EventView) -> Result<Option<EventResource>, Problem> {
    let body = if let Some(body) = view.body.take() {
        Some(body)
    } else {
        let store = &app.api.store;
        let public_url = app.api.server.public_url.as_deref().unwrap_or_default();
        let (callbacks, reading) = (&*store.callbacks, &*store.reading);
        event_body(callbacks, reading, &view.event, &view.batch, public_url).await?
    };
    let Some(body) = body else { return Ok(None) };
    let payload = RawValue::from_string(body).map_err(|error| {
        tracing::error!(event.id = %view.event.id, %error, "the stored body of an event is no JSON");
        Problem::internal()
    })?;
    Ok(Some(EventResource::new(&view, payload)))
}
