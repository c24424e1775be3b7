//! The store in this process: one `SQLite` file in a folder, with nothing to install.
//!
//! The same contract as on Redis. One thread writes (`writer.rs`); whatever waits for it while it
//! works goes into the next transaction together. An operation is one `Step` (`step.rs`) within a
//! transaction, so that it is done as a whole or not at all, and its caller hears of it only once
//! it is committed. Readers have connections of their own and never wait for the writer.
//!
//! A committed transaction survives the end of the process, however it ends. It survives a loss of
//! power once it is synced (`syncer.rs`): `store.sync_every` later, and what the disk takes for it.
//!
//! One process at a time holds the folder (`lock.rs`). So leases of chunks and uploads of earlier
//! processes are void when it starts, and rates need no more than memory (`rates.rs`). An attempt at
//! a callback keeps its lease, so that a process that crashes again and again does not use up the
//! schedule within seconds.

mod audit;
mod callbacks;
mod claim;
mod columns;
mod day;
mod dispatch;
mod events;
mod feed;
mod file;
mod finish;
mod health;
mod intake;
mod lock;
mod messages;
mod rates;
mod readers;
mod reading;
mod receipts;
mod replay;
mod settle;
mod step;
mod suppressions;
mod sweep;
mod syncer;
mod take;
mod wishes;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use secrecy::ExposeSecret;

use self::audit::Auditor;
pub use self::audit::auditor;
use self::{health::Health, lock::Lock, rates::Rates, readers::Readers, writer::Writer};
use super::{Doorbell, OptOuts, Store, StoreError, StoreRules, StoreSettings};
use crate::clock::Clock;

/// What `store.url` begins with; the folder follows.
const SCHEME: &str = "embedded:";

/// The folder can't be used as a store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No folder is given.
    #[error("store.url: a folder must follow `{SCHEME}`")]
    NoFolder,
    /// The folder or a file in it can't be made, read or written.
    #[error("store.url: {} can't be used", .path.display())]
    Files {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another process has it.
    #[error(
        "the store in {} is in use by {holder}: an embedded store serves one process at a time. \
         Stop that one, or use Redis for several",
        .folder.display()
    )]
    Held {
        /// The folder.
        folder: PathBuf,
        /// Who has it, as far as it said.
        holder: String,
    },
    /// The file is something else.
    #[error("{} is no store of Ringback; nothing in it was changed", .0.display())]
    Foreign(PathBuf),
    /// A later version wrote the store.
    #[error("the store has schema {found}, this version knows schemas up to {known}")]
    Schema {
        /// What the store says.
        found: i64,
        /// The latest this version knows.
        known: i64,
    },
    /// The file can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All ports on one folder. The writer ends last of those who use the file: it frees the
/// folder.
struct EmbeddedStore {
    readers: Readers,
    writer: Writer,
    rates: Rates,
    health: Arc<Health>,
    rules: StoreRules,
    clock: Clock,
    doorbell: Doorbell,
}

/// The folder that a `store.url` of this kind names.
#[must_use]
pub fn folder(url: &str) -> Option<&Path> {
    url.strip_prefix(SCHEME).map(Path::new)
}

/// Opens the store in the folder that `settings` name, and makes it if there is none.
///
/// # Errors
/// [`OpenError`].
pub async fn open(settings: &StoreSettings, rules: StoreRules) -> Result<Store, OpenError> {
    let folder = folder(settings.url.expose_secret()).filter(|folder| *folder != Path::new(""));
    let folder = folder.ok_or(OpenError::NoFolder)?.to_owned();
    let (sync_every, doorbell) = (settings.sync_every, Doorbell::default());
    let rung = doorbell.clone();
    let file = file::path(&folder);
    let path = file.clone();
    let opened = tokio::task::spawn_blocking(move || -> Result<_, OpenError> {
        let lock = Lock::take(&folder)?;
        let db = file::open(&folder, sync_every)?;
        let file = path;
        let health = Arc::<Health>::default();
        let syncer = syncer::start(&file, sync_every, Arc::clone(&health))?;
        let writer = Writer::start(db, lock, syncer, Arc::clone(&health), rung)?;
        Ok((writer, Readers::new(file), health))
    });
    let (writer, readers, health) = opened.await.map_err(|error| ended(&error))??;
    let (rates, clock) = (Rates::default(), Clock::system());
    let opened = Arc::new(EmbeddedStore {
        readers,
        writer,
        rates,
        health,
        rules,
        clock,
        doorbell: doorbell.clone(),
    });
    if let Err(error) = opened.void_what_earlier_processes_held().await {
        tracing::warn!(%error, "what an earlier process held can be claimed once its leases run out");
    }
    Ok(Store {
        intake: Arc::clone(&opened) as _,
        reading: Arc::clone(&opened) as _,
        dispatch: Arc::clone(&opened) as _,
        audit: Arc::new(Auditor::of(&opened, file)),
        receipts: Arc::clone(&opened) as _,
        optouts: OptOuts::new(Arc::clone(&opened) as _),
        callbacks: opened,
        doorbell,
    })
}

/// The signing secret in the store's folder, read beside the process that may be using it. `None`
/// if there is no store, or no secret in it yet.
///
/// # Errors
/// [`OpenError`] if there is a store that can't be read.
pub fn signing_secret(folder: &Path) -> Result<Option<String>, OpenError> {
    let Some(db) = file::open_beside(folder)? else { return Ok(None) };
    let secret = callbacks::stored_secret(&db);
    Ok(secret.map_err(|error| writer::store_error(&error))?)
}

fn ended(error: &tokio::task::JoinError) -> StoreError {
    StoreError::Unexpected(format!("opening the store ended early: {error}"))
}

// === impl EmbeddedStore ===

impl EmbeddedStore {
    /// Nobody holds what the processes before this one held: the sweep takes it back at once.
    async fn void_what_earlier_processes_held(&self) -> Result<(), StoreError> {
        self.write(|step| {
            step.run("UPDATE chunk SET until_ms = 1 WHERE until_ms IS NOT NULL", [])?;
            step.run("UPDATE batch SET upload_ms = 1 WHERE upload_ms IS NOT NULL", [])?;
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::{SentinelLogin, StoreTls};

    async fn opened(folder: &Path) -> Store {
        let settings = StoreSettings {
            url: format!("{SCHEME}{}", folder.display()).into(),
            retention: Duration::from_hours(1),
            sync_every: Duration::from_secs(1),
            partitions: None,
            tls: StoreTls::default(),
            sentinel: SentinelLogin::default(),
        };
        let lease = Duration::from_secs(30);
        let hosts = crate::store::HostLimits { at_once: 16, silences_max: 5, left_alone: lease };
        let rules = StoreRules { lease, upload_lease: lease, retention: settings.retention, hosts };
        open(&settings, rules).await.unwrap()
    }

    #[tokio::test]
    async fn the_secret_is_read_beside_a_process_and_without_one() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("a folder, 100 % new?");
        assert_eq!(signing_secret(&folder).unwrap(), None);
        let store = opened(&folder).await;
        assert_eq!(signing_secret(&folder).unwrap(), None);
        assert_eq!(store.callbacks.signing_secret("hush").await.unwrap(), "hush");
        assert_eq!(signing_secret(&folder).unwrap().as_deref(), Some("hush"));
        drop(store);
        assert!(!file::log(&file::path(&folder)).exists(), "the log was not folded in");
        assert_eq!(signing_secret(&folder).unwrap().as_deref(), Some("hush"));
        assert!(!file::log(&file::path(&folder)).exists(), "reading left something behind");
    }

    #[test]
    fn there_is_no_secret_in_an_empty_file_and_a_foreign_one_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(file::path(folder.path()), "").unwrap();
        assert_eq!(signing_secret(folder.path()).unwrap(), None);
        let theirs = "CREATE TABLE fact (name, value); INSERT INTO fact VALUES ('secret', 'x')";
        let db = rusqlite::Connection::open(file::path(folder.path())).unwrap();
        db.execute_batch(theirs).unwrap();
        assert!(matches!(signing_secret(folder.path()), Err(OpenError::Foreign(_))));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn what_it_keeps_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("store");
        let _store = opened(&folder).await;
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        for file in [file::path(&folder), file::log(&file::path(&folder))] {
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
    }
}
