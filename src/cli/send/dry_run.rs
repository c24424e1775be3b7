//! `--dry-run`: reads the whole list, shows what would be sent, and sends nothing.
//!
//! Each recipient is judged as the server will judge it: the very JSON that would be uploaded, its
//! number by form, its message rendered. Memory is that of the few that are shown.

use std::fmt::{self, Write};

use serde::Serialize;

use super::{
    list::{List, Progress},
    recipient::Recipient as Given,
    upload,
};
use crate::{
    cli::{
        Failure, print,
        table::{self, Table, plain},
    },
    domain::{
        chunk::Entry,
        composer::{Composer, Unfit},
        list::{Line, Take, flaw::ListError, header::Needs},
        recipient::{InvalidNumber, Recipient},
        template::RenderError,
    },
};

/// How many messages are shown.
const MESSAGES_SHOWN: usize = 3;

/// How many problems are shown.
const PROBLEMS_SHOWN: usize = 10;

/// What a list comes to.
#[derive(Debug, Serialize)]
pub(super) struct DryRun<'a> {
    /// All recipients.
    recipients: u64,
    /// Those that are no E.164 numbers.
    invalid_numbers: u64,
    /// Those that lack a variable of the body.
    missing_variables: u64,
    /// Those that can't be sent to for another reason.
    others: u64,
    /// The first problems.
    problems: Vec<Problem>,
    /// The first messages.
    messages: Vec<Message>,
    #[serde(skip)]
    composer: &'a Composer,
    /// Kept to use its memory again.
    #[serde(skip)]
    body: String,
}

/// A recipient that can't be sent to.
#[derive(Debug, Serialize)]
struct Problem {
    /// The line of the list that it begins in.
    line: u64,
    to: String,
    detail: String,
}

/// A message as it would be sent.
#[derive(Debug, Serialize)]
struct Message {
    to: String,
    body: String,
}

/// Why a recipient can't be sent to.
#[derive(Debug, PartialEq, Eq)]
enum Reason {
    /// Its number is none.
    Number,
    /// It lacks this variable.
    Variable(String),
    /// What this says.
    Other(String),
}

// === impl DryRun ===

impl<'a> DryRun<'a> {
    pub(super) fn new(composer: &'a Composer) -> Self {
        Self {
            recipients: 0,
            invalid_numbers: 0,
            missing_variables: 0,
            others: 0,
            problems: Vec::new(),
            messages: Vec::new(),
            composer,
            body: String::new(),
        }
    }

    /// Reads the list and tells of it.
    ///
    /// # Errors
    /// [`Failure::Usage`] if the list is flawed; [`Failure::Silent`] if there are recipients that
    /// can't be sent to.
    pub(super) fn run(mut self, list: &List, needs: &Needs, json: bool) -> Result<(), Failure> {
        let read = list.read(needs, &Progress::default(), &mut self);
        read.map_err(|error| upload::flawed(list, &error))?;
        print(&if json { table::json_line(&self)? } else { self.text(&list.name()) })?;
        if self.problems.is_empty() { Ok(()) } else { Err(Failure::Silent) }
    }

    /// Judges a recipient; leaves its message in `self.body`.
    fn judge(&mut self, given: &Given<'_>) -> Result<(), Reason> {
        Recipient::parse(&given.to).map_err(|InvalidNumber| Reason::Number)?;
        let own = given.values().map_err(Reason::Other)?;
        let variables = own.iter().map(|(name, value)| (&**name, &**value)).collect();
        let entry = Entry { to: &given.to, reference: None, variables };
        self.composer.write(&entry, &mut self.body).map_err(|unfit| match unfit {
            Unfit::Render(RenderError::Missing(name)) => Reason::Variable(name),
            other => Reason::Other(other.to_string()),
        })
    }

    fn count(&mut self, reason: &Reason) {
        match reason {
            Reason::Number => self.invalid_numbers += 1,
            Reason::Variable(_) => self.missing_variables += 1,
            Reason::Other(_) => self.others += 1,
        }
    }

    fn text(&self, list: &str) -> String {
        let mut text = Table::of_pairs([
            ("recipients", table::number(self.recipients)),
            ("with an invalid number", table::number(self.invalid_numbers)),
            ("without a value for a variable", table::number(self.missing_variables)),
            ("unfit for another reason", table::number(self.others)),
        ])
        .text();
        // Writing to a string can't fail.
        for Problem { line, to, detail } in &self.problems {
            let _ = write!(text, "\n{list}:{line}: `{}`: {}", plain(to), plain(detail));
        }
        let problems = self.invalid_numbers + self.missing_variables + self.others;
        match problems - self.problems.len() as u64 {
            0 if self.problems.is_empty() => {}
            0 => text.push('\n'),
            further => {
                let _ = write!(text, "\nand {} more\n", table::number(further));
            }
        }
        for Message { to, body } in &self.messages {
            let _ = write!(text, "\nto {to}:\n");
            for line in body.lines() {
                let _ = writeln!(text, "  {}", plain(line));
            }
        }
        text + "\nNothing was sent: this was a dry run.\n"
    }
}

impl Take for DryRun<'_> {
    fn take(&mut self, line: Line<'_>) -> Result<(), ListError> {
        self.recipients += 1;
        let text = String::from_utf8_lossy(line.json);
        let given = Given::parse(&text);
        let (to, judged) = match &given {
            Ok(given) => (&*given.to, self.judge(given)),
            Err(unfit) => ("", Err(Reason::Other(unfit.detail.clone()))),
        };
        match judged {
            Ok(()) if self.messages.len() < MESSAGES_SHOWN => {
                self.messages.push(Message { to: to.to_owned(), body: self.body.clone() });
            }
            Ok(()) => {}
            Err(reason) => {
                self.count(&reason);
                if self.problems.len() < PROBLEMS_SHOWN {
                    let (line, to, detail) = (line.number, to.to_owned(), reason.to_string());
                    self.problems.push(Problem { line, to, detail });
                }
            }
        }
        Ok(())
    }
}

// === impl Reason ===

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number => InvalidNumber.fmt(f),
            Self::Variable(name) => RenderError::Missing(name.clone()).fmt(f),
            Self::Other(detail) => f.write_str(detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::batch::BatchSpec;

    fn composer(body: &str, defaults: &[(&str, &str)]) -> Composer {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let variables = defaults.iter().map(own).collect();
        Composer::new(&BatchSpec { body: body.to_owned(), variables, ..BatchSpec::default() })
    }

    fn dry_run<'a>(composer: &'a Composer, list: &[&str]) -> DryRun<'a> {
        let mut dry_run = DryRun::new(composer);
        for (number, json) in (2..).zip(list) {
            dry_run.take(Line { number, json: json.as_bytes() }).unwrap();
        }
        dry_run
    }

    #[test]
    fn a_value_of_ones_own_goes_before_the_batchs() {
        let composer = composer("Hi {{name}}: {{code}}", &[("name", "there")]);
        let list = [
            r#"{"to":"+15551230001","variables":{"name":"Ann","code":81}}"#,
            r#"{"to":"+15551230002","variables":{"code":"8\u0032"}}"#,
        ];
        let dry_run = dry_run(&composer, &list);
        let bodies: Vec<&str> = dry_run.messages.iter().map(|m| m.body.as_str()).collect();
        assert_eq!(bodies, ["Hi Ann: 81", "Hi there: 82"]);
        assert!(dry_run.problems.is_empty());
    }

    #[test]
    fn each_problem_is_counted_for_what_it_is_and_told_with_its_line() {
        let composer = composer("Hi {{name}}", &[]);
        let list = [
            "\"+15551230001\"",
            r#"{"to":"nobody","variables":{"name":"Ann"}}"#,
            r#"{"to":"+15551230003","variables":{"name":null}}"#,
            r#"{"to":"+15551230004","variables":{"name":"Bob"}}"#,
        ];
        let dry_run = dry_run(&composer, &list);
        let counts = (dry_run.recipients, dry_run.missing_variables, dry_run.invalid_numbers);
        assert_eq!((counts, dry_run.others), ((4, 1, 1), 1));
        let text = dry_run.text("list.ndjson");
        for told in [
            "list.ndjson:2: `+15551230001`: no value for the variable name\n",
            "list.ndjson:3: `nobody`: not an E.164 number",
            "list.ndjson:4: `+15551230003`: its variable name is not a string",
            "to +15551230004:\n  Hi Bob\n",
        ] {
            assert!(text.contains(told), "{told:?} is not in\n{text}");
        }
    }

    #[test]
    fn few_are_shown_of_many() {
        let composer = composer("Hi", &[]);
        let list = ["\"+15551230001\"", "\"1\""].repeat(5_000);
        let dry_run = dry_run(&composer, &list);
        assert_eq!((dry_run.recipients, dry_run.invalid_numbers), (10_000, 5_000));
        assert_eq!((dry_run.problems.len(), dry_run.messages.len()), (10, 3));
        assert!(dry_run.text("x").contains("\nand 4,990 more\n"));
    }
}
