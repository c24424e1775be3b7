//! What providers report of themselves: requests whose signature stands for a key.

use std::sync::Arc;

use axum::extract::Request;
use http::{HeaderMap, StatusCode};

use super::{
    App,
    body::{self, Collected},
    packed::Packing,
    problem::Problem,
};
use crate::{
    domain::time::UnixMs,
    providers::{Provider, ReceiptCall, ReceiptRefusal},
};

/// A request that a provider made, with its whole body.
pub(super) struct Reported {
    pub(super) provider: Arc<dyn Provider>,
    /// Its name in the configuration.
    pub(super) name: String,
    url: String,
    headers: HeaderMap,
    body: Collected,
    now: UnixMs,
}

// === impl Reported ===

impl Reported {
    /// Reads a request in the name of the provider `name`, with a body of at most `bytes_max`.
    pub(super) async fn read(
        app: &App,
        name: String,
        request: Request,
        bytes_max: u64,
    ) -> Result<Self, Problem> {
        let unknown = || Problem::not_found("There is no such provider.");
        let provider = Arc::clone(app.api.carriers.get(&name).ok_or_else(unknown)?);
        let (parts, body) = request.into_parts();
        let body = Packing::read(&parts.headers)?.unpack(body, bytes_max);
        let patience = app.api.server.body_timeout;
        let body = body::collect(body, bytes_max, &app.large_bodies, patience).await?;
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let public_url = app.api.server.public_url.as_deref().unwrap_or_default();
        let url = format!("{}{path}", public_url.trim_end_matches('/'));
        Ok(Self { provider, name, url, headers: parts.headers, body, now: app.api.clock.now() })
    }

    /// The request as the provider's adapter reads it.
    pub(super) fn call(&self) -> ReceiptCall<'_> {
        ReceiptCall {
            url: &self.url,
            headers: &self.headers,
            body: &self.body.bytes,
            now: self.now,
        }
    }

    /// The answer to a request that is not taken.
    pub(super) fn refused(&self, app: &App, refusal: ReceiptRefusal) -> Problem {
        tracing::warn!(provider.name = self.name, %refusal, "a provider's report is refused");
        app.api.metrics.receipts_heard(&self.name, refusal.word(), 1);
        match refusal {
            ReceiptRefusal::NotTaken => Problem::not_found("This provider reports nothing here."),
            ReceiptRefusal::Forged => {
                let detail = "The provider's signature does not hold.";
                Problem::new(StatusCode::UNAUTHORIZED, "invalid_signature", detail)
            }
            ReceiptRefusal::Malformed(detail) => {
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", detail)
            }
        }
    }
}
