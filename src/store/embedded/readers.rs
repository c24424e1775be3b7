//! Connections for those who only read. They see what is committed, and wait for no writer.

use std::{path::PathBuf, sync::Arc};

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::{EmbeddedStore, file, writer::store_error};
use crate::store::StoreError;

/// The most readers at once; further ones wait.
const READERS_MAX: usize = 4;

/// The connections, made as they are needed.
pub(super) struct Readers {
    path: Arc<PathBuf>,
    places: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

// === impl Readers ===

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path: Arc::new(path),
            places: Arc::new(Semaphore::new(READERS_MAX)),
            idle: Arc::default(),
        }
    }

    /// Reads, on a thread that may block. Everything `work` reads is of one moment.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        // The semaphore is never closed.
        let place = Arc::clone(&self.places).acquire_owned().await;
        let (path, idle) = (Arc::clone(&self.path), Arc::clone(&self.idle));
        let read = tokio::task::spawn_blocking(move || {
            let _place = place;
            let found = idle.lock().pop();
            let db = found.map_or_else(|| file::open_to_read(&path), Ok)?;
            let read = at_one_moment(&db, work).map_err(|error| store_error(&error));
            idle.lock().push(db);
            read
        });
        read.await
            .map_err(|error| StoreError::Unexpected(format!("a read ended early: {error}")))?
    }
}

// === impl EmbeddedStore ===

impl EmbeddedStore {
    /// See [`Readers::read`].
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.readers.read(work).await
    }
}

fn at_one_moment<T>(
    db: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let moment = db.unchecked_transaction()?;
    let read = work(db)?;
    moment.finish()?;
    Ok(read)
}
