//! The port to the store, in small traits: one for each role that uses it.
//!
//! [`Intake`] is what the API writes, [`Reading`] what it reads, [`Dispatch`] is the workers',
//! [`Callbacks`] the notifiers', [`Receipts`] is what carriers say, [`Audit`] what operators ask,
//! [`Suppressions`] who gets nothing. No trait knows a driver. Every operation is one atomic step of the
//! store, and may be repeated: after a lost reply the same call changes nothing twice.
//!
//! The step that makes a batch's last message final also completes the batch and creates its one
//! completion event. That step is inside the store, whichever operation brings it about.

pub mod audit;
mod callbacks;
mod day;
mod dispatch;
mod doorbell;
pub mod embedded;
mod event_body;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod intake;
pub mod pace;
mod reading;
mod receipts;
pub mod redis;
mod settings;
mod stored;
pub mod suppressions;

use std::{sync::Arc, time::Duration};

use secrecy::ExposeSecret;

pub use audit::{Audit, Audited, Concern, Matter};
pub use callbacks::{
    Attempt, AttemptEnd, Callbacks, EVENT_DELAY_MAX, EVENT_LEASE_MAX, EventFilter, EventView,
    HostLimits, HostSign, Recorded, ReplayError, ReplayOrder, TakenEvent, Verdict, WELCOME_KEPT,
};
use callbacks::{ORDER_KNOWN, is_of_host};
pub use day::{Day, DayShare};
pub use dispatch::{
    Claim, Claimed, Dispatch, Grant, GrantRequest, Holding, Level, Pause, Release, Settled,
    Settlement, Standing, Swept, Token, Waiting, Wish,
};
pub use doorbell::{Doorbell, Listener, Ring};
pub use event_body::event_body;
pub use intake::{
    Draft, IdempotencyKey, Intake, IntakeError, Opened, SCHEDULE_MAX, Seal, Upload, WishError,
};
pub use pace::SendTimes;
pub use reading::{
    AttemptRecord, AttemptsView, BatchFilter, LateReceipt, MessageView, ProviderStats, Reading,
    RecipientView, Stats,
};
pub use receipts::{Heard, RECEIPT_TIMEOUT_MAX, RECEIPTS_MAX, Receipts, StoredReceipt};
use settings::PURGE_AHEAD_MAX;
pub use settings::{RETENTION_MAX, SentinelLogin, StoreSettings, StoreTls};
pub use suppressions::{OptOuts, Suppressions};

/// A store, whichever it is: all ports on one backend.
#[derive(Clone)]
pub struct Store {
    /// What the API writes.
    pub intake: Arc<dyn Intake>,
    /// What the API reads.
    pub reading: Arc<dyn Reading>,
    /// What the workers do.
    pub dispatch: Arc<dyn Dispatch>,
    /// What the notifiers do.
    pub callbacks: Arc<dyn Callbacks>,
    /// What carriers say.
    pub receipts: Arc<dyn Receipts>,
    /// What operators ask.
    pub audit: Arc<dyn Audit>,
    /// Who gets nothing.
    pub optouts: OptOuts,
    /// What rings when there is something to do.
    pub doorbell: Doorbell,
}

/// The rules that every operation of a store goes by.
#[derive(Clone, Copy, Debug)]
pub struct StoreRules {
    /// How long a worker holds a chunk without a heartbeat.
    pub lease: Duration,
    /// How long an upload lives without another piece of it.
    pub upload_lease: Duration,
    /// How long a batch is kept once it is final and its callback has ended.
    pub retention: Duration,
    /// What one receiver's host gets.
    pub hosts: HostLimits,
}

/// The store can't be used as it is, and waiting would not change that.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The one in this process.
    #[error(transparent)]
    Embedded(#[from] embedded::OpenError),
    /// The one on Redis.
    #[error(transparent)]
    Redis(#[from] redis::ConnectError),
}

/// Opens the store that `settings` name by its URL.
///
/// # Errors
/// [`OpenError`].
pub async fn open(settings: &StoreSettings, rules: StoreRules) -> Result<Store, OpenError> {
    if embedded::folder(settings.url.expose_secret()).is_some() {
        return Ok(embedded::open(settings, rules).await?);
    }
    Ok(redis::connect(settings, rules).await?)
}

/// The store did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// It could not be reached: nothing was done.
    #[error("the store can't be reached: {0}")]
    Unreachable(String),
    /// The reply was lost: it may or may not have been done. Repeat the call.
    #[error("the store's reply was lost: {0}")]
    ReplyLost(String),
    /// It refused to take more (its memory or disk is full): nothing was done.
    #[error("the store takes no more: {0}")]
    Full(String),
    /// It answered what this version does not understand.
    #[error("the store answered what was not expected: {0}")]
    Unexpected(String),
}

// === impl StoreError ===

impl StoreError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        !matches!(self, Self::Unexpected(_))
    }
}
