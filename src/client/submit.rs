//! Submitting a batch: as one JSON document that can be repeated, as a retry of another batch, or as a
//! stream that can't be repeated. A stream may be estimated instead.

use std::{collections::BTreeMap, io, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::header::CONTENT_TYPE;
use reqwest::{Body, RequestBuilder};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::{
    ANSWER_TIME, Client, ClientError,
    exchange::Answer,
    upload::{Upload, Watch},
};
use crate::{
    api::model::{BatchResource, Estimate, RetryBatch, SubmitBatch},
    domain::{ids::BatchId, message::MessageState},
};

/// Tries of a submission under an idempotency key.
const TRIES: u32 = 5;

/// The wait before the second try; it doubles from try to try.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// The longest wait between two tries.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// How much of a document is taken to be uploaded each second, at least.
const UPLOAD_BYTES_A_SECOND: u64 = 1024 * 1024;

/// What became of a submission: the batch is accepted.
#[derive(Clone, Debug)]
pub struct Submitted {
    /// The batch as it stands.
    pub batch: BatchResource,
    /// Whether an earlier request under the same idempotency key had submitted it.
    pub replayed: bool,
}

// === impl Client ===

impl Client {
    /// Submits a batch. With an idempotency key (1 to 255 visible ASCII characters) it is tried up
    /// to five times where the outcome is unknown, there is no connection, or an earlier try is
    /// still under way at the server.
    ///
    /// # Errors
    /// [`ClientError`]; see [`ClientError::is_outcome_unknown`].
    pub async fn submit(
        &self,
        batch: &SubmitBatch,
        idempotency_key: Option<&str>,
    ) -> Result<Submitted, ClientError> {
        self.submit_to("/v1/batches", rendered(batch)?.into(), idempotency_key).await
    }

    /// Submits a new batch of those recipients of a batch whose messages ended in these states. With
    /// an idempotency key it is tried as often as [`Self::submit`].
    ///
    /// # Errors
    /// [`ClientError`]; `batch_state` if the batch is not over.
    pub async fn retry(
        &self,
        id: BatchId,
        states: &[MessageState],
        idempotency_key: Option<&str>,
    ) -> Result<Submitted, ClientError> {
        let json = rendered(&RetryBatch { states: states.to_vec() })?;
        self.submit_to(&format!("/v1/batches/{id}/retry"), json.into(), idempotency_key).await
    }

    /// Posts what makes a batch; under a key until the outcome is known, or tries are used up.
    async fn submit_to(
        &self,
        path: &str,
        json: Bytes,
        idempotency_key: Option<&str>,
    ) -> Result<Submitted, ClientError> {
        let mut doubt = None;
        let mut tries = 0;
        loop {
            let error = match self.submit_once(path, json.clone(), idempotency_key).await {
                Ok(submitted) => return Ok(submitted),
                Err(error) => error,
            };
            tries += 1;
            if idempotency_key.is_none() || tries >= TRIES || !is_worth_a_repeat(&error) {
                // An earlier try that may have been done outweighs a later one that was not.
                return Err(doubt.filter(|_| error.is_unreachable()).unwrap_or(error));
            }
            tokio::time::sleep(wait(tries, &error)).await;
            if error.is_outcome_unknown() {
                doubt = Some(error);
            }
        }
    }

    /// Submits a batch of any size in constant memory: `head` says everything but the recipients,
    /// its own are left out. `lines` are pieces of any length that are put together as they come:
    /// one recipient a line (a JSON string or object), each line ended by `\n`. There is no time
    /// limit on the whole, only on standing still. It can't be repeated.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Source`] if `lines` fail. Unless
    /// [`ClientError::is_outcome_unknown`], nothing was accepted.
    pub async fn submit_stream(
        &self,
        head: &SubmitBatch,
        lines: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        idempotency_key: Option<&str>,
    ) -> Result<Submitted, ClientError> {
        let answer = self.stream("/v1/batches", head, lines, idempotency_key).await?;
        self.submitted(answer)
    }

    /// Says what a batch would come to that is given as [`Self::submit_stream`] takes it. Nothing is
    /// stored or sent.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Source`] if `lines` fail.
    pub async fn estimate_stream(
        &self,
        head: &SubmitBatch,
        lines: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<Estimate, ClientError> {
        let answer = self.stream("/v1/estimate", head, lines, None).await?;
        answer.success(&self.base)?.resource(&self.base)
    }

    /// Posts a batch as lines.
    async fn stream(
        &self,
        path: &str,
        head: &SubmitBatch,
        lines: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        idempotency_key: Option<&str>,
    ) -> Result<Answer, ClientError> {
        let first = stream::iter([Ok(head_line(head)?)]);
        let request = self.http.post(format!("{}{path}", self.base));
        let request = request.header(CONTENT_TYPE, "application/x-ndjson");
        self.upload(with_key(request, idempotency_key), first.chain(lines)).await
    }

    /// Makes a request with a body of any length. There is no time limit on the whole, only on standing
    /// still.
    pub(super) async fn upload(
        &self,
        request: RequestBuilder,
        body: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<Answer, ClientError> {
        let (upload, watch) = Upload::new(body, ANSWER_TIME);
        let response = tokio::select! {
            biased;
            sent = request.body(Body::wrap_stream(upload)).send() => {
                sent.map_err(|error| broken_off(&watch, self.lost(&error)))?
            }
            () = watch.stands_still() => {
                let reason = "it takes no more of the upload".to_owned();
                let lost = ClientError::NoAnswer { url: self.base.to_string(), reason };
                return Err(broken_off(&watch, lost));
            }
        };
        timeout(ANSWER_TIME, self.read(response)).await.unwrap_or_else(|_| {
            let reason = "its answer breaks off".to_owned();
            Err(ClientError::NoAnswer { url: self.base.to_string(), reason })
        })
    }

    async fn submit_once(
        &self,
        path: &str,
        json: Bytes,
        idempotency_key: Option<&str>,
    ) -> Result<Submitted, ClientError> {
        let upload_s = u64::try_from(json.len()).unwrap_or(u64::MAX) / UPLOAD_BYTES_A_SECOND;
        let request = self
            .post(path)
            .timeout(ANSWER_TIME + Duration::from_secs(upload_s))
            .header(CONTENT_TYPE, "application/json")
            .body(json);
        let answer = self.exchange(with_key(request, idempotency_key)).await?;
        self.submitted(answer)
    }

    fn submitted(&self, answer: Answer) -> Result<Submitted, ClientError> {
        let answer = answer.success(&self.base)?;
        let replayed = answer.says("idempotent-replayed", "true");
        Ok(Submitted { batch: answer.resource(&self.base)?, replayed })
    }
}

/// Why an upload failed. One that was not complete has left nothing at the server.
fn broken_off(watch: &Watch, lost: ClientError) -> ClientError {
    if let Some(failure) = watch.failure() {
        return ClientError::Source(failure);
    }
    match lost {
        ClientError::NoAnswer { url, reason } if !watch.is_complete() => {
            ClientError::Unreachable { url, reason: format!("the upload broke off: {reason}") }
        }
        lost => lost,
    }
}

fn with_key(request: RequestBuilder, key: Option<&str>) -> RequestBuilder {
    match key {
        Some(key) => request.header("idempotency-key", key),
        None => request,
    }
}

fn is_worth_a_repeat(error: &ClientError) -> bool {
    error.is_unreachable()
        || matches!(error.code(), Some("outcome_unknown" | "idempotency_in_progress"))
}

fn wait(tries: u32, error: &ClientError) -> Duration {
    let own = FIRST_WAIT * 2_u32.saturating_pow(tries.saturating_sub(1));
    let asked = match error {
        ClientError::Refused { retry_after, .. } => retry_after.unwrap_or_default(),
        _ => Duration::ZERO,
    };
    own.max(asked).min(WAIT_MAX)
}

fn rendered(batch: &impl Serialize) -> Result<Vec<u8>, ClientError> {
    serde_json::to_vec(batch)
        .map_err(|error| ClientError::Settings(format!("the batch can't be written: {error}")))
}

/// The first line of a stream: the batch without its recipients.
fn head_line(head: &SubmitBatch) -> Result<Bytes, ClientError> {
    let unfit = |error: serde_json::Error| {
        ClientError::Settings(format!("the batch can't be written: {error}"))
    };
    let json = rendered(head)?;
    let mut members: BTreeMap<&str, &RawValue> = serde_json::from_slice(&json).map_err(unfit)?;
    members.remove("recipients");
    let mut line = serde_json::to_vec(&members).map_err(unfit)?;
    // Metadata stands there as it was given. A line break in JSON is outside of strings, where a
    // blank does as well.
    for byte in line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
    line.push(b'\n');
    Ok(line.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::model::RecipientInput;

    #[test]
    fn the_first_line_is_one_line_without_recipients() {
        let head = SubmitBatch {
            body: "Hi\n{{name}}".into(),
            recipients: vec![RecipientInput::Number("+15551230001".into())],
            metadata: RawValue::from_string("{\n  \"n\": 1.10\r\n}".into()).ok(),
            ..SubmitBatch::default()
        };
        let line = head_line(&head).unwrap();
        let text = std::str::from_utf8(&line).unwrap();
        assert_eq!(text.find('\n'), Some(text.len() - 1), "{text}");
        let read: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(read["body"], "Hi\n{{name}}");
        assert!(read.get("recipients").is_none());
        assert!(text.contains("\"n\": 1.10"), "{text}");
    }

    #[test]
    fn waits_grow_and_obey_the_server_and_have_an_end() {
        let lost = ClientError::NoAnswer { url: String::new(), reason: String::new() };
        assert_eq!(wait(1, &lost), FIRST_WAIT);
        assert_eq!(wait(3, &lost), FIRST_WAIT * 4);
        assert_eq!(wait(40, &lost), WAIT_MAX);
    }
}
