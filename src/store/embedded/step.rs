//! One operation within a transaction: its statements, its time, and whom it rings for.

use rusqlite::{
    CachedStatement, Connection, OptionalExtension, Params, Row, Statement, StatementStatus,
    types::FromSql,
};

use crate::store::Ring;

/// A step of the store. All of it is committed, or nothing.
pub(super) struct Step<'a> {
    db: &'a Connection,
    /// The step's time, in milliseconds since the Unix epoch.
    pub(super) now: i64,
    /// To be rung for once the step is committed.
    pub(super) rings: Vec<Ring>,
}

// === impl Step ===

impl<'a> Step<'a> {
    pub(super) fn new(db: &'a Connection, now: i64) -> Self {
        Self { db, now, rings: Vec::new() }
    }

    /// Runs a statement that gives no rows; gives how many rows it changed.
    pub(super) fn run(&self, sql: &'static str, with: impl Params) -> rusqlite::Result<usize> {
        let mut statement = self.prepare(sql)?;
        let changed = statement.execute(with);
        assert_no_scan(sql, &statement);
        changed
    }

    /// The first row of a statement, if there is one. A statement that changes rows and returns them
    /// has changed all of them before it gives the first.
    pub(super) fn row<T>(
        &self,
        sql: &'static str,
        with: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Option<T>> {
        let mut statement = self.prepare(sql)?;
        let row = statement.query_row(with, read).optional();
        assert_no_scan(sql, &statement);
        row
    }

    /// All rows of a statement that bounds their number itself.
    pub(super) fn rows<T>(
        &self,
        sql: &'static str,
        with: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        let mut statement = self.prepare(sql)?;
        let rows = statement.query_map(with, read)?.collect();
        assert_no_scan(sql, &statement);
        rows
    }

    /// What `due` gives up to now. If that is nothing, what `ahead` gives from later than this kind
    /// of instant can lie ahead: then the clock was stepped back, and waiting for it would freeze
    /// what it stands for.
    pub(super) fn due<T: FromSql>(
        &self,
        due: &'static str,
        ahead: &'static str,
        ahead_max_ms: i64,
        limit: i64,
    ) -> rusqlite::Result<Vec<T>> {
        let due = self.rows(due, (self.now, limit), |row| row.get(0))?;
        if !due.is_empty() {
            return Ok(due);
        }
        self.rows(ahead, (self.now.saturating_add(ahead_max_ms), limit), |row| row.get(0))
    }

    /// The next turn: it gives places in rings and the numbers of leases.
    pub(super) fn next_turn(&self) -> rusqlite::Result<i64> {
        let sql = "UPDATE fact SET value = value + 1 WHERE name = 'turn' RETURNING value";
        self.prepare(sql)?.query_row([], |row| row.get(0))
    }

    /// Reads as a reader does.
    pub(super) fn look<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        read(self.db)
    }

    /// Counts something for the metrics: `more` of it, or fewer.
    pub(super) fn count(&self, name: &str, more: i64) -> rusqlite::Result<()> {
        let sql = "INSERT INTO tally VALUES (?1, ?2) \
                   ON CONFLICT DO UPDATE SET value = value + excluded.value";
        self.run(sql, (name, more)).map(|_| ())
    }

    fn prepare(&self, sql: &'static str) -> rusqlite::Result<CachedStatement<'a>> {
        self.db.prepare_cached(sql)
    }
}

/// What a step costs may not grow with the store: each of its statements finds its rows by an index.
/// Every test of a debug build watches over this.
fn assert_no_scan(sql: &str, statement: &Statement<'_>) {
    debug_assert_eq!(statement.reset_status(StatementStatus::FullscanStep), 0, "a scan: {sql}");
}
