//! The log of what clients change: who asked for what, and what came of it.
//!
//! One line for each call that changes something, whatever its answer, on a target of its own. It
//! names keys by their names and the beginnings of their hashes, and batches by their ids; nothing
//! that a client wrote is in it.

use axum::response::Response;
use http::{Uri, header::LOCATION};

use super::{
    App,
    auth::{Caller, Key},
    calls::Call,
    problem::Code,
};
use crate::domain::ids::BatchId;

/// The target of these lines.
const TARGET: &str = "ringback::audit";

/// A change that was asked for. If its end is never told, because the client went away, the log
/// says so.
pub(super) struct Entry {
    change: &'static str,
    caller: Caller,
    /// The batch in the path.
    batch: Option<BatchId>,
    /// The provider in the path.
    provider: Option<String>,
    ended: bool,
}

// === impl Entry ===

impl Entry {
    /// An entry for a call that changes something.
    pub(super) fn begin(app: &App, call: &Call, caller: Caller, uri: &Uri) -> Option<Self> {
        let change = call.change?;
        let part = |name| call.part(uri.path(), name);
        // A client may write anything there: what is no id or no provider is left out.
        let batch = part("id").and_then(|id| id.parse().ok());
        let is_one = |name: &&str| app.api.providers.contains_key(*name);
        let provider = part("name").filter(is_one).map(str::to_owned);
        Some(Self { change, caller, batch, provider, ended: false })
    }

    /// Writes what came of it.
    pub(super) fn end(mut self, answer: &Response) {
        self.ended = true;
        let code = answer.extensions().get::<Code>().map(|code| code.0);
        let status = answer.status();
        let result = match status.as_u16() {
            ..400 => "done",
            400..500 => "refused",
            500.. => "failed",
        };
        self.write(result, Some(status.as_u16()), code, made(answer));
    }

    fn write(
        &self,
        result: &'static str,
        status: Option<u16>,
        code: Option<&'static str>,
        made: Option<BatchId>,
    ) {
        let key = self.caller.key();
        let batch = made.or(self.batch).map(tracing::field::display);
        let parent = made.and(self.batch).map(tracing::field::display);
        tracing::info!(
            target: TARGET,
            change = self.change,
            result,
            account = &*self.caller.account().0,
            key.name = key.map(|key| &*key.name),
            key.fingerprint = key.map(Key::fingerprint),
            batch.id = batch,
            batch.parent = parent,
            provider.name = self.provider,
            http.status = status,
            code,
            "a client asked for a change"
        );
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.ended {
            self.write("unanswered", None, None, None);
        }
    }
}

/// The batch that an answer says was made.
fn made(answer: &Response) -> Option<BatchId> {
    let location = answer.headers().get(LOCATION)?.to_str().ok()?;
    location.rsplit('/').next()?.parse().ok()
}
