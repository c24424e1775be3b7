//! How a message passes where a provider's rate has levels.
//!
//! Whoever passes next picks a message, asks the store for its time, takes it and waits for that time: at
//! most [`AHEAD`], while others wait behind. It is taken before its time, so that the end of a turn loses
//! no time; its lease, the provider's pauses and what else may stop it are looked at when the time has come.
//! A time that no message made use of serves the next one of the same strand.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::{sleep, sleep_until};

use super::{Key, Levels, turns::Next};
use crate::{
    dispatch::{
        gate::{ASK_AGAIN_AFTER, BURST},
        hold::{Hold, Taken},
        lane::Shared,
    },
    store::{Grant, GrantRequest, Level},
};

/// No time lies further ahead than this.
const AHEAD: Duration = Duration::from_millis(250);

/// No message takes more times than this: a text of so many segments is too long to be rendered.
const COST_MAX: u32 = 256;

/// How long is waited at most for something to take before looking again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Beyond so many clocks those that have passed are forgotten.
const CLOCKS_MAX: usize = 4_096;

/// What whoever passes has before it.
#[derive(Default)]
pub(super) struct Desk {
    /// A time that was given and not made use of.
    spare: Option<Time>,
    /// What this process alone may send: a reply that came late moves its time, and no moved time may
    /// exceed a rate. The provider's clock has no name.
    clocks: HashMap<String, Instant>,
    /// The text in hand.
    text: String,
}

/// A time to leave for a message of a strand.
struct Time {
    key: Key,
    cost: u32,
    at: Instant,
}

/// A message that waits for its time. It goes back unsent unless it is let go.
struct Waiting<'a> {
    lane: &'a Shared,
    taken: Option<Taken>,
}

// === impl Levels ===

impl Levels {
    /// Waits until a message may leave, and takes it; `None` if nothing is in hand, or this `may` be the way no
    /// more: then those who wait behind find that out at once.
    pub(in crate::dispatch) async fn pass(
        &self,
        lane: &Shared,
        may: impl Fn() -> bool,
    ) -> Option<Taken> {
        let mut desk = self.desk.lock().await;
        loop {
            lane.gate.wait_out_pause().await;
            if lane.left() == 0 || !may() {
                return None;
            }
            let next = lane.look_through(|holds| self.turns.lock().next(holds, Instant::now()));
            let passed = match next {
                Next::Of(hold, key) => self.pass_one(lane, &mut desk, &hold, &key, &may).await,
                Next::Later(at) => {
                    self.rest(lane, at).await;
                    None
                }
            };
            if passed.is_some() {
                return passed;
            }
        }
    }

    /// Takes the next message of a strand, if there is a time for it, and waits for that. Then it leaves, if it
    /// `may`.
    async fn pass_one(
        &self,
        lane: &Shared,
        desk: &mut Desk,
        hold: &Arc<Hold>,
        key: &Key,
        may: &impl Fn() -> bool,
    ) -> Option<Taken> {
        let cost = self.cost(&hold.next_of(key)?, &mut desk.text);
        if cost == 0 {
            // It will not leave, and takes nothing from those that do.
            return hold.take_of(key);
        }
        let time = self.time_for(lane, desk, key, cost).await?;
        let Some(taken) = hold.take_of(key) else {
            desk.spare = Some(time);
            return None;
        };
        let mut waiting = Waiting { lane, taken: Some(taken) };
        sleep_until(time.at.into()).await;
        let below = self.below(key);
        let named = below.iter().map(|level| (level.name, level.interval));
        let clocks = named.chain([("", lane.gate.interval())]);
        if let Some(earliest) = desk.earliest(clocks.clone(), BURST) {
            sleep_until(earliest.into()).await;
        }
        let now = Instant::now();
        if now > time.at + BURST || self.turns.lock().rests_until(key, now).is_some() {
            return None;
        }
        if lane.gate.is_closed() || hold.is_lost() || !may() {
            desk.spare = Some(time);
            return None;
        }
        desk.move_on(clocks, now, cost);
        self.turns.lock().took(key);
        waiting.taken.take()
    }

    /// When a message of a strand may leave; `None` if there is no time for it yet.
    async fn time_for(&self, lane: &Shared, desk: &mut Desk, key: &Key, cost: u32) -> Option<Time> {
        let spare = desk.spare.take_if(|spare| spare.key == *key && spare.cost >= cost);
        if let Some(spare) = spare.filter(|spare| spare.at + BURST > Instant::now()) {
            return Some(spare);
        }
        let below = self.below(key);
        let request = GrantRequest {
            provider: &lane.name,
            interval: lane.gate.interval(),
            // Less than it may be late, so that it is not missed on its way.
            burst_us: micros(BURST * 3 / 4),
            wanted: cost,
            wanted_max: COST_MAX,
            ahead_us: micros(AHEAD),
            below: &below,
        };
        let asked_at = Instant::now();
        match lane.store.dispatch.grant(&request).await {
            // One that came later would move into times that other workers have.
            Ok(Grant::Run { .. }) if asked_at.elapsed() > BURST => {}
            Ok(Grant::Run { first_in_us }) => {
                return Some(Time { key: key.clone(), cost, at: moment(first_in_us) });
            }
            Ok(Grant::Later { wait, paused: true }) => lane.gate.pause(wait),
            Ok(Grant::Later { wait, paused: false }) => {
                self.turns.lock().waits(key, Instant::now() + wait.min(LOOK_EVERY));
            }
            Err(error) => {
                tracing::debug!(provider.name = lane.name, %error, "no send times to be had");
                sleep(ASK_AGAIN_AFTER).await;
            }
        }
        None
    }

    /// The clocks below the provider's that a strand waits for.
    fn below<'a>(&self, key: &'a Key) -> Vec<Level<'a>> {
        let sender = key.sender.as_deref().zip(self.sender_interval);
        let prefix = key.prefix.as_deref();
        let prefix = prefix.and_then(|name| Some((name, self.prefixes.of(name.get(2..)?)?.1)));
        sender.into_iter().chain(prefix).map(|(name, interval)| Level { name, interval }).collect()
    }

    /// Waits until a strand has times again, or something else has come in hand.
    async fn rest(&self, lane: &Shared, at: Option<Instant>) {
        // Others may bring messages that have times.
        lane.wanted.notify_one();
        let latest = Instant::now() + LOOK_EVERY;
        let wake = at.map_or(latest, |at| at.min(latest));
        tokio::select! {
            () = sleep_until(wake.into()) => {}
            () = self.news.notified() => {}
        }
    }
}

// === impl Desk ===

impl Desk {
    /// When something may leave that moves these clocks, as far as this process is concerned, if times
    /// may be `late`.
    fn earliest<'a>(
        &self,
        clocks: impl Iterator<Item = (&'a str, Duration)>,
        late: Duration,
    ) -> Option<Instant> {
        clocks.filter_map(|(name, _)| self.clocks.get(name)).max()?.checked_sub(late)
    }

    /// Moves these clocks by what leaves at `now`.
    fn move_on<'a>(
        &mut self,
        clocks: impl Iterator<Item = (&'a str, Duration)>,
        now: Instant,
        cost: u32,
    ) {
        if self.clocks.len() >= CLOCKS_MAX {
            self.clocks.retain(|_, clock| *clock > now);
        }
        for (name, interval) in clocks {
            let after = |from: Instant| from + interval.saturating_mul(cost);
            match self.clocks.get_mut(name) {
                Some(clock) => *clock = after((*clock).max(now)),
                None => _ = self.clocks.insert(name.to_owned(), after(now)),
            }
        }
    }
}

// === impl Waiting ===

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(taken) = self.taken.take() {
            taken.give_back();
            self.lane.settle.notify_one();
        }
    }
}

/// The instant that lies so many microseconds ahead; behind, if they are negative.
fn moment(in_us: i64) -> Instant {
    let (now, distance) = (Instant::now(), Duration::from_micros(in_us.unsigned_abs()));
    let at = if in_us < 0 { now.checked_sub(distance) } else { Some(now + distance) };
    at.unwrap_or(now)
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(100);

    #[test]
    fn what_leaves_moves_its_clocks_by_its_cost_and_no_other() {
        let (mut desk, now) = (Desk::default(), Instant::now());
        let (one, other) = ([("s:1", STEP), ("", STEP / 2)], [("s:2", STEP), ("", STEP / 2)]);
        assert_eq!(desk.earliest(one.into_iter(), BURST), None);
        desk.move_on(one.into_iter(), now, 3);
        assert_eq!(desk.earliest(one.into_iter(), BURST), (now + 3 * STEP).checked_sub(BURST));
        assert_eq!(
            desk.earliest(other.into_iter(), BURST),
            (now + 3 * STEP / 2).checked_sub(BURST)
        );
        desk.move_on(other.into_iter(), now, 1);
        assert_eq!(desk.earliest(other.into_iter(), BURST), (now + 2 * STEP).checked_sub(BURST));
        assert_eq!(desk.earliest(one.into_iter(), BURST), (now + 3 * STEP).checked_sub(BURST));
    }

    #[test]
    fn a_clock_that_stood_still_does_not_catch_up() {
        let (mut desk, now) = (Desk::default(), Instant::now());
        let clock = [("s:1", STEP)];
        desk.move_on(clock.into_iter(), now, 1);
        let later = now + 50 * STEP;
        desk.move_on(clock.into_iter(), later, 1);
        assert_eq!(desk.earliest(clock.into_iter(), BURST), (later + STEP).checked_sub(BURST));
    }
}
