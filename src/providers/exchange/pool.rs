//! Connections to the provider, kept between exchanges.
//!
//! Whoever uses a connection also drives it, in the same task: an exchange wakes no other task, and
//! no thread waits for another. That is why this pool exists: the pooled client of hyper-util has a
//! task of its own behind each connection, and cost about a sixth more processor time a message. A
//! connection that was closed while it lay idle is found out before anything is written to it.

use std::{
    error::Error,
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tower::{Service, ServiceExt};

/// How long an unused connection is kept: shorter than servers and balancers keep theirs, so that
/// few are found closed.
const IDLE: Duration = Duration::from_secs(15);

/// The most an answer's head may hold, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

type Io = MaybeHttpsStream<TokioIo<TcpStream>>;

pub(super) struct Pool {
    connector: HttpsConnector<HttpConnector>,
    target: Uri,
    /// The one used last is on top, with when that was: those at the bottom grow old.
    idle: Mutex<Vec<(Instant, Box<Connection>)>>,
    idle_max: usize,
}

/// One connection, used by one exchange at a time. It is large, and handed about in its box.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: http1::Connection<Io, Full<Bytes>>,
    /// Whether the driver has ended; it must not be polled again then.
    ended: bool,
}

/// No connection could be made: nothing has left.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct Unreachable(Box<dyn Error + Send + Sync>);

// === impl Pool ===

impl Pool {
    /// A pool of connections to `target` that keeps at most `idle_max`.
    pub(super) fn new(
        connector: HttpsConnector<HttpConnector>,
        target: Uri,
        idle_max: usize,
    ) -> Self {
        Self { connector, target, idle: Mutex::default(), idle_max }
    }

    /// A connection that can take a request now.
    pub(super) async fn take(&self) -> Result<Box<Connection>, Unreachable> {
        while let Some(mut connection) = self.take_idle() {
            if connection.ready().await.is_ok() {
                return Ok(connection);
            }
        }
        // Boxed, so that the rare way does not make every exchange's future larger.
        Box::pin(self.connect()).await
    }

    /// Keeps a connection whose exchange was read to its end.
    pub(super) fn put(&self, connection: Box<Connection>) {
        if connection.ended {
            return;
        }
        let now = Instant::now();
        let mut idle = self.idle.lock();
        if idle.first().is_some_and(|(since, _)| now.duration_since(*since) > IDLE) {
            idle.remove(0);
        }
        if idle.len() < self.idle_max {
            idle.push((now, connection));
        }
    }

    fn take_idle(&self) -> Option<Box<Connection>> {
        let mut idle = self.idle.lock();
        let (since, connection) = idle.pop()?;
        if since.elapsed() > IDLE {
            // Those below are older still.
            idle.clear();
            return None;
        }
        Some(connection)
    }

    async fn connect(&self) -> Result<Box<Connection>, Unreachable> {
        let mut connector = self.connector.clone();
        let connector = connector.ready().await.map_err(Unreachable)?;
        let io = connector.call(self.target.clone()).await.map_err(Unreachable)?;
        let handshake = http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(io).await;
        let (sender, driver) = handshake.map_err(|error| Unreachable(error.into()))?;
        let mut connection = Box::new(Connection { sender, driver, ended: false });
        connection.ready().await.map_err(|error| Unreachable(error.into()))?;
        Ok(connection)
    }
}

// === impl Connection ===

impl Connection {
    /// Sends a request, and gives the answer once its head is there.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        let answer = self.sender.send_request(request);
        drive(&mut self.driver, &mut self.ended, answer).await
    }

    /// Does `work`, such as reading an answer's body, while the connection goes on.
    pub(super) async fn during<F: Future>(&mut self, work: F) -> F::Output {
        drive(&mut self.driver, &mut self.ended, work).await
    }

    async fn ready(&mut self) -> hyper::Result<()> {
        drive(&mut self.driver, &mut self.ended, self.sender.ready()).await
    }
}

/// Polls `work` and the connection it depends on, in turn, until the work is done. Once the
/// connection has ended, the work ends with what there was, or with an error.
async fn drive<F: Future>(
    driver: &mut http1::Connection<Io, Full<Bytes>>,
    ended: &mut bool,
    work: F,
) -> F::Output {
    let mut work = pin!(work);
    poll_fn(|context| {
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(done);
        }
        if *ended {
            return Poll::Pending;
        }
        // How it ended is told to the work.
        *ended = Pin::new(&mut *driver).poll(context).is_ready();
        work.as_mut().poll(context)
    })
    .await
}
