//! A recipient as the API takes it: a number, or an object with a number, a reference, variables.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Deserialize;
use serde_json::{Error, value::RawValue};

/// The values of variables, by their names.
pub(super) type Values<'a> = BTreeMap<Cow<'a, str>, Cow<'a, str>>;

/// A recipient, borrowed from its JSON wherever that holds no escapes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recipient<'a> {
    /// The number, as given.
    #[serde(borrow)]
    pub(super) to: Cow<'a, str>,
    #[serde(borrow, default, rename = "reference")]
    _reference: Option<Text<'a>>,
    #[serde(borrow, default)]
    variables: Option<&'a RawValue>,
}

/// Why a text is no recipient.
#[derive(Debug)]
pub(super) struct NoRecipient {
    /// The byte where that shows, from 1.
    pub(super) column: usize,
    /// What is wrong, in a sentence.
    pub(super) detail: String,
}

/// A string, borrowed if it can be.
#[derive(Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

// === impl Recipient ===

impl<'a> Recipient<'a> {
    /// Reads a line that has no blanks around it.
    ///
    /// # Errors
    /// [`NoRecipient`].
    pub(super) fn parse(json: &'a str) -> Result<Self, NoRecipient> {
        match json.as_bytes().first() {
            Some(b'{') => Ok(serde_json::from_str(json)?),
            Some(b'"') => {
                let Text(to) = serde_json::from_str(json)?;
                Ok(Self { to, _reference: None, variables: None })
            }
            _ => {
                let detail = "a recipient is a string or an object".to_owned();
                Err(NoRecipient { column: 1, detail })
            }
        }
    }

    /// Its own variables, each value as the message will show it.
    ///
    /// # Errors
    /// What is wrong with the first variable that can't be one.
    pub(super) fn values(&self) -> Result<Values<'a>, String> {
        let Some(raw) = self.variables else { return Ok(Values::new()) };
        let members: BTreeMap<Text<'a>, &'a RawValue> = serde_json::from_str(raw.get())
            .map_err(|_| "its `variables` are no object".to_owned())?;
        members
            .into_iter()
            .map(|(Text(name), raw)| Ok((name.clone(), value(&name, raw)?)))
            .collect()
    }
}

/// The value of a variable: a string's text; a number or boolean as it is written.
fn value<'a>(name: &str, raw: &'a RawValue) -> Result<Cow<'a, str>, String> {
    let json = raw.get();
    match json.as_bytes().first() {
        Some(b'"') => {
            let text: Result<Text<'a>, Error> = serde_json::from_str(json);
            text.map(|Text(text)| text).map_err(|_| format!("its variable {name} is no text"))
        }
        Some(b'{' | b'[' | b'n') => {
            Err(format!("its variable {name} is not a string, a number or a boolean"))
        }
        _ => Ok(Cow::Borrowed(json)),
    }
}

// === impl NoRecipient ===

impl From<Error> for NoRecipient {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        // The place is told as one of the list, not of this line.
        let detail = text.rsplit_once(" at line ").map_or(text.as_str(), |(detail, _)| detail);
        Self { column: error.column().max(1), detail: detail.to_owned() }
    }
}
