//! `--failed-to`: the recipients that did not go, as CSV.
//!
//! A line each: `to`, `reference`, `state`, and the error's `error_code` and `error_detail`, state
//! after state, in the order of the list within one. They are read page by page. The file is made
//! before anything is sent, so that it can't fail for where it is to be, and takes its name when it
//! is whole: whatever had that name before, the list perhaps, is kept until then.

use std::{
    fs::{self, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use futures_util::TryStreamExt;
use tempfile::NamedTempFile;

use crate::{
    api::model::{BatchResource, CountsView, MessageResource},
    cli::Failure,
    client::Client,
    domain::message::MessageState,
};

/// The first line.
const HEADER: &[u8] = b"to,reference,state,error_code,error_detail\r\n";

/// The file that is to be written.
pub(super) struct FailedTo {
    path: PathBuf,
    file: Target,
}

enum Target {
    /// Takes the name when it is whole.
    New(NamedTempFile),
    /// What is there and no regular file, such as a pipe.
    Device(fs::File),
}

// === impl FailedTo ===

impl FailedTo {
    /// Makes the file.
    ///
    /// # Errors
    /// [`Failure::Usage`] if it can't be written.
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let file = Self::target(path).map_err(|error| {
            Failure::Usage(format!("{} can't be written: {error}", path.display()))
        })?;
        Ok(Self { path: path.to_owned(), file })
    }

    fn target(path: &Path) -> io::Result<Target> {
        if path.exists() && !path.is_file() {
            return OpenOptions::new().write(true).open(path).map(Target::Device);
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        tempfile::Builder::new().prefix(".ringback-").tempfile_in(folder).map(Target::New)
    }

    /// Writes the messages of `batch` that did not go.
    ///
    /// # Errors
    /// [`Failure`] if they can't be read or written; then the file is not made.
    pub(super) async fn write(self, client: &Client, batch: &BatchResource) -> Result<(), Failure> {
        let path = self.path;
        let unwritten = |error: io::Error| {
            Failure::Failed(anyhow::anyhow!("{} can't be written: {error}", path.display()))
        };
        match self.file {
            Target::Device(file) => write_all(client, batch, &file, unwritten).await,
            Target::New(file) => {
                write_all(client, batch, file.as_file(), unwritten).await?;
                file.persist(&path).map(drop).map_err(|error| unwritten(error.error))
            }
        }
    }
}

async fn write_all(
    client: &Client,
    batch: &BatchResource,
    file: &fs::File,
    unwritten: impl Fn(io::Error) -> Failure,
) -> Result<(), Failure> {
    let mut out = BufWriter::new(file);
    out.write_all(HEADER).map_err(&unwritten)?;
    for (state, messages) in ended_badly(&batch.counts) {
        if messages == 0 {
            continue;
        }
        let mut messages = std::pin::pin!(client.all_messages(batch.id, Some(state)));
        while let Some(message) = messages.try_next().await? {
            write_record(&mut out, &message).map_err(&unwritten)?;
        }
    }
    out.flush().map_err(unwritten)
}

/// The states of messages that did not go, and how many are in each.
fn ended_badly(counts: &CountsView) -> [(MessageState, u64); 5] {
    [
        (MessageState::Failed, counts.failed),
        (MessageState::Undelivered, counts.undelivered),
        (MessageState::Expired, counts.expired),
        (MessageState::Canceled, counts.canceled),
        (MessageState::Unknown, counts.unknown),
    ]
}

fn write_record(out: &mut impl Write, message: &MessageResource) -> io::Result<()> {
    let (code, detail) =
        message.error.as_ref().map_or(("", ""), |error| (&error.code, &error.detail));
    let reference = message.reference.as_deref().unwrap_or_default();
    let fields = [&message.to, reference, message.state.word(), code, detail];
    for (index, field) in fields.into_iter().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        write_field(out, field)?;
    }
    out.write_all(b"\r\n")
}

/// Writes a field as it is, in quotes where RFC 4180 wants them.
fn write_field(out: &mut impl Write, field: &str) -> io::Result<()> {
    if field.bytes().any(|byte| matches!(byte, b',' | b'"' | b'\r' | b'\n')) {
        write!(out, "\"{}\"", field.replace('"', "\"\""))
    } else {
        out.write_all(field.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::model::MessageError;

    fn message(to: &str, reference: Option<&str>, detail: Option<&str>) -> MessageResource {
        let error = detail.map(|detail| MessageError {
            code: "rejected".into(),
            detail: detail.into(),
            provider_code: None,
            permanent: true,
        });
        MessageResource {
            id: String::new(),
            index: 0,
            to: to.into(),
            reference: reference.map(str::to_owned),
            state: MessageState::Failed,
            segments: None,
            encoding: None,
            attempts: 1,
            provider: "mock".into(),
            provider_message_id: None,
            error,
            updated_at: String::new(),
            late_receipt: None,
        }
    }

    #[test]
    fn a_record_is_one_whatever_is_in_it() {
        let mut out = Vec::new();
        write_record(&mut out, &message("+15551230001", None, None)).unwrap();
        let odd = message("=1+\"1\"", Some("a,b"), Some("no\r\nway"));
        write_record(&mut out, &odd).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "+15551230001,,failed,,\r\n\"=1+\"\"1\"\"\",\"a,b\",failed,rejected,\"no\r\nway\"\r\n"
        );
    }

    #[test]
    fn a_file_is_left_as_it_is_until_there_is_something_to_put_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list.csv");
        fs::write(&path, "to\n").unwrap();
        drop(FailedTo::create(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "to\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let nowhere = FailedTo::create(&folder.path().join("nowhere/failed.csv"));
        assert!(matches!(nowhere, Err(Failure::Usage(_))));
    }
}
