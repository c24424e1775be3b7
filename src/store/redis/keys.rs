//! Every key of the store.
//!
//! The part in braces is the hash tag: keys of one partition live in one slot of a cluster, and a
//! script touches one partition only. `P` is the partition's prefix, `rb:{p07}:`, `B` is
//! `P b:<batch>`, and a batch stands there as its ULID without `bat_`.
//!
//! | key | type | holds |
//! | --- | --- | --- |
//! | `rb:meta` | hash | `schema`, `partitions`, `secret`: what all processes must agree on |
//! | `rb:bell` | channel | rings: `work <provider>`, `pause <provider>`, `event`, `wish <batch>` |
//! | `rb:{rate:<provider>}` | hash | `clock` of the shared rate and `paused`, both µs |
//! | `P turn` | number | counts turns; gives ring places and lease tokens |
//! | `P ring:<provider>` | zset | accounts with something to claim, by turn |
//! | `P ring:<provider>:<account>` | zset | their batches, by turn |
//! | `P leases` | zset | `<batch>:<chunk>` by deadline, ms |
//! | `P claims` | hash | nonce → `<batch>:<chunk>`, while the lease lasts |
//! | `P due` | zset | batches by when their next parked chunk is due, ms |
//! | `P closing` | zset | canceled batches with chunks left to close |
//! | `P uploads` | zset | unsealed batches by when their upload's lease ends, ms |
//! | `P events` | zset | batches with a callback to deliver, by when, ms |
//! | `P purge` | zset | batches by when they are erased, ms |
//! | `P list:<account>` | zset | the account's batches, all with score 0: in the order of their ids |
//! | `P i:<account>:<key>` | string | the batch an idempotency key belongs to |
//! | `P stats` | hash | `<provider>:<state byte>`, `<provider>:open`, … : sums for the metrics |
//! | `B` | hash | the batch: `spec`, `state`, counts `n1`…`n7`, `open`, `cursor`, … |
//! | `B:f` | string | the first index of each chunk, four bytes each |
//! | `B:r:<chunk>` | string | packed recipients |
//! | `B:s:<chunk>` | string | state bytes, one a message |
//! | `B:o:<chunk>` | string | the log of tries |
//! | `B:w:<chunk>` | hash | place → what is known of a message that waits for another try |
//! | `B:q` | zset | parked and returned chunks by when they are due, ms |
//! | `B:l` | hash | chunk → `<token> <last sequence> <H held, F let go, D done>` |
//! | `P e:<batch>` | hash | its event: `number` of the last attempt, `recorded`, `body` |
//! | `P e:<batch>:a` | list | the last 20 attempts: `<number> <at, ms> <what it came to>` |

use crate::domain::ids::BatchId;

pub(super) const META: &str = "rb:meta";
pub(super) const BELL: &str = "rb:bell";

pub(super) fn partition(partition: u16) -> String {
    format!("rb:{{p{partition:02}}}:")
}

pub(super) fn rate(provider: &str) -> String {
    format!("rb:{{rate:{provider}}}")
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

pub(super) fn chunk(id: BatchId, kind: ChunkKey, number: usize) -> String {
    let kind = match kind {
        ChunkKey::Recipients => 'r',
        ChunkKey::States => 's',
        ChunkKey::Log => 'o',
    };
    format!("{}:{kind}:{number}", batch(id))
}

pub(super) fn event(id: BatchId) -> String {
    format!("{}e:{}", of(id), id.ulid())
}

pub(super) fn attempts(id: BatchId) -> String {
    format!("{}:a", event(id))
}

#[derive(Clone, Copy)]
pub(super) enum ChunkKey {
    Recipients,
    States,
    Log,
}

/// Keys that are one to a partition.
pub(super) struct PartitionKeys(pub(super) String);

impl PartitionKeys {
    pub(super) fn events(&self) -> String {
        format!("{}events", self.0)
    }

    pub(super) fn stats(&self) -> String {
        format!("{}stats", self.0)
    }

    pub(super) fn list(&self, account: &str) -> String {
        format!("{}list:{account}", self.0)
    }

    pub(super) fn ring(&self, provider: &str) -> String {
        format!("{}ring:{provider}", self.0)
    }
}
