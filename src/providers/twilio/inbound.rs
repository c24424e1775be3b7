//! What Twilio reports that recipients answer: a request to the "a message comes in" URL of a number or
//! messaging service.

use secrecy::SecretString;

use super::report::{Report, malformed};
use crate::{
    domain::{
        inbound::{Inbound, Keyword},
        recipient::Recipient,
    },
    providers::{ReceiptCall, ReceiptRefusal},
};

/// Reads an answer, which must be signed with `token`.
pub(super) fn read(
    token: &SecretString,
    call: &ReceiptCall<'_>,
) -> Result<Inbound, ReceiptRefusal> {
    let report = Report::read(token, call)?;
    let from = report.field("From").and_then(|from| Recipient::parse(from).ok());
    let from = from.ok_or_else(|| malformed("From is no number"))?;
    Ok(Inbound {
        from: from.into(),
        to: report.field("To").unwrap_or_default().to_owned(),
        keyword: Keyword::read_with(
            report.field("OptOutType"),
            report.field("Body").unwrap_or_default(),
        ),
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::domain::{
        time::UnixMs,
        twilio_signature::{self, Content},
    };

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    const URL: &str = "https://sms.example.com/v1/inbound/main";

    /// Reads a form that is signed with `token`.
    fn read_form(token: &str, body: &str) -> Result<Inbound, ReceiptRefusal> {
        let params = twilio_signature::params(body.as_bytes());
        let signature = twilio_signature::sign(token, URL, Content::Form(&params));
        let mut headers = HeaderMap::new();
        headers.insert(twilio_signature::HEADER, signature.parse().unwrap());
        let form = "application/x-www-form-urlencoded".parse().unwrap();
        headers.insert(http::header::CONTENT_TYPE, form);
        let call =
            ReceiptCall { url: URL, headers: &headers, body: body.as_bytes(), now: UnixMs(0) };
        read(&SecretString::from(TOKEN), &call)
    }

    #[test]
    fn an_answer_is_read_if_twilio_signed_it() {
        let body = "From=%2B15551230001&To=%2B15550001111&Body=+Stop%0A";
        let inbound = read_form(TOKEN, body).unwrap();
        assert_eq!(inbound.from, "+15551230001".parse().unwrap());
        assert_eq!((inbound.to.as_str(), inbound.keyword), ("+15550001111", Some(Keyword::OptOut)));
        assert_eq!(read_form("another", body), Err(ReceiptRefusal::Forged));
        let arret = "From=%2B15551230001&To=%2B15550001111&Body=arret&OptOutType=STOP";
        assert_eq!(read_form(TOKEN, arret).unwrap().keyword, Some(Keyword::OptOut));
        let nobody = read_form(TOKEN, "From=anonymous&Body=Stop");
        assert!(matches!(nobody, Err(ReceiptRefusal::Malformed(_))), "{nobody:?}");
    }
}
