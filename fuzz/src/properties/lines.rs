//! `POST /v1/batches` as lines.

use ringback::api::fuzzing::{document, lines};

use super::batch::check_refused;

/// Where the pieces of a body end makes no difference, and lines that are accepted are the batch that
/// their document is.
pub(crate) fn check(body: &[u8]) {
    let whole = lines(body, usize::MAX);
    for cut in [1, 2, 7, 64] {
        assert_eq!(lines(body, cut), whole, "in pieces of {cut}");
    }
    match whole {
        Ok(batch) => assert_eq!(document(&joined(body)), Ok(batch), "as a document"),
        Err(refused) => check_refused(&refused),
    }
}

/// The document of the same batch.
fn joined(body: &[u8]) -> Vec<u8> {
    let mut all = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    // It was accepted, so its first line is an object, and not an empty one: it has a text.
    let head = all.next().unwrap_or_default().trim_ascii_end();
    let mut document = head[..head.len() - 1].to_vec();
    document.extend_from_slice(b",\"recipients\":[");
    document.extend(all.collect::<Vec<_>>().join(&b","[..]));
    document.extend_from_slice(b"]}");
    document
}
