//! What an HTTP provider reports that recipients answer: a signed JSON object.

use serde::Deserialize;

use crate::{
    domain::{
        inbound::{Inbound, Keyword},
        recipient::Recipient,
        signature::SigningSecret,
    },
    providers::{ReceiptCall, ReceiptRefusal, signed},
};

/// An answer as it is reported.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answered {
    from: String,
    #[serde(default)]
    to: String,
    body: String,
}

/// The answer that a request reports, once its signature is known to hold.
pub(super) fn read(
    secret: &SigningSecret,
    call: &ReceiptCall<'_>,
) -> Result<Inbound, ReceiptRefusal> {
    signed::verify(secret, call)?;
    let answered: Answered = serde_json::from_slice(call.body)
        .map_err(|error| ReceiptRefusal::Malformed(format!("the body is no answer: {error}")))?;
    let from = Recipient::parse(&answered.from)
        .map_err(|error| ReceiptRefusal::Malformed(format!("/from: {error}")))?;
    let keyword = Keyword::read(&answered.body);
    Ok(Inbound { from: from.into(), to: answered.to, keyword })
}
