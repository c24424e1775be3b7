//! Why a call of the API did not give what it was asked for.

use std::{error::Error, fmt, io, time::Duration};

use crate::api::model::{FieldError, ProblemBody};

/// Why a call did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL or the key can't be used; nothing was asked of anyone.
    #[error("{0}")]
    Settings(String),
    /// The server said no.
    #[error("{}", Refusal(problem))]
    Refused {
        /// What it said.
        problem: Box<ProblemBody>,
        /// How long it asks to wait before another try.
        retry_after: Option<Duration>,
    },
    /// There was no connection, or it broke before the request was complete: nothing has happened.
    #[error(
        "no Ringback server can be reached at {url} ({reason}); \
         start one with `ringback serve`, or name yours with --url or RINGBACK_URL"
    )]
    Unreachable {
        /// The server's URL.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The request was sent and no whole answer came: it may have been done.
    #[error("{url} gave no answer ({reason}); what was asked of it may have been done")]
    NoAnswer {
        /// The server's URL.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The answer is none of this API's.
    #[error("what answers at {url} is no Ringback server that this program knows: {detail}")]
    Foreign {
        /// The server's URL.
        url: String,
        /// What is strange about it.
        detail: String,
    },
    /// What was to be uploaded could not be read; the server has dropped what came before.
    #[error("can't read what is to be sent: {0}")]
    Source(#[source] io::Error),
}

/// A problem for people: its detail, and each field error on a line of its own.
struct Refusal<'a>(&'a ProblemBody);

/// The last of an error's causes, in words: the one that says most.
pub(super) fn innermost(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

// === impl ClientError ===

impl ClientError {
    /// The server's stable word for its refusal, if that is what this is.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { problem, .. } => Some(&problem.code),
            _ => None,
        }
    }

    /// Whether nobody can tell if the request was done. A repeat with the same idempotency key
    /// finds out.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::NoAnswer { .. }) || self.code() == Some("outcome_unknown")
    }

    /// Whether the server could not be reached, or did not answer.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::NoAnswer { .. })
    }
}

// === impl Refusal ===

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ProblemBody { detail, status, code, errors, .. } = self.0;
        write!(f, "{detail} ({status} {code})")?;
        // An only error is in the detail already.
        let is_told = |error: &FieldError| {
            errors.len() == 1 && *detail == format!("{}: {}", error.pointer, error.detail)
        };
        for error in errors.iter().filter(|error| !is_told(error)) {
            write!(f, "\n  {}: {} ({})", error.pointer, error.detail, error.code)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_tells_of_every_field() {
        let field = |pointer: &str| FieldError {
            pointer: pointer.into(),
            code: "missing".into(),
            detail: "it is wanted".into(),
        };
        let problem = ProblemBody {
            r#type: "about:blank".into(),
            title: "Unprocessable Entity".into(),
            status: 422,
            detail: "Several fields are wrong; see errors.".into(),
            code: "invalid_request".into(),
            errors: vec![field("/body"), field("/recipients/7/to")],
            invalid_count: None,
        };
        let error = ClientError::Refused { problem: Box::new(problem), retry_after: None };
        assert_eq!(
            error.to_string(),
            "Several fields are wrong; see errors. (422 invalid_request)\n  \
             /body: it is wanted (missing)\n  /recipients/7/to: it is wanted (missing)"
        );
        assert_eq!(error.code(), Some("invalid_request"));
    }

    #[test]
    fn who_finds_no_server_is_told_what_to_do() {
        let error = ClientError::Unreachable {
            url: "http://127.0.0.1:8080".into(),
            reason: "Connection refused (os error 111)".into(),
        };
        let text = error.to_string();
        for hint in ["http://127.0.0.1:8080", "refused", "ringback serve", "RINGBACK_URL"] {
            assert!(text.contains(hint), "{text}");
        }
        assert!(error.is_unreachable() && !error.is_outcome_unknown());
    }
}
