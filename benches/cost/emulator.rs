//! A provider at its cheapest: answers every POST with an id of 34 characters and looks at nothing
//! else, so that what is measured is the client. It runs in a process of its own.

use std::{net::SocketAddr, time::Instant};

use memchr::memmem;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 43\r\n\r\n\
    {\"id\":\"MK0123456789abcdef0123456789abcdef\"}";

/// When each request of the served connections had been read.
pub(crate) type Arrivals = Mutex<Vec<Instant>>;

/// Serves until it is ended. If `arrivals` is given, it is told of each request.
pub(crate) async fn serve(listener: TcpListener, arrivals: Option<&'static Arrivals>) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_one(stream, arrivals));
        }
    }
}

/// The emulator as a process: prints its address, and serves.
pub(crate) fn run() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        println!("http://{}/", listener.local_addr()?);
        serve(listener, None).await;
        Ok(())
    })
}

async fn serve_one(mut stream: TcpStream, arrivals: Option<&Arrivals>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 16 * 1024];
    let mut filled = 0;
    loop {
        while let Some(length) = request_length(&buffer[..filled]) {
            if let Some(arrivals) = arrivals {
                arrivals.lock().push(Instant::now());
            }
            stream.write_all(ANSWER).await?;
            buffer.copy_within(length..filled, 0);
            filled -= length;
        }
        match stream.read(&mut buffer[filled..]).await? {
            0 => return Ok(()),
            read => filled += read,
        }
    }
}

/// The length of the first request, once all of it is there.
fn request_length(bytes: &[u8]) -> Option<usize> {
    let head = memmem::find(bytes, b"\r\n\r\n")? + 4;
    let name = b"content-length:";
    let found =
        bytes[..head].windows(name.len()).position(|word| word.eq_ignore_ascii_case(name))?;
    let digits = &bytes[found + name.len()..head];
    let end = memchr::memchr(b'\r', digits)?;
    let body: usize = std::str::from_utf8(&digits[..end]).ok()?.trim().parse().ok()?;
    (bytes.len() >= head + body).then_some(head + body)
}
