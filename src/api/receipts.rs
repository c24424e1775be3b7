//! Where providers report receipts. The provider's signature stands for a key.

use axum::{
    Json,
    extract::{Path, Request, State},
};
use http::StatusCode;

use super::{
    AppState, body,
    model::{ProblemBody, ReceiptsTaken},
    packed::Packing,
    problem::Problem,
};
use crate::{
    providers::{ReceiptCall, ReceiptRefusal},
    receipts::DeskError,
};

/// The longest body, in bytes.
const BYTES_MAX: u64 = 4 << 20;

/// The most receipts in one body.
const RECEIPTS_MAX: usize = 10_000;

/// Report receipts
///
/// What became of messages after they were handed over, as the provider reports it and with its
/// signature: `X-Twilio-Signature` of kind `twilio`, Standard Webhooks with `receipt_secret` of kind
/// `http`. A receipt may come before the answer to its submission, again, out of order and too late: a
/// final state never changes. After any answer but 200 the provider is to report all of them again.
#[utoipa::path(
    post, path = "/v1/receipts/{provider}", tag = "Providers",
    params(("provider" = String, Path, description = "The provider's name in the configuration.")),
    request_body(content_type = "application/json",
        description = "Of kind `http`: `[{\"message_id\", \"state\", \"at\", \"error\"}]`, at most 10,000. \
            Of kind `twilio`: the form that Twilio sends."),
    responses(
        (status = 200, description = "All are in the store.", body = ReceiptsTaken),
        (status = 401, description = "`invalid_signature`.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such provider, or it reports no receipts.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "`body_too_large`: it is longer than 4 MiB.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_request`: it can't be read.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "`store_unavailable`: the store does not answer, or too many receipts wait.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn report(
    State(app): State<AppState>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<ReceiptsTaken>, Problem> {
    let unknown = || Problem::not_found("There is no such provider.");
    let provider = app.api.carriers.get(&name).ok_or_else(unknown)?;
    let (parts, body) = request.into_parts();
    let body = Packing::read(&parts.headers)?.unpack(body, BYTES_MAX);
    let patience = app.api.server.body_timeout;
    let body = body::collect(body, BYTES_MAX, &app.large_bodies, patience).await?;
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let public_url = app.api.server.public_url.as_deref().unwrap_or_default();
    let call = ReceiptCall {
        url: &format!("{public_url}{path}"),
        headers: &parts.headers,
        body: &body.bytes,
        now: app.api.clock.now(),
    };
    let receipts = provider.read_receipts(&call).inspect_err(|refusal| {
        app.api.metrics.receipts_heard(&name, refusal.word(), 1);
        tracing::warn!(provider.name = name, %refusal, "receipts refused");
    })?;
    if receipts.len() > RECEIPTS_MAX {
        return Err(ReceiptRefusal::Malformed(format!("more than {RECEIPTS_MAX} receipts")).into());
    }
    let tally = app.api.desk.bring(&name, receipts).await?;
    Ok(Json(tally.into()))
}

impl From<ReceiptRefusal> for Problem {
    fn from(refusal: ReceiptRefusal) -> Self {
        match refusal {
            ReceiptRefusal::NotTaken => Self::not_found("This provider reports no receipts."),
            ReceiptRefusal::Forged => {
                let detail = "The provider's signature does not hold.";
                Self::new(StatusCode::UNAUTHORIZED, "invalid_signature", detail)
            }
            ReceiptRefusal::Malformed(detail) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", detail)
            }
        }
    }
}

impl From<DeskError> for Problem {
    fn from(error: DeskError) -> Self {
        match error {
            DeskError::Busy => {
                let detail = "Too many receipts wait; report them again.";
                let status = StatusCode::SERVICE_UNAVAILABLE;
                Self::new(status, "store_unavailable", detail).retry_after(1)
            }
            DeskError::Store(error) => error.into(),
        }
    }
}
