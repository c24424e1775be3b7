//! Brings what is committed to the disk, every so often, and folds the write-ahead log into the
//! file: both off the writer's thread, which they would hold up for as long as the disk takes. It
//! also looks how much space the disk has left.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use rusqlite::Connection;

use super::{
    OpenError, file,
    health::{Flag, Health},
    writer::store_error,
};
use crate::store::StoreError;

/// How often the log is folded in where the writer itself syncs every commit.
const FOLD_EVERY: Duration = Duration::from_secs(1);

/// With less than this left on the disk nothing new is accepted: settling and folding need some.
const RESERVE_BYTES: u64 = 2 * file::LOG_BYTES_MAX;

/// Held by the writer. The thread ends, after a last sync, when this is dropped.
pub(super) struct Syncer {
    /// Set by the writer when it has committed a change.
    pub(super) changed: Arc<Flag>,
    /// Taken when the thread is to end.
    alive: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

struct Thread {
    db: Connection,
    /// The write-ahead log.
    log: PathBuf,
    every: Duration,
    changed: Arc<Flag>,
    health: Arc<Health>,
}

/// Starts the thread for the store in `path`.
///
/// # Errors
/// If the file can't be opened, or the system gives no thread.
pub(super) fn start(
    path: &Path,
    sync_every: Duration,
    health: Arc<Health>,
) -> Result<Syncer, OpenError> {
    let db = Connection::open(path).map_err(|error| store_error(&error))?;
    // The log is folded in by nobody but the statement below.
    db.pragma_update(None, "wal_autocheckpoint", 0).map_err(|error| store_error(&error))?;
    let changed = Arc::<Flag>::default();
    changed.set(true);
    let every = if sync_every.is_zero() { FOLD_EVERY } else { sync_every };
    let thread = Thread { db, log: file::log(path), every, changed: Arc::clone(&changed), health };
    thread.look_at_space();
    let (alive, ended) = mpsc::channel();
    let started =
        thread::Builder::new().name("store-sync".into()).spawn(move || thread.run(&ended));
    let thread =
        started.map_err(|error| StoreError::Unexpected(format!("no thread to sync: {error}")))?;
    Ok(Syncer { changed, alive: Some(alive), thread: Some(thread) })
}

// === impl Syncer ===

impl Drop for Syncer {
    fn drop(&mut self) {
        self.alive = None;
        if let Some(thread) = self.thread.take() {
            // A panic in it was told where it happened.
            let _ = thread.join();
        }
    }
}

// === impl Thread ===

impl Thread {
    fn run(self, ended: &mpsc::Receiver<()>) {
        let mut wait = self.every;
        while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
            let began = Instant::now();
            self.round();
            wait = self.every.saturating_sub(began.elapsed());
        }
    }

    fn round(&self) {
        self.look_at_space();
        if !self.changed.set(false) {
            return;
        }
        let synced = File::open(&self.log).and_then(|log| log.sync_data());
        let failed_before = self.health.unsynced.set(synced.is_err());
        match synced {
            Ok(()) if failed_before => tracing::info!("the store is synced to the disk again"),
            Ok(()) => {}
            Err(error) => {
                self.changed.set(true);
                if !failed_before {
                    tracing::error!(%error, "the store can't be synced to the disk");
                }
            }
        }
        if let Err(error) = self.fold() {
            // The log keeps what it has, and the next round tries again.
            self.changed.set(true);
            tracing::debug!(%error, "the store's log can't be folded in");
        }
    }

    /// Passive: it waits for nobody, and leaves what a reader still needs for the next time.
    fn fold(&self) -> rusqlite::Result<()> {
        let mut fold = self.db.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?;
        fold.query_row([], |_| Ok(()))
    }

    fn look_at_space(&self) {
        let space = self.log.parent().map(rustix::fs::statvfs);
        // A file system that does not say is taken to have enough.
        let left =
            space.and_then(Result::ok).map(|space| space.f_bavail.saturating_mul(space.f_frsize));
        let short = left.is_some_and(|left| left < RESERVE_BYTES);
        if self.health.short.set(short) != short {
            if short {
                tracing::error!("the store's disk has little space left: nothing new is accepted");
            } else {
                tracing::info!("the store's disk has space again");
            }
        }
    }
}

impl Drop for Thread {
    /// What was committed last. A failure was said, or is the writer's to meet.
    fn drop(&mut self) {
        self.round();
    }
}
