//! The store on Redis 7 or later: one server, one with replicas that sentinels watch, or a cluster.
//!
//! All writing is done by the scripts in `scripts/`, all keys are made in `keys.rs`. Each role has
//! connections of its own, so that an upload of a million recipients delays no settlement.

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
mod peers;
mod place;
mod reading;
mod receipts;
mod scripts;
mod servers;
mod slots;
mod suppressions;

use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use redis::Value;
use tokio_util::task::AbortOnDropHandle;

pub use self::place::{PlaceError, check_place};
use self::{
    bell::Ringers,
    keys::BELL,
    link::Link,
    place::{Form, Place},
    servers::Servers,
};
use super::{Doorbell, OptOuts, Store, StoreError, StoreRules, StoreSettings};
use crate::domain::{ids::PARTITIONS_MAX, time::millis};

/// What the stored records look like. A store of another schema is refused.
const SCHEMA: &str = "5";

const CONNECT_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Into how many partitions a new store is divided: on a cluster, so that its masters share the
/// work; else one, since more of them would only cost more calls.
const PARTITIONS_OF_CLUSTER: u16 = 16;
const PARTITIONS_OF_SERVER: u16 = 1;

/// The store can't be used as it is, and waiting would not change that.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The settings name no place.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The server may throw keys away.
    #[error(
        "the Redis server evicts keys when its memory is full (maxmemory-policy {0}): messages \
         would be lost. Set maxmemory-policy noeviction"
    )]
    Evicting(String),
    /// The server has but a part of the keys.
    #[error(
        "{0} is a node of a cluster: write redis-cluster:// (or rediss-cluster://) in store.url"
    )]
    OfCluster(String),
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

/// What is known of the store.
struct Known {
    /// The number of its partitions.
    partitions: u16,
    /// It is made with the store: another one is another store.
    id: String,
}

/// All ports on one server, as one role uses them.
struct RedisStore {
    link: Link,
    partitions: u16,
    rules: StoreRules,
    /// Counts takes of events: each begins at another partition.
    takes: AtomicUsize,
    /// They ring our doorbell and keep up with who holds what, for as long as the store is in use.
    _tasks: Arc<[AbortOnDropHandle<()>; 2]>,
}

/// Connects to the server and checks that it can be relied on. Waits for a server that does not
/// answer yet, for as long as it takes.
///
/// # Errors
/// [`ConnectError`] if waiting would not help.
pub async fn connect(settings: &StoreSettings, rules: StoreRules) -> Result<Store, ConnectError> {
    let servers = Arc::new(Servers::of(Place::of(settings)?));
    let link = Link::new(&servers);
    let mut said = String::new();
    let known = loop {
        match check(&servers, &link, settings.partitions).await {
            Ok(known) => break known,
            Err(ConnectError::Store(error)) if error.is_passing() => {
                let now = error.to_string();
                if now != said {
                    tracing::warn!(error = now, "waiting for the store");
                }
                said = now;
                tokio::time::sleep(CONNECT_AGAIN_AFTER).await;
            }
            Err(error) => return Err(error),
        }
    };
    let doorbell = Doorbell::default();
    let partitions = known.partitions;
    let ringers = Ringers { servers: Arc::clone(&servers), link: link.clone(), known };
    let listening = tokio::spawn(bell::listen(ringers, doorbell.clone()));
    let kept = Arc::clone(&servers);
    let keeping = tokio::spawn(async move { kept.keep().await });
    let tasks = Arc::new([listening, keeping].map(AbortOnDropHandle::new));
    let role = || {
        let (link, tasks) = (Link::new(&servers), Arc::clone(&tasks));
        let takes = AtomicUsize::new(0);
        Arc::new(RedisStore { link, partitions, rules, takes, _tasks: tasks })
    };
    let reading = role();
    Ok(Store {
        intake: role(),
        audit: Arc::clone(&reading) as _,
        reading,
        dispatch: role(),
        optouts: OptOuts::new(role()),
        callbacks: role(),
        receipts: role(),
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

/// Looks whether every server can be relied on and the store is one that this version understands.
async fn check(
    servers: &Servers,
    link: &Link,
    configured: Option<u16>,
) -> Result<Known, ConnectError> {
    servers.learn().await?;
    let is_cluster = servers.place().form == Form::Cluster;
    judge_each(link, is_cluster).await?;
    refuse_silence(servers, link).await?;
    let new = if is_cluster { PARTITIONS_OF_CLUSTER } else { PARTITIONS_OF_SERVER };
    let new = configured.unwrap_or(new).clamp(1, PARTITIONS_MAX);
    let schema = agreed(link, "schema", SCHEMA).await?;
    let made_with = agreed(link, "partitions", &new.to_string()).await?;
    let id = agreed(link, "id", &format!("{:016x}", rand::random::<u64>())).await?;
    if schema != SCHEMA {
        return Err(ConnectError::Schema { found: schema });
    }
    match (made_with.parse(), configured) {
        (Ok(partitions), None) if (1..=PARTITIONS_MAX).contains(&partitions) => {
            Ok(Known { partitions, id })
        }
        (Ok(partitions), Some(configured)) if partitions == configured => {
            Ok(Known { partitions, id })
        }
        _ => Err(ConnectError::Partitions { configured: new, found: made_with }),
    }
}

/// Each server must keep what it is given. By the way it learns the scripts; one that forgets them gets
/// them again when they are called.
async fn judge_each(link: &Link, is_cluster: bool) -> Result<(), ConnectError> {
    let mut calls = redis::pipe();
    calls.cmd("INFO").arg("memory").cmd("INFO").arg("cluster");
    for script in scripts::ALL.iter() {
        calls.cmd("SCRIPT").arg("LOAD").arg(&script.code);
    }
    for (node, answers) in link.ask_each(&calls).await? {
        let mut answers = answers.into_iter();
        let mut info = || info(answers.next().unwrap_or(Value::Nil));
        refuse_eviction(&info()?)?;
        if !is_cluster && info()?.lines().any(|line| line.trim() == "cluster_enabled:1") {
            return Err(ConnectError::OfCluster(node.to_string()));
        }
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

fn info(answer: Value) -> Result<String, StoreError> {
    match answer {
        Value::VerbatimString { text, .. } => Ok(text),
        other => codec::text(other),
    }
}

fn refuse_eviction(info: &str) -> Result<(), ConnectError> {
    let policy = info.lines().find_map(|line| line.strip_prefix("maxmemory_policy:"));
    match policy.map(str::trim) {
        None | Some("noeviction") => Ok(()),
        Some(other) => Err(ConnectError::Evicting(other.to_owned())),
    }
}

/// Without the bell all would go on, but each step would wait for somebody to look.
async fn refuse_silence(servers: &Servers, link: &Link) -> Result<(), ConnectError> {
    let mut calls = redis::pipe();
    calls.cmd("PUBLISH").arg(BELL).arg("here");
    let mut heard = link.ask_each(&calls).await.map(|_| ());
    for node in servers.all() {
        heard = heard.and(bell::try_to_hear(servers, &node).await);
    }
    match heard {
        Err(StoreError::Unexpected(refused)) => Err(ConnectError::Bell(refused)),
        answer => Ok(answer?),
    }
}
