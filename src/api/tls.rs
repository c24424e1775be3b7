//! TLS of a listener: its certificate, which can be replaced while it listens.
//!
//! Connections that are open keep what they began with; a handshake takes what is there then.

use std::{fmt, path::Path, sync::Arc};

use parking_lot::RwLock;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio_rustls::TlsAcceptor;

use super::settings::TlsSettings;

/// What is spoken over TLS: HTTP/1.1, as without it.
const PROTOCOL: &[u8] = b"http/1.1";

/// A certificate with its key, as it is now. All who hold it see at once when it is replaced.
pub struct Certificate(RwLock<Arc<CertifiedKey>>);

/// A certificate can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file of the certificate, or of its chain, can't be read, or holds none.
    #[error("server.tls.certificate: {0}")]
    Certificate(pem::Error),
    /// The file of the key can't be read, or holds none.
    #[error("server.tls.key: {0}")]
    Key(pem::Error),
    /// They can't be used, or not together.
    #[error("server.tls.key is not that of server.tls.certificate, or can't be used: {0}")]
    Pair(rustls::Error),
    /// Nothing that clients speak is left.
    #[error("server.tls: {0}")]
    Protocol(rustls::Error),
}

// === impl Certificate ===

impl Certificate {
    /// Reads the certificate from its files.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn load(settings: &TlsSettings) -> Result<Self, CertificateError> {
        read(settings).map(|pair| Self(RwLock::new(Arc::new(pair))))
    }

    /// Reads it again. If it can't be used, it stays as it was.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn replace(&self, settings: &TlsSettings) -> Result<(), CertificateError> {
        let pair = Arc::new(read(settings)?);
        *self.0.write() = pair;
        Ok(())
    }

    /// What makes TLS connections with it.
    ///
    /// # Errors
    /// [`CertificateError`] if no version of TLS can be spoken; none is known.
    pub(super) fn acceptor(self: Arc<Self>) -> Result<TlsAcceptor, CertificateError> {
        let config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()
            .map_err(CertificateError::Protocol)?;
        let mut config = config.with_no_client_auth().with_cert_resolver(self);
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Arc::new(config).into())
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read()))
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}

fn read(settings: &TlsSettings) -> Result<CertifiedKey, CertificateError> {
    let chain = chain(&settings.certificate).map_err(CertificateError::Certificate)?;
    let key = PrivateKeyDer::from_pem_file(&settings.key).map_err(CertificateError::Key)?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(CertificateError::Pair)
}

/// The certificate, and those that lead from it to one that clients know.
fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    let chain = CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>()?;
    if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) }
}

fn provider() -> CryptoProvider {
    aws_lc_rs::default_provider()
}
