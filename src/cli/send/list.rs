//! Where a list comes from: a file, or standard input.
//!
//! Reading blocks, so it is done on a thread of its own. Nothing of the list is kept but one buffer
//! and what its reader holds of the record in hand.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use super::reader::{Format, Reader};
use crate::domain::list::{BYTE_ORDER_MARK, Take, flaw::ListError, header::Needs};

/// How much is read at once, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// How much of a list shows its format, in bytes; more than a byte order mark.
const HEAD_BYTES: usize = 16;

/// A list that is not open yet.
#[derive(Clone, Debug)]
pub(super) struct List {
    /// Standard input if there is none.
    path: Option<PathBuf>,
    /// As it begins, if that is not said.
    format: Option<Format>,
}

/// How much of a list was read.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// So far, in bytes.
    pub(super) read_bytes: AtomicU64,
    /// Recipients so far.
    pub(super) recipients: AtomicU64,
}

// === impl Progress ===

impl Progress {
    /// Begins anew.
    pub(super) fn begin(&self) {
        self.read_bytes.store(0, Ordering::Relaxed);
        self.recipients.store(0, Ordering::Relaxed);
    }
}

// === impl List ===

impl List {
    /// The list at `path`, where `-` is standard input. A file's extension tells its format, unless
    /// `format` does.
    pub(super) fn new(path: &Path, format: Option<Format>) -> Self {
        let extension = path.extension().and_then(|extension| extension.to_str());
        let by_extension = match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("csv") => Some(Format::Csv),
            Some("ndjson" | "jsonl") => Some(Format::Ndjson),
            _ => None,
        };
        let path = (path != Path::new("-")).then(|| path.to_owned());
        Self { path, format: format.or(by_extension) }
    }

    /// Its name for people.
    pub(super) fn name(&self) -> String {
        self.path.as_ref().map_or_else(|| "stdin".to_owned(), |path| path.display().to_string())
    }

    /// How long it is, if it is a file, which can also be read again.
    pub(super) fn file_bytes(&self) -> Option<u64> {
        let file = fs::metadata(self.path.as_ref()?).ok()?;
        file.is_file().then_some(file.len())
    }

    /// Reads it from beginning to end.
    ///
    /// # Errors
    /// [`ListError`]: the first flaw, a failure to read, or what `take` says.
    pub(super) fn read(
        &self,
        needs: &Needs,
        progress: &Progress,
        take: &mut impl Take,
    ) -> Result<(), ListError> {
        match &self.path {
            Some(path) => self.read_from(File::open(path)?, needs, progress, take),
            None => self.read_from(io::stdin().lock(), needs, progress, take),
        }
    }

    fn read_from(
        &self,
        mut input: impl Read,
        needs: &Needs,
        progress: &Progress,
        take: &mut impl Take,
    ) -> Result<(), ListError> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut filled = 0;
        while filled < HEAD_BYTES {
            match read(&mut input, &mut buffer[filled..])? {
                0 => break,
                more => filled += more,
            }
        }
        let head = &buffer[..filled];
        let head = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(head);
        let format = self.format.unwrap_or_else(|| Format::guess(head));
        let mut reader = Reader::new(format, needs.clone());
        reader.push(head, take)?;
        while filled > 0 {
            progress.read_bytes.fetch_add(filled as u64, Ordering::Relaxed);
            filled = read(&mut input, &mut buffer)?;
            reader.push(&buffer[..filled], take)?;
        }
        reader.finish(take)
    }
}

/// Reads once, whatever signals come meanwhile.
fn read(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::list::Line;

    /// Gives its pieces one at a time.
    struct Drip<'a>(Vec<&'a [u8]>);

    #[derive(Default)]
    struct Taken(Vec<String>);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0);
            buffer[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    impl Take for Taken {
        fn take(&mut self, line: Line<'_>) -> Result<(), ListError> {
            self.0.push(String::from_utf8(line.json.to_vec()).unwrap());
            Ok(())
        }
    }

    fn recipients(name: &str, format: Option<Format>, pieces: &[&[u8]]) -> Vec<String> {
        let (list, mut taken) = (List::new(Path::new(name), format), Taken::default());
        let (needs, progress) = (Needs::default(), Progress::default());
        list.read_from(Drip(pieces.to_vec()), &needs, &progress, &mut taken).unwrap();
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        assert_eq!(progress.read_bytes.load(Ordering::Relaxed), bytes as u64);
        taken.0
    }

    #[test]
    fn a_format_is_said_or_named_or_shown_by_the_first_byte() {
        let csv: [&[u8]; 1] = [b"to\n+15551230001\n"];
        let ndjson: [&[u8]; 1] = [b" {\"to\":\"+15551230001\"}\n"];
        let object = ["{\"to\":\"+15551230001\"}"];
        assert_eq!(recipients("-", None, &csv), object);
        assert_eq!(recipients("-", None, &ndjson), object);
        assert_eq!(recipients("list.txt", None, &[b"\"+15551230001\""]), ["\"+15551230001\""]);
        assert_eq!(recipients("list.txt", None, &[b"\"to\"\n+15551230001"]), object);
        assert_eq!(recipients("list.JSONL", None, &ndjson), object);
        assert_eq!(recipients("list.ndjson", Some(Format::Csv), &csv), object);
        assert!(recipients("list.csv", Some(Format::Ndjson), &[b""]).is_empty());
    }

    #[test]
    fn a_byte_order_mark_is_passed_over_however_it_comes() {
        let marked = b"\xef\xbb\xbfto\n+15551230001\n";
        let object = ["{\"to\":\"+15551230001\"}"];
        assert_eq!(recipients("list.csv", None, &[marked]), object);
        assert_eq!(recipients("-", None, &[b"\xef", b"\xbb\xbf\"", b"+15551230001\""]).len(), 1);
        let pieces: Vec<&[u8]> = marked.chunks(1).collect();
        assert_eq!(recipients("-", None, &pieces), object);
    }

    #[test]
    fn only_a_regular_file_has_a_length_and_can_be_read_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "to\n").unwrap();
        assert_eq!(List::new(file.path(), None).file_bytes(), Some(3));
        for other in ["-", "/dev/null", "/", "/nowhere/list.csv"] {
            assert_eq!(List::new(Path::new(other), None).file_bytes(), None, "{other}");
        }
    }
}
