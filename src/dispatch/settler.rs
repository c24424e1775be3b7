//! The settler: brings outcomes into the store, many at a time.
//!
//! It settles as soon as a round of outcomes is full, a hold is finished, or the first outcome has
//! waited long enough; a few settlements may be on their way at once. Those of one hold are numbered,
//! and the store applies each once and in order. All of them are kept until the hold ends, so that a
//! store that lost the last ones (a failover to an older copy) gets them again.
//!
//! A hold whose messages must be marked before they are started has its marks written with its
//! settlements: what has ended makes room for what is started next, in one step.

mod account;

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};

use self::account::{Account, Ending, lacks_marks};
use super::{hold::Hold, lane::Shared};
use crate::store::{Settled, StoreError};

/// The longest an outcome waits for others.
const WINDOW: Duration = Duration::from_millis(2);
/// The most settlements on their way, beyond which outcomes wait for an answer.
const CALLS_MAX: usize = 4;

pub(super) struct Settler {
    lane: Arc<Shared>,
    accounts: Vec<Account>,
    calls: FuturesUnordered<BoxFuture<'static, Answer>>,
}

/// The store's answer to the settlement of this number (from 0) of a hold.
struct Answer {
    hold: Arc<Hold>,
    number: usize,
    settled: Result<Settled, StoreError>,
}

// === impl Settler ===

impl Settler {
    pub(super) fn new(lane: Arc<Shared>) -> Self {
        let calls = FuturesUnordered::new();
        Self { lane, accounts: Vec::new(), calls }
    }

    /// Settles until the claimer has stopped and the last hold has ended.
    pub(super) async fn run(mut self) {
        while !self.lane.is_over() {
            let may_call = self.calls.len() < CALLS_MAX;
            tokio::select! {
                Some(answer) = self.calls.next() => self.take_in(answer),
                () = wait(&self.lane, &self.accounts), if may_call => self.settle(),
                () = end_of_a_wait(&self.accounts) => self.send(),
            }
        }
    }

    /// Makes a settlement of what each hold has to say, and sends it.
    fn settle(&mut self) {
        self.lane.looked();
        for hold in self.lane.active() {
            let known = self.accounts.iter().position(|account| Arc::ptr_eq(&account.hold, &hold));
            let at = known.unwrap_or_else(|| {
                self.accounts.push(Account::new(hold));
                self.accounts.len() - 1
            });
            self.accounts[at].collect(&self.lane);
        }
        self.send();
        self.end_lost();
    }

    fn send(&mut self) {
        for account in self.accounts.iter_mut().filter(|account| !account.hold.is_lost()) {
            while let Some((number, settlement)) = account.next_to_send() {
                let (lane, hold) = (Arc::clone(&self.lane), Arc::clone(&account.hold));
                let call = async move {
                    let settled = lane.store.dispatch.settle(&settlement).await;
                    Answer { hold, number, settled }
                };
                self.calls.push(call.boxed());
            }
        }
    }

    fn take_in(&mut self, answer: Answer) {
        let Answer { hold, number, settled } = answer;
        let found = self.accounts.iter().position(|account| Arc::ptr_eq(&account.hold, &hold));
        // A hold may end before its last answer is heard: a later one said it all.
        let Some(at) = found else { return };
        let account = &mut self.accounts[at];
        account.awaited -= 1;
        match settled {
            Ok(settled) => {
                if let Some(ending) = account.apply(number, settled, &self.lane) {
                    self.end(at, &ending);
                }
            }
            Err(error) => {
                // Said once an outage, of whichever part of the store.
                if !self.accounts.iter().any(Account::fails) {
                    tracing::warn!(provider.name = self.lane.name, %error, "can't settle; outcomes are kept");
                }
                self.accounts[at].put_off();
            }
        }
        self.send();
        self.end_lost();
    }

    fn end_lost(&mut self) {
        let lost = |account: &Account| account.hold.is_lost() && account.awaited == 0;
        while let Some(at) = self.accounts.iter().position(lost) {
            self.end(at, &Ending::Lost);
        }
    }

    fn end(&mut self, at: usize, ending: &Ending) {
        let account = self.accounts.swap_remove(at);
        self.lane.remove(&account.hold);
        if account.has_share {
            self.lane.give_share_back();
        }
        match ending {
            Ending::Lost => account.report_lost(&self.lane),
            Ending::Settled { completed } => account.report(*completed),
        }
    }
}

/// Resolves when settlements that were put off may be sent again.
async fn end_of_a_wait(accounts: &[Account]) {
    // Whoever awaits answers is looked at when they are in.
    let waiting = accounts.iter().filter(|account| account.awaited == 0);
    match waiting.filter_map(|account| account.waits_until).min() {
        Some(end) => tokio::time::sleep_until(end.into()).await,
        None => std::future::pending().await,
    }
}

/// Resolves when there is something to settle, or when the lane is over.
async fn wait(lane: &Shared, accounts: &[Account]) {
    while !lane.has_outcomes() && !is_urgent(lane, accounts) {
        if lane.is_over() {
            return;
        }
        lane.settle.notified().await;
    }
    let window = tokio::time::sleep(WINDOW);
    tokio::pin!(window);
    while !lane.round_is_full() && !is_urgent(lane, accounts) {
        tokio::select! {
            () = &mut window => return,
            () = lane.settle.notified() => {}
        }
    }
}

/// Whether a hold waits to be let go of.
fn is_urgent(lane: &Shared, accounts: &[Account]) -> bool {
    let over = |hold: &Arc<Hold>| {
        let account = accounts.iter().find(|account| Arc::ptr_eq(&account.hold, hold));
        let (released, awaited) =
            account.map_or((false, 0), |known| (known.released, known.awaited));
        hold.is_finished() && !released
            || hold.is_lost() && awaited == 0
            || lacks_marks(lane, hold, account)
    };
    lane.active().iter().any(over)
}
