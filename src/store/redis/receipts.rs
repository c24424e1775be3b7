//! [`Receipts`] on Redis.

use async_trait::async_trait;

use super::{RedisStore, codec, keys, scripts};
use crate::{
    domain::ids::BatchId,
    store::{Heard, Receipts, StoreError, StoredReceipt},
};

#[async_trait]
impl Receipts for RedisStore {
    async fn take(
        &self,
        providers: &[String],
        batch: BatchId,
        receipts: &[StoredReceipt],
    ) -> Result<Vec<Heard>, StoreError> {
        if batch.partition() >= self.partitions {
            return Ok(vec![Heard::Unknown; receipts.len()]);
        }
        let providers = format!(",{},", providers.join(","));
        let answer = self
            .link
            .run(&scripts::RECEIPT, &keys::of(batch), |call| {
                call.arg(batch.ulid()).arg(&providers);
                for receipt in receipts {
                    call.arg(receipt.index).arg(receipt.state as u8).arg(&receipt.record);
                }
            })
            .await?;
        let letters = codec::text(answer)?;
        letters
            .chars()
            .map(|letter| heard(letter).ok_or_else(|| codec::unexpected(&letters)))
            .collect()
    }
}

fn heard(letter: char) -> Option<Heard> {
    Some(match letter {
        'c' => Heard::Counted,
        'e' => Heard::Early,
        'a' => Heard::Again,
        'l' => Heard::Late,
        'x' => Heard::Contrary,
        'u' => Heard::Unknown,
        _ => return None,
    })
}
