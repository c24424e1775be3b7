//! Answers that say no, as RFC 9457 problems.
//!
//! A client goes by the `code`, a person by the `detail`; every code is made here or in the file
//! of the resource it belongs to. What went wrong inside is logged where it becomes a problem, and
//! never told to the client.

use std::{any::Any, borrow::Cow};

use axum::response::{IntoResponse, Response};
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};

use super::model::{FieldError, ProblemBody};
use crate::store::StoreError;

/// The most field errors one answer lists.
pub(super) const ERRORS_MAX: usize = 100;

/// The media type of problems.
pub(super) const MEDIA_TYPE: &str = "application/problem+json";

/// An answer that says no.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    invalid_count: Option<u64>,
    retry_after_s: Option<u64>,
}

/// A problem's code, which its response carries for the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Code(pub(super) &'static str);

/// A problem that was found while a body was read, on its way through those who read it.
#[derive(Debug, thiserror::Error)]
#[error("the body is refused")]
pub(super) struct Refused(pub(super) Problem);

// === impl Problem ===

impl Problem {
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        let detail = detail.into();
        Self { status, code, detail, errors: Vec::new(), invalid_count: None, retry_after_s: None }
    }

    pub(super) fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// What the interface names and this version does not do yet.
    pub(super) fn not_supported(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "not_supported", detail)
    }

    /// One or more fields are wrong. Errors of one and the same `named` code lend it to the
    /// whole answer.
    pub(super) fn invalid_request(errors: Vec<FieldError>, named: &[&'static str]) -> Self {
        let is_code_of_all = |code: &&&str| errors.iter().all(|error| error.code == ***code);
        let code = named.iter().find(is_code_of_all).copied().unwrap_or("invalid_request");
        let detail = match errors.as_slice() {
            [only] if only.pointer.is_empty() => Cow::Owned(only.detail.clone()),
            [only] => Cow::Owned(format!("{}: {}", only.pointer, only.detail)),
            _ => "Several fields are wrong; see errors.".into(),
        };
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail).with_errors(errors)
    }

    /// Something went wrong that the client has no part in.
    pub(super) fn internal() -> Self {
        let detail = "Something went wrong inside the server; its log says what.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    #[must_use]
    pub(super) fn with_errors(mut self, mut errors: Vec<FieldError>) -> Self {
        errors.truncate(ERRORS_MAX);
        self.errors = errors;
        self
    }

    #[must_use]
    pub(super) fn with_invalid_count(mut self, count: u64) -> Self {
        self.invalid_count = Some(count);
        self
    }

    #[must_use]
    pub(super) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let busy = StatusCode::SERVICE_UNAVAILABLE;
        match error {
            StoreError::Unreachable(_) | StoreError::ReplyLost(_) => {
                tracing::warn!(%error, "a request failed: the store did not answer");
                Self::new(busy, "store_unavailable", "The store can't be reached; try again.")
                    .retry_after(1)
            }
            StoreError::Full(_) => {
                tracing::warn!(%error, "a request failed: the store is full");
                Self::new(busy, "store_full", "The store takes no more for now; try again.")
                    .retry_after(1)
            }
            StoreError::Unexpected(_) => {
                tracing::error!(%error, "a request failed: the store's answer made no sense");
                Self::internal()
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ProblemBody {
            r#type: "about:blank".into(),
            title: self.status.canonical_reason().unwrap_or_default().into(),
            status: self.status.as_u16(),
            detail: self.detail.into_owned(),
            code: self.code.into(),
            errors: self.errors,
            invalid_count: self.invalid_count,
        };
        // Strings and numbers: nothing here can fail to render.
        let json = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = (self.status, json).into_response();
        response.extensions_mut().insert(Code(self.code));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The answer to a request whose handler panicked. The panic itself is in the log already.
pub(super) fn panicked(_panic: Box<dyn Any + Send>) -> Response {
    tracing::error!("a request's handler panicked; the client was answered 500");
    Problem::internal().into_response()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn rendered(problem: Problem) -> (http::HeaderMap, serde_json::Value) {
        let (parts, body) = problem.into_response().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts.headers, serde_json::from_slice(&bytes).unwrap())
    }

    fn error(pointer: &str, code: &str) -> FieldError {
        FieldError { pointer: pointer.into(), code: code.into(), detail: "it is wrong".into() }
    }

    #[tokio::test]
    async fn a_problem_has_the_members_of_rfc_9457_and_a_code() {
        let (headers, body) = rendered(Problem::not_found("There is no such batch.")).await;
        assert_eq!(headers[CONTENT_TYPE], "application/problem+json");
        let expected = serde_json::json!({
            "type": "about:blank", "title": "Not Found", "status": 404,
            "detail": "There is no such batch.", "code": "not_found"
        });
        assert_eq!(body, expected);
    }

    #[tokio::test]
    async fn errors_of_one_named_code_lend_it_to_the_problem() {
        let named = ["not_supported"];
        let both = vec![error("/send_at", "not_supported"), error("/rate", "not_supported")];
        let (_, body) = rendered(Problem::invalid_request(both, &named)).await;
        assert_eq!(body["code"], "not_supported");
        let mixed = vec![error("/send_at", "not_supported"), error("/from", "wrong_type")];
        let (_, body) = rendered(Problem::invalid_request(mixed, &named)).await;
        assert_eq!(body["code"], "invalid_request");
        assert_eq!(body["errors"][1]["pointer"], "/from");
    }

    #[tokio::test]
    async fn a_store_that_does_not_answer_is_a_503_that_keeps_its_reason_to_itself() {
        let lost = StoreError::ReplyLost("redis://user:hush@10.0.0.1".into());
        let (headers, body) = rendered(lost.into()).await;
        assert_eq!(
            (body["status"].as_u64(), &headers[RETRY_AFTER]),
            (Some(503), &"1".parse().unwrap())
        );
        assert!(!body.to_string().contains("hush"));
    }

    #[tokio::test]
    async fn a_missing_key_is_asked_for() {
        let problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "Give a key.");
        assert_eq!(rendered(problem).await.0[WWW_AUTHENTICATE], "Bearer");
    }
}
