//! What several operations share: a batch's counts and its end, its place in the ring, and the
//! closing of its chunks.
//!
//! A batch's counts are kept by one function alone, [`Step::finish`], which also completes the
//! batch:
//!   * a message is counted in the step that makes it final, and in no other; one that was handed over and
//!     waits for its receipt is counted in `awaiting` meanwhile;
//!   * `open` is total less what is counted, so the step that brings it to 0 hands the batch over: from
//!     then on receipts are waited for, but not for ever;
//!   * the step that brings `open` and `awaiting` to 0 is the last one: it sets `completed_ms`, once, and
//!     creates the completion event: one batch, one of them.

use rusqlite::params;

use super::{
    columns::{self, Id, integer},
    step::Step,
};
use crate::{
    domain::{
        batch::{BatchState, FinalCounts},
        message::FinalState,
        past::Past,
        state_byte::StateByte,
        time::millis,
    },
    store::{Ring, SCHEDULE_MAX, Wish},
};

/// A parked chunk is looked at again after this long at the latest.
pub(super) const PARK_MAX_MS: i64 = 900_000;

/// How many messages one step moved on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    /// Those that became final.
    pub(super) ended: FinalCounts,
    /// Those that wait for a receipt from now on, less those that do no more.
    pub(super) awaiting: i64,
}

/// How a batch stands once it was counted.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Counted {
    over_now: bool,
    /// Whether nothing is left to be submitted, and receipts are waited for.
    handed_over: bool,
    tells_progress: bool,
    is_reported: bool,
    provider: String,
}

impl Step<'_> {
    /// Counts messages that this step moved on, and `leaving` open or final ones that left workers' hands;
    /// completes the batch if the last one became final. To be called once a step,
    /// after every other change of the batch. Gives true if the batch completed.
    pub(super) fn finish(
        &mut self,
        batch: i64,
        moved: &Moved,
        leaving: i64,
    ) -> rusqlite::Result<bool> {
        let Some(counted) = self.count_moved(batch, moved, leaving)? else { return Ok(false) };
        if !counted.over_now {
            if counted.handed_over {
                self.await_receipts(batch)?;
            }
            if counted.tells_progress && moved.ended.sum() > 0 {
                self.tell_progress(batch)?;
            }
            return Ok(false);
        }
        self.run(
            "UPDATE batch SET completed_ms = ?2, turn = NULL, expire_ms = NULL, watch_ms = NULL, \
             receipts_ms = NULL, \
             state = CASE state WHEN 'canceled' THEN state ELSE 'completed' END WHERE batch = ?1",
            (batch, self.now),
        )?;
        if counted.is_reported {
            self.tell_end(batch)?;
        } else {
            self.begin_retention(batch)?;
        }
        Ok(true)
    }

    fn count_moved(
        &self,
        batch: i64,
        moved: &Moved,
        leaving: i64,
    ) -> rusqlite::Result<Option<Counted>> {
        let ended = FinalState::ALL.map(|state| count(moved.ended[state]));
        let sum = ended.iter().sum::<i64>() + moved.awaiting;
        let [e1, e2, e3, e4, e5, e6, e7] = ended;
        let counted = self.row(
            "UPDATE batch SET open = open - ?2, sending = sending - ?3, \
             ended_1 = ended_1 + ?4, ended_2 = ended_2 + ?5, ended_3 = ended_3 + ?6, \
             ended_4 = ended_4 + ?7, ended_5 = ended_5 + ?8, ended_6 = ended_6 + ?9, \
             ended_7 = ended_7 + ?10, awaiting = awaiting + ?11 WHERE batch = ?1 \
             RETURNING open <= 0 AND awaiting <= 0 AND completed_ms IS NULL, \
             (open > 0 OR awaiting > 0) AND instr(wants, 'p') > 0, \
             callback = 'pending', provider, open <= 0 AND awaiting > 0 AND handed_ms IS NULL",
            params![batch, sum, leaving, e1, e2, e3, e4, e5, e6, e7, moved.awaiting],
            |row| {
                Ok(Counted {
                    over_now: row.get(0)?,
                    tells_progress: row.get(1)?,
                    is_reported: row.get::<_, Option<bool>>(2)?.unwrap_or(false),
                    provider: row.get(3)?,
                    handed_over: row.get(4)?,
                })
            },
        )?;
        let changes = *moved != Moved::default() || leaving != 0;
        if let Some(counted) = counted.as_ref().filter(|_| changes) {
            self.run(
                "UPDATE provider SET open = open - ?2, sending = sending - ?3, \
                 ended_1 = ended_1 + ?4, ended_2 = ended_2 + ?5, ended_3 = ended_3 + ?6, \
                 ended_4 = ended_4 + ?7, ended_5 = ended_5 + ?8, ended_6 = ended_6 + ?9, \
                 ended_7 = ended_7 + ?10, awaiting = awaiting + ?11 WHERE name = ?1",
                params![counted.provider, sum, leaving, e1, e2, e3, e4, e5, e6, e7, moved.awaiting],
            )?;
        }
        Ok(counted)
    }

    /// Nothing is left to be submitted: from now on receipts are waited for.
    fn await_receipts(&mut self, batch: i64) -> rusqlite::Result<()> {
        let sql = "UPDATE batch SET handed_ms = ?2, receipts_ms = ?2 + receipt_ms WHERE batch = ?1 \
                   RETURNING instr(wants, 'd') > 0";
        match self.row(sql, (batch, self.now), |row| row.get(0))? {
            Some(true) => self.tell_dispatched(batch),
            _ => Ok(()),
        }
    }

    /// Ends what never left with this final state, at the same cost whatever the batch's size: the
    /// cursor goes to the end, and the messages behind it are counted at once; readers know them by
    /// `cut`, the first chunk closed so, and `closes`. The sweep closes parked chunks; held ones are
    /// closed when their worker lets go.
    pub(super) fn cut_off(&mut self, batch: i64, state: FinalState) -> rusqlite::Result<()> {
        let sql = "SELECT behind, id FROM batch WHERE batch = ?1";
        let read = |row: &rusqlite::Row<'_>| Ok((columns::count(row, 0)?, row.get::<_, Id>(1)?.0));
        let Some((behind, id)) = self.row(sql, [batch], read)? else { return Ok(()) };
        self.run(
            "UPDATE batch SET closes = ?3, cut = cursor, cut_ms = ?2, cursor = top, behind = 0, \
             turn = NULL, due_ms = NULL, expire_ms = NULL, closing_ms = iif(EXISTS (SELECT 1 \
             FROM chunk WHERE chunk >> 32 = ?1 AND due_ms IS NOT NULL), ?2, NULL) \
             WHERE batch = ?1",
            (batch, self.now, state as u8),
        )?;
        let mut moved = Moved::default();
        moved.ended.add(state, behind);
        self.finish(batch, &moved, 0)?;
        self.rings.push(Ring::Wish(id));
        Ok(())
    }

    /// Has a batch that no worker has begun on wait for its time, or puts it into its rings if that
    /// has come.
    pub(super) fn begin(&mut self, batch: i64) -> rusqlite::Result<()> {
        let latest = self.now.saturating_add(integer(millis(SCHEDULE_MAX)));
        let sql = "UPDATE batch SET \
                   state = iif(send_ms > ?2 AND send_ms <= ?3, 'scheduled', 'queued') \
                   WHERE batch = ?1 RETURNING state = 'queued'";
        match self.row(sql, (batch, self.now, latest), |row| row.get(0))? {
            Some(true) => self.enter(batch),
            _ => Ok(()),
        }
    }

    /// Puts a batch at the tail of its account's ring, and the account into its provider's, unless
    /// they are there.
    pub(super) fn enter(&mut self, batch: i64) -> rusqlite::Result<()> {
        let turn = self.next_turn()?;
        self.run("UPDATE batch SET turn = ?2 WHERE batch = ?1 AND turn IS NULL", (batch, turn))?;
        let provider: Option<String> = self.row(
            "INSERT INTO ring (provider, priority, account, turn) \
             SELECT provider, priority, account, ?2 FROM batch WHERE batch = ?1 \
             ON CONFLICT DO UPDATE SET turn = turn RETURNING provider",
            (batch, turn),
            |row| row.get(0),
        )?;
        self.rings.extend(provider.map(Ring::Work));
        Ok(())
    }

    /// Notes that a parked chunk of a batch comes due at `due_ms`, unless one does so earlier.
    pub(super) fn come_due(&self, batch: i64, due_ms: i64) -> rusqlite::Result<()> {
        let sql = "UPDATE batch SET due_ms = ?2 \
                   WHERE batch = ?1 AND (due_ms IS NULL OR due_ms > ?2)";
        self.run(sql, (batch, due_ms)).map(|_| ())
    }

    /// Ends every open message of a chunk with this state, or as `unknown` if an earlier try may have
    /// been accepted. Changes `states` and adds to `moved`; the caller stores the states.
    pub(super) fn close_chunk(
        &self,
        chunk: i64,
        state: FinalState,
        past: &Past,
        states: &mut [u8],
        moved: &mut Moved,
    ) -> rusqlite::Result<()> {
        // The places in doubt are the first ones, or all.
        let doubted = (0..).take(states.len()).take_while(|place| past.doubts(*place)).count();
        end(states.get_mut(..doubted), FinalState::Unknown.into(), moved);
        let sql = "DELETE FROM waiting WHERE chunk = ?1 RETURNING place, known";
        let waiting = self.rows(sql, [chunk], |row| {
            Ok((row.get::<_, u16>(0)?, row.get_ref(1)?.as_blob()?.first() == Some(&1)))
        })?;
        let doubtful = waiting.into_iter().filter(|(_, may_be_accepted)| *may_be_accepted);
        for (place, _) in doubtful {
            end(
                states.get_mut(usize::from(place)..=usize::from(place)),
                FinalState::Unknown.into(),
                moved,
            );
        }
        end(Some(states), state.into(), moved);
        Ok(())
    }
}

/// Gives the messages that are open this state. Those that have one stay as they are, and are not
/// counted.
pub(super) fn end(states: Option<&mut [u8]>, state: StateByte, moved: &mut Moved) {
    let open = states.into_iter().flatten().filter(|byte| **byte == 0);
    let ended = open.map(|byte| *byte = state.0).count() as u64;
    match state.ended() {
        _ if state == StateByte::AWAITING => moved.awaiting += count(ended),
        Some(state) => moved.ended.add(state, ended),
        None => {}
    }
}

/// How many messages of a chunk are open.
pub(super) fn open_in(states: &[u8]) -> i64 {
    count(memchr::memchr_iter(0, states).count() as u64)
}

/// What a batch says to those who hold a part of it, by its state and by how it closes.
pub(super) fn wish(state: &str, closes: Option<FinalState>) -> Wish {
    match closes {
        Some(FinalState::Expired) => Wish::Expire,
        Some(_) => Wish::Cancel,
        None if state == BatchState::Paused.word() => Wish::Pause,
        None => Wish::Go,
    }
}

/// Numbers of messages are far below this type's end.
fn count(messages: u64) -> i64 {
    i64::try_from(messages).unwrap_or(i64::MAX)
}
