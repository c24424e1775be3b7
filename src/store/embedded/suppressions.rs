//! [`Suppressions`] in this process: a row an entry, and a tally of each account's.

use async_trait::async_trait;

use super::{EmbeddedStore, columns::integer, reading};
use crate::{
    domain::number::Number,
    store::{StoreError, Suppressions, suppressions::NUMBERS_MAX},
};

#[async_trait]
impl Suppressions for EmbeddedStore {
    async fn add(&self, account: &str, numbers: &[Number]) -> Result<u64, StoreError> {
        let sql = "INSERT OR IGNORE INTO suppression (account, number) VALUES (?1, ?2)";
        self.change(account, numbers, sql, 1).await
    }

    async fn remove(&self, account: &str, numbers: &[Number]) -> Result<u64, StoreError> {
        let sql = "DELETE FROM suppression WHERE account = ?1 AND number = ?2";
        self.change(account, numbers, sql, -1).await
    }

    async fn contains(&self, account: &str, numbers: &[Number]) -> Result<Vec<bool>, StoreError> {
        let (account, numbers) = (account.to_owned(), numbers.to_vec());
        self.read(move |db| {
            let sql = "SELECT 1 FROM suppression WHERE account = ?1 AND number = ?2";
            let mut rows = db.prepare_cached(sql)?;
            let mut contains = |number: &Number| rows.exists((&account, integer(number.digits())));
            numbers.iter().map(&mut contains).collect()
        })
        .await
    }

    async fn list(
        &self,
        account: &str,
        after: Option<Number>,
        limit: usize,
    ) -> Result<(Vec<Number>, Option<Number>), StoreError> {
        let (account, after) = (account.to_owned(), after.map_or(0, Number::digits));
        let digits: Vec<i64> = self
            .read(move |db| {
                let sql = "SELECT number FROM suppression WHERE account = ?1 AND number > ?2 \
                           ORDER BY number LIMIT ?3";
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                let mut rows = db.prepare_cached(sql)?;
                rows.query_map((account, integer(after), limit), |row| row.get(0))?.collect()
            })
            .await?;
        let number = |digits: i64| u64::try_from(digits).ok().and_then(Number::of_digits);
        let numbers: Vec<Number> = digits.into_iter().filter_map(number).collect();
        let last = numbers.last().copied().filter(|_| numbers.len() >= limit);
        Ok((numbers, last))
    }

    async fn count(&self, account: &str) -> Result<u64, StoreError> {
        let name = tally_of(account);
        self.read(move |db| reading::tally(db, &name)).await
    }
}

// === impl EmbeddedStore ===

impl EmbeddedStore {
    /// Runs a statement for each number; each row it changes counts `each` in the account's tally.
    async fn change(
        &self,
        account: &str,
        numbers: &[Number],
        sql: &'static str,
        each: i64,
    ) -> Result<u64, StoreError> {
        let mut changed = 0;
        for part in numbers.chunks(NUMBERS_MAX) {
            let (account, part) = (account.to_owned(), part.to_vec());
            changed += self
                .write(move |step| {
                    let mut rows = 0;
                    for number in part {
                        rows += step.run(sql, (&account, integer(number.digits())))? as u64;
                    }
                    if rows > 0 {
                        step.count(&tally_of(&account), each * integer(rows))?;
                    }
                    Ok(rows)
                })
                .await?;
        }
        Ok(changed)
    }
}

fn tally_of(account: &str) -> String {
    format!("suppressed:{account}")
}
