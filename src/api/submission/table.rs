//! Reads the body of a batch that comes as CSV (RFC 4180): a header line, then a recipient a record.
//! The batch itself comes apart, as `settings`: in the query, or as the first part of a form.
//!
//! The column `to` is needed, `reference` is taken if it is there, and a column whose name the body
//! uses is a variable. Pointers begin with the number of the line that a record begins in, from 1; a
//! flaw of the CSV itself is told with its column's name.

use super::{
    LINE_BYTES_MAX, Refusal, Rules,
    document::{Document, Root},
    recipients::{Element, Sink},
    rows::{Form, Rows},
    variables::Pairs,
};
use crate::{
    api::json::{self, Faults, Pointer},
    domain::{
        batch::BatchSpec,
        list::{
            BYTE_ORDER_MARK, Line, RECORD_BYTES_MAX, Take,
            csv::CsvReader,
            flaw::{Fault, Flaw, ListError},
            header::Needs,
        },
        template::Template,
    },
};

// What is said of a line holds for a record.
const _: () = assert!(LINE_BYTES_MAX == RECORD_BYTES_MAX);

/// Reads the recipients' records.
pub(super) struct Table {
    reader: CsvReader,
    /// The first bytes, as long as they may be the beginning of a byte order mark.
    start: Option<Vec<u8>>,
}

/// Takes recipients one by one, up to the first that is wrong.
struct Taker<'s> {
    sink: &'s mut Sink,
    refusal: Option<Refusal>,
}

/// Reads and judges the `settings`: the batch without its recipients. Gives the batch, and the reader
/// of the body to come.
///
/// # Errors
/// [`Refusal`], with everything that is wrong.
pub(in crate::api) fn begin(
    settings: &[u8],
    rules: &Rules<'_>,
) -> Result<(BatchSpec, Rows), Refusal> {
    let at = Pointer::Key(&Pointer::Root, "settings");
    let (mut document, mut faults) = (Document::default(), Faults::default());
    let root = Root { at: &at, document: &mut document, sink: None, faults: &mut faults };
    if let Err(flaw) = json::read(settings, root) {
        let mut faults = Faults::default();
        faults.add(&at, "invalid_json", flaw);
        return Err(Refusal::Fields(faults.into_errors()));
    }
    let (on_invalid, duplicates) = (document.on_invalid, document.duplicates);
    let spec = document.is_object.then(|| document.into_spec(rules, &at, &mut faults));
    let Some(spec) = spec.filter(|_| faults.is_empty()) else {
        return Err(Refusal::Fields(faults.into_errors()));
    };
    let table = Table { reader: CsvReader::new(needs(&spec)), start: Some(Vec::new()) };
    let sink = Sink::new(rules, duplicates);
    Ok((spec, Rows::new(Form::Table(Box::new(table)), sink, on_invalid)))
}

/// Which columns are variables, and which of them have a value for all.
fn needs(spec: &BatchSpec) -> Needs {
    // The body was compiled when it was judged.
    let template = Template::compile(spec.body.as_str()).ok();
    let used = template.iter().flat_map(Template::variables).map(str::to_owned).collect();
    Needs { used, defaults: spec.variables.keys().cloned().collect() }
}

// === impl Table ===

impl Table {
    pub(super) fn take(&mut self, piece: &[u8], sink: &mut Sink) -> Result<(), Refusal> {
        let Some(mut start) = self.start.take() else { return self.read(piece, sink) };
        start.extend_from_slice(piece);
        if start.len() < BYTE_ORDER_MARK.len() && BYTE_ORDER_MARK.starts_with(&start) {
            self.start = Some(start);
            return Ok(());
        }
        self.read(start.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&start), sink)
    }

    pub(super) fn finish(&mut self, sink: &mut Sink) -> Result<(), Refusal> {
        if let Some(start) = self.start.take() {
            self.read(&start, sink)?;
        }
        let mut taker = Taker { sink, refusal: None };
        let done = self.reader.finish(&mut taker);
        taker.refused(done)
    }

    fn read(&mut self, bytes: &[u8], sink: &mut Sink) -> Result<(), Refusal> {
        let mut taker = Taker { sink, refusal: None };
        let done = self.reader.push(bytes, &mut taker);
        taker.refused(done)
    }
}

// === impl Taker ===

impl Take for Taker<'_> {
    fn take(&mut self, line: Line<'_>) -> Result<(), ListError> {
        let mut faults = Faults::default();
        let at = Pointer::Index(&Pointer::Root, line.number);
        let (sink, mut pairs) = (&mut *self.sink, Pairs::new());
        let element = Element { at, sink, pairs: &mut pairs, faults: &mut faults };
        if let Err(flaw) = json::read(line.json, element) {
            faults.add(&at, "invalid_text", flaw);
        }
        if faults.is_empty() {
            return Ok(());
        }
        self.refusal = Some(Refusal::Fields(faults.into_errors()));
        Err(ListError::Unwanted)
    }
}

impl Taker<'_> {
    fn refused(self, done: Result<(), ListError>) -> Result<(), Refusal> {
        match (self.refusal, done) {
            (Some(refusal), _) => Err(refusal),
            (None, Ok(())) => Ok(()),
            (None, Err(ListError::Flawed(flaw))) => Err(flawed(&flaw)),
            // Bytes in memory can be read, and only a refusal breaks off.
            (None, Err(error)) => Err(Refusal::Syntax(error.to_string())),
        }
    }
}

/// What a flaw of the CSV means for the submission.
fn flawed(flaw: &Flaw) -> Refusal {
    let code = match &flaw.fault {
        Fault::TooLong | Fault::TooLongInQuotes => {
            return Refusal::LineTooLong { line: flaw.at.line };
        }
        Fault::NoHeader => "empty",
        Fault::NoRecipients(_) | Fault::NoVariable(_) => "missing",
        Fault::DuplicateColumn => "duplicate_field",
        Fault::NotUtf8 | Fault::Nul => "invalid_text",
        Fault::TooManyFields(_)
        | Fault::TooFewFields { .. }
        | Fault::AfterQuote
        | Fault::Unclosed
        | Fault::NoRecipient(_) => "invalid_csv",
    };
    let line = Pointer::Index(&Pointer::Root, flaw.at.line);
    let column = match &flaw.fault {
        Fault::NoRecipients(_) => Some("to"),
        Fault::NoVariable(name) => Some(name.as_str()),
        _ => flaw.column.as_deref(),
    };
    let at = column.map_or(line, |column| Pointer::Key(&line, column));
    let mut faults = Faults::default();
    match &flaw.fault {
        Fault::NoVariable(name) => {
            let detail = format_args!(
                "the body uses {{{{{name}}}}}, and there is neither a column for it nor a value \
                 in `variables`"
            );
            faults.add(&at, code, detail);
        }
        fault => {
            let place = flaw.at;
            let detail = format_args!("line {}, column {}: {fault}", place.line, place.column);
            faults.add(&at, code, detail);
        }
    }
    Refusal::Fields(faults.into_errors())
}
