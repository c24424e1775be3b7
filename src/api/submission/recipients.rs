//! Recipients: read one by one and pushed straight into chunks, so that no list of them is ever
//! held. A recipient that is a plain string costs no allocation.

use std::borrow::Cow;

use serde::de::{IgnoredAny, MapAccess, SeqAccess};

use super::{
    REFERENCE_BYTES_MAX, Refusal, Rules,
    duplicates::Numbers,
    variables::{Pairs, Variables},
};
use crate::{
    api::{
        json::{Expect, Faults, Key, Place, Pointer, check_text, next_text},
        model::{Duplicates, FieldError, OnInvalid},
        problem::ERRORS_MAX,
    },
    domain::{
        chunk::{Chunker, Entry, NewChunk},
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
    counts_invalid: bool,
    /// The pointers of the first invalid ones.
    first_invalid: Vec<String>,
    /// The numbers so far, if duplicates are to be left out.
    numbers: Option<Numbers>,
    /// How many were left out.
    skipped: u64,
    /// Why the numbers can't be compared any more.
    broken: Option<rusqlite::Error>,
}

/// What was left in hand when the last recipient was read.
#[derive(Debug)]
pub(in crate::api) struct Rest {
    /// The chunks that were not taken before.
    pub(in crate::api) chunks: Vec<NewChunk>,
    /// How many messages there are in all.
    pub(in crate::api) messages: u32,
    /// How many of them are invalid.
    pub(in crate::api) invalid: u32,
    /// How many recipients were left out, since their numbers were there already.
    pub(in crate::api) skipped: u64,
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
            counts_invalid: rules.counts_invalid,
            first_invalid: Vec::new(),
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

    /// Whether numbers are compared: one may have to be looked for in a file.
    pub(super) fn compares(&self) -> bool {
        self.numbers.is_some()
    }

    /// How many recipients so far are no E.164 numbers.
    pub(super) fn invalid(&self) -> u32 {
        self.chunker.invalid()
    }

    /// Refuses the submission for its invalid recipients, if it is to be refused for them.
    ///
    /// # Errors
    /// [`Refusal::InvalidRecipients`].
    pub(super) fn judge_invalid(&self, on_invalid: OnInvalid) -> Result<(), Refusal> {
        let is_fine = self.invalid() == 0 || on_invalid == OnInvalid::FailMessage;
        if is_fine || self.counts_invalid {
            return Ok(());
        }
        let error = |pointer: &String| FieldError {
            pointer: pointer.clone(),
            code: "invalid_number".into(),
            detail: InvalidNumber.to_string(),
        };
        let errors = self.first_invalid.iter().map(error).collect();
        Err(Refusal::InvalidRecipients { errors, count: self.invalid() })
    }

    /// Ends the list.
    ///
    /// # Errors
    /// [`Refusal::Scratch`].
    pub(super) fn finish(mut self) -> Result<Rest, Refusal> {
        let mut chunks = self.take_chunks()?;
        let Self { chunker, skipped, .. } = self;
        let (messages, invalid) = (chunker.next_index(), chunker.invalid());
        chunks.extend(chunker.finish());
        Ok(Rest { chunks, messages, invalid, skipped })
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
            self.chunks = Vec::new();
            return;
        }
        match self.numbers.as_mut().map(|numbers| numbers.add(entry.to)) {
            None | Some(Ok(true)) => {}
            Some(Ok(false)) => {
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
        let invalid = self.chunker.invalid();
        self.chunks.extend(self.chunker.push(entry));
        if self.chunker.invalid() > invalid && self.first_invalid.len() < ERRORS_MAX {
            self.first_invalid.push(at.to_string());
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
