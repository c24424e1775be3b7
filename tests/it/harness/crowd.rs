//! Clients that hold connections open and do nothing with them, or next to nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
    time::sleep,
};

use super::eventually;

/// How many connect at the same time.
const CONNECTING_MAX: usize = 64;

/// How long one that was closed waits before it comes back.
const RETURN_AFTER: Duration = Duration::from_secs(1);

/// What one of them does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It says nothing.
    Silent,
    /// It sends half of a request's head.
    Half,
    /// It has had an answer, and asks for nothing more.
    Kept,
    /// It sends a request's head, a byte at a time.
    DripsHead,
    /// It sends a batch of lines, a byte at a time.
    DripsBody,
}

/// The clients. They go away when dropped.
pub(crate) struct Crowd {
    _clients: JoinSet<()>,
    book: Arc<Book>,
}

/// How long one connection was held, and the status of the last answer; 0 if there was none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) manner: Manner,
    pub(crate) time: Duration,
    pub(crate) status: u16,
}

struct Book {
    address: String,
    /// From one byte to the next.
    drip: Duration,
    connecting: Semaphore,
    /// Whether those that were closed come back.
    returning: AtomicBool,
    open: AtomicUsize,
    ended: Mutex<Vec<Held>>,
}

// === impl Crowd ===

impl Crowd {
    /// So many clients of each manner, which come back whenever they are closed.
    pub(crate) fn gather(address: &str, drip: Duration, members: &[(Manner, usize)]) -> Self {
        let book = Arc::new(Book {
            address: address.to_owned(),
            drip,
            connecting: Semaphore::new(CONNECTING_MAX),
            returning: AtomicBool::new(true),
            open: AtomicUsize::new(0),
            ended: Mutex::default(),
        });
        let mut clients = JoinSet::new();
        for (manner, count) in members {
            for _ in 0..*count {
                let (book, manner) = (Arc::clone(&book), *manner);
                clients.spawn(async move { book.come_and_come_back(manner).await });
            }
        }
        Self { _clients: clients, book }
    }

    /// How many connections they hold.
    pub(crate) fn open(&self) -> usize {
        self.book.open.load(Relaxed)
    }

    /// Waits until they hold so many.
    pub(crate) async fn wait_until_open(&self, connections: usize, longest: Duration) {
        let what = format!("{connections} open connections");
        eventually(&what, longest, async || (self.open() >= connections).then_some(())).await;
    }

    /// Lets them not come back any more, and waits until all were closed; gives what became of those
    /// that were open.
    pub(crate) async fn wait_until_closed(&self, longest: Duration) -> Vec<Held> {
        self.book.returning.store(false, Relaxed);
        let before = self.book.ended.lock().len();
        eventually("the end of all connections", longest, async || {
            (self.open() == 0).then_some(())
        })
        .await;
        self.book.ended.lock().split_off(before)
    }
}

// === impl Book ===

impl Book {
    async fn come_and_come_back(&self, manner: Manner) {
        while self.returning.load(Relaxed) {
            self.come(manner).await;
            sleep(RETURN_AFTER).await;
        }
    }

    async fn come(&self, manner: Manner) {
        let connected = {
            let _turn = self.connecting.acquire().await;
            TcpStream::connect(&self.address).await
        };
        let Ok(stream) = connected else { return };
        self.open.fetch_add(1, Relaxed);
        let begun = Instant::now();
        // An error says that the server had enough.
        let status = self.hold(stream, manner).await.unwrap_or(0);
        self.ended.lock().push(Held { manner, time: begun.elapsed(), status });
        self.open.fetch_sub(1, Relaxed);
    }

    async fn hold(&self, mut stream: TcpStream, manner: Manner) -> io::Result<u16> {
        match manner {
            Manner::Silent => {}
            Manner::Half => stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: ").await?,
            Manner::Kept => {
                stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await?;
            }
            Manner::DripsHead => return self.drip(stream, "GET /healthz HTTP/1.1\r\nHost: ").await,
            Manner::DripsBody => {
                let head = "POST /v1/batches HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\
                            Content-Type: application/x-ndjson\r\n\r\n{\"body\": \"";
                return self.drip(stream, head).await;
            }
        }
        end(&mut stream).await
    }

    /// Sends a beginning, and then a byte at a time, until an answer comes or the end.
    async fn drip(&self, stream: TcpStream, beginning: &str) -> io::Result<u16> {
        let (mut read, mut write) = stream.into_split();
        let dripping = async {
            write.write_all(beginning.as_bytes()).await?;
            loop {
                sleep(self.drip).await;
                write.write_all(b"x").await?;
            }
        };
        tokio::select! {
            status = end(&mut read) => status,
            error = dripping => error,
        }
    }
}

/// Reads to the end; gives the status of what came.
async fn end(read: &mut (impl AsyncReadExt + Unpin)) -> io::Result<u16> {
    let (mut head, mut rest) = ([0; 12], [0; 512]);
    if let Err(error) = read.read_exact(&mut head).await {
        return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(0) } else { Err(error) };
    }
    // What comes after the status does not matter, nor how it ends.
    while read.read(&mut rest).await.is_ok_and(|bytes| bytes > 0) {}
    Ok(std::str::from_utf8(&head[9..]).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0))
}
