//! All messages of a batch in one answer, read from the store page by page as the client takes them.
//!
//! An answer that can't be finished is broken off, never ended: what ended well is whole.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use http::{
    HeaderMap,
    header::{ACCEPT, CONTENT_TYPE},
};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    AppState, body,
    model::{BatchResource, MessageResource},
    problem::Problem,
};
use crate::{
    domain::{encoding::Encoding, message::MessageState},
    store::StoreError,
};

/// How many answers are streamed at once; further ones wait.
pub(super) const STREAMS_MAX: usize = 64;

/// Messages that are read at once.
const PAGE: usize = 1_000;

/// The columns of the CSV form.
const COLUMNS: [&str; 15] = [
    "id",
    "index",
    "to",
    "reference",
    "state",
    "segments",
    "attempts",
    "provider",
    "provider_message_id",
    "error_code",
    "error_detail",
    "error_provider_code",
    "error_permanent",
    "updated_at",
    "encoding",
];

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A JSON object a line.
    Ndjson,
    /// As RFC 4180 says, with a header line.
    Csv,
}

/// An answer under way.
struct Results {
    app: AppState,
    batch: BatchResource,
    state: Option<MessageState>,
    form: Form,
    /// Where to read on; `None` at the end.
    from: Option<u32>,
    /// Messages written so far.
    written: u64,
    /// How long the last page was, in bytes: the next one will be about as long.
    page_bytes: usize,
    _place: OwnedSemaphorePermit,
}

/// A record of CSV that is being written.
struct Record<'a> {
    core: csv_core::Writer,
    text: &'a mut Vec<u8>,
    is_begun: bool,
}

/// Answers with all messages of `batch` that are in `state`.
pub(super) async fn answer(
    app: AppState,
    batch: BatchResource,
    state: Option<MessageState>,
    form: Form,
) -> Result<Response, Problem> {
    let place = body::a_place(&app.streams, app.api.server.body_timeout).await?;
    let mut results = Results {
        app,
        batch,
        state,
        form,
        from: Some(0),
        written: 0,
        page_bytes: 0,
        _place: place,
    };
    // A store that is away is told of by a status, not by an answer that breaks off.
    let first = results.page().await?.unwrap_or_default();
    let pages = stream::try_unfold((Some(first), results), |(first, mut results)| async move {
        let page = match first {
            Some(first) => Some(first),
            None => results.page().await.inspect_err(|error| {
                tracing::warn!(batch.id = %results.batch.id, %error, "a stream of messages is broken off");
            })?,
        };
        Ok::<_, StoreError>(page.map(|page| (page, (None, results))))
    });
    Ok(([(CONTENT_TYPE, form.media_type())], Body::from_stream(pages)).into_response())
}

// === impl Form ===

impl Form {
    /// The form that a request asks for; `None` for pages. Of several, the first that is known is
    /// taken.
    pub(super) fn wanted(headers: &HeaderMap) -> Option<Self> {
        let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let kinds = accepted.flat_map(|value| value.split(','));
        kinds
            .map(|kind| kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase())
            .find_map(|kind| match &*kind {
                "application/x-ndjson" => Some(Some(Self::Ndjson)),
                "text/csv" => Some(Some(Self::Csv)),
                "application/json" | "application/*" | "*/*" => Some(None),
                _ => None,
            })
            .flatten()
    }

    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
        }
    }

    fn write(self, message: &MessageResource, text: &mut Vec<u8>) {
        match self {
            Self::Ndjson => {
                // Strings and numbers only, written to memory: nothing here can fail.
                let _ = serde_json::to_writer(&mut *text, message);
                text.push(b'\n');
            }
            Self::Csv => write_record(message, text),
        }
    }
}

// === impl Results ===

impl Results {
    /// The next piece of the answer; `None` at its end.
    async fn page(&mut self) -> Result<Option<Bytes>, StoreError> {
        let Some(from) = self.from else {
            let is_whole = self.state.is_some() || self.written >= self.batch.counts.total;
            let gone = || StoreError::Unexpected("the batch was erased meanwhile".to_owned());
            return if is_whole { Ok(None) } else { Err(gone()) };
        };
        let reading = &self.app.api.store.reading;
        let (views, next) = reading.messages(self.batch.id, self.state, from, PAGE).await?;
        let mut text = Vec::with_capacity(self.page_bytes + self.page_bytes / 8);
        if from == 0 && self.form == Form::Csv {
            let mut header = Record::new(&mut text);
            for column in COLUMNS {
                header.field(column);
            }
            header.end();
        }
        self.from = next;
        self.written += views.len() as u64;
        for view in views {
            let message = MessageResource::new(self.batch.id, &self.batch.provider, view);
            self.form.write(&message, &mut text);
        }
        self.page_bytes = text.len();
        Ok(Some(text.into()))
    }
}

fn write_record(message: &MessageResource, text: &mut Vec<u8>) {
    let error = message.error.as_ref();
    let number = |number: u32| number.to_string();
    let mut record = Record::new(text);
    record.field(&message.id);
    record.field(&number(message.index));
    record.field(&message.to);
    record.field(message.reference.as_deref().unwrap_or_default());
    record.field(message.state.word());
    record.field(&message.segments.map(number).unwrap_or_default());
    record.field(&number(message.attempts.into()));
    record.field(&message.provider);
    record.field(message.provider_message_id.as_deref().unwrap_or_default());
    record.field(error.map_or("", |error| &error.code));
    record.field(error.map_or("", |error| &error.detail));
    record.field(error.and_then(|error| error.provider_code.as_deref()).unwrap_or_default());
    record.field(error.map_or("", |error| if error.permanent { "true" } else { "false" }));
    record.field(&message.updated_at);
    record.field(message.encoding.map(Encoding::word).unwrap_or_default());
    record.end();
}

// === impl Record ===

impl<'a> Record<'a> {
    fn new(text: &'a mut Vec<u8>) -> Self {
        let core = csv_core::WriterBuilder::new().terminator(csv_core::Terminator::CRLF).build();
        Self { core, text, is_begun: false }
    }

    fn field(&mut self, field: &str) {
        if self.is_begun {
            self.write(2, |core, room| core.delimiter(room).1);
        }
        self.is_begun = true;
        // Each of its bytes may be doubled, and a quote be put before it.
        self.write(2 * field.len() + 1, |core, room| core.field(field.as_bytes(), room).2);
    }

    fn end(mut self) {
        self.write(3, |core, room| core.terminator(room).1);
    }

    /// Writes at most `room` bytes.
    fn write(
        &mut self,
        room: usize,
        write: impl FnOnce(&mut csv_core::Writer, &mut [u8]) -> usize,
    ) {
        let begin = self.text.len();
        self.text.resize(begin + room, 0);
        let written = write(&mut self.core, self.text.get_mut(begin..).unwrap_or_default());
        self.text.truncate(begin + written);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::model::MessageError;

    fn wanted(accept: &str) -> Option<Form> {
        Form::wanted(&HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]))
    }

    #[test]
    fn the_first_known_form_is_taken() {
        assert_eq!(Form::wanted(&HeaderMap::new()), None);
        for pages in ["application/json", "*/*", "text/html", "application/json, text/csv", ""] {
            assert_eq!(wanted(pages), None, "{pages}");
        }
        assert_eq!(wanted("text/html, Application/X-NDJSON;q=0.9, */*"), Some(Form::Ndjson));
        assert_eq!(wanted("text/csv"), Some(Form::Csv));
    }

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        let error = MessageError {
            code: "rejected".into(),
            detail: "says \"no\",\r\nand more".into(),
            provider_code: Some("\"".repeat(9)),
            permanent: true,
        };
        let message = MessageResource {
            id: "bat_1.7".into(),
            index: 7,
            to: "+15551230001".into(),
            reference: Some("Äpfel, \"rot\"".into()),
            state: MessageState::Failed,
            segments: Some(2),
            encoding: Some(Encoding::Ucs2),
            attempts: 2,
            provider: "carrier".into(),
            provider_message_id: None,
            error: Some(error.clone()),
            updated_at: "2026-12-01T09:00:00.000Z".into(),
            late_receipt: None,
        };
        let mut text = Vec::new();
        write_record(&message, &mut text);
        assert!(text.ends_with(b"\r\n"));
        let (mut fields, mut ends) = (vec![0; 1_000], vec![0; 20]);
        let (_, _, _, count) = csv_core::Reader::new().read_record(&text, &mut fields, &mut ends);
        assert_eq!(count, COLUMNS.len());
        let begins = std::iter::once(0).chain(ends.iter().copied());
        let read: Vec<&str> = begins
            .zip(&ends[..count])
            .map(|(begin, end)| std::str::from_utf8(&fields[begin..*end]).unwrap())
            .collect();
        assert_eq!(read[..5], ["bat_1.7", "7", "+15551230001", "Äpfel, \"rot\"", "failed"]);
        assert_eq!(read[5..9], ["2", "2", "carrier", ""]);
        assert_eq!(
            read[9..],
            ["rejected", &error.detail, &"\"".repeat(9), "true", &message.updated_at, "ucs2"]
        );
    }
}
