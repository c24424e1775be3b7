//! What is borne from a server that is asked again and again: that it is away for a while, and
//! that it is asked too often.

use std::time::Duration;

use tokio::time::Instant;

use super::Failure;
use crate::client::ClientError;

/// How long a server may be away.
const OUTAGE_MAX: Duration = Duration::from_mins(1);

/// The longest wait that a server which is asked too often can bring about.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Whether the server is away, and since when.
#[derive(Debug, Default)]
pub(super) struct Outage {
    since: Option<Instant>,
    pause: Duration,
}

// === impl Outage ===

impl Outage {
    /// Bears an error, if that is possible; says whether it is the first of an outage.
    ///
    /// # Errors
    /// The error itself, if it can't be borne or was for too long.
    pub(super) fn bear(&mut self, error: ClientError, now: Instant) -> Result<bool, Failure> {
        self.pause = match &error {
            ClientError::Refused { retry_after, .. } => {
                retry_after.unwrap_or_default().min(PAUSE_MAX)
            }
            _ => Duration::ZERO,
        };
        if error.code() == Some("rate_limited") {
            return Ok(false);
        }
        let is_first = self.since.is_none();
        let since = *self.since.get_or_insert(now);
        if !is_passing(&error) || now.duration_since(since) >= OUTAGE_MAX {
            return Err(error.into());
        }
        Ok(is_first)
    }

    /// The server has answered; says whether that ends an outage.
    pub(super) fn end(&mut self) -> bool {
        self.since.take().is_some()
    }

    /// How long the server has asked to be left alone.
    pub(super) fn pause(&self) -> Duration {
        self.pause
    }
}

/// Whether it may be over soon.
fn is_passing(error: &ClientError) -> bool {
    match error {
        ClientError::Refused { problem, .. } => problem.status >= 500,
        error => error.is_unreachable(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::model::ProblemBody;

    fn away() -> ClientError {
        ClientError::Unreachable { url: "http://127.0.0.1:1".into(), reason: "refused".into() }
    }

    fn refused(status: u16, code: &str) -> ClientError {
        let problem = ProblemBody {
            r#type: "about:blank".into(),
            title: String::new(),
            status,
            detail: "No.".into(),
            code: code.into(),
            errors: Vec::new(),
            invalid_count: None,
        };
        ClientError::Refused {
            problem: Box::new(problem),
            retry_after: Some(Duration::from_secs(90)),
        }
    }

    #[test]
    fn a_restart_is_borne_and_a_server_that_stays_away_is_not() {
        let (mut outage, start) = (Outage::default(), Instant::now());
        assert!(outage.bear(away(), start).unwrap());
        assert!(!outage.bear(refused(503, "store_unavailable"), start + OUTAGE_MAX / 2).unwrap());
        assert!(outage.end());
        assert!(!outage.end());
        let again = start + OUTAGE_MAX;
        assert!(outage.bear(away(), again).unwrap());
        let end = outage.bear(away(), again + OUTAGE_MAX).unwrap_err();
        assert!(matches!(end, Failure::Unreachable(_)), "{end}");
    }

    #[test]
    fn a_refusal_is_final_but_for_being_asked_too_often() {
        let (mut outage, now) = (Outage::default(), Instant::now());
        assert!(!outage.bear(refused(429, "rate_limited"), now).unwrap());
        assert_eq!(outage.pause(), PAUSE_MAX);
        assert!(outage.bear(refused(404, "not_found"), now).is_err());
    }
}
