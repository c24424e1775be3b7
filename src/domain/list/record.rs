//! One record of a CSV list: its fields, and how they become a line of JSON.

use memchr::{memchr, memchr_iter};

use super::{
    flaw::{Fault, Flaw, Place},
    header::Header,
};

/// A record that is whole.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a> {
    /// The texts of its fields, one after the other, without quotes.
    pub(crate) text: &'a [u8],
    /// Where they begin and end.
    pub(crate) fields: &'a [Field],
}

/// A field that is whole.
#[derive(Clone, Copy)]
pub(crate) struct Field {
    /// Where it begins in the list.
    pub(crate) at: Place,
    /// Where its text ends in the record's.
    pub(crate) end: usize,
}

/// How a field is written in the list.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// Where it begins.
    pub(crate) at: Place,
    first: Option<u8>,
    last: Option<u8>,
    bytes: usize,
}

// === impl Record ===

impl<'a> Record<'a> {
    /// The text of a field.
    pub(crate) fn text(self, column: usize) -> Result<&'a str, Flaw> {
        let field = self.fields[column];
        let start = column.checked_sub(1).map_or(0, |before| self.fields[before].end);
        let bytes = &self.text[start..field.end];
        if memchr(0, bytes).is_some() {
            return Err(field.at.flaw(Fault::Nul));
        }
        std::str::from_utf8(bytes).map_err(|_| field.at.flaw(Fault::NotUtf8))
    }

    /// Writes the record, which has as many fields as the header, as a recipient into `json`,
    /// which is emptied first. Fields that are not used are judged all the same.
    pub(crate) fn write(self, header: &Header, json: &mut Vec<u8>) -> Result<(), Flaw> {
        json.clear();
        let text = |column| {
            let named = |flaw| Flaw { column: header.name(column), ..flaw };
            self.text(column).map_err(named)
        };
        for column in 0..self.fields.len() {
            text(column)?;
        }
        json.extend_from_slice(b"{\"to\":");
        quote(text(header.to)?, json);
        let reference = header.reference.map(&text).transpose()?.filter(|text| !text.is_empty());
        if let Some(reference) = reference {
            json.extend_from_slice(b",\"reference\":");
            quote(reference, json);
        }
        let mut opening: &[u8] = b",\"variables\":{";
        for variable in &header.variables {
            let value = text(variable.column)?;
            if value.is_empty() && variable.has_default {
                continue;
            }
            json.extend_from_slice(opening);
            json.extend_from_slice(variable.key.as_bytes());
            quote(value, json);
            opening = b",";
        }
        // After a variable its object is still open.
        json.extend_from_slice(if opening == b"," { b"}}" } else { b"}" });
        Ok(())
    }
}

// === impl Shape ===

impl Shape {
    pub(crate) fn at(at: Place) -> Self {
        Self { at, first: None, last: None, bytes: 0 }
    }

    /// Takes in more of the field as it is written.
    pub(crate) fn grow(&mut self, written: &[u8]) {
        self.first = self.first.or(written.first().copied());
        self.last = written.last().copied().or(self.last);
        self.bytes += written.len();
    }

    pub(crate) fn is_quoted(self) -> bool {
        self.first == Some(b'"')
    }

    /// Whether nothing follows the quote that closes the field, if it is quoted. `text` is what was
    /// read of it: all but the quotes around it, and one of each two within. What follows the
    /// closing quote either makes the sum wrong, or does not end in a quote.
    pub(crate) fn is_well_closed(self, text: &[u8]) -> bool {
        let written = text.len() + memchr_iter(b'"', text).count() + 2;
        !self.is_quoted() || (self.last == Some(b'"') && self.bytes == written)
    }
}

/// Writes a text as JSON.
fn quote(text: &str, json: &mut Vec<u8>) {
    // A text is always JSON, and a vector takes everything.
    let _ = serde_json::to_writer(json, text);
}
