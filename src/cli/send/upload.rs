//! The way of a list to the server: read on a thread, carried over a bounded channel, uploaded as
//! one stream.
//!
//! The socket holds the reading back: a few pieces lie between them, no more. The request begins
//! with the first piece, so a list that is flawed there, or slow and short, keeps no server
//! waiting. A list that has not come to its end well is never ended well towards the server, which
//! then drops it: nothing is sent of a flawed one.
//!
//! A stream can't be repeated, but a file can be read again: where nobody can tell whether the batch
//! was accepted, it is uploaded once more under the same idempotency key. For an estimate it goes the same
//! way, once.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::{sync::mpsc, time::sleep};

use super::{
    list::{List, Progress},
    meter::Meter,
};
use crate::{
    api::model::{Estimate, SubmitBatch},
    cli::Failure,
    client::{Client, ClientError, Submitted},
    domain::list::{Line, Take, flaw::ListError, header::Needs},
};

/// How much is uploaded at once, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// Pieces between the reading and the upload.
const PIECES: usize = 4;

/// Uploads of one list.
const TRIES: u32 = 3;

/// The wait before another try, if the server asks for none.
const WAIT: Duration = Duration::from_secs(1);

/// The longest wait that a server is granted.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// The upload of a list.
pub(super) struct Upload<'a> {
    /// The list.
    pub(super) list: &'a List,
    /// What its batch is but for the recipients.
    pub(super) head: &'a SubmitBatch,
    /// What the head asks of the list.
    pub(super) needs: &'a Needs,
    /// Where it is shown how far it is.
    pub(super) meter: &'a Meter,
    /// How far it is.
    pub(super) progress: Arc<Progress>,
    /// Whether a try has uploaded all of it: from then on it may have been accepted.
    pub(super) is_uploaded: Arc<AtomicBool>,
}

/// What the reading thread gives.
enum Piece {
    /// Lines, each with its end.
    Lines(Bytes),
    /// All of it was given.
    End,
    /// It can't be read on.
    Failed(ListError),
}

/// Puts lines together to pieces.
struct Pieces {
    lines: Vec<u8>,
    sender: mpsc::Sender<Piece>,
    progress: Arc<Progress>,
}

// === impl Upload ===

impl Upload<'_> {
    /// Uploads the list under an idempotency key. May be dropped: an upload under way is broken off.
    ///
    /// # Errors
    /// [`Failure`], with what is known of the batch.
    pub(super) async fn run(&self, client: &Client, key: &str) -> Result<Submitted, Failure> {
        let (mut tries, mut in_doubt) = (0, false);
        loop {
            let done = self.once(client, key).await.map_err(|failure| {
                // What is wrong with the list now says nothing about the earlier try.
                let lost = || anyhow::anyhow!("the list has changed\n{}", doubt(key));
                if in_doubt { Failure::Failed(lost()) } else { failure }
            });
            let error = match done? {
                // That an earlier try of this very upload was accepted is no news.
                Ok(done) => return Ok(Submitted { replayed: done.replayed && !in_doubt, ..done }),
                Err(error) => error,
            };
            tries += 1;
            in_doubt |= error.is_outcome_unknown();
            let is_worth_it = error.code() == Some("idempotency_in_progress")
                || error.is_outcome_unknown()
                || (in_doubt && error.is_unreachable());
            if !is_worth_it || tries == TRIES || self.list.file_bytes().is_none() {
                return Err(failure(error, in_doubt.then_some(key)));
            }
            self.meter.say(&format!("{error}\nUploading the list again under the same key."));
            sleep(wait(&error)).await;
        }
    }

    /// Uploads the list for an estimate. May be dropped as well.
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) async fn estimate(&self, client: &Client) -> Result<Estimate, Failure> {
        let lines = self.lines().await?;
        let done = client.estimate_stream(self.head, lines).await;
        self.unless_flawed(done)?.map_err(|error| failure(error, None))
    }

    /// Uploads it once.
    async fn once(
        &self,
        client: &Client,
        key: &str,
    ) -> Result<Result<Submitted, ClientError>, Failure> {
        let lines = self.lines().await?;
        self.unless_flawed(client.submit_stream(self.head, lines, Some(key)).await)
    }

    /// The list as a body, whose first piece was read.
    async fn lines(&self) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + use<>, Failure> {
        let mut pieces = self.start_reading()?;
        let first = pieces.recv().await;
        if let Some(Piece::Failed(error)) = first {
            return Err(flawed(self.list, &error));
        }
        Ok(lines(first, pieces, Arc::clone(&self.is_uploaded)))
    }

    /// What came of an upload, unless the list ended it.
    fn unless_flawed<T>(
        &self,
        done: Result<T, ClientError>,
    ) -> Result<Result<T, ClientError>, Failure> {
        match done {
            Err(ClientError::Source(error)) => {
                let error = error.downcast::<ListError>().unwrap_or_else(ListError::Unreadable);
                Err(flawed(self.list, &error))
            }
            done => Ok(done),
        }
    }

    /// Has a thread read the list. It ends when nobody wants more, unless it waits for standard
    /// input: then it ends with the process.
    fn start_reading(&self) -> Result<mpsc::Receiver<Piece>, Failure> {
        let (sender, receiver) = mpsc::channel(PIECES);
        let (list, needs) = (self.list.clone(), self.needs.clone());
        let progress = Arc::clone(&self.progress);
        progress.begin();
        let read = move || {
            let mut pieces = Pieces { lines: Vec::new(), sender, progress: Arc::clone(&progress) };
            let done = list.read(&needs, &progress, &mut pieces).and_then(|()| pieces.pass());
            // Whoever has gone away needs no word of the end.
            let _ = pieces.sender.blocking_send(done.map_or_else(Piece::Failed, |()| Piece::End));
        };
        let spawned = thread::Builder::new().name("list".to_owned()).spawn(read);
        spawned.map(|_| receiver).map_err(|error| Failure::Failed(error.into()))
    }
}

/// The failure of an upload; under `key` an earlier try of it may have been accepted.
fn failure(error: ClientError, key: Option<&str>) -> Failure {
    let Some(key) = key else { return Failure::from(told_of_the_list(error)) };
    let doubt = format!("{error}\n{}", doubt(key));
    if error.is_unreachable() || error.is_outcome_unknown() {
        Failure::Unreachable(doubt)
    } else {
        Failure::Failed(anyhow::Error::msg(doubt))
    }
}

/// What to do where nobody can tell whether the batch was accepted.
pub(super) fn doubt(key: &str) -> String {
    format!(
        "Whether the batch was accepted is not known. To find out, repeat the command with the \
         same list and\n  --idempotency-key {key}"
    )
}

/// What it means that a list can't be used.
pub(super) fn flawed(list: &List, error: &ListError) -> Failure {
    let separator = if matches!(error, ListError::Flawed(_)) { ":" } else { ": " };
    Failure::Usage(format!("{}{separator}{error}\nNothing was sent.", list.name()))
}

/// The error with its pointers, which count the lines of the upload, told of the list instead: the
/// first line is the batch.
fn told_of_the_list(mut error: ClientError) -> ClientError {
    if let ClientError::Refused { problem, .. } = &mut error {
        for field in &mut problem.errors {
            let Some(pointer) = pointer_of_the_list(&field.pointer) else { continue };
            // The detail of the whole begins with the pointer of an only error.
            if let Some(rest) = problem.detail.strip_prefix(&field.pointer) {
                problem.detail = format!("{pointer}{rest}");
            }
            field.pointer = pointer;
        }
    }
    error
}

fn pointer_of_the_list(pointer: &str) -> Option<String> {
    let pointer = pointer.strip_prefix('/')?;
    let (line, rest) = pointer.split_at(pointer.find('/').unwrap_or(pointer.len()));
    match line.parse::<u64>().ok()? {
        1 => Some(rest.to_owned()),
        line => Some(format!("recipient {}{rest}", line.checked_sub(1)?)),
    }
}

fn wait(error: &ClientError) -> Duration {
    match error {
        ClientError::Refused { retry_after: Some(wait), .. } => (*wait).clamp(WAIT, WAIT_MAX),
        _ => WAIT,
    }
}

/// The pieces as a body. It ends well only with [`Piece::End`]: a reading thread that is gone has
/// not read everything.
fn lines(
    first: Option<Piece>,
    pieces: mpsc::Receiver<Piece>,
    is_uploaded: Arc<AtomicBool>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::try_unfold((first, pieces), move |(first, mut pieces)| {
        let is_uploaded = Arc::clone(&is_uploaded);
        async move {
            let piece = match first {
                Some(first) => Some(first),
                None => pieces.recv().await,
            };
            match piece {
                Some(Piece::Lines(lines)) => Ok(Some((lines, (None, pieces)))),
                Some(Piece::End) => {
                    is_uploaded.store(true, Ordering::Relaxed);
                    Ok(None)
                }
                Some(Piece::Failed(error)) => Err(io::Error::other(error)),
                None => Err(io::Error::other(ListError::Unwanted)),
            }
        }
    })
}

// === impl Pieces ===

impl Pieces {
    /// Hands on what there is.
    fn pass(&mut self) -> Result<(), ListError> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let lines = std::mem::replace(&mut self.lines, Vec::with_capacity(PIECE_BYTES));
        let sent = self.sender.blocking_send(Piece::Lines(lines.into()));
        sent.map_err(|_| ListError::Unwanted)
    }
}

impl Take for Pieces {
    fn take(&mut self, line: Line<'_>) -> Result<(), ListError> {
        if self.lines.len() + line.json.len() >= PIECE_BYTES {
            self.pass()?;
        }
        self.lines.extend_from_slice(line.json);
        self.lines.push(b'\n');
        self.progress.recipients.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
