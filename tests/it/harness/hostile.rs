//! A receiver of callbacks that means no good, on a thread of its own.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime,
    sync::oneshot,
};

/// How much is written at once, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// What it does once a request has arrived.
#[derive(Clone, Debug)]
pub(crate) enum Habit {
    /// Writes this, and closes the connection.
    Write(Vec<u8>),
    /// Writes this, and then a byte a second.
    Drip(&'static str),
    /// Writes the first, and then at least so many bytes of the second, over and over.
    Flood(&'static str, String, u64),
    /// Resets the connection.
    Reset,
    /// Nothing.
    Silence,
}

/// The receiver. Ends when dropped, and with it all its connections.
pub(crate) struct Hostile {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    _end: oneshot::Sender<Infallible>,
}

// === impl Habit ===

impl Habit {
    /// A refusal whose body is 650 KB of gzip, and 103 MB of zeros once it is inflated.
    pub(crate) fn bomb() -> Self {
        const COPIES: usize = 400_000;
        // A block with fixed Huffman codes: a zero, then copies of 258 bytes from a byte before.
        let (block, zero, copy, end) = ("110", "00110000", "1100010100000", "0000000");
        let bits = [block, zero, &copy.repeat(COPIES), end].concat();
        let pack = |bits: &[u8]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | (bit & 1));
        let mut zipped = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
        zipped.extend(bits.as_bytes().chunks(8).map(pack));
        let length = zipped.len();
        let head = format!(
            "HTTP/1.1 500 Oh\r\ncontent-encoding: gzip\r\ncontent-length: {length}\r\n\r\n"
        );
        Self::Write([head.into_bytes(), zipped].concat())
    }
}

// === impl Hostile ===

impl Hostile {
    /// Starts a receiver with this habit on a free port of this address.
    pub(crate) fn start(habit: Habit, ip: [u8; 4]) -> Self {
        let listener = std::net::TcpListener::bind(SocketAddr::from((ip, 0))).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<AtomicUsize>::default();
        let (end, ended) = oneshot::channel();
        let book = Arc::clone(&requests);
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, Arc::new(habit), book) => {}
                    _ = ended => {}
                }
            });
        });
        Self { address, requests, _end: end }
    }

    /// Where callbacks are posted to.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/hooks/sms", self.address)
    }

    /// How many requests have arrived.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Relaxed)
    }
}

async fn accept(listener: std::net::TcpListener, habit: Arc<Habit>, requests: Arc<AtomicUsize>) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (habit, requests) = (Arc::clone(&habit), Arc::clone(&requests));
        // An error says that the other side had enough.
        tokio::spawn(async move { serve(stream, &habit, &requests).await });
    }
}

async fn serve(mut stream: TcpStream, habit: &Habit, requests: &AtomicUsize) -> io::Result<()> {
    let mut request = Vec::new();
    // The body is one object.
    while !request.ends_with(b"}") {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    requests.fetch_add(1, Relaxed);
    match habit {
        Habit::Write(answer) => stream.write_all(answer).await,
        Habit::Reset => stream.set_zero_linger(),
        Habit::Silence => std::future::pending().await,
        Habit::Drip(head) => {
            stream.write_all(head.as_bytes()).await?;
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                stream.write_all(b"x").await?;
            }
        }
        Habit::Flood(head, unit, bytes) => {
            stream.write_all(head.as_bytes()).await?;
            let piece = unit.repeat(PIECE_BYTES / unit.len());
            for _ in 0..=(bytes / piece.len() as u64) {
                stream.write_all(piece.as_bytes()).await?;
            }
            Ok(())
        }
    }
}
