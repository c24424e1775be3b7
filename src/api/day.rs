//! How many recipients an account may have in a day: refused as early as that can be known.
//!
//! A batch is looked at while it arrives, so that one with too many recipients is not read to its end.
//! What counts is the store's word at the seal: nothing is counted before, and all of a batch is or
//! nothing.

use http::StatusCode;

use super::problem::Problem;
use crate::store::{Day, DayShare, Intake, StoreError};

/// The code of what is refused here.
const CODE: &str = "daily_limit";

/// A day's limit, beside a batch that arrives.
pub(super) struct DayLimit {
    /// What the batch has by now.
    share: DayShare,
    /// The day as it was when the batch began.
    day: Day,
}

// === impl DayLimit ===

impl DayLimit {
    /// The limit of an account as it is now.
    pub(super) async fn look(
        intake: &dyn Intake,
        account: &str,
        recipients_max: u64,
    ) -> Result<Self, StoreError> {
        let day = intake.day(account).await?;
        let share = DayShare { account: account.to_owned(), recipients: 0, recipients_max };
        Ok(Self { share, day })
    }

    /// Takes further recipients of the batch.
    ///
    /// # Errors
    /// [`Problem`] if there is no room for them.
    pub(super) fn take(&mut self, recipients: u64) -> Result<(), Problem> {
        self.share.recipients = self.share.recipients.saturating_add(recipients);
        let DayShare { recipients, recipients_max, .. } = self.share;
        if recipients > recipients_max {
            let detail = format!(
                "This account may have {recipients_max} recipients a day, and this batch has more."
            );
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, CODE, detail));
        }
        if self.day.recipients.saturating_add(recipients) > recipients_max {
            return Err(full(self.day));
        }
        Ok(())
    }

    /// What the batch is counted with.
    pub(super) fn share(&self) -> DayShare {
        self.share.clone()
    }
}

/// The problem of a batch that has no room in what is left of a day.
pub(super) fn full(day: Day) -> Problem {
    let seconds = day.left.as_secs() + u64::from(day.left.subsec_nanos() > 0);
    let detail = format!(
        "This account has had {} recipients today, and may not have those of this batch. The next day \
         begins at midnight UTC, in {seconds} s.",
        day.recipients
    );
    Problem::new(StatusCode::TOO_MANY_REQUESTS, CODE, detail).retry_after(seconds.max(1))
}
