//! What a request for a batch says before its body: in which form the body comes, and under which
//! key.

use http::{HeaderMap, HeaderName, StatusCode};

use crate::api::{
    media::{content_type, media_type},
    multipart,
    packed::Packing,
    problem::Problem,
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The longest idempotency key, in bytes.
const KEY_BYTES_MAX: usize = 255;

/// The form of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One JSON document.
    Whole,
    /// The batch in the first line, and a recipient in each further one.
    Lines,
    /// Recipients as CSV; the batch is in the query.
    Table,
    /// The batch in one part, and recipients as CSV in the next, with this boundary between them.
    Parts(String),
}

/// What was read of a request's headers.
pub(super) struct Head {
    pub(super) form: Form,
    pub(super) packing: Packing,
    /// The client's idempotency key.
    pub(super) key: Option<String>,
}

// === impl Head ===

impl Head {
    /// # Errors
    /// [`Problem`] if the body would not be understood, or the key is none.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        let (form, packing) = (form(headers)?, Packing::read(headers)?);
        if matches!(form, Form::Parts(_)) && packing != Packing::Plain {
            let detail = "A form can't be packed; send a packed table, or packed lines.";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Problem::new(status, "unsupported_encoding", detail));
        }
        Ok(Self { form, packing, key: idempotency_key(headers)? })
    }
}

fn form(headers: &HeaderMap) -> Result<Form, Problem> {
    match media_type(headers).as_str() {
        "application/json" => Ok(Form::Whole),
        "application/x-ndjson" => Ok(Form::Lines),
        "text/csv" => Ok(Form::Table),
        "multipart/form-data" => multipart::boundary(content_type(headers)).map(Form::Parts),
        _ => {
            let detail = "Send the batch with Content-Type: application/json, \
                          application/x-ndjson with a recipient a line, text/csv with `settings` \
                          in the query, or multipart/form-data with `settings` and `list`.";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            Err(Problem::new(status, "unsupported_media_type", detail))
        }
    }
}

pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let is_well_formed = (1..=KEY_BYTES_MAX).contains(&key.len())
        && key.as_bytes().iter().all(u8::is_ascii_graphic)
        && keys.next().is_none();
    let key = key.to_str().ok().filter(|_| is_well_formed).map(str::to_owned);
    key.map(Some).ok_or_else(|| {
        let detail =
            format!("An Idempotency-Key is 1 to {KEY_BYTES_MAX} visible ASCII characters.");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_invalid", detail)
    })
}
