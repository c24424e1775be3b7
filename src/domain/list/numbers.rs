//! A column of numbers out of a CSV table (RFC 4180), read as its bytes come.
//!
//! The first line is a header that names the column `number`, or else `to`. Of each record only that field
//! is looked at. Bytes may be cut anywhere; memory is one field's beginning, whatever the table holds.

use csv_core::ReadFieldResult;

use super::{BYTE_ORDER_MARK, flaw::Place};

/// So much of a field is kept, in bytes: more than any number or name of a column has.
const FIELD_BYTES_MAX: usize = 64;

/// The columns that are looked for, the first one first.
const COLUMNS: [&str; 2] = ["number", "to"];

/// Reads the table.
pub(crate) struct NumberTable {
    core: csv_core::Reader,
    /// Where the column stands, once the header was read.
    column: Option<usize>,
    /// What was found of [`COLUMNS`] in the header so far.
    named: [Option<usize>; COLUMNS.len()],
    /// Where the next byte stands.
    at: Place,
    /// The line the record in hand begins in.
    line: u64,
    /// The fields of the record in hand that are whole.
    fields: usize,
    /// Whether something of the record in hand was read.
    is_begun: bool,
    /// The field in hand.
    field: [u8; FIELD_BYTES_MAX],
    field_bytes: usize,
    /// Whether it is longer than what is kept.
    is_cut: bool,
    /// Whether the record in hand had a field in the column.
    has_number: bool,
}

/// The table has no header line with a column that is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the first line must be a header with a column `number` or `to`")]
pub(crate) struct NoColumn;

// === impl NumberTable ===

impl NumberTable {
    pub(crate) fn new() -> Self {
        let mut core = csv_core::Reader::new();
        // It would drop a byte order mark, but only one that comes in one piece.
        core.read_field(b"\n", &mut []);
        Self {
            core,
            column: None,
            named: [None; COLUMNS.len()],
            at: Place::START,
            line: 1,
            fields: 0,
            is_begun: false,
            field: [0; FIELD_BYTES_MAX],
            field_bytes: 0,
            is_cut: false,
            has_number: false,
        }
    }

    /// Reads on. `take` gets the line of each record and what stands in its column; an empty text where
    /// nothing does, and the beginning of what is far too long.
    ///
    /// # Errors
    /// [`NoColumn`].
    pub(crate) fn push(
        &mut self,
        mut input: &[u8],
        take: &mut impl FnMut(u64, &str),
    ) -> Result<(), NoColumn> {
        while !input.is_empty() {
            let used = match self.line_breaks(input) {
                0 => self.step(input, take)?,
                breaks => breaks,
            };
            input = &input[used..];
        }
        Ok(())
    }

    /// Reads the end. The last line needs no line break.
    ///
    /// # Errors
    /// [`NoColumn`], if there was not even a header.
    pub(crate) fn finish(mut self, take: &mut impl FnMut(u64, &str)) -> Result<(), NoColumn> {
        if self.is_begun {
            self.step(b"\n", take)?;
        }
        if self.is_begun {
            // A quote was never closed: all that followed is in this field.
            self.end_field(take);
            self.end_record(take)?;
        }
        self.column.map(|_| ()).ok_or(NoColumn)
    }

    /// Passes the line breaks between two records; gives how many bytes they are.
    fn line_breaks(&mut self, input: &[u8]) -> usize {
        if self.is_begun {
            return 0;
        }
        let breaks = input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        self.at.pass(&input[..breaks]);
        self.line = self.at.line;
        breaks
    }

    fn step(&mut self, input: &[u8], take: &mut impl FnMut(u64, &str)) -> Result<usize, NoColumn> {
        let (result, used, written) =
            self.core.read_field(input, &mut self.field[self.field_bytes..]);
        self.at.pass(&input[..used]);
        self.is_begun = true;
        self.field_bytes += written;
        match result {
            ReadFieldResult::OutputFull => self.pass_over(),
            ReadFieldResult::Field { record_end } => {
                self.end_field(take);
                if record_end {
                    self.end_record(take)?;
                }
            }
            ReadFieldResult::InputEmpty | ReadFieldResult::End => {}
        }
        Ok(used)
    }

    /// The field in hand is longer than what is kept of it: further bytes go where the last ones went.
    fn pass_over(&mut self) {
        self.is_cut = true;
        self.field_bytes = FIELD_BYTES_MAX / 2;
    }

    fn end_field(&mut self, take: &mut impl FnMut(u64, &str)) {
        let bytes = &self.field[..self.field_bytes];
        let bytes = if self.is_cut { &bytes[..FIELD_BYTES_MAX / 2] } else { bytes };
        // What is no text is no number.
        let text = str::from_utf8(bytes).unwrap_or("\u{fffd}");
        match self.column {
            Some(column) if column == self.fields => {
                self.has_number = true;
                take(self.line, text);
            }
            None if !self.is_cut => {
                let mark = str::from_utf8(BYTE_ORDER_MARK).unwrap_or_default();
                let name = if self.fields == 0 { text.trim_start_matches(mark) } else { text };
                let known = COLUMNS.iter().position(|column| *column == name);
                if let Some(known) = known {
                    self.named[known].get_or_insert(self.fields);
                }
            }
            Some(_) | None => {}
        }
        self.fields += 1;
        self.field_bytes = 0;
        self.is_cut = false;
    }

    fn end_record(&mut self, take: &mut impl FnMut(u64, &str)) -> Result<(), NoColumn> {
        if self.column.is_none() {
            self.column = Some(self.named.into_iter().flatten().next().ok_or(NoColumn)?);
        } else if !self.has_number {
            take(self.line, "");
        }
        self.fields = 0;
        self.is_begun = false;
        self.has_number = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    /// The lines and numbers of a table that comes in pieces of `cut` bytes.
    fn read(table: &[u8], cut: usize) -> Result<Vec<(u64, String)>, NoColumn> {
        let (mut reader, mut taken) = (NumberTable::new(), Vec::new());
        let mut take = |line, number: &str| taken.push((line, number.to_owned()));
        for piece in table.chunks(cut) {
            reader.push(piece, &mut take)?;
        }
        reader.finish(&mut take)?;
        Ok(taken)
    }

    #[test]
    fn the_column_is_found_wherever_it_stands_and_its_lines_are_told() {
        let of = |numbers: &[(u64, &str)]| -> Vec<(u64, String)> {
            numbers.iter().map(|(line, number)| (*line, (*number).to_owned())).collect()
        };
        for (table, expected) in [
            ("number\n+1555\n+1556", &[(2, "+1555"), (3, "+1556")][..]),
            ("\u{feff}number\r\n\r\n+1555\r\n\r\n", &[(3, "+1555")]),
            (
                "name,to\nAnn,+1555\n\"B\nb\",+1556\nC,+1557\n",
                &[(2, "+1555"), (3, "+1556"), (5, "+1557")],
            ),
            ("to,number\n+1,+2\n", &[(2, "+2")]),
            ("name,to\nAnn\n,+1556\n", &[(2, ""), (3, "+1556")]),
            ("\"number\",x\n\"+1555\",\"y, z\"\n", &[(2, "+1555")]),
            ("number\n", &[]),
        ] {
            for cut in [1, 2, 3, 1_000] {
                assert_eq!(read(table.as_bytes(), cut).unwrap(), of(expected), "{table:?}");
            }
        }
        for table in ["", "\n\n", "Number\n+1555\n", "+1555\n+1556\n", "phone,name\n"] {
            assert_eq!(read(table.as_bytes(), 2), Err(NoColumn), "{table:?}");
        }
    }

    #[test]
    fn a_field_of_any_length_is_passed_over_in_constant_memory() {
        let long = "9".repeat(100_000);
        let table = format!("x,number\n{long},+1555\nx,{long}\nx,+1556\n\"{long}\n+1557\n");
        for cut in [7, 64, 1_000_000] {
            let taken = read(table.as_bytes(), cut).unwrap();
            let lines: Vec<_> = taken.iter().map(|(line, _)| *line).collect();
            assert_eq!(lines, [2, 3, 4, 5]);
            assert_eq!((&*taken[0].1, &*taken[2].1, &*taken[3].1), ("+1555", "+1556", ""));
            assert_eq!(taken[1].1, "9".repeat(FIELD_BYTES_MAX / 2), "it is no number");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_the_cut_changes_nothing(
            bytes in vec(select(&b"to,\"\r\n\xff\xc3\xa9\0+1"[..]), 0..200),
            cut in 1..70_usize,
        ) {
            let table = [b"number,to\n", &bytes[..]].concat();
            prop_assert_eq!(read(&table, cut), read(&table, usize::MAX));
        }
    }
}
