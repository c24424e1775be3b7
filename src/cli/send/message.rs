//! What is sent: everything a batch is but for its recipients, from the command line.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    num::NonZeroU8,
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::value::RawValue;

use crate::{
    api::model::{Duplicates, OnInvalid, SubmitBatch, VariableValue},
    cli::Failure,
    domain::{
        batch::{BatchSpec, DeliveryGuarantee, Priority},
        composer::Composer,
        list::header::Needs,
        template::{self, Template},
        units::{InvalidRate, Rate},
    },
};

/// The longest file that is read as a body, in bytes; the server takes less.
const BODY_FILE_BYTES_MAX: u64 = 64 * 1024;

/// What is sent.
#[derive(Debug, Args)]
#[command(next_help_heading = "Message")]
pub(super) struct Message {
    /// The text of each message, with variables as in {{name}}
    #[arg(long, value_name = "TEXT", required_unless_present = "body_file")]
    body: Option<String>,

    /// A file with the text; a line break at its end is not part of it
    #[arg(long, value_name = "FILE", conflicts_with = "body")]
    body_file: Option<PathBuf>,

    /// The sender
    #[arg(long, value_name = "SENDER")]
    from: Option<String>,

    /// The provider the messages leave through; the server's default if not given
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,

    /// A variable's value for recipients that give none; may be given more than once
    #[arg(long = "variable", value_name = "NAME=VALUE", value_parser = variable)]
    variables: Vec<(String, String)>,

    /// Where the server reports the end of the batch
    #[arg(long, value_name = "URL")]
    callback_url: Option<String>,

    /// Your own name for the batch
    #[arg(long, value_name = "NAME")]
    reference: Option<String>,

    /// Any JSON of yours, given back as it is
    #[arg(long, value_name = "JSON", value_parser = json)]
    metadata: Option<Box<RawValue>>,

    /// When the first message may leave, as in 2026-12-01T09:00:00Z; at once if not given
    #[arg(long, value_name = "TIME", value_parser = instant)]
    send_at: Option<jiff::Timestamp>,

    /// What has not left by then never does; no end if not given
    #[arg(long, value_name = "TIME", value_parser = instant)]
    expire_at: Option<jiff::Timestamp>,

    /// How often the batch has a turn, beside others
    #[arg(long, value_name = "PRIORITY", default_value = "normal", value_parser = priority)]
    priority: Priority,

    /// How fast messages leave at most, as in 50/s: to spread the batch over time
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: Option<Rate>,

    /// No message goes twice: one that may or may not have gone ends as unknown
    #[arg(long)]
    at_most_once: bool,

    /// Of recipients with one number only the first gets a message
    #[arg(long)]
    skip_duplicates: bool,

    /// Replace typographic characters by those of GSM-7, where that makes a text shorter to send
    #[arg(long)]
    smart_encoding: bool,

    /// A message of more segments is not sent, and fails
    #[arg(long, value_name = "N")]
    max_segments: Option<NonZeroU8>,

    /// What becomes of recipients that are no E.164 numbers
    #[arg(long, value_enum, value_name = "WHAT", default_value = "fail-message")]
    on_invalid: WhenInvalid,
}

/// What becomes of recipients that are no E.164 numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum WhenInvalid {
    /// Each becomes a failed message, and the others are sent
    FailMessage,
    /// Nothing is sent
    RejectBatch,
}

/// A message that the list can be read for.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The batch without its recipients.
    pub(super) head: SubmitBatch,
    /// What makes its texts.
    pub(super) composer: Composer,
    /// What the body asks of the list.
    pub(super) needs: Needs,
}

// === impl Message ===

impl Message {
    /// Reads what is to be read, and compiles the body.
    ///
    /// # Errors
    /// [`Failure::Usage`].
    pub(super) fn prepare(&self) -> Result<Prepared, Failure> {
        let body = match &self.body_file {
            Some(path) => body_of(path)?,
            None => self.body.clone().unwrap_or_default(),
        };
        if body.is_empty() {
            return Err(Failure::Usage("the body can't be used: it is empty".to_owned()));
        }
        let unfit = |error: &dyn std::error::Error| {
            Failure::Usage(format!("the body can't be used: {error}"))
        };
        let template = Template::compile(body.as_str()).map_err(|error| unfit(&error))?;
        let used = template.variables().map(str::to_owned).collect();
        let defaults = self.defaults()?;
        let needs = Needs { used, defaults: defaults.keys().cloned().collect() };
        let text = |value: &str| VariableValue::Text(value.to_owned());
        let variables = defaults.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        let composer = Composer::new(&BatchSpec {
            body: body.clone(),
            variables: defaults,
            smart_encoding: self.smart_encoding,
            segments_max: self.max_segments,
            ..BatchSpec::default()
        });
        let head = SubmitBatch {
            from: self.from.clone(),
            body,
            recipients: Vec::new(),
            variables,
            callback_url: self.callback_url.clone(),
            provider: self.provider.clone(),
            reference: self.reference.clone(),
            metadata: self.metadata.clone(),
            send_at: self.send_at.map(|at| at.to_string()),
            expire_at: self.expire_at.map(|at| at.to_string()),
            on_invalid: match self.on_invalid {
                WhenInvalid::FailMessage => OnInvalid::FailMessage,
                WhenInvalid::RejectBatch => OnInvalid::RejectBatch,
            },
            priority: self.priority,
            rate: self.rate.map(|rate| rate.to_string()),
            delivery_guarantee: if self.at_most_once {
                DeliveryGuarantee::AtMostOnce
            } else {
                DeliveryGuarantee::AtLeastOnce
            },
            duplicates: if self.skip_duplicates { Duplicates::Skip } else { Duplicates::Keep },
            smart_encoding: self.smart_encoding,
            max_segments: self.max_segments.map(NonZeroU8::get),
            ..SubmitBatch::default()
        };
        Ok(Prepared { head, composer, needs })
    }

    fn defaults(&self) -> Result<BTreeMap<String, String>, Failure> {
        let mut defaults = BTreeMap::new();
        for (name, value) in &self.variables {
            if defaults.insert(name.clone(), value.clone()).is_some() {
                return Err(Failure::Usage(format!("--variable {name}=… is given twice")));
            }
        }
        Ok(defaults)
    }
}

fn body_of(path: &Path) -> Result<String, Failure> {
    let unreadable = |why: &str| Failure::Usage(format!("{}: {why}", path.display()));
    let read = File::open(path).and_then(|file| {
        let mut body = String::new();
        file.take(BODY_FILE_BYTES_MAX + 1).read_to_string(&mut body)?;
        Ok(body)
    });
    let mut body = read.map_err(|error| unreadable(&error.to_string()))?;
    if body.len() as u64 > BODY_FILE_BYTES_MAX {
        return Err(unreadable("is longer than a body may be"));
    }
    let text =
        body.strip_suffix('\n').map_or(&*body, |line| line.strip_suffix('\r').unwrap_or(line));
    body.truncate(text.len());
    Ok(body)
}

fn rate(text: &str) -> Result<Rate, InvalidRate> {
    text.parse()
}

fn priority(text: &str) -> Result<Priority, &'static str> {
    text.parse().map_err(|_| "this is high, normal or low")
}

fn instant(text: &str) -> Result<jiff::Timestamp, &'static str> {
    text.parse().map_err(|_| "this is an RFC 3339 time, as in 2026-12-01T09:00:00Z")
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if template::is_name(name) => Ok((name.to_owned(), value.to_owned())),
        Some(_) => Err("a variable's name is 1 to 64 letters, digits or underscores".to_owned()),
        None => Err("a variable is given as NAME=VALUE".to_owned()),
    }
}

fn json(text: &str) -> Result<Box<RawValue>, String> {
    RawValue::from_string(text.to_owned()).map_err(|error| format!("it is no JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use std::{fs, iter};

    use clap::{Parser, error::ErrorKind};

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        message: Message,
    }

    fn parsed(arguments: &[&str]) -> Result<Message, ErrorKind> {
        let command = Command::try_parse_from(iter::once(&"x").chain(arguments));
        command.map(|command| command.message).map_err(|error| error.kind())
    }

    fn prepared(arguments: &[&str]) -> Result<Prepared, String> {
        parsed(arguments).unwrap().prepare().map_err(|error| error.to_string())
    }

    #[test]
    fn a_message_says_what_it_needs_of_the_list() {
        let body = "Hi {{name}} {{ code }}, {{name}}";
        let prepared = prepared(&["--body", body, "--variable", "name=a=b", "--variable", "x="]);
        let Prepared { needs, head, .. } = prepared.unwrap();
        assert_eq!(needs.used.into_iter().collect::<Vec<_>>(), ["code", "name"]);
        assert_eq!(needs.defaults.into_iter().collect::<Vec<_>>(), ["name", "x"]);
        let text = |text: &str| VariableValue::Text(text.to_owned());
        assert_eq!([&head.variables["name"], &head.variables["x"]], [&text("a=b"), &text("")]);
        assert_eq!((head.body.as_str(), head.variables.len()), (body, 2));
    }

    #[test]
    fn one_line_break_at_the_end_of_a_file_is_no_part_of_the_body() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, body) in [
            ("Hi\n", "Hi"),
            ("Hi\r\n", "Hi"),
            ("Hi\n\n", "Hi\n"),
            ("\nHi é", "\nHi é"),
            ("\r", "\r"),
        ] {
            fs::write(file.path(), text).unwrap();
            let prepared = prepared(&["--body-file", file.path().to_str().unwrap()]).unwrap();
            assert_eq!(prepared.head.body, body, "{text:?}");
        }
        fs::write(file.path(), "x".repeat(70_000)).unwrap();
        assert!(prepared(&["--body-file", file.path().to_str().unwrap()]).is_err());
        assert!(prepared(&["--body-file", "/nowhere/body"]).unwrap_err().contains("/nowhere/body"));
    }

    #[test]
    fn what_can_not_be_used_is_refused_here() {
        assert_eq!(parsed(&[]).unwrap_err(), ErrorKind::MissingRequiredArgument);
        let both = parsed(&["--body", "x", "--body-file", "y"]);
        assert_eq!(both.unwrap_err(), ErrorKind::ArgumentConflict);
        for wrong in [
            ["--max-segments", "0"],
            ["--max-segments", "256"],
            ["--variable", "x"],
            ["--variable", "a b=c"],
            ["--metadata", "{"],
        ] {
            let parsed = parsed(&["--body", "x", wrong[0], wrong[1]]);
            assert_eq!(parsed.unwrap_err(), ErrorKind::ValueValidation, "{wrong:?}");
        }
        assert!(prepared(&["--body", "Hi {{name"]).unwrap_err().contains("byte 3"));
        let twice = prepared(&["--body", "Hi", "--variable", "a=1", "--variable", "a=2"]);
        assert!(twice.unwrap_err().contains("twice"));
    }
}
