//! [`Suppressions`] on Redis.
//!
//! A list is spread over [`BUCKETS`] sets of integers. Redis packs such a set into 8 bytes an entry as long
//! as it has at most 512 (`set-max-intset-entries`). So a million entries, 31 a bucket, cost about 12 bytes
//! each with all that belongs to a key, ten million, 305 a bucket, about 9; past some fourteen million
//! buckets begin to outgrow that form. A bucket is a number modulo a prime: numbers in a row, or with round
//! steps, fall evenly into all of them. Buckets are spread over the partitions.
//!
//! Beside the buckets each partition has a string of bits, one for each bucket that is not empty, which a
//! list is read along; and how many entries there are.

use async_trait::async_trait;
use futures_util::future::{join_all, try_join_all};
use redis::{Pipeline, Value};

use super::{
    RedisStore, codec,
    keys::{self, PartitionKeys},
    scripts::{self, Script},
};
use crate::{
    domain::number::Number,
    store::{StoreError, Suppressions, suppressions::NUMBERS_MAX},
};

/// Into how many buckets a list is spread: a prime. It is part of how lists are stored.
const BUCKETS: u16 = 32_749;

/// So many buckets are read in one round trip.
const BUCKETS_PER_READ: usize = 64;

#[async_trait]
impl Suppressions for RedisStore {
    async fn add(&self, account: &str, numbers: &[Number]) -> Result<u64, StoreError> {
        self.change(&scripts::SUPPRESS, account, numbers).await
    }

    async fn remove(&self, account: &str, numbers: &[Number]) -> Result<u64, StoreError> {
        self.change(&scripts::RESTORE, account, numbers).await
    }

    async fn contains(&self, account: &str, numbers: &[Number]) -> Result<Vec<bool>, StoreError> {
        let asked = self.shares(numbers).into_iter().map(|share| async move {
            let answer = self.run_on(&scripts::SUPPRESSED, account, &share).await?;
            let found = codec::bytes(answer)?;
            if found.len() == share.places.len() {
                Ok((share.places, found))
            } else {
                Err(codec::unexpected("an answer for each number"))
            }
        });
        let mut contained = vec![false; numbers.len()];
        for (places, found) in try_join_all(asked).await? {
            for (place, found) in places.into_iter().zip(found) {
                contained[place] = found == b'1';
            }
        }
        Ok(contained)
    }

    async fn list(
        &self,
        account: &str,
        after: Option<Number>,
        limit: usize,
    ) -> Result<(Vec<Number>, Option<Number>), StoreError> {
        let mut numbers = Vec::new();
        let (first, mut from) = after.map_or((0, 0), |after| {
            let bucket = bucket_of(after);
            (self.partition_of(bucket), bucket)
        });
        for partition in first..self.partitions {
            let used = self.used_buckets(account, partition, from).await?;
            for buckets in used.chunks(BUCKETS_PER_READ) {
                self.read_buckets(account, partition, buckets, after, &mut numbers).await?;
                if numbers.len() >= limit {
                    numbers.truncate(limit);
                    let last = numbers.last().copied();
                    return Ok((numbers, last));
                }
            }
            from = 0;
        }
        Ok((numbers, None))
    }

    async fn count(&self, account: &str) -> Result<u64, StoreError> {
        let counts = (0..self.partitions).map(|partition| self.count_in(account, partition));
        Ok(try_join_all(counts).await?.into_iter().sum())
    }

    async fn parts(&self, account: &str) -> Vec<Result<bool, StoreError>> {
        let counts = (0..self.partitions).map(|partition| self.count_in(account, partition));
        let counts = join_all(counts).await.into_iter();
        counts.map(|count| count.map(|count| count > 0)).collect()
    }
}

/// Numbers of one partition, for one call.
struct Share {
    partition: u16,
    numbers: Vec<Number>,
    /// Where each of them stands in what was asked.
    places: Vec<usize>,
}

// === impl RedisStore ===

impl RedisStore {
    async fn count_in(&self, account: &str, partition: u16) -> Result<u64, StoreError> {
        let keys = PartitionKeys(keys::partition(partition));
        let mut command = redis::cmd("GET");
        command.arg(keys.suppressed_count(account));
        match self.link.ask(&command).await? {
            Value::Nil => Ok(0),
            count => codec::number(count),
        }
    }

    async fn change(
        &self,
        script: &Script,
        account: &str,
        numbers: &[Number],
    ) -> Result<u64, StoreError> {
        let mut changed = 0;
        for share in self.shares(numbers) {
            changed += codec::number(self.run_on(script, account, &share).await?)?;
        }
        Ok(changed)
    }

    async fn run_on(
        &self,
        script: &Script,
        account: &str,
        share: &Share,
    ) -> Result<Value, StoreError> {
        self.link
            .run(script, &keys::partition(share.partition), |call| {
                call.arg(account).arg(BUCKETS);
                for number in &share.numbers {
                    call.arg(number.digits());
                }
            })
            .await
    }

    /// Sorts numbers by their partitions, in shares of at most [`NUMBERS_MAX`].
    fn shares(&self, numbers: &[Number]) -> Vec<Share> {
        let mut shares: Vec<Share> = Vec::new();
        // The share of each partition that is not full.
        let mut open: Vec<Option<usize>> = vec![None; usize::from(self.partitions)];
        for (place, number) in numbers.iter().enumerate() {
            let partition = self.partition_of(bucket_of(*number));
            let at = *open[usize::from(partition)].get_or_insert_with(|| {
                shares.push(Share { partition, numbers: Vec::new(), places: Vec::new() });
                shares.len() - 1
            });
            shares[at].numbers.push(*number);
            shares[at].places.push(place);
            if shares[at].numbers.len() == NUMBERS_MAX {
                open[usize::from(partition)] = None;
            }
        }
        shares
    }

    fn partition_of(&self, bucket: u16) -> u16 {
        bucket % self.partitions.max(1)
    }

    /// The buckets of a partition that are not empty, from `from` on.
    async fn used_buckets(
        &self,
        account: &str,
        partition: u16,
        from: u16,
    ) -> Result<Vec<u16>, StoreError> {
        let keys = PartitionKeys(keys::partition(partition));
        let mut command = redis::cmd("GET");
        command.arg(keys.suppressed_map(account));
        let map = codec::bytes(self.link.ask(&command).await?)?;
        let is_used = |bucket: &u16| {
            let byte = map.get(usize::from(bucket / 8)).copied().unwrap_or(0);
            byte & (0x80 >> (bucket % 8)) != 0
        };
        Ok((from..BUCKETS).filter(is_used).collect())
    }

    /// Reads whole buckets, and keeps what comes after `after`.
    async fn read_buckets(
        &self,
        account: &str,
        partition: u16,
        buckets: &[u16],
        after: Option<Number>,
        numbers: &mut Vec<Number>,
    ) -> Result<(), StoreError> {
        let keys = PartitionKeys(keys::partition(partition));
        let mut calls = Pipeline::new();
        for bucket in buckets {
            calls.cmd("SMEMBERS").arg(keys.suppressed(account, *bucket));
        }
        for (bucket, members) in buckets.iter().zip(self.link.ask_all(&calls).await?) {
            let read_before = after.filter(|after| bucket_of(*after) == *bucket);
            let begin = numbers.len();
            for member in members_of(members)? {
                let number = Number::of_digits(codec::number(member)?);
                let number = number.ok_or_else(|| codec::unexpected("a number that is none"))?;
                if read_before.is_none_or(|after| number > after) {
                    numbers.push(number);
                }
            }
            // A bucket that has outgrown the packed form is in no order.
            numbers[begin..].sort_unstable();
        }
        Ok(())
    }
}

fn bucket_of(number: Number) -> u16 {
    // The remainder is less than a u16.
    u16::try_from(number.digits() % u64::from(BUCKETS)).unwrap_or_default()
}

fn members_of(answer: Value) -> Result<Vec<Value>, StoreError> {
    match answer {
        Value::Set(members) => Ok(members),
        other => codec::list(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_a_row_or_with_round_steps_fill_the_buckets_evenly() {
        for step in [1, 10, 1_000, 100_000] {
            let mut filled = vec![0_u32; usize::from(BUCKETS)];
            for nth in 0..1_000_000_u64 {
                let number = Number::of_digits(15_550_000_000 + nth * step).unwrap();
                filled[usize::from(bucket_of(number))] += 1;
            }
            let fullest = filled.iter().max().unwrap();
            assert!(*fullest <= 31, "{fullest} in one bucket, with steps of {step}");
        }
    }
}
