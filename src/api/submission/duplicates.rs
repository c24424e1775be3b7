//! Numbers that a batch has already: exact at any size, in bounded memory.
//!
//! The latest numbers are kept in memory. Once there are [`RECENT_MAX`] they move to a scratch file,
//! sorted, so that its pages are written one after the other; the file is gone when this is dropped,
//! or when the process ends.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension};

use crate::domain::recipient::Recipient;

/// The most numbers in memory: about 10 MiB.
const RECENT_MAX: usize = 500_000;

/// The numbers of a batch so far.
pub(in crate::api) struct Numbers {
    recent: HashSet<u64>,
    /// How many are kept in memory.
    recent_max: usize,
    /// All others; made when there is one.
    scratch: Option<Connection>,
}

// === impl Numbers ===

impl Numbers {
    pub(in crate::api) fn new() -> Self {
        Self { recent: HashSet::new(), recent_max: RECENT_MAX, scratch: None }
    }

    /// Adds a number; false if it was there already. What is no E.164 number is not compared.
    ///
    /// # Errors
    /// If the scratch file can't be used.
    pub(in crate::api) fn add(&mut self, to: &str) -> rusqlite::Result<bool> {
        let Some(number) = number(to) else { return Ok(true) };
        if self.recent.contains(&number) || self.is_in_scratch(number)? {
            return Ok(false);
        }
        if self.recent.len() >= self.recent_max {
            self.spill()?;
        }
        Ok(self.recent.insert(number))
    }

    fn is_in_scratch(&self, number: u64) -> rusqlite::Result<bool> {
        let Some(scratch) = &self.scratch else { return Ok(false) };
        let mut rows = scratch.prepare_cached("SELECT 1 FROM number WHERE number = ?1")?;
        rows.query_row([number.cast_signed()], |_| Ok(())).optional().map(|found| found.is_some())
    }

    /// Moves what is in memory to the scratch file.
    fn spill(&mut self) -> rusqlite::Result<()> {
        let scratch = match self.scratch.take() {
            Some(scratch) => scratch,
            None => scratch_file()?,
        };
        let mut sorted: Vec<u64> = self.recent.drain().collect();
        sorted.sort_unstable();
        let all = scratch.unchecked_transaction()?;
        {
            let mut insert = scratch.prepare_cached("INSERT INTO number VALUES (?1)")?;
            for number in sorted {
                insert.execute([number.cast_signed()])?;
            }
        }
        all.commit()?;
        self.scratch = Some(scratch);
        Ok(())
    }
}

/// A database without a name is a file of its own, which `SQLite` deletes.
fn scratch_file() -> rusqlite::Result<Connection> {
    let scratch = Connection::open("")?;
    scratch.execute_batch(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -8192; \
         CREATE TABLE number (number INTEGER PRIMARY KEY);",
    )?;
    Ok(scratch)
}

/// An E.164 number has at most 15 digits, the first one not 0: as a number it is the same.
fn number(to: &str) -> Option<u64> {
    Recipient::parse(to).ok()?;
    to.strip_prefix('+')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_new_once_wherever_it_is_kept() {
        let mut numbers = Numbers { recent_max: 7, ..Numbers::new() };
        let number = |nth: usize| format!("+1555{:07}", (nth * 7_919) % 1_000);
        for nth in 0..1_000 {
            assert!(numbers.add(&number(nth)).unwrap(), "{nth}");
            assert!(!numbers.add(&number(nth)).unwrap(), "{nth} at once");
            assert!(!numbers.add(&number(nth / 2)).unwrap(), "{nth} later");
        }
        assert!(numbers.recent.len() <= 7 && numbers.scratch.is_some());
    }

    #[test]
    fn what_is_no_number_is_not_compared() {
        let mut numbers = Numbers::new();
        for to in ["nobody", "", "+", "+0155512300", "15551230001"] {
            for _ in 0..2 {
                assert!(numbers.add(to).unwrap(), "{to}");
            }
        }
    }
}
