//! A callback receiver for tests: does what it is told, and keeps a book.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use http::HeaderMap;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

/// What the receiver does with a request.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Writes this and keeps the connection.
    Write(String),
    /// Writes this, and then nothing more.
    Hang(String),
    /// Writes this, and then a byte at a time.
    Drip(String),
    /// Writes the first, and then the second again and again, as long as it is read.
    Flood(String, String),
    /// Resets the connection.
    Reset,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

/// The last act is repeated for ever.
pub(super) struct Receiver {
    address: SocketAddr,
    book: Arc<Book>,
}

#[derive(Default)]
struct Book {
    acts: Mutex<VecDeque<Act>>,
    requests: Mutex<Vec<Received>>,
    connections: AtomicUsize,
    written_bytes: AtomicU64,
    arrived: Notify,
}

// === impl Act ===

impl Act {
    pub(super) fn answer(status: u16, body: &str) -> Self {
        let length = body.len();
        Self::Write(format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{body}"))
    }
}

// === impl Received ===

impl Received {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

// === impl Receiver ===

impl Receiver {
    pub(super) async fn start(acts: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let book =
            Arc::new(Book { acts: Mutex::new(acts.into_iter().collect()), ..Book::default() });
        let open = book.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                open.connections.fetch_add(1, Relaxed);
                tokio::spawn(serve(stream, open.clone()));
            }
        });
        Self { address, book }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/hook?token=hush", self.address)
    }

    pub(super) fn requests(&self) -> Vec<Received> {
        self.book.requests.lock().clone()
    }

    /// How many connections there were.
    pub(super) fn connections(&self) -> usize {
        self.book.connections.load(Relaxed)
    }

    /// How much of its floods the system has taken.
    pub(super) fn written_bytes(&self) -> u64 {
        self.book.written_bytes.load(Relaxed)
    }

    /// Waits until this many requests have arrived.
    pub(super) async fn received(&self, requests: usize) -> Vec<Received> {
        loop {
            let arrived = self.book.arrived.notified();
            if self.requests().len() >= requests {
                return self.requests();
            }
            let wait = tokio::time::timeout(Duration::from_secs(10), arrived);
            wait.await.expect("too few requests arrived");
        }
    }
}

async fn serve(mut stream: TcpStream, book: Arc<Book>) -> io::Result<()> {
    loop {
        let received = read(&mut stream).await?;
        book.requests.lock().push(received);
        let act = {
            let mut acts = book.acts.lock();
            if acts.len() > 1 { acts.pop_front() } else { acts.front().cloned() }
        };
        book.arrived.notify_waiters();
        match act.unwrap() {
            Act::Write(text) => stream.write_all(text.as_bytes()).await?,
            Act::Reset => return stream.set_zero_linger(),
            Act::Hang(text) => {
                stream.write_all(text.as_bytes()).await?;
                return std::future::pending().await;
            }
            Act::Flood(head, piece) => {
                stream.write_all(head.as_bytes()).await?;
                loop {
                    stream.write_all(piece.as_bytes()).await?;
                    book.written_bytes.fetch_add(piece.len() as u64, Relaxed);
                }
            }
            Act::Drip(text) => {
                stream.write_all(text.as_bytes()).await?;
                loop {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    stream.write_all(b"x").await?;
                }
            }
        }
    }
}

/// Reads one request with its body.
async fn read(stream: &mut TcpStream) -> io::Result<Received> {
    let mut text = String::new();
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let headers = headers(head);
            let length = headers.get("content-length").and_then(|value| value.to_str().ok());
            if body.len() >= length.and_then(|length| length.parse().ok()).unwrap_or(0) {
                return Ok(Received { headers, body: body.to_owned() });
            }
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => text.push_str(std::str::from_utf8(&buffer[..read]).unwrap()),
        }
    }
}

fn headers(head: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
        let name = http::HeaderName::try_from(name).unwrap();
        headers.append(name, value.parse().unwrap());
    }
    headers
}
