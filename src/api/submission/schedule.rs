//! When a batch begins, and when what has not left may leave no more.

use std::time::Duration;

use crate::{
    api::json::{Faults, Pointer},
    domain::time::UnixMs,
};

/// How far ahead a batch may begin or expire. The store allows for a day more.
const AHEAD_MAX: Duration = Duration::from_hours(365 * 24);

/// Judges when a batch is to begin and to expire. One whose time has passed begins at once.
pub(super) fn judge(
    send_at: Option<UnixMs>,
    expire_at: Option<UnixMs>,
    now: UnixMs,
    root: &Pointer<'_>,
    faults: &mut Faults,
) {
    if send_at.is_some_and(|send_at| send_at.since(now) > AHEAD_MAX) {
        let at = Pointer::Key(root, "send_at");
        faults.add(&at, "out_of_range", "a batch begins at most 365 days from now");
    }
    let Some(expire_at) = expire_at else { return };
    let at = Pointer::Key(root, "expire_at");
    if expire_at <= now {
        faults.add(&at, "out_of_range", "this time has passed: nothing could leave");
    } else if send_at.is_some_and(|send_at| expire_at <= send_at) {
        faults.add(&at, "out_of_range", "this is not after `send_at`: nothing could leave");
    } else if expire_at.since(now) > AHEAD_MAX {
        faults.add(&at, "out_of_range", "a batch expires at most 365 days from now");
    }
}
