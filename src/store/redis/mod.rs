//! The store on Redis 7 or later.
//!
//! All writing is done by the scripts in `scripts/`, all keys are made in `keys.rs`. Each role has
//! a connection of its own, so that an upload of a million recipients delays no settlement.

mod audit;
mod bell;
mod callbacks;
mod codec;
mod day;
mod dispatch;
mod events;
mod intake;
mod keys;
mod link;
mod messages;
mod reading;
mod scripts;

use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use redis::{
    Client, IntoConnectionInfo, Value,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};
use secrecy::ExposeSecret;
use tokio_util::task::AbortOnDropHandle;

use self::{keys::BELL, link::Link};
use super::{Doorbell, Store, StoreError, StoreRules, StoreSettings};
use crate::domain::{ids::PARTITIONS_MAX, time::millis};

/// What the stored records look like. A store of another schema is refused.
const SCHEMA: &str = "4";

const CONNECT_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The store can't be used as it is, and waiting would not change that.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL is not one of Redis.
    #[error("store.url: {0}")]
    Url(String),
    /// The server may throw keys away.
    #[error(
        "the Redis server evicts keys when its memory is full (maxmemory-policy {0}): messages \
         would be lost. Set maxmemory-policy noeviction"
    )]
    Evicting(String),
    /// Another version wrote the store.
    #[error("the store has schema {found}, this version needs {SCHEMA}")]
    Schema {
        /// What the store says.
        found: String,
    },
    /// The number of partitions can't change.
    #[error(
        "store.partitions is {configured}, but the store was made with {found}: the number can't \
         be changed later"
    )]
    Partitions {
        /// What the settings say.
        configured: u16,
        /// What the store says.
        found: String,
    },
    /// The server lets us not ring, or not hear, what there is to do.
    #[error(
        "the Redis server refuses Pub/Sub on the channel {BELL} ({0}). Allow the user of store.url to \
         publish and subscribe to it: ACL SETUSER <user> &{BELL} +publish +subscribe"
    )]
    Bell(String),
    /// The server said no for good.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The five ports on one server, as one role uses them.
struct RedisStore {
    link: Link,
    partitions: u16,
    rules: StoreRules,
    /// Counts takes of events: each begins at another partition.
    takes: AtomicUsize,
    /// Rings our doorbell for as long as the store is in use.
    _bell: Arc<AbortOnDropHandle<()>>,
}

/// Connects to the server and checks that it can be relied on. Waits for a server that does not
/// answer yet, for as long as it takes.
///
/// # Errors
/// [`ConnectError`] if waiting would not help.
pub async fn connect(settings: &StoreSettings, rules: StoreRules) -> Result<Store, ConnectError> {
    let client = client(settings)?;
    let partitions = settings.partitions.clamp(1, PARTITIONS_MAX);
    let link = Link::new(&client)?;
    while let Err(error) = check(&client, &link, partitions).await {
        match error {
            ConnectError::Store(error) if error.is_passing() => {
                tracing::warn!(%error, "waiting for the store");
                tokio::time::sleep(CONNECT_AGAIN_AFTER).await;
            }
            error => return Err(error),
        }
    }
    let doorbell = Doorbell::default();
    let bell = tokio::spawn(bell::listen(client.clone(), doorbell.clone()));
    let bell = Arc::new(AbortOnDropHandle::new(bell));
    let role = || -> Result<Arc<RedisStore>, StoreError> {
        let link = Link::new(&client)?;
        let takes = AtomicUsize::new(0);
        Ok(Arc::new(RedisStore { link, partitions, rules, takes, _bell: Arc::clone(&bell) }))
    };
    let reading = role()?;
    Ok(Store {
        intake: role()?,
        audit: Arc::clone(&reading) as _,
        reading,
        dispatch: role()?,
        callbacks: role()?,
        doorbell,
    })
}

// === impl RedisStore ===

impl RedisStore {
    fn lease_ms(&self) -> u64 {
        millis(self.rules.lease)
    }

    fn upload_lease_ms(&self) -> u64 {
        millis(self.rules.upload_lease)
    }

    fn retention_ms(&self) -> u64 {
        millis(self.rules.retention)
    }
}

fn client(settings: &StoreSettings) -> Result<Client, ConnectError> {
    let url = |error: redis::RedisError| ConnectError::Url(error.category().to_owned());
    let info = settings.url.expose_secret().into_connection_info().map_err(url)?;
    Client::open(info.set_tcp_settings(tcp())).map_err(url)
}

/// A server that vanished without a word is given up within seconds.
fn tcp() -> TcpSettings {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(3))
        .with_retries(3);
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(Duration::from_secs(10));
    settings
}

async fn check(client: &Client, link: &Link, partitions: u16) -> Result<(), ConnectError> {
    refuse_eviction(link).await?;
    refuse_silence(client, link).await?;
    load_scripts(link).await?;
    let schema = agreed(link, "schema", SCHEMA).await?;
    let made_with = agreed(link, "partitions", &partitions.to_string()).await?;
    if schema != SCHEMA {
        return Err(ConnectError::Schema { found: schema });
    }
    if made_with != partitions.to_string() {
        return Err(ConnectError::Partitions { configured: partitions, found: made_with });
    }
    Ok(())
}

/// What all processes agree on under this name: `ours`, unless something is there already. A server
/// that is full refuses to write, so nothing is written that is there.
async fn agreed(link: &Link, name: &str, ours: &str) -> Result<String, StoreError> {
    let mut read = redis::cmd("HGET");
    read.arg(keys::META).arg(name);
    let found = link.ask(&read).await?;
    if found != Value::Nil {
        return codec::text(found);
    }
    let mut calls = redis::pipe();
    calls.cmd("HSETNX").arg(keys::META).arg(name).arg(ours);
    calls.add_command(read);
    let mut answers = link.ask_all(&calls).await?;
    codec::text(answers.pop().unwrap_or(Value::Nil))
}

/// A server that forgets them gets them again when they are called.
async fn load_scripts(link: &Link) -> Result<(), StoreError> {
    let mut calls = redis::pipe();
    for script in scripts::ALL.iter() {
        calls.cmd("SCRIPT").arg("LOAD").arg(&script.code);
    }
    link.ask_all(&calls).await.map(|_| ())
}

async fn refuse_eviction(link: &Link) -> Result<(), ConnectError> {
    let mut command = redis::cmd("INFO");
    command.arg("memory");
    let info = match link.ask(&command).await? {
        Value::VerbatimString { text, .. } => text,
        other => codec::text(other)?,
    };
    let policy = info.lines().find_map(|line| line.strip_prefix("maxmemory_policy:"));
    match policy.map(str::trim) {
        None | Some("noeviction") => Ok(()),
        Some(other) => Err(ConnectError::Evicting(other.to_owned())),
    }
}

/// Without the bell all would go on, but each step would wait for somebody to look.
async fn refuse_silence(client: &Client, link: &Link) -> Result<(), ConnectError> {
    let mut command = redis::cmd("PUBLISH");
    command.arg(BELL).arg("here");
    let rung = link.ask(&command).await.map(|_| ());
    match rung.and(bell::try_to_hear(client).await) {
        Err(StoreError::Unexpected(refused)) => Err(ConnectError::Bell(refused)),
        answer => Ok(answer?),
    }
}
