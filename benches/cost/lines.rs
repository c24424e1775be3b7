//! Batches as lines, made while they are sent.

use std::{convert::Infallible, ops::Range};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};

use crate::harness::Client;

/// How many recipients are sent in one piece.
pub(crate) const PIECE: usize = 1_000;

/// How a batch of lines says what it is.
pub(crate) const FORM: (&str, &str) = ("content-type", "application/x-ndjson");

/// Streams a batch of lines; gives its id.
pub(crate) async fn post(client: &Client, head: &str, messages: usize) -> String {
    let body = stream::iter([first(head)]).chain(pieces(0..messages)).map(Ok::<_, Infallible>);
    let accepted = client.post("/v1/batches", &[FORM], reqwest::Body::wrap_stream(body)).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    accepted.batch_id()
}

/// The first line.
pub(crate) fn first(head: &str) -> Bytes {
    format!("{head}\n").into()
}

/// The lines of recipients.
pub(crate) fn pieces(recipients: Range<usize>) -> impl Stream<Item = Bytes> {
    let Range { start, end } = recipients;
    stream::iter((start..end).step_by(PIECE).map(move |from| {
        let numbers = from..(from + PIECE).min(end);
        let lines = numbers.map(|index| format!("\"+1555{index:08}\"\n"));
        lines.collect::<Vec<_>>().concat().into()
    }))
}
