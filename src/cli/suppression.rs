//! `ringback suppression`: numbers that get nothing, at a server.

use std::{
    fs::File,
    io::{self, Read},
    num::NonZeroUsize,
    path::PathBuf,
};

use bytes::Bytes;
use clap::{Args, Subcommand};
use futures_util::{
    Stream, StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use tokio::task::spawn_blocking;

use super::{Failure, pour, print, remote::Remote, say, table};
use crate::{
    api::model::Suppressed,
    client::{Client, ClientError},
    domain::number::Number,
};

/// Numbers that are written at once.
const LINES: usize = 1_000;

/// How much of a table is read at once, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// List, add and remove numbers that get nothing from the account
#[derive(Debug, Args)]
pub(super) struct Suppression {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List numbers, one a line, in no order
    #[command(after_help = "Example:\n  ringback suppression list --limit 20")]
    List(List),
    /// Add numbers: messages to them fail from now on
    #[command(after_help = "Example:\n  ringback suppression add +15551230001 +15551230002")]
    Add(Add),
    /// Remove numbers: they get messages again
    #[command(after_help = "Example:\n  ringback suppression remove +15551230001")]
    Remove(Remove),
    /// Add the numbers of a CSV file of any length; exit code 1 if lines of it have none
    #[command(after_help = "Examples:\n  ringback suppression import optouts.csv\n  \
        cut -f2 crm.tsv | ringback suppression import -\n\n\
        The first line is a header with a column `number` or `to`.")]
    Import(Import),
    /// Print all numbers as CSV, as `import` takes it
    #[command(after_help = "Example:\n  ringback suppression export > optouts.csv")]
    Export(Export),
}

#[derive(Debug, Args)]
struct List {
    /// At most this many
    #[arg(long, value_name = "N", default_value = "100")]
    limit: NonZeroUsize,

    /// Print JSON, one number a line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
struct Add {
    /// Up to 1,000 numbers in E.164 form
    #[arg(required = true, value_name = "NUMBER", value_parser = number, num_args = 1..=1_000)]
    numbers: Vec<Number>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
struct Remove {
    /// Numbers in E.164 form
    #[arg(required = true, value_name = "NUMBER", value_parser = number)]
    numbers: Vec<Number>,

    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
struct Import {
    /// The file; `-` for standard input
    file: PathBuf,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Args)]
struct Export {
    #[command(flatten)]
    remote: Remote,
}

// === impl Suppression ===

impl Suppression {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::List(list) => list.run(),
            Command::Add(add) => {
                let numbers = add.numbers;
                let added =
                    add.remote.run(|client| async move { Ok(client.suppress(&numbers).await?) })?;
                show(&added, add.json)
            }
            Command::Remove(remove) => remove.remote.run(|client| async move {
                for number in remove.numbers {
                    client.restore(number).await?;
                }
                Ok(())
            }),
            Command::Import(import) => import.run(),
            Command::Export(export) => export.remote.run(|client| async move {
                if !pour("number\n")? {
                    return Ok(());
                }
                write(client.all_suppressions(), |number| Ok(format!("{number}\n"))).await.map(drop)
            }),
        }
    }
}

// === impl List ===

impl List {
    fn run(self) -> Result<(), Failure> {
        self.remote.run(|client: Client| async move {
            let numbers = client.all_suppressions().take(self.limit.get()).boxed();
            let written = write(numbers, |number| {
                if self.json { Ok(table::json_line(&number)?) } else { Ok(format!("{number}\n")) }
            });
            if written.await? == 0 && !self.json {
                say("No number is on the list.");
            }
            Ok(())
        })
    }
}

// === impl Import ===

impl Import {
    fn run(self) -> Result<(), Failure> {
        let path = self.file;
        let added = self.remote.run(|client| async move {
            let table: Box<dyn Read + Send> = if path.as_os_str() == "-" {
                Box::new(io::stdin())
            } else {
                let unreadable = |error| Failure::Usage(format!("{}: {error}", path.display()));
                Box::new(File::open(&path).map_err(unreadable)?)
            };
            Ok(client.import_suppressions(pieces(table)).await?)
        })?;
        show(&added, self.json)?;
        if added.invalid > 0 { Err(Failure::Silent) } else { Ok(()) }
    }
}

/// What is read of a table, piece by piece, on a thread that may block.
fn pieces(table: Box<dyn Read + Send>) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::try_unfold(table, |mut table| async move {
        let read = spawn_blocking(move || {
            let mut piece = vec![0; PIECE_BYTES];
            let bytes = table.read(&mut piece)?;
            piece.truncate(bytes);
            Ok((bytes > 0).then(|| (Bytes::from(piece), table)))
        });
        read.await.map_err(io::Error::other)?
    })
}

/// Writes numbers as they come; gives how many.
async fn write(
    numbers: BoxStream<'_, Result<String, ClientError>>,
    line: impl Fn(String) -> Result<String, Failure>,
) -> Result<usize, Failure> {
    let (mut pages, mut written) = (numbers.try_ready_chunks(LINES), 0);
    while let Some(numbers) = pages.next().await {
        let numbers = numbers.map_err(|error| Failure::from(error.1))?;
        written += numbers.len();
        let text: Result<String, Failure> = numbers.into_iter().map(&line).collect();
        if !pour(&text?)? {
            break;
        }
    }
    Ok(written)
}

fn show(added: &Suppressed, in_json: bool) -> Result<(), Failure> {
    if in_json {
        return print(&table::json_line(added)?);
    }
    for invalid in &added.invalid_lines {
        say(&format!("line {}: {}", invalid.line, invalid.detail));
    }
    let Suppressed { added, already_there, invalid, .. } = added;
    let invalid = if *invalid == 0 { String::new() } else { format!(", {invalid} invalid") };
    print(&format!("{added} added, {already_there} already there{invalid}\n"))
}

/// Reads a number as an argument, so that none that can't be one is asked for.
fn number(text: &str) -> Result<Number, String> {
    text.parse().map_err(|_| "a number is written as in +15551230001".to_owned())
}
