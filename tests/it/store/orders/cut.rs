//! A way to a server that loses replies: what was asked is done, and whoever asked never hears of it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use crate::harness::{Redis, StoreUrl};

/// A server, and a port that leads to it. The port ends with the runtime that it was opened on.
pub(super) struct Way {
    pub(super) server: Redis,
    port: u16,
    breaks: Arc<Breaks>,
}

#[derive(Default)]
struct Breaks {
    /// The reply that is lost is this one, counted from 1; 0 for none.
    nth: AtomicU32,
    /// How many were lost.
    lost: AtomicU32,
    /// Every connection is cut.
    all: Notify,
}

// === impl Way ===

impl Way {
    pub(super) async fn to(server: Redis) -> Self {
        let address = server.address();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let breaks = Arc::<Breaks>::default();
        tokio::spawn(lead(listener, address, Arc::clone(&breaks)));
        Self { server, port, breaks }
    }

    /// Has the server do what nobody asks of it by this way.
    pub(super) fn command(&self, command: &str) {
        // An answer of OK is left out.
        assert_eq!(self.server.ask(command), "", "{command}");
    }

    /// The nth reply from now on (from 1) is lost, and its connection with it.
    pub(super) fn lose_reply(&self, nth: u32) {
        self.breaks.nth.store(nth, Ordering::SeqCst);
    }

    /// How many replies were lost so far.
    pub(super) fn replies_lost(&self) -> u32 {
        self.breaks.lost.load(Ordering::SeqCst)
    }

    /// No further reply is lost.
    pub(super) fn mend(&self) {
        self.lose_reply(0);
    }

    /// Cuts every connection.
    pub(super) fn cut_all(&self) {
        self.breaks.all.notify_waiters();
    }
}

impl StoreUrl for Way {
    fn store_url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

// === impl Breaks ===

impl Breaks {
    /// Whether this reply is lost.
    fn takes_one(&self) -> bool {
        let less = |nth: u32| nth.checked_sub(1);
        let takes = self.nth.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) == Ok(1);
        self.lost.fetch_add(u32::from(takes), Ordering::SeqCst);
        takes
    }
}

async fn lead(listener: TcpListener, server: SocketAddr, breaks: Arc<Breaks>) {
    while let Ok((client, _)) = listener.accept().await {
        let breaks = Arc::clone(&breaks);
        tokio::spawn(async move {
            if let Ok(server) = TcpStream::connect(server).await {
                // Both ends see that it is over.
                let _ = carry(client, server, &breaks).await;
            }
        });
    }
}

/// Carries bytes both ways until a side ends, or a reply is lost. What a server says without being asked
/// is no reply.
async fn carry(client: TcpStream, server: TcpStream, breaks: &Breaks) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut asked = false;
    let (mut question, mut reply) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let cut = breaks.all.notified();
    tokio::pin!(cut);
    cut.as_mut().enable();
    loop {
        tokio::select! {
            () = &mut cut => return Ok(()),
            bytes = from_client.read(&mut question) => match bytes? {
                0 => return Ok(()),
                bytes => {
                    asked = true;
                    to_server.write_all(&question[..bytes]).await?;
                }
            },
            bytes = from_server.read(&mut reply) => match bytes? {
                0 => return Ok(()),
                bytes => {
                    if std::mem::take(&mut asked) && breaks.takes_one() {
                        return Ok(());
                    }
                    to_client.write_all(&reply[..bytes]).await?;
                }
            },
        }
    }
}
