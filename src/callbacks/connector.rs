//! The way to a receiver: a name that was judged, a connection, TLS, and a meter.
//!
//! The lookup of the name, the connection and the handshake have one time-out together. The meter
//! counts what is read in answer to each request, whatever it is: heads that announce another head,
//! chunks, trailers. Beyond [`ANSWER_BYTES_MAX`] reading fails, and with it the connection: a
//! receiver that sends without end costs no more than that.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use rustls::{ClientConfig, crypto::aws_lc_rs};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tower::Service;

use super::names::JudgedNames;

/// The most that is read of one answer, with all that comes before and after its body, in bytes.
const ANSWER_BYTES_MAX: usize = 128 * 1024;

/// Makes connections to addresses that were judged.
#[derive(Clone)]
pub(super) struct GuardedConnector {
    https: HttpsConnector<HttpConnector<JudgedNames>>,
    timeout: Duration,
}

/// A connection whose answers are measured.
pub(super) struct Metered<T> {
    io: T,
    /// How much was read since the last request, or part of one, was written.
    read_bytes: usize,
}

/// An answer is longer than anybody means well.
#[derive(Debug, thiserror::Error)]
#[error("more than {ANSWER_BYTES_MAX} bytes came in answer")]
struct AnswerTooLong;

/// Nobody took the connection in time.
#[derive(Debug, thiserror::Error)]
#[error("there was no connection within {}", humantime::format_duration(*.0))]
struct ConnectTimeout(Duration);

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Stream = TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>;

// === impl GuardedConnector ===

impl GuardedConnector {
    /// A connector that takes at most `timeout` for a connection and trusts what the machine
    /// trusts.
    ///
    /// # Errors
    /// If the machine's trusted certificates can't be read.
    pub(super) fn new(names: JudgedNames, timeout: Duration) -> Result<Self, rustls::Error> {
        let mut tcp = HttpConnector::new_with_resolver(names);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .try_with_platform_verifier()?
            .with_no_client_auth();
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        Ok(Self { https: builder.enable_http1().wrap_connector(tcp), timeout })
    }
}

impl Service<Uri> for GuardedConnector {
    type Response = TokioIo<Metered<Stream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(context)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let (connecting, timeout) = (self.https.call(target), self.timeout);
        Box::pin(async move {
            let connected = tokio::time::timeout(timeout, connecting).await;
            let io = TokioIo::new(connected.map_err(|_| ConnectTimeout(timeout))??);
            Ok(TokioIo::new(Metered { io, read_bytes: 0 }))
        })
    }
}

// === impl Metered ===

impl<T: Connection> Connection for Metered<T> {
    fn connected(&self) -> Connected {
        self.io.connected()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read_bytes > ANSWER_BYTES_MAX {
            return Poll::Ready(Err(io::Error::other(AnswerTooLong)));
        }
        let before_bytes = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        self.read_bytes += buffer.filled().len() - before_bytes;
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.read_bytes = 0;
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.read_bytes = 0;
        Pin::new(&mut self.io).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
