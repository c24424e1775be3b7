//! An account's day: counted in the very step that seals a batch.

use std::time::Duration;

use super::{columns::integer, step::Step};
use crate::{
    domain::time::millis,
    store::{Day, DayShare, day::end_of_day},
};

/// How far the account's day has come.
pub(super) fn today(step: &Step<'_>, account: &str) -> rusqlite::Result<Day> {
    let now = u64::try_from(step.now).unwrap_or(0);
    let ends = end_of_day(now);
    // A row of another day says nothing of this one.
    let sql = "SELECT recipients FROM day WHERE account = ?1 AND ends_ms = ?2";
    let recipients: Option<i64> = step.row(sql, (account, integer(ends)), |row| row.get(0))?;
    let recipients = recipients.and_then(|recipients| u64::try_from(recipients).ok());
    Ok(Day { recipients: recipients.unwrap_or(0), left: Duration::from_millis(ends - now) })
}

/// Counts a batch; gives the day if there is no room for it in it.
pub(super) fn count(step: &Step<'_>, share: &DayShare) -> rusqlite::Result<Option<Day>> {
    let day = today(step, &share.account)?;
    let recipients = day.recipients.saturating_add(share.recipients);
    if recipients > share.recipients_max {
        return Ok(Some(day));
    }
    let ends = step.now.saturating_add(integer(millis(day.left)));
    let sql = "INSERT OR REPLACE INTO day (account, recipients, ends_ms) VALUES (?1, ?2, ?3)";
    step.run(sql, (&share.account, integer(recipients), ends))?;
    Ok(None)
}
