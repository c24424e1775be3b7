//! How an exchange can go wrong, and what a provider may ask for when it refuses.
//!
//! A message that never left is [`Outcome::Temporary`]; one that left and got no whole answer is
//! [`Outcome::Unknown`].

use std::{error::Error, fmt, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{
    header::{DATE, RETRY_AFTER},
    response::Parts,
};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::{
    domain::{
        outcome::{Outcome, SendError},
        retry_after,
    },
    providers::PAUSE_MAX,
};

/// An answer did not end well.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("the answer is too long")]
    TooLong,
    #[error(transparent)]
    Broken(#[from] hyper::Error),
}

/// Reads a body to its end.
pub(super) async fn read(mut body: Incoming, bytes_max: usize) -> Result<Bytes, ReadError> {
    let mut whole = Bytes::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if whole.len() + data.len() > bytes_max {
            return Err(ReadError::TooLong);
        }
        // Nearly every answer is one frame, and is not copied.
        whole = if whole.is_empty() { data } else { joined(whole, &data) };
    }
    Ok(whole)
}

/// No connection: the message never left.
pub(super) fn unreachable(error: &dyn Error) -> Outcome {
    let detail = format!("could not connect: {}", Cause(error));
    let error = SendError::passing("provider_unreachable", detail);
    Outcome::Temporary { certain: true, after: None, error }
}

/// No answer. A request that hyper took back was never written.
pub(super) fn unanswered(error: &hyper::Error) -> Outcome {
    if error.is_canceled() { unreachable(error) } else { broken(error) }
}

/// The answer broke off, or was none.
pub(super) fn broken(error: &dyn Error) -> Outcome {
    let detail = format!("no whole answer: {}", Cause(error));
    Outcome::Unknown { error: SendError::passing("provider_broken_answer", detail) }
}

/// No whole answer in time.
pub(super) fn timed_out(timeout: Duration) -> Outcome {
    let detail = format!("no whole answer within {}", humantime::format_duration(timeout));
    Outcome::Unknown { error: SendError::passing("provider_timeout", detail) }
}

/// What `Retry-After` asks for, as far as it is obeyed.
pub(in crate::providers) fn pause(head: &Parts) -> Option<Duration> {
    let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    let asked = retry_after::parse(text(RETRY_AFTER)?, text(DATE))?;
    Some(asked.min(PAUSE_MAX))
}

/// The innermost error, which says what happened; the outer ones only where.
struct Cause<'a>(&'a dyn Error);

// === impl Cause ===

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cause = self.0;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        fmt::Display::fmt(cause, f)
    }
}

fn joined(first: Bytes, second: &[u8]) -> Bytes {
    let mut joined = BytesMut::from(first);
    joined.extend_from_slice(second);
    joined.freeze()
}
