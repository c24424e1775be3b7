//! A batch as a form: the part `settings` is the batch without its recipients, the part `list` (or
//! `file`) is the table of them.
//!
//! The settings come first, so that the table can be read as it arrives. Of both the bytes count and
//! not how they were put into a form: a repeat under an idempotency key may have another boundary, or
//! bring its settings in the query.

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use http_body::Frame;
use http_body_util::StreamBody;

use crate::api::{
    json::{Faults, Pointer},
    multipart::{Multipart, Part, refused},
    problem::{Problem, Refused},
    submission::LINE_BYTES_MAX,
};

const SETTINGS: &str = "settings";

/// What the table may be called.
const TABLE: [&str; 2] = ["list", "file"];

/// What forms call a part whose type they don't know, or don't say.
const VAGUE: [&str; 3] = ["", "text/plain", "application/octet-stream"];

/// The longest settings, in bytes: as those in the first of many lines.
const SETTINGS_BYTES_MAX: usize = LINE_BYTES_MAX;

/// Reads a form up to its table; gives the settings, and the table as a body that is yet to come. That
/// one ends well only if the form does, with nothing behind the table.
///
/// # Errors
/// [`Problem`] that names the part which is wrong or missing.
pub(super) async fn read(body: Body, boundary: &str) -> Result<(Bytes, Body), Problem> {
    let mut form = Multipart::new(body, boundary);
    match form.next_part().await? {
        Some(part) if part.name == SETTINGS => check_type(&part, "application/json")?,
        Some(part) if is_table(&part) => {
            let detail = "this part is the batch without its recipients, and has to come first";
            return Err(wrong(SETTINGS, "missing", detail));
        }
        part => return Err(unwanted(part, SETTINGS)),
    }
    let settings = settings(&mut form).await?;
    match form.next_part().await? {
        Some(part) if is_table(&part) => check_type(&part, "text/csv")?,
        part => return Err(unwanted(part, TABLE[0])),
    }
    Ok((settings, table(form)))
}

async fn settings(form: &mut Multipart) -> Result<Bytes, Problem> {
    let mut settings = Vec::new();
    while let Some(piece) = form.piece().await? {
        if settings.len() + piece.len() > SETTINGS_BYTES_MAX {
            let detail = format!("is longer than {SETTINGS_BYTES_MAX} bytes");
            return Err(refused(
                StatusCode::PAYLOAD_TOO_LARGE,
                "part_too_large",
                SETTINGS,
                &detail,
            ));
        }
        settings.extend_from_slice(&piece);
    }
    Ok(settings.into())
}

/// The part in hand as a body, which fails if anything but the form's end follows.
fn table(form: Multipart) -> Body {
    let pieces = stream::try_unfold(form, async |mut form| {
        if let Some(piece) = form.piece().await? {
            return Ok(Some((Frame::data(piece), form)));
        }
        match form.next_part().await? {
            None => Ok(None),
            part => Err(Refused(unwanted(part, ""))),
        }
    });
    Body::new(StreamBody::new(Box::pin(pieces)))
}

fn is_table(part: &Part) -> bool {
    TABLE.contains(&part.name.as_str())
}

fn check_type(part: &Part, wanted: &str) -> Result<(), Problem> {
    let given = part.media_type.as_str();
    if given == wanted || VAGUE.contains(&given) {
        return Ok(());
    }
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    let detail = format!("is {wanted}, and has another Content-Type");
    Err(refused(status, "unsupported_media_type", &part.name, &detail))
}

/// The problem of a part that stands where another one is wanted, or none.
fn unwanted(part: Option<Part>, wanted: &str) -> Problem {
    let Some(part) = part else {
        return wrong(
            wanted,
            "missing",
            "a form has the parts `settings` and `list`, in this order",
        );
    };
    if part.name == SETTINGS || is_table(&part) {
        return wrong(&part.name, "duplicate_field", "this part is there already");
    }
    wrong(&part.name, "unknown_field", "a form has the parts `settings` and `list`, and no others")
}

fn wrong(part: &str, code: &'static str, detail: &str) -> Problem {
    let mut faults = Faults::default();
    faults.add(&Pointer::Key(&Pointer::Root, part), code, detail);
    Problem::invalid_request(faults.into_errors(), &[])
}
