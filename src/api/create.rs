//! `POST /v1/batches`: from a request to an accepted batch.
//!
//! A body comes in one of two ways, `whole` or `streamed`; of a `form` it is the table that is streamed.
//! All go the same way: the reader cuts chunks, `upload` brings them into the store, and the seal accepts the batch.
//! `estimated` reads the same, and only counts what is in the chunks.

mod coming;
pub(super) mod estimated;
mod form;
mod head;
mod retried;
mod streamed;
mod tally;
mod whole;

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header::LOCATION};
use tokio::time::timeout;

use self::coming::{Coming, Way};
use super::{
    App, AppState,
    auth::Account,
    batches,
    digest::{first_word, hex, sha256},
    media::small_json,
    model::{BatchForm, BatchResource, FieldError, ProblemBody, RetryBatch, SubmitBatch},
    params::{BatchPath, Query},
    problem::Problem,
    settings::AccountSettings,
    submission::{LINE_BYTES_MAX, Refusal, Rules},
    upload::{self, Opening},
};
use crate::{
    domain::{
        batch::{Batch, BatchSpec, BatchState, CallbackState, Counts, FinalCounts},
        ids::BatchId,
        message::FinalState,
    },
    store::{Draft, IdempotencyKey, Store},
};

const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// How long the store may take to show a batch that was just accepted.
const SHOW_TIME: Duration = Duration::from_secs(1);

/// Field errors that are problems of their own.
const NAMED: [&str; 4] =
    ["template_invalid", "callback_url_forbidden", "unknown_provider", "not_supported"];

/// A batch that is accepted.
struct Sealed {
    draft: Draft,
    messages: u32,
    invalid: u32,
    opted_out: u32,
    skipped: u64,
}

/// What a request came to.
enum Received {
    /// The batch is accepted.
    New(Box<Sealed>),
    /// The same request was accepted before, as this batch.
    Again(BatchId),
}

/// Submit a batch
///
/// Once the answer is 202 nothing of the batch is lost. An error answer means that nothing was or
/// will be sent, except 503 `outcome_unknown`: then, and when no answer came at all, repeat the
/// request with the same `Idempotency-Key`.
#[utoipa::path(
    post, path = "/v1/batches", tag = "Batches",
    params(
        ("Idempotency-Key" = Option<String>, Header,
            description = "1 to 255 visible ASCII characters. The same key with the same body gives the same batch."),
        ("settings" = Option<String>, Query,
            description = "With `text/csv`: the object without `recipients`, as JSON."),
    ),
    request_body(
        description = "In `application/x-ndjson`, of any size, the first line is the object without \
            `recipients`, and each further line is one recipient, a string or an object, in at most \
            64 KiB. Only the last lines may be empty. Pointers in answers then begin with the number \
            of the line, from 1. `text/csv` has a header line with the column `to`, perhaps `reference`, \
            and a column for each variable of the body; the object is in the query, as `settings`. Each \
            may be packed: `Content-Encoding: gzip` or `zstd`. In `multipart/form-data` the first part \
            is `settings` and the second the table, `list`; nothing may follow, and it can't be packed.",
        content(
            (SubmitBatch = "application/json"),
            (String = "application/x-ndjson",
                example = "{\"body\": \"Hi {{name}}\", \"variables\": {\"name\": \"there\"}}\n\"+15551230001\"\n{\"to\": \"+15551230002\", \"variables\": {\"name\": \"Ann\"}}\n"),
            (String = "text/csv", example = "to,name\n+15551230001,Ann\n"),
            (BatchForm = "multipart/form-data")
        )
    ),
    responses(
        (status = 202, description = "The batch is accepted.", body = BatchResource,
            headers(("Location" = String, description = "The batch's address."))),
        (status = 200, description = "The batch was accepted before, under the same key.",
            body = BatchResource,
            headers(("Idempotent-Replayed" = String, description = "Always `true`."))),
        (status = 400, description = "`invalid_json`: the JSON body is none. `body_broken`, `body_encoding`, \
            `invalid_multipart`.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`idempotency_in_progress`: the first request with this key is still under way.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "`body_too_large`: a JSON body, or what a packed one came to; `line_too_long`: a line of NDJSON \
            or a record of CSV; `part_too_large`: the settings in a form.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type` or `unsupported_encoding`.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "`too_many_batches`: the account has as many under way as it may. \
            `daily_limit`: it has had as many recipients today. `rate_limited`.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_request` with every field that is wrong, at most 100; \
            `invalid_recipients`, `template_invalid`, `callback_url_forbidden`, `unknown_provider`, \
            `not_supported`, `idempotency_key_invalid`, `idempotency_key_reused`; `daily_limit`: the \
            batch has more recipients than the account may have in a day.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn submit(
    State(app): State<AppState>,
    account: Account,
    request: Request,
) -> Result<Response, Problem> {
    let Coming { key, way, body, bytes_max } = Coming::read(&app, &account, request).await?;
    let received = match way {
        Way::Whole => whole::receive(&app, &account, key, body, bytes_max).await?,
        Way::Lines | Way::Table(_) => {
            streamed::receive(&app, &account, key, way.settings(), body, bytes_max).await?
        }
    };
    answer(&app, &account, received).await
}

/// Try messages of a batch again
///
/// Makes a new batch of the recipients whose messages ended in these states, with all else as it was.
/// It names the earlier one as its `parent`, begins at once, and expires when that was to, unless the
/// time has passed.
#[utoipa::path(
    post, path = "/v1/batches/{id}/retry", tag = "Batches",
    params(
        ("id" = String, Path, description = "The earlier batch's id."),
        ("Idempotency-Key" = Option<String>, Header, description = "As in `POST /v1/batches`."),
    ),
    request_body = RetryBatch,
    responses(
        (status = 202, description = "The new batch is accepted.", body = BatchResource,
            headers(("Location" = String, description = "The new batch's address."))),
        (status = 200, description = "It was accepted before, under the same key.", body = BatchResource,
            headers(("Idempotent-Replayed" = String, description = "Always `true`."))),
        (status = 404, description = "The account has no such batch.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "`batch_state`: the batch is not over. `idempotency_in_progress`.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_request` with every field that is wrong; \
            `idempotency_key_reused`.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn retry(
    State(app): State<AppState>,
    account: Account,
    BatchPath(id): BatchPath,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    Query::parse(&parts.uri, &[])?;
    let key = head::idempotency_key(&parts.headers)?;
    let body = small_json(&app, &parts.headers, body).await?;
    let received = retried::receive(&app, &account, key, id, &body).await?;
    answer(&app, &account, received).await
}

async fn answer(app: &App, account: &Account, received: Received) -> Result<Response, Problem> {
    match received {
        Received::New(sealed) => {
            let Sealed { ref draft, messages, invalid, opted_out, skipped } = *sealed;
            tracing::info!(
                batch.id = %draft.id, account = &*account.0, provider.name = draft.spec.provider,
                messages, invalid, opted_out, skipped, "batch accepted"
            );
            Ok(accepted(app, account, *sealed).await)
        }
        Received::Again(id) => {
            let batch = batches::resource(app, account, id).await?;
            let replayed = [(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"))];
            Ok((StatusCode::OK, replayed, location(id), Json(batch)).into_response())
        }
    }
}

// === impl App ===

impl App {
    pub(super) fn rules<'a>(&'a self, account: &'a Account) -> Rules<'a> {
        Rules {
            account: &account.0,
            providers: &self.api.providers,
            default_provider: &self.api.default_provider,
            chunk_size: self.api.chunk_size,
            recipients_max: self
                .settings_of(account)
                .and_then(|of| of.recipients_max)
                .unwrap_or(u32::MAX),
            counts_invalid: false,
            callbacks: &self.api.callback_rules,
            now: self.api.clock.now(),
        }
    }

    /// The longest body of any size that the account may send, in bytes.
    pub(super) fn body_bytes_max(&self, account: &Account) -> u64 {
        self.settings_of(account).and_then(|of| of.body_bytes_max).unwrap_or(u64::MAX)
    }

    fn settings_of(&self, account: &Account) -> Option<Arc<AccountSettings>> {
        self.api.accounts.settings_of(account)
    }

    /// The most recipients that the account may have in a day.
    fn daily_max(&self, account: &Account) -> Option<u64> {
        self.settings_of(account)?.daily_recipients_max
    }

    /// Opens the upload of a batch.
    async fn open(&self, draft: &Draft, account: &Account) -> Result<Opening, Problem> {
        let Store { intake, optouts, .. } = &self.api.store;
        upload::open(intake, optouts, draft, self.daily_max(account)).await
    }

    fn draft(&self, account: &Account, spec: BatchSpec, key: Option<String>) -> Draft {
        let partitions = u64::from(self.api.store.intake.partitions().max(1));
        // A key's partition follows from it, so that a repeat finds the first request.
        let word = key.as_deref().map_or_else(rand::random, |key| {
            first_word(&sha256(format!("{}\0{key}", account.0).as_bytes()))
        });
        let facts = self.api.providers.get(&spec.provider);
        let receipt_timeout = facts.map(|facts| facts.receipt_timeout).unwrap_or_default();
        // A remainder of a u16 fits one.
        let partition = u16::try_from(word % partitions).unwrap_or_default();
        Draft {
            id: BatchId::new(self.api.clock.now(), rand::random(), partition),
            spec,
            key: key.map(|key| IdempotencyKey(hex(&sha256(key.as_bytes())))),
            token: rand::random(),
            batches_max: self.settings_of(account).and_then(|of| of.batches_max),
            receipt_timeout,
        }
    }
}

/// The answer 202, with the batch as it stands now; as it stood when it was sealed if the store
/// does not say.
async fn accepted(app: &App, account: &Account, sealed: Sealed) -> Response {
    let id = sealed.draft.id;
    let batch = timeout(SHOW_TIME, batches::resource(app, account, id)).await;
    let batch = batch.ok().and_then(Result::ok).unwrap_or_else(|| as_sealed(sealed).into());
    (StatusCode::ACCEPTED, location(id), Json(batch)).into_response()
}

fn as_sealed(sealed: Sealed) -> Batch {
    let Sealed { draft, messages, invalid, opted_out, skipped } = sealed;
    let mut ended = FinalCounts::default();
    ended.add(FinalState::Failed, u64::from(invalid) + u64::from(opted_out));
    let waits = draft.spec.send_at.is_some_and(|at| at > draft.id.created_at());
    Batch {
        id: draft.id,
        spec: draft.spec,
        state: if waits { BatchState::Scheduled } else { BatchState::Queued },
        counts: Counts { total: messages.into(), sending: 0, ended },
        skipped,
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
            Refusal::Scratch(error) => {
                tracing::error!(%error, "numbers can't be compared: is there room for scratch files?");
                let detail = "The server has no room to look for duplicates; try again.";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_full", detail).retry_after(1)
            }
            Refusal::Fields(errors) => Self::invalid_request(errors, &NAMED),
            Refusal::LineTooLong { line } => {
                let detail = format!("Line {line} is longer than {LINE_BYTES_MAX} bytes.");
                let error = FieldError {
                    pointer: format!("/{line}"),
                    code: "too_long".into(),
                    detail: detail.clone(),
                };
                let problem = Self::new(StatusCode::PAYLOAD_TOO_LARGE, "line_too_long", detail);
                problem.with_errors(vec![error])
            }
            Refusal::InvalidRecipients { errors, count } => {
                let detail = format!("{count} recipients are not E.164 numbers.");
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                let problem = Self::new(status, "invalid_recipients", detail);
                problem.with_errors(errors).with_invalid_count(count.into())
            }
        }
    }
}
