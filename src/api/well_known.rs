//! What receivers of callbacks may look up: the public keys that signatures are checked with.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::header::CACHE_CONTROL;
use serde::Serialize;
use utoipa::ToSchema;

use super::AppState;

/// For how long an answer may be kept: a new key is to be known soon.
const CACHED: &str = "public, max-age=300";

/// The public keys of callbacks.
#[derive(Serialize, ToSchema)]
pub(super) struct WebhookKeys {
    /// Every key that callbacks are signed with now; none if they are signed with secrets alone.
    keys: Vec<WebhookKey>,
}

/// A public key.
#[derive(Serialize, ToSchema)]
struct WebhookKey {
    /// Always `ed25519`: it is for signatures of version `v1a`.
    r#type: &'static str,
    /// `whpk_` and the base64 of its 32 bytes.
    #[schema(example = "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")]
    public_key: String,
}

/// List the public keys of callbacks
///
/// A callback carries an Ed25519 signature, version `v1a` of Standard Webhooks, for each key. No API
/// key is needed.
#[utoipa::path(
    get, path = "/.well-known/webhook-keys", tag = "Callbacks",
    responses((status = 200, description = "The keys.", body = WebhookKeys,
        headers(("Cache-Control" = String, description = "They may be kept for five minutes."))))
)]
pub(super) async fn webhook_keys(State(app): State<AppState>) -> Response {
    let keys = app.api.public_keys.iter();
    let keys = keys.map(|key| WebhookKey { r#type: "ed25519", public_key: key.to_string() });
    ([(CACHE_CONTROL, CACHED)], Json(WebhookKeys { keys: keys.collect() })).into_response()
}
