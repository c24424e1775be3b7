//! Ctrl-C, and SIGTERM, which asks for the same.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears of signals from the moment it is made; until then they end the process.
pub(super) struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

// === impl Interrupt ===

impl Interrupt {
    /// # Errors
    /// If the system refuses to pass signals on.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next signal. May be dropped and called again.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
