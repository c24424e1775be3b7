//! Request bodies: bounded in time, and read to their end, whole or piece by piece. A whole one is
//! bounded in size besides.
//!
//! Every piece of a body must come within the body time-out. A body that is dropped before its
//! end, because the request was refused, is read on and discarded for a while, so that a client
//! that is still sending sees the answer instead of a reset.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::{Request, StatusCode, header::EXPECT};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep, timeout},
};

use super::{
    digest::{Hasher, Sha256},
    packed::UnpackError,
    problem::{Problem, Refused},
};

/// What must arrive within the body time-out, in bytes, if the body does not end before.
const PIECE_BYTES: usize = 16 * 1024;

/// How much of a refused body is read on, in bytes.
const DISCARD_BYTES_MAX: usize = 64 << 20;

/// How long a refused body is read on.
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// A body longer than this is a large one, in bytes.
const LARGE_BYTES: usize = 1 << 20;

/// How many large bodies are held in memory at once; further ones wait.
pub(super) const LARGE_BODIES_MAX: usize = 8;

/// How many large bodies are read by the piece at once; further ones wait. Each takes a few MiB.
pub(super) const LARGE_UPLOADS_MAX: usize = 64;

/// A request's body on its way in.
pub(super) struct RequestBody {
    /// Gone once it has ended, broken or timed out.
    inner: Option<Incoming>,
    piece_timeout: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// Bytes since the timer was set.
    piece_bytes: usize,
    /// Whether the last poll left us waiting for the client.
    waiting: bool,
    /// Whether the client sends nothing until it is asked to, and wasn't.
    held_back: bool,
}

/// A body that has arrived. Holds its place among the large ones until it is dropped.
pub(super) struct Collected {
    pub(super) bytes: Vec<u8>,
    pub(super) place: Option<OwnedSemaphorePermit>,
}

/// A body that is read piece by piece, and hashed meanwhile.
pub(super) struct Pieces {
    body: Body,
    hasher: Hasher,
    /// Bytes read so far.
    length: u64,
    /// The most there may be.
    bytes_max: u64,
}

/// A body did not arrive.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// A piece took longer than the body time-out.
    #[error("a piece of the body took too long")]
    TimedOut,
    /// The client went away, or sent what is no body.
    #[error("the body broke off: {0}")]
    Broken(#[from] hyper::Error),
}

// === impl RequestBody ===

impl RequestBody {
    /// Puts the bounds on a request's body.
    pub(super) fn bound(request: Request<Incoming>, piece_timeout: Duration) -> Request<Body> {
        let held_back = request.headers().contains_key(EXPECT);
        request.map(|inner| {
            let inner = Some(inner);
            let (timer, piece_bytes, waiting) = (None, 0, false);
            Body::new(Self { inner, piece_timeout, timer, piece_bytes, waiting, held_back })
        })
    }

    fn arrived(&mut self, bytes: usize) {
        self.waiting = false;
        self.piece_bytes += bytes;
        if self.piece_bytes >= PIECE_BYTES {
            self.piece_bytes = 0;
            self.begin_piece();
        }
    }

    fn begin_piece(&mut self) {
        if let Some(timer) = &mut self.timer {
            timer.as_mut().reset(Instant::now() + self.piece_timeout);
        }
    }

    /// Ready once the client has taken too long.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Time that ran out while nobody asked for more is not the client's.
        let ran_out = self.timer.as_ref().is_some_and(|timer| timer.is_elapsed());
        if ran_out && !self.waiting {
            self.begin_piece();
        }
        self.waiting = true;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.piece_timeout)));
        timer.as_mut().poll(cx)
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        this.held_back = false;
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        match Pin::new(inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.arrived(frame.data_ref().map_or(0, Bytes::len));
                return Poll::Ready(Some(Ok(frame)));
            }
            Poll::Ready(end) => {
                this.inner = None;
                return Poll::Ready(end.map(|error| error.map_err(BodyError::from)));
            }
            Poll::Pending => {}
        }
        ready!(this.poll_timer(cx));
        this.inner = None;
        Poll::Ready(Some(Err(BodyError::TimedOut)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let rest = self.inner.take().filter(|rest| !rest.is_end_stream() && !self.held_back);
        if let (Some(rest), Ok(runtime)) = (rest, Handle::try_current()) {
            runtime.spawn(timeout(DISCARD_TIME, discard(rest)));
        }
    }
}

async fn discard(mut rest: Incoming) {
    let mut discarded = 0;
    while let Some(Ok(frame)) = rest.frame().await {
        discarded += frame.data_ref().map_or(0, Bytes::len);
        if discarded > DISCARD_BYTES_MAX {
            return;
        }
    }
}

// === impl Pieces ===

impl Pieces {
    /// The pieces of a body of at most `bytes_max`.
    pub(super) fn of(body: Body, bytes_max: u64) -> Self {
        Self { body, hasher: Hasher::new(), length: 0, bytes_max }
    }

    /// The next piece; `None` once the body has ended well. Nothing is lost if it is not waited for.
    ///
    /// # Errors
    /// [`Problem`] if the body broke off, took too long, or is longer than it may be.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        while let Some(frame) = self.body.frame().await {
            // A frame that is no data holds trailers, which say nothing here.
            if let Ok(piece) = frame.map_err(broken)?.into_data() {
                self.hasher.add(&piece);
                self.length += piece.len() as u64;
                if self.length > self.bytes_max {
                    return Err(too_large(self.bytes_max));
                }
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    /// Has the hash stand for these bytes too, which came another way.
    pub(super) fn hash_too(&mut self, bytes: &[u8]) {
        self.hasher.add(bytes);
    }

    /// Whether a large body's length was read.
    pub(super) fn is_large(&self) -> bool {
        self.length > LARGE_BYTES as u64
    }

    /// The SHA-256 of what was read.
    pub(super) fn hash(self) -> Sha256 {
        self.hasher.finish()
    }
}

/// Collects a body of at most `bytes_max`. A large one takes one of the `places`.
pub(super) async fn collect(
    mut body: Body,
    bytes_max: u64,
    places: &Arc<Semaphore>,
    patience: Duration,
) -> Result<Collected, Problem> {
    if body.size_hint().lower() > bytes_max {
        return Err(too_large(bytes_max));
    }
    let bytes_max_here = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    let mut collected = Collected { bytes: Vec::new(), place: None };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(broken)?;
        let Some(piece) = frame.data_ref() else { continue };
        let length = collected.bytes.len() + piece.len();
        if length > bytes_max_here {
            return Err(too_large(bytes_max));
        }
        if length > LARGE_BYTES && collected.place.is_none() {
            collected.place = Some(a_place(places, patience).await?);
        }
        collected.bytes.extend_from_slice(piece);
    }
    Ok(collected)
}

/// A place among the large ones, if one gets free in time.
pub(super) async fn a_place(
    places: &Arc<Semaphore>,
    patience: Duration,
) -> Result<OwnedSemaphorePermit, Problem> {
    let place = timeout(patience, Arc::clone(places).acquire_owned()).await;
    place.ok().and_then(Result::ok).ok_or_else(|| {
        let detail = "Too many large requests at once; try again.";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail).retry_after(1)
    })
}

fn too_large(bytes_max: u64) -> Problem {
    let detail = format!("The body is longer than {bytes_max} bytes.");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
}

/// What it means that a body could not be read on.
pub(super) fn broken(error: axum::Error) -> Problem {
    let error = match error.into_inner().downcast() {
        Ok(refused) => {
            let Refused(problem) = *refused;
            return problem;
        }
        Err(error) => error,
    };
    let (unpacking, mut reading) = (error.downcast_ref(), error.downcast_ref());
    match unpacking {
        Some(UnpackError::TooLarge(bytes_max)) => return too_large(*bytes_max),
        Some(UnpackError::Broken(error)) => {
            let detail = format!("The body is not what its Content-Encoding says: {error}.");
            return Problem::new(StatusCode::BAD_REQUEST, "body_encoding", detail);
        }
        Some(UnpackError::Body(error)) => reading = Some(error),
        None => {}
    }
    if matches!(reading, Some(BodyError::TimedOut)) {
        let detail = "The body did not arrive in time.";
        return Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail);
    }
    Problem::new(StatusCode::BAD_REQUEST, "body_broken", "The body broke off before its end.")
}
