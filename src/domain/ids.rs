//! Identifiers, as clients see them and as the store keys them.
//!
//! A batch's id is a ULID: sortable by creation time, and its lowest ten bits (the last two
//! characters of the text) name the store partition that holds the batch, so that an id alone is
//! enough to find it. The completion event shares its batch's ULID: one batch, one completion. The
//! ids of a batch's further events count up from there, above the bits of the partition.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use ulid::Ulid;

use super::time::UnixMs;

/// How many partitions an id can name.
pub const PARTITIONS_MAX: u16 = 1 << 10;

/// A batch's id: `bat_` and a ULID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(Ulid);

/// An event's id: `evt_` and a ULID, for the completion event that of its batch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(Ulid);

/// A message's id: `<batch id>.<index>`, the index counted from 0 in the order given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageId {
    /// The batch it belongs to.
    pub batch: BatchId,
    /// Its place in the batch.
    pub index: u32,
}

/// The text is not an id of the kind asked for.
#[derive(Debug, thiserror::Error)]
#[error("not a {kind} id")]
pub struct InvalidId {
    kind: &'static str,
}

// === impl BatchId ===

impl BatchId {
    /// A new id, created at `at`, living in `partition` (below [`PARTITIONS_MAX`]), unique by
    /// `entropy`.
    #[must_use]
    pub fn new(at: UnixMs, entropy: u128, partition: u16) -> Self {
        let mask = u128::from(PARTITIONS_MAX - 1);
        Self(Ulid::from_parts(at.0, (entropy & !mask) | (u128::from(partition) & mask)))
    }

    /// The partition of the store that holds this batch.
    #[must_use]
    pub fn partition(self) -> u16 {
        u16::try_from(self.0.random() & u128::from(PARTITIONS_MAX - 1)).unwrap_or_default()
    }

    /// When the batch was created.
    #[must_use]
    pub fn created_at(self) -> UnixMs {
        UnixMs(self.0.timestamp_ms())
    }

    /// The 26 characters without the prefix, as the store keys them.
    #[must_use]
    pub fn ulid(self) -> String {
        self.0.to_string()
    }

    /// Reads what [`BatchId::ulid`] wrote.
    ///
    /// # Errors
    /// [`InvalidId`] if the text is no ULID.
    pub fn from_ulid(text: &str) -> Result<Self, InvalidId> {
        parse_ulid(text, "batch").map(Self)
    }

    /// The id of this batch's completion event.
    #[must_use]
    pub fn event(self) -> EventId {
        self.further_event(0)
    }

    /// The id of another event of this batch: `number` tells them apart, and is 0 for the
    /// completion event alone. The same number is the same event, whoever makes it.
    #[must_use]
    pub fn further_event(self, number: u64) -> EventId {
        let above_partition = u128::from(number) * u128::from(PARTITIONS_MAX);
        EventId(Ulid(self.0.0.wrapping_add(above_partition)))
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bat_{}", self.0)
    }
}

impl fmt::Debug for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BatchId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let ulid = text.strip_prefix("bat_").ok_or(InvalidId { kind: "batch" })?;
        Self::from_ulid(ulid)
    }
}

impl Serialize for BatchId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BatchId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

// === impl EventId ===

impl EventId {
    /// The partition of the store that holds this event and its batch.
    #[must_use]
    pub fn partition(self) -> u16 {
        BatchId(self.0).partition()
    }

    /// The 26 characters without the prefix, as the store keys them.
    #[must_use]
    pub fn ulid(self) -> String {
        self.0.to_string()
    }

    /// Reads what [`EventId::ulid`] wrote.
    ///
    /// # Errors
    /// [`InvalidId`] if the text is no ULID.
    pub fn from_ulid(text: &str) -> Result<Self, InvalidId> {
        parse_ulid(text, "event").map(Self)
    }
}

impl FromStr for EventId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let ulid = text.strip_prefix("evt_").ok_or(InvalidId { kind: "event" })?;
        Self::from_ulid(ulid)
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "evt_{}", self.0)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// === impl MessageId ===

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.batch, self.index)
    }
}

impl FromStr for MessageId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let kind = "message";
        let (batch, index) = text.split_once('.').ok_or(InvalidId { kind })?;
        let digits = index.bytes().all(|byte| byte.is_ascii_digit());
        Ok(Self {
            batch: batch.parse()?,
            index: index.parse().ok().filter(|_| digits).ok_or(InvalidId { kind })?,
        })
    }
}

/// The canonical text only: upper case, no aliases, so that one batch has one spelling.
fn parse_ulid(text: &str, kind: &'static str) -> Result<Ulid, InvalidId> {
    Ulid::from_string(text).ok().filter(|ulid| ulid.to_string() == text).ok_or(InvalidId { kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_its_partition_and_its_time() {
        for partition in [0, 1, 15, PARTITIONS_MAX - 1] {
            let id = BatchId::new(UnixMs(1_790_000_000_123), u128::MAX, partition);
            assert_eq!(id.partition(), partition);
            assert_eq!(id.created_at(), UnixMs(1_790_000_000_123));
            assert_eq!(id.to_string().parse::<BatchId>().unwrap(), id);
        }
    }

    #[test]
    fn ids_of_one_partition_share_their_last_two_characters() {
        let one = BatchId::new(UnixMs(1), 0xdead_beef_0000, 7).to_string();
        let two = BatchId::new(UnixMs(2), 0x1234_5678_ffff, 7).to_string();
        assert_eq!(one[one.len() - 2..], two[two.len() - 2..]);
    }

    #[test]
    fn the_events_of_a_batch_count_up_above_its_partition() {
        let batch = BatchId::new(UnixMs(1), 0x1f << 10, 7);
        assert_eq!(batch.event().ulid(), batch.ulid());
        assert_eq!(batch.ulid(), "00000000010000000000000Z07");
        let (one, many) = (batch.further_event(1), batch.further_event(1 << 33));
        assert_eq!(one.ulid(), "00000000010000000000001007");
        assert_eq!((one.partition(), many.partition()), (7, 7));
        assert_ne!(many, one);
        assert_eq!(many.to_string().parse::<EventId>().unwrap(), many);
    }

    #[test]
    fn a_message_id_reads_back() {
        let id = MessageId { batch: BatchId::new(UnixMs(9), 77 << 20, 0), index: 4_000_000 };
        assert_eq!(id.to_string().parse::<MessageId>().unwrap(), id);
        assert!(format!("{}.+4", id.batch).parse::<MessageId>().is_err());
    }

    #[test]
    fn other_spellings_are_refused() {
        let id = BatchId::new(UnixMs(1_790_000_000_123), 0xabcd << 40, 0).to_string();
        assert!(id.to_lowercase().parse::<BatchId>().is_err());
        assert!(id.replace("bat_", "evt_").parse::<BatchId>().is_err());
        assert!("bat_".parse::<BatchId>().is_err());
    }
}
