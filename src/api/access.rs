//! What a request passes before its handler: is it let in, may its key do this, and is it no callback?
//!
//! Which call needs which scope is in the table of [`Call`]s. A handler that takes an [`Account`]
//! gets one only from here, so a call that the table does not have is refused.

use axum::{
    extract::{FromRequestParts, MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, request::Parts};

use super::{
    AppState,
    audit::Entry,
    auth::Account,
    calls::{Access, Call},
    problem::Problem,
};

/// Lets a request through to its handler, or answers it.
pub(super) async fn guard(
    State(app): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let call = path.and_then(|path| Call::of(request.method(), path));
    let Some((call, scope)) = call.and_then(|call| match call.access {
        Access::Open | Access::Signed => None,
        Access::Key(scope) => Some((call, scope)),
    }) else {
        return next.run(request).await;
    };
    let caller = match app.api.accounts.admit(request.headers()) {
        Ok(caller) => caller,
        Err(problem) => return problem.into_response(),
    };
    let account = caller.account().clone();
    let allowed = caller.may(scope).and_then(|()| refuse_callback(call, request.headers()));
    let entry = Entry::begin(&app, call, caller, request.uri());
    let answer = if let Err(problem) = allowed {
        problem.into_response()
    } else {
        request.extensions_mut().insert(account);
        next.run(request).await
    };
    if let Some(entry) = entry {
        entry.end(&answer);
    }
    answer
}

/// Refuses a callback that is sent here, by this service or another one: it could order callbacks, and
/// those further ones. Receipts, which come signed as callbacks are, don't get here.
fn refuse_callback(call: &Call, headers: &HeaderMap) -> Result<(), Problem> {
    let is_callback =
        ["webhook-id", "webhook-signature"].iter().all(|name| headers.contains_key(*name));
    if !is_callback || call.change.is_none() {
        return Ok(());
    }
    let detail = "This is a callback; nothing is changed by one.";
    Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "callback_loop", detail))
}

impl FromRequestParts<AppState> for Account {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, Problem> {
        parts.extensions.get().cloned().ok_or_else(|| {
            let (method, path) = (&parts.method, parts.uri.path());
            tracing::error!(%method, path, "a call is not in the table of calls: it is refused");
            Problem::internal()
        })
    }
}
