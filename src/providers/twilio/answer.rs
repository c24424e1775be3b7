//! What Twilio's answers mean.
//!
//! A message is accepted if the answer says what it is called; nothing less proves it. A refusal is judged
//! by its code, and by its status where the code is not known. A failure of which not even Twilio itself
//! speaks (a balancer's 502, say) may have come after the message was taken.

use std::time::Duration;

use http::{StatusCode, response::Parts};
use serde::Deserialize;

use super::{
    errors::{self, Known, Verdict},
    settings::is_sid,
};
use crate::{
    domain::outcome::{Outcome, SendError, Throttled},
    providers::{PAUSE_MAX, exchange::failure::pause},
};

/// How long Twilio is left alone if it does not say how long.
const PAUSE: Duration = Duration::from_secs(1);

/// A message as Twilio shows it, as far as it is read.
#[derive(Debug, Deserialize)]
pub(super) struct Message {
    sid: Option<String>,
    status: Option<String>,
    error_code: Option<u32>,
    pub(super) body: Option<String>,
    pub(super) direction: Option<String>,
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
    pub(super) messaging_service_sid: Option<String>,
    pub(super) date_created: Option<String>,
}

/// An error as Twilio tells it, as far as it is read: its text may hold numbers.
#[derive(Deserialize)]
struct Refusal {
    code: Option<u32>,
}

/// A 2xx with its whole body.
pub(super) fn created(body: &[u8], receipts: bool) -> Outcome {
    match serde_json::from_slice::<Message>(body) {
        Ok(message) if message.has_sid() => message.outcome(receipts),
        _ => {
            let detail = "the answer does not say what the message is called";
            Outcome::Unknown { error: SendError::passing("provider_broken_answer", detail) }
        }
    }
}

/// Any other answer. `body` is what was read of its body.
pub(super) fn refused(head: &Parts, body: &[u8]) -> Outcome {
    let code = serde_json::from_slice::<Refusal>(body).ok().and_then(|refusal| refusal.code);
    let outcome = match code.and_then(errors::known_code) {
        Some(known) => refused_as(known, head),
        None => refused_with(head, code.is_some()),
    };
    match code {
        Some(code) => with_code(outcome, code),
        None => outcome,
    }
}

/// A refusal whose code is known.
fn refused_as(known: &Known, head: &Parts) -> Outcome {
    let (word, detail) = (known.word, known.detail);
    match known.verdict {
        Verdict::Final => Outcome::Rejected { error: SendError::permanent(word, detail) },
        Verdict::Later(after) => {
            let after = pause(head).or((!after.is_zero()).then_some(after));
            let certain = is_certain(head.status);
            Outcome::Temporary { certain, after, error: SendError::passing(word, detail) }
        }
        Verdict::Pause(after) => {
            let after = pause(head).unwrap_or(after).min(PAUSE_MAX);
            let error = SendError::passing(word, detail);
            Outcome::Throttled { after, who: Throttled::Provider, error }
        }
        Verdict::Sender(after) => {
            let after = pause(head).unwrap_or(after).min(PAUSE_MAX);
            let error = SendError::passing(word, detail);
            Outcome::Throttled { after, who: Throttled::Sender, error }
        }
    }
}

/// A refusal with a code that is not known, or with none.
fn refused_with(head: &Parts, has_code: bool) -> Outcome {
    let status = head.status;
    let detail = format!("answered {}", status.as_u16());
    let after = pause(head);
    if status == StatusCode::TOO_MANY_REQUESTS {
        let error = SendError::passing("provider_throttled", detail);
        let after = after.unwrap_or(PAUSE);
        return Outcome::Throttled { after, who: Throttled::Provider, error };
    }
    let error = SendError::passing("provider_unavailable", detail.clone());
    match status {
        StatusCode::SERVICE_UNAVAILABLE => Outcome::Temporary { certain: true, after, error },
        _ if status.is_server_error() && has_code => {
            Outcome::Temporary { certain: false, after, error }
        }
        _ if status.is_server_error() || status.is_informational() => Outcome::Unknown { error },
        StatusCode::REQUEST_TIMEOUT => Outcome::Unknown { error },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Outcome::Rejected { error: SendError::permanent("provider_auth", detail) }
        }
        _ => Outcome::Rejected { error: SendError::permanent("provider_rejected", detail) },
    }
}

/// Whether a refusal with this status can't have come after the message was taken.
fn is_certain(status: StatusCode) -> bool {
    !status.is_server_error() || status == StatusCode::SERVICE_UNAVAILABLE
}

fn with_code(mut outcome: Outcome, code: u32) -> Outcome {
    match &mut outcome {
        Outcome::Accepted { .. } => {}
        Outcome::Temporary { error, .. }
        | Outcome::Throttled { error, .. }
        | Outcome::Rejected { error }
        | Outcome::Unknown { error } => error.provider_code = Some(code.to_string()),
    }
    outcome
}

// === impl Message ===

impl Message {
    /// Whether it is called as messages are.
    pub(super) fn has_sid(&self) -> bool {
        let is_called = |prefix| self.sid.as_deref().is_some_and(|sid| is_sid(prefix, sid));
        is_called("SM") || is_called("MM")
    }

    /// What it means that there is this message. One that has failed already never left.
    pub(super) fn outcome(self, receipts: bool) -> Outcome {
        if self.status.as_deref() == Some("failed") {
            return Outcome::Rejected { error: errors::later(self.error_code, false) };
        }
        Outcome::Accepted { provider_message_id: self.sid, receipt_follows: receipts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SID: &str = "SM0123456789abcdef0123456789abcdef";

    fn refusal(status: u16, code: Option<u32>, headers: &[(&'static str, &str)]) -> Outcome {
        let mut response = http::Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let body = code.map_or("<html>".to_owned(), |code| {
            format!(r#"{{"code": {code}, "message": "To +15551230001", "status": {status}}}"#)
        });
        refused(&response.body(()).unwrap().into_parts().0, body.as_bytes())
    }

    fn rejected(outcome: Outcome) -> (String, Option<String>) {
        match outcome {
            Outcome::Rejected { error } => {
                assert!(error.permanent && !error.detail.contains("555"), "{error:?}");
                (error.code.into_owned(), error.provider_code)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_an_answer_with_a_messages_name_proves_acceptance() {
        let accepted = |receipts| Outcome::Accepted {
            provider_message_id: Some(SID.to_owned()),
            receipt_follows: receipts,
        };
        let body = format!(r#"{{"sid": "{SID}", "status": "queued", "error_code": null}}"#);
        assert_eq!(created(body.as_bytes(), true), accepted(true));
        assert_eq!(created(body.as_bytes(), false), accepted(false));
        let multimedia = body.replace("SM0", "MM0");
        assert!(matches!(created(multimedia.as_bytes(), false), Outcome::Accepted { .. }));
        let shorter = body.replace(SID, &SID[..33]);
        for body in ["", "OK", "{}", r#"{"sid": null}"#, &body[..40], &shorter] {
            assert!(matches!(created(body.as_bytes(), true), Outcome::Unknown { .. }), "{body}");
        }
    }

    #[test]
    fn a_message_that_failed_at_once_was_not_accepted() {
        let body = format!(r#"{{"sid": "{SID}", "status": "failed", "error_code": 30002}}"#);
        let expected = ("account_suspended".to_owned(), Some("30002".to_owned()));
        assert_eq!(rejected(created(body.as_bytes(), true)), expected);
    }

    #[test]
    fn a_known_code_decides_and_is_kept_beside_ours() {
        let finals = [
            (400, 21211, "invalid_number"),
            (400, 21610, "opted_out"),
            (400, 21612, "unroutable"),
            (400, 21614, "not_mobile"),
            (400, 21408, "region_forbidden"),
            (400, 21606, "invalid_sender"),
            (401, 20003, "provider_auth"),
            (404, 20404, "provider_auth"),
            (400, 30034, "sender_unregistered"),
        ];
        for (status, code, word) in finals {
            let expected = (word.to_owned(), Some(code.to_string()));
            assert_eq!(rejected(refusal(status, Some(code), &[])), expected);
        }
        for (status, code, word) in
            [(503, 20503, "provider_unavailable"), (400, 30017, "carrier_busy")]
        {
            let error = SendError::passing(word, errors::known_code(code).unwrap().detail);
            let error = error.with_provider_code(code.to_string());
            let expected = Outcome::Temporary { certain: true, after: None, error };
            assert_eq!(refusal(status, Some(code), &[]), expected);
        }
        let asked = refusal(400, Some(30023), &[]);
        assert!(
            matches!(&asked, Outcome::Temporary { after, .. } if *after == Some(PAUSE_MAX)),
            "{asked:?}"
        );
    }

    #[test]
    fn what_concerns_more_than_the_message_pauses() {
        let pause = |outcome| match outcome {
            Outcome::Throttled { after, error, .. } => (after.as_secs(), error.code.into_owned()),
            other => panic!("{other:?}"),
        };
        let throttled = |seconds| (seconds, "provider_throttled".to_owned());
        assert_eq!(pause(refusal(429, Some(20429), &[])), throttled(1));
        assert_eq!(pause(refusal(429, Some(20429), &[("retry-after", "7")])), throttled(7));
        assert_eq!(pause(refusal(429, Some(20429), &[("retry-after", "86400")])), throttled(600));
        assert_eq!(pause(refusal(429, None, &[])), throttled(1));
        assert_eq!(pause(refusal(429, Some(99_999), &[("retry-after", "3")])), throttled(3));
        assert_eq!(pause(refusal(429, Some(63017), &[])), throttled(1));
        let full = (10, "sender_queue_full".to_owned());
        assert_eq!(pause(refusal(400, Some(21611), &[])), full);
        assert_eq!(pause(refusal(429, Some(63038), &[])), (600, "provider_quota".to_owned()));
    }

    #[test]
    fn an_unknown_code_or_none_leaves_it_to_the_status() {
        let code = Some("99999".to_owned());
        assert_eq!(rejected(refusal(400, Some(99_999), &[])), ("provider_rejected".into(), code));
        assert_eq!(rejected(refusal(302, None, &[])), ("provider_rejected".into(), None));
        assert_eq!(rejected(refusal(401, None, &[])), ("provider_auth".into(), None));
        let certain = |outcome| match outcome {
            Outcome::Temporary { certain, .. } => certain,
            other => panic!("{other:?}"),
        };
        assert!(certain(refusal(503, None, &[])));
        assert!(!certain(refusal(500, Some(20500), &[])));
        assert!(!certain(refusal(500, Some(99_999), &[])));
        for status in [101, 408, 500, 502, 504] {
            let outcome = refusal(status, None, &[]);
            assert!(matches!(outcome, Outcome::Unknown { .. }), "{status}: {outcome:?}");
        }
    }
}
