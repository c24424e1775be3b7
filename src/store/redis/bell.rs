//! Hears the server's bell and rings ours.
//!
//! After every reconnection it rings for everything, since what was rung meanwhile was missed.

use std::time::Duration;

use futures_util::StreamExt;
use redis::{Client, RedisError};

use super::{keys, link::sort};
use crate::{
    domain::ids::BatchId,
    store::{Doorbell, Ring, StoreError},
};

const RECONNECT_AFTER: Duration = Duration::from_millis(250);

/// How long the server may take to let us subscribe.
const HEAR_TIMEOUT: Duration = Duration::from_secs(5);

/// Listens for as long as it is polled.
pub(super) async fn listen(client: Client, doorbell: Doorbell) {
    loop {
        if let Err(error) = hear(&client, &doorbell).await {
            tracing::debug!(%error, "the store's bell can't be heard");
        }
        tokio::time::sleep(RECONNECT_AFTER).await;
    }
}

/// Whether the bell can be heard at all.
///
/// # Errors
/// [`StoreError`]; it is `Unexpected` if the server refuses.
pub(super) async fn try_to_hear(client: &Client) -> Result<(), StoreError> {
    let subscribed = async { client.get_async_pubsub().await?.subscribe(keys::BELL).await };
    match tokio::time::timeout(HEAR_TIMEOUT, subscribed).await {
        Ok(heard) => heard.map_err(|error| sort(&error)),
        Err(_) => Err(StoreError::Unreachable("no answer to SUBSCRIBE".to_owned())),
    }
}

async fn hear(client: &Client, doorbell: &Doorbell) -> Result<(), RedisError> {
    let mut subscription = client.get_async_pubsub().await?;
    subscription.subscribe(keys::BELL).await?;
    doorbell.ring(Ring::Everything);
    let mut messages = subscription.on_message();
    while let Some(message) = messages.next().await {
        if let Ok(text) = std::str::from_utf8(message.get_payload_bytes()) {
            doorbell.ring(read(text));
        }
    }
    Ok(())
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
