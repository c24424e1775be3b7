//! What the store keeps of each try: packed records, appended to a chunk's log.
//!
//! The log is written by the settler and read when someone asks for a message. A chunk's state
//! bytes say which state holds; a record adds how it came about. The last record of a message
//! counts. Instants are stored relative to the batch's creation, which keeps them short.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{
    message::{Ended, Open},
    outcome::SendError,
    time::UnixMs,
};

/// One entry of a chunk's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record<'a> {
    /// The message's place in its chunk.
    pub place: u16,
    /// Tries used up by then.
    pub attempts: u8,
    /// When, in milliseconds after the batch was created.
    pub after_ms: u64,
    /// What it left through, and is called there.
    #[serde(borrow)]
    pub left: Left<'a>,
    /// Why it was not accepted.
    #[serde(borrow)]
    pub error: Option<ErrorRecord<'a>>,
}

/// The provider that a try left through, and its own name for the message. The provider of the batch, which
/// nearly all leave through, costs no byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Left<'a> {
    /// The batch's provider, which gave no name, or no try was made.
    Nameless,
    /// The batch's provider, which gave this name.
    Named(&'a str),
    /// The provider of this name, standing in for it; and the message's, if it gave one.
    Through(&'a str, Option<&'a str>),
}

/// A [`SendError`] as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorRecord<'a> {
    /// See [`SendError::code`].
    pub code: &'a str,
    /// See [`SendError::detail`]; cut to [`DETAIL_BYTES_MAX`].
    pub detail: &'a str,
    /// See [`SendError::provider_code`].
    pub provider_code: Option<&'a str>,
    /// See [`SendError::permanent`].
    pub permanent: bool,
}

/// The longest detail, provider code and provider message id that are stored, in bytes.
pub const DETAIL_BYTES_MAX: usize = 256;

/// Appends the record of a final message to `log`. `through` is the provider that its last try left
/// through, if that is not the batch's.
pub fn write_ended(
    log: &mut Vec<u8>,
    place: u16,
    ended: &Ended,
    through: Option<&str>,
    after_ms: u64,
) {
    Record {
        place,
        attempts: ended.attempts,
        after_ms,
        left: Left::new(through, ended.provider_message_id.as_deref().map(cut)),
        error: ended.error.as_ref().map(ErrorRecord::from),
    }
    .write(log);
}

/// Appends the record of a message that waits for another try to `log`. `through` as for [`write_ended`].
pub fn write_waiting(
    log: &mut Vec<u8>,
    place: u16,
    open: &Open,
    error: &SendError,
    through: Option<&str>,
    after_ms: u64,
) {
    Record {
        place,
        attempts: open.attempts,
        after_ms,
        left: Left::new(through, None),
        error: Some(error.into()),
    }
    .write(log);
}

/// The records of `log` in the order written. Reading ends at the first one that can't be read.
pub fn read(mut log: &[u8]) -> impl Iterator<Item = Record<'_>> {
    std::iter::from_fn(move || {
        let (record, rest) = postcard::take_from_bytes(log).ok()?;
        log = rest;
        Some(record)
    })
}

/// The waiting message's state as the store keeps it beside the chunk. The first byte is 1 if the
/// message may have been accepted, else 0: a store that closes the message looks at it.
#[must_use]
pub fn write_open(open: &Open) -> Vec<u8> {
    postcard::to_allocvec(open).unwrap_or_default()
}

/// Reads what [`write_open`] wrote; a message never tried if it can't be read.
#[must_use]
pub fn read_open(bytes: &[u8]) -> Open {
    postcard::from_bytes(bytes).unwrap_or_default()
}

/// The instant a record speaks of, for a batch created at `created_at`.
#[must_use]
pub fn at(created_at: UnixMs, after_ms: u64) -> UnixMs {
    UnixMs(created_at.0.saturating_add(after_ms))
}

// === impl Record ===

impl Record<'_> {
    fn write(&self, log: &mut Vec<u8>) {
        // Writing to a vector can't fail, and every field is one postcard knows.
        let _ = postcard::to_io(self, log);
    }
}

// === impl Left ===

impl<'a> Left<'a> {
    fn new(through: Option<&'a str>, name: Option<&'a str>) -> Self {
        match (through, name) {
            (Some(provider), name) => Self::Through(provider, name),
            (None, Some(name)) => Self::Named(name),
            (None, None) => Self::Nameless,
        }
    }

    /// The provider, if it is not the batch's.
    #[must_use]
    pub fn provider(self) -> Option<&'a str> {
        match self {
            Self::Through(provider, _) => Some(provider),
            Self::Nameless | Self::Named(_) => None,
        }
    }

    /// The provider's own name for the message.
    #[must_use]
    pub fn provider_message_id(self) -> Option<&'a str> {
        match self {
            Self::Named(name) => Some(name),
            Self::Through(_, name) => name,
            Self::Nameless => None,
        }
    }
}

// === impl ErrorRecord ===

impl<'a> From<&'a SendError> for ErrorRecord<'a> {
    fn from(error: &'a SendError) -> Self {
        Self {
            code: &error.code,
            detail: cut(&error.detail),
            provider_code: error.provider_code.as_deref().map(cut),
            permanent: error.permanent,
        }
    }
}

impl From<ErrorRecord<'_>> for SendError {
    fn from(record: ErrorRecord<'_>) -> Self {
        Self {
            code: Cow::Owned(record.code.to_owned()),
            detail: record.detail.to_owned(),
            provider_code: record.provider_code.map(str::to_owned),
            permanent: record.permanent,
        }
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(DETAIL_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{message::FinalState, through::Through};

    fn sent(id: &str) -> Ended {
        Ended {
            state: FinalState::Sent,
            attempts: 1,
            provider_message_id: Some(id.to_owned()),
            error: None,
            receipt_follows: false,
        }
    }

    #[test]
    fn records_read_back_in_order() {
        let mut log = Vec::new();
        let error =
            SendError::passing("provider_unavailable", "answered 503").with_provider_code("x");
        let open = Open { attempts: 2, ..Open::default() };
        write_waiting(&mut log, 3, &open, &error, None, 12);
        write_ended(&mut log, 499, &sent("SM1"), None, 90_000);
        let records: Vec<_> = read(&log).collect();
        assert_eq!(records.len(), 2);
        assert_eq!(SendError::from(records[0].error.clone().unwrap()), error);
        assert_eq!((records[1].place, records[1].left), (499, Left::Named("SM1")));
    }

    #[test]
    fn who_stood_in_is_kept_and_the_own_provider_costs_nothing() {
        let written = |through, id: Option<&str>| {
            let mut log = Vec::new();
            let provider_message_id = id.map(str::to_owned);
            let ended = Ended { provider_message_id, ..sent("") };
            write_ended(&mut log, 7, &ended, through, 5);
            log
        };
        for (through, id) in [
            (None, None),
            (None, Some("SM1")),
            (Some("second"), None),
            (Some("second"), Some("SM1")),
        ] {
            let log = written(through, id);
            let left = read(&log).next().unwrap().left;
            assert_eq!((left.provider(), left.provider_message_id()), (through, id));
        }
        // Place, attempts, instant; the tag of `left`; the tag of `error`.
        assert_eq!(written(None, None), [7, 1, 5, 0, 0]);
        assert_eq!(written(None, Some("S")), [7, 1, 5, 1, 1, b'S', 0]);
        assert_eq!(written(Some("second"), None).len(), 5 + 1 + "second".len() + 1);
    }

    #[test]
    fn a_sent_message_with_a_long_id_costs_at_most_44_bytes() {
        let mut log = Vec::new();
        write_ended(&mut log, 499, &sent(&"S".repeat(34)), None, 3_600_000);
        assert!(log.len() <= 44, "{}", log.len());
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let mut log = Vec::new();
        write_ended(&mut log, 0, &sent(&"é".repeat(200)), None, 0);
        let id = read(&log).next().unwrap().left.provider_message_id().unwrap().to_owned();
        assert_eq!(id, "é".repeat(128));
    }

    #[test]
    fn a_torn_log_is_read_as_far_as_it_goes() {
        let mut log = Vec::new();
        write_ended(&mut log, 0, &sent("SM1"), None, 5);
        let whole = log.len();
        write_ended(&mut log, 1, &sent("SM2"), None, 5);
        assert_eq!(read(&log[..whole + 3]).count(), 1);
    }

    #[test]
    fn an_open_message_reads_back() {
        let open = Open {
            attempts: 3,
            first_try_at: UnixMs(7),
            maybe_accepted: true,
            due_at: UnixMs(9),
            through: Through::of("second"),
        };
        assert_eq!(read_open(&write_open(&open)), open);
        assert_eq!(write_open(&open)[0], 1);
        assert_eq!(write_open(&Open { maybe_accepted: false, ..open })[0], 0);
    }
}
