//! The loop: takes events that are due, and has each delivered in a task of its own.
//!
//! It takes no more than it can deliver at once, so that no lease runs while an event waits. It
//! looks when the doorbell rings, when the next event comes due, when a delivery made room or put
//! its event back, and once a second in any case. While the store is away it asks ever more
//! slowly.

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    CallbackSettings, Signers,
    client::{ClientError, GuardedClient},
    delivery::{self, Courier},
    poster::Poster,
    schedule::Schedule,
    welcomes::Welcomes,
};
use crate::{
    clock::Clock,
    store::{Callbacks, Doorbell, Reading, Ring, Store, StoreError},
    telemetry::Metrics,
};

/// The longest time between two looks.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// The shortest time between two looks for events that come due, so that an event that another
/// notifier is about to take makes no busy loop.
const LOOK_MIN: Duration = Duration::from_millis(5);

/// The most events that are taken at once.
const TAKE_MAX: usize = 100;

/// The first wait after the store failed; it doubles up to [`LOOK_MAX`].
const OUTAGE_WAIT: Duration = Duration::from_millis(100);

/// The longest time-out of an attempt, and the longest wait between two.
const TIMEOUT_MAX: Duration = Duration::from_mins(30);
const WAIT_MAX: Duration = Duration::from_hours(24);

/// Delivers events until it is stopped.
pub struct Notifier {
    courier: Arc<Courier>,
    callbacks: Arc<dyn Callbacks>,
    doorbell: Doorbell,
    concurrency: usize,
}

/// What a notifier needs of the store.
struct Ports {
    callbacks: Arc<dyn Callbacks>,
    reading: Arc<dyn Reading>,
    doorbell: Doorbell,
}

/// A notifier can't be made from its settings.
#[derive(Debug, thiserror::Error)]
pub enum NotifierError {
    /// No attempt could be made at all.
    #[error("callbacks.concurrency: give a number of at least 1")]
    Concurrency,
    /// Nobody could be sent anything.
    #[error("callbacks.host_concurrency: give a number of at least 1")]
    HostConcurrency,
    /// Every host would be left alone from the beginning.
    #[error("callbacks.breaker_failures: give a number of at least 1")]
    BreakerFailures,
    /// A host would be left alone for longer than is meant.
    #[error("callbacks.breaker_cool_down: give a duration of at most 24h")]
    BreakerCoolDown,
    /// No attempt could succeed, or one might never end.
    #[error("callbacks.timeout: give a duration above 0, at most 30m")]
    Timeout,
    /// A wait is too long to be meant.
    #[error("callbacks.schedule: give durations of at most 24h")]
    Schedule,
    /// The HTTP client can't be made.
    #[error("the callback client can't be made: {0}")]
    Client(#[from] ClientError),
}

/// Deliveries under way. Each ends with whether its event comes due again.
type Open = JoinSet<bool>;

/// Since when the store is away, and how long to wait before it is asked again.
#[derive(Default)]
struct Outage(Option<(Instant, Duration)>);

// === impl Notifier ===

impl Notifier {
    /// A notifier of `store`. `public_url` is where clients reach the API.
    ///
    /// # Errors
    /// [`NotifierError`].
    pub fn new(
        store: &Store,
        clock: Clock,
        settings: &CallbackSettings,
        signers: Signers,
        public_url: String,
        metrics: Arc<Metrics>,
    ) -> Result<Self, NotifierError> {
        let Store { callbacks, reading, doorbell, .. } = store.clone();
        let ports = Ports { callbacks, reading, doorbell };
        Self::of(ports, clock, settings, signers, public_url, metrics)
    }

    fn of(
        Ports { callbacks, reading, doorbell }: Ports,
        clock: Clock,
        settings: &CallbackSettings,
        signers: Signers,
        public_url: String,
        metrics: Arc<Metrics>,
    ) -> Result<Self, NotifierError> {
        if settings.concurrency == 0 {
            return Err(NotifierError::Concurrency);
        }
        if settings.host_concurrency == 0 {
            return Err(NotifierError::HostConcurrency);
        }
        if settings.breaker_failures == 0 {
            return Err(NotifierError::BreakerFailures);
        }
        if settings.breaker_cool_down > WAIT_MAX {
            return Err(NotifierError::BreakerCoolDown);
        }
        if settings.timeout.is_zero() || settings.timeout > TIMEOUT_MAX {
            return Err(NotifierError::Timeout);
        }
        if settings.schedule.iter().any(|wait| *wait > WAIT_MAX) {
            return Err(NotifierError::Schedule);
        }
        let client = GuardedClient::new(settings)?;
        let lease = delivery::lease(settings.timeout, settings.verify_endpoint);
        let courier = Courier {
            callbacks: callbacks.clone(),
            reading,
            poster: Poster { client, clock, signers },
            public_url,
            schedule: Schedule::new(settings.schedule.clone(), lease),
            lease,
            asks_first: settings.verify_endpoint,
            welcomes: Welcomes::default(),
            metrics,
        };
        let concurrency = usize::try_from(settings.concurrency).unwrap_or(usize::MAX);
        Ok(Self { courier: Arc::new(courier), callbacks, doorbell, concurrency })
    }

    /// Delivers events. After `soft` it takes no more and lets open deliveries end; after `hard`
    /// it abandons them, and their events come due again when their leases run out.
    pub async fn run(self, soft: CancellationToken, hard: CancellationToken) {
        let mut open = Open::new();
        // Dropping the set abandons what is in it.
        let _ = hard.run_until_cancelled(self.serve(&soft, &mut open)).await;
        if !open.is_empty() {
            tracing::warn!(
                callbacks.abandoned = open.len(),
                "open callback attempts are abandoned"
            );
        }
    }

    async fn serve(&self, soft: &CancellationToken, open: &mut Open) {
        let mut bell = self.doorbell.listen();
        let mut outage = Outage::default();
        while !soft.is_cancelled() {
            match self.round(open).await {
                Ok(wait) => {
                    outage.over();
                    let rung = async { while !is_for_us(&bell.next().await) {} };
                    self.pause(wait, rung, open, soft).await;
                    // One look answers all rings so far.
                    while bell.next().now_or_never().is_some() {}
                }
                Err(error) => {
                    let wait = outage.wait(&error);
                    let _ = soft.run_until_cancelled(sleep(wait)).await;
                }
            }
        }
        while let Some(ended) = open.join_next().await {
            comes_again(ended);
        }
    }

    /// Takes what is due and there is room for. Gives how long nothing more is to be expected.
    async fn round(&self, open: &mut Open) -> Result<Duration, StoreError> {
        let room = self.concurrency.saturating_sub(open.len()).min(TAKE_MAX);
        if room == 0 {
            return Ok(LOOK_MAX);
        }
        let taken = self.callbacks.take(room, self.courier.lease).await?;
        let is_full = taken.len() >= room;
        for event in taken {
            let courier = self.courier.clone();
            open.spawn(async move { courier.deliver(event).await });
        }
        if is_full {
            // There may be more: at once if there is room, else when there is.
            return Ok(if open.len() < self.concurrency { Duration::ZERO } else { LOOK_MAX });
        }
        let due = self.callbacks.next_due().await?;
        Ok(due.map_or(LOOK_MAX, |due| due.clamp(LOOK_MIN, LOOK_MAX)))
    }

    /// Waits until there is a reason to look again.
    async fn pause(
        &self,
        wait: Duration,
        rung: impl Future<Output = ()>,
        open: &mut Open,
        soft: &CancellationToken,
    ) {
        let is_full = open.len() >= self.concurrency;
        let made_room = async {
            loop {
                let Some(ended) = open.join_next().await else {
                    return std::future::pending().await;
                };
                if comes_again(ended) || is_full {
                    return;
                }
            }
        };
        tokio::select! {
            () = soft.cancelled() => {}
            () = made_room => {}
            () = rung, if !is_full => {}
            () = sleep(wait) => {}
        }
    }
}

/// Whether a delivery's event comes due again. A panic ends no more than its own delivery.
fn comes_again(ended: Result<bool, JoinError>) -> bool {
    ended.unwrap_or_else(|error| {
        tracing::error!(error = %error, "a callback attempt panicked and is left to its lease");
        true
    })
}

fn is_for_us(ring: &Ring) -> bool {
    matches!(ring, Ring::Event | Ring::Everything)
}

// === impl Outage ===

impl Outage {
    /// Notes a failure: it is logged once an outage. Gives how long to wait.
    fn wait(&mut self, error: &StoreError) -> Duration {
        let (since, wait) = if let Some((since, wait)) = self.0 {
            (since, (wait * 2).min(LOOK_MAX))
        } else {
            tracing::warn!(error = %error, "callbacks wait: the store fails");
            (Instant::now(), OUTAGE_WAIT)
        };
        self.0 = Some((since, wait));
        wait
    }

    fn over(&mut self) {
        if let Some((since, _)) = self.0.take() {
            let outage_ms = crate::domain::time::millis(since.elapsed());
            tracing::info!(outage_ms, "callbacks go on: the store answers again");
        }
    }
}

#[cfg(test)]
mod tests;
