//! The accept loop: bounded connections, of which those that do nothing make room for others, bounded
//! headers, bounded time, and a shutdown that lets open requests finish. Where it speaks TLS, a handshake has the time that headers have, and its
//! connection's place.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use axum::{Router, response::IntoResponse};
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{
    body::RequestBody,
    host_header,
    places::{Place, Places, UnderWay},
    settings::ServerSettings,
    writing::BoundedWrites,
};

/// The longest request line and headers, in bytes.
const HEADERS_BYTES_MAX: usize = 32 * 1024;

/// The most headers.
const HEADERS_MAX: usize = 100;

/// The largest buffer of a connection, in bytes.
const BUFFER_BYTES_MAX: usize = 128 * 1024;

/// How long open requests may take to finish at a shutdown.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// How many connections that only wait make room when the process may open no more, and how long
/// they have for it.
const ROOM: usize = 64;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves one listener.
pub(super) struct Server {
    router: Router,
    http: http1::Builder,
    tls: Option<TlsAcceptor>,
    header_timeout: Duration,
    body_timeout: Duration,
    places: Places,
    open: GracefulShutdown,
    /// Ends what is still open once the time to finish is up.
    hard: CancellationToken,
}

/// A connection that was accepted.
struct Connection {
    router: Router,
    http: http1::Builder,
    body_timeout: Duration,
    place: Arc<Place>,
    /// Tells it when the server stops, which waits for it.
    watcher: Watcher,
}

// === impl Server ===

impl Server {
    pub(super) fn new(router: Router, settings: &ServerSettings) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(settings.header_timeout)
            .max_headers(HEADERS_MAX)
            .max_header_size(HEADERS_BYTES_MAX)
            .max_buf_size(BUFFER_BYTES_MAX);
        let hard = CancellationToken::new();
        Self {
            router,
            http,
            tls: None,
            header_timeout: settings.header_timeout,
            body_timeout: settings.body_timeout,
            places: Places::new(settings.connections_max, hard.clone()),
            open: GracefulShutdown::new(),
            hard,
        }
    }

    /// The same over TLS.
    pub(super) fn with_tls(self, tls: TlsAcceptor) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Accepts until `shutdown`, then lets open requests finish.
    pub(super) async fn run(self, listener: TcpListener, shutdown: CancellationToken) {
        tokio::select! {
            () = self.accept(&listener, &shutdown) => {}
            () = shutdown.cancelled() => {}
        }
        drop(listener);
        let left_open = self.open.count();
        tracing::debug!(connections = left_open, "the API stops; open requests may finish");
        if timeout(DRAIN_TIME, self.open.shutdown()).await.is_err() {
            tracing::warn!("some requests did not finish in time and were broken off");
        }
        self.hard.cancel();
    }

    async fn accept(&self, listener: &TcpListener, shutdown: &CancellationToken) {
        let mut is_failing = false;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    is_failing = false;
                    self.serve(stream, self.places.take().await, shutdown.clone());
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    let closed = self.places.make_room(ROOM);
                    // Once for a row of failures, not once a try.
                    if !is_failing {
                        tracing::warn!(%error, closed, "a connection could not be accepted");
                    }
                    is_failing = true;
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn serve(&self, stream: TcpStream, place: Arc<Place>, shutdown: CancellationToken) {
        // Answers are written whole; waiting to fill a packet would only delay them.
        let _ = stream.set_nodelay(true);
        let stream = BoundedWrites::new(stream, self.body_timeout);
        let connection = Connection {
            router: self.router.clone(),
            http: self.http.clone(),
            body_timeout: self.body_timeout,
            place: Arc::clone(&place),
            watcher: self.open.watcher(),
        };
        let (tls, header_timeout) = (self.tls.clone(), self.header_timeout);
        let served = async move {
            let Some(tls) = tls else { return connection.serve(stream).await };
            let handshake = timeout(header_timeout, tls.accept(stream));
            match shutdown.run_until_cancelled(handshake).await {
                Some(Ok(Ok(stream))) => connection.serve(stream).await,
                Some(Ok(Err(error))) => tracing::debug!(%error, "a TLS handshake failed"),
                Some(Err(_)) => tracing::debug!("a TLS handshake took too long"),
                None => {}
            }
        };
        tokio::spawn(async move { place.end().run_until_cancelled(served).await });
    }
}

// === impl Connection ===

impl Connection {
    /// Answers the requests that come by `stream`, until it is closed or the server stops.
    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static) {
        let Self { router, http, body_timeout, place, watcher } = self;
        let service = service_fn(move |request: Request<Incoming>| {
            let (router, request) = (router.clone(), RequestBody::bound(request, body_timeout));
            let place = Arc::clone(&place);
            async move {
                place.work().await;
                let answer = match host_header::check(&request) {
                    Ok(()) => router.oneshot(request).await?,
                    Err(problem) => problem.into_response(),
                };
                Ok::<_, Infallible>(UnderWay::answer(answer, place))
            }
        });
        let connection = http.serve_connection(TokioIo::new(stream), service);
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};

    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use axum::{
        extract::Request as AxumRequest, response::IntoResponse, response::Response, routing::post,
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        sync::Semaphore,
        task::JoinHandle,
    };

    use super::*;
    use crate::api::{body, problem};

    /// How long anything may take that is expected to happen.
    const SOON: Duration = Duration::from_secs(10);

    const BODY_BYTES_MAX: u64 = 3 << 20;

    struct Running {
        address: std::net::SocketAddr,
        shutdown: CancellationToken,
        task: JoinHandle<()>,
    }

    async fn take(places: Arc<Semaphore>, request: AxumRequest) -> Response {
        match body::collect(request.into_body(), BODY_BYTES_MAX, &places, SOON).await {
            Ok(collected) => collected.bytes.len().to_string().into_response(),
            Err(problem) => problem.into_response(),
        }
    }

    async fn panics() -> Response {
        panic!("as the test wants")
    }

    async fn start(connections_max: u32) -> Running {
        start_with(connections_max, Duration::from_millis(300)).await
    }

    async fn start_with(connections_max: u32, patience: Duration) -> Running {
        let settings = ServerSettings {
            listen: ([127, 0, 0, 1], 0).into(),
            public_url: None,
            body_bytes_max: BODY_BYTES_MAX,
            unpacked_bytes_max: BODY_BYTES_MAX,
            metrics_listen: None,
            header_timeout: patience,
            body_timeout: patience,
            connections_max,
            tls: None,
        };
        let places = Arc::new(Semaphore::new(2));
        let router = Router::new()
            .route("/take", post(move |request| take(places, request)))
            .route("/panic", post(panics))
            .layer(tower_http::catch_panic::CatchPanicLayer::custom(problem::panicked));
        let listener = TcpListener::bind(settings.listen).await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let task = tokio::spawn(Server::new(router, &settings).run(listener, shutdown.clone()));
        Running { address, shutdown, task }
    }

    impl Running {
        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }

        /// The status of the answer to `request`, and the rest of what came until the end.
        async fn ask(&self, request: &str) -> (u16, String) {
            let mut stream = self.connect().await;
            stream.write_all(request.as_bytes()).await.unwrap();
            answer(&mut stream).await
        }
    }

    async fn answer(stream: &mut TcpStream) -> (u16, String) {
        let mut text = Vec::new();
        timeout(SOON, stream.read_to_end(&mut text)).await.unwrap().unwrap();
        let text = String::from_utf8(text).unwrap();
        let status = text.get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or(0);
        (status, text)
    }

    #[tokio::test]
    async fn a_body_is_taken_to_its_end() {
        let running = start(8).await;
        let head = "POST /take HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";
        let (status, text) = running.ask(&format!("{head}Content-Length: 5\r\n\r\nhello")).await;
        assert_eq!((status, text.ends_with("\r\n\r\n5")), (200, true), "{text}");
        let chunked =
            format!("{head}Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n");
        assert!(running.ask(&chunked).await.1.ends_with("\r\n\r\n5"));
    }

    #[tokio::test]
    async fn a_client_that_goes_on_sending_sees_why_it_is_refused() {
        let running = start(8).await;
        for framing in ["Content-Length: 20971520", "Transfer-Encoding: chunked"] {
            let mut stream = running.connect().await;
            let head =
                format!("POST /take HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{framing}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let is_chunked = framing.starts_with('T');
            let piece = vec![b'x'; 1 << 20];
            for _ in 0..20 {
                if is_chunked {
                    stream.write_all(b"100000\r\n").await.unwrap();
                }
                stream.write_all(&piece).await.unwrap();
                if is_chunked {
                    stream.write_all(b"\r\n").await.unwrap();
                }
            }
            if is_chunked {
                stream.write_all(b"0\r\n\r\n").await.unwrap();
            }
            let (status, text) = answer(&mut stream).await;
            assert_eq!(status, 413, "{framing}: {text}");
            assert!(text.contains("body_too_large"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_client_that_waits_to_be_asked_is_refused_without_being_asked() {
        let running = start(8).await;
        let head = "POST /take HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 20971520\r\n\r\n";
        let (status, text) = running.ask(head).await;
        assert_eq!(status, 413, "{text}");
    }

    #[tokio::test]
    async fn a_body_that_stalls_or_trickles_ends_with_408() {
        let running = start(8).await;
        let head =
            "POST /take HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 900\r\n\r\nx";
        let (status, text) = running.ask(head).await;
        assert_eq!(status, 408, "{text}");
        assert!(text.contains("body_timeout"));
        let (mut read, mut write) = running.connect().await.into_split();
        write.write_all(head.as_bytes()).await.unwrap();
        let trickle = tokio::spawn(async move {
            while write.write_all(b"x").await.is_ok() {
                sleep(Duration::from_millis(10)).await;
            }
        });
        let mut first = [0; 12];
        timeout(SOON, read.read_exact(&mut first)).await.unwrap().unwrap();
        assert_eq!(&first, b"HTTP/1.1 408");
        trickle.abort();
    }

    #[tokio::test]
    async fn slow_headers_and_idle_connections_are_closed() {
        let running = start(8).await;
        let (status, text) = running.ask("POST /take HTTP/1.1\r\nHost:").await;
        assert!(matches!(status, 0 | 408), "{text}");
        let mut idle = running.connect().await;
        idle.write_all(b"POST /take HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(answer(&mut idle).await.0, 200);
    }

    #[tokio::test]
    async fn what_is_no_http_is_answered_by_the_server_itself() {
        let running = start(8).await;
        let many = "X: y\r\n".repeat(HEADERS_MAX + 1);
        assert_eq!(running.ask(&format!("POST /take HTTP/1.1\r\n{many}\r\n")).await.0, 431);
        let long = "x".repeat(2 * BUFFER_BYTES_MAX);
        let mut stream = running.connect().await;
        // The server may close before it has read everything.
        let _ = stream.write_all(format!("POST /take HTTP/1.1\r\nX: {long}").as_bytes()).await;
        let mut first = [0; 12];
        timeout(SOON, stream.read_exact(&mut first)).await.unwrap().unwrap();
        assert_eq!(&first, b"HTTP/1.1 431");
        assert_eq!(running.ask("nonsense\r\n\r\n").await.0, 400);
    }

    #[tokio::test]
    async fn a_panic_is_an_answer() {
        let running = start(8).await;
        let head =
            "POST /panic HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        let (status, text) = running.ask(head).await;
        assert_eq!(status, 500, "{text}");
        assert!(!text.contains("as the test wants"));
    }

    #[tokio::test]
    async fn a_connection_beyond_the_bound_takes_the_place_of_one_that_waits() {
        let running = start_with(2, SOON * 10).await;
        let mut working = running.connect().await;
        working
            .write_all(b"POST /take HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            .await
            .unwrap();
        // Once the server asks for the body, the request is under way.
        let mut asked = [0; 25];
        timeout(SOON, working.read_exact(&mut asked)).await.unwrap().unwrap();
        let head =
            "POST /take HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        for begun in ["", "POST /take HT", "POST /take HTTP/1.1\r\nHost:"] {
            let mut idle = running.connect().await;
            idle.write_all(begun.as_bytes()).await.unwrap();
            assert_eq!(running.ask(head).await.0, 200);
            // Nothing was asked, so there is no answer.
            let end = timeout(SOON, idle.read(&mut asked)).await.unwrap();
            assert_eq!(end.unwrap_or(0), 0, "{begun}");
        }
        working.write_all(b"ok").await.unwrap();
        assert_eq!(answer(&mut working).await.0, 200);
    }

    #[tokio::test]
    async fn a_shutdown_lets_open_requests_finish_and_takes_no_new_ones() {
        let running = start(8).await;
        let mut open = running.connect().await;
        open.write_all(
            b"POST /take HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
        )
        .await
        .unwrap();
        // Once the server asks for the body, the request is under way.
        let mut asked = [0; 25];
        timeout(SOON, open.read_exact(&mut asked)).await.unwrap().unwrap();
        running.shutdown.cancel();
        open.write_all(b"ok").await.unwrap();
        assert_eq!(answer(&mut open).await.0, 200);
        timeout(SOON, running.task).await.unwrap().unwrap();
        assert!(TcpStream::connect(running.address).await.is_err());
    }
}
