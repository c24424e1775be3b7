//! The one thread that writes. It takes whatever waits for it into one transaction, and tells the
//! callers once that is committed.
//!
//! A call that fails is undone alone. What undoes the whole transaction, such as a full disk, every
//! caller in it is told. After a commit that failed nobody knows whether it is in the file: the
//! system may have written what it could not sync. Callers are told that too, and may repeat.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot};

use super::{EmbeddedStore, health::Health, lock::Lock, step::Step, syncer::Syncer};
use crate::{
    clock::Clock,
    store::{Doorbell, Ring, StoreError},
};

/// The most calls that wait; further callers wait to be let in.
const WAITING_MAX: usize = 256;

/// A transaction takes no more calls once it has lasted this long.
const TRANSACTION_TIME: Duration = Duration::from_millis(4);

/// Where calls are left for the writer.
pub(super) struct Writer {
    /// Taken when the writer is to end.
    calls: Option<mpsc::Sender<Box<dyn Call>>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// A call on its way through a transaction.
trait Call: Send {
    /// Does it.
    fn run(&mut self, step: &mut Step<'_>) -> rusqlite::Result<()>;

    /// Tells the caller what came of it.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Work<F, T> {
    /// Taken when it is run.
    run: Option<F>,
    done: Option<T>,
    caller: oneshot::Sender<Result<T, StoreError>>,
}

struct Thread {
    db: Connection,
    clock: Clock,
    doorbell: Doorbell,
    syncer: Syncer,
    health: Arc<Health>,
    /// The folder is ours for as long as we write.
    _lock: Lock,
}

// === impl EmbeddedStore ===

impl EmbeddedStore {
    /// Does `work` as one step, and gives what it gives once that is committed.
    ///
    /// # Errors
    /// [`StoreError`]: nothing of it was done, unless it is [`StoreError::ReplyLost`].
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Step<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let (caller, answer) = oneshot::channel();
        let call = Box::new(Work { run: Some(work), done: None, caller });
        let calls = self.writer.calls.as_ref().ok_or_else(gone)?;
        calls.send(call).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

// === impl Writer ===

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(super) fn start(
        db: Connection,
        lock: Lock,
        syncer: Syncer,
        health: Arc<Health>,
        doorbell: Doorbell,
    ) -> Result<Self, StoreError> {
        let (sender, calls) = mpsc::channel(WAITING_MAX);
        let thread = Thread { db, clock: Clock::system(), doorbell, syncer, health, _lock: lock };
        let started = thread::Builder::new().name("store".into()).spawn(|| thread.run(calls));
        let thread = started
            .map_err(|error| StoreError::Unexpected(format!("no thread to write: {error}")))?;
        Ok(Self { calls: Some(sender), thread: Some(thread) })
    }
}

impl Drop for Writer {
    /// Waits until all is synced and the folder is free: the one wait of this kind, at the end.
    fn drop(&mut self) {
        self.calls = None;
        if let Some(thread) = self.thread.take() {
            // It ends in order or takes the process with it.
            let _ = thread.join();
        }
    }
}

// === impl Thread ===

impl Thread {
    fn run(self, mut calls: mpsc::Receiver<Box<dyn Call>>) {
        while let Some(first) = calls.blocking_recv() {
            self.transact(first, &mut calls);
        }
    }

    /// Takes `first` and what waits behind it through one transaction.
    fn transact(&self, first: Box<dyn Call>, calls: &mut mpsc::Receiver<Box<dyn Call>>) {
        let began = Instant::now();
        let changes = self.db.total_changes();
        if let Err(error) = self.execute("BEGIN IMMEDIATE") {
            return refuse_all(&store_error(&error), first, calls);
        }
        let (mut done, mut rings, mut next) = (Vec::new(), Vec::new(), Some(first));
        let mut undone = None;
        while let Some(mut call) = next.take() {
            match self.within_savepoint(&mut *call) {
                Ok(rung) => {
                    rings.extend(rung);
                    done.push(call);
                }
                Err(error) => {
                    let error = store_error(&error);
                    undone = self.db.is_autocommit().then(|| error.clone());
                    call.answer(Err(error));
                }
            }
            if undone.is_none() && began.elapsed() < TRANSACTION_TIME {
                next = calls.try_recv().ok();
            }
        }
        let committed = undone.map_or_else(|| self.commit(), Err);
        self.health.uncommitted.set(committed.is_err());
        if committed.is_ok() && self.db.total_changes() != changes {
            self.syncer.changed.set(true);
        }
        for call in done {
            call.answer(committed.clone());
        }
        if committed.is_ok() {
            for ring in rings {
                self.doorbell.ring(ring);
            }
        }
    }

    /// What a failed call has written is undone, and the transaction goes on; where that can't be
    /// done, the whole transaction is undone.
    fn within_savepoint(&self, call: &mut dyn Call) -> rusqlite::Result<Vec<Ring>> {
        self.execute("SAVEPOINT call")?;
        let now = i64::try_from(self.clock.now().0).unwrap_or(i64::MAX);
        let mut step = Step::new(&self.db, now);
        let done = call.run(&mut step);
        let rings = std::mem::take(&mut step.rings);
        if done.is_err() && self.execute("ROLLBACK TO call").is_err() {
            self.undo();
        }
        done?;
        self.execute("RELEASE call").inspect_err(|_| self.undo())?;
        Ok(rings)
    }

    fn commit(&self) -> Result<(), StoreError> {
        self.execute("COMMIT").map_err(|error| {
            self.undo();
            match error.sqlite_error_code() {
                // Nothing that could count as committed was written.
                Some(ErrorCode::DatabaseBusy | ErrorCode::DiskFull) => store_error(&error),
                _ => StoreError::ReplyLost(error.to_string()),
            }
        })
    }

    /// Ends the transaction without effect, unless that has happened.
    fn undo(&self) {
        if !self.db.is_autocommit() {
            // It fails only where there is no transaction.
            let _ = self.execute("ROLLBACK");
        }
    }

    fn execute(&self, sql: &'static str) -> rusqlite::Result<()> {
        self.db.prepare_cached(sql)?.execute([]).map(|_| ())
    }
}

impl Drop for Thread {
    /// A panic here is a mistake in this program. All that was accepted is in the file; a process
    /// that could not write would only seem well.
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

// === impl Work ===

impl<T, F> Call for Work<F, T>
where
    T: Send,
    F: FnOnce(&mut Step<'_>) -> rusqlite::Result<T> + Send,
{
    fn run(&mut self, step: &mut Step<'_>) -> rusqlite::Result<()> {
        if let Some(run) = self.run.take() {
            self.done = Some(run(step)?);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let Self { done, caller, .. } = *self;
        // A caller that has gone away needs no answer.
        let _ = caller.send(committed.and_then(|()| done.ok_or_else(gone)));
    }
}

/// What a failure of the file means to a caller.
pub(super) fn store_error(error: &rusqlite::Error) -> StoreError {
    let text = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full(text),
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::OutOfMemory
            | ErrorCode::ReadOnly,
        ) => StoreError::Unreachable(text),
        _ => StoreError::Unexpected(text),
    }
}

/// Tells `first` and those that wait by now. Were each to try for itself, the last would wait for
/// all of them.
fn refuse_all(error: &StoreError, first: Box<dyn Call>, calls: &mut mpsc::Receiver<Box<dyn Call>>) {
    // Counted before anyone is told: who calls after that may find the file free.
    let waiting = calls.len();
    first.answer(Err(error.clone()));
    for call in std::iter::from_fn(|| calls.try_recv().ok()).take(waiting) {
        call.answer(Err(error.clone()));
    }
}

fn gone() -> StoreError {
    StoreError::Unexpected("the thread that writes the store has ended".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::embedded::{file, syncer};

    /// A writer, and a connection beside it that sees what is committed.
    fn writer(folder: &std::path::Path) -> (Writer, Connection) {
        let every = Duration::from_secs(1);
        let (lock, health) = (Lock::take(folder).unwrap(), Arc::<Health>::default());
        let db = file::open(folder, every).unwrap();
        let path = file::path(folder);
        let syncer = syncer::start(&path, every, Arc::clone(&health)).unwrap();
        let writer = Writer::start(db, lock, syncer, health, Doorbell::default()).unwrap();
        (writer, Connection::open(path).unwrap())
    }

    fn tallied(db: &Connection) -> Vec<String> {
        let mut rows = db.prepare("SELECT name FROM tally ORDER BY name").unwrap();
        rows.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }

    async fn write(
        writer: &Writer,
        run: impl FnOnce(&mut Step<'_>) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), StoreError> {
        let (caller, answer) = oneshot::channel();
        let call = Box::new(Work { run: Some(run), done: None, caller });
        writer.calls.as_ref().unwrap().send(call).await.unwrap();
        answer.await.unwrap()
    }

    #[tokio::test]
    async fn a_call_that_fails_undoes_itself_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, beside) = writer(folder.path());
        let fails = |step: &mut Step<'_>| {
            step.count("half", 1)?;
            Err(rusqlite::Error::InvalidQuery)
        };
        let (first, failed, last) = tokio::join!(
            write(&writer, |step| step.count("first", 1)),
            write(&writer, fails),
            write(&writer, |step| step.count("last", 1)),
        );
        first.unwrap();
        last.unwrap();
        assert!(matches!(failed, Err(StoreError::Unexpected(_))), "{failed:?}");
        assert_eq!(tallied(&beside), ["first", "last"]);
    }

    #[tokio::test]
    async fn a_full_store_says_so_and_goes_on_when_there_is_space() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, beside) = writer(folder.path());
        let limit = |step: &mut Step<'_>, pages: &'static str| step.row(pages, [], |_| Ok(()));
        write(&writer, move |step| limit(step, "PRAGMA max_page_count = 1").map(|_| ()))
            .await
            .unwrap();
        let large = |step: &mut Step<'_>| {
            let sql = "INSERT INTO tally VALUES (hex(zeroblob(1000000)), 1)";
            step.run(sql, []).map(|_| ())
        };
        let full = write(&writer, large).await;
        assert!(matches!(full, Err(StoreError::Full(_))), "{full:?}");
        assert!(tallied(&beside).is_empty());
        write(&writer, move |step| limit(step, "PRAGMA max_page_count = 100000").map(|_| ()))
            .await
            .unwrap();
        write(&writer, large).await.unwrap();
        assert_eq!(tallied(&beside).len(), 1);
    }

    #[tokio::test]
    async fn whoever_holds_the_file_up_delays_all_callers_once() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, beside) = writer(folder.path());
        beside.execute_batch("BEGIN IMMEDIATE").unwrap();
        let began = Instant::now();
        let calls = (0..20).map(|_| write(&writer, |step| step.count("late", 1)));
        let answers = futures_util::future::join_all(calls).await;
        assert!(answers.iter().all(|answer| matches!(answer, Err(StoreError::Unreachable(_)))));
        assert!(began.elapsed() < 3 * file::BUSY_TIME, "{:?}", began.elapsed());
        beside.execute_batch("COMMIT").unwrap();
        write(&writer, |step| step.count("then", 1)).await.unwrap();
        assert_eq!(tallied(&beside), ["then"]);
    }
}
