//! A streamed upload under watch: whether it moves, whether all of it was taken, and what its
//! source failed with.
//!
//! Standing still is the server's fault only while a piece is ready for it; a source may take its
//! time. Whoever drops the [`Watch`] ends the upload, wherever it is.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::Stream;
use parking_lot::Mutex;
use tokio::time::Instant;

/// The body of an upload.
pub(super) struct Upload {
    source: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
    pace: Arc<Mutex<Pace>>,
}

/// Watches an upload, and ends it when dropped.
pub(super) struct Watch {
    pace: Arc<Mutex<Pace>>,
    patience: Duration,
}

/// How far an upload is.
struct Pace {
    /// When the server last took a piece.
    moved_at: Instant,
    /// The source is being waited for, not the server.
    waits_for_source: bool,
    /// The end of the source was seen.
    is_complete: bool,
    /// Nobody wants it any more.
    is_closed: bool,
    /// What the source failed with.
    failure: Option<io::Error>,
}

// === impl Upload ===

impl Upload {
    /// An upload of `source`, and its watch, which gives the server `patience` for each piece.
    pub(super) fn new(
        source: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        patience: Duration,
    ) -> (Self, Watch) {
        let pace = Arc::new(Mutex::new(Pace {
            moved_at: Instant::now(),
            waits_for_source: false,
            is_complete: false,
            is_closed: false,
            failure: None,
        }));
        let upload = Self { source: Box::pin(source), pace: Arc::clone(&pace) };
        (upload, Watch { pace, patience })
    }
}

impl Stream for Upload {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.pace.lock().is_closed {
            return Poll::Ready(Some(Err(broken_off())));
        }
        let polled = self.source.as_mut().poll_next(cx);
        let mut pace = self.pace.lock();
        pace.waits_for_source = polled.is_pending();
        pace.moved_at = Instant::now();
        match polled {
            Poll::Ready(None) => {
                pace.is_complete = true;
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                // The connection is given a stand-in: this one is told to whoever asked for it.
                pace.failure = Some(error);
                Poll::Ready(Some(Err(broken_off())))
            }
            polled => polled,
        }
    }
}

fn broken_off() -> io::Error {
    io::Error::new(io::ErrorKind::Interrupted, "the upload is broken off")
}

// === impl Watch ===

impl Watch {
    /// Resolves when the server has not moved for as long as it may.
    pub(super) async fn stands_still(&self) {
        loop {
            let now = Instant::now();
            let due = {
                let pace = self.pace.lock();
                if pace.waits_for_source {
                    now + self.patience
                } else {
                    pace.moved_at + self.patience
                }
            };
            if due <= now {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }

    /// Whether the server was given all of it.
    pub(super) fn is_complete(&self) -> bool {
        self.pace.lock().is_complete
    }

    /// What the source failed with; to be asked once.
    pub(super) fn failure(&self) -> Option<io::Error> {
        self.pace.lock().failure.take()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.pace.lock().is_closed = true;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, future::poll_immediate, stream};

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(20);

    const PIECE: Bytes = Bytes::from_static(b"\"+15551230001\"\n");

    #[tokio::test]
    async fn a_server_that_takes_nothing_stands_still() {
        let (mut upload, watch) = Upload::new(stream::repeat_with(|| Ok(PIECE)), PATIENCE);
        let began = Instant::now();
        tokio::time::sleep(PATIENCE / 2).await;
        upload.next().await;
        watch.stands_still().await;
        assert!(began.elapsed() >= PATIENCE + PATIENCE / 2);
    }

    #[tokio::test]
    async fn a_slow_source_is_nobodys_fault() {
        let (mut upload, watch) = Upload::new(stream::pending(), PATIENCE);
        assert!(poll_immediate(upload.next()).await.is_none());
        let waited = tokio::time::timeout(PATIENCE * 5, watch.stands_still()).await;
        assert!(waited.is_err());
    }

    #[tokio::test]
    async fn the_sources_failure_is_kept_and_a_dropped_watch_ends_it() {
        let failing = stream::iter([Ok(PIECE), Err(io::Error::other("line 3: no number"))]);
        let (mut upload, watch) = Upload::new(failing, PATIENCE);
        assert!(upload.next().await.unwrap().is_ok());
        assert!(upload.next().await.unwrap().is_err());
        assert_eq!(watch.failure().unwrap().to_string(), "line 3: no number");
        assert!(!watch.is_complete());

        let (mut upload, watch) = Upload::new(stream::repeat_with(|| Ok(PIECE)), PATIENCE);
        drop(watch);
        assert!(upload.next().await.unwrap().is_err());
    }
}
