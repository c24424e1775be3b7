//! SIGHUP: the configuration is read again, and what can change while a process runs is changed.
//!
//! All of it or nothing: a configuration that can't be read, or makes no sense, changes nothing. What
//! takes effect are the accounts, with their keys, scopes and limits, and the certificate of the API's
//! listener. Anything else takes a restart.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{Accounts, Certificate},
    settings::{Settings, SettingsError},
};

/// What reads the configuration again, from where it was read at the start.
pub type Source = Arc<dyn Fn() -> Result<Settings, SettingsError> + Send + Sync>;

/// Waits for SIGHUP. From when it is made the signal does not end the process.
pub(super) struct Reloads {
    hangups: Signal,
    source: Source,
}

/// What a reload changes.
pub(super) struct Changeable {
    pub(super) accounts: Arc<Accounts>,
    /// None if the process has no API, or one that speaks plain HTTP, which stays so.
    pub(super) certificate: Option<Arc<Certificate>>,
    /// Where the API listens, which stays so.
    pub(super) listen: SocketAddr,
}

// === impl Reloads ===

impl Reloads {
    /// # Errors
    /// If the system refuses to pass the signal on.
    pub(super) fn of(source: Source) -> io::Result<Self> {
        Ok(Self { hangups: signal(SignalKind::hangup())?, source })
    }

    /// Reloads at each signal, until `shutdown`.
    pub(super) async fn run(mut self, what: Changeable, shutdown: CancellationToken) {
        while let Some(Some(())) = shutdown.run_until_cancelled(self.hangups.recv()).await {
            let source = Arc::clone(&self.source);
            // Files are read.
            match tokio::task::spawn_blocking(move || source()).await {
                Ok(Ok(settings)) => what.become_as(settings),
                Ok(Err(error)) => refused(&error),
                Err(error) => refused(&error),
            }
        }
    }
}

fn refused(error: &dyn std::fmt::Display) {
    tracing::error!(%error, "the configuration can't be used and stays as it was");
}

// === impl Changeable ===

impl Changeable {
    fn become_as(&self, mut settings: Settings) {
        // Whether a key may be missing depends on where the process listens, not on where it would.
        settings.server.listen = self.listen;
        let findings = settings.check();
        if !findings.errors.is_empty() {
            return refused(&findings.errors.join("; "));
        }
        if let (Some(certificate), Some(tls)) = (&self.certificate, &settings.server.tls)
            && let Err(error) = certificate.replace(tls)
        {
            return refused(&error);
        }
        for warning in &findings.warnings {
            tracing::warn!("configuration: {warning}");
        }
        self.accounts.replace(&settings.accounts);
        tracing::info!(
            accounts = settings.accounts.len(),
            "the configuration was read again: accounts and the certificate are as it says, anything \
             else takes a restart"
        );
    }
}
