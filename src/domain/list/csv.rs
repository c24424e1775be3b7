//! CSV (RFC 4180) in, recipients as JSON out.
//!
//! Bytes are pushed in as they come, cut anywhere; each recipient is handed on as soon as its
//! record is whole. Memory is one record. `csv-core` splits the fields and takes whatever it is
//! given; what it lets pass is caught here: a field too many or too few, quotes that are never
//! closed or that text follows, what is no text.
//!
//! Empty lines don't count. An empty field of a variable stands for the batch's own value where
//! there is one, else for an empty text.

use csv_core::ReadFieldResult;

use super::{
    Line, RECORD_BYTES_MAX, Take,
    flaw::{Fault, Flaw, ListError, Place},
    header::{Header, Needs},
    record::{Field, Record, Shape},
};

/// Reads a CSV list.
pub(crate) struct CsvReader {
    core: csv_core::Reader,
    needs: Needs,
    header: Option<Header>,
    /// Where the next byte stands.
    at: Place,
    /// Where the record in hand begins.
    record_at: Place,
    /// How long the record in hand is so far, as written in the list.
    record_bytes: usize,
    /// The texts of the fields in hand, one after the other, and how much of it is filled.
    text: Box<[u8]>,
    text_bytes: usize,
    /// The fields of the record in hand that are whole.
    fields: Vec<Field>,
    /// The field in hand.
    shape: Shape,
    /// The recipient in hand; kept to use its memory again.
    json: Vec<u8>,
}

// === impl CsvReader ===

impl CsvReader {
    pub(crate) fn new(needs: Needs) -> Self {
        let mut core = csv_core::Reader::new();
        // It would drop a byte order mark that its first input begins with, whole, and no other one. An
        // empty line is its first input, so what it reads does not depend on where pieces end.
        core.read_field(b"\n", &mut []);
        Self {
            core,
            needs,
            header: None,
            at: Place::START,
            record_at: Place::START,
            record_bytes: 0,
            // One byte more than a record may have: the text of one that may be never fills it.
            text: vec![0; RECORD_BYTES_MAX + 1].into(),
            text_bytes: 0,
            fields: Vec::new(),
            shape: Shape::at(Place::START),
            json: Vec::new(),
        }
    }

    /// Reads on.
    ///
    /// # Errors
    /// The first flaw, or what `take` says.
    pub(crate) fn push(&mut self, mut input: &[u8], take: &mut impl Take) -> Result<(), ListError> {
        while !input.is_empty() {
            let used = match self.line_breaks(input) {
                0 => self.step(input, take)?,
                breaks => breaks,
            };
            input = &input[used..];
        }
        Ok(())
    }

    /// Reads the end.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub(crate) fn finish(&mut self, take: &mut impl Take) -> Result<(), ListError> {
        if self.record_bytes > 0 {
            // The last line needs no line break. Within quotes, this one does not end the record.
            self.step(b"\n", take)?;
        }
        if self.record_bytes > 0 {
            return Err(self.flaw(Fault::Unclosed).into());
        }
        if self.header.is_none() {
            return Err(Place::START.flaw(Fault::NoHeader).into());
        }
        Ok(())
    }

    /// Passes the line breaks between two records; gives how many bytes they are.
    fn line_breaks(&mut self, input: &[u8]) -> usize {
        if self.record_bytes > 0 {
            return 0;
        }
        let breaks = input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        self.at.pass(&input[..breaks]);
        self.record_at = self.at;
        self.shape = Shape::at(self.at);
        breaks
    }

    /// Reads to the end of a field or of the input, whichever is first; gives how far that is.
    fn step(&mut self, input: &[u8], take: &mut impl Take) -> Result<usize, ListError> {
        let text = &mut self.text[self.text_bytes..];
        let (result, used, written) = self.core.read_field(input, text);
        let ends = matches!(result, ReadFieldResult::Field { .. });
        // The byte that ends a field is no part of it.
        let (field, end) = input[..used].split_at(used - usize::from(ends));
        self.shape.grow(field);
        self.text_bytes += written;
        self.record_bytes += used;
        self.at.pass(field);
        if self.record_bytes - end.len() > RECORD_BYTES_MAX || result == ReadFieldResult::OutputFull
        {
            return Err(self.too_long().into());
        }
        if ends {
            self.end_field()?;
        }
        if result == (ReadFieldResult::Field { record_end: true }) {
            self.end_record(take)?;
        }
        self.at.pass(end);
        self.shape = if ends { Shape::at(self.at) } else { self.shape };
        Ok(used)
    }

    fn end_field(&mut self) -> Result<(), Flaw> {
        let columns = self.header.as_ref().map_or(usize::MAX, Header::columns);
        if self.fields.len() == columns {
            return Err(self.flaw(Fault::TooManyFields(columns)));
        }
        let start = self.fields.last().map_or(0, |field| field.end);
        if !self.shape.is_well_closed(&self.text[start..self.text_bytes]) {
            return Err(self.flaw(Fault::AfterQuote));
        }
        self.fields.push(Field { at: self.shape.at, end: self.text_bytes });
        Ok(())
    }

    fn end_record(&mut self, take: &mut impl Take) -> Result<(), ListError> {
        let record = Record { text: &self.text[..self.text_bytes], fields: &self.fields };
        if let Some(header) = &self.header {
            let (given, wanted) = (self.fields.len(), header.columns());
            if given < wanted {
                let fault = Fault::TooFewFields { given, wanted };
                return Err(Flaw { at: self.at, column: header.name(given), fault }.into());
            }
            record.write(header, &mut self.json)?;
            if self.json.len() > RECORD_BYTES_MAX {
                return Err(self.record_at.flaw(Fault::TooLong).into());
            }
            take.take(Line { number: self.record_at.line, json: &self.json })?;
        } else {
            self.header = Some(Header::read(record, &self.needs)?);
        }
        self.fields.clear();
        self.text_bytes = 0;
        self.record_bytes = 0;
        Ok(())
    }

    fn too_long(&self) -> Flaw {
        if self.shape.is_quoted() {
            self.flaw(Fault::TooLongInQuotes)
        } else {
            self.record_at.flaw(Fault::TooLong)
        }
    }

    /// A flaw of the field in hand.
    fn flaw(&self, fault: Fault) -> Flaw {
        let header = self.header.as_ref();
        let column = header.and_then(|header| header.name(self.fields.len()));
        Flaw { at: self.shape.at, column, fault }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{collection::vec, prelude::*, sample::select};
    use serde_json::{Value, json};

    use super::*;

    #[derive(Default)]
    struct Taken(Vec<(u64, Value)>);

    impl Take for Taken {
        fn take(&mut self, line: Line<'_>) -> Result<(), ListError> {
            self.0.push((line.number, serde_json::from_slice(line.json).unwrap()));
            Ok(())
        }
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn needs(used: &[&str], defaults: &[&str]) -> Needs {
        Needs { used: names(used), defaults: names(defaults) }
    }

    /// Reads a list that comes in pieces of this many bytes.
    fn read(list: &[u8], cut: usize, needs: Needs) -> Result<Vec<(u64, Value)>, Flaw> {
        let (mut reader, mut taken) = (CsvReader::new(needs), Taken::default());
        let mut pieces = list.chunks(cut);
        let done = pieces.try_for_each(|piece| reader.push(piece, &mut taken));
        match done.and_then(|()| reader.finish(&mut taken)) {
            Ok(()) => Ok(taken.0),
            Err(ListError::Flawed(flaw)) => Err(flaw),
            Err(other) => panic!("{other}"),
        }
    }

    /// What is wrong with a list, however it is cut.
    fn flaw(list: &[u8]) -> String {
        let told = read(list, usize::MAX, needs(&["name"], &["name"])).unwrap_err();
        for cut in [1, 2, 3, 7] {
            assert_eq!(read(list, cut, needs(&["name"], &["name"])).unwrap_err(), told);
        }
        told.to_string()
    }

    #[test]
    fn a_record_becomes_a_recipient() {
        let list = b"name,to,age,reference\r\nAnn,+15551230001,33,user-1\r\n\
            \"O\"\"Neill, Bob\",+15551230002,,\r\n\r\n\"two\nlines\",+15551230003,7,\"r\"\r\n\
            {{x}}\\\t,+15551230004,,";
        let expected = vec![
            (2, json!({"to": "+15551230001", "reference": "user-1", "variables": {"name": "Ann"}})),
            (3, json!({"to": "+15551230002", "variables": {"name": "O\"Neill, Bob"}})),
            (
                5,
                json!({"to": "+15551230003", "reference": "r", "variables": {"name": "two\nlines"}}),
            ),
            (7, json!({"to": "+15551230004", "variables": {"name": "{{x}}\\\t"}})),
        ];
        for cut in 1..list.len() {
            assert_eq!(read(list, cut, needs(&["name"], &[])).unwrap(), expected, "{cut}");
        }
    }

    #[test]
    fn only_what_the_body_uses_is_taken() {
        let list = b"to,first name,name,\n+15551230001,x,y,z\n";
        let taken = |used: &[&str]| read(list, 5, needs(used, &[])).unwrap()[0].1.clone();
        assert_eq!(taken(&[]), json!({"to": "+15551230001"}));
        let variables = json!({"name": "y", "to": "+15551230001"});
        assert_eq!(taken(&["name", "to"]), json!({"to": "+15551230001", "variables": variables}));
    }

    #[test]
    fn an_empty_field_is_the_batchs_own_value_if_there_is_one() {
        let list = b"to,name,code\n+15551230001,,\n";
        let taken = read(list, 5, needs(&["name", "code"], &["name"])).unwrap();
        assert_eq!(taken[0].1["variables"], json!({"code": ""}));
        let taken = read(list, 5, needs(&["name", "code"], &["name", "code"])).unwrap();
        assert_eq!(taken[0].1, json!({"to": "+15551230001"}));
    }

    #[test]
    fn blanks_around_names_and_ends_of_any_kind_are_taken() {
        for list in [
            "to , name\n+15551230001,Ann",
            "\n\r\n\"to\",\"name\"\r+15551230001,Ann\r",
            "to,name\r\n+15551230001,\"Ann\"\n\n\n",
            "to,name\n\"+15551230001\",\"Ann\"",
        ] {
            let taken = read(list.as_bytes(), 3, needs(&["name"], &[])).unwrap();
            assert_eq!(taken.len(), 1, "{list:?}");
            assert_eq!(taken[0].1["variables"]["name"], "Ann", "{list:?}");
        }
        assert!(read(b"to", 1, Needs::default()).unwrap().is_empty());
    }

    #[test]
    fn a_flaw_is_placed() {
        for (list, told) in [
            (&b""[..], "1:1: the list is empty"),
            (b"\r\n\n", "1:1: the list is empty"),
            (b"\xef\xbb\xbfto\n", "1:1: the header has no column `to`, but `\u{feff}to` (commas"),
            (b"phone,name\n", "1:1: the header has no column `to`, but `phone`, `name`"),
            (b"to,name,to\n", "1:9: `to`: the header has two columns of this name"),
            (b"to,name, name\n", "1:9: `name`: the header has two columns"),
            (b"to,name\n+1,a,b\n", "2:6: the record goes on here, where the header ends after 2"),
            (b"to,name\n+1,a,\n", "2:6: the record goes on here"),
            (b"to,name\n\n+1\n+2,b", "3:3: `name`: the record ends here after 1 of 2 fields"),
            (b"to,name\n+1", "2:3: `name`: the record ends here after 1 of 2 fields"),
            (b"to,name\n\"x\ny\"\n", "3:3: `name`: the record ends here after 1 of 2 fields"),
            (b"to,name\n+1,a\n\xc3\xa9,\xff\n", "3:3: `name`: the text is not UTF-8"),
            (b"to,x\n+1,\xc3\n", "2:4: `x`: the text is not UTF-8"),
            (b"to,x,y\n+1,\xc3,\xa9\n", "2:4: `x`: the text is not UTF-8"),
            (b"\xff\xfet\0o\0", "1:1: the text holds the character NUL"),
            (b"\xff\xfeto", "1:1: the text is not UTF-8"),
            (b"to,x\n+1,a\0b\n", "2:4: `x`: the text holds the character NUL"),
            (b"to,name\n+1,\"Ann\n+2,Bob\n", "2:4: `name`: the quote that opens here is never"),
            (b"to\n\"", "2:1: `to`: the quote that opens here is never closed"),
            (b"\"to\n+1\n", "1:1: the quote that opens here is never closed"),
            (b"to,name\n+1,\"A\"nn\n", "2:4: `name`: text follows the quote that closes"),
            (b"to,name\n+1,\"A\" \n", "2:4: `name`: text follows the quote that closes"),
            (b"to,name\n+1,\"A\"n\"n\"\n", "2:4: `name`: text follows the quote that closes"),
            (b"to,name\n+1,\"A\"\"\"n\"\"\n", "2:4: `name`: text follows the quote that closes"),
        ] {
            let flaw = flaw(list);
            assert!(flaw.starts_with(told), "{flaw} of {:?}", String::from_utf8_lossy(list));
        }
    }

    #[test]
    fn a_variable_that_no_column_and_no_default_gives_is_missed_at_once() {
        let flaw = read(b"to,Name\n", 9, needs(&["name"], &[])).unwrap_err();
        assert_eq!(flaw.at, Place::START);
        assert!(flaw.to_string().contains("{{name}}"), "{flaw}");
        assert!(read(b"to,Name\n", 9, needs(&["name"], &["name"])).is_ok());
    }

    #[test]
    fn a_record_takes_64_kib_at_most() {
        let record = |bytes: usize| format!("to,x\n+1,a\n+2,{}\n+3,c", "x".repeat(bytes - 3));
        assert_eq!(
            read(record(RECORD_BYTES_MAX).as_bytes(), 999, Needs::default()).unwrap().len(),
            3
        );
        let long = record(RECORD_BYTES_MAX + 1);
        assert_eq!(flaw(long.as_bytes()), "3:1: the record is longer than 65536 bytes");
        // One quote too many makes one record of all that follows.
        let quoted = format!("to,x\n+1,\"a\n{}", "+2,b\n".repeat(20_000));
        let told =
            "2:4: `x`: the record is longer than 65536 bytes; is the quote that opens here closed?";
        assert_eq!(flaw(quoted.as_bytes()), told);
        // As JSON it would be longer than a line may be.
        let escaped = format!("to,x\n+1,{}\n", "\u{1}".repeat(20_000));
        let told = read(escaped.as_bytes(), 999, needs(&["x"], &[])).unwrap_err();
        assert_eq!(told.to_string(), "2:1: the record is longer than 65536 bytes");
        let header = flaw(",".repeat(70_000).as_bytes());
        assert_eq!(header, "1:1: the record is longer than 65536 bytes");
    }

    /// Writes a field as RFC 4180 has it, in quotes if it needs them or `always`.
    fn written(field: &str, always: bool) -> String {
        if always || field.contains(['"', ',', '\r', '\n']) {
            format!("\"{}\"", field.replace('"', "\"\""))
        } else {
            field.to_owned()
        }
    }

    fn field() -> impl Strategy<Value = (String, bool)> {
        const CHARACTERS: [char; 13] =
            ['a', '"', '"', ',', '\r', '\n', 'é', '日', '😀', ' ', '\\', '{', '\u{1}'];
        let text = vec(select(&CHARACTERS[..]), 0..9).prop_map(String::from_iter);
        (text, any::<bool>())
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back_wherever_it_is_cut(
            records in vec([field(), field(), field(), field()], 0..12),
            ends in select(&["\n", "\r\n"][..]),
            ends_last in any::<bool>(),
            cut in 1..40_usize,
        ) {
            let mut list = format!("to,reference,name,unused{ends}");
            for record in &records {
                let fields = record.iter().map(|(text, always)| written(text, *always));
                list += &(fields.collect::<Vec<_>>().join(",") + ends);
            }
            let list = if ends_last { &list } else { list.strip_suffix(ends).unwrap() };
            let taken = read(list.as_bytes(), cut, needs(&["name"], &[])).unwrap();
            prop_assert_eq!(taken.len(), records.len());
            for ((_, recipient), [to, reference, name, _]) in taken.iter().zip(&records) {
                prop_assert_eq!(&recipient["to"], &to.0);
                prop_assert_eq!(recipient["reference"].as_str().unwrap_or_default(), &reference.0);
                prop_assert_eq!(&recipient["variables"]["name"], &name.0);
            }
        }

        #[test]
        fn no_bytes_make_it_panic_and_the_cut_changes_nothing(
            bytes in vec(select(&b"to,\"\r\n\xff\xc3\xa9\0a"[..]), 0..60),
            cut in 1..9_usize,
        ) {
            let list = [b"to,name\n", &bytes[..]].concat();
            let whole = read(&list, usize::MAX, needs(&["name"], &[]));
            prop_assert_eq!(read(&list, cut, needs(&["name"], &[])), whole);
        }
    }
}
