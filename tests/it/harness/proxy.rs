//! A TCP proxy that does to connections what networks do. What it does is changed while it runs, and
//! then holds for open connections and new ones alike.

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
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    runtime,
    sync::{oneshot, watch},
};

use super::backing::StoreUrl;

/// The most that is read at once, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// The proxy. Ends when dropped, and with it all its connections.
pub(crate) struct Proxy {
    address: SocketAddr,
    wire: watch::Sender<Wire>,
    cuts: Arc<AtomicUsize>,
    _end: oneshot::Sender<Infallible>,
}

/// What becomes of what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// It arrives.
    Pass,
    /// Each piece arrives this much later, either way.
    Delay(Duration),
    /// Half of a client's next piece arrives; then the connection is reset.
    CutRequest,
    /// What the client sends arrives; the next piece of an answer does not, and the connection is
    /// reset.
    CutReply,
    /// It is lost. Connections that lost something are reset when the wire is whole again.
    Swallow(Way),
    /// It arrives when the wire is whole again, as a network would repeat it.
    Hold(Way),
    /// In place of an answer the client gets something else, and the connection is reset.
    Garble,
}

/// Which way something is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    ToServer,
    ToClient,
    Both,
}

/// How a connection ended.
enum End {
    /// One side closed it, or went away.
    Closed,
    /// The wire cut it.
    Cut,
}

// === impl Proxy ===

impl Proxy {
    /// Starts a proxy before the server at this address.
    pub(crate) fn before(server: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", super::free_port())).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (wire, shape) = watch::channel(Wire::Pass);
        let cuts = Arc::<AtomicUsize>::default();
        let (end, ended) = oneshot::channel();
        let book = Arc::clone(&cuts);
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, server, shape, book) => {}
                    _ = ended => {}
                }
            });
        });
        Self { address, wire, cuts, _end: end }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Does this from now on.
    pub(crate) fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }

    /// How many connections it has cut.
    pub(crate) fn cuts(&self) -> usize {
        self.cuts.load(Relaxed)
    }
}

impl StoreUrl for Proxy {
    fn store_url(&self) -> String {
        format!("redis://{}", self.address)
    }
}

// === impl Way ===

impl Way {
    fn covers(self, other: Self) -> bool {
        self == other || self == Self::Both
    }
}

async fn accept(
    listener: std::net::TcpListener,
    server: SocketAddr,
    wire: watch::Receiver<Wire>,
    cuts: Arc<AtomicUsize>,
) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let (wire, cuts) = (wire.clone(), Arc::clone(&cuts));
        tokio::spawn(async move {
            // A server that is not there is none of the proxy's business: the client sees a close.
            if let Ok(server) = TcpStream::connect(server).await
                && matches!(join(client, server, wire).await, Ok(End::Cut))
            {
                cuts.fetch_add(1, Relaxed);
            }
        });
    }
}

/// Carries what both sides send, until one of them or the wire ends it.
async fn join(
    mut client: TcpStream,
    mut server: TcpStream,
    wire: watch::Receiver<Wire>,
) -> io::Result<End> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let end = {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        tokio::select! {
            end = carry(from_client, to_server, Way::ToServer, wire.clone()) => end?,
            end = carry(from_server, to_client, Way::ToClient, wire) => end?,
        }
    };
    if matches!(end, End::Cut) {
        // Dropped like this, a connection is reset.
        client.set_zero_linger()?;
        server.set_zero_linger()?;
    }
    Ok(end)
}

/// Carries what is sent one way.
async fn carry(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    way: Way,
    mut wire: watch::Receiver<Wire>,
) -> io::Result<End> {
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    let mut has_lost = false;
    loop {
        piece.clear();
        tokio::select! {
            read = from.read_buf(&mut piece) => if read? == 0 { return Ok(End::Closed) },
            changed = wire.changed() => {
                let is_whole = *wire.borrow_and_update() == Wire::Pass;
                if changed.is_err() || (has_lost && is_whole) {
                    return Ok(End::Cut);
                }
                continue;
            }
        }
        let shape = *wire.borrow_and_update();
        match shape {
            Wire::Swallow(lost) if lost.covers(way) => {
                has_lost = true;
                continue;
            }
            _ if has_lost => return Ok(End::Cut),
            Wire::CutRequest if way == Way::ToServer => {
                to.write_all(&piece[..piece.len() / 2]).await?;
                return Ok(End::Cut);
            }
            Wire::CutReply if way == Way::ToClient => return Ok(End::Cut),
            Wire::Garble if way == Way::ToClient => {
                to.write_all(b"\x16\x03 this is no answer\r\n\r\n").await?;
                return Ok(End::Cut);
            }
            Wire::Delay(delay) => tokio::time::sleep(delay).await,
            Wire::Hold(held) if held.covers(way) => {
                let is_free = |wire: &Wire| !matches!(wire, Wire::Hold(held) if held.covers(way));
                if wire.wait_for(is_free).await.is_err() {
                    return Ok(End::Cut);
                }
            }
            _ => {}
        }
        to.write_all(&piece).await?;
    }
}
