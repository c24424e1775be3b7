//! Reads the body of a streamed batch as its pieces come: the first line is the batch, each further
//! line a recipient.
//!
//! Lines are read where they lie; only what a piece leaves over of its last line is copied. The
//! first line that is wrong ends it all, with everything that is wrong about that line. Pointers
//! begin with the number of the line, from 1, so line and index of a recipient differ by 2 where no
//! duplicates are left out: an empty line may only stand at the end.

use memchr::{memchr, memchr_iter, memrchr};

use super::{
    Refusal, Rules,
    document::{Document, Root},
    recipients::{Element, Sink},
    rows::{Form, Rows},
    variables::Pairs,
};
use crate::{
    api::json::{self, Faults, Flaw, Pointer},
    domain::batch::BatchSpec,
};

/// The longest line without its end, in bytes; and the most that empty lines at the end may take.
pub(in crate::api) const LINE_BYTES_MAX: usize = 64 * 1024;

/// The line of the first recipient.
const FIRST_LINE: u64 = 2;

/// Reads the recipients' lines.
#[derive(Default)]
pub(super) struct Lines {
    /// What is there of a line that has not ended.
    partial: Vec<u8>,
    /// The number of the line in hand.
    number: u64,
    /// The first of the empty lines before the line in hand.
    empty_from: Option<u64>,
    /// How much they take.
    empty_bytes: usize,
}

/// Reads and judges the first line, which may end with CR. Gives the batch, and the reader of the
/// lines to come.
///
/// # Errors
/// [`Refusal`], with everything that is wrong.
pub(in crate::api) fn begin(line: &[u8], rules: &Rules<'_>) -> Result<(BatchSpec, Rows), Refusal> {
    let number = FIRST_LINE - 1;
    check_length(number, line.len())?;
    if is_empty(line) {
        return Err(empty(number, "the first line is the batch"));
    }
    let at = Pointer::Index(&Pointer::Root, number);
    let (mut document, mut faults) = (Document::default(), Faults::default());
    let root = Root { at: &at, document: &mut document, sink: None, faults: &mut faults };
    json::read(line, root).map_err(|flaw| broken(flaw, number))?;
    let (on_invalid, duplicates) = (document.on_invalid, document.duplicates);
    let spec = document.is_object.then(|| document.into_spec(rules, &at, &mut faults));
    match spec.filter(|_| faults.is_empty()) {
        Some(spec) => {
            let lines = Form::Lines(Lines { number: FIRST_LINE, ..Lines::default() });
            Ok((spec, Rows::new(lines, Sink::new(rules, duplicates), on_invalid)))
        }
        None => Err(Refusal::Fields(faults.into_errors())),
    }
}

// === impl Lines ===

impl Lines {
    pub(super) fn take(&mut self, piece: &[u8], sink: &mut Sink) -> Result<(), Refusal> {
        let (lines, partial) = piece.split_at(memrchr(b'\n', piece).map_or(0, |at| at + 1));
        let mut begin = 0;
        // Only the first line can have a beginning in an earlier piece.
        if let Some(end) = memchr(b'\n', lines).filter(|_| !self.partial.is_empty()) {
            self.keep(&lines[..end])?;
            self.read_partial(sink)?;
            begin = end + 1;
        }
        self.read(&lines[begin..], sink)?;
        self.keep(partial)
    }

    /// Reads the last line, if it has no end of its own.
    pub(super) fn finish(&mut self, sink: &mut Sink) -> Result<(), Refusal> {
        if self.partial.is_empty() { Ok(()) } else { self.read_partial(sink) }
    }

    /// Reads lines that all have their ends.
    fn read(&mut self, lines: &[u8], sink: &mut Sink) -> Result<(), Refusal> {
        let (mut pairs, mut begin) = (Pairs::new(), 0);
        for end in memchr_iter(b'\n', lines) {
            self.line(&lines[begin..end], &mut pairs, sink)?;
            begin = end + 1;
        }
        Ok(())
    }

    /// Keeps a part of a line until the rest of it comes.
    fn keep(&mut self, partial: &[u8]) -> Result<(), Refusal> {
        check_length(self.number, self.partial.len() + partial.len())?;
        self.partial.extend_from_slice(partial);
        Ok(())
    }

    /// Reads the line that was kept.
    fn read_partial(&mut self, sink: &mut Sink) -> Result<(), Refusal> {
        let mut line = std::mem::take(&mut self.partial);
        self.line(&line, &mut Pairs::new(), sink)?;
        line.clear();
        self.partial = line;
        Ok(())
    }

    fn line<'de>(
        &mut self,
        line: &'de [u8],
        pairs: &mut Pairs<'de>,
        sink: &mut Sink,
    ) -> Result<(), Refusal> {
        let number = self.number;
        self.number += 1;
        check_length(number, line.len())?;
        if is_empty(line) {
            return self.empty_line(number, line.len() + 1);
        }
        if let Some(earlier) = self.empty_from {
            return Err(empty(earlier, "only the last lines may be empty"));
        }
        let mut faults = Faults::default();
        let at = Pointer::Index(&Pointer::Root, number);
        let element = Element { at, sink, pairs, faults: &mut faults };
        json::read(line, element).map_err(|flaw| broken(flaw, number))?;
        if faults.is_empty() { Ok(()) } else { Err(Refusal::Fields(faults.into_errors())) }
    }

    fn empty_line(&mut self, number: u64, bytes: usize) -> Result<(), Refusal> {
        let from = *self.empty_from.get_or_insert(number);
        self.empty_bytes += bytes;
        if self.empty_bytes > LINE_BYTES_MAX {
            return Err(empty(from, "too many empty lines follow"));
        }
        Ok(())
    }
}

fn check_length(line: u64, bytes: usize) -> Result<(), Refusal> {
    if bytes > LINE_BYTES_MAX { Err(Refusal::LineTooLong { line }) } else { Ok(()) }
}

/// Whether there is nothing but white space (RFC 8259, section 2).
fn is_empty(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}

fn empty(line: u64, detail: &str) -> Refusal {
    refusal(line, "empty", format_args!("line {line} is empty: {detail}"))
}

fn broken(flaw: Flaw, line: u64) -> Refusal {
    refusal(line, "invalid_json", flaw.in_line(line))
}

fn refusal(line: u64, code: &'static str, detail: impl std::fmt::Display) -> Refusal {
    let mut faults = Faults::default();
    faults.add(&Pointer::Index(&Pointer::Root, line), code, detail);
    Refusal::Fields(faults.into_errors())
}
