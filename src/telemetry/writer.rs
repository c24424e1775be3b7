//! Where log lines go: to a thread of their own that writes them to stderr.
//!
//! Whoever logs never waits for the reader of the log. If the reader stops, at most
//! [`LINES_MAX`] lines wait and later ones are dropped; once it reads again, a line says how many
//! were. If stderr is closed, lines vanish and the work goes on.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

/// How many lines wait for a slow reader before further ones are dropped.
const LINES_MAX: usize = 8_192;

/// How long the end of the process waits for the reader.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// Hands lines to the writing thread.
#[derive(Clone)]
pub(super) struct Lines {
    queue: SyncSender<Word>,
    dropped: Arc<AtomicU64>,
}

/// One line as it is put together.
pub(super) struct Line<'a> {
    lines: &'a Lines,
    text: Vec<u8>,
}

/// Writes what still waits when it is dropped, for at most half a second.
#[derive(Debug)]
#[must_use = "lines that still wait are lost without it"]
pub struct Flush(SyncSender<Word>);

/// What the writing thread is told.
enum Word {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

// === impl Lines ===

impl Lines {
    /// Starts the thread that writes to `out`. The thread lives as long as anyone can log.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(super) fn to(out: impl Write + Send + 'static) -> io::Result<(Self, Flush)> {
        let (queue, words) = sync_channel(LINES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let lines = Self { queue: queue.clone(), dropped: Arc::clone(&dropped) };
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_all(out, &words, &dropped))?;
        Ok((lines, Flush(queue)))
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { lines: self, text: Vec::new() }
    }
}

// === impl Line ===

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let text = std::mem::take(&mut self.text);
        if !text.is_empty() && self.lines.queue.try_send(Word::Line(text)).is_err() {
            self.lines.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// === impl Flush ===

impl Drop for Flush {
    fn drop(&mut self) {
        let (done, wait) = sync_channel(1);
        // If the queue is full nobody reads, and waiting would be in vain.
        if self.0.try_send(Word::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

fn write_all(mut out: impl Write, words: &Receiver<Word>, dropped: &AtomicU64) {
    while let Ok(word) = words.recv() {
        match word {
            // A closed stderr must not stop the work: the line is lost.
            Word::Line(text) => drop(out.write_all(&text)),
            Word::Flush(done) => drop(done.send(())),
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(out, "{lost} log lines were dropped: nobody read them in time");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Passes what is written on, one piece for each word it gets.
    struct Gate(Receiver<()>, mpsc::Sender<Vec<u8>>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            let _ = self.1.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn log(lines: &Lines, text: &str) {
        lines.make_writer().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn a_reader_that_stops_holds_nobody_up_and_learns_what_it_missed() {
        let (open, gate) = mpsc::channel();
        let (sink, written) = mpsc::channel();
        let (lines, flush) = Lines::to(Gate(gate, sink)).unwrap();
        // One line is in the thread's hands at most, so ten at least find no room.
        for _ in 0..LINES_MAX + 11 {
            log(&lines, "a line\n");
        }
        drop(open);
        let told = written.iter().any(|text| {
            let text = String::from_utf8(text).unwrap();
            text.contains("log lines were dropped")
                || text.split(' ').next().unwrap().parse::<u64>().is_ok_and(|lost| lost >= 10)
        });
        assert!(told);
        drop(flush);
    }

    #[test]
    fn dropping_the_flush_writes_what_waits() {
        let (open, gate) = mpsc::channel();
        let (sink, written) = mpsc::channel();
        let (lines, flush) = Lines::to(Gate(gate, sink)).unwrap();
        log(&lines, "the last words\n");
        open.send(()).unwrap();
        drop(flush);
        assert_eq!(written.try_recv().unwrap(), b"the last words\n");
    }

    #[test]
    fn a_closed_stderr_is_no_reason_to_stop() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (lines, flush) = Lines::to(Closed).unwrap();
        for _ in 0..3 {
            log(&lines, "into the void\n");
        }
        drop(flush);
        assert_eq!(lines.dropped.load(Ordering::Relaxed), 0);
    }
}
