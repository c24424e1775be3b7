//! A table of numbers on its way onto the list, piece by piece.

use axum::body::Body;
use http::{HeaderMap, StatusCode};
use tokio::task::yield_now;

use crate::{
    api::{
        App,
        auth::Account,
        body::{self, Pieces},
        model::{InvalidLine, Suppressed},
        packed::Packing,
        problem::Problem,
        suppressions::tell_of_change,
    },
    domain::{
        list::numbers::{NoColumn, NumberTable},
        number::Number,
        recipient::InvalidNumber,
    },
    store::suppressions::NUMBERS_MAX,
};

/// How much is read in one go before other tasks have their turn, in bytes.
const SLICE_BYTES: usize = 32 * 1024;

/// How many lines without a number are named.
const LINES_MAX: usize = 100;

/// What was read of a table.
#[derive(Default)]
struct Read {
    /// Numbers that are not on the list yet.
    numbers: Vec<Number>,
    suppressed: Suppressed,
}

/// Puts the numbers of a table on the account's list.
///
/// # Errors
/// [`Problem`]: what was read before it may be on the list.
pub(super) async fn receive(
    app: &App,
    account: &Account,
    headers: &HeaderMap,
    body: Body,
) -> Result<Suppressed, Problem> {
    let bytes_max = app.body_bytes_max(account);
    let unpacked_bytes_max = app.api.server.unpacked_bytes_max.min(bytes_max);
    let body = Packing::read(headers)?.unpack(body, unpacked_bytes_max);
    let mut pieces = Pieces::of(body, bytes_max);
    let (mut table, mut read, mut place) = (NumberTable::new(), Read::default(), None);
    while let Some(piece) = pieces.next().await? {
        for slice in piece.chunks(SLICE_BYTES) {
            table.push(slice, &mut |line, number| read.take(line, number))?;
            if read.numbers.len() >= NUMBERS_MAX {
                read.store(app, account).await?;
            }
            yield_now().await;
        }
        if place.is_none() && pieces.is_large() {
            place = Some(body::a_place(&app.large_uploads, app.api.server.body_timeout).await?);
        }
    }
    table.finish(&mut |line, number| read.take(line, number))?;
    read.store(app, account).await?;
    tell_of_change(account, read.suppressed.added, 0);
    Ok(read.suppressed)
}

// === impl Read ===

impl Read {
    fn take(&mut self, line: u64, number: &str) {
        if let Ok(number) = number.parse() {
            self.numbers.push(number);
            return;
        }
        self.suppressed.invalid += 1;
        let lines = &mut self.suppressed.invalid_lines;
        if lines.len() < LINES_MAX {
            lines.push(InvalidLine { line, detail: InvalidNumber.to_string() });
        }
    }

    async fn store(&mut self, app: &App, account: &Account) -> Result<(), Problem> {
        if self.numbers.is_empty() {
            return Ok(());
        }
        let added = app.api.store.optouts.add(&account.0, &self.numbers).await?;
        self.suppressed.added += added;
        self.suppressed.already_there += (self.numbers.len() as u64).saturating_sub(added);
        self.numbers.clear();
        Ok(())
    }
}

impl From<NoColumn> for Problem {
    fn from(fault: NoColumn) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_csv", fault.to_string())
    }
}
