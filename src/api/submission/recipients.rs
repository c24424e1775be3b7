//! Recipients: read one by one and pushed straight into chunks, so that no list of them is ever
//! held. A recipient that is a plain string costs no allocation.

use std::borrow::Cow;

use serde::de::{IgnoredAny, MapAccess, SeqAccess};

use super::{
    REFERENCE_BYTES_MAX,
    faults::{Faults, Pointer},
    places::{Expect, Key, Place},
    values::{check_text, next_text},
    variables::{Pairs, Variables},
};
use crate::domain::chunk::{Chunker, Entry, NewChunk};

/// The longest recipient: its number, reference, and variables together, in bytes.
const RECIPIENT_BYTES_MAX: usize = 64 * 1024;

/// Where recipients go.
pub(super) struct Sink<'de> {
    chunker: Chunker,
    chunks: Vec<NewChunk>,
    /// Recipients read so far.
    count: u64,
    /// The variables of the recipient in hand; kept to use its memory again.
    pairs: Pairs<'de>,
}

/// The place of the `recipients` array.
pub(super) struct Recipients<'r, 'de> {
    pub(super) at: Pointer<'r>,
    pub(super) sink: &'r mut Sink<'de>,
    pub(super) faults: &'r mut Faults,
}

/// The place of one recipient.
struct Element<'r, 'de> {
    at: Pointer<'r>,
    sink: &'r mut Sink<'de>,
    faults: &'r mut Faults,
}

/// The members of a recipient that is an object.
#[derive(Default)]
struct Members<'de> {
    seen: [bool; FIELDS.len()],
    to: Option<Cow<'de, str>>,
    reference: Option<Cow<'de, str>>,
}

const FIELDS: [&str; 3] = ["to", "variables", "reference"];

// === impl Sink ===

impl Sink<'_> {
    pub(super) fn new(chunk_size: u16) -> Self {
        let chunker = Chunker::new(chunk_size);
        Self { chunker, chunks: Vec::new(), count: 0, pairs: Vec::new() }
    }

    /// The chunks, and how many messages are in them.
    pub(super) fn finish(self) -> (Vec<NewChunk>, u32) {
        let messages = self.chunker.next_index();
        let mut chunks = self.chunks;
        chunks.extend(self.chunker.finish());
        (chunks, messages)
    }

    /// Adds a recipient, unless the submission is refused anyway.
    fn push(&mut self, entry: &Entry<'_>, at: &Pointer<'_>, faults: &mut Faults) {
        let variables = entry.variables.iter().map(|(name, value)| name.len() + value.len());
        let bytes = entry.to.len() + entry.reference.map_or(0, str::len) + variables.sum::<usize>();
        if bytes > RECIPIENT_BYTES_MAX {
            let detail = format_args!("{bytes} bytes, where {RECIPIENT_BYTES_MAX} are allowed");
            faults.add(at, "too_long", detail);
        }
        if self.chunker.next_index() == u32::MAX {
            faults.add(at, "too_many", "a batch holds at most 4294967295 messages");
        }
        if faults.is_empty() {
            self.chunks.extend(self.chunker.push(entry));
        } else {
            self.chunks = Vec::new();
        }
    }
}

// === impl Recipients ===

impl<'de> Expect<'de> for Recipients<'_, 'de> {
    fn wrong(self, found: &'static str) {
        self.faults.wrong_type(&self.at, "an array", found);
    }

    fn array<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        loop {
            let at = Pointer::Index(&self.at, self.sink.count);
            let element = Element { at, sink: &mut *self.sink, faults: &mut *self.faults };
            if elements.next_element_seed(Place(element))?.is_none() {
                return Ok(());
            }
            self.sink.count += 1;
        }
    }
}

// === impl Element ===

impl<'de> Expect<'de> for Element<'_, 'de> {
    fn wrong(self, found: &'static str) {
        self.faults.wrong_type(&self.at, "a string or an object", found);
    }

    fn text(self, text: &str) {
        let entry = Entry { to: text, reference: None, variables: Vec::new() };
        if let Err(unfit) = check_text(text) {
            self.faults.add(&self.at, unfit.code(), unfit);
        } else {
            self.sink.push(&entry, &self.at, self.faults);
        }
    }

    fn object<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        self.sink.pairs.clear();
        let mut found = Members::default();
        while let Some(name) = members.next_key_seed(Key)? {
            self.member(&name, &mut members, &mut found)?;
        }
        self.take(&found);
        Ok(())
    }
}

impl<'de> Element<'_, 'de> {
    fn member<A: MapAccess<'de>>(
        &mut self,
        name: &str,
        members: &mut A,
        found: &mut Members<'de>,
    ) -> Result<(), A::Error> {
        let at = Pointer::Key(&self.at, name);
        let Some(field) = FIELDS.iter().position(|field| *field == name) else {
            self.faults.add(&at, "unknown_field", "a recipient has no such field");
            return members.next_value::<IgnoredAny>().map(|_| ());
        };
        if std::mem::replace(&mut found.seen[field], true) {
            self.faults.add(&at, "duplicate_field", "this field is given twice");
            return members.next_value::<IgnoredAny>().map(|_| ());
        }
        match name {
            "to" => found.to = next_text(members, &at, usize::MAX, self.faults)?,
            "reference" => {
                found.reference = next_text(members, &at, REFERENCE_BYTES_MAX, self.faults)?;
            }
            _ => {
                let pairs = &mut self.sink.pairs;
                members.next_value_seed(Place(Variables { at, pairs, faults: self.faults }))?;
            }
        }
        Ok(())
    }

    fn take(self, found: &Members<'de>) {
        let Some(to) = found.to.as_deref() else {
            let at = Pointer::Key(&self.at, "to");
            if !self.faults.concern(&at.to_string()) {
                self.faults.add(&at, "missing", "a recipient needs `to`");
            }
            return;
        };
        let pairs = std::mem::take(&mut self.sink.pairs);
        let variables = pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
        let entry = Entry { to, reference: found.reference.as_deref(), variables };
        self.sink.push(&entry, &self.at, self.faults);
        self.sink.pairs = pairs;
    }
}
