//! Twilio's error codes, and what follows from each: the one table of them.
//!
//! Twilio has over a thousand; these are those a text message can meet, when it is created or later in a
//! receipt. What is not here is judged by the answer's status. Our words are few and stay; Twilio's code is
//! kept beside. Source: Twilio's "Error and Warning Dictionary".

use std::time::Duration;

use crate::domain::outcome::SendError;

/// What follows from an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Another try would not change it.
    Final,
    /// Another try, not before this, may do.
    Later(Duration),
    /// The same, and nothing else would go now either.
    Pause(Duration),
    /// The same, and nothing else of this sender would go now either.
    Sender(Duration),
}

/// An error that Twilio knows.
#[derive(Debug)]
pub(super) struct Known {
    /// Twilio's code.
    pub(super) code: u32,
    /// Ours.
    pub(super) word: &'static str,
    /// A sentence about it.
    pub(super) detail: &'static str,
    /// What follows where a message is refused with it; in a receipt it is always final.
    pub(super) verdict: Verdict,
}

use Verdict::{Final, Later, Pause, Sender};

/// At once, as far as Twilio is concerned: the policy for retries says when.
const SOON: Verdict = Later(Duration::ZERO);

/// How long a conversation that is held has to rest.
const CONVERSATION: Verdict = Later(Duration::from_secs(30));

/// A limit counted in seconds.
const SECOND: Verdict = Pause(Duration::from_secs(1));

/// A sender's queue at Twilio is full: it holds hours of messages, so a few seconds make some room.
const QUEUE: Verdict = Sender(Duration::from_secs(10));

/// A limit counted in days: looked at again in ten minutes.
const DAY: Verdict = Pause(Duration::from_mins(10));
const CARRIERS_DAY: Verdict = Later(Duration::from_mins(10));

const fn known(code: u32, word: &'static str, verdict: Verdict, detail: &'static str) -> Known {
    Known { code, word, detail, verdict }
}

/// By code.
#[rustfmt::skip]
pub(super) static TABLE: [Known; 67] = [
    known(14107, "provider_throttled", CONVERSATION, "too many messages between two numbers"),
    known(20003, "provider_auth", Final, "Twilio does not accept the credentials"),
    known(20005, "account_suspended", Final, "the account is not active"),
    known(20403, "provider_auth", Final, "the credentials do not allow this"),
    known(20404, "provider_auth", Final, "Twilio knows no such account"),
    known(20429, "provider_throttled", SECOND, "too many requests at once"),
    known(20500, "provider_unavailable", SOON, "Twilio failed"),
    known(20503, "provider_unavailable", SOON, "Twilio is not available"),
    known(21211, "invalid_number", Final, "there can be no such number"),
    known(21212, "invalid_sender", Final, "the sender is no number or name that can send"),
    known(21265, "invalid_number", Final, "the recipient is a short code"),
    known(21266, "invalid_number", Final, "the recipient is the sender"),
    known(21267, "invalid_sender", Final, "a trial account can't send under a name"),
    known(21268, "invalid_number", Final, "the recipient is a premium or information number"),
    known(21408, "region_forbidden", Final, "the account may not send to the recipient's region"),
    known(21603, "invalid_sender", Final, "there is no sender"),
    known(21604, "invalid_number", Final, "there is no recipient"),
    known(21605, "body_too_long", Final, "the text is too long"),
    known(21606, "invalid_sender", Final, "the sender can't send to this recipient"),
    known(21608, "unverified_recipient", Final, "a trial account can send to verified numbers only"),
    known(21609, "receipt_url_refused", Final, "Twilio does not take the URL for receipts: see server.public_url"),
    known(21610, "opted_out", Final, "the recipient wants no messages from this sender"),
    known(21611, "sender_queue_full", QUEUE, "the sender's queue at Twilio is full"),
    known(21612, "unroutable", Final, "there is no way from this sender to this recipient"),
    known(21614, "not_mobile", Final, "the recipient is no mobile number"),
    known(21617, "body_too_long", Final, "the text is longer than 1,600 characters"),
    known(21619, "body_empty", Final, "there is no text"),
    known(21635, "not_mobile", Final, "the recipient is a landline"),
    known(21658, "body_too_long", Final, "the text is longer than 1,600 characters"),
    known(21659, "invalid_sender", Final, "the sender is no number of Twilio's"),
    known(21660, "invalid_sender", Final, "the sender is of another account"),
    known(21661, "invalid_sender", Final, "the sender can't send texts"),
    known(21701, "invalid_sender", Final, "there is no such messaging service"),
    known(21703, "invalid_sender", Final, "the messaging service has no sender for this recipient"),
    known(21704, "invalid_sender", Final, "the messaging service has no sender"),
    known(21705, "invalid_sender", Final, "the messaging service can't be used"),
    known(21711, "invalid_sender", Final, "the sender is not of the messaging service"),
    known(30001, "sender_queue_full", QUEUE, "the queue at Twilio was full"),
    known(30002, "account_suspended", Final, "the account is suspended"),
    known(30003, "unreachable", Final, "the phone can't be reached"),
    known(30004, "blocked", Final, "the recipient's carrier or phone blocks the message"),
    known(30005, "unknown_number", Final, "the number is not in use"),
    known(30006, "not_mobile", Final, "the recipient is a landline, or its carrier can't be reached"),
    known(30007, "filtered", Final, "the message was taken for spam"),
    known(30008, "undelivered", Final, "the carrier does not say why"),
    known(30010, "price_too_high", Final, "the message costs more than is allowed"),
    known(30012, "validity_expired", Final, "there was too little time to deliver the message"),
    known(30017, "carrier_busy", SOON, "the carrier's network is congested"),
    known(30018, "sender_unregistered", Final, "the carrier wants the sender registered"),
    known(30019, "body_too_long", Final, "the message is larger than the carrier takes"),
    known(30020, "provider_unavailable", SOON, "Twilio failed"),
    known(30021, "provider_unavailable", SOON, "Twilio failed"),
    known(30022, "provider_throttled", SECOND, "more messages than the campaign's rate"),
    known(30023, "provider_quota", CARRIERS_DAY, "the carrier's limit for the day is reached"),
    known(30024, "sender_unregistered", Final, "the carrier does not know the sender"),
    known(30027, "provider_quota", CARRIERS_DAY, "the carrier's limit for the day is reached"),
    known(30032, "sender_unregistered", Final, "the toll-free sender is not verified"),
    known(30033, "sender_unregistered", Final, "the sender's campaign is suspended"),
    known(30034, "sender_unregistered", Final, "the sender belongs to no campaign"),
    known(30035, "sender_unregistered", Final, "the sender's campaign is not set up yet"),
    known(30036, "validity_expired", Final, "the message was still in the queue when its time was over"),
    known(30037, "account_suspended", Final, "the account may not send"),
    known(30040, "sender_unregistered", Final, "the carrier wants the sender registered"),
    known(30450, "filtered", Final, "the message was taken for fraud"),
    known(63017, "provider_throttled", SECOND, "more messages a second than the account may send"),
    known(63018, "provider_throttled", SECOND, "more messages a second than the channel takes"),
    known(63038, "provider_quota", DAY, "the account's limit for the day is reached"),
];

/// What is known of a code.
pub(super) fn known_code(code: u32) -> Option<&'static Known> {
    let at = TABLE.binary_search_by_key(&code, |known| known.code).ok()?;
    TABLE.get(at)
}

/// Why a message that Twilio had taken did not arrive.
pub(super) fn later(code: Option<u32>, canceled: bool) -> SendError {
    let known = code.and_then(known_code);
    let (word, detail) = match known {
        Some(known) => (known.word, known.detail),
        None if canceled => ("provider_canceled", "the message was canceled at Twilio"),
        None => ("undelivered", "the message was not delivered"),
    };
    let error = SendError::permanent(word, detail);
    match code {
        Some(code) => error.with_provider_code(code.to_string()),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_found_and_documented() {
        assert!(TABLE.is_sorted_by(|one, next| one.code < next.code));
        let document = include_str!("../../../docs/providers.md");
        for known in &TABLE {
            assert!(std::ptr::eq(known_code(known.code).unwrap(), known));
            let row =
                document.lines().find(|line| line.starts_with(&format!("| {} |", known.code)));
            let row = row.unwrap_or_else(|| panic!("docs/providers.md lacks {}", known.code));
            assert!(row.contains(&format!("`{}`", known.word)), "{row}");
            let follows = match known.verdict {
                Final => "final".to_owned(),
                SOON => "tried again".to_owned(),
                Later(after) => format!("tried again after {}", humantime::format_duration(after)),
                Pause(after) => format!("pause of {}", humantime::format_duration(after)),
                Sender(after) => {
                    format!("pause of the sender of {}", humantime::format_duration(after))
                }
            };
            assert!(row.ends_with(&format!("| {follows} |")), "{row}: {follows}");
        }
        assert!(known_code(99_999).is_none());
    }

    #[test]
    fn a_code_is_kept_whether_it_is_known_or_not() {
        let error = later(Some(30_003), false);
        assert_eq!((&*error.code, error.provider_code.as_deref()), ("unreachable", Some("30003")));
        let error = later(Some(39_999), false);
        assert_eq!((&*error.code, error.provider_code.as_deref()), ("undelivered", Some("39999")));
        assert_eq!(later(None, true).code, "provider_canceled");
        assert!(later(None, false).permanent);
    }
}
