//! How the process is asked to stop, and then told.

use std::{io, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::Ending;

/// The two stages of a shutdown, for everyone to watch.
pub(super) struct Shutdown {
    /// Begin nothing new, finish what is open.
    pub(super) soft: CancellationToken,
    /// Drop what is open.
    pub(super) hard: CancellationToken,
    /// A second signal came.
    forced: CancellationToken,
    _watch: AbortOnDropHandle<()>,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

// === impl Shutdown ===

impl Shutdown {
    /// Watches for SIGTERM and SIGINT. What is open may take `drain_timeout` to finish.
    ///
    /// # Errors
    /// If the system refuses to pass signals on.
    pub(super) fn on_signals(drain_timeout: Duration) -> io::Result<Self> {
        Ok(Self::watched(Some(Signals::new()?), drain_timeout))
    }

    /// Watches for nothing but [`Shutdown::ask`].
    pub(super) fn on_request(drain_timeout: Duration) -> Self {
        Self::watched(None, drain_timeout)
    }

    fn watched(signals: Option<Signals>, drain_timeout: Duration) -> Self {
        let [soft, hard, forced] = std::array::from_fn(|_| CancellationToken::new());
        let watch = watch(signals, drain_timeout, soft.clone(), hard.clone(), forced.clone());
        let watch = AbortOnDropHandle::new(tokio::spawn(watch));
        Self { soft, hard, forced, _watch: watch }
    }

    /// Asks everyone to stop, as the first signal does.
    pub(super) fn ask(&self) {
        self.soft.cancel();
    }

    /// Resolves `longest` after everyone was told to drop what is open.
    pub(super) async fn cut_and_waited(&self, longest: Duration) {
        self.hard.cancelled().await;
        tokio::time::sleep(longest).await;
    }

    /// How the process ends, if it ends now.
    pub(super) fn ending(&self) -> Ending {
        if self.forced.is_cancelled() { Ending::Cut } else { Ending::Orderly }
    }
}

async fn watch(
    mut signals: Option<Signals>,
    drain_timeout: Duration,
    soft: CancellationToken,
    hard: CancellationToken,
    forced: CancellationToken,
) {
    tokio::select! {
        name = next(&mut signals) => {
            tracing::info!(signal = name, "stopping: what is open is being finished");
        }
        () = soft.cancelled() => {}
    }
    soft.cancel();
    tokio::select! {
        name = next(&mut signals) => {
            tracing::warn!(signal = name, "stopping at once");
            forced.cancel();
        }
        () = tokio::time::sleep(drain_timeout) => {
            tracing::warn!("worker.drain_timeout is over: what is still open is dropped");
        }
    }
    hard.cancel();
}

/// The next signal; without any to watch for, it never comes.
async fn next(signals: &mut Option<Signals>) -> &'static str {
    match signals {
        Some(signals) => signals.next().await,
        None => std::future::pending().await,
    }
}

// === impl Signals ===

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
