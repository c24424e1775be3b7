//! Every key of the store.
//!
//! The part in braces is the hash tag: keys of one partition live in one slot of a cluster, and a
//! script touches one partition only. Keys of no partition are each used alone. `P` is the
//! partition's prefix, `rb:{p07}:`, `B` is `P b:<batch>`, and a batch stands there as its ULID without
//! `bat_`.
//!
//! | key | type | holds |
//! | --- | --- | --- |
//! | `rb:meta` | hash | `schema`, `partitions`, `secret`: what all processes must agree on; `id` of the store |
//! | `rb:bell` | channel | rings: `work <provider>`, `pause <provider>`, `event`, `wish <batch>` |
//! | `rb:{rate:<provider>}` | hash | `clock` of the shared rate and `paused`, both µs; `stopped`; `share` of the rate left by a cut, growing `since`, µs, and `uncut` until, µs; `away` until, µs |
//! | `rb:{rate:<provider>}:<level>` | string | the clock of a rate below it, µs; the level is `s:<sender>` or `p:<prefix>` |
//! | `rb:{day:<account>}` | hash | `recipients` counted that day, in all and by batch; gone at midnight UTC |
//! | `P turn` | number | counts turns; gives ring places, lease tokens and turns of replays |
//! | `P ring:<priority>:<provider>` | zset | accounts with something to claim, by turn |
//! | `P ring:<priority>:<provider>:<account>` | zset | their batches, by turn |
//! | `P marks:<provider>` | hash | how far each priority's turns have come, and the `last` one |
//! | `P leases` | zset | `<batch>:<chunk>` by deadline, ms |
//! | `P claims` | hash | nonce → `<batch>:<chunk>`, while the lease lasts |
//! | `P due` | zset | batches by when they have rested, or their next parked chunk is due, ms |
//! | `P scheduled` | zset | batches that wait for their time, by it, ms |
//! | `P expiry` | zset | batches by when what has not left of them expires, ms |
//! | `P receipts` | zset | batches that were handed over, by when their receipts are waited for no more, ms |
//! | `P watch` | zset | batches that are not over, by when they were last looked after, ms |
//! | `P closing` | zset | canceled and expired batches with chunks left to close |
//! | `P uploads` | zset | unsealed batches by when their upload's lease ends, ms |
//! | `P hosts` | zset | hosts of receivers by when there is an event to take, ms |
//! | `P wait:<host>` | zset | its pending events by when the next attempt is due, ms; long past: at once |
//! | `P open:<host>` | zset | those with an attempt under way, by when its lease ends, ms |
//! | `P host:<host>` | hash | `silences` in a row, and `until` when it is left alone, ms |
//! | `P feed:<account>` | zset | the account's events in the order of their creation |
//! | `P replaying` | zset | accounts with orders to deliver events again, by turn |
//! | `P orders:<account>` | list | the nonces of its orders that are not carried out |
//! | `P replay:<nonce>` | hash | such an order, and the `place` in the feed it has come to |
//! | `P unfinished:<account>` | set | the account's batches that are not over |
//! | `P purge` | zset | batches by when they are erased, ms |
//! | `P list:<account>` | zset | the account's batches, all with score 0: in the order of their ids |
//! | `P off:<account>:<bucket>` | set | numbers that get nothing from the account, see `suppressions.rs` |
//! | `P off:<account>:map` | string | a bit for each such bucket that is not empty |
//! | `P off:<account>:count` | number | how many numbers are in these buckets |
//! | `P i:<account>:<key>` | string | the batch an idempotency key belongs to |
//! | `P stats` | hash | `<provider>:<state byte>`, `<provider>:open`, … : sums for the metrics |
//! | `B` | hash | the batch: `spec`, `state`, counts `n1`…`n8`, `open`, `cursor`, `clock` of its own rate, µs, … |
//! | `B:f` | string | the first index of each chunk, four bytes each |
//! | `B:r:<chunk>` | string | packed recipients |
//! | `B:s:<chunk>` | string | state bytes, one a message |
//! | `B:o:<chunk>` | string | the log of tries |
//! | `B:t:<chunk>` | string | receipts: place, two bytes, and record |
//! | `B:w:<chunk>` | hash | place → what is known of a message that waits for another try |
//! | `B:q` | zset | parked and returned chunks by when they are due, ms |
//! | `B:l` | hash | chunk → `<token> <last sequence> <H held, F let go, D done>`; `x`, `m`, `p` + chunk → what lost leases left behind, see `finish.lua` |
//! | `B:e` | list | its events, but for the completion |
//! | `P e:<event>` | hash | an event: `batch`, `kind`, `state`, `number` of the last attempt, … |
//! | `P e:<event>:a` | list | the last 20 attempts: `<number> <at, ms> <what it came to>` |
//! | `rb:welcome:<account>:<host>` | string | the host wants the account's callbacks |

use crate::domain::{
    batch::Priority,
    ids::{BatchId, EventId},
};

pub(super) const META: &str = "rb:meta";
pub(super) const BELL: &str = "rb:bell";

pub(super) fn partition(partition: u16) -> String {
    format!("rb:{{p{partition:02}}}:")
}

pub(super) fn rate(provider: &str) -> String {
    format!("rb:{{rate:{provider}}}")
}

pub(super) fn day(account: &str) -> String {
    format!("rb:{{day:{account}}}")
}

pub(super) fn of(id: BatchId) -> String {
    partition(id.partition())
}

pub(super) fn batch(id: BatchId) -> String {
    format!("{}b:{}", of(id), id.ulid())
}

pub(super) fn firsts(id: BatchId) -> String {
    format!("{}:f", batch(id))
}

pub(super) fn leases(id: BatchId) -> String {
    format!("{}:l", batch(id))
}

pub(super) fn parked(id: BatchId) -> String {
    format!("{}:q", batch(id))
}

pub(super) fn chunk(id: BatchId, kind: ChunkKey, number: usize) -> String {
    let kind = match kind {
        ChunkKey::Recipients => 'r',
        ChunkKey::States => 's',
        ChunkKey::Log => 'o',
        ChunkKey::Receipts => 't',
    };
    format!("{}:{kind}:{number}", batch(id))
}

pub(super) fn of_event(id: EventId) -> String {
    partition(id.partition())
}

pub(super) fn event(id: EventId) -> String {
    format!("{}e:{}", of_event(id), id.ulid())
}

pub(super) fn attempts(id: EventId) -> String {
    format!("{}:a", event(id))
}

pub(super) fn welcome(account: &str, host: &str) -> String {
    format!("rb:welcome:{account}:{host}")
}

#[derive(Clone, Copy)]
pub(super) enum ChunkKey {
    Recipients,
    States,
    Log,
    Receipts,
}

/// Keys that are one to a partition.
pub(super) struct PartitionKeys(pub(super) String);

impl PartitionKeys {
    pub(super) fn hosts(&self) -> String {
        format!("{}hosts", self.0)
    }

    pub(super) fn waiting(&self, host: &str) -> String {
        format!("{}wait:{host}", self.0)
    }

    pub(super) fn under_way(&self, host: &str) -> String {
        format!("{}open:{host}", self.0)
    }

    pub(super) fn feed(&self, account: &str) -> String {
        format!("{}feed:{account}", self.0)
    }

    pub(super) fn stats(&self) -> String {
        format!("{}stats", self.0)
    }

    pub(super) fn list(&self, account: &str) -> String {
        format!("{}list:{account}", self.0)
    }

    pub(super) fn unfinished(&self, account: &str) -> String {
        format!("{}unfinished:{account}", self.0)
    }

    /// A bucket of an account's suppressed numbers.
    pub(super) fn suppressed(&self, account: &str, bucket: u16) -> String {
        format!("{}off:{account}:{bucket}", self.0)
    }

    /// Which of these buckets are not empty.
    pub(super) fn suppressed_map(&self, account: &str) -> String {
        format!("{}off:{account}:map", self.0)
    }

    /// How many numbers are in these buckets.
    pub(super) fn suppressed_count(&self, account: &str) -> String {
        format!("{}off:{account}:count", self.0)
    }

    pub(super) fn due(&self) -> String {
        format!("{}due", self.0)
    }

    pub(super) fn closing(&self) -> String {
        format!("{}closing", self.0)
    }

    /// An account's ring.
    pub(super) fn ring_of(&self, provider: &str, priority: Priority, account: &str) -> String {
        format!("{}:{account}", self.ring(provider, priority))
    }

    pub(super) fn ring(&self, provider: &str, priority: Priority) -> String {
        format!("{}ring:{}:{provider}", self.0, priority as u8)
    }
}
