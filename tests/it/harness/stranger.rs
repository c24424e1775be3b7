//! A server of TLS that nobody vouches for: its certificate is signed by itself.

use std::{
    convert::Infallible,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::{Sender, channel},
    },
    thread,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
};

/// For 127.0.0.1, and for nothing but these tests.
const CERTIFICATE: &str = "MIIBlzCCAT6gAwIBAgIUQlB3kFOgOGkuGGH8qo7mbbYjPDIwCgYIKoZIzj0EAwIwGDEWMBQGA1UEAwwNaG9va3MuZX\
    hhbXBsZTAgFw0yNjExMjgwNzQ3NTFaGA8yMTI2MTEwNDA3NDc1MVowGDEWMBQGA1UEAwwNaG9va3MuZXhhbXBsZTBZ\
    MBMGByqGSM49AgEGCCqGSM49AwEHA0IABGIs9VrdLECwIVUnWjekiwQHTxOlS+sxCgigONmFM2JEbHVZj7c/EQYGQk\
    msGig5qUVMVkct9W6aUdnsKTVK9ZmjZDBiMB0GA1UdDgQWBBQucyw6EUinbQUwhoSDUMXPkB10uDAfBgNVHSMEGDAW\
    gBQucyw6EUinbQUwhoSDUMXPkB10uDAPBgNVHRMBAf8EBTADAQH/MA8GA1UdEQQIMAaHBH8AAAEwCgYIKoZIzj0EAw\
    IDRwAwRAIgF1AeKxjxVtHE858tQ+e9ftWRFjpQbWt+8jP5SUcte4YCIEJ5/wz2dD1KARF8AoEu9FTBxPWt2XkGUM/n\
    LQLGO3qo";
const KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgReJ1p8NVfzZ4S6Vkh/KnfvgICm8/D7muOGdtREWuJh\
    yhRANCAARiLPVa3SxAsCFVJ1o3pIsEB08TpUvrMQoIoDjZhTNiRGx1WY+3PxEGBkJJrBooOalFTFZHLfVumlHZ7Ck1\
    SvWZ";

/// The server. Ends when dropped.
pub(crate) struct Stranger {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    _end: Sender<Infallible>,
}

// === impl Stranger ===

impl Stranger {
    /// Starts a server on a free port.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<AtomicUsize>::default();
        let (end, ended) = channel();
        let book = Arc::clone(&requests);
        thread::spawn(move || {
            let config = config();
            // The other end is dropped, and never sends.
            while ended
                .recv_timeout(Duration::from_millis(5))
                .is_err_and(|error| error == std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                let Ok((stream, _)) = listener.accept() else { continue };
                let _ = serve(stream, &config, &book);
            }
        });
        Self { address, requests, _end: end }
    }

    /// Where callbacks are posted to.
    pub(crate) fn url(&self) -> String {
        format!("https://{}/hooks/sms", self.address)
    }

    /// How many requests came to be read.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Relaxed)
    }
}

fn config() -> Arc<ServerConfig> {
    let certificate = CertificateDer::from(STANDARD.decode(CERTIFICATE).unwrap());
    let key = PrivatePkcs8KeyDer::from(STANDARD.decode(KEY).unwrap());
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth();
    Arc::new(config.with_single_cert(vec![certificate], key.into()).unwrap())
}

fn serve(
    stream: TcpStream,
    config: &Arc<ServerConfig>,
    requests: &AtomicUsize,
) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let connection = ServerConnection::new(Arc::clone(config)).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    let mut request = [0; 4_096];
    if stream.read(&mut request)? > 0 {
        requests.fetch_add(1, Relaxed);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    }
    Ok(())
}
