//! Recipients: read one by one and pushed straight into chunks, so that no list of them is ever
//! held. A recipient that is a plain string costs no allocation.

use std::borrow::Cow;

use serde::de::{IgnoredAny, MapAccess, SeqAccess};

use super::{
    REFERENCE_BYTES_MAX, Refusal, Rules,
    duplicates::{Added, Numbers},
    variables::{Pairs, Variables},
};
use crate::{
    api::{
        json::{Expect, Faults, Key, Place, Pointer, check_text, next_text},
        model::{Duplicates, FieldError},
        problem::ERRORS_MAX,
    },
    domain::{
        chunk::{Chunker, Entry, NewChunk},
        message::FinalState,
        recipient::InvalidNumber,
    },
};

/// The longest recipient: its number, reference, and variables together, in bytes.
const RECIPIENT_BYTES_MAX: usize = 64 * 1024;

/// Where recipients go.
pub(super) struct Sink {
    chunker: Chunker,
    chunks: Vec<NewChunk>,
    recipients_max: u32,
    /// Those in chunks that were cut.
    invalid: Invalid,
    /// The numbers so far, if duplicates are to be left out.
    numbers: Option<Numbers>,
    /// How many were left out.
    skipped: u64,
    /// Why the numbers can't be compared any more.
    broken: Option<rusqlite::Error>,
}

/// All recipients.
pub(super) struct Sunk {
    /// The chunks that were not taken before.
    pub(super) chunks: Vec<NewChunk>,
    /// How many messages there are in all.
    pub(super) messages: u32,
    pub(super) invalid: Invalid,
    /// How many recipients were left out, since their numbers were there already.
    pub(super) skipped: u64,
}

/// Recipients that are no E.164 numbers.
#[derive(Debug, Default)]
pub(super) struct Invalid {
    /// How many there are.
    pub(super) count: u32,
    /// The places of the first ones among the recipients as given.
    first: Vec<u64>,
}

/// The place of the `recipients` array.
pub(super) struct Recipients<'r> {
    pub(super) at: Pointer<'r>,
    pub(super) sink: &'r mut Sink,
    pub(super) faults: &'r mut Faults,
}

/// The place of one recipient.
pub(super) struct Element<'r, 'de> {
    pub(super) at: Pointer<'r>,
    pub(super) sink: &'r mut Sink,
    /// Room for its variables, to be used again by the next one.
    pub(super) pairs: &'r mut Pairs<'de>,
    pub(super) faults: &'r mut Faults,
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

impl Sink {
    pub(super) fn new(rules: &Rules<'_>, duplicates: Duplicates) -> Self {
        Self {
            chunker: Chunker::new(rules.chunk_size),
            chunks: Vec::new(),
            recipients_max: rules.recipients_max,
            invalid: Invalid::default(),
            numbers: (duplicates == Duplicates::Skip).then(Numbers::new),
            skipped: 0,
            broken: None,
        }
    }

    /// The chunks that were filled since the last call.
    ///
    /// # Errors
    /// [`Refusal::Scratch`].
    pub(super) fn take_chunks(&mut self) -> Result<Vec<NewChunk>, Refusal> {
        match self.broken.take() {
            Some(error) => Err(Refusal::Scratch(error)),
            None => Ok(std::mem::take(&mut self.chunks)),
        }
    }

    /// The invalid recipients in all chunks that were filled.
    pub(super) fn invalid(&self) -> &Invalid {
        &self.invalid
    }

    /// Ends the list.
    ///
    /// # Errors
    /// [`Refusal::Scratch`].
    pub(super) fn finish(mut self) -> Result<Sunk, Refusal> {
        let mut chunks = self.take_chunks()?;
        let messages = self.chunker.next_index();
        if let Some(last) = std::mem::replace(&mut self.chunker, Chunker::new(1)).finish() {
            self.count_invalid(&last);
            chunks.push(last);
        }
        let Self { invalid, skipped, .. } = self;
        Ok(Sunk { chunks, messages, invalid, skipped })
    }

    /// Adds a recipient, unless the submission is refused anyway.
    fn push(&mut self, entry: &Entry<'_>, at: &Pointer<'_>, faults: &mut Faults) {
        let variables = entry.variables.iter().map(|(name, value)| name.len() + value.len());
        let bytes = entry.to.len() + entry.reference.map_or(0, str::len) + variables.sum::<usize>();
        if bytes > RECIPIENT_BYTES_MAX {
            let detail = format_args!("{bytes} bytes, where {RECIPIENT_BYTES_MAX} are allowed");
            faults.add(at, "too_long", detail);
        }
        if !faults.is_empty() {
            return;
        }
        let place = u64::from(self.chunker.next_index()) + self.skipped;
        match self.numbers.as_mut().map(|numbers| numbers.add(entry.to)) {
            None | Some(Ok(Added::New)) => {}
            Some(Ok(Added::NoNumber)) => self.invalid.note(place),
            Some(Ok(Added::Known)) => {
                self.skipped += 1;
                return;
            }
            Some(Err(error)) => {
                self.broken.get_or_insert(error);
                return;
            }
        }
        let index = self.chunker.next_index();
        if index == self.recipients_max {
            let detail = format_args!("a batch may have at most {index} recipients here");
            faults.add(at, "too_many", detail);
            return;
        }
        if let Some(full) = self.chunker.push(entry) {
            self.count_invalid(&full);
            self.chunks.push(full);
        }
    }

    /// Counts the invalid recipients of a chunk that was cut. Where none is left out, their indexes are
    /// their places.
    fn count_invalid(&mut self, chunk: &NewChunk) {
        let failed = chunk.failed();
        self.invalid.count += failed;
        if failed > 0 && self.numbers.is_none() {
            let states = (u64::from(chunk.first)..).zip(&chunk.states);
            for (place, _) in states.filter(|(_, state)| **state == FinalState::Failed as u8) {
                self.invalid.note(place);
            }
        }
    }
}

// === impl Invalid ===

impl Invalid {
    /// Notes the place of one, if it is among the first.
    fn note(&mut self, place: u64) {
        if self.first.len() < ERRORS_MAX {
            self.first.push(place);
        }
    }

    /// Refuses the submission for them; `pointer` tells of a place where it is.
    pub(super) fn refusal(&self, pointer: impl Fn(u64) -> String) -> Refusal {
        let error = |place: &u64| FieldError {
            pointer: pointer(*place),
            code: "invalid_number".into(),
            detail: InvalidNumber.to_string(),
        };
        Refusal::InvalidRecipients {
            errors: self.first.iter().map(error).collect(),
            count: self.count,
        }
    }
}

// === impl Recipients ===

impl<'de> Expect<'de> for Recipients<'_> {
    fn wrong(self, found: &'static str) {
        self.faults.wrong_type(&self.at, "an array", found);
    }

    fn array<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let (mut index, mut pairs) = (0, Pairs::new());
        loop {
            let (sink, faults) = (&mut *self.sink, &mut *self.faults);
            let at = Pointer::Index(&self.at, index);
            let element = Element { at, sink, pairs: &mut pairs, faults };
            if elements.next_element_seed(Place(element))?.is_none() {
                return Ok(());
            }
            index += 1;
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
        self.pairs.clear();
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
                let pairs = &mut *self.pairs;
                members.next_value_seed(Place(Variables { at, pairs, faults: self.faults }))?;
            }
        }
        Ok(())
    }

    fn take(self, found: &Members<'de>) {
        let Some(to) = found.to.as_deref() else {
            let at = Pointer::Key(&self.at, "to");
            if !self.faults.concern(&at) {
                self.faults.add(&at, "missing", "a recipient needs `to`");
            }
            return;
        };
        let variables = self.pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
        let entry = Entry { to, reference: found.reference.as_deref(), variables };
        self.sink.push(&entry, &self.at, self.faults);
    }
}
