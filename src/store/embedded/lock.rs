//! The lock that keeps a second process out. It belongs to the open file, so that it ends with the
//! process, however that ends.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{Read, Write},
    path::Path,
    sync::mpsc,
    time::{Duration, Instant},
};

use super::OpenError;

/// How long to wait for a process that is just ending.
const ENDING_TIME: Duration = Duration::from_secs(1);

const ASK_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// The longest word of a holder that is shown, in bytes.
const HOLDER_BYTES_MAX: u64 = 64;

/// The folder is ours until this is dropped.
pub(super) struct Lock(#[expect(dead_code, reason = "held for its lock")] File);

// === impl Lock ===

impl Lock {
    /// Takes the folder, which is made if it is not there.
    ///
    /// # Errors
    /// [`OpenError::Held`] if another process has it; else [`OpenError::Files`].
    pub(super) fn take(folder: &Path) -> Result<Self, OpenError> {
        make(folder).map_err(|source| failed(folder, source))?;
        let path = folder.join("lock");
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.map_err(|source| failed(&path, source))?;
        lock(&mut file, folder, &path)?;
        let holder = format!("process {}\n", std::process::id());
        // The name is for people: on a full disk the lock holds without it.
        let _ = file.set_len(0).and_then(|()| file.write_all(holder.as_bytes()));
        Ok(Self(file))
    }
}

/// Makes the folder, for its owner alone, unless it is there.
fn make(folder: &Path) -> std::io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)?;
    // So that the folder itself outlives a loss of power.
    match folder.parent().filter(|parent| *parent != Path::new("")) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

fn lock(file: &mut File, folder: &Path, path: &Path) -> Result<(), OpenError> {
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(source)) => return Err(failed(path, source)),
            Err(TryLockError::WouldBlock) if began.elapsed() < ENDING_TIME => pause(),
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::Held { folder: folder.to_owned(), holder: holder(file) });
            }
        }
    }
}

fn holder(file: &mut File) -> String {
    let mut said = String::new();
    match file.take(HOLDER_BYTES_MAX).read_to_string(&mut said) {
        Ok(_) if !said.trim().is_empty() => said.trim().to_owned(),
        _ => "another process".to_owned(),
    }
}

fn pause() {
    // Nobody sends: it ends when the time is up.
    let (_sender, receiver) = mpsc::channel::<()>();
    let _ = receiver.recv_timeout(ASK_AGAIN_AFTER);
}

fn failed(path: &Path, source: std::io::Error) -> OpenError {
    OpenError::Files { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_told_who_the_first_one_is() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::take(folder.path()).unwrap();
        let Err(OpenError::Held { holder, .. }) = Lock::take(folder.path()) else {
            panic!("taken twice")
        };
        assert_eq!(holder, format!("process {}", std::process::id()));
        drop(first);
        assert!(Lock::take(folder.path()).is_ok(), "the lock outlived its holder");
    }
}
