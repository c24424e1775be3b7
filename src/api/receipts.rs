//! Where providers report receipts. The provider's signature stands for a key.

use axum::{
    Json,
    extract::{Path, Request, State},
};
use http::StatusCode;

use super::{
    AppState,
    model::{ProblemBody, ReceiptsTaken},
    problem::Problem,
    reported::Reported,
};
use crate::{providers::ReceiptRefusal, receipts::DeskError};

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
    let reported = Reported::read(&app, name, request, BYTES_MAX).await?;
    let receipts = reported.provider.read_receipts(&reported.call());
    let receipts = receipts.map_err(|refusal| reported.refused(&app, refusal))?;
    if receipts.len() > RECEIPTS_MAX {
        let refusal = ReceiptRefusal::Malformed(format!("more than {RECEIPTS_MAX} receipts"));
        return Err(reported.refused(&app, refusal));
    }
    let tally = app.api.desk.bring(&reported.name, receipts).await?;
    Ok(Json(tally.into()))
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
