//! The header line of a CSV list: which column is what.
//!
//! `to` is needed, `reference` is taken if it is there, and a column whose name the body uses is a
//! variable. All others stay here: nothing is uploaded that no message needs.

use std::collections::BTreeSet;

use super::{
    flaw::{Fault, Flaw, Place},
    record::Record,
};

/// What the body asks for, and what the batch gives to everyone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needs {
    /// The names of the variables in the body.
    pub(crate) used: BTreeSet<String>,
    /// The names of those that have a value for recipients that give none.
    pub(crate) defaults: BTreeSet<String>,
}

/// The columns of a list, by their places in each record.
#[derive(Debug)]
pub(crate) struct Header {
    names: Vec<String>,
    /// The recipient's number.
    pub(crate) to: usize,
    /// The client's own name for the message.
    pub(crate) reference: Option<usize>,
    /// The variables of the body.
    pub(crate) variables: Vec<Variable>,
}

/// A column that the body uses.
#[derive(Debug)]
pub(crate) struct Variable {
    /// Its place in each record.
    pub(crate) column: usize,
    /// Its name as JSON, with the colon that follows it.
    pub(crate) key: String,
    /// Whether an empty field means the batch's own value.
    pub(crate) has_default: bool,
}

// === impl Header ===

impl Header {
    /// Judges the names in the first record. Blanks around a name don't count.
    ///
    /// # Errors
    /// The first flaw.
    pub(crate) fn read(record: Record<'_>, needs: &Needs) -> Result<Self, Flaw> {
        let mut names: Vec<String> = Vec::with_capacity(record.fields.len());
        for (index, field) in record.fields.iter().enumerate() {
            let name = record.text(index)?.trim().to_owned();
            if !name.is_empty() && names.contains(&name) {
                return Err(Flaw {
                    at: field.at,
                    column: Some(name),
                    fault: Fault::DuplicateColumn,
                });
            }
            names.push(name);
        }
        let column = |wanted: &str| names.iter().position(|name| name == wanted);
        let Some(to) = column("to") else {
            let others = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>();
            return Err(Place::START.flaw(Fault::NoRecipients(others.join(", "))));
        };
        let mut variables = Vec::new();
        for name in &needs.used {
            let has_default = needs.defaults.contains(name);
            match column(name) {
                // The name of a variable is letters, digits and underscores: nothing to escape.
                Some(column) => {
                    variables.push(Variable { column, key: format!("\"{name}\":"), has_default });
                }
                None if has_default => {}
                None => return Err(Place::START.flaw(Fault::NoVariable(name.clone()))),
            }
        }
        let reference = column("reference");
        Ok(Self { names, to, reference, variables })
    }

    /// How many columns there are.
    pub(crate) fn columns(&self) -> usize {
        self.names.len()
    }

    /// The name of a column, if it is there and has one.
    pub(crate) fn name(&self, column: usize) -> Option<String> {
        self.names.get(column).filter(|name| !name.is_empty()).cloned()
    }
}
