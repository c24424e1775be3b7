//! Chunks: how a batch's recipients are cut, packed and read back.
//!
//! A chunk is a run of consecutive messages, cut at intake by number or by size, whichever comes
//! first. From then on the store moves it as a whole. The packed form is a row of records without
//! an index: readers walk it.

use serde::{Deserialize, Serialize};

use super::{
    message::{Ended, FinalState},
    outcome::SendError,
    recipient::{InvalidNumber, Recipient},
    record,
};

/// The most messages a chunk can hold, so that a place fits two bytes with room to spare.
pub const CHUNK_MESSAGES_MAX: u16 = 10_000;

/// A chunk is cut when its packed recipients reach this size, in bytes.
pub const CHUNK_BYTES_MAX: usize = 256 * 1024;

/// One recipient as stored: borrowed from the packed chunk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<'a> {
    /// The number as the client gave it, E.164 or not.
    pub to: &'a str,
    /// The client's own name for the message.
    pub reference: Option<&'a str>,
    /// The recipient's own variables, name and value.
    #[serde(borrow)]
    pub variables: Vec<(&'a str, &'a str)>,
}

/// A chunk ready to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewChunk {
    /// Its number in the batch, from 0.
    pub number: u32,
    /// The batch-wide index of its first message.
    pub first: u32,
    /// One state byte a message: 0 for open, else a [`FinalState`].
    pub states: Vec<u8>,
    /// The packed recipients.
    pub recipients: Vec<u8>,
    /// The log of messages that are final already: the invalid ones.
    pub log: Vec<u8>,
}

/// Cuts recipients into chunks.
#[derive(Debug)]
pub struct Chunker {
    chunk_size: u16,
    current: NewChunk,
    /// Messages that failed, in all chunks.
    invalid: u32,
}

// === impl Entry ===

impl<'a> Entry<'a> {
    /// The recipient's own value of a variable.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&'a str> {
        self.variables.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }
}

// === impl NewChunk ===

impl NewChunk {
    /// How many messages it holds.
    #[must_use]
    pub fn messages(&self) -> u32 {
        // A chunk holds at most CHUNK_MESSAGES_MAX messages.
        u32::try_from(self.states.len()).unwrap_or(u32::MAX)
    }

    /// How many of its messages failed at intake.
    #[must_use]
    pub fn failed(&self) -> u32 {
        let failed = self.states.iter().filter(|state| **state == FinalState::Failed as u8);
        u32::try_from(failed.count()).unwrap_or(u32::MAX)
    }

    /// Ends an open message whose recipient has opted out; true if it was open.
    pub fn opt_out(&mut self, place: u16) -> bool {
        let Some(state @ 0) = self.states.get_mut(usize::from(place)) else { return false };
        *state = FinalState::Failed as u8;
        record::write_ended(&mut self.log, place, &unsent(SendError::opted_out()), None, 0);
        true
    }

    fn starting_at(number: u32, first: u32) -> Self {
        Self { number, first, states: Vec::new(), recipients: Vec::new(), log: Vec::new() }
    }
}

// === impl Chunker ===

impl Chunker {
    /// A chunker that cuts after `chunk_size` messages (1 to [`CHUNK_MESSAGES_MAX`]) or
    /// [`CHUNK_BYTES_MAX`].
    #[must_use]
    pub fn new(chunk_size: u16) -> Self {
        let chunk_size = chunk_size.clamp(1, CHUNK_MESSAGES_MAX);
        Self { chunk_size, current: NewChunk::starting_at(0, 0), invalid: 0 }
    }

    /// The index the next recipient gets.
    #[must_use]
    pub fn next_index(&self) -> u32 {
        self.current.first + self.current.messages()
    }

    /// How many recipients were added that are no E.164 numbers.
    #[must_use]
    pub fn invalid(&self) -> u32 {
        self.invalid
    }

    /// Adds a recipient, and gives the chunk that this one filled, if it did. A number that is
    /// not E.164 is added as a failed message.
    pub fn push(&mut self, entry: &Entry<'_>) -> Option<NewChunk> {
        let chunk = &mut self.current;
        match Recipient::parse(entry.to) {
            Ok(_) => chunk.states.push(0),
            Err(invalid) => {
                chunk.push_invalid(invalid);
                self.invalid += 1;
            }
        }
        // Writing to a vector can't fail, and every field is one postcard knows.
        let _ = postcard::to_io(entry, &mut chunk.recipients);
        let full = chunk.states.len() >= usize::from(self.chunk_size)
            || chunk.recipients.len() >= CHUNK_BYTES_MAX;
        full.then(|| self.cut())
    }

    /// The last chunk, if anything is left in it.
    #[must_use]
    pub fn finish(self) -> Option<NewChunk> {
        (!self.current.states.is_empty()).then_some(self.current)
    }

    fn cut(&mut self) -> NewChunk {
        let mut next = NewChunk::starting_at(self.current.number + 1, self.next_index());
        next.recipients.reserve(self.current.recipients.len());
        next.states.reserve(self.current.states.len());
        std::mem::replace(&mut self.current, next)
    }
}

impl NewChunk {
    fn push_invalid(&mut self, invalid: InvalidNumber) {
        let place = u16::try_from(self.states.len()).unwrap_or(u16::MAX);
        let ended = unsent(SendError::permanent("invalid_number", invalid.to_string()));
        record::write_ended(&mut self.log, place, &ended, None, 0);
        self.states.push(FinalState::Failed as u8);
    }
}

/// How a message ends that is not even stored as open.
fn unsent(error: SendError) -> Ended {
    let (state, attempts) = (FinalState::Failed, 0);
    Ended { state, attempts, provider_message_id: None, error: Some(error), receipt_follows: false }
}

/// Where each entry of packed `recipients` begins, in bytes, and where the last one ends. Reading
/// ends at the first entry that can't be read.
#[must_use]
pub fn offsets(recipients: &[u8], messages: usize) -> Vec<u32> {
    let mut offsets = Vec::with_capacity(messages + 1);
    let mut rest = recipients;
    loop {
        // A chunk's size is far below 4 GiB.
        offsets.push(u32::try_from(recipients.len() - rest.len()).unwrap_or(u32::MAX));
        match postcard::take_from_bytes::<Entry<'_>>(rest) {
            Ok((_, after)) => rest = after,
            Err(_) => return offsets,
        }
    }
}

/// The entries of packed `recipients`, one after the other, up to the first that can't be read.
pub fn entries(mut recipients: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    std::iter::from_fn(move || {
        let (entry, rest) = postcard::take_from_bytes(recipients).ok()?;
        recipients = rest;
        Some(entry)
    })
}

/// The entry that begins at `offset`; an empty one if none can be read there.
#[must_use]
pub fn entry_at(recipients: &[u8], offset: u32) -> Entry<'_> {
    usize::try_from(offset)
        .ok()
        .and_then(|offset| recipients.get(offset..))
        .and_then(|bytes| postcard::take_from_bytes(bytes).ok())
        .map_or_else(Entry::default, |(entry, _)| entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(number: &str) -> Entry<'_> {
        Entry { to: number, ..Entry::default() }
    }

    #[test]
    fn chunks_are_cut_by_number() {
        let mut chunker = Chunker::new(2);
        assert_eq!(chunker.push(&to("+15551230001")), None);
        let first = chunker.push(&to("+15551230002")).unwrap();
        assert_eq!((first.number, first.first, first.messages()), (0, 0, 2));
        assert_eq!(chunker.push(&to("+15551230003")), None);
        assert_eq!(chunker.next_index(), 3);
        let last = chunker.finish().unwrap();
        assert_eq!((last.number, last.first, last.messages()), (1, 2, 1));
    }

    #[test]
    fn chunks_are_cut_by_size() {
        let long = "x".repeat(CHUNK_BYTES_MAX / 2);
        let entry = Entry { to: "+15551230001", variables: vec![("v", &long)], ..Entry::default() };
        let mut chunker = Chunker::new(500);
        assert_eq!(chunker.push(&entry), None);
        assert_eq!(chunker.push(&entry).unwrap().messages(), 2);
    }

    #[test]
    fn an_invalid_number_is_a_failed_message() {
        let mut chunker = Chunker::new(10);
        chunker.push(&to("+15551230001"));
        chunker.push(&to("nobody"));
        let chunk = chunker.finish().unwrap();
        assert_eq!(chunk.states, [0, FinalState::Failed as u8]);
        assert_eq!(chunk.failed(), 1);
        let record = record::read(&chunk.log).next().unwrap();
        assert_eq!((record.place, record.error.unwrap().code), (1, "invalid_number"));
    }

    #[test]
    fn who_has_opted_out_has_failed_before_the_chunk_is_stored() {
        let mut chunker = Chunker::new(10);
        for number in ["+15551230001", "nobody", "+15551230002"] {
            chunker.push(&to(number));
        }
        let mut chunk = chunker.finish().unwrap();
        assert!(chunk.opt_out(2));
        assert!(!chunk.opt_out(1) && !chunk.opt_out(2) && !chunk.opt_out(3), "ended once");
        assert_eq!((&chunk.states[..], chunk.failed()), (&[0, 4, 4][..], 2));
        let records: Vec<_> = record::read(&chunk.log).collect();
        let codes =
            records.iter().map(|record| (record.place, record.error.as_ref().unwrap().code));
        assert_eq!(codes.collect::<Vec<_>>(), [(1, "invalid_number"), (2, "opted_out")]);
    }

    #[test]
    fn entries_read_back_by_place() {
        let entries = [
            to("+15551230001"),
            Entry { to: "+15551230002", reference: Some("user-42"), variables: vec![("a", "1")] },
            to("not a number"),
        ];
        let mut chunker = Chunker::new(10);
        for entry in &entries {
            chunker.push(entry);
        }
        let chunk = chunker.finish().unwrap();
        let offsets = offsets(&chunk.recipients, 3);
        assert_eq!(offsets.len(), 4);
        for (offset, entry) in offsets.iter().zip(&entries) {
            assert_eq!(entry_at(&chunk.recipients, *offset), *entry);
        }
        assert_eq!(entry_at(&chunk.recipients, offsets[3]), Entry::default());
        assert!(super::entries(&chunk.recipients).eq(entries));
    }

    #[test]
    fn a_plain_recipient_costs_three_bytes_beyond_its_own() {
        let mut chunker = Chunker::new(10);
        chunker.push(&to("+15551230001"));
        assert_eq!(chunker.finish().unwrap().recipients.len(), 12 + 3);
    }
}
