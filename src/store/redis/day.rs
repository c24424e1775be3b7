//! An account's day on Redis.
//!
//! The count has a key of its own for each account, in another slot than the batch's. So a batch is
//! counted first and sealed then. What is counted stays noted by the batch's id while the day lasts, so
//! that a repeat counts nothing twice; a seal that was refused gives its recipients back. Who dies
//! between the two leaves recipients counted until the day ends.

use std::time::Duration;

use redis::Cmd;

use super::{RedisStore, codec, keys, scripts};
use crate::{
    domain::ids::BatchId,
    store::{Day, DayShare, IntakeError, StoreError},
};

impl RedisStore {
    /// How far the account's day has come.
    pub(super) async fn look_at_day(&self, account: &str) -> Result<Day, StoreError> {
        self.count(account, "", 0, 0).await.map(|(_, day)| day)
    }

    /// Counts a batch before it is sealed.
    pub(super) async fn count_batch(
        &self,
        id: BatchId,
        share: &DayShare,
    ) -> Result<(), IntakeError> {
        let DayShare { account, recipients, recipients_max } = share;
        match self.count(account, &id.ulid(), *recipients, *recipients_max).await? {
            (true, _) => Ok(()),
            (false, day) => Err(IntakeError::DayFull(day)),
        }
    }

    /// Takes back what [`Self::count_batch`] did for a batch that is not accepted.
    pub(super) async fn uncount_batch(&self, id: BatchId, share: &DayShare) {
        let uncount = |call: &mut Cmd| {
            call.arg(id.ulid());
        };
        let day = keys::day(&share.account);
        if let Err(error) = self.link.run(&scripts::UNCOUNT, &day, uncount).await {
            tracing::debug!(batch.id = %id, %error, "recipients stay counted until the day ends");
        }
    }

    async fn count(
        &self,
        account: &str,
        id: &str,
        recipients: u64,
        recipients_max: u64,
    ) -> Result<(bool, Day), StoreError> {
        let answer = self
            .link
            .run(&scripts::COUNT, &keys::day(account), |call| {
                call.arg(id).arg(recipients).arg(recipients_max);
            })
            .await?;
        let [counted, recipients, left_ms] = numbers(answer)?;
        Ok((counted == 1, Day { recipients, left: Duration::from_millis(left_ms) }))
    }
}

fn numbers(answer: redis::Value) -> Result<[u64; 3], StoreError> {
    let numbers = codec::list(answer)?.into_iter().map(codec::number);
    let numbers: Vec<u64> = numbers.collect::<Result<_, _>>()?;
    numbers.try_into().map_err(|_| codec::unexpected("three numbers"))
}
