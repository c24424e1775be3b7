//! One request and its answer, read to its end and judged.

use std::time::Duration;

use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use reqwest::{RequestBuilder, Response};
use serde::de::DeserializeOwned;

use super::{ANSWER_TIME, CONNECT_TIME, Client, ClientError, error::innermost};
use crate::api::model::ProblemBody;

/// The longest answer that is read, in bytes: a page of 1,000 messages whose recipients are as
/// long as they may be.
const ANSWER_BYTES_MAX: usize = 128 * 1024 * 1024;

/// The longest wait that a server may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// An answer that was read to its end.
pub(super) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

// === impl Client ===

impl Client {
    /// Makes a request; gives the resource that answers it.
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<T, ClientError> {
        self.exchange(request).await?.success(&self.base)?.resource(&self.base)
    }

    /// Makes a request, within the time limit that it has.
    pub(super) async fn exchange(&self, request: RequestBuilder) -> Result<Answer, ClientError> {
        let response = request.send().await.map_err(|error| self.lost(&error))?;
        self.read(response).await
    }

    /// Reads an answer to its end.
    pub(super) async fn read(&self, mut response: Response) -> Result<Answer, ClientError> {
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.lost(&error))? {
            if body.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err(foreign(&self.base, "its answer is too long".to_owned()));
            }
            body.extend_from_slice(&piece);
        }
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Answer { status, headers, body })
    }

    /// What it means that no answer came.
    pub(super) fn lost(&self, error: &reqwest::Error) -> ClientError {
        let url = self.base.to_string();
        let late = |limit: Duration| format!("nothing came within {} s", limit.as_secs());
        match (error.is_connect(), error.is_timeout()) {
            (true, true) => ClientError::Unreachable { url, reason: late(CONNECT_TIME) },
            (true, false) => ClientError::Unreachable { url, reason: innermost(error) },
            (false, true) => ClientError::NoAnswer { url, reason: late(ANSWER_TIME) },
            (false, false) => ClientError::NoAnswer { url, reason: innermost(error) },
        }
    }
}

// === impl Answer ===

impl Answer {
    /// This answer, if it is a success.
    pub(super) fn success(self, url: &str) -> Result<Self, ClientError> {
        if self.status.is_success() {
            return Ok(self);
        }
        let media_type = self.headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
        let problem = media_type.starts_with(b"application/problem+json");
        let problem = problem.then(|| serde_json::from_slice::<ProblemBody>(&self.body).ok());
        match problem.flatten() {
            Some(problem) => Err(ClientError::Refused {
                problem: Box::new(problem),
                retry_after: self.retry_after(),
            }),
            None => Err(foreign(url, format!("it answers {}", self.status))),
        }
    }

    /// The resource in its body.
    pub(super) fn resource<T: DeserializeOwned>(&self, url: &str) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body)
            .map_err(|error| foreign(url, format!("it answers {} and {error}", self.status)))
    }

    /// Whether it has a header `name` that says `value`.
    pub(super) fn says(&self, name: &str, value: &str) -> bool {
        self.headers.get(name).is_some_and(|said| said.as_bytes() == value.as_bytes())
    }

    fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
        Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
    }
}

fn foreign(url: &str, detail: String) -> ClientError {
    ClientError::Foreign { url: url.to_owned(), detail }
}
