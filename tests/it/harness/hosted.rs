//! Small HTTP servers on a thread of their own, so that they keep time whatever the test does.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, thread};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, runtime, sync::oneshot};

/// A request that was read to its end.
pub(super) type Whole = Request<Bytes>;

/// What a server does with a request.
pub(super) enum Step {
    /// It answers.
    Answer(Response<Full<Bytes>>),
    /// It resets the connection.
    Reset,
}

/// Decides what happens to requests.
pub(super) trait Host: Send + Sync + 'static {
    /// What happens to one request.
    fn step(&self, request: Whole) -> impl Future<Output = Step> + Send;
}

/// A running server. Ends when dropped, and with it all its connections.
pub(super) struct Hosted {
    pub(super) address: SocketAddr,
    _end: oneshot::Sender<Infallible>,
}

struct ResetWanted;

// === impl Hosted ===

impl Hosted {
    /// Starts `host` on a free port.
    pub(super) fn start(host: Arc<impl Host>) -> Self {
        // Somebody else may take a port between the look and the binding.
        let bind = || std::net::TcpListener::bind(("127.0.0.1", super::free_port()));
        let listener = std::iter::repeat_with(bind).take(10).find_map(Result::ok);
        Self::start_on(host, listener.expect("a free port"))
    }

    /// Starts `host` at this address.
    pub(super) fn start_at(host: Arc<impl Host>, address: SocketAddr) -> Self {
        Self::try_start_at(host, address).unwrap()
    }

    /// The same, if the address is free.
    pub(super) fn try_start_at(host: Arc<impl Host>, address: SocketAddr) -> io::Result<Self> {
        Ok(Self::start_on(host, std::net::TcpListener::bind(address)?))
    }

    fn start_on(host: Arc<impl Host>, listener: std::net::TcpListener) -> Self {
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (end, ended) = oneshot::channel();
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, host) => {}
                    _ = ended => {}
                }
            });
        });
        Self { address, _end: end }
    }
}

async fn accept(listener: std::net::TcpListener, host: Arc<impl Host>) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        // A connection that is dropped without an answer is reset, not closed in order.
        stream.set_zero_linger().unwrap();
        stream.set_nodelay(true).unwrap();
        let host = Arc::clone(&host);
        tokio::spawn(async move {
            let service = service_fn(move |request| serve(Arc::clone(&host), request));
            // An error says that the other side went away, or that a reset was wanted.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn serve(
    host: Arc<impl Host>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, ResetWanted> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| ResetWanted)?.to_bytes();
    match host.step(Request::from_parts(head, body)).await {
        Step::Answer(response) => Ok(response),
        Step::Reset => Err(ResetWanted),
    }
}

// === impl ResetWanted ===

impl std::fmt::Debug for ResetWanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a reset is wanted")
    }
}

impl std::fmt::Display for ResetWanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for ResetWanted {}
