//! The feed: events as they came about, for receivers that were down, or that rather ask.

use std::future::ready;

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
    domain::{event::Occurrence, ids::EventId},
    store::{EventView, event_body},
};

/// How many bodies are rendered at once.
const RENDERED_AT_ONCE: usize = 8;

/// What came of reading an event.
enum Shown {
    Given(Box<EventResource>),
    /// Its batch was erased after it was read.
    Erased,
    /// It tells of more late receipts by now: it is to be read again.
    Changed,
}

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
    let (count, last) = (views.len(), views.last().map(|view| view.event.id));
    let shown = stream::iter(views).map(|view| resource(&app, view)).buffered(RENDERED_AT_ONCE);
    // The feed ends before one that has changed: whoever asks on gets it then, and misses nothing.
    let shown = shown.try_take_while(|shown| ready(Ok(!matches!(shown, Shown::Changed))));
    let shown: Vec<_> = shown.try_collect().await?;
    let is_end = is_end || shown.len() < count;
    let events = shown.into_iter().filter_map(|shown| match shown {
        Shown::Given(event) => Some(*event),
        Shown::Erased | Shown::Changed => None,
    });
    Ok(Json(EventList {
        events: events.collect(),
        next_cursor: last.filter(|_| !is_end).as_ref().map(EventId::to_string),
    }))
}

fn event(text: &str) -> Result<EventId, &'static str> {
    text.parse().map_err(|_| "this is an event's id, as in evt_01M850VKVVFR222NAP7FS08R00")
}

/// The event with its body: the stored one, or the one that is stored from now on.
async fn resource(app: &App, mut view: EventView) -> Result<Shown, Problem> {
    let body = if let Some(body) = view.body.take() {
        Some(body)
    } else {
        let store = &app.api.store;
        let public_url = app.api.server.public_url.as_deref().unwrap_or_default();
        let (callbacks, reading) = (&*store.callbacks, &*store.reading);
        event_body(callbacks, reading, &view.event, &view.batch, public_url).await?
    };
    let Some(body) = body else {
        // Once an attempt was begun it tells of nothing more.
        let may_tell_of_more =
            matches!(view.event.what, Occurrence::Amended(_)) && view.attempts == 0;
        return Ok(if may_tell_of_more { Shown::Changed } else { Shown::Erased });
    };
    let payload = RawValue::from_string(body).map_err(|error| {
        tracing::error!(event.id = %view.event.id, %error, "the stored body of an event is no JSON");
        Problem::internal()
    })?;
    Ok(Shown::Given(Box::new(EventResource::new(&view, payload))))
}
