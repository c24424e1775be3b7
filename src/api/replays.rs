//! Having callbacks delivered again: that of a batch, or all that ended in a certain way.

use axum::{
    Json,
    extract::{Request, State},
};
use http::{StatusCode, Uri};
use serde_json::value::RawValue;

use super::{
    App, AppState,
    auth::Account,
    hosts::host,
    json::{Faults, Pointer, instant, members, raw, text},
    media::small_json,
    model::{ProblemBody, ReplayCallbacks, ReplayState, ReplayedEvent},
    params::{BatchPath, Query, no_batch},
    problem::Problem,
};
use crate::{
    domain::{batch::CallbackState, time::UnixMs},
    store::{ReplayError, ReplayOrder, StoreError},
};

/// Tries of an order whose reply was lost.
const TRIES: u32 = 3;

/// Deliver a batch's completion again
///
/// At once, and from the beginning of the schedule: with the same id and the same body. If it is
/// being delivered already, that goes on.
#[utoipa::path(
    post, path = "/v1/batches/{id}/callbacks/replay", tag = "Callbacks",
    params(("id" = String, Path, description = "The batch's id.")),
    responses(
        (status = 202, description = "It will be delivered again.", body = ReplayedEvent),
        (status = 404, description = "The account has no such batch.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`batch_state`: the batch is not over, so there is no event yet.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`no_callback`: the batch has no callback URL.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn replay(
    State(app): State<AppState>,
    account: Account,
    BatchPath(id): BatchPath,
    uri: Uri,
) -> Result<(StatusCode, Json<ReplayedEvent>), Problem> {
    Query::parse(&uri, &[])?;
    app.api.store.intake.replay(&account.0, id).await?;
    let event = ReplayedEvent { id: id.event(), batch_id: id, state: CallbackState::Pending };
    Ok((StatusCode::ACCEPTED, Json(event)))
}

/// Deliver many callbacks again
///
/// All events of the account that ended in `state` since an instant, and before this order. Once it
/// is answered the order is stored; it is carried out in the background at a measured pace, so that
/// new events find their way between the old ones.
#[utoipa::path(
    post, path = "/v1/callbacks/replay", tag = "Callbacks",
    request_body = ReplayCallbacks,
    responses(
        (status = 202, description = "The order is stored, and will be carried out.",
            body = ReplayCallbacks),
        (status = 400, description = "`invalid_json`: the body is none. `body_broken`.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "`body_too_large`: it is longer than 64 KiB.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type` or `unsupported_encoding`.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_request` with every field that is wrong.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn replay_many(
    State(app): State<AppState>,
    account: Account,
    request: Request,
) -> Result<(StatusCode, Json<ReplayCallbacks>), Problem> {
    let (parts, body) = request.into_parts();
    Query::parse(&parts.uri, &[])?;
    let order = order(&small_json(&app, &parts.headers, body).await?)?;
    store(&app, &account, &order).await?;
    tracing::info!(
        account = &*account.0, callbacks.state = order.state.word(), callbacks.since = %order.since,
        callback.host = order.host, "callbacks are delivered again"
    );
    Ok((StatusCode::ACCEPTED, Json(order.into())))
}

/// Stores an order. What may have been stored is stored again under its own word, which makes no
/// second one of it.
async fn store(app: &App, account: &Account, order: &ReplayOrder) -> Result<(), StoreError> {
    let mut tries = 1;
    loop {
        match app.api.store.intake.order_replay(&account.0, order).await {
            Err(StoreError::ReplyLost(_)) if tries < TRIES => tries += 1,
            done => return done,
        }
    }
}

/// Reads and judges an order.
fn order(body: &[u8]) -> Result<ReplayOrder, Problem> {
    let (root, mut faults) = (Pointer::Root, Faults::default());
    let found = members(raw(body)?, &root, ["since", "state", "host"], &mut faults);
    let [since_given, state_given, host_given] = found.unwrap_or_default();
    if found.is_some() && since_given.is_none() {
        faults.missing("since", &root);
    }
    let since = since_given.and_then(|raw| since(raw, &root, &mut faults));
    let state = state_given.and_then(|raw| state(raw, &root, &mut faults));
    let host = host_given.and_then(|raw| receiver(raw, &root, &mut faults));
    match since.filter(|_| faults.is_empty()) {
        Some(since) => {
            let state = state.unwrap_or_default().into();
            Ok(ReplayOrder { nonce: rand::random(), state, since, host })
        }
        None => Err(Problem::invalid_request(faults.into_errors(), &[])),
    }
}

fn since(raw: &RawValue, root: &Pointer<'_>, faults: &mut Faults) -> Option<UnixMs> {
    let at = Pointer::Key(root, "since");
    instant(&text(raw, &at, usize::MAX, faults)?, &at, faults)
}

fn state(raw: &RawValue, root: &Pointer<'_>, faults: &mut Faults) -> Option<ReplayState> {
    let at = Pointer::Key(root, "state");
    match &*text(raw, &at, usize::MAX, faults)? {
        "exhausted" => return Some(ReplayState::Exhausted),
        "gone" => return Some(ReplayState::Gone),
        "delivered" => return Some(ReplayState::Delivered),
        _ => faults.add(&at, "invalid_value", "this is exhausted, gone or delivered"),
    }
    None
}

fn receiver(raw: &RawValue, root: &Pointer<'_>, faults: &mut Faults) -> Option<String> {
    let at = Pointer::Key(root, "host");
    let host = host(&text(raw, &at, usize::MAX, faults)?);
    host.map_err(|error| faults.add(&at, "invalid_value", error)).ok()
}

impl From<ReplayError> for Problem {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::NotFound => no_batch(),
            ReplayError::NotOver => {
                let detail = "The batch is not over yet, so there is no completion event.";
                Self::new(StatusCode::CONFLICT, "batch_state", detail)
            }
            ReplayError::NoCallback => {
                let detail = "The batch has no callback_url.";
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "no_callback", detail)
            }
            ReplayError::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;

    #[test]
    fn an_order_is_read_with_its_defaults() {
        let read = order(br#"{"since": "2026-09-21T14:13:20.25+02:00"}"#).unwrap();
        assert_eq!(read.since.to_string(), "2026-09-21T12:13:20.250Z");
        assert_eq!((read.state, read.host), (CallbackState::Exhausted, None));
        let body =
            br#"{"since": "2026-09-21T14:13:20Z", "state": "gone", "host": "A.example:443"}"#;
        let read = order(body).unwrap();
        assert_eq!(
            (read.state, read.host.as_deref()),
            (CallbackState::Gone, Some("a.example:443"))
        );
        let json = serde_json::to_value(ReplayCallbacks::from(read)).unwrap();
        assert_eq!(json["state"], "gone");
    }

    #[test]
    fn each_order_is_another_one() {
        let body = br#"{"since": "2026-09-21T14:13:20Z"}"#;
        assert_ne!(order(body).unwrap().nonce, order(body).unwrap().nonce);
    }

    #[test]
    fn an_order_that_is_none_is_refused() {
        for (body, status) in [
            ("", 400),
            ("{", 400),
            ("[]", 422),
            ("null", 422),
            ("{}", 422),
            (r#"{"since": null}"#, 422),
            (r#"{"since": 7}"#, 422),
            (r#"{"since": "yesterday"}"#, 422),
            (r#"{"since": "2026-09-21T14:13:20"}"#, 422),
            (r#"{"since": "2026-09-21T14:13:20Z", "state": "pending"}"#, 422),
            (r#"{"since": "2026-09-21T14:13:20Z", "state": "skipped"}"#, 422),
            (r#"{"since": "2026-09-21T14:13:20Z", "host": ""}"#, 422),
            (r#"{"since": "2026-09-21T14:13:20Z", "until": "x"}"#, 422),
        ] {
            let refused = order(body.as_bytes()).unwrap_err().into_response();
            assert_eq!(refused.status(), status, "{body}");
        }
    }
}
