//! Outcomes of a hold's messages, on their way to the store.

use std::time::Duration;

use crate::{
    domain::{
        message::Ended,
        record,
        state_byte::StateByte,
        time::{UnixMs, millis},
    },
    store::Waiting,
};

/// Outcomes that wait for the settler.
#[derive(Default)]
pub(in crate::dispatch) struct Outbox {
    /// Places that became final, or wait for a receipt, with their states.
    pub(in crate::dispatch) ended: Vec<(u16, StateByte)>,
    /// Their records, and those of places that wait for another try.
    pub(in crate::dispatch) log: Vec<u8>,
    /// Places that wait for another try.
    pub(in crate::dispatch) waiting: Vec<Waiting>,
    /// How many submissions these outcomes came from: each holds a slot until it is settled.
    pub(in crate::dispatch) slots: u32,
    /// Whether a place was taken and then given back unsent.
    pub(super) given_back: bool,
    /// When the first place that waits comes due.
    pub(super) later: Option<UnixMs>,
    /// Whether nobody collects any more.
    pub(super) buried: bool,
}

// === impl Outbox ===

impl Outbox {
    pub(in crate::dispatch) fn is_empty(&self) -> bool {
        self.ended.is_empty() && self.waiting.is_empty()
    }

    /// `through` is the provider that its last try left through, if that is not the batch's.
    pub(super) fn end(
        &mut self,
        place: u16,
        ended: &Ended,
        through: Option<&str>,
        after: Duration,
    ) {
        record::write_ended(&mut self.log, place, ended, through, millis(after));
        self.ended.push((place, ended.into()));
    }
}
