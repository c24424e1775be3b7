//! How events are read: in the order of their creation, partitions merged.
//!
//! Within a partition each event has a place of its own, an instant in µs that the script counts up.
//! With several partitions the newest instant is left out of what is read, by the server's clock that
//! is furthest behind: an event that comes into another partition meanwhile then never lies before
//! one that was given. That holds as long as no server's clock goes back: when one does (a step, or a
//! failover to a server that is behind), an event of one partition can lie before one that was given of
//! another, by as much as it went back, and those with places ahead of the clock are left out until it
//! has caught up. One partition knows neither: its places are counted up whatever the clock says.

use redis::Value;

use super::{
    RedisStore,
    callbacks::{batch_id, event_id, hgetall, time_ms},
    codec, keys,
    reading::instant,
};
use crate::{
    domain::{
        ids::{BatchId, EventId},
        time::UnixMs,
    },
    store::{EventView, StoreError, stored::StoredEvent},
};

/// Which way events are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    NewestFirst,
    OldestFirst,
}

/// An event's place in the order of all events: an instant in µs, then its id.
type Place = (u64, EventId);

/// An event as its hash tells it, without its batch.
struct Found {
    id: EventId,
    batch: BatchId,
    host: String,
    fields: std::collections::HashMap<String, Vec<u8>>,
}

impl RedisStore {
    /// The ids of the `limit` events of an account next to `from`. `None` if that is none of its.
    pub(super) async fn event_ids(
        &self,
        account: &str,
        from: Option<EventId>,
        limit: usize,
        order: Order,
    ) -> Result<Option<Vec<EventId>>, StoreError> {
        let from = match from {
            Some(id) => match self.place_of(account, id).await? {
                Some(place) => Some((place, id)),
                None => return Ok(None),
            },
            None => None,
        };
        let mut places = self.places(account, from, limit, order).await?;
        match order {
            Order::NewestFirst => places.sort_unstable_by(|one, other| other.cmp(one)),
            Order::OldestFirst => places.sort_unstable(),
        }
        places.truncate(limit);
        Ok(Some(places.into_iter().map(|(_, id)| id).collect()))
    }

    async fn place_of(&self, account: &str, id: EventId) -> Result<Option<u64>, StoreError> {
        if id.partition() >= self.partitions {
            return Ok(None);
        }
        let feed = keys::PartitionKeys(keys::of_event(id)).feed(account);
        let mut command = redis::cmd("ZSCORE");
        command.arg(feed).arg(id.ulid());
        Ok(instant(self.link.ask(&command).await?)?.map(|place| place.0))
    }

    /// At most `limit` places of each partition beyond `from`, and a few more.
    async fn places(
        &self,
        account: &str,
        from: Option<Place>,
        limit: usize,
        order: Order,
    ) -> Result<Vec<Place>, StoreError> {
        let begin = from.map(|(place, _)| place.to_string());
        let mut calls = redis::pipe();
        for partition in 0..self.partitions {
            calls.cmd("TIME");
            let feed = keys::PartitionKeys(keys::partition(partition)).feed(account);
            let (name, ends) = match order {
                Order::NewestFirst => {
                    ("ZREVRANGEBYSCORE", [begin.as_deref().unwrap_or("+inf"), "-inf"])
                }
                Order::OldestFirst => {
                    ("ZRANGEBYSCORE", [begin.as_deref().unwrap_or("-inf"), "+inf"])
                }
            };
            // One more: `from` itself is among them.
            let call = calls.cmd(name).arg(feed).arg(&ends).arg("WITHSCORES");
            call.arg("LIMIT").arg(0).arg(limit.saturating_add(1));
        }
        let mut answers = self.link.ask_all(&calls).await?.into_iter();
        let mut now_us = u64::MAX;
        let mut places = Vec::new();
        while let (Some(now), Some(answer)) = (answers.next(), answers.next()) {
            now_us = now_us.min(time_ms(now)?.saturating_mul(1_000));
            read_places(answer, &mut places)?;
        }
        places.retain(|place| match (order, from) {
            (_, None) => true,
            (Order::NewestFirst, Some(from)) => *place < from,
            (Order::OldestFirst, Some(from)) => *place > from,
        });
        if order == Order::OldestFirst && self.partitions > 1 {
            places.retain(|(place, _)| *place < now_us);
        }
        Ok(places)
    }

    /// Events with their batches and where they stand. Those that are being erased are left out.
    pub(super) async fn event_views(&self, ids: &[EventId]) -> Result<Vec<EventView>, StoreError> {
        let mut calls = redis::pipe();
        for id in ids {
            calls.add_command(hgetall(&keys::event(*id)));
        }
        let mut found = Vec::with_capacity(ids.len());
        for (id, fields) in ids.iter().zip(self.link.ask_all(&calls).await?) {
            found.extend(Found::read(*id, fields)?);
        }
        let mut calls = redis::pipe();
        for event in &found {
            let waiting = keys::PartitionKeys(keys::of_event(event.id)).waiting(&event.host);
            calls.add_command(hgetall(&keys::batch(event.batch)));
            calls.cmd("ZSCORE").arg(waiting).arg(event.id.ulid());
        }
        let mut answers = self.link.ask_all(&calls).await?.into_iter();
        let mut views = Vec::with_capacity(found.len());
        for event in found {
            let mut next = || answers.next().unwrap_or(Value::Nil);
            views.extend(event.view(next(), next())?);
        }
        Ok(views)
    }
}

// === impl Found ===

impl Found {
    fn read(id: EventId, fields: Value) -> Result<Option<Self>, StoreError> {
        let fields = codec::fields(fields)?;
        let Some(batch) = fields.get("batch") else { return Ok(None) };
        let batch = batch_id(Value::BulkString(batch.clone()))?;
        let host = codec::word(&fields, "host").unwrap_or_default().to_owned();
        Ok(Some(Self { id, batch, host, fields }))
    }

    fn view(&self, batch: Value, due: Value) -> Result<Option<EventView>, StoreError> {
        let Some(batch) = codec::batch(self.batch, &codec::fields(batch)?)? else {
            return Ok(None);
        };
        let text = |name| codec::word(&self.fields, name).unwrap_or_default().to_owned();
        let count = |name| codec::count(&self.fields, name);
        let small = |name| u32::try_from(count(name)).unwrap_or(u32::MAX);
        let stored = StoredEvent {
            kind: text("kind"),
            about: text("about"),
            sequence: small("sequence"),
            at: UnixMs(count("at")),
        };
        let state = text("state");
        Ok(Some(EventView {
            event: stored.event(self.id, &batch)?,
            state: state.parse().map_err(|_| codec::unexpected("an event in no known state"))?,
            attempts: small("number"),
            // What waits for nothing lies before any instant: it came then, and is due since.
            next_attempt_at: instant(due)?.map(|due| due.max(UnixMs(count("since")))),
            body: Some(text("body")).filter(|body| !body.is_empty()),
            batch,
        }))
    }
}

fn read_places(answer: Value, places: &mut Vec<Place>) -> Result<(), StoreError> {
    let mut values = codec::list(answer)?.into_iter();
    while let (Some(id), Some(place)) = (values.next(), values.next()) {
        let id = event_id(id)?;
        places.extend(instant(place)?.map(|place| (place.0, id)));
    }
    Ok(())
}
