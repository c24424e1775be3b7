//! `POST /v1/batches`: from a request to an accepted batch.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION},
};
use tokio::time::timeout;

use super::{
    App, AppState,
    auth::Account,
    batches,
    body::{self, Collected},
    digest::{Sha256, first_word, hex, sha256},
    model::{BatchResource, ProblemBody, SubmitBatch},
    params::Query,
    problem::Problem,
    submission::{self, Refusal, Rules, Submission},
    upload::{Received, upload},
};
use crate::{
    domain::{
        batch::{Batch, BatchSpec, BatchState, CallbackState, Counts, FinalCounts},
        ids::BatchId,
        message::FinalState,
    },
    store::{Draft, IdempotencyKey},
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The longest idempotency key, in bytes.
const KEY_BYTES_MAX: usize = 255;

/// The longest body that is read in place, in bytes; longer ones are read on a blocking thread.
const INLINE_BYTES_MAX: usize = 64 * 1024;

/// How long the store may take to show a batch that was just accepted.
const SHOW_TIME: Duration = Duration::from_secs(1);

/// Field errors that are problems of their own.
const NAMED: [&str; 4] =
    ["template_invalid", "callback_url_forbidden", "unknown_provider", "not_supported"];

/// What was made of a request's body.
struct Work {
    submission: Submission,
    body_hash: Sha256,
}

/// Submit a batch
///
/// Once the answer is 202 nothing of the batch is lost. An error answer means that nothing was or
/// will be sent, except 503 `outcome_unknown`: then, and when no answer came at all, repeat the
/// request with the same `Idempotency-Key`.
#[utoipa::path(
    post, path = "/v1/batches", tag = "Batches",
    params((
        "Idempotency-Key" = Option<String>, Header,
        description = "1 to 255 visible ASCII characters. The same key with the same body gives the same batch."
    )),
    request_body(content = SubmitBatch, content_type = "application/json"),
    responses(
        (status = 202, description = "The batch is accepted.", body = BatchResource,
            headers(("Location" = String, description = "The batch's address."))),
        (status = 200, description = "The batch was accepted before, under the same key.",
            body = BatchResource,
            headers(("Idempotent-Replayed" = String, description = "Always `true`."))),
        (status = 400, description = "`invalid_json`: the body is no JSON.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`idempotency_in_progress`: the first request with this key is still under way.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "`body_too_large`.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type` or `unsupported_encoding`.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_request` with every field that is wrong, at most 100; \
            `invalid_recipients`, `template_invalid`, `callback_url_forbidden`, `unknown_provider`, \
            `not_supported`, `idempotency_key_invalid`, `idempotency_key_reused`.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn submit(
    State(app): State<AppState>,
    account: Account,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    Query::parse(&head.uri, &[])?;
    check_media_type(&head.headers)?;
    check_encoding(&head.headers)?;
    let key = idempotency_key(&head.headers)?;
    let server = &app.api.server;
    let collected =
        body::collect(body, server.body_bytes_max, &app.large_bodies, server.body_timeout).await?;
    // Kept to the end: the chunks take the memory that the body leaves.
    let Collected { bytes, place: _place } = collected;
    let Work { submission, body_hash } = read(&app, &account, bytes).await?;
    let Submission { spec, chunks, messages, invalid } = submission;
    let draft = app.draft(&account, spec, key);
    match upload(&app.api.store.intake, &draft, &chunks, body_hash).await? {
        Received::New => {
            tracing::info!(
                batch.id = %draft.id, account = &*account.0, provider.name = draft.spec.provider,
                messages, invalid, "batch accepted"
            );
            Ok(accepted(&app, &account, draft, messages, invalid).await)
        }
        Received::Again(id) => {
            let batch = batches::resource(&app, &account, id).await?;
            let replayed = [(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"))];
            Ok((StatusCode::OK, replayed, location(id), Json(batch)).into_response())
        }
    }
}

// === impl App ===

impl App {
    fn rules<'a>(&'a self, account: &'a Account) -> Rules<'a> {
        Rules {
            account: &account.0,
            providers: &self.api.providers,
            default_provider: &self.api.default_provider,
            chunk_size: self.api.chunk_size,
            allow_private_networks: self.api.allow_private_networks,
        }
    }

    fn draft(&self, account: &Account, spec: BatchSpec, key: Option<String>) -> Draft {
        let partitions = u64::from(self.api.store.intake.partitions().max(1));
        // A key's partition follows from it, so that a repeat finds the first request.
        let word = key.as_deref().map_or_else(rand::random, |key| {
            first_word(&sha256(format!("{}\0{key}", account.0).as_bytes()))
        });
        // A remainder of a u16 fits one.
        let partition = u16::try_from(word % partitions).unwrap_or_default();
        Draft {
            id: BatchId::new(self.api.clock.now(), rand::random(), partition),
            spec,
            key: key.map(|key| IdempotencyKey(hex(&sha256(key.as_bytes())))),
            token: rand::random(),
        }
    }
}

/// Reads and hashes a body, off the asynchronous threads if it is long.
async fn read(app: &AppState, account: &Account, body: Vec<u8>) -> Result<Work, Problem> {
    let (app, account) = (Arc::clone(app), account.clone());
    let is_short = body.len() <= INLINE_BYTES_MAX;
    let work = move || -> Result<Work, Refusal> {
        let submission = submission::parse(&body, &app.rules(&account))?;
        Ok(Work { submission, body_hash: sha256(&body) })
    };
    let done = if is_short {
        work()
    } else {
        tokio::task::spawn_blocking(work).await.map_err(|error| {
            tracing::error!(%error, "reading a submission failed");
            Problem::internal()
        })?
    };
    done.map_err(Problem::from)
}

/// The answer 202, with the batch as it stands now; as it stood when it was sealed if the store
/// does not say.
async fn accepted(
    app: &App,
    account: &Account,
    draft: Draft,
    messages: u32,
    invalid: u32,
) -> Response {
    let id = draft.id;
    let batch = timeout(SHOW_TIME, batches::resource(app, account, id)).await;
    let batch = batch
        .ok()
        .and_then(Result::ok)
        .unwrap_or_else(|| as_sealed(draft, messages, invalid).into());
    (StatusCode::ACCEPTED, location(id), Json(batch)).into_response()
}

fn as_sealed(draft: Draft, messages: u32, invalid: u32) -> Batch {
    let mut ended = FinalCounts::default();
    ended.add(FinalState::Failed, invalid.into());
    Batch {
        id: draft.id,
        spec: draft.spec,
        state: BatchState::Queued,
        counts: Counts { total: messages.into(), sending: 0, ended },
        started_at: None,
        completed_at: None,
        callback: CallbackState::Pending,
    }
}

fn location(id: BatchId) -> [(HeaderName, String); 1] {
    [(LOCATION, format!("/v1/batches/{id}"))]
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Syntax(detail) => Self::new(StatusCode::BAD_REQUEST, "invalid_json", detail),
            Refusal::Fields(errors) => Self::invalid_request(errors, &NAMED),
            Refusal::InvalidRecipients { errors, count } => {
                let detail = format!("{count} recipients are not E.164 numbers.");
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                let problem = Self::new(status, "invalid_recipients", detail);
                problem.with_errors(errors).with_invalid_count(count.into())
            }
        }
    }
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    match given.split(';').next().unwrap_or("").trim().to_ascii_lowercase().as_str() {
        "application/json" => Ok(()),
        unbuilt @ ("application/x-ndjson" | "text/csv") => {
            let detail =
                format!("This version does not take {unbuilt} yet; send application/json.");
            Err(Problem::not_supported(detail))
        }
        _ => {
            let detail = "Send the batch with Content-Type: application/json.";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            Err(Problem::new(status, "unsupported_media_type", detail))
        }
    }
}

fn check_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    let mut encodings = headers.get_all(CONTENT_ENCODING).iter();
    if encodings.all(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    let detail = "This version takes bodies without a Content-Encoding only.";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", detail))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let is_well_formed = (1..=KEY_BYTES_MAX).contains(&key.len())
        && key.as_bytes().iter().all(u8::is_ascii_graphic)
        && keys.next().is_none();
    let key = key.to_str().ok().filter(|_| is_well_formed).map(str::to_owned);
    key.map(Some).ok_or_else(|| {
        let detail =
            format!("An Idempotency-Key is 1 to {KEY_BYTES_MAX} visible ASCII characters.");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_invalid", detail)
    })
}
