//! NDJSON in, recipients out: one a line, judged and passed on as it is.
//!
//! Bytes are pushed in as they come, cut anywhere. A line that came whole is not copied; memory is
//! one line. Empty lines don't count.

use memchr::memchr;

use super::recipient::Recipient;
use crate::domain::list::{
    Line, RECORD_BYTES_MAX, Take,
    flaw::{Fault, Flaw, ListError, Place},
};

/// Reads an NDJSON list.
#[derive(Default)]
pub(super) struct NdjsonReader {
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
    /// Lines that are whole.
    lines: u64,
}

// === impl NdjsonReader ===

impl NdjsonReader {
    /// Reads on.
    ///
    /// # Errors
    /// The first flaw, or what `take` says.
    pub(super) fn push(&mut self, mut input: &[u8], take: &mut impl Take) -> Result<(), ListError> {
        while let Some(end) = memchr(b'\n', input) {
            let (line, rest) = (&input[..end], &input[end + 1..]);
            if self.begun.is_empty() {
                self.line(line, take)?;
            } else {
                self.begin(line)?;
                self.end_begun(take)?;
            }
            input = rest;
        }
        self.begin(input)?;
        Ok(())
    }

    /// Reads the end: the last line needs no line break.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub(super) fn finish(&mut self, take: &mut impl Take) -> Result<(), ListError> {
        self.end_begun(take)
    }

    /// Keeps a part of a line.
    fn begin(&mut self, part: &[u8]) -> Result<(), Flaw> {
        if self.begun.len() + part.len() > RECORD_BYTES_MAX {
            return Err(self.flaw(b"", Fault::TooLong));
        }
        self.begun.extend_from_slice(part);
        Ok(())
    }

    fn end_begun(&mut self, take: &mut impl Take) -> Result<(), ListError> {
        let mut begun = std::mem::take(&mut self.begun);
        self.line(&begun, take)?;
        begun.clear();
        self.begun = begun;
        Ok(())
    }

    fn line(&mut self, line: &[u8], take: &mut impl Take) -> Result<(), ListError> {
        let json = line.trim_ascii();
        if line.len() > RECORD_BYTES_MAX {
            return Err(self.flaw(b"", Fault::TooLong).into());
        }
        if !json.is_empty() {
            let blanks = line.len() - line.trim_ascii_start().len();
            let text = std::str::from_utf8(json).map_err(|error| {
                self.flaw(&line[..blanks + error.valid_up_to()], Fault::NotUtf8)
            })?;
            Recipient::parse(text).map_err(|error| {
                let good = (blanks + error.column - 1).min(line.len());
                self.flaw(&line[..good], Fault::NoRecipient(error.detail))
            })?;
            take.take(Line { number: self.lines + 1, json })?;
        }
        self.lines += 1;
        Ok(())
    }

    /// A flaw of the line in hand, behind what is good of it.
    fn flaw(&self, good: &[u8], fault: Fault) -> Flaw {
        let mut at = Place { line: self.lines + 1, column: 1 };
        at.pass(good);
        at.flaw(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Taken(Vec<(u64, String)>);

    impl Take for Taken {
        fn take(&mut self, line: Line<'_>) -> Result<(), ListError> {
            self.0.push((line.number, String::from_utf8(line.json.to_vec()).unwrap()));
            Ok(())
        }
    }

    fn read(list: &[u8], cut: usize) -> Result<Vec<(u64, String)>, String> {
        let (mut reader, mut taken) = (NdjsonReader::default(), Taken::default());
        let mut pieces = list.chunks(cut);
        let done = pieces.try_for_each(|piece| reader.push(piece, &mut taken));
        let done = done.and_then(|()| reader.finish(&mut taken));
        done.map(|()| taken.0).map_err(|error| error.to_string())
    }

    #[test]
    fn lines_are_passed_on_as_they_are_wherever_they_are_cut() {
        let list = "\"+15551230001\"\r\n\n  {\"to\":\"+15551230002\", \"reference\":\"é\",\
            \"variables\":{\"n\":1.10}} \n\t\n\"+15551230003\"";
        let expected = [
            (1, "\"+15551230001\"".to_owned()),
            (
                3,
                "{\"to\":\"+15551230002\", \"reference\":\"é\",\"variables\":{\"n\":1.10}}"
                    .to_owned(),
            ),
            (5, "\"+15551230003\"".to_owned()),
        ];
        for cut in 1..=list.len() {
            assert_eq!(read(list.as_bytes(), cut).unwrap(), expected, "{cut}");
        }
        assert_eq!(read(b"", 1), Ok(Vec::new()));
    }

    #[test]
    fn a_flaw_is_placed() {
        let good = "\"+15551230001\"\n\n";
        for (line, told) in [
            (&b"+15551230002"[..], "3:1: a recipient is a string or an object"),
            (b"  7\n", "3:3: a recipient is a string or an object"),
            (b"\"+1\" \"+2\"\n", "3:6: trailing characters"),
            (b"\"+1", "3:3: EOF while parsing a string"),
            ("{\"to\":\"é日\",\"phone\":1}".as_bytes(), "3:18: unknown field `phone`"),
            (b"{\"to\":7}", "3:7: invalid type: integer `7`"),
            (b"{\"reference\":\"x\"}", "3:17: missing field `to`"),
            (b" {\"to\":\"+1\",\"reference\":\"\xff\"}", "3:26: the text is not UTF-8"),
        ] {
            let list = [good.as_bytes(), line].concat();
            for cut in [1, 2, 5, usize::MAX] {
                let flaw = read(&list, cut).unwrap_err();
                assert!(flaw.starts_with(told), "{flaw} of {:?}", String::from_utf8_lossy(line));
            }
        }
    }

    #[test]
    fn a_line_takes_64_kib_at_most() {
        let line = |bytes: usize| format!("\"{}\"\n\"+1\"\n", "x".repeat(bytes - 2));
        for cut in [1_000, usize::MAX] {
            assert_eq!(read(line(RECORD_BYTES_MAX).as_bytes(), cut).unwrap().len(), 2);
            let flaw = read(line(RECORD_BYTES_MAX + 1).as_bytes(), cut).unwrap_err();
            assert_eq!(flaw, "1:1: the record is longer than 65536 bytes");
        }
    }
}
