//! What stands in a request's address: ids in the path, and the query of lists.
//!
//! An id that can't be one is a batch that isn't there. A query parameter that is not known is
//! refused: it is never ignored.

use std::{borrow::Cow, fmt::Display, str::FromStr};

use axum::extract::{FromRequestParts, Path};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{Uri, request::Parts};
use serde::{Deserialize, de::IntoDeserializer, de::value::Error as WordError};
use url::form_urlencoded;

use super::{AppState, model::FieldError, problem::Problem};
use crate::domain::ids::BatchId;

/// The number of items on a page if the client does not say.
const LIMIT_DEFAULT: usize = 100;

/// The most items on a page.
const LIMIT_MAX: usize = 1_000;

/// The batch in a path.
pub(super) struct BatchPath(pub(super) BatchId);

/// The message in a path.
pub(super) struct MessagePath {
    pub(super) batch: BatchId,
    pub(super) index: u32,
}

/// A request's query.
#[derive(Debug)]
pub(super) struct Query<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// The problem of a batch that the account does not have.
pub(super) fn no_batch() -> Problem {
    Problem::not_found("There is no such batch.")
}

/// The problem of a message that the batch does not have.
pub(super) fn no_message() -> Problem {
    Problem::not_found("There is no such message.")
}

// === impl BatchPath ===

impl FromRequestParts<AppState> for BatchPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, app).await;
        path.ok().and_then(|Path(id)| id.parse().ok()).map(Self).ok_or_else(no_batch)
    }
}

// === impl MessagePath ===

impl FromRequestParts<AppState> for MessagePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        let path = Path::<(String, String)>::from_request_parts(parts, app).await;
        let Path((id, index)) = path.map_err(|_| no_batch())?;
        let batch = id.parse().map_err(|_| no_batch())?;
        let is_plain = index.bytes().all(|byte| byte.is_ascii_digit());
        let index = index.parse().ok().filter(|_| is_plain).ok_or_else(no_message)?;
        Ok(Self { batch, index })
    }
}

// === impl Query ===

impl<'a> Query<'a> {
    /// Reads the query of `uri`, which may have the parameters in `known`, each once.
    pub(super) fn parse(uri: &'a Uri, known: &[&str]) -> Result<Self, Problem> {
        let mut pairs: Vec<(Cow<'a, str>, Cow<'a, str>)> = Vec::new();
        let mut errors = Vec::new();
        for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            if !known.contains(&&*name) {
                errors.push(fault(&name, "unknown_parameter", "there is no such parameter"));
            } else if pairs.iter().any(|(given, _)| *given == name) {
                errors.push(fault(&name, "duplicate_parameter", "this parameter is given twice"));
            } else {
                pairs.push((name, value));
            }
        }
        if errors.is_empty() { Ok(Self { pairs }) } else { Err(refused(errors)) }
    }

    /// The text of a parameter.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(given, _)| given == name).map(|(_, value)| &**value)
    }

    /// A parameter that is one of the words of `T`.
    pub(super) fn word<T: for<'de> Deserialize<'de>>(
        &self,
        name: &str,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let word: Result<T, WordError> = T::deserialize(text.into_deserializer());
        let wrong = |error: WordError| refused(vec![fault(name, "invalid_value", error)]);
        word.map(Some).map_err(wrong)
    }

    /// A parameter that `read` understands.
    pub(super) fn read<T, E: Display>(
        &self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let wrong = |error| Self::refuse(name, "invalid_value", error);
        read(text).map(Some).map_err(wrong)
    }

    /// The problem of a parameter that can't be used.
    pub(super) fn refuse(name: &str, code: &str, detail: impl Display) -> Problem {
        refused(vec![fault(name, code, detail)])
    }

    /// The number of items wanted.
    pub(super) fn limit(&self) -> Result<usize, Problem> {
        let Some(text) = self.text("limit") else { return Ok(LIMIT_DEFAULT) };
        let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
        limit.ok_or_else(|| {
            let detail = format_args!("this is a whole number from 1 to {LIMIT_MAX}");
            refused(vec![fault("limit", "out_of_range", detail)])
        })
    }

    /// Where the page begins: what [`cursor`] was made of, with the same `kind`.
    pub(super) fn cursor<T: FromStr>(&self, kind: &str) -> Result<Option<T>, Problem> {
        let Some(text) = self.text("cursor") else { return Ok(None) };
        let decoded = BASE64_URL_SAFE_NO_PAD.decode(text).ok();
        let place = decoded.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok());
        let place = place.and_then(|place| place.strip_prefix(kind)?.strip_prefix(':'));
        place.and_then(|place| place.parse().ok()).map(Some).ok_or_else(|| {
            let detail = "this is not a cursor that this list has given";
            refused(vec![fault("cursor", "invalid_cursor", detail)])
        })
    }
}

/// An opaque word for the place `at` in a list of `kind`.
pub(super) fn cursor(kind: &str, at: impl Display) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("{kind}:{at}"))
}

fn fault(name: &str, code: &str, detail: impl Display) -> FieldError {
    let name: String = name.chars().take(64).collect();
    let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
    FieldError { pointer, code: code.into(), detail: detail.to_string() }
}

fn refused(errors: Vec<FieldError>) -> Problem {
    Problem::invalid_request(errors, &["not_supported"])
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;
    use crate::domain::message::MessageState;

    fn uri(query: &str) -> Uri {
        format!("/v1/batches?{query}").parse().unwrap()
    }

    #[test]
    fn a_cursor_reads_back_in_its_own_list_only() {
        let uri = uri(&format!("cursor={}", cursor("m", 40)));
        let query = Query::parse(&uri, &["cursor"]).unwrap();
        assert_eq!(query.cursor::<u32>("m").unwrap(), Some(40));
        assert!(query.cursor::<u32>("b").is_err());
    }

    #[test]
    fn what_can_not_be_is_refused_and_never_ignored() {
        let known = ["limit", "cursor", "state"];
        for query in ["offset=3", "limit=1&limit=2", "wait=30s"] {
            let uri = uri(query);
            let status = Query::parse(&uri, &known).unwrap_err().into_response().status();
            assert_eq!(status, 422, "{query}");
        }
        for query in ["limit=0", "limit=1001", "limit=-1", "limit=", "limit=ten"] {
            let uri = uri(query);
            assert!(Query::parse(&uri, &known).unwrap().limit().is_err(), "{query}");
        }
        for query in ["cursor=", "cursor=%21", "cursor=bTp4", "cursor=MA"] {
            let uri = uri(query);
            assert!(Query::parse(&uri, &known).unwrap().cursor::<u32>("m").is_err(), "{query}");
        }
    }

    #[test]
    fn a_state_is_one_of_the_words_clients_read() {
        let (good, bad) = (uri("state=undelivered"), uri("state=Sent"));
        let state = Query::parse(&good, &["state"]).unwrap().word::<MessageState>("state");
        assert_eq!(state.unwrap(), Some(MessageState::Undelivered));
        assert!(Query::parse(&bad, &["state"]).unwrap().word::<MessageState>("state").is_err());
    }
}
