//! TLS on the API's listener, with certificates made here.

use std::{fs, sync::Arc, time::Duration};

use rcgen::{CertificateParams, CertifiedIssuer, DistinguishedName, DnType, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    harness::{Client, PATIENCE, Receiver, Redis, Ringback, Setup, eventually, free_port},
    scene::{accepted, batch, numbers, with_callback},
};

/// Who signs certificates, and where the server finds its own.
struct Office {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

// === impl Office ===

impl Office {
    fn open() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "an office for tests");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { folder: tempfile::tempdir().unwrap(), issuer }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Puts a new certificate for 127.0.0.1 where the server finds it; gives it.
    fn issue(&self) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.path("certificate.pem"), certificate.pem()).unwrap();
        fs::write(self.path("key.pem"), key.serialize_pem()).unwrap();
        certificate.der().clone()
    }

    /// Starts a process with the certificate that was issued last, and does not wait.
    fn spawn(&self, setup: Setup) -> Ringback {
        let setup = setup.set("server.tls.certificate", &self.path("certificate.pem"));
        setup.set("server.tls.key", &self.path("key.pem")).spawn()
    }

    /// The same, ready.
    async fn start(&self, setup: Setup) -> Ringback {
        let ringback = self.spawn(setup);
        let client = self.client(&ringback);
        eventually("readiness", PATIENCE, async || {
            client.try_get("/readyz").await.filter(|answer| answer.status == 200)
        })
        .await;
        ringback
    }

    /// A client that trusts the office.
    fn client(&self, ringback: &Ringback) -> Client {
        let root = reqwest::Certificate::from_pem(self.issuer.pem().as_bytes()).unwrap();
        Client::trusting(&format!("https://{}", ringback.address()), root)
    }

    /// A connection whose handshake is done.
    async fn connect(&self, ringback: &Ringback) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(ringback.address()).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }
}

/// The certificate that the server showed.
fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// Asks for the health on a connection that stays open; whether it is fine.
async fn asks(stream: &mut TlsStream<TcpStream>) -> bool {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 4096];
    let length = tokio::time::timeout(PATIENCE, stream.read(&mut answer)).await.unwrap().unwrap();
    answer[..length].starts_with(b"HTTP/1.1 200")
}

#[tokio::test]
async fn the_api_speaks_tls_and_nothing_else_there() {
    let (office, store) = (Office::open(), Redis::start().await);
    office.issue();
    let metrics = format!("127.0.0.1:{}", free_port());
    let setup = Ringback::on(&store).set("server.metrics_listen", &metrics);
    let mut ringback = office.start(setup).await;
    let client = office.client(&ringback);
    let receiver = Receiver::start();
    let id = accepted(&client, &with_callback(batch(numbers(0..3)), &receiver)).await;
    client.wait_until_complete(&id, PATIENCE).await;
    let report = eventually("the callback", PATIENCE, async || receiver.deliveries().pop()).await;
    let results = report.json()["data"]["results_url"].as_str().unwrap().to_owned();
    assert!(results.starts_with(&format!("https://{}/", ringback.address())), "{results}");
    // Whoever speaks plain HTTP, or does not know the office, gets no answer.
    assert!(ringback.client().try_get("/healthz").await.is_none());
    let strangers = Client::of(&format!("https://{}", ringback.address()));
    assert!(strangers.try_get("/healthz").await.is_none());
    // The other listener is plain.
    assert_eq!(Client::of(&format!("http://{metrics}")).get("/healthz").await.status, 200);
    ringback.terminate();
    assert_eq!(ringback.wait_for_exit(PATIENCE).await.code(), Some(0));
}

#[tokio::test]
async fn a_certificate_is_replaced_without_a_connection_lost() {
    let (office, store) = (Office::open(), Redis::start().await);
    let first = office.issue();
    let ringback = office.start(Ringback::on(&store)).await;
    let mut open = office.connect(&ringback).await;
    assert!(asks(&mut open).await);
    assert_eq!(shown(&open), first);

    let second = office.issue();
    ringback.reload("");
    eventually("the new certificate", PATIENCE, async || {
        (shown(&office.connect(&ringback).await) == second).then_some(())
    })
    .await;
    assert!(asks(&mut open).await, "an open connection was lost");

    // What can't be used leaves the last one, and says why.
    let refusal = "the configuration can't be used and stays as it was";
    let other_key = KeyPair::generate().unwrap().serialize_pem();
    let certificate = fs::read_to_string(office.path("certificate.pem")).unwrap();
    for (times, (file, text, told)) in [
        ("key.pem", other_key.as_str(), "server.tls.key is not that of"),
        ("key.pem", "", "server.tls.key: "),
        ("certificate.pem", "no certificate", "server.tls.certificate: "),
        ("certificate.pem", &certificate[..certificate.len() / 2], "server.tls.certificate: "),
    ]
    .into_iter()
    .enumerate()
    {
        fs::write(office.path(file), text).unwrap();
        ringback.reload("");
        let line = eventually("the refusal", PATIENCE, async || {
            let log = ringback.log();
            log.lines().filter(|line| line.contains(refusal)).nth(times).map(str::to_owned)
        })
        .await;
        assert!(line.contains(told), "{told} is not in {line}");
        assert_eq!(shown(&office.connect(&ringback).await), second);
    }
    assert!(!ringback.log().contains("PRIVATE KEY"));
    let third = office.issue();
    ringback.reload("");
    eventually("the third certificate", PATIENCE, async || {
        (shown(&office.connect(&ringback).await) == third).then_some(())
    })
    .await;
    assert!(asks(&mut open).await);
}

#[tokio::test]
async fn a_handshake_has_a_place_and_a_time() {
    let (office, store) = (Office::open(), Redis::start().await);
    office.issue();
    let setup = Ringback::on(&store).set("server.connections_max", "1");
    let ringback = office.start(setup.set("server.header_timeout", "300ms")).await;
    let mut silent = TcpStream::connect(ringback.address()).await.unwrap();
    let mut next = office.connect(&ringback).await;
    assert!(asks(&mut next).await);
    // Its place was given on because it was closed.
    let end = tokio::time::timeout(PATIENCE, silent.read(&mut [0; 16])).await.unwrap();
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_handshakes() {
    let (office, store) = (Office::open(), Redis::start().await);
    office.issue();
    let mut ringback = office.start(Ringback::on(&store)).await;
    let mut open = office.connect(&ringback).await;
    assert!(asks(&mut open).await);
    let _silent = TcpStream::connect(ringback.address()).await.unwrap();
    // It was accepted before this one, which is answered.
    assert!(asks(&mut office.connect(&ringback).await).await);
    ringback.terminate();
    assert_eq!(ringback.wait_for_exit(Duration::from_secs(5)).await.code(), Some(0));
}

#[tokio::test]
async fn a_certificate_that_can_not_be_used_keeps_the_api_from_starting_and_nothing_else() {
    let (office, store) = (Office::open(), Redis::start().await);
    office.issue();
    fs::remove_file(office.path("key.pem")).unwrap();
    let mut ringback = office.spawn(Ringback::on(&store));
    assert_eq!(ringback.wait_for_exit(PATIENCE).await.code(), Some(1));
    assert!(ringback.log().contains("can't start: server.tls.key: "), "{}", ringback.log());
    let mut worker = office.spawn(Ringback::on(&store).role("worker"));
    worker.wait_until_ready().await;
}
