//! What Twilio reports of a message: a request to its `StatusCallback`, whose query says which one it is.

use secrecy::SecretString;
use url::form_urlencoded;

use super::{
    errors,
    report::{Report, malformed},
};
use crate::{
    domain::{
        ids::MessageId,
        receipt::{Receipt, ReceiptWord},
    },
    providers::{ReceiptCall, ReceiptRefusal},
};

/// The query's parameter with the message's id.
const MESSAGE: &str = "message";

/// Reads a report, which must be signed with `token`.
pub(super) fn read(
    token: &SecretString,
    call: &ReceiptCall<'_>,
) -> Result<Vec<Receipt>, ReceiptRefusal> {
    let report = Report::read(token, call)?;
    let message = message(call.url)?;
    let status = report.field("MessageStatus").or_else(|| report.field("SmsStatus"));
    let status = status.ok_or_else(|| malformed("there is no MessageStatus"))?;
    let word = word(status);
    let code = report.field("ErrorCode").and_then(|code| code.parse().ok());
    let error = (word == ReceiptWord::Undelivered)
        .then(|| errors::later(code, status.eq_ignore_ascii_case("canceled")));
    // When it happened is not said.
    Ok(vec![Receipt { message, word, at: None, error }])
}

fn message(url: &str) -> Result<MessageId, ReceiptRefusal> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let mut params = form_urlencoded::parse(query.as_bytes());
    let id = params.find(|(name, _)| name == MESSAGE).map(|(_, id)| id);
    let id = id.and_then(|id| id.parse().ok());
    id.ok_or_else(|| malformed("the query names no message"))
}

/// What a status means. A word that is not known says nothing yet.
fn word(status: &str) -> ReceiptWord {
    match status.to_ascii_lowercase().as_str() {
        "delivered" | "read" => ReceiptWord::Delivered,
        "undelivered" | "failed" | "canceled" => ReceiptWord::Undelivered,
        _ => ReceiptWord::Passing,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::domain::{
        ids::BatchId,
        time::UnixMs,
        twilio_signature::{self, Content},
    };

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    const FORM: &str = "application/x-www-form-urlencoded; charset=UTF-8";

    fn id() -> MessageId {
        MessageId { batch: BatchId::new(UnixMs(1_790_000_000_000), 99 << 30, 0), index: 7 }
    }

    fn url() -> String {
        format!("https://sms.example.com/v1/receipts/main?message={}", id())
    }

    fn read_call(
        url: &str,
        content_type: &str,
        body: &str,
        signature: Option<&str>,
    ) -> Result<Receipt, ReceiptRefusal> {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", content_type.parse().unwrap());
        if let Some(signature) = signature {
            headers.insert(twilio_signature::HEADER, signature.parse().unwrap());
        }
        let call = ReceiptCall { url, headers: &headers, body: body.as_bytes(), now: UnixMs(1) };
        let mut receipts = read(&SecretString::from(TOKEN), &call)?;
        assert_eq!(receipts.len(), 1);
        Ok(receipts.remove(0))
    }

    /// A form, signed as Twilio signs it.
    fn read_form(url: &str, body: &str) -> Result<Receipt, ReceiptRefusal> {
        let params = twilio_signature::params(body.as_bytes());
        let signature = twilio_signature::sign(TOKEN, url, Content::Form(&params));
        read_call(url, FORM, body, Some(&signature))
    }

    fn read_status(status: &str, more: &str) -> (ReceiptWord, Option<String>, Option<String>) {
        let body = format!("MessageSid=SM1&To=%2B15551230001&MessageStatus={status}{more}");
        let Receipt { message, word, at, error } = read_form(&url(), &body).unwrap();
        assert_eq!((message, at), (id(), None));
        let provider_code = error.as_ref().and_then(|error| error.provider_code.clone());
        (word, error.map(|error| error.code.into_owned()), provider_code)
    }

    #[test]
    fn a_status_is_passing_delivered_or_undelivered() {
        for status in ["accepted", "scheduled", "queued", "sending", "sent", "receiving", "novel"] {
            assert_eq!(read_status(status, ""), (ReceiptWord::Passing, None, None), "{status}");
        }
        for status in ["delivered", "read", "DELIVERED"] {
            assert_eq!(read_status(status, ""), (ReceiptWord::Delivered, None, None), "{status}");
        }
        let undelivered = |word: &str, code: Option<&str>| {
            (ReceiptWord::Undelivered, Some(word.to_owned()), code.map(str::to_owned))
        };
        let code = "&ErrorCode=30005";
        assert_eq!(read_status("undelivered", code), undelivered("unknown_number", Some("30005")));
        assert_eq!(read_status("failed", code), undelivered("unknown_number", Some("30005")));
        let code = "&ErrorCode=12345";
        assert_eq!(read_status("failed", code), undelivered("undelivered", Some("12345")));
        assert_eq!(read_status("failed", ""), undelivered("undelivered", None));
        assert_eq!(read_status("canceled", ""), undelivered("provider_canceled", None));
    }

    #[test]
    fn an_older_name_of_the_status_is_understood() {
        let receipt = read_form(&url(), "SmsSid=SM1&SmsStatus=delivered").unwrap();
        assert_eq!(receipt.word, ReceiptWord::Delivered);
    }

    #[test]
    fn json_is_taken_with_its_hash_in_the_query() {
        let body = r#"{"MessageStatus": "failed", "ErrorCode": 30007}"#;
        let hash = twilio_signature::body_hash(body.as_bytes());
        let url = format!("{}&bodySHA256={hash}", url());
        let sign = |url: &str| twilio_signature::sign(TOKEN, url, Content::Body(b""));
        let read = |url: &str, body| read_call(url, "application/json", body, Some(&sign(url)));
        let receipt = read(&url, body).unwrap();
        let error = receipt.error.unwrap();
        assert_eq!((receipt.message, receipt.word), (id(), ReceiptWord::Undelivered));
        assert_eq!((&*error.code, error.provider_code.as_deref()), ("filtered", Some("30007")));
        assert_eq!(read(&url, "{}"), Err(ReceiptRefusal::Forged));
        assert_eq!(read(&self::url(), body), Err(ReceiptRefusal::Forged));
    }

    #[test]
    fn what_is_not_signed_for_this_url_and_body_is_forged() {
        let body = "MessageStatus=delivered";
        let params = twilio_signature::params(body.as_bytes());
        let signature = twilio_signature::sign(TOKEN, &url(), Content::Form(&params));
        let forged = Err(ReceiptRefusal::Forged);
        let read = |url: &str, kind: &str, body: &str, signature: Option<&str>| {
            read_call(url, kind, body, signature).map(|receipt| receipt.message)
        };
        assert_eq!(read(&url(), FORM, body, Some(&signature)), Ok(id()));
        assert_eq!(read(&url(), FORM, body, None), forged);
        assert_eq!(read(&url(), FORM, body, Some("")), forged);
        assert_eq!(read(&url(), FORM, "MessageStatus=failed", Some(&signature)), forged);
        assert_eq!(read(&url().replace(".7", ".8"), FORM, body, Some(&signature)), forged);
        assert_eq!(read(&url(), "text/plain", body, Some(&signature)), forged);
    }

    #[test]
    fn what_is_twilios_and_can_not_be_read_says_why() {
        let malformed = |url: &str, body: &str| match read_form(url, body) {
            Err(ReceiptRefusal::Malformed(why)) => why,
            other => panic!("{other:?}"),
        };
        assert!(malformed(&url(), "MessageSid=SM1").contains("MessageStatus"));
        for url in [
            "https://sms.example.com/v1/receipts/main",
            "https://sms.example.com/v1/receipts/main?message=bat_1",
            "https://sms.example.com/v1/receipts/main?m=1",
        ] {
            assert!(malformed(url, "MessageStatus=sent").contains("message"), "{url}");
        }
    }
}
