//! The receipts' desk: takes what carriers say, and brings it into the store, batch by batch.
//!
//! Receipts come one by one, and a store step each would cost more than the dispatch. So nobody waits to
//! fill a group, and nobody goes alone who need not: what comes while the store works goes with the next
//! step. Whoever brought receipts hears of them once they are in the store; if that fails, the carrier is to
//! say them again. Nothing is kept in memory for a message.

mod group;
mod optouts;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, future::join_all, stream::BoxStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::group::{Group, group};
use crate::{
    clock::Clock,
    domain::receipt::{Receipt, ReceiptRecord},
    store::{Heard, RECEIPTS_MAX, Store, StoreError, StoredReceipt},
    telemetry::Metrics,
};

/// The most deliveries that wait for the desk; further ones are refused.
const WAITING_MAX: usize = 4_096;

/// The most receipts that wait for the desk; further ones are refused.
const RECEIPTS_WAITING_MAX: usize = 100_000;

/// With so many receipts a round is full.
const AT_ONCE_MAX: usize = 20 * RECEIPTS_MAX;

/// The most store steps that are under way at once.
const STEPS_MAX: usize = 16;

/// How long to wait before what a provider of this process says is brought again.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Where receipts are brought to. The desk ends once all of these are gone.
#[derive(Clone)]
pub struct Desk {
    deliveries: mpsc::Sender<Delivery>,
    places: Arc<Semaphore>,
    providers: Arc<BTreeMap<String, Arc<[String]>>>,
    metrics: Arc<Metrics>,
}

/// The desk's own side.
pub struct Clerk {
    deliveries: mpsc::Receiver<Delivery>,
    store: Store,
    clock: Clock,
}

/// What receipts came to, by word.
pub type Tally = BTreeMap<&'static str, u64>;

/// Receipts could not be brought into the store; they are to be said again.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// Too many wait.
    #[error("too many receipts wait")]
    Busy,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Receipts of one call, and who waits to hear of them.
struct Delivery {
    providers: Arc<[String]>,
    receipts: Vec<Receipt>,
    answer: oneshot::Sender<Result<Vec<Heard>, StoreError>>,
    /// A place for each of the receipts; none in tests that need none.
    _places: Option<OwnedSemaphorePermit>,
}

/// A desk and its clerk. `providers` has, for each provider, those whose batches may have been sent
/// through it: itself, and those it stands in for.
#[must_use]
pub fn open(
    store: Store,
    clock: Clock,
    providers: BTreeMap<String, Vec<String>>,
    metrics: Arc<Metrics>,
) -> (Desk, Clerk) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let places = Arc::new(Semaphore::new(RECEIPTS_WAITING_MAX));
    let providers = providers.into_iter().map(|(name, of)| (name, of.into())).collect();
    let desk = Desk { deliveries: sender, places, providers: Arc::new(providers), metrics };
    (desk, Clerk { deliveries: receiver, store, clock })
}

// === impl Desk ===

impl Desk {
    /// Brings receipts that `provider` reported into the store. Those that say no end are only counted.
    ///
    /// # Errors
    /// [`DeskError`]: then all of them are to be said again, which changes nothing twice.
    pub async fn bring(&self, provider: &str, receipts: Vec<Receipt>) -> Result<Tally, DeskError> {
        let all = receipts.len();
        let receipts: Vec<_> =
            receipts.into_iter().filter(|receipt| receipt.word.state().is_some()).collect();
        let mut tally = Tally::new();
        let passing = all - receipts.len();
        if passing > 0 {
            tally.insert("passing", passing as u64);
        }
        if !receipts.is_empty() {
            for heard in self.deliver(provider, receipts).await? {
                *tally.entry(heard.word()).or_default() += 1;
            }
        }
        for (word, number) in &tally {
            self.metrics.receipts_heard(provider, word, *number);
        }
        Ok(tally)
    }

    /// Brings what a provider of this process says of itself, until it says no more or `soft` is cancelled.
    /// What the store does not take is brought again, but not then.
    pub async fn follow(
        self,
        provider: String,
        own: BoxStream<'static, Receipt>,
        soft: CancellationToken,
    ) {
        let over = soft.clone().cancelled_owned();
        let mut own = own.ready_chunks(RECEIPTS_MAX).take_until(over).boxed();
        while let Some(receipts) = own.next().await {
            while let Err(error) = self.bring(&provider, receipts.clone()).await {
                if soft.is_cancelled() {
                    return;
                }
                tracing::debug!(provider.name = provider, %error, "receipts wait for the store");
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    }

    async fn deliver(
        &self,
        provider: &str,
        receipts: Vec<Receipt>,
    ) -> Result<Vec<Heard>, DeskError> {
        let (answer, heard) = oneshot::channel();
        let providers = self.providers.get(provider).cloned();
        let providers = providers.unwrap_or_else(|| [provider.to_owned()].into());
        let wanted = u32::try_from(receipts.len()).unwrap_or(u32::MAX);
        let places = Arc::clone(&self.places).try_acquire_many_owned(wanted);
        let places = places.map_err(|_| DeskError::Busy)?;
        let delivery = Delivery { providers, receipts, answer, _places: Some(places) };
        self.deliveries.try_send(delivery).map_err(|_| DeskError::Busy)?;
        // A clerk that ended answers nobody.
        Ok(heard.await.map_err(|_| DeskError::Busy)??)
    }
}

// === impl Clerk ===

impl Clerk {
    /// Works until every [`Desk`] is gone and what was brought is in the store.
    pub async fn run(mut self) {
        while let Some(first) = self.deliveries.recv().await {
            let mut receipts = first.receipts.len();
            let mut round = vec![first];
            while receipts < AT_ONCE_MAX
                && let Ok(more) = self.deliveries.try_recv()
            {
                receipts += more.receipts.len();
                round.push(more);
            }
            self.bring(round).await;
        }
    }

    /// One round: a store step for each batch, a bounded number at once.
    async fn bring(&self, deliveries: Vec<Delivery>) {
        let groups = group(&deliveries);
        let mut answers: Vec<_> = deliveries
            .iter()
            .map(|delivery| Ok(vec![Heard::Unknown; delivery.receipts.len()]))
            .collect();
        for some in groups.chunks(STEPS_MAX) {
            let steps = some.iter().map(|group| self.take(group, &deliveries));
            for (heard, group) in join_all(steps).await.into_iter().zip(some) {
                note(&mut answers, group, heard);
            }
        }
        for (delivery, answer) in deliveries.into_iter().zip(answers) {
            // Whoever went away does not want to know.
            let _ = delivery.answer.send(answer);
        }
    }

    async fn take(&self, group: &Group, deliveries: &[Delivery]) -> Result<Vec<Heard>, StoreError> {
        let now = self.clock.now();
        let stored = group.places.iter().filter_map(|(delivery, place)| {
            let receipt = &deliveries[*delivery].receipts[*place];
            let record = ReceiptRecord::write(receipt, now);
            Some(StoredReceipt {
                index: receipt.message.index,
                state: receipt.word.state()?,
                record,
            })
        });
        let stored: Vec<_> = stored.collect();
        let providers = &deliveries[group.places[0].0].providers;
        let heard = self.store.receipts.take(providers, group.batch, &stored).await?;
        let receipts =
            group.places.iter().map(|(delivery, at)| &deliveries[*delivery].receipts[*at]);
        optouts::learn(&self.store, group.batch, receipts.zip(&heard)).await?;
        Ok(heard)
    }
}

/// What a store step came to, told to those whose receipts were in it.
fn note(
    answers: &mut [Result<Vec<Heard>, StoreError>],
    group: &Group,
    heard: Result<Vec<Heard>, StoreError>,
) {
    match heard {
        Ok(heard) => {
            for ((delivery, place), heard) in group.places.iter().zip(heard) {
                if let Ok(answer) = &mut answers[*delivery] {
                    answer[*place] = heard;
                }
            }
        }
        Err(error) => {
            for (delivery, _) in &group.places {
                answers[*delivery] = Err(error.clone());
            }
        }
    }
}
