//! An account's day on Redis.
//!
//! The count has a key of its own for each account, in another slot than the batch's. So a batch is
//! counted first and sealed then, and what is counted stays noted until the seal's end is known: a
//! repeat of the seal counts nothing twice, and a seal that was refused gives its recipients back. Who
//! dies between the two leaves recipients counted until the day ends.

use std::time::Duration;

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

    /// Ends what [`Self::count_batch`] began, if the seal's end is known.
    pub(super) async fn end_count(
        &self,
        id: BatchId,
        share: &DayShare,
        sealed: &Result<(), IntakeError>,
    ) {
        let accepted = match sealed {
            Ok(()) => true,
            Err(IntakeError::Gone | IntakeError::Store(StoreError::Full(_))) => false,
            Err(_) => return,
        };
        let (link, day, id) = (self.link.clone(), keys::day(&share.account), id.ulid());
        let end = async move {
            let ended = link.run(&scripts::COUNTED, &day, |call| {
                call.arg(&id).arg(u8::from(accepted));
            });
            if let Err(error) = ended.await {
                tracing::debug!(%error, "a count of recipients is left as it is until the day ends");
            }
        };
        if accepted {
            // Nobody may wait for it: a caller that gave up would seal again, and count again.
            tokio::spawn(end);
        } else {
            end.await;
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
