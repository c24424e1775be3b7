//! Receipts that an HTTP provider reports: a signed JSON array.

use jiff::Timestamp;
use serde::Deserialize;

use crate::{
    domain::{
        ids::MessageId,
        outcome::SendError,
        receipt::{Receipt, ReceiptWord},
        signature::SigningSecret,
        time::UnixMs,
    },
    providers::{ReceiptCall, ReceiptRefusal, signed},
};

/// The longest word for an error, in bytes.
const CODE_BYTES_MAX: usize = 64;

/// One receipt as it is reported.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reported<'a> {
    message_id: &'a str,
    state: Word,
    /// RFC 3339.
    #[serde(default)]
    at: Option<String>,
    #[serde(default)]
    error: Option<Error>,
}

/// A state that a provider may report.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Queued,
    Sending,
    Sent,
    Delivered,
    Undelivered,
    Failed,
}

/// Why a message was not delivered: a word, or a word with more.
#[derive(Deserialize)]
#[serde(untagged)]
enum Error {
    Word(String),
    Whole {
        code: String,
        #[serde(default)]
        detail: String,
        #[serde(default)]
        provider_code: Option<String>,
    },
}

/// The receipts of a request, once its signature is known to hold.
pub(super) fn read(
    secret: &SigningSecret,
    call: &ReceiptCall<'_>,
) -> Result<Vec<Receipt>, ReceiptRefusal> {
    signed::verify(secret, call)?;
    let reported: Vec<Reported<'_>> = serde_json::from_slice(call.body).map_err(|error| {
        ReceiptRefusal::Malformed(format!("the body is no array of receipts: {error}"))
    })?;
    reported.into_iter().enumerate().map(|(place, reported)| reported.read(place)).collect()
}

// === impl Reported ===

impl Reported<'_> {
    fn read(self, place: usize) -> Result<Receipt, ReceiptRefusal> {
        let malformed = |what| ReceiptRefusal::Malformed(format!("/{place}/{what}"));
        let message: MessageId = self
            .message_id
            .parse()
            .map_err(|_| malformed("message_id: not the id of a message"))?;
        let at = self.at.map(|at| at.parse::<Timestamp>().map(UnixMs::from));
        let at = at.transpose().map_err(|_| malformed("at: not an instant of RFC 3339"))?;
        let word = match self.state {
            Word::Queued | Word::Sending | Word::Sent => ReceiptWord::Passing,
            Word::Delivered => ReceiptWord::Delivered,
            Word::Undelivered | Word::Failed => ReceiptWord::Undelivered,
        };
        let error = self.error.filter(|_| word == ReceiptWord::Undelivered).map(Error::read);
        Ok(Receipt { message, word, at, error })
    }
}

// === impl Error ===

impl Error {
    fn read(self) -> SendError {
        let (code, detail, provider_code) = match self {
            Self::Word(code) => (code, String::new(), None),
            Self::Whole { code, detail, provider_code } => (code, detail, provider_code),
        };
        let end = code.floor_char_boundary(CODE_BYTES_MAX);
        let code = code[..end].to_owned().into();
        SendError { code, detail, provider_code, permanent: true }
    }
}
