//! Which server holds which part of the store: the one there is, the master that the sentinels know,
//! or the masters of a cluster, each with its slots.
//!
//! What is known may be out of date at any moment. Whoever meets a server that does not answer, or
//! says that it is not the right one, says so with [`Servers::doubt`]; [`Servers::keep`] then asks
//! again. A server that says which one has a slot instead is believed at once.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, future::join_all};
use parking_lot::RwLock;
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, RedisError, Value, aio::MultiplexedConnection};
use tokio::sync::Notify;

use super::{
    codec,
    link::sort,
    place::{Form, Node, Place},
    slots::SLOTS,
};
use crate::store::StoreError;

/// How long a server may take to connect, and to say what it knows.
const ASKING_TIMEOUT: Duration = Duration::from_secs(1);
/// The time between two askings, whatever is doubted.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// Sentinels are asked this often even if nothing is doubted: an old master that they have given up,
/// and that can still be reached from here, says nothing of it.
const SENTINELS_EVERY: Duration = Duration::from_secs(10);
/// A sentinel that can't be heard is tried this often.
const HEAR_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Where sentinels tell of another master.
const SWITCHES: &str = "+switch-master";

/// The servers of a store, as far as they are known.
pub(super) struct Servers {
    place: Place,
    table: RwLock<Arc<Table>>,
    doubt: Notify,
}

/// Who has which slots. A store that is not on a cluster lies in all of them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Table {
    masters: Vec<Node>,
    /// By slot: the place of its master. Shorter than the number of slots if some are nobody's.
    owners: Vec<Option<u16>>,
}

// === impl Servers ===

impl Servers {
    pub(super) fn of(place: Place) -> Self {
        let table = match (&place.form, place.seeds.first()) {
            (Form::Single, Some(server)) => Table::of_one(server.clone()),
            _ => Table::default(),
        };
        Self { place, table: RwLock::new(Arc::new(table)), doubt: Notify::new() }
    }

    /// What is known of where the store is, and how servers are spoken to.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// The server that has this slot.
    ///
    /// # Errors
    /// None is known; somebody may have it all the same.
    pub(super) fn having(&self, slot: u16) -> Result<Node, RedisError> {
        let table = self.table.read();
        let owner = table.owners.get(usize::from(slot)).copied().flatten();
        let node = owner.and_then(|owner| table.masters.get(usize::from(owner)));
        node.cloned().ok_or_else(|| {
            self.doubt();
            (ErrorKind::ClusterConnectionNotFound, "no server is known to hold it").into()
        })
    }

    /// All that hold something.
    pub(super) fn all(&self) -> Vec<Node> {
        self.table.read().masters.clone()
    }

    /// A server did not do what it was asked: another may be the right one by now.
    pub(super) fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Takes in what a node of a cluster said: that this slot is another's. `false` if the error says
    /// no such thing.
    pub(super) fn takes_word(&self, of: &Node, error: &RedisError) -> bool {
        if self.place.form != Form::Cluster || error.code() != Some("MOVED") {
            return false;
        }
        let Some((slot, node)) = error.redirect_node().and_then(|(address, slot)| {
            let (host, port) = address.rsplit_once(':')?;
            Some((slot, of.peer(host, port.parse().ok()?)))
        }) else {
            return false;
        };
        let mut table = self.table.write();
        *table = Arc::new(table.with(slot, node));
        drop(table);
        self.doubt();
        true
    }

    /// Asks who holds what.
    ///
    /// # Errors
    /// Nobody who knows it answered.
    pub(super) async fn learn(&self) -> Result<(), StoreError> {
        let table = match &self.place.form {
            Form::Single => return Ok(()),
            Form::Sentinel { master } => Table::of_one(self.ask_sentinels(master).await?),
            Form::Cluster => self.ask_cluster().await?,
        };
        *self.table.write() = Arc::new(table);
        Ok(())
    }

    /// Asks again whenever what is known is in doubt, for as long as it is polled.
    pub(super) async fn keep(&self) {
        match self.place.form {
            Form::Single => {}
            Form::Sentinel { .. } => {
                let heard = self.place.seeds.iter().map(|sentinel| self.hear(sentinel));
                tokio::join!(join_all(heard), self.ask_when_in_doubt(SENTINELS_EVERY));
            }
            Form::Cluster => self.ask_when_in_doubt(Duration::MAX).await,
        }
    }

    /// Doubts what is known when a sentinel tells of another master.
    async fn hear(&self, sentinel: &Node) {
        loop {
            let subscribed = tokio::time::timeout(ASKING_TIMEOUT, async {
                let mut heard = self.place.sentinel(sentinel)?.get_async_pubsub().await?;
                heard.subscribe(SWITCHES).await?;
                Ok::<_, RedisError>(heard)
            });
            if let Ok(Ok(heard)) = subscribed.await {
                // What it told before was missed.
                self.doubt();
                let mut told = heard.into_on_message();
                while told.next().await.is_some() {
                    self.doubt();
                }
            }
            tokio::time::sleep(HEAR_AGAIN_AFTER).await;
        }
    }

    async fn ask_when_in_doubt(&self, every: Duration) {
        let mut told = Arc::clone(&self.table.read());
        let mut is_known = true;
        loop {
            // The time being over is as good a reason as a doubt.
            let _ = tokio::time::timeout(every, self.doubt.notified()).await;
            match self.learn().await {
                Ok(()) => {
                    is_known = true;
                    let table = Arc::clone(&self.table.read());
                    table.report_since(&told);
                    told = table;
                }
                Err(error) => {
                    if is_known {
                        tracing::warn!(%error, "it can't be learnt which server holds the store");
                    }
                    is_known = false;
                    self.doubt();
                }
            }
            tokio::time::sleep(ASK_AGAIN_AFTER).await;
        }
    }

    /// The master as the sentinel with the latest configuration knows it.
    async fn ask_sentinels(&self, master: &str) -> Result<Node, StoreError> {
        let asked = self.place.seeds.iter().map(|sentinel| self.ask_sentinel(sentinel, master));
        let mut best: Option<(u64, Node)> = None;
        let mut failure = StoreError::Unreachable("no sentinel is configured".to_owned());
        for answer in join_all(asked).await {
            match answer {
                Ok(known) if best.as_ref().is_none_or(|best| known.0 > best.0) => {
                    best = Some(known);
                }
                Ok(_) => {}
                Err(error) => failure = error,
            }
        }
        let (_, node) = best.ok_or(failure)?;
        let mut server = self.connect(self.place.client(&node)).await?;
        let role = codec::list(ask(&mut server, &redis::cmd("ROLE")).await?)?;
        match role.into_iter().next().map(codec::text).transpose()?.as_deref() {
            Some("master") => Ok(node),
            _ => Err(StoreError::Unreachable(format!("{node} is not a master (yet)"))),
        }
    }

    /// The master's address, and the number of the configuration that made it master.
    async fn ask_sentinel(&self, sentinel: &Node, master: &str) -> Result<(u64, Node), StoreError> {
        let about = |what: &str| {
            let mut command = redis::cmd("SENTINEL");
            command.arg(what).arg(master);
            command
        };
        let mut connection = self.connect(self.place.sentinel(sentinel)).await?;
        // A failover shows in the address first, and then in the rest.
        let address = ask(&mut connection, &about("GET-MASTER-ADDR-BY-NAME")).await?;
        let Value::Array(address) = address else {
            return Err(StoreError::Unreachable(format!(
                "{sentinel} knows no master of this name"
            )));
        };
        let known = codec::fields(ask(&mut connection, &about("MASTER")).await?)?;
        let mut address = address.into_iter().map(codec::text);
        let mut next = || address.next().unwrap_or(Ok(String::new()));
        let (host, port) = (next()?, next()?);
        let port = port.parse().map_err(|_| codec::unexpected("a master without a port"))?;
        Ok((codec::count(&known, "config-epoch"), Node { host: host.as_str().into(), port }))
    }

    /// The masters as some node knows them. Nodes may differ for a while: the order is random, so
    /// that the next asking may meet another.
    async fn ask_cluster(&self) -> Result<Table, StoreError> {
        let mut nodes = self.all();
        nodes.extend(
            self.place
                .seeds
                .iter()
                .filter(|seed| !nodes.contains(seed))
                .cloned()
                .collect::<Vec<_>>(),
        );
        let count = nodes.len();
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        let mut failure = StoreError::Unreachable("no node is configured".to_owned());
        let first: usize = rand::random_range(0..count.max(1));
        for node in nodes.iter().cycle().skip(first).take(count) {
            let answer = async {
                let mut connection = self.connect(self.place.client(node)).await?;
                Table::read(ask(&mut connection, &command).await?, node)
            };
            match answer.await {
                Ok(table) => return Ok(table),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn connect(
        &self,
        client: Result<redis::Client, RedisError>,
    ) -> Result<MultiplexedConnection, StoreError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ASKING_TIMEOUT))
            .set_response_timeout(Some(ASKING_TIMEOUT));
        let client = client.map_err(|error| sort(&error))?;
        let connected = client.get_multiplexed_async_connection_with_config(&config).await;
        connected.map_err(|error| sort(&error))
    }
}

async fn ask(connection: &mut MultiplexedConnection, command: &Cmd) -> Result<Value, StoreError> {
    let answer = connection.send_packed_command(command).await.and_then(Value::extract_error);
    answer.map_err(|error| sort(&error))
}

// === impl Table ===

impl Table {
    fn of_one(server: Node) -> Self {
        Self { masters: vec![server], owners: vec![Some(0); SLOTS.into()] }
    }

    /// Reads the answer of a node to `CLUSTER SLOTS`: first slot, last slot, the master, its
    /// replicas.
    fn read(answer: Value, from: &Node) -> Result<Self, StoreError> {
        let mut table = Self { masters: Vec::new(), owners: vec![None; SLOTS.into()] };
        for range in codec::list(answer)? {
            let mut range = codec::list(range)?.into_iter();
            let mut next = || range.next().unwrap_or(Value::Nil);
            let (first, last) = (codec::number(next())?, codec::number(next())?);
            let mut master = codec::list(next())?.into_iter();
            let mut next = || master.next().unwrap_or(Value::Nil);
            // Without a host it is the one that the answer came from.
            let (host, port) = (codec::text(next())?, codec::number(next())?);
            let port = u16::try_from(port).map_err(|_| codec::unexpected("a port"))?;
            let owner = Some(table.place_of(from.peer(&host, port)));
            for slot in first..=last.min(u64::from(SLOTS) - 1) {
                // Below the number of slots.
                table.owners[usize::try_from(slot).unwrap_or(0)] = owner;
            }
        }
        Ok(table)
    }

    /// The same, but for one slot.
    fn with(&self, slot: u16, node: Node) -> Self {
        let mut table = Self { masters: self.masters.clone(), owners: self.owners.clone() };
        table.owners.resize(SLOTS.into(), None);
        let owner = table.place_of(node);
        if let Some(place) = table.owners.get_mut(usize::from(slot)) {
            *place = Some(owner);
        }
        table
    }

    fn place_of(&mut self, node: Node) -> u16 {
        let known = self.masters.iter().position(|master| *master == node);
        let place = known.unwrap_or_else(|| {
            self.masters.push(node);
            self.masters.len() - 1
        });
        // A cluster has fewer masters than slots.
        u16::try_from(place).unwrap_or(u16::MAX)
    }

    fn owner(&self, slot: usize) -> Option<&Node> {
        self.masters.get(usize::from((*self.owners.get(slot)?)?))
    }

    /// Says in the log what has changed.
    fn report_since(&self, before: &Self) {
        let moved = (0..SLOTS.into()).filter(|slot| self.owner(*slot) != before.owner(*slot));
        match (moved.count(), &self.masters[..]) {
            (0, _) => {}
            (slots, [master]) if slots == usize::from(SLOTS) => {
                tracing::warn!(store.server = %master, "the store has another master");
            }
            (slots, _) => tracing::warn!(slots, "slots of the store are another server's"),
        }
    }
}

// === impl Node ===

impl Node {
    /// A server that this one names. It leaves out a host that is its own.
    fn peer(&self, host: &str, port: u16) -> Self {
        let host = if matches!(host, "" | "?") { Arc::clone(&self.host) } else { host.into() };
        Self { host, port }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: &str, port: u16) -> Node {
        Node { host: host.into(), port }
    }

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let master = Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".into())]);
        Value::Array(vec![Value::Int(first), Value::Int(last), master])
    }

    #[test]
    fn who_has_which_slot_is_read_and_corrected() {
        let host = |name: &str| Value::BulkString(name.into());
        let answer = Value::Array(vec![
            range(0, 99, host("a"), 1),
            range(100, 199, Value::Nil, 2),
            range(300, 16_383, host("a"), 1),
        ]);
        let table = Table::read(answer, &node("asked", 9)).unwrap();
        assert_eq!(table.owner(99), Some(&node("a", 1)));
        assert_eq!(table.owner(100), Some(&node("asked", 2)));
        assert_eq!(table.owner(200), None);
        assert_eq!(table.owner(16_383), Some(&node("a", 1)));
        let corrected = table.with(99, node("b", 3));
        assert_eq!(corrected.owner(99), Some(&node("b", 3)));
        assert_eq!(corrected.owner(98), Some(&node("a", 1)));
    }
}
