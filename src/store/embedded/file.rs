//! The file: how it is opened, checked, and brought to the schema of this version.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{OpenError, writer::store_error};
use crate::store::StoreError;

/// What takes a store from each schema to the next. Never change one that was released.
const MIGRATIONS: [&str; 1] = [include_str!("schema/1.sql")];

/// "Ring": how the file says whose it is.
const APPLICATION_ID: i64 = 0x5269_6e67;

/// How long to wait for someone else who looks into the file.
pub(super) const BUSY_TIME: Duration = Duration::from_secs(2);

/// Statements kept ready: all there are.
const STATEMENTS_MAX: usize = 128;

/// How much of the file the writer keeps in memory, in KiB.
const CACHE_KIB: i64 = 32 * 1024;

/// `SQLite`'s own default.
const PAGE_BYTES: i64 = 4096;

/// The write-ahead log is folded into the file by the syncer. The writer helps when the log grows
/// beyond this, in pages.
const LOG_PAGES_MAX: i64 = 16 * 1024;

/// The same in bytes.
pub(super) const LOG_BYTES_MAX: u64 = (LOG_PAGES_MAX * PAGE_BYTES).unsigned_abs();

/// The file within a store's folder.
pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join("ringback.db")
}

/// Opens the folder's file for writing, and makes or migrates it.
///
/// # Errors
/// [`OpenError`].
pub(super) fn open(folder: &Path, sync_every: Duration) -> Result<Connection, OpenError> {
    let path = path(folder);
    let failed = |error: &rusqlite::Error| unusable(&path, error);
    make(&path).map_err(|source| OpenError::Files { path: path.clone(), source })?;
    let mut db = Connection::open(&path).map_err(|error| failed(&error))?;
    check(&db, &path)?;
    configure(&db, sync_every).map_err(|error| failed(&error))?;
    migrate(&mut db).map_err(|error| failed(&error))?;
    Ok(db)
}

/// Opens a store's file for reading.
///
/// # Errors
/// [`StoreError`].
pub(super) fn open_to_read(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(|error| store_error(&error))?;
    db.busy_timeout(BUSY_TIME).map_err(|error| store_error(&error))?;
    db.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(db)
}

/// Opens a folder's file beside whoever uses the store, or nobody. `None` if there is no store yet.
///
/// # Errors
/// [`OpenError`].
pub(super) fn open_beside(folder: &Path) -> Result<Option<Connection>, OpenError> {
    let path = path(folder);
    if !path.exists() {
        return Ok(None);
    }
    let failed = |error: &rusqlite::Error| unusable(&path, error);
    let db = if log(&path).exists() {
        Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)
    } else {
        // Nobody uses it: it is read as it is, and nothing is put beside it.
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        Connection::open_with_flags(unchanging(&path)?, flags)
    };
    let db = db.map_err(|error| failed(&error))?;
    db.busy_timeout(BUSY_TIME).map_err(|error| failed(&error))?;
    let schema = check(&db, &path)?;
    Ok((schema > 0).then_some(db))
}

/// The write-ahead log of a file.
pub(super) fn log(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

/// The URL of a file that nobody changes.
fn unchanging(path: &Path) -> Result<String, OpenError> {
    let failed = |source| OpenError::Files { path: path.to_owned(), source };
    let absolute = std::path::absolute(path).map_err(failed)?;
    let no_url = |()| failed(std::io::ErrorKind::InvalidFilename.into());
    let mut url = url::Url::from_file_path(absolute).map_err(no_url)?;
    url.set_query(Some("immutable=1"));
    Ok(url.into())
}

/// Makes the file, for its owner alone, unless it is there. What lies beside it is made likewise.
fn make(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.write(true).create(true).truncate(false).open(path).map(|_| ())
}

/// Refuses what is not ours before anything is written. Gives the file's schema.
fn check(db: &Connection, path: &Path) -> Result<i64, OpenError> {
    let number = |pragma| db.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let read = || {
        let tables = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        Ok((number("application_id")?, number("user_version")?, tables))
    };
    let (application, schema, tables): (i64, i64, i64) =
        read().map_err(|error| unusable(path, &error))?;
    if application != APPLICATION_ID && (application != 0 || schema != 0 || tables != 0) {
        return Err(OpenError::Foreign(path.to_owned()));
    }
    let known = latest();
    if schema > known {
        return Err(OpenError::Schema { found: schema, known });
    }
    Ok(schema)
}

fn configure(db: &Connection, sync_every: Duration) -> rusqlite::Result<()> {
    db.busy_timeout(BUSY_TIME)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    let mode: String = db.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        let text = format!("the file system allows no write-ahead log, only `{mode}`");
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
        return Err(rusqlite::Error::SqliteFailure(code, Some(text)));
    }
    let synchronous = if sync_every.is_zero() { "FULL" } else { "NORMAL" };
    db.pragma_update(None, "synchronous", synchronous)?;
    db.pragma_update(None, "cache_size", -CACHE_KIB)?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    db.pragma_update(None, "wal_autocheckpoint", LOG_PAGES_MAX)?;
    db.pragma_update(None, "journal_size_limit", LOG_PAGES_MAX * PAGE_BYTES)
}

fn migrate(db: &mut Connection) -> rusqlite::Result<()> {
    loop {
        let schema: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let next = usize::try_from(schema).ok().and_then(|schema| MIGRATIONS.get(schema));
        let Some(migration) = next else { return Ok(()) };
        let step = db.transaction()?;
        step.execute_batch(migration)?;
        step.pragma_update(None, "application_id", APPLICATION_ID)?;
        step.pragma_update(None, "user_version", schema + 1)?;
        step.commit()?;
    }
}

fn latest() -> i64 {
    // A handful of migrations.
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

fn unusable(path: &Path, error: &rusqlite::Error) -> OpenError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::Foreign(path.to_owned()),
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            let source = std::io::Error::other(error.to_string());
            OpenError::Files { path: path.to_owned(), source }
        }
        _ => store_error(error).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_in(folder: &Path) -> Result<Connection, OpenError> {
        open(folder, Duration::from_secs(1))
    }

    #[test]
    fn a_new_file_has_the_latest_schema_and_opens_again() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let db = open_in(folder.path()).unwrap();
            let schema: i64 = db.pragma_query_value(None, "user_version", |r| r.get(0)).unwrap();
            assert_eq!(schema, latest());
        }
    }

    #[test]
    fn a_later_schema_is_refused_by_number() {
        let folder = tempfile::tempdir().unwrap();
        open_in(folder.path()).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let refused = open_in(folder.path()).unwrap_err();
        assert!(matches!(refused, OpenError::Schema { found: 99, .. }), "{refused}");
    }

    #[test]
    fn a_file_of_someone_else_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = path(folder.path());
        Connection::open(&file).unwrap().execute_batch("CREATE TABLE theirs (a)").unwrap();
        assert!(matches!(open_in(folder.path()).unwrap_err(), OpenError::Foreign(_)));
        let text = [b'x'; 5000];
        std::fs::write(&file, text).unwrap();
        assert!(matches!(open_in(folder.path()).unwrap_err(), OpenError::Foreign(_)));
        assert_eq!(std::fs::read(&file).unwrap(), text);
    }
}
