//! The recipients of a batch that comes piece by piece, written as lines or as a table.

use super::{
    Refusal,
    lines::Lines,
    recipients::{Rest, Sink},
    table::Table,
};
use crate::{api::model::OnInvalid, domain::chunk::NewChunk};

/// Reads the recipients as their bytes come.
pub(in crate::api) struct Rows {
    form: Form,
    sink: Sink,
    on_invalid: OnInvalid,
}

/// How the recipients are written.
pub(super) enum Form {
    /// One a line, as JSON.
    Lines(Lines),
    /// As CSV.
    Table(Box<Table>),
}

// === impl Rows ===

impl Rows {
    pub(super) fn new(form: Form, sink: Sink, on_invalid: OnInvalid) -> Self {
        Self { form, sink, on_invalid }
    }

    /// Reads the next piece of the body, and gives the chunks it filled.
    ///
    /// # Errors
    /// [`Refusal`] with the first record that is wrong.
    pub(in crate::api) fn take(&mut self, piece: &[u8]) -> Result<Vec<NewChunk>, Refusal> {
        match &mut self.form {
            Form::Lines(lines) => lines.take(piece, &mut self.sink)?,
            Form::Table(table) => table.take(piece, &mut self.sink)?,
        }
        self.sink.take_chunks()
    }

    /// Whether [`Self::take`] may wait for the disk.
    pub(in crate::api) fn may_block(&self) -> bool {
        self.sink.compares()
    }

    /// Whether the client wants no batch with invalid recipients, and there are some.
    pub(in crate::api) fn reject(&self) -> bool {
        self.sink.judge_invalid(self.on_invalid).is_err()
    }

    /// Ends the body. Its last record need not have an end of its own.
    ///
    /// # Errors
    /// [`Refusal`], of the last record or of the whole.
    pub(in crate::api) fn finish(mut self) -> Result<Rest, Refusal> {
        match &mut self.form {
            Form::Lines(lines) => lines.finish(&mut self.sink)?,
            Form::Table(table) => table.finish(&mut self.sink)?,
        }
        self.sink.judge_invalid(self.on_invalid)?;
        self.sink.finish()
    }
}
