//! Hears the servers' bell and rings ours.
//!
//! What is published on one node of a cluster is heard on each, so one of them is listened to; when
//! it falls silent, the next. After every reconnection it rings for everything, since what was rung
//! meanwhile was missed. It also looks whether the store is still the one that was relied on: it may
//! have come back without what it held, or with other settings.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use redis::{RedisError, aio::PubSub};
use tokio::time::timeout;

use super::{
    ConnectError, Known, check, keys,
    link::{Link, sort},
    peers::CONNECT_TIMEOUT,
    place::{Form, Node},
    servers::Servers,
};
use crate::{
    domain::ids::BatchId,
    store::{Doorbell, Ring, StoreError},
};

const RECONNECT_AFTER: Duration = Duration::from_millis(250);

/// Who rings, and what is known of them.
pub(super) struct Ringers {
    pub(super) servers: Arc<Servers>,
    pub(super) link: Link,
    pub(super) known: Known,
}

/// Listens for as long as it is polled.
pub(super) async fn listen(mut ringers: Ringers, doorbell: Doorbell) {
    let servers = Arc::clone(&ringers.servers);
    // Not all processes need to listen to the same node.
    let mut turn: usize = rand::random_range(0..1024);
    loop {
        let nodes = servers.all();
        if let Some(node) = nodes.get(turn % nodes.len().max(1)) {
            if let Err(error) = hear(&mut ringers, node, &doorbell).await {
                tracing::debug!(%error, store.server = %node, "the store's bell can't be heard");
            }
            servers.doubt();
        }
        turn += 1;
        tokio::time::sleep(RECONNECT_AFTER).await;
    }
}

/// Whether the bell of a server can be heard at all.
///
/// # Errors
/// [`StoreError`]; it is `Unexpected` if the server refuses.
pub(super) async fn try_to_hear(servers: &Servers, node: &Node) -> Result<(), StoreError> {
    let subscribed = timeout(CONNECT_TIMEOUT, subscribe(servers, node)).await;
    match subscribed {
        Ok(heard) => heard.map(|_| ()).map_err(|error| sort(&error)),
        Err(_) => Err(StoreError::Unreachable("no answer to SUBSCRIBE".to_owned())),
    }
}

async fn hear(ringers: &mut Ringers, node: &Node, doorbell: &Doorbell) -> Result<(), StoreError> {
    let subscribed = timeout(CONNECT_TIMEOUT, subscribe(&ringers.servers, node)).await;
    let subscribed = subscribed.map_err(std::io::Error::from).map_err(RedisError::from);
    let subscription = subscribed.flatten().map_err(|error| sort(&error))?;
    ringers.look().await?;
    doorbell.ring(Ring::Everything);
    let mut messages = subscription.into_on_message();
    while let Some(message) = messages.next().await {
        if let Ok(text) = std::str::from_utf8(message.get_payload_bytes()) {
            doorbell.ring(read(text));
        }
    }
    Ok(())
}

// === impl Ringers ===

impl Ringers {
    /// Says so if the store is not as it was. One that came back empty is used like a new one.
    async fn look(&mut self) -> Result<(), StoreError> {
        let partitions = Some(self.known.partitions);
        match check(&self.servers, &self.link, partitions).await {
            Ok(known) => {
                if known.id != self.known.id {
                    tracing::error!("the store came back empty: the batches it held are lost");
                    self.known = known;
                }
                Ok(())
            }
            // The other nodes of a cluster go on ringing while one is away.
            Err(ConnectError::Store(error)) if error.is_passing() => {
                if self.servers.place().form == Form::Cluster { Ok(()) } else { Err(error) }
            }
            Err(error) => {
                tracing::error!(%error, "the store came back and can't be relied on");
                Ok(())
            }
        }
    }
}

async fn subscribe(servers: &Servers, node: &Node) -> Result<PubSub, RedisError> {
    let mut subscription = servers.place().client(node)?.get_async_pubsub().await?;
    subscription.subscribe(keys::BELL).await?;
    Ok(subscription)
}

/// What is not understood comes from another version: look everywhere.
fn read(text: &str) -> Ring {
    match text.split_once(' ') {
        Some(("work", provider)) => Ring::Work(provider.to_owned()),
        Some(("pause", provider)) => Ring::Paused(provider.to_owned()),
        Some(("wish", id)) => BatchId::from_ulid(id).map_or(Ring::Everything, Ring::Wish),
        _ if text == "event" => Ring::Event,
        _ => Ring::Everything,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::UnixMs;

    #[test]
    fn rings_are_read() {
        let id = BatchId::new(UnixMs(7), 8 << 40, 0);
        assert_eq!(read("work carrier"), Ring::Work("carrier".into()));
        assert_eq!(read("pause carrier"), Ring::Paused("carrier".into()));
        assert_eq!(read(&format!("wish {}", id.ulid())), Ring::Wish(id));
        assert_eq!(read("event"), Ring::Event);
        assert_eq!(read("something new"), Ring::Everything);
    }
}
